//! The oracle's libbpf 1.7 against answers of the reference revision on real objects and kernels.
//!
//! Where the corpus is absent, it says that it skips.

#![expect(clippy::indexing_slicing, reason = "lengths are compared first")]
#![expect(clippy::print_stdout, reason = "says what it skips and what differs")]
#![expect(clippy::type_complexity, reason = "a table by two names")]

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use btfleet_tests::oracle::{Answer, Options, Oracle, Status, elf_section, extract};

const KINDS: [&str; 13] = [
    "byte_off",
    "byte_sz",
    "field_exists",
    "signed",
    "lshift_u64",
    "rshift_u64",
    "local_type_id",
    "target_type_id",
    "type_exists",
    "type_size",
    "enumval_exists",
    "enumval_value",
    "type_matches",
];

/// The corpus and one of its tables, by (kernel, object); or nothing, loudly.
fn table(
    name: &str,
    wanted: impl Fn(&str) -> bool,
) -> Option<(String, HashMap<(String, String), Vec<String>>)> {
    let corpus = btfleet_tests::corpus(&format!("the oracle is not held against {name}"))?;
    let corpus = corpus.to_str()?.to_owned();
    let packed = fs::read(format!("{corpus}/expected/{name}.tsv.zst")).expect("a table");
    let text = String::from_utf8(zstd::decode_all(&packed[..]).expect("zstd")).expect("UTF-8");
    let mut groups: HashMap<_, Vec<String>> = HashMap::new();
    for line in text.lines().skip(1) {
        let mut columns = line.split('\t');
        let (object, kernel) = (columns.next().expect("object"), columns.next().expect("kernel"));
        if wanted(kernel) {
            groups
                .entry((kernel.to_owned(), object.to_owned()))
                .or_default()
                .push(columns.collect::<Vec<_>>().join("\t"));
        }
    }
    Some((corpus, groups))
}

/// The columns of the table from what the oracle says.
fn line(section: &str, insn_off: u32, kind: u32, type_id: u32, access: &str, a: &Answer) -> String {
    let status = match a.status {
        Status::NoProgram => "no_prog",
        Status::Fatal => "error",
        Status::Ok if a.insn_poisoned() => "poison",
        Status::Ok => "ok",
    };
    let kind = KINDS.get(kind as usize).copied().unwrap_or("unknown");
    let insn: String = a.insn.iter().take(16).map(|b| format!("{b:02x}")).collect();
    let numbers = [
        u64::from(a.errno),
        u64::from(a.poison),
        u64::from(a.validate),
        a.orig_val,
        a.new_val,
        u64::from(a.orig_sz),
        u64::from(a.new_sz),
        u64::from(a.fail_memsz_adjust),
        u64::from(a.new_type_id),
    ]
    .map(|n| n.to_string());
    let numbers = match a.status {
        Status::Ok => numbers.join("\t"),
        // Nothing was calculated; the table has negative errno.
        Status::NoProgram => "0\t-\t-\t-\t-\t-\t-\t-\t-".to_owned(),
        Status::Fatal => format!("-{}\t-\t-\t-\t-\t-\t-\t-\t-", a.errno),
    };
    let insn = if insn.is_empty() { "-" } else { &insn };
    format!("{section}\t{insn_off}\t{kind}\t{type_id}\t{access}\t{status}\t{numbers}\t{insn}")
}

fn compare(corpus: &str, groups: HashMap<(String, String), Vec<String>>) {
    let mut keys: Vec<_> = groups.keys().cloned().collect();
    keys.sort();
    let mut oracle = Oracle::spawn(env!("CARGO_BIN_EXE_oracle")).expect("the oracle starts");
    let mut current = String::new();
    let (mut lines, mut different) = (0, 0);
    for key in keys {
        let (kernel, object) = &key;
        if *kernel != current {
            let path = Path::new(corpus)
                .join(if kernel.ends_with(".o") { "objects" } else { "kernels" })
                .join(kernel);
            let file = fs::read(path).expect("a kernel");
            let btf = elf_section(&file, ".BTF").unwrap_or(&file);
            oracle.set_target(btf, &[]).expect("a valid target");
            current.clone_from(kernel);
        }
        let file = fs::read(Path::new(corpus).join("objects").join(object)).expect("an object");
        let object_file = extract(&file).expect("records");
        let answers = oracle.relocate(&object_file.program, Options::default()).expect("answers");
        let expected = &groups[&key];
        assert_eq!(answers.len(), expected.len(), "{key:?}");
        for (i, (a, expected)) in answers.iter().zip(expected).enumerate() {
            let r = &object_file.program.records[i];
            let (section, access) = (&object_file.section_names[i], &object_file.access[i]);
            let got = line(section, r.insn_off, r.kind, r.type_id, access, a);
            lines += 1;
            if got != *expected {
                different += 1;
                if different < 20 {
                    println!("{key:?}\n  expected {expected}\n  got      {got}");
                }
            }
        }
    }
    println!("{lines} lines compared");
    assert_eq!(different, 0, "of {lines} lines");
}

#[test]
fn the_kernels_own_suite_is_answered_alike() {
    if let Some((corpus, groups)) = table("core_reloc-x-targets", |_| true) {
        compare(&corpus, groups);
    }
}

#[test]
fn real_objects_are_answered_alike() {
    let kernels = ["5.10.0-30-cloud-amd64.btf", "7.3.4+deb13-cloud-amd64.btf"];
    if let Some((corpus, groups)) = table("objects-x-kernels", |kernel| kernels.contains(&kernel)) {
        compare(&corpus, groups);
    }
}
