//! The `aya` dialect against aya-obj itself: the same objects relocated for the same kernels, byte by byte.
//!
//! Where aya gives up on an object, or panics, one of our records has to end the load; which of them is not compared.
//! Left out are kernels' types that aya would cut elsewhere than libbpf, and roots without a name, for which aya tries
//! every type of the kernel that has none; both are not modelled.
//!
//! Defects of aya that are modelled:
//!
//! * flavors are cut at the first `___`, so `a___b___c` is looked for as `a`;
//! * size and id of a type that is not there end the load, where libbpf writes 0;
//! * a program that asks for `TYPE_MATCHES` is not read at all;
//! * an access to a field whose size changed in a way that it cannot follow ends the load, where libbpf poisons the
//!   instruction and the program may never get there;
//! * of nested arrays only the innermost dimension counts as size, and the array's size decides the width of an access;
//! * elements of a flexible array are refused unless their index is that of the array itself in its struct;
//! * a candidate's value that cannot be had is poison, where libbpf ends the load;
//! * modules are never searched;
//! * it panics at functions and variables as roots, and at shifts of fields wider than 8 bytes in checked builds;
//! * prototypes are taken for what they return where their size is asked;
//! * instructions are hardly looked at: r0 is taken for an immediate, a map for a number, any width for the right one;
//! * aya panics where an offset of a bitfield is to become that of a field that is none, or the other way round, in a
//!   load or store; we end the load.
#![expect(clippy::print_stderr, reason = "a test says how much it judged")]

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use aya_obj::generated::bpf_insn;
use btfleet_engine::batch::outcomes;
use btfleet_engine::btf::{Flavors, essential_name};
use btfleet_engine::dialect::Loader;
use btfleet_engine::fleet::Modules;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::{Object, Reloc};
use btfleet_engine::resolve::Outcome;
use btfleet_tests::generator::{Case, Site};

/// Differences that are shown; the rest is counted.
const SHOWN: usize = 10;
/// Cases that are generated, of 12 to 40 records.
const CASES: u64 = 400;

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// What aya makes of an object on a kernel.
enum Answer {
    Relocated(Box<aya_obj::Object>),
    GaveUp(String),
    Panicked,
}

fn by_aya(object: &aya_obj::Object, kernel: &aya_obj::btf::Btf) -> Answer {
    let mut object = object.clone();
    match panic::catch_unwind(AssertUnwindSafe(|| object.relocate_btf(kernel))) {
        Ok(Ok(())) => Answer::Relocated(Box::new(object)),
        Ok(Err(error)) => {
            let (mut text, mut source) = (error.to_string(), std::error::Error::source(&error));
            while let Some(error) = source {
                text = format!("{text}: {error}");
                source = error.source();
            }
            Answer::GaveUp(text)
        }
        Err(_) => Answer::Panicked,
    }
}

/// The instruction of a record, as aya left it.
fn insn_of(object: &aya_obj::Object, section: usize, reloc: &Reloc<'_>, slots: usize) -> Option<Vec<u8>> {
    let offset = usize::try_from(reloc.insn_off).ok()?;
    let function = object.functions.values().find(|it| {
        let at = offset.checked_sub(it.section_offset);
        it.section_index.0 == section && at.is_some_and(|at| at < it.instructions.len() * 8)
    })?;
    let insns = function.instructions.get((offset - function.section_offset) / 8..)?;
    Some(insns.iter().take(slots).flat_map(encode).collect())
}

fn encode(insn: &bpf_insn) -> [u8; 8] {
    let [off_low, off_high] = insn.off.to_le_bytes();
    let [a, b, c, d] = insn.imm.to_le_bytes();
    [insn.code, insn.src_reg() << 4 | insn.dst_reg(), off_low, off_high, a, b, c, d]
}

/// Numbers of sections by name: aya knows functions by the number of theirs.
fn sections(file: &[u8]) -> BTreeMap<Vec<u8>, usize> {
    use object::{Object as _, ObjectSection as _};
    let elf = object::File::parse(file).expect("an ELF file");
    let named = elf.sections().filter_map(|it| Some((it.name_bytes().ok()?.to_vec(), it.index().0)));
    // The first of a name counts.
    let mut all: Vec<_> = named.collect();
    all.reverse();
    all.into_iter().collect()
}

#[derive(Debug, Default)]
struct Totals {
    pairs: u32,
    records: u32,
    poisoned: u32,
    gave_up: u32,
    panicked: u32,
    differences: Vec<String>,
}

/// An object that both read.
struct Sample<'a> {
    name: &'a str,
    ours: &'a Object<'a>,
    theirs: &'a aya_obj::Object,
    sections: BTreeMap<Vec<u8>, usize>,
}

fn compare(sample: &Sample<'_>, kernel: (&str, &Kernel<'_>, &aya_obj::btf::Btf), totals: &mut Totals) {
    let (kernel_name, kernel, btf) = kernel;
    let pair = format!("{} on {kernel_name}", sample.name);
    let outcomes = outcomes(Loader::Aya, sample.ours, kernel, Modules::All, |_| true);
    let fatal = outcomes.iter().zip(sample.ours.relocs()).find_map(|(it, reloc)| match it {
        Outcome::Fatal(error) => Some(format!("{} ({error})", sample.ours.path(reloc))),
        _ => None,
    });
    totals.pairs += 1;
    match by_aya(sample.theirs, btf) {
        Answer::Relocated(after) => {
            if let Some(why) = fatal {
                // Loads of packets: aya writes into both slots as if they were a 64-bit immediate. No compiler makes
                // such a record, and we end the load.
                if why.contains("opcode 0x20") {
                    return;
                }
                totals.differences.push(format!("{pair}: relocated, ours gives up: {why}"));
                return;
            }
            for (reloc, outcome) in sample.ours.relocs().iter().zip(&outcomes) {
                totals.records += 1;
                let Outcome::Decided(ours) = outcome else {
                    totals.differences.push(format!("{pair}: {outcome:?}"));
                    continue;
                };
                totals.poisoned += u32::from(ours.poisoned);
                let section = sample.sections.get(reloc.section).copied().unwrap_or_default();
                let theirs = insn_of(&after, section, reloc, ours.insn.len() / 8);
                let ours = Some(ours.insn.to_vec());
                if ours != theirs {
                    let path = sample.ours.path(reloc);
                    totals.differences.push(format!("{pair}, {path}: {theirs:x?}, ours {outcome:x?}"));
                }
            }
        }
        Answer::GaveUp(why) => {
            totals.gave_up += 1;
            if fatal.is_none() {
                totals.differences.push(format!("{pair}: gives up ({why}), ours does not: {outcomes:?}"));
            }
        }
        Answer::Panicked => {
            totals.panicked += 1;
            // Of a field that is wider than 8 bytes shifts are negative, at which only checked builds panic.
            let is_wide = |it: &Outcome| {
                matches!(it, Outcome::Decided(it)
                    if [Some(it.orig), it.new].into_iter().flatten().any(|it| it.cast_signed() < 0))
            };
            if fatal.is_none() && !outcomes.iter().any(is_wide) {
                totals.differences.push(format!("{pair}: panics, ours does not give up: {outcomes:?}"));
            }
        }
    }
}

/// Compares all objects on all kernels that both read.
fn check(objects: &[(String, Vec<u8>)], kernels: &[(String, Vec<u8>)]) -> Totals {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let mut totals = Totals::default();
    let mut refused = BTreeMap::new();
    let read: Vec<_> = objects
        .iter()
        .filter_map(|(name, file)| {
            let ours = Object::parse(file).ok()?;
            if ours.relocs().is_empty() {
                return None;
            }
            match panic::catch_unwind(AssertUnwindSafe(|| aya_obj::Object::parse(file))) {
                Ok(Ok(theirs)) => Some((name, file, ours, theirs)),
                Ok(Err(error)) => {
                    let text = error.to_string();
                    let kind = text.split('`').next().unwrap_or_default().to_owned();
                    *refused.entry(kind).or_insert(0_u32) += 1;
                    None
                }
                Err(_) => {
                    *refused.entry("panic".to_owned()).or_insert(0) += 1;
                    None
                }
            }
        })
        .collect();
    let samples: Vec<Sample<'_>> = read
        .iter()
        .map(|(name, file, ours, theirs)| Sample { name, ours, theirs, sections: sections(file) })
        .collect();
    let mut unread = Vec::new();
    for (name, data) in kernels {
        let kernel = Kernel::parse(data).expect("a kernel's BTF");
        match aya_obj::btf::Btf::parse(data, Default::default()) {
            Ok(btf) => samples.iter().for_each(|it| compare(it, (name, &kernel, &btf), &mut totals)),
            Err(error) => unread.push(format!("{name}: {error}")),
        }
    }
    panic::set_hook(hook);
    let Totals { pairs, records, poisoned, gave_up, panicked, .. } = &totals;
    eprintln!(
        "{pairs} pairs, {records} records ({poisoned} poisoned), {gave_up} pairs given up, {panicked} panics; \
         of {} objects not read by aya: {refused:?}; kernels: {unread:?}",
        objects.len()
    );
    let shown: Vec<&str> = totals.differences.iter().take(SHOWN).map(String::as_str).collect();
    assert!(shown.is_empty(), "{} differ\n{}", totals.differences.len(), shown.join("\n"));
    totals
}

fn named(paths: Vec<PathBuf>) -> impl Iterator<Item = (String, Vec<u8>)> {
    paths.into_iter().map(|path| {
        let name = path.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
        let data = read(&path);
        match name.strip_suffix(".zst") {
            Some(name) => (name.to_owned(), zstd::decode_all(data.as_slice()).expect("zstd")),
            None => (name, data),
        }
    })
}

/// aya relocates for the byte order of the machine that it runs on.
fn is_little(data: &[u8]) -> bool {
    !data.starts_with(&[0xeb, 0x9f]) && (!data.starts_with(b"\x7fELF") || data.get(5) == Some(&1))
}

fn inputs(dir: &Path, suffix: &str) -> Vec<(String, Vec<u8>)> {
    let mut paths = Vec::new();
    files(dir, &mut paths);
    paths.retain(|it| it.to_string_lossy().ends_with(suffix));
    named(paths).filter(|(_, data)| is_little(data)).collect()
}

#[test]
fn samples_come_out_as_in_aya() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples");
    let totals = check(&inputs(&dir.join("objects"), ".o"), &inputs(&dir.join("kernels"), ".btf.zst"));
    assert!(totals.records > 0 && totals.poisoned > 0 && totals.gave_up > 0, "{totals:?}");
}

#[test]
fn the_corpus_comes_out_as_in_aya() {
    let Some(dir) = btfleet_tests::corpus("aya's answers are not compared") else { return };
    let totals = check(&inputs(&dir.join("objects"), ".o"), &inputs(&dir.join("kernels"), ".btf"));
    assert!(totals.records > 10_000, "{totals:?}");
}

/// Records of generated cases, each in an object of its own.
#[test]
fn generated_records_come_out_as_in_aya() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let mut totals = Totals::default();
    let (mut left_out, mut unread, mut of_kind) =
        (0, BTreeMap::<String, u32>::new(), BTreeMap::<String, u32>::new());
    for seed in 0..CASES {
        let whole = Case::generate(seed);
        let target = whole.target_btf();
        let kernel = Kernel::parse(&target).expect("a kernel's BTF");
        let Ok(btf) = aya_obj::btf::Btf::parse(&target, Default::default()) else {
            *unread.entry("kernel".to_owned()).or_default() += 1;
            continue;
        };
        // Types of the kernel that aya would cut elsewhere than libbpf does: not modelled.
        let types = kernel.vmlinux.btf.own_types().map(|(_, ty)| kernel.vmlinux.btf.name(ty.name_off));
        let odd: Vec<&[u8]> = types
            .filter(|it| Flavors::First.essential(it) != essential_name(it))
            .map(|it| Flavors::First.essential(it))
            .collect();
        for (number, record) in whole.records.iter().enumerate().filter(|(_, it)| it.site != Site::Misaligned)
        {
            let case = Case { records: vec![record.clone()], ..whole.clone() };
            let file = case.to_object();
            let ours = Object::parse(&file).expect("a built object");
            let name = format!("case {seed} record {number}");
            let root = ours
                .relocs()
                .first()
                .and_then(|it| Some(ours.btf()?.name(ours.btf()?.ty(it.type_id)?.name_off)));
            if root.is_none_or(|it| {
                let essential = Flavors::First.essential(it);
                essential.is_empty() || odd.contains(&essential)
            }) {
                left_out += 1;
                continue;
            }
            match panic::catch_unwind(|| aya_obj::Object::parse(&file)) {
                Ok(Ok(theirs)) => {
                    let sections = sections(&file);
                    let sample = Sample { name: &name, ours: &ours, theirs: &theirs, sections };
                    let before = totals.differences.len();
                    compare(&sample, ("the kernel", &kernel, &btf), &mut totals);
                    if totals.differences.len() > before {
                        let kind = ours.relocs().first().and_then(|it| it.kind).map_or("?", |it| it.name());
                        *of_kind.entry(kind.to_owned()).or_default() += 1;
                    }
                }
                Ok(Err(error)) => *unread.entry(error.to_string()).or_insert(0_u32) += 1,
                Err(_) => *unread.entry("panic".to_owned()).or_default() += 1,
            }
        }
    }
    panic::set_hook(hook);
    let Totals { pairs, records, poisoned, gave_up, panicked, .. } = &totals;
    eprintln!(
        "{pairs} records, {records} relocated ({poisoned} poisoned), {gave_up} given up, {panicked} panics, {unread:?} \
         not read by aya, {left_out} left out; different: {of_kind:?}"
    );
    let shown: Vec<&str> = totals.differences.iter().take(SHOWN).map(String::as_str).collect();
    assert!(shown.is_empty(), "{} differ\n{}", totals.differences.len(), shown.join("\n"));
    assert!(*records > 1000 && *poisoned > 100 && *gave_up > 100, "too little was compared");
}
