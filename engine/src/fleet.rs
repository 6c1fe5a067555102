//! The kernels of a run, root by root: which candidates a root has on each kernel.
//!
//! Kernels share most of their types. Candidates of the same shape are counted once ([`RootTable::shapes`]), and
//! kernels whose candidates for a root are the same, in the same order, share a [`View`] of it. Whatever is asked
//! about a root is asked once for each shape and decided once for each view.

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::btf::{Btf, ShapeHash, ShapeHasher, TypeId, same_shape};
use crate::kernel::{self, Kernel};
use crate::query::Root;

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
    /// Whether an ENUM is no candidate for an ENUM64, nor the other way round, as in the kernel's own loader.
    pub exact_kinds: bool,
}

/// Kernels that are looked at together.
#[derive(Debug)]
pub struct Fleet<'a> {
    kernels: Vec<&'a Kernel<'a>>,
    module_names: Vec<&'a str>,
    /// By kernel and module of that kernel: the number of its name.
    name_of: Vec<Vec<u32>>,
}

/// A type that is a candidate on at least one kernel.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// BTF of the first kernel that has it.
    pub btf: &'a Btf<'a>,
    /// Its id there.
    pub id: TypeId,
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
        let mut this = Self { kernels: Vec::new(), module_names: Vec::new(), name_of: Vec::new() };
        // Modules of one kernel are told apart even if they are called the same.
        let mut numbers: HashMap<(&str, u32), u32> = HashMap::new();
        for kernel in &kernels {
            let mut times: HashMap<&str, u32> = HashMap::new();
            let names = kernel.modules.iter().map(|module| {
                let name = module.name.as_str();
                let time = times.entry(name).or_default();
                *time += 1;
                *numbers.entry((name, *time)).or_insert_with(|| {
                    this.module_names.push(name);
                    number(this.module_names.len() - 1)
                })
            });
            this.name_of.push(names.collect());
        }
        this.kernels = kernels;
        this
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
        let found = match wanted.module {
            None => kernel.vmlinux_candidates(root),
            Some(name) => {
                let module = names.iter().position(|it| *it == name)?;
                kernel.candidates_in_module(root, number(module))
            }
        };
        let mut found = found.into_iter().filter(|it| selection.takes(kernel, root, *it));
        found.nth(wanted.nth as usize).map(|it| it.id)
    }

    /// Looks a root up on every kernel.
    pub fn table(&self, root: &Root<'_>, selection: Selection) -> RootTable<'a> {
        let mut shapes = Shapes::default();
        let mut views: Vec<View> = Vec::new();
        let mut known: HashMap<View, u32> = HashMap::new();
        let mut view_of: Vec<u32> = Vec::with_capacity(self.kernels.len());
        let mut previous: Option<u32> = None;
        for (kernel, names) in self.kernels.iter().zip(&self.name_of) {
            let guess = previous.and_then(|it| views.get(it as usize));
            let view = view(kernel, names, root, selection, &mut shapes, guess);
            // Neighbours are mostly alike.
            let view = match previous {
                Some(number) if guess == Some(&view) => number,
                _ => *known.entry(view).or_insert_with_key(|view| {
                    views.push(view.clone());
                    number(views.len() - 1)
                }),
            };
            previous = Some(view);
            view_of.push(view);
        }
        RootTable { shapes: shapes.all, views, view_of }
    }
}

impl Selection {
    fn takes(self, kernel: &Kernel<'_>, root: &Root<'_>, candidate: kernel::Candidate) -> bool {
        let kind = || kernel.btf_of(candidate).ty(candidate.id).map(|ty| ty.kind);
        !self.exact_kinds || kind() == Some(root.kind)
    }
}

/// What one kernel has for a root. `guess`: what the kernel before has.
fn view<'a>(
    kernel: &'a Kernel<'a>,
    names: &[u32],
    root: &Root<'_>,
    selection: Selection,
    shapes: &mut Shapes<'a>,
    guess: Option<&View>,
) -> View {
    let mut list_no = 0;
    let mut list = |found: kernel::Candidates| -> Candidates {
        let near = guess.and_then(|it| it.lists.get(list_no));
        list_no += 1;
        let kept = found.into_iter().filter(|it| selection.takes(kernel, root, *it));
        kept.zip(0_u32..)
            .map(|(candidate, nth)| {
                let near = near.and_then(|it| it.get(nth as usize)).map(|it| it.shape);
                let shape = Shape { btf: kernel.btf_of(candidate), id: candidate.id };
                let module = candidate.module.and_then(|it| names.get(it as usize).copied());
                Candidate { module, shape: shapes.number(shape, near), nth }
            })
            .collect()
    };
    let vmlinux = list(kernel.vmlinux_candidates(root));
    let mut lists: SmallVec<[Candidates; 1]> = SmallVec::new();
    if vmlinux.is_empty() {
        // Modules count only where vmlinux has no candidate, matching or not.
        lists.extend(kernel.module_candidates(root).map(list).filter(|it| !it.is_empty()));
        if selection.modules == Modules::All && lists.len() > 1 {
            let joined: Candidates = lists.drain(..).flatten().collect();
            lists.push(joined);
        }
    }
    if lists.is_empty() {
        lists.push(vmlinux);
    }
    let nothing = lists.iter().all(|it| it.is_empty());
    View { only_declared: nothing && kernel.only_declares(root), lists }
}

/// Distinct shapes, by the order in which they turn up.
#[derive(Default)]
struct Shapes<'a> {
    all: Vec<Shape<'a>>,
    /// Of the first `hashed` of them.
    by_hash: HashMap<ShapeHash, u32>,
    hashed: usize,
}

impl<'a> Shapes<'a> {
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
        if next > 0 {
            // A single kernel needs no hashes, so they are made when there is something to compare with.
            for (known, number) in self.all.iter().zip(0_u32..).skip(self.hashed) {
                if let Some(hash) = ShapeHasher::new(known.btf).hash(known.id) {
                    self.by_hash.entry(hash).or_insert(number);
                }
            }
            self.hashed = self.all.len();
            let known =
                ShapeHasher::new(shape.btf).hash(shape.id).and_then(|it| self.by_hash.get(&it).copied());
            // Hashes of hostile types can be made to collide.
            if let Some(known) = known.filter(|&it| same(&self.all, it)) {
                return known;
            }
        }
        self.all.push(shape);
        next
    }
}

/// Numbers here count kernels, modules and types, of which there are fewer than 2^32.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
