//! Types of a kernel by their full name, in vmlinux and in modules.

use crate::btf::TypeId;
use crate::format::btf::Kind;
use crate::kernel::Kernel;

/// Where a name is found.
pub(super) struct Lookup {
    /// In vmlinux.
    pub(super) vmlinux: Option<TypeId>,
    /// In modules, by their number: types of their own. Empty where vmlinux has it, as nobody looks further.
    pub(super) modules: Vec<(u32, TypeId)>,
}

/// Looks `name` up. Source: `find_ksym_btf_id`, libbpf.
pub(super) fn find(kernel: &Kernel<'_>, name: &[u8], kind: Kind) -> Lookup {
    let vmlinux = kernel.vmlinux.named(name, kind);
    let modules = match vmlinux {
        Some(_) => Vec::new(),
        None => in_modules(kernel, name, kind).collect(),
    };
    Lookup { vmlinux, modules }
}

fn in_modules<'a>(
    kernel: &'a Kernel<'_>,
    name: &'a [u8],
    kind: Kind,
) -> impl Iterator<Item = (u32, TypeId)> + 'a {
    let numbered = (0_u32..).zip(&kernel.modules);
    numbered.filter_map(move |(number, module)| Some((number, module.indexed.named(name, kind)?)))
}

/// Name of a module by its number.
pub(super) fn module_name(kernel: &Kernel<'_>, module: u32) -> String {
    kernel.modules.get(module as usize).map(|it| it.name.clone()).unwrap_or_default()
}
