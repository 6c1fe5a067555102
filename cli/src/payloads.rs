//! `relocate --sign-manifest`: what to sign of the programs that a kernel will be given.
//!
//! A kernel that relocates a program changes it after its signature was checked, and refuses one that is signed and has
//! records left. So what is signed are the bytes that are left when all records are applied, one payload for each class
//! of kernels. They are those of the relocated file, linked: nothing is decided here.
//!
//! The statement follows in-toto, <https://in-toto.io/Statement/v1>. docs/output.md describes what is ours in it.

use std::collections::{BTreeMap, BTreeSet};

use btfleet_engine::MODELS;
use btfleet_engine::object::Object;
use btfleet_engine::prog_load::ProgLoad;
use btfleet_engine::relocate::Plan;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::core_relos::{ReferenceRow, reference_row};
use crate::manifest::{Manifest, ModulesEntry, ObstacleEntry};
use crate::rows::{hex, text};

/// Name of the statement in the directory.
pub(crate) const STATEMENT: &str = "payloads.intoto.json";
/// What in-toto calls statements of this version.
pub(crate) const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// What the predicate is.
pub(crate) const PREDICATE_TYPE: &str = "urn:btfleet:payloads:v1";

/// Why a program is left, if nobody asked for it.
const NOT_ASKED: &str = "respect-autoload";

#[derive(Serialize)]
pub(crate) struct Statement<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    subject: Vec<Subject<'a>>,
    #[serde(rename = "predicateType")]
    predicate_type: &'static str,
    predicate: Predicate<'a>,
}

/// A file that the statement is about.
#[derive(Serialize)]
struct Subject<'a> {
    name: &'a str,
    digest: BTreeMap<&'static str, &'a str>,
}

#[derive(Serialize)]
struct Predicate<'a> {
    models: &'static str,
    modules: &'static str,
    respect_autoload: bool,
    complete: bool,
    kernels: &'a [&'a str],
    objects: Vec<ObjectPayloads<'a>>,
}

#[derive(Serialize)]
struct ObjectPayloads<'a> {
    name: &'a str,
    sha256: &'a str,
    classes: &'a [ClassPayloads<'a>],
    failed: &'a [ObstacleEntry<'a>],
}

/// Kernels that are given the same bytes.
#[derive(Serialize)]
pub(crate) struct ClassPayloads<'a> {
    pub(crate) file: String,
    pub(crate) sha256: String,
    pub(crate) kernels: Vec<&'a str>,
    pub(crate) from_modules: Vec<ModulesEntry<'a>>,
    pub(crate) programs: Vec<Payload>,
}

/// An entry program with all that it is loaded with.
#[derive(Serialize)]
pub(crate) struct Payload {
    section: String,
    program: String,
    /// `None`: it is no payload.
    pub(crate) file: Option<String>,
    pub(crate) sha256: Option<String>,
    insns: usize,
    filled: Vec<ReferenceRow>,
    /// Why it is no payload.
    pub(crate) records_left: BTreeSet<&'static str>,
    #[serde(skip)]
    pub(crate) bytes: Vec<u8>,
}

/// The entry programs of an object after `plans`, which all have the same patch; `file` is the relocated file.
pub(crate) fn payloads(object: &Object<'_>, plans: &[&Plan], file: &[u8]) -> Vec<Payload> {
    // It is as well formed as the object that it was made of.
    let Ok(relocated) = Object::parse(file) else { return Vec::new() };
    let entries = relocated.programs().iter().enumerate().filter(|(_, it)| !it.is_subprogram);
    entries
        .map(|(number, program)| {
            let load = ProgLoad::new(&relocated, number);
            let mut payload = Payload {
                section: text(program.section),
                program: text(program.name),
                file: None,
                sha256: None,
                insns: 0,
                filled: Vec::new(),
                records_left: BTreeSet::new(),
                bytes: Vec::new(),
            };
            if plans.iter().any(|it| it.patch.leaves(number)) {
                let obstacles = plans.iter().flat_map(|it| &it.obstacles);
                payload.records_left = obstacles
                    .filter(|it| object.relocs().get(it.reloc).is_some_and(|it| it.program == Some(number)))
                    .map(|it| it.code())
                    .collect();
                if payload.records_left.is_empty() {
                    payload.records_left.insert(NOT_ASKED);
                }
                return payload;
            }
            payload.sha256 = Some(hex(&Sha256::digest(&load.insns)));
            payload.insns = load.insns.len() / 8;
            payload.filled = load.references.iter().map(|it| reference_row(&relocated, *it)).collect();
            payload.bytes = load.insns;
            payload
        })
        .collect()
}

impl<'a> Statement<'a> {
    /// `classes`: by object of the manifest.
    pub(crate) fn new(
        manifest: &'a Manifest<'a>,
        classes: &'a [Vec<ClassPayloads<'a>>],
        kernels: &'a [&'a str],
    ) -> Self {
        let mut subjects = BTreeMap::new();
        for class in classes.iter().flatten() {
            subjects.insert(class.file.as_str(), class.sha256.as_str());
            let of_programs =
                class.programs.iter().filter_map(|it| it.file.as_deref().zip(it.sha256.as_deref()));
            subjects.extend(of_programs);
        }
        let objects = manifest.objects.iter().zip(classes).map(|(object, classes)| ObjectPayloads {
            name: object.path,
            sha256: &object.sha256,
            classes,
            failed: &object.failed,
        });
        Self {
            kind: STATEMENT_TYPE,
            subject: subjects
                .into_iter()
                .map(|(name, hash)| Subject { name, digest: BTreeMap::from([("sha256", hash)]) })
                .collect(),
            predicate_type: PREDICATE_TYPE,
            predicate: Predicate {
                models: MODELS,
                modules: manifest.modules,
                respect_autoload: manifest.respect_autoload,
                complete: manifest.complete,
                kernels,
                objects: objects.collect(),
            },
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
