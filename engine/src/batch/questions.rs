//! The distinct questions of many objects, by what they are about.

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::Batch;
use crate::dialect::Rules;
use crate::error::ResolveError;
use crate::format::Endian;
use crate::format::btf_ext::RelocKind;
use crate::format::insn::{INSN_LEN, class};
use crate::object::{Object, Reloc};
use crate::query::{self, Ask, Query, Question, Root};
use crate::value::Width;

#[derive(Clone, Copy, Debug)]
pub(super) struct QueryPlace {
    pub(super) root: u32,
    pub(super) query: u32,
    /// Number of the root's distinct edit that it is; `None` if it cannot be told without its object.
    pub(super) edit: Option<u32>,
}

/// By object and record: where its query is answered.
pub(super) type QueryPlaces = Vec<Vec<Option<QueryPlace>>>;

/// A root's distinct queries, and distinct edits.
pub(super) struct RootQueries<'q, 'a> {
    pub(super) root: &'q Root<'a>,
    pub(super) queries: Vec<(&'q Query<'a>, RelocKind)>,
    pub(super) edits: Vec<EditOf<'q, 'a>>,
}

/// The first record of those that have the same query, the same value in the program and the same instruction: the
/// same becomes of them, whatever object they are in.
pub(super) struct EditOf<'q, 'a> {
    pub(super) object: &'q Object<'a>,
    pub(super) reloc: &'q Reloc<'a>,
    pub(super) question: &'q Question<'a>,
    pub(super) query: u32,
}

/// What makes records the same edit.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct EditKey {
    pub(super) root: u32,
    pub(super) query: u32,
    pub(super) value: u64,
    pub(super) size: u32,
    pub(super) width: Width,
    pub(super) validate: bool,
    pub(super) insn: [u8; INSN_LEN],
    /// The slot behind it, where that counts.
    pub(super) next: Option<[u8; INSN_LEN]>,
}

impl EditKey {
    /// `None` if more than this counts.
    pub(super) fn of(
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

/// What an object's records ask by the rules of a loader other than libbpf, by which they were read.
pub(crate) fn questions_by<'a>(
    rules: &Rules,
    object: &Object<'a>,
) -> Vec<Result<Question<'a>, ResolveError>> {
    let by_rules = |reloc: &Reloc<'a>| {
        if reloc.kind == Some(RelocKind::TypeMatches) && !rules.type_matches {
            return Err(ResolveError::UnknownKind { kind: reloc.raw_kind });
        }
        let btf = object.btf().ok_or(ResolveError::LocalTypeUnusable)?;
        query::parse(rules, btf, reloc.type_id, reloc.access, reloc.raw_kind)
    };
    object.relocs().iter().map(by_rules).collect()
}

/// What some objects ask about a root.
#[derive(Clone, Debug)]
pub struct AskedOfRoot<'q, 'a> {
    /// The root.
    pub root: &'q Root<'a>,
    /// What they ask, all of it different, and by relocations of what kinds.
    pub asks: Vec<(&'q Ask<'a>, SmallVec<[RelocKind; 2]>)>,
}

/// What objects ask a loader.
#[derive(Debug)]
pub struct Questions<'q, 'a> {
    objects: &'q [Object<'a>],
    /// By object; empty for the questions that the objects were read with.
    by_object: Vec<Vec<Result<Question<'a>, ResolveError>>>,
}

impl<'q, 'a> Questions<'q, 'a> {
    /// Reads the records of `objects` by the rules of a loader.
    pub fn new(batch: &Batch, objects: &'q [Object<'a>], rules: &Rules) -> Self {
        Self { objects, by_object: by_rules(batch, objects, rules) }
    }

    /// The distinct questions, by root, of the objects of byte order `endian`.
    pub fn distinct(&self, endian: Endian) -> Vec<AskedOfRoot<'_, 'a>> {
        let mut roots: Vec<AskedOfRoot<'_, 'a>> = Vec::new();
        let mut root_numbers: HashMap<&Root<'a>, usize> = HashMap::new();
        let mut places: HashMap<&Query<'a>, (usize, usize)> = HashMap::new();
        for (number, object) in self.objects.iter().enumerate().filter(|it| it.1.endian() == endian) {
            let own = self.by_object.get(number);
            for (record, reloc) in object.relocs().iter().enumerate() {
                let question = own.and_then(|it| it.get(record)).unwrap_or(&reloc.question);
                let (Ok(Question { query: Some(query), .. }), Some(kind)) = (question, reloc.kind) else {
                    continue;
                };
                let (root, ask) = *places.entry(query).or_insert_with(|| {
                    let root = *root_numbers.entry(&query.root).or_insert_with(|| {
                        roots.push(AskedOfRoot { root: &query.root, asks: Vec::new() });
                        roots.len() - 1
                    });
                    let asks = roots.get_mut(root).map(|it| &mut it.asks);
                    let ask = asks.map_or(0, |asks| {
                        asks.push((&query.ask, SmallVec::new()));
                        asks.len() - 1
                    });
                    (root, ask)
                });
                let kinds = roots.get_mut(root).and_then(|it| it.asks.get_mut(ask)).map(|it| &mut it.1);
                kinds.filter(|it| !it.contains(&kind)).into_iter().for_each(|it| it.push(kind));
            }
        }
        roots
    }
}

/// By object, what its records ask by the rules of a loader; nothing where that is what they were read by.
pub(super) fn by_rules<'a>(
    batch: &Batch,
    objects: &[Object<'a>],
    rules: &Rules,
) -> Vec<Vec<Result<Question<'a>, ResolveError>>> {
    match *rules {
        Rules::LIBBPF => Vec::new(),
        _ => batch.map(objects, |object| questions_by(rules, object)),
    }
}

/// Finds the same question asked twice, by whatever objects. What is distinct is numbered as it first shows up.
pub(super) fn distinct_queries<'q, 'a>(
    batch: &Batch,
    objects: &'q [Object<'a>],
    questions: &'q [Vec<Result<Question<'a>, ResolveError>>],
    endian: Endian,
) -> (QueryPlaces, Vec<RootQueries<'q, 'a>>) {
    // A few shares for each thread, as some objects have many more records than others.
    let share_len = objects.len().div_ceil(4 * batch.threads()).max(1);
    let starts: Vec<usize> = (0..objects.len()).step_by(share_len).collect();
    let shares = batch.map(&starts, |&start| {
        let mut distinct = Distinct::default();
        let share = (start..objects.len()).take(share_len).filter_map(|number| {
            let object = objects.get(number)?;
            Some(distinct.places(object, questions.get(number), endian))
        });
        let places: QueryPlaces = share.collect();
        (places, distinct.roots)
    });
    let mut all = Distinct::default();
    let mut places = Vec::with_capacity(objects.len());
    for (mut of_share, roots) in shares {
        // By root of the share: where its queries and its edits are among all.
        let renumbered: Vec<(Vec<QueryPlace>, Vec<Option<u32>>)> = roots
            .into_iter()
            .map(|RootQueries { queries, edits, .. }| {
                let queries: Vec<QueryPlace> =
                    queries.into_iter().map(|(query, kind)| all.query(query, kind)).collect();
                let edits = edits.into_iter().map(|EditOf { object, reloc, question, query }| {
                    all.edit(*queries.get(query as usize)?, object, reloc, question)
                });
                let edits = edits.collect();
                (queries, edits)
            })
            .collect();
        for place in of_share.iter_mut().flatten() {
            *place = place.and_then(|it| {
                let (queries, edits) = renumbered.get(it.root as usize)?;
                let edit = it.edit.and_then(|edit| *edits.get(edit as usize)?);
                Some(QueryPlace { edit, ..*queries.get(it.query as usize)? })
            });
        }
        places.append(&mut of_share);
    }
    (places, all.roots)
}

/// Distinct questions of some objects.
#[derive(Default)]
struct Distinct<'q, 'a> {
    roots: Vec<RootQueries<'q, 'a>>,
    root_numbers: HashMap<&'q Root<'a>, u32>,
    queries: HashMap<(&'q Query<'a>, RelocKind), QueryPlace>,
    edits: HashMap<EditKey, u32>,
}

impl<'q, 'a> Distinct<'q, 'a> {
    /// By record of one more object. `own`: its questions, if they are not those that it was read with.
    fn places(
        &mut self,
        object: &'q Object<'a>,
        own: Option<&'q Vec<Result<Question<'a>, ResolveError>>>,
        endian: Endian,
    ) -> Vec<Option<QueryPlace>> {
        let records = object.relocs().iter().enumerate().filter(|_| object.endian() == endian);
        let place_of = |(record, reloc): (usize, &'q Reloc<'a>)| {
            let question = own.and_then(|it| it.get(record)).unwrap_or(&reloc.question);
            let question = question.as_ref().ok()?;
            let place = self.query(question.query.as_ref()?, reloc.kind?);
            Some(QueryPlace { edit: self.edit(place, object, reloc, question), ..place })
        };
        records.map(place_of).collect()
    }

    fn query(&mut self, query: &'q Query<'a>, kind: RelocKind) -> QueryPlace {
        *self.queries.entry((query, kind)).or_insert_with(|| {
            let root = *self.root_numbers.entry(&query.root).or_insert_with(|| {
                self.roots.push(RootQueries { root: &query.root, queries: Vec::new(), edits: Vec::new() });
                count(self.roots.len() - 1)
            });
            let Some(RootQueries { queries, .. }) = self.roots.get_mut(root as usize) else {
                return QueryPlace { root, query: 0, edit: None };
            };
            queries.push((query, kind));
            QueryPlace { root, query: count(queries.len() - 1), edit: None }
        })
    }

    /// `None` if it cannot be told without its object.
    fn edit(
        &mut self,
        place: QueryPlace,
        object: &'q Object<'a>,
        reloc: &'q Reloc<'a>,
        question: &'q Question<'a>,
    ) -> Option<u32> {
        let key = EditKey::of(place, object, reloc, question)?;
        let edits = &mut self.roots.get_mut(place.root as usize)?.edits;
        Some(*self.edits.entry(key).or_insert_with(|| {
            edits.push(EditOf { object, reloc, question, query: place.query });
            count(edits.len() - 1)
        }))
    }
}

pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
