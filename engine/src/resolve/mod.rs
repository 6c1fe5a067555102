//! Decides one query on one candidate type, and folds the answers over an object's records.
//!
//! [`on_candidate`] is pure: it takes a query and a type, and returns a [`Match`]. It does not know where
//! candidates come from, does no I/O and allocates nothing for each candidate. [`Part::fold`] is what a loader does on
//! top: candidate lists in record order, agreement, pruning (libbpf only), patching.
//!
//! Source: `src/relo_core.c`, libbpf; spec sections 5 to 9.

mod breadth;
mod budget;
mod compat;
mod field;
mod fold;
mod matches;
mod pairs;
mod scored;

pub use budget::Budget;
pub(crate) use compat::types_are_compat;
pub use fold::{Asked, Code, Decision, InsnBytes, Matches, ModuleOutcome, Outcome, Part, Target};

use crate::btf::{Btf, TypeId};
use crate::dialect::{Fields, Rules, Types};
use crate::error::ResolveError;
use crate::format::btf_ext::RelocKind;
use crate::query::{Ask, Query, Step};
use crate::value::{self, Endpoint, Place, Value, ValueError};

/// What one query gives on one candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The candidate has it.
    Found(Found),
    /// The candidate does not have it: not an error.
    Missing(Missing),
}

/// Where a candidate has what was asked for, and the value of the relocation there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Offset of the field in bits; 0 for type and enumerator queries. Candidates have to agree on it.
    pub bit_offset: u32,
    /// The value. An error is fatal, but the local side's error comes first.
    pub value: Result<Value, ValueError>,
}

/// Why a candidate does not match, and how far it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What was not there.
    pub why: Why,
    /// Number of steps of the path that the candidate does have.
    pub depth: usize,
}

/// What a candidate lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No member of that name.
    NoField,
    /// A member of that name, but of an incompatible type; or no array where an element is asked for.
    FieldIncompatible,
    /// The array has too few elements.
    ArrayBounds,
    /// The type is only declared.
    OnlyDeclared,
    /// The type is another one.
    TypeIncompatible,
    /// No enumerator of that name.
    NoEnumerator,
}

/// Asks `query` of type `root` of the target `btf`, by the rules of a loader.
///
/// `budget` bounds the work; it is spent by hostile types only.
///
/// # Errors
/// What the loader calls an error while matching a candidate: it ends the load, other candidates or not.
pub fn on_candidate(
    rules: &Rules,
    query: &Query<'_>,
    kind: RelocKind,
    btf: &Btf<'_>,
    root: TypeId,
    budget: &mut Budget,
) -> Result<Match, ResolveError> {
    Ok(match find(rules, &query.ask, btf, root, budget)? {
        Ok(place) => {
            Match::Found(Found { bit_offset: place.bit_offset, value: value::of(rules, btf, kind, &place) })
        }
        Err(missing) => Match::Missing(missing),
    })
}

/// Finds what is asked for in type `root`, whatever value the relocation is to have there; the outer error is fatal, the
/// inner one says what is missing.
pub(crate) fn find(
    rules: &Rules,
    ask: &Ask<'_>,
    btf: &Btf<'_>,
    root: TypeId,
    budget: &mut Budget,
) -> Result<Result<Place, Missing>, ResolveError> {
    match ask {
        Ask::Field(steps) => find_place(rules, steps, btf, root, budget),
        Ask::Enumerator(essential) => find_enumerator(rules, essential, btf, root),
        Ask::TypeCompat(local) => {
            let is_compat = match rules.types {
                Types::Libbpf => types_are_compat(rules, &local.btf, local.id, btf, root, budget)?,
                Types::EbpfGo => pairs::are_compat((&local.btf, local.id), (btf, root), budget)?,
            };
            Ok(type_place(is_compat, root))
        }
        Ask::TypeMatches(local) => {
            let matches = match rules.types {
                Types::Libbpf => matches::types_match(rules, &local.btf, local.id, btf, root, budget)?,
                Types::EbpfGo => pairs::match_each_other(rules, (&local.btf, local.id), (btf, root), budget)?,
            };
            Ok(type_place(matches, root))
        }
    }
}

/// Follows `steps` from `root`; the outer error is fatal, the inner one says what is missing.
pub(crate) fn find_place(
    rules: &Rules,
    steps: &[Step<'_>],
    btf: &Btf<'_>,
    root: TypeId,
    budget: &mut Budget,
) -> Result<Result<Place, Missing>, ResolveError> {
    match rules.fields {
        Fields::Libbpf => field::find(rules, steps, btf, root, budget),
        Fields::EbpfGo => breadth::find(rules, steps, btf, root, budget),
    }
}

fn type_place(same: bool, root: TypeId) -> Result<Place, Missing> {
    if same {
        Ok(Place { bit_offset: 0, end: Endpoint::Type(root) })
    } else {
        Err(Missing { why: Why::TypeIncompatible, depth: 0 })
    }
}

fn find_enumerator(
    rules: &Rules,
    essential: &[u8],
    btf: &Btf<'_>,
    root: TypeId,
) -> Result<Result<Place, Missing>, ResolveError> {
    let (_, ty) = btf.skip_mods_and_typedefs(root).ok_or(ResolveError::TargetMalformed { errno: -22 })?;
    if !ty.kind.is_any_enum() {
        return Ok(Err(Missing { why: Why::TypeIncompatible, depth: 0 }));
    }
    let found = ty.enumerators().find(|it| rules.flavors.essential(btf.name(it.name_off)) == essential);
    Ok(match found {
        Some(it) => {
            let end = Endpoint::Enumerator { value: it.value, is_unsigned: value::is_unsigned_enum(ty) };
            Ok(Place { bit_offset: 0, end })
        }
        None => Err(Missing { why: Why::NoEnumerator, depth: 1 }),
    })
}
