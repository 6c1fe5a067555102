//! Output that cannot be written, and names that would do more than stand there.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const OLD: &str = "kernels/5.10.0-46-cloud-amd64.btf.zst";
const NEW: &str = "kernels/7.3.4+deb13-cloud-amd64.btf.zst";
const OBJECT: &str = "objects/unguarded_read.bpf.o";

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples")
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_btfleet"));
    command.args(args).current_dir(samples()).env("XDG_CACHE_HOME", "/nonexistent").env_remove("COLUMNS");
    command
}

fn btfleet(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn skipped(why: &str) {
    // Past the test harness, which keeps what tests print to itself.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// A line for each command that prints, in all of its formats.
fn printing(dir: &Path) -> Vec<Vec<String>> {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (pack, run, cache) = (path("fleet.pack"), path("run.jsonl"), path("cache"));
    assert!(btfleet(&["pack", "add", &pack, OLD]).status.success());
    fs::write(&run, btfleet(&["check", OBJECT, "-k", NEW, "--format", "jsonl"]).stdout).unwrap();
    let mut lines: Vec<Vec<&str>> = [
        &["check", OBJECT, "-k", OLD, "--new", NEW][..],
        &["check", OBJECT, "-k", NEW, "--baseline", &run],
        &["check", OBJECT, "-k", NEW, "--compare-loaders"],
        &["completions", "zsh"],
        &["--version"],
        &["--help"],
        &["check", "--help"],
        &["pack", "ls", "-h"],
        &["pack", "verify", &pack],
        &["pack", "add", &pack, NEW],
        &["pack", "rm", &pack, NEW],
        &["pack", "compact", &pack],
        &["cache", "gc", "--cache-dir", &cache],
        &["relocate", OBJECT, "-k", NEW, "-o", "OUT"],
        &["min-btf", OBJECT, "-k", NEW, "-o", "OUT"],
        &["classes", OBJECT, "-k", NEW],
    ]
    .map(Vec::from)
    .into();
    let formats: [(&[&str], &str, &[&str]); 11] = [
        (
            &["check", OBJECT, "-k", NEW],
            "--format",
            &["table", "jsonl", "json", "csv", "junit", "sarif", "markdown", "html"],
        ),
        (&["compare", &run, &run], "--format", &["table", "jsonl"]),
        (&["resolve", OBJECT, "-k", NEW], "--format", &["table", "jsonl", "patch"]),
        (&["explain", OBJECT, "-k", NEW], "--format", &["text", "json"]),
        (&["classes", OBJECT, "-k", NEW], "--emit", &["json", "vmtest", "list"]),
        (&["diff", OLD, NEW, OBJECT], "--format", &["table", "jsonl"]),
        (&["core-relos", OBJECT], "--format", &["json", "bin"]),
        (&["inspect", OBJECT], "--format", &["table", "jsonl"]),
        (&["btf", "dump", OBJECT], "--format", &["c", "raw", "jsonl"]),
        (&["rules"], "--format", &["table", "jsonl"]),
        (&["pack", "ls", &pack], "--format", &["table", "jsonl"]),
    ];
    for (args, option, formats) in &formats {
        lines.extend(formats.iter().map(|it| [args, &[*option, *it][..]].concat()));
    }
    let out = |number: usize| path(&format!("out{number}"));
    let owned = lines.into_iter().enumerate().map(|(number, line)| {
        line.into_iter().map(|it| if it == "OUT" { out(number) } else { it.to_owned() }).collect()
    });
    owned.collect()
}

/// Check that every command says that stdout cannot be written, and does not count as a success.
#[test]
fn a_full_disk_behind_stdout_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for line in printing(dir.path()) {
        let args: Vec<&str> = line.iter().map(String::as_str).collect();
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let out = command(&args).stdout(full).output().unwrap();
        assert_eq!(out.status.code(), Some(3), "{args:?}: {}", stderr(&out));
        let told = stderr(&out);
        let last = told.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("btfleet: cannot write output: No space left on device"),
            "{args:?}: {told}"
        );
    }
}

/// Check that every command ends quietly if nobody reads what it prints.
#[test]
fn a_closed_pipe_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    for line in printing(dir.path()) {
        let args: Vec<&str> = line.iter().map(String::as_str).collect();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let out = command(&args).stdout(Stdio::from(writer)).output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{args:?}: {}", stderr(&out));
        assert!(!stderr(&out).contains("cannot write"), "{args:?}: {}", stderr(&out));
    }
}

/// Runs `check` with a report at `path` on top of one that works, and demands that it fails and says why.
fn report_fails(dir: &Path, path: &Path, why: &str) {
    let good = dir.join("good.json");
    fs::write(&good, "earlier").unwrap();
    let before: Vec<PathBuf> = listed(dir);
    let (good, path) = (good.to_str().unwrap(), path.to_str().unwrap());
    let out = btfleet(&["check", OBJECT, "-k", NEW, "--report", path, "--report", good]);
    assert_eq!(out.status.code(), Some(3), "{path}: {}", stderr(&out));
    let told = format!("btfleet: {path}: {why}");
    assert!(stderr(&out).lines().any(|it| it.starts_with(&told)), "{told} is not in\n{}", stderr(&out));
    assert_eq!(fs::read_to_string(good).unwrap(), "earlier", "{path}: the other report was replaced");
    assert_eq!(listed(dir), before, "{path}: something was left behind");
}

fn listed(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|it| it.unwrap().path()).collect();
    found.sort();
    found
}

/// Check that a report that cannot be written is named with the reason, and nothing half-written is left.
#[test]
fn reports_that_cannot_be_written_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    report_fails(dir, &dir.join("missing/x.html"), "No such file or directory");
    let there = dir.join("there.json");
    fs::create_dir(&there).unwrap();
    report_fails(dir, &there, "is a directory");
    report_fails(dir, Path::new("/dev/null/x.sarif"), "Not a directory");
    let locked = dir.join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    match fs::write(locked.join("probe"), "") {
        Ok(()) => {
            fs::remove_file(locked.join("probe")).unwrap();
            skipped("root writes into any directory, so none is locked");
        }
        Err(_) => report_fails(dir, &locked.join("x.csv"), "Permission denied"),
    }
    let out = btfleet(&["check", OBJECT, "-k", NEW, "--report", "x.pdf"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("x.pdf: the ending says the format, .jsonl, .json"), "{}", stderr(&out));
}

/// A file system of 64 KiB, unmounted at the end.
struct Small(PathBuf);

impl Small {
    fn at(path: PathBuf) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let args = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", path.to_str().unwrap()];
        let out = Command::new("mount").args(args).output();
        out.is_ok_and(|it| it.status.success()).then_some(Self(path))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Check that a report for which there is no space leaves the earlier one as it is.
#[test]
fn a_full_disk_leaves_the_earlier_report() {
    let dir = tempfile::tempdir().unwrap();
    let Some(small) = Small::at(dir.path().join("small")) else {
        return skipped("no file system can be mounted here, so none is full");
    };
    let earlier = small.0.join("x.html");
    fs::write(&earlier, "earlier").unwrap();
    report_fails(&small.0, &earlier, "No space left on device");
    assert_eq!(fs::read_to_string(&earlier).unwrap(), "earlier");
}

/// A program, and a field of the same length as one of the sample's, that would do something to most readers.
const PROGRAM: &str = "=1+\u{202e}<b>,x";
const FIELD: &str = "<i>\n\u{1b}[A";

/// Files with such names below `dir`: an object with such names inside, and a kernel.
fn hostile(dir: &Path) -> (String, String) {
    let mut object = fs::read(samples().join(OBJECT)).unwrap();
    for (name, other) in [("access_time", PROGRAM), ("i_atime", FIELD)] {
        assert_eq!(name.len(), other.len());
        let places: Vec<usize> =
            (0..object.len()).filter(|at| object[*at..].starts_with(name.as_bytes())).collect();
        assert!(!places.is_empty());
        places.into_iter().for_each(|at| object[at..at + name.len()].copy_from_slice(other.as_bytes()));
    }
    let name = "\u{1b}]0;x\u{7}a\nbtfleet: fine, <script>\u{2028}|`x`\t\u{9b}1m";
    let path = dir.join(format!("{name}.bpf.o"));
    let kernel = dir.join(format!("6.1.0-{name}.btf.zst"));
    fs::write(&path, object).unwrap();
    fs::copy(samples().join(NEW), &kernel).unwrap();
    (path.to_str().unwrap().to_owned(), kernel.to_str().unwrap().to_owned())
}

/// Check that no name gets through to a terminal with what it would do there.
#[test]
fn names_do_nothing_to_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let (object, kernel) = hostile(dir.path());
    let pack = dir.path().join("fleet\u{1b}[2J.pack").to_str().unwrap().to_owned();
    let commands: [&[&str]; 15] = [
        &["check", &object, "-k", &kernel, "--details"],
        &["check", &object, "-k", &kernel, "--compare-loaders"],
        &["check", &object, "-k", OLD, "--new", &kernel],
        &["resolve", &object, "-k", &kernel],
        &["explain", &object, "--program", PROGRAM, "-k", &kernel],
        &["explain", &object, "-k", &kernel],
        &["explain", &object, "--insn", "4242", "-k", &kernel],
        &["classes", &object, "-k", &kernel, OLD],
        &["classes", &object, "-k", &kernel, OLD, "--emit", "vmtest"],
        &["diff", OLD, &kernel, &object],
        &["inspect", &object, &kernel],
        &["pack", "add", &pack, &kernel],
        &["pack", "ls", &pack],
        &["pack", "rm", &pack, "a\n\u{1b}[2J"],
        &["check", &kernel, "-k", &object],
    ];
    for args in commands {
        for columns in ["20", "110"] {
            let out = command(args).env("COLUMNS", columns).output().unwrap();
            for text in [stdout(&out), stderr(&out)] {
                let bad = text.chars().find(|it| {
                    it.is_control() && *it != '\n' || matches!(it, '\u{2028}' | '\u{202e}' | '\u{feff}')
                });
                assert_eq!(bad, None, "{args:?}: {text:?}");
                assert!(!text.lines().any(|it| it.starts_with("btfleet: fine")), "{args:?}: {text}");
            }
        }
    }
}

/// Check that names are what they are in formats for machines, and no markup where markup is read.
#[test]
fn names_are_data_in_reports() {
    let dir = tempfile::tempdir().unwrap();
    let (object, kernel) = hostile(dir.path());
    let report = |format: &str| {
        let out = btfleet(&["check", &object, "-k", &kernel, "--format", format]);
        assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
        stdout(&out)
    };
    for format in ["jsonl", "json", "sarif"] {
        let text = report(format);
        let whole: Vec<Value> =
            serde_json::Deserializer::from_str(&text).into_iter().map(Result::unwrap).collect();
        let all = Value::from(whole).to_string();
        for name in [object.as_str(), &kernel, PROGRAM, FIELD] {
            let shown = Value::from(name).to_string();
            let inside = shown.trim_matches('"');
            assert!(all.contains(inside) || format == "sarif" && name == object, "{format}: {inside}\n{all}");
        }
    }
    // Formulas too: what a spreadsheet makes of them is for its import to say.
    let text = report("csv");
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert!(rows.iter().all(|it| it[0] == object && it[3] == kernel));
    assert!(rows.iter().any(|it| &it[1] == PROGRAM && it[12] == format!("inode.{FIELD}.tv_sec")));
    let text = report("junit");
    let document = roxmltree::Document::parse(&text).unwrap();
    let cases: Vec<_> = document.descendants().filter(|it| it.has_tag_name("testcase")).collect();
    assert_eq!(cases.len(), 6);
    assert!(cases.iter().any(|it| it.attribute("classname").unwrap().ends_with(&format!(".{PROGRAM}"))));
    let text = report("markdown");
    assert!(!text.contains("<b>") && !text.contains("<i>") && !text.contains("<script"), "{text}");
    assert!(!text.contains(|it: char| it.is_control() && it != '\n' || it == '\u{202e}'), "{text:?}");
    let row = text.lines().find(|it| it.contains("&lt;i&gt;")).unwrap();
    assert_eq!(row.matches(" | ").count(), 5, "a name adds no column, and no line: {row}");
    let text = report("html");
    assert!(!text.contains(PROGRAM) && !text.contains("<i>"), "names are in its data only");
}

/// Check that what makes no sense is said with what would.
#[test]
fn options_that_make_no_sense_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let hosts = dir.path().join("hosts.csv").to_str().unwrap().to_owned();
    fs::write(&hosts, "host,os\na,b\n").unwrap();
    let check = ["check", OBJECT, "-k", NEW];
    for (more, want) in [
        (["--where", "colour=red"], "'colour' is no field of kernels, which are name, release, "),
        (["--where", "release~6"], "behind 'release', one of = != < <= > >= is expected"),
        (["--inventory", &hosts], "hosts.csv: "),
        (["--report", "fleet.pdf"], "fleet.pdf: the ending says the format"),
        (["--report", "fleet"], "fleet: the ending says the format"),
        (["--sort", "size"], "[possible values: worst, name, kernels, programs]"),
        (["--format", "pdf"], "[possible values: table, "),
    ] {
        let out = btfleet(&[&check[..], &more].concat());
        assert_eq!(out.status.code(), Some(2), "{more:?}: {}", stderr(&out));
        assert!(stderr(&out).contains(want), "{want} is not in\n{}", stderr(&out));
        assert_eq!(stdout(&out), "", "{more:?}");
    }
}
