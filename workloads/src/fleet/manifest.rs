//! `manifest.jsonl`: what was fetched, a line of JSON per package, in the order of fetching.
//!
//! A line is written once all its files are in place, with one write to the end of the file: after an
//! interruption the manifest has no package that is not all there. A last line that is cut off is dropped.
//! When a package is fetched again, its new line replaces the old one, and a file belongs to the last line
//! that names it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::list::Part;
use super::{Error, write_file};

/// A package and what was taken out of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) package: String,
    pub(super) version: String,
    pub(super) architecture: String,
    /// The suite that it was downloaded from; others may have it too.
    pub(super) suite: String,
    /// Size of the package, in bytes.
    pub(super) size: u64,
    /// Hash of the package, in lower-case hexadecimal.
    pub(super) sha256: String,
    pub(super) parts: Vec<Part>,
    pub(super) files: Vec<File>,
}

/// A file that was taken out of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct File {
    /// Relative to the directory of the manifest.
    pub(super) path: String,
    pub(super) part: Part,
    pub(super) size: u64,
    /// In lower-case hexadecimal.
    pub(super) sha256: String,
    /// Number of BTF types.
    pub(super) types: usize,
    /// Number of CO-RE records.
    pub(super) records: usize,
    /// Where in the package it was, with the offset if it was inside another file.
    pub(super) origin: String,
}

/// The manifest of a directory.
#[derive(Debug)]
pub(super) struct Manifest {
    path: PathBuf,
    /// By package, version and architecture.
    entries: BTreeMap<[String; 3], Entry>,
}

impl Entry {
    fn key(&self) -> [String; 3] {
        [self.package.clone(), self.version.clone(), self.architecture.clone()]
    }
}

impl Manifest {
    /// The manifest in `dir`; an empty one if there is none.
    ///
    /// # Errors
    /// If it cannot be read, or if a line other than the last is broken.
    pub(super) fn read(dir: &Path) -> Result<Manifest, Error> {
        let path = dir.join("manifest.jsonl");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Error::Read { path, error }),
        };
        let mut entries = BTreeMap::new();
        let mut owners = BTreeMap::new();
        // What follows the last newline was cut off.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for (index, line) in whole.lines().enumerate() {
            let entry: Entry = serde_json::from_str(line).map_err(|error| Error::Manifest {
                path: path.clone(),
                line: index + 1,
                error,
            })?;
            for file in &entry.files {
                owners.insert(file.path.clone(), entry.key());
            }
            entries.insert(entry.key(), entry);
        }
        for (key, entry) in &mut entries {
            entry.files.retain(|file| owners.get(&file.path) == Some(key));
        }
        Ok(Manifest { path, entries })
    }

    /// Removes a last line that was cut off, so that the next one does not become part of it.
    ///
    /// # Errors
    /// If the manifest cannot be read or written.
    pub(super) fn repair(&self) -> Result<(), Error> {
        let path = &self.path;
        let Ok(text) = fs::read(path) else { return Ok(()) };
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        if whole == text.len() {
            return Ok(());
        }
        let whole = text.get(..whole).unwrap_or_default();
        let scratch = path.with_extension("tmp");
        write_file(&scratch, whole)?;
        fs::rename(&scratch, path).map_err(|error| Error::Write { path: path.clone(), error })
    }

    /// Adds an entry, in memory and at the end of the file.
    ///
    /// # Errors
    /// If the manifest cannot be written.
    pub(super) fn append(&mut self, entry: Entry) -> Result<(), Error> {
        let write = || -> io::Result<()> {
            let line = serde_json::to_string(&entry)? + "\n";
            let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            file.write_all(line.as_bytes())?;
            file.sync_data()
        };
        write().map_err(|error| Error::Write { path: self.path.clone(), error })?;
        self.entries.insert(entry.key(), entry);
        Ok(())
    }

    /// All entries, ordered by package, version and architecture.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Whether these parts of a package are there, with files of the right size.
    pub(super) fn has(&self, dir: &Path, key: &[String; 3], parts: &BTreeSet<Part>) -> bool {
        let Some(entry) = self.entries.get(key) else { return false };
        let is_there = |file: &File| fs::metadata(dir.join(&file.path)).is_ok_and(|it| it.len() == file.size);
        parts.iter().all(|part| entry.parts.contains(part)) && entry.files.iter().all(is_there)
    }
}

/// SHA-256 as the manifest has it, in lower case.
pub(super) fn sha256(data: &[u8]) -> String {
    format!("{:x}", Sha256::digest(data))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An entry with one kernel of three bytes.
    pub(in crate::fleet) fn entry(package: &str, path: &str) -> Entry {
        Entry {
            package: package.to_owned(),
            version: "1".to_owned(),
            architecture: "amd64".to_owned(),
            suite: "sid".to_owned(),
            size: 9,
            sha256: "00".to_owned(),
            parts: vec![Part::Kernel],
            files: vec![File {
                path: path.to_owned(),
                part: Part::Kernel,
                size: 3,
                sha256: sha256(b"abc"),
                types: 1,
                records: 0,
                origin: "boot/vmlinuz".to_owned(),
            }],
        }
    }

    #[test]
    fn a_line_that_was_cut_off_is_dropped_and_repaired() {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::read(dir.path()).unwrap();
        manifest.append(entry("a", "a.btf")).unwrap();
        let path = dir.path().join("manifest.jsonl");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], b"{\"package\":"].concat()).unwrap();

        let mut manifest = Manifest::read(dir.path()).unwrap();
        manifest.repair().unwrap();
        manifest.append(entry("b", "b.btf")).unwrap();
        let manifest = Manifest::read(dir.path()).unwrap();
        let packages: Vec<_> = manifest.entries().map(|it| it.package.as_str()).collect();
        assert_eq!(packages, ["a", "b"]);
    }

    #[test]
    fn a_broken_line_in_the_middle_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("manifest.jsonl"), "{}\n{}\n").unwrap();
        assert!(matches!(Manifest::read(dir.path()), Err(Error::Manifest { line: 1, .. })));
    }

    #[test]
    fn a_package_is_there_when_its_parts_and_files_are() {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::read(dir.path()).unwrap();
        let it = entry("a", "a.btf");
        manifest.append(it.clone()).unwrap();
        let has = |parts: &[Part]| manifest.has(dir.path(), &it.key(), &parts.iter().copied().collect());
        assert!(!has(&[Part::Kernel]), "no file");
        fs::write(dir.path().join("a.btf"), "ab").unwrap();
        assert!(!has(&[Part::Kernel]), "wrong size");
        fs::write(dir.path().join("a.btf"), "abc").unwrap();
        assert!(has(&[Part::Kernel]));
        assert!(!has(&[Part::Kernel, Part::Modules]), "not asked for then");
    }

    #[test]
    fn a_file_belongs_to_the_last_line_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::read(dir.path()).unwrap();
        for package in ["b", "a"] {
            manifest.append(entry(package, "same.btf")).unwrap();
        }
        let manifest = Manifest::read(dir.path()).unwrap();
        let files: Vec<_> = manifest.entries().map(|it| it.files.len()).collect();
        assert_eq!(files, [1, 0]);
    }
}
