//! Kernels that are judged by the same rules: the answers to all questions, and the fold of an object's records.

use std::borrow::Cow;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::Batch;
use super::answers::{ByIds, CandidateIds, RootAnswers};
use super::folded::{ClassOf, FoldedPart, Layout, OfRecord, Outcomes};
use super::questions::{QueryPlace, QueryPlaces, by_rules, count, distinct_queries};
use crate::btf::TypeId;
use crate::dialect::{Choice, Rules};
use crate::error::ResolveError;
use crate::fleet::{Candidate, Fleet, Selection, View};
use crate::format::Endian;
use crate::format::btf_ext::RelocKind;
use crate::object::{Object, Reloc};
use crate::query::Question;
use crate::resolve::{Asked, Matches, Part, Target};

/// Kernels of one byte order that are judged by the same rules.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) rules: Rules,
    pub(super) endian: Endian,
    pub(super) selection: Selection,
    pub(super) fleet: Fleet<'a>,
    /// Their numbers in the run, ascending.
    pub(super) kernels: Vec<usize>,
    /// By object and record: the question by these rules. Empty where they are those that objects are read by.
    pub(super) questions: Vec<Vec<Result<Question<'a>, ResolveError>>>,
    /// By object and record: where its query is answered.
    pub(super) queries: QueryPlaces,
    pub(super) roots: Vec<RootAnswers<'a>>,
}

impl<'a> Section<'a> {
    pub(super) fn new(
        batch: &Batch,
        objects: &'a [Object<'a>],
        rules: Rules,
        endian: Endian,
        selection: Selection,
        fleet: Fleet<'a>,
        kernels: Vec<usize>,
    ) -> Self {
        let questions = by_rules(batch, objects, &rules);
        let (queries, wanted) = distinct_queries(batch, objects, &questions, endian);
        let roots = batch.map(&wanted, |it| it.answer(&rules, endian, selection, &fleet));
        let asks_for_ids: Vec<bool> =
            wanted.iter().map(|it| it.queries.iter().any(|it| it.1 == RelocKind::TypeIdTarget)).collect();
        let this = Self { rules, endian, selection, fleet, kernels, questions, queries, roots };
        // Looked up by all threads now: later, those that need them would wait for the first.
        let kernels: Vec<usize> = (0..this.fleet.len()).collect();
        for (root, _) in this.roots.iter().zip(asks_for_ids).filter(|(_, asks)| *asks) {
            let ids = batch.map(&kernels, |&kernel| this.ids_on(root, kernel));
            root.ids.get_or_init(|| ids);
        }
        this
    }

    pub(super) fn answers(&self, object: usize, record: usize) -> Option<&RootAnswers<'a>> {
        let place = (*self.queries.get(object)?.get(record)?)?;
        self.roots.get(place.root as usize)
    }

    pub(super) fn fold(
        &self,
        object: &'a Object<'a>,
        number: usize,
        layout: &Layout,
        active: &impl Fn(&Reloc<'_>) -> bool,
    ) -> Vec<FoldedPart<'_>> {
        layout.parts.iter().map(|it| self.fold_part(object, number, it, active)).collect()
    }

    /// The outcomes of some of an object's records: those that were made for all objects where that is possible, else
    /// folded once for each distinct view of what they are about.
    fn fold_part(
        &self,
        object: &'a Object<'a>,
        number: usize,
        members: &[usize],
        active: &impl Fn(&Reloc<'_>) -> bool,
    ) -> FoldedPart<'_> {
        self.shared_part(object, number, members, active)
            .unwrap_or_else(|| self.own_part(object, number, members, active))
    }

    /// `None` if the records bear on each other.
    fn shared_part(
        &self,
        object: &'a Object<'a>,
        number: usize,
        members: &[usize],
        active: &impl Fn(&Reloc<'_>) -> bool,
    ) -> Option<FoldedPart<'_>> {
        let places = self.queries.get(number)?;
        let root = places.get(*members.first()?).copied().flatten()?.root;
        let answers = self.roots.get(root as usize)?;
        let mut asks_for_ids = false;
        let records = members.iter().map(|&record| {
            let place = places.get(record).copied().flatten().filter(|it| it.root == root)?;
            let reloc = object.relocs().get(record)?;
            if reloc.placement_error().is_some() {
                return None;
            }
            if !active(reloc) {
                return Some(OfRecord::Skipped);
            }
            let Some(edit) = place.edit else {
                let is_alone = answers.are_alone && !reloc.shares_slots;
                asks_for_ids = true;
                return (is_alone && reloc.kind == Some(RelocKind::TypeIdTarget))
                    .then_some(OfRecord::Skipped);
            };
            answers.of_edit(edit).map(|_| OfRecord::Edit(edit))
        });
        let mut records: Vec<OfRecord> = records.collect::<Option<_>>()?;
        if !asks_for_ids {
            let class_of = ClassOf::Each(Cow::Borrowed(answers.table.view_of.as_slice()));
            let outcomes = Outcomes::Shared { answers, records, view_of: &[] };
            let classes = answers.table.views.len();
            return Some(FoldedPart { members: members.to_vec(), classes, class_of, outcomes });
        }
        // Only those that ask for ids come out differently where ids do.
        let joint = answers.by_ids.get_or_init(|| self.classes_by_ids(answers));
        for (slot, &record) in records.iter_mut().zip(members) {
            let Some(place) = places.get(record).copied().flatten().filter(|it| it.edit.is_none()) else {
                continue;
            };
            let reloc = object.relocs().get(record).filter(|it| active(it));
            let Some(reloc) = reloc else { continue };
            let asked =
                Asked::new(object, reloc, self.question(number, record, reloc), 0, self.matches(place));
            let part = Part { rules: &self.rules, endian: self.endian, records: vec![asked] };
            let mut outcomes = Vec::with_capacity(joint.first.len());
            for (kernel, view) in joint.first.iter().zip(&joint.view_of) {
                let Some(view) = answers.table.views.get(*view as usize) else { continue };
                let id_of = |_, candidate| self.id_of(answers, *kernel, candidate).unwrap_or(TypeId::VOID);
                part.fold(&Target { views: &[view], id_of: &id_of }, |_| true, &mut outcomes);
            }
            *slot = OfRecord::ByClass(outcomes);
        }
        Some(FoldedPart {
            members: members.to_vec(),
            classes: joint.first.len(),
            class_of: ClassOf::Each(Cow::Borrowed(&joint.class_of)),
            outcomes: Outcomes::Shared { answers, records, view_of: &joint.view_of },
        })
    }

    /// Kernels with the same candidates for a root, under the same ids.
    fn classes_by_ids(&self, answers: &RootAnswers<'a>) -> ByIds {
        let mut this = ByIds::default();
        let mut known: HashMap<(u32, &CandidateIds), u32> = HashMap::new();
        for (kernel, (view, ids)) in answers.table.view_of.iter().zip(self.ids(answers)).enumerate() {
            this.class_of.push(*known.entry((*view, ids)).or_insert_with(|| {
                this.first.push(kernel);
                this.view_of.push(*view);
                count(this.first.len() - 1)
            }));
        }
        this
    }

    /// A record's question by the rules of this section.
    fn question<'q>(
        &'q self,
        object: usize,
        record: usize,
        reloc: &'q Reloc<'a>,
    ) -> Result<&'q Question<'a>, ResolveError> {
        let own = self.questions.get(object).and_then(|it| it.get(record));
        own.unwrap_or(&reloc.question).as_ref().map_err(|error| *error)
    }

    /// Folds records once for each distinct view of what they are about.
    fn own_part(
        &self,
        object: &'a Object<'a>,
        number: usize,
        members: &[usize],
        active: &impl Fn(&Reloc<'_>) -> bool,
    ) -> FoldedPart<'_> {
        // By root: its number, and the local type by which the object's records name it. Each local type has
        // candidate lists of its own, even if two mean the same root.
        let mut roots: SmallVec<[(u32, u32); 1]> = SmallVec::new();
        let mut part =
            Part { rules: &self.rules, endian: self.endian, records: Vec::with_capacity(members.len()) };
        let places = self.queries.get(number).map_or(&[][..], Vec::as_slice);
        for &record in members {
            let Some(reloc) = object.relocs().get(record) else { continue };
            let question = self.question(number, record, reloc);
            let mut root = 0;
            let mut matches: &Matches = &[];
            if let Some(place) = places.get(record).copied().flatten() {
                let key = (place.root, reloc.root_slot);
                root = roots.iter().position(|it| *it == key).unwrap_or_else(|| {
                    roots.push(key);
                    roots.len() - 1
                });
                matches = self.matches(place);
            }
            let mut asked = Asked::new(object, reloc, question, root, matches);
            if self.rules.choice == Choice::Scored {
                asked.programs = reloc.program.map(|it| object.loaded_with(it).collect()).unwrap_or_default();
            }
            part.records.push(asked);
        }
        let answers: SmallVec<[&RootAnswers<'a>; 1]> =
            roots.iter().filter_map(|(root, _)| self.roots.get(*root as usize)).collect();
        let mut outcomes = Vec::new();
        let needs_ids = part.needs_ids();
        let mut classes = 1;
        let class_of = match answers.as_slice() {
            [] => {
                let target = Target { views: &[], id_of: &|_, _| TypeId::VOID };
                part.fold(&target, active, &mut outcomes);
                ClassOf::One
            }
            [only] if !needs_ids => {
                classes = only.table.views.len();
                for view in &only.table.views {
                    let target = Target { views: &[view], id_of: &|_, _| TypeId::VOID };
                    part.fold(&target, active, &mut outcomes);
                }
                ClassOf::Each(Cow::Borrowed(&only.table.view_of))
            }
            several => {
                let (joint, class_of) = self.joint_classes(several, needs_ids);
                classes = joint.len();
                for (kernel, views) in joint {
                    let id_of = |root: usize, candidate: Candidate| {
                        let id = several.get(root).and_then(|it| self.id_of(it, kernel, candidate));
                        id.unwrap_or(TypeId::VOID)
                    };
                    part.fold(&Target { views: &views, id_of: &id_of }, active, &mut outcomes);
                }
                ClassOf::Each(Cow::Owned(class_of))
            }
        };
        FoldedPart { members: members.to_vec(), classes, class_of, outcomes: Outcomes::Own(outcomes) }
    }

    /// Kernels with the same views of several roots, and with the same ids of their candidates if those count: the
    /// first kernel of each class with its views, and by kernel the number of its class.
    fn joint_classes<'r>(
        &'r self,
        roots: &[&'r RootAnswers<'a>],
        with_ids: bool,
    ) -> (Vec<(usize, Vec<&'r View>)>, Vec<u32>) {
        let mut classes = Vec::new();
        let mut known: HashMap<(SmallVec<[u32; 4]>, Vec<TypeId>), u32> = HashMap::new();
        let class_of = (0..self.fleet.len()).map(|kernel| {
            let numbers: SmallVec<[u32; 4]> =
                roots.iter().map(|it| it.table.view_of.get(kernel).copied().unwrap_or(0)).collect();
            let views: Vec<&View> = roots
                .iter()
                .zip(&numbers)
                .filter_map(|(it, view)| it.table.views.get(*view as usize))
                .collect();
            let mut ids = Vec::new();
            if with_ids {
                for root in roots {
                    ids.extend(self.ids(root).get(kernel).into_iter().flatten().map(|(_, id)| *id));
                }
            }
            *known.entry((numbers, ids)).or_insert_with(|| {
                classes.push((kernel, views));
                count(classes.len() - 1)
            })
        });
        let class_of = class_of.collect();
        (classes, class_of)
    }

    /// By kernel: the ids of a root's candidates.
    fn ids<'r>(&self, answers: &'r RootAnswers<'a>) -> &'r [CandidateIds] {
        answers.ids.get_or_init(|| (0..self.fleet.len()).map(|it| self.ids_on(answers, it)).collect())
    }

    fn ids_on(&self, answers: &RootAnswers<'a>, kernel: usize) -> CandidateIds {
        let view = answers.table.view_of.get(kernel).and_then(|it| answers.table.views.get(*it as usize));
        let candidates = view.into_iter().flat_map(|it| it.lists.iter().flatten());
        let with_id = candidates.filter_map(|&candidate| {
            let id = self.fleet.id_of(kernel, &answers.root, self.selection, candidate)?;
            Some((candidate, id))
        });
        with_id.collect()
    }

    pub(super) fn id_of(
        &self,
        answers: &RootAnswers<'a>,
        kernel: usize,
        candidate: Candidate,
    ) -> Option<TypeId> {
        let ids = self.ids(answers).get(kernel)?;
        ids.iter().find(|(it, _)| *it == candidate).map(|(_, id)| *id)
    }

    /// Answers to one query, by the number of the shape.
    fn matches(&self, place: QueryPlace) -> &Matches {
        let Some(root) = self.roots.get(place.root as usize) else { return &[] };
        let shapes = root.table.shapes.len();
        let start = place.query as usize * shapes;
        root.matches.get(start..start + shapes).unwrap_or_default()
    }
}
