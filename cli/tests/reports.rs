//! What `check` writes for machines, and what it says of two runs, of hosts and of a new kernel.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const OLD: &str = "5.10.0-46-cloud-amd64.btf.zst";
const NEW: &str = "7.3.4+deb13-cloud-amd64.btf.zst";
const BIG_ENDIAN: &str = "6.12.107+deb13-generic-s390x.btf.zst";

fn samples(below: &str) -> String {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples");
    samples.join(below).canonicalize().unwrap().to_str().unwrap().to_owned()
}

fn object(name: &str) -> String {
    samples(&format!("objects/{name}"))
}

fn kernel(name: &str) -> String {
    samples(&format!("kernels/{name}"))
}

fn btfleet(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_btfleet")).args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What `check` of some samples on all sample kernels writes as `format`.
fn check(format: &str) -> String {
    let objects = ["unguarded_read.bpf.o", "packed_bits.be.bpf.o", "enum_values.bpf.o"].map(object);
    let mut args = vec!["check", &objects[0], &objects[1], &objects[2], "-k"];
    let kernels = [OLD, NEW, BIG_ENDIAN].map(kernel);
    args.extend(kernels.iter().map(String::as_str));
    args.extend(["--format", format]);
    let out = btfleet(&args);
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    stdout(&out)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Verdicts by object, program and kernel, as JSON Lines have them.
fn verdicts() -> BTreeMap<[String; 3], String> {
    let key = |row: &Value| ["object", "program", "kernel"].map(|it| row[it].as_str().unwrap().to_owned());
    let rows = lines(&check("jsonl"));
    let rows = rows.iter().filter(|it| it["t"] == "verdict");
    rows.map(|row| (key(row), row["verdict"].as_str().unwrap().to_owned())).collect()
}

/// Check that the document has the rows of JSON Lines, and nothing else.
#[test]
fn a_document_has_the_rows_of_json_lines() {
    let document: Value = serde_json::from_str(&check("json")).unwrap();
    assert_eq!(document["v"], 1);
    assert_eq!(document["rows"].as_array().unwrap(), &lines(&check("jsonl")));
}

/// Check that CSV reads back with the verdicts of JSON Lines.
#[test]
fn csv_reads_back() {
    let text = check("csv");
    assert!(text.lines().all(|it| !it.is_empty()) && text.ends_with("\r\n"));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head = reader.headers().unwrap().clone();
    let column =
        |name: &str| head.iter().position(|it| it == name).unwrap_or_else(|| panic!("no column {name}"));
    let mut found = BTreeMap::new();
    let mut not_judged = 0;
    for row in reader.records() {
        let row = row.unwrap();
        if &row[column("verdict")] == "not-judged" {
            not_judged += 1;
            continue;
        }
        let key = ["object", "program", "kernel"].map(|it| row[column(it)].to_owned());
        found.insert(key, row[column("verdict")].to_owned());
    }
    assert_eq!(found, verdicts());
    assert_eq!(not_judged, 4, "pairs of different byte orders");
}

/// Check that JUnit's XML is well-formed, adds up, and fails where JSON Lines do.
#[test]
fn junit_adds_up() {
    let text = check("junit");
    let document = roxmltree::Document::parse(&text).unwrap();
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "testsuites");
    let mut failed = BTreeMap::new();
    for suite in root.children().filter(|it| it.is_element()) {
        let count = |name: &str| suite.attribute(name).unwrap().parse::<usize>().unwrap();
        let cases: Vec<_> = suite.children().filter(|it| it.is_element()).collect();
        let with = |tag: &str| cases.iter().filter(|it| it.children().any(|it| it.has_tag_name(tag))).count();
        assert_eq!(count("tests"), cases.len());
        assert_eq!(
            (count("failures"), count("errors"), count("skipped")),
            (with("failure"), with("error"), with("skipped"))
        );
        for case in cases.iter().filter(|it| it.children().any(|it| it.has_tag_name("failure"))) {
            failed.insert(
                (case.attribute("classname").unwrap().to_owned(), case.attribute("name").unwrap().to_owned()),
                (),
            );
        }
    }
    let wanted: BTreeMap<_, ()> = verdicts()
        .into_iter()
        .filter(|it| it.1.starts_with("fail"))
        .map(|([object, program, kernel], _)| ((format!("{object}.{program}"), kernel), ()))
        .collect();
    assert_eq!(failed, wanted);
    assert!(!failed.is_empty());
}

/// Check that SARIF has a result for each cause, with a rule and places that exist.
#[test]
fn sarif_has_a_result_for_each_cause() {
    let text = check("sarif");
    // As strict as the types that are made from the format's own schema.
    let typed: serde_sarif::sarif::Sarif = serde_json::from_str(&text).unwrap();
    assert_eq!(typed.runs.len(), 1);
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["version"], "2.1.0");
    let run = &document["runs"][0];
    let rules: Vec<&str> = run["tool"]["driver"]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["id"].as_str().unwrap())
        .collect();
    let results = run["results"].as_array().unwrap();
    let mut prints: Vec<&Value> =
        results.iter().map(|it| &it["partialFingerprints"]["btfleetCause/v1"]).collect();
    prints.sort_by_key(|it| it.to_string());
    prints.dedup();
    assert_eq!(prints.len(), results.len(), "causes are told apart");
    for result in results {
        assert!(rules.contains(&result["ruleId"].as_str().unwrap()));
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        assert!(!result["locations"].as_array().unwrap().is_empty());
    }
    let found = results.iter().find(|it| it["properties"]["about"] == "inode.i_atime.tv_sec").unwrap();
    assert_eq!((&found["ruleId"], &found["level"]), (&"no-field".into(), &"error".into()));
    let place = &found["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "unguarded_read.bpf.c");
    assert_eq!(place["region"]["startLine"], 61);
    assert_eq!(run["invocations"][0]["executionSuccessful"], false, "pairs of different byte orders");
}

/// Check that the summary for CI has the causes, and that no name in it is markup.
#[test]
fn markdown_has_the_causes() {
    let text = check("markdown");
    assert!(text.starts_with("## ❌ BPF programs on 3 kernels\n"), "{text}");
    assert!(text.contains("| ❌ fails | no-field | `inode.i_atime.tv_sec` | 1 | since "), "{text}");
    let dir = tempfile::tempdir().unwrap();
    let hostile = dir.path().join("<img src=x onerror=alert(1)>|`x`.o");
    fs::copy(object("unguarded_read.bpf.o"), &hostile).unwrap();
    let hostile = hostile.to_str().unwrap();
    for format in ["markdown", "junit"] {
        let out = stdout(&btfleet(&["check", hostile, "-k", &kernel(NEW), "--format", format]));
        assert!(!out.contains("<img"), "{out}");
    }
}

/// Check that reports are written as a whole beside the table, and the same as to stdout.
#[test]
fn reports_are_written_to_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (object, kernel) = (object("unguarded_read.bpf.o"), kernel(NEW));
    let names = ["a.jsonl", "b.json", "c.csv", "d.xml", "e.sarif", "f.md"];
    let mut args = vec!["check".to_owned(), object.clone(), "-k".into(), kernel.clone()];
    args.extend(names.iter().flat_map(|it| ["--report".to_owned(), path(it)]));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let out = btfleet(&args);
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    assert!(stdout(&out).contains("fails no-field inode.i_atime.tv_sec"));
    for (name, format) in names.iter().zip(["jsonl", "json", "csv", "junit", "sarif", "markdown"]) {
        let to_stdout = stdout(&btfleet(&["check", &object, "-k", &kernel, "--format", format]));
        assert_eq!(fs::read_to_string(path(name)).unwrap(), to_stdout, "{name}");
    }
    let out = btfleet(&["check", &object, "-k", &kernel, "--report", &path("x.pdf")]);
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("x.pdf: the ending says the format"), "{}", stderr(&out));
    let out = btfleet(&["check", &object, "-k", &kernel, "--report", "/dev/null/x.json"]);
    assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), names.len(), "nothing half-written is left");
}

/// A run as a file.
fn run(dir: &TempDir, name: &str, objects: &[&str], kernels: &[&str]) -> PathBuf {
    let path = dir.path().join(name);
    let objects: Vec<String> = objects.iter().map(|it| object(it)).collect();
    let kernels: Vec<String> = kernels.iter().map(|it| kernel(it)).collect();
    let mut args = vec!["check"];
    args.extend(objects.iter().map(String::as_str));
    args.push("-k");
    args.extend(kernels.iter().map(String::as_str));
    args.extend(["--format", "jsonl"]);
    fs::write(&path, btfleet(&args).stdout).unwrap();
    path
}

/// Check what two runs are told to differ in, and the exit code: only what fails and did not counts.
#[test]
fn runs_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let before = run(&dir, "a.jsonl", &["exec_snoop.bpf.o"], &[OLD, NEW]);
    let after = run(&dir, "b.jsonl", &["exec_snoop.bpf.o", "unguarded_read.bpf.o"], &[NEW]);
    let (before, after) = (before.to_str().unwrap(), after.to_str().unwrap());
    let out = btfleet(&["compare", before, after]);
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    let text = stdout(&out);
    for expected in
        ["new failures 5", "removed 1", "no-field inode.i_atime.tv_sec", "unguarded_read.bpf.o access_time"]
    {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    let out = btfleet(&["compare", after, before, "--format", "jsonl"]);
    assert_eq!(out.status.code(), Some(0), "what fails no more is no regression: {}", stdout(&out));
    let rows = lines(&stdout(&out));
    let end = rows.last().unwrap();
    assert_eq!((&end["t"], &end["regression"]), (&"end".into(), &false.into()));
    assert_eq!(end["changes"]["added"], 1);
    let changes = rows.iter().filter(|it| it["change"] == "removed").count();
    assert_eq!(end["changes"]["removed"], changes);
    let out = btfleet(&["compare", before, before]);
    assert_eq!(
        (out.status.code(), stdout(&out)),
        (Some(0), "nothing changed: 2 programs on kernels\n".to_owned())
    );
    // The same, in one step.
    let (object, kernel) = (object("unguarded_read.bpf.o"), kernel(NEW));
    let out = btfleet(&["check", &object, "-k", &kernel, "--baseline", before]);
    assert_eq!(out.status.code(), Some(1));
    assert!(stdout(&out).contains("new failures 5"), "{}", stdout(&out));
    let out = btfleet(&["check", &object, "-k", &kernel, "--baseline", after]);
    assert_eq!(out.status.code(), Some(0), "known failures are no regression: {}", stdout(&out));
}

/// Check that what is no run, or a cut one, is an error with its line.
#[test]
fn other_files_are_no_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = run(&dir, "a.jsonl", &["unguarded_read.bpf.o"], &[NEW]);
    let text = fs::read_to_string(&path).unwrap();
    let whole = path.to_str().unwrap();
    let cut = dir.path().join("cut.jsonl");
    let cut = cut.to_str().unwrap();
    for (content, want) in [
        (text.lines().take(2).collect::<Vec<_>>().join("\n"), "cut.jsonl:2: the row of the end is missing"),
        (text.replace("\"t\":\"end\"", "\"t\":\"en"), "cut.jsonl:"),
        (format!("{text}{text}"), "something follows"),
        ("no JSON\n".to_owned(), "cut.jsonl:1: no row of"),
        (String::new(), "the row of the end is missing"),
    ] {
        fs::write(cut, content).unwrap();
        for args in [["compare", whole, cut], ["compare", cut, whole]] {
            let out = btfleet(&args);
            assert_eq!(out.status.code(), Some(3), "{want}: {}", stdout(&out));
            assert!(stderr(&out).contains(want), "{want}: {}", stderr(&out));
        }
    }
}

/// Check that verdicts are weighted by hosts, and that hosts with other kernels are listed with their neighbours.
#[test]
fn hosts_weigh_verdicts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hosts.csv");
    fs::write(
        &path,
        "uname,count\n\
         Linux a 5.10.0-46-cloud-amd64 #1 SMP x86_64 GNU/Linux,900\n\
         5.10.0-46-cloud-amd64,75\n\
         7.3.4+deb13-cloud-amd64,20\n\
         6.6.1-generic,5\n",
    )
    .unwrap();
    let path = path.to_str().unwrap();
    let (object, old, new) = (object("unguarded_read.bpf.o"), kernel(OLD), kernel(NEW));
    let args = ["check", &object, "-k", &old, &new, "--program", "access_time", "--inventory", path];
    let text = stdout(&btfleet(&args));
    for expected in [
        "97.5 % of 1,000 hosts ok",
        "  fail-reloc 20 hosts, 1 kernel:\n    7.3.4+deb13-cloud-amd64  20 hosts\n",
        "  not known 5 hosts, 1 kernel that is not here:\n    6.6.1-generic  5 hosts: between 5.10.0-46-cloud-amd64 and \
         7.3.4+deb13-cloud-amd64, on which programs come to different ends\n",
        "1 program, since 7.3 (1 of 2), 20 hosts\n",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    // No object for that byte order: nothing was judged there, and so nothing is well.
    let foreign = dir.path().join("foreign.csv");
    fs::write(&foreign, "kernel\n6.12.107+deb13-generic-s390x\n").unwrap();
    let other = kernel(BIG_ENDIAN);
    let foreign = btfleet(&["check", &object, "-k", &old, &other, "--inventory", foreign.to_str().unwrap()]);
    let (foreign, expected) = (stdout(&foreign), "0.0 % of 1 host ok\n  unknown 1 host, 1 kernel:\n");
    assert!(foreign.contains(expected), "{expected} is not in\n{foreign}");
    let rows = lines(&stdout(&btfleet(&[&args[..], &["--format", "jsonl"]].concat())));
    let hosts: Vec<&Value> = rows.iter().filter(|it| it["t"] == "hosts").collect();
    assert_eq!(hosts.len(), 4, "{hosts:?}");
    assert_eq!(rows.last().unwrap()["rows"], rows.len() - 1);
    let markdown = stdout(&btfleet(&[&args[..], &["--format", "markdown"]].concat()));
    for expected in ["**97.5 % of 1,000 hosts ok**", "* fail-reloc: 20 hosts: 7.3.4+deb13-cloud-amd64 (20)"] {
        assert!(markdown.contains(expected), "{expected} is not in\n{markdown}");
    }
    fs::write(path, "a,b\n1,2\n").unwrap();
    let out = btfleet(&args);
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("hosts.csv: "), "{}", stderr(&out));
}

/// Check what is said of a kernel that is not there: neighbours with the same layouts make it likely, others do not.
#[test]
fn neighbours_of_unknown_kernels_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let named = |release: &str, from: &str| {
        let path = dir.path().join(format!("{release}.btf.zst"));
        fs::copy(kernel(from), &path).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let kernels = [named("6.1.0-20-amd64", OLD), named("6.1.0-30-amd64", OLD), named("6.1.0-40-amd64", NEW)];
    // Nearer by release, but of another flavour and another architecture.
    let others = [named("6.1.0-26-rt-amd64", NEW), named("6.1.0-26-arm64", NEW)];
    let path = dir.path().join("hosts.csv");
    fs::write(&path, "kernel,count\n6.1.0-25-amd64,41210\n6.1.0-35-amd64,7\n6.2.0-1-amd64,1\n").unwrap();
    let object = object("exec_snoop.bpf.o");
    let ([a, b, c], [d, e]) = (&kernels, &others);
    let args = ["check", &object, "-k", a, b, c, d, e, "--inventory", path.to_str().unwrap()];
    let text = stdout(&btfleet(&args));
    for expected in [
        "0.0 % of 41,218 hosts ok",
        "  not known 41,218 hosts, 3 kernels that are not here:\n",
        "    6.1.0-25-amd64  41,210 hosts: between 6.1.0-20-amd64 and 6.1.0-30-amd64, which have the same layouts",
        "    6.1.0-35-amd64  7 hosts: between 6.1.0-30-amd64 and 6.1.0-40-amd64, on which all programs come to the \
         same, with other layouts\n",
        "    6.2.0-1-amd64  1 host: newer than 6.1.0-40-amd64\n",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    let rows = lines(&stdout(&btfleet(&[&args[..], &["--format", "jsonl"]].concat())));
    let same = |it: &Value| (it["same_outcome"].clone(), it["same_layouts"].clone());
    let same: Vec<_> = rows.iter().filter(|it| it["t"] == "hosts").map(same).collect();
    assert_eq!(same, [(true.into(), true.into()), (true.into(), false.into()), (Value::Null, Value::Null)]);
}

/// Check that a new kernel is compared with the one next to it, and that only what breaks counts.
#[test]
fn a_new_kernel_is_compared_with_the_one_before() {
    let (object, old, new) = (object("unguarded_read.bpf.o"), kernel(OLD), kernel(NEW));
    let out = btfleet(&["check", &object, "-k", &old, &kernel(BIG_ENDIAN), "--new", &new]);
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    assert!(stderr(&out).contains(&format!("compared with {old}")), "{}", stderr(&out));
    assert!(stdout(&out).contains("new failures 4"), "never_there fails on both\n{}", stdout(&out));
    let out = btfleet(&["check", &object, "-k", &new, "--new", &old]);
    assert_eq!(out.status.code(), Some(0), "{}", stdout(&out));
    assert!(stdout(&out).contains("fixed 4"), "{}", stdout(&out));
    let out = btfleet(&["check", &object, "-k", &new, "--new", "/absent"]);
    assert_eq!(out.status.code(), Some(3), "{}", stdout(&out));
    let out = btfleet(&["check", &object, "-k", &new, "--new", &new]);
    assert_eq!(out.status.code(), Some(2), "{}", stdout(&out));
}

/// Check that kernels are chosen by what is known of them.
#[test]
fn kernels_are_filtered() {
    let (object, kernels) = (object("exec_snoop.bpf.o"), kernel(""));
    let shown = |condition: &str| {
        let out = btfleet(&["check", &object, "-k", &kernels, "--where", condition, "--format", "jsonl"]);
        let rows = lines(&stdout(&out));
        rows.iter().filter(|it| it["t"] == "verdict" || it["t"] == "pair").count()
    };
    assert_eq!(shown("release>=6.12"), 2);
    assert_eq!(shown("release=7.3"), 1);
    assert_eq!(shown("arch=s390x or release<6"), 2);
    let out = btfleet(&["check", &object, "-k", &kernels, "--where", "arch=vax"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("holds for none of 3 kernels"), "{}", stderr(&out));
    let out = btfleet(&["check", &object, "-k", &kernels, "--where", "colour=red"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("'colour' is no field of kernels"), "{}", stderr(&out));
}
