//! Builders of the inputs: BTF, `.BTF.ext`, instructions, relocatable BPF objects and kernel images.
//!
//! They write what they are told to, valid or not: most tests want something that a compiler would not emit.
//! They panic where a request cannot be written at all (a type id that is not the builder's, for example).

pub mod archive;
mod btf;
pub mod image;
mod insn;
mod object;

pub use btf::{
    BtfBuilder, KIND_ARRAY, KIND_CONST, KIND_DATASEC, KIND_DECL_TAG, KIND_ENUM, KIND_ENUM64, KIND_FLOAT,
    KIND_FUNC, KIND_FUNC_PROTO, KIND_FWD, KIND_INT, KIND_PTR, KIND_RESTRICT, KIND_STRUCT, KIND_TYPE_TAG,
    KIND_TYPEDEF, KIND_UNION, KIND_VAR, KIND_VOLATILE, Member,
};
pub use insn::{Insn, Width, code_bytes};
pub use object::{BtfExtBuilder, CoreRelo, LineInfo, ObjectBuilder, ObjectSection};

/// Byte order of everything a builder writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// Least significant byte first.
    #[default]
    Little,
    /// Most significant byte first.
    Big,
}

impl ByteOrder {
    /// The two bytes of `value`.
    #[must_use]
    pub fn u16(self, value: u16) -> [u8; 2] {
        if self == Self::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }

    /// The four bytes of `value`.
    #[must_use]
    pub fn u32(self, value: u32) -> [u8; 4] {
        if self == Self::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }

    /// The eight bytes of `value`.
    #[must_use]
    pub fn u64(self, value: u64) -> [u8; 8] {
        if self == Self::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }

    /// The value of two bytes.
    #[must_use]
    pub fn read_u16(self, bytes: [u8; 2]) -> u16 {
        if self == Self::Little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) }
    }

    /// The value of four bytes.
    #[must_use]
    pub fn read_u32(self, bytes: [u8; 4]) -> u32 {
        if self == Self::Little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }
    }

    /// The value of eight bytes.
    #[must_use]
    pub fn read_u64(self, bytes: [u8; 8]) -> u64 {
        if self == Self::Little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) }
    }
}
