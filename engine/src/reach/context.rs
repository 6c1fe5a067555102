//! What a program reads off its context.
//!
//! Tracing programs get the arguments of what they attach to as an array of 8-byte places, whose address is in register
//! 1. Followed are copies of that register, into functions that are called too; a copy on the stack is not seen.

use super::image::Image;
use crate::format::insn::{CALL, Insn, class};
use crate::object::Object;

/// A load off the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextRead {
    /// The slot of the instruction in the linked program.
    pub slot: usize,
    /// Where it reads, in **bytes** from the start of the context.
    pub offset: u32,
}

/// Classes of jumps and calls.
const JMP: u8 = 5;
const JMP32: u8 = 6;

/// Registers that hold the context, a bit for each.
type Holders = u16;

/// The first argument, and all of them.
const IN_FIRST: Holders = 0b10;
const ARGUMENTS: Holders = 0b11_1110;
/// Arguments of a function in registers, which a call leaves undefined, and its result.
const CALLER_SAVED: Holders = 0b11_1111;

/// Loads off the context in entry program number `program` of an object, in the order of their slots.
pub fn context_reads(object: &Object<'_>, program: usize) -> Vec<ContextRead> {
    reads(&Image::link(object, program))
}

fn reads(image: &Image) -> Vec<ContextRead> {
    let at = |slot: usize| image.slots.get(slot).map(|it| it.insn);
    // By slot: the registers that hold it on every way there that was found so far. They only get fewer, so that this
    // comes to an end.
    let mut holders: Vec<Option<Holders>> = vec![None; image.slots.len()];
    let mut pending = vec![(0, IN_FIRST)];
    while let Some((slot, coming)) = pending.pop() {
        let (Some(place), Some(insn)) = (holders.get_mut(slot), at(slot)) else { continue };
        let joined = place.map_or(coming, |known| known & coming);
        if *place == Some(joined) {
            continue;
        }
        *place = Some(joined);
        let reference = image.slots.get(slot).and_then(|it| it.reference).filter(|_| insn.code == CALL);
        if let Some(callee) = image.callee(reference).and_then(|it| image.functions.get(it)) {
            pending.push((callee.start, joined & ARGUMENTS));
        }
        let after = step(insn, joined);
        pending.extend(next(slot, insn).into_iter().flatten().map(|it| (it, after)));
    }
    let of_slot = |(slot, holders): (usize, &Option<Holders>)| {
        let insn = at(slot)?;
        let is_read = insn.class() == class::LDX && holds((*holders)?, insn.src);
        let offset = u32::try_from(insn.off).ok().filter(|_| is_read)?;
        Some(ContextRead { slot, offset })
    };
    holders.iter().enumerate().filter_map(of_slot).collect()
}

fn holds(holders: Holders, register: u8) -> bool {
    holders & bit(register) != 0
}

fn bit(register: u8) -> Holders {
    1_u16.checked_shl(register.into()).unwrap_or(0)
}

/// What holds the context behind an instruction.
fn step(insn: Insn, before: Holders) -> Holders {
    /// `mov` of a register, 64 bits wide.
    const MOV64: u8 = 0xbf;
    /// Mode of atomic stores, which may load too.
    const ATOMIC: u8 = 0xc0;
    match insn.class() {
        class::ALU64 if insn.code == MOV64 && insn.off == 0 && holds(before, insn.src) => {
            before | bit(insn.dst)
        }
        class::ALU | class::ALU64 | class::LDX => before & !bit(insn.dst),
        class::LD if insn.is_ldimm64() => before & !bit(insn.dst),
        // Loads of packets are calls.
        class::LD => before & !CALLER_SAVED,
        class::STX if insn.code & 0xe0 == ATOMIC => before & !bit(insn.src) & !bit(0),
        class::ST | class::STX => before,
        _ if insn.code & 0xf0 == 0x80 => before & !CALLER_SAVED,
        _ => before,
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
        let found: Vec<_> = reads(&image).into_iter().map(|it| (it.slot, it.offset)).collect();
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
