//! Outcomes of one object's records, by classes of kernels.

use std::borrow::Cow;

use hashbrown::HashMap;

use super::Run;
use super::classes::{Classes, refine};
use super::questions::count;
use crate::object::Object;
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
    /// By section of the run; `None` where byte orders differ.
    pub(super) sections: Vec<Option<FoldedSection<'r>>>,
    pub(super) place: Vec<(u32, u32)>,
}

#[derive(Debug)]
pub(super) struct FoldedSection<'r> {
    pub(super) parts: Vec<FoldedPart<'r>>,
    pub(super) kernels: usize,
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
        records: Vec<OfRecord<'r>>,
        /// By class: the number of its view. Empty where classes are views.
        view_of: &'r [u32],
    },
}

/// Outcomes of one record.
#[derive(Debug)]
pub(super) enum OfRecord<'r> {
    Skipped,
    ByView(&'r [Outcome]),
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
    pub(super) fn class(&self, kernel: usize) -> usize {
        match &self.class_of {
            ClassOf::One => 0,
            ClassOf::Each(class_of) => class_of.get(kernel).map_or(0, |it| *it as usize),
        }
    }

    pub(super) fn outcome(&self, class: usize, record: usize) -> Option<&Outcome> {
        match &self.outcomes {
            Outcomes::Own(outcomes) => outcomes.get(class * self.members.len() + record),
            Outcomes::Shared { records, view_of } => match records.get(record)? {
                OfRecord::Skipped => Some(&Outcome::Skipped),
                OfRecord::ByView(outcomes) => {
                    outcomes.get(view_of.get(class).map_or(class, |it| *it as usize))
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
        let part = self.sections.get(at.section)?.as_ref()?.parts.get(part as usize)?;
        part.outcome(part.class(at.kernel), record as usize)
    }

    /// Outcomes of all records on a kernel, in file order; empty if the two cannot be judged together.
    pub fn on(&self, kernel: usize) -> Vec<&Outcome> {
        (0..self.place.len()).filter_map(|record| self.outcome(record, kernel)).collect()
    }

    /// Kernels whose outcomes have the same keys, record by record. `key` appends what counts of the outcome of a record
    /// to some bytes.
    pub fn classes(&self, key: impl Fn(usize, &Outcome, &mut Vec<u8>)) -> Classes {
        let mut classes = Classes::none(self.run.place.len());
        for (number, section) in self.sections.iter().enumerate() {
            let Some(section) = section else { continue };
            let mut class_of = vec![0; section.kernels];
            let mut bytes = Vec::new();
            for part in &section.parts {
                let ClassOf::Each(of_kernel) = &part.class_of else { continue };
                // Classes whose outcomes have the same keys become one.
                let mut known: HashMap<u128, u32> = HashMap::new();
                let merged: Vec<u32> = (0..part.classes)
                    .map(|class| {
                        bytes.clear();
                        for (at, record) in part.members.iter().enumerate() {
                            if let Some(outcome) = part.outcome(class, at) {
                                key(*record, outcome, &mut bytes);
                            }
                        }
                        let next = count(known.len());
                        *known.entry(xxhash_rust::xxh3::xxh3_128(&bytes)).or_insert(next)
                    })
                    .collect();
                if known.len() > 1 {
                    refine(&mut class_of, of_kernel, &merged);
                }
            }
            let kernels = self.run.place.iter().enumerate().filter_map(|(kernel, place)| {
                let place = (*place)?;
                (place.section == number).then(|| (kernel, class_of.get(place.kernel).copied().unwrap_or(0)))
            });
            classes.add(kernels);
        }
        classes
    }
}
