//! The summary of a run for people.

use std::collections::BTreeSet;

use btfleet_engine::object::{Object, SourceLine};
use btfleet_engine::report::Verdict;

use super::summary::{Cell, Place, Summary};
use crate::load::Inputs;
use crate::output::{BAD, DIM, Failure, GOOD, HEAD, Output, WARN, paint, plural};

/// Causes, objects and names that a summary lists before it says how many more there are.
const CAUSES_SHOWN: usize = 20;
const OBJECTS_SHOWN: usize = 30;
const OBJECTS_PER_CAUSE: usize = 3;
const NAMES_SHOWN: usize = 5;
/// Kernels up to which the summary has a column for each.
const KERNEL_COLUMNS_MAX: usize = 12;

/// Prints it.
pub(super) fn print(
    out: &mut Output,
    summary: &Summary<'_>,
    inputs: &Inputs<'_>,
    judges_needs: bool,
) -> Result<(), Failure> {
    print_objects(out, summary, inputs)?;
    print_causes(out, summary, inputs)?;
    let mut parts = Vec::new();
    for (verdict, count) in &summary.counts {
        let style = match verdict {
            Verdict::Ok | Verdict::OkDrift => GOOD,
            Verdict::Conditional | Verdict::Unknown => WARN,
            Verdict::FailAttach | Verdict::FailSymbol | Verdict::FailReloc => BAD,
        };
        parts.push(format!("{} {count}", paint(style, verdict.name())));
    }
    for (why, pairs) in &summary.pairs_not_judged {
        parts.push(format!("{pairs} object-kernel pairs not judged ({why})"));
    }
    if parts.is_empty() {
        parts.push("nothing to judge".into());
    }
    let entries = |object: &Object<'_>| object.programs().iter().filter(|it| !it.is_subprogram).count();
    out.line(&format!(
        "{} with {} on {}: {}",
        plural(inputs.objects.len(), "object"),
        plural(inputs.objects.iter().map(entries).sum(), "program"),
        plural(inputs.kernels.len(), "kernel"),
        parts.join(", "),
    ))?;
    out.line(&paint(
        DIM,
        if judges_needs {
            "Judged: CO-RE relocations, whether poison is reached, attach targets, kernel symbols. Not judged: the \
             verifier's other rules,\nhelpers, map types, privileges. 'conditional': it depends on what files do \
             not say."
        } else {
            "Judged: CO-RE relocations, and whether poison is reached. Not judged: attach targets, kernel symbols, \
             the verifier's other\nrules, helpers, map types, privileges. 'conditional': it depends on what files \
             do not say."
        },
    ))
}

/// Objects that are not fine everywhere: a column for each kernel, or counts where there are too many.
fn print_objects(out: &mut Output, summary: &Summary<'_>, inputs: &Inputs<'_>) -> Result<(), Failure> {
    if summary.cells.is_empty() {
        return Ok(());
    }
    let columns = inputs.kernels.len() <= KERNEL_COLUMNS_MAX;
    if columns {
        for (number, name) in (1..).zip(&inputs.kernel_names) {
            out.line(&format!("{}  {name}", paint(HEAD, &format!("K{number}"))))?;
        }
        out.line("")?;
    }
    let names = short_names(&inputs.object_names);
    let name_of = |object: usize| names.get(object).map_or("", String::as_str);
    let shown = || summary.cells.iter().take(OBJECTS_SHOWN);
    let width = shown().map(|(&it, _)| name_of(it).chars().count()).max().unwrap_or(0);
    if columns {
        let heads = (1..=inputs.kernels.len())
            .fold(String::new(), |text, it| format!("{text}  {:<11}", format!("K{it}")));
        out.line(&paint(HEAD, format!("{:width$}{heads}", "").trim_end()))?;
    }
    for (&object, row) in shown() {
        let cells = if columns {
            row.iter().fold(String::new(), |text, cell| format!("{text}  {}", show_cell(*cell)))
        } else {
            format!("  {}", count_cells(row))
        };
        out.line(format!("{:width$}{cells}", name_of(object)).trim_end())?;
    }
    if summary.cells.len() > OBJECTS_SHOWN {
        let more = summary.cells.len() - OBJECTS_SHOWN;
        out.line(&format!("… and {more} more objects; --format jsonl has all"))?;
    }
    out.line("")
}

fn print_causes(out: &mut Output, summary: &Summary<'_>, inputs: &Inputs<'_>) -> Result<(), Failure> {
    let object_names = short_names(&inputs.object_names);
    let kernel_names: Vec<String> = match inputs.kernels.len() {
        0..=KERNEL_COLUMNS_MAX => (1..=inputs.kernels.len()).map(|it| format!("K{it}")).collect(),
        _ => short_names(&inputs.kernel_names),
    };
    // The worst first; of equals, what hits most programs on most kernels.
    let mut causes: Vec<_> = summary.causes.iter().collect();
    causes.sort_by_key(|(cause, places)| (cause.verdict, std::cmp::Reverse(places.count)));
    for (cause, places) in causes.into_iter().take(CAUSES_SHOWN) {
        let (style, word) = match cause.verdict.0 {
            Verdict::FailAttach | Verdict::FailSymbol | Verdict::FailReloc => (BAD, "fails"),
            Verdict::Unknown => (WARN, "unknown"),
            Verdict::OkDrift => (WARN, "drift"),
            _ => (WARN, "conditional"),
        };
        let kinds: Vec<&str> = places.kinds.iter().copied().collect();
        let kinds = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
        let optional = if places.in_default { "" } else { ", only in programs that need not load" };
        out.line(&format!(
            "{} {} {}{kinds}{optional}",
            paint(style, word),
            cause.code,
            paint(HEAD, &cause.path),
        ))?;
        out.line(&format!("    {}", places.message.as_ref().map_or("", |(_, message)| message)))?;
        let mut objects: Vec<&Place<'_>> = places.objects.iter().collect();
        objects.sort_by_key(|it| it.object);
        for place in objects.iter().take(OBJECTS_PER_CAUSE) {
            let of_object = inputs.objects.get(place.object).map(Object::programs).unwrap_or_default();
            let programs = place.programs.iter().filter_map(|it| of_object.get(*it));
            let names: BTreeSet<String> =
                programs.map(|it| String::from_utf8_lossy(it.name).into_owned()).collect();
            let object_name = object_names.get(place.object).map_or("", String::as_str);
            let show =
                |line: SourceLine<'_>| format!("  at {}:{}", String::from_utf8_lossy(line.file), line.line);
            let line = place.line.map(show).unwrap_or_default();
            let names: Vec<String> = names.into_iter().collect();
            out.line(&format!("    {object_name}: {}{}", some_of(&names), paint(DIM, &line)))?;
        }
        if objects.len() > OBJECTS_PER_CAUSE {
            out.line(&format!("    and {} more objects", objects.len() - OBJECTS_PER_CAUSE))?;
        }
        let total = inputs.kernels.len();
        let on: Vec<usize> = (0..total).filter(|&it| places.on.get(it) == Some(&true)).collect();
        if on.len() == total {
            out.line("    on every kernel")?;
        } else {
            let kernels: Vec<String> = on.iter().filter_map(|it| kernel_names.get(*it).cloned()).collect();
            out.line(&format!("    on {} of {total} kernels: {}", kernels.len(), some_of(&kernels)))?;
        }
    }
    if summary.causes.len() > CAUSES_SHOWN {
        let more = summary.causes.len() - CAUSES_SHOWN;
        out.line(&format!("… and {more} more causes; --format jsonl has all"))?;
    }
    if summary.causes.is_empty() { Ok(()) } else { out.line("") }
}

fn some_of(names: &[String]) -> String {
    let shown = names.get(..NAMES_SHOWN).unwrap_or(names);
    let mut text = shown.join(", ");
    if names.len() > shown.len() {
        text.push_str(&format!(" and {} more", names.len() - shown.len()));
    }
    text
}

fn show_cell(cell: Cell) -> String {
    let (style, text) = match cell {
        Cell::Verdict(Verdict::Ok) => (GOOD, "ok"),
        Cell::Verdict(Verdict::OkDrift) => (GOOD, "ok-drift"),
        Cell::Verdict(Verdict::Conditional) => (WARN, "conditional"),
        Cell::Verdict(Verdict::Unknown) => (WARN, "unknown"),
        Cell::Verdict(Verdict::FailAttach | Verdict::FailSymbol | Verdict::FailReloc) => (BAD, "fail"),
        Cell::NoPrograms => (DIM, "no program"),
        Cell::NotJudged => (DIM, "-"),
    };
    paint(style, &format!("{text:<11}"))
}

/// Whether a cell counts for a column.
type IsKind = fn(&Cell) -> bool;

fn count_cells(row: &[Cell]) -> String {
    let kinds: [(_, _, IsKind); 6] = [
        (BAD, "fail", |it| matches!(it, Cell::Verdict(verdict) if *verdict >= Verdict::FailAttach)),
        (WARN, "unknown", |it| *it == Cell::Verdict(Verdict::Unknown)),
        (WARN, "conditional", |it| *it == Cell::Verdict(Verdict::Conditional)),
        (GOOD, "ok-drift", |it| *it == Cell::Verdict(Verdict::OkDrift)),
        (GOOD, "ok", |it| *it == Cell::Verdict(Verdict::Ok)),
        (DIM, "not judged", |it| *it == Cell::NotJudged),
    ];
    let parts: Vec<String> = kinds
        .iter()
        .map(|(style, name, is_kind)| (style, name, row.iter().filter(|it| is_kind(it)).count()))
        .filter(|(_, _, count)| *count > 0)
        .map(|(style, name, count)| format!("{} {count}", paint(*style, name)))
        .collect();
    parts.join(", ")
}

/// Names without the directories that all of them share.
fn short_names<S: AsRef<str>>(names: &[S]) -> Vec<String> {
    let directory = |name: &str| name.rfind('/').map_or(0, |it| it + 1);
    let Some(first) = names.first().map(AsRef::as_ref) else { return Vec::new() };
    let mut shared = first.get(..directory(first)).unwrap_or("");
    for name in names.iter().map(AsRef::as_ref) {
        while !name.starts_with(shared) {
            let parent = shared.trim_end_matches('/');
            shared = parent.get(..directory(parent)).unwrap_or("");
        }
    }
    names.iter().map(|name| name.as_ref().strip_prefix(shared).unwrap_or_default().to_owned()).collect()
}
