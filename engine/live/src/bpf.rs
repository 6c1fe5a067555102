//! The system call `bpf()`, as far as loading programs needs it. Source: `union bpf_attr`, Linux.
#![expect(unsafe_code, reason = "system calls with pointers")]

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

const MAP_CREATE: i32 = 0;
const MAP_UPDATE_ELEM: i32 = 2;
const PROG_LOAD: i32 = 5;
const OBJ_GET_INFO_BY_FD: i32 = 15;
const BTF_LOAD: i32 = 18;
const BTF_GET_FD_BY_ID: i32 = 19;
const MAP_FREEZE: i32 = 22;
const BTF_GET_NEXT_ID: i32 = 23;

/// The verifier's log, at the level where it says why it refuses a program.
const LOG_REASONS: u32 = 1;
/// Keep the beginning of the log in place of its end: that is where relocation is. Since 6.4.
const LOG_FIXED: u32 = 8;
const LOG_LEN: usize = 8 << 20;
/// `BPF_MAP_TYPE_ARRAY`.
pub const ARRAY: u32 = 2;
/// Longest name of a map or program, the zero included.
const NAME_LEN: usize = 16;

/// A call that the kernel refused: the errno, positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub u32);

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let error = io::Error::from_raw_os_error(self.0.cast_signed());
        // "Operation not permitted (os error 1)": the number is what stands in other people's reports.
        write!(f, "{error}")
    }
}

impl std::error::Error for Errno {}

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` takes, up to the signature. What is not used is zero, which older
/// kernels take, too.
#[repr(C)]
#[derive(Default)]
struct ProgLoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; NAME_LEN],
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
    attach_btf_obj_fd: u32,
    core_relo_cnt: u32,
    fd_array: u64,
    core_relos: u64,
    core_relo_rec_size: u32,
    log_true_size: u32,
    prog_token_fd: u32,
    fd_array_cnt: u32,
    signature: u64,
    signature_size: u32,
    keyring_id: i32,
}
const _: () = assert!(size_of::<ProgLoadAttr>() == 168);

/// The part that `BPF_BTF_LOAD` takes.
#[repr(C)]
#[derive(Default)]
struct BtfLoadAttr {
    btf: u64,
    log_buf: u64,
    btf_size: u32,
    log_size: u32,
    log_level: u32,
    pad: u32,
}

/// The part that `BPF_MAP_CREATE` takes.
#[repr(C)]
#[derive(Default)]
struct MapCreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; NAME_LEN],
    map_ifindex: u32,
    btf_fd: u32,
    btf_key_type_id: u32,
    btf_value_type_id: u32,
    btf_vmlinux_value_type_id: u32,
    map_extra: u64,
}
const _: () = assert!(size_of::<MapCreateAttr>() == 72);

/// The part that `BPF_MAP_UPDATE_ELEM` takes.
#[repr(C)]
struct MapElemAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The part that `BPF_OBJ_GET_INFO_BY_FD` takes.
#[repr(C)]
struct GetInfoAttr {
    fd: u32,
    info_len: u32,
    info: u64,
}

/// The part that `BPF_BTF_GET_NEXT_ID` and `BPF_BTF_GET_FD_BY_ID` take.
#[repr(C)]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
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

/// `struct bpf_btf_info`.
#[repr(C)]
#[derive(Default)]
struct BtfInfo {
    btf: u64,
    btf_size: u32,
    id: u32,
    name: u64,
    name_len: u32,
    kernel_btf: u32,
}
const _: () = assert!(size_of::<BtfInfo>() == 32);

/// Makes the system call.
///
/// # Safety
/// `attr` has to be the part of `union bpf_attr` that `command` takes, and its addresses have to be those of memory of
/// the lengths that stand beside them.
#[cfg(target_os = "linux")]
unsafe fn bpf<T>(command: i32, attr: &mut T) -> Result<RawFd, Errno> {
    // SAFETY: the kernel reads and writes no more than the size that it is told, and the memory that `attr` names.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    let errno = || {
        let errno = io::Error::last_os_error().raw_os_error();
        Errno(errno.map_or(libc::EIO.unsigned_abs(), i32::unsigned_abs))
    };
    if result < 0 { Err(errno()) } else { RawFd::try_from(result).map_err(|_| errno()) }
}

/// No other system has it.
#[cfg(not(target_os = "linux"))]
unsafe fn bpf<T>(_: i32, _: &mut T) -> Result<RawFd, Errno> {
    Err(Errno(libc::ENOSYS.unsigned_abs()))
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
    // More than that is refused by its length.
    u32::try_from(items).unwrap_or(u32::MAX)
}

fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made it, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A descriptor as `union bpf_attr` and instructions have it.
pub fn raw(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn text(log: &[u8]) -> String {
    String::from_utf8_lossy(log.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
}

/// A name as the kernel takes it: what it does not take in names becomes an underscore.
fn kernel_name(name: &[u8]) -> [u8; NAME_LEN] {
    let mut out = [0; NAME_LEN];
    for (out, &byte) in out.iter_mut().take(NAME_LEN - 1).zip(name) {
        *out = if byte.is_ascii_alphanumeric() || byte == b'.' { byte } else { b'_' };
    }
    out
}

/// Loads BTF.
///
/// # Errors
/// The errno, and the kernel's log.
pub fn load_btf(btf: &[u8]) -> Result<OwnedFd, (Errno, String)> {
    let mut attr = BtfLoadAttr { btf: address(btf), btf_size: count(btf.len()), ..BtfLoadAttr::default() };
    // SAFETY: `btf` lives until the call is over.
    if let Ok(fd) = unsafe { bpf(BTF_LOAD, &mut attr) } {
        return Ok(own(fd));
    }
    let mut log = vec![0_u8; LOG_LEN];
    (attr.log_buf, attr.log_size, attr.log_level) = (address_mut(&mut log), count(log.len()), LOG_REASONS);
    // SAFETY: as above, and so does `log`, which nothing else looks at meanwhile.
    unsafe { bpf(BTF_LOAD, &mut attr) }.map(own).map_err(|errno| (errno, text(&log)))
}

/// A map to create.
#[derive(Clone, Copy, Debug, Default)]
pub struct MapSpec<'a> {
    /// `enum bpf_map_type`.
    pub map_type: u32,
    /// In **bytes**.
    pub key_size: u32,
    /// In **bytes**.
    pub value_size: u32,
    /// Number of elements.
    pub max_entries: u32,
    /// `BPF_F_…`.
    pub flags: u32,
    /// What some types take beside.
    pub extra: u64,
    /// Its name; cut to what the kernel takes.
    pub name: &'a [u8],
    /// What the maps in it are like, of a map of maps.
    pub inner: Option<&'a OwnedFd>,
    /// BTF of the program, and its types of key and value.
    pub types: Option<(&'a OwnedFd, u32, u32)>,
}

/// Creates a map.
///
/// # Errors
/// If the kernel refuses it.
pub fn create_map(spec: &MapSpec<'_>) -> Result<OwnedFd, Errno> {
    let (btf_fd, key, value) = spec.types.map_or((0, 0, 0), |(btf, key, value)| (raw(btf), key, value));
    let mut attr = MapCreateAttr {
        map_type: spec.map_type,
        key_size: spec.key_size,
        value_size: spec.value_size,
        max_entries: spec.max_entries,
        map_flags: spec.flags,
        inner_map_fd: spec.inner.map_or(0, raw),
        map_name: kernel_name(spec.name),
        btf_fd,
        btf_key_type_id: key,
        btf_value_type_id: value,
        map_extra: spec.extra,
        ..MapCreateAttr::default()
    };
    // SAFETY: there are no addresses.
    unsafe { bpf(MAP_CREATE, &mut attr) }.map(own)
}

/// Sets element 0 of an array.
///
/// # Errors
/// If the kernel refuses it. `value` has to be as long as the map's values: the kernel would read further.
pub fn set_first(map: &OwnedFd, spec: &MapSpec<'_>, value: &[u8]) -> Result<(), Errno> {
    // The value of an array for each CPU would be longer.
    if (spec.map_type, spec.key_size) != (ARRAY, 4) || value.len() != spec.value_size as usize {
        return Err(Errno(libc::EINVAL.unsigned_abs()));
    }
    let key = [0_u32];
    let mut attr =
        MapElemAttr { map_fd: raw(map), pad: 0, key: address(&key), value: address(value), flags: 0 };
    // SAFETY: `key` and `value` have the lengths that the map was made with, and live until the call is over.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

/// Forbids user space to change a map, so that the verifier knows what is in it.
///
/// # Errors
/// If the kernel refuses it.
pub fn freeze(map: &OwnedFd) -> Result<(), Errno> {
    let mut attr = MapElemAttr { map_fd: raw(map), pad: 0, key: 0, value: 0, flags: 0 };
    // SAFETY: there are no addresses.
    unsafe { bpf(MAP_FREEZE, &mut attr) }.map(drop)
}

/// A program to load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Program<'a> {
    /// `enum bpf_prog_type`.
    pub prog_type: u32,
    /// `enum bpf_attach_type`.
    pub attach_type: u32,
    /// `BPF_F_…`.
    pub flags: u32,
    /// Instructions in the machine's byte order, 8 bytes each.
    pub insns: &'a [u8],
    /// Its licence.
    pub license: &'a [u8],
    /// Its name; cut to what the kernel takes.
    pub name: &'a [u8],
    /// Its BTF.
    pub btf: Option<&'a OwnedFd>,
    /// Instruction, FUNC.
    pub func_info: &'a [[u32; 2]],
    /// Instruction, file name, line, line and column.
    pub line_info: &'a [[u32; 4]],
    /// Offset in **bytes**, type, access string, kind.
    pub core_relos: &'a [[u32; 4]],
    /// The kernel's type that it attaches to; 0 for none.
    pub attach_btf_id: u32,
    /// The module that this type is of.
    pub attach_btf: Option<&'a OwnedFd>,
    /// What calls of kfuncs in modules number; the first is not used.
    pub fd_array: &'a [u32],
    /// A detached PKCS #7 signature of the instructions, DER, and the keyring that has the key. Since 6.18.
    pub signature: Option<(&'a [u8], i32)>,
}

/// What the kernel made of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Why it refused the program, if so.
    pub errno: Option<Errno>,
    /// The verifier's log, if it was asked for; empty if the program was taken.
    pub log: String,
    /// The instructions as the verifier left them, if the program was taken.
    pub insns: Vec<u8>,
}

/// Loads a program, lets go of it, and says what became of it.
pub fn load(program: &Program<'_>) -> Loaded {
    match load_with(program, 0, &mut []).and_then(|fd| translated(&fd)) {
        Ok(insns) => Loaded { insns, ..Loaded::default() },
        Err(errno) => Loaded { errno: Some(errno), ..Loaded::default() },
    }
}

/// Loads a program once more that was refused. What the verifier says; of a very long log the beginning and the end.
pub fn log(program: &Program<'_>) -> String {
    let mut log = vec![0_u8; LOG_LEN];
    let refused = load_with(program, LOG_REASONS | LOG_FIXED, &mut log).err();
    let mut told = text(&log);
    // The beginning was too long; or the kernel does not know the flag, and has said nothing.
    if refused == Some(Errno(libc::ENOSPC.unsigned_abs())) || told.is_empty() {
        log.fill(0);
        let _ = load_with(program, LOG_REASONS, &mut log);
        told += &text(&log);
    }
    told
}

fn load_with(program: &Program<'_>, log_level: u32, log: &mut [u8]) -> Result<OwnedFd, Errno> {
    // The kernel wants instructions aligned, and the licence to end.
    let insns: Vec<u64> = program.insns.as_chunks().0.iter().map(|insn| u64::from_ne_bytes(*insn)).collect();
    let license = [program.license, b"\0"].concat();
    let mut attr = ProgLoadAttr {
        prog_type: program.prog_type,
        insn_cnt: count(insns.len()),
        insns: address(&insns),
        license: address(&license),
        log_level,
        log_size: count(log.len()),
        log_buf: address_mut(log),
        prog_flags: program.flags,
        prog_name: kernel_name(program.name),
        expected_attach_type: program.attach_type,
        attach_btf_id: program.attach_btf_id,
        attach_btf_obj_fd: program.attach_btf.map_or(0, raw),
        fd_array: address(program.fd_array),
        ..ProgLoadAttr::default()
    };
    if let Some((signature, keyring)) = program.signature {
        (attr.signature, attr.signature_size) = (address(signature), count(signature.len()));
        attr.keyring_id = keyring;
    }
    if let Some(btf) = program.btf {
        attr.prog_btf_fd = raw(btf);
        (attr.func_info, attr.func_info_cnt) = (address(program.func_info), count(program.func_info.len()));
        (attr.line_info, attr.line_info_cnt) = (address(program.line_info), count(program.line_info.len()));
        (attr.core_relos, attr.core_relo_cnt) =
            (address(program.core_relos), count(program.core_relos.len()));
        (attr.func_info_rec_size, attr.line_info_rec_size, attr.core_relo_rec_size) = (8, 16, 16);
    }
    // SAFETY: everything that `attr` names lives until the call is over, with the lengths that stand there; nothing
    // else looks at `log` meanwhile.
    unsafe { bpf(PROG_LOAD, &mut attr) }.map(own)
}

/// The instructions as the verifier left them.
fn translated(program: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let mut insns = Vec::new();
    // The first round asks for the length.
    for _ in 0..2 {
        let mut info = ProgInfo {
            xlated_prog_len: count(insns.len()),
            xlated_prog_insns: address_mut(&mut insns),
            ..ProgInfo::default()
        };
        // SAFETY: `insns` has the length that stands in `info`, and nothing else looks at it meanwhile.
        unsafe { get_info(program, &mut info) }?;
        insns.resize(info.xlated_prog_len as usize, 0_u8);
    }
    Ok(insns)
}

/// # Safety
/// `T` has to be the start of what the kernel says of such a descriptor, and its addresses have to be those of memory of
/// the lengths that stand beside them.
unsafe fn get_info<T>(of: &OwnedFd, info: &mut T) -> Result<(), Errno> {
    let info = std::ptr::from_mut(info).expose_provenance() as u64;
    let mut attr = GetInfoAttr { fd: raw(of), info_len: count(size_of::<T>()), info };
    // SAFETY: `info` is of the length that stands there; for the rest the caller stands.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) }.map(drop)
}

/// The kernel's own BTF objects: names of vmlinux and modules, and how to refer to them.
pub fn kernel_btfs() -> Vec<(String, OwnedFd)> {
    let mut found = Vec::new();
    let mut after = IdAttr::default();
    // SAFETY: there are no addresses.
    while unsafe { bpf(BTF_GET_NEXT_ID, &mut after) }.is_ok() {
        let mut this = IdAttr { id: after.next_id, ..IdAttr::default() };
        after.id = after.next_id;
        // SAFETY: there are no addresses. One that is gone meanwhile is passed over.
        let Ok(fd) = (unsafe { bpf(BTF_GET_FD_BY_ID, &mut this) }).map(own) else { continue };
        let mut name = [0_u8; 128];
        let mut info = BtfInfo { name: address_mut(&mut name), name_len: 128, ..BtfInfo::default() };
        // SAFETY: `name` has the length that stands in `info`, and nothing else looks at it meanwhile.
        if unsafe { get_info(&fd, &mut info) }.is_ok() && info.kernel_btf != 0 {
            found.push((text(&name), fd));
        }
    }
    found
}
