//! Which instructions of a program the verifier gets to, once the values of its relocations are known.
//!
//! A field that a kernel lacks behind `bpf_core_field_exists()` is how programs are meant to be written: the verifier
//! follows a branch whose condition it knows to one side only, and a poisoned instruction on the other side does no
//! harm. [`judge`] follows a linked program in the same way: known are constants, answers of relocations, constants in
//! `.rodata`, values of the kernel's configuration, weak symbols that are not there, and what follows from them in
//! registers and on the stack. A branch on anything else goes both ways. Paths are kept apart as the verifier keeps
//! them apart, as far as the work stays bounded; then they are joined, and what is reached only after that is not
//! proved to be.
//!
//! What is not known but fixed, like a variable that the loader sets, is *open*: what is reached only if it has one
//! value and not another is reached under that assumption.
//!
//! Never more precise than the verifier of the kernel's release ([`Verifier`]), or one would call safe what it refuses.
//! Less precise where it knows that pointers are not null: a guard that depends on that is taken to go both ways.
//!
//! Source: `do_check`, `check_cond_jmp_op`, `is_branch_taken`, `check_alu_op`, Linux; spec 9.2.

mod context;
mod explore;
mod image;
mod live;
mod program;
mod scalar;
#[cfg(test)]
mod scalar_tests;
mod state;
mod step;
mod thresholds;
mod verifier;

pub use context::{Access, ContextUse, context_uses};
pub use image::{Function, Image, Slot};
pub use program::Program;
pub use thresholds::Thresholds;
pub use verifier::{Feature, Features, Verifier};

use explore::Explorer;

use std::borrow::Cow;

use crate::format::Endian;
use crate::format::insn::Insn;

/// Steps that a program may take on paths of their own, and on joined ones.
const STEPS_MAX: usize = 200_000;
/// Steps on paths of their own for each slot, before joined ones are tried. Most of what is asked about is found in them.
const STEPS_FIRST: usize = 1;
/// States that are told apart at one instruction.
const STATES_MAX: usize = 32;

/// Something outside of the instructions that a value can depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The answer of a record: a number in [`Object::relocs`](crate::object::Object::relocs).
    Record(usize),
    /// A variable in a frozen section of data: a number in
    /// [`Object::variables`](crate::object::Object::variables).
    Variable(usize),
    /// A symbol of the kernel: a number in [`Object::externs`](crate::object::Object::externs).
    Extern(usize),
}

/// What is known of a symbol of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Symbol {
    /// It is there.
    Present,
    /// It is not there: its address is null, and a call of it is refused.
    Missing,
    /// It is a value, in the byte order of the object.
    Value(Vec<u8>),
    /// It is some number from the first to the second.
    Between(u64, u64),
    /// Nothing.
    Open,
}

/// What is said of a value that a record patched in. What it is exactly on one kernel or the other does not matter where
/// no branch depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch {
    /// It is what the instruction holds.
    Exact,
    /// It is not 0.
    NotZero,
    /// It may be anything.
    Any,
}

/// What the instructions read of a frozen section.
#[derive(Clone, Debug)]
pub struct Constant<'a> {
    /// Number of its section.
    pub section: usize,
    /// Where it starts there, in **bytes**.
    pub offset: u64,
    /// Its bytes; `None` if they are open.
    pub bytes: Option<Cow<'a, [u8]>>,
    /// Its length in **bytes**.
    pub len: u64,
    /// Number of the variable, if it is one.
    pub variable: Option<usize>,
    /// Whether the loader was said to set it.
    pub is_set: bool,
}

/// A program on one kernel.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The linked program.
    pub image: &'a Image,
    /// Its instructions, as many as the image has slots: after relocation, but for those that it poisoned, which are as
    /// they were compiled.
    pub insns: &'a [Insn],
    /// By slot: the record that its value is from, and what is said of it.
    pub records: &'a [Option<(usize, Patch)>],
    /// By slot: registers that may be read from there on, a bit for each.
    pub live: &'a [u16],
    /// Slots that are asked about, ascending. Where poison is among them the verifier stops; whoever mends that wants
    /// to know what it would meet next, so paths go on there.
    pub asked: &'a [usize],
    /// Constants in frozen sections.
    pub constants: &'a [Constant<'a>],
    /// By number of the extern: what is known of it.
    pub symbols: &'a [Symbol],
    /// By number of the extern: whether its address is that of a function.
    pub is_function: &'a [bool],
    /// By number of the extern: whether a call of it never returns.
    pub throws: &'a [bool],
    /// Byte order of the program.
    pub endian: Endian,
    /// How the kernel's verifier looks at it.
    pub verifier: Verifier,
}

/// Whether the verifier gets to an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// No path leads there. These branches, with what decides them, keep it from there.
    Dead(Vec<Guard>),
    /// A path leads there.
    Live(Path),
    /// Paths lead there only under assumptions about what is open.
    Conditional(Path, Vec<Source>),
}

/// A branch that goes one way only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The slot of the branch.
    pub slot: usize,
    /// What its condition depends on.
    pub sources: Vec<Source>,
}

/// How the verifier gets to an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Branches on the way.
    pub steps: Vec<Turn>,
    /// Whether the path is one that the verifier takes, and not just one that could not be ruled out within the
    /// bounds of the work.
    pub is_proved: bool,
    /// The function that the verifier starts at with unknown arguments: a number in [`Image::functions`].
    pub start: usize,
    /// Only kernels before 6.8 start there, and the release is not known.
    pub only_before_6_8: bool,
}

/// A branch on a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The slot of the branch.
    pub slot: usize,
    /// Whether it jumps.
    pub jumps: bool,
    /// Whether it could not go the other way.
    pub is_decided: bool,
    /// What its condition depends on.
    pub sources: Vec<Source>,
}

/// What became of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// By slot that was asked about: whether it is reached.
    pub asked: Vec<Reach>,
    /// Calls of symbols that are not there, with whether they are reached: slot and number of the extern.
    pub calls: Vec<(usize, usize, Reach)>,
    /// Features of the verifier that made a difference: where others agree on these, the answers are the same.
    pub features: Features,
}

/// Follows a program, and says which of the instructions asked about are reached. The answer for one does not depend on
/// which others are asked about.
///
/// Most are, and are found soon where paths are kept apart. If some are not, paths are joined wherever they meet, which
/// takes little and proves most of those dead. Only what is left then is looked for to the end.
pub fn judge(question: &Question<'_>) -> Reached {
    let mut apart = Explorer::new(question, STATES_MAX);
    apart.want_all();
    apart.start();
    apart.run(STEPS_FIRST * question.insns.len());
    if apart.has_found_all() {
        return apart.result(&apart);
    }
    let mut joined = Explorer::new(question, 1);
    joined.start();
    joined.run(STEPS_MAX);
    apart.want_only(&joined);
    apart.run(STEPS_MAX);
    apart.result(&joined)
}
