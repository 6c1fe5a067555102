//! Instructions, as far as relocations meet them.
#![expect(clippy::cast_possible_truncation, reason = "a 64-bit immediate is split into halves on purpose")]

use super::ByteOrder;

/// Access width of a load or store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// One byte.
    B,
    /// Two bytes.
    H,
    /// Four bytes.
    W,
    /// Eight bytes.
    Dw,
}

impl Width {
    /// The width of `bytes` bytes: 1, 2, 4 or 8.
    #[must_use]
    pub fn of(bytes: u32) -> Option<Self> {
        match bytes {
            1 => Some(Self::B),
            2 => Some(Self::H),
            4 => Some(Self::W),
            8 => Some(Self::Dw),
            _ => None,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::W => 0x00,
            Self::H => 0x08,
            Self::B => 0x10,
            Self::Dw => 0x18,
        }
    }
}

/// One instruction slot, independent of byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Insn {
    /// Operation code.
    pub code: u8,
    /// Destination register.
    pub dst: u8,
    /// Source register.
    pub src: u8,
    /// Offset.
    pub off: i16,
    /// Immediate.
    pub imm: i32,
}

impl Insn {
    /// An instruction from its fields.
    #[must_use]
    pub fn new(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Self {
        Self { code, dst, src, off, imm }
    }

    /// `dst = imm` (64 bits wide).
    #[must_use]
    pub fn mov(dst: u8, imm: i32) -> Self {
        Self::new(0xb7, dst, 0, 0, imm)
    }

    /// An operation with an immediate: `op` is the high nibble (0x00 add, 0x60 lsh, 0x70 rsh, 0xb0 mov, 0xc0 arsh).
    #[must_use]
    pub fn alu(op: u8, wide: bool, dst: u8, imm: i32) -> Self {
        Self::new((op & 0xf0) | if wide { 7 } else { 4 }, dst, 0, 0, imm)
    }

    /// The same with a register as source.
    #[must_use]
    pub fn alu_reg(op: u8, wide: bool, dst: u8, src: u8) -> Self {
        Self::new((op & 0xf0) | 0x08 | if wide { 7 } else { 4 }, dst, src, 0, 0)
    }

    /// `dst = *(width *)(src + off)`.
    #[must_use]
    pub fn ldx(width: Width, dst: u8, src: u8, off: i16) -> Self {
        Self::new(0x61 | width.code(), dst, src, off, 0)
    }

    /// `*(width *)(dst + off) = imm`.
    #[must_use]
    pub fn st(width: Width, dst: u8, off: i16, imm: i32) -> Self {
        Self::new(0x62 | width.code(), dst, 0, off, imm)
    }

    /// `*(width *)(dst + off) = src`.
    #[must_use]
    pub fn stx(width: Width, dst: u8, src: u8, off: i16) -> Self {
        Self::new(0x63 | width.code(), dst, src, off, 0)
    }

    /// The two slots of `dst = imm64`.
    #[must_use]
    pub fn ldimm64(dst: u8, imm: u64) -> [Self; 2] {
        [
            Self::new(0x18, dst, 0, 0, (imm as u32).cast_signed()),
            Self::new(0, 0, 0, 0, ((imm >> 32) as u32).cast_signed()),
        ]
    }

    /// A call of helper `id`.
    #[must_use]
    pub fn call(id: i32) -> Self {
        Self::new(0x85, 0, 0, 0, id)
    }

    /// An unconditional jump over `off` slots.
    #[must_use]
    pub fn ja(off: i16) -> Self {
        Self::new(0x05, 0, 0, off, 0)
    }

    /// A conditional jump comparing with an immediate: `op` is the high nibble (0x10 jeq, 0x50 jne, ...).
    #[must_use]
    pub fn jmp(op: u8, dst: u8, imm: i32, off: i16) -> Self {
        Self::new((op & 0xf0) | 5, dst, 0, off, imm)
    }

    /// End of the program.
    #[must_use]
    pub fn exit() -> Self {
        Self::new(0x95, 0, 0, 0, 0)
    }

    /// The eight bytes of the slot.
    #[must_use]
    pub fn encode(self, order: ByteOrder) -> [u8; 8] {
        let regs = match order {
            ByteOrder::Little => (self.src << 4) | (self.dst & 15),
            ByteOrder::Big => (self.dst << 4) | (self.src & 15),
        };
        let [o0, o1] = order.u16(self.off.cast_unsigned());
        let [i0, i1, i2, i3] = order.u32(self.imm.cast_unsigned());
        [self.code, regs, o0, o1, i0, i1, i2, i3]
    }

    /// Reads one slot.
    #[must_use]
    pub fn decode(bytes: [u8; 8], order: ByteOrder) -> Self {
        let [code, regs, o0, o1, i0, i1, i2, i3] = bytes;
        let (dst, src) = match order {
            ByteOrder::Little => (regs & 15, regs >> 4),
            ByteOrder::Big => (regs >> 4, regs & 15),
        };
        let off = order.read_u16([o0, o1]).cast_signed();
        Self { code, dst, src, off, imm: order.read_u32([i0, i1, i2, i3]).cast_signed() }
    }
}

/// The bytes of a run of instructions.
#[must_use]
pub fn code_bytes(insns: &[Insn], order: ByteOrder) -> Vec<u8> {
    insns.iter().flat_map(|insn| insn.encode(order)).collect()
}
