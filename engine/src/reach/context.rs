//! What a program reads off its context, and through the pointers that it finds there.
//!
//! Tracing programs get the arguments of what they attach to as an array of 8-byte places, whose address is in the first
//! register of arguments. Followed are copies of that register and of the arguments, into functions that are called too;
//! a copy on the stack is not seen.

use super::image::Image;
use crate::format::insn::{CALL, Insn, class};
use crate::object::Object;

/// Something that a program does with its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextUse {
    /// The slot of the instruction in the linked program.
    pub slot: usize,
    /// Where the argument is, in **bytes** from the start of the context.
    pub argument: u32,
    /// What is done with it.
    pub access: Access,
}

/// What a program does with an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It loads it.
    Itself,
    /// It adds the offset of a field to it, or loads that field: the number of the record.
    Field(usize),
    /// It loads from behind it, so many bytes from there, without a record.
    Bare(i16, u32),
}

/// Classes of jumps and calls.
const JMP: u8 = 5;
const JMP32: u8 = 6;
/// Registers of BPF, the frame pointer last.
const REGISTERS: usize = 11;
/// Arguments of a function in registers, which a call leaves undefined, and its result.
const CALLER_SAVED: usize = 6;

/// What is known of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Other,
    Context,
    /// An argument, by where it is in the context.
    Argument(u32),
    /// The offset of a field, by its record.
    Offset(usize),
}

type Registers = [Held; REGISTERS];

/// What entry program number `program` of an object does with its context, in the order of the slots.
pub fn context_uses(object: &Object<'_>, program: usize) -> Vec<ContextUse> {
    uses(&Image::link(object, program))
}

fn uses(image: &Image) -> Vec<ContextUse> {
    let at = |slot: usize| image.slots.get(slot).map(|it| it.insn);
    let mut records = vec![None; image.slots.len()];
    for (record, slot) in image.records() {
        if let Some(place) = records.get_mut(slot) {
            *place = Some(record);
        }
    }
    let record_of = |slot: usize| records.get(slot).copied().flatten();
    // By slot: what registers hold on every way there that was found so far. It only gets less, so that this comes to an
    // end.
    let mut known: Vec<Option<Registers>> = vec![None; image.slots.len()];
    let mut first = [Held::Other; REGISTERS];
    set(&mut first, 1, Held::Context);
    let mut pending = vec![(0, first)];
    while let Some((slot, coming)) = pending.pop() {
        let (Some(place), Some(insn)) = (known.get_mut(slot), at(slot)) else { continue };
        let joined = place.map_or(coming, |known| join(known, coming));
        if *place == Some(joined) {
            continue;
        }
        *place = Some(joined);
        let reference = image.slots.get(slot).and_then(|it| it.reference).filter(|_| insn.code == CALL);
        if let Some(callee) = image.callee(reference).and_then(|it| image.functions.get(it)) {
            let mut passed = joined;
            passed.iter_mut().skip(CALLER_SAVED).for_each(|it| *it = Held::Other);
            set(&mut passed, 0, Held::Other);
            pending.push((callee.start, passed));
        }
        let mut after = joined;
        step(insn, record_of(slot), &mut after);
        pending.extend(next(slot, insn).into_iter().flatten().map(|it| (it, after)));
    }
    let of_slot = |(slot, known): (usize, &Option<Registers>)| {
        let (argument, access) = used(at(slot)?, record_of(slot), known.as_ref()?)?;
        Some(ContextUse { slot, argument, access })
    };
    known.iter().enumerate().filter_map(of_slot).collect()
}

fn get(registers: &Registers, register: u8) -> Held {
    registers.get(usize::from(register)).copied().unwrap_or(Held::Other)
}

fn set(registers: &mut Registers, register: u8, held: Held) {
    if let Some(it) = registers.get_mut(usize::from(register)) {
        *it = held;
    }
}

fn join(mut known: Registers, coming: Registers) -> Registers {
    for (known, coming) in known.iter_mut().zip(coming) {
        if *known != coming {
            *known = Held::Other;
        }
    }
    known
}

/// Opcode bits of an addition, and of a register in place of an immediate.
const ADD64: u8 = 0x07;
const BY_REGISTER: u8 = 0x08;

/// What an instruction does with an argument.
fn used(insn: Insn, record: Option<usize>, before: &Registers) -> Option<(u32, Access)> {
    let source = get(before, insn.src);
    match (insn.class(), source, record) {
        (class::LDX, Held::Context, _) => Some((u32::try_from(insn.off).ok()?, Access::Itself)),
        (class::LDX, Held::Argument(argument), Some(record)) => Some((argument, Access::Field(record))),
        (class::LDX, Held::Argument(argument), None) => {
            Some((argument, Access::Bare(insn.off, insn.access_size())))
        }
        _ if insn.code == ADD64 | BY_REGISTER => match (get(before, insn.dst), source) {
            (Held::Argument(argument), Held::Offset(record))
            | (Held::Offset(record), Held::Argument(argument)) => Some((argument, Access::Field(record))),
            _ => None,
        },
        _ => match (insn.code, get(before, insn.dst), record) {
            (ADD64, Held::Argument(argument), Some(record)) => Some((argument, Access::Field(record))),
            _ => None,
        },
    }
}

/// What registers hold behind an instruction.
fn step(insn: Insn, record: Option<usize>, registers: &mut Registers) {
    /// `mov`, 64 bits wide, of an immediate.
    const MOV64: u8 = 0xb7;
    /// Mode of atomic stores, which may load too.
    const ATOMIC: u8 = 0xc0;
    match insn.class() {
        class::ALU | class::ALU64 => {
            let held = match (insn.code, record) {
                (code, _) if code == MOV64 | BY_REGISTER && insn.off == 0 => get(registers, insn.src),
                (MOV64, Some(record)) => Held::Offset(record),
                _ => Held::Other,
            };
            set(registers, insn.dst, held);
        }
        class::LDX => {
            let held = match (get(registers, insn.src), u32::try_from(insn.off)) {
                (Held::Context, Ok(offset)) if insn.access_size() == 8 => Held::Argument(offset),
                _ => Held::Other,
            };
            set(registers, insn.dst, held);
        }
        class::LD if insn.is_ldimm64() => set(registers, insn.dst, Held::Other),
        class::STX if insn.code & 0xe0 == ATOMIC => {
            set(registers, insn.src, Held::Other);
            set(registers, 0, Held::Other);
        }
        class::ST | class::STX => {}
        // Loads of packets are calls.
        kind if kind == class::LD || insn.code & 0xf0 == 0x80 => {
            registers.iter_mut().take(CALLER_SAVED).for_each(|it| *it = Held::Other);
        }
        _ => {}
    }
}

/// The slots that may come next.
fn next(slot: usize, insn: Insn) -> [Option<usize>; 2] {
    let following = slot.checked_add(if insn.is_ldimm64() { 2 } else { 1 });
    let is_jump = matches!(insn.class(), JMP | JMP32);
    let jump = |by: i64| {
        let target = i64::try_from(slot).ok()?.checked_add(1)?.checked_add(by)?;
        usize::try_from(target).ok()
    };
    match insn.code & 0xf0 {
        _ if !is_jump => [following, None],
        // `ja`, and `gotol` in the class of 32 bits.
        0x00 if insn.class() == JMP32 => [jump(insn.imm.into()), None],
        0x00 => [jump(insn.off.into()), None],
        0x80 => [following, None],
        0x90 => [None, None],
        _ => [following, jump(insn.off.into())],
    }
}

#[cfg(test)]
mod tests {
    use super::super::image::{Function, Slot};
    use super::*;

    const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
        Insn { code, dst, src, off, imm }
    }

    const EXIT: Insn = insn(0x95, 0, 0, 0, 0);

    fn check(insns: &[Insn], expected: &[(usize, u32)]) {
        let slots = insns.iter().map(|&insn| Slot { insn, reference: None, function: 0, offset: 0 });
        let entry = Function { program: 0, start: 0, end: insns.len(), is_global: true };
        let image = Image::of(slots.collect(), vec![entry]);
        let loads = uses(&image).into_iter().filter(|it| it.access == Access::Itself);
        let found: Vec<_> = loads.map(|it| (it.slot, it.argument)).collect();
        assert_eq!(found, expected);
    }

    /// Check that copies count, and that a register is the context no more behind a call or a load into it.
    #[test]
    fn copies_are_followed_until_they_are_overwritten() {
        check(
            &[
                insn(0xbf, 6, 1, 0, 0),
                insn(0x79, 1, 1, 8, 0),
                insn(0x79, 2, 1, 8, 0),
                insn(0x85, 0, 0, 0, 14),
                insn(0x79, 3, 6, 16, 0),
                insn(0x79, 3, 1, 24, 0),
                EXIT,
            ],
            &[(1, 8), (4, 16)],
        );
    }

    /// Check that a register counts where it is the context on every way.
    #[test]
    fn ways_are_joined() {
        check(
            &[
                insn(0xbf, 6, 1, 0, 0),
                insn(0x15, 2, 0, 1, 0),
                insn(0xb7, 6, 0, 0, 0),
                insn(0x79, 3, 6, 0, 0),
                insn(0x79, 3, 1, 8, 0),
                insn(0x05, 0, 0, -3, 0),
                EXIT,
            ],
            &[(4, 8)],
        );
    }

    /// Check that broken jumps end nothing but their way.
    #[test]
    fn jumps_out_of_the_program_are_ways_to_nowhere() {
        check(&[insn(0x15, 2, 0, -9, 0), insn(0x05, 0, 0, 0x7fff, 0)], &[]);
        check(&[insn(0x79, 3, 12, 0, 0)], &[]);
    }
}
