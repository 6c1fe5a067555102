//! The committed samples: which objects there are, how to make them again, and whether they are still
//! what their sources say.
//!
//! A directory of samples holds `src/*.bpf.c`, `objects/*.bpf.o` and `MANIFEST.tsv`. A source names the
//! byte orders that it is compiled for in its leading comment, `Targets: bpfel bpfeb`; the object for
//! big endian is called `<name>.be.bpf.o`. Everything else follows from the sources, so there is no list
//! to keep up to date.

mod compile;
mod manifest;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use self::manifest::Entry;

/// A directory of samples.
#[derive(Debug)]
pub(crate) struct Samples {
    dir: PathBuf,
}

/// What [`Samples::compare`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Differences {
    /// All `count` objects are what they should be.
    None {
        /// Number of objects compared.
        count: usize,
    },
    /// For each object that is not, by file name, the reason.
    Some(BTreeMap<String, &'static str>),
}

/// Byte order of an object, by the name of clang's target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Little endian.
    Bpfel,
    /// Big endian.
    Bpfeb,
}

/// Why samples could not be compiled or compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file or directory could not be read.
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    /// A file could not be written or moved into place.
    #[error("cannot write {}: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
    /// The directory has no sources: most likely it is the wrong one.
    #[error("no *.bpf.c in {}", path.display())]
    NoSources { path: PathBuf },
    /// A source does not say what it is compiled for, or says it twice.
    #[error("{source_name}: needs exactly one line `Targets: ` in its leading comment")]
    NoTargets { source_name: String },
    /// A source names a target other than `bpfel` and `bpfeb`.
    #[error("{source_name}: unknown target `{target}`")]
    UnknownTarget { source_name: String, target: String },
    /// A line of the manifest does not have the four columns it should have.
    #[error("MANIFEST.tsv:{line}: {expected}")]
    Manifest { line: usize, expected: &'static str },
    /// The compiler or the stripper is not installed.
    #[error("{tool} is not installed; the objects are compiled with LLVM 19 and no other version")]
    ToolMissing { tool: &'static str },
    /// The compiler or the stripper could not be started.
    #[error("cannot run {tool}: {error}")]
    ToolStart { tool: &'static str, error: io::Error },
    /// The compiler or the stripper ran and refused.
    #[error("{tool} failed for {object}:\n{stderr}")]
    ToolFailed { tool: &'static str, object: String, stderr: String },
}

/// One object to be made: a source and the byte order to compile it for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sample {
    /// File name in `src`.
    source: String,
    target: Target,
}

impl Samples {
    /// The samples under `dir`. Nothing is read yet.
    pub(crate) fn new(dir: PathBuf) -> Samples {
        Samples { dir }
    }

    /// Compiles every source, replaces the objects and the manifest, and returns the number of objects.
    ///
    /// Everything is compiled before anything is replaced, and files are renamed into place: a source
    /// that does not compile leaves the directory as it was.
    ///
    /// # Errors
    /// [`Error::ToolMissing`] without LLVM 19; otherwise what could not be read, compiled or written.
    pub(crate) fn rebuild(&self) -> Result<usize, Error> {
        // Beside the objects, since a file can be renamed within one file system only.
        let made = scratch(tempfile::Builder::new().prefix(".rebuild-").tempdir_in(&self.dir))?;
        let entries = self.compile_all(made.path())?;

        let objects = self.objects();
        fs::create_dir_all(&objects).map_err(|error| Error::Write { path: objects.clone(), error })?;
        for entry in &entries {
            rename(&made.path().join(&entry.object), &objects.join(&entry.object))?;
        }
        let manifest = made.path().join("MANIFEST.tsv");
        fs::write(&manifest, manifest::format(&entries))
            .map_err(|error| Error::Write { path: manifest.clone(), error })?;
        rename(&manifest, &self.manifest())?;
        Ok(entries.len())
    }

    /// Compares the committed objects with the manifest, the sources, and what the sources compile to.
    ///
    /// # Errors
    /// [`Error::ToolMissing`] without LLVM 19, unless a difference was found before it was needed;
    /// otherwise what could not be read, compiled or written.
    pub(crate) fn compare(&self) -> Result<Differences, Error> {
        let mut differences = self.check()?;
        let made = scratch(TempDir::new())?;
        let entries = match self.compile_all(made.path()) {
            Ok(entries) => entries,
            Err(Error::ToolMissing { .. }) if !differences.is_empty() => {
                return Ok(Differences::Some(differences));
            }
            Err(error) => return Err(error),
        };
        for entry in &entries {
            let committed = self.objects().join(&entry.object);
            // One that is missing was already found by the check.
            if committed.exists() && read(&committed)? != read(&made.path().join(&entry.object))? {
                differences.entry(entry.object.clone()).or_insert("is not what its source compiles to");
            }
        }
        if differences.is_empty() {
            Ok(Differences::None { count: entries.len() })
        } else {
            Ok(Differences::Some(differences))
        }
    }

    /// The part of the comparison that needs no compiler: manifest, objects and sources agree.
    fn check(&self) -> Result<BTreeMap<String, &'static str>, Error> {
        let text = read_text(&self.manifest())?;
        let entries = manifest::parse(&text)?;
        let mut differences = BTreeMap::new();

        for entry in &entries {
            let path = self.objects().join(&entry.object);
            if !path.exists() {
                differences.insert(entry.object.clone(), "is in the manifest, but there is no such file");
            } else if sha256(&read(&path)?) != entry.sha256 {
                differences.insert(entry.object.clone(), "is not the file that the manifest describes");
            }
        }
        let samples = self.find()?;
        for sample in &samples {
            let is_listed = |it: &Entry| it.source == sample.source && it.target == sample.target;
            if !entries.iter().any(is_listed) {
                differences.insert(sample.object(), "has a source, but is not in the manifest");
            }
        }
        for entry in &entries {
            let is_made = |it: &Sample| it.source == entry.source && it.target == entry.target;
            if !samples.iter().any(is_made) {
                differences.insert(entry.object.clone(), "is in the manifest, but has no source");
            }
        }
        for name in file_names(&self.objects())? {
            if !entries.iter().any(|it| it.object == name) {
                differences.entry(name).or_insert("is not in the manifest");
            }
        }
        Ok(differences)
    }

    /// Compiles every source into `out` and describes the objects, ordered by source and target.
    fn compile_all(&self, out: &Path) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        for sample in self.find()? {
            let object = sample.object();
            let path = out.join(&object);
            compile::compile(&self.sources(), &sample, &path)?;
            let sha256 = sha256(&read(&path)?);
            entries.push(Entry { object, source: sample.source, target: sample.target, sha256 });
        }
        Ok(entries)
    }

    /// The samples that the sources make, ordered by source and target.
    fn find(&self) -> Result<Vec<Sample>, Error> {
        let dir = self.sources();
        let mut samples = Vec::new();
        for source in file_names(&dir)? {
            if !source.ends_with(".bpf.c") {
                continue;
            }
            let text = read_text(&dir.join(&source))?;
            let targets = targets(&source, &text)?;
            samples.extend(targets.into_iter().map(|target| Sample { source: source.clone(), target }));
        }
        if samples.is_empty() {
            return Err(Error::NoSources { path: dir });
        }
        Ok(samples)
    }

    fn sources(&self) -> PathBuf {
        self.dir.join("src")
    }

    fn objects(&self) -> PathBuf {
        self.dir.join("objects")
    }

    fn manifest(&self) -> PathBuf {
        self.dir.join("MANIFEST.tsv")
    }
}

impl Sample {
    /// File name of the object: `x.bpf.c` makes `x.bpf.o` and `x.be.bpf.o`.
    fn object(&self) -> String {
        let name = self.source.strip_suffix(".bpf.c").unwrap_or(&self.source);
        match self.target {
            Target::Bpfel => format!("{name}.bpf.o"),
            Target::Bpfeb => format!("{name}.be.bpf.o"),
        }
    }
}

impl Target {
    /// The target called `name` by clang.
    fn parse(name: &str) -> Option<Target> {
        match name {
            "bpfel" => Some(Target::Bpfel),
            "bpfeb" => Some(Target::Bpfeb),
            _ => None,
        }
    }

    /// What clang calls it.
    fn name(self) -> &'static str {
        match self {
            Target::Bpfel => "bpfel",
            Target::Bpfeb => "bpfeb",
        }
    }
}

/// The targets that the leading comment of a source asks for.
///
/// `source`: its file name, for errors. `text`: the whole file.
fn targets(source: &str, text: &str) -> Result<Vec<Target>, Error> {
    let comment = text.split_once("*/").map_or("", |(comment, _)| comment);
    let mut lines =
        comment.lines().filter_map(|it| it.trim_start_matches(['/', '*', ' ']).strip_prefix("Targets: "));
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Err(Error::NoTargets { source_name: source.to_owned() });
    };
    line.split_whitespace()
        .map(|word| {
            Target::parse(word).ok_or_else(|| Error::UnknownTarget {
                source_name: source.to_owned(),
                target: word.to_owned(),
            })
        })
        .collect()
}

/// SHA-256 as the manifest has it, in lower case.
fn sha256(data: &[u8]) -> String {
    format!("{:x}", Sha256::digest(data))
}

/// Names of the visible entries of a directory, sorted.
fn file_names(dir: &Path) -> Result<Vec<String>, Error> {
    let read_error = |error| Error::Read { path: dir.to_owned(), error };
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(read_error)? {
        let name = entry.map_err(read_error)?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| Error::Read { path: path.to_owned(), error })
}

fn read_text(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|error| Error::Read { path: path.to_owned(), error })
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(|error| Error::Write { path: to.to_owned(), error })
}

fn scratch(dir: io::Result<TempDir>) -> Result<TempDir, Error> {
    dir.map_err(|error| Error::Write { path: PathBuf::from("a temporary directory"), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that the committed objects, sources and manifest agree. Needs no compiler.
    #[test]
    fn committed_samples_agree_with_their_manifest() {
        let samples = Samples::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("samples"));
        assert_eq!(samples.check().unwrap(), BTreeMap::new());
    }

    /// Check that each kind of disagreement is found, and attributed to the right object.
    #[test]
    fn check_finds_every_disagreement() {
        let dir = TempDir::new().unwrap();
        let samples = Samples::new(dir.path().to_owned());
        fs::create_dir(samples.sources()).unwrap();
        fs::create_dir(samples.objects()).unwrap();
        let source = "/* Targets: bpfel */";
        for name in ["changed.bpf.c", "lost.bpf.c", "new.bpf.c", "same.bpf.c"] {
            fs::write(samples.sources().join(name), source).unwrap();
        }
        for name in ["changed.bpf.o", "old.bpf.o", "same.bpf.o", "stray.bpf.o"] {
            fs::write(samples.objects().join(name), "object").unwrap();
        }
        let entry = |name: &str, content: &str| Entry {
            object: format!("{name}.bpf.o"),
            source: format!("{name}.bpf.c"),
            target: Target::Bpfel,
            sha256: sha256(content.as_bytes()),
        };
        let entries = [
            entry("changed", "other"),
            entry("lost", "object"),
            entry("old", "object"),
            entry("same", "object"),
        ];
        fs::write(samples.manifest(), manifest::format(&entries)).unwrap();

        let found: Vec<_> = samples.check().unwrap().into_iter().collect();
        let expected = [
            ("changed.bpf.o", "is not the file that the manifest describes"),
            ("lost.bpf.o", "is in the manifest, but there is no such file"),
            ("new.bpf.o", "has a source, but is not in the manifest"),
            ("old.bpf.o", "is in the manifest, but has no source"),
            ("stray.bpf.o", "is not in the manifest"),
        ];
        assert_eq!(found, expected.map(|(object, reason)| (object.to_owned(), reason)));
    }

    #[test]
    fn targets_are_read_from_the_leading_comment() {
        assert_eq!(
            targets("a", "/* A.\n *\n * Targets: bpfel bpfeb\n */").unwrap(),
            [Target::Bpfel, Target::Bpfeb]
        );
        for text in ["", "int x; /* */", "/* A. */ // Targets: bpfel", "/* Targets: bpfel\nTargets: bpfeb */"]
        {
            assert!(matches!(targets("a", text), Err(Error::NoTargets { .. })), "{text}");
        }
        let error = targets("a.bpf.c", "/* Targets: arm */").unwrap_err();
        assert_eq!(error.to_string(), "a.bpf.c: unknown target `arm`");
    }
}
