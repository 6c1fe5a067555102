//! The programs of a light skeleton as a BPF object.

use std::collections::BTreeMap;

use super::blob::{Blob, Program};
use crate::btf::{self, Btf, TypeId};
use crate::format::Endian;
use crate::format::btf::Kind;
use crate::format::insn::{CALL, INSN_LEN, Insn};
use crate::object::{PSEUDO_CALL, PSEUDO_FUNC};

const SHT_PROGBITS: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;
const SHT_REL: u32 = 9;
const ALLOC_EXEC: u64 = 6;
const INFO_LINK: u64 = 0x40;
const LOCAL_SECTION: u8 = 3;
const LOCAL_FUNC: u8 = 2;
const GLOBAL_FUNC: u8 = 0x12;
/// Relocations: the address in an `ldimm64`, and the target of a call.
const R_BPF_64_64: u64 = 1;
const R_BPF_64_32: u64 = 10;
const ELF_HEADER_LEN: usize = 64;
/// Linkage of a FUNC that is seen from everywhere.
const LINKAGE_GLOBAL: u32 = 1;
/// Number of the symbol that stands for `.text`.
const TEXT_SYMBOL: u64 = 1;

struct Section {
    name: Vec<u8>,
    ty: u32,
    flags: u64,
    link: u32,
    info: u32,
    entsize: u64,
    data: Vec<u8>,
}

/// One executable section, with its part of `.BTF.ext`.
#[derive(Default)]
struct Code {
    data: Vec<u8>,
    /// Offset and type of relocations that go to `.text`.
    rels: Vec<(u64, u64)>,
    func_info: Vec<[u32; 2]>,
    line_info: Vec<[u32; 4]>,
    core_relos: Vec<[u32; 4]>,
    /// Name, binding and type, offset, length.
    functions: Vec<(Vec<u8>, u8, usize, usize)>,
}

const TEXT: &[u8] = b".text";

/// Where names of sections are in the strings of the BTF.
type Names = BTreeMap<Vec<u8>, u32>;

/// `None` if the BTF is none.
pub(super) fn object(blob: &Blob<'_>, endian: Endian) -> Option<Vec<u8>> {
    let btf = Btf::parse(blob.btf).ok()?;
    let mut sections: BTreeMap<Vec<u8>, Code> = BTreeMap::new();
    let mut text = Code::default();
    for program in &blob.programs {
        let code = sections.entry(section_name(program)).or_default();
        add(code, &mut text, program, &btf, endian);
    }
    if !text.data.is_empty() {
        sections.insert(TEXT.to_vec(), text);
    }
    let (btf, names) = with_names(blob.btf, sections.keys(), endian)?;
    let ext = btf_ext(&sections, &names, endian);
    let license = blob.programs.first().map_or(&b""[..], |it| it.license);
    Some(elf(
        sections,
        [(&b"license"[..], [license, b"\0"].concat()), (b".BTF", btf), (b".BTF.ext", ext)],
        endian,
    ))
}

/// The section that a compiler would have put the program into.
fn section_name(program: &Program<'_>) -> Vec<u8> {
    let (name, prefix) = program.ty.section().unwrap_or(("unknown", ""));
    match program.target {
        Some(target) => {
            [name.as_bytes(), b"/", target.strip_prefix(prefix.as_bytes()).unwrap_or(target)].concat()
        }
        None => name.as_bytes().to_vec(),
    }
}

/// Adds a program: its entry to `code`, the functions linked behind it to `text`.
fn add(code: &mut Code, text: &mut Code, program: &Program<'_>, btf: &Btf<'_>, endian: Endian) {
    let total = program.insns.len();
    let split = program.func_info.get(1).map_or(total, |it| (it[0] as usize).clamp(1, total));
    let (entry_at, text_at) = (code.data.len(), text.data.len());
    let (entry, tail) = program.insns.split_at(split);
    for (slot, bytes) in entry.iter().enumerate() {
        let mut insn = Insn::decode(*bytes, endian);
        let refers =
            insn.code == CALL && insn.src == PSEUDO_CALL || insn.is_ldimm64() && insn.src == PSEUDO_FUNC;
        let target = i64::try_from(slot).ok().map(|it| it + 1 + i64::from(insn.imm));
        let target =
            target.and_then(|it| usize::try_from(it).ok()).filter(|it| refers && (split..total).contains(it));
        if let Some(target) = target {
            let place = text_at + (target - split) * INSN_LEN;
            let (ty, imm) = match insn.code {
                CALL => (R_BPF_64_32, i32::try_from(place / INSN_LEN).unwrap_or(0) - 1),
                _ => (R_BPF_64_64, i32::try_from(place).unwrap_or(0)),
            };
            insn.imm = imm;
            code.rels.push((code.data.len() as u64, ty));
        }
        code.data.extend(insn.encode(endian));
    }
    text.data.extend(tail.as_flattened());
    // Where a slot of the linked program has come to, in bytes.
    let place = |slot: usize| {
        let (is_entry, at) = match slot.checked_sub(split) {
            None => (true, entry_at + slot * INSN_LEN),
            Some(behind) => (false, text_at + behind * INSN_LEN),
        };
        (is_entry, u32::try_from(at).unwrap_or(u32::MAX))
    };
    // What is about no instruction is refused by the kernel.
    let is_inside = |slot: usize| slot < total;
    for &[slot, file, line, column] in program.line_info.iter().filter(|it| is_inside(it[0] as usize)) {
        let (is_entry, at) = place(slot as usize);
        let of = if is_entry { &mut *code } else { &mut *text };
        of.line_info.push([at, file, line, column]);
    }
    let relos = program.core_relos.iter().filter(|it| is_inside(it[0] as usize / INSN_LEN));
    for &[offset, ty, access, kind] in relos {
        let (is_entry, at) = place(offset as usize / INSN_LEN);
        let of = if is_entry { &mut *code } else { &mut *text };
        of.core_relos.push([at.saturating_add(offset % 8), ty, access, kind]);
    }
    let mut starts: Vec<(usize, Option<u32>)> =
        program.func_info.iter().map(|it| (it[0] as usize, Some(it[1]))).filter(|it| it.0 < total).collect();
    if starts.first().is_none_or(|it| it.0 != 0) {
        starts.insert(0, (0, None));
    }
    starts.dedup_by_key(|it| it.0);
    let ends = starts.iter().skip(1).map(|it| it.0).chain([total]).collect::<Vec<_>>();
    for ((start, func), end) in starts.into_iter().zip(ends) {
        let (is_entry, at) = place(start);
        let of = if is_entry { &mut *code } else { &mut *text };
        let ty = func.and_then(|it| btf.ty(TypeId(it))).filter(|it| it.kind == Kind::Func);
        let name = ty.map(|it| btf.name(it.name_off)).filter(|it| !it.is_empty()).unwrap_or(program.name);
        let is_static = !is_entry && ty.is_some_and(|it| it.linkage() != LINKAGE_GLOBAL);
        let kind = if is_static { LOCAL_FUNC } else { GLOBAL_FUNC };
        of.func_info.extend(func.map(|func| [at, func]));
        of.functions.push((name.to_vec(), kind, at as usize, end.saturating_sub(start) * INSN_LEN));
    }
}

/// The BTF with more names behind its own, and where they are.
fn with_names<'n>(
    data: &[u8],
    names: impl Iterator<Item = &'n Vec<u8>>,
    endian: Endian,
) -> Option<(Vec<u8>, Names)> {
    let (types, strings) = btf::sections(data)?;
    let mut strings = strings.to_vec();
    let mut places = BTreeMap::new();
    for name in names {
        places.insert(name.clone(), u32::try_from(strings.len()).ok()?);
        strings.extend(name);
        strings.push(0);
    }
    Some((btf::assemble(endian, types, &strings)?, places))
}

fn btf_ext(sections: &BTreeMap<Vec<u8>, Code>, names: &Names, endian: Endian) -> Vec<u8> {
    fn part<const N: usize>(
        sections: &BTreeMap<Vec<u8>, Code>,
        names: &Names,
        endian: Endian,
        of: impl Fn(&Code) -> &Vec<[u32; N]>,
    ) -> Vec<u8> {
        let mut words = vec![u32::try_from(N * 4).unwrap_or(0)];
        for (name, code) in sections {
            let records = of(code);
            if !records.is_empty() {
                words.extend([
                    names.get(name).copied().unwrap_or(0),
                    u32::try_from(records.len()).unwrap_or(0),
                ]);
                words.extend(records.as_flattened());
            }
        }
        words.iter().flat_map(|it| endian.u32_bytes(*it)).collect()
    }
    let funcs = part(sections, names, endian, |it| &it.func_info);
    let lines = part(sections, names, endian, |it| &it.line_info);
    let relos = part(sections, names, endian, |it| &it.core_relos);
    let len = |of: &[u8]| u32::try_from(of.len()).unwrap_or(u32::MAX);
    let (a, b, c) = (len(&funcs), len(&lines), len(&relos));
    let mut out = match endian {
        Endian::Little => crate::format::btf::MAGIC.to_le_bytes().to_vec(),
        Endian::Big => crate::format::btf::MAGIC.to_be_bytes().to_vec(),
    };
    out.extend([1, 0]);
    out.extend([32, 0, a, a, b, a + b, c].iter().flat_map(|it| endian.u32_bytes(*it)));
    out.extend([funcs, lines, relos].concat());
    out
}

/// Strings, each once written, with where it starts.
fn string(strings: &mut Vec<u8>, text: &[u8]) -> u32 {
    let at = u32::try_from(strings.len()).unwrap_or(0);
    strings.extend(text);
    strings.push(0);
    at
}

fn elf(code: BTreeMap<Vec<u8>, Code>, others: [(&[u8], Vec<u8>); 3], endian: Endian) -> Vec<u8> {
    let mut sections: Vec<Section> = Vec::new();
    let section = |name: &[u8], ty: u32, data: Vec<u8>| Section {
        name: name.to_vec(),
        ty,
        flags: 0,
        link: 0,
        info: 0,
        entsize: 0,
        data,
    };
    let mut strings = vec![0];
    let text = code.keys().position(|it| it == TEXT).map_or(0, |it| it + 1);
    // Local symbols come first; the first of them is nothing, the second .text.
    let mut symbols: Vec<(u32, u8, usize, u64, u64)> = vec![(0, 0, 0, 0, 0), (0, LOCAL_SECTION, text, 0, 0)];
    let mut rels = Vec::new();
    for (nth, (name, code)) in code.into_iter().enumerate() {
        for (function, kind, at, len) in code.functions {
            symbols.push((string(&mut strings, &function), kind, nth + 1, at as u64, len as u64));
        }
        if !code.rels.is_empty() {
            rels.push((nth + 1, [b".rel", name.as_slice()].concat(), code.rels));
        }
        sections.push(Section { flags: ALLOC_EXEC, ..section(&name, SHT_PROGBITS, code.data) });
    }
    symbols.sort_by_key(|it| it.1 >= GLOBAL_FUNC);
    sections.extend(others.into_iter().map(|(name, data)| section(name, SHT_PROGBITS, data)));
    let symtab = sections.len() + rels.len() + 1;
    let number = |of: usize| u32::try_from(of).unwrap_or(0);
    for (of, name, entries) in rels {
        let entry = |&(offset, ty): &(u64, u64)| [offset, TEXT_SYMBOL << 32 | ty];
        let data = entries.iter().flat_map(entry).flat_map(|it| u64_bytes(endian, it)).collect();
        let rel = section(&name, SHT_REL, data);
        sections.push(Section {
            flags: INFO_LINK,
            link: number(symtab),
            info: number(of),
            entsize: 16,
            ..rel
        });
    }
    let locals = symbols.iter().take_while(|it| it.1 < GLOBAL_FUNC).count();
    let mut data = Vec::new();
    for (name, kind, section, value, size) in symbols {
        data.extend(endian.u32_bytes(name));
        data.extend([kind, 0]);
        data.extend(u16_bytes(endian, section));
        data.extend(u64_bytes(endian, value));
        data.extend(u64_bytes(endian, size));
    }
    let symbols = section(b".symtab", SHT_SYMTAB, data);
    sections.push(Section { link: number(symtab + 1), info: number(locals), entsize: 24, ..symbols });
    let names: Vec<u32> = sections.iter().map(|it| string(&mut strings, &it.name)).collect();
    let strtab_name = string(&mut strings, b".strtab");
    sections.push(section(b".strtab", SHT_STRTAB, strings));

    let mut body = Vec::new();
    let mut headers = vec![0_u8; 64];
    for (section, name) in sections.iter().zip(names.into_iter().chain([strtab_name])) {
        body.resize(body.len().next_multiple_of(8), 0);
        let at = (ELF_HEADER_LEN + body.len()) as u64;
        body.extend(&section.data);
        headers.extend([name, section.ty].iter().flat_map(|it| endian.u32_bytes(*it)));
        let words = [section.flags, 0, at, section.data.len() as u64];
        headers.extend(words.iter().flat_map(|it| u64_bytes(endian, *it)));
        headers.extend([section.link, section.info].iter().flat_map(|it| endian.u32_bytes(*it)));
        headers.extend([8, section.entsize].iter().flat_map(|it| u64_bytes(endian, *it)));
    }
    body.resize(body.len().next_multiple_of(8), 0);
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    if endian == Endian::Big {
        out.truncate(5);
        out.extend([2, 1]);
    }
    out.resize(16, 0);
    // A relocatable file for BPF.
    out.extend([1, 247].iter().flat_map(|it| u16_bytes(endian, *it)));
    out.extend(endian.u32_bytes(1));
    out.extend([0, 0, (ELF_HEADER_LEN + body.len()) as u64].iter().flat_map(|it| u64_bytes(endian, *it)));
    out.extend(endian.u32_bytes(0));
    let count = sections.len() + 1;
    out.extend([ELF_HEADER_LEN, 0, 0, 64, count, count - 1].iter().flat_map(|it| u16_bytes(endian, *it)));
    out.extend(body);
    out.extend(headers);
    out
}

fn u16_bytes(endian: Endian, value: usize) -> [u8; 2] {
    let value = u16::try_from(value).unwrap_or(u16::MAX);
    match endian {
        Endian::Little => value.to_le_bytes(),
        Endian::Big => value.to_be_bytes(),
    }
}

fn u64_bytes(endian: Endian, value: u64) -> [u8; 8] {
    match endian {
        Endian::Little => value.to_le_bytes(),
        Endian::Big => value.to_be_bytes(),
    }
}
