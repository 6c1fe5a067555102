//! Functions, variables and values that objects leave to the kernel.
//!
//! Source: `bpf_object__resolve_externs`, libbpf; spec 3.4.

use super::lookup::{find, module_name};
use super::{Answer, Code, Severity};
use crate::btf::{Btf, TypeId};
use crate::dialect::Rules;
use crate::fleet::Modules;
use crate::format::btf::Kind;
use crate::kallsyms::Listed;
use crate::kernel::Kernel;
use crate::query::LocalType;
use crate::resolve::{Budget, types_are_compat};

/// Values that libbpf makes up.
const VIRTUAL: [&[u8]; 3] = [b"LINUX_KERNEL_VERSION", b"LINUX_HAS_BPF_COOKIE", b"LINUX_HAS_SYSCALL_WRAPPER"];

/// Whether the kernel's type will do for the local one. libbpf takes an error for a no.
fn is_compat(local: &LocalType<'_>, btf: &Btf<'_>, id: TypeId) -> bool {
    types_are_compat(&Rules::LIBBPF, &local.btf, local.id, btf, id, &mut Budget::new()).unwrap_or(false)
}

pub(super) fn kfunc(
    name: &[u8],
    proto: &LocalType<'_>,
    is_weak: bool,
    kernel: &Kernel<'_>,
    modules: Modules,
) -> Answer {
    let found = find(kernel, name, Kind::Func);
    let missing = match is_weak {
        true => Answer::new(Code::KfuncMissingWeak, Severity::Fine),
        false => Answer::new(Code::KfuncMissing, Severity::LoadFails),
    };
    let check = |btf: &Btf<'_>, id: TypeId| -> Result<(), Answer> {
        let kernel_proto = btf.ty(id).map_or(TypeId::VOID, |it| it.target());
        if is_compat(proto, btf, kernel_proto) {
            return Ok(());
        }
        let text = format!(
            "the object expects `{}`, the kernel has `{}`",
            prototype(&proto.btf, proto.id, name, 0),
            prototype(btf, kernel_proto, name, 0),
        );
        // A weak one that does not fit is as good as none.
        let answer = match is_weak {
            true => missing.clone(),
            false => Answer::new(Code::KfuncProtoMismatch, Severity::LoadFails),
        };
        Err(answer.detail(text))
    };
    if let Some(id) = found.vmlinux {
        return check(&kernel.vmlinux.btf, id).err().unwrap_or_else(Answer::ok);
    }
    of_modules(kernel, modules, &found.modules, Code::KfuncModuleOnly, check).unwrap_or(missing)
}

pub(super) fn variable(
    name: &[u8],
    ty: &LocalType<'_>,
    is_weak: bool,
    kernel: &Kernel<'_>,
    modules: Modules,
) -> Answer {
    let found = find(kernel, name, Kind::Var);
    let check = |btf: &Btf<'_>, id: TypeId| -> Result<(), Answer> {
        let of_var = btf.ty(id).and_then(|it| btf.skip_mods_and_typedefs(it.target()));
        let of_var = of_var.map_or(TypeId::VOID, |it| it.0);
        if is_compat(ty, btf, of_var) {
            return Ok(());
        }
        let (expected, there) = (ty.btf.type_name(ty.id), btf.type_name(of_var));
        let text = format!("the object expects `{expected}`, the kernel has `{there}`");
        // Even a weak one has to fit, unlike a function.
        Err(Answer::new(Code::KsymTypeMismatch, Severity::LoadFails).detail(text))
    };
    if let Some(id) = found.vmlinux {
        return check(&kernel.vmlinux.btf, id).err().unwrap_or_else(Answer::ok);
    }
    of_modules(kernel, modules, &found.modules, Code::KsymModuleOnly, check)
        .unwrap_or_else(|| missing_symbol(is_weak))
}

fn missing_symbol(is_weak: bool) -> Answer {
    match is_weak {
        true => Answer::new(Code::KsymMissingWeak, Severity::Fine),
        false => Answer::new(Code::KsymMissing, Severity::LoadFails),
    }
}

/// What vmlinux lacks and some modules have. With all of them loaded the first decides.
fn of_modules(
    kernel: &Kernel<'_>,
    modules: Modules,
    found: &[(u32, TypeId)],
    code: Code,
    check: impl Fn(&Btf<'_>, TypeId) -> Result<(), Answer>,
) -> Option<Answer> {
    let checked = |&(module, id): &(u32, TypeId)| {
        let btf = kernel.modules.get(module as usize).map_or(&kernel.vmlinux.btf, |it| &it.indexed.btf);
        check(btf, id).map_err(|answer| answer.in_modules(vec![module_name(kernel, module)]))
    };
    let first = found.first()?;
    if modules == Modules::All {
        let in_first = || Answer::ok().in_modules(vec![module_name(kernel, first.0)]);
        return Some(checked(first).err().unwrap_or_else(in_first));
    }
    let fitting: Vec<String> =
        found.iter().filter(|it| checked(it).is_ok()).map(|it| module_name(kernel, it.0)).collect();
    if fitting.is_empty() {
        return checked(first).err();
    }
    Some(Answer::new(code, Severity::Conditional).in_modules(fitting))
}

/// An address is looked up in the running kernel's symbols. A FUNC or VAR of that name shows that there is one.
pub(super) fn address(name: &[u8], is_weak: bool, kernel: &Kernel<'_>) -> Answer {
    match kernel.kallsyms.as_ref().and_then(|it| it.symbol(name)) {
        Some(Listed::Once) => Answer::ok(),
        Some(Listed::Several(count)) => Answer::new(Code::TargetAmbiguous, Severity::LoadFails)
            .detail(format!("{count} symbols are called that")),
        Some(Listed::OnlyAs(other)) => missing_symbol(is_weak).detail(format!("there is only {other}")),
        Some(Listed::Absent) => missing_symbol(is_weak),
        None if is_weak => Answer::ok(),
        None if [Kind::Func, Kind::Var].iter().any(|kind| kernel.vmlinux.named(name, *kind).is_some()) => {
            Answer::ok()
        }
        None => Answer::new(Code::KsymNeedsKallsyms, Severity::Conditional)
            .detail("its address is looked up in the running kernel's symbols"),
    }
}

pub(super) fn kconfig(name: &[u8], is_weak: bool) -> Answer {
    if VIRTUAL.contains(&name) || is_weak && (name.starts_with(b"CONFIG_") || name.starts_with(b"LINUX_")) {
        Answer::ok()
    } else if name.starts_with(b"CONFIG_") {
        Answer::new(Code::KconfigUnknown, Severity::Conditional)
            .detail("the kernel's configuration has to have it")
    } else {
        Answer::new(Code::KconfigUnrecognized, Severity::LoadFails).detail("libbpf knows no such value")
    }
}

/// A prototype in C, without its first `hidden` parameters. Packs have no names of parameters.
pub(super) fn prototype(btf: &Btf<'_>, id: TypeId, name: &[u8], hidden: usize) -> String {
    let Some(proto) = btf.ty(id).filter(|it| it.kind == Kind::FuncProto) else { return btf.type_name(id) };
    let params = proto.params().skip(hidden).map(|it| match it.type_id {
        TypeId::VOID => "...".to_owned(),
        id => btf.type_name(id),
    });
    let params: Vec<String> = params.collect();
    let params = if params.is_empty() { "void".to_owned() } else { params.join(", ") };
    let returned = btf.type_name(proto.target());
    let space = if returned.ends_with('*') { "" } else { " " };
    format!("{returned}{space}{}({params})", String::from_utf8_lossy(name))
}
