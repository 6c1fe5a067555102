//! Makes and checks the inputs that btfleet is developed and measured with.
//!
//! One subcommand per kind of input, one module per subcommand. The modules do the work and return what
//! they found; only this file writes to the terminal and chooses the exit code:
//!
//! | code | meaning |
//! |------|---------|
//! | 0 | done, or nothing differs |
//! | 1 | something differs; the differences are on stdout, one a line |
//! | 2 | the command line is wrong, or something could not be read, written or compiled |
//! | 3 | a compiler that this needs is not installed |

mod samples;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::samples::{Differences, Error, Samples};

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

fn main() -> ExitCode {
    let Command::Samples(command) = Cli::parse().command;
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            let code = if matches!(error, Error::ToolMissing { .. }) { 3 } else { 2 };
            // Nowhere is left to report that stderr is closed.
            let _ = writeln!(io::stderr().lock(), "error: {error}");
            ExitCode::from(code)
        }
    }
}

fn run(command: SamplesCommand) -> Result<ExitCode, Error> {
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

fn say(line: &str) -> Result<(), Error> {
    writeln!(io::stdout().lock(), "{line}").map_err(Error::Stdout)
}
