//! `btfleet resolve`: every record on every kernel.

use btfleet_engine::batch::{Batch, Folded, Run};
use btfleet_engine::dialect::Loader;
use btfleet_engine::drift::{Drift, Strict};
use btfleet_engine::embed::{Loaders, Refusal};
use btfleet_engine::object::{Object, Reloc};
use btfleet_engine::report::{AnswerRow, Place, RecordRow};
use btfleet_engine::resolve::{Decision, Outcome};

use crate::args::{Format, ResolveArgs, ResolveFormat};
use crate::copies::Shared;
use crate::load::{self, Inputs};
use crate::loader::{loaders, note_skeletons};
use crate::output::{
    BAD, DIM, Exit, Failure, GOOD, HEAD, Output, Progress, WARN, paint, plural, push_prose, push_row,
    row_width,
};
use crate::patches;
use crate::rows::{AccessRow, EndRow, InputRow, PairRow, RelocRow, push_line};
use crate::text::{padded, safe, widths};

/// Widest columns of places and paths, and the least for what becomes of a record.
const PLACE_MAX: usize = 48;
const PATH_MAX: usize = 64;
const RESULT_MIN: usize = 24;

/// One object's rows, formatted where they were computed.
struct Rows {
    text: Vec<u8>,
    count: usize,
    judged: bool,
}

pub(crate) fn run(args: &ResolveArgs) -> Result<Exit, Failure> {
    let format = match args.format {
        ResolveFormat::Table => Format::Table,
        ResolveFormat::Jsonl => Format::Jsonl,
        ResolveFormat::Patch => return patches::run(args),
    };
    let batch = Batch::new(args.inputs.jobs).map_err(Failure::System)?;
    let files = load::read(&args.inputs, &batch)?;
    let inputs = load::parse(&files, &batch, args.inputs.filter.as_ref())?;
    let loaders = loaders(args.loader, &inputs.kernel_names)?;
    note_skeletons(&loaders, &inputs.objects);
    let mut out = Output::new();
    let mut rows = 0;
    let mut complete = inputs.complete();
    let mut failure = None;
    if format == Format::Jsonl {
        for defect in &inputs.defects {
            rows += input_row(&mut out, defect)?;
        }
    }
    let (modules, validate) = (args.inputs.modules.into(), args.validating.into());
    let run =
        Run::validating(&batch, &inputs.distinct, &inputs.kernels, loaders.by_kernel(), modules, validate);
    let shared = Shared::new(&inputs);
    let progress = Progress::of(inputs.objects.len(), "objects");
    let mut before = 0;
    batch.for_each(
        inputs.objects.len(),
        |object| object_rows(args, format, &inputs, &loaders, (&run, &shared), object),
        |object, found| {
            progress.step();
            rows += found.count;
            complete &= found.judged;
            let written = object_defects(&mut out, format, &inputs, &mut before, object).and_then(|count| {
                rows += count;
                out.write(&found.text)
            });
            failure = written.err();
            failure.is_none()
        },
    );
    if let Some(failure) = failure {
        return Err(failure);
    }
    inputs.check_packs()?;
    drop(progress);
    rows += object_defects(&mut out, format, &inputs, &mut before, inputs.objects.len())?;
    let (objects, kernels) = (inputs.objects.len(), inputs.kernels.len());
    match format {
        Format::Jsonl => {
            let mut line = Vec::new();
            push_line(&mut line, &EndRow::new(complete, objects, kernels, rows).modelling(loaders.models()));
            out.write(&line)?;
        }
        Format::Table => {
            let parts = [(rows, "record"), (objects, "object"), (kernels, "kernel")];
            let [records, objects, kernels] = parts.map(|(count, noun)| plural(count, noun));
            out.prose(&format!("{records}: {objects} on {kernels}"), 0)?;
        }
    }
    out.finish()?;
    Ok(if complete { Exit::Fine } else { Exit::NotJudged })
}

/// Writes the `input` row of a defect.
pub(crate) fn input_row(
    out: &mut Output,
    defect: &btfleet_engine::ingest::InputError,
) -> Result<usize, Failure> {
    let mut line = Vec::new();
    push_line(&mut line, &InputRow::new(defect));
    out.write(&line)?;
    Ok(1)
}

/// Writes the `input` rows of objects up to and including number `object`, once.
pub(crate) fn object_defects(
    out: &mut Output,
    format: Format,
    inputs: &Inputs<'_>,
    before: &mut usize,
    object: usize,
) -> Result<usize, Failure> {
    let mut rows = 0;
    while *before <= object {
        if format == Format::Jsonl {
            for defect in inputs.defects_before(*before) {
                rows += input_row(out, defect)?;
            }
        }
        *before += 1;
    }
    Ok(rows)
}

/// Rows of one object on all kernels.
fn object_rows<'a>(
    args: &ResolveArgs,
    format: Format,
    inputs: &'a Inputs<'a>,
    loaders: &Loaders,
    (run, shared): (&'a Run<'a>, &Shared<Folded<'a>>),
    number: usize,
) -> Rows {
    let mut rows = Rows { text: Vec::new(), count: 0, judged: true };
    let Some(object) = inputs.object(number) else { return rows };
    let object_name = inputs.name_of(number);
    let autoloaded = |reloc: &Reloc<'_>| {
        reloc.program.and_then(|it| object.programs().get(it)).is_none_or(|program| program.autoload)
    };
    let records: Vec<RecordRow<'_>> = match format {
        Format::Jsonl => object.relocs().iter().map(|it| RecordRow::new(object, it)).collect(),
        Format::Table => Vec::new(),
    };
    let distinct = inputs.distinct_of(number);
    let strict = Strict::of(run, object, distinct);
    let folded =
        shared.of(distinct, || run.fold(distinct, |reloc| !args.respect_autoload || autoloaded(reloc)));
    for (kernel, &kernel_name) in inputs.kernel_names.iter().enumerate() {
        if let Some(Refusal { code, why, .. }) = inputs.refusal(loaders, number, kernel) {
            rows.judged = false;
            match format {
                Format::Jsonl => {
                    push_line(&mut rows.text, &PairRow::new(object_name, kernel_name, code, why));
                    rows.count += 1;
                }
                Format::Table => {
                    let heading = format!("{object_name} on {kernel_name}");
                    push_prose(&mut rows.text, &paint(HEAD, &heading), 2);
                    push_prose(&mut rows.text, &format!("  {why}"), 4);
                }
            }
            continue;
        }
        let outcomes = folded.on(kernel);
        let outcome_of = |record: usize| outcomes.get(record).copied();
        let drifts = |record: usize| {
            strict.as_ref().map(|it| it.drifts(record, &outcome_of, kernel)).unwrap_or_default()
        };
        rows.count += outcomes.len();
        match format {
            Format::Jsonl => {
                for (at, (record, outcome)) in records.iter().zip(&outcomes).enumerate() {
                    let place = Place { run, object: distinct, record: at, kernel };
                    let answer = AnswerRow::new(place, record.insn, outcome);
                    let mut row = RelocRow::new(object_name, kernel_name, record, answer);
                    row.access_findings = drifts(at).into_iter().map(AccessRow::from).collect();
                    push_line(&mut rows.text, &row);
                }
            }
            Format::Table if outcomes.is_empty() => {}
            Format::Table => {
                let heading = format!("{object_name} on {kernel_name}");
                push_prose(&mut rows.text, &paint(HEAD, &heading), 2);
                let module_name = |module| run.module_name(kernel, module);
                table(&mut rows.text, loaders.of(kernel), object, &outcomes, &module_name, &drifts);
            }
        }
    }
    rows
}

/// One line a record, columns as wide as this pair needs them; several where they do not fit.
fn table<'a>(
    out: &mut Vec<u8>,
    loader: Loader,
    object: &Object<'_>,
    outcomes: &[&Outcome],
    module_name: &impl Fn(u32) -> &'a str,
    drifts: &impl Fn(usize) -> Vec<Drift>,
) {
    let lines: Vec<[String; 4]> = object
        .relocs()
        .iter()
        .zip(outcomes)
        .enumerate()
        .map(|(record, (reloc, outcome))| {
            let section = String::from_utf8_lossy(reloc.section);
            let kind = reloc.kind.map_or_else(|| format!("kind {}", reloc.raw_kind), |it| it.name().into());
            let place = format!("{section}+{}", reloc.insn_off);
            let mut result = describe(loader, outcome, module_name);
            for drift in drifts(record) {
                result.push_str(&format!("  {}: {}", paint(WARN, drift.rule.name()), drift.message));
            }
            [safe(&place).into_owned(), kind, safe(&object.path(reloc)).into_owned(), result]
        })
        .collect();
    let [place_width, kind_width, path_width, _] = widths(&lines);
    let (place_width, path_width) = (place_width.min(PLACE_MAX), path_width.min(PATH_MAX));
    let indent = place_width + kind_width + path_width + 8;
    for [place, kind, path, result] in &lines {
        if indent + RESULT_MIN <= row_width() {
            let head = [(place, place_width), (kind, kind_width), (path, path_width)];
            let head = head.map(|(cell, width)| padded(cell, width)).join("  ");
            push_row(out, &format!("  {head}  {result}"), indent);
        } else {
            push_row(out, &format!("  {place}  {kind}"), 4);
            push_row(out, &format!("    {path}  {result}"), 6);
        }
    }
}

fn describe<'a>(loader: Loader, outcome: &Outcome, module_name: &impl Fn(u32) -> &'a str) -> String {
    match outcome {
        Outcome::Skipped => paint(DIM, "skipped"),
        Outcome::Fatal(error) => {
            let who = match loader {
                Loader::Libbpf => format!(" (libbpf: {})", error.errno()),
                Loader::Kernel(_) => format!(" (kernel: {})", error.errno()),
                // They have no error numbers.
                Loader::Aya | Loader::EbpfGo => String::new(),
            };
            format!("{}  {error}{who}", paint(BAD, error.code()))
        }
        Outcome::Decided(decision) => describe_decision(decision, module_name),
        Outcome::ModuleDependent(answers) => {
            let answers: Vec<String> = answers
                .iter()
                .map(|it| {
                    let answer = describe(loader, &it.outcome, module_name);
                    format!("{}: {answer}", module_name(it.module))
                })
                .collect();
            format!("{}  {}", paint(WARN, "module-dependent"), answers.join("; "))
        }
    }
}

fn describe_decision<'a>(decision: &Decision, module_name: &impl Fn(u32) -> &'a str) -> String {
    let code = decision.code.name();
    let mut text = match decision.new {
        _ if decision.poisoned => format!("{} -> poison  {}", decision.orig, paint(WARN, code)),
        Some(new) if new == decision.orig && decision.reason.is_none() => {
            format!("{new}  {}", paint(GOOD, code))
        }
        Some(new) => {
            let reason = decision.reason.map(|it| format!(" ({})", it.name())).unwrap_or_default();
            format!("{} -> {new}  {}{reason}", decision.orig, paint(GOOD, code))
        }
        None => paint(WARN, code),
    };
    if let Some(module) = decision.candidate.and_then(|it| it.module) {
        text.push_str(&format!("  in module {}", module_name(module)));
    }
    text
}
