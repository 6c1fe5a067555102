//! BPF programs inside other ELF files: executables, libraries and objects that carry them as data.

use std::cell::RefCell;
use std::io::{self, Read};

use memchr::memmem;
use object::elf::{ET_REL, FileHeader64};
use object::read::elf::{FileHeader, SectionHeader};
use object::{Endianness, elf};

use super::looks_like_object;
use crate::skeleton;

/// What every ELF file begins with.
const ELF: &[u8] = b"\x7fELF";

/// A BPF object that was found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// What it is there: `object`, or `skeleton`, a light skeleton's programs.
    pub kind: &'static str,
    /// Where it starts in the file, in **bytes**.
    pub offset: usize,
    /// The object.
    pub data: Vec<u8>,
}

/// The BPF programs in an ELF file that is itself no BPF object: whole objects, which skeletons and `include_bytes!` put
/// there, and light skeletons. In the order of the file; none in other files.
pub fn embedded(data: &[u8]) -> Vec<Embedded> {
    if !data.starts_with(ELF) || looks_like_object(data) {
        return Vec::new();
    }
    let mut found: Vec<Embedded> = Vec::new();
    for offset in memmem::find_iter(data, ELF) {
        // What is in an object is not found a second time.
        let is_inside = found.last().is_some_and(|it| offset < it.offset + it.data.len());
        let Some(rest) = data.get(offset..).filter(|it| !is_inside && looks_like_object(it)) else {
            continue;
        };
        if let Some(object) = object_len(rest).and_then(|len| rest.get(..len)) {
            found.push(Embedded { kind: "object", offset, data: object.to_vec() });
        }
    }
    let skeletons = skeleton::find(data).into_iter();
    found.extend(skeletons.map(|it| Embedded { kind: "skeleton", offset: it.offset, data: it.object }));
    found.sort_by_key(|it| it.offset);
    found
}

/// **Bytes** that are looked at together: they stay in the cache of a core.
const CHUNK: usize = 256 << 10;
/// **Bytes** that tell of an object or of a light skeleton.
const SIGN_LEN: usize = 20;
const _: () = assert!(SIGN_LEN >= skeleton::PROLOGUE_LEN);

thread_local! {
    /// As many files are looked at, most of them small.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Whether a file that has been opened may have BPF programs inside: whether it pays to read it as a whole.
///
/// # Errors
/// If it cannot be read.
pub(super) fn has_signs(mut input: impl Read) -> io::Result<bool> {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(CHUNK, 0);
        // What of the last chunk may be the beginning of a sign.
        let mut kept = 0;
        loop {
            let Some(free) = buffer.get_mut(kept..) else { return Ok(true) };
            let count = match input.read(free) {
                Ok(0) => return Ok(false),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let len = kept + count;
            let Some(chunk) = buffer.get(..len) else { return Ok(true) };
            let is_object = |at: usize| chunk.get(at..).is_some_and(looks_like_object);
            if memmem::find_iter(chunk, ELF).any(is_object) || skeleton::has_prologue(chunk) {
                return Ok(true);
            }
            let next = len.saturating_sub(SIGN_LEN - 1);
            buffer.copy_within(next..len, 0);
            kept = len - next;
        }
    })
}

/// The length in **bytes** of the BPF object that `data` starts with. `None` if it does not end.
fn object_len(data: &[u8]) -> Option<usize> {
    let header = FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    if header.e_type(endian) != ET_REL {
        return None;
    }
    let sections = header.section_headers(endian, data).ok()?;
    let table_len = sections.len() as u64 * u64::from(header.e_shentsize(endian));
    let mut end = header.e_shoff(endian).checked_add(table_len)?;
    for section in sections.iter().filter(|it| it.sh_type(endian) != elf::SHT_NOBITS) {
        end = end.max(section.sh_offset(endian).checked_add(section.sh_size(endian))?);
    }
    usize::try_from(end).ok().filter(|end| *end <= data.len())
}
