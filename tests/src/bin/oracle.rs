//! libbpf 1.7 behind a pipe: the child half of `btfleet_tests::oracle`.
//!
//! Drives libbpf's CO-RE functions in the order in which `bpf_object__load` does: root name, one candidate list per
//! local type id, calculation (which prunes that list), patch. Unlike it, goes on after a fatal record as if that had
//! not been there, and answers for big-endian objects, which libbpf refuses on a little-endian machine: it swaps their
//! BTF all the same, and only its left shifts depend on its own byte order. They are put together from its other
//! answers, see `Calculator::left_shift`.
#![expect(unsafe_code, reason = "calls libbpf; a fault stays in this process, whose parent watches it")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::{self, Read as _, Write as _};
use std::ptr::{self, NonNull};

use btfleet_tests::oracle::wire::{self, Answer, Options, Program, Request, Response, Stage, Status};
use libbpf_sys as lb;

const EINVAL: u32 = 22;
const BYTE_SIZE: u32 = 1;
const LSHIFT_U64: u32 = 4;
const RSHIFT_U64: u32 = 5;
const TYPE_ID_LOCAL: u32 = 6;

/// `struct bpf_core_cand`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
struct Cand {
    btf: *const lb::btf,
    id: u32,
}

/// `struct bpf_core_cand_list`.
#[repr(C)]
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
#[derive(Clone, Copy, Default, PartialEq, Eq)]
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
#[derive(Clone, Copy)]
struct CoreRelo {
    insn_off: u32,
    type_id: u32,
    access_str_off: u32,
    kind: u32,
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
    fn vsnprintf(buf: *mut c_char, size: usize, format: *const c_char, args: *mut lb::__va_list_tag)
    -> c_int;
    fn free(ptr: *mut c_void);
}

thread_local! {
    static LOG: RefCell<String> = const { RefCell::new(String::new()) };
}

unsafe extern "C" fn keep_log(
    _level: lb::libbpf_print_level,
    format: *const c_char,
    args: *mut lb::__va_list_tag,
) -> c_int {
    let mut line = [0_u8; 1024];
    // SAFETY: libbpf passes a format and its arguments; the result is cut to the buffer and NUL-terminated.
    unsafe { vsnprintf(line.as_mut_ptr().cast(), line.len(), format, args) };
    let text = CStr::from_bytes_until_nul(&line).unwrap_or_default().to_string_lossy();
    LOG.with_borrow_mut(|log| log.push_str(&text));
    0
}

/// An owned `struct btf`.
struct Btf(NonNull<lb::btf>);

impl Btf {
    /// Parses a copy of `data`; the positive errno if libbpf refuses it.
    fn parse(data: &[u8], base: Option<&Self>) -> Result<Self, u32> {
        let size = u32::try_from(data.len()).map_err(|_| EINVAL)?;
        let base = base.map_or(ptr::null_mut(), |b| b.0.as_ptr());
        // SAFETY: `data` is `size` bytes that libbpf copies; `base` is null or a BTF that outlives the result, since
        // `Target` drops modules first.
        let btf = unsafe { lb::btf__new_split(data.as_ptr().cast(), size, base) };
        NonNull::new(btf).map(Self).ok_or_else(last_errno)
    }

    fn name(&self, id: u32) -> Option<&CStr> {
        // SAFETY: a valid BTF; the result is null or points to a NUL-terminated string that lives as long as it.
        unsafe {
            let t = lb::btf__type_by_id(self.0.as_ptr(), id);
            let name = lb::btf__name_by_offset(self.0.as_ptr(), t.as_ref()?.name_off);
            (!name.is_null()).then(|| CStr::from_ptr(name))
        }
    }

    fn type_count(&self) -> c_int {
        // SAFETY: a valid BTF.
        let n = unsafe { lb::btf__type_cnt(self.0.as_ptr()) };
        c_int::try_from(n).unwrap_or(c_int::MAX)
    }
}

impl Drop for Btf {
    fn drop(&mut self) {
        // SAFETY: owned, and not used again.
        unsafe { lb::btf__free(self.0.as_ptr()) };
    }
}

/// The errno that libbpf has just set, positive.
fn last_errno() -> u32 {
    io::Error::last_os_error().raw_os_error().and_then(|e| u32::try_from(e).ok()).unwrap_or(EINVAL)
}

/// vmlinux and the modules split on it. Fields are dropped in order: modules before their base.
struct Target {
    modules: Vec<Btf>,
    vmlinux: Btf,
}

/// The candidates of one local type id: those left, and all.
struct Candidates {
    left: Vec<Cand>,
    all: Vec<Cand>,
}

fn find_candidates(local: &Btf, id: u32, target: &Target) -> Result<Candidates, u32> {
    let name = local.name(id).filter(|n| !n.is_empty()).ok_or(EINVAL)?;
    // SAFETY: a NUL-terminated string.
    let essential_len = unsafe { bpf_core_essential_name_len(name.as_ptr()) };
    let mut local_cand = Cand { btf: local.0.as_ptr(), id };
    let mut list = CandList { cands: ptr::null_mut(), len: 0 };
    let mut add = |btf: &Btf, first_id| {
        // SAFETY: both BTFs are valid, the local id exists (it has a name), `list` starts empty and grows by realloc.
        unsafe {
            bpf_core_add_cands(
                &raw mut local_cand,
                essential_len,
                btf.0.as_ptr(),
                c"".as_ptr(),
                first_id,
                &raw mut list,
            )
        };
        list.len
    };
    if add(&target.vmlinux, 1) == 0 {
        for module in &target.modules {
            add(module, target.vmlinux.type_count());
        }
    }
    let len = usize::try_from(list.len).unwrap_or(0);
    let all = if len == 0 {
        Vec::new()
    } else {
        // SAFETY: libbpf filled `len` entries.
        unsafe { std::slice::from_raw_parts(list.cands, len) }.to_vec()
    };
    // SAFETY: allocated by libbpf with realloc, or null.
    unsafe { free(list.cands.cast()) };
    Ok(Candidates { left: all.clone(), all })
}

/// `bpf_core_calc_relo_insn` with what it needs besides the record and the candidates.
struct Calculator<'a> {
    local: &'a Btf,
    scratch: Box<[Spec; 3]>,
    big_endian: bool,
}

impl Calculator<'_> {
    /// Calculates on `cands`, which afterwards are the survivors unless it fails.
    fn calculate(&mut self, relo: CoreRelo, cands: &mut Vec<Cand>) -> Result<RelocRes, u32> {
        if self.big_endian && relo.kind == LSHIFT_U64 {
            return self.left_shift(relo, cands);
        }
        self.as_little_endian(relo, cands)
    }

    fn as_little_endian(&mut self, relo: CoreRelo, cands: &mut Vec<Cand>) -> Result<RelocRes, u32> {
        let mut pruned = cands.clone();
        let mut list =
            CandList { cands: pruned.as_mut_ptr(), len: c_int::try_from(pruned.len()).map_err(|_| EINVAL)? };
        let mut res = RelocRes::default();
        // SAFETY: the local id exists; `list` describes `pruned`, which libbpf only shrinks; three scratch specs,
        // zeroed as libbpf has them.
        let err = unsafe {
            ptr::write_bytes(self.scratch.as_mut_ptr(), 0, 3);
            bpf_core_calc_relo_insn(
                c"p".as_ptr(),
                &raw const relo,
                0,
                self.local.0.as_ptr(),
                &raw mut list,
                self.scratch.as_mut_ptr(),
                &raw mut res,
            )
        };
        if err != 0 {
            return Err(err.unsigned_abs());
        }
        pruned.truncate(usize::try_from(list.len).unwrap_or(0));
        *cands = pruned;
        Ok(res)
    }

    /// The left shift of a big-endian field, `(8 - byte_size) * 8 + (bit_offset - byte_offset * 8)`.
    ///
    /// libbpf's little-endian answer is `64 - (bit_offset + bit_size - byte_offset * 8)` and its right shift
    /// `64 - bit_size`, so the part in brackets is the difference of the two. Candidates are judged one by one,
    /// since they may agree on one of these and not on the other.
    fn left_shift(&mut self, relo: CoreRelo, cands: &mut Vec<Cand>) -> Result<RelocRes, u32> {
        let mut survivors = Vec::new();
        let mut best: Option<(RelocRes, u32)> = None;
        for &cand in &*cands {
            let res = self.left_shift_in(relo, &[cand])?;
            if res.poison {
                continue;
            }
            let [_, _, target] = &*self.scratch;
            let bit_offset = target.bit_offset;
            let disagreement = match best {
                Some((_, other)) if other != bit_offset => "field offset ambiguity",
                Some((other, _)) if other.new_val != res.new_val => "relocation decision ambiguity",
                _ => "",
            };
            if !disagreement.is_empty() {
                LOG.with_borrow_mut(|log| log.push_str(disagreement));
                return Err(EINVAL);
            }
            best.get_or_insert((res, bit_offset));
            survivors.push(cand);
        }
        match best {
            Some((res, _)) => {
                *cands = survivors;
                Ok(res)
            }
            None => self.left_shift_in(relo, &[]),
        }
    }

    /// The same with one candidate or none.
    fn left_shift_in(&mut self, relo: CoreRelo, cands: &[Cand]) -> Result<RelocRes, u32> {
        let mut res = self.as_little_endian(relo, &mut cands.to_vec())?;
        let size = self.as_little_endian(CoreRelo { kind: BYTE_SIZE, ..relo }, &mut cands.to_vec())?;
        let right = self.as_little_endian(CoreRelo { kind: RSHIFT_U64, ..relo }, &mut cands.to_vec())?;
        // Bit arithmetic is u32 there and wraps.
        let low = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap_or_default();
        let turned = |left: u64, size: u64, right: u64| {
            let unused = 8_u32.wrapping_sub(low(size)).wrapping_mul(8);
            u64::from(unused.wrapping_add(low(right)).wrapping_sub(low(left)))
        };
        res.orig_val = turned(res.orig_val, size.orig_val, right.orig_val);
        if !res.poison {
            res.new_val = turned(res.new_val, size.new_val, right.new_val);
        }
        Ok(res)
    }
}

/// Code of the sections, each with a spare slot so that a poisoned ldimm64 at the end stays inside.
struct Code {
    sections: Vec<Vec<u8>>,
}

impl Code {
    /// The two slots at an offset that lies inside the section.
    fn slots(&mut self, section: u32, at: u32) -> Option<&mut [u8; 16]> {
        let (section, at) = (section as usize, at as usize);
        self.sections.get_mut(section)?.get_mut(at..at.checked_add(16)?)?.try_into().ok()
    }
}

fn relocate(program: &Program, options: Options, target: &Target) -> Result<Vec<Answer>, u32> {
    let local = Btf::parse(&program.local_btf, None)?;
    // SAFETY: a valid BTF.
    unsafe { lb::btf__set_pointer_size(local.0.as_ptr(), 8) };
    let sections = program.sections.iter().map(|s| s.code.iter().copied().chain([0; 8]).collect()).collect();
    let mut code = Code { sections };
    let mut cache = HashMap::new();
    // SAFETY: zeros are a valid `Spec`: null pointers and numbers.
    let scratch: Box<[Spec; 3]> = Box::new(unsafe { std::mem::zeroed() });
    let big_endian = program.local_btf.starts_with(&[0xeb, 0x9f]);
    let mut calculator = Calculator { local: &local, scratch, big_endian };
    // SAFETY: the callback is of the right type and lives for ever.
    unsafe { lb::libbpf_set_print(if options.log { Some(keep_log) } else { None }) };

    let mut answers = Vec::with_capacity(program.records.len());
    for record in &program.records {
        LOG.with_borrow_mut(String::clear);
        let mut answer = Answer::default();
        if record.insn_off % 8 != 0 {
            (answer.status, answer.errno) = (Status::Fatal, EINVAL);
            answers.push(answer);
            continue;
        }
        let inside = program.sections.get(record.section as usize).is_some_and(|s| {
            s.functions.iter().any(|&(off, len)| record.insn_off.checked_sub(off).is_some_and(|at| at < len))
        });
        let before = code.slots(record.section, record.insn_off).copied();
        let (true, Some(before)) = (inside, before) else {
            answer.status = Status::NoProgram;
            answers.push(answer);
            continue;
        };
        let relo = CoreRelo {
            insn_off: record.insn_off,
            type_id: record.type_id,
            access_str_off: record.access_str_off,
            kind: record.kind,
        };
        let slots = code.slots(record.section, record.insn_off).expect("found above");
        let outcome = apply(&mut calculator, relo, target, &mut cache, slots, &mut answer, options);
        if let Err(errno) = outcome {
            (answer.status, answer.errno) = (Status::Fatal, errno);
            *slots = before;
        }
        let len = if before[0] == 0x18 { 16 } else { 8 };
        answer.insn = slots.iter().copied().take(len).collect();
        answer.log = LOG.with_borrow(String::clone);
        answers.push(answer);
    }
    Ok(answers)
}

fn apply(
    calculator: &mut Calculator<'_>,
    relo: CoreRelo,
    target: &Target,
    cache: &mut HashMap<u32, Candidates>,
    slots: &mut [u8; 16],
    answer: &mut Answer,
    options: Options,
) -> Result<(), u32> {
    let local = calculator.local;
    local.name(relo.type_id).ok_or(EINVAL)?;
    let mut none = Candidates { left: Vec::new(), all: Vec::new() };
    let cands = if relo.kind == TYPE_ID_LOCAL {
        &mut none
    } else if let Some(known) = cache.get_mut(&relo.type_id) {
        known
    } else {
        answer.stage = Stage::Candidates;
        let found = find_candidates(local, relo.type_id, target)?;
        cache.entry(relo.type_id).or_insert(found)
    };
    let count = |list: &[Cand]| u32::try_from(list.len()).unwrap_or(u32::MAX);
    answer.stage = Stage::Calculate;
    answer.cands = (count(&cands.left), count(&cands.left));
    let before = cands.left.clone();
    let result = calculator.calculate(relo, &mut cands.left);
    answer.cands.1 = count(&cands.left);
    if options.compare_pruning && before != cands.all {
        let log = LOG.take();
        let alone = calculator.calculate(relo, &mut cands.all.clone());
        LOG.set(log);
        if alone != result {
            answer.without_pruning = Some(match alone {
                Ok(res) => (0, res.poison, res.new_val),
                Err(errno) => (errno, false, 0),
            });
        }
    }
    let res = result?;
    answer.orig_val = res.orig_val;
    answer.new_val = res.new_val;
    answer.poison = res.poison;
    answer.validate = res.validate;
    answer.fail_memsz_adjust = res.fail_memsz_adjust;
    answer.orig_sz = res.orig_sz;
    answer.new_sz = res.new_sz;
    answer.orig_type_id = res.orig_type_id;
    answer.new_type_id = res.new_type_id;
    answer.stage = Stage::Patch;
    // `struct bpf_insn` is 4-byte aligned.
    let mut aligned = [0_u64; 2];
    for (word, bytes) in aligned.iter_mut().zip(slots.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    // SAFETY: two slots, as many as libbpf touches.
    let err = unsafe {
        bpf_core_patch_insn(c"p".as_ptr(), aligned.as_mut_ptr().cast(), 0, &raw const relo, 0, &raw const res)
    };
    if err != 0 {
        cands.left = before;
        answer.cands.1 = answer.cands.0;
        return Err(err.unsigned_abs());
    }
    for (word, bytes) in aligned.iter().zip(slots.as_chunks_mut::<8>().0) {
        *bytes = word.to_ne_bytes();
    }
    Ok(())
}

fn open(object: &[u8]) -> Result<u32, u32> {
    // SAFETY: the buffer outlives the object, which is closed before the return.
    unsafe {
        let opened =
            lb::bpf_object__open_mem(object.as_ptr().cast(), object.len() as lb::size_t, ptr::null());
        if opened.is_null() {
            return Err(last_errno());
        }
        let mut n = 0;
        let mut program = lb::bpf_object__next_program(opened, ptr::null_mut());
        while !program.is_null() {
            n += 1;
            program = lb::bpf_object__next_program(opened, program);
        }
        lb::bpf_object__close(opened);
        Ok(n)
    }
}

fn answer(request: Request, target: &mut Option<Target>) -> Response {
    match request {
        Request::Target(vmlinux, modules) => {
            *target = None;
            let vmlinux = match Btf::parse(&vmlinux, None) {
                Ok(btf) => btf,
                Err(errno) => return Response::Refused(2, errno),
            };
            match modules.iter().map(|m| Btf::parse(m, Some(&vmlinux))).collect() {
                Ok(modules) => *target = Some(Target { modules, vmlinux }),
                Err(errno) => return Response::Refused(3, errno),
            }
            Response::Done(0)
        }
        Request::Relocate(program, options) => {
            let Some(target) = target else { return Response::Refused(2, EINVAL) };
            match relocate(&program, options, target) {
                Ok(answers) => Response::Answers(answers),
                Err(errno) => Response::Refused(1, errno),
            }
        }
        Request::Open(object) => match open(&object) {
            Ok(n) => Response::Done(n),
            Err(errno) => Response::Refused(4, errno),
        },
        Request::EssentialLen(names) => Response::Numbers(
            names
                .into_iter()
                .map(|name| {
                    let name = CString::new(name).unwrap_or_default();
                    // SAFETY: a NUL-terminated string.
                    let len = unsafe { bpf_core_essential_name_len(name.as_ptr()) };
                    u32::try_from(len).unwrap_or(u32::MAX)
                })
                .collect(),
        ),
        Request::Misbehave(hang) => loop {
            if !hang {
                std::process::abort();
            }
            std::thread::park();
        },
    }
}

fn main() -> io::Result<()> {
    // SAFETY: no callback; silences libbpf.
    unsafe { lb::libbpf_set_print(None) };
    let mut input = io::stdin().lock();
    let mut output = io::stdout().lock();
    let mut target = None;
    let mut len = [0; 4];
    // The parent closes the pipe when it is done.
    while input.read_exact(&mut len).is_ok() {
        let mut payload = vec![0; u32::from_le_bytes(len) as usize];
        input.read_exact(&mut payload)?;
        let request = wire::decode_request(&payload).ok_or_else(|| io::Error::other("malformed request"))?;
        let response = wire::encode_response(&answer(request, &mut target));
        let frame_len = u32::try_from(response.len()).map_err(io::Error::other)?;
        output.write_all(&frame_len.to_le_bytes())?;
        output.write_all(&response)?;
        output.flush()?;
    }
    Ok(())
}
