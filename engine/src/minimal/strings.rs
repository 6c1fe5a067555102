//! String sections in which a string that another one ends with is not stored again.

use std::cmp::Ordering;

use hashbrown::{HashMap, HashSet};

/// A string section, or one that continues another one.
#[derive(Debug)]
pub(super) struct Strings<'data> {
    bytes: Vec<u8>,
    /// Offset of the first byte.
    start: u32,
    /// Strings that are stored, with their offsets, in the order of their last bytes.
    stored: Vec<(&'data [u8], u32)>,
    /// Where each of the strings is that it was made for.
    offsets: HashMap<&'data [u8], u32>,
}

fn from_behind(a: &[u8], b: &[u8]) -> Ordering {
    a.iter().rev().cmp(b.iter().rev())
}

impl<'data> Strings<'data> {
    /// A section with all of `names`; what `base` has is left out.
    pub(super) fn new(names: impl Iterator<Item = &'data [u8]>, base: Option<&Self>) -> Self {
        let distinct: HashSet<&[u8]> = names.filter(|it| !it.is_empty()).collect();
        let (mut bytes, start) = match base {
            Some(base) => (Vec::new(), base.end()),
            None => (vec![0], 0),
        };
        let mut offsets = HashMap::with_capacity(distinct.len());
        let mut names = Vec::with_capacity(distinct.len());
        for name in distinct {
            match base.and_then(|it| it.find(name)) {
                Some(offset) => drop(offsets.insert(name, offset)),
                None => names.push(name),
            }
        }
        names.sort_unstable_by(|a, b| from_behind(a, b));
        let mut stored: Vec<(&[u8], u32)> = Vec::with_capacity(names.len());
        // Whatever ends with a string comes right behind it.
        for (number, name) in names.iter().enumerate() {
            if names.get(number + 1).is_none_or(|next| !next.ends_with(name)) {
                stored.push((name, start.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX))));
                bytes.extend_from_slice(name);
                bytes.push(0);
            }
        }
        let mut ends = stored.iter().peekable();
        for name in names {
            while ends.peek().is_some_and(|(end, _)| !end.ends_with(name)) {
                ends.next();
            }
            // Less than there are bytes.
            let offset_in = |(end, offset): &&(&[u8], u32)| {
                offset.saturating_add(u32::try_from(end.len() - name.len()).unwrap_or(0))
            };
            offsets.insert(name, ends.peek().map_or(0, offset_in));
        }
        Self { bytes, start, stored, offsets }
    }

    fn end(&self) -> u32 {
        self.start.saturating_add(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX))
    }

    fn find(&self, name: &[u8]) -> Option<u32> {
        let at = self.stored.partition_point(|it| from_behind(it.0, name) == Ordering::Less);
        let (stored, offset) = self.stored.get(at).filter(|it| it.0.ends_with(name))?;
        u32::try_from(stored.len() - name.len()).ok()?.checked_add(*offset)
    }

    /// Where one of the names is.
    pub(super) fn offset(&self, name: &[u8]) -> u32 {
        self.offsets.get(name).copied().unwrap_or(0)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
