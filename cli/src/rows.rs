//! `--format jsonl`: one object a line, fields in a fixed order. The field names are the contract with scripts.

use btfleet_engine::MODELS;
use btfleet_engine::batch::Run;
use btfleet_engine::drift::Drift;
use btfleet_engine::fleet::Candidate;
use btfleet_engine::format::Endian;
use btfleet_engine::format::btf_ext::RelocKind;
use btfleet_engine::ingest::InputError;
use btfleet_engine::object::{Object, Reloc};
use btfleet_engine::report::ProgramVerdict;
use btfleet_engine::resolve::{Decision, Outcome};
use serde::Serialize;

use crate::project::{AcceptedRow, Project};

/// One record on one kernel.
#[derive(Serialize)]
pub(crate) struct RelocRow<'a> {
    v: u32,
    t: &'static str,
    object: &'a str,
    kernel: &'a str,
    section: String,
    program: Option<String>,
    insn_off: u32,
    kind: KindName,
    type_id: u32,
    root: String,
    access: String,
    path: String,
    code: &'static str,
    reason: Option<&'static str>,
    fatal: Option<i32>,
    orig: Option<String>,
    new: Option<String>,
    unresolved: Option<bool>,
    poisoned: bool,
    validate: Option<bool>,
    orig_sz: Option<u32>,
    new_sz: Option<u32>,
    resize_fails: Option<bool>,
    target: Option<String>,
    root_id: Option<u32>,
    target_module: Option<&'a str>,
    insn_before: String,
    insn: String,
    file: Option<String>,
    line: Option<u32>,
    /// Only with '--validate strict': what is wrong with the access to a field that this record stands for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) access_findings: Vec<AccessRow>,
    /// Only where modules disagree: the answer with each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    by_module: Vec<ModuleRow<'a>>,
}

/// What is wrong with an access to a field.
#[derive(Serialize)]
pub(crate) struct AccessRow {
    code: &'static str,
    message: String,
}

impl From<Drift> for AccessRow {
    fn from(drift: Drift) -> Self {
        Self { code: drift.rule.name(), message: drift.message }
    }
}

/// The answer with just one module loaded.
#[derive(Serialize)]
struct ModuleRow<'a> {
    module: &'a str,
    code: &'static str,
    reason: Option<&'static str>,
    fatal: Option<i32>,
    new: Option<String>,
    unresolved: Option<bool>,
    poisoned: bool,
    root_id: Option<u32>,
    insn: String,
}

/// A kind's name, or its number where it has none.
#[derive(Serialize)]
#[serde(untagged)]
enum KindName {
    Known(&'static str),
    Unknown(u32),
}

/// Bytes as text; what is no UTF-8 becomes U+FFFD.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn byte_order_name(endian: Endian) -> &'static str {
    match endian {
        Endian::Little => "little",
        Endian::Big => "big",
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// A record of a run: the numbers of its object, of itself and of the kernel.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) run: &'a Run<'a>,
    pub(crate) object: usize,
    pub(crate) record: usize,
    pub(crate) kernel: usize,
}

impl<'a> Place<'a> {
    fn target_type(self, reloc: &Reloc<'_>, decision: &Decision) -> Option<String> {
        let Self { run, object, record, kernel } = self;
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

impl<'a> RelocRow<'a> {
    pub(crate) fn new(
        object_name: &'a str,
        kernel_name: &'a str,
        object: &Object<'_>,
        reloc: &Reloc<'_>,
        place: Place<'a>,
        outcome: &Outcome,
    ) -> Self {
        let insn_before = hex(object.insn_bytes(reloc));
        let line = object.source_line(reloc);
        let mut row = Self {
            v: 1,
            t: "reloc",
            object: object_name,
            kernel: kernel_name,
            section: text(reloc.section),
            program: reloc.program.and_then(|it| object.programs().get(it)).map(|it| text(it.name)),
            insn_off: reloc.insn_off,
            kind: reloc.kind.map_or(KindName::Unknown(reloc.raw_kind), |it| KindName::Known(it.name())),
            type_id: reloc.type_id.0,
            root: object.root_name(reloc),
            access: text(reloc.access),
            path: object.path(reloc),
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
            insn: insn_before.clone(),
            insn_before,
            file: line.map(|it| text(it.file)),
            line: line.map(|it| it.line),
            access_findings: Vec::new(),
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
                row.orig = Some(decision.orig.to_string());
                row.new = decision.new.map(|it| it.to_string());
                row.unresolved = Some(decision.unresolved);
                row.poisoned = decision.poisoned;
                row.validate = Some(decision.validate);
                row.orig_sz = Some(decision.orig_size);
                row.new_sz = Some(decision.new_size);
                row.resize_fails = Some(decision.resize_fails);
                row.target = place.target_type(reloc, decision);
                row.root_id = place.root_id(decision.candidate);
                row.target_module = place.module_name(decision.candidate);
                row.insn = hex(&decision.insn);
            }
            Outcome::ModuleDependent(answers) => {
                row.code = "module-dependent";
                row.reason = Some("module-dependent");
                row.by_module = answers
                    .iter()
                    .map(|it| ModuleRow::new(place, it.module, &row.insn, &it.outcome))
                    .collect();
            }
        }
        row
    }
}

impl<'a> ModuleRow<'a> {
    fn new(place: Place<'a>, module: u32, insn_before: &str, outcome: &Outcome) -> Self {
        let mut row = Self {
            module: place.run.module_name(place.kernel, module),
            code: "skipped",
            reason: None,
            fatal: None,
            new: None,
            unresolved: None,
            poisoned: false,
            root_id: None,
            insn: insn_before.to_owned(),
        };
        match outcome {
            Outcome::Fatal(error) => {
                row.code = error.code();
                row.fatal = Some(error.errno());
            }
            Outcome::Decided(decision) => {
                row.code = decision.code.name();
                row.reason = decision.reason.map(|it| it.name());
                row.new = decision.new.map(|it| it.to_string());
                row.unresolved = Some(decision.unresolved);
                row.poisoned = decision.poisoned;
                row.root_id = place.root_id(decision.candidate);
                row.insn = hex(&decision.insn);
            }
            // A single module's answer is never one of these.
            Outcome::Skipped | Outcome::ModuleDependent(_) => {}
        }
        row
    }
}

/// The layers that verdicts of this version rest on, and those of verdicts on what the kernel's own loader does.
const JUDGED: [&str; 5] = ["co-re", "reach", "attach", "symbols", "drift"];
const JUDGED_IN_KERNEL: [&str; 3] = ["co-re", "reach", "drift"];

/// One program on one kernel.
#[derive(Serialize)]
pub(crate) struct VerdictRow<'a> {
    v: u32,
    t: &'static str,
    object: &'a str,
    object_sha256: &'a str,
    program: String,
    section: String,
    kernel: &'a str,
    autoload: bool,
    verdict: &'static str,
    judged: &'static [&'static str],
    aborted_by: Option<AbortRow>,
    confidence: &'static str,
    assumptions: &'a [String],
    findings: Vec<FindingRow<'a>>,
}

/// The record that ends the load of the object.
#[derive(Serialize)]
struct AbortRow {
    section: String,
    program: Option<String>,
    insn_off: u32,
    code: &'static str,
    fatal: i32,
}

#[derive(Serialize)]
struct FindingRow<'a> {
    code: &'static str,
    effect: &'static str,
    insn_off: Option<u32>,
    root: Option<String>,
    path: Option<String>,
    subject: Option<&'a str>,
    file: Option<String>,
    line: Option<u32>,
    message: &'a str,
    /// Only of findings that a manifest names.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<AcceptedRow<'a>>,
}

impl<'a> VerdictRow<'a> {
    pub(crate) fn new(
        object_name: &'a str,
        object_sha256: &'a str,
        kernel_name: &'a str,
        object: &Object<'_>,
        verdict: &'a ProgramVerdict,
        judges_needs: bool,
        project: &'a Project,
    ) -> Option<Self> {
        let program = object.programs().get(verdict.program)?;
        let relocs = object.relocs();
        let program_name = |reloc: &Reloc<'_>| {
            reloc.program.and_then(|it| object.programs().get(it)).map(|it| text(it.name))
        };
        let aborted_by = verdict.aborted_by.and_then(|abort| {
            let reloc = relocs.get(abort.reloc)?;
            Some(AbortRow {
                section: text(reloc.section),
                program: program_name(reloc),
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
                accepted: project.acceptance(object, verdict.program, finding),
            }
        });
        Some(Self {
            v: 1,
            t: "verdict",
            object: object_name,
            object_sha256,
            program: text(program.name),
            section: text(program.section),
            kernel: kernel_name,
            autoload: program.autoload,
            verdict: verdict.verdict.name(),
            judged: if judges_needs { &JUDGED } else { &JUDGED_IN_KERNEL },
            aborted_by,
            confidence: if verdict.is_bounded { "bounded" } else { "proved" },
            assumptions: &verdict.assumptions,
            findings: findings.collect(),
        })
    }
}

/// An object and a kernel that cannot be judged together.
#[derive(Serialize)]
pub(crate) struct PairRow<'a> {
    v: u32,
    t: &'static str,
    object: &'a str,
    kernel: &'a str,
    code: &'static str,
    message: &'a str,
}

impl<'a> PairRow<'a> {
    pub(crate) fn new(object: &'a str, kernel: &'a str, code: &'static str, message: &'a str) -> Self {
        Self { v: 1, t: "pair", object, kernel, code, message }
    }
}

/// A relocated file of one object.
#[derive(Serialize)]
pub(crate) struct OutputRow<'a> {
    v: u32,
    t: &'static str,
    object: &'a str,
    file: &'a str,
    sha256: &'a str,
    kernels: &'a [&'a str],
}

impl<'a> OutputRow<'a> {
    pub(crate) fn new(object: &'a str, file: &'a str, sha256: &'a str, kernels: &'a [&'a str]) -> Self {
        Self { v: 1, t: "output", object, file, sha256, kernels }
    }
}

/// An input that could not be read, or a remark on one that could.
#[derive(Serialize)]
pub(crate) struct InputRow<'a> {
    v: u32,
    t: &'static str,
    path: String,
    code: &'static str,
    offset: Option<u64>,
    message: &'a str,
}

impl<'a> InputRow<'a> {
    pub(crate) fn new(error: &'a InputError) -> Self {
        let path = error.path.to_string_lossy().into_owned();
        Self { v: 1, t: "input", path, code: error.code.name(), offset: error.offset, message: &error.what }
    }
}

/// The last row; without it the output is cut.
#[derive(Serialize)]
pub(crate) struct EndRow {
    v: u32,
    t: &'static str,
    complete: bool,
    objects: usize,
    kernels: usize,
    rows: usize,
    models: String,
}

impl EndRow {
    pub(crate) fn new(complete: bool, objects: usize, kernels: usize, rows: usize) -> Self {
        Self { v: 1, t: "end", complete, objects, kernels, rows, models: MODELS.to_owned() }
    }

    /// The same of answers that are not libbpf's.
    pub(crate) fn modelling(self, models: &str) -> Self {
        Self { models: models.to_owned(), ..self }
    }
}

/// A row as a line of JSON.
pub(crate) fn push_line(out: &mut Vec<u8>, row: &impl Serialize) {
    // Strings and numbers into memory: there is nothing that could fail.
    if serde_json::to_writer(&mut *out, row).is_ok() {
        out.push(b'\n');
    }
}
