//! The engine's own index: a directory by the upper bits of the hash, and short runs behind it.

use super::{Contender, Matcher};
use crate::btf::{Btf, RootIndex, TypeId};
use crate::query::Root;

pub(super) const RADIX: Contender = Contender {
    name: "radix",
    about: "directory by the hash's upper bits, then a short run; what btfleet uses",
    build: |btf| Box::new(Radix { btf, index: RootIndex::build(btf) }),
};

struct Radix<'a> {
    btf: &'a Btf<'a>,
    index: RootIndex,
}

impl Matcher for Radix<'_> {
    fn candidates(&self, root: &Root<'_>, found: &mut Vec<TypeId>) {
        found.clear();
        found.extend(self.index.candidates(self.btf, root.essential, root.hash, root.kind));
    }

    fn bytes(&self) -> usize {
        self.index.bytes()
    }
}
