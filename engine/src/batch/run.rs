//! Objects on kernels: every distinct question answered once for each distinct type, folded once for each distinct
//! view.

use std::borrow::Cow;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::Batch;
use super::classes::{Classes, refine};
use crate::btf::TypeId;
use crate::dialect::{Loader, Rules};
use crate::error::ResolveError;
use crate::fleet::{Candidate, Fleet, Modules, RootTable, Selection, Shape, View};
use crate::format::Endian;
use crate::format::btf_ext::RelocKind;
use crate::format::insn::{INSN_LEN, class};
use crate::kernel::Kernel;
use crate::object::{Object, Reloc};
use crate::query::{self, Query, Question, Root};
use crate::resolve::{Asked, Budget, Match, Matches, Outcome, Part, Target, on_candidate};
use crate::value::Width;

/// Every question of the objects, answered for all kernels.
#[derive(Debug)]
pub struct Run<'a> {
    objects: &'a [Object<'a>],
    modules: Modules,
    sections: Vec<Section<'a>>,
    /// By kernel: its section and its place there; `None` if its loader relocates nothing.
    place: Vec<Option<Place>>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    section: usize,
    kernel: usize,
}

/// Kernels of one byte order that are judged by the same rules.
#[derive(Debug)]
struct Section<'a> {
    rules: Rules,
    endian: Endian,
    selection: Selection,
    fleet: Fleet<'a>,
    /// By object and record: the question by these rules. Empty where they are those that objects are read by.
    questions: Vec<Vec<Result<Question<'a>, ResolveError>>>,
    /// By object and record: where its query is answered.
    queries: Vec<Vec<Option<QueryPlace>>>,
    roots: Vec<RootAnswers<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct QueryPlace {
    root: u32,
    query: u32,
    /// Number of the root's distinct edit that it is; `None` if it cannot be told without its object.
    edit: Option<u32>,
}

/// A root, and the answers to every query about it.
#[derive(Debug)]
struct RootAnswers<'a> {
    root: Root<'a>,
    table: RootTable<'a>,
    /// By query, then by shape.
    matches: Vec<Result<Match, ResolveError>>,
    /// By distinct edit, then by view. Empty where records bear on each other.
    outcomes: Vec<Outcome>,
}

/// A root's distinct queries, and distinct edits.
struct RootQueries<'q, 'a> {
    root: &'q Root<'a>,
    queries: Vec<(&'q Query<'a>, RelocKind)>,
    edits: Vec<EditOf>,
}

/// The first record of those that have the same query, the same value in the program and the same instruction: the
/// same becomes of them, whatever object they are in.
struct EditOf {
    object: usize,
    record: usize,
    query: u32,
}

/// What makes records the same edit.
#[derive(PartialEq, Eq, Hash)]
struct EditKey {
    root: u32,
    query: u32,
    value: u64,
    size: u32,
    width: Width,
    validate: bool,
    insn: [u8; INSN_LEN],
    /// The slot behind it, where that counts.
    next: Option<[u8; INSN_LEN]>,
}

impl EditKey {
    /// `None` if more than this counts.
    fn of(
        place: QueryPlace,
        object: &Object<'_>,
        reloc: &Reloc<'_>,
        question: &Question<'_>,
    ) -> Option<Self> {
        let local = question.local.ok()?;
        let site = object.site(reloc)?;
        let has_two = site.first.first().is_some_and(|code| code & 7 == class::LD);
        let counts = reloc.placement_error().is_none()
            && !reloc.shares_slots
            && reloc.kind != Some(RelocKind::TypeIdTarget);
        counts.then_some(Self {
            root: place.root,
            query: place.query,
            value: local.value.value,
            size: local.value.size,
            width: local.value.width,
            validate: local.validate,
            insn: site.first,
            next: site.second.filter(|_| has_two),
        })
    }
}

impl<'a> Run<'a> {
    /// Answers all questions of `objects` on `kernels`, each kernel by the loader of the same number.
    pub fn new(
        batch: &Batch,
        objects: &'a [Object<'a>],
        kernels: &'a [Kernel<'a>],
        loaders: &[Loader],
        modules: Modules,
    ) -> Self {
        let mut members: Vec<(Rules, Endian, Vec<&'a Kernel<'a>>)> = Vec::new();
        let mut place = Vec::with_capacity(kernels.len());
        for (kernel, &loader) in kernels.iter().zip(loaders) {
            if loader.unsupported().is_some() {
                place.push(None);
                continue;
            }
            let btf = &kernel.vmlinux.btf;
            let (rules, endian) = (Rules::of(loader, btf.pointer_size()), btf.endian());
            let known = members.iter().position(|it| (it.0, it.1) == (rules, endian));
            let section = known.unwrap_or(members.len());
            match members.get_mut(section) {
                Some((_, _, kernels)) => kernels.push(kernel),
                None => members.push((rules, endian, vec![kernel])),
            }
            let kernel = members.get(section).map_or(0, |it| it.2.len() - 1);
            place.push(Some(Place { section, kernel }));
        }
        let sections = members
            .into_iter()
            .map(|(rules, endian, kernels)| {
                let selection = Selection { modules, exact_kinds: rules.in_kernel };
                Section::new(batch, objects, rules, endian, selection, Fleet::new(kernels))
            })
            .collect();
        Self { objects, modules, sections, place }
    }

    /// One object on one kernel.
    pub fn of_pair(loader: Loader, object: &'a Object<'a>, kernel: &'a Kernel<'a>, modules: Modules) -> Self {
        let (objects, kernels) = (std::slice::from_ref(object), std::slice::from_ref(kernel));
        Self::new(&Batch::SEQUENTIAL, objects, kernels, &[loader], modules)
    }

    /// Object number `object`.
    pub fn object(&self, object: usize) -> Option<&'a Object<'a>> {
        self.objects.get(object)
    }

    /// How modules are looked at.
    pub fn modules(&self) -> Modules {
        self.modules
    }

    /// The rules that kernel number `kernel` is judged by; `None` if its loader relocates nothing.
    pub fn rules(&self, kernel: usize) -> Option<&Rules> {
        self.section_of(kernel).map(|(section, _)| &section.rules)
    }

    /// Number of kernels.
    pub fn kernel_count(&self) -> usize {
        self.place.len()
    }

    /// Folds the records of object number `object` for which `active` holds, over all kernels of its byte order.
    pub fn fold(&self, object: usize, active: impl Fn(&Reloc<'_>) -> bool) -> Folded<'_> {
        let layout = self.objects.get(object).map(Layout::of).unwrap_or_default();
        let sections = self.sections.iter().map(|section| {
            let it = self.objects.get(object).filter(|it| it.endian() == section.endian)?;
            Some(section.fold(it, object, &layout, &active))
        });
        Folded { run: self, sections: sections.collect(), place: layout.place }
    }

    /// Name of a module by its number in outcomes on kernel number `kernel`.
    pub fn module_name(&self, kernel: usize, module: u32) -> &'a str {
        self.section_of(kernel).map_or("", |(section, _)| section.fleet.module_name(module))
    }

    /// The id that a candidate for a record's root has in the BTF of kernel number `kernel`, or of its module.
    pub fn id_of(&self, object: usize, record: usize, kernel: usize, candidate: Candidate) -> Option<TypeId> {
        let (section, kernel) = self.section_of(kernel)?;
        let answers = section.answers(object, record)?;
        section.fleet.id_of(kernel, &answers.root, section.selection, candidate)
    }

    /// The type that a candidate for a record's root is, in the first BTF that has it.
    pub fn shape_of(
        &self,
        object: usize,
        record: usize,
        kernel: usize,
        candidate: Candidate,
    ) -> Option<Shape<'a>> {
        let (section, _) = self.section_of(kernel)?;
        let answers = section.answers(object, record)?;
        answers.table.shapes.get(candidate.shape as usize).copied()
    }

    fn section_of(&self, kernel: usize) -> Option<(&Section<'a>, usize)> {
        let place = (*self.place.get(kernel)?)?;
        Some((self.sections.get(place.section)?, place.kernel))
    }
}

impl<'a> Section<'a> {
    fn new(
        batch: &Batch,
        objects: &'a [Object<'a>],
        rules: Rules,
        endian: Endian,
        selection: Selection,
        fleet: Fleet<'a>,
    ) -> Self {
        let questions = match rules {
            Rules::LIBBPF => Vec::new(),
            _ => batch.map(objects, |object| questions_by(&rules, object)),
        };
        let (queries, wanted) = distinct_queries(objects, &questions, endian);
        let asked = |it: &EditOf| {
            let reloc = objects.get(it.object)?.relocs().get(it.record)?;
            let own = questions.get(it.object).and_then(|of_object| of_object.get(it.record));
            Some((objects.get(it.object)?, reloc, own.unwrap_or(&reloc.question).as_ref().ok()?))
        };
        let roots = batch.map(&wanted, |it| it.answer(&rules, endian, selection, &fleet, &asked));
        Self { rules, endian, selection, fleet, questions, queries, roots }
    }

    fn answers(&self, object: usize, record: usize) -> Option<&RootAnswers<'a>> {
        let place = (*self.queries.get(object)?.get(record)?)?;
        self.roots.get(place.root as usize)
    }

    fn fold(
        &self,
        object: &'a Object<'a>,
        number: usize,
        layout: &Layout,
        active: &impl Fn(&Reloc<'_>) -> bool,
    ) -> FoldedSection<'_> {
        let parts = layout.parts.iter().map(|it| self.fold_part(object, number, it, active)).collect();
        FoldedSection { parts, kernels: self.fleet.len() }
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

    /// `None` if some record's outcome depends on more than its edit.
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
        let views = answers.table.views.len();
        let outcomes = members.iter().map(|&record| {
            let place = places.get(record).copied().flatten().filter(|it| it.root == root)?;
            let start = place.edit? as usize * views;
            let outcomes = answers.outcomes.get(start..start + views)?;
            Some(if active(object.relocs().get(record)?) { outcomes } else { &[] })
        });
        let outcomes = Outcomes::Shared(outcomes.collect::<Option<_>>()?);
        let class_of = ClassOf::Each(Cow::Borrowed(answers.table.view_of.as_slice()));
        Some(FoldedPart { members: members.to_vec(), classes: views, class_of, outcomes })
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
            let own = self.questions.get(number).and_then(|it| it.get(record));
            let question = own.unwrap_or(&reloc.question).as_ref().map_err(|error| *error);
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
            part.records.push(Asked::new(object, reloc, question, root, matches));
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
                        let answers = several.get(root);
                        let id = answers
                            .and_then(|it| self.fleet.id_of(kernel, &it.root, self.selection, candidate));
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
                for (root, view) in roots.iter().zip(&views) {
                    let candidates = view.lists.iter().flatten();
                    ids.extend(candidates.map(|it| {
                        let id = self.fleet.id_of(kernel, &root.root, self.selection, *it);
                        id.unwrap_or(TypeId::VOID)
                    }));
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

    /// Answers to one query, by the number of the shape.
    fn matches(&self, place: QueryPlace) -> &Matches {
        let Some(root) = self.roots.get(place.root as usize) else { return &[] };
        let shapes = root.table.shapes.len();
        let start = place.query as usize * shapes;
        root.matches.get(start..start + shapes).unwrap_or_default()
    }
}

impl<'a> RootQueries<'_, 'a> {
    /// `asked`: the object, record and question of an edit.
    fn answer<'q>(
        &self,
        rules: &Rules,
        endian: Endian,
        selection: Selection,
        fleet: &Fleet<'a>,
        asked: &impl Fn(&EditOf) -> Option<(&'q Object<'a>, &'q Reloc<'a>, &'q Question<'a>)>,
    ) -> RootAnswers<'a>
    where
        'a: 'q,
    {
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
                let Some((object, reloc, question)) = asked(edit) else { continue };
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
        RootAnswers { root: *self.root, table, matches, outcomes }
    }
}

/// What an object's records ask by the rules of a loader other than the one they were read by.
fn questions_by<'a>(rules: &Rules, object: &Object<'a>) -> Vec<Result<Question<'a>, ResolveError>> {
    let by_rules = |reloc: &Reloc<'a>| {
        if reloc.kind == Some(RelocKind::TypeMatches) && !rules.type_matches {
            return Err(ResolveError::UnknownKind { kind: reloc.raw_kind });
        }
        let btf = object.btf().ok_or(ResolveError::LocalTypeUnusable)?;
        query::parse(rules, btf, reloc.type_id, reloc.access, reloc.raw_kind)
    };
    object.relocs().iter().map(by_rules).collect()
}

/// By object and record: where its query is answered.
type QueryPlaces = Vec<Vec<Option<QueryPlace>>>;

/// Finds the same question asked twice, by whatever objects.
fn distinct_queries<'q, 'a>(
    objects: &'q [Object<'a>],
    questions: &'q [Vec<Result<Question<'a>, ResolveError>>],
    endian: Endian,
) -> (QueryPlaces, Vec<RootQueries<'q, 'a>>) {
    let mut roots: Vec<RootQueries<'q, 'a>> = Vec::new();
    let mut root_numbers: HashMap<&'q Root<'a>, u32> = HashMap::new();
    let mut query_places: HashMap<(&'q Query<'a>, RelocKind), QueryPlace> = HashMap::new();
    let mut edits: HashMap<EditKey, u32> = HashMap::new();
    let mut place_of = |roots: &mut Vec<RootQueries<'q, 'a>>, query: &'q Query<'a>, kind: RelocKind| {
        *query_places.entry((query, kind)).or_insert_with(|| {
            let root = *root_numbers.entry(&query.root).or_insert_with(|| {
                roots.push(RootQueries { root: &query.root, queries: Vec::new(), edits: Vec::new() });
                count(roots.len() - 1)
            });
            let Some(RootQueries { queries, .. }) = roots.get_mut(root as usize) else {
                return QueryPlace { root, query: 0, edit: None };
            };
            queries.push((query, kind));
            QueryPlace { root, query: count(queries.len() - 1), edit: None }
        })
    };
    let mut places = Vec::with_capacity(objects.len());
    for (number, object) in objects.iter().enumerate() {
        let own = questions.get(number);
        let records = object.relocs().iter().enumerate().filter(|_| object.endian() == endian);
        let of_object = records.map(|(record, reloc)| {
            let question = own.and_then(|it| it.get(record)).unwrap_or(&reloc.question);
            let question = question.as_ref().ok()?;
            let mut place = place_of(&mut roots, question.query.as_ref()?, reloc.kind?);
            if let Some(key) = EditKey::of(place, object, reloc, question)
                && let Some(root) = roots.get_mut(place.root as usize)
            {
                place.edit = Some(*edits.entry(key).or_insert_with(|| {
                    root.edits.push(EditOf { object: number, record, query: place.query });
                    count(root.edits.len() - 1)
                }));
            }
            Some(place)
        });
        places.push(of_object.collect());
    }
    (places, roots)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// How an object's records fall into parts.
#[derive(Debug, Default)]
struct Layout {
    /// Numbers of the records of each part, ascending.
    parts: Vec<Vec<usize>>,
    /// By record: its part, and its place in it.
    place: Vec<(u32, u32)>,
}

impl Layout {
    fn of(object: &Object<'_>) -> Self {
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
    run: &'r Run<'r>,
    /// By section of the run; `None` where byte orders differ.
    sections: Vec<Option<FoldedSection<'r>>>,
    place: Vec<(u32, u32)>,
}

#[derive(Debug)]
struct FoldedSection<'r> {
    parts: Vec<FoldedPart<'r>>,
    kernels: usize,
}

/// Outcomes of some records, by class of kernels and then by record.
#[derive(Debug)]
struct FoldedPart<'r> {
    /// Numbers of the records, ascending.
    members: Vec<usize>,
    /// Number of classes.
    classes: usize,
    class_of: ClassOf<'r>,
    outcomes: Outcomes<'r>,
}

#[derive(Debug)]
enum Outcomes<'r> {
    /// By class, then by record.
    Own(Vec<Outcome>),
    /// By record, then by class; nothing for a record that is skipped.
    Shared(Vec<&'r [Outcome]>),
}

#[derive(Debug)]
enum ClassOf<'r> {
    /// All kernels are of one class.
    One,
    /// By kernel of the section.
    Each(Cow<'r, [u32]>),
}

impl FoldedPart<'_> {
    fn class(&self, kernel: usize) -> usize {
        match &self.class_of {
            ClassOf::One => 0,
            ClassOf::Each(class_of) => class_of.get(kernel).map_or(0, |it| *it as usize),
        }
    }

    fn outcome(&self, class: usize, record: usize) -> Option<&Outcome> {
        match &self.outcomes {
            Outcomes::Own(outcomes) => outcomes.get(class * self.members.len() + record),
            Outcomes::Shared(outcomes) => match outcomes.get(record)? {
                [] => Some(&Outcome::Skipped),
                outcomes => outcomes.get(class),
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
