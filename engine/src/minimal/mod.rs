//! As much of a kernel's BTF as some objects need: relocating with it gives what relocating with all of it gives.
//!
//! For every question of the objects and every candidate of its root, found matching or not, `mark` notes what libbpf
//! looks at on the way to its answer, and `emit` writes the types that were marked, in their order, with those of their
//! members and enumerators that were.
//!
//! * All candidates of a root stay, in their order: those that do not match count for pruning and ambiguity, and keep
//!   modules from being asked. One that lacks a field stays without it.
//! * A type that nothing looks into stays as what it is: a struct without members but with its name and size, a pointer
//!   to nothing. Modifiers and typedefs on the way to a member's type go.
//! * Where matching a candidate is an error, all that can be reached from it stays: which error it is can depend on all
//!   of that.
//! * Modules come out as split BTF on the minimal BTF of vmlinux, those that are not needed not at all.
//!
//! What can differ are type ids, and what libbpf computes from one: `TYPE_ID_TARGET`, and bitfields whose base type is no
//! number, which only broken BTF has.

mod emit;
mod mark;

use std::sync::Arc;

use crate::batch::AskedOfRoot;
use crate::btf::{Btf, BtfError, TypeId};
use crate::dialect::Rules;
use crate::format::btf::Kind;
use crate::kernel::Kernel;
use crate::query::Root;

use emit::{Emitted, emit};
use mark::Marker;

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
    /// The kernel is in a pack, which keeps the types of all its kernels as one.
    #[error("kernels of a pack have no BTF of their own to make smaller; give the kernels' files")]
    Packed,
    /// The BTF of vmlinux is itself split on another one.
    #[error("the kernel's BTF is split on another one")]
    Split,
    /// A type of a kind that is not known is needed.
    #[error("type [{id}] is needed, and its kind is not known")]
    UnknownKind {
        /// The type.
        id: u32,
    },
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

/// Reduces the BTF of `kernel` to what `questions` need, those of objects of the kernel's byte order.
///
/// The result depends on what is asked and not on its order.
///
/// # Errors
/// [`MinimalError`].
pub fn minimal(kernel: &Kernel<'_>, questions: &[AskedOfRoot<'_, '_>]) -> Result<Minimal, MinimalError> {
    let btf = &kernel.vmlinux.btf;
    if kernel.packed.is_some() {
        return Err(MinimalError::Packed);
    }
    if btf.base().is_some() {
        return Err(MinimalError::Split);
    }
    let mut vmlinux = mark::Marks::default();
    let mut modules = vec![mark::Marks::default(); kernel.modules.len()];
    for (root, queries) in questions {
        let in_vmlinux = kernel.vmlinux.ids(root);
        let mut found = !in_vmlinux.is_empty();
        Marker::new(&Rules::LIBBPF, btf, &mut vmlinux, None).candidates(&in_vmlinux, queries);
        if !found {
            // Modules count only where vmlinux has no candidate, matching or not.
            for (module, marks) in kernel.modules.iter().zip(&mut modules) {
                let ids = module.indexed.ids(root);
                found |= !ids.is_empty();
                let btf = &module.indexed.btf;
                Marker::new(&Rules::LIBBPF, btf, &mut vmlinux, Some(marks)).candidates(&ids, queries);
            }
        }
        if !found {
            declaration(kernel, root, &mut vmlinux, &mut modules);
        }
    }
    let mut base = emit(btf, None, &vmlinux)?;
    if Btf::parse(&base.bytes)?.pointer_size() != btf.pointer_size() {
        base = with_pointer_size(btf, &mut vmlinux)?;
    }
    let mut minimal = Minimal { vmlinux: Vec::new(), modules: Vec::new() };
    for (number, (module, marks)) in kernel.modules.iter().zip(&modules).enumerate() {
        if !marks.is_empty() {
            minimal.modules.push((number, emit(&module.indexed.btf, Some(&base), marks)?.bytes));
        }
    }
    minimal.vmlinux = base.bytes;
    Ok(minimal)
}

/// Keeps a forward declaration of a type that is not there: the reason given for its absence is another one then.
fn declaration(kernel: &Kernel<'_>, root: &Root<'_>, vmlinux: &mut mark::Marks, modules: &mut [mark::Marks]) {
    let root = Root { kind: Kind::Fwd, ..*root };
    if let Some(id) = kernel.vmlinux.ids(&root).first() {
        Marker::new(&Rules::LIBBPF, &kernel.vmlinux.btf, vmlinux, None).keep(*id);
        return;
    }
    for (module, marks) in kernel.modules.iter().zip(modules) {
        if let Some(id) = module.indexed.ids(&root).first() {
            Marker::new(&Rules::LIBBPF, &module.indexed.btf, vmlinux, Some(marks)).keep(*id);
            return;
        }
    }
}

/// Keeps the type that tells the size of a pointer.
fn with_pointer_size(btf: &Arc<Btf<'_>>, marks: &mut mark::Marks) -> Result<Emitted, MinimalError> {
    let size = btf.pointer_size();
    let witness: TypeId = btf.pointer_witness().ok_or(MinimalError::PointerSize { size })?;
    Marker::new(&Rules::LIBBPF, btf, marks, None).keep(witness);
    let emitted = emit(btf, None, marks)?;
    match Btf::parse(&emitted.bytes)?.pointer_size() == size {
        true => Ok(emitted),
        false => Err(MinimalError::PointerSize { size }),
    }
}
