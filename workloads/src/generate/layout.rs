//! What follows from a struct that gets another size: everything that contains it by value is laid out anew.

use std::collections::{BTreeMap, BTreeSet};

use btfleet_engine::format::btf::Kind;

use super::btf_edit::{Member, Model, Record};

/// Structs that one change may move. Real changes of `list_head` and the like do not happen either.
const AFFECTED_MAX: usize = 4000;
/// Largest size in bytes that a struct may get.
const SIZE_MAX: i64 = 1 << 28;

/// Which struct or union contains which by value, directly or in arrays.
#[derive(Debug)]
pub(super) struct Containers(Vec<(u32, u32)>);

impl Containers {
    pub(super) fn of(model: &Model) -> Self {
        let mut pairs = Vec::new();
        for (id, record) in model.types() {
            pairs.extend(record.members().map(|it| (model.element(it.ty).0, id)));
        }
        pairs.retain(|&(inner, _)| model.get(inner).is_some_and(|it| it.kind().is_composite()));
        pairs.sort_unstable();
        pairs.dedup();
        Self(pairs)
    }

    /// Structs and unions that directly contain `id`.
    pub(super) fn around(&self, id: u32) -> impl Iterator<Item = u32> + '_ {
        let start = self.0.partition_point(|&(inner, _)| inner < id);
        let tail = self.0.get(start..).unwrap_or_default();
        tail.iter().take_while(move |&&(inner, _)| inner == id).map(|&(_, outer)| outer)
    }
}

/// Gives a struct or union other members and another size, and moves whatever follows in what contains it.
///
/// `false`, and nothing is changed, if too much would move or an offset would not fit any more.
pub(super) fn replace(
    model: &mut Model,
    containers: &Containers,
    id: u32,
    members: &[Member],
    size: u32,
) -> bool {
    let Some(record) = model.get(id) else { return false };
    let growth = i64::from(size) - i64::from(record.word);
    let mut record = record.clone();
    if !record.set_members(members) {
        return false;
    }
    record.word = size;
    let mut changed = vec![(id, record)];
    if growth != 0 {
        let Some(order) = affected(containers, id) else { return false };
        let mut grown = BTreeMap::from([(id, growth)]);
        for outer in order {
            let Some(record) = model.get(outer).and_then(|it| relaid(model, it, &grown)) else {
                return false;
            };
            let before = model.get(outer).map_or(0, |it| i64::from(it.word));
            grown.insert(outer, i64::from(record.word) - before);
            changed.push((outer, record));
        }
    }
    for (id, record) in changed {
        if let Some(slot) = model.get_mut(id) {
            *slot = record;
        }
    }
    true
}

/// All that contains `id` at any depth, inner before outer.
fn affected(containers: &Containers, id: u32) -> Option<Vec<u32>> {
    let mut found = BTreeSet::from([id]);
    let mut left = vec![id];
    while let Some(inner) = left.pop() {
        left.extend(containers.around(inner).filter(|&outer| found.insert(outer)));
        if found.len() > AFFECTED_MAX {
            return None;
        }
    }
    // How many of the found ones each contains that are not yet in order.
    let mut waiting: BTreeMap<u32, usize> = BTreeMap::new();
    for outer in found.iter().flat_map(|&inner| containers.around(inner)) {
        *waiting.entry(outer).or_default() += 1;
    }
    let (mut order, mut ready) = (Vec::new(), vec![id]);
    while let Some(inner) = ready.pop() {
        for outer in containers.around(inner) {
            let count = waiting.get_mut(&outer)?;
            *count -= 1;
            if *count == 0 {
                order.push(outer);
                ready.push(outer);
            }
        }
    }
    // Less than all is a type that contains itself: hostile, and left alone.
    (order.len() + 1 == found.len()).then_some(order)
}

/// `record` as it is once the types in `grown` have grown by so many bytes.
fn relaid(model: &Model, record: &Record, grown: &BTreeMap<u32, i64>) -> Option<Record> {
    let old: Vec<Member> = record.members().collect();
    // The members that grow: number, where it ends now, by how much it grows, in bits. An empty one does not push itself.
    let mut growths = Vec::new();
    let mut tallest = (0, 0);
    for (number, member) in old.iter().enumerate() {
        let (element, count) = model.element(member.ty);
        let by = 8 * i64::from(count) * grown.get(&element).copied().unwrap_or(0);
        let end = i64::from(member.offset) + 8 * i64::from(model.size(member.ty));
        tallest = (tallest.0.max(end), tallest.1.max(end + by));
        if by != 0 {
            growths.push((number, end, by));
        }
    }
    let mut new = old.clone();
    let mut size = i64::from(record.word);
    if record.kind() == Kind::Union {
        size += (tallest.1 - tallest.0) / 8;
    } else {
        for (number, member) in new.iter_mut().enumerate() {
            let at = i64::from(member.offset);
            let by: i64 = growths
                .iter()
                .filter(|&&(grown, end, _)| grown < number && end <= at)
                .map(|&(_, _, by)| by)
                .sum();
            member.offset = u32::try_from(at + by).ok()?;
        }
        size += growths.iter().map(|&(_, _, by)| by).sum::<i64>() / 8;
    }
    if !(0..SIZE_MAX).contains(&size) {
        return None;
    }
    let mut record = record.clone();
    record.word = u32::try_from(size).ok()?;
    record.set_members(&new).then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty BTF to build on.
    fn empty() -> Model {
        Model::read(&[0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0])
            .unwrap()
    }

    fn structure(model: &mut Model, size: u32, members: &[(u32, u32)]) -> u32 {
        let tail = members.iter().flat_map(|&(ty, byte)| [0, ty, byte * 8]).collect();
        model.push(Record::new(0, 4, size, tail, 3))
    }

    #[test]
    fn growth_moves_what_follows_at_every_depth() {
        let mut model = empty();
        let long = model.push(Record::new(0, 1, 8, vec![64], 0));
        let inner = structure(&mut model, 8, &[(long, 0)]);
        let array = model.push(Record::new(0, 3, 0, vec![inner, long, 2], 0));
        let middle = structure(&mut model, 24, &[(array, 0), (long, 16)]);
        let outer = structure(&mut model, 40, &[(inner, 0), (middle, 8), (long, 32)]);
        let containers = Containers::of(&model);

        let member = |ty, offset| Member { name: 0, ty, offset, width: 0 };
        assert!(replace(&mut model, &containers, inner, &[member(long, 0), member(long, 64)], 16));
        let offsets = |model: &Model, id| {
            let record = model.get(id).unwrap();
            (record.word, record.members().map(|it| it.offset / 8).collect::<Vec<_>>())
        };
        assert_eq!(offsets(&model, middle), (40, vec![0, 32]));
        assert_eq!(offsets(&model, outer), (64, vec![0, 16, 56]));
        assert!(replace(&mut model, &containers, inner, &[member(long, 0)], 8));
        assert_eq!(offsets(&model, outer), (40, vec![0, 8, 32]));
    }
}
