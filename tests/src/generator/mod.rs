//! Seeded random cases for differential tests.
//!
//! [`Case::generate`] makes a case from a seed: types of the program, of the target and of modules, and records with
//! their instructions. A case is plain data: [`Case::shrink`] proposes smaller ones, [`Case::to_object`],
//! [`Case::target_btf`] and [`Case::oracle_input`] turn it into what the engine and the oracle take.
//!
//! Not generated, since libbpf 1.7 differs from the reference revision there or misbehaves: negative accessors and
//! those above `i32::MAX`, more than 65,535 elements of a type, kinds of types above 19, layout sections, typedef
//! cycles, bitfields of types without a size, ldimm64 in the last slot of a program.

mod describe;
mod fleet;
mod lower;
mod mutate;
mod records;
mod rng;
mod scenario;
mod shrink;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

pub use fleet::{FleetCase, FleetKernel, edit, permuted};
pub use rng::Rng;

use crate::build::{
    BtfBuilder, BtfExtBuilder, ByteOrder, CoreRelo, Insn, KIND_STRUCT, KIND_UNION, Member, ObjectBuilder,
    ObjectSection,
};
use crate::oracle::{Program, extract};

/// A member of a [`Type::Composite`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// Name; empty for an anonymous member.
    pub name: String,
    /// Type id.
    pub type_id: u32,
    /// Offset in bits.
    pub bit_offset: u32,
    /// Width in bits of a bitfield, else 0.
    pub bits: u32,
}

/// A type as BTF has it; references are ids, the first type of a case has id 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields are those of BTF, in its words")]
pub enum Type {
    /// INT.
    Int { name: String, size: u32, encoding: u32, offset: u32, bits: u32 },
    /// PTR.
    Ptr(u32),
    /// ARRAY.
    Array { elem: u32, index: u32, nelems: u32 },
    /// STRUCT or UNION.
    Composite { union: bool, name: String, size: u32, kflag: bool, fields: Vec<Field> },
    /// ENUM or ENUM64.
    Enum { wide: bool, name: String, size: u32, signed: bool, values: Vec<(String, i64)> },
    /// FWD.
    Fwd { name: String, union: bool },
    /// TYPEDEF.
    Typedef { name: String, to: u32 },
    /// VOLATILE, CONST, RESTRICT.
    Modifier { kind: u32, to: u32 },
    /// TYPE_TAG.
    TypeTag { text: String, to: u32 },
    /// FUNC; `to` is a FUNC_PROTO.
    Func { name: String, to: u32 },
    /// FUNC_PROTO.
    Proto { ret: u32, params: Vec<(String, u32)> },
    /// VAR.
    Var { name: String, to: u32 },
    /// FLOAT.
    Float { name: String, size: u32 },
    /// DECL_TAG of the whole declaration.
    DeclTag { text: String, to: u32 },
    /// DATASEC without variables.
    Datasec { name: String, size: u32 },
}

/// A record and its instructions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CaseRecord {
    /// Number of the program that it is in. Number 1 is a subprogram; number 3 shares the section of number 0.
    pub program: u32,
    /// Root type, any number.
    pub type_id: u32,
    /// Access string.
    pub access: String,
    /// `enum bpf_core_relo_kind`, any number.
    pub kind: u32,
    /// The instruction: one slot, or two for ldimm64.
    pub insns: Vec<Insn>,
    /// Where its offset points to.
    pub site: Site,
}

/// Where a record's offset points to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Site {
    /// An instruction of its own.
    #[default]
    Own,
    /// The middle of an instruction of its own.
    Misaligned,
    /// The last instruction of its program that a record was about; its own if there is none.
    Again,
    /// The second slot of that instruction if it is an ldimm64, else as [`Again`](Self::Again).
    SecondSlot,
    /// An instruction of its own between the functions of its section.
    Outside,
}

/// A differential test case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Case {
    /// The seed it came from (also after shrinking).
    pub seed: u64,
    /// Byte order of everything.
    pub order: ByteOrder,
    /// Types of the program.
    pub local: Vec<Type>,
    /// Types of the kernel.
    pub target: Vec<Type>,
    /// Types of each module; their ids continue those of `target`.
    pub modules: Vec<Vec<Type>>,
    /// Records in order.
    pub records: Vec<CaseRecord>,
}

impl Case {
    /// The little-endian case of a seed: always the same. It has 12 to 40 records.
    #[must_use]
    pub fn generate(seed: u64) -> Self {
        Self::generate_in(ByteOrder::Little, seed)
    }

    /// The case of a seed in a byte order. The orders differ in the values of left shifts only.
    #[must_use]
    pub fn generate_in(order: ByteOrder, seed: u64) -> Self {
        scenario::generate(order, seed)
    }

    /// The bytes of the kernel's BTF.
    #[must_use]
    pub fn target_btf(&self) -> Vec<u8> {
        self.target_builder().finish()
    }

    /// The bytes of the modules' BTF, each split on [`target_btf`](Self::target_btf).
    #[must_use]
    pub fn module_btfs(&self) -> Vec<Vec<u8>> {
        let base = self.target_builder();
        self.modules
            .iter()
            .map(|types| {
                let mut module = BtfBuilder::split(&base);
                add_types(&mut module, types);
                module.finish()
            })
            .collect()
    }

    fn target_builder(&self) -> BtfBuilder {
        let mut btf = BtfBuilder::new(self.order);
        add_types(&mut btf, &self.target);
        btf
    }

    /// The BPF object: its programs with the instructions of the records, all records in `.BTF.ext` in their order.
    ///
    /// Ids of the local types are as in [`local`](Self::local); types of the programs themselves follow them.
    #[must_use]
    pub fn to_object(&self) -> Vec<u8> {
        let mut btf = BtfBuilder::new(self.order);
        add_types(&mut btf, &self.local);
        let mut ext = BtfExtBuilder::new(self.order);
        let mut object = ObjectBuilder::new(self.order);
        let proto = btf.func_proto(0, &[]);
        let numbers: BTreeSet<u32> = self.records.iter().map(|r| r.program).collect();
        let mut sections: BTreeMap<String, ObjectSection> = BTreeMap::new();
        let mut offsets = vec![0; self.records.len()];
        for number in numbers {
            let name = section_name(number);
            let func = btf.func(&format!("prog_{number}"), proto, 1);
            let section = *sections.entry(name.clone()).or_insert_with(|| object.code_section(&name));
            let placed = place(&self.records, number);
            let at = object.function(section, &format!("prog_{number}"), true, &placed.code);
            ext.func_info(btf.str(&name), at, func);
            let gap = object.code(section, &placed.outside);
            for (record, site) in placed.records {
                if let Some(offset) = offsets.get_mut(record) {
                    *offset = match site {
                        Placed::Inside(off) => at + off,
                        Placed::Outside(off) => gap + off,
                    };
                }
            }
        }
        for (r, &insn_off) in self.records.iter().zip(&offsets) {
            let access_str_off = btf.str(&r.access);
            let relo = CoreRelo { insn_off, type_id: r.type_id, access_str_off, kind: r.kind };
            ext.core_relo(btf.str(&section_name(r.program)), relo);
        }
        object.license("GPL");
        object.btf(&btf.finish());
        object.btf_ext(&ext.finish());
        object.finish()
    }

    /// What the oracle takes: the object, read by the oracle's own reader.
    ///
    /// # Panics
    /// If the case has no records.
    #[must_use]
    pub fn oracle_input(&self) -> Program {
        extract(&self.to_object()).expect("a built object is readable").program
    }

    /// Smaller cases, the big cuts first; none of them equals `self`.
    #[must_use]
    pub fn shrink(&self) -> Vec<Self> {
        shrink::candidates(self)
    }

    /// The smallest case that [`shrink`](Self::shrink) leads to and that still `fails`.
    #[must_use]
    pub fn minimize(&self, fails: impl FnMut(&Self) -> bool) -> Self {
        shrink::minimize(self, fails)
    }
}

fn section_name(program: u32) -> String {
    match program {
        1 => ".text".to_owned(),
        // Two programs of one section.
        3 => "kprobe/p0".to_owned(),
        _ => format!("kprobe/p{program}"),
    }
}

/// Where an instruction stands, in **bytes**.
#[derive(Clone, Copy)]
enum Placed {
    /// From the start of the function.
    Inside(u32),
    /// From the end of the function.
    Outside(u32),
}

/// One program's instructions.
#[derive(Default)]
struct Body {
    code: Vec<Insn>,
    /// Instructions behind the function that belong to no other.
    outside: Vec<Insn>,
    /// Offsets of the program's records, by number of the record.
    records: Vec<(usize, Placed)>,
}

/// Lays out the instructions of one program.
fn place(records: &[CaseRecord], program: u32) -> Body {
    let mut body = Body::default();
    let mut last: Option<(u32, bool)> = None;
    let bytes = |insns: &[Insn]| u32::try_from(insns.len() * 8).expect("short programs");
    for (number, r) in records.iter().enumerate().filter(|(_, r)| r.program == program) {
        let placed = match (r.site, last) {
            (Site::Outside, _) => {
                let at = bytes(&body.outside);
                body.outside.extend_from_slice(&r.insns);
                Placed::Outside(at)
            }
            (Site::SecondSlot, Some((at, true))) => Placed::Inside(at + 8),
            (Site::Again | Site::SecondSlot, Some((at, _))) => Placed::Inside(at),
            _ => {
                let at = bytes(&body.code);
                body.code.extend_from_slice(&r.insns);
                last = Some((at, r.insns.len() == 2));
                Placed::Inside(if r.site == Site::Misaligned { at + 4 } else { at })
            }
        };
        body.records.push((number, placed));
    }
    body.code.extend([Insn::mov(0, 0), Insn::exit()]);
    body.outside.extend([Insn::mov(0, 0), Insn::exit()]);
    body
}

/// Adds types in order.
fn add_types(btf: &mut BtfBuilder, types: &[Type]) {
    for ty in types {
        match ty {
            Type::Int { name, size, encoding, offset, bits } => {
                btf.int_bits(name, *size, *encoding, *offset, *bits);
            }
            Type::Ptr(to) => {
                btf.ptr(*to);
            }
            Type::Array { elem, index, nelems } => {
                btf.array(*elem, *index, *nelems);
            }
            Type::Composite { union, name, size, kflag, fields } => {
                let members: Vec<Member<'_>> = fields
                    .iter()
                    .map(|f| Member {
                        name: &f.name,
                        type_id: f.type_id,
                        bit_offset: f.bit_offset,
                        bitfield_size: f.bits,
                    })
                    .collect();
                btf.composite(if *union { KIND_UNION } else { KIND_STRUCT }, name, *size, &members, *kflag);
            }
            Type::Enum { wide, name, size, signed, values } => {
                let values: Vec<(&str, i64)> = values.iter().map(|(n, v)| (n.as_str(), *v)).collect();
                if *wide {
                    btf.enum64(name, *size, *signed, &values);
                } else {
                    btf.enumeration(name, *size, *signed, &values);
                }
            }
            Type::Fwd { name, union } => {
                btf.fwd(name, *union);
            }
            Type::Typedef { name, to } => {
                btf.typedef(name, *to);
            }
            Type::Modifier { kind, to } => {
                btf.any("", *kind, 0, false, *to, &[]);
            }
            Type::TypeTag { text, to } => {
                btf.type_tag(text, *to);
            }
            Type::Func { name, to } => {
                btf.func(name, *to, 1);
            }
            Type::Proto { ret, params } => {
                let params: Vec<(&str, u32)> = params.iter().map(|(n, id)| (n.as_str(), *id)).collect();
                btf.func_proto(*ret, &params);
            }
            Type::Var { name, to } => {
                btf.var(name, *to, 1);
            }
            Type::Float { name, size } => {
                btf.float(name, *size);
            }
            Type::DeclTag { text, to } => {
                btf.decl_tag(text, *to, -1);
            }
            Type::Datasec { name, size } => {
                btf.datasec(name, *size, &[]);
            }
        }
    }
}
