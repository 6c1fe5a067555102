//! Programs as `BPF_PROG_LOAD` takes them, with their CO-RE records left to the kernel.
//!
//! Since 5.17 the kernel relocates a program itself if it is given the records of the linked program. This is how light
//! skeletons work, and it is open to every language: nothing of libbpf is needed but how it links, and that is done here.
//!
//! Source: `bpf_object__reloc_code`, `reloc_prog_func_and_line_info`, `bpf_gen__prog_load`, libbpf; `struct
//! bpf_core_relo`, `struct bpf_func_info`, `struct bpf_line_info`, Linux; spec 2.5 and 11.

use crate::dialect::{Release, releases};
use crate::format::insn::{CALL, INSN_LEN, Insn};
use crate::object::{Object, PSEUDO_CALL, PSEUDO_FUNC, PSEUDO_KFUNC_CALL, Reference};
use crate::reach::Image;
use crate::resolve::Outcome;

/// What `BPF_PROG_LOAD` takes of one entry program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgLoad {
    /// Number of the program in [`Object::programs`].
    pub program: usize,
    /// Its instructions and those of all functions that it calls, in the byte order of the object: `insns`.
    ///
    /// Calls between functions and addresses of functions are filled in; CO-RE records are not applied. Of what
    /// [`Self::references`] lists, calls of kfuncs are marked as such, and the rest is as in the file.
    pub insns: Vec<u8>,
    /// `func_info`: instruction, FUNC. Instructions are counted in slots of 8 **bytes**, here and in `line_info`.
    pub func_info: Vec<[u32; 2]>,
    /// `line_info`: instruction, file name, line, line number and column; names are offsets in the object's strings.
    pub line_info: Vec<[u32; 4]>,
    /// `core_relos`: offset of the instruction in **bytes**, type, access string, kind; in the order of the instructions.
    pub core_relos: Vec<[u32; 4]>,
    /// The same records by their numbers in [`Object::relocs`].
    pub records: Vec<usize>,
    /// What a loader has to fill in, by slot: maps, data, and symbols of the kernel.
    pub references: Vec<(u32, Reference)>,
}

impl ProgLoad {
    /// Links entry program number `program` of an object.
    ///
    /// The types and strings that the records mean are those of the object's `.BTF`. The kernel looks at CO-RE records
    /// only if there is function or line information, too (QUIRK of the kernel): see [`Self::is_relocated_by`].
    pub fn new(object: &Object<'_>, program: usize) -> Self {
        let image = Image::link(object, program);
        let mut this = Self {
            program,
            insns: Vec::with_capacity(image.slots.len() * INSN_LEN),
            func_info: Vec::new(),
            line_info: Vec::new(),
            core_relos: Vec::new(),
            records: Vec::new(),
            references: Vec::new(),
        };
        for (slot, of) in image.slots.iter().enumerate() {
            let mut insn = of.insn;
            match of.reference {
                Some(reference @ Reference::Function(_)) => {
                    let start = image.callee(Some(reference)).and_then(|it| image.functions.get(it));
                    let start = start.and_then(|it| i64::try_from(it.start).ok()).unwrap_or(0);
                    let here = i64::try_from(slot).unwrap_or(i64::MAX);
                    insn.imm = i32::try_from(start - here - 1).unwrap_or(0);
                    insn.src = if insn.code == CALL { PSEUDO_CALL } else { PSEUDO_FUNC };
                }
                Some(other) => {
                    if insn.code == CALL {
                        (insn.src, insn.imm) = (PSEUDO_KFUNC_CALL, 0);
                    }
                    this.references.push((count(slot), other));
                }
                None => {}
            }
            this.insns.extend(Insn::encode(insn, object.endian()));
        }
        this.add_info(object, &image);
        let mut records: Vec<(usize, usize)> = image.records().map(|(record, slot)| (slot, record)).collect();
        records.sort_unstable();
        for (slot, record) in records {
            let Some(reloc) = object.relocs().get(record) else { continue };
            this.core_relos.push([count(slot * INSN_LEN), reloc.type_id.0, reloc.access_off, reloc.raw_kind]);
            this.records.push(record);
        }
        this
    }

    /// The instructions with all records applied, as they come out on a kernel: no record is left to apply. `outcomes`: by
    /// record of the object.
    ///
    /// # Errors
    /// The number of the first record that has no answer there.
    pub fn relocated(&self, outcomes: &[&Outcome]) -> Result<Vec<u8>, usize> {
        let mut insns = self.insns.clone();
        for (&record, &[offset, ..]) in self.records.iter().zip(&self.core_relos) {
            let Some(Outcome::Decided(decision)) = outcomes.get(record) else { return Err(record) };
            let place = insns.get_mut(offset as usize..).and_then(|it| it.get_mut(..decision.insn.len()));
            place.ok_or(record)?.copy_from_slice(&decision.insn);
        }
        Ok(insns)
    }

    /// Whether a kernel that is given all of it applies the records, any kernel if its release is not known: before 7.3 they
    /// pass over them where there is neither function nor line information.
    pub fn is_relocated_by(&self, release: Option<Release>) -> bool {
        !self.func_info.is_empty()
            || !self.line_info.is_empty()
            || release.is_some_and(|it| releases::RECORDS_ALONE.holds_for(it))
    }

    fn add_info(&mut self, object: &Object<'_>, image: &Image) {
        for (number, function) in image.functions.iter().enumerate() {
            let Some(of) = object.programs().get(function.program) else { continue };
            let slot = |off: u32| {
                let within = u64::from(off).saturating_sub(of.offset) / INSN_LEN as u64;
                count(function.start).saturating_add(u32::try_from(within).unwrap_or(u32::MAX))
            };
            // What the entry does not have is not kept of the others either.
            if number == 0 || !self.func_info.is_empty() {
                self.func_info.extend(object.func_info(of).into_iter().map(|[off, ty]| [slot(off), ty]));
            }
            if number == 0 || !self.line_info.is_empty() {
                let lines = object.line_info(of).into_iter();
                self.line_info.extend(lines.map(|[off, file, line, place]| [slot(off), file, line, place]));
            }
        }
    }
}

/// Programs have far fewer than `u32::MAX` instructions: their sections are in memory, and a slot has 8 bytes.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
