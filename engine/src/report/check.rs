//! Judges the programs of one object on all kernels of a run.

use super::arguments::Arguments;
use super::drifting::Drifting;
use super::needs::Needs;
use super::reaching::{self, Reaching};
use super::records::Records;
use super::verdict::{Effect, Finding, ProgramVerdict, Verdict, Verdicts};
use super::world::{Externs, World};
use crate::batch::{Aspect, Classes, Run};
use crate::depend::Survey;
use crate::object::{Object, Program, Reloc};
use crate::resolve::Outcome;

/// An entry program.
pub(super) struct Entry {
    /// Its number.
    pub(super) program: usize,
    /// Numbers of it and the functions that it is loaded with.
    pub(super) linked: Vec<usize>,
    /// Number of the fold of the records that it is loaded with.
    pub(super) fold: usize,
}

/// Judges every entry program of object number `number` on the kernels of a run.
///
/// Candidates are pruned by the records of autoloaded programs and of all subprograms, as when libbpf loads
/// the object unasked. Each program with a leading `?` is judged in a fold of its own with itself switched
/// on, and never bears on the others; so is each that its loader may leave out. The kernel's own loader sees one program
/// at a time, so there no program bears on another.
///
/// `survey`: the needs of the same objects on the same kernels; without it, only records are judged.
/// `world`: what else is known of the same kernels.
pub fn check(run: &Run<'_>, survey: Option<&Survey<'_>>, world: &World, number: usize) -> Verdicts {
    let Some(object) = run.object(number) else {
        return Verdicts { classes: Classes::none(run.kernel_count()), by_class: Vec::new() };
    };
    let programs = object.programs();
    let is_on = |program: &Program<'_>| world.roles.loads_unasked(program);
    let autoloaded = |reloc: &Reloc<'_>| reloc.program.and_then(|it| programs.get(it)).is_none_or(is_on);
    // The first is the one that the autoloaded programs share.
    let mut folds = vec![run.fold(number, autoloaded)];
    let of_program = |(program, it): (usize, &Program<'_>)| {
        let is_alone = !is_on(it) && has_records(object, program);
        if is_alone {
            folds.push(run.fold(number, |reloc| autoloaded(reloc) || reloc.program == Some(program)));
        }
        let fold = if is_alone { folds.len() - 1 } else { 0 };
        Entry { program, linked: object.linked_functions(program), fold }
    };
    let entries: Vec<Entry> =
        programs.iter().enumerate().filter(|(_, it)| !it.is_subprogram).map(of_program).collect();
    let mut classes = Classes::none(run.kernel_count());
    for folded in &folds {
        classes.join(&folded.classes(Aspect::Verdict));
    }
    let needs = survey.map(|it| Needs::of(object, it, number)).unwrap_or_default();
    for answered in needs.telling() {
        classes.split_by_numbers(&answered.answer_of);
    }
    let mut reaching = Reaching::of(object, Externs::of(object, survey, number), world);
    let drifting = Drifting::of(run, object, number);
    let mut suspects = Vec::new();
    for (fold, folded) in folds.iter().enumerate() {
        let (poisoned, looked) = (folded.poisoned(), drifting.look(folded));
        for entry in entries.iter().filter(|it| it.fold == fold) {
            let function_of = |record: &usize| object.relocs().get(*record).and_then(|it| it.program);
            let is_own = |record: &&usize| function_of(record).is_some_and(|it| entry.linked.contains(&it));
            let asked = poisoned.iter().chain(&looked.records).filter(is_own);
            reaching.will_ask(entry.program, asked.copied());
        }
        suspects.push(looked);
    }
    reaching::split(&mut classes, &reaching, &folds, &entries);
    let drifts = folds.iter().zip(&suspects).enumerate().filter(|(_, (_, it))| !it.records.is_empty());
    for (fold, (folded, suspects)) in drifts {
        let of_fold = entries.iter().filter(|it| it.fold == fold);
        classes.split_by_numbers(&drifting.numbers(&reaching, folded, suspects, of_fold));
    }
    let arguments = survey.map(|it| Arguments::of(object, it, number)).unwrap_or_default();
    let numbers = arguments.numbers(&reaching, &folds, &entries, run.kernel_count());
    if !numbers.is_empty() {
        classes.split_by_numbers(&numbers);
    }
    let by_class = classes.first.iter().map(|&kernel| {
        let outcomes: Vec<Vec<&Outcome>> = folds.iter().map(|it| it.on(kernel)).collect();
        let verdicts = entries.iter().map(|entry| {
            let outcomes = outcomes.get(entry.fold).map_or(&[][..], Vec::as_slice);
            let mut this = ProgramVerdict::new(entry.program);
            if let Some(refusal) = object.refused() {
                this.add(Finding {
                    code: "object-refused",
                    effect: Effect::Refused,
                    verdict: Verdict::Unknown,
                    reloc: None,
                    subject: None,
                    message: format!("libbpf would not open the object: {refusal}"),
                });
            }
            let reached = reaching.judge(entry.program, outcomes, kernel);
            Records { run, object, kernel, outcomes, reached: &reached }.judge(&mut this, &entry.linked);
            drifting.judge(&mut this, &reaching, &entry.linked, outcomes, kernel);
            needs.judge(&mut this, &entry.linked, kernel, &reached);
            arguments.judge(&mut this, &reaching, outcomes, kernel);
            this.assumptions.sort();
            this.assumptions.dedup();
            this
        });
        verdicts.collect()
    });
    let by_class = by_class.collect();
    Verdicts { classes, by_class }
}

fn has_records(object: &Object<'_>, program: usize) -> bool {
    object.relocs().iter().any(|it| it.program == Some(program))
}
