//! What an object's programs read as something else, class of kernels by class of kernels.

use std::cell::RefCell;

use hashbrown::HashMap;

use super::check::Entry;
use super::reaching::Reaching;
use super::verdict::{Effect, Finding, ProgramVerdict, Verdict};
use crate::batch::{Folded, Run};
use crate::btf::TypeId;
use crate::drift::{Drift, Strict, Watch};
use crate::object::Object;
use crate::resolve::{Decision, Outcome};

/// What a drift depends on beside the record: the BTF of the shape, by its address, and the type in it.
type Key = (usize, usize, TypeId, bool);

/// The drifts of one object.
pub(super) struct Drifting<'a, 'r> {
    run: &'a Run<'r>,
    object: &'a Object<'r>,
    /// Number of the object.
    number: usize,
    watch: Watch<'a, 'r>,
    known: RefCell<HashMap<Key, Option<Drift>>>,
    /// Where bitfields are judged by their bits.
    strict: Option<Strict<'a, 'r>>,
    /// Numbers of the records that something can be said of, ascending.
    records: Vec<usize>,
}

/// What may drift, if paths lead there.
#[derive(Debug)]
pub(super) struct Suspects {
    /// Numbers of records, ascending.
    pub(super) records: Vec<usize>,
    /// By kernel: whether there is one on it.
    kernels: Vec<bool>,
}

impl<'a, 'r> Drifting<'a, 'r> {
    pub(super) fn of(run: &'a Run<'r>, object: &'a Object<'r>, number: usize) -> Self {
        let watch = Watch::new(object);
        let strict = Strict::of(run, object, number);
        let mut records = watch.records();
        if let Some(strict) = &strict {
            records.extend(strict.records());
            records.sort_unstable();
            records.dedup();
        }
        Self { run, object, number, watch, known: RefCell::default(), strict, records }
    }

    /// Looks for drifts on any kernel.
    pub(super) fn look(&self, folded: &Folded<'_>) -> Suspects {
        let drifts = |record: usize, kernel: usize| {
            !self.drifts(record, &|record| folded.outcome(record, kernel), kernel).is_empty()
        };
        let mut is_drifting = vec![false; self.run.kernel_count()];
        let mut drifting = Vec::new();
        for &record in &self.records {
            let mut drifts_somewhere = false;
            for (kernel, is_drifting) in is_drifting.iter_mut().enumerate() {
                if drifts(record, kernel) {
                    (*is_drifting, drifts_somewhere) = (true, true);
                }
            }
            if drifts_somewhere {
                drifting.push(record);
            }
        }
        Suspects { records: drifting, kernels: is_drifting }
    }

    /// By kernel: a number that kernels share on which the same drifts are found in `programs`, which are
    /// loaded with the records of `folded`. `suspects`: of the same.
    pub(super) fn numbers<'p>(
        &self,
        reaching: &Reaching<'_, '_>,
        folded: &Folded<'_>,
        suspects: &Suspects,
        programs: impl Iterator<Item = &'p Entry> + Clone,
    ) -> Vec<u32> {
        let mut numbers: HashMap<Vec<(usize, usize, Drift)>, u32> = HashMap::new();
        let of_kernel = |(kernel, is_drifting): (usize, &bool)| {
            let mut found = Vec::new();
            if *is_drifting {
                let outcomes = folded.on(kernel);
                for &Entry { program, ref linked, .. } in programs.clone() {
                    let drifts = self.of_program(reaching, program, linked, &outcomes, kernel);
                    found.extend(drifts.into_iter().map(|(record, drift)| (program, record, drift)));
                }
            }
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            *numbers.entry(found).or_insert(next)
        };
        suspects.kernels.iter().enumerate().map(of_kernel).collect()
    }

    /// Adds what bears on a program that is loaded with the functions `linked`. `outcomes`: of all records.
    pub(super) fn judge(
        &self,
        this: &mut ProgramVerdict,
        reaching: &Reaching<'_, '_>,
        linked: &[usize],
        outcomes: &[&Outcome],
        kernel: usize,
    ) {
        for (record, drift) in self.of_program(reaching, this.program, linked, outcomes, kernel) {
            this.add(Finding {
                code: drift.rule.name(),
                effect: Effect::Drift,
                verdict: Verdict::OkDrift,
                reloc: Some(record),
                subject: None,
                message: drift.message,
            });
        }
    }

    /// Whether a record is in one of some functions.
    fn is_in(&self, record: usize, linked: &[usize]) -> bool {
        let program = self.object.relocs().get(record).and_then(|it| it.program);
        program.is_some_and(|it| linked.contains(&it))
    }

    /// The drifts in a program's functions that its paths get to.
    fn of_program(
        &self,
        reaching: &Reaching<'_, '_>,
        program: usize,
        linked: &[usize],
        outcomes: &[&Outcome],
        kernel: usize,
    ) -> Vec<(usize, Drift)> {
        let of_record = |record: &usize| {
            let mut drifts = match self.is_in(*record, linked) {
                true => self.drifts(*record, &|record| outcomes.get(record).copied(), kernel),
                false => Vec::new(),
            };
            // Programs choose between forms of a read by release.
            if !drifts.is_empty() && !reaching.is_live(program, *record, outcomes, kernel) {
                drifts.clear();
            }
            drifts.into_iter().map(|it| (*record, it)).collect::<Vec<_>>()
        };
        self.records.iter().flat_map(of_record).collect()
    }

    /// What is read as something else by a record, or the access that it stands for.
    fn drifts<'o>(
        &self,
        record: usize,
        outcome_of: &dyn Fn(usize) -> Option<&'o Outcome>,
        kernel: usize,
    ) -> Vec<Drift> {
        let drift = match outcome_of(record) {
            Some(Outcome::Decided(decision)) => self.drift(record, decision, kernel),
            _ => None,
        };
        let strict = self.strict.as_ref();
        let mut drifts = strict.map(|it| it.drifts(record, outcome_of, kernel)).unwrap_or_default();
        // Both may say of a bitfield that it is read without its shifts.
        if let Some(drift) = drift {
            drifts.retain(|it| it.rule != drift.rule);
            drifts.insert(0, drift);
        }
        drifts
    }

    fn drift(&self, record: usize, decision: &Decision, kernel: usize) -> Option<Drift> {
        if !self.watch.may_drift(record, decision) {
            return None;
        }
        let shape = self.run.shape_of(self.number, record, kernel, decision.candidate?)?;
        let rules = self.run.rules(kernel)?;
        let key = (record, std::ptr::from_ref(shape.btf).addr(), shape.id, rules.one_by_one);
        let judge = || self.watch.judge(rules, record, decision, shape);
        self.known.borrow_mut().entry(key).or_insert_with(judge).clone()
    }
}
