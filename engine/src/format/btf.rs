//! BTF: header, type records and their sizes.
//!
//! Source: `include/uapi/linux/btf.h` of July 2026 (7-bit kind, 24-bit vlen, layout section).

/// Magic of BTF and `.BTF.ext`, in the producer's byte order.
pub const MAGIC: u16 = 0xeb9f;
/// Smallest header: up to and including `str_len`.
pub const HEADER_LEN_MIN: usize = 24;
/// Header with `layout_off` and `layout_len`.
pub const HEADER_LEN_LAYOUT: usize = 32;
/// `name_off`, `info`, `size_or_type`.
pub const TYPE_LEN: usize = 12;
/// Largest string section that libbpf accepts, less one.
pub const MAX_STR_OFFSET: u32 = 0x7fff_ffff;
/// Bytes of one entry of the layout section: `u8 info_sz`, `u8 elem_sz`, `u16 flags`.
pub const LAYOUT_ENTRY_LEN: usize = 4;

/// INT encoding bit: signed.
pub const INT_SIGNED: u8 = 1;
/// INT encoding bit: `bool`.
pub const INT_BOOL: u8 = 4;

/// Linkage of a VAR or FUNC that is defined elsewhere.
pub const LINKAGE_EXTERN: u32 = 2;

/// Kind of a BTF type. The numbers are the file format's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the field's own; see the glossary in CONTRIBUTING.md")]
pub enum Kind {
    Void,
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    Datasec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
    /// A kind that this version does not know, skipped by means of the layout section. Never a candidate.
    Unknown(u8),
}

impl Kind {
    /// Decodes bits 24 to 30 of a type's `info`.
    #[inline]
    pub const fn from_info(info: u32) -> Self {
        let raw = ((info >> 24) & 0x7f) as u8;
        match raw {
            0 => Self::Void,
            1 => Self::Int,
            2 => Self::Ptr,
            3 => Self::Array,
            4 => Self::Struct,
            5 => Self::Union,
            6 => Self::Enum,
            7 => Self::Fwd,
            8 => Self::Typedef,
            9 => Self::Volatile,
            10 => Self::Const,
            11 => Self::Restrict,
            12 => Self::Func,
            13 => Self::FuncProto,
            14 => Self::Var,
            15 => Self::Datasec,
            16 => Self::Float,
            17 => Self::DeclTag,
            18 => Self::TypeTag,
            19 => Self::Enum64,
            other => Self::Unknown(other),
        }
    }

    /// The kind's number in the file format.
    pub fn raw(self) -> u8 {
        match self {
            Self::Void => 0,
            Self::Int => 1,
            Self::Ptr => 2,
            Self::Array => 3,
            Self::Struct => 4,
            Self::Union => 5,
            Self::Enum => 6,
            Self::Fwd => 7,
            Self::Typedef => 8,
            Self::Volatile => 9,
            Self::Const => 10,
            Self::Restrict => 11,
            Self::Func => 12,
            Self::FuncProto => 13,
            Self::Var => 14,
            Self::Datasec => 15,
            Self::Float => 16,
            Self::DeclTag => 17,
            Self::TypeTag => 18,
            Self::Enum64 => 19,
            Self::Unknown(raw) => raw,
        }
    }

    /// libbpf's lower-case name of the kind, as in its messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Void => "void",
            Self::Int => "int",
            Self::Ptr => "ptr",
            Self::Array => "array",
            Self::Struct => "struct",
            Self::Union => "union",
            Self::Enum => "enum",
            Self::Fwd => "fwd",
            Self::Typedef => "typedef",
            Self::Volatile => "volatile",
            Self::Const => "const",
            Self::Restrict => "restrict",
            Self::Func => "func",
            Self::FuncProto => "func_proto",
            Self::Var => "var",
            Self::Datasec => "datasec",
            Self::Float => "float",
            Self::DeclTag => "decl_tag",
            Self::TypeTag => "type_tag",
            Self::Enum64 => "enum64",
            Self::Unknown(_) => "unknown",
        }
    }

    /// STRUCT or UNION.
    #[inline]
    pub fn is_composite(self) -> bool {
        matches!(self, Self::Struct | Self::Union)
    }

    /// ENUM or ENUM64.
    #[inline]
    pub fn is_any_enum(self) -> bool {
        matches!(self, Self::Enum | Self::Enum64)
    }

    /// Whether `skip_mods_and_typedefs` steps over this kind.
    #[inline]
    pub fn is_mod_or_typedef(self) -> bool {
        matches!(self, Self::Typedef | Self::Volatile | Self::Const | Self::Restrict | Self::TypeTag)
    }

    /// libbpf's `btf_kind_core_compat`: equal, or both enums.
    #[inline]
    pub fn core_compat(self, other: Self) -> bool {
        self == other || (self.is_any_enum() && other.is_any_enum())
    }

    /// Bytes of the record behind the first twelve, as (fixed part, per element of vlen).
    /// `None` for a kind whose size only the layout section knows.
    #[inline]
    pub const fn tail_len(self) -> Option<(usize, usize)> {
        Some(match self {
            Self::Ptr
            | Self::Fwd
            | Self::Typedef
            | Self::Volatile
            | Self::Const
            | Self::Restrict
            | Self::Func
            | Self::Float
            | Self::TypeTag => (0, 0),
            Self::Int | Self::Var | Self::DeclTag => (4, 0),
            Self::Array => (12, 0),
            Self::Struct | Self::Union | Self::Datasec | Self::Enum64 => (0, 12),
            Self::Enum | Self::FuncProto => (0, 8),
            Self::Void | Self::Unknown(_) => return None,
        })
    }
}
