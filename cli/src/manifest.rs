//! `manifest.json`: which file of a `relocate` run serves which kernels. The field names are the contract with
//! scripts; `docs/output.md` says what they mean.

use btfleet_engine::MODELS;
use btfleet_engine::batch::Run;
use btfleet_engine::embed::Refusal;
use btfleet_engine::ingest::InputError;
use btfleet_engine::object::Object;
use btfleet_engine::relocate::{self, Obstacle, Patch, Plan, Unanswered};
use btfleet_engine::report::ObstacleRow;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::args::ValidateArg;
use crate::rows::{hex, text};

/// What the manifest says it is.
pub(crate) const KIND: &str = "relocate-manifest";

#[derive(Serialize)]
pub(crate) struct Manifest<'a> {
    v: u32,
    t: &'static str,
    models: &'static str,
    pub(crate) modules: &'static str,
    /// Only where it is not what libbpf does.
    #[serde(skip_serializing_if = "Option::is_none")]
    validate: Option<&'static str>,
    pub(crate) respect_autoload: bool,
    pub(crate) complete: bool,
    pub(crate) objects: Vec<ObjectEntry<'a>>,
    pub(crate) inputs: Vec<InputEntry<'a>>,
    /// Only where there is something to sign: its files, the statement last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) to_sign: Vec<FileEntry>,
}

/// A file of the directory.
#[derive(Serialize)]
pub(crate) struct FileEntry {
    pub(crate) file: String,
    pub(crate) sha256: String,
}

/// One object on all kernels.
#[derive(Serialize)]
pub(crate) struct ObjectEntry<'a> {
    pub(crate) path: &'a str,
    pub(crate) sha256: String,
    pub(crate) remarks: Vec<InputEntry<'a>>,
    pub(crate) outputs: Vec<OutputEntry<'a>>,
    pub(crate) failed: Vec<ObstacleEntry<'a>>,
    pub(crate) left: Vec<ObstacleEntry<'a>>,
    pub(crate) from_modules: Vec<ModulesEntry<'a>>,
}

/// One file.
#[derive(Serialize)]
pub(crate) struct OutputEntry<'a> {
    pub(crate) file: String,
    pub(crate) sha256: String,
    pub(crate) kernels: Vec<&'a str>,
    pub(crate) programs: Vec<ProgramEntry>,
}

/// One entry program of a file.
#[derive(Serialize)]
pub(crate) struct ProgramEntry {
    name: String,
    section: String,
    sha256: String,
    left: bool,
}

/// Why a kernel has no file, or a program is left as it was.
#[derive(Serialize)]
pub(crate) struct ObstacleEntry<'a> {
    pub(crate) kernel: &'a str,
    pub(crate) code: &'static str,
    fatal: Option<i32>,
    pub(crate) section: Option<String>,
    pub(crate) program: Option<String>,
    insn_off: Option<u32>,
    pub(crate) message: String,
}

/// Modules that values of a kernel's file are from.
#[derive(Serialize)]
pub(crate) struct ModulesEntry<'a> {
    kernel: &'a str,
    modules: Vec<&'a str>,
}

/// An input that could not be read or used, or a remark on an object.
#[derive(Serialize)]
pub(crate) struct InputEntry<'a> {
    path: String,
    code: &'static str,
    offset: Option<u64>,
    message: &'a str,
}

impl<'a> Manifest<'a> {
    pub(crate) fn new(modules: &'static str, validate: ValidateArg, respect_autoload: bool) -> Self {
        let validate = match validate {
            ValidateArg::Libbpf => None,
            ValidateArg::Strict => Some("strict"),
            ValidateArg::Off => Some("off"),
        };
        let (objects, inputs) = (Vec::new(), Vec::new());
        let (v, t, models) = (1, KIND, MODELS);
        Self {
            v,
            t,
            models,
            modules,
            validate,
            respect_autoload,
            complete: true,
            objects,
            inputs,
            to_sign: Vec::new(),
        }
    }

    /// The file's text.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        // Strings and numbers into memory: there is nothing that could fail.
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }
}

impl<'a> InputEntry<'a> {
    pub(crate) fn new(error: &'a InputError) -> Self {
        let path = error.path.to_string_lossy().into_owned();
        Self { path, code: error.code.name(), offset: error.offset, message: &error.what }
    }
}

impl ProgramEntry {
    /// The entry programs of `object` in `file`, which is the object after `patch`.
    pub(crate) fn all(object: &Object<'_>, patch: &Patch, file: &[u8]) -> Vec<Self> {
        let entries = object.programs().iter().enumerate().filter(|(_, it)| !it.is_subprogram);
        entries
            .map(|(number, program)| {
                let mut hash = Sha256::new();
                relocate::instructions(object, file, number).iter().for_each(|insns| hash.update(insns));
                Self {
                    name: text(program.name),
                    section: text(program.section),
                    sha256: hex(&hash.finalize()),
                    left: patch.leaves(number),
                }
            })
            .collect()
    }
}

impl<'a> ObstacleEntry<'a> {
    pub(crate) fn of_pair(kernel: &'a str, refusal: Refusal) -> Self {
        Self::of_row(kernel, ObstacleRow::of_pair(refusal.code, refusal.why))
    }

    pub(crate) fn new(kernel: &'a str, object: &Object<'_>, obstacle: &Obstacle) -> Self {
        Self::of_row(kernel, ObstacleRow::new(object, obstacle))
    }

    pub(crate) fn of_record(kernel: &'a str, object: &Object<'_>, unanswered: &Unanswered) -> Self {
        Self::of_row(kernel, ObstacleRow::of_record(object, unanswered))
    }

    fn of_row(kernel: &'a str, row: ObstacleRow) -> Self {
        let ObstacleRow { code, fatal, section, program, insn_off, message } = row;
        Self { kernel, code, fatal, section, program, insn_off, message }
    }
}

impl<'a> ModulesEntry<'a> {
    /// `None` if all values are from vmlinux.
    pub(crate) fn new(name: &'a str, run: &'a Run<'_>, kernel: usize, plan: &Plan) -> Option<Self> {
        let modules: Vec<&str> = plan.modules.iter().map(|&it| run.module_name(kernel, it)).collect();
        (!modules.is_empty()).then_some(Self { kernel: name, modules })
    }

    pub(crate) fn of_row(kernel: &'a str, modules: &[&'a str]) -> Self {
        Self { kernel, modules: modules.to_owned() }
    }
}
