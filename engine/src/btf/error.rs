//! Why a BTF blob cannot be used. Every variant says where.

/// Why bytes are not usable BTF. Offsets are bytes from the start of the BTF blob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BtfError {
    /// The blob ends before its header does.
    #[error("truncated BTF header: need {need} bytes, have {have}")]
    HeaderTruncated {
        /// Bytes that the header needs.
        need: u64,
        /// Bytes that there are.
        have: u64,
    },
    /// The first two bytes are not BTF's.
    #[error("not BTF: magic is {found:#06x}, expected 0xeb9f in either byte order")]
    BadMagic {
        /// The two bytes, read little-endian.
        found: u16,
    },
    /// A header field cannot be right.
    #[error("bad BTF header: {what} (value {value})")]
    BadHeader {
        /// Offset of the field.
        offset: u64,
        /// What is wrong.
        what: &'static str,
        /// The value found.
        value: u64,
    },
    /// The string section is not a run of NUL-terminated strings.
    #[error("bad BTF string section: {what}")]
    BadStrings {
        /// Offset of the section.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A type record does not fit into the type section.
    #[error("BTF type [{id}] is malformed: {what}")]
    BadType {
        /// Offset of the record.
        offset: u64,
        /// Id of the type.
        id: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// A kind that neither this program nor the blob's layout section describes.
    #[error("BTF type [{id}] has unknown kind {kind}, and no usable layout section describes it")]
    UnknownKind {
        /// Offset of the record.
        offset: u64,
        /// Id of the type.
        id: u32,
        /// The kind's number.
        kind: u8,
    },
    /// A type refers to a type that does not exist.
    #[error("BTF type [{id}] refers to type [{target}], but there are only {count} types")]
    BadTypeRef {
        /// Offset of the record.
        offset: u64,
        /// Id of the type.
        id: u32,
        /// The id that it refers to.
        target: u32,
        /// Number of types, void included.
        count: u32,
    },
    /// A type refers to a string that does not exist.
    #[error("BTF type [{id}] refers to string offset {name_off}, past the end of the strings at {end}")]
    BadNameRef {
        /// Offset of the record.
        offset: u64,
        /// Id of the type.
        id: u32,
        /// The string offset.
        name_off: u32,
        /// End of the string section.
        end: u32,
    },
    /// A FUNC that does not refer to a FUNC_PROTO.
    #[error("BTF type [{id}] is a func, but type [{target}] that it refers to is no func_proto")]
    FuncWithoutProto {
        /// Offset of the record.
        offset: u64,
        /// Id of the FUNC.
        id: u32,
        /// The id that it refers to.
        target: u32,
    },
    /// A split BTF that belongs to another base than the one that it was parsed on.
    #[error("it was built against another vmlinux: as a part of this one, of its type [{id}] {what}")]
    ForeignBase {
        /// Id of the type that shows it.
        id: u32,
        /// What it would be.
        what: &'static str,
    },
    /// A distilled base cannot be mapped onto the kernel's BTF.
    #[error("distilled base BTF type [{id}] '{name}': {what}")]
    Distilled {
        /// Id in the distilled base.
        id: u32,
        /// Its name.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
}

impl BtfError {
    /// Where in the blob, in bytes. 0 where the blob as a whole is meant.
    pub fn offset(&self) -> u64 {
        match self {
            Self::HeaderTruncated { .. }
            | Self::BadMagic { .. }
            | Self::ForeignBase { .. }
            | Self::Distilled { .. } => 0,
            Self::BadHeader { offset, .. }
            | Self::BadStrings { offset, .. }
            | Self::BadType { offset, .. }
            | Self::UnknownKind { offset, .. }
            | Self::BadTypeRef { offset, .. }
            | Self::BadNameRef { offset, .. }
            | Self::FuncWithoutProto { offset, .. } => *offset,
        }
    }
}
