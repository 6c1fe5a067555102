//! Verdicts against the running kernel: libbpf loads programs here, one by one, and we have said before what will come
//! of it.
//!
//! [`poison`]: objects that btfleet relocated for *other* kernels. Whether the verifier of this one gets to a poisoned
//! instruction does not depend on which kernel the object was relocated for. [`needs`]: objects as they are, on this
//! kernel's own BTF: what they attach to, functions and variables of the kernel, struct_ops.
//!
//! Without `bpf()`, or without BTF of the running kernel, these tests say so on stderr and judge nothing.
//! `BTFLEET_LIVE_LOADS=all` loads everything at hand instead of a part of it; another value is how much.
//! `BTFLEET_LIVE_OBJECTS=DIR` adds objects.
#![expect(clippy::print_stderr, reason = "the matrix is what the test is for")]
#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

#[path = "live_loads/needs.rs"]
mod needs;
#[path = "live_loads/poison.rs"]
mod poison;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use btfleet_engine::dialect::Release;
use btfleet_engine::kallsyms::Kallsyms;
use btfleet_engine::kconfig::Kconfig;
use btfleet_tests::loading::{Attempt, Request};
use btfleet_tests::skip;

/// What there is of the running kernel.
struct Live {
    vmlinux: Vec<u8>,
    release: Release,
    kconfig: Option<Kconfig>,
    kallsyms: Kallsyms,
}

/// The running kernel; says why there is nothing to compare with, if so.
fn live(purpose: &str) -> Option<Live> {
    let Some(release) = Release::running() else {
        skip(&format!("the running kernel has no release that we know: {purpose}"));
        return None;
    };
    let Ok(vmlinux) = fs::read("/sys/kernel/btf/vmlinux") else {
        skip(&format!("the running kernel has no BTF: {purpose}"));
        return None;
    };
    // The smallest of the samples says whether programs may be loaded at all.
    let sample = fs::read(samples().join("xdp_count.bpf.o")).expect("a sample");
    let programs = vec!["xdp_count".to_owned()];
    let attempts = Request { object: sample, programs }.load(loader());
    match attempts.as_deref() {
        Ok([attempt]) if attempt.errno == 0 => {}
        other => {
            skip(&format!("programs cannot be loaded here ({other:?}): {purpose}"));
            return None;
        }
    }
    let kallsyms = fs::read("/proc/kallsyms").ok();
    Some(Live { vmlinux, release, kconfig: kconfig(), kallsyms: Kallsyms::new(kallsyms.as_deref(), None) })
}

fn kconfig() -> Option<Kconfig> {
    let mut zcat = Command::new("zcat");
    let out = zcat.arg("/proc/config.gz").output().ok().filter(|it| it.status.success())?;
    Some(Kconfig::parse(&out.stdout))
}

/// The helper that calls libbpf.
fn loader() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_live_loader"))
}

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples/objects")
}

/// Files below `folder` whose names end in `suffix`, sorted.
fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                pending.push(path);
            } else if path.to_string_lossy().ends_with(suffix) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Objects at hand: the project's own, those of the corpus, and those below the folder that the environment names.
fn object_files() -> Vec<PathBuf> {
    let mut found = files(&samples(), ".o");
    found.extend(files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("effects/objects"), ".o"));
    if let Some(corpus) = btfleet_tests::corpus("only the project's own objects are loaded") {
        found.extend(files(&corpus.join("objects"), ".o"));
    }
    if let Some(folder) = std::env::var_os("BTFLEET_LIVE_OBJECTS") {
        found.extend(files(Path::new(&folder), ".o"));
    }
    found
}

/// How many programs are to be loaded of `all`: `usual`, or as the environment says.
fn how_many(all: usize, usual: usize) -> usize {
    match std::env::var("BTFLEET_LIVE_LOADS").as_deref() {
        Ok("all") => all,
        Ok(text) => text.parse().expect("BTFLEET_LIVE_LOADS is a number or `all`"),
        Err(_) => usual,
    }
}

/// Loads all requests, two at a time; `None` where the helper died.
fn load_all(requests: &[Request]) -> Vec<Option<Vec<Attempt>>> {
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(vec![None; requests.len()]);
    let work = || {
        while let Some((at, request)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|it| Some((it, requests.get(it)?)))
        {
            match request.load(loader()) {
                Ok(attempts) => answers.lock().expect("no panic")[at] = Some(attempts),
                Err(error) => eprintln!("{:?}: {error}", request.programs),
            }
        }
    };
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
    answers.into_inner().expect("no panic")
}

/// The name of a file, from its folder on.
fn short(path: &Path) -> String {
    let parts: Vec<_> = path.components().rev().take(2).map(|it| it.as_os_str().to_string_lossy()).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join("/")
}

/// What the verifier or libbpf said last, without numbers.
fn reason(attempt: &Attempt) -> String {
    let is_statistics = |line: &&str| {
        [
            "processed",
            "verification time",
            "stack depth",
            "mark_precise",
            "max_states",
            "libbpf: failed to load",
        ]
        .iter()
        .any(|it| line.starts_with(it))
    };
    let lines = if attempt.log.is_empty() { &attempt.said } else { &attempt.log };
    let last = lines.lines().rfind(|it| !is_statistics(it)).unwrap_or("nothing was said");
    last.chars().filter(|it| !it.is_ascii_digit()).take(90).collect()
}
