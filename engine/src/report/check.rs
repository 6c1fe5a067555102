//! Verdicts on the programs of one object on one kernel.

use crate::batch::{Aspect, Classes, Run};
use crate::error::ResolveError;
use crate::fleet::Modules;
use crate::object::{Object, Reloc};
use crate::resolve::{Code, Decision, Outcome};

/// Verdict on a program on a kernel, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// Everything judged passes.
    Ok,
    /// Loads, but the meaning may have changed.
    OkDrift,
    /// Depends on what files do not say.
    Conditional,
    /// Cannot be judged.
    Unknown,
    /// A relocation ends the load.
    FailReloc,
}

impl Verdict {
    /// The verdict as reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::OkDrift => "ok-drift",
            Self::Conditional => "conditional",
            Self::Unknown => "unknown",
            Self::FailReloc => "fail-reloc",
        }
    }
}

/// What a finding does to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The value is patched in.
    Applied,
    /// The instruction is poisoned; whether it can be reached has not been judged.
    PoisonedConditional,
    /// libbpf gives up on the object, the kernel on the program.
    Aborts,
    /// libbpf would not open the object.
    Refused,
}

impl Effect {
    /// The effect as reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::PoisonedConditional => "poisoned-conditional",
            Self::Aborts => "aborts",
            Self::Refused => "refused",
        }
    }
}

/// Something that bears on a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Stable code of the resolution, or of the reason why there is none.
    pub code: &'static str,
    /// What it does to the program.
    pub effect: Effect,
    /// Number of the record in [`Object::relocs`]; `None` if the object as a whole is meant.
    pub reloc: Option<usize>,
    /// One sentence.
    pub message: String,
}

/// The record that makes the loader give up on an object, or the kernel on a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// Number of the record in [`Object::relocs`].
    pub reloc: usize,
    /// Why.
    pub error: ResolveError,
}

/// Verdict on one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramVerdict {
    /// Number of the program in [`Object::programs`].
    pub program: usize,
    /// The verdict.
    pub verdict: Verdict,
    /// The first record that ends the load, of this program or of another.
    pub aborted_by: Option<Abort>,
    /// Everything that bears on it, in record order.
    pub findings: Vec<Finding>,
    /// What the verdict takes for granted, in words.
    pub assumptions: Vec<String>,
}

/// Verdicts on the programs of one object on all kernels of a run.
#[derive(Clone, Debug)]
pub struct Verdicts {
    /// Kernels with the same verdicts, findings and messages.
    pub classes: Classes,
    /// By class: a verdict on every entry program, in the order of [`Object::programs`].
    pub by_class: Vec<Vec<ProgramVerdict>>,
}

impl Verdicts {
    /// The verdicts on kernel number `kernel`; `None` if the object cannot be judged on it.
    pub fn on(&self, kernel: usize) -> Option<&[ProgramVerdict]> {
        let class = (*self.classes.of.get(kernel)?)?;
        self.by_class.get(class as usize).map(Vec::as_slice)
    }
}

/// Judges every entry program of object number `number` on the kernels of a run.
///
/// Candidates are pruned by the records of autoloaded programs and of all subprograms, as when libbpf loads
/// the object unasked. Each program with a leading `?` is judged in a fold of its own with itself switched
/// on, and never bears on the others. The kernel's own loader sees one program at a time, so there no program bears
/// on another.
pub fn check(run: &Run<'_>, number: usize) -> Verdicts {
    let Some(object) = run.object(number) else {
        return Verdicts { classes: Classes::none(run.kernel_count()), by_class: Vec::new() };
    };
    let programs = object.programs();
    let autoloaded = |reloc: &Reloc<'_>| {
        reloc.program.and_then(|it| programs.get(it)).is_none_or(|program| program.autoload)
    };
    let entries = || programs.iter().enumerate().filter(|(_, it)| !it.is_subprogram);
    let shared = run.fold(number, autoloaded);
    let own: Vec<_> = entries()
        .map(|(program, it)| {
            let is_alone = !it.autoload && has_records(object, program);
            is_alone.then(|| run.fold(number, |reloc| autoloaded(reloc) || reloc.program == Some(program)))
        })
        .collect();
    let mut classes = shared.classes(Aspect::Verdict);
    for folded in own.iter().flatten() {
        classes.split_by(&folded.classes(Aspect::Verdict));
    }
    let linked: Vec<Vec<usize>> = entries().map(|(program, _)| object.linked_functions(program)).collect();
    let by_class = classes.first.iter().map(|&kernel| {
        let of_shared = shared.on(kernel);
        let verdicts = entries().zip(&own).zip(&linked).map(|(((program, _), own), linked)| {
            let of_own = own.as_ref().map(|it| it.on(kernel));
            let outcomes = of_own.as_ref().unwrap_or(&of_shared);
            Judge { run, object, kernel, linked }.judge(program, outcomes)
        });
        verdicts.collect()
    });
    let by_class = by_class.collect();
    Verdicts { classes, by_class }
}

fn has_records(object: &Object<'_>, program: usize) -> bool {
    object.relocs().iter().any(|it| it.program == Some(program))
}

/// One program on one kernel.
struct Judge<'a, 'r> {
    run: &'a Run<'r>,
    object: &'a Object<'r>,
    kernel: usize,
    /// Functions that are loaded with the program.
    linked: &'a [usize],
}

impl Judge<'_, '_> {
    fn judge(&self, program: usize, outcomes: &[&Outcome]) -> ProgramVerdict {
        let mut this = ProgramVerdict {
            program,
            verdict: Verdict::Ok,
            aborted_by: None,
            findings: Vec::new(),
            assumptions: Vec::new(),
        };
        if let Some(refusal) = self.object.refused() {
            this.add(
                Verdict::Unknown,
                Finding {
                    code: "object-refused",
                    effect: Effect::Refused,
                    reloc: None,
                    message: format!("libbpf would not open the object: {refusal}"),
                },
            );
        }
        let alone = self.run.rules(self.kernel).is_some_and(|it| it.in_kernel);
        for (number, (reloc, outcome)) in self.object.relocs().iter().zip(outcomes).enumerate() {
            let is_own = reloc.program.is_some_and(|it| self.linked.contains(&it));
            match outcome {
                Outcome::Skipped => {}
                Outcome::Fatal(error) if is_own || !alone => this.abort(number, *error),
                Outcome::Decided(decision) if is_own => self.decided(&mut this, number, decision),
                Outcome::ModuleDependent(answers) => {
                    // A module in which the record is fatal ends the load of everything.
                    let fatal = answers.iter().any(|it| matches!(it.outcome, Outcome::Fatal(_)));
                    if is_own || fatal && !alone {
                        let modules: Vec<_> = answers.iter().map(|it| self.module_name(it.module)).collect();
                        let message = format!("modules give different answers: {}", modules.join(", "));
                        this.assumptions.push("which of these modules is loaded".into());
                        let code = Code::ModuleDependent.name();
                        let effect = Effect::PoisonedConditional;
                        this.add(
                            Verdict::Conditional,
                            Finding { code, effect, reloc: Some(number), message },
                        );
                    }
                }
                Outcome::Decided(_) | Outcome::Fatal(_) => {}
            }
        }
        this.assumptions.sort();
        this.assumptions.dedup();
        this
    }

    fn module_name(&self, module: u32) -> &str {
        self.run.module_name(self.kernel, module)
    }

    fn decided(&self, this: &mut ProgramVerdict, reloc: usize, decision: &Decision) {
        if decision.poisoned {
            this.assumptions.push("the poisoned instructions are never reached (not judged)".into());
            let message = format!("{}: the instruction is poisoned", explain(decision.code));
            let code = decision.code.name();
            let effect = Effect::PoisonedConditional;
            this.add(Verdict::Conditional, Finding { code, effect, reloc: Some(reloc), message });
        } else if self.run.modules() == Modules::Each
            && let Some(module) = decision.candidate.and_then(|it| it.module)
        {
            let module = self.module_name(module);
            this.assumptions.push(format!("module {module} loaded"));
            let message = format!("only if module {module} is loaded: vmlinux lacks the type");
            let code = decision.code.name();
            let effect = Effect::Applied;
            this.add(Verdict::Conditional, Finding { code, effect, reloc: Some(reloc), message });
        }
    }
}

impl ProgramVerdict {
    fn add(&mut self, verdict: Verdict, finding: Finding) {
        self.verdict = self.verdict.max(verdict);
        self.findings.push(finding);
    }

    fn abort(&mut self, reloc: usize, error: ResolveError) {
        // libbpf stops at the first; the later ones are what it would meet next.
        self.aborted_by.get_or_insert(Abort { reloc, error });
        self.add(
            Verdict::FailReloc,
            Finding {
                code: error.code(),
                effect: Effect::Aborts,
                reloc: Some(reloc),
                message: error.to_string(),
            },
        );
    }
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
        _ => "it does not resolve",
    }
}
