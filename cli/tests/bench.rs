//! `btfleet bench matchers` on the committed samples: what it says, not how fast anything is.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::path::Path;
use std::process::{Command, Output};

const MATCHERS: [&str; 7] =
    ["linear", "sorted-names", "sorted-hash", "radix", "open-addressing", "hashbrown", "perfect"];
const MEASURES: [&str; 6] = ["build", "warm-hit", "warm-miss", "cold-hit", "cold-miss", "one-object"];

fn sample(name: &str) -> String {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples").canonicalize().unwrap();
    samples.join(name).to_str().unwrap().to_owned()
}

fn old_kernel() -> String {
    sample("kernels/5.10.0-46-cloud-amd64.btf.zst")
}

fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_btfleet")).args(["bench", "matchers"]).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Check that the table has a line for each matcher, and says what was looked up.
#[test]
fn the_table_names_every_matcher_and_the_lookups() {
    let out = bench(&[&sample("objects"), "--kernels", &old_kernel()]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let table = text(&out.stdout);
    for name in MATCHERS {
        assert_eq!(table.lines().filter(|line| line.starts_with(&format!("{name} "))).count(), 1, "{table}");
    }
    assert!(table.contains("looked up are the roots of 26 objects"), "{table}");
    assert!(table.contains(" hits, "), "{table}");
    assert!(!table.contains('\u{1b}'), "colours in a pipe");
}

/// Check that every figure has its line in the CSV, in order, with as many fields as the head, and that a kernel's
/// name with a comma is quoted.
#[test]
fn csv_has_a_line_for_each_figure() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = dir.path().join("a,b.btf.zst");
    std::fs::copy(old_kernel(), &kernel).unwrap();
    let out = bench(&["--format", "csv", "-k", kernel.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let csv = text(&out.stdout);
    let mut lines = csv.lines();
    let head: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert_eq!(head[7..11], ["matcher", "bytes", "measure", "samples"]);
    let expected: Vec<_> =
        MATCHERS.iter().flat_map(|matcher| MEASURES.map(|measure| (*matcher, measure))).collect();
    let mut seen = Vec::new();
    for line in lines {
        let (_, rest) = line.split_once("a,b.btf.zst\",").expect("a quoted name");
        let fields: Vec<&str> = rest.split(',').collect();
        assert_eq!(fields.len(), head.len() - 2, "{line}");
        let numbers: Vec<f64> =
            fields[2..5].iter().chain(&fields[9..]).map(|field| field.parse().unwrap()).collect();
        let &[lookups, hits, misses, min, q1, median, q3] = numbers.as_slice() else { panic!("{line}") };
        assert!(hits > 100.0 && misses > 10.0 && lookups == hits + misses, "{line}");
        assert!(min <= q1 && q1 <= median && median <= q3, "{line}");
        seen.push((fields[5], fields[7]));
    }
    assert_eq!(seen, expected);
}

/// Check that several kernels get a summary, and that what cannot be measured is told and shows in the exit code.
#[test]
fn several_kernels_get_a_summary_and_the_others_are_told() {
    let object = sample("objects/exec_snoop.bpf.o");
    let big_endian = sample("kernels/6.12.107+deb13-generic-s390x.btf.zst");
    let new = sample("kernels/7.3.4+deb13-cloud-amd64.btf.zst");
    let out = bench(&[&object, "-k", &old_kernel(), &big_endian, "no-such.btf", &new]);
    assert_eq!(out.status.code(), Some(3), "{}", text(&out.stderr));
    let told = text(&out.stderr);
    assert!(told.contains("s390x.btf.zst: no object of this byte order looks anything up"), "{told}");
    assert!(told.contains("no-such.btf"), "{told}");
    assert!(text(&out.stdout).contains("all 2 kernels"), "{}", text(&out.stdout));
}

/// Check that a run without kernels is a mistake in the command line.
#[test]
fn kernels_are_required() {
    assert_eq!(bench(&[&sample("objects")]).status.code(), Some(2));
}
