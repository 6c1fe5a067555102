//! Why an object cannot be read, or would not be opened by libbpf.

use crate::btf::BtfError;

/// Why bytes are no BPF object. Offsets are bytes from the start of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// Not an ELF file at all.
    #[error("not an ELF file")]
    NotElf,
    /// An ELF file, but its structure is broken.
    #[error("broken ELF file: {what}")]
    BrokenElf {
        /// Offset of what is broken.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// An ELF file for something else.
    #[error("not a BPF object: {what}")]
    NotBpf {
        /// Offset of the header field that says so.
        offset: u64,
        /// What it is instead.
        what: String,
    },
}

impl ObjectError {
    /// Where in the file, in bytes.
    pub fn offset(&self) -> u64 {
        match self {
            Self::NotElf => 0,
            Self::BrokenElf { offset, .. } | Self::NotBpf { offset, .. } => *offset,
        }
    }
}

/// Why libbpf would refuse to open an object that can be read all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} (libbpf: {errno})")]
pub struct Refusal {
    /// libbpf's error, negative; its own numbers start at -4000.
    pub errno: i32,
    /// The reason in words.
    pub what: String,
}

impl Refusal {
    pub(crate) const EINVAL: i32 = -22;
    pub(crate) const ENOENT: i32 = -2;
    pub(crate) const ESRCH: i32 = -3;
    pub(crate) const ENOTSUP: i32 = -95;
    /// `LIBBPF_ERRNO__FORMAT`.
    pub(crate) const FORMAT: i32 = -4001;
    /// `LIBBPF_ERRNO__RELOC`.
    pub(crate) const RELOC: i32 = -4005;

    pub(crate) fn new(errno: i32, what: impl Into<String>) -> Self {
        Self { errno, what: what.into() }
    }

    pub(crate) fn btf_required() -> Self {
        Self::new(
            Self::EINVAL,
            "BTF is required for its maps, externs or struct_ops, but is missing or corrupt",
        )
    }
}

/// BTF data that libbpf ignores with a warning: the object loads unrelocated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IgnoredBtf {
    /// The `.BTF` section is unusable, and with it `.BTF.ext`.
    #[error("section .BTF: {0}")]
    Btf(#[source] BtfError),
    /// The `.BTF.ext` section is unusable.
    #[error("section .BTF.ext: {0}")]
    Ext(#[source] ExtError),
}

impl IgnoredBtf {
    /// Where in the section, in bytes.
    pub fn offset(&self) -> u64 {
        match self {
            Self::Btf(error) => error.offset(),
            Self::Ext(error) => error.offset,
        }
    }
}

/// Why a `.BTF.ext` section is unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} (value {value})")]
pub struct ExtError {
    /// Offset within the section, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub what: &'static str,
    /// The value found.
    pub value: u64,
}
