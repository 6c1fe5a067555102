//! Which registers an instruction and what follows it may read: differences in others do not keep states apart.

use smallvec::SmallVec;

use super::image::Image;
use crate::format::insn::{CALL, Insn, class};

/// Opcode of the return from a function.
pub(super) const EXIT: u8 = 0x95;
/// Class of jumps that compare 64 bits, and of those that compare 32.
pub(super) const JMP: u8 = 5;
pub(super) const JMP32: u8 = 6;
/// Upper four bits of an unconditional jump, and of one that the kernel may take.
pub(super) const JUMP_ALWAYS: u8 = 0x00;
pub(super) const JUMP_MAYBE: u8 = 0xe0;

/// Where an instruction can go on within its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// The next slot, if it can go on there.
    pub(super) falls: Option<usize>,
    /// Where it jumps to, if it is a jump.
    pub(super) jumps: Option<usize>,
}

/// Where the instruction of a slot can go on. `None` if that cannot be told: a jump to an address in a register.
pub(super) fn next(slot: usize, insn: Insn) -> Option<Next> {
    let to = |slots_on: i64| slot.checked_add_signed(isize::try_from(slots_on).ok()?.checked_add(1)?);
    let falls = Some(slot + 1);
    Some(match (insn.class(), insn.code & 0xf0) {
        _ if insn.code == EXIT => Next { falls: None, jumps: None },
        _ if insn.code == CALL => Next { falls, jumps: None },
        (JMP, JUMP_ALWAYS) if insn.code & 0x08 != 0 => return None,
        (JMP, JUMP_ALWAYS) => Next { falls: None, jumps: to(insn.off.into()) },
        (JMP32, JUMP_ALWAYS) => Next { falls: None, jumps: to(insn.imm.into()) },
        (JMP | JMP32, _) => Next { falls, jumps: to(insn.off.into()) },
        _ if insn.is_ldimm64() => Next { falls: Some(slot + 2), jumps: None },
        _ => Next { falls, jumps: None },
    })
}

/// By slot: the registers that may be read from there on within the function, a bit for each.
///
/// Of the instructions as they stand in the file: relocation changes no registers, and poison is where paths end.
pub(super) fn registers(image: &Image) -> Vec<u16> {
    let insns: Vec<Insn> = image.slots.iter().map(|it| it.insn).collect();
    let mut live = vec![0_u16; insns.len()];
    // Slots that jump to a slot.
    let mut jumps: Vec<(usize, usize)> = Vec::new();
    for (slot, insn) in insns.iter().enumerate() {
        jumps.extend(next(slot, *insn).and_then(|it| it.jumps).map(|to| (to, slot)));
    }
    jumps.sort_unstable();
    let mut before: SmallVec<[usize; 8]> = SmallVec::new();
    for function in &image.functions {
        let range = function.start..function.end;
        // Registers of a slot only become more, so that each slot comes up a few times.
        let mut pending: Vec<usize> = range.clone().collect();
        while let Some(slot) = pending.pop() {
            let Some(&insn) = insns.get(slot) else { continue };
            let after = match next(slot, insn) {
                Some(next) => [next.falls, next.jumps]
                    .into_iter()
                    .flatten()
                    .filter(|it| range.contains(it))
                    .fold(0, |all, it| all | live.get(it).copied().unwrap_or(0)),
                None => u16::MAX,
            };
            let (reads, writes) = accesses(insn);
            let registers = after & !writes | reads;
            let Some(known) = live.get_mut(slot).filter(|it| **it != registers) else { continue };
            *known = registers;
            before.clear();
            // Of two slots before it, one may be the second half of a wide load.
            before.extend(slot.checked_sub(1));
            before.extend(slot.checked_sub(2).filter(|it| insns.get(*it).is_some_and(|it| it.is_ldimm64())));
            let from = jumps.partition_point(|it| it.0 < slot);
            before.extend(
                jumps.get(from..).unwrap_or_default().iter().take_while(|it| it.0 == slot).map(|it| it.1),
            );
            pending.extend(before.iter().copied().filter(|it| range.contains(it)));
        }
    }
    live
}

/// Registers that an instruction reads, and those that it writes.
fn accesses(insn: Insn) -> (u16, u16) {
    let bit = |register: u8| 1_u16.checked_shl(register.into()).unwrap_or(0);
    let (dst, src) = (bit(insn.dst), bit(insn.src));
    let operand = if insn.code & 0x08 == 0 { 0 } else { src };
    // r0 to r5 are gone after a call, r1 to r5 are its arguments.
    const CLOBBERED: u16 = 0x3f;
    match insn.class() {
        // A move.
        class::ALU | class::ALU64 if insn.code & 0xf0 == 0xb0 => (operand, dst),
        class::ALU | class::ALU64 if matches!(insn.code & 0xf0, 0x80 | 0xd0) => (dst, dst),
        class::ALU | class::ALU64 => (dst | operand, dst),
        class::LD if insn.is_ldimm64() => (0, dst),
        class::LD => (src | bit(6), CLOBBERED),
        class::LDX => (src, dst),
        class::ST => (dst, 0),
        // An atomic operation may read and write r0 and what it has in the source register.
        class::STX => (dst | src | if insn.code & 0xe0 == 0xc0 { bit(0) } else { 0 }, 0),
        _ if insn.code == CALL => (CLOBBERED & !bit(0), CLOBBERED),
        _ if insn.code == EXIT => (bit(0), 0),
        _ if matches!(insn.code & 0xf0, JUMP_ALWAYS | JUMP_MAYBE) => (operand, 0),
        _ => (dst | operand, 0),
    }
}
