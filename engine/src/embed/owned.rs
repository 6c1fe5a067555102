//! A run that owns its inputs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use self_cell::self_cell;

use super::files::{DamagedPack, Files, Inputs};
use super::loaders::{LoaderChoice, Loaders, Refusal};
use super::rows::{Answers, Judgements, Relocations};
use crate::batch::{Batch, Run};
use crate::depend::Survey;
use crate::dialect::Release;
use crate::fleet::Modules;
use crate::ingest::{InputCode, InputError, Intake, KernelFiles, KernelSource, ObjectFile, ObjectInput};
use crate::kconfig::Kconfig;
use crate::object::Object;
use crate::pack::{PackFile, looks_like_pack};
use crate::relocate::{Optional, plan};
use crate::report::{Known, World, check};

/// Objects and kernels as they are given. Nothing is read before [`OwnedRun::new`].
#[derive(Debug, Default)]
pub struct OwnedInputs {
    objects: Vec<Given>,
    kernels: Vec<GivenKernel>,
    /// Modules without a kernel.
    errors: Vec<InputError>,
}

/// A file, or its name and bytes.
#[derive(Debug)]
enum Given {
    File(PathBuf),
    Bytes(PathBuf, Vec<u8>),
}

#[derive(Debug)]
struct GivenKernel {
    vmlinux: Given,
    modules: Vec<Given>,
}

/// What bears on the answers beside the inputs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whose answers are wanted.
    pub loader: LoaderChoice,
    /// What modules count for where vmlinux lacks a type.
    pub modules: Modules,
    /// Whether programs in sections with a leading `?` are left as they are, as libbpf does unless told to load them.
    /// [`OwnedRun::check`] judges each of them by itself, whatever this says.
    pub respect_autoload: bool,
    /// Text of the configuration of all kernels; without it, what lies beside the file of each.
    pub kconfig: Option<Vec<u8>>,
    /// Number of threads; 0 takes one per core. The answers do not depend on it.
    pub threads: usize,
}

impl Options {
    /// libbpf's answers, each module by itself, all programs, on as many threads as there are cores.
    pub const LIBBPF: Self = Self {
        loader: LoaderChoice::Libbpf,
        modules: Modules::Each,
        respect_autoload: false,
        kconfig: None,
        threads: 0,
    };
}

/// Why there is no run, or why it has no such answers. What is wrong with an input is none of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The system will not give threads.
    #[error("no threads: {0}")]
    Threads(String),
    /// A kernel's own answers are wanted, and its name has no release.
    #[error("{0}: its name has no kernel release, so the loader has to be kernel:RELEASE")]
    NoRelease(String),
    /// The text of the configuration sets nothing.
    #[error("the configuration sets no CONFIG_ value")]
    NoKconfig,
    /// There is no object of that number.
    #[error("there is no object number {0}")]
    NoObject(usize),
    /// Relocated files are libbpf's only.
    #[error("only what libbpf makes of objects can be written, so the loader has to be libbpf")]
    NotLibbpf,
    /// No answer can be trusted.
    #[error(transparent)]
    Pack(#[from] DamagedPack),
}

impl RunError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Threads(_) => "no-threads",
            Self::NoRelease(_) => "no-release",
            Self::NoKconfig => "no-kconfig",
            Self::NoObject(_) => "no-object",
            Self::NotLibbpf => "not-libbpf",
            Self::Pack(_) => InputCode::PackUnusable.name(),
        }
    }
}

self_cell!(
    struct ParsedFiles {
        owner: Files,
        #[covariant]
        dependent: Inputs,
    }
);

self_cell!(
    struct RunOfFiles {
        owner: Arc<ParsedFiles>,
        #[covariant]
        dependent: Run,
    }
);

self_cell!(
    struct SurveyOfFiles {
        owner: Arc<ParsedFiles>,
        #[covariant]
        dependent: Survey,
    }
);

/// Objects and kernels, and every question of the former answered on the latter.
///
/// It does not change, and many threads may ask it at once; what is computed when it is first asked for is computed once.
pub struct OwnedRun {
    batch: Batch,
    options: Options,
    parsed: Arc<ParsedFiles>,
    run: RunOfFiles,
    survey: OnceLock<SurveyOfFiles>,
    loaders: Loaders,
    world: World,
}

impl OwnedInputs {
    /// No inputs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a BPF object in memory, under a name.
    pub fn add_object_bytes(&mut self, name: &str, data: Vec<u8>) {
        self.objects.push(Given::Bytes(name.into(), data));
    }

    /// Adds a file with a BPF object, under its path.
    pub fn add_object_file(&mut self, path: impl Into<PathBuf>) {
        self.objects.push(Given::File(path.into()));
    }

    /// Adds a kernel in memory, under a name: raw BTF, an ELF file with `.BTF`, either compressed with zstd; or a pack,
    /// whose kernels have names of their own.
    pub fn add_kernel_bytes(&mut self, name: &str, data: Vec<u8>) {
        self.kernels.push(GivenKernel { vmlinux: Given::Bytes(name.into(), data), modules: Vec::new() });
    }

    /// The same of a file, under its path.
    pub fn add_kernel_file(&mut self, path: impl Into<PathBuf>) {
        self.kernels.push(GivenKernel { vmlinux: Given::File(path.into()), modules: Vec::new() });
    }

    /// Adds a module, with its name, to the kernel that was added last.
    pub fn add_module_bytes(&mut self, name: &str, data: Vec<u8>) {
        self.add_module(Given::Bytes(name.into(), data));
    }

    /// The same of a file, which names the module.
    pub fn add_module_file(&mut self, path: impl Into<PathBuf>) {
        self.add_module(Given::File(path.into()));
    }

    fn add_module(&mut self, module: Given) {
        match self.kernels.last_mut() {
            Some(kernel) => kernel.modules.push(module),
            None => self.errors.push(no_kernel(module.path())),
        }
    }

    fn read(self, batch: &Batch) -> Files {
        let Self { objects, kernels, errors } = self;
        let mut files = Files::of_errors(errors);
        for found in taken(batch, objects, Given::objects) {
            files.add_objects(found);
        }
        for kernel in taken(batch, kernels, GivenKernel::read) {
            match kernel {
                Ok(ReadKernel::Files(kernel)) => files.add_kernel(Ok(kernel)),
                Ok(ReadKernel::Pack(path, file, module)) => {
                    files.add_pack(path, file);
                    files.add_error(module);
                }
                Err(error) => files.add_kernel(Err(error)),
            }
        }
        files
    }
}

/// A kernel's files, or a pack, with what is wrong about a module given with it.
enum ReadKernel {
    Files(KernelFiles),
    Pack(PathBuf, PackFile, Option<InputError>),
}

/// Applies `work` to every item in parallel, and gives the items away.
fn taken<T: Send, R: Send>(batch: &Batch, items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    // Each is locked once.
    let items: Vec<Mutex<Option<T>>> = items.into_iter().map(|it| Mutex::new(Some(it))).collect();
    let results = batch.map(&items, |it| it.lock().unwrap_or_else(PoisonError::into_inner).take().map(&work));
    results.into_iter().flatten().collect()
}

fn no_kernel(module: &Path) -> InputError {
    InputError {
        path: module.to_owned(),
        code: InputCode::ModuleUnavailable,
        offset: None,
        what: "no kernel in a file of its own was given before it".into(),
    }
}

impl Given {
    fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Bytes(path, _) => path,
        }
    }

    /// Its path, and its bytes, decompressed.
    fn read(self) -> Result<(PathBuf, Vec<u8>), InputError> {
        match self {
            Self::File(path) => Intake::default().read(&path).map(|data| (path, data)),
            Self::Bytes(path, data) => Intake::default().expanded(data, &path).map(|data| (path, data)),
        }
    }

    /// The objects that it is or has inside.
    fn objects(self) -> Vec<Result<ObjectFile, InputError>> {
        match self {
            Self::File(path) => Intake::default().objects(&ObjectInput::named(path)),
            Self::Bytes(path, data) => Intake::default().objects_of_bytes(&path, data),
        }
    }

    /// The pack that it is, if it is one.
    fn pack(&mut self) -> Option<Result<PackFile, InputError>> {
        match self {
            Self::File(path) => {
                let mut head = Vec::new();
                // A device or pipe may never end.
                let is_file = std::fs::metadata(&path).is_ok_and(|it| it.is_file());
                let file = is_file.then(|| std::fs::File::open(&path).ok())??;
                std::io::Read::read_to_end(&mut std::io::Read::take(file, HEAD_LEN), &mut head).ok()?;
                looks_like_pack(&head)
                    .then(|| PackFile::open(path).map_err(|error| InputError::unusable_pack(path, &error)))
            }
            Self::Bytes(_, data) => {
                looks_like_pack(data).then(|| Ok(PackFile::from_bytes(std::mem::take(data))))
            }
        }
    }
}

/// Bytes of a file that tell what it is.
const HEAD_LEN: u64 = 64;

impl GivenKernel {
    fn read(mut self) -> Result<ReadKernel, InputError> {
        if let Some(pack) = self.vmlinux.pack() {
            let module = self.modules.first().map(|it| no_kernel(it.path()));
            return Ok(ReadKernel::Pack(self.vmlinux.path().to_owned(), pack?, module));
        }
        let mut files = match self.vmlinux {
            Given::File(path) => {
                let name = path.to_string_lossy().into_owned();
                KernelFiles::read(&Intake::default(), &KernelSource::alone(name, path))?
            }
            Given::Bytes(path, data) => {
                let data = Intake::default().expanded(data, &path)?;
                KernelFiles::of_bytes(&Intake::default(), &path.to_string_lossy(), &path, data)?
            }
        };
        for module in self.modules {
            match module.read() {
                Ok((path, data)) => files.add_module(&path, data),
                Err(error) => files.defects.push(InputError { code: InputCode::ModuleUnavailable, ..error }),
            }
        }
        Ok(ReadKernel::Files(files))
    }
}

impl OwnedRun {
    /// Reads and parses the inputs, and answers every question that the objects' records ask.
    ///
    /// Inputs that cannot be used are in [`OwnedRun::inputs`] as defects, and the run is one without them.
    ///
    /// # Errors
    /// [`RunError`], for what `options` ask for.
    pub fn new(inputs: OwnedInputs, options: Options) -> Result<Self, RunError> {
        let given = match &options.kconfig {
            Some(text) => {
                let kconfig = Kconfig::parse(text);
                if kconfig.is_empty() {
                    return Err(RunError::NoKconfig);
                }
                Some(Arc::new(kconfig))
            }
            None => None,
        };
        let batch = Batch::new(options.threads).map_err(RunError::Threads)?;
        let parsed = Arc::new(ParsedFiles::new(inputs.read(&batch), |files| files.parse(&batch)));
        let all = parsed.borrow_dependent();
        let loaders = Loaders::new(options.loader, &all.kernel_names, release_in_name)
            .map_err(|name| RunError::NoRelease(name.to_owned()))?;
        let known = all.kernels.iter().zip(&all.kernel_names).map(|(kernel, name)| {
            let kconfig = given.clone().or_else(|| kernel.kconfig.clone());
            Known::new(kernel, release_in_name(name), kconfig)
        });
        let world = World { kernels: known.collect(), ..World::default() };
        let run = RunOfFiles::new(Arc::clone(&parsed), |parsed| {
            let all = parsed.borrow_dependent();
            Run::new(&batch, &all.distinct, &all.kernels, loaders.by_kernel(), options.modules)
        });
        Ok(Self { batch, options, parsed, run, survey: OnceLock::new(), loaders, world })
    }

    /// Objects, kernels and defects.
    pub fn inputs(&self) -> &Inputs<'_> {
        self.parsed.borrow_dependent()
    }

    /// The answers.
    pub fn run(&self) -> &Run<'_> {
        self.run.borrow_dependent()
    }

    /// The threads of the run, for callers that ask about many objects.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The loader of each kernel.
    pub fn loaders(&self) -> &Loaders {
        &self.loaders
    }

    /// Why object number `object` cannot be judged on kernel number `kernel`, if so.
    pub fn refusal(&self, object: usize, kernel: usize) -> Option<Refusal> {
        self.inputs().refusal(&self.loaders, object, kernel)
    }

    /// The object, and its number in the run.
    fn object(&self, object: usize) -> Result<(&Object<'_>, usize), RunError> {
        let inputs = self.inputs();
        let of = inputs.object(object).ok_or(RunError::NoObject(object))?;
        Ok((of, inputs.distinct_of(object)))
    }

    /// Looks whether a pack turned out to be damaged: some of it is looked at only when rows are made, and none of the
    /// answers can be trusted then.
    ///
    /// # Errors
    /// [`RunError::Pack`].
    pub fn check_packs(&self) -> Result<(), RunError> {
        Ok(self.inputs().check_packs()?)
    }

    /// What becomes of every record of object number `object` on every kernel.
    ///
    /// # Errors
    /// [`RunError::NoObject`], [`RunError::Pack`].
    pub fn resolve(&self, object: usize) -> Result<Answers<'_>, RunError> {
        let (of, distinct) = self.object(object)?;
        let is_on = |program: usize| {
            !self.options.respect_autoload || of.programs().get(program).is_none_or(|it| it.autoload)
        };
        let folded = self.run().fold(distinct, |reloc| reloc.program.is_none_or(is_on));
        self.check_packs()?;
        Ok(Answers::new(self, object, folded))
    }

    /// A verdict on every program of object number `object` on every kernel.
    ///
    /// # Errors
    /// [`RunError::NoObject`], [`RunError::Pack`].
    pub fn check(&self, object: usize) -> Result<Judgements<'_>, RunError> {
        let (_, distinct) = self.object(object)?;
        let survey = self.loaders.is_libbpf().then(|| {
            self.survey.get_or_init(|| {
                SurveyOfFiles::new(Arc::clone(&self.parsed), |parsed| {
                    let all = parsed.borrow_dependent();
                    Survey::new(&self.batch, &all.distinct, &all.kernels, self.options.modules)
                })
            })
        });
        let survey = survey.map(SurveyOfFiles::borrow_dependent);
        let verdicts = check(self.run(), survey, &self.world, distinct);
        self.check_packs()?;
        Ok(Judgements::new(self, object, verdicts))
    }

    /// The file of object number `object` as libbpf makes it, for every kernel.
    ///
    /// # Errors
    /// [`RunError::NoObject`], [`RunError::NotLibbpf`], [`RunError::Pack`].
    pub fn relocate(&self, object: usize) -> Result<Relocations<'_>, RunError> {
        let (of, distinct) = self.object(object)?;
        if !self.loaders.is_libbpf() {
            return Err(RunError::NotLibbpf);
        }
        let optional = if self.options.respect_autoload { Optional::Leave } else { Optional::Relocate };
        let planned = plan(self.run(), distinct, optional);
        self.check_packs()?;
        Ok(Relocations::new(self, of, object, planned))
    }
}

impl std::fmt::Debug for OwnedRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inputs = self.inputs();
        f.debug_struct("OwnedRun")
            .field("objects", &inputs.objects.iter().map(|it| &it.name).collect::<Vec<_>>())
            .field("kernels", &inputs.kernel_names)
            .field("loaders", &self.loaders)
            .finish_non_exhaustive()
    }
}

/// The release that a kernel's name has.
fn release_in_name(name: &str) -> Option<Release> {
    // Behind the first comma stand modules.
    name.split(',').next().and_then(Release::in_name)
}
