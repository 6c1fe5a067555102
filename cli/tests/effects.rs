//! Every effect of what a kernel lacks, on programs written for it (`tests/effects`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const OLD: &str = "5.10.0-46-cloud-amd64.btf.zst";
const NEW: &str = "7.3.4+deb13-cloud-amd64.btf.zst";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// By program: its verdict, and the effects of its findings in order.
type Judged = BTreeMap<String, (String, Vec<String>, Vec<String>)>;

fn check(kernel: &str, args: &[&str]) -> Judged {
    let out = Command::new(env!("CARGO_BIN_EXE_btfleet"))
        .arg("check")
        .arg(root().join("tests/effects/objects/effects.bpf.o"))
        .arg("--kernels")
        .arg(root().join("workloads/samples/kernels").join(kernel))
        .args(["--format", "jsonl"])
        .args(args)
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let rows = text.lines().map(|it| serde_json::from_str::<Value>(it).unwrap());
    let string = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    let verdicts = rows.filter(|it| it.get("t").is_some_and(|it| it == "verdict"));
    verdicts
        .map(|row| {
            let list = |name: &str| row.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
            let get = |name: &str| row.get(name).map(string).unwrap_or_default();
            let findings = list("findings");
            let effects = findings.iter().filter_map(|it| it.get("effect")).map(string).collect();
            let assumptions = list("assumptions").iter().map(string).collect();
            assert_eq!(get("confidence"), "proved");
            (get("program"), (get("verdict"), effects, assumptions))
        })
        .collect()
}

fn assert_programs(judged: &Judged, wanted: &[(&str, &str, &[&str])]) {
    for (program, verdict, effects) in wanted {
        let (found, found_effects, _) = judged.get(*program).unwrap_or_else(|| panic!("no {program}"));
        assert_eq!(
            (found.as_str(), found_effects.as_slice()),
            (*verdict, &effects.map_string()[..]),
            "{program}"
        );
    }
    assert_eq!(judged.len(), wanted.len());
}

trait MapString {
    fn map_string(&self) -> Vec<String>;
}

impl MapString for &[&str] {
    fn map_string(&self) -> Vec<String> {
        self.iter().map(|it| (*it).to_owned()).collect()
    }
}

/// Check that programs fail where the verifier gets to what is missing, and are fine where a guard that it understands
/// keeps it away.
#[test]
fn guards_count_where_the_verifier_understands_them() {
    const DEAD: &[&str] = &["poisoned-dead"];
    const LIVE: &[&str] = &["poisoned-live"];
    let old = check(OLD, &[]);
    assert_programs(
        &old,
        &[
            ("unguarded", "ok", &[]),
            ("guarded", "ok", DEAD),
            ("guarded_by_another", "ok", &[]),
            ("guarded_by_variable", "ok", DEAD),
            ("guarded_by_global", "ok", &[]),
            ("guarded_by_argument", "ok", &[]),
            ("guarded_by_global_argument", "ok", &[]),
            ("guarded_by_version", "ok", &[]),
            ("off_by_constant", "ok", &[]),
            ("on_by_constant", "fail-reloc", LIVE),
            ("guarded_by_config", "ok", &[]),
            ("both_ways_by_config", "ok", &[]),
            ("weak_guarded", "ok", &["poisoned-dead", "poisoned-dead"]),
            ("weak_unguarded", "fail-symbol", &["poisoned-live", "poisoned-live"]),
        ],
    );
    let new = check(NEW, &[]);
    assert_programs(
        &new,
        &[
            ("unguarded", "fail-reloc", LIVE),
            ("guarded", "ok", DEAD),
            ("guarded_by_another", "fail-reloc", LIVE),
            ("guarded_by_variable", "ok", DEAD),
            ("guarded_by_global", "fail-reloc", LIVE),
            ("guarded_by_argument", "ok", DEAD),
            ("guarded_by_global_argument", "fail-reloc", LIVE),
            ("guarded_by_version", "ok", DEAD),
            ("off_by_constant", "ok", DEAD),
            ("on_by_constant", "ok", &[]),
            ("guarded_by_config", "conditional", &["poisoned-conditional"]),
            ("both_ways_by_config", "fail-reloc", LIVE),
            ("weak_guarded", "ok", &[]),
            ("weak_unguarded", "ok", &[]),
        ],
    );
    let assumed =
        |judged: &Judged, program: &str| judged.get(program).map(|it| it.2.clone()).unwrap_or_default();
    assert_eq!(assumed(&new, "off_by_constant"), ["use_old in .rodata is 0, as in the object"]);
    assert_eq!(assumed(&old, "on_by_constant"), ["use_new in .rodata is 1, as in the object"]);
    assert_eq!(assumed(&new, "guarded_by_config"), ["CONFIG_NUMA is not known"]);
    assert!(assumed(&new, "guarded").is_empty());
    assert!(assumed(&new, "both_ways_by_config").is_empty());
}

/// Check that values that the loader sets, and a configuration, decide what rests on them.
#[test]
fn constants_and_configuration_can_be_given() {
    let verdict =
        |judged: &Judged, program: &str| judged.get(program).map(|it| it.0.clone()).unwrap_or_default();
    let on = check(NEW, &["--rodata", "use_old=1"]);
    assert_eq!(verdict(&on, "off_by_constant"), "fail-reloc");
    let open = check(NEW, &["--rodata", "use_old=unknown"]);
    assert_eq!(verdict(&open, "off_by_constant"), "conditional");
    let off = check(OLD, &["--rodata", "use_new=false"]);
    assert_eq!(verdict(&off, "on_by_constant"), "ok");
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config");
    for (text, wanted) in [("CONFIG_SMP=y\n", "ok"), ("CONFIG_NUMA=y\n", "fail-reloc")] {
        std::fs::write(&config, text).unwrap();
        let judged = check(NEW, &["--kconfig", config.to_str().unwrap()]);
        assert_eq!(verdict(&judged, "guarded_by_config"), wanted, "{text}");
    }
}

/// Check that --fail-on tells what is conditional from what fails.
#[test]
fn what_is_conditional_is_a_finding_if_asked_for() {
    let code = |fail_on: &str| {
        let args = ["--loader", "kernel:6.12", "--rodata", "use_new=unknown", "--fail-on", fail_on];
        let out = Command::new(env!("CARGO_BIN_EXE_btfleet"))
            .arg("check")
            .arg(root().join("tests/effects/objects/effects.bpf.o"))
            .arg("--kernels")
            .arg(root().join("workloads/samples/kernels").join(OLD))
            .args(args)
            .output()
            .unwrap();
        out.status.code()
    };
    assert_eq!(["fail", "unknown", "conditional", "drift", "never"].map(code), [0, 0, 1, 1, 0].map(Some));
}

/// Check that the branch that keeps the verifier away is named, with what decides it.
#[test]
fn explain_names_the_guard() {
    let out = Command::new(env!("CARGO_BIN_EXE_btfleet"))
        .arg("explain")
        // Wide enough for what is looked for.
        .env("COLUMNS", "240")
        .arg(root().join("tests/effects/objects/effects.bpf.o"))
        .args(["--program", "guarded", "--kernel"])
        .arg(root().join("workloads/samples/kernels").join(NEW))
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    for phrase in ["reached  in guarded: no", "always goes another way: field_exists of inode.i_atime is 0"] {
        assert!(text.contains(phrase), "{phrase} is not in\n{text}");
    }
}
