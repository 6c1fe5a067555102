//! What a program's needs beside CO-RE come to.

use hashbrown::{HashMap, HashSet};

use super::reaching::Reached;
use super::records::add_poison;
use super::verdict::{Effect, Finding, ProgramVerdict, Verdict};
use crate::depend::{Answer, Answered, Code, Need, Owner, Severity, Survey};
use crate::object::{Object, OpsMember, Reference};

/// The needs of one object, without those that are met everywhere.
#[derive(Default)]
pub(super) struct Needs<'a, 'r> {
    object: Option<&'a Object<'r>>,
    unmet: Vec<(Owner, &'a Answered<'r>)>,
    /// By function, if there is a need of which it matters: the externs that it refers to.
    externs_of: HashMap<usize, HashSet<usize>>,
}

impl<'a, 'r> Needs<'a, 'r> {
    pub(super) fn of(object: &'a Object<'r>, survey: &'a Survey<'r>, number: usize) -> Self {
        // Whether an argument is read is another question.
        let is_own = |it: &Answered<'_>| !it.is_fine() && it.need.argument_of().is_none();
        let unmet: Vec<_> = survey.of(number).filter(|(_, answered)| is_own(answered)).collect();
        let is_weak = |owner: &Owner| match owner {
            Owner::Extern(number) => object.externs().get(*number).is_some_and(|it| it.is_weak),
            Owner::Program(_) | Owner::StructOps(_) => false,
        };
        let mut externs_of = HashMap::new();
        if unmet.iter().any(|(owner, _)| is_weak(owner)) {
            for function in 0..object.programs().len() {
                let references = object.references(function).into_values();
                let externs = references.filter_map(|it| match it {
                    Reference::Extern(number) => Some(number),
                    _ => None,
                });
                externs_of.insert(function, externs.collect());
            }
        }
        Self { object: Some(object), unmet, externs_of }
    }

    /// Needs whose answers kernels may differ in.
    pub(super) fn telling(&self) -> impl Iterator<Item = &'a Answered<'r>> {
        self.unmet.iter().map(|it| it.1).filter(|it| it.answers.len() > 1)
    }

    /// Adds what bears on a program that is loaded with the functions `linked`.
    pub(super) fn judge(
        &self,
        this: &mut ProgramVerdict,
        linked: &[usize],
        kernel: usize,
        reached: &Reached,
    ) {
        let Some(object) = self.object else { return };
        for &(owner, answered) in &self.unmet {
            let Some(answer) = answered.on(kernel) else { continue };
            let refers = |number: &usize| {
                linked.iter().any(|it| self.externs_of.get(it).is_some_and(|it| it.contains(number)))
            };
            let concerned = match owner {
                Owner::Program(program) => program == this.program,
                // What is strong has to be there, used or not.
                Owner::Extern(number) => {
                    !object.externs().get(number).is_some_and(|it| it.is_weak)
                        || answer.severity == Severity::LoadFails
                        || refers(&number)
                }
                // A map that is not made unasked is made for its programs.
                Owner::StructOps(number) => object.struct_ops().get(number).is_some_and(|map| {
                    map.autocreate || map.members.contains(&OpsMember::Program(this.program))
                }),
            };
            if concerned {
                add(this, owner, object, &answered.need, answer, reached);
            }
        }
    }
}

fn add(
    this: &mut ProgramVerdict,
    owner: Owner,
    object: &Object<'_>,
    need: &Need<'_>,
    answer: &Answer,
    reached: &Reached,
) {
    let failed = if matches!(need, Need::Attach(_)) { Verdict::FailAttach } else { Verdict::FailSymbol };
    let (effect, verdict) = match answer.severity {
        Severity::Fine if !answer.poisons_calls() => return,
        Severity::Fine => (Effect::PoisonedConditional, Verdict::Conditional),
        Severity::Drifts => (Effect::Drift, Verdict::OkDrift),
        Severity::Conditional => (Effect::Conditional, Verdict::Conditional),
        Severity::AttachFails => (Effect::AttachFails, failed),
        Severity::LoadFails => (Effect::Aborts, failed),
    };
    let mut message = what_is_wrong(need, answer);
    if let Some(detail) = &answer.detail {
        message.push_str(&format!(": {detail}"));
    }
    let finding = Finding {
        code: answer.code.name(),
        effect,
        verdict,
        reloc: None,
        subject: Some(subject(owner, object, need)),
        message,
    };
    match effect {
        Effect::PoisonedConditional => {
            let call = match owner {
                Owner::Extern(number) => reached.call(number),
                Owner::Program(_) | Owner::StructOps(_) => None,
            };
            // Of a function whose address is all that is asked for, no call is poisoned.
            if call.is_some() {
                add_poison(this, finding, call, Verdict::FailSymbol);
            }
        }
        Effect::Conditional => {
            this.assumptions.push(assumption(&finding, need, answer));
            this.add(finding);
        }
        _ => this.add(finding),
    }
}

/// What a need is about, as reports group by it.
pub(super) fn subject(owner: Owner, object: &Object<'_>, need: &Need<'_>) -> String {
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    match (need, owner) {
        (
            Need::Attach(target)
            | Need::Argument { target, .. }
            | Need::Pointee { target, .. }
            | Need::Bare { target, .. },
            Owner::Program(program),
        ) => {
            let section = object.programs().get(program).map(|it| it.section).unwrap_or_default();
            let section = text(section.strip_prefix(b"?").unwrap_or(section));
            let name = text(target.name.unwrap_or_default());
            if section.contains(&name) {
                return section;
            }
            // The loader sets it.
            format!("{}/{name}", section.split('/').next().unwrap_or_default())
        }
        (Need::StructOps { ty, .. }, _) => {
            let name = ty.btf.ty(ty.id).map(|it| ty.btf.name(it.name_off)).unwrap_or_default();
            format!("struct_ops {}", text(name))
        }
        (Need::Kfunc { name, .. }, _) => format!("kfunc {}", text(name)),
        (Need::Variable { name, .. } | Need::Address { name, .. }, _) => format!("ksym {}", text(name)),
        (Need::Kconfig { name, .. }, _) => format!("kconfig {}", text(name)),
        (
            Need::Attach(target)
            | Need::Argument { target, .. }
            | Need::Pointee { target, .. }
            | Need::Bare { target, .. },
            _,
        ) => text(target.name.unwrap_or_default()),
    }
}

/// The start of a sentence.
fn what_is_wrong(need: &Need<'_>, answer: &Answer) -> String {
    let modules = answer.modules.join(", ");
    let only_in = |what: &str| format!("{what} only if module {modules} is loaded");
    match answer.code {
        Code::TargetMissing => "the kernel has no such function".into(),
        Code::TargetModuleOnly => only_in("the target is there"),
        Code::TargetAmbiguous => match need {
            Need::Attach(_) => "the function is not the only one of its name".into(),
            _ => "the symbol is not the only one of its name".into(),
        },
        Code::TargetNeedsKallsyms => "whether the kernel has the target cannot be told".into(),
        Code::TracepointMissing => "the kernel has no such tracepoint".into(),
        Code::LsmHookMissing => "the kernel has no such hook".into(),
        Code::IterMissing => "the kernel has no such iterator".into(),
        Code::TargetSetAtRuntime => "the target is set at run time".into(),
        Code::ArgumentMissing => "the target has no such argument".into(),
        Code::ArgumentChanged => "the argument points to something else".into(),
        Code::FieldNotRelocated => "it is read without a record".into(),
        Code::KfuncMissing => "the kernel has no such function for BPF".into(),
        Code::KfuncMissingWeak => "the kernel has no function for BPF that fits".into(),
        Code::KfuncProtoMismatch => "the kernel's function is another one".into(),
        Code::KfuncModuleOnly | Code::KsymModuleOnly => only_in("it is there"),
        Code::KsymMissing | Code::KsymMissingWeak => "the kernel has no such symbol".into(),
        Code::KsymTypeMismatch => "the kernel's variable has an incompatible type".into(),
        Code::KsymNeedsKallsyms => "whether the kernel has the symbol cannot be told".into(),
        Code::OpsTypeMissing => "BPF cannot implement that struct in the kernel".into(),
        Code::OpsModuleOnly => only_in("BPF can implement it"),
        Code::OpsMemberMissing | Code::OpsMemberMissingZero => "the kernel's struct lacks a member".into(),
        Code::OpsMemberMismatch => "the kernel's struct has another member".into(),
        Code::NeedsKernelBtf => "it takes BTF in the kernel itself".into(),
        Code::KconfigUnknown => "the configuration was not given".into(),
        Code::KconfigUnrecognized => "the object cannot be loaded".into(),
        Code::Ok => String::new(),
    }
}

/// What a verdict takes for granted because of a finding.
fn assumption(finding: &Finding, need: &Need<'_>, answer: &Answer) -> String {
    let subject = finding.subject.as_deref().unwrap_or_default();
    match (answer.code, need) {
        (Code::TargetModuleOnly | Code::KfuncModuleOnly | Code::KsymModuleOnly | Code::OpsModuleOnly, _) => {
            format!("module {} loaded", answer.modules.join(" or "))
        }
        (Code::TargetSetAtRuntime, _) => "the target that is set at run time is there".into(),
        (Code::NeedsKernelBtf, _) => "the kernel has BTF of its own".into(),
        _ => format!("{subject} is there"),
    }
}
