//! What is said of accesses that are incomplete or plain, of kernels whose fields only look like others, and what the
//! three ways to validate compare; each where it holds, and next to it where it does not.

use btfleet_engine::batch::{Batch, Run};
use btfleet_engine::dialect::{Loader, Validate};
use btfleet_engine::fleet::Modules;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::Object;
use btfleet_engine::relocate::{self, Obstacle, Optional};
use btfleet_engine::report::{self, Effect, Verdict, World};
use btfleet_tests::build::{
    BtfBuilder, BtfExtBuilder, ByteOrder, CoreRelo, Insn, Member, ObjectBuilder, Width,
};

const ORDER: ByteOrder = ByteOrder::Little;
const BYTE_OFF: u32 = 0;
const BYTE_SZ: u32 = 1;
const SIGNED: u32 = 3;
const LSHIFT: u32 = 4;
const RSHIFT: u32 = 5;

/// The field `f` of `struct s`, whose type has 4 bytes: where it is in bits, how many, and whether with a sign.
#[derive(Clone, Copy)]
enum Field {
    Bits {
        at: u32,
        bits: u32,
        signed: bool,
    },
    Plain {
        at: u32,
        signed: bool,
    },
    /// As before members had a width: the type has it.
    Legacy {
        at: u32,
        bits: u32,
    },
    Missing,
}

/// Bits 3 to 7 of the second word.
const LOCAL: Field = Field::Bits { at: 35, bits: 5, signed: false };

fn structure(btf: &mut BtfBuilder, field: Field) -> u32 {
    let member = match field {
        Field::Bits { at, bits, signed } => {
            Member::bitfield("f", btf.int("int", 4, u32::from(signed)), at, bits)
        }
        Field::Plain { at, signed } => Member::new("f", btf.int("int", 4, u32::from(signed)), at),
        Field::Legacy { at, bits } => Member::new("f", btf.int_bits("int", 4, 0, 0, bits), at),
        Field::Missing => Member::new("g", btf.int("int", 4, 0), 0),
    };
    btf.structure("s", 16, &[member])
}

fn object(here: Field, insns: &[Insn], records: &[(u32, u32)]) -> Vec<u8> {
    let mut btf = BtfBuilder::new(ORDER);
    let root = structure(&mut btf, here);
    let proto = btf.func_proto(0, &[("ctx", 0)]);
    let func = btf.func("prog", proto, 1);
    let (section, path) = (btf.str("raw_tp/x"), btf.str("0:0"));
    let mut ext = BtfExtBuilder::new(ORDER);
    ext.func_info(section, 0, func);
    for &(slot, kind) in records {
        ext.core_relo(section, CoreRelo { insn_off: 8 * slot, type_id: root, access_str_off: path, kind });
    }
    let mut object = ObjectBuilder::new(ORDER);
    object.program("raw_tp/x", "prog", insns);
    object.license("GPL");
    object.btf(&btf.finish());
    object.btf_ext(&ext.finish());
    object.finish()
}

fn kernel(there: Field) -> Vec<u8> {
    let mut btf = BtfBuilder::new(ORDER);
    structure(&mut btf, there);
    btf.finish()
}

/// Codes and messages on a kernel whose `struct s` has `there` for its field.
fn findings(
    validate: Validate,
    here: Field,
    there: Field,
    insns: &[Insn],
    records: &[(u32, u32)],
) -> Vec<(&'static str, String)> {
    let (bytes, kernel) = (object(here, insns, records), kernel(there));
    let objects = [Object::parse(&bytes).expect("an object")];
    assert_eq!(objects[0].refused(), None);
    let kernels = [Kernel::parse(&kernel).expect("BTF")];
    let (batch, loaders) = (Batch::SEQUENTIAL, [Loader::Libbpf]);
    let run = Run::validating(&batch, &objects, &kernels, &loaders, Modules::Each, validate);
    let verdicts = report::check(&run, None, &World::default(), 0);
    let verdict = &verdicts.on(0).expect("a verdict")[0];
    let drifts = verdict.findings.iter().any(|it| it.effect == Effect::Drift);
    assert_eq!(verdict.verdict == Verdict::OkDrift, drifts, "{verdict:?}");
    // No file is written for what is found so, and for everything else there is one.
    let planned = relocate::plan(&run, 0, Optional::Relocate);
    match &planned[0].plan {
        Ok(_) => assert!(validate != Validate::Strict || !drifts),
        // What no path leads to is in the file all the same.
        Err(Obstacle::Record(_)) if verdict.findings.is_empty() => assert_eq!(validate, Validate::Strict),
        Err(Obstacle::Record(obstacle)) => {
            let finding = verdict.findings.iter().find(|it| it.code == obstacle.code());
            assert_eq!(finding.and_then(|it| it.reloc), Some(obstacle.reloc));
        }
        Err(other) => panic!("{other:?}"),
    }
    verdict.findings.iter().map(|it| (it.code, it.message.clone())).collect()
}

fn codes(here: Field, there: Field, insns: &[Insn], records: &[(u32, u32)]) -> Vec<&'static str> {
    findings(Validate::Strict, here, there, insns, records).into_iter().map(|it| it.0).collect()
}

/// The values of [`LOCAL`] as libbpf has them, the right shift done as such by the operation `shift`.
fn read(shift: u8) -> [Insn; 8] {
    [
        Insn::mov(2, 4),
        Insn::mov(3, 4),
        Insn::mov(4, 0),
        Insn::alu(0x60, true, 4, 56),
        Insn::mov(5, 0),
        Insn::alu(shift, true, 4, 59),
        Insn::mov(0, 0),
        Insn::exit(),
    ]
}

const RSH: u8 = 0x70;
const ARSH: u8 = 0xc0;
const LSH: u8 = 0x60;
const ALL: [(u32, u32); 5] = [(0, BYTE_OFF), (1, BYTE_SZ), (3, LSHIFT), (4, SIGNED), (5, RSHIFT)];

/// Check that a whole access is fine wherever the field is, and that what is wrong is told with its bits.
#[test]
fn whole_accesses() {
    let insns = read(RSH);
    for there in [
        LOCAL,
        Field::Bits { at: 3, bits: 29, signed: true },
        Field::Plain { at: 64, signed: true },
        Field::Missing,
    ] {
        let found = codes(LOCAL, there, &insns, &ALL);
        let is_missing = matches!(there, Field::Missing);
        assert_eq!(found, if is_missing { vec!["no-field"; 5] } else { vec![] });
    }
    let mut off_by_one = insns;
    off_by_one[3] = Insn::alu(0x60, true, 4, 55);
    let found = findings(Validate::Strict, LOCAL, LOCAL, &off_by_one, &ALL);
    assert_eq!(
        found,
        [(
            "bitfield-mismatch",
            "as compiled, it reads 4 bytes at 4, shifted left by 55 and right by 59: bits 36 to 40, unsigned; the \
             program's own field is bits 35 to 39, unsigned"
                .to_owned()
        )]
    );
    assert_eq!(findings(Validate::Loader, LOCAL, LOCAL, &off_by_one, &ALL), []);
    // The same bits by another load.
    let mut by_byte = insns;
    by_byte[1] = Insn::mov(3, 1);
    assert_eq!(codes(LOCAL, LOCAL, &by_byte, &ALL), [""; 0]);
}

/// Check that widths that libbpf does not look at are.
#[test]
fn types_that_are_narrower_than_they_look() {
    let there = Field::Legacy { at: 35, bits: 5 };
    let found = findings(Validate::Strict, LOCAL, there, &read(RSH), &ALL);
    assert_eq!(
        found,
        [(
            "bitfield-misread",
            "it comes to read 4 bytes at 4, shifted left by 29 and right by 32: bits 35 to 63, unsigned; the kernel's \
             field is bits 35 to 39, unsigned"
                .to_owned()
        )]
    );
}

/// Check that what is missing of an access is told, unless the instructions say it.
#[test]
fn incomplete_accesses() {
    let insns = read(RSH);
    let without = |kind: u32| ALL.into_iter().filter(|it| it.1 != kind).collect::<Vec<_>>();
    for kind in [BYTE_OFF, BYTE_SZ, LSHIFT, RSHIFT] {
        assert_eq!(codes(LOCAL, LOCAL, &insns, &without(kind)), ["bitfield-incomplete"], "{kind}");
    }
    let found = findings(Validate::Strict, LOCAL, LOCAL, &insns, &[(5, RSHIFT)]);
    assert_eq!(
        found[0].1,
        "it is read by its shifts without its offset and size and left shift, which the program does not ask for: the \
         kernel's field is bits 35 to 39, unsigned"
    );
    // The load itself says how much.
    let mut loads = insns;
    loads[0] = Insn::ldx(Width::W, 4, 1, 4);
    assert_eq!(codes(LOCAL, LOCAL, &loads, &without(BYTE_SZ)), [""; 0]);
    loads[0] = Insn::ldx(Width::B, 4, 1, 4);
    assert_eq!(codes(LOCAL, LOCAL, &loads, &without(BYTE_SZ)), [""; 0]);
    let high = Field::Bits { at: 47, bits: 5, signed: false };
    assert_eq!(codes(LOCAL, high, &loads, &without(BYTE_SZ)), ["bitfield-misread"]);
}

/// Check that a sign that nobody asks for matters where it changes, and where values are shifted as the program has it.
#[test]
fn signs_that_are_not_asked_for() {
    let signed = Field::Bits { at: 35, bits: 5, signed: true };
    let records: Vec<_> = ALL.into_iter().filter(|it| it.1 != SIGNED).collect();
    assert_eq!(codes(LOCAL, signed, &read(RSH), &records), ["bitfield-incomplete"]);
    assert_eq!(codes(signed, LOCAL, &read(ARSH), &records), ["bitfield-incomplete"]);
    assert_eq!(codes(LOCAL, LOCAL, &read(RSH), &records), [""; 0]);
    // The program wants it otherwise than its own field has it; or makes a mask, to write.
    assert_eq!(codes(LOCAL, signed, &read(ARSH), &records), [""; 0]);
    assert_eq!(codes(LOCAL, signed, &read(LSH), &records), [""; 0]);
}

/// Check that one access with two forms is right if both are, and wrong if one of them is.
#[test]
fn fields_that_are_read_twice() {
    let mut insns = read(RSH).to_vec();
    insns.truncate(6);
    insns.extend([
        Insn::mov(2, 4),
        Insn::mov(3, 1),
        Insn::alu(0x60, true, 4, 56),
        Insn::mov(0, 0),
        Insn::exit(),
    ]);
    let twice: Vec<_> = ALL.into_iter().chain([(6, BYTE_OFF), (7, BYTE_SZ), (8, LSHIFT)]).collect();
    assert_eq!(codes(LOCAL, LOCAL, &insns, &twice), [""; 0]);
    insns[8] = Insn::alu(0x60, true, 4, 57);
    assert_eq!(codes(LOCAL, LOCAL, &insns, &twice), ["bitfield-mismatch"]);
    // Nothing that a compiler makes, and bounded.
    let many: Vec<Insn> = (0..40).map(|it| Insn::mov(2, it)).chain([Insn::mov(0, 0), Insn::exit()]).collect();
    let records: Vec<_> =
        (0..40).map(|it| (it, [BYTE_OFF, BYTE_SZ, LSHIFT, BYTE_OFF][it as usize % 4])).collect();
    let found = codes(LOCAL, LOCAL, &many, &records);
    assert_eq!(found, ["bitfield-incomplete"]);
    let records: Vec<_> =
        (0..40).map(|it| (it, if it == 3 { RSHIFT } else { records[it as usize].1 })).collect();
    let found = findings(Validate::Off, LOCAL, LOCAL, &many, &records);
    assert_eq!(found, []);
}

/// Check that a field that is read without its shifts has to be where it was in what is loaded.
#[test]
fn plain_reads() {
    let load =
        |off| vec![Insn::ldx(Width::W, 0, 1, off), Insn::alu(RSH, true, 0, 3), Insn::mov(0, 0), Insn::exit()];
    let records = [(0, BYTE_OFF)];
    let at = |at| Field::Bits { at, bits: 5, signed: false };
    assert_eq!(codes(LOCAL, LOCAL, &load(4), &records), [""; 0]);
    assert_eq!(codes(LOCAL, at(3), &load(4), &records), [""; 0]);
    assert_eq!(codes(LOCAL, at(36), &load(4), &records), ["bitfield-not-shifted"]);
    assert_eq!(
        codes(LOCAL, Field::Bits { at: 35, bits: 6, signed: false }, &load(4), &records),
        ["bitfield-not-shifted"]
    );
    // It loads the byte alone, and the loader writes the offset of the word.
    let byte = vec![Insn::ldx(Width::B, 0, 1, 5), Insn::mov(0, 0), Insn::exit()];
    let second = at(43);
    let found = findings(Validate::Strict, second, second, &byte, &records);
    assert_eq!(
        found,
        [(
            "bitfield-not-shifted",
            "the bitfield is elsewhere in what is loaded, and the program does not shift it as the kernel has it: \
             compiled in is 5 bits from bit 3 on of 1 byte; the kernel has 5 bits from bit 11 on of 1 byte"
                .to_owned()
        )]
    );
    assert_eq!(findings(Validate::Loader, second, second, &byte, &records), []);
    // Its address is taken, for whatever.
    let address = [Insn::mov(2, 4), Insn::alu_reg(0x00, true, 1, 2), Insn::mov(0, 0), Insn::exit()];
    let plain = Field::Plain { at: 32, signed: false };
    assert_eq!(codes(plain, LOCAL, &address, &records), ["bitfield-not-shifted"]);
    assert_eq!(codes(plain, Field::Bits { at: 64, bits: 32, signed: false }, &address, &records), [""; 0]);
    assert_eq!(codes(plain, Field::Plain { at: 64, signed: true }, &address, &records), [""; 0]);
    // No path leads there.
    let mut dead = vec![Insn::mov(0, 0), Insn::jmp(0x10, 0, 0, 2)];
    dead.extend(address);
    assert_eq!(codes(plain, LOCAL, &dead, &[(2, BYTE_OFF)]), [""; 0]);
}

/// Check that nothing is compared if so it is wanted.
#[test]
fn validate_off() {
    let plain = Field::Plain { at: 32, signed: false };
    let stale = [Insn::ldx(Width::W, 0, 1, 12), Insn::mov(0, 0), Insn::exit()];
    let records = [(0, BYTE_OFF)];
    let found = |validate| -> Vec<&str> {
        findings(validate, plain, plain, &stale, &records).into_iter().map(|it| it.0).collect()
    };
    assert_eq!(found(Validate::Loader), ["insn-mismatch"]);
    assert_eq!(found(Validate::Strict), ["insn-mismatch"]);
    assert_eq!(found(Validate::Off), [""; 0]);
}
