//! One BPF object: its programs, its BTF, its CO-RE records as questions, and what else it depends on.
//!
//! Borrowed from the file's bytes. Where libbpf would refuse to open the object, parsing goes on as far as
//! it can and [`Object::refused`] says what libbpf would say: the records can be resolved all the same.
//!
//! Source: `bpf_object__elf_collect`, `bpf_object__add_programs`, `bpf_object__init_btf`, libbpf; spec
//! sections 2 and 3.

mod attach;
mod calls;
mod elf;
mod error;
mod ext;
mod externs;
mod links;
mod path;
mod prog_type;
mod refs;
mod struct_ops;

use std::sync::{Arc, OnceLock};

use hashbrown::{HashMap, HashSet};

pub use attach::{AttachKind, AttachTarget};
pub use error::{ExtError, IgnoredBtf, ObjectError, Refusal};
pub use externs::{Extern, ExternKind};
pub use prog_type::ProgType;
pub use refs::{DataSection, Reference, Variable};
pub use struct_ops::{OpsMember, StructOps};

use crate::btf::{Btf, TypeId};
use crate::dialect::Rules;
use crate::error::ResolveError;
use crate::format::Endian;
use crate::format::btf_ext::RelocKind;
use crate::format::insn::{INSN_LEN, class};
use crate::query::{self, Question};
use elf::Sections;
use ext::{Block, BtfExt, InfoBlock};

pub(crate) use ext::CorePart;
pub(crate) use refs::{PSEUDO_CALL, PSEUDO_FUNC, PSEUDO_KFUNC_CALL};

/// One BPF object.
#[derive(Debug)]
pub struct Object<'data> {
    file: &'data [u8],
    endian: Endian,
    btf: Option<Arc<Btf<'data>>>,
    code: Vec<CodeSection<'data>>,
    programs: Vec<Program<'data>>,
    callees: Vec<Vec<usize>>,
    /// By function: the programs that it is loaded with. Made when somebody first asks.
    loaded_with: OnceLock<Vec<Vec<usize>>>,
    links: refs::Links<'data>,
    /// Number of the ELF section `.text`.
    text_elf: Option<u16>,
    relocs: Vec<Reloc<'data>>,
    root_count: usize,
    core_part: Option<CorePart<'data>>,
    btf_ext_at: u64,
    shares_bytes: bool,
    btf_data: &'data [u8],
    lines: Vec<InfoBlock<'data>>,
    funcs: Vec<InfoBlock<'data>>,
    externs: Vec<Extern<'data>>,
    struct_ops: Vec<StructOps<'data>>,
    refused: Option<Refusal>,
    ignored_btf: Option<IgnoredBtf>,
}

/// One executable section.
#[derive(Debug)]
pub(crate) struct CodeSection<'data> {
    /// The ELF section's name as it stands there, a leading `?` included.
    pub(crate) name: &'data [u8],
    /// Whether no earlier ELF section has the same name: records find their section by name.
    pub(crate) is_first_of_name: bool,
    /// Its instructions.
    pub(crate) data: &'data [u8],
    /// Where they are in the file, in **bytes**.
    pub(crate) file_offset: u64,
}

/// One function of an executable section: an entry program, or in `.text` a subprogram.
#[derive(Clone, Debug)]
pub struct Program<'data> {
    /// Name of its symbol.
    pub name: &'data [u8],
    /// Name of its ELF section, a leading `?` included.
    pub section: &'data [u8],
    /// Number of its section among the executable ones.
    pub(crate) code: usize,
    /// Where it starts, in **bytes** within the section.
    pub offset: u64,
    /// Its length in **bytes**.
    pub len: u64,
    /// In `.text`: never an entry point, part of whatever calls it.
    pub is_subprogram: bool,
    /// Whether libbpf loads it unless told otherwise: the section's name has no leading `?`.
    pub autoload: bool,
    /// What of the kernel it attaches to, where its section's name says so.
    pub attach: Option<AttachTarget<'data>>,
}

/// One CO-RE record.
#[derive(Debug)]
pub struct Reloc<'data> {
    /// Name of its section as the record's block has it.
    pub section: &'data [u8],
    /// Number of the executable section, if there is one of that name.
    code: Option<usize>,
    /// Number of the program that contains the instruction, in [`Object::programs`].
    pub program: Option<usize>,
    /// Offset of the instruction, in **bytes** within the section.
    pub insn_off: u32,
    /// The kind as a number.
    pub raw_kind: u32,
    /// The kind; `None` for a number that no kind has.
    pub kind: Option<RelocKind>,
    /// Root type, modifiers unskipped.
    pub type_id: TypeId,
    /// Access string.
    pub access: &'data [u8],
    /// Where it stands in the object's strings.
    pub access_off: u32,
    /// Number of the record within its block, as libbpf's messages count.
    pub number: u32,
    /// What it asks by libbpf's rules, or why that cannot be told.
    pub question: Result<Question<'data>, ResolveError>,
    /// Number of the root type among the object's distinct ones: candidates are listed once for each.
    pub(crate) root_slot: u32,
    /// Whether another record touches the same instruction.
    pub(crate) shares_slots: bool,
}

/// Source line of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceLine<'data> {
    /// File name as the compiler was given it.
    pub file: &'data [u8],
    /// Text of the line, if the compiler stored it.
    pub text: &'data [u8],
    /// Line number, from 1.
    pub line: u32,
    /// Column, from 1; 0 if unknown.
    pub column: u32,
}

/// Where a record's instruction stands.
#[derive(Debug)]
pub(crate) struct Site {
    /// Number of the section among the executable ones.
    pub(crate) section: usize,
    /// The slot.
    pub(crate) first: [u8; INSN_LEN],
    /// The next slot of the same program.
    pub(crate) second: Option<[u8; INSN_LEN]>,
}

impl<'data> Object<'data> {
    /// Reads an object from its file's bytes, any alignment.
    ///
    /// # Errors
    /// [`ObjectError`] if the bytes are no 64-bit ELF object for BPF. A corrupt `.BTF` or `.BTF.ext` is
    /// none: libbpf warns and loads without relocations, see [`Object::ignored_btf`].
    pub fn parse(data: &'data [u8]) -> Result<Self, ObjectError> {
        let sections = Sections::parse(data)?;
        let endian = sections.endian;
        let mut refused = sections.refused.clone();
        let (btf, mut ignored_btf) = match sections.btf.map(Btf::parse) {
            None => (None, None),
            // Pointers of a BPF object have 8 bytes, whatever its BTF makes one guess.
            Some(Ok(btf)) => (Some(Arc::new(btf.with_pointer_size(8))), None),
            Some(Err(error)) => (None, Some(IgnoredBtf::Btf(error))),
        };
        let ext = match (&btf, sections.btf_ext.map(BtfExt::parse)) {
            (Some(_), Some(Ok(ext))) => Some(ext),
            (Some(_), Some(Err(error))) => {
                ignored_btf = Some(IgnoredBtf::Ext(error));
                None
            }
            // Without .BTF nobody looks at .BTF.ext.
            _ => None,
        };
        let externs = match externs::collect(&sections, btf.as_deref()) {
            Ok(externs) => externs,
            Err((externs, refusal)) => {
                refused = refused.or(Some(refusal));
                externs
            }
        };
        let needs_btf = sections.needs_btf || !externs.is_empty();
        if refused.is_none() && needs_btf && (btf.is_none() || ignored_btf.is_some()) {
            refused = Some(Refusal::btf_required());
        }
        let (struct_ops, refusal) = struct_ops::collect(&sections, btf.as_deref());
        refused = refused.or(refusal).or_else(|| links::check(&sections));
        let callees = calls::callees(&sections);
        let linked = links::places(&sections);
        let links = refs::Links::of(&sections);
        let btf_data = sections.btf.unwrap_or_default();
        let Sections { code, programs, btf_ext_at, shares_bytes, text_elf, .. } = sections;
        let mut object = Self {
            file: data,
            endian,
            btf,
            code,
            programs,
            callees,
            loaded_with: OnceLock::new(),
            links,
            text_elf,
            relocs: Vec::new(),
            root_count: 0,
            core_part: ext.as_ref().and_then(BtfExt::core_part),
            btf_ext_at,
            shares_bytes,
            btf_data,
            lines: Vec::new(),
            funcs: Vec::new(),
            externs,
            struct_ops,
            refused,
            ignored_btf,
        };
        if let (Some(btf), Some(ext)) = (object.btf.clone(), ext) {
            object.lines = ext.line_blocks(&btf);
            object.funcs = ext.func_blocks(&btf);
            object.read_relocs(&btf, &ext);
        }
        object.shares_bytes |= object.core_part.is_some_and(|part| part.shares_bytes)
            || object.relocs.iter().any(|it| object.is_linked(it, &linked));
        Ok(object)
    }

    /// Whether one of `linked`, the [places](links::places) of ELF relocations, is the instruction of a record.
    fn is_linked(&self, reloc: &Reloc<'data>, linked: &HashSet<(usize, u64)>) -> bool {
        let Some(code) = reloc.program.and(reloc.code) else { return false };
        let (first, second) = (u64::from(reloc.insn_off), u64::from(reloc.insn_off) + INSN_LEN as u64);
        let has_second = self.insn_bytes(reloc).len() > INSN_LEN;
        linked.contains(&(code, first)) || has_second && linked.contains(&(code, second))
    }

    fn read_relocs(&mut self, btf: &Arc<Btf<'data>>, ext: &BtfExt<'data>) {
        let mut root_slots: HashMap<TypeId, u32> = HashMap::new();
        self.relocs.reserve_exact(ext.core_relo_blocks().iter().map(Block::len).sum());
        for block in ext.core_relo_blocks() {
            let section = btf.name(block.section_name_off);
            let code = self
                .code
                .iter()
                .position(|it| it.name == section && it.is_first_of_name && !section.is_empty());
            for (number, record) in (0_u32..).zip(block.core_relos()) {
                let type_id = TypeId(record.type_id);
                let access = btf.name(record.access_str_off);
                let next_slot = u32::try_from(root_slots.len()).unwrap_or(u32::MAX);
                self.relocs.push(Reloc {
                    section,
                    code,
                    program: code.and_then(|code| program_at(&self.programs, code, record.insn_off.into())),
                    insn_off: record.insn_off,
                    raw_kind: record.kind,
                    kind: RelocKind::from_raw(record.kind),
                    type_id,
                    access,
                    access_off: record.access_str_off,
                    number,
                    question: query::parse(&Rules::LIBBPF, btf, type_id, access, record.kind),
                    root_slot: *root_slots.entry(type_id).or_insert(next_slot),
                    shares_slots: false,
                });
            }
        }
        self.root_count = root_slots.len();
        self.mark_shared_slots();
    }

    /// Finds records that touch one instruction twice: the later one sees what the earlier one wrote.
    fn mark_shared_slots(&mut self) {
        let mut seen = HashSet::with_capacity(self.relocs.len());
        let mut twice = HashSet::new();
        for place in self.relocs.iter().flat_map(|it| self.touched(it)) {
            if !seen.insert(place) {
                twice.insert(place);
            }
        }
        if twice.is_empty() {
            return;
        }
        let shares: Vec<bool> =
            self.relocs.iter().map(|it| self.touched(it).any(|place| twice.contains(&place))).collect();
        for (reloc, shares) in self.relocs.iter_mut().zip(shares) {
            reloc.shares_slots = shares;
        }
    }

    /// Slots that a record may read or write, by section: one, and of an `ldimm64` two.
    fn touched(&self, reloc: &Reloc<'data>) -> impl Iterator<Item = (usize, u32)> + use<'data> {
        let insn_off = reloc.insn_off;
        let code = reloc.program.and(reloc.code);
        let opcode = self.insn_bytes(reloc).first();
        // Whatever else is of the class of ldimm64 is refused, after a look at both slots.
        let is_wide = opcode.is_none_or(|it| it & 7 == class::LD);
        let slots = [Some(insn_off), is_wide.then(|| insn_off.wrapping_add(8))];
        code.into_iter().flat_map(move |code| slots.into_iter().flatten().map(move |slot| (code, slot)))
    }

    /// The instruction of a record; `None` if it is inside no program.
    pub(crate) fn site(&self, reloc: &Reloc<'data>) -> Option<Site> {
        let program = self.programs.get(reloc.program?)?;
        let data = self.code.get(program.code)?.data;
        let end = usize::try_from(program.offset + program.len).ok()?;
        let body = data.get(..end)?;
        let at = reloc.insn_off as usize;
        let slot = |at: usize| body.get(at..)?.first_chunk::<INSN_LEN>().copied();
        Some(Site { section: program.code, first: slot(at)?, second: slot(at + INSN_LEN) })
    }

    /// The record's instruction as it stands in the file: 8 bytes, 16 of an `ldimm64`, none if it is
    /// inside no section.
    pub fn insn_bytes(&self, reloc: &Reloc<'data>) -> &'data [u8] {
        let Some(section) = reloc.code.and_then(|code| self.code.get(code)) else { return &[] };
        let tail = section.data.get(reloc.insn_off as usize..).unwrap_or_default();
        let is_ldimm64 = tail.first() == Some(&crate::format::insn::LDIMM64);
        tail.get(..if is_ldimm64 { 2 * INSN_LEN } else { INSN_LEN }).unwrap_or_default()
    }

    /// Function information of a function, as `.BTF.ext` has it: offset in **bytes** within the section, FUNC.
    pub(crate) fn func_info(&self, function: &Program<'data>) -> Vec<[u32; 2]> {
        Self::info(&self.funcs, function)
    }

    /// Line information of a function, as `.BTF.ext` has it: offset in **bytes** within the section, file name, line,
    /// line and column.
    pub(crate) fn line_info(&self, function: &Program<'data>) -> Vec<[u32; 4]> {
        Self::info(&self.lines, function)
    }

    fn info<const N: usize>(blocks: &[InfoBlock<'data>], function: &Program<'data>) -> Vec<[u32; N]> {
        let block = blocks.iter().find(|it| it.section == function.section);
        block.map_or_else(Vec::new, |it| it.within(function.offset, function.offset + function.len))
    }

    /// Its `.BTF` as it stands in the file; empty if there is none.
    pub fn btf_data(&self) -> &'data [u8] {
        self.btf_data
    }

    /// The bytes that it was read from.
    pub fn file(&self) -> &'data [u8] {
        self.file
    }

    /// Where byte `offset` of a program's section is in the file.
    pub(crate) fn place_in_file(&self, program: &Program<'data>, offset: u64) -> Option<usize> {
        usize::try_from(self.code.get(program.code)?.file_offset.checked_add(offset)?).ok()
    }

    /// The CO-RE records as they stand in the file, and where `.BTF.ext` starts there, in bytes.
    pub(crate) fn core_part(&self) -> Option<(CorePart<'data>, usize)> {
        Some((self.core_part?, usize::try_from(self.btf_ext_at).ok()?))
    }

    /// Whether instructions or records have bytes of the file in common with something else, or instructions of
    /// records are what ELF relocations are about.
    pub(crate) fn shares_bytes(&self) -> bool {
        self.shares_bytes
    }

    /// Byte order of the object.
    pub fn endian(&self) -> Endian {
        self.endian
    }

    /// The program's own BTF, with 8-byte pointers.
    pub fn btf(&self) -> Option<&Arc<Btf<'data>>> {
        self.btf.as_ref()
    }

    /// Programs and subprograms, by section and offset.
    pub fn programs(&self) -> &[Program<'data>] {
        &self.programs
    }

    /// Says what a program attaches to, as loaders do for what the object leaves open.
    pub fn set_attach(&mut self, program: usize, target: AttachTarget<'data>) {
        if let Some(program) = self.programs.get_mut(program) {
            program.attach = Some(target);
        }
    }

    /// Numbers of the programs that function number `function` is loaded with: those that call it, itself if it is none
    /// that others call; ascending.
    pub(crate) fn loaded_with(&self, function: usize) -> impl Iterator<Item = usize> {
        let all = self.loaded_with.get_or_init(|| {
            let mut all = vec![Vec::new(); self.programs.len()];
            for (number, _) in self.programs.iter().enumerate().filter(|(_, it)| !it.is_subprogram) {
                for function in self.linked_functions(number) {
                    all.get_mut(function).into_iter().for_each(|it| it.push(number));
                }
            }
            all
        });
        let programs = all.get(function).map_or(&[][..], Vec::as_slice);
        let uncalled = programs.is_empty().then_some(function);
        programs.iter().copied().chain(uncalled)
    }

    /// Numbers of all functions that are loaded with program number `program`: itself, the subprograms that
    /// it calls, and those that they call, ascending.
    pub fn linked_functions(&self, program: usize) -> Vec<usize> {
        let mut linked = vec![program];
        let mut next = 0;
        while let Some(&function) = linked.get(next) {
            next += 1;
            for &callee in self.callees.get(function).map_or(&[][..], Vec::as_slice) {
                if !linked.contains(&callee) {
                    linked.push(callee);
                }
            }
        }
        linked.sort_unstable();
        linked
    }

    /// CO-RE records in file order, which is the order in which they are applied.
    pub fn relocs(&self) -> &[Reloc<'data>] {
        &self.relocs
    }

    /// Symbols that the kernel or its configuration has to provide.
    pub fn externs(&self) -> &[Extern<'data>] {
        &self.externs
    }

    /// Maps of functions that the object implements for the kernel, in the order of the file.
    pub fn struct_ops(&self) -> &[StructOps<'data>] {
        &self.struct_ops
    }

    /// Why libbpf would not open the object, if so.
    pub fn refused(&self) -> Option<&Refusal> {
        self.refused.as_ref()
    }

    /// Why libbpf ignores the object's relocation records, if it does.
    pub fn ignored_btf(&self) -> Option<&IgnoredBtf> {
        self.ignored_btf.as_ref()
    }

    pub(crate) fn root_count(&self) -> usize {
        self.root_count
    }

    /// Source line of a record: the last line information at or before its instruction in the same program.
    pub fn source_line(&self, reloc: &Reloc<'data>) -> Option<SourceLine<'data>> {
        self.line_of(reloc.program?, reloc.insn_off.into())
    }

    /// Source line of the instruction at byte `offset` of the section of function number `function`.
    pub fn line_of(&self, function: usize, offset: u64) -> Option<SourceLine<'data>> {
        let program = self.programs.get(function)?;
        let btf = self.btf.as_deref()?;
        let block = self.lines.iter().find(|it| it.section == program.section)?;
        block.line_at(btf, program.offset, u32::try_from(offset).ok()?)
    }

    /// Name of a record's root type as C writes it.
    pub fn root_name(&self, reloc: &Reloc<'data>) -> String {
        self.btf.as_deref().map(|btf| btf.type_name(reloc.type_id)).unwrap_or_default()
    }

    /// The record's access path as C writes it: `task_struct.mm`, `task_struct.comm[3]`, `enum::NAME`.
    pub fn path(&self, reloc: &Reloc<'data>) -> String {
        self.btf.as_deref().map(|btf| path::path(btf, reloc)).unwrap_or_default()
    }
}

/// libbpf's `find_prog_by_sec_insn`: the last program of the section that starts at or before byte `offset`,
/// if it reaches that far. `programs` are sorted by section and offset.
fn program_at(programs: &[Program<'_>], code: usize, offset: u64) -> Option<usize> {
    let after = programs.partition_point(|it| (it.code, it.offset) <= (code, offset));
    let at = after.checked_sub(1)?;
    let program = programs.get(at)?;
    (program.code == code && offset < program.offset + program.len).then_some(at)
}

impl<'data> Reloc<'data> {
    /// An instruction offset that libbpf gives up on before it looks for a program.
    pub(crate) fn placement_error(&self) -> Option<ResolveError> {
        let why = if self.section.is_empty() {
            "its section has no name"
        } else if !self.insn_off.is_multiple_of(8) {
            "it is no multiple of 8"
        } else {
            return None;
        };
        Some(ResolveError::BadInsnOffset { offset: self.insn_off, why })
    }
}
