//! The types and strings that a pack has, for looking up many of them while kernels are added.
//!
//! [`Btf`] walks from segment to segment to find a type; here the segment is found at once.

use std::sync::Arc;

use super::Pack;
use super::format::Abi;
use super::index::Index;
use crate::btf::Btf;

/// What a pack has of one ABI.
pub(super) struct Known<'p> {
    segments: Vec<Segment<'p>>,
    /// First id and first string offset that the pack does not have.
    pub(super) end: (u32, u32),
}

struct Segment<'p> {
    btf: Arc<Btf<'p>>,
    types: Index<'p>,
    strings: Index<'p>,
    /// First id of the segment, and first string offset.
    first: (u32, u32),
}

impl<'p> Known<'p> {
    /// `None` if the pack has nothing of the ABI.
    pub(super) fn new(pack: &Pack<'p>, abi: Abi) -> Option<Self> {
        let parts = pack.segments.iter().filter_map(|it| it.abis.get(abi.slot())?.as_ref());
        let segments = parts.map(|part| Segment {
            btf: Arc::clone(&part.btf),
            types: part.types,
            strings: part.strings,
            first: part.first,
        });
        let segments: Vec<Segment<'p>> = segments.collect();
        let newest = &segments.last()?.btf;
        let end = (newest.type_count(), newest.str_end());
        Some(Self { segments, end })
    }

    /// The last segment that does not begin behind a place. Most of a pack is in its first one.
    #[inline]
    fn segment(&self, is_behind: impl Fn((u32, u32)) -> bool) -> Option<&Segment<'p>> {
        match self.segments.get(1) {
            Some(second) if !is_behind(second.first) => {
                let number = self.segments.partition_point(|it| !is_behind(it.first));
                self.segments.get(number - 1)
            }
            _ => self.segments.first(),
        }
    }

    /// The record of a type.
    #[inline]
    pub(super) fn record(&self, id: u32) -> Option<&'p [u8]> {
        let segment = self.segment(|first| first.0 > id)?;
        segment.btf.packed_record(id.checked_sub(segment.first.0)?)
    }

    /// The bytes from shortly before the record of a type.
    #[inline]
    pub(super) fn near(&self, id: u32) -> Option<&'p [u8]> {
        let segment = self.segment(|first| first.0 > id)?;
        segment.btf.near_record(id.checked_sub(segment.first.0)?)
    }

    /// The bytes from a string on.
    #[inline]
    pub(super) fn string_tail(&self, off: u32) -> Option<&'p [u8]> {
        let segment = self.segment(|first| first.1 > off)?;
        segment.btf.own_strings().get(off.checked_sub(segment.first.1)? as usize..)
    }

    /// Offset of a string. `hash`: its hash.
    pub(super) fn find_string(&self, hash: u64, string: &[u8]) -> Option<u32> {
        self.segments.iter().find_map(|segment| {
            let mut offs = segment.strings.bucket(hash).map(|number| segment.first.1.saturating_add(number));
            offs.find(|&off| {
                let rest = self.string_tail(off).and_then(|tail| tail.strip_prefix(string));
                rest.is_some_and(|rest| rest.first() == Some(&0))
            })
        })
    }

    /// The type with this record. `hash`: that of the record.
    pub(super) fn find_record(&self, hash: u64, record: &[u8]) -> Option<u32> {
        self.segments.iter().find_map(|segment| {
            let mut ids = segment.types.bucket(hash).map(|number| segment.first.0.saturating_add(number));
            ids.find(|&id| self.record(id) == Some(record))
        })
    }
}
