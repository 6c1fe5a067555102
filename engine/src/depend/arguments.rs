//! Arguments of a target that a program reads off its context: whether the target has them, and whether they point to what
//! the program takes them for.
//!
//! Source: `btf_ctx_access`, `get_ctx_arg_idx`, Linux.

use hashbrown::HashSet;

use super::lookup::find;
use super::symbols::prototype;
use super::{Answer, Code, Severity};
use crate::btf::{Btf, Type, TypeId, essential_name};
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

/// Steps down first members before two structs count as strangers.
pub(super) const FIRST_MEMBERS_MAX: usize = 16;
/// Structs whose layout is fixed for user space.
const FIXED: [&[u8]; 2] = [b"pt_regs", b"user_pt_regs"];

/// What an argument of the target in vmlinux points to, if that is a struct or union with a name.
pub(super) struct Pointed<'k, 'data> {
    btf: &'k Btf<'data>,
    pub(super) id: TypeId,
    /// Its name without flavor.
    name: &'data [u8],
    /// The target's prototype in C.
    shown: String,
}

pub(super) fn pointed<'k, 'data>(
    target: &AttachTarget<'_>,
    offset: u32,
    kernel: &'k Kernel<'data>,
) -> Option<Pointed<'k, 'data>> {
    let (prefix, kind) = target.kind.in_btf()?;
    let btf = &kernel.vmlinux.btf;
    let id = kernel.vmlinux.named(&[prefix.as_bytes(), target.name?].concat(), kind)?;
    let (proto_id, proto) = proto_of(btf, id)?;
    let (Place::Argument(ty) | Place::Returned(ty)) = place(btf, &proto, target.kind, offset) else {
        return None;
    };
    let (_, pointer) = btf.skip_mods_and_typedefs(ty).filter(|it| it.1.kind == Kind::Ptr)?;
    let (_, to) = btf.skip_mods_and_typedefs(pointer.target())?;
    let full = btf.name(to.name_off);
    let is_meant = matches!(to.kind, Kind::Struct | Kind::Union) && !full.is_empty();
    // In packs, what a pointer leads to has no members.
    let id = kernel.vmlinux.named(full, to.kind).filter(|_| is_meant)?;
    let hidden = usize::from(target.kind == AttachKind::TpBtf);
    let shown = prototype(btf, proto_id, target.name?, hidden);
    Some(Pointed { btf, id, name: essential_name(full), shown })
}

/// Whether an argument points to a struct called `name`, to one that starts with it or that it starts with, or to one that
/// is like it but for its name.
pub(super) fn pointee(target: &AttachTarget<'_>, offset: u32, name: &[u8], kernel: &Kernel<'_>) -> Answer {
    let Some(there) = pointed(target, offset, kernel) else { return Answer::ok() };
    let Some(wanted) = has_strangers(&there, name, kernel) else { return Answer::ok() };
    let is_same = has_members_of(there.btf, there.id, wanted)
        || starts_with(there.btf, there.id, name)
        || starts_with(there.btf, wanted, there.name);
    if is_same {
        return Answer::ok();
    }
    let number = u64::from(offset) / PLACE + 1;
    let wanted = String::from_utf8_lossy(name);
    let text = format!(
        "the program reads argument {number} as `struct {wanted} *`, the kernel has `{}`",
        there.shown
    );
    Answer::new(Code::ArgumentChanged, Severity::Drifts).detail(text)
}

/// The kernel's struct called `name`, if what is there has another name.
pub(super) fn has_strangers(there: &Pointed<'_, '_>, name: &[u8], kernel: &Kernel<'_>) -> Option<TypeId> {
    let wanted = [Kind::Struct, Kind::Union].into_iter().find_map(|it| kernel.vmlinux.named(name, it));
    // What the kernel does not have is no field of it either.
    wanted.filter(|_| there.name != name)
}

/// Whether a struct has the named members of another at the same places: `sockaddr` and `sockaddr_unsized`.
fn has_members_of(btf: &Btf<'_>, id: TypeId, other: TypeId) -> bool {
    let (Some(ty), Some(other)) = (btf.ty(id), btf.ty(other)) else { return false };
    let named = |ty: &Type<'_>| -> HashSet<(&[u8], u32)> {
        let members = ty.members().map(|it| (btf.name(it.name_off), it.bit_offset));
        members.filter(|it| !it.0.is_empty()).collect()
    };
    let wanted = named(&other);
    !wanted.is_empty() && wanted.is_subset(&named(&ty))
}

/// Whether the first member of a struct, or the first member of that, and so on, is a struct called `name`.
fn starts_with(btf: &Btf<'_>, id: TypeId, name: &[u8]) -> bool {
    let mut id = id;
    for _ in 0..FIRST_MEMBERS_MAX {
        let first = btf.ty(id).and_then(|it| it.member(0));
        let Some((inner, ty)) = first.and_then(|it| btf.skip_mods_and_typedefs(it.type_id)) else {
            return false;
        };
        if essential_name(btf.name(ty.name_off)) == name {
            return true;
        }
        id = inner;
    }
    false
}

/// A load of `size` bytes at `at` behind an argument, which no record keeps at the field that was meant.
pub(super) fn bare(
    target: &AttachTarget<'_>,
    offset: u32,
    at: i16,
    size: u32,
    kernel: &Kernel<'_>,
) -> Answer {
    let Some(there) = pointed(target, offset, kernel) else { return Answer::ok() };
    let ty = there.btf.ty(there.id);
    let Some(member) = read_bare(&there, at).and_then(|it| ty?.member(it)) else { return Answer::ok() };
    let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let (of, member) = (name(there.name), name(there.btf.name(member.name_off)));
    let text = format!(
        "{size} bytes at byte {at} of struct {of} are read without a record: `{member}` in this kernel, whatever was meant"
    );
    Answer::new(Code::FieldNotRelocated, Severity::Drifts).detail(text)
}

/// Number of the member that is at `at` bytes, unless the layout is fixed.
pub(super) fn read_bare(there: &Pointed<'_, '_>, at: i16) -> Option<u32> {
    let at = u32::try_from(at).ok().filter(|_| !FIXED.contains(&there.name))?;
    let members = (0..).zip(there.btf.ty(there.id)?.members());
    let before = members.filter(|it| it.1.bit_offset / 8 <= at);
    before.max_by_key(|it| it.1.bit_offset).map(|it| it.0)
}
