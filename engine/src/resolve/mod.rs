//! Decides one query on one candidate type, and folds the answers over an object's records.
//!
//! [`on_candidate`] is pure: it takes a query and a type, and returns a [`Match`]. It does not know where
//! candidates come from, does no I/O and allocates nothing for each candidate. [`Part::fold`] is what a loader does on
//! top: candidate lists in record order, agreement, pruning (libbpf only), patching.
//!
//! Source: `src/relo_core.c`, libbpf; spec sections 5 to 9.

mod budget;
mod compat;
mod field;
mod fold;
mod matches;
mod watch;

pub use budget::Budget;
pub(crate) use compat::types_are_compat;
pub(crate) use field::find as find_place;
pub use fold::{Asked, Code, Decision, InsnBytes, Matches, ModuleOutcome, Outcome, Part, Target};
pub use watch::Watch;

use crate::btf::{Btf, TypeId};
use crate::dialect::Rules;
use crate::error::ResolveError;
use crate::format::btf_ext::RelocKind;
use crate::query::{Ask, Query};
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
    /// The type is another one.
    TypeIncompatible,
    /// No enumerator of that name.
    NoEnumerator,
}

/// Asks `query` of type `root` of the target `btf`, by the rules of a loader.
///
/// `budget` bounds the work; it is spent by hostile types only. Whoever watches it is told what the answer rests on.
///
/// # Errors
/// What the loader calls an error while matching a candidate: it ends the load, other candidates or not.
pub fn on_candidate<W: Watch>(
    rules: &Rules,
    query: &Query<'_>,
    kind: RelocKind,
    btf: &Btf<'_>,
    root: TypeId,
    budget: &mut Budget<W>,
) -> Result<Match, ResolveError> {
    let place = match &query.ask {
        Ask::Field(steps) => field::find(rules, steps, btf, root, budget)?,
        Ask::Enumerator(essential) => find_enumerator(rules, essential, btf, root, &mut budget.watch)?,
        Ask::TypeCompat(local) => {
            type_place(compat::types_are_compat(rules, &local.btf, local.id, btf, root, budget)?, root)
        }
        Ask::TypeMatches(local) => {
            type_place(matches::types_match(rules, &local.btf, local.id, btf, root, budget)?, root)
        }
    };
    Ok(match place {
        Ok(place) => {
            Match::Found(Found { bit_offset: place.bit_offset, value: value::of(rules, btf, kind, &place) })
        }
        Err(missing) => Match::Missing(missing),
    })
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
    watch: &mut impl Watch,
) -> Result<Result<Place, Missing>, ResolveError> {
    let (id, ty) = btf.skip_mods_and_typedefs(root).ok_or(ResolveError::TargetMalformed { errno: -22 })?;
    if !ty.kind.is_any_enum() {
        return Ok(Err(Missing { why: Why::TypeIncompatible, depth: 0 }));
    }
    let is_it = |name_off| rules.flavors.essential(btf.name(name_off)) == essential;
    let found = (0_u32..).zip(ty.enumerators()).find(|(_, it)| is_it(it.name_off));
    Ok(match found {
        Some((index, it)) => {
            watch.enumerator(id, index);
            let end = Endpoint::Enumerator { value: it.value, is_unsigned: value::is_unsigned_enum(ty) };
            Ok(Place { bit_offset: 0, end })
        }
        None => Err(Missing { why: Why::NoEnumerator, depth: 1 }),
    })
}
