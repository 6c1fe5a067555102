//! What is in a segment, by hash: for looking up what a new kernel may share. Only `add` reads it.

use super::PackError;
use super::format::{to_u32, u32_at, words};

/// Entries of a bucket, on average. Fewer cost bytes, more cost comparisons.
const PER_BUCKET: usize = 4;

/// Serialises `entries`, (hash, number).
pub(super) fn write(mut entries: Vec<(u64, u32)>) -> Result<Vec<u8>, PackError> {
    let bits = (entries.len() / PER_BUCKET).next_power_of_two().trailing_zeros().max(1);
    let shift = 64 - bits;
    // By number within a bucket, so that the bytes depend on nothing but the content.
    entries.sort_unstable_by_key(|&(hash, number)| (hash >> shift, number));
    let highest = entries.iter().map(|it| it.1).max().unwrap_or(0);
    let width = if highest < 1 << 24 { 3 } else { 4 };
    let mut out = Vec::with_capacity(8 + (4 << bits) + entries.len() * 4);
    words(&mut out, &[bits, width]);
    let mut at = 0;
    for bucket in 0..1_u64 << bits {
        at += entries.get(at..).unwrap_or_default().partition_point(|it| it.0 >> shift <= bucket);
        words(&mut out, &[to_u32(at, "types")?]);
    }
    for (_, number) in entries {
        out.extend(number.to_le_bytes().iter().take(width as usize));
    }
    Ok(out)
}

/// An index where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Index<'data> {
    bits: u32,
    width: usize,
    ends: &'data [[u8; 4]],
    numbers: &'data [u8],
}

impl<'data> Index<'data> {
    pub(super) fn new(bytes: &'data [u8]) -> Result<Self, PackError> {
        let damaged = PackError::damaged("an index of types or strings is broken");
        let (Some(bits @ 1..=31), Some(width @ 3..=4)) = (u32_at(bytes, 0), u32_at(bytes, 4)) else {
            return Err(damaged);
        };
        let body = bytes.get(8..).and_then(|rest| rest.split_at_checked(4 << bits));
        let Some((ends, numbers)) = body else { return Err(damaged) };
        Ok(Self { bits, width: width as usize, ends: ends.as_chunks().0, numbers })
    }

    /// Numbers whose hash may be `hash`.
    pub(super) fn bucket(self, hash: u64) -> impl Iterator<Item = u32> + 'data {
        self.numbered(usize::try_from(hash >> (64 - self.bits)).unwrap_or(usize::MAX))
    }

    fn numbered(self, bucket: usize) -> impl Iterator<Item = u32> + 'data {
        let end = |bucket: usize| self.ends.get(bucket).map_or(0, |end| u32::from_le_bytes(*end) as usize);
        let from = if bucket == 0 { 0 } else { end(bucket - 1) };
        let run = self.numbers.get(from.saturating_mul(self.width)..end(bucket).saturating_mul(self.width));
        run.unwrap_or_default()
            .chunks_exact(self.width)
            .map(|number| number.iter().rev().fold(0, |sum, &byte| sum << 8 | u32::from(byte)))
    }

    /// Whether every entry stands in the bucket that `hash` of its number says, and there are `count`.
    pub(super) fn verify(self, count: usize, hash: impl Fn(u32) -> Option<u64>) -> Result<(), PackError> {
        let damaged = PackError::damaged("an index of types or strings does not fit what it is of");
        let mut seen = 0;
        for bucket in 0..self.ends.len() {
            for number in self.numbered(bucket) {
                seen += 1;
                let place = hash(number).and_then(|hash| usize::try_from(hash >> (64 - self.bits)).ok());
                if place != Some(bucket) {
                    return Err(damaged);
                }
            }
        }
        if seen != count || self.numbers.len() != count * self.width { Err(damaged) } else { Ok(()) }
    }
}
