//! `btfleet`: the command line. What was typed is in `args`, what it means in the other modules.

mod args;
mod baseline;
mod bench;
mod btf;
mod cache;
mod check;
mod classes;
mod compare;
mod copies;
mod core_relos;
mod diff;
mod docs;
mod examples;
mod explain;
mod filter;
mod inputs;
mod inspect;
mod intake;
mod live;
mod load;
mod loader;
mod manifest;
mod min_btf;
#[cfg(test)]
mod named;
mod oci;
mod outdir;
mod output;
mod outtree;
mod pack;
#[cfg(test)]
#[path = "../tests/pages/mod.rs"]
mod pages;
mod pahole;
mod patches;
mod payloads;
mod project;
mod relocate;
mod resolve;
mod rows;
mod rules;
mod text;
mod verify_manifest;
mod world;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{BenchCommand, BtfCommand, CacheCommand, Cli, Command};
use crate::output::{Exit, Failure};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return told(&error),
    };
    cli.color.write_global();
    intake::set(&cli.limits);
    cache::set(&cli.cache);
    // A panic is a bug of ours; its message is on stderr already, and scripts can tell it from a finding.
    let result = std::panic::catch_unwind(|| match &cli.command {
        Command::Check(args) => check::run(args),
        Command::Compare(args) => baseline::compare(args),
        Command::Resolve(args) => resolve::run(args),
        Command::Relocate(args) => relocate::run(args),
        Command::VerifyManifest(args) => verify_manifest::run(args),
        Command::MinBtf(args) => min_btf::run(args),
        Command::Explain(args) => explain::run(args),
        Command::CoreRelos(args) => core_relos::run(args),
        Command::Live(args) => live::run(args),
        Command::Classes(args) => classes::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Pack(args) => pack::run(&args.command),
        Command::Bench(BenchCommand::Matchers(args)) => bench::matchers(args),
        Command::Cache(CacheCommand::Gc(args)) => cache::collect(args),
        Command::Rules(args) => rules::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Btf(BtfCommand::Dump(args)) => btf::dump(args),
        Command::Completions { shell } => docs::completions(*shell),
        Command::Man { dir } => docs::man_pages(dir),
    });
    let exit = match result {
        Ok(Ok(exit)) => exit,
        Ok(Err(failure)) => failed(&failure),
        Err(_) => Exit::Internal,
    };
    exit.into()
}

/// Shows the help that was asked for, or what is wrong with the command line.
fn told(error: &clap::Error) -> ExitCode {
    let exit = match error.print() {
        _ if error.use_stderr() => Exit::Usage,
        Ok(()) => Exit::Fine,
        Err(error) => failed(&error.into()),
    };
    exit.into()
}

fn failed(failure: &Failure) -> Exit {
    // Whoever reads the output has seen enough.
    if matches!(failure, Failure::OutputClosed) {
        return Exit::Fine;
    }
    output::message(&format!("btfleet: {failure}"));
    match failure {
        Failure::Usage(_) => Exit::Usage,
        Failure::Internal(_) => Exit::Internal,
        _ => Exit::NotJudged,
    }
}
