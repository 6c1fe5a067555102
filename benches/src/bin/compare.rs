//! `btfleet-compare`: all peers on the same work in one run, their answers compared, and a Markdown report.
//!
//! ```text
//! btfleet-compare [--objects DIR] [--kernel FILE] [--rounds N] [--btfleet PATH] [--runs N]
//! ```
//!
//! Without `--objects` and `--kernel` the workload is what the benchmarks take. `--btfleet` adds the memory and the
//! latency of that program, as a process of its own.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a report for people")]

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;
use std::{env, fs, process};

use btfleet_benches::answer::{compare, differences, digest};
use btfleet_benches::clock::Time;
use btfleet_benches::libbpf::{Scope, children_peak_rss_kib};
use btfleet_benches::machine::{self, peak_rss_kib};
use btfleet_benches::stats::Stats;
use btfleet_benches::workload::{Paths, Workload};
use btfleet_benches::{aya, btfleet, libbpf};

const MIB: f64 = 1024.0 * 1024.0;

/// What was typed.
struct Args {
    paths: Paths,
    rounds: usize,
    runs: usize,
    btfleet: Option<PathBuf>,
}

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    let result = match args.next() {
        Some(first) if first == "--peak-of" => {
            let mode = args.next().unwrap_or_default();
            let rest: Vec<PathBuf> = args.map(PathBuf::from).collect();
            peak_of(&mode.to_string_lossy(), &rest)
        }
        first => Args::parse(first.into_iter().chain(args).map(PathBuf::from)).and_then(|args| report(&args)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("btfleet-compare: {message}");
            ExitCode::FAILURE
        }
    }
}

impl Args {
    fn parse(mut typed: impl Iterator<Item = PathBuf>) -> Result<Self, String> {
        let mut args = Self { paths: Paths::from_env(), rounds: 7, runs: 50, btfleet: None };
        while let Some(name) = typed.next() {
            let value = typed.next().ok_or_else(|| format!("{}: a value is missing", name.display()))?;
            let number =
                || value.to_string_lossy().parse().map_err(|_| format!("{}: no number", value.display()));
            match name.to_string_lossy().as_ref() {
                "--objects" => args.paths.objects = value,
                "--kernel" => args.paths.kernel = value,
                "--btfleet" => args.btfleet = Some(value),
                "--rounds" => args.rounds = number()?,
                "--runs" => args.runs = number()?,
                other => return Err(format!("{other}: unknown option")),
            }
        }
        if args.rounds == 0 || args.runs == 0 {
            return Err("nothing to measure".to_owned());
        }
        Ok(args)
    }
}

fn report(args: &Args) -> Result<(), String> {
    let work = Workload::read(&args.paths)?;
    println!(
        "Workload: {}, {} little-endian objects, {}.",
        args.paths.name(),
        work.objects.len(),
        size(&work)
    );
    println!("{}", machine::describe());
    println!();
    compare_times(args, &work)?;

    // Children get the kernel as a plain file: decompressing would count as their memory.
    let plain = env::temp_dir().join(format!("btfleet-compare-{}.btf", process::id()));
    fs::write(&plain, &work.kernel).map_err(|error| format!("{}: {error}", plain.display()))?;
    let paths = Paths { objects: args.paths.objects.clone(), kernel: plain.clone() };
    let input = work.len();
    let objects: Vec<_> = work.objects.iter().map(|it| paths.objects.join(&it.name)).collect();
    drop(work);
    let result = compare_memory(args, &paths, &objects, input).and_then(|()| latency(args, &paths, &objects));
    // Only a temporary file: that it stays behind is no reason to fail.
    let _ = fs::remove_file(&plain);
    result
}

fn compare_times(args: &Args, work: &Workload) -> Result<(), String> {
    let by_libbpf = libbpf::Prepared::new(work)?;
    let by_aya = aya::Prepared::new(work)?;
    let mut from_files = None;
    let scopes = [
        ("libbpf", "relocation alone: kernel and objects parsed before", Scope::Relocation),
        ("libbpf", "objects opened, relocation", Scope::WithObjects),
        ("libbpf", "kernel parsed, objects opened, relocation", Scope::WithObjectsAndKernel),
    ];

    let ours = btfleet::round(work)?.answers;
    if ours.len() != by_libbpf.records() {
        return Err(format!("{} records, but {} by the other reader", ours.len(), by_libbpf.records()));
    }
    compare(&ours, &btfleet::round_from_files(&args.paths, &mut from_files)?.answers)?;
    for (_, _, scope) in scopes {
        compare(&ours, &by_libbpf.round(scope)?.answers)?;
    }
    let (aya_round, aya_refused) = by_aya.round();
    let aya_answers = aya_round.answers.len();
    let aya_differs = differences(&ours, &aya_round.answers);
    println!(
        "{} records; btfleet and libbpf give the same answers, digest {:016x}.",
        ours.len(),
        digest(&ours)
    );
    println!(
        "aya-obj: {aya_answers} answers, {aya_differs} of them others; {} objects refused.",
        aya_refused.len()
    );
    for refused in &aya_refused {
        println!("- {}: {}", refused.object, refused.reason);
    }
    match by_libbpf.refused().as_slice() {
        [] => println!("libbpf opens all objects."),
        refused => println!("libbpf does not open {}: of these it parses the BTF.", refused.join(", ")),
    }
    println!();

    let mut names = vec![
        ("btfleet", "files in memory: kernel loaded, objects parsed, relocation"),
        ("btfleet", "the same, and the files read (and decompressed)"),
    ];
    names.extend(scopes.map(|(peer, what, _)| (peer, what)));
    names.push(("aya-obj", "relocation alone: kernel and objects parsed before"));
    let mut times: Vec<Vec<Time>> = vec![Vec::new(); names.len()];
    // Interleaved, so that a slow minute of the machine meets all of them.
    for _ in 0..args.rounds {
        let mut round =
            vec![btfleet::round(work)?.time, btfleet::round_from_files(&args.paths, &mut from_files)?.time];
        for (_, _, scope) in scopes {
            round.push(by_libbpf.round(scope)?.time);
        }
        round.push(by_aya.round().0.time);
        for (times, time) in times.iter_mut().zip(round) {
            times.push(time);
        }
    }
    println!("CPU time of one thread (`CLOCK_THREAD_CPUTIME_ID`), {} rounds, interleaved:", args.rounds);
    println!();
    println!("| peer | measured | median ms | best | worst | wall median ms | times btfleet's |");
    println!("|---|---|---:|---:|---:|---:|---:|");
    let mut base = None;
    for ((peer, what), times) in names.iter().zip(times) {
        let cpu = Stats::of(times.iter().map(|it| it.cpu));
        let wall = Stats::of(times.iter().map(|it| it.wall));
        let base = *base.get_or_insert(cpu.median);
        println!(
            "| {peer} | {what} | {:.3} | {:.3} | {:.3} | {:.3} | {:.1} |",
            cpu.median,
            cpu.min,
            cpu.max,
            wall.median,
            cpu.median / base
        );
    }
    println!();
    Ok(())
}

fn compare_memory(args: &Args, paths: &Paths, objects: &[PathBuf], input: usize) -> Result<(), String> {
    let me = env::current_exe().map_err(|error| error.to_string())?;
    let child = |mode: &str, rest: &[&Path]| {
        let output =
            Command::new(&me).arg("--peak-of").arg(mode).args(rest).stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim().parse::<u64>().map_err(|_| format!("--peak-of {mode} failed"))
    };
    let input = input as f64 / MIB;
    println!("Peak resident set, each in a process of its own; the input files have {input:.1} MiB:");
    println!();
    println!("| process | peak MiB | over the files' size |");
    println!("|---|---:|---:|");
    let row = |name: &dyn Display, kib: u64| {
        let mib = kib as f64 / 1024.0;
        println!("| {name} | {mib:.1} | {:.1} |", mib - input);
    };
    for (mode, name) in [
        ("read", "reading the files, nothing else"),
        ("btfleet", "btfleet"),
        ("libbpf", "libbpf, kernel parsed, objects opened, relocation"),
        ("aya", "aya-obj, kernel and objects parsed, relocation"),
    ] {
        row(&name, child(mode, &[&paths.objects, &paths.kernel])?);
    }
    if let Some(program) = &args.btfleet {
        let mut rest = vec![program.as_path()];
        let options = ["check", "--jobs", "1", "--fail-on", "never", "--kernels"].map(Path::new);
        rest.extend(options);
        rest.extend([&paths.kernel, Path::new("--")]);
        rest.extend(objects.iter().map(PathBuf::as_path));
        row(&"the program: `btfleet check --jobs 1`", child("program", &rest)?);
    }
    println!();
    Ok(())
}

/// The child: does one thing once, and prints its peak resident set in KiB.
fn peak_of(mode: &str, rest: &[PathBuf]) -> Result<(), String> {
    if mode == "program" {
        let (program, rest) = rest.split_first().ok_or("no program")?;
        let status = Command::new(program).args(rest).stdout(Stdio::null()).status();
        let status = status.map_err(|error| format!("{}: {error}", program.display()))?;
        if !status.success() {
            return Err(format!("{}: {status}", program.display()));
        }
        println!("{}", children_peak_rss_kib());
        return Ok(());
    }
    let [objects, kernel] = rest else { return Err("two paths are wanted".to_owned()) };
    let work = Workload::read(&Paths { objects: objects.clone(), kernel: kernel.clone() })?;
    match mode {
        "read" => {}
        "btfleet" => drop(btfleet::round(&work)?),
        "libbpf" => drop(libbpf::Prepared::new(&work)?.round(Scope::Relocation)?),
        "aya" => drop(aya::Prepared::new(&work)?.round()),
        other => return Err(format!("--peak-of {other}: unknown")),
    }
    println!("{}", peak_rss_kib()?);
    Ok(())
}

/// Whole processes: one object on one kernel.
fn latency(args: &Args, paths: &Paths, objects: &[PathBuf]) -> Result<(), String> {
    let Some(program) = &args.btfleet else { return Ok(()) };
    let most_bytes = objects.iter().max_by_key(|it| fs::metadata(it).map_or(0, |it| it.len()));
    let object = most_bytes.ok_or("no objects")?;
    println!(
        "Wall time of the program from start to exit, {} on one kernel, {} runs:",
        object.file_name().unwrap_or_default().display(),
        args.runs
    );
    println!();
    println!("| command | median ms | p90 ms | min..max |");
    println!("|---|---:|---:|---:|");
    for (name, options) in [
        ("check", &["check", "--fail-on", "never"][..]),
        ("check --jobs 1", &["check", "--fail-on", "never", "--jobs", "1"]),
        ("resolve", &["resolve"]),
        ("--version", &["--version"]),
    ] {
        let mut command = Command::new(program);
        command.args(options).stdout(Stdio::null()).stderr(Stdio::null());
        if name != "--version" {
            command.arg("--kernels").arg(&paths.kernel).arg("--").arg(object);
        }
        let mut times = Vec::with_capacity(args.runs);
        for _ in 0..args.runs {
            let start = Instant::now();
            let status = command.status().map_err(|error| format!("{}: {error}", program.display()))?;
            times.push(start.elapsed());
            // 1 is a finding, 3 an input that cannot be judged.
            if !matches!(status.code(), Some(0 | 1)) {
                return Err(format!("{} {name}: {status}", program.display()));
            }
        }
        let stats = Stats::of(times.into_iter());
        println!(
            "| `btfleet {name}` | {:.2} | {:.2} | {:.2}..{:.2} |",
            stats.median, stats.p90, stats.min, stats.max
        );
    }
    println!();
    Ok(())
}

fn size(work: &Workload) -> String {
    format!("kernel {:.2} MiB, all {:.2} MiB", work.kernel.len() as f64 / MIB, work.len() as f64 / MIB)
}
