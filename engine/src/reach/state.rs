//! What is known at one instruction: registers and stack of every call that is open.
//!
//! Source: `struct bpf_verifier_state`, `check_stack_write_fixed_off`, `check_stack_read_fixed_off`, `states_equal`,
//! Linux.

use smallvec::SmallVec;

use super::scalar::{Scalar, Sources};
use super::verifier::{Consulted, Feature};
use crate::format::Endian;

/// Bytes of a slot of the stack.
const SLOT: i64 = 8;
/// Bytes of the stack of one call.
pub(super) const STACK_LEN: i64 = 512;
/// Registers of BPF, the stack pointer included.
pub(super) const REGISTERS: usize = 11;
/// The stack pointer.
pub(super) const R10: u8 = 10;

/// What a register or slot may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A number, or a pointer of which nothing is known.
    Scalar(Scalar),
    /// A place in the stack of call number `frame`: **bytes** below its top, least and greatest.
    Stack { frame: u8, low: i64, high: i64 },
    /// A place in a section of data, in **bytes**.
    Data { section: usize, offset: i64 },
    /// A place in the variable of a kconfig extern, in **bytes**.
    Kconfig { symbol: usize, offset: i64 },
    /// A function of the program.
    Function(usize),
    /// Something of which the verifier knows that it is not null.
    NonNull(Sources),
}

impl Value {
    pub(super) const UNKNOWN: Self = Self::Scalar(Scalar::UNKNOWN);

    pub(super) fn constant(value: u64) -> Self {
        Self::Scalar(Scalar::constant(value))
    }

    /// The number; of a pointer, any.
    pub(super) fn scalar(&self) -> Scalar {
        match self {
            Self::Scalar(scalar) => *scalar,
            Self::NonNull(from) => Scalar::UNKNOWN.with_sources(*from),
            _ => Scalar::UNKNOWN,
        }
    }

    /// Whether it is a number that is not known and has no name yet.
    pub(super) fn is_nameless(&self) -> bool {
        matches!(self, Self::Scalar(it) if it.name == 0 && it.value().is_none())
    }

    fn is_scalar(&self) -> bool {
        matches!(self, Self::Scalar(_))
    }

    fn covers(&self, other: &Self, names: &mut Names, open: Sources) -> bool {
        match (self, other) {
            (Self::Scalar(this), _) if this.is_unknown() && this.from & open == 0 => true,
            (Self::Scalar(this), Self::Scalar(other)) => {
                this.covers(other)
                    && names.map(this.name, other.name)
                    // What depends on something open is followed under that assumption only.
                    && this.from & open & !other.from == 0
            }
            (Self::Scalar(this), _) => {
                this.covers(&Scalar::UNKNOWN) && this.name == 0 && this.from & open == 0
            }
            (Self::NonNull(_), Self::NonNull(_) | Self::Data { .. } | Self::Kconfig { .. }) => true,
            (
                Self::Stack { frame, low, high },
                Self::Stack { frame: other, low: other_low, high: other_high },
            ) => frame == other && low <= other_low && high >= other_high,
            _ => self == other,
        }
    }

    fn joined(&self, other: &Self) -> Self {
        match (self, other) {
            (this, other) if this == other => *this,
            (Self::Scalar(this), Self::Scalar(other)) => Self::Scalar(this.joined(other)),
            (
                Self::NonNull(_) | Self::Data { .. } | Self::Kconfig { .. },
                Self::NonNull(_) | Self::Data { .. } | Self::Kconfig { .. },
            ) => Self::NonNull(0),
            (Self::Stack { frame, .. }, Self::Stack { frame: other, .. }) if frame == other => {
                Self::Stack { frame: *frame, low: -STACK_LEN, high: 0 }
            }
            _ => Self::Scalar(Scalar::UNKNOWN.with_sources(self.scalar().from | other.scalar().from)),
        }
    }

    /// Sources of this value that another, which may be it, does not have. Of a pointer to a value of the configuration
    /// that is forgotten to be one, all.
    fn lost_in(&self, other: &Self) -> Sources {
        match (self, other) {
            (Self::Kconfig { .. }, _) if self == other => 0,
            (Self::Kconfig { .. }, _) => Sources::MAX,
            _ => self.scalar().from & !other.scalar().from,
        }
    }
}

/// Names of numbers in one state, and what they are called in another.
#[derive(Default)]
struct Names(SmallVec<[(u32, u32); 8]>);

impl Names {
    fn map(&mut self, this: u32, other: u32) -> bool {
        if this == 0 {
            return true;
        }
        match self.0.iter().find(|it| it.0 == this) {
            Some(known) => known.1 == other,
            None => {
                self.0.push((this, other));
                other != 0
            }
        }
    }
}

/// A slot of the stack of which something is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    /// Its number, from the top of the stack down.
    at: i64,
    /// What was written to its lowest bytes at once, and how many bytes that were.
    spilled: Option<(Value, u8)>,
    /// Bytes that are known to be zero, from the lowest.
    zeros: u8,
}

/// One call that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) registers: [Value; REGISTERS],
    /// By number.
    stack: Vec<Slot>,
    /// Where it goes on in the caller.
    pub(super) returns_to: usize,
}

impl Frame {
    /// A call about which nothing is known.
    pub(super) fn new(number: u8, returns_to: usize) -> Self {
        let mut registers = [Value::UNKNOWN; REGISTERS];
        if let Some(top) = registers.get_mut(usize::from(R10)) {
            *top = Value::Stack { frame: number, low: 0, high: 0 };
        }
        Self { registers, stack: Vec::new(), returns_to }
    }

    fn slot(&mut self, at: i64) -> Option<&mut Slot> {
        let place = self.stack.partition_point(|it| it.at < at);
        if self.stack.get(place).is_none_or(|it| it.at != at) {
            self.stack.insert(place, Slot { at, spilled: None, zeros: 0 });
        }
        self.stack.get_mut(place)
    }

    /// Writes `len` bytes at `offset` below the top.
    pub(super) fn store(
        &mut self,
        offset: i64,
        len: u8,
        value: Value,
        is_immediate: bool,
        verifier: &Consulted,
    ) {
        if !(-STACK_LEN..0).contains(&offset) || offset + i64::from(len) > 0 {
            return;
        }
        let (at, within) = (offset.div_euclid(SLOT), offset.rem_euclid(SLOT));
        let is_zero = matches!(value, Value::Scalar(it) if it.value() == Some(0));
        let is_tracked = within == 0
            && (len == 8 || value.is_scalar())
            && (!is_zero || verifier.has(Feature::SpillsZeros))
            && (!is_immediate || verifier.has(Feature::TracksStoredImmediates))
            && (len == 8 || is_immediate || verifier.has(Feature::TracksNarrowSpills));
        let Some(slot) = self.slot(at) else { return };
        let mask = byte_mask(within, len);
        if is_tracked {
            // The bytes of a narrow spill only: of what else the slot held, zeros may stay.
            let beside = slot.zeros & !mask;
            slot.zeros = if beside != 0 && verifier.has(Feature::SpillsZeros) { beside } else { 0 };
            let cut = match value {
                Value::Scalar(it) if len < 8 => Value::Scalar(narrowed(&it, len)),
                other => other,
            };
            slot.spilled = Some((cut, len));
        } else {
            // What was spilled here is gone, all of it, and zeros beside it.
            if slot.spilled.take().is_some() {
                slot.zeros = 0;
            }
            // Releases differ in what is left of zeros beside what is written.
            let beside = slot.zeros & !mask;
            let beside = if beside != 0 && verifier.has(Feature::IsKnown) { beside } else { 0 };
            slot.zeros = if is_zero { beside | mask } else { beside };
        }
    }

    /// Forgets what stands between two offsets below the top. Returns the sources of that.
    pub(super) fn clobber(&mut self, from: i64, to: i64) -> Sources {
        let mut lost = 0;
        for slot in &mut self.stack {
            let start = slot.at * SLOT;
            for byte in (0..SLOT).filter(|it| (from..to).contains(&(start + it))) {
                // With a spill, zeros beside it are forgotten, too.
                if let Some((value, _)) = slot.spilled.take() {
                    lost |= value.lost_in(&Value::UNKNOWN);
                    slot.zeros = 0;
                }
                slot.zeros &= !byte_mask(byte, 1);
            }
        }
        self.stack.retain(|it| it.spilled.is_some() || it.zeros != 0);
        lost
    }

    /// Reads `len` bytes at `offset` below the top.
    pub(super) fn load(&self, offset: i64, len: u8, verifier: &Consulted, endian: Endian) -> Value {
        let (at, within) = (offset.div_euclid(SLOT), offset.rem_euclid(SLOT));
        let unknown = || Value::Scalar(of_len(len));
        let Some(slot) = self.stack.iter().find(|it| it.at == at) else { return unknown() };
        if let Some((value, spilled)) = slot.spilled {
            let Value::Scalar(scalar) = value else {
                return if within == 0 && len == spilled { value } else { unknown() };
            };
            // The lowest bytes of a number stand where the byte order has them.
            let lowest = match endian {
                Endian::Little => 0,
                Endian::Big => i64::from(spilled) - i64::from(len),
            };
            if len == spilled && within == 0 {
                return value;
            }
            if len < spilled && within == lowest && verifier.has(Feature::NarrowsFills) {
                return Value::Scalar(narrowed(&scalar, len));
            }
            let is_inside = within + i64::from(len) <= i64::from(spilled);
            if is_inside && scalar.value() == Some(0) && verifier.has(Feature::SpillsZeros) {
                return Value::Scalar(scalar);
            }
        }
        let mask = byte_mask(within, len);
        match slot.zeros & mask == mask && mask.count_ones() == u32::from(len) {
            true => Value::constant(0),
            false => unknown(),
        }
    }

    /// Sources of what stands in the slot at `offset` below the top, unless `len` bytes from there are all of it.
    pub(super) fn cut(&self, offset: i64, len: u8) -> Sources {
        let (at, within) = (offset.div_euclid(SLOT), offset.rem_euclid(SLOT));
        let spilled = self.stack.iter().find(|it| it.at == at).and_then(|it| it.spilled);
        match spilled {
            Some((value, spilled)) if within != 0 || spilled != len => value.lost_in(&Value::UNKNOWN),
            _ => 0,
        }
    }

    /// Every place that a value is kept in.
    fn values_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        let spilled = self.stack.iter_mut().filter_map(|it| it.spilled.as_mut().map(|it| &mut it.0));
        self.registers.iter_mut().chain(spilled)
    }
}

fn byte_mask(within: i64, len: u8) -> u8 {
    let bytes = if len >= 8 { u8::MAX } else { (1_u8 << len) - 1 };
    u8::try_from(within).map_or(0, |within| bytes << within)
}

/// Any number of `len` bytes.
pub(super) fn of_len(len: u8) -> Scalar {
    match len {
        8.. => Scalar::UNKNOWN,
        _ => Scalar::up_to((1 << (u32::from(len) * 8)) - 1),
    }
}

/// The lowest `len` bytes of a number.
fn narrowed(scalar: &Scalar, len: u8) -> Scalar {
    let all = of_len(len).high;
    match scalar.value() {
        Some(value) => Scalar { from: scalar.from, ..Scalar::constant(value & all) },
        None if scalar.high <= all => *scalar,
        None => Scalar { from: scalar.from, ..of_len(len) },
    }
}

/// A branch that was taken or not because of something that is open.
pub(super) type Assumption = (usize, bool);

/// Everything that is known on a path.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) frames: Vec<Frame>,
    /// Branches on what is open that led here, ascending.
    pub(super) assumed: SmallVec<[Assumption; 2]>,
    /// Whether something was given up on the way to keep the work within bounds.
    pub(super) is_widened: bool,
    /// The last branch that led here, a number in the trace.
    pub(super) trace: u32,
    /// The name that the next unknown number gets.
    next_name: u32,
}

impl State {
    /// A function that is started with unknown arguments.
    pub(super) fn start(trace: u32) -> Self {
        Self {
            frames: vec![Frame::new(0, usize::MAX)],
            assumed: SmallVec::new(),
            is_widened: false,
            trace,
            next_name: 1,
        }
    }

    pub(super) fn top(&mut self) -> Option<&mut Frame> {
        self.frames.last_mut()
    }

    pub(super) fn get(&self, register: u8) -> Value {
        let top = self.frames.last();
        top.and_then(|it| it.registers.get(usize::from(register))).copied().unwrap_or(Value::UNKNOWN)
    }

    pub(super) fn set(&mut self, register: u8, value: Value) {
        if let Some(slot) = self.top().and_then(|it| it.registers.get_mut(usize::from(register)))
            && register != R10
        {
            *slot = value;
        }
    }

    /// A register's value, with a name that copies share.
    pub(super) fn named(&mut self, register: u8) -> Value {
        let value = self.get(register);
        match value {
            Value::Scalar(scalar) if value.is_nameless() => {
                let named = Value::Scalar(Scalar { name: self.next_name, ..scalar });
                self.next_name += 1;
                self.set(register, named);
                named
            }
            other => other,
        }
    }

    /// Puts what is now known of a number in place of it and of all its copies.
    pub(super) fn refine(&mut self, register: u8, refined: Scalar) {
        let name = refined.name;
        if name != 0 {
            for value in self.frames.iter_mut().flat_map(Frame::values_mut) {
                if let Value::Scalar(it) = value
                    && it.name == name
                {
                    *it = refined;
                }
            }
        }
        if self.get(register).is_scalar() {
            self.set(register, Value::Scalar(refined));
        }
    }

    /// Forgets registers that no instruction reads any more, and names that only one place has.
    pub(super) fn tidy(&mut self, live: u16) {
        if let Some(frame) = self.top() {
            for (number, register) in frame.registers.iter_mut().enumerate().take(usize::from(R10)) {
                if live & (1 << number) == 0 {
                    *register = Value::UNKNOWN;
                }
            }
        }
        let mut seen: SmallVec<[(u32, u32); 16]> = SmallVec::new();
        let mut each = |work: &mut dyn FnMut(&mut u32)| {
            for value in self.frames.iter_mut().flat_map(Frame::values_mut) {
                if let Value::Scalar(it) = value
                    && it.name != 0
                {
                    work(&mut it.name);
                }
            }
        };
        each(&mut |name| match seen.iter_mut().find(|it| it.0 == *name) {
            Some(known) => known.1 += 1,
            None => seen.push((*name, 1)),
        });
        each(&mut |name| {
            if seen.iter().any(|it| it.0 == *name && it.1 == 1) {
                *name = 0;
            }
        });
    }

    /// Whether whatever can follow `other` can follow this, too. `open`: sources that are not known.
    pub(super) fn covers(&self, other: &Self, open: Sources) -> bool {
        let mut names = Names::default();
        self.frames.len() == other.frames.len()
            && self.frames.iter().zip(&other.frames).all(|(this, other)| {
                this.returns_to == other.returns_to
                    && this
                        .registers
                        .iter()
                        .zip(&other.registers)
                        .all(|(this, other)| this.covers(other, &mut names, open))
                    && this.stack.iter().all(|slot| {
                        let found = other.stack.iter().find(|it| it.at == slot.at);
                        let Some(found) = found else { return slot.spilled.is_none() && slot.zeros == 0 };
                        let spilled = match (&slot.spilled, &found.spilled) {
                            // Zeros beside a spill are lost with it.
                            (None, spilled) => slot.zeros == 0 || spilled.is_none(),
                            (Some((this, len)), Some((other, other_len))) => {
                                len == other_len && this.covers(other, &mut names, open)
                            }
                            (Some(_), None) => false,
                        };
                        spilled && slot.zeros & !found.zeros == 0
                    })
            })
    }

    /// Sources of values in this state that the same places of another, which may be it, do not have.
    pub(super) fn lost_in(&self, other: &Self) -> Sources {
        let of_frame = |(this, other): (&Frame, &Frame)| {
            let registers = this.registers.iter().zip(&other.registers);
            let lost = registers.fold(0, |all, (this, other)| all | this.lost_in(other));
            this.stack.iter().filter_map(|it| Some((it.at, it.spilled?))).fold(
                lost,
                |all, (at, (value, len))| {
                    let found = other.stack.iter().find(|it| it.at == at).and_then(|it| it.spilled);
                    let found = found.filter(|it| it.1 == len).map_or(Value::UNKNOWN, |it| it.0);
                    all | value.lost_in(&found)
                },
            )
        };
        self.frames.iter().zip(&other.frames).map(of_frame).fold(0, |all, it| all | it)
    }

    /// What may be either of two states of the same calls.
    pub(super) fn joined(&self, other: &Self) -> Self {
        let frames = self.frames.iter().zip(&other.frames).map(|(this, other)| {
            let mut registers = this.registers;
            for (register, other) in registers.iter_mut().zip(&other.registers) {
                *register = register.joined(other);
            }
            let stack = this.stack.iter().filter_map(|slot| {
                let found = other.stack.iter().find(|it| it.at == slot.at)?;
                let spilled = match (&slot.spilled, &found.spilled) {
                    (Some((this, len)), Some((other, other_len))) if len == other_len => {
                        Some((this.joined(other), *len))
                    }
                    _ => None,
                };
                let is_alike = spilled.is_some() == slot.spilled.is_some()
                    && slot.spilled.is_some() == found.spilled.is_some();
                let zeros = if is_alike { slot.zeros & found.zeros } else { 0 };
                (spilled.is_some() || zeros != 0).then_some(Slot { at: slot.at, spilled, zeros })
            });
            Frame { registers, stack: stack.collect(), returns_to: this.returns_to }
        });
        let mut joined = Self {
            frames: frames.collect(),
            assumed: self.assumed.iter().filter(|it| other.assumed.contains(it)).copied().collect(),
            is_widened: true,
            trace: other.trace,
            next_name: self.next_name.max(other.next_name),
        };
        // Copies of one number are not copies of the other's.
        for value in joined.frames.iter_mut().flat_map(Frame::values_mut) {
            if let Value::Scalar(it) = value {
                it.name = 0;
            }
        }
        joined
    }
}
