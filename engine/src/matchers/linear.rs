//! Every type is asked, as libbpf (`bpf_core_add_cands`) and the kernel do it.

use super::{Contender, Matcher};
use crate::btf::{Btf, TypeId};
use crate::query::Root;

pub(super) const LINEAR: Contender = Contender {
    name: "linear",
    about: "asks every type, as libbpf and the kernel do; nothing to build",
    build: |btf| Box::new(Linear { btf }),
};

struct Linear<'a> {
    btf: &'a Btf<'a>,
}

impl Matcher for Linear<'_> {
    fn candidates(&self, root: &Root<'_>, found: &mut Vec<TypeId>) {
        found.clear();
        let own = self.btf.start_id().0..self.btf.type_count();
        found.extend(own.map(TypeId).filter(|&id| self.btf.is_candidate(id, root.essential, root.kind)));
    }

    fn bytes(&self) -> usize {
        0
    }
}
