//! Verdicts against what really happened: programs of the corpus' objects that were loaded one by one on real kernels.
//!
//! The corpus stands beside the source tree; where it is absent this test says so on stderr and judges nothing.
#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]
#![expect(
    clippy::print_stderr,
    reason = "the one way for a test to say that it skipped, or how much it judged"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use btfleet_engine::batch::{Batch, Run};
use btfleet_engine::depend::Survey;
use btfleet_engine::dialect::{Loader, Release};
use btfleet_engine::fleet::Modules;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::Object;
use btfleet_engine::report::{self, Effect, Finding, Known, ProgramVerdict, Verdict, World};

/// Kernels that the objects were loaded on; of the last there is BTF only while it runs.
const KERNELS: [&str; 6] = [
    "5.10.0-46-cloud-amd64",
    "6.1.0-56-cloud-amd64",
    "6.12.117+deb13-cloud-amd64",
    "6.18.15+deb13-cloud-amd64",
    "7.3.4+deb13-cloud-amd64",
    NATIVE,
];
const NATIVE: &str = "6.18.44-native";

/// Causes of failure that verdicts predict. The order is that in which libbpf meets them.
const CAUSES: [&str; 7] = [
    "extern_missing",
    "kfunc_missing",
    "struct_ops_type",
    "core_fatal",
    "attach_target",
    "core_poison",
    ARGUMENT,
];

/// A cause that the tables do not tell from others of the verifier, but for its last words.
const ARGUMENT: &str = "argument";
/// Programs whose context are the arguments of their target.
const WITH_ARGUMENTS: [&str; 5] = ["tp_btf", "fentry", "fexit", "fmod_ret", "lsm"];

/// What was recorded before libbpf came to any of it, or says nothing about it.
const NOT_TRIED: [&str; 5] =
    ["open_failed", "no_programs", "skipped_by_libbpf", "map_missing", "prog_type_unset"];

/// Rows that were called fine and failed for a cause in scope, with the reason: object, program, cause.
const KNOWN_MISSES: [(&str, &str, &str); 0] = [];

/// Rows that were said to fail and did not, with the reason.
const KNOWN_ALARMS: [(&str, &str, &str); 0] = [];

/// One row of a table.
struct Row<'a> {
    object: &'a str,
    /// `*` for the object as a whole.
    program: &'a str,
    section: &'a str,
    /// Class of the first attempt, and of the one after what was not the program's own fault was taken away.
    class: [&'a str; 2],
    detail: &'a str,
}

impl<'a> Row<'a> {
    fn parse(line: &'a str) -> Self {
        let columns: Vec<&str> = line.split('\t').collect();
        let &[object, program, section, class, _, last, _, _, _, detail] = columns.as_slice() else {
            panic!("bad line: {line}")
        };
        // One class under two names.
        let has_arguments = WITH_ARGUMENTS.iter().any(|it| section.trim_start_matches('?').starts_with(it));
        let is_argument = has_arguments && detail.starts_with("invalid bpf_context access");
        let class = [class, last].map(|it| match it {
            "ksym_missing" => "extern_missing",
            "verifier" if is_argument => ARGUMENT,
            other => other,
        });
        Self { object, program, section, class, detail }
    }
}

/// How sure a prediction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sure {
    /// The load depends on something that is not known.
    Maybe,
    /// It fails once the verifier gets there, if it does not refuse the program for something else before.
    InVerifier,
    /// It fails before.
    Fails,
}

/// What a finding predicts: a cause, and whether for sure.
fn prediction(finding: &Finding) -> Option<(&'static str, Sure)> {
    if finding.verdict <= Verdict::OkDrift {
        return None;
    }
    let sure = match finding.effect {
        // The verifier comes to the load as it comes to poison.
        Effect::Aborts if finding.code == "argument-missing" => Sure::InVerifier,
        Effect::Aborts => Sure::Fails,
        Effect::PoisonedLive => Sure::InVerifier,
        _ => Sure::Maybe,
    };
    let subject = finding.subject.as_deref().unwrap_or_default();
    let cause = match subject.split(' ').next() {
        _ if finding.reloc.is_some() && sure == Sure::Fails => "core_fatal",
        _ if finding.reloc.is_some() => "core_poison",
        _ if finding.code == "argument-missing" => ARGUMENT,
        Some("kfunc") => "kfunc_missing",
        Some("ksym" | "kconfig") => "extern_missing",
        Some("struct_ops") => "struct_ops_type",
        _ => "attach_target",
    };
    // What fails only when it is attached was loaded.
    let counts = sure != Sure::Maybe
        || cause == "core_poison"
        || matches!(
            finding.code,
            "target-set-at-runtime" | "kfunc-missing-weak" | "ksym-needs-kallsyms" | "kconfig-unknown"
        );
    counts.then_some((cause, sure))
}

#[derive(Default)]
struct Tally {
    /// (what happened, what was predicted): rows.
    matrix: BTreeMap<(String, String), usize>,
    misses: Vec<String>,
    alarms: Vec<String>,
    judged: usize,
}

impl Tally {
    fn add(&mut self, row: &Row<'_>, attempt: usize, predicted: &BTreeSet<(&'static str, Sure)>) {
        let actual = row.class[attempt];
        if NOT_TRIED.contains(&actual) {
            return;
        }
        // In the second attempt externs were weak, and maps that could not be made were not made.
        let excused: &[&str] =
            if attempt == 1 { &["extern_missing", "kfunc_missing", "struct_ops_type"] } else { &[] };
        let in_scope = CAUSES.contains(&actual);
        let sure_of = |cause: &str| predicted.iter().filter(|it| it.0 == cause).map(|it| it.1).max();
        // Maps are made before a target is looked up, and of a whole object the first program that fails is the last.
        let too_late = |cause: &str, sure: Sure| match (cause, sure) {
            (_, Sure::InVerifier) => actual != "ok",
            ("attach_target", _) => actual == "map_create" || row.program == "*" && actual != "ok",
            _ => false,
        };
        let is_alarm = |cause: &&&str| {
            let sure = sure_of(cause).filter(|it| *it > Sure::Maybe);
            sure.is_some_and(|sure| !excused.contains(*cause) && !too_late(cause, sure))
        };
        let label = match (sure_of(actual).filter(|_| in_scope), CAUSES.iter().find(is_alarm)) {
            (Some(Sure::Maybe), _) => format!("{actual}?"),
            (Some(_), _) => actual.to_owned(),
            (None, Some(cause)) => (*cause).to_owned(),
            (None, None) => "fine".to_owned(),
        };
        self.judged += 1;
        let place = format!("{} {} ({}): {}: {}", row.object, row.program, row.section, actual, row.detail);
        let known = |list: &[(&str, &str, &str)]| {
            list.iter().any(|it| row.object.contains(it.0) && (it.1 == "*" || row.program == it.1))
        };
        if in_scope && label == "fine" && !known(&KNOWN_MISSES) {
            self.misses.push(place);
        } else if !in_scope && label != "fine" && !known(&KNOWN_ALARMS) {
            self.alarms.push(format!("{place} (predicted {label})"));
        }
        *self.matrix.entry((actual.to_owned(), label)).or_default() += 1;
    }

    fn print(&self, title: &str) {
        eprintln!("{title}: {} rows judged", self.judged);
        for ((actual, predicted), count) in &self.matrix {
            eprintln!("  {actual:16} predicted {predicted:16} {count:6}");
        }
        for (what, list) in [("called fine", &self.misses), ("false alarm", &self.alarms)] {
            for place in list.iter().take(12) {
                eprintln!("  {what}: {place}");
            }
        }
    }
}

fn kernel_file(corpus: &Path, kernel: &str) -> Option<PathBuf> {
    if kernel != NATIVE {
        return Some(corpus.join("kernels").join(format!("{kernel}.btf")));
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let live = PathBuf::from("/sys/kernel/btf/vmlinux");
    (release.starts_with("6.18.44") && live.is_file()).then_some(live)
}

/// Check that programs which failed for a cause in scope are not called fine, and few that loaded are said to fail.
#[test]
fn verdicts_agree_with_what_happened() {
    let Some(corpus) = btfleet_tests::corpus("verdicts are not compared with real loads") else { return };
    let (mut judged, mut misses, mut alarms) = (0, 0, 0);
    for kernel in KERNELS {
        let Some(path) = kernel_file(&corpus, kernel) else {
            eprintln!("SKIPPED: {kernel} does not run here, and its BTF is not in the corpus");
            continue;
        };
        let table = std::fs::read_to_string(corpus.join("loads").join(format!("loads-{kernel}.tsv")));
        let table = table.expect("the corpus has the table");
        let rows: Vec<Row<'_>> = table.lines().skip(1).map(Row::parse).collect();
        for tally in judge(&corpus, kernel, &path, &rows) {
            judged += tally.judged;
            misses += tally.misses.len();
            alarms += tally.alarms.len();
        }
    }
    eprintln!("all kernels: {judged} rows judged, {misses} called fine that failed, {alarms} false alarms");
    assert!(judged > 0, "there are tables");
    assert_eq!(misses, 0, "called fine that failed for a cause in scope");
    assert!(alarms * 50 <= judged, "more than 2 % false alarms");
}

fn judge(corpus: &Path, name: &str, btf: &Path, rows: &[Row<'_>]) -> [Tally; 2] {
    let read =
        |path: &Path| std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let names: BTreeSet<&str> = rows.iter().map(|it| it.object).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let files: Vec<Vec<u8>> = names.iter().map(|it| read(&corpus.join("objects").join(it))).collect();
    let vmlinux = read(btf);
    let kernels = [Kernel::parse(&vmlinux).expect("a kernel")];
    let parsed = names.iter().zip(&files).filter_map(|(name, file)| Some((*name, Object::parse(file).ok()?)));
    let (names, objects): (Vec<&str>, Vec<Object<'_>>) = parsed.unzip();
    let batch = Batch::new(0).expect("threads");
    let run = Run::new(&batch, &objects, &kernels, &[Loader::Libbpf], Modules::Each);
    let survey = Survey::new(&batch, &objects, &kernels, Modules::Each);
    let known = Known::new(&kernels[0], Release::in_name(name), None);
    let world = World { kernels: vec![known], ..World::default() };
    let mut verdicts = BTreeMap::new();
    for (number, name) in names.iter().enumerate() {
        let of_object = report::check(&run, Some(&survey), &world, number).on(0).map(<[_]>::to_vec);
        verdicts.insert(*name, (&objects[number], of_object.unwrap_or_default()));
    }
    let mut tallies = [Tally::default(), Tally::default()];
    for row in rows {
        let Some((object, verdicts)) = verdicts.get(row.object) else { continue };
        let is_meant = |it: &&ProgramVerdict| {
            let program = &object.programs()[it.program];
            let section = program.section.strip_prefix(b"?").unwrap_or(program.section);
            let row_section = row.section.strip_prefix('?').unwrap_or(row.section);
            match row.program {
                "*" => program.autoload,
                name => program.name == name.as_bytes() && section == row_section.as_bytes(),
            }
        };
        let meant: Vec<&ProgramVerdict> = verdicts.iter().filter(is_meant).collect();
        if meant.is_empty() {
            continue;
        }
        let predicted = meant.iter().flat_map(|it| &it.findings).filter_map(prediction).collect();
        for (attempt, tally) in tallies.iter_mut().enumerate() {
            tally.add(row, attempt, &predicted);
        }
    }
    for (tally, attempt) in tallies.iter().zip(["first attempt", "last attempt"]) {
        tally.print(&format!("{name}, {attempt}"));
    }
    tallies
}
