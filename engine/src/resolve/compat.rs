//! Loose comparison of types: `TYPE_EXISTS`, `TYPE_SIZE`, `TYPE_ID_TARGET`.
//!
//! Source: `__bpf_core_types_are_compat`, libbpf; spec 6.3.

use super::{Budget, Watch};
use crate::btf::{Btf, TypeId};
use crate::dialect::Rules;
use crate::error::ResolveError;
use crate::format::btf::Kind;

/// Steps along pointers, arrays and return types that libbpf takes at each level.
const CHAIN_MAX: u32 = 32;

const MALFORMED: ResolveError = ResolveError::TargetMalformed { errno: -22 };

/// Whether the two roots, which share an essential name, are compatible.
pub(crate) fn types_are_compat<W: Watch>(
    rules: &Rules,
    local: &Btf<'_>,
    local_id: TypeId,
    target: &Btf<'_>,
    target_id: TypeId,
    budget: &mut Budget<W>,
) -> Result<bool, ResolveError> {
    if !rules.compares_types {
        return Err(ResolveError::LoaderUnsupported);
    }
    // libbpf also compares the kinds of the unskipped roots; candidates were chosen by just that.
    Compat { rules, local, target, budget }.types(local_id, target_id, rules.level_max)
}

struct Compat<'a, 'l, 't, W> {
    rules: &'a Rules,
    local: &'a Btf<'l>,
    target: &'a Btf<'t>,
    budget: &'a mut Budget<W>,
}

impl<W: Watch> Compat<'_, '_, '_, W> {
    fn types(
        &mut self,
        mut local_id: TypeId,
        mut target_id: TypeId,
        level: u32,
    ) -> Result<bool, ResolveError> {
        for _ in 0..CHAIN_MAX {
            self.budget.spend()?;
            let (_, local) = self.budget.skip(self.local, local_id, ResolveError::LocalTypeUnusable)?;
            let (skipped, target) = self.budget.skip(self.target, target_id, MALFORMED)?;
            if !local.kind.core_compat(target.kind) {
                return Ok(false);
            }
            match local.kind {
                Kind::Enum | Kind::Enum64 if !self.rules.enum64 => {
                    return Ok((local.kind, target.kind) == (Kind::Enum, Kind::Enum));
                }
                Kind::Void | Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Fwd => {
                    return Ok(true);
                }
                Kind::Int => return Ok(local.int_offset() == 0 && target.int_offset() == 0),
                Kind::Ptr => {
                    self.budget.watch.behind(skipped);
                    (local_id, target_id) = (local.target(), target.target());
                }
                Kind::Array => (local_id, target_id) = (local.array().elem, target.array().elem),
                Kind::FuncProto => {
                    if local.vlen() != target.vlen() {
                        return Ok(false);
                    }
                    self.budget.watch.behind(skipped);
                    for (local_param, target_param) in local.params().zip(target.params()) {
                        let level = level.checked_sub(1).ok_or(ResolveError::MatchTooDeep)?;
                        if !self.types(local_param.type_id, target_param.type_id, level)? {
                            return Ok(false);
                        }
                    }
                    (local_id, target_id) = (local.target(), target.target());
                }
                Kind::Float if self.rules.float_types => return Ok(true),
                // QUIRK: aya panics at functions, variables and the like.
                _ if self.rules.float_types => return Err(ResolveError::LocalTypeUnusable),
                // QUIRK: FLOAT among them, so a typedef of float is never found.
                _ => return Ok(false),
            }
        }
        Err(ResolveError::MatchTooDeep)
    }
}
