//! What a program attaches to, as far as its section's name says so and the kernel's BTF has to know it.
//!
//! Source: the section table of libbpf (`section_defs`); spec 3.2.

/// How a program attaches to something that is looked up in BTF.
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
    /// At a tracepoint with typed arguments.
    TpBtf,
    /// At an LSM hook.
    Lsm,
    /// At an LSM hook for a cgroup.
    LsmCgroup,
    /// As an iterator over kernel objects.
    Iter,
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
    /// Section name, with and without `.s` for sleepable, and what the kernel calls the target.
    const TABLE: [(&'static str, bool, Self, &'static str); 8] = [
        ("fentry", true, Self::Fentry, ""),
        ("fexit", true, Self::Fexit, ""),
        ("fmod_ret", true, Self::FmodRet, ""),
        ("fsession", true, Self::Fsession, ""),
        ("tp_btf", true, Self::TpBtf, "btf_trace_"),
        ("lsm", true, Self::Lsm, "bpf_lsm_"),
        ("lsm_cgroup", false, Self::LsmCgroup, "bpf_lsm_"),
        ("iter", true, Self::Iter, "bpf_iter_"),
    ];

    /// What stands in front of the target's name in the kernel's BTF.
    pub fn btf_prefix(self) -> &'static str {
        Self::TABLE.iter().find(|(_, _, kind, _)| *kind == self).map_or("", |(_, _, _, prefix)| prefix)
    }
}

impl<'data> AttachTarget<'data> {
    /// The target that an ELF section's name stands for, if that kind of program has one in BTF.
    pub fn of_section(section: &'data [u8]) -> Option<Self> {
        let section = section.strip_prefix(b"?").unwrap_or(section);
        let (kind, target) = match memchr::memchr(b'/', section) {
            Some(slash) => (section.get(..slash)?, section.get(slash + 1..)),
            None => (section, None),
        };
        let of_kind = |&&(name, may_sleep, ..): &&(&str, bool, AttachKind, &str)| {
            let plain = if may_sleep { kind.strip_suffix(b".s").unwrap_or(kind) } else { kind };
            plain == name.as_bytes()
        };
        let &(_, _, kind, _) = AttachKind::TABLE.iter().find(of_kind)?;
        let (module, name) = match target.and_then(|target| Some((memchr::memchr(b':', target)?, target))) {
            Some((colon, target)) => (target.get(..colon), target.get(colon + 1..)),
            None => (None, target),
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
        assert_eq!(target("kprobe/do_unlinkat"), None);
        assert_eq!(target("lsm_cgroup.s/bind"), None);
        assert_eq!(AttachKind::Lsm.btf_prefix(), "bpf_lsm_");
    }
}
