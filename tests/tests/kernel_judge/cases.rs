//! The specification's cases that only a kernel can decide, and those on which the dialects differ.
#![expect(clippy::indexing_slicing, reason = "a test may stop at what it did not expect")]

use btfleet_engine::btf::{Btf, TypeId, essential_name};
use btfleet_engine::dialect::{Loader, releases};
use btfleet_engine::format::btf::Kind;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::resolve::Outcome;
use btfleet_tests::build::{ByteOrder, Insn, Member, Width, code_bytes};
use btfleet_tests::kernel::Load;
use btfleet_tests::skip;

use super::program::Program;
use super::{Live, ask, live};

const BYTE_OFF: u32 = 0;
const EXISTS: u32 = 2;
const TYPE_EXISTS: u32 = 8;
const ENUMVAL_EXISTS: u32 = 10;
const ENUMVAL_VALUE: u32 = 11;
const TYPE_MATCHES: u32 = 12;

/// `struct list_head { void *prev; }`: in the kernel `prev` is at 8.
fn list_head(program: &mut Program) -> u32 {
    let ptr = program.local.ptr(0);
    program.local.structure("list_head", 8, &[Member::new("prev", ptr, 0)])
}

/// Judges a program whose records are as a compiler would make them; the codes of both dialects.
fn codes(live: &Live, program: &mut Program) -> Vec<(String, String)> {
    let kernel = Kernel::new(Btf::parse(&live.vmlinux).expect("the running kernel's BTF"));
    program.hold_local_values(live, &kernel);
    program.bury_poison(live, &kernel);
    let answers = program.judge(live).unwrap_or_else(|why| panic!("{why}"));
    let code = |outcome: &Outcome| match outcome {
        Outcome::Fatal(error) => error.code().to_owned(),
        Outcome::Decided(decision) => decision.code.name().to_owned(),
        other => format!("{other:?}"),
    };
    answers.kernel.iter().zip(&answers.libbpf).map(|(ours, libbpf)| (code(ours), code(libbpf))).collect()
}

fn pairs(codes: &[(String, String)]) -> Vec<(&str, &str)> {
    codes.iter().map(|(ours, libbpf)| (ours.as_str(), libbpf.as_str())).collect()
}

/// Check that without function and line information kernels ignore the records, up to 7.2, and with either they do not
/// (case 87).
#[test]
fn records_need_function_or_line_information() {
    let Some(live) = live() else { return };
    let mut program = Program::new();
    let list_head = list_head(&mut program);
    program.mov(list_head, "0:0", BYTE_OFF);
    let load = program.unrelocated();
    let compiled = load.insns.clone();
    let mut job = program.job(vec![load]);
    let kernel = Kernel::new(Btf::parse(&live.vmlinux).expect("the running kernel's BTF"));
    assert!(matches!(&program.answers(live, &kernel).kernel[0], Outcome::Decided(it) if it.new == Some(8)));

    let relocated = ask(&job);
    assert_eq!((relocated[0].errno, relocated[0].insns != compiled), (0, true), "{relocated:?}");
    job.line_info.clear();
    assert_eq!(ask(&job), relocated);
    job.func_info.clear();
    let alone = ask(&job);
    let is_relocated = matches!(live.loader, Loader::Kernel(it) if releases::RECORDS_ALONE.holds_for(it));
    let expected = if is_relocated { &relocated[0].insns } else { &compiled };
    assert_eq!((alone[0].errno, &alone[0].insns), (0, expected));
}

/// Check the kernel's answer to a type id that is not there (case 88), and to instruction offsets that are none.
#[test]
fn bad_ids_and_offsets_are_errors() {
    let Some(_) = live() else { return };
    let mut program = Program::new();
    let list_head = list_head(&mut program);
    program.mov(list_head, "0:0", BYTE_OFF);
    let good = program.unrelocated();
    let with = |word: usize, value: u32| {
        let mut load = good.clone();
        load.core_relos[word] = value;
        load
    };
    let end = u32::try_from(good.insns.len()).unwrap();
    let loaded = ask(&program.job(vec![with(1, 100_500), with(0, 4), with(0, end), with(3, 13)]));
    assert_eq!(loaded.iter().map(|it| it.errno).collect::<Vec<_>>(), [22; 4]);
    assert!(loaded[0].log.contains("relo #0: bad type id 100500"), "{}", loaded[0].log);
    assert!(loaded[1].log.contains("Invalid core_relo[0]"), "{}", loaded[1].log);
}

/// Check that a struct in a struct is too deep for `TYPE_MATCHES` (case 68), and one alone is not.
#[test]
fn types_match_to_depth_two() {
    let Some(live) = live() else { return };
    let mut program = Program::new();
    let mut nested = |outer: &str, member: &str, inner_name: &str| {
        let ptr = program.local.ptr(0);
        let inner = program.local.structure(inner_name, 8, &[Member::new("next", ptr, 0)]);
        let inner_ptr = program.local.ptr(inner);
        program.local.set_type_ref(ptr, inner);
        (program.local.structure(outer, 8, &[Member::new(member, inner, 0)]), inner, inner_ptr)
    };
    let (outer, inner, _) = nested("plist_node", "node_list", "list_head");
    program.mov(inner, "0", TYPE_MATCHES);
    assert_eq!(pairs(&codes(live, &mut program)), [("present-as-queried", "present-as-queried")]);
    program.records.clear();
    program.mov(outer, "0", TYPE_EXISTS);
    assert_eq!(pairs(&codes(live, &mut program)), [("present-as-queried", "present-as-queried")]);
    program.records.clear();
    program.record(outer, "0", TYPE_MATCHES, &[Insn::mov(1, 1)]);
    let codes = codes(live, &mut program);
    assert_eq!(codes[0].0, "match-too-deep");
    assert!(codes[0].1.ends_with("as-queried"), "{codes:?}");
}

/// Check that poison comes before the look at the instruction's class, or after it, as our table says (case 82).
#[test]
fn poison_on_an_instruction_without_an_operand() {
    let Some(live) = live() else { return };
    let insns = [Insn::ja(0), Insn::exit(), Insn::alu_reg(0xb0, true, 1, 8)];
    for insn in insns {
        let mut program = Program::new();
        let int = program.local.int("int", 4, 1);
        let gone = program.local.structure("btfleet_no_such_struct", 4, &[Member::new("a", int, 0)]);
        program.record(gone, "0:0", BYTE_OFF, &[insn]);
        program.records[0].is_dead = true;
        codes(live, &mut program);
    }
}

/// Check that poison that can be reached is refused, with both relocations alike.
#[test]
fn poison_that_can_be_reached() {
    let Some(live) = live() else { return };
    let mut program = Program::new();
    let int = program.local.int("int", 4, 1);
    let gone = program.local.structure("btfleet_no_such_struct", 4, &[Member::new("a", int, 0)]);
    program.ldimm64(gone, "0:0", BYTE_OFF);
    program.judge(live).unwrap_or_else(|why| panic!("{why}"));
    let load = program.unrelocated();
    let loaded = ask(&program.job(vec![load]));
    assert_eq!(loaded[0].errno, 22);
    assert!(loaded[0].log.contains("invalid func unknown#195896080"), "{}", loaded[0].log);
}

/// Check whose size counts for the access to an array as a whole, the element's or the array's (case 33).
#[test]
fn an_array_as_a_whole() {
    let Some(live) = live() else { return };
    let mut program = Program::new();
    let char = program.local.int("char", 1, 1);
    let index = program.local.int("unsigned int", 4, 0);
    let array = program.local.array(char, index, 7);
    let root = program.local.structure("new_utsname", 8, &[Member::new("sysname", array, 8)]);
    program.record(root, "0:0", BYTE_OFF, &[Insn::ldx(Width::B, 2, 9, 1)]);
    let codes = codes(live, &mut program);
    assert!(["moved", "size-unsafe"].contains(&codes[0].0.as_str()), "{codes:?}");
}

/// Two types of the kernel with one essential name, each with a member that the other lacks.
fn twins(btf: &Btf<'_>) -> Option<(String, String, String)> {
    let mut by_name: std::collections::BTreeMap<Vec<u8>, Vec<TypeId>> = std::collections::BTreeMap::new();
    for (id, ty) in btf.own_types().filter(|(_, ty)| ty.kind == Kind::Struct) {
        let name = btf.name(ty.name_off);
        if !name.is_empty() {
            by_name.entry(essential_name(name).to_vec()).or_default().push(id);
        }
    }
    let names = |id: TypeId| -> Vec<Vec<u8>> {
        let members = btf.ty(id).into_iter().flat_map(|ty| ty.members().collect::<Vec<_>>());
        let is_pointer = |id| btf.skip_mods_and_typedefs(id).is_some_and(|(_, ty)| ty.kind == Kind::Ptr);
        members
            .filter(|it| is_pointer(it.type_id))
            .map(|it| btf.name(it.name_off).to_vec())
            .filter(|it| !it.is_empty())
            .collect()
    };
    by_name.into_iter().find_map(|(name, ids)| {
        let &[one, two] = ids.as_slice() else { return None };
        let (ones, twos) = (names(one), names(two));
        let only_one = ones.iter().find(|it| !twos.contains(it))?;
        let only_two = twos.iter().find(|it| !ones.contains(it))?;
        let text = |it: &[u8]| String::from_utf8_lossy(it).into_owned();
        Some((text(&name), text(only_one), text(only_two)))
    })
}

/// Check that a record takes no candidates away from a later one (case 10).
#[test]
fn candidates_are_never_pruned() {
    let Some(live) = live() else { return };
    let btf = Btf::parse(&live.vmlinux).expect("the running kernel's BTF");
    let Some((name, one, two)) = twins(&btf) else {
        skip(
            "case 10: the running kernel has no two structs of one name of which each has a pointer of its own",
        );
        return;
    };
    let mut program = Program::new();
    let ptr = program.local.ptr(0);
    let members = [Member::new(&one, ptr, 0), Member::new(&two, ptr, 64)];
    let root = program.local.structure(&name, 16, &members);
    for access in ["0:0", "0:1", "0:0"] {
        program.mov(root, access, BYTE_OFF);
        program.mov(root, access, EXISTS);
    }
    let codes = codes(live, &mut program);
    assert!(codes.iter().all(|(ours, _)| ours != "pruned-away" && ours != "absent-as-queried"), "{codes:?}");
    assert!(codes.iter().any(|(_, libbpf)| libbpf == "pruned-away"), "{name} {one} {two}: {codes:?}");
}

/// Check that an ENUM of the program finds no ENUM64 of the kernel (case 73).
#[test]
fn an_enum_does_not_find_an_enum64() {
    let Some(live) = live() else { return };
    let btf = Btf::parse(&live.vmlinux).expect("the running kernel's BTF");
    let name = |off: u32| String::from_utf8_lossy(btf.name(off)).into_owned();
    // The last one: what the kernel remembers about its name bothers nobody else here.
    let wide = btf.own_types().filter(|(_, ty)| ty.kind == Kind::Enum64 && ty.name_off != 0).last();
    let Some((_, wide)) = wide else {
        skip("case 73: the running kernel has no named ENUM64");
        return;
    };
    let value = wide.enumerator(0).map(|it| name(it.name_off)).unwrap_or_default();
    let mut program = Program::new();
    let root = program.local.enumeration(&name(wide.name_off), 4, false, &[(&value, 1)]);
    program.mov(root, "0", ENUMVAL_EXISTS);
    program.record(root, "0", ENUMVAL_VALUE, &[Insn::mov(1, 1)]);
    let codes = codes(live, &mut program);
    assert_eq!(
        pairs(&codes),
        [("absent-as-queried", "present-as-queried"), ("no-type", codes[1].1.as_str())]
    );
    assert!(["exact", "moved"].contains(&codes[1].1.as_str()));
}

/// Check that the same code with and without records, on nothing to relocate, comes out the same.
#[test]
fn a_program_without_records_is_left_alone() {
    let Some(_) = live() else { return };
    let mut program = Program::new();
    let insns = code_bytes(&[Insn::mov(0, 7), Insn::exit()], ByteOrder::Little);
    let loaded = ask(&program.job(vec![Load { insns: insns.clone(), ..Load::default() }]));
    assert_eq!((loaded[0].errno, &loaded[0].insns), (0, &insns));
}
