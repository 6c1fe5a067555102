//! `btfleet btf dump`: the lines of bpftool, and C that a compiler lays out as the BTF says.

#![expect(clippy::print_stderr, reason = "the one way for a test to say that it did nothing")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples").canonicalize().unwrap()
}

fn dump(file: &Path, more: &[&str]) -> String {
    let out: Output = Command::new(env!("CARGO_BIN_EXE_btfleet"))
        .args(["btf", "dump"])
        .arg(file)
        .args(more)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(0), "{}: {}", file.display(), String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Whether a tool is there; a test that needs one says that it did nothing.
fn has(tool: &str) -> bool {
    let runs =
        Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !runs {
        eprintln!("skipped: {tool} is not installed");
    }
    runs
}

/// The sample kernels, expanded, and the sample objects.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(samples().join("kernels")).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path.file_stem().filter(|_| path.extension().is_some_and(|it| it == "zst")) else {
            continue;
        };
        let btf = zstd::decode_all(fs::File::open(&path).unwrap()).unwrap();
        files.push(dir.join(name));
        fs::write(dir.join(name), btf).unwrap();
    }
    files.extend(fs::read_dir(samples().join("objects")).unwrap().map(|it| it.unwrap().path()));
    files.sort();
    assert!(files.len() > 20);
    files
}

/// Check that the lines are bpftool's, byte for byte.
#[test]
fn raw_lines_are_those_of_bpftool() {
    if !has("bpftool") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for file in files(dir.path()) {
        let theirs = Command::new("bpftool").args(["btf", "dump", "file"]).arg(&file).output().unwrap();
        // It wants BTF of its own byte order in objects.
        if theirs.status.success() {
            let ours = dump(&file, &["--format", "raw"]);
            assert!(ours.as_bytes() == theirs.stdout, "{} differs", file.display());
        }
    }
}

/// Check that C compiles, and that sizes and offsets are those of the BTF.
#[test]
fn c_is_laid_out_as_the_btf_says() {
    if !has("gcc") || !cfg!(target_arch = "x86_64") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut asserted = 0;
    for file in files(dir.path()) {
        let c = dump(&file, &[]);
        let rows = dump(&file, &["--format", "jsonl"]);
        let rows: Vec<Value> = rows.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
        let is_named = |row: &&Value| row["name"].is_string();
        let tags = ["struct", "union", "enum", "enum64", "fwd"];
        let mut counts = std::collections::HashMap::new();
        for row in rows.iter().filter(is_named).filter(|it| tags.contains(&it["kind"].as_str().unwrap_or("")))
        {
            *counts.entry(row["name"].as_str().unwrap()).or_insert(0) += 1;
        }
        let mut source = c;
        for row in rows.iter().filter(is_named) {
            let (kind, name) = (row["kind"].as_str().unwrap_or(""), row["name"].as_str().unwrap());
            // It holds the compiler's own `va_list`, which is another one on each machine.
            let is_foreign = name == "warn_args" && !file.to_string_lossy().contains("amd64");
            if !matches!(kind, "struct" | "union") || counts.get(name) != Some(&1) || is_foreign {
                continue;
            }
            let ty = format!("{kind} {name}");
            source.push_str(&format!("_Static_assert(sizeof({ty}) == {}, \"{ty}\");\n", row["size"]));
            for member in row["members"].as_array().into_iter().flatten() {
                let (Some(field), None) = (member["name"].as_str(), member["bits"].as_u64()) else {
                    continue;
                };
                let bit_offset = member["bit_offset"].as_u64().unwrap();
                if bit_offset.is_multiple_of(8) {
                    let offset = bit_offset / 8;
                    source.push_str(&format!(
                        "_Static_assert(__builtin_offsetof({ty}, {field}) == {offset}, \"{ty}.{field}\");\n"
                    ));
                    asserted += 1;
                }
            }
        }
        let path = dir.path().join("x.c");
        fs::write(&path, source).unwrap();
        // Types of other machines have other layouts where numbers are aligned in another way; samples have none.
        let out =
            Command::new("gcc").args(["-fsyntax-only", "-w", "-std=gnu11"]).arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(
            out.status.success(),
            "{}: {}",
            file.display(),
            said.lines().take(9).collect::<Vec<_>>().join("\n")
        );
    }
    assert!(asserted > 50_000, "{asserted}");
}

/// Check that named types come with what they need and nothing else.
#[test]
fn named_types_come_with_what_they_need() {
    let kernel = samples().join("kernels/7.3.4+deb13-cloud-amd64.btf.zst");
    let text = dump(&kernel, &["struct list_head", "hlist_head"]);
    let begins: Vec<&str> = text.lines().filter(|it| it.starts_with("struct")).collect();
    assert_eq!(begins, ["struct list_head {", "struct hlist_node;", "struct hlist_head {"]);
    let out = Command::new(env!("CARGO_BIN_EXE_btfleet"))
        .args(["btf", "dump"])
        .arg(&kernel)
        .arg("no_such")
        .output();
    assert_eq!(out.unwrap().status.code(), Some(2));
}
