//! Binary search over types sorted by name.
//!
//! Newer tools write BTF with anonymous types first and the others sorted by name, and libbpf looks types up there by
//! binary search (not for candidates, so far). Such a BTF is searched as it stands; of any other a sorted list of ids
//! is built first. Types of an essential name stand in two runs: the name itself, and `name___` with a flavor, with
//! longer names between them (`a`, `a_b`, `a___x`: not always in this order, as `_` sorts between cases).

use std::cmp::Ordering;
use std::sync::OnceLock;

use super::{Contender, Matcher};
use crate::btf::{Btf, RootKinds, TypeId};
use crate::query::Root;

pub(super) const SORTED_NAMES: Contender = Contender {
    name: "sorted-names",
    about: "binary search by name: in the BTF itself if it is sorted, else in a sorted list of ids",
    build: |btf| Box::new(SortedNames::build(btf)),
};

struct SortedNames<'a> {
    btf: &'a Btf<'a>,
    order: Order,
}

enum Order {
    /// The BTF is sorted, from this id on.
    File { first: u32 },
    /// Ids by name, then by id. Those of rare kinds when first asked for.
    Own { common: Vec<TypeId>, rare: OnceLock<Vec<TypeId>> },
}

const SEPARATOR: &[u8] = b"___";

fn name_of<'a>(btf: &Btf<'a>, id: TypeId) -> &'a [u8] {
    btf.ty(id).map_or(&[], |ty| btf.name(ty.name_off))
}

/// First named id of a BTF whose anonymous types come first and whose others are sorted (`btf_check_sorted`, libbpf).
fn sorted_from(btf: &Btf<'_>) -> Option<u32> {
    let own = btf.start_id().0..btf.type_count();
    let mut first = own.end;
    let mut previous: &[u8] = &[];
    for id in own {
        let name = name_of(btf, TypeId(id));
        if name < previous {
            return None;
        }
        if previous.is_empty() && !name.is_empty() {
            first = id;
        }
        previous = name;
    }
    Some(first)
}

fn by_name(btf: &Btf<'_>, kinds: RootKinds) -> Vec<TypeId> {
    let own = btf.own_types().filter(|(_, ty)| RootKinds::of(ty.kind) == kinds);
    let mut named: Vec<_> =
        own.map(|(id, ty)| (btf.name(ty.name_off), id)).filter(|(name, _)| !name.is_empty()).collect();
    named.sort_unstable();
    named.into_iter().map(|(_, id)| id).collect()
}

impl<'a> SortedNames<'a> {
    fn build(btf: &'a Btf<'a>) -> Self {
        let order = match sorted_from(btf) {
            Some(first) => Order::File { first },
            None => Order::Own { common: by_name(btf, RootKinds::Common), rare: OnceLock::new() },
        };
        Self { btf, order }
    }

    /// Searches `count` types sorted by name, of which `id` has the numbers.
    fn search(&self, count: u32, id: impl Fn(u32) -> TypeId, root: &Root<'_>, found: &mut Vec<TypeId>) {
        let name = |at| name_of(self.btf, id(at));
        let plain = first_where(0, count, |at| name(at) >= root.essential);
        let plain = (plain..count).take_while(|&at| name(at) == root.essential);
        found.extend(plain.map(&id));
        let flavored = first_where(0, count, |at| cmp_joined(name(at), root.essential, SEPARATOR).is_ge());
        let is_flavored =
            |name: &[u8]| name.strip_prefix(root.essential).is_some_and(|rest| rest.starts_with(SEPARATOR));
        found.extend((flavored..count).take_while(|&at| is_flavored(name(at))).map(&id));
    }
}

/// Compares `name` with `head` and `tail` in one.
fn cmp_joined(name: &[u8], head: &[u8], tail: &[u8]) -> Ordering {
    match name.split_at_checked(head.len()) {
        Some((start, rest)) => start.cmp(head).then_with(|| rest.cmp(tail)),
        None => name.cmp(head).then(Ordering::Less),
    }
}

/// The first number from `low` up to `high` for which `is` holds, if it holds for all that follow; `high` if for none.
fn first_where(mut low: u32, mut high: u32, is: impl Fn(u32) -> bool) -> u32 {
    while low < high {
        let middle = low + (high - low) / 2;
        if is(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

impl Matcher for SortedNames<'_> {
    fn candidates(&self, root: &Root<'_>, found: &mut Vec<TypeId>) {
        found.clear();
        match &self.order {
            Order::File { first } => {
                let count = self.btf.type_count() - first;
                self.search(count, |at| TypeId(first + at), root, found);
            }
            Order::Own { common, rare } => {
                let ids = match RootKinds::of(root.kind) {
                    RootKinds::Common => common,
                    RootKinds::Rare => rare.get_or_init(|| by_name(self.btf, RootKinds::Rare)),
                };
                let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
                self.search(count, |at| ids.get(at as usize).copied().unwrap_or(TypeId::VOID), root, found);
            }
        }
        found.retain(|&id| self.btf.is_candidate(id, root.essential, root.kind));
        found.sort_unstable();
    }

    fn bytes(&self) -> usize {
        match &self.order {
            Order::File { .. } => 0,
            Order::Own { common, rare } => {
                size_of_val(common.as_slice()) + rare.get().map_or(0, |it| size_of_val(it.as_slice()))
            }
        }
    }
}
