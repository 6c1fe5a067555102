//! What embedders of the engine are told, against what the command line prints.

#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use btfleet_engine::embed::{LoaderChoice, Options, OwnedInputs, OwnedRun, RunError};
use btfleet_engine::fleet::Modules;
use btfleet_engine::ingest::InputCode;
use serde_json::{Value, json};

fn samples(kind: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples").canonicalize().unwrap();
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir.join(kind)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Rows of the command line about programs and records.
fn rows(args: &[&str]) -> Vec<Value> {
    let (objects, kernels) = (samples("objects"), samples("kernels"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_btfleet"));
    command.args(&args[..1]).args(&objects).arg("-k").args(&kernels).args(&args[1..]);
    let stdout = command.output().unwrap().stdout;
    let rows = stdout.split(|it| *it == b'\n').filter(|it| !it.is_empty());
    let rows: Vec<Value> = rows.map(|it| serde_json::from_slice(it).unwrap()).collect();
    rows.into_iter().filter(|it| ["reloc", "verdict", "pair"].contains(&it["t"].as_str().unwrap())).collect()
}

/// The samples: some as files, some in memory.
fn inputs() -> OwnedInputs {
    let mut inputs = OwnedInputs::new();
    for (number, path) in samples("objects").iter().enumerate() {
        match number % 2 {
            0 => inputs.add_object_file(path),
            _ => inputs.add_object_bytes(text(path), fs::read(path).unwrap()),
        }
    }
    for (number, path) in samples("kernels").iter().enumerate() {
        match number % 2 {
            0 => inputs.add_kernel_file(path),
            _ => inputs.add_kernel_bytes(text(path), fs::read(path).unwrap()),
        }
    }
    inputs
}

fn run(loader: LoaderChoice) -> OwnedRun {
    OwnedRun::new(inputs(), Options { loader, ..Options::LIBBPF }).unwrap()
}

/// Every object on every kernel, in the order of the command line.
fn pairs(run: &OwnedRun) -> Vec<(usize, usize)> {
    let (objects, kernels) = (run.inputs().objects.len(), run.inputs().kernels.len());
    (0..objects).flat_map(|object| (0..kernels).map(move |kernel| (object, kernel))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

/// Check that records come out as 'resolve' prints them, by libbpf's rules and by others.
#[test]
fn records_are_those_of_resolve() {
    for (name, loader) in [("libbpf", LoaderChoice::Libbpf), ("kernel", LoaderChoice::Kernel(None))] {
        let run = run(loader);
        let mut found = Vec::new();
        for (object, kernel) in pairs(&run) {
            let answers = run.resolve(object).unwrap();
            let names = (&run.inputs().objects[object].name, run.inputs().kernel_names[kernel]);
            match answers.on(kernel) {
                Err(refusal) => found.push(json!({
                    "v": 1, "t": "pair", "object": names.0, "kernel": names.1,
                    "code": refusal.code, "message": refusal.why,
                })),
                Ok(rows) => found.extend(answers.records().iter().zip(rows).map(|(record, row)| {
                    assert!(row.by_module.is_empty(), "the samples have no modules");
                    json!({
                        "v": 1, "t": "reloc", "object": names.0, "kernel": names.1,
                        "section": record.section, "program": record.program, "insn_off": record.insn_off,
                        "kind": record.kind, "type_id": record.type_id, "root": record.root,
                        "access": record.access, "path": record.path, "code": row.code,
                        "reason": row.reason, "fatal": row.fatal,
                        "orig": row.orig.map(|it| it.to_string()), "new": row.new.map(|it| it.to_string()),
                        "unresolved": row.unresolved, "poisoned": row.poisoned, "validate": row.validate,
                        "orig_sz": row.orig_sz, "new_sz": row.new_sz, "resize_fails": row.resize_fails,
                        "target": row.target, "root_id": row.root_id, "target_module": row.target_module,
                        "insn_before": hex(record.insn), "insn": hex(row.insn),
                        "file": record.file, "line": record.line,
                    })
                })),
            }
        }
        let expected = rows(&["resolve", "--format", "jsonl", "--loader", name]);
        assert!(expected.len() > 50, "{} rows", expected.len());
        assert_eq!(found, expected, "{name}");
    }
}

/// Check that verdicts are those that 'check' prints.
#[test]
fn verdicts_are_those_of_check() {
    let run = run(LoaderChoice::Libbpf);
    let mut found = Vec::new();
    for (object, kernel) in pairs(&run) {
        let judgements = run.check(object).unwrap();
        // Refusals are compared with those of records.
        for row in judgements.on(kernel).unwrap_or_default() {
            let findings = row.findings.iter().map(|it| {
                json!({
                    "code": it.code, "effect": it.effect, "insn_off": it.insn_off, "root": it.root,
                    "path": it.path, "subject": it.subject, "file": it.file, "line": it.line,
                    "message": it.message,
                })
            });
            let aborted_by = row.aborted_by.as_ref().map(|it| {
                json!({
                    "section": it.section, "program": it.program, "insn_off": it.insn_off,
                    "code": it.code, "fatal": it.fatal,
                })
            });
            found.push(json!({
                "v": 1, "t": "verdict", "object": run.inputs().objects[object].name,
                "program": row.program, "section": row.section, "kernel": run.inputs().kernel_names[kernel],
                "autoload": row.autoload, "verdict": row.verdict.name(), "judged": row.judged,
                "aborted_by": aborted_by, "confidence": row.confidence, "assumptions": row.assumptions,
                "findings": findings.collect::<Vec<_>>(),
            }));
        }
    }
    let mut expected = rows(&["check", "--format", "jsonl"]);
    expected.retain(|it| it["t"] == "verdict");
    for row in &mut expected {
        row.as_object_mut().unwrap().remove("object_sha256");
    }
    assert!(expected.len() > 10, "{} rows", expected.len());
    assert_eq!(found, expected);
}

/// Check that relocated files are those that 'relocate' writes, and that their programs can be had by themselves.
#[test]
fn files_are_those_of_relocate() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_btfleet"));
    command.arg("relocate").args(samples("objects")).arg("-k").args(samples("kernels"));
    command.arg("-o").arg(dir.path()).output().unwrap();
    let manifest: Value =
        serde_json::from_slice(&fs::read(dir.path().join("manifest.json")).unwrap()).unwrap();
    let run = run(LoaderChoice::Libbpf);
    let mut files = 0;
    for (number, object) in manifest["objects"].as_array().unwrap().iter().enumerate() {
        let relocations = run.relocate(number).unwrap();
        for output in object["outputs"].as_array().unwrap() {
            let expected = fs::read(dir.path().join(output["file"].as_str().unwrap())).unwrap();
            for name in output["kernels"].as_array().unwrap() {
                let kernel = run.inputs().kernel_names.iter().position(|it| name == it).unwrap();
                let class = relocations.on(kernel).unwrap().expect("a kernel of the run");
                assert_eq!(class.file().unwrap(), expected);
                let programs = class.programs().unwrap();
                assert_eq!(programs.len(), output["programs"].as_array().unwrap().len());
                assert!(programs.iter().all(|it| !it.insns.is_empty() && it.insns.len() % 8 == 0));
                files += 1;
            }
        }
    }
    assert!(files > 10, "{files} files");
}

/// Check that a defective input is a row, and that the others are judged.
#[test]
fn a_defective_input_is_a_row() {
    let mut inputs = OwnedInputs::new();
    inputs.add_module_bytes("early", vec![1, 2, 3]);
    inputs.add_object_bytes("broken.o", b"no object".to_vec());
    inputs.add_object_file("no such object.o");
    inputs.add_object_file(&samples("objects")[0]);
    inputs.add_kernel_bytes("broken", Vec::new());
    inputs.add_kernel_file("no such kernel");
    inputs.add_kernel_file(&samples("kernels")[0]);
    inputs.add_module_bytes("no_module", vec![0; 64]);
    let run = OwnedRun::new(inputs, Options::LIBBPF).unwrap();
    let defects: Vec<(String, InputCode)> =
        run.inputs().all_defects().map(|it| (it.path.to_string_lossy().into_owned(), it.code)).collect();
    assert_eq!(
        defects.iter().map(|(path, code)| (path.as_str(), *code)).collect::<Vec<_>>(),
        [
            ("early", InputCode::ModuleUnavailable),
            ("broken", InputCode::TargetBtfMissing),
            ("no such kernel", InputCode::Unreadable),
            ("no_module", InputCode::ModuleUnavailable),
            ("broken.o", InputCode::ObjectDefective),
            ("no such object.o", InputCode::Unreadable),
        ]
    );
    assert!(!run.check(0).unwrap().on(0).unwrap().is_empty());
    assert!(matches!(run.check(1), Err(RunError::NoObject(1))));
}

/// Check that what options ask for is refused if it cannot be had.
#[test]
fn impossible_options_are_refused() {
    let kconfig = Options { kconfig: Some(b"nothing".to_vec()), ..Options::LIBBPF };
    assert_eq!(OwnedRun::new(inputs(), kconfig).err(), Some(RunError::NoKconfig));
    let mut unnamed = OwnedInputs::new();
    unnamed.add_kernel_bytes("mine", fs::read(&samples("kernels")[0]).unwrap());
    let kernel = Options { loader: LoaderChoice::Kernel(None), modules: Modules::All, ..Options::LIBBPF };
    assert_eq!(OwnedRun::new(unnamed, kernel).err(), Some(RunError::NoRelease("mine".into())));
    assert_eq!(run(LoaderChoice::Aya).relocate(0).err(), Some(RunError::NotLibbpf));
}

/// Check that many threads may ask at once, and are told the same.
#[test]
fn many_threads_may_ask() {
    let run = run(LoaderChoice::Libbpf);
    let verdicts = |object: usize| format!("{:?}", run.check(object).unwrap().verdicts());
    let expected: Vec<String> = {
        let other = OwnedRun::new(inputs(), Options { threads: 1, ..Options::LIBBPF }).unwrap();
        (0..other.inputs().objects.len())
            .map(|it| format!("{:?}", other.check(it).unwrap().verdicts()))
            .collect()
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (object, expected) in expected.iter().enumerate() {
                    assert_eq!(verdicts(object), *expected);
                }
            });
        }
    });
}
