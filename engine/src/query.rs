//! A relocation record as a question without its object.
//!
//! A [`Query`] holds what any loader asks of the *target*: essential root name, kind of the root, and the
//! path by names and indices with what each named step has to be compatible with. The same question asked
//! by two objects is the same `Query`. What only
//! concerns the record, the value that its instruction should hold, is a [`LocalValue`] beside it.
//!
//! Source: `bpf_core_parse_spec`, libbpf; spec section 4.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::btf::{Btf, Flavors, NameHash, ShapeHash, ShapeHasher, TypeId, same_shape};
use crate::dialect::{Fields, Kinds, Rules, WithoutType};
use crate::error::ResolveError;
use crate::format::btf::Kind;
use crate::format::btf_ext::{RelocClass, RelocKind};
use crate::value::{self, Endpoint, Place, Value, is_unsigned_enum};

/// Indices that libbpf keeps of one access string (`BPF_CORE_SPEC_MAX_LEN`).
pub const SPEC_MAX_LEN: usize = 64;

/// Nested arrays after which a member's type counts as unusable: an array of itself, most likely.
const ARRAY_DEPTH_MAX: u32 = 1024;

/// What a record asks of a target, without its object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Query<'data> {
    /// By what name and kind candidates are found.
    pub root: Root<'data>,
    /// What a candidate has to have.
    pub ask: Ask<'data>,
}

/// How candidates for a root type are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Root<'data> {
    /// Hash of `essential`.
    pub hash: NameHash,
    /// The root's name without its flavor.
    pub essential: &'data [u8],
    /// Kind of the root, modifiers unskipped. For libbpf ENUM64 is stored as ENUM, and either finds both; for the
    /// kernel's own loader a root has just this kind.
    pub kind: Kind,
}

impl<'data> Root<'data> {
    /// How candidates for a local type of this full name and kind are found.
    pub fn new(name: &'data [u8], kind: Kind) -> Self {
        let kind = if kind == Kind::Enum64 { Kind::Enum } else { kind };
        Self::exact(Flavors::LastWellFormed, name, kind)
    }

    /// The same for a loader that takes flavors to begin there, and for this kind alone.
    fn exact(flavors: Flavors, name: &'data [u8], kind: Kind) -> Self {
        let essential = flavors.essential(name);
        Self { hash: NameHash::of(essential), essential, kind }
    }
}

/// What a candidate has to have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ask<'data> {
    /// A field: the steps that lead to it, the index of the root itself first.
    Field(Box<[Step<'data>]>),
    /// An enumerator of this essential name.
    Enumerator(&'data [u8]),
    /// A type compatible with the local one.
    TypeCompat(LocalType<'data>),
    /// A type that matches the local one (`TYPE_MATCHES`).
    TypeMatches(LocalType<'data>),
}

/// One high-level accessor: array elements and named members. Anonymous members are transparent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step<'data> {
    /// Element number; of the root (pointer arithmetic) if first.
    Index(u32),
    /// What is reached so far has to be compatible: the root and elements of arrays for cilium/ebpf.
    Is(FieldCompat<'data>),
    /// The member of this full name, whose type has to be compatible.
    Member {
        /// Full name: flavors are not cut in member names.
        name: &'data [u8],
        /// What the target's member of that name has to be.
        compat: FieldCompat<'data>,
    },
}

/// What the type of a target's member has to be, the local half of `bpf_core_fields_are_compat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FieldCompat<'data> {
    /// Dimensions of the array that the leaf stands in; 0 for no array.
    pub array_depth: u32,
    /// The innermost element. For cilium/ebpf, which looks at elements as it comes to them, nothing of arrays.
    pub leaf: Leaf<'data>,
    /// Whether it is a bitfield. Told for cilium/ebpf only: for others it makes no difference to the target.
    pub is_bitfield: bool,
}

/// Innermost type of a member, as far as compatibility goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leaf<'data> {
    /// STRUCT or UNION: any other STRUCT or UNION.
    Composite,
    /// Any other pointer.
    Ptr,
    /// Any other float.
    Float,
    /// An INT without a bit offset: any other such INT. A legacy bitfield INT is [`Leaf::Never`].
    Int,
    /// A forward declaration of this essential name.
    Fwd(&'data [u8]),
    /// An ENUM or ENUM64 of this essential name; the empty name fits every enum.
    Enum(&'data [u8]),
    /// Compatible with nothing.
    Never,
    /// The local BTF leads nowhere: an error as soon as the name is found.
    Unusable,
}

/// A type of the program's BTF.
///
/// Type queries compare whole types, so this is a view and not a description. Types of the same shape are equal,
/// whatever object they are from.
#[derive(Clone, Debug)]
pub struct LocalType<'data> {
    /// The program's BTF.
    pub btf: Arc<Btf<'data>>,
    /// The root, modifiers unskipped.
    pub id: TypeId,
    /// Hash of its shape; `None` if it is equal to no other type.
    shape: Option<ShapeHash>,
}

impl<'data> LocalType<'data> {
    pub(crate) fn new(btf: &Arc<Btf<'data>>, id: TypeId) -> Self {
        Self { btf: Arc::clone(btf), id, shape: ShapeHasher::new(btf).hash(id) }
    }
}

impl PartialEq for LocalType<'_> {
    fn eq(&self, other: &Self) -> bool {
        let is_same_type = Arc::ptr_eq(&self.btf, &other.btf) && self.id == other.id;
        // Hashes of hostile types can be made to collide.
        is_same_type
            || self.shape.is_some()
                && self.shape == other.shape
                && same_shape((&self.btf, self.id), (&other.btf, other.id))
    }
}

impl Eq for LocalType<'_> {}

impl std::hash::Hash for LocalType<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.shape.hash(state);
    }
}

/// A record's question and what its own instruction should hold.
#[derive(Clone, Debug)]
pub struct Question<'data> {
    /// Asked of the target; `None` for `TYPE_ID_LOCAL`, which needs no target.
    pub query: Option<Query<'data>>,
    /// The local side. An error here is fatal, but libbpf meets it only after matching.
    pub local: Result<LocalValue, ResolveError>,
    /// Bit offset of the field in the local type, 0 for other classes.
    pub local_bit_offset: u32,
}

/// What the local BTF says that the instruction holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalValue {
    /// Value and access width.
    pub value: Value,
    /// Whether the instruction has to hold the value (spec 7.2).
    pub validate: bool,
}

/// Turns a record into a question.
///
/// `access`: the access string without its NUL. `btf`: the program's BTF, with 8-byte pointers. `rules`: the loader's,
/// for the local side.
///
/// # Errors
/// The errors of `bpf_core_find_cands` and `bpf_core_parse_spec`, in their order: all of them fatal for
/// the object, all of them `-EINVAL`.
pub fn parse<'data>(
    rules: &Rules,
    btf: &Arc<Btf<'data>>,
    type_id: TypeId,
    access: &'data [u8],
    raw_kind: u32,
) -> Result<Question<'data>, ResolveError> {
    let root_type = btf.ty(type_id).ok_or(ResolveError::BadTypeId { id: type_id.0 })?;
    let kind = RelocKind::from_raw(raw_kind);
    let name = btf.name(root_type.name_off);
    if name.is_empty() && kind != Some(RelocKind::TypeIdLocal) {
        return Err(ResolveError::AnonymousRoot { id: type_id.0 });
    }
    let class = kind.map(RelocKind::class);
    let is_type = class == Some(RelocClass::Type);
    let is_zero = || match rules.scans_access {
        true => access == b"0",
        false => split_access(access).is_ok_and(|it| it.as_slice() == [0]),
    };
    if matches!(access, [] | [b':', ..]) || is_type && !is_zero() {
        return Err(ResolveError::BadAccessString);
    }
    let kind_asked = match root_type.kind {
        Kind::Enum64 if rules.kinds != Kinds::Exact => Kind::Enum,
        kind => kind,
    };
    let root = Root::exact(rules.flavors, name, kind_asked);
    if let Some(kind) = kind
        && class == Some(RelocClass::Type)
    {
        return Ok(type_question(rules, btf, type_id, kind, root));
    }
    let raw = if rules.scans_access { parse_access(access)? } else { split_access(access)? };
    let Some(kind) = kind else { return Err(ResolveError::UnknownKind { kind: raw_kind }) };
    match class {
        Some(RelocClass::Enumval) => enumval_question(rules, btf, type_id, kind, root, &raw),
        _ => field_question(rules, btf, type_id, kind, root, &raw),
    }
}

fn type_question<'data>(
    rules: &Rules,
    btf: &Arc<Btf<'data>>,
    type_id: TypeId,
    kind: RelocKind,
    root: Root<'data>,
) -> Question<'data> {
    let local_type = || LocalType::new(btf, type_id);
    let ask = match kind {
        RelocKind::TypeIdLocal => None,
        RelocKind::TypeMatches => Some(Ask::TypeMatches(local_type())),
        _ => Some(Ask::TypeCompat(local_type())),
    };
    let local = if kind == RelocKind::TypeIdLocal {
        Ok(LocalValue { value: Value::plain(u64::from(type_id.0)), validate: rules.validates_ids })
    } else {
        let value = value::of(rules, btf, kind, &Place { bit_offset: 0, end: Endpoint::Type(type_id) });
        // aya never looks at the local size.
        let value = match rules.without_type {
            WithoutType::Error => value.or(Ok(Value::plain(0))),
            _ => value,
        };
        value
            .map(|value| LocalValue {
                value,
                validate: rules.validates && (rules.validates_ids || kind != RelocKind::TypeIdTarget),
            })
            .map_err(ResolveError::on_local_side)
    };
    Question { query: ask.map(|ask| Query { root, ask }), local, local_bit_offset: 0 }
}

fn enumval_question<'data>(
    rules: &Rules,
    btf: &Arc<Btf<'data>>,
    type_id: TypeId,
    kind: RelocKind,
    root: Root<'data>,
    raw: &[u32],
) -> Result<Question<'data>, ResolveError> {
    let (_, ty) = btf.skip_mods_and_typedefs(type_id).ok_or(ResolveError::LocalTypeUnusable)?;
    if !ty.kind.is_any_enum() || ty.kind == Kind::Enum64 && !rules.enum64 {
        return Err(ResolveError::LocalTypeUnusable);
    }
    let &[index] = raw else { return Err(ResolveError::BadAccessString) };
    let enumerator = ty.enumerator(index).ok_or(ResolveError::BadAccessString)?;
    let end = Endpoint::Enumerator { value: enumerator.value, is_unsigned: is_unsigned_enum(ty) };
    let local = value::of(rules, btf, kind, &Place { bit_offset: 0, end })
        .map(|value| LocalValue { value, validate: rules.validates })
        .map_err(ResolveError::on_local_side);
    let ask = Ask::Enumerator(rules.flavors.essential(btf.name(enumerator.name_off)));
    Ok(Question { query: Some(Query { root, ask }), local, local_bit_offset: 0 })
}

fn field_question<'data>(
    rules: &Rules,
    btf: &Arc<Btf<'data>>,
    type_id: TypeId,
    kind: RelocKind,
    root: Root<'data>,
    raw: &[u32],
) -> Result<Question<'data>, ResolveError> {
    const UNUSABLE: ResolveError = ResolveError::LocalTypeUnusable;
    let (&first, rest) = raw.split_first().ok_or(ResolveError::BadAccessString)?;
    let (mut id, _) = btf.skip_mods_and_typedefs(type_id).ok_or(UNUSABLE)?;
    let is_go = rules.fields == Fields::EbpfGo;
    // cilium/ebpf asks for no size where nothing is to be multiplied with it.
    let element_size = |index: u32, id: TypeId| match index {
        0 if is_go => Ok(0),
        _ => btf.size_by(rules.sizes, id).map_err(|_| UNUSABLE),
    };
    let size = element_size(first, id)?;
    // Bit offsets are u32 in libbpf and wrap. QUIRK: aya takes the bytes before the root for bits.
    let bits = if rules.root_index_in_bytes { 1 } else { 8 };
    let mut bit_offset = first.wrapping_mul(size).wrapping_mul(bits);
    let mut steps = Vec::new();
    if is_go {
        steps.push(Step::Is(field_compat(rules, btf, id)));
    }
    steps.push(Step::Index(first));
    let mut end = Endpoint::Element(id);
    // What directly contains the member that `end` is.
    let mut container = None;
    for &index in rest {
        let (_, ty) = btf.skip_mods_and_typedefs(id).ok_or(UNUSABLE)?;
        match ty.kind {
            Kind::Struct | Kind::Union => {
                let mut member = ty.member(index).ok_or(ResolveError::BadAccessString)?;
                if is_go {
                    member = value::with_legacy_bits(btf, ty, member);
                }
                bit_offset = bit_offset.wrapping_add(member.bit_offset);
                // A name offset that is not 0 has to lead to a name; 0 is an anonymous member.
                if member.name_off != 0 {
                    let name = btf.name(member.name_off);
                    // aya looks for a member without a name, and finds none.
                    if name.is_empty() && rules.scans_access {
                        return Err(UNUSABLE);
                    }
                    let mut compat = field_compat(rules, btf, member.type_id);
                    compat.is_bitfield = is_go && member.bitfield_size > 0;
                    steps.push(Step::Member { name, compat });
                    end = Endpoint::Member { member, is_last: index + 1 == ty.vlen() };
                    container = Some(ty);
                }
                id = member.type_id;
            }
            Kind::Array => {
                let array = ty.array();
                let (elem, _) = btf.skip_mods_and_typedefs(array.elem).ok_or(UNUSABLE)?;
                // QUIRK: aya takes the index of the element for that of the member.
                let is_flex = match container.take() {
                    Some(it) if rules.flexible_by_element => {
                        array.nelems == 0 && it.kind == Kind::Struct && index + 1 == it.vlen()
                    }
                    _ => end.is_flex_array(array),
                };
                if !is_flex && index >= array.nelems {
                    return Err(ResolveError::BadAccessString);
                }
                id = elem;
                steps.push(Step::Index(index));
                if is_go {
                    steps.push(Step::Is(field_compat(rules, btf, id)));
                }
                end = Endpoint::Element(id);
                let size = element_size(index, id)?;
                bit_offset = bit_offset.wrapping_add(index.wrapping_mul(size).wrapping_mul(8));
            }
            // A path never goes through a pointer: compilers start a new record there.
            _ => return Err(ResolveError::BadAccessString),
        }
    }
    let place = Place { bit_offset, end };
    let local = value::of(rules, btf, kind, &place)
        .map(|value| LocalValue { value, validate: rules.validates && value::validates(rules, kind, &place) })
        .map_err(ResolveError::on_local_side);
    let query = Query { root, ask: Ask::Field(steps.into()) };
    Ok(Question { query: Some(query), local, local_bit_offset: bit_offset })
}

/// The local half of `bpf_core_fields_are_compat`.
fn field_compat<'data>(rules: &Rules, btf: &Btf<'data>, id: TypeId) -> FieldCompat<'data> {
    let mut array_depth = 0;
    let mut next = btf.skip_mods_and_typedefs(id);
    let leaf = loop {
        let Some((_, ty)) = next else { break Leaf::Unusable };
        let essential = || rules.flavors.essential(btf.name(ty.name_off));
        break match ty.kind {
            Kind::Struct | Kind::Union => Leaf::Composite,
            Kind::Ptr => Leaf::Ptr,
            Kind::Float => Leaf::Float,
            Kind::Int if ty.int_offset() == 0 || rules.fields == Fields::EbpfGo => Leaf::Int,
            Kind::Fwd => Leaf::Fwd(essential()),
            Kind::Enum64 if !rules.enum64 => Leaf::Never,
            Kind::Enum | Kind::Enum64 => Leaf::Enum(essential()),
            Kind::Array if rules.fields == Fields::EbpfGo => {
                array_depth = 1;
                Leaf::Never
            }
            Kind::Array if array_depth < ARRAY_DEPTH_MAX => {
                array_depth += 1;
                next = btf.skip_mods_and_typedefs(ty.array().elem);
                continue;
            }
            // HARDEN: an array of itself; libbpf loops.
            Kind::Array => Leaf::Unusable,
            _ => Leaf::Never,
        };
    };
    FieldCompat { array_depth, leaf, is_bitfield: false }
}

/// Parses an access string as libbpf does with `sscanf("%d")`: blanks and a sign are let through before a
/// number, and a blank separates as well as a colon does.
pub(crate) fn parse_access(access: &[u8]) -> Result<SmallVec<[u32; 8]>, ResolveError> {
    let mut indices = SmallVec::new();
    let mut rest = access;
    while let Some(&byte) = rest.first() {
        if byte == b':' {
            rest = rest.get(1..).unwrap_or_default();
        }
        let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r');
        let blanks = rest.iter().take_while(|b| blank(b)).count();
        rest = rest.get(blanks..).unwrap_or_default();
        let negative = rest.first() == Some(&b'-');
        if matches!(rest.first(), Some(b'-' | b'+')) {
            rest = rest.get(1..).unwrap_or_default();
        }
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let (number, tail) = rest.split_at_checked(digits).unwrap_or_default();
        rest = tail;
        // HARDEN: what sscanf makes of numbers over i32 depends on the C library.
        let index = std::str::from_utf8(number)
            .ok()
            .and_then(|number| number.parse::<i32>().ok())
            .and_then(|number| u32::try_from(number).ok())
            .filter(|&number| !negative || number == 0)
            .ok_or(ResolveError::BadAccessString)?;
        if indices.len() == SPEC_MAX_LEN {
            return Err(ResolveError::BadAccessString);
        }
        indices.push(index);
    }
    Ok(indices)
}

/// Parses an access string as aya does, and nearly so cilium/ebpf: numbers and colons, nothing else but a plus sign
/// before a number.
fn split_access(access: &[u8]) -> Result<SmallVec<[u32; 8]>, ResolveError> {
    let number = |part: &[u8]| std::str::from_utf8(part).ok()?.parse().ok();
    access.split(|it| *it == b':').map(number).collect::<Option<_>>().ok_or(ResolveError::BadAccessString)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that access strings are read with sscanf's liberties and no others (spec 4.2).
    #[test]
    fn access_strings_are_parsed_as_sscanf_does() {
        let parse = |text: &str| parse_access(text.as_bytes()).ok().map(|it| it.to_vec());
        assert_eq!(parse("0:1:12"), Some(vec![0, 1, 12]));
        assert_eq!(parse("0 1"), Some(vec![0, 1]));
        assert_eq!(parse("+1: 2"), Some(vec![1, 2]));
        assert_eq!(parse("-0"), Some(vec![0]));
        for bad in ["0:", "0::1", "a", "-1", "0 ", "0:x", "4294967296", "2147483648", "0x1"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let long = vec!["0"; 64].join(":");
        assert_eq!(parse(&long).map(|it| it.len()), Some(64));
        assert_eq!(parse(&format!("{long}:0")), None);
    }
}
