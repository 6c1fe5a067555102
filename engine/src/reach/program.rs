//! An entry program of an object with what its instructions read, to be judged on many kernels.

use std::borrow::Cow;

use super::explore::Explorer;
use super::{Constant, Image, Patch, Question, Reached, STEPS_MAX, Symbol, Thresholds, Verifier, judge};
use crate::format::Endian;
use crate::format::btf_ext::RelocKind;
use crate::format::insn::{CALL, INSN_LEN, Insn, class};
use crate::object::{ExternKind, Object, Reference, Variable};
use crate::resolve::{Decision, Outcome};

/// The kfunc that ends a program from wherever it is called.
const THROW: &[u8] = b"bpf_throw";

/// An entry program, linked.
#[derive(Debug)]
pub struct Program<'o> {
    /// It with all functions that it calls.
    pub image: Image,
    /// Variables of the object, in any section of data.
    pub variables: Vec<Variable<'o>>,
    /// By slot: registers that may be read from there on.
    live: Vec<u16>,
    endian: Endian,
    constants: Vec<Constant<'o>>,
    is_kconfig: Vec<bool>,
    is_function: Vec<bool>,
    throws: Vec<bool>,
    /// The records in its functions, by number.
    records: Vec<Record>,
    /// Numbers of the externs that its instructions refer to, ascending.
    externs: Vec<usize>,
}

/// A record of a linked program.
#[derive(Clone, Copy, Debug)]
struct Record {
    number: usize,
    slot: usize,
    kind: Option<RelocKind>,
}

impl<'o> Program<'o> {
    /// Links entry program number `program` of an object.
    pub fn new(object: &Object<'o>, program: usize) -> Self {
        let image = Image::link(object, program);
        let record = |(number, slot): (usize, usize)| {
            let kind = object.relocs().get(number).and_then(|it| it.kind);
            Record { number, slot, kind }
        };
        let mut records: Vec<Record> = image.records().map(record).collect();
        records.sort_unstable_by_key(|it| it.number);
        let reference = |it: &super::Slot| match it.reference {
            Some(Reference::Extern(number)) => Some(number),
            _ => None,
        };
        let mut externs: Vec<usize> = image.slots.iter().filter_map(reference).collect();
        externs.sort_unstable();
        externs.dedup();
        let variables = object.variables();
        let is_kfunc = |it: &crate::object::Extern<'_>| it.kind == ExternKind::Kfunc;
        Self {
            constants: constants(object, &variables),
            variables,
            live: image.live_registers(),
            endian: object.endian(),
            is_kconfig: object.externs().iter().map(|it| it.kind == ExternKind::Kconfig).collect(),
            is_function: object.externs().iter().map(is_kfunc).collect(),
            throws: object.externs().iter().map(|it| is_kfunc(it) && it.name == THROW).collect(),
            image,
            records,
            externs,
        }
    }

    /// Numbers of the records in its functions, ascending.
    pub fn records(&self) -> impl Iterator<Item = usize> {
        self.records.iter().map(|it| it.number)
    }

    /// Numbers of the externs that its instructions refer to, ascending.
    pub fn externs(&self) -> &[usize] {
        &self.externs
    }

    /// Declares what a loader sets before it loads the programs: values of variables by name, or that they are not
    /// known.
    pub fn set_constants(&mut self, values: &[(Vec<u8>, Option<u64>)]) {
        for constant in &mut self.constants {
            let variable = constant.variable.and_then(|it| self.variables.get(it));
            let set = values.iter().rfind(|it| variable.is_some_and(|variable| variable.name == it.0));
            let Some((_, value)) = set else { continue };
            constant.is_set = true;
            constant.bytes = value.map(|value| {
                let mut bytes = value.to_le_bytes().to_vec();
                bytes.resize(usize::try_from(constant.len).unwrap_or(0).min(8), 0);
                if self.endian == Endian::Big {
                    bytes.reverse();
                }
                Cow::Owned(bytes)
            });
        }
    }

    /// What is taken for granted of a variable, in words.
    pub fn said_of_variable(&self, variable: usize) -> Option<String> {
        let name = String::from_utf8_lossy(self.variables.get(variable)?.name);
        let constant = self.constants.iter().find(|it| it.variable == Some(variable))?;
        let Some(bytes) = &constant.bytes else { return Some(format!("{name} in .rodata is not known")) };
        let add = |all: u64, byte: &u8| all << 8 | u64::from(*byte);
        let value = match (bytes.len(), self.endian) {
            (9.., _) => return Some(format!("{name} in .rodata is as in the object")),
            (_, Endian::Little) => bytes.iter().rev().fold(0, add),
            (_, Endian::Big) => bytes.iter().fold(0, add),
        };
        let whence = if constant.is_set { "as given" } else { "as in the object" };
        Some(format!("{name} in .rodata is {value}, {whence}"))
    }

    /// Appends to `bytes` what the paths of a program depend on of the outcome of a record: how much an access reads,
    /// and a value where that may steer a branch. Whether it is poisoned does not matter where no value is known anyway.
    pub fn write_key(object: &Object<'_>, record: usize, outcome: &Outcome, bytes: &mut Vec<u8>) {
        let Some(reloc) = object.relocs().get(record) else { return };
        let compiled = object.insn_bytes(reloc).first().copied();
        let is_access = compiled.is_none_or(|it| matches!(it & 7, class::LDX | class::ST | class::STX));
        match outcome {
            Outcome::Decided(decision) if is_access => {
                let patched = decision.insn.first().copied().filter(|_| !decision.poisoned);
                bytes.push(patched.or(compiled).unwrap_or(0));
            }
            _ if is_access => bytes.push(compiled.unwrap_or(0)),
            Outcome::Decided(decision) => match patch(reloc.kind, decision) {
                Patch::Exact => {
                    bytes.push(1);
                    bytes.extend(decision.new.unwrap_or(0).to_le_bytes());
                }
                Patch::NotZero => bytes.push(2),
                Patch::Any => bytes.push(3),
            },
            _ => bytes.push(0),
        }
    }

    /// Whether a poisoned instruction, or a call of something that may be missing, is in it.
    pub fn is_in_question(&self, outcomes: &[&Outcome], symbols: &[Symbol]) -> bool {
        let is_poisoned = |record: usize| matches!(outcomes.get(record), Some(Outcome::Decided(decision)) if decision.poisoned);
        self.records().any(is_poisoned)
            || self.image.slots.iter().any(|it| match it.reference {
                Some(Reference::Extern(number)) => {
                    it.insn.code == CALL && symbols.get(number) == Some(&Symbol::Missing)
                }
                _ => false,
            })
    }

    /// Which values of the configuration its paths tell apart, whatever its records and other symbols are.
    pub fn thresholds(&self, verifier: Verifier) -> Thresholds {
        let insns: Vec<Insn> = self.image.slots.iter().map(|it| it.insn).collect();
        let mut patches = vec![None; insns.len()];
        for &Record { number, slot, .. } in &self.records {
            if let Some(place) = patches.get_mut(slot) {
                *place = Some((number, Patch::Any));
            }
        }
        let any = |is_kconfig: &bool| if *is_kconfig { Symbol::Between(0, u64::MAX) } else { Symbol::Open };
        let symbols: Vec<Symbol> = self.is_kconfig.iter().map(any).collect();
        let question = self.question(&insns, &patches, &[], &symbols, verifier);
        Explorer::new(&question, 1).thresholds(STEPS_MAX)
    }

    fn question<'a>(
        &'a self,
        insns: &'a [Insn],
        records: &'a [Option<(usize, Patch)>],
        asked: &'a [usize],
        symbols: &'a [Symbol],
        verifier: Verifier,
    ) -> Question<'a> {
        Question {
            image: &self.image,
            insns,
            records,
            live: &self.live,
            asked,
            constants: &self.constants,
            symbols,
            is_function: &self.is_function,
            throws: &self.throws,
            endian: self.endian,
            verifier,
        }
    }

    /// Which of the records `asked` about the verifier gets to: numbers of those that are in the program, in the order
    /// of [`Reached::asked`], and the rest of the answer. The same wherever [`Self::write_key`] writes the same of the
    /// records and the other arguments are equal.
    ///
    /// `outcomes`: by record of the object. `symbols`: by extern of the object. `asked`: ascending.
    pub fn judge(
        &self,
        outcomes: &[&Outcome],
        symbols: &[Symbol],
        verifier: Verifier,
        asked: &[usize],
    ) -> (Vec<usize>, Reached) {
        let asked = |it: &&Record| asked.binary_search(&it.number).is_ok();
        let mut slots: Vec<(usize, usize)> =
            self.records.iter().filter(asked).map(|it| (it.slot, it.number)).collect();
        slots.sort_unstable();
        let (slots, records): (Vec<usize>, Vec<usize>) = slots.into_iter().unzip();
        (records, self.judge_slots(outcomes, symbols, verifier, &slots))
    }

    /// [`Self::judge`] of instructions by their slots, ascending, whether records are about them or not.
    pub fn judge_slots(
        &self,
        outcomes: &[&Outcome],
        symbols: &[Symbol],
        verifier: Verifier,
        slots: &[usize],
    ) -> Reached {
        let mut insns: Vec<Insn> = self.image.slots.iter().map(|it| it.insn).collect();
        let mut patches = vec![None; insns.len()];
        for &Record { number: record, slot, kind } in &self.records {
            let Some(Outcome::Decided(decision)) = outcomes.get(record) else { continue };
            let after = decision.insn.as_chunks::<INSN_LEN>().0.iter().filter(|_| !decision.poisoned);
            for (place, bytes) in insns.iter_mut().skip(slot).zip(after) {
                *place = Insn::decode(*bytes, self.endian);
            }
            if let Some(place) = patches.get_mut(slot) {
                *place = Some((record, patch(kind, decision)));
            }
        }
        judge(&self.question(&insns, &patches, slots, symbols, verifier))
    }
}

/// What of a record's value is known of all kernels that [`Program::write_key`] does not tell apart. Offsets and shifts
/// differ from kernel to kernel, and nobody compares them.
fn patch(kind: Option<RelocKind>, decision: &Decision) -> Patch {
    match kind {
        // What would stand there if it were mended.
        _ if decision.poisoned => Patch::Any,
        Some(RelocKind::FieldByteOffset | RelocKind::FieldLshiftU64 | RelocKind::FieldRshiftU64) => {
            Patch::Any
        }
        Some(RelocKind::TypeIdLocal | RelocKind::TypeIdTarget) if decision.new != Some(0) => Patch::NotZero,
        _ => Patch::Exact,
    }
}

/// Variables in frozen sections, and behind them those sections as wholes.
fn constants<'o>(object: &Object<'o>, variables: &[Variable<'o>]) -> Vec<Constant<'o>> {
    let sections = object.data_sections();
    let of_variable = |(number, it): (usize, &Variable<'o>)| {
        let section = sections.get(it.section).filter(|it| it.is_frozen)?;
        let start = usize::try_from(it.offset).ok()?;
        let bytes = section.bytes.get(start..)?.get(..usize::try_from(it.len).ok()?)?;
        Some(Constant {
            section: it.section,
            offset: it.offset,
            bytes: Some(Cow::Borrowed(bytes)),
            len: it.len,
            variable: Some(number),
            is_set: false,
        })
    };
    let of_section = |(number, it): (usize, &crate::object::DataSection<'o>)| {
        it.is_frozen.then_some(Constant {
            section: number,
            offset: 0,
            bytes: Some(Cow::Borrowed(it.bytes)),
            len: it.bytes.len() as u64,
            variable: None,
            is_set: false,
        })
    };
    let of_variables = variables.iter().enumerate().filter_map(of_variable);
    of_variables.chain(sections.iter().enumerate().filter_map(of_section)).collect()
}
