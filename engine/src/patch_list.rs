//! What relocation changes, as a list that any loader can apply to instructions that it has in memory.
//!
//! A relocated file is for loaders that take files. Others have their own representation of instructions, and need
//! to know only which field of which instruction gets which value. The list of a program is made from the same
//! [`Patch`] as the file is, and gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::Endian;
use crate::format::insn::{INSN_LEN, Insn};
use crate::object::Object;
use crate::relocate::Patch;

/// The list of one function: an entry program or a subprogram.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PatchList {
    /// Number of the function in [`Object::programs`].
    pub program: usize,
    /// Where its first instruction is in the object's file, in **bytes**.
    pub file_offset: usize,
    /// What changes, by instruction, and of one by field. Empty of a program that is left as it was.
    pub edits: Vec<Edit>,
}

/// One field of one instruction gets a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edit {
    /// Number of the slot of 8 bytes, from the function's first; an `ldimm64` has the number of its first.
    pub insn: usize,
    /// What of it changes.
    pub field: Field,
    /// What it becomes, cut to the field's width and without its sign.
    pub value: u64,
}

/// A field of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// The opcode, 8 bits: a load or store gets another width.
    Code,
    /// The offset, 16 bits.
    Off,
    /// The immediate, 32 bits.
    Imm,
    /// The immediate of an `ldimm64`, 64 bits: the low half is in its first slot, the high half in its second.
    Imm64,
    /// All of the instruction, both slots of an `ldimm64`: each becomes a call without registers and offset, whose
    /// immediate is the value.
    Poison,
}

impl Field {
    /// The name in outputs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Off => "off",
            Self::Imm => "imm",
            Self::Imm64 => "imm64",
            Self::Poison => "poison",
        }
    }
}

/// The lists of all functions of an object, by their numbers.
///
/// `None` if the changes are such that fields cannot tell them: several records write halves of one instruction. No
/// compiler makes such records.
pub fn lists(object: &Object<'_>, patch: &Patch) -> Option<Vec<PatchList>> {
    // Where records found instructions of two slots, by function.
    let mut wide = vec![Vec::new(); object.programs().len()];
    for reloc in object.relocs().iter().filter(|it| object.insn_bytes(it).len() > INSN_LEN) {
        let Some(number) = reloc.program else { continue };
        let within = u64::from(reloc.insn_off).checked_sub(object.programs().get(number)?.offset)?;
        wide.get_mut(number)?.push(usize::try_from(within / INSN_LEN as u64).ok()?);
    }
    let functions = object.programs().iter().zip(&wide).enumerate();
    functions
        .map(|(program, (function, wide))| {
            let before = object.slots(function).unwrap_or_default();
            let file_offset = object.place_in_file(function, function.offset)?;
            let changes = changes(patch, file_offset, before.len());
            let edits =
                if changes.is_empty() { Vec::new() } else { edits(object.endian(), before, &changes, wide)? };
            Some(PatchList { program, file_offset, edits })
        })
        .collect()
}

/// Slots of a function that change, by their numbers.
fn changes(patch: &Patch, file_offset: usize, slots: usize) -> BTreeMap<usize, [u8; INSN_LEN]> {
    let all = patch.slots();
    let from = all.partition_point(|(at, _)| *at < file_offset);
    let behind = file_offset.saturating_add(slots.saturating_mul(INSN_LEN));
    let those = all.get(from..).unwrap_or_default().iter().take_while(|(at, _)| *at < behind);
    those.map(|(at, bytes)| ((at - file_offset) / INSN_LEN, *bytes)).collect()
}

/// How to come from the instructions `before` to those with `changes`. `wide`: first slots of instructions of two.
fn edits(
    endian: Endian,
    before: &[[u8; INSN_LEN]],
    changes: &BTreeMap<usize, [u8; INSN_LEN]>,
    wide: &[usize],
) -> Option<Vec<Edit>> {
    let old = |slot: usize| before.get(slot).map(|it| Insn::decode(*it, endian));
    let new =
        |slot: usize| changes.get(&slot).map_or_else(|| old(slot), |it| Some(Insn::decode(*it, endian)));
    let mut edits = Vec::new();
    let mut rest: BTreeSet<usize> = changes.keys().copied().collect();
    for &slot in wide {
        let is_changed = rest.remove(&slot) | rest.remove(&(slot + 1));
        if !is_changed {
            continue;
        }
        let (first, second) = (new(slot)?, new(slot + 1)?);
        if (first, second) == (Insn::POISON, Insn::POISON) {
            edits.push(Edit::poison(slot));
        } else {
            let value = u64::from(second.imm.cast_unsigned()) << 32 | u64::from(first.imm.cast_unsigned());
            edits.push(Edit { insn: slot, field: Field::Imm64, value });
        }
    }
    for slot in rest {
        let (old, new) = (old(slot)?, new(slot)?);
        if new == Insn::POISON {
            edits.push(Edit::poison(slot));
            continue;
        }
        let mut push = |field, value| edits.push(Edit { insn: slot, field, value });
        if new.code != old.code {
            push(Field::Code, new.code.into());
        }
        if new.off != old.off {
            push(Field::Off, new.off.cast_unsigned().into());
        }
        if new.imm != old.imm {
            push(Field::Imm, new.imm.cast_unsigned().into());
        }
    }
    edits.sort_unstable();
    // Records that share slots can come to what no list of fields gives.
    let mut after = before.as_flattened().to_vec();
    apply(&mut after, endian, &edits)?;
    let is_same = (0..before.len()).all(|slot| {
        let expected = changes.get(&slot).or_else(|| before.get(slot));
        after.as_chunks::<INSN_LEN>().0.get(slot) == expected
    });
    is_same.then_some(edits)
}

impl Edit {
    fn poison(slot: usize) -> Self {
        let value = Insn::POISON.imm.cast_unsigned().into();
        Self { insn: slot, field: Field::Poison, value }
    }
}

/// Applies a list to the instructions of its function. `None` if one of them is not there, or a value does not fit;
/// then some may be changed already.
pub fn apply(insns: &mut [u8], endian: Endian, edits: &[Edit]) -> Option<()> {
    let slots = insns.as_chunks_mut::<INSN_LEN>().0;
    for edit in edits {
        let slot = slots.get_mut(edit.insn)?;
        let mut insn = Insn::decode(*slot, endian);
        // The high half of what takes two slots.
        let mut second = None;
        match edit.field {
            Field::Code => insn.code = u8::try_from(edit.value).ok()?,
            Field::Off => insn.off = u16::try_from(edit.value).ok()?.cast_signed(),
            Field::Imm => insn.imm = u32::try_from(edit.value).ok()?.cast_signed(),
            Field::Imm64 => {
                insn.imm = u32::try_from(edit.value & u64::from(u32::MAX)).ok()?.cast_signed();
                second = Some(u32::try_from(edit.value >> 32).ok()?.cast_signed());
            }
            Field::Poison => {
                let imm = u32::try_from(edit.value).ok()?.cast_signed();
                let poison = Insn { imm, ..Insn::POISON };
                if insn.is_ldimm64() {
                    *slots.get_mut(edit.insn + 1)? = poison.encode(endian);
                }
                *slots.get_mut(edit.insn)? = poison.encode(endian);
                continue;
            }
        }
        *slot = insn.encode(endian);
        if let Some(imm) = second {
            let slot = slots.get_mut(edit.insn + 1)?;
            let high = Insn::decode(*slot, endian);
            *slot = Insn { imm, ..high }.encode(endian);
        }
    }
    Some(())
}
