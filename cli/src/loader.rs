//! `--loader`: what was typed, and which loader that means for each kernel.

use std::fs;
use std::str::FromStr;

use btfleet_engine::MODELS;
use btfleet_engine::dialect::{Loader, Release};

use crate::load::Inputs;
use crate::output::Failure;

/// What answers are those of, where kernels relocate by different rules.
const EACH_ITS_OWN: &str = "Linux, each kernel with its own release";

/// A loader as it can be typed: `libbpf`, `kernel`, `kernel:RELEASE`, `aya` or `ebpf-go`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoaderArg {
    Libbpf,
    /// The release is that of each kernel's name if it is not given.
    Kernel(Option<Release>),
    Aya,
    EbpfGo,
}

impl FromStr for LoaderArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "libbpf" => Ok(Self::Libbpf),
            "kernel" => Ok(Self::Kernel(None)),
            "aya" => Ok(Self::Aya),
            "ebpf-go" => Ok(Self::EbpfGo),
            _ => match text.strip_prefix("kernel:").map(Release::parse) {
                Some(Some(release)) => Ok(Self::Kernel(Some(release))),
                Some(None) => Err("RELEASE is a kernel release such as 6.12.117".into()),
                None => Err("it is 'libbpf', 'kernel', 'kernel:RELEASE', 'aya' or 'ebpf-go'".into()),
            },
        }
    }
}

/// Why an object and a kernel cannot be judged together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    /// Stable code.
    pub(crate) code: &'static str,
    /// The same in a few words.
    pub(crate) short: &'static str,
    /// The same in a sentence.
    pub(crate) why: &'static str,
}

/// The loader for each kernel of a run.
#[derive(Debug)]
pub(crate) struct Loaders {
    by_kernel: Vec<Loader>,
    models: String,
}

impl Loaders {
    /// Finds the release of every kernel where it is needed and was not given.
    pub(crate) fn new(arg: LoaderArg, kernel_names: &[&str]) -> Result<Self, Failure> {
        let by_kernel: Vec<Loader> = kernel_names
            .iter()
            .map(|name| match arg {
                LoaderArg::Libbpf => Ok(Loader::Libbpf),
                LoaderArg::Kernel(Some(release)) => Ok(Loader::Kernel(release)),
                LoaderArg::Kernel(None) => release_of(name).map(Loader::Kernel),
                LoaderArg::Aya => Ok(Loader::Aya),
                LoaderArg::EbpfGo => Ok(Loader::EbpfGo),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self::named(arg, by_kernel))
    }

    /// The same, where kernels whose release is not known are taken for such that do not relocate.
    pub(crate) fn where_known(arg: LoaderArg, kernel_names: &[&str]) -> Self {
        const UNKNOWN: Release = Release { major: 0, minor: 0, patch: 0 };
        let by_kernel = kernel_names.iter().map(|name| match arg {
            LoaderArg::Libbpf => Loader::Libbpf,
            LoaderArg::Aya => Loader::Aya,
            LoaderArg::EbpfGo => Loader::EbpfGo,
            LoaderArg::Kernel(release) => {
                Loader::Kernel(release.or_else(|| release_in_name(name)).unwrap_or(UNKNOWN))
            }
        });
        let this = Self::named(arg, by_kernel.collect());
        let models = if arg == LoaderArg::Kernel(None) { EACH_ITS_OWN.to_owned() } else { this.models };
        Self { models, ..this }
    }

    fn named(arg: LoaderArg, by_kernel: Vec<Loader>) -> Self {
        let models = match (arg, by_kernel.as_slice()) {
            (LoaderArg::Libbpf, _) => MODELS.to_owned(),
            (LoaderArg::Kernel(Some(release)), _) => Loader::Kernel(release).to_string(),
            (LoaderArg::Aya, _) => Loader::Aya.to_string(),
            (LoaderArg::EbpfGo, _) => Loader::EbpfGo.to_string(),
            (_, [first, rest @ ..]) if rest.iter().all(|it| it == first) => first.to_string(),
            _ => EACH_ITS_OWN.to_owned(),
        };
        Self { by_kernel, models }
    }

    /// The loader for kernel number `kernel`.
    pub(crate) fn of(&self, kernel: usize) -> Loader {
        self.by_kernel.get(kernel).copied().unwrap_or(Loader::Libbpf)
    }

    /// The loaders, by kernel.
    pub(crate) fn by_kernel(&self) -> &[Loader] {
        &self.by_kernel
    }

    /// Whether programs are judged as libbpf loads them, and not as the kernel relocates them.
    pub(crate) fn is_libbpf(&self) -> bool {
        self.by_kernel.iter().all(|it| *it == Loader::Libbpf)
    }

    /// What the answers are those of.
    pub(crate) fn models(&self) -> &str {
        &self.models
    }

    /// Why an object and a kernel cannot be judged together, if so.
    pub(crate) fn refusal(&self, inputs: &Inputs<'_>, object: usize, kernel: usize) -> Option<Refusal> {
        let mismatch = inputs.mismatch(object, kernel).map(|why| Refusal {
            code: "byte-order-mismatch",
            short: "byte order",
            why,
        });
        mismatch.or_else(|| {
            let why = self.of(kernel).unsupported()?;
            Some(Refusal { code: "loader-unsupported", short: "kernels that do not relocate", why })
        })
    }
}

/// The release that a kernel's name has; of the running kernel, its own.
pub(crate) fn release_in_name(name: &str) -> Option<Release> {
    if name == "live" {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease");
        release.ok().and_then(|it| Release::parse(it.trim()))
    } else {
        // Behind the first comma stand modules.
        name.split(',').next().and_then(Release::in_name)
    }
}

fn release_of(name: &str) -> Result<Release, Failure> {
    release_in_name(name).ok_or_else(|| {
        Failure::Usage(format!("{name}: its name has no kernel release, so give it: --loader kernel:RELEASE"))
    })
}
