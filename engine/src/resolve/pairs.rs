//! Comparison of types as cilium/ebpf does it: pairs that were met before fit, so nothing bounds the depth.
//!
//! Pairs that are still to be compared stand on a stack, in the order in which a recursion would come to them.
//!
//! Source: `coreAreTypesCompatible`, `coreTypesMatch`, cilium/ebpf; spec section 14.

use hashbrown::{HashMap, HashSet};

use super::Budget;
use crate::btf::{Btf, Type, TypeId};
use crate::dialect::Rules;
use crate::error::ResolveError;
use crate::format::btf::{INT_SIGNED, Kind};

const MALFORMED: ResolveError = ResolveError::TargetMalformed { errno: -22 };

type Pair = (TypeId, TypeId);

/// Whether the two roots are compatible: `TYPE_EXISTS`, `TYPE_SIZE`, `TYPE_ID_TARGET`.
pub(crate) fn are_compat(
    local: (&Btf<'_>, TypeId),
    target: (&Btf<'_>, TypeId),
    budget: &mut Budget,
) -> Result<bool, ResolveError> {
    all_fit(local, target, budget, |local, target, inner, _| {
        if !local.kind.core_compat(target.kind) {
            return Ok(false);
        }
        match local.kind {
            Kind::Void | Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Fwd | Kind::Int => {}
            Kind::Ptr => inner.push((local.target(), target.target())),
            Kind::Array => inner.push((local.array().elem, target.array().elem)),
            Kind::FuncProto => {
                inner.push((local.target(), target.target()));
                if local.vlen() != target.vlen() {
                    inner.push(NEVER);
                }
                inner.extend(params(local, target));
            }
            // QUIRK: FLOAT among them, so asking for a typedef of float ends the load.
            _ => return Err(ResolveError::LocalTypeUnusable),
        }
        Ok(true)
    })
}

/// Whether the target's root has everything that the local root has: `TYPE_MATCHES`.
///
/// Structs and unions behind pointers are compared by name and kind, where cilium/ebpf compares their members: what is
/// behind pointers does not count for what kernels have in common.
pub(crate) fn match_each_other(
    rules: &Rules,
    local: (&Btf<'_>, TypeId),
    target: (&Btf<'_>, TypeId),
    budget: &mut Budget,
) -> Result<bool, ResolveError> {
    let (local_btf, target_btf) = (local.0, target.0);
    // A name that is not there fits any.
    let names = |local_off: u32, target_off: u32| {
        let (local, target) = (local_btf.name(local_off), target_btf.name(target_off));
        local.is_empty()
            || target.is_empty()
            || rules.flavors.essential(local) == rules.flavors.essential(target)
    };
    all_fit(local, target, budget, |local, target, inner, budget| {
        if !names(local.name_off, target.name_off) || !local.kind.core_compat(target.kind) {
            return Ok(false);
        }
        match local.kind {
            Kind::Void => {}
            Kind::Fwd => return Ok(local.kind_flag() == target.kind_flag()),
            Kind::Enum | Kind::Enum64 => {
                if local.size() != target.size() || local.vlen() > target.vlen() {
                    return Ok(false);
                }
                for local in local.enumerators() {
                    let mut found = false;
                    for target in target.enumerators() {
                        budget.spend()?;
                        found = found || names(local.name_off, target.name_off);
                    }
                    if !found {
                        return Ok(false);
                    }
                }
            }
            Kind::Struct | Kind::Union => {
                if local.vlen() > target.vlen() {
                    return Ok(false);
                }
                // QUIRK: of members of one name, as anonymous ones are, the last.
                let mut by_name = HashMap::new();
                for member in target.members() {
                    budget.spend()?;
                    by_name.insert(target_btf.name(member.name_off), member.type_id);
                }
                for member in local.members() {
                    let found = by_name.get(local_btf.name(member.name_off));
                    inner.push(found.map_or(NEVER, |it| (member.type_id, *it)));
                }
            }
            Kind::Int => {
                // QUIRK: the encoding is compared as a whole, so "signed and char" is not signed.
                let is_signed = |it: Type<'_>| it.int_encoding() == INT_SIGNED;
                return Ok(local.size() == target.size() && is_signed(local) == is_signed(target));
            }
            Kind::Ptr => {
                let (_, to_local) =
                    budget.skip(local_btf, local.target(), ResolveError::LocalTypeUnusable)?;
                let (_, to_target) = budget.skip(target_btf, target.target(), MALFORMED)?;
                let declares = |declared: Type<'_>, other: Type<'_>| {
                    let kind = if declared.kind_flag() { Kind::Union } else { Kind::Struct };
                    declared.kind == Kind::Fwd && other.kind == kind
                };
                let is_named = !local_btf.is_anonymous(to_local.name_off)
                    || !target_btf.is_anonymous(to_target.name_off);
                if declares(to_local, to_target) || declares(to_target, to_local) {
                } else if to_local.kind.is_composite() && is_named {
                    return Ok(
                        to_local.kind == to_target.kind && names(to_local.name_off, to_target.name_off)
                    );
                } else {
                    inner.push((local.target(), target.target()));
                }
            }
            Kind::Array => {
                inner.push((local.array().elem, target.array().elem));
                return Ok(local.array().nelems == target.array().nelems);
            }
            Kind::FuncProto => {
                inner.extend(params(local, target));
                inner.push((local.target(), target.target()));
                return Ok(local.vlen() == target.vlen());
            }
            _ => return Err(ResolveError::LocalTypeUnusable),
        }
        Ok(true)
    })
}

/// A pair that does not fit, among those that are to be compared in order.
const NEVER: Pair = (TypeId(u32::MAX), TypeId(u32::MAX));

fn params<'a>(local: Type<'a>, target: Type<'a>) -> impl Iterator<Item = Pair> {
    local.params().zip(target.params()).map(|(local, target)| (local.type_id, target.type_id))
}

/// Whether all pairs fit that `step` leads to. `step`: whether two types fit as far as they themselves go; it adds the
/// pairs that they consist of.
fn all_fit<'l, 't>(
    (local, local_root): (&Btf<'l>, TypeId),
    (target, target_root): (&Btf<'t>, TypeId),
    budget: &mut Budget,
    step: impl Fn(Type<'l>, Type<'t>, &mut Vec<Pair>, &mut Budget) -> Result<bool, ResolveError>,
) -> Result<bool, ResolveError> {
    let mut pending = vec![(local_root, target_root)];
    let mut met: HashSet<Pair> = HashSet::new();
    let mut inner = Vec::new();
    while let Some(pair) = pending.pop() {
        if pair == NEVER {
            return Ok(false);
        }
        budget.spend()?;
        let (local_id, local) = budget.skip(local, pair.0, ResolveError::LocalTypeUnusable)?;
        let (target_id, target) = budget.skip(target, pair.1, MALFORMED)?;
        // Met before, it was found to fit or the comparison would be over.
        if met.contains(&(local_id, target_id)) {
            continue;
        }
        if !step(local, target, &mut inner, budget)? {
            return Ok(false);
        }
        met.insert((local_id, target_id));
        pending.extend(inner.drain(..).rev());
    }
    Ok(true)
}
