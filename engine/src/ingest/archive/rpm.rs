//! RPM packages: a lead, two headers, and a compressed cpio archive.

use std::io::{self, BufRead, BufReader, Read};

use super::{Budget, OnMember, broken, cpio, ended, skip};
use crate::ingest::Compression;

/// What a package begins with.
pub(super) const MAGIC: &[u8] = &[0xed, 0xab, 0xee, 0xdb];

const LEAD_LEN: u64 = 96;
const HEADER_MAGIC: &[u8] = &[0x8e, 0xad, 0xe8, 1];
/// Bytes of one entry of a header's index.
const ENTRY_LEN: u64 = 16;

/// Goes through a package's regular files.
pub(super) fn members(input: &mut impl BufRead, budget: Budget<'_>, on: &mut OnMember<'_>) -> io::Result<()> {
    skip(input, LEAD_LEN)?;
    // That of the signature is padded to a multiple of eight.
    let len = skip_header(input)?;
    skip(input, len.wrapping_neg() % 8)?;
    skip_header(input)?;
    let format = Compression::of(input.fill_buf()?);
    match format {
        Some(format) => {
            let data = BufReader::with_capacity(1 << 16, format.file(input)?);
            cpio::members(&mut budget.bound(data), on)
        }
        None => cpio::members(input, on),
    }
}

/// Skips a header. Returns its length in **bytes**.
fn skip_header(input: &mut impl Read) -> io::Result<u64> {
    let mut intro = [0; 16];
    input.read_exact(&mut intro).map_err(|_| ended())?;
    let number = |at: usize| {
        let bytes = intro.get(at..at + 4).and_then(|it| it.try_into().ok());
        bytes.map_or(0, |it| u64::from(u32::from_be_bytes(it)))
    };
    if !intro.starts_with(HEADER_MAGIC) {
        return Err(broken("a broken header of an RPM package"));
    }
    let len = number(8) * ENTRY_LEN + number(12);
    skip(input, len)?;
    Ok(intro.len() as u64 + len)
}
