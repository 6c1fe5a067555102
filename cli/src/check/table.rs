//! The summary of a run for people.

use std::collections::BTreeSet;

use btfleet_engine::object::{Object, SourceLine};
use btfleet_engine::report::Verdict;

use super::inventory::Weighed;
use super::spread::{Column, Spread};
use super::summary::{Cause, Cell, Place, Places, Summary};
use crate::args::{CheckArgs, Sort};
use crate::copies;
use crate::load::Inputs;
use crate::output::{BAD, DIM, Failure, GOOD, HEAD, Output, WARN, paint, plural, quoted, width};
use crate::text::{columns, cut_start, padded, safe, short_names, some_of, wrapped};

/// Causes, rows and names that a summary lists before it says how many more there are.
const CAUSES_SHOWN: usize = 10;
const ROWS_SHOWN: usize = 30;
const OBJECTS_PER_CAUSE: usize = 3;
const NAMES_SHOWN: usize = 5;
/// Where in a line the counts of a cause stand, at most.
const COUNTS_AT: usize = 78;
/// Least space for names in a table of verdicts.
const NAME_MIN: usize = 16;
/// Space for a cell.
const CELL: usize = 8;

/// Prints it.
pub(super) fn print(
    out: &mut Output,
    summary: &Summary<'_>,
    weighed: Option<&Weighed<'_>>,
    inputs: &Inputs<'_>,
    args: &CheckArgs,
    judges_needs: bool,
) -> Result<(), Failure> {
    let kernels = inputs.kernels.iter().zip(inputs.kernel_names.iter().copied());
    let spread = Spread::new(kernels);
    print_counts(out, summary, inputs, &spread)?;
    weighed.map_or(Ok(()), |it| it.print(out, inputs))?;
    print_causes(out, summary, weighed, inputs, &spread, args)?;
    print_cells(out, summary, inputs, &spread, args)?;
    let needs = match judges_needs {
        true => ", attach targets, kernel symbols",
        false => "",
    };
    let not = if judges_needs { "" } else { "attach targets, kernel symbols, " };
    let text = format!(
        "Judged: CO-RE relocations, whether poison is reached{needs}. Not judged: {not}the verifier's other rules, \
         helpers, map types, privileges. 'conditional': it depends on what files do not say."
    );
    for line in wrapped(&text, width()) {
        out.line(&paint(DIM, &line))?;
    }
    Ok(())
}

fn print_counts(
    out: &mut Output,
    summary: &Summary<'_>,
    inputs: &Inputs<'_>,
    spread: &Spread,
) -> Result<(), Failure> {
    let entries = |object: &Object<'_>| object.programs().iter().filter(|it| !it.is_subprogram).count();
    let releases = match spread.range() {
        Some((first, last)) if first != last => format!(", {first} to {last}"),
        _ => String::new(),
    };
    let programs = (0..inputs.objects.len()).filter_map(|it| inputs.object(it)).map(entries).sum();
    let what = format!(
        "{} with {} on {}{releases}",
        plural(inputs.objects.len(), "object"),
        plural(programs, "program"),
        plural(inputs.kernels.len(), "kernel"),
    );
    for line in wrapped(&what, width()) {
        out.line(&paint(HEAD, &line))?;
    }
    let mut parts = Vec::new();
    for (verdict, count) in summary.counts.iter().rev() {
        parts.push(format!("{} {count}", paint(style(*verdict), verdict.name())));
    }
    for (why, pairs) in &summary.pairs_not_judged {
        parts.push(format!("{} not judged ({why})", plural(*pairs, "object-kernel pair")));
    }
    if parts.is_empty() {
        parts.push("nothing to judge".into());
    }
    out.prose(&parts.join(", "), 0)?;
    if let Some(remark) = copies::remark(inputs) {
        out.prose(&remark, 0)?;
    }
    out.line("")
}

fn style(verdict: Verdict) -> anstyle::Style {
    match verdict {
        Verdict::Ok | Verdict::OkDrift => GOOD,
        Verdict::Conditional | Verdict::Unknown => WARN,
        Verdict::FailAttach | Verdict::FailSymbol | Verdict::FailReloc => BAD,
    }
}

/// A line for each cause, in the order that was asked for.
fn print_causes(
    out: &mut Output,
    summary: &Summary<'_>,
    weighed: Option<&Weighed<'_>>,
    inputs: &Inputs<'_>,
    spread: &Spread,
    args: &CheckArgs,
) -> Result<(), Failure> {
    let causes = summary.causes(args);
    let shown = if args.details { causes.len() } else { CAUSES_SHOWN };
    for (cause, places) in causes.iter().take(shown) {
        print_cause(out, cause, places, weighed, inputs, spread, args)?;
    }
    if causes.len() > shown {
        let more = plural(causes.len() - shown, "more cause");
        out.prose(&format!("… and {more}; --details has them"), 0)?;
    }
    if causes.is_empty() { Ok(()) } else { out.line("") }
}

fn print_cause(
    out: &mut Output,
    cause: &Cause,
    places: &Places<'_>,
    weighed: Option<&Weighed<'_>>,
    inputs: &Inputs<'_>,
    spread: &Spread,
    args: &CheckArgs,
) -> Result<(), Failure> {
    let (style, word) = match cause.verdict.0 {
        Verdict::FailAttach | Verdict::FailSymbol | Verdict::FailReloc => (BAD, "fails"),
        Verdict::Unknown => (WARN, "unknown"),
        Verdict::OkDrift => (WARN, "drift"),
        _ => (WARN, "conditional"),
    };
    let kinds: Vec<&str> = places.kinds.iter().copied().collect();
    let kinds = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) };
    let optional = if places.in_default { "" } else { ", only in programs that need not load" };
    let on = spread.of_cause(places, inputs, weighed);
    let counts = format!("{}, {on}", plural(places.program_count(), "program"));
    let path = safe(&cause.path);
    let about = format!("{} {} {}{kinds}{optional}", paint(style, word), cause.code, paint(HEAD, &path));
    let (used, width) = (columns(&about), width());
    let space = width.min(COUNTS_AT + counts.len()).saturating_sub(used + columns(&counts));
    if space >= 2 {
        out.line(&format!("{about}{:space$}{counts}", ""))?;
    } else {
        out.prose(&about, 2)?;
        out.prose(&format!("    {counts}"), 4)?;
    }
    if args.details {
        print_places(out, places, inputs, spread)?;
    }
    match explain(places, inputs, args) {
        Some(command) => out.line(&paint(DIM, &format!("    {command}"))),
        None => Ok(()),
    }
}

/// The command that explains a cause, on the first kernel that it is on.
pub(super) fn explain(places: &Places<'_>, inputs: &Inputs<'_>, args: &CheckArgs) -> Option<String> {
    let place = places.objects.iter().min_by_key(|it| it.object)?;
    let programs = inputs.object(place.object)?.programs();
    let program = place.programs.iter().filter_map(|it| programs.get(*it)).next()?;
    let judged = |kernel: &usize| inputs.mismatch(place.object, *kernel).is_none();
    let on = (0..inputs.kernels.len()).filter(|it| places.on.get(*it) == Some(&true));
    let kernel = inputs.kernel_args.get(on.into_iter().find(judged)?)?;
    Some(format!(
        "btfleet explain {} --program {} --kernel {}{}",
        quoted(inputs.name_of(place.object)),
        quoted(&String::from_utf8_lossy(program.name)),
        quoted(kernel),
        args.for_explain()
    ))
}

/// What is said of a cause, where in the objects it is, and on which kernels.
fn print_places(
    out: &mut Output,
    places: &Places<'_>,
    inputs: &Inputs<'_>,
    spread: &Spread,
) -> Result<(), Failure> {
    let object_names = short_names(&inputs.objects);
    out.prose(&format!("    {}", places.message.as_ref().map_or("", |(_, message)| message)), 4)?;
    let mut objects: Vec<&Place<'_>> = places.objects.iter().collect();
    objects.sort_by_key(|it| it.object);
    for place in objects.iter().take(OBJECTS_PER_CAUSE) {
        let of_object = inputs.object(place.object).map(Object::programs).unwrap_or_default();
        let programs = place.programs.iter().filter_map(|it| of_object.get(*it));
        let names: BTreeSet<String> =
            programs.map(|it| String::from_utf8_lossy(it.name).into_owned()).collect();
        let object_name = object_names.get(place.object).map_or("", String::as_str);
        let show =
            |line: SourceLine<'_>| format!("  at {}:{}", String::from_utf8_lossy(line.file), line.line);
        let line = place.line.map(show).unwrap_or_default();
        let names: Vec<String> = names.into_iter().collect();
        out.prose(&format!("    {object_name}: {}{}", some_of(&names, NAMES_SHOWN), paint(DIM, &line)), 6)?;
    }
    if objects.len() > OBJECTS_PER_CAUSE {
        out.line(&format!("    and {}", plural(objects.len() - OBJECTS_PER_CAUSE, "more object")))?;
    }
    let on: Vec<String> = (0..inputs.kernels.len())
        .filter(|it| places.on.get(*it) == Some(&true))
        .map(|it| spread.release(it).to_owned())
        .collect();
    out.prose(&format!("    on {}", some_of(&on, NAMES_SHOWN)), 6)
}

/// Programs that are not fine everywhere, or objects if those are too many: a column for each series of kernels, or counts
/// where there is no space for that.
fn print_cells(
    out: &mut Output,
    summary: &Summary<'_>,
    inputs: &Inputs<'_>,
    spread: &Spread,
    args: &CheckArgs,
) -> Result<(), Failure> {
    let names = short_names(&inputs.objects);
    let name_of = |object: usize| names.get(object).map_or("", String::as_str);
    let takes = |cells: &[Cell]| {
        args.only.is_none_or(|only| cells.iter().any(|it| matches!(it, Cell::Verdict(it) if only.takes(*it))))
    };
    let mut rows: Vec<(String, &[Cell])> = Vec::new();
    if args.details || summary.programs.len() <= ROWS_SHOWN {
        for ((object, program), cells) in summary.programs.iter().filter(|it| takes(it.1)) {
            let programs = inputs.object(*object).map(Object::programs).unwrap_or_default();
            let program =
                programs.get(*program).map(|it| String::from_utf8_lossy(it.name)).unwrap_or_default();
            let name =
                if inputs.objects.len() == 1 { String::new() } else { format!("{} ", name_of(*object)) };
            rows.push((format!("{name}{}", safe(&program)), cells));
        }
    } else {
        let objects = summary.cells.iter().filter(|it| takes(it.1));
        rows.extend(objects.map(|(object, cells)| (name_of(*object).to_owned(), cells.as_slice())));
    }
    // What is judged nowhere says nothing.
    rows.retain(|it| it.1.iter().any(|it| matches!(it, Cell::Verdict(_))));
    // The worst on most kernels first.
    let badness = |cells: &[Cell]| {
        let worst = cells.iter().map(|it| it.rank()).max().unwrap_or(0);
        (worst, cells.iter().filter(|it| it.rank() == worst).count())
    };
    rows.sort_by_key(|it| std::cmp::Reverse(badness(it.1)));
    let bad_on =
        |cells: &[Cell]| cells.iter().filter(|it| it.rank() > Cell::Verdict(Verdict::Ok).rank()).count();
    match args.sort {
        // A row is one program: there is nothing to count.
        Sort::Worst | Sort::Programs => {}
        Sort::Name => rows.sort_by(|a, b| a.0.cmp(&b.0)),
        Sort::Kernels => rows.sort_by_key(|it| std::cmp::Reverse(bad_on(it.1))),
    }
    if rows.is_empty() {
        return Ok(());
    }
    let shown = if args.details { rows.len() } else { ROWS_SHOWN };
    let series = spread.columns();
    let for_names = width().saturating_sub(series.len() * CELL);
    let longest = rows.iter().take(shown).map(|it| columns(&it.0)).max().unwrap_or(0);
    let name_width = longest.min(for_names);
    let in_columns = for_names >= NAME_MIN.min(longest) && series.len() > 1;
    if in_columns {
        let heads = series.iter().fold(String::new(), |text, it| format!("{text} {:<7}", it.label));
        out.line(&paint(HEAD, format!("{:name_width$}{heads}", "").trim_end()))?;
        let counts = series.iter().fold(String::new(), |text, it| {
            let count = if it.kernels.len() > 1 { format!("×{}", it.kernels.len()) } else { String::new() };
            format!("{text} {count:<7}")
        });
        if !counts.trim().is_empty() {
            out.line(&paint(DIM, format!("{:name_width$}{counts}", "").trim_end()))?;
        }
    }
    for (name, cells) in rows.iter().take(shown) {
        if in_columns {
            let cells = (1..).zip(&series).fold(String::new(), |text, (number, it)| {
                let pad = if number == series.len() { 0 } else { CELL - 1 };
                format!("{text} {}", show_cells(cells, it, pad))
            });
            let name = padded(&cut_start(name, name_width), name_width);
            out.line(format!("{name}{cells}").trim_end())?;
        } else {
            let (name_width, counts) = (longest.min(width() / 2), count_cells(cells));
            let line = format!("{}  {counts}", padded(&cut_start(name, name_width), name_width));
            if columns(&line) <= width() {
                out.line(&line)?;
            } else {
                out.line(&cut_start(name, width()))?;
                out.prose(&format!("    {counts}"), 4)?;
            }
        }
    }
    if rows.len() > shown {
        out.prose(&format!("… and {} more; --details has them", rows.len() - shown), 0)?;
    }
    out.line("")
}

/// The worst over the kernels of a column, with how many of them have it if not all do.
fn show_cells(cells: &[Cell], column: &Column, pad: usize) -> String {
    let of_column = || column.kernels.iter().filter_map(|it| cells.get(*it));
    let worst = of_column().max_by_key(|it| it.rank()).copied().unwrap_or(Cell::NotJudged);
    let count = of_column().filter(|it| it.rank() == worst.rank()).count();
    let judged = of_column().filter(|it| **it != Cell::NotJudged).count();
    let (style, word) = match worst {
        Cell::Verdict(Verdict::Ok) => (GOOD, "ok"),
        Cell::Verdict(Verdict::OkDrift) => (GOOD, "drift"),
        Cell::Verdict(Verdict::Conditional) => (WARN, "cond"),
        Cell::Verdict(Verdict::Unknown) => (WARN, "unkn"),
        Cell::Verdict(Verdict::FailAttach | Verdict::FailSymbol | Verdict::FailReloc) => (BAD, "fail"),
        Cell::NoPrograms => (DIM, "none"),
        Cell::NotJudged => (DIM, "-"),
    };
    let text =
        if count == judged || worst == Cell::NotJudged { word.to_owned() } else { format!("{word} {count}") };
    paint(style, &format!("{text:<pad$}"))
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
