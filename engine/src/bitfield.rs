//! Which bits a field has, and which bits a program reads of it.
//!
//! A program takes a bitfield out of its struct by up to five values that are relocated: so many bytes are loaded at an
//! offset, and shifted left and right in 64 bits, with or without the sign. Many tuples of values read the same bits,
//! and compilers choose others than loaders do. So values are not compared with each other: each bit of the result is
//! traced to the bit of memory that it is a copy of, and two ways to read are the same if all of these are.
//!
//! Bits have the numbers that BTF gives them: from the start of the struct, in little endian from the lowest bit of each
//! byte, in big endian from the highest.

use std::fmt;

use crate::btf::{Btf, Sizes};
use crate::format::Endian;
use crate::format::btf::Kind;
use crate::value::{Endpoint, Place};

/// Bits of a register.
const WIDTH: usize = 64;

/// Where the bits of a field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// The first of them, in **bits** from the start of the root.
    pub bit_offset: u32,
    /// How many they are.
    pub bits: u32,
    /// Whether the last is a sign.
    pub is_signed: bool,
    /// Whether it is declared as a bitfield.
    pub is_bitfield: bool,
}

/// How a program reads a field: the values of one tuple of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reading {
    /// Where it loads, in **bytes** from the start of the root.
    pub offset: u64,
    /// How many bytes.
    pub size: u64,
    /// By how much it shifts them left in 64 bits.
    pub left: u64,
    /// By how much it shifts that right.
    pub right: u64,
    /// Whether the right shift keeps the sign; `None` if that is not looked at.
    pub is_signed: Option<bool>,
}

/// What a bit of a register is a copy of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Zero,
    /// A bit of memory, by its number.
    Memory(u64),
}

/// A register, the lowest bit first.
type Register = [Source; WIDTH];

impl Field {
    /// The field at `place` of `btf`; `None` if that is no field, or has no size.
    pub fn of(btf: &Btf<'_>, place: &Place) -> Option<Self> {
        let (member, type_id) = match place.end {
            Endpoint::Member { member, .. } => (Some(member), member.type_id),
            Endpoint::Element(id) => (None, id),
            Endpoint::Field { .. } | Endpoint::Type(_) | Endpoint::Enumerator { .. } => return None,
        };
        let (type_id, ty) = btf.skip_mods_and_typedefs(type_id)?;
        let whole = btf.size_by(Sizes::Libbpf, type_id).ok().and_then(|it| it.checked_mul(8));
        let declared = member.map_or(0, |it| it.bitfield_size);
        // Before members had widths, INTs of their own had them, which libbpf does not look at.
        let is_legacy =
            declared == 0 && ty.kind == Kind::Int && Some(ty.int_bits()) < whole && ty.int_bits() > 0;
        let (shift, bits) = match declared {
            0 if is_legacy => (ty.int_offset(), ty.int_bits()),
            0 => (0, whole?),
            bits => (0, bits),
        };
        let bit_offset = place.bit_offset.checked_add(shift)?;
        Some(Self { bit_offset, bits, is_signed: ty.is_signed(), is_bitfield: declared > 0 || is_legacy })
    }

    /// The field in a register, if it fits: with its sign, or with zeros above.
    fn in_register(&self, endian: Endian, with_sign: bool) -> Option<Register> {
        let bits = usize::try_from(self.bits).ok().filter(|it| (1..=WIDTH).contains(it))?;
        let (first, last) =
            (u64::from(self.bit_offset), u64::from(self.bit_offset) + u64::from(self.bits) - 1);
        let mut register = [Source::Zero; WIDTH];
        for (bit, number) in register.iter_mut().zip(first..=last) {
            *bit = Source::Memory(match endian {
                Endian::Little => number,
                Endian::Big => last - (number - first),
            });
        }
        if with_sign {
            let sign = *register.get(bits - 1)?;
            register.iter_mut().skip(bits).for_each(|it| *it = sign);
        }
        Some(register)
    }
}

impl fmt::Display for Field {
    /// `bits 3 to 22, signed`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = u64::from(self.bit_offset);
        write_bits(f, first, first + u64::from(self.bits.max(1)) - 1)?;
        f.write_str(if self.is_signed { ", signed" } else { ", unsigned" })
    }
}

fn write_bits(f: &mut fmt::Formatter<'_>, first: u64, last: u64) -> fmt::Result {
    if first == last { write!(f, "bit {first}") } else { write!(f, "bits {first} to {last}") }
}

impl Reading {
    /// Whether it gives exactly the value of `field`, whatever is in memory. Where the sign is not looked at, the bits
    /// of the field and zeros above them.
    pub fn extracts(&self, field: &Field, endian: Endian) -> bool {
        let with_sign = field.is_signed && self.is_signed.is_some();
        let wanted = field.in_register(endian, with_sign);
        wanted.is_some() && self.in_register(endian) == wanted
    }

    /// The register after both shifts; `None` if there are no such loads or shifts.
    fn in_register(&self, endian: Endian) -> Option<Register> {
        let shift = |by: u64| usize::try_from(by).ok().filter(|it| *it < WIDTH);
        let (left, right) = (shift(self.left)?, shift(self.right)?);
        if !matches!(self.size, 1 | 2 | 4 | 8) {
            return None;
        }
        let (first, bits) = (self.offset.checked_mul(8)?, self.size * 8);
        let last = first.checked_add(bits - 1)?;
        let loaded = |bit: u64| match endian {
            _ if bit >= bits => Source::Zero,
            Endian::Little => Source::Memory(first + bit),
            Endian::Big => Source::Memory(last - bit),
        };
        let mut shifted = [Source::Zero; WIDTH];
        for (bit, number) in shifted.iter_mut().skip(left).zip(0..) {
            *bit = loaded(number);
        }
        let mut register = [Source::Zero; WIDTH];
        if self.is_signed == Some(true) {
            register = [*shifted.last()?; WIDTH];
        }
        for (bit, from) in register.iter_mut().zip(shifted.iter().skip(right)) {
            *bit = *from;
        }
        Some(register)
    }
}

/// A reading with the byte order that it is done in, to be written: `4 bytes at 8, shifted left by 41 and right by 44: bits
/// 67 to 86, unsigned`.
#[derive(Clone, Copy, Debug)]
pub struct Described(pub Reading, pub Endian);

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(reading, endian) = self;
        let Reading { offset, size, left, right, is_signed } = reading;
        let bytes = if *size == 1 { "byte" } else { "bytes" };
        write!(f, "{size} {bytes} at {offset}, shifted left by {left} and right by {right}: ")?;
        let Some(register) = reading.in_register(*endian) else {
            return f.write_str("no load and shifts of a register");
        };
        // Above the bits that are read there may be zeros, or copies of the sign.
        let numbers: Vec<u64> = register
            .iter()
            .map_while(|it| match it {
                Source::Memory(number) => Some(*number),
                Source::Zero => None,
            })
            .collect();
        let run =
            numbers.windows(2).take_while(|it| matches!(it, [one, next] if one.abs_diff(*next) == 1)).count();
        let ends = (numbers.first().copied(), numbers.get(run).copied());
        let has_more = register.iter().skip(run + 1).any(|it| {
            matches!(it, Source::Memory(_)) && (*is_signed != Some(true) || Some(it) != register.get(run))
        });
        match ends {
            (Some(one), Some(other)) if !has_more => {
                write_bits(f, one.min(other), one.max(other))?;
                match is_signed {
                    Some(true) => f.write_str(", signed"),
                    Some(false) => f.write_str(", unsigned"),
                    None => Ok(()),
                }
            }
            _ => f.write_str("not one run of bits with zeros above"),
        }
    }
}
