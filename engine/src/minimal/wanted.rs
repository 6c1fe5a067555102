//! What the questions about one root need of its candidates, on all kernels.
//!
//! Other roots have no part in that, so kernels that have the same candidates, which those of a pack mostly have, share
//! it. The walks follow those of `resolve`, and take every way where `resolve` would choose one.

use hashbrown::{HashMap, HashSet};
use smallvec::SmallVec;

use super::mark::{Depth, Marks};
use super::units;
use crate::batch::AskedOfRoot;
use crate::btf::{Btf, Type, TypeId};
use crate::dialect::{Kinds, Loader, Rules, Searched};
use crate::format::btf::Kind;
use crate::format::btf_ext::RelocKind;
use crate::kernel::Kernel;
use crate::query::{Ask, Query, Root, Step};
use crate::resolve::{Budget, Found, Match, on_candidate};
use crate::value::ValueError;

/// Anonymous members within each other that are followed, as in `resolve`.
const NESTED_MAX: u32 = 512;

/// What is needed for one root.
pub(super) struct Wanted {
    lists: Vec<WantedOfList>,
    /// By kernel: units, and what is wanted of their candidates.
    by_kernel: Vec<SmallVec<[(usize, usize); 1]>>,
}

/// What is needed of candidates that stand in one list.
#[derive(Default)]
struct WantedOfList {
    /// Those that are kept, with their numbers in the list.
    pins: SmallVec<[(TypeId, u32); 1]>,
    /// Members and enumerators.
    parts: Vec<(TypeId, u32)>,
    /// Types of which more is kept.
    reached: Vec<(TypeId, Depth)>,
}

/// Candidates of one BTF, and whether they are declarations only.
type Listed<'data> = (*const Btf<'data>, bool, SmallVec<[TypeId; 2]>);

impl Wanted {
    /// Finds what the questions about one root need on each of some kernels.
    pub(super) fn new(
        kernels: &[&Kernel<'_>],
        loader: Loader,
        (root, queries): &AskedOfRoot<'_, '_>,
    ) -> Self {
        let mut this = Self { lists: Vec::new(), by_kernel: Vec::with_capacity(kernels.len()) };
        let mut known: HashMap<Listed<'_>, usize> = HashMap::new();
        for kernel in kernels {
            let rules = Rules::of(loader, kernel.vmlinux.btf.pointer_size());
            let mut of_kernel = SmallVec::new();
            for (unit, indexed) in units(kernel).enumerate() {
                let btf = &*indexed.btf;
                let takes = |id: &TypeId| {
                    rules.kinds != Kinds::Exact || btf.ty(*id).is_some_and(|it| it.kind == root.kind)
                };
                let list = indexed.listed(root);
                if list.iter().any(takes) {
                    let number = *known.entry((btf, false, list)).or_insert_with_key(|(_, _, list)| {
                        let taken = (0..).zip(list.iter().copied()).filter(|it| takes(&it.1));
                        this.lists.push(WantedOfList::new(&rules, btf, &taken.collect::<Vec<_>>(), queries));
                        this.lists.len() - 1
                    });
                    of_kernel.push((unit, number));
                }
                // Modules count only where vmlinux has none, matching or not.
                let has_any = !of_kernel.is_empty();
                if unit == 0
                    && (rules.searched == Searched::Vmlinux
                        || has_any && rules.searched == Searched::ModulesIfNone)
                {
                    break;
                }
            }
            if of_kernel.is_empty() {
                of_kernel.extend(this.declaration(kernel, root, &mut known));
            }
            this.by_kernel.push(of_kernel);
        }
        this
    }

    /// Keeps a forward declaration of a type that is not there: the reason given for its absence is another one then.
    fn declaration<'data>(
        &mut self,
        kernel: &Kernel<'data>,
        root: &Root<'_>,
        known: &mut HashMap<Listed<'data>, usize>,
    ) -> Option<(usize, usize)> {
        let root = Root { kind: Kind::Fwd, ..*root };
        units(kernel).enumerate().find_map(|(unit, indexed)| {
            let list = indexed.listed(&root);
            let first = *list.first()?;
            let number = *known.entry((&*indexed.btf, true, list)).or_insert_with(|| {
                self.lists
                    .push(WantedOfList { pins: SmallVec::from_buf([(first, 0)]), ..Default::default() });
                self.lists.len() - 1
            });
            Some((unit, number))
        })
    }

    /// What is the same for two kernels if they have the same candidates.
    pub(super) fn of_kernel(&self, kernel: usize) -> &[(usize, usize)] {
        self.by_kernel.get(kernel).map(SmallVec::as_slice).unwrap_or_default()
    }

    /// Marks what is needed on one kernel.
    pub(super) fn mark(&self, kernel: usize, marks: &mut Marks<'_, '_>) {
        for &(unit, list) in self.of_kernel(kernel) {
            let Some(list) = self.lists.get(list) else { continue };
            list.pins.iter().for_each(|&(id, nth)| marks.pin(unit, id, nth, Depth::Sized));
            list.parts.iter().for_each(|&(id, index)| marks.keep_part(unit, id, index));
            list.reached.iter().for_each(|&(id, depth)| marks.reach(unit, id, depth));
        }
    }
}

/// What comes of a question on a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Found,
    Missing,
    Error,
}

impl Fate {
    fn of(rules: &Rules, query: &Query<'_>, kind: RelocKind, btf: &Btf<'_>, id: TypeId) -> Self {
        match on_candidate(rules, query, kind, btf, id, &mut Budget::new()) {
            Err(_) | Ok(Match::Found(Found { value: Err(ValueError::NoSize), .. })) => Self::Error,
            Ok(Match::Found(_)) => Self::Found,
            Ok(_) => Self::Missing,
        }
    }
}

impl WantedOfList {
    /// `found`: the candidates, with their numbers.
    fn new(
        rules: &Rules,
        btf: &Btf<'_>,
        found: &[(u32, TypeId)],
        queries: &[(&Query<'_>, RelocKind)],
    ) -> Self {
        let mut this = Self::default();
        let fates = found.iter().map(|(_, id)| {
            queries.iter().map(|(query, kind)| Fate::of(rules, query, *kind, btf, *id)).collect()
        });
        let fates: Vec<Vec<Fate>> = fates.collect();
        // One that no question is met by is no loss if another one meets them all: then nobody hears of it.
        let is_met = |number: usize| fates.iter().any(|it| it.get(number) == Some(&Fate::Found));
        let all_met = (0..queries.len()).all(is_met);
        for (&(nth, id), fates) in found.iter().zip(&fates) {
            if all_met && fates.iter().all(|it| *it == Fate::Missing) {
                continue;
            }
            this.pins.push((id, nth));
            for ((query, _), fate) in queries.iter().zip(fates) {
                this.candidate(rules, btf, id, query, *fate);
            }
        }
        this.parts.sort_unstable();
        this.parts.dedup();
        this.reached.sort_unstable();
        this.reached.dedup();
        this
    }

    fn candidate(&mut self, rules: &Rules, btf: &Btf<'_>, id: TypeId, query: &Query<'_>, fate: Fate) {
        match &query.ask {
            // Which error it is can depend on everything.
            _ if fate == Fate::Error => self.reached.push((id, Depth::Verbatim)),
            Ask::Field(steps) => self.field(btf, id, steps),
            Ask::Enumerator(essential) => self.enumerator(rules, btf, id, essential),
            Ask::TypeCompat(_) => self.reached.push((id, Depth::Compared)),
            Ask::TypeMatches(_) => self.reached.push((id, Depth::Whole)),
        }
    }

    fn field(&mut self, btf: &Btf<'_>, root: TypeId, steps: &[Step<'_>]) {
        let first = steps.iter().position(|it| !matches!(it, Step::Is(_)));
        let is_root = |depth| first == Some(depth);
        let mut met = HashSet::new();
        let mut pending = vec![(root, 0)];
        while let Some((id, depth)) = pending.pop() {
            let Some((id, ty)) = btf.skip_mods_and_typedefs(id) else { continue };
            let Some(step) = steps.get(depth).filter(|_| met.insert((id, depth))) else { continue };
            match *step {
                // The root already stands for the element that the first index selects.
                Step::Index(_) if is_root(depth) => pending.push((id, depth + 1)),
                Step::Index(_) if ty.kind == Kind::Array => pending.push((ty.array().elem, depth + 1)),
                Step::Index(_) => {}
                Step::Is(_) => pending.push((id, depth + 1)),
                Step::Member { name, .. } => {
                    let mut search = Search { name, has: HashMap::new(), hits: Vec::new() };
                    self.members(btf, (id, &ty), &mut search, NESTED_MAX);
                    pending.extend(search.hits.into_iter().map(|hit| (hit, depth + 1)));
                }
            }
        }
    }

    /// Keeps every member of the name that is looked for, through anonymous structs and unions. Returns whether there
    /// is any.
    fn members(
        &mut self,
        btf: &Btf<'_>,
        (id, ty): (TypeId, &Type<'_>),
        search: &mut Search<'_>,
        depth: u32,
    ) -> bool {
        if let Some(known) = search.has.get(&id) {
            return *known;
        }
        search.has.insert(id, false);
        let Some(depth) = depth.checked_sub(1) else { return false };
        let mut has = false;
        for (index, member) in (0..).zip(ty.members()) {
            // Some loaders look for a member without a name.
            let is_it = btf.name_is(member.name_off, search.name);
            let inner = match btf.is_anonymous(member.name_off) {
                true => btf.skip_mods_and_typedefs(member.type_id),
                false => None,
            };
            let is_inside = inner.is_some_and(|(inner, ty)| self.members(btf, (inner, &ty), search, depth));
            if !is_it && !is_inside {
                continue;
            }
            has = true;
            self.parts.push((id, index));
            if !is_it {
                continue;
            }
            search.hits.push(member.type_id);
            // An array without elements has no bound if it is the last member, so one that is not must not become it.
            let last = ty.vlen().saturating_sub(1);
            let behind = btf.skip_mods_and_typedefs(member.type_id);
            if index != last && behind.is_some_and(|it| it.1.kind == Kind::Array && it.1.array().nelems == 0)
            {
                self.parts.push((id, last));
            }
        }
        search.has.insert(id, has);
        has
    }

    fn enumerator(&mut self, rules: &Rules, btf: &Btf<'_>, root: TypeId, essential: &[u8]) {
        let Some((id, ty)) = btf.skip_mods_and_typedefs(root) else { return };
        let is_it = |name_off| rules.flavors.essential(btf.name(name_off)) == essential;
        let found = (0..).zip(ty.enumerators()).find(|(_, it)| is_it(it.name_off));
        if let Some((index, _)) = found {
            self.parts.push((id, index));
        }
    }
}

/// Members of one name, through anonymous members.
struct Search<'n> {
    name: &'n [u8],
    /// Whether a type has such a member.
    has: HashMap<TypeId, bool>,
    /// Their types.
    hits: Vec<TypeId>,
}
