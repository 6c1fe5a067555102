//! Where C puts the members of a struct, and what has to be written so that it puts them where the BTF says.

use std::cell::RefCell;

use hashbrown::HashMap;

use crate::btf::{Btf, Member, Type, TypeId};
use crate::format::btf::Kind;

/// Structs by value within each other; and steps along arrays and modifiers. Real ones have some ten.
const DEPTH_MAX: u32 = 64;

/// How a struct has to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Alignment in **bytes**.
    pub(super) align: u32,
    pub(super) is_packed: bool,
}

/// A member as it is to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    /// **Bits** of padding in front of it: where they start and where they end.
    pub(super) padding: Option<(u64, u64)>,
    /// Width in **bits** if it is a bitfield.
    pub(super) bits: Option<u32>,
}

/// Layouts of a BTF's structs.
pub(super) struct Layouts<'b, 'data> {
    btf: &'b Btf<'data>,
    known: RefCell<HashMap<TypeId, Option<Layout>>>,
}

impl<'b, 'data> Layouts<'b, 'data> {
    pub(super) fn new(btf: &'b Btf<'data>) -> Self {
        Self { btf, known: RefCell::default() }
    }

    /// The layout of a struct or union.
    pub(super) fn of(&self, id: TypeId) -> Layout {
        self.of_struct(id, DEPTH_MAX)
    }

    fn of_struct(&self, id: TypeId, depth: u32) -> Layout {
        const BYTES: Layout = Layout { align: 1, is_packed: true };
        let Some(ty) = self.btf.ty(id).filter(|it| it.kind.is_composite()) else { return BYTES };
        // One that is in itself has no layout.
        if let Some(known) = self.known.borrow().get(&id) {
            return known.unwrap_or(BYTES);
        }
        self.known.borrow_mut().insert(id, None);
        let align = ty.members().map(|it| self.align(it.type_id, depth)).max().unwrap_or(1);
        let (_, fits) = self.placed(ty, align, false);
        let layout = if fits { Layout { align, is_packed: false } } else { BYTES };
        self.known.borrow_mut().insert(id, Some(layout));
        layout
    }

    /// Alignment of a type in **bytes**.
    fn align(&self, id: TypeId, depth: u32) -> u32 {
        let Some(depth) = depth.checked_sub(1) else { return 1 };
        let Some(ty) = self.btf.ty(id) else { return 1 };
        let pointer = self.btf.pointer_size();
        match ty.kind {
            Kind::Int | Kind::Float if ty.size() == 16 && pointer == 8 => 16,
            Kind::Int | Kind::Enum | Kind::Enum64 | Kind::Float if ty.size().is_power_of_two() => {
                ty.size().min(8)
            }
            Kind::Ptr => pointer,
            Kind::Array => self.align(ty.array().elem, depth),
            Kind::Struct | Kind::Union => self.of_struct(id, depth).align,
            kind if kind.is_mod_or_typedef() => self.align(ty.target(), depth),
            _ => 1,
        }
    }

    /// What is to be written for each member, and where the last of it ends in **bits**.
    pub(super) fn members(&self, ty: Type<'data>, layout: Layout) -> (Vec<Placed>, u64) {
        self.placed(ty, layout.align, layout.is_packed).0
    }

    /// The same, and whether C puts everything where it is to be.
    fn placed(&self, ty: Type<'data>, align: u32, is_packed: bool) -> ((Vec<Placed>, u64), bool) {
        let is_union = ty.kind == Kind::Union;
        let (mut placed, mut fits) = (Vec::new(), true);
        let (mut at, mut end) = (0_u64, 0_u64);
        for member in ty.members() {
            if is_union {
                at = 0;
            }
            let (bits, width, unit) = self.width(member);
            let offset = u64::from(member.bit_offset);
            // Where C puts it behind `at`.
            let natural = |at: u64| match bits {
                _ if is_packed => {
                    if bits.is_some() {
                        at
                    } else {
                        at.next_multiple_of(8)
                    }
                }
                Some(bits) if bits > 0 && at / unit == (at + u64::from(bits) - 1) / unit => at,
                _ => at.next_multiple_of(unit),
            };
            let padding = (natural(at) != offset && at < offset).then_some((at, offset));
            let start = if padding.is_some() { natural(offset) } else { natural(at) };
            fits &= start == offset;
            placed.push(Placed { padding, bits });
            at = offset.saturating_add(width);
            end = end.max(at);
        }
        let size = u64::from(ty.size()) * 8;
        fits &=
            end.next_multiple_of(8 * u64::from(align)) <= size && size.is_multiple_of(8 * u64::from(align));
        ((placed, end), fits)
    }

    /// Width in **bits** if a member is a bitfield; what it takes in **bits**; and the **bits** of the unit that C aligns.
    fn width(&self, member: Member) -> (Option<u32>, u64, u64) {
        let size = u64::from(self.btf.resolve_size(member.type_id).unwrap_or(0)) * 8;
        let unit = 8 * u64::from(self.align(member.type_id, DEPTH_MAX));
        let number = self.btf.skip_mods_and_typedefs(member.type_id).map(|it| it.1);
        // Before the kind flag, the width stood in the number's type.
        let legacy = number.filter(|it| it.kind == Kind::Int && u64::from(it.int_bits()) < size);
        let legacy = legacy.map(|it| it.int_bits()).filter(|it| *it > 0);
        match (member.bitfield_size, legacy) {
            (0, None) => (None, size, unit.max(8)),
            (0, Some(bits)) | (bits, _) => (Some(bits), bits.into(), size.max(8)),
        }
    }
}

/// Bitfields without a name that take the **bits** from `from` to `to`: type and width of each. None is wider than a
/// struct of this alignment has anyway.
pub(super) fn padding(from: u64, to: u64, layout: Layout) -> Vec<(&'static str, u64)> {
    let mut parts = Vec::new();
    let mut at = from;
    while at < to {
        let units = [("long", 64), ("int", 32), ("short", 16)];
        let fits = |(_, bits): &(&str, u64)| {
            at.is_multiple_of(*bits) && to - at >= *bits && *bits <= 8 * u64::from(layout.align)
        };
        let byte = ("char", (8 - at % 8).min(to - at));
        let part = units.into_iter().find(fits).unwrap_or(byte);
        at += part.1;
        parts.push(part);
    }
    parts
}
