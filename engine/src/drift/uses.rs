//! What functions do with the fields that they read, as far as it is plain from one straight line of instructions.
//!
//! Followed is the path on which no conditional jump is taken: it is one of the function's paths, so what happens there
//! happens. What is not on it, or goes through memory other than the stack, is not seen.

use hashbrown::HashMap;

use crate::format::insn::{CALL, INSN_LEN, Insn, class};
use crate::object::Object;

/// Registers of BPF, the frame pointer last.
const REGISTERS: usize = 11;
const FRAME_POINTER: u8 = 10;
/// `bpf_probe_read`, and its forms for user and kernel memory: `(dst, size, address)`.
const PROBE_READS: [i32; 3] = [4, 112, 113];

/// What a program does with one field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Uses {
    /// It is loaded by the instruction that is relocated, whose width the loader adjusts.
    pub(super) is_loaded: bool,
    /// It is read by its address, by a helper or a load: so many bytes, whatever the kernel's field has.
    pub(super) read: Option<u32>,
    /// Its sign is extended, or it is compared as a signed number.
    pub(super) as_signed: bool,
    /// Constants that it is compared with for equality.
    pub(super) compared: Vec<i64>,
}

/// What is known of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    Constant(i64),
    /// So many bytes from the frame pointer.
    Stack(i64),
    /// The offset of a field, by its record.
    Offset(usize),
    /// The address of a field.
    Address(usize),
    /// The value of a field.
    Value(usize),
}

struct Line {
    registers: [Known; REGISTERS],
    /// Fields on the stack, by their place: record and size in bytes.
    stack: HashMap<i64, (usize, u32)>,
    uses: HashMap<usize, Uses>,
}

/// What the functions of an object do with fields, by record.
pub(super) fn uses(object: &Object<'_>) -> HashMap<usize, Uses> {
    let mut records: Vec<HashMap<u64, usize>> = vec![HashMap::new(); object.programs().len()];
    for (number, reloc) in object.relocs().iter().enumerate() {
        if let Some(of_program) = reloc.program.and_then(|it| records.get_mut(it))
            && super::is_field(reloc)
        {
            of_program.insert(reloc.insn_off.into(), number);
        }
    }
    let mut all = HashMap::new();
    for (program, records) in object.programs().iter().zip(&records) {
        let (false, Some(slots)) = (records.is_empty(), object.slots(program)) else { continue };
        let mut line = Line::new();
        let mut skips = false;
        for (offset, bytes) in (program.offset..).step_by(INSN_LEN).zip(slots) {
            // The second slot of an `ldimm64`.
            if std::mem::take(&mut skips) {
                continue;
            }
            let insn = Insn::decode(*bytes, object.endian());
            skips = insn.is_ldimm64();
            line.step(insn, records.get(&offset).copied());
        }
        all.extend(line.uses);
    }
    all
}

impl Line {
    fn new() -> Self {
        let mut this =
            Self { registers: [Known::Nothing; REGISTERS], stack: HashMap::new(), uses: HashMap::new() };
        this.forget();
        this
    }

    /// Behind a jump that is always taken nothing is known: what comes there, comes from elsewhere.
    fn forget(&mut self) {
        self.registers = [Known::Nothing; REGISTERS];
        self.set(FRAME_POINTER, Known::Stack(0));
        self.stack.clear();
    }

    fn get(&self, register: u8) -> Known {
        self.registers.get(usize::from(register)).copied().unwrap_or(Known::Nothing)
    }

    fn set(&mut self, register: u8, known: Known) {
        if let Some(it) = self.registers.get_mut(usize::from(register)) {
            *it = known;
        }
    }

    fn of(&mut self, record: usize) -> &mut Uses {
        self.uses.entry(record).or_default()
    }

    fn step(&mut self, insn: Insn, record: Option<usize>) {
        match insn.class() {
            class::ALU | class::ALU64 => self.arithmetic(insn, record),
            class::LDX => self.load(insn, record),
            class::ST | class::STX => {
                if let Known::Stack(base) = self.get(insn.dst) {
                    self.overwrite(base.saturating_add(insn.off.into()), insn.access_size());
                }
            }
            class::LD if insn.is_ldimm64() => {
                self.set(insn.dst, record.map_or(Known::Nothing, Known::Offset));
            }
            class::LD => (0..6).for_each(|it| self.set(it, Known::Nothing)),
            _ => self.jump(insn),
        }
    }

    fn arithmetic(&mut self, insn: Insn, record: Option<usize>) {
        const ADD: u8 = 0x00;
        const LSH: u8 = 0x60;
        const RSH: u8 = 0x70;
        const MOV: u8 = 0xb0;
        const ARSH: u8 = 0xc0;
        let is_register = insn.code & 0x08 != 0;
        let before = self.get(insn.dst);
        let operand = if is_register { self.get(insn.src) } else { Known::Constant(insn.imm.into()) };
        let after = match (insn.code & 0xf0, before, operand) {
            (MOV, _, _) if record.is_some() && !is_register => record.map_or(Known::Nothing, Known::Offset),
            (MOV, _, Known::Value(of)) if is_register => {
                self.of(of).as_signed |= insn.off != 0;
                operand
            }
            (MOV, _, _) if insn.class() == class::ALU64 && insn.off == 0 => operand,
            (MOV, _, Known::Constant(_)) if insn.off == 0 => operand,
            (ADD, _, _) if record.is_some() && !is_register => record.map_or(Known::Nothing, Known::Address),
            (ADD, Known::Offset(of), _) | (ADD, _, Known::Offset(of)) if is_register => Known::Address(of),
            (ADD, Known::Stack(base), Known::Constant(by)) => Known::Stack(base.saturating_add(by)),
            (ADD, _, Known::Constant(0)) => before,
            // To one end of the register and back.
            (LSH, Known::Value(_), Known::Constant(32 | 48 | 56)) => before,
            (RSH, Known::Value(_), Known::Constant(32 | 48 | 56)) => before,
            (ARSH, Known::Value(of), Known::Constant(_)) => {
                self.of(of).as_signed = true;
                before
            }
            _ => Known::Nothing,
        };
        self.set(insn.dst, after);
    }

    fn load(&mut self, insn: Insn, record: Option<usize>) {
        const MODE: u8 = 0xe0;
        const MEMSX: u8 = 0x80;
        const MEM: u8 = 0x60;
        let mode = insn.code & MODE;
        let base = self.get(insn.src);
        let from_stack = match base {
            Known::Stack(base) => self.stack.get(&base.saturating_add(insn.off.into())),
            _ => None,
        };
        let value = match (record, base, from_stack) {
            (Some(record), ..) => {
                self.of(record).is_loaded = true;
                Some(record)
            }
            (None, Known::Address(of), _) if insn.off == 0 => {
                self.of(of).read = Some(insn.access_size());
                Some(of)
            }
            (None, _, Some(&(record, size))) if size == insn.access_size() => Some(record),
            _ => None,
        };
        let value = value.filter(|_| mode == MEM || mode == MEMSX);
        if let (Some(record), MEMSX) = (value, mode) {
            self.of(record).as_signed = true;
        }
        self.set(insn.dst, value.map_or(Known::Nothing, Known::Value));
    }

    fn jump(&mut self, insn: Insn) {
        const OPERATION: u8 = 0xf0;
        let is_register = insn.code & 0x08 != 0;
        let operand = if is_register { self.get(insn.src) } else { Known::Constant(insn.imm.into()) };
        match insn.code & OPERATION {
            // `ja` and `exit`.
            0x00 | 0x90 => self.forget(),
            0x80 => self.call(insn),
            operation => {
                if let Known::Value(of) = self.get(insn.dst) {
                    match (operation, operand) {
                        // `jeq` and `jne`.
                        (0x10 | 0x50, Known::Constant(value)) => self.of(of).compared.push(value),
                        // `jsgt`, `jsge`, `jslt`, `jsle`.
                        (0x60 | 0x70 | 0xc0 | 0xd0, Known::Constant(_)) => self.of(of).as_signed = true,
                        _ => {}
                    }
                }
            }
        }
    }

    fn call(&mut self, insn: Insn) {
        let [_, dst, size, address, ..] = self.registers;
        let is_probe_read = insn.code == CALL && insn.src == 0 && PROBE_READS.contains(&insn.imm);
        let size = match size {
            Known::Constant(size) => u32::try_from(size).ok(),
            _ => None,
        };
        match dst {
            // Whoever has the address may write there.
            Known::Stack(_) if !is_probe_read => self.stack.clear(),
            Known::Stack(at) => match size {
                Some(size) => self.overwrite(at, size),
                None => self.stack.clear(),
            },
            _ if is_probe_read => {}
            _ if self.registers.iter().take(6).any(|it| matches!(it, Known::Stack(_))) => self.stack.clear(),
            _ => {}
        }
        if let (true, Known::Address(of), Some(size)) = (is_probe_read, address, size) {
            self.of(of).read = Some(size);
            if let Known::Stack(at) = dst {
                self.stack.insert(at, (of, size));
            }
        }
        (0..6).for_each(|it| self.set(it, Known::Nothing));
    }

    /// Forgets what is on the stack from `at` on for `size` bytes.
    fn overwrite(&mut self, at: i64, size: u32) {
        let end = at.saturating_add(size.into());
        self.stack.retain(|&start, (_, len)| start >= end || start.saturating_add((*len).into()) <= at);
    }
}
