//! Open addressing in one flat run of bytes, as a file that is mapped into memory would hold it.
//!
//! TABLE := slot_count: u32, 0: u32, SLOT...
//! SLOT  := tag: u32, id: u32              little-endian; id 0 is an empty slot
//!
//! The tag is the upper half of the name's hash and says where the entry would like to stand. Entries are sorted by
//! tag and id, and each stands in the first free slot from its home on, so that a probe ends at an empty slot or at a
//! larger tag. That takes the time of a sort however tags collide, where inserting one by one could be made quadratic.

use super::Contender;
use super::hashed::{self, HashIndex};
use crate::btf::{NameHash, TypeId};

pub(super) const OPEN_ADDRESSING: Contender = Contender {
    name: "open-addressing",
    about: "linear probing in one flat byte array, as a mapped file would hold it",
    build: hashed::build::<Table>,
};

const WORD: usize = 4;
const SLOT: usize = 2 * WORD;

pub(super) struct Table(Vec<u8>);

/// Slot where an entry with this tag would like to stand; larger tags never want an earlier one.
fn home(tag: u32, slot_count: u32) -> usize {
    ((u64::from(tag) * u64::from(slot_count)) >> 32) as usize
}

fn tag_of(NameHash(hash): NameHash) -> u32 {
    (hash >> 32) as u32
}

fn words([a, b, c, d, e, f, g, h]: [u8; SLOT]) -> (u32, u32) {
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}

impl HashIndex for Table {
    fn build(roots: &[(NameHash, TypeId)]) -> Self {
        let mut sorted: Vec<(u32, TypeId)> = roots.iter().map(|&(hash, id)| (tag_of(hash), id)).collect();
        sorted.sort_unstable();
        // Three slots in four are taken.
        let slot_count = u32::try_from(sorted.len() + sorted.len() / 3 + 1).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(SLOT * (slot_count as usize + 2));
        bytes.extend(slot_count.to_le_bytes());
        bytes.resize(SLOT, 0);
        for (tag, id) in sorted {
            // What has no room before the end stands behind it.
            let at = SLOT * (1 + home(tag, slot_count));
            if bytes.len() < at {
                bytes.resize(at, 0);
            }
            bytes.extend(tag.to_le_bytes());
            bytes.extend(id.0.to_le_bytes());
        }
        Self(bytes)
    }

    fn lookup(&self, hash: NameHash, found: &mut Vec<TypeId>) {
        let Some((head, slots)) = self.0.split_first_chunk() else { return };
        let (slot_count, _) = words(*head);
        let tag = tag_of(hash);
        let slots = slots.as_chunks::<SLOT>().0;
        for &slot in slots.get(home(tag, slot_count)..).unwrap_or_default() {
            let (other, id) = words(slot);
            if id == 0 || other > tag {
                break;
            }
            if other == tag {
                found.push(TypeId(id));
            }
        }
    }

    fn bytes(&self) -> usize {
        self.0.len()
    }
}
