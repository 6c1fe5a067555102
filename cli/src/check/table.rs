//! The summary of a run for people.

use std::collections::BTreeSet;

use btfleet_engine::object::{Object, SourceLine};
use btfleet_engine::report::Verdict;

use super::inventory::Weighed;
use super::spread::{Column, Spread};
use super::summary::{Cause, Cell, Place, Places, Summary};
use crate::args::CheckArgs;
use crate::copies;
use crate::load::Inputs;
use crate::output::{BAD, DIM, Failure, GOOD, HEAD, Output, WARN, paint, plural, quoted, width};

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
    out.line(&paint(
        HEAD,
        &format!(
            "{} with {} on {}{releases}",
            plural(inputs.objects.len(), "object"),
            plural(
                (0..inputs.objects.len()).filter_map(|it| inputs.object(it)).map(entries).sum(),
                "program"
            ),
            plural(inputs.kernels.len(), "kernel"),
        ),
    ))?;
    let mut parts = Vec::new();
    for (verdict, count) in summary.counts.iter().rev() {
        parts.push(format!("{} {count}", paint(style(*verdict), verdict.name())));
    }
    for (why, pairs) in &summary.pairs_not_judged {
        parts.push(format!("{pairs} object-kernel pairs not judged ({why})"));
    }
    if parts.is_empty() {
        parts.push("nothing to judge".into());
    }
    out.line(&parts.join(", "))?;
    if let Some(remark) = copies::remark(inputs) {
        out.line(&remark)?;
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

/// A line for each cause, the worst first; of equals, what hits most programs on most kernels.
fn print_causes(
    out: &mut Output,
    summary: &Summary<'_>,
    weighed: Option<&Weighed<'_>>,
    inputs: &Inputs<'_>,
    spread: &Spread,
    args: &CheckArgs,
) -> Result<(), Failure> {
    let is_shown = |cause: &Cause| args.only.is_none_or(|it| it.takes(cause.verdict.0));
    let mut causes: Vec<_> = summary.causes.iter().filter(|it| is_shown(it.0)).collect();
    causes.sort_by_key(|(cause, places)| (cause.verdict, std::cmp::Reverse(places.count)));
    let shown = if args.details { causes.len() } else { CAUSES_SHOWN };
    for (cause, places) in causes.iter().take(shown) {
        print_cause(out, cause, places, weighed, inputs, spread, args.details)?;
    }
    if causes.len() > shown {
        let causes = match causes.len() - shown {
            1 => "1 more cause".to_owned(),
            more => format!("{more} more causes"),
        };
        out.line(&format!("… and {causes}; --details has them"))?;
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
    details: bool,
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
    let programs: usize = places.objects.iter().map(|it| distinct(&it.programs)).sum();
    let counts = format!("{}, {on}", plural(programs, "program"));
    let plain = format!("{word} {} {}{kinds}{optional}", cause.code, cause.path);
    let painted =
        format!("{} {} {}{kinds}{optional}", paint(style, word), cause.code, paint(HEAD, &cause.path));
    let (used, width) = (plain.chars().count(), width());
    let space = width.min(COUNTS_AT + counts.len()).saturating_sub(used + counts.chars().count());
    if space >= 2 {
        out.line(&format!("{painted}{:space$}{counts}", ""))?;
    } else {
        out.line(&painted)?;
        out.line(&format!("    {counts}"))?;
    }
    if details {
        print_places(out, places, inputs, spread)?;
    }
    match explain(places, inputs) {
        Some(command) => out.line(&paint(DIM, &format!("    {command}"))),
        None => Ok(()),
    }
}

/// How many programs these are.
pub(super) fn distinct(programs: &[usize]) -> usize {
    programs.iter().collect::<BTreeSet<_>>().len()
}

/// The command that explains a cause, on the first kernel that it is on.
pub(super) fn explain(places: &Places<'_>, inputs: &Inputs<'_>) -> Option<String> {
    let place = places.objects.iter().min_by_key(|it| it.object)?;
    let programs = inputs.object(place.object)?.programs();
    let program = place.programs.iter().filter_map(|it| programs.get(*it)).next()?;
    let judged = |kernel: &usize| inputs.mismatch(place.object, *kernel).is_none();
    let on = (0..inputs.kernels.len()).filter(|it| places.on.get(*it) == Some(&true));
    let kernel = inputs.kernel_args.get(on.into_iter().find(judged)?)?;
    Some(format!(
        "btfleet explain {} --program {} --kernel {}",
        quoted(inputs.name_of(place.object)),
        quoted(&String::from_utf8_lossy(program.name)),
        quoted(kernel)
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
    out.line(&format!("    {}", places.message.as_ref().map_or("", |(_, message)| message)))?;
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
        out.line(&format!("    {object_name}: {}{}", some_of(&names), paint(DIM, &line)))?;
    }
    if objects.len() > OBJECTS_PER_CAUSE {
        out.line(&format!("    and {} more objects", objects.len() - OBJECTS_PER_CAUSE))?;
    }
    let on: Vec<String> = (0..inputs.kernels.len())
        .filter(|it| places.on.get(*it) == Some(&true))
        .map(|it| spread.release(it).to_owned())
        .collect();
    out.line(&format!("    on {}", some_of(&on)))
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
            rows.push((format!("{name}{program}"), cells));
        }
    } else {
        let objects = summary.cells.iter().filter(|it| takes(it.1));
        rows.extend(objects.map(|(object, cells)| (name_of(*object).to_owned(), cells.as_slice())));
    }
    // The worst on most kernels first; what is judged nowhere says nothing.
    rows.retain(|it| it.1.iter().any(|it| matches!(it, Cell::Verdict(_))));
    let badness = |cells: &[Cell]| {
        let worst = cells.iter().map(|it| it.rank()).max().unwrap_or(0);
        (worst, cells.iter().filter(|it| it.rank() == worst).count())
    };
    rows.sort_by_key(|it| std::cmp::Reverse(badness(it.1)));
    if rows.is_empty() {
        return Ok(());
    }
    let shown = if args.details { rows.len() } else { ROWS_SHOWN };
    let columns = spread.columns();
    let for_names = width().saturating_sub(columns.len() * CELL);
    let longest = rows.iter().take(shown).map(|it| it.0.chars().count()).max().unwrap_or(0);
    let name_width = longest.min(for_names);
    let in_columns = for_names >= NAME_MIN.min(longest) && columns.len() > 1;
    if in_columns {
        let heads = columns.iter().fold(String::new(), |text, it| format!("{text} {:<7}", it.label));
        out.line(&paint(HEAD, format!("{:name_width$}{heads}", "").trim_end()))?;
        let counts = columns.iter().fold(String::new(), |text, it| {
            let count = if it.kernels.len() > 1 { format!("×{}", it.kernels.len()) } else { String::new() };
            format!("{text} {count:<7}")
        });
        if !counts.trim().is_empty() {
            out.line(&paint(DIM, format!("{:name_width$}{counts}", "").trim_end()))?;
        }
    }
    let name_width = if in_columns { name_width } else { longest.min(width() / 2) };
    for (name, cells) in rows.iter().take(shown) {
        let cells = match in_columns {
            true => (1..).zip(&columns).fold(String::new(), |text, (number, it)| {
                let pad = if number == columns.len() { 0 } else { CELL - 1 };
                format!("{text} {}", show_cells(cells, it, pad))
            }),
            false => format!("  {}", count_cells(cells)),
        };
        out.line(format!("{:name_width$}{cells}", cut(name, name_width)).trim_end())?;
    }
    if rows.len() > shown {
        out.line(&format!("… and {} more; --details has them", rows.len() - shown))?;
    }
    out.line("")
}

/// The end of a text, which says more of a path than its start.
fn cut(text: &str, width: usize) -> String {
    match text.chars().count() {
        len if len <= width => text.to_owned(),
        len => {
            let end: String = text.chars().skip(len - width.saturating_sub(1)).collect();
            format!("…{end}")
        }
    }
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

/// Lines of at most `width` characters, split at spaces.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut().filter(|it| it.chars().count() + 1 + word.chars().count() <= width) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

fn some_of(names: &[String]) -> String {
    let shown = names.get(..NAMES_SHOWN).unwrap_or(names);
    let mut text = shown.join(", ");
    if names.len() > shown.len() {
        text.push_str(&format!(" and {} more", names.len() - shown.len()));
    }
    text
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
