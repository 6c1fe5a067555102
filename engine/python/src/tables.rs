//! The engine's rows as tables, with the names of docs/output.md.

use arrow_array::StructArray;
use arrow_array::types::{Int32Type, UInt32Type, UInt64Type};
use btfleet_engine::embed::{OwnedRun, Refusal, RunError};
use btfleet_engine::format::Endian;
use btfleet_engine::report::{AnswerRow, ObstacleRow, PatchRow, RecordRow, VerdictRow};
use sha2::{Digest, Sha256};

use crate::columns::Columns;

/// Makes the table of some objects of a run; of none, it still has all columns.
pub(crate) type Table = fn(&OwnedRun, &[usize]) -> Result<StructArray, RunError>;

/// An object of a run, as rows name it.
#[derive(Clone, Copy)]
struct Named<'r> {
    name: &'r str,
    data: &'r [u8],
}

/// A row about one object on one kernel.
struct On<'r, T> {
    object: &'r str,
    kernel: &'r str,
    row: T,
}

/// Why some kernels have no relocated file, or what it is.
struct FileRow<'r> {
    object: &'r str,
    hash: String,
    kernels: Vec<&'r str>,
    file: Option<Vec<u8>>,
    obstacle: Option<ObstacleRow>,
    left: Vec<ObstacleRow>,
    from_modules: Vec<(&'r str, Vec<&'r str>)>,
}

/// What changes in a function on some kernels, or why nothing can be said about the object.
struct PatchOf<'r> {
    object: &'r str,
    hash: String,
    byte_order: &'static str,
    kernels: Vec<&'r str>,
    row: Result<PatchRow<'r>, ObstacleRow>,
}

fn named(run: &OwnedRun, object: usize) -> Option<Named<'_>> {
    let inputs = run.inputs();
    let object = inputs.objects.get(object)?;
    Some(Named { name: &object.name, data: object.data })
}

fn kernel_name(run: &OwnedRun, kernel: usize) -> &str {
    run.inputs().kernel_names.get(kernel).copied().unwrap_or_default()
}

fn hash(data: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(data).iter().fold(String::new(), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Inputs that could not be used, and remarks.
pub(crate) fn defects(run: &OwnedRun) -> StructArray {
    let rows: Vec<_> = run.inputs().all_defects().collect();
    Columns::of(&rows)
        .text("path", |it| Some(it.path.to_string_lossy()))
        .text("code", |it| Some(it.code.name()))
        .number::<UInt64Type>("offset", |it| it.offset)
        .text("message", |it| Some(&it.what))
        .end()
}

/// Numbers of objects and kernels, in the order of rows.
fn all_pairs(run: &OwnedRun) -> impl Iterator<Item = (usize, usize)> {
    let (objects, kernels) = (run.inputs().objects.len(), run.inputs().kernels.len());
    (0..objects).flat_map(move |object| (0..kernels).map(move |kernel| (object, kernel)))
}

/// Objects and kernels that cannot be judged together.
pub(crate) fn refusals(run: &OwnedRun) -> impl Iterator<Item = (usize, usize, Refusal)> {
    all_pairs(run).filter_map(|(object, kernel)| Some((object, kernel, run.refusal(object, kernel)?)))
}

/// The same as a table.
pub(crate) fn pairs(run: &OwnedRun) -> StructArray {
    let rows: Vec<_> = refusals(run)
        .filter_map(|(object, kernel, row)| {
            Some(On { object: named(run, object)?.name, kernel: kernel_name(run, kernel), row })
        })
        .collect();
    Columns::of(&rows)
        .text("object", |it| Some(it.object))
        .text("kernel", |it| Some(it.kernel))
        .text("code", |it| Some(it.row.code))
        .text("message", |it| Some(it.row.why))
        .end()
}

/// Verdicts on programs.
pub(crate) fn verdicts(run: &OwnedRun, objects: &[usize]) -> Result<StructArray, RunError> {
    let mut judgements = Vec::new();
    for &object in objects {
        let found = run.check(object)?;
        if let Some(named) = named(run, object) {
            judgements.push((named.name, hash(named.data), found));
        }
    }
    let mut rows: Vec<On<'_, (&str, VerdictRow<'_>)>> = Vec::new();
    for (object, hash, judgements) in &judgements {
        for (number, kernel) in run.inputs().kernel_names.iter().copied().enumerate() {
            let found = judgements.on(number).unwrap_or_default();
            rows.extend(found.into_iter().map(|row| On { object, kernel, row: (hash.as_str(), row) }));
        }
    }
    Ok(Columns::of(&rows)
        .text("object", |it| Some(it.object))
        .text("object_sha256", |it| Some(it.row.0))
        .text("program", |it| Some(&it.row.1.program))
        .text("section", |it| Some(&it.row.1.section))
        .text("kernel", |it| Some(it.kernel))
        .truth("autoload", |it| Some(it.row.1.autoload))
        .text("verdict", |it| Some(it.row.1.verdict.name()))
        .texts("judged", |it| it.row.1.judged.to_vec())
        .optional(
            "aborted_by",
            |it| it.row.1.aborted_by.clone(),
            |columns| {
                columns
                    .text("section", |it| it.as_ref().map(|it| &it.section))
                    .text("program", |it| it.as_ref()?.program.as_ref())
                    .number::<UInt32Type>("insn_off", |it| Some(it.as_ref()?.insn_off))
                    .text("code", |it| Some(it.as_ref()?.code))
                    .number::<Int32Type>("fatal", |it| Some(it.as_ref()?.fatal))
                    .end()
            },
        )
        .text("confidence", |it| Some(it.row.1.confidence))
        .texts("assumptions", |it| it.row.1.assumptions.to_vec())
        .lists(
            "findings",
            |it| it.row.1.findings.clone(),
            |columns| {
                columns
                    .text("code", |it| Some(it.code))
                    .text("effect", |it| Some(it.effect))
                    .number::<UInt32Type>("insn_off", |it| it.insn_off)
                    .text("root", |it| it.root.as_ref())
                    .text("path", |it| it.path.as_ref())
                    .text("subject", |it| it.subject)
                    .text("file", |it| it.file.as_ref())
                    .number::<UInt32Type>("line", |it| it.line)
                    .text("message", |it| Some(it.message))
                    .end()
            },
        )
        .end())
}

/// Records.
pub(crate) fn records(run: &OwnedRun, objects: &[usize]) -> Result<StructArray, RunError> {
    let mut answers = Vec::new();
    for &object in objects {
        let found = run.resolve(object)?;
        if let Some(named) = named(run, object) {
            answers.push((named.name, found));
        }
    }
    let mut rows: Vec<On<'_, (&RecordRow<'_>, AnswerRow<'_>)>> = Vec::new();
    for (object, answers) in &answers {
        for (number, kernel) in run.inputs().kernel_names.iter().copied().enumerate() {
            let found = answers.records().iter().zip(answers.on(number).unwrap_or_default());
            rows.extend(found.map(|row| On { object, kernel, row }));
        }
    }
    Ok(Columns::of(&rows)
        .text("object", |it| Some(it.object))
        .text("kernel", |it| Some(it.kernel))
        .text("section", |it| Some(&it.row.0.section))
        .text("program", |it| it.row.0.program.as_ref())
        .number::<UInt32Type>("insn_off", |it| Some(it.row.0.insn_off))
        .text("kind", |it| Some(it.row.0.kind.map_or_else(|| it.row.0.raw_kind.to_string(), str::to_owned)))
        .number::<UInt32Type>("type_id", |it| Some(it.row.0.type_id))
        .text("root", |it| Some(&it.row.0.root))
        .text("access", |it| Some(&it.row.0.access))
        .text("path", |it| Some(&it.row.0.path))
        .text("code", |it| Some(it.row.1.code))
        .text("reason", |it| it.row.1.reason)
        .number::<Int32Type>("fatal", |it| it.row.1.fatal)
        .number::<UInt64Type>("orig", |it| it.row.1.orig)
        .number::<UInt64Type>("new", |it| it.row.1.new)
        .truth("unresolved", |it| it.row.1.unresolved)
        .truth("poisoned", |it| Some(it.row.1.poisoned))
        .truth("validate", |it| it.row.1.validate)
        .number::<UInt32Type>("orig_sz", |it| it.row.1.orig_sz)
        .number::<UInt32Type>("new_sz", |it| it.row.1.new_sz)
        .truth("resize_fails", |it| it.row.1.resize_fails)
        .text("target", |it| it.row.1.target.as_ref())
        .number::<UInt32Type>("root_id", |it| it.row.1.root_id)
        .text("target_module", |it| it.row.1.target_module)
        .bytes("insn_before", |it| Some(it.row.0.insn))
        .bytes("insn", |it| Some(it.row.1.insn))
        .text("file", |it| it.row.0.file.as_ref())
        .number::<UInt32Type>("line", |it| it.row.0.line)
        .lists(
            "by_module",
            |it| it.row.1.by_module.clone(),
            |columns| {
                columns
                    .text("module", |it| Some(it.0))
                    .text("code", |it| Some(it.1.code))
                    .text("reason", |it| it.1.reason)
                    .number::<Int32Type>("fatal", |it| it.1.fatal)
                    .number::<UInt64Type>("new", |it| it.1.new)
                    .truth("unresolved", |it| it.1.unresolved)
                    .truth("poisoned", |it| Some(it.1.poisoned))
                    .number::<UInt32Type>("root_id", |it| it.1.root_id)
                    .bytes("insn", |it| Some(it.1.insn))
                    .end()
            },
        )
        .end())
}

/// Relocated files: every kernel is in one row of an object.
pub(crate) fn files(run: &OwnedRun, objects: &[usize]) -> Result<StructArray, RunError> {
    let mut relocations = Vec::new();
    for &object in objects {
        let found = run.relocate(object)?;
        if let Some(named) = named(run, object) {
            relocations.push((object, named, found));
        }
    }
    let mut rows = Vec::new();
    for (number, Named { name, data }, relocations) in &relocations {
        let hash = hash(data);
        for class in relocations.classes() {
            let name_of = |kernel: &usize| kernel_name(run, *kernel);
            let (file, obstacle) = match class.file() {
                Ok(file) => (Some(file), None),
                Err(obstacle) => (None, Some(obstacle)),
            };
            let from_modules = class.kernels().iter().map(|it| (name_of(it), class.modules(*it)));
            rows.push(FileRow {
                object: name,
                hash: hash.clone(),
                kernels: class.kernels().iter().map(name_of).collect(),
                file,
                obstacle,
                left: class.left(),
                from_modules: from_modules.filter(|it| !it.1.is_empty()).collect(),
            });
        }
        for (kernels, refusal) in refused(run, *number) {
            rows.push(FileRow {
                object: name,
                hash: hash.clone(),
                kernels,
                file: None,
                obstacle: Some(refusal),
                left: Vec::new(),
                from_modules: Vec::new(),
            });
        }
    }
    Ok(Columns::of(&rows)
        .text("object", |it| Some(it.object))
        .text("object_sha256", |it| Some(&it.hash))
        .texts("kernels", |it| it.kernels.clone())
        .bytes("file", |it| it.file.as_ref())
        .text("sha256", |it| it.file.as_ref().map(|it| hash(it)))
        .text("code", |it| Some(it.obstacle.as_ref()?.code))
        .number::<Int32Type>("fatal", |it| it.obstacle.as_ref()?.fatal)
        .text("section", |it| it.obstacle.as_ref()?.section.as_ref())
        .text("program", |it| it.obstacle.as_ref()?.program.as_ref())
        .number::<UInt32Type>("insn_off", |it| it.obstacle.as_ref()?.insn_off)
        .text("message", |it| Some(&it.obstacle.as_ref()?.message))
        .lists(
            "left",
            |it| it.left.clone(),
            |columns| {
                columns
                    .text("code", |it| Some(it.code))
                    .number::<Int32Type>("fatal", |it| it.fatal)
                    .text("section", |it| it.section.as_ref())
                    .text("program", |it| it.program.as_ref())
                    .number::<UInt32Type>("insn_off", |it| it.insn_off)
                    .text("message", |it| Some(&it.message))
                    .end()
            },
        )
        .lists("from_modules", |it| it.from_modules.clone(), modules)
        .end())
}

/// What changes in functions: every kernel is in one row of a function, or in one that is about none.
pub(crate) fn patches(run: &OwnedRun, objects: &[usize]) -> Result<StructArray, RunError> {
    let mut relocations = Vec::new();
    for &object in objects {
        let found = run.relocate(object)?;
        if let (Some(named), Some(parsed)) = (named(run, object), run.inputs().object(object)) {
            relocations.push((object, named, parsed.endian(), found));
        }
    }
    let name_of = |kernel: &usize| kernel_name(run, *kernel);
    let mut rows = Vec::new();
    for (number, Named { name, data }, endian, relocations) in &relocations {
        let hash = hash(data);
        let byte_order = match endian {
            Endian::Little => "little",
            Endian::Big => "big",
        };
        let row = |kernels, row| PatchOf { object: name, hash: hash.clone(), byte_order, kernels, row };
        let found = relocations.patches();
        rows.extend(refused(run, *number).map(|(kernels, why)| row(kernels, Err(why))));
        rows.extend(found.failed.into_iter().map(|(kernel, why)| row(vec![name_of(&kernel)], Err(why))));
        rows.extend(found.rows.into_iter().map(|it| row(it.kernels.iter().map(name_of).collect(), Ok(it))));
    }
    Ok(Columns::of(&rows)
        .text("object", |it| Some(it.object))
        .text("object_sha256", |it| Some(&it.hash))
        .text("byte_order", |it| Some(it.byte_order))
        .text("section", |it| Some(&it.row.as_ref().ok()?.section))
        .text("program", |it| Some(&it.row.as_ref().ok()?.program))
        .truth("subprogram", |it| Some(it.row.as_ref().ok()?.subprogram))
        .number::<UInt64Type>("file_offset", |it| Some(it.row.as_ref().ok()?.file_offset as u64))
        .number::<UInt64Type>("insns", |it| Some(it.row.as_ref().ok()?.insns))
        .texts("kernels", |it| it.kernels.clone())
        .lists(
            "from_modules",
            |it| {
                let from = it.row.as_ref().map(|it| it.from_modules.as_slice()).unwrap_or_default();
                from.iter().map(|(kernel, modules)| (name_of(kernel), modules.clone())).collect()
            },
            modules,
        )
        .truth("left", |it| Some(it.row.as_ref().ok()?.left))
        .lists(
            "edits",
            |it| it.row.as_ref().map(|it| it.edits.clone()).unwrap_or_default(),
            |columns| {
                columns
                    .number::<UInt64Type>("insn", |it| Some(it.insn as u64))
                    .text("field", |it| Some(it.field.name()))
                    .number::<UInt64Type>("value", |it| Some(it.value))
                    .end()
            },
        )
        .text("code", |it| Some(it.row.as_ref().err()?.code))
        .text("message", |it| Some(&it.row.as_ref().err()?.message))
        .end())
}

/// Kernels that an object cannot be judged on, if there are any, and why: there is one reason for all, as files are
/// libbpf's only.
fn refused(run: &OwnedRun, object: usize) -> impl Iterator<Item = (Vec<&str>, ObstacleRow)> {
    let of_kernel = |kernel| Some((kernel_name(run, kernel), run.refusal(object, kernel)?));
    let (kernels, refusals): (Vec<_>, Vec<_>) = (0..run.inputs().kernels.len()).filter_map(of_kernel).unzip();
    refusals.into_iter().next().map(|it| (kernels, ObstacleRow::of_pair(it.code, it.why))).into_iter()
}

/// Kernels for which values are from modules.
fn modules(columns: Columns<'_, (&str, Vec<&str>)>) -> StructArray {
    columns.text("kernel", |it| Some(it.0)).texts("modules", |it| it.1.clone()).end()
}
