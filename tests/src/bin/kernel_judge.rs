//! `BPF_PROG_LOAD` behind a pipe: the child half of `btfleet_tests::kernel`.
//!
//! libbpf's own call has no CO-RE records among its options, so the system call is made here, with the part of
//! `union bpf_attr` that it takes.
#![expect(unsafe_code, reason = "system calls with pointers; nothing else in the workspace makes any")]

use std::ffi::{c_int, c_long};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::process::ExitCode;

use btfleet_tests::kernel::{Job, Load, Loaded};

const SYS_BPF: c_long = if cfg!(target_arch = "x86_64") { 321 } else { 280 };
const MAP_CREATE: c_int = 0;
const PROG_LOAD: c_int = 5;
const OBJ_GET_INFO_BY_FD: c_int = 15;
const BTF_LOAD: c_int = 18;
const MAP_TYPE_ARRAY: u32 = 2;
const MAP_VALUE_SIZE: u32 = 4096;
const PSEUDO_MAP_VALUE: u8 = 2;
const LOG_SIZE: u32 = 16 << 20;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` takes, up to what CO-RE needs.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
    attach_prog_fd: u32,
    core_relo_cnt: u32,
    fd_array: u64,
    core_relos: u64,
    core_relo_rec_size: u32,
    log_true_size: u32,
}
const _: () = assert!(size_of::<ProgLoad>() == 144);

/// The part that `BPF_BTF_LOAD` takes.
#[repr(C)]
#[derive(Default)]
struct BtfLoad {
    btf: u64,
    log_buf: u64,
    btf_size: u32,
    log_size: u32,
    log_level: u32,
    pad: u32,
}

/// The part that `BPF_MAP_CREATE` takes.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// The part that `BPF_OBJ_GET_INFO_BY_FD` takes.
#[repr(C)]
struct GetInfo {
    fd: u32,
    info_len: u32,
    info: u64,
}

/// The start of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct ProgInfo {
    prog_type: u32,
    id: u32,
    tag: [u8; 8],
    jited_prog_len: u32,
    xlated_prog_len: u32,
    jited_prog_insns: u64,
    xlated_prog_insns: u64,
}
const _: () = assert!(size_of::<ProgInfo>() == 40);

/// Makes the system call; the errno, positive, if it fails.
///
/// # Safety
/// `attr` has to be the part of `union bpf_attr` that `command` takes, and its addresses have to be those of memory of
/// the lengths that stand beside them.
unsafe fn bpf<T>(command: c_int, attr: &mut T) -> Result<c_int, u32> {
    // SAFETY: the kernel reads and writes no more than the size that it is told, and the memory that `attr` names.
    let result = unsafe { syscall(SYS_BPF, command, std::ptr::from_mut(attr), size_of::<T>()) };
    let errno =
        || io::Error::last_os_error().raw_os_error().and_then(|it| u32::try_from(it).ok()).unwrap_or(5);
    if result < 0 { Err(errno()) } else { c_int::try_from(result).map_err(|_| errno()) }
}

/// The address of the first element, for the kernel to read; 0 if there is none.
fn address<T>(items: &[T]) -> u64 {
    if items.is_empty() { 0 } else { items.as_ptr().expose_provenance() as u64 }
}

/// The same, for the kernel to write.
fn address_mut<T>(items: &mut [T]) -> u64 {
    if items.is_empty() { 0 } else { items.as_mut_ptr().expose_provenance() as u64 }
}

fn count(items: usize) -> u32 {
    u32::try_from(items).expect("a job is far below 4 GiB")
}

fn own(fd: c_int) -> OwnedFd {
    // SAFETY: the kernel has just made it, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn raw(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn text(log: &[u8]) -> String {
    String::from_utf8_lossy(log.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
}

fn load_btf(btf: &[u8]) -> Result<OwnedFd, String> {
    let mut log = vec![0_u8; 1 << 20];
    let mut attr = BtfLoad { btf: address(btf), btf_size: count(btf.len()), ..BtfLoad::default() };
    // SAFETY: `btf` lives until the call is over.
    if let Ok(fd) = unsafe { bpf(BTF_LOAD, &mut attr) } {
        return Ok(own(fd));
    }
    (attr.log_buf, attr.log_size, attr.log_level) = (address_mut(&mut log), count(log.len()), 1);
    // SAFETY: as above, and so does `log`, which nothing else looks at meanwhile.
    match unsafe { bpf(BTF_LOAD, &mut attr) } {
        Ok(fd) => Ok(own(fd)),
        Err(errno) => {
            let log = text(&log);
            let last = log.lines().last().unwrap_or_default();
            Err(format!("BPF_BTF_LOAD: errno {errno}: {last}"))
        }
    }
}

fn create_map() -> Result<OwnedFd, String> {
    let mut attr =
        MapCreate { map_type: MAP_TYPE_ARRAY, key_size: 4, value_size: MAP_VALUE_SIZE, max_entries: 1 };
    // SAFETY: there are no addresses.
    unsafe { bpf(MAP_CREATE, &mut attr) }.map(own).map_err(|errno| format!("BPF_MAP_CREATE: errno {errno}"))
}

/// Makes `ldimm64` instructions point into the map; what they held is the offset in it.
fn point_into_map(insns: &mut [u8], numbers: &[u32], map: &OwnedFd) {
    for &number in numbers {
        let Some(pair) = insns.get_mut(number as usize * 8..).and_then(|it| it.first_chunk_mut::<16>())
        else {
            continue;
        };
        let [_, regs, _, _, low @ .., _, _, _, _, h0, h1, h2, h3] = pair;
        let [l0, l1, l2, l3] = low;
        *regs |= PSEUDO_MAP_VALUE << 4;
        [*h0, *h1, *h2, *h3] = [*l0, *l1, *l2, *l3];
        [*l0, *l1, *l2, *l3] = raw(map).to_le_bytes();
    }
}

fn load(job: &Job, btf: &OwnedFd, map: Option<&OwnedFd>, load: &Load) -> Loaded {
    let mut insns = load.insns.clone();
    if let Some(map) = map {
        point_into_map(&mut insns, &job.map_insns, map);
    }
    // The kernel wants them aligned.
    let insns: Vec<u64> = insns.as_chunks().0.iter().map(|insn| u64::from_ne_bytes(*insn)).collect();
    let mut log = vec![0_u8; LOG_SIZE as usize];
    let records = |words: &[u32], len: usize| count(words.len() / len);
    let mut attr = ProgLoad {
        prog_type: job.prog_type,
        insn_cnt: count(insns.len()),
        insns: address(&insns),
        license: address(c"GPL".to_bytes_with_nul()),
        expected_attach_type: job.attach_type,
        attach_btf_id: job.attach_btf_id,
        prog_btf_fd: raw(btf),
        func_info_rec_size: 8,
        func_info: address(&job.func_info),
        func_info_cnt: records(&job.func_info, 2),
        line_info_rec_size: 16,
        line_info: address(&job.line_info),
        line_info_cnt: records(&job.line_info, 4),
        core_relo_cnt: records(&load.core_relos, 4),
        core_relos: address(&load.core_relos),
        core_relo_rec_size: 16,
        log_level: 1,
        log_size: LOG_SIZE,
        log_buf: address_mut(&mut log),
        ..ProgLoad::default()
    };
    // SAFETY: everything that `attr` names lives until the call is over, with the lengths that stand there; nothing
    // else looks at `log` meanwhile.
    let result = unsafe { bpf(PROG_LOAD, &mut attr) }.map(own).and_then(|program| translated(&program));
    let (errno, insns) = match result {
        Ok(insns) => (0, insns),
        Err(errno) => (errno, Vec::new()),
    };
    Loaded { errno, log: text(&log), insns }
}

/// The instructions as the verifier left them.
fn translated(program: &OwnedFd) -> Result<Vec<u8>, u32> {
    let mut insns = Vec::new();
    // The first round asks for the length.
    for _ in 0..2 {
        let mut info = ProgInfo {
            xlated_prog_len: count(insns.len()),
            xlated_prog_insns: address_mut(&mut insns),
            ..ProgInfo::default()
        };
        let info_at = std::ptr::from_mut(&mut info).expose_provenance() as u64;
        let mut attr = GetInfo { fd: raw(program), info_len: count(size_of::<ProgInfo>()), info: info_at };
        // SAFETY: `info` and `insns` have the lengths that stand there, and nothing else looks at them meanwhile.
        unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) }?;
        insns.resize(info.xlated_prog_len as usize, 0);
    }
    Ok(insns)
}

fn answer(job: &Job) -> Result<Vec<u8>, String> {
    let btf = load_btf(&job.btf)?;
    let map = if job.map_insns.is_empty() { None } else { Some(create_map()?) };
    let mut out = Vec::new();
    for version in &job.loads {
        load(job, &btf, map.as_ref(), version).encode(&mut out);
    }
    Ok(out)
}

fn main() -> ExitCode {
    let mut input = Vec::new();
    let read = io::stdin().read_to_end(&mut input).map_err(|error| error.to_string());
    let job = read.and_then(|_| Job::decode(&input).ok_or_else(|| "the job is cut".to_owned()));
    let (code, out) = match job.and_then(|job| answer(&job)) {
        Ok(out) => (ExitCode::SUCCESS, out),
        Err(why) => (ExitCode::FAILURE, why.into_bytes()),
    };
    match io::stdout().write_all(&out) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}
