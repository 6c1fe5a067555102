//! `btfleet min-btf` as a user and a script meet it, on the committed samples.

#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn sample(name: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples").canonicalize().unwrap();
    dir.join(name).to_str().unwrap().to_owned()
}

fn btfleet(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_btfleet")).args(args).env_remove("NO_COLOR").output().unwrap()
}

/// All files below a directory, by path.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

/// A tree as BTFHub has it, with two kernels.
fn hub(root: &Path) -> String {
    let hub = root.join("hub");
    for (place, kernel) in [("debian/11/x86_64/5.10", "5.10.0-46"), ("debian/14/x86_64/7.3", "7.3.4+deb13")] {
        let path = hub.join(format!("{place}.btf"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(sample(&format!("kernels/{kernel}-cloud-amd64.btf.zst")), path).unwrap();
    }
    hub.to_str().unwrap().to_owned()
}

/// The rows of a command.
fn rows_of(verb: &str, kernels: &str) -> Vec<Value> {
    rows_by("libbpf", verb, kernels)
}

fn rows_by(loader: &str, verb: &str, kernels: &str) -> Vec<Value> {
    let out = btfleet(&[verb, &sample("objects"), "-k", kernels, "--loader", loader, "--format", "jsonl"]);
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
}

/// The rows of `resolve`, without names of kernels and of types, and ids.
fn rows(kernels: &str) -> Vec<Value> {
    without_ids(rows_of("resolve", kernels))
}

fn without_ids(mut rows: Vec<Value>) -> Vec<Value> {
    for row in &mut rows {
        let is_id = row["kind"] == "target_type_id";
        for key in ["kernel", "root_id", "target"]
            .into_iter()
            .chain(is_id.then_some(["new", "insn", "code"]).into_iter().flatten())
        {
            row[key] = Value::Null;
        }
    }
    rows
}

/// Check that a tree comes out as the same tree, that it says the same to `resolve`, compressed or not, and that it is
/// the same for any number of threads.
#[test]
fn a_tree_of_kernels_is_reduced() {
    let root = tempfile::tempdir().unwrap();
    let hub = hub(root.path());
    let whole = rows(&hub);
    let objects = sample("objects");
    let mut trees = Vec::new();
    for (name, options) in [("plain", ["-j", "1"].as_slice()), ("again", &["-j", "3"]), ("zst", &["--zstd"])]
    {
        let out_dir = root.path().join(name);
        let out_dir = out_dir.to_str().unwrap();
        let out = btfleet(&[&["min-btf", &objects, "-k", &hub, "-o", out_dir], options].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert!(rows(out_dir) == whole, "{name}");
        trees.push(contents(Path::new(out_dir)));
    }
    assert_eq!(trees[0], trees[1]);
    let names: Vec<_> = trees[0].keys().map(String::as_str).collect();
    assert_eq!(names, ["debian/11/x86_64/5.10.btf", "debian/14/x86_64/7.3.btf", "manifest.json"]);
    assert!(trees[2].contains_key("debian/14/x86_64/7.3.btf.zst"));
    let manifest: Value = serde_json::from_slice(&trees[0]["manifest.json"]).unwrap();
    assert_eq!(
        (&manifest["t"], &manifest["complete"]),
        (&Value::from("min-btf-manifest"), &Value::from(true))
    );
    assert_eq!(manifest["kernels"][0]["vmlinux"]["bytes"], trees[0][names[0]].len());
}

/// Check that `check` says the same on what is kept with symbols as on the whole kernel, and not without them.
#[test]
fn check_says_the_same_with_symbols() {
    let root = tempfile::tempdir().unwrap();
    let hub = hub(root.path());
    let verdicts = |kernels: &str| {
        let mut rows = rows_of("check", kernels);
        for row in &mut rows {
            row["kernel"] = Value::Null;
            // It names the ids that disagree, and ids are not kept.
            let findings = row.get_mut("findings").and_then(Value::as_array_mut).into_iter().flatten();
            for finding in findings.filter(|it| it["code"] == "ambiguous-value") {
                finding["message"] = Value::Null;
            }
        }
        rows
    };
    let whole = verdicts(&hub);
    for (options, is_same) in [(&["--with-symbols"][..], true), (&[], false)] {
        let out_dir = root.path().join(format!("{is_same}"));
        let out_dir = out_dir.to_str().unwrap();
        let out = btfleet(&[&["min-btf", &sample("objects"), "-k", &hub, "-o", out_dir], options].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(verdicts(out_dir) == whole, is_same);
    }
}

/// Check that what an earlier run wrote is replaced, that files of others are refused and stay, and that a run that
/// fails leaves everything as it was.
#[test]
fn the_directory_is_written_as_a_whole() {
    let root = tempfile::tempdir().unwrap();
    let hub = hub(root.path());
    let dir = root.path().join("out");
    let out_dir = dir.to_str().unwrap();
    let objects = sample("objects");
    let old = format!("{hub}/debian/11");
    assert!(btfleet(&["min-btf", &objects, "-k", &hub, "-o", out_dir]).status.success());
    assert!(btfleet(&["min-btf", &objects, "-k", &old, "-o", out_dir]).status.success());
    let before = contents(&dir);
    let names: Vec<_> = before.keys().map(String::as_str).collect();
    assert_eq!(names, ["manifest.json", "x86_64/5.10.btf"]);

    let same = format!("{old}/x86_64/5.10.btf");
    let twice = btfleet(&["min-btf", &objects, "-k", &same, &same, "-o", out_dir]);
    assert_eq!(twice.status.code(), Some(2), "two kernels for one name");
    assert_eq!(contents(&dir), before);

    fs::write(dir.join("x86_64/mine"), "mine").unwrap();
    let refused = btfleet(&["min-btf", &objects, "-k", &hub, "-o", out_dir]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("x86_64/mine is not from an earlier run"));
    assert_eq!(contents(&dir).len(), before.len() + 1);
    let left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

/// Check that a kernel with modules comes out as a directory that is one.
#[test]
fn a_kernel_with_modules_stays_one() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("out");
    let kernel = root.path().join("7.3");
    fs::create_dir_all(&kernel).unwrap();
    fs::copy(sample("kernels/7.3.4+deb13-cloud-amd64.btf.zst"), kernel.join("vmlinux")).unwrap();
    // Split BTF without types of its own: nothing is needed of it.
    let empty = [0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    fs::write(kernel.join("nothing"), empty).unwrap();
    let (kernel, out_dir) = (kernel.to_str().unwrap(), dir.to_str().unwrap());
    let objects = sample("objects");
    let out = btfleet(&["min-btf", &objects, "-k", kernel, "-o", out_dir]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(contents(&dir).keys().collect::<Vec<_>>(), ["7.3/vmlinux", "manifest.json"]);
    assert!(rows(&format!("{out_dir}/7.3")) == rows(kernel));
}

/// Check that a pack gives the files that its kernels give, whatever else is in it and in whatever order it came.
#[test]
fn a_pack_gives_the_same_files() {
    let root = tempfile::tempdir().unwrap();
    let mut kernels: Vec<_> = fs::read_dir(sample("kernels")).unwrap().map(|it| it.unwrap().path()).collect();
    kernels.retain(|it| it.to_str().unwrap().ends_with(".btf.zst"));
    kernels.sort();
    assert!(kernels.len() > 1);
    let objects = sample("objects");
    let of_files = root.path().join("files");
    let given = [&["min-btf", &objects, "-o", of_files.to_str().unwrap(), "-k"][..]];
    let names: Vec<_> = kernels.iter().map(|it| it.to_str().unwrap()).collect();
    let out = btfleet(&[given[0], &names].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));

    let pack = root.path().join("k.pack");
    let pack = pack.to_str().unwrap();
    for name in names.iter().rev() {
        assert!(btfleet(&["pack", "add", pack, name]).status.success());
    }
    let of_pack = root.path().join("pack");
    let out = btfleet(&["min-btf", &objects, "-k", pack, "-o", of_pack.to_str().unwrap()]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let [mut files, mut packed] = [&of_files, &of_pack].map(|it| contents(it));
    let manifests = [&mut files, &mut packed].map(|it| it.remove("manifest.json").unwrap());
    assert_eq!(files.keys().collect::<Vec<_>>(), packed.keys().collect::<Vec<_>>());
    assert!(files == packed);
    // The kernels are in another order.
    assert_eq!(manifests[0].len(), manifests[1].len());
}

/// Check that other loaders say the same of what is kept for them, and that of one it is said that this is not known.
#[test]
fn other_loaders_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = sample("kernels/7.3.4+deb13-cloud-amd64.btf.zst");
    for loader in ["kernel:7.3.4", "aya"] {
        let out = dir.path().join(loader);
        let out = out.to_str().unwrap();
        let args = ["min-btf", &sample("objects"), "-k", &kernel, "-o", out, "--loader", loader];
        let done = btfleet(&args);
        // Big-endian samples are of no kernel here.
        assert!(matches!(done.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&done.stderr));
        let (whole, kept) = (rows_by(loader, "resolve", &kernel), rows_by(loader, "resolve", out));
        let (whole, kept) = (without_ids(whole), without_ids(kept));
        let records =
            |rows: &[Value]| rows.iter().filter(|it| it["t"] == "reloc").cloned().collect::<Vec<_>>();
        assert_eq!(records(&whole), records(&kept), "{loader}");
        assert!(records(&whole).len() > 100, "{loader}");
    }
    let out = dir.path().join("ebpf-go");
    let args =
        ["min-btf", &sample("objects"), "-k", &kernel, "-o", out.to_str().unwrap(), "--loader", "ebpf-go"];
    let done = btfleet(&args);
    assert_eq!(done.status.code(), Some(3));
    assert!(!done.stderr.is_empty());
}
