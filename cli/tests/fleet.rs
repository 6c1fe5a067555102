//! Many objects on many kernels as a user and a script meet them: the same bytes for any number of threads and from a
//! pack, and what `classes` and `diff` say of the committed samples.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const OLD: &str = "kernels/5.10.0-46-cloud-amd64.btf.zst";
const NEW: &str = "kernels/7.3.4+deb13-cloud-amd64.btf.zst";
const BIG_ENDIAN: &str = "kernels/6.12.107+deb13-generic-s390x.btf.zst";

/// Runs the binary in the directory of the samples, so that names are short.
fn btfleet(args: &[&str]) -> Output {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples");
    Command::new(env!("CARGO_BIN_EXE_btfleet")).args(args).current_dir(samples).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What a run that is fine says.
fn fine(args: &[&str]) -> String {
    let out = btfleet(args);
    assert_eq!(out.status.code(), Some(0), "{args:?}: {}", stderr(&out));
    stdout(&out)
}

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// All files below a directory, by path within it.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Check that every verb over many kernels writes the same bytes with one thread and with two, from files and from a
/// pack of them.
#[test]
fn output_does_not_depend_on_threads_nor_on_packs() {
    let dir = tempfile::tempdir().unwrap();
    let pack = dir.path().join("fleet.pack").to_str().unwrap().to_owned();
    // Not the order of their names.
    let kernels = [NEW, OLD, BIG_ENDIAN];
    fine(&["pack", "add", &pack, kernels[0], kernels[1], kernels[2]]);
    let ways: [(&str, &[&str]); 4] = [("1", &kernels), ("2", &kernels), ("1", &[&pack]), ("2", &[&pack])];
    let verbs: [&[&str]; 7] = [
        &["check", "--format", "jsonl"],
        &["check", "--format", "table"],
        &["resolve", "--format", "jsonl"],
        &["resolve", "--format", "table"],
        &["classes"],
        &["classes", "--emit", "json"],
        &["classes", "--emit", "vmtest"],
    ];
    for verb in verbs {
        let all = ways.map(|(jobs, kernels)| {
            let out = btfleet(&[verb, &["objects", "-j", jobs, "-k"], kernels].concat());
            // Commands to paste name the pack, as they have to.
            let text = stdout(&out);
            let lines = text.lines().map(|it| it.split(" --kernel ").next().unwrap_or_default());
            (out.status.code(), lines.collect::<Vec<_>>().join("\n"))
        });
        assert!(all[0].1.lines().count() > 5, "{verb:?}: {}", all[0].1);
        for (one, (jobs, kernels)) in all.iter().zip(ways) {
            assert!(*one == all[0], "{verb:?} -j{jobs} -k {kernels:?}");
        }
    }
    let relocated = ways.map(|(jobs, kernels)| {
        let dir = tempfile::tempdir().unwrap();
        let into = dir.path().join("out");
        let into_text = into.to_str().unwrap();
        let out = btfleet(&[&["relocate", "objects", "-j", jobs, "-o", into_text, "-k"], kernels].concat());
        (out.status.code(), stdout(&out).replace(into_text, "OUT"), files(&into))
    });
    let (_, _, written) = &relocated[0];
    assert!(written.len() > 20 && written.keys().any(|it| it.contains("manifest")), "{:?}", written.keys());
    for (one, (jobs, kernels)) in relocated.iter().zip(ways) {
        assert!(*one == relocated[0], "relocate -j{jobs} -k {kernels:?}");
    }
}

/// Check that a kernel that is cut short is named and left out of a pack, and the others go in.
#[test]
fn a_defective_kernel_does_not_keep_others_out_of_a_pack() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (pack, cut) = (path("fleet.pack"), path("cut.btf.zst"));
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples");
    let whole = fs::read(samples.join(OLD)).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let out = btfleet(&["pack", "add", &pack, OLD, &cut, NEW]);
    assert_eq!(out.status.code(), Some(3));
    assert!(stdout(&out).starts_with("2 kernels added, 1 not added; "), "{}", stdout(&out));
    assert!(stderr(&out).contains("cut.btf.zst"), "{}", stderr(&out));
    let listed = rows(&fine(&["pack", "ls", &pack, "--format", "jsonl"]));
    let names: Vec<&Value> = listed.iter().filter_map(|row| row["names"].get(0)).collect();
    assert_eq!(names, [OLD, NEW]);
    assert_eq!(
        fine(&["classes", "objects/task_state.bpf.o", "-k", &pack, "--emit", "list"]).lines().count(),
        2
    );
}

/// Check that kernels are put together that an object cannot tell apart, and one of each class is to boot, in all forms.
#[test]
fn classes_say_what_to_boot() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.btf.zst").to_str().unwrap().to_owned();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples");
    fs::copy(samples.join(NEW), &copy).unwrap();
    let classes = |emit: &[&str]| {
        fine(&[&["classes", "objects/task_state.bpf.o"], emit, &["-k", OLD, NEW, &copy]].concat())
    };
    assert_eq!(classes(&["--emit", "list"]).lines().collect::<Vec<_>>(), [OLD, NEW]);
    let report: Value = serde_json::from_str(&classes(&["--emit", "json"])).unwrap();
    let of = |class: &Value| (class["representative"].clone(), class["kernels"].clone());
    let expected = [(OLD.into(), vec![OLD].into()), (NEW.into(), vec![NEW, &copy].into())];
    let found: Vec<(Value, Value)> = report["classes"].as_array().unwrap().iter().map(of).collect();
    assert_eq!(found, expected);
    assert_eq!(report["boot"], Value::from(vec![OLD, NEW]));
    assert_eq!((&report["boot_is_smallest"], &report["complete"]), (&true.into(), &true.into()));
    assert_eq!((&report["payloads"], &report["t"]), (&2.into(), &"classes".into()));
    assert_eq!(report["objects"][0]["object"], "objects/task_state.bpf.o");
    assert_eq!(report["objects"][0]["classes"], report["classes"]);
    let vmtest = classes(&["--emit", "vmtest"]);
    assert_eq!(vmtest.matches("[[target]]").count(), 2, "{vmtest}");
    assert!(vmtest.contains("kernel = \"vmlinuz-7.3.4+deb13-cloud-amd64\""), "{vmtest}");
    let table = classes(&[]);
    assert!(table.contains("boot  C1  kernels/5.10.0-46-cloud-amd64.btf.zst"), "{table}");
    assert!(table.contains(&format!("and 1: {copy}")), "{table}");
    assert!(
        table.starts_with("1 object on 3 kernels: 2 classes, 2 to boot, 2 payloads to sign\n"),
        "{table}"
    );
}

/// Check that `diff` shows what objects depend on and no more, the same in both forms, and all of it without objects.
#[test]
fn diff_shows_what_changed() {
    let text = fine(&["diff", OLD, NEW, "objects"]);
    for expected in [
        "~ struct cgroup  2688 -> 2368 bytes\n",
        "    ~ level: int at byte 208, 4 bytes -> int at byte 256, 4 bytes\n",
        "    - ancestor_ids: u64[0] at byte 2688, 0 bytes\n",
        "    + __state: unsigned int at byte 24, 4 bytes\n",
        "+ struct folio\n",
        " of what the objects depend on\n",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    let counts = |text: &str| {
        let line = text.lines().nth(1).unwrap().to_owned();
        let number = |word: &str| -> usize {
            let before = line.split(word).next().unwrap().trim();
            before.rsplit(' ').next().unwrap().parse().unwrap()
        };
        ["appeared", "vanished", "changed"].map(number)
    };
    for objects in [&["objects"][..], &[]] {
        let args = [&["diff", OLD, NEW][..], objects].concat();
        let text = fine(&args);
        let rows = rows(&fine(&[&args[..], &["--format", "jsonl"]].concat()));
        let (end, rows) = rows.split_last().unwrap();
        let count = |what: &str| rows.iter().filter(|row| row["what"] == what).count();
        assert_eq!(counts(&text), ["appeared", "vanished", "changed"].map(count));
        assert_eq!((&end["t"], &end["rows"]), (&"end".into(), &rows.len().into()));
        assert_eq!(end["restricted"], Value::from(!objects.is_empty()));
        let cgroup = rows.iter().find(|row| row["name"] == "cgroup" && row["kind"] == "struct").unwrap();
        assert_eq!(cgroup["size"], Value::from(vec![2688, 2368]));
        let level = cgroup["parts"].as_array().unwrap().iter().find(|it| it["name"] == "level").unwrap();
        assert_eq!((&level["old"]["bit_offset"], &level["new"]["bit_offset"]), (&1664.into(), &2048.into()));
    }
    let all = counts(&fine(&["diff", OLD, NEW]));
    let [appeared, vanished, changed] = all;
    assert!(appeared > 10_000 && vanished > 2_000 && changed > 2_000, "{all:?}");
    // The other way round, what appeared vanished.
    assert_eq!(counts(&fine(&["diff", NEW, OLD])), [vanished, appeared, changed]);
    assert_eq!(counts(&fine(&["diff", OLD, OLD])), [0, 0, 0]);
}

/// Check that one kernel of a pack is named behind a colon, by its whole name or the last part, and that it explains
/// and compares as its own file does.
#[test]
fn one_kernel_of_a_pack_is_taken_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let pack = dir.path().join("fleet.pack").to_str().unwrap().to_owned();
    fine(&["pack", "add", &pack, OLD, NEW]);
    let object = "objects/unguarded_read.bpf.o";
    let of_pack = [format!("{pack}:{NEW}"), format!("{pack}:7.3.4+deb13-cloud-amd64")];
    for kernel in of_pack {
        let explain = |kernel: &str| fine(&["explain", object, "--verbose", "-k", kernel]);
        assert_eq!(explain(&kernel), explain(NEW));
        let old = format!("{pack}:5.10.0-46-cloud-amd64");
        assert_eq!(fine(&["diff", &old, &kernel, object]), fine(&["diff", OLD, NEW, object]));
        assert_eq!(fine(&["diff", &old, &kernel]), fine(&["diff", OLD, NEW]));
    }
    let out = btfleet(&["check", object, "-k", &format!("{pack}:none")]);
    assert_eq!(out.status.code(), Some(3));
    assert!(stderr(&out).contains("no kernel in the pack has the name none"), "{}", stderr(&out));
    // Of several kernels, the first on which something fails is explained, with since when it does.
    let out = btfleet(&["explain", object, "--program", "access_time", "-k", &pack]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let text = String::from_utf8(out.stdout).unwrap();
    for phrase in
        [&format!("on {NEW}: no-field"), "no-field on all of 1 kernel", "resolves on all 1 kernel of 1 other"]
    {
        assert!(text.contains(phrase), "{phrase} is not in\n{text}");
    }
}
