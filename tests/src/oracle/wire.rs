//! What parent and child say to each other, and its bytes.

/// Functions and code of one ELF section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeSection {
    /// The section's instructions, little-endian.
    pub code: Vec<u8>,
    /// Functions: (offset, length), both in bytes.
    pub functions: Vec<(u32, u32)>,
}

/// One CO-RE record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// Index into [`Program::sections`]; out of range means that the section does not exist.
    pub section: u32,
    /// Offset in **bytes** in that section.
    pub insn_off: u32,
    /// Root type, an id of the local BTF.
    pub type_id: u32,
    /// Offset of the access string in the local BTF's strings.
    pub access_str_off: u32,
    /// `enum bpf_core_relo_kind`, any value.
    pub kind: u32,
}

/// What is relocated: local BTF, code and records in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// A `.BTF` section.
    pub local_btf: Vec<u8>,
    /// Code, by section.
    pub sections: Vec<CodeSection>,
    /// Records in file order.
    pub records: Vec<Record>,
}

/// What is asked for besides the answers themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Fill [`Answer::log`] (slow: libbpf formats everything).
    pub log: bool,
    /// Fill [`Answer::without_pruning`].
    pub compare_pruning: bool,
}

/// How a record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Applied (or poisoned).
    Ok,
    /// libbpf gives up; [`Answer::errno`] says with what, [`Answer::stage`] where.
    Fatal,
    /// Not inside any function: skipped.
    NoProgram,
}

/// Where a record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Checks of the record: instruction offset, type id, root name.
    Record,
    /// Candidate search.
    Candidates,
    /// `bpf_core_calc_relo_insn`.
    Calculate,
    /// `bpf_core_patch_insn`; also where records without error end.
    Patch,
}

/// libbpf's answer to one record. Values are as calculated, zero if it did not get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How it ended.
    pub status: Status,
    /// Where it ended.
    pub stage: Stage,
    /// Positive errno if fatal, else 0.
    pub errno: u32,
    /// Value that the local BTF implies.
    pub orig_val: u64,
    /// Value to patch in.
    pub new_val: u64,
    /// Unresolved: the instruction is replaced by an invalid call.
    pub poison: bool,
    /// The instruction's present value is compared with `orig_val`.
    pub validate: bool,
    /// The access width cannot be adjusted: poison if the instruction is a load or store.
    pub fail_memsz_adjust: bool,
    /// Size in bytes of the local field for width adjustment.
    pub orig_sz: u32,
    /// Size in bytes of the target field.
    pub new_sz: u32,
    /// Local type that `orig_sz` is about.
    pub orig_type_id: u32,
    /// Target type that `new_sz` is about.
    pub new_type_id: u32,
    /// Candidates before and after the record (0, 0 for TYPE_ID_LOCAL and where the search was not reached).
    pub cands: (u32, u32),
    /// The instruction afterwards: 16 bytes for ldimm64 (also poisoned), 8 for others, none if it does not exist.
    pub insn: Vec<u8>,
    /// With [`Options::compare_pruning`]: what the record would have given with all candidates, if that differs:
    /// errno, poison, new value.
    pub without_pruning: Option<(u32, bool, u64)>,
    /// With [`Options::log`]: libbpf's lines about the record.
    pub log: String,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            status: Status::Ok,
            stage: Stage::Record,
            errno: 0,
            orig_val: 0,
            new_val: 0,
            poison: false,
            validate: false,
            fail_memsz_adjust: false,
            orig_sz: 0,
            new_sz: 0,
            orig_type_id: 0,
            new_type_id: 0,
            cands: (0, 0),
            insn: Vec::new(),
            without_pruning: None,
            log: String::new(),
        }
    }
}

impl Answer {
    /// Whether the instruction is the invalid call now, for either reason.
    #[must_use]
    pub fn insn_poisoned(&self) -> bool {
        self.insn.get(..8) == Some(&[0x85, 0, 0, 0, 0x10, 0x23, 0xad, 0x0b])
    }
}

/// A request as the child reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Parse and keep a target: vmlinux, then modules split on it.
    Target(Vec<u8>, Vec<Vec<u8>>),
    /// Relocate against the kept target.
    Relocate(Program, Options),
    /// Open an object with `bpf_object__open_mem`.
    Open(Vec<u8>),
    /// Lengths of essential names.
    EssentialLen(Vec<String>),
    /// Crash or hang on purpose: the watchdog's own test.
    Misbehave(bool),
}

/// What the child answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// One answer per record.
    Answers(Vec<Answer>),
    /// A number: programs of an opened object; 0 for a target.
    Done(u32),
    /// libbpf refused a whole input: 1 local BTF, 2 target BTF, 3 module BTF, 4 object; and the positive errno.
    Refused(u8, u32),
    /// Numbers, in the order asked.
    Numbers(Vec<u32>),
}

/// Writes a message.
#[derive(Debug, Default)]
struct Out(Vec<u8>);

impl Out {
    fn u8(&mut self, v: u8) {
        self.0.push(v);
    }
    fn u32(&mut self, v: u32) {
        self.0.extend(v.to_le_bytes());
    }
    fn u64(&mut self, v: u64) {
        self.0.extend(v.to_le_bytes());
    }
    fn len(&mut self, n: usize) {
        self.u32(u32::try_from(n).expect("messages are below 4 GiB"));
    }
    fn bytes(&mut self, v: &[u8]) {
        self.len(v.len());
        self.0.extend_from_slice(v);
    }
}

/// Reads a message; `None` if it is cut short.
struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }
    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }
    fn flag(&mut self) -> Option<bool> {
        Some(self.u8()? != 0)
    }
    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }
    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
    fn bytes(&mut self) -> Option<Vec<u8>> {
        let n = self.u32()? as usize;
        Some(self.take(n)?.to_vec())
    }
    fn string(&mut self) -> Option<String> {
        Some(String::from_utf8_lossy(&self.bytes()?).into_owned())
    }
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let n = self.u32()?;
        (0..n).map(|_| item(self)).collect()
    }
}

/// The bytes of a [`Request::Target`], without owning the sections.
#[must_use]
pub fn encode_target(target: &[u8], modules: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Out::default();
    out.u8(0);
    out.bytes(target);
    out.len(modules.len());
    for module in modules {
        out.bytes(module);
    }
    out.0
}

/// The bytes of a [`Request::Relocate`].
#[must_use]
pub fn encode_relocate(program: &Program, options: Options) -> Vec<u8> {
    let mut out = Out::default();
    out.u8(1);
    out.u8(u8::from(options.log));
    out.u8(u8::from(options.compare_pruning));
    out.bytes(&program.local_btf);
    out.len(program.sections.len());
    for section in &program.sections {
        out.bytes(&section.code);
        out.len(section.functions.len());
        for &(off, len) in &section.functions {
            out.u32(off);
            out.u32(len);
        }
    }
    out.len(program.records.len());
    for r in &program.records {
        for v in [r.section, r.insn_off, r.type_id, r.access_str_off, r.kind] {
            out.u32(v);
        }
    }
    out.0
}

/// The bytes of a [`Request::Open`].
#[must_use]
pub fn encode_open(object: &[u8]) -> Vec<u8> {
    let mut out = Out::default();
    out.u8(2);
    out.bytes(object);
    out.0
}

/// The bytes of a [`Request::EssentialLen`].
#[must_use]
pub fn encode_essential_len(names: &[&str]) -> Vec<u8> {
    let mut out = Out::default();
    out.u8(3);
    out.len(names.len());
    for name in names {
        out.bytes(name.as_bytes());
    }
    out.0
}

/// The bytes of a [`Request::Misbehave`].
#[must_use]
pub fn encode_misbehave(hang: bool) -> Vec<u8> {
    vec![4, u8::from(hang)]
}

/// Reads a request; `None` if it is malformed.
#[must_use]
pub fn decode_request(payload: &[u8]) -> Option<Request> {
    let mut input = In(payload);
    match input.u8()? {
        0 => Some(Request::Target(input.bytes()?, input.list(In::bytes)?)),
        1 => {
            let options = Options { log: input.flag()?, compare_pruning: input.flag()? };
            let local_btf = input.bytes()?;
            let sections = input.list(|i| {
                let code = i.bytes()?;
                Some(CodeSection { code, functions: i.list(|i| Some((i.u32()?, i.u32()?)))? })
            })?;
            let records = input.list(|i| {
                Some(Record {
                    section: i.u32()?,
                    insn_off: i.u32()?,
                    type_id: i.u32()?,
                    access_str_off: i.u32()?,
                    kind: i.u32()?,
                })
            })?;
            Some(Request::Relocate(Program { local_btf, sections, records }, options))
        }
        2 => Some(Request::Open(input.bytes()?)),
        3 => Some(Request::EssentialLen(input.list(In::string)?)),
        4 => Some(Request::Misbehave(input.flag()?)),
        _ => None,
    }
}

/// The bytes of a response.
#[must_use]
pub fn encode_response(response: &Response) -> Vec<u8> {
    let mut out = Out::default();
    match response {
        Response::Answers(answers) => {
            out.u8(0);
            out.len(answers.len());
            for a in answers {
                out.u8(match a.status {
                    Status::Ok => 0,
                    Status::Fatal => 1,
                    Status::NoProgram => 2,
                });
                out.u8(match a.stage {
                    Stage::Record => 0,
                    Stage::Candidates => 1,
                    Stage::Calculate => 2,
                    Stage::Patch => 3,
                });
                out.u32(a.errno);
                out.u64(a.orig_val);
                out.u64(a.new_val);
                out.u8(u8::from(a.poison) | u8::from(a.validate) << 1 | u8::from(a.fail_memsz_adjust) << 2);
                for v in [a.orig_sz, a.new_sz, a.orig_type_id, a.new_type_id, a.cands.0, a.cands.1] {
                    out.u32(v);
                }
                out.bytes(&a.insn);
                out.u8(u8::from(a.without_pruning.is_some()));
                if let Some((errno, poison, value)) = a.without_pruning {
                    out.u32(errno);
                    out.u8(u8::from(poison));
                    out.u64(value);
                }
                out.bytes(a.log.as_bytes());
            }
        }
        Response::Done(n) => {
            out.u8(1);
            out.u32(*n);
        }
        Response::Refused(what, errno) => {
            out.u8(2);
            out.u8(*what);
            out.u32(*errno);
        }
        Response::Numbers(numbers) => {
            out.u8(3);
            out.len(numbers.len());
            for &n in numbers {
                out.u32(n);
            }
        }
    }
    out.0
}

/// Reads a response; `None` if it is malformed.
#[must_use]
pub fn decode_response(payload: &[u8]) -> Option<Response> {
    let mut input = In(payload);
    match input.u8()? {
        0 => Some(Response::Answers(input.list(decode_answer)?)),
        1 => Some(Response::Done(input.u32()?)),
        2 => Some(Response::Refused(input.u8()?, input.u32()?)),
        3 => Some(Response::Numbers(input.list(In::u32)?)),
        _ => None,
    }
}

fn decode_answer(input: &mut In<'_>) -> Option<Answer> {
    let status = match input.u8()? {
        0 => Status::Ok,
        1 => Status::Fatal,
        _ => Status::NoProgram,
    };
    let stage = match input.u8()? {
        0 => Stage::Record,
        1 => Stage::Candidates,
        2 => Stage::Calculate,
        _ => Stage::Patch,
    };
    let errno = input.u32()?;
    let orig_val = input.u64()?;
    let new_val = input.u64()?;
    let flags = input.u8()?;
    Some(Answer {
        status,
        stage,
        errno,
        orig_val,
        new_val,
        poison: flags & 1 != 0,
        validate: flags & 2 != 0,
        fail_memsz_adjust: flags & 4 != 0,
        orig_sz: input.u32()?,
        new_sz: input.u32()?,
        orig_type_id: input.u32()?,
        new_type_id: input.u32()?,
        cands: (input.u32()?, input.u32()?),
        insn: input.bytes()?,
        without_pruning: if input.flag()? { Some((input.u32()?, input.flag()?, input.u64()?)) } else { None },
        log: input.string()?,
    })
}
