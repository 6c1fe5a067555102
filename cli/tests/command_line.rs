//! The binary as a user and a script meet it, on the committed samples.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const OLD: &str = "5.10.0-46-cloud-amd64.btf.zst";
const NEW: &str = "7.3.4+deb13-cloud-amd64.btf.zst";
const BIG_ENDIAN: &str = "6.12.107+deb13-generic-s390x.btf.zst";

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples").canonicalize().unwrap()
}

fn object(name: &str) -> String {
    samples().join("objects").join(name).to_str().unwrap().to_owned()
}

fn kernel(name: &str) -> String {
    samples().join("kernels").join(name).to_str().unwrap().to_owned()
}

fn btfleet(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_btfleet")).args(args).env_remove("NO_COLOR").output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn rows(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Check that the main job on real input finds what the samples were made to show, and exits with 1.
#[test]
fn check_names_the_causes_and_fails() {
    let out = btfleet(&["check", &object(""), "--kernels", &kernel(""), "--details"]);
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    let text = stdout(&out);
    for expected in [
        "fails ambiguous-value nf_conn (target_type_id)",
        "fails width-mismatch rq.dl.dl_nr_running (byte_off)",
        "fails no-field inode.i_atime.tv_sec (byte_off)",
        "fails target-missing fentry/nf_confirm",
        "conditional target-needs-kallsyms kprobe/do_unlinkat, only in programs that need not load",
        "unguarded_read.bpf.o",
        "26 objects with 92 programs on 3 kernels",
        "not judged (byte order)",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "colours in a pipe");
}

/// Check that a run without findings on inputs that can all be judged exits with 0.
#[test]
fn check_of_a_portable_program_is_fine() {
    let out = btfleet(&["check", &object("exec_snoop.bpf.o"), "-k", &kernel(OLD), &kernel(NEW)]);
    assert_eq!(out.status.code(), Some(0), "{}", stdout(&out));
    assert!(stdout(&out).contains("1 object with"), "{}", stdout(&out));
}

/// Check that --fail-on moves the line between findings and the rest.
#[test]
fn fail_on_decides_what_counts_as_a_finding() {
    let code = |object_name: &str, fail_on: &str| {
        let args = ["check", &object(object_name), "-k", &kernel(NEW), "--fail-on", fail_on];
        btfleet(&args).status.code()
    };
    assert_eq!(code("narrow_load.bpf.o", "fail"), Some(1));
    assert_eq!(code("narrow_load.bpf.o", "never"), Some(0));
    // Poison behind a guard is no finding.
    assert_eq!(code("task_state.bpf.o", "fail"), Some(0));
    assert_eq!(code("task_state.bpf.o", "conditional"), Some(0));
}

/// Check that the output does not depend on the number of threads, in either format.
#[test]
fn output_is_the_same_for_any_number_of_threads() {
    for verb in ["check", "resolve"] {
        for format in ["table", "jsonl"] {
            let run = |jobs: &str| {
                btfleet(&[verb, &object(""), "-k", &kernel(""), "--format", format, "-j", jobs]).stdout
            };
            let one = run("1");
            assert!(!one.is_empty());
            for jobs in ["2", "7"] {
                assert!(run(jobs) == one, "{verb} --format {format} -j {jobs} differs from -j 1");
            }
        }
    }
}

/// Check that a reloc row has exactly the fields of the contract, with values as strings.
#[test]
fn reloc_rows_follow_the_schema() {
    let out = btfleet(&["resolve", &object("task_state.bpf.o"), "-k", &kernel(NEW), "--format", "jsonl"]);
    assert_eq!(out.status.code(), Some(0));
    let rows = rows(&out);
    let row = rows.iter().find(|row| row["path"] == "task_struct.pid").unwrap();
    let fields = "v t object kernel section program insn_off kind type_id root access path code reason fatal orig new \
                  unresolved poisoned validate orig_sz new_sz resize_fails target root_id target_module insn_before insn \
                  file line";
    let names: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected: Vec<&str> = fields.split_whitespace().collect();
    expected.sort_unstable();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    assert_eq!(row["v"], 1);
    assert_eq!(row["t"], "reloc");
    assert_eq!(row["kind"], "byte_off");
    assert_eq!(row["root"], "struct task_struct");
    assert_eq!(row["code"], "moved");
    assert_eq!(row["orig"], "0");
    assert_eq!(row["new"], "2872");
    assert_eq!(row["insn"].as_str().unwrap().len(), 16);
    assert_eq!(row["target_module"], Value::Null);
    let end = rows.last().unwrap();
    assert_eq!(end["t"], "end");
    assert_eq!(end["complete"], true);
    assert_eq!(end["rows"], rows.len() - 1);
    assert_eq!(end["models"], "libbpf f7081a6 (July 2026)");
}

/// Check the table of the contract: which fields hold values for which outcome.
#[test]
fn reloc_rows_hold_values_as_their_outcome_says() {
    let out = btfleet(&["resolve", &object(""), "-k", &kernel(OLD), &kernel(NEW), "--format", "jsonl"]);
    let (mut poisoned, mut unsafe_size, mut fatal, mut absent) = (0, 0, 0, 0);
    for row in rows(&out).iter().filter(|row| row["t"] == "reloc") {
        if row["fatal"] != Value::Null {
            fatal += 1;
            for field in ["orig", "new", "unresolved", "validate", "orig_sz", "new_sz", "resize_fails"] {
                assert_eq!(row[field], Value::Null, "{row}");
            }
            assert_eq!(row["poisoned"], false);
            assert_eq!(row["insn"], row["insn_before"]);
        } else if row["code"] == "size-unsafe" {
            unsafe_size += 1;
            assert_eq!((&row["unresolved"], &row["poisoned"]), (&false.into(), &true.into()), "{row}");
            assert_ne!(row["new"], Value::Null);
        } else if row["poisoned"] == true {
            poisoned += 1;
            assert_eq!((&row["unresolved"], &row["new"]), (&true.into(), &Value::Null), "{row}");
            assert!(row["insn"].as_str().unwrap().starts_with("8500000010"), "{row}");
        } else if row["reason"] != Value::Null {
            absent += 1;
            assert_eq!(row["new"], "0", "{row}");
        }
    }
    assert!(
        poisoned > 10 && unsafe_size > 0 && fatal > 0 && absent > 5,
        "{poisoned} {unsafe_size} {fatal} {absent}"
    );
}

/// Check that a verdict row has exactly the fields of the contract.
#[test]
fn verdict_rows_follow_the_schema() {
    let out = btfleet(&["check", &object("narrow_load.bpf.o"), "-k", &kernel(NEW), "--format", "jsonl"]);
    let rows = rows(&out);
    let row = rows.first().unwrap();
    let mut names: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    let mut expected: Vec<&str> =
        "v t object object_sha256 program section kernel autoload verdict judged aborted_by \
                                   confidence assumptions findings"
            .split_whitespace()
            .collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!(row["verdict"], "fail-reloc");
    assert_eq!(row["judged"], serde_json::json!(["co-re", "reach", "attach", "symbols", "drift"]));
    assert_eq!(row["object_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(row["aborted_by"]["code"], "width-mismatch");
    assert_eq!(row["findings"][0]["effect"], "aborts");
}

/// Check that one bad input becomes a row and a line, and the rest goes on.
#[test]
fn bad_inputs_are_told_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("empty.o"), "").unwrap();
    fs::write(path("text.o"), "this is no object file, although it has the name of one").unwrap();
    fs::write(path("kernel.btf"), "no BTF either").unwrap();
    let cut = fs::read(object("task_state.bpf.o")).unwrap();
    fs::write(path("cut.o"), &cut[..cut.len() / 2]).unwrap();
    let out = btfleet(&[
        "check",
        &path("empty.o"),
        &path("text.o"),
        &path("cut.o"),
        &path("absent.o"),
        &object("exec_snoop.bpf.o"),
        "-k",
        &path("kernel.btf"),
        &kernel(NEW),
        "--format",
        "jsonl",
    ]);
    assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
    let rows = rows(&out);
    let inputs: Vec<(&str, &str)> = rows
        .iter()
        .filter(|row| row["t"] == "input")
        .map(|row| (row["path"].as_str().unwrap(), row["code"].as_str().unwrap()))
        .collect();
    assert_eq!(
        inputs,
        [
            (path("kernel.btf").as_str(), "target-btf-missing"),
            (path("empty.o").as_str(), "object-defective"),
            (path("text.o").as_str(), "object-defective"),
            (path("cut.o").as_str(), "object-defective"),
            (path("absent.o").as_str(), "unreadable"),
        ]
    );
    assert!(rows.iter().any(|row| row["t"] == "verdict" && row["verdict"] == "ok"));
    assert_eq!(rows.last().unwrap()["complete"], false);
    assert!(stderr(&out).contains("absent.o: No such file"), "{}", stderr(&out));
    assert!(stderr(&out).contains("text.o: offset 0: not an ELF file"), "{}", stderr(&out));
}

/// Check that objects and kernels of different byte order give one pair row and exit code 3.
#[test]
fn a_byte_order_mismatch_is_a_pair_row() {
    let args = ["resolve", &object("task_state.bpf.o"), "-k", &kernel(BIG_ENDIAN), "--format", "jsonl"];
    let out = btfleet(&args);
    assert_eq!(out.status.code(), Some(3));
    let rows = rows(&out);
    assert_eq!(rows.len(), 2);
    assert_eq!((&rows[0]["t"], &rows[0]["code"]), (&"pair".into(), &"byte-order-mismatch".into()));
    assert_eq!(rows[1]["complete"], false);
    let twin = ["resolve", &object("task_state.be.bpf.o"), "-k", &kernel(BIG_ENDIAN)];
    assert_eq!(btfleet(&twin).status.code(), Some(0));
}

/// Check that aya's answers can be asked for, and that loaders can be compared.
#[test]
fn loaders_are_compared() {
    let queries = object("type_queries.bpf.o");
    let out = btfleet(&["resolve", &queries, "--format", "jsonl", "--loader", "aya", "-k", &kernel(NEW)]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let answers = rows(&out);
    assert_eq!(answers.last().unwrap()["models"], "aya-obj 0.3.0");
    assert!(answers.iter().any(|row| row["kind"] == "type_matches" && row["code"] == "unknown-kind"));

    let compare = |args: &[&str]| {
        let fixed = ["check", &queries, "--compare-loaders", "-k", &kernel(OLD), &kernel(NEW)];
        btfleet(&[&fixed[..], args].concat())
    };
    let out = compare(&["--format", "jsonl"]);
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    let (end, differences) = rows(&out).split_last().map(|(end, rows)| (end.clone(), rows.to_vec())).unwrap();
    assert_eq!(end["rows"], differences.len());
    let models = [
        "libbpf f7081a6 (July 2026)",
        "Linux, each kernel with its own release",
        "aya-obj 0.3.0",
        "cilium/ebpf v0.22.0-28-g5ba0b3b2",
    ];
    assert_eq!(end["models"], models.join("; "));
    let on_old = differences.iter().find(|row| row["kernel"] == kernel(OLD)).unwrap();
    assert_eq!((&on_old["t"], &on_old["by_loader"][1]["verdict"]), (&"loaders".into(), &Value::Null));
    assert_eq!(on_old["by_loader"][2]["verdict"], "fail-reloc");
    assert_eq!(compare(&["--fail-on", "never"]).status.code(), Some(0));
    let text = stdout(&compare(&[]));
    assert!(text.contains("fail-reloc") && text.contains("loaders disagree about"), "{text}");
    assert_eq!(compare(&["--loader", "aya"]).status.code(), Some(2));
}

/// Check that cilium/ebpf's answers can be asked for: a size that is not there is poison, where libbpf writes 0.
#[test]
fn the_loader_can_be_ebpf_go() {
    let resolve = |loader: &str| {
        let args = ["resolve", &object("type_queries.bpf.o"), "--format", "jsonl", "--loader", loader];
        rows(&btfleet(&[&args[..], &["-k", &kernel(OLD)]].concat()))
    };
    let (go, libbpf) = (resolve("ebpf-go"), resolve("libbpf"));
    assert_eq!(go.last().unwrap()["models"], "cilium/ebpf v0.22.0-28-g5ba0b3b2");
    let zeros = libbpf.iter().zip(&go).filter(|(row, _)| row["code"] == "zero-as-queried");
    let poisoned: Vec<_> = zeros.map(|(_, row)| row["code"].as_str().unwrap()).collect();
    assert!(!poisoned.is_empty() && poisoned.iter().all(|it| *it == "no-type"), "{poisoned:?}");
}

/// Check that the kernel's own rules are those of its release, and that kernels without them say so.
#[test]
fn the_loader_can_be_the_kernel() {
    let resolve = |loader: &str| {
        let args = ["resolve", &object("type_queries.bpf.o"), "--format", "jsonl", "--loader", loader, "-k"];
        btfleet(&[&args[..], &[&kernel(OLD), &kernel(NEW)]].concat())
    };
    let out = resolve("kernel");
    assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
    let by_name = rows(&out);
    assert_eq!((&by_name[0]["t"], &by_name[0]["code"]), (&"pair".into(), &"loader-unsupported".into()));
    assert_eq!(by_name.last().unwrap()["models"], "Linux, each kernel with its own release");
    let out = resolve("kernel:5.17");
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let given = rows(&out);
    assert!(given.iter().any(|row| row["code"] == "loader-unsupported" && row["fatal"] == -95));
    assert!(given.iter().any(|row| row["kind"] == "type_matches" && row["code"] == "unknown-kind"));
    assert_eq!(given.last().unwrap()["models"], "Linux 5.17");
    assert_eq!(rows(&resolve("libbpf")).last().unwrap()["models"], "libbpf f7081a6 (July 2026)");

    let check = |args: &[&str]| {
        let fixed = ["check", &object("conntrack_id.bpf.o"), "-k", &kernel(NEW)];
        btfleet(&[&fixed[..], args].concat())
    };
    assert!(stdout(&check(&["--loader", "kernel"])).contains("ambiguous-value"));
    for bad in ["linux", "kernel:", "kernel:six", "kernel:6"] {
        assert_eq!(check(&["--loader", bad]).status.code(), Some(2), "{bad}");
    }
    let unnamed = std::env::temp_dir().join(format!("btfleet-unnamed-{}.btf.zst", std::process::id()));
    fs::copy(kernel(NEW), &unnamed).unwrap();
    let args = ["check", &object("xdp_count.bpf.o"), "--loader", "kernel", "-k", unnamed.to_str().unwrap()];
    let out = btfleet(&args);
    fs::remove_file(&unnamed).unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("--loader kernel:RELEASE"), "{}", stderr(&out));
}

/// Check that command lines that make no sense exit with 2.
#[test]
fn usage_errors_exit_with_2() {
    let code = |args: &[&str]| btfleet(args).status.code();
    assert_eq!(code(&[]), Some(2));
    assert_eq!(code(&["check"]), Some(2));
    assert_eq!(code(&["check", &object("")]), Some(2));
    assert_eq!(code(&["check", "/nonexistent/*.o", "-k", &kernel(NEW)]), Some(2));
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(code(&["check", empty.path().to_str().unwrap(), "-k", &kernel(NEW)]), Some(2));
    assert_eq!(code(&["--version"]), Some(0));
    assert!(stdout(&btfleet(&["--version"])).contains("libbpf f7081a6"));
}

/// Check that lists, globs and directories name the same inputs in the same order.
#[test]
fn inputs_can_be_lists_globs_and_directories() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["b.o", "a.o", "sub/c.o"];
    fs::create_dir(dir.path().join("sub")).unwrap();
    for name in names {
        fs::copy(object("exec_snoop.bpf.o"), dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("README"), "no input").unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let list = dir.path().join("list.txt");
    fs::write(&list, format!("{}\n\n{}\n{}\n", path("a.o"), path("b.o"), path("sub/c.o"))).unwrap();
    let objects = |arg: &str| {
        let out = btfleet(&["resolve", arg, "-k", &kernel(NEW), "--format", "jsonl"]);
        let mut names: Vec<String> =
            rows(&out).iter().filter_map(|row| row["object"].as_str().map(str::to_owned)).collect();
        names.dedup();
        (names, stderr(&out))
    };
    let expected = [path("a.o"), path("b.o"), path("sub/c.o")];
    let (walked, messages) = objects(dir.path().to_str().unwrap());
    assert_eq!(walked, expected);
    assert!(messages.contains("2 other files skipped"), "{messages}");
    assert_eq!(objects(&format!("@{}", list.display())).0, expected);
    assert_eq!(objects(&path("?.o")).0, expected[..2]);
}

/// A module's BTF with one `struct task_struct { int pid; }`, `pid` at `bit_offset`. The base has one type, an
/// int, and `base_str_len` bytes of strings.
fn module_btf(base_str_len: u32, bit_offset: u32) -> Vec<u8> {
    let strings = "task_struct\0pid\0";
    let types = [base_str_len, 4 << 24 | 1, 64, base_str_len + 12, 1, bit_offset];
    btf(&types, strings)
}

fn btf(types: &[u32], strings: &str) -> Vec<u8> {
    let type_len = u32::try_from(types.len() * 4).unwrap();
    let mut out = vec![0x9f, 0xeb, 1, 0];
    for word in [24, 0, type_len, type_len, u32::try_from(strings.len()).unwrap()] {
        out.extend(word.to_le_bytes());
    }
    types.iter().for_each(|word| out.extend(word.to_le_bytes()));
    out.extend(strings.as_bytes());
    out
}

/// Check that modules are taken from a directory with vmlinux and from behind commas, and judged each alone or
/// all together.
#[test]
fn modules_come_from_directories_and_commas() {
    let dir = tempfile::tempdir().unwrap();
    let kernel_dir = dir.path().join("6.99+x");
    fs::create_dir(&kernel_dir).unwrap();
    let strings = "\0int\0";
    fs::write(kernel_dir.join("vmlinux"), btf(&[1, 1 << 24, 4, 1 << 24 | 32], strings)).unwrap();
    let module = |bit_offset| module_btf(u32::try_from(strings.len()).unwrap(), bit_offset);
    fs::write(kernel_dir.join("one"), module(32)).unwrap();
    fs::write(kernel_dir.join("two.btf"), module(64)).unwrap();
    let dir_name = kernel_dir.to_str().unwrap();
    // The first record of the sample is the offset of task_struct.pid, which this vmlinux has not.
    let first = |kernel: &str, modules: &str| {
        let object = object("task_state.bpf.o");
        let out = btfleet(&["resolve", &object, "-k", kernel, "--modules", modules, "--format", "jsonl"]);
        let row = rows(&out).into_iter().next().unwrap();
        assert_eq!((&row["path"], &row["kernel"]), (&"task_struct.pid".into(), &kernel.into()));
        row
    };
    assert_eq!(first(&format!("{dir_name}/vmlinux"), "each")["code"], "no-type");

    let one = first(&format!("{dir_name}/vmlinux,{dir_name}/one"), "all");
    assert_eq!((&one["new"], &one["target_module"]), (&"4".into(), &"one".into()));

    let each = first(dir_name, "each");
    assert_eq!((&each["code"], &each["new"]), (&"module-dependent".into(), &Value::Null));
    let answers: Vec<_> =
        each["by_module"].as_array().unwrap().iter().map(|it| (&it["module"], &it["new"])).collect();
    assert_eq!(answers, [(&"one".into(), &"4".into()), (&"two".into(), &"8".into())]);

    assert_eq!(first(dir_name, "all")["code"], "ambiguous-offset");

    // Agreeing modules give one answer, and a verdict that depends on one of them being loaded.
    fs::write(kernel_dir.join("two.btf"), module(32)).unwrap();
    assert_eq!(first(dir_name, "each")["new"], "4");
    // The kernel's own loader, as there is nothing to attach to in that kernel.
    let args = ["check", &object("task_state.bpf.o"), "-k", dir_name, "--format", "jsonl"];
    let out = btfleet(&[&args[..], &["--loader", "kernel:6.12"]].concat());
    let verdict = &rows(&out)[0];
    assert_eq!(verdict["findings"][0]["effect"], "applied", "{verdict}");
    assert!(verdict["assumptions"].as_array().unwrap().contains(&"module one loaded".into()), "{verdict}");

    // A module that cannot be used is told; the kernel is judged without it.
    fs::write(kernel_dir.join("one"), &module(32)[..40]).unwrap();
    let out = btfleet(&["resolve", &object("task_state.bpf.o"), "-k", dir_name, "--format", "jsonl"]);
    assert_eq!(out.status.code(), Some(3));
    assert_eq!(rows(&out)[0]["code"], "module-unavailable");
}

/// Check that a reader that goes away ends the run quietly.
#[test]
fn a_closed_stdout_ends_the_run_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_btfleet"))
        .args(["resolve", &object(""), "-k", &kernel(OLD), &kernel(NEW), "--format", "jsonl"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 16];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    assert_eq!(stderr(&out), "");
}

/// Check that a full disk is an error and not a silent loss.
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_btfleet"))
        .args(["resolve", &object("task_state.bpf.o"), "-k", &kernel(NEW)])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(3));
    assert!(stderr(&out).contains("cannot write output"), "{}", stderr(&out));
}

/// Check that colours come when asked for, and not when NO_COLOR is set.
#[test]
fn colours_follow_the_option() {
    let args = ["check", &object("narrow_load.bpf.o"), "-k", &kernel(NEW), "--color", "always"];
    assert!(stdout(&btfleet(&args)).contains('\u{1b}'));
    let never = ["check", &object("narrow_load.bpf.o"), "-k", &kernel(NEW), "--color", "never"];
    assert!(!stdout(&btfleet(&never)).contains('\u{1b}'));
}

/// Check that `?` programs count in resolve unless told otherwise.
#[test]
fn respect_autoload_skips_optional_programs() {
    let count = |extra: &[&str]| {
        let object = object("unlink_snoop.bpf.o");
        let kernel = kernel(NEW);
        let mut args = vec!["resolve", &object, "-k", &kernel, "--format", "jsonl"];
        args.extend(extra);
        rows(&btfleet(&args)).iter().filter(|row| row["code"] == "skipped").count()
    };
    assert_eq!(count(&[]), 0);
    assert!(count(&["--respect-autoload"]) > 0);
}

/// Check that the documentation that packages ship can be made.
#[test]
fn manual_pages_and_completions_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let man = dir.path().join("man");
    assert_eq!(btfleet(&["man", man.to_str().unwrap()]).status.code(), Some(0));
    let page = fs::read_to_string(man.join("btfleet-check.1")).unwrap();
    assert!(page.contains("fail") && man.join("btfleet.1").exists());
    let script = stdout(&btfleet(&["completions", "bash"]));
    assert!(script.contains("_btfleet"));
}

/// Check that programs inside executables are found, in a directory too, and that light skeletons are pointed out.
#[test]
fn programs_inside_executables_are_judged() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let dir = tempfile::tempdir().unwrap();
    let packed = fs::read(root.join("tests/skeletons/task_state.zst")).unwrap();
    let tool = zstd::decode_all(packed.as_slice()).unwrap();
    fs::write(dir.path().join("tool"), &tool).unwrap();
    // An executable without any is passed over, like everything else that is no object.
    fs::write(dir.path().join("other"), &tool[..4096]).unwrap();
    let kernel = root.join("workloads/samples/kernels/7.3.4+deb13-cloud-amd64.btf.zst");
    let (dir, kernel) = (dir.path().to_str().unwrap(), kernel.to_str().unwrap());
    for loader in ["kernel", "libbpf"] {
        let out = btfleet(&["check", dir, "-k", kernel, "--loader", loader, "--format", "jsonl"]);
        let (text, told) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
        let rows: Vec<Value> = text.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
        let found: Vec<&Value> = rows.iter().filter(|it| it["t"] == "verdict").collect();
        assert_eq!(found.len(), 2, "{text}");
        assert!(
            found.iter().all(|it| it["object"].as_str().unwrap().contains("tool!/skeleton@0x")),
            "{text}"
        );
        assert_eq!(
            told.contains("light skeletons are relocated by the kernel"),
            loader == "libbpf",
            "{told}"
        );
        assert!(told.contains("1 other file skipped"), "{told}");
    }
}
