//! An entry program of an object with what its instructions read, to be judged on many kernels.

use super::{Constant, Image, Question, Reached, Symbol, Verifier, judge};
use crate::format::Endian;
use crate::format::insn::{CALL, INSN_LEN, Insn, class};
use crate::object::{ExternKind, Object, Reference, Variable};
use crate::resolve::Outcome;

/// The kfunc that ends a program from wherever it is called.
const THROW: &[u8] = b"bpf_throw";

/// An entry program, linked.
#[derive(Debug)]
pub struct Program<'o> {
    /// It with all functions that it calls.
    pub image: Image,
    /// Variables of the object, in any section of data.
    pub variables: Vec<Variable<'o>>,
    endian: Endian,
    constants: Vec<Constant<'o>>,
    is_function: Vec<bool>,
    throws: Vec<bool>,
    /// Numbers of the records in its functions, ascending, each with its slot.
    records: Vec<(usize, usize)>,
    /// Numbers of the externs that its instructions refer to, ascending.
    externs: Vec<usize>,
}

impl<'o> Program<'o> {
    /// Links entry program number `program` of an object.
    pub fn new(object: &Object<'o>, program: usize) -> Self {
        let image = Image::link(object, program);
        let mut records: Vec<(usize, usize)> = image.records().collect();
        records.sort_unstable();
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
            endian: object.endian(),
            is_function: object.externs().iter().map(is_kfunc).collect(),
            throws: object.externs().iter().map(|it| is_kfunc(it) && it.name == THROW).collect(),
            image,
            records,
            externs,
        }
    }

    /// Numbers of the records in its functions, ascending.
    pub fn records(&self) -> impl Iterator<Item = usize> {
        self.records.iter().map(|it| it.0)
    }

    /// Numbers of the externs that its instructions refer to, ascending.
    pub fn externs(&self) -> &[usize] {
        &self.externs
    }

    /// Declares what a loader sets before it loads the programs: the bytes of variable number `variable`, or that
    /// they are not known.
    pub fn set_constant(&mut self, variable: usize, bytes: Option<&'o [u8]>) {
        for constant in self.constants.iter_mut().filter(|it| it.variable == Some(variable)) {
            constant.bytes = bytes;
        }
    }

    /// Appends to `bytes` what the paths of a program depend on of the outcome of a record: its value where that may
    /// steer a branch, and whether it is poisoned.
    pub fn write_key(object: &Object<'_>, record: usize, outcome: &Outcome, bytes: &mut Vec<u8>) {
        let Outcome::Decided(decision) = outcome else {
            bytes.push(0);
            return;
        };
        bytes.push(1 + u8::from(decision.poisoned));
        let opcode = object.relocs().get(record).and_then(|it| object.insn_bytes(it).first().copied());
        let is_access = opcode.is_none_or(|it| matches!(it & 7, class::LDX | class::ST | class::STX));
        if !decision.poisoned && !is_access {
            bytes.extend(decision.new.unwrap_or(0).to_le_bytes());
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

    /// Which of the poisoned records the verifier gets to: numbers of the records, in the order of
    /// [`Reached::poisoned`], and the rest of the answer.
    ///
    /// `outcomes`: by record of the object. `symbols`: by extern of the object.
    pub fn judge(
        &self,
        outcomes: &[&Outcome],
        symbols: &[Symbol],
        verifier: Verifier,
    ) -> (Vec<usize>, Reached) {
        let mut insns: Vec<Insn> = self.image.slots.iter().map(|it| it.insn).collect();
        let mut record_of = vec![None; insns.len()];
        let mut poisoned = Vec::new();
        for &(record, slot) in &self.records {
            let Some(Outcome::Decided(decision)) = outcomes.get(record) else { continue };
            let after = decision.insn.as_chunks::<INSN_LEN>().0.iter();
            for (place, bytes) in insns.iter_mut().skip(slot).zip(after) {
                *place = Insn::decode(*bytes, self.endian);
            }
            if let Some(place) = record_of.get_mut(slot) {
                *place = Some(record);
            }
            if decision.poisoned {
                poisoned.push((slot, record));
            }
        }
        poisoned.sort_unstable();
        let (slots, records): (Vec<usize>, Vec<usize>) = poisoned.into_iter().unzip();
        let reached = judge(&Question {
            image: &self.image,
            insns: &insns,
            record_of: &record_of,
            poisoned: &slots,
            constants: &self.constants,
            symbols,
            is_function: &self.is_function,
            throws: &self.throws,
            endian: self.endian,
            verifier,
        });
        (records, reached)
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
            bytes: Some(bytes),
            len: it.len,
            variable: Some(number),
        })
    };
    let of_section = |(number, it): (usize, &crate::object::DataSection<'o>)| {
        it.is_frozen.then_some(Constant {
            section: number,
            offset: 0,
            bytes: Some(it.bytes),
            len: it.bytes.len() as u64,
            variable: None,
        })
    };
    let of_variables = variables.iter().enumerate().filter_map(of_variable);
    of_variables.chain(sections.iter().enumerate().filter_map(of_section)).collect()
}
