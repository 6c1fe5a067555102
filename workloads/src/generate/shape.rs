//! Hash of what a CO-RE rule can see of a type: through modifiers and typedefs, members by value; behind a pointer, a
//! named struct or union is its kind and name only.
//!
//! For the growth curves alone, which count how many different layouts there are.

use btfleet_engine::btf::{Btf, NameHash, TypeId};
use btfleet_engine::format::btf::Kind;
use hashbrown::HashMap;

use super::rng::fold;

/// By-value and pointer nesting after which a type is left out of the hash; kernels have less than 20.
const DEPTH_MAX: u32 = 48;

/// Shapes of the types of one BTF.
#[derive(Debug)]
pub(super) struct Shapes<'a, 'data> {
    btf: &'a Btf<'data>,
    known: HashMap<TypeId, u64>,
}

impl<'a, 'data> Shapes<'a, 'data> {
    pub(super) fn new(btf: &'a Btf<'data>) -> Self {
        Self { btf, known: HashMap::new() }
    }

    /// The shape of a type.
    pub(super) fn of(&mut self, id: TypeId) -> u64 {
        self.by_value(id, DEPTH_MAX)
    }

    fn name(&self, off: u32) -> u64 {
        NameHash::of(self.btf.name(off)).0
    }

    fn by_value(&mut self, id: TypeId, depth: u32) -> u64 {
        let Some((id, ty)) = self.btf.skip_mods_and_typedefs(id) else { return 1 };
        let Some(depth) = depth.checked_sub(1) else { return 2 };
        let is_kept = ty.kind.is_composite() && !self.btf.is_anonymous(ty.name_off);
        if is_kept && let Some(&known) = self.known.get(&id) {
            return known;
        }
        let mut hash = fold(kind_number(ty.kind), self.name(ty.name_off));
        match ty.kind {
            Kind::Struct | Kind::Union => {
                hash = fold(hash, ty.size().into());
                for member in ty.members() {
                    hash = fold(hash, self.name(member.name_off));
                    hash = fold(hash, u64::from(member.bit_offset) << 32 | u64::from(member.bitfield_size));
                    hash = fold(hash, self.by_value(member.type_id, depth));
                }
            }
            Kind::Enum | Kind::Enum64 => {
                hash = fold(hash, u64::from(ty.size()) << 1 | u64::from(ty.kind_flag()));
                for it in ty.enumerators() {
                    hash = fold(fold(hash, self.name(it.name_off)), it.value);
                }
            }
            Kind::Array => {
                let array = ty.array();
                hash = fold(fold(hash, array.nelems.into()), self.by_value(array.elem, depth));
            }
            Kind::Int => hash = fold(fold(hash, ty.size().into()), ty.int_encoding().into()),
            Kind::Float => hash = fold(hash, ty.size().into()),
            Kind::Ptr => hash = fold(hash, self.behind_pointer(ty.target(), depth)),
            Kind::FuncProto => {
                hash = fold(hash, self.behind_pointer(ty.target(), depth));
                for param in ty.params() {
                    hash = fold(hash, self.behind_pointer(param.type_id, depth));
                }
            }
            _ => {}
        }
        if is_kept {
            self.known.insert(id, hash);
        }
        hash
    }

    fn behind_pointer(&mut self, id: TypeId, depth: u32) -> u64 {
        match self.btf.skip_mods_and_typedefs(id) {
            Some((_, ty)) if ty.kind.is_composite() && !self.btf.is_anonymous(ty.name_off) => {
                fold(kind_number(ty.kind), self.name(ty.name_off))
            }
            _ => self.by_value(id, depth),
        }
    }
}

/// A number for each kind; ENUM and ENUM64 are one to CO-RE.
pub(super) fn kind_number(kind: Kind) -> u64 {
    match kind {
        Kind::Enum64 => kind_number(Kind::Enum),
        kind => NameHash::of(kind.name().as_bytes()).0,
    }
}
