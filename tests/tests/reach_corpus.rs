//! Reachability against what the verifier did with the corpus' programs, poison by poison.
//!
//! A run is a kernel that programs were loaded on, and the BTF that they were relocated against: `loads-K` is K on
//! itself, `custom-in-A@B` is A's BTF on B, `custom-A` A's BTF on 6.18.44.
#![expect(clippy::print_stdout, reason = "the matrix is what the test is for")]
#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use btfleet_engine::batch::outcomes;
use btfleet_engine::dialect::{Loader, Release};
use btfleet_engine::fleet::Modules;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::{ExternKind, Object};
use btfleet_engine::reach::{Program, Reach, Symbol, Verifier};
use btfleet_engine::resolve::Outcome;
use btfleet_tests::skip;

/// The kernel that some runs were made on, which has no file in the corpus.
const NATIVE: &str = "6.18.44-native";

/// The kernel that a run relocated against, and the kernel that it ran on.
fn kernels_of(run: &str) -> (&str, &str) {
    let name = |it: &'static str| run.strip_prefix(it);
    match (name("custom-in-"), name("custom-"), name("loads-")) {
        (Some(both), ..) => both.split_once('@').unwrap_or_else(|| panic!("{run} names no running kernel")),
        (_, Some(btf), _) => (btf, NATIVE),
        (.., Some(kernel)) => (kernel, kernel),
        _ => panic!("no run is called {run}"),
    }
}

/// Where a kernel's BTF is.
fn btf_of(corpus: &Path, kernel: &str) -> Result<PathBuf, String> {
    let path = corpus.join(format!("kernels/{kernel}.btf"));
    if path.exists() {
        return Ok(path);
    }
    let running = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let live = PathBuf::from("/sys/kernel/btf/vmlinux");
    let release = Release::in_name(kernel);
    match release.is_some() && Release::parse(running.trim()) == release && live.exists() {
        true => Ok(live),
        false => Err(format!("no BTF of {kernel}, and the running kernel is {}", running.trim())),
    }
}

/// What a program's poisoned instructions come to: the worst of them.
fn worst(poisoned: &[Reach]) -> &'static str {
    let has = |of: fn(&Reach) -> bool| poisoned.iter().any(of);
    if has(|it| matches!(it, Reach::Live(_))) {
        "live"
    } else if has(|it| matches!(it, Reach::Conditional(..))) {
        "conditional"
    } else {
        "dead"
    }
}

fn predicted(object: &Object<'_>, number: usize, btf: &[u8], runs_on: &str) -> &'static str {
    let kernel = Kernel::parse(btf).unwrap();
    // Each program was loaded alone.
    let outcomes = outcomes(Loader::Libbpf, object, &kernel, Modules::All, |it| {
        it.program.is_some_and(|it| object.programs()[it].is_subprogram || it == number)
    });
    let symbols: Vec<Symbol> = object
        .externs()
        .iter()
        .map(|it| match it.kind {
            ExternKind::Kconfig => Symbol::Open,
            _ if it.is_weak => Symbol::Open,
            _ => Symbol::Present,
        })
        .collect();
    let program = Program::new(object, number);
    let verifier = Verifier::of(Release::in_name(runs_on));
    let outcomes: Vec<&Outcome> = outcomes.iter().collect();
    let is_poisoned = |it: &usize| matches!(outcomes[*it], Outcome::Decided(it) if it.poisoned);
    let asked: Vec<usize> = program.records().filter(is_poisoned).collect();
    let (_, reached) = program.judge(&outcomes, &symbols, verifier, &asked);
    worst(&reached.asked)
}

/// Check that no poison is called dead that was reached, and hardly one live that was not.
#[test]
fn poison_is_reached_where_the_verifier_reached_it() {
    let Some(corpus) = btfleet_tests::corpus("reachability is not compared with real loads") else { return };
    let Ok(text) = fs::read_to_string(corpus.join("loads/poison.tsv")) else {
        return skip("the corpus has no loads/poison.tsv: reachability is not compared with real loads");
    };
    let mut matrix: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    let mut kernels: BTreeMap<&str, Result<Vec<u8>, String>> = BTreeMap::new();
    let (mut wrong, mut false_alarms, mut judged) = (Vec::new(), Vec::new(), 0);
    for line in text.lines().skip(1) {
        let [run, object_name, program_name, section, verdict, _, class, detail] =
            line.split('\t').collect::<Vec<_>>()[..]
        else {
            panic!("{line}")
        };
        if verdict == "not_judged" && class != "verifier" {
            continue;
        }
        let (btf, runs_on) = kernels_of(run);
        let bytes = kernels.entry(btf).or_insert_with(|| {
            let path = btf_of(&corpus, btf).inspect_err(|why| skip(&format!("loads in {btf}: {why}")))?;
            fs::read(path).map_err(|error| error.to_string())
        });
        let Ok(bytes) = bytes else { continue };
        let object_bytes = fs::read(corpus.join("objects").join(object_name)).unwrap();
        let object = Object::parse(&object_bytes).unwrap();
        let is_meant = |it: &btfleet_engine::object::Program<'_>| {
            it.name == program_name.as_bytes()
                && it.section.strip_prefix(b"?").unwrap_or(it.section) == section.as_bytes()
        };
        let number = object.programs().iter().position(is_meant).unwrap_or_else(|| panic!("{line}"));
        let predicted = predicted(&object, number, bytes, runs_on);
        *matrix.entry((run, verdict, predicted)).or_default() += 1;
        let told =
            || format!("{run} {object_name} {program_name}: {verdict}, predicted {predicted}: {detail}");
        match (verdict, predicted) {
            ("reached", "dead") => wrong.push(told()),
            // Nothing that the verifier took is refused, and nothing that it refused is open.
            ("reached", "conditional") | ("loads", "live" | "conditional") => false_alarms.push(told()),
            _ => {}
        }
        judged += usize::from(verdict != "not_judged");
    }
    for ((run, verdict, predicted), count) in &matrix {
        println!("{run}: {verdict}, predicted {predicted}: {count}");
    }
    println!("{judged} judged, {} differ otherwise: {false_alarms:#?}", false_alarms.len());
    assert!(wrong.is_empty(), "dead and reached all the same: {wrong:#?}");
    assert!(false_alarms.len() * 50 <= judged, "{} of {judged} are not as predicted", false_alarms.len());
    assert!(judged > 0, "nothing was compared");
}
