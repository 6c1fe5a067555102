//! Files as users have them: read, decompressed, and BTF found in them.
//!
//! Every input is read once into a buffer: measured faster than faulting in a mapping, and safe against
//! files that change underneath. What comes out are owned bytes that [`crate::btf`] and [`crate::object`]
//! borrow from.

mod container;
mod embedded;
mod error;
mod facts;
mod kernel;
mod limits;
mod unpack;

pub use container::{BtfBytes, looks_like_kernel, looks_like_object};
pub use embedded::{Embedded, embedded};
pub use error::{InputCode, InputError};
pub use facts::facts_of;
pub use kernel::{KernelBtf, KernelFiles, KernelSource, ModuleBtf, ModuleFile};

pub use limits::{Limits, OverLimit};
pub use unpack::{Compression, read_all};

use std::fs::File;
use std::io::{Read, Take};
use std::path::Path;

/// Most bytes that a compressed file may expand to: a distribution's vmlinux with all debugging
/// information has about 1 GiB. A stop for files made to exhaust memory.
const EXPANDED_LEN_MAX: u64 = 2 << 30;

const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Reads a whole file, and decompresses it if it is a zstd frame.
///
/// # Errors
/// [`InputError`] with code `unreadable`.
pub fn read_file(path: &Path) -> Result<Vec<u8>, InputError> {
    let unreadable = |what: String| InputError::unreadable(path, what);
    let io = |error: std::io::Error| unreadable(error.to_string());
    let mut file = File::open(path).map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    if meta.is_dir() {
        return Err(unreadable("is a directory".into()));
    }
    // A device or pipe may never end.
    if !meta.is_file() {
        return Err(unreadable("is not a regular file".into()));
    }
    // Files of sysfs say how large they are too; one byte more finds the end without another allocation.
    let mut data = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0).saturating_add(1));
    file.read_to_end(&mut data).map_err(io)?;
    expanded(data, path)
}

/// Decompresses a file's bytes if they are a zstd frame. `path` is for messages.
///
/// # Errors
/// [`InputError`] with code `unreadable`.
pub fn expanded(data: Vec<u8>, path: &Path) -> Result<Vec<u8>, InputError> {
    if !data.starts_with(&ZSTD_MAGIC) {
        return Ok(data);
    }
    let unreadable = |what: String| InputError::unreadable(path, what);
    let decoder = zstd::stream::read::Decoder::with_buffer(data.as_slice())
        .map_err(|error| unreadable(error.to_string()))?;
    let mut expanded = Vec::new();
    let mut limited: Take<_> = decoder.single_frame().take(EXPANDED_LEN_MAX + 1);
    limited.read_to_end(&mut expanded).map_err(|error| unreadable(format!("zstd: {error}")))?;
    if expanded.len() as u64 > EXPANDED_LEN_MAX {
        return Err(unreadable(format!("zstd: expands to more than {EXPANDED_LEN_MAX} bytes")));
    }
    Ok(expanded)
}
