//! String sections in which a string that another one ends with is not stored again.

use std::cmp::Ordering;

/// A string section, or one that continues another one.
#[derive(Debug)]
pub(super) struct Strings<'data> {
    bytes: Vec<u8>,
    /// Offset of the first byte.
    start: u32,
    /// Strings that are stored, with their offsets, in the order of their last bytes.
    stored: Vec<(&'data [u8], u32)>,
}

fn from_behind(a: &[u8], b: &[u8]) -> Ordering {
    a.iter().rev().cmp(b.iter().rev())
}

impl<'data> Strings<'data> {
    /// A section with all of `names`; what `base` has is left out.
    pub(super) fn new(names: impl Iterator<Item = &'data [u8]>, base: Option<&Self>) -> Self {
        let in_base = |name: &[u8]| base.is_some_and(|it| it.find(name).is_some());
        let mut names: Vec<&[u8]> = names.filter(|it| !it.is_empty()).collect();
        names.sort_unstable_by(|a, b| from_behind(a, b));
        names.dedup();
        names.retain(|it| !in_base(it));
        // Whatever ends with a string comes right behind it.
        let is_end = |pair: &[&[u8]]| matches!(pair, [it, next] if next.ends_with(it));
        let ends: Vec<bool> = names.windows(2).map(is_end).chain([false]).collect();
        let (mut bytes, start) = match base {
            Some(base) => (Vec::new(), base.end()),
            None => (vec![0], 0),
        };
        let mut stored = Vec::new();
        for (name, _) in names.into_iter().zip(ends).filter(|it| !it.1) {
            stored.push((name, start.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX))));
            bytes.extend(name);
            bytes.push(0);
        }
        Self { bytes, start, stored }
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
    pub(super) fn offset(&self, name: &[u8], base: Option<&Self>) -> u32 {
        match name {
            [] => 0,
            name => base.and_then(|it| it.find(name)).or_else(|| self.find(name)).unwrap_or(0),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
