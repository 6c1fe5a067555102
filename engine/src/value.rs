//! The value of a relocation at a place: the same computation for the local side and for the target's.
//!
//! Source: `bpf_core_calc_field_relo`, `bpf_core_calc_type_relo`, `bpf_core_calc_enumval_relo`, libbpf;
//! spec section 7. Bit arithmetic is u32 as there, and wraps.

use crate::btf::{Array, Btf, Member, Type, TypeId};
use crate::dialect::{Fields, Rules};
use crate::format::Endian;
use crate::format::btf::{INT_SIGNED, Kind};
use crate::format::btf_ext::RelocKind;

/// Where a path ends.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Offset from the start of the root, in bits.
    pub bit_offset: u32,
    /// The last accessor.
    pub end: Endpoint,
}

/// The last accessor of a path.
#[derive(Clone, Copy, Debug)]
pub enum Endpoint {
    /// The root as a type.
    Type(TypeId),
    /// An enumerator.
    Enumerator {
        /// Its value, of an ENUM sign-extended.
        value: u64,
        /// Whether it is of an ENUM of 32 bits without a sign.
        is_unsigned: bool,
    },
    /// An array element or the root as an element; the type is without modifiers.
    Element(TypeId),
    /// A named member.
    Member {
        /// The member.
        member: Member,
        /// Whether it is the last one of the struct or union that directly contains it.
        is_last: bool,
    },
    /// A field as cilium/ebpf describes it: in an access that is as wide as its type.
    Field {
        /// Its type.
        type_id: TypeId,
        /// Where it starts within the access, in bits.
        shift: u32,
        /// Its width in bits; 0 for a field that is no bitfield.
        bits: u32,
    },
}

impl Endpoint {
    /// Whether `array`, found behind this accessor, has no bound: zero elements, and the last member of
    /// the struct (or, as libbpf does not ask, union) that directly contains it.
    pub(crate) fn is_flex_array(&self, array: Array) -> bool {
        array.nelems == 0 && matches!(self, Self::Member { is_last: true, .. })
    }
}

/// Value and access width of a relocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// What the instruction holds or is to hold.
    pub value: u64,
    /// Size of the field in bytes, for byte offsets of fields that are no bitfields; else 0.
    pub size: u32,
    /// How an access to the field may change its width.
    pub width: Width,
    /// Type of the field without modifiers; void unless `size` is meant.
    pub type_id: TypeId,
}

impl Value {
    pub(crate) fn plain(value: u64) -> Self {
        Self { value, size: 0, width: Width::Fixed, type_id: TypeId::VOID }
    }
}

/// Whether loads and stores of a field may be made wider or narrower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// A pointer: may become another pointer size.
    Ptr,
    /// An INT that is not just signed: zero extension keeps its value.
    Unsigned,
    /// Anything else: a changed width would change the value read.
    Fixed,
}

impl Width {
    fn of(rules: &Rules, ty: Type<'_>) -> Self {
        match ty.kind {
            Kind::Ptr => Self::Ptr,
            Kind::Int if rules.signed_by_bit && ty.int_encoding() & INT_SIGNED != 0 => Self::Fixed,
            // QUIRK: the encoding is compared as a whole, so "signed and char" passes for unsigned.
            Kind::Int if ty.int_encoding() != INT_SIGNED => Self::Unsigned,
            _ => Self::Fixed,
        }
    }

    /// Whether an access may go from a local field of this class to a target field of `target`.
    pub fn adjusts_to(self, target: Self) -> bool {
        self == target && self != Self::Fixed
    }
}

/// Why a place has no value of some kind. Fatal on either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueError {
    /// `-E2BIG`: no aligned load of up to 8 bytes covers the bitfield.
    BitfieldUnreadable,
    /// `-EINVAL`: signedness and shifts are those of members, not of array elements.
    KindNotApplicable,
    /// `-EINVAL`: the type has no size.
    NoSize,
}

/// The value of a relocation of `kind` at `place` of `btf`, by the rules of a loader.
///
/// # Errors
/// [`ValueError`].
pub fn of(rules: &Rules, btf: &Btf<'_>, kind: RelocKind, place: &Place) -> Result<Value, ValueError> {
    match kind {
        RelocKind::FieldExists
        | RelocKind::TypeExists
        | RelocKind::TypeMatches
        | RelocKind::EnumvalExists => return Ok(Value::plain(1)),
        _ => {}
    }
    match place.end {
        Endpoint::Type(id) => match kind {
            RelocKind::TypeSize => Ok(Value::plain(size_of(rules, btf, id)?.into())),
            _ => Ok(Value::plain(id.0.into())),
        },
        Endpoint::Enumerator { value, is_unsigned } => {
            let is_cut = !rules.enum64 || is_unsigned && !rules.extends_unsigned;
            Ok(Value::plain(if is_cut { value & 0xffff_ffff } else { value }))
        }
        Endpoint::Field { type_id, shift, bits } => {
            field_value(rules, btf, kind, place.bit_offset / 8, (type_id, shift, bits))
        }
        Endpoint::Element(id) if rules.fields == Fields::EbpfGo => {
            field_value(rules, btf, kind, place.bit_offset / 8, (id, 0, 0))
        }
        Endpoint::Member { member, .. } if rules.fields == Fields::EbpfGo => {
            let (base, end) = field_of(btf, member, member.bitfield_size > 0)?;
            let bit_offset = place.bit_offset.wrapping_sub(member.bit_offset).wrapping_add(base * 8);
            of(rules, btf, kind, &Place { bit_offset, end })
        }
        Endpoint::Element(id) => match kind {
            RelocKind::FieldByteOffset => sized_offset(rules, btf, place.bit_offset / 8, id),
            RelocKind::FieldByteSize => Ok(Value::plain(size_of(rules, btf, id)?.into())),
            _ => Err(ValueError::KindNotApplicable),
        },
        Endpoint::Member { member, .. } => member_value(rules, btf, kind, place.bit_offset, member),
    }
}

/// Whether the instruction has to hold the local value (spec 7.2). Not for the offset, size and left shift
/// of bitfields: compiler and loader may read them through different windows.
pub(crate) fn validates(rules: &Rules, kind: RelocKind, place: &Place) -> bool {
    let is_shift = matches!(kind, RelocKind::FieldLshiftU64 | RelocKind::FieldRshiftU64);
    if is_shift && rules.fields == Fields::EbpfGo {
        return false;
    }
    let ambiguous =
        matches!(kind, RelocKind::FieldByteOffset | RelocKind::FieldByteSize | RelocKind::FieldLshiftU64);
    let bitfield = matches!(place.end, Endpoint::Member { member, .. } if member.bitfield_size > 0);
    !(ambiguous && bitfield)
}

/// Whether an enum is one whose values libbpf sign-extends though it has no sign.
pub(crate) fn is_unsigned_enum(ty: Type<'_>) -> bool {
    ty.kind == Kind::Enum && !ty.kind_flag()
}

fn size_of(rules: &Rules, btf: &Btf<'_>, id: TypeId) -> Result<u32, ValueError> {
    btf.size_by(rules.sizes, id).map_err(|_| ValueError::NoSize)
}

/// A byte offset with the size of what stands there; of arrays, the size of the innermost element counts, in older
/// kernels that of the whole array.
fn sized_offset(rules: &Rules, btf: &Btf<'_>, byte_offset: u32, id: TypeId) -> Result<Value, ValueError> {
    let mut accessed = id;
    if rules.element_width {
        (accessed, _) = btf.skip_to_innermost_element(id).ok_or(ValueError::NoSize)?;
    }
    let size = size_of(rules, btf, accessed)?;
    // The element decides the size, but the type as a whole whether the width may change: an array may not.
    let width = btf.ty(id).map_or(Width::Fixed, |it| Width::of(rules, it));
    Ok(Value { value: byte_offset.into(), size, width, type_id: id })
}

fn member_value(
    rules: &Rules,
    btf: &Btf<'_>,
    kind: RelocKind,
    bit_offset: u32,
    member: Member,
) -> Result<Value, ValueError> {
    let (type_id, ty) = btf.skip_mods_and_typedefs(member.type_id).ok_or(ValueError::NoSize)?;
    let is_bitfield = member.bitfield_size > 0;
    let (byte_offset, byte_size, bit_size) = if is_bitfield {
        let (byte_offset, byte_size) = bitfield_window(bit_offset, member.bitfield_size, ty.size())?;
        (byte_offset, byte_size, member.bitfield_size)
    } else {
        let byte_size = size_of(rules, btf, type_id)?;
        (bit_offset / 8, byte_size, byte_size.wrapping_mul(8))
    };
    Ok(match kind {
        RelocKind::FieldByteOffset if is_bitfield => Value::plain(byte_offset.into()),
        RelocKind::FieldByteOffset => sized_offset(rules, btf, byte_offset, type_id)?,
        RelocKind::FieldByteSize => Value::plain(byte_size.into()),
        RelocKind::FieldSigned if ty.kind == Kind::Enum && !rules.enum64 => Value::plain(1),
        RelocKind::FieldSigned => Value::plain(ty.is_signed().into()),
        RelocKind::FieldLshiftU64 => {
            let in_window = bit_offset.wrapping_sub(byte_offset.wrapping_mul(8));
            let shift = match btf.endian() {
                Endian::Little => 64_u32.wrapping_sub(in_window.wrapping_add(bit_size)),
                Endian::Big => 8_u32.wrapping_sub(byte_size).wrapping_mul(8).wrapping_add(in_window),
            };
            Value::plain(shift_value(rules, shift))
        }
        _ => Value::plain(shift_value(rules, 64_u32.wrapping_sub(bit_size))),
    })
}

/// A member as cilium/ebpf describes it, and its byte offset in the struct. `in_bits`: whether it, or the field that it
/// is compared with, is a bitfield: then the access is aligned to the type.
pub(crate) fn field_of(btf: &Btf<'_>, member: Member, in_bits: bool) -> Result<(u32, Endpoint), ValueError> {
    let (type_id, bits) = (member.type_id, member.bitfield_size);
    if !in_bits {
        return Ok((member.bit_offset / 8, Endpoint::Field { type_id, shift: 0, bits }));
    }
    let (_, ty) = btf.skip_to_innermost_element(type_id).ok_or(ValueError::NoSize)?;
    let align = match ty.kind {
        Kind::Int | Kind::Enum | Kind::Enum64 if ty.size().is_power_of_two() => ty.size(),
        _ => return Err(ValueError::NoSize),
    };
    let offset = member.bit_offset / 8 / align * align;
    Ok((offset, Endpoint::Field { type_id, shift: member.bit_offset - offset * 8, bits }))
}

/// A member that has the offset and width of a legacy bitfield, if its type is an INT that says so.
pub(crate) fn with_legacy_bits(btf: &Btf<'_>, container: Type<'_>, member: Member) -> Member {
    let ty = btf.ty(member.type_id).filter(|it| it.kind == Kind::Int && !container.kind_flag());
    match ty {
        Some(ty) if ty.int_offset() > 0 || ty.int_bits() / 8 != ty.size() => Member {
            bit_offset: member.bit_offset.wrapping_add(ty.int_offset()),
            bitfield_size: ty.int_bits(),
            ..member
        },
        _ => member,
    }
}

/// The value of a field as cilium/ebpf computes it. Source: `coreCalculateFixup`.
fn field_value(
    rules: &Rules,
    btf: &Btf<'_>,
    kind: RelocKind,
    byte_offset: u32,
    (type_id, shift, bits): (TypeId, u32, u32),
) -> Result<Value, ValueError> {
    let size_in_bits = || Ok(size_of(rules, btf, type_id)?.wrapping_mul(8));
    let width = || if bits > 0 { Ok(bits) } else { size_in_bits() };
    let value = match kind {
        RelocKind::FieldByteOffset => byte_offset,
        RelocKind::FieldByteSize => size_of(rules, btf, type_id)?,
        RelocKind::FieldSigned => {
            let (_, ty) = btf.skip_mods_and_typedefs(type_id).ok_or(ValueError::NoSize)?;
            match ty.kind {
                Kind::Enum | Kind::Enum64 => ty.kind_flag().into(),
                Kind::Int => (ty.int_encoding() & INT_SIGNED).into(),
                _ => return Err(ValueError::KindNotApplicable),
            }
        }
        RelocKind::FieldLshiftU64 => match btf.endian() {
            Endian::Little => 64_u32.wrapping_sub(shift).wrapping_sub(width()?),
            Endian::Big => 64_u32.wrapping_sub(size_in_bits()?).wrapping_add(shift),
        },
        _ => 64_u32.wrapping_sub(width()?),
    };
    Ok(Value::plain(value.into()))
}

/// A shift, which of fields that are wider than 8 bytes is negative.
fn shift_value(rules: &Rules, shift: u32) -> u64 {
    if rules.wide_shifts { i64::from(shift.cast_signed()).cast_unsigned() } else { shift.into() }
}

/// The smallest aligned window that covers a bitfield, starting from the size of its base type: byte
/// offset and size.
fn bitfield_window(bit_offset: u32, bit_size: u32, base_size: u32) -> Result<(u32, u32), ValueError> {
    // HARDEN: libbpf divides by zero.
    if base_size == 0 {
        return Err(ValueError::NoSize);
    }
    let mut byte_size = base_size;
    loop {
        let byte_offset = (bit_offset / 8 / byte_size).wrapping_mul(byte_size);
        let end = bit_offset.wrapping_add(bit_size).wrapping_sub(byte_offset.wrapping_mul(8));
        if end <= byte_size.wrapping_mul(8) {
            return Ok((byte_offset, byte_size));
        }
        // Not beyond 8 bytes, and a window that is not aligned is never tried.
        if byte_size >= 8 {
            return Err(ValueError::BitfieldUnreadable);
        }
        byte_size *= 2;
    }
}
