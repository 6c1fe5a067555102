//! What of a BTF the answers to questions depend on.
//!
//! The walks follow those of `resolve`, and take every way where `resolve` would choose one: what is marked without
//! need costs some bytes, and nothing can be missing.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::{HashMap, HashSet};

use crate::btf::{Btf, Type, TypeId};
use crate::dialect::Rules;
use crate::format::btf::Kind;
use crate::format::btf_ext::RelocKind;
use crate::query::{Ask, Query, Step};
use crate::resolve::{Budget, Found, Match, on_candidate};
use crate::value::ValueError;

/// Links of a chain of types that are followed; `Btf` follows no more either.
const CHAIN_MAX: u32 = 1024;
/// Anonymous members within each other that are followed, as in `resolve`.
const NESTED_MAX: u32 = 512;

/// Types to keep.
pub(super) type Marks = BTreeMap<TypeId, Parts>;

/// Members of a struct or union, or enumerators, that are kept, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parts {
    /// These.
    Some(BTreeSet<u32>),
    /// All.
    All,
}

impl Parts {
    /// Whether part number `index` is kept.
    pub(super) fn has(&self, index: u32) -> bool {
        match self {
            Self::Some(these) => these.contains(&index),
            Self::All => true,
        }
    }
}

/// Marks types of one BTF.
pub(super) struct Marker<'a, 'data> {
    rules: &'a Rules,
    btf: &'a Btf<'data>,
    /// Of vmlinux.
    base: &'a mut Marks,
    /// Of the module that `btf` is of, if it is a module's.
    own: Option<&'a mut Marks>,
}

impl<'a, 'data> Marker<'a, 'data> {
    pub(super) fn new(
        rules: &'a Rules,
        btf: &'a Btf<'data>,
        base: &'a mut Marks,
        own: Option<&'a mut Marks>,
    ) -> Self {
        Self { rules, btf, base, own }
    }

    /// Marks what the questions about a root need of its candidates.
    pub(super) fn candidates(&mut self, ids: &[TypeId], queries: &[(&Query<'_>, RelocKind)]) {
        for &id in ids {
            self.keep(id);
            for (query, kind) in queries {
                self.candidate(id, query, *kind);
            }
        }
    }

    /// Keeps a type: all of it but what consists of parts.
    pub(super) fn keep(&mut self, id: TypeId) {
        self.parts(id);
    }

    fn candidate(&mut self, id: TypeId, query: &Query<'_>, kind: RelocKind) {
        let answer = on_candidate(self.rules, query, kind, self.btf, id, &mut Budget::new());
        if matches!(answer, Err(_) | Ok(Match::Found(Found { value: Err(ValueError::NoSize), .. }))) {
            self.whole(id, true);
            return;
        }
        match &query.ask {
            Ask::Field(steps) => self.field(id, steps),
            Ask::Enumerator(essential) => self.enumerator(id, essential),
            Ask::TypeCompat(_) => {
                self.sized(id);
                self.compared(id);
            }
            Ask::TypeMatches(_) => {
                self.sized(id);
                self.whole(id, false);
            }
        }
    }

    fn marks(&mut self, id: TypeId) -> &mut Marks {
        match &mut self.own {
            Some(own) if id >= self.btf.start_id() => own,
            _ => self.base,
        }
    }

    fn parts(&mut self, id: TypeId) -> Option<&mut Parts> {
        let ty = self.btf.ty(id)?;
        if id == TypeId::VOID {
            return None;
        }
        // A function without a prototype is none.
        if ty.kind == Kind::Func {
            self.marks(ty.target()).entry(ty.target()).or_insert_with(|| Parts::Some(BTreeSet::new()));
        }
        Some(self.marks(id).entry(id).or_insert_with(|| Parts::Some(BTreeSet::new())))
    }

    fn keep_part(&mut self, id: TypeId, index: u32) {
        if let Some(Parts::Some(parts)) = self.parts(id) {
            parts.insert(index);
        }
    }

    /// Keeps the type behind modifiers and typedefs.
    fn behind(&mut self, id: TypeId) -> Option<(TypeId, Type<'data>)> {
        let (id, ty) = self.btf.skip_mods_and_typedefs(id)?;
        self.keep(id);
        Some((id, ty))
    }

    /// Keeps what the size of a type is computed from, and how many dimensions it has.
    fn sized(&mut self, mut id: TypeId) {
        for _ in 0..CHAIN_MAX {
            let Some((_, ty)) = self.behind(id) else { return };
            id = match ty.kind {
                Kind::Array => ty.array().elem,
                Kind::Var | Kind::DeclTag => ty.target(),
                _ => return,
            };
        }
    }

    fn field(&mut self, root: TypeId, steps: &[Step<'_>]) {
        let mut met = HashSet::new();
        let mut pending = vec![(root, 0)];
        while let Some((id, depth)) = pending.pop() {
            self.sized(id);
            let Some((id, ty)) = self.behind(id) else { continue };
            let Some(step) = steps.get(depth).filter(|_| met.insert((id, depth))) else { continue };
            match *step {
                // The root already stands for the element that the first index selects.
                Step::Index(_) if depth == 0 => pending.push((id, 1)),
                Step::Index(_) if ty.kind == Kind::Array => pending.push((ty.array().elem, depth + 1)),
                Step::Index(_) => {}
                // libbpf asks nothing like that.
                Step::Is(_) => pending.push((id, depth + 1)),
                Step::Member { name, .. } => {
                    let is_indexed = matches!(steps.get(depth + 1), Some(Step::Index(_)));
                    let mut search = Search { name, is_indexed, has: HashMap::new(), hits: Vec::new() };
                    self.members(id, &ty, &mut search, NESTED_MAX);
                    pending.extend(search.hits.into_iter().map(|hit| (hit, depth + 1)));
                }
            }
        }
    }

    /// Keeps every member of the name that is looked for, through anonymous structs and unions. Returns whether there
    /// is any.
    fn members(&mut self, id: TypeId, ty: &Type<'_>, search: &mut Search<'_>, depth: u32) -> bool {
        if let Some(known) = search.has.get(&id) {
            return *known;
        }
        search.has.insert(id, false);
        let Some(depth) = depth.checked_sub(1) else { return false };
        let mut has = false;
        for (index, member) in (0..).zip(ty.members()) {
            let is_hit = if self.btf.is_anonymous(member.name_off) {
                let inner = self.btf.skip_mods_and_typedefs(member.type_id);
                inner.is_some_and(|(inner, ty)| self.members(inner, &ty, search, depth))
            } else {
                self.btf.name_is(member.name_off, search.name)
            };
            if !is_hit {
                continue;
            }
            has = true;
            self.keep_part(id, index);
            self.sized(member.type_id);
            if self.btf.is_anonymous(member.name_off) {
                continue;
            }
            search.hits.push(member.type_id);
            // An array without a bound has to remain one that is not the last member.
            let last = ty.vlen().saturating_sub(1);
            if search.is_indexed && index != last {
                self.keep_part(id, last);
                if let Some(last) = ty.member(last).filter(|it| self.btf.is_anonymous(it.name_off)) {
                    self.behind(last.type_id);
                }
            }
        }
        search.has.insert(id, has);
        has
    }

    fn enumerator(&mut self, root: TypeId, essential: &[u8]) {
        let Some((id, ty)) = self.behind(root) else { return };
        let is_it = |name_off| self.rules.flavors.essential(self.btf.name(name_off)) == essential;
        let found = (0..).zip(ty.enumerators()).find(|(_, it)| is_it(it.name_off));
        if let Some((index, _)) = found {
            self.keep_part(id, index);
        }
    }

    /// Keeps what a loose comparison may look at: everything but members and enumerators.
    fn compared(&mut self, root: TypeId) {
        let mut met = HashSet::new();
        let mut pending = vec![root];
        while let Some(id) = pending.pop() {
            let Some((_, ty)) = self.behind(id).filter(|(id, _)| met.insert(*id)) else { continue };
            match ty.kind {
                Kind::Ptr => pending.push(ty.target()),
                Kind::Array => pending.push(ty.array().elem),
                Kind::FuncProto => {
                    pending.extend(ty.params().map(|it| it.type_id));
                    pending.push(ty.target());
                }
                _ => {}
            }
        }
    }

    /// Keeps everything that any rule can get to from a type; links of chains only if they may count.
    fn whole(&mut self, root: TypeId, with_links: bool) {
        let mut met = HashSet::new();
        let mut pending = vec![(root, false)];
        while let Some((id, behind_ptr)) = pending.pop() {
            let found = if with_links {
                self.keep(id);
                self.btf.ty(id).map(|ty| (id, ty))
            } else {
                self.behind(id)
            };
            let Some((id, ty)) = found.filter(|(id, _)| met.insert((*id, behind_ptr))) else { continue };
            match ty.kind {
                Kind::Struct | Kind::Union if behind_ptr => {}
                Kind::Struct | Kind::Union => {
                    self.keep_all(id);
                    pending.extend(ty.members().map(|it| (it.type_id, false)));
                }
                Kind::Enum | Kind::Enum64 => self.keep_all(id),
                Kind::Array => pending.push((ty.array().elem, behind_ptr)),
                Kind::Ptr => pending.push((ty.target(), true)),
                Kind::FuncProto => {
                    pending.extend(ty.params().map(|it| (it.type_id, behind_ptr)));
                    pending.push((ty.target(), behind_ptr));
                }
                Kind::Var | Kind::DeclTag | Kind::Func => pending.push((ty.target(), behind_ptr)),
                kind if kind.is_mod_or_typedef() => pending.push((ty.target(), behind_ptr)),
                _ => {}
            }
        }
    }

    fn keep_all(&mut self, id: TypeId) {
        if let Some(parts) = self.parts(id) {
            *parts = Parts::All;
        }
    }
}

/// Members of one name, through anonymous members.
struct Search<'n> {
    name: &'n [u8],
    /// Whether an element is asked for next.
    is_indexed: bool,
    /// Whether a type has such a member.
    has: HashMap<TypeId, bool>,
    /// Their types.
    hits: Vec<TypeId>,
}
