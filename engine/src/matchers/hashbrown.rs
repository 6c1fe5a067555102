//! The usual hash table: SIMD probing over control bytes.

use hashbrown::HashMap;

use super::Contender;
use super::hashed::{self, HashIndex};
use crate::btf::{NameHash, TypeId};

pub(super) const HASHBROWN: Contender = Contender {
    name: "hashbrown",
    about: "hash map of the Rust library, its keys the name hashes",
    build: hashed::build::<Map>,
};

/// The map hashes the name's hash once more, with a key of its own: names made to collide do not slow it down.
pub(super) struct Map {
    chains: HashMap<NameHash, Chain>,
    links: Vec<Link>,
}

/// Ids of one hash, as positions in `links`.
struct Chain {
    first: u32,
    last: u32,
}

struct Link {
    id: TypeId,
    /// Position of the next one; [`END`] if there is none.
    next: u32,
}

const END: u32 = u32::MAX;

impl HashIndex for Map {
    fn build(roots: &[(NameHash, TypeId)]) -> Self {
        let mut chains: HashMap<NameHash, Chain> = HashMap::with_capacity(roots.len());
        let mut links: Vec<Link> = Vec::with_capacity(roots.len());
        for (at, &(hash, id)) in (0..END).zip(roots) {
            let mut last = None;
            chains
                .entry(hash)
                .and_modify(|chain| last = Some(std::mem::replace(&mut chain.last, at)))
                .or_insert(Chain { first: at, last: at });
            if let Some(link) = last.and_then(|last| links.get_mut(last as usize)) {
                link.next = at;
            }
            links.push(Link { id, next: END });
        }
        Self { chains, links }
    }

    fn lookup(&self, hash: NameHash, found: &mut Vec<TypeId>) {
        let mut next = self.chains.get(&hash).map_or(END, |chain| chain.first);
        while let Some(link) = self.links.get(next as usize) {
            found.push(link.id);
            next = link.next;
        }
    }

    fn bytes(&self) -> usize {
        self.chains.allocation_size() + size_of_val(self.links.as_slice())
    }
}
