//! Answers as reports show them: names, codes, numbers and sentences, without any text format.
//!
//! The fields are those of `docs/output.md`. Whoever prints or hands them on, the command line or a binding for another
//! language, takes them from here, so that all say the same.

use super::verdict::{ProgramVerdict, Verdict};
use crate::batch::Run;
use crate::fleet::Candidate;
use crate::format::btf_ext::RelocKind;
use crate::object::{Object, Reloc};
use crate::relocate::{Obstacle, Unanswered};
use crate::resolve::{Code, Decision, Outcome};

/// The layers that verdicts of this version rest on, and those of verdicts on what other loaders than libbpf do.
const JUDGED: [&str; 5] = ["co-re", "reach", "attach", "symbols", "drift"];
const JUDGED_OF_RECORDS: [&str; 3] = ["co-re", "reach", "drift"];

/// What is said of an object whose bytes in its file are not its own.
const SHARED_BYTES: &str = "something else is in the same bytes of the file or changes the same instructions";

/// What an object's file says of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRow<'a> {
    /// The ELF section's name.
    pub section: String,
    /// The program that has the instruction; `None` if none has.
    pub program: Option<String>,
    /// Offset of the instruction, in **bytes** within the section.
    pub insn_off: u32,
    /// The kind's name; `None` for a number that no kind has.
    pub kind: Option<&'static str>,
    /// The kind as a number.
    pub raw_kind: u32,
    /// Root type in the object's BTF.
    pub type_id: u32,
    /// Kind and name of the root.
    pub root: String,
    /// Access string.
    pub access: String,
    /// The same in names.
    pub path: String,
    /// The instruction as it is in the file: 8 bytes, 16 of an `ldimm64`, none if it is inside no program.
    pub insn: &'a [u8],
    /// Source file and line, if they are known.
    pub file: Option<String>,
    /// The line.
    pub line: Option<u32>,
}

/// What becomes of one record on one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerRow<'a> {
    /// Stable code.
    pub code: &'static str,
    /// Why it is missing or poisoned.
    pub reason: Option<&'static str>,
    /// The loader's error number, negative, if the load ends.
    pub fatal: Option<i32>,
    /// The value in the compiled instruction.
    pub orig: Option<u64>,
    /// The value on this kernel.
    pub new: Option<u64>,
    /// Whether the kernel does not have it.
    pub unresolved: Option<bool>,
    /// Whether [`Self::insn`] is the poison call.
    pub poisoned: bool,
    /// Whether the instruction has to hold [`Self::orig`].
    pub validate: Option<bool>,
    /// Size of the field in the object, in bytes.
    pub orig_sz: Option<u32>,
    /// Size of the field in the kernel, in bytes.
    pub new_sz: Option<u32>,
    /// Whether the access cannot be made that wide.
    pub resize_fails: Option<bool>,
    /// Kind and name of the field's type in the kernel.
    pub target: Option<String>,
    /// Id of the first candidate that matches, in the kernel's BTF.
    pub root_id: Option<u32>,
    /// The module that it is from; `None` is vmlinux.
    pub target_module: Option<&'a str>,
    /// The instruction after relocation.
    pub insn: &'a [u8],
    /// Only where modules disagree: the answer with each of them alone.
    pub by_module: Vec<(&'a str, AnswerRow<'a>)>,
}

/// A record of a run: the numbers of its object, of itself and of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The run.
    pub run: &'a Run<'a>,
    /// Number of the object.
    pub object: usize,
    /// Number of the record in it.
    pub record: usize,
    /// Number of the kernel.
    pub kernel: usize,
}

/// Verdict on one program on one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictRow<'a> {
    /// The program.
    pub program: String,
    /// Its ELF section.
    pub section: String,
    /// Whether libbpf loads it unasked.
    pub autoload: bool,
    /// The verdict.
    pub verdict: Verdict,
    /// What was judged.
    pub judged: &'static [&'static str],
    /// The record that ends the load of the object.
    pub aborted_by: Option<AbortRow>,
    /// `proved`, or `bounded` if something could not be ruled out within the bounds of the work.
    pub confidence: &'static str,
    /// What the verdict takes for granted.
    pub assumptions: &'a [String],
    /// Everything that bears on it.
    pub findings: Vec<FindingRow<'a>>,
}

/// The record that ends the load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbortRow {
    /// Its ELF section.
    pub section: String,
    /// Its program.
    pub program: Option<String>,
    /// Offset of its instruction, in **bytes** within the section.
    pub insn_off: u32,
    /// Stable code.
    pub code: &'static str,
    /// The loader's error number, negative.
    pub fatal: i32,
}

/// Something that bears on a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindingRow<'a> {
    /// Stable code.
    pub code: &'static str,
    /// What it does to the program.
    pub effect: &'static str,
    /// Offset of the record's instruction, in **bytes** within its section; `None` if it is about no record, here and in
    /// the fields below.
    pub insn_off: Option<u32>,
    /// Kind and name of the record's root.
    pub root: Option<String>,
    /// What it accesses.
    pub path: Option<String>,
    /// What it is about, if that is no record.
    pub subject: Option<&'a str>,
    /// Source file.
    pub file: Option<String>,
    /// Source line.
    pub line: Option<u32>,
    /// One sentence.
    pub message: &'a str,
}

/// Why a kernel has no relocated file, or a program is left as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObstacleRow {
    /// Stable code.
    pub code: &'static str,
    /// libbpf's error number, negative, if it gives up.
    pub fatal: Option<i32>,
    /// ELF section of the record that it is about; `None` if it is about none, here and below.
    pub section: Option<String>,
    /// Its program.
    pub program: Option<String>,
    /// Offset of its instruction, in **bytes** within the section.
    pub insn_off: Option<u32>,
    /// One sentence.
    pub message: String,
}

/// Bytes as text; what is no UTF-8 becomes U+FFFD.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn program_name(object: &Object<'_>, reloc: &Reloc<'_>) -> Option<String> {
    reloc.program.and_then(|it| object.programs().get(it)).map(|it| text(it.name))
}

impl<'a> RecordRow<'a> {
    /// What `object` says of its record `reloc`.
    pub fn new(object: &Object<'a>, reloc: &Reloc<'a>) -> Self {
        let line = object.source_line(reloc);
        Self {
            section: text(reloc.section),
            program: program_name(object, reloc),
            insn_off: reloc.insn_off,
            kind: reloc.kind.map(RelocKind::name),
            raw_kind: reloc.raw_kind,
            type_id: reloc.type_id.0,
            root: object.root_name(reloc),
            access: text(reloc.access),
            path: object.path(reloc),
            insn: object.insn_bytes(reloc),
            file: line.map(|it| text(it.file)),
            line: line.map(|it| it.line),
        }
    }
}

impl<'a> Place<'a> {
    fn target_type(self, decision: &Decision) -> Option<String> {
        let Self { run, object, record, kernel } = self;
        let reloc = run.object(object)?.relocs().get(record)?;
        if reloc.kind != Some(RelocKind::FieldByteOffset) || decision.target_type.0 == 0 {
            return None;
        }
        let shape = run.shape_of(object, record, kernel, decision.candidate?)?;
        Some(shape.btf.type_name(decision.target_type))
    }

    fn module_name(self, candidate: Option<Candidate>) -> Option<&'a str> {
        Some(self.run.module_name(self.kernel, candidate?.module?))
    }

    fn root_id(self, candidate: Option<Candidate>) -> Option<u32> {
        Some(self.run.id_of(self.object, self.record, self.kernel, candidate?)?.0)
    }
}

impl<'a> AnswerRow<'a> {
    /// `insn_before`: the instruction as it is in the file.
    pub fn new(place: Place<'a>, insn_before: &'a [u8], outcome: &'a Outcome) -> Self {
        let mut row = Self {
            code: "skipped",
            reason: None,
            fatal: None,
            orig: None,
            new: None,
            unresolved: None,
            poisoned: false,
            validate: None,
            orig_sz: None,
            new_sz: None,
            resize_fails: None,
            target: None,
            root_id: None,
            target_module: None,
            insn: insn_before,
            by_module: Vec::new(),
        };
        match outcome {
            Outcome::Skipped => {}
            Outcome::Fatal(error) => {
                row.code = error.code();
                row.fatal = Some(error.errno());
            }
            Outcome::Decided(decision) => {
                row.code = decision.code.name();
                row.reason = decision.reason.map(|it| it.name());
                row.orig = Some(decision.orig);
                row.new = decision.new;
                row.unresolved = Some(decision.unresolved);
                row.poisoned = decision.poisoned;
                row.validate = Some(decision.validate);
                row.orig_sz = Some(decision.orig_size);
                row.new_sz = Some(decision.new_size);
                row.resize_fails = Some(decision.resize_fails);
                row.target = place.target_type(decision);
                row.root_id = place.root_id(decision.candidate);
                row.target_module = place.module_name(decision.candidate);
                row.insn = &decision.insn;
            }
            Outcome::ModuleDependent(answers) => {
                row.code = Code::ModuleDependent.name();
                row.reason = Some(row.code);
                row.by_module = answers
                    .iter()
                    .map(|it| {
                        let module = place.run.module_name(place.kernel, it.module);
                        (module, Self::new(place, insn_before, &it.outcome))
                    })
                    .collect();
            }
        }
        row
    }
}

impl<'a> VerdictRow<'a> {
    /// `judges_needs`: whether more than records was judged.
    pub fn new(object: &Object<'_>, verdict: &'a ProgramVerdict, judges_needs: bool) -> Option<Self> {
        let program = object.programs().get(verdict.program)?;
        let relocs = object.relocs();
        let aborted_by = verdict.aborted_by.and_then(|abort| {
            let reloc = relocs.get(abort.reloc)?;
            Some(AbortRow {
                section: text(reloc.section),
                program: program_name(object, reloc),
                insn_off: reloc.insn_off,
                code: abort.error.code(),
                fatal: abort.error.errno(),
            })
        });
        let findings = verdict.findings.iter().map(|finding| {
            let reloc = finding.reloc.and_then(|it| relocs.get(it));
            let line = reloc.and_then(|it| object.source_line(it));
            FindingRow {
                code: finding.code,
                effect: finding.effect.name(),
                insn_off: reloc.map(|it| it.insn_off),
                root: reloc.map(|it| object.root_name(it)),
                path: reloc.map(|it| object.path(it)),
                subject: finding.subject.as_deref(),
                file: line.map(|it| text(it.file)),
                line: line.map(|it| it.line),
                message: &finding.message,
            }
        });
        Some(Self {
            program: text(program.name),
            section: text(program.section),
            autoload: program.autoload,
            verdict: verdict.verdict,
            judged: if judges_needs { &JUDGED } else { &JUDGED_OF_RECORDS },
            aborted_by,
            confidence: if verdict.is_bounded { "bounded" } else { "proved" },
            assumptions: &verdict.assumptions,
            findings: findings.collect(),
        })
    }
}

impl ObstacleRow {
    /// Why there is no file of `object`.
    pub fn new(object: &Object<'_>, obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Record(unanswered) => Self::of_record(object, unanswered),
            Obstacle::SharedBytes => Self::of_pair("shared-bytes", SHARED_BYTES),
        }
    }

    /// The same of an object and a kernel as a whole.
    pub fn of_pair(code: &'static str, why: &str) -> Self {
        let message = why.to_owned();
        Self { code, fatal: None, section: None, program: None, insn_off: None, message }
    }

    /// A record without an answer.
    pub fn of_record(object: &Object<'_>, unanswered: Unanswered) -> Self {
        let reloc = object.relocs().get(unanswered.reloc);
        let path = reloc.map(|it| object.path(it)).unwrap_or_default();
        let why = match unanswered.fatal {
            Some(error) => error.to_string(),
            None => "modules give different answers".into(),
        };
        Self {
            code: unanswered.code(),
            fatal: unanswered.fatal.map(|it| it.errno()),
            section: reloc.map(|it| text(it.section)),
            program: reloc.and_then(|it| program_name(object, it)),
            insn_off: reloc.map(|it| it.insn_off),
            message: if path.is_empty() { why } else { format!("{path}: {why}") },
        }
    }
}
