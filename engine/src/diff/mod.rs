//! What changed between two kernels: types, members, enumerators, functions, all of them or those that some objects
//! depend on.
//!
//! Types are paired by kind and full name, within vmlinux and within modules of the same name. Of several types of
//! one name those with equal shapes are paired first, the others in their order.

mod scope;

pub use scope::Scope;

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::btf::{Btf, Member, Type, TypeId, same_shape};
use crate::format::btf::Kind;
use crate::kernel::{Indexed, Kernel};

/// Anonymous members nested in each other that are looked into; deeper ones exist in hostile BTF only.
const ANONYMOUS_DEPTH_MAX: usize = 16;

/// One type, function or variable that is not the same in both kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The module that it is in; `None` is vmlinux.
    pub module: Option<String>,
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub what: What,
}

/// What became of a type, function or variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Only the second kernel has it.
    Appeared,
    /// Only the first one has it.
    Vanished,
    /// Both have it.
    Changed {
        /// Sizes in bytes, if they differ.
        size: Option<(u32, u32)>,
        /// Declarations of a function, variable, typedef or number, if they differ.
        declaration: Option<(String, String)>,
        /// Members or enumerators that differ, in the order of the first kernel, then those that only the second has.
        parts: Vec<Part>,
    },
}

/// One member or enumerator that is not the same. At least one of the two is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// As it is in the first kernel.
    pub old: Option<PartView>,
    /// As it is in the second kernel.
    pub new: Option<PartView>,
}

/// A member or an enumerator of one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartView {
    /// A member.
    Member {
        /// Offset in bits.
        bit_offset: u32,
        /// Width in bits if it is a bitfield, else 0.
        bitfield_size: u32,
        /// Size in bytes, if it has one.
        size: Option<u32>,
        /// Its type as C writes it.
        type_name: String,
    },
    /// An enumerator and its value.
    Enumerator(u64),
}

/// Compares two kernels. `scope`: what to look at; everything if there is none.
pub fn diff(old: &Kernel<'_>, new: &Kernel<'_>, scope: Option<&Scope>) -> Vec<Change> {
    let mut changes = Vec::new();
    units(&old.vmlinux, &new.vmlinux, None, scope, &mut changes);
    for module in &old.modules {
        if let Some(other) = new.modules.iter().find(|it| it.name == module.name) {
            units(&module.indexed, &other.indexed, Some(&module.name), scope, &mut changes);
        }
    }
    changes
}

/// Names of modules that only one of two kernels has: those of the first, and those of the second.
pub fn modules<'a>(old: &'a Kernel<'_>, new: &'a Kernel<'_>) -> (Vec<&'a str>, Vec<&'a str>) {
    let only = |one: &'a Kernel<'_>, other: &Kernel<'_>| {
        let names = one.modules.iter().map(|it| it.name.as_str());
        names.filter(|name| !other.modules.iter().any(|it| it.name == *name)).collect()
    };
    (only(old, new), only(new, old))
}

/// Types by kind and name, sorted, each name's in the order of their ids.
type ByName<'a> = BTreeMap<(Kind, &'a [u8]), Vec<TypeId>>;

fn by_name<'a>(indexed: &'a Indexed<'_>, scope: Option<&Scope>) -> ByName<'a> {
    let mut found = ByName::new();
    for (_, id) in indexed.types() {
        let Some(ty) = indexed.btf.ty(id) else { continue };
        let kind = match ty.kind {
            Kind::Enum64 => Kind::Enum,
            Kind::Struct
            | Kind::Union
            | Kind::Enum
            | Kind::Typedef
            | Kind::Func
            | Kind::Var
            | Kind::Int
            | Kind::Float => ty.kind,
            // Declarations, sections and tags are not what programs read.
            _ => continue,
        };
        let name = indexed.btf.name(ty.name_off);
        if scope.is_none_or(|it| it.contains(kind, name)) {
            found.entry((kind, name)).or_default().push(id);
        }
    }
    found
}

fn units(
    old: &Indexed<'_>,
    new: &Indexed<'_>,
    module: Option<&str>,
    scope: Option<&Scope>,
    changes: &mut Vec<Change>,
) {
    let (old_types, new_types) = (by_name(old, scope), by_name(new, scope));
    let keys: std::collections::BTreeSet<_> = old_types.keys().chain(new_types.keys()).copied().collect();
    for (kind, name) in keys {
        let of = |types: &ByName<'_>| types.get(&(kind, name)).cloned().unwrap_or_default();
        let (mut olds, mut news) = (of(&old_types), of(&new_types));
        drop_same(&old.btf, &mut olds, &new.btf, &mut news);
        let parts_wanted = |part: &[u8]| scope.is_none_or(|it| it.contains_part(kind, name, part));
        for at in 0..olds.len().max(news.len()) {
            let what = match (olds.get(at), news.get(at)) {
                (Some(&a), Some(&b)) => {
                    let what = compare((&old.btf, a), (&new.btf, b), &parts_wanted);
                    let nothing = matches!(
                        &what,
                        What::Changed { size: None, declaration: None, parts } if parts.is_empty()
                    );
                    if nothing {
                        continue;
                    }
                    what
                }
                (Some(_), None) => What::Vanished,
                _ => What::Appeared,
            };
            let name = String::from_utf8_lossy(name).into_owned();
            changes.push(Change { module: module.map(str::to_owned), kind, name, what });
        }
    }
}

/// Takes out pairs of equal shapes.
fn drop_same(old_btf: &Btf<'_>, olds: &mut Vec<TypeId>, new_btf: &Btf<'_>, news: &mut Vec<TypeId>) {
    olds.retain(|&old| {
        let same = news.iter().position(|&new| same_shape((old_btf, old), (new_btf, new)));
        same.map(|at| news.remove(at)).is_none()
    });
}

fn compare(old: (&Btf<'_>, TypeId), new: (&Btf<'_>, TypeId), wanted: &impl Fn(&[u8]) -> bool) -> What {
    let resolved =
        |(btf, id): (&Btf<'_>, TypeId)| btf.skip_mods_and_typedefs(id).map(|(id, _)| id).unwrap_or(id);
    let declaration = |(btf, id): (&Btf<'_>, TypeId)| declaration(btf, id);
    let (old_text, new_text) = (declaration(old), declaration(new));
    let mut parts = Vec::new();
    let (old_parts, new_parts) = (parts_of(old.0, resolved(old)), parts_of(new.0, resolved(new)));
    let index: HashMap<&[u8], &NamedPart<'_>> = new_parts.iter().map(|it| (it.name, it)).collect();
    for part in old_parts.iter().filter(|it| wanted(it.name)) {
        let other = index.get(part.name);
        let same = other.is_some_and(|other| {
            other.view == part.view && same_type((old.0, part.type_id), (new.0, other.type_id))
        });
        if !same {
            parts.push(Part {
                name: String::from_utf8_lossy(part.name).into_owned(),
                old: Some(part.view.clone()),
                new: other.map(|it| it.view.clone()),
            });
        }
    }
    let known: HashMap<&[u8], ()> = old_parts.iter().map(|it| (it.name, ())).collect();
    for part in new_parts.iter().filter(|it| wanted(it.name) && !known.contains_key(it.name)) {
        let name = String::from_utf8_lossy(part.name).into_owned();
        parts.push(Part { name, old: None, new: Some(part.view.clone()) });
    }
    let sizes = (old.0.resolve_size(old.1).ok(), new.0.resolve_size(new.1).ok());
    What::Changed {
        size: sizes.0.zip(sizes.1).filter(|(old, new)| old != new),
        declaration: (old_text != new_text).then_some((old_text, new_text)),
        parts,
    }
}

/// Whether members' types are the same; enumerators have none.
fn same_type(old: (&Btf<'_>, Option<TypeId>), new: (&Btf<'_>, Option<TypeId>)) -> bool {
    match (old.1, new.1) {
        (Some(a), Some(b)) => same_shape((old.0, a), (new.0, b)),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// What stands behind the name of a function, variable or typedef.
fn declaration(btf: &Btf<'_>, id: TypeId) -> String {
    let Some(ty) = btf.ty(id) else { return String::new() };
    match ty.kind {
        Kind::Func => prototype(btf, ty.target()),
        Kind::Typedef | Kind::Var => btf.type_name(ty.target()),
        Kind::Int => format!(
            "{}{} bits{}",
            if ty.is_signed() { "signed, " } else { "" },
            ty.int_bits(),
            if ty.int_offset() == 0 { String::new() } else { format!(" at bit {}", ty.int_offset()) }
        ),
        _ => String::new(),
    }
}

/// `int (struct sk_buff *, int)`.
fn prototype(btf: &Btf<'_>, id: TypeId) -> String {
    let Some(proto) = btf.ty(id).filter(|it| it.kind == Kind::FuncProto) else { return btf.type_name(id) };
    let count = proto.params().len();
    let params = proto.params().enumerate().map(|(at, param)| match param.type_id {
        TypeId::VOID if at + 1 == count => "...".to_owned(),
        id => btf.type_name(id),
    });
    let params: Vec<String> = params.collect();
    let params = if params.is_empty() { "void".to_owned() } else { params.join(", ") };
    format!("{} ({params})", btf.type_name(proto.target()))
}

/// A member or enumerator with its name.
struct NamedPart<'a> {
    name: &'a [u8],
    view: PartView,
    type_id: Option<TypeId>,
}

/// Named members, those of anonymous members included, or enumerators; the first of each name.
fn parts_of<'a>(btf: &Btf<'a>, id: TypeId) -> Vec<NamedPart<'a>> {
    let Some(ty) = btf.ty(id) else { return Vec::new() };
    let mut found = Vec::new();
    members(btf, &ty, 0, 0, &mut found);
    found.extend(ty.enumerators().map(|it| NamedPart {
        name: btf.name(it.name_off),
        view: PartView::Enumerator(it.value),
        type_id: None,
    }));
    found
}

fn members<'a>(btf: &Btf<'a>, ty: &Type<'a>, base: u32, depth: usize, found: &mut Vec<NamedPart<'a>>) {
    for member in ty.members() {
        let bit_offset = base.wrapping_add(member.bit_offset);
        if !btf.is_anonymous(member.name_off) {
            found.push(named(btf, &member, bit_offset));
        } else if depth < ANONYMOUS_DEPTH_MAX
            && let Some((_, inner)) = btf.skip_mods_and_typedefs(member.type_id)
        {
            members(btf, &inner, bit_offset, depth + 1, found);
        }
    }
}

fn named<'a>(btf: &Btf<'a>, member: &Member, bit_offset: u32) -> NamedPart<'a> {
    NamedPart {
        name: btf.name(member.name_off),
        view: PartView::Member {
            bit_offset,
            bitfield_size: member.bitfield_size,
            size: btf.resolve_size(member.type_id).ok(),
            type_name: btf.type_name(member.type_id),
        },
        type_id: Some(member.type_id),
    }
}
