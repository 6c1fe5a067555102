//! A root with the answers to every question about it, one for each distinct type.

use std::sync::OnceLock;

use smallvec::SmallVec;

use super::questions::{EditOf, RootQueries};
use crate::btf::TypeId;
use crate::dialect::Rules;
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
        // With several candidates, a record of the object may take some away from those behind it.
        let are_alone =
            rules.in_kernel || table.views.iter().flat_map(|it| &it.lists).all(|it| it.len() <= 1);
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
            ids: OnceLock::new(),
            by_ids: OnceLock::new(),
        }
    }
}
