//! What a program attaches to, as far as its section's name says so.
//!
//! Source: the section table of libbpf (`section_defs`); spec 3.2.

use crate::format::btf::Kind;

/// How a program attaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttachKind {
    /// At the entry of a kernel function.
    Fentry,
    /// At its exit.
    Fexit,
    /// In place of its return value.
    FmodRet,
    /// At entry and exit.
    Fsession,
    /// At entry, exit or both of all kernel functions of a pattern; they are looked up when it attaches.
    TraceMulti,
    /// At a tracepoint with typed arguments.
    TpBtf,
    /// At an LSM hook.
    Lsm,
    /// At an LSM hook for a cgroup.
    LsmCgroup,
    /// As an iterator over kernel objects.
    Iter,
    /// In place of a function of another BPF program.
    Freplace,
    /// At a tracepoint.
    RawTracepoint,
    /// At a trace event, `category/name`.
    Tracepoint,
    /// At an instruction of a kernel function, or its return.
    Kprobe,
    /// At all kernel functions of a pattern.
    KprobeMulti,
    /// At the kernel function that is a system call.
    Ksyscall,
}

/// The kernel function, tracepoint, hook or iterator that a program attaches to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttachTarget<'data> {
    /// How.
    pub kind: AttachKind,
    /// The name behind the slash; `None` if it is set at run time.
    pub name: Option<&'data [u8]>,
    /// The module named in front of a colon.
    pub module: Option<&'data [u8]>,
}

impl AttachKind {
    /// What stands before the slash of a section's name.
    const SECTIONS: [(&'static str, Self); 39] = [
        ("fentry", Self::Fentry),
        ("fentry.s", Self::Fentry),
        ("fexit", Self::Fexit),
        ("fexit.s", Self::Fexit),
        ("fmod_ret", Self::FmodRet),
        ("fmod_ret.s", Self::FmodRet),
        ("fsession", Self::Fsession),
        ("fsession.s", Self::Fsession),
        ("fentry.multi", Self::TraceMulti),
        ("fentry.multi.s", Self::TraceMulti),
        ("fexit.multi", Self::TraceMulti),
        ("fexit.multi.s", Self::TraceMulti),
        ("fsession.multi", Self::TraceMulti),
        ("fsession.multi.s", Self::TraceMulti),
        ("tp_btf", Self::TpBtf),
        ("tp_btf.s", Self::TpBtf),
        ("lsm", Self::Lsm),
        ("lsm.s", Self::Lsm),
        ("lsm_cgroup", Self::LsmCgroup),
        ("iter", Self::Iter),
        ("iter.s", Self::Iter),
        ("freplace", Self::Freplace),
        ("raw_tp", Self::RawTracepoint),
        ("raw_tp.s", Self::RawTracepoint),
        ("raw_tp.w", Self::RawTracepoint),
        ("raw_tracepoint", Self::RawTracepoint),
        ("raw_tracepoint.s", Self::RawTracepoint),
        ("raw_tracepoint.w", Self::RawTracepoint),
        ("tp", Self::Tracepoint),
        ("tp.s", Self::Tracepoint),
        ("tracepoint", Self::Tracepoint),
        ("tracepoint.s", Self::Tracepoint),
        ("kprobe", Self::Kprobe),
        ("kretprobe", Self::Kprobe),
        ("kprobe.multi", Self::KprobeMulti),
        ("kretprobe.multi", Self::KprobeMulti),
        ("kprobe.session", Self::KprobeMulti),
        ("ksyscall", Self::Ksyscall),
        ("kretsyscall", Self::Ksyscall),
    ];

    /// What the kernel's BTF calls the target: what stands in front of its name, and the kind of the type. `None` if
    /// BTF does not say whether the target is there.
    ///
    /// Source: `btf_get_kernel_prefix_kind`, libbpf.
    pub fn in_btf(self) -> Option<(&'static str, Kind)> {
        match self {
            Self::Fentry | Self::Fexit | Self::FmodRet | Self::Fsession => Some(("", Kind::Func)),
            Self::TpBtf | Self::RawTracepoint => Some(("btf_trace_", Kind::Typedef)),
            Self::Lsm | Self::LsmCgroup => Some(("bpf_lsm_", Kind::Func)),
            Self::Iter => Some(("bpf_iter_", Kind::Func)),
            Self::TraceMulti
            | Self::Freplace
            | Self::Tracepoint
            | Self::Kprobe
            | Self::KprobeMulti
            | Self::Ksyscall => None,
        }
    }

    /// Whether the program is not loaded without the kernel's BTF.
    pub fn needs_kernel_btf(self) -> bool {
        !matches!(
            self,
            Self::Freplace
                | Self::RawTracepoint
                | Self::Tracepoint
                | Self::Kprobe
                | Self::KprobeMulti
                | Self::Ksyscall
        )
    }
}

impl<'data> AttachTarget<'data> {
    /// The target that an ELF section's name stands for, if that kind of program has one in the kernel.
    pub fn of_section(section: &'data [u8]) -> Option<Self> {
        let section = section.strip_prefix(b"?").unwrap_or(section);
        let (before, target) = match memchr::memchr(b'/', section) {
            Some(slash) => (section.get(..slash)?, section.get(slash + 1..)),
            None => (section, None),
        };
        let &(_, kind) = AttachKind::SECTIONS.iter().find(|(name, _)| name.as_bytes() == before)?;
        let colon = target.filter(|_| kind.needs_kernel_btf()).and_then(|it| memchr::memchr(b':', it));
        let (module, name) = match (target, colon) {
            (Some(target), Some(colon)) => (target.get(..colon), target.get(colon + 1..)),
            _ => (None, target),
        };
        Some(Self { kind, name, module })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that section names are split as libbpf splits them (spec 3.2).
    #[test]
    fn section_names_say_what_a_program_attaches_to() {
        let target = |section: &'static str| {
            AttachTarget::of_section(section.as_bytes()).map(|it| {
                let text = |bytes: Option<&'static [u8]>| bytes.map(|it| str::from_utf8(it).unwrap());
                (it.kind, text(it.module), text(it.name))
            })
        };
        assert_eq!(target("fentry/do_unlinkat"), Some((AttachKind::Fentry, None, Some("do_unlinkat"))));
        assert_eq!(target("?fexit.s/x"), Some((AttachKind::Fexit, None, Some("x"))));
        assert_eq!(target("fentry/nf_nat:foo"), Some((AttachKind::Fentry, Some("nf_nat"), Some("foo"))));
        assert_eq!(target("lsm_cgroup/bind"), Some((AttachKind::LsmCgroup, None, Some("bind"))));
        assert_eq!(target("tp_btf"), Some((AttachKind::TpBtf, None, None)));
        assert_eq!(target("fexit.multi.s/a:b*"), Some((AttachKind::TraceMulti, Some("a"), Some("b*"))));
        assert_eq!(target("kprobe/do_unlinkat"), Some((AttachKind::Kprobe, None, Some("do_unlinkat"))));
        assert_eq!(target("tp/sched/a:b"), Some((AttachKind::Tracepoint, None, Some("sched/a:b"))));
        assert_eq!(target("raw_tp.w/x"), Some((AttachKind::RawTracepoint, None, Some("x"))));
        assert_eq!(target("uprobe/x"), None);
        assert_eq!(target("lsm_cgroup.s/bind"), None);
        assert_eq!(AttachKind::Lsm.in_btf(), Some(("bpf_lsm_", Kind::Func)));
    }
}
