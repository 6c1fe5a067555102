//! What is looked up: the roots of the user's objects, or a sample of a kernel's own names.

use std::collections::HashSet;

use btfleet_engine::btf::{Btf, RootKinds, TypeId, hashed_roots};
use btfleet_engine::format::Endian;
use btfleet_engine::format::btf::Kind;
use btfleet_engine::object::Object;
use btfleet_engine::query::Root;

/// Names of the sample that the kernel has; for every fourth of them there is one that it has not.
const SAMPLE_HITS: usize = 512;
/// Lookups of the sample that stand for one object: most real objects have fewer.
const SAMPLE_OBJECT: usize = 8;

/// Lookups in the order in which a loader would do them.
pub(super) struct Lookups<'a> {
    pub(super) stream: Vec<Root<'a>>,
    /// Those of one object, the one with the median number of them.
    pub(super) one_object: Vec<Root<'a>>,
}

impl<'a> Lookups<'a> {
    /// The lookups of all objects of one byte order, one object after another.
    pub(super) fn of_objects(objects: &[Object<'a>], endian: Endian) -> Self {
        let mut each: Vec<Vec<Root<'a>>> = objects
            .iter()
            .filter(|it| it.endian() == endian)
            .map(roots_of)
            .filter(|it| !it.is_empty())
            .collect();
        let stream = each.concat();
        // Stable: of several with as many, the first one given.
        each.sort_by_key(Vec::len);
        let middle = each.len() / 2;
        Self { stream, one_object: each.into_iter().nth(middle).unwrap_or_default() }
    }

    pub(super) fn of_sample(sample: &'a [(Vec<u8>, Kind)]) -> Self {
        let stream: Vec<Root<'a>> = sample.iter().map(|(name, kind)| Root::new(name, *kind)).collect();
        let one_object = stream.iter().copied().take(SAMPLE_OBJECT).collect();
        Self { stream, one_object }
    }
}

/// An object's lookups as libbpf does them: once for each local root type, when a record first needs it.
fn roots_of<'a>(object: &Object<'a>) -> Vec<Root<'a>> {
    let mut seen: HashSet<TypeId> = HashSet::new();
    let loaded = object.relocs().iter().filter(|it| it.program.is_some());
    loaded
        .filter_map(|reloc| Some((reloc.type_id, reloc.question.as_ref().ok()?.query.as_ref()?.root)))
        .filter(|(id, _)| seen.insert(*id))
        .map(|(_, root)| root)
        .collect()
}

/// Full names and kinds: some that `btf` has, evenly from all of it, and some that it most likely has not. In the order
/// of the names' hashes, so that neighbours in the file are not asked for one after the other.
pub(super) fn sample(btf: &Btf<'_>) -> Vec<(Vec<u8>, Kind)> {
    let roots = hashed_roots(btf, RootKinds::Common);
    let mut taken: Vec<_> = roots.iter().step_by(roots.len().div_ceil(SAMPLE_HITS).max(1)).collect();
    taken.sort_unstable();
    let mut sample = Vec::with_capacity(taken.len() + taken.len() / 4 + 1);
    for (number, (_, id)) in taken.into_iter().enumerate() {
        let Some(ty) = btf.ty(*id) else { continue };
        let name = btf.name(ty.name_off);
        sample.push((name.to_vec(), ty.kind));
        if number % 4 == 0 {
            sample.push(([name, b"_absent"].concat(), ty.kind));
        }
    }
    sample
}
