//! What can be typed.

use std::ffi::OsString;
use std::path::PathBuf;

use btfleet_engine::resolve::Modules;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Name, version and the loader whose answers are modelled.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\nmodels libbpf f7081a6 (July 2026)");

/// Does this BPF object load on those kernels? Answers from files: no kernel, no root, no network.
#[derive(Debug, Parser)]
#[command(name = "btfleet", version = VERSION, max_term_width = 100)]
pub(crate) struct Cli {
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Verdict for every program on every kernel, with a summary grouped by cause.
    Check(CheckArgs),
    /// Every CO-RE relocation record on every kernel, with its values and patched instruction.
    Resolve(ResolveArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual pages into a directory.
    Man {
        /// The directory; it is created if it is not there.
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) inputs: InputArgs,
    /// Exit with 1 if any autoloaded program has a verdict at least this bad.
    #[arg(long, value_enum, default_value_t = FailOn::Fail)]
    pub(crate) fail_on: FailOn,
}

#[derive(Debug, Args)]
pub(crate) struct ResolveArgs {
    #[command(flatten)]
    pub(crate) inputs: InputArgs,
    /// Skip programs in sections with a leading '?', as libbpf does unless told to load them.
    #[arg(long)]
    pub(crate) respect_autoload: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InputArgs {
    /// BPF objects: files, directories, globs, or @LIST with one per line.
    #[arg(required = true, value_name = "OBJ")]
    pub(crate) objects: Vec<OsString>,
    /// Kernels: raw BTF, ELF with .BTF, either zstd-compressed; a directory with vmlinux and its
    /// modules, or with many kernels; KERNEL,MODULE,... for a kernel with just these modules; 'live' for
    /// the running kernel; globs and @LIST as for objects.
    #[arg(short, long, required = true, num_args = 1.., value_name = "K")]
    pub(crate) kernels: Vec<OsString>,
    /// What modules count for when vmlinux lacks a type.
    #[arg(long, value_enum, default_value_t = ModulesArg::Each)]
    pub(crate) modules: ModulesArg,
    /// A table to read, or one JSON object per line for programs.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Number of threads; 0 takes one per core. The output does not depend on it.
    #[arg(short, long, default_value_t = 0, value_name = "N")]
    pub(crate) jobs: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModulesArg {
    /// Each providing module alone; where they disagree, the record is 'module-dependent'.
    Each,
    /// All loaded, in the order given, as libbpf does it on a running system.
    All,
}

impl From<ModulesArg> for Modules {
    fn from(arg: ModulesArg) -> Self {
        match arg {
            ModulesArg::Each => Self::Each,
            ModulesArg::All => Self::All,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs; the last line has "t":"end".
    Jsonl,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    /// A predicted failure to load.
    Fail,
    /// Also what cannot be judged.
    Unknown,
    /// Also what depends on more than files say.
    Conditional,
    /// Also what loads but may mean something else.
    Drift,
    /// Nothing: exit with 0 or 3.
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    Always,
    Never,
}

impl Color {
    pub(crate) fn write_global(self) {
        match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}
