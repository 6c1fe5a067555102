//! `btfleet explain` on real failures of the samples.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const OLD: &str = "5.10.0-46-cloud-amd64.btf.zst";
const NEW: &str = "7.3.4+deb13-cloud-amd64.btf.zst";

fn explain(object: &str, kernel: &str, args: &[&str]) -> Output {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples");
    Command::new(env!("CARGO_BIN_EXE_btfleet"))
        // Wide enough for what is looked for: paths of samples are long.
        .env("COLUMNS", "240")
        .arg("explain")
        .arg(samples.join("objects").join(object))
        .arg("--kernel")
        .arg(samples.join("kernels").join(kernel))
        .args(args)
        .output()
        .unwrap()
}

/// Runs `explain`, demands that it succeeds and says all of `expected`, and returns the text.
fn check(object: &str, kernel: &str, args: &[&str], expected: &[&str]) -> String {
    let out = explain(object, kernel, args);
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    for phrase in expected {
        assert!(text.contains(phrase), "{phrase} is not in\n{text}");
    }
    text
}

/// Check that a renamed field is explained with both structs, the new name and what to do.
#[test]
fn a_renamed_field_is_found_under_its_new_name() {
    let text = check(
        "unguarded_read.bpf.o",
        NEW,
        &["--program", "access_time"],
        &[
            "inode.i_atime.tv_sec in access_time (fentry/vfs_write+56)",
            "unguarded_read.bpf.c:61",
            "no-field, 0 → poison",
            "struct inode has no member `i_atime`",
            "`time64_t i_atime_sec` at byte 88",
            "bpf_core_field_exists(p->i_atime.tv_sec)",
            "call unknown#195896080",
            "failed to resolve CO-RE relocation <byte_off> [16] struct inode.i_atime.tv_sec (0:0:0 @ offset 0)",
        ],
    );
    assert!(text.lines().count() <= 45, "more than a screen:\n{text}");
}

/// Check that an ambiguity names the types that disagree, and why there are two.
#[test]
fn an_ambiguity_names_the_types_that_disagree() {
    check(
        "conntrack_id.bpf.o",
        NEW,
        &["--program", "kernel_id", "--insn", "0"],
        &[
            "ambiguous-value (libbpf: -22)",
            "[95310] struct nf_conn___init has it: 95310",
            "none of its programs loads",
            "flavors are cut from the kernel's names as well",
            "libbpf: prog 'kernel_id': relo #0: relocation decision ambiguity: success 95310 != success 95309",
        ],
    );
}

/// Check that a changed type is shown on both sides.
#[test]
fn a_changed_type_is_shown_on_both_sides() {
    check(
        "unguarded_read.bpf.o",
        NEW,
        &["--program", "page_flags"],
        &["field-incompatible", "wanted", "unsigned long flags", "struct page has `memdesc_flags_t flags`"],
    );
}

/// Check that an access behind a guard is recognised as one.
#[test]
fn a_guarded_access_is_told_apart() {
    check(
        "task_state.bpf.o",
        OLD,
        &["--section", "tp_btf/sched_switch", "--insn", "104"],
        &["no-field", "The program asks whether it exists, at tp_btf/sched_switch+88", "is to be done"],
    );
}

/// Check that a program with several failures gets an overview with a way to each.
#[test]
fn several_failures_get_an_overview() {
    let text = check(
        "unguarded_read.bpf.o",
        NEW,
        &[],
        &["6 of 10 records do not resolve", "more: --section fentry/vfs_read --insn 8"],
    );
    assert!(text.lines().count() <= 45, "more than a screen:\n{text}");
}

/// Check that the JSON has the same content.
#[test]
fn json_has_the_same_content() {
    let text = check("unguarded_read.bpf.o", NEW, &["--program", "access_time", "--format", "json"], &[]);
    let value: Value = serde_json::from_str(&text).unwrap();
    let record = value["records"].as_array().unwrap().iter().find(|it| it["poisoned"] == true).unwrap();
    assert_eq!(record["code"], "no-field");
    assert_eq!(record["candidates"][0]["state"], "lacks");
    assert_eq!(record["candidates"][0]["step"], "member `i_atime`");
    assert!(record["nearest"][0].as_str().unwrap().contains("i_atime_sec"));
    assert_eq!(record["target"]["layout"]["title"], "struct inode");
    assert_eq!(record["insn_after"], "call unknown#195896080 (the poison)");
    assert!(record["advice"].as_array().unwrap().len() >= 2);
}

/// Check that a record that does not exist lists those that do.
#[test]
fn a_record_that_does_not_exist_lists_those_that_do() {
    let out = explain("unguarded_read.bpf.o", NEW, &["--insn", "4242"]);
    assert_eq!(out.status.code(), Some(2));
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(text.contains("there is no such record; these there are:"), "{text}");
    assert!(text.contains("--section fentry/vfs_read --insn 8"), "{text}");
    let none = explain("xdp_count.bpf.o", NEW, &[]);
    assert_eq!(none.status.code(), Some(2));
    assert!(String::from_utf8(none.stderr).unwrap().contains("has no CO-RE records"));
}

/// Check that every record of every sample can be explained on an old and a new kernel.
#[test]
fn every_record_of_the_samples_can_be_explained() {
    let objects = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples/objects");
    let mut explained = 0;
    for entry in std::fs::read_dir(objects).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.contains(".be.") || name == "xdp_count.bpf.o" {
            continue;
        }
        for kernel in [OLD, NEW] {
            let text = check(&name, kernel, &["--verbose"], &["wanted"]);
            explained += text.matches("\non ").count();
        }
    }
    assert!(explained > 500, "{explained}");
}

/// Check that the command that `check` shows for an object inside of another file explains that object.
#[test]
fn objects_inside_of_files_are_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples");
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("all.tar");
    let tar =
        Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&root).arg("objects").output().unwrap();
    assert!(tar.status.success());
    let kernel = root.join("kernels").join(NEW);
    let btfleet = |args: &str| {
        let shell = format!("exec {} {args}", env!("CARGO_BIN_EXE_btfleet"));
        Command::new("sh").args(["-c", &shell]).current_dir(dir.path()).output().unwrap()
    };
    let out = btfleet(&format!("check all.tar --kernels {} --program access_time", kernel.display()));
    let text = String::from_utf8(out.stdout).unwrap();
    let command = text.lines().find_map(|it| it.trim().strip_prefix("btfleet ")).unwrap();
    assert!(
        command.starts_with("explain 'all.tar!/objects/unguarded_read.bpf.o' --program access_time"),
        "{command}"
    );
    let text = String::from_utf8(btfleet(command).stdout).unwrap();
    assert!(text.contains("inode.i_atime.tv_sec in access_time (fentry/vfs_write+56)"), "{text}");
    for (object, told) in [
        ("all.tar", "names 26 objects; explain takes one, such as 'all.tar!/objects/"),
        ("'all.tar!/objects/none.bpf.o'", "there is no object all.tar!/objects/none.bpf.o"),
    ] {
        let out = btfleet(&format!("explain {object} --kernel {}", kernel.display()));
        assert_eq!(out.status.code(), Some(2));
        let text = String::from_utf8(out.stderr).unwrap();
        assert!(text.contains(told), "{text}");
    }
}

/// Check that the command that `check` shows has what its verdict rests on, and so comes to the same.
#[test]
fn explanations_are_of_the_same_run() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples");
    let btfleet = |args: &str| {
        let shell = format!("exec {} {args}", env!("CARGO_BIN_EXE_btfleet"));
        let out = Command::new("sh").args(["-c", &shell]).current_dir(&samples).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    let old = "kernels/5.10.0-46-cloud-amd64.btf.zst";
    for (object, asked, finds) in [
        ("kernel_bits", "--validate strict", "bitfield-not-shifted"),
        ("unguarded_read", "--loader aya", "no-field"),
        ("unguarded_read", "--loader kernel:6.1", "no-field"),
        ("unguarded_read", "--modules all", "no-field"),
    ] {
        let text = btfleet(&format!("check objects/{object}.bpf.o -k {old} {asked}"));
        let command = text.lines().find_map(|it| it.trim().strip_prefix("btfleet ")).unwrap();
        assert!(command.ends_with(asked), "{command}");
        let explained = btfleet(command);
        assert!(explained.contains(finds) && !explained.starts_with("ok "), "{command}\n{explained}");
    }
}

/// Check that another loader's answer is explained with what is particular about it.
#[test]
fn other_loaders_are_explained() {
    let cache = "the kernel remembers candidates for all programs of the system";
    let text = check(
        "unguarded_read.bpf.o",
        NEW,
        &["--program", "access_time", "--loader", "kernel"],
        &["loaded by Linux 7.3.4: no-field", cache, "`inode`"],
    );
    assert!(!text.contains("libbpf logs"), "{text}");
    let types = ["--verbose", "--loader", "kernel"];
    check("type_queries.bpf.o", NEW, &types, &["no deeper than two levels"]);
    let text = check(
        "unguarded_read.bpf.o",
        NEW,
        &["--program", "access_time", "--loader", "aya"],
        &["loaded by aya-obj"],
    );
    assert!(!text.contains(cache), "{text}");
    let none = explain("unguarded_read.bpf.o", OLD, &["--loader", "kernel"]);
    assert_eq!(none.status.code(), Some(3));
    let told = String::from_utf8(none.stderr).unwrap();
    assert!(told.contains("kernels before 5.17 do not relocate programs themselves"), "{told}");
}
