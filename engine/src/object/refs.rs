//! What instructions refer to by ELF relocations: functions, data, maps, symbols of the kernel.
//!
//! Source: `bpf_program__record_reloc`, `bpf_object__reloc_code`, libbpf; spec 2.5, 3.1 and 3.4.

use hashbrown::HashMap;
use object::elf::{FileHeader64, Rel64, SHN_UNDEF, STB_LOCAL, STT_OBJECT, STV_HIDDEN, STV_INTERNAL};
use object::read::elf::{Rel, Sym, SymbolTable};
use object::{Endianness, SymbolIndex};

use super::elf::Sections;
use super::{Object, Program, program_at};
use crate::format::insn::{CALL, INSN_LEN, Insn};

/// `src_reg` of a call to another function of the object.
pub(crate) const PSEUDO_CALL: u8 = 1;
/// `src_reg` of a call of a kfunc.
pub(crate) const PSEUDO_KFUNC_CALL: u8 = 2;
/// `src_reg` of an ldimm64 that takes the address of a function.
pub(crate) const PSEUDO_FUNC: u8 = 4;

/// What an instruction refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A function that it calls, or whose address it takes: a number in [`Object::programs`].
    Function(usize),
    /// A place in a section of data: a number in [`Object::data_sections`], and an offset in **bytes**.
    Data(usize, i64),
    /// A symbol of the kernel: a number in [`Object::externs`].
    Extern(usize),
    /// A map, or anything else whose address is that of a map: a number in the symbol table, see
    /// [`Object::symbol_name`].
    Map(usize),
}

/// A section of data, which libbpf makes a map of.
#[derive(Clone, Debug)]
pub struct DataSection<'data> {
    /// Its name.
    pub name: &'data [u8],
    /// Its contents; empty if they are zeros that the file does not hold.
    pub bytes: &'data [u8],
    /// Whether programs can only read it, and user space only before they are loaded: `.rodata` and its kin.
    pub is_frozen: bool,
    /// Number of the ELF section.
    pub(super) elf: u16,
}

/// A variable in a section of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable<'data> {
    /// Its name.
    pub name: &'data [u8],
    /// Number of its section in [`Object::data_sections`].
    pub section: usize,
    /// Where it starts in the section, in **bytes**.
    pub offset: u64,
    /// Its size in **bytes**.
    pub len: u64,
}

/// Symbols and relocations of an object, as they stand in its file.
pub(super) struct Links<'data> {
    endian: Endianness,
    symbols: SymbolTable<'data, FileHeader64<Endianness>>,
    code_rels: Vec<(usize, &'data [Rel64<Endianness>])>,
    data: Vec<DataSection<'data>>,
}

impl std::fmt::Debug for Links<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("symbols", &self.symbols.len()).finish_non_exhaustive()
    }
}

impl<'data> Links<'data> {
    pub(super) fn of(sections: &Sections<'data>) -> Self {
        Self {
            endian: sections.elf_endian,
            symbols: sections.symbols,
            code_rels: sections.code_rels.clone(),
            data: sections.data.clone(),
        }
    }
}

impl<'data> Object<'data> {
    /// Sections of data that programs may refer to, in the order of the file.
    pub fn data_sections(&self) -> &[DataSection<'data>] {
        &self.links.data
    }

    /// The name of a symbol of the object; empty if it has none.
    pub fn symbol_name(&self, symbol: usize) -> &'data [u8] {
        let Links { endian, symbols, .. } = &self.links;
        let found = symbols.symbol(SymbolIndex(symbol)).ok();
        found.and_then(|it| symbols.symbol_name(*endian, it).ok()).unwrap_or_default()
    }

    /// Variables in sections of data, in the order of the symbol table.
    pub fn variables(&self) -> Vec<Variable<'data>> {
        let Links { endian, symbols, data, .. } = &self.links;
        let of_symbol = |symbol: &object::elf::Sym64<Endianness>| {
            let section = data.iter().position(|it| it.elf == symbol.st_shndx(*endian).0)?;
            let name = symbols.symbol_name(*endian, symbol).ok()?;
            let (offset, len) = (symbol.st_value(*endian), symbol.st_size(*endian));
            (symbol.st_type() == STT_OBJECT).then_some(Variable { name, section, offset, len })
        };
        symbols.iter().filter_map(of_symbol).collect()
    }

    /// What the instructions of a function refer to, by their offset in **bytes** within the function's section.
    pub(crate) fn references(&self, function: usize) -> HashMap<u64, Reference> {
        let mut found = HashMap::new();
        let Some(program) = self.programs.get(function) else { return found };
        let (Some(slots), Some(text)) = (self.slots(program), self.text()) else { return found };
        let endian = self.endian;
        for (offset, bytes) in (program.offset..).step_by(INSN_LEN).zip(slots) {
            let insn = Insn::decode(*bytes, endian);
            let slots_on = match (insn.code, insn.src) {
                (CALL, PSEUDO_CALL) => i64::from(insn.imm) + 1,
                _ if insn.is_ldimm64() && insn.src == PSEUDO_FUNC => i64::from(insn.imm) / 8,
                _ => continue,
            };
            // Without a relocation the call is relative to itself.
            if let Some(callee) = self.function_at(program.code, offset, slots_on) {
                found.insert(offset, Reference::Function(callee));
            }
        }
        for &(code, rels) in self.links.code_rels.iter().filter(|it| it.0 == program.code) {
            for rel in rels {
                let offset = rel.r_offset(self.links.endian);
                if program_at(&self.programs, code, offset) != Some(function) {
                    continue;
                }
                if let Some(reference) = self.reference(program, offset, rel, text) {
                    found.insert(offset, reference);
                }
            }
        }
        found
    }

    fn reference(
        &self,
        program: &Program<'data>,
        offset: u64,
        rel: &Rel64<Endianness>,
        text: usize,
    ) -> Option<Reference> {
        let Links { endian, symbols, data, .. } = &self.links;
        let symbol = symbols.symbol(SymbolIndex(rel.r_sym(*endian) as usize)).ok()?;
        let at = usize::try_from(offset - program.offset).ok()? / INSN_LEN;
        let insn = Insn::decode(*self.slots(program)?.get(at)?, self.endian);
        let (section, value) = (symbol.st_shndx(*endian), symbol.st_value(*endian));
        if section == SHN_UNDEF {
            let name = symbols.symbol_name(*endian, symbol).ok()?;
            return self.externs.iter().position(|it| it.name == name).map(Reference::Extern);
        }
        if insn.code == CALL {
            return self.function_at(text, value, i64::from(insn.imm) + 1).map(Reference::Function);
        }
        if let Some(number) = data.iter().position(|it| it.elf == section.0) {
            return Some(Reference::Data(number, i64::try_from(value).ok()? + i64::from(insn.imm)));
        }
        if insn.src == PSEUDO_FUNC || self.links_to_text(section.0) {
            let function = self.function_at(text, value, i64::from(insn.imm) / 8);
            return function.map(Reference::Function);
        }
        Some(Reference::Map(rel.r_sym(*endian) as usize))
    }

    fn links_to_text(&self, elf: u16) -> bool {
        self.text_elf == Some(elf)
    }

    /// Number of `.text` among the executable sections.
    fn text(&self) -> Option<usize> {
        // Where there is none, there is nothing to call, but relocations are of interest all the same.
        Some(self.programs.iter().find(|it| it.is_subprogram).map_or(usize::MAX, |it| it.code))
    }

    /// The function of a section that is `slots_on` instructions behind byte `from`.
    fn function_at(&self, code: usize, from: u64, slots_on: i64) -> Option<usize> {
        let target = from.checked_add_signed(slots_on.checked_mul(INSN_LEN as i64)?)?;
        program_at(&self.programs, code, target)
            .filter(|&at| self.programs.get(at).is_some_and(|it| it.is_subprogram))
    }

    /// The instructions of a function, as they stand in the file.
    pub(crate) fn slots(&self, program: &Program<'data>) -> Option<&'data [[u8; INSN_LEN]]> {
        let data = self.code.get(program.code)?.data;
        let (start, len) = (usize::try_from(program.offset).ok()?, usize::try_from(program.len).ok()?);
        Some(data.get(start..start.checked_add(len)?)?.as_chunks::<INSN_LEN>().0)
    }

    /// Functions that the kernel verifies each on its own, with unknown arguments: those that are not static.
    /// libbpf makes hidden ones static. By the number in [`Object::programs`].
    pub(crate) fn global_functions(&self) -> Vec<bool> {
        let Links { endian, symbols, .. } = &self.links;
        let mut is_global = vec![false; self.programs.len()];
        for symbol in symbols.iter() {
            if symbol.st_bind() == STB_LOCAL || matches!(symbol.st_visibility(), STV_HIDDEN | STV_INTERNAL) {
                continue;
            }
            let (section, value) = (symbol.st_shndx(*endian).0, symbol.st_value(*endian));
            if self.text_elf != Some(section) {
                continue;
            }
            for (program, global) in self.programs.iter().zip(&mut is_global) {
                *global |= program.is_subprogram && program.offset == value;
            }
        }
        is_global
    }
}
