//! Reachability of hand-written programs, and of hostile ones.

use std::time::{Duration, Instant};

use btfleet_engine::dialect::Release;
use btfleet_engine::format::Endian;
use btfleet_engine::format::insn::Insn as Decoded;
use btfleet_engine::object::Object;
use btfleet_engine::reach::{Feature, Image, Question, Reach, Verifier, judge};
use btfleet_tests::build::{ByteOrder, Insn, ObjectBuilder, Width};

const PSEUDO_CALL: u8 = 1;

/// The place that is poisoned.
const POISON: Insn = Insn { code: 0x85, dst: 0, src: 0, off: 0, imm: 195_896_080 };

/// One that does all that is known of.
fn newest() -> Verifier {
    Verifier::of(Some(Release { major: 99, minor: 0, patch: 0 }))
}

/// Whether the first poisoned instruction of a program is reached. `functions`: called by their number from 0.
fn reach(order: ByteOrder, verifier: Verifier, entry: &[Insn], functions: &[Vec<Insn>]) -> Reach {
    let mut object = ObjectBuilder::new(order);
    let section = object.program("raw_tp/x", "entry", entry);
    let text = object.code_section(".text");
    let symbols: Vec<usize> = (0..functions.len()).collect();
    let starts: Vec<u32> = functions
        .iter()
        .zip(&symbols)
        .map(|(code, number)| object.function(text, &format!("f{number}"), false, code))
        .collect();
    // Symbol 0 is the entry's.
    let mut calls = |section, start: u32, code: &[Insn]| {
        for (at, insn) in code.iter().enumerate().filter(|(_, it)| it.code == 0x85 && it.src == PSEUDO_CALL) {
            object.relocation(section, u64::from(start) + 8 * at as u64, 1 + insn.off as usize, 10);
        }
    };
    calls(section, 0, entry);
    for (code, start) in functions.iter().zip(&starts) {
        calls(text, *start, code);
    }
    let file = object.finish();
    let object = Object::parse(&file).expect("an object");
    let number = object.programs().iter().position(|it| it.name == b"entry").expect("the entry");
    let image = Image::link(&object, number);
    let insns: Vec<Decoded> = image.slots.iter().map(|it| it.insn).collect();
    let poisoned: Vec<usize> =
        (0..insns.len()).filter(|it| insns.get(*it) == Some(&Decoded::POISON)).collect();
    let endian = if order == ByteOrder::Little { Endian::Little } else { Endian::Big };
    let question = Question {
        image: &image,
        insns: &insns,
        records: &vec![None; insns.len()],
        live: &image.live_registers(),
        asked: &poisoned,
        constants: &[],
        symbols: &[],
        is_function: &[],
        throws: &[],
        endian,
        verifier,
    };
    judge(&question).asked.remove(0)
}

/// The callee's number stands in the offset until it is linked.
fn call(function: i16) -> Insn {
    Insn::new(0x85, 0, PSEUDO_CALL, function, -1)
}

/// `if r0 == value goto poison`, the last instructions of a program.
fn poison_if(value: i32) -> [Insn; 4] {
    [Insn::jmp(0x10, 0, value, 1), Insn::exit(), POISON, Insn::exit()]
}

fn is_dead(reach: &Reach) -> bool {
    matches!(reach, Reach::Dead(_))
}

/// Check both byte orders: the lowest bytes of a spilled number stand where the order has them.
#[test]
fn fills_read_the_bytes_that_the_byte_order_puts_there() {
    for (order, low, high) in [(ByteOrder::Little, -8, -4), (ByteOrder::Big, -4, -8)] {
        let program = |offset: i16, value: i32| {
            let mut code = Insn::ldimm64(1, 0x1_0000_0002).to_vec();
            code.extend([Insn::stx(Width::Dw, 10, 1, -8), Insn::ldx(Width::W, 0, 10, offset)]);
            code.extend(poison_if(value));
            code
        };
        assert!(!is_dead(&reach(order, newest(), &program(low, 2), &[])), "{order:?}");
        assert!(is_dead(&reach(order, newest(), &program(low, 1), &[])), "{order:?}");
        // The verifier does not know the highest bytes.
        assert!(!is_dead(&reach(order, newest(), &program(high, 1), &[])), "{order:?}");
        assert!(!is_dead(&reach(order, newest(), &program(high, 5), &[])), "{order:?}");
    }
}

/// Check what random programs found: the verifier does not know that a number without itself is nothing, and forgets
/// the upper half of a quotient of 32 bits.
#[test]
fn the_verifier_is_not_cleverer_than_it_is() {
    let mut itself = vec![Insn::call(7), Insn::alu_reg(0xa0, true, 0, 0)];
    itself.extend(poison_if(5));
    assert!(!is_dead(&reach(ByteOrder::Little, newest(), &itself, &[])));
    let untracked = newest().without(Feature::TracksDivision);
    let mut quotient = vec![Insn::mov(0, 8), Insn::alu(0x30, false, 0, 2)];
    quotient.extend(poison_if(-1));
    assert!(!is_dead(&reach(ByteOrder::Little, untracked, &quotient, &[])));
    assert!(is_dead(&reach(ByteOrder::Little, newest(), &quotient, &[])));
    // A narrow spill over a wide zero.
    let mut beside = vec![Insn::mov(1, 0), Insn::stx(Width::Dw, 10, 1, -8), Insn::st(Width::B, 10, -8, 1)];
    beside.push(Insn::ldx(Width::W, 0, 10, -4));
    beside.extend(poison_if(5));
    assert!(!is_dead(&reach(ByteOrder::Little, newest(), &beside, &[])));
}

/// Check results of static functions, and what they write to their caller's stack.
#[test]
fn static_functions_are_followed() {
    let mut code = vec![Insn::mov(1, 3), call(0)];
    code.extend(poison_if(4));
    let plus = |by| vec![Insn::alu_reg(0xb0, true, 0, 1), Insn::alu(0x00, true, 0, by), Insn::exit()];
    assert!(!is_dead(&reach(ByteOrder::Little, newest(), &code, &[plus(1)])));
    assert!(is_dead(&reach(ByteOrder::Little, newest(), &code, &[plus(2)])));
    let mut code = vec![Insn::st(Width::Dw, 10, -8, 1), Insn::alu_reg(0xb0, true, 1, 10)];
    code.extend([Insn::alu(0x00, true, 1, -8), call(0), Insn::ldx(Width::Dw, 0, 10, -8)]);
    code.extend(poison_if(4));
    let write = |it| vec![Insn::st(Width::Dw, 1, 0, it), Insn::mov(0, 0), Insn::exit()];
    assert!(!is_dead(&reach(ByteOrder::Little, newest(), &code, &[write(4)])));
    assert!(is_dead(&reach(ByteOrder::Little, newest(), &code, &[write(5)])));
}

/// Check jumps that may be taken, and long ones.
#[test]
fn may_goto_goes_both_ways_and_gotol_goes_far() {
    let may = [Insn::new(0xe5, 0, 0, 1, 0), Insn::exit(), POISON, Insn::exit()];
    assert!(!is_dead(&reach(ByteOrder::Little, newest(), &may, &[])));
    let long = [Insn::new(0x06, 0, 0, 0, 1), POISON, Insn::exit()];
    assert!(is_dead(&reach(ByteOrder::Little, newest(), &long, &[])));
}

/// Check that hostile programs come to an end soon.
#[test]
fn hostile_programs_take_bounded_time() {
    let exit = [Insn::mov(0, 0), Insn::exit()];
    let unknown = |off: i16| Insn::jmp(0x10, 6, 0, off);
    let far = [unknown(i16::MAX), Insn::ja(i16::MIN), POISON];
    let endless = [Insn::alu(0x00, true, 7, 1), Insn::jmp(0x50, 7, -1, -2), POISON];
    // Each function calls the next many times.
    let tree: Vec<Vec<Insn>> = (0..8_i16)
        .map(|number| {
            let calls = std::iter::repeat_n(call((number + 1).min(7)), 30);
            calls.chain([POISON]).chain(exit).collect()
        })
        .collect();
    // What is read at the end has to be carried to the start against the order of the code.
    let mut backwards: Vec<Insn> = vec![Insn::ja(30_000)];
    backwards.extend(std::iter::repeat_n(Insn::ja(-2), 30_000));
    backwards.extend([POISON, Insn::exit()]);
    let mut forks: Vec<Insn> = vec![Insn::call(7)];
    for _ in 0..200_000 {
        forks.extend([
            unknown(1),
            Insn::alu(0x00, true, 7, 1),
            unknown(1),
            POISON,
            Insn::alu(0x60, true, 7, 1),
        ]);
    }
    let programs = [
        ("far", far.to_vec(), [].as_slice()),
        ("endless", endless.to_vec(), &[]),
        ("tree", vec![call(0), POISON], tree.as_slice()),
        ("backwards", backwards, &[]),
        ("forks", forks, &[]),
    ];
    for (name, code, functions) in programs {
        let start = Instant::now();
        let _ = reach(ByteOrder::Little, newest(), &code, functions);
        assert!(start.elapsed() < Duration::from_secs(20), "{name} takes {:?}", start.elapsed());
    }
}
