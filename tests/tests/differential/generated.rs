//! Random cases.
//!
//! `BTFLEET_DIFF_RECORDS` sets how many records are compared at least, `BTFLEET_DIFF_SEED` which ones.
#![expect(clippy::print_stderr, reason = "the histogram is worth reading")]

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::time::Instant;
use std::{env, thread};

use btfleet_engine::batch::outcomes;
use btfleet_engine::dialect::Loader;
use btfleet_engine::fleet::Modules;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::Object;
use btfleet_engine::resolve::Outcome;
use btfleet_tests::build::ByteOrder;
use btfleet_tests::generator::Case;
use btfleet_tests::oracle::{Answer, Options, Oracle};

use crate::compare::{difference, oracle};

/// Cases that are shared out to the threads at a time, so that a run does not depend on their number.
const BLOCK: u64 = 128;

/// Codes that have to occur 50 times in 20,000 records.
const CODES: [&str; 32] = [
    "exact",
    "moved",
    "resized",
    "present-as-queried",
    "absent-as-queried",
    "zero-as-queried",
    "no-type",
    "fwd-only",
    "no-field",
    "field-incompatible",
    "array-bounds",
    "type-incompatible",
    "no-enumerator",
    "size-unsafe",
    "pruned-away",
    "ambiguous-offset",
    "ambiguous-value",
    "bitfield-unreadable",
    "offset-overflow",
    "insn-mismatch",
    "insn-unsupported",
    "width-mismatch",
    "anonymous-root",
    "bad-access-string",
    "bad-type-id",
    "bad-insn-offset",
    "local-type-unusable",
    "kind-not-applicable",
    "too-deep",
    "match-too-deep",
    "unknown-kind",
    "target-malformed",
];

/// What a run was about.
#[derive(Debug, Default)]
struct Histogram {
    cases: u64,
    records: u64,
    /// Of the engine; reasons count like codes.
    codes: BTreeMap<&'static str, u64>,
    /// Answers that would be others if earlier records had not dropped candidates.
    pruned: u64,
    many_candidates: u64,
    from_modules: u64,
    no_program: u64,
    big_endian: u64,
}

impl Histogram {
    fn count(&mut self, case: &Case, outcomes: &[Outcome], answers: &[Answer]) {
        self.cases += 1;
        for (outcome, answer) in outcomes.iter().zip(answers) {
            self.records += 1;
            self.big_endian += u64::from(case.order == ByteOrder::Big);
            self.pruned += u64::from(answer.without_pruning.is_some());
            self.many_candidates += u64::from(answer.cands.0 >= 3);
            match outcome {
                Outcome::Fatal(error) => *self.codes.entry(error.code()).or_default() += 1,
                Outcome::Decided(it) => {
                    for code in [Some(it.code), it.reason].into_iter().flatten() {
                        *self.codes.entry(code.name()).or_default() += 1;
                    }
                    self.from_modules += u64::from(it.candidate.is_some_and(|it| it.module.is_some()));
                }
                Outcome::Skipped | Outcome::ModuleDependent(_) => self.no_program += 1,
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.records += other.records;
        for (code, n) in other.codes {
            *self.codes.entry(code).or_default() += n;
        }
        self.pruned += other.pruned;
        self.many_candidates += other.many_candidates;
        self.from_modules += other.from_modules;
        self.no_program += other.no_program;
        self.big_endian += other.big_endian;
    }

    /// What the run was too short of.
    fn shortages(&self) -> Vec<String> {
        let codes = CODES.map(|code| (code, self.codes.get(code).copied().unwrap_or(0), 50));
        let others = [
            ("changed by pruning", self.pruned, 200),
            ("three candidates or more", self.many_candidates, 1000),
            ("from modules", self.from_modules, 100),
            ("in no program", self.no_program, 50),
            ("big-endian", self.big_endian, 5000),
        ];
        codes
            .into_iter()
            .chain(others)
            .map(|(what, n, per_run)| (what, n, per_run * self.records / 20_000))
            .filter(|(_, n, wanted)| n < wanted)
            .map(|(what, n, wanted)| format!("{what}: {n} of {wanted}"))
            .collect()
    }
}

/// The answers of both sides, or what is wrong with the case.
fn judge(oracle: &mut Oracle, case: &Case) -> Result<(Vec<Outcome>, Vec<Answer>), String> {
    let (target, modules, file) = (case.target_btf(), case.module_btfs(), case.to_object());
    oracle.set_target(&target, &modules).map_err(|error| error.to_string())?;
    let options = Options { log: true, compare_pruning: true };
    let answers = oracle.relocate(&case.oracle_input(), options).map_err(|error| error.to_string())?;

    let outcomes =
        catch_unwind(|| resolve(&file, &target, &modules)).map_err(|_| "the engine panicked")??;
    if outcomes.len() != answers.len() {
        return Err(format!("{} records for the engine, {} for libbpf", outcomes.len(), answers.len()));
    }
    Ok((outcomes, answers))
}

/// The engine's answers.
fn resolve(object: &[u8], target: &[u8], modules: &[Vec<u8>]) -> Result<Vec<Outcome>, String> {
    let object = Object::parse(object).map_err(|error| error.to_string())?;
    let mut kernel = Kernel::parse(target).map_err(|error| error.to_string())?;
    for (number, module) in modules.iter().enumerate() {
        kernel.add_module(format!("module {number}"), module).map_err(|error| error.to_string())?;
    }
    Ok(outcomes(Loader::Libbpf, &object, &kernel, Modules::All, |_| true))
}

/// The first record whose answers differ, and how.
fn first_difference(case: &Case, outcomes: &[Outcome], answers: &[Answer]) -> Option<(usize, String)> {
    let pairs = case.records.iter().zip(outcomes).zip(answers).enumerate();
    pairs.into_iter().find_map(|(number, ((record, outcome), answer))| {
        Some((number, difference(outcome, answer, record.kind, case.order)?))
    })
}

/// Case number `number` of a run: one in three is big-endian.
fn case(seed: u64, number: u64) -> Case {
    let order = if number % 3 == 2 { ByteOrder::Big } else { ByteOrder::Little };
    Case::generate_in(order, seed << 32 | number)
}

/// The smallest case like `case` that the two sides answer differently, with both answers.
fn describe(oracle: &mut Oracle, case: &Case) -> String {
    let mut differs = |case: &Case| {
        let (outcomes, answers) = judge(oracle, case).ok()?;
        first_difference(case, &outcomes, &answers)
    };
    let small = case.minimize(|it| differs(it).is_some());
    match differs(&small) {
        Some((number, why)) => format!("{small}record #{number}:\n{why}"),
        None => format!("{case}the difference did not come back"),
    }
}

/// How far a thread got.
#[derive(Default)]
struct Run {
    histogram: Histogram,
    /// The first case that went wrong, and what is wrong unless the answers differ.
    failed: Option<(Case, Option<String>)>,
}

/// Judges cases in order, up to the first that fails.
fn run_cases(oracle: &mut Oracle, seed: u64, numbers: &[u64]) -> Run {
    let mut run = Run::default();
    for &number in numbers {
        let case = case(seed, number);
        match judge(oracle, &case) {
            Err(error) => run.failed = Some((case, Some(error))),
            Ok((outcomes, answers)) if first_difference(&case, &outcomes, &answers).is_some() => {
                run.failed = Some((case, None));
            }
            Ok((outcomes, answers)) => {
                run.histogram.count(&case, &outcomes, &answers);
                continue;
            }
        }
        break;
    }
    run
}

pub(crate) fn number_from_env(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")),
        Err(_) => default,
    }
}

#[test]
fn generated_cases_come_out_as_in_libbpf() {
    let wanted = number_from_env("BTFLEET_DIFF_RECORDS", 100_000);
    let seed = number_from_env("BTFLEET_DIFF_SEED", 0);
    let start = Instant::now();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut oracles: Vec<Oracle> = (0..threads).map(|_| oracle()).collect();
    let mut total = Histogram::default();
    let mut next = 0;
    while total.records < wanted {
        let numbers: Vec<u64> = (next..next + BLOCK).collect();
        next += BLOCK;
        let share = numbers.len().div_ceil(threads);
        let results: Vec<_> = thread::scope(|scope| {
            let workers: Vec<_> = oracles
                .iter_mut()
                .zip(numbers.chunks(share))
                .map(|(oracle, numbers)| scope.spawn(|| run_cases(oracle, seed, numbers)))
                .collect();
            workers.into_iter().map(|worker| worker.join().expect("no panic")).collect()
        });
        for (run, oracle) in results.into_iter().zip(&mut oracles) {
            total.add(run.histogram);
            let Some((case, error)) = run.failed else { continue };
            let why =
                error.map_or_else(|| describe(oracle, &case), |error| format!("{case}no answers: {error}"));
            // The script of the mutants reads the number.
            panic!("run {seed}: the case after {} records is answered differently:\n{why}", total.records);
        }
    }
    eprintln!("run {seed}: {total:#?}\n{:.1} s, no difference", start.elapsed().as_secs_f64());
    let shortages = total.shortages();
    assert!(shortages.is_empty(), "too few: {shortages:#?}");
}
