//! Types that are legal bytes and no legal C: cycles, recursion, nesting without end.

use btfleet_engine::resolve::Outcome;
use btfleet_tests::build::{BtfBuilder, ByteOrder, Insn, Member};

use super::{object_with, outcomes, within_two_seconds};

/// Types of both sides, and the records: root, access string, kind.
struct Types {
    local: BtfBuilder,
    target: BtfBuilder,
    records: Vec<(u32, String, u32)>,
}

impl Types {
    /// The same types on both sides.
    fn both(build: impl Fn(&mut BtfBuilder) -> u32, access: &str, kinds: &[u32]) -> Self {
        let (mut local, mut target) =
            (BtfBuilder::new(ByteOrder::Little), BtfBuilder::new(ByteOrder::Little));
        let root = build(&mut local);
        build(&mut target);
        let records = kinds.iter().map(|&kind| (root, access.to_owned(), kind)).collect();
        Self { local, target, records }
    }

    /// `struct s { int x; }` of the program, something else of that name in the kernel.
    fn target_only(build: impl Fn(&mut BtfBuilder)) -> Self {
        let (mut local, mut target) =
            (BtfBuilder::new(ByteOrder::Little), BtfBuilder::new(ByteOrder::Little));
        let int = local.int("int", 4, 1);
        let s = local.structure("s", 4, &[Member::new("x", int, 0)]);
        build(&mut target);
        let records = vec![(s, "0:0".to_owned(), 0), (s, "0:0".to_owned(), 2)];
        Self { local, target, records }
    }
}

/// What a record came to, in a word.
fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Fatal(error) => error.code(),
        Outcome::Decided(decision) => decision.code.name(),
        Outcome::Skipped => "skipped",
        Outcome::ModuleDependent(_) => "module-dependent",
    }
}

/// The values that stand for themselves: sizes, existence, ids.
const TYPE_KINDS: [u32; 4] = [8, 9, 7, 12];

#[track_caller]
fn check(what: &'static str, types: Types, wanted: &[&str]) {
    let got = within_two_seconds(what, move || {
        let Types { mut local, target, records } = types;
        let records: Vec<_> =
            records.iter().map(|(id, access, kind)| (*id, local.str(access), *kind)).collect();
        let object = object_with(&local, &records);
        outcomes(&object, &target.finish()).iter().map(word).collect::<Vec<_>>()
    });
    if let [one] = wanted {
        assert!(got.iter().all(|it| it == one), "{what}: {got:?}, expected {one}");
    } else {
        assert_eq!(got, wanted, "{what}");
    }
}

fn typedef_cycle(b: &mut BtfBuilder, length: u32) -> u32 {
    let first = b.next_id();
    for step in 1..length {
        b.typedef("t", first + step);
    }
    b.typedef("t", first);
    first
}

#[test]
fn typedefs_in_a_circle_are_unusable() {
    for length in [1, 2, 1000] {
        let cycle = move |b: &mut BtfBuilder| typedef_cycle(b, length);
        check("local and target", Types::both(cycle, "0", &[8, 12]), &["local-type-unusable"]);
        check("fields of it", Types::both(cycle, "0:0", &[0, 2]), &["local-type-unusable"]);
        check("enumerators of it", Types::both(cycle, "0", &[10, 11]), &["local-type-unusable"]);
    }
    let mut types = Types::target_only(|_| {});
    let anonymous = types.local.structure("", 4, &[Member::new("x", 1, 0)]);
    let root = types.local.typedef("t", anonymous);
    typedef_cycle(&mut types.target, 3);
    types.records = [("0:0", 0), ("0:0", 2), ("0", 8), ("0", 9), ("0", 12)]
        .map(|(access, kind)| (root, access.to_owned(), kind))
        .to_vec();
    check("target only", types, &["target-malformed"]);
}

#[test]
fn modifiers_in_a_circle_behind_a_member_are_unusable() {
    let types = Types::target_only(|b| {
        let constant = b.constant(b.next_id() + 1);
        b.volatile(constant);
        b.structure("s", 4, &[Member::new("", constant, 0), Member::new("x", constant, 0)]);
    });
    check("anonymous and named", types, &["target-malformed"]);
}

#[test]
fn a_struct_inside_itself_ends_at_64_levels() {
    let types = Types::target_only(|b| {
        b.structure("s", 4, &[Member::new("", b.next_id(), 0)]);
    });
    check("anonymous", types, &["too-deep"]);
    let types = Types::target_only(|b| {
        let next = b.next_id() + 1;
        b.structure("s", 4, &[Member::new("", next, 0)]);
        b.union("", 4, &[Member::new("", next - 1, 0)]);
    });
    check("through a union", types, &["too-deep"]);
    let inside = |b: &mut BtfBuilder| b.structure("s", 4, &[Member::new("s", b.next_id(), 0)]);
    check("matched", Types::both(inside, "0", &[12]), &["match-too-deep"]);
}

#[test]
fn a_prototype_of_itself_ends() {
    let proto = |b: &mut BtfBuilder| {
        let id = b.next_id();
        b.func_proto(0, &[("", id), ("", id), ("", id)]);
        b.typedef("f", id)
    };
    check("compared", Types::both(proto, "0", &[8, 7, 12]), &["match-too-deep"]);
    let by_pointer = |b: &mut BtfBuilder| {
        let ptr = b.ptr(b.next_id() + 1);
        let id = b.func_proto(ptr, &[("", ptr), ("", ptr)]);
        b.typedef("f", id)
    };
    check("through a pointer", Types::both(by_pointer, "0", &[8, 7, 12]), &["match-too-deep"]);
}

#[test]
fn a_pointer_to_itself_ends() {
    let pointer = |b: &mut BtfBuilder| {
        let ptr = b.ptr(b.next_id());
        b.typedef("p", ptr)
    };
    check("compared", Types::both(pointer, "0", &[8, 12]), &["match-too-deep"]);
}

#[test]
fn an_array_of_itself_ends() {
    let array = |b: &mut BtfBuilder| {
        let int = b.int("int", 4, 1);
        let arr = b.array(b.next_id(), int, 2);
        b.structure("s", 4, &[Member::new("x", arr, 0)])
    };
    check("a member of it", Types::both(array, "0:0", &[0, 1, 3]), &["local-type-unusable"]);
    check("an element of it", Types::both(array, "0:0:1", &[0, 2]), &["local-type-unusable"]);
    let root = |b: &mut BtfBuilder| {
        let int = b.int("int", 4, 1);
        let arr = b.array(b.next_id(), int, 2);
        b.typedef("a", arr)
    };
    check("as a type", Types::both(root, "0", &[8, 12]), &["match-too-deep"]);
    let types = Types::target_only(|b| {
        let int = b.int("int", 4, 1);
        let arr = b.array(b.next_id(), int, 2);
        b.structure("s", 4, &[Member::new("x", arr, 0)]);
    });
    check("in the target", types, &["field-incompatible", "absent-as-queried"]);
}

#[test]
fn impossible_sizes_are_no_reason_to_stop() {
    let types = Types::target_only(|b| {
        let int = b.int("int", 4, 1);
        b.structure("s", u32::MAX, &[Member::new("x", int, u32::MAX - 7)]);
    });
    check("a struct of 4 GiB", types, &["target-malformed"]);
    let types = Types::target_only(|b| {
        let zero = b.int("int", 0, 1);
        b.structure("s", 4, &[Member::bitfield("x", zero, 0, 3)]);
    });
    check("a bitfield in nothing", types, &["target-malformed", "present-as-queried"]);
    let huge = |b: &mut BtfBuilder| {
        let int = b.int("int", 4, 1);
        let arr = b.array(int, int, u32::MAX);
        b.structure("s", 4, &[Member::new("x", arr, 0)])
    };
    check("an array of 16 GiB", Types::both(huge, "0:0", &[0, 1]), &["local-type-unusable"]);
}

#[test]
fn a_prototype_whose_return_type_does_not_exist_is_unusable() {
    let proto = |b: &mut BtfBuilder| {
        let id = b.func_proto(9999, &[]);
        b.typedef("f", id)
    };
    check("compared", Types::both(proto, "0", &[8, 12]), &["local-type-unusable"]);
    check("sized", Types::both(proto, "0", &TYPE_KINDS[1..2]), &["local-type-unusable"]);
}

// Work that libbpf does as well, but that a file of a few hundred kilobytes must not turn into minutes.

/// A chain of `length` typedefs of an empty struct; returns the outermost.
fn chain(b: &mut BtfBuilder, length: u32) -> u32 {
    let empty = b.structure("", 0, &[]);
    (0..length).fold(empty, |to, _| b.typedef("t", to))
}

#[test]
fn long_typedef_chains_behind_many_members_end() {
    let types = Types::target_only(|b| {
        let end = chain(b, 20_000);
        let many = vec![Member::new("", end, 0); 1_000];
        let inner = b.structure("", 4, &many);
        b.structure("s", 4, &vec![Member::new("", inner, 0); 1_000]);
    });
    within_two_seconds("a million walks of 20000 steps", move || {
        let Types { mut local, target, records } = types;
        let records: Vec<_> =
            records.iter().map(|(id, access, kind)| (*id, local.str(access), *kind)).collect();
        outcomes(&object_with(&local, &records), &target.finish());
    });
}

#[test]
fn matching_structs_with_many_members_ends() {
    let names: Vec<String> = (0..20_000).map(|number| format!("m{number}")).collect();
    let struct_of = |b: &mut BtfBuilder, names: &mut dyn Iterator<Item = &String>| {
        let int = b.int("int", 4, 1);
        let members: Vec<_> = names.map(|name| Member::new(name, int, 0)).collect();
        b.structure("s", 4, &members)
    };
    let (mut local, mut target) = (BtfBuilder::new(ByteOrder::Little), BtfBuilder::new(ByteOrder::Little));
    let s = struct_of(&mut local, &mut names.iter());
    struct_of(&mut target, &mut names.iter().rev());
    let access = local.str("0");
    within_two_seconds("20000 members in reverse", move || {
        let object = object_with(&local, &[(s, access, 12)]);
        outcomes(&object, &target.finish());
    });
}

#[test]
fn matching_enums_with_many_values_ends() {
    let names: Vec<String> = (0..30_000).map(|number| format!("V{number}")).collect();
    let values: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 0)).collect();
    let reversed: Vec<(&str, i64)> = values.iter().rev().copied().collect();
    let (mut local, mut target) = (BtfBuilder::new(ByteOrder::Little), BtfBuilder::new(ByteOrder::Little));
    let e = local.enumeration("e", 4, false, &values);
    target.enumeration("e", 4, false, &reversed);
    let access = local.str("0");
    within_two_seconds("30000 enumerators in reverse", move || {
        let object = object_with(&local, &[(e, access, 12)]);
        outcomes(&object, &target.finish());
    });
}

/// Prototypes in a row, each of which takes the next one twice.
fn doubling_protos(b: &mut BtfBuilder) -> u32 {
    let first = b.next_id();
    for level in 1..=30 {
        b.func_proto(0, &[("", first + level), ("", first + level)]);
    }
    b.int("int", 4, 1);
    b.typedef("f", first)
}

/// Anonymous structs in a row, each of which holds the next one twice, around nothing.
fn doubling_structs(b: &mut BtfBuilder) {
    let first = b.next_id();
    for level in 1..=40 {
        let inner = Member::new("", first + level, 0);
        b.structure(if level == 1 { "s" } else { "" }, 4, &[inner, inner]);
    }
    b.structure("", 4, &[]);
}

#[test]
fn prototypes_that_double_at_each_level_end() {
    check("compared", Types::both(doubling_protos, "0", &[8, 12]), &["match-too-deep"]);
}

#[test]
fn anonymous_nesting_that_doubles_at_each_level_ends() {
    check("doubling", Types::target_only(doubling_structs), &["match-too-deep"]);
}

#[test]
fn many_records_that_cost_all_the_work_end_together() {
    let mut types = Types::target_only(doubling_structs);
    types.records = types.records.iter().cycle().take(1_000).cloned().collect();
    check("1000 fields", types, &["match-too-deep"]);
    check("1000 types", Types::both(doubling_protos, "0", &[8; 1_000]), &["match-too-deep"]);
}

#[test]
fn many_blocks_and_sections_end() {
    use btfleet_tests::build::{BtfExtBuilder, CoreRelo, ObjectBuilder};
    let mut local = BtfBuilder::new(ByteOrder::Little);
    let s = local.structure("s", 4, &[]);
    let access = local.str("0");
    let mut ext = BtfExtBuilder::new(ByteOrder::Little);
    let mut object = ObjectBuilder::new(ByteOrder::Little);
    for number in 0..6_000 {
        let name = format!("kprobe/{number}");
        object.program(&name, &name, &[Insn::exit()]);
        let section = local.str(&name);
        for _ in 0..3 {
            ext.new_core_block(section);
            ext.core_relo(section, CoreRelo { insn_off: 0, type_id: s, access_str_off: access, kind: 8 });
        }
    }
    object.btf(&local.finish());
    object.btf_ext(&ext.finish());
    let bytes = object.finish();
    let count = within_two_seconds("6000 sections", move || {
        btfleet_engine::object::Object::parse(&bytes).expect("an object").relocs().len()
    });
    assert_eq!(count, 18_000);
}
