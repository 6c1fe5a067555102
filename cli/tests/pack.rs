//! `btfleet pack` as a user and a script meet it, on the committed samples.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

const OLD: &str = "5.10.0-46-cloud-amd64.btf.zst";
const NEW: &str = "7.3.4+deb13-cloud-amd64.btf.zst";
const BIG_ENDIAN: &str = "6.12.107+deb13-generic-s390x.btf.zst";

fn kernel(name: &str) -> String {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples/kernels");
    kernels.join(name).canonicalize().unwrap().to_str().unwrap().to_owned()
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_btfleet"));
    command.args(args).env_remove("NO_COLOR");
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

/// A directory and the path of a pack in it.
fn scratch() -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let pack = dir.path().join("fleet.pack").to_str().unwrap().to_owned();
    (dir, pack)
}

fn rows(pack: &str) -> Vec<Value> {
    let out = btfleet(&["pack", "ls", pack, "--format", "jsonl"]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    stdout(&out).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Check that kernels go in, are listed with what their names say, get second names, and go out again.
#[test]
fn kernels_go_in_and_out() {
    let (dir, pack) = scratch();
    let out = btfleet(&["pack", "add", &pack, &kernel(OLD), &kernel(BIG_ENDIAN)]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    assert!(stdout(&out).starts_with("2 kernels added; "), "{}", stdout(&out));
    let out = btfleet(&["pack", "add", &pack, &kernel(OLD), "--name", "golden", "--flavour", "none"]);
    assert!(stdout(&out).starts_with("0 kernels added, 1 under a further name; "), "{}", stdout(&out));
    let out = btfleet(&["pack", "add", &pack, &kernel(OLD)]);
    assert!(stdout(&out).contains("1 there already; 0 bytes written"), "{}", stdout(&out));
    let all = rows(&pack);
    assert_eq!(all.len(), 3);
    assert_eq!(all[0]["names"], Value::from(vec![kernel(OLD), "golden".into()]));
    assert_eq!(all[0]["release"], "5.10.0-46-cloud-amd64");
    assert_eq!(all[0]["flavour"], "cloud");
    assert_eq!((&all[1]["byte_order"], &all[1]["arch"]), (&"big".into(), &"s390x".into()));
    assert_eq!(
        (&all[2]["t"], &all[2]["kernels"], &all[2]["segments"]),
        (&"end".into(), &2.into(), &2.into())
    );
    let table = stdout(&btfleet(&["pack", "ls", &pack]));
    assert!(table.contains("2 kernels with 0 modules"), "{table}");
    let out = btfleet(&["pack", "rm", &pack, &kernel(OLD), &kernel(BIG_ENDIAN)]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    assert_eq!(rows(&pack)[0]["names"], Value::from(vec!["golden"]));
    assert_eq!(btfleet(&["pack", "rm", &pack, "unheard of"]).status.code(), Some(2));
    assert_eq!(btfleet(&["pack", "verify", &pack]).status.code(), Some(0));
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let out = btfleet(&["pack", "verify", &pack]);
    assert_eq!(out.status.code(), Some(3));
    assert!(stderr(&out).contains("damaged pack"), "{}", stderr(&out));
    assert_eq!(btfleet(&["pack", "compact", &pack]).status.code(), Some(3), "damage is not laundered");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside the pack");
}

/// Check that one bad kernel among good ones is named and left out, and that nothing is made of bad ones alone.
#[test]
fn bad_kernels_are_left_out() {
    let (dir, pack) = scratch();
    let bad = dir.path().join("bad.btf").to_str().unwrap().to_owned();
    fs::write(&bad, b"\x9f\xeb\x01").unwrap();
    let out = btfleet(&["pack", "add", &pack, &bad]);
    assert_eq!(out.status.code(), Some(3));
    assert!(!Path::new(&pack).exists());
    let out = btfleet(&["pack", "add", &pack, &bad, &kernel(NEW)]);
    assert_eq!(out.status.code(), Some(3));
    assert!(stdout(&out).starts_with("1 kernel added, 1 not added; "), "{}", stdout(&out));
    assert!(stderr(&out).contains("bad.btf"), "{}", stderr(&out));
}

/// Check that of two runs that add at the same time neither loses what the other added, new pack or not.
#[test]
fn two_runs_at_once_lose_nothing() {
    for round in 0..4 {
        let (_dir, pack) = scratch();
        if round % 2 == 1 {
            assert_eq!(btfleet(&["pack", "add", &pack, &kernel(BIG_ENDIAN)]).status.code(), Some(0));
        }
        let runs = [OLD, NEW].map(|name| {
            command(&["pack", "add", &pack, &kernel(name)])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        });
        for run in runs {
            let out = run.wait_with_output().unwrap();
            assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        }
        assert_eq!(rows(&pack).len(), 3 + round % 2);
        assert_eq!(btfleet(&["pack", "verify", &pack]).status.code(), Some(0));
    }
}

/// Check that a run that is killed leaves the state before it or after it, wherever it was.
#[test]
fn a_killed_run_leaves_a_whole_pack() {
    let (_dir, pack) = scratch();
    assert_eq!(btfleet(&["pack", "add", &pack, &kernel(OLD)]).status.code(), Some(0));
    let before = fs::read(&pack).unwrap();
    for round in 0..30_u64 {
        fs::write(&pack, &before).unwrap();
        let verb: &[&str] =
            if round % 3 == 2 { &["pack", "compact", &pack] } else { &["pack", "add", &pack, &kernel(NEW)] };
        let mut run = command(verb).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(round * 7 % 100));
        run.kill().unwrap();
        run.wait().unwrap();
        let out = btfleet(&["pack", "verify", &pack]);
        assert_eq!(out.status.code(), Some(0), "round {round}: {}", stderr(&out));
        let count = rows(&pack).len();
        assert!((2..=3).contains(&count), "round {round}: {count} rows");
    }
}
