//! Shapes: what any CO-RE rule can see of a type.
//!
//! Two types of the same shape give the same answer to every query, type ids aside; that is what answers are shared
//! by between kernels. The shape of a type is closed over its parts:
//!
//! * everything that is by value in full: names, sizes, members with their offsets, counts, enumerators, and every
//!   modifier and typedef on the way (their number decides whether a size can be computed at all);
//! * behind a pointer, a *named* struct or union is its kind and name and no more. No rule looks further, and every
//!   cycle of a real kernel's types is cut there;
//! * names of parameters, what an array is indexed by and the variables of a DATASEC are left out.
//!
//! Byte order and pointer size belong to the shape. A type that contains itself without a named struct or union in
//! between (hostile BTF only) has a shape of its own, equal to no other.

use hashbrown::HashMap;

use super::{Btf, Member, Type, TypeId};
use crate::format::Endian;
use crate::format::btf::Kind;

/// Types nested in each other after which a type has no shape that could be shared. Kernels have some twenty.
const DEPTH_MAX: u32 = 256;

/// Hash of a type's shape, the same in every BTF and on every machine. It may be stored.
///
/// XXH3-128 without a seed: equal hashes are a strong hint, and [`same_shape`] tells for sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShapeHash(pub u128);

/// A type in one of two contexts: by value, or behind a pointer.
type Key = (TypeId, bool);

/// Computes shape hashes of the types of one BTF.
#[derive(Debug)]
pub struct ShapeHasher<'a, 'data> {
    btf: &'a Btf<'data>,
    /// Of types that branch. `None` while the type is being hashed, and for good if it has no shape to share.
    known: HashMap<Key, Option<u128>>,
}

impl<'a, 'data> ShapeHasher<'a, 'data> {
    /// For types of `btf`.
    pub fn new(btf: &'a Btf<'data>) -> Self {
        Self { btf, known: HashMap::new() }
    }

    /// The hash of a type's shape; `None` if it is shared with no other type.
    pub fn hash(&mut self, id: TypeId) -> Option<ShapeHash> {
        let shape = self.part(id, false, DEPTH_MAX)?;
        let endian = u8::from(self.btf.endian() == Endian::Big);
        let mut bytes = shape.to_le_bytes().to_vec();
        bytes.push(endian);
        bytes.extend(self.btf.pointer_size().to_le_bytes());
        Some(ShapeHash(xxhash_rust::xxh3::xxh3_128(&bytes)))
    }

    fn part(&mut self, id: TypeId, behind_ptr: bool, depth: u32) -> Option<u128> {
        let depth = depth.checked_sub(1)?;
        if !self.btf.ty(id).is_some_and(|ty| branches(&ty)) {
            return self.describe(id, behind_ptr, depth);
        }
        if let Some(known) = self.known.get(&(id, behind_ptr)) {
            return *known;
        }
        self.known.insert((id, behind_ptr), None);
        let hash = self.describe(id, behind_ptr, depth)?;
        self.known.insert((id, behind_ptr), Some(hash));
        Some(hash)
    }

    fn describe(&mut self, id: TypeId, behind_ptr: bool, depth: u32) -> Option<u128> {
        let btf = self.btf;
        let ty = btf.ty(id)?;
        let mut bytes = Vec::with_capacity(64);
        bytes.extend([ty.kind.raw(), u8::from(flag(&ty))]);
        bytes.extend(btf.name(ty.name_off));
        bytes.push(0);
        if is_shell(btf, &ty, behind_ptr) {
            return Some(xxhash_rust::xxh3::xxh3_128(&bytes));
        }
        for number in numbers(&ty) {
            bytes.extend(number.to_le_bytes());
        }
        for member in ty.members() {
            if is_odd(btf, &member) {
                return None;
            }
            bytes.extend(btf.name(member.name_off));
            bytes.push(0);
            bytes.extend(member.bit_offset.to_le_bytes());
            bytes.extend(member.bitfield_size.to_le_bytes());
            bytes.extend(self.part(member.type_id, behind_ptr, depth)?.to_le_bytes());
        }
        for enumerator in ty.enumerators() {
            bytes.extend(btf.name(enumerator.name_off));
            bytes.push(0);
            bytes.extend(enumerator.value.to_le_bytes());
        }
        for param in ty.params() {
            bytes.extend(self.part(param.type_id, behind_ptr, depth)?.to_le_bytes());
        }
        if let Some((target, behind_ptr)) = target(&ty, behind_ptr) {
            bytes.extend(self.part(target, behind_ptr, depth)?.to_le_bytes());
        }
        Some(xxhash_rust::xxh3::xxh3_128(&bytes))
    }
}

/// Whether two types have the same shape.
pub fn same_shape(a: (&Btf<'_>, TypeId), b: (&Btf<'_>, TypeId)) -> bool {
    let same_abi = a.0.endian() == b.0.endian() && a.0.pointer_size() == b.0.pointer_size();
    same_abi && Pair { a: a.0, b: b.0, met: HashMap::new() }.parts(a.1, b.1, false, DEPTH_MAX)
}

struct Pair<'x, 'a, 'b> {
    a: &'x Btf<'a>,
    b: &'x Btf<'b>,
    /// Pairs of types that branch, as far as they were met: whether they are done, and then the same.
    met: HashMap<(TypeId, TypeId, bool), bool>,
}

impl Pair<'_, '_, '_> {
    fn parts(&mut self, a: TypeId, b: TypeId, behind_ptr: bool, depth: u32) -> bool {
        let Some(depth) = depth.checked_sub(1) else { return false };
        let (Some(type_a), Some(type_b)) = (self.a.ty(a), self.b.ty(b)) else { return false };
        if type_a.kind != type_b.kind
            || flag(&type_a) != flag(&type_b)
            || !self.names(type_a.name_off, type_b.name_off)
        {
            return false;
        }
        if is_shell(self.a, &type_a, behind_ptr) {
            return true;
        }
        if !branches(&type_a) {
            return self.contents(&type_a, &type_b, behind_ptr, depth);
        }
        if let Some(done) = self.met.get(&(a, b, behind_ptr)) {
            return *done;
        }
        self.met.insert((a, b, behind_ptr), false);
        let same = self.contents(&type_a, &type_b, behind_ptr, depth);
        self.met.insert((a, b, behind_ptr), same);
        same
    }

    fn contents(&mut self, a: &Type<'_>, b: &Type<'_>, behind_ptr: bool, depth: u32) -> bool {
        if numbers(a) != numbers(b) {
            return false;
        }
        for (member_a, member_b) in a.members().zip(b.members()) {
            if is_odd(self.a, &member_a)
                || (member_a.bit_offset, member_a.bitfield_size)
                    != (member_b.bit_offset, member_b.bitfield_size)
                || !self.names(member_a.name_off, member_b.name_off)
                || !self.parts(member_a.type_id, member_b.type_id, behind_ptr, depth)
            {
                return false;
            }
        }
        for (a, b) in a.enumerators().zip(b.enumerators()) {
            if a.value != b.value || !self.names(a.name_off, b.name_off) {
                return false;
            }
        }
        for (a, b) in a.params().zip(b.params()) {
            if !self.parts(a.type_id, b.type_id, behind_ptr, depth) {
                return false;
            }
        }
        match (target(a, behind_ptr), target(b, behind_ptr)) {
            (Some((a, behind_ptr)), Some((b, _))) => self.parts(a, b, behind_ptr, depth),
            (None, None) => true,
            _ => false,
        }
    }

    fn names(&self, a: u32, b: u32) -> bool {
        self.b.name_is(b, self.a.name(a))
    }
}

/// The part of the kind flag that can be seen: signedness of enums, union or struct of forward declarations. That of
/// a struct says how offsets are encoded and shows in its members.
fn flag(ty: &Type<'_>) -> bool {
    !ty.kind.is_composite() && ty.kind_flag()
}

/// Whether a type refers to several others, so that it is worth remembering. What does not is a link of a chain, and a
/// chain that is a circle ends at the bound on the depth.
fn branches(ty: &Type<'_>) -> bool {
    ty.kind.is_composite() || ty.kind.is_any_enum() || ty.kind == Kind::FuncProto
}

fn is_shell(btf: &Btf<'_>, ty: &Type<'_>, behind_ptr: bool) -> bool {
    behind_ptr && ty.kind.is_composite() && !btf.is_anonymous(ty.name_off)
}

/// Whether a bitfield's base type is no number. Where its size should be stands a type id, which says something else in
/// every BTF, and libbpf computes with it.
fn is_odd(btf: &Btf<'_>, member: &Member) -> bool {
    member.bitfield_size != 0
        && btf.skip_mods_and_typedefs(member.type_id).is_none_or(|(_, ty)| {
            !ty.kind.is_composite()
                && !ty.kind.is_any_enum()
                && !matches!(ty.kind, Kind::Int | Kind::Float | Kind::Datasec)
        })
}

/// Sizes and counts: three numbers whose meaning depends on the kind.
fn numbers(ty: &Type<'_>) -> [u32; 3] {
    match ty.kind {
        Kind::Int => [ty.size(), u32::from(ty.int_encoding()), ty.int_offset() | ty.int_bits() << 8],
        Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 => [ty.size(), ty.vlen(), 0],
        Kind::Float | Kind::Datasec | Kind::Unknown(_) => [ty.size(), 0, 0],
        Kind::Array => [ty.array().nelems, 0, 0],
        Kind::FuncProto => [ty.vlen(), 0, 0],
        Kind::Var | Kind::Func | Kind::DeclTag => [ty.linkage(), 0, 0],
        Kind::Void
        | Kind::Ptr
        | Kind::Fwd
        | Kind::Typedef
        | Kind::Volatile
        | Kind::Const
        | Kind::Restrict
        | Kind::TypeTag => [0; 3],
    }
}

/// The one type that a type refers to beside its members and parameters, and the context that it is in.
fn target(ty: &Type<'_>, behind_ptr: bool) -> Option<(TypeId, bool)> {
    match ty.kind {
        Kind::Ptr => Some((ty.target(), true)),
        Kind::Array => Some((ty.array().elem, behind_ptr)),
        Kind::Typedef
        | Kind::Volatile
        | Kind::Const
        | Kind::Restrict
        | Kind::TypeTag
        | Kind::Var
        | Kind::DeclTag
        | Kind::Func
        | Kind::FuncProto => Some((ty.target(), behind_ptr)),
        _ => None,
    }
}
