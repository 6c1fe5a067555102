//! `btfleet resolve --format patch`: what a loader has to change in each program, for kernels that need the same.

use btfleet_engine::batch::{Batch, Run};
use btfleet_engine::dialect::Loader;
use btfleet_engine::embed::Refusal;
use btfleet_engine::patch_list::Edit;
use btfleet_engine::relocate::{Optional, Planned, plan};
use btfleet_engine::report::{ObstacleRow, Patches, patches};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::args::{Format, ResolveArgs};
use crate::copies::Shared;
use crate::load::{self, Inputs};
use crate::loader::LoaderArg;
use crate::manifest::ModulesEntry;
use crate::output::{Exit, Failure, Output, Progress};
use crate::resolve::{input_row, object_defects};
use crate::rows::{EndRow, PairRow, byte_order_name, hex, push_line};

/// The list of one function, for the kernels that it is the same on.
#[derive(Serialize)]
struct PatchRow<'a> {
    v: u32,
    t: &'static str,
    object: &'a str,
    object_sha256: &'a str,
    byte_order: &'static str,
    section: &'a str,
    program: &'a str,
    subprogram: bool,
    file_offset: usize,
    insns: u64,
    kernels: Vec<&'a str>,
    from_modules: Vec<ModulesEntry<'a>>,
    left: bool,
    edits: Vec<EditRow>,
}

#[derive(Serialize)]
struct EditRow {
    insn: usize,
    field: &'static str,
    value: String,
}

impl EditRow {
    fn new(edit: &Edit) -> Self {
        Self { insn: edit.insn, field: edit.field.name(), value: edit.value.to_string() }
    }
}

/// One object's rows.
struct Rows {
    text: Vec<u8>,
    count: usize,
    judged: bool,
}

pub(crate) fn run(args: &ResolveArgs) -> Result<Exit, Failure> {
    if args.loader != LoaderArg::Libbpf {
        return Err(Failure::Usage(
            "--format patch lists what libbpf changes, so --loader has to be libbpf".into(),
        ));
    }
    let batch = Batch::new(args.inputs.jobs).map_err(Failure::System)?;
    let files = load::read(&args.inputs, &batch)?;
    let inputs = load::parse(&files, &batch, args.inputs.filter.as_ref())?;
    let loaders = vec![Loader::Libbpf; inputs.kernels.len()];
    let (modules, validate) = (args.inputs.modules.into(), args.validating.into());
    let run = Run::validating(&batch, &inputs.distinct, &inputs.kernels, &loaders, modules, validate);
    let optional = if args.respect_autoload { Optional::Leave } else { Optional::Relocate };
    let mut out = Output::new();
    let (mut rows, mut before) = (0, 0);
    let mut complete = inputs.complete();
    for defect in &inputs.defects {
        rows += input_row(&mut out, defect)?;
    }
    let shared = Shared::new(&inputs);
    let progress = Progress::of(inputs.objects.len(), "objects");
    let mut failure = None;
    batch.for_each(
        inputs.objects.len(),
        |object| object_rows(&inputs, (&run, &shared), object, optional),
        |object, found| {
            progress.step();
            rows += found.count;
            complete &= found.judged;
            let defects = object_defects(&mut out, Format::Jsonl, &inputs, &mut before, object);
            let written = defects.and_then(|count| {
                rows += count;
                out.write(&found.text)
            });
            failure = written.err();
            failure.is_none()
        },
    );
    drop(progress);
    if let Some(failure) = failure {
        return Err(failure);
    }
    inputs.check_packs()?;
    rows += object_defects(&mut out, Format::Jsonl, &inputs, &mut before, inputs.objects.len())?;
    let mut line = Vec::new();
    push_line(&mut line, &EndRow::new(complete, inputs.objects.len(), inputs.kernels.len(), rows));
    out.write(&line)?;
    out.finish()?;
    Ok(if complete { Exit::Fine } else { Exit::NotJudged })
}

/// Rows of one object: pairs without lists, then its functions, each with its lists by their first kernels.
fn object_rows(
    inputs: &Inputs<'_>,
    (run, shared): (&Run<'_>, &Shared<Vec<Planned>>),
    number: usize,
    optional: Optional,
) -> Rows {
    let mut rows = Rows { text: Vec::new(), count: 0, judged: true };
    let Some(object) = inputs.object(number) else { return rows };
    let distinct = inputs.distinct_of(number);
    let planned = shared.of(distinct, || plan(run, distinct, optional));
    let name = inputs.name_of(number);
    let kernel_name = |kernel: usize| inputs.kernel_names.get(kernel).copied().unwrap_or_default();
    let Patches { rows: lists, mut failed } = patches(run, distinct, &planned);
    for kernel in 0..inputs.kernels.len() {
        if let Some(Refusal { code, why, .. }) = inputs.mismatch(number, kernel) {
            failed.push((kernel, ObstacleRow::of_pair(code, why)));
        }
    }
    failed.sort_by_key(|it| it.0);
    for (kernel, pair) in &failed {
        push_line(&mut rows.text, &PairRow::new(name, kernel_name(*kernel), pair.code, &pair.message));
        rows.judged = false;
    }
    let hash = hex(&Sha256::digest(object.file()));
    for row in &lists {
        let row = PatchRow {
            v: 1,
            t: "patch",
            object: name,
            object_sha256: &hash,
            byte_order: byte_order_name(object.endian()),
            section: &row.section,
            program: &row.program,
            subprogram: row.subprogram,
            file_offset: row.file_offset,
            insns: row.insns,
            kernels: row.kernels.iter().map(|it| kernel_name(*it)).collect(),
            from_modules: row
                .from_modules
                .iter()
                .map(|(kernel, modules)| ModulesEntry::of_row(kernel_name(*kernel), modules))
                .collect(),
            left: row.left,
            edits: row.edits.iter().map(EditRow::new).collect(),
        };
        push_line(&mut rows.text, &row);
    }
    rows.count = failed.len() + lists.len();
    rows
}
