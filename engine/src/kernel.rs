//! One kernel: its BTF, its modules' BTFs, and candidate lookup over both. It may be one of a pack's.

use std::sync::{Arc, OnceLock};

use smallvec::SmallVec;

use crate::btf::{Btf, BtfError, RootIndex, RootKinds, TypeId};
use crate::format::btf::Kind;
use crate::kallsyms::Kallsyms;
use crate::kconfig::Kconfig;
use crate::pack::{BtfOrigin, Facts, KernelEntry, Pack, PackError};
use crate::query::Root;

/// One kernel with the modules that are to be looked at, in order.
#[derive(Debug)]
pub struct Kernel<'data> {
    /// The BTF of vmlinux.
    pub vmlinux: Indexed<'data>,
    /// Modules, each a split BTF on vmlinux.
    pub modules: Vec<Module<'data>>,
    /// Where it is from, if that is a pack.
    pub packed: Option<Packed<'data>>,
    /// What is known of it beside its BTF.
    pub facts: Facts,
    /// Its lists of symbols, where they are given. Packs have none.
    pub kallsyms: Option<Arc<Kallsyms>>,
    /// Its configuration, where it is given. Packs have none.
    pub kconfig: Option<Arc<Kconfig>>,
}

/// Kinds that may stand for one another as roots, as far as names go; either enum finds both.
const ROOT_KINDS: [Kind; 7] =
    [Kind::Int, Kind::Struct, Kind::Union, Kind::Enum, Kind::Fwd, Kind::Typedef, Kind::Float];

/// Function that is compiled into kernels that have BTF, and into no others (`kernel/bpf/sysfs_btf.c`).
pub(crate) const BUILT_IN_WITNESS: &[u8] = b"btf_vmlinux_init";

/// A kernel's place in a pack.
#[derive(Clone, Debug)]
pub struct Packed<'data> {
    /// The pack.
    pub source: Arc<PackSource<'data>>,
    /// Its number there.
    pub number: u32,
}

/// A pack that kernels are taken from.
#[derive(Debug)]
pub struct PackSource<'data> {
    /// The pack.
    pub pack: Pack<'data>,
    damage: OnceLock<PackError>,
}

/// A BTF with the means to find its own root types.
#[derive(Debug)]
pub struct Indexed<'data> {
    /// The BTF. For a kernel of a pack it is the pack's, with the types of all its kernels.
    pub btf: Arc<Btf<'data>>,
    roots: Roots<'data>,
}

#[derive(Debug)]
enum Roots<'data> {
    Own(RootIndex),
    /// Those of a kernel in a pack, or of one of its modules.
    Packed {
        place: Packed<'data>,
        module: Option<u32>,
    },
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
    /// Its id in [`Indexed::btf`].
    pub id: TypeId,
}

/// Candidates for one root, in libbpf's order.
pub type Candidates = SmallVec<[Candidate; 2]>;

/// Kernels, each with its name.
pub type NamedKernels<'data> = Vec<(&'data str, Kernel<'data>)>;

impl<'data> PackSource<'data> {
    /// All kernels of a pack, each with the name that it was added under, in the order in which they were.
    ///
    /// # Errors
    /// [`PackError::Damaged`].
    pub fn kernels(pack: Pack<'data>) -> Result<(Arc<Self>, NamedKernels<'data>), PackError> {
        let (names, entries) = (pack.names()?, pack.kernels()?);
        let source = Arc::new(Self { pack, damage: OnceLock::new() });
        let kernels = names.into_iter().map(|(name, number)| {
            let no_such = PackError::NoSuch { what: "kernel", number };
            let entry = entries.get(number as usize).ok_or(no_such)?;
            Ok((name, Kernel::of_pack(Packed { source: Arc::clone(&source), number }, entry)?))
        });
        let kernels = kernels.collect::<Result<_, PackError>>()?;
        Ok((source, kernels))
    }

    /// The first damage that was met while types were looked up. Where there is any, answers cannot be trusted.
    pub fn damage(&self) -> Option<&PackError> {
        self.damage.get()
    }

    /// A result of the pack, or nothing, with a note of the damage.
    pub(crate) fn checked<T: Default>(&self, result: Result<T, PackError>) -> T {
        result.unwrap_or_else(|error| {
            self.damage.get_or_init(|| error);
            T::default()
        })
    }
}

/// A root as packs know it.
pub(crate) fn root_in_pack<'a>(root: &Root<'a>, kind: Kind) -> Root<'a> {
    Root { kind: if kind == Kind::Enum64 { Kind::Enum } else { kind }, ..*root }
}

impl<'data> Indexed<'data> {
    /// Indexes `btf`.
    pub fn new(btf: Btf<'data>) -> Self {
        let roots = RootIndex::build(&btf);
        Self { btf: Arc::new(btf), roots: Roots::Own(roots) }
    }

    /// Its own named types in the order of their ids: the id that a type has in this kernel, and the one that it has
    /// in [`Indexed::btf`].
    pub fn types(&self) -> Vec<(TypeId, TypeId)> {
        match &self.roots {
            Roots::Own(_) => {
                let named = self.btf.own_types().filter(|(_, ty)| !self.btf.is_anonymous(ty.name_off));
                named.map(|(id, _)| (id, id)).collect()
            }
            Roots::Packed { place: Packed { source, number }, module } => {
                source.checked(source.pack.roots_of(*number, *module))
            }
        }
    }

    fn candidates(&self, root: &Root<'_>, kind: Kind, module: Option<u32>) -> Candidates {
        match &self.roots {
            Roots::Own(index) => {
                let ids = index.candidates(&self.btf, root.essential, root.hash, kind);
                ids.map(|id| Candidate { module, id }).collect()
            }
            Roots::Packed { place: Packed { source, number }, module: of_kernel } => {
                let list = source.pack.list_of(*number, *of_kernel, &root_in_pack(root, kind));
                let ids = list.and_then(|it| Ok(source.pack.list(it)?.collect::<Vec<_>>()));
                source.checked(ids).into_iter().map(|id| Candidate { module, id }).collect()
            }
        }
    }

    /// Candidates for a root in their order, as ids of [`Indexed::btf`].
    pub(crate) fn listed(&self, root: &Root<'_>) -> SmallVec<[TypeId; 2]> {
        self.candidates(root, root.kind, None).into_iter().map(|it| it.id).collect()
    }

    /// [`Indexed::named`], with its number among the candidates for a root of that name in front.
    pub(crate) fn listed_named(&self, name: &[u8], kind: Kind) -> Option<(u32, TypeId)> {
        let is_named = |id: TypeId| {
            self.btf.ty(id).is_some_and(|ty| ty.kind == kind && self.btf.name_is(ty.name_off, name))
        };
        (0..).zip(self.listed(&Root::new(name, kind))).find(|it| is_named(it.1))
    }

    /// The first of its own types of this full name and this kind, as an id of [`Indexed::btf`].
    ///
    /// Source: `btf__find_by_name_kind_own`, libbpf.
    pub fn named(&self, name: &[u8], kind: Kind) -> Option<TypeId> {
        self.listed_named(name, kind).map(|it| it.1)
    }

    /// Its types of a root's essential name, of any kind that may stand for one, in the order of their ids, each with
    /// its id in the kernel's own BTF. A root of a rare kind fits its own kind alone.
    fn of_any_kind(&self, root: &Root<'_>, module: Option<u32>) -> Vec<(Candidate, TypeId)> {
        let own = [root.kind];
        let kinds = if RootKinds::of(root.kind) == RootKinds::Common { &ROOT_KINDS[..] } else { &own[..] };
        let mut found = Vec::new();
        for &kind in kinds {
            let candidates = self.candidates(root, kind, module);
            if !candidates.is_empty() {
                found.extend(candidates.into_iter().zip(self.ids(&Root { kind, ..*root })));
            }
        }
        found.sort_by_key(|(_, id)| *id);
        found
    }

    /// Ids of the candidates for a root in the kernel's own BTF, in their order.
    pub fn ids(&self, root: &Root<'_>) -> SmallVec<[TypeId; 2]> {
        match &self.roots {
            Roots::Own(_) => self.candidates(root, root.kind, None).iter().map(|it| it.id).collect(),
            Roots::Packed { place: Packed { source, number }, module } => {
                source.checked(source.pack.ids(*number, *module, &root_in_pack(root, root.kind)))
            }
        }
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
        Self {
            vmlinux: Indexed::new(vmlinux),
            modules: Vec::new(),
            packed: None,
            facts: Facts::default(),
            kallsyms: None,
            kconfig: None,
        }
    }

    /// A kernel of a pack.
    ///
    /// # Errors
    /// [`PackError`] if there is no such kernel, or the pack is damaged.
    fn of_pack(place: Packed<'data>, entry: &KernelEntry<'data>) -> Result<Self, PackError> {
        let btf = place
            .source
            .pack
            .btf(entry.abi)
            .ok_or(PackError::NoSuch { what: "kernel", number: place.number })?;
        let unit =
            |module| Indexed { btf: Arc::clone(btf), roots: Roots::Packed { place: place.clone(), module } };
        let modules = (0_u32..)
            .zip(&entry.modules)
            .map(|(number, module)| Module { name: module.name.to_owned(), indexed: unit(Some(number)) });
        let (vmlinux, modules) = (unit(None), modules.collect());
        let facts = entry.facts.clone();
        Ok(Self { vmlinux, modules, packed: Some(place), facts, kallsyms: None, kconfig: None })
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

    /// Whether its BTF is its own: as its file says, else by what is compiled into kernels with BTF only.
    pub fn origin(&self) -> BtfOrigin {
        match self.facts.origin {
            BtfOrigin::Unknown if self.vmlinux.named(BUILT_IN_WITNESS, Kind::Func).is_some() => {
                BtfOrigin::BuiltIn
            }
            said => said,
        }
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

    /// Types of a root's essential name and of any kind, in vmlinux or in a module, each with its id there.
    pub(crate) fn candidates_of_any_kind(
        &self,
        root: &Root<'_>,
        module: Option<u32>,
    ) -> Vec<(Candidate, TypeId)> {
        let unit = match module {
            None => Some(&self.vmlinux),
            Some(module) => self.modules.get(module as usize).map(|it| &it.indexed),
        };
        unit.map(|it| it.of_any_kind(root, module)).unwrap_or_default()
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
