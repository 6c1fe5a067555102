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
use crate::query::{Ask, Root, Step};
use crate::resolve::{Budget, find};
use crate::value::{self, Place, ValueError};

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

/// What is asked, and by relocations of what kinds.
type Asked<'q, 'a> = (&'q Ask<'a>, SmallVec<[RelocKind; 2]>);

/// Candidates of one BTF, and whether they are declarations only.
type Listed<'data> = (*const Btf<'data>, bool, SmallVec<[TypeId; 2]>);

impl Wanted {
    /// Finds what the questions about one root need on each of some kernels.
    pub(super) fn new(kernels: &[&Kernel<'_>], loader: Loader, asked: &AskedOfRoot<'_, '_>) -> Self {
        let AskedOfRoot { root, asks } = asked;
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
                        this.lists.push(WantedOfList::new(&rules, btf, &taken.collect::<Vec<_>>(), asks));
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
    fn of(rules: &Rules, (ask, kinds): &Asked<'_, '_>, btf: &Btf<'_>, id: TypeId) -> Self {
        let is_without_size = |place: &Place| {
            kinds.iter().any(|kind| value::of(rules, btf, *kind, place) == Err(ValueError::NoSize))
        };
        match find(rules, ask, btf, id, &mut Budget::new()) {
            Err(_) => Self::Error,
            Ok(Ok(place)) if is_without_size(&place) => Self::Error,
            Ok(Ok(_)) => Self::Found,
            Ok(Err(_)) => Self::Missing,
        }
    }
}

impl WantedOfList {
    /// `found`: the candidates, with their numbers.
    fn new(rules: &Rules, btf: &Btf<'_>, found: &[(u32, TypeId)], asked: &[Asked<'_, '_>]) -> Self {
        let mut this = Self::default();
        let fates =
            found.iter().map(|(_, id)| asked.iter().map(|it| Fate::of(rules, it, btf, *id)).collect());
        let fates: Vec<Vec<Fate>> = fates.collect();
        // One that no question is met by is no loss if another one meets them all: then nobody hears of it.
        let is_met = |number: usize| fates.iter().any(|it| it.get(number) == Some(&Fate::Found));
        let all_met = (0..asked.len()).all(is_met);
        let mut walk = Walk { btf, parts: Vec::new(), members: HashMap::new() };
        for (&(nth, id), fates) in found.iter().zip(&fates) {
            if all_met && fates.iter().all(|it| *it == Fate::Missing) {
                continue;
            }
            this.pins.push((id, nth));
            for ((ask, _), fate) in asked.iter().zip(fates) {
                match ask {
                    // Which error it is can depend on everything.
                    _ if *fate == Fate::Error => this.reached.push((id, Depth::Verbatim)),
                    Ask::Field(steps) => walk.field(id, steps),
                    Ask::Enumerator(essential) => walk.enumerator(rules, id, essential),
                    Ask::TypeCompat(_) => this.reached.push((id, Depth::Compared)),
                    Ask::TypeMatches(_) => this.reached.push((id, Depth::Whole)),
                }
            }
        }
        this.parts = walk.parts;
        this.reached.sort_unstable();
        this.reached.dedup();
        this
    }
}

/// Walks over the candidates of one list.
struct Walk<'a, 'n, 'data> {
    btf: &'a Btf<'data>,
    /// Members and enumerators that were met.
    parts: Vec<(TypeId, u32)>,
    /// Types of the members of a name that a type has: many paths start alike.
    members: HashMap<(TypeId, &'n [u8]), SmallVec<[TypeId; 1]>>,
}

impl<'n> Walk<'_, 'n, '_> {
    fn field(&mut self, root: TypeId, steps: &[Step<'n>]) {
        let first = steps.iter().position(|it| !matches!(it, Step::Is(_)));
        let is_root = |depth| first == Some(depth);
        // Only what has several members of a name can lead to the same type twice.
        let mut met = None;
        let mut pending: SmallVec<[(TypeId, usize); 4]> = SmallVec::from_slice(&[(root, 0)]);
        while let Some((id, depth)) = pending.pop() {
            let Some((id, ty)) = self.btf.skip_mods_and_typedefs(id) else { continue };
            let is_new = |met: &mut HashSet<_>| met.insert((id, depth));
            let Some(step) = steps.get(depth).filter(|_| met.as_mut().is_none_or(is_new)) else { continue };
            match *step {
                // The root already stands for the element that the first index selects.
                Step::Index(_) if is_root(depth) => pending.push((id, depth + 1)),
                Step::Index(_) if ty.kind == Kind::Array => pending.push((ty.array().elem, depth + 1)),
                Step::Index(_) => {}
                Step::Is(_) => pending.push((id, depth + 1)),
                Step::Member { name, .. } => {
                    let hits = self.members_named(name, id, &ty);
                    if hits.len() > 1 {
                        met.get_or_insert_default();
                    }
                    pending.extend(hits.iter().map(|hit| (*hit, depth + 1)));
                }
            }
        }
    }

    /// Keeps every member of a name, and returns their types.
    fn members_named(&mut self, name: &'n [u8], id: TypeId, ty: &Type<'_>) -> &[TypeId] {
        let Self { btf, parts, members } = self;
        members.entry((id, name)).or_insert_with(|| {
            let mut search = Search { btf, name, parts, has: HashMap::new(), hits: SmallVec::new() };
            search.members((id, ty), NESTED_MAX);
            search.hits
        })
    }

    fn enumerator(&mut self, rules: &Rules, root: TypeId, essential: &[u8]) {
        let btf = self.btf;
        let Some((id, ty)) = btf.skip_mods_and_typedefs(root) else { return };
        let is_it = |name_off| rules.flavors.essential(btf.name(name_off)) == essential;
        let found = (0..).zip(ty.enumerators()).find(|(_, it)| is_it(it.name_off));
        self.parts.extend(found.map(|(index, _)| (id, index)));
    }
}

/// Looks for members of one name, through anonymous members.
struct Search<'a, 'data> {
    btf: &'a Btf<'data>,
    name: &'a [u8],
    parts: &'a mut Vec<(TypeId, u32)>,
    /// Whether an anonymous member's type has such a member.
    has: HashMap<TypeId, bool>,
    /// Their types.
    hits: SmallVec<[TypeId; 1]>,
}

impl Search<'_, '_> {
    /// Keeps every member of the name. Returns whether there is any.
    fn members(&mut self, (id, ty): (TypeId, &Type<'_>), depth: u32) -> bool {
        let Some(depth) = depth.checked_sub(1) else { return false };
        let btf = self.btf;
        let mut has = false;
        for (index, member) in (0..).zip(ty.members()) {
            // Some loaders look for a member without a name.
            let is_it = btf.name_is(member.name_off, self.name);
            let is_inside = btf.is_anonymous(member.name_off) && self.is_inside(member.type_id, depth);
            if !is_it && !is_inside {
                continue;
            }
            has = true;
            self.parts.push((id, index));
            if !is_it {
                continue;
            }
            self.hits.push(member.type_id);
            // An array without elements has no bound if it is the last member, so one that is not must not become it.
            let last = ty.vlen().saturating_sub(1);
            let behind = btf.skip_mods_and_typedefs(member.type_id);
            if index != last && behind.is_some_and(|it| it.1.kind == Kind::Array && it.1.array().nelems == 0)
            {
                self.parts.push((id, last));
            }
        }
        has
    }

    /// Whether an anonymous member's type has the member.
    fn is_inside(&mut self, id: TypeId, depth: u32) -> bool {
        let Some((id, ty)) = self.btf.skip_mods_and_typedefs(id) else { return false };
        if let Some(known) = self.has.get(&id) {
            return *known;
        }
        self.has.insert(id, false);
        let has = self.members((id, &ty), depth);
        self.has.insert(id, has);
        has
    }
}
