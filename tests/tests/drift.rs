//! What loads but reads something else, rule by rule, on programs and kernels made by hand: each rule where it holds,
//! and next to it where it does not.

#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

use btfleet_engine::batch::{Batch, Run};
use btfleet_engine::dialect::Loader;
use btfleet_engine::fleet::Modules;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::Object;
use btfleet_engine::report::{self, Effect, Verdict, World};
use btfleet_tests::build::{
    BtfBuilder, BtfExtBuilder, ByteOrder, CoreRelo, Insn, Member, ObjectBuilder, Width,
};

const ORDER: ByteOrder = ByteOrder::Little;
const SIGNED: u32 = 1;
const BYTE_OFF: u32 = 0;
const BYTE_SZ: u32 = 1;
const RSHIFT: u32 = 5;
const ENUMVAL_VALUE: u32 = 11;

/// Adds a type for the field of `struct s`, and gives its id, and its bits if it is a bitfield.
type Field<'a> = &'a dyn Fn(&mut BtfBuilder) -> (u32, u32);

fn int(size: u32, encoding: u32) -> impl Fn(&mut BtfBuilder) -> (u32, u32) {
    move |btf| (btf.int("int", size, encoding), 0)
}

fn bits(at: u32) -> impl Fn(&mut BtfBuilder) -> (u32, u32) {
    move |btf| (btf.int("unsigned int", 4, 0), at)
}

fn enumeration(values: &'static [(&'static str, i64)]) -> impl Fn(&mut BtfBuilder) -> (u32, u32) {
    move |btf| (btf.enumeration("state", 4, false, values), 0)
}

/// BTF in which `struct s` has a field at byte 8; of a bitfield, 3 bits of it from bit 64 and so many.
fn structure(btf: &mut BtfBuilder, field: Field<'_>) -> (u32, u32) {
    let (ty, at) = field(btf);
    let member = if at == 0 { Member::new("f", ty, 64) } else { Member::bitfield("f", ty, 64 + at, 3) };
    (btf.structure("s", 16, &[member]), ty)
}

/// A program with records at its slots: `(slot, kind)`. Enumerators are asked for by their first.
fn object(field: Field<'_>, insns: &[Insn], records: &[(u32, u32)]) -> Vec<u8> {
    let mut btf = BtfBuilder::new(ORDER);
    let (root, leaf) = structure(&mut btf, field);
    let proto = btf.func_proto(0, &[("ctx", 0)]);
    let func = btf.func("prog", proto, 1);
    let (section, path, first) = (btf.str("raw_tp/x"), btf.str("0:0"), btf.str("0"));
    let mut ext = BtfExtBuilder::new(ORDER);
    ext.func_info(section, 0, func);
    for &(slot, kind) in records {
        let (type_id, access_str_off) = if kind == ENUMVAL_VALUE { (leaf, first) } else { (root, path) };
        ext.core_relo(section, CoreRelo { insn_off: 8 * slot, type_id, access_str_off, kind });
    }
    let mut object = ObjectBuilder::new(ORDER);
    object.program("raw_tp/x", "prog", insns);
    object.license("GPL");
    object.btf(&btf.finish());
    object.btf_ext(&ext.finish());
    object.finish()
}

/// Codes and messages of the drifts of a program on a kernel whose `struct s` has `there` for its field, judged alone
/// and behind a kernel that has what the program has.
fn drifts(
    here: Field<'_>,
    there: Field<'_>,
    insns: &[Insn],
    records: &[(u32, u32)],
) -> Vec<(String, String)> {
    let bytes = object(here, insns, records);
    let object = Object::parse(&bytes).expect("an object");
    assert_eq!(object.refused(), None);
    let kernels = [here, there].map(|field| {
        let mut btf = BtfBuilder::new(ORDER);
        structure(&mut btf, field);
        btf.finish()
    });
    let kernels = kernels.each_ref().map(|it| Kernel::parse(it).expect("BTF"));
    let objects = [object];
    let loaders = [Loader::Libbpf; 2];
    let run = Run::new(&Batch::SEQUENTIAL, &objects, &kernels, &loaders, Modules::Each);
    let verdicts = report::check(&run, None, &World::default(), 0);
    let of = |kernel| {
        let verdict = &verdicts.on(kernel).expect("a verdict")[0];
        let drifts: Vec<_> = verdict.findings.iter().filter(|it| it.effect == Effect::Drift).collect();
        assert_eq!(verdict.verdict == Verdict::OkDrift, !drifts.is_empty(), "{verdict:?}");
        drifts.iter().map(|it| (it.code.to_owned(), it.message.clone())).collect::<Vec<_>>()
    };
    assert_eq!(of(0), [], "on what it was compiled for");
    let alone = Run::of_pair(Loader::Libbpf, &objects[0], &kernels[1], Modules::Each);
    let alone = report::check(&alone, None, &World::default(), 0);
    let drifted = of(1);
    assert_eq!(alone.on(0).expect("a verdict")[0].findings.len(), drifted.len());
    drifted
}

fn codes(here: Field<'_>, there: Field<'_>, insns: &[Insn], records: &[(u32, u32)]) -> Vec<String> {
    drifts(here, there, insns, records).into_iter().map(|it| it.0).collect()
}

/// `bpf_probe_read_kernel(fp - 8, size, ctx + 8)`, the field's offset in slot 4; then what is done with it.
fn probe_read(size: i32, then: &[Insn]) -> Vec<Insn> {
    let mut insns = vec![
        Insn::alu_reg(0xb0, true, 3, 1),
        Insn::alu_reg(0xb0, true, 1, 10),
        Insn::alu(0x00, true, 1, -8),
        Insn::mov(2, size),
        Insn::mov(4, 8),
        Insn::alu_reg(0x00, true, 3, 4),
        Insn::call(113),
    ];
    insns.extend_from_slice(then);
    insns.extend([Insn::mov(0, 0), Insn::exit()]);
    insns
}

/// `r0 = *(ctx + 8)`, the field's offset in slot 0; then what is done with it.
fn load(width: Width, then: &[Insn]) -> Vec<Insn> {
    let mut insns = vec![Insn::ldx(width, 0, 1, 8)];
    insns.extend_from_slice(then);
    insns.extend([Insn::mov(0, 0), Insn::exit()]);
    insns
}

const PROBED: [(u32, u32); 1] = [(4, BYTE_OFF)];
const LOADED: [(u32, u32); 1] = [(0, BYTE_OFF)];

/// Check that a helper that reads as much as the program's field has is told from one that reads what the kernel's
/// has, and that whoever asks for the size is left alone.
#[test]
fn width_changed() {
    let (four, eight) = (int(4, 0), int(8, 0));
    let wide = drifts(&eight, &four, &probe_read(8, &[]), &PROBED);
    assert_eq!(
        wide,
        [(
            "width-changed".into(),
            "8 bytes are read, and the kernel's field has 4 bytes: what stands behind it is read with it"
                .into()
        )]
    );
    let narrow = drifts(&four, &eight, &probe_read(4, &[]), &PROBED);
    assert_eq!(narrow[0].1, "4 bytes are read, and the kernel's field has 8 bytes: the rest is not read");
    assert_eq!(codes(&four, &four, &probe_read(4, &[]), &PROBED), [""; 0]);
    // It reads what the kernel has.
    assert_eq!(codes(&eight, &four, &probe_read(4, &[]), &PROBED), [""; 0]);
    // It asks how much there is.
    assert_eq!(codes(&eight, &four, &probe_read(8, &[]), &[(4, BYTE_OFF), (3, BYTE_SZ)]), [""; 0]);
    // Loads are adjusted.
    assert_eq!(codes(&eight, &four, &load(Width::Dw, &[]), &LOADED), [""; 0]);
    // Through the address they are not.
    let by_address =
        [Insn::mov(2, 8), Insn::alu_reg(0x00, true, 1, 2), Insn::ldx(Width::Dw, 0, 1, 0), Insn::exit()];
    assert_eq!(codes(&eight, &four, &by_address, &LOADED), ["width-changed"]);
    // The address that the helper gets is that of something else.
    let mut other = probe_read(8, &[]);
    other.insert(6, Insn::alu(0x00, true, 3, 16));
    assert_eq!(codes(&eight, &four, &other, &PROBED), [""; 0]);
    let mut other = probe_read(8, &[]);
    other.insert(6, Insn::alu_reg(0xb0, true, 3, 6));
    assert_eq!(codes(&eight, &four, &other, &PROBED), [""; 0]);
}

/// Check that what no path gets to is not read.
#[test]
fn dead_reads_do_not_drift() {
    let (four, eight) = (int(4, 0), int(8, 0));
    let guarded = |known: i32| {
        let mut insns = vec![Insn::mov(0, known), Insn::jmp(0x10, 0, 1, 7)];
        insns.extend(probe_read(8, &[]));
        insns
    };
    let records = [(6, BYTE_OFF)];
    assert_eq!(codes(&eight, &four, &guarded(0), &records), ["width-changed"]);
    assert_eq!(codes(&eight, &four, &guarded(1), &records), [""; 0]);
}

/// Check that a sign matters where it is used.
#[test]
fn sign_changed() {
    let (signed, unsigned) = (int(4, SIGNED), int(4, 0));
    let extend = [Insn::alu(0x60, true, 0, 32), Insn::alu(0xc0, true, 0, 32)];
    let is_negative = [Insn::jmp(0xc0, 0, 0, 0)];
    let is_greater = [Insn::jmp(0x20, 0, 5, 0)];
    let from_stack = [Insn::ldx(Width::W, 0, 10, -8), is_negative[0]];
    assert_eq!(codes(&signed, &unsigned, &load(Width::W, &extend), &LOADED), ["sign-changed"]);
    assert_eq!(codes(&signed, &unsigned, &load(Width::W, &is_negative), &LOADED), ["sign-changed"]);
    assert_eq!(codes(&signed, &unsigned, &probe_read(4, &from_stack), &PROBED), ["sign-changed"]);
    // Not used, or as what it is there; and a bound that keeps negative values out.
    assert_eq!(codes(&unsigned, &signed, &load(Width::W, &is_greater), &LOADED), [""; 0]);
    assert_eq!(codes(&signed, &unsigned, &load(Width::W, &[]), &LOADED), [""; 0]);
    assert_eq!(codes(&signed, &unsigned, &load(Width::W, &is_greater), &LOADED), [""; 0]);
    assert_eq!(codes(&unsigned, &signed, &load(Width::W, &is_negative), &LOADED), [""; 0]);
    assert_eq!(codes(&signed, &signed, &load(Width::W, &extend), &LOADED), [""; 0]);
    // Something else is compared: the register was written to, or the stack was.
    let overwritten = [Insn::mov(0, 3), is_negative[0]];
    assert_eq!(codes(&signed, &unsigned, &load(Width::W, &overwritten), &LOADED), [""; 0]);
    let overwritten = [Insn::st(Width::W, 10, -6, 0), from_stack[0], from_stack[1]];
    assert_eq!(codes(&signed, &unsigned, &probe_read(4, &overwritten), &PROBED), [""; 0]);
    // What stands behind a jump that is always taken is reached from elsewhere.
    let behind = [Insn::ja(0), is_negative[0]];
    assert_eq!(codes(&signed, &unsigned, &load(Width::W, &behind), &LOADED), [""; 0]);
}

/// Check that bits that are read in their word, and stand elsewhere in the kernel's, are told.
#[test]
fn bitfield_not_shifted() {
    let (low, high, plain) = (bits(1), bits(9), int(4, 0));
    let shifts = [Insn::alu(0x70, true, 0, 1), Insn::alu(0x50, true, 0, 7)];
    let moved = drifts(&low, &high, &load(Width::W, &shifts), &LOADED);
    assert_eq!(moved[0].0, "bitfield-not-shifted");
    assert!(moved[0].1.starts_with("the bitfield is elsewhere in its word"), "{}", moved[0].1);
    assert_eq!(codes(&plain, &low, &probe_read(4, &[]), &PROBED), ["bitfield-not-shifted"]);
    assert_eq!(codes(&low, &low, &load(Width::W, &shifts), &LOADED), [""; 0]);
    // It asks for the shift.
    let asks = load(Width::W, &[Insn::mov(2, 61), shifts[0], shifts[1]]);
    assert_eq!(codes(&low, &high, &asks, &LOADED), ["bitfield-not-shifted"]);
    assert_eq!(codes(&low, &high, &asks, &[(0, BYTE_OFF), (1, RSHIFT)]), [""; 0]);
    // Its address is taken, and nothing is read.
    let address = [Insn::mov(2, 8), Insn::alu_reg(0x00, true, 1, 2), Insn::mov(0, 0), Insn::exit()];
    assert_eq!(codes(&plain, &low, &address, &LOADED), [""; 0]);
}

/// Check that a comparison with what an enumerator was is told, unless the program knows that enumerators move.
#[test]
fn enum_value_moved() {
    let here = enumeration(&[("IDLE", 0), ("BUSY", 1), ("GONE", 2)]);
    let there = enumeration(&[("IDLE", 0), ("WAITING", 1), ("BUSY", 2), ("GONE", 3)]);
    let renamed = enumeration(&[("IDLE", 0), ("RUNNING", 1), ("GONE", 2)]);
    let is = |value| [Insn::jmp(0x10, 0, value, 0)];
    let moved = drifts(&here, &there, &load(Width::W, &is(1)), &LOADED);
    assert_eq!(
        moved,
        [(
            "enum-value-moved".into(),
            "it is compared with 1, which is BUSY in the program; in the kernel that is 2".into()
        )]
    );
    // Through the stack, and the other way to say it.
    let from_stack = [Insn::ldx(Width::W, 0, 10, -8), Insn::jmp(0x50, 0, 2, 0)];
    assert_eq!(codes(&here, &there, &probe_read(4, &from_stack), &PROBED), ["enum-value-moved"]);
    assert_eq!(codes(&here, &there, &load(Width::W, &is(0)), &LOADED), [""; 0]);
    assert_eq!(codes(&here, &there, &load(Width::W, &is(7)), &LOADED), [""; 0]);
    // A name that is gone may be another name for the same.
    assert_eq!(codes(&here, &renamed, &load(Width::W, &is(1)), &LOADED), [""; 0]);
    // It relocates enumerators of that enum.
    let mut insns = load(Width::W, &is(1));
    insns.insert(1, Insn::mov(2, 0));
    assert_eq!(codes(&here, &there, &insns, &LOADED), ["enum-value-moved"]);
    assert_eq!(codes(&here, &there, &insns, &[(0, BYTE_OFF), (1, ENUMVAL_VALUE)]), [""; 0]);
}
