//! tar archives.

use std::io::{self, Read, empty};

use super::OnMember;

/// Goes through an archive's members. What is no regular file has no bytes; directories end in `/`.
pub(super) fn members(input: &mut impl Read, on: &mut OnMember<'_>) -> io::Result<()> {
    let mut archive = tar::Archive::new(input);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let (is_file, is_dir) = {
            let kind = entry.header().entry_type();
            (kind.is_file(), kind.is_dir())
        };
        let mut name = entry.path_bytes().into_owned();
        if is_dir && !name.ends_with(b"/") {
            name.push(b'/');
        }
        if !(if is_file { on(&name, &mut entry)? } else { on(&name, &mut empty())? }) {
            break;
        }
    }
    Ok(())
}

/// Whether 512 bytes are the header of an archive from before tar had a magic: its checksum tells.
pub(super) fn is_old(head: &[u8]) -> bool {
    let Some(sum) = head.get(148..156).filter(|_| head.len() >= 512 && head.first() != Some(&0)) else {
        return false;
    };
    let digits: &[u8] = sum.trim_ascii_start();
    let digits = digits.split(|it| !it.is_ascii_digit()).next().unwrap_or_default();
    let said = std::str::from_utf8(digits).ok().and_then(|it| u64::from_str_radix(it, 8).ok());
    // The checksum counts itself as spaces.
    let bytes = head.iter().take(512).enumerate();
    let sum: u64 = bytes.map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) }).sum();
    said == Some(sum)
}
