//! Section ROOTS: what the units of a segment have changed, root by root.

use super::PackError;
use super::format::{ROOTS_HEADER_LEN, push_varint, take_varint, to_u32, u32_at, words};

/// Postings of a bucket, on average.
const PER_BUCKET: usize = 4;

/// The roots of one segment, where they stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Roots<'data> {
    bits: u32,
    count: u32,
    /// First root that this segment brought.
    pub(super) first_root: u32,
    /// First root that it does not know.
    pub(super) end_root: u32,
    ends: &'data [[u8; 4]],
    postings: &'data [u8],
}

/// What one segment says of one root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Posting<'data> {
    pub(super) root: u32,
    pub(super) hash_low: u32,
    changes: u32,
    rest: &'data [u8],
}

/// Changes of values of a root, (unit, list), units ascending. Units count from the segment's first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Changes<'data> {
    left: u32,
    unit: u32,
    rest: &'data [u8],
}

impl<'data> Changes<'data> {
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(u32, u32)>, PackError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let step = take_varint(&mut self.rest)?;
        self.unit = self.unit.checked_add(step).ok_or(PackError::damaged("unit number too large"))?;
        Ok(Some((self.unit, take_varint(&mut self.rest)?)))
    }
}

impl<'data> Posting<'data> {
    fn take(bytes: &mut &'data [u8]) -> Result<Self, PackError> {
        let damaged = PackError::damaged("a root's changes break off");
        let Some((hash_low, rest)) = bytes.split_first_chunk::<4>() else { return Err(damaged) };
        *bytes = rest;
        let len = take_varint(bytes)?;
        let Some((mut body, rest)) = bytes.split_at_checked(len as usize) else { return Err(damaged) };
        *bytes = rest;
        let (root, changes) = (take_varint(&mut body)?, take_varint(&mut body)?);
        Ok(Self { root, hash_low: u32::from_le_bytes(*hash_low), changes, rest: body })
    }

    /// Of kernels.
    #[inline]
    pub(super) fn vmlinux(&self) -> Changes<'data> {
        Changes { left: self.changes >> 1, unit: 0, rest: self.rest }
    }

    /// Of modules.
    pub(super) fn modules(&self) -> Result<Changes<'data>, PackError> {
        if self.changes & 1 == 0 {
            return Ok(Changes { left: 0, unit: 0, rest: &[] });
        }
        let mut before = self.vmlinux();
        while before.next()?.is_some() {}
        let mut rest = before.rest;
        let left = take_varint(&mut rest)?;
        Ok(Changes { left, unit: 0, rest })
    }
}

impl<'data> Roots<'data> {
    pub(super) fn new(bytes: &'data [u8]) -> Result<Self, PackError> {
        let damaged = PackError::damaged("the roots are broken");
        let word = |at| u32_at(bytes, at).ok_or(PackError::damaged("the roots are broken"));
        let (bits, count, first_root, end_root) = (word(0)?, word(4)?, word(8)?, word(12)?);
        if !(1..=31).contains(&bits) || first_root > end_root {
            return Err(damaged);
        }
        let body = bytes.get(ROOTS_HEADER_LEN..).and_then(|rest| rest.split_at_checked(4 << bits));
        let Some((ends, postings)) = body else { return Err(damaged) };
        Ok(Self { bits, count, first_root, end_root, ends: ends.as_chunks().0, postings })
    }

    /// Postings, of which none is shorter than 7 bytes.
    pub(super) fn count(&self) -> usize {
        (self.count as usize).min(self.postings.len() / 7)
    }

    fn bucket_bytes(&self, bucket: usize) -> Result<&'data [u8], PackError> {
        let end = |bucket: usize| self.ends.get(bucket).map_or(0, |end| u32::from_le_bytes(*end) as usize);
        let from = if bucket == 0 { 0 } else { end(bucket - 1) };
        self.postings.get(from..end(bucket)).ok_or(PackError::damaged("a bucket of roots is out of bounds"))
    }

    /// Postings whose key may be `key`.
    #[inline]
    pub(super) fn find(
        &self,
        key: u64,
        mut wanted: impl FnMut(Posting<'data>) -> Result<bool, PackError>,
    ) -> Result<Option<Posting<'data>>, PackError> {
        let mut rest = self.bucket_bytes(usize::try_from(key >> (64 - self.bits)).unwrap_or(usize::MAX))?;
        while !rest.is_empty() {
            let posting = Posting::take(&mut rest)?;
            if u64::from(posting.hash_low) == key & 0xffff_ffff && wanted(posting)? {
                return Ok(Some(posting));
            }
        }
        Ok(None)
    }

    /// Calls `visit` with the bucket of each posting and the posting, in their order.
    pub(super) fn each(
        &self,
        mut visit: impl FnMut(usize, Posting<'data>) -> Result<(), PackError>,
    ) -> Result<(), PackError> {
        for bucket in 0..self.ends.len() {
            let mut rest = self.bucket_bytes(bucket)?;
            while !rest.is_empty() {
                visit(bucket, Posting::take(&mut rest)?)?;
            }
        }
        Ok(())
    }

    /// Whether a key belongs into a bucket.
    pub(super) fn is_bucket_of(&self, bucket: usize, key: u64) -> bool {
        usize::try_from(key >> (64 - self.bits)).is_ok_and(|it| it == bucket)
    }

    /// Bytes behind the last bucket.
    pub(super) fn spare(&self) -> usize {
        let end = self.ends.last().map_or(0, |end| u32::from_le_bytes(*end) as usize);
        self.postings.len().saturating_sub(end)
    }
}

/// One change that is to be written. Units count from the segment's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Change {
    pub(super) root: u32,
    pub(super) is_module: bool,
    pub(super) unit: u32,
    pub(super) list: u32,
}

/// Serialises `changes`. `key`: that of a root. `roots`: first and end of those that the segment brings.
pub(super) fn write(
    mut changes: Vec<Change>,
    key: impl Fn(u32) -> u64,
    roots: (u32, u32),
) -> Result<Vec<u8>, PackError> {
    changes.sort_unstable();
    let mut groups: Vec<(u64, &[Change])> = changes
        .chunk_by(|a, b| a.root == b.root)
        .map(|it| (it.first().map_or(0, |it| key(it.root)), it))
        .collect();
    let bits = (groups.len() / PER_BUCKET).next_power_of_two().trailing_zeros().max(1);
    let shift = 64 - bits;
    // Within a group all roots are equal, and groups differ in it.
    groups.sort_unstable_by_key(|(key, group)| {
        (key >> shift, key & 0xffff_ffff, group.first().map(|it| it.root))
    });
    let mut postings = Vec::new();
    let mut ends = Vec::with_capacity(1 << bits);
    let mut next = groups.iter().peekable();
    let mut body = Vec::new();
    for bucket in 0..1_u64 << bits {
        while let Some((key, group)) = next.next_if(|it| it.0 >> shift == bucket) {
            let (vmlinux, modules) = group.split_at(group.partition_point(|it| !it.is_module));
            body.clear();
            push_varint(&mut body, group.first().map_or(0, |it| it.root));
            let count = to_u32(vmlinux.len(), "kernels")?
                .checked_mul(2)
                .ok_or(PackError::Full { what: "kernels" })?;
            push_varint(&mut body, count | u32::from(!modules.is_empty()));
            push_changes(&mut body, vmlinux);
            if !modules.is_empty() {
                push_varint(&mut body, to_u32(modules.len(), "modules")?);
                push_changes(&mut body, modules);
            }
            postings.extend(((key & 0xffff_ffff) as u32).to_le_bytes());
            push_varint(&mut postings, to_u32(body.len(), "changes")?);
            postings.append(&mut body);
        }
        ends.push(to_u32(postings.len(), "roots")?);
    }
    let mut out = Vec::with_capacity(ROOTS_HEADER_LEN + ends.len() * 4 + postings.len());
    words(&mut out, &[bits, to_u32(groups.len(), "roots")?, roots.0, roots.1]);
    words(&mut out, &ends);
    out.append(&mut postings);
    Ok(out)
}

fn push_changes(out: &mut Vec<u8>, changes: &[Change]) {
    let mut last = 0;
    for change in changes {
        push_varint(out, change.unit - last);
        push_varint(out, change.list);
        last = change.unit;
    }
}
