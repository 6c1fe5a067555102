//! Bytes of packs: a read-only map of the file, or a buffer. The engine's only `unsafe` is the map.

use std::fs::File;
use std::io;
use std::ops::Deref;

/// Bytes that a pack is read from.
#[derive(Debug)]
pub enum Bytes {
    /// In memory.
    Owned(Vec<u8>),
    /// A file, read where and when its bytes are looked at.
    Mapped(memmap2::Mmap),
}

impl Bytes {
    /// Maps `file` as it is now; what is appended later is not seen.
    ///
    /// # Errors
    /// Those of the system.
    pub fn map(file: &File) -> io::Result<Self> {
        // SAFETY: the file must not change while it is mapped. Packs only grow behind what a reader knows of, or are
        // replaced as a whole by another file of their name; the few bytes that do change are checked by a hash
        // after they were copied. Another program could still cut the file short under a reader, which then dies of
        // SIGBUS, as with any mapped file.
        #[expect(unsafe_code, reason = "mapping a file has no safe interface")]
        let map = unsafe { memmap2::Mmap::map(file) }?;
        Ok(Self::Mapped(map))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}
