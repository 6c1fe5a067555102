//! `btfleet-fleet`: many objects on many kernels by all peers in one run, their answers compared, and a Markdown
//! report.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a report for people, progress beside it")]

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use btfleet_benches::answer::{Answer, Digest, compare, differences};
use btfleet_benches::clock::{Stopwatch, Time};
use btfleet_benches::fleet::{self, Distinct, Phases, Rows};
use btfleet_benches::machine::{describe, peak_rss_kib};
use btfleet_benches::set::Set;
use btfleet_benches::stats::Stats;
use btfleet_benches::workload::File;
use btfleet_benches::{aya, libbpf};
use btfleet_engine::batch::Batch;
use btfleet_engine::kernel::Kernel;
use clap::{Parser, ValueEnum};

const MIB: f64 = 1024.0 * 1024.0;

/// Many objects on many kernels: btfleet's batch engine, libbpf and aya-obj, with the same answers.
#[derive(Debug, Parser)]
struct Args {
    /// Folder of objects, or a list of their paths, one a line.
    #[arg(long, required_unless_present = "set", requires = "kernels", conflicts_with = "set")]
    objects: Option<PathBuf>,
    /// Folder of kernels' raw BTFs, or a list of their paths.
    #[arg(long, requires = "objects")]
    kernels: Option<PathBuf>,
    /// Take the objects and kernels that benches/sets/<SET>.tsv lists.
    #[arg(long, requires = "fleet")]
    set: Option<String>,
    /// The folder that `btfleet-workloads fetch` filled.
    #[arg(long, requires = "set")]
    fleet: Option<PathBuf>,
    /// How often btfleet works; its peers work once.
    #[arg(long, default_value_t = 11)]
    rounds: usize,
    /// Numbers of threads that btfleet works with; all but the first are compared with the first.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    threads: Vec<usize>,
    /// Who is compared with. Without libbpf nothing says that the answers are right.
    #[arg(long, value_delimiter = ',', default_value = "libbpf,aya")]
    peers: Vec<Peer>,
    /// Only do one thing once, and print the peak resident set in KiB.
    #[arg(long, hide = true)]
    peak_of: Option<PeakOf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Peer {
    Libbpf,
    Aya,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PeakOf {
    Read,
    Load,
    Btfleet,
    Libbpf,
    Aya,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.peak_of {
        Some(what) => peak_of(&args, what),
        None => report(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("btfleet-fleet: {message}");
            ExitCode::FAILURE
        }
    }
}

impl Args {
    fn read(&self) -> Result<Set, String> {
        let set = match (&self.set, &self.fleet, &self.objects, &self.kernels) {
            (Some(name), Some(dir), ..) => Set::named(name, dir)?,
            (_, _, Some(objects), Some(kernels)) => Set::read(objects, kernels)?,
            _ => return Err("neither a set nor objects and kernels".to_owned()),
        };
        for missing in &set.missing {
            eprintln!("missing: {missing}");
        }
        if set.objects.is_empty() || set.kernels.is_empty() || self.rounds == 0 {
            return Err("nothing to measure".to_owned());
        }
        Ok(set)
    }
}

/// What libbpf took.
#[derive(Default)]
struct ByLibbpf {
    kernels: Time,
    /// All objects opened once.
    open_once: Time,
    /// All objects opened for each kernel.
    open_each: Time,
    /// By kernel, then by object.
    relocation: Vec<Vec<Time>>,
}

/// What aya took, and how far it came.
#[derive(Default)]
struct ByAya {
    kernels: Time,
    relocation: Time,
    objects_refused: usize,
    pairs_refused: usize,
    rows: usize,
    rows_different: usize,
}

fn report(args: &Args) -> Result<(), String> {
    let set = args.read()?;
    let files: Vec<&File> = set.objects.iter().collect();
    let one = Batch::SEQUENTIAL;
    let watch = Stopwatch::new();
    let kernels = fleet::load(set.kernels.iter())?;
    let loaded = watch.time();

    let (_, (distinct, digest, by_libbpf, by_aya)) = fleet::round(&one, &files, &kernels, |rows| {
        let distinct = rows.distinct(&kernels);
        let (digest, by_libbpf) = ask_libbpf(args, &set, rows)?;
        Ok((distinct, digest, by_libbpf, ask_aya(args, &set, rows)?))
    })?;

    let mut rounds: Vec<Phases> = Vec::new();
    for _ in 0..args.rounds {
        rounds.push(fleet::round(&one, &files, &kernels, |_| Ok(()))?.0);
    }

    let pairs = set.objects.len() * set.kernels.len();
    println!("{}", describe());
    println!();
    println!(
        "{} objects with {} records on {} kernels ({:.1} MiB of BTF): {pairs} pairs, {} rows.",
        set.objects.len(),
        distinct.records,
        set.kernels.len(),
        set.kernels_len() as f64 / MIB,
        distinct.records * set.kernels.len()
    );
    if !set.missing.is_empty() {
        println!("Missing of the set: {} files, named above.", set.missing.len());
    }
    let Distinct { queries, roots, shapes, answers, views, .. } = distinct;
    println!(
        "Distinct: {queries} questions about {roots} roots, which are {shapes} types on these kernels, in {views} views; {answers} answers."
    );
    match &by_libbpf {
        Some(_) => println!("btfleet and libbpf give the same answers for every row, digest {digest:016x}."),
        None => println!("Answers were NOT compared; digest {digest:016x}."),
    }
    println!();
    times(&distinct, pairs, &set, loaded, &rounds, by_libbpf.as_ref(), by_aya.as_ref());
    memory()
}

fn times(
    distinct: &Distinct,
    pairs: usize,
    set: &Set,
    loaded: Time,
    rounds: &[Phases],
    by_libbpf: Option<&ByLibbpf>,
    by_aya: Option<&ByAya>,
) {
    println!("CPU time of one thread, ms; btfleet {} rounds:", rounds.len());
    println!();
    println!("| btfleet | median | lower quartile | upper quartile | min |");
    println!("|---|---:|---:|---:|---:|");
    let row = |name: &str, of: fn(&Phases) -> Time| {
        let Stats { min, q1, median, q3, .. } = Stats::of(rounds.iter().map(|it| of(it).cpu));
        println!("| {name} | {median:.3} | {q1:.3} | {q3:.3} | {min:.3} |");
        median
    };
    row("objects parsed", |it| it.parse);
    row("distinct questions answered", |it| it.resolve);
    row("folded", |it| it.fold);
    let total = row("from objects' bytes to every row", Phases::total);
    row("every row visited and read", |it| it.expand);
    let ms = |time: Time| time.cpu.as_secs_f64() * 1e3;
    println!("| before that: kernels loaded, once | {:.1} | | | |", ms(loaded));
    println!();
    println!(
        "{:.0} pairs/s, {:.0} relocations/s.",
        pairs as f64 / total * 1e3,
        (distinct.records * set.kernels.len()) as f64 / total * 1e3
    );
    println!();
    let Some(it) = by_libbpf else { return };
    println!("| peer, once | ms | times btfleet's median |");
    println!("|---|---:|---:|");
    let relocation = it.relocation.iter().flatten().fold(Time::default(), |sum, it| sum + *it);
    let line = |name: &str, time: Time| println!("| {name} | {:.1} | {:.1} |", ms(time), ms(time) / total);
    line("libbpf: relocation alone", relocation);
    line("libbpf: objects opened once, relocation", it.open_once + relocation);
    line("libbpf: objects opened for each kernel, relocation", it.open_each + relocation);
    println!("| libbpf, before that: kernels parsed, once | {:.1} | |", ms(it.kernels));
    if let Some(it) = by_aya {
        line("aya-obj: relocation alone", it.relocation);
        println!("| aya-obj, before that: kernels parsed, once | {:.1} | |", ms(it.kernels));
        println!();
        println!(
            "aya-obj: {} rows, {} of them others than btfleet's and libbpf's; it does not parse {} objects, and gives up on {} pairs of the others.",
            it.rows, it.rows_different, it.objects_refused, it.pairs_refused
        );
    }
    println!();
}

/// Peak memory of a process for each peer.
fn memory() -> Result<(), String> {
    println!("Peak resident set, each in a process of its own that works once:");
    println!();
    println!("| process | peak MiB |");
    println!("|---|---:|");
    for (what, name) in [
        ("read", "all files read, nothing else"),
        ("load", "and btfleet has loaded all kernels"),
        ("btfleet", "and every row is in memory"),
        ("libbpf", "all files read, libbpf with the largest kernel alone"),
        ("aya", "all files read, aya-obj with the largest kernel alone"),
    ] {
        let me = env::current_exe().map_err(|error| error.to_string())?;
        let mut child = Command::new(me);
        child.args(env::args_os().skip(1)).args(["--peak-of", what]).stderr(Stdio::null());
        let output = child.output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let kib: f64 = text.trim().parse().map_err(|_| format!("--peak-of {what} failed"))?;
        println!("| {name} | {:.1} |", kib / 1024.0);
    }
    println!();
    Ok(())
}

/// Compares btfleet's rows with libbpf's, kernel by kernel.
fn ask_libbpf(args: &Args, set: &Set, rows: Rows<'_>) -> Result<(u64, Option<ByLibbpf>), String> {
    let mut digest = Digest::NONE;
    if !args.peers.contains(&Peer::Libbpf) {
        for kernel in 0..set.kernels.len() {
            digest.add(&rows.answers(kernel)?);
        }
        return Ok((digest.value(), None));
    }
    let objects = libbpf::Objects::new(&set.objects)?;
    let mut by_libbpf = ByLibbpf { open_once: objects.open_all()?, ..ByLibbpf::default() };
    let mut theirs_digest = Digest::NONE;
    let mut progress = Progress::new("libbpf", set.kernels.len());
    for (number, file) in set.kernels.iter().enumerate() {
        let watch = Stopwatch::new();
        let kernel = libbpf::Kernel::parse(&file.data).map_err(|error| format!("{}: {error}", file.name))?;
        by_libbpf.kernels = by_libbpf.kernels + watch.time();
        by_libbpf.open_each = by_libbpf.open_each + objects.open_all()?;
        let mut theirs: Vec<Answer<'_>> = Vec::new();
        let times = (0..set.objects.len()).map(|object| objects.relocate(object, &kernel, &mut theirs));
        by_libbpf.relocation.push(times.collect());
        let ours = rows.answers(number)?;
        compare(&ours, &theirs).map_err(|error| format!("{}: {error}", file.name))?;
        digest.add(&ours);
        theirs_digest.add(&theirs);
        progress.step();
    }
    if digest != theirs_digest {
        return Err("the digests differ".to_owned());
    }
    Ok((digest.value(), Some(by_libbpf)))
}

fn ask_aya(args: &Args, set: &Set, rows: Rows<'_>) -> Result<Option<ByAya>, String> {
    if !args.peers.contains(&Peer::Aya) {
        return Ok(None);
    }
    let objects = aya::Objects::new(&set.objects);
    let mut by_aya = ByAya { objects_refused: objects.refused().len(), ..ByAya::default() };
    let mut progress = Progress::new("aya-obj", set.kernels.len());
    for (number, file) in set.kernels.iter().enumerate() {
        let watch = Stopwatch::new();
        let kernel = aya::Kernel::parse(&file.data).map_err(|error| format!("{}: {error}", file.name))?;
        by_aya.kernels = by_aya.kernels + watch.time();
        let (round, refused) = objects.round(&kernel);
        by_aya.relocation = by_aya.relocation + round.time;
        by_aya.pairs_refused += refused.len() - by_aya.objects_refused;
        by_aya.rows += round.answers.len();
        by_aya.rows_different += differences(&rows.answers(number)?, &round.answers);
        progress.step();
    }
    Ok(Some(by_aya))
}

/// A line on stderr for each kernel.
struct Progress {
    peer: &'static str,
    start: Instant,
    done: usize,
    all: usize,
}

impl Progress {
    fn new(peer: &'static str, all: usize) -> Self {
        Self { peer, start: Instant::now(), done: 0, all }
    }

    fn step(&mut self) {
        self.done += 1;
        eprintln!(
            "{}: {} of {} kernels, {:.0} s",
            self.peer,
            self.done,
            self.all,
            self.start.elapsed().as_secs_f64()
        );
    }
}

/// The child: does one thing once.
fn peak_of(args: &Args, what: PeakOf) -> Result<(), String> {
    let set = args.read()?;
    // libbpf and aya hold one kernel at a time; the largest decides.
    let largest = set.kernels.iter().max_by_key(|it| it.data.len()).ok_or("no kernel")?;
    let load = || fleet::load(set.kernels.iter());
    match what {
        PeakOf::Read => {}
        PeakOf::Load => drop(load()?),
        PeakOf::Btfleet => {
            let files: Vec<&File> = set.objects.iter().collect();
            let kernels: Vec<Kernel<'_>> = load()?;
            fleet::round(&Batch::SEQUENTIAL, &files, &kernels, |_| Ok(()))?;
        }
        PeakOf::Libbpf => {
            let (objects, kernel) =
                (libbpf::Objects::new(&set.objects)?, libbpf::Kernel::parse(&largest.data)?);
            let mut answers = Vec::new();
            for object in 0..set.objects.len() {
                objects.relocate(object, &kernel, &mut answers);
            }
        }
        PeakOf::Aya => {
            let (objects, kernel) = (aya::Objects::new(&set.objects), aya::Kernel::parse(&largest.data)?);
            drop(objects.round(&kernel));
        }
    }
    println!("{}", peak_rss_kib()?);
    Ok(())
}
