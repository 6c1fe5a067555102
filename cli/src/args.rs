//! What can be typed.

use std::ffi::OsString;
use std::path::PathBuf;

use btfleet_engine::dialect::Validate;
use btfleet_engine::fleet::Modules;
use btfleet_engine::report::Verdict;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use glob::Pattern;

use crate::cache::{CacheArgs, GcArgs};
use crate::examples;
use crate::filter::Filter;
use crate::intake::LimitArgs;
use crate::loader::LoaderArg;
use crate::output::quoted;
use crate::world::WorldArgs;

/// Name, version and the loader whose answers are modelled.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\nmodels libbpf f7081a6 (July 2026)");

/// Does this BPF object load on those kernels? Answers from files: no kernel, no root, no network.
#[derive(Debug, Parser)]
#[command(name = "btfleet", version = VERSION, max_term_width = 100)]
pub(crate) struct Cli {
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Verdict for every program on every kernel, with a summary grouped by cause.
    #[command(after_help = examples::CHECK)]
    Check(CheckArgs),
    /// What changed between two runs of 'check --format jsonl'; exits with 1 if something fails that did not.
    #[command(after_help = examples::COMPARE)]
    Compare(CompareArgs),
    /// Every CO-RE relocation record on every kernel, with its values and patched instruction.
    #[command(after_help = examples::RESOLVE)]
    Resolve(ResolveArgs),
    /// Write objects relocated for kernels: a file for each distinct content, and which kernels it serves.
    #[command(after_help = examples::RELOCATE)]
    Relocate(RelocateArgs),
    /// Compute what 'relocate --sign-manifest' wrote once more, and say what differs.
    #[command(after_help = examples::VERIFY_MANIFEST)]
    VerifyManifest(VerifyArgs),
    /// Write as much of each kernel's BTF as the objects need: loaders make the same of them with that.
    #[command(after_help = examples::MIN_BTF)]
    MinBtf(MinBtfArgs),
    /// Why a record or a program comes out as it does on one kernel, and what to do about it.
    #[command(after_help = examples::EXPLAIN)]
    Explain(ExplainArgs),
    /// Programs as the kernel takes them in BPF_PROG_LOAD, with the CO-RE records that it applies itself.
    #[command(after_help = examples::CORE_RELOS)]
    CoreRelos(CoreRelosArgs),
    /// Load programs into the running kernel, relocated here and by the kernel itself, and compare.
    #[command(after_help = examples::LIVE)]
    Live(LiveArgs),
    /// Kernels that these objects cannot tell apart, and the fewest kernels to boot that show every class.
    #[command(after_help = examples::CLASSES)]
    Classes(ClassesArgs),
    /// What changed between two kernels, as far as some objects depend on it or altogether.
    #[command(after_help = examples::DIFF)]
    Diff(DiffArgs),
    /// Build fleet packs, which hold many kernels in one file, and look into them.
    #[command(after_help = examples::PACK)]
    Pack(PackArgs),
    /// What files are, and what was found in them.
    #[command(after_help = examples::INSPECT)]
    Inspect(InspectArgs),
    /// The types of a kernel, a module or an object.
    #[command(subcommand)]
    Btf(BtfCommand),
    /// Measurements on your own kernels and objects.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// What took long and was kept for the next time.
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Every code that reports use: what it means, what it does to the load, what to do about it.
    #[command(after_help = examples::RULES)]
    Rules(RulesArgs),
    /// Print a completion script for a shell.
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual pages into a directory.
    #[command(after_help = examples::MAN)]
    Man {
        /// The directory; it is created if it is not there.
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) inputs: InputArgs,
    /// What stdout gets: a table to read, or a report.
    #[arg(help_heading = "What is written", long, value_enum, default_value_t = CheckFormat::Table)]
    pub(crate) format: CheckFormat,
    /// Also write a report to FILE; its ending says which: .jsonl, .json, .csv, .xml (JUnit), .sarif, .md, .parquet, or
    /// .html, a page for a browser. May be repeated.
    #[arg(help_heading = "What is written", long = "report", value_name = "FILE")]
    pub(crate) reports: Vec<PathBuf>,
    /// Who relocates: 'libbpf'; the 'kernel' itself while it loads a program (light skeletons), with the rules of
    /// RELEASE, without one, of the release that each kernel's name has; 'aya', for programs loaded from
    /// Rust; or 'ebpf-go', from Go.
    #[arg(
        help_heading = "What loaders do",
        long,
        default_value = "libbpf",
        value_name = "libbpf|kernel[:RELEASE]|aya|ebpf-go"
    )]
    pub(crate) loader: LoaderArg,
    /// Judge by every loader, and show the programs about which they disagree; exits with 1 if there are any that are
    /// loaded by default.
    #[arg(help_heading = "What loaders do", long, conflicts_with = "loader")]
    pub(crate) compare_loaders: bool,
    #[command(flatten)]
    pub(crate) validating: ValidateArgs,
    #[command(flatten)]
    pub(crate) world: WorldArgs,
    /// What the project says of its programs, as docs/manifest.md describes it: which may be left out, what their loader
    /// sets, which findings are accepted.
    #[arg(help_heading = "What loaders do", long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    /// Show what changed since an earlier run, which 'check --format jsonl' or '--report x.jsonl' wrote; only what fails
    /// and did not then counts for the exit code.
    #[arg(help_heading = "What it is compared with", long, value_name = "FILE", conflicts_with_all = ["only", "compare_loaders"])]
    pub(crate) baseline: Option<PathBuf>,
    /// Judge this kernel only, and show what changed since the kernel of '--kernels' that is next to it: the same
    /// architecture and flavour, the release before.
    #[arg(help_heading = "What it is compared with", long, value_name = "K", conflicts_with_all = ["only", "compare_loaders", "baseline", "inventory"])]
    pub(crate) new: Option<OsString>,
    /// The kernels of your hosts, a CSV file with the columns kernel (a release, or what 'uname -a' prints),
    /// distribution, arch and count, of which only the first is needed: what it comes to on how many hosts.
    #[arg(help_heading = "Inputs", long, value_name = "FILE", conflicts_with_all = ["compare_loaders", "baseline"])]
    pub(crate) inventory: Option<PathBuf>,
    /// Every cause and program in the table, with what is wrong, where, and on which kernels.
    #[arg(help_heading = "What is shown", long)]
    pub(crate) details: bool,
    /// Show only what fails, or only what is not fine. Counts and exit code are of all.
    #[arg(help_heading = "What is shown", long, value_enum)]
    pub(crate) only: Option<Only>,
    /// What comes first: of causes in the table and in reports, and of programs in the table.
    #[arg(help_heading = "What is shown", long, value_enum, value_name = "KEY", default_value_t = Sort::Worst)]
    pub(crate) sort: Sort,
    /// Report only programs whose name this matches; may be repeated.
    #[arg(help_heading = "What is shown", long = "program", value_name = "PATTERN")]
    pub(crate) program: Vec<Pattern>,
    /// Exit with 1 if any autoloaded program has a verdict at least this bad.
    #[arg(help_heading = "What is written", long, value_enum, default_value_t = FailOn::Fail)]
    pub(crate) fail_on: FailOn,
}

impl CheckArgs {
    /// What was typed that 'explain' has to be told too, for it to come to the same: each behind a space.
    pub(crate) fn for_explain(&self) -> String {
        let mut words: Vec<(&str, String)> = Vec::new();
        if self.loader != LoaderArg::Libbpf {
            words.push(("--loader", self.loader.to_string()));
        }
        if self.validating.validate == ValidateArg::Strict {
            words.push(("--validate", "strict".into()));
        }
        if self.inputs.modules != ModulesArg::Each
            && let Some(value) = self.inputs.modules.to_possible_value()
        {
            words.push(("--modules", value.get_name().to_owned()));
        }
        words.extend(self.world.typed());
        words.iter().map(|(option, value)| format!(" {option} {}", quoted(value))).collect()
    }

    /// Inputs with the new kernel behind the others.
    pub(crate) fn given(&self) -> InputArgs {
        let mut given = self.inputs.clone();
        given.kernels.extend(self.new.clone());
        given
    }
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The earlier run, in JSON Lines.
    #[arg(value_name = "A")]
    pub(crate) before: PathBuf,
    /// The later run.
    #[arg(value_name = "B")]
    pub(crate) after: PathBuf,
    /// A table to read, or one JSON object per line for programs.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// What counts as a failure: verdicts at least this bad.
    #[arg(long, value_enum, default_value_t = FailOn::Fail)]
    pub(crate) fail_on: FailOn,
}

/// Which verdicts are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Only {
    /// Those that fail.
    Failing,
    /// All but 'ok'.
    NotOk,
}

impl Only {
    /// Whether a verdict is one of them.
    pub(crate) fn takes(self, verdict: Verdict) -> bool {
        match self {
            Self::Failing => verdict >= Verdict::FailAttach,
            Self::NotOk => verdict > Verdict::Ok,
        }
    }
}

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// The worst, then what is on most programs and kernels.
    Worst,
    /// By name: of causes, of what they are about.
    Name,
    /// What is on most kernels.
    Kernels,
    /// What most programs have; programs themselves as with 'worst'.
    Programs,
}

#[derive(Debug, Args)]
pub(crate) struct ResolveArgs {
    #[command(flatten)]
    pub(crate) inputs: InputArgs,
    /// A table to read, or one JSON object per line for programs: for each record, or for each program with what to
    /// change in it.
    #[arg(long, value_enum, default_value_t = ResolveFormat::Table)]
    pub(crate) format: ResolveFormat,
    /// Who relocates: 'libbpf'; the 'kernel' itself while it loads a program (light skeletons), with the rules of
    /// RELEASE, without one, of the release that each kernel's name has; 'aya', for programs loaded from
    /// Rust; or 'ebpf-go', from Go.
    #[arg(
        help_heading = "What loaders do",
        long,
        default_value = "libbpf",
        value_name = "libbpf|kernel[:RELEASE]|aya|ebpf-go"
    )]
    pub(crate) loader: LoaderArg,
    #[command(flatten)]
    pub(crate) validating: ValidateArgs,
    /// Skip programs in sections with a leading '?', as libbpf does unless told to load them.
    #[arg(help_heading = "What loaders do", long)]
    pub(crate) respect_autoload: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RelocateArgs {
    #[command(flatten)]
    pub(crate) inputs: InputArgs,
    /// A table to read, or one JSON object per line for programs.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Directory for the files and their manifest.json; it is created if it is not there.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) validating: ValidateArgs,
    /// Leave programs in sections with a leading '?' as they are, with their records.
    #[arg(long)]
    pub(crate) respect_autoload: bool,
    /// Write into a directory that has files which no earlier run wrote; they stay as they are.
    #[arg(long)]
    pub(crate) force: bool,
    /// Also write the linked instructions of each program, and payloads.intoto.json: the statement about them for a tool
    /// that signs, as docs/output.md describes it.
    #[arg(long)]
    pub(crate) sign_manifest: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CoreRelosArgs {
    /// BPF objects: files, directories, globs, or @LIST with one per line.
    #[arg(required = true, value_name = "OBJ")]
    pub(crate) objects: Vec<OsString>,
    /// One JSON document; or the same in bytes that a loader can pass on as they are.
    #[arg(long, value_enum, default_value_t = CoreRelosFormat::Json)]
    pub(crate) format: CoreRelosFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CoreRelosFormat {
    Json,
    Bin,
}

#[derive(Debug, Args)]
pub(crate) struct LiveArgs {
    /// BPF objects: files, directories, globs, or @LIST with one per line.
    #[arg(required = true, value_name = "OBJ")]
    pub(crate) objects: Vec<OsString>,
    /// A table to read, or one JSON object per line for programs.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The statement: payloads.intoto.json. Whether its signature is good is for the tool that signed it to say.
    #[arg(value_name = "MANIFEST")]
    pub(crate) manifest: PathBuf,
    /// BPF objects that it is to be about, as for 'relocate'.
    #[arg(required = true, value_name = "OBJ")]
    pub(crate) objects: Vec<OsString>,
    /// Kernels that it is to be about, under the names that it has.
    #[arg(short, long, required = true, num_args = 1.., value_name = "K")]
    pub(crate) kernels: Vec<OsString>,
    /// A table to read, or one JSON object per line for programs.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Number of threads; 0 takes one per core. The output does not depend on it.
    #[arg(short, long, default_value_t = 0, value_name = "N")]
    pub(crate) jobs: usize,
}

#[derive(Debug, Args)]
pub(crate) struct MinBtfArgs {
    #[command(flatten)]
    pub(crate) inputs: InputArgs,
    /// Directory for the files and their manifest.json; what an earlier run wrote there is replaced.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Who relocates with it: 'libbpf'; the 'kernel' itself, with the rules of RELEASE, without one, of the release that each
    /// kernel's name has; or 'aya'.
    #[arg(long, default_value = "libbpf", value_name = "libbpf|kernel[:RELEASE]|aya")]
    pub(crate) loader: LoaderArg,
    /// Keep what programs attach to and link with as well: functions and their prototypes, tracepoints, variables, structs
    /// of functions.
    #[arg(long)]
    pub(crate) with_symbols: bool,
    /// Compress every file.
    #[arg(long)]
    pub(crate) zstd: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Files of any kind; of directories, all files below them.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Text to read, or one JSON object per line for programs.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BtfCommand {
    /// Print types: all, or the ones that are named.
    #[command(after_help = examples::BTF_DUMP)]
    Dump(BtfDumpArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BtfDumpArgs {
    /// A kernel in a file of its own, or PACK:NAME; with ,MODULE behind it the types that a module adds; or a BPF object.
    #[arg(value_name = "FILE")]
    pub(crate) file: OsString,
    /// Names of types, with 'struct', 'union' or 'enum' in front or without. As C, what they need comes with them.
    #[arg(value_name = "TYPE")]
    pub(crate) types: Vec<String>,
    /// C that compiles to the same layout; a line for each type and each part of it, as 'bpftool btf dump' has them; or
    /// one JSON object per type.
    #[arg(long, value_enum, default_value_t = DumpFormat::C)]
    pub(crate) format: DumpFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DumpFormat {
    C,
    Raw,
    Jsonl,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Remove entries, and say which: those last used long ago, or more than is to be kept.
    #[command(after_help = examples::CACHE_GC)]
    Gc(GcArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Candidate search by several algorithms: time and memory of each, on one thread.
    ///
    /// First all of them have to give the same candidates for every lookup; otherwise no times are shown.
    #[command(after_help = examples::BENCH_MATCHERS)]
    Matchers(MatchersArgs),
}

#[derive(Debug, Args)]
pub(crate) struct MatchersArgs {
    /// BPF objects whose root types are looked up: files, directories, globs, or @LIST with one per line. Without
    /// any, a sample of each kernel's own names, and of names that it does not have.
    #[arg(value_name = "OBJ")]
    pub(crate) objects: Vec<OsString>,
    /// Kernels, as for 'check'. Only vmlinux is searched: modules are left out.
    #[arg(short, long, required = true, num_args = 1.., value_name = "K")]
    pub(crate) kernels: Vec<OsString>,
    /// A table to read, or a line of values for each figure.
    #[arg(long, value_enum, default_value_t = BenchFormat::Table)]
    pub(crate) format: BenchFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchFormat {
    Table,
    Csv,
}

#[derive(Debug, Args)]
pub(crate) struct ClassesArgs {
    #[command(flatten)]
    pub(crate) inputs: InputArgs,
    /// Print something else than a table: everything as JSON; targets for the tool vmtest, to be completed with
    /// kernel images; or just the names of the kernels to boot.
    #[arg(long, value_enum)]
    pub(crate) emit: Option<Emit>,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The kernel before: as for 'check', but one; PACK:NAME is one of a pack.
    #[arg(value_name = "K1")]
    pub(crate) old: OsString,
    /// The kernel after.
    #[arg(value_name = "K2")]
    pub(crate) new: OsString,
    /// BPF objects: only what they depend on is compared.
    #[arg(value_name = "OBJ")]
    pub(crate) objects: Vec<OsString>,
    /// Text to read, or one JSON object per line for programs.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Emit {
    Json,
    Vmtest,
    List,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct InputArgs {
    /// BPF objects: files, directories, globs, or @LIST with one per line.
    #[arg(help_heading = "Inputs", required = true, value_name = "OBJ")]
    pub(crate) objects: Vec<OsString>,
    /// Kernels: raw BTF, ELF with .BTF, kernel images as docs/kernels.md lists them; a directory with vmlinux and its
    /// modules, or with many kernels; a pack with all its kernels, or PACK:NAME for one of them;
    /// KERNEL,MODULE,... for a kernel with just these modules; 'live' for the running kernel; globs and
    /// @LIST as for objects.
    #[arg(help_heading = "Inputs", short, long, required = true, num_args = 1.., value_name = "K")]
    pub(crate) kernels: Vec<OsString>,
    /// Only kernels of which this holds: 'distro=debian and release>=6.1', 'not (flavour=rt or arch=arm64)'. Fields
    /// are name, release, distro, arch, flavour and btf.
    #[arg(help_heading = "Inputs", long = "where", value_name = "CONDITION")]
    pub(crate) filter: Option<Filter>,
    /// What modules count for when vmlinux lacks a type.
    #[arg(help_heading = "Inputs", long, value_enum, default_value_t = ModulesArg::Each)]
    pub(crate) modules: ModulesArg,
    /// Number of threads; 0 takes one per core. The output does not depend on it.
    #[arg(help_heading = "Inputs", short, long, default_value_t = 0, value_name = "N")]
    pub(crate) jobs: usize,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The BPF object.
    #[arg(value_name = "OBJ")]
    pub(crate) object: OsString,
    /// Only records of this program.
    #[arg(long, value_name = "P")]
    pub(crate) program: Option<String>,
    /// Only records of this ELF section.
    #[arg(long, value_name = "S")]
    pub(crate) section: Option<String>,
    /// Only the record at this byte offset within its section: 'insn_off' of a 'resolve' row.
    #[arg(long, value_name = "OFF")]
    pub(crate) insn: Option<u32>,
    /// The kernel: as for 'check'; PACK:NAME is one of a pack. Of several, the first on which it fails is explained,
    /// with since when it does.
    #[arg(short, long, value_name = "K")]
    pub(crate) kernel: OsString,
    #[command(flatten)]
    pub(crate) world: WorldArgs,
    /// Whose answer is explained: libbpf's, the kernel's own, aya's or cilium/ebpf's.
    #[arg(
        help_heading = "What loaders do",
        long,
        default_value = "libbpf",
        value_name = "libbpf|kernel[:RELEASE]|aya|ebpf-go"
    )]
    pub(crate) loader: LoaderArg,
    #[command(flatten)]
    pub(crate) validating: ValidateArgs,
    /// What modules count for when vmlinux lacks a type.
    #[arg(help_heading = "What loaders do", long, value_enum, default_value_t = ModulesArg::Each)]
    pub(crate) modules: ModulesArg,
    /// Explain every record that was asked for, those that resolve too, with all candidates.
    #[arg(help_heading = "What is shown", short, long)]
    pub(crate) verbose: bool,
    /// Text to read, or the same content as JSON.
    #[arg(help_heading = "What is shown", long, value_enum, default_value_t = ExplainFormat::Text)]
    pub(crate) format: ExplainFormat,
}

#[derive(Debug, Args)]
pub(crate) struct PackArgs {
    #[command(subcommand)]
    pub(crate) command: PackCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PackCommand {
    /// Add kernels to a pack; it is created if it is not there.
    #[command(after_help = examples::PACK_ADD)]
    Add(PackAddArgs),
    /// List the kernels of a pack.
    #[command(after_help = examples::PACK_LS)]
    Ls {
        /// The pack.
        pack: PathBuf,
        /// A table to read, or one JSON object per line for programs.
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Check that a pack is what was written, all of it.
    #[command(after_help = examples::PACK_VERIFY)]
    Verify {
        /// The pack.
        pack: PathBuf,
    },
    /// Remove kernels from a pack.
    #[command(after_help = examples::PACK_RM)]
    Rm {
        /// The pack.
        pack: PathBuf,
        /// Names as 'pack ls' shows them.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Rewrite a pack as if its kernels had been added at once.
    #[command(after_help = examples::PACK_COMPACT)]
    Compact {
        /// The pack.
        pack: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PackAddArgs {
    /// The pack.
    pub(crate) pack: PathBuf,
    /// Kernels, as for 'check'.
    #[arg(required = true, value_name = "KERNEL")]
    pub(crate) kernels: Vec<OsString>,
    /// Name of the kernel in the pack, if it is one; else kernels have the names that 'check' shows.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Release of all these kernels; else it is read from the name of each.
    #[arg(long)]
    pub(crate) release: Option<String>,
    /// Distribution of all these kernels; else it is read from the path of each.
    #[arg(long)]
    pub(crate) distribution: Option<String>,
    /// Architecture of all these kernels; else it is read from the path of each.
    #[arg(long)]
    pub(crate) arch: Option<String>,
    /// Flavour of all these kernels; else it is read from the name of each.
    #[arg(long)]
    pub(crate) flavour: Option<String>,
    /// The BTF was made from debugging information, and is not the kernels' own.
    #[arg(long)]
    pub(crate) external: bool,
    /// Number of threads that read kernels; 0 takes one per core.
    #[arg(short, long, default_value_t = 0, value_name = "N")]
    pub(crate) jobs: usize,
}

#[derive(Debug, Args)]
pub(crate) struct RulesArgs {
    /// Everything about this code; without it, a line for each.
    #[arg(value_name = "CODE")]
    pub(crate) code: Option<String>,
    /// A table to read, or one JSON object per line for programs.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExplainFormat {
    Text,
    Json,
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

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ValidateArgs {
    /// What is compared before an instruction is patched.
    #[arg(help_heading = "What loaders do", long, value_enum, default_value_t = ValidateArg::Libbpf)]
    pub(crate) validate: ValidateArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ValidateArg {
    /// What libbpf compares, or the loader that is asked for: of bitfields, sign and right shift.
    Libbpf,
    /// Also whether the values of each access to a bitfield together read the bits of the field: in the object its own,
    /// after relocation the kernel's.
    Strict,
    /// Nothing: records are decided even where the instruction does not hold what the object's BTF implies.
    Off,
}

impl From<ValidateArgs> for Validate {
    fn from(args: ValidateArgs) -> Self {
        match args.validate {
            ValidateArg::Libbpf => Self::Loader,
            ValidateArg::Strict => Self::Strict,
            ValidateArg::Off => Self::Off,
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

/// What 'check' writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckFormat {
    /// For people.
    Table,
    /// A row a line; the last has "t":"end".
    Jsonl,
    /// The same rows as one document.
    Json,
    /// A line for each finding.
    Csv,
    /// JUnit's XML: a test case for each program on each kernel.
    Junit,
    /// SARIF 2.1.0: a result for each cause, with source lines.
    Sarif,
    /// A summary for the page of a CI job.
    Markdown,
    /// A page for a browser: a map of all programs on all kernels, causes, structs in two kernels.
    Html,
    /// The rows of CSV by columns, for databases. Not to a terminal.
    Parquet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ResolveFormat {
    /// For people.
    Table,
    /// Every record on every kernel; the last line has "t":"end".
    Jsonl,
    /// What a loader has to change in each program, for all kernels that need the same; lines as well.
    Patch,
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
