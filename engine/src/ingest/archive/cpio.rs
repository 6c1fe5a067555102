//! cpio archives in the format `newc`, with and without checksums: what RPM packages hold, and initial RAM disks.

use std::io::{self, BufRead, Read};

use super::{OnMember, broken, ended, skip};
use crate::ingest::read_all;

/// What a member's header begins with.
pub(super) const MAGICS: [&[u8]; 2] = [b"070701", b"070702"];
/// What it begins with where the names are in the package's own header: some file has more than 4 GiB.
const STRIPPED: &[u8] = b"07070X";

const HEADER_LEN: usize = 110;
/// Longest name, in **bytes**.
const NAME_MAX: u64 = 1 << 16;
/// The bits of a file's mode that say what it is, and those of a regular file.
const TYPE: u64 = 0o170_000;
const REGULAR: u64 = 0o100_000;

/// Goes through an archive's regular files.
pub(super) fn members(input: &mut impl BufRead, on: &mut OnMember<'_>) -> io::Result<()> {
    loop {
        let mut header = [0; HEADER_LEN];
        input.read_exact(&mut header).map_err(|_| ended())?;
        if header.starts_with(STRIPPED) {
            return Err(broken("a cpio archive without names, as of packages with files above 4 GiB"));
        }
        let field = |number: usize| header.get(6 + 8 * number..14 + 8 * number).and_then(hex);
        let fields = (field(1), field(6), field(11));
        let (Some(mode), Some(size), Some(name_len)) = fields else {
            return Err(broken("a broken header of a cpio archive"));
        };
        if !MAGICS.iter().any(|it| header.starts_with(it)) || name_len > NAME_MAX {
            return Err(broken("a broken header of a cpio archive"));
        }
        let name = read_all(input.take(name_len), NAME_MAX)?;
        if name.len() as u64 != name_len {
            return Err(ended());
        }
        // Name and data are padded to multiples of four.
        skip(input, padding(HEADER_LEN as u64 + name_len))?;
        let name = name.strip_suffix(b"\0").unwrap_or(&name);
        if name == b"TRAILER!!!" {
            return Ok(());
        }
        let mut data = input.take(size);
        // All but the last of several links have no data.
        if mode & TYPE == REGULAR && size > 0 && !on(name, &mut data)? {
            return Ok(());
        }
        let left = data.limit();
        skip(input, left)?;
        skip(input, padding(size))?;
    }
}

fn padding(len: u64) -> u64 {
    len.wrapping_neg() % 4
}

fn hex(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
