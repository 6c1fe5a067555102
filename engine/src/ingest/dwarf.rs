//! Kernels with debugging information and no BTF: BTF can be made of it, by a program of its own.

use std::fmt::Debug;
use std::path::Path;

/// Makes BTF of debugging information. The engine runs no programs: whoever embeds it may.
pub trait EncodeBtf: Debug + Sync {
    /// Makes the BTF of a kernel.
    ///
    /// # Errors
    /// In words, if it cannot.
    fn encode(&self, dwarf: &Dwarf<'_>) -> Result<Encoded, String>;
}

/// A kernel with debugging information.
#[derive(Clone, Copy, Debug)]
pub struct Dwarf<'a> {
    /// The ELF file.
    pub elf: &'a [u8],
    /// What messages call it; the bytes may be those of something inside.
    pub path: &'a Path,
    /// The kernel's release, if it says so.
    pub release: Option<&'a str>,
}

/// BTF that was made.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The BTF.
    pub btf: Vec<u8>,
    /// What made it, with its version.
    pub by: String,
}
