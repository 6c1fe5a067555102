//! The recorded answers of libbpf for real objects and kernels, record by record, against the engine.
//!
//! The corpus stands beside the source tree; where it is absent these tests say so on stderr and judge nothing.
#![expect(
    clippy::print_stderr,
    reason = "the one way for a test to say that it skipped, or how much it judged"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use btfleet_engine::batch::{Batch, Run, outcomes};
use btfleet_engine::dialect::Loader;
use btfleet_engine::fleet::Modules;
use btfleet_engine::format::btf_ext::RelocKind;
use btfleet_engine::kernel::{Kernel, PackSource};
use btfleet_engine::object::{Object, Reloc};
use btfleet_engine::pack::{self, Added, Facts, NewKernel, NewModule, PackFile};
use btfleet_engine::resolve::Outcome;
use btfleet_tests::oracle::elf_section;

/// Differences that are shown; the rest is counted.
const SHOWN: usize = 10;

fn corpus() -> Option<PathBuf> {
    btfleet_tests::corpus("libbpf's recorded answers are not compared")
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One line of a table: what was recorded of one record.
struct Row<'a> {
    object: &'a str,
    kernel: &'a str,
    /// Section, offset, kind, type id, access string.
    record: String,
    /// Status and, depending on it, errno or all the values.
    answer: String,
}

impl<'a> Row<'a> {
    fn parse(line: &'a str) -> Self {
        let columns: Vec<&str> = line.split('\t').collect();
        let &[object, kernel, ref rest @ ..] = columns.as_slice() else { panic!("bad line: {line}") };
        let (record, answer) = rest.split_at_checked(5).expect("five columns name the record");
        let answer = match answer {
            ["no_prog", ..] => "no_prog".to_owned(),
            ["error", errno, ..] => format!("error {errno}"),
            [status, _errno, values @ ..] => format!("{status} {}", values.join(" ")),
            _ => panic!("bad line: {line}"),
        };
        Self { object, kernel, record: record.join(" "), answer }
    }
}

fn describe(reloc: &Reloc<'_>) -> String {
    format!(
        "{} {} {} {} {}",
        String::from_utf8_lossy(reloc.section),
        reloc.insn_off,
        reloc.kind.map_or("?", RelocKind::name),
        reloc.type_id,
        String::from_utf8_lossy(reloc.access)
    )
}

/// An outcome as the tables write it.
fn answer(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Skipped => "no_prog".to_owned(),
        Outcome::Fatal(error) => format!("error {}", error.errno()),
        Outcome::Decided(it) => {
            let status = if it.poisoned { "poison" } else { "ok" };
            let flag = u8::from;
            let mut text = format!(
                "{status} {} {} {} {} {} {} {} {} ",
                flag(it.unresolved),
                flag(it.validate),
                it.orig,
                it.new.unwrap_or(0),
                it.orig_size,
                it.new_size,
                flag(it.resize_fails),
                it.target_type
            );
            for byte in &it.insn {
                write!(text, "{byte:02x}").expect("a string takes everything");
            }
            text
        }
        Outcome::ModuleDependent(_) => format!("{outcome:?}"),
    }
}

/// A kernel as a table names it: bytes of its BTF, and of its one module if there is one.
type KernelBytes = (Vec<u8>, Option<Vec<u8>>);

/// A table with what it is about; objects and kernels are numbered in the order of their names.
struct Table<'a> {
    name: &'a str,
    rows: Vec<Row<'a>>,
    objects: Vec<Object<'a>>,
    object_numbers: HashMap<&'a str, usize>,
    kernel_numbers: HashMap<&'a str, usize>,
}

impl Table<'_> {
    /// Compares all rows with the outcomes of an object on a kernel. `is_pair`: they are of that pair alone, so that ids
    /// of types are those of the kernel.
    fn compare(&self, how: &str, is_pair: bool, outcomes: impl Fn(usize, usize) -> Vec<Outcome>) {
        let (mut pairs, mut differences) = (0, Vec::new());
        for pair in self.rows.chunk_by(|one, two| (one.object, one.kernel) == (two.object, two.kernel)) {
            let Some(Row { object: object_name, kernel, .. }) = pair.first() else { continue };
            let number = self.object_numbers.get(object_name).copied().expect("an object");
            let object = self.objects.get(number).expect("an object");
            let outcomes = outcomes(number, self.kernel_numbers.get(kernel).copied().expect("a kernel"));
            pairs += 1;
            if outcomes.len() != pair.len() {
                let (have, want) = (outcomes.len(), pair.len());
                differences.push(format!("{object_name} on {kernel}: {have} records, expected {want}"));
                continue;
            }
            for ((reloc, outcome), row) in object.relocs().iter().zip(&outcomes).zip(pair) {
                let (record, mut got, mut wanted) = (describe(reloc), answer(outcome), row.answer.clone());
                if !is_pair {
                    [got, wanted] = [got, wanted].map(|it| without_target_type(&it));
                }
                if record != row.record || got != wanted {
                    differences.push(format!(
                        "{object_name} on {kernel}\n     got {record}: {got}\nexpected {}: {wanted}",
                        row.record
                    ));
                }
            }
        }
        let (name, rows) = (self.name, self.rows.len());
        eprintln!(
            "{name}, {how}: {rows} records, {pairs} pairs, {} objects, {} kernels",
            self.objects.len(),
            self.kernel_numbers.len()
        );
        let shown: Vec<&str> = differences.iter().take(SHOWN).map(String::as_str).collect();
        assert!(
            differences.is_empty(),
            "{how}: {} of {rows} differ\n{}",
            differences.len(),
            shown.join("\n")
        );
    }

    /// Compares all rows with one run over all objects and all kernels.
    fn compare_run(&self, how: &str, kernels: &[Kernel<'_>]) {
        let loaders = vec![Loader::Libbpf; kernels.len()];
        let batch = Batch::new(2).expect("two threads");
        let run = Run::new(&batch, &self.objects, kernels, &loaders, Modules::All);
        let folded: Vec<_> = (0..self.objects.len()).map(|it| run.fold(it, |_| true)).collect();
        self.compare(how, false, |object, kernel| {
            let folded = folded.get(object).expect("an object");
            folded.on(kernel).into_iter().cloned().collect()
        });
    }
}

/// An answer without the type of the target's field. That is an id in the BTF of the first kernel that has the type, and
/// the recorded one is an id in the row's kernel.
fn without_target_type(answer: &str) -> String {
    let mut columns: Vec<&str> = answer.split(' ').collect();
    if let [_, _, _, _, _, _, _, _, target_type, _] = columns.as_mut_slice() {
        *target_type = "-";
    }
    columns.join(" ")
}

/// Compares a whole table; `kernel` reads what its second column names. Every pair is judged alone, and then all of them
/// in one run, with kernels from their files and from a pack.
fn check(table: &str, kernel: impl Fn(&Path, &str) -> KernelBytes) {
    let Some(root) = corpus() else { return };
    let packed = read(&root.join(format!("expected/{table}.tsv.zst")));
    let text = String::from_utf8(zstd::decode_all(packed.as_slice()).expect("zstd")).expect("UTF-8");
    let rows: Vec<Row<'_>> = text.lines().skip(1).map(Row::parse).collect();
    assert!(!rows.is_empty(), "{table} is empty");

    let mut kernel_bytes: BTreeMap<&str, KernelBytes> = BTreeMap::new();
    let mut object_bytes: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for row in &rows {
        kernel_bytes.entry(row.kernel).or_insert_with(|| kernel(&root, row.kernel));
        object_bytes.entry(row.object).or_insert_with(|| read(&root.join("objects").join(row.object)));
    }
    let parsed = kernel_bytes.iter().map(|(name, (vmlinux, module))| {
        let mut kernel = Kernel::parse(vmlinux).unwrap_or_else(|error| panic!("{name}: {error}"));
        if let Some(module) = module {
            kernel.add_module("m".into(), module).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        kernel
    });
    let kernels: Vec<Kernel<'_>> = parsed.collect();
    let parsed = object_bytes
        .iter()
        .map(|(name, bytes)| Object::parse(bytes).unwrap_or_else(|error| panic!("{name}: {error}")));
    let table = Table {
        name: table,
        rows,
        objects: parsed.collect(),
        object_numbers: object_bytes.keys().copied().zip(0..).collect(),
        kernel_numbers: kernel_bytes.keys().copied().zip(0..).collect(),
    };
    table.compare("pair by pair", true, |object, kernel| {
        let (object, kernel) = table.objects.get(object).zip(kernels.get(kernel)).expect("a pair");
        outcomes(Loader::Libbpf, object, kernel, Modules::All, |_| true)
    });
    table.compare_run("in one run", &kernels);

    let facts = Facts::default();
    let new = kernels.iter().zip(&kernel_bytes).map(|(kernel, (name, (vmlinux_bytes, module)))| {
        let modules = kernel.modules.iter().zip(module);
        let modules = modules.map(|(it, bytes)| NewModule { name: &it.name, btf: &it.indexed.btf, bytes });
        let (vmlinux, modules) = (&*kernel.vmlinux.btf, modules.collect());
        NewKernel { name, facts: &facts, vmlinux, vmlinux_bytes, modules }
    });
    let (bytes, added) = pack::build(&new.collect::<Vec<_>>()).expect("a pack");
    assert!(added.iter().all(|it| matches!(it, Added::New | Added::AliasOf(_))), "{added:?}");
    let file = PackFile::from_bytes(bytes);
    let (source, packed) = PackSource::kernels(file.view().expect("a whole pack")).expect("kernels");
    // Names of one content follow each other in a pack.
    let mut packed: BTreeMap<&str, Kernel<'_>> = packed.into_iter().collect();
    let kernels: Vec<Kernel<'_>> =
        kernel_bytes.keys().map(|name| packed.remove(name).expect("every name")).collect();
    table.compare_run("in one run from a pack", &kernels);
    assert!(source.damage().is_none(), "{:?}", source.damage());
}

#[test]
fn kernel_selftests_come_out_as_in_libbpf() {
    check("core_reloc-x-targets", |root, name| {
        let file = read(&root.join("objects").join(name));
        (elf_section(&file, ".BTF").expect("a target object has .BTF").to_vec(), None)
    });
}

#[test]
fn real_objects_on_real_kernels_come_out_as_in_libbpf() {
    check("objects-x-kernels", |root, name| (read(&root.join("kernels").join(name)), None));
}

#[test]
fn types_of_modules_come_out_as_in_libbpf() {
    check("objects-x-modules", |root, name| {
        let (kernel, _) = name.split_once('/').expect("kernel/module.btf");
        let vmlinux = read(&root.join(format!("kernels/{kernel}.btf")));
        (vmlinux, Some(read(&root.join("modules").join(name))))
    });
}

/// Answers by question: the records that a compiler emits for the two byte orders are not the same ones (shifts of
/// bitfields need a size in big endian only), but a question that both ask has the same answers.
type Answers = BTreeMap<String, BTreeSet<String>>;

/// What both byte orders of one object and target have to agree on.
fn common(object: &Object<'_>, reloc: &Reloc<'_>, outcome: &Outcome) -> (String, String) {
    let kind = reloc.kind.map_or("?", RelocKind::name);
    let access = String::from_utf8_lossy(reloc.access);
    let question = format!("{kind} {} {access}", object.root_name(reloc));
    let answer = match outcome {
        Outcome::Decided(it) => {
            let shift = reloc.kind == Some(RelocKind::FieldLshiftU64);
            let is_id = matches!(reloc.kind, Some(RelocKind::TypeIdLocal | RelocKind::TypeIdTarget));
            // Ids depend on the order in which the compiler emitted types; left shifts on the byte order.
            let values = if shift || is_id { None } else { Some((it.orig, it.new)) };
            // And with the value, whether it is the compiled one.
            let code = if values.is_some() || it.poisoned { it.code.name() } else { "resolved" };
            let (orig_size, new_size) = (it.orig_size, it.new_size);
            format!("{code} {:?} {values:?} {} {orig_size} {new_size}", it.reason, it.unresolved)
        }
        Outcome::Fatal(error) => format!("{} {}", error.code(), error.errno()),
        Outcome::Skipped | Outcome::ModuleDependent(_) => format!("{outcome:?}"),
    };
    (question, answer)
}

/// The files of a directory whose names start with `prefix`, by name.
fn named(dir: &Path, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some((entry.as_ref().ok()?.file_name().into_string().ok()?, entry.ok()?.path())))
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(name, path)| (name, read(&path)))
        .collect();
    files.sort();
    files
}

#[test]
fn either_byte_order_gives_the_same_answers() {
    let Some(root) = corpus() else { return };
    let dirs = ["selftests-core_reloc", "selftests-core_reloc-be"].map(|dir| root.join("objects").join(dir));
    let [objects, objects_be] = dirs.each_ref().map(|dir| named(dir, "test_core_reloc_"));
    let [targets, targets_be] = dirs.each_ref().map(|dir| named(dir, "btf__core_reloc_"));
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&objects), names(&objects_be), "the same objects in both byte orders");
    assert_eq!(names(&targets), names(&targets_be), "the same targets in both byte orders");

    let judge = |object: &Object<'_>, target: &[u8]| -> Answers {
        let btf = elf_section(target, ".BTF").expect("a target object has .BTF");
        let kernel = Kernel::parse(btf).expect("a target's .BTF is one");
        let outcomes = outcomes(Loader::Libbpf, object, &kernel, Modules::All, |_| true);
        let mut answers = Answers::new();
        for (reloc, outcome) in object.relocs().iter().zip(&outcomes) {
            let (question, answer) = common(object, reloc, outcome);
            answers.entry(question).or_default().insert(answer);
        }
        answers
    };
    let (mut asked, mut of_one, mut differences) = (0, 0, Vec::new());
    for ((name, little), (_, big)) in objects.iter().zip(&objects_be) {
        let little = Object::parse(little).expect("an object");
        let big = Object::parse(big).expect("an object");
        for ((target_name, target), (_, target_be)) in targets.iter().zip(&targets_be) {
            let (little, big) = (judge(&little, target), judge(&big, target_be));
            for (question, answers) in &little {
                match big.get(question) {
                    Some(others) if others == answers => asked += 1,
                    Some(others) => differences.push(format!(
                        "{name} on {target_name}: {question}\n   little {answers:?}\n      big {others:?}"
                    )),
                    None => of_one += 1,
                }
            }
            of_one += big.keys().filter(|question| !little.contains_key(*question)).count();
        }
    }
    eprintln!(
        "{asked} questions agree in both byte orders, {of_one} are asked in one only; {} objects, {} targets",
        objects.len(),
        targets.len()
    );
    assert!(asked > of_one, "hardly anything was compared");
    let shown: Vec<&str> = differences.iter().take(SHOWN).map(String::as_str).collect();
    assert!(differences.is_empty(), "{} differ\n{}", differences.len(), shown.join("\n"));
}
