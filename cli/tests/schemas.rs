//! What is written for machines, by the schemas of its formats: rows by ours, SARIF and JUnit's XML by their own. And that
//! docs/output.md names the fields that there are.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// How the validators say that they cannot be had; they say why themselves.
const SKIPPED: i32 = 77;

/// Is set where they have to be had.
const REQUIRED: &str = "BTFLEET_REQUIRE_PYTHON";

const OLD: &str = "5.10.0-46-cloud-amd64.btf.zst";
const NEW: &str = "7.3.4+deb13-cloud-amd64.btf.zst";
const BIG_ENDIAN: &str = "6.12.107+deb13-generic-s390x.btf.zst";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn sample(below: &str) -> String {
    root().join("workloads/samples").join(below).to_str().unwrap().to_owned()
}

fn btfleet(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_btfleet")).args(args).output().unwrap()
}

fn rows_schema() -> Value {
    let path = root().join("docs/schemas/btfleet.v1.schema.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The schema of SARIF, which comes with the crate that the tests read SARIF with.
fn sarif_schema() -> PathBuf {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: Value = serde_json::from_slice(&out.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|it| it["name"] == "serde-sarif").unwrap();
    let manifest = Path::new(package["manifest_path"].as_str().unwrap());
    manifest.with_file_name("src").join("schema.json")
}

/// BTF of these words of types and these strings.
fn btf(types: &[u32], strings: &str) -> Vec<u8> {
    let len = |it: usize| u32::try_from(it).unwrap();
    let head = [24, 0, len(types.len() * 4), len(types.len() * 4), len(strings.len())];
    let words = head.iter().chain(types).flat_map(|it| it.to_le_bytes());
    [0x9f, 0xeb, 1, 0].into_iter().chain(words).chain(strings.bytes()).collect()
}

/// A directory that what commands write goes to.
struct Reports<'a> {
    dir: &'a Path,
}

impl Reports<'_> {
    /// Writes what a command says to a file of this name.
    fn add(&self, name: &str, args: &[&str]) {
        let out = btfleet(args);
        // 2 is a command line that makes no sense.
        assert!(
            matches!(out.status.code(), Some(0 | 1 | 3)),
            "{args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        assert!(!out.stdout.is_empty(), "{args:?}");
        fs::write(self.dir.join(name), out.stdout).unwrap();
    }

    fn rows(&self, name: &str, args: &[&str]) {
        self.add(&format!("{name}.jsonl"), &[args, &["--format", "jsonl"]].concat());
    }
}

fn write_all(dir: &Path, scratch: &Path) {
    let reports = Reports { dir };
    let in_scratch = |name: &str| scratch.join(name).to_str().unwrap().to_owned();
    let (objects, kernels) = (sample("objects"), sample("kernels"));
    let (old, new, big_endian) = (
        sample(&format!("kernels/{OLD}")),
        sample(&format!("kernels/{NEW}")),
        sample(&format!("kernels/{BIG_ENDIAN}")),
    );
    let unguarded = sample("objects/unguarded_read.bpf.o");

    reports.rows("resolve", &["resolve", &objects, "/absent.o", "-k", &kernels]);
    reports.rows("strict", &["resolve", &objects, "-k", &old, "--validate", "strict"]);
    reports.add("patches.jsonl", &["resolve", &objects, "-k", &kernels, "--format", "patch"]);
    // Two modules that disagree.
    let modules = scratch.join("modules");
    fs::create_dir(&modules).unwrap();
    fs::write(modules.join("vmlinux"), btf(&[1, 1 << 24, 4, 1 << 24 | 32], "\0int\0")).unwrap();
    for (name, bit_offset) in [("one", 32), ("two", 64)] {
        let module = btf(&[5, 4 << 24 | 1, 64, 17, 1, bit_offset], "task_struct\0pid\0");
        fs::write(modules.join(name), module).unwrap();
    }
    let modules = modules.to_str().unwrap();
    reports.rows("modules", &["resolve", &sample("objects/task_state.bpf.o"), "-k", modules]);
    reports.add("module patches.jsonl", &["resolve", &objects, "-k", modules, "--format", "patch"]);

    let all = ["check", &objects, "/absent.o", "-k", &kernels];
    reports.rows("check", &all);
    reports.add("check.sarif", &[&all[..], &["--format", "sarif"]].concat());
    reports.add("check.xml", &[&all[..], &["--format", "junit"]].concat());
    let document = btfleet(&[&all[..], &["--format", "json"]].concat()).stdout;
    let document: Value = serde_json::from_slice(&document).unwrap();
    let lines: Vec<String> = document["rows"].as_array().unwrap().iter().map(Value::to_string).collect();
    fs::write(dir.join("document.jsonl"), lines.join("\n")).unwrap();
    let hostile = scratch.join("<a & \"b\" \u{1b}]]>\n.o");
    fs::copy(&unguarded, &hostile).unwrap();
    let hostile = hostile.to_str().unwrap();
    reports.add("hostile.sarif", &["check", hostile, "-k", &new, "--format", "sarif"]);
    reports.add("hostile.xml", &["check", hostile, "-k", &new, "--format", "junit"]);
    let manifest = in_scratch("btfleet.toml");
    let accept =
        "[[accept]]\ncode = \"no-field\"\nprogram = \"access_time\"\nuntil = 2099-12-31\nwhy = \"known\"\n";
    fs::write(&manifest, accept).unwrap();
    reports.rows("accepted", &["check", &unguarded, "-k", &new, "--manifest", &manifest]);
    reports.rows("loaders", &["check", &objects, "-k", &kernels, "--compare-loaders"]);
    let hosts = in_scratch("hosts.csv");
    fs::write(&hosts, "release,count\n7.3.4+deb13-cloud-amd64,20\n6.6.1-generic,5\n").unwrap();
    reports.rows("hosts", &["check", &unguarded, "-k", &old, &new, "--inventory", &hosts]);
    reports.rows("new", &["check", &unguarded, "-k", &old, "--new", &new]);
    reports.rows("before", &["check", &objects, "-k", &old]);
    reports.rows("after", &["check", &unguarded, "-k", &old, &new]);
    let [before, after] = ["before", "after"].map(|it| dir.join(it).with_extension("jsonl"));
    reports.rows("compare", &["compare", before.to_str().unwrap(), after.to_str().unwrap()]);

    let relocated = in_scratch("relocated");
    let signed = ["relocate", &objects, "-k", &kernels, "-o", &relocated, "--sign-manifest"];
    reports.rows("relocate", &signed);
    let statement = format!("{relocated}/payloads.intoto.json");
    reports.rows("verify", &["verify-manifest", &statement, &objects, "-k", &old]);
    let pack = in_scratch("fleet.pack");
    assert!(btfleet(&["pack", "add", &pack, &kernels, modules]).status.success());
    reports.rows("pack", &["pack", "ls", &pack]);
    reports.add("classes.jsonl", &["classes", &objects, "-k", &kernels, "--emit", "json"]);
    reports.rows("diff", &["diff", &old, &new, &objects]);
    reports.rows("inspect", &["inspect", &sample(""), &pack, modules]);
    reports.rows("types", &["btf", "dump", &sample("objects/exec_snoop.bpf.o")]);
    reports.rows(
        "types of a kernel",
        &["btf", "dump", &big_endian, "struct task_struct", "pid_type", "do_exit"],
    );
    reports.rows("rules", &["rules"]);
    // Where the kernel may be asked.
    let live = btfleet(&["live", &objects, "--format", "jsonl"]);
    if live.status.code() != Some(2) {
        fs::write(dir.join("live.jsonl"), live.stdout).unwrap();
    }
}

/// Check that all that is written for machines is what the schemas say, and that there is a row of every sort in it.
#[test]
fn reports_follow_their_schemas() {
    let (dir, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_all(dir.path(), scratch.path());
    let out = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemas/run"))
        .arg(dir.path())
        .env("SARIF_SCHEMA", sarif_schema())
        .output()
        .unwrap();
    match out.status.code() {
        Some(0) => {}
        Some(SKIPPED) if std::env::var_os(REQUIRED).is_none() => {
            // Past the test harness, which keeps what tests print to itself. Without stderr there is nobody to tell.
            let _ = std::io::stderr().write_all(&out.stderr);
            return;
        }
        _ => panic!("{}", String::from_utf8_lossy(&out.stderr)),
    }
    let counts: Value = serde_json::from_slice(&out.stdout).unwrap();
    let schema = rows_schema();
    for row in schema["$defs"].as_object().unwrap().values() {
        let name = row["properties"]["t"]["const"].as_str().unwrap();
        // Not every kernel may be asked.
        let is_met = counts[name].as_u64().is_some_and(|it| it > 0) || matches!(name, "live" | "refused");
        assert!(is_met, "no {name} row in {counts}");
    }
}

/// Where docs/output.md says what rows have: what its place begins with, the rows, and words in it that are no fields.
const DOCUMENTED: [(&str, &[&str], &[&str]); 16] = [
    ("### `reloc`", &["reloc"], &["ldimm64", "resolve"]),
    ("### `patch`", &["patch"], &["ldimm64", "relocate"]),
    ("### `verdict`", &["verdict"], &["check"]),
    ("### `loaders`", &["loaders"], &["aya", "libbpf", "models"]),
    ("### `hosts`", &["hosts"], &[]),
    ("### `change`", &["change", "end-of-changes"], &["compare"]),
    ("### `pair`", &["pair", "input", "end"], &["unreadable"]),
    ("### `output`", &["output"], &["failed", "relocate"]),
    ("### `kernel`", &["kernel", "end-of-pack"], &[]),
    ("writes `difference` rows", &["difference"], &["payload"]),
    ("## `live`", &["live", "refused"], &[]),
    ("## `classes", &["classes"], &[]),
    ("## `diff", &["diff", "end-of-diff"], &[]),
    ("## `inspect", &["file", "end-of-files"], &[]),
    ("## `rules", &["rule", "end-of-list"], &[]),
    ("## `btf dump`", &["type", "end-of-list"], &["jsonl", "raw"]),
];

/// Adds the fields and the words for values that a schema has.
fn words_of(schema: &Value, fields: &mut BTreeSet<String>, values: &mut BTreeSet<String>) {
    match schema {
        Value::Object(all) => {
            let properties = schema["properties"].as_object();
            fields.extend(properties.into_iter().flat_map(|it| it.keys().cloned()));
            let listed = schema["enum"].as_array().into_iter().flatten().chain(all.get("const"));
            values.extend(listed.filter_map(|it| it.as_str().map(str::to_owned)));
            all.values().for_each(|it| words_of(it, fields, values));
        }
        Value::Array(all) => all.iter().for_each(|it| words_of(it, fields, values)),
        _ => {}
    }
}

/// The part of a text from `start` to the next heading.
fn section<'a>(text: &'a str, start: &str) -> &'a str {
    let at = text.find(start).unwrap_or_else(|| panic!("docs/output.md has no '{start}'"));
    let rest = &text[at..];
    rest.get(1..).and_then(|it| it.find("\n#")).map_or(rest, |end| &rest[..=end])
}

/// What stands between backticks and looks like the name of a field.
fn names_in(text: &str) -> BTreeSet<String> {
    let is_name = |it: &&str| {
        it.starts_with(|it: char| it.is_ascii_lowercase())
            && it.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_')
    };
    text.split('`').skip(1).step_by(2).filter(is_name).map(str::to_owned).collect()
}

/// Check that docs/output.md names every field that the schema has, in its place, and none that it does not have.
#[test]
fn documentation_and_schema_name_the_same_fields() {
    let text = fs::read_to_string(root().join("docs/output.md")).unwrap();
    let schema = rows_schema();
    let rows = schema["$defs"].as_object().unwrap();
    let mut documented: BTreeSet<&str> = BTreeSet::new();
    for (start, names, others) in DOCUMENTED {
        let (mut fields, mut values) = (BTreeSet::new(), BTreeSet::new());
        for name in names {
            words_of(&rows[*name], &mut fields, &mut values);
            documented.insert(name);
        }
        // Every row has them.
        fields.retain(|it| it != "v" && it != "t");
        let named = names_in(section(&text, start));
        let missing: Vec<_> = fields.difference(&named).collect();
        assert!(missing.is_empty(), "{start}: docs/output.md does not name {missing:?}");
        let is_known = |it: &&String| {
            let is_word = ["null", "end"].contains(&it.as_str()) || rows.contains_key(it.as_str());
            is_word || fields.contains(*it) || values.contains(*it) || others.contains(&it.as_str())
        };
        let unknown: Vec<_> = named.iter().filter(|it| !is_known(it)).collect();
        assert!(unknown.is_empty(), "{start}: no row has {unknown:?}");
    }
    let all: BTreeSet<&str> = rows.keys().map(String::as_str).collect();
    assert_eq!(documented, all, "rows that docs/output.md has, and those of the schema");
}

/// Check that the columns of CSV are those that are documented, in that order.
#[test]
fn documentation_has_the_columns_of_csv() {
    let text = fs::read_to_string(root().join("docs/output.md")).unwrap();
    let table = text.split("| column | type | meaning |\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let first = table.lines().map(|it| it.split(" | ").next().unwrap());
    let documented: Vec<&str> = first.flat_map(|it| it.split('`').skip(1).step_by(2)).collect();
    let object = sample("objects/unguarded_read.bpf.o");
    let out = btfleet(&["check", &object, "-k", &sample(&format!("kernels/{NEW}")), "--format", "csv"]);
    let head = String::from_utf8(out.stdout).unwrap();
    assert_eq!(head.split("\r\n").next().unwrap().split(',').collect::<Vec<_>>(), documented);
}
