//! A tree of files that is written as a whole or not at all: beside its place, and then renamed into it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use btfleet_engine::batch::Batch;
use serde_json::Value;

use crate::output::Failure;

const MANIFEST: &str = "manifest.json";

/// Writes `files`, by their paths below `dir`, and a manifest that names all of them under `files_of`'s terms.
///
/// What is in the directory from an earlier run is replaced. One with files that the manifest there does not name is
/// somebody else's, and refused.
pub(crate) fn write(
    batch: &Batch,
    dir: &Path,
    files: &BTreeMap<String, Vec<u8>>,
    manifest: &[u8],
    files_of: impl Fn(&Value) -> Option<Vec<String>>,
) -> Result<(), Failure> {
    if dir.exists() {
        check(dir, &files_of)?;
    }
    let place = std::path::absolute(dir).map_err(|error| failure(dir, &error))?;
    let parent = place.parent().unwrap_or(&place);
    fs::create_dir_all(parent).map_err(|error| failure(parent, &error))?;
    let staging = tempfile::Builder::new().prefix(".btfleet-").tempdir_in(parent);
    let staging = staging.map_err(|error| failure(parent, &error))?;
    let (new, old) = (staging.path().join("new"), staging.path().join("old"));
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let written = batch.map(&files, |(name, bytes)| write_file(&new.join(name), bytes));
    let written: io::Result<Vec<()>> = written.into_iter().collect();
    written.and_then(|_| write_file(&new.join(MANIFEST), manifest)).map_err(|error| failure(dir, &error))?;
    let had_old = place.exists();
    if had_old {
        fs::rename(&place, &old).map_err(|error| failure(dir, &error))?;
    }
    fs::rename(&new, &place).map_err(|error| {
        if had_old {
            // Back to how it was; if that fails too, there is nothing more that could be tried.
            let _ = fs::rename(&old, &place);
        }
        failure(dir, &error)
    })
}

fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, bytes)
}

/// Refuses a directory that has files of somebody else.
fn check(dir: &Path, files_of: impl Fn(&Value) -> Option<Vec<String>>) -> Result<(), Failure> {
    let manifest = fs::read(dir.join(MANIFEST)).ok();
    let manifest = manifest.and_then(|it| serde_json::from_slice::<Value>(&it).ok());
    let mut known = manifest.as_ref().and_then(files_of).unwrap_or_default();
    if manifest.is_some() && !known.is_empty() {
        known.push(MANIFEST.to_owned());
    }
    let mut pending = vec![PathBuf::new()];
    while let Some(below) = pending.pop() {
        let entries = fs::read_dir(dir.join(&below)).map_err(|error| failure(dir, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| failure(dir, &error))?;
            let name = below.join(entry.file_name());
            if entry.file_type().is_ok_and(|it| it.is_dir()) {
                pending.push(name);
            } else if !known.iter().any(|it| Path::new(it) == name) {
                return Err(Failure::Usage(format!(
                    "{}: {} is not from an earlier run; give a directory of its own",
                    dir.display(),
                    name.display()
                )));
            }
        }
    }
    Ok(())
}

fn failure(path: &Path, error: &io::Error) -> Failure {
    Failure::System(format!("{}: {error}", path.display()))
}
