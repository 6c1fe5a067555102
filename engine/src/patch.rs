//! A decided relocation to instruction bytes.
//!
//! Source: `bpf_core_patch_insn`, libbpf of July 2026; spec section 9. Poison comes before any look at the
//! instruction's class, as there; some kernels have it the other way round. `ComputedRelocation::apply`, aya-obj, which
//! checks less; `COREFixup.Apply`, cilium/ebpf.

use crate::dialect::{Patching, Rules};
use crate::error::ResolveError;
use crate::format::insn::{Insn, class};
use crate::query::LocalValue;
use crate::value::Value;

/// What is to become of an instruction.
#[derive(Clone, Copy, Debug)]
pub struct Edit {
    /// What it should hold now.
    pub local: LocalValue,
    /// What it is to hold; `None` poisons it.
    pub target: Option<Value>,
}

impl Edit {
    /// Whether the field changes in a way that no change of the access width can follow. It matters only
    /// to loads and stores.
    pub fn resize_fails(&self) -> bool {
        self.target.is_some_and(|target| {
            target.size != self.local.value.size && !self.local.value.width.adjusts_to(target.width)
        })
    }

    fn cut_to_16_bits(self) -> Self {
        let value = Value { value: self.local.value.value & 0xffff, ..self.local.value };
        Self { local: LocalValue { value, ..self.local }, ..self }
    }
}

/// An instruction after patching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patched {
    /// The slot of the record.
    pub first: Insn,
    /// The second slot of an `ldimm64`, else whatever followed, untouched.
    pub second: Option<Insn>,
    /// Whether it was poisoned, on request or because the access width cannot be adjusted.
    pub poisoned: bool,
    /// Whether a load or store got another width.
    pub resized: bool,
}

/// Patches the instruction in `first`; `second` is the next slot of the same program, if there is one.
///
/// # Errors
/// What the loader refuses to patch: the load ends, the instruction stays as it was.
pub fn patch_insn(
    rules: &Rules,
    first: Insn,
    second: Option<Insn>,
    edit: &Edit,
) -> Result<Patched, ResolveError> {
    // HARDEN: libbpf writes past the end of the program.
    if first.is_ldimm64() && second.is_none() {
        return Err(ResolveError::InsnUnsupported { code: first.code });
    }
    let Some(target) = edit.target else {
        if rules.class_before_poison && !is_relocatable(first, second) {
            return Err(ResolveError::InsnUnsupported { code: first.code });
        }
        return Ok(poison(rules, first, second));
    };
    let new = target.value;
    let mut out = Patched { first, second, poisoned: false, resized: false };
    match first.class() {
        class::ALU | class::ALU64 => {
            // The operand has to be the immediate.
            let is_immediate = match rules.patching {
                Patching::Checked => first.code & 0x08 == 0,
                Patching::EbpfGo => {
                    let is_swap = first.class() == class::ALU && first.code & 0xf0 == 0xd0;
                    first.code & 0x08 == 0 && !is_swap
                }
                // QUIRK: aya looks at the register instead, and takes r0 for an immediate.
                Patching::Aya => first.src == 0,
            };
            if !is_immediate {
                return Err(ResolveError::InsnUnsupported { code: first.code });
            }
            check_value(sign_extended(rules, first.imm.into()), edit)?;
            // Negative values too, which are large numbers there.
            if rules.patching == Patching::EbpfGo && i32::try_from(new).is_err() {
                return Err(ResolveError::ImmediateOverflow { value: new });
            }
            // QUIRK: cut to 32 bits without a check.
            out.first.imm = low32(new);
        }
        class::LDX | class::ST | class::STX => {
            let held = sign_extended(rules, first.off.into());
            match rules.patching {
                // QUIRK: it cuts the value to 16 bits before it compares.
                Patching::EbpfGo => check_value(held & 0xffff, &edit.cut_to_16_bits())?,
                _ => check_value(held, edit)?,
            }
            let off = i16::try_from(new).map_err(|_| ResolveError::OffsetOverflow { value: new })?;
            let local_size = edit.local.value.size;
            let mismatch = ResolveError::WidthMismatch {
                access: first.access_size(),
                local: local_size,
                target: target.size,
            };
            if edit.resize_fails() {
                return match rules.patching {
                    Patching::Aya => Err(mismatch),
                    _ => Ok(poison(rules, first, second)),
                };
            }
            out.first.off = off;
            if target.size != local_size {
                // QUIRK: aya changes the width of whatever access it is.
                if first.access_size() != local_size && rules.patching != Patching::Aya {
                    return Err(mismatch);
                }
                out.first = out.first.with_access_size(target.size).ok_or(mismatch)?;
                out.resized = true;
            }
        }
        class::LD => {
            let is_taken = |high: &Insn| match rules.patching {
                Patching::Checked => is_plain_ldimm64(first, *high),
                Patching::EbpfGo => first.is_ldimm64() && first.src == 0 && first.off == 0,
                // QUIRK: aya also writes over maps.
                Patching::Aya => first.is_ldimm64(),
            };
            let Some(high) = second.filter(is_taken) else {
                return Err(ResolveError::InsnUnsupported { code: first.code });
            };
            let held = u64::from(high.imm.cast_unsigned()) << 32 | u64::from(first.imm.cast_unsigned());
            check_value(held, edit)?;
            out.first.imm = low32(new);
            out.second = Some(Insn { imm: low32(new >> 32), ..high });
        }
        _ => return Err(ResolveError::InsnUnsupported { code: first.code }),
    }
    Ok(out)
}

/// A 64-bit immediate that is a number, and not a map or the like.
fn is_plain_ldimm64(first: Insn, second: Insn) -> bool {
    first.is_ldimm64()
        && first.src == 0
        && first.off == 0
        && second.code == 0
        && second.dst == 0
        && second.src == 0
        && second.off == 0
}

/// Whether the class and form of an instruction are such that a value could be written into it.
fn is_relocatable(first: Insn, second: Option<Insn>) -> bool {
    match first.class() {
        class::ALU | class::ALU64 => first.code & 0x08 == 0,
        class::LDX | class::ST | class::STX => true,
        class::LD => second.is_some_and(|second| is_plain_ldimm64(first, second)),
        _ => false,
    }
}

/// An operand as values are compared with it: values of 32 bits with its low half.
fn sign_extended(rules: &Rules, operand: i64) -> u64 {
    let operand = operand.cast_unsigned();
    if rules.enum64 { operand } else { operand & 0xffff_ffff }
}

fn check_value(held: u64, edit: &Edit) -> Result<(), ResolveError> {
    let expected = edit.local.value.value;
    if edit.local.validate && held != expected {
        return Err(ResolveError::InsnMismatch { found: held, expected });
    }
    Ok(())
}

fn poison(rules: &Rules, first: Insn, second: Option<Insn>) -> Patched {
    if first.is_ldimm64() && rules.patching == Patching::EbpfGo {
        let second = second.map(|_| Insn { code: 0, dst: 0, src: 0, off: 0, imm: 0 });
        return Patched { first: Insn::POISON_LDIMM64, second, poisoned: true, resized: false };
    }
    let second = if first.is_ldimm64() { second.map(|_| Insn::POISON) } else { second };
    Patched { first: Insn::POISON, second, poisoned: true, resized: false }
}

#[expect(clippy::cast_possible_truncation, reason = "an immediate keeps the low 32 bits, as in libbpf")]
fn low32(value: u64) -> i32 {
    value as i32
}
