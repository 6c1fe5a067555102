//! What people see: lines as wide as the terminal, progress of what takes long, causes in the order that was asked for.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const OLD: &str = "kernels/5.10.0-46-cloud-amd64.btf.zst";
const NEW: &str = "kernels/7.3.4+deb13-cloud-amd64.btf.zst";
const OBJECT: &str = "objects/unguarded_read.bpf.o";

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples")
}

/// Runs the binary in the directory of the samples as if a line had so many columns.
fn btfleet(columns: usize, args: &[&str]) -> Output {
    let columns = columns.to_string();
    Command::new(env!("CARGO_BIN_EXE_btfleet"))
        .args(args)
        .env("COLUMNS", columns)
        .current_dir(samples())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Runs a shell's line on a pseudo-terminal of its own, in the directory of the samples, with `$BTFLEET` for the binary.
/// Returns what is on it then, or `None` where there is no tool for that, which it says.
fn on_a_terminal(columns: usize, line: &str) -> Option<String> {
    let shell = format!("stty cols {columns} rows 50 && {line}");
    let out = Command::new("script")
        .args(["-qec", &shell, "/dev/null"])
        .env("BTFLEET", env!("CARGO_BIN_EXE_btfleet"))
        .env("NO_COLOR", "1")
        // Only counts where there is no terminal. Some shells, bash one of them, set it to the terminal's own.
        .env("COLUMNS", "77")
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm")
        .current_dir(samples())
        .stdin(Stdio::null())
        .output();
    match out {
        Ok(out) => Some(String::from_utf8_lossy(&out.stdout).replace("\r\n", "\n")),
        Err(error) => {
            // Past the test harness, which keeps what tests print to itself.
            let _ = writeln!(std::io::stderr(), "SKIPPED: no pseudo-terminal without 'script': {error}");
            None
        }
    }
}

/// Whether a line may be longer than the terminal is wide: what is pasted or searched for, and single words.
fn may_be_long(line: &str) -> bool {
    let text = line.trim_start();
    let is_pasted = text.starts_with("btfleet ") || text.starts_with("more: --section");
    let is_logged = text.contains("CO-RE relocation") || text.starts_with("libbpf");
    is_pasted || is_logged || !text.contains(' ')
}

/// Check that every table fits its terminal, however narrow, and says the same as on a wide one.
#[test]
fn tables_fit_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (pack, before, after) = (path("fleet.pack"), path("a.jsonl"), path("b.jsonl"));
    assert!(btfleet(80, &["pack", "add", &pack, "kernels"]).status.success());
    for (run, kernel) in [(&before, OLD), (&after, NEW)] {
        fs::write(run, btfleet(80, &["check", OBJECT, "-k", kernel, "--format", "jsonl"]).stdout).unwrap();
    }
    let commands: [&[&str]; 16] = [
        &["check", "objects", "-k", "kernels"],
        &["check", "objects", "-k", "kernels", "--details"],
        &["check", OBJECT, "-k", NEW, "--compare-loaders", "--validate", "strict"],
        &["check", OBJECT, "-k", OLD, "--new", NEW],
        &["classes", "objects", "-k", "kernels"],
        &["diff", OLD, NEW, "objects"],
        &["explain", OBJECT, "--program", "access_time", "-k", NEW],
        &["explain", OBJECT, "-k", NEW],
        &["explain", "objects/task_state.bpf.o", "-k", &pack, "--verbose"],
        &["pack", "ls", &pack],
        &["resolve", "objects", "-k", NEW],
        &["inspect", "objects", "kernels", &pack],
        &["compare", &before, &after],
        &["rules"],
        &["rules", "no-field"],
        &["pack", "verify", &pack],
    ];
    for args in commands {
        for columns in [0, 20, 40, 80, 200] {
            let out = btfleet(columns, args);
            let text = stdout(&out);
            assert!(
                matches!(out.status.code(), Some(0 | 1 | 3)) && !text.is_empty(),
                "{args:?} at {columns}"
            );
            for line in text.lines() {
                let is_fine = line.chars().count() <= columns.max(20) || may_be_long(line);
                assert!(is_fine, "{args:?} at {columns}:\n{line}");
                assert_eq!(line, line.trim_end(), "{args:?} at {columns}");
            }
        }
    }
    // Commands are whole at any width.
    let whole = |columns: usize| -> Vec<String> {
        let text = stdout(&btfleet(columns, commands[0]));
        text.lines().filter(|it| it.contains("btfleet explain")).map(str::to_owned).collect()
    };
    assert_eq!(whole(20), whole(200));
    assert!(!whole(20).is_empty());
    let words = |columns: usize| -> Vec<String> {
        let text = stdout(&btfleet(columns, &["rules", "no-field"]));
        text.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(words(20), words(200));
}

/// Check that the width of a terminal counts, and nothing else, if there is one.
#[test]
fn the_width_is_the_terminals() {
    for columns in [20, 50, 100] {
        let Some(seen) = on_a_terminal(columns, &format!("$BTFLEET check {OBJECT} -k {NEW}")) else { return };
        assert_eq!(seen, stdout(&btfleet(columns, &["check", OBJECT, "-k", NEW])), "{columns}");
    }
}

/// Check that a run that takes long shows how far it is, on the terminal only, and that a short one does not.
#[test]
fn what_takes_long_shows_how_far_it_is() {
    let Some(short) =
        on_a_terminal(100, "$BTFLEET rules no-field && $BTFLEET inspect objects/xdp_count.bpf.o")
    else {
        return;
    };
    assert!(!short.contains('\u{1b}') && !short.contains(" left"), "{short:?}");
    let dir = tempfile::tempdir().unwrap();
    let kernels = dir.path().join("kernels");
    fs::create_dir(&kernels).unwrap();
    let kernel = samples().join(NEW).canonicalize().unwrap();
    for number in 0..120 {
        symlink(&kernel, kernels.join(format!("6.1.{number}.btf.zst"))).unwrap();
    }
    let (kernels, file) = (kernels.to_str().unwrap(), dir.path().join("out"));
    let command = format!("classes {OBJECT} -k {kernels} -j 1");
    let seen = on_a_terminal(100, &format!("COLUMNS=110 $BTFLEET {command} > {}", file.display())).unwrap();
    assert!(
        seen.contains("/121 inputs read, ") && seen.contains("/s, ") && seen.contains(" left"),
        "{seen:?}"
    );
    assert_eq!(seen.matches('\n').count(), 0, "it takes one line, and is gone at the end: {seen:?}");
    let args: Vec<&str> = command.split(' ').collect();
    assert_eq!(fs::read_to_string(file).unwrap(), stdout(&btfleet(110, &args)));
}

/// Check that causes have the order that was asked for, the same in all that list them.
#[test]
fn causes_are_sorted_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let mut orders = Vec::new();
    for key in ["worst", "name", "kernels", "programs"] {
        let (sarif, html, markdown) = (path("x.sarif"), path("x.html"), path("x.md"));
        let args = ["check", "objects", "-k", "kernels", "--details", "--sort", key];
        let reports = ["--report", &sarif, "--report", &html, "--report", &markdown];
        let table = stdout(&btfleet(200, &[&args[..], &reports].concat()));
        let json: Value = serde_json::from_str(&fs::read_to_string(sarif).unwrap()).unwrap();
        let results = json["runs"][0]["results"].as_array().unwrap();
        let causes: Vec<(String, String)> = results
            .iter()
            .map(|it| (it["properties"]["about"].as_str().unwrap(), it["ruleId"].as_str().unwrap()))
            .map(|(about, code)| (about.to_owned(), code.to_owned()))
            .collect();
        let html = fs::read_to_string(html).unwrap();
        let report = html.split_once("id=\"report\">").unwrap().1.split_once("</script>").unwrap().0;
        let report: Value = serde_json::from_str(report).unwrap();
        let of_html: Vec<&str> =
            report["causes"].as_array().unwrap().iter().map(|it| it["about"].as_str().unwrap()).collect();
        assert_eq!(of_html, causes.iter().map(|it| it.0.as_str()).collect::<Vec<_>>(), "{key}");
        let rows: Vec<Vec<String>> = fs::read_to_string(markdown)
            .unwrap()
            .lines()
            .filter(|it| it.starts_with("| ❌") || it.starts_with("| ⚠️"))
            .map(|it| it.split(" | ").map(str::to_owned).collect())
            .collect();
        let codes: Vec<&str> = rows.iter().map(|it| it[1].as_str()).collect();
        assert_eq!(codes, causes.iter().map(|it| it.1.as_str()).collect::<Vec<_>>(), "{key}");
        let mut rest = table.as_str();
        for (about, code) in &causes {
            let line = format!(" {code} {about}");
            rest = rest.split_once(&line).unwrap_or_else(|| panic!("{key}: {line} is not behind\n{table}")).1;
        }
        let programs: Vec<usize> = rows.iter().map(|it| it[3].parse().unwrap()).collect();
        let kernels: Vec<usize> =
            results.iter().map(|it| it["properties"]["kernels"].as_array().unwrap().len()).collect();
        match key {
            "name" => assert!(causes.is_sorted(), "{causes:?}"),
            "kernels" => assert!(kernels.is_sorted_by(|a, b| a >= b), "{kernels:?}"),
            "programs" => assert!(programs.is_sorted_by(|a, b| a >= b), "{programs:?}"),
            _ => assert!(rows.is_sorted_by_key(|it| !it[0].contains("fails")), "{rows:?}"),
        }
        orders.push(causes);
    }
    let lens: Vec<usize> = orders.iter().map(Vec::len).collect();
    orders.sort();
    orders.dedup();
    assert!(orders.len() > 2 && lens.iter().all(|it| *it == lens[0]), "{lens:?}");
}
