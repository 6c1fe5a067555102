//! What of a kernel's BTF the answers to questions depend on.
//!
//! What is marked without need costs some bytes, and nothing can be missing.
//!
//! Nothing here goes by type ids, so that a kernel of a pack comes out as the same kernel in files. Where a file has two
//! types that are alike, a pack has one, and where a file has one type that is used by value and behind pointers, a pack
//! has two. So marks are not put on types but on *classes* of types that look alike, and what stands behind a pointer is
//! told apart from what does not.

use std::collections::BTreeSet;

use hashbrown::{HashMap, HashSet};
use smallvec::SmallVec;

use super::MinimalError;
use crate::btf::{Btf, Type, TypeId};
use crate::format::btf::Kind;
use crate::query::Root;

/// Bit 31 of a type's `info`, which says how it is read.
const KIND_FLAG: u32 = 1 << 31;
/// As many types as are mostly kept: tables that do not have to grow.
const TYPES_GUESS: usize = 1024;
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

/// Candidates of one root: their kind, that of enums for either, and their essential name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct List<'data> {
    essential: &'data [u8],
    kind: u8,
}

impl<'data> List<'data> {
    fn of(btf: &Btf<'data>, id: TypeId) -> Option<Self> {
        let ty = btf.ty(id)?;
        let root = Root::new(btf.name(ty.name_off), ty.kind);
        Some(Self { essential: root.essential, kind: root.kind.raw() })
    }
}

/// The place of a type among those that stay types of their own. The ids in the kernel's own BTF would do as well, but a
/// pack takes long to tell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pin<'data> {
    list: List<'data>,
    nth: u32,
}

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
    /// By unit: types that stay types of their own.
    pinned: Vec<Vec<(Pin<'data>, Node)>>,
    /// The list that comes first.
    front: Option<List<'data>>,
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
            pinned: vec![Vec::new(); units.len()],
            front: None,
            units,
            classes: Vec::new(),
            class_of_key: HashMap::with_capacity(TYPES_GUESS),
            class_of_type: HashMap::with_capacity(TYPES_GUESS),
            pending: Vec::new(),
            visited: HashSet::with_capacity(TYPES_GUESS),
            joined: HashSet::with_capacity(TYPES_GUESS),
        }
    }

    pub(super) fn unit(&self, unit: usize) -> Option<&'k Btf<'data>> {
        self.units.get(unit).copied()
    }

    /// Types of a unit that stay types of their own, list by list, each in its order. To be called once all is closed.
    pub(super) fn pinned(&self, unit: usize) -> impl Iterator<Item = Node> + '_ {
        let of_front = move |wanted: bool| {
            let pinned = self.pinned.get(unit).into_iter().flatten();
            pinned.filter(move |it| (Some(it.0.list) == self.front) == wanted).map(|it| it.1)
        };
        of_front(true).chain(of_front(false))
    }

    /// Keeps a type as one of its own: number `nth` of the candidates for a root of its name and kind.
    pub(super) fn pin(&mut self, unit: usize, id: TypeId, nth: u32, depth: Depth) {
        let list = self.unit(unit).and_then(|btf| List::of(btf, id));
        if let (Some(list), Some(pinned)) = (list, self.pinned.get_mut(unit)) {
            let node = Node { id, place: Place::Value, depth };
            pinned.push((Pin { list, nth }, node));
            self.pending.push((unit, node));
        }
    }

    /// Puts the candidates for a root of the name and kind of a type of vmlinux in front of all others.
    pub(super) fn put_in_front(&mut self, id: TypeId) {
        self.front = self.unit(0).and_then(|btf| List::of(btf, id));
    }

    /// Keeps what is reached from a type that is by value, to this depth.
    pub(super) fn reach(&mut self, unit: usize, id: TypeId, depth: Depth) {
        self.pending.push((unit, Node { id, place: Place::Value, depth }));
    }

    /// Keeps part number `index` of a type that is by value.
    pub(super) fn keep_part(&mut self, unit: usize, id: TypeId, index: u32) {
        if let Some(class) = self.class(unit, id).and_then(|it| self.classes.get_mut(it)) {
            class.parts.insert(index);
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
        for pinned in &mut self.pinned {
            pinned.sort_by_key(|it| it.0);
            pinned.dedup_by_key(|it| it.0);
        }
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
