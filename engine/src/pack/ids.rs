//! Type ids of a unit's roots, as differences of a few bits.
//!
//! One entry for each type that is a root, by root number, and types of one root in the order of their ids. Every
//! 256th entry stands in an index as it is; the others follow as nibbles:
//!
//! ```text
//! 0..=12  the next root; the id is 1..=13 higher
//! 13      a later root, number - 2 follows; then the difference of the ids
//! 14      the next root; the difference of the ids follows
//! 15      another type of the same root; the difference of the ids follows
//! ```
//!
//! Numbers are runs of nibbles with three bits each, lowest first, the fourth says that more follow. Differences of
//! ids have their sign in the lowest bit.

use super::PackError;
use super::format::{IDS_BLOCK, IDS_INDEX_LEN, u32_at, words};

const GAP: u8 = 13;
const JUMP: u8 = 14;
const SAME: u8 = 15;

/// Appends the entries (root, id), in order, as a unit's part of IDS.
pub(super) fn encode(entries: &[(u32, u32)], out: &mut Vec<u8>) {
    let mut nibbles = Nibbles::default();
    for block in entries.chunks(IDS_BLOCK) {
        let Some(((root, id), rest)) = block.split_first() else { continue };
        words(out, &[*root, *id, u32::try_from(nibbles.count).unwrap_or(u32::MAX)]);
        let (mut last_root, mut last_id) = (*root, *id);
        for &(root, id) in rest {
            let difference = i64::from(id) - i64::from(last_id);
            match (root.wrapping_sub(last_root), difference) {
                (1, 1..=13) => nibbles.push(u8::try_from(difference - 1).unwrap_or(0)),
                (0, _) => nibbles.code(SAME, difference),
                (1, _) => nibbles.code(JUMP, difference),
                (gap, _) => {
                    nibbles.push(GAP);
                    nibbles.number(u64::from(gap.wrapping_sub(2)));
                    nibbles.difference(difference);
                }
            }
            (last_root, last_id) = (root, id);
        }
    }
    out.append(&mut nibbles.bytes);
}

#[derive(Default)]
struct Nibbles {
    bytes: Vec<u8>,
    count: usize,
}

impl Nibbles {
    fn push(&mut self, nibble: u8) {
        if self.count.is_multiple_of(2) {
            self.bytes.push(nibble);
        } else if let Some(last) = self.bytes.last_mut() {
            *last |= nibble << 4;
        }
        self.count += 1;
    }

    fn number(&mut self, mut value: u64) {
        while value >= 8 {
            self.push((value & 7) as u8 | 8);
            value >>= 3;
        }
        self.push((value & 7) as u8);
    }

    fn difference(&mut self, difference: i64) {
        self.number((difference << 1 ^ difference >> 63).cast_unsigned());
    }

    fn code(&mut self, code: u8, difference: i64) {
        self.push(code);
        self.difference(difference);
    }
}

/// A unit's entries, where they stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ids<'data> {
    index: &'data [[u8; IDS_INDEX_LEN]],
    nibbles: &'data [u8],
    count: usize,
}

impl<'data> Ids<'data> {
    /// `bytes`: section IDS from the unit's part on, which has `count` entries.
    pub(super) fn new(bytes: &'data [u8], count: u32) -> Result<Self, PackError> {
        let count = count as usize;
        let blocks = count.div_ceil(IDS_BLOCK);
        let (index, nibbles) = bytes
            .split_at_checked(blocks.saturating_mul(IDS_INDEX_LEN))
            .ok_or(PackError::damaged("ids reach past the end of their section"))?;
        // Of each block all but the first entry take a nibble at least.
        if (count - blocks).div_ceil(2) > nibbles.len() {
            return Err(PackError::damaged("ids reach past the end of their section"));
        }
        Ok(Self { index: index.as_chunks().0, nibbles, count })
    }

    /// All entries, in order.
    pub(super) fn entries(self) -> Entries<'data> {
        self.entries_from(0)
    }

    /// Ids of the types of one root, in order.
    pub(super) fn of_root(self, root: u32) -> impl Iterator<Item = Result<u32, PackError>> + 'data {
        let first_root = |entry: &[u8; IDS_INDEX_LEN]| u32_at(entry, 0).unwrap_or(u32::MAX);
        let block = self.index.partition_point(|entry| first_root(entry) < root).saturating_sub(1);
        self.entries_from(block)
            .skip_while(move |it| it.as_ref().is_ok_and(|&(it, _)| it < root))
            .take_while(move |it| it.as_ref().map_or(true, |&(it, _)| it == root))
            .map(|it| it.map(|(_, id)| id))
    }

    fn entries_from(self, block: usize) -> Entries<'data> {
        Entries { ids: self, at: block * IDS_BLOCK, nibble: 0, last: (0, 0) }
    }
}

/// Walks over a unit's entries, (root, id). Ends with the first error.
#[derive(Clone, Debug)]
pub(super) struct Entries<'data> {
    ids: Ids<'data>,
    at: usize,
    nibble: usize,
    last: (u32, u32),
}

impl Entries<'_> {
    #[inline]
    fn nibble(&mut self) -> Option<u8> {
        let byte = *self.ids.nibbles.get(self.nibble / 2)?;
        let nibble = if self.nibble.is_multiple_of(2) { byte & 15 } else { byte >> 4 };
        self.nibble += 1;
        Some(nibble)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..36).step_by(3) {
            let nibble = self.nibble()?;
            value |= u64::from(nibble & 7) << shift;
            if nibble & 8 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn step(&mut self) -> Option<(u32, u32)> {
        if self.at.is_multiple_of(IDS_BLOCK) {
            let entry = self.ids.index.get(self.at / IDS_BLOCK)?;
            self.nibble = u32_at(entry, 8)? as usize;
            return Some((u32_at(entry, 0)?, u32_at(entry, 4)?));
        }
        let (root, id) = self.last;
        let code = self.nibble()?;
        let ahead = match code {
            0..=12 => return Some((root.checked_add(1)?, id.checked_add(u32::from(code) + 1)?)),
            GAP => self.number()?.checked_add(2)?,
            JUMP => 1,
            _ => 0,
        };
        let difference = self.number()?;
        let difference = (difference >> 1).cast_signed() ^ -(difference & 1).cast_signed();
        let root = u32::try_from(u64::from(root).checked_add(ahead)?).ok()?;
        Some((root, u32::try_from(i64::from(id).checked_add(difference)?).ok()?))
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<(u32, u32), PackError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.ids.count {
            return None;
        }
        let step = self.step();
        match step {
            Some(entry) => {
                self.at += 1;
                self.last = entry;
                Some(Ok(entry))
            }
            None => {
                self.at = self.ids.count;
                Some(Err(PackError::damaged("a unit's ids break off")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that what goes in comes out, whole and one root at a time, over several blocks.
    #[test]
    fn entries_survive() {
        let mut entries = Vec::new();
        let (mut root, mut id) = (3_u32, 70_u32);
        for step in 0..3000_u32 {
            entries.push((root, id));
            root += match step % 7 {
                0 => 0,
                1 => 2 + step,
                _ => 1,
            };
            id = match step % 11 {
                0 => id.wrapping_sub(60),
                1 => id + 100_000,
                _ => id + 1 + step % 13,
            };
        }
        let mut bytes = Vec::new();
        encode(&entries, &mut bytes);
        let ids = Ids::new(&bytes, 3000).unwrap();
        assert_eq!(ids.entries().map(Result::unwrap).collect::<Vec<_>>(), entries);
        for &(root, _) in &entries {
            let want: Vec<u32> = entries.iter().filter(|it| it.0 == root).map(|it| it.1).collect();
            assert_eq!(ids.of_root(root).map(Result::unwrap).collect::<Vec<_>>(), want);
        }
        assert_eq!(ids.of_root(4).count(), 0);
    }
}
