//! Programs in the form in which people have them: archives, packages, executables, container images; whole and damaged.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use btfleet_engine::ingest::{Intake, Limits, ObjectInput};
use serde_json::{Value, json};
use tempfile::TempDir;

const KERNEL: &str = "7.3.4+deb13-cloud-amd64.btf.zst";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn sample(name: &str) -> Vec<u8> {
    fs::read(root().join("workloads/samples/objects").join(name)).unwrap()
}

fn seed(name: &str) -> Vec<u8> {
    fs::read(root().join("tests/fuzz/seeds/archive").join(name)).unwrap()
}

/// `btfleet resolve … --format jsonl`: rows, and what was said.
fn resolve(inputs: &[&Path], more: &[&str]) -> (Vec<Value>, String, Option<i32>) {
    let kernel = root().join("workloads/samples/kernels").join(KERNEL);
    let out: Output = Command::new(env!("CARGO_BIN_EXE_btfleet"))
        .arg("resolve")
        .args(inputs)
        .args(["--format", "jsonl", "--kernels"])
        .arg(kernel)
        .args(more)
        .output()
        .unwrap();
    let rows = String::from_utf8(out.stdout).unwrap();
    let rows = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (rows, String::from_utf8(out.stderr).unwrap(), out.status.code())
}

/// Names of the objects of rows below `dir`, each once.
fn names(rows: &[Value], dir: &Path) -> Vec<String> {
    let prefix = format!("{}/", dir.display());
    let mut names: Vec<String> = rows
        .iter()
        .filter_map(|it| it["object"].as_str())
        .map(|it| it.strip_prefix(&prefix).unwrap_or(it).to_owned())
        .collect();
    names.dedup();
    names
}

fn inputs_of(rows: &[Value]) -> Vec<(String, String)> {
    let rows = rows.iter().filter(|it| it["t"] == "input");
    rows.map(|it| (it["code"].as_str().unwrap().into(), it["message"].as_str().unwrap().into())).collect()
}

struct Dir(TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str, data: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, data).unwrap();
        path
    }
}

/// One member of a tar archive; a name with `->` in it is a link.
fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, data) in members {
        let mut header = [0_u8; 512];
        let is_link = name.contains("->");
        let name = name.split("->").next().unwrap();
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
        header[156] = if is_link { b'2' } else { b'0' };
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|it| u32::from(*it)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        out.extend(header);
        out.extend(*data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// Check that objects are found in every kind of archive, under names that say where, and archives in archives.
#[test]
fn objects_are_found_in_archives() {
    let dir = Dir::new();
    for (seed_name, file, expected) in [
        ("library", "lib.a", vec!["lib.a!/x.bpf.o"]),
        ("deb", "x.deb", vec!["x.deb!/usr/lib/x.bpf.o"]),
        ("rpm", "x.rpm", vec!["x.rpm!/usr/lib/x.bpf.o"]),
        ("cpio", "x.cpio", vec!["x.cpio!/x.bpf.o"]),
        // What it is, its bytes say.
        ("deb", "no-ending", vec!["no-ending!/usr/lib/x.bpf.o"]),
    ] {
        let path = dir.file(file, &seed(seed_name));
        let (rows, said, _) = resolve(&[&path], &[]);
        assert_eq!(names(&rows, dir.path()), expected, "{said}");
    }
    let path = dir.file("x.tgz", &seed("nested"));
    let (rows, ..) = resolve(&[&path], &[]);
    assert_eq!(names(&rows, dir.path()), ["x.tgz!/a.tar.gz!/b.tar.gz!/c.tar!/x.o"]);
}

/// Check that names in archives are names: nothing is written, and they do not lead anywhere.
#[test]
fn names_in_archives_do_not_lead_anywhere() {
    let dir = Dir::new();
    let object = sample("narrow_load.bpf.o");
    let members: [(&str, &[u8]); 3] =
        [("../../x.o", &object), ("/abs/y.o", &object), ("link->/etc/passwd", b"")];
    let path = dir.file("in/x.tar", &tar(&members));
    let (rows, ..) = resolve(&[&path], &[]);
    assert_eq!(names(&rows, dir.path()), ["in/x.tar!/../../x.o", "in/x.tar!/abs/y.o"]);
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["in"]);
}

/// Check that an archive cut anywhere gives what was before the cut, and an input row at most.
#[test]
fn cut_archives_are_survived() {
    for name in ["library", "deb", "tar", "rpm", "cpio", "nested"] {
        let whole = seed(name);
        let all = Intake::default().objects_of_bytes(Path::new(name), whole.clone()).len();
        for len in (0..whole.len()).step_by(61) {
            let found = Intake::default().objects_of_bytes(Path::new(name), whole[..len].to_vec());
            assert!(!found.is_empty() && found.len() <= all + 2, "{name} at {len}");
        }
    }
}

/// Check that limits are met with a message that names the option, and that the rest of the inputs is read.
#[test]
fn limits_are_told() {
    let dir = Dir::new();
    let zeros = vec![0_u8; 3 << 20];
    let big = [b"\x7fELF".as_slice(), &zeros].concat();
    let object = sample("narrow_load.bpf.o");
    let members: [(&str, &[u8]); 3] = [("a.o", &object), ("big", &big), ("b.o", &object)];
    let path = dir.file("x.tar", &tar(&members));
    let limits = Limits { expanded: 1 << 20, ..Limits::DEFAULT };
    let intake = Intake { limits, ..Intake::default() };
    let found = intake.objects(&ObjectInput::named(path.clone()));
    let names: Vec<_> = found.iter().map(|it| it.as_ref().map(|it| it.path.file_name())).collect();
    assert!(matches!(names[..], [Ok(_), Ok(_), Err(_)]), "one member is left out: {names:?}");
    // A kernel meets that limit too.
    let (rows, _, code) = resolve(&[&path], &["--max-expanded", "1M"]);
    let errors = inputs_of(&rows);
    assert_eq!((errors.len(), code), (2, Some(3)), "{errors:?}");
    assert!(errors.iter().all(|it| it.0 == "over-limit" && it.1.contains("max-expanded")), "{errors:?}");
    for (option, value, message) in
        [("--max-archive", "2M", "max-archive"), ("--max-members", "1", "max-members")]
    {
        let (rows, ..) = resolve(&[&path], &[option, value]);
        let errors = inputs_of(&rows);
        let meets = |it: &(String, String)| it.0 == "over-limit" && it.1.contains(message);
        assert!(errors.iter().any(meets), "{errors:?}");
    }
    let path = dir.file("x.tgz", &seed("nested"));
    let (rows, ..) = resolve(&[&path], &["--max-nesting", "2"]);
    assert!(inputs_of(&rows)[0].1.contains("max-nesting"), "{rows:?}");
}

/// Check that a broken archive in another is told of, and that the others are read.
#[test]
fn a_broken_member_does_not_end_an_archive() {
    let dir = Dir::new();
    let object = sample("narrow_load.bpf.o");
    let broken = &seed("deb")[..200];
    let members: [(&str, &[u8]); 4] =
        [("a.o", &object), ("bad.deb", broken), ("cut.o", &object[..300]), ("b.o", &object)];
    let path = dir.file("x.tar", &tar(&members));
    let (rows, _, code) = resolve(&[&path], &[]);
    assert_eq!(names(&rows, dir.path()), ["x.tar!/a.o", "x.tar!/b.o"]);
    let codes: Vec<String> = inputs_of(&rows).into_iter().map(|it| it.0).collect();
    assert_eq!((codes, code), (vec!["object-defective".to_owned(), "unreadable".to_owned()], Some(3)));
}

/// Check that an archive without an object is an error where it was named, and counted where it was found.
#[test]
fn archives_without_objects() {
    let dir = Dir::new();
    let path = dir.file("d/x.tar", &tar(&[("readme", b"text")]));
    dir.file("d/x.bpf.o", &sample("narrow_load.bpf.o"));
    let (rows, _, code) = resolve(&[&path], &[]);
    let error = &inputs_of(&rows)[0];
    assert_eq!(
        (error.0.as_str(), error.1.as_str()),
        ("object-defective", "an archive without a BPF object in it")
    );
    assert_eq!(code, Some(3));
    let (rows, said, code) = resolve(&[&dir.path().join("d")], &[]);
    assert_eq!((names(&rows, dir.path()), code), (vec!["d/x.bpf.o".to_owned()], Some(0)));
    assert!(said.contains("1 other file skipped"), "{said}");
}

/// Check that what is no file is refused, and does not make anybody wait.
#[test]
fn what_is_no_file_is_refused() {
    let dir = Dir::new();
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let link = dir.path().join("loop");
    std::os::unix::fs::symlink(&link, &link).unwrap();
    let paths = [fifo.as_path(), Path::new("/dev/zero"), &link];
    let (rows, _, code) = resolve(&paths, &[]);
    let errors = inputs_of(&rows);
    assert_eq!((errors.len(), code), (3, Some(3)), "{errors:?}");
    assert!(errors.iter().all(|it| it.0 == "unreadable"), "{errors:?}");
    // Nor are they found in directories.
    dir.file("x.bpf.o", &sample("narrow_load.bpf.o"));
    let (rows, _, code) = resolve(&[dir.path()], &[]);
    assert_eq!((names(&rows, dir.path()), code), (vec!["x.bpf.o".to_owned()], Some(0)));
}

/// Check that copies give the rows that each would give, and are told of.
#[test]
fn copies_are_judged_once_and_shown_under_every_name() {
    let dir = Dir::new();
    let [one, other] = ["block_latency.bpf.o", "cgroup_path.bpf.o"].map(sample);
    for (name, data) in [("a.o", &one), ("b.o", &other), ("c.o", &one), ("d.o", &one)] {
        dir.file(name, data);
    }
    let of = |names: &[&str]| {
        let paths: Vec<PathBuf> = names.iter().map(|it| dir.path().join(it)).collect();
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let (mut rows, ..) = resolve(&paths, &[]);
        rows.pop();
        rows
    };
    let together = of(&["a.o", "b.o", "c.o", "d.o"]);
    let apart = ["a.o", "b.o", "c.o", "d.o"].map(|it| of(&[it])).concat();
    assert_eq!(together, apart);
    let kernel = root().join("workloads/samples/kernels").join(KERNEL);
    let out = Command::new(env!("CARGO_BIN_EXE_btfleet"))
        .arg("check")
        .arg(dir.path())
        .arg("--kernels")
        .arg(kernel)
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("4 objects with ") && text.contains("2 objects are copies of others"), "{text}");
}

/// Check that of an image's layers what a later one replaces or takes away does not count, and all platforms do.
#[test]
fn images_are_what_their_layers_make_of_them() {
    let dir = Dir::new();
    let [one, other] = ["block_latency.bpf.o", "cgroup_path.bpf.o"].map(sample);
    let blob = |name: &str, data: &[u8]| drop(dir.file(&format!("image/blobs/sha256/{name}"), data));
    let lower: [(&str, &[u8]); 5] = [
        ("usr/lib/kept.o", &one),
        ("usr/lib/replaced.o", &one),
        ("usr/lib/linked.o", &one),
        ("opt/gone/a.o", &one),
        ("srv/cleared/a.o", &one),
    ];
    let upper: [(&str, &[u8]); 5] = [
        ("usr/lib/replaced.o", b"text"),
        ("usr/lib/linked.o->/nowhere", b""),
        ("opt/.wh.gone", b""),
        ("srv/cleared/.wh..wh..opq", b""),
        ("srv/cleared/b.o", &other),
    ];
    let mut gz = flate(&tar(&lower));
    blob("aa", &gz);
    gz = tar(&upper);
    blob("bb", &gz);
    let layer = |digest: &str| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": format!("sha256:{digest}"), "size": 1});
    let manifest = |layers: &[&str]| {
        let layers: Vec<Value> = layers.iter().map(|it| layer(it)).collect();
        json!({"schemaVersion": 2, "layers": layers}).to_string().into_bytes()
    };
    blob("c1", &manifest(&["aa", "bb"]));
    blob("c2", &manifest(&["aa"]));
    let entry = |digest: &str, architecture: &str| {
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest,
               "platform": {"os": "linux", "architecture": architecture}})
    };
    let index =
        |entries: Vec<Value>| json!({"schemaVersion": 2, "manifests": entries}).to_string().into_bytes();
    dir.file("image/oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}");
    dir.file("image/index.json", &index(vec![entry("sha256:c1", "amd64")]));
    let image = dir.path().join("image");
    let (rows, said, code) = resolve(&[&image], &[]);
    let expected = ["image!/srv/cleared/b.o", "image!/usr/lib/kept.o"];
    assert_eq!((names(&rows, dir.path()), code), (expected.map(str::to_owned).to_vec(), Some(0)), "{said}");
    // Two platforms, one of them twice; found below a directory.
    let entries = vec![entry("sha256:c1", "amd64"), entry("sha256:c2", "arm64"), entry("sha256:c2", "arm64")];
    dir.file("image/index.json", &index(entries));
    let (rows, ..) = resolve(&[dir.path()], &[]);
    let names = names(&rows, dir.path());
    assert_eq!(names.len(), 7, "{names:?}");
    assert_eq!(names[0], "image!/linux/amd64!/srv/cleared/b.o");
    assert!(names[2..].iter().all(|it| it.starts_with("image!/linux/arm64!/")), "{names:?}");
    // A digest that leads out, a blob that is not there.
    dir.file("image/index.json", &index(vec![entry("sha256:../../x", "amd64"), entry("sha256:dd", "amd64")]));
    let (rows, _, code) = resolve(&[&image], &[]);
    assert_eq!((inputs_of(&rows).len(), code), (2, Some(3)), "{rows:?}");
}

fn flate(data: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = gzip.stdin.take().unwrap();
    let data = data.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&data));
    let out = gzip.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    out.stdout
}

/// Check that `inspect` says what each file is, and shows no control character of a name.
#[test]
fn inspect_says_what_files_are() {
    let dir = Dir::new();
    dir.file("lib.a", &seed("library"));
    dir.file("text\u{1b}[31m", b"nothing");
    dir.file("x.bpf.o", &sample("narrow_load.bpf.o"));
    let kernel = root().join("workloads/samples/kernels").join(KERNEL);
    let run = |format: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_btfleet"));
        let out =
            command.arg("inspect").arg(dir.path()).arg(&kernel).args(["--format", format]).output().unwrap();
        assert_eq!(out.status.code(), Some(0));
        String::from_utf8(out.stdout).unwrap()
    };
    let rows: Vec<Value> = run("jsonl").lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let kinds: Vec<&str> = rows.iter().filter_map(|it| it["kind"].as_str()).collect();
    assert_eq!(kinds, ["archive", "none", "object", "kernel"]);
    assert_eq!(rows[3]["kernels"][0]["release"], "7.3.4+deb13-cloud-amd64");
    assert_eq!(rows.last().unwrap()["t"], "end");
    let text = run("table");
    assert!(!text.contains('\u{1b}') && text.contains("text\\u{1b}[31m"), "{text}");
}
