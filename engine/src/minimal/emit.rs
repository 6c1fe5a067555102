//! Writes what is marked as BTF.
//!
//! Records that come out the same are one, but for pinned types. The pinned types come first, by name, kind and place among
//! the candidates of a root, then the others as they are met on the way from these: it does not depend on how the kernel
//! is stored.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use smallvec::SmallVec;

use super::MinimalError;
use super::mark::{Item, Marks, Node, Record};
use super::strings::Strings;
use crate::btf::assemble;
use crate::format::Endian;

/// As many names as are mostly kept: a table that does not have to grow.
const NAMES_GUESS: usize = 1024;

/// A BTF that was written, and what is needed to continue it.
#[derive(Debug)]
pub(super) struct Emitted<'data> {
    pub(super) bytes: Vec<u8>,
    /// Number of types, void included.
    count: u32,
    names: Names<'data>,
    contents: Contents,
    /// New ids by content.
    ids: Vec<u32>,
    /// The first type of a kind and name.
    named: HashMap<Named, u32>,
    strings: Strings<'data>,
}

/// A kind, and the number of a name.
type Named = (u32, u32);

/// A record, with the numbers of the names and of the contents that it refers to.
type Content = SmallVec<[Slot; 8]>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Slot {
    Word(u32),
    Name(u32),
    Content(u32),
    Shell,
}

/// Distinct names, numbered as they are met. Number 0 is no name.
#[derive(Debug)]
struct Names<'data> {
    /// Number of the first.
    start: u32,
    all: Vec<&'data [u8]>,
    numbers: HashMap<&'data [u8], u32>,
}

impl<'data> Names<'data> {
    /// None yet but those of `base`.
    fn new(base: Option<&Self>) -> Self {
        let start = base.map_or(1, Self::end);
        Self { start, all: Vec::new(), numbers: HashMap::with_capacity(NAMES_GUESS) }
    }

    fn end(&self) -> u32 {
        // Less than the kernel has.
        self.start.saturating_add(u32::try_from(self.all.len()).unwrap_or(u32::MAX))
    }

    fn number(&mut self, name: &'data [u8], base: Option<&Self>) -> u32 {
        if name.is_empty() {
            return 0;
        }
        if let Some(known) = base.and_then(|it| it.numbers.get(name)) {
            return *known;
        }
        let end = self.end();
        *self.numbers.entry(name).or_insert_with(|| {
            self.all.push(name);
            end
        })
    }

    fn get(&self, number: u32) -> Option<&'data [u8]> {
        self.all.get(number.checked_sub(self.start)? as usize).copied()
    }
}

/// Distinct contents, numbered as they are met.
#[derive(Debug, Default)]
struct Contents {
    /// Number of the first.
    start: u32,
    all: Vec<Content>,
    numbers: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Contents {
    fn get(&self, number: u32) -> Option<&Content> {
        self.all.get(number.checked_sub(self.start)? as usize)
    }

    fn next(&self) -> u32 {
        // Less than there are types, each in a few forms.
        self.start.saturating_add(u32::try_from(self.all.len()).unwrap_or(u32::MAX))
    }

    fn find(&self, content: &Content) -> Option<u32> {
        let hash = self.hasher.hash_one(content);
        self.numbers.find(hash, |it| self.get(*it) == Some(content)).copied()
    }

    /// A number for a content that is not known yet.
    fn reserve(&mut self) -> u32 {
        self.all.push(Content::new());
        self.next() - 1
    }

    fn insert(&mut self, content: Content) -> u32 {
        let (number, hash) = (self.next(), self.hasher.hash_one(&content));
        self.all.push(content);
        let (all, start, hasher) = (&self.all, self.start, &self.hasher);
        let hash_of = |it: &u32| all.get((*it - start) as usize).map_or(0, |it| hasher.hash_one(it));
        self.numbers.insert_unique(hash, number, hash_of);
        number
    }
}

/// Where a type is.
#[derive(Clone, Copy, Debug)]
enum State {
    /// Further up.
    Open,
    /// Further up, and something in it refers to it: what it contains has this number, and no other type has.
    Cyclic(u32),
    Done(u32),
}

/// A type on its way.
struct Frame<'data> {
    node: Node,
    record: Record<'data>,
    content: Content,
}

/// Numbers the contents of one unit.
struct Numbering<'a, 'k, 'data> {
    marks: &'a Marks<'k, 'data>,
    unit: usize,
    base: Option<&'a Emitted<'data>>,
    names: Names<'data>,
    contents: Contents,
    states: HashMap<Node, State>,
}

impl<'data> Numbering<'_, '_, 'data> {
    fn frame(&self, node: Node) -> Result<Frame<'data>, MinimalError> {
        let record = self.marks.record(self.unit, node)?;
        Ok(Frame { node, content: Content::with_capacity(record.len()), record })
    }

    /// The number of what a type contains.
    fn number(&mut self, node: Node) -> Result<u32, MinimalError> {
        let node = self.marks.canonical(self.unit, node);
        if let Some(State::Done(number)) = self.states.get(&node) {
            return Ok(*number);
        }
        self.states.insert(node, State::Open);
        let mut frames = Vec::new();
        let mut frame = self.frame(node)?;
        loop {
            let slot = match frame.record.get(frame.content.len()) {
                Some(Item::Word(word)) => Slot::Word(*word),
                Some(Item::Name(name)) => Slot::Name(self.names.number(name, self.base.map(|it| &it.names))),
                Some(Item::Shell) => Slot::Shell,
                Some(Item::Type(node)) => {
                    let node = self.marks.canonical(self.unit, *node);
                    match self.states.get(&node) {
                        Some(State::Done(number) | State::Cyclic(number)) => Slot::Content(*number),
                        Some(State::Open) => {
                            let number = self.contents.reserve();
                            self.states.insert(node, State::Cyclic(number));
                            Slot::Content(number)
                        }
                        None => {
                            self.states.insert(node, State::Open);
                            let inner = self.frame(node)?;
                            frames.push(std::mem::replace(&mut frame, inner));
                            continue;
                        }
                    }
                }
                None => {
                    let number = self.finished(&frame.node, std::mem::take(&mut frame.content));
                    self.states.insert(frame.node, State::Done(number));
                    let Some(outer) = frames.pop() else { return Ok(number) };
                    frame = outer;
                    continue;
                }
            };
            frame.content.push(slot);
        }
    }

    fn finished(&mut self, node: &Node, content: Content) -> u32 {
        if let Some(State::Cyclic(number)) = self.states.get(node) {
            let place = number.saturating_sub(self.contents.start) as usize;
            if let Some(slot) = self.contents.all.get_mut(place) {
                *slot = content;
            }
            return *number;
        }
        let known =
            self.base.and_then(|it| it.contents.find(&content)).or_else(|| self.contents.find(&content));
        known.unwrap_or_else(|| self.contents.insert(content))
    }
}

/// Kind and name of a record, if it has one.
fn named(content: &Content) -> Option<Named> {
    match content.as_slice() {
        [Slot::Name(name), Slot::Word(info), ..] if *name != 0 => Some((info >> 24 & 0x1f, *name)),
        _ => None,
    }
}

/// Writes what is marked of a unit: `base` is vmlinux if that is a module, which comes out split on it.
pub(super) fn emit<'data>(
    marks: &Marks<'_, 'data>,
    unit: usize,
    base: Option<&Emitted<'data>>,
) -> Result<Emitted<'data>, MinimalError> {
    let endian = marks.unit(unit).map_or(Endian::Little, |it| it.endian());
    let start = base.map_or(0, |it| it.contents.next());
    let mut numbering = Numbering {
        marks,
        unit,
        base,
        names: Names::new(base.map(|it| &it.names)),
        contents: Contents { start, ..Contents::default() },
        states: HashMap::with_capacity(NAMES_GUESS),
    };
    let pinned = marks.pinned(unit).map(|it| numbering.number(it)).collect::<Result<Vec<u32>, _>>()?;
    let Numbering { names, contents, .. } = numbering;

    let mut count = base.map_or(1, |it| it.count);
    let mut written: Vec<&Content> = Vec::with_capacity(contents.all.len());
    let mut ids = vec![0; contents.all.len()];
    let mut of_pinned: HashMap<Named, u32> = HashMap::new();
    for number in pinned {
        // What vmlinux has too is written once more, as the module's own.
        let content = contents.get(number).or_else(|| base?.contents.get(number));
        let Some(content) = content else { continue };
        if let Some(id) =
            number.checked_sub(start).and_then(|it| ids.get_mut(it as usize)).filter(|it| **it == 0)
        {
            *id = count;
        }
        if let Some(named) = named(content) {
            of_pinned.entry(named).or_insert(count);
        }
        written.push(content);
        count = count.saturating_add(1);
    }
    let mut all_named = of_pinned.clone();
    let is_shell = |content: &Content| content.last() == Some(&Slot::Shell);
    for (content, id) in contents.all.iter().zip(&mut ids).filter(|it| *it.1 == 0 && !is_shell(it.0)) {
        let known = named(content);
        // A typedef behind a pointer is not written beside the candidate of that name, or it were one more.
        let typedef = known.filter(|it| it.0 == u32::from(crate::format::btf::Kind::Typedef.raw()));
        if let Some(pinned) = typedef.and_then(|it| of_pinned.get(&it)) {
            *id = *pinned;
            continue;
        }
        *id = count;
        if let Some(named) = known {
            all_named.entry(named).or_insert(count);
        }
        written.push(content);
        count = count.saturating_add(1);
    }
    for (content, id) in contents.all.iter().zip(&mut ids).filter(|it| *it.1 == 0) {
        let Some(named) = named(content) else { continue };
        let in_base = base.and_then(|it| it.named.get(&named));
        *id = *in_base.unwrap_or_else(|| {
            all_named.entry(named).or_insert_with(|| {
                written.push(content);
                count = count.saturating_add(1);
                count - 1
            })
        });
    }

    // The place of each name among those that are written, and the names.
    let mut place_of = vec![None; names.end() as usize];
    let mut used = Vec::new();
    for slot in written.iter().flat_map(|it| it.iter()) {
        let Slot::Name(number) = slot else { continue };
        let name = names.get(*number).or_else(|| base?.names.get(*number));
        if let (Some(name), Some(place @ None)) = (name, place_of.get_mut(*number as usize)) {
            *place = Some(used.len());
            used.push(name);
        }
    }
    let (strings, offsets) = Strings::new(&used, base.map(|it| &it.strings));
    let offset_of = |number: u32| offsets.get((*place_of.get(number as usize)?)?).copied();
    let id_of = |number: u32| match number.checked_sub(start) {
        Some(own) => ids.get(own as usize),
        None => base.and_then(|it| it.ids.get(number as usize)),
    };
    let mut types: Vec<u32> = Vec::new();
    for slot in written.iter().flat_map(|it| it.iter()) {
        types.push(match slot {
            Slot::Word(word) => *word,
            Slot::Name(number) => offset_of(*number).unwrap_or(0),
            Slot::Content(number) => id_of(*number).copied().unwrap_or(0),
            Slot::Shell => continue,
        });
    }
    let types: Vec<u8> = types.iter().flat_map(|it| endian.u32_bytes(*it)).collect();
    // It is shorter than what it is made from, but for the types that a module has again.
    let bytes = assemble(endian, &types, strings.bytes()).unwrap_or_default();
    Ok(Emitted { bytes, count, names, contents, ids, named: all_named, strings })
}
