//! `--validate`: what is compared before an instruction is patched.

#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const KERNEL: &str = "7.3.4+deb13-cloud-amd64.btf.zst";

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples")
}

/// Exit code, rows of stdout, stderr.
fn btfleet(args: &[&str]) -> (Option<i32>, Vec<Value>, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_btfleet")).args(args).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let rows = text.lines().filter_map(|it| serde_json::from_str(it).ok()).collect();
    (out.status.code(), rows, String::from_utf8(out.stderr).unwrap())
}

/// A sample in whose only access to `task_struct.in_iowait` the record of `kind` finds another value than was compiled in;
/// and the kernel.
fn changed(dir: &Path, kind: &str) -> (String, String) {
    let path = samples().join("objects/kernel_bits.bpf.o");
    let kernel = samples().join("kernels").join(KERNEL).to_str().unwrap().to_owned();
    let (_, rows, _) = btfleet(&["resolve", path.to_str().unwrap(), "-k", &kernel, "--format", "jsonl"]);
    let row = rows.iter().find(|it| it["path"] == "task_struct.in_iowait" && it["kind"] == kind).unwrap();
    let bytes = |hex: &Value| -> Vec<u8> {
        let hex = hex.as_str().unwrap();
        (0..hex.len() / 2).map(|it| u8::from_str_radix(&hex[2 * it..2 * it + 2], 16).unwrap()).collect()
    };
    let section = |it: &Value| it["section"] == row["section"];
    // The instruction is found by those around it: in the section, which is in the file as a whole.
    let mut file = fs::read(&path).unwrap();
    let insn_off = usize::try_from(row["insn_off"].as_u64().unwrap()).unwrap();
    let places = |start: usize| {
        rows.iter().filter(|it| section(it)).all(|it| {
            let at = start + usize::try_from(it["insn_off"].as_u64().unwrap()).unwrap();
            file.get(at..).is_some_and(|tail| tail.starts_with(&bytes(&it["insn_before"])))
        })
    };
    let start = (0..file.len()).step_by(8).find(|it| places(*it)).unwrap();
    file[start + insn_off + 4] ^= 1;
    let to = dir.join("changed.bpf.o");
    fs::write(&to, file).unwrap();
    (to.to_str().unwrap().to_owned(), kernel)
}

/// Verdict and codes of the findings of the program `fork`.
fn check(object: &str, kernel: &str, validate: &str) -> (Option<i32>, String, Vec<String>) {
    let args =
        ["check", object, "-k", kernel, "--validate", validate, "--format", "jsonl", "--fail-on", "drift"];
    let (code, rows, _) = btfleet(&args);
    let row = rows.iter().find(|it| it["program"] == "fork").unwrap();
    let codes = row["findings"].as_array().unwrap().iter().map(|it| it["code"].as_str().unwrap().to_owned());
    (code, row["verdict"].as_str().unwrap().to_owned(), codes.collect())
}

/// Check that a left shift that does not fit is found by `strict` alone, in each verb in its way.
#[test]
fn strict_looks_at_what_libbpf_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let (object, kernel) = changed(dir.path(), "lshift_u64");
    for validate in ["libbpf", "off"] {
        let (_, verdict, codes) = check(&object, &kernel, validate);
        assert_eq!((verdict.as_str(), codes), ("ok", vec![]), "{validate}");
    }
    let (code, verdict, codes) = check(&object, &kernel, "strict");
    assert_eq!((code, verdict.as_str(), codes), (Some(1), "ok-drift", vec!["bitfield-mismatch".to_owned()]));

    let resolve = ["resolve", &object, "-k", &kernel, "--format", "jsonl"];
    let (_, rows, _) = btfleet(&resolve);
    assert!(rows.iter().all(|it| it["access_findings"].is_null()));
    let (_, rows, _) = btfleet(&[&resolve[..], &["--validate", "strict"]].concat());
    let told: Vec<_> = rows.iter().filter(|it| !it["access_findings"].is_null()).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["kind"], &told[0]["path"]), (&"byte_off".into(), &"task_struct.in_iowait".into()));
    let message = told[0]["access_findings"][0]["message"].as_str().unwrap();
    assert!(
        message.starts_with("as compiled, it reads ") && message.contains("own field is bit "),
        "{message}"
    );

    let text = ["resolve", &object, "-k", &kernel, "--validate", "strict"];
    let out = Command::new(env!("CARGO_BIN_EXE_btfleet")).args(text).output().unwrap();
    assert!(String::from_utf8(out.stdout).unwrap().contains("bitfield-mismatch: as compiled"));
}

/// Check that a right shift that does not fit ends the load, unless nothing is compared.
#[test]
fn off_compares_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (object, kernel) = changed(dir.path(), "rshift_u64");
    for validate in ["libbpf", "strict"] {
        let (code, verdict, codes) = check(&object, &kernel, validate);
        assert_eq!((code, verdict.as_str()), (Some(1), "fail-reloc"), "{validate}");
        assert!(codes.contains(&"insn-mismatch".to_owned()), "{codes:?}");
    }
    let (_, verdict, codes) = check(&object, &kernel, "off");
    assert_eq!((verdict.as_str(), codes), ("ok", vec![]));
}

/// Check that `relocate` writes what it is told to, and says so.
#[test]
fn relocate_obeys() {
    let dir = tempfile::tempdir().unwrap();
    let (object, kernel) = changed(dir.path(), "lshift_u64");
    let to = dir.path().join("out");
    let relocate = |more: &[&str]| {
        let args = [&["relocate", &object, "-k", &kernel, "-o", to.to_str().unwrap()], more].concat();
        let (code, _, message) = btfleet(&args);
        let manifest = fs::read(to.join("manifest.json")).ok();
        (code, manifest.map(|it| serde_json::from_slice::<Value>(&it).unwrap()).unwrap_or_default(), message)
    };
    let (code, manifest, _) = relocate(&[]);
    // A program of it is refused for another reason, with or without.
    let failed = |manifest: &Value| manifest["objects"][0]["failed"].clone();
    assert!(manifest["validate"].is_null());
    assert_eq!(failed(&manifest), Value::Array(vec![]), "{code:?}");
    let (code, manifest, _) = relocate(&["--validate", "strict"]);
    assert_eq!((code, &manifest["validate"]), (Some(3), &"strict".into()));
    assert_eq!(failed(&manifest)[0]["code"], "bitfield-mismatch");
    let message = failed(&manifest)[0]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("task_struct.in_iowait: as compiled, it reads"), "{message}");
    let (_, manifest, _) = relocate(&["--validate", "off"]);
    assert_eq!((&manifest["validate"], failed(&manifest)), (&"off".into(), Value::Array(vec![])));
    let (code, _, message) = relocate(&["--validate", "off", "--sign-manifest"]);
    assert_eq!(code, Some(2), "{message}");
}

/// Check that `explain` shows what is found, and refuses what it cannot explain.
#[test]
fn explain_shows_it() {
    let dir = tempfile::tempdir().unwrap();
    let (object, kernel) = changed(dir.path(), "lshift_u64");
    let explain = |validate: &str| {
        let args = [
            "explain",
            &object,
            "-k",
            &kernel,
            "--program",
            "fork",
            "--validate",
            validate,
            "--format",
            "json",
        ];
        let out = Command::new(env!("CARGO_BIN_EXE_btfleet")).args(args).output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap())
    };
    assert!(explain("strict").1.contains("bitfield-mismatch"));
    assert!(!explain("libbpf").1.contains("bitfield-mismatch"));
    assert_eq!(explain("off").0, Some(2));
}
