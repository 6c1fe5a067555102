//! The directory that is generated into, and its `manifest.jsonl`: the settings in the first line, then a line for
//! each file.
//!
//! The manifest has another name until all is written. The same settings give the same bytes, so an interrupted
//! run is repeated: files that are there already are compared, not written.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::inputs::{KernelInput, ObjectInput};
use super::kernels::Counts;
use super::{Error, Options, sha256};

/// Changes whenever the same settings give other bytes than before.
const GENERATOR: u32 = 1;
/// What every generated file has in its name.
const MARK: &str = "-synth";

/// What decides every byte of the results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Settings {
    kind: &'static str,
    generator: u32,
    seed: u64,
    kernels: u64,
    objects: u64,
    /// Whether kernels lack what no object can see.
    trimmed: bool,
    /// Hash of names and contents of the real objects.
    from_objects: String,
    /// Hash of names and sizes of the real kernels.
    from_kernels: String,
}

/// One generated file.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Entry {
    pub(super) kind: &'static str,
    /// Relative to the directory of the manifest.
    pub(super) path: String,
    pub(super) number: u64,
    /// The real file that it is derived from.
    pub(super) from: String,
    /// How many descendants of that file there are before this one. A kernel has all their changes too.
    pub(super) round: u64,
    /// A kernel's distance from its predecessor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) step: Option<&'static str>,
    pub(super) size: u64,
    pub(super) sha256: String,
    /// How many of each change there were, all told.
    pub(super) changes: Counts,
}

/// The directory that is generated into.
#[derive(Debug)]
pub(super) struct Out {
    dir: PathBuf,
    manifest: BufWriter<File>,
}

impl Settings {
    pub(super) fn of(options: &Options, objects: &[ObjectInput], kernels: &[KernelInput]) -> Self {
        let objects = objects.iter().map(|it| format!("{}\t{}\n", it.name, sha256(&it.data)));
        let kernels = kernels.iter().map(|it| {
            let size = fs::metadata(&it.path).map_or(0, |it| it.len());
            let name = it.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            format!("{name}\t{size}\n")
        });
        Self {
            kind: "settings",
            generator: GENERATOR,
            seed: options.seed,
            kernels: options.kernels,
            objects: options.objects,
            trimmed: options.trim,
            from_objects: sha256(objects.collect::<String>().as_bytes()),
            from_kernels: sha256(kernels.collect::<String>().as_bytes()),
        }
    }
}

impl Out {
    /// Opens a directory that is new, empty, or from a run with the same settings.
    pub(super) fn open(dir: &Path, settings: &Settings) -> Result<Self, Error> {
        let line = line_of(settings);
        let (whole, partial) = (dir.join("manifest.jsonl"), dir.join("manifest.part.jsonl"));
        let foreign = |path: &Path| Error::Foreign { path: path.to_owned() };
        let mut is_ours = true;
        for path in [&whole, &partial] {
            if let Ok(text) = fs::read_to_string(path)
                && !line.starts_with(text.split_inclusive('\n').next().unwrap_or_default())
            {
                return Err(foreign(dir));
            }
        }
        if !whole.exists() && !partial.exists() {
            is_ours = entries(dir)?.is_empty();
        }
        for path in entries(dir)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match name.as_str() {
                _ if !is_ours => return Err(foreign(dir)),
                "manifest.jsonl" | "manifest.part.jsonl" => {}
                "kernels" | "objects" => {
                    for path in entries(&path)? {
                        if !path.file_name().unwrap_or_default().to_string_lossy().contains(MARK) {
                            return Err(foreign(&path));
                        }
                    }
                }
                _ => return Err(foreign(&path)),
            }
        }
        for part in ["kernels", "objects"] {
            let path = dir.join(part);
            fs::create_dir_all(&path).map_err(|error| Error::Write { path, error })?;
        }
        let write = |error| Error::Write { path: partial.clone(), error };
        let mut manifest = BufWriter::new(File::create(&partial).map_err(write)?);
        manifest.write_all(line.as_bytes()).map_err(write)?;
        manifest.flush().map_err(write)?;
        Ok(Self { dir: dir.to_owned(), manifest })
    }

    /// Writes a file, unless it is there already, and its line.
    pub(super) fn write(&mut self, entry: &Entry, data: &[u8]) -> Result<(), Error> {
        let path = self.dir.join(&entry.path);
        let is_there = fs::metadata(&path).is_ok_and(|it| it.len() == entry.size)
            && fs::read(&path).is_ok_and(|there| there == data);
        let write = |error| Error::Write { path: path.clone(), error };
        if !is_there {
            let scratch = path.with_extension("tmp");
            fs::write(&scratch, data).map_err(write)?;
            fs::rename(&scratch, &path).map_err(write)?;
        }
        self.manifest.write_all(line_of(entry).as_bytes()).map_err(write)
    }

    /// All is written.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        let (whole, partial) = (self.dir.join("manifest.jsonl"), self.dir.join("manifest.part.jsonl"));
        let done = self.manifest.flush().and_then(|()| fs::rename(&partial, &whole));
        done.map_err(|error| Error::Write { path: whole, error })
    }
}

fn line_of(value: &impl Serialize) -> String {
    // Numbers, strings and maps by string: nothing that JSON lacks.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = |error| Error::Read { path: dir.to_owned(), error };
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(read(error)),
        Ok(list) => list.map(|it| it.map(|it| it.path()).map_err(read)).collect(),
    }
}
