//! Random programs that the verifier accepts, with places in them that may be poisoned.
//!
//! Values come from few constants, so that branches are often decided; others come from the kernel, so that they are
//! not. All of it goes through registers, the stack in all widths, static and global functions, and callbacks.

use btfleet_tests::build::{BtfBuilder, ByteOrder, Insn, ObjectBuilder, Width};
use btfleet_tests::generator::Rng;

/// The upper half of the immediate of the instruction that marks a place: `r0 = 0x7eadNNNN`.
pub(super) const MARK: i32 = 0x7ead_0000;
/// Bytes of the stack that programs use.
const STACK: i16 = 64;
const PSEUDO_CALL: u8 = 1;
const PSEUDO_FUNC: u8 = 4;
const PROBE_READ_KERNEL: i32 = 113;
const PRANDOM: i32 = 7;
const LOOP: i32 = 181;
const WIDTHS: [(Width, i16); 4] = [(Width::B, 1), (Width::H, 2), (Width::W, 4), (Width::Dw, 8)];
/// The register that points at the context, or into the caller's stack.
const POINTER: u8 = 9;
/// The register that counts.
const COUNTER: u8 = 8;

/// What a function is called with, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The program; its argument is a context of which 8 bytes can be read at a time.
    Entry,
    /// A static function of numbers.
    Static,
    /// A global function of numbers.
    Global,
    /// A static function of a place in the caller's stack.
    Writer,
    /// A callback that gets a place in its caller's stack.
    Callback,
}

/// A generated program.
pub(super) struct Generated {
    /// The object's file.
    pub(super) object: Vec<u8>,
    /// Its BTF.
    pub(super) btf: Vec<u8>,
    /// The FUNC of a function, by name.
    pub(super) funcs: Vec<(String, u32)>,
}

struct Generator<'r> {
    rng: &'r mut Rng,
    kinds: &'r [Kind],
    kind: Kind,
    /// Number of the function.
    number: usize,
    marks: &'r mut i32,
    /// Whether it is in a loop, whose counter has to be left alone.
    is_counting: bool,
}

/// Code in which calls are not resolved: their immediate is the callee's number.
type Code = Vec<Insn>;

impl Generator<'_> {
    fn constant(&mut self) -> i32 {
        match self.rng.below(12) {
            0 => -1,
            1 => i32::MIN,
            2 => i32::MAX,
            3 => 0x80,
            4 => 0xff,
            5 => 0x8000,
            6 => self.rng.next_u64() as i32,
            7 => -i32::try_from(self.rng.below(9)).unwrap(),
            _ => i32::try_from(self.rng.below(4)).unwrap(),
        }
    }

    /// A register that may be written.
    fn target(&mut self) -> u8 {
        loop {
            let register = u8::try_from(self.rng.below(9)).unwrap();
            if !(self.is_counting && register == COUNTER) {
                return register;
            }
        }
    }

    /// A register that may be read.
    fn source(&mut self) -> u8 {
        u8::try_from(self.rng.below(9)).unwrap()
    }

    /// Puts something into a register.
    fn load(&mut self, register: u8, code: &mut Code) {
        match self.rng.below(10) {
            0 => {
                let value = if self.rng.chance(50) { self.rng.next_u64() } else { 1 << self.rng.below(64) };
                code.extend(Insn::ldimm64(register, value));
            }
            1 => code.push(Insn::new(0xb4, register, 0, 0, self.constant())),
            2 | 3 if self.kind == Kind::Entry => {
                code.push(Insn::ldx(
                    Width::Dw,
                    register,
                    POINTER,
                    8 * i16::try_from(self.rng.below(4)).unwrap(),
                ));
                if self.rng.chance(60) {
                    let mask = *self.rng.pick(&[1, 3, 7, 0x10, 0x11, 0xff, -8, i32::MAX]);
                    code.push(Insn::alu(0x50, self.rng.chance(50), register, mask));
                }
            }
            _ => code.push(Insn::mov(register, self.constant())),
        }
    }

    /// Writes registers that a call has made unreadable.
    fn after_call(&mut self, code: &mut Code) {
        for register in 1..=5 {
            if self.rng.chance(50) {
                code.push(Insn::alu_reg(0xb0, true, register, 6 + u8::try_from(self.rng.below(3)).unwrap()));
            } else {
                self.load(register, code);
            }
        }
    }

    fn place(&mut self) -> (Width, i16) {
        let (width, len) = *self.rng.pick(&WIDTHS);
        let slots = i16::try_from(self.rng.below(u32::try_from(STACK / len).unwrap())).unwrap();
        // A few places are met again and again.
        let offset = if self.rng.chance(60) { slots % (16 / len) } else { slots };
        (width, -STACK + offset * len)
    }

    fn arithmetic(&mut self, code: &mut Code) {
        let (register, wide) = (self.target(), self.rng.chance(50));
        let bits = if wide { 64 } else { 32 };
        let op = *self.rng.pick(&[
            0x00, 0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0,
        ]);
        let class = if wide { 7 } else { 4 };
        match op {
            0x80 => code.push(Insn::new(0x80 | class, register, 0, 0, 0)),
            0xd0 => {
                let len = *self.rng.pick(&[16, 32, 64]);
                let source = if wide { 0 } else { u8::from(self.rng.chance(50)) * 8 };
                code.push(Insn::new(0xd0 | source | class, register, 0, 0, len));
            }
            0xb0 => {
                let extend = if !self.rng.chance(40) {
                    0
                } else if wide {
                    *self.rng.pick(&[8, 16, 32])
                } else {
                    *self.rng.pick(&[8, 16])
                };
                code.push(Insn::new(0xb8 | class, register, self.source(), extend, 0));
            }
            0x60 | 0x70 | 0xc0 if self.rng.chance(90) => {
                let by = *self.rng.pick(&[0, 1, 3, 8, 16, 31, 32, 48, 56, 63]);
                code.push(Insn::new(op | class, register, 0, 0, by % bits));
            }
            _ => {
                let signed = i16::from(matches!(op, 0x30 | 0x90) && self.rng.chance(30));
                if self.rng.chance(50) {
                    code.push(Insn::new(op | 8 | class, register, self.source(), signed, 0));
                } else {
                    let value = match (op, self.constant()) {
                        (0x30 | 0x90, 0) => 3,
                        (0x60 | 0x70 | 0xc0, by) => by.rem_euclid(bits),
                        (_, value) => value,
                    };
                    code.push(Insn::new(op | class, register, 0, signed, value));
                }
            }
        }
    }

    fn stack(&mut self, code: &mut Code) {
        let (width, offset) = self.place();
        match self.rng.below(12) {
            0 | 1 => code.push(Insn::st(width, 10, offset, self.constant())),
            2..=4 => code.push(Insn::stx(width, 10, self.source(), offset)),
            5..=8 => code.push(Insn::ldx(width, self.target(), 10, offset)),
            9 if width != Width::Dw => {
                // A load with its sign.
                let mut load = Insn::ldx(width, self.target(), 10, offset);
                load.code = load.code & 0x1f | 0x80;
                code.push(load);
            }
            9 => {
                // Fetch and add, exchange, compare and exchange, plain add.
                let op = *self.rng.pick(&[0x01, 0xe1, 0xf1, 0x00, 0x51]);
                let source = if self.is_counting { 6 } else { self.source() };
                code.push(Insn::new(0xdb, 10, source, offset, op));
            }
            _ => {
                // A place that is not known.
                let (index, pointer) = (6, 7);
                self.load(index, code);
                code.push(Insn::alu(0x50, true, index, 0x18));
                code.push(Insn::alu_reg(0xb0, true, pointer, 10));
                code.push(Insn::alu_reg(0x00, true, pointer, index));
                code.push(Insn::alu(0x00, true, pointer, (-STACK).into()));
                match self.rng.below(3) {
                    0 => code.push(Insn::st(width, pointer, 0, self.constant())),
                    1 => code.push(Insn::stx(width, pointer, u8::try_from(self.rng.below(6)).unwrap(), 0)),
                    _ => code.push(Insn::ldx(width, 0, pointer, 0)),
                }
                code.push(Insn::mov(pointer, self.constant()));
            }
        }
    }

    /// A load or store through the pointer into the caller's stack.
    fn outside(&mut self, code: &mut Code) {
        let (width, len) = *self.rng.pick(&WIDTHS);
        let offset = i16::try_from(self.rng.below(u32::try_from(16 / len).unwrap())).unwrap() * len;
        code.push(match self.rng.below(3) {
            0 => Insn::st(width, POINTER, offset, self.constant()),
            1 => Insn::stx(width, POINTER, self.source(), offset),
            _ => Insn::ldx(width, self.target(), POINTER, offset),
        });
    }

    fn call(&mut self, code: &mut Code) {
        let first = self.number + 1;
        let callee = first + self.rng.index(self.kinds.len().saturating_sub(first) + 2);
        let to_stack = |register: u8, offset: i32| {
            [Insn::alu_reg(0xb0, true, register, 10), Insn::alu(0x00, true, register, offset)]
        };
        let at = -i32::from(STACK) + 8 * i32::try_from(self.rng.below(3)).unwrap();
        match self.kinds.get(callee) {
            Some(Kind::Static | Kind::Global) => {
                code.push(Insn::new(0x85, 0, PSEUDO_CALL, 0, i32::try_from(callee).unwrap()));
            }
            Some(Kind::Writer) => {
                code.extend(to_stack(1, at));
                code.push(Insn::new(0x85, 0, PSEUDO_CALL, 0, i32::try_from(callee).unwrap()));
            }
            Some(Kind::Callback) => {
                let rounds = i32::try_from(self.rng.below(4)).unwrap();
                code.push(Insn::mov(1, rounds));
                code.push(Insn::new(0x18, 2, PSEUDO_FUNC, 0, i32::try_from(callee).unwrap()));
                code.push(Insn::default());
                code.extend(to_stack(3, at));
                code.push(Insn::mov(4, 0));
                code.push(Insn::call(LOOP));
            }
            _ if self.rng.chance(50) => code.push(Insn::call(PRANDOM)),
            _ => {
                code.extend(to_stack(1, at));
                code.push(Insn::mov(2, *self.rng.pick(&[1, 4, 8, 16])));
                code.push(Insn::mov(3, 0));
                code.push(Insn::call(PROBE_READ_KERNEL));
            }
        }
        self.after_call(code);
        if self.rng.chance(60) {
            code.push(Insn::alu_reg(0xb0, true, 6, 0));
        }
    }

    fn condition(&mut self, over: usize) -> Insn {
        let op =
            *self.rng.pick(&[0x10, 0x10, 0x20, 0x30, 0x40, 0x50, 0x50, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0]);
        let class = if self.rng.chance(50) { 5 } else { 6 };
        let off = i16::try_from(over).unwrap();
        let register = self.source();
        if self.rng.chance(30) {
            Insn::new(op | 8 | class, register, self.source(), off, 0)
        } else {
            Insn::new(op | class, register, 0, off, self.constant())
        }
    }

    fn mark(&mut self, code: &mut Code) {
        code.push(Insn::mov(0, MARK | *self.marks));
        *self.marks += 1;
    }

    fn block(&mut self, depth: u32) -> Code {
        let mut code = Vec::new();
        for _ in 0..self.rng.range(1, 5) {
            match self.rng.below(20) {
                0..=2 => {
                    let register = self.target();
                    self.load(register, &mut code);
                }
                3..=7 => self.arithmetic(&mut code),
                8..=11 => self.stack(&mut code),
                12 if matches!(self.kind, Kind::Writer | Kind::Callback) => self.outside(&mut code),
                12 | 13 if !self.is_counting => self.call(&mut code),
                14 if depth > 0 && !self.is_counting => self.counted(depth, &mut code),
                _ if depth > 0 => self.branch(depth, &mut code),
                _ => self.arithmetic(&mut code),
            }
        }
        code
    }

    fn branch(&mut self, depth: u32, code: &mut Code) {
        let mut then = self.block(depth - 1);
        if self.rng.chance(50) {
            self.mark(&mut then);
        }
        if self.rng.chance(40) {
            let mut other = self.block(depth - 1);
            if self.rng.chance(50) {
                self.mark(&mut other);
            }
            then.push(Insn::ja(i16::try_from(other.len()).unwrap()));
            code.push(self.condition(then.len()));
            code.extend(then);
            code.extend(other);
        } else {
            code.push(self.condition(then.len()));
            code.extend(then);
        }
    }

    /// A loop of a few rounds.
    fn counted(&mut self, depth: u32, code: &mut Code) {
        code.push(Insn::mov(COUNTER, 0));
        self.is_counting = true;
        let mut body = self.block(depth - 1);
        self.is_counting = false;
        body.push(Insn::alu(0x00, true, COUNTER, 1));
        let back = -i16::try_from(body.len() + 1).unwrap();
        body.push(Insn::jmp(0xa0, COUNTER, i32::try_from(self.rng.range(1, 4)).unwrap(), back));
        code.extend(body);
    }

    fn function(&mut self, depth: u32) -> Code {
        let mut code = Vec::new();
        let (arguments, pointer) = match self.kind {
            Kind::Entry => (0, Some(1)),
            Kind::Static | Kind::Global => (5, None),
            Kind::Writer => (0, Some(1)),
            Kind::Callback => (0, Some(2)),
        };
        match pointer {
            Some(register) => code.push(Insn::alu_reg(0xb0, true, POINTER, register)),
            None => code.push(Insn::mov(POINTER, 0)),
        }
        for register in (0..9).filter(|it| !(1..=arguments).contains(it)) {
            self.load(register, &mut code);
        }
        for _ in 0..self.rng.range(2, 4) {
            let block = self.block(depth);
            code.extend(block);
            self.branch(depth.max(1), &mut code);
        }
        if self.kind == Kind::Callback {
            code.push(Insn::mov(0, i32::from(self.rng.chance(30))));
        } else if self.rng.chance(50) {
            self.load(0, &mut code);
        }
        code.push(Insn::exit());
        code
    }
}

/// The program of a seed.
pub(super) fn generate(seed: u64) -> Generated {
    let mut rng = Rng::new(seed);
    let rng = &mut rng;
    let mut kinds = vec![Kind::Entry];
    for _ in 0..rng.below(4) {
        kinds.push(*rng.pick(&[Kind::Static, Kind::Static, Kind::Global, Kind::Writer, Kind::Callback]));
    }
    let mut marks = 0;
    let mut codes = Vec::new();
    for (number, &kind) in kinds.iter().enumerate() {
        let depth = if number == 0 { 3 } else { 2 };
        let mut generator =
            Generator { rng, kinds: &kinds, kind, number, marks: &mut marks, is_counting: false };
        codes.push(generator.function(depth));
    }
    write(&kinds, &codes)
}

fn write(kinds: &[Kind], codes: &[Code]) -> Generated {
    let name = |number: usize| if number == 0 { "entry".to_owned() } else { format!("f{number}") };
    let mut btf = BtfBuilder::new(ByteOrder::Little);
    let long = btf.int("long", 8, 1);
    let proto = btf.func_proto(long, &[("a", long), ("b", long), ("c", long), ("d", long), ("e", long)]);
    let of_kind = |kind: Kind| u32::from(matches!(kind, Kind::Entry | Kind::Global));
    let funcs: Vec<(String, u32)> = kinds
        .iter()
        .enumerate()
        .map(|(number, kind)| (name(number), btf.func(&name(number), proto, of_kind(*kind))))
        .collect();
    let btf = btf.finish();
    let mut object = ObjectBuilder::new(ByteOrder::Little);
    let entry = object.code_section("raw_tp/x");
    let text = object.code_section(".text");
    let mut symbols = Vec::new();
    let mut starts = Vec::new();
    for (number, (kind, code)) in kinds.iter().zip(codes).enumerate() {
        let section = if number == 0 { entry } else { text };
        // The call's immediate stands for the callee until it is linked.
        let linked: Vec<Insn> = code
            .iter()
            .map(|it| match (it.code, it.src) {
                (0x85, PSEUDO_CALL) => Insn { imm: -1, ..*it },
                (0x18, PSEUDO_FUNC) => Insn { imm: 0, ..*it },
                _ => *it,
            })
            .collect();
        starts.push(object.function(section, &name(number), of_kind(*kind) == 1, &linked));
        symbols.push(number);
    }
    for (number, code) in codes.iter().enumerate() {
        let section = if number == 0 { entry } else { text };
        for (at, insn) in code.iter().enumerate() {
            if matches!((insn.code, insn.src), (0x85, PSEUDO_CALL) | (0x18, PSEUDO_FUNC)) {
                let symbol = symbols[usize::try_from(insn.imm).unwrap()];
                object.relocation(section, u64::from(starts[number]) + 8 * at as u64, symbol, 10);
            }
        }
    }
    object.license("GPL");
    object.btf(&btf);
    Generated { object: object.finish(), btf, funcs }
}
