//! libbpf's load behind a pipe: the child half of `btfleet_tests::loading`.
//!
//! Each program is loaded alone, from an object that is opened anew, and nothing is attached. What loaders would set
//! before is made harmless: maps without a size get one, nothing is pinned, and struct_ops maps are made only for their
//! own programs.
#![expect(unsafe_code, reason = "calls libbpf; a fault stays in this process, whose parent watches it")]

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;
use std::ptr;

use btfleet_tests::loading::{Attempt, Request};
use libbpf_sys as lb;

const LOG_SIZE: usize = 1 << 20;
/// What maps without a size get: a page, which ring buffers need.
const MAP_ENTRIES: u32 = 4096;
/// What maps of stacks without one get: as deep as the kernel goes unasked.
const STACK_SIZE: u32 = 127 * 8;
/// Maps that may not have a number of entries.
const WITHOUT_SIZE: [u32; 6] = [
    lb::BPF_MAP_TYPE_SK_STORAGE,
    lb::BPF_MAP_TYPE_INODE_STORAGE,
    lb::BPF_MAP_TYPE_TASK_STORAGE,
    lb::BPF_MAP_TYPE_CGRP_STORAGE,
    lb::BPF_MAP_TYPE_CGROUP_STORAGE,
    lb::BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE,
];

unsafe extern "C" {
    fn vsnprintf(buf: *mut c_char, size: usize, format: *const c_char, args: *mut lb::__va_list_tag)
    -> c_int;
}

thread_local! {
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

unsafe extern "C" fn keep_warnings(
    level: lb::libbpf_print_level,
    format: *const c_char,
    args: *mut lb::__va_list_tag,
) -> c_int {
    if level != lb::LIBBPF_WARN {
        return 0;
    }
    let mut line = [0_u8; 1024];
    // SAFETY: libbpf passes a format and its arguments; the result is cut to the buffer and NUL-terminated.
    unsafe { vsnprintf(line.as_mut_ptr().cast(), line.len(), format, args) };
    let text = CStr::from_bytes_until_nul(&line).unwrap_or_default().to_string_lossy();
    // The verifier's log is kept elsewhere.
    if !text.contains("BEGIN PROG LOAD LOG") {
        SAID.with_borrow_mut(|said| said.push_str(&text));
    }
    0
}

/// An opened object.
struct Object(*mut lb::bpf_object);

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: it was opened, and is closed here only.
        unsafe { lb::bpf_object__close(self.0) };
    }
}

impl Object {
    /// Opens a file; libbpf's errno, positive, if it does not.
    fn open(file: &[u8]) -> Result<Self, u32> {
        let len = file.len().try_into().map_err(|_| 7_u32)?;
        // SAFETY: the file lives until the object is closed, and null stands for no options.
        let object = unsafe { lb::bpf_object__open_mem(file.as_ptr().cast(), len, ptr::null()) };
        if object.is_null() { Err(errno()) } else { Ok(Self(object)) }
    }

    fn programs(&self) -> impl Iterator<Item = *mut lb::bpf_program> {
        // SAFETY: libbpf gives the first for null, and the one after each that it gave.
        let next = |before: *mut lb::bpf_program| unsafe { lb::bpf_object__next_program(self.0, before) };
        let some = |it: *mut lb::bpf_program| (!it.is_null()).then_some(it);
        std::iter::successors(some(next(ptr::null_mut())), move |it| some(next(*it)))
    }

    fn maps(&self) -> impl Iterator<Item = *mut lb::bpf_map> {
        // SAFETY: as above.
        let next = |before: *mut lb::bpf_map| unsafe { lb::bpf_object__next_map(self.0, before) };
        let some = |it: *mut lb::bpf_map| (!it.is_null()).then_some(it);
        std::iter::successors(some(next(ptr::null_mut())), move |it| some(next(*it)))
    }
}

fn errno() -> u32 {
    io::Error::last_os_error().raw_os_error().and_then(|it| u32::try_from(it).ok()).unwrap_or(5)
}

/// Loads the program called `name`, and no other if it can be.
fn load(file: &[u8], name: &str) -> Attempt {
    SAID.take();
    // It has to outlive the object.
    let mut log = vec![0_u8; LOG_SIZE];
    let errno = Object::open(file).and_then(|object| {
        let mut is_struct_ops = false;
        for program in object.programs() {
            // SAFETY: `program` is one of the open object's, whose name lives as long.
            let is_meant = unsafe {
                let is_meant = CStr::from_ptr(lb::bpf_program__name(program)).to_bytes() == name.as_bytes();
                lb::bpf_program__set_autoload(program, is_meant);
                is_meant
            };
            if is_meant {
                // SAFETY: `log` has that length, and nothing else looks at it until the object is closed.
                unsafe {
                    is_struct_ops = lb::bpf_program__type(program) == lb::BPF_PROG_TYPE_STRUCT_OPS;
                    let size = LOG_SIZE.try_into().map_err(|_| 7_u32)?;
                    lb::bpf_program__set_log_buf(program, log.as_mut_ptr().cast(), size);
                }
            }
        }
        for map in object.maps() {
            // SAFETY: `map` is one of the open object's.
            unsafe {
                lb::bpf_map__set_pin_path(map, ptr::null());
                let kind = lb::bpf_map__type(map);
                if kind == lb::BPF_MAP_TYPE_STRUCT_OPS {
                    lb::bpf_map__set_autocreate(map, is_struct_ops);
                } else if !WITHOUT_SIZE.contains(&kind) && !lb::bpf_map__is_internal(map) {
                    if lb::bpf_map__max_entries(map) == 0 {
                        lb::bpf_map__set_max_entries(map, MAP_ENTRIES);
                    }
                    if kind == lb::BPF_MAP_TYPE_STACK_TRACE && lb::bpf_map__value_size(map) == 0 {
                        lb::bpf_map__set_value_size(map, STACK_SIZE);
                    }
                }
            }
        }
        // SAFETY: the object is open.
        let result = unsafe { lb::bpf_object__load(object.0) };
        if result < 0 { Err(result.unsigned_abs()) } else { Ok(()) }
    });
    let log = log.split(|&byte| byte == 0).next().unwrap_or_default();
    Attempt {
        errno: errno.err().unwrap_or(0),
        log: String::from_utf8_lossy(log).into_owned(),
        said: SAID.take(),
    }
}

/// What libbpf takes a section of that name for.
fn type_of_section(name: &str) -> Attempt {
    let Ok(name) = CString::new(name) else { return Attempt { errno: 22, ..Attempt::default() } };
    let (mut prog_type, mut attach_type) = (0, 0);
    // SAFETY: the name ends in a zero, and the other two are written to before the call is over.
    let errno =
        unsafe { lb::libbpf_prog_type_by_name(name.as_ptr(), &raw mut prog_type, &raw mut attach_type) };
    Attempt { errno: errno.unsigned_abs(), said: format!("{prog_type} {attach_type}"), ..Attempt::default() }
}

fn main() -> ExitCode {
    let mut input = Vec::new();
    if io::stdin().read_to_end(&mut input).is_err() {
        return ExitCode::FAILURE;
    }
    let Some(Request { object, programs }) = Request::decode(&input) else { return ExitCode::FAILURE };
    // SAFETY: the callback has libbpf's type and keeps nothing of what it is given.
    unsafe { lb::libbpf_set_print(Some(keep_warnings)) };
    let mut out = Vec::new();
    for name in &programs {
        let attempt = if object.is_empty() { type_of_section(name) } else { load(&object, name) };
        attempt.encode(&mut out);
    }
    match io::stdout().write_all(&out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
