//! `btfleet relocate` as a user and a script meet it, on the committed samples.

#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use sha2::{Digest, Sha256};

const OLD: &str = "5.10.0-46-cloud-amd64.btf.zst";
const NEW: &str = "7.3.4+deb13-cloud-amd64.btf.zst";

fn sample(kind: &str, name: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples").canonicalize().unwrap();
    dir.join(kind).join(name).to_str().unwrap().to_owned()
}

fn object(name: &str) -> String {
    sample("objects", name)
}

fn kernel(name: &str) -> String {
    sample("kernels", name)
}

fn btfleet(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_btfleet")).args(args).env_remove("NO_COLOR").output().unwrap()
}

/// Relocates into a directory.
fn relocate(objects: &[&str], kernels: &[&str], dir: &Path, options: &[&str]) -> Output {
    let mut args = vec!["relocate"];
    args.extend(objects);
    args.push("-k");
    args.extend(kernels);
    args.extend(["-o", dir.to_str().unwrap()]);
    args.extend(options);
    btfleet(&args)
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Names and contents of a directory's files.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap_or_default())
        })
        .collect()
}

fn manifest(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("manifest.json")).unwrap()).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

/// Files that a manifest names, with their hashes.
fn outputs(manifest: &Value) -> BTreeMap<String, String> {
    let outputs = array(&manifest["objects"]).iter().flat_map(|it| array(&it["outputs"]));
    outputs
        .map(|it| (it["file"].as_str().unwrap().to_owned(), it["sha256"].as_str().unwrap().to_owned()))
        .collect()
}

struct Dir {
    _root: tempfile::TempDir,
    path: PathBuf,
}

/// A directory that is not there yet.
fn new_dir() -> Dir {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("out/below");
    Dir { _root: root, path }
}

/// Check that every pair of object and kernel has a file or a reason, and the directory holds the files that the
/// manifest names, with the hashes that it says, and nothing else.
#[test]
fn the_manifest_accounts_for_every_pair_and_every_file() {
    let dir = new_dir();
    let out = relocate(&[&object("")], &[&kernel("")], &dir.path, &[]);
    assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
    let manifest = manifest(&dir.path);
    assert_eq!((&manifest["v"], &manifest["t"]), (&1.into(), &"relocate-manifest".into()));
    assert_eq!((&manifest["complete"], &manifest["modules"]), (&false.into(), &"each".into()));
    assert_eq!(manifest["models"], "libbpf f7081a6 (July 2026)");
    let mut codes = BTreeSet::new();
    assert_eq!(array(&manifest["objects"]).len(), 26);
    for object in array(&manifest["objects"]) {
        let path = object["path"].as_str().unwrap();
        assert_eq!(object["sha256"], sha256(&fs::read(path).unwrap()).as_str());
        let mut kernels: Vec<&str> = Vec::new();
        for output in array(&object["outputs"]) {
            kernels.extend(array(&output["kernels"]).iter().map(|it| it.as_str().unwrap()));
            for program in array(&output["programs"]) {
                assert_eq!(program["sha256"].as_str().unwrap().len(), 64);
                assert_eq!(program["left"], false);
            }
            let (file, hash) = (output["file"].as_str().unwrap(), output["sha256"].as_str().unwrap());
            let stem = Path::new(path).file_name().unwrap().to_str().unwrap().strip_suffix(".bpf.o").unwrap();
            assert_eq!(file, format!("{stem}.{}.bpf.o", &hash[..12]));
        }
        for failed in array(&object["failed"]) {
            kernels.push(failed["kernel"].as_str().unwrap());
            let code = failed["code"].as_str().unwrap();
            codes.insert(code);
            assert_eq!(failed["fatal"].is_null(), code == "byte-order-mismatch", "{failed}");
        }
        kernels.sort_unstable();
        kernels.dedup();
        assert_eq!(kernels.len(), 3, "{path}");
    }
    assert_eq!(
        codes.into_iter().collect::<Vec<_>>(),
        ["ambiguous-value", "byte-order-mismatch", "width-mismatch"]
    );

    let mut expected = outputs(&manifest);
    let mut found: BTreeMap<_, _> = contents(&dir.path);
    assert!(found.remove("manifest.json").is_some());
    for (name, bytes) in found {
        assert_eq!(expected.remove(&name).as_deref(), Some(sha256(&bytes).as_str()), "{name}");
    }
    assert!(expected.is_empty(), "{expected:?}");
}

/// Check that a run in which every pair has a file exits with 0, and kernels share a file where the instructions
/// are the same.
#[test]
fn kernels_with_the_same_instructions_share_a_file() {
    let dir = new_dir();
    let (objects, kernels) =
        ([object("packed_bits.bpf.o"), object("task_state.bpf.o")], [kernel(OLD), kernel(NEW)]);
    let out = relocate(&[&objects[0], &objects[1]], &[&kernels[0], &kernels[1]], &dir.path, &[]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let manifest = manifest(&dir.path);
    assert_eq!(manifest["complete"], true);
    let files: Vec<usize> =
        array(&manifest["objects"]).iter().map(|it| array(&it["outputs"]).len()).collect();
    assert_eq!(files, [1, 2]);
    let mode = fs::metadata(dir.path.join("manifest.json")).unwrap().permissions().mode();
    assert_ne!(mode & 0o400, 0);
    assert_eq!(mode & 0o111, 0);
}

/// Check that the directory and what is said do not depend on the number of threads.
#[test]
fn the_directory_is_the_same_for_any_number_of_threads() {
    let run = |jobs: &str, format: &str| {
        let dir = new_dir();
        let out = relocate(&[&object("")], &[&kernel("")], &dir.path, &["-j", jobs, "--format", format]);
        let said = String::from_utf8(out.stdout).unwrap().replace(dir.path.to_str().unwrap(), "DIR");
        (contents(&dir.path), said)
    };
    for format in ["table", "jsonl"] {
        let one = run("1", format);
        assert!(one.0.len() > 30 && !one.1.is_empty());
        for jobs in ["2", "7"] {
            assert!(run(jobs, format) == one, "-j {jobs} --format {format} differs from -j 1");
        }
    }
}

/// Check that relocating what was relocated gives the same contents.
#[test]
fn a_second_round_gives_the_same_files() {
    let (one, two) = (new_dir(), new_dir());
    relocate(&[&object("")], &[&kernel(NEW)], &one.path, &[]);
    fs::remove_file(one.path.join("manifest.json")).unwrap();
    let out = relocate(&[one.path.to_str().unwrap()], &[&kernel(NEW)], &two.path, &[]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let hashes = |dir: &Path| -> BTreeSet<String> {
        let files = contents(dir).into_iter().filter(|(name, _)| name != "manifest.json");
        files.map(|(_, bytes)| sha256(&bytes)).collect()
    };
    assert!(hashes(&one.path).len() > 10);
    assert_eq!(hashes(&one.path), hashes(&two.path));
}

/// Check that identical contents are one file, also of objects that are called differently.
#[test]
fn identical_contents_are_one_file() {
    let (copies, dir) = (tempfile::tempdir().unwrap(), new_dir());
    for name in ["a.bpf.o", "b.o"] {
        fs::copy(object("xdp_count.bpf.o"), copies.path().join(name)).unwrap();
    }
    relocate(&[copies.path().to_str().unwrap()], &[&kernel(NEW)], &dir.path, &[]);
    let manifest = manifest(&dir.path);
    assert_eq!(outputs(&manifest).len(), 1);
    assert!(outputs(&manifest).keys().all(|it| it.starts_with("a.")));
    assert_eq!(array(&manifest["objects"]).len(), 2);
    assert_eq!(contents(&dir.path).len(), 2);
}

/// Check that `?` programs are relocated unless told otherwise, and that the manifest says which are left.
#[test]
fn respect_autoload_leaves_optional_programs() {
    let dir = new_dir();
    let left = |options: &[&str]| {
        let out = relocate(&[&object("unlink_snoop.bpf.o")], &[&kernel(NEW)], &dir.path, options);
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        let manifest = manifest(&dir.path);
        let programs = array(&manifest["objects"][0]["outputs"][0]["programs"]).to_vec();
        let left = programs.iter().filter(|it| it["left"] == true);
        left.map(|it| it["section"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(left(&[]).is_empty());
    let sections = left(&["--respect-autoload"]);
    assert!(!sections.is_empty() && sections.iter().all(|it| it.starts_with('?')), "{sections:?}");
}

/// Check that a directory with somebody else's files is refused and stays as it is, unless told otherwise; and
/// that they stay even then.
#[test]
fn foreign_files_are_refused_and_kept() {
    let dir = new_dir();
    fs::create_dir_all(&dir.path).unwrap();
    fs::write(dir.path.join("precious.txt"), "mine").unwrap();
    // A manifest that is none of ours, or that claims what we would never write, makes nothing ours.
    let hash = sha256(b"mine");
    for manifest in [
        "{}".to_owned(),
        format!(
            r#"{{"v":1,"t":"relocate-manifest","objects":[{{"outputs":[{{"file":"precious.txt","sha256":"{hash}"}}]}}]}}"#
        ),
    ] {
        fs::write(dir.path.join("manifest.json"), manifest).unwrap();
        let before = contents(&dir.path);
        let out = relocate(&[&object("xdp_count.bpf.o")], &[&kernel(NEW)], &dir.path, &[]);
        assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
        assert!(stderr(&out).contains("--force"), "{}", stderr(&out));
        assert_eq!(contents(&dir.path), before);
    }
    let out = relocate(&[&object("xdp_count.bpf.o")], &[&kernel(NEW)], &dir.path, &["--force"]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    assert_eq!(fs::read(dir.path.join("precious.txt")).unwrap(), b"mine");
    assert_eq!(contents(&dir.path).len(), 3);
}

/// Check that a later run removes what it does not produce any more, but nothing that was changed since.
#[test]
fn stale_files_go_unless_they_were_changed() {
    let dir = new_dir();
    let both = || relocate(&[&object("task_state.bpf.o")], &[&kernel(OLD), &kernel(NEW)], &dir.path, &[]);
    let new_only = || relocate(&[&object("task_state.bpf.o")], &[&kernel(NEW)], &dir.path, &[]);
    both();
    let all = contents(&dir.path);
    assert_eq!(all.len(), 3);
    new_only();
    let fewer = contents(&dir.path);
    assert_eq!(fewer.len(), 2);
    both();
    assert_eq!(contents(&dir.path), all);

    let stale = all.keys().find(|it| !fewer.contains_key(*it)).unwrap();
    fs::write(dir.path.join(stale), "edited").unwrap();
    let out = new_only();
    assert!(stderr(&out).contains("changed since"), "{}", stderr(&out));
    assert_eq!(fs::read(dir.path.join(stale)).unwrap(), b"edited");
    // Now no manifest accounts for it.
    assert_eq!(new_only().status.code(), Some(2));
}

/// Check that a directory that cannot be written to is an error, and one that was made for the run is not left.
#[test]
fn a_directory_that_cannot_be_written_is_an_error() {
    let dir = new_dir();
    fs::create_dir_all(dir.path.parent().unwrap()).unwrap();
    fs::write(&dir.path, "a file").unwrap();
    let out = relocate(&[&object("xdp_count.bpf.o")], &[&kernel(NEW)], &dir.path, &[]);
    assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
    assert_eq!(fs::read(&dir.path).unwrap(), b"a file");

    let dir = new_dir();
    let out = relocate(&["/nonexistent/*.o"], &[&kernel(NEW)], &dir.path, &[]);
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    assert!(!dir.path.exists());
}

/// A file system of its own of some pages, where that is allowed; unmounted in the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"])
            .arg(dir.path())
            .output();
        mount.is_ok_and(|it| it.status.success()).then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

/// Check that a disk that gets full leaves no half file: an earlier run's files are as they were, and none is
/// added.
#[test]
#[expect(clippy::print_stderr, reason = "the one way for a test to say that it skipped")]
fn a_full_disk_leaves_the_directory_as_it_was() {
    let Some(disk) = SmallDisk::new("64k") else {
        eprintln!("SKIPPED: no tmpfs can be mounted here, a full disk was not tried");
        return;
    };
    let dir = disk.0.path().join("out");
    let out = relocate(&[&object("xdp_count.bpf.o")], &[&kernel(NEW)], &dir, &[]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let before = contents(&dir);
    let out = relocate(&[&object("")], &[&kernel("")], &dir, &[]);
    assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
    assert!(stderr(&out).contains("No space left"), "{}", stderr(&out));
    assert_eq!(contents(&dir), before);

    // Here even the directory was new.
    let dir = disk.0.path().join("other");
    let out = relocate(&[&object("")], &[&kernel("")], &dir, &[]);
    assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
    assert!(!dir.exists());
}

/// Check that inputs that cannot be used are in the manifest, and objects that libbpf would refuse are relocated
/// with a remark.
#[test]
fn bad_inputs_are_in_the_manifest() {
    let (files, dir) = (tempfile::tempdir().unwrap(), new_dir());
    let bad = files.path().join("bad.o");
    fs::write(&bad, "no object").unwrap();
    // Its 'license' section renamed to one that libbpf does not take any more.
    let mut refused = fs::read(object("xdp_count.bpf.o")).unwrap();
    // The last one: those of the BTF come before the names of sections.
    let at = refused.windows(8).rposition(|it| it == b"license\0").unwrap();
    refused[at..at + 8].copy_from_slice(b"maps\0\0\0\0");
    let refused_path = files.path().join("refused.o");
    fs::write(&refused_path, &refused).unwrap();
    let objects = [bad.to_str().unwrap(), refused_path.to_str().unwrap()];
    let out = relocate(&objects, &[&kernel(NEW)], &dir.path, &["--format", "jsonl"]);
    assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
    let manifest = manifest(&dir.path);
    assert_eq!(manifest["inputs"][0]["code"], "object-defective");
    assert_eq!(array(&manifest["objects"]).len(), 1);
    let object = &manifest["objects"][0];
    assert_eq!(object["remarks"][0]["code"], "object-refused");
    assert_eq!(array(&object["outputs"]).len(), 1);
    let types: Vec<Value> = String::from_utf8(out.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["t"].clone())
        .collect();
    assert_eq!(types, ["input", "input", "output", "end"]);
}
