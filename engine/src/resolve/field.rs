//! Finds a field in a candidate: member search through anonymous structs and unions, array bounds.
//!
//! Source: `bpf_core_spec_match`, `bpf_core_match_member`, `bpf_core_fields_are_compat`, libbpf.

use super::{Budget, Missing, Why};
use crate::btf::{Btf, Sizes, Type, TypeId};
use crate::dialect::Rules;
use crate::error::ResolveError;
use crate::format::btf::Kind;
use crate::query::{FieldCompat, Leaf, SPEC_MAX_LEN, Step};
use crate::value::{Endpoint, Place};

/// Anonymous members within each other that are followed.
const NESTED_MAX: usize = 512;

const MALFORMED: ResolveError = ResolveError::TargetMalformed { errno: -22 };

/// State of the search: libbpf's target spec, as far as the result depends on it.
struct Search<'a, 'data> {
    rules: &'a Rules,
    btf: &'a Btf<'data>,
    bit_offset: u32,
    /// Indices used so far, those of anonymous members included.
    raw_len: usize,
    /// How many of them belong to earlier steps.
    before: usize,
    /// Whether a member of the right name was passed over because of its type.
    incompatible: bool,
    budget: &'a mut Budget,
}

/// Follows `steps` from `root`; the outer error is fatal, the inner one says what is missing.
pub(crate) fn find(
    rules: &Rules,
    steps: &[Step<'_>],
    btf: &Btf<'_>,
    root: TypeId,
    budget: &mut Budget,
) -> Result<Result<Place, Missing>, ResolveError> {
    let mut search = Search { rules, btf, bit_offset: 0, raw_len: 0, before: 0, incompatible: false, budget };
    let mut id = root;
    let mut end = Endpoint::Element(root);
    for (depth, step) in steps.iter().enumerate() {
        let (skipped, ty) = search.budget.skip(btf, id, MALFORMED)?;
        id = skipped;
        match *step {
            Step::Member { name, compat } => {
                search.before = search.raw_len;
                let Some(found) = search.member(name, compat, ty)? else {
                    let why = if search.incompatible { Why::FieldIncompatible } else { Why::NoField };
                    return Ok(Err(Missing { why, depth }));
                };
                end = found;
                if let Endpoint::Member { member, .. } = found {
                    id = member.type_id;
                }
            }
            // cilium/ebpf's alone.
            Step::Is(_) => {}
            Step::Index(index) => {
                // The root already stands for the element that the first index selects.
                if depth > 0 {
                    if ty.kind != Kind::Array {
                        return Ok(Err(Missing { why: Why::FieldIncompatible, depth }));
                    }
                    let array = ty.array();
                    if !end.is_flex_array(array) && index >= array.nelems {
                        return Ok(Err(Missing { why: Why::ArrayBounds, depth }));
                    }
                    (id, _) = search.budget.skip(btf, array.elem, MALFORMED)?;
                }
                if search.raw_len == SPEC_MAX_LEN {
                    return Err(ResolveError::TooDeep);
                }
                search.raw_len += 1;
                end = Endpoint::Element(id);
                // QUIRK: the size is needed even for index 0, so a candidate that has none (a typedef of a
                // forward declaration) ends the load.
                let size = btf
                    .size_by(rules.sizes, id)
                    .map_err(|error| ResolveError::TargetMalformed { errno: error.errno() })?;
                // QUIRK: kept in an int there; from 2 GiB on it looks like a negative errno.
                if size.cast_signed() < 0 && rules.sizes != Sizes::Aya {
                    return Err(ResolveError::TargetMalformed { errno: size.cast_signed() });
                }
                search.bit_offset = search.bit_offset.wrapping_add(index.wrapping_mul(size).wrapping_mul(8));
            }
        }
    }
    Ok(Ok(Place { bit_offset: search.bit_offset, end }))
}

impl Search<'_, '_> {
    /// Looks for a member depth first, through anonymous structs and unions. The first of that name decides.
    fn member(
        &mut self,
        name: &[u8],
        compat: FieldCompat<'_>,
        container: Type<'_>,
    ) -> Result<Option<Endpoint>, ResolveError> {
        let count = container.members().len();
        for (index, member) in container.members().enumerate() {
            self.budget.spend()?;
            // Checked before the name is looked at; it also bounds the recursion. HARDEN: aya's has no bound.
            let used = if self.rules.leaks_offset { self.raw_len } else { self.before };
            if used == SPEC_MAX_LEN || self.raw_len - self.before == NESTED_MAX {
                return Err(ResolveError::TooDeep);
            }
            self.bit_offset = self.bit_offset.wrapping_add(member.bit_offset);
            self.raw_len += 1;
            if self.btf.is_anonymous(member.name_off) {
                let (_, inner) = self.budget.skip(self.btf, member.type_id, MALFORMED)?;
                if let Some(found) = self.member(name, compat, inner)? {
                    return Ok(Some(found));
                }
            } else if self.btf.name_is(member.name_off, name) {
                if self.fields_are_compat(compat, member.type_id)? {
                    let may_flex = self.rules.flexible_in_union || container.kind == Kind::Struct;
                    return Ok(Some(Endpoint::Member { member, is_last: may_flex && index + 1 == count }));
                }
                self.incompatible = true;
                // QUIRK: libbpf does not take back offset and index of this member. Inside an anonymous member
                // the search goes on outside, and a later hit there comes out at a wrong offset.
                if !self.rules.leaks_offset {
                    self.bit_offset = self.bit_offset.wrapping_sub(member.bit_offset);
                    self.raw_len -= 1;
                }
                return Ok(None);
            }
            self.bit_offset = self.bit_offset.wrapping_sub(member.bit_offset);
            self.raw_len -= 1;
        }
        Ok(None)
    }

    /// Whether the target's type is compatible with what the local member is.
    fn fields_are_compat(&mut self, compat: FieldCompat<'_>, id: TypeId) -> Result<bool, ResolveError> {
        let (_, mut ty) = self.budget.skip(self.btf, id, MALFORMED)?;
        for _ in 0..compat.array_depth {
            if ty.kind != Kind::Array {
                return Ok(false);
            }
            self.budget.spend()?;
            (_, ty) = self.budget.skip(self.btf, ty.array().elem, MALFORMED)?;
        }
        let same_name = |local: &[u8]| {
            let target = self.rules.flavors.essential(self.btf.name(ty.name_off));
            self.rules.anonymous_fits && (local.is_empty() || target.is_empty()) || local == target
        };
        Ok(match compat.leaf {
            Leaf::Composite => ty.kind.is_composite(),
            Leaf::Ptr => ty.kind == Kind::Ptr,
            Leaf::Float => ty.kind == Kind::Float,
            Leaf::Int => ty.kind == Kind::Int && ty.int_offset() == 0,
            Leaf::Fwd(local) => ty.kind == Kind::Fwd && same_name(local),
            Leaf::Enum(local) => ty.kind.is_any_enum() && same_name(local),
            Leaf::Never => false,
            Leaf::Unusable => return Err(ResolveError::LocalTypeUnusable),
        })
    }
}
