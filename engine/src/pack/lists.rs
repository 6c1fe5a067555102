//! Section LISTS: values that are more than one type.

use super::PackError;
use super::format::{to_u32, u32_at, words};

/// The lists of one segment, where they stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lists<'data> {
    ends: &'data [[u8; 4]],
    ids: &'data [[u8; 4]],
}

impl<'data> Lists<'data> {
    pub(super) fn new(bytes: &'data [u8]) -> Result<Self, PackError> {
        let damaged = PackError::damaged("the lists are broken");
        let Some(count) = u32_at(bytes, 0) else { return Err(damaged) };
        let body = bytes.get(4..).and_then(|rest| rest.split_at_checked((count as usize).saturating_mul(4)));
        let Some((ends, ids)) = body else { return Err(damaged) };
        Ok(Self { ends: ends.as_chunks().0, ids: ids.as_chunks().0 })
    }

    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// Types of list number `number` of this segment.
    pub(super) fn get(&self, number: usize) -> Option<&'data [[u8; 4]]> {
        let end = |number: usize| self.ends.get(number).map(|end| u32::from_le_bytes(*end) as usize);
        let from = if number == 0 { 0 } else { end(number - 1)? };
        self.ids.get(from..end(number)?)
    }
}

/// Serialises lists.
pub(super) fn write(lists: &[Box<[u32]>]) -> Result<Vec<u8>, PackError> {
    let mut out = Vec::new();
    words(&mut out, &[to_u32(lists.len(), "lists")?]);
    let mut end = 0;
    for list in lists {
        end += list.len();
        words(&mut out, &[to_u32(end, "lists")?]);
    }
    for list in lists {
        words(&mut out, list);
    }
    Ok(out)
}
