//! BPF objects in files as users have them: objects, files that have some inside, archives of such, container images.
//!
//! What a file is, its bytes say and not its name. Of an archive only what it has of objects is kept.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::archive::{head_of, within};
use super::embedded::has_signs;
use super::file::open_regular;
use super::{
    Compression, Embedded, Entry, InputError, Intake, Member, Opened, OverLimit, embedded, looks_like_object,
};

/// An object's file, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectFile {
    /// Where it is: the path as given, and behind `!/` the place in that file, as often as files are in each other.
    pub path: PathBuf,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// Where objects are to be read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectInput {
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// Whether it was found in a directory: then there may be no object in it.
        walked: bool,
    },
    /// The file system of a container image.
    Layers {
        /// What messages call the image.
        image: PathBuf,
        /// The archives that it is made of, the lowest first.
        layers: Vec<PathBuf>,
        /// As for a file.
        walked: bool,
    },
}

impl ObjectInput {
    /// A file that was named.
    pub fn named(path: PathBuf) -> Self {
        Self::File { path, walked: false }
    }
}

impl Intake {
    /// The objects that an input has, in the order in which they stand there, and what of it cannot be read. Nothing is
    /// neither: something that was found in a directory has no object in it.
    pub fn objects(&self, input: &ObjectInput) -> Vec<Result<ObjectFile, InputError>> {
        match input {
            ObjectInput::File { path, walked: true } if has_nothing_inside(path) => Vec::new(),
            ObjectInput::File { path, walked } => match self.open(path) {
                Ok(opened) => self.objects_in(path, opened, *walked),
                Err(error) => vec![Err(error)],
            },
            ObjectInput::Layers { image, layers, walked } => {
                let found = self.objects_of_image(image, layers);
                match found.is_empty() && !walked {
                    true => vec![Err(InputError::no_object(image, "a container image"))],
                    false => found,
                }
            }
        }
    }

    /// The same of a file in memory that was given by name.
    pub fn objects_of_bytes(&self, path: &Path, data: Vec<u8>) -> Vec<Result<ObjectFile, InputError>> {
        match self.open_bytes(data, path) {
            Ok(opened) => self.objects_in(path, opened, false),
            Err(error) => vec![Err(error)],
        }
    }

    fn objects_in(&self, path: &Path, opened: Opened, walked: bool) -> Vec<Result<ObjectFile, InputError>> {
        let archive = match opened {
            Opened::Archive(archive) => archive,
            // What is called an object is taken for one: what is wrong with it is told.
            Opened::Whole(data) if !walked || path.extension().is_some_and(|it| it == "o") => {
                let found = inside(path, &data);
                let itself = |data| vec![ObjectFile { path: path.to_owned(), data }];
                return if found.is_empty() { itself(data) } else { found }.into_iter().map(Ok).collect();
            }
            Opened::Whole(data) => return objects_of(path.to_owned(), data).into_iter().map(Ok).collect(),
        };
        let (mut found, mut left) = (Vec::new(), self.limits.expanded);
        let errors = archive.visit(&may_have_objects, &mut |member| {
            let objects = self.objects_of_member(member);
            self.keep(&objects, &mut left)?;
            found.extend(objects);
            Ok(true)
        });
        found.extend(errors.into_iter().map(Err));
        if found.is_empty() && !walked {
            found.push(Err(InputError::no_object(path, "an archive")));
        }
        found
    }

    /// Takes what objects have off what may still be kept: all that is kept of an archive is no more than one file may be.
    fn keep(&self, objects: &[Result<ObjectFile, InputError>], left: &mut u64) -> io::Result<()> {
        let len: u64 = objects.iter().flatten().map(|it| it.data.len() as u64).sum();
        *left = left.checked_sub(len).ok_or(OverLimit::Expanded(self.limits.expanded))?;
        Ok(())
    }

    /// The objects in a member of an archive. Of what is compressed by itself, only an object is looked for.
    fn objects_of_member(&self, member: Member) -> Vec<Result<ObjectFile, InputError>> {
        let Member { path, data, .. } = member;
        let Some(format) = Compression::of(&data) else {
            return objects_of(path, data).into_iter().map(Ok).collect();
        };
        if !looks_like_object(&head_of(format, data.as_slice())) {
            return Vec::new();
        }
        vec![self.expanded(data, &path).map(|data| ObjectFile { path, data })]
    }

    /// The objects in a file system that is made of layers: what a later layer replaces or removes does not count.
    fn objects_of_image(&self, image: &Path, layers: &[PathBuf]) -> Vec<Result<ObjectFile, InputError>> {
        let mut files: BTreeMap<String, Vec<Result<ObjectFile, InputError>>> = BTreeMap::new();
        let (mut errors, mut left) = (Vec::new(), self.limits.expanded);
        for layer in layers {
            let archive = match self.open(layer) {
                Ok(Opened::Archive(archive)) => archive,
                // A layer without a file.
                Ok(Opened::Whole(data)) if data.iter().all(|it| *it == 0) => continue,
                Ok(Opened::Whole(_)) => {
                    errors.push(InputError::unreadable(layer, "a layer that is no archive".into()));
                    continue;
                }
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            let hidden = RefCell::new(Hidden::default());
            let mut added: BTreeMap<String, Vec<Result<ObjectFile, InputError>>> = BTreeMap::new();
            let wanted = |entry: &Entry<'_>| {
                if entry.depth == 1 {
                    hidden.borrow_mut().add(entry.inner);
                }
                may_have_objects(entry)
            };
            let prefix = within(layer, "").to_string_lossy().into_owned();
            errors.extend(archive.visit(&wanted, &mut |member| {
                let path = member.path.to_string_lossy();
                let path = path.strip_prefix(&prefix).unwrap_or(&member.inner);
                // Archives in a layer are replaced as a whole.
                let place = path.split("!/").next().unwrap_or_default().to_owned();
                let path = within(image, path);
                let objects = self.objects_of_member(Member { path, ..member });
                self.keep(&objects, &mut left)?;
                added.entry(place).or_default().extend(objects);
                Ok(true)
            }));
            let hidden = hidden.into_inner();
            files.retain(|path, _| !hidden.hides(path));
            files.extend(added);
        }
        files.into_values().flatten().chain(errors.into_iter().map(Err)).collect()
    }
}

/// What a layer hides of the layers below it.
///
/// Source: "Representing Changes" in `layer.md`, OCI image format specification.
#[derive(Debug, Default)]
struct Hidden {
    /// Paths that it has itself, or takes away with all that is below them.
    paths: BTreeSet<String>,
    /// Directories of which nothing is left, each with a `/` at its end if it is not the root.
    opaque: BTreeSet<String>,
}

impl Hidden {
    fn add(&mut self, path: &str) {
        let file = path.rsplit('/').next().unwrap_or(path);
        let dir = path.strip_suffix(file).unwrap_or_default();
        match file.strip_prefix(".wh.") {
            Some(".wh..opq") => self.opaque.insert(dir.to_owned()),
            Some(name) => self.paths.insert(format!("{dir}{name}")),
            // A directory is there beside what it had below it.
            None if file.is_empty() => false,
            None => self.paths.insert(path.to_owned()),
        };
    }

    fn hides(&self, path: &str) -> bool {
        let ends = || path.match_indices('/').map(|it| it.0);
        let below = |set: &BTreeSet<String>, end: Option<usize>| {
            end.and_then(|it| path.get(..it)).is_some_and(|it| set.contains(it))
        };
        self.opaque.contains("")
            || self.paths.contains(path)
            || ends().any(|at| below(&self.paths, Some(at)) || below(&self.opaque, at.checked_add(1)))
    }
}

/// Whether a file is an executable or the like that has no object inside. Most of what is in a directory of tools is, and
/// is not worth the memory that reading it as a whole takes.
fn has_nothing_inside(path: &Path) -> bool {
    let is_object = path.extension().is_some_and(|it| it == "o");
    let Some((mut file, _)) = open_regular(path).ok().filter(|_| !is_object) else { return false };
    let mut head = [0; 64];
    let has_head = file.read_exact(&mut head).is_ok() && head.starts_with(b"\x7fELF");
    has_head && !looks_like_object(&head) && has_signs(head.chain(file)).is_ok_and(|it| !it)
}

/// Whether a file in an archive may be an object or have some inside.
fn may_have_objects(entry: &Entry<'_>) -> bool {
    entry.head.starts_with(b"\x7fELF") || Compression::of(entry.head).is_some()
}

/// The objects in a file: itself, or those inside it.
fn objects_of(path: PathBuf, data: Vec<u8>) -> Vec<ObjectFile> {
    match looks_like_object(&data) {
        true => vec![ObjectFile { path, data }],
        false => inside(&path, &data),
    }
}

/// The objects inside a file that is none. Their paths say where they were found: `PATH!/skeleton@0x41000`.
fn inside(path: &Path, data: &[u8]) -> Vec<ObjectFile> {
    let found = embedded(data).into_iter();
    found
        .map(|Embedded { kind, offset, data }| {
            let mut path = path.as_os_str().to_owned();
            path.push(format!("!/{kind}@{offset:#x}"));
            ObjectFile { path: path.into(), data }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that a layer hides what it has itself, what it takes away, and all that is below either.
    #[test]
    fn layers_hide_what_is_below_them() {
        let mut hidden = Hidden::default();
        for path in ["usr/bin/new", "etc/", "opt/.wh.tool", "srv/data/.wh..wh..opq", "lib"] {
            hidden.add(path);
        }
        for path in ["usr/bin/new", "opt/tool", "opt/tool/a/b.o", "srv/data/x.o", "srv/data/x/y.o", "lib/a.o"]
        {
            assert!(hidden.hides(path), "{path}");
        }
        for path in ["usr/bin/newer", "etc/a.o", "opt/tools", "srv/data", "srv/x.o", "libx/a.o", "usr/bin"] {
            assert!(!hidden.hides(path), "{path}");
        }
        hidden.add(".wh..wh..opq");
        assert!(hidden.hides("etc/a.o"));
    }
}
