//! Candidate search by several algorithms that give identical lists, so that they can be measured against one another.
//!
//! The search: all types of one BTF that libbpf takes as candidates for a root, which is an essential name and a kind.
//! libbpf and the kernel scan every type; the engine itself uses [`RootIndex`](crate::btf::RootIndex). Nothing else in
//! the engine depends on this module. What decides whether a type *is* a candidate stands in one place,
//! [`Btf::is_candidate`]; a matcher only decides which types are asked.
//!
//! # Adding a matcher
//!
//! 1. Write one file in this folder that ends in a `pub(super) const …: Contender`.
//!    * A structure over hashes of names implements `HashIndex` of `hashed.rs`: build it from pairs of hash and id, and
//!      list the ids of a hash in ascending order. The rest (rare kinds, confirming names) is done there;
//!      `sorted_hash.rs` is the shortest example.
//!    * Anything else implements [`Matcher`]; `linear.rs` is the shortest example.
//! 2. Add it to [`MATCHERS`]. The property tests (`tests/tests/matchers.rs`) and `btfleet bench matchers` take their
//!    list from there.
//!
//! A matcher sees untrusted BTF: names repeat, hashes collide on purpose, and building still has to end in about the
//! time of a sort.

mod hashbrown;
mod hashed;
mod linear;
mod open_addressing;
mod perfect;
mod radix;
mod sorted_hash;
mod sorted_names;

use crate::btf::{Btf, TypeId};
use crate::query::Root;

/// Candidate search in one BTF.
pub trait Matcher {
    /// Replaces what `found` holds by all candidates for `root` among the BTF's own types (not its base's), in the
    /// order of their ids.
    fn candidates(&self, root: &Root<'_>, found: &mut Vec<TypeId>);

    /// Bytes that it keeps on the heap beside the BTF itself, now: what is built when first needed counts from then on.
    fn bytes(&self) -> usize;
}

/// One way to search, as the registry knows it.
#[derive(Clone, Copy, Debug)]
pub struct Contender {
    /// Name in tables: lower case, no blanks.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// Prepares the search in one BTF.
    pub build: for<'a> fn(&'a Btf<'a>) -> Box<dyn Matcher + 'a>,
}

/// All matchers. The first one is the reference that the others have to agree with.
pub const MATCHERS: &[Contender] = &[
    linear::LINEAR,
    sorted_names::SORTED_NAMES,
    sorted_hash::SORTED_HASH,
    radix::RADIX,
    open_addressing::OPEN_ADDRESSING,
    hashbrown::HASHBROWN,
    perfect::PERFECT,
];
