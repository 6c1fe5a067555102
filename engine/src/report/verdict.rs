//! Verdicts, and the findings that they rest on.

use crate::batch::Classes;
use crate::error::ResolveError;

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
    /// Something to attach to is missing.
    FailAttach,
    /// A symbol or struct that the object needs is missing.
    FailSymbol,
    /// A relocation ends the load.
    FailReloc,
}

impl Verdict {
    /// Every verdict, the best first.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::OkDrift,
        Self::Conditional,
        Self::Unknown,
        Self::FailAttach,
        Self::FailSymbol,
        Self::FailReloc,
    ];

    /// The verdict as reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::OkDrift => "ok-drift",
            Self::Conditional => "conditional",
            Self::Unknown => "unknown",
            Self::FailAttach => "fail-attach",
            Self::FailSymbol => "fail-symbol",
            Self::FailReloc => "fail-reloc",
        }
    }
}

/// What a finding does to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The value is patched in.
    Applied,
    /// It loads, but reads something else.
    Drift,
    /// The instruction is poisoned, and no path leads there.
    PoisonedDead,
    /// The instruction is poisoned; whether it is reached depends on what is not known.
    PoisonedConditional,
    /// The instruction is poisoned, and some path leads there: the verifier refuses the program.
    PoisonedLive,
    /// The load depends on what files do not say.
    Conditional,
    /// The program is loaded, and cannot be attached.
    AttachFails,
    /// libbpf gives up on the object, the kernel on the program.
    Aborts,
    /// libbpf would not open the object.
    Refused,
}

impl Effect {
    /// Every effect, in the order of their declaration.
    pub const ALL: [Self; 9] = [
        Self::Applied,
        Self::Drift,
        Self::PoisonedDead,
        Self::PoisonedConditional,
        Self::PoisonedLive,
        Self::Conditional,
        Self::AttachFails,
        Self::Aborts,
        Self::Refused,
    ];

    /// The effect as reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Drift => "drift",
            Self::PoisonedDead => "poisoned-dead",
            Self::PoisonedConditional => "poisoned-conditional",
            Self::PoisonedLive => "poisoned-live",
            Self::Conditional => "conditional",
            Self::AttachFails => "attach-fails",
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
    /// The verdict that the program has for it, or a worse one.
    pub verdict: Verdict,
    /// Number of the record in [`Object::relocs`](crate::object::Object::relocs); `None` if it is about something else.
    pub reloc: Option<usize>,
    /// What it is about, if that is no record: `fentry/do_unlinkat`, `kfunc bpf_rdonly_cast`.
    pub subject: Option<String>,
    /// One sentence.
    pub message: String,
}

/// The record that makes the loader give up on an object, or the kernel on a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// Number of the record in [`Object::relocs`](crate::object::Object::relocs).
    pub reloc: usize,
    /// Why.
    pub error: ResolveError,
}

/// Verdict on one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramVerdict {
    /// Number of the program in [`Object::programs`](crate::object::Object::programs).
    pub program: usize,
    /// The verdict.
    pub verdict: Verdict,
    /// The first record that ends the load, of this program or of another.
    pub aborted_by: Option<Abort>,
    /// Everything that bears on it: records in their order, then everything else.
    pub findings: Vec<Finding>,
    /// What the verdict takes for granted, in words.
    pub assumptions: Vec<String>,
    /// Whether something could not be ruled out within the bounds of the work.
    pub is_bounded: bool,
}

/// Verdicts on the programs of one object on all kernels of a run.
#[derive(Clone, Debug)]
pub struct Verdicts {
    /// Kernels with the same verdicts, findings and messages.
    pub classes: Classes,
    /// By class: a verdict on every entry program, in the order of
    /// [`Object::programs`](crate::object::Object::programs).
    pub by_class: Vec<Vec<ProgramVerdict>>,
}

impl Verdicts {
    /// The verdicts on kernel number `kernel`; `None` if the object cannot be judged on it.
    pub fn on(&self, kernel: usize) -> Option<&[ProgramVerdict]> {
        let class = (*self.classes.of.get(kernel)?)?;
        self.by_class.get(class as usize).map(Vec::as_slice)
    }
}

impl ProgramVerdict {
    pub(super) fn new(program: usize) -> Self {
        Self {
            program,
            verdict: Verdict::Ok,
            aborted_by: None,
            findings: Vec::new(),
            assumptions: Vec::new(),
            is_bounded: false,
        }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        self.verdict = self.verdict.max(finding.verdict);
        self.findings.push(finding);
    }

    pub(super) fn abort(&mut self, reloc: usize, error: ResolveError) {
        // libbpf stops at the first; the later ones are what it would meet next.
        self.aborted_by.get_or_insert(Abort { reloc, error });
        self.add(Finding {
            code: error.code(),
            effect: Effect::Aborts,
            verdict: Verdict::FailReloc,
            reloc: Some(reloc),
            subject: None,
            message: error.to_string(),
        });
    }
}
