//! Strict comparison of types: `TYPE_MATCHES`.
//!
//! Source: `__bpf_core_types_match`, libbpf; spec 6.4.

use super::{Budget, ResolveError};
use crate::btf::{Btf, Type, TypeId, essential_name};
use crate::format::btf::Kind;

/// Nested members and parameters that libbpf follows (the kernel: 2).
const LEVEL_MAX: u32 = 32;
/// Steps along pointers, arrays and return types that libbpf takes at each level.
const CHAIN_MAX: u32 = 32;

/// Whether the target's root has everything that the local root has.
pub(super) fn types_match(
    local: &Btf<'_>,
    local_id: TypeId,
    target: &Btf<'_>,
    target_id: TypeId,
) -> Result<bool, ResolveError> {
    Matcher { local, target, budget: Budget::new() }.types(local_id, target_id, false, LEVEL_MAX)
}

struct Matcher<'a, 'l, 't> {
    local: &'a Btf<'l>,
    target: &'a Btf<'t>,
    budget: Budget,
}

impl Matcher<'_, '_, '_> {
    fn names(&self, local_off: u32, target_off: u32) -> bool {
        let (local, target) = (self.local.name(local_off), self.target.name(target_off));
        // Two empty essential names are two empty names: a cut never leaves nothing.
        essential_name(local) == essential_name(target)
    }

    fn types(
        &mut self,
        mut local_id: TypeId,
        mut target_id: TypeId,
        mut behind_ptr: bool,
        level: u32,
    ) -> Result<bool, ResolveError> {
        let below = level.checked_sub(1).ok_or(ResolveError::MatchTooDeep)?;
        for _ in 0..CHAIN_MAX {
            self.budget.spend()?;
            let (_, local) =
                self.local.skip_mods_and_typedefs(local_id).ok_or(ResolveError::LocalTypeUnusable)?;
            let (_, target) = self
                .target
                .skip_mods_and_typedefs(target_id)
                .ok_or(ResolveError::TargetMalformed { errno: -22 })?;
            // Names of all kinds count: the compiler's `long` is not the kernel's `long int`.
            if !self.names(local.name_off, target.name_off) {
                return Ok(false);
            }
            match local.kind {
                Kind::Void => return Ok(target.kind == Kind::Void),
                Kind::Fwd => return Ok(fwd_matches(local, target, behind_ptr)),
                Kind::Enum | Kind::Enum64 => return Ok(self.enums(local, target)),
                Kind::Struct | Kind::Union if behind_ptr => {
                    return Ok(local.kind == target.kind
                        || target.kind == Kind::Fwd
                            && target.kind_flag() == (local.kind == Kind::Union));
                }
                Kind::Struct | Kind::Union => {
                    return Ok(local.kind == target.kind && self.composites(local, target, below)?);
                }
                Kind::Int => {
                    return Ok(target.kind == Kind::Int
                        && local.size() == target.size()
                        && local.is_signed() == target.is_signed());
                }
                _ if local.kind != target.kind => return Ok(false),
                Kind::Ptr => {
                    behind_ptr = true;
                    (local_id, target_id) = (local.target(), target.target());
                }
                Kind::Array => {
                    let (local, target) = (local.array(), target.array());
                    if local.nelems != target.nelems {
                        return Ok(false);
                    }
                    (local_id, target_id) = (local.elem, target.elem);
                }
                Kind::FuncProto => {
                    if local.vlen() != target.vlen() {
                        return Ok(false);
                    }
                    for (local_param, target_param) in local.params().zip(target.params()) {
                        if !self.types(local_param.type_id, target_param.type_id, behind_ptr, below)? {
                            return Ok(false);
                        }
                    }
                    (local_id, target_id) = (local.target(), target.target());
                }
                // FLOAT and everything that no type consists of.
                _ => return Ok(false),
            }
        }
        Err(ResolveError::MatchTooDeep)
    }

    /// Every local enumerator has a counterpart by name. Values do not count.
    fn enums(&mut self, local: Type<'_>, target: Type<'_>) -> bool {
        target.kind.is_any_enum()
            && local.size() == target.size()
            && local.vlen() <= target.vlen()
            && local.enumerators().all(|it| {
                target.enumerators().any(|other| self.names(it.name_off, other.name_off))
            })
    }

    /// Every local member has a matching counterpart. Offsets and sizes do not count.
    fn composites(
        &mut self,
        local: Type<'_>,
        target: Type<'_>,
        level: u32,
    ) -> Result<bool, ResolveError> {
        if local.vlen() > target.vlen() {
            return Ok(false);
        }
        for member in local.members() {
            let mut matched = false;
            for other in target.members() {
                if self.names(member.name_off, other.name_off)
                    && self.types(member.type_id, other.type_id, false, level)?
                {
                    matched = true;
                    break;
                }
            }
            if !matched {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The kind flag of a forward declaration says union.
fn fwd_matches(local: Type<'_>, target: Type<'_>, behind_ptr: bool) -> bool {
    match target.kind {
        Kind::Fwd => local.kind_flag() == target.kind_flag(),
        Kind::Struct => behind_ptr && !local.kind_flag(),
        Kind::Union => behind_ptr && local.kind_flag(),
        _ => false,
    }
}
