//! Where the BTF is in a file: raw, or in the sections of an ELF file.

use std::ops::Range;
use std::path::Path;

use object::elf::{EM_BPF, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, SectionHeader};
use object::{Endianness, FileKind};

use super::InputError;
use crate::format::Endian;

/// A file's BTF, and the bytes that it stands in.
#[derive(Debug)]
pub struct BtfBytes {
    data: Vec<u8>,
    btf: Range<usize>,
    base: Option<Range<usize>>,
    /// Bytes of a pointer, where an ELF header says so.
    pub pointer_size: Option<u32>,
}

impl BtfBytes {
    /// Finds the BTF in a file's bytes: the file itself if it starts with BTF's magic, else the `.BTF`
    /// section of an ELF file of either class and byte order.
    ///
    /// # Errors
    /// [`InputError`] with code `target-btf-missing` if there is none.
    pub fn find(data: Vec<u8>, path: &Path) -> Result<Self, InputError> {
        if is_raw_btf(&data) {
            let btf = 0..data.len();
            return Ok(Self { data, btf, base: None, pointer_size: None });
        }
        let (found, pointer_size) = match FileKind::parse(data.as_slice()) {
            Ok(FileKind::Elf32) => (elf_sections::<FileHeader32<Endianness>>(&data), 4),
            Ok(FileKind::Elf64) => (elf_sections::<FileHeader64<Endianness>>(&data), 8),
            _ if data.is_empty() => return Err(InputError::missing_btf(path, "the file is empty")),
            _ => {
                return Err(InputError::missing_btf(path, "neither BTF nor an ELF file with a .BTF section"));
            }
        };
        let found =
            found.map_err(|error| InputError::missing_btf(path, &format!("broken ELF file: {error}")))?;
        let Some(btf) = found.btf else {
            return Err(InputError::missing_btf(path, "an ELF file without a .BTF section"));
        };
        Ok(Self { data, btf, base: found.base, pointer_size: Some(pointer_size) })
    }

    pub(super) fn from_relocated(data: Vec<u8>, pointer_size: Option<u32>) -> Self {
        let btf = 0..data.len();
        Self { data, btf, base: None, pointer_size }
    }

    /// The same without what is not BTF: most of an ELF file is something else.
    pub(super) fn alone(self) -> Self {
        let base = self.distilled_base().unwrap_or_default();
        let data = [self.btf(), base].concat();
        let base = self.base.is_some().then_some(self.btf.len()..data.len());
        Self { btf: 0..self.btf.len(), base, data, pointer_size: self.pointer_size }
    }

    /// The BTF.
    pub fn btf(&self) -> &[u8] {
        self.data.get(self.btf.clone()).unwrap_or_default()
    }

    /// The distilled base that it continues, if it brings one.
    pub fn distilled_base(&self) -> Option<&[u8]> {
        self.data.get(self.base.clone()?)
    }
}

/// Whether `data` is a sound ELF file without BTF, as modules of kernels that are built without BTF for modules.
pub(super) fn is_elf_without_btf(data: &[u8]) -> bool {
    let found = match FileKind::parse(data) {
        Ok(FileKind::Elf32) => elf_sections::<FileHeader32<Endianness>>(data),
        Ok(FileKind::Elf64) => elf_sections::<FileHeader64<Endianness>>(data),
        _ => return false,
    };
    found.is_ok_and(|it| it.btf.is_none())
}

fn is_raw_btf(data: &[u8]) -> bool {
    use crate::format::btf::MAGIC;
    Endian::Little.u16_at(data, 0).is_some_and(|magic| magic == MAGIC || magic.swap_bytes() == MAGIC)
}

#[derive(Default)]
struct Found {
    btf: Option<Range<usize>>,
    base: Option<Range<usize>>,
}

fn elf_sections<Elf: FileHeader<Endian = Endianness>>(data: &[u8]) -> object::read::Result<Found> {
    let header = Elf::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let mut found = Found::default();
    for section in sections.iter() {
        let slot = match sections.section_name(endian, section)? {
            b".BTF" => &mut found.btf,
            b".BTF.base" => &mut found.base,
            _ => continue,
        };
        let len = section.data(endian, data)?.len();
        let start = usize::try_from(section.sh_offset(endian).into()).unwrap_or(usize::MAX);
        *slot = Some(start..start.saturating_add(len));
    }
    Ok(found)
}

/// Whether a file whose first bytes are `head` may be a BPF object; at least 20 bytes are wanted.
pub fn looks_like_object(head: &[u8]) -> bool {
    let endian = if head.get(5) == Some(&2) { Endian::Big } else { Endian::Little };
    head.starts_with(b"\x7fELF") && endian.u16_at(head, 18) == Some(EM_BPF.0)
}

/// Whether a file whose first bytes are `head` may hold a kernel's BTF: raw, ELF.
pub fn looks_like_kernel(head: &[u8]) -> bool {
    is_raw_btf(head) || head.starts_with(b"\x7fELF") && !looks_like_object(head)
}
