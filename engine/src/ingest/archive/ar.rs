//! `ar` archives: static libraries and Debian packages.

use std::io::{self, BufRead, BufReader, Read};

use super::{Budget, CONTROL, OnMember, broken, ended, skip, tape};
use crate::ingest::{Compression, read_all};

/// What an archive begins with.
pub(super) const MAGIC: &[u8] = b"!<arch>\n";
/// What one begins with whose members are other files.
pub(super) const THIN_MAGIC: &[u8] = b"!<thin>\n";

const HEADER_LEN: usize = 60;
/// Longest table of long names, in **bytes**.
const NAMES_MAX: u64 = 64 << 20;

/// Goes through an archive's members; those of the data of a Debian package stand for the package's.
pub(super) fn members(input: &mut impl BufRead, budget: Budget<'_>, on: &mut OnMember<'_>) -> io::Result<()> {
    let mut magic = [0; 8];
    input.read_exact(&mut magic)?;
    if magic == *THIN_MAGIC {
        return Err(broken("a thin archive: what it lists are other files, name those"));
    }
    let (mut long_names, mut is_package, mut first) = (Vec::new(), false, true);
    while let Some(header) = next_header(input)? {
        let (name, size) = parse(&header).ok_or_else(|| broken("a broken header of an ar archive"))?;
        let mut data = input.take(size);
        let mut goes_on = true;
        if first && matches!(name, b"debian-binary" | b"debian-binary/") {
            is_package = true;
        } else if is_package {
            if name.starts_with(b"data.tar") {
                package_data(&mut data, budget, on)?;
                return Ok(());
            }
            if name.starts_with(b"control.tar") {
                // A package whose control file cannot be read has its files all the same.
                let _ = package_data(&mut data, budget, &mut |name, data| match name {
                    b"control" | b"./control" => on(CONTROL.as_bytes(), data).map(|_| false),
                    _ => Ok(true),
                });
            }
        } else if name == b"//" {
            long_names = read_all(&mut data, NAMES_MAX)?;
        } else if !matches!(name, b"/" | b"/SYM64/" | b"__.SYMDEF") {
            let own;
            let name = match (name.strip_prefix(b"/"), name.strip_prefix(b"#1/")) {
                (Some(offset), _) => {
                    long_name(&long_names, offset).ok_or_else(|| broken("a name is not there"))?
                }
                (_, Some(len)) => {
                    let len = number(len).filter(|it| *it <= size).ok_or_else(|| broken("a broken name"))?;
                    own = read_all((&mut data).take(len), NAMES_MAX)?;
                    own.split(|it| *it == 0).next().unwrap_or_default()
                }
                _ => name.strip_suffix(b"/").unwrap_or(name),
            };
            goes_on = on(name, &mut data)?;
        }
        first = false;
        if !goes_on {
            return Ok(());
        }
        let left = data.limit();
        skip(input, left)?;
        // Members begin at even offsets; the last may end at an odd one.
        if size % 2 == 1 {
            let _ = input.take(1).read(&mut [0])?;
        }
    }
    match is_package {
        true => Err(broken("a Debian package without data.tar")),
        false => Ok(()),
    }
}

fn package_data(data: &mut impl Read, budget: Budget<'_>, on: &mut OnMember<'_>) -> io::Result<()> {
    let mut data = BufReader::with_capacity(1 << 16, data);
    let format = Compression::of(data.fill_buf()?);
    match format {
        Some(format) => tape::members(&mut budget.bound(format.file(data)?), on),
        None => tape::members(&mut data, on),
    }
}

fn next_header(input: &mut impl BufRead) -> io::Result<Option<[u8; HEADER_LEN]>> {
    if input.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let mut header = [0; HEADER_LEN];
    input.read_exact(&mut header).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ended(),
        _ => error,
    })?;
    Ok(Some(header))
}

/// Name and size of a member.
fn parse(header: &[u8; HEADER_LEN]) -> Option<(&[u8], u64)> {
    let (name, size) = (header.get(..16)?, header.get(48..58)?);
    let name = name.trim_ascii_end();
    (header.get(58..)? == b"`\n").then_some(())?;
    Some((name, number(size)?))
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.trim_end().parse().ok()
}

/// The name at an offset of the table of long names.
fn long_name<'a>(names: &'a [u8], offset: &[u8]) -> Option<&'a [u8]> {
    let rest = names.get(usize::try_from(number(offset)?).ok()?..)?;
    let name = rest.split(|it| matches!(it, b'\n' | 0)).next()?;
    Some(name.strip_suffix(b"/").unwrap_or(name))
}
