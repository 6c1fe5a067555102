//! Whether what is found out about a program's paths on one kernel may be taken for another: the values of the
//! configuration that it does not tell apart, and the features of verifiers that made no difference.
#![expect(clippy::print_stdout, reason = "the counts are what the test is for")]

use std::fs;
use std::path::{Path, PathBuf};

use btfleet_engine::batch::outcomes;
use btfleet_engine::dialect::{Loader, Release};
use btfleet_engine::fleet::Modules;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::{ExternKind, Object};
use btfleet_engine::reach::{Program, Reached, Symbol, Verifier};
use btfleet_engine::resolve::Outcome;

/// One for each set of features, and some between.
const RELEASES: [(u16, u16, u16); 14] = [
    (4, 18, 0),
    (5, 4, 7),
    (5, 10, 200),
    (5, 16, 0),
    (5, 19, 1),
    (6, 2, 0),
    (6, 3, 0),
    (6, 4, 3),
    (6, 7, 12),
    (6, 8, 1),
    (6, 9, 0),
    (6, 12, 30),
    (6, 17, 0),
    (7, 1, 2),
];
/// Of programs that do not look at the configuration, so many are left out for each that is judged.
const LEFT_OUT: usize = 12;

#[derive(Default)]
struct Counts {
    programs: usize,
    judged: usize,
    stood_in: usize,
    shared: usize,
}

/// The value of every kconfig extern on a kernel of a release: its version.
fn symbols(object: &Object<'_>, release: Release) -> Vec<Symbol> {
    let version = u32::from(release.major) << 16 | u32::from(release.minor) << 8 | u32::from(release.patch);
    let of = |kind: ExternKind, is_weak: bool| match kind {
        ExternKind::Kconfig => Symbol::Value(version.to_le_bytes().to_vec()),
        _ if is_weak => Symbol::Missing,
        _ => Symbol::Present,
    };
    object.externs().iter().map(|it| of(it.kind, it.is_weak)).collect()
}

/// Checks one program on kernels of all releases.
fn check(what: &str, object: &Object<'_>, program: &Program<'_>, outcomes: &[&Outcome], counts: &mut Counts) {
    let asked: Vec<usize> = program.records().collect();
    let mut known: Vec<(Verifier, Vec<Symbol>, Reached)> = Vec::new();
    counts.programs += 1;
    for (major, minor, patch) in RELEASES {
        let release = Release { major, minor, patch };
        let verifier = Verifier::of(Some(release));
        let exact = symbols(object, release);
        let (_, direct) = program.judge(outcomes, &exact, verifier, &asked);
        let stand_ins = program.thresholds(verifier).stand_ins(exact.clone(), object.endian());
        counts.judged += 1;
        if stand_ins != exact {
            let (_, other) = program.judge(outcomes, &stand_ins, verifier, &asked);
            assert!(other == direct, "{what} on {release}: {exact:?} is not as {stand_ins:?}");
            counts.stood_in += 1;
        }
        for (before, of, reached) in &known {
            if *of == exact && before.agrees_on(reached.features, verifier) {
                assert!(*reached == direct, "{what}: {verifier:?} is not as {before:?}");
                counts.shared += 1;
            }
        }
        known.push((verifier, exact, direct));
    }
    // Verifiers on one configuration.
    let exact = symbols(object, Release { major: 6, minor: 6, patch: 1 });
    known.clear();
    for (major, minor, patch) in RELEASES {
        let verifier = Verifier::of(Some(Release { major, minor, patch }));
        let (_, direct) = program.judge(outcomes, &exact, verifier, &asked);
        for (before, _, reached) in &known {
            if before.agrees_on(reached.features, verifier) {
                assert!(*reached == direct, "{what}: {verifier:?} is not as {before:?}");
                counts.shared += 1;
            }
        }
        known.push((verifier, exact.clone(), direct));
    }
}

fn objects_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|it| it.unwrap().path()) {
            match entry.is_dir() {
                true => pending.push(entry),
                false if entry.extension().is_some_and(|it| it == "o") => found.push(entry),
                false => {}
            }
        }
    }
    found.sort();
    found
}

/// Check, on the objects of a folder with a kernel's BTF, that what is shared is the same.
fn check_all(objects: &[PathBuf], kernel: &Path) -> Counts {
    let bytes = fs::read(kernel).unwrap();
    let is_compressed = kernel.extension().is_some_and(|it| it == "zst");
    let bytes = if is_compressed { zstd::decode_all(bytes.as_slice()).unwrap() } else { bytes };
    let kernel = Kernel::parse(&bytes).unwrap();
    let (mut counts, mut seen) = (Counts::default(), 0);
    for path in objects {
        let bytes = fs::read(path).unwrap();
        let Ok(object) = Object::parse(&bytes) else { continue };
        let outcomes = outcomes(Loader::Libbpf, &object, &kernel, Modules::All, |_| true);
        let outcomes: Vec<&Outcome> = outcomes.iter().collect();
        if outcomes.len() != object.relocs().len() {
            continue;
        }
        for (number, entry) in object.programs().iter().enumerate().filter(|(_, it)| !it.is_subprogram) {
            let program = Program::new(&object, number);
            let is_kconfig =
                |it: &usize| object.externs().get(*it).is_some_and(|it| it.kind == ExternKind::Kconfig);
            seen += 1;
            if program.externs().iter().any(is_kconfig) || seen % LEFT_OUT == 0 {
                let what = format!("{} {}", path.display(), String::from_utf8_lossy(entry.name));
                check(&what, &object, &program, &outcomes, &mut counts);
            }
        }
    }
    counts
}

fn report(what: &str, counts: &Counts) {
    let Counts { programs, judged, stood_in, shared } = counts;
    println!(
        "{what}: {programs} programs, {judged} times judged, {stood_in} times with another value in its place, {shared} \
         pairs of verifiers that agree"
    );
}

#[test]
fn what_is_shared_is_the_same_on_the_samples() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples");
    let kernels = fs::read_dir(samples.join("kernels")).unwrap().map(|it| it.unwrap().path());
    let kernel = kernels.filter(|it| it.extension().is_some_and(|it| it == "zst")).min().unwrap();
    let counts = check_all(&objects_in(&samples), &kernel);
    report("samples", &counts);
    assert!(counts.programs > 0 && counts.shared > 0);
}

#[test]
fn what_is_shared_is_the_same_on_the_corpus() {
    let Some(corpus) = btfleet_tests::corpus("sharing between kernels is checked on the samples alone")
    else {
        return;
    };
    let kernels = fs::read_dir(corpus.join("kernels")).unwrap().map(|it| it.unwrap().path());
    let kernel = kernels.filter(|it| it.extension().is_some_and(|it| it == "btf")).min().unwrap();
    let counts = check_all(&objects_in(&corpus.join("objects")), &kernel);
    report("corpus", &counts);
    assert!(counts.programs > 0 && counts.stood_in > 0 && counts.shared > 0);
}
