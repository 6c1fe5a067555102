//! Makes and checks the inputs that btfleet is developed and measured with.
//!
//! One module per kind of input. The modules do the work and return what they found; except for progress,
//! only this file writes to the terminal, and it chooses the exit code:
//!
//! | code | meaning |
//! |------|---------|
//! | 0 | done, or nothing differs |
//! | 1 | something differs; the differences are on stdout, one a line |
//! | 2 | the command line is wrong, or something could not be read, written or compiled |
//! | 3 | something is not to be had: a compiler, or packages, which are on stdout, one a line |

mod fleet;
mod samples;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use btfleet_workloads::generate;
use clap::{Args, Parser, Subcommand};
use glob::Pattern;

use crate::samples::{Differences, Samples};

/// Makes and checks the inputs that btfleet is developed and measured with.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The committed BPF objects: small programs in C, compiled for both byte orders
    #[command(subcommand)]
    Samples(SamplesCommand),
    /// Fetch the BTF of real kernels and real BPF objects from Debian packages
    ///
    /// Uses the machine's own apt sources, with a private state of apt in DIR, and needs neither root nor any
    /// change to the machine. Packages are downloaded one at a time and deleted once what is wanted of
    /// them is in DIR. An interrupted run resumes where it was. Prints what could not be had, one a line,
    /// and exits with 3 if there is any.
    Fetch(FetchArgs),
    /// Check everything in DIR against its manifest
    ///
    /// Sizes, hashes, and whether each file parses. Prints one line per difference, and exits with 1 if there
    /// is one.
    Verify(DirArgs),
    /// Print what is in DIR as Markdown tables
    Table(DirArgs),
    /// Derive any number of synthetic kernels and objects from real ones
    ///
    /// Kernels are changed at the rates at which the real ones change from release to release, objects ask what real
    /// ones ask and now and then for something else. The same inputs and seed give the same bytes. Prints how
    /// questions, layouts and results grow in the real and in the synthetic set.
    Generate(GenerateArgs),
}

#[derive(Debug, Subcommand)]
enum SamplesCommand {
    /// Compile all sources and replace the objects and the manifest
    ///
    /// An object whose source is gone stays where it is; `compare` names it.
    Rebuild(SamplesArgs),
    /// Compile all sources and compare the results with the committed objects, byte for byte
    ///
    /// Also checks objects, sources and manifest against each other, which needs no compiler. Prints one
    /// line per object that differs, and exits with 1 if there is one, with 3 if the compiler is missing.
    Compare(SamplesArgs),
}

#[derive(Debug, Args)]
struct SamplesArgs {
    /// Directory with `src`, `objects` and `MANIFEST.tsv`
    #[arg(long, value_name = "DIR", default_value = "workloads/samples")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct FetchArgs {
    /// Directory to fetch into
    dir: PathBuf,
    /// List of packages to use instead of the one that is compiled in
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// Fetch only rows of the list whose package this matches, with *, ? and [...]; may be repeated
    #[arg(long, value_name = "PATTERN")]
    only: Vec<Pattern>,
    /// Keep the packages, in DIR/debs
    #[arg(long)]
    keep: bool,
    /// Print how much there is to download, and stop; only the package lists are fetched
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct GenerateArgs {
    /// Number of kernels
    #[arg(long, value_name = "N", default_value_t = 1000)]
    kernels: u64,
    /// Number of objects
    #[arg(long, value_name = "M", default_value_t = 10_000)]
    objects: u64,
    /// Whatever is drawn is drawn from this number
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Directory with real kernels, or one that was fetched into
    #[arg(long, value_name = "DIR")]
    from_kernels: PathBuf,
    /// Directory with real objects, or one that was fetched into
    #[arg(long, value_name = "DIR")]
    from_objects: PathBuf,
    /// Leave out of kernels what no object can see, but for a sample: about a fifth is left
    #[arg(long)]
    trim: bool,
    /// Print the curves of the real set and its rates of change, and generate nothing
    #[arg(long)]
    stats_only: bool,
    /// Directory to write to, new or empty or left by an interrupted run
    #[arg(short, long, value_name = "OUT", required_unless_present = "stats_only")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct DirArgs {
    /// Directory that was fetched into
    dir: PathBuf,
}

/// What goes wrong as a whole, whatever the command.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Samples(#[from] samples::Error),
    #[error(transparent)]
    Fleet(#[from] fleet::Error),
    #[error(transparent)]
    Generate(#[from] generate::Error),
    #[error("cannot write to stdout: {0}")]
    Stdout(io::Error),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Samples(command) => samples(command),
        Command::Fetch(args) => fetch(args),
        Command::Verify(args) => verify(&args),
        Command::Table(args) => table(&args),
        Command::Generate(args) => generate(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            let is_missing = matches!(error, Error::Samples(samples::Error::ToolMissing { .. }));
            // Nowhere is left to report that stderr is closed.
            let _ = writeln!(io::stderr().lock(), "error: {error}");
            ExitCode::from(if is_missing { 3 } else { 2 })
        }
    }
}

fn samples(command: SamplesCommand) -> Result<ExitCode, Error> {
    match command {
        SamplesCommand::Rebuild(args) => {
            let count = Samples::new(args.dir).rebuild()?;
            say(&format!("{count} objects compiled"))?;
            Ok(ExitCode::SUCCESS)
        }
        SamplesCommand::Compare(args) => match Samples::new(args.dir).compare()? {
            Differences::None { count } => {
                say(&format!("{count} objects are what their sources compile to"))?;
                Ok(ExitCode::SUCCESS)
            }
            Differences::Some(differences) => {
                for (object, reason) in differences {
                    say(&format!("{object}\t{reason}"))?;
                }
                Ok(ExitCode::from(1))
            }
        },
    }
}

fn fetch(args: FetchArgs) -> Result<ExitCode, Error> {
    let FetchArgs { dir, list, only, keep, dry_run } = args;
    let report = fleet::fetch(&fleet::Options { dir, list, only, keep, dry_run })?;
    if dry_run {
        say(&report.estimate.to_string())?;
    } else {
        let there = report.fetched + report.estimate.present;
        say(&format!(
            "{} packages fetched, {there} there, {} missing",
            report.fetched,
            report.missing.len()
        ))?;
    }
    for line in &report.missing {
        say(&format!("missing: {line}"))?;
    }
    Ok(if report.missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

fn verify(args: &DirArgs) -> Result<ExitCode, Error> {
    let found = fleet::verify(&args.dir)?;
    for (path, reason) in &found.differences {
        say(&format!("{path}\t{reason}"))?;
    }
    if found.differences.is_empty() {
        say(&format!("{} files are what the manifest says", found.good))?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::from(1))
}

fn table(args: &DirArgs) -> Result<ExitCode, Error> {
    say(fleet::table(&args.dir)?.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

fn generate(args: GenerateArgs) -> Result<ExitCode, Error> {
    let GenerateArgs { kernels, objects, seed, from_kernels, from_objects, trim, stats_only: _, out } = args;
    let text = match out.filter(|_| !args.stats_only) {
        None => generate::statistics(&from_kernels, &from_objects)?,
        Some(out) => {
            let options = generate::Options { kernels, objects, seed, from_kernels, from_objects, trim };
            generate::generate(&options, &out)?
        }
    };
    say(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

fn say(line: &str) -> Result<(), Error> {
    writeln!(io::stdout().lock(), "{line}").map_err(Error::Stdout)
}
