//! What programs attach to.
//!
//! Source: `libbpf_prepare_prog_load`, `find_kernel_btf_id`, `attach_kprobe`, `attach_ksyscall`, libbpf; spec 3.2.

use super::looked_up::{Extent, LookedUp};
use super::lookup::{find, module_name};
use super::{Answer, Code, Severity};
use crate::fleet::Modules;
use crate::format::btf::Kind;
use crate::kallsyms::Listed;
use crate::kernel::Kernel;
use crate::object::{AttachKind, AttachTarget};

/// Longest name that libbpf looks up, prefix and the byte behind it included (`BTF_MAX_NAME_SIZE`).
const NAME_MAX: usize = 128;

/// How architectures call their entries of system calls: `__x64_sys_openat`.
const SYSCALL_PREFIXES: [&str; 9] =
    ["x64", "arm64", "s390x", "riscv", "powerpc", "arm", "mips", "ia32", "s390"];

/// Category of the events of system calls.
const SYSCALL_EVENTS: &[u8] = b"syscalls/";

/// Categories of trace events that are no tracepoints.
const OTHER_EVENTS: [&[u8]; 6] = [b"syscalls", b"ftrace", b"kprobes", b"uprobes", b"synthetic", b"eprobes"];

pub(super) fn answer(target: &AttachTarget<'_>, kernel: &Kernel<'_>, modules: Modules) -> Answer {
    let Some(name) = target.name.filter(|_| target.kind != AttachKind::Freplace) else {
        // Probes without a name are attached by hand, and load all the same.
        let severity = match target.kind {
            AttachKind::Freplace => Severity::Conditional,
            kind if kind.needs_kernel_btf() && kind != AttachKind::TraceMulti => Severity::Conditional,
            _ => Severity::Fine,
        };
        return Answer::new(Code::TargetSetAtRuntime, severity);
    };
    match target.kind {
        AttachKind::TraceMulti => multi(target, name, kernel, modules),
        AttachKind::Tracepoint => trace_event(name, kernel, modules),
        AttachKind::Kprobe => probe(probed(name), kernel, modules),
        AttachKind::KprobeMulti if has_wildcard(name) => {
            Answer::new(Code::TargetNeedsKallsyms, Severity::Conditional)
                .detail("a pattern is matched against the functions of the running kernel")
        }
        AttachKind::KprobeMulti => probe(name, kernel, modules),
        AttachKind::Ksyscall => syscall(name, kernel, modules),
        _ => in_btf(target, name, kernel, modules),
    }
}

/// Names that the answer depends on; `None` if each kernel has to be asked by itself.
pub(super) fn roots(target: &AttachTarget<'_>) -> Option<Vec<(Vec<u8>, Kind)>> {
    let Some(name) = target.name else { return Some(Vec::new()) };
    match target.kind {
        // What modules are called counts too.
        _ if target.module.is_some() => None,
        AttachKind::Ksyscall => None,
        AttachKind::Freplace => Some(Vec::new()),
        AttachKind::Tracepoint if is_other_event(name) => None,
        AttachKind::Tracepoint => Some(vec![(trace_name(event_name(name)), Kind::Typedef)]),
        AttachKind::Kprobe => Some(vec![(probed(name).to_vec(), Kind::Func)]),
        AttachKind::TraceMulti | AttachKind::KprobeMulti if has_wildcard(name) => Some(Vec::new()),
        AttachKind::TraceMulti | AttachKind::KprobeMulti => Some(vec![(name.to_vec(), Kind::Func)]),
        kind => kind.in_btf().map(|(prefix, kind)| vec![([prefix.as_bytes(), name].concat(), kind)]),
    }
}

/// What the answer looks up, on any kernel.
pub(super) fn looked_up(target: &AttachTarget<'_>) -> Vec<LookedUp> {
    let Some(name) = target.name else { return Vec::new() };
    let function = |name: &[u8]| vec![LookedUp::new(name, Kind::Func, Extent::Name)];
    match target.kind {
        AttachKind::Freplace => Vec::new(),
        AttachKind::TraceMulti | AttachKind::KprobeMulti if has_wildcard(name) => Vec::new(),
        AttachKind::TraceMulti | AttachKind::KprobeMulti => function(name),
        AttachKind::Kprobe => function(probed(name)),
        AttachKind::Ksyscall => entries(name),
        AttachKind::Tracepoint => match entry_event(name) {
            Some(entry) => entries(entry),
            None if is_other_event(name) => Vec::new(),
            None => vec![LookedUp::new(trace_name(event_name(name)), Kind::Typedef, Extent::Name)],
        },
        kind => {
            let found = kind.in_btf().map(|(prefix, kind)| ([prefix.as_bytes(), name].concat(), kind));
            found.map(|(full, kind)| LookedUp::new(full, kind, Extent::Interface)).into_iter().collect()
        }
    }
}

/// Entries of a system call on any architecture, and of the one that tells architectures apart.
fn entries(name: &[u8]) -> Vec<LookedUp> {
    let prefixes = SYSCALL_PREFIXES.into_iter().chain(["se"]);
    let names = prefixes.flat_map(|prefix| [b"bpf", name].map(|name| entry(prefix, name)));
    names.map(|it| LookedUp::new(it, Kind::Func, Extent::Name)).collect()
}

fn missing(kind: AttachKind) -> Answer {
    let code = match kind {
        AttachKind::TpBtf | AttachKind::RawTracepoint | AttachKind::Tracepoint => Code::TracepointMissing,
        AttachKind::Lsm | AttachKind::LsmCgroup => Code::LsmHookMissing,
        AttachKind::Iter => Code::IterMissing,
        _ => Code::TargetMissing,
    };
    let severity = if kind.needs_kernel_btf() { Severity::LoadFails } else { Severity::AttachFails };
    Answer::new(code, severity)
}

fn module_only(kernel: &Kernel<'_>, modules: Modules, found: impl Iterator<Item = u32>) -> Answer {
    let mut names: Vec<String> = found.map(|it| module_name(kernel, it)).collect();
    match modules {
        Modules::All => {
            names.truncate(1);
            Answer::ok().in_modules(names)
        }
        Modules::Each => Answer::new(Code::TargetModuleOnly, Severity::Conditional).in_modules(names),
    }
}

/// What libbpf looks up before it loads the program, or the kernel in the same place when a raw tracepoint attaches.
fn in_btf(target: &AttachTarget<'_>, name: &[u8], kernel: &Kernel<'_>, modules: Modules) -> Answer {
    let Some((prefix, kind)) = target.kind.in_btf() else { return Answer::ok() };
    let full = [prefix.as_bytes(), name].concat();
    if target.kind.needs_kernel_btf() && full.len() >= NAME_MAX {
        return missing(target.kind).detail("the name is longer than libbpf looks up");
    }
    let Some(wanted) = target.module else {
        let found = find(kernel, &full, kind);
        return match (found.vmlinux, found.modules.is_empty()) {
            (Some(_), _) => Answer::ok(),
            (None, false) => module_only(kernel, modules, found.modules.iter().map(|it| it.0)),
            (None, true) => missing(target.kind),
        };
    };
    // QUIRK: any beginning of "vmlinux" stands for it, even the empty one.
    let in_vmlinux = kernel.vmlinux.named(&full, kind);
    if b"vmlinux".starts_with(wanted) && in_vmlinux.is_some() {
        return Answer::ok();
    }
    // QUIRK: a module's name only has to start with what is asked for, and the lookup in a module begins in vmlinux.
    let called = (0_u32..).zip(&kernel.modules).filter(|(_, it)| it.name.as_bytes().starts_with(wanted));
    let having = called.filter(|(_, it)| in_vmlinux.is_some() || it.indexed.named(&full, kind).is_some());
    let having: Vec<u32> = having.map(|it| it.0).collect();
    if having.is_empty() {
        let shown = String::from_utf8_lossy(wanted);
        return missing(target.kind).detail(format!("in no module {shown}"));
    }
    module_only(kernel, modules, having.into_iter())
}

/// Functions are looked up when the program attaches; to load it takes the module, if one is named.
fn multi(target: &AttachTarget<'_>, name: &[u8], kernel: &Kernel<'_>, modules: Modules) -> Answer {
    if let Some(wanted) = target.module.filter(|it| !b"vmlinux".starts_with(it)) {
        let called = (0_u32..).zip(&kernel.modules).filter(|(_, it)| it.name.as_bytes().starts_with(wanted));
        let called: Vec<u32> = called.map(|it| it.0).collect();
        if called.is_empty() {
            let shown = String::from_utf8_lossy(wanted);
            return missing(target.kind).detail(format!("there is no module {shown}"));
        }
        return module_only(kernel, modules, called.into_iter());
    }
    if has_wildcard(name) {
        return Answer::ok();
    }
    let found = find(kernel, name, Kind::Func);
    match (found.vmlinux, found.modules.is_empty()) {
        (Some(_), _) => Answer::ok(),
        (None, false) => module_only(kernel, modules, found.modules.iter().map(|it| it.0)),
        (None, true) => Answer::new(Code::TargetMissing, Severity::AttachFails),
    }
}

/// A kprobe is put on any function that has a symbol. BTF has a FUNC for those that are in the symbol table and can be
/// traced, under the name that they have there, so that a FUNC is enough to say yes; to say no it takes the symbols.
fn probe(name: &[u8], kernel: &Kernel<'_>, modules: Modules) -> Answer {
    let listed = kernel.kallsyms.as_ref().and_then(|it| it.function(name));
    match listed {
        Some(Listed::Once) => return Answer::ok(),
        Some(Listed::Several(count)) => {
            let text = format!("{count} functions are called that, and the kernel does not choose");
            return Answer::new(Code::TargetAmbiguous, Severity::AttachFails).detail(text);
        }
        Some(Listed::OnlyAs(other)) => {
            let text = format!("the compiler made {other} of it");
            return missing(AttachKind::Kprobe).detail(text);
        }
        Some(Listed::Absent) | None => {}
    }
    let found = find(kernel, name, Kind::Func);
    match (found.vmlinux, found.modules.is_empty()) {
        (Some(_), _) => Answer::ok(),
        (None, false) => module_only(kernel, modules, found.modules.iter().map(|it| it.0)),
        (None, true) if listed.is_some() => missing(AttachKind::Kprobe),
        (None, true) => Answer::new(Code::TargetNeedsKallsyms, Severity::Conditional)
            .detail("BTF has no function of that name, and does not have all of them"),
    }
}

/// A trace event of a tracepoint has a typedef in BTF, whether programs use it or not.
fn trace_event(name: &[u8], kernel: &Kernel<'_>, modules: Modules) -> Answer {
    let event = event_name(name);
    if name.starts_with(SYSCALL_EVENTS) {
        return match entry_event(name) {
            Some(entry) => syscall(entry, kernel, modules),
            None => missing(AttachKind::Tracepoint),
        };
    }
    if is_other_event(name) {
        return Answer::new(Code::TargetNeedsKallsyms, Severity::Conditional).detail("it is no tracepoint");
    }
    let found = find(kernel, &trace_name(event), Kind::Typedef);
    match (found.vmlinux, found.modules.is_empty()) {
        (Some(_), _) => Answer::ok(),
        (None, false) => module_only(kernel, modules, found.modules.iter().map(|it| it.0)),
        (None, true) => missing(AttachKind::Tracepoint),
    }
}

/// libbpf puts a kprobe on the entry of the architecture that has one for `bpf` too, else on `__se_sys_NAME`.
fn syscall(name: &[u8], kernel: &Kernel<'_>, modules: Modules) -> Answer {
    let is_there = |name: &[u8]| {
        let listed = kernel.kallsyms.as_ref().and_then(|it| it.function(name));
        matches!(listed, Some(Listed::Once | Listed::Several(_)))
            || kernel.vmlinux.named(name, Kind::Func).is_some()
    };
    let wrapper = SYSCALL_PREFIXES.into_iter().find(|it| is_there(&entry(it, b"bpf")));
    probe(&entry(wrapper.unwrap_or("se"), name), kernel, modules)
}

/// The function that an architecture enters a system call by.
fn entry(prefix: &str, name: &[u8]) -> Vec<u8> {
    [b"__", prefix.as_bytes(), b"_sys_", name].concat()
}

/// The system call whose entry or exit an event is.
fn entry_event(name: &[u8]) -> Option<&[u8]> {
    let event = name.strip_prefix(SYSCALL_EVENTS)?;
    [&b"sys_enter_"[..], b"sys_exit_"].into_iter().find_map(|it| event.strip_prefix(it))
}

fn has_wildcard(pattern: &[u8]) -> bool {
    pattern.iter().any(|it| matches!(it, b'*' | b'?'))
}

/// The function of a probe that may be somewhere in it: `do_unlinkat+0x10`.
fn probed(name: &[u8]) -> &[u8] {
    name.split(|&it| it == b'+').next().unwrap_or_default()
}

fn trace_name(event: &[u8]) -> Vec<u8> {
    [b"btf_trace_", event].concat()
}

/// The name behind the category.
fn event_name(name: &[u8]) -> &[u8] {
    name.splitn(2, |&it| it == b'/').nth(1).unwrap_or_default()
}

fn is_other_event(name: &[u8]) -> bool {
    let category = name.split(|&it| it == b'/').next().unwrap_or_default();
    OTHER_EVENTS.contains(&category)
}
