//! Programs that were relocated for other kernels: whether the verifier of the running one gets to what was poisoned.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use btfleet_engine::batch::{Batch, Run};
use btfleet_engine::depend::{self, Code, Owner, Severity};
use btfleet_engine::dialect::Loader;
use btfleet_engine::fleet::Modules;
use btfleet_engine::format::Endian;
use btfleet_engine::kallsyms::Listed;
use btfleet_engine::kconfig::KconfigType;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::{ExternKind, Object, Reloc};
use btfleet_engine::reach::{Program, Reach, Symbol, Verifier};
use btfleet_engine::relocate::{self, Optional};
use btfleet_engine::resolve::Outcome;
use btfleet_tests::loading::Request;

use super::{Live, files, how_many, live, load_all, object_files, reason, short};

/// How many programs are loaded if nothing is said.
const USUAL: usize = 900;

/// A program that is poisoned somewhere, as it is after relocation for some kernel.
struct Subject {
    object: usize,
    program: usize,
    /// Name of the kernel.
    kernel: String,
    /// The object's file after relocation: its number.
    file: usize,
    predicted: &'static str,
}

/// What is known of the externs of an object on the running kernel.
fn symbols(object: &Object<'_>, kernel: &Kernel<'_>, live: &Live) -> Vec<Symbol> {
    let needs = depend::needs(object);
    let of = |number: usize| {
        let it = &object.externs()[number];
        if it.kind == ExternKind::Kconfig {
            let ty = object.btf().zip(it.btf_id).and_then(|(btf, id)| KconfigType::of(btf, id));
            let release = live.release;
            let version =
                u64::from(release.major) << 16 | u64::from(release.minor) << 8 | u64::from(release.patch);
            let value = match (ty, it.name, &live.kconfig) {
                (Some(ty), b"LINUX_KERNEL_VERSION", _) => Some(ty.number(version, object.endian())),
                (Some(ty), b"LINUX_HAS_SYSCALL_WRAPPER", _) => {
                    let names = [&b"__x64_sys_bpf"[..], b"__arm64_sys_bpf", b"__s390x_sys_bpf"];
                    let is_listed = |it: &&[u8]| {
                        matches!(live.kallsyms.function(it), Some(Listed::Once | Listed::Several(_)))
                    };
                    // libbpf finds out by placing a kprobe.
                    let can_probe = Path::new("/sys/bus/event_source/devices/kprobe").exists();
                    let has = can_probe && names.iter().any(is_listed);
                    Some(ty.number(has.into(), object.endian()))
                }
                (Some(ty), name, Some(kconfig)) if name.starts_with(b"CONFIG_") => {
                    ty.encode(kconfig.get(name), object.endian())
                }
                _ => None,
            };
            return value.map_or(Symbol::Open, Symbol::Value);
        }
        let need = needs.iter().find(|it| it.owner == Owner::Extern(number));
        let answer = need.map(|it| depend::answer(&it.need, kernel, Modules::All));
        match answer.map(|it| (it.code, it.severity)) {
            Some((Code::KfuncMissingWeak | Code::KsymMissingWeak, _)) => Symbol::Missing,
            Some((_, Severity::Conditional)) | None => Symbol::Open,
            Some(_) => Symbol::Present,
        }
    };
    (0..object.externs().len()).map(of).collect()
}

/// What a program's poisoned instructions come to: the worst of them.
fn worst(poisoned: &[Reach]) -> &'static str {
    let has = |of: fn(&Reach) -> bool| poisoned.iter().any(of);
    if has(|it| matches!(it, Reach::Live(path) if path.is_proved)) {
        "poisoned-live"
    } else if has(|it| matches!(it, Reach::Conditional(..))) {
        "poisoned-conditional"
    } else if has(|it| matches!(it, Reach::Live(_))) {
        "not proved"
    } else {
        "poisoned-dead"
    }
}

/// Kernels to relocate for: their names and files.
fn kernel_files() -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = files(&root.join("../workloads/samples/kernels"), ".btf");
    found.extend(files(&root.join("../../shared/corpus/kernels"), ".btf"));
    found.into_iter().map(|it| (short(&it), fs::read(&it).expect("a kernel"))).collect()
}

/// Check that the verifier gets to no poison that is called dead, and to nearly all that is called live.
#[test]
fn poison_is_reached_here_as_predicted() {
    let Some(live) = live("poison is not compared with the verifier") else { return };
    let files: Vec<_> =
        object_files().into_iter().map(|it| (short(&it), fs::read(it).expect("an object"))).collect();
    let parsed = files.iter().filter_map(|(name, file)| {
        let object = Object::parse(file).ok()?;
        (object.endian() == Endian::Little && object.refused().is_none()).then_some((name.as_str(), object))
    });
    let (names, objects): (Vec<&str>, Vec<Object<'_>>) = parsed.unzip();
    let kernel_files = kernel_files();
    let parsed =
        kernel_files.iter().filter_map(|(name, file)| Some((name.as_str(), Kernel::parse(file).ok()?)));
    let (kernel_names, kernels): (Vec<&str>, Vec<Kernel<'_>>) = parsed.unzip();
    let batch = Batch::new(0).expect("threads");
    let loaders = vec![Loader::Libbpf; kernels.len()];
    let run = Run::new(&batch, &objects, &kernels, &loaders, Modules::Each);

    let running = running(&live);
    let numbers: Vec<usize> = (0..objects.len()).collect();
    let found = batch.map(&numbers, |&number| subjects(&run, number, &kernel_names, &running, &live));
    let (mut subjects, mut relocated) = (Vec::new(), Vec::new());
    for (of_object, files) in found {
        subjects.extend(of_object.into_iter().map(|it| Subject { file: it.file + relocated.len(), ..it }));
        relocated.extend(files);
    }
    let all = subjects.len();
    let wanted = how_many(all, USUAL).clamp(1, all.max(1));
    let mut requests: Vec<Request> =
        relocated.into_iter().map(|object| Request { object, programs: Vec::new() }).collect();
    let mut asked = Vec::new();
    for (number, subject) in subjects.iter().enumerate() {
        // Evenly spread.
        if number * wanted / all == (number + 1) * wanted / all {
            continue;
        }
        let programs = &mut requests[subject.file].programs;
        asked.push((subject, subject.file, programs.len()));
        let name = objects[subject.object].programs()[subject.program].name;
        programs.push(String::from_utf8_lossy(name).into_owned());
    }
    let answers = load_all(&requests);

    let mut matrix: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let (mut left_out, mut wrong, mut alarms) = (BTreeMap::<String, usize>::new(), Vec::new(), Vec::new());
    for (subject, file, place) in asked {
        let Some(attempt) = answers[file].as_ref().map(|it| &it[place]) else {
            *left_out.entry("the helper died".into()).or_default() += 1;
            continue;
        };
        let happened = match attempt.errno {
            0 => "loads",
            _ if attempt.reached_poison() => "reached",
            _ => {
                *left_out.entry(reason(attempt)).or_default() += 1;
                continue;
            }
        };
        *matrix.entry((happened, subject.predicted)).or_default() += 1;
        let told = || {
            let program = &objects[subject.object].programs()[subject.program];
            let name = String::from_utf8_lossy(program.name).into_owned();
            let section = String::from_utf8_lossy(program.section).into_owned();
            let object = names[subject.object];
            let predicted = subject.predicted;
            format!("{object} {name} ({section}) for {}: {happened}, predicted {predicted}", subject.kernel)
        };
        match (happened, subject.predicted) {
            ("reached", "poisoned-dead") => wrong.push(told()),
            ("loads", "poisoned-live") | ("reached", "poisoned-conditional") => alarms.push(told()),
            _ => {}
        }
    }
    let judged: usize = matrix.values().sum();
    eprintln!("{all} poisoned programs, distinct after relocation; {judged} judged here");
    for ((happened, predicted), count) in &matrix {
        eprintln!("  {happened:8} predicted {predicted:22} {count:6}");
    }
    let mut left_out: Vec<_> = left_out.into_iter().collect();
    left_out.sort_by_key(|it| std::cmp::Reverse(it.1));
    let total: usize = left_out.iter().map(|it| it.1).sum();
    eprintln!("  left out, refused for something else: {total}");
    let shown = if std::env::var_os("BTFLEET_LIVE_SHOW").is_some() { left_out.len() } else { 8 };
    for (reason, count) in left_out.iter().take(shown) {
        eprintln!("    {count:6} {reason}");
    }
    let live = matrix.iter().filter(|((_, predicted), _)| *predicted == "poisoned-live").map(|it| it.1);
    let live: usize = live.sum();
    for told in &alarms {
        eprintln!("  differs: {told}");
    }
    assert!(wrong.is_empty(), "dead, and reached all the same: {wrong:#?}");
    let false_alarms = matrix.get(&("loads", "poisoned-live")).copied().unwrap_or(0);
    assert!(false_alarms * 50 <= live, "{false_alarms} of {live} that are called live are not reached");
    assert!(judged > 0, "nothing was compared");
}

/// The running kernel as the engine sees it.
pub(super) fn running(live: &Live) -> Kernel<'_> {
    let mut kernel = Kernel::parse(&live.vmlinux).expect("the running kernel's BTF");
    kernel.kallsyms = Some(std::sync::Arc::new(live.kallsyms.clone()));
    kernel
}

/// Poisoned programs of an object, each distinct once, and the relocated files that they are in.
fn subjects(
    run: &Run<'_>,
    number: usize,
    kernel_names: &[&str],
    running: &Kernel<'_>,
    live: &Live,
) -> (Vec<Subject>, Vec<Vec<u8>>) {
    let (mut subjects, mut files) = (Vec::new(), Vec::new());
    let Some(object) = run.object(number) else { return (subjects, files) };
    let symbols = symbols(object, running, live);
    let mut linked: HashMap<usize, Program<'_>> = HashMap::new();
    let mut seen = std::collections::HashSet::new();
    for planned in relocate::plan(run, number, Optional::Relocate) {
        let (Ok(plan), Some(&kernel)) = (planned.plan, planned.kernels.first()) else { continue };
        let file = plan.patch.apply(object);
        let folded = run.fold(number, |it| it.program.is_none_or(|it| !plan.patch.leaves(it)));
        let outcomes = folded.on(kernel);
        let mut is_used = false;
        for (program, it) in object.programs().iter().enumerate().filter(|(_, it)| !it.is_subprogram) {
            let functions = object.linked_functions(program);
            let records = object.relocs().iter().zip(&outcomes).enumerate();
            let is_poisoned = |(number, (reloc, outcome)): (usize, (&Reloc<'_>, &&Outcome))| {
                let is_own = reloc.program.is_some_and(|it| functions.contains(&it));
                let is_poisoned = matches!(outcome, Outcome::Decided(it) if it.poisoned);
                (is_own && is_poisoned).then_some(number)
            };
            let poisoned: Vec<usize> = records.filter_map(is_poisoned).collect();
            if poisoned.is_empty() || plan.patch.leaves(program) || it.name.is_empty() {
                continue;
            }
            let insns = relocate::instructions(object, &file, program);
            if !seen.insert((program, insns.concat())) {
                continue;
            }
            let linked = linked.entry(program).or_insert_with(|| Program::new(object, program));
            let (_, reached) = linked.judge(&outcomes, &symbols, Verifier::of(Some(live.release)), &poisoned);
            is_used = true;
            subjects.push(Subject {
                object: number,
                program,
                kernel: kernel_names[kernel].to_owned(),
                file: files.len(),
                predicted: worst(&reached.asked),
            });
        }
        if is_used {
            files.push(file);
        }
    }
    (subjects, files)
}
