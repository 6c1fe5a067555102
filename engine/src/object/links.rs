//! ELF relocations of programs: what each has to point to for libbpf to open the object.
//!
//! Source: `bpf_program__record_reloc`, libbpf; spec 3.1.

use hashbrown::HashSet;
use object::elf::{
    Rel64, SHN_LORESERVE, SHN_UNDEF, STB_GLOBAL, STB_LOCAL, STB_WEAK, STT_FUNC, STT_NOTYPE, STT_SECTION,
};
use object::read::elf::{Rel, Sym};
use object::{Endianness, SymbolIndex};

use super::elf::Sections;
use super::{Refusal, program_at};
use crate::format::insn::{CALL, INSN_LEN, Insn};

/// What libbpf takes an ELF section for, as far as relocations may point to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing that a program may refer to.
    #[default]
    Other,
    /// `.text`.
    Text,
    /// `.data`, `.rodata`, `.bss` and their kin, arena data, jump tables.
    Data,
    /// `.maps`.
    Maps,
}

/// What relocations are about: number of the executable section, and offset of the instruction in **bytes**.
pub(super) fn places(sections: &Sections<'_>) -> HashSet<(usize, u64)> {
    let of = |&(code, rels): &(usize, &[Rel64<Endianness>])| {
        rels.iter().map(|it| (code, it.r_offset(sections.elf_endian))).collect::<Vec<_>>()
    };
    sections.code_rels.iter().flat_map(of).collect()
}

/// The first relocation that libbpf would refuse the object for.
pub(super) fn check(sections: &Sections<'_>) -> Option<Refusal> {
    sections
        .code_rels
        .iter()
        .find_map(|&(code, rels)| rels.iter().find_map(|rel| check_one(sections, code, rel)))
}

fn check_one(sections: &Sections<'_>, code: usize, rel: &Rel64<Endianness>) -> Option<Refusal> {
    let endian = sections.elf_endian;
    let offset = rel.r_offset(endian);
    let at = usize::try_from(offset).ok()?;
    let bytes = sections.code.get(code)?.data.get(at..).and_then(|tail| tail.first_chunk::<INSN_LEN>());
    let Some(bytes) = bytes.filter(|_| offset.is_multiple_of(INSN_LEN as u64)) else {
        return Some(Refusal::new(
            Refusal::FORMAT,
            format!("relocation at offset {offset} is at no instruction"),
        ));
    };
    // Outside every function: left over from a weak one that the linker dropped.
    let program = sections.programs.get(program_at(&sections.programs, code, offset)?)?;
    let refuse = |what: &str| {
        let program = String::from_utf8_lossy(program.name);
        Some(Refusal::new(Refusal::RELOC, format!("program {program}, offset {offset}: relocation {what}")))
    };
    let insn = Insn::decode(*bytes, sections.endian);
    let Ok(symbol) = sections.symbols.symbol(SymbolIndex(rel.r_sym(endian) as usize)) else {
        return Some(Refusal::new(Refusal::FORMAT, format!("relocation at offset {offset} names no symbol")));
    };
    if insn.code != CALL && !insn.is_ldimm64() {
        return refuse("of an instruction that is neither a call nor an ldimm64");
    }
    let (section, bind, kind) = (symbol.st_shndx(endian), symbol.st_bind(), symbol.st_type());
    let is_global = matches!(bind, STB_GLOBAL | STB_WEAK);
    if section == SHN_UNDEF && is_global && kind == STT_NOTYPE {
        return None;
    }
    let role = sections.roles.get(usize::from(section.0)).copied().unwrap_or_default();
    let whole_slots = symbol.st_value(endian).is_multiple_of(INSN_LEN as u64);
    if insn.code == CALL {
        return match role {
            _ if insn.src != 1 => refuse("of a call that is not a call of a function"),
            Role::Text if !whole_slots => refuse("to the middle of an instruction"),
            Role::Text => None,
            _ => refuse("of a call to something outside .text"),
        };
    }
    if section == SHN_UNDEF || section.0 >= SHN_LORESERVE {
        return refuse("to a variable that is in no section");
    }
    let is_function = bind == STB_LOCAL && kind == STT_SECTION || is_global && kind == STT_FUNC;
    match role {
        Role::Text if is_function && whole_slots && insn.imm % 8 == 0 => None,
        Role::Text if is_function => refuse("to the middle of an instruction"),
        Role::Data | Role::Maps => None,
        _ => refuse("to a section that is neither data nor .maps"),
    }
}
