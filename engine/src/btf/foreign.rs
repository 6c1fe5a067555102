//! Whether a split BTF is of the base that it was parsed on.
//!
//! Nothing in a split BTF names its base, and ids and offsets that are in range mean something on any base. But what
//! wrote it takes whole names, and types where types may stand; on another base ids and offsets lead elsewhere, and
//! hardly a module is so small that none of these rules is broken. No module of its own kernel breaks any.

use super::{Btf, BtfError, Type, TypeId};
use crate::format::btf::Kind;

impl Btf<'_> {
    /// Checks that a split BTF was made for its base, as far as the two show it; for others there is nothing to check.
    ///
    /// Differs from libbpf: it takes any base that ids and offsets are in range of.
    ///
    /// # Errors
    /// [`BtfError::ForeignBase`].
    pub fn check_base(&self) -> Result<(), BtfError> {
        let Some(base) = self.base() else { return Ok(()) };
        for (id, ty) in self.own_types() {
            if let Some(what) = self.foreign(base, ty) {
                return Err(BtfError::ForeignBase { id: id.0, what });
            }
        }
        Ok(())
    }

    /// What is wrong with a type if what it refers to in `base` was meant.
    fn foreign(&self, base: &Btf<'_>, ty: Type<'_>) -> Option<&'static str> {
        // A name begins where another ends.
        let is_cut = |off: u32| {
            let end_before = off.checked_sub(1).filter(|_| off < base.str_end());
            end_before.is_some_and(|at| base.str_at(at).is_some_and(|it| !it.is_empty()))
        };
        let kind_of = |id: TypeId| base.ty(id).filter(|_| id.0 < base.type_count()).map(|it| it.kind);
        let mut names = vec![ty.name_off];
        // Values have types, as have what pointers lead to and functions take.
        let mut values: smallvec::SmallVec<[TypeId; 8]> = smallvec::SmallVec::new();
        match ty.kind {
            Kind::Ptr
            | Kind::Typedef
            | Kind::Volatile
            | Kind::Const
            | Kind::Restrict
            | Kind::TypeTag
            | Kind::Var => {
                values.push(ty.target());
            }
            Kind::Array => {
                let array = ty.array();
                values.push(array.elem);
                if kind_of(ty.array_index_type()).is_some_and(|it| it != Kind::Int) {
                    return Some("an array's index would have a type of vmlinux that is no integer");
                }
            }
            Kind::Struct | Kind::Union => {
                for member in ty.members() {
                    names.push(member.name_off);
                    values.push(member.type_id);
                    let is_whole = member.bitfield_size == 0 && member.type_id.0 < base.type_count();
                    if is_whole && !self.fits(ty, member.type_id, member.bit_offset) {
                        return Some("a member would have a type of vmlinux that is too large for it");
                    }
                }
            }
            Kind::FuncProto => {
                values.push(ty.target());
                for param in ty.params() {
                    names.push(param.name_off);
                    values.push(param.type_id);
                }
            }
            Kind::Enum | Kind::Enum64 => names.extend(ty.enumerators().map(|it| it.name_off)),
            _ => {}
        }
        if names.into_iter().any(is_cut) {
            return Some("a name would begin in the middle of a name of vmlinux");
        }
        let is_no_type = |kind| matches!(kind, Kind::Func | Kind::Var | Kind::Datasec | Kind::DeclTag);
        if values.into_iter().filter_map(kind_of).any(is_no_type) {
            return Some("it would be of a type that is a function or variable of vmlinux");
        }
        None
    }

    /// Whether a member of a type fits into a composite.
    fn fits(&self, composite: Type<'_>, member: TypeId, bit_offset: u32) -> bool {
        let size = self.resolve_size(member);
        size.is_ok_and(|size| u64::from(bit_offset) / 8 + u64::from(size) <= u64::from(composite.size()))
    }
}
