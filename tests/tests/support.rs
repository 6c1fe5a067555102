//! The test infrastructure itself: builders, oracle and generator.

#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::time::Duration;

use btfleet_tests::build::{
    BtfBuilder, BtfExtBuilder, ByteOrder, CoreRelo, Insn, LineInfo, Member, ObjectBuilder, Width, code_bytes,
};
use btfleet_tests::oracle::{
    Answer, CodeSection, Options, Oracle, OracleError, Program, Record, Stage, Status, extract,
};

fn oracle() -> Oracle {
    Oracle::spawn(env!("CARGO_BIN_EXE_oracle")).expect("the oracle starts")
}

/// An object with one program of four relocations, its strings and types in `btf`.
fn sample(order: ByteOrder) -> Vec<u8> {
    let mut btf = BtfBuilder::new(order);
    let int = btf.int("int", 4, 1);
    let s = btf.structure("s", 8, &[Member::new("a", int, 0), Member::new("b", int, 32)]);
    let proto = btf.func_proto(int, &[("ctx", 0)]);
    let func = btf.func("prog", proto, 1);
    let (sec, path) = (btf.str("kprobe/x"), btf.str("0:1"));
    let (file, line) = (btf.str("x.c"), btf.str("return s->b;"));
    let insns = [Insn::ldx(Width::W, 0, 1, 4), Insn::mov(1, 4), Insn::exit()];
    let mut ext = BtfExtBuilder::new(order);
    ext.func_info(sec, 0, func);
    ext.line_info(sec, LineInfo { insn_off: 0, file_name_off: file, line_off: line, line: 3, column: 9 });
    for insn_off in [0, 8] {
        ext.core_relo(sec, CoreRelo { insn_off, type_id: s, access_str_off: path, kind: 0 });
    }
    let mut object = ObjectBuilder::new(order);
    object.program("kprobe/x", "prog", &insns);
    let text = object.code_section(".text");
    object.function(text, "helper", false, &[Insn::mov(0, 0), Insn::exit()]);
    object.license("GPL");
    object.btf(&btf.finish());
    object.btf_ext(&ext.finish());
    object.finish()
}

/// Builds both BTFs, relocates records (type id, path, kind, instructions) and returns the answers.
fn judge(
    local: &mut BtfBuilder,
    target: &BtfBuilder,
    modules: &[Vec<u8>],
    records: &[(u32, &str, u32, &[Insn])],
) -> Vec<Answer> {
    let mut code = Vec::new();
    let mut wanted = Vec::new();
    for &(type_id, path, kind, insns) in records {
        let insn_off = u32::try_from(code.len()).expect("short code");
        wanted.push(Record { section: 0, insn_off, type_id, access_str_off: local.str(path), kind });
        code.extend(code_bytes(insns, ByteOrder::Little));
    }
    let functions = vec![(0, u32::try_from(code.len()).expect("short code"))];
    let program = Program {
        local_btf: local.finish(),
        sections: vec![CodeSection { code, functions }],
        records: wanted,
    };
    let mut oracle = oracle();
    oracle.set_target(&target.finish(), modules).expect("a valid target");
    oracle.relocate(&program, Options { log: true, compare_pruning: true }).expect("answers")
}

#[test]
fn built_objects_open_in_libbpf() {
    let mut oracle = oracle();
    for order in [ByteOrder::Little, ByteOrder::Big] {
        assert_eq!(oracle.open(&sample(order)).expect("opens"), 1, "{order:?}");
    }
    // A corrupt `.BTF` is only a warning as long as nothing needs it.
    let mut object = ObjectBuilder::new(ByteOrder::Little);
    object.program("xdp", "p", &[Insn::mov(0, 0), Insn::exit()]);
    object.btf(&[1, 2, 3]);
    assert_eq!(oracle.open(&object.finish()).expect("opens"), 1);
    assert!(matches!(oracle.open(b"no object"), Err(OracleError::ObjectRefused(_))));
}

#[test]
fn every_kind_of_type_is_accepted_by_libbpf() {
    let mut oracle = oracle();
    for order in [ByteOrder::Little, ByteOrder::Big] {
        let mut b = BtfBuilder::new(order);
        let int = b.int("int", 4, 1);
        b.int_bits("int", 4, 0, 3, 5);
        let ptr = b.ptr(b.next_id() + 1);
        let arr = b.array(int, int, 3);
        b.structure("s", 32, &[Member::new("p", ptr, 0), Member::bitfield("f", int, 64, 3)]);
        b.union("u", 16, &[Member::new("a", arr, 0), Member::new("", ptr, 0)]);
        b.enumeration("e", 4, true, &[("A", -1), ("B", 7)]);
        b.enum64("e64", 8, false, &[("C", i64::MAX)]);
        b.fwd("f", true);
        let typedef = b.typedef("t", int);
        let constant = b.constant(typedef);
        let volatile = b.volatile(constant);
        b.restrict(volatile);
        let proto = b.func_proto(0, &[("x", int), ("", 0)]);
        b.func("fn", proto, 1);
        let var = b.var("v", int, 1);
        b.datasec(".data", 4, &[(var, 0, 4)]);
        b.float("double", 8);
        b.decl_tag("tag", 5, -1);
        b.type_tag("user", int);
        oracle.set_target(&b.finish(), &[]).expect("a valid base");
        let mut split = BtfBuilder::split(&b);
        split.structure("m", 4, &[Member::new("a", int, 0)]);
        oracle.set_target(&b.finish(), &[split.finish()]).expect("a valid module");
        if order == ByteOrder::Little {
            // libbpf 1.7 cannot swap a header that is longer than it knows.
            b.header_len(32);
            oracle.set_target(&b.finish(), &[]).expect("a long header");
        }
    }
    let mut bad = BtfBuilder::new(ByteOrder::Little);
    bad.ptr(77);
    assert!(matches!(oracle.set_target(&bad.finish(), &[]), Err(OracleError::TargetRefused(22))));
}

#[test]
fn the_extractor_reads_what_the_builder_wrote() {
    for order in [ByteOrder::Little, ByteOrder::Big] {
        let got = extract(&sample(order)).expect("readable");
        assert_eq!(got.order, order);
        assert_eq!(got.section_names, ["kprobe/x"; 2]);
        assert_eq!(got.access, ["0:1"; 2]);
        assert_eq!(got.program.records[1].insn_off, 8);
        let section = &got.program.sections[got.program.records[0].section as usize];
        assert_eq!(section.functions, [(0, 24)]);
        assert_eq!(section.code[..8], Insn::ldx(Width::W, 0, 1, 4).encode(ByteOrder::Little));
    }
}

#[test]
fn a_moved_field_is_patched_and_a_missing_one_poisoned() {
    let mut local = BtfBuilder::new(ByteOrder::Little);
    let int = local.int("int", 4, 1);
    let s = local.structure("s", 8, &[Member::new("a", int, 0), Member::new("b", int, 32)]);
    let mut target = BtfBuilder::new(ByteOrder::Little);
    let int = target.int("int", 4, 1);
    target.structure("s", 16, &[Member::new("a", int, 96)]);
    let got = judge(
        &mut local,
        &target,
        &[],
        &[
            (s, "0:0", 0, &[Insn::ldx(Width::W, 0, 1, 0)]),
            (s, "0:1", 0, &Insn::ldimm64(1, 4)),
            (s, "0:1", 2, &[Insn::mov(1, 1)]),
            (s, "0:0", 0, &[Insn::mov(1, 3)]),
            (s, "0", 6, &[Insn::mov(1, 3)]),
            (77, "0", 9, &[Insn::mov(1, 3)]),
        ],
    );
    assert_eq!((got[0].status, got[0].orig_val, got[0].new_val), (Status::Ok, 0, 12));
    assert_eq!(got[0].insn, Insn::ldx(Width::W, 0, 1, 12).encode(ByteOrder::Little));
    assert!(got[1].poison && got[1].insn_poisoned());
    assert_eq!(got[1].insn.len(), 16);
    assert_eq!((got[2].new_val, got[2].validate), (0, true));
    assert_eq!((got[3].status, got[3].stage, got[3].errno), (Status::Fatal, Stage::Patch, 22));
    assert!(got[3].log.contains("unexpected insn"), "{}", got[3].log);
    assert_eq!(got[3].insn, Insn::mov(1, 3).encode(ByteOrder::Little));
    assert_eq!((got[4].new_val, got[4].cands), (u64::from(s), (0, 0)));
    assert_eq!((got[5].status, got[5].stage), (Status::Fatal, Stage::Record));
}

/// Cases 9, 10 and 12 of section 13 of the specification: candidates that differ.
#[test]
fn candidates_are_pruned_in_record_order() {
    let mut local = BtfBuilder::new(ByteOrder::Little);
    let int = local.int("int", 4, 1);
    let s = local.structure("s", 8, &[Member::new("x", int, 0), Member::new("y", int, 32)]);
    let mut target = BtfBuilder::new(ByteOrder::Little);
    let int = target.int("int", 4, 1);
    target.structure("s___a", 8, &[Member::new("x", int, 32)]);
    target.structure("s___b", 8, &[Member::new("y", int, 0)]);
    let (x, y) = ([Insn::mov(1, 0)], [Insn::mov(1, 4)]);
    let got = judge(&mut local, &target, &[], &[(s, "0:0", 0, &x), (s, "0:1", 0, &y)]);
    assert_eq!((got[0].new_val, got[0].cands), (4, (2, 1)));
    assert!(got[1].poison);
    assert_eq!(got[1].without_pruning, Some((0, false, 0)));

    target.structure("s", 8, &[Member::new("x", int, 64)]);
    let got = judge(&mut local, &target, &[], &[(s, "0:0", 2, &[Insn::mov(1, 1)]), (s, "0:1", 0, &y)]);
    assert_eq!((got[0].status, got[0].errno), (Status::Fatal, 22));
    assert!(got[0].log.contains("field offset ambiguity"), "{}", got[0].log);
    assert_eq!(got[1].cands, (3, 1), "a fatal record prunes nothing");
}

/// Cases 40 to 46 of section 13 of the specification: windows of bitfields.
#[test]
fn bitfield_windows_grow() {
    // (type size, encoding, bit offset, bits) and (size, offset, left shift, right shift), or no answer.
    type Case = ((u32, u32, u32, u32), Option<[u64; 4]>);
    let cases: [Case; 9] = [
        ((4, 0, 3, 20), Some([4, 0, 41, 44])),
        ((4, 1, 23, 9), Some([4, 0, 32, 55])),
        ((1, 0, 5, 6), Some([2, 0, 53, 58])),
        ((1, 0, 14, 6), Some([4, 0, 44, 58])),
        ((1, 0, 70, 3), Some([2, 8, 55, 61])),
        ((8, 0, 4, 60), Some([8, 0, 0, 4])),
        ((8, 0, 4, 61), None),
        ((4, 0, 60, 8), None),
        ((4, 0, 62, 4), None),
    ];
    for ((size, encoding, bit_offset, bits), expected) in cases {
        let mut b = BtfBuilder::new(ByteOrder::Little);
        let int = b.int("t", size, encoding);
        let s = b.structure("s", 24, &[Member::bitfield("f", int, bit_offset, bits)]);
        let target = b.clone();
        let any = Insn::ldimm64(1, expected.map_or(0, |e| e[3]));
        let kinds = [1, 0, 4, 5].map(|kind| (s, "0:0", kind, &any[..]));
        let got = judge(&mut b, &target, &[], &kinds);
        match expected {
            Some(expected) => assert_eq!(got.iter().map(|a| a.new_val).collect::<Vec<_>>(), expected),
            None => assert!(got.iter().all(|a| a.errno == 7), "{got:?}"),
        }
    }
}

#[test]
fn modules_are_asked_only_if_vmlinux_has_no_candidate() {
    let mut local = BtfBuilder::new(ByteOrder::Little);
    let s = local.structure("s", 4, &[]);
    let t = local.structure("t", 4, &[]);
    let mut target = BtfBuilder::new(ByteOrder::Little);
    target.structure("s", 8, &[]);
    let mut module = BtfBuilder::split(&target);
    module.structure("s", 12, &[]);
    let in_module = module.structure("t", 12, &[]);
    let four = Insn::mov(1, 4);
    let got = judge(
        &mut local,
        &target,
        &[module.finish()],
        &[(s, "0", 9, &[four]), (t, "0", 9, &[four]), (t, "0", 7, &[four])],
    );
    assert_eq!(got.iter().map(|a| a.new_val).collect::<Vec<_>>(), [8, 12, u64::from(in_module)]);
}

#[test]
fn essential_names_end_before_the_last_flavor() {
    let cases = [
        ("a___b", 1),
        ("a___b___c", 5),
        ("a____b", 6),
        ("a___", 4),
        ("___b", 4),
        ("a__b", 4),
        ("s___x__1", 1),
        ("_a___b", 2),
        ("", 0),
    ];
    let (names, lengths): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    assert_eq!(oracle().essential_len(&names).expect("lengths"), lengths);
}

#[test]
fn a_child_that_dies_or_hangs_is_replaced() {
    let mut oracle = oracle();
    let mut target = BtfBuilder::new(ByteOrder::Little);
    target.int("int", 4, 1);
    oracle.set_target(&target.finish(), &[]).expect("a valid target");
    let program = Program { local_btf: target.finish(), ..Program::default() };
    for hang in [false, true] {
        oracle.set_patience(Duration::from_millis(300));
        let err = oracle.misbehave(hang).expect_err("it misbehaves");
        let (OracleError::Crashed { input, .. } | OracleError::Hung { input }) = &err else {
            panic!("{err}")
        };
        assert_eq!(std::fs::read(input).expect("the input is kept"), [4, u8::from(hang)]);
        std::fs::remove_file(input).expect("removable");
        oracle.set_patience(Duration::from_secs(10));
        oracle.relocate(&program, Options::default()).expect("the target is still known");
    }
}
