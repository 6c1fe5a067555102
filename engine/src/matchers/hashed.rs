//! What all matchers over hashes of names have in common: rare kinds apart, and hits confirmed by name.

use std::sync::OnceLock;

use super::Matcher;
use crate::btf::{Btf, NameHash, RootKinds, TypeId, hashed_roots};
use crate::query::Root;

/// A structure that finds type ids by the hash of their name.
pub(super) trait HashIndex {
    /// Builds it. `roots` is in the order of the ids; one hash may stand there any number of times.
    fn build(roots: &[(NameHash, TypeId)]) -> Self;

    /// Appends the ids of `hash` to `found`, in ascending order. Ids of other hashes may be among them, anywhere.
    fn lookup(&self, hash: NameHash, found: &mut Vec<TypeId>);

    /// Bytes on the heap.
    fn bytes(&self) -> usize;
}

/// A [`HashIndex`] as a matcher.
struct Hashed<'a, I> {
    btf: &'a Btf<'a>,
    common: I,
    /// Built when a root of a rare kind is first asked for.
    rare: OnceLock<I>,
}

/// Prepares a search by `I` in `btf`.
pub(super) fn build<'a, I: HashIndex + 'static>(btf: &'a Btf<'a>) -> Box<dyn Matcher + 'a> {
    let common = I::build(&hashed_roots(btf, RootKinds::Common));
    Box::new(Hashed { btf, common, rare: OnceLock::new() })
}

impl<I: HashIndex> Matcher for Hashed<'_, I> {
    fn candidates(&self, root: &Root<'_>, found: &mut Vec<TypeId>) {
        found.clear();
        let index = match RootKinds::of(root.kind) {
            RootKinds::Common => &self.common,
            RootKinds::Rare => self.rare.get_or_init(|| I::build(&hashed_roots(self.btf, RootKinds::Rare))),
        };
        index.lookup(root.hash, found);
        found.retain(|&id| self.btf.is_candidate(id, root.essential, root.kind));
    }

    fn bytes(&self) -> usize {
        self.common.bytes() + self.rare.get().map_or(0, I::bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{hashbrown, open_addressing, perfect, sorted_hash};
    use super::*;

    /// Checks every hash of `hashes`, which get the ids from 1 on, and a few that are not there.
    fn check<I: HashIndex>(hashes: &[u64]) {
        let roots: Vec<_> = (1..).zip(hashes).map(|(id, &hash)| (NameHash(hash), TypeId(id))).collect();
        let index = I::build(&roots);
        let mut asked: Vec<u64> =
            hashes.iter().flat_map(|&it| [it, it ^ 1, it ^ 1 << 63, it.rotate_left(32)]).collect();
        asked.extend([0, u64::MAX]);
        asked.sort_unstable();
        asked.dedup();
        // Enough of them to meet every case, few enough to compare with all ids.
        for hash in asked.iter().step_by(1 + asked.len() / 500) {
            let hash = NameHash(*hash);
            let mut found = Vec::new();
            index.lookup(hash, &mut found);
            found.retain(|&id| roots.contains(&(hash, id)));
            let expected: Vec<_> = roots.iter().filter(|it| it.0 == hash).map(|&(_, id)| id).collect();
            assert_eq!(found, expected, "{hash:?} of {} hashes", hashes.len());
        }
    }

    fn check_all(hashes: &[u64]) {
        check::<sorted_hash::SortedHash>(hashes);
        check::<hashbrown::Map>(hashes);
        check::<open_addressing::Table>(hashes);
        check::<perfect::Perfect>(hashes);
    }

    /// Numbers without a pattern, the same ones in every run.
    fn scattered(count: u64) -> Vec<u64> {
        (1..=count).map(|it| NameHash::of(&it.to_le_bytes()).0).collect()
    }

    /// Check that few hashes are found as many are: sizes at which a table is empty or full.
    #[test]
    fn any_number_of_hashes_is_found() {
        for count in (0..20).chain([255, 256, 257, 1000]) {
            check_all(&scattered(count));
        }
    }

    /// Check that hashes chosen to stand in one bucket, at one end or in one slot are found, in order, and that
    /// building with them ends.
    #[test]
    fn colliding_hashes_are_found_in_order() {
        check_all(&(0..2000).collect::<Vec<_>>());
        check_all(&(0..2000).map(|it| u64::MAX - it).collect::<Vec<_>>());
        check_all(&(0..2000).map(|it| it << 32 | 7).collect::<Vec<_>>());
        check_all(&(0..2000).map(|it| (it << 53) | (it % 3)).collect::<Vec<_>>());
        check_all(&scattered(500).into_iter().flat_map(|it| [it, it ^ 1 << 40, it]).collect::<Vec<_>>());
    }

    /// Check that one name given to every type takes no longer than as many names.
    #[test]
    fn one_hash_for_all_ends() {
        let same = vec![NameHash(42); 100_000];
        let roots: Vec<_> = same.into_iter().zip((1..).map(TypeId)).collect();
        fn count<I: HashIndex>(roots: &[(NameHash, TypeId)]) -> usize {
            let mut found = Vec::new();
            I::build(roots).lookup(NameHash(42), &mut found);
            assert!(found.is_sorted());
            found.len()
        }
        assert_eq!(count::<sorted_hash::SortedHash>(&roots), roots.len());
        assert_eq!(count::<hashbrown::Map>(&roots), roots.len());
        assert_eq!(count::<open_addressing::Table>(&roots), roots.len());
        assert_eq!(count::<perfect::Perfect>(&roots), roots.len());
    }
}
