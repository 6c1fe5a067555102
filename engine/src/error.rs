//! What libbpf calls an error: the loader gives up on the whole object, the kernel on the program.

use crate::value::ValueError;

/// Why a relocation ends the load. A missing field is *not* an error, see [`crate::resolve::Outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// Candidates put the field at different offsets.
    #[error("candidates disagree: the field is at bit {first} in one and at bit {other} in another")]
    AmbiguousOffset {
        /// Bit offset in the first candidate.
        first: u32,
        /// Bit offset in the one that disagrees.
        other: u32,
    },
    /// Candidates give different values.
    #[error("candidates disagree: one gives {first} and another {other}")]
    AmbiguousValue {
        /// Value of the first candidate.
        first: u64,
        /// Value of the one that disagrees.
        other: u64,
    },
    /// A bitfield that no aligned load of up to eight bytes covers.
    #[error("the bitfield does not fit into any aligned load of up to 8 bytes")]
    BitfieldUnreadable,
    /// An offset over 32767 does not fit into a load or store.
    #[error("offset {value} does not fit into the instruction, which takes up to 32767")]
    OffsetOverflow {
        /// The offset in bytes.
        value: u64,
    },
    /// An immediate that 31 bits do not hold.
    #[error("{value} does not fit into the instruction's immediate, which takes 0 to 2147483647")]
    ImmediateOverflow {
        /// The value.
        value: u64,
    },
    /// A function that several programs are loaded with, to which different candidates were given.
    #[error("programs that are loaded with this function give it different answers")]
    ProgramDependent,
    /// The instruction does not hold the value that the local BTF implies.
    #[error(
        "the instruction holds {found}, the local BTF implies {expected}: the object was edited or linked after compilation"
    )]
    InsnMismatch {
        /// Value in the instruction.
        found: u64,
        /// Value that the local BTF implies.
        expected: u64,
    },
    /// An instruction that cannot be relocated.
    #[error("instruction with opcode {code:#04x} cannot be relocated")]
    InsnUnsupported {
        /// Its opcode.
        code: u8,
    },
    /// The access is not as wide as the local field, or the target's field has no width that an access can have.
    #[error("the access is {access} bytes wide, the local field {local}, the target's {target}")]
    WidthMismatch {
        /// Bytes that the instruction accesses.
        access: u32,
        /// Size of the local field in bytes.
        local: u32,
        /// Size of the target's field in bytes.
        target: u32,
    },
    /// The root type has no name to look for.
    #[error("type [{id}] has no name, and candidates are found by name")]
    AnonymousRoot {
        /// The root's id in the local BTF.
        id: u32,
    },
    /// The access string cannot be read, or does not fit the local type.
    #[error("the access string is malformed or does not fit the local type")]
    BadAccessString,
    /// The record's type id does not exist.
    #[error("type id {id} does not exist in the object's BTF")]
    BadTypeId {
        /// The id.
        id: u32,
    },
    /// The record's instruction offset is no instruction.
    #[error("instruction offset {offset} is not usable: {why}")]
    BadInsnOffset {
        /// The offset in bytes.
        offset: u32,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The local type cannot be used in this way.
    #[error("the local type cannot be used for this relocation")]
    LocalTypeUnusable,
    /// The relocation kind makes no sense there.
    #[error("this kind of relocation cannot be applied to an array element")]
    KindNotApplicable,
    /// The path has more than 64 steps, anonymous ones included.
    #[error("more than 64 nested members on the way to the field")]
    TooDeep,
    /// Types are nested too deeply to be compared.
    #[error("the types are nested too deeply to be compared")]
    MatchTooDeep,
    /// A relocation kind that does not exist.
    #[error("relocation kind {kind} is unknown")]
    UnknownKind {
        /// The kind's number.
        kind: u32,
    },
    /// The loader has no code for this kind of relocation.
    #[error("kernels before 5.18 cannot compare types")]
    LoaderUnsupported,
    /// The target has no such type, and the loader no value for that.
    #[error("the kernel has no such type, and the loader no value for its size or id")]
    TypeMissing,
    /// The target's type cannot be used, for example because it is only declared.
    #[error("the target's type is incomplete or malformed")]
    TargetMalformed {
        /// libbpf's errno for it, negative.
        errno: i32,
    },
}

impl ResolveError {
    /// One of each, with nothing in its fields.
    pub const ALL: [Self; 21] = [
        Self::AmbiguousOffset { first: 0, other: 0 },
        Self::AmbiguousValue { first: 0, other: 0 },
        Self::BitfieldUnreadable,
        Self::OffsetOverflow { value: 0 },
        Self::InsnMismatch { found: 0, expected: 0 },
        Self::InsnUnsupported { code: 0 },
        Self::WidthMismatch { access: 0, local: 0, target: 0 },
        Self::AnonymousRoot { id: 0 },
        Self::BadAccessString,
        Self::BadTypeId { id: 0 },
        Self::BadInsnOffset { offset: 0, why: "" },
        Self::LocalTypeUnusable,
        Self::KindNotApplicable,
        Self::TooDeep,
        Self::MatchTooDeep,
        Self::UnknownKind { kind: 0 },
        Self::LoaderUnsupported,
        Self::ImmediateOverflow { value: 0 },
        Self::ProgramDependent,
        Self::TypeMissing,
        Self::TargetMalformed { errno: 0 },
    ];

    /// The errno that the loader fails with, negative.
    pub fn errno(self) -> i32 {
        match self {
            Self::BitfieldUnreadable | Self::TooDeep => -7,
            Self::OffsetOverflow { .. } => -34,
            Self::LoaderUnsupported => -95,
            Self::TargetMalformed { errno } => errno,
            _ => -22,
        }
    }

    /// The code of the error in reports, stable.
    pub fn code(self) -> &'static str {
        match self {
            Self::AmbiguousOffset { .. } => "ambiguous-offset",
            Self::AmbiguousValue { .. } => "ambiguous-value",
            Self::BitfieldUnreadable => "bitfield-unreadable",
            Self::OffsetOverflow { .. } => "offset-overflow",
            Self::ImmediateOverflow { .. } => "immediate-overflow",
            Self::ProgramDependent => "program-dependent",
            Self::InsnMismatch { .. } => "insn-mismatch",
            Self::InsnUnsupported { .. } => "insn-unsupported",
            Self::WidthMismatch { .. } => "width-mismatch",
            Self::AnonymousRoot { .. } => "anonymous-root",
            Self::BadAccessString => "bad-access-string",
            Self::BadTypeId { .. } => "bad-type-id",
            Self::BadInsnOffset { .. } => "bad-insn-offset",
            Self::LocalTypeUnusable => "local-type-unusable",
            Self::KindNotApplicable => "kind-not-applicable",
            Self::TooDeep => "too-deep",
            Self::MatchTooDeep => "match-too-deep",
            Self::UnknownKind { .. } => "unknown-kind",
            Self::LoaderUnsupported => "loader-unsupported",
            Self::TypeMissing => "type-missing",
            Self::TargetMalformed { .. } => "target-malformed",
        }
    }

    pub(crate) fn on_local_side(error: ValueError) -> Self {
        match error {
            ValueError::BitfieldUnreadable => Self::BitfieldUnreadable,
            ValueError::KindNotApplicable => Self::KindNotApplicable,
            ValueError::NoSize => Self::LocalTypeUnusable,
        }
    }

    pub(crate) fn on_target_side(error: ValueError) -> Self {
        match error {
            ValueError::BitfieldUnreadable => Self::BitfieldUnreadable,
            ValueError::KindNotApplicable => Self::KindNotApplicable,
            ValueError::NoSize => Self::TargetMalformed { errno: -22 },
        }
    }
}
