//! The part of a kernel that objects can see, and a sample of the rest.
//!
//! A struct or union that is reached through pointers only keeps its kind, name and size and loses its members: that
//! is all that a relocation looks at there.

use btfleet_engine::btf::{NameHash, essential_name};
use btfleet_engine::format::btf::Kind;
use hashbrown::HashSet;

use super::btf_edit::Model;

/// One in so many names is kept whatever the objects ask for. The same names in all kernels.
const SAMPLE: u64 = 8;

/// Names that have to be kept, by hash: essential names of roots, full names of everything else.
pub(super) type Wanted = HashSet<u64>;

/// Whether a name is in the sample.
pub(super) fn is_sampled(name: &[u8]) -> bool {
    NameHash::of(name).0.is_multiple_of(SAMPLE)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Not,
    /// Behind a pointer.
    Named,
    Whole,
}

/// Empties what is seen behind pointers only, and returns the ids of what is to be kept, ascending.
pub(super) fn trim(model: &mut Model, wanted: &Wanted) -> Vec<u32> {
    let mut seen = vec![Seen::Not; model.end() as usize];
    let mut left: Vec<(u32, bool)> = Vec::new();
    for (id, record) in model.types() {
        let name = model.text(record.name);
        let is_wanted = || {
            wanted.contains(&NameHash::of(essential_name(name)).0) || wanted.contains(&NameHash::of(name).0)
        };
        let keep = match record.kind() {
            // Sizes of pointers are guessed from them, and new members have them.
            Kind::Int => true,
            Kind::Ptr => record.word == 0,
            Kind::Datasec | Kind::DeclTag => false,
            _ => !name.is_empty() && (is_sampled(name) || is_wanted()),
        };
        if keep {
            left.push((id, false));
        }
    }
    while let Some((id, behind)) = left.pop() {
        let Some(record) = model.get(id) else { continue };
        let is_shell = behind && record.kind().is_composite() && !model.text(record.name).is_empty();
        let now = if behind { Seen::Named } else { Seen::Whole };
        let Some(slot) = seen.get_mut(id as usize).filter(|it| **it < now) else { continue };
        *slot = now;
        if is_shell {
            continue;
        }
        let behind = behind || matches!(record.kind(), Kind::Ptr | Kind::FuncProto | Kind::Func);
        record.clone().each_ref(|&mut it| left.push((it, behind)));
    }
    let mut kept = Vec::new();
    for (id, seen) in (0_u32..).zip(seen) {
        if let Some(record) = model.get_mut(id).filter(|_| seen != Seen::Not) {
            if seen == Seen::Named && record.kind().is_composite() && record.name != 0 {
                record.tail.clear();
                record.info &= 0x7f00_0000;
            }
            kept.push(id);
        }
    }
    kept
}
