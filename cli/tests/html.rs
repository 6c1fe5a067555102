//! The HTML report of `check`: what stands in it is what JSON Lines say, whatever names there are, and a browser shows it.

#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// How the test in a browser says that it cannot be run here; it says why itself.
const SKIPPED: i32 = 77;

/// Is set where it has to be run.
const REQUIRED: &str = "BTFLEET_REQUIRE_BROWSER";

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples")
}

/// Stdout of a run in the directory of the samples that finds something.
fn btfleet(args: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_btfleet")).args(args).current_dir(samples()).output().unwrap();
    assert_eq!(out.status.code(), Some(1), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The data in a page: objects, and the rest.
fn data(page: &str) -> (Vec<Value>, Value) {
    let script = |id: &str| -> Value {
        let start = format!("<script type=\"application/json\" id=\"{id}\">");
        let text = page.split_once(&start).unwrap().1.split_once("</script>").unwrap().0;
        serde_json::from_str(text).unwrap()
    };
    let Value::Array(mut objects) = script("objects") else { panic!("objects are no array") };
    assert_eq!(objects.pop(), Some(Value::Null));
    (objects, script("report"))
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

/// What runs say, place by place.
fn expanded(runs: &Value) -> Vec<i64> {
    let numbers: Vec<i64> = runs.as_array().unwrap().iter().map(|it| it.as_i64().unwrap()).collect();
    numbers.chunks(2).flat_map(|it| std::iter::repeat_n(it[0], usize::try_from(it[1]).unwrap())).collect()
}

/// Object, program, section and kernel.
type Place = [String; 4];

fn place(names: [&Value; 4]) -> Place {
    names.map(|it| it.as_str().unwrap().to_owned())
}

/// Verdict, what it takes for granted, and findings, by place: as the page has them.
fn cells_of_page(page: &str) -> BTreeMap<Place, Value> {
    let (objects, report) = data(page);
    let kernels = report["kernels"].as_array().unwrap();
    let mut cells = BTreeMap::new();
    for object in &objects {
        for program in object["programs"].as_array().unwrap() {
            let row = expanded(&object["rows"][number(&program["row"])]);
            assert_eq!(row.len(), kernels.len());
            for (cell, kernel) in row.iter().zip(kernels) {
                let Ok(cell) = usize::try_from(*cell) else { continue };
                let cell = &object["cells"][cell];
                let listed = |key: &str, table: &str| -> Vec<&Value> {
                    let numbers = cell[key].as_array().into_iter().flatten();
                    numbers.map(|it| &object[table][number(it)]).collect()
                };
                let findings: Vec<Value> = listed("f", "findings")
                    .into_iter()
                    .map(|it| {
                        serde_json::json!([
                            it["code"],
                            it["effect"],
                            it["off"],
                            it["file"],
                            it["line"],
                            it["message"]
                        ])
                    })
                    .collect();
                let verdict = &report["verdicts"][number(&cell["v"])]["name"];
                let names = [&object["name"], &program["name"], &program["section"], &kernel["name"]];
                let all = serde_json::json!([verdict, program["auto"], listed("a", "assumptions"), findings]);
                assert_eq!(cells.insert(place(names), all), None);
            }
        }
    }
    cells
}

/// The same of JSON Lines.
fn cells_of_lines(lines: &str) -> BTreeMap<Place, Value> {
    let rows = lines.lines().map(|it| serde_json::from_str::<Value>(it).unwrap());
    let verdicts = rows.filter(|it| it["t"] == "verdict").map(|row| {
        let findings: Vec<Value> = row["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| {
                serde_json::json!([
                    it["code"],
                    it["effect"],
                    it["insn_off"],
                    it["file"],
                    it["line"],
                    it["message"]
                ])
            })
            .collect();
        let names = [&row["object"], &row["program"], &row["section"], &row["kernel"]];
        let all = serde_json::json!([row["verdict"], row["autoload"], row["assumptions"], findings]);
        (place(names), all)
    });
    verdicts.collect()
}

/// Check that every cell of the map is the row that JSON Lines have, with its findings, also if only some are shown.
#[test]
fn each_cell_is_a_row_of_json_lines() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fleet.html");
    for only in [&[][..], &["--only", "failing"]] {
        let args =
            ["check", "objects", "-k", "kernels", "--format", "jsonl", "--report", file.to_str().unwrap()];
        let lines = cells_of_lines(&btfleet(&[&args, only].concat()));
        let cells = cells_of_page(&fs::read_to_string(&file).unwrap());
        assert!(lines.len() > 25);
        assert_eq!(cells, lines);
    }
}

/// Check that columns go by release, and that causes, layouts and explanations are there for what fails.
#[test]
fn what_fails_is_explained() {
    let (objects, report) = data(&btfleet(&["check", "objects", "-k", "kernels", "--format", "html"]));
    let releases: Vec<&str> =
        report["kernels"].as_array().unwrap().iter().map(|it| it["release"].as_str().unwrap()).collect();
    assert_eq!(
        releases,
        ["5.10.0-46-cloud-amd64", "6.12.107+deb13-generic-s390x", "7.3.4+deb13-cloud-amd64"]
    );
    assert_eq!(report["series"], serde_json::json!([["5.10", 1], ["6.12", 1], ["7.3", 1]]));
    let causes = report["causes"].as_array().unwrap();
    let cause = causes.iter().find(|it| it["about"] == "inode.i_atime.tv_sec").unwrap();
    assert_eq!(cause["code"], "no-field");
    assert_eq!(cause["on"], "since 6.12 (2 of 3)");
    assert!(cause["explain"].as_str().unwrap().starts_with("btfleet explain objects/unguarded_read."));
    // Every finding that is not fine belongs to a cause, and its code is explained.
    let key = |it: &Value, verdict: &str| format!("{} {} {}", it[verdict], it["code"], it["about"]);
    let known: BTreeSet<String> = causes.iter().map(|it| key(it, "verdict")).collect();
    for finding in objects.iter().flat_map(|it| it["findings"].as_array().unwrap()) {
        assert!(report["codes"][finding["code"].as_str().unwrap()].is_array(), "{finding}");
        assert!(finding["v"] == 0 || known.contains(&key(finding, "v")), "{finding}");
    }
    let structs = report["layouts"]["structs"].as_array().unwrap();
    let inode = structs.iter().find(|it| it["name"] == "struct inode").unwrap();
    let path = inode["paths"].as_array().unwrap().iter().position(|it| it == "i_atime.tv_sec").unwrap();
    let on: Vec<&Value> = expanded(&inode["of"])
        .into_iter()
        .map(|it| &inode["layouts"][usize::try_from(it).unwrap()]["marks"][path])
        .collect();
    assert_eq!(on, [&serde_json::json!([704, 64]), &Value::Null, &Value::Null]);
}

/// Check that the page is the same with one thread and with two.
#[test]
fn pages_do_not_depend_on_threads() {
    let page = |jobs| btfleet(&["check", "objects", "-k", "kernels", "--format", "html", "-j", jobs]);
    assert_eq!(page("1"), page("2"));
}

/// Check that names with markup in them are text: of files, programs and types.
#[test]
fn hostile_names_are_text() {
    let dir = tempfile::tempdir().unwrap();
    let mut object = fs::read(samples().join("objects/unguarded_read.bpf.o")).unwrap();
    let (program, field) = ("<img src=x>", "<b>'\"\u{1}\n");
    for (name, other) in [("access_time", program), ("i_atime", field)] {
        assert_eq!(name.len(), other.len());
        let places: Vec<usize> =
            (0..object.len()).filter(|at| object[*at..].starts_with(name.as_bytes())).collect();
        assert!(!places.is_empty());
        places.into_iter().for_each(|at| object[at..at + name.len()].copy_from_slice(other.as_bytes()));
    }
    let name = "a<!--<script>&\"' \u{202e}\u{2028}alert(1).bpf.o";
    let path = dir.path().join(name);
    fs::write(&path, object).unwrap();
    let page = btfleet(&["check", path.to_str().unwrap(), "-k", "kernels", "--format", "html"]);
    // What markup there is, is the page's own.
    for (part, times) in [("<script", 3), ("</script", 3), ("<!--", 0), ("<img", 0), ("<b>", 0)] {
        assert_eq!(page.matches(part).count(), times, "{part}");
    }
    let (objects, report) = data(&page);
    assert!(objects[0]["name"].as_str().unwrap().ends_with(name));
    assert!(objects[0]["programs"].as_array().unwrap().iter().any(|it| it["name"] == program));
    let about = format!("inode.{field}.tv_sec");
    assert!(report["causes"].as_array().unwrap().iter().any(|it| it["about"] == about.as_str()));
}

/// Check that a browser shows the page and what is clicked there.
#[test]
fn a_browser_shows_it() {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/browser/run");
    let out = Command::new(run.canonicalize().unwrap())
        .env("BTFLEET", env!("CARGO_BIN_EXE_btfleet"))
        .output()
        .unwrap();
    match out.status.code() {
        Some(0) => {}
        Some(SKIPPED) if std::env::var_os(REQUIRED).is_none() => {
            // Past the test harness, which keeps what tests print to itself. Without stderr there is nobody to tell.
            let _ = std::io::stderr().write_all(&out.stderr);
        }
        _ => panic!("{}", String::from_utf8_lossy(&out.stderr)),
    }
}
