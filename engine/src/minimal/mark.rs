//! What of a kernel's BTF the answers to questions depend on.
//!
//! The walks follow those of `resolve`, and take every way where `resolve` would choose one: what is marked without
//! need costs some bytes, and nothing can be missing.
//!
//! Nothing here goes by type ids, so that a kernel of a pack comes out as the same kernel in files. Where a file has two
//! types that are alike, a pack has one, and where a file has one type that is used by value and behind pointers, a pack
//! has two. So marks are not put on types but on *classes* of types that look alike, and what stands behind a pointer is
//! told apart from what does not.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::{HashMap, HashSet};
use smallvec::SmallVec;

use super::MinimalError;
use crate::btf::{Btf, Type, TypeId};
use crate::dialect::Rules;
use crate::format::btf::Kind;
use crate::format::btf_ext::RelocKind;
use crate::query::{Ask, Query, Step};
use crate::resolve::{Budget, Found, Match, on_candidate};
use crate::value::ValueError;

/// Anonymous members within each other that are followed, as in `resolve`.
const NESTED_MAX: u32 = 512;
/// Bit 31 of a type's `info`, which says how it is read.
const KIND_FLAG: u32 = 1 << 31;
/// The id of a type that does not exist.
const DANGLING: u32 = u32::MAX;

/// How much of what a type refers to is kept. Of members and enumerators, those that are marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Depth {
    /// What its size is computed from, and how many dimensions it has.
    Sized,
    /// What a loose comparison looks at: what is behind pointers and in prototypes too.
    Compared,
    /// The same, with typedefs and modifiers: what is shown to people.
    Shown,
    /// Everything that a strict comparison looks at: all members and enumerators.
    Whole,
    /// The same, with typedefs and modifiers.
    Verbatim,
}

impl Depth {
    fn has_links(self) -> bool {
        matches!(self, Self::Shown | Self::Verbatim)
    }
}

/// What comes of a question on a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Found,
    Missing,
    Error,
}

impl Fate {
    pub(super) fn of(rules: &Rules, query: &Query<'_>, kind: RelocKind, btf: &Btf<'_>, id: TypeId) -> Self {
        match on_candidate(rules, query, kind, btf, id, &mut Budget::new()) {
            Err(_) | Ok(Match::Found(Found { value: Err(ValueError::NoSize), .. })) => Self::Error,
            Ok(Match::Found(_)) => Self::Found,
            Ok(_) => Self::Missing,
        }
    }
}

/// A type as it is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Node {
    id: TypeId,
    place: Place,
    depth: Depth,
}

/// Where a type is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    Value,
    /// A pointer leads there.
    Behind,
    /// The same, and it is a struct or union: nobody looks into it.
    Shell,
}

/// What a record is made of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item<'data> {
    Word(u32),
    Name(&'data [u8]),
    Type(Node),
    /// The type is a struct or union behind a pointer: any of its name will do.
    Shell,
}

pub(super) type Record<'data> = SmallVec<[Item<'data>; 16]>;

/// What types of one class have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key<'data> {
    info: u32,
    /// 0 where it is a type.
    size: u32,
    name: &'data [u8],
    /// Of the names and places of members or enumerators, if there is no name.
    parts: u64,
}

#[derive(Debug)]
struct Class {
    depth: Depth,
    /// Members or enumerators that are kept, by number.
    parts: BTreeSet<u32>,
    types: Vec<(usize, TypeId, Place)>,
}

/// Marks on the types of one kernel. Its *units* are vmlinux, number 0, and its modules.
pub(super) struct Marks<'k, 'data> {
    units: Vec<&'k Btf<'data>>,
    /// By unit: types that stay types of their own, by their ids in the kernel's own BTF.
    pinned: Vec<BTreeMap<TypeId, Node>>,
    classes: Vec<Class>,
    class_of_key: HashMap<Key<'data>, usize>,
    class_of_type: HashMap<(usize, TypeId), Option<usize>>,
    pending: Vec<(usize, Node)>,
    visited: HashSet<(usize, Node)>,
    /// Those that are in their class.
    joined: HashSet<(usize, TypeId, Place)>,
}

impl<'k, 'data> Marks<'k, 'data> {
    pub(super) fn new(units: Vec<&'k Btf<'data>>) -> Self {
        Self {
            pinned: vec![BTreeMap::new(); units.len()],
            units,
            classes: Vec::new(),
            class_of_key: HashMap::new(),
            class_of_type: HashMap::new(),
            pending: Vec::new(),
            visited: HashSet::new(),
            joined: HashSet::new(),
        }
    }

    pub(super) fn unit(&self, unit: usize) -> Option<&'k Btf<'data>> {
        self.units.get(unit).copied()
    }

    /// Types of a unit that stay types of their own, in the order of their ids in the kernel's own BTF.
    pub(super) fn pinned(&self, unit: usize) -> impl Iterator<Item = Node> + '_ {
        self.pinned.get(unit).into_iter().flat_map(|it| it.values().copied())
    }

    /// Keeps a type as one of its own. `own`: its id in the kernel's own BTF, `id`: in the unit's.
    pub(super) fn pin(&mut self, unit: usize, own: TypeId, id: TypeId, depth: Depth) {
        let node = Node { id, place: Place::Value, depth };
        if let Some(pinned) = self.pinned.get_mut(unit) {
            pinned.insert(own, node);
            self.pending.push((unit, node));
        }
    }

    /// Marks what the questions about a root need of a candidate, which is pinned.
    pub(super) fn candidate(
        &mut self,
        rules: &Rules,
        unit: usize,
        id: TypeId,
        asked: impl Iterator<Item = (&'k Query<'k>, Fate)>,
    ) {
        let Some(btf) = self.unit(unit) else { return };
        for (query, fate) in asked {
            match &query.ask {
                // Which error it is can depend on everything.
                _ if fate == Fate::Error => self.reach(unit, id, Depth::Verbatim),
                Ask::Field(steps) => self.field(unit, btf, id, steps),
                Ask::Enumerator(essential) => self.enumerator(rules, unit, btf, id, essential),
                Ask::TypeCompat(_) => self.reach(unit, id, Depth::Compared),
                Ask::TypeMatches(_) => self.reach(unit, id, Depth::Whole),
            }
        }
    }

    fn reach(&mut self, unit: usize, id: TypeId, depth: Depth) {
        self.pending.push((unit, Node { id, place: Place::Value, depth }));
    }

    /// Keeps part number `index` of a type that is by value.
    pub(super) fn keep_part(&mut self, unit: usize, id: TypeId, index: u32) {
        if let Some(class) = self.class(unit, id).and_then(|it| self.classes.get_mut(it)) {
            class.parts.insert(index);
        }
    }

    fn field(&mut self, unit: usize, btf: &Btf<'_>, root: TypeId, steps: &[Step<'_>]) {
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
                    self.members(unit, btf, (id, &ty), &mut search, NESTED_MAX);
                    pending.extend(search.hits.into_iter().map(|hit| (hit, depth + 1)));
                }
            }
        }
    }

    /// Keeps every member of the name that is looked for, through anonymous structs and unions. Returns whether there
    /// is any.
    fn members(
        &mut self,
        unit: usize,
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
            let is_inside =
                inner.is_some_and(|(inner, ty)| self.members(unit, btf, (inner, &ty), search, depth));
            if !is_it && !is_inside {
                continue;
            }
            has = true;
            self.keep_part(unit, id, index);
            if !is_it {
                continue;
            }
            search.hits.push(member.type_id);
            // An array without elements has no bound if it is the last member, so one that is not must not become it.
            let last = ty.vlen().saturating_sub(1);
            let behind = btf.skip_mods_and_typedefs(member.type_id);
            if index != last && behind.is_some_and(|it| it.1.kind == Kind::Array && it.1.array().nelems == 0)
            {
                self.keep_part(unit, id, last);
            }
        }
        search.has.insert(id, has);
        has
    }

    fn enumerator(&mut self, rules: &Rules, unit: usize, btf: &Btf<'_>, root: TypeId, essential: &[u8]) {
        let Some((id, ty)) = btf.skip_mods_and_typedefs(root) else { return };
        let is_it = |name_off| rules.flavors.essential(btf.name(name_off)) == essential;
        let found = (0..).zip(ty.enumerators()).find(|(_, it)| is_it(it.name_off));
        if let Some((index, _)) = found {
            self.keep_part(unit, id, index);
        }
    }

    /// The class of a type; `None` for what is the same at any depth, and for what has neither a name nor parts.
    fn class(&mut self, unit: usize, id: TypeId) -> Option<usize> {
        if let Some(known) = self.class_of_type.get(&(unit, id)) {
            return *known;
        }
        let btf = self.unit(unit)?;
        let key = btf.ty(id).and_then(|ty| key(btf, &ty));
        let class = key.map(|key| {
            *self.class_of_key.entry(key).or_insert_with(|| {
                self.classes.push(Class { depth: Depth::Sized, parts: BTreeSet::new(), types: Vec::new() });
                self.classes.len() - 1
            })
        });
        self.class_of_type.insert((unit, id), class);
        class
    }

    /// Spreads depths to all that is reached. To be called once everything is marked.
    pub(super) fn close(&mut self) -> Result<(), MinimalError> {
        while let Some((unit, node)) = self.pending.pop() {
            if !self.visited.insert((unit, node)) {
                continue;
            }
            if node.place == Place::Shell {
                continue;
            }
            let class = self.class(unit, node.id).and_then(|it| self.classes.get_mut(it));
            let Some(Class { depth, types, .. }) = class else {
                self.visit(unit, node)?;
                continue;
            };
            let own = (unit, node.id, node.place);
            let is_new = self.joined.insert(own);
            if is_new {
                types.push(own);
            }
            let is_raised = node.depth > *depth;
            *depth = node.depth.max(*depth);
            let depth = *depth;
            let again = if is_raised { types.clone() } else { vec![own; usize::from(is_new)] };
            for (unit, id, place) in again {
                self.visit(unit, Node { id, place, depth })?;
            }
        }
        Ok(())
    }

    fn visit(&mut self, unit: usize, node: Node) -> Result<(), MinimalError> {
        let record = self.record(unit, node)?;
        let parts = record.iter().filter_map(|it| match it {
            Item::Type(node) => Some((unit, *node)),
            _ => None,
        });
        self.pending.extend(parts);
        Ok(())
    }

    /// The type with the depth that its class came to. Two of which nothing different would be written are mostly equal.
    pub(super) fn canonical(&self, unit: usize, node: Node) -> Node {
        Node { depth: self.known_class(unit, node).map_or(node.depth, |it| it.depth), ..node }
    }

    fn known_class(&self, unit: usize, node: Node) -> Option<&Class> {
        if node.place == Place::Shell {
            return None;
        }
        let class = *self.class_of_type.get(&(unit, node.id))?;
        self.classes.get(class?)
    }

    /// What is written of a type, see [`Item`].
    pub(super) fn record(&self, unit: usize, node: Node) -> Result<Record<'data>, MinimalError> {
        let mut out = Record::new();
        let Some((btf, ty)) = self.unit(unit).and_then(|btf| Some((btf, btf.ty(node.id)?))) else {
            return Ok(out);
        };
        let class = self.known_class(unit, node);
        let depth = class.map_or(node.depth, |it| it.depth);
        let has = |index: u32| depth >= Depth::Whole || class.is_some_and(|it| it.parts.contains(&index));
        let behind = node.place != Place::Value;
        let kind = u32::from(ty.kind.raw()) << 24;
        let head = ty.info() & KIND_FLAG | kind;
        let name = |off: u32| Item::Name(btf.name(off));
        let is_named = !btf.is_anonymous(ty.name_off);
        out.push(name(ty.name_off));
        match ty.kind {
            Kind::Unknown(_) => return Err(MinimalError::UnknownKind),
            Kind::Void => {}
            Kind::Int => out.extend([ty.info(), ty.size(), ty.word(0)].map(Item::Word)),
            Kind::Float | Kind::Fwd => out.extend([ty.info(), ty.size()].map(Item::Word)),
            Kind::Struct | Kind::Union if behind && is_named => {
                out.extend([Item::Word(kind), Item::Word(0), Item::Shell]);
            }
            Kind::Struct | Kind::Union if behind => out.extend([head, ty.size()].map(Item::Word)),
            Kind::Struct | Kind::Union => {
                let of_members = if depth < Depth::Whole { Depth::Sized } else { depth };
                let kept = (0_u32..).zip(ty.members()).filter(|it| has(it.0));
                out.extend([Item::Word(0), Item::Word(ty.size())]);
                let mut count = 0;
                for (index, member) in kept {
                    // The offset as it is encoded is the third word of a member.
                    let offset = Item::Word(ty.word(index as usize * 3 + 2));
                    out.extend([name(member.name_off), part(btf, member.type_id, false, of_members), offset]);
                    count += 1;
                }
                set_info(&mut out, head | count);
            }
            Kind::Enum | Kind::Enum64 => {
                let words = if ty.kind == Kind::Enum { 2 } else { 3 };
                out.extend([Item::Word(0), Item::Word(ty.size())]);
                let mut count = 0;
                for (index, it) in (0_u32..).zip(ty.enumerators()).filter(|it| has(it.0)) {
                    out.push(name(it.name_off));
                    out.extend((1..words).map(|word| Item::Word(ty.word(index as usize * words + word))));
                    count += 1;
                }
                set_info(&mut out, head | count);
            }
            Kind::Array => {
                let array = ty.array();
                let elem = part(btf, array.elem, behind, depth);
                // Nothing looks at what it is indexed by.
                out.extend([Item::Word(head), Item::Word(0), elem, Item::Word(0), Item::Word(array.nelems)]);
            }
            Kind::FuncProto => {
                let of = |id| match depth {
                    Depth::Sized => Item::Word(0),
                    _ => part(btf, id, behind, depth),
                };
                out.extend([Item::Word(head | ty.vlen()), of(ty.target())]);
                ty.params().for_each(|it| out.extend([Item::Word(0), of(it.type_id)]));
            }
            Kind::Var | Kind::DeclTag => {
                let target = part(btf, ty.target(), behind, depth);
                out.extend([Item::Word(ty.info()), target, Item::Word(ty.word(0))]);
            }
            // Its variables are looked up by their own names.
            Kind::Datasec => out.extend([head, ty.size()].map(Item::Word)),
            Kind::Ptr if depth == Depth::Sized => out.extend([ty.info(), 0].map(Item::Word)),
            Kind::Ptr => out.extend([Item::Word(ty.info()), part(btf, ty.target(), true, depth)]),
            Kind::Typedef | Kind::Volatile | Kind::Const | Kind::Restrict | Kind::TypeTag | Kind::Func => {
                out.extend([Item::Word(ty.info()), part(btf, ty.target(), behind, depth)])
            }
        }
        Ok(out)
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

fn set_info(record: &mut Record<'_>, info: u32) {
    if let Some(word) = record.get_mut(1) {
        *word = Item::Word(info);
    }
}

/// What stands for a type that another one refers to; typedefs and modifiers are skipped unless they count.
fn part<'data>(btf: &Btf<'data>, id: TypeId, behind: bool, depth: Depth) -> Item<'data> {
    let Some(itself) = btf.ty(id) else { return Item::Word(DANGLING) };
    let found = if depth.has_links() { Some((id, itself)) } else { btf.skip_mods_and_typedefs(id) };
    match found {
        // A chain that is too long is an error where it counts, and then everything is kept.
        None | Some((TypeId::VOID, _)) => Item::Word(0),
        Some((id, ty)) => {
            let place = match ty.kind {
                _ if !behind => Place::Value,
                Kind::Struct | Kind::Union => {
                    return Item::Type(Node { id, place: Place::Shell, depth: Depth::Sized });
                }
                kind if kind.is_mod_or_typedef() || btf.is_anonymous(ty.name_off) => Place::Behind,
                // Compilers give no names to others that lead somewhere. They must not become two of one name.
                _ => Place::Value,
            };
            Item::Type(Node { id, place, depth })
        }
    }
}

fn key<'data>(btf: &Btf<'data>, ty: &Type<'data>) -> Option<Key<'data>> {
    let name = btf.name(ty.name_off);
    let has_parts = ty.kind.is_composite() || ty.kind.is_any_enum();
    if name.is_empty() && !has_parts || matches!(ty.kind, Kind::Void | Kind::Int | Kind::Float | Kind::Fwd) {
        return None;
    }
    let mut parts = xxhash_rust::xxh3::Xxh3Default::new();
    if name.is_empty() {
        let words = if ty.kind == Kind::Enum { 2 } else { 3 };
        let mut add = |index: usize, name_off: u32| {
            parts.update(btf.name(name_off));
            parts.update(&ty.word(index * words + words - 1).to_le_bytes());
        };
        ty.members().enumerate().for_each(|(index, it)| add(index, it.name_off));
        ty.enumerators().enumerate().for_each(|(index, it)| add(index, it.name_off));
    }
    let size = if has_parts { ty.size() } else { 0 };
    Some(Key { info: ty.info(), size, name, parts: if name.is_empty() { parts.digest() } else { 0 } })
}
