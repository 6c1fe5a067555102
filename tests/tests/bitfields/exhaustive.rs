//! Every bitfield of up to 64 bits at every bit up to 127, in types of 1, 2, 4 and 8 bytes, with and without sign, in
//! either byte order; within the units of its type, as compilers place it, and across them, as in packed structs.

use std::sync::Arc;

use btfleet_engine::bitfield::{self, Reading};
use btfleet_engine::btf::{Btf, TypeId};
use btfleet_engine::dialect::Rules;
use btfleet_engine::format::Endian;
use btfleet_engine::format::btf_ext::RelocKind;
use btfleet_engine::query;
use btfleet_engine::resolve::{Budget, Match, on_candidate};
use btfleet_engine::value::ValueError;
use btfleet_tests::bits::{Field, Tuple};
use btfleet_tests::build::{BtfBuilder, ByteOrder, Insn, Member, code_bytes};
use btfleet_tests::generator::Rng;
use btfleet_tests::oracle::{CodeSection, Options, Oracle, Program, Record};

pub(crate) const ORDERS: [ByteOrder; 2] = [ByteOrder::Little, ByteOrder::Big];
pub(crate) const POSITIONS: u32 = 128;
/// Offset, size, left shift, right shift, sign.
pub(crate) const KINDS: [RelocKind; 5] = [
    RelocKind::FieldByteOffset,
    RelocKind::FieldByteSize,
    RelocKind::FieldLshiftU64,
    RelocKind::FieldRshiftU64,
    RelocKind::FieldSigned,
];

/// Bitfields of one width in one type: one at every position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family {
    pub(crate) order: ByteOrder,
    /// Size of the type in bytes.
    pub(crate) base: u32,
    pub(crate) signed: bool,
    pub(crate) bits: u32,
}

impl Family {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let bases = ORDERS.into_iter().flat_map(|order| [1, 2, 4, 8].map(|base| (order, base)));
        let signs = bases.flat_map(|(order, base)| [false, true].map(|signed| (order, base, signed)));
        signs.flat_map(|(order, base, signed)| {
            (1..=8 * base).map(move |bits| Self { order, base, signed, bits })
        })
    }

    pub(crate) fn field(self, bit_offset: u32) -> Field {
        let Self { order, signed, bits, .. } = self;
        Field { order, bit_offset, bits, signed }
    }

    /// BTF with `struct s`, whose member `f0` is at the first of `positions`, `f1` at the second.
    pub(crate) fn btf(self, positions: impl Iterator<Item = u32>) -> (BtfBuilder, u32) {
        let mut btf = BtfBuilder::new(self.order);
        let int = btf.int("t", self.base, u32::from(self.signed));
        let positions: Vec<u32> = positions.collect();
        let names: Vec<String> = (0..positions.len()).map(|it| format!("f{it}")).collect();
        let member = |(name, at): (&String, &u32)| (name.clone(), *at);
        let placed: Vec<(String, u32)> = names.iter().zip(&positions).map(member).collect();
        let members: Vec<Member<'_>> =
            placed.iter().map(|(name, at)| Member::bitfield(name, int, *at, self.bits)).collect();
        let root = btf.structure("s", 64, &members);
        (btf, root)
    }

    /// Whether libbpf refuses it: no aligned load of the type's size or more, up to 8 bytes, has all of it.
    pub(crate) fn is_refused(self, bit_offset: u32) -> bool {
        let (first, last) = (bit_offset, bit_offset + self.bits - 1);
        let has_both = |size: u32| first / (8 * size) == last / (8 * size);
        ![1, 2, 4, 8].into_iter().filter(|it| *it >= self.base).any(has_both)
    }
}

/// What is in memory: nothing, everything, and anything. Two ways to read that give the same on all of them are the same:
/// of a bit that one of them has and the other has not, half of them would tell.
pub(crate) fn memories() -> Vec<[u8; 40]> {
    let mut rng = Rng::new(20_260);
    let mut memories = vec![[0; 40], [0xff; 40]];
    for _ in 0..32 {
        let mut memory = [0; 40];
        for byte in &mut memory {
            *byte = rng.next_u64().to_le_bytes()[3];
        }
        memories.push(memory);
    }
    memories
}

/// Whether a tuple reads a field, whatever is in memory.
pub(crate) fn reads(tuple: &Tuple, field: &Field, memories: &[[u8; 40]]) -> bool {
    memories.iter().all(|it| tuple.read(field.order, it) == Some(field.value(it)))
}

fn tuple(values: [u64; 5]) -> Tuple {
    let [offset, size, left, right, signed] = values;
    Tuple { offset, size, left, right, signed: signed == 1 }
}

/// The values of libbpf's rules for member `f{number}`; an error if one of them has none.
fn values(btf: &Arc<Btf<'_>>, root: u32, number: u32) -> Result<[u64; 5], ValueError> {
    let access = format!("0:{number}");
    let mut values = [0; 5];
    for (value, kind) in values.iter_mut().zip(KINDS) {
        let question =
            query::parse(&Rules::LIBBPF, btf, TypeId(root), access.as_bytes(), kind as u32).unwrap();
        let query = question.query.unwrap();
        let found = on_candidate(&Rules::LIBBPF, &query, kind, btf, TypeId(root), &mut Budget::new());
        let Ok(Match::Found(found)) = found else { panic!("{access}: {found:?}") };
        // The same on both sides.
        assert_eq!(question.local.is_ok(), found.value.is_ok());
        *value = found.value?.value;
    }
    Ok(values)
}

/// Check that the values that are written read the field, or that there are none where libbpf has none.
#[test]
fn values_read_the_field() {
    let memories = memories();
    let (mut read, mut refused, mut packed) = (0, 0, 0);
    for family in Family::all() {
        let (btf, root) = family.btf(0..POSITIONS);
        let bytes = btf.finish();
        let btf = Arc::new(Btf::parse(&bytes).unwrap().with_pointer_size(8));
        for at in 0..POSITIONS {
            let values = values(&btf, root, at);
            let fits = at % (8 * family.base) + family.bits <= 8 * family.base;
            assert!(fits <= values.is_ok(), "{family:?} at {at}, in one unit, is answered differently");
            packed += u32::from(!fits);
            match values {
                Ok(values) => {
                    assert!(!family.is_refused(at), "{family:?} at {at}: {values:?} is answered differently");
                    assert!(
                        reads(&tuple(values), &family.field(at), &memories),
                        "{family:?} at {at}: {values:?} is answered differently"
                    );
                    read += 1;
                }
                Err(error) => {
                    assert_eq!(error, ValueError::BitfieldUnreadable);
                    assert!(family.is_refused(at), "{family:?} at {at} is answered differently");
                    refused += 1;
                }
            }
        }
    }
    assert_eq!(read + refused, 2 * 2 * (8 + 16 + 32 + 64) * POSITIONS);
    assert!(refused > 1000 && packed > 10_000, "{read} read, {refused} refused, {packed} packed");
}

/// Check that a tuple is accepted if it reads the field, and only then: the right ones for every load of the field's
/// surroundings, and what becomes of them by one in a shift, another size or offset, another sign.
#[test]
fn tuples_are_accepted_by_what_they_read() {
    let memories = memories();
    let (mut accepted, mut turned_down) = (0, 0);
    for family in Family::all() {
        let (order, endian) = match family.order {
            ByteOrder::Little => (ByteOrder::Little, Endian::Little),
            ByteOrder::Big => (ByteOrder::Big, Endian::Big),
        };
        for at in 0..POSITIONS {
            let field = family.field(at);
            let without_sign = Field { signed: false, ..field };
            let of_engine = bitfield::Field {
                bit_offset: at,
                bits: family.bits,
                is_signed: family.signed,
                is_bitfield: true,
            };
            let [wanted, wanted_without_sign] = [field, without_sign]
                .map(|field| memories.iter().map(|it| field.value(it)).collect::<Vec<_>>());
            let is_read = |tuple: &Tuple, wanted: &[u64]| {
                memories.iter().zip(wanted).all(|(it, value)| tuple.read(order, it) == Some(*value))
            };
            for size in [1, 2, 4, 8, 3] {
                for offset in around(u64::from(at) / 8 / size * size) {
                    let into = (u64::from(at)).wrapping_sub(offset.wrapping_mul(8));
                    let bits = u64::from(family.bits);
                    let left = match order {
                        ByteOrder::Little => 64_u64.wrapping_sub(into).wrapping_sub(bits),
                        ByteOrder::Big => (64_u64.wrapping_sub(8 * size)).wrapping_add(into),
                    };
                    for (left, right) in around(left).flat_map(|it| around(64 - bits).map(move |at| (it, at)))
                    {
                        let reading = |is_signed| Reading { offset, size, left, right, is_signed };
                        for signed in [false, true] {
                            let tuple = Tuple { offset, size, left, right, signed };
                            let is_right = is_read(&tuple, &wanted);
                            let says = reading(Some(signed)).extracts(&of_engine, endian);
                            assert_eq!(
                                says, is_right,
                                "{family:?} at {at}: {tuple:?} is answered differently"
                            );
                            accepted += u32::from(says);
                            turned_down += u32::from(!says);
                        }
                        let tuple = Tuple { offset, size, left, right, signed: false };
                        let is_right = is_read(&tuple, &wanted_without_sign);
                        let says = reading(None).extracts(&of_engine, endian);
                        assert_eq!(
                            says, is_right,
                            "{family:?} at {at}: {tuple:?} without sign is answered differently"
                        );
                    }
                }
            }
        }
    }
    assert!(accepted > 100_000 && turned_down > 1_000_000, "{accepted} accepted, {turned_down} turned down");
}

/// A number and its neighbours.
fn around(number: u64) -> impl Iterator<Item = u64> + Clone {
    [number, number.wrapping_sub(1), number.wrapping_add(1)].into_iter()
}

/// Check that libbpf itself has these values, and refuses what is said to be refused. It computes for the host's byte order.
#[test]
fn values_are_those_of_libbpf() {
    if cfg!(target_endian = "big") {
        return;
    }
    let memories = memories();
    let mut oracle = Oracle::spawn(env!("CARGO_BIN_EXE_oracle")).expect("the oracle starts");
    let (mut read, mut refused) = (0, 0);
    for family in Family::all().filter(|it| it.order == ByteOrder::Little) {
        // Fields stand in the program's struct in another order than in the kernel's.
        let (kernel, kernel_root) = family.btf(0..POSITIONS);
        let (mut local, root) = family.btf((0..POSITIONS).map(|it| it * 37 % POSITIONS));
        // All that the program's side may refuse is left out.
        let numbers: Vec<u32> = (0..POSITIONS).filter(|it| !family.is_refused(it * 37 % POSITIONS)).collect();
        let mut code = Vec::new();
        let mut records = Vec::new();
        for number in &numbers {
            let access = local.str(&format!("0:{number}"));
            for kind in KINDS {
                let insn_off = u32::try_from(code.len()).unwrap();
                records.push(Record {
                    section: 0,
                    insn_off,
                    type_id: root,
                    access_str_off: access,
                    kind: kind as u32,
                });
                // Compared are these two.
                let held = match kind {
                    RelocKind::FieldRshiftU64 => 64 - family.bits,
                    RelocKind::FieldSigned => u32::from(family.signed),
                    _ => 77,
                };
                code.extend(code_bytes(&[Insn::mov(1, held.cast_signed())], ByteOrder::Little));
            }
        }
        let functions = vec![(0, u32::try_from(code.len()).unwrap())];
        let program =
            Program { local_btf: local.finish(), sections: vec![CodeSection { code, functions }], records };
        let bytes = kernel.finish();
        oracle.set_target(&bytes, &[]).expect("a target");
        let answers = oracle.relocate(&program, Options::default()).expect("answers");
        let btf = Arc::new(Btf::parse(&bytes).unwrap().with_pointer_size(8));
        for (number, answers) in numbers.iter().zip(answers.as_chunks::<5>().0) {
            match values(&btf, kernel_root, *number) {
                Ok(values) => {
                    assert_eq!(answers.each_ref().map(|it| it.errno), [0; 5], "{family:?} at {number}");
                    let of_libbpf = answers.each_ref().map(|it| it.new_val);
                    assert_eq!(of_libbpf, values, "{family:?} at {number}");
                    assert!(reads(&tuple(of_libbpf), &family.field(*number), &memories));
                    read += 1;
                }
                Err(_) => {
                    assert_eq!(answers.each_ref().map(|it| it.errno), [7; 5], "{family:?} at {number}");
                    refused += 1;
                }
            }
        }
    }
    assert!(read > 10_000 && refused > 1_000, "{read} read, {refused} refused");
}
