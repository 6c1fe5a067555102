//! Objects in which every field of a family is read, with values as compilers choose them or with one of them changed: what
//! is found is what the model says is wrong, field by field.

use std::collections::BTreeSet;

use btfleet_engine::batch::{Batch, Run};
use btfleet_engine::dialect::{Loader, Validate};
use btfleet_engine::fleet::Modules;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::Object;
use btfleet_engine::report::{self, Verdict, World};
use btfleet_engine::resolve::Outcome;
use btfleet_tests::bits::{Field, Tuple};
use btfleet_tests::build::{BtfExtBuilder, ByteOrder, CoreRelo, Insn, ObjectBuilder};
use btfleet_tests::generator::Rng;

use crate::exhaustive::{Family, KINDS, POSITIONS, memories, reads};

/// A tuple as a compiler might choose it: any load that has all of the field, at any byte.
fn compiled(field: &Field, rng: &mut Rng) -> Option<Tuple> {
    let (first, last) = (field.bit_offset, field.bit_offset + field.bits - 1);
    let loads: Vec<(u32, u32)> = [1, 2, 4, 8]
        .into_iter()
        .flat_map(|size| (0..=first / 8).map(move |offset| (offset, size)))
        .filter(|(offset, size)| last < 8 * (offset + size))
        .collect();
    if loads.is_empty() {
        return None;
    }
    let &(offset, size) = rng.pick(&loads);
    let into = first - 8 * offset;
    let left = match field.order {
        ByteOrder::Little => 64 - into - field.bits,
        ByteOrder::Big => 64 - 8 * size + into,
    };
    let [offset, size, left, right] = [offset, size, left, 64 - field.bits].map(u64::from);
    Some(Tuple { offset, size, left, right, signed: field.signed })
}

/// One value changed, or none; `fixed` are those of right shift and sign.
fn changed(tuple: Tuple, fixed: bool, rng: &mut Rng) -> Tuple {
    let by_one = |value: u64, rng: &mut Rng| if rng.chance(50) { value + 1 } else { value.saturating_sub(1) };
    match rng.below(if fixed { 7 } else { 9 }) {
        0 => Tuple { offset: by_one(tuple.offset, rng), ..tuple },
        1 => Tuple { size: *rng.pick(&[1, 2, 4, 8]), ..tuple },
        2 => Tuple { left: by_one(tuple.left, rng), ..tuple },
        7 => Tuple { right: by_one(tuple.right, rng), ..tuple },
        8 => Tuple { signed: !tuple.signed, ..tuple },
        _ => tuple,
    }
}

/// An object that reads members of `struct s` by tuples, with their numbers.
fn object(family: Family, positions: &[u32], tuples: &[(u32, Tuple)]) -> Vec<u8> {
    let (mut btf, root) = family.btf(positions.iter().copied());
    let proto = btf.func_proto(0, &[("ctx", 0)]);
    let func = btf.func("prog", proto, 1);
    let section = btf.str("raw_tp/x");
    let mut ext = BtfExtBuilder::new(family.order);
    ext.func_info(section, 0, func);
    let mut insns = Vec::new();
    for (number, tuple) in tuples {
        let access_str_off = btf.str(&format!("0:{number}"));
        let Tuple { offset, size, left, right, signed } = *tuple;
        for (value, kind) in [offset, size, left, right, u64::from(signed)].into_iter().zip(KINDS) {
            let insn_off = u32::try_from(8 * insns.len()).unwrap();
            ext.core_relo(section, CoreRelo { insn_off, type_id: root, access_str_off, kind: kind as u32 });
            insns.push(Insn::mov(1, i32::try_from(value).unwrap()));
        }
    }
    insns.extend([Insn::mov(0, 0), Insn::exit()]);
    let mut object = ObjectBuilder::new(family.order);
    object.program("raw_tp/x", "prog", &insns);
    object.license("GPL");
    object.btf(&btf.finish());
    object.btf_ext(&ext.finish());
    object.finish()
}

/// What is found, as the code and the path.
type Found = BTreeSet<(&'static str, String)>;

/// Judges all families by one loader. Gives how many tuples were found wrong before and after relocation, and how many
/// were right.
fn judge(loader: Loader) -> [usize; 3] {
    let memories = memories();
    let mut rng = Rng::new(7);
    let mut counts = [0; 3];
    let validates = loader != Loader::Aya;
    for family in Family::all() {
        let places: Vec<u32> = (0..POSITIONS).collect();
        let moved: Vec<u32> = places.iter().map(|it| it * 37 % POSITIONS).collect();
        let mut tuples: Vec<(u32, Tuple)> = Vec::new();
        for (number, &at) in (0..).zip(&places) {
            // One that is refused ends the load of all.
            let is_refused = family.is_refused(at) || family.is_refused(moved[at as usize]);
            let tuple = compiled(&family.field(at), &mut rng).filter(|_| !is_refused);
            tuples.extend(tuple.map(|it| (number, changed(it, validates, &mut rng))));
        }
        let bytes = object(family, &places, &tuples);
        let objects = [Object::parse(&bytes).expect("an object")];
        assert_eq!(objects[0].refused(), None);
        let kernel = family.btf(moved.iter().copied()).0.finish();
        let kernels = [Kernel::parse(&kernel).expect("BTF")];
        let batch = Batch::SEQUENTIAL;
        let run = Run::validating(&batch, &objects, &kernels, &[loader], Modules::Each, Validate::Strict);
        let verdicts = report::check(&run, None, &World::default(), 0);
        let verdict = &verdicts.on(0).expect("a verdict")[0];
        let path = |number: &u32| format!("s.f{number}");
        let found: Found = verdict
            .findings
            .iter()
            .map(|it| (it.code, objects[0].path(&objects[0].relocs()[it.reloc.expect("a record")])))
            .collect();
        let folded = run.fold(0, |_| true);
        let mut wanted = Found::new();
        for (access, (number, before)) in tuples.iter().enumerate() {
            let value = |part: usize| match folded.outcome(5 * access + part, 0) {
                Some(Outcome::Decided(decision)) => decision.new.expect("a value"),
                other => panic!("{family:?}, f{number}: {other:?}"),
            };
            let [offset, size, left, right, signed] = [0, 1, 2, 3, 4].map(value);
            let after = Tuple { offset, size, left, right, signed: signed == 1 };
            let here = reads(before, &family.field(*number), &memories);
            let there = reads(&after, &family.field(moved[*number as usize]), &memories);
            wanted.extend((!here).then(|| ("bitfield-mismatch", path(number))));
            wanted.extend((!there).then(|| ("bitfield-misread", path(number))));
            counts[0] += usize::from(!here);
            counts[1] += usize::from(!there);
            counts[2] += usize::from(here && there);
        }
        assert_eq!(found, wanted, "{family:?} is answered differently");
        assert_eq!(verdict.verdict, if wanted.is_empty() { Verdict::Ok } else { Verdict::OkDrift });
        let lenient = Run::new(&batch, &objects, &kernels, &[loader], Modules::Each);
        let lenient = report::check(&lenient, None, &World::default(), 0);
        assert_eq!(lenient.on(0).expect("a verdict")[0].findings, []);
    }
    counts
}

/// Check that objects are judged by what their tuples read, and that libbpf's own are right on every kernel.
#[test]
fn what_libbpf_writes_is_right() {
    let [before, after, right] = judge(Loader::Libbpf);
    assert!(before > 5_000 && right > 10_000, "{before} mismatched, {right} right");
    assert_eq!(after, 0);
}

/// Check the same where nothing is compared before it is written, so that every value may be wrong.
#[test]
fn every_value_may_be_wrong() {
    let [before, after, right] = judge(Loader::Aya);
    assert!(before > 8_000 && right > 10_000, "{before} mismatched, {right} right");
    assert_eq!(after, 0);
}

/// Check that a loader that never widens its loads is found out where fields cross the units of their type.
#[test]
fn loads_that_are_not_widened_misread() {
    let [_, after, right] = judge(Loader::EbpfGo);
    assert!(after > 1_000 && right > 10_000, "{after} misread, {right} right");
}
