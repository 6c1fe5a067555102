//! What a need comes to on a kernel.

/// How a need is met, or why it is not. The names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The kernel has it.
    Ok,
    /// No function of that name.
    TargetMissing,
    /// Only a module has the target.
    TargetModuleOnly,
    /// Several functions of that name.
    TargetAmbiguous,
    /// BTF alone does not say.
    TargetNeedsKallsyms,
    /// No tracepoint of that name.
    TracepointMissing,
    /// No hook of that name.
    LsmHookMissing,
    /// No iterator of that name.
    IterMissing,
    /// The object does not name the target.
    TargetSetAtRuntime,
    /// The target has no argument where the program reads one.
    ArgumentMissing,
    /// The argument points to a struct of another name.
    ArgumentChanged,
    /// A struct of the kernel is read without a record.
    FieldNotRelocated,
    /// No kernel function of that name.
    KfuncMissing,
    /// The same, and the object can do without it: calls of it are poisoned.
    KfuncMissingWeak,
    /// Its prototype is not compatible.
    KfuncProtoMismatch,
    /// Only a module has it.
    KfuncModuleOnly,
    /// No variable or symbol of that name.
    KsymMissing,
    /// The same, and the object can do without it.
    KsymMissingWeak,
    /// The variable has an incompatible type.
    KsymTypeMismatch,
    /// Only a module has it.
    KsymModuleOnly,
    /// BTF alone does not say whether the symbol has an address.
    KsymNeedsKallsyms,
    /// The kernel does not let BPF implement that struct.
    OpsTypeMissing,
    /// Only a module lets BPF implement it.
    OpsModuleOnly,
    /// The kernel's struct lacks a member that the object sets.
    OpsMemberMissing,
    /// It lacks one that the object leaves zero.
    OpsMemberMissingZero,
    /// A member is something else in the kernel.
    OpsMemberMismatch,
    /// It takes BTF in the kernel itself.
    NeedsKernelBtf,
    /// The value is from the kernel's configuration, which was not given.
    KconfigUnknown,
    /// libbpf knows no such value.
    KconfigUnrecognized,
}

impl Code {
    /// Every code, in the order of their declaration.
    pub const ALL: [Self; 29] = [
        Self::Ok,
        Self::TargetMissing,
        Self::TargetModuleOnly,
        Self::TargetAmbiguous,
        Self::TargetNeedsKallsyms,
        Self::TracepointMissing,
        Self::LsmHookMissing,
        Self::IterMissing,
        Self::TargetSetAtRuntime,
        Self::ArgumentMissing,
        Self::ArgumentChanged,
        Self::FieldNotRelocated,
        Self::KfuncMissing,
        Self::KfuncMissingWeak,
        Self::KfuncProtoMismatch,
        Self::KfuncModuleOnly,
        Self::KsymMissing,
        Self::KsymMissingWeak,
        Self::KsymTypeMismatch,
        Self::KsymModuleOnly,
        Self::KsymNeedsKallsyms,
        Self::OpsTypeMissing,
        Self::OpsModuleOnly,
        Self::OpsMemberMissing,
        Self::OpsMemberMissingZero,
        Self::OpsMemberMismatch,
        Self::NeedsKernelBtf,
        Self::KconfigUnknown,
        Self::KconfigUnrecognized,
    ];

    /// The code as reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::TargetMissing => "target-missing",
            Self::TargetModuleOnly => "target-module-only",
            Self::TargetAmbiguous => "target-ambiguous",
            Self::TargetNeedsKallsyms => "target-needs-kallsyms",
            Self::TracepointMissing => "tracepoint-missing",
            Self::LsmHookMissing => "lsm-hook-missing",
            Self::IterMissing => "iter-missing",
            Self::TargetSetAtRuntime => "target-set-at-runtime",
            Self::ArgumentMissing => "argument-missing",
            Self::ArgumentChanged => "argument-changed",
            Self::FieldNotRelocated => "field-not-relocated",
            Self::KfuncMissing => "kfunc-missing",
            Self::KfuncMissingWeak => "kfunc-missing-weak",
            Self::KfuncProtoMismatch => "kfunc-proto-mismatch",
            Self::KfuncModuleOnly => "kfunc-module-only",
            Self::KsymMissing => "ksym-missing",
            Self::KsymMissingWeak => "ksym-missing-weak",
            Self::KsymTypeMismatch => "ksym-type-mismatch",
            Self::KsymModuleOnly => "ksym-module-only",
            Self::KsymNeedsKallsyms => "ksym-needs-kallsyms",
            Self::OpsTypeMissing => "ops-type-missing",
            Self::OpsModuleOnly => "ops-module-only",
            Self::OpsMemberMissing => "ops-member-missing",
            Self::OpsMemberMissingZero => "ops-member-missing-zero",
            Self::OpsMemberMismatch => "ops-member-mismatch",
            Self::NeedsKernelBtf => "needs-kernel-btf",
            Self::KconfigUnknown => "kconfig-unknown",
            Self::KconfigUnrecognized => "kconfig-unrecognized",
        }
    }
}

/// What an answer does to whoever has the need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing.
    Fine,
    /// It is loaded, and may read something else.
    Drifts,
    /// It depends on what files do not say.
    Conditional,
    /// It is loaded, and cannot be attached.
    AttachFails,
    /// It cannot be loaded.
    LoadFails,
}

/// The answer to one need on one kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    /// How the need is met, or why it is not.
    pub code: Code,
    /// What that does.
    pub severity: Severity,
    /// Modules that have it where vmlinux lacks it, in their order.
    pub modules: Vec<String>,
    /// What there is instead, as part of a sentence.
    pub detail: Option<String>,
}

impl Answer {
    pub(super) fn new(code: Code, severity: Severity) -> Self {
        Self { code, severity, modules: Vec::new(), detail: None }
    }

    pub(super) fn ok() -> Self {
        Self::new(Code::Ok, Severity::Fine)
    }

    /// Whether calls of the function are poisoned.
    pub fn poisons_calls(&self) -> bool {
        self.code == Code::KfuncMissingWeak
    }

    pub(super) fn detail(self, text: impl Into<String>) -> Self {
        Self { detail: Some(text.into()), ..self }
    }

    pub(super) fn in_modules(self, modules: Vec<String>) -> Self {
        Self { modules, ..self }
    }
}
