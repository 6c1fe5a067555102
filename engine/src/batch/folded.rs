//! Outcomes of one object's records, by classes of kernels.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::Run;
use super::answers::RootAnswers;
use super::classes::{Aspect, Classes, Split, number};
use super::questions::count;
use crate::format::btf_ext::RelocKind;
use crate::object::{Object, Reloc};
use crate::resolve::Outcome;

/// How an object's records fall into parts.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Numbers of the records of each part, ascending.
    pub(super) parts: Vec<Vec<usize>>,
    /// By record: its part, and its place in it.
    pub(super) place: Vec<(u32, u32)>,
}

impl Layout {
    pub(super) fn of(object: &Object<'_>) -> Self {
        let relocs = object.relocs();
        // Where records share instructions, each sees what those before it wrote: they stay together.
        let together = relocs.iter().any(|it| it.shares_slots);
        let mut this = Self { parts: Vec::new(), place: Vec::with_capacity(relocs.len()) };
        let mut part_of_slot: Vec<Option<u32>> = vec![None; object.root_count()];
        for (record, reloc) in relocs.iter().enumerate() {
            let slot = if together { 0 } else { reloc.root_slot as usize };
            let Some(part) = part_of_slot.get_mut(slot) else { continue };
            let part = *part.get_or_insert_with(|| {
                this.parts.push(Vec::new());
                count(this.parts.len() - 1)
            });
            let Some(members) = this.parts.get_mut(part as usize) else { continue };
            this.place.push((part, count(members.len())));
            members.push(record);
        }
        this
    }
}

/// Outcomes of one object's records on all kernels.
#[derive(Debug)]
pub struct Folded<'r> {
    pub(super) run: &'r Run<'r>,
    pub(super) relocs: &'r [Reloc<'r>],
    /// By section of the run: the parts; `None` where byte orders differ.
    pub(super) sections: Vec<Option<Vec<FoldedPart<'r>>>>,
    pub(super) place: Vec<(u32, u32)>,
}

/// Outcomes of some records, by class of kernels and then by record.
#[derive(Debug)]
pub(super) struct FoldedPart<'r> {
    /// Numbers of the records, ascending.
    pub(super) members: Vec<usize>,
    /// Number of classes.
    pub(super) classes: usize,
    pub(super) class_of: ClassOf<'r>,
    pub(super) outcomes: Outcomes<'r>,
}

#[derive(Debug)]
pub(super) enum Outcomes<'r> {
    /// By class, then by record.
    Own(Vec<Outcome>),
    /// By record.
    Shared {
        /// About their root.
        answers: &'r RootAnswers<'r>,
        records: Vec<OfRecord>,
        /// By class: the number of its view. Empty where classes are views.
        view_of: &'r [u32],
    },
}

/// Outcomes of one record.
#[derive(Debug)]
pub(super) enum OfRecord {
    Skipped,
    /// Number of the root's distinct edit that it is.
    Edit(u32),
    ByClass(Vec<Outcome>),
}

#[derive(Debug)]
pub(super) enum ClassOf<'r> {
    /// All kernels are of one class.
    One,
    /// By kernel of the section.
    Each(Cow<'r, [u32]>),
}

impl FoldedPart<'_> {
    /// By class of kernels: the number of what comes of the records there. And how many there are.
    fn split(&self, aspect: Aspect, relocs: &[Reloc<'_>]) -> (Vec<u32>, u32) {
        let Outcomes::Shared { answers, records, view_of } = &self.outcomes else {
            return self.split_by((0..self.members.len()).collect(), aspect, relocs);
        };
        let mut split = Split::new(self.classes);
        let splits = answers.splits(aspect);
        // Most edits tell the same views apart.
        let mut seen: SmallVec<[u32; 8]> = SmallVec::new();
        let mut others: SmallVec<[usize; 8]> = SmallVec::new();
        for (at, record) in records.iter().enumerate() {
            match record {
                OfRecord::Skipped => {}
                OfRecord::Edit(edit) => {
                    let number = splits.of_edit.get(*edit as usize).copied().flatten();
                    let Some(number) = number.filter(|it| !seen.contains(it)) else { continue };
                    seen.push(number);
                    let Some((of_view, end)) = splits.distinct.get(number as usize) else { continue };
                    match view_of {
                        [] => split.by(*end, of_view.iter().copied()),
                        _ => split.by(
                            *end,
                            view_of.iter().map(|view| of_view.get(*view as usize).copied().unwrap_or(0)),
                        ),
                    }
                }
                OfRecord::ByClass(_) => others.push(at),
            }
        }
        if !others.is_empty() {
            let (of_class, end) = self.split_by(others, aspect, relocs);
            split.by(end, of_class.into_iter());
        }
        split.numbers()
    }

    /// The same for some of its records alone, by what is written of them.
    fn split_by(
        &self,
        records: SmallVec<[usize; 8]>,
        aspect: Aspect,
        relocs: &[Reloc<'_>],
    ) -> (Vec<u32>, u32) {
        let mut bytes = Vec::new();
        number((0..self.classes).map(|class| {
            bytes.clear();
            for &at in &records {
                let reloc = self.members.get(at).and_then(|it| relocs.get(*it));
                let asks_for_id = reloc.is_some_and(|it| it.kind == Some(RelocKind::TypeIdTarget));
                if let Some(outcome) = self.outcome(class, at) {
                    aspect.write(asks_for_id, outcome, &mut bytes);
                }
            }
            xxhash_rust::xxh3::xxh3_128(&bytes)
        }))
    }

    pub(super) fn class(&self, kernel: usize) -> usize {
        match &self.class_of {
            ClassOf::One => 0,
            ClassOf::Each(class_of) => class_of.get(kernel).map_or(0, |it| *it as usize),
        }
    }

    pub(super) fn outcome(&self, class: usize, record: usize) -> Option<&Outcome> {
        match &self.outcomes {
            Outcomes::Own(outcomes) => outcomes.get(class * self.members.len() + record),
            Outcomes::Shared { answers, records, view_of } => match records.get(record)? {
                OfRecord::Skipped => Some(&Outcome::Skipped),
                OfRecord::Edit(edit) => {
                    answers.of_edit(*edit)?.get(view_of.get(class).map_or(class, |it| *it as usize))
                }
                OfRecord::ByClass(outcomes) => outcomes.get(class),
            },
        }
    }
}

impl Folded<'_> {
    /// The outcome of a record on a kernel. `None` if the two cannot be judged together.
    pub fn outcome(&self, record: usize, kernel: usize) -> Option<&Outcome> {
        let at = (*self.run.place.get(kernel)?)?;
        let (part, record) = *self.place.get(record)?;
        let part = self.sections.get(at.section)?.as_ref()?.get(part as usize)?;
        part.outcome(part.class(at.kernel), record as usize)
    }

    /// Outcomes of all records on a kernel, in file order; empty if the two cannot be judged together.
    pub fn on(&self, kernel: usize) -> Vec<&Outcome> {
        (0..self.place.len()).filter_map(|record| self.outcome(record, kernel)).collect()
    }

    /// Numbers of the records that are poisoned on some kernel, ascending.
    pub fn poisoned(&self) -> Vec<usize> {
        let is_poisoned = |record: &usize| {
            let Some(&(part, at)) = self.place.get(*record) else { return false };
            self.sections.iter().flatten().filter_map(|it| it.get(part as usize)).any(|part| {
                (0..part.classes).any(|class| {
                    let outcome = part.outcome(class, at as usize);
                    matches!(outcome, Some(Outcome::Decided(decision)) if decision.poisoned)
                })
            })
        };
        (0..self.place.len()).filter(is_poisoned).collect()
    }

    /// Kernels on which the same comes of every record, as far as `aspect` goes.
    pub fn classes(&self, aspect: Aspect) -> Classes {
        let mut classes = Classes::none(self.run.place.len());
        for (section, parts) in self.run.sections.iter().zip(&self.sections) {
            let Some(parts) = parts else { continue };
            let mut split = Split::new(section.kernels.len());
            for part in parts {
                let ClassOf::Each(of_kernel) = &part.class_of else { continue };
                let (merged, end) = part.split(aspect, self.relocs);
                if end > 1 {
                    let of_class = |class: &u32| merged.get(*class as usize).copied().unwrap_or(0);
                    split.by(end, of_kernel.iter().map(of_class));
                }
            }
            classes.add(&section.kernels, &split.numbers().0);
        }
        classes
    }

    /// Kernels on which `write` appends the same of the outcomes of `records`, which are ascending.
    pub fn classes_by(&self, records: &[usize], write: impl Fn(usize, &Outcome, &mut Vec<u8>)) -> Classes {
        let mut classes = Classes::none(self.run.place.len());
        let mut bytes = Vec::new();
        for (section, parts) in self.run.sections.iter().zip(&self.sections) {
            let Some(parts) = parts else { continue };
            let mut split = Split::new(section.kernels.len());
            for part in parts {
                let ClassOf::Each(of_kernel) = &part.class_of else { continue };
                let is_meant = |it: &(usize, &usize)| records.binary_search(it.1).is_ok();
                let members: Vec<_> = part.members.iter().enumerate().filter(is_meant).collect();
                if members.is_empty() {
                    continue;
                }
                let (merged, end) = number((0..part.classes).map(|class| {
                    bytes.clear();
                    for &(at, record) in &members {
                        if let Some(outcome) = part.outcome(class, at) {
                            write(*record, outcome, &mut bytes);
                        }
                    }
                    xxhash_rust::xxh3::xxh3_128(&bytes)
                }));
                let of_class = |class: &u32| merged.get(*class as usize).copied().unwrap_or(0);
                split.by(end, of_kernel.iter().map(of_class));
            }
            classes.add(&section.kernels, &split.numbers().0);
        }
        classes
    }
}
