//! `btfleet check --manifest`: what a project says of its programs.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const KERNEL: &str = "7.3.4+deb13-cloud-amd64.btf.zst";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    /// Verdict rows by the program's name.
    fn row(&self, program: &str) -> Value {
        let rows = self.stdout.lines().map(|it| serde_json::from_str::<Value>(it).unwrap());
        rows.into_iter().find(|it| it["program"] == program).unwrap()
    }
}

fn check(objects: &[&str], manifest: &str, format: &str) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("btfleet.toml");
    fs::write(&path, manifest).unwrap();
    let samples = root().join("workloads/samples");
    let out = Command::new(env!("CARGO_BIN_EXE_btfleet"))
        .arg("check")
        .args(objects.iter().map(|it| samples.join("objects").join(it)))
        .arg("-k")
        .arg(samples.join("kernels").join(KERNEL))
        .args(["--format", format, "--manifest"])
        .arg(&path)
        .output()
        .unwrap();
    let dir = dir.path().to_str().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&format!("{dir}/"), "");
    Run { code: out.status.code(), stdout: text(out.stdout), stderr: text(out.stderr) }
}

/// Check that the example of the document is a manifest, and does what the document says.
#[test]
fn the_documented_example_works() {
    let document = fs::read_to_string(root().join("docs/manifest.md")).unwrap();
    let example = document.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let objects = ["unguarded_read.bpf.o", "load_width.bpf.o", "block_latency.bpf.o"];
    let run = check(&objects, example, "jsonl");
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let accepted = run.row("oom_group");
    assert_eq!(accepted["verdict"], "ok");
    let finding = &accepted["findings"][0];
    assert_eq!(finding["effect"], "poisoned-live");
    assert_eq!(finding["accepted"]["until"], "2099-12-31");
    assert_eq!(finding["accepted"]["expired"], false);
    // Its own target is not there.
    let attached = run.row("deadline_tasks");
    assert_eq!(attached["verdict"], "ok", "{attached}");
    assert_eq!(run.row("never_there")["findings"][0].get("accepted"), None);
}

/// What is wrong with one program of `unguarded_read.bpf.o` on the kernel, all others of which are accepted.
fn only(program: &str) -> String {
    ["reference_count", "access_time", "page_flags", "oom_group", "never_there"]
        .iter()
        .filter(|it| **it != program)
        .flat_map(|it| ["no-field", "field-incompatible"].map(|code| (code, it)))
        .map(|(code, it)| {
            format!("[[accept]]\ncode = \"{code}\"\nprogram = \"{it}\"\nuntil = 2099-01-01\nwhy = \"test\"\n")
        })
        .collect()
}

/// Check that an object is as good as the programs that have to load.
#[test]
fn optional_programs_and_alternatives_count_as_the_manifest_says() {
    let code = |more: &str| {
        let manifest = format!("{more}\n{}", only("access_time"));
        check(&["unguarded_read.bpf.o"], &manifest, "jsonl").code
    };
    assert_eq!(code(""), Some(1));
    assert_eq!(code("[program.access_time]\noptional = true"), Some(0));
    assert_eq!(code("[program.access_time]\noptional = false"), Some(1));
    assert_eq!(code("[[alternatives]]\nprograms = [\"access_time\", \"dead_branch\"]"), Some(0));
    // None of them loads.
    let manifest = "[[alternatives]]\nprograms = [\"access_time\", \"page_flags\"]\n[program]\n\
                    oom_group.optional = true\nnever_there.optional = true\nreference_count.optional = true";
    assert_eq!(check(&["unguarded_read.bpf.o"], manifest, "jsonl").code, Some(1));
}

/// Check that an optional program that ends the load is switched off, and does not end that of others.
#[test]
fn what_may_be_left_out_does_not_end_the_load_of_others() {
    let manifest = |optional| format!("[program.kernel_id]\noptional = {optional}");
    let aborted = |optional| {
        let run = check(&["conntrack_id.bpf.o"], &manifest(optional), "jsonl");
        run.row("confirmed")["aborted_by"].clone()
    };
    assert_eq!(aborted(false)["program"], "kernel_id");
    assert_eq!(aborted(true), Value::Null);
}

/// Check that what was accepted until a day that has passed counts again and is named, as is what was not found.
#[test]
fn expired_and_stale_entries_are_told() {
    let entry = |code: &str, until: &str| {
        format!("[[accept]]\ncode = \"{code}\"\nuntil = {until}\nwhy = \"was to be fixed\"\n")
    };
    let manifest = [entry("no-field", "2020-02-29"), entry("no-type", "2099-01-01")].concat();
    let run = check(&["unguarded_read.bpf.o"], &manifest, "table");
    assert_eq!(run.code, Some(1));
    for said in [
        "btfleet.toml:2: no-field was accepted until 2020-02-29 (was to be fixed); it counts again",
        "btfleet.toml:6: no-type is accepted, and was not found",
        "fails no-field file.f_count",
    ] {
        assert!(run.stdout.contains(said), "{said} is not in\n{}", run.stdout);
    }
    // What still holds comes first.
    let manifest = [entry("no-field", "2020-02-29"), entry("no-field", "2099-01-01")].concat();
    let run = check(&["unguarded_read.bpf.o"], &manifest, "table");
    assert!(!run.stdout.contains("fails no-field"), "{}", run.stdout);
    assert!(run.stdout.contains("accepted until 2099-01-01: no-field"), "{}", run.stdout);
}

/// Check that what nothing knows is an error with its file and line.
#[test]
fn errors_name_file_and_line() {
    for (manifest, said) in [
        ("[program.access_time]\noptionl = true", "btfleet.toml:2: unknown field `optionl`"),
        ("\n[programs]", "btfleet.toml:2: unknown field `programs`"),
        ("\n[program.nobody]\noptional = true", "btfleet.toml:2: no object has a program 'nobody'"),
        (
            "[[accept]]\ncode = \"nope\"\nuntil = 2099-01-01\nwhy = \"x\"",
            "btfleet.toml:2: there is no code 'nope'",
        ),
        (
            "[[accept]]\ncode = \"no-type\"\nuntil = 2099-01-01T00:00:00\nwhy = \"x\"",
            "btfleet.toml:3: 'until' is a day",
        ),
        ("[[accept]]\ncode = \"no-type\"\nuntil = 2099-01-01", "missing field `why`"),
        ("[rodata]\nvalue = 1.5", "btfleet.toml:2: a whole number"),
        ("[rodata]\nnobody = 1", "btfleet.toml:2: no object has a variable 'nobody' in .rodata"),
        ("[[alternatives]]\nprograms = [\"access_time\"]", "btfleet.toml:2: alternatives are at least two"),
        (
            "[program.access_time]\nattach = \"kprobe/x\"",
            "btfleet.toml:2: 'access_time' is a program of another type",
        ),
        ("[program.access_time]\nattach = \"x\"", "btfleet.toml:2: 'x' is no attach target"),
        ("[program", "btfleet.toml:1: "),
    ] {
        let run = check(&["unguarded_read.bpf.o"], manifest, "table");
        assert_eq!(run.code, Some(2), "{manifest}");
        assert!(run.stderr.contains(said), "{said} is not in {}", run.stderr);
        assert_eq!(run.stdout, "");
    }
}

/// Check that the order of the rows and of the text does not depend on a manifest that says nothing.
#[test]
fn an_empty_manifest_changes_nothing() {
    let samples = root().join("workloads/samples");
    let without = Command::new(env!("CARGO_BIN_EXE_btfleet"))
        .arg("check")
        .arg(samples.join("objects/unguarded_read.bpf.o"))
        .arg("-k")
        .arg(samples.join("kernels").join(KERNEL))
        .output()
        .unwrap();
    let with = check(&["unguarded_read.bpf.o"], "", "table");
    assert_eq!(String::from_utf8(without.stdout).unwrap(), with.stdout);
}
