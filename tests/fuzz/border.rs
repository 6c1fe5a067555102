//! The C library's functions with hostile bytes, pointers and sizes, as a C program could call them.

use std::ffi::{CStr, c_char};
use std::mem::{MaybeUninit, size_of};
use std::ptr;
use std::slice;

use btfleet::*;

/// What stands before the bytes of the inputs, one byte each: which pointers are NULL, the loader, the size of the
/// options, modules, threads, what lengths are said, the length of the configuration, what is asked about.
pub(crate) const CONTROL_LEN: usize = 8;

const LOADERS: [Option<&CStr>; 8] = [
    None,
    Some(c"libbpf"),
    Some(c"kernel"),
    Some(c"kernel:6.12"),
    Some(c"kernel:4.19"),
    Some(c"aya"),
    Some(c"ebpf-go"),
    Some(c"\xff"),
];

/// Lengths that nothing has.
const IMPOSSIBLE: [usize; 2] = [usize::MAX, isize::MAX as usize + 1];

/// A text of the library: it ends, and is UTF-8.
fn text<'a>(at: *const c_char) -> &'a str {
    assert!(!at.is_null(), "a text");
    // SAFETY: texts of the library end with a NUL, and their handles are in use.
    unsafe { CStr::from_ptr(at) }.to_str().expect("texts are UTF-8")
}

fn optional<'a>(at: *const c_char) -> Option<&'a str> {
    (!at.is_null()).then(|| text(at))
}

/// Elements of a list of the library.
fn list<'a, T>(at: *const T, len: usize) -> &'a [T] {
    if len == 0 {
        return &[];
    }
    // SAFETY: lists of the library have as many elements as it says, and their handles are in use.
    unsafe { slice::from_raw_parts(at, len) }
}

/// Makes a handle; `None` if there is none, with a reason.
fn made<T>(call: impl FnOnce(Option<&mut MaybeUninit<*mut T>>) -> Status) -> Option<Box<T>> {
    let mut place = MaybeUninit::uninit();
    let status = call(Some(&mut place));
    assert_ne!(status, Status::Panic, "{}", text(btfleet_last_error()));
    // SAFETY: written, whatever the status is.
    let handle = unsafe { place.assume_init() };
    assert_eq!(status == Status::Ok, !handle.is_null());
    if handle.is_null() {
        assert!(!text(btfleet_last_error()).is_empty());
        return None;
    }
    // SAFETY: made by the library in a box, and nobody else has it.
    Some(unsafe { Box::from_raw(handle) })
}

/// A function that takes a name and bytes.
type Add = unsafe extern "C" fn(Option<&mut Inputs>, *const c_char, *const u8, usize) -> Status;

/// Adds one input. `nulls` and `len` say what is wrong about it, and that has to be noticed.
fn give(inputs: &mut Inputs, add: Add, data: &[u8], nulls: u8, len: u8) {
    let name = if nulls & 1 == 0 { c"6.12.0-\xff".as_ptr() } else { ptr::null() };
    let at = if nulls & 2 == 0 { data.as_ptr() } else { ptr::null() };
    let impossible = IMPOSSIBLE.get(usize::from(len)).copied();
    let len = impossible.unwrap_or(data.len());
    let is_wrong = name.is_null() || impossible.is_some() && !at.is_null() || at.is_null() && len > 0;
    // SAFETY: a string; and NULL, as many bytes as is said, or so many that none are read.
    let status = unsafe { add(Some(inputs), name, at, len) };
    assert_eq!(status, if is_wrong { Status::Argument } else { Status::Ok });
}

/// An object and BTFs, and bytes that say what is done with them.
pub(crate) fn border(control: [u8; CONTROL_LEN], object: &[u8], btfs: [&[u8]; 3]) {
    let [nulls, loader, size, modules, threads, lens, kconfig, asked] = control;
    let Some(mut inputs) = btfleet_inputs_new() else { return };
    // 7 is of no impossible length.
    let len_of = |shift: u8| (lens >> shift).wrapping_sub(1) & 7;
    give(&mut inputs, btfleet_inputs_add_object, object, nulls, len_of(0));
    let [vmlinux, one, two] = btfs;
    give(&mut inputs, btfleet_inputs_add_kernel, vmlinux, nulls >> 2, len_of(3));
    give(&mut inputs, btfleet_inputs_add_module, one, nulls >> 4, len_of(5));
    give(&mut inputs, btfleet_inputs_add_module, two, 0, 7);
    let loader = LOADERS.get(usize::from(loader) % LOADERS.len()).copied().flatten();
    let options = Options {
        size: match size {
            0 => size_of::<Options>(),
            255 => usize::MAX,
            other => other.into(),
        },
        loader: loader.map_or(ptr::null(), CStr::as_ptr),
        modules: (modules & 7).into(),
        respect_autoload: (modules >> 3).into(),
        kconfig: if kconfig == 0 { ptr::null() } else { object.as_ptr() },
        kconfig_len: usize::from(kconfig).min(object.len()),
        // To start some would take longer than all the rest.
        threads: if threads == 255 { usize::MAX } else { 1 },
    };
    let taken = if nulls & 128 == 0 { Some(&mut *inputs) } else { None };
    // SAFETY: all the fields of the first version are there, and nothing behind them is read.
    let run = made(|place| unsafe { btfleet_run_new(taken, &raw const options, place) });
    btfleet_inputs_free(Some(inputs));
    if let Some(run) = run {
        ask(run, usize::from(asked));
    }
}

/// Asks a run everything. `asked`: a number that may be too large.
fn ask(run: Box<Run>, asked: usize) {
    let (objects, kernels) = (btfleet_run_object_count(Some(&run)), btfleet_run_kernel_count(Some(&run)));
    assert!(objects <= 1, "one was given");
    for number in 0..btfleet_run_defect_count(Some(&run)) {
        let it = btfleet_run_defect(Some(&run), number).expect("a defect");
        assert!(!text(it.path).is_empty() && !text(it.code).is_empty() && !text(it.message).is_empty());
    }
    text(btfleet_run_models(Some(&run)));
    for number in [asked, usize::MAX] {
        assert_eq!(btfleet_run_object_name(Some(&run), number).is_null(), number >= objects);
        assert_eq!(btfleet_run_kernel_name(Some(&run), number).is_null(), number >= kernels);
        btfleet_run_refusal(Some(&run), number, asked);
    }
    let object = if objects > 0 { 0 } else { asked };
    let verdicts = made(|place| btfleet_run_check(Some(&run), object, place));
    let records = made(|place| btfleet_run_resolve(Some(&run), object, place));
    let relocations = made(|place| btfleet_run_relocate(Some(&run), object, place));
    assert_eq!(verdicts.is_some(), objects > 0);
    assert_eq!(records.is_some(), objects > 0);
    let is_refused = btfleet_run_refusal(Some(&run), object, 0).is_some();
    // What was asked of it outlives the run.
    btfleet_run_free(Some(run));
    let on: Vec<usize> = (0..kernels.min(4)).chain([asked, usize::MAX]).collect();
    for kernel in on {
        if let Some(verdicts) = &verdicts {
            read_verdicts(verdicts, kernel);
        }
        if let Some(records) = &records {
            assert!(!is_refused || kernel > 0 || btfleet_records_answer(Some(records), kernel, 0).is_none());
            read_records(records, kernel);
        }
        if let Some(relocations) = &relocations {
            read_relocations(relocations, kernel);
        }
    }
    btfleet_relocations_free(relocations);
    btfleet_records_free(records);
    btfleet_verdicts_free(verdicts);
}

fn read_verdicts(verdicts: &Verdicts, kernel: usize) {
    let count = btfleet_verdicts_count(Some(verdicts), kernel);
    assert!(btfleet_verdicts_get(Some(verdicts), kernel, count).is_none());
    for program in 0..count {
        let it = btfleet_verdicts_get(Some(verdicts), kernel, program).expect("a verdict");
        text(it.program);
        text(it.section);
        assert!(it.rank <= 6 && !text(it.verdict).is_empty() && !text(it.confidence).is_empty());
        assert!(list(it.judged, it.judged_count).iter().all(|it| !text(*it).is_empty()));
        assert!(list(it.assumptions, it.assumption_count).iter().all(|it| !text(*it).is_empty()));
        for finding in list(it.findings, it.finding_count) {
            // SAFETY: a row of the handle.
            let finding = unsafe { &**finding };
            assert!(!text(finding.code).is_empty() && !text(finding.effect).is_empty());
            assert!(!text(finding.message).is_empty());
            for more in [finding.root, finding.path, finding.subject, finding.file] {
                optional(more);
            }
        }
        // SAFETY: NULL, or a row of the handle.
        if let Some(abort) = unsafe { it.aborted_by.as_ref() } {
            assert!(!text(abort.code).is_empty());
            text(abort.section);
            optional(abort.program);
        }
    }
}

fn read_records(records: &Records, kernel: usize) {
    let count = btfleet_records_count(Some(records));
    assert!(btfleet_records_get(Some(records), count).is_none());
    assert!(btfleet_records_answer(Some(records), kernel, count).is_none());
    for number in 0..count {
        let record = btfleet_records_get(Some(records), number).expect("a record");
        for it in [record.section, record.root, record.access, record.path] {
            text(it);
        }
        for it in [record.program, record.kind, record.file] {
            optional(it);
        }
        assert!(matches!(list(record.insn, record.insn_len).len(), 0 | 8 | 16));
        if let Some(answer) = btfleet_records_answer(Some(records), kernel, number) {
            read_answer(answer);
            for of_module in list(answer.by_module, answer.by_module_count) {
                // SAFETY: rows of the handle.
                let of_module = unsafe { &**of_module };
                assert!(!text(of_module.module).is_empty());
                // SAFETY: the same.
                read_answer(unsafe { &*of_module.answer });
            }
        }
    }
}

fn read_answer(answer: &Answer) {
    assert!(!text(answer.code).is_empty());
    for it in [answer.reason, answer.target, answer.target_module] {
        optional(it);
    }
    assert!(matches!(list(answer.insn, answer.insn_len).len(), 0 | 8 | 16));
}

fn read_obstacle(obstacle: &Obstacle) {
    assert!(!text(obstacle.code).is_empty() && !text(obstacle.message).is_empty());
    optional(obstacle.section);
    optional(obstacle.program);
}

fn read_relocations(relocations: &Relocations, kernel: usize) {
    let of_kernel = btfleet_relocations_class_of(Some(relocations), kernel);
    let classes = btfleet_relocations_class_count(Some(relocations));
    let Ok(class) = usize::try_from(of_kernel) else {
        assert!(btfleet_relocations_file(Some(relocations), classes, None).is_null());
        return;
    };
    assert!(class < classes);
    let obstacle = btfleet_relocations_obstacle(Some(relocations), class);
    if let Some(obstacle) = obstacle {
        read_obstacle(obstacle);
    }
    let mut len = MaybeUninit::uninit();
    let file = btfleet_relocations_file(Some(relocations), class, Some(&mut len));
    assert_eq!(file.is_null(), obstacle.is_some());
    // SAFETY: written, whatever the answer is.
    let file = list(file, unsafe { len.assume_init() });
    assert_eq!(file.is_empty(), obstacle.is_some());
    for number in 0..btfleet_relocations_left_count(Some(relocations), class) {
        read_obstacle(btfleet_relocations_left(Some(relocations), class, number).expect("an obstacle"));
    }
    let programs = btfleet_relocations_program_count(Some(relocations), class);
    assert!(btfleet_relocations_program(Some(relocations), class, programs).is_none());
    for number in 0..programs {
        let it = btfleet_relocations_program(Some(relocations), class, number).expect("a program");
        text(it.name);
        text(it.section);
        assert_eq!(list(it.insns, it.insns_len).len() % 8, 0);
    }
}
