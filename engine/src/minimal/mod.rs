//! As much of a kernel's BTF as some objects need: relocating with it gives what relocating with all of it gives.
//!
//! For every question of the objects and every candidate of its root, found matching or not, `mark` notes what the
//! loader looks at on the way to its answer, and `emit` writes the types that were marked, with those of their members and
//! enumerators that were: the candidates in their order, and behind them what they need.
//!
//! * Candidates of a root stay, in their order. One that lacks a field stays without it: it keeps modules from being
//!   asked, and says why there is no answer. Only where others answer every question, one that answers none goes.
//! * A type that nothing looks into stays as what it is: a struct without members but with its name and size, a pointer
//!   to nothing. Modifiers and typedefs on the way to a member's type go.
//! * Where matching a candidate is an error, all that can be reached from it stays: which error it is can depend on all
//!   of that.
//! * Modules come out as split BTF on the minimal BTF of vmlinux, those that are not needed not at all.
//!
//! What can differ are type ids, and what libbpf computes from one: `TYPE_ID_TARGET`, also whether types of two modules
//! happen to have the same; and bitfields whose base type is no number, which only broken BTF has.

mod emit;
mod mark;
mod strings;
mod symbols;

use crate::batch::AskedOfRoot;
use crate::btf::{Btf, BtfError, LONGS, TypeId};
use crate::depend::{Need, wants_module};
use crate::dialect::{Kinds, Loader, Rules, Searched};
use crate::format::btf::Kind;
use crate::format::btf_ext::RelocKind;
use crate::kernel::{Indexed, Kernel};
use crate::query::{Query, Root};

use emit::{Emitted, emit};
use mark::{Depth, Fate, Marks};
use symbols::symbols;

/// What is left of a kernel's BTF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minimal {
    /// Raw BTF of vmlinux.
    pub vmlinux: Vec<u8>,
    /// Raw BTF of modules, split on that of vmlinux: the module's number in [`Kernel::modules`], ascending. Modules of
    /// which nothing is needed are left out.
    pub modules: Vec<(usize, Vec<u8>)>,
}

/// Why a kernel has no minimal BTF.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MinimalError {
    /// What cilium/ebpf compares behind pointers goes further than what is kept.
    #[error("for cilium/ebpf it is not known what can be left out")]
    Loader,
    /// The BTF of vmlinux is itself split on another one.
    #[error("the kernel's BTF is split on another one")]
    Split,
    /// A type of a kind that is not known is needed.
    #[error("a type is needed whose kind is not known")]
    UnknownKind,
    /// Nothing in raw BTF would say how wide the kernel's pointers are.
    #[error("no type tells that pointers have {size} bytes")]
    PointerSize {
        /// Bytes of a pointer.
        size: u32,
    },
    /// What was written cannot be read.
    #[error("the result is no BTF: {0}")]
    Unreadable(#[from] BtfError),
}

/// Reduces the BTF of `kernel` to what `questions` need, those of objects of the kernel's byte order, read by the rules of
/// `loader`.
///
/// `needs`: of the same objects, of which the types are kept too that the answers of [`depend`](crate::depend) rest on; none
/// for CO-RE alone. The result depends on what is asked and not on its order, and not on whether the kernel is from files or
/// from a pack.
///
/// # Errors
/// [`MinimalError`].
pub fn minimal(
    kernel: &Kernel<'_>,
    loader: Loader,
    questions: &[AskedOfRoot<'_, '_>],
    needs: &[Need<'_>],
) -> Result<Minimal, MinimalError> {
    let btf = &kernel.vmlinux.btf;
    if kernel.packed.is_none() && btf.base().is_some() {
        return Err(MinimalError::Split);
    }
    let units: Vec<&Indexed<'_>> =
        std::iter::once(&kernel.vmlinux).chain(kernel.modules.iter().map(|it| &it.indexed)).collect();
    let mut marks = Marks::new(units.iter().map(|it| &*it.btf).collect());
    if loader == Loader::EbpfGo {
        return Err(MinimalError::Loader);
    }
    let rules = Rules::of(loader, btf.pointer_size());
    for (root, queries) in questions {
        if !candidates(&rules, &units, root, queries, &mut marks) {
            declaration(&units, root, &mut marks);
        }
    }
    symbols(kernel, &units, needs, &mut marks);
    marks.close()?;
    let mut base = emit(&marks, 0, None)?;
    if Btf::parse(&base.bytes)?.pointer_size() != btf.pointer_size() {
        base = with_pointer_size(&kernel.vmlinux, &mut marks)?;
    }
    let mut minimal = Minimal { vmlinux: Vec::new(), modules: Vec::new() };
    for (number, module) in kernel.modules.iter().enumerate() {
        let unit = number + 1;
        if marks.pinned(unit).next().is_some() || needs.iter().any(|it| wants_module(it, &module.name)) {
            minimal.modules.push((number, emit(&marks, unit, Some(&base))?.bytes));
        }
    }
    minimal.vmlinux = base.bytes;
    Ok(minimal)
}

/// Keeps the candidates for a root. Returns whether there is any.
fn candidates<'a, 'data>(
    rules: &Rules,
    units: &[&'a Indexed<'data>],
    root: &Root<'_>,
    queries: &'a [(&Query<'_>, RelocKind)],
    marks: &mut Marks<'a, 'data>,
) -> bool {
    let mut any = false;
    for (unit, indexed) in units.iter().enumerate() {
        let found = candidates_in(rules, indexed, root);
        let fates = found.iter().map(|(_, id)| {
            queries.iter().map(|(query, kind)| Fate::of(rules, query, *kind, &indexed.btf, *id)).collect()
        });
        let fates: Vec<Vec<Fate>> = fates.collect();
        // One that no question is met by is no loss if another one meets them all: then nobody hears of it.
        let is_met = |number: usize| fates.iter().any(|it| it.get(number) == Some(&Fate::Found));
        let all_met = (0..queries.len()).all(is_met);
        for (&(own, id), fates) in found.iter().zip(&fates) {
            any = true;
            if all_met && fates.iter().all(|it| *it == Fate::Missing) {
                continue;
            }
            marks.pin(unit, own, id, Depth::Sized);
            marks.candidate(rules, unit, id, queries.iter().map(|it| it.0).zip(fates.iter().copied()));
        }
        // Modules count only where vmlinux has none, matching or not.
        if unit == 0
            && (rules.searched == Searched::Vmlinux || any && rules.searched == Searched::ModulesIfNone)
        {
            break;
        }
    }
    any
}

/// Candidates of one unit: the id that each has in the kernel's own BTF, and the one in the unit's.
fn candidates_in(rules: &Rules, indexed: &Indexed<'_>, root: &Root<'_>) -> Vec<(TypeId, TypeId)> {
    let takes = |id| rules.kinds != Kinds::Exact || indexed.btf.ty(id).is_some_and(|it| it.kind == root.kind);
    indexed.found(root).into_iter().filter(|it| takes(it.1)).collect()
}

/// Keeps a forward declaration of a type that is not there: the reason given for its absence is another one then.
fn declaration<'data>(units: &[&Indexed<'data>], root: &Root<'_>, marks: &mut Marks<'_, 'data>) {
    let root = Root { kind: Kind::Fwd, ..*root };
    let mut declared = (0..).zip(units).filter_map(|(unit, it)| Some((unit, *it.found(&root).first()?)));
    if let Some((unit, (own, id))) = declared.next() {
        marks.pin(unit, own, id, Depth::Sized);
    }
}

/// Keeps the type that tells the size of a pointer.
fn with_pointer_size<'data>(
    vmlinux: &Indexed<'data>,
    marks: &mut Marks<'_, 'data>,
) -> Result<Emitted<'data>, MinimalError> {
    let size = vmlinux.btf.pointer_size();
    let found = LONGS.iter().flat_map(|name| {
        let is_it = |id| {
            let ty = vmlinux.btf.ty(id);
            ty.is_some_and(|it| matches!(it.size(), 4 | 8) && vmlinux.btf.name_is(it.name_off, name))
        };
        vmlinux.found(&Root::new(name, Kind::Int)).into_iter().filter(move |it| is_it(it.1))
    });
    let (own, id) = found.min().ok_or(MinimalError::PointerSize { size })?;
    marks.pin(0, own, id, Depth::Sized);
    marks.close()?;
    let emitted = emit(marks, 0, None)?;
    match Btf::parse(&emitted.bytes)?.pointer_size() == size {
        true => Ok(emitted),
        false => Err(MinimalError::PointerSize { size }),
    }
}
