//! Reachability against what the verifier did with the corpus' programs.

use std::collections::BTreeMap;
use std::fs;

use btfleet_engine::batch::outcomes;
use btfleet_engine::dialect::{Loader, Release};
use btfleet_engine::fleet::Modules;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::{ExternKind, Object};
use btfleet_engine::reach::{Program, Reach, Symbol, Verifier};

/// Check poison by poison.
#[test]
fn poison_is_reached_where_the_verifier_reached_it() {
    let Some(corpus) = btfleet_tests::corpus("reachability is not compared") else { return };
    let text = fs::read_to_string(corpus.join("loads/poison.tsv")).unwrap();
    let mut matrix: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    let mut kernels: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut slowest = (std::time::Duration::ZERO, String::new());
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [run, object_name, program_name, section, verdict, _, class, detail] = fields[..] else {
            panic!("{line}")
        };
        if let Ok(only) = std::env::var("ONLY")
            && !line.contains(&only)
        {
            continue;
        }
        if verdict == "not_judged" && class != "verifier" {
            continue;
        }
        let name = run.strip_prefix("loads-").or(run.strip_prefix("custom-")).unwrap();
        let name = name.strip_prefix("in-").unwrap_or(name);
        let (runs_on, name) = match name.split_once('@') {
            Some((btf, running)) => (running.to_owned(), btf.to_owned()),
            None if run.starts_with("custom") => ("6.18.44".to_owned(), name.to_owned()),
            None => (name.to_owned(), name.to_owned()),
        };
        let path = corpus.join(format!("kernels/{name}.btf"));
        let path = if path.exists() {
            path
        } else if name.contains("6.18.44") {
            "/sys/kernel/btf/vmlinux".into()
        } else {
            panic!("{name}")
        };
        let bytes = kernels.entry(name.clone()).or_insert_with(|| fs::read(path).unwrap());
        let object_bytes = fs::read(corpus.join("objects").join(object_name)).unwrap();
        let object = Object::parse(&object_bytes).unwrap();
        let Some(number) = object.programs().iter().position(|it| {
            it.name == program_name.as_bytes()
                && (it.section == section.as_bytes()
                    || it.section.strip_prefix(b"?") == Some(section.as_bytes()))
        }) else {
            panic!("{line}")
        };
        let kernel = Kernel::parse(bytes).unwrap();
        let outcomes = outcomes(Loader::Libbpf, &object, &kernel, Modules::All, |it| {
            it.program.is_some_and(|it| object.programs()[it].is_subprogram || it == number)
        });
        let outcomes: Vec<_> = outcomes.iter().collect();
        let release = Release::in_name(&runs_on);
        let symbols: Vec<Symbol> = object
            .externs()
            .iter()
            .map(|it| match it.kind {
                ExternKind::Kconfig => Symbol::Open,
                _ if it.is_weak => Symbol::Open,
                _ => Symbol::Present,
            })
            .collect();
        let program = Program::new(&object, number);
        let start = std::time::Instant::now();
        let (records, reached) = program.judge(&outcomes, &symbols, Verifier::of(release));
        let took = start.elapsed();
        if took > slowest.0 {
            slowest = (took, format!("{object_name} {program_name} {}", program.image.slots.len()));
        }
        let predicted = if reached.poisoned.iter().any(|it| matches!(it, Reach::Live(_))) {
            "live"
        } else if reached.poisoned.iter().any(|it| matches!(it, Reach::Conditional(..))) {
            "conditional"
        } else {
            "dead"
        };
        let _ = records;
        if (verdict == "reached") != (predicted == "live") && verdict != "not_judged" {
            println!("{run} {object_name} {program_name}: {verdict}, predicted {predicted}: {detail}");
            println!("    {:?}", reached.poisoned.first());
            println!("   slots {} functions {:?}", program.image.slots.len(), program.image.functions.len());
        }
        *matrix
            .entry((run.split('-').next().unwrap().to_owned(), verdict.to_owned(), predicted.to_owned()))
            .or_default() += 1;
    }
    for (key, count) in &matrix {
        println!("{key:?} {count}");
    }
    println!("slowest {slowest:?}");
}
