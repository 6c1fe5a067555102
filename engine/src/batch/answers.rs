//! A root with the answers to every question about it, one for each distinct type.

use std::sync::OnceLock;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::classes::{Aspect, number};
use super::questions::{EditOf, RootQueries, count};
use crate::btf::TypeId;
use crate::dialect::{Choice, Rules};
use crate::error::ResolveError;
use crate::fleet::{Candidate, Fleet, RootTable, Selection};
use crate::format::Endian;
use crate::query::Root;
use crate::resolve::{Asked, Budget, Match, Outcome, Part, Target, on_candidate};

/// A root, and the answers to every query about it.
#[derive(Debug)]
pub(super) struct RootAnswers<'a> {
    pub(super) root: Root<'a>,
    pub(super) table: RootTable<'a>,
    /// By query, then by shape.
    pub(super) matches: Vec<Result<Match, ResolveError>>,
    /// Whether no record about it bears on another.
    pub(super) are_alone: bool,
    /// By distinct edit, then by view; empty if they are not alone.
    pub(super) outcomes: Vec<Outcome>,
    /// How the edits tell views apart, by verdict and by effect. Made when somebody first asks for it.
    pub(super) splits: [OnceLock<EditSplits>; 2],
    /// By kernel: the ids that its candidates have there. Made when somebody first asks for one.
    pub(super) ids: OnceLock<Vec<CandidateIds>>,
    /// Made when somebody first asks for the value of an id.
    pub(super) by_ids: OnceLock<ByIds>,
}

/// Classes of kernels with the same view of a root and the same ids of its candidates.
#[derive(Debug, Default)]
pub(super) struct ByIds {
    /// By class: its first kernel.
    pub(super) first: Vec<usize>,
    /// By class: the number of its view.
    pub(super) view_of: Vec<u32>,
    /// By kernel: its class.
    pub(super) class_of: Vec<u32>,
}

/// How the distinct edits of a root tell its views apart.
#[derive(Debug, Default)]
pub(super) struct EditSplits {
    /// By edit: the number of its split; `None` if all views are the same to it.
    pub(super) of_edit: Vec<Option<u32>>,
    /// By split: by view, the number of what comes of it there. And how many there are.
    pub(super) distinct: Vec<(Vec<u32>, u32)>,
}

/// Candidates of a root on one kernel, each with its id there.
pub(super) type CandidateIds = SmallVec<[(Candidate, TypeId); 1]>;

impl<'a> RootQueries<'_, 'a> {
    pub(super) fn answer(
        &self,
        rules: &Rules,
        endian: Endian,
        selection: Selection,
        fleet: &Fleet<'a>,
    ) -> RootAnswers<'a> {
        let table = fleet.table(self.root, selection);
        let mut matches = Vec::with_capacity(self.queries.len() * table.shapes.len());
        for (query, kind) in &self.queries {
            matches.extend(
                table
                    .shapes
                    .iter()
                    .map(|shape| on_candidate(rules, query, *kind, shape.btf, shape.id, &mut Budget::new())),
            );
        }
        // With several candidates, a record of the object bears on which of them others get.
        let are_alone = rules.choice == Choice::Fresh
            || table.views.iter().flat_map(|it| &it.lists).all(|it| it.len() <= 1);
        let mut outcomes = Vec::new();
        if are_alone {
            outcomes.reserve(self.edits.len() * table.views.len());
            for edit in &self.edits {
                let EditOf { object, reloc, question, .. } = *edit;
                let start = edit.query as usize * table.shapes.len();
                let matches = matches.get(start..start + table.shapes.len()).unwrap_or_default();
                let records = vec![Asked::new(object, reloc, Ok(question), 0, matches)];
                let part = Part { rules, endian, records };
                for view in &table.views {
                    let target = Target { views: &[view], id_of: &|_, _| TypeId::VOID };
                    part.fold(&target, |_| true, &mut outcomes);
                }
            }
        }
        RootAnswers {
            root: *self.root,
            table,
            matches,
            are_alone,
            outcomes,
            splits: Default::default(),
            ids: OnceLock::new(),
            by_ids: OnceLock::new(),
        }
    }
}

impl RootAnswers<'_> {
    /// Outcomes of a distinct edit, by view.
    pub(super) fn of_edit(&self, edit: u32) -> Option<&[Outcome]> {
        let views = self.table.views.len();
        let start = edit as usize * views;
        self.outcomes.get(start..start + views)
    }

    /// How the distinct edits tell views apart.
    pub(super) fn splits(&self, aspect: Aspect) -> &EditSplits {
        let [by_verdict, by_effect] = &self.splits;
        let slot = match aspect {
            Aspect::Verdict => by_verdict,
            // What asks for ids is no distinct edit.
            Aspect::Effect | Aspect::EffectButIds => by_effect,
        };
        slot.get_or_init(|| {
            let mut this = EditSplits::default();
            let mut known: HashMap<Vec<u32>, u32> = HashMap::new();
            let mut bytes = Vec::new();
            for outcomes in self.outcomes.chunks_exact(self.table.views.len().max(1)) {
                let (views, end) = number(outcomes.iter().map(|outcome| {
                    bytes.clear();
                    aspect.write(false, outcome, &mut bytes);
                    xxhash_rust::xxh3::xxh3_128(&bytes)
                }));
                this.of_edit.push((end > 1).then(|| {
                    *known.entry(views).or_insert_with_key(|views| {
                        this.distinct.push((views.clone(), end));
                        count(this.distinct.len() - 1)
                    })
                }));
            }
            this
        })
    }
}
