//! Finds a field in a candidate as cilium/ebpf does: breadth first through anonymous structs and unions, each step
//! compared as it is taken.
//!
//! Source: `coreFindField`, `coreFindMember`, `coreAreMembersCompatible`, cilium/ebpf; spec section 14.

use super::{Budget, Missing, Why};
use crate::btf::{Btf, Member, Type, TypeId};
use crate::dialect::Rules;
use crate::error::ResolveError;
use crate::format::btf::Kind;
use crate::query::{FieldCompat, Leaf, Step};
use crate::value::{self, Endpoint, Place};

/// Structs and unions that one member is looked for in, the one that it is asked of included.
const VISITED_MAX: usize = 32;

const MALFORMED: ResolveError = ResolveError::TargetMalformed { errno: -22 };

/// Follows `steps` from `root`; the outer error is fatal, the inner one says what is missing.
pub(crate) fn find(
    rules: &Rules,
    steps: &[Step<'_>],
    btf: &Btf<'_>,
    root: TypeId,
    budget: &mut Budget,
) -> Result<Result<Place, Missing>, ResolveError> {
    let mut id = root;
    let mut byte_offset: u32 = 0;
    let mut end = Endpoint::Field { type_id: root, shift: 0, bits: 0 };
    // Whether the member that was found last is the last of its struct or union.
    let mut may_flex = false;
    for (depth, step) in steps.iter().enumerate() {
        let missing = |why| Ok(Err(Missing { why, depth }));
        let (container, ty) = budget.skip(btf, id, MALFORMED)?;
        if depth == 0 && ty.kind == Kind::Fwd {
            return missing(Why::OnlyDeclared);
        }
        match *step {
            Step::Is(compat) => {
                if !fits(rules, compat, btf, ty)? {
                    return missing(Why::FieldIncompatible);
                }
            }
            Step::Member { name, compat } => {
                if !ty.kind.is_composite() {
                    return missing(Why::FieldIncompatible);
                }
                let Some((member, is_last)) = member(btf, (container, ty), name, budget)? else {
                    return missing(Why::NoField);
                };
                let in_bits = compat.is_bitfield || member.bitfield_size > 0;
                if in_bits && depth + 1 < steps.len() {
                    return Err(MALFORMED);
                }
                let (offset, field) = value::field_of(btf, member, in_bits).map_err(|_| MALFORMED)?;
                byte_offset = byte_offset.wrapping_add(offset);
                (id, end, may_flex) = (member.type_id, field, is_last);
                let (_, ty) = budget.skip(btf, id, MALFORMED)?;
                if !fits(rules, compat, btf, ty)? {
                    return missing(Why::FieldIncompatible);
                }
            }
            Step::Index(index) => {
                // The root, which was compared first, already stands for the element that the first index selects.
                if depth > 1 {
                    if ty.kind != Kind::Array {
                        return missing(Why::FieldIncompatible);
                    }
                    let array = ty.array();
                    // QUIRK: an array without a bound that is not the last member ends the load.
                    if array.nelems == 0 && !may_flex {
                        return Err(MALFORMED);
                    }
                    if array.nelems > 0 && index >= array.nelems {
                        return missing(Why::ArrayBounds);
                    }
                    id = array.elem;
                    may_flex = false;
                }
                end = Endpoint::Field { type_id: id, shift: 0, bits: 0 };
                if index > 0 {
                    let size = btf.size_by(rules.sizes, id).map_err(|_| MALFORMED)?;
                    byte_offset = byte_offset.wrapping_add(index.wrapping_mul(size));
                }
            }
        }
    }
    Ok(Ok(Place { bit_offset: byte_offset.wrapping_mul(8), end }))
}

/// The first member of that name, its offset that in `root`, and whether it is the last of what contains it.
fn member(
    btf: &Btf<'_>,
    root: (TypeId, Type<'_>),
    name: &[u8],
    budget: &mut Budget,
) -> Result<Option<(Member, bool)>, ResolveError> {
    let mut pending = vec![(root, 0_u32)];
    // QUIRK: a struct counts again at another offset.
    let mut visited: Vec<(TypeId, u32)> = Vec::new();
    let mut next = 0;
    while let Some(&((id, container), offset)) = pending.get(next) {
        next += 1;
        if visited.contains(&(id, offset)) {
            continue;
        }
        if visited.len() == VISITED_MAX {
            return Err(ResolveError::TooDeep);
        }
        visited.push((id, offset));
        let count = container.members().len();
        for (index, member) in container.members().enumerate() {
            budget.spend()?;
            let member = value::with_legacy_bits(btf, container, member);
            let bit_offset = offset.wrapping_add(member.bit_offset);
            if btf.name_is(member.name_off, name) {
                return Ok(Some((Member { bit_offset, ..member }, index + 1 == count)));
            }
            if btf.is_anonymous(member.name_off) {
                let inner = budget.skip(btf, member.type_id, MALFORMED)?;
                // QUIRK: padding without a name ends the load.
                if !inner.1.kind.is_composite() {
                    return Err(MALFORMED);
                }
                pending.push((inner, bit_offset));
            }
        }
    }
    Ok(None)
}

/// Whether a type of the target is what the local one has to find there.
fn fits(rules: &Rules, compat: FieldCompat<'_>, btf: &Btf<'_>, ty: Type<'_>) -> Result<bool, ResolveError> {
    if compat.array_depth > 0 {
        return Ok(ty.kind == Kind::Array);
    }
    let same_name = |local: &[u8]| {
        let target = rules.flavors.essential(btf.name(ty.name_off));
        local.is_empty() || target.is_empty() || local == target
    };
    Ok(match compat.leaf {
        Leaf::Composite => ty.kind.is_composite(),
        Leaf::Ptr => ty.kind == Kind::Ptr,
        Leaf::Float => ty.kind == Kind::Float,
        Leaf::Int => ty.kind == Kind::Int,
        Leaf::Fwd(local) => ty.kind == Kind::Fwd && same_name(local),
        Leaf::Enum(local) => ty.kind.is_any_enum() && same_name(local),
        Leaf::Never => false,
        Leaf::Unusable => return Err(ResolveError::LocalTypeUnusable),
    })
}
