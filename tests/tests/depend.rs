//! What objects need of a kernel beside CO-RE, rule by rule: sections 3.2 to 3.6 of the specification, and its case 90.
//!
//! Every row is answered from files, from a pack of the same kernels, and among other kernels: all have to agree.

#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::sync::Arc;

use btfleet_engine::batch::Batch;
use btfleet_engine::depend::{Answer, Code, Severity, Survey, answer, needs};
use btfleet_engine::fleet::Modules;
use btfleet_engine::kconfig::Kconfig;
use btfleet_engine::kernel::{Kernel, PackSource};
use btfleet_engine::object::Object;
use btfleet_engine::pack::{self, BtfOrigin, Facts, NewKernel, NewModule, PackFile};
use btfleet_engine::report::Known;
use btfleet_tests::build::{BtfBuilder, ByteOrder, Insn, Member, ObjectBuilder};

use Severity::{AttachFails, Conditional, Fine, LoadFails};

const ORDER: ByteOrder = ByteOrder::Little;

/// A kernel: vmlinux and modules with their names.
struct World {
    vmlinux: Vec<u8>,
    modules: Vec<(&'static str, Vec<u8>)>,
    origin: BtfOrigin,
}

impl World {
    fn new(target: &BtfBuilder) -> Self {
        Self { vmlinux: target.finish(), modules: Vec::new(), origin: BtfOrigin::BuiltIn }
    }

    fn with_module(mut self, name: &'static str, module: &BtfBuilder) -> Self {
        self.modules.push((name, module.finish()));
        self
    }

    fn kernel(&self) -> Kernel<'_> {
        let mut kernel = Kernel::parse(&self.vmlinux).expect("BTF");
        for (name, module) in &self.modules {
            kernel.add_module((*name).to_owned(), module).expect("split BTF");
        }
        kernel.facts.origin = self.origin;
        kernel
    }

    fn pack(&self) -> PackFile {
        let kernel = self.kernel();
        let facts = Facts { origin: self.origin, ..Facts::default() };
        let modules = kernel.modules.iter().zip(&self.modules);
        let modules =
            modules.map(|(it, (_, bytes))| NewModule { name: &it.name, btf: &it.indexed.btf, bytes });
        let new = NewKernel {
            name: "k",
            facts: &facts,
            vmlinux: &kernel.vmlinux.btf,
            vmlinux_bytes: &self.vmlinux,
            modules: modules.collect(),
        };
        PackFile::from_bytes(pack::build(&[new]).expect("a pack").0)
    }

    /// Answers to all needs of an object.
    fn answers(&self, object: &[u8], modules: Modules) -> Vec<Answer> {
        let object = Object::parse(object).expect("an object");
        assert_eq!(object.refused(), None);
        let kernel = self.kernel();
        let needs = needs(&object);
        let alone: Vec<Answer> = needs.iter().map(|it| answer(&it.need, &kernel, modules)).collect();
        let file = self.pack();
        let (_, packed) = PackSource::kernels(file.view().expect("a pack")).expect("kernels");
        let from_pack: Vec<Answer> = needs.iter().map(|it| answer(&it.need, &packed[0].1, modules)).collect();
        assert_eq!(from_pack, alone, "from a pack");
        let other = BtfBuilder::new(ORDER).finish();
        let mut kernels = vec![Kernel::parse(&other).expect("BTF"), kernel];
        kernels.extend(packed.into_iter().map(|it| it.1));
        let objects = [object];
        let survey = Survey::new(&Batch::SEQUENTIAL, &objects, &kernels, modules);
        for kernel in [1, 2] {
            let among: Vec<Answer> =
                survey.of(0).map(|(_, it)| it.on(kernel).expect("an answer").clone()).collect();
            assert_eq!(among, alone, "among others, kernel {kernel}");
        }
        alone
    }

    fn codes(&self, object: &[u8], modules: Modules) -> Vec<(Code, Severity)> {
        self.answers(object, modules).into_iter().map(|it| (it.code, it.severity)).collect()
    }
}

fn object_of(sections: &[&str]) -> Vec<u8> {
    let mut object = ObjectBuilder::new(ORDER);
    for (number, section) in sections.iter().enumerate() {
        object.program(section, &format!("p{number}"), &[Insn::mov(0, 0), Insn::exit()]);
    }
    object.finish()
}

/// What one program with this section comes to.
fn attach(world: &World, section: &str, modules: Modules) -> (Code, Severity) {
    world.codes(&object_of(&[section]), modules)[0]
}

fn kernel_with_targets() -> (BtfBuilder, u32) {
    let mut target = BtfBuilder::new(ORDER);
    let int = target.int("int", 4, 1);
    let proto = target.func_proto(int, &[("a", int)]);
    for name in ["do_it", "bpf_lsm_file_open", "bpf_iter_task", "__x64_sys_bpf", "__x64_sys_read"] {
        target.func(name, proto, 0);
    }
    let long = "x".repeat(127);
    target.func(&long, proto, 0);
    let pointer = target.ptr(proto);
    target.typedef("btf_trace_sched_switch", pointer);
    // Of the wrong kind: libbpf does not take it.
    target.func("btf_trace_no_typedef", proto, 0);
    (target, proto)
}

#[test]
fn targets_are_found_by_name_and_kind() {
    let (target, _) = kernel_with_targets();
    let world = World::new(&target);
    let long = format!("fentry/{}", "x".repeat(127));
    let longer = format!("fentry/{}", "x".repeat(128));
    for (section, want) in [
        ("fentry/do_it", (Code::Ok, Fine)),
        ("fexit.s/do_it", (Code::Ok, Fine)),
        ("fmod_ret/gone", (Code::TargetMissing, LoadFails)),
        ("fsession/gone", (Code::TargetMissing, LoadFails)),
        ("fentry/", (Code::TargetMissing, LoadFails)),
        ("?fentry", (Code::TargetSetAtRuntime, Conditional)),
        (long.as_str(), (Code::Ok, Fine)),
        (longer.as_str(), (Code::TargetMissing, LoadFails)),
        ("tp_btf/sched_switch", (Code::Ok, Fine)),
        ("tp_btf/no_typedef", (Code::TracepointMissing, LoadFails)),
        ("raw_tp/sched_switch", (Code::Ok, Fine)),
        ("raw_tracepoint.w/gone", (Code::TracepointMissing, AttachFails)),
        ("tp/sched/sched_switch", (Code::Ok, Fine)),
        ("tracepoint/sched/gone", (Code::TracepointMissing, AttachFails)),
        ("tp/syscalls/sys_enter_read", (Code::Ok, Fine)),
        ("tp/ftrace/function", (Code::TargetNeedsKallsyms, Conditional)),
        ("lsm/file_open", (Code::Ok, Fine)),
        ("lsm_cgroup/gone", (Code::LsmHookMissing, LoadFails)),
        ("iter.s/task", (Code::Ok, Fine)),
        ("iter/gone", (Code::IterMissing, LoadFails)),
        ("freplace/do_it", (Code::TargetSetAtRuntime, Conditional)),
        ("kprobe/do_it+0x10", (Code::Ok, Fine)),
        ("kretprobe/gone", (Code::TargetNeedsKallsyms, Conditional)),
        ("kprobe.multi/do_*", (Code::TargetNeedsKallsyms, Conditional)),
        ("fentry.multi/do_*", (Code::Ok, Fine)),
        ("ksyscall/read", (Code::Ok, Fine)),
        ("ksyscall/write", (Code::TargetNeedsKallsyms, Conditional)),
    ] {
        assert_eq!(attach(&world, section, Modules::Each), want, "{section}");
    }
}

#[test]
fn modules_are_looked_at_where_vmlinux_has_nothing_and_by_the_start_of_their_names() {
    let (target, proto) = kernel_with_targets();
    let module = |name: &str| {
        let mut module = BtfBuilder::split(&target);
        module.func(name, proto, 0);
        module
    };
    let world = World::new(&target)
        .with_module("nf_nat", &module("in_nat"))
        // The same essential name as one of vmlinux.
        .with_module("nf_nat_ftp", &module("do_it___other"));
    let only = (Code::TargetModuleOnly, Conditional);
    for (section, each, all) in [
        ("fentry/in_nat", only, (Code::Ok, Fine)),
        ("fentry/do_it___other", only, (Code::Ok, Fine)),
        ("fentry/nf_nat:in_nat", only, (Code::Ok, Fine)),
        ("fentry/nf:in_nat", only, (Code::Ok, Fine)),
        ("fentry/other:in_nat", (Code::TargetMissing, LoadFails), (Code::TargetMissing, LoadFails)),
        // Any beginning of "vmlinux", and a lookup in a module begins in vmlinux.
        ("fentry/vm:do_it", (Code::Ok, Fine), (Code::Ok, Fine)),
        ("fentry/:in_nat", only, (Code::Ok, Fine)),
        ("fentry/nf_nat:do_it", only, (Code::Ok, Fine)),
        ("fentry.multi/nf_nat:in_*", only, (Code::Ok, Fine)),
        ("fentry.multi/gone:in_*", (Code::TargetMissing, LoadFails), (Code::TargetMissing, LoadFails)),
        ("kprobe/in_nat", only, (Code::Ok, Fine)),
    ] {
        assert_eq!(attach(&world, section, Modules::Each), each, "{section}");
        assert_eq!(attach(&world, section, Modules::All), all, "{section}, all loaded");
    }
}

#[test]
fn what_libbpf_looks_up_takes_btf_in_the_kernel() {
    let (target, _) = kernel_with_targets();
    let of = |origin| World { origin, ..World::new(&target) };
    for (section, external, unknown) in [
        ("fentry/do_it", (Code::NeedsKernelBtf, LoadFails), (Code::NeedsKernelBtf, Conditional)),
        ("fentry/gone", (Code::NeedsKernelBtf, LoadFails), (Code::TargetMissing, LoadFails)),
        ("raw_tp/sched_switch", (Code::Ok, Fine), (Code::Ok, Fine)),
        ("kprobe/do_it", (Code::Ok, Fine), (Code::Ok, Fine)),
    ] {
        assert_eq!(attach(&of(BtfOrigin::External), section, Modules::Each), external, "{section}");
        assert_eq!(attach(&of(BtfOrigin::Unknown), section, Modules::Each), unknown, "{section}");
    }
    // A function that only kernels with BTF have is evidence.
    let (mut target, proto) = kernel_with_targets();
    target.func("btf_vmlinux_init", proto, 0);
    let world = World { origin: BtfOrigin::Unknown, ..World::new(&target) };
    assert_eq!(attach(&world, "fentry/do_it", Modules::Each), (Code::Ok, Fine));
}

/// An object with one extern in `.ksyms` or `.kconfig`, whose VAR or FUNC `declare` makes.
fn object_with_extern(
    name: &str,
    section: &str,
    weak: bool,
    declare: impl Fn(&mut BtfBuilder) -> u32,
) -> Vec<u8> {
    let mut btf = BtfBuilder::new(ORDER);
    let id = declare(&mut btf);
    btf.datasec(section, 0, &[(id, 0, 0)]);
    let mut object = ObjectBuilder::new(ORDER);
    object.program("socket", "p", &[Insn::mov(0, 0), Insn::exit()]);
    object.extern_symbol(name, weak);
    object.btf(&btf.finish());
    object.finish()
}

fn kfunc(name: &'static str, params: usize, weak: bool) -> Vec<u8> {
    object_with_extern(name, ".ksyms", weak, |btf| {
        let int = btf.int("int", 4, 1);
        let params: Vec<(&str, u32)> = vec![("a", int); params];
        let proto = btf.func_proto(int, &params);
        btf.func(name, proto, 2)
    })
}

fn variable(name: &'static str, ty: impl Fn(&mut BtfBuilder) -> u32, weak: bool) -> Vec<u8> {
    object_with_extern(name, ".ksyms", weak, |btf| {
        let ty = ty(btf);
        btf.var(name, ty, 2)
    })
}

/// Case 90 of the specification, and what is around it.
#[test]
fn a_weak_function_need_not_fit_and_a_weak_variable_has_to() {
    let mut target = BtfBuilder::new(ORDER);
    let int = target.int("int", 4, 1);
    let proto = target.func_proto(int, &[("x", int)]);
    target.func("bpf_f", proto, 1);
    let constant = target.constant(int);
    target.var("v", constant, 1);
    let mut module = BtfBuilder::split(&target);
    module.func("bpf_m", proto, 1);
    module.var("mv", int, 1);
    let world = World::new(&target).with_module("m", &module);
    let int = |btf: &mut BtfBuilder| btf.int("unsigned int", 4, 0);
    let composite = |btf: &mut BtfBuilder| btf.structure("s", 4, &[]);
    for (what, object, each, all) in [
        ("strong, fits", kfunc("bpf_f", 1, false), (Code::Ok, Fine), (Code::Ok, Fine)),
        ("flavored", kfunc("bpf_f___v2", 1, false), (Code::Ok, Fine), (Code::Ok, Fine)),
        (
            "strong, does not fit",
            kfunc("bpf_f", 2, false),
            (Code::KfuncProtoMismatch, LoadFails),
            (Code::KfuncProtoMismatch, LoadFails),
        ),
        (
            "weak, does not fit",
            kfunc("bpf_f", 2, true),
            (Code::KfuncMissingWeak, Fine),
            (Code::KfuncMissingWeak, Fine),
        ),
        (
            "strong, missing",
            kfunc("bpf_g", 1, false),
            (Code::KfuncMissing, LoadFails),
            (Code::KfuncMissing, LoadFails),
        ),
        (
            "weak, missing",
            kfunc("bpf_g", 1, true),
            (Code::KfuncMissingWeak, Fine),
            (Code::KfuncMissingWeak, Fine),
        ),
        ("in a module", kfunc("bpf_m", 1, false), (Code::KfuncModuleOnly, Conditional), (Code::Ok, Fine)),
        (
            "in a module, does not fit",
            kfunc("bpf_m", 0, false),
            (Code::KfuncProtoMismatch, LoadFails),
            (Code::KfuncProtoMismatch, LoadFails),
        ),
        ("variable, fits", variable("v", int, false), (Code::Ok, Fine), (Code::Ok, Fine)),
        (
            "weak variable, does not fit",
            variable("v", composite, true),
            (Code::KsymTypeMismatch, LoadFails),
            (Code::KsymTypeMismatch, LoadFails),
        ),
        (
            "variable, missing",
            variable("w", int, false),
            (Code::KsymMissing, LoadFails),
            (Code::KsymMissing, LoadFails),
        ),
        (
            "weak variable, missing",
            variable("w", int, true),
            (Code::KsymMissingWeak, Fine),
            (Code::KsymMissingWeak, Fine),
        ),
        // Flavors are cut from functions only.
        (
            "variable, flavored",
            variable("v___x", int, false),
            (Code::KsymMissing, LoadFails),
            (Code::KsymMissing, LoadFails),
        ),
        (
            "variable in a module",
            variable("mv", int, false),
            (Code::KsymModuleOnly, Conditional),
            (Code::Ok, Fine),
        ),
        (
            "address",
            variable("init_net", |_| 0, false),
            (Code::KsymNeedsKallsyms, Conditional),
            (Code::KsymNeedsKallsyms, Conditional),
        ),
        ("address of a function", variable("bpf_f", |_| 0, false), (Code::Ok, Fine), (Code::Ok, Fine)),
    ] {
        assert_eq!(world.codes(&object, Modules::Each), [each], "{what}");
        assert_eq!(world.codes(&object, Modules::All), [all], "{what}, all loaded");
    }
    let mismatch = &world.answers(&kfunc("bpf_f", 2, false), Modules::Each)[0];
    assert_eq!(
        mismatch.detail.as_deref(),
        Some("the object expects `int bpf_f(int, int)`, the kernel has `int bpf_f(int)`")
    );
}

#[test]
fn values_of_the_configuration_are_those_that_libbpf_knows() {
    let mut target = BtfBuilder::new(ORDER);
    target.int("int", 4, 1);
    let world = World::new(&target);
    for (name, weak, want) in [
        ("LINUX_KERNEL_VERSION", false, (Code::Ok, Fine)),
        ("LINUX_OTHER", true, (Code::Ok, Fine)),
        ("LINUX_OTHER", false, (Code::KconfigUnrecognized, LoadFails)),
        ("OTHER", true, (Code::KconfigUnrecognized, LoadFails)),
        ("CONFIG_HZ", false, (Code::KconfigUnknown, Conditional)),
        ("CONFIG_HZ", true, (Code::Ok, Fine)),
    ] {
        let object = object_with_extern(name, ".kconfig", weak, |btf| {
            let int = btf.int("int", 4, 1);
            btf.var(name, int, 2)
        });
        assert_eq!(world.codes(&object, Modules::Each), [want], "{name}");
    }
}

/// Check that system calls count as unwrapped where libbpf cannot place the kprobe by which it finds out.
#[test]
fn without_kprobes_system_calls_count_as_unwrapped() {
    let (target, _) = kernel_with_targets();
    let world = World::new(&target);
    let kernel = world.kernel();
    let wrapped = |kconfig: Option<&[u8]>| {
        let kconfig = kconfig.map(|it| Arc::new(Kconfig::parse(it)));
        Known::new(&kernel, None, kconfig).has_syscall_wrappers
    };
    assert_eq!(wrapped(None), Some(true));
    assert_eq!(wrapped(Some(b"CONFIG_KPROBE_EVENTS=y\n")), Some(true));
    assert_eq!(wrapped(Some(b"CONFIG_HZ=250\n# CONFIG_KPROBES is not set\n")), Some(false));
}

/// How an object with a struct_ops map differs from the plain one.
#[derive(Clone, Copy)]
struct Ops {
    section: &'static str,
    type_name: &'static str,
    flags_size: u32,
    flags_value: u32,
    extra_value: u64,
    is_set: bool,
}

const OPS: Ops = Ops {
    section: ".struct_ops",
    type_name: "ops___v1",
    flags_size: 4,
    flags_value: 0,
    extra_value: 0,
    is_set: true,
};

/// `struct ops { int (*run)(void); unsigned flags; void *extra; }`, one variable of it, `run` set to a program.
fn struct_ops(ops: Ops) -> Vec<u8> {
    let mut btf = BtfBuilder::new(ORDER);
    let flags = btf.int("flags", ops.flags_size, 0);
    let proto = btf.func_proto(flags, &[]);
    let (func, void) = (btf.ptr(proto), btf.ptr(0));
    let members =
        [Member::new("run", func, 0), Member::new("flags", flags, 64), Member::new("extra", void, 128)];
    let id = btf.structure(ops.type_name, 24, &members);
    let var = btf.var("map", id, 1);
    btf.datasec(ops.section, 24, &[(var, 0, 24)]);
    let mut object = ObjectBuilder::new(ORDER);
    let program = object.program("struct_ops/run", "run", &[Insn::mov(0, 0), Insn::exit()]);
    let mut bytes = [0; 24];
    bytes[8..12].copy_from_slice(&ops.flags_value.to_le_bytes());
    bytes[16..].copy_from_slice(&ops.extra_value.to_le_bytes());
    let data = object.data(ops.section, &bytes);
    object.object(data, "map", 0, 24);
    if ops.is_set {
        let symbol = object.symbol("to_run", (1 << 4) | 2, program, 0, 16);
        object.relocation(data, 0, symbol, 1);
    }
    object.btf(&btf.finish());
    object.finish()
}

/// The kernel's `struct ops` with these members, and the struct of the map's value.
fn kernel_ops(members: impl Fn(&mut BtfBuilder) -> Vec<Member<'static>>, has_data: bool) -> World {
    let mut target = BtfBuilder::new(ORDER);
    let members = members(&mut target);
    let ops = target.structure("ops", 32, &members);
    let held = if has_data { ops } else { target.int("int", 4, 1) };
    target.structure("bpf_struct_ops_ops", 64, &[Member::new("data", held, 0)]);
    World::new(&target)
}

fn whole(target: &mut BtfBuilder) -> Vec<Member<'static>> {
    let flags = target.int("u32", 4, 0);
    let proto = target.func_proto(flags, &[]);
    let (func, void) = (target.ptr(proto), target.ptr(0));
    vec![Member::new("extra", void, 0), Member::new("flags", flags, 64), Member::new("run", func, 128)]
}

/// Members but the one of that name.
fn without(name: &'static str) -> impl Fn(&mut BtfBuilder) -> Vec<Member<'static>> {
    move |target| {
        let number = ["extra", "flags", "run"].iter().position(|it| *it == name).expect("a member");
        let mut members = whole(target);
        members.remove(number);
        members
    }
}

#[test]
fn structs_of_functions_have_to_have_what_the_object_sets() {
    let plain = || kernel_ops(whole, true);
    let bitfield = |target: &mut BtfBuilder| {
        let mut members = whole(target);
        let flags = target.int("bits", 4, 0);
        members[1] = Member::bitfield("flags", flags, 64, 3);
        members
    };
    let no_function = |target: &mut BtfBuilder| {
        let mut members = whole(target);
        let void = target.ptr(0);
        members[2] = Member::new("run", void, 128);
        members
    };
    let fine = (Code::Ok, Fine);
    for (what, world, ops, want) in [
        ("the same, in another order", plain(), OPS, fine),
        ("in a section of links", plain(), Ops { section: ".struct_ops.link", ..OPS }, fine),
        ("another name", plain(), Ops { type_name: "others", ..OPS }, (Code::OpsTypeMissing, LoadFails)),
        ("no struct in the value", kernel_ops(whole, false), OPS, (Code::OpsTypeMissing, LoadFails)),
        ("lacks what is zero", kernel_ops(without("flags"), true), OPS, (Code::OpsMemberMissingZero, Fine)),
        (
            "lacks what is set",
            kernel_ops(without("flags"), true),
            Ops { flags_value: 7, ..OPS },
            (Code::OpsMemberMissing, LoadFails),
        ),
        ("lacks the program's", kernel_ops(without("run"), true), OPS, (Code::OpsMemberMissing, LoadFails)),
        (
            "lacks the program's, not set",
            kernel_ops(without("run"), true),
            Ops { is_set: false, ..OPS },
            (Code::OpsMemberMissingZero, Fine),
        ),
        ("a bitfield", kernel_ops(bitfield, true), OPS, (Code::OpsMemberMismatch, LoadFails)),
        ("another size", plain(), Ops { flags_size: 2, ..OPS }, (Code::OpsMemberMismatch, LoadFails)),
        (
            "a pointer to no program",
            plain(),
            Ops { extra_value: 1, ..OPS },
            (Code::OpsMemberMismatch, LoadFails),
        ),
        ("no function", kernel_ops(no_function, true), OPS, (Code::OpsMemberMismatch, LoadFails)),
    ] {
        assert_eq!(world.codes(&struct_ops(ops), Modules::Each)[0], want, "{what}");
    }
}

#[test]
fn only_the_first_map_of_a_section_with_a_question_mark_is_not_made() {
    let mut btf = BtfBuilder::new(ORDER);
    let int = btf.int("int", 4, 1);
    let ops = btf.structure("ops", 4, &[Member::new("a", int, 0)]);
    let (first, second) = (btf.var("first", ops, 1), btf.var("second", ops, 1));
    btf.datasec("?.struct_ops", 8, &[(first, 0, 4), (second, 4, 4)]);
    let mut object = ObjectBuilder::new(ORDER);
    object.program("socket", "p", &[Insn::mov(0, 0), Insn::exit()]);
    let data = object.data("?.struct_ops", &[0; 8]);
    object.object(data, "first", 0, 4);
    object.object(data, "second", 4, 4);
    object.btf(&btf.finish());
    let file = object.finish();
    let object = Object::parse(&file).expect("an object");
    let made: Vec<(&[u8], bool)> = object.struct_ops().iter().map(|it| (it.name, it.autocreate)).collect();
    assert_eq!(made, [(&b"first"[..], false), (b"second", true)]);
}
