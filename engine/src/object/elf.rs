//! The ELF side of an object: executable sections, functions, `.BTF`, and what libbpf refuses.
//!
//! Source: `bpf_object__elf_init`, `bpf_object__elf_collect`, `bpf_object__add_programs`, libbpf.

use hashbrown::{HashMap, HashSet};
use object::elf::{
    EM_BPF, EM_NONE, ET_REL, FileHeader64, Rel64, SHF_EXECINSTR, SHT_NOBITS, SHT_PROGBITS, SHT_REL,
    SHT_STRTAB, SHT_SYMTAB, STB_LOCAL, STT_FUNC,
};
use object::read::elf::{FileHeader, SectionHeader, SectionTable, Sym, SymbolTable};
use object::{Endianness, SectionIndex};

use super::attach::AttachTarget;
use super::links::Role;
use super::{CodeSection, DataSection, ObjectError, Program, Refusal};
use crate::format::Endian;
use crate::format::insn::INSN_LEN;

/// Address-significance table that LLVM adds; libbpf knows its number, the `object` crate does not.
const SHT_LLVM_ADDRSIG: u32 = 0x6fff_4c03;

type Header = FileHeader64<Endianness>;

/// What an object's ELF sections hold.
pub(super) struct Sections<'data> {
    pub(super) endian: Endian,
    pub(super) elf_endian: Endianness,
    pub(super) btf: Option<&'data [u8]>,
    pub(super) btf_ext: Option<&'data [u8]>,
    /// Where `.BTF.ext` is in the file, in bytes.
    pub(super) btf_ext_at: u64,
    pub(super) code: Vec<CodeSection<'data>>,
    /// Sorted by section and offset.
    pub(super) programs: Vec<Program<'data>>,
    pub(super) symbols: SymbolTable<'data, Header>,
    /// Relocations of executable sections, by the number of the section in `code`.
    pub(super) code_rels: Vec<(usize, &'data [Rel64<Endianness>])>,
    /// By ELF section number: what libbpf takes it for.
    pub(super) roles: Vec<Role>,
    /// Number of the ELF section `.text`.
    pub(super) text_elf: Option<u16>,
    /// Sections of data, in the order of the file.
    pub(super) data: Vec<DataSection<'data>>,
    /// By ELF section number: the number of the section in `code`.
    pub(super) code_of_section: HashMap<usize, usize>,
    /// Sections of struct_ops maps, in the order of the file.
    pub(super) ops: Vec<OpsSection<'data>>,
    /// Maps defined by BTF or struct_ops: libbpf does not open the object without usable BTF.
    pub(super) needs_btf: bool,
    /// An executable section or `.BTF.ext` has bytes of the file in common with something else.
    pub(super) shares_bytes: bool,
    pub(super) refused: Option<Refusal>,
}

/// A section whose variables are struct_ops maps.
#[derive(Clone, Copy)]
pub(super) struct OpsSection<'data> {
    pub(super) name: &'data [u8],
    pub(super) bytes: &'data [u8],
    /// Number of the ELF section.
    pub(super) elf: usize,
    /// What is to be filled in: programs, where they are named.
    pub(super) rels: &'data [Rel64<Endianness>],
}

/// Sections that libbpf passes over before it looks at their contents.
fn is_ignored(header: &<Header as FileHeader>::SectionHeader, endian: Endianness, name: &[u8]) -> bool {
    let kind = header.sh_type(endian);
    let target = name.strip_prefix(b".rel").unwrap_or(b"");
    kind == SHT_STRTAB
        || kind.0 == SHT_LLVM_ADDRSIG
        || kind == SHT_PROGBITS && header.sh_size(endian) == 0 && name == b".text"
        || name.starts_with(b".debug_")
        || target.starts_with(b".debug_")
        || target == b".BTF"
        || target == b".BTF.ext"
}

impl<'data> Sections<'data> {
    pub(super) fn parse(data: &'data [u8]) -> Result<Self, ObjectError> {
        let header = check_header(data)?;
        let broken = |offset: u64| {
            move |error: object::read::Error| ObjectError::BrokenElf { offset, what: error.to_string() }
        };
        let endian = header.endian().map_err(broken(5))?;
        let table_at = header.e_shoff(endian);
        let table = header.sections(endian, data).map_err(broken(table_at))?;
        let header_at =
            |index: SectionIndex| table_at + index.0 as u64 * u64::from(header.e_shentsize(endian));

        let mut this = Self {
            endian: if data.get(5) == Some(&1) { Endian::Little } else { Endian::Big },
            elf_endian: endian,
            btf: None,
            btf_ext: None,
            btf_ext_at: 0,
            code: Vec::new(),
            programs: Vec::new(),
            symbols: SymbolTable::default(),
            code_rels: Vec::new(),
            roles: vec![Role::Other; table.len()],
            text_elf: None,
            data: Vec::new(),
            code_of_section: HashMap::new(),
            ops: Vec::new(),
            needs_btf: false,
            shares_bytes: false,
            refused: None,
        };
        this.find_symbols(&table, endian, data, &header_at)?;
        let mut names = HashSet::new();
        let mut code_of_section = HashMap::new();
        let mut rels = Vec::new();
        let mut extents = Extents(Vec::new());
        extents.add(Some((0, size_of::<Header>() as u64)), false);
        extents.add(Some((table_at, table.len() as u64 * u64::from(header.e_shentsize(endian)))), false);
        for (index, section) in table.enumerate().skip(1) {
            let name = table.section_name(endian, section).map_err(broken(header_at(index)))?;
            let is_first_of_name = names.insert(name);
            let is_patched = name == b".BTF.ext" || section.sh_flags(endian).0 & SHF_EXECINSTR.0 != 0;
            extents.add(section.file_range(endian), is_patched);
            if is_ignored(section, endian, name) {
                continue;
            }
            let contents = section.data(endian, data).map_err(broken(header_at(index)))?;
            let kind = section.sh_type(endian);
            if let Some(role) = this.roles.get_mut(index.0) {
                *role = role_of(name, kind == SHT_PROGBITS && !contents.is_empty(), kind == SHT_NOBITS);
                match (*role, u16::try_from(index.0)) {
                    (Role::Data, Ok(elf)) => {
                        let is_frozen = name.starts_with(b".rodata");
                        this.data.push(DataSection { name, bytes: contents, is_frozen, elf });
                    }
                    (Role::Text, Ok(elf)) => this.text_elf = Some(elf),
                    _ => {}
                }
            }
            match name {
                b"version" if contents.len() != 4 => {
                    this.refuse(Refusal::FORMAT, "section 'version' is not 4 bytes long");
                }
                b"license" | b"version" => {}
                b"maps" => this.refuse(
                    Refusal::ENOTSUP,
                    "map definitions in section 'maps' are not supported since libbpf 1.0",
                ),
                b".maps" => this.needs_btf = true,
                b".BTF" | b".BTF.ext" => {
                    if kind != SHT_PROGBITS {
                        this.refuse(
                            Refusal::FORMAT,
                            format!("section {} is not PROGBITS", String::from_utf8_lossy(name)),
                        );
                    }
                    if name == b".BTF" {
                        this.btf = Some(contents);
                    } else {
                        (this.btf_ext, this.btf_ext_at) = (Some(contents), section.sh_offset(endian));
                    }
                }
                _ if kind == SHT_PROGBITS && !contents.is_empty() => {
                    if section.sh_flags(endian).0 & SHF_EXECINSTR.0 != 0 {
                        code_of_section.insert(index.0, this.code.len());
                        let file_offset = section.sh_offset(endian);
                        this.code.push(CodeSection { name, is_first_of_name, data: contents, file_offset });
                        this.add_programs(name, index.0, contents);
                    } else if matches!(
                        name,
                        b".struct_ops" | b".struct_ops.link" | b"?.struct_ops" | b"?.struct_ops.link"
                    ) {
                        this.needs_btf = true;
                        this.ops.push(OpsSection { name, bytes: contents, elf: index.0, rels: &[] });
                    }
                }
                _ if kind == SHT_REL => {
                    let target = section.sh_info(endian) as usize;
                    if section.sh_entsize(endian) != 16 || target >= table.len() {
                        this.refuse(
                            Refusal::FORMAT,
                            format!("relocation section {} is malformed", String::from_utf8_lossy(name)),
                        );
                    }
                    if let Ok(Some((entries, _))) = section.rel(endian, data) {
                        rels.push((target, entries));
                    }
                }
                _ => {}
            }
        }
        for section in &mut this.ops {
            // Of several libbpf takes one after the other; nobody makes more than one.
            section.rels = rels.iter().find(|it| it.0 == section.elf).map_or(&[][..], |it| it.1);
        }
        let code_rels =
            rels.into_iter().filter_map(|(target, it)| Some((*code_of_section.get(&target)?, it)));
        this.code_rels = code_rels.collect();
        this.code_of_section = code_of_section;
        this.programs.sort_by_key(|it| (it.code, it.offset));
        this.shares_bytes = extents.share_patched_bytes();
        Ok(this)
    }

    fn refuse(&mut self, errno: i32, what: impl Into<String>) {
        self.refused.get_or_insert_with(|| Refusal::new(errno, what));
    }

    /// Takes the first symbol table. libbpf wants exactly one.
    fn find_symbols(
        &mut self,
        table: &SectionTable<'data, Header>,
        endian: Endianness,
        data: &'data [u8],
        header_at: &dyn Fn(SectionIndex) -> u64,
    ) -> Result<(), ObjectError> {
        let mut symtabs = table.enumerate().filter(|(_, it)| it.sh_type(endian) == SHT_SYMTAB);
        match symtabs.next() {
            None => self.refuse(Refusal::ENOENT, "there is no symbol table; is the object stripped?"),
            Some((index, section)) => {
                self.symbols = SymbolTable::parse(endian, data, table, index, section).map_err(|error| {
                    ObjectError::BrokenElf { offset: header_at(index), what: error.to_string() }
                })?;
            }
        }
        if symtabs.next().is_some() {
            self.refuse(Refusal::FORMAT, "there are several symbol tables");
        }
        Ok(())
    }

    /// Every function symbol of an executable section, the last one in `code`, is a program.
    fn add_programs(&mut self, section: &'data [u8], index: usize, contents: &'data [u8]) {
        let code = self.code.len() - 1;
        let is_text = section == b".text";
        let shown = || String::from_utf8_lossy(section).into_owned();
        let endian = self.elf_endian;
        let symbols = self.symbols;
        for (symbol_index, symbol) in symbols.enumerate() {
            if symbols.symbol_section(endian, symbol, symbol_index).ok().flatten()
                != Some(SectionIndex(index))
                || symbol.st_type() != STT_FUNC
            {
                continue;
            }
            let (offset, len) = (symbol.st_value(endian), symbol.st_size(endian));
            let Ok(name) = symbols.symbol_name(endian, symbol) else {
                self.refuse(Refusal::FORMAT, format!("section {}: a function has no readable name", shown()));
                continue;
            };
            let function = || format!("function {} in section {}", String::from_utf8_lossy(name), shown());
            if offset.checked_add(len).is_none_or(|end| end > contents.len() as u64) {
                self.refuse(Refusal::FORMAT, format!("{} crosses the end of its section", function()));
                continue;
            }
            if !is_text && symbol.st_bind() == STB_LOCAL {
                self.refuse(Refusal::ENOTSUP, format!("{} is static and not in .text", function()));
            }
            let slot = INSN_LEN as u64;
            if len == 0 || !len.is_multiple_of(slot) || !offset.is_multiple_of(slot) {
                self.refuse(
                    Refusal::EINVAL,
                    format!("{} is not made of whole instructions (offset {offset}, size {len})", function()),
                );
                continue;
            }
            self.programs.push(Program {
                name,
                section,
                code,
                offset,
                len,
                is_subprogram: is_text,
                autoload: section.first() != Some(&b'?'),
                attach: AttachTarget::of_section(section),
            });
        }
    }
}

/// What lies where in the file.
struct Extents(Vec<Extent>);

struct Extent {
    start: u64,
    end: u64,
    /// Whether relocation writes to it.
    is_patched: bool,
}

impl Extents {
    /// Adds what is at an offset with a length, in bytes.
    fn add(&mut self, range: Option<(u64, u64)>, is_patched: bool) {
        if let Some((start, len)) = range.filter(|&(_, len)| len > 0) {
            self.0.push(Extent { start, end: start.saturating_add(len), is_patched });
        }
    }

    /// Whether something that relocation writes to has bytes in common with anything else.
    fn share_patched_bytes(mut self) -> bool {
        self.0.sort_by_key(|it| it.start);
        let (mut end, mut patched_end) = (0, 0);
        self.0.iter().any(|it| {
            let shares = it.start < if it.is_patched { end } else { patched_end };
            end = end.max(it.end);
            if it.is_patched {
                patched_end = patched_end.max(it.end);
            }
            shares
        })
    }
}

fn role_of(name: &[u8], has_contents: bool, is_nobits: bool) -> Role {
    let is = |base: &[u8]| name.strip_prefix(base).is_some_and(|rest| matches!(rest, [] | [b'.', ..]));
    match name {
        b".maps" => Role::Maps,
        b".text" if has_contents => Role::Text,
        b".addr_space.1" | b".jumptables" if has_contents => Role::Data,
        _ if has_contents && (is(b".data") || is(b".rodata")) || is_nobits && is(b".bss") => Role::Data,
        _ => Role::Other,
    }
}

/// Checks that the file is a relocatable 64-bit ELF object for BPF.
fn check_header(data: &[u8]) -> Result<&Header, ObjectError> {
    let not_bpf = |offset, what: String| Err(ObjectError::NotBpf { offset, what });
    if !data.starts_with(b"\x7fELF") {
        return Err(ObjectError::NotElf);
    }
    match data.get(4) {
        Some(2) => {}
        Some(1) => return not_bpf(4, "it is a 32-bit ELF file".into()),
        _ => return Err(ObjectError::BrokenElf { offset: 4, what: "unknown ELF class".into() }),
    }
    let header =
        Header::parse(data).map_err(|error| ObjectError::BrokenElf { offset: 0, what: error.to_string() })?;
    let endian =
        header.endian().map_err(|error| ObjectError::BrokenElf { offset: 5, what: error.to_string() })?;
    let machine = header.e_machine(endian);
    if machine != EM_BPF && machine != EM_NONE {
        return not_bpf(18, format!("its machine number is {}, BPF's is {}", machine.0, EM_BPF.0));
    }
    let kind = header.e_type(endian);
    if kind != ET_REL {
        return not_bpf(16, format!("its ELF type is {}, not relocatable", kind.0));
    }
    Ok(header)
}
