//! Whether a fetched fleet is still what its manifest says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::list::Part;
use super::manifest::{File, Manifest, sha256};
use super::{Error, btf, carve};

/// What [`verify`] found.
#[derive(Debug)]
pub(crate) struct Verified {
    /// Number of files that are as they should be.
    pub(crate) good: usize,
    /// For each path that is not, the reason.
    pub(crate) differences: BTreeMap<String, &'static str>,
}

/// Compares all files of a fleet with its manifest, and parses each: sizes, hashes, numbers of types and of
/// records.
///
/// # Errors
/// If there is no manifest, or a file cannot be read.
pub(crate) fn verify(dir: &Path) -> Result<Verified, Error> {
    let manifest = Manifest::read(dir)?;
    let mut listed = BTreeSet::new();
    let mut found = Verified { good: 0, differences: BTreeMap::new() };
    for file in manifest.entries().flat_map(|entry| &entry.files) {
        match check(dir, file)? {
            None => found.good += 1,
            Some(reason) => {
                found.differences.insert(file.path.clone(), reason);
            }
        }
        listed.insert(file.path.as_str());
    }
    if listed.is_empty() {
        return Err(Error::NoFleet { dir: dir.to_owned() });
    }
    for top in ["kernels", "modules", "objects"] {
        for path in files_under(dir, top)? {
            if !listed.contains(path.as_str()) {
                found.differences.insert(path, "is not in the manifest");
            }
        }
    }
    Ok(found)
}

fn check(dir: &Path, file: &File) -> Result<Option<&'static str>, Error> {
    let path = dir.join(&file.path);
    let data = match fs::read(&path) {
        Ok(data) => data,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Some("is not there")),
        Err(error) => return Err(Error::Read { path, error }),
    };
    let counts = match file.part {
        Part::Kernel | Part::Modules => btf::type_count(&data).map(|types| (types, 0)),
        Part::Objects => carve::counts(&data),
    };
    Ok(if data.len() as u64 != file.size {
        Some("has another size than the manifest says")
    } else if sha256(&data) != file.sha256 {
        Some("has another SHA-256 than the manifest says")
    } else {
        match counts {
            None => Some("does not parse"),
            Some(counts) if counts != (file.types, file.records) => {
                Some("has another number of types or records than the manifest says")
            }
            Some(_) => None,
        }
    })
}

/// Paths of all files in `dir/top`, relative to `dir`.
fn files_under(dir: &Path, top: &str) -> Result<Vec<String>, Error> {
    let mut files = Vec::new();
    let mut left = vec![top.to_owned()];
    while let Some(relative) = left.pop() {
        let path = dir.join(&relative);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::Read { path, error }),
        };
        for entry in entries {
            let entry = entry.map_err(|error| Error::Read { path: path.clone(), error })?;
            let name = format!("{relative}/{}", entry.file_name().to_string_lossy());
            if entry.file_type().is_ok_and(|it| it.is_dir()) { left.push(name) } else { files.push(name) }
        }
    }
    Ok(files)
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]
mod tests {
    use super::super::btf::tests::blob;
    use super::super::manifest::tests::entry;
    use super::*;

    #[test]
    fn every_kind_of_difference_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        fs::create_dir(dir.join("kernels")).unwrap();
        let btf = blob(2, false);
        let mut manifest = Manifest::read(dir).unwrap();
        let mut add = |name: &str, data: &[u8], types| {
            let mut entry = entry(name, &format!("kernels/{name}.btf"));
            let file = &mut entry.files[0];
            (file.size, file.sha256, file.types) = (data.len() as u64, sha256(data), types);
            manifest.append(entry).unwrap();
        };
        for name in ["good", "gone", "longer", "other"] {
            add(name, &btf, 2);
            fs::write(dir.join(format!("kernels/{name}.btf")), &btf).unwrap();
        }
        add("bad", b"abc", 1);
        add("count", &btf, 3);
        fs::remove_file(dir.join("kernels/gone.btf")).unwrap();
        fs::write(dir.join("kernels/longer.btf"), [&btf[..], b"x"].concat()).unwrap();
        fs::write(dir.join("kernels/other.btf"), vec![0; btf.len()]).unwrap();
        fs::write(dir.join("kernels/bad.btf"), b"abc").unwrap();
        fs::write(dir.join("kernels/count.btf"), &btf).unwrap();
        fs::write(dir.join("kernels/stray.btf"), &btf).unwrap();

        let found = verify(dir).unwrap();
        assert_eq!(found.good, 1);
        let found: Vec<_> = found.differences.iter().map(|(path, why)| (path.as_str(), *why)).collect();
        let expected = [
            ("kernels/bad.btf", "does not parse"),
            ("kernels/count.btf", "has another number of types or records than the manifest says"),
            ("kernels/gone.btf", "is not there"),
            ("kernels/longer.btf", "has another size than the manifest says"),
            ("kernels/other.btf", "has another SHA-256 than the manifest says"),
            ("kernels/stray.btf", "is not in the manifest"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_empty_directory_is_no_fleet() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(verify(dir.path()), Err(Error::NoFleet { .. })));
    }
}
