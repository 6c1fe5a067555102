//! What the generator's cases contain, judged by libbpf.

#![expect(clippy::print_stdout, reason = "the mix is worth reading")]

use std::collections::BTreeMap;
use std::time::Instant;

use btfleet_tests::build::ByteOrder;
use btfleet_tests::generator::Case;
use btfleet_tests::oracle::{Answer, Options, Oracle, OracleError, Stage, Status};

fn oracle() -> Oracle {
    Oracle::spawn(env!("CARGO_BIN_EXE_oracle")).expect("the oracle starts")
}

fn judge(oracle: &mut Oracle, case: &Case, options: Options) -> Result<Vec<Answer>, OracleError> {
    oracle.set_target(&case.target_btf(), &case.module_btfs())?;
    oracle.relocate(&case.oracle_input(), options)
}

/// The nearest thing to a verdict that libbpf's answer and log tell.
fn code(a: &Answer, kind: u32) -> &'static str {
    let log = |text: &str| a.log.contains(text);
    match (a.status, a.stage) {
        (Status::NoProgram, _) => "no-program",
        (Status::Fatal, Stage::Record) if a.log.is_empty() && a.insn.is_empty() => "bad-insn-offset",
        (Status::Fatal, Stage::Record) => "bad-type-id",
        (Status::Fatal, Stage::Candidates) => "anonymous-root",
        (Status::Fatal, Stage::Calculate) => match a.errno {
            _ if log("field offset ambiguity") => "ambiguous-offset",
            _ if log("relocation decision ambiguity") => "ambiguous-value",
            _ if log("can't be applied to array access") => "kind-not-applicable",
            _ if log("can't be satisfied for bitfield") => "bitfield-unreadable",
            _ if log("error matching candidate") && a.errno == 7 => "too-deep",
            _ if log("error matching candidate") && (8..=9).contains(&kind) || kind == 12 || kind == 7 => {
                "match-too-deep"
            }
            _ if log("error matching candidate") => "target-malformed",
            _ if kind >= 13 => "unknown-kind",
            _ if log(" failed: ") => "bad-access-string or local-type-unusable",
            22 => "local-type-unusable or target-malformed",
            _ => "other calculation",
        },
        (Status::Fatal, Stage::Patch) if a.errno == 34 => "offset-overflow",
        (Status::Fatal, Stage::Patch) if log("mem size") => "width-mismatch",
        (Status::Fatal, Stage::Patch) if log("unexpected insn") => "insn-mismatch",
        (Status::Fatal, Stage::Patch) => "insn-unsupported",
        (Status::Ok, _) if !a.poison && a.insn_poisoned() => "size-unsafe",
        (Status::Ok, _) => match (kind, a.poison, a.new_val) {
            (11, true, _) | (10, _, 0) if a.cands.0 > 0 => "no-enumerator",
            (_, poison, value)
                if a.without_pruning.is_some_and(|(e, p, v)| e == 0 && (!p, v) > (!poison, value)) =>
            {
                "pruned-away"
            }
            _ if a.without_pruning.is_some() => "pruned (another effect)",
            (_, true, _) if a.cands.0 == 0 => "no-type (poison)",
            (_, true, _) => "absent (poison)",
            (2 | 8 | 10 | 12, _, 1) => "present-as-queried",
            (2 | 8 | 10 | 12, _, _) if a.cands.0 == 0 => "no-type (query)",
            (2 | 8 | 10 | 12, ..) => "absent-as-queried",
            (7 | 9, _, 0) => "zero-as-queried",
            _ if a.orig_sz != a.new_sz && !a.fail_memsz_adjust => "resized or adjustable",
            _ if a.orig_val != a.new_val => "moved",
            _ => "exact",
        },
    }
}

#[test]
fn cases_are_rich() {
    let mut oracle = oracle();
    let mut codes: BTreeMap<&str, u32> = BTreeMap::new();
    let (mut records, mut many_candidates, mut pruning_matters) = (0, 0, 0);
    let mut seed = 0;
    while records < 20_000 {
        let case = Case::generate(seed);
        let options = Options { log: true, compare_pruning: true };
        let answers = judge(&mut oracle, &case, options).unwrap_or_else(|err| panic!("seed {seed}: {err}"));
        assert_eq!(answers.len(), case.records.len(), "seed {seed}");
        for (a, r) in answers.iter().zip(&case.records) {
            *codes.entry(code(a, r.kind)).or_default() += 1;
            many_candidates += u32::from(a.cands.0 >= 3);
            pruning_matters += u32::from(a.without_pruning.is_some());
            records += 1;
        }
        seed += 1;
    }
    println!(
        "{seed} cases, {records} records, {many_candidates} with 3 candidates, {pruning_matters} pruned"
    );
    for (code, n) in &codes {
        println!("{n:6} {code}");
    }
    for (code, n) in &codes {
        assert!(*n >= 50 || *code == "other calculation", "{code}: only {n}");
    }
    assert!(codes.len() >= 26, "{} codes", codes.len());
    assert!(many_candidates >= 1000, "{many_candidates}");
    assert!(pruning_matters >= 200, "{pruning_matters}");
}

#[test]
fn the_oracle_is_fast_enough_for_millions() {
    let mut oracle = oracle();
    let cases: Vec<Case> = (0..1000).map(|n| Case::generate(n * 7 + 1_000_000)).collect();
    let start = Instant::now();
    let mut records = 0;
    for case in &cases {
        records += judge(&mut oracle, case, Options::default()).expect("answers").len();
    }
    println!(
        "{records} records in {:?}: {:.0}/s",
        start.elapsed(),
        records as f64 / start.elapsed().as_secs_f64()
    );
    assert!(records > 10_000);
}

#[test]
fn generated_objects_open_in_libbpf() {
    let mut oracle = oracle();
    for seed in 0..300 {
        let case = Case::generate(seed);
        let programs = case.records.iter().map(|r| r.program).max().expect("records") + 1;
        // The second program is a subprogram, which libbpf does not count.
        let entries = if programs > 1 { programs - 1 } else { 1 };
        assert_eq!(oracle.open(&case.to_object()).expect("opens"), entries, "seed {seed}");
        let swapped = Case { order: ByteOrder::Big, ..case.clone() };
        assert_eq!(oracle.open(&swapped.to_object()).expect("opens"), entries, "seed {seed}, big-endian");
        let (input, other) = (case.oracle_input(), swapped.oracle_input());
        assert_eq!((input.sections, input.records), (other.sections, other.records), "seed {seed}");
    }
}

#[test]
fn a_seed_gives_the_same_case_again() {
    for seed in 0..50 {
        assert_eq!(Case::generate(seed), Case::generate(seed));
        assert_eq!(Case::generate(seed).to_object(), Case::generate(seed).to_object());
    }
}

#[test]
fn shrinking_keeps_the_failure_and_little_else() {
    let mut oracle = oracle();
    let fails = |oracle: &mut Oracle, case: &Case| {
        judge(oracle, case, Options { log: true, compare_pruning: false })
            .is_ok_and(|answers| answers.iter().any(|a| a.log.contains("field offset ambiguity")))
    };
    let case = (0..500).map(Case::generate).find(|c| fails(&mut oracle, c)).expect("one of 500");
    let small = case.minimize(|c| fails(&mut oracle, c));
    assert_eq!(small.records.len(), 1);
    assert!(small.target.len() <= case.target.len());
    assert!(small.local.len() <= case.local.len());
}
