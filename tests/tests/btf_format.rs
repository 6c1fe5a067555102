//! BTF and `.BTF.ext` as files: sections 1 and 2 of the specification.

use std::sync::Arc;

use btfleet_engine::btf::{Btf, SizeError, TypeId, relocate_distilled};
use btfleet_engine::format::btf::Kind;
use btfleet_engine::object::{Object, SourceLine};
use btfleet_tests::build::{
    BtfBuilder, BtfExtBuilder, ByteOrder, CoreRelo, Insn, LineInfo, Member, ObjectBuilder,
};

const ORDERS: [ByteOrder; 2] = [ByteOrder::Little, ByteOrder::Big];

/// Replaces four bytes at `at`.
fn put(data: &mut [u8], order: ByteOrder, at: usize, value: u32) {
    data.get_mut(at..at + 4).expect("inside the section").copy_from_slice(&order.u32(value));
}

/// `struct s { int a; }` and an `int`.
fn small(order: ByteOrder) -> BtfBuilder {
    let mut b = BtfBuilder::new(order);
    let int = b.int("int", 4, 1);
    b.structure("s", 4, &[Member::new("a", int, 0)]);
    b
}

fn name<'a>(btf: &Btf<'a>, id: u32) -> &'a [u8] {
    btf.ty(TypeId(id)).map(|ty| btf.name(ty.name_off)).unwrap_or_default()
}

fn kind(btf: &Btf<'_>, id: u32) -> Kind {
    btf.ty(TypeId(id)).expect("the type exists").kind
}

/// Error text and offset of a blob that must not parse.
fn refusal(data: &[u8]) -> (String, u64) {
    let error = Btf::parse(data).expect_err("this is no usable BTF");
    (error.to_string(), error.offset())
}

#[track_caller]
fn check_refused(data: &[u8], text: &str, offset: u64) {
    assert_eq!(refusal(data), (text.to_owned(), offset));
}

// Header (1.1).

#[test]
fn headers_of_any_length_from_24_are_read() {
    for order in ORDERS {
        for len in [24, 32, 36, 64] {
            let mut b = small(order);
            b.header_len(len);
            let data = b.finish();
            let btf = Btf::parse(&data).unwrap_or_else(|error| panic!("{order:?} {len}: {error}"));
            assert_eq!((btf.type_count(), name(&btf, 2)), (3, b"s".as_slice()), "{order:?} {len}");
        }
    }
}

#[test]
fn unknown_header_bytes_version_and_flags_do_not_matter() {
    for order in ORDERS {
        let mut b = small(order);
        b.header_len(40);
        let mut data = b.finish();
        data.splice(2..4, [7, 9]);
        data.splice(32..40, [0xff; 8]);
        assert_eq!(Btf::parse(&data).expect("readable").type_count(), 3, "{order:?}");
    }
}

#[test]
fn bytes_behind_the_strings_do_not_matter() {
    for order in ORDERS {
        let mut data = small(order).finish();
        data.extend([1, 2, 3]);
        assert_eq!(Btf::parse(&data).expect("readable").type_count(), 3, "{order:?}");
    }
}

#[test]
fn a_short_header_means_zeros_in_little_endian_and_an_error_in_big_endian() {
    // 20 bytes: everything but the length of the strings. Only a split BTF may have none.
    for order in ORDERS {
        let base_data = small(order).finish();
        let base = Arc::new(Btf::parse(&base_data).expect("readable"));
        let mut data = Vec::new();
        data.extend(order.u16(0xeb9f));
        data.extend([1, 0]);
        for word in [20, 0, 12, 12] {
            data.extend(order.u32(word));
        }
        for word in [0, 2 << 24, 2] {
            data.extend(order.u32(word));
        }
        match order {
            ByteOrder::Little => {
                let split = Btf::parse_split(&data, base).expect("readable");
                assert_eq!((split.type_count(), kind(&split, 3)), (4, Kind::Ptr));
                check_refused(&data, "bad BTF string section: it is empty", 32);
            }
            ByteOrder::Big => {
                check_refused(&data, "bad BTF header: hdr_len is below 24 (value 20)", 4);
            }
        }
    }
}

#[test]
fn broken_headers_name_the_field() {
    for order in ORDERS {
        let mut b = small(order);
        b.layout(&[(0, 0); 20]);
        let good = b.finish();
        let body = u32::try_from(good.len()).expect("small") - 32;
        let with = |at: usize, value: u32| {
            let mut data = good.clone();
            put(&mut data, order, at, value);
            data
        };
        // INT 16 + STRUCT 24 bytes of types, then 80 of layout.
        let cases = [
            (4, body + 33, "bad BTF header: hdr_len is larger than the file", u64::from(body) + 33, 4),
            (8, 2, "bad BTF header: type_off is not a multiple of 4", 2, 8),
            (12, body, "bad BTF header: types overlap the strings", u64::from(body), 8),
            (
                20,
                u32::MAX,
                "bad BTF header: strings reach past the end of the file",
                u64::from(u32::MAX) + 120,
                16,
            ),
            (24, 42, "bad BTF header: layout_off is not a multiple of 4", 42, 24),
            (24, 36, "bad BTF header: layout overlaps the types", 36, 24),
            (28, 84, "bad BTF header: layout overlaps the strings", 124, 24),
            (28, 78, "bad BTF header: layout_len is not a multiple of 4", 78, 28),
        ];
        for (at, value, text, shown, offset) in cases {
            check_refused(&with(at, value), &format!("{text} (value {shown})"), offset);
        }
        check_refused(good.get(..23).expect("longer"), "truncated BTF header: need 24 bytes, have 23", 0);
        check_refused(&[], "truncated BTF header: need 24 bytes, have 0", 0);
        check_refused(&with(0, 0), "not BTF: magic is 0x0000, expected 0xeb9f in either byte order", 0);
    }
}

// Strings (1.2).

#[test]
fn names_may_start_in_the_middle_of_a_string() {
    for order in ORDERS {
        let mut b = BtfBuilder::new(order);
        let int = b.int("unsigned int", 4, 0);
        let tail = b.str("unsigned int") + 9;
        let end = b.str("unsigned int") + 12;
        b.raw(&[tail, 8 << 24, int]);
        b.raw(&[end, 8 << 24, int]);
        let data = b.finish();
        let btf = Btf::parse(&data).expect("readable");
        assert_eq!((name(&btf, 1), name(&btf, 2)), (b"unsigned int".as_slice(), b"int".as_slice()));
        // Anonymous is the empty string, not offset 0.
        assert!(btf.is_anonymous(end) && btf.is_anonymous(0) && !btf.is_anonymous(tail));
        assert_eq!(btf.str_at(b.str_len()), None);
    }
}

#[test]
fn string_sections_have_nul_at_both_ends() {
    for order in ORDERS {
        let good = small(order).finish();
        let mut open = good.clone();
        *open.last_mut().expect("not empty") = b'x';
        check_refused(&open, "bad BTF string section: the last byte is not NUL", 64);
        let mut no_start = good.clone();
        let at = 64;
        no_start.splice(at..=at, [b'x']);
        let text =
            "bad BTF string section: the first byte is not NUL; a module's BTF needs its kernel's as a base";
        check_refused(&no_start, text, 64);
    }
}

#[test]
fn names_past_the_end_are_refused() {
    for order in ORDERS {
        let mut b = small(order);
        let end = b.str_len();
        b.raw(&[end, 8 << 24, 1]);
        let text =
            format!("BTF type [3] refers to string offset {end}, past the end of the strings at {end}");
        check_refused(&b.finish(), &text, 64);
    }
}

// Types (1.3 to 1.5, 1.7).

#[test]
fn every_kind_is_read_in_both_byte_orders() {
    for order in ORDERS {
        let mut b = BtfBuilder::new(order);
        let int = b.int("int", 4, 1);
        let ptr = b.ptr(int);
        let arr = b.array(int, int, 3);
        let s = b.structure("s", 32, &[Member::new("p", ptr, 0), Member::bitfield("f", int, 64, 3)]);
        let u = b.union("u", 16, &[Member::new("a", arr, 0), Member::new("", ptr, 0)]);
        let e = b.enumeration("e", 4, true, &[("A", -1), ("B", 7)]);
        let fwd = b.fwd("f", true);
        let typedef = b.typedef("t", int);
        let volatile = b.volatile(typedef);
        let constant = b.constant(volatile);
        let restrict = b.restrict(constant);
        let func = b.func("fn", b.next_id() + 1, 1);
        let proto = b.func_proto(int, &[("x", int), ("", 0)]);
        let var = b.var("v", int, 2);
        let sec = b.datasec(".data", 4, &[(var, 0, 4), (func, 0, 0)]);
        let float = b.float("double", 8);
        let decl_tag = b.decl_tag("tag", s, -1);
        let type_tag = b.type_tag("user", int);
        let e64 = b.enum64("e64", 8, false, &[("C", i64::MAX), ("D", -2)]);
        let data = b.finish();
        let btf = Btf::parse(&data).unwrap_or_else(|error| panic!("{order:?}: {error}"));
        let kinds: Vec<Kind> = btf.own_types().map(|(_, ty)| ty.kind).collect();
        let wanted: Vec<Kind> = (1..20).map(|raw| Kind::from_info(raw << 24)).collect();
        assert_eq!(kinds, wanted, "{order:?}");

        let ty = |id: u32| btf.ty(TypeId(id)).expect("the type exists");
        assert_eq!((ty(int).size(), ty(int).is_signed(), ty(int).int_offset()), (4, true, 0));
        for (id, target) in [
            (ptr, int),
            (typedef, int),
            (volatile, typedef),
            (constant, volatile),
            (restrict, constant),
            (func, proto),
            (var, int),
            (decl_tag, s),
            (type_tag, int),
        ] {
            assert_eq!(ty(id).target(), TypeId(target), "{order:?} [{id}]");
        }
        assert_eq!((ty(arr).array().elem, ty(arr).array().nelems), (TypeId(int), 3));
        let members: Vec<_> =
            ty(s).members().map(|m| (btf.name(m.name_off), m.bit_offset, m.bitfield_size)).collect();
        assert_eq!(members, [(b"p".as_slice(), 0, 0), (b"f".as_slice(), 64, 3)]);
        assert_eq!(
            ty(u).member(1).map(|m| (m.type_id, btf.is_anonymous(m.name_off))),
            Some((TypeId(ptr), true))
        );
        assert!(ty(u).member(2).is_none() && ty(int).member(0).is_none());
        let values = |id| ty(id).enumerators().map(|it| it.value.cast_signed()).collect::<Vec<_>>();
        assert_eq!((values(e), ty(e).is_signed()), (vec![-1, 7], true));
        assert_eq!((values(e64), ty(e64).is_signed(), ty(e64).size()), (vec![i64::MAX, -2], false, 8));
        assert!(ty(fwd).kind_flag());
        let params: Vec<_> = ty(proto).params().map(|it| (btf.name(it.name_off), it.type_id.0)).collect();
        assert_eq!(params, [(b"x".as_slice(), int), (b"".as_slice(), 0)]);
        assert_eq!((ty(var).linkage(), ty(func).linkage()), (2, 1));
        assert_eq!(ty(sec).sec_vars().map(|it| it.type_id.0).collect::<Vec<_>>(), [var, func]);
        assert_eq!(ty(float).size(), 8);
        assert_eq!(btf.ty(TypeId(0)).map(|ty| ty.kind), Some(Kind::Void));
        assert!(btf.ty(TypeId(20)).is_none());
    }
}

#[test]
fn without_the_kind_flag_member_offsets_have_32_bits() {
    for order in ORDERS {
        let mut b = BtfBuilder::new(order);
        let int = b.int("int", 4, 1);
        let s = b.structure("s", 0x0300_0000, &[Member::new("far", int, 0x0500_0008)]);
        let data = b.finish();
        let btf = Btf::parse(&data).expect("readable");
        let member = btf.ty(TypeId(s)).and_then(|ty| ty.member(0)).expect("a member");
        assert_eq!((member.bit_offset, member.bitfield_size), (0x0500_0008, 0), "{order:?}");
    }
}

#[test]
fn vlen_has_24_bits() {
    for order in ORDERS {
        let values: Vec<(&str, i64)> = (0..70_000).map(|value| ("V", value)).collect();
        let mut b = BtfBuilder::new(order);
        let e = b.enumeration("e", 4, false, &values);
        let after = b.int("int", 4, 1);
        let data = b.finish();
        let btf = Btf::parse(&data).expect("readable");
        let ty = btf.ty(TypeId(e)).expect("an enum");
        assert_eq!((ty.vlen(), ty.enumerators().count(), kind(&btf, after)), (70_000, 70_000, Kind::Int));
        assert_eq!(ty.enumerator(69_999).map(|it| it.value), Some(69_999));
        assert!(ty.enumerator(70_000).is_none());
    }
}

#[test]
fn records_that_do_not_fit_are_refused() {
    for order in ORDERS {
        let mut cut = BtfBuilder::new(order);
        cut.raw(&[0, (4 << 24) | 2, 8, 0, 0, 0]);
        let text = "BTF type [1] is malformed: record reaches past the end of the types";
        check_refused(&cut.finish(), text, 24);
        let mut rest = small(order);
        rest.raw(&[0, 2 << 24, 0, 77]);
        check_refused(
            &rest.finish(),
            "BTF type [4] is malformed: bytes are left over behind the last type",
            76,
        );
        let mut huge = BtfBuilder::new(order);
        huge.raw(&[0, (19 << 24) | 0xff_ffff, 8]);
        check_refused(&huge.finish(), text, 24);
    }
}

#[test]
fn references_to_types_that_do_not_exist_are_refused() {
    type Build = fn(&mut BtfBuilder);
    let builds: [(&str, Build); 13] = [
        ("ptr", |b| {
            b.ptr(99);
        }),
        ("typedef", |b| {
            b.typedef("t", 99);
        }),
        ("volatile", |b| {
            b.volatile(99);
        }),
        ("const", |b| {
            b.constant(99);
        }),
        ("restrict", |b| {
            b.restrict(99);
        }),
        ("var", |b| {
            b.var("v", 99, 0);
        }),
        ("decl_tag", |b| {
            b.decl_tag("t", 99, 0);
        }),
        ("type_tag", |b| {
            b.type_tag("t", 99);
        }),
        ("element", |b| {
            b.array(99, 1, 1);
        }),
        ("index", |b| {
            b.array(1, 99, 1);
        }),
        ("member", |b| {
            b.structure("t", 4, &[Member::new("m", 99, 0)]);
        }),
        ("parameter", |b| {
            b.func_proto(0, &[("p", 99)]);
        }),
        ("section", |b| {
            b.datasec("d", 4, &[(99, 0, 4)]);
        }),
    ];
    for order in ORDERS {
        for (what, build) in builds {
            let mut b = small(order);
            build(&mut b);
            let got = refusal(&b.finish());
            let text = "BTF type [3] refers to type [99], but there are only 4 types".to_owned();
            assert_eq!(got, (text, 64), "{order:?} {what}");
        }
        let mut b = small(order);
        b.func("f", 1, 1);
        check_refused(
            &b.finish(),
            "BTF type [3] is a func, but type [1] that it refers to is no func_proto",
            64,
        );
    }
}

#[test]
fn the_return_type_of_a_prototype_is_not_checked() {
    for order in ORDERS {
        let mut b = small(order);
        b.func_proto(99, &[]);
        assert_eq!(Btf::parse(&b.finish()).expect("libbpf's quirk").type_count(), 4, "{order:?}");
    }
}

// Layout (1.6).

/// Sizes of the kinds 0 to 19 as pahole writes them, and of kind 20: 4 bytes and 8 for each element.
const LAYOUT: [(u8, u8); 21] = [
    (0, 0),
    (4, 0),
    (0, 0),
    (12, 0),
    (0, 12),
    (0, 12),
    (0, 8),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 8),
    (4, 0),
    (0, 12),
    (0, 0),
    (4, 0),
    (0, 0),
    (0, 12),
    (4, 8),
];

#[test]
fn the_layout_section_lets_unknown_kinds_be_skipped() {
    let mut b = small(ByteOrder::Little);
    let unknown = b.raw(&[0, (20 << 24) | 2, 0, 1, 2, 3, 4, 5]);
    let after = b.structure("after", 4, &[]);
    b.layout(&LAYOUT);
    let data = b.finish();
    let btf = Btf::parse(&data).expect("readable");
    assert_eq!((kind(&btf, unknown), name(&btf, after)), (Kind::Unknown(20), b"after".as_slice()));
    assert_eq!(btf.resolve_size(TypeId(unknown)), Err(SizeError::Invalid));
}

#[test]
fn the_layout_section_is_not_asked_for_known_kinds() {
    for order in ORDERS {
        let mut b = small(order);
        b.layout(&[(8, 8); 21]);
        assert_eq!(Btf::parse(&b.finish()).expect("readable").type_count(), 3, "{order:?}");
    }
}

#[test]
fn a_stored_void_needs_a_layout() {
    let mut b = small(ByteOrder::Little);
    b.raw(&[0, 0, 0]);
    let text = "BTF type [3] has unknown kind 0, and no usable layout section describes it";
    check_refused(&b.finish(), text, 64);
    b.layout(&LAYOUT);
    assert_eq!(Btf::parse(&b.finish()).expect("described").type_count(), 4);
}

#[test]
fn an_unknown_kind_without_a_usable_layout_is_refused() {
    let layouts: [&[(u8, u8)]; 4] = [&[], &[(0, 0); 20], &[(2, 0); 21], &[(0, 6); 21]];
    for layout in layouts {
        let mut b = small(ByteOrder::Little);
        b.raw(&[0, 20 << 24, 0]);
        if !layout.is_empty() {
            b.layout(layout);
        }
        let data = b.finish();
        let at = if layout.is_empty() { 64 } else { 72 };
        let text = "BTF type [3] has unknown kind 20, and no usable layout section describes it";
        check_refused(&data, text, at);
    }
}

/// Differs from libbpf: it refuses unknown kinds in BTF that is not of its host's byte order, as it cannot swap
/// them. On the host that the BTF is for it accepts them, and that is the answer that counts.
#[test]
fn unknown_kinds_are_skipped_in_either_byte_order() {
    for order in [ByteOrder::Little, ByteOrder::Big] {
        let mut b = small(order);
        b.raw(&[0, (20 << 24) | 2, 0, 1, 2, 3, 4, 5]);
        b.layout(&LAYOUT);
        let data = b.finish();
        let btf = Btf::parse(&data).unwrap();
        let last = btf.own_types().last().unwrap().1;
        assert_eq!(last.kind, Kind::Unknown(20));
    }
}

#[test]
fn a_split_btf_without_a_layout_uses_its_bases() {
    let mut b = small(ByteOrder::Little);
    b.layout(&LAYOUT);
    let base_data = b.finish();
    let base = Arc::new(Btf::parse(&base_data).expect("readable"));
    let mut split = BtfBuilder::split(&b);
    let unknown = split.raw(&[0, (20 << 24) | 1, 0, 1, 2, 3]);
    let after = split.typedef("mine", 1);
    let data = split.finish();
    let btf = Btf::parse_split(&data, Arc::clone(&base)).expect("readable");
    assert_eq!((kind(&btf, unknown), name(&btf, after)), (Kind::Unknown(20), b"mine".as_slice()));
    // Its own, if it has one, is the only one that counts.
    split.layout(&[(0, 0); 3]);
    let text = "BTF type [3] has unknown kind 20, and no usable layout section describes it";
    let own = Btf::parse_split(&split.finish(), base).expect_err("not described").to_string();
    assert_eq!(own, text);
}

// Split BTF (1.10).

#[test]
fn split_ids_and_strings_continue_those_of_the_base() {
    for order in ORDERS {
        let b = small(order);
        let base_data = b.finish();
        let base = Arc::new(Btf::parse(&base_data).expect("readable"));
        let mut module = BtfBuilder::split(&b);
        let ptr = module.ptr(2);
        let own = module.structure("own", 8, &[Member::new("p", ptr, 0)]);
        // The base's "s", by its offset there.
        let borrowed = base.ty(TypeId(2)).expect("in the base").name_off;
        let typedef = module.raw(&[borrowed, 8 << 24, 1]);
        let data = module.finish();
        let split = Arc::new(Btf::parse_split(&data, base).expect("readable"));
        assert_eq!((split.start_id(), split.type_count()), (TypeId(3), 6));
        assert_eq!(name(&split, 2), b"s");
        assert_eq!((name(&split, own), name(&split, typedef)), (b"own".as_slice(), b"s".as_slice()));
        assert_eq!(split.own_types().map(|(id, _)| id.0).collect::<Vec<_>>(), [3, 4, 5]);

        // And once more on top of that.
        let mut upper = BtfBuilder::split_on(order, module.next_id(), module.str_len());
        let top = upper.structure("top", 8, &[Member::new("own", own, 0)]);
        let upper_data = upper.finish();
        let upper = Btf::parse_split(&upper_data, split).expect("readable");
        let names = [1, 2, own, top].map(|id| name(&upper, id));
        assert_eq!(names, [b"int".as_slice(), b"s", b"own", b"top"]);
    }
}

#[test]
fn a_split_btf_may_have_no_strings() {
    for order in ORDERS {
        let b = small(order);
        let base_data = b.finish();
        let base = Arc::new(Btf::parse(&base_data).expect("readable"));
        let mut module = BtfBuilder::split(&b);
        module.ptr(1);
        let data = module.finish();
        assert_eq!(Btf::parse_split(&data, base).expect("readable").type_count(), 4, "{order:?}");
        check_refused(&data, "bad BTF string section: it is empty", 36);
    }
}

#[test]
fn a_split_btf_may_not_refer_past_its_end() {
    let b = small(ByteOrder::Little);
    let base_data = b.finish();
    let base = Arc::new(Btf::parse(&base_data).expect("readable"));
    let mut module = BtfBuilder::split(&b);
    module.ptr(4);
    let error = Btf::parse_split(&module.finish(), base).expect_err("[4] is missing");
    assert_eq!(error.to_string(), "BTF type [3] refers to type [4], but there are only 4 types");
}

// Sizes (1.8) and the pointer size (1.9).

/// `int` behind `depth` typedefs; returns the outermost.
fn typedef_chain(b: &mut BtfBuilder, depth: u32) -> u32 {
    let int = b.int("int", 4, 1);
    (0..depth).fold(int, |to, _| b.typedef("t", to))
}

#[test]
fn sizes_are_found_within_32_steps() {
    type Build = fn(&mut BtfBuilder) -> u32;
    let cases: [(&str, Build, Result<u32, SizeError>); 20] = [
        ("int", |b| b.int("int", 4, 1), Ok(4)),
        ("struct", |b| b.structure("s", 17, &[]), Ok(17)),
        ("union", |b| b.union("u", 18, &[]), Ok(18)),
        ("enum", |b| b.enumeration("e", 2, false, &[]), Ok(2)),
        ("enum64", |b| b.enum64("e", 8, false, &[]), Ok(8)),
        ("float", |b| b.float("f", 16), Ok(16)),
        ("datasec", |b| b.datasec("d", 99, &[]), Ok(99)),
        ("pointer", |b| b.ptr(0), Ok(8)),
        (
            "var",
            |b| {
                let int = b.int("int", 4, 1);
                b.var("v", int, 0)
            },
            Ok(4),
        ),
        (
            "decl_tag",
            |b| {
                let int = b.int("int", 4, 1);
                b.decl_tag("t", int, -1)
            },
            Ok(4),
        ),
        ("31 typedefs", |b| typedef_chain(b, 31), Ok(4)),
        ("32 typedefs", |b| typedef_chain(b, 32), Err(SizeError::Invalid)),
        ("cycle", |b| b.typedef("t", b.next_id()), Err(SizeError::Invalid)),
        ("void", |b| b.typedef("t", 0), Err(SizeError::Invalid)),
        ("fwd", |b| b.fwd("f", false), Err(SizeError::Invalid)),
        ("func_proto", |b| b.func_proto(0, &[]), Err(SizeError::Invalid)),
        (
            "array of arrays",
            |b| {
                let int = b.int("int", 4, 1);
                let row = b.array(int, int, 3);
                b.array(row, int, 5)
            },
            Ok(60),
        ),
        (
            "too many elements",
            |b| {
                let int = b.int("int", 1, 1);
                let row = b.array(int, int, 0x1_0000);
                b.array(row, int, 0x1_0000)
            },
            Err(SizeError::TooBig),
        ),
        (
            "too many bytes",
            |b| {
                let int = b.int("int", 4, 1);
                b.array(int, int, 0x4000_0000)
            },
            Err(SizeError::TooBig),
        ),
        (
            "none of too many",
            |b| {
                let int = b.int("int", 4, 1);
                let row = b.array(int, int, u32::MAX);
                let rows = b.array(row, int, u32::MAX);
                b.array(rows, int, 0)
            },
            Ok(0),
        ),
    ];
    for order in ORDERS {
        for (what, build, wanted) in &cases {
            let mut b = BtfBuilder::new(order);
            let id = build(&mut b);
            let data = b.finish();
            let btf = Btf::parse(&data).expect("readable");
            assert_eq!(btf.resolve_size(TypeId(id)), *wanted, "{order:?} {what}");
        }
        // Elements have to have a size even if there are none.
        let mut b = BtfBuilder::new(order);
        let (int, fwd) = (b.int("int", 4, 1), b.fwd("f", false));
        let none = b.array(fwd, int, 0);
        let data = b.finish();
        let btf = Btf::parse(&data).expect("readable");
        assert_eq!(btf.resolve_size(TypeId(none)), Err(SizeError::Invalid));
        assert_eq!(btf.resolve_size(TypeId(77)), Err(SizeError::Invalid));
    }
    assert_eq!((SizeError::Invalid.errno(), SizeError::TooBig.errno()), (-22, -7));
}

#[test]
fn the_size_of_a_pointer_is_that_of_the_first_long() {
    let spellings = [
        "long",
        "long int",
        "int long",
        "unsigned long",
        "long unsigned",
        "unsigned long int",
        "unsigned int long",
        "long unsigned int",
        "long int unsigned",
        "int unsigned long",
        "int long unsigned",
    ];
    let size = |types: &[(&str, u32)]| {
        let mut b = BtfBuilder::new(ByteOrder::Little);
        for &(name, size) in types {
            b.int(name, size, 0);
        }
        Btf::parse(&b.finish()).expect("readable").pointer_size()
    };
    for spelling in spellings {
        assert_eq!(size(&[("int", 4), (spelling, 4)]), 4, "{spelling}");
        assert_eq!(size(&[("int", 4), (spelling, 8)]), 8, "{spelling}");
    }
    assert_eq!(size(&[("long", 4), ("long int", 8)]), 4, "the first decides");
    assert_eq!(size(&[("long", 2), ("long int", 4)]), 4, "other sizes do not count");
    assert_eq!(size(&[("long long", 4), ("unsigned", 4)]), 8, "no long at all");
}

#[test]
fn a_module_takes_the_size_of_a_pointer_from_its_base() {
    let parse = |base_long: u32, own_long: u32| {
        let mut b = BtfBuilder::new(ByteOrder::Little);
        b.int(if base_long == 0 { "int" } else { "long" }, base_long.max(1), 0);
        let base_data = b.finish();
        let base = Arc::new(Btf::parse(&base_data).expect("readable"));
        let mut module = BtfBuilder::split(&b);
        module.int("long", own_long, 0);
        Btf::parse_split(&module.finish(), base).expect("readable").pointer_size()
    };
    assert_eq!((parse(4, 8), parse(8, 4), parse(0, 4)), (4, 8, 4));
}

#[test]
fn pointers_of_objects_have_8_bytes() {
    let mut b = BtfBuilder::new(ByteOrder::Little);
    b.int("long", 4, 0);
    let mut object = ObjectBuilder::new(ByteOrder::Little);
    object.program("xdp", "p", &[Insn::exit()]);
    object.btf(&b.finish());
    let bytes = object.finish();
    let object = Object::parse(&bytes).expect("an object");
    assert_eq!(object.btf().map(|btf| btf.pointer_size()), Some(8));
}

// Distilled base (1.11).

/// Relocates a module onto a kernel; returns the relocated blob.
fn relocate(
    order: ByteOrder,
    distilled: impl Fn(&mut BtfBuilder),
    split: impl Fn(&mut BtfBuilder),
    kernel: impl Fn(&mut BtfBuilder),
) -> (Result<Vec<u8>, String>, Vec<u8>) {
    let mut d = BtfBuilder::new(order);
    distilled(&mut d);
    let mut s = BtfBuilder::split(&d);
    split(&mut s);
    let mut k = BtfBuilder::new(order);
    kernel(&mut k);
    let base = k.finish();
    let result = relocate_distilled(&s.finish(), &d.finish(), &Btf::parse(&base).expect("readable"));
    (result.map_err(|error| error.to_string()), base)
}

/// `struct user { struct foo *p; }` or `struct user { struct foo p; }`, foo being the first distilled type.
fn by_pointer(b: &mut BtfBuilder) {
    let ptr = b.ptr(1);
    b.structure("user", 8, &[Member::new("p", ptr, 0)]);
}

fn embedded(b: &mut BtfBuilder) {
    let constant = b.constant(1);
    let array = b.array(constant, 1, 2);
    b.structure("user", 16, &[Member::new("p", array, 0)]);
}

const NO_FIT: &str = "distilled base BTF type [1] 'foo': no type of the kernel fits";
const SEVERAL: &str = "distilled base BTF type [1] 'foo': several types of the kernel fit";

#[test]
fn distilled_types_are_mapped_by_libbpfs_rules() {
    type Build = fn(&mut BtfBuilder);
    let foo: Build = |b| {
        b.structure("foo", 8, &[]);
    };
    let fwd: Build = |b| {
        b.fwd("foo", false);
    };
    let fwd_union: Build = |b| {
        b.fwd("foo", true);
    };
    let bitfield: fn(&mut BtfBuilder, u32) = |b, kind| {
        let int = b.int("int", 4, 0);
        b.composite(kind, "foo", 8, &[Member::bitfield("f", int, 0, 3)], true);
    };
    // What, distilled base, split, kernel, and why it fails if it does.
    type Case = (&'static str, Build, Build, Box<dyn Fn(&mut BtfBuilder)>, Option<&'static str>);
    let cases: Vec<Case> = vec![
        ("fwd to struct", fwd, by_pointer, Box::new(foo), None),
        ("fwd to bitfield struct", fwd, by_pointer, Box::new(move |b| bitfield(b, 4)), Some(NO_FIT)),
        (
            "union fwd to union",
            fwd_union,
            by_pointer,
            Box::new(|b| {
                b.union("foo", 8, &[]);
            }),
            Some(NO_FIT),
        ),
        ("union fwd to bitfield union", fwd_union, by_pointer, Box::new(move |b| bitfield(b, 5)), None),
        ("fwd to fwd", fwd, by_pointer, Box::new(fwd), None),
        ("fwd to union fwd", fwd, by_pointer, Box::new(fwd_union), Some(NO_FIT)),
        (
            "other size by pointer",
            foo,
            by_pointer,
            Box::new(|b| {
                b.structure("foo", 16, &[]);
            }),
            None,
        ),
        (
            "other size embedded",
            foo,
            embedded,
            Box::new(|b| {
                b.structure("foo", 16, &[]);
            }),
            Some(NO_FIT),
        ),
        ("same size embedded", foo, embedded, Box::new(foo), None),
        (
            "two of one size",
            foo,
            by_pointer,
            Box::new(move |b| {
                foo(b);
                foo(b);
            }),
            Some(SEVERAL),
        ),
        (
            "two of different sizes",
            foo,
            by_pointer,
            Box::new(move |b| {
                b.structure("foo", 16, &[]);
                foo(b);
            }),
            None,
        ),
        (
            "struct and fwd",
            foo,
            by_pointer,
            Box::new(move |b| {
                foo(b);
                fwd(b);
            }),
            Some(SEVERAL),
        ),
        (
            "struct to enum",
            foo,
            by_pointer,
            Box::new(|b| {
                b.enumeration("foo", 8, false, &[]);
            }),
            None,
        ),
        (
            "struct to smaller enum",
            foo,
            by_pointer,
            Box::new(|b| {
                b.enumeration("foo", 4, false, &[]);
            }),
            Some(NO_FIT),
        ),
        ("struct to fwd", foo, by_pointer, Box::new(fwd), None),
        (
            "struct to typedef",
            foo,
            by_pointer,
            Box::new(|b| {
                b.typedef("foo", 0);
            }),
            Some(NO_FIT),
        ),
        (
            "nothing",
            foo,
            by_pointer,
            Box::new(|b| {
                b.structure("bar", 8, &[]);
            }),
            Some(NO_FIT),
        ),
        (
            "equal names at different string offsets are counted apart",
            foo,
            by_pointer,
            Box::new(|b| {
                let tail = b.str("xfoo") + 1;
                b.raw(&[tail, 4 << 24, 16]);
                b.structure("foo", 8, &[]);
            }),
            Some(SEVERAL),
        ),
        (
            "int",
            |b| {
                b.int("foo", 4, 1);
            },
            by_pointer,
            Box::new(|b| {
                b.int("foo", 8, 1);
                b.int("foo", 4, 1);
                b.int("foo", 4, 0);
            }),
            None,
        ),
        (
            "int of another sign",
            |b| {
                b.int("foo", 4, 1);
            },
            by_pointer,
            Box::new(|b| {
                b.int("foo", 4, 0);
            }),
            Some(NO_FIT),
        ),
        (
            "float",
            |b| {
                b.float("foo", 8);
            },
            by_pointer,
            Box::new(|b| {
                b.float("foo", 8);
            }),
            None,
        ),
        (
            "enum to enum64",
            |b| {
                b.enumeration("foo", 8, false, &[]);
            },
            by_pointer,
            Box::new(|b| {
                b.enum64("foo", 8, true, &[]);
            }),
            None,
        ),
        (
            "enum of another size",
            |b| {
                b.enumeration("foo", 8, false, &[]);
            },
            by_pointer,
            Box::new(|b| {
                b.enumeration("foo", 4, true, &[]);
            }),
            Some(NO_FIT),
        ),
        (
            "enum64 is not distilled",
            |b| {
                b.enum64("foo", 8, false, &[]);
            },
            by_pointer,
            Box::new(|b| {
                b.enum64("foo", 8, false, &[]);
            }),
            Some("distilled base BTF type [1] 'foo': no kind that a distilled base may have"),
        ),
        (
            "nameless types are not distilled",
            |b| {
                b.structure("", 8, &[]);
            },
            by_pointer,
            Box::new(foo),
            Some("distilled base BTF type [1] '': it has no name"),
        ),
    ];
    for order in ORDERS {
        for (what, distilled, split, kernel, wanted) in &cases {
            let (got, _) = relocate(order, distilled, split, kernel);
            assert_eq!(got.err().as_deref(), *wanted, "{order:?} {what}");
        }
    }
}

#[test]
fn a_relocated_module_refers_to_the_kernels_types() {
    for order in ORDERS {
        let (result, base) = relocate(
            order,
            |b| {
                b.structure("foo", 8, &[]);
                b.int("int", 4, 1);
            },
            |b| {
                let ptr = b.ptr(1);
                let user = b.structure("user", 16, &[Member::new("p", ptr, 0), Member::new("n", 2, 64)]);
                b.func_proto(2, &[("u", user)]);
                // The distilled base's own string "foo".
                b.raw(&[1, 8 << 24, 1]);
            },
            |b| {
                b.int("char", 1, 0);
                b.int("int", 4, 1);
                b.typedef("u32", 2);
                b.structure("foo", 8, &[]);
            },
        );
        let data = result.unwrap_or_else(|error| panic!("{order:?}: {error}"));
        let base = Arc::new(Btf::parse(&base).expect("readable"));
        let btf = Btf::parse_split(&data, base).expect("readable on the kernel");
        let ty = |id: u32| btf.ty(TypeId(id)).expect("the type exists");
        assert_eq!(btf.start_id(), TypeId(5));
        assert_eq!(ty(5).target(), TypeId(4));
        let members: Vec<_> =
            ty(6).members().map(|m| (btf.name(m.name_off), m.type_id.0, m.bit_offset)).collect();
        assert_eq!(members, [(b"p".as_slice(), 5, 0), (b"n".as_slice(), 2, 64)]);
        assert_eq!(
            (ty(7).target(), ty(7).params().next().map(|it| it.type_id)),
            (TypeId(2), Some(TypeId(6)))
        );
        assert_eq!(
            (name(&btf, 6), name(&btf, 8), ty(8).target()),
            (b"user".as_slice(), b"foo".as_slice(), TypeId(4))
        );
    }
}

// .BTF.ext (2.1, 2.2).

/// An object with the types of [`small`], one program of four slots, and this `.BTF.ext`.
fn with_ext(order: ByteOrder, ext: &[u8], strings: &[&str]) -> Vec<u8> {
    let mut b = small(order);
    for string in strings {
        b.str(string);
    }
    let mut object = ObjectBuilder::new(order);
    object.program("xdp", "p", &[Insn::mov(1, 0), Insn::mov(2, 0), Insn::mov(3, 0), Insn::exit()]);
    object.btf(&b.finish());
    object.btf_ext(ext);
    object.finish()
}

/// String offset of the text that `with_ext` adds first, behind those of `small`.
fn first_string(order: ByteOrder) -> u32 {
    small(order).str_len()
}

/// Two records at bytes 0 and 8, each with a tail if the records are longer than usual.
fn good_ext(order: ByteOrder, record_size: u32) -> Vec<u8> {
    let section = first_string(order);
    let mut ext = BtfExtBuilder::new(order);
    ext.record_sizes([8, 16, record_size]);
    for insn_off in [0, 8] {
        ext.core_relo(section, CoreRelo { insn_off, type_id: 2, access_str_off: section + 4, kind: 0 });
    }
    ext.finish()
}

const STRINGS: [&str; 2] = ["xdp", "0:0"];

#[test]
fn core_relo_records_are_read_in_both_byte_orders() {
    for order in ORDERS {
        let bytes = with_ext(order, &good_ext(order, 16), &STRINGS);
        let object = Object::parse(&bytes).expect("an object");
        assert_eq!(object.ignored_btf(), None, "{order:?}");
        let got: Vec<_> =
            object.relocs().iter().map(|it| (it.insn_off, it.type_id.0, it.access, it.number)).collect();
        assert_eq!(got, [(0, 2, b"0:0".as_slice(), 0), (8, 2, b"0:0".as_slice(), 1)], "{order:?}");
        assert_eq!(object.relocs().iter().map(|it| it.program).collect::<Vec<_>>(), [Some(0); 2]);
    }
}

#[test]
fn longer_records_are_read_by_their_stride() {
    for size in [20, 24, 64] {
        let bytes = with_ext(ByteOrder::Little, &good_ext(ByteOrder::Little, size), &STRINGS);
        let object = Object::parse(&bytes).expect("an object");
        let got: Vec<_> = object.relocs().iter().map(|it| (it.insn_off, it.type_id.0, it.raw_kind)).collect();
        assert_eq!(got, [(0, 2, 0), (8, 2, 0)], "{size}");
    }
    // In the other byte order libbpf can only swap what it knows.
    let bytes = with_ext(ByteOrder::Big, &good_ext(ByteOrder::Big, 20), &STRINGS);
    let object = Object::parse(&bytes).expect("an object");
    let why = object.ignored_btf().map(ToString::to_string);
    assert_eq!(why.as_deref(), Some("section .BTF.ext: unusable record size (value 20)"));
    assert!(object.relocs().is_empty());
}

#[test]
fn a_24_byte_header_has_no_core_relo_records() {
    for order in ORDERS {
        let section = first_string(order);
        let mut ext = BtfExtBuilder::new(order);
        ext.header_len(24);
        ext.core_relo(section, CoreRelo { insn_off: 0, type_id: 2, access_str_off: section + 4, kind: 0 });
        let bytes = with_ext(order, &ext.finish(), &STRINGS);
        let object = Object::parse(&bytes).expect("an object");
        assert_eq!((object.ignored_btf(), object.relocs().len()), (None, 0), "{order:?}");
    }
}

#[test]
fn damaged_ext_sections_are_ignored_with_the_reason() {
    // Header 32: func info, line info, core relo offsets at 8, 16, 24. Behind it record size, then one block:
    // name, count 2, two records: 4 + 8 + 32 bytes.
    type Damage = fn(&mut Vec<u8>, ByteOrder);
    let cases: [(&str, Damage, &str, u64); 20] = [
        ("empty", |d, _| d.clear(), "shorter than the start of its header (value 0)", 0),
        ("7 bytes", |d, _| d.truncate(7), "shorter than the start of its header (value 7)", 0),
        (
            "magic",
            |d, _| {
                d.splice(0..2, [0, 0]);
            },
            "wrong magic (value 0)",
            0,
        ),
        (
            "version",
            |d, _| {
                d.splice(2..3, [2]);
            },
            "unknown version (value 2)",
            2,
        ),
        (
            "flags",
            |d, _| {
                d.splice(3..4, [1]);
            },
            "unknown flags (value 1)",
            3,
        ),
        ("header past the end", |d, o| put(d, o, 4, 77), "hdr_len is larger than the section (value 77)", 4),
        ("only a header", |d, _| d.truncate(32), "no data behind the header (value 32)", 4),
        ("short header", |d, o| put(d, o, 4, 20), "hdr_len is below 24 (value 20)", 4),
        (
            "func info unaligned",
            |d, o| {
                put(d, o, 8, 2);
                put(d, o, 12, 8);
            },
            "a sub-section is not aligned to 4 bytes (value 2)",
            34,
        ),
        (
            "line info past the end",
            |d, o| {
                put(d, o, 16, 40);
                put(d, o, 20, 8);
            },
            "a sub-section reaches past the end (value 48)",
            72,
        ),
        (
            "core relo unaligned",
            |d, o| put(d, o, 24, 1),
            "a sub-section is not aligned to 4 bytes (value 1)",
            33,
        ),
        (
            "core relo past the end",
            |d, o| put(d, o, 28, 48),
            "a sub-section reaches past the end (value 48)",
            32,
        ),
        (
            "offset of 4 GiB",
            |d, o| put(d, o, 24, 0xffff_fffc),
            "a sub-section reaches past the end (value 4294967336)",
            32 + 0xffff_fffc,
        ),
        ("no record size", |d, o| put(d, o, 28, 3), "a sub-section has no record size (value 3)", 32),
        ("small record", |d, o| put(d, o, 32, 12), "unusable record size (value 12)", 32),
        ("odd record", |d, o| put(d, o, 32, 18), "unusable record size (value 18)", 32),
        ("no block", |d, o| put(d, o, 28, 4), "a sub-section has no records (value 4)", 36),
        ("half a block header", |d, o| put(d, o, 28, 8), "a block header is cut off (value 4)", 36),
        ("no records", |d, o| put(d, o, 40, 0), "a block has no records (value 0)", 40),
        ("too many records", |d, o| put(d, o, 40, 3), "a block reaches past its sub-section (value 3)", 40),
    ];
    for order in ORDERS {
        for (what, damage, text, offset) in cases {
            let mut ext = good_ext(order, 16);
            damage(&mut ext, order);
            let bytes = with_ext(order, &ext, &STRINGS);
            let object = Object::parse(&bytes).expect("an object all the same");
            let error = object.ignored_btf().unwrap_or_else(|| panic!("{order:?} {what}: not noticed"));
            let got = (error.to_string(), error.offset());
            assert_eq!(got, (format!("section .BTF.ext: {text}"), offset), "{order:?} {what}");
            assert!(object.relocs().is_empty() && object.refused().is_none(), "{order:?} {what}");
        }
        // A count whose size overflows 32 bits.
        let mut ext = good_ext(order, 16);
        put(&mut ext, order, 40, 0x1000_0002);
        let bytes = with_ext(order, &ext, &STRINGS);
        let object = Object::parse(&bytes).expect("an object all the same");
        assert!(object.ignored_btf().is_some(), "{order:?}: the product wrapped");
    }
}

#[test]
fn a_sub_section_of_no_length_is_absent_wherever_it_points() {
    for order in ORDERS {
        let mut ext = good_ext(order, 16);
        put(&mut ext, order, 8, 0xffff_ffff);
        put(&mut ext, order, 16, 3);
        let bytes = with_ext(order, &ext, &STRINGS);
        let object = Object::parse(&bytes).expect("an object");
        assert_eq!((object.ignored_btf(), object.relocs().len()), (None, 2), "{order:?}");
    }
}

#[test]
fn ext_without_btf_is_not_looked_at() {
    let mut object = ObjectBuilder::new(ByteOrder::Little);
    object.program("xdp", "p", &[Insn::exit()]);
    object.btf_ext(&[1, 2, 3]);
    let bytes = object.finish();
    let object = Object::parse(&bytes).expect("an object");
    assert_eq!((object.ignored_btf(), object.relocs().len()), (None, 0));
}

#[test]
fn records_are_numbered_within_their_block() {
    for order in ORDERS {
        let section = first_string(order);
        let relo = CoreRelo { insn_off: 0, type_id: 2, access_str_off: section + 4, kind: 2 };
        let mut ext = BtfExtBuilder::new(order);
        ext.core_relo(section, relo).core_relo(section, relo);
        ext.new_core_block(section).core_relo(section, relo);
        let bytes = with_ext(order, &ext.finish(), &STRINGS);
        let object = Object::parse(&bytes).expect("an object");
        assert_eq!(object.relocs().iter().map(|it| it.number).collect::<Vec<_>>(), [0, 1, 0], "{order:?}");
    }
}

// Source lines (2.6).

#[test]
fn a_record_has_the_line_at_or_before_it_in_the_same_function() {
    for order in ORDERS {
        let mut b = small(order);
        let [section, access, file, one, two] =
            ["xdp", "0:0", "a.c", "one();", "two();"].map(|text| b.str(text));
        let mut ext = BtfExtBuilder::new(order);
        let line = |insn_off, line_off, line, column| LineInfo {
            insn_off,
            file_name_off: file,
            line_off,
            line,
            column,
        };
        ext.line_info(section, line(8, one, 3, 9)).line_info(section, line(24, two, 4_000_000, 1023));
        // First function: slots 0 to 4. Second: 5 and 6, without lines.
        for insn_off in [0, 8, 16, 24, 32, 40] {
            ext.core_relo(section, CoreRelo { insn_off, type_id: 2, access_str_off: access, kind: 0 });
        }
        let mut object = ObjectBuilder::new(order);
        let code = object.code_section("xdp");
        object.function(code, "first", true, &[Insn::mov(1, 0); 5]);
        object.function(code, "second", true, &[Insn::mov(1, 0); 2]);
        object.btf(&b.finish());
        object.btf_ext(&ext.finish());
        let bytes = object.finish();
        let object = Object::parse(&bytes).expect("an object");
        assert_eq!(object.ignored_btf(), None, "{order:?}");
        let got: Vec<_> = object.relocs().iter().map(|it| object.source_line(it)).collect();
        let first = Some(SourceLine { file: b"a.c", text: b"one();", line: 3, column: 9 });
        let second = Some(SourceLine { file: b"a.c", text: b"two();", line: 4_000_000, column: 1023 });
        assert_eq!(got, [None, first, first, second, second, None], "{order:?}");
    }
}

#[test]
fn line_records_may_be_longer_in_the_native_byte_order() {
    let mut b = small(ByteOrder::Little);
    let [section, access, file] = ["xdp", "0:0", "a.c"].map(|text| b.str(text));
    let mut ext = BtfExtBuilder::new(ByteOrder::Little);
    ext.record_sizes([12, 24, 16]);
    for (insn_off, line) in [(0, 7), (16, 8)] {
        ext.line_info(section, LineInfo { insn_off, file_name_off: file, line_off: 0, line, column: 1 });
    }
    ext.core_relo(section, CoreRelo { insn_off: 24, type_id: 2, access_str_off: access, kind: 0 });
    let mut object = ObjectBuilder::new(ByteOrder::Little);
    object.program("xdp", "p", &[Insn::mov(1, 0); 4]);
    object.btf(&b.finish());
    object.btf_ext(&ext.finish());
    let bytes = object.finish();
    let object = Object::parse(&bytes).expect("an object");
    let lines: Vec<_> = object.relocs().iter().map(|it| object.source_line(it).map(|it| it.line)).collect();
    assert_eq!(lines, [Some(8)]);
}
