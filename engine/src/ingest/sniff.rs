//! What a file is, by its first bytes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::archive::{self, Kind};
use super::{Compression, looks_like_kernel, looks_like_object};
use crate::pack::looks_like_pack;

/// Bytes that are looked at. A tar archive says what it is from 257 on, a bzImage from 514, and a unified kernel image has
/// the names of its sections here.
pub const HEAD_LEN: usize = 4096;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// A BPF object.
    Object,
    /// Something that has a kernel's BTF, or that of a module: raw BTF, an image, an ELF file.
    Kernel,
    /// A fleet pack.
    Pack,
    /// An archive.
    Archive(Kind),
    /// Nothing of these.
    Other,
}

impl Looks {
    /// What a file is whose first bytes are `head`, expanded.
    pub fn of(head: &[u8]) -> Self {
        if looks_like_object(head) {
            Self::Object
        } else if looks_like_pack(head) {
            Self::Pack
        } else if let Some(kind) = Kind::of(head) {
            Self::Archive(kind)
        } else if looks_like_kernel(head) {
            Self::Kernel
        } else {
            Self::Other
        }
    }

    /// What a file is, expanded if it is compressed.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut head = Vec::with_capacity(HEAD_LEN);
        File::open(path)?.take(HEAD_LEN as u64).read_to_end(&mut head)?;
        Ok(match Compression::of(&head) {
            Some(format) => Self::of(&archive::first_of(format, path)),
            None => Self::of(&head),
        })
    }
}
