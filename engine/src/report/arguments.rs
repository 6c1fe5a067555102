//! Programs that read arguments which what they attach to does not have, or has as something else, class of kernels by
//! class of kernels.
//!
//! The verifier refuses such a load where it gets there, and programs choose between the forms of a prototype as they
//! choose between fields: only what is reached counts.

use hashbrown::HashMap;

use super::check::Entry;
use super::needs;
use super::reaching::{Found, Reaching};
use super::verdict::{Effect, Finding, ProgramVerdict, Verdict};
use crate::batch::Folded;
use crate::depend::{Answered, Owner, Severity, Survey, of_use};
use crate::object::Object;
use crate::reach::{ContextUse, context_uses};
use crate::resolve::Outcome;

/// Arguments of one object's programs that some kernel does not have.
#[derive(Default)]
pub(super) struct Arguments<'a, 'r> {
    object: Option<&'a Object<'r>>,
    unmet: Vec<Argument<'a, 'r>>,
}

struct Argument<'a, 'r> {
    program: usize,
    /// Slots of the loads.
    slots: Vec<usize>,
    answered: &'a Answered<'r>,
}

impl<'a, 'r> Arguments<'a, 'r> {
    pub(super) fn of(object: &'a Object<'r>, survey: &'a Survey<'r>, number: usize) -> Self {
        let argument = |(owner, answered): (Owner, &'a Answered<'r>)| {
            let Owner::Program(program) = owner else { return None };
            let target = answered.need.argument_of()?;
            if answered.answers.iter().all(|it| it.severity == Severity::Fine) {
                return None;
            }
            let uses = context_uses(object, program);
            let is_it = |it: &&ContextUse| of_use(object, target, it).as_ref() == Some(&answered.need);
            Some(Argument { program, slots: uses.iter().filter(is_it).map(|it| it.slot).collect(), answered })
        };
        Self { object: Some(object), unmet: survey.of(number).filter_map(argument).collect() }
    }

    /// By kernel: a number that kernels share on which the same is missing and reached. Empty if nothing ever is.
    pub(super) fn numbers(
        &self,
        reaching: &Reaching<'_, '_>,
        folds: &[Folded<'_>],
        entries: &[Entry],
        kernels: usize,
    ) -> Vec<u32> {
        if self.unmet.is_empty() {
            return Vec::new();
        }
        let mut numbers: HashMap<Vec<(usize, u32, Option<Found>)>, u32> = HashMap::new();
        let of_kernel = |kernel: usize| {
            let mut outcomes: HashMap<usize, Vec<&Outcome>> = HashMap::new();
            let of_argument = |(number, it): (usize, &Argument<'_, '_>)| {
                let fold = entries.iter().find(|entry| entry.program == it.program)?.fold;
                it.missing(kernel)?;
                let outcomes = outcomes
                    .entry(fold)
                    .or_insert_with(|| folds.get(fold).map(|it| it.on(kernel)).unwrap_or_default());
                let found = reaching.surest(it.program, &it.slots, outcomes, kernel);
                Some((number, *it.answered.answer_of.get(kernel)?, found))
            };
            let found: Vec<_> = self.unmet.iter().enumerate().filter_map(of_argument).collect();
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            *numbers.entry(found).or_insert(next)
        };
        (0..kernels).map(of_kernel).collect()
    }

    /// Adds what bears on a program. `outcomes`: of all records.
    pub(super) fn judge(
        &self,
        this: &mut ProgramVerdict,
        reaching: &Reaching<'_, '_>,
        outcomes: &[&Outcome],
        kernel: usize,
    ) {
        let Some(object) = self.object else { return };
        let program = this.program;
        for argument in self.unmet.iter().filter(|it| it.program == program) {
            let Some(answer) = argument.missing(kernel) else { continue };
            let found = reaching.surest(program, &argument.slots, outcomes, kernel);
            let why = answer.detail.clone().unwrap_or_default();
            let (effect, verdict, assumed, message) = match found {
                // Another form of the prototype, for other kernels.
                Some(Found::Dead { .. }) => continue,
                Some(Found::Live { assumed }) if answer.severity == Severity::Drifts => {
                    (Effect::Drift, Verdict::OkDrift, assumed, why)
                }
                // Of what is no more than a warning, nothing is said that is not sure.
                _ if answer.severity == Severity::Drifts => continue,
                Some(Found::Live { assumed }) => (Effect::Aborts, Verdict::FailAttach, assumed, why),
                Some(Found::Conditional { assumed }) => {
                    let message = format!("{why}; whether the verifier gets there is open");
                    (Effect::Conditional, Verdict::Conditional, assumed, message)
                }
                Some(Found::Bounded) | None => {
                    this.is_bounded = true;
                    let message = format!("{why}; that the verifier gets there is too much work to rule out");
                    (Effect::Conditional, Verdict::Conditional, Vec::new(), message)
                }
            };
            this.assumptions.extend(assumed);
            this.add(Finding {
                code: answer.code.name(),
                effect,
                verdict,
                reloc: None,
                subject: Some(needs::subject(Owner::Program(program), object, &argument.answered.need)),
                message,
            });
        }
    }
}

impl<'a> Argument<'a, '_> {
    /// The answer on a kernel that lacks it.
    fn missing(&self, kernel: usize) -> Option<&'a crate::depend::Answer> {
        self.answered.on(kernel).filter(|it| it.severity != Severity::Fine)
    }
}
