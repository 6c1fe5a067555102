//! The committed objects on the committed kernels.
#![expect(clippy::print_stderr, reason = "a test says how much it judged")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use btfleet_engine::batch::outcomes;
use btfleet_engine::dialect::Loader;
use btfleet_engine::fleet::Modules;
use btfleet_engine::format::btf_ext::RelocKind;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::Object;
use btfleet_engine::resolve::Outcome;
use btfleet_tests::build::ByteOrder;
use btfleet_tests::oracle::{Options, extract};

use crate::compare::{difference, oracle};

fn samples(what: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples").join(what);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn byte_order_of(btf: &[u8]) -> ByteOrder {
    if btf.starts_with(&[0xeb, 0x9f]) { ByteOrder::Big } else { ByteOrder::Little }
}

/// Compares every object of the kernels' byte order; number of records.
fn check(order: ByteOrder, kernels: usize) -> BTreeMap<String, u32> {
    let mut oracle = oracle();
    let (mut kinds, mut differences) = (BTreeMap::new(), Vec::new());
    let (mut pairs, mut kernels_seen) = (0, 0);
    for kernel_path in samples("kernels") {
        let packed = std::fs::read(&kernel_path).expect("a kernel");
        let btf = zstd::decode_all(packed.as_slice()).expect("zstd");
        if byte_order_of(&btf) != order {
            continue;
        }
        kernels_seen += 1;
        let kernel = Kernel::parse(&btf).expect("a kernel's BTF");
        oracle.set_target(&btf, &[]).expect("a valid target");
        for object_path in samples("objects") {
            let file = std::fs::read(&object_path).expect("an object");
            let extracted = extract(&file).expect("records");
            // An object without records has no code-relocation block, and nothing to compare.
            if extracted.order != order || extracted.program.records.is_empty() {
                continue;
            }
            pairs += 1;
            let options = Options { log: true, compare_pruning: true };
            let answers = oracle.relocate(&extracted.program, options).expect("answers");
            let object = Object::parse(&file).expect("an object");
            let outcomes: Vec<Outcome> = outcomes(Loader::Libbpf, &object, &kernel, Modules::All, |_| true);
            let pair = format!("{} on {}", file_name(&object_path), file_name(&kernel_path));
            assert_eq!(outcomes.len(), answers.len(), "{pair}");
            assert_eq!(object.relocs().len(), answers.len(), "{pair}");
            for ((reloc, outcome), answer) in object.relocs().iter().zip(&outcomes).zip(&answers) {
                *kinds.entry(reloc.kind.map_or("?", RelocKind::name).to_owned()).or_default() += 1;
                if let Some(why) = difference(outcome, answer, reloc.raw_kind, order) {
                    differences.push(format!("{pair}, record #{}: {why}", reloc.number));
                }
            }
        }
    }
    let records: u32 = kinds.values().sum();
    eprintln!("{order:?}: {records} records, {pairs} pairs, {kinds:?}");
    assert_eq!(kernels_seen, kernels);
    let shown: Vec<&str> = differences.iter().take(10).map(String::as_str).collect();
    assert!(differences.is_empty(), "{} of {records} differ\n{}", differences.len(), shown.join("\n"));
    kinds
}

#[test]
fn little_endian_samples_come_out_as_in_libbpf() {
    let kinds = check(ByteOrder::Little, 2);
    assert_eq!(kinds.len(), 13, "every kind of record: {kinds:?}");
}

/// libbpf's left shifts depend on the byte order of the machine that it runs on; the oracle turns them with its other
/// answers, see `Calculator::left_shift` there. Everything else is libbpf's own answer.
#[test]
fn big_endian_samples_come_out_as_in_libbpf() {
    let kinds = check(ByteOrder::Big, 1);
    assert!(kinds.get("lshift_u64").is_some_and(|&n| n > 0), "left shifts are what differs: {kinds:?}");
}
