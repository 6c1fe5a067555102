//! Inputs read and parsed, and what could not be.

use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use btfleet_engine::batch::{Batch, ObjectFile};
use btfleet_engine::ingest::{InputCode, InputError, KernelFiles};
use btfleet_engine::kernel::{Kernel, PackSource};
use btfleet_engine::object::Object;
use btfleet_engine::pack::{PackError, PackFile};

use crate::args::InputArgs;
use crate::inputs::{self, KernelInput};
use crate::output::{Failure, message};

/// All files of a run, read. Objects and kernels borrow from it.
pub(crate) struct Files {
    objects: Vec<Result<ObjectFile, InputError>>,
    kernels: Vec<Result<KernelData, InputError>>,
    /// What stands in no input's place: directories that cannot be read.
    errors: Vec<InputError>,
}

/// Where kernels are.
enum KernelData {
    /// In files of their own, read.
    Files(KernelFiles),
    /// In a pack, mapped: all of them, or the one of a name.
    Pack(PathBuf, PackFile, Option<String>),
}

/// Parsed inputs, and defects in the order in which reports name them.
pub(crate) struct Inputs<'a> {
    pub(crate) kernels: Vec<Kernel<'a>>,
    pub(crate) kernel_names: Vec<&'a str>,
    /// They last as long as the process: freeing them one by one takes a while.
    pub(crate) objects: ManuallyDrop<Vec<Object<'a>>>,
    pub(crate) object_files: Vec<&'a ObjectFile>,
    pub(crate) object_names: Vec<String>,
    /// Defects of kernels and of directories.
    pub(crate) defects: Vec<InputError>,
    /// Defects of objects, each with the number of objects that stand before it.
    pub(crate) object_defects: Vec<(usize, InputError)>,
    /// Packs that kernels are from, with their paths.
    packs: Vec<(&'a Path, Arc<PackSource<'a>>)>,
}

impl Files {
    /// Finds and reads what was typed.
    pub(crate) fn read(args: &InputArgs, batch: &Batch) -> Result<Self, Failure> {
        let mut objects = inputs::objects(&args.objects)?;
        let mut kernels = inputs::kernels(&args.kernels)?;
        let skipped = objects.skipped + kernels.skipped;
        if skipped > 0 {
            let files = if skipped == 1 { "file" } else { "files" };
            message(&format!("{skipped} other {files} skipped"));
        }
        let mut errors = std::mem::take(&mut objects.errors);
        errors.append(&mut kernels.errors);
        let wanted = [
            (objects.inputs.len(), args.objects.len(), "BPF object"),
            (kernels.inputs.len(), args.kernels.len(), "kernel"),
        ];
        for (inputs, given, what) in wanted {
            if inputs == 0 && given > 0 && errors.is_empty() {
                return Err(Failure::Usage(format!("no {what} was found there")));
            }
        }
        Ok(Self {
            objects: batch.read_objects(&objects.inputs),
            kernels: batch.map(&kernels.inputs, KernelData::read),
            errors,
        })
    }

    /// Parses everything, in parallel. Defects are told on stderr at once.
    pub(crate) fn parse(&self, batch: &Batch) -> Inputs<'_> {
        let mut this = Inputs {
            kernels: Vec::new(),
            kernel_names: Vec::new(),
            objects: ManuallyDrop::default(),
            object_files: Vec::new(),
            object_names: Vec::new(),
            defects: self.errors.clone(),
            object_defects: Vec::new(),
            packs: Vec::new(),
        };
        let kernels = batch.map(&self.kernels, |data| match data {
            Ok(data) => data.parse(),
            Err(error) => Err(error.clone()),
        });
        for parsed in kernels {
            match parsed {
                Ok(Parsed { kernels, defects, pack }) => {
                    for (name, kernel) in kernels {
                        this.kernels.push(kernel);
                        this.kernel_names.push(name);
                    }
                    this.defects.extend(defects);
                    this.packs.extend(pack);
                }
                Err(error) => this.defects.push(error),
            }
        }
        let objects = batch.map(&self.objects, |file| match file {
            Ok(file) => match Object::parse(&file.data) {
                Ok(object) => Ok((object, file)),
                Err(error) => Err(InputError::defective_object(&file.path, &error)),
            },
            Err(error) => Err(error.clone()),
        });
        for object in objects {
            let place = this.objects.len();
            match object {
                Ok((object, file)) => {
                    this.object_defects.extend(remarks(&object, file).map(|remark| (place, remark)));
                    this.objects.push(object);
                    this.object_files.push(file);
                    this.object_names.push(file.path.to_string_lossy().into_owned());
                }
                Err(error) => this.object_defects.push((place, error)),
            }
        }
        for defect in this.defects.iter().chain(this.object_defects.iter().map(|(_, defect)| defect)) {
            message(&format!("btfleet: {defect}"));
        }
        this
    }
}

/// What one of the kernel inputs came to.
struct Parsed<'a> {
    kernels: Vec<(&'a str, Kernel<'a>)>,
    defects: Vec<InputError>,
    pack: Option<(&'a Path, Arc<PackSource<'a>>)>,
}

impl KernelData {
    fn read(input: &KernelInput) -> Result<Self, InputError> {
        match input {
            KernelInput::Files(source) => KernelFiles::read(source).map(Self::Files),
            KernelInput::Pack(path, name) => match PackFile::open(path) {
                Ok(file) => Ok(Self::Pack(path.clone(), file, name.clone())),
                Err(error) => Err(InputError::unusable_pack(path, &error)),
            },
        }
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
                    // A name is mostly a path; its last part will do.
                    let is_wanted = |name: &str| {
                        let last = name.rsplit('/').next().unwrap_or(name);
                        let last = last.strip_suffix(".zst").unwrap_or(last);
                        name == wanted || last == wanted || last.strip_suffix(".btf") == Some(wanted)
                    };
                    kernels.retain(|(name, _)| is_wanted(name));
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
fn remarks(object: &Object<'_>, file: &ObjectFile) -> impl Iterator<Item = InputError> + use<> {
    let refused = object.refused().map(|refusal| InputError {
        path: file.path.clone(),
        code: InputCode::ObjectRefused,
        offset: None,
        what: format!("libbpf would not open it: {refusal}"),
    });
    let ignored = object.ignored_btf().map(|ignored| InputError {
        path: file.path.clone(),
        code: InputCode::ObjectBtfIgnored,
        offset: Some(ignored.offset()),
        what: format!("{ignored}; libbpf loads the object without relocations"),
    });
    refused.into_iter().chain(ignored)
}

impl Inputs<'_> {
    /// Whether every input was read and is judged.
    pub(crate) fn complete(&self) -> bool {
        self.defects.is_empty() && self.object_defects.iter().all(|(_, defect)| defect.code.is_remark())
    }

    /// Why an object and a kernel cannot be judged together, if so.
    pub(crate) fn mismatch(&self, object: usize, kernel: usize) -> Option<&'static str> {
        let object = self.objects.get(object)?;
        let kernel = self.kernels.get(kernel)?;
        (object.endian() != kernel.vmlinux.btf.endian())
            .then_some("the object and the kernel have different byte orders")
    }

    /// Fails if a pack turned out to be damaged: no answer of the run can be trusted then.
    pub(crate) fn check_packs(&self) -> Result<(), Failure> {
        let damaged = self.packs.iter().find_map(|(path, source)| Some((path, source.damage()?)));
        match damaged {
            Some((path, error)) => Err(Failure::System(format!("{}: {error}", path.display()))),
            None => Ok(()),
        }
    }

    /// Defects of objects that stand right before object number `place`.
    pub(crate) fn defects_before(&self, place: usize) -> impl Iterator<Item = &InputError> {
        self.object_defects.iter().filter(move |(at, _)| *at == place).map(|(_, defect)| defect)
    }
}
