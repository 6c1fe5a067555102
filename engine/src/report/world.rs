//! What is known of the kernels of a run beside their BTF, and what loaders set before they load.

use std::sync::Arc;

use hashbrown::HashMap;

use super::roles::Roles;
use crate::depend::{Code, Owner, Severity, Survey};
use crate::dialect::Release;
use crate::format::btf::Kind;
use crate::kconfig::{Kconfig, KconfigType};
use crate::kernel::Kernel;
use crate::object::{Extern, ExternKind, Object};
use crate::reach::{Symbol, Verifier};

/// Functions of which kernels with wrappers around system calls have one.
const SYSCALL_WRAPPERS: [&[u8]; 5] =
    [b"__x64_sys_bpf", b"__arm64_sys_bpf", b"__s390x_sys_bpf", b"__riscv_sys_bpf", b"__powerpc_sys_bpf"];
/// The helper that `LINUX_HAS_BPF_COOKIE` stands for came with 5.15.
const BPF_COOKIE: Release = Release { major: 5, minor: 15, patch: 0 };

/// What is known of the kernels of a run, by their number.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// By kernel.
    pub kernels: Vec<Known>,
    /// Values of variables in `.rodata` that loaders set, by name; `None` for one that is not known.
    pub constants: Vec<(Vec<u8>, Option<u64>)>,
    /// Programs that loaders may leave out.
    pub roles: Roles,
}

/// What is known of a kernel.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Its release. Names of packages may have less than the whole: a patch level of 0 stands for any.
    pub release: Option<Release>,
    /// Its configuration.
    pub kconfig: Option<Arc<Kconfig>>,
    /// Whether libbpf finds that its system calls have wrappers, if that can be told.
    pub has_syscall_wrappers: Option<bool>,
}

impl Known {
    /// What is known of `kernel`, of a release and configuration.
    pub fn new(kernel: &Kernel<'_>, release: Option<Release>, kconfig: Option<Arc<Kconfig>>) -> Self {
        let has_wrapper = SYSCALL_WRAPPERS.iter().any(|it| kernel.vmlinux.named(it, Kind::Func).is_some());
        // libbpf finds out by placing a kprobe: where there are none, it takes system calls for unwrapped.
        let cannot_probe = kconfig.as_deref().is_some_and(|it| it.get(b"CONFIG_KPROBE_EVENTS").is_none());
        let has_syscall_wrappers = if cannot_probe { Some(false) } else { has_wrapper.then_some(true) };
        Self { release, kconfig, has_syscall_wrappers }
    }

    /// How its verifier looks at programs.
    pub(super) fn verifier(&self) -> Verifier {
        Verifier::of(self.release)
    }

    /// What a program reads as a kconfig extern.
    pub fn kconfig(&self, object: &Object<'_>, of: &Extern<'_>) -> Symbol {
        let ty = object.btf().zip(of.btf_id).and_then(|(btf, id)| KconfigType::of(btf, id));
        let Some(ty) = ty else { return Symbol::Open };
        let endian = object.endian();
        let number = |value: u64| Symbol::Value(ty.number(value, endian));
        match of.name {
            b"LINUX_KERNEL_VERSION" => match self.release {
                Some(release @ Release { patch: 0, .. }) => {
                    Symbol::Between(version(release), version(release) | 0xff)
                }
                Some(release) => number(version(release)),
                None => Symbol::Open,
            },
            b"LINUX_HAS_BPF_COOKIE" => match self.release {
                Some(release) => number(u64::from(release >= BPF_COOKIE)),
                None => Symbol::Open,
            },
            b"LINUX_HAS_SYSCALL_WRAPPER" => match self.has_syscall_wrappers {
                Some(has) => number(u64::from(has)),
                None => Symbol::Open,
            },
            name if name.starts_with(b"CONFIG_") => match &self.kconfig {
                Some(kconfig) => ty.encode(kconfig.get(name), endian).map_or(Symbol::Open, Symbol::Value),
                None => Symbol::Open,
            },
            // Others that libbpf does not know are nothing, or it gives up.
            _ => number(0),
        }
    }
}

/// `KERNEL_VERSION(a, b, c)`.
fn version(release: Release) -> u64 {
    u64::from(release.major) << 16 | u64::from(release.minor) << 8 | u64::from(release.patch.min(255))
}

/// What is known of the externs of one object, by kernel.
#[derive(Debug)]
pub(super) struct Externs<'a, 'r> {
    object: &'a Object<'r>,
    survey: Option<&'a Survey<'r>>,
    /// By extern: the number of its need.
    need_of: HashMap<usize, &'a crate::depend::Answered<'r>>,
}

impl<'a, 'r> Externs<'a, 'r> {
    pub(super) fn of(object: &'a Object<'r>, survey: Option<&'a Survey<'r>>, number: usize) -> Self {
        let need_of =
            survey.into_iter().flat_map(|it| it.of(number)).filter_map(|(owner, answered)| match owner {
                Owner::Extern(number) => Some((number, answered)),
                Owner::Program(_) | Owner::StructOps(_) => None,
            });
        Self { object, survey, need_of: need_of.collect() }
    }

    /// What is known of each of them on kernel number `kernel`.
    pub(super) fn on(&self, kernel: usize, known: &Known) -> Vec<Symbol> {
        let symbol = |(number, of): (usize, &Extern<'r>)| {
            if of.kind == ExternKind::Kconfig {
                return known.kconfig(self.object, of);
            }
            let Some(answer) = self.need_of.get(&number).and_then(|it| it.on(kernel)) else {
                return if self.survey.is_some() || !of.is_weak { Symbol::Present } else { Symbol::Open };
            };
            match (answer.code, answer.severity) {
                (Code::KfuncMissingWeak | Code::KsymMissingWeak, _) => Symbol::Missing,
                (_, Severity::Conditional) => Symbol::Open,
                // What is not there ends the load before anybody asks what is reached.
                _ if of.kind == ExternKind::KsymTypeless && of.is_weak => Symbol::Open,
                _ => Symbol::Present,
            }
        };
        self.object.externs().iter().enumerate().map(symbol).collect()
    }
}
