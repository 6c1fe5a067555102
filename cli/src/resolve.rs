//! `btfleet resolve`: every record on every kernel.

use btfleet_engine::batch::Batch;
use btfleet_engine::dialect::Loader;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::{Object, Reloc};
use btfleet_engine::resolve::{Decision, Fold, Modules, Outcome};

use crate::args::{Format, ResolveArgs};
use crate::load::{Files, Inputs};
use crate::loader::{Loaders, Refusal};
use crate::output::{BAD, DIM, Exit, Failure, GOOD, HEAD, Output, WARN, paint, plural, progress};
use crate::rows::{EndRow, InputRow, PairRow, RelocRow, push_line};

/// One pair's rows, formatted where they were computed.
struct Rows {
    text: Vec<u8>,
    count: usize,
    judged: bool,
}

pub(crate) fn run(args: &ResolveArgs) -> Result<Exit, Failure> {
    let batch = Batch::new(args.inputs.jobs).map_err(Failure::System)?;
    let files = Files::read(&args.inputs, &batch)?;
    let inputs = files.parse(&batch);
    let loaders = Loaders::new(args.loader, &inputs.kernel_names)?;
    let format = args.inputs.format;
    let mut out = Output::new();
    let mut rows = 0;
    let mut complete = inputs.complete();
    let mut failure = None;
    if format == Format::Jsonl {
        for defect in &inputs.defects {
            rows += input_row(&mut out, defect)?;
        }
    }
    let bar = progress(inputs.objects.len() * inputs.kernels.len());
    let mut before = 0;
    batch.for_each_pair(
        &inputs.objects,
        &inputs.kernels,
        |object, kernel| pair_rows(args, &inputs, &loaders, object, kernel),
        |object, _, pair| {
            bar.inc(1);
            rows += pair.count;
            complete &= pair.judged;
            let written = object_defects(&mut out, format, &inputs, &mut before, object).and_then(|count| {
                rows += count;
                out.write(&pair.text)
            });
            failure = written.err();
            failure.is_none()
        },
    );
    if let Some(failure) = failure {
        return Err(failure);
    }
    bar.finish_and_clear();
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
            out.line(&format!("{records}: {objects} on {kernels}"))?;
        }
    }
    out.finish()?;
    Ok(if complete { Exit::Fine } else { Exit::NotJudged })
}

fn input_row(out: &mut Output, defect: &btfleet_engine::ingest::InputError) -> Result<usize, Failure> {
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

fn pair_rows(
    args: &ResolveArgs,
    inputs: &Inputs<'_>,
    loaders: &Loaders,
    object_no: usize,
    kernel_no: usize,
) -> Rows {
    let mut rows = Rows { text: Vec::new(), count: 0, judged: true };
    let (Some(object), Some(kernel)) = (inputs.objects.get(object_no), inputs.kernels.get(kernel_no)) else {
        return rows;
    };
    let object_name = inputs.object_names.get(object_no).map_or("", String::as_str);
    let kernel_name = inputs.kernel_names.get(kernel_no).copied().unwrap_or_default();
    if let Some(Refusal { code, why, .. }) = loaders.refusal(inputs, object_no, kernel_no) {
        rows.judged = false;
        match args.inputs.format {
            Format::Jsonl => {
                push_line(&mut rows.text, &PairRow::new(object_name, kernel_name, code, why));
                rows.count = 1;
            }
            Format::Table => {
                let heading = format!("{object_name} on {kernel_name}");
                push_text(&mut rows.text, &format!("{}\n  {why}\n", paint(HEAD, &heading)));
            }
        }
        return rows;
    }
    let autoloaded = |reloc: &Reloc<'_>| {
        reloc.program.and_then(|it| object.programs().get(it)).is_none_or(|program| program.autoload)
    };
    let loader = loaders.of(kernel_no);
    let outcomes = Fold::by(loader, object, kernel, Modules::from(args.inputs.modules))
        .run(|reloc| !args.respect_autoload || autoloaded(reloc));
    rows.count = outcomes.len();
    match args.inputs.format {
        Format::Jsonl => {
            for (reloc, outcome) in object.relocs().iter().zip(&outcomes) {
                let row = RelocRow::new(object_name, kernel_name, object, kernel, reloc, outcome);
                push_line(&mut rows.text, &row);
            }
        }
        Format::Table if outcomes.is_empty() => {}
        Format::Table => {
            let heading = format!("{object_name} on {kernel_name}");
            push_text(&mut rows.text, &format!("{}\n", paint(HEAD, &heading)));
            push_text(&mut rows.text, &table(loader, object, kernel, &outcomes));
        }
    }
    rows
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// One line a record, columns as wide as this pair needs them.
fn table(loader: Loader, object: &Object<'_>, kernel: &Kernel<'_>, outcomes: &[Outcome]) -> String {
    let lines: Vec<[String; 4]> = object
        .relocs()
        .iter()
        .zip(outcomes)
        .map(|(reloc, outcome)| {
            let section = String::from_utf8_lossy(reloc.section);
            let kind = reloc.kind.map_or_else(|| format!("kind {}", reloc.raw_kind), |it| it.name().into());
            let place = format!("{section}+{}", reloc.insn_off);
            [place, kind, object.path(reloc), describe(loader, kernel, outcome)]
        })
        .collect();
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let (place_width, kind_width, path_width) = (width(0).min(48), width(1), width(2).min(64));
    lines.iter().fold(String::new(), |text, [place, kind, path, result]| {
        format!("{text}  {place:place_width$}  {kind:kind_width$}  {path:path_width$}  {result}\n")
    })
}

fn describe(loader: Loader, kernel: &Kernel<'_>, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Skipped => paint(DIM, "skipped"),
        Outcome::Fatal(error) => {
            let who = if loader == Loader::Libbpf { "libbpf" } else { "kernel" };
            format!("{}  {error} ({who}: {})", paint(BAD, error.code()), error.errno())
        }
        Outcome::Decided(decision) => describe_decision(kernel, decision),
        Outcome::ModuleDependent(answers) => {
            let answers: Vec<String> = answers
                .iter()
                .map(|it| {
                    let name = kernel.modules.get(it.module as usize).map_or("?", |it| it.name.as_str());
                    format!("{name}: {}", describe(loader, kernel, &it.outcome))
                })
                .collect();
            format!("{}  {}", paint(WARN, "module-dependent"), answers.join("; "))
        }
    }
}

fn describe_decision(kernel: &Kernel<'_>, decision: &Decision) -> String {
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
    let module = decision.candidate.and_then(|it| it.module).and_then(|it| kernel.modules.get(it as usize));
    if let Some(module) = module {
        text.push_str(&format!("  in module {}", module.name));
    }
    text
}
