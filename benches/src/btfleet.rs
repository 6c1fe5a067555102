//! btfleet, its own loading of the kernel included.

use btfleet_engine::batch::outcomes;
use btfleet_engine::dialect::Loader;
use btfleet_engine::fleet::Modules;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::{Object, Reloc};
use btfleet_engine::resolve::Outcome;

use crate::Round;
use crate::answer::{Answer, Status};
use crate::clock::Stopwatch;
use crate::workload::{Paths, Workload};

/// Loads the kernel, parses all objects, folds and patches all their records. Files are in memory.
///
/// # Errors
/// If the kernel or an object is refused.
pub fn round(work: &Workload) -> Result<Round<'_>, String> {
    let watch = Stopwatch::new();
    let answers = answers(work)?;
    Ok(Round { time: watch.time(), answers })
}

/// As [`round`], with reading the files into `work` (from the page cache, if this is not the first time).
///
/// # Errors
/// As [`round`], or if a file cannot be read.
pub fn round_from_files<'a>(paths: &Paths, work: &'a mut Option<Workload>) -> Result<Round<'a>, String> {
    *work = None;
    let watch = Stopwatch::new();
    let answers = answers(work.insert(Workload::read(paths)?))?;
    Ok(Round { time: watch.time(), answers })
}

fn answers(work: &Workload) -> Result<Vec<Answer<'_>>, String> {
    let kernel = Kernel::parse(&work.kernel).map_err(|error| format!("kernel: {error}"))?;
    let mut answers = Vec::new();
    for (number, file) in (0..).zip(&work.objects) {
        let object = Object::parse(&file.data).map_err(|error| format!("{}: {error}", file.name))?;
        let outcomes = outcomes(Loader::Libbpf, &object, &kernel, Modules::All, |_| true);
        for (record, (reloc, outcome)) in (0..).zip(object.relocs().iter().zip(&outcomes)) {
            let answer = answer(number, record, reloc, outcome);
            answers.push(answer.ok_or_else(|| format!("{}: no modules given", file.name))?);
        }
    }
    Ok(answers)
}

/// What became of a record; `None` if that depends on modules.
pub fn answer<'a>(object: u32, record: u32, reloc: &Reloc<'a>, outcome: &Outcome) -> Option<Answer<'a>> {
    let other = |status| Answer::other(object, record, reloc.section, reloc.insn_off, status);
    Some(match outcome {
        Outcome::Decided(it) => Answer::patched(object, record, reloc.section, reloc.insn_off, &it.insn),
        Outcome::Fatal(error) => other(Status::Fatal(error.errno().unsigned_abs())),
        Outcome::Skipped => other(Status::Skipped),
        Outcome::ModuleDependent(_) => return None,
    })
}
