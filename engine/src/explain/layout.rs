//! The struct around a field, a few members on either side.

use crate::btf::{Btf, Member, TypeId};
use crate::format::btf::Kind;

/// Members shown before and after the marked one.
const AROUND: usize = 2;

/// Part of a struct or union.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `struct task_struct` or the like.
    pub title: String,
    /// Size in bytes.
    pub size: u32,
    /// Number of members that stand before the first row.
    pub before: usize,
    /// The members around the one in question.
    pub rows: Vec<LayoutRow>,
    /// Number of members behind the last row.
    pub after: usize,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutRow {
    /// Offset within the struct, in bits.
    pub bit_offset: u32,
    /// Width in bits if it is a bitfield, else 0.
    pub bitfield_size: u32,
    /// Size in bytes, if it has one.
    pub size: Option<u32>,
    /// Type and name as C writes them.
    pub declaration: String,
    /// Whether it is the one in question.
    pub marked: bool,
}

/// The part of struct `id` around the first member for which `wanted` holds, or its beginning. `None` if it
/// is no struct or union.
pub(super) fn around(btf: &Btf<'_>, id: TypeId, wanted: impl Fn(&Member) -> bool) -> Option<Layout> {
    let (id, ty) = btf.skip_mods_and_typedefs(id)?;
    if !ty.kind.is_composite() {
        return None;
    }
    let members: Vec<Member> = ty.members().collect();
    let at = members.iter().position(wanted);
    let middle = at.unwrap_or(0);
    let first = middle.saturating_sub(AROUND);
    let rows = members.iter().enumerate().skip(first).take(2 * AROUND + 1);
    let rows: Vec<LayoutRow> = rows.map(|(index, member)| row(btf, member, at == Some(index))).collect();
    Some(Layout {
        title: btf.type_name(id),
        size: ty.size(),
        before: first,
        after: members.len() - first - rows.len(),
        rows,
    })
}

fn row(btf: &Btf<'_>, member: &Member, marked: bool) -> LayoutRow {
    LayoutRow {
        bit_offset: member.bit_offset,
        bitfield_size: member.bitfield_size,
        size: btf.resolve_size(member.type_id).ok(),
        declaration: declaration(btf, member),
        marked,
    }
}

/// A member as C declares it: `unsigned int flags`, `char comm[16]`, `struct {…}`.
pub(super) fn declaration(btf: &Btf<'_>, member: &Member) -> String {
    let name = String::from_utf8_lossy(btf.name(member.name_off)).into_owned();
    let type_name = btf.type_name(member.type_id);
    if name.is_empty() {
        let kind = btf.skip_mods_and_typedefs(member.type_id).map_or(Kind::Void, |(_, ty)| ty.kind);
        return format!("{} {{…}}", kind.name());
    }
    let type_name = type_name.replace("<anon>", "{…}");
    // The dimensions of an array stand behind the name.
    match type_name.find('[') {
        Some(at) => {
            let (element, dimensions) = type_name.split_at(at);
            format!("{element} {name}{dimensions}")
        }
        None if type_name.ends_with('*') => format!("{type_name}{name}"),
        None => format!("{type_name} {name}"),
    }
}
