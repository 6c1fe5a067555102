//! `btfleet relocate --sign-manifest` and `verify-manifest`.

#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use btfleet_engine::batch::outcomes;
use btfleet_engine::dialect::Loader;
use btfleet_engine::fleet::Modules;
use btfleet_engine::ingest::{Intake, KernelFiles, KernelSource};
use btfleet_engine::object::Object;
use btfleet_engine::prog_load::ProgLoad;
use serde_json::Value;
use sha2::{Digest, Sha256};

const STATEMENT: &str = "payloads.intoto.json";

fn sample(kind: &str, name: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples").canonicalize().unwrap();
    dir.join(kind).join(name).to_str().unwrap().to_owned()
}

fn btfleet(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_btfleet")).args(args).output().unwrap()
}

fn relocate(dir: &Path, options: &[&str]) -> Output {
    let (objects, kernels) = (sample("objects", ""), sample("kernels", ""));
    let args = ["relocate", &objects, "-k", &kernels, "-o", dir.to_str().unwrap()];
    let out = btfleet(&[&args[..], options].concat());
    assert_eq!(out.status.code(), Some(3), "{}", String::from_utf8_lossy(&out.stderr));
    out
}

fn verify(manifest: &Path, objects: &str, kernels: &str) -> (Option<i32>, Vec<Value>) {
    let manifest = manifest.to_str().unwrap();
    let out = btfleet(&["verify-manifest", manifest, objects, "-k", kernels, "--format", "jsonl"]);
    let lines = String::from_utf8(out.stdout).unwrap();
    (out.status.code(), lines.lines().map(|it| serde_json::from_str(it).unwrap()).collect())
}

fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    paths.map(|path| (name(&path), fs::read(&path).unwrap())).collect()
}

fn statement(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join(STATEMENT)).unwrap()).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// Check that the statement has the form that in-toto asks for, and is about the files that are there, with their
/// hashes, and no others.
#[test]
fn the_statement_is_about_the_files() {
    let dir = tempfile::tempdir().unwrap();
    relocate(dir.path(), &["--sign-manifest"]);
    let statement = statement(dir.path());
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "urn:btfleet:payloads:v1");
    let mut files = contents(dir.path());
    let manifest: Value = serde_json::from_slice(&files.remove("manifest.json").unwrap()).unwrap();
    let to_sign = array(&manifest["to_sign"]).last().unwrap();
    assert_eq!(text(&to_sign["file"]), STATEMENT);
    assert_eq!(text(&to_sign["sha256"]), sha256(&files.remove(STATEMENT).unwrap()));
    let found: BTreeMap<String, String> =
        files.into_iter().map(|(name, bytes)| (name, sha256(&bytes))).collect();
    let subject = array(&statement["subject"]).iter();
    let said: BTreeMap<String, String> =
        subject.map(|it| (text(&it["name"]).to_owned(), text(&it["digest"]["sha256"]).to_owned())).collect();
    assert_eq!(said, found);
    assert!(said.keys().filter(|it| it.ends_with(".insns")).count() > 30);

    // A run without it takes the files away again.
    relocate(dir.path(), &[]);
    let files = contents(dir.path());
    assert!(files.keys().all(|it| it.ends_with(".bpf.o") || it == "manifest.json"), "{:?}", files.keys());
}

/// Check that payloads are what comes of the linked programs if every record is applied to them, for each kernel of
/// their class.
#[test]
fn payloads_are_linked_programs_with_all_records_applied() {
    let dir = tempfile::tempdir().unwrap();
    relocate(dir.path(), &["--sign-manifest"]);
    let statement = statement(dir.path());
    let mut judged = 0;
    for kernel in array(&statement["predicate"]["kernels"]).iter().map(text) {
        let source = KernelSource::alone(kernel.into(), kernel.into());
        let files = KernelFiles::read(&Intake::default(), &source).unwrap();
        let (kernel_btf, _) = files.parse().unwrap();
        for object in array(&statement["predicate"]["objects"]) {
            let file = fs::read(text(&object["name"])).unwrap();
            assert_eq!(text(&object["sha256"]), sha256(&file));
            let parsed = Object::parse(&file).unwrap();
            let is_class = |it: &&Value| array(&it["kernels"]).iter().any(|it| it == kernel);
            let Some(class) = array(&object["classes"]).iter().find(is_class) else {
                assert!(array(&object["failed"]).iter().any(|it| it["kernel"] == kernel));
                continue;
            };
            let outcomes = outcomes(Loader::Libbpf, &parsed, &kernel_btf, Modules::Each, |_| true);
            let outcomes: Vec<_> = outcomes.iter().collect();
            let entries = parsed.programs().iter().enumerate().filter(|(_, it)| !it.is_subprogram);
            let entries: Vec<usize> = entries.map(|it| it.0).collect();
            assert_eq!(entries.len(), array(&class["programs"]).len());
            for (number, said) in entries.into_iter().zip(array(&class["programs"])) {
                let insns = ProgLoad::new(&parsed, number).relocated(&outcomes).unwrap();
                assert_eq!(text(&said["program"]).as_bytes(), parsed.programs()[number].name);
                assert_eq!(text(&said["sha256"]), sha256(&insns), "{said} on {kernel}");
                assert!(fs::read(dir.path().join(text(&said["file"]))).unwrap() == insns);
                assert_eq!(said["insns"], insns.len() / 8);
                judged += 1;
            }
        }
    }
    assert!(judged > 60, "{judged}");
}

/// Check that programs that keep their records are no payloads, and the statement says so.
#[test]
fn programs_with_records_left_are_no_payloads() {
    let dir = tempfile::tempdir().unwrap();
    relocate(dir.path(), &["--sign-manifest", "--respect-autoload"]);
    let statement = statement(dir.path());
    let objects = array(&statement["predicate"]["objects"]).iter();
    let classes = objects.flat_map(|it| array(&it["classes"]));
    let programs: Vec<&Value> = classes.flat_map(|it| array(&it["programs"])).collect();
    for program in &programs {
        let is_left = program["sha256"].is_null();
        // Optional ones without records are as they are to be.
        assert!(!is_left || text(&program["section"]).starts_with('?'), "{program}");
        assert_eq!(program["file"].is_null(), is_left, "{program}");
        let left: &[Value] = if is_left { &["respect-autoload".into()] } else { &[] };
        assert_eq!(array(&program["records_left"]), left);
    }
    assert!(programs.iter().any(|it| it["sha256"].is_null()));
    // The options are in it.
    let (code, rows) = verify(&dir.path().join(STATEMENT), &sample("objects", ""), &sample("kernels", ""));
    assert_eq!((code, rows.len()), (Some(0), 1), "{rows:?}");
}

/// Check that a statement is found to be right, and each change in it is told.
#[test]
fn what_differs_is_told() {
    let dir = tempfile::tempdir().unwrap();
    relocate(dir.path(), &["--sign-manifest"]);
    let path = dir.path().join(STATEMENT);
    let (objects, kernels) = (sample("objects", ""), sample("kernels", ""));
    let (code, rows) = verify(&path, &objects, &kernels);
    assert_eq!((code, rows.len()), (Some(0), 1), "{rows:?}");
    assert_eq!((&rows[0]["t"], &rows[0]["rows"]), (&"end".into(), &0.into()));

    let changed = |change: &dyn Fn(&mut Value)| {
        let mut statement = statement(dir.path());
        change(&mut statement);
        let path = dir.path().join("changed.json");
        fs::write(&path, statement.to_string()).unwrap();
        let (code, mut rows) = verify(&path, &objects, &kernels);
        assert_eq!((code, rows.pop().unwrap()["t"].clone()), (Some(1), "end".into()));
        rows
    };
    let rows =
        changed(&|it| it["predicate"]["objects"][0]["classes"][0]["programs"][0]["sha256"] = "".into());
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0]["what"], &rows[0]["manifest"]["sha256"]), (&"payload".into(), &"".into()));
    assert!(rows[0]["object"].is_string() && rows[0]["kernel"].is_string() && rows[0]["program"].is_string());
    let rows = changed(&|it| it["subject"][0]["digest"]["sha256"] = "".into());
    assert!(rows.len() == 1 && text(&rows[0]["what"]).starts_with("subject "));
    let rows = changed(&|it| it["predicate"]["models"] = "libbpf".into());
    assert!(rows.len() == 1 && rows[0]["what"] == "models");
    let rows = changed(&|it| it["predicate"]["objects"][0]["sha256"] = "00".into());
    assert_eq!(rows.iter().filter(|it| it["what"] == "object").count(), 2);

    // Fewer kernels are told once, not for every program.
    let one = sample("kernels", "7.3.4+deb13-cloud-amd64.btf.zst");
    let (code, rows) = verify(&path, &objects, &one);
    assert_eq!(code, Some(1));
    assert_eq!(rows.iter().filter(|it| it["what"] == "kernel").count(), 2);
    assert!(rows.len() < 6, "{rows:?}");
}

/// Check that what is no statement of ours cannot be judged.
#[test]
fn what_is_no_statement_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("statement.json");
    let (objects, kernels) = (sample("objects", "xdp_count.bpf.o"), sample("kernels", ""));
    assert_eq!(verify(&path, &objects, &kernels).0, Some(3));
    let head = r#""_type":"https://in-toto.io/Statement/v1","predicateType":"urn:btfleet:payloads:v1""#;
    for text in [
        "".to_owned(),
        "[]".into(),
        "{}".into(),
        format!("{{{head}}}"),
        format!(r#"{{{head},"predicate":{{"modules":"none","respect_autoload":false}}}}"#),
        format!(r#"{{{head},"predicate":{{"modules":"each","respect_autoload":false,"objects":3}}}}"#),
        "[".repeat(100_000),
    ] {
        fs::write(&path, &text).unwrap();
        assert_eq!(verify(&path, &objects, &kernels).0, Some(3), "{text}");
    }
}

/// Check that all of it is the same for any number of threads.
#[test]
fn payloads_do_not_depend_on_the_number_of_threads() {
    let run = |jobs: &str| {
        let dir = tempfile::tempdir().unwrap();
        relocate(dir.path(), &["--sign-manifest", "-j", jobs]);
        contents(dir.path())
    };
    assert!(run("1") == run("5"));
}
