//! What the bytes are: constants and record layouts of BTF, `.BTF.ext` and BPF instructions. No logic.
//!
//! Everything here is foreign data of either byte order and any alignment, so fields are read through
//! [`Endian`] instead of being cast to structs.

pub mod btf;
pub mod btf_ext;
pub mod insn;

/// Byte order of a file. BTF says it by its magic, ELF by its identification bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endian {
    /// Least significant byte first (x86-64, arm64, riscv64).
    Little,
    /// Most significant byte first (s390x).
    Big,
}

impl Endian {
    /// Reads a `u16` at byte `off`, `None` past the end.
    #[inline]
    pub fn u16_at(self, data: &[u8], off: usize) -> Option<u16> {
        let bytes = *data.get(off..)?.first_chunk::<2>()?;
        Some(match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        })
    }

    /// Reads a `u32` at byte `off`, `None` past the end.
    #[inline]
    pub fn u32_at(self, data: &[u8], off: usize) -> Option<u32> {
        let bytes = *data.get(off..)?.first_chunk::<4>()?;
        Some(self.u32(bytes))
    }

    /// Decodes four bytes.
    #[inline]
    pub fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    /// Encodes a `u32`.
    #[inline]
    pub fn u32_bytes(self, value: u32) -> [u8; 4] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }
}
