//! Raw BTF as the two sections that matter, taken apart and put together.

use super::parse::parse_header;
use crate::format::Endian;
use crate::format::btf::{HEADER_LEN_MIN, MAGIC};

/// The types and the strings of raw BTF; `None` if its header is none.
pub fn sections(data: &[u8]) -> Option<(&[u8], &[u8])> {
    parse_header(data).ok().map(|it| (it.types, it.strs))
}

/// Raw BTF of these types and strings, behind a header of 24 bytes. `None` if they are larger than that can say.
pub fn assemble(endian: Endian, types: &[u8], strings: &[u8]) -> Option<Vec<u8>> {
    let len = |of: &[u8]| u32::try_from(of.len()).ok();
    let mut out = Vec::with_capacity(HEADER_LEN_MIN + types.len() + strings.len());
    out.extend(match endian {
        Endian::Little => MAGIC.to_le_bytes(),
        Endian::Big => MAGIC.to_be_bytes(),
    });
    // Version 1, no flags.
    out.extend([1, 0]);
    let header_len = u32::try_from(HEADER_LEN_MIN).ok()?;
    for word in [header_len, 0, len(types)?, len(types)?, len(strings)?] {
        out.extend(endian.u32_bytes(word));
    }
    out.extend(types);
    out.extend(strings);
    Some(out)
}

/// How long the raw BTF is that `data` begins with, in **bytes**; `None` if its header is none, or if it is not all
/// there. `data` may go on behind it.
pub(crate) fn extent(data: &[u8]) -> Option<usize> {
    let sections = parse_header(data).ok()?;
    // Strings are the last section.
    usize::try_from(sections.strs_at).ok()?.checked_add(sections.strs.len())
}
