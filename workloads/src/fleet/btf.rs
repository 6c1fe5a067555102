//! As much of BTF as is needed to count what is in it.
//!
//! The engine takes it out of kernel images and is left out of the rest on purpose: what is fetched here is what the
//! engine is tested with.

use super::bytes::Bytes;

/// Where the sections of a blob of BTF are. All offsets count from the start of the blob.
#[derive(Clone, Copy, Debug)]
struct Header {
    types: (usize, usize),
    strings: (usize, usize),
}

impl Header {
    /// Reads the header at the start of `data`; sections end within `data`.
    fn parse(data: &[u8]) -> Option<(Header, Bytes<'_>)> {
        let big_endian = match data.get(..3)? {
            [0x9f, 0xeb, 1] => false,
            [0xeb, 0x9f, 1] => true,
            _ => return None,
        };
        let bytes = Bytes { data, big_endian };
        let header_len = bytes.offset(4)?;
        if !(24..=4096).contains(&header_len) {
            return None;
        }
        let section = |at: usize| -> Option<(usize, usize)> {
            let start = header_len.checked_add(bytes.offset(at)?)?;
            let end = start.checked_add(bytes.offset(at + 4)?)?;
            (end <= data.len()).then_some((start, end))
        };
        let (types, strings) = (section(8)?, section(16)?);
        Some((Header { types, strings }, bytes))
    }
}

/// Number of types in a blob of BTF, split or not, without `void`.
///
/// `None` if the header, a type or the type section as a whole does not parse.
pub(super) fn type_count(data: &[u8]) -> Option<usize> {
    let (header, bytes) = Header::parse(data)?;
    let (mut at, end) = header.types;
    let mut count = 0;
    while at < end {
        let info = bytes.u32(at + 4)?;
        let members = usize::try_from(info & 0xffff).ok()?;
        // Bytes after the three words that every type has: fixed, and per member.
        let (fixed, each) = match (info >> 24) & 0x1f {
            1 | 14 | 17 => (4, 0),
            3 => (12, 0),
            4 | 5 | 15 | 19 => (0, 12),
            6 | 13 => (0, 8),
            2 | 7..=12 | 16 | 18 => (0, 0),
            _ => return None,
        };
        at += 12 + fixed + each * members;
        count += 1;
    }
    (at == end).then_some(count)
}

/// The strings of a blob of BTF, each with the byte 0 at its end.
pub(super) fn strings(data: &[u8]) -> Option<&[u8]> {
    let (header, _) = Header::parse(data)?;
    data.get(header.strings.0..header.strings.1)
}

/// Number of CO-RE records in a `.BTF.ext` section.
///
/// `None` if it does not parse; a header too short to know about records has none.
pub(super) fn record_count(ext: &[u8]) -> Option<usize> {
    let big_endian = match ext.get(..3)? {
        [0x9f, 0xeb, 1] => false,
        [0xeb, 0x9f, 1] => true,
        _ => return None,
    };
    let bytes = Bytes { data: ext, big_endian };
    let header_len = bytes.offset(4)?;
    if header_len < 32 {
        return Some(0);
    }
    let mut at = header_len.checked_add(bytes.offset(24)?)?;
    let len = bytes.offset(28)?;
    if len == 0 {
        return Some(0);
    }
    let end = at.checked_add(len)?;
    let size = bytes.offset(at).filter(|&size| size >= 16)?;
    at += 4;
    let mut total = 0_usize;
    while at < end {
        let count = bytes.offset(at.checked_add(4)?)?;
        total = total.checked_add(count)?;
        at = at.checked_add(8)?.checked_add(count.checked_mul(size)?)?;
    }
    (at == end && end <= ext.len()).then_some(total)
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]
pub(super) mod tests {
    use super::*;

    /// A blob of BTF with `count` types of kind void pointer.
    pub(in crate::fleet) fn blob(count: usize, big_endian: bool) -> Vec<u8> {
        let word = |value: usize| {
            let value = u32::try_from(value).unwrap();
            if big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
        };
        let mut data = if big_endian { vec![0xeb, 0x9f, 1, 0] } else { vec![0x9f, 0xeb, 1, 0] };
        for value in [24, 0, count * 12, count * 12, 3] {
            data.extend(word(value));
        }
        for _ in 0..count {
            data.extend([word(0), word(2 << 24), word(0)].concat());
        }
        data.extend(b"\0a\0");
        data
    }

    #[test]
    fn types_are_counted_in_both_byte_orders() {
        for big_endian in [false, true] {
            let data = blob(5, big_endian);
            assert_eq!(type_count(&data), Some(5));
            assert_eq!(strings(&data), Some(b"\0a\0".as_slice()));
            for len in 0..data.len() {
                assert_eq!(type_count(&data[..len]), None, "cut to {len}");
            }
        }
    }

    #[test]
    fn unknown_kinds_and_overruns_are_refused() {
        let mut data = blob(2, false);
        data[24 + 7] = 31;
        assert_eq!(type_count(&data), None);
        // A struct whose members would reach beyond the type section.
        data[24 + 7] = 4;
        data[24 + 4] = 9;
        assert_eq!(type_count(&data), None);
    }

    #[test]
    fn records_are_counted_over_all_sections() {
        let words = |values: &[u32]| values.iter().flat_map(|it| it.to_le_bytes()).collect::<Vec<u8>>();
        let mut ext = vec![0x9f, 0xeb, 1, 0];
        ext.extend(words(&[32, 0, 0, 0, 0, 0, 68]));
        ext.extend(words(&[16, 1, 1, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(record_count(&ext), Some(3));
        for len in 0..ext.len() {
            assert_eq!(record_count(&ext[..len]), None, "cut to {len}");
        }
    }
}
