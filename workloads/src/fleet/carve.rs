//! BPF objects, alone or inside other files: skeletons and Go's embedded files are data of the program that
//! loads them.

use std::ops::Range;

use memchr::memmem;
use object::elf::{EM_BPF, FileHeader64};
use object::read::elf::{FileHeader, SectionHeader};
use object::{Endianness, Object, ObjectSection};

use super::btf;

/// What an object begins with: the magic and the 64-bit class. There is no BPF of 32 bits.
const MAGIC: &[u8] = b"\x7fELF\x02";

/// Headers of BPF objects that are followed in one file. `bpftool` and other large files have a few dozen;
/// the bound keeps the work linear for a file that is made of headers.
const MAX_HEADERS: usize = 4096;

/// Where BPF objects are in `data`. They do not overlap.
pub(super) fn carve(data: &[u8]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut headers = 0;
    for start in memmem::find_iter(data, MAGIC) {
        let is_inside = found.last().is_some_and(|last| start < last.end);
        let Some(rest) = data.get(start..).filter(|rest| !is_inside && is_bpf(rest)) else { continue };
        headers += 1;
        if headers > MAX_HEADERS {
            break;
        }
        if let Some(len) = extent(rest) {
            found.push(start..start + len);
        }
    }
    found
}

/// Number of types and of CO-RE records of an object; 0 where there is no BTF, or none that parses.
///
/// `None` if the object is not an ELF file.
pub(super) fn counts(object: &[u8]) -> Option<(usize, usize)> {
    extent(object)?;
    let types = elf_section(object, ".BTF").and_then(btf::type_count).unwrap_or(0);
    let records = elf_section(object, ".BTF.ext").and_then(btf::record_count).unwrap_or(0);
    Some((types, records))
}

/// Name of the source that an object was compiled from, without directory and suffix, as BTF has it.
pub(super) fn source_name(object: &[u8]) -> Option<String> {
    let strings = btf::strings(elf_section(object, ".BTF")?)?;
    let named = |suffix: &str| {
        strings.split(|&byte| byte == 0).find_map(|string| {
            let path = std::str::from_utf8(string).ok()?.strip_suffix(suffix)?;
            let name = path.rsplit('/').next()?;
            (!name.is_empty()).then(|| name.to_owned())
        })
    };
    // Any other `.c` may be a header's neighbour that only line information names.
    [".bpf.c", ".c", ".rs"].into_iter().find_map(named)
}

/// The section `name` of an ELF file of either class and byte order.
pub(super) fn elf_section<'a>(elf: &'a [u8], name: &str) -> Option<&'a [u8]> {
    if !elf.starts_with(b"\x7fELF") {
        return None;
    }
    let file = object::File::parse(elf).ok()?;
    file.section_by_name(name)?.data().ok().filter(|data| !data.is_empty())
}

fn is_bpf(data: &[u8]) -> bool {
    let machine = EM_BPF.0.to_le_bytes();
    match (data.get(5), data.get(18..20)) {
        (Some(1), Some(it)) => it == machine,
        (Some(2), Some([high, low])) => [*low, *high] == machine,
        _ => false,
    }
}

/// Length of the object that `data` begins with: the farthest end of its headers and sections.
///
/// `None` if that is not all there, or if it has no section, as the template of a header in a compiler.
fn extent(data: &[u8]) -> Option<usize> {
    let header = FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.section_headers(endian, data).ok()?;
    if header.e_machine(endian) != EM_BPF || sections.len() <= 1 {
        return None;
    }
    let end_of_table = |start: u64, count: usize, size: u16| {
        u64::try_from(count).ok()?.checked_mul(size.into())?.checked_add(start)
    };
    let mut end = end_of_table(header.e_shoff(endian), sections.len(), header.e_shentsize(endian))?;
    if header.e_phnum(endian) > 0 {
        let count = header.e_phnum(endian).into();
        end = end.max(end_of_table(header.e_phoff(endian), count, header.e_phentsize(endian))?);
    }
    for section in sections {
        if let Some((start, len)) = section.file_range(endian) {
            end = end.max(start.checked_add(len)?);
        }
    }
    usize::try_from(end).ok().filter(|&end| end <= data.len())
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn sample(name: &str) -> Vec<u8> {
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/objects").join(name)).unwrap()
    }

    #[test]
    fn embedded_objects_are_carved_byte_for_byte() {
        let (little, big) = (sample("exec_snoop.bpf.o"), sample("exec_snoop.be.bpf.o"));
        // A header of another machine, one that is cut off, and one without sections.
        let mut other = little[..64].to_vec();
        other[18] = 62;
        let mut bare = little[..64].to_vec();
        bare[40..48].fill(0);
        bare[60..62].fill(0);
        let data = [b"text".as_slice(), &other, &little, b"x", &bare, &big, &little[..200]].concat();
        let found = carve(&data);
        assert_eq!(found.len(), 2);
        assert_eq!(data[found[0].clone()], little);
        assert_eq!(data[found[1].clone()], big);
    }

    #[test]
    fn objects_are_counted_and_named() {
        for name in ["exec_snoop.bpf.o", "exec_snoop.be.bpf.o"] {
            let object = sample(name);
            let (types, records) = counts(&object).unwrap();
            assert!(types > 10 && records > 5, "{name}: {types} types, {records} records");
            assert_eq!(source_name(&object).as_deref(), Some("exec_snoop"));
        }
        assert_eq!(counts(b"not an object"), None);
    }

    #[test]
    fn broken_headers_never_panic_nor_reach_beyond_the_end() {
        let object = sample("exec_snoop.bpf.o");
        for at in 0..64 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut broken = object.clone();
                broken[at] = value;
                for range in carve(&broken) {
                    assert!(range.end <= broken.len());
                }
            }
        }
        for len in (0..object.len()).step_by(97) {
            assert!(carve(&object[..len]).is_empty());
        }
    }
}
