//! As much of a kernel's BTF as some objects need: relocating with it gives what relocating with all of it gives.
//!
//! For every question of the objects and every candidate of its root, found matching or not, `wanted` notes what the
//! loader looks at on the way to its answer, and `emit` writes the types that were marked, with those of their members and
//! enumerators that were: the candidates of each root in their order, and behind them what they need.
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
mod wanted;

use std::sync::Arc;

use hashbrown::HashMap;

use crate::batch::{AskedOfRoot, Batch};
use crate::btf::{Btf, BtfError, LONGS, TypeId};
use crate::depend::{Need, wants_module};
use crate::dialect::Loader;
use crate::format::btf::Kind;
use crate::kernel::{Indexed, Kernel};
use crate::query::Root;

use emit::{Emitted, emit};
use mark::{Depth, Marks};
use symbols::symbols;
use wanted::Wanted;

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
    let mut found = minimals(&Batch::SEQUENTIAL, &[kernel], loader, questions, needs);
    found.pop().expect("one for each kernel")
}

/// [`minimal`] for each of some kernels, which share the work where they have the same types.
pub fn minimals(
    batch: &Batch,
    kernels: &[&Kernel<'_>],
    loader: Loader,
    questions: &[AskedOfRoot<'_, '_>],
    needs: &[Need<'_>],
) -> Vec<Result<Minimal, MinimalError>> {
    if loader == Loader::EbpfGo {
        return kernels.iter().map(|_| Err(MinimalError::Loader)).collect();
    }
    let wanted = batch.map(questions, |asked| Wanted::new(kernels, loader, asked));
    // Kernels with the same candidates for all roots come out the same, unless they are asked for more.
    let mut known: HashMap<_, usize> = HashMap::new();
    let mut first = Vec::new();
    let alike = kernels.iter().enumerate().map(|(number, kernel)| {
        let candidates: Vec<&[(usize, usize)]> = wanted.iter().map(|it| it.of_kernel(number)).collect();
        let own = if needs.is_empty() { None } else { Some(number) };
        *known.entry((Arc::as_ptr(&kernel.vmlinux.btf), longs(kernel), candidates, own)).or_insert_with(
            || {
                first.push((number, *kernel));
                first.len() - 1
            },
        )
    });
    let alike: Vec<usize> = alike.collect();
    let reduced = batch.map(&first, |(number, kernel)| reduce(kernel, *number, &wanted, needs));
    alike.into_iter().map(|it| reduced.get(it).cloned().expect("one for each that differs")).collect()
}

/// Vmlinux, unit number 0, and the modules.
fn units<'a, 'data>(kernel: &'a Kernel<'data>) -> impl Iterator<Item = &'a Indexed<'data>> {
    std::iter::once(&kernel.vmlinux).chain(kernel.modules.iter().map(|it| &it.indexed))
}

/// Reduces kernel number `number`.
fn reduce(
    kernel: &Kernel<'_>,
    number: usize,
    wanted: &[Wanted],
    needs: &[Need<'_>],
) -> Result<Minimal, MinimalError> {
    let btf = &kernel.vmlinux.btf;
    if kernel.packed.is_none() && btf.base().is_some() {
        return Err(MinimalError::Split);
    }
    let units: Vec<&Indexed<'_>> = units(kernel).collect();
    let mut marks = Marks::new(units.iter().map(|it| &*it.btf).collect());
    wanted.iter().for_each(|it| it.mark(number, &mut marks));
    symbols(kernel, &units, needs, &mut marks);
    marks.close()?;
    let mut base = emit(&marks, 0, None)?;
    if Btf::parse(&base.bytes)?.pointer_size() != btf.pointer_size() {
        base = with_pointer_size(kernel, &mut marks)?;
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

/// Types that may tell the size of a pointer, each with its number among the candidates for a root of its name.
fn longs(kernel: &Kernel<'_>) -> Vec<(u32, TypeId)> {
    let listed = LONGS.iter().flat_map(|name| (0..).zip(kernel.vmlinux.listed(&Root::new(name, Kind::Int))));
    listed.collect()
}

/// Keeps a type that tells the size of a pointer, before all others that might.
fn with_pointer_size<'data>(
    kernel: &Kernel<'data>,
    marks: &mut Marks<'_, 'data>,
) -> Result<Emitted<'data>, MinimalError> {
    let btf = &kernel.vmlinux.btf;
    let size = btf.pointer_size();
    let is_it = |id| btf.ty(id).is_some_and(|it| it.size() == size && LONGS.contains(&btf.name(it.name_off)));
    let found = longs(kernel).into_iter().find(|it| is_it(it.1));
    let (nth, id) = found.ok_or(MinimalError::PointerSize { size })?;
    marks.pin(0, id, nth, Depth::Sized);
    marks.put_in_front(id);
    marks.close()?;
    let emitted = emit(marks, 0, None)?;
    match Btf::parse(&emitted.bytes)?.pointer_size() == size {
        true => Ok(emitted),
        false => Err(MinimalError::PointerSize { size }),
    }
}
