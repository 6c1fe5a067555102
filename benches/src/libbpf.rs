//! libbpf 1.7: its own CO-RE functions, driven in the order in which `bpf_object__load` does.
//!
//! For each record: root name, one candidate list per local type id, calculation (which prunes that list), patch. A
//! fatal record ends the load; here the next one is answered as if that had not been there, as btfleet does, so that
//! both do the same work. Messages are off. All that calls C is in this module, clocks included.
#![expect(unsafe_code, reason = "calls libbpf and the clocks of the C library")]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::io;
use std::ptr::{self, NonNull};
use std::time::Duration;

use btfleet_tests::oracle::{ExtractedObject, elf_section, extract};
use libbpf_sys as lb;

use crate::Round;
use crate::answer::{Answer, Status};
use crate::clock::{Stopwatch, Time};
use crate::workload::{File, Workload};

const EINVAL: u32 = 22;
const TYPE_ID_LOCAL: u32 = 6;
const LDIMM64: u8 = 0x18;

/// `struct bpf_core_cand`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Cand {
    btf: *const lb::btf,
    id: u32,
}

/// `struct bpf_core_cand_list`.
#[repr(C)]
#[derive(Debug)]
struct CandList {
    cands: *mut Cand,
    len: c_int,
}

/// `struct bpf_core_accessor`.
#[repr(C)]
struct Accessor {
    type_id: u32,
    idx: u32,
    name: *const c_char,
}

/// `struct bpf_core_spec`, of which only the size matters here.
#[repr(C)]
struct Spec {
    btf: *const c_void,
    spec: [Accessor; 64],
    root_type_id: u32,
    relo_kind: u32,
    len: c_int,
    raw_spec: [c_int; 64],
    raw_len: c_int,
    bit_offset: u32,
}

/// `struct bpf_core_relo_res`.
#[repr(C)]
#[derive(Default)]
struct RelocRes {
    orig_val: u64,
    new_val: u64,
    poison: bool,
    validate: bool,
    fail_memsz_adjust: bool,
    orig_sz: u32,
    orig_type_id: u32,
    new_sz: u32,
    new_type_id: u32,
}

/// `struct bpf_core_relo`.
#[repr(C)]
struct CoreRelo {
    insn_off: u32,
    type_id: u32,
    access_str_off: u32,
    kind: u32,
}

/// `struct timespec` where `long` has 64 bits.
#[repr(C)]
#[derive(Default)]
struct Timespec {
    secs: i64,
    nanos: c_long,
}

unsafe extern "C" {
    fn bpf_core_add_cands(
        local_cand: *mut Cand,
        local_essent_len: usize,
        targ_btf: *const lb::btf,
        targ_btf_name: *const c_char,
        targ_start_id: c_int,
        cands: *mut CandList,
    ) -> c_int;
    fn bpf_core_calc_relo_insn(
        prog_name: *const c_char,
        relo: *const CoreRelo,
        relo_idx: c_int,
        local_btf: *const lb::btf,
        cands: *mut CandList,
        specs_scratch: *mut Spec,
        targ_res: *mut RelocRes,
    ) -> c_int;
    fn bpf_core_patch_insn(
        prog_name: *const c_char,
        insn: *mut c_void,
        insn_idx: c_int,
        relo: *const CoreRelo,
        relo_idx: c_int,
        res: *const RelocRes,
    ) -> c_int;
    fn bpf_core_essential_name_len(name: *const c_char) -> usize;
    fn free(ptr: *mut c_void);
    fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
    fn getrusage(who: c_int, usage: *mut [c_long; 18]) -> c_int;
}

/// CPU time of this thread, user and system.
pub fn thread_cpu_time() -> Duration {
    const CLOCK_THREAD_CPUTIME_ID: c_int = 3;
    clock(CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of all threads of this process, user and system.
pub fn process_cpu_time() -> Duration {
    const CLOCK_PROCESS_CPUTIME_ID: c_int = 2;
    clock(CLOCK_PROCESS_CPUTIME_ID)
}

fn clock(clock: c_int) -> Duration {
    let mut time = Timespec::default();
    // SAFETY: writes one `struct timespec`.
    let err = unsafe { clock_gettime(clock, &raw mut time) };
    assert_eq!(err, 0, "Linux has this clock");
    Duration::new(time.secs.unsigned_abs(), u32::try_from(time.nanos).unwrap_or(0))
}

/// Peak resident set, in KiB, of the largest child process that was waited for.
pub fn children_peak_rss_kib() -> u64 {
    const RUSAGE_CHILDREN: c_int = -1;
    let mut usage = [0; 18];
    // SAFETY: `struct rusage` is two `struct timeval` and 14 longs.
    let err = unsafe { getrusage(RUSAGE_CHILDREN, &raw mut usage) };
    assert_eq!(err, 0, "Linux has this");
    // `ru_maxrss` stands behind the two times.
    usage[4].unsigned_abs()
}

/// An owned `struct btf`.
#[derive(Debug)]
struct Btf(NonNull<lb::btf>);

impl Btf {
    /// Parses a copy of `data`.
    fn parse(data: &[u8]) -> Result<Self, String> {
        let size = u32::try_from(data.len()).map_err(|error| error.to_string())?;
        // SAFETY: `data` is `size` bytes, which libbpf copies.
        let btf = unsafe { lb::btf__new(data.as_ptr().cast(), size) };
        NonNull::new(btf).map(Self).ok_or_else(|| io::Error::last_os_error().to_string())
    }

    /// A program's BTF, whose pointers have 8 bytes.
    fn parse_local(data: &[u8]) -> Result<Self, String> {
        let btf = Self::parse(data)?;
        // SAFETY: a valid BTF.
        unsafe { lb::btf__set_pointer_size(btf.0.as_ptr(), 8) };
        Ok(btf)
    }
}

impl Drop for Btf {
    fn drop(&mut self) {
        // SAFETY: owned, and not used again.
        unsafe { lb::btf__free(self.0.as_ptr()) };
    }
}

/// An open `struct bpf_object`.
#[derive(Debug)]
struct Opened(NonNull<lb::bpf_object>);

impl Opened {
    /// Opens a copy of the file; `None` if libbpf will not.
    fn open(file: &[u8]) -> Option<Self> {
        // SAFETY: `file` outlives the call, and libbpf keeps a pointer to it only while it reads the ELF file, which
        // it does here.
        let object =
            unsafe { lb::bpf_object__open_mem(file.as_ptr().cast(), file.len() as lb::size_t, ptr::null()) };
        NonNull::new(object).map(Self)
    }

    /// Its BTF, which lives as long as it.
    fn btf(&self) -> Option<NonNull<lb::btf>> {
        // SAFETY: a valid object.
        NonNull::new(unsafe { lb::bpf_object__btf(self.0.as_ptr()) })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: owned, and not used again.
        unsafe { lb::bpf_object__close(self.0.as_ptr()) };
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Candidate search, calculation and patching.
    Relocation,
    /// Also opening the objects.
    WithObjects,
    /// Also parsing the kernel's BTF, once.
    WithObjectsAndKernel,
}

/// A kernel's BTF, parsed.
#[derive(Debug)]
pub struct Kernel(Btf);

impl Kernel {
    /// Parses a kernel's raw BTF.
    ///
    /// # Errors
    /// The system's message, if libbpf refuses it.
    pub fn parse(data: &[u8]) -> Result<Self, String> {
        Btf::parse(data).map(Self)
    }
}

/// Objects with everything parsed.
#[derive(Debug)]
pub struct Objects<'a> {
    files: &'a [File],
    /// By object; `None` if it has no records.
    parsed: Vec<Option<ParsedObject>>,
}

#[derive(Debug)]
struct ParsedObject {
    /// The records and code, read by a reader of its own.
    extracted: ExtractedObject,
    btf: Btf,
}

impl<'a> Objects<'a> {
    /// Parses objects.
    ///
    /// # Errors
    /// If libbpf refuses an object's BTF.
    pub fn new(files: &'a [File]) -> Result<Self, String> {
        // SAFETY: no callback; silences libbpf.
        unsafe { lb::libbpf_set_print(None) };
        let parsed = files.iter().map(|file| {
            let Ok(extracted) = extract(&file.data) else { return Ok(None) };
            let btf = Btf::parse_local(&extracted.program.local_btf)
                .map_err(|error| format!("{}: {error}", file.name))?;
            Ok(Some(ParsedObject { extracted, btf }))
        });
        Ok(Self { files, parsed: parsed.collect::<Result<_, String>>()? })
    }

    /// Number of records.
    pub fn records(&self) -> usize {
        self.parsed.iter().flatten().map(|it| it.extracted.program.records.len()).sum()
    }

    /// Objects that `bpf_object__open_mem` refuses: only their BTF is parsed.
    pub fn refused(&self) -> Vec<&'a str> {
        self.files.iter().filter(|it| Opened::open(&it.data).is_none()).map(|it| it.name.as_str()).collect()
    }

    /// Opens all objects, and closes each again.
    ///
    /// # Errors
    /// If a BTF is refused that was not before.
    pub fn open_all(&self) -> Result<Time, String> {
        let watch = Stopwatch::new();
        for file in self.files {
            drop(Local::of(file)?);
        }
        Ok(watch.time())
    }

    /// Relocates object number `object`, which is open, with its candidates cached. The code that it works on is copied
    /// before the time.
    pub fn relocate<'s>(&'s self, object: usize, kernel: &Kernel, answers: &mut Vec<Answer<'s>>) -> Time {
        let Some(Some(parsed)) = self.parsed.get(object) else { return Time::default() };
        let mut code = Code::new(&parsed.extracted);
        let number = u32::try_from(object).unwrap_or(u32::MAX);
        answers.reserve(parsed.extracted.program.records.len());
        let watch = Stopwatch::new();
        relocate(number, &parsed.extracted, parsed.btf.0, &kernel.0, &mut code, answers);
        watch.time()
    }
}

/// A local BTF: of an open object, or by itself where libbpf does not open the object.
enum Local {
    Object(Opened),
    BtfAlone(Btf),
}

impl Local {
    fn of(file: &File) -> Result<Self, String> {
        match Opened::open(&file.data) {
            Some(opened) => Ok(Self::Object(opened)),
            None => Btf::parse_local(elf_section(&file.data, ".BTF").unwrap_or_default()).map(Self::BtfAlone),
        }
    }

    fn btf(&self) -> Result<NonNull<lb::btf>, String> {
        match self {
            Self::Object(opened) => opened.btf().ok_or_else(|| "an opened object without BTF".to_owned()),
            Self::BtfAlone(btf) => Ok(btf.0),
        }
    }
}

/// A workload with everything parsed.
#[derive(Debug)]
pub struct Prepared<'a> {
    work: &'a Workload,
    kernel: Kernel,
    objects: Objects<'a>,
}

impl<'a> Prepared<'a> {
    /// Parses the kernel and the objects.
    ///
    /// # Errors
    /// If libbpf refuses the kernel's or an object's BTF.
    pub fn new(work: &'a Workload) -> Result<Self, String> {
        let objects = Objects::new(&work.objects)?;
        let kernel = Kernel::parse(&work.kernel).map_err(|error| format!("kernel: {error}"))?;
        Ok(Self { work, kernel, objects })
    }

    /// Number of records.
    pub fn records(&self) -> usize {
        self.objects.records()
    }

    /// As [`Objects::refused`].
    pub fn refused(&self) -> Vec<&'a str> {
        self.objects.refused()
    }

    /// Relocates all objects.
    ///
    /// # Errors
    /// If a BTF is refused that was not before.
    pub fn round(&self, scope: Scope) -> Result<Round<'_>, String> {
        let parsed = &self.objects.parsed;
        let mut code: Vec<Option<Code>> =
            parsed.iter().map(|it| it.as_ref().map(|it| Code::new(&it.extracted))).collect();
        let mut answers = Vec::with_capacity(self.records());
        let watch = Stopwatch::new();
        let own_kernel = match scope {
            Scope::WithObjectsAndKernel => Some(Kernel::parse(&self.work.kernel)?),
            _ => None,
        };
        let kernel = own_kernel.as_ref().unwrap_or(&self.kernel);
        for (number, ((file, object), code)) in (0..).zip(self.work.objects.iter().zip(parsed).zip(&mut code))
        {
            let own_local = if scope == Scope::Relocation { None } else { Some(Local::of(file)?) };
            let (Some(object), Some(code)) = (object, code) else { continue };
            let local = own_local.as_ref().map_or(Ok(object.btf.0), Local::btf)?;
            relocate(number, &object.extracted, local, &kernel.0, code, &mut answers);
        }
        drop(own_kernel);
        Ok(Round { time: watch.time(), answers })
    }
}

/// Code of the sections, each with a spare slot so that a poisoned ldimm64 at the end stays inside.
struct Code(Vec<Vec<u8>>);

impl Code {
    fn new(object: &ExtractedObject) -> Self {
        Self(
            object
                .program
                .sections
                .iter()
                .map(|it| it.code.iter().copied().chain([0; 8]).collect())
                .collect(),
        )
    }

    /// The two slots at an offset that lies inside the section.
    fn slots(&mut self, section: u32, at: u32) -> Option<&mut [u8; 16]> {
        let at = at as usize;
        self.0.get_mut(section as usize)?.get_mut(at..at.checked_add(16)?)?.try_into().ok()
    }
}

/// Candidates of one local type id, allocated by libbpf.
struct Candidates(CandList);

impl Candidates {
    fn as_slice(&self) -> &[Cand] {
        match usize::try_from(self.0.len) {
            // SAFETY: libbpf filled `len` entries.
            Ok(len) if len > 0 => unsafe { std::slice::from_raw_parts(self.0.cands, len) },
            _ => &[],
        }
    }

    /// Puts back what there was before a record that failed. `before` is not shorter than the list was allocated for.
    fn restore(&mut self, before: &[Cand]) {
        for (at, cand) in before.iter().enumerate() {
            // SAFETY: the list had as many entries, and libbpf never gives memory back.
            unsafe { self.0.cands.add(at).write(*cand) };
        }
        self.0.len = c_int::try_from(before.len()).unwrap_or(0);
    }
}

impl Drop for Candidates {
    fn drop(&mut self) {
        // SAFETY: allocated by libbpf with realloc, or null.
        unsafe { free(self.0.cands.cast()) };
    }
}

fn relocate<'a>(
    object: u32,
    extracted: &'a ExtractedObject,
    local: NonNull<lb::btf>,
    kernel: &Btf,
    code: &mut Code,
    answers: &mut Vec<Answer<'a>>,
) {
    let mut cache = HashMap::new();
    // SAFETY: zeros are a valid `Spec`: null pointers and numbers.
    let mut scratch: Box<[Spec; 3]> = Box::new(unsafe { std::mem::zeroed() });
    let mut saved = Vec::new();
    let program = &extracted.program;
    for (number, (record, section)) in (0..).zip(program.records.iter().zip(&extracted.section_names)) {
        let insn_off = record.insn_off;
        let other = |status| Answer::other(object, number, section.as_bytes(), insn_off, status);
        if insn_off % 8 != 0 {
            answers.push(other(Status::Fatal(EINVAL)));
            continue;
        }
        let inside = program.sections.get(record.section as usize).is_some_and(|it| {
            it.functions.iter().any(|&(off, len)| insn_off.checked_sub(off).is_some_and(|at| at < len))
        });
        let (true, Some(slots)) = (inside, code.slots(record.section, insn_off)) else {
            answers.push(other(Status::Skipped));
            continue;
        };
        let relo = CoreRelo {
            insn_off,
            type_id: record.type_id,
            access_str_off: record.access_str_off,
            kind: record.kind,
        };
        let len = if slots.first() == Some(&LDIMM64) { 16 } else { 8 };
        answers.push(match apply(local, &relo, kernel, &mut cache, slots, &mut scratch, &mut saved) {
            Ok(()) => {
                let bytes = slots.get(..len).unwrap_or_default();
                Answer::patched(object, number, section.as_bytes(), insn_off, bytes)
            }
            Err(errno) => other(Status::Fatal(errno)),
        });
    }
}

/// The name of a local type, as `bpf_core_resolve_relo` looks it up for every record.
fn local_name<'a>(local: NonNull<lb::btf>, id: u32) -> Option<&'a CStr> {
    // SAFETY: a valid BTF; the result is null or points to a NUL-terminated string that lives as long as it, which is
    // longer than the caller keeps it.
    unsafe {
        let ty = lb::btf__type_by_id(local.as_ptr(), id);
        let name = lb::btf__name_by_offset(local.as_ptr(), ty.as_ref()?.name_off);
        (!name.is_null()).then(|| CStr::from_ptr(name))
    }
}

fn find_candidates(local: NonNull<lb::btf>, id: u32, name: &CStr, kernel: &Btf) -> Result<Candidates, u32> {
    if name.is_empty() {
        return Err(EINVAL);
    }
    let mut list = Candidates(CandList { cands: ptr::null_mut(), len: 0 });
    let mut local_cand = Cand { btf: local.as_ptr(), id };
    // SAFETY: both BTFs are valid, the local id exists (it has a name), the list starts empty and grows by realloc.
    let err = unsafe {
        let essential_len = bpf_core_essential_name_len(name.as_ptr());
        bpf_core_add_cands(
            &raw mut local_cand,
            essential_len,
            kernel.0.as_ptr(),
            c"vmlinux".as_ptr(),
            1,
            &raw mut list.0,
        )
    };
    if err == 0 { Ok(list) } else { Err(err.unsigned_abs()) }
}

/// One record: `bpf_core_resolve_relo` and `bpf_core_patch_insn`. The positive errno if it is fatal.
fn apply(
    local: NonNull<lb::btf>,
    relo: &CoreRelo,
    kernel: &Btf,
    cache: &mut HashMap<u32, Candidates>,
    slots: &mut [u8; 16],
    scratch: &mut [Spec; 3],
    saved: &mut Vec<Cand>,
) -> Result<(), u32> {
    let name = local_name(local, relo.type_id).ok_or(EINVAL)?;
    let mut none = Candidates(CandList { cands: ptr::null_mut(), len: 0 });
    let cands = if relo.kind == TYPE_ID_LOCAL {
        &mut none
    } else {
        match cache.entry(relo.type_id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(entry) => entry.insert(find_candidates(local, relo.type_id, name, kernel)?),
        }
    };
    saved.clear();
    saved.extend_from_slice(cands.as_slice());
    let mut res = RelocRes::default();
    // SAFETY: the local id exists; the list is libbpf's own, and only shrinks; three scratch specs, zeroed as libbpf
    // has them.
    let err = unsafe {
        ptr::write_bytes(scratch.as_mut_ptr(), 0, 3);
        bpf_core_calc_relo_insn(
            c"p".as_ptr(),
            relo,
            0,
            local.as_ptr(),
            &raw mut cands.0,
            scratch.as_mut_ptr(),
            &raw mut res,
        )
    };
    if err != 0 {
        cands.restore(saved);
        return Err(err.unsigned_abs());
    }
    // `struct bpf_insn` is 4-byte aligned.
    let mut aligned = [0_u64; 2];
    for (word, bytes) in aligned.iter_mut().zip(slots.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    // SAFETY: two slots, as many as libbpf touches.
    let err = unsafe {
        bpf_core_patch_insn(c"p".as_ptr(), aligned.as_mut_ptr().cast(), 0, relo, 0, &raw const res)
    };
    if err != 0 {
        cands.restore(saved);
        return Err(err.unsigned_abs());
    }
    for (word, bytes) in aligned.iter().zip(slots.as_chunks_mut::<8>().0) {
        *bytes = word.to_ne_bytes();
    }
    Ok(())
}
