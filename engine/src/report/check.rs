//! Verdicts on the programs of one object on one kernel.

use crate::dialect::Loader;
use crate::error::ResolveError;
use crate::kernel::Kernel;
use crate::object::{Object, Reloc};
use crate::resolve::{Code, Decision, Fold, Modules, Outcome};

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

/// Judges every entry program of an object on a kernel, in the order of [`Object::programs`].
///
/// Candidates are pruned by the records of autoloaded programs and of all subprograms, as when libbpf loads
/// the object unasked. Each program with a leading `?` is judged in a fold of its own with itself switched
/// on, and never bears on the others. The kernel's own loader sees one program at a time, so there no program bears
/// on another.
pub fn check_object(
    loader: Loader,
    object: &Object<'_>,
    kernel: &Kernel<'_>,
    modules: Modules,
) -> Vec<ProgramVerdict> {
    let programs = object.programs();
    let autoloaded = |reloc: &Reloc<'_>| {
        reloc.program.and_then(|it| programs.get(it)).is_none_or(|program| program.autoload)
    };
    let alone = matches!(loader, Loader::Kernel(_));
    let shared = Fold::by(loader, object, kernel, modules).run(|reloc| alone || autoloaded(reloc));
    let entries = programs.iter().enumerate().filter(|(_, it)| !it.is_subprogram);
    entries
        .map(|(number, program)| {
            let own;
            let outcomes = if alone || program.autoload || !has_records(object, number) {
                &shared
            } else {
                own = Fold::by(loader, object, kernel, modules)
                    .run(|reloc| autoloaded(reloc) || reloc.program == Some(number));
                &own
            };
            judge(object, kernel, number, outcomes, modules, alone)
        })
        .collect()
}

fn has_records(object: &Object<'_>, program: usize) -> bool {
    object.relocs().iter().any(|it| it.program == Some(program))
}

fn judge(
    object: &Object<'_>,
    kernel: &Kernel<'_>,
    program: usize,
    outcomes: &[Outcome],
    modules: Modules,
    alone: bool,
) -> ProgramVerdict {
    let mut this = ProgramVerdict {
        program,
        verdict: Verdict::Ok,
        aborted_by: None,
        findings: Vec::new(),
        assumptions: Vec::new(),
    };
    if let Some(refusal) = object.refused() {
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
    let linked = object.linked_functions(program);
    for (number, (reloc, outcome)) in object.relocs().iter().zip(outcomes).enumerate() {
        let is_own = reloc.program.is_some_and(|it| linked.contains(&it));
        match outcome {
            Outcome::Skipped => {}
            Outcome::Fatal(error) if is_own || !alone => this.abort(number, *error),
            Outcome::Decided(decision) if is_own => this.decided(kernel, modules, number, decision),
            Outcome::ModuleDependent(answers) => {
                // A module in which the record is fatal ends the load of everything.
                let fatal = answers.iter().any(|it| matches!(it.outcome, Outcome::Fatal(_)));
                if is_own || fatal && !alone {
                    let modules: Vec<_> = answers
                        .iter()
                        .filter_map(|it| kernel.modules.get(it.module as usize))
                        .map(|it| it.name.as_str())
                        .collect();
                    let message = format!("modules give different answers: {}", modules.join(", "));
                    this.assumptions.push("which of these modules is loaded".into());
                    let code = Code::ModuleDependent.name();
                    let effect = Effect::PoisonedConditional;
                    this.add(Verdict::Conditional, Finding { code, effect, reloc: Some(number), message });
                }
            }
            Outcome::Decided(_) | Outcome::Fatal(_) => {}
        }
    }
    this.assumptions.sort();
    this.assumptions.dedup();
    this
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

    fn decided(&mut self, kernel: &Kernel<'_>, modules: Modules, reloc: usize, decision: &Decision) {
        if decision.poisoned {
            self.assumptions.push("the poisoned instructions are never reached (not judged)".into());
            let message = format!("{}: the instruction is poisoned", explain(decision.code));
            let code = decision.code.name();
            let effect = Effect::PoisonedConditional;
            self.add(Verdict::Conditional, Finding { code, effect, reloc: Some(reloc), message });
        } else if modules == Modules::Each
            && let Some(module) = decision.candidate.and_then(|it| it.module)
            && let Some(module) = kernel.modules.get(module as usize)
        {
            self.assumptions.push(format!("module {} loaded", module.name));
            let message = format!("only if module {} is loaded: vmlinux lacks the type", module.name);
            let code = decision.code.name();
            let effect = Effect::Applied;
            self.add(Verdict::Conditional, Finding { code, effect, reloc: Some(reloc), message });
        }
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
