//! What an object's programs read as something else, class of kernels by class of kernels.

use std::cell::RefCell;

use hashbrown::HashMap;

use super::reaching::{Found, Reaching};
use super::verdict::{Effect, Finding, ProgramVerdict, Verdict};
use crate::batch::{Folded, Run};
use crate::btf::TypeId;
use crate::drift::{Drift, Watch};
use crate::format::insn::Insn;
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
}

impl<'a, 'r> Drifting<'a, 'r> {
    pub(super) fn of(run: &'a Run<'r>, object: &'a Object<'r>, number: usize) -> Self {
        Self { run, object, number, watch: Watch::new(object), known: RefCell::default() }
    }

    /// Whether there is nothing to look at.
    pub(super) fn is_empty(&self) -> bool {
        self.watch.is_empty()
    }

    /// By kernel: a number that kernels share on which the same drifts are found in `programs`, each with the functions
    /// that it is loaded with. `folded`: with those programs switched on.
    pub(super) fn numbers<'p>(
        &self,
        reaching: &Reaching<'_, '_>,
        folded: &Folded<'_>,
        programs: impl Iterator<Item = (usize, &'p [usize])> + Clone,
    ) -> Vec<u32> {
        let records = self.watch.records();
        let mut numbers: HashMap<Vec<(usize, usize, Drift)>, u32> = HashMap::new();
        let of_kernel = |kernel| {
            let may_drift = records.iter().any(|&record| match folded.outcome(record, kernel) {
                Some(Outcome::Decided(decision)) => self.drift(record, decision, kernel).is_some(),
                _ => false,
            });
            let mut found = Vec::new();
            if may_drift {
                let outcomes = folded.on(kernel);
                for (program, linked) in programs.clone() {
                    let drifts = self.of_program(reaching, program, linked, &outcomes, kernel);
                    found.extend(drifts.into_iter().map(|(record, drift)| (program, record, drift)));
                }
            }
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            *numbers.entry(found).or_insert(next)
        };
        (0..self.run.kernel_count()).map(of_kernel).collect()
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

    /// The drifts in a program's functions that its paths get to.
    fn of_program(
        &self,
        reaching: &Reaching<'_, '_>,
        program: usize,
        linked: &[usize],
        outcomes: &[&Outcome],
        kernel: usize,
    ) -> Vec<(usize, Drift)> {
        let relocs = self.object.relocs();
        let is_own =
            |record: &usize| relocs.get(*record)?.program.map(|it| linked.contains(&it)).filter(|it| *it);
        let of_record = |record: usize| {
            is_own(&record)?;
            let Outcome::Decided(decision) = outcomes.get(record)? else { return None };
            let drift = self.drift(record, decision, kernel)?;
            // Were it poisoned, would that be seen? Programs choose between forms of a read by release.
            let poisoned = Outcome::Decided(Decision {
                poisoned: true,
                insn: Insn::POISON.encode(self.object.endian()).into_iter().collect(),
                ..decision.clone()
            });
            let mut outcomes = outcomes.to_vec();
            *outcomes.get_mut(record)? = &poisoned;
            let reached = reaching.judge(program, &outcomes, kernel);
            matches!(reached.record(record), Some(Found::Live { .. })).then_some((record, drift))
        };
        self.watch.records().into_iter().filter_map(of_record).collect()
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
