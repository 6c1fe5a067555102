//! One kernel: its BTF, its modules' BTFs, and candidate lookup over both.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::btf::{Btf, BtfError, RootIndex, TypeId};
use crate::format::btf::Kind;
use crate::query::Root;

/// One kernel with the modules that are to be looked at, in order.
#[derive(Debug)]
pub struct Kernel<'data> {
    /// The BTF of vmlinux.
    pub vmlinux: Indexed<'data>,
    /// Modules, each a split BTF on vmlinux.
    pub modules: Vec<Module<'data>>,
}

/// A BTF with the index of its own root types.
#[derive(Debug)]
pub struct Indexed<'data> {
    /// The BTF.
    pub btf: Arc<Btf<'data>>,
    roots: RootIndex,
}

/// One module of a kernel.
#[derive(Debug)]
pub struct Module<'data> {
    /// Its name as reports show it.
    pub name: String,
    /// Its BTF and roots.
    pub indexed: Indexed<'data>,
}

/// A type that a root might be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Number of the module that it is from; `None` is vmlinux.
    pub module: Option<u32>,
    /// Its id in that BTF.
    pub id: TypeId,
}

/// Candidates for one root, in libbpf's order.
pub type Candidates = SmallVec<[Candidate; 2]>;

impl<'data> Indexed<'data> {
    /// Indexes `btf`.
    pub fn new(btf: Btf<'data>) -> Self {
        let roots = RootIndex::build(&btf);
        Self { btf: Arc::new(btf), roots }
    }

    /// Its own named types in the order of their ids: the id that a type has in this kernel, and the one that it has
    /// in [`Indexed::btf`].
    pub fn types(&self) -> Vec<(TypeId, TypeId)> {
        let named = self.btf.own_types().filter(|(_, ty)| !self.btf.is_anonymous(ty.name_off));
        named.map(|(id, _)| (id, id)).collect()
    }

    fn candidates(&self, root: &Root<'_>, kind: Kind, module: Option<u32>) -> Candidates {
        self.roots
            .candidates(&self.btf, root.essential, root.hash, kind)
            .map(|id| Candidate { module, id })
            .collect()
    }
}

impl<'data> Kernel<'data> {
    /// A kernel without modules.
    ///
    /// # Errors
    /// As [`Btf::parse`].
    pub fn parse(vmlinux: &'data [u8]) -> Result<Self, BtfError> {
        Ok(Self::new(Btf::parse(vmlinux)?))
    }

    /// A kernel without modules.
    pub fn new(vmlinux: Btf<'data>) -> Self {
        Self { vmlinux: Indexed::new(vmlinux), modules: Vec::new() }
    }

    /// Adds a module, whose types come behind those of the modules added before.
    ///
    /// # Errors
    /// As [`Btf::parse_split`].
    pub fn add_module(&mut self, name: String, data: &'data [u8]) -> Result<(), BtfError> {
        let btf = Btf::parse_split(data, Arc::clone(&self.vmlinux.btf))?;
        self.modules.push(Module { name, indexed: Indexed::new(btf) });
        Ok(())
    }

    /// The BTF that a candidate's id belongs to.
    pub fn btf_of(&self, candidate: Candidate) -> &Btf<'data> {
        candidate
            .module
            .and_then(|module| self.modules.get(module as usize))
            .map_or(&self.vmlinux.btf, |module| &module.indexed.btf)
    }

    /// Candidates in vmlinux. Modules count only where this is empty, matching or not.
    pub fn vmlinux_candidates(&self, root: &Root<'_>) -> Candidates {
        self.vmlinux.candidates(root, root.kind, None)
    }

    /// Candidates of each module that has any, in the order of the modules.
    pub fn module_candidates(&self, root: &Root<'_>) -> impl Iterator<Item = Candidates> {
        (0_u32..)
            .zip(&self.modules)
            .map(|(number, module)| module.indexed.candidates(root, root.kind, Some(number)))
            .filter(|candidates| !candidates.is_empty())
    }

    /// Candidates in module number `module`.
    pub fn candidates_in_module(&self, root: &Root<'_>, module: u32) -> Candidates {
        let found = self.modules.get(module as usize);
        found.map(|it| it.indexed.candidates(root, root.kind, Some(module))).unwrap_or_default()
    }

    /// Whether vmlinux or a module knows the name as a forward declaration.
    pub fn only_declares(&self, root: &Root<'_>) -> bool {
        !self.vmlinux.candidates(root, Kind::Fwd, None).is_empty()
            || self.modules.iter().any(|it| !it.indexed.candidates(root, Kind::Fwd, None).is_empty())
    }
}
