//! Cases 1 to 36: finding a field, and following its size with the access.

use btfleet_engine::resolve::Code;
use btfleet_tests::build::{BtfBuilder, Width};

use super::Row;
use super::case::Expect::{Fatal, Load, Poison, Zero};
use super::case::{BYTE_OFF, BYTE_SZ, Case, EXISTS, TYPE_SIZE, Types, v};

/// `struct name { int a; }`.
fn with_a(types: &mut BtfBuilder, name: &str) -> u32 {
    let int = types.i32();
    types.s(name, 4, &[("a", int, 0)])
}

/// `struct s { struct { int x; } m; }` of the program.
fn local_m_x(c: &mut Case) -> u32 {
    let int = c.local.i32();
    let m = c.local.s("", 4, &[("x", int, 0)]);
    c.local.s("s", 4, &[("m", m, 0)])
}

/// `struct s { int x; int y; }` of the program.
fn local_x_y(c: &mut Case) -> u32 {
    let int = c.local.i32();
    c.local.s("s", 8, &[("x", int, 0), ("y", int, 4)])
}

/// `struct s___a { int pad; int x; }` and `struct s___b { int pad[2]; int y; }` of the kernel.
fn target_x_or_y(c: &mut Case) {
    let int = c.target.i32();
    c.target.s("s___a", 8, &[("x", int, 4)]);
    c.target.s("s___b", 12, &[("y", int, 8)]);
}

/// `struct s { field a; }` on both sides, at 8 in the kernel; returns the program's.
fn field_a(c: &mut Case, local: fn(&mut BtfBuilder) -> u32, target: fn(&mut BtfBuilder) -> u32) -> u32 {
    let (l, t) = (local(&mut c.local), target(&mut c.target));
    c.target.s("s", 24, &[("a", t, 8)]);
    c.local.s("s", 24, &[("a", l, 0)])
}

/// `int a` at the end of a chain of `depth` anonymous structs, each at 4 in the one around it.
fn nested(types: &mut BtfBuilder, depth: u32) {
    let int = types.i32();
    let mut inner = types.s("", 8, &[("a", int, 4)]);
    for level in 2..depth {
        inner = types.s("", level * 4 + 4, &[("", inner, 4)]);
    }
    types.s("s", depth * 4 + 4, &[("", inner, 4)]);
}

/// `struct s { int n; struct e f[nelems]; }` with elements of `elem` bytes, `f` behind a header of `elem` bytes.
fn trailing(types: &mut BtfBuilder, elem: u32, nelems: u32, last: bool) -> u32 {
    let int = types.i32();
    let e = types.s("e", elem, &[("k", int, 0)]);
    let f = types.arr(e, nelems);
    let mut members = vec![("n", int, 0), ("f", f, elem)];
    if !last {
        members.push(("tail", int, elem * 3));
    }
    types.s("s", elem * 4, &members)
}

pub(super) const ROWS: &[Row] = &[
    (1, "flavors of the local name are cut", |c| {
        let (v1, v2) = (with_a(&mut c.local, "s___v1"), with_a(&mut c.local, "s___v2"));
        let (int, long) = (c.target.i32(), c.target.long());
        c.target.s("s", 16, &[("p", long, 0), ("a", int, 8)]);
        c.mov(v1, "0:0", BYTE_OFF, 0, v(8));
        c.mov(v2, "0:0", BYTE_OFF, 0, v(8));
    }),
    (2, "a type that the target lacks", |c| {
        let s = with_a(&mut c.local, "s___x");
        with_a(&mut c.target, "t");
        c.mov(s, "0:0", BYTE_OFF, 0, Poison(Code::NoType));
        c.mov(s, "0:0", EXISTS, 1, Zero(Code::NoType));
        c.mov(s, "0", TYPE_SIZE, 4, Zero(Code::NoType));
    }),
    (2, "a type that the target only declares", |c| {
        let s = with_a(&mut c.local, "s___x");
        c.target.fwd("s", false);
        c.mov(s, "0:0", BYTE_OFF, 0, Poison(Code::FwdOnly));
        c.mov(s, "0:0", EXISTS, 1, Zero(Code::FwdOnly));
    }),
    (3, "two underscores make no flavor", |c| {
        let s = with_a(&mut c.local, "s");
        with_a(&mut c.target, "s__other");
        c.mov(s, "0:0", BYTE_OFF, 0, Poison(Code::NoType));
    }),
    (4, "structs and unions interchange on the path", |c| {
        let int = c.local.i32();
        let inner = c.local.s("", 4, &[("x", int, 0)]);
        let m = c.local.u("", 4, &[("m", inner)]);
        let s = c.local.s("s", 4, &[("m", m, 0)]);
        let int = c.target.i32();
        let inner = c.target.u("", 4, &[("x", int)]);
        let m = c.target.s("", 4, &[("m", inner, 0)]);
        c.target.s("s", 8, &[("pad", int, 0), ("m", m, 4)]);
        c.mov(s, "0:0:0:0", BYTE_OFF, 0, v(4));
    }),
    (5, "anonymous levels of the target add their offsets", |c| {
        let s = local_m_x(c);
        let (int, long) = (c.target.i32(), c.target.long());
        let deepest = c.target.s("", 4, &[("x", int, 0)]);
        let m = c.target.s("", 8, &[("z", int, 0), ("", deepest, 4)]);
        let third = c.target.s("", 12, &[("q", int, 0), ("m", m, 4)]);
        let second = c.target.u("", 12, &[("", third)]);
        let first = c.target.s("", 20, &[("p2", long, 0), ("", second, 8)]);
        c.target.s("s", 32, &[("pad", int, 0), ("", first, 8)]);
        c.mov(s, "0:0:0", BYTE_OFF, 0, v(24));
    }),
    (6, "the named struct in the middle is missing", |c| {
        let s = local_m_x(c);
        let int = c.target.i32();
        let inner = c.target.s("", 4, &[("x", int, 0)]);
        c.target.s("s", 4, &[("", inner, 0)]);
        c.mov(s, "0:0:0", BYTE_OFF, 0, Poison(Code::NoField));
    }),
    (6, "the struct in the middle is a pointer", |c| {
        let s = local_m_x(c);
        let int = c.target.i32();
        let inner = c.target.s("", 4, &[("x", int, 0)]);
        let m = c.target.ptr(inner);
        c.target.s("s", 8, &[("m", m, 0)]);
        c.mov(s, "0:0:0", BYTE_OFF, 0, Poison(Code::FieldIncompatible));
    }),
    (6, "the struct in the middle is an array of one", |c| {
        let s = local_m_x(c);
        let int = c.target.i32();
        let inner = c.target.s("", 4, &[("x", int, 0)]);
        let m = c.target.arr(inner, 1);
        c.target.s("s", 4, &[("m", m, 0)]);
        c.mov(s, "0:0:0", BYTE_OFF, 0, Poison(Code::FieldIncompatible));
    }),
    (6, "the leaf is an array of one", |c| {
        let s = local_m_x(c);
        let int = c.target.i32();
        let x = c.target.arr(int, 1);
        let m = c.target.s("", 4, &[("x", x, 0)]);
        c.target.s("s", 4, &[("m", m, 0)]);
        c.mov(s, "0:0:0", BYTE_OFF, 0, Poison(Code::FieldIncompatible));
    }),
    (7, "exactly 64 raw indices are fine", |c| {
        let s = with_a(&mut c.local, "s");
        nested(&mut c.target, 63);
        c.mov(s, "0:0", BYTE_OFF, 0, v(63 * 4));
    }),
    (7, "65 raw indices are too many", |c| {
        let s = with_a(&mut c.local, "s");
        nested(&mut c.target, 64);
        c.mov(s, "0:0", BYTE_OFF, 0, Fatal(-7, "too-deep"));
        c.mov(s, "0:0", EXISTS, 1, Fatal(-7, "too-deep"));
    }),
    (8, "candidates that agree by different nestings", |c| {
        let int = c.local.i32();
        let (m, n) = (c.local.s("", 4, &[("x", int, 0)]), c.local.s("", 4, &[("y", int, 0)]));
        let s = c.local.s("s", 8, &[("m", m, 0), ("n", n, 4)]);
        let int = c.target.i32();
        let (m, n) = (c.target.s("", 4, &[("x", int, 0)]), c.target.s("", 4, &[("y", int, 0)]));
        c.target.s("s", 20, &[("pad", int, 0), ("m", m, 4), ("n", n, 16)]);
        let inner = c.target.s("", 8, &[("pad", int, 0), ("m", m, 4)]);
        let wrapped = c.target.u("", 8, &[("", inner)]);
        c.target.s("s___a", 20, &[("", wrapped, 0), ("n", n, 16)]);
        let late_m = c.target.s("", 8, &[("pad", int, 0), ("x", int, 4)]);
        let late_n = c.target.s("", 12, &[("pad", int, 0), ("y", int, 8)]);
        c.target.s("s___b", 20, &[("m", late_m, 0), ("n", late_n, 8)]);
        c.mov(s, "0:0:0", BYTE_OFF, 0, v(4));
        c.mov(s, "0:1:0", BYTE_OFF, 4, v(16));
    }),
    (9, "candidates that disagree on the offset", |c| {
        let s = local_x_y(c);
        let int = c.target.i32();
        c.target.s("s___a", 8, &[("x", int, 0), ("y", int, 4)]);
        c.target.s("s___b", 12, &[("x", int, 0), ("y", int, 8)]);
        c.mov(s, "0:0", BYTE_OFF, 0, v(0));
        c.mov(s, "0:1", BYTE_OFF, 4, Fatal(-22, "ambiguous-offset"));
        // What follows is answered as if the fatal record had not been there.
        c.mov(s, "0:0", BYTE_OFF, 0, v(0));
    }),
    (10, "a resolved record drops the other candidates", |c| {
        let s = local_x_y(c);
        target_x_or_y(c);
        c.mov(s, "0:0", BYTE_OFF, 0, v(4));
        c.mov(s, "0:1", BYTE_OFF, 4, Poison(Code::PrunedAway));
    }),
    (10, "local flavors have lists of their own", |c| {
        let s = local_x_y(c);
        let int = c.local.i32();
        let other = c.local.s("s___l", 8, &[("y", int, 4)]);
        target_x_or_y(c);
        c.mov(s, "0:0", BYTE_OFF, 0, v(4));
        c.mov(other, "0:0", BYTE_OFF, 4, v(8));
    }),
    (11, "and the order of the records decides which", |c| {
        let s = local_x_y(c);
        target_x_or_y(c);
        c.mov(s, "0:1", BYTE_OFF, 4, v(8));
        c.mov(s, "0:0", BYTE_OFF, 0, Poison(Code::PrunedAway));
    }),
    (11, "existence queries drop candidates as well", |c| {
        let s = local_x_y(c);
        target_x_or_y(c);
        c.mov(s, "0:1", EXISTS, 1, v(1));
        c.mov(s, "0:0", EXISTS, 1, Zero(Code::PrunedAway));
    }),
    (12, "even an existence query has to agree on the offset", |c| {
        let s = local_x_y(c);
        let int = c.target.i32();
        c.target.s("s", 4, &[("x", int, 0)]);
        c.target.s("s___b", 8, &[("x", int, 4)]);
        c.mov(s, "0:0", EXISTS, 1, Fatal(-22, "ambiguous-offset"));
    }),
    (13, "an element of a longer array", |c| {
        let s = field_a(
            c,
            |b| {
                let int = b.i32();
                b.arr(int, 5)
            },
            |b| {
                let int = b.i32();
                b.arr(int, 7)
            },
        );
        c.mov(s, "0:0:2", BYTE_OFF, 8, v(16));
    }),
    (13, "an element keeps its place if the array does", |c| {
        let int = c.local.i32();
        let a = c.local.arr(int, 5);
        let s = c.local.s("s", 20, &[("a", a, 0)]);
        let int = c.target.i32();
        let a = c.target.arr(int, 7);
        c.target.s("s", 28, &[("a", a, 0)]);
        c.mov(s, "0:0:2", BYTE_OFF, 8, v(8));
    }),
    (14, "an element past the end of the target's array", |c| {
        let s = field_a(
            c,
            |b| {
                let int = b.i32();
                b.arr(int, 5)
            },
            |b| {
                let int = b.i32();
                b.arr(int, 2)
            },
        );
        c.mov(s, "0:0:2", BYTE_OFF, 8, Poison(Code::ArrayBounds));
        c.mov(s, "0:0:1", BYTE_OFF, 4, v(12));
    }),
    (15, "several dimensions", |c| {
        let cube = |b: &mut BtfBuilder, dims: [u32; 3]| {
            let char = b.char();
            dims.iter().rev().fold(char, |elem, &n| b.arr(elem, n))
        };
        let (l, t) = (cube(&mut c.local, [2, 3, 4]), cube(&mut c.target, [3, 4, 5]));
        let s = c.local.s("s", 28, &[("b", l, 4)]);
        c.target.s("s", 72, &[("b", t, 8)]);
        c.mov(s, "0:0:1:2:3", BYTE_OFF, 4 + 23, v(8 + 33));
    }),
    (16, "fewer dimensions", |c| {
        let square = |b: &mut BtfBuilder| {
            let char = b.char();
            let row = b.arr(char, 3);
            b.arr(row, 2)
        };
        let s = field_a(
            c,
            |b| {
                let char = b.char();
                let row = b.arr(char, 4);
                let rows = b.arr(row, 3);
                b.arr(rows, 2)
            },
            square,
        );
        c.mov(s, "0:0:1:2:3", BYTE_OFF, 23, Poison(Code::FieldIncompatible));
    }),
    (17, "a member of an element whose struct grew", |c| {
        let int = c.local.i32();
        let e = c.local.s("e", 4, &[("k", int, 0)]);
        let arr = c.local.arr(e, 3);
        let s = c.local.s("s", 12, &[("c", arr, 0)]);
        let int = c.target.i32();
        let e = c.target.s("", 12, &[("p", int, 0), ("k", int, 4), ("q", int, 8)]);
        let arr = c.target.arr(e, 3);
        c.target.s("s", 36, &[("c", arr, 0)]);
        c.mov(s, "0:0:1:0", BYTE_OFF, 4, v(16));
    }),
    (18, "a flexible array has no bound", |c| {
        let s = trailing(&mut c.local, 4, 0, true);
        trailing(&mut c.target, 8, 0, true);
        c.mov(s, "0:1:1", BYTE_OFF, 8, v(16));
        c.mov(s, "0:1:1000", BYTE_OFF, 4004, v(8008));
    }),
    (19, "a flexible array that became a bounded one", |c| {
        let s = trailing(&mut c.local, 4, 0, true);
        trailing(&mut c.target, 8, 2, true);
        c.mov(s, "0:1:0", BYTE_OFF, 4, v(8));
        c.mov(s, "0:1:1", BYTE_OFF, 8, v(16));
        c.mov(s, "0:1:2", BYTE_OFF, 12, Poison(Code::ArrayBounds));
    }),
    (20, "an array of none that is not the last member", |c| {
        let s = trailing(&mut c.local, 4, 0, true);
        trailing(&mut c.target, 8, 0, false);
        c.mov(s, "0:1:0", BYTE_OFF, 4, Poison(Code::ArrayBounds));
        c.mov(s, "0:1:1", BYTE_OFF, 8, Poison(Code::ArrayBounds));
    }),
    (21, "only the outer dimension of a flexible array is flexible", |c| {
        let pairs = |b: &mut BtfBuilder, at: u32, inner: u32| {
            let int = b.i32();
            let row = b.arr(int, inner);
            let f = b.arr(row, 0);
            b.s("s", at, &[("n", int, 0), ("f", f, at)])
        };
        let s = pairs(&mut c.local, 4, 2);
        pairs(&mut c.target, 8, 2);
        c.mov(s, "0:1:3:1", BYTE_OFF, 32, v(36));
        c.mov(s, "0:1:0:2", BYTE_OFF, 12, Fatal(-22, "bad-access-string"));
    }),
    (21, "the target's inner dimension is checked too", |c| {
        let pairs = |b: &mut BtfBuilder, at: u32, inner: u32| {
            let int = b.i32();
            let row = b.arr(int, inner);
            let f = b.arr(row, 0);
            b.s("s", at, &[("n", int, 0), ("f", f, at)])
        };
        let s = pairs(&mut c.local, 4, 2);
        pairs(&mut c.target, 8, 1);
        c.mov(s, "0:1:3:1", BYTE_OFF, 32, Poison(Code::ArrayBounds));
    }),
    (22, "a flexible array at the end of an anonymous struct", |c| {
        let int = c.local.i32();
        let f = c.local.arr(int, 0);
        let inner = c.local.s("", 4, &[("k", int, 0), ("f", f, 4)]);
        let s = c.local.s("s", 8, &[("n", int, 0), ("", inner, 4)]);
        let (int, long) = (c.target.i32(), c.target.long());
        let f = c.target.arr(int, 0);
        let inner = c.target.s("", 4, &[("k", int, 0), ("f", f, 4)]);
        // Another member behind it: the struct that directly contains the array decides.
        c.target.s("s", 24, &[("n", long, 0), ("", inner, 8), ("tail", int, 16)]);
        c.mov(s, "0:1:1:3", BYTE_OFF, 20, v(24));
    }),
    (23, "an anonymous enum fits any enum", |c| {
        let s = field_a(
            c,
            |b| b.enumeration("E", 4, false, &[("A", 0)]),
            |b| b.enumeration("", 4, false, &[("B", 1)]),
        );
        c.mov(s, "0:0", BYTE_OFF, 0, v(8));
    }),
    (24, "an enum of another name", |c| {
        let s = field_a(
            c,
            |b| b.enumeration("E", 4, false, &[("A", 0)]),
            |b| b.enumeration("F", 4, false, &[("A", 0)]),
        );
        c.mov(s, "0:0", BYTE_OFF, 0, Poison(Code::FieldIncompatible));
    }),
    (24, "a flavor of the enum", |c| {
        let s = field_a(
            c,
            |b| b.enumeration("E", 4, false, &[("A", 0)]),
            |b| b.enumeration("E___2", 4, false, &[("B", 7)]),
        );
        c.mov(s, "0:0", BYTE_OFF, 0, v(8));
    }),
    (25, "an int that became a pointer", |c| {
        let s = field_a(c, |b| b.i32(), |b| b.ptr(0));
        c.mov(s, "0:0", BYTE_OFF, 0, Poison(Code::FieldIncompatible));
    }),
    (25, "an int that became an enum", |c| {
        let s = field_a(c, |b| b.i32(), |b| b.enumeration("", 4, false, &[("A", 0)]));
        c.mov(s, "0:0", BYTE_OFF, 0, Poison(Code::FieldIncompatible));
        c.mov(s, "0:0", EXISTS, 1, Zero(Code::FieldIncompatible));
    }),
    (25, "an int that became a struct", |c| {
        let s = field_a(c, |b| b.i32(), |b| b.s("i", 4, &[]));
        c.mov(s, "0:0", BYTE_OFF, 0, Poison(Code::FieldIncompatible));
    }),
    (26, "any two pointers are compatible", |c| {
        let s = field_a(
            c,
            |b| {
                let char = b.char();
                b.ptr(char)
            },
            |b| {
                let z = b.s("z", 4, &[]);
                let constant = b.constant(z);
                let ptr = b.ptr(constant);
                let volatile = b.volatile(ptr);
                b.constant(volatile)
            },
        );
        c.mov(s, "0:0", BYTE_OFF, 0, v(8));
        c.ldx(s, "0:0", Width::Dw, 0, v(8));
    }),
    (27, "a number read by its address may have any size: s64", |c| {
        let s = field_a(c, |b| b.u32(), |b| b.long());
        c.mov(s, "0:0", BYTE_OFF, 0, v(8));
    }),
    (27, "a number read by its address may have any size: bool", |c| {
        let s = field_a(c, |b| b.u32(), |b| b.int("_Bool", 1, 4));
        c.mov(s, "0:0", BYTE_OFF, 0, v(8));
    }),
    (27, "a number read by its address may have any size: char", |c| {
        let s = field_a(c, |b| b.u32(), |b| b.char());
        c.mov(s, "0:0", BYTE_OFF, 0, v(8));
    }),
    (28, "a load of an unsigned number follows its size", |c| {
        let s = field_a(c, |b| b.u32(), |b| b.u64());
        c.ldx(s, "0:0", Width::W, 0, Load(8, Width::Dw));
    }),
    (28, "but not to a signed number", |c| {
        let s = field_a(c, |b| b.u32(), |b| b.long());
        c.ldx(s, "0:0", Width::W, 0, Poison(Code::SizeUnsafe));
    }),
    (28, "an access of another width than the local field", |c| {
        let s = field_a(c, |b| b.u64(), |b| b.u32());
        c.ldx(s, "0:0", Width::W, 0, Fatal(-22, "width-mismatch"));
    }),
    (29, "a load of a pointer becomes narrower on a 32-bit kernel", |c| {
        let s = field_a(
            c,
            |b| b.ptr(0),
            |b| {
                b.int("long unsigned int", 4, 0);
                b.ptr(0)
            },
        );
        c.ldx(s, "0:0", Width::Dw, 0, Load(8, Width::W));
    }),
    (30, "a signed number of another size", |c| {
        let s = field_a(c, |b| b.i32(), |b| b.int("short", 2, 1));
        c.ldx(s, "0:0", Width::W, 0, Poison(Code::SizeUnsafe));
    }),
    (31, "a bool counts as unsigned", |c| {
        let s = field_a(c, |b| b.int("_Bool", 1, 4), |b| b.u32());
        c.ldx(s, "0:0", Width::B, 0, Load(8, Width::W));
    }),
    (32, "a load of an element follows the element", |c| {
        let s = field_a(
            c,
            |b| {
                let e = b.u32();
                b.arr(e, 4)
            },
            |b| {
                let e = b.u64();
                b.arr(e, 4)
            },
        );
        c.ldx(s, "0:0:1", Width::W, 4, Load(16, Width::Dw));
    }),
    (33, "a load of a whole array cannot follow", |c| {
        let s = field_a(
            c,
            |b| {
                let e = b.u32();
                b.arr(e, 4)
            },
            |b| {
                let e = b.u64();
                b.arr(e, 4)
            },
        );
        c.ldx(s, "0:0", Width::W, 0, Poison(Code::SizeUnsafe));
    }),
    (33, "a longer array of equal elements changes nothing", |c| {
        let s = field_a(
            c,
            |b| {
                let e = b.u32();
                b.arr(e, 4)
            },
            |b| {
                let e = b.u32();
                b.arr(e, 8)
            },
        );
        c.ldx(s, "0:0", Width::W, 0, v(8));
    }),
    (34, "a load of an enum cannot follow its size", |c| {
        let s = field_a(
            c,
            |b| b.enumeration("E", 4, false, &[("A", 0)]),
            |b| b.enumeration("E", 1, false, &[("A", 0)]),
        );
        c.ldx(s, "0:0", Width::W, 0, Poison(Code::SizeUnsafe));
    }),
    (35, "an offset that only an immediate can hold", |c| {
        let s = with_a(&mut c.local, "s");
        let int = c.target.i32();
        c.target.s("s", 40004, &[("a", int, 40000)]);
        c.ldx(s, "0:0", Width::W, 0, Fatal(-34, "offset-overflow"));
        c.mov(s, "0:0", BYTE_OFF, 0, v(40000));
    }),
    (35, "the largest offset that a load can hold", |c| {
        let s = with_a(&mut c.local, "s");
        let int = c.target.i32();
        c.target.s("s", 32772, &[("a", int, 32767)]);
        c.ldx(s, "0:0", Width::W, 0, v(32767));
    }),
    (36, "modifiers and typedefs are transparent in fields", |c| {
        let s = field_a(
            c,
            |b| {
                let int = b.i32();
                let volatile = b.volatile(int);
                let t1 = b.typedef("T1", volatile);
                let constant = b.constant(t1);
                b.typedef("T2", constant)
            },
            |b| {
                let int = b.i32();
                let other = b.typedef("other", int);
                let restrict = b.restrict(other);
                b.type_tag("user", restrict)
            },
        );
        c.mov(s, "0:0", BYTE_OFF, 0, v(8));
        c.mov(s, "0:0", BYTE_SZ, 4, v(4));
    }),
    (36, "and behind a typedef that is the root", |c| {
        let s = with_a(&mut c.local, "one");
        let constant = c.local.constant(s);
        let root = c.local.typedef("s_t", constant);
        let int = c.target.i32();
        let s = c.target.s("two", 16, &[("a", int, 12)]);
        let tagged = c.target.type_tag("rcu", s);
        let inner = c.target.typedef("inner", tagged);
        c.target.typedef("s_t", inner);
        c.mov(root, "0:0", BYTE_OFF, 0, v(12));
        c.mov(root, "0", TYPE_SIZE, 4, v(16));
    }),
];
