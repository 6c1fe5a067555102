//! Cases 70 to 86 and 89: enumerators, lookup, access strings, instructions, and which records count.

use btfleet_engine::object::Object;
use btfleet_engine::resolve::Code;
use btfleet_tests::build::{BtfBuilder, BtfExtBuilder, CoreRelo, Insn, Member, ObjectBuilder};

use super::Row;
use super::case::Expect::{Fatal, Poison, Skipped, Zero};
use super::case::{
    BYTE_OFF, BYTE_SZ, Case, ENUMVAL_EXISTS, ENUMVAL_VALUE, EXISTS, ID_LOCAL, ID_TARGET, SECTION, SIGNED,
    TYPE_EXISTS, TYPE_MATCHES, TYPE_SIZE, Types, v,
};

/// `struct s { int a; }` on both sides, at 8 in the kernel; returns the program's.
fn struct_s(c: &mut Case) -> u32 {
    let int = c.target.i32();
    c.target.s("s", 12, &[("a", int, 8)]);
    let int = c.local.i32();
    c.local.s("s", 4, &[("a", int, 0)])
}

/// The functions of an object of its own: (section, name, slots).
type Functions<'a> = &'a [(&'a str, &'a str, usize)];

/// An object with these functions, all of them `r1 = 0`, and these records: (section, offset, type, path, kind).
fn object(c: &mut Case, functions: Functions<'_>, records: &[(&str, u32, u32, &str, u32)]) {
    let mut ext = BtfExtBuilder::new(c.order);
    for &(section, insn_off, type_id, access, kind) in records {
        let (section, access) = (c.local.str(section), c.local.str(access));
        ext.core_relo(section, CoreRelo { insn_off, type_id, access_str_off: access, kind });
    }
    let mut object = ObjectBuilder::new(c.order);
    let mut sections = Vec::new();
    for &(section, name, slots) in functions {
        let index = match sections.iter().find(|(it, _)| *it == section) {
            Some(&(_, index)) => index,
            None => {
                let index = object.code_section(section);
                sections.push((section, index));
                index
            }
        };
        object.function(index, name, true, &vec![Insn::mov(1, 0); slots]);
    }
    object.license("GPL");
    object.btf(&c.local.finish());
    object.btf_ext(&ext.finish());
    c.object = Some(object.finish());
}

/// Whether a record's program is loaded by default; records inside no program are not judged by this.
fn autoload(object: &Object<'_>, reloc: &btfleet_engine::object::Reloc<'_>) -> bool {
    reloc.program.and_then(|it| object.programs().get(it)).is_none_or(|it| it.autoload)
}

/// An object whose `.BTF.ext` is damaged, with more sections or symbols as `more` adds them.
fn corrupt_ext(c: &mut Case, more: fn(&mut ObjectBuilder)) -> Vec<u8> {
    let s = struct_s(c);
    let (section, access) = (c.local.str(SECTION), c.local.str("0:0"));
    let mut ext = BtfExtBuilder::new(c.order);
    ext.core_relo(section, CoreRelo { insn_off: 0, type_id: s, access_str_off: access, kind: BYTE_OFF });
    let mut ext = ext.finish();
    ext.truncate(ext.len() - 4);
    let mut object = ObjectBuilder::new(c.order);
    object.program(SECTION, "p", &[Insn::mov(1, 0), Insn::exit()]);
    object.btf(&c.local.finish());
    object.btf_ext(&ext);
    more(&mut object);
    object.finish()
}

fn ext_is_ignored(c: &mut Case, refused: bool, more: fn(&mut ObjectBuilder)) {
    let bytes = corrupt_ext(c, more);
    let parsed = Object::parse(&bytes).expect("an object");
    let why = parsed.ignored_btf().map(ToString::to_string);
    c.claim(
        why.as_deref() == Some("section .BTF.ext: a sub-section reaches past the end (value 28)"),
        &format!("{why:?}"),
    );
    c.claim(parsed.relocs().is_empty(), "records of a corrupt .BTF.ext");
    c.claim(parsed.refused().is_some() == refused, &format!("refused: {:?}", parsed.refused()));
    drop(parsed);
    c.object = Some(bytes);
}

const BAD_ACCESS: super::case::Expect = Fatal(-22, "bad-access-string");

pub(super) const ROWS: &[Row] = &[
    (70, "enumerators are found without their flavor", |c| {
        let e = c.local.enumeration("E", 4, false, &[("V", 1)]);
        c.target.enumeration("E", 4, false, &[("W", 1), ("V___d", 101)]);
        c.mov(e, "0", ENUMVAL_VALUE, 1, v(101));
        c.mov(e, "0", ENUMVAL_EXISTS, 1, v(1));
    }),
    (71, "an enumerator that the target lacks", |c| {
        let e = c.local.enumeration("E", 4, false, &[("A", 1), ("B", 2), ("C", 3)]);
        c.target.enumeration("E", 4, false, &[("A", 1), ("B", 2)]);
        c.mov(e, "2", ENUMVAL_EXISTS, 1, Zero(Code::NoEnumerator));
        c.mov(e, "2", ENUMVAL_VALUE, 3, Poison(Code::NoEnumerator));
        c.ldimm64(e, "2", ENUMVAL_VALUE, 3, Poison(Code::NoEnumerator));
        c.mov(e, "1", ENUMVAL_VALUE, 2, v(2));
    }),
    (72, "a negative 64-bit enumerator", |c| {
        let e = c.local.enum64("E", 8, true, &[("V", -2)]);
        c.target.enum64("E", 8, true, &[("V", -202)]);
        c.ldimm64(e, "0", ENUMVAL_VALUE, (-2_i64).cast_unsigned(), v(0xffff_ffff_ffff_ff36));
    }),
    (73, "an enum that became 64 bits wide", |c| {
        let e = c.local.enumeration("E", 4, false, &[("V", 1)]);
        c.target.enum64("E", 8, false, &[("V", 0x1_0000_0002)]);
        c.mov(e, "0", ENUMVAL_EXISTS, 1, v(1));
        c.ldimm64(e, "0", ENUMVAL_VALUE, 1, v(0x1_0000_0002));
    }),
    (74, "an unsigned enumerator of 32 bits counts as signed", |c| {
        let e = c.local.enumeration("E", 4, false, &[("V", 0x8000_0000)]);
        c.target.enumeration("E", 4, false, &[("V", 0x8000_0001)]);
        c.ldimm64(e, "0", ENUMVAL_VALUE, 0x8000_0000, Fatal(-22, "insn-mismatch"));
        c.ldimm64(e, "0", ENUMVAL_VALUE, 0xffff_ffff_8000_0000, v(0xffff_ffff_8000_0001));
        c.mov(e, "0", ENUMVAL_VALUE, i32::MIN, v(0xffff_ffff_8000_0001));
    }),
    (75, "a typedef of something that is only declared", |c| {
        let int = c.local.i32();
        let anonymous = c.local.s("", 4, &[("a", int, 0)]);
        let root = c.local.typedef("x_t", anonymous);
        let fwd = c.target.fwd("fwd_only", false);
        c.target.typedef("x_t", fwd);
        c.mov(root, "0:0", BYTE_OFF, 0, Fatal(-22, "target-malformed"));
        c.mov(root, "0:0", EXISTS, 1, Fatal(-22, "target-malformed"));
    }),
    (76, "a type of vmlinux hides that of a module", |c| {
        let s = struct_s(c);
        let int = c.local.i32();
        let other = c.local.s("s___o", 4, &[("b", int, 0)]);
        let mut module = BtfBuilder::split(&c.target);
        let int = module.i32();
        module.s("s", 8, &[("b", int, 4)]);
        c.modules.push(module);
        c.mov(other, "0:0", BYTE_OFF, 0, Poison(Code::NoField));
        c.mov(other, "0:0", EXISTS, 1, Zero(Code::NoField));
        c.mov(s, "0:0", BYTE_OFF, 0, v(8));
    }),
    (76, "modules are asked where vmlinux has no candidate", |c| {
        let int = c.local.i32();
        let s = c.local.s("s", 4, &[("a", int, 0)]);
        let vmlinux_int = c.target.i32();
        for off in [16, 16] {
            let mut module = BtfBuilder::split(&c.target);
            module.s("s", 20, &[("a", vmlinux_int, off)]);
            c.modules.push(module);
        }
        c.mov(s, "0:0", BYTE_OFF, 0, v(16));
        let first_own = u64::from(c.target.next_id());
        // Both modules number their type alike.
        c.ldimm64(s, "0", ID_TARGET, 0, v(first_own));
    }),
    (76, "modules that disagree are ambiguous", |c| {
        let int = c.local.i32();
        let s = c.local.s("s", 4, &[("a", int, 0)]);
        let vmlinux_int = c.target.i32();
        for off in [16, 24] {
            let mut module = BtfBuilder::split(&c.target);
            module.s("s", 28, &[("a", vmlinux_int, off)]);
            c.modules.push(module);
        }
        c.mov(s, "0:0", BYTE_OFF, 0, Fatal(-22, "ambiguous-offset"));
    }),
    (77, "without modules their types are unresolved", |c| {
        let int = c.local.i32();
        let s = c.local.s("s", 4, &[("a", int, 0)]);
        c.target.i32();
        c.mov(s, "0:0", BYTE_OFF, 0, Poison(Code::NoType));
        c.mov(s, "0", TYPE_EXISTS, 1, Zero(Code::NoType));
    }),
    (78, "a root without a name", |c| {
        let int = c.local.i32();
        let s = c.local.s("", 4, &[("a", int, 0)]);
        let e = c.local.enumeration("", 4, false, &[("A", 0)]);
        let ptr = c.local.ptr(s);
        c.target.s("", 4, &[]);
        for kind in [BYTE_OFF, BYTE_SZ, EXISTS, SIGNED] {
            c.mov(s, "0:0", kind, 0, Fatal(-22, "anonymous-root"));
        }
        for kind in [ID_TARGET, TYPE_EXISTS, TYPE_SIZE, TYPE_MATCHES] {
            c.mov(s, "0", kind, 0, Fatal(-22, "anonymous-root"));
            c.mov(ptr, "0", kind, 0, Fatal(-22, "anonymous-root"));
        }
        for kind in [ENUMVAL_EXISTS, ENUMVAL_VALUE] {
            c.mov(e, "0", kind, 0, Fatal(-22, "anonymous-root"));
        }
        let id = u64::from(s);
        c.mov(s, "0", ID_LOCAL, 0, v(id));
    }),
    (79, "malformed access strings", |c| {
        let s = struct_s(c);
        for access in ["", ":0", "0:", "0::1", "a", "-1", "0:-1", "0:0x0", "0:0 ", "0:1"] {
            c.mov(s, access, BYTE_OFF, 0, BAD_ACCESS);
        }
        for access in ["", "0:0", "1", "00", " 0"] {
            c.mov(s, access, TYPE_EXISTS, 1, BAD_ACCESS);
        }
        c.mov(s, "0 0", BYTE_OFF, 0, v(8));
        c.mov(s, "+0: 0", BYTE_OFF, 0, v(8));
    }),
    (79, "a blank separates as a colon does", |c| {
        let int = c.local.i32();
        let s = c.local.s("s", 8, &[("p", int, 0), ("a", int, 4)]);
        let int = c.target.i32();
        c.target.s("s", 16, &[("a", int, 12)]);
        c.mov(s, "0 1", BYTE_OFF, 4, v(12));
        c.mov(s, "0:1", BYTE_OFF, 4, v(12));
    }),
    (79, "enumerator indices", |c| {
        let e = c.local.enumeration("E", 4, false, &[("A", 0)]);
        c.target.enumeration("E", 4, false, &[("A", 5)]);
        for access in ["1", "0:0", "-1", ""] {
            c.mov(e, access, ENUMVAL_VALUE, 0, BAD_ACCESS);
        }
        c.mov(e, "0", ENUMVAL_VALUE, 0, v(5));
    }),
    (80, "65 indices", |c| {
        let s = struct_s(c);
        c.mov(s, &vec!["0"; 65].join(":"), BYTE_OFF, 0, BAD_ACCESS);
    }),
    (80, "64 indices that lead somewhere", |c| {
        let nest = |b: &mut BtfBuilder, step: u32| {
            let int = b.i32();
            let inner = (1..63).fold(int, |inner, level| b.s("", level * step, &[("m", inner, step - 4)]));
            b.s("s", 63 * step, &[("m", inner, step - 4)])
        };
        let s = nest(&mut c.local, 4);
        nest(&mut c.target, 8);
        c.mov(s, &vec!["0"; 64].join(":"), BYTE_OFF, 0, v(63 * 4));
    }),
    (81, "a kind that does not exist", |c| {
        let s = struct_s(c);
        c.mov(s, "0", 13, 0, Fatal(-22, "unknown-kind"));
        c.mov(s, "0:0", u32::MAX, 0, Fatal(-22, "unknown-kind"));
    }),
    (82, "a jump cannot be relocated", |c| {
        let s = struct_s(c);
        c.insns(s, "0:0", BYTE_OFF, &[Insn::ja(0)], Fatal(-22, "insn-unsupported"));
        c.insns(s, "0:0", BYTE_OFF, &[Insn::jmp(0x10, 1, 0, 0)], Fatal(-22, "insn-unsupported"));
        c.insns(s, "0:0", BYTE_OFF, &[Insn::new(0x16, 1, 0, 0, 0)], Fatal(-22, "insn-unsupported"));
    }),
    (82, "but it can be poisoned", |c| {
        let int = c.local.i32();
        let s = c.local.s("s", 4, &[("a", int, 0)]);
        c.insns(s, "0:0", BYTE_OFF, &[Insn::ja(0)], Poison(Code::NoType));
        c.insns(s, "0:0", BYTE_OFF, &[Insn::alu_reg(0xb0, true, 1, 2)], Poison(Code::NoType));
    }),
    (83, "a 64-bit immediate that is a map", |c| {
        let s = struct_s(c);
        let [mut low, high] = Insn::ldimm64(1, 0);
        low.src = 1;
        c.insns(s, "0:0", BYTE_OFF, &[low, high], Fatal(-22, "insn-unsupported"));
    }),
    (83, "a 64-bit immediate with a damaged second slot", |c| {
        let s = struct_s(c);
        let [low, mut high] = Insn::ldimm64(1, 0);
        high.dst = 1;
        c.insns(s, "0:0", BYTE_OFF, &[low, high], Fatal(-22, "insn-unsupported"));
        let [mut low, high] = Insn::ldimm64(1, 0);
        low.off = 8;
        c.insns(s, "0:0", BYTE_OFF, &[low, high], Fatal(-22, "insn-unsupported"));
    }),
    (83, "arithmetic with a register, and a legacy load", |c| {
        let s = struct_s(c);
        c.insns(s, "0:0", BYTE_OFF, &[Insn::alu_reg(0xb0, true, 1, 2)], Fatal(-22, "insn-unsupported"));
        c.insns(s, "0:0", BYTE_OFF, &[Insn::alu_reg(0x00, false, 1, 2)], Fatal(-22, "insn-unsupported"));
        c.insns(s, "0:0", BYTE_OFF, &[Insn::new(0x20, 0, 0, 0, 0)], Fatal(-22, "insn-unsupported"));
        c.insns(s, "0:0", BYTE_OFF, &[Insn::alu(0x00, false, 1, 0)], v(8));
        c.insns(s, "0:0", BYTE_OFF, &Insn::ldimm64(1, 0), v(8));
    }),
    (84, "records outside of functions and sections are ignored", |c| {
        let s = struct_s(c);
        object(
            c,
            &[(SECTION, "p", 2)],
            &[
                (SECTION, 16, 9999, "", 99),
                (SECTION, 0xffff_fff8, 9999, "", 99),
                ("kprobe/gone", 0, 9999, "", 99),
                (SECTION, 8, s, "0:0", BYTE_OFF),
            ],
        );
        for expect in [Skipped, Skipped, Skipped, v(8)] {
            c.expect(expect);
        }
    }),
    (84, "records of programs that are not loaded never matter", |c| {
        let int = c.target.i32();
        c.target.s("s___a", 8, &[("x", int, 4)]);
        c.target.s("s___b", 12, &[("y", int, 8)]);
        let int = c.local.i32();
        let s = c.local.s("s", 8, &[("x", int, 0), ("y", int, 4)]);
        object(
            c,
            &[("?kprobe/off", "off", 2), (SECTION, "on", 1), (".text", "sub", 1)],
            &[
                ("?kprobe/off", 0, 9999, "", 99),
                // Would drop the candidate that the next record needs.
                ("?kprobe/off", 8, s, "0:1", EXISTS),
                (SECTION, 0, s, "0:0", BYTE_OFF),
                (".text", 0, s, "0:0", BYTE_OFF),
            ],
        );
        c.active = autoload;
        for expect in [Skipped, Skipped, v(4), v(4)] {
            c.expect(expect);
        }
    }),
    (84, "functions of one section are told apart", |c| {
        let s = struct_s(c);
        object(
            c,
            &[(SECTION, "one", 1), (SECTION, "two", 1)],
            &[(SECTION, 0, s, "0:0", BYTE_OFF), (SECTION, 8, s, "0:0", BYTE_OFF), (SECTION, 16, s, "", 99)],
        );
        c.active = |object, reloc| {
            let name = reloc.program.and_then(|it| object.programs().get(it)).map(|it| it.name);
            name != Some(b"one".as_slice())
        };
        for expect in [Skipped, v(8), Skipped] {
            c.expect(expect);
        }
    }),
    (85, "an offset in the middle of an instruction", |c| {
        let s = struct_s(c);
        object(
            c,
            &[(SECTION, "p", 2)],
            &[
                (SECTION, 4, s, "0:0", BYTE_OFF),
                (SECTION, 17, s, "0:0", BYTE_OFF),
                ("gone", 1, s, "0:0", BYTE_OFF),
            ],
        );
        for _ in 0..3 {
            c.expect(Fatal(-22, "bad-insn-offset"));
        }
    }),
    (85, "is fatal even in a program that is not loaded", |c| {
        let s = struct_s(c);
        object(
            c,
            &[("?kprobe/off", "off", 2), (SECTION, "on", 1)],
            &[("?kprobe/off", 4, s, "0:0", BYTE_OFF), (SECTION, 0, s, "0:0", BYTE_OFF)],
        );
        c.active = autoload;
        c.expect(Fatal(-22, "bad-insn-offset"));
        c.expect(v(8));
    }),
    (85, "and so is a section without a name", |c| {
        let s = struct_s(c);
        object(c, &[(SECTION, "p", 1)], &[("", 0, s, "0:0", BYTE_OFF)]);
        c.expect(Fatal(-22, "bad-insn-offset"));
    }),
    (86, "a corrupt .BTF.ext: the object loads unrelocated", |c| ext_is_ignored(c, false, |_| {})),
    (86, "but not if it has maps", |c| {
        ext_is_ignored(c, true, |object| {
            object.data(".maps", &[0; 8]);
        });
    }),
    (86, "but not if it has struct_ops", |c| {
        ext_is_ignored(c, true, |object| {
            object.data(".struct_ops.link", &[0; 8]);
        });
    }),
    (86, "but not if it has externs", |c| {
        ext_is_ignored(c, true, |object| {
            object.extern_symbol("bpf_thing", true);
        });
    }),
    (86, "a corrupt .BTF: the object loads unrelocated", |c| {
        let mut object = ObjectBuilder::new(c.order);
        object.program(SECTION, "p", &[Insn::exit()]);
        object.btf(&[1, 2, 3]);
        object.btf_ext(&[0; 40]);
        let bytes = object.finish();
        let parsed = Object::parse(&bytes).expect("an object");
        let why = parsed.ignored_btf().map(ToString::to_string);
        let wanted = "section .BTF: not BTF: magic is 0x0201, expected 0xeb9f in either byte order";
        c.claim(why.as_deref() == Some(wanted), &format!("{why:?}"));
        c.claim(parsed.refused().is_none(), "refused");
        drop(parsed);
        c.object = Some(bytes);
    }),
    (89, "no path crosses a pointer", |c| {
        let int = c.local.i32();
        let inner = c.local.s("in", 8, &[("p", int, 0), ("x", int, 4)]);
        let ptr = c.local.ptr(inner);
        let s = c.local.structure("s", 16, &[Member::new("i", int, 0), Member::new("p", ptr, 64)]);
        let (int, ptr) = (c.target.i32(), c.target.ptr(0));
        c.target.s("s", 8, &[("p", ptr, 0), ("i", int, 8)]);
        c.mov(s, "0:1:1", BYTE_OFF, 12, BAD_ACCESS);
        c.mov(s, "0:0:0", BYTE_OFF, 0, BAD_ACCESS);
        c.mov(s, "0:1", BYTE_OFF, 8, v(0));
    }),
];
