//! The fleet pack: the BTF of many kernels in one file that is mapped and used as it is.
//!
//! Kernels have most of their types in common. A pack stores every type once (`intern`), and for each name the
//! kernels at which its types change (`format` has the file byte by byte). Asking what all kernels
//! have for a name, [`Pack::expand`], is one probe; the answer refers to types of one merged BTF for each ABI, which
//! the resolver reads as any other BTF.
//!
//! [`update`] adds kernels, [`compact`] and [`remove`] rewrite, [`verify`] checks everything that opening does not.

mod build;
mod columns;
mod error;
mod format;
mod ids;
mod index;
mod intern;
mod known;
mod lists;
mod roots;
mod update;
mod verify;
mod view;
mod whole;

pub use build::{Added, Builder, NewKernel, NewModule};
pub use error::{PackError, Refusal};
pub use format::{Abi, ListRef};
pub use update::{Written, build, compact, remove, update};
pub use verify::verify;
pub use view::{Expansion, KernelEntry, ModuleEntry, ModuleList, Pack, PackFile, looks_like_pack};
pub use whole::Whole;

/// What is known of a kernel beside its BTF. Empty where it is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Where its BTF came from: the path as given.
    pub source: String,
    /// Release, as `uname -r` says it.
    pub release: String,
    /// Distribution.
    pub distribution: String,
    /// Architecture.
    pub architecture: String,
    /// Flavour: `cloud`, `rt`, `generic`, ...
    pub flavour: String,
    /// Whether the BTF is the kernel's own.
    pub origin: BtfOrigin,
}

/// Whether a BTF is in the running kernel too, where programs that need more than CO-RE look for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BtfOrigin {
    /// It is the kernel's own.
    BuiltIn,
    /// It was made afterwards, from debugging information, for kernels that have none.
    External,
    /// Nothing says.
    #[default]
    Unknown,
}

impl BtfOrigin {
    /// The origin as reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::External => "external",
            Self::Unknown => "unknown",
        }
    }

    fn flags(self) -> u32 {
        match self {
            Self::Unknown => 0,
            Self::External => 1,
            Self::BuiltIn => 2,
        }
    }

    fn from_flags(flags: u32) -> Self {
        match flags & 3 {
            2 => Self::BuiltIn,
            0 => Self::Unknown,
            _ => Self::External,
        }
    }
}
