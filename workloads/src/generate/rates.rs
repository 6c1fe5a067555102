//! How often what changes from one real kernel to the next, by name: the probabilities that synthetic kernels are
//! changed with.
//!
//! A struct counts as changed if its list of members does. Members that only move because something in front of them
//! grew are not counted: in a synthetic kernel they move for the same reason.

use btfleet_engine::btf::{Btf, NameHash, Type, TypeId};
use btfleet_engine::format::btf::Kind;
use hashbrown::HashMap;

use super::inputs::Step;
use super::rng::fold;
use super::shape::kind_number;

/// Anonymous members inside one another after which a list of members is cut off.
const DEPTH_MAX: u32 = 32;

/// What stands for a kernel when it is compared with the next.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// By hash of kind and name of structs, unions and enums: hash of what the declaration lists.
    declared: HashMap<u64, u64>,
    funcs: hashbrown::HashSet<u64>,
}

/// Counts of one name over all steps of a kind.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Steps whose first kernel has it.
    present: f64,
    changed: f64,
    gone: f64,
}

/// Counts of all names, and over all names.
#[derive(Clone, Debug, Default)]
struct OfStep {
    steps: f64,
    names: HashMap<u64, Seen>,
    all: Seen,
    added: f64,
    funcs_added: f64,
    funcs_gone: f64,
}

/// Rates of change, by the kind of step.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates([OfStep; 3]);

/// Key of a declared name.
pub(super) fn key(kind: Kind, name: &[u8]) -> u64 {
    fold(kind_number(kind), NameHash::of(name).0)
}

impl Outline {
    pub(super) fn of(btf: &Btf<'_>) -> Self {
        let mut outline = Self::default();
        for (_, ty) in btf.own_types() {
            let name = btf.name(ty.name_off);
            match ty.kind {
                _ if name.is_empty() => {}
                Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 => {
                    let hash = || declared(btf, ty, 0);
                    outline.declared.entry(key(ty.kind, name)).or_insert_with(hash);
                }
                Kind::Func => {
                    outline.funcs.insert(NameHash::of(name).0);
                }
                _ => {}
            }
        }
        outline
    }
}

fn declared(btf: &Btf<'_>, ty: Type<'_>, depth: u32) -> u64 {
    let name = |off: u32| NameHash::of(btf.name(off)).0;
    let mut hash = kind_number(ty.kind);
    for member in ty.members() {
        hash = fold(fold(hash, name(member.name_off)), member.bitfield_size.into());
        hash = fold(hash, mentioned(btf, member.type_id, depth));
    }
    for it in ty.enumerators() {
        hash = fold(fold(hash, name(it.name_off)), it.value);
    }
    hash
}

/// A type as a declaration mentions it.
fn mentioned(btf: &Btf<'_>, id: TypeId, depth: u32) -> u64 {
    let Some((_, ty)) = btf.skip_mods_and_typedefs(id).filter(|_| depth < DEPTH_MAX) else { return 0 };
    match ty.kind {
        Kind::Array => {
            let array = ty.array();
            fold(u64::from(array.nelems), mentioned(btf, array.elem, depth + 1))
        }
        Kind::Struct | Kind::Union if btf.is_anonymous(ty.name_off) => declared(btf, ty, depth + 1),
        _ => fold(kind_number(ty.kind), NameHash::of(btf.name(ty.name_off)).0),
    }
}

impl Rates {
    fn of(&self, step: Step) -> &OfStep {
        let [patch, minor, long_term] = &self.0;
        match step {
            Step::Patch => patch,
            Step::Minor => minor,
            Step::LongTerm => long_term,
        }
    }

    /// Counts the step from one kernel to the next of its flavour.
    pub(super) fn note(&mut self, step: Step, before: &Outline, after: &Outline) {
        let [patch, minor, long_term] = &mut self.0;
        let rates = match step {
            Step::Patch => patch,
            Step::Minor => minor,
            Step::LongTerm => long_term,
        };
        rates.steps += 1.0;
        for (&name, &hash) in &before.declared {
            let seen = rates.names.entry(name).or_default();
            let found = after.declared.get(&name);
            for seen in [seen, &mut rates.all] {
                seen.present += 1.0;
                seen.gone += f64::from(u8::from(found.is_none()));
                seen.changed += f64::from(u8::from(found.is_some_and(|&it| it != hash)));
            }
        }
        let new = after.declared.keys().filter(|it| !before.declared.contains_key(*it)).count();
        rates.added += new as f64;
        rates.funcs_added += after.funcs.difference(&before.funcs).count() as f64;
        rates.funcs_gone += before.funcs.difference(&after.funcs).count() as f64;
    }

    /// Number of steps of a kind that were seen.
    pub(super) fn steps(&self, step: Step) -> f64 {
        self.of(step).steps
    }

    /// Part of the declared names that change in a step, and part that go.
    pub(super) fn overall(&self, step: Step) -> (f64, f64) {
        let OfStep { all, steps, .. } = self.of(step);
        if *steps > 0.0 && all.present > 0.0 {
            return (all.changed / all.present, all.gone / all.present);
        }
        match step {
            Step::Patch => (0.004, 0.0005),
            Step::Minor => (0.06, 0.01),
            Step::LongTerm => (0.3, 0.08),
        }
    }

    /// Probability that this name changes in a step, and that it goes. A name that was not seen often is taken for an
    /// average one.
    pub(super) fn of_name(&self, step: Step, name: u64) -> (f64, f64) {
        let (changed, gone) = self.overall(step);
        let seen = self.of(step).names.get(&name).copied().unwrap_or_default();
        let weight = seen.present + 1.0;
        ((seen.changed + changed) / weight, (seen.gone + gone) / weight)
    }

    /// Mean number of names that are new after a step, of functions that are, and of functions that go.
    pub(super) fn additions(&self, step: Step) -> (f64, f64, f64) {
        let it = self.of(step);
        if it.steps > 0.0 {
            return (it.added / it.steps, it.funcs_added / it.steps, it.funcs_gone / it.steps);
        }
        match step {
            Step::Patch => (3.0, 30.0, 20.0),
            Step::Minor => (200.0, 1000.0, 700.0),
            Step::LongTerm => (1500.0, 9000.0, 6000.0),
        }
    }
}
