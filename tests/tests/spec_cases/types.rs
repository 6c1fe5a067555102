//! Cases 53 to 69: types as such.

use btfleet_engine::resolve::Code;
use btfleet_tests::build::BtfBuilder;

use super::Row;
use super::case::Expect::{Fatal, Zero};
use super::case::{
    BYTE_OFF, Case, ENUMVAL_EXISTS, ID_LOCAL, ID_TARGET, TYPE_EXISTS, TYPE_MATCHES, TYPE_SIZE, Types, v,
};

/// `typedef ... x_t` on both sides; returns the program's.
fn typedefs(c: &mut Case, local: fn(&mut BtfBuilder) -> u32, target: fn(&mut BtfBuilder) -> u32) -> u32 {
    let (l, t) = (local(&mut c.local), target(&mut c.target));
    c.target.typedef("x_t", t);
    c.local.typedef("x_t", l)
}

/// Whether the typedef exists, given what it stands for on both sides.
fn exists(c: &mut Case, local: fn(&mut BtfBuilder) -> u32, target: fn(&mut BtfBuilder) -> u32, holds: bool) {
    let root = typedefs(c, local, target);
    c.mov(root, "0", TYPE_EXISTS, 1, if holds { v(1) } else { Zero(Code::TypeIncompatible) });
}

/// Whether the typedef matches.
fn matches(c: &mut Case, local: fn(&mut BtfBuilder) -> u32, target: fn(&mut BtfBuilder) -> u32, holds: bool) {
    let root = typedefs(c, local, target);
    c.mov(root, "0", TYPE_MATCHES, 1, if holds { v(1) } else { Zero(Code::TypeIncompatible) });
}

/// `int (*)(long)`.
fn callback(b: &mut BtfBuilder) -> u32 {
    let (int, long) = (b.i32(), b.long());
    pointer_to(b, int, &[long])
}

fn pointer_to(b: &mut BtfBuilder, ret: u32, params: &[u32]) -> u32 {
    let params: Vec<_> = params.iter().map(|&id| ("", id)).collect();
    let proto = b.func_proto(ret, &params);
    b.ptr(proto)
}

fn void_ptr(b: &mut BtfBuilder) -> u32 {
    b.ptr(0)
}

/// `struct s { struct a *p; }` where `struct a` is `pointee`.
fn holds_ptr(b: &mut BtfBuilder, pointee: fn(&mut BtfBuilder) -> u32) -> u32 {
    let pointee = pointee(b);
    let ptr = b.ptr(pointee);
    b.s("s", 8, &[("p", ptr, 0)])
}

pub(super) const ROWS: &[Row] = &[
    (53, "a struct is no union", |c| {
        let int = c.local.i32();
        let s = c.local.s("s", 4, &[("a", int, 0)]);
        let int = c.target.i32();
        c.target.u("s", 4, &[("a", int)]);
        c.mov(s, "0", TYPE_EXISTS, 1, Zero(Code::NoType));
    }),
    (54, "typedef of a struct and of a union", |c| {
        exists(c, |b| b.s("", 4, &[]), |b| b.u("", 4, &[]), false);
    }),
    (54, "typedef of a struct and of a pointer", |c| exists(c, |b| b.s("", 4, &[]), void_ptr, false)),
    (54, "typedef of structs with nothing in common", |c| {
        exists(c, |b| b.s("one", 4, &[]), |b| b.s("two", 8, &[]), true);
    }),
    (55, "all integers are compatible", |c| exists(c, |b| b.i32(), |b| b.u64(), true)),
    (55, "but they do not match", |c| matches(c, |b| b.i32(), |b| b.u64(), false)),
    (56, "pointers to void, with modifiers", |c| {
        exists(
            c,
            void_ptr,
            |b| {
                let void = b.constant(0);
                let ptr = b.ptr(void);
                b.constant(ptr)
            },
            true,
        );
    }),
    (56, "pointers to void and to char", |c| {
        exists(
            c,
            void_ptr,
            |b| {
                let char = b.char();
                b.ptr(char)
            },
            false,
        );
    }),
    (57, "equal callbacks", |c| exists(c, callback, callback, true)),
    (57, "callback that returns nothing", |c| {
        exists(
            c,
            callback,
            |b| {
                let long = b.long();
                pointer_to(b, 0, &[long])
            },
            false,
        );
    }),
    (57, "callback with another argument", |c| {
        exists(
            c,
            callback,
            |b| {
                let (int, long) = (b.i32(), b.long());
                pointer_to(b, int, &[long, int])
            },
            false,
        );
    }),
    (57, "callback that takes a pointer", |c| {
        exists(
            c,
            callback,
            |b| {
                let (int, ptr) = (b.i32(), b.ptr(0));
                pointer_to(b, int, &[ptr])
            },
            false,
        );
    }),
    (57, "callback that returns a pointer", |c| {
        exists(
            c,
            callback,
            |b| {
                let (long, ptr) = (b.long(), b.ptr(0));
                pointer_to(b, ptr, &[long])
            },
            false,
        );
    }),
    (57, "callback that returns a struct", |c| {
        exists(
            c,
            callback,
            |b| {
                let (long, s) = (b.long(), b.s("r", 4, &[]));
                pointer_to(b, s, &[long])
            },
            false,
        );
    }),
    (58, "arrays of any length are compatible", |c| {
        exists(
            c,
            |b| {
                let e = b.char();
                b.arr(e, 20)
            },
            |b| {
                let e = b.char();
                b.arr(e, 3)
            },
            true,
        );
    }),
    (58, "but only those of equal length match", |c| {
        matches(
            c,
            |b| {
                let e = b.char();
                b.arr(e, 20)
            },
            |b| {
                let e = b.char();
                b.arr(e, 3)
            },
            false,
        );
    }),
    (58, "arrays of equal length match", |c| {
        matches(
            c,
            |b| {
                let e = b.char();
                b.arr(e, 20)
            },
            |b| {
                let e = b.char();
                b.arr(e, 20)
            },
            true,
        );
    }),
    (58, "an array of arrays is another thing", |c| {
        exists(
            c,
            |b| {
                let e = b.char();
                b.arr(e, 20)
            },
            |b| {
                let e = b.i32();
                let row = b.arr(e, 2);
                b.arr(row, 20)
            },
            false,
        );
    }),
    (59, "a typedef of a float is never found", |c| {
        let root = typedefs(c, |b| b.float("float", 4), |b| b.float("float", 4));
        c.mov(root, "0", TYPE_EXISTS, 1, Zero(Code::TypeIncompatible));
        c.mov(root, "0", TYPE_SIZE, 4, Zero(Code::TypeIncompatible));
    }),
    (60, "the size of a forward declaration", |c| {
        let root = c.local.fwd("fwd", false);
        c.target.fwd("fwd", false);
        c.mov(root, "0", TYPE_SIZE, 0, Fatal(-22, "local-type-unusable"));
        c.mov(root, "0", TYPE_EXISTS, 1, v(1));
    }),
    (60, "the size of a forward declaration that the target lacks", |c| {
        let root = c.local.fwd("fwd", false);
        c.mov(root, "0", TYPE_SIZE, 0, Fatal(-22, "local-type-unusable"));
    }),
    (61, "size and id of a type that the target lacks", |c| {
        let s = c.local.s("s", 4, &[]);
        c.mov(s, "0", TYPE_SIZE, 4, Zero(Code::NoType));
        c.mov(s, "0", ID_TARGET, 77, Zero(Code::NoType));
        c.ldimm64(s, "0", ID_TARGET, 77, Zero(Code::NoType));
    }),
    (61, "the id of a type is its own and not that of what it stands for", |c| {
        let root = typedefs(c, |b| b.i32(), |b| b.i32());
        let id = c.target.next_id() - 1;
        c.ldimm64(root, "0", ID_TARGET, 77, v(u64::from(id)));
    }),
    (62, "ids of two candidates never agree", |c| {
        let s = c.local.s("s", 4, &[]);
        c.target.s("s", 4, &[]);
        c.target.s("s___b", 4, &[]);
        c.ldimm64(s, "0", ID_TARGET, 0, Fatal(-22, "ambiguous-value"));
        c.mov(s, "0", TYPE_EXISTS, 1, v(1));
    }),
    (63, "local ids are those of the record, whatever they name", |c| {
        let int = c.local.i32();
        let anonymous = c.local.s("", 4, &[("a", int, 0)]);
        let array = c.local.arr(int, 3);
        let ptr = c.local.ptr(0);
        let typedef = c.local.typedef("t", anonymous);
        for id in [anonymous, array, ptr, typedef] {
            c.ldimm64(id, "0", ID_LOCAL, u64::from(id), v(u64::from(id)));
            c.mov(id, "0", ID_LOCAL, 77, v(u64::from(id)));
        }
        c.ldimm64(0, "0", ID_LOCAL, 77, v(0));
    }),
    (64, "a struct with more members than asked for matches", |c| {
        let int = c.local.i32();
        let s = c.local.s("s", 4, &[("x", int, 0)]);
        let int = c.target.i32();
        c.target.s("s___d", 8, &[("x", int, 0), ("a", int, 4)]);
        c.mov(s, "0", TYPE_MATCHES, 1, v(1));
    }),
    (64, "one with fewer does not", |c| {
        let int = c.local.i32();
        let s = c.local.s("s", 8, &[("x", int, 0), ("a", int, 4)]);
        let int = c.target.i32();
        c.target.s("s___d", 4, &[("x", int, 0)]);
        c.mov(s, "0", TYPE_MATCHES, 1, Zero(Code::TypeIncompatible));
        c.mov(s, "0", TYPE_EXISTS, 1, v(1));
    }),
    (65, "behind a pointer a forward declaration matches", |c| {
        let s = holds_ptr(&mut c.local, |b| b.s("a", 4, &[]));
        holds_ptr(&mut c.target, |b| b.fwd("a___fwd", false));
        c.mov(s, "0", TYPE_MATCHES, 1, v(1));
    }),
    (65, "but not that of a union", |c| {
        let s = holds_ptr(&mut c.local, |b| b.s("a", 4, &[]));
        holds_ptr(&mut c.target, |b| b.fwd("a___fwd", true));
        c.mov(s, "0", TYPE_MATCHES, 1, Zero(Code::TypeIncompatible));
    }),
    (65, "and the other way round", |c| {
        let s = holds_ptr(&mut c.local, |b| b.fwd("a", false));
        holds_ptr(&mut c.target, |b| b.s("a", 4, &[]));
        c.mov(s, "0", TYPE_MATCHES, 1, v(1));
    }),
    (66, "the order of members does not matter", |c| {
        let (int, long) = (c.local.i32(), c.local.long());
        let s = c.local.s("s", 16, &[("x", int, 0), ("y", long, 8)]);
        let (int, long) = (c.target.i32(), c.target.long());
        c.target.s("s", 16, &[("y", long, 0), ("x", int, 8)]);
        c.mov(s, "0", TYPE_MATCHES, 1, v(1));
    }),
    (66, "their types do", |c| {
        let int = c.local.i32();
        let s = c.local.s("s", 16, &[("x", int, 0)]);
        let int = c.target.u32();
        c.target.s("s", 16, &[("x", int, 0)]);
        c.mov(s, "0", TYPE_MATCHES, 1, Zero(Code::TypeIncompatible));
    }),
    (67, "enums match by the names of their values", |c| {
        let e = c.local.enumeration("e", 4, false, &[("A", 1), ("B", 2)]);
        c.target.enumeration("e", 4, false, &[("C", 1), ("B", 6), ("A", 5)]);
        c.mov(e, "0", TYPE_MATCHES, 1, v(1));
    }),
    (67, "an enumerator that the target lacks", |c| {
        let e = c.local.enumeration("e", 4, false, &[("A", 1), ("B", 2)]);
        c.target.enumeration("e", 4, false, &[("A", 1), ("C", 2)]);
        c.mov(e, "0", TYPE_MATCHES, 1, Zero(Code::TypeIncompatible));
    }),
    (67, "an enum of another size", |c| {
        let e = c.local.enumeration("e", 4, false, &[("A", 1)]);
        c.target.enum64("e", 8, false, &[("A", 1)]);
        c.mov(e, "0", TYPE_MATCHES, 1, Zero(Code::TypeIncompatible));
        c.mov(e, "0:0", ENUMVAL_EXISTS, 1, Fatal(-22, "bad-access-string"));
    }),
    (68, "structs in structs are compared", |c| {
        let nest = |b: &mut BtfBuilder, leaf: u32| {
            let inner = b.s("in", 4, &[("x", leaf, 0)]);
            b.s("s", 4, &[("i", inner, 0)])
        };
        let (l, t) = (c.local.i32(), c.target.i32());
        let s = nest(&mut c.local, l);
        nest(&mut c.target, t);
        c.mov(s, "0", TYPE_MATCHES, 1, v(1));
    }),
    (68, "down to the members' types", |c| {
        let nest = |b: &mut BtfBuilder, leaf: u32| {
            let inner = b.s("in", 4, &[("x", leaf, 0)]);
            b.s("s", 4, &[("i", inner, 0)])
        };
        let (l, t) = (c.local.i32(), c.target.long());
        let s = nest(&mut c.local, l);
        nest(&mut c.target, t);
        c.mov(s, "0", TYPE_MATCHES, 1, Zero(Code::TypeIncompatible));
    }),
    (69, "the names of integers count", |c| {
        let long = c.local.int("long", 8, 1);
        let s = c.local.s("s", 8, &[("m", long, 0)]);
        let long = c.target.int("long int", 8, 1);
        c.target.s("s", 8, &[("m", long, 0)]);
        c.mov(s, "0", TYPE_MATCHES, 1, Zero(Code::TypeIncompatible));
        c.mov(s, "0:0", BYTE_OFF, 0, v(0));
    }),
];
