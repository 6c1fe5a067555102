//! `btfleet resolve --format patch`: what a loader changes, and the reference appliers in Python and Go.

#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use btfleet_engine::format::Endian;
use btfleet_engine::patch_list::{Edit, Field, apply};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn sample(kind: &str, name: &str) -> String {
    root().join("workloads/samples").join(kind).join(name).to_str().unwrap().to_owned()
}

fn btfleet(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_btfleet")).args(args).output().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(text).collect()
}

/// The samples on their kernels: the rows, and what `relocate` makes of each object for each kernel.
struct Samples {
    lines: Vec<u8>,
    rows: Vec<Value>,
    relocated: BTreeMap<(String, String), Vec<u8>>,
}

fn samples(options: &[&str]) -> Samples {
    let (objects, kernels) = (sample("objects", ""), sample("kernels", ""));
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let common = [&["-k", &kernels][..], options].concat();
    let lines = btfleet(&[&["resolve", &objects, "--format", "patch"][..], &common].concat());
    assert_eq!(lines.status.code(), Some(3));
    let run = btfleet(&[&["relocate", &objects, "-o", out.to_str().unwrap()][..], &common].concat());
    assert_eq!(run.status.code(), Some(3));
    let manifest: Value = serde_json::from_slice(&fs::read(out.join("manifest.json")).unwrap()).unwrap();
    let mut relocated = BTreeMap::new();
    for object in manifest["objects"].as_array().unwrap() {
        for output in object["outputs"].as_array().unwrap() {
            let file = fs::read(out.join(text(&output["file"]))).unwrap();
            for kernel in strings(&output["kernels"]) {
                relocated.insert((text(&object["path"]).to_owned(), kernel.to_owned()), file.clone());
            }
        }
    }
    let rows = std::str::from_utf8(&lines.stdout).unwrap().lines();
    let rows = rows.map(|line| serde_json::from_str(line).unwrap()).collect();
    Samples { lines: lines.stdout, rows, relocated }
}

impl Samples {
    fn patches(&self) -> impl Iterator<Item = &Value> {
        self.rows.iter().filter(|it| it["t"] == "patch")
    }

    /// Checks that an applier makes the instructions that `relocate` makes, and changes nothing else.
    fn check(&self, applier: impl Fn(&str, &str) -> Vec<u8>) {
        assert!(self.relocated.len() > 30);
        for ((object, kernel), relocated) in &self.relocated {
            let mut before = fs::read(object).unwrap();
            let patched = applier(object, kernel);
            for row in self.patches().filter(|it| it["object"] == object.as_str()) {
                if strings(&row["kernels"]).contains(&kernel.as_str()) {
                    let at = function(row);
                    assert_eq!(patched[at.clone()], relocated[at.clone()], "{object} on {kernel}: {row}");
                    before[at.clone()].copy_from_slice(&relocated[at]);
                }
            }
            assert!(patched == before, "{object} on {kernel}: something else was changed");
        }
    }
}

/// Where a row's function is in the object's file.
fn function(row: &Value) -> std::ops::Range<usize> {
    let number = |name: &str| usize::try_from(row[name].as_u64().unwrap()).unwrap();
    number("file_offset")..number("file_offset") + 8 * number("insns")
}

/// Check that every function of every object has one list on every kernel, or the pair a reason.
#[test]
fn every_function_has_one_list_on_every_kernel() {
    let samples = samples(&[]);
    let mut seen = BTreeSet::new();
    let mut lists = BTreeSet::new();
    for row in samples.patches() {
        let name = (text(&row["object"]), text(&row["section"]), text(&row["program"]));
        assert!(lists.insert((name, row["edits"].to_string())), "two rows with one list: {row}");
        for kernel in strings(&row["kernels"]) {
            assert!(seen.insert((name, kernel)), "two lists: {row}");
        }
        let edits = row["edits"].as_array().unwrap();
        let places = edits.iter().map(|it| (it["insn"].as_u64().unwrap(), text(&it["field"])));
        assert!(places.is_sorted());
    }
    let pairs: BTreeSet<_> = seen.iter().map(|((object, ..), kernel)| (*object, *kernel)).collect();
    assert_eq!(pairs, samples.relocated.keys().map(|(object, kernel)| (&**object, &**kernel)).collect());
    let failed = samples.rows.iter().filter(|it| it["t"] == "pair").count();
    assert_eq!(failed + pairs.len(), 26 * 3);
    let end = samples.rows.last().unwrap();
    assert_eq!((&end["t"], end["rows"].as_u64()), (&"end".into(), Some(samples.rows.len() as u64 - 1)));
    // All that the format has is there.
    let edits = samples.patches().flat_map(|it| it["edits"].as_array().unwrap());
    let fields: BTreeSet<&str> = edits.map(|it| text(&it["field"])).collect();
    assert_eq!(fields, BTreeSet::from(["code", "imm", "imm64", "off", "poison"]));
}

/// Check that the engine's own applier gives what `relocate` gives, with programs that are left, too.
#[test]
fn lists_give_the_bytes_of_relocated_files() {
    for options in [&[][..], &["--respect-autoload"]] {
        let samples = samples(options);
        samples.check(|object, kernel| {
            let mut file = fs::read(object).unwrap();
            for row in samples.patches().filter(|it| it["object"] == object) {
                if strings(&row["kernels"]).contains(&kernel) {
                    let edits = row["edits"].as_array().unwrap().iter().map(edit).collect::<Vec<_>>();
                    let endian = if row["byte_order"] == "big" { Endian::Big } else { Endian::Little };
                    apply(&mut file[function(row)], endian, &edits).unwrap();
                }
            }
            file
        });
        let is_left = samples.patches().any(|it| it["left"] == true);
        assert_eq!(is_left, !options.is_empty());
    }
}

fn edit(edit: &Value) -> Edit {
    let fields = [Field::Code, Field::Off, Field::Imm, Field::Imm64, Field::Poison];
    Edit {
        insn: usize::try_from(edit["insn"].as_u64().unwrap()).unwrap(),
        field: fields.into_iter().find(|it| it.name() == text(&edit["field"])).unwrap(),
        value: text(&edit["value"]).parse().unwrap(),
    }
}

/// Runs an applier: the object and the kernel as arguments, the rows on stdin, the patched file on stdout.
fn run(mut command: Command, object: &str, kernel: &str, lines: &[u8]) -> Output {
    command.args([object, kernel]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let lines = lines.to_vec();
    // One that gives up early closes it.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&lines)));
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap();
    out
}

fn check_applier(command: impl Fn() -> Command) {
    let samples = samples(&[]);
    samples.check(|object, kernel| {
        let out = run(command(), object, kernel, &samples.lines);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    });
    // Lists that do not fit are refused.
    let (object, kernel) = samples.relocated.keys().next().unwrap();
    let row = samples.patches().find(|it| it["object"] == object.as_str()).unwrap();
    for edit in [
        r#"{"insn":100000,"field":"imm","value":"1"}"#,
        r#"{"insn":-1,"field":"imm","value":"1"}"#,
        r#"{"insn":0,"field":"off","value":"65536"}"#,
        r#"{"insn":0,"field":"code","value":"256"}"#,
        r#"{"insn":0,"field":"imm","value":"-1"}"#,
        r#"{"insn":0,"field":"dst","value":"1"}"#,
    ] {
        let mut row = row.clone();
        row["kernels"] = [kernel.as_str()].as_slice().into();
        row["edits"] = Value::Array(vec![serde_json::from_str(edit).unwrap()]);
        let out = run(command(), object, kernel, format!("{row}\n").as_bytes());
        assert!(!out.status.success() && out.stdout.is_empty(), "{edit} was applied");
    }
}

fn is_there(command: &str, argument: &str) -> bool {
    Command::new(command).arg(argument).output().is_ok_and(|it| it.status.success())
}

/// Check that the reference applier in Python gives what `relocate` gives.
#[test]
#[expect(clippy::print_stderr, reason = "the one way for a test to say that it skipped")]
fn the_applier_in_python_gives_the_same() {
    if !is_there("python3", "--version") {
        eprintln!("SKIPPED: there is no python3, its applier was not tried");
        return;
    }
    check_applier(|| {
        let mut command = Command::new("python3");
        command.arg("-B").arg(root().join("engine/bindings/python/btfleet_patch.py"));
        command
    });
}

/// Check that the reference applier in Go gives what `relocate` gives.
#[test]
#[expect(clippy::print_stderr, reason = "the one way for a test to say that it skipped")]
fn the_applier_in_go_gives_the_same() {
    if !is_there("go", "version") {
        eprintln!("SKIPPED: there is no go, its applier was not tried");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("apply");
    let build = Command::new("go")
        .current_dir(root().join("engine/bindings/go/patch"))
        .args(["build", "-o", program.to_str().unwrap(), "./cmd/apply"])
        .envs([("GOFLAGS", "-mod=mod"), ("GOTOOLCHAIN", "local")])
        .output()
        .unwrap();
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    check_applier(|| Command::new(&program));
}

/// Check that lists are libbpf's: nobody else's are made.
#[test]
fn other_loaders_have_no_lists() {
    let (object, kernel) = (sample("objects", "xdp_count.bpf.o"), sample("kernels", ""));
    let out = btfleet(&["resolve", &object, "-k", &kernel, "--format", "patch", "--loader", "aya"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(out.stdout.is_empty());
}

/// Check that the rows do not depend on the number of threads.
#[test]
fn rows_are_the_same_for_any_number_of_threads() {
    let one = samples(&["-j", "1"]).lines;
    assert!(one == samples(&["-j", "5"]).lines);
}
