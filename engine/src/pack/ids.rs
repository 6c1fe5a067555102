//! Type ids of a unit's roots: by how far they are from those of another unit, its *ids base*, where that has the root
//! too, and as differences of a few bits where not.
//!
//! Builds of a kernel have most types in the same order, which is not that of the roots' numbers: that is the order of
//! whichever kernel had them first. So a unit has two tables:
//!
//! * shifts, (id in the ids base, distance): types of the ids base from this id on, up to that of the next shift, have
//!   an id that is higher by the distance. It is the same for long runs of types, also where they moved. Distances
//!   count from -2^31;
//! * own ids, (root, id): one entry for each type of a root that the ids base does not have, or not with as many types;
//!   by root, types of one root in the order of their ids. All, if there is no ids base.
//!
//! Following ids bases ends after [`IDS_CHAIN`] steps. Of a table every 256th entry stands in an index as it is; the
//! others follow as nibbles, where key and value are root and id, or id and distance:
//!
//! ```text
//! 0..=12  the next key; the value is 1..=13 higher
//! 13      a later key, number - 2 follows; then the difference of the values
//! 14      the next key; the difference of the values follows
//! 15      the same key; the difference of the values follows
//! ```
//!
//! Numbers are runs of nibbles with three bits each, lowest first, the fourth says that more follow. Differences of
//! values have their sign in the lowest bit.

use super::PackError;
use super::columns::{Row, Rows};
use super::format::{IDS_BLOCK, IDS_INDEX_LEN, to_u32, u32_at, words};

/// Ids bases that a unit's ids depend on, one after the other, at most. Bounds the work of reading an id.
pub(super) const IDS_CHAIN: u32 = 8;

const GAP: u8 = 13;
const JUMP: u8 = 14;
const SAME: u8 = 15;
/// Number of shifts, number of own ids, bytes of the shifts.
const HEADER_LEN: usize = 12;

/// Distance 0.
const NO_DISTANCE: u32 = 1 << 31;

/// Types that are roots of a unit, (root, id), ascending.
pub(super) type Entries = Vec<(u32, u32)>;

/// Appends `rows` as a unit's part of IDS. `base`: those of its ids base.
pub(super) fn encode(base: Option<&Rows>, rows: &Rows, out: &mut Vec<u8>) -> Result<(), PackError> {
    let base_rows = base.map_or(&[][..], Rows::roots);
    let mut own = Entries::new();
    // The id here of each type of the base.
    let mut moved = Vec::with_capacity(base_rows.len());
    let mut bases = base_rows.chunk_by(is_same_root).peekable();
    let first = |group: &[Row]| group.first().map_or(0, |it| it.root);
    for group in rows.roots().chunk_by(is_same_root) {
        while let Some(gone) = bases.next_if(|it| first(it) < first(group)) {
            moved.resize(moved.len() + gone.len(), None);
        }
        let of_base = bases.next_if(|it| first(it) == first(group)).unwrap_or_default();
        if of_base.len() == group.len() {
            moved.extend(group.iter().map(|it| Some(it.id)));
        } else {
            moved.resize(moved.len() + of_base.len(), None);
            own.extend(group.iter().map(|it| (it.root, it.id)));
        }
    }
    let pairs = base.into_iter().flat_map(Rows::places).filter_map(|&place| {
        let id = moved.get(place as usize).copied().flatten()?;
        Some((base_rows.get(place as usize)?.id, id))
    });
    let mut distance = NO_DISTANCE;
    let shifts = pairs.filter_map(|(base, id)| {
        let before = std::mem::replace(&mut distance, id.wrapping_sub(base).wrapping_add(NO_DISTANCE));
        (distance != before).then_some((base, distance))
    });
    let shifts: Vec<(u32, u32)> = shifts.collect();
    let header = out.len();
    words(out, &[to_u32(shifts.len(), "types")?, to_u32(own.len(), "types")?, 0]);
    encode_pairs(&shifts, out);
    let len = to_u32(out.len() - header - HEADER_LEN, "types")?;
    if let Some(slot) = out.get_mut(header + 8..header + HEADER_LEN) {
        slot.copy_from_slice(&len.to_le_bytes());
    }
    encode_pairs(&own, out);
    Ok(())
}

fn is_same_root(a: &Row, b: &Row) -> bool {
    a.root == b.root
}

fn encode_pairs(entries: &[(u32, u32)], out: &mut Vec<u8>) {
    let mut nibbles = Nibbles::default();
    for block in entries.chunks(IDS_BLOCK) {
        let Some(((key, value), rest)) = block.split_first() else { continue };
        words(out, &[*key, *value, u32::try_from(nibbles.count).unwrap_or(u32::MAX)]);
        let (mut last_key, mut last_value) = (*key, *value);
        for &(key, value) in rest {
            let difference = i64::from(value) - i64::from(last_value);
            match (key.wrapping_sub(last_key), difference) {
                (1, 1..=13) => nibbles.push(u8::try_from(difference - 1).unwrap_or(0)),
                (0, _) => nibbles.code(SAME, difference),
                (1, _) => nibbles.code(JUMP, difference),
                (gap, _) => {
                    nibbles.push(GAP);
                    nibbles.number(u64::from(gap.wrapping_sub(2)));
                    nibbles.difference(difference);
                }
            }
            (last_key, last_value) = (key, value);
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

/// A unit's ids, where they stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ids<'data> {
    shifts: Pairs<'data>,
    own: Pairs<'data>,
}

impl<'data> Ids<'data> {
    /// `bytes`: section IDS from the unit's part on.
    pub(super) fn new(bytes: &'data [u8]) -> Result<Self, PackError> {
        let word =
            |at| u32_at(bytes, at).ok_or(PackError::damaged("ids reach past the end of their section"));
        let (shifts, own, len) = (word(0)?, word(4)?, word(8)?);
        let body = bytes.get(HEADER_LEN..).and_then(|body| body.split_at_checked(len as usize));
        let (first, second) = body.ok_or(PackError::damaged("ids reach past the end of their section"))?;
        Ok(Self { shifts: Pairs::new(first, shifts)?, own: Pairs::new(second, own)? })
    }

    /// Own ids of the types of one root, in order.
    pub(super) fn own_of(self, root: u32) -> impl Iterator<Item = Result<u32, PackError>> + 'data {
        self.own
            .walk_from(self.own.block_before(root))
            .skip_while(move |it| it.as_ref().is_ok_and(|&(it, _)| it < root))
            .take_while(move |it| it.as_ref().map_or(true, |&(it, _)| it == root))
            .map(|it| it.map(|(_, id)| id))
    }

    /// The id here of a type that has the id `base` in the ids base.
    pub(super) fn shift(self, base: u32) -> Result<u32, PackError> {
        let mut distance = NO_DISTANCE;
        for shift in self.shifts.walk_from(self.shifts.block_before(base.saturating_add(1))) {
            match shift? {
                (from, value) if from <= base => distance = value,
                _ => break,
            }
        }
        Ok(shifted(base, distance))
    }

    /// All ids here of what the ids base has, `base`, and of what only this unit has. That includes roots which the
    /// unit has no more: its values say which.
    pub(super) fn apply(self, base: &[(u32, u32)]) -> Result<Entries, PackError> {
        let own = self.own.walk_from(0).collect::<Result<Entries, PackError>>()?;
        if base.is_empty() {
            return Ok(own);
        }
        let shifts = Shifts::new(self.shifts)?;
        let mut out = Entries::with_capacity(base.len() + own.len());
        let mut base = base.iter().peekable();
        for &(root, id) in &own {
            while let Some(&(root, id)) = base.next_if(|it| it.0 < root) {
                out.push((root, shifts.shift(id)));
            }
            while base.next_if(|it| it.0 == root).is_some() {}
            out.push((root, id));
        }
        out.extend(base.map(|&(root, id)| (root, shifts.shift(id))));
        Ok(out)
    }
}

fn shifted(base: u32, distance: u32) -> u32 {
    base.wrapping_add(distance).wrapping_sub(NO_DISTANCE)
}

/// Shifts read, with the place of the first for every 2^`bits` ids: many are looked up.
struct Shifts {
    shifts: Vec<(u32, u32)>,
    bits: u32,
    places: Vec<usize>,
}

impl Shifts {
    fn new(shifts: Pairs<'_>) -> Result<Self, PackError> {
        let shifts: Vec<(u32, u32)> = shifts.walk_from(0).collect::<Result<_, PackError>>()?;
        let end = shifts.last().map_or(0, |it| it.0 as usize) + 1;
        // As many places as shifts, however large the ids are.
        let bits = (end / (shifts.len() + 1)).checked_ilog2().unwrap_or(0) + 1;
        let mut places = Vec::with_capacity((end >> bits) + 1);
        for (number, &(from, _)) in shifts.iter().enumerate() {
            while places.len() <= (from >> bits) as usize {
                places.push(number);
            }
        }
        Ok(Self { shifts, bits, places })
    }

    #[inline]
    fn shift(&self, base: u32) -> u32 {
        let bucket = (base >> self.bits) as usize;
        let place = |bucket: usize| self.places.get(bucket).copied().unwrap_or(self.shifts.len());
        let near = self.shifts.get(place(bucket)..place(bucket + 1)).unwrap_or_default();
        let end = place(bucket) + near.partition_point(|it| it.0 <= base);
        shifted(base, end.checked_sub(1).and_then(|it| self.shifts.get(it)).map_or(NO_DISTANCE, |it| it.1))
    }
}

/// A table, where it stands: keys ascending.
#[derive(Clone, Copy, Debug)]
struct Pairs<'data> {
    index: &'data [[u8; IDS_INDEX_LEN]],
    nibbles: &'data [u8],
    count: usize,
}

impl<'data> Pairs<'data> {
    fn new(bytes: &'data [u8], count: u32) -> Result<Self, PackError> {
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

    /// The last block that starts before `key`, or the first.
    fn block_before(self, key: u32) -> usize {
        let first = |entry: &[u8; IDS_INDEX_LEN]| u32_at(entry, 0).unwrap_or(u32::MAX);
        self.index.partition_point(|entry| first(entry) < key).saturating_sub(1)
    }

    fn walk_from(self, block: usize) -> Walk<'data> {
        Walk { pairs: self, at: block * IDS_BLOCK, nibble: 0, last: (0, 0) }
    }
}

/// Walks over a table. Ends with the first error.
#[derive(Clone, Debug)]
struct Walk<'data> {
    pairs: Pairs<'data>,
    at: usize,
    nibble: usize,
    last: (u32, u32),
}

impl Walk<'_> {
    #[inline]
    fn nibble(&mut self) -> Option<u8> {
        let byte = *self.pairs.nibbles.get(self.nibble / 2)?;
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
            let entry = self.pairs.index.get(self.at / IDS_BLOCK)?;
            self.nibble = u32_at(entry, 8)? as usize;
            return Some((u32_at(entry, 0)?, u32_at(entry, 4)?));
        }
        let (key, value) = self.last;
        let code = self.nibble()?;
        let ahead = match code {
            0..=12 => return Some((key.checked_add(1)?, value.checked_add(u32::from(code) + 1)?)),
            GAP => self.number()?.checked_add(2)?,
            JUMP => 1,
            _ => 0,
        };
        let difference = self.number()?;
        let difference = (difference >> 1).cast_signed() ^ -(difference & 1).cast_signed();
        let key = u32::try_from(u64::from(key).checked_add(ahead)?).ok()?;
        Some((key, u32::try_from(i64::from(value).checked_add(difference)?).ok()?))
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<(u32, u32), PackError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.pairs.count {
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
                self.at = self.pairs.count;
                Some(Err(PackError::damaged("a unit's ids break off")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(entries: &[(u32, u32)]) -> Rows {
        Rows::by_root(entries.iter().map(|&(root, id)| Row { id, root, shape: 1 }).collect())
    }

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
        encode(None, &rows(&entries), &mut bytes).unwrap();
        let ids = Ids::new(&bytes).unwrap();
        assert_eq!(ids.apply(&[]).unwrap(), entries);
        for &(root, _) in &entries {
            let want: Vec<u32> = entries.iter().filter(|it| it.0 == root).map(|it| it.1).collect();
            assert_eq!(ids.own_of(root).map(Result::unwrap).collect::<Vec<_>>(), want);
        }
        assert_eq!(ids.own_of(4).count(), 0);
    }

    /// Check that ids survive that are told by another unit's: types that moved, came, went, and changed in number.
    #[test]
    fn entries_survive_by_a_base() {
        let base: Entries = (0..5000).map(|step| (step - step % 9 / 8, 7 * (step * 1277 % 5000))).collect();
        let mut base = base;
        base.sort_unstable();
        let mut entries: Entries = base
            .iter()
            .filter(|it| it.0 % 41 != 0)
            .map(|&(root, id)| (root, if id % 2000 < 300 { id + 50_000 } else { id / 400 * 3 + id }))
            .chain((0..700).map(|step| (step * 11, 90_000 + step)))
            .collect();
        entries.sort_unstable();
        let mut bytes = Vec::new();
        encode(Some(&rows(&base)), &rows(&entries), &mut bytes).unwrap();
        let ids = Ids::new(&bytes).unwrap();
        let mut applied = ids.apply(&base).unwrap();
        applied.retain(|it| entries.iter().any(|entry| entry.0 == it.0));
        assert_eq!(applied, entries);
        for &(root, id) in &entries {
            let mut own = ids.own_of(root).map(Result::unwrap).peekable();
            let found: Vec<u32> = if own.peek().is_some() {
                own.collect()
            } else {
                base.iter().filter(|it| it.0 == root).map(|it| ids.shift(it.1).unwrap()).collect()
            };
            assert!(found.contains(&id));
        }
    }
}
