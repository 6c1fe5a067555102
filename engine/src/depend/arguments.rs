//! Arguments of a target that a program reads off its context, and the target no longer has.
//!
//! Source: `btf_ctx_access`, `get_ctx_arg_idx`, Linux.

use super::lookup::find;
use super::symbols::prototype;
use super::{Answer, Code, Severity};
use crate::btf::{Btf, Type, TypeId};
use crate::format::btf::Kind;
use crate::kernel::Kernel;
use crate::object::{AttachKind, AttachTarget};

/// Size of a place in the context, in **bytes**.
const PLACE: u64 = 8;

/// What is at a place of the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// An argument, of that type.
    Argument(TypeId),
    /// What the function returned, of that type.
    Returned(TypeId),
    /// Nothing: the verifier refuses the load.
    Nothing,
    /// It is not known how much room the arguments take.
    Unknown,
}

/// Whether a program of that kind has the arguments of its target in its context, by their types.
pub(super) fn has_arguments(kind: AttachKind) -> bool {
    kind == AttachKind::TpBtf || kind == AttachKind::Fentry || sees_result(kind)
}

/// Whether the returned value stands behind the arguments.
fn sees_result(kind: AttachKind) -> bool {
    matches!(
        kind,
        AttachKind::Fexit
            | AttachKind::FmodRet
            | AttachKind::Fsession
            | AttachKind::Lsm
            | AttachKind::LsmCgroup
    )
}

/// Whether there is something at `offset` bytes into the context. Of a target that is missing, nothing is said here.
pub(super) fn answer(target: &AttachTarget<'_>, offset: u32, kernel: &Kernel<'_>) -> Answer {
    let (Some(name), Some((prefix, kind))) = (target.name, target.kind.in_btf()) else { return Answer::ok() };
    let full = [prefix.as_bytes(), name].concat();
    let found = find(kernel, &full, kind);
    let in_modules = found.modules.iter().filter_map(|(module, id)| {
        let module = kernel.modules.get(*module as usize)?;
        Some((&module.indexed.btf, *id))
    });
    let in_vmlinux = found.vmlinux.map(|id| (&kernel.vmlinux.btf, id));
    let mut text = None;
    for (btf, id) in in_vmlinux.into_iter().chain(in_modules) {
        let Some((proto_id, proto)) = proto_of(btf, id) else { return Answer::ok() };
        if place(btf, &proto, target.kind, offset) != Place::Nothing {
            return Answer::ok();
        }
        let number = u64::from(offset) / PLACE + 1;
        let hidden = usize::from(target.kind == AttachKind::TpBtf);
        let shown = prototype(btf, proto_id, name, hidden);
        text.get_or_insert_with(|| format!("the program reads argument {number}, the kernel has `{shown}`"));
    }
    match text {
        Some(text) => Answer::new(Code::ArgumentMissing, Severity::LoadFails).detail(text),
        None => Answer::ok(),
    }
}

/// The prototype of a FUNC, or of the pointer to a function that a `btf_trace_*` typedef stands for.
pub(super) fn proto_of<'data>(btf: &Btf<'data>, id: TypeId) -> Option<(TypeId, Type<'data>)> {
    let mut id = id;
    for _ in 0..3 {
        let ty = btf.ty(id)?;
        match ty.kind {
            Kind::FuncProto => return Some((id, ty)),
            Kind::Func | Kind::Typedef | Kind::Ptr => id = ty.target(),
            _ => return None,
        }
    }
    btf.ty(id).filter(|it| it.kind == Kind::FuncProto).map(|it| (id, it))
}

/// What is at `offset` bytes into the context of a program that attaches to a function of that prototype.
pub(super) fn place(btf: &Btf<'_>, proto: &Type<'_>, kind: AttachKind, offset: u32) -> Place {
    let wanted = u64::from(offset) / PLACE;
    let mut next = 0;
    // The first argument of tracepoints is not for programs.
    for param in proto.params().skip(usize::from(kind == AttachKind::TpBtf)) {
        let Some(count) = places(btf, param.type_id) else { return Place::Unknown };
        next += count;
        if wanted < next {
            return Place::Argument(param.type_id);
        }
    }
    let returned = proto.target();
    let returns = btf.skip_mods_and_typedefs(returned).is_some_and(|it| it.1.kind != Kind::Void);
    match sees_result(kind) && returns {
        true => match places(btf, returned) {
            Some(count) if wanted < next + count => Place::Returned(returned),
            Some(_) => Place::Nothing,
            None => Place::Unknown,
        },
        false => Place::Nothing,
    }
}

/// How many places an argument takes; `None` if its type has no size, as what stands for more arguments.
fn places(btf: &Btf<'_>, id: TypeId) -> Option<u64> {
    let (id, ty) = btf.skip_mods_and_typedefs(id)?;
    match ty.kind {
        Kind::Ptr => Some(1),
        Kind::Void => None,
        _ => btf.resolve_size(id).ok().map(|it| u64::from(it).div_ceil(PLACE).max(1)),
    }
}
