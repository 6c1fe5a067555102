//! What `btfleet resolve` prints.

use std::ffi::c_char;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;

use btfleet_engine::embed::{Answers, OwnedRun};
use btfleet_engine::report::{AnswerRow, RecordRow};
use self_cell::self_cell;

use crate::border::{free, value, Error, Status};
use crate::keep::{Keep, Kept, KeptParts};
use crate::run::{out, Run};

/// What an object's file says of one CO-RE record.
#[repr(C)]
#[derive(Debug)]
pub struct Record {
    /// The ELF section.
    pub section: *const c_char,
    /// The program that has the instruction, or NULL.
    pub program: *const c_char,
    /// Offset of the instruction, in bytes within the section.
    pub insn_off: u32,
    /// The kind as a number: enum bpf_core_relo_kind.
    pub raw_kind: u32,
    /// The kind's name, or NULL.
    pub kind: *const c_char,
    /// Root type, an id of the object's BTF.
    pub type_id: u32,
    /// Source line, or 0.
    pub line: u32,
    /// Source file, or NULL.
    pub file: *const c_char,
    /// Kind and name of the root.
    pub root: *const c_char,
    /// Access string.
    pub access: *const c_char,
    /// The same in names.
    pub path: *const c_char,
    /// The instruction as it is in the file.
    pub insn: *const u8,
    /// Its length in bytes: 8 or 16, or 0 if it is inside no program.
    pub insn_len: usize,
}

/// What becomes of one record on one kernel.
#[repr(C)]
#[derive(Debug)]
pub struct Answer {
    /// Stable code.
    pub code: *const c_char,
    /// Why it is missing or poisoned, or NULL.
    pub reason: *const c_char,
    /// The loader's error number, negative, if the load ends; else 0.
    pub fatal: i32,
    /// Not 0: `insn` is the poison call.
    pub poisoned: u32,
    /// Not 0: the record was decided. If it is 0, the numbers below are 0, too.
    pub has_orig: u32,
    /// Not 0: there is `new_value`.
    pub has_new: u32,
    /// The value in the compiled instruction.
    pub orig: u64,
    /// The value on this kernel.
    pub new_value: u64,
    /// Not 0: the kernel does not have it.
    pub unresolved: u32,
    /// Not 0: the instruction has to hold `orig`.
    pub validate: u32,
    /// Size of the field in the object, in bytes.
    pub orig_sz: u32,
    /// Size of the field in the kernel, in bytes.
    pub new_sz: u32,
    /// Not 0: the access cannot be made that wide.
    pub resize_fails: u32,
    /// Id of the first candidate that matches, in the kernel's BTF; 0 if there is none.
    pub root_id: u32,
    /// Kind and name of the field's type in the kernel, or NULL.
    pub target: *const c_char,
    /// The module that it is from, or NULL.
    pub target_module: *const c_char,
    /// The instruction after relocation.
    pub insn: *const u8,
    /// Its length in bytes.
    pub insn_len: usize,
    /// Only where modules disagree: the answer with each of them alone.
    pub by_module: *const *const ModuleAnswer,
    /// Number of them.
    pub by_module_count: usize,
}

/// The answer with one module loaded.
#[repr(C)]
#[derive(Debug)]
pub struct ModuleAnswer {
    /// The module.
    pub module: *const c_char,
    /// The answer.
    pub answer: *const Answer,
}

self_cell!(
    struct AnswersOfRun {
        owner: Arc<OwnedRun>,
        #[covariant]
        dependent: Answers,
    }
);

/// The records of one object, and what becomes of them. Any number of threads may use it at once.
pub struct Records {
    of_run: AnswersOfRun,
    records: Kept<Vec<Record>>,
    by_kernel: KeptParts<Vec<Answer>>,
}

impl Records {
    fn answer(&self, kernel: usize, record: usize) -> Option<&Answer> {
        let found = || self.of_run.borrow_dependent().on(kernel).unwrap_or_default();
        let made = |keep: &mut Keep, rows: Vec<_>| rows.iter().map(|it| Answer::new(keep, it)).collect();
        self.by_kernel.part(kernel, found, made)?.get(record)
    }
}

impl Record {
    fn new(keep: &mut Keep, row: &RecordRow<'_>) -> Self {
        let (insn, insn_len) = keep.list(row.insn.to_vec());
        Self {
            section: keep.string(&row.section),
            program: keep.option(row.program.as_deref()),
            insn_off: row.insn_off,
            raw_kind: row.raw_kind,
            kind: keep.option(row.kind),
            type_id: row.type_id,
            line: row.line.unwrap_or(0),
            file: keep.option(row.file.as_deref()),
            root: keep.string(&row.root),
            access: keep.string(&row.access),
            path: keep.string(&row.path),
            insn,
            insn_len,
        }
    }
}

impl Answer {
    /// The instructions stay where they are in the run, which the handle keeps.
    fn new(keep: &mut Keep, row: &AnswerRow<'_>) -> Self {
        let (by_module, by_module_count) = if row.by_module.is_empty() {
            (ptr::null(), 0)
        } else {
            let answers = row.by_module.iter().map(|(module, answer)| {
                let answer = Self::new(keep, answer);
                let of_module = ModuleAnswer { module: keep.string(module), answer: keep.value(answer) };
                keep.value(of_module)
            });
            let answers = answers.collect();
            keep.list(answers)
        };
        Self {
            code: keep.string(row.code),
            reason: keep.option(row.reason),
            fatal: row.fatal.unwrap_or(0),
            poisoned: row.poisoned.into(),
            has_orig: row.orig.is_some().into(),
            has_new: row.new.is_some().into(),
            orig: row.orig.unwrap_or(0),
            new_value: row.new.unwrap_or(0),
            unresolved: row.unresolved.unwrap_or(false).into(),
            validate: row.validate.unwrap_or(false).into(),
            orig_sz: row.orig_sz.unwrap_or(0),
            new_sz: row.new_sz.unwrap_or(0),
            resize_fails: row.resize_fails.unwrap_or(false).into(),
            root_id: row.root_id.unwrap_or(0),
            target: keep.option(row.target.as_deref()),
            target_module: keep.option(row.target_module),
            insn: row.insn.as_ptr(),
            insn_len: row.insn.len(),
            by_module,
            by_module_count,
        }
    }
}

/// Tells what becomes of every record of an object on every kernel.
#[no_mangle]
pub extern "C" fn btfleet_run_resolve(
    run: Option<&Run>,
    object: usize,
    records: Option<&mut MaybeUninit<*mut Records>>,
) -> Status {
    out(records, || {
        let run = run.ok_or_else(|| Error::argument("the run is NULL"))?;
        let of_run = AnswersOfRun::try_new(Arc::clone(&run.run), |it| it.resolve(object))?;
        let rows = of_run.borrow_dependent().records();
        let records = Kept::new(|keep| rows.iter().map(|it| Record::new(keep, it)).collect());
        let kernels = run.run.inputs().kernels.len();
        Ok(Records { of_run, records, by_kernel: KeptParts::new(kernels) })
    })
}

/// Frees records.
#[no_mangle]
pub extern "C" fn btfleet_records_free(records: Option<Box<Records>>) {
    free(records);
}

/// Number of records of the object.
#[no_mangle]
pub extern "C" fn btfleet_records_count(records: Option<&Records>) -> usize {
    records.map_or(0, |it| it.records.rows().len())
}

/// A record, in the order of the file; NULL if there is none of that number.
#[no_mangle]
pub extern "C" fn btfleet_records_get(records: Option<&Records>, record: usize) -> Option<&Record> {
    records?.records.rows().get(record)
}

/// What becomes of a record on a kernel; NULL if there is none of that number, or the object cannot be judged on that
/// kernel.
#[no_mangle]
pub extern "C" fn btfleet_records_answer(
    records: Option<&Records>,
    kernel: usize,
    record: usize,
) -> Option<&Answer> {
    value(None, || records?.answer(kernel, record))
}
