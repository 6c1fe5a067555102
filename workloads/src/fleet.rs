//! A fleet to try btfleet on: the BTF of many real kernels and modules, and many real BPF objects, out of
//! Debian packages.
//!
//! A directory of a fleet holds `kernels/<release>.btf`, `modules/<release>/<module>.btf`,
//! `objects/<package>_<version>_<architecture>/<name>.o` and `manifest.jsonl`, which says what each file is
//! and where it comes from. `.apt` is the private state of apt, `.scratch` what is being worked on; both can
//! be deleted at any time.

mod apt;
mod btf;
mod bytes;
mod carve;
mod deb;
mod extract;
mod fetch;
mod list;
mod manifest;
mod progress;
mod sources;
mod table;
mod verify;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use self::fetch::{Options, fetch};
pub(crate) use self::table::table;
pub(crate) use self::verify::verify;

/// Why a fleet could not be fetched or read. What concerns one package only is in the report of the run instead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file or directory could not be read.
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    /// A file could not be written or moved into place.
    #[error("cannot write {}: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
    /// Another process fetches into the same directory.
    #[error("{} is being filled by another process", dir.display())]
    Busy { dir: PathBuf },
    /// A line of the list is not a row.
    #[error("line {line} of the list: {expected}")]
    List { line: usize, expected: &'static str },
    /// A line of the manifest is not an entry.
    #[error("{}:{line}: {error}", path.display())]
    Manifest { path: PathBuf, line: usize, error: serde_json::Error },
    /// There is no manifest where there should be one.
    #[error("{} is no fetched fleet: it has no manifest.jsonl with packages", dir.display())]
    NoFleet { dir: PathBuf },
    /// The machine has no source of Debian packages.
    #[error("{} has no source of Debian packages; this works on Debian only", etc.display())]
    NoSources { etc: PathBuf },
    /// A tool of apt could not be started.
    #[error("cannot run {tool}: {error}")]
    ToolStart { tool: &'static str, error: io::Error },
    /// A tool of apt ran and failed.
    #[error("{tool}: {stderr}")]
    ToolFailed { tool: &'static str, stderr: String },
}

fn write_file(path: &Path, data: &[u8]) -> Result<(), Error> {
    fs::write(path, data).map_err(|error| Error::Write { path: path.to_owned(), error })
}

fn create_dir(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|error| Error::Write { path: path.to_owned(), error })
}
