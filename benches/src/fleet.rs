//! btfleet's batch engine: many objects on many kernels that are loaded before, from files of their own or from a pack.

use std::collections::HashSet;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use btfleet_engine::batch::{Batch, Folded, Run};
use btfleet_engine::dialect::{Kinds, Loader, Searched};
use btfleet_engine::fleet::{Fleet, Modules, Selection};
use btfleet_engine::format::btf_ext::RelocKind;
use btfleet_engine::kernel::{Kernel, PackSource};
use btfleet_engine::object::Object;
use btfleet_engine::pack::{self, Facts, NewKernel, PackFile};
use btfleet_engine::query::{Query, Root};
use btfleet_engine::resolve::Outcome;

use crate::answer::Answer;
use crate::btfleet::answer;
use crate::clock::{Stopwatch, Time};
use crate::workload::{File, at};

/// What each phase took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phases {
    /// Objects parsed, from their bytes.
    pub parse: Time,
    /// Distinct questions found, and answered for all kernels: [`Run::new`].
    pub resolve: Time,
    /// Answers folded object by object: the outcome of every record on every kernel can be had after that.
    pub fold: Time,
    /// Every row visited and read.
    pub expand: Time,
}

impl Phases {
    /// From objects' bytes to every row in memory: all but [`Phases::expand`].
    pub fn total(&self) -> Time {
        self.parse + self.resolve + self.fold
    }
}

/// All rows of a round.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'r> {
    /// Objects, parsed.
    pub objects: &'r [Object<'r>],
    /// By object.
    pub folded: &'r [Folded<'r>],
}

/// How much of the work was distinct.
#[derive(Clone, Copy, Debug, Default)]
pub struct Distinct {
    /// Records of all objects.
    pub records: usize,
    /// Distinct questions among them.
    pub queries: usize,
    /// Distinct roots of these.
    pub roots: usize,
    /// Distinct types that are a candidate for one of the roots on some kernel, root by root.
    pub shapes: usize,
    /// Answers: by root, queries times shapes.
    pub answers: usize,
    /// Views, root by root: what some kernel has for it.
    pub views: usize,
}

/// Loads kernels: types and index of roots.
///
/// # Errors
/// If one is refused.
pub fn load<'k>(kernels: &[&'k File]) -> Result<Vec<Kernel<'k>>, String> {
    let parsed =
        kernels.iter().map(|it| Kernel::parse(&it.data).map_err(|error| format!("{}: {error}", it.name)));
    parsed.collect()
}

/// Writes a pack of kernels that are loaded. Returns its length and what it took to build it, without writing.
///
/// # Errors
/// If a kernel cannot be packed, or the file cannot be written.
pub fn write_pack(path: &Path, files: &[&File], kernels: &[Kernel<'_>]) -> Result<(usize, Time), String> {
    let facts = Facts::default();
    let new: Vec<NewKernel<'_, '_>> = files
        .iter()
        .zip(kernels)
        .map(|(file, kernel)| NewKernel {
            name: &file.name,
            facts: &facts,
            vmlinux: &kernel.vmlinux.btf,
            vmlinux_bytes: &file.data,
            modules: Vec::new(),
        })
        .collect();
    let watch = Stopwatch::new();
    let (bytes, _) = pack::build(&new).map_err(|error| error.to_string())?;
    let took = watch.time();
    fs::write(path, &bytes).map_err(|error| at(path, &error))?;
    Ok((bytes.len(), took))
}

/// Opens a pack and hands its kernels to `work`, with what opening took.
///
/// # Errors
/// If the pack cannot be opened or is damaged, or what `work` says.
pub fn with_pack<T>(
    path: &Path,
    work: impl FnOnce(Time, &[Kernel<'_>]) -> Result<T, String>,
) -> Result<T, String> {
    let watch = Stopwatch::new();
    let file = PackFile::open(path).map_err(|error| error.to_string())?;
    let view = file.view().map_err(|error| error.to_string())?;
    let (source, kernels) = PackSource::kernels(view).map_err(|error| error.to_string())?;
    let took = watch.time();
    let kernels: Vec<Kernel<'_>> = kernels.into_iter().map(|(_, kernel)| kernel).collect();
    let result = work(took, &kernels)?;
    match source.damage() {
        Some(damage) => Err(damage.to_string()),
        None => Ok(result),
    }
}

/// From objects' bytes to all rows in memory. `look` gets the rows, outside of the time.
///
/// # Errors
/// If an object is refused, or what `look` says.
pub fn round<T>(
    batch: &Batch,
    files: &[&File],
    kernels: &[Kernel<'_>],
    look: impl FnOnce(Rows<'_>) -> Result<T, String>,
) -> Result<(Phases, T), String> {
    let loaders = vec![Loader::Libbpf; kernels.len()];
    let watch = Stopwatch::new();
    let objects = parse(batch, files)?;
    let parse = watch.time();
    let watch = Stopwatch::new();
    let run = resolve(batch, &objects, kernels, &loaders);
    let resolve = watch.time();
    let watch = Stopwatch::new();
    let folded = fold(batch, &run, objects.len());
    let fold = watch.time();
    let rows = Rows { objects: &objects, folded: &folded };
    let watch = Stopwatch::new();
    black_box(expand(rows, kernels.len()));
    let expand = watch.time();
    Ok((Phases { parse, resolve, fold, expand }, look(rows)?))
}

/// Time of each object by itself on all kernels, from its bytes to every row.
///
/// # Errors
/// If an object is refused.
pub fn one_by_one(files: &[&File], kernels: &[Kernel<'_>]) -> Result<Vec<Duration>, String> {
    files
        .iter()
        .map(|file| Ok(round(&Batch::SEQUENTIAL, &[file], kernels, |_| Ok(()))?.0.total().cpu))
        .collect()
}

// The phases are functions that are not inlined, so that profiles can be limited to them.

#[inline(never)]
fn parse<'a>(batch: &Batch, files: &[&'a File]) -> Result<Vec<Object<'a>>, String> {
    let parsed =
        batch.map(files, |it| Object::parse(&it.data).map_err(|error| format!("{}: {error}", it.name)));
    parsed.into_iter().collect()
}

#[inline(never)]
fn resolve<'a>(
    batch: &Batch,
    objects: &'a [Object<'a>],
    kernels: &'a [Kernel<'a>],
    loaders: &[Loader],
) -> Run<'a> {
    Run::new(batch, objects, kernels, loaders, Modules::All)
}

#[inline(never)]
fn fold<'r>(batch: &Batch, run: &'r Run<'r>, objects: usize) -> Vec<Folded<'r>> {
    let numbers: Vec<usize> = (0..objects).collect();
    batch.map(&numbers, |&object| run.fold(object, |_| true))
}

/// Reads what a report would show of each row, and counts the rows that were decided.
#[inline(never)]
fn expand(rows: Rows<'_>, kernels: usize) -> (usize, u64) {
    let (mut decided, mut sum) = (0, 0_u64);
    for (object, folded) in rows.objects.iter().zip(rows.folded) {
        for kernel in 0..kernels {
            for record in 0..object.relocs().len() {
                if let Some(Outcome::Decided(it)) = folded.outcome(record, kernel) {
                    decided += 1;
                    sum = it
                        .insn
                        .iter()
                        .fold(sum ^ it.new.unwrap_or(0), |sum, byte| sum.wrapping_add((*byte).into()));
                }
            }
        }
    }
    (decided, sum)
}

impl<'r> Rows<'r> {
    /// What became of the records of all objects on a kernel.
    ///
    /// # Errors
    /// If an object and the kernel cannot be judged together, or a row depends on modules.
    pub fn answers(&self, kernel: usize) -> Result<Vec<Answer<'r>>, String> {
        let mut answers = Vec::new();
        for (number, (object, folded)) in (0..).zip(self.objects.iter().zip(self.folded)) {
            for ((record, reloc), at) in (0..).zip(object.relocs()).zip(0..) {
                let outcome = folded.outcome(at, kernel);
                let answer = outcome.and_then(|it| answer(number, record, reloc, it));
                answers.push(answer.ok_or_else(|| format!("object {number}, record {record}: no answer"))?);
            }
        }
        Ok(answers)
    }

    /// Counts what is distinct.
    pub fn distinct(&self, kernels: &[Kernel<'_>]) -> Distinct {
        let mut queries: HashSet<(&Query<'_>, RelocKind)> = HashSet::new();
        let relocs = || self.objects.iter().flat_map(Object::relocs);
        for reloc in relocs() {
            let query = reloc.question.as_ref().ok().and_then(|it| it.query.as_ref());
            queries.extend(query.zip(reloc.kind));
        }
        let roots: HashSet<&Root<'_>> = queries.iter().map(|(query, _)| &query.root).collect();
        let fleet = Fleet::new(kernels.iter().collect());
        let selection =
            Selection { modules: Modules::All, kinds: Kinds::Compatible, searched: Searched::ModulesIfNone };
        let mut distinct = Distinct {
            records: relocs().count(),
            queries: queries.len(),
            roots: roots.len(),
            ..Distinct::default()
        };
        for root in roots {
            let table = fleet.table(root, selection);
            distinct.shapes += table.shapes.len();
            distinct.views += table.views.len();
            distinct.answers +=
                table.shapes.len() * queries.iter().filter(|(query, _)| query.root == *root).count();
        }
        distinct
    }
}
