//! A relocatable BPF object (ELF64, `EM_BPF`) and its `.BTF.ext` section.
#![expect(
    clippy::indexing_slicing,
    reason = "the builder indexes what it wrote itself; a bad index is a bug of the test"
)]
#![expect(clippy::cast_possible_truncation, reason = "objects of tests are far below 4 GiB")]

use super::{ByteOrder, Insn, code_bytes};

const SHT_PROGBITS: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;
const SHT_REL: u32 = 9;
const SHF_WRITE: u64 = 1;
const SHF_ALLOC: u64 = 2;
const SHF_EXECINSTR: u64 = 4;

/// A CO-RE record as `.BTF.ext` holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CoreRelo {
    /// Offset in **bytes** from the start of the ELF section.
    pub insn_off: u32,
    /// Root type, an id of the object's BTF.
    pub type_id: u32,
    /// Offset of the access string in the strings of the object's BTF.
    pub access_str_off: u32,
    /// `enum bpf_core_relo_kind`, any value.
    pub kind: u32,
}

/// A line record as `.BTF.ext` holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LineInfo {
    /// Offset in **bytes** from the start of the ELF section.
    pub insn_off: u32,
    /// String offset of the file name.
    pub file_name_off: u32,
    /// String offset of the source line.
    pub line_off: u32,
    /// Line number.
    pub line: u32,
    /// Column.
    pub column: u32,
}

/// Records of one kind: blocks of (section name offset, records).
type Blocks = Vec<(u32, Vec<Vec<u32>>)>;

/// Collects the records of a `.BTF.ext` section.
///
/// A record goes into the last block if that is of the same section, else into a new one.
#[derive(Clone, Debug)]
pub struct BtfExtBuilder {
    order: ByteOrder,
    header_len: u32,
    /// Words per record: func info, line info, CO-RE.
    words: [u32; 3],
    blocks: [Blocks; 3],
}

impl BtfExtBuilder {
    /// An empty section with a 32-byte header.
    #[must_use]
    pub fn new(order: ByteOrder) -> Self {
        Self { order, header_len: 32, words: [2, 4, 4], blocks: Default::default() }
    }

    /// Length of the header in bytes; with 24 there are no CO-RE records, whatever was added.
    pub fn header_len(&mut self, len: u32) -> &mut Self {
        assert!(len >= 24, "a .BTF.ext header has at least 24 bytes");
        self.header_len = len;
        self
    }

    /// Sizes in bytes of the records (func info, line info, CO-RE): the usual 8, 16, 16, or more.
    pub fn record_sizes(&mut self, sizes: [u32; 3]) -> &mut Self {
        self.words = sizes.map(|size| size / 4);
        self
    }

    /// Adds a function record: FUNC `type_id` starts at byte `insn_off` of the section named at `sec_name_off`.
    pub fn func_info(&mut self, sec_name_off: u32, insn_off: u32, type_id: u32) -> &mut Self {
        self.push(0, sec_name_off, vec![insn_off, type_id])
    }

    /// Adds a line record.
    pub fn line_info(&mut self, sec_name_off: u32, line: LineInfo) -> &mut Self {
        let line_col = (line.line << 10) | (line.column & 0x3ff);
        self.push(1, sec_name_off, vec![line.insn_off, line.file_name_off, line.line_off, line_col])
    }

    /// Adds a CO-RE record.
    pub fn core_relo(&mut self, sec_name_off: u32, relo: CoreRelo) -> &mut Self {
        self.push(2, sec_name_off, vec![relo.insn_off, relo.type_id, relo.access_str_off, relo.kind])
    }

    /// Starts a new CO-RE block even if the section stays the same.
    pub fn new_core_block(&mut self, sec_name_off: u32) -> &mut Self {
        self.blocks[2].push((sec_name_off, Vec::new()));
        self
    }

    fn push(&mut self, which: usize, sec_name_off: u32, record: Vec<u32>) -> &mut Self {
        match self.blocks[which].last_mut() {
            Some((name, records)) if *name == sec_name_off => records.push(record),
            _ => self.blocks[which].push((sec_name_off, vec![record])),
        }
        self
    }

    /// The bytes of the section.
    #[must_use]
    pub fn finish(&self) -> Vec<u8> {
        let mut parts: [Vec<u32>; 3] = Default::default();
        for (which, part) in parts.iter_mut().enumerate() {
            if self.blocks[which].is_empty() {
                continue;
            }
            part.push(self.words[which] * 4);
            for (name, records) in &self.blocks[which] {
                part.extend([*name, records.len() as u32]);
                for record in records {
                    let end = part.len() + self.words[which] as usize;
                    part.extend(record);
                    part.resize(end, 0);
                }
            }
        }
        let o = self.order;
        let mut out = Vec::new();
        out.extend(o.u16(0xeb9f));
        out.extend([1, 0]);
        out.extend(o.u32(self.header_len));
        let mut off = 0;
        for part in &parts {
            let len = part.len() as u32 * 4;
            out.extend(o.u32(off));
            out.extend(o.u32(len));
            off += len;
        }
        out.resize(self.header_len as usize, 0);
        out.extend(parts.iter().flatten().flat_map(|&w| o.u32(w)));
        out
    }
}

/// Names a section of an [`ObjectBuilder`]; its value is the ELF section index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectSection(pub u16);

#[derive(Clone, Debug)]
struct Section {
    name: String,
    kind: u32,
    flags: u64,
    data: Vec<u8>,
    link: u32,
    info: u32,
    entry_size: u64,
}

#[derive(Clone, Debug)]
struct Symbol {
    name: String,
    info: u8,
    section: u16,
    value: u64,
    size: u64,
}

/// Collects sections and symbols; [`finish`](Self::finish) gives the bytes of the file.
#[derive(Clone, Debug)]
pub struct ObjectBuilder {
    order: ByteOrder,
    sections: Vec<Section>,
    symbols: Vec<Symbol>,
    relocations: Vec<(ObjectSection, u64, usize, u32)>,
}

impl ObjectBuilder {
    /// An object without sections.
    #[must_use]
    pub fn new(order: ByteOrder) -> Self {
        Self { order, sections: Vec::new(), symbols: Vec::new(), relocations: Vec::new() }
    }

    /// Adds a section of any kind with any bytes, valid or not.
    pub fn section(&mut self, name: &str, sh_type: u32, sh_flags: u64, data: &[u8]) -> ObjectSection {
        self.sections.push(Section {
            name: name.to_owned(),
            kind: sh_type,
            flags: sh_flags,
            data: data.to_vec(),
            link: 0,
            info: 0,
            entry_size: 0,
        });
        ObjectSection(self.sections.len() as u16)
    }

    /// Adds a symbol: `info` is binding << 4 | type; section 0 is undefined.
    pub fn symbol(&mut self, name: &str, info: u8, section: ObjectSection, value: u64, size: u64) -> usize {
        self.symbols.push(Symbol { name: name.to_owned(), info, section: section.0, value, size });
        self.symbols.len() - 1
    }

    /// Adds an executable section without functions.
    pub fn code_section(&mut self, name: &str) -> ObjectSection {
        self.section(name, SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, &[])
    }

    /// Appends a function to a section and gives it a symbol, global or local; returns its offset in **bytes**.
    pub fn function(&mut self, section: ObjectSection, name: &str, global: bool, insns: &[Insn]) -> u32 {
        let code = code_bytes(insns, self.order);
        let data = &mut self.sections[usize::from(section.0) - 1].data;
        let off = data.len();
        data.extend_from_slice(&code);
        self.symbol(name, (u8::from(global) << 4) | 2, section, off as u64, code.len() as u64);
        off as u32
    }

    /// Appends instructions that belong to no function to a section; returns their offset in **bytes**.
    pub fn code(&mut self, section: ObjectSection, insns: &[Insn]) -> u32 {
        let code = code_bytes(insns, self.order);
        let data = &mut self.sections[usize::from(section.0) - 1].data;
        let off = data.len();
        data.extend_from_slice(&code);
        off as u32
    }

    /// Adds a program: a new section with one global function at offset 0.
    pub fn program(&mut self, section: &str, name: &str, insns: &[Insn]) -> ObjectSection {
        let index = self.code_section(section);
        self.function(index, name, true, insns);
        index
    }

    /// Adds the `license` section.
    pub fn license(&mut self, text: &str) -> ObjectSection {
        let mut data = text.as_bytes().to_vec();
        data.push(0);
        self.section("license", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, &data)
    }

    /// Adds `.BTF`.
    pub fn btf(&mut self, bytes: &[u8]) -> ObjectSection {
        self.section(".BTF", SHT_PROGBITS, 0, bytes)
    }

    /// Adds `.BTF.ext`.
    pub fn btf_ext(&mut self, bytes: &[u8]) -> ObjectSection {
        self.section(".BTF.ext", SHT_PROGBITS, 0, bytes)
    }

    /// Adds a writable data section (`.maps`, `.data`, `.bss`, `.struct_ops`, ...).
    pub fn data(&mut self, name: &str, bytes: &[u8]) -> ObjectSection {
        self.section(name, SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, bytes)
    }

    /// Adds a global data object, such as a map in `.maps`.
    pub fn object(&mut self, section: ObjectSection, name: &str, offset: u64, size: u64) -> usize {
        self.symbol(name, (1 << 4) | 1, section, offset, size)
    }

    /// Adds an extern: an undefined symbol, weak or not. Its BTF is up to the caller.
    pub fn extern_symbol(&mut self, name: &str, weak: bool) -> usize {
        self.symbol(name, if weak { 2 << 4 } else { 1 << 4 }, ObjectSection(0), 0, 0)
    }

    /// Adds an ELF relocation: at byte `offset` of `section` against `symbol`; 1 is ldimm64, 10 a call.
    pub fn relocation(&mut self, section: ObjectSection, offset: u64, symbol: usize, kind: u32) {
        self.relocations.push((section, offset, symbol, kind));
    }

    /// The bytes of the file.
    #[must_use]
    pub fn finish(&self) -> Vec<u8> {
        let o = self.order;
        let mut sections = self.sections.clone();

        // Local symbols have to come first.
        let mut by_binding: Vec<usize> = (0..self.symbols.len()).collect();
        by_binding.sort_by_key(|&i| self.symbols[i].info >> 4 != 0);
        let locals = self.symbols.iter().filter(|s| s.info >> 4 == 0).count();
        let place = |symbol: usize| {
            by_binding.iter().position(|&i| i == symbol).expect("a symbol of this builder") + 1
        };

        let symtab_index = sections.len() as u32 + 1;
        let mut strtab = vec![0];
        let mut symtab = vec![0; 24];
        for &i in &by_binding {
            let s = &self.symbols[i];
            symtab.extend(o.u32(strtab.len() as u32));
            symtab.extend([s.info, 0]);
            symtab.extend(o.u16(s.section));
            symtab.extend(o.u64(s.value));
            symtab.extend(o.u64(s.size));
            strtab.extend_from_slice(s.name.as_bytes());
            strtab.push(0);
        }
        let plain = |name: &str, kind: u32, data: Vec<u8>| Section {
            name: name.to_owned(),
            kind,
            flags: 0,
            data,
            link: 0,
            info: 0,
            entry_size: 0,
        };
        sections.push(Section {
            link: symtab_index + 1,
            info: locals as u32 + 1,
            entry_size: 24,
            ..plain(".symtab", SHT_SYMTAB, symtab)
        });
        let names_index = sections.len() + 1;

        let mut targets: Vec<ObjectSection> = self.relocations.iter().map(|r| r.0).collect();
        targets.sort_unstable();
        targets.dedup();
        let mut rels = Vec::new();
        for target in targets {
            let mut data = Vec::new();
            for &(_, offset, symbol, kind) in self.relocations.iter().filter(|r| r.0 == target) {
                data.extend(o.u64(offset));
                data.extend(o.u64(((place(symbol) as u64) << 32) | u64::from(kind)));
            }
            let name = format!(".rel{}", sections[usize::from(target.0) - 1].name);
            rels.push(Section {
                link: symtab_index,
                info: u32::from(target.0),
                entry_size: 16,
                ..plain(&name, SHT_REL, data)
            });
        }
        let mut name_offs = Vec::new();
        for s in sections
            .iter()
            .map(|s| s.name.as_str())
            .chain([".strtab"])
            .chain(rels.iter().map(|s| s.name.as_str()))
        {
            name_offs.push(strtab.len() as u32);
            strtab.extend_from_slice(s.as_bytes());
            strtab.push(0);
        }
        sections.push(plain(".strtab", SHT_STRTAB, strtab));
        sections.extend(rels);

        let mut out = vec![0x7f, b'E', b'L', b'F', 2, if o == ByteOrder::Little { 1 } else { 2 }, 1];
        out.resize(16, 0);
        out.extend(o.u16(1)); // ET_REL
        out.extend(o.u16(247)); // EM_BPF
        out.extend(o.u32(1));
        out.extend([0; 16]);
        let section_table_at = out.len();
        out.extend([0; 8]);
        out.extend(o.u32(0));
        for half in [64, 0, 0, 64, sections.len() as u16 + 1, names_index as u16] {
            out.extend(o.u16(half));
        }

        let mut table = vec![0; 64];
        for (s, name_off) in sections.iter().zip(name_offs) {
            out.resize(out.len().next_multiple_of(8), 0);
            table.extend(o.u32(name_off));
            table.extend(o.u32(s.kind));
            table.extend(o.u64(s.flags));
            table.extend(o.u64(0));
            table.extend(o.u64(out.len() as u64));
            table.extend(o.u64(s.data.len() as u64));
            table.extend(o.u32(s.link));
            table.extend(o.u32(s.info));
            table.extend(o.u64(8));
            table.extend(o.u64(s.entry_size));
            out.extend_from_slice(&s.data);
        }
        out.resize(out.len().next_multiple_of(8), 0);
        let at = out.len() as u64;
        out[section_table_at..section_table_at + 8].copy_from_slice(&o.u64(at));
        out.extend(table);
        out
    }
}
