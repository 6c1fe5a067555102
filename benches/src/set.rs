//! Objects × many kernels: what is read from where.
//!
//! A set is a committed list in `benches/sets`, one file a line: kind, path below a folder that `btfleet-workloads
//! fetch` filled, sum, package, version. So everyone measures the same bytes, and learns which of them are missing.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::workload::{File, at, read};

/// Objects and kernels, read.
#[derive(Debug, Default)]
pub struct Set {
    /// Objects, little-endian.
    pub objects: Vec<File>,
    /// Kernels' raw BTFs, little-endian.
    pub kernels: Vec<File>,
    /// Kernels of one stable series, oldest first.
    pub series: Vec<File>,
    /// What of a list was not there, or had other contents.
    pub missing: Vec<String>,
}

impl Set {
    /// Reads what the list `benches/sets/<name>.tsv` names from `dir`, of `kinds` only: `object`, `kernel`, `series`. What
    /// is missing is left out.
    ///
    /// # Errors
    /// If there is no such list, or a line of it is no row.
    pub fn named(name: &str, dir: &Path, kinds: &[&str]) -> Result<Self, String> {
        let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("sets").join(name).with_extension("tsv");
        let text = fs::read_to_string(&list).map_err(|error| at(&list, &error))?;
        let mut set = Self::default();
        for line in text.lines().filter(|it| !it.is_empty() && !it.starts_with('#')) {
            let mut columns = line.split('\t');
            let (Some(kind), Some(path), Some(sum)) = (columns.next(), columns.next(), columns.next()) else {
                return Err(format!("{}: no row: {line}", list.display()));
            };
            let files = match kind {
                "object" => &mut set.objects,
                "kernel" => &mut set.kernels,
                "series" => &mut set.series,
                _ => return Err(format!("{}: unknown kind: {line}", list.display())),
            };
            if !kinds.contains(&kind) {
                continue;
            }
            match fs::read(dir.join(path)) {
                Ok(data) if hex(&Sha256::digest(&data)) == sum => {
                    files.push(File { name: path.to_owned(), data });
                }
                Ok(_) => set.missing.push(format!("{path}: other contents")),
                Err(error) => set.missing.push(format!("{path}: {error}")),
            }
        }
        Ok(set)
    }

    /// Reads objects and kernels from folders, or from lists of paths, one a line.
    ///
    /// # Errors
    /// The path and the system's message if something cannot be read.
    pub fn read(objects: &Path, kernels: Option<&Path>) -> Result<Self, String> {
        let objects = files(objects, |data| data.starts_with(b"\x7fELF\x02\x01"))?;
        let raw_btf = |data: &[u8]| data.starts_with(&[0x9f, 0xeb]);
        let kernels = kernels.map_or(Ok(Vec::new()), |it| files(it, raw_btf))?;
        Ok(Self { objects, kernels, ..Self::default() })
    }

    /// Bytes of all kernels.
    pub fn kernels_len(&self) -> usize {
        self.kernels.iter().map(|it| it.data.len()).sum()
    }
}

/// `count` items, evenly spread, so that a small part looks like the whole.
pub fn spread<T: Copy>(items: &[T], count: usize) -> Vec<T> {
    let places = (0..count).map(|it| it * items.len() / count);
    places.filter_map(|it| items.get(it).copied()).collect()
}

/// The files below a folder or in a list that `wanted` holds for, by path.
fn files(from: &Path, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<File>, String> {
    let mut paths = Vec::new();
    if from.is_dir() {
        walk(from, &mut paths)?;
        paths.sort();
    } else {
        let text = fs::read_to_string(from).map_err(|error| at(from, &error))?;
        paths.extend(text.lines().filter(|it| !it.is_empty()).map(PathBuf::from));
    }
    let mut files = Vec::new();
    for path in paths {
        let data = read(&path)?;
        if wanted(&data) {
            let name = path.strip_prefix(from).unwrap_or(&path).to_string_lossy().into_owned();
            files.push(File { name, data });
        }
    }
    if files.is_empty() {
        return Err(format!("{}: nothing to take", from.display()));
    }
    Ok(files)
}

fn walk(dir: &Path, paths: &mut Vec<PathBuf>) -> Result<(), String> {
    for entry in fs::read_dir(dir).map_err(|error| at(dir, &error))? {
        let path = entry.map_err(|error| at(dir, &error))?.path();
        if path.is_dir() {
            walk(&path, paths)?;
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
