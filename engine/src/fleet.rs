//! The kernels of a run, root by root: which candidates a root has on each kernel.
//!
//! Kernels share most of their types. Candidates of the same shape are counted once ([`RootTable::shapes`]), and
//! kernels whose candidates for a root are the same, in the same order, share a [`View`] of it. Whatever is asked
//! about a root is asked once for each shape and decided once for each view.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::btf::{Btf, ShapeHash, ShapeHasher, TypeId, same_shape};
use crate::dialect::{Kinds, Searched};
use crate::format::btf::Kind;
use crate::kernel::{self, Kernel, PackSource, root_in_pack};
use crate::pack::{Expansion, ListRef};
use crate::query::Root;

/// Types that a new one is compared with one after the other; where there are more, a hash finds the one.
const COMPARED_MAX: usize = 4;

/// How modules are looked at when vmlinux lacks a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modules {
    /// Each providing module is judged alone, as if only it were loaded.
    Each,
    /// All are loaded, in their order: what libbpf does on a running system.
    All,
}

/// How candidates are chosen for one run.
#[derive(Clone, Copy, Debug)]
pub struct Selection {
    /// How modules are looked at.
    pub modules: Modules,
    /// Of what kinds they are.
    pub kinds: Kinds,
    /// Where they are looked for.
    pub searched: Searched,
}

/// Kernels that are looked at together.
#[derive(Debug)]
pub struct Fleet<'a> {
    kernels: Vec<&'a Kernel<'a>>,
    module_names: Vec<&'a str>,
    /// By kernel and module of that kernel: the number of its name.
    name_of: Vec<Vec<u32>>,
    packs: Vec<&'a PackSource<'a>>,
    /// By kernel: number of its pack, and its number there.
    place: Vec<Option<(usize, u32)>>,
    /// Whether types come from more than one BTF or pack, so that equal ones have to be found by comparison.
    is_mixed: bool,
}

/// A type that is a candidate on at least one kernel.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// BTF of the first kernel that has it.
    pub btf: &'a Btf<'a>,
    /// Its id there.
    pub id: TypeId,
}

impl Shape<'_> {
    fn looks_like(&self, other: &Self) -> bool {
        let look = |it: &Self| {
            it.btf.ty(it.id).map(|ty| (ty.kind, ty.kind.is_composite().then_some(ty.size()), ty.vlen()))
        };
        look(self) == look(other)
    }
}

/// One candidate of a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// The module that it is from, a number for [`Fleet::module_name`]; `None` is vmlinux.
    pub module: Option<u32>,
    /// Number of its shape in the root's table.
    pub shape: u32,
    /// Its place among the candidates from the same BTF.
    pub nth: u32,
}

/// Candidates of a root, in the order in which a loader asks them.
pub type Candidates = SmallVec<[Candidate; 2]>;

/// What a kernel has for a root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct View {
    /// One list, perhaps empty; more where modules are judged each alone and several have the type.
    pub lists: SmallVec<[Candidates; 1]>,
    /// Whether there is no candidate, but a forward declaration of that name.
    pub only_declared: bool,
}

/// A root on all kernels.
#[derive(Debug)]
pub struct RootTable<'a> {
    /// Distinct types that are candidates somewhere.
    pub shapes: Vec<Shape<'a>>,
    /// Distinct views.
    pub views: Vec<View>,
    /// By kernel: the number of its view.
    pub view_of: Vec<u32>,
}

impl<'a> Fleet<'a> {
    /// Takes kernels, which keep their order.
    pub fn new(kernels: Vec<&'a Kernel<'a>>) -> Self {
        let mut module_names = Vec::new();
        // Modules of one kernel are told apart even if they are called the same.
        let mut numbers: HashMap<(&str, u32), u32> = HashMap::new();
        let name_of = kernels.iter().map(|kernel| {
            let mut times: HashMap<&str, u32> = HashMap::new();
            let names = kernel.modules.iter().map(|module| {
                let name = module.name.as_str();
                let time = times.entry(name).or_default();
                *time += 1;
                *numbers.entry((name, *time)).or_insert_with(|| {
                    module_names.push(name);
                    number(module_names.len() - 1)
                })
            });
            names.collect()
        });
        let name_of = name_of.collect();
        let mut packs: Vec<&PackSource<'a>> = Vec::new();
        let place = kernels.iter().map(|kernel| {
            let packed = kernel.packed.as_ref()?;
            let known = packs.iter().position(|it| std::ptr::eq(*it, &raw const *packed.source));
            let pack = known.unwrap_or_else(|| {
                packs.push(&packed.source);
                packs.len() - 1
            });
            Some((pack, packed.number))
        });
        let place: Vec<_> = place.collect();
        let from_files = place.iter().any(Option::is_none);
        let is_mixed = packs.len() + usize::from(from_files) > 1;
        Self { kernels, module_names, name_of, packs, place, is_mixed }
    }

    /// Number of kernels.
    pub fn len(&self) -> usize {
        self.kernels.len()
    }

    /// Whether there is no kernel.
    pub fn is_empty(&self) -> bool {
        self.kernels.is_empty()
    }

    /// Name of a module by its number, see [`Candidate::module`].
    pub fn module_name(&self, module: u32) -> &'a str {
        self.module_names.get(module as usize).copied().unwrap_or_default()
    }

    /// The id that a candidate has in the BTF of kernel number `kernel`, or of its module.
    pub fn id_of(
        &self,
        kernel: usize,
        root: &Root<'_>,
        selection: Selection,
        wanted: Candidate,
    ) -> Option<TypeId> {
        let names = self.name_of.get(kernel)?;
        let kernel = self.kernels.get(kernel)?;
        let module_of = |name: u32| names.iter().position(|it| *it == name).map(number);
        if selection.kinds == Kinds::Any {
            let module = match wanted.module {
                Some(name) => Some(module_of(name)?),
                None => None,
            };
            return kernel.candidates_of_any_kind(root, module).get(wanted.nth as usize).map(|it| it.1);
        }
        let (found, ids) = match wanted.module {
            None => (kernel.vmlinux_candidates(root), kernel.vmlinux.ids(root)),
            Some(name) => {
                let module = module_of(name)?;
                let ids = kernel.modules.get(module as usize)?.indexed.ids(root);
                (kernel.candidates_in_module(root, module), ids)
            }
        };
        let mut found = found.into_iter().zip(ids).filter(|(it, _)| selection.takes(kernel, root, *it));
        found.nth(wanted.nth as usize).map(|(_, id)| id)
    }

    /// Looks a root up on every kernel.
    pub fn table(&self, root: &Root<'_>, selection: Selection) -> RootTable<'a> {
        let expand = |root: Root<'_>| {
            self.packs.iter().map(|it| it.checked(it.pack.expand(&root))).collect::<Vec<Expansion>>()
        };
        let expansions = expand(root_in_pack(root, root.kind));
        let declared = std::cell::OnceCell::new();
        let mut shapes = Shapes::default();
        let mut views: Vec<View> = Vec::new();
        let mut known: HashMap<View, u32> = HashMap::new();
        let mut view_of: Vec<u32> = Vec::with_capacity(self.kernels.len());
        let mut previous: Option<u32> = None;
        // Views of vmlinux of packed kernels, by pack and list: neighbours mostly have the same list.
        let mut by_list: HashMap<(*const Btf<'a>, ListRef), u32> = HashMap::new();
        let mut last_list = None;
        for ((kernel, names), place) in self.kernels.iter().zip(&self.name_of).zip(&self.place) {
            let packed = place.and_then(|(pack, number)| Some((pack, number, expansions.get(pack)?)));
            let list = packed.and_then(|(_, number, it)| it.vmlinux.get(number as usize).copied());
            let key = list.filter(|it| !it.is_none()).map(|it| (Arc::as_ptr(&kernel.vmlinux.btf), it));
            let at_once = key
                .and_then(|key| if last_list == Some(key) { previous } else { by_list.get(&key).copied() });
            let view = at_once.unwrap_or_else(|| {
                let guess = previous.and_then(|it| views.get(it as usize));
                let ask = Asking { kernel, names, root, selection, is_mixed: self.is_mixed };
                let view = match packed {
                    _ if selection.kinds == Kinds::Any => {
                        ask.of_any_kind(&mut shapes, packed.map(|_| self.is_mixed))
                    }
                    None => ask.of_files(&mut shapes, guess),
                    Some((pack, number, expansion)) => {
                        let is_declared = || {
                            let declared = declared.get_or_init(|| expand(Root { kind: Kind::Fwd, ..*root }));
                            declared.get(pack).is_some_and(|it| it.has(number))
                        };
                        let source = self.packs.get(pack).copied();
                        source.map_or_else(View::default, |source| {
                            ask.of_pack(source, number, expansion, is_declared, &mut shapes)
                        })
                    }
                };
                // Neighbours are mostly alike.
                match previous {
                    Some(number) if guess == Some(&view) => number,
                    _ => *known.entry(view).or_insert_with_key(|view| {
                        views.push(view.clone());
                        number(views.len() - 1)
                    }),
                }
            });
            // Where all types of the list are of a wrong kind, the kernel's own modules decide.
            let is_vmlinux = |it: &View| it.lists.iter().flatten().any(|it| it.module.is_none());
            let key = key.filter(|_| {
                selection.kinds != Kinds::Any && views.get(view as usize).is_some_and(is_vmlinux)
            });
            if let Some(key) = key {
                by_list.insert(key, view);
            }
            last_list = key;
            previous = Some(view);
            view_of.push(view);
        }
        RootTable { shapes: shapes.all, views, view_of }
    }
}

impl Selection {
    fn takes(self, kernel: &Kernel<'_>, root: &Root<'_>, candidate: kernel::Candidate) -> bool {
        let kind = || kernel.btf_of(candidate).ty(candidate.id).map(|ty| ty.kind);
        self.kinds != Kinds::Exact || kind() == Some(root.kind)
    }
}

/// One kernel that is asked for a root.
struct Asking<'f, 'a, 'q> {
    kernel: &'a Kernel<'a>,
    /// Numbers of its modules' names.
    names: &'f [u32],
    root: &'f Root<'q>,
    selection: Selection,
    is_mixed: bool,
}

impl<'a> Asking<'_, 'a, '_> {
    /// `guess`: what the kernel before has.
    fn of_files(&self, shapes: &mut Shapes<'a>, guess: Option<&View>) -> View {
        let kernel = self.kernel;
        let mut list_no = 0;
        let mut list = |found: kernel::Candidates| -> Candidates {
            let near = guess.and_then(|it| it.lists.get(list_no));
            list_no += 1;
            let kept = found.into_iter().filter(|it| self.selection.takes(kernel, self.root, *it));
            kept.zip(0_u32..)
                .map(|(candidate, nth)| {
                    let near = near.and_then(|it| it.get(nth as usize)).map(|it| it.shape);
                    let shape = Shape { btf: kernel.btf_of(candidate), id: candidate.id };
                    Candidate { module: self.name(candidate.module), shape: shapes.number(shape, near), nth }
                })
                .collect()
        };
        let vmlinux = list(kernel.vmlinux_candidates(self.root));
        // Modules count only where vmlinux has no candidate, matching or not.
        let modules = match vmlinux.is_empty() && self.selection.searched == Searched::ModulesIfNone {
            true => kernel.module_candidates(self.root).map(list).collect(),
            false => Vec::new(),
        };
        self.view(vmlinux, modules, || kernel.only_declares(self.root))
    }

    fn of_pack(
        &self,
        source: &'a PackSource<'a>,
        number: u32,
        expansion: &Expansion,
        is_declared: impl Fn() -> bool,
        shapes: &mut Shapes<'a>,
    ) -> View {
        let btf: &'a Btf<'a> = &self.kernel.vmlinux.btf;
        let mut list = |list: ListRef, module: Option<u32>| -> Candidates {
            let types = source.checked(source.pack.list(list).map(|it| it.collect::<Vec<_>>()));
            let takes = |id: &TypeId| {
                self.selection.kinds != Kinds::Exact || btf.ty(*id).map(|ty| ty.kind) == Some(self.root.kind)
            };
            let kept = types.into_iter().filter(takes);
            kept.zip(0_u32..)
                .map(|(id, nth)| {
                    let shape = shapes.of_pack(Shape { btf, id }, self.is_mixed);
                    Candidate { module: self.name(module), shape, nth }
                })
                .collect()
        };
        let of_vmlinux = expansion.vmlinux.get(number as usize).copied().unwrap_or(ListRef::NONE);
        let vmlinux = list(of_vmlinux, None);
        let modules = match vmlinux.is_empty() && self.selection.searched == Searched::ModulesIfNone {
            true if of_vmlinux.is_none() => {
                expansion.of_modules(number).iter().map(|it| list(it.list, Some(it.module))).collect()
            }
            // All of vmlinux's are of the wrong kind, and the pack does not say what modules have then.
            true => {
                let numbers = (0_u32..).zip(&self.kernel.modules).map(|(module, _)| module);
                let root = root_in_pack(self.root, self.root.kind);
                numbers
                    .map(|module| {
                        list(source.checked(source.pack.list_of(number, Some(module), &root)), Some(module))
                    })
                    .collect()
            }
            false => Vec::new(),
        };
        self.view(vmlinux, modules, is_declared)
    }

    /// Vmlinux's and modules' alike. `is_mixed`: of a kernel of a pack, whether there are types from elsewhere.
    fn of_any_kind(&self, shapes: &mut Shapes<'a>, is_mixed: Option<bool>) -> View {
        let mut list = |module: Option<u32>| -> Candidates {
            let found = self.kernel.candidates_of_any_kind(self.root, module).into_iter().zip(0_u32..);
            found
                .map(|((candidate, _), nth)| {
                    let shape = Shape { btf: self.kernel.btf_of(candidate), id: candidate.id };
                    let shape = match is_mixed {
                        Some(is_mixed) => shapes.of_pack(shape, is_mixed),
                        None => shapes.number(shape, None),
                    };
                    Candidate { module: self.name(module), shape, nth }
                })
                .collect()
        };
        let vmlinux = list(None);
        let modules = match self.selection.searched {
            Searched::All => {
                (0_u32..).zip(&self.kernel.modules).map(|(module, _)| list(Some(module))).collect()
            }
            Searched::Vmlinux | Searched::ModulesIfNone => Vec::new(),
        };
        let modules: Vec<Candidates> = modules.into_iter().filter(|it: &Candidates| !it.is_empty()).collect();
        let with = |modules: &[Candidates]| vmlinux.iter().chain(modules.iter().flatten()).copied().collect();
        let lists = match self.selection.modules {
            Modules::Each if !modules.is_empty() => modules.chunks(1).map(with).collect(),
            Modules::Each | Modules::All => std::iter::once(with(&modules)).collect(),
        };
        // One that is only declared is a candidate as well.
        View { lists, only_declared: false }
    }

    fn name(&self, module: Option<u32>) -> Option<u32> {
        self.names.get(module? as usize).copied()
    }

    fn view(&self, vmlinux: Candidates, modules: Vec<Candidates>, is_declared: impl Fn() -> bool) -> View {
        let mut lists: SmallVec<[Candidates; 1]> = modules.into_iter().filter(|it| !it.is_empty()).collect();
        if self.selection.modules == Modules::All && lists.len() > 1 {
            let joined: Candidates = lists.drain(..).flatten().collect();
            lists.push(joined);
        }
        let nothing = vmlinux.is_empty() && lists.is_empty();
        if lists.is_empty() {
            lists.push(vmlinux);
        }
        View { only_declared: nothing && is_declared(), lists }
    }
}

/// Distinct shapes, by the order in which they turn up.
#[derive(Default)]
struct Shapes<'a> {
    all: Vec<Shape<'a>>,
    /// Of the first `hashed` of them.
    by_hash: HashMap<ShapeHash, u32>,
    hashed: usize,
    /// Those of packs, by BTF and id.
    by_id: HashMap<(*const Btf<'a>, TypeId), u32>,
}

impl<'a> Shapes<'a> {
    /// Within one pack, types of equal shape have equal ids.
    fn of_pack(&mut self, shape: Shape<'a>, is_mixed: bool) -> u32 {
        let key = (std::ptr::from_ref(shape.btf), shape.id);
        if let Some(known) = self.by_id.get(&key) {
            return *known;
        }
        let new = if is_mixed {
            self.number(shape, None)
        } else {
            self.all.push(shape);
            number(self.all.len() - 1)
        };
        self.by_id.insert(key, new);
        new
    }

    fn number(&mut self, shape: Shape<'a>, near: Option<u32>) -> u32 {
        let same = |all: &[Shape<'_>], number: u32| {
            all.get(number as usize).is_some_and(|it| same_shape((it.btf, it.id), (shape.btf, shape.id)))
        };
        if let Some(near) = near
            && same(&self.all, near)
        {
            return near;
        }
        let next = number(self.all.len());
        // Most are told apart by their size and the number of their members alone.
        let alike: SmallVec<[u32; 4]> = self
            .all
            .iter()
            .zip(0_u32..)
            .filter(|(it, number)| near != Some(*number) && it.looks_like(&shape))
            .map(|(_, number)| number)
            .collect();
        let known = if alike.len() <= COMPARED_MAX {
            alike.into_iter().find(|&it| same(&self.all, it))
        } else {
            for (known, number) in self.all.iter().zip(0_u32..).skip(self.hashed) {
                if let Some(hash) = ShapeHasher::new(known.btf).hash(known.id) {
                    self.by_hash.entry(hash).or_insert(number);
                }
            }
            self.hashed = self.all.len();
            let hash = ShapeHasher::new(shape.btf).hash(shape.id);
            // Hashes of hostile types can be made to collide.
            hash.and_then(|it| self.by_hash.get(&it).copied()).filter(|&it| same(&self.all, it))
        };
        if let Some(known) = known {
            return known;
        }
        self.all.push(shape);
        next
    }
}

/// Numbers here count kernels, modules and types, of which there are fewer than 2^32.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
