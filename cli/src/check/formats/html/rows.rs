//! One object of the page: what its programs come to in each column of the map.

use std::collections::{BTreeSet, HashMap};

use btfleet_engine::embed::Refusal;
use btfleet_engine::object::Object;
use btfleet_engine::report::{self, Effect, Finding, ProgramVerdict, Verdict, Verdicts};
use serde::Serialize;

use super::layouts::{Key, path_of};
use crate::check::formats::Context;
use crate::project::{AcceptedRow, what_about};

/// Numbers, each followed by on how many columns on end it stands.
pub(super) type Runs = Vec<i32>;

/// What programs come to is numbered: most of it is the same on many kernels.
#[derive(Serialize)]
pub(super) struct ObjectRow<'a> {
    name: &'a str,
    sha256: &'a str,
    programs: Vec<ProgramRow>,
    /// By number: cells of the columns. Below 0 stands what was not judged: -1 for what is not shown, then
    /// `refusals`, from -2 downwards.
    rows: Vec<Runs>,
    cells: Vec<CellRow>,
    findings: Vec<FindingRow<'a>>,
    /// What verdicts take for granted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    assumptions: Vec<&'a str>,
    /// Why kernels cannot be judged: code and sentence.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refusals: Vec<(&'static str, &'static str)>,
}

#[derive(Serialize)]
struct ProgramRow {
    name: String,
    section: String,
    /// Whether it is loaded by default.
    auto: bool,
    /// Number of its row.
    row: usize,
}

/// A verdict with all that it rests on.
#[derive(Serialize, PartialEq, Eq, Hash, Clone)]
struct CellRow {
    #[serde(rename = "v")]
    verdict: u32,
    /// Numbers of findings.
    #[serde(rename = "f", skip_serializing_if = "Vec::is_empty")]
    findings: Vec<usize>,
    /// The program and the offset of the record that ends the load of the object.
    #[serde(rename = "x", skip_serializing_if = "Option::is_none")]
    aborted_by: Option<(Option<String>, u32, &'static str)>,
    #[serde(rename = "a", skip_serializing_if = "Vec::is_empty")]
    assumptions: Vec<usize>,
    /// Whether something could not be ruled out.
    #[serde(rename = "b", skip_serializing_if = "std::ops::Not::not")]
    is_bounded: bool,
}

#[derive(Serialize)]
struct FindingRow<'a> {
    code: &'static str,
    effect: &'static str,
    #[serde(rename = "v")]
    verdict: u32,
    about: String,
    message: &'a str,
    #[serde(rename = "off", skip_serializing_if = "Option::is_none")]
    insn_off: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    /// The struct that it is about, and the path to the field.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    within: Option<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<AcceptedRow<'a>>,
}

/// What tells findings of an object apart.
#[derive(PartialEq, Eq, Hash)]
struct FindingKey<'a> {
    reloc: Option<usize>,
    subject: Option<&'a str>,
    code: &'static str,
    effect: Effect,
    verdict: Verdict,
    message: &'a str,
    /// The program, if the manifest names the finding.
    accepted: Option<usize>,
}

/// Cells and findings of an object by number.
struct Numbers<'a> {
    context: &'a Context<'a>,
    object: &'a Object<'a>,
    findings: HashMap<FindingKey<'a>, usize>,
    finding_rows: Vec<FindingRow<'a>>,
    assumptions: Numbered<&'a str>,
    cells: Numbered<CellRow>,
}

/// Distinct things in the order in which they came.
struct Numbered<T> {
    number_of: HashMap<T, usize>,
    all: Vec<T>,
}

impl<T: Clone + Eq + std::hash::Hash> Numbered<T> {
    fn new() -> Self {
        Self { number_of: HashMap::new(), all: Vec::new() }
    }

    fn of(&mut self, it: T) -> usize {
        *self.number_of.entry(it).or_insert_with_key(|it| {
            self.all.push(it.clone());
            self.all.len() - 1
        })
    }
}

impl<'a> ObjectRow<'a> {
    /// `order`: the kernels of the columns.
    pub(super) fn new(
        context: &'a Context<'a>,
        order: &[usize],
        number: usize,
        verdicts: &'a Verdicts,
    ) -> Option<Self> {
        let inputs = context.inputs;
        let object = inputs.object(number)?;
        let mut numbers = Numbers {
            context,
            object,
            findings: HashMap::new(),
            finding_rows: Vec::new(),
            assumptions: Numbered::new(),
            cells: Numbered::new(),
        };
        // By class, then by program.
        let of_class: Vec<HashMap<usize, usize>> = verdicts
            .by_class
            .iter()
            .map(|of_class| {
                let shown =
                    of_class.iter().filter(|it| context.args.only.is_none_or(|only| only.takes(it.verdict)));
                shown.map(|it| (it.program, numbers.cell(it))).collect()
            })
            .collect();
        let mut refusals = Numbered::new();
        let refused: Vec<Option<usize>> = order
            .iter()
            .map(|&kernel| {
                let Refusal { code, why, .. } = inputs.refusal(context.loaders, number, kernel)?;
                Some(refusals.of((code, why)))
            })
            .collect();
        let programs: BTreeSet<usize> = verdicts.by_class.iter().flatten().map(|it| it.program).collect();
        let mut rows: Numbered<Runs> = Numbered::new();
        let programs = programs.into_iter().filter_map(|program| {
            let cells = order.iter().zip(&refused).map(|(&kernel, refused)| {
                if let Some(refusal) = refused {
                    return -2 - signed(*refusal);
                }
                let class = verdicts.classes.of.get(kernel).copied().flatten();
                let cells = class.and_then(|it| of_class.get(it as usize));
                cells.and_then(|it| it.get(&program)).map_or(-1, |it| signed(*it))
            });
            let runs = runs(cells);
            let it = object.programs().get(program)?;
            let (name, section) = (report::text(it.name), report::text(it.section));
            Some(ProgramRow { name, section, auto: it.autoload, row: rows.of(runs) })
        });
        Some(Self {
            programs: programs.collect(),
            name: inputs.name_of(number),
            sha256: context.hashes.get(inputs.distinct_of(number)).map_or("", String::as_str),
            rows: rows.all,
            cells: numbers.cells.all,
            findings: numbers.finding_rows,
            assumptions: numbers.assumptions.all,
            refusals: refusals.all,
        })
    }

    /// Codes of all findings.
    pub(super) fn codes(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.findings.iter().map(|it| it.code)
    }
}

impl<'a> Numbers<'a> {
    fn cell(&mut self, verdict: &'a ProgramVerdict) -> usize {
        let findings = verdict.findings.iter().map(|it| self.finding(verdict.program, it)).collect();
        let assumptions = verdict.assumptions.iter().map(|it| self.assumptions.of(it.as_str())).collect();
        let aborted_by = verdict.aborted_by.and_then(|abort| {
            let reloc = self.object.relocs().get(abort.reloc)?;
            let program = reloc.program.and_then(|it| self.object.programs().get(it));
            Some((program.map(|it| report::text(it.name)), reloc.insn_off, abort.error.code()))
        });
        self.cells.of(CellRow {
            verdict: verdict.verdict as u32,
            findings,
            aborted_by,
            assumptions,
            is_bounded: verdict.is_bounded,
        })
    }

    fn finding(&mut self, program: usize, finding: &'a Finding) -> usize {
        let Self { context, object, findings, finding_rows, .. } = self;
        let accepted = context.project.acceptance(object, program, finding);
        let key = FindingKey {
            reloc: finding.reloc,
            subject: finding.subject.as_deref(),
            code: finding.code,
            effect: finding.effect,
            verdict: finding.verdict,
            message: &finding.message,
            accepted: accepted.as_ref().map(|_| program),
        };
        *findings.entry(key).or_insert_with(|| {
            let reloc = finding.reloc.and_then(|it| object.relocs().get(it));
            let line = reloc.and_then(|it| object.source_line(it));
            let within = reloc.and_then(|it| Some((Key::of(it)?.to_string(), path_of(it)?)));
            finding_rows.push(FindingRow {
                code: finding.code,
                effect: finding.effect.name(),
                verdict: finding.verdict as u32,
                about: what_about(object, finding),
                message: &finding.message,
                insn_off: reloc.map(|it| it.insn_off),
                file: line.map(|it| report::text(it.file)),
                line: line.map(|it| it.line),
                within,
                accepted,
            });
            finding_rows.len() - 1
        })
    }
}

/// Numbers of what there is much less of than fits.
pub(super) fn signed(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Equal neighbours are told once.
pub(super) fn runs(numbers: impl Iterator<Item = i32>) -> Runs {
    let mut runs: Runs = Vec::new();
    for number in numbers {
        match runs.as_mut_slice() {
            [.., last, count] if *last == number => *count += 1,
            _ => runs.extend([number, 1]),
        }
    }
    runs
}
