//! The `kernel` dialect where it differs from `libbpf`: the kernel's half of the specification's table, and what
//! depends on the release.
//!
//! Rows are those of `spec_cases`. What the running kernel itself says is `kernel_judge`'s.

#[path = "spec_cases/case.rs"]
#[expect(dead_code, reason = "the table of the libbpf dialect uses the rest")]
mod case;

use btfleet_engine::batch::Run;
use btfleet_engine::btf::Btf;
use btfleet_engine::dialect::{Loader, Release};
use btfleet_engine::explain::explain;
use btfleet_engine::fleet::Modules;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::Object;
use btfleet_engine::report::{self, Verdict};
use btfleet_engine::resolve::Code;
use btfleet_tests::build::{
    BtfBuilder, BtfExtBuilder, ByteOrder, CoreRelo, Insn, Member, ObjectBuilder, Width,
};
use case::Expect::{Fatal, Load, Poison, Value, Zero};
use case::{
    BYTE_OFF, Case, ENUMVAL_EXISTS, ENUMVAL_VALUE, EXISTS, SIGNED, TYPE_EXISTS, TYPE_MATCHES, TYPE_SIZE,
    Types, check,
};

fn kernel(release: &str) -> Loader {
    Loader::Kernel(Release::parse(release).expect("a release"))
}

/// Runs a row and demands that it holds.
fn holds(build: fn(&mut Case)) {
    let failures = check(build);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Two types called `s` in the kernel: one has x at 4, the other y at 8. The program's has both.
fn one_has_x_the_other_y(c: &mut Case) -> u32 {
    let int = c.target.i32();
    c.target.s("s___a", 16, &[("x", int, 4)]);
    c.target.s("s___b", 16, &[("y", int, 8)]);
    let int = c.local.i32();
    c.local.s("s", 8, &[("x", int, 0), ("y", int, 4)])
}

/// Check that no record takes candidates away from a later one (cases 10 and 11).
#[test]
fn candidates_are_never_pruned() {
    holds(|c| {
        c.loader = kernel("6.18");
        let s = one_has_x_the_other_y(c);
        c.mov(s, "0:0", BYTE_OFF, 0, Value(4));
        c.mov(s, "0:1", BYTE_OFF, 4, Value(8));
        c.mov(s, "0:0", BYTE_OFF, 0, Value(4));
    });
    holds(|c| {
        let s = one_has_x_the_other_y(c);
        c.mov(s, "0:0", BYTE_OFF, 0, Value(4));
        c.mov(s, "0:1", BYTE_OFF, 4, Poison(Code::PrunedAway));
    });
}

/// The program's `struct s { u32 a[4]; }`, the kernel's with an array as given: elements of 4 or 8 bytes.
fn arrays(c: &mut Case, loader: Loader, elem_size: u32, nelems: u32) -> u32 {
    c.loader = loader;
    let elem = if elem_size == 8 { c.target.u64() } else { c.target.u32() };
    let array = c.target.arr(elem, nelems);
    c.target.s("s", elem_size * nelems, &[("a", array, 0)]);
    let elem = c.local.u32();
    let array = c.local.arr(elem, 4);
    c.local.s("s", 16, &[("a", array, 0)])
}

/// Check that the size of the whole array counts before 6.15, that of the element from then on (case 33).
#[test]
fn the_size_of_the_whole_array_counted_once() {
    holds(|c| {
        let s = arrays(c, kernel("6.12.117"), 4, 8);
        c.ldx(s, "0:0", Width::W, 0, Poison(Code::SizeUnsafe));
        c.ldx(s, "0:0:1", Width::W, 4, Value(4));
    });
    holds(|c| {
        let s = arrays(c, kernel("6.15"), 4, 8);
        c.ldx(s, "0:0", Width::W, 0, Value(0));
    });
    holds(|c| {
        let s = arrays(c, kernel("6.18.44"), 8, 4);
        c.ldx(s, "0:0", Width::W, 0, Poison(Code::SizeUnsafe));
        c.ldx(s, "0:0:1", Width::W, 4, Load(8, Width::Dw));
    });
}

/// `struct outer { struct inner { int x; } in; }` on both sides, and a struct of just an int.
fn nested(c: &mut Case) -> (u32, u32) {
    let int = c.target.i32();
    let inner = c.target.s("inner", 4, &[("x", int, 0)]);
    c.target.s("outer", 4, &[("in", inner, 0)]);
    let int = c.local.i32();
    let inner = c.local.s("inner", 4, &[("x", int, 0)]);
    (c.local.s("outer", 4, &[("in", inner, 0)]), inner)
}

/// Check that a struct in a struct is too deep for `TYPE_MATCHES` (case 68), and that kernels before 6.0 do not know it.
#[test]
fn types_match_to_depth_two() {
    holds(|c| {
        c.loader = kernel("6.12");
        let (outer, inner) = nested(c);
        c.mov(inner, "0", TYPE_MATCHES, 1, Value(1));
        c.mov(outer, "0", TYPE_MATCHES, 1, Fatal(-22, "match-too-deep"));
    });
    holds(|c| {
        c.loader = kernel("5.19");
        let (_, inner) = nested(c);
        c.mov(inner, "0", TYPE_MATCHES, 1, Fatal(-22, "unknown-kind"));
        c.mov(inner, "0", TYPE_EXISTS, 1, Value(1));
    });
}

/// A typedef of a prototype whose parameter is a pointer to a prototype, and so on, `depth` times.
fn prototypes(btf: &mut BtfBuilder, depth: u32) -> u32 {
    let int = btf.i32();
    let mut param = int;
    for _ in 0..depth {
        let proto = btf.func_proto(int, &[("p", param)]);
        param = btf.ptr(proto);
    }
    btf.typedef("f", param)
}

/// Check that prototypes are followed two deep, and that 5.17 does not compare types at all.
#[test]
fn types_are_compared_to_depth_two() {
    holds(|c| {
        c.loader = kernel("6.12");
        prototypes(&mut c.target, 2);
        let f = prototypes(&mut c.local, 2);
        c.mov(f, "0", TYPE_EXISTS, 1, Value(1));
    });
    holds(|c| {
        c.loader = kernel("6.12");
        prototypes(&mut c.target, 3);
        let f = prototypes(&mut c.local, 3);
        c.mov(f, "0", TYPE_EXISTS, 1, Fatal(-22, "match-too-deep"));
    });
    holds(|c| {
        c.loader = kernel("5.17.3");
        let (outer, _) = nested(c);
        let gone = c.local.s("gone", 4, &[]);
        c.mov(outer, "0", TYPE_SIZE, 4, Fatal(-95, "loader-unsupported"));
        c.mov(gone, "0", TYPE_EXISTS, 1, Zero(Code::NoType));
    });
}

/// Check that an ENUM and an ENUM64 of one name are no candidates for each other (case 73).
#[test]
fn enums_of_other_kinds_are_no_candidates() {
    holds(|c| {
        c.loader = kernel("6.18");
        c.target.enum64("e", 8, false, &[("A", 7)]);
        let e = c.local.enumeration("e", 4, false, &[("A", 1)]);
        c.mov(e, "0", ENUMVAL_EXISTS, 1, Zero(Code::NoType));
        c.mov(e, "0", ENUMVAL_VALUE, 1, Poison(Code::NoType));
    });
    holds(|c| {
        c.loader = kernel("6.18");
        c.target.enum64("e", 8, true, &[("A", -202)]);
        let e = c.local.enum64("e", 8, true, &[("A", -2)]);
        c.ldimm64(e, "0", ENUMVAL_VALUE, (-2_i64).cast_unsigned(), Value((-202_i64).cast_unsigned()));
    });
}

/// Check that before 6.0 there is no ENUM64, values have 32 bits, and every enum counts as signed.
#[test]
fn values_had_32_bits_before_enum64() {
    holds(|c| {
        c.loader = kernel("5.19");
        let color = c.target.enumeration("e", 4, true, &[("A", -3)]);
        c.target.s("s", 4, &[("f", color, 0)]);
        let color = c.local.enumeration("e", 4, true, &[("A", -2)]);
        let s = c.local.s("s", 4, &[("f", color, 0)]);
        let wide = c.local.enum64("w", 8, false, &[("A", 1)]);
        c.mov(color, "0", ENUMVAL_VALUE, -2, Value(0xffff_fffd));
        let held = (-2_i64).cast_unsigned();
        c.insns(color, "0", ENUMVAL_VALUE, &Insn::ldimm64(1, held), Fatal(-22, "insn-mismatch"));
        c.ldimm64(color, "0", ENUMVAL_VALUE, 0xffff_fffe, Value(0xffff_fffd));
        c.mov(wide, "0", ENUMVAL_EXISTS, 1, Fatal(-22, "local-type-unusable"));
        c.mov(s, "0:0", SIGNED, 1, Value(1));
    });
    holds(|c| {
        c.loader = kernel("5.19");
        let color = c.target.enumeration("e", 4, false, &[("A", 3)]);
        c.target.s("s", 4, &[("f", color, 0)]);
        let color = c.local.enumeration("e", 4, false, &[("A", 3)]);
        let s = c.local.s("s", 4, &[("f", color, 0)]);
        c.mov(s, "0:0", SIGNED, 1, Value(1));
    });
}

/// Check that an unresolved record on an instruction that has no operand is poison or an error by release (case 82).
#[test]
fn the_class_of_an_instruction_comes_before_or_after_poison() {
    fn unresolved(c: &mut Case, loader: Loader) -> u32 {
        c.loader = loader;
        let int = c.local.i32();
        c.local.s("gone", 4, &[("a", int, 0)])
    }
    holds(|c| {
        let s = unresolved(c, kernel("6.18.44"));
        c.insns(s, "0:0", BYTE_OFF, &[Insn::ja(0)], Poison(Code::NoType));
        c.insns(s, "0:0", BYTE_OFF, &[Insn::alu_reg(0xb0, true, 1, 2)], Poison(Code::NoType));
    });
    holds(|c| {
        let s = unresolved(c, kernel("6.12.117"));
        c.insns(s, "0:0", BYTE_OFF, &[Insn::ja(0)], Fatal(-22, "insn-unsupported"));
        c.insns(s, "0:0", BYTE_OFF, &[Insn::alu_reg(0xb0, true, 1, 2)], Fatal(-22, "insn-unsupported"));
        let mut map = Insn::ldimm64(1, 0);
        map[0].src = 1;
        c.insns(s, "0:0", BYTE_OFF, &map, Fatal(-22, "insn-unsupported"));
        c.ldimm64(s, "0:0", BYTE_OFF, 99, Poison(Code::NoType));
        c.mov(s, "0:0", BYTE_OFF, 99, Poison(Code::NoType));
        c.ldx(s, "0:0", Width::W, 99, Poison(Code::NoType));
    });
}

/// Check that on a 32-bit kernel pointers have 4 bytes on both sides, so that an access to one keeps its width.
#[test]
fn pointers_of_both_sides_are_the_kernels() {
    fn pointers(c: &mut Case, loader: Loader) -> u32 {
        c.loader = loader;
        c.target.int("long int", 4, 1);
        let ptr = c.target.ptr(0);
        let array = c.target.arr(ptr, 3);
        c.target.s("s", 16, &[("p", ptr, 0), ("a", array, 4)]);
        let ptr = c.local.ptr(0);
        let array = c.local.arr(ptr, 3);
        c.local.s("s", 32, &[("p", ptr, 0), ("a", array, 8)])
    }
    holds(|c| {
        let s = pointers(c, Loader::Libbpf);
        c.ldx(s, "0:0", Width::Dw, 0, Load(0, Width::W));
        c.mov(s, "0:1:2", BYTE_OFF, 24, Value(12));
    });
    holds(|c| {
        let s = pointers(c, kernel("6.12"));
        c.ldx(s, "0:0", Width::Dw, 0, Value(0));
        // The compiler took 8 bytes for an element.
        c.mov(s, "0:1:2", BYTE_OFF, 24, Fatal(-22, "insn-mismatch"));
        c.mov(s, "0:1:2", BYTE_OFF, 16, Value(12));
    });
}

/// Check that kinds that have no size in the kernel are an error there, and that -E2BIG is -EINVAL.
#[test]
fn sizes_are_the_kernels() {
    fn variable(c: &mut Case, loader: Loader) -> u32 {
        c.loader = loader;
        let int = c.target.i32();
        c.target.var("v", int, 1);
        let big = c.target.arr(int, 0x4000_0001);
        c.target.typedef("big", big);
        let int = c.local.i32();
        c.local.typedef("big", int);
        c.local.var("v", int, 1)
    }
    holds(|c| {
        let v = variable(c, Loader::Libbpf);
        c.mov(v, "0", EXISTS, 1, Value(1));
        c.mov(v - 1, "0", EXISTS, 1, Fatal(-7, "target-malformed"));
    });
    holds(|c| {
        let v = variable(c, kernel("6.12"));
        c.mov(v, "0", EXISTS, 1, Fatal(-22, "local-type-unusable"));
        c.mov(v - 1, "0", EXISTS, 1, Fatal(-22, "target-malformed"));
    });
}

/// Check that modules count in the kernel where vmlinux has no type of exactly that kind.
#[test]
fn modules_count_where_vmlinux_has_none_of_that_kind() {
    fn split(c: &mut Case, loader: Loader) -> u32 {
        c.loader = loader;
        c.target.enum64("e", 8, false, &[("A", 7)]);
        let mut module = BtfBuilder::split(&c.target);
        module.enumeration("e", 4, false, &[("A", 9)]);
        c.modules.push(module);
        c.local.enumeration("e", 4, false, &[("A", 1)])
    }
    holds(|c| {
        let e = split(c, kernel("6.12"));
        c.mov(e, "0", ENUMVAL_VALUE, 1, Value(9));
    });
    holds(|c| {
        let e = split(c, Loader::Libbpf);
        c.mov(e, "0", ENUMVAL_VALUE, 1, Value(7));
    });
}

/// Check that a fatal record fails the kernel's program and no other, and libbpf's whole object.
#[test]
fn a_fatal_record_fails_its_program_only() {
    let order = ByteOrder::Little;
    let mut target = BtfBuilder::new(order);
    let int = target.i32();
    target.structure("s", 4, &[Member::new("a", int, 0)]);
    let target = target.finish();
    let kernel_read = Kernel::new(Btf::parse(&target).unwrap());
    let verdicts = |loader, bad_section| {
        let mut local = BtfBuilder::new(order);
        let int = local.i32();
        let type_id = local.structure("s", 4, &[Member::new("a", int, 0)]);
        let access_str_off = local.str("0:0");
        let mut ext = BtfExtBuilder::new(order);
        let mut object = ObjectBuilder::new(order);
        for (section, name, imm) in [("raw_tp/a", "good", 1), (bad_section, "bad", 7)] {
            object.program(section, name, &[Insn::mov(0, imm), Insn::exit()]);
            let relo = CoreRelo { insn_off: 0, type_id, access_str_off, kind: EXISTS };
            ext.core_relo(local.str(section), relo);
        }
        object.license("GPL");
        object.btf(&local.finish());
        object.btf_ext(&ext.finish());
        let bytes = object.finish();
        let object = Object::parse(&bytes).unwrap();
        let run = Run::of_pair(loader, &object, &kernel_read, Modules::All);
        let verdicts = report::check(&run, None, &report::World::default(), 0);
        verdicts.on(0).unwrap().iter().map(|it| it.verdict).collect::<Vec<_>>()
    };
    assert_eq!(verdicts(kernel("6.12"), "raw_tp/b"), [Verdict::Ok, Verdict::FailReloc]);
    assert_eq!(verdicts(kernel("6.12"), "?raw_tp/b"), [Verdict::Ok, Verdict::FailReloc]);
    assert_eq!(verdicts(Loader::Libbpf, "raw_tp/b"), [Verdict::FailReloc, Verdict::FailReloc]);
    assert_eq!(verdicts(Loader::Libbpf, "?raw_tp/b"), [Verdict::Ok, Verdict::FailReloc]);
}

/// Check that it is said of a program without function and line information that the kernel ignores its records.
#[test]
fn records_that_the_kernel_ignores_are_explained() {
    let mut local = BtfBuilder::new(ByteOrder::Little);
    let int = local.i32();
    let root = local.s("s", 4, &[("x", int, 0)]);
    let (section, access_str_off) = (local.str("raw_tp/x"), local.str("0:0"));
    let mut ext = BtfExtBuilder::new(ByteOrder::Little);
    ext.core_relo(section, CoreRelo { insn_off: 0, type_id: root, access_str_off, kind: BYTE_OFF });
    let mut object = ObjectBuilder::new(ByteOrder::Little);
    object.program("raw_tp/x", "p", &[Insn::mov(0, 0), Insn::exit()]);
    object.btf(&local.finish());
    object.btf_ext(&ext.finish());
    let (object, target) = (object.finish(), local.finish());
    let object = Object::parse(&object).expect("the builder makes objects");
    let target = Kernel::new(Btf::parse(&target).expect("the builder makes BTF"));
    let notes = |loader| {
        let explanation = explain(&object, &target, loader, Modules::All, 0).expect("there is one record");
        explanation.quirks.iter().filter(|it| it.contains("neither function nor line information")).count()
    };
    assert_eq!((notes(kernel("6.18")), notes(Loader::Libbpf)), (1, 0));
}
