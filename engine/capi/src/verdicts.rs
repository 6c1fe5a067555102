//! What `btfleet check` prints.

use std::ffi::c_char;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;

use btfleet_engine::embed::{Judgements, OwnedRun};
use btfleet_engine::report::{FindingRow, VerdictRow};
use self_cell::self_cell;

use crate::border::{free, value, Error, Status};
use crate::keep::{Keep, KeptParts};
use crate::run::{or_minus_one, out, Run};

/// Verdict on one program on one kernel.
#[repr(C)]
#[derive(Debug)]
pub struct Verdict {
    /// The program.
    pub program: *const c_char,
    /// Its ELF section.
    pub section: *const c_char,
    /// Not 0: libbpf loads it unasked.
    pub autoload: u32,
    /// The higher, the worse: 0 ok, 1 ok-drift, 2 conditional, 3 unknown, 4 fail-attach, 5 fail-symbol, 6 fail-reloc.
    pub rank: u32,
    /// The same as text.
    pub verdict: *const c_char,
    /// proved or bounded.
    pub confidence: *const c_char,
    /// What was judged.
    pub judged: *const *const c_char,
    /// Number of them.
    pub judged_count: usize,
    /// The record that ends the load of the object, or NULL.
    pub aborted_by: *const Abort,
    /// What the verdict takes for granted.
    pub assumptions: *const *const c_char,
    /// Number of them.
    pub assumption_count: usize,
    /// Everything that bears on it.
    pub findings: *const *const Finding,
    /// Number of them.
    pub finding_count: usize,
}

/// The record that ends the load of an object.
#[repr(C)]
#[derive(Debug)]
pub struct Abort {
    /// Its ELF section.
    pub section: *const c_char,
    /// Its program, or NULL.
    pub program: *const c_char,
    /// Offset of its instruction, in bytes within the section.
    pub insn_off: u32,
    /// The loader's error number, negative.
    pub fatal: i32,
    /// Stable code.
    pub code: *const c_char,
}

/// Something that bears on a verdict.
#[repr(C)]
#[derive(Debug)]
pub struct Finding {
    /// Stable code.
    pub code: *const c_char,
    /// What it does to the program.
    pub effect: *const c_char,
    /// Offset of the record's instruction, in bytes within its section; -1 if it is about no record.
    pub insn_off: i64,
    /// Kind and name of the record's root, or NULL.
    pub root: *const c_char,
    /// What the record accesses, or NULL.
    pub path: *const c_char,
    /// What it is about, if that is no record, or NULL.
    pub subject: *const c_char,
    /// Source file, or NULL.
    pub file: *const c_char,
    /// Source line, or -1.
    pub line: i64,
    /// One sentence.
    pub message: *const c_char,
}

self_cell!(
    struct JudgementsOfRun {
        owner: Arc<OwnedRun>,
        #[covariant]
        dependent: Judgements,
    }
);

/// Verdicts on the programs of one object. Any number of threads may use it at once.
pub struct Verdicts {
    of_run: JudgementsOfRun,
    by_class: KeptParts<Vec<Verdict>>,
}

impl Verdicts {
    fn on(&self, kernel: usize) -> Option<&Vec<Verdict>> {
        let judgements = self.of_run.borrow_dependent();
        let class = (*judgements.verdicts().classes.of.get(kernel)?)?;
        let found = || judgements.on(kernel).unwrap_or_default();
        let made = |keep: &mut Keep, rows: Vec<_>| rows.iter().map(|it| Verdict::new(keep, it)).collect();
        self.by_class.part(class as usize, found, made)
    }
}

impl Verdict {
    fn new(keep: &mut Keep, row: &VerdictRow<'_>) -> Self {
        let judged = row.judged.iter().map(|it| keep.string(it)).collect();
        let (judged, judged_count) = keep.list(judged);
        let assumptions = row.assumptions.iter().map(|it| keep.string(it)).collect();
        let (assumptions, assumption_count) = keep.list(assumptions);
        let findings = row.findings.iter().map(|it| {
            let finding = Finding::new(keep, it);
            keep.value(finding)
        });
        let findings = findings.collect();
        let (findings, finding_count) = keep.list(findings);
        let aborted_by = match &row.aborted_by {
            Some(it) => {
                let abort = Abort {
                    section: keep.string(&it.section),
                    program: keep.option(it.program.as_deref()),
                    insn_off: it.insn_off,
                    fatal: it.fatal,
                    code: keep.string(it.code),
                };
                keep.value(abort)
            }
            None => ptr::null(),
        };
        Self {
            program: keep.string(&row.program),
            section: keep.string(&row.section),
            autoload: row.autoload.into(),
            rank: row.verdict as u32,
            verdict: keep.string(row.verdict.name()),
            confidence: keep.string(row.confidence),
            judged,
            judged_count,
            aborted_by,
            assumptions,
            assumption_count,
            findings,
            finding_count,
        }
    }
}

impl Finding {
    fn new(keep: &mut Keep, row: &FindingRow<'_>) -> Self {
        Self {
            code: keep.string(row.code),
            effect: keep.string(row.effect),
            insn_off: or_minus_one(row.insn_off.map(u64::from)),
            root: keep.option(row.root.as_deref()),
            path: keep.option(row.path.as_deref()),
            subject: keep.option(row.subject),
            file: keep.option(row.file.as_deref()),
            line: or_minus_one(row.line.map(u64::from)),
            message: keep.string(row.message),
        }
    }
}

/// Judges every program of an object on every kernel.
#[no_mangle]
pub extern "C" fn btfleet_run_check(
    run: Option<&Run>,
    object: usize,
    verdicts: Option<&mut MaybeUninit<*mut Verdicts>>,
) -> Status {
    out(verdicts, || {
        let run = run.ok_or_else(|| Error::argument("the run is NULL"))?;
        let of_run = JudgementsOfRun::try_new(Arc::clone(&run.run), |it| it.check(object))?;
        let classes = of_run.borrow_dependent().verdicts().by_class.len();
        Ok(Verdicts { of_run, by_class: KeptParts::new(classes) })
    })
}

/// Frees verdicts.
#[no_mangle]
pub extern "C" fn btfleet_verdicts_free(verdicts: Option<Box<Verdicts>>) {
    free(verdicts);
}

/// Number of programs that there is a verdict on; 0 if the object cannot be judged on that kernel.
#[no_mangle]
pub extern "C" fn btfleet_verdicts_count(verdicts: Option<&Verdicts>, kernel: usize) -> usize {
    value(0, || verdicts.and_then(|it| it.on(kernel)).map_or(0, Vec::len))
}

/// The verdict on a program, in the order of the file; NULL if there is none of that number.
#[no_mangle]
pub extern "C" fn btfleet_verdicts_get(
    verdicts: Option<&Verdicts>,
    kernel: usize,
    program: usize,
) -> Option<&Verdict> {
    value(None, || verdicts?.on(kernel)?.get(program))
}
