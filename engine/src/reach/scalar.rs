//! Numbers as the verifier knows them: bits, and bounds with and without a sign.
//!
//! Never more precise than the verifier of the newest kernels; what older ones do not track is left out where a
//! [`Verifier`](super::Verifier) says so.
//!
//! Source: `kernel/bpf/tnum.c`, `reg_bounds_sync`, `is_branch_taken`, Linux.

/// What a number may be because of: a bit for each [source](super::Source).
pub(super) type Sources = u64;

/// A number of 64 bits, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scalar {
    /// Least and greatest value without a sign.
    pub(super) low: u64,
    pub(super) high: u64,
    /// Least and greatest value with a sign.
    pub(super) signed_low: i64,
    pub(super) signed_high: i64,
    /// Bits that are set in every value, and bits that are not known. No bit is in both.
    pub(super) set: u64,
    pub(super) unknown: u64,
    /// Copies of the same unknown number have the same name; 0 is none.
    pub(super) name: u32,
    /// What it depends on.
    pub(super) from: Sources,
}

/// Width of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    W32,
    W64,
}

impl Width {
    fn bits(self) -> u64 {
        match self {
            Self::W32 => 32,
            Self::W64 => 64,
        }
    }
}

impl Scalar {
    /// Any number.
    pub(super) const UNKNOWN: Self = Self {
        low: 0,
        high: u64::MAX,
        signed_low: i64::MIN,
        signed_high: i64::MAX,
        set: 0,
        unknown: u64::MAX,
        name: 0,
        from: 0,
    };

    pub(super) const fn constant(value: u64) -> Self {
        let signed = value.cast_signed();
        Self {
            low: value,
            high: value,
            signed_low: signed,
            signed_high: signed,
            set: value,
            unknown: 0,
            name: 0,
            from: 0,
        }
    }

    /// Any number up to `high`.
    pub(super) fn up_to(high: u64) -> Self {
        Self::between(0, high)
    }

    pub(super) fn between(low: u64, high: u64) -> Self {
        Self { low, high, ..Self::UNKNOWN }.tightened().unwrap_or(Self::UNKNOWN)
    }

    pub(super) fn value(&self) -> Option<u64> {
        (self.low == self.high).then_some(self.low)
    }

    /// Whether nothing is known of it, not even where else it is.
    pub(super) fn is_unknown(&self) -> bool {
        self.unknown == u64::MAX && self.name == 0 && self.covers(&Self::UNKNOWN)
    }

    pub(super) fn with_sources(self, from: Sources) -> Self {
        Self { from: self.from | from, ..self }
    }

    /// With bits and bounds brought to agree; `None` if no number is left.
    pub(super) fn tightened(mut self) -> Option<Self> {
        // Each of the three may tell something about the others.
        for _ in 0..2 {
            self.low = self.low.max(self.set);
            self.high = self.high.min(self.set | self.unknown);
            if self.low > self.high {
                return None;
            }
            if self.low.cast_signed() <= self.high.cast_signed() {
                self.signed_low = self.signed_low.max(self.low.cast_signed());
                self.signed_high = self.signed_high.min(self.high.cast_signed());
            }
            if self.signed_low > self.signed_high {
                return None;
            }
            if self.signed_low >= 0 || self.signed_high < 0 {
                self.low = self.low.max(self.signed_low.cast_unsigned());
                self.high = self.high.min(self.signed_high.cast_unsigned());
            }
            if self.low > self.high {
                return None;
            }
            // Leading bits that both bounds have in common are known.
            let varying = self.low ^ self.high;
            let free = varying.checked_ilog2().map_or(0, |top| u64::MAX >> (63 - top));
            let (set, unknown) = (self.low & !free, free);
            if (self.set ^ set) & !self.unknown & !unknown != 0 {
                return None;
            }
            self.set |= set;
            self.unknown &= unknown;
            self.set &= !self.unknown;
        }
        Some(self)
    }

    /// Whether every number that `other` may be, this may be too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.low <= other.low
            && self.high >= other.high
            && self.signed_low <= other.signed_low
            && self.signed_high >= other.signed_high
            && other.unknown & !self.unknown == 0
            && (self.set ^ other.set) & !self.unknown == 0
    }

    /// The low 32 bits, as a number without a sign.
    pub(super) fn low_half(&self) -> Self {
        if self.high <= u64::from(u32::MAX) {
            return *self;
        }
        let bits = Self {
            set: self.set & u64::from(u32::MAX),
            unknown: self.unknown & u64::from(u32::MAX),
            from: self.from,
            ..Self::UNKNOWN
        };
        bits.tightened().unwrap_or(Self { from: self.from, ..Self::up_to(u32::MAX.into()) })
    }

    /// The low `bits` bits with their sign.
    pub(super) fn sign_extended(&self, bits: u32) -> Self {
        let shift = 64 - bits;
        match self.value() {
            Some(value) => Self {
                from: self.from,
                ..Self::constant(((value << shift).cast_signed() >> shift).cast_unsigned())
            },
            // What stays in the positive half stays as it is.
            None if self.high < 1 << (bits - 1) => *self,
            None => {
                let (low, high) = (i64::MIN >> shift, i64::MAX >> shift);
                let bounds = Self { signed_low: low, signed_high: high, from: self.from, ..Self::UNKNOWN };
                bounds.tightened().unwrap_or(Self::UNKNOWN)
            }
        }
    }

    fn add(&self, other: &Self) -> Self {
        let mut sum = Self::UNKNOWN;
        let carries =
            (self.set.wrapping_add(self.unknown)).wrapping_add(other.set.wrapping_add(other.unknown));
        let least = self.set.wrapping_add(other.set);
        sum.unknown = (carries ^ least) | self.unknown | other.unknown;
        sum.set = least & !sum.unknown;
        if let (Some(low), Some(high)) = (self.low.checked_add(other.low), self.high.checked_add(other.high))
        {
            (sum.low, sum.high) = (low, high);
        }
        let low = self.signed_low.checked_add(other.signed_low);
        if let (Some(low), Some(high)) = (low, self.signed_high.checked_add(other.signed_high)) {
            (sum.signed_low, sum.signed_high) = (low, high);
        }
        sum
    }

    fn sub(&self, other: &Self) -> Self {
        let mut left = Self::UNKNOWN;
        let least = self.set.wrapping_sub(other.set);
        let (most, fewest) = (least.wrapping_add(self.unknown), least.wrapping_sub(other.unknown));
        left.unknown = (most ^ fewest) | self.unknown | other.unknown;
        left.set = least & !left.unknown;
        if let (Some(low), Some(high)) = (self.low.checked_sub(other.high), self.high.checked_sub(other.low))
        {
            (left.low, left.high) = (low, high);
        }
        let low = self.signed_low.checked_sub(other.signed_high);
        if let (Some(low), Some(high)) = (low, self.signed_high.checked_sub(other.signed_low)) {
            (left.signed_low, left.signed_high) = (low, high);
        }
        left
    }

    /// From bits alone.
    fn of_bits(set: u64, unknown: u64) -> Self {
        Self { set: set & !unknown, unknown, ..Self::UNKNOWN }
    }

    fn and(&self, other: &Self) -> Self {
        let may = (self.set | self.unknown) & (other.set | other.unknown);
        let set = self.set & other.set;
        Self { high: self.high.min(other.high), ..Self::of_bits(set, may & !set) }
    }

    fn or(&self, other: &Self) -> Self {
        let set = self.set | other.set;
        Self { low: self.low.max(other.low), ..Self::of_bits(set, (self.unknown | other.unknown) & !set) }
    }

    fn xor(&self, other: &Self) -> Self {
        let unknown = self.unknown | other.unknown;
        Self::of_bits(self.set ^ other.set, unknown)
    }

    /// Shifts of a number of `width` bits by less than that; by an unknown distance they give anything.
    fn shifted(&self, op: Shift, by: &Self, width: Width) -> Self {
        let bits = width.bits();
        let Some(by) = by.value().filter(|it| *it < bits) else { return Self::UNKNOWN };
        match op {
            Shift::Left => {
                let mut out = Self::of_bits(self.set << by, self.unknown << by);
                if self.high <= 1 << (bits - 1 - by) {
                    (out.low, out.high) = (self.low << by, self.high << by);
                }
                out
            }
            Shift::Right => {
                let mut out = Self::of_bits(self.set >> by, self.unknown >> by);
                (out.low, out.high) = (self.low >> by, self.high >> by);
                out
            }
            Shift::RightSigned => {
                let of = if width == Width::W32 { self.sign_extended(32) } else { *self };
                let (low, high) = (of.signed_low >> by, of.signed_high >> by);
                Self { signed_low: low, signed_high: high, ..Self::UNKNOWN }
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Shift {
    Left,
    Right,
    RightSigned,
}

/// An operation of two numbers, by the upper four bits of its opcode. `None` if this is no such operation.
pub(super) fn binary(
    op: u8,
    width: Width,
    left: &Scalar,
    right: &Scalar,
    divide: Division,
) -> Option<Scalar> {
    let from = left.from | right.from;
    let (left, right) = match width {
        Width::W64 => (*left, *right),
        Width::W32 => (left.low_half(), right.low_half()),
    };
    // What the verifier does not follow may be anything, in the upper half of a narrow operation, too.
    let untracked = Scalar::UNKNOWN.with_sources(from);
    let result = match op {
        0x00 => left.add(&right),
        0x10 => left.sub(&right),
        0x20 => match (left.value(), right.value()) {
            (Some(left), Some(right)) => Scalar::constant(left.wrapping_mul(right)),
            // Before 6.14 products of larger numbers are anything.
            _ if left.high.max(right.high) <= u64::from(u32::MAX) => {
                let (low, high) = (left.low * right.low, left.high * right.high);
                Scalar { low, high, ..Scalar::UNKNOWN }
            }
            _ => Scalar::UNKNOWN,
        },
        0x30 | 0x90 => match divide.of(op == 0x90, width, &left, &right) {
            Some(result) => result,
            None => return Some(untracked),
        },
        0x40 => left.or(&right),
        0x50 => left.and(&right),
        // Distances that are not known or out of range are undefined to the verifier.
        0x60 | 0x70 | 0xc0 if right.value().is_none_or(|it| it >= width.bits()) => return Some(untracked),
        0x60 => left.shifted(Shift::Left, &right, width),
        0x70 => left.shifted(Shift::Right, &right, width),
        0xa0 => left.xor(&right),
        0xc0 => left.shifted(Shift::RightSigned, &right, width),
        _ => return None,
    };
    // A range of nothing comes from operands that cannot be; whatever follows is never run.
    let result = result.tightened().unwrap_or(Scalar::UNKNOWN);
    Some(match width {
        Width::W64 => Scalar { from, name: 0, ..result },
        Width::W32 => Scalar { from, name: 0, ..result.low_half() },
    })
}

/// How quotients and remainders come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Division {
    /// They are never known.
    Untracked,
    Unsigned,
    Signed,
}

impl Division {
    /// `None` if it is not known.
    fn of(self, is_remainder: bool, width: Width, left: &Scalar, right: &Scalar) -> Option<Scalar> {
        let (left, right) = (left.value()?, right.value()?);
        let value = match (self, width, right) {
            (Self::Untracked, ..) => return None,
            // BPF's rule: a quotient by nothing is nothing, a remainder is what there was.
            (_, _, 0) if is_remainder => left,
            (_, _, 0) => 0,
            (Self::Unsigned, ..) if is_remainder => left % right,
            (Self::Unsigned, ..) => left / right,
            (Self::Signed, Width::W64, _) => {
                let (left, right) = (left.cast_signed(), right.cast_signed());
                if is_remainder { left.wrapping_rem(right) } else { left.wrapping_div(right) }.cast_unsigned()
            }
            (Self::Signed, Width::W32, _) => {
                let signed = |it: u64| Scalar::constant(it).sign_extended(32).signed_low;
                let (left, right) = (signed(left), signed(right));
                if is_remainder { left % right } else { left / right }.cast_unsigned()
            }
        };
        Some(Scalar::constant(value))
    }
}

/// How two numbers compare, by the upper four bits of a jump's opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    SignedGreater,
    SignedGreaterOrEqual,
    SignedLess,
    SignedLessOrEqual,
    AnyBit,
    NoBit,
}

impl Compare {
    pub(super) fn of_opcode(op: u8) -> Option<Self> {
        Some(match op {
            0x10 => Self::Equal,
            0x20 => Self::Greater,
            0x30 => Self::GreaterOrEqual,
            0x40 => Self::AnyBit,
            0x50 => Self::NotEqual,
            0x60 => Self::SignedGreater,
            0x70 => Self::SignedGreaterOrEqual,
            0xa0 => Self::Less,
            0xb0 => Self::LessOrEqual,
            0xc0 => Self::SignedLess,
            0xd0 => Self::SignedLessOrEqual,
            _ => return None,
        })
    }

    pub(super) fn negated(self) -> Self {
        match self {
            Self::Equal => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::Greater => Self::LessOrEqual,
            Self::GreaterOrEqual => Self::Less,
            Self::Less => Self::GreaterOrEqual,
            Self::LessOrEqual => Self::Greater,
            Self::SignedGreater => Self::SignedLessOrEqual,
            Self::SignedGreaterOrEqual => Self::SignedLess,
            Self::SignedLess => Self::SignedGreaterOrEqual,
            Self::SignedLessOrEqual => Self::SignedGreater,
            Self::AnyBit => Self::NoBit,
            Self::NoBit => Self::AnyBit,
        }
    }

    /// The numbers that are left of both where the comparison holds; `None` if it cannot hold.
    pub(super) fn refine(self, width: Width, left: &Scalar, right: &Scalar) -> Option<(Scalar, Scalar)> {
        if width == Width::W32 {
            return self.refine_halves(left, right);
        }
        let (mut a, mut b) = (*left, *right);
        match self {
            Self::Equal => {
                // Two numbers that are equal have what is known of either.
                if (a.set ^ b.set) & !a.unknown & !b.unknown != 0 {
                    return None;
                }
                (a.low, a.high) = (a.low.max(b.low), a.high.min(b.high));
                (a.signed_low, a.signed_high) =
                    (a.signed_low.max(b.signed_low), a.signed_high.min(b.signed_high));
                a.unknown &= b.unknown;
                a.set = (a.set | b.set) & !a.unknown;
                let both = a.tightened()?;
                return Some((both, Scalar { name: b.name, from: b.from, ..both }));
            }
            Self::NotEqual => {
                if left.value().is_some() && left.value() == right.value() {
                    return None;
                }
                a = a.without(right);
                b = b.without(left);
            }
            Self::Greater => {
                a.low = a.low.max(b.low.checked_add(1)?);
                b.high = b.high.min(a.high.checked_sub(1)?);
            }
            Self::GreaterOrEqual => {
                a.low = a.low.max(b.low);
                b.high = b.high.min(a.high);
            }
            Self::SignedGreater => {
                a.signed_low = a.signed_low.max(b.signed_low.checked_add(1)?);
                b.signed_high = b.signed_high.min(a.signed_high.checked_sub(1)?);
            }
            Self::SignedGreaterOrEqual => {
                a.signed_low = a.signed_low.max(b.signed_low);
                b.signed_high = b.signed_high.min(a.signed_high);
            }
            Self::Less | Self::LessOrEqual | Self::SignedLess | Self::SignedLessOrEqual => {
                return self.mirrored().refine(width, right, left).map(|(right, left)| (left, right));
            }
            Self::AnyBit => {
                let mask = right.value();
                if mask.is_some_and(|mask| (a.set | a.unknown) & mask == 0) {
                    return None;
                }
                // One bit that was looked for is then known.
                if let Some(mask) = mask.filter(|it| it.is_power_of_two()) {
                    a.set |= mask;
                    a.unknown &= !mask;
                }
            }
            // Bits are looked for only if it is known which.
            Self::NoBit => {
                if let Some(mask) = right.value() {
                    if a.set & mask != 0 {
                        return None;
                    }
                    a.unknown &= !mask;
                }
            }
        }
        if matches!(self, Self::AnyBit | Self::NoBit) {
            // The verifier decides this by bits alone: bounds that contradict them rule nothing out.
            return Some((a.tightened().unwrap_or(*left), b));
        }
        Some((a.tightened()?, b.tightened()?))
    }

    fn mirrored(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::SignedLess => Self::SignedGreater,
            Self::SignedLessOrEqual => Self::SignedGreaterOrEqual,
            other => other,
        }
    }

    /// Of the low halves. What is left of them is only known of the whole where the upper half is nothing.
    fn refine_halves(self, left: &Scalar, right: &Scalar) -> Option<(Scalar, Scalar)> {
        let is_signed = matches!(
            self,
            Self::SignedGreater | Self::SignedGreaterOrEqual | Self::SignedLess | Self::SignedLessOrEqual
        );
        let half = |it: &Scalar| if is_signed { it.low_half().sign_extended(32) } else { it.low_half() };
        let (a, b) = (half(left), half(right));
        let (low_a, low_b) = self.refine(Width::W64, &a, &b)?;
        let whole = |of: &Scalar, half: &Scalar, refined: Scalar| {
            // Where sign extension changed nothing, the half is the number.
            let is_half = of.high <= u64::from(u32::MAX) && half.low == of.low && half.high == of.high;
            if is_half {
                return Scalar { name: of.name, from: of.from, ..refined };
            }
            // A known half is known of the whole.
            match refined.value().filter(|_| !is_signed || refined.signed_low >= 0) {
                Some(value) => {
                    let mask = u64::from(u32::MAX);
                    let bits = Scalar { set: of.set & !mask | value, unknown: of.unknown & !mask, ..*of };
                    bits.tightened().unwrap_or(*of)
                }
                None => *of,
            }
        };
        Some((whole(left, &a, low_a), whole(right, &b, low_b)))
    }
}

impl Scalar {
    /// Without a number at either end of its range.
    fn without(mut self, other: &Self) -> Self {
        let Some(value) = other.value().filter(|_| self.value().is_none()) else { return self };
        if self.low == value {
            self.low += 1;
        }
        if self.high == value {
            self.high -= 1;
        }
        if self.signed_low == value.cast_signed() {
            self.signed_low += 1;
        }
        if self.signed_high == value.cast_signed() {
            self.signed_high -= 1;
        }
        self
    }

    /// What may be either. Ends that differ are not known any more, so that this comes to an end soon.
    pub(super) fn joined(&self, other: &Self) -> Self {
        let from = self.from | other.from;
        if self.covers(other) {
            return Self { from, name: 0, ..*self };
        }
        let half = u64::from(u32::MAX);
        if self.high <= half && other.high <= half {
            return Self { from, ..Self::up_to(half) };
        }
        Self { from, ..Self::UNKNOWN }
    }
}
