//! What one instruction does to what is known.
//!
//! Source: `do_check`, `check_alu_op`, `check_mem_access`, `check_helper_call`, Linux.

use super::explore::Explorer;
use super::live::{EXIT, JMP, JMP32, JUMP_ALWAYS, JUMP_MAYBE, next};
use super::scalar::{self, Compare, Division, Scalar, Sources, Width};
use super::state::{Frame, STACK_LEN, State, Value, of_len};
use super::verifier::Feature;
use super::{Patch, Source, Symbol};
use crate::format::Endian;
use crate::format::insn::{CALL, Insn, class};
use crate::object::{PSEUDO_CALL, PSEUDO_FUNC, PSEUDO_KFUNC_CALL, Reference};

/// What is left of two numbers; `None` if they cannot be.
type Refined = Option<(Scalar, Scalar)>;

/// Calls that may be open at once.
const FRAMES_MAX: usize = 8;
/// Bits that tell what an ldimm64 loads if it is no number.
const MODE: u8 = 0xe0;
const MODE_SIGNED: u8 = 0x80;
const MODE_ATOMIC: u8 = 0xc0;
/// The most **bytes** that a helper writes without having been told how many: a dynptr.
const UNMEASURED_LEN: i64 = 16;
/// Helpers that only read what they are pointed at: map_lookup_elem, map_update_elem, map_delete_elem, trace_printk,
/// perf_event_output, skb_output, map_push_elem, xdp_output, ringbuf_output.
const READING_HELPERS: [i32; 9] = [1, 2, 3, 6, 25, 111, 87, 121, 130];

impl Explorer<'_> {
    /// Does what the instruction of a slot does. Returns where the path goes on, if it does.
    pub(super) fn step(&mut self, slot: usize, state: &mut State) -> Option<usize> {
        let insn = *self.question.insns.get(slot)?;
        match insn.class() {
            class::ALU | class::ALU64 => self.arithmetic(slot, insn, state),
            class::LD if insn.is_ldimm64() => {
                let value = self.wide_immediate(slot, insn);
                state.set(insn.dst, value);
                return Some(slot + 2);
            }
            // Loads from a packet: they clobber like a call, and may end the program.
            class::LD => clobber_arguments(state),
            class::LDX => {
                let value = self.load(slot, state, insn);
                state.set(insn.dst, value);
            }
            class::ST => {
                let value = Value::constant(i64::from(insn.imm).cast_unsigned());
                self.store(slot, state, insn, value, true);
            }
            class::STX if insn.code & MODE == MODE_ATOMIC => self.atomic(state, insn),
            class::STX => {
                let value = state.get(insn.src);
                let gets_a_name = matches!(state.get(insn.dst), Value::Stack { .. }) && value.is_nameless();
                let value = match gets_a_name && self.verifier.has(Feature::NamesSpills) {
                    true => state.named(insn.src),
                    false => value,
                };
                self.store(slot, state, insn, value, false);
            }
            _ if insn.code == CALL => return self.call(slot, insn, state),
            _ if insn.code == EXIT => return leave(state),
            _ => return self.jump(slot, insn, state),
        }
        Some(slot + 1)
    }

    /// The number that an instruction holds, as far as its record says what it is.
    fn held(&mut self, slot: usize, value: u64) -> Scalar {
        match self.question.records.get(slot) {
            Some(&Some((record, patch))) => {
                let from = self.source(Source::Record(record), false);
                let value = match patch {
                    Patch::Exact => Scalar::constant(value),
                    Patch::NotZero => Scalar::between(1, u32::MAX.into()),
                    Patch::Any => Scalar::UNKNOWN,
                };
                value.with_sources(from)
            }
            _ => Scalar::constant(value),
        }
    }

    fn immediate(&mut self, slot: usize, insn: Insn) -> Scalar {
        self.held(slot, i64::from(insn.imm).cast_unsigned())
    }

    fn wide_immediate(&mut self, slot: usize, insn: Insn) -> Value {
        match self.question.image.slots.get(slot).and_then(|it| it.reference) {
            Some(Reference::Extern(symbol)) => return self.symbol(symbol),
            Some(Reference::Data(section, offset)) => return Value::Data { section, offset },
            Some(Reference::Function(_)) => {
                let reference = self.question.image.slots.get(slot).and_then(|it| it.reference);
                return self.question.image.callee(reference).map_or(Value::NonNull(0), Value::Function);
            }
            // The verifier knows that the address of a map is not null only for those that hold data.
            Some(Reference::Map(_)) => return Value::UNKNOWN,
            None if insn.src == PSEUDO_FUNC => return Value::UNKNOWN,
            None => {}
        }
        let high = self.question.insns.get(slot + 1).map_or(0, |it| it.imm);
        let value = u64::from(high.cast_unsigned()) << 32 | u64::from(insn.imm.cast_unsigned());
        Value::Scalar(self.held(slot, value))
    }

    /// The address of a symbol of the kernel.
    fn symbol(&mut self, symbol: usize) -> Value {
        let is_function = self.question.is_function.get(symbol) == Some(&true);
        match self.question.symbols.get(symbol) {
            Some(Symbol::Missing) => {
                let from = self.source(Source::Extern(symbol), false);
                Value::Scalar(Scalar::constant(0).with_sources(from))
            }
            Some(Symbol::Present) => {
                let from = self.source(Source::Extern(symbol), false);
                match is_function && self.verifier.has(Feature::KnowsFunctionAddresses) {
                    true => Value::NonNull(from),
                    false => Value::UNKNOWN,
                }
            }
            Some(Symbol::Value(_) | Symbol::Between(..)) => Value::Kconfig { symbol, offset: 0 },
            Some(Symbol::Open) if self.uses.is_some() => Value::UNKNOWN,
            Some(Symbol::Open) | None => {
                // Of kconfig, the value is open; of others, whether they are there.
                let from = self.source(Source::Extern(symbol), true);
                match is_function {
                    true => Value::Scalar(Scalar::UNKNOWN.with_sources(from)),
                    false => Value::Kconfig { symbol, offset: 0 },
                }
            }
        }
    }

    fn arithmetic(&mut self, slot: usize, insn: Insn, state: &mut State) {
        let width = if insn.class() == class::ALU64 { Width::W64 } else { Width::W32 };
        let is_register = insn.code & 0x08 != 0;
        let left = state.get(insn.dst);
        self.use_in_arithmetic(insn, width, &left, state);
        let result = match insn.code & 0xf0 {
            // A move.
            0xb0 if !is_register => {
                let value = self.immediate(slot, insn);
                Value::Scalar(if width == Width::W32 { value.low_half() } else { value })
            }
            0xb0 => match (width, insn.off) {
                (Width::W64, 0) => state.named(insn.src),
                // A change of the address space.
                (Width::W64, 1) => Value::UNKNOWN,
                (Width::W64, bits @ (8 | 16 | 32)) => {
                    Value::Scalar(state.get(insn.src).scalar().sign_extended(bits.unsigned_abs().into()))
                }
                (Width::W32, 0) => Value::Scalar(state.named(insn.src).scalar().low_half()),
                (Width::W32, bits @ (8 | 16)) => {
                    let extended = state.get(insn.src).scalar().sign_extended(bits.unsigned_abs().into());
                    Value::Scalar(extended.low_half())
                }
                _ => Value::UNKNOWN,
            },
            0x80 => self.negated(width, &left.scalar()),
            0xd0 => self.swapped(insn, width, &left.scalar()),
            op => {
                let right = match is_register {
                    true => state.get(insn.src),
                    false => Value::Scalar(self.immediate(slot, insn)),
                };
                // Of other operations it makes no difference.
                let tracks = matches!(op, 0x30 | 0x90) && self.verifier.has(Feature::TracksDivision);
                let divide = match (tracks, insn.off) {
                    (false, _) => Division::Untracked,
                    (true, 0) => Division::Unsigned,
                    (true, _) => Division::Signed,
                };
                pointer_arithmetic(op, width, &left, &right).unwrap_or_else(|| {
                    let result = scalar::binary(op, width, &left.scalar(), &right.scalar(), divide);
                    result.map_or(Value::UNKNOWN, Value::Scalar)
                })
            }
        };
        state.set(insn.dst, result);
    }

    /// Notes what becomes of values of the configuration: copies, and moves between the halves of a register, keep their
    /// order.
    fn use_in_arithmetic(&mut self, insn: Insn, width: Width, left: &Value, state: &State) {
        let Some(uses) = &mut self.uses else { return };
        let is_register = insn.code & 0x08 != 0;
        let right = if is_register { state.get(insn.src) } else { Value::constant(0) };
        let keeps_order = match insn.code & 0xf0 {
            0xb0 => matches!(insn.off, 0 | 32),
            // To the left, and to the right.
            0x60 | 0x70 | 0xc0 => width == Width::W64 && !is_register && insn.imm == 32,
            _ => false,
        };
        if keeps_order {
            return;
        }
        let is_kconfig = |it: &Value| matches!(it, Value::Kconfig { .. });
        uses.exactly(match is_kconfig(left) || is_kconfig(&right) {
            true => Sources::MAX,
            false => left.scalar().from | right.scalar().from,
        });
    }

    fn negated(&self, width: Width, of: &Scalar) -> Value {
        match of.value().filter(|_| self.verifier.has(Feature::TracksNegation)) {
            Some(value) => {
                let negated = Scalar { from: of.from, ..Scalar::constant(value.wrapping_neg()) };
                Value::Scalar(if width == Width::W32 { negated.low_half() } else { negated })
            }
            None => Value::Scalar(Scalar::UNKNOWN.with_sources(of.from)),
        }
    }

    /// Conversion to a byte order, of the lowest 16, 32 or 64 bits.
    fn swapped(&self, insn: Insn, width: Width, of: &Scalar) -> Value {
        let unknown = Value::Scalar(Scalar::UNKNOWN.with_sources(of.from));
        let Some(value) = of.value().filter(|_| self.verifier.has(Feature::TracksByteSwaps)) else {
            return unknown;
        };
        let is_big = self.question.endian == Endian::Big;
        let swaps = width == Width::W64 || (insn.code & 0x08 != 0) != is_big;
        let kept = match insn.imm {
            16 => value & 0xffff,
            32 => value & 0xffff_ffff,
            64 => value,
            _ => return unknown,
        };
        let converted = match (swaps, insn.imm) {
            (false, _) => kept,
            (true, 64) => kept.swap_bytes(),
            (true, 32) => kept.swap_bytes() >> 32,
            (true, _) => kept.swap_bytes() >> 48,
        };
        Value::Scalar(Scalar { from: of.from, ..Scalar::constant(converted) })
    }

    /// Whether a record says where a slot reads or writes: not to the same place on all kernels.
    fn is_patched(&self, slot: usize) -> bool {
        matches!(self.question.records.get(slot), Some(Some(_)))
    }

    fn load(&mut self, slot: usize, state: &State, insn: Insn) -> Value {
        let len = access_len(insn);
        let is_signed = insn.code & MODE == MODE_SIGNED;
        let value = match state.get(insn.src) {
            _ if self.is_patched(slot) => Value::Scalar(of_len(len)),
            Value::Stack { frame, low, high } if low == high => {
                let at = low + i64::from(insn.off);
                let Some(frame) = state.frames.get(usize::from(frame)) else { return Value::UNKNOWN };
                if let Some(uses) = &mut self.uses {
                    uses.exactly(frame.cut(at, len));
                }
                frame.load(at, len, &self.verifier, self.question.endian)
            }
            Value::Stack { frame, .. } => {
                if let Some(uses) = &mut self.uses
                    && let Some(frame) = state.frames.get(usize::from(frame))
                {
                    uses.exactly(frame.clone().clobber(-STACK_LEN, 0));
                }
                Value::Scalar(of_len(len))
            }
            Value::Data { section, offset } => self.constant(section, offset + i64::from(insn.off), len),
            Value::Kconfig { symbol, offset } => {
                self.kconfig(symbol, offset + i64::from(insn.off), len, is_signed)
            }
            _ => Value::Scalar(of_len(len)),
        };
        match is_signed && len < 8 {
            true => Value::Scalar(value.scalar().sign_extended(u32::from(len) * 8)),
            false => value,
        }
    }

    /// What stands in a section of data, if nothing can change it.
    fn constant(&mut self, section: usize, offset: i64, len: u8) -> Value {
        let unknown = Value::Scalar(of_len(len));
        let Ok(offset) = u64::try_from(offset) else { return unknown };
        let question = self.question;
        let holds = |it: &&super::Constant<'_>| {
            it.section == section && it.offset <= offset && offset + u64::from(len) <= it.offset + it.len
        };
        let Some(constant) = question.constants.iter().find(holds) else { return unknown };
        let from = match constant.variable {
            Some(variable) => self.source(Source::Variable(variable), constant.bytes.is_none()),
            None => 0,
        };
        let start = usize::try_from(offset - constant.offset).unwrap_or(usize::MAX);
        let bytes = constant.bytes.as_deref().and_then(|it| it.get(start..)?.get(..usize::from(len)));
        match bytes {
            Some(bytes) => Value::Scalar(Scalar::constant(self.number(bytes)).with_sources(from)),
            None => Value::Scalar(of_len(len).with_sources(from)),
        }
    }

    fn kconfig(&mut self, symbol: usize, offset: i64, len: u8, is_signed: bool) -> Value {
        let question = self.question;
        let value = question.symbols.get(symbol);
        let is_open = !matches!(value, Some(Symbol::Value(_))) && self.uses.is_none();
        let from = self.source(Source::Extern(symbol), is_open);
        if let Some(uses) = &mut self.uses {
            uses.read(symbol, from, offset, len, is_signed);
        }
        let bytes = match (value, usize::try_from(offset)) {
            (Some(Symbol::Value(bytes)), Ok(start)) => {
                bytes.get(start..).and_then(|it| it.get(..usize::from(len)))
            }
            (Some(Symbol::Between(low, high)), Ok(0)) if *high <= of_len(len).high => {
                return Value::Scalar(Scalar::between(*low, *high).with_sources(from));
            }
            _ => None,
        };
        match bytes {
            Some(bytes) => Value::Scalar(Scalar::constant(self.number(bytes)).with_sources(from)),
            None => Value::Scalar(of_len(len).with_sources(from)),
        }
    }

    fn number(&self, bytes: &[u8]) -> u64 {
        let add = |all: u64, byte: &u8| all << 8 | u64::from(*byte);
        match self.question.endian {
            Endian::Little => bytes.iter().rev().fold(0, add),
            Endian::Big => bytes.iter().fold(0, add),
        }
    }

    fn store(&mut self, slot: usize, state: &mut State, insn: Insn, value: Value, is_immediate: bool) {
        let Value::Stack { frame, low, high } = state.get(insn.dst) else { return };
        let (len, off) = (access_len(insn), i64::from(insn.off));
        let Some(frame) = state.frames.get_mut(usize::from(frame)) else { return };
        if self.is_patched(slot) {
            self.lose(frame.clobber(-STACK_LEN, 0));
        } else if low == high {
            frame.store(low + off, len, value, is_immediate, &self.verifier);
        } else {
            self.lose(frame.clobber(low + off, high + off + i64::from(len)));
        }
    }

    /// Notes values that are not followed any further.
    fn lose(&mut self, from: Sources) {
        if let Some(uses) = &mut self.uses {
            uses.exactly(from);
        }
    }

    fn atomic(&mut self, state: &mut State, insn: Insn) {
        if let Value::Stack { frame, low, high } = state.get(insn.dst)
            && let Some(frame) = state.frames.get_mut(usize::from(frame))
        {
            let off = i64::from(insn.off);
            self.lose(frame.clobber(low + off, high + off + i64::from(access_len(insn))));
        }
        match insn.imm {
            // Compare and exchange.
            0xf1 => state.set(0, Value::UNKNOWN),
            // A load; a store.
            0x100 => state.set(insn.dst, Value::UNKNOWN),
            0x110 => {}
            fetch if fetch & 1 != 0 => state.set(insn.src, Value::UNKNOWN),
            _ => {}
        }
    }

    fn call(&mut self, slot: usize, insn: Insn, state: &mut State) -> Option<usize> {
        let reference = self.question.image.slots.get(slot).and_then(|it| it.reference);
        if let Some(Reference::Extern(symbol)) = reference {
            if self.question.symbols.get(symbol) == Some(&Symbol::Missing) {
                self.hit(slot, state);
            }
            if self.question.throws.get(symbol) == Some(&true) {
                return None;
            }
        }
        if insn.src == PSEUDO_CALL
            && let Some(callee) = self.question.image.callee(reference)
        {
            let function = self.question.image.functions.get(callee)?;
            if !function.is_global {
                if state.frames.len() >= FRAMES_MAX {
                    return None;
                }
                let number = u8::try_from(state.frames.len()).unwrap_or(u8::MAX);
                let arguments = [1, 2, 3, 4, 5].map(|it| state.get(it));
                let mut frame = Frame::new(number, slot + 1);
                for (register, argument) in frame.registers.iter_mut().skip(1).zip(arguments) {
                    *register = argument;
                }
                clobber_arguments(state);
                state.frames.push(frame);
                return Some(function.start);
            }
            self.start_function(callee, &[]);
        }
        let reads_only = insn.src == 0 && READING_HELPERS.contains(&insn.imm);
        let arguments = [1, 2, 3, 4, 5].map(|it| state.get(it));
        let is_helper = insn.src != PSEUDO_CALL && insn.src != PSEUDO_KFUNC_CALL;
        let is_stack = |it: &Value| matches!(it, Value::Stack { .. });
        if arguments.iter().any(|it| matches!(it, Value::Function(_))) && arguments.iter().any(is_stack) {
            // A callback may write wherever it finds a pointer to.
            for frame in &mut state.frames {
                self.lose(frame.clobber(-STACK_LEN, 0));
            }
        }
        for (number, argument) in arguments.iter().enumerate() {
            match argument {
                Value::Function(function) => self.start_function(*function, &[]),
                Value::Stack { frame, low, high } if !reads_only => {
                    // A buffer is followed by its length.
                    let len = arguments.get(number + 1).map(Value::scalar);
                    self.lose(len.map_or(0, |it| it.from));
                    let len = len.and_then(|it| it.value());
                    let len =
                        len.and_then(|it| i64::try_from(it).ok()).filter(|it| (1..=STACK_LEN).contains(it));
                    let end = len.filter(|_| is_helper).map_or(0, |it| high + it.max(UNMEASURED_LEN));
                    if let Some(frame) = state.frames.get_mut(usize::from(*frame)) {
                        self.lose(frame.clobber(*low, end));
                    }
                }
                _ => {}
            }
        }
        clobber_arguments(state);
        Some(slot + 1)
    }

    fn jump(&mut self, slot: usize, insn: Insn, state: &mut State) -> Option<usize> {
        let Some(ways) = next(slot, insn) else {
            // Where a jump table leads is not looked up.
            self.give_up();
            return None;
        };
        let op = insn.code & 0xf0;
        if op == JUMP_ALWAYS {
            return ways.jumps;
        }
        let (falls, jumps) = (ways.falls?, ways.jumps?);
        let compare = if op == JUMP_MAYBE { None } else { Compare::of_opcode(op) };
        let width = if insn.class() == JMP32 { Width::W32 } else { Width::W64 };
        debug_assert!(insn.class() == JMP || insn.class() == JMP32);
        let Some(compare) = compare else { return self.both(slot, state, falls, jumps, 0) };
        let is_register = insn.code & 0x08 != 0;
        let left = state.named(insn.dst);
        let right = match is_register {
            true => state.named(insn.src),
            false => Value::Scalar(self.immediate(slot, insn)),
        };
        let from = left.scalar().from | right.scalar().from;
        self.use_in_comparison(compare, &left, &right, is_register && insn.src == insn.dst);
        let (Value::Scalar(a), Value::Scalar(b)) = (left, right) else {
            let is_null = |it: &Value| matches!(it, Value::Scalar(it) if it.value() == Some(0));
            let is_known =
                |it: &Value| matches!(it, Value::NonNull(_) | Value::Data { .. } | Value::Kconfig { .. });
            let decided = width == Width::W64
                && (is_known(&left) && is_null(&right) || is_known(&right) && is_null(&left));
            return match compare {
                Compare::Equal if decided => self.one(slot, state, falls, false, from),
                Compare::NotEqual if decided => self.one(slot, state, jumps, true, from),
                _ => self.both(slot, state, falls, jumps, from),
            };
        };
        // What a register says about itself differs between releases, and some get it wrong.
        if is_register && insn.src == insn.dst && a.value().is_none() {
            return self.both(slot, state, falls, jumps, from);
        }
        let (taken, passed) = self.refined(compare, width, &a, &b);
        let set = |state: &mut State, (a, b): (Scalar, Scalar)| {
            state.refine(insn.dst, a);
            if is_register {
                state.refine(insn.src, b);
            }
        };
        match (taken, passed) {
            (Some(taken), None) => {
                set(state, taken);
                self.one(slot, state, jumps, true, from)
            }
            (None, Some(passed)) => {
                set(state, passed);
                self.one(slot, state, falls, false, from)
            }
            (Some(taken), Some(passed)) => {
                let mut other = state.clone();
                set(&mut other, taken);
                self.turn(&mut other, slot, true, false, from);
                self.later(jumps, other);
                set(state, passed);
                self.turn(state, slot, false, false, from);
                Some(falls)
            }
            (None, None) => self.both(slot, state, falls, jumps, from),
        }
    }

    fn use_in_comparison(&mut self, compare: Compare, left: &Value, right: &Value, is_same: bool) {
        let Some(uses) = &mut self.uses else { return };
        let (a, b) = (left.scalar(), right.scalar());
        let is_order = !matches!(compare, Compare::AnyBit | Compare::NoBit) && !is_same;
        match (a.value(), b.value()) {
            (_, Some(with)) if b.from == 0 && is_order => uses.compare(a.from, with),
            (Some(with), _) if a.from == 0 && is_order => uses.compare(b.from, with),
            _ => uses.exactly(a.from | b.from),
        }
    }

    /// What is left of two numbers where a comparison holds, and where it does not.
    fn refined(&self, compare: Compare, width: Width, a: &Scalar, b: &Scalar) -> (Refined, Refined) {
        let is_known = |it: &Scalar| match width {
            Width::W64 => it.value().is_some(),
            Width::W32 => it.low_half().value().is_some(),
        };
        let compares_ranges = || self.verifier.has(Feature::ComparesRanges);
        if !is_known(a) && !is_known(b) && !compares_ranges() {
            return (Some((*a, *b)), Some((*a, *b)));
        }
        let refine = |compare: Compare| {
            let refined = compare.refine(width, a, b);
            // That it is not this number is forgotten.
            refined.map(|it| match compare == Compare::NotEqual && it != (*a, *b) && !compares_ranges() {
                true => (*a, *b),
                false => it,
            })
        };
        (refine(compare), refine(compare.negated()))
    }

    fn one(
        &mut self,
        slot: usize,
        state: &mut State,
        to: usize,
        jumps: bool,
        from: Sources,
    ) -> Option<usize> {
        self.turn(state, slot, jumps, true, from);
        Some(to)
    }

    fn both(
        &mut self,
        slot: usize,
        state: &mut State,
        falls: usize,
        jumps: usize,
        from: Sources,
    ) -> Option<usize> {
        let mut other = state.clone();
        self.turn(&mut other, slot, true, false, from);
        self.later(jumps, other);
        self.turn(state, slot, false, false, from);
        Some(falls)
    }
}

/// Returns from a call; the path ends with the outermost.
fn leave(state: &mut State) -> Option<usize> {
    if state.frames.len() < 2 {
        return None;
    }
    let left = state.frames.pop()?;
    let gone = state.frames.len();
    let result = match left.registers.first().copied().unwrap_or(Value::UNKNOWN) {
        Value::Stack { frame, .. } if usize::from(frame) >= gone => Value::UNKNOWN,
        other => other,
    };
    state.set(0, result);
    Some(left.returns_to)
}

fn clobber_arguments(state: &mut State) {
    for register in 0..=5 {
        state.set(register, Value::UNKNOWN);
    }
}

/// Bytes that a load or store accesses.
fn access_len(insn: Insn) -> u8 {
    u8::try_from(insn.access_size()).unwrap_or(8)
}

/// A pointer plus or minus a number; `None` if no operand is a pointer.
fn pointer_arithmetic(op: u8, width: Width, left: &Value, right: &Value) -> Option<Value> {
    let (pointer, by, is_minus) = match (left, right) {
        (Value::Scalar(_), Value::Scalar(_)) => return None,
        (pointer, Value::Scalar(by)) => (pointer, by, op == 0x10),
        (Value::Scalar(by), pointer) if op == 0x00 => (pointer, by, false),
        _ => return Some(Value::UNKNOWN),
    };
    if width == Width::W32 || !matches!(op, 0x00 | 0x10) {
        return Some(Value::UNKNOWN);
    }
    let known =
        by.value().map(|it| if is_minus { it.wrapping_neg().cast_signed() } else { it.cast_signed() });
    Some(match (*pointer, known) {
        (Value::Stack { frame, low, high }, Some(by)) if low == high => match low.checked_add(by) {
            Some(at) => Value::Stack { frame, low: at, high: at },
            None => Value::Stack { frame, low: -STACK_LEN, high: 0 },
        },
        // Of a pointer to somewhere in the stack no more is known than that.
        (Value::Stack { frame, .. }, _) => Value::Stack { frame, low: -STACK_LEN, high: 0 },
        (Value::Data { section, offset }, Some(by)) => match offset.checked_add(by) {
            Some(offset) => Value::Data { section, offset },
            None => Value::UNKNOWN,
        },
        (Value::Kconfig { symbol, offset }, Some(by)) => match offset.checked_add(by) {
            Some(offset) => Value::Kconfig { symbol, offset },
            None => Value::UNKNOWN,
        },
        (Value::NonNull(from), _) => Value::NonNull(from),
        (Value::Data { .. } | Value::Kconfig { .. }, None) => Value::NonNull(0),
        _ => Value::UNKNOWN,
    })
}
