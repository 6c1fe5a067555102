//! What it means to read a field, bit by bit: a model that shares nothing with the engine, and computes nothing that it
//! could count out.

use crate::build::ByteOrder;

/// Where the bits of a field are, as BTF numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Byte order of the memory.
    pub order: ByteOrder,
    /// Number of the first bit.
    pub bit_offset: u32,
    /// How many there are.
    pub bits: u32,
    /// Whether the value has a sign.
    pub signed: bool,
}

impl Field {
    /// The value in `memory`, which starts where the struct does.
    #[must_use]
    pub fn value(&self, memory: &[u8]) -> u64 {
        let mut value = 0;
        for number in 0..self.bits {
            let bit = bit(self.order, memory, self.bit_offset + number);
            value = match self.order {
                ByteOrder::Little => value | bit << number,
                ByteOrder::Big => value << 1 | bit,
            };
        }
        let is_negative = self.signed && value >> (self.bits - 1) & 1 == 1;
        for number in self.bits..64 {
            value |= u64::from(is_negative) << number;
        }
        value
    }
}

/// Bit `number` of `memory`: little endian counts them from the lowest of each byte, big endian from the highest.
fn bit(order: ByteOrder, memory: &[u8], number: u32) -> u64 {
    let byte = memory.get((number / 8) as usize).copied().expect("a field within the memory");
    let place = match order {
        ByteOrder::Little => number % 8,
        ByteOrder::Big => 7 - number % 8,
    };
    u64::from(byte >> place & 1)
}

/// The values of the five records of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Where is loaded, in bytes.
    pub offset: u64,
    /// How many bytes.
    pub size: u64,
    /// The left shift.
    pub left: u64,
    /// The right shift.
    pub right: u64,
    /// Whether that keeps the sign.
    pub signed: bool,
}

impl Tuple {
    /// What `BPF_CORE_READ_BITFIELD()` makes of these values on `memory`; `None` if there are no such loads or shifts, or
    /// they go beyond the memory.
    #[must_use]
    pub fn read(&self, order: ByteOrder, memory: &[u8]) -> Option<u64> {
        let from = usize::try_from(self.offset).ok()?;
        let bytes = memory.get(from..from.checked_add(usize::try_from(self.size).ok()?)?)?;
        let mut value = match (order, bytes) {
            (_, [byte]) => u64::from(*byte),
            (ByteOrder::Little, [a, b]) => u64::from(u16::from_le_bytes([*a, *b])),
            (ByteOrder::Big, [a, b]) => u64::from(u16::from_be_bytes([*a, *b])),
            (_, [a, b, c, d]) => match order {
                ByteOrder::Little => u64::from(u32::from_le_bytes([*a, *b, *c, *d])),
                ByteOrder::Big => u64::from(u32::from_be_bytes([*a, *b, *c, *d])),
            },
            (_, [a, b, c, d, e, f, g, h]) => match order {
                ByteOrder::Little => u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
                ByteOrder::Big => u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
            },
            _ => return None,
        };
        if self.left > 63 || self.right > 63 {
            return None;
        }
        value <<= self.left;
        Some(match self.signed {
            true => (value.cast_signed() >> self.right).cast_unsigned(),
            false => value >> self.right,
        })
    }
}
