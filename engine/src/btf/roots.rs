//! Candidate lookup: types of one BTF by essential name and kind, built in one pass.
//!
//! A sorted-bucket index: the upper bits of the name's hash select a bucket, the entries of a bucket
//! stand together in the order of their ids. A hit is confirmed by comparing the name, as hashes of
//! hostile names can be made to collide. libbpf scans all types for each root instead; the lists are
//! identical, in identical order (`bpf_core_add_cands`).

use std::sync::OnceLock;

use super::types::Records;
use super::{Btf, NameHash, TypeId, essential_len};
use crate::format::Endian;
use crate::format::btf::Kind;

/// Types by essential name, for the kinds that programs really use as roots; the other kinds (named
/// pointers, VARs, FUNCs: legal in BTF, not in C) get a second index when one is first asked for.
#[derive(Debug)]
pub struct RootIndex {
    common: Buckets,
    rare: OnceLock<Buckets>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Lower half of the name hash; the bucket stands for the upper bits.
    hash_low: u32,
    id: TypeId,
}

#[derive(Debug)]
struct Buckets {
    /// `64 - log2(number of buckets)`.
    shift: u32,
    /// Where each bucket starts in `entries`, and the end of the last.
    starts: Vec<u32>,
    entries: Vec<Entry>,
}

fn is_common_root(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Int
            | Kind::Struct
            | Kind::Union
            | Kind::Enum
            | Kind::Enum64
            | Kind::Fwd
            | Kind::Typedef
            | Kind::Float
    )
}

impl RootIndex {
    /// Indexes `btf`'s own types (not its base's). A pack's types have no such index: its roots are the pack's.
    pub fn build(btf: &Btf<'_>) -> Self {
        Self { common: Buckets::build(btf, is_common_root), rare: OnceLock::new() }
    }

    /// The own types of `btf`, which must be the one this index was built of, that libbpf takes as candidates for a
    /// local root: same essential name, kind equal or both enums. In the order of their ids.
    pub fn candidates<'a>(
        &'a self,
        btf: &'a Btf<'_>,
        essential: &'a [u8],
        hash: NameHash,
        kind: Kind,
    ) -> impl Iterator<Item = TypeId> + 'a {
        let buckets = if is_common_root(kind) {
            &self.common
        } else {
            self.rare.get_or_init(|| Buckets::build(btf, |kind| !is_common_root(kind)))
        };
        buckets.named(hash).filter(move |&id| {
            btf.ty(id).is_some_and(|ty| {
                let name = btf.name(ty.name_off);
                ty.kind.core_compat(kind)
                    && name.starts_with(essential)
                    && essential_len(name) == essential.len()
            })
        })
    }
}

impl Buckets {
    fn build(btf: &Btf<'_>, wanted: impl Fn(Kind) -> bool) -> Self {
        // The byte order is a constant inside the loop.
        let hashed = match btf.endian {
            Endian::Little => Self::hash_names(btf, wanted, Endian::Little),
            Endian::Big => Self::hash_names(btf, wanted, Endian::Big),
        };
        let bits = hashed.len().next_power_of_two().trailing_zeros().max(1);
        let shift = 64 - bits;
        let bucket = |hash: u64| usize::try_from(hash >> shift).unwrap_or(usize::MAX - 1);
        // Counting sort: stable, so a bucket keeps the order of the ids.
        let mut starts = vec![0_u32; (1 << bits) + 1];
        for &(hash, _) in &hashed {
            if let Some(count) = starts.get_mut(bucket(hash) + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut next = starts.clone();
        let mut entries = vec![Entry { hash_low: 0, id: TypeId::VOID }; hashed.len()];
        for &(hash, id) in &hashed {
            let Some(slot) = next.get_mut(bucket(hash)) else { continue };
            if let Some(entry) = entries.get_mut(*slot as usize) {
                *entry = Entry { hash_low: low_half(hash), id };
            }
            *slot += 1;
        }
        Self { shift, starts, entries }
    }

    /// Hashes of the essential names of own types, in the order of their ids.
    #[inline(always)]
    fn hash_names(btf: &Btf<'_>, wanted: impl Fn(Kind) -> bool, endian: Endian) -> Vec<(u64, TypeId)> {
        let mut hashed = Vec::with_capacity(if btf.base.is_none() { 16 << 10 } else { 256 });
        let Records::Table(offsets) = &btf.records else { return hashed };
        // The last entry of the table is the end of the section: nothing is read there.
        for (id, &at) in (btf.start_id..).zip(offsets) {
            let Some(&[a, b, c, d, e, f, g, h]) =
                btf.types.get(at as usize..).and_then(|record| record.first_chunk())
            else {
                continue;
            };
            let name_off = endian.u32([a, b, c, d]);
            if name_off == 0 || !wanted(Kind::from_info(endian.u32([e, f, g, h]))) {
                continue;
            }
            let name = btf.name(name_off);
            if !name.is_empty() {
                let essential = name.get(..essential_len(name)).unwrap_or(name);
                hashed.push((NameHash::of(essential).0, TypeId(id)));
            }
        }
        hashed
    }

    /// Ids whose name hash is `hash`, in ascending order. Names are not compared.
    fn named(&self, NameHash(hash): NameHash) -> impl Iterator<Item = TypeId> + '_ {
        let bucket = usize::try_from(hash >> self.shift).unwrap_or(usize::MAX);
        let range = match self.starts.get(bucket..) {
            Some([start, end, ..]) => *start as usize..*end as usize,
            _ => 0..0,
        };
        let entries = self.entries.get(range).unwrap_or_default();
        entries.iter().filter(move |entry| entry.hash_low == low_half(hash)).map(|entry| entry.id)
    }
}

fn low_half(hash: u64) -> u32 {
    (hash & 0xffff_ffff) as u32
}
