//! Whose answers are wanted, and which loader that means for each kernel.

use std::fmt;
use std::str::FromStr;

use crate::MODELS;
use crate::dialect::{Loader, Release};
use crate::format::Endian;

/// What answers are those of, where kernels relocate by different rules.
const EACH_ITS_OWN: &str = "Linux, each kernel with its own release";

/// A loader as users name it: `libbpf`, `kernel`, `kernel:RELEASE`, `aya` or `ebpf-go`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoaderChoice {
    /// libbpf.
    #[default]
    Libbpf,
    /// The kernel itself. The release is that of each kernel's name if it is not given.
    Kernel(Option<Release>),
    /// aya.
    Aya,
    /// cilium/ebpf.
    EbpfGo,
}

impl FromStr for LoaderChoice {
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

impl fmt::Display for LoaderChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Libbpf => f.write_str("libbpf"),
            Self::Kernel(None) => f.write_str("kernel"),
            Self::Kernel(Some(release)) => write!(f, "kernel:{release}"),
            Self::Aya => f.write_str("aya"),
            Self::EbpfGo => f.write_str("ebpf-go"),
        }
    }
}

/// Why an object and a kernel cannot be judged together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable code.
    pub code: &'static str,
    /// The same in a few words.
    pub short: &'static str,
    /// The same in a sentence.
    pub why: &'static str,
}

impl Refusal {
    /// The two have different byte orders.
    pub const BYTE_ORDER: Self = Self {
        code: "byte-order-mismatch",
        short: "byte order",
        why: "the object and the kernel have different byte orders",
    };

    /// Why an object of one byte order and a kernel of another cannot be judged together, if so.
    pub fn of_byte_orders(object: Endian, kernel: Endian) -> Option<Self> {
        (object != kernel).then_some(Self::BYTE_ORDER)
    }
}

/// The loader for each kernel of a run.
#[derive(Debug)]
pub struct Loaders {
    by_kernel: Vec<Loader>,
    models: String,
}

impl Loaders {
    /// Finds the loader of each of the kernels with these names. `release_of` tells the release that a name means; it is
    /// asked where that bears on the answers.
    ///
    /// # Errors
    /// The name of the first kernel whose release is needed and not known.
    pub fn new<'a>(
        choice: LoaderChoice,
        kernel_names: &[&'a str],
        release_of: impl Fn(&str) -> Option<Release>,
    ) -> Result<Self, &'a str> {
        let by_kernel: Vec<Loader> = kernel_names
            .iter()
            .map(|&name| match choice {
                LoaderChoice::Kernel(release) => {
                    release.or_else(|| release_of(name)).map(Loader::Kernel).ok_or(name)
                }
                LoaderChoice::Libbpf => Ok(Loader::Libbpf),
                LoaderChoice::Aya => Ok(Loader::Aya),
                LoaderChoice::EbpfGo => Ok(Loader::EbpfGo),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self::named(choice, by_kernel))
    }

    /// The same, where kernels whose release is not known are taken for such that do not relocate.
    pub fn where_known(
        choice: LoaderChoice,
        kernel_names: &[&str],
        release_of: impl Fn(&str) -> Option<Release>,
    ) -> Self {
        const UNKNOWN: Release = Release { major: 0, minor: 0, patch: 0 };
        let this = Self::new(choice, kernel_names, |name| release_of(name).or(Some(UNKNOWN)));
        let this = this.unwrap_or_else(|_| Self::named(choice, Vec::new()));
        let models = match choice {
            LoaderChoice::Kernel(None) => EACH_ITS_OWN.to_owned(),
            _ => this.models,
        };
        Self { models, ..this }
    }

    fn named(choice: LoaderChoice, by_kernel: Vec<Loader>) -> Self {
        let models = match (choice, by_kernel.as_slice()) {
            (LoaderChoice::Libbpf, _) => MODELS.to_owned(),
            (LoaderChoice::Kernel(Some(release)), _) => Loader::Kernel(release).to_string(),
            (LoaderChoice::Aya, _) => Loader::Aya.to_string(),
            (LoaderChoice::EbpfGo, _) => Loader::EbpfGo.to_string(),
            (_, [first, rest @ ..]) if rest.iter().all(|it| it == first) => first.to_string(),
            _ => EACH_ITS_OWN.to_owned(),
        };
        Self { by_kernel, models }
    }

    /// The loader for kernel number `kernel`.
    pub fn of(&self, kernel: usize) -> Loader {
        self.by_kernel.get(kernel).copied().unwrap_or(Loader::Libbpf)
    }

    /// The loaders, by kernel.
    pub fn by_kernel(&self) -> &[Loader] {
        &self.by_kernel
    }

    /// Whether programs are judged as libbpf loads them, and not as another loader relocates them.
    pub fn is_libbpf(&self) -> bool {
        self.by_kernel.iter().all(|it| *it == Loader::Libbpf)
    }

    /// What the answers are those of.
    pub fn models(&self) -> &str {
        &self.models
    }

    /// Why the loader of kernel number `kernel` does not relocate at all, if so.
    pub fn refusal(&self, kernel: usize) -> Option<Refusal> {
        let why = self.of(kernel).unsupported()?;
        Some(Refusal { code: "loader-unsupported", short: "kernels that do not relocate", why })
    }
}
