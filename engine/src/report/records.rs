//! What a program's CO-RE records come to.

use super::reaching::{Found, Reached};
use super::verdict::{Effect, Finding, ProgramVerdict, Verdict};
use crate::batch::Run;
use crate::fleet::Modules;
use crate::object::Object;
use crate::resolve::{Code, Decision, Outcome};

/// The records of one object on one kernel.
pub(super) struct Records<'a, 'r> {
    pub(super) run: &'a Run<'r>,
    pub(super) object: &'a Object<'r>,
    pub(super) kernel: usize,
    /// Of all records, with the program switched on.
    pub(super) outcomes: &'a [&'a Outcome],
    /// What is reached of the program.
    pub(super) reached: &'a Reached,
}

impl Records<'_, '_> {
    /// Adds what bears on a program that is loaded with the functions `linked`.
    pub(super) fn judge(&self, this: &mut ProgramVerdict, linked: &[usize]) {
        let alone = self.run.rules(self.kernel).is_some_and(|it| it.one_by_one);
        for (number, (reloc, outcome)) in self.object.relocs().iter().zip(self.outcomes).enumerate() {
            let is_own = reloc.program.is_some_and(|it| linked.contains(&it));
            match outcome {
                Outcome::Skipped => {}
                Outcome::Fatal(error) if is_own || !alone => this.abort(number, *error),
                Outcome::Decided(decision) if is_own => self.decided(this, number, decision),
                Outcome::ModuleDependent(answers) => {
                    // A module in which the record is fatal ends the load of everything.
                    let fatal = answers.iter().any(|it| matches!(it.outcome, Outcome::Fatal(_)));
                    if is_own || fatal && !alone {
                        let modules: Vec<_> = answers.iter().map(|it| self.module_name(it.module)).collect();
                        let message = format!("modules give different answers: {}", modules.join(", "));
                        this.assumptions.push("which of these modules is loaded".into());
                        let code = Code::ModuleDependent.name();
                        this.add(conditional(code, Effect::PoisonedConditional, number, message));
                    }
                }
                Outcome::Decided(_) | Outcome::Fatal(_) => {}
            }
        }
    }

    fn module_name(&self, module: u32) -> &str {
        self.run.module_name(self.kernel, module)
    }

    fn decided(&self, this: &mut ProgramVerdict, reloc: usize, decision: &Decision) {
        if decision.poisoned {
            let finding = Finding {
                code: decision.code.name(),
                effect: Effect::PoisonedConditional,
                verdict: Verdict::Conditional,
                reloc: Some(reloc),
                subject: None,
                message: explain(decision.code).into(),
            };
            add_poison(this, finding, self.reached.record(reloc), Verdict::FailReloc);
        } else if self.run.modules() == Modules::Each
            && let Some(module) = decision.candidate.and_then(|it| it.module)
        {
            let module = self.module_name(module);
            this.assumptions.push(format!("module {module} loaded"));
            let message = format!("only if module {module} is loaded: vmlinux lacks the type");
            this.add(conditional(decision.code.name(), Effect::Applied, reloc, message));
        }
    }
}

/// Adds a finding about an instruction that is poisoned: of a record, or the call of a weak function that the kernel
/// does not have. `failed`: the verdict if it is reached.
pub(super) fn add_poison(
    this: &mut ProgramVerdict,
    mut finding: Finding,
    found: Option<&Found>,
    failed: Verdict,
) {
    let why = std::mem::take(&mut finding.message);
    let (effect, verdict, assumed, message) = match found {
        Some(Found::Dead { guards, assumed }) => {
            let guard = match guards.as_slice() {
                [] => "nothing leads there".to_owned(),
                [guard] => format!("the branch at {guard} keeps the verifier from there"),
                guards => format!("branches at {} keep the verifier from there", guards.join(", ")),
            };
            (Effect::PoisonedDead, Verdict::Ok, assumed.as_slice(), format!("{why}, but {guard}"))
        }
        Some(Found::Live { assumed }) => {
            let message = format!("{why}: the instruction is poisoned, and the verifier gets there");
            (Effect::PoisonedLive, failed, assumed.as_slice(), message)
        }
        Some(Found::Conditional { assumed }) => {
            let message =
                format!("{why}: the instruction is poisoned, and whether the verifier gets there is open");
            (Effect::PoisonedConditional, Verdict::Conditional, assumed.as_slice(), message)
        }
        Some(Found::Bounded) | None => {
            this.is_bounded = true;
            let message = format!("{why}: the instruction is poisoned, and too much work to rule out");
            (Effect::PoisonedConditional, Verdict::Conditional, &[][..], message)
        }
    };
    this.assumptions.extend_from_slice(assumed);
    this.add(Finding { effect, verdict, message, ..finding });
}

fn conditional(code: &'static str, effect: Effect, reloc: usize, message: String) -> Finding {
    Finding { code, effect, verdict: Verdict::Conditional, reloc: Some(reloc), subject: None, message }
}

/// Why a record is poisoned, as the start of a sentence.
fn explain(code: Code) -> &'static str {
    match code {
        Code::NoType => "the kernel has no such type",
        Code::FwdOnly => "the kernel only declares the type",
        Code::NoField => "the kernel's type has no such member",
        Code::FieldIncompatible => "the kernel's member has an incompatible type",
        Code::ArrayBounds => "the kernel's array has too few elements",
        Code::TypeIncompatible => "the kernel's type of that name is another kind of type",
        Code::NoEnumerator => "the kernel's enum has no such value",
        Code::SizeUnsafe => "the field has another size and the access cannot be adjusted to it",
        Code::PrunedAway => "the type that has it was dropped by an earlier record of the object",
        Code::NoValue => "the kernel's field has no value of this kind",
        _ => "it does not resolve",
    }
}
