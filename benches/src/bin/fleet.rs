//! `btfleet-fleet`: many objects on many kernels by all peers in one run, their answers compared, and a Markdown
//! report.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a report for people, progress beside it")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use btfleet_benches::answer::{Answer, Digest, compare, differences};
use btfleet_benches::clock::{Stopwatch, Time};
use btfleet_benches::fleet::{self, Distinct, Phases, Rows};
use btfleet_benches::libbpf::process_cpu_time;
use btfleet_benches::machine::{describe, peak_rss_kib};
use btfleet_benches::plot::svg;
use btfleet_benches::scaling;
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
    /// Take the objects and kernels that `benches/sets/SET.tsv` lists.
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
    /// Also measure parts of the objects and of the kernels, and write scaling.tsv and scaling.svg to this folder.
    #[arg(long)]
    scaling: Option<PathBuf>,
    /// Write the pack of the kernels to this file, and leave it there.
    #[arg(long)]
    pack: Option<PathBuf>,
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
    Packed,
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
    /// Reads files of some kinds: `object`, `kernel`, `series`.
    fn read(&self, kinds: &[&str]) -> Result<Set, String> {
        let with_kernels = kinds.contains(&"kernel");
        let set = match (&self.set, &self.fleet, &self.objects, &self.kernels) {
            (Some(name), Some(dir), ..) => Set::named(name, dir, kinds)?,
            (_, _, Some(objects), Some(kernels)) => {
                Set::read(objects, with_kernels.then_some(kernels.as_path()))?
            }
            _ => return Err("neither a set nor objects and kernels".to_owned()),
        };
        for missing in &set.missing {
            eprintln!("missing: {missing}");
        }
        if set.objects.is_empty() || (with_kernels && set.kernels.is_empty()) || self.rounds == 0 {
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

/// What btfleet took on kernels that are open, from files of their own or from a pack.
struct Measured {
    /// The first round, which also touches everything for the first time.
    first: Phases,
    rounds: Vec<Phases>,
    /// Each object by itself, all rounds.
    one_by_one: Vec<Duration>,
}

fn report(args: &Args) -> Result<(), String> {
    let kinds: &[&str] =
        if args.scaling.is_some() { &["object", "kernel", "series"] } else { &["object", "kernel"] };
    let set = args.read(kinds)?;
    let files: Vec<&File> = set.objects.iter().collect();
    let kernel_files: Vec<&File> = set.kernels.iter().collect();
    let scratch = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    let pack = args.pack.as_deref().unwrap_or(scratch.path());

    let watch = Stopwatch::new();
    let kernels = fleet::load(&kernel_files)?;
    let loaded = watch.time();
    let (pack_len, packed) = fleet::write_pack(pack, &kernel_files, &kernels)?;
    let (_, (distinct, digest, by_libbpf, by_aya)) =
        fleet::round(&Batch::SEQUENTIAL, &files, &kernels, |rows| {
            let (digest, by_libbpf) = ask_libbpf(args, &set, rows)?;
            Ok((rows.distinct(&kernels), digest, by_libbpf, ask_aya(args, &set, rows)?))
        })?;
    let from_files = measure(args, &files, &kernels, digest)?;
    drop(kernels);
    let (opened, from_pack, threads) = fleet::with_pack(pack, |opened, kernels| {
        let from_pack = measure(args, &files, kernels, digest)?;
        Ok((opened, from_pack, with_threads(args, &files, kernels)?))
    })?;

    let pairs = set.objects.len() * set.kernels.len();
    let rows = distinct.records * set.kernels.len();
    println!("{}", describe());
    println!();
    println!(
        "{} objects with {} records on {} kernels ({:.1} MiB of BTF, {:.1} MiB as a pack): {pairs} pairs, {rows} rows.",
        set.objects.len(),
        distinct.records,
        set.kernels.len(),
        set.kernels_len() as f64 / MIB,
        pack_len as f64 / MIB,
    );
    if !set.missing.is_empty() {
        println!("Missing of the set: {} files, named above.", set.missing.len());
    }
    let Distinct { queries, roots, shapes, answers, views, .. } = distinct;
    println!(
        "Distinct: {queries} questions about {roots} roots, which are {shapes} types on these kernels, in {views} views; {answers} answers."
    );
    match &by_libbpf {
        Some(_) => println!(
            "btfleet, from files and from the pack, and libbpf give the same {rows} rows, digest {digest:016x}."
        ),
        None => println!("Rows were NOT compared with libbpf's; digest {digest:016x}."),
    }
    println!();
    println!("CPU time of one thread in ms, {} rounds:", args.rounds);
    println!();
    println!("| btfleet | median | lower quartile | upper quartile | min | first |");
    println!("|---|---:|---:|---:|---:|---:|");
    println!("| kernels loaded from their files, once | | | | | {:.1} |", ms(loaded));
    let total = phases("files", &from_files);
    println!("| these kernels packed, once | | | | | {:.1} |", ms(packed));
    println!("| pack opened, once | | | | | {:.3} |", ms(opened));
    let total_of_pack = phases("pack", &from_pack);
    println!();
    for (source, total) in [("files", total), ("pack", total_of_pack)] {
        let per_second = |count: usize| count as f64 / total * 1e3;
        println!("From the {source}: {:.0} pairs/s, {:.0} rows/s.", per_second(pairs), per_second(rows));
    }
    let Stats { median, p99, .. } = Stats::of(from_pack.one_by_one.iter().copied());
    println!("One object by itself on all kernels of the pack: median {median:.3} ms, p99 {p99:.3} ms.");
    println!();
    for line in threads {
        println!("{line}");
    }
    println!();
    peers(by_libbpf.as_ref(), by_aya.as_ref(), total, total_of_pack);
    if let Some(dir) = &args.scaling {
        let times = by_libbpf.as_ref().map(|it| it.relocation.as_slice());
        let scaling = scaling::measure(&set, args.rounds, scratch.path(), times)?;
        let write = |name: &str, text: String| {
            let path = dir.join(name);
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
        };
        write("scaling.tsv", scaling.tsv())?;
        write("scaling.svg", svg(&scaling.panels()))?;
    }
    memory(args, pack)
}

fn measure(args: &Args, files: &[&File], kernels: &[Kernel<'_>], digest: u64) -> Result<Measured, String> {
    let (first, same) = fleet::round(&Batch::SEQUENTIAL, files, kernels, |rows| {
        let mut ours = Digest::NONE;
        for kernel in 0..kernels.len() {
            ours.add(&rows.answers(kernel)?);
        }
        Ok(ours.value() == digest)
    })?;
    if !same {
        return Err("the rows from the files and those from the pack differ".to_owned());
    }
    let (mut rounds, mut one_by_one) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        rounds.push(fleet::round(&Batch::SEQUENTIAL, files, kernels, |_| Ok(()))?.0);
        one_by_one.extend(fleet::one_by_one(files, kernels)?);
    }
    Ok(Measured { first, rounds, one_by_one })
}

/// More threads against the first number of them, in turns.
fn with_threads(args: &Args, files: &[&File], kernels: &[Kernel<'_>]) -> Result<Vec<String>, String> {
    let batches: Vec<Batch> = args.threads.iter().map(|&it| Batch::new(it)).collect::<Result<_, _>>()?;
    let mut best = vec![(f64::INFINITY, f64::INFINITY); batches.len()];
    for _ in 0..args.rounds {
        for (batch, best) in batches.iter().zip(&mut best) {
            let cpu = process_cpu_time();
            let (phases, ()) = fleet::round(batch, files, kernels, |_| Ok(()))?;
            // Also what is not in the phases, which is visiting the rows.
            let cpu = process_cpu_time().saturating_sub(cpu).saturating_sub(phases.expand.cpu);
            *best =
                (best.0.min(phases.total().wall.as_secs_f64() * 1e3), best.1.min(cpu.as_secs_f64() * 1e3));
        }
    }
    let first = best.first().copied().unwrap_or_default();
    let lines = args.threads.iter().zip(&best).map(|(threads, best)| {
        format!(
            "{threads} threads, best of {}: {:.2} ms of wall time ({:.2} times as fast), {:.2} ms of CPU time of all threads ({:.2} times as much).",
            args.rounds,
            best.0,
            first.0 / best.0,
            best.1,
            best.1 / first.1
        )
    });
    Ok(lines.collect())
}

fn ms(time: Time) -> f64 {
    time.cpu.as_secs_f64() * 1e3
}

/// Rows of the table; the median of the total.
fn phases(source: &str, measured: &Measured) -> f64 {
    let row = |name: &str, of: fn(&Phases) -> Time| {
        let Stats { min, q1, median, q3, .. } = Stats::of(measured.rounds.iter().map(|it| of(it).cpu));
        let first = ms(of(&measured.first));
        println!("| {source}: {name} | {median:.3} | {q1:.3} | {q3:.3} | {min:.3} | {first:.3} |");
        median
    };
    row("objects parsed", |it| it.parse);
    row("distinct questions answered", |it| it.resolve);
    row("folded", |it| it.fold);
    let total = row("from objects' bytes to every row", Phases::total);
    row("every row visited and read", |it| it.expand);
    total
}

fn peers(by_libbpf: Option<&ByLibbpf>, by_aya: Option<&ByAya>, total: f64, total_of_pack: f64) {
    if by_libbpf.is_none() && by_aya.is_none() {
        return;
    }
    println!("| peer, once | ms | times btfleet's median from files | from the pack |");
    println!("|---|---:|---:|---:|");
    let line = |name: &str, time: Time| {
        let time = ms(time);
        println!("| {name} | {time:.1} | {:.1} | {:.1} |", time / total, time / total_of_pack);
    };
    let once = |name: &str, time: Time| println!("| {name} | {:.1} | | |", ms(time));
    if let Some(it) = by_libbpf {
        let relocation = it.relocation.iter().flatten().fold(Time::default(), |sum, it| sum + *it);
        line("libbpf: relocation alone", relocation);
        line("libbpf: objects opened once, relocation", it.open_once + relocation);
        line("libbpf: objects opened for each kernel, relocation", it.open_each + relocation);
        once("libbpf, before that: kernels parsed", it.kernels);
    }
    if let Some(it) = by_aya {
        line("aya-obj: relocation alone", it.relocation);
        once("aya-obj, before that: kernels parsed", it.kernels);
        println!();
        println!(
            "aya-obj: {} rows, {} of them others than btfleet's; it does not parse {} objects, and gives up on {} pairs of the others.",
            it.rows, it.rows_different, it.objects_refused, it.pairs_refused
        );
    }
    println!();
}

/// Peak memory of a process for each peer.
fn memory(args: &Args, pack: &Path) -> Result<(), String> {
    println!("Peak resident set, each in a process of its own that works once:");
    println!();
    println!("| process | peak MiB |");
    println!("|---|---:|");
    for (what, name) in [
        ("read", "all files read, nothing else"),
        ("load", "and btfleet has loaded all kernels"),
        ("btfleet", "and every row is in memory"),
        ("packed", "objects read, the pack open, and every row in memory"),
        ("libbpf", "all files read, libbpf with the largest kernel alone"),
        ("aya", "all files read, aya-obj with the largest kernel alone"),
    ] {
        let me = env::current_exe().map_err(|error| error.to_string())?;
        let mut child = Command::new(me);
        child.args(env::args_os().skip(1)).args(["--peak-of", what]).stderr(Stdio::null());
        if args.pack.is_none() {
            child.arg("--pack").arg(pack);
        }
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
    // A pack needs no file of a kernel.
    let kinds: &[&str] = if what == PeakOf::Packed { &["object"] } else { &["object", "kernel"] };
    let set = args.read(kinds)?;
    let files: Vec<&File> = set.objects.iter().collect();
    // libbpf and aya hold one kernel at a time; the largest decides.
    let largest = || set.kernels.iter().max_by_key(|it| it.data.len()).ok_or("no kernel");
    let load = || fleet::load(&set.kernels.iter().collect::<Vec<_>>());
    match what {
        PeakOf::Read => {}
        PeakOf::Packed => fleet::with_pack(args.pack.as_ref().ok_or("no pack")?, |_, kernels| {
            fleet::round(&Batch::SEQUENTIAL, &files, kernels, |_| Ok(())).map(|_| ())
        })?,
        PeakOf::Load => drop(load()?),
        PeakOf::Btfleet => {
            let kernels = load()?;
            fleet::round(&Batch::SEQUENTIAL, &files, &kernels, |_| Ok(()))?;
        }
        PeakOf::Libbpf => {
            let (objects, kernel) =
                (libbpf::Objects::new(&set.objects)?, libbpf::Kernel::parse(&largest()?.data)?);
            let mut answers = Vec::new();
            for object in 0..set.objects.len() {
                objects.relocate(object, &kernel, &mut answers);
            }
        }
        PeakOf::Aya => {
            let (objects, kernel) = (aya::Objects::new(&set.objects), aya::Kernel::parse(&largest()?.data)?);
            drop(objects.round(&kernel));
        }
    }
    println!("{}", peak_rss_kib()?);
    Ok(())
}
