//! Which candidate the records of a program about one local type get together, in the `ebpf-go` dialect.
//!
//! Every candidate is tried with all of them; the one that leaves the fewest without an answer is taken, for all of them.
//! Of two that are as good the first is taken, and they have to give the same values. One that answers nothing is never
//! taken.
//!
//! Source: `CORERelocate`, `coreCalculateFixups`, cilium/ebpf; spec section 14.

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::Match;
use super::fold::{Asked, Part, Target};
use crate::error::ResolveError;
use crate::fleet::Candidate;
use crate::format::btf_ext::RelocKind;
use crate::object::Reloc;
use crate::value::Value;

/// Records that get the same candidate: their root, the list of candidates, and the program that they are loaded with,
/// if they are not judged alone.
type Group = (usize, usize, Option<usize>);

/// What all groups get.
#[derive(Default)]
pub(super) struct Scores {
    choices: HashMap<Group, Chosen>,
}

/// What a group gets.
#[derive(Default)]
struct Chosen {
    /// Place of the candidate in its list; `None` if no candidate answers anything.
    candidate: Option<usize>,
    /// Where a candidate that is as good gives another value: the record and the error.
    ambiguous: Option<(usize, ResolveError)>,
}

impl Scores {
    /// Groups the records for which `active` holds, and chooses for each group.
    pub(super) fn of(part: &Part<'_>, target: &Target<'_>, active: impl Fn(&Reloc<'_>) -> bool) -> Self {
        let mut groups: HashMap<(usize, Option<usize>), Vec<&Asked<'_>>> = HashMap::new();
        for asked in part.records.iter().filter(|it| active(it.reloc)) {
            let has_query = asked.question.is_ok_and(|it| it.query.is_some());
            for program in programs(asked).into_iter().filter(|_| has_query) {
                groups.entry((asked.root, program)).or_default().push(asked);
            }
        }
        let mut this = Self::default();
        for ((root, program), records) in groups {
            let lists = target.views.get(root).map(|it| it.lists.as_slice()).unwrap_or_default();
            for (number, list) in lists.iter().enumerate() {
                this.choices.insert((root, number, program), choose(&records, target, list));
            }
        }
        this
    }

    /// What a record gets of the candidates of a list, for each program that it is loaded with.
    pub(super) fn of_record(
        &self,
        asked: &Asked<'_>,
        list: usize,
    ) -> impl Iterator<Item = Result<Option<usize>, ResolveError>> {
        programs(asked).into_iter().map(move |program| {
            let Some(chosen) = self.choices.get(&(asked.root, list, program)) else { return Ok(None) };
            match chosen.ambiguous {
                Some((record, error)) if record == place(asked) => Err(error),
                _ => Ok(chosen.candidate),
            }
        })
    }
}

/// The programs that a record is loaded with; one that is `None` if it is judged alone.
fn programs(asked: &Asked<'_>) -> SmallVec<[Option<usize>; 1]> {
    if asked.programs.is_empty() {
        return SmallVec::from_elem(None, 1);
    }
    asked.programs.iter().copied().map(Some).collect()
}

/// What tells a record from others of its group.
fn place(asked: &Asked<'_>) -> usize {
    std::ptr::from_ref(asked.reloc).addr()
}

fn choose(records: &[&Asked<'_>], target: &Target<'_>, list: &[Candidate]) -> Chosen {
    // What ends the load on any candidate is not scored: it is judged as if the record were not there.
    let is_sound = |it: &&&Asked<'_>| list.iter().all(|candidate| it.fixup_on(target, *candidate).is_ok());
    let records: Vec<&Asked<'_>> = records.iter().filter(is_sound).copied().collect();
    let mut chosen = Chosen::default();
    let mut best: Vec<Fixup> = Vec::new();
    let mut best_score = records.len();
    for (number, candidate) in list.iter().enumerate() {
        let fixups: Vec<Fixup> = records.iter().map(|it| Fixup::new(it, target, *candidate)).collect();
        let score = fixups.iter().filter(|it| it.is_short).count();
        if score < best_score {
            best_score = score;
            best = fixups;
            chosen.candidate = Some(number);
        } else if score == best_score && chosen.ambiguous.is_none() {
            let both = best.iter().zip(&fixups).zip(&records);
            let mut both = both.filter(|((first, other), _)| first.values != other.values);
            chosen.ambiguous = both.next().map(|((first, other), asked)| {
                let (first, other) = (first.values.1, other.values.1);
                (place(asked), ResolveError::AmbiguousValue { first, other })
            });
        }
    }
    chosen
}

/// What a record is on a candidate.
struct Fixup {
    /// Values of the program and of the kernel, as they are compared with those of other candidates.
    values: (u64, u64),
    /// Whether there is no answer, or the answer is that something is not there.
    is_short: bool,
}

impl Fixup {
    fn new(asked: &Asked<'_>, target: &Target<'_>, candidate: Candidate) -> Self {
        let kind = asked.reloc.kind;
        let local = match kind {
            Some(kind) if kind.is_existence_query() => 1,
            // QUIRK: they have no value on this side.
            Some(RelocKind::FieldLshiftU64 | RelocKind::FieldRshiftU64) => 0,
            _ => asked.question.and_then(|it| it.local).map_or(0, |it| it.value.value),
        };
        match asked.fixup_on(target, candidate).ok().flatten() {
            Some(value) => Self { values: (local, value.value), is_short: false },
            // QUIRK: poison passes for the value 0.
            None if kind.is_some_and(RelocKind::is_existence_query) => {
                Self { values: (1, 0), is_short: true }
            }
            None => Self { values: (0, 0), is_short: true },
        }
    }
}

impl Asked<'_> {
    /// The value of a record on a candidate; `None` if it does not have what is asked for.
    pub(super) fn fixup_on(
        &self,
        target: &Target<'_>,
        candidate: Candidate,
    ) -> Result<Option<Value>, ResolveError> {
        let found = match self.matches.get(candidate.shape as usize) {
            Some(Ok(Match::Found(found))) => found,
            Some(Err(error)) => return Err(*error),
            Some(Ok(Match::Missing(_))) | None => return Ok(None),
        };
        self.question?.local?;
        let mut value = found.value.map_err(ResolveError::on_target_side)?;
        if self.reloc.kind == Some(RelocKind::TypeIdTarget) {
            // Ids of modules' types are not for instructions.
            if candidate.module.is_some() {
                return Ok(None);
            }
            value.value = (target.id_of)(self.root, candidate).0.into();
        }
        Ok(Some(value))
    }
}
