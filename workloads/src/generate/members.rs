//! Changes of one struct, union or enum, such as kernel developers make them.
//!
//! Which member is taken depends on the members' names and a key, not on their number: two flavours of a kernel
//! whose structs differ a little are changed alike.

use btfleet_engine::btf::NameHash;
use btfleet_engine::format::btf::Kind;

use super::btf_edit::{Member, Model, Record};
use super::layout::{self, Containers};
use super::rng::{self, Rng, fold};

/// Anonymous structs and unions inside one another that a change looks into.
const NESTED_MAX: usize = 4;
/// Bytes that an array may grow by.
const ARRAY_GROWTH_MAX: u32 = 4096;

/// Types of the kernel that new members have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Basics {
    /// 4 bytes.
    pub(super) int: u32,
    /// 8 bytes.
    pub(super) long: u32,
    /// To void.
    pub(super) pointer: u32,
}

/// What was done to a struct, union or enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Done {
    Inserted,
    Removed,
    Moved,
    Renamed,
    Resized,
    Enumerator,
}

impl Done {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Inserted => "members_inserted",
            Self::Removed => "members_removed",
            Self::Moved => "members_moved",
            Self::Renamed => "members_renamed",
            Self::Resized => "members_resized",
            Self::Enumerator => "enumerators_changed",
        }
    }
}

/// A model with what is known of it, for changes of single types.
#[derive(Debug)]
pub(super) struct Editor<'a> {
    pub(super) model: &'a mut Model,
    pub(super) containers: &'a Containers,
    pub(super) basics: Basics,
}

impl Editor<'_> {
    /// Changes the type in one way, or returns `None` if no way that was tried is possible.
    pub(super) fn change(&mut self, id: u32, rng: &mut Rng) -> Option<Done> {
        if self.model.get(id)?.kind().is_any_enum() {
            return self.enumerators(id, rng).then_some(Done::Enumerator);
        }
        let mut id = id;
        for _ in 0..NESTED_MAX {
            let nested = self.nested(id);
            // Much of the popular structs is inside anonymous ones.
            match rng.pick(&nested) {
                Some(&inner) if rng.chance(0.25) => id = inner,
                _ => break,
            }
        }
        for _ in 0..4 {
            let key = rng.next();
            let (done, what) = match rng.below(100) {
                0..40 => (self.insert(id, key, rng), Done::Inserted),
                40..55 => (self.remove(id, key), Done::Removed),
                55..70 => (self.swap(id, key), Done::Moved),
                70..78 => (self.rename(id, key, rng), Done::Renamed),
                _ => (self.resize(id, key), Done::Resized),
            };
            if done {
                return Some(what);
            }
        }
        None
    }

    fn members(&self, id: u32) -> Vec<Member> {
        self.model.get(id).map(|it| it.members().collect()).unwrap_or_default()
    }

    /// Anonymous structs and unions that are members.
    fn nested(&self, id: u32) -> Vec<u32> {
        let anonymous = |it: &Member| {
            let inner = self.model.skip(it.ty);
            let record = self.model.get(inner)?;
            (record.kind().is_composite() && self.model.text(record.name).is_empty()).then_some(inner)
        };
        self.members(id)
            .iter()
            .filter(|it| self.model.text(it.name).is_empty())
            .filter_map(anonymous)
            .collect()
    }

    /// Of those members for which `fits` holds, the number of the one whose name the key likes best.
    fn choose(&self, members: &[Member], key: u64, fits: impl Fn(usize, &Member) -> bool) -> Option<usize> {
        let liking = |it: &Member| fold(key, NameHash::of(self.model.text(it.name)).0);
        let fitting = members.iter().enumerate().filter(|(index, it)| fits(*index, it));
        fitting.min_by_key(|(_, it)| liking(it)).map(|(index, _)| index)
    }

    fn end(&self, member: &Member) -> u32 {
        if member.width > 0 {
            return member.offset.saturating_add(member.width);
        }
        member.offset.saturating_add(self.model.size(member.ty).saturating_mul(8))
    }

    /// Whether everything before bit `at` ends there at the latest.
    fn is_boundary(&self, members: &[Member], at: u32) -> bool {
        members.iter().all(|it| it.offset >= at || self.end(it) <= at)
    }

    fn insert(&mut self, id: u32, key: u64, rng: &mut Rng) -> bool {
        let members = self.members(id);
        let Some(record) = self.model.get(id) else { return false };
        let (is_union, size) = (record.kind() == Kind::Union, record.word);
        let name = rng::name(rng, 2);
        if members.is_empty() || members.iter().any(|it| self.model.text(it.name) == name.as_bytes()) {
            return false;
        }
        let name = self.model.string(name.as_bytes());
        let mut new = members.clone();
        let mut fresh = Member { name, ty: self.basics.long, offset: 0, width: 0 };
        if rng.chance(0.5) {
            fresh.ty = self.basics.pointer;
        }
        if is_union {
            new.push(fresh);
            return size >= 8 && layout::replace(self.model, self.containers, id, &new, size);
        }
        // Into a hole, if there is one, as careful developers do.
        if rng.chance(0.4)
            && let Some((index, offset)) = self.hole(&members, size)
        {
            new.insert(index, Member { ty: self.basics.int, offset, ..fresh });
            return layout::replace(self.model, self.containers, id, &new, size);
        }
        let fits =
            |_: usize, it: &Member| it.offset.is_multiple_of(64) && self.is_boundary(&members, it.offset);
        let Some(index) = self.choose(&members, key, fits) else { return false };
        let Some(at) = members.get(index).map(|it| it.offset) else { return false };
        for member in new.iter_mut().skip(index).filter(|it| it.offset >= at) {
            member.offset = member.offset.saturating_add(64);
        }
        new.insert(index, Member { offset: at, ..fresh });
        layout::replace(self.model, self.containers, id, &new, size.saturating_add(8))
    }

    /// Room for an integer between two members or at the end: before which member, at which bit.
    fn hole(&self, members: &[Member], size: u32) -> Option<(usize, u32)> {
        let starts = members.iter().map(|it| it.offset).skip(1);
        let mut reached = 0;
        (1..).zip(members).zip(starts.chain([size.saturating_mul(8)])).find_map(|((index, member), next)| {
            reached = self.end(member).max(reached);
            let at = reached.checked_next_multiple_of(32)?;
            // A flexible array has no size, but what stands behind it is its own.
            let is_flexible = self.model.size(member.ty) == 0;
            (!is_flexible && at.checked_add(32)? <= next).then_some((index, at))
        })
    }

    fn remove(&mut self, id: u32, key: u64) -> bool {
        let members = self.members(id);
        let chosen =
            self.choose(&members, key, |_, it| it.width == 0 && !self.model.text(it.name).is_empty());
        chosen.is_some_and(|index| self.remove_member(id, index))
    }

    /// Takes a member out, and closes the gap where the alignment allows.
    pub(super) fn remove_member(&mut self, id: u32, index: usize) -> bool {
        let members = self.members(id);
        let (Some(member), Some(record)) = (members.get(index), self.model.get(id)) else { return false };
        if members.len() < 2 {
            return false;
        }
        let (start, end) = (member.offset, self.end(member));
        let mut new = members.clone();
        new.remove(index);
        let alone = new.iter().all(|it| self.end(it) <= start || it.offset >= end);
        let mut size = record.word;
        if record.kind() == Kind::Struct && alone && start.is_multiple_of(64) && end.is_multiple_of(64) {
            for later in new.iter_mut().filter(|it| it.offset >= end) {
                later.offset -= end - start;
            }
            size = size.saturating_sub((end - start) / 8);
        }
        layout::replace(self.model, self.containers, id, &new, size)
    }

    /// Lets two members of the same size change places.
    fn swap(&mut self, id: u32, key: u64) -> bool {
        let mut members = self.members(id);
        let Some(record) = self.model.get(id) else { return false };
        let (kind, size) = (record.kind(), record.word);
        let is_plain =
            |it: &Member| it.width == 0 && self.model.size(it.ty) > 0 && !self.model.text(it.name).is_empty();
        let Some(one) = self.choose(&members, key, |_, it| is_plain(it)) else { return false };
        let Some(first) = members.get(one).copied() else { return false };
        let alike = |index: usize, it: &Member| {
            index != one && is_plain(it) && self.model.size(it.ty) == self.model.size(first.ty)
        };
        let Some(two) = self.choose(&members, fold(key, 1), alike) else { return false };
        let Some(second) = members.get(two).copied() else { return false };
        if kind != Kind::Struct {
            return false;
        }
        members.swap(one, two);
        for (index, offset) in [(one, first.offset), (two, second.offset)] {
            if let Some(member) = members.get_mut(index) {
                member.offset = offset;
            }
        }
        layout::replace(self.model, self.containers, id, &members, size)
    }

    fn rename(&mut self, id: u32, key: u64, rng: &mut Rng) -> bool {
        const MARKS: [&[u8]; 6] = [b"_raw", b"_v2", b"_ext", b"_flags", b"_cached", b"2"];
        let mut members = self.members(id);
        let chosen = self.choose(&members, key, |_, it| !self.model.text(it.name).is_empty());
        let Some(member) = chosen.and_then(|index| members.get_mut(index)) else { return false };
        let mark = rng.pick(&MARKS).copied().unwrap_or_default();
        let name = [self.model.text(member.name), mark].concat();
        member.name = self.model.string(&name);
        let size = self.model.get(id).map_or(0, |it| it.word);
        layout::replace(self.model, self.containers, id, &members, size)
    }

    fn resize(&mut self, id: u32, key: u64) -> bool {
        let mut members = self.members(id);
        let Some((kind, size)) = self.model.get(id).map(|it| (it.kind(), it.word)) else { return false };
        let new_type = |it: &Member| {
            let bare = self.model.skip(it.ty);
            let record = self.model.get(bare)?;
            let bytes = self.model.size(bare);
            match record.kind() {
                Kind::Int if bytes == 8 => Some((None, 0)),
                Kind::Int if bytes == 4 && it.offset.is_multiple_of(64) => Some((None, 8)),
                Kind::Array if (1..=ARRAY_GROWTH_MAX).contains(&bytes) && bytes.is_multiple_of(8) => {
                    Some((Some(record.tail.clone()), bytes))
                }
                _ => None,
            }
        };
        let fits = |_: usize, it: &Member| {
            it.width == 0
                && !self.model.text(it.name).is_empty()
                && new_type(it).is_some_and(|(_, growth)| {
                    growth == 0 || kind == Kind::Struct && self.is_boundary(&members, self.end(it))
                })
        };
        let Some(index) = self.choose(&members, key, fits) else { return false };
        let Some((old, (array, growth))) = members.get(index).and_then(|it| Some((*it, new_type(it)?)))
        else {
            return false;
        };
        let ty = match array {
            Some(tail) => {
                let &[element, index_type, count] = tail.as_slice() else { return false };
                let tail = vec![element, index_type, count.saturating_mul(2)];
                self.model.push(Record::new(0, 3, 0, tail, 0))
            }
            None if growth == 0 => self.basics.int,
            None => self.basics.long,
        };
        let end = self.end(&old);
        for (at, member) in members.iter_mut().enumerate() {
            if at == index {
                member.ty = ty;
            } else if growth > 0 && member.offset >= end {
                member.offset = member.offset.saturating_add(8 * growth);
            }
        }
        layout::replace(self.model, self.containers, id, &members, size.saturating_add(growth))
    }

    fn enumerators(&mut self, id: u32, rng: &mut Rng) -> bool {
        let Some(record) = self.model.get(id) else { return false };
        let mut record = record.clone();
        let words = record.element_words();
        let mut elements: Vec<Vec<u32>> =
            record.tail.chunks_exact(words.max(1)).map(<[u32]>::to_vec).collect();
        let values: Vec<u32> = elements.iter().filter_map(|it| it.get(1).copied()).collect();
        let (Some(&last), Some(first)) = (values.last(), elements.first()) else { return false };
        let in_order =
            values.windows(2).all(|it| matches!(it, &[one, next] if one.checked_add(1) == Some(next)));
        let first_name = first.first().map_or(&[][..], |&name| self.model.text(name)).to_vec();
        let fresh = rng::name(rng, 2).to_uppercase();
        let at = rng.below(elements.len());
        match rng.below(10) {
            0..7 => {
                let end = first_name.iter().rposition(|&byte| byte == b'_').map_or(0, |at| at + 1);
                let name = [first_name.get(..end).unwrap_or_default(), fresh.as_bytes()].concat();
                let name = self.model.string(&name);
                let Some(next) = last.checked_add(1).filter(|&it| it < 1 << 30) else { return false };
                // In the middle of a list that counts up, everything behind moves by one.
                let in_middle = in_order && rng.chance(0.5);
                let (at, value) = match values.get(at) {
                    Some(&value) if in_middle => (at, value),
                    _ => (elements.len(), next),
                };
                for later in elements.iter_mut().skip(at).filter_map(|it| it.get_mut(1)) {
                    *later += 1;
                }
                let mut element = vec![name, value];
                element.resize(words, 0);
                elements.insert(at, element);
            }
            7 if elements.len() > 1 => {
                elements.remove(at);
            }
            _ => {
                let Some(slot) = elements.get_mut(at).and_then(|it| it.first_mut()) else { return false };
                let name = [self.model.text(*slot), b"_", fresh.as_bytes()].concat();
                *slot = self.model.string(&name);
            }
        }
        let Some(count) = u32::try_from(elements.len()).ok().filter(|&count| count < 1 << 16) else {
            return false;
        };
        record.tail = elements.concat();
        record.info = record.info & 0xff00_0000 | count;
        if let Some(slot) = self.model.get_mut(id) {
            *slot = record;
        }
        true
    }
}
