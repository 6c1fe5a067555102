//! Split BTF on a distilled base: mapped onto the kernel that it is to be used with.
//!
//! Modules built out of tree carry `.BTF.base`, a small base with just the names and sizes that their
//! `.BTF` refers to. Source: `src/btf_relocate.c`, libbpf; spec 1.11 has the rules and their oddities.

use std::sync::Arc;

use hashbrown::HashMap;

use super::parse::parse_header;
use super::{Btf, BtfError, Type, TypeId};
use crate::format::btf::{Kind, TYPE_LEN};

/// What a distilled type is mapped to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mapping {
    Unset,
    /// Unset, and a split struct contains it by value: its size has to be right.
    Embedded,
    /// A type of the kernel.
    To(TypeId),
}

/// Rewrites `split`, a split BTF on the distilled base `distilled`, into one on `base`.
///
/// Returns the blob with type ids and string offsets replaced; [`Btf::parse_split`] on `base` reads it.
///
/// # Errors
/// [`BtfError::Distilled`] where libbpf's `btf__relocate` fails, and the errors of parsing.
pub fn relocate_distilled(split: &[u8], distilled: &[u8], base: &Btf<'_>) -> Result<Vec<u8>, BtfError> {
    let sections = parse_header(split)?;
    let types_at = usize::try_from(sections.types_at).unwrap_or(usize::MAX);
    let distilled = Arc::new(Btf::parse(distilled)?);
    let split_btf = Btf::parse_split(split, Arc::clone(&distilled))?;
    let map = map_distilled(&distilled, &split_btf, base)?;

    let dist_count = distilled.type_count();
    let new_id = |id: u32| match map.get(id as usize) {
        Some(Mapping::To(target)) => target.0,
        Some(_) => 0, // only void is left unmapped
        None => id - dist_count + base.type_count(),
    };
    let (dist_str_len, base_str_len) = (distilled.str_end(), base.str_end());
    let names = distilled_names(&distilled, base, &map);
    let new_str = |off: u32| {
        if off == 0 {
            Ok(0)
        } else if off >= dist_str_len {
            Ok(off - dist_str_len + base_str_len)
        } else {
            names.get(&off).copied().ok_or_else(|| BtfError::Distilled {
                id: 0,
                name: String::from_utf8_lossy(distilled.name(off)).into_owned(),
                what: "the string belongs to no type that was mapped",
            })
        }
    };

    let mut out = split.to_vec();
    let endian = split_btf.endian();
    let mut at = types_at;
    for (_, ty) in split_btf.own_types() {
        let mut put = |off: usize, new: &dyn Fn(u32) -> Result<u32, BtfError>| -> Result<(), BtfError> {
            let old = endian.u32_at(split, off).unwrap_or(0);
            let value = endian.u32_bytes(new(old)?);
            if let Some(bytes) = out.get_mut(off..off + 4) {
                bytes.copy_from_slice(&value);
            }
            Ok(())
        };
        let id = |old| Ok(new_id(old));
        let vlen = ty.vlen() as usize;
        let (fixed, per_elem) = ty.kind.tail_len().unwrap_or((0, 0));
        let tail = at + TYPE_LEN;
        put(at, &new_str)?;
        match ty.kind {
            Kind::Ptr
            | Kind::Typedef
            | Kind::Volatile
            | Kind::Const
            | Kind::Restrict
            | Kind::Var
            | Kind::DeclTag
            | Kind::TypeTag
            | Kind::Func => put(at + 8, &id)?,
            Kind::Array => {
                put(tail, &id)?;
                put(tail + 4, &id)?;
            }
            Kind::Struct | Kind::Union | Kind::FuncProto => {
                if ty.kind == Kind::FuncProto {
                    put(at + 8, &id)?;
                }
                for elem in 0..vlen {
                    put(tail + elem * per_elem, &new_str)?;
                    put(tail + elem * per_elem + 4, &id)?;
                }
            }
            Kind::Enum | Kind::Enum64 => {
                for elem in 0..vlen {
                    put(tail + elem * per_elem, &new_str)?;
                }
            }
            Kind::Datasec => {
                for elem in 0..vlen {
                    put(tail + elem * per_elem, &id)?;
                }
            }
            Kind::Void | Kind::Int | Kind::Fwd | Kind::Float => {}
            Kind::Unknown(kind) => {
                return Err(BtfError::UnknownKind { offset: at as u64, id: 0, kind });
            }
        }
        at = tail + fixed + vlen * per_elem;
    }
    Ok(out)
}

fn fail(distilled: &Btf<'_>, id: u32, what: &'static str) -> BtfError {
    let name = distilled.ty(TypeId(id)).map(|ty| distilled.name(ty.name_off)).unwrap_or_default();
    BtfError::Distilled { id, name: String::from_utf8_lossy(name).into_owned(), what }
}

/// For each distilled id, void included, the kernel's type.
fn map_distilled(distilled: &Btf<'_>, split: &Btf<'_>, base: &Btf<'_>) -> Result<Vec<Mapping>, BtfError> {
    let mut map = vec![Mapping::Unset; distilled.type_count() as usize];
    let mut by_name: HashMap<&[u8], Vec<(TypeId, Type<'_>)>> = HashMap::new();
    for (id, ty) in distilled.own_types() {
        match ty.kind {
            Kind::Int | Kind::Float | Kind::Enum | Kind::Struct | Kind::Union | Kind::Fwd => {}
            _ => return Err(fail(distilled, id.0, "no kind that a distilled base may have")),
        }
        if ty.name_off == 0 {
            return Err(fail(distilled, id.0, "it has no name"));
        }
        by_name.entry(distilled.name(ty.name_off)).or_default().push((id, ty));
    }
    mark_embedded(distilled, split, &mut map);

    // How many composites of the kernel share a name: only then does their size matter. Counted by
    // string offset, as libbpf does.
    let mut composites: HashMap<u32, u32> = HashMap::new();
    let base_types = || (1..base.type_count()).filter_map(|id| Some((TypeId(id), base.ty(TypeId(id))?)));
    for (_, ty) in base_types().filter(|(_, ty)| ty.kind.is_composite() && ty.name_off != 0) {
        *composites.entry(ty.name_off).or_default() += 1;
    }
    for (base_id, base_ty) in base_types().filter(|(_, ty)| ty.name_off != 0) {
        let size_matters = match base_ty.kind {
            Kind::Int | Kind::Float | Kind::Enum | Kind::Enum64 => true,
            Kind::Fwd => false,
            Kind::Struct | Kind::Union => composites.get(&base_ty.name_off).is_some_and(|&n| n > 1),
            _ => continue,
        };
        let Some(same_name) = by_name.get(base.name(base_ty.name_off)) else { continue };
        for &(id, ty) in same_name {
            // libbpf keeps sizes in 31 bits here.
            if size_matters && (ty.size() ^ base_ty.size()) & 0x7fff_ffff != 0 {
                continue;
            }
            let Some(entry) = map.get_mut(id.0 as usize) else { continue };
            if !kinds_agree(ty, base_ty, *entry == Mapping::Embedded) {
                continue;
            }
            if matches!(entry, Mapping::To(_)) {
                return Err(fail(distilled, id.0, "several types of the kernel fit"));
            }
            *entry = Mapping::To(base_id);
        }
    }
    let unmapped = map.iter().skip(1).position(|entry| !matches!(entry, Mapping::To(_)));
    match unmapped.and_then(|slot| u32::try_from(slot + 1).ok()) {
        Some(id) => Err(fail(distilled, id, "no type of the kernel fits")),
        None => Ok(map),
    }
}

fn kinds_agree(distilled: Type<'_>, base: Type<'_>, embedded: bool) -> bool {
    match distilled.kind {
        // QUIRK: for structs and unions the kind flag says "has bitfields", not which of the two it is.
        Kind::Fwd => match base.kind {
            Kind::Fwd => distilled.kind_flag() == base.kind_flag(),
            Kind::Struct => !base.kind_flag(),
            Kind::Union => base.kind_flag(),
            _ => false,
        },
        Kind::Int => base.kind == Kind::Int && base.int_encoding() == distilled.int_encoding(),
        Kind::Float => base.kind == Kind::Float,
        Kind::Enum => base.kind.is_any_enum(),
        // QUIRK: the kernel type's kind is not looked at.
        Kind::Struct | Kind::Union => !embedded || base.size() == distilled.size(),
        _ => false,
    }
}

/// Marks the distilled composites that a split composite contains by value.
fn mark_embedded(distilled: &Btf<'_>, split: &Btf<'_>, map: &mut [Mapping]) {
    for member in split.own_types().flat_map(|(_, ty)| ty.members()) {
        let mut id = member.type_id;
        // HARDEN: libbpf follows a cycle for ever.
        for _ in 0..split.type_count() {
            let Some(ty) = split.ty(id) else { break };
            match ty.kind {
                kind if kind.is_mod_or_typedef() => id = ty.target(),
                Kind::Array => id = ty.array().elem,
                kind if kind.is_composite() && id.0 < distilled.type_count() => {
                    if let Some(entry) = map.get_mut(id.0 as usize) {
                        *entry = Mapping::Embedded;
                    }
                    break;
                }
                _ => break,
            }
        }
    }
}

/// String offsets of the distilled base to those of the kernel's same strings.
fn distilled_names(distilled: &Btf<'_>, base: &Btf<'_>, map: &[Mapping]) -> HashMap<u32, u32> {
    let mut names = HashMap::new();
    for (id, ty) in distilled.own_types() {
        if let Some(Mapping::To(target)) = map.get(id.0 as usize)
            && let Some(base_ty) = base.ty(*target)
        {
            names.insert(ty.name_off, base_ty.name_off);
        }
    }
    names
}
