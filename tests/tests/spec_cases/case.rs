//! How one row of the table is built and judged.

use btfleet_engine::batch::outcomes;
use btfleet_engine::btf::Btf;
use btfleet_engine::dialect::Loader;
use btfleet_engine::fleet::Modules;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::{Object, Reloc};
use btfleet_engine::resolve::{Code, Decision, Outcome};
use btfleet_tests::build::{
    BtfBuilder, BtfExtBuilder, ByteOrder, CoreRelo, Insn, Member, ObjectBuilder, Width, code_bytes,
};

pub(crate) const BYTE_OFF: u32 = 0;
pub(crate) const BYTE_SZ: u32 = 1;
pub(crate) const EXISTS: u32 = 2;
pub(crate) const SIGNED: u32 = 3;
pub(crate) const LSHIFT: u32 = 4;
pub(crate) const RSHIFT: u32 = 5;
pub(crate) const ID_LOCAL: u32 = 6;
pub(crate) const ID_TARGET: u32 = 7;
pub(crate) const TYPE_EXISTS: u32 = 8;
pub(crate) const TYPE_SIZE: u32 = 9;
pub(crate) const ENUMVAL_EXISTS: u32 = 10;
pub(crate) const ENUMVAL_VALUE: u32 = 11;
pub(crate) const TYPE_MATCHES: u32 = 12;

/// ELF section of the records, unless a row builds an object of its own.
pub(crate) const SECTION: &str = "kprobe/x";

/// What a record has to come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// The instruction holds this value, and a load keeps its width.
    Value(u64),
    /// The instruction holds this value, and is an access of this width.
    Load(u64, Width),
    /// A query that found nothing, and why: the instruction holds 0.
    Zero(Code),
    /// The instruction is the poison call.
    Poison(Code),
    /// libbpf gives up with this errno; the stable code of the reason.
    Fatal(i32, &'static str),
    /// Not looked at.
    Skipped,
}

pub(crate) fn v(value: u64) -> Expect {
    Expect::Value(value)
}

/// One row: types on both sides, records, and what they have to come to.
pub(crate) struct Case {
    pub(crate) order: ByteOrder,
    /// Who relocates; libbpf unless a row says otherwise.
    pub(crate) loader: Loader,
    /// The program's types.
    pub(crate) local: BtfBuilder,
    /// The types of vmlinux.
    pub(crate) target: BtfBuilder,
    /// Split on `target`.
    pub(crate) modules: Vec<BtfBuilder>,
    records: Vec<(u32, u32, u32, u32)>,
    code: Vec<Insn>,
    expected: Vec<Expect>,
    /// An object in place of the one that the records make.
    pub(crate) object: Option<Vec<u8>>,
    /// Which records count; all unless a row says otherwise.
    pub(crate) active: fn(&Object<'_>, &Reloc<'_>) -> bool,
    failures: Vec<String>,
}

impl Case {
    fn new(order: ByteOrder) -> Self {
        Self {
            order,
            loader: Loader::Libbpf,
            local: BtfBuilder::new(order),
            target: BtfBuilder::new(order),
            modules: Vec::new(),
            records: Vec::new(),
            code: Vec::new(),
            expected: Vec::new(),
            object: None,
            active: |_, _| true,
            failures: Vec::new(),
        }
    }

    /// The value for the byte order at hand.
    pub(crate) fn by_order(&self, little: u64, big: u64) -> u64 {
        if self.order == ByteOrder::Little { little } else { big }
    }

    /// A record on any instructions; the record is that of the first.
    pub(crate) fn insns(&mut self, root: u32, access: &str, kind: u32, insns: &[Insn], expect: Expect) {
        let insn_off = u32::try_from(self.code.len() * 8).expect("short code");
        let access = self.local.str(access);
        self.records.push((insn_off, root, access, kind));
        self.code.extend_from_slice(insns);
        self.expected.push(expect);
    }

    /// A record on `r1 = imm`.
    pub(crate) fn mov(&mut self, root: u32, access: &str, kind: u32, imm: i32, expect: Expect) {
        self.insns(root, access, kind, &[Insn::mov(1, imm)], expect);
    }

    /// A byte offset on `r2 = *(width *)(r1 + off)`.
    pub(crate) fn ldx(&mut self, root: u32, access: &str, width: Width, off: i16, expect: Expect) {
        self.insns(root, access, BYTE_OFF, &[Insn::ldx(width, 2, 1, off)], expect);
    }

    /// A record on `r1 = imm ll`.
    pub(crate) fn ldimm64(&mut self, root: u32, access: &str, kind: u32, imm: u64, expect: Expect) {
        self.insns(root, access, kind, &Insn::ldimm64(1, imm), expect);
    }

    /// What the next record of the row's own object has to come to.
    pub(crate) fn expect(&mut self, expect: Expect) {
        self.expected.push(expect);
    }

    /// A claim of the row's own.
    pub(crate) fn claim(&mut self, holds: bool, what: &str) {
        if !holds {
            self.failures.push(what.to_owned());
        }
    }

    fn build_object(&mut self) -> Vec<u8> {
        let section = self.local.str(SECTION);
        let mut ext = BtfExtBuilder::new(self.order);
        for &(insn_off, type_id, access_str_off, kind) in &self.records {
            ext.core_relo(section, CoreRelo { insn_off, type_id, access_str_off, kind });
        }
        let mut code = self.code.clone();
        code.push(Insn::exit());
        let mut object = ObjectBuilder::new(self.order);
        object.program(SECTION, "p", &code);
        object.license("GPL");
        object.btf(&self.local.finish());
        object.btf_ext(&ext.finish());
        object.finish()
    }

    fn judge(mut self) -> Vec<String> {
        let bytes = match self.object.take() {
            Some(bytes) => bytes,
            None => self.build_object(),
        };
        let object = Object::parse(&bytes).expect("the row's object is one");
        let vmlinux = self.target.finish();
        let modules: Vec<_> = self.modules.iter().map(BtfBuilder::finish).collect();
        let mut kernel = Kernel::new(Btf::parse(&vmlinux).expect("the row's target is BTF"));
        for (number, module) in modules.iter().enumerate() {
            kernel.add_module(format!("m{number}"), module).expect("the row's module is BTF");
        }
        let active = self.active;
        let outcomes = outcomes(self.loader, &object, &kernel, Modules::All, |reloc| active(&object, reloc));
        if outcomes.len() != self.expected.len() {
            self.failures.push(format!("{} outcomes, expected {}", outcomes.len(), self.expected.len()));
        }
        for ((number, outcome), (reloc, expect)) in
            outcomes.iter().enumerate().zip(object.relocs().iter().zip(&self.expected))
        {
            let before = object.insn_bytes(reloc);
            if let Err(why) = meets(outcome, *expect, reloc, before, self.order) {
                self.failures.push(format!("record {number}: expected {expect:?}, {why}: {outcome:?}"));
            }
        }
        self.failures
    }
}

fn meets(
    outcome: &Outcome,
    expect: Expect,
    reloc: &Reloc<'_>,
    before: &[u8],
    order: ByteOrder,
) -> Result<(), String> {
    match (outcome, expect) {
        (Outcome::Skipped, Expect::Skipped) => Ok(()),
        (Outcome::Fatal(error), Expect::Fatal(errno, code))
            if (error.errno(), error.code()) == (errno, code) =>
        {
            Ok(())
        }
        (Outcome::Decided(it), Expect::Value(value)) => {
            is_patched(it, value, before, order)?;
            let width = |bytes: &[u8]| bytes.first().map(|code| code & 0x18);
            if width(&it.insn) != width(before) {
                return Err("the width changed".into());
            }
            let code = match reloc.kind {
                Some(kind) if kind.is_existence_query() => Code::PresentAsQueried,
                _ if value == it.orig => Code::Exact,
                _ => Code::Moved,
            };
            same_code(it, code, None)
        }
        (Outcome::Decided(it), Expect::Load(value, width)) => {
            is_patched(it, value, before, order)?;
            let wanted = Insn::ldx(width, 0, 0, 0).code & 0x18;
            if it.insn.first().map(|code| code & 0x18) != Some(wanted) {
                return Err("another width".into());
            }
            same_code(it, Code::Resized, None)
        }
        (Outcome::Decided(it), Expect::Zero(reason)) => {
            is_patched(it, 0, before, order)?;
            let code = match reloc.kind {
                Some(kind) if kind.is_existence_query() => Code::AbsentAsQueried,
                _ => Code::ZeroAsQueried,
            };
            same_code(it, code, Some(reason))
        }
        (Outcome::Decided(it), Expect::Poison(code)) => {
            let poison = Insn::call(0x0bad_2310);
            let slots = vec![poison; before.len() / 8];
            if !it.poisoned || it.insn[..] != code_bytes(&slots, order) {
                return Err("the instruction is not poisoned".into());
            }
            if it.unresolved != (code != Code::SizeUnsafe) {
                return Err("poisoned for another reason".into());
            }
            same_code(it, code, None)
        }
        _ => Err("another outcome".into()),
    }
}

/// Whether the instruction is what it was, with `value` where it takes one.
fn is_patched(it: &Decision, value: u64, before: &[u8], order: ByteOrder) -> Result<(), String> {
    if it.poisoned || it.unresolved || it.new != Some(value) {
        return Err(format!("the value is not {value}"));
    }
    let slots = |bytes: &[u8]| {
        bytes.as_chunks::<8>().0.iter().map(|slot| Insn::decode(*slot, order)).collect::<Vec<_>>()
    };
    let (before, after) = (slots(before), slots(&it.insn));
    let holds = match (before.as_slice(), after.as_slice()) {
        ([was], [is]) if matches!(was.code & 7, 1..=3) => {
            let same = (was.dst, was.src, was.imm) == (is.dst, is.src, is.imm);
            same && (was.code & !0x18) == (is.code & !0x18) && i64::from(is.off).cast_unsigned() == value
        }
        ([was], [is]) => {
            let same = (was.code, was.dst, was.src, was.off) == (is.code, is.dst, is.src, is.off);
            same && u64::from(is.imm.cast_unsigned()) == value & 0xffff_ffff
        }
        ([low, _], [is_low, is_high]) => {
            let imm = u64::from(is_high.imm.cast_unsigned()) << 32 | u64::from(is_low.imm.cast_unsigned());
            (low.code, low.dst, low.src) == (is_low.code, is_low.dst, is_low.src) && imm == value
        }
        _ => false,
    };
    if holds { Ok(()) } else { Err(format!("the instruction does not hold {value}")) }
}

fn same_code(it: &Decision, code: Code, reason: Option<Code>) -> Result<(), String> {
    if it.code == code && it.reason == reason {
        Ok(())
    } else {
        Err(format!("the code is not {code:?} ({reason:?})"))
    }
}

/// Runs one row in both byte orders; returns what is wrong.
pub(crate) fn check(build: fn(&mut Case)) -> Vec<String> {
    let mut failures = Vec::new();
    for order in [ByteOrder::Little, ByteOrder::Big] {
        let mut case = Case::new(order);
        build(&mut case);
        failures.extend(case.judge().into_iter().map(|failure| format!("{order:?} endian, {failure}")));
    }
    failures
}

/// Short names for the types that most rows need. Repeated calls add equal types, which does no harm.
pub(crate) trait Types {
    fn i32(&mut self) -> u32;
    fn u32(&mut self) -> u32;
    fn u64(&mut self) -> u32;
    /// A signed 8-byte integer as the kernel calls it; also what makes pointers 8 bytes wide.
    fn long(&mut self) -> u32;
    fn u8(&mut self) -> u32;
    fn char(&mut self) -> u32;
    /// A struct; member offsets in **bytes**.
    fn s(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32;
    /// A union; all members at 0.
    fn u(&mut self, name: &str, size: u32, members: &[(&str, u32)]) -> u32;
    /// A struct with one bitfield `f`: (type, bit offset, bits).
    fn bits(&mut self, name: &str, size: u32, field: (u32, u32, u32)) -> u32;
    /// An array; its index type is added.
    fn arr(&mut self, elem: u32, nelems: u32) -> u32;
}

impl Types for BtfBuilder {
    fn i32(&mut self) -> u32 {
        self.int("int", 4, 1)
    }
    fn u32(&mut self) -> u32 {
        self.int("unsigned int", 4, 0)
    }
    fn u64(&mut self) -> u32 {
        self.int("long unsigned int", 8, 0)
    }
    fn long(&mut self) -> u32 {
        self.int("long int", 8, 1)
    }
    fn u8(&mut self) -> u32 {
        self.int("unsigned char", 1, 0)
    }
    fn char(&mut self) -> u32 {
        self.int("char", 1, 1)
    }
    fn s(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        let members: Vec<_> = members.iter().map(|&(name, id, off)| Member::new(name, id, off * 8)).collect();
        self.structure(name, size, &members)
    }
    fn u(&mut self, name: &str, size: u32, members: &[(&str, u32)]) -> u32 {
        let members: Vec<_> = members.iter().map(|&(name, id)| Member::new(name, id, 0)).collect();
        self.union(name, size, &members)
    }
    fn bits(&mut self, name: &str, size: u32, (base, bit, bits): (u32, u32, u32)) -> u32 {
        self.structure(name, size, &[Member::bitfield("f", base, bit, bits)])
    }
    fn arr(&mut self, elem: u32, nelems: u32) -> u32 {
        let index = self.u32();
        self.array(elem, index, nelems)
    }
}
