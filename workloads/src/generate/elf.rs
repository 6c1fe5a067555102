//! A relocatable 64-bit ELF file as a list of sections whose contents can be replaced.
//!
//! Sections keep their numbers; their contents are laid out anew, in the order in which they were.

use btfleet_engine::format::Endian;

const HEADER_LEN: usize = 64;
const SECTION_HEADER_LEN: usize = 64;
const SYMBOL_LEN: usize = 24;
const SHT_SYMTAB: u32 = 2;
const SHT_NOBITS: u32 = 8;
const STT_FUNC: u8 = 2;

/// An ELF file.
#[derive(Clone, Debug)]
pub(super) struct Elf {
    pub(super) endian: Endian,
    header: Vec<u8>,
    sections: Vec<Section>,
}

#[derive(Clone, Debug)]
struct Section {
    header: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    offset: u64,
}

impl Section {
    fn word(&self, endian: Endian, at: usize) -> u32 {
        endian.u32_at(&self.header, at).unwrap_or(0)
    }
}

impl Elf {
    /// Reads a file. `None` if it is none that `Object::parse` takes, or has 65,280 sections or more.
    pub(super) fn read(data: &[u8]) -> Option<Self> {
        let endian = match data.get(..6)? {
            [0x7f, b'E', b'L', b'F', 2, 1] => Endian::Little,
            [0x7f, b'E', b'L', b'F', 2, 2] => Endian::Big,
            _ => return None,
        };
        let header = data.get(..HEADER_LEN)?.to_vec();
        let (entry_len, count) = (endian.u16_at(&header, 58)?, endian.u16_at(&header, 60)?);
        let table = data.get(usize::try_from(u64_at(endian, &header, 40)?).ok()?..)?;
        if usize::from(entry_len) != SECTION_HEADER_LEN {
            return None;
        }
        let mut sections = Vec::new();
        for entry in table.chunks_exact(SECTION_HEADER_LEN).take(count.into()) {
            let offset = u64_at(endian, entry, 24)?;
            let size = usize::try_from(u64_at(endian, entry, 32)?).ok()?;
            let start = usize::try_from(offset).ok()?;
            let is_empty = matches!(endian.u32_at(entry, 4)?, 0 | SHT_NOBITS);
            let contents = if is_empty { &[] } else { data.get(start..start.checked_add(size)?)? };
            let (header, data) = (entry.to_vec(), contents.to_vec());
            sections.push(Section { header, name: Vec::new(), data, offset });
        }
        let names = sections.get(usize::from(endian.u16_at(&header, 62)?))?.data.clone();
        for section in &mut sections {
            section.name = text_at(&names, section.word(endian, 0)).to_vec();
        }
        (sections.len() == usize::from(count)).then_some(Self { endian, header, sections })
    }

    /// Contents of the first section of this name.
    pub(super) fn section(&self, name: &[u8]) -> Option<&[u8]> {
        self.sections.iter().find(|it| it.name == name).map(|it| it.data.as_slice())
    }

    /// Contents of the first section of this name, to be changed or replaced.
    pub(super) fn section_mut(&mut self, name: &[u8]) -> Option<&mut Vec<u8>> {
        self.sections.iter_mut().find(|it| it.name == name).map(|it| &mut it.data)
    }

    /// Empties the sections of debugging information other than BTF. libbpf does not look at them.
    pub(super) fn drop_dwarf(&mut self) {
        let is_dwarf = |name: &[u8]| name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
        self.sections.iter_mut().filter(|it| is_dwarf(&it.name)).for_each(|it| it.data.clear());
    }

    /// Gives the functions called `old` in a section another name; whether there was one.
    pub(super) fn rename_function(&mut self, section: &[u8], old: &[u8], new: &[u8]) -> bool {
        let endian = self.endian;
        let symtab = self.sections.iter().position(|it| it.word(endian, 4) == SHT_SYMTAB);
        let Some(mut symbols) = symtab.and_then(|at| self.sections.get(at)).cloned() else { return false };
        let strings = symbols.word(endian, 40) as usize;
        let Some(strings) = self.sections.get(strings).cloned() else { return false };
        let mut found = false;
        for symbol in symbols.data.chunks_exact_mut(SYMBOL_LEN) {
            let (name, kind) = (endian.u32_at(symbol, 0).unwrap_or(0), symbol.get(4).copied().unwrap_or(0));
            let index = usize::from(endian.u16_at(symbol, 6).unwrap_or(0));
            let is_there = self.sections.get(index).is_some_and(|it| it.name == section);
            if kind & 0xf != STT_FUNC || !is_there || text_at(&strings.data, name) != old {
                continue;
            }
            let Ok(offset) = u32::try_from(strings.data.len()) else { return false };
            if let Some(slot) = symbol.first_chunk_mut::<4>() {
                *slot = endian.u32_bytes(offset);
                found = true;
            }
        }
        let index = symbols.word(endian, 40) as usize;
        if found && let Some(strings) = self.sections.get_mut(index) {
            strings.data.extend_from_slice(new);
            strings.data.push(0);
            if let Some(slot) = symtab.and_then(|at| self.sections.get_mut(at)) {
                slot.data = std::mem::take(&mut symbols.data);
            }
        }
        found
    }

    /// The file.
    pub(super) fn write(&self) -> Vec<u8> {
        let endian = self.endian;
        let mut out = self.header.clone();
        let mut headers: Vec<Vec<u8>> = self.sections.iter().map(|it| it.header.clone()).collect();
        let mut order: Vec<usize> = (1..self.sections.len()).collect();
        order.sort_by_key(|&at| self.sections.get(at).map(|it| it.offset));
        for at in order {
            let (Some(section), Some(header)) = (self.sections.get(at), headers.get_mut(at)) else {
                continue;
            };
            let is_stored = section.word(endian, 4) != SHT_NOBITS;
            let align = u64_at(endian, header, 48).and_then(|it| usize::try_from(it).ok()).unwrap_or(1);
            if is_stored {
                out.resize(out.len().next_multiple_of(align.clamp(1, 4096)), 0);
            }
            put_u64(endian, header, 24, out.len() as u64);
            if is_stored {
                put_u64(endian, header, 32, section.data.len() as u64);
                out.extend_from_slice(&section.data);
            }
        }
        out.resize(out.len().next_multiple_of(8), 0);
        let table = out.len() as u64;
        put_u64(endian, &mut out, 40, table);
        out.extend(headers.concat());
        out
    }
}

fn u64_at(endian: Endian, data: &[u8], at: usize) -> Option<u64> {
    let (first, second) = (endian.u32_at(data, at)?, endian.u32_at(data, at + 4)?);
    let (low, high) = if endian == Endian::Little { (first, second) } else { (second, first) };
    Some(u64::from(high) << 32 | u64::from(low))
}

fn put_u64(endian: Endian, data: &mut [u8], at: usize, value: u64) {
    if let Some(slot) = data.get_mut(at..).and_then(|it| it.first_chunk_mut::<8>()) {
        *slot = if endian == Endian::Little { value.to_le_bytes() } else { value.to_be_bytes() };
    }
}

fn text_at(strings: &[u8], offset: u32) -> &[u8] {
    let tail = strings.get(offset as usize..).unwrap_or_default();
    tail.get(..memchr::memchr(0, tail).unwrap_or(0)).unwrap_or_default()
}
