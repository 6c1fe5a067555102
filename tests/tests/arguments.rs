//! Arguments that programs read off their context, against the prototypes of what they attach to.

#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

use btfleet_engine::batch::{Batch, Run};
use btfleet_engine::depend::Survey;
use btfleet_engine::dialect::Loader;
use btfleet_engine::fleet::Modules;
use btfleet_engine::kernel::{Kernel, PackSource};
use btfleet_engine::object::Object;
use btfleet_engine::pack::{self, BtfOrigin, Facts, NewKernel, PackFile};
use btfleet_engine::report::{self, Effect, ProgramVerdict, World};
use btfleet_tests::build::{
    BtfBuilder, BtfExtBuilder, ByteOrder, CoreRelo, Insn, Member, ObjectBuilder, Width,
};

const ORDER: ByteOrder = ByteOrder::Little;

/// Functions, hooks and a tracepoint with arguments of all sizes.
fn vmlinux() -> Vec<u8> {
    let mut btf = BtfBuilder::new(ORDER);
    let (int, long) = (btf.int("int", 4, 1), btf.int("long", 8, 1));
    let pair = btf.structure("pair", 16, &[Member::new("a", long, 0), Member::new("b", long, 64)]);
    let to_pair = btf.ptr(pair);
    btf.structure("begins_with_pair", 24, &[Member::new("first", pair, 0), Member::new("a", long, 128)]);
    btf.structure("renamed", 8, &[Member::new("a", long, 0)]);
    btf.structure("other", 8, &[Member::new("c", long, 0)]);
    let to_void = btf.ptr(0);
    let mut func = |name: &str, returned: u32, params: &[(&str, u32)]| {
        let proto = btf.func_proto(returned, params);
        btf.func(name, proto, 0);
        proto
    };
    func("two", int, &[("a", int), ("b", to_pair)]);
    func("nothing", 0, &[("a", int)]);
    func("by_value", int, &[("a", pair), ("b", int)]);
    func("more", int, &[("a", int), ("", 0)]);
    func("bpf_lsm_hook", int, &[("a", to_pair)]);
    let traced = func("traced", 0, &[("__data", to_void), ("a", to_pair)]);
    let pointer = btf.ptr(traced);
    btf.typedef("btf_trace_event", pointer);
    btf.finish()
}

fn object(section: &str, insns: &[Insn]) -> Vec<u8> {
    let mut object = ObjectBuilder::new(ORDER);
    object.program(section, "p", insns);
    object.license("GPL");
    object.finish()
}

/// What a program comes to, from a file and from a pack.
fn verdict(section: &str, insns: &[Insn]) -> ProgramVerdict {
    verdict_of(&object(section, insns))
}

fn verdict_of(object: &[u8]) -> ProgramVerdict {
    let bytes = vmlinux();
    let objects = [Object::parse(object).expect("an object")];
    let mut kernel = Kernel::parse(&bytes).expect("BTF");
    kernel.facts.origin = BtfOrigin::BuiltIn;
    let facts = Facts { origin: BtfOrigin::BuiltIn, ..Facts::default() };
    let new = NewKernel {
        name: "k",
        facts: &facts,
        vmlinux: &kernel.vmlinux.btf,
        vmlinux_bytes: &bytes,
        modules: Vec::new(),
    };
    let file = PackFile::from_bytes(pack::build(&[new]).expect("a pack").0);
    let (_, packed) = PackSource::kernels(file.view().expect("a pack")).expect("kernels");
    let kernels: Vec<Kernel<'_>> = std::iter::once(kernel).chain(packed.into_iter().map(|it| it.1)).collect();
    let batch = Batch::SEQUENTIAL;
    let run = Run::new(&batch, &objects, &kernels, &[Loader::Libbpf; 2], Modules::Each);
    let survey = Survey::new(&batch, &objects, &kernels, Modules::Each);
    let verdicts = report::check(&run, Some(&survey), &World::default(), 0);
    let of = |kernel| verdicts.on(kernel).expect("a verdict")[0].clone();
    assert_eq!(of(1), of(0), "from a pack");
    of(0)
}

/// Whether a load at `offset` is refused.
fn is_refused(section: &str, offset: i16) -> bool {
    let insns = [Insn::ldx(Width::Dw, 2, 1, offset), Insn::mov(0, 0), Insn::exit()];
    let found = verdict(section, &insns).findings;
    assert!(found.iter().all(|it| it.code == "argument-missing" && it.effect == Effect::Aborts), "{found:?}");
    !found.is_empty()
}

/// Check that arguments and the result behind them are counted as `btf_ctx_access` counts them.
#[test]
fn places_are_counted_as_the_verifier_counts_them() {
    for (section, there) in [
        ("fentry/two", 2),
        ("fexit/two", 3),
        ("fmod_ret/two", 3),
        ("fsession/two", 3),
        ("fentry/nothing", 1),
        // It returns nothing.
        ("fexit/nothing", 1),
        // A struct of 16 bytes takes two places.
        ("fentry/by_value", 3),
        ("fexit/by_value", 4),
        ("lsm/hook", 2),
        ("lsm_cgroup/hook", 2),
        ("tp_btf/event", 1),
        // Other programs have another context; of what takes more arguments nothing is said.
        ("raw_tp/event", 9),
        ("kprobe/two", 9),
        ("fentry/more", 9),
    ] {
        for place in 0..6_i16 {
            assert_eq!(is_refused(section, place * 8), place >= there, "{section}, place {place}");
        }
    }
}

/// Check that the message has the kernel's prototype as programs see it.
#[test]
fn the_kernels_prototype_is_shown() {
    let insns = [Insn::ldx(Width::Dw, 2, 1, 8), Insn::mov(0, 0), Insn::exit()];
    let found = verdict("tp_btf/event", &insns).findings;
    assert_eq!(found[0].subject.as_deref(), Some("tp_btf/event"));
    assert_eq!(found[0].message, "the program reads argument 2, the kernel has `void event(struct pair *)`");
}

/// Check that a load through an argument that no record relocates is a warning, and one of nothing else is none.
#[test]
fn a_load_without_a_record_is_drift() {
    let through = |section: &str, place: i16| {
        let insns = [
            Insn::ldx(Width::Dw, 2, 1, place * 8),
            Insn::ldx(Width::Dw, 3, 2, 8),
            Insn::mov(0, 0),
            Insn::exit(),
        ];
        verdict(section, &insns).findings
    };
    let found = through("fentry/two", 1);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].code, found[0].effect), ("field-not-relocated", Effect::Drift));
    assert_eq!(
        found[0].message,
        "8 bytes at byte 8 of struct pair are read without a record: `b` in this kernel, whatever was meant"
    );
    assert_eq!(through("fentry/two", 0), [], "a number");
    assert_eq!(through("raw_tp/event", 0), [], "another context");
}

/// An object whose `struct NAME` has one member, read through the first argument with a record.
fn relocated(section: &str, name: &str) -> Vec<u8> {
    let mut btf = BtfBuilder::new(ORDER);
    let long = btf.int("long", 8, 1);
    let member = if name == "other" { "c" } else { "a" };
    let root = btf.structure(name, 8, &[Member::new(member, long, 0)]);
    let proto = btf.func_proto(0, &[("ctx", 0)]);
    let func = btf.func("p", proto, 1);
    let (in_section, access_str_off) = (btf.str(section), btf.str("0:0"));
    let mut ext = BtfExtBuilder::new(ORDER);
    ext.func_info(in_section, 0, func);
    ext.core_relo(in_section, CoreRelo { insn_off: 8, type_id: root, access_str_off, kind: 0 });
    let mut object = ObjectBuilder::new(ORDER);
    let insns = [Insn::ldx(Width::Dw, 2, 1, 0), Insn::ldx(Width::Dw, 3, 2, 0), Insn::mov(0, 0), Insn::exit()];
    object.program(section, "p", &insns);
    object.license("GPL");
    object.btf(&btf.finish());
    object.btf_ext(&ext.finish());
    object.finish()
}

/// Check that an argument that became a pointer to another struct is a warning with the kernel's prototype, and that
/// structs which begin with each other are the same in that.
#[test]
fn an_argument_of_another_type_is_drift() {
    let found = |name: &str| verdict_of(&relocated("lsm/hook", name)).findings;
    assert_eq!(found("pair___old"), []);
    assert_eq!(found("begins_with_pair"), []);
    assert_eq!(found("renamed"), []);
    let other = found("other");
    assert_eq!(other.len(), 1, "{other:?}");
    assert_eq!((other[0].code, other[0].effect), ("argument-changed", Effect::Drift));
    assert_eq!(
        other[0].message,
        "the program reads argument 1 as `struct other *`, the kernel has `int hook(struct pair *)`"
    );
}

/// Check that a load that no path leads to is none, and that copies of the context are the context.
#[test]
fn what_is_not_reached_is_not_read() {
    let guarded = |value: i32| {
        let insns = [
            Insn::alu_reg(0xb0, true, 6, 1),
            Insn::mov(0, 0),
            Insn::mov(3, value),
            Insn::jmp(0x10, 3, 0, 1),
            Insn::ldx(Width::Dw, 2, 6, 8),
            Insn::exit(),
        ];
        verdict("fentry/nothing", &insns).findings.len()
    };
    assert_eq!(guarded(0), 0);
    assert_eq!(guarded(1), 1);
}
