//! The `ebpf-go` dialect against cilium/ebpf itself: instruction by instruction, of every program with what it calls.
//!
//! Its answers for the samples are recorded (`ebpf_go/README.md`). Those for the corpus are made
//! where `BTFLEET_EBPF_GO` names the built `ebpf_go/answers.go`.
//!
//! Where cilium/ebpf gives up on a program, one of our records of that program has to end the load; which of them is not
//! compared. The value of `TYPE_ID_LOCAL` is not compared either: cilium/ebpf gives the program's BTF new ids.
#![expect(clippy::print_stderr, reason = "a test says how much it judged")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use btfleet_engine::batch::outcomes;
use btfleet_engine::dialect::Loader;
use btfleet_engine::fleet::Modules;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::Object;
use btfleet_engine::resolve::Outcome;

/// Differences that are shown; the rest is counted.
const SHOWN: usize = 10;

/// What cilium/ebpf makes of a program on a kernel.
#[derive(Default)]
struct Answer<'t> {
    error: Option<&'t str>,
    /// By function and byte offset: fixup, and bytes or error.
    records: BTreeMap<(&'t str, u64), Fixup<'t>>,
}

/// What it computed, and the instruction's bytes or why it cannot be patched.
type Fixup<'t> = (&'t str, Result<&'t str, &'t str>);

/// By object, kernel and program.
type Answers<'t> = BTreeMap<(&'t str, &'t str), BTreeMap<&'t str, Answer<'t>>>;

fn read_answers(text: &str) -> Answers<'_> {
    let mut all = Answers::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match *fields.as_slice() {
            [_, _, "unread", ..] => {}
            [object, kernel, program, "error", why] => {
                let programs = all.entry((object, kernel)).or_default();
                programs.entry(program).or_default().error = Some(why);
            }
            [object, kernel, program, function, offset, _, fixup, ref result @ ..] => {
                let result = match *result {
                    ["error", why] => Err(why),
                    [bytes] => Ok(bytes),
                    _ => panic!("{line}"),
                };
                let programs = all.entry((object, kernel)).or_default();
                let offset = offset.parse().expect("an offset");
                programs.entry(program).or_default().records.insert((function, offset), (fixup, result));
            }
            _ => panic!("{line}"),
        }
    }
    all
}

#[derive(Debug, Default)]
struct Totals {
    pairs: u32,
    programs: u32,
    records: u32,
    poisoned: u32,
    gave_up: u32,
    differences: Vec<String>,
}

/// Compares one object on one kernel.
fn compare(
    name: &str,
    object: &Object<'_>,
    kernel: &Kernel<'_>,
    programs: &BTreeMap<&str, Answer<'_>>,
    totals: &mut Totals,
) {
    let outcomes = outcomes(Loader::EbpfGo, object, kernel, Modules::All, |_| true);
    totals.pairs += 1;
    for (number, program) in object.programs().iter().enumerate() {
        let program_name = String::from_utf8_lossy(program.name);
        let Some(answer) = programs.get(program_name.as_ref()).filter(|_| !program.is_subprogram) else {
            continue;
        };
        totals.programs += 1;
        let linked = object.linked_functions(number);
        let own = object
            .relocs()
            .iter()
            .zip(&outcomes)
            .filter(|(reloc, _)| reloc.program.is_some_and(|it| linked.contains(&it)));
        let own: Vec<_> = own.collect();
        let fatal = own.iter().find(|(_, it)| matches!(it, Outcome::Fatal(_)));
        if let Some(why) = answer.error {
            totals.gave_up += 1;
            if fatal.is_none() {
                totals.differences.push(format!("{name}, {program_name}: gives up ({why}), ours does not"));
            }
            continue;
        }
        let fails = answer.records.values().any(|(_, result)| result.is_err());
        if !fails && let Some((reloc, outcome)) = fatal {
            let path = object.path(reloc);
            totals
                .differences
                .push(format!("{name}, {program_name}: relocated, ours of {path}: {outcome:?}"));
            continue;
        }
        for (reloc, outcome) in own {
            let Some(function) = reloc.program.and_then(|it| object.programs().get(it)) else { continue };
            let function_name = String::from_utf8_lossy(function.name);
            let offset = u64::from(reloc.insn_off) - function.offset;
            let place = format!("{name}, {program_name}, {function_name}+{offset}, {}", object.path(reloc));
            let Some((fixup, theirs)) = answer.records.get(&(function_name.as_ref(), offset)) else {
                totals.differences.push(format!("{place}: no answer"));
                continue;
            };
            totals.records += 1;
            if fixup.starts_with("local_type_id") {
                continue;
            }
            let agrees = match (outcome, theirs) {
                (Outcome::Decided(ours), Ok(theirs)) => {
                    totals.poisoned += u32::from(ours.poisoned);
                    let bytes: String = ours.insn.iter().map(|it| format!("{it:02x}")).collect();
                    bytes == *theirs
                }
                (Outcome::Fatal(_), Err(_)) => true,
                _ => false,
            };
            if !agrees {
                totals.differences.push(format!("{place}: {fixup}, {theirs:?}, ours {outcome:x?}"));
            }
        }
    }
}

/// Compares all pairs that there are answers for.
fn check(answers: &Answers<'_>, objects: &[(String, Vec<u8>)], kernels: &[(String, Vec<u8>)]) -> Totals {
    let mut totals = Totals::default();
    let objects: Vec<_> =
        objects.iter().filter_map(|(name, file)| Some((name, Object::parse(file).ok()?))).collect();
    for (kernel_name, data) in kernels {
        let kernel = Kernel::parse(data).expect("a kernel's BTF");
        for (name, object) in &objects {
            let programs = answers.get(&(name.as_str(), kernel_name.as_str()));
            // Neither reads the other byte order.
            if let Some(programs) = programs.filter(|_| object.endian() == kernel.vmlinux.btf.endian()) {
                compare(&format!("{name} on {kernel_name}"), object, &kernel, programs, &mut totals);
            }
        }
    }
    report(&totals);
    totals
}

fn report(totals: &Totals) {
    let Totals { pairs, programs, records, poisoned, gave_up, differences } = totals;
    eprintln!(
        "{pairs} pairs, {programs} programs ({gave_up} given up), {records} records ({poisoned} poisoned), {} differ",
        differences.len()
    );
    let shown: Vec<&str> = differences.iter().take(SHOWN).map(String::as_str).collect();
    assert!(shown.is_empty(), "{} differ\n{}", differences.len(), shown.join("\n"));
}

/// All files below `dir` whose names end in `suffix`.
fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        for path in entries.map(|it| it.expect("an entry").path()) {
            if path.is_dir() {
                pending.push(path);
            } else if path.to_string_lossy().ends_with(suffix) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Files by their names without `.zst`, unpacked.
fn named(paths: &[PathBuf]) -> Vec<(String, Vec<u8>)> {
    let read = |path: &PathBuf| {
        let name = path.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
        let data = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        match name.strip_suffix(".zst") {
            Some(name) => (name.to_owned(), zstd::decode_all(data.as_slice()).expect("zstd")),
            None => (name, data),
        }
    };
    paths.iter().map(read).collect()
}

/// Where cilium/ebpf can be asked; says so where not.
fn answers_program() -> Option<PathBuf> {
    let program = std::env::var_os("BTFLEET_EBPF_GO").map(PathBuf::from);
    if program.is_none() {
        btfleet_tests::skip(
            "BTFLEET_EBPF_GO does not name the built ebpf_go/answers.go: cilium/ebpf is not asked",
        );
    }
    program
}

fn ask(program: &Path, objects: &[PathBuf], kernels: &[PathBuf]) -> String {
    let output = Command::new(program).args(objects).arg("--").args(kernels).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn samples_come_out_as_in_ebpf_go() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let recorded = std::fs::read(root.join("ebpf_go/samples.tsv.zst")).expect("the recorded answers");
    let text = String::from_utf8(zstd::decode_all(recorded.as_slice()).expect("zstd")).expect("text");
    let samples = root.join("../workloads/samples");
    let objects = named(&files(&samples.join("objects"), ".o"));
    let kernels = named(&files(&samples.join("kernels"), ".btf.zst"));
    let totals = check(&read_answers(&text), &objects, &kernels);
    assert!(totals.records > 500 && totals.poisoned > 0 && totals.gave_up > 0, "{totals:?}");
}

#[test]
fn the_corpus_comes_out_as_in_ebpf_go() {
    let Some(program) = answers_program() else { return };
    let Some(dir) = btfleet_tests::corpus("cilium/ebpf's answers are not compared") else { return };
    // Answers name files without their folders.
    let own = tempfile::tempdir().expect("a folder");
    let link = |(number, path): (usize, PathBuf)| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let link = own.path().join(format!("{number}-{name}"));
        std::os::unix::fs::symlink(path, &link).expect("a link");
        link
    };
    let objects: Vec<PathBuf> = files(&dir.join("objects"), ".o").into_iter().enumerate().map(link).collect();
    let kernels = files(&dir.join("kernels"), ".btf");
    let text = ask(&program, &objects, &kernels);
    let totals = check(&read_answers(&text), &named(&objects), &named(&kernels));
    assert!(totals.records > 10_000, "{totals:?}");
}
