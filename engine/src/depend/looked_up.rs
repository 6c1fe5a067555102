//! What answers look at in a kernel's BTF, for those who keep only that.

use super::arguments::{FIRST_MEMBERS_MAX, has_strangers, pointed, read_bare};
use super::{Need, attach, struct_ops};
use crate::btf::{Btf, TypeId};
use crate::format::btf::Kind;
use crate::kernel::Kernel;

/// A type that an answer looks up by its full name, in vmlinux, and where that lacks it in the modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LookedUp {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) extent: Extent,
}

/// How much of a type counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// That it is there.
    Name,
    /// What it takes, returns or holds, down to the names of structs.
    Interface,
    /// Its members.
    Members,
    /// Its members, and the prototypes of the functions that they point to.
    Functions,
}

impl LookedUp {
    pub(super) fn new(name: impl Into<Vec<u8>>, kind: Kind, extent: Extent) -> Self {
        Self { name: name.into(), kind, extent }
    }
}

/// All that an answer to `need` looks up, on any kernel.
pub(crate) fn looked_up(need: &Need<'_>) -> Vec<LookedUp> {
    match need {
        Need::Attach(target)
        | Need::Argument { target, .. }
        | Need::Pointee { target, .. }
        | Need::Bare { target, .. } => attach::looked_up(target),
        Need::Kfunc { name, .. } => vec![LookedUp::new(*name, Kind::Func, Extent::Interface)],
        Need::Variable { name, .. } => vec![LookedUp::new(*name, Kind::Var, Extent::Interface)],
        Need::Address { name, .. } => {
            [Kind::Var, Kind::Func].map(|kind| LookedUp::new(*name, kind, Extent::Name)).to_vec()
        }
        Need::Kconfig { .. } => Vec::new(),
        Need::StructOps { ty, .. } => struct_ops::looked_up(ty),
    }
}

/// Whether modules of that name have to be there, whatever is in them.
pub(crate) fn wants_module(need: &Need<'_>, module: &str) -> bool {
    matches!(need, Need::Attach(target) if target.module.is_some_and(|it| module.as_bytes().starts_with(it)))
}

/// Structs of vmlinux that an answer about an argument looks into, each with the numbers of the members that count.
pub(crate) fn looked_into(need: &Need<'_>, kernel: &Kernel<'_>) -> Vec<(TypeId, Vec<u32>)> {
    let btf = &kernel.vmlinux.btf;
    match need {
        Need::Pointee { target, offset, name } => {
            let Some(there) = pointed(target, *offset, kernel) else { return Vec::new() };
            let strangers = has_strangers(&there, name, kernel);
            let mut found = vec![(there.id, Vec::new())];
            for id in strangers.into_iter().flat_map(|wanted| [there.id, wanted]) {
                let count = btf.ty(id).map_or(0, |it| it.vlen());
                found.push((id, (0..count).collect()));
                found.extend(first_members(btf, id));
            }
            found
        }
        Need::Bare { target, offset, at, .. } => {
            let there = pointed(target, *offset, kernel);
            there.into_iter().map(|it| (it.id, read_bare(&it, *at).into_iter().collect())).collect()
        }
        _ => Vec::new(),
    }
}

/// The structs that a struct starts with, one in the other.
fn first_members(btf: &Btf<'_>, id: TypeId) -> Vec<(TypeId, Vec<u32>)> {
    let mut found = Vec::new();
    let mut id = id;
    for _ in 0..FIRST_MEMBERS_MAX {
        found.push((id, vec![0]));
        let first = btf.ty(id).and_then(|it| it.member(0));
        match first.and_then(|it| btf.skip_mods_and_typedefs(it.type_id)) {
            Some((inner, _)) => id = inner,
            None => break,
        }
    }
    found
}
