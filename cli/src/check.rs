//! `btfleet check`: verdicts, grouped by cause.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use btfleet_engine::batch::{Batch, Run};
use btfleet_engine::depend::Survey;
use btfleet_engine::embed::{Loaders, Refusal};
use btfleet_engine::object::{Object, Reloc, SourceLine};
use btfleet_engine::report::{self, Effect, Finding, Roles, Verdict, Verdicts};
use btfleet_engine::resolve::Code;
use sha2::{Digest, Sha256};

use crate::args::{CheckArgs, FailOn, Format};
use crate::compare;
use crate::copies::{self, Shared};
use crate::load::{self, Inputs};
use crate::loader::{loaders, note_skeletons};
use crate::output::{BAD, DIM, Exit, Failure, GOOD, HEAD, Output, WARN, message, paint, plural, progress};
use crate::project::{Project, what_about};
use crate::resolve::object_defects;
use crate::rows::{EndRow, InputRow, PairRow, VerdictRow, hex, push_line};
use crate::world::world;

/// Causes, objects and names that a summary lists before it says how many more there are.
const CAUSES_SHOWN: usize = 20;
const OBJECTS_SHOWN: usize = 30;
const OBJECTS_PER_CAUSE: usize = 3;
const NAMES_SHOWN: usize = 5;
/// Kernels up to which the summary has a column for each.
const KERNEL_COLUMNS_MAX: usize = 12;

pub(crate) fn run(args: &CheckArgs) -> Result<Exit, Failure> {
    let batch = Batch::new(args.inputs.jobs).map_err(Failure::System)?;
    let project = args.manifest.as_ref().map(|it| Project::read(it)).transpose()?.unwrap_or_default();
    let files = load::read(&args.inputs, &batch)?;
    let mut inputs = load::parse(&files, &batch);
    project.apply(&mut inputs.distinct)?;
    let inputs = inputs;
    let mut world = world(&args.world, &inputs)?;
    project.add_to(&mut world);
    if args.compare_loaders {
        return compare::run(args, &batch, &inputs, &world);
    }
    let loaders = loaders(args.loader, &inputs.kernel_names)?;
    note_skeletons(&loaders, &inputs.objects);
    let format = args.format;
    let hashes = match format {
        Format::Jsonl => batch.map(&inputs.distinct, |it| hex(&Sha256::digest(it.file()))),
        Format::Table => Vec::new(),
    };
    let mut out = Output::new();
    let mut rows = 0;
    let mut failure = None;
    if format == Format::Jsonl {
        for defect in &inputs.defects {
            let mut line = Vec::new();
            push_line(&mut line, &InputRow::new(defect));
            out.write(&line)?;
            rows += 1;
        }
    }
    let (modules, validate) = (args.inputs.modules.into(), args.validating.into());
    let run =
        Run::validating(&batch, &inputs.distinct, &inputs.kernels, loaders.by_kernel(), modules, validate);
    let survey = loaders.is_libbpf().then(|| Survey::new(&batch, &inputs.distinct, &inputs.kernels, modules));
    let shared = Shared::new(&inputs);
    let bar = progress(inputs.objects.len());
    let mut before = 0;
    let summaries = batch.for_each_with(
        inputs.objects.len(),
        Summary::default,
        |summary, object| {
            let distinct = inputs.distinct_of(object);
            let found = shared.of(distinct, || {
                let mut verdicts = report::check(&run, survey.as_ref(), &world, distinct);
                let accepted = inputs.object(object).map(|it| project.accept(it, &mut verdicts));
                (verdicts, accepted.unwrap_or_default())
            });
            let (verdicts, accepted) = &*found;
            summary.add(&inputs, &loaders, &world.roles, object, verdicts);
            summary.add_accepted(verdicts, accepted);
            match format {
                Format::Jsonl => json_rows(&inputs, &loaders, &project, &hashes, object, verdicts),
                Format::Table => (Vec::new(), 0),
            }
        },
        |object, (text, count)| {
            bar.inc(1);
            let written = object_defects(&mut out, format, &inputs, &mut before, object).and_then(|more| {
                rows += more + count;
                out.write(&text)
            });
            failure = written.err();
            failure.is_none()
        },
    );
    if let Some(failure) = failure {
        return Err(failure);
    }
    inputs.check_packs()?;
    bar.finish_and_clear();
    rows += object_defects(&mut out, format, &inputs, &mut before, inputs.objects.len())?;
    let summary = summaries.into_iter().reduce(Summary::merged).unwrap_or_default();
    let complete = inputs.complete() && summary.pairs_not_judged.is_empty();
    match format {
        Format::Jsonl => {
            let mut line = Vec::new();
            let end = EndRow::new(complete, inputs.objects.len(), inputs.kernels.len(), rows);
            push_line(&mut line, &end.modelling(loaders.models()));
            out.write(&line)?;
        }
        Format::Table => summary.print(&mut out, &inputs, loaders.is_libbpf())?,
    }
    for remark in project.remarks(&summary.accepted) {
        match format {
            Format::Jsonl => message(&format!("btfleet: {remark}")),
            Format::Table => out.line(&remark)?,
        }
    }
    out.finish()?;
    Ok(if summary.worst_autoloaded.is_some_and(|worst| is_finding(worst, args.fail_on)) {
        Exit::Finding
    } else if !complete || summary.counts.contains_key(&Verdict::Unknown) {
        Exit::NotJudged
    } else {
        Exit::Fine
    })
}

fn is_finding(verdict: Verdict, fail_on: FailOn) -> bool {
    match fail_on {
        FailOn::Fail => verdict >= Verdict::FailAttach,
        FailOn::Unknown => verdict >= Verdict::Unknown,
        FailOn::Conditional => verdict >= Verdict::Conditional,
        FailOn::Drift => verdict >= Verdict::OkDrift,
        FailOn::Never => false,
    }
}

fn json_rows(
    inputs: &Inputs<'_>,
    loaders: &Loaders,
    project: &Project,
    hashes: &[String],
    object_no: usize,
    verdicts: &Verdicts,
) -> (Vec<u8>, usize) {
    let (mut text, mut count) = (Vec::new(), 0);
    let Some(object) = inputs.object(object_no) else { return (text, 0) };
    let object_name = inputs.name_of(object_no);
    let hash = hashes.get(inputs.distinct_of(object_no)).map_or("", String::as_str);
    for (kernel_no, &kernel_name) in inputs.kernel_names.iter().enumerate() {
        if let Some(Refusal { code, why, .. }) = inputs.refusal(loaders, object_no, kernel_no) {
            push_line(&mut text, &PairRow::new(object_name, kernel_name, code, why));
            count += 1;
            continue;
        }
        for verdict in verdicts.on(kernel_no).unwrap_or_default() {
            if let Some(row) =
                VerdictRow::new(object_name, hash, kernel_name, object, verdict, loaders.is_libbpf(), project)
            {
                push_line(&mut text, &row);
                count += 1;
            }
        }
    }
    (text, count)
}

/// What an object comes to on a kernel: the worst over its autoloaded programs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    Verdict(Verdict),
    NoPrograms,
    NotJudged,
}

/// What tells findings of one object apart: record or subject, code and effect.
type About<'a> = (Option<usize>, Option<&'a str>, &'a str, Effect);

/// Same cause, whatever object and kernel it shows up on: worst first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Cause {
    verdict: std::cmp::Reverse<Verdict>,
    code: &'static str,
    path: String,
}

/// Where a cause shows up.
#[derive(Default)]
struct Places<'a> {
    /// What is said of it in the first object.
    message: Option<(usize, String)>,
    /// Relocation kinds.
    kinds: BTreeSet<&'static str>,
    /// Whether a program that is loaded by default is among them.
    in_default: bool,
    /// Once for each object.
    objects: Vec<Place<'a>>,
    /// By kernel: whether it is on that one.
    on: Vec<bool>,
    /// Program and kernel pairs.
    count: usize,
}

/// Where in an object a cause shows up.
struct Place<'a> {
    /// Number of the object.
    object: usize,
    /// Numbers of the programs.
    programs: Vec<usize>,
    /// The first source line.
    line: Option<SourceLine<'a>>,
}

impl Places<'_> {
    fn merge(&mut self, other: Self) {
        let is_first = |one: &(usize, String), other: &(usize, String)| one.0 < other.0;
        if let Some(message) = other.message
            && self.message.as_ref().is_none_or(|it| is_first(&message, it))
        {
            self.message = Some(message);
        }
        self.kinds.extend(other.kinds);
        self.in_default |= other.in_default;
        self.objects.extend(other.objects);
        self.on.resize(self.on.len().max(other.on.len()), false);
        self.on.iter_mut().zip(other.on).for_each(|(on, other)| *on |= other);
        self.count += other.count;
    }
}

/// What the verdicts come to. Those of the threads are merged: nothing may depend on the order of the objects.
#[derive(Default)]
struct Summary<'a> {
    /// Objects that are not fine everywhere, by kernel.
    cells: BTreeMap<usize, Vec<Cell>>,
    causes: BTreeMap<Cause, Places<'a>>,
    counts: BTreeMap<Verdict, usize>,
    /// Pairs that were not judged, by reason.
    pairs_not_judged: BTreeMap<&'static str, usize>,
    worst_autoloaded: Option<Verdict>,
    /// By entry of the manifest: programs on kernels that it was about.
    accepted: BTreeMap<usize, usize>,
}

impl<'a> Summary<'a> {
    fn add_accepted(&mut self, verdicts: &Verdicts, accepted: &[(usize, usize)]) {
        for &(entry, class) in accepted {
            let is_of_class = |it: &&Option<u32>| it.is_some_and(|it| it as usize == class);
            *self.accepted.entry(entry).or_default() +=
                verdicts.classes.of.iter().filter(is_of_class).count();
        }
    }

    fn add(
        &mut self,
        inputs: &'a Inputs<'_>,
        loaders: &Loaders,
        roles: &Roles,
        object_no: usize,
        verdicts: &Verdicts,
    ) {
        let Some(object) = inputs.object(object_no) else { return };
        let mut cells = vec![Cell::NoPrograms; inputs.kernels.len()];
        let mut kernels_of: Vec<Vec<usize>> = vec![Vec::new(); verdicts.by_class.len()];
        for (kernel, (cell, class)) in cells.iter_mut().zip(&verdicts.classes.of).enumerate() {
            if let Some(kernels) = class.and_then(|it| kernels_of.get_mut(it as usize)) {
                kernels.push(kernel);
            } else if let Some(refusal) = inputs.refusal(loaders, object_no, kernel) {
                *self.pairs_not_judged.entry(refusal.short).or_default() += 1;
                *cell = Cell::NotJudged;
            }
        }
        for (verdicts, kernels) in verdicts.by_class.iter().zip(&kernels_of) {
            for verdict in verdicts {
                *self.counts.entry(verdict.verdict).or_default() += kernels.len();
            }
            let worst = roles.worst(object, verdicts);
            self.worst_autoloaded = self.worst_autoloaded.max(worst);
            for &kernel in kernels {
                if let Some(cell) = cells.get_mut(kernel) {
                    *cell = worst.map_or(Cell::NoPrograms, Cell::Verdict);
                }
            }
        }
        if !cells.iter().all(|it| matches!(it, Cell::Verdict(Verdict::Ok) | Cell::NoPrograms)) {
            self.cells.insert(object_no, cells);
        }
        self.add_findings(object, roles, object_no, &kernels_of, verdicts);
    }

    /// Programs and classes of kernels have most findings in common: what they are about is found out once.
    fn add_findings(
        &mut self,
        object: &'a Object<'_>,
        roles: &Roles,
        object_no: usize,
        kernels_of: &[Vec<usize>],
        verdicts: &Verdicts,
    ) {
        let mut numbers: HashMap<About<'_>, usize> = HashMap::new();
        let mut distinct: Vec<(&Finding, BTreeSet<usize>, Vec<usize>)> = Vec::new();
        for (class, verdicts) in verdicts.by_class.iter().enumerate() {
            for verdict in verdicts {
                // What does no harm has no cause.
                for finding in verdict.findings.iter().filter(|it| it.verdict > Verdict::Ok) {
                    let subject = finding.subject.as_deref();
                    let number = *numbers
                        .entry((finding.reloc, subject, finding.code, finding.effect))
                        .or_insert_with(|| {
                            distinct.push((finding, BTreeSet::new(), Vec::new()));
                            distinct.len() - 1
                        });
                    if let Some((_, programs, classes)) = distinct.get_mut(number) {
                        programs.insert(verdict.program);
                        classes.push(class);
                    }
                }
            }
        }
        for (finding, programs, mut classes) in distinct {
            let reloc = finding.reloc.and_then(|it| object.relocs().get(it));
            let cause = Cause {
                verdict: std::cmp::Reverse(finding.verdict),
                code: finding.code,
                path: what_about(object, finding),
            };
            let places = self.causes.entry(cause).or_default();
            if places.message.as_ref().is_none_or(|(first, _)| object_no < *first) {
                places.message = Some((object_no, finding.message.clone()));
            }
            places.kinds.extend(reloc.and_then(|it| it.kind).map(|it| it.name()));
            places.in_default |= programs
                .iter()
                .any(|it| object.programs().get(*it).is_some_and(|it| roles.loads_unasked(it)));
            let kernels = |class: &usize| kernels_of.get(*class).map_or(&[][..], Vec::as_slice);
            places.count += classes.iter().map(|it| kernels(it).len()).sum::<usize>();
            places.on.resize(verdicts.classes.of.len(), false);
            classes.dedup();
            for &kernel in classes.iter().flat_map(kernels) {
                if let Some(on) = places.on.get_mut(kernel) {
                    *on = true;
                }
            }
            if places.objects.last().is_none_or(|it| it.object != object_no) {
                places.objects.push(Place { object: object_no, programs: Vec::new(), line: None });
            }
            if let Some(place) = places.objects.last_mut() {
                place.programs.extend(programs);
                place.line = place.line.or_else(|| object.source_line(reloc?));
            }
        }
    }

    /// Adds what another thread has found.
    fn merged(mut self, other: Self) -> Self {
        self.cells.extend(other.cells);
        for (cause, places) in other.causes {
            self.causes.entry(cause).or_default().merge(places);
        }
        for (verdict, count) in other.counts {
            *self.counts.entry(verdict).or_default() += count;
        }
        for (why, count) in other.pairs_not_judged {
            *self.pairs_not_judged.entry(why).or_default() += count;
        }
        self.worst_autoloaded = self.worst_autoloaded.max(other.worst_autoloaded);
        for (entry, count) in other.accepted {
            *self.accepted.entry(entry).or_default() += count;
        }
        self
    }

    fn print(&self, out: &mut Output, inputs: &Inputs<'_>, judges_needs: bool) -> Result<(), Failure> {
        self.print_objects(out, inputs)?;
        self.print_causes(out, inputs)?;
        let mut parts = Vec::new();
        for (verdict, count) in &self.counts {
            let style = match verdict {
                Verdict::Ok | Verdict::OkDrift => GOOD,
                Verdict::Conditional | Verdict::Unknown => WARN,
                Verdict::FailAttach | Verdict::FailSymbol | Verdict::FailReloc => BAD,
            };
            parts.push(format!("{} {count}", paint(style, verdict.name())));
        }
        for (why, pairs) in &self.pairs_not_judged {
            parts.push(format!("{pairs} object-kernel pairs not judged ({why})"));
        }
        if parts.is_empty() {
            parts.push("nothing to judge".into());
        }
        let entries = |object: &Object<'_>| object.programs().iter().filter(|it| !it.is_subprogram).count();
        out.line(&format!(
            "{} with {} on {}: {}",
            plural(inputs.objects.len(), "object"),
            plural(
                (0..inputs.objects.len()).filter_map(|it| inputs.object(it)).map(entries).sum(),
                "program"
            ),
            plural(inputs.kernels.len(), "kernel"),
            parts.join(", "),
        ))?;
        if let Some(remark) = copies::remark(inputs) {
            out.line(&remark)?;
        }
        out.line(&paint(
            DIM,
            if judges_needs {
                "Judged: CO-RE relocations, whether poison is reached, attach targets, kernel symbols. Not judged: the \
                 verifier's other rules,\nhelpers, map types, privileges. 'conditional': it depends on what files do \
                 not say."
            } else {
                "Judged: CO-RE relocations, and whether poison is reached. Not judged: attach targets, kernel symbols, \
                 the verifier's other\nrules, helpers, map types, privileges. 'conditional': it depends on what files \
                 do not say."
            },
        ))
    }

    /// Objects that are not fine everywhere: a column for each kernel, or counts where there are too many.
    fn print_objects(&self, out: &mut Output, inputs: &Inputs<'_>) -> Result<(), Failure> {
        if self.cells.is_empty() {
            return Ok(());
        }
        let columns = inputs.kernels.len() <= KERNEL_COLUMNS_MAX;
        if columns {
            for (number, name) in (1..).zip(&inputs.kernel_names) {
                out.line(&format!("{}  {name}", paint(HEAD, &format!("K{number}"))))?;
            }
            out.line("")?;
        }
        let names = short_names(&inputs.objects);
        let name_of = |object: usize| names.get(object).map_or("", String::as_str);
        let shown = || self.cells.iter().take(OBJECTS_SHOWN);
        let width = shown().map(|(&it, _)| name_of(it).chars().count()).max().unwrap_or(0);
        if columns {
            let heads = (1..=inputs.kernels.len())
                .fold(String::new(), |text, it| format!("{text}  {:<11}", format!("K{it}")));
            out.line(&paint(HEAD, format!("{:width$}{heads}", "").trim_end()))?;
        }
        for (&object, row) in shown() {
            let cells = if columns {
                row.iter().fold(String::new(), |text, cell| format!("{text}  {}", show_cell(*cell)))
            } else {
                format!("  {}", count_cells(row))
            };
            out.line(format!("{:width$}{cells}", name_of(object)).trim_end())?;
        }
        if self.cells.len() > OBJECTS_SHOWN {
            let more = self.cells.len() - OBJECTS_SHOWN;
            out.line(&format!("… and {more} more objects; --format jsonl has all"))?;
        }
        out.line("")
    }

    fn print_causes(&self, out: &mut Output, inputs: &Inputs<'_>) -> Result<(), Failure> {
        let object_names = short_names(&inputs.objects);
        let kernel_names: Vec<String> = match inputs.kernels.len() {
            0..=KERNEL_COLUMNS_MAX => (1..=inputs.kernels.len()).map(|it| format!("K{it}")).collect(),
            _ => short_names(&inputs.kernel_names),
        };
        // The worst first; of equals, what hits most programs on most kernels.
        let mut causes: Vec<_> = self.causes.iter().collect();
        causes.sort_by_key(|(cause, places)| (cause.verdict, std::cmp::Reverse(places.count)));
        for (cause, places) in causes.into_iter().take(CAUSES_SHOWN) {
            let (style, word) = match cause.verdict.0 {
                Verdict::FailAttach | Verdict::FailSymbol | Verdict::FailReloc => (BAD, "fails"),
                Verdict::Unknown => (WARN, "unknown"),
                Verdict::OkDrift => (WARN, "drift"),
                _ => (WARN, "conditional"),
            };
            let kinds: Vec<&str> = places.kinds.iter().copied().collect();
            let kinds = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
            let optional = if places.in_default { "" } else { ", only in programs that need not load" };
            out.line(&format!(
                "{} {} {}{kinds}{optional}",
                paint(style, word),
                cause.code,
                paint(HEAD, &cause.path),
            ))?;
            out.line(&format!("    {}", places.message.as_ref().map_or("", |(_, message)| message)))?;
            let mut objects: Vec<&Place<'_>> = places.objects.iter().collect();
            objects.sort_by_key(|it| it.object);
            for place in objects.iter().take(OBJECTS_PER_CAUSE) {
                let of_object = inputs.object(place.object).map(Object::programs).unwrap_or_default();
                let programs = place.programs.iter().filter_map(|it| of_object.get(*it));
                let names: BTreeSet<String> =
                    programs.map(|it| String::from_utf8_lossy(it.name).into_owned()).collect();
                let object_name = object_names.get(place.object).map_or("", String::as_str);
                let show = |line: SourceLine<'_>| {
                    format!("  at {}:{}", String::from_utf8_lossy(line.file), line.line)
                };
                let line = place.line.map(show).unwrap_or_default();
                let names: Vec<String> = names.into_iter().collect();
                out.line(&format!("    {object_name}: {}{}", some_of(&names), paint(DIM, &line)))?;
            }
            if objects.len() > OBJECTS_PER_CAUSE {
                out.line(&format!("    and {} more objects", objects.len() - OBJECTS_PER_CAUSE))?;
            }
            let total = inputs.kernels.len();
            let on: Vec<usize> = (0..total).filter(|&it| places.on.get(it) == Some(&true)).collect();
            if on.len() == total {
                out.line("    on every kernel")?;
            } else {
                let kernels: Vec<String> =
                    on.iter().filter_map(|it| kernel_names.get(*it).cloned()).collect();
                out.line(&format!("    on {} of {total} kernels: {}", kernels.len(), some_of(&kernels)))?;
            }
        }
        if self.causes.len() > CAUSES_SHOWN {
            let more = self.causes.len() - CAUSES_SHOWN;
            out.line(&format!("… and {more} more causes; --format jsonl has all"))?;
        }
        if self.causes.is_empty() { Ok(()) } else { out.line("") }
    }
}

/// What a cause is about: the field, or the type where that is missing as a whole.
pub(crate) fn subject(object: &Object<'_>, reloc: &Reloc<'_>, code: &str) -> String {
    let whole_type = [Code::NoType, Code::FwdOnly].iter().any(|it| it.name() == code);
    if whole_type { object.root_name(reloc) } else { object.path(reloc) }
}

fn some_of(names: &[String]) -> String {
    let shown = names.get(..NAMES_SHOWN).unwrap_or(names);
    let mut text = shown.join(", ");
    if names.len() > shown.len() {
        text.push_str(&format!(" and {} more", names.len() - shown.len()));
    }
    text
}

fn show_cell(cell: Cell) -> String {
    let (style, text) = match cell {
        Cell::Verdict(Verdict::Ok) => (GOOD, "ok"),
        Cell::Verdict(Verdict::OkDrift) => (GOOD, "ok-drift"),
        Cell::Verdict(Verdict::Conditional) => (WARN, "conditional"),
        Cell::Verdict(Verdict::Unknown) => (WARN, "unknown"),
        Cell::Verdict(Verdict::FailAttach | Verdict::FailSymbol | Verdict::FailReloc) => (BAD, "fail"),
        Cell::NoPrograms => (DIM, "no program"),
        Cell::NotJudged => (DIM, "-"),
    };
    paint(style, &format!("{text:<11}"))
}

/// Whether a cell counts for a column.
type IsKind = fn(&Cell) -> bool;

fn count_cells(row: &[Cell]) -> String {
    let kinds: [(_, _, IsKind); 6] = [
        (BAD, "fail", |it| matches!(it, Cell::Verdict(verdict) if *verdict >= Verdict::FailAttach)),
        (WARN, "unknown", |it| *it == Cell::Verdict(Verdict::Unknown)),
        (WARN, "conditional", |it| *it == Cell::Verdict(Verdict::Conditional)),
        (GOOD, "ok-drift", |it| *it == Cell::Verdict(Verdict::OkDrift)),
        (GOOD, "ok", |it| *it == Cell::Verdict(Verdict::Ok)),
        (DIM, "not judged", |it| *it == Cell::NotJudged),
    ];
    let parts: Vec<String> = kinds
        .iter()
        .map(|(style, name, is_kind)| (style, name, row.iter().filter(|it| is_kind(it)).count()))
        .filter(|(_, _, count)| *count > 0)
        .map(|(style, name, count)| format!("{} {count}", paint(*style, name)))
        .collect();
    parts.join(", ")
}

/// Names without the directories that all of them share.
fn short_names<S: AsRef<str>>(names: &[S]) -> Vec<String> {
    let directory = |name: &str| name.rfind('/').map_or(0, |it| it + 1);
    let Some(first) = names.first().map(AsRef::as_ref) else { return Vec::new() };
    let mut shared = first.get(..directory(first)).unwrap_or("");
    for name in names.iter().map(AsRef::as_ref) {
        while !name.starts_with(shared) {
            let parent = shared.trim_end_matches('/');
            shared = parent.get(..directory(parent)).unwrap_or("");
        }
    }
    names.iter().map(|name| name.as_ref().strip_prefix(shared).unwrap_or_default().to_owned()).collect()
}
