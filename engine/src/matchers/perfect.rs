//! A minimal perfect hash: every hash of a name has a slot of its own, and no slot stays empty.
//!
//! Hash and displace (CHD): hashes are put into buckets of two on average; from the largest bucket to the smallest, a
//! pilot is searched that sends all hashes of the bucket to free slots. A bucket of one gets a free slot outright.
//! A lookup is the bucket's pilot, the slot, the ids. Names that are not there find a slot too, and are told apart by
//! 32 bits of the hash, as hits are confirmed anyway.
//!
//! Hashes of hostile names can be chosen so that no pilot fits. The search for pilots has a budget; what has no slot
//! when that is used up is kept in a sorted list beside it.
//!
//! Source: Belazzougui, Botelho, Dietzfelbinger: Hash, Displace, and Compress (2009).

use super::Contender;
use super::hashed::{self, HashIndex};
use crate::btf::{NameHash, TypeId};

pub(super) const PERFECT: Contender = Contender {
    name: "perfect",
    about: "minimal perfect hash (hash and displace), no empty slots",
    build: hashed::build::<Perfect>,
};

/// A pilot with this bit is the slot itself.
const DIRECT: u32 = 1 << 31;
/// Pilots tried for each hash, on average over all. Ordinary names need about 8.
const BUDGET_PER_HASH: usize = 64;
/// Added to the budget, for few hashes.
const BUDGET_MIN: usize = 4096;

pub(super) struct Perfect {
    /// One for each bucket.
    pilots: Vec<u32>,
    /// One for each distinct hash, and one for the end of the last.
    slots: Vec<Slot>,
    /// Ids of a slot stand together, in ascending order.
    ids: Vec<TypeId>,
    /// Sorted; empty but for hostile names.
    rest: Vec<(NameHash, TypeId)>,
}

#[derive(Clone, Copy)]
struct Slot {
    /// Lower half of the hash.
    tag: u32,
    /// Where its ids start.
    start: u32,
}

/// All entries of one hash.
type Run<'r> = &'r [(NameHash, TypeId)];

/// Scales `hash` to a number below `n`; larger hashes never get a smaller one.
fn scale(hash: u64, n: usize) -> usize {
    usize::try_from((u128::from(hash) * n as u128) >> 64).unwrap_or(0)
}

fn displaced(NameHash(hash): NameHash, pilot: u32, n: usize) -> usize {
    let salted = hash ^ u64::from(pilot).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // The upper bits chose the bucket, so all of its hashes share them: the lower ones have to move up.
    scale((salted ^ salted >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93), n)
}

fn tag_of(NameHash(hash): NameHash) -> u32 {
    (hash & 0xffff_ffff) as u32
}

impl HashIndex for Perfect {
    fn build(roots: &[(NameHash, TypeId)]) -> Self {
        let mut sorted = roots.to_vec();
        sorted.sort_unstable();
        let runs: Vec<Run<'_>> = sorted.chunk_by(|one, two| one.0 == two.0).collect();
        let bucket_count = runs.len() / 2 + 1;
        // Sorted hashes are sorted by bucket as well.
        let mut buckets: Vec<&[Run<'_>]> =
            runs.chunk_by(|one, two| bucket_of(one, bucket_count) == bucket_of(two, bucket_count)).collect();
        buckets.sort_by_key(|bucket| std::cmp::Reverse(bucket.len()));
        let mut placing = Placing {
            pilots: vec![0; bucket_count],
            placed: vec![None; runs.len()],
            free: 0,
            budget: BUDGET_MIN + BUDGET_PER_HASH * runs.len(),
        };
        let mut rest = Vec::new();
        for bucket in buckets {
            if !placing.place(bucket) {
                rest.extend(bucket.iter().copied().flatten());
            }
        }
        rest.sort_unstable();
        let mut slots = Vec::with_capacity(runs.len() + 1);
        let mut ids = Vec::with_capacity(sorted.len());
        let mut start = 0;
        for run in &placing.placed {
            let run = run.unwrap_or_default();
            slots.push(Slot { tag: run.first().map_or(0, |&(hash, _)| tag_of(hash)), start });
            ids.extend(run.iter().map(|&(_, id)| id));
            start = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        }
        slots.push(Slot { tag: 0, start });
        Self { pilots: placing.pilots, slots, ids, rest }
    }

    fn lookup(&self, hash: NameHash, found: &mut Vec<TypeId>) {
        let bucket = scale(hash.0, self.pilots.len());
        let pilot = self.pilots.get(bucket).copied().unwrap_or(0);
        let slot = match pilot & DIRECT {
            0 => displaced(hash, pilot, self.slots.len() - 1),
            _ => (pilot & !DIRECT) as usize,
        };
        if let Some(&[Slot { tag, start }, Slot { start: end, .. }, ..]) = self.slots.get(slot..)
            && tag == tag_of(hash)
        {
            found.extend_from_slice(self.ids.get(start as usize..end as usize).unwrap_or_default());
        }
        if !self.rest.is_empty() {
            let start = self.rest.partition_point(|&(it, _)| it < hash);
            let same = self.rest.iter().skip(start).take_while(|&&(it, _)| it == hash);
            found.extend(same.map(|&(_, id)| id));
        }
    }

    fn bytes(&self) -> usize {
        size_of_val(self.pilots.as_slice())
            + size_of_val(self.slots.as_slice())
            + size_of_val(self.ids.as_slice())
            + size_of_val(self.rest.as_slice())
    }
}

fn bucket_of(run: Run<'_>, bucket_count: usize) -> usize {
    run.first().map_or(0, |&(NameHash(hash), _)| scale(hash, bucket_count))
}

/// Slots and pilots while they are given out.
struct Placing<'r> {
    pilots: Vec<u32>,
    placed: Vec<Option<Run<'r>>>,
    /// No slot before this one is free.
    free: usize,
    /// Pilots that may still be tried, counted by hash.
    budget: usize,
}

impl<'r> Placing<'r> {
    /// Finds slots for all hashes of a bucket; `false` if there are none within the budget.
    fn place(&mut self, bucket: &[Run<'r>]) -> bool {
        let Some(&first) = bucket.first() else { return true };
        let number = bucket_of(first, self.pilots.len());
        let pilot = match bucket {
            [run] => self.take_free(run),
            _ => self.search(bucket),
        };
        match (pilot, self.pilots.get_mut(number)) {
            (Some(pilot), Some(entry)) => {
                *entry = pilot;
                true
            }
            _ => false,
        }
    }

    fn take_free(&mut self, run: Run<'r>) -> Option<u32> {
        while let Some(slot) = self.placed.get_mut(self.free) {
            if slot.is_none() {
                *slot = Some(run);
                return Some(DIRECT | u32::try_from(self.free).ok()?);
            }
            self.free += 1;
        }
        None
    }

    fn search(&mut self, bucket: &[Run<'r>]) -> Option<u32> {
        let n = self.placed.len();
        for pilot in 0..DIRECT {
            self.budget = self.budget.checked_sub(bucket.len())?;
            let mut done = 0;
            for run in bucket {
                let &(hash, _) = run.first()?;
                match self.placed.get_mut(displaced(hash, pilot, n)) {
                    Some(slot @ None) => *slot = Some(run),
                    _ => break,
                }
                done += 1;
            }
            if done == bucket.len() {
                return Some(pilot);
            }
            // Give back what this pilot had taken.
            for run in bucket.iter().take(done) {
                let &(hash, _) = run.first()?;
                if let Some(slot) = self.placed.get_mut(displaced(hash, pilot, n)) {
                    *slot = None;
                }
            }
        }
        None
    }
}
