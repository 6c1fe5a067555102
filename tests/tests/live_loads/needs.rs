//! Programs as they are, on the running kernel's own BTF: what they attach to, functions and variables of the kernel,
//! structs that they implement.
//!
//! libbpf says of each which cause ends its load first, and the verdict has to name that cause; what it found has to be
//! called found. What it does not come to, or refuses for other reasons, says nothing and is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use btfleet_engine::batch::{Batch, Run};
use btfleet_engine::depend::Survey;
use btfleet_engine::dialect::Loader;
use btfleet_engine::fleet::Modules;
use btfleet_engine::format::Endian;
use btfleet_engine::object::Object;
use btfleet_engine::report::{self, Effect, Finding, Known, ProgramVerdict, Verdict, World};
use btfleet_tests::loading::{Attempt, Request};

use super::poison::running;
use super::{how_many, live, load_all, object_files, reason, short};

/// How many programs are loaded if nothing is said.
const USUAL: usize = 600;

/// How sure a prediction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sure {
    /// It depends on what is not known.
    Maybe,
    /// It fails if the verifier does not refuse the program for something else before.
    InVerifier,
    /// It fails before.
    Fails,
}

/// How a load ended, as far as it is about what we predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    /// It is loaded.
    Loaded,
    /// The verifier refused it for something of its own: all that libbpf looks up was there.
    Refused,
    Kfunc,
    Ksym,
    StructOps,
    Target,
    Argument,
    Poison,
    /// A record ended the load.
    Fatal,
}

impl Ending {
    /// What libbpf and the verifier say; `None` if they do not get to any of it.
    fn of(attempt: &Attempt) -> Option<Self> {
        let said = |text: &str| attempt.said.contains(text);
        Some(if attempt.errno == 0 {
            Self::Loaded
        } else if said("extern (func ksym)") || attempt.log.contains("is referenced but wasn't resolved") {
            Self::Kfunc
        } else if said("libbpf: extern ") {
            Self::Ksym
        } else if said("struct_ops init_kern") {
            Self::StructOps
        } else if said("failed to find kernel BTF type ID") || said("is not found in vmlinux BTF") {
            Self::Target
        } else if said("failed to perform CO-RE relocations") || said("relocation decision ambiguity") {
            Self::Fatal
        } else if attempt.reached_poison() {
            Self::Poison
        } else if attempt.log.contains("-th argument\n") {
            Self::Argument
        } else if attempt.log.is_empty() && !said("program load failed") {
            return None;
        } else {
            Self::Refused
        })
    }

    /// What a finding predicts; `None` if the load does not depend on it.
    fn predicted(finding: &Finding) -> Option<(Self, Sure)> {
        if finding.verdict <= Verdict::OkDrift || finding.effect == Effect::AttachFails {
            return None;
        }
        let subject = finding.subject.as_deref().unwrap_or_default();
        let ending = match subject.split(' ').next() {
            _ if finding.reloc.is_some() && finding.effect == Effect::Aborts => Self::Fatal,
            _ if finding.reloc.is_some() => Self::Poison,
            Some("kfunc") => Self::Kfunc,
            Some("ksym" | "kconfig") => Self::Ksym,
            Some("struct_ops") => Self::StructOps,
            _ if finding.code == "argument-missing" => Self::Argument,
            _ => Self::Target,
        };
        let sure = match finding.effect {
            // The verifier comes to the load as it comes to poison.
            Effect::Aborts if ending == Self::Argument => Sure::InVerifier,
            Effect::Aborts => Sure::Fails,
            Effect::PoisonedLive => Sure::InVerifier,
            _ => Sure::Maybe,
        };
        Some((ending, sure))
    }
}

/// Check that what libbpf does not find in the running kernel is called missing, and that what it finds is not.
#[test]
fn needs_are_met_here_as_predicted() {
    let Some(live) = live("attach targets, kfuncs and symbols are not compared with a load") else { return };
    let files: Vec<_> =
        object_files().into_iter().map(|it| (short(&it), fs::read(it).expect("an object"))).collect();
    let parsed = files.iter().filter_map(|(name, file)| {
        let object = Object::parse(file).ok()?;
        let is_meant = object.endian() == Endian::Little && object.refused().is_none();
        is_meant.then_some(((name.as_str(), file), object))
    });
    let (names, objects): (Vec<(&str, &Vec<u8>)>, Vec<Object<'_>>) = parsed.unzip();
    let kernels = [running(&live)];
    let batch = Batch::new(0).expect("threads");
    let run = Run::new(&batch, &objects, &kernels, &[Loader::Libbpf], Modules::Each);
    let survey = Survey::new(&batch, &objects, &kernels, Modules::Each);
    let kconfig = live.kconfig.clone().map(std::sync::Arc::new);
    let world =
        World { kernels: vec![Known::new(&kernels[0], Some(live.release), kconfig)], ..World::default() };

    let mut subjects = Vec::new();
    for (number, object) in objects.iter().enumerate() {
        let verdicts = report::check(&run, Some(&survey), &world, number).on(0).map(<[_]>::to_vec);
        for verdict in verdicts.unwrap_or_default() {
            let program = &object.programs()[verdict.program];
            // Loaded alone, no other program ends its load.
            if !program.name.is_empty() && verdict.aborted_by.is_none() {
                subjects.push((number, verdict));
            }
        }
    }
    let all = subjects.len();
    let wanted = how_many(all, USUAL).clamp(1, all.max(1));
    let mut requests: Vec<Request> =
        names.iter().map(|it| Request { object: it.1.clone(), programs: Vec::new() }).collect();
    let mut asked = Vec::new();
    for (place, (number, verdict)) in subjects.iter().enumerate() {
        // Evenly spread.
        if place * wanted / all == (place + 1) * wanted / all {
            continue;
        }
        let programs = &mut requests[*number].programs;
        asked.push((*number, verdict, programs.len()));
        let name = objects[*number].programs()[verdict.program].name;
        programs.push(String::from_utf8_lossy(name).into_owned());
    }
    let answers = load_all(&requests);

    let mut matrix: BTreeMap<(Ending, &'static str), usize> = BTreeMap::new();
    let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
    let (mut misses, mut alarms) = (Vec::new(), Vec::new());
    for (number, verdict, place) in asked {
        let Some(attempt) = answers[number].as_ref().map(|it| &it[place]) else {
            *left_out.entry("the helper died".into()).or_default() += 1;
            continue;
        };
        let Some(ending) = Ending::of(attempt) else {
            *left_out.entry(reason(attempt)).or_default() += 1;
            continue;
        };
        let program = &objects[number].programs()[verdict.program];
        let section = program.section.strip_prefix(b"?").unwrap_or(program.section);
        let label = label(ending, verdict, section.starts_with(b"struct_ops"));
        *matrix.entry((ending, label)).or_default() += 1;
        let told = || {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let codes: Vec<&str> = verdict.findings.iter().map(|it| it.code).collect();
            let (object, name, section) = (names[number].0, text(program.name), text(program.section));
            format!("{object} {name} ({section}): {ending:?}, {}, predicted {codes:?}", reason(attempt))
        };
        match label {
            "missed" => misses.push(told()),
            "false alarm" => alarms.push(told()),
            _ => {}
        }
    }
    let judged: usize = matrix.values().sum();
    eprintln!("{all} programs; {judged} judged on the running kernel");
    for ((ending, label), count) in &matrix {
        eprintln!("  {:10} {label:22} {count:6}", format!("{ending:?}"));
    }
    let mut left_out: Vec<_> = left_out.into_iter().collect();
    left_out.sort_by_key(|it| std::cmp::Reverse(it.1));
    eprintln!("  left out: {}", left_out.iter().map(|it| it.1).sum::<usize>());
    let shown = if std::env::var_os("BTFLEET_LIVE_SHOW").is_some() { left_out.len() } else { 8 };
    for (reason, count) in left_out.iter().take(shown) {
        eprintln!("    {count:6} {reason}");
    }
    for told in misses.iter().chain(&alarms) {
        eprintln!("  differs: {told}");
    }
    assert!(misses.is_empty(), "{} programs that libbpf refused are called fine", misses.len());
    assert!(alarms.len() * 50 <= judged, "{} of {judged} are said to fail and do not", alarms.len());
    assert!(judged > 0, "nothing was compared");
}

/// How a prediction compares with how the load ended.
fn label(ending: Ending, verdict: &ProgramVerdict, implements: bool) -> &'static str {
    let predicted = verdict.findings.iter().filter_map(Ending::predicted);
    // Maps of structs are made for the programs that are in them only.
    let predicted: BTreeSet<(Ending, Sure)> =
        predicted.filter(|it| implements || it.0 != Ending::StructOps).collect();
    let sure_of = |ending: Ending| predicted.iter().filter(|it| it.0 == ending).map(|it| it.1).max();
    let fails = |at_least: Sure| predicted.iter().any(|it| it.1 >= at_least);
    match (ending, sure_of(ending)) {
        (Ending::Loaded, _) if fails(Sure::InVerifier) => "false alarm",
        (Ending::Refused, _) if fails(Sure::Fails) => "false alarm",
        (Ending::Loaded | Ending::Refused, _) if fails(Sure::Maybe) => "said to depend",
        (Ending::Loaded | Ending::Refused, _) => "predicted",
        (_, Some(Sure::Maybe)) => "said to depend",
        (_, Some(_)) => "predicted",
        (_, None) => "missed",
    }
}
