//! `--format jsonl`: one object a line, fields in a fixed order. The field names are the contract with scripts.

use btfleet_engine::MODELS;
use btfleet_engine::format::Endian;
use btfleet_engine::ingest::InputError;
use btfleet_engine::object::Object;
pub(crate) use btfleet_engine::report::text;
use btfleet_engine::report::{self, AnswerRow, ProgramVerdict, RecordRow};
use serde::Serialize;

use crate::project::{AcceptedRow, Project};

/// One record on one kernel.
#[derive(Serialize)]
pub(crate) struct RelocRow<'a> {
    v: u32,
    t: &'static str,
    object: &'a str,
    kernel: &'a str,
    section: &'a str,
    program: Option<&'a str>,
    insn_off: u32,
    kind: KindName,
    type_id: u32,
    root: &'a str,
    access: &'a str,
    path: &'a str,
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
    file: Option<&'a str>,
    line: Option<u32>,
    /// Only where modules disagree: the answer with each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    by_module: Vec<ModuleRow<'a>>,
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

impl<'a> RelocRow<'a> {
    pub(crate) fn new(
        object_name: &'a str,
        kernel_name: &'a str,
        record: &'a RecordRow<'_>,
        answer: AnswerRow<'a>,
    ) -> Self {
        Self {
            v: 1,
            t: "reloc",
            object: object_name,
            kernel: kernel_name,
            section: &record.section,
            program: record.program.as_deref(),
            insn_off: record.insn_off,
            kind: record.kind.map_or(KindName::Unknown(record.raw_kind), KindName::Known),
            type_id: record.type_id,
            root: &record.root,
            access: &record.access,
            path: &record.path,
            code: answer.code,
            reason: answer.reason,
            fatal: answer.fatal,
            orig: answer.orig.map(|it| it.to_string()),
            new: answer.new.map(|it| it.to_string()),
            unresolved: answer.unresolved,
            poisoned: answer.poisoned,
            validate: answer.validate,
            orig_sz: answer.orig_sz,
            new_sz: answer.new_sz,
            resize_fails: answer.resize_fails,
            target: answer.target,
            root_id: answer.root_id,
            target_module: answer.target_module,
            insn_before: hex(record.insn),
            insn: hex(answer.insn),
            file: record.file.as_deref(),
            line: record.line,
            by_module: answer.by_module.into_iter().map(ModuleRow::new).collect(),
        }
    }
}

impl<'a> ModuleRow<'a> {
    fn new((module, answer): (&'a str, AnswerRow<'a>)) -> Self {
        Self {
            module,
            code: answer.code,
            reason: answer.reason,
            fatal: answer.fatal,
            new: answer.new.map(|it| it.to_string()),
            unresolved: answer.unresolved,
            poisoned: answer.poisoned,
            root_id: answer.root_id,
            insn: hex(answer.insn),
        }
    }
}

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
        let row = report::VerdictRow::new(object, verdict, judges_needs)?;
        let aborted_by = row.aborted_by.map(|it| AbortRow {
            section: it.section,
            program: it.program,
            insn_off: it.insn_off,
            code: it.code,
            fatal: it.fatal,
        });
        let findings = row.findings.into_iter().zip(&verdict.findings).map(|(row, finding)| FindingRow {
            code: row.code,
            effect: row.effect,
            insn_off: row.insn_off,
            root: row.root,
            path: row.path,
            subject: row.subject,
            file: row.file,
            line: row.line,
            message: row.message,
            accepted: project.acceptance(object, verdict.program, finding),
        });
        Some(Self {
            v: 1,
            t: "verdict",
            object: object_name,
            object_sha256,
            program: row.program,
            section: row.section,
            kernel: kernel_name,
            autoload: row.autoload,
            verdict: row.verdict.name(),
            judged: row.judged,
            aborted_by,
            confidence: row.confidence,
            assumptions: row.assumptions,
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
