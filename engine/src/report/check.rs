//! Judges the programs of one object on all kernels of a run.

use super::drifting::Drifting;
use super::needs::Needs;
use super::reaching::{self, Reaching};
use super::records::Records;
use super::verdict::{Effect, Finding, ProgramVerdict, Verdict, Verdicts};
use super::world::{Externs, World};
use crate::batch::{Aspect, Classes, Folded, Run};
use crate::depend::Survey;
use crate::object::{Object, Program, Reloc};

/// Judges every entry program of object number `number` on the kernels of a run.
///
/// Candidates are pruned by the records of autoloaded programs and of all subprograms, as when libbpf loads
/// the object unasked. Each program with a leading `?` is judged in a fold of its own with itself switched
/// on, and never bears on the others; so is each that its loader may leave out. The kernel's own loader sees one program at a time, so there no program bears
/// on another.
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
    let entries = || programs.iter().enumerate().filter(|(_, it)| !it.is_subprogram);
    let shared = run.fold(number, autoloaded);
    let own: Vec<_> = entries()
        .map(|(program, it)| {
            let is_alone = !is_on(it) && has_records(object, program);
            is_alone.then(|| run.fold(number, |reloc| autoloaded(reloc) || reloc.program == Some(program)))
        })
        .collect();
    let mut classes = shared.classes(Aspect::Verdict);
    for folded in own.iter().flatten() {
        classes.split_by(&folded.classes(Aspect::Verdict));
    }
    let needs = survey.map(|it| Needs::of(object, it, number)).unwrap_or_default();
    for answered in needs.telling() {
        classes.split_by_numbers(&answered.answer_of);
    }
    let reaching = Reaching::of(object, Externs::of(object, survey, number), world);
    split_by_paths(&mut classes, &reaching, &shared, &own, entries().map(|it| it.0));
    let linked: Vec<Vec<usize>> = entries().map(|(program, _)| object.linked_functions(program)).collect();
    let drifting = Drifting::of(run, object, number);
    if !drifting.is_empty() {
        let of_entries = || entries().map(|it| it.0).zip(&own).zip(&linked);
        let of_shared = of_entries().filter(|((_, own), _)| own.is_none());
        let programs = of_shared.map(|((program, _), linked)| (program, linked.as_slice()));
        classes.split_by_numbers(&drifting.numbers(&reaching, &shared, programs));
        for ((program, own), linked) in of_entries() {
            if let Some(own) = own {
                let programs = std::iter::once((program, linked.as_slice()));
                classes.split_by_numbers(&drifting.numbers(&reaching, own, programs));
            }
        }
    }
    let by_class = classes.first.iter().map(|&kernel| {
        let of_shared = shared.on(kernel);
        let verdicts = entries().zip(&own).zip(&linked).map(|(((program, _), own), linked)| {
            let of_own = own.as_ref().map(|it| it.on(kernel));
            let outcomes = of_own.as_ref().unwrap_or(&of_shared);
            let mut this = ProgramVerdict::new(program);
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
            let reached = reaching.judge(program, outcomes, kernel);
            Records { run, object, kernel, outcomes, reached: &reached }.judge(&mut this, linked);
            drifting.judge(&mut this, &reaching, linked, outcomes, kernel);
            needs.judge(&mut this, linked, kernel, &reached);
            this.assumptions.sort();
            this.assumptions.dedup();
            this
        });
        verdicts.collect()
    });
    let by_class = by_class.collect();
    Verdicts { classes, by_class }
}

/// Splits kernels on which paths of a program may differ, if something is in question about it on any of them.
fn split_by_paths(
    classes: &mut Classes,
    reaching: &Reaching<'_, '_>,
    shared: &Folded<'_>,
    own: &[Option<Folded<'_>>],
    entries: impl Iterator<Item = usize>,
) {
    let of_classes: Vec<_> =
        classes.first.iter().map(|&kernel| (kernel, shared.on(kernel), reaching.symbols(kernel))).collect();
    let mut of_shared = Vec::new();
    let mut asked = Vec::new();
    let mut parts = Vec::new();
    for (program, own) in entries.zip(own) {
        let is_asked = of_classes.iter().any(|(kernel, outcomes, symbols)| match own {
            Some(own) => reaching.is_in_question(program, &own.on(*kernel), symbols),
            None => reaching.is_in_question(program, outcomes, symbols),
        });
        if is_asked {
            asked.push(program);
            match own {
                Some(own) => parts.push(reaching::split(reaching, own, &[program])),
                None => of_shared.push(program),
            }
        }
    }
    if asked.is_empty() {
        return;
    }
    parts.push(reaching::split(reaching, shared, &of_shared));
    for part in &parts {
        classes.split_by(part);
    }
    classes.split_by_numbers(&reaching.numbers(&asked, classes.of.len()));
}

fn has_records(object: &Object<'_>, program: usize) -> bool {
    object.relocs().iter().any(|it| it.program == Some(program))
}
