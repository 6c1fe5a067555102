//! Which subprograms a program calls: libbpf copies them behind it before it loads it.
//!
//! Source: `bpf_object__reloc_code`, libbpf; spec 2.5.

use hashbrown::HashMap;
use object::read::elf::{Rel, Sym};

use super::elf::Sections;
use super::{PSEUDO_CALL, PSEUDO_FUNC, Program, program_at};
use crate::format::insn::{CALL, INSN_LEN, Insn};

/// For each program, the subprograms that it calls or takes the address of, in the order in which it does.
pub(super) fn callees(sections: &Sections<'_>) -> Vec<Vec<usize>> {
    let programs = &sections.programs;
    let Some(text) = programs.iter().find(|it| it.is_subprogram).map(|it| it.code) else {
        return vec![Vec::new(); programs.len()];
    };
    let symbols = symbols_by_place(sections);
    programs.iter().map(|it| program_callees(sections, it, text, &symbols)).collect()
}

/// The symbol that an instruction is relocated against: its value, and whether it is in `.text`.
type Target = (u64, bool);

/// Targets of relocations, by executable section and offset.
fn symbols_by_place(sections: &Sections<'_>) -> HashMap<(usize, u64), Target> {
    let endian = sections.elf_endian;
    let mut symbols = HashMap::new();
    for &(code, rels) in &sections.code_rels {
        for rel in rels {
            let index = object::SymbolIndex(rel.r_sym(endian) as usize);
            if let Ok(symbol) = sections.symbols.symbol(index) {
                let is_text = sections.text_elf == Some(symbol.st_shndx(endian).0);
                symbols.insert((code, rel.r_offset(endian)), (symbol.st_value(endian), is_text));
            }
        }
    }
    symbols
}

fn program_callees(
    sections: &Sections<'_>,
    program: &Program<'_>,
    text: usize,
    symbols: &HashMap<(usize, u64), Target>,
) -> Vec<usize> {
    let mut callees = Vec::new();
    let body = sections.code.get(program.code).and_then(|code| {
        let (start, len) = (usize::try_from(program.offset).ok()?, usize::try_from(program.len).ok()?);
        code.data.get(start..start + len)
    });
    let slots = body.unwrap_or_default().as_chunks::<INSN_LEN>().0;
    for (offset, bytes) in (program.offset..).step_by(INSN_LEN).zip(slots) {
        let insn = Insn::decode(*bytes, sections.endian);
        let symbol = symbols.get(&(program.code, offset));
        let slots_on = match (insn.code, insn.src) {
            (CALL, PSEUDO_CALL) => i64::from(insn.imm) + 1,
            (_, src) if insn.is_ldimm64() && (src == PSEUDO_FUNC || symbol.is_some_and(|it| it.1)) => {
                i64::from(insn.imm) / 8
            }
            _ => continue,
        };
        // Without a relocation the call is relative to itself.
        let (code, from) = match symbol {
            Some(&(value, true)) => (text, value),
            // A function of the kernel.
            Some(_) => continue,
            None => (program.code, offset),
        };
        let Some(target) = from.checked_add_signed(slots_on * INSN_LEN as i64) else { continue };
        let callee = program_at(&sections.programs, code, target)
            .filter(|&at| sections.programs.get(at).is_some_and(|it| it.is_subprogram));
        if let Some(callee) = callee
            && !callees.contains(&callee)
        {
            callees.push(callee);
        }
    }
    callees
}
