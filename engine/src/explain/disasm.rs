//! One instruction as the verifier's log writes it, as far as relocations touch it.

use crate::format::Endian;
use crate::format::insn::{CALL, INSN_LEN, Insn, POISON_IMM, class};

/// Writes the instruction in `bytes`: one slot, or two of an `ldimm64`.
pub(super) fn insn(bytes: &[u8], endian: Endian) -> String {
    let Some(first) = bytes.first_chunk::<INSN_LEN>() else { return "no instruction".into() };
    let insn = Insn::decode(*first, endian);
    let second = bytes.get(INSN_LEN..).and_then(|rest| rest.first_chunk::<INSN_LEN>());
    let memory = |register: u8| {
        let width = match insn.access_size() {
            1 => "u8",
            2 => "u16",
            4 => "u32",
            _ => "u64",
        };
        format!("*({width} *)(r{register} {:+})", insn.off)
    };
    match insn.class() {
        _ if insn.code == CALL && insn.src == 0 && insn.imm == POISON_IMM => {
            format!("call unknown#{POISON_IMM} (the poison)")
        }
        _ if insn.code == CALL => format!("call #{}", insn.imm),
        class::LDX => format!("r{} = {}", insn.dst, memory(insn.src)),
        class::STX => format!("{} = r{}", memory(insn.dst), insn.src),
        class::ST => format!("{} = {}", memory(insn.dst), insn.imm),
        class::LD if insn.is_ldimm64() => {
            let high = second.map_or(0, |bytes| Insn::decode(*bytes, endian).imm);
            let value = u64::from(high.cast_unsigned()) << 32 | u64::from(insn.imm.cast_unsigned());
            format!("r{} = {value} ll", insn.dst)
        }
        class::ALU | class::ALU64 => {
            let register = if insn.class() == class::ALU { 'w' } else { 'r' };
            let operand =
                if insn.code & 0x08 != 0 { format!("{register}{}", insn.src) } else { insn.imm.to_string() };
            match operator(insn.code >> 4) {
                Some(operator) => format!("{register}{} {operator} {operand}", insn.dst),
                None => format!("(opcode {:#04x}) {register}{}, {operand}", insn.code, insn.dst),
            }
        }
        _ => format!("(opcode {:#04x})", insn.code),
    }
}

fn operator(operation: u8) -> Option<&'static str> {
    let operators = ["+=", "-=", "*=", "/=", "|=", "&=", "<<=", ">>="];
    match operation {
        0x9 => Some("%="),
        0xa => Some("^="),
        0xb => Some("="),
        0xc => Some("s>>="),
        other => operators.get(usize::from(other)).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that the instructions that compilers relocate are readable.
    #[test]
    fn relocated_instructions_are_written_as_in_the_verifier_log() {
        let show = |hex: [u8; 8]| insn(&hex, Endian::Little);
        assert_eq!(show([0x61, 0x61, 0x38, 0x0b, 0, 0, 0, 0]), "r1 = *(u32 *)(r6 +2872)");
        assert_eq!(show([0xb7, 0x01, 0, 0, 0x18, 0, 0, 0]), "r1 = 24");
        assert_eq!(show([0x07, 0x02, 0, 0, 8, 0, 0, 0]), "r2 += 8");
        assert_eq!(show([0x67, 0x02, 0, 0, 8, 0, 0, 0]), "r2 <<= 8");
        assert_eq!(show([0x85, 0, 0, 0, 0x10, 0x23, 0xad, 0x0b]), "call unknown#195896080 (the poison)");
    }
}
