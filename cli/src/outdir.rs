//! A directory of results that is written whole or not at all.
//!
//! Files are written under temporary names and renamed, the manifest last. If the run fails before that, the
//! files that it added are removed again, and the directory is as it was.
//!
//! What an earlier run wrote is known by its manifest. Files that no manifest accounts for are somebody
//! else's: they are never touched, and the run refuses to mix with them unless told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempPath;

use crate::output::{Failure, message};
use crate::payloads::STATEMENT;
use crate::rows::hex;

const MANIFEST: &str = "manifest.json";
/// Ending of relocated objects.
pub(crate) const OBJECT: &str = ".bpf.o";
/// Ending of instructions to sign.
pub(crate) const INSNS: &str = ".insns";
const ENDINGS: [&str; 2] = [OBJECT, INSNS];

/// The directory of one run.
pub(crate) struct OutDir {
    path: PathBuf,
    is_new: bool,
    /// Files of earlier runs, with the hash that their manifest says.
    earlier: BTreeMap<String, String>,
    /// Files that were not there before.
    added: Vec<PathBuf>,
    is_finished: bool,
}

impl OutDir {
    /// Makes the directory, or looks into one that is there.
    pub(crate) fn open(path: &Path, force: bool) -> Result<Self, Failure> {
        let is_new = !path.exists();
        if is_new {
            fs::create_dir_all(path).map_err(|error| failure(path, &error))?;
        }
        let manifest = fs::read(path.join(MANIFEST)).ok();
        let earlier = manifest.as_deref().and_then(files_of_manifest);
        let mut foreign = BTreeSet::new();
        for entry in fs::read_dir(path).map_err(|error| failure(path, &error))? {
            let name =
                entry.map_err(|error| failure(path, &error))?.file_name().to_string_lossy().into_owned();
            let is_known = earlier.as_ref().is_some_and(|it| name == MANIFEST || it.contains_key(&name));
            if !is_known {
                foreign.insert(name);
            }
        }
        if let Some(first) = foreign.first().filter(|_| !force) {
            let more = match foreign.len() {
                1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            return Err(Failure::Usage(format!(
                "{}: {first}{more} is not from an earlier run; --force writes beside it",
                path.display()
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            is_new,
            earlier: earlier.unwrap_or_default(),
            added: Vec::new(),
            is_finished: false,
        })
    }

    /// Writes a file under a temporary name. It is gone when the result is dropped.
    pub(crate) fn stage(&self, bytes: &[u8]) -> Result<TempPath, Failure> {
        let write = || {
            let mut file = staging_file(&self.path)?;
            file.write_all(bytes)?;
            Ok(file.into_temp_path())
        };
        write().map_err(|error| failure(&self.path, &error))
    }

    /// Gives a staged file its name.
    pub(crate) fn name(&mut self, staged: TempPath, name: &str) -> Result<(), Failure> {
        let path = self.path.join(name);
        let is_new = !path.exists();
        staged.persist(&path).map_err(|error| failure(&path, &error.error))?;
        if is_new {
            self.added.push(path);
        }
        Ok(())
    }

    /// Writes the manifest, and then removes what earlier runs wrote and `files` does not name any more. A file
    /// that was changed since stays.
    pub(crate) fn finish(mut self, manifest: &[u8], files: &BTreeSet<String>) -> Result<(), Failure> {
        let staged = self.stage(manifest)?;
        self.name(staged, MANIFEST)?;
        self.is_finished = true;
        for (name, hash) in self.earlier.iter().filter(|(name, _)| !files.contains(*name)) {
            let path = self.path.join(name);
            if !fs::symlink_metadata(&path).is_ok_and(|it| it.is_file()) {
                continue;
            }
            let bytes = fs::read(&path).map_err(|error| failure(&path, &error))?;
            if hex(&Sha256::digest(&bytes)) == *hash {
                fs::remove_file(&path).map_err(|error| failure(&path, &error))?;
            } else {
                message(&format!("{}: changed since it was written, not removed", path.display()));
            }
        }
        Ok(())
    }
}

impl Drop for OutDir {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        // Already on the way out with an error; what cannot be removed stays, whole.
        for path in &self.added {
            let _ = fs::remove_file(path);
        }
        if self.is_new {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// Name of an output: the object's, of its hash as many digits as it takes, and what it is.
pub(crate) fn output_name(stem: &str, hash_digits: &str, ending: &str) -> String {
    format!("{stem}.{hash_digits}{ending}")
}

/// Files that a manifest of ours names, with their hashes; `None` if it is not ours. It may have been edited:
/// names that we would not give are no files of ours.
fn files_of_manifest(manifest: &[u8]) -> Option<BTreeMap<String, String>> {
    let manifest: Value = serde_json::from_slice(manifest).ok()?;
    if manifest.get("v")? != 1 || manifest.get("t")? != crate::manifest::KIND {
        return None;
    }
    let outputs = manifest.get("objects")?.as_array()?.iter().filter_map(|it| it.get("outputs")?.as_array());
    let to_sign = manifest.get("to_sign").and_then(Value::as_array);
    let files = outputs.chain(to_sign).flatten().filter_map(|output| {
        let (name, hash) = (output.get("file")?.as_str()?, output.get("sha256")?.as_str()?);
        if name == STATEMENT {
            return Some((name.to_owned(), hash.to_owned()));
        }
        let ending = ENDINGS.iter().find_map(|it| name.strip_suffix(it))?.rsplit_once('.')?.1;
        let is_ours = !name.contains('/') && ending.len() >= 12 && hash.starts_with(ending);
        is_ours.then(|| (name.to_owned(), hash.to_owned()))
    });
    Some(files.collect())
}

fn failure(path: &Path, error: &io::Error) -> Failure {
    Failure::System(format!("{}: {error}", path.display()))
}

/// A file that gets its name once it is whole. It may be read by whom any other new file may: what the umask leaves.
pub(crate) fn staging_file(dir: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mode = fs::Permissions::from_mode(0o666);
    tempfile::Builder::new().prefix(".btfleet-").permissions(mode).tempfile_in(dir)
}
