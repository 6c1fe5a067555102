//! `btfleet check`: verdicts, grouped by cause.

use std::collections::{BTreeMap, BTreeSet};

use btfleet_engine::batch::{Batch, Run};
use btfleet_engine::depend::Survey;
use btfleet_engine::object::{Object, Reloc};
use btfleet_engine::report::{self, ProgramVerdict, Verdict, Verdicts};
use btfleet_engine::resolve::Code;
use sha2::{Digest, Sha256};

use crate::args::{CheckArgs, FailOn, Format};
use crate::load::{Files, Inputs};
use crate::loader::{Loaders, Refusal};
use crate::output::{BAD, DIM, Exit, Failure, GOOD, HEAD, Output, WARN, paint, plural, progress};
use crate::resolve::object_defects;
use crate::rows::{EndRow, InputRow, PairRow, VerdictRow, hex, push_line};

/// Causes, objects and names that a summary lists before it says how many more there are.
const CAUSES_SHOWN: usize = 20;
const OBJECTS_SHOWN: usize = 30;
const OBJECTS_PER_CAUSE: usize = 3;
const NAMES_SHOWN: usize = 5;
/// Kernels up to which the summary has a column for each.
const KERNEL_COLUMNS_MAX: usize = 12;

pub(crate) fn run(args: &CheckArgs) -> Result<Exit, Failure> {
    let batch = Batch::new(args.inputs.jobs).map_err(Failure::System)?;
    let files = Files::read(&args.inputs, &batch)?;
    let inputs = files.parse(&batch);
    let loaders = Loaders::new(args.loader, &inputs.kernel_names)?;
    let format = args.format;
    let hashes = match format {
        Format::Jsonl => batch.map(&inputs.object_files, |file| hex(&Sha256::digest(&file.data))),
        Format::Table => Vec::new(),
    };
    let mut out = Output::new();
    let mut summary = Summary::new(&inputs, loaders.is_libbpf());
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
    let run =
        Run::new(&batch, &inputs.objects, &inputs.kernels, loaders.by_kernel(), args.inputs.modules.into());
    let survey = loaders
        .is_libbpf()
        .then(|| Survey::new(&batch, &inputs.objects, &inputs.kernels, args.inputs.modules.into()));
    let bar = progress(inputs.objects.len());
    let mut before = 0;
    batch.for_each(
        inputs.objects.len(),
        |object| {
            let verdicts = report::check(&run, survey.as_ref(), object);
            let text = match format {
                Format::Jsonl => json_rows(&inputs, &loaders, &hashes, object, &verdicts),
                Format::Table => (Vec::new(), 0),
            };
            (verdicts, text)
        },
        |object, (verdicts, (text, count))| {
            bar.inc(1);
            let written = object_defects(&mut out, format, &inputs, &mut before, object).and_then(|more| {
                rows += more + count;
                out.write(&text)
            });
            failure = written.err();
            summary.add(&inputs, &loaders, object, &verdicts);
            failure.is_none()
        },
    );
    if let Some(failure) = failure {
        return Err(failure);
    }
    inputs.check_packs()?;
    bar.finish_and_clear();
    rows += object_defects(&mut out, format, &inputs, &mut before, inputs.objects.len())?;
    let complete = inputs.complete() && summary.pairs_not_judged.is_empty();
    match format {
        Format::Jsonl => {
            let mut line = Vec::new();
            let end = EndRow::new(complete, inputs.objects.len(), inputs.kernels.len(), rows);
            push_line(&mut line, &end.modelling(loaders.models()));
            out.write(&line)?;
        }
        Format::Table => summary.print(&mut out, &inputs)?,
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
    hashes: &[String],
    object_no: usize,
    verdicts: &Verdicts,
) -> (Vec<u8>, usize) {
    let (mut text, mut count) = (Vec::new(), 0);
    let Some(object) = inputs.objects.get(object_no) else { return (text, 0) };
    let object_name = inputs.object_names.get(object_no).map_or("", String::as_str);
    let hash = hashes.get(object_no).map_or("", String::as_str);
    for (kernel_no, &kernel_name) in inputs.kernel_names.iter().enumerate() {
        if let Some(Refusal { code, why, .. }) = loaders.refusal(inputs, object_no, kernel_no) {
            push_line(&mut text, &PairRow::new(object_name, kernel_name, code, why));
            count += 1;
            continue;
        }
        for verdict in verdicts.on(kernel_no).unwrap_or_default() {
            if let Some(row) =
                VerdictRow::new(object_name, hash, kernel_name, object, verdict, loaders.is_libbpf())
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

/// Same cause, whatever object and kernel it shows up on: worst first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Cause {
    verdict: std::cmp::Reverse<Verdict>,
    code: &'static str,
    path: String,
}

/// Where a cause shows up.
#[derive(Default)]
struct Places {
    /// What the first of them says.
    message: String,
    /// Relocation kinds.
    kinds: BTreeSet<&'static str>,
    /// Whether a program that is loaded by default is among them.
    in_default: bool,
    /// Programs by object.
    programs: BTreeMap<usize, BTreeSet<String>>,
    /// The first source line of each object.
    lines: BTreeMap<usize, String>,
    /// By kernel: whether it is on that one.
    on: Vec<bool>,
    /// Program and kernel pairs.
    count: usize,
}

struct Summary {
    cells: Vec<Vec<Cell>>,
    causes: BTreeMap<Cause, Places>,
    counts: BTreeMap<Verdict, usize>,
    programs: usize,
    /// Pairs that were not judged, by reason.
    pairs_not_judged: BTreeMap<&'static str, usize>,
    worst_autoloaded: Option<Verdict>,
    /// Whether more than CO-RE is judged.
    judges_needs: bool,
}

impl Summary {
    fn new(inputs: &Inputs<'_>, judges_needs: bool) -> Self {
        let entries = |object: &Object<'_>| object.programs().iter().filter(|it| !it.is_subprogram).count();
        Self {
            cells: vec![vec![Cell::NoPrograms; inputs.kernels.len()]; inputs.objects.len()],
            causes: BTreeMap::new(),
            counts: BTreeMap::new(),
            programs: inputs.objects.iter().map(entries).sum(),
            pairs_not_judged: BTreeMap::new(),
            worst_autoloaded: None,
            judges_needs,
        }
    }

    fn add(&mut self, inputs: &Inputs<'_>, loaders: &Loaders, object_no: usize, verdicts: &Verdicts) {
        let (Some(object), Some(cells)) = (inputs.objects.get(object_no), self.cells.get_mut(object_no))
        else {
            return;
        };
        let mut kernels_of: Vec<Vec<usize>> = vec![Vec::new(); verdicts.by_class.len()];
        for (kernel, (cell, class)) in cells.iter_mut().zip(&verdicts.classes.of).enumerate() {
            if let Some(kernels) = class.and_then(|it| kernels_of.get_mut(it as usize)) {
                kernels.push(kernel);
            } else if let Some(refusal) = loaders.refusal(inputs, object_no, kernel) {
                *self.pairs_not_judged.entry(refusal.short).or_default() += 1;
                *cell = Cell::NotJudged;
            }
        }
        for (verdicts, kernels) in verdicts.by_class.iter().zip(&kernels_of) {
            let mut worst: Option<Verdict> = None;
            for verdict in verdicts {
                *self.counts.entry(verdict.verdict).or_default() += kernels.len();
                if object.programs().get(verdict.program).is_some_and(|it| it.autoload) {
                    worst = worst.max(Some(verdict.verdict));
                }
                self.add_findings(object, object_no, kernels, verdict);
            }
            self.worst_autoloaded = self.worst_autoloaded.max(worst);
            let Some(cells) = self.cells.get_mut(object_no) else { continue };
            let cell = worst.map_or(Cell::NoPrograms, Cell::Verdict);
            for &kernel in kernels {
                if let Some(slot) = cells.get_mut(kernel) {
                    *slot = cell;
                }
            }
        }
    }

    fn add_findings(
        &mut self,
        object: &Object<'_>,
        object_no: usize,
        kernels: &[usize],
        of: &ProgramVerdict,
    ) {
        let Some(program) = object.programs().get(of.program) else { return };
        for finding in &of.findings {
            let reloc = finding.reloc.and_then(|it| object.relocs().get(it));
            let cause = Cause {
                verdict: std::cmp::Reverse(finding.verdict),
                code: finding.code,
                path: reloc
                    .map(|it| subject(object, it, finding.code))
                    .or_else(|| finding.subject.clone())
                    .unwrap_or_default(),
            };
            let places = self.causes.entry(cause).or_default();
            if places.message.is_empty() {
                places.message.clone_from(&finding.message);
            }
            places.kinds.extend(reloc.and_then(|it| it.kind).map(|it| it.name()));
            places.in_default |= program.autoload;
            places.on.resize(self.cells.first().map_or(0, Vec::len), false);
            for &kernel in kernels {
                if let Some(on) = places.on.get_mut(kernel) {
                    *on = true;
                }
            }
            let name = String::from_utf8_lossy(program.name).into_owned();
            places.programs.entry(object_no).or_default().insert(name);
            if let Some(line) = reloc.and_then(|it| object.source_line(it)) {
                let show = || format!("{}:{}", String::from_utf8_lossy(line.file), line.line);
                places.lines.entry(object_no).or_insert_with(show);
            }
            places.count += kernels.len();
        }
    }

    fn print(&self, out: &mut Output, inputs: &Inputs<'_>) -> Result<(), Failure> {
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
        out.line(&format!(
            "{} with {} on {}: {}",
            plural(inputs.objects.len(), "object"),
            plural(self.programs, "program"),
            plural(inputs.kernels.len(), "kernel"),
            parts.join(", "),
        ))?;
        out.line(&paint(
            DIM,
            if self.judges_needs {
                "Judged: CO-RE relocations, attach targets, kernel symbols. 'conditional': it depends on what files do \
                 not say, or an instruction is\npoisoned, and the program loads only if the poison cannot be reached, \
                 which is not judged."
            } else {
                "Judged: CO-RE relocations. 'conditional': an instruction is poisoned, and the program loads only if \
                 the poison cannot be reached,\nwhich is not judged; nor are attach targets and kernel symbols."
            },
        ))
    }

    /// Objects that are not fine everywhere: a column for each kernel, or counts where there are too many.
    fn print_objects(&self, out: &mut Output, inputs: &Inputs<'_>) -> Result<(), Failure> {
        let is_fine = |cell: &Cell| matches!(cell, Cell::Verdict(Verdict::Ok) | Cell::NoPrograms);
        let shown: Vec<usize> = (0..inputs.objects.len())
            .filter(|&it| self.cells.get(it).is_some_and(|row| !row.iter().all(is_fine)))
            .collect();
        if shown.is_empty() {
            return Ok(());
        }
        let columns = inputs.kernels.len() <= KERNEL_COLUMNS_MAX;
        if columns {
            for (number, name) in (1..).zip(&inputs.kernel_names) {
                out.line(&format!("{}  {name}", paint(HEAD, &format!("K{number}"))))?;
            }
            out.line("")?;
        }
        let names = short_names(&inputs.object_names);
        let name_of = |object: usize| names.get(object).map_or("", String::as_str);
        let shown_now = shown.get(..OBJECTS_SHOWN).unwrap_or(&shown);
        let width = shown_now.iter().map(|&it| name_of(it).chars().count()).max().unwrap_or(0);
        if columns {
            let heads = (1..=inputs.kernels.len())
                .fold(String::new(), |text, it| format!("{text}  {:<11}", format!("K{it}")));
            out.line(&paint(HEAD, format!("{:width$}{heads}", "").trim_end()))?;
        }
        for &object in shown_now {
            let row = self.cells.get(object).map_or(&[][..], Vec::as_slice);
            let cells = if columns {
                row.iter().fold(String::new(), |text, cell| format!("{text}  {}", show_cell(*cell)))
            } else {
                format!("  {}", count_cells(row))
            };
            out.line(format!("{:width$}{cells}", name_of(object)).trim_end())?;
        }
        if shown.len() > shown_now.len() {
            let more = shown.len() - shown_now.len();
            out.line(&format!("… and {more} more objects; --format jsonl has all"))?;
        }
        out.line("")
    }

    fn print_causes(&self, out: &mut Output, inputs: &Inputs<'_>) -> Result<(), Failure> {
        let object_names = short_names(&inputs.object_names);
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
                _ => (WARN, "conditional"),
            };
            let kinds: Vec<&str> = places.kinds.iter().copied().collect();
            let kinds = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
            let optional = if places.in_default { "" } else { ", only in programs not loaded by default" };
            out.line(&format!(
                "{} {} {}{kinds}{optional}",
                paint(style, word),
                cause.code,
                paint(HEAD, &cause.path),
            ))?;
            out.line(&format!("    {}", places.message))?;
            for (object, programs) in places.programs.iter().take(OBJECTS_PER_CAUSE) {
                let programs: Vec<String> = programs.iter().cloned().collect();
                let object_name = object_names.get(*object).map_or("", String::as_str);
                let line = places.lines.get(object).map(|it| format!("  at {it}")).unwrap_or_default();
                out.line(&format!("    {object_name}: {}{}", some_of(&programs), paint(DIM, &line)))?;
            }
            if places.programs.len() > OBJECTS_PER_CAUSE {
                out.line(&format!("    and {} more objects", places.programs.len() - OBJECTS_PER_CAUSE))?;
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
fn subject(object: &Object<'_>, reloc: &Reloc<'_>, code: &str) -> String {
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

fn count_cells(row: &[Cell]) -> String {
    let kinds: [(_, _, fn(&Cell) -> bool); 6] = [
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
