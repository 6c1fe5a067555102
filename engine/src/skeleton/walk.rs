//! The loader's instructions, as far as they say where things are in the blob.

use hashbrown::HashMap;

use super::blob::attr;
use crate::format::Endian;
use crate::format::insn::{CALL, INSN_LEN, Insn};

/// `src_reg` of an `ldimm64` that takes an address in the blob.
const PSEUDO_MAP_IDX_VALUE: u8 = 6;
/// Helpers.
const SYS_BPF: i32 = 166;
const FIND_BY_NAME_KIND: i32 = 167;
/// `bpf()` commands.
const PROG_LOAD: i32 = 5;
const BTF_LOAD: i32 = 18;
/// Opcodes.
const MOV64_IMM: u8 = 0xb7;
const MOV64_REG: u8 = 0xbf;
const STX_DW: u8 = 0x7b;
const STX_W: u8 = 0x63;
const EXIT: u8 = 0x95;
/// Slots of the longest loader that is read: 512 programs have less.
const SLOTS_MAX: usize = 1 << 20;

/// What a register is known to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// The address of a place in the blob, by its offset in **bytes**.
    Blob(u32),
    /// A number.
    Number(i32),
}

/// A name in the blob: offset and length with its zero, in **bytes**.
pub(super) type NamePlace = (u32, u32);

/// What a loader does.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// Addresses that it writes into the blob: where, and of what; offsets in **bytes**.
    pub(super) pointers: HashMap<u32, u32>,
    /// Offsets of the attributes of each `BPF_PROG_LOAD`, and the name of what the program attaches to, if that is looked
    /// up.
    pub(super) programs: Vec<(u32, Option<NamePlace>)>,
    /// Offset of those of `BPF_BTF_LOAD`.
    pub(super) btf: Option<u32>,
}

impl Script {
    /// Reads the loader that `code` starts with. `None` if that is none that loads a program.
    pub(super) fn read(code: &[u8], endian: Endian) -> Option<Self> {
        let mut this = Self::default();
        let mut held: [Option<Held>; 16] = [None; 16];
        let mut looked_up: Option<NamePlace> = None;
        let mut targets: HashMap<u32, NamePlace> = HashMap::new();
        let slots = code.as_chunks::<INSN_LEN>().0;
        let mut slots = slots.iter().take(SLOTS_MAX).map(|it| Insn::decode(*it, endian)).peekable();
        let mut is_first = true;
        while let Some(insn) = slots.next() {
            let get =
                |held: &[Option<Held>; 16], register: u8| held.get(usize::from(register)).copied().flatten();
            if insn.is_ldimm64() {
                let second = slots.next()?;
                let is_blob = insn.src == PSEUDO_MAP_IDX_VALUE && insn.imm == 0;
                *held.get_mut(usize::from(insn.dst))? =
                    is_blob.then(|| Held::Blob(second.imm.cast_unsigned()));
                continue;
            }
            match (insn.code, get(&held, insn.dst), get(&held, insn.src)) {
                // Another one begins: this one has no end. So that no byte is read by two of them.
                (MOV64_REG, ..) if insn.dst == 6 && insn.src == 1 && !is_first => return None,
                // The end: success. An error ends with another value, and before.
                (MOV64_IMM, ..) if insn.dst == 0 && insn.imm == 0 => {
                    if slots.peek().is_some_and(|it| it.code == EXIT) {
                        break;
                    }
                    held = [None; 16];
                }
                (MOV64_IMM, ..) => *held.get_mut(usize::from(insn.dst))? = Some(Held::Number(insn.imm)),
                (STX_DW, Some(Held::Blob(to)), Some(Held::Blob(of))) => {
                    this.pointers.insert(to.checked_add_signed(insn.off.into())?, of);
                }
                // A look-up leaves the type in r7.
                (STX_W, Some(Held::Blob(to)), _) if insn.src == 7 && insn.off == attr::ATTACH_BTF_ID => {
                    targets.extend(looked_up.map(|name| (to, name)));
                }
                (CALL, ..) => {
                    let arguments = [get(&held, 1), get(&held, 2)];
                    match (insn.imm, arguments) {
                        (SYS_BPF, [Some(Held::Number(PROG_LOAD)), Some(Held::Blob(attr))]) => {
                            this.programs.push((attr, targets.remove(&attr)));
                        }
                        (SYS_BPF, [Some(Held::Number(BTF_LOAD)), Some(Held::Blob(attr))]) => {
                            this.btf = Some(attr)
                        }
                        (FIND_BY_NAME_KIND, [Some(Held::Blob(name)), Some(Held::Number(len))]) => {
                            looked_up = u32::try_from(len).ok().map(|len| (name, len));
                        }
                        _ => {}
                    }
                    held = [None; 16];
                }
                // Loads and arithmetic: whatever the register held is gone. Stores and jumps change none.
                _ if matches!(insn.code & 7, 0 | 1 | 4 | 7) => *held.get_mut(usize::from(insn.dst))? = None,
                _ => {}
            }
            is_first = false;
        }
        (!this.programs.is_empty() && this.btf.is_some()).then_some(this)
    }
}
