//! The distinct questions of many objects, by what they are about.

use hashbrown::HashMap;

use crate::dialect::Rules;
use crate::error::ResolveError;
use crate::format::Endian;
use crate::format::btf_ext::RelocKind;
use crate::format::insn::{INSN_LEN, class};
use crate::object::{Object, Reloc};
use crate::query::{self, Query, Question, Root};
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

/// What an object's records ask by the rules of a loader other than the one they were read by.
pub(super) fn questions_by<'a>(
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

/// Finds the same question asked twice, by whatever objects.
pub(super) fn distinct_queries<'q, 'a>(
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
                    root.edits.push(EditOf { object, reloc, question, query: place.query });
                    count(root.edits.len() - 1)
                }));
            }
            Some(place)
        });
        places.push(of_object.collect());
    }
    (places, roots)
}

pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
