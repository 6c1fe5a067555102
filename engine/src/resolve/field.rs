//! Finds a field in a candidate: member search through anonymous structs and unions, array bounds.
//!
//! Source: `bpf_core_spec_match`, `bpf_core_match_member`, `bpf_core_fields_are_compat`, libbpf.

use super::{Budget, Missing, Watch, Why};
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
struct Search<'a, 'data, W> {
    rules: &'a Rules,
    btf: &'a Btf<'data>,
    bit_offset: u32,
    /// Indices used so far, those of anonymous members included.
    raw_len: usize,
    /// How many of them belong to earlier steps.
    before: usize,
    /// Whether a member of the right name was passed over because of its type.
    incompatible: bool,
    budget: &'a mut Budget<W>,
}

/// Follows `steps` from `root`; the outer error is fatal, the inner one says what is missing.
pub(crate) fn find<W: Watch>(
    rules: &Rules,
    steps: &[Step<'_>],
    btf: &Btf<'_>,
    root: TypeId,
    budget: &mut Budget<W>,
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
                let Some(found) = search.member(name, compat, id, ty)? else {
                    let why = if search.incompatible { Why::FieldIncompatible } else { Why::NoField };
                    return Ok(Err(Missing { why, depth }));
                };
                end = found;
                if let Endpoint::Member { member, .. } = found {
                    id = member.type_id;
                }
            }
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

impl<W: Watch> Search<'_, '_, W> {
    /// Looks for a member depth first, through anonymous structs and unions. The first of that name decides.
    fn member(
        &mut self,
        name: &[u8],
        compat: FieldCompat<'_>,
        id: TypeId,
        container: Type<'_>,
    ) -> Result<Option<Endpoint>, ResolveError> {
        let count = container.vlen();
        for (index, member) in (0_u32..).zip(container.members()) {
            self.budget.spend()?;
            // Checked before the name is looked at; it also bounds the recursion. HARDEN: aya's has no bound.
            let used = if self.rules.leaks_offset { self.raw_len } else { self.before };
            if used == SPEC_MAX_LEN || self.raw_len - self.before == NESTED_MAX {
                self.budget.watch.member(id, index);
                return Err(ResolveError::TooDeep);
            }
            self.bit_offset = self.bit_offset.wrapping_add(member.bit_offset);
            self.raw_len += 1;
            if self.btf.is_anonymous(member.name_off) {
                let told = self.budget.watch.told();
                let (inner_id, inner) = self.budget.skip(self.btf, member.type_id, MALFORMED)?;
                let found = self.member(name, compat, inner_id, inner);
                // A name that was met in there counts, and an error, even if the search goes on.
                if self.budget.watch.told() != told {
                    self.budget.watch.member(id, index);
                }
                if let Some(found) = found? {
                    return Ok(Some(found));
                }
            } else if self.btf.name_is(member.name_off, name) {
                self.budget.watch.member(id, index);
                self.watch_end(id, index, count, member.type_id);
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

    /// An array without elements has no bound if it is the last member. One that is not must not become it, so the
    /// last one counts too.
    fn watch_end(&mut self, id: TypeId, index: u32, count: u32, type_id: TypeId) {
        let is_empty = || {
            self.btf
                .skip_mods_and_typedefs(type_id)
                .is_some_and(|(_, ty)| ty.kind == Kind::Array && ty.array().nelems == 0)
        };
        if index + 1 < count && is_empty() {
            self.budget.watch.member(id, count - 1);
        }
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
