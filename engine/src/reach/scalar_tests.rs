//! Numbers in ranges against numbers: what is said of a range has to hold for every number in it.

#![expect(clippy::cast_possible_truncation, reason = "random bits")]

use super::scalar::{Compare, Division, Scalar, Width, binary};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number, more often one near a border.
    fn number(&mut self) -> u64 {
        const BORDERS: [u64; 9] = [0, 1, 8, 0x80, 0x8000, 1 << 31, 1 << 32, 1 << 63, u64::MAX];
        let near = (self.next() % 5).wrapping_sub(2);
        match self.next() % 4 {
            0 => self.next(),
            1 => self.next() >> (self.next() % 64),
            _ => BORDERS.get(self.next() as usize % BORDERS.len()).copied().unwrap_or(0).wrapping_add(near),
        }
    }

    /// A number and a range that it is in.
    fn range(&mut self) -> (u64, Scalar) {
        let value = self.number();
        let mut range = Scalar::UNKNOWN;
        if self.next().is_multiple_of(3) {
            return (value, Scalar::constant(value));
        }
        for _ in 0..self.next() % 4 {
            let other = self.number();
            let (signed, other_signed) = (value.cast_signed(), other.cast_signed());
            match self.next() % 3 {
                0 if value <= other => range.high = range.high.min(other),
                0 => range.low = range.low.max(other),
                1 if signed <= other_signed => range.signed_high = range.signed_high.min(other_signed),
                1 => range.signed_low = range.signed_low.max(other_signed),
                _ => {
                    range.unknown &= other;
                    range.set = value & !range.unknown;
                }
            }
        }
        (value, range.tightened().expect("the number itself is in it"))
    }
}

fn holds(range: &Scalar, value: u64) -> bool {
    (range.low..=range.high).contains(&value)
        && (range.signed_low..=range.signed_high).contains(&value.cast_signed())
        && value & !range.unknown == range.set
}

/// What BPF computes; written from the instruction set's text.
fn computed(op: u8, width: Width, left: u64, right: u64, is_signed: bool) -> u64 {
    if width == Width::W64 {
        let by = right as u32 % 64;
        return match op {
            0x00 => left.wrapping_add(right),
            0x10 => left.wrapping_sub(right),
            0x20 => left.wrapping_mul(right),
            0x30 if is_signed && right != 0 => {
                left.cast_signed().wrapping_div(right.cast_signed()).cast_unsigned()
            }
            0x30 => left.checked_div(right).unwrap_or(0),
            0x40 => left | right,
            0x50 => left & right,
            0x60 => left << by,
            0x70 => left >> by,
            0x90 if is_signed && right != 0 => {
                left.cast_signed().wrapping_rem(right.cast_signed()).cast_unsigned()
            }
            0x90 => left.checked_rem(right).unwrap_or(left),
            0xa0 => left ^ right,
            _ => (left.cast_signed() >> by).cast_unsigned(),
        };
    }
    let (left, right) = (left as u32, right as u32);
    let by = right % 32;
    u64::from(match op {
        0x00 => left.wrapping_add(right),
        0x10 => left.wrapping_sub(right),
        0x20 => left.wrapping_mul(right),
        0x30 if is_signed && right != 0 => {
            left.cast_signed().wrapping_div(right.cast_signed()).cast_unsigned()
        }
        0x30 => left.checked_div(right).unwrap_or(0),
        0x40 => left | right,
        0x50 => left & right,
        0x60 => left << by,
        0x70 => left >> by,
        0x90 if is_signed && right != 0 => {
            left.cast_signed().wrapping_rem(right.cast_signed()).cast_unsigned()
        }
        0x90 => left.checked_rem(right).unwrap_or(left),
        0xa0 => left ^ right,
        _ => (left.cast_signed() >> by).cast_unsigned(),
    })
}

const OPS: [u8; 12] = [0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x90, 0xa0, 0xc0, 0xc0];
const WIDTHS: [Width; 2] = [Width::W32, Width::W64];

/// Check that the result of ranges has the result of any numbers in them, and of constants is that.
#[test]
fn results_of_ranges_hold_results_of_numbers() {
    let mut random = Random(1);
    for _ in 0..100_000 {
        let ((left, left_range), (right, right_range)) = (random.range(), random.range());
        for (op, width) in OPS.into_iter().flat_map(|op| WIDTHS.map(|width| (op, width))) {
            for divide in [Division::Untracked, Division::Unsigned, Division::Signed] {
                let expected = computed(op, width, left, right, divide == Division::Signed);
                let range = binary(op, width, &left_range, &right_range, divide).expect("an operation");
                let told =
                    || format!("{left:#x} {op:#x} {right:#x} {width:?} {divide:?}: {expected:#x}, {range:?}");
                // Distances out of range are whatever the machine makes of them.
                let distance = if width == Width::W32 { right & 0xffff_ffff } else { right };
                let is_shift = matches!(op, 0x60 | 0x70 | 0xc0);
                let is_defined = !is_shift || distance < if width == Width::W32 { 32 } else { 64 };
                assert!(!is_defined || holds(&range, expected), "{}", told());
                let is_tracked = is_defined && !(divide == Division::Untracked && matches!(op, 0x30 | 0x90));
                if is_tracked && left_range.value().is_some() && right_range.value().is_some() {
                    assert_eq!(range.value(), Some(expected), "{}", told());
                }
            }
        }
    }
}

fn compares(op: u8, width: Width, left: u64, right: u64) -> bool {
    let (left, right) = match width {
        Width::W64 => (left, right),
        Width::W32 => (u64::from(left as u32), u64::from(right as u32)),
    };
    let signed =
        |it: u64| if width == Width::W32 { i64::from((it as u32).cast_signed()) } else { it.cast_signed() };
    let (left_signed, right_signed) = (signed(left), signed(right));
    match op {
        0x10 => left == right,
        0x20 => left > right,
        0x30 => left >= right,
        0x40 => left & right != 0,
        0x50 => left != right,
        0x60 => left_signed > right_signed,
        0x70 => left_signed >= right_signed,
        0xa0 => left < right,
        0xb0 => left <= right,
        0xc0 => left_signed < right_signed,
        _ => left_signed <= right_signed,
    }
}

/// Check that numbers stay in what is left of their ranges on the side that they take, and constants decide.
#[test]
fn numbers_survive_on_the_side_that_they_take() {
    let mut random = Random(2);
    for _ in 0..100_000 {
        let ((left, left_range), (right, right_range)) = (random.range(), random.range());
        for op in [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0] {
            for width in WIDTHS {
                let compare = Compare::of_opcode(op).expect("a comparison");
                let takes = compares(op, width, left, right);
                let side = if takes { compare } else { compare.negated() };
                let told =
                    || format!("{left:#x} {compare:?} {right:#x} {width:?}, {left_range:?}, {right_range:?}");
                let Some((a, b)) = side.refine(width, &left_range, &right_range) else {
                    panic!("{}: the side that is taken is ruled out", told())
                };
                assert!(holds(&a, left) && holds(&b, right), "{}: {a:?}, {b:?}", told());
                if left_range.value().is_some() && right_range.value().is_some() {
                    let other = side.negated().refine(width, &left_range, &right_range);
                    assert!(other.is_none(), "{}: both sides are left", told());
                }
            }
        }
    }
}

/// Check halves, extensions and joins.
#[test]
fn numbers_survive_conversions() {
    let mut random = Random(3);
    for _ in 0..100_000 {
        let ((value, range), (other, other_range)) = (random.range(), random.range());
        assert!(holds(&range.low_half(), u64::from(value as u32)), "{value:#x} {range:?}");
        for bits in [8, 16, 32] {
            let shift = 64 - bits;
            let extended = ((value << shift).cast_signed() >> shift).cast_unsigned();
            assert!(holds(&range.sign_extended(bits), extended), "{value:#x} {bits} {range:?}");
        }
        let joined = range.joined(&other_range);
        assert!(holds(&joined, value) && holds(&joined, other), "{range:?} {other_range:?} {joined:?}");
        assert!(joined.covers(&range) && joined.covers(&other_range), "{range:?} {other_range:?} {joined:?}");
    }
}
