//! `.BTF.ext`: header and record sizes of the three sub-sections.
//!
//! Source: libbpf's `struct btf_ext_header` (`src/libbpf_internal.h`) and `include/uapi/linux/bpf.h`.

/// Header up to and including `line_info_len`.
pub const HEADER_LEN_MIN: usize = 24;
/// Header with `core_relo_off` and `core_relo_len`.
pub const HEADER_LEN_CORE: usize = 32;
/// Where `core_relo_len` stands in the header.
pub const CORE_LEN_AT: usize = 28;
/// `insn_off`, `type_id`.
pub const FUNC_INFO_LEN: usize = 8;
/// `insn_off`, `file_name_off`, `line_off`, `line_col`.
pub const LINE_INFO_LEN: usize = 16;
/// `insn_off`, `type_id`, `access_str_off`, `kind`.
pub const CORE_RELO_LEN: usize = 16;

/// Kind of a CO-RE relocation, `enum bpf_core_relo_kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum RelocKind {
    /// Byte offset of a field.
    FieldByteOffset = 0,
    /// Size of a field in bytes.
    FieldByteSize = 1,
    /// Whether a field exists in the target.
    FieldExists = 2,
    /// Whether a field is signed.
    FieldSigned = 3,
    /// Left shift that brings a bitfield to the top of a 64-bit register.
    FieldLshiftU64 = 4,
    /// Right shift that brings it down again.
    FieldRshiftU64 = 5,
    /// Type id in the program's own BTF.
    TypeIdLocal = 6,
    /// Type id in the target's BTF.
    TypeIdTarget = 7,
    /// Whether a compatible type exists in the target.
    TypeExists = 8,
    /// Size of a type in the target.
    TypeSize = 9,
    /// Whether an enumerator exists in the target.
    EnumvalExists = 10,
    /// Value of an enumerator in the target.
    EnumvalValue = 11,
    /// Whether a matching type exists in the target.
    TypeMatches = 12,
}

/// What the access string of a relocation kind leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelocClass {
    /// A member or array element.
    Field,
    /// The root type itself.
    Type,
    /// An enumerator of the root type.
    Enumval,
}

impl RelocKind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 13] = [
        Self::FieldByteOffset,
        Self::FieldByteSize,
        Self::FieldExists,
        Self::FieldSigned,
        Self::FieldLshiftU64,
        Self::FieldRshiftU64,
        Self::TypeIdLocal,
        Self::TypeIdTarget,
        Self::TypeExists,
        Self::TypeSize,
        Self::EnumvalExists,
        Self::EnumvalValue,
        Self::TypeMatches,
    ];

    /// The kind with number `raw`, `None` for 13 and above.
    pub fn from_raw(raw: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(raw).ok()?).copied()
    }

    /// libbpf's name of the kind.
    pub fn name(self) -> &'static str {
        match self {
            Self::FieldByteOffset => "byte_off",
            Self::FieldByteSize => "byte_sz",
            Self::FieldExists => "field_exists",
            Self::FieldSigned => "signed",
            Self::FieldLshiftU64 => "lshift_u64",
            Self::FieldRshiftU64 => "rshift_u64",
            Self::TypeIdLocal => "local_type_id",
            Self::TypeIdTarget => "target_type_id",
            Self::TypeExists => "type_exists",
            Self::TypeSize => "type_size",
            Self::EnumvalExists => "enumval_exists",
            Self::EnumvalValue => "enumval_value",
            Self::TypeMatches => "type_matches",
        }
    }

    /// Which of the three groups the kind belongs to.
    pub fn class(self) -> RelocClass {
        match self {
            Self::FieldByteOffset
            | Self::FieldByteSize
            | Self::FieldExists
            | Self::FieldSigned
            | Self::FieldLshiftU64
            | Self::FieldRshiftU64 => RelocClass::Field,
            Self::TypeIdLocal
            | Self::TypeIdTarget
            | Self::TypeExists
            | Self::TypeSize
            | Self::TypeMatches => RelocClass::Type,
            Self::EnumvalExists | Self::EnumvalValue => RelocClass::Enumval,
        }
    }

    /// Whether the kind asks if something is there: its answer is 0 or 1 and never a failure.
    pub fn is_existence_query(self) -> bool {
        matches!(self, Self::FieldExists | Self::TypeExists | Self::TypeMatches | Self::EnumvalExists)
    }
}
