//! Parquet, read by DuckDB: the rows of CSV, and the queries that docs/output.md has.

use std::io::Write;
use std::path::Path;
use std::process::Command;

/// How the script says that it cannot be run here; it says why itself.
const SKIPPED: i32 = 77;

/// Is set where it has to be run.
const REQUIRED: &str = "BTFLEET_REQUIRE_PYTHON";

/// Check that a database reads what is written: every row, with nulls for what is empty, and what is said of the file.
#[test]
fn a_database_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples");
    let [table, text] = ["table.parquet", "table.csv"].map(|it| dir.path().join(it));
    let out = Command::new(env!("CARGO_BIN_EXE_btfleet"))
        .current_dir(&samples)
        .args(["check", "objects", "-k", "kernels", "--report"])
        .arg(&table)
        .arg("--report")
        .arg(&text)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", String::from_utf8_lossy(&out.stderr));
    let stdout = Command::new(env!("CARGO_BIN_EXE_btfleet"))
        .current_dir(&samples)
        .args(["check", "objects", "-k", "kernels", "-j1", "--format", "parquet"])
        .output()
        .unwrap()
        .stdout;
    assert!(stdout == std::fs::read(&table).unwrap(), "stdout gets the same, and one thread makes the same");

    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet/run");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/output.md");
    let out = Command::new(run).args([&table, &text, &docs]).output().unwrap();
    match out.status.code() {
        Some(0) => {}
        Some(SKIPPED) if std::env::var_os(REQUIRED).is_none() => {
            // Past the test harness, which keeps what tests print to itself. Without stderr there is nobody to tell.
            let _ = std::io::stderr().write_all(&out.stderr);
        }
        _ => panic!("{}", String::from_utf8_lossy(&out.stderr)),
    }
}
