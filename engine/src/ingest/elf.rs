//! What of an ELF file tells whether it is a kernel, one of its modules, or what unpacks a kernel.

use std::ops::Range;

use object::elf::{ET_REL, FileHeader32, FileHeader64, SHF_ALLOC, SHT_NOBITS};
use object::read::elf::{FileHeader, SectionHeader};
use object::{Endianness, FileKind};

use super::image::Machine;

/// The parts of an ELF file that are looked at; places are **bytes** from its start.
#[derive(Debug, Default)]
pub(super) struct Elf {
    pub(super) btf: Option<Range<usize>>,
    pub(super) base: Option<Range<usize>>,
    /// Whether it has debugging information that BTF can be made from.
    pub(super) has_dwarf: bool,
    /// Whether there are sections at all: what boots needs none.
    pub(super) has_sections: bool,
    /// Whether it is yet to be linked, as modules are.
    pub(super) is_relocatable: bool,
    /// What a module says of itself.
    modinfo: Option<Range<usize>>,
    /// Where the wrappers of ppc64 and x86 have the packed kernel.
    pub(super) packed: Option<Range<usize>>,
    /// What is in memory once it runs: here are banner and configuration of a kernel.
    loaded: Vec<Range<usize>>,
    pub(super) machine: Option<Machine>,
    /// **Bytes** of a pointer.
    pub(super) pointer_size: u32,
}

impl Elf {
    /// Reads the sections of an ELF file of either class and byte order.
    ///
    /// # Errors
    /// If it is no ELF file, or a broken one.
    pub(super) fn parse(data: &[u8]) -> object::read::Result<Self> {
        match FileKind::parse(data)? {
            FileKind::Elf32 => Self::read::<FileHeader32<Endianness>>(data, 4),
            _ => Self::read::<FileHeader64<Endianness>>(data, 8),
        }
    }

    fn read<Header: FileHeader<Endian = Endianness>>(
        data: &[u8],
        pointer_size: u32,
    ) -> object::read::Result<Self> {
        let header = Header::parse(data)?;
        let endian = header.endian()?;
        let sections = header.sections(endian, data)?;
        let mut this = Self {
            machine: Machine::of_elf(header.e_machine(endian), pointer_size, endian == Endianness::Little),
            is_relocatable: header.e_type(endian) == ET_REL,
            pointer_size,
            ..Self::default()
        };
        for section in sections.iter() {
            // Files with nothing but debugging information name sections that are elsewhere.
            if section.sh_type(endian) == SHT_NOBITS {
                continue;
            }
            let name = sections.section_name(endian, section)?;
            let len = match section.data(endian, data) {
                Ok(data) => data.len(),
                Err(error) if name.starts_with(b".BTF") => return Err(error),
                Err(_) => continue,
            };
            let start = usize::try_from(section.sh_offset(endian).into()).unwrap_or(usize::MAX);
            let place = start..start.saturating_add(len);
            this.has_sections |= len > 0;
            if section.sh_flags(endian).contains(SHF_ALLOC) {
                this.loaded.push(place.clone());
            }
            match name {
                b".BTF" if len > 0 => this.btf = Some(place),
                b".BTF.base" if len > 0 => this.base = Some(place),
                b".debug_info" | b".zdebug_info" if len > 0 => this.has_dwarf = true,
                b".modinfo" => this.modinfo = Some(place),
                b".kernel:vmlinux.strip" | b".kernel:vmlinux.bin" | b".rodata..compressed" => {
                    this.packed = Some(place);
                }
                _ => {}
            }
        }
        Ok(this)
    }

    /// Release of the kernel that a module was built for. Source: `VERMAGIC_STRING`, `include/linux/vermagic.h`.
    pub(super) fn vermagic<'a>(&self, data: &'a [u8]) -> Option<&'a str> {
        const KEY: &[u8] = b"vermagic=";
        let info = data.get(self.modinfo.clone()?)?;
        let line = info.split(|&byte| byte == 0).find_map(|line| line.strip_prefix(KEY))?;
        std::str::from_utf8(line).ok()?.split(' ').next()
    }

    /// The sections that are in memory once it runs.
    pub(super) fn loaded<'a>(&self, data: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + Clone {
        self.loaded.iter().filter_map(|place| data.get(place.clone()))
    }
}
