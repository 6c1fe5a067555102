//! `btfleet btf dump`: the lines of bpftool, and C that a compiler lays out as the BTF says.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]
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
        .arg("struct hlist_hea")
        .output()
        .unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(said.contains("there is no type 'struct hlist_hea'; there is struct hlist_head, "), "{said}");
    assert_eq!(out.status.code(), Some(2));
}

/// What type `id` of rows by id is, with all that it is made of down to types with names; without what packs do not have.
fn shape(rows: &[Value], id: u64) -> String {
    let row = &rows[usize::try_from(id).unwrap()];
    if row.is_null() {
        return "void".into();
    }
    match row["name"].as_str() {
        Some(name) => format!("{} {name}", row["kind"]),
        None => content(rows, row),
    }
}

fn content(rows: &[Value], row: &Value) -> String {
    let mut text = format!("{} {} {} {}", row["kind"], row["size"], row["count"], row["values"]);
    for part in ["members", "params"] {
        for it in row[part].as_array().into_iter().flatten() {
            let name = if part == "params" { &Value::Null } else { &it["name"] };
            let of = shape(rows, it["type_id"].as_u64().unwrap());
            text.push_str(&format!("\n{name} {} {} ({of})", it["bit_offset"], it["bits"]));
        }
    }
    match row["type_id"].as_u64() {
        Some(target) => format!("{text} -> ({})", shape(rows, target)),
        None => text,
    }
}

/// A split BTF on `base`, which has `count` types: a struct with a pointer to its `task_struct`, number `task`.
fn module(base: &[u8], count: u32, task: u32) -> Vec<u8> {
    let word = |at: usize| u32::from_le_bytes(base[at..at + 4].try_into().unwrap());
    let (names, of_strings) = (b"of_module\0task\0", word(20));
    let mut types: Vec<u32> = vec![of_strings, 4 << 24 | 1, 8];
    // Its member, and the pointer.
    types.extend([of_strings + 10, count + 1, 0]);
    types.extend([0, 2 << 24, task]);
    let len = u32::try_from(types.len() * 4).unwrap();
    let mut out = vec![0x9f, 0xeb, 1, 0];
    for it in [24, 0, len, len, u32::try_from(names.len()).unwrap()].into_iter().chain(types) {
        out.extend(it.to_le_bytes());
    }
    out.extend(names);
    out
}

/// Check that a kernel of a pack has the types of its file: the same C but for enums that nothing refers to, and rows of
/// the same types under the same ids; and that a module of it adds its own.
#[test]
fn a_kernel_of_a_pack_has_the_types_of_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let pack = dir.path().join("fleet.pack");
    let mut kernels: Vec<PathBuf> = files(dir.path());
    kernels.retain(|it| it.extension().is_some_and(|it| it == "btf"));
    assert_eq!(kernels.len(), 3);
    let newest = kernels.iter().find(|it| it.to_str().unwrap().contains("7.3")).unwrap();
    let rows_of = |file: &Path| -> Vec<Value> {
        dump(file, &["--format", "jsonl"]).lines().map(|it| serde_json::from_str(it).unwrap()).collect()
    };
    // The newest has a module.
    let base = rows_of(newest);
    let task = base.iter().find(|it| it["kind"] == "struct" && it["name"] == "task_struct").unwrap();
    let (count, task) = (base.len(), task["id"].as_u64().unwrap());
    let bytes = module(&fs::read(newest).unwrap(), count.try_into().unwrap(), task.try_into().unwrap());
    let with_module = dir.path().join("with module");
    fs::create_dir(&with_module).unwrap();
    fs::write(with_module.join("mine"), bytes).unwrap();
    fs::copy(newest, with_module.join("vmlinux")).unwrap();
    let btfleet = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_btfleet")).args(args).output().unwrap();
    let mut add = vec!["pack", "add", pack.to_str().unwrap(), with_module.to_str().unwrap()];
    add.extend(kernels.iter().map(|it| it.to_str().unwrap()));
    assert!(btfleet(&add).status.success());
    for file in &kernels {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let of_pack = PathBuf::from(format!("{}:{name}", pack.display()));
        let (theirs, ours) = (dump(file, &[]), dump(&of_pack, &[]));
        // Of several structs of one name, behind pointers a pack knows but the name.
        let plain = |c: &str| -> Vec<String> {
            let lines = c.lines().filter(|it| !it.is_empty() && !it.ends_with("___2;"));
            lines.map(|it| it.replace("___2 *", " *")).collect()
        };
        let (theirs, ours) = (plain(&theirs), plain(&ours));
        let end = ours.iter().rposition(|it| it == "};").unwrap();
        assert!(ours.len() > 50_000 && theirs[..=end] == ours[..=end], "{name}");
        assert!(theirs[end + 1] == "enum {" && ours[end + 1].starts_with("#ifndef"), "{name}");
        let one = |file: &Path| dump(file, &["struct task_struct", "list_head", "enum pid_type"]);
        assert_eq!(one(file), one(&of_pack));
        let (theirs, ours) = (rows_of(file), rows_of(&of_pack));
        let is_named = |it: &&Value| it["name"].is_string() && it["kind"] != "datasec";
        let (mut named, mut of_ours) = (0, ours.iter().filter(is_named));
        let by_id = |rows: &[Value]| -> Vec<Value> {
            let id = |it: &Value| usize::try_from(it["id"].as_u64().unwrap()).unwrap();
            let types = || rows.iter().filter(|it| it["t"] == "type");
            let mut all = vec![Value::Null; types().map(id).max().unwrap() + 1];
            types().for_each(|it| all[id(it)] = it.clone());
            all
        };
        let (theirs_by_id, ours_by_id) = (by_id(&theirs), by_id(&ours));
        for row in theirs.iter().filter(is_named) {
            let mine = of_ours.next().unwrap();
            assert_eq!((&row["id"], &row["name"]), (&mine["id"], &mine["name"]));
            assert_eq!(content(&theirs_by_id, row), content(&ours_by_id, mine), "{name}: {}", row["name"]);
            named += 1;
        }
        assert!(named > 20_000 && of_ours.next().is_none(), "{name}");
        assert!(dump(&of_pack, &["--format", "raw"]).lines().count() > named, "{name}");
    }
    // A module's own types: its struct has its id, and what it points to is the kernel's.
    let of_files = PathBuf::from(format!("{},{}", newest.display(), with_module.join("mine").display()));
    let of_pack = PathBuf::from(format!("{}:with module,mine", pack.display()));
    assert_eq!(dump(&of_files, &[]), dump(&of_pack, &[]));
    let first = |file: &Path| dump(file, &["--format", "raw"]).lines().next().map(str::to_owned);
    assert!(first(&of_pack).is_some_and(|it| it.contains("'of_module' size=8")));
    assert_eq!(first(&of_files), first(&of_pack));
    // What is not there, with what there is.
    let pack = pack.to_str().unwrap();
    for (arg, want) in [
        (pack.to_owned(), "there are 4: "),
        (format!("{pack}:none"), "no kernel in it has the name none; it has: "),
        (format!("{pack}:with module,none"), "has no module none there; it has: mine\n"),
    ] {
        let out = btfleet(&["btf", "dump", &arg]);
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(out.status.code() == Some(2) && said.contains(want), "{arg}: {said}");
    }
}
