//! BPF instructions, as far as relocation touches them.
//!
//! Source: `include/uapi/linux/bpf.h`, `bpf_common.h`.

use super::Endian;

/// Bytes of one instruction slot.
pub const INSN_LEN: usize = 8;
/// Immediate of a poisoned instruction: the number of a helper that no kernel has.
pub const POISON_IMM: i32 = 195_896_080;
/// Opcode of `ldimm64`, which takes two slots.
pub const LDIMM64: u8 = 0x18;
/// Opcode of `call`.
pub const CALL: u8 = 0x85;

/// Instruction classes, opcode bits 0 to 2.
pub mod class {
    /// Legacy loads and `ldimm64`.
    pub const LD: u8 = 0;
    /// Load from memory.
    pub const LDX: u8 = 1;
    /// Store an immediate.
    pub const ST: u8 = 2;
    /// Store a register.
    pub const STX: u8 = 3;
    /// 32-bit arithmetic.
    pub const ALU: u8 = 4;
    /// 64-bit arithmetic.
    pub const ALU64: u8 = 7;
}

/// One instruction slot, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Opcode.
    pub code: u8,
    /// Destination register.
    pub dst: u8,
    /// Source register.
    pub src: u8,
    /// Signed offset, in bytes for memory accesses.
    pub off: i16,
    /// Signed immediate.
    pub imm: i32,
}

impl Insn {
    /// The call that no verifier lets through, which replaces an instruction that cannot be relocated.
    pub const POISON: Self = Self { code: CALL, dst: 0, src: 0, off: 0, imm: POISON_IMM };

    /// A 64-bit immediate load into the frame pointer, which no verifier lets through either: cilium/ebpf's poison for
    /// an instruction of two slots.
    pub const POISON_LDIMM64: Self = Self { code: LDIMM64, dst: 10, src: 0, off: 0, imm: POISON_IMM };

    /// Decodes a slot. The register nibbles are swapped in big-endian objects.
    #[inline]
    pub fn decode(bytes: [u8; INSN_LEN], endian: Endian) -> Self {
        let [code, regs, o0, o1, i0, i1, i2, i3] = bytes;
        match endian {
            Endian::Little => Self {
                code,
                dst: regs & 0xf,
                src: regs >> 4,
                off: i16::from_le_bytes([o0, o1]),
                imm: i32::from_le_bytes([i0, i1, i2, i3]),
            },
            Endian::Big => Self {
                code,
                dst: regs >> 4,
                src: regs & 0xf,
                off: i16::from_be_bytes([o0, o1]),
                imm: i32::from_be_bytes([i0, i1, i2, i3]),
            },
        }
    }

    /// Encodes the slot again; the inverse of [`Insn::decode`].
    #[inline]
    pub fn encode(self, endian: Endian) -> [u8; INSN_LEN] {
        let (regs, [o0, o1], [i0, i1, i2, i3]) = match endian {
            Endian::Little => (self.src << 4 | self.dst, self.off.to_le_bytes(), self.imm.to_le_bytes()),
            Endian::Big => (self.dst << 4 | self.src, self.off.to_be_bytes(), self.imm.to_be_bytes()),
        };
        [self.code, regs, o0, o1, i0, i1, i2, i3]
    }

    /// Opcode bits 0 to 2.
    #[inline]
    pub fn class(self) -> u8 {
        self.code & 0x07
    }

    /// Whether this is the first slot of a 64-bit immediate load.
    #[inline]
    pub fn is_ldimm64(self) -> bool {
        self.code == LDIMM64
    }

    /// Bytes that a load or store accesses, from opcode bits 3 and 4.
    #[inline]
    pub fn access_size(self) -> u32 {
        match self.code & 0x18 {
            0x00 => 4,
            0x08 => 2,
            0x10 => 1,
            _ => 8,
        }
    }

    /// The same instruction with another access size, `None` if no instruction has that size.
    #[inline]
    pub fn with_access_size(self, size: u32) -> Option<Self> {
        let bits = match size {
            4 => 0x00,
            2 => 0x08,
            1 => 0x10,
            8 => 0x18,
            _ => return None,
        };
        Some(Self { code: self.code & !0x18 | bits, ..self })
    }
}
