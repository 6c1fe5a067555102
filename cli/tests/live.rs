//! `btfleet live` as a user runs it; skipped where the running kernel may not be asked.
#![expect(clippy::print_stderr, reason = "that a test skips has to be seen")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn samples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples/objects");
    let all = folder.read_dir().expect("samples").map(|it| it.expect("a file").path());
    let is_other = |it: &PathBuf| it.to_string_lossy().contains(".be.") != cfg!(target_endian = "big");
    all.filter(|it| !is_other(it)).collect()
}

fn live(args: &[&str], objects: &[PathBuf]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_btfleet"));
    command.arg("live").args(args).args(objects).output().expect("btfleet runs")
}

/// Check that programs are compared, and that the rows say what the table says.
#[test]
fn the_running_kernel_is_asked() {
    let out = live(&["--format", "jsonl"], &samples());
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    let text = String::from_utf8(out.stdout).expect("JSON");
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    if rows.is_empty() {
        assert!(matches!(out.status.code(), Some(2 | 3)) && !told.is_empty(), "{told}");
        eprintln!("SKIPPED: {told}");
        return;
    }
    let of = |row: &Value, field: &str| row.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let programs: Vec<&Value> = rows.iter().filter(|it| of(it, "t") == "live").collect();
    let same = programs.iter().filter(|it| of(it, "compared") == "instructions").count();
    assert!(same >= 10, "{same} of {} programs were taken both ways", programs.len());
    for row in &programs {
        assert_eq!(row.get("findings"), Some(&Value::Array(Vec::new())), "{row}");
        assert!(of(row, "compared") == "instructions" || !of(row, "why").is_empty(), "{row}");
    }
    let end = rows.last().expect("the end");
    assert_eq!(
        (of(end, "t"), end.get("rows").and_then(Value::as_u64)),
        ("end".into(), Some(rows.len() as u64 - 1))
    );
    assert!(of(end, "models").starts_with("Linux "), "{end}");

    let table = live(&[], &samples());
    let words = String::from_utf8_lossy(&table.stdout).matches("same instructions").count();
    assert_eq!((words, table.status.code()), (same, out.status.code()));
    assert!(String::from_utf8_lossy(&table.stderr).contains("0 different"));
}
