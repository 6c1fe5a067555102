//! What programs need of a kernel beside their CO-RE records: something to attach to, with the arguments that they read,
//! functions and variables to link with, structs to implement.
//!
//! [`needs`] lists it for an object, [`answer`] decides one need on one kernel as libbpf would, and a [`Survey`]
//! answers the needs of many objects on many kernels: each distinct need once for all kernels on which its names stand
//! for the same types.
//!
//! Where BTF does not have the last word, lists of the kernel's symbols ([`crate::kallsyms`]) do, if they are given.
//!
//! Source: `find_kernel_btf_id`, `bpf_object__resolve_externs`, `bpf_map__init_kern_struct_ops`, libbpf; spec
//! sections 3.2 to 3.7.

mod arguments;
mod attach;
mod code;
mod looked_up;
mod lookup;
mod need;
mod struct_ops;
mod survey;
mod symbols;

pub use code::{Answer, Code, Severity};
pub(crate) use looked_up::{Extent, LookedUp, looked_into, looked_up, wants_module};
pub(crate) use need::of_use;
pub use need::{Dependency, Need, Owner, needs};
pub use survey::{Answered, Survey};

use crate::fleet::Modules;
use crate::format::btf::Kind;
use crate::kernel::Kernel;
use crate::pack::BtfOrigin;

/// Decides one need on one kernel.
///
/// `modules`: whether modules count as loaded ([`Modules::All`]), or what only they have depends on their being so.
pub fn answer(need: &Need<'_>, kernel: &Kernel<'_>, modules: Modules) -> Answer {
    answer_with(
        need,
        kernel,
        modules,
        if need.needs_kernel_btf() { kernel.origin() } else { BtfOrigin::BuiltIn },
    )
}

/// [`answer`] for a kernel whose BTF is known to be from `origin`.
fn answer_with(need: &Need<'_>, kernel: &Kernel<'_>, modules: Modules, origin: BtfOrigin) -> Answer {
    if need.needs_kernel_btf() && origin == BtfOrigin::External {
        return Answer::new(Code::NeedsKernelBtf, Severity::LoadFails)
            .detail("this BTF is external: the kernel has none of its own");
    }
    let answer = match need {
        Need::Attach(target) => attach::answer(target, kernel, modules),
        Need::Argument { target, offset } => arguments::answer(target, *offset, kernel),
        Need::Pointee { target, offset, name } => arguments::pointee(target, *offset, name, kernel),
        Need::Bare { target, offset, at, size } => arguments::bare(target, *offset, *at, *size, kernel),
        Need::Kfunc { name, proto, is_weak } => symbols::kfunc(name, proto, *is_weak, kernel, modules),
        Need::Variable { name, ty, is_weak } => symbols::variable(name, ty, *is_weak, kernel, modules),
        Need::Address { name, is_weak } => symbols::address(name, *is_weak, kernel),
        Need::Kconfig { name, is_weak } => symbols::kconfig(name, *is_weak),
        Need::StructOps { ty, members } => struct_ops::answer(ty, members, kernel, modules),
    };
    if need.needs_kernel_btf() && origin == BtfOrigin::Unknown && answer.severity == Severity::Fine {
        return Answer::new(Code::NeedsKernelBtf, Severity::Conditional)
            .detail("nothing says whether this BTF is the kernel's own");
    }
    answer
}

/// Names and kinds that the answer to a need depends on; `None` if each kernel has to be asked by itself.
fn roots(need: &Need<'_>) -> Option<Vec<(Vec<u8>, Kind)>> {
    match need {
        Need::Attach(target) | Need::Argument { target, .. } => attach::roots(target),
        // What is behind a pointer does not show in the prototype.
        Need::Pointee { .. } | Need::Bare { .. } => None,
        Need::Kfunc { name, .. } => Some(vec![(name.to_vec(), Kind::Func)]),
        Need::Variable { name, .. } => Some(vec![(name.to_vec(), Kind::Var)]),
        Need::Address { name, .. } => Some(vec![(name.to_vec(), Kind::Var), (name.to_vec(), Kind::Func)]),
        Need::Kconfig { .. } => Some(Vec::new()),
        Need::StructOps { ty, .. } => Some(struct_ops::roots(ty)),
    }
}
