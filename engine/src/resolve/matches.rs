//! Strict comparison of types: `TYPE_MATCHES`.
//!
//! Source: `__bpf_core_types_match`, libbpf; spec 6.4.

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::{Budget, Watch};
use crate::btf::{Btf, Type, TypeId, essential_name};
use crate::dialect::Rules;
use crate::error::ResolveError;
use crate::format::btf::Kind;

/// Steps along pointers, arrays and return types that libbpf takes at each level.
const CHAIN_MAX: u32 = 32;

const MALFORMED: ResolveError = ResolveError::TargetMalformed { errno: -22 };

/// Whether the target's root has everything that the local root has.
pub(super) fn types_match<W: Watch>(
    rules: &Rules,
    local: &Btf<'_>,
    local_id: TypeId,
    target: &Btf<'_>,
    target_id: TypeId,
    budget: &mut Budget<W>,
) -> Result<bool, ResolveError> {
    Matcher { local, target, budget }.types(local_id, target_id, false, rules.level_max)
}

/// Numbers of members or enumerators by essential name.
type NameIndex<'data> = HashMap<&'data [u8], SmallVec<[u32; 1]>>;

struct Matcher<'a, 'l, 't, W> {
    local: &'a Btf<'l>,
    target: &'a Btf<'t>,
    budget: &'a mut Budget<W>,
}

impl<'t, W: Watch> Matcher<'_, '_, 't, W> {
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
            let (_, local) = self.budget.skip(self.local, local_id, ResolveError::LocalTypeUnusable)?;
            let (skipped, target) = self.budget.skip(self.target, target_id, MALFORMED)?;
            // Names of all kinds count: the compiler's `long` is not the kernel's `long int`.
            if !self.names(local.name_off, target.name_off) {
                return Ok(false);
            }
            match local.kind {
                Kind::Void => return Ok(target.kind == Kind::Void),
                Kind::Fwd => return Ok(fwd_matches(local, target, behind_ptr)),
                Kind::Enum | Kind::Enum64 => return self.enums(local, skipped, target),
                Kind::Struct | Kind::Union if behind_ptr => {
                    return Ok(local.kind == target.kind
                        || target.kind == Kind::Fwd && target.kind_flag() == (local.kind == Kind::Union));
                }
                Kind::Struct | Kind::Union => {
                    return Ok(local.kind == target.kind && self.composites(local, skipped, target, below)?);
                }
                Kind::Int => {
                    return Ok(target.kind == Kind::Int
                        && local.size() == target.size()
                        && local.is_signed() == target.is_signed());
                }
                _ if local.kind != target.kind => return Ok(false),
                Kind::Ptr => {
                    self.budget.watch.behind(skipped);
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
                    self.budget.watch.behind(skipped);
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
    fn enums(&mut self, local: Type<'_>, id: TypeId, target: Type<'_>) -> Result<bool, ResolveError> {
        if !target.kind.is_any_enum() || local.size() != target.size() || local.vlen() > target.vlen() {
            return Ok(false);
        }
        self.budget.watch.at_least(id, local.vlen());
        let by_name = self.index(target.enumerators().map(|it| it.name_off))?;
        for enumerator in local.enumerators() {
            self.budget.spend()?;
            let found = by_name.get(essential_name(self.local.name(enumerator.name_off)));
            let Some(&first) = found.and_then(|it| it.first()) else { return Ok(false) };
            self.budget.watch.enumerator(id, first);
        }
        Ok(true)
    }

    /// Every local member has a matching counterpart. Offsets and sizes do not count.
    fn composites(
        &mut self,
        local: Type<'_>,
        id: TypeId,
        target: Type<'_>,
        level: u32,
    ) -> Result<bool, ResolveError> {
        if local.vlen() > target.vlen() {
            return Ok(false);
        }
        self.budget.watch.at_least(id, local.vlen());
        let by_name = self.index(target.members().map(|it| it.name_off))?;
        for member in local.members() {
            self.budget.spend()?;
            let name = essential_name(self.local.name(member.name_off));
            let same_name = by_name.get(name).map_or(&[][..], SmallVec::as_slice);
            let mut matched = false;
            for &index in same_name {
                let other = target.member(index).ok_or(MALFORMED)?;
                self.budget.watch.member(id, index);
                if self.types(member.type_id, other.type_id, false, level)? {
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

    /// The target's members or enumerators by essential name, those of equal names in their order. libbpf
    /// compares every local name with every target name, which takes seconds for large hostile types.
    fn index(&mut self, names: impl Iterator<Item = u32>) -> Result<NameIndex<'t>, ResolveError> {
        let mut by_name = NameIndex::default();
        for (index, name_off) in (0..).zip(names) {
            self.budget.spend()?;
            by_name.entry(essential_name(self.target.name(name_off))).or_default().push(index);
        }
        Ok(by_name)
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
