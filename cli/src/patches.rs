//! `btfleet resolve --format patch`: what a loader has to change in each program, for kernels that need the same.

use btfleet_engine::batch::{Batch, Run};
use btfleet_engine::dialect::Loader;
use btfleet_engine::format::insn::INSN_LEN;
use btfleet_engine::patch_list::{Edit, PatchList, lists};
use btfleet_engine::relocate::{Obstacle, Optional, Plan, plan};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::args::{Format, ResolveArgs};
use crate::load::{self, Inputs};
use crate::loader::LoaderArg;
use crate::manifest::{ModulesEntry, ObstacleEntry};
use crate::output::{Exit, Failure, Output, progress};
use crate::resolve::{input_row, object_defects};
use crate::rows::{EndRow, PairRow, byte_order_name, hex, push_line, text};

/// The list of one function, for the kernels that it is the same on.
#[derive(Serialize)]
struct PatchRow<'a> {
    v: u32,
    t: &'static str,
    object: &'a str,
    object_sha256: &'a str,
    byte_order: &'static str,
    section: String,
    program: String,
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

/// A function's list on some kernels.
struct Class<'p> {
    left: bool,
    list: &'p PatchList,
    kernels: Vec<(usize, &'p Plan)>,
}

pub(crate) fn run(args: &ResolveArgs) -> Result<Exit, Failure> {
    if args.loader != LoaderArg::Libbpf {
        return Err(Failure::Usage(
            "--format patch lists what libbpf changes, so --loader has to be libbpf".into(),
        ));
    }
    let batch = Batch::new(args.inputs.jobs).map_err(Failure::System)?;
    let files = load::read(&args.inputs, &batch)?;
    let inputs = load::parse(&files, &batch);
    let loaders = vec![Loader::Libbpf; inputs.kernels.len()];
    let run = Run::new(&batch, &inputs.objects, &inputs.kernels, &loaders, args.inputs.modules.into());
    let optional = if args.respect_autoload { Optional::Leave } else { Optional::Relocate };
    let mut out = Output::new();
    let (mut rows, mut before) = (0, 0);
    let mut complete = inputs.complete();
    for defect in &inputs.defects {
        rows += input_row(&mut out, defect)?;
    }
    let bar = progress(inputs.objects.len());
    let mut failure = None;
    batch.for_each(
        inputs.objects.len(),
        |object| object_rows(&inputs, &run, object, optional),
        |object, found| {
            bar.inc(1);
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
    bar.finish_and_clear();
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
fn object_rows<'a>(inputs: &'a Inputs<'_>, run: &'a Run<'_>, number: usize, optional: Optional) -> Rows {
    let mut rows = Rows { text: Vec::new(), count: 0, judged: true };
    let (Some(object), Some(file)) = (inputs.objects.get(number), inputs.object_files.get(number)) else {
        return rows;
    };
    let name = inputs.object_names.get(number).map_or("", String::as_str);
    let planned = plan(run, number, optional);
    let mut failed: Vec<(usize, ObstacleEntry<'a>)> = Vec::new();
    for (kernel, &kernel_name) in inputs.kernel_names.iter().enumerate() {
        if let Some(why) = inputs.mismatch(number, kernel) {
            failed.push((kernel, ObstacleEntry::of_pair(kernel_name, why)));
        }
    }
    let mut listed: Vec<(usize, &Plan, usize)> = Vec::new();
    let mut all_lists: Vec<Vec<PatchList>> = Vec::new();
    for planned in &planned {
        let answer = planned.plan.as_ref().map_err(|it| *it).and_then(|plan| {
            lists(object, &plan.patch).map(|lists| (plan, lists)).ok_or(Obstacle::SharedBytes)
        });
        let kernels = planned.kernels.iter().copied();
        match answer {
            Ok((plan, lists)) => {
                listed.extend(kernels.map(|it| (it, plan, all_lists.len())));
                all_lists.push(lists);
            }
            Err(obstacle) => failed.extend(kernels.filter_map(|kernel| {
                let kernel_name = inputs.kernel_names.get(kernel)?;
                Some((kernel, ObstacleEntry::new(kernel_name, object, obstacle)))
            })),
        }
    }
    failed.sort_by_key(|it| it.0);
    listed.sort_by_key(|it| it.0);
    for (_, pair) in &failed {
        push_line(&mut rows.text, &PairRow::new(name, pair.kernel, pair.code, &pair.message));
        rows.count += 1;
        rows.judged = false;
    }
    let hash = hex(&Sha256::digest(&file.data));
    for program in 0..object.programs().len() {
        let mut classes: Vec<Class<'_>> = Vec::new();
        for &(kernel, plan, lists) in &listed {
            let Some(list) = all_lists.get(lists).and_then(|it| it.get(program)) else { continue };
            let left = plan.patch.leaves(program);
            match classes.iter_mut().find(|it| it.left == left && it.list == list) {
                Some(class) => class.kernels.push((kernel, plan)),
                None => classes.push(Class { left, list, kernels: vec![(kernel, plan)] }),
            }
        }
        for class in classes {
            let Some(function) = object.programs().get(program) else { continue };
            let kernel_name = |kernel: usize| inputs.kernel_names.get(kernel).copied().unwrap_or_default();
            let row = PatchRow {
                v: 1,
                t: "patch",
                object: name,
                object_sha256: &hash,
                byte_order: byte_order_name(object.endian()),
                section: text(function.section),
                program: text(function.name),
                subprogram: function.is_subprogram,
                file_offset: class.list.file_offset,
                insns: function.len / INSN_LEN as u64,
                kernels: class.kernels.iter().map(|it| kernel_name(it.0)).collect(),
                from_modules: class
                    .kernels
                    .iter()
                    .filter_map(|&(kernel, plan)| ModulesEntry::new(kernel_name(kernel), run, kernel, plan))
                    .collect(),
                left: class.left,
                edits: class.list.edits.iter().map(EditRow::new).collect(),
            };
            push_line(&mut rows.text, &row);
            rows.count += 1;
        }
    }
    rows
}
