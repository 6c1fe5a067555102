//! Synthetic kernels and objects that `btfleet-workloads generate` derives from the committed samples.
#![expect(clippy::print_stderr, reason = "a test says how much it judged")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use btfleet_engine::batch::outcomes;
use btfleet_engine::dialect::Loader;
use btfleet_engine::fleet::Modules;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::Object;
use btfleet_engine::resolve::Outcome;
use btfleet_tests::oracle::{Options, Oracle, OracleError, extract};
use btfleet_workloads::generate::{self, generate};

use crate::compare::{difference, oracle};

/// Generates a small set.
fn generated(dir: &Path, trim: bool) {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples");
    let options = generate::Options {
        kernels: 6,
        objects: 75,
        seed: 7,
        from_kernels: samples.join("kernels"),
        from_objects: samples.join("objects"),
        trim,
    };
    let table = generate(&options, dir).expect("a generated set");
    assert!(table.contains("distinct queries"), "{table}");
}

/// All files below `dir`, by path.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for part in ["kernels", "objects"] {
        for entry in fs::read_dir(dir.join(part)).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            files.insert(format!("{part}/{name}"), fs::read(&path).expect("a file"));
        }
    }
    files
}

/// Whether libbpf opens an object, or the errno.
fn opens(oracle: &mut Oracle, file: &[u8]) -> Result<(), u32> {
    match oracle.open(file) {
        Ok(_) => Ok(()),
        Err(OracleError::ObjectRefused(errno)) => Err(errno),
        Err(error) => panic!("{error}"),
    }
}

/// Check that the same settings give the same bytes, that every file is another one, that libbpf takes all of them as
/// it takes what they are derived from, and answers as the engine does.
fn check(trim: bool) {
    let (one, two) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    generated(one.path(), trim);
    generated(two.path(), trim);
    let all = files(one.path());
    assert!(all == files(two.path()), "two runs differ");
    let manifest = fs::read_to_string(one.path().join("manifest.jsonl")).expect("a manifest");
    assert_eq!(manifest.lines().count(), 1 + 6 + 75);
    let mut contents: Vec<&Vec<u8>> = all.values().collect();
    contents.sort();
    contents.dedup();
    assert_eq!(contents.len(), 6 + 75, "all files differ");

    let mut oracle = oracle();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples/objects");
    let objects: Vec<_> = all.iter().filter(|(name, _)| name.starts_with("objects/")).collect();
    for (name, file) in &objects {
        let origin = name.trim_start_matches("objects/").split("-synth").next().unwrap_or_default();
        let origin = fs::read(samples.join(format!("{origin}.bpf.o"))).expect("an origin");
        assert_eq!(opens(&mut oracle, file), opens(&mut oracle, &origin), "{name}");
        let errno = |data: &[u8]| Object::parse(data).expect("an object").refused().map(|it| it.errno);
        assert_eq!(errno(file), errno(&origin), "{name}");
    }
    let (mut records, mut differences) = (0, Vec::new());
    for (kernel_name, btf) in all.iter().filter(|(name, _)| name.starts_with("kernels/")) {
        let kernel = Kernel::parse(btf).expect("a kernel's BTF");
        oracle.set_target(btf, &[]).expect("libbpf takes the kernel");
        for (name, file) in &objects {
            let extracted = extract(file).expect("records");
            let object = Object::parse(file).expect("an object");
            if object.endian() != kernel.vmlinux.btf.endian() {
                continue;
            }
            let options = Options { log: true, compare_pruning: true };
            let answers = oracle.relocate(&extracted.program, options).expect("answers");
            let outcomes: Vec<Outcome> = outcomes(Loader::Libbpf, &object, &kernel, Modules::All, |_| true);
            assert_eq!(outcomes.len(), answers.len(), "{name}");
            for ((reloc, outcome), answer) in object.relocs().iter().zip(&outcomes).zip(&answers) {
                records += 1;
                if let Some(why) = difference(outcome, answer, reloc.raw_kind, extracted.order) {
                    differences.push(format!("{name} on {kernel_name}, record #{}: {why}", reloc.number));
                }
            }
        }
    }
    eprintln!("{records} records");
    assert!(records > 1000, "{records}");
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn synthetic_sets_are_deterministic_and_come_out_as_in_libbpf() {
    check(false);
}

#[test]
fn trimmed_synthetic_sets_are_deterministic_and_come_out_as_in_libbpf() {
    check(true);
}
