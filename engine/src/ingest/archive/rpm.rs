//! RPM packages: a lead, two headers, and a compressed cpio archive.

use std::io::{self, BufRead, BufReader, Read};

use super::{Budget, CONTROL, OnMember, broken, cpio, ended, skip};
use crate::format::Endian;
use crate::ingest::{Compression, read_all};

/// What a package begins with.
pub(super) const MAGIC: &[u8] = &[0xed, 0xab, 0xee, 0xdb];

const LEAD_LEN: u64 = 96;
const HEADER_MAGIC: &[u8] = &[0x8e, 0xad, 0xe8, 1];
/// Bytes of one entry of a header's index.
const ENTRY_LEN: usize = 16;
/// Bytes before a header's index.
const INTRO_LEN: usize = 16;

/// Headers of more **bytes** are skipped: those of kernels have some megabytes.
const HEADER_MAX: u64 = 64 << 20;
/// A text that ends in a NUL.
const STRING: u32 = 6;
/// What of a header is told, and what a Debian package calls it.
const TAGS: [(u32, &str); 6] = [
    (1000, "Package"),
    (1001, "Version"),
    (1002, "Release"),
    (1010, "Distribution"),
    (1011, "Vendor"),
    (1022, "Architecture"),
];

/// Goes through a package's regular files. What its header says of the package comes first, as [`CONTROL`].
pub(super) fn members(input: &mut impl BufRead, budget: Budget<'_>, on: &mut OnMember<'_>) -> io::Result<()> {
    skip(input, LEAD_LEN)?;
    // That of the signature is padded to a multiple of eight.
    let (_, len) = header_lens(input)?;
    skip(input, len + len.wrapping_neg() % 8)?;
    let (index_len, len) = header_lens(input)?;
    if len > HEADER_MAX {
        skip(input, len)?;
    } else {
        let header = read_all(input.by_ref().take(len), HEADER_MAX)?;
        if header.len() as u64 != len {
            return Err(ended());
        }
        let index_len = usize::try_from(index_len).unwrap_or(usize::MAX);
        let (index, data) = header.split_at_checked(index_len).unwrap_or_default();
        on(CONTROL.as_bytes(), &mut control(index, data).as_slice())?;
    }
    let format = Compression::of(input.fill_buf()?);
    match format {
        Some(format) => {
            let data = BufReader::with_capacity(1 << 16, format.file(input)?);
            cpio::members(&mut budget.bound(data), on)
        }
        None => cpio::members(input, on),
    }
}

/// Reads how long a header is, in **bytes**: its index, and all of it.
fn header_lens(input: &mut impl Read) -> io::Result<(u64, u64)> {
    let mut intro = [0; INTRO_LEN];
    input.read_exact(&mut intro).map_err(|_| ended())?;
    let number = |at: usize| Endian::Big.u32_at(&intro, at).map_or(0, u64::from);
    if !intro.starts_with(HEADER_MAGIC) {
        return Err(broken("a broken header of an RPM package"));
    }
    let index = number(8) * ENTRY_LEN as u64;
    Ok((index, index + number(12)))
}

/// What a header says of the package, as a Debian package would say it. What is not there is left out.
fn control(index: &[u8], data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in index.as_chunks::<ENTRY_LEN>().0 {
        let word = |at: usize| Endian::Big.u32_at(entry, at).unwrap_or(0);
        let Some((_, field)) = TAGS.iter().find(|it| it.0 == word(0) && word(4) == STRING) else { continue };
        let text = data.get(word(8) as usize..).and_then(|it| it.split(|byte| *byte == 0).next());
        out.extend(field.as_bytes());
        out.extend(b": ");
        // A field is one line.
        out.extend(text.unwrap_or_default().iter().map(|it| if *it == b'\n' { b' ' } else { *it }));
        out.push(b'\n');
    }
    out
}
