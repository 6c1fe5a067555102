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
/// Beside it, `matchers` has other structures for the same search.
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

/// Which kinds of types an index is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootKinds {
    /// Those that programs really use as roots.
    Common,
    /// All others: named pointers, VARs, FUNCs and the like.
    Rare,
}

impl RootKinds {
    /// The half that `kind` belongs to. Kinds that are compatible with one another are in the same half.
    #[inline]
    pub fn of(kind: Kind) -> Self {
        if is_common_root(kind) { Self::Common } else { Self::Rare }
    }
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
        Self { common: Buckets::build(&hashed_roots(btf, RootKinds::Common)), rare: OnceLock::new() }
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
        let buckets = match RootKinds::of(kind) {
            RootKinds::Common => &self.common,
            RootKinds::Rare => self.rare.get_or_init(|| Buckets::build(&hashed_roots(btf, RootKinds::Rare))),
        };
        buckets.named(hash).filter(move |&id| btf.is_candidate(id, essential, kind))
    }

    /// Bytes that it keeps on the heap.
    pub fn bytes(&self) -> usize {
        self.common.bytes() + self.rare.get().map_or(0, Buckets::bytes)
    }
}

impl Btf<'_> {
    /// Whether libbpf takes type `id` as a candidate for a local root: same essential name, kind equal or both enums.
    /// An anonymous type is none.
    #[inline]
    pub fn is_candidate(&self, id: TypeId, essential: &[u8], kind: Kind) -> bool {
        self.ty(id).is_some_and(|ty| {
            ty.kind.core_compat(kind) && {
                let name = self.name(ty.name_off);
                !name.is_empty() && name.starts_with(essential) && essential_len(name) == essential.len()
            }
        })
    }
}

/// Own types of `btf` that have a name and one of these kinds, each with the hash of its essential name, in the order
/// of their ids: what every index over root names is made of.
pub fn hashed_roots(btf: &Btf<'_>, kinds: RootKinds) -> Vec<(NameHash, TypeId)> {
    // Byte order and choice of kinds are constants inside the loop.
    match (btf.encoding, kinds) {
        (Endian::Little, RootKinds::Common) => hash_names(btf, is_common_root, Endian::Little),
        (Endian::Big, RootKinds::Common) => hash_names(btf, is_common_root, Endian::Big),
        (endian, RootKinds::Rare) => hash_names(btf, |kind| !is_common_root(kind), endian),
    }
}

#[inline(always)]
fn hash_names(btf: &Btf<'_>, wanted: impl Fn(Kind) -> bool, endian: Endian) -> Vec<(NameHash, TypeId)> {
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
            hashed.push((NameHash::of(essential), TypeId(id)));
        }
    }
    hashed
}

impl Buckets {
    fn build(hashed: &[(NameHash, TypeId)]) -> Self {
        let bits = hashed.len().next_power_of_two().trailing_zeros().max(1);
        let shift = 64 - bits;
        let bucket = |hash: u64| usize::try_from(hash >> shift).unwrap_or(usize::MAX - 1);
        // Counting sort: stable, so a bucket keeps the order of the ids.
        let mut starts = vec![0_u32; (1 << bits) + 1];
        for &(NameHash(hash), _) in hashed {
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
        for &(NameHash(hash), id) in hashed {
            let Some(slot) = next.get_mut(bucket(hash)) else { continue };
            if let Some(entry) = entries.get_mut(*slot as usize) {
                *entry = Entry { hash_low: low_half(hash), id };
            }
            *slot += 1;
        }
        Self { shift, starts, entries }
    }

    fn bytes(&self) -> usize {
        size_of_val(self.starts.as_slice()) + size_of_val(self.entries.as_slice())
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
