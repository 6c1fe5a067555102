//! Cases 37 to 52: roots as elements, bitfields, sizes.

use btfleet_engine::resolve::Code;
use btfleet_tests::build::{BtfBuilder, Member, Width};

use super::Row;
use super::case::Expect::{Fatal, Poison, Zero};
use super::case::{BYTE_OFF, BYTE_SZ, Case, EXISTS, LSHIFT, RSHIFT, SIGNED, TYPE_SIZE, Types, v};

/// An integer of `size` bytes.
fn unsigned(b: &mut BtfBuilder, size: u32) -> u32 {
    match size {
        1 => b.u8(),
        4 => b.u32(),
        _ => b.u64(),
    }
}

/// The same bitfield on both sides: window size and offset, left shift in little and big endian, right shift.
///
/// Offset, size and left shift are not compared with what the instruction holds: a compiler may have chosen
/// another window, so the instructions hold nonsense.
fn window(c: &mut Case, (base, bit, bits): (u32, u32, u32), expected: [u64; 5]) {
    let [size, off, little, big, rshift] = expected;
    let (l, t) = (unsigned(&mut c.local, base), unsigned(&mut c.target, base));
    let s = c.local.bits("s", 16, (l, bit, bits));
    c.target.bits("s", 16, (t, bit, bits));
    let lshift = c.by_order(little, big);
    c.mov(s, "0:0", BYTE_SZ, 77, v(size));
    c.mov(s, "0:0", BYTE_OFF, 77, v(off));
    c.mov(s, "0:0", LSHIFT, 77, v(lshift));
    c.mov(s, "0:0", RSHIFT, i32::try_from(rshift).expect("at most 64"), v(rshift));
    c.mov(s, "0:0", SIGNED, 0, v(0));
    c.mov(s, "0:0", EXISTS, 1, v(1));
}

/// A bitfield of the program that no aligned load covers, the same in the kernel.
fn unreadable(c: &mut Case, (base, bit, bits): (u32, u32, u32)) {
    let (l, t) = (unsigned(&mut c.local, base), unsigned(&mut c.target, base));
    let s = c.local.bits("s", 16, (l, bit, bits));
    c.target.bits("s", 16, (t, bit, bits));
    for kind in [BYTE_OFF, BYTE_SZ, SIGNED, LSHIFT, RSHIFT] {
        c.mov(s, "0:0", kind, 0, Fatal(-7, "bitfield-unreadable"));
    }
    c.mov(s, "0:0", EXISTS, 1, v(1));
}

/// `struct s { T a; }` of the program, the same in the kernel at 8; returns the program's.
fn same_field(c: &mut Case, field: fn(&mut BtfBuilder) -> u32) -> u32 {
    let (l, t) = (field(&mut c.local), field(&mut c.target));
    c.target.s("s", 40, &[("a", t, 8)]);
    c.local.s("s", 40, &[("a", l, 0)])
}

pub(super) const ROWS: &[Row] = &[
    (37, "a root that is an element of an array", |c| {
        let int = c.local.i32();
        let s = c.local.s("s", 4, &[("a", int, 0)]);
        let (int, long) = (c.target.i32(), c.target.long());
        c.target.s("s", 12, &[("p", long, 0), ("a", int, 8)]);
        c.mov(s, "2:0", BYTE_OFF, 8, v(32));
        c.mov(s, "2", BYTE_OFF, 8, v(24));
    }),
    (38, "the root itself", |c| {
        let int = c.local.i32();
        let s = c.local.s("s", 4, &[("a", int, 0)]);
        let int = c.target.i32();
        c.target.s("s", 12, &[("a", int, 8)]);
        c.mov(s, "0", BYTE_SZ, 4, v(12));
        c.mov(s, "0", BYTE_OFF, 0, v(0));
        c.mov(s, "0", EXISTS, 1, v(1));
        c.mov(s, "0", SIGNED, 0, Fatal(-22, "kind-not-applicable"));
    }),
    (39, "elements have no sign and no shifts", |c| {
        let s = same_field(c, |b| {
            let e = b.i32();
            b.arr(e, 4)
        });
        for kind in [SIGNED, LSHIFT, RSHIFT] {
            c.mov(s, "0:0:1", kind, 0, Fatal(-22, "kind-not-applicable"));
        }
        c.mov(s, "0:0:1", EXISTS, 1, v(1));
    }),
    (39, "not even where the target has no such field", |c| {
        let e = c.local.i32();
        let a = c.local.arr(e, 4);
        let s = c.local.s("s", 16, &[("a", a, 0)]);
        c.mov(s, "0:0:1", SIGNED, 0, Fatal(-22, "kind-not-applicable"));
    }),
    (40, "u32:20 at bit 3", |c| window(c, (4, 3, 20), [4, 0, 41, 35, 44])),
    (41, "s32:9 at bit 23", |c| {
        let (l, t) = (c.local.i32(), c.target.i32());
        let s = c.local.bits("s", 4, (l, 23, 9));
        c.target.bits("s", 4, (t, 23, 9));
        let lshift = c.by_order(32, 55);
        c.mov(s, "0:0", BYTE_OFF, 77, v(0));
        c.mov(s, "0:0", LSHIFT, 77, v(lshift));
        c.mov(s, "0:0", RSHIFT, 55, v(55));
        c.mov(s, "0:0", SIGNED, 1, v(1));
    }),
    (42, "packed u8:6 at bit 5", |c| window(c, (1, 5, 6), [2, 0, 53, 53, 58])),
    (43, "packed u8:6 at bit 14: the window grows twice", |c| window(c, (1, 14, 6), [4, 0, 44, 46, 58])),
    (44, "packed u8:3 at bit 70", |c| window(c, (1, 70, 3), [2, 8, 55, 54, 61])),
    (45, "packed u64:60 at bit 4", |c| window(c, (8, 4, 60), [8, 0, 0, 4, 4])),
    (46, "u64:61 at bit 4 fits no aligned load", |c| unreadable(c, (8, 4, 61))),
    (46, "u32:8 at bit 60 fits no aligned load", |c| unreadable(c, (4, 60, 8))),
    (46, "u32:4 at bit 62 fits no aligned load", |c| unreadable(c, (4, 62, 4))),
    (46, "the target's field decides too", |c| {
        let l = c.local.u32();
        let s = c.local.s("s", 4, &[("f", l, 0)]);
        let t = c.target.u32();
        c.target.bits("s", 16, (t, 60, 8));
        c.mov(s, "0:0", BYTE_OFF, 0, Fatal(-7, "bitfield-unreadable"));
    }),
    (46, "the local side's error comes even where nothing matches", |c| {
        let l = c.local.u32();
        let s = c.local.bits("s", 16, (l, 60, 8));
        c.mov(s, "0:0", BYTE_OFF, 0, Fatal(-7, "bitfield-unreadable"));
        c.mov(s, "0:0", EXISTS, 1, Zero(Code::NoType));
    }),
    (47, "a bitfield that became an ordinary field", |c| {
        let l = c.local.u32();
        let s = c.local.bits("s", 4, (l, 3, 20));
        let t = c.target.u64();
        c.target.s("s", 16, &[("f", t, 8)]);
        c.mov(s, "0:0", BYTE_OFF, 77, v(8));
        c.mov(s, "0:0", BYTE_SZ, 77, v(8));
        c.mov(s, "0:0", LSHIFT, 77, v(0));
        c.mov(s, "0:0", RSHIFT, 44, v(0));
        c.mov(s, "0:0", SIGNED, 0, v(0));
    }),
    (47, "and takes its sign from the target", |c| {
        let l = c.local.u32();
        let s = c.local.bits("s", 4, (l, 3, 20));
        let t = c.target.long();
        c.target.s("s", 16, &[("f", t, 8)]);
        c.mov(s, "0:0", SIGNED, 0, v(1));
    }),
    (48, "a field that became a bitfield cannot be loaded", |c| {
        let l = c.local.u32();
        let s = c.local.s("s", 4, &[("f", l, 0)]);
        let t = c.target.u32();
        c.target.bits("s", 4, (t, 0, 20));
        c.ldx(s, "0:0", Width::W, 0, Poison(Code::SizeUnsafe));
        c.mov(s, "0:0", BYTE_OFF, 0, v(0));
    }),
    (49, "the windows of bitfields are not compared with the instruction", |c| {
        window(c, (4, 3, 20), [4, 0, 41, 35, 44]);
    }),
    (49, "their right shift and sign are", |c| {
        let (l, t) = (c.local.u32(), c.target.u32());
        let s = c.local.bits("s", 4, (l, 3, 20));
        c.target.bits("s", 4, (t, 3, 20));
        c.mov(s, "0:0", RSHIFT, 45, Fatal(-22, "insn-mismatch"));
        c.mov(s, "0:0", SIGNED, 1, Fatal(-22, "insn-mismatch"));
    }),
    (49, "and everything of an ordinary field is", |c| {
        let s = same_field(c, |b| b.u32());
        for kind in [BYTE_OFF, BYTE_SZ, LSHIFT, RSHIFT, SIGNED] {
            c.mov(s, "0:0", kind, 7, Fatal(-22, "insn-mismatch"));
        }
        c.ldx(s, "0:0", Width::W, 2, Fatal(-22, "insn-mismatch"));
    }),
    (50, "an existence query has to hold 1", |c| {
        let s = same_field(c, |b| b.i32());
        c.mov(s, "0:0", EXISTS, 0, Fatal(-22, "insn-mismatch"));
        c.mov(s, "0:0", EXISTS, 2, Fatal(-22, "insn-mismatch"));
        c.mov(s, "0:0", EXISTS, 1, v(1));
    }),
    (50, "also where the field is missing", |c| {
        let int = c.local.i32();
        let s = c.local.s("s", 4, &[("a", int, 0)]);
        c.mov(s, "0:0", EXISTS, 0, Fatal(-22, "insn-mismatch"));
        c.mov(s, "0:0", EXISTS, 1, Zero(Code::NoType));
    }),
    (51, "sizes of members and elements", |c| {
        let (int, ptr, float) = (c.local.i32(), c.local.ptr(0), c.local.float("float", 4));
        let (st, ar) = (c.local.s("", 4, &[("x", int, 0)]), c.local.arr(int, 4));
        let s = c.local.s(
            "s",
            40,
            &[("i", int, 0), ("st", st, 4), ("ar", ar, 8), ("p", ptr, 24), ("f", float, 32)],
        );
        let (int, long, char) = (c.target.i32(), c.target.u64(), c.target.char());
        let (ptr, double) = (c.target.ptr(0), c.target.float("double", 8));
        let st = c.target.s("", 12, &[("x", int, 0), ("y", int, 4), ("z", int, 8)]);
        let ar = c.target.arr(char, 10);
        c.target.s(
            "s",
            48,
            &[("i", long, 0), ("st", st, 8), ("ar", ar, 20), ("p", ptr, 32), ("f", double, 40)],
        );
        for (access, local, target) in
            [("0:0", 4, 8), ("0:1", 4, 12), ("0:2", 16, 10), ("0:3", 8, 8), ("0:4", 4, 8), ("0:2:1", 4, 1)]
        {
            c.mov(s, access, BYTE_SZ, local, v(target));
        }
        c.mov(s, "0", TYPE_SIZE, 40, v(48));
    }),
    (52, "candidates of different sizes", |c| {
        let l = c.local.u32();
        let s = c.local.s("s", 4, &[("a", l, 0)]);
        let (int, char) = (c.target.u32(), c.target.char());
        c.target.s("s", 4, &[("a", int, 0)]);
        c.target.s("s___b", 1, &[("a", char, 0)]);
        c.mov(s, "0:0", BYTE_SZ, 4, Fatal(-22, "ambiguous-value"));
        // Offsets agree, and only the first candidate's size counts.
        c.ldx(s, "0:0", Width::W, 0, v(0));
    }),
    (52, "the first candidate's size counts", |c| {
        let l = c.local.u32();
        let s = c.local.s("s", 4, &[("a", l, 0)]);
        let (int, long) = (c.target.u32(), c.target.u64());
        c.target.s("s", 8, &[("a", long, 0)]);
        c.target.s("s___b", 4, &[("a", int, 0)]);
        c.ldx(s, "0:0", Width::W, 0, super::case::Expect::Load(0, Width::Dw));
    }),
    (52, "an existence query ignores sizes", |c| {
        let s = same_field(c, |b| b.u32());
        let char = c.target.char();
        c.target.structure("s___b", 16, &[Member::new("a", char, 64)]);
        c.mov(s, "0:0", EXISTS, 1, v(1));
    }),
];
