//! `btfleet verify-manifest`: what `relocate --sign-manifest` wrote, computed once more from its sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use btfleet_engine::batch::{Batch, Run};
use btfleet_engine::dialect::Loader;
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::{Format, InputArgs, ModulesArg, ValidateArg, VerifyArgs};
use crate::load;
use crate::output::{BAD, DIM, Exit, Failure, GOOD, HEAD, Output, paint, plural};
use crate::payloads::{PREDICATE_TYPE, STATEMENT_TYPE, Statement};
use crate::relocate::{Options, Results};
use crate::rows::{EndRow, push_line};

/// What a file of the statement is called.
const SUBJECT: &str = "subject ";

/// Something that is not the same.
#[derive(Serialize)]
struct DifferenceRow<'a> {
    v: u32,
    t: &'static str,
    object: Option<&'a str>,
    kernel: Option<&'a str>,
    section: Option<&'a str>,
    program: Option<&'a str>,
    what: &'a str,
    manifest: Option<&'a Value>,
    recomputed: Option<&'a Value>,
}

/// What a statement says one thing of: the hash of an object, a kernel, a program's section and name, and what it is.
/// Parts that do not matter to it are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    object: String,
    kernel: String,
    section: String,
    program: String,
    what: String,
}

/// All that a statement says, by what it is about.
#[derive(Default)]
struct Facts {
    /// Nearly always one thing of each.
    says: BTreeMap<Place, Vec<Value>>,
    /// Objects by their hashes, with their names.
    objects: BTreeMap<String, String>,
    kernels: BTreeSet<String>,
}

pub(crate) fn run(args: &VerifyArgs) -> Result<Exit, Failure> {
    let failed = |why: &str| Failure::System(format!("{}: {why}", args.manifest.display()));
    let bytes = fs::read(&args.manifest).map_err(|error| failed(&error.to_string()))?;
    let given: Value = serde_json::from_slice(&bytes).map_err(|error| failed(&error.to_string()))?;
    let not_ours = || failed("it is no statement of 'relocate --sign-manifest'");
    let says = |what: &str, value: &str| given.get(what).is_some_and(|it| it == value);
    if !says("_type", STATEMENT_TYPE) || !says("predicateType", PREDICATE_TYPE) {
        return Err(not_ours());
    }
    let option = |name: &str| given.get("predicate")?.get(name);
    let modules = match option("modules").and_then(Value::as_str) {
        Some("each") => ModulesArg::Each,
        Some("all") => ModulesArg::All,
        _ => return Err(not_ours()),
    };
    let respect_autoload = option("respect_autoload").and_then(Value::as_bool).ok_or_else(not_ours)?;

    let batch = Batch::new(args.jobs).map_err(Failure::System)?;
    let (objects, kernels) = (args.objects.clone(), args.kernels.clone());
    let files = load::read(&InputArgs { objects, kernels, modules, jobs: args.jobs, filter: None }, &batch)?;
    let inputs = load::parse(&files, &batch, None)?;
    let loaders = vec![Loader::Libbpf; inputs.kernels.len()];
    let run = Run::new(&batch, &inputs.distinct, &inputs.kernels, &loaders, modules.into());
    let validate = ValidateArg::Libbpf;
    let options = Options { modules, validate, respect_autoload, signs: true };
    let results = Results::of(&run, &inputs, &batch, options, None)?;
    let statement = Statement::new(&results.manifest, &results.classes, &inputs.kernel_names);
    let recomputed: Value = serde_json::from_slice(&statement.to_json())
        .map_err(|error| Failure::Internal(format!("the statement cannot be read back: {error}")))?;
    // Nearly always it is all the same; to take it apart takes a while.
    let (facts, now, differences);
    if given == recomputed {
        (facts, now, differences) = (Facts::default(), Facts::default(), Vec::new());
    } else {
        facts = Facts::of(&given).ok_or_else(not_ours)?;
        now = Facts::of(&recomputed)
            .ok_or_else(|| Failure::Internal("the statement is not what it should be".into()))?;
        differences = facts.differences(&now);
    }
    let mut out = Output::new();
    let counts = (inputs.objects.len(), inputs.kernels.len());
    match args.format {
        Format::Jsonl => {
            let mut text = Vec::new();
            for it in &differences {
                push_line(&mut text, &DifferenceRow::new(it, &facts, &now));
            }
            push_line(&mut text, &EndRow::new(inputs.complete(), counts.0, counts.1, differences.len()));
            out.write(&text)?;
        }
        Format::Table => write_table(&mut out, &facts, &now, &differences, counts)?,
    }
    out.finish()?;
    Ok(match (differences.is_empty(), inputs.complete()) {
        (false, _) => Exit::Finding,
        (true, true) => Exit::Fine,
        (true, false) => Exit::NotJudged,
    })
}

/// Something that differs: where, what the manifest says, and what comes out now.
type Difference = (Place, Option<Value>, Option<Value>);

impl Facts {
    /// `None` if it does not have the form of a statement of ours.
    fn of(statement: &Value) -> Option<Self> {
        let predicate = statement.get("predicate")?;
        let mut this = Self::default();
        for what in ["models", "modules", "respect_autoload", "complete"] {
            this.add(Place::default(), what, predicate.get(what)?.clone());
        }
        for subject in statement.get("subject")?.as_array()? {
            let name = subject.get("name")?.as_str()?;
            this.add(Place::default(), &format!("{SUBJECT}{name}"), subject.get("digest")?.clone());
        }
        for kernel in predicate.get("kernels")?.as_array()? {
            this.kernels.insert(kernel.as_str()?.to_owned());
        }
        for object in predicate.get("objects")?.as_array()? {
            let hash = object.get("sha256")?.as_str()?;
            this.objects.insert(hash.to_owned(), object.get("name")?.as_str()?.to_owned());
            for class in object.get("classes")?.as_array()? {
                this.add_class(hash, class)?;
            }
            for failed in object.get("failed")?.as_array()? {
                let kernel = failed.get("kernel")?.as_str()?.to_owned();
                let place = Place { object: hash.to_owned(), kernel, ..Place::default() };
                this.add(place, "no relocated object", failed.clone());
            }
        }
        Some(this)
    }

    fn add_class(&mut self, object: &str, class: &Value) -> Option<()> {
        let of_kernel = |kernel: &Value| {
            Some(Place { object: object.to_owned(), kernel: kernel.as_str()?.to_owned(), ..Place::default() })
        };
        for kernel in class.get("kernels")?.as_array()? {
            let place = of_kernel(kernel)?;
            let object = json!({ "file": class.get("file")?, "sha256": class.get("sha256")? });
            self.add(place.clone(), "relocated object", object);
            for program in class.get("programs")?.as_array()? {
                let section = program.get("section")?.as_str()?.to_owned();
                let name = program.get("program")?.as_str()?.to_owned();
                let place = Place { section, program: name, ..place.clone() };
                self.add(place, "payload", program.clone());
            }
        }
        for modules in class.get("from_modules")?.as_array()? {
            self.add(
                of_kernel(modules.get("kernel")?)?,
                "values from modules",
                modules.get("modules")?.clone(),
            );
        }
        Some(())
    }

    fn add(&mut self, place: Place, what: &str, value: Value) {
        let said = self.says.entry(Place { what: what.to_owned(), ..place }).or_default();
        // An object can have been given twice.
        if said.last() != Some(&value) {
            said.push(value);
        }
    }

    fn differences(&self, recomputed: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        for (hash, name) in &self.objects {
            if !recomputed.objects.contains_key(hash) {
                found.push((Place::of_object(hash), Some(name.as_str().into()), None));
            }
        }
        for (hash, name) in &recomputed.objects {
            if !self.objects.contains_key(hash) {
                found.push((Place::of_object(hash), None, Some(name.as_str().into())));
            }
        }
        for kernel in self.kernels.symmetric_difference(&recomputed.kernels) {
            let (is_given, name) = (self.kernels.contains(kernel), Some(Value::from(kernel.as_str())));
            let place = Place { kernel: kernel.clone(), what: "kernel".into(), ..Place::default() };
            found.push(if is_given { (place, name, None) } else { (place, None, name) });
        }
        let is_same_set = found.is_empty();
        // What is missing altogether need not be told of each of its programs.
        let counts = |it: &Place| match it.object.as_str() {
            "" => is_same_set || !it.what.starts_with(SUBJECT),
            object => [self, recomputed]
                .into_iter()
                .all(|of| of.objects.contains_key(object) && of.kernels.contains(&it.kernel)),
        };
        let places: BTreeSet<&Place> = self.says.keys().chain(recomputed.says.keys()).collect();
        for place in places.into_iter().filter(|it| counts(it)) {
            let (given, now) = (self.says.get(place), recomputed.says.get(place));
            if given != now {
                found.push((place.clone(), given.map(|it| one(it)), now.map(|it| one(it))));
            }
        }
        found
    }
}

fn one(values: &[Value]) -> Value {
    match values {
        [value] => value.clone(),
        values => values.into(),
    }
}

impl Place {
    fn of_object(hash: &str) -> Self {
        Self { object: hash.to_owned(), what: "object".into(), ..Self::default() }
    }
}

impl<'a> DifferenceRow<'a> {
    fn new((place, manifest, recomputed): &'a Difference, given: &'a Facts, now: &'a Facts) -> Self {
        let part = |text: &'a String| (!text.is_empty()).then_some(text.as_str());
        Self {
            v: 1,
            t: "difference",
            object: part(&place.object).map(|_| object_name(place, given, now)),
            kernel: part(&place.kernel),
            section: part(&place.section),
            program: part(&place.program),
            what: &place.what,
            manifest: manifest.as_ref(),
            recomputed: recomputed.as_ref(),
        }
    }
}

fn object_name<'a>(place: &'a Place, given: &'a Facts, now: &'a Facts) -> &'a str {
    let name = now.objects.get(&place.object).or_else(|| given.objects.get(&place.object));
    name.map_or(place.object.as_str(), String::as_str)
}

/// One line for what differs on any number of kernels.
fn write_table(
    out: &mut Output,
    given: &Facts,
    now: &Facts,
    differences: &[Difference],
    (objects, kernels): (usize, usize),
) -> Result<(), Failure> {
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for (place, manifest, recomputed) in differences {
        let mut line = String::new();
        if !place.object.is_empty() {
            line.push_str(&paint(HEAD, object_name(place, given, now)));
            line.push_str("  ");
        }
        if !place.program.is_empty() {
            line.push_str(&format!("{} in {}  ", place.program, place.section));
        }
        line.push_str(&format!(
            "{}: {} -> {}",
            place.what,
            paint(BAD, &short(manifest.as_ref())),
            short(recomputed.as_ref())
        ));
        *lines.entry(line).or_default() += 1;
    }
    for (line, kernels) in lines {
        match kernels {
            1 => out.line(&line)?,
            _ => out.line(&format!("{line}  {}", paint(DIM, &plural(kernels, "kernel"))))?,
        }
    }
    let counts = format!("{} on {}", plural(objects, "object"), plural(kernels, "kernel"));
    let verdict = match differences.len() {
        0 => paint(GOOD, "the same"),
        count => paint(BAD, &plural(count, "difference")),
    };
    out.line(&format!("{counts}: {verdict}"))
}

/// What says most of a value: hashes and codes, else all of it.
fn short(value: Option<&Value>) -> String {
    let Some(value) = value else { return "none".into() };
    let hash = value.get("sha256").and_then(Value::as_str).and_then(|it| it.get(..12));
    let left = value.get("records_left").filter(|_| hash.is_none());
    match (hash, value.get("code").and_then(Value::as_str), left) {
        (Some(hash), ..) => hash.to_owned(),
        (_, Some(code), _) => code.to_owned(),
        (_, _, Some(left)) => format!("no payload {left}"),
        _ => value.to_string(),
    }
}
