//! A reader of BPF objects of its own, so that the engine's reader is checked by another one.

use std::fmt;

use super::wire::{CodeSection, Program, Record};
use crate::build::{ByteOrder, Insn};

/// Why an object gave no records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtractError(pub &'static str);

impl fmt::Display for ExtractError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ExtractError {}

/// An object's program, with what its records are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtractedObject {
    /// What to relocate. Code is little-endian, whatever the file is; `local_btf` is as in the file.
    pub program: Program,
    /// Section name of each record, as its block in `.BTF.ext` says.
    pub section_names: Vec<String>,
    /// Access string of each record; empty if its offset is out of range.
    pub access: Vec<String>,
    /// Byte order of the file.
    pub order: ByteOrder,
}

/// The bytes of the first section called `name` of an ELF64 file.
#[must_use]
pub fn elf_section<'a>(file: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let order = byte_order(file)?;
    section_headers(&View { data: file, order })?.iter().find(|h| h.name == name).map(|h| h.data)
}

fn byte_order(file: &[u8]) -> Option<ByteOrder> {
    match file.get(..6) {
        Some([0x7f, b'E', b'L', b'F', 2, 1]) => Some(ByteOrder::Little),
        Some([0x7f, b'E', b'L', b'F', 2, 2]) => Some(ByteOrder::Big),
        _ => None,
    }
}

struct View<'a> {
    data: &'a [u8],
    order: ByteOrder,
}

impl<'a> View<'a> {
    fn u16(&self, at: usize) -> Option<u16> {
        Some(self.order.read_u16(self.data.get(at..at.checked_add(2)?)?.try_into().ok()?))
    }
    fn u32(&self, at: usize) -> Option<u32> {
        Some(self.order.read_u32(self.data.get(at..at.checked_add(4)?)?.try_into().ok()?))
    }
    fn size(&self, at: usize) -> Option<usize> {
        let value = self.order.read_u64(self.data.get(at..at.checked_add(8)?)?.try_into().ok()?);
        usize::try_from(value).ok()
    }
    fn range(&self, at: usize, len: usize) -> Option<&'a [u8]> {
        self.data.get(at..at.checked_add(len)?)
    }
}

fn c_str(data: &[u8], at: usize) -> Option<&str> {
    let rest = data.get(at..)?;
    let end = rest.iter().position(|&b| b == 0)?;
    std::str::from_utf8(rest.get(..end)?).ok()
}

struct SectionHeader<'a> {
    name: &'a str,
    kind: u32,
    flags: usize,
    link: u32,
    data: &'a [u8],
}

/// Reads the CO-RE records of an object in file order, with the code that they are about.
///
/// # Errors
/// If the file is not an ELF64 object, or has no `.BTF`, or no CO-RE records, or is damaged.
pub fn extract(file: &[u8]) -> Result<ExtractedObject, ExtractError> {
    let order = byte_order(file).ok_or(ExtractError("not an ELF64 file"))?;
    let headers =
        section_headers(&View { data: file, order }).ok_or(ExtractError("damaged section headers"))?;
    let find = |name: &str| headers.iter().find(|h| h.name == name).map(|h| h.data);
    let btf = find(".BTF").ok_or(ExtractError("no .BTF"))?;
    let ext = find(".BTF.ext").ok_or(ExtractError("no .BTF.ext"))?;
    let mut sections = Vec::with_capacity(headers.len());
    for (index, header) in headers.iter().enumerate() {
        sections.push(if header.kind == 1 && header.flags & 4 != 0 {
            CodeSection {
                code: little_endian_code(header.data, order),
                functions: functions(&headers, index, order).ok_or(ExtractError("damaged symbol table"))?,
            }
        } else {
            CodeSection::default()
        });
    }
    let strings = btf_strings(&View { data: btf, order }).ok_or(ExtractError("damaged .BTF"))?;
    let blocks = core_blocks(&View { data: ext, order }).ok_or(ExtractError("damaged .BTF.ext"))?;
    let mut result = ExtractedObject {
        program: Program { local_btf: btf.to_vec(), sections, records: Vec::new() },
        section_names: Vec::new(),
        access: Vec::new(),
        order,
    };
    for (name_off, records) in blocks {
        let name = c_str(strings, name_off as usize).unwrap_or_default();
        let section = match name {
            "" => 0,
            _ => headers.iter().position(|h| h.name == name).unwrap_or(0),
        };
        for [insn_off, type_id, access_str_off, kind] in records {
            let section = u32::try_from(section).map_err(|_| ExtractError("too many sections"))?;
            result.program.records.push(Record { section, insn_off, type_id, access_str_off, kind });
            result.section_names.push(name.to_owned());
            result.access.push(c_str(strings, access_str_off as usize).unwrap_or_default().to_owned());
        }
    }
    Ok(result)
}

fn section_headers<'a>(file: &View<'a>) -> Option<Vec<SectionHeader<'a>>> {
    let table = file.size(0x28)?;
    let entry = usize::from(file.u16(0x3a)?);
    let count = usize::from(file.u16(0x3c)?);
    let names_at = table.checked_add(usize::from(file.u16(0x3e)?).checked_mul(entry)?)?;
    let names = file.range(file.size(names_at + 0x18)?, file.size(names_at + 0x20)?)?;
    (0..count)
        .map(|index| {
            let at = table.checked_add(index.checked_mul(entry)?)?;
            let kind = file.u32(at + 4)?;
            let data = if kind == 8 {
                Some(&[][..])
            } else {
                file.range(file.size(at + 0x18)?, file.size(at + 0x20)?)
            };
            Some(SectionHeader {
                name: c_str(names, file.u32(at)? as usize)?,
                kind,
                flags: file.size(at + 8)?,
                link: file.u32(at + 0x28)?,
                data: data?,
            })
        })
        .collect()
}

/// The functions of one section: (offset, length).
fn functions(headers: &[SectionHeader<'_>], section: usize, order: ByteOrder) -> Option<Vec<(u32, u32)>> {
    let mut found = Vec::new();
    for table in headers.iter().filter(|h| h.kind == 2 && (h.link as usize) < headers.len()) {
        let view = View { data: table.data, order };
        for at in (0..table.data.len()).step_by(24) {
            let info = *table.data.get(at + 4)?;
            if info & 15 == 2 && usize::from(view.u16(at + 6)?) == section {
                found.push((
                    u32::try_from(view.size(at + 8)?).ok()?,
                    u32::try_from(view.size(at + 16)?).ok()?,
                ));
            }
        }
    }
    found.sort_unstable();
    Some(found)
}

fn little_endian_code(code: &[u8], order: ByteOrder) -> Vec<u8> {
    if order == ByteOrder::Little {
        return code.to_vec();
    }
    code.as_chunks::<8>()
        .0
        .iter()
        .flat_map(|&slot| Insn::decode(slot, order).encode(ByteOrder::Little))
        .collect()
}

fn btf_strings<'a>(btf: &View<'a>) -> Option<&'a [u8]> {
    let header = btf.u32(4)? as usize;
    btf.range(header.checked_add(btf.u32(16)? as usize)?, btf.u32(20)? as usize)
}

fn core_blocks(ext: &View<'_>) -> Option<Vec<(u32, Vec<[u32; 4]>)>> {
    let header = ext.u32(4)? as usize;
    if header < 32 {
        return Some(Vec::new());
    }
    let start = header.checked_add(ext.u32(24)? as usize)?;
    let part = View { data: ext.range(start, ext.u32(28)? as usize)?, order: ext.order };
    if part.data.is_empty() {
        return Some(Vec::new());
    }
    let stride = part.u32(0)? as usize;
    let mut at = 4;
    let mut blocks = Vec::new();
    while at < part.data.len() {
        let (name, count) = (part.u32(at)?, part.u32(at + 4)?);
        at += 8;
        let mut records = Vec::new();
        for _ in 0..count {
            records.push([part.u32(at)?, part.u32(at + 4)?, part.u32(at + 8)?, part.u32(at + 12)?]);
            at = at.checked_add(stride)?;
        }
        blocks.push((name, records));
    }
    Some(blocks)
}
