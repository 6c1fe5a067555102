//! Inputs read and parsed, and what could not be.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_128;

use super::loaders::{Loaders, Refusal};
use crate::batch::Batch;
use crate::ingest::{
    InputCode, InputError, Intake, KernelFiles, KernelSource, ObjectFile, ObjectInput, kernels_in,
};
use crate::kernel::{Kernel, PackSource};
use crate::object::{Object, ObjectError};
use crate::pack::{Facts, PackError, PackFile};

/// Where kernels are to be read from.
#[derive(Clone, Debug)]
pub enum KernelInput {
    /// One kernel.
    Files(KernelSource),
    /// Packages and archives of which one kernel or more are parts.
    Archives {
        /// The archives.
        paths: Vec<PathBuf>,
        /// Whether they were found in a directory: then there may be none with a kernel in it.
        walked: bool,
    },
    /// A pack: all its kernels, or the one of this name.
    Pack(PathBuf, Option<String>),
}

/// All files of a run, read. Objects and kernels borrow from it.
#[derive(Debug, Default)]
pub struct Files {
    /// What objects consist of, each once, and where it is among them by a hash.
    contents: Vec<Vec<u8>>,
    content_of: HashMap<u128, usize>,
    /// Where objects are, and the numbers of their contents.
    objects: Vec<Result<(PathBuf, usize), InputError>>,
    kernels: Vec<Result<KernelData, InputError>>,
    /// What stands in no input's place: directories that cannot be read.
    errors: Vec<InputError>,
    /// Files that were found in directories and turned out to have no object in them.
    skipped: usize,
}

/// Where kernels are.
#[derive(Debug)]
enum KernelData {
    /// In files of their own, read.
    Files(KernelFiles),
    /// In a pack, mapped or in memory: all of them, or the one of a name.
    Pack(PathBuf, PackFile, Option<String>),
}

/// Parsed inputs, and defects in the order in which reports name them.
#[derive(Debug, Default)]
pub struct Inputs<'a> {
    /// Kernels that can be judged on, in the order given.
    pub kernels: Vec<Kernel<'a>>,
    /// Their names.
    pub kernel_names: Vec<&'a str>,
    /// What each of them is given as alone: a file, or `PACK:NAME`.
    pub kernel_args: Vec<String>,
    /// Objects that can be judged, in the order given.
    pub objects: Vec<NamedObject<'a>>,
    /// The same without copies, in the order of their first names: what is judged.
    pub distinct: Vec<Object<'a>>,
    /// Defects of kernels and of directories.
    pub defects: Vec<InputError>,
    /// Defects of objects, each with the number of objects that stand before it.
    pub object_defects: Vec<(usize, InputError)>,
    /// Packs that kernels are from, with their paths.
    packs: Vec<(&'a Path, Arc<PackSource<'a>>)>,
}

/// An object under one of its names.
#[derive(Clone, Debug)]
pub struct NamedObject<'a> {
    /// Its name: the path, as text.
    pub name: String,
    /// Where it is.
    pub path: &'a Path,
    /// Its bytes.
    pub data: &'a [u8],
    /// Its number in [`Inputs::distinct`]; objects with the same bytes have the same.
    pub distinct: usize,
}

impl AsRef<str> for NamedObject<'_> {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

/// A pack that turned out to be damaged while its types were looked up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct DamagedPack {
    /// The pack.
    pub path: PathBuf,
    /// What is wrong.
    pub what: String,
}

impl KernelInput {
    /// Reads the kernels, of which only those of a pack are not in files. `None` for a pack.
    pub fn read_files(&self, intake: &Intake) -> Option<Vec<Result<KernelFiles, InputError>>> {
        match self {
            Self::Files(source) => Some(vec![KernelFiles::read(intake, source)]),
            Self::Archives { paths, walked } => Some(kernels_in(intake, paths, *walked)),
            Self::Pack(..) => None,
        }
    }
}

impl Files {
    /// Reads files. `errors`: what could not be looked for; `read_one` is called behind each input, by any thread.
    pub fn read(
        batch: &Batch,
        intake: &Intake,
        objects: &[ObjectInput],
        kernels: &[KernelInput],
        errors: Vec<InputError>,
        read_one: impl Fn() + Sync,
    ) -> Self {
        let read_kernels = |it| {
            let found = KernelData::read(intake, it);
            read_one();
            found
        };
        let kernels = batch.map(kernels, read_kernels).into_iter().flatten();
        let mut this = Self { kernels: kernels.collect(), errors, ..Self::default() };
        let read_objects = |it| {
            let found = intake.objects(it);
            read_one();
            found
        };
        for found in batch.map(objects, read_objects) {
            this.skipped += usize::from(found.is_empty());
            this.add_objects(found);
        }
        this
    }

    /// None yet but what could not be looked for.
    pub(super) fn of_errors(errors: Vec<InputError>) -> Self {
        Self { errors, ..Self::default() }
    }

    /// Files that were found in directories and turned out to have no object in them.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Whether there is nothing, neither an object nor a reason why there is none.
    pub fn has_no_objects(&self) -> bool {
        self.objects.is_empty()
    }

    /// Adds what one input has. What is there already is kept once.
    pub(super) fn add_objects(&mut self, objects: Vec<Result<ObjectFile, InputError>>) {
        for object in objects {
            let object = object.map(|ObjectFile { path, data }| (path, self.content(data)));
            self.objects.push(object);
        }
    }

    fn content(&mut self, data: Vec<u8>) -> usize {
        let next = self.contents.len();
        let known = *self.content_of.entry(xxh3_128(&data)).or_insert(next);
        // Hashes can be forged.
        if self.contents.get(known) == Some(&data) {
            return known;
        }
        self.contents.push(data);
        next
    }

    /// Adds a kernel that is in files or in memory, or why there is none.
    pub(super) fn add_kernel(&mut self, kernel: Result<KernelFiles, InputError>) {
        self.kernels.push(kernel.map(KernelData::Files));
    }

    /// Adds all kernels of a pack.
    pub(super) fn add_pack(&mut self, path: PathBuf, file: PackFile) {
        self.kernels.push(Ok(KernelData::Pack(path, file, None)));
    }

    /// Adds what is wrong about something that stands in no input's place.
    pub(super) fn add_error(&mut self, error: Option<InputError>) {
        self.errors.extend(error);
    }

    /// Parses everything, in parallel.
    pub fn parse(&self, batch: &Batch) -> Inputs<'_> {
        let mut this = Inputs { defects: self.errors.clone(), ..Inputs::default() };
        let kernels = batch.map(&self.kernels, |data| match data {
            Ok(data) => data.parse(),
            Err(error) => Err(error.clone()),
        });
        for parsed in kernels {
            match parsed {
                Ok(Parsed { kernels, defects, pack }) => {
                    let mut last_parts: HashMap<&str, usize> = HashMap::new();
                    for (name, _) in &kernels {
                        *last_parts.entry(last_part(name)).or_default() += 1;
                    }
                    for (name, kernel) in kernels {
                        this.kernel_args.push(match &pack {
                            Some((path, _)) => {
                                let last = last_part(name);
                                let is_one = last_parts.get(last) == Some(&1);
                                format!("{}:{}", path.display(), if is_one { last } else { name })
                            }
                            // What is inside of a package is given as that.
                            None => name.split("!/").next().unwrap_or(name).to_owned(),
                        });
                        this.kernels.push(kernel);
                        this.kernel_names.push(name);
                    }
                    this.defects.extend(defects);
                    this.packs.extend(pack);
                }
                Err(error) => this.defects.push(error),
            }
        }
        let parsed = batch.map(&self.contents, |data| Object::parse(data));
        // By content: its number among the objects, or why it is none.
        let numbers: Vec<Result<usize, ObjectError>> = parsed
            .into_iter()
            .map(|object| {
                this.distinct.push(object?);
                Ok(this.distinct.len() - 1)
            })
            .collect();
        for object in &self.objects {
            let place = this.objects.len();
            let (path, content) = match object {
                Ok((path, content)) => (path.as_path(), *content),
                Err(error) => {
                    this.object_defects.push((place, error.clone()));
                    continue;
                }
            };
            let data = self.contents.get(content).map_or(&[][..], Vec::as_slice);
            match numbers.get(content) {
                Some(Ok(distinct)) => {
                    let remarks = this.distinct.get(*distinct).map(|it| remarks(it, path));
                    this.object_defects.extend(remarks.into_iter().flatten().map(|it| (place, it)));
                    let name = path.to_string_lossy().into_owned();
                    this.objects.push(NamedObject { name, path, data, distinct: *distinct });
                }
                Some(Err(error)) => {
                    this.object_defects.push((place, InputError::defective_object(path, error)));
                }
                None => {}
            }
        }
        this
    }
}

/// The name of a kernel of a pack is mostly a path; its last part without its ending will do.
fn last_part(name: &str) -> &str {
    let last = name.rsplit('/').next().unwrap_or(name);
    let last = last.strip_suffix(".zst").unwrap_or(last);
    last.strip_suffix(".btf").unwrap_or(last)
}

/// Whether the kernel of this name in a pack is meant by `wanted`: its name, or the last part of it, without its ending too.
pub fn is_called(name: &str, wanted: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    let without = last.strip_suffix(".zst").unwrap_or(last);
    [name, last, without, last_part(name)].contains(&wanted)
}

/// What one of the kernel inputs came to.
struct Parsed<'a> {
    kernels: Vec<(&'a str, Kernel<'a>)>,
    defects: Vec<InputError>,
    pack: Option<(&'a Path, Arc<PackSource<'a>>)>,
}

impl KernelData {
    fn read(intake: &Intake, input: &KernelInput) -> Vec<Result<Self, InputError>> {
        if let KernelInput::Pack(path, name) = input {
            return vec![match PackFile::open(path) {
                Ok(file) => Ok(Self::Pack(path.clone(), file, name.clone())),
                Err(error) => Err(InputError::unusable_pack(path, &error)),
            }];
        }
        input.read_files(intake).unwrap_or_default().into_iter().map(|it| it.map(Self::Files)).collect()
    }

    fn parse(&self) -> Result<Parsed<'_>, InputError> {
        match self {
            Self::Files(files) => {
                let (kernel, defects) = files.parse()?;
                let defects = files.defects.iter().cloned().chain(defects).collect();
                Ok(Parsed { kernels: vec![(files.name.as_str(), kernel)], defects, pack: None })
            }
            Self::Pack(path, file, wanted) => {
                let (source, mut kernels) = file
                    .view()
                    .and_then(PackSource::kernels)
                    .map_err(|error| InputError::unusable_pack(path, &error))?;
                if let Some(wanted) = wanted {
                    kernels.retain(|(name, _)| is_called(name, wanted));
                    if kernels.is_empty() {
                        let error = PackError::NoSuchName { name: wanted.clone() };
                        return Err(InputError::unusable_pack(path, &error));
                    }
                }
                Ok(Parsed { kernels, defects: Vec::new(), pack: Some((path, source)) })
            }
        }
    }
}

/// Objects that are judged although something about them is not as it should be.
fn remarks(object: &Object<'_>, path: &Path) -> impl Iterator<Item = InputError> + use<> {
    let refused = object.refused().map(|refusal| InputError {
        path: path.to_owned(),
        code: InputCode::ObjectRefused,
        offset: None,
        what: format!("libbpf would not open it: {refusal}"),
    });
    let ignored = object.ignored_btf().map(|ignored| InputError {
        path: path.to_owned(),
        code: InputCode::ObjectBtfIgnored,
        offset: Some(ignored.offset()),
        what: format!("{ignored}; libbpf loads the object without relocations"),
    });
    refused.into_iter().chain(ignored)
}

impl<'a> Inputs<'a> {
    /// Leaves out the kernels that `keep` does not hold for.
    pub fn retain_kernels(&mut self, mut keep: impl FnMut(&str, &Facts) -> bool) {
        let kept: Vec<bool> =
            self.kernel_names.iter().zip(&self.kernels).map(|(name, it)| keep(name, &it.facts)).collect();
        let mut of_names = kept.iter().copied();
        self.kernel_names.retain(|_| of_names.next().unwrap_or(true));
        let mut of_args = kept.iter().copied();
        self.kernel_args.retain(|_| of_args.next().unwrap_or(true));
        let mut of_kernels = kept.into_iter();
        self.kernels.retain(|_| of_kernels.next().unwrap_or(true));
    }

    /// All defects: those of kernels and directories, then those of objects.
    pub fn all_defects(&self) -> impl Iterator<Item = &InputError> {
        self.defects.iter().chain(self.object_defects.iter().map(|(_, defect)| defect))
    }

    /// Whether every input was read and is judged.
    pub fn complete(&self) -> bool {
        self.defects.is_empty() && self.object_defects.iter().all(|(_, defect)| defect.code.is_remark())
    }

    /// Object number `object`.
    pub fn object(&self, object: usize) -> Option<&Object<'a>> {
        self.distinct.get(self.objects.get(object)?.distinct)
    }

    /// The number of object number `object` among those that are judged.
    pub fn distinct_of(&self, object: usize) -> usize {
        // There is no object of that number either.
        self.objects.get(object).map_or(usize::MAX, |it| it.distinct)
    }

    /// The name of object number `object`.
    pub fn name_of(&self, object: usize) -> &str {
        self.objects.get(object).map_or("", |it| &it.name)
    }

    /// Why an object and a kernel cannot be judged together by any loader, if so.
    pub fn mismatch(&self, object: usize, kernel: usize) -> Option<Refusal> {
        let object = self.object(object)?;
        let kernel = self.kernels.get(kernel)?;
        Refusal::of_byte_orders(object.endian(), kernel.vmlinux.btf.endian())
    }

    /// The same by the kernel's loader.
    pub fn refusal(&self, loaders: &Loaders, object: usize, kernel: usize) -> Option<Refusal> {
        self.mismatch(object, kernel).or_else(|| loaders.refusal(kernel))
    }

    /// Looks whether any pack turned out to be damaged: no answer of the run can be trusted then.
    ///
    /// # Errors
    /// The first such pack.
    pub fn check_packs(&self) -> Result<(), DamagedPack> {
        let damaged = self.packs.iter().find_map(|(path, source)| Some((path, source.damage()?)));
        match damaged {
            Some((path, error)) => Err(DamagedPack { path: path.to_path_buf(), what: error.to_string() }),
            None => Ok(()),
        }
    }

    /// Defects of objects that stand right before object number `place`.
    pub fn defects_before(&self, place: usize) -> impl Iterator<Item = &InputError> {
        self.object_defects.iter().filter(move |(at, _)| *at == place).map(|(_, defect)| defect)
    }
}
