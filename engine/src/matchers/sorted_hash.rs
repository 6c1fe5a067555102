//! Binary search in a sorted array of hashes.

use super::Contender;
use super::hashed::{self, HashIndex};
use crate::btf::{NameHash, TypeId};

pub(super) const SORTED_HASH: Contender = Contender {
    name: "sorted-hash",
    about: "binary search in a sorted array of hashes",
    build: hashed::build::<SortedHash>,
};

/// Hashes and ids apart: the search touches hashes only.
pub(super) struct SortedHash {
    hashes: Vec<NameHash>,
    ids: Vec<TypeId>,
}

impl HashIndex for SortedHash {
    fn build(roots: &[(NameHash, TypeId)]) -> Self {
        let mut sorted = roots.to_vec();
        sorted.sort_unstable();
        let (hashes, ids) = sorted.into_iter().unzip();
        Self { hashes, ids }
    }

    fn lookup(&self, hash: NameHash, found: &mut Vec<TypeId>) {
        let start = self.hashes.partition_point(|&it| it < hash);
        let same = self.hashes.iter().zip(&self.ids).skip(start).take_while(|(it, _)| **it == hash);
        found.extend(same.map(|(_, &id)| id));
    }

    fn bytes(&self) -> usize {
        size_of_val(self.hashes.as_slice()) + size_of_val(self.ids.as_slice())
    }
}
