//! `btfleet explain`: one record or one program on one kernel, for a reader who knows C and not CO-RE.

mod history;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use btfleet_engine::batch::{Batch, Folded, Run};
use btfleet_engine::depend::Survey;
use btfleet_engine::dialect::Loader;
use btfleet_engine::embed::{Inputs, Loaders};
use btfleet_engine::explain::{
    CandidateReport, CandidateState, Explanation, Layout, Side, explain, show_offset,
};
use btfleet_engine::fleet::Modules;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::{Object, Reloc};
use btfleet_engine::report::{self, Effect, Finding, ProgramVerdict, Route, Stop, Verdict, World};
use btfleet_engine::resolve::Outcome;
use serde_json::{Value, json};

use crate::args::{ExplainArgs, ExplainFormat, InputArgs, ValidateArg};
use crate::load;
use crate::loader::{loaders, release_in_name};
use crate::output::{
    BAD, DIM, Exit, Failure, GOOD, HEAD, Output, WARN, message, paint, plural, quoted, width,
};
use crate::project::what_about;
use crate::text::{cut, padded};
use crate::world::world;

/// Records listed, and candidates shown, before it says how many more there are.
const RECORDS_SHOWN: usize = 12;
const CANDIDATES_SHOWN: usize = 3;
/// Records that are listed if there is none as asked for.
const RECORDS_NEAR: usize = 40;
/// Branches of a route that are shown, the last ones.
const STOPS_SHOWN: usize = 4;
/// Series of kernels that are shown.
const SERIES_SHOWN: usize = 8;
/// Columns of a layout: at most, and where two of them stand side by side at least.
const LAYOUT_MAX: usize = 42;
const LAYOUT_MIN: usize = 30;
/// Columns in front of what stands behind a heading.
const HEADING: usize = 9;

/// What is being explained, and how it is called.
struct Subject<'a> {
    object_name: &'a str,
    kernel_name: &'a str,
    object: &'a Object<'a>,
    kernel: &'a Kernel<'a>,
    /// Number of the kernel in the run.
    number: usize,
    /// Whose answers these are.
    loader: Loader,
    modules: Modules,
    run: &'a Run<'a>,
    /// What programs need beside records: judged as libbpf loads them.
    survey: Option<&'a Survey<'a>>,
    world: &'a World,
    /// All records of the object on all kernels.
    folded: &'a Folded<'a>,
    /// Of several kernels: in the order of their releases.
    series: Vec<history::Series>,
}

/// The file that an object is in: the name of one inside of it is the file's, `!/`, and where it was found there.
fn file_of(object: &OsStr) -> OsString {
    let inside = object.to_str().and_then(|it| it.split_once("!/")).filter(|_| !Path::new(object).exists());
    inside.map_or(object, |(file, _)| OsStr::new(file)).to_owned()
}

/// Leaves only the object of that name.
fn keep_one(inputs: &mut Inputs<'_>, name: &str) -> Result<(), Failure> {
    inputs.objects.retain(|it| it.name == name);
    let Some(object) = inputs.objects.first_mut() else {
        return Err(Failure::Usage(format!("there is no object {name}")));
    };
    inputs.distinct = vec![inputs.distinct.swap_remove(object.distinct)];
    object.distinct = 0;
    inputs.objects.truncate(1);
    Ok(())
}

pub(crate) fn run(args: &ExplainArgs) -> Result<Exit, Failure> {
    let batch = Batch::new(1).map_err(Failure::System)?;
    let input_args = InputArgs {
        objects: vec![file_of(&args.object)],
        kernels: vec![args.kernel.clone()],
        modules: args.modules,
        jobs: 1,
        filter: None,
    };
    let files = load::read(&input_args, &batch)?;
    let mut inputs = load::parse(&files, &batch, None)?;
    if input_args.objects.first() != Some(&args.object) {
        keep_one(&mut inputs, &args.object.to_string_lossy())?;
    }
    if args.validating.validate == ValidateArg::Off {
        let why = "explain says what a loader makes of a record, so --validate cannot be off";
        return Err(Failure::Usage(why.into()));
    }
    if inputs.objects.len() > 1 {
        let (arg, count) = (args.object.to_string_lossy(), inputs.objects.len());
        let (count, one) = (plural(count, "object"), quoted(inputs.name_of(0)));
        return Err(Failure::Usage(format!("{arg} names {count}; explain takes one, such as {one}")));
    }
    let (Some(object), Some(_)) = (inputs.object(0), inputs.kernels.first()) else {
        return Ok(Exit::NotJudged);
    };
    // Of many kernels, those whose release is not known are left out; of one, it has to be given.
    let by_kernel = match inputs.kernels.len() {
        1 => loaders(args.loader, &inputs.kernel_names)?,
        _ => Loaders::where_known(args.loader, &inputs.kernel_names, release_in_name),
    };
    let judged = |it: &usize| inputs.refusal(&by_kernel, 0, *it).is_none();
    let kernels: Vec<usize> = (0..inputs.kernels.len()).filter(judged).collect();
    let Some(&newest) = kernels.last() else {
        message(&format!("btfleet: {}", inputs.refusal(&by_kernel, 0, 0).map_or("", |it| it.why)));
        return Ok(Exit::NotJudged);
    };
    let modules = args.modules.into();
    let world = world(&args.world, &inputs)?;
    let run = history::run(&inputs, object, &batch, &by_kernel, modules, args.validating.into());
    let survey =
        by_kernel.is_libbpf().then(|| Survey::new(&batch, &inputs.distinct, &inputs.kernels, modules));
    let folded = run.fold(0, |_| true);
    let selected = select(object, args);
    let fails =
        |kernel: &usize| selected.iter().any(|it| folded.outcome(*it, *kernel).is_some_and(is_problem));
    let number = kernels.iter().copied().find(fails).unwrap_or(newest);
    let Some(kernel) = inputs.kernels.get(number) else { return Ok(Exit::NotJudged) };
    let subject = Subject {
        object_name: inputs.name_of(0),
        kernel_name: inputs.kernel_names.get(number).copied().unwrap_or_default(),
        object,
        kernel,
        number,
        loader: by_kernel.of(number),
        modules,
        run: &run,
        survey: survey.as_ref(),
        world: &world,
        folded: &folded,
        series: if inputs.kernels.len() > 1 { history::series(&inputs) } else { Vec::new() },
    };
    let verdicts = verdicts(&subject, args);
    let has_needs = verdicts.iter().any(|it| it.findings.iter().any(|it| it.reloc.is_none()));
    if selected.is_empty() && !has_needs {
        return no_such_record(&subject, args);
    }
    let mut out = Output::new();
    match args.format {
        ExplainFormat::Json => {
            let explained = |&number: &usize| {
                let reloc = subject.object.relocs().get(number)?;
                let explanation =
                    explain(subject.object, subject.kernel, subject.loader, subject.modules, number)?;
                Some(to_json(&subject, number, reloc, &explanation))
            };
            let records: Vec<Value> = selected.iter().filter_map(explained).collect();
            let all = json!({
                "v": 1,
                "t": "explain",
                "object": subject.object_name,
                "kernel": subject.kernel_name,
                "models": subject.loader.to_string(),
                "verdicts": verdicts.iter().map(|it| verdict_json(&subject, it)).collect::<Vec<Value>>(),
                "records": records,
            });
            let text = serde_json::to_string_pretty(&all).map_err(|it| Failure::System(it.to_string()))?;
            out.write(text.as_bytes())?;
            out.line("")?;
        }
        ExplainFormat::Text => text(&mut out, &subject, &selected, &verdicts, args)?,
    }
    out.finish()?;
    inputs.check_packs()?;
    Ok(Exit::Fine)
}

/// Verdicts on the programs that were asked for, if whole programs were.
fn verdicts(subject: &Subject<'_>, args: &ExplainArgs) -> Vec<ProgramVerdict> {
    if args.insn.is_some() {
        return Vec::new();
    }
    let all = report::check(subject.run, subject.survey, subject.world, 0);
    let is_wanted = |it: &&ProgramVerdict| {
        let program = subject.object.programs().get(it.program);
        program.is_some_and(|program| {
            let is = |wanted: &Option<String>, name: &[u8]| {
                wanted.as_ref().is_none_or(|it| *it == String::from_utf8_lossy(name))
            };
            is(&args.program, program.name) && is(&args.section, program.section)
        })
    };
    let wanted = all.on(subject.number).unwrap_or_default().iter().filter(is_wanted);
    wanted.cloned().collect()
}

fn program_name(object: &Object<'_>, reloc: &Reloc<'_>) -> Option<String> {
    let program = object.programs().get(reloc.program?)?;
    Some(String::from_utf8_lossy(program.name).into_owned())
}

/// Numbers of the records that were asked for.
fn select(object: &Object<'_>, args: &ExplainArgs) -> Vec<usize> {
    let wanted = |reloc: &Reloc<'_>| {
        let section = String::from_utf8_lossy(reloc.section);
        args.section.as_ref().is_none_or(|it| *it == section)
            && args.insn.is_none_or(|it| it == reloc.insn_off)
            && args.program.as_ref().is_none_or(|it| program_name(object, reloc).as_ref() == Some(it))
    };
    let numbered = object.relocs().iter().enumerate();
    numbered.filter(|(_, reloc)| wanted(reloc)).map(|(number, _)| number).collect()
}

/// Lists the records that there are, as near to what was asked for as possible.
fn no_such_record(subject: &Subject<'_>, args: &ExplainArgs) -> Result<Exit, Failure> {
    let object = subject.object;
    if object.relocs().is_empty() {
        return Err(Failure::Usage(format!("{} has no CO-RE records", subject.object_name)));
    }
    let mut near = select(object, &ExplainArgs { insn: None, ..args.clone() });
    if near.is_empty() {
        near = (0..object.relocs().len()).collect();
    }
    message("btfleet: there is no such record; these there are:");
    for reloc in near.iter().take(RECORDS_NEAR).filter_map(|it| object.relocs().get(*it)) {
        let program = program_name(object, reloc).unwrap_or_else(|| "no program".into());
        message(&format!("  {}  ({program}: {})", options(reloc), object.path(reloc)));
    }
    if near.len() > RECORDS_NEAR {
        message(&format!("  … and {} more", near.len() - RECORDS_NEAR));
    }
    Ok(Exit::Usage)
}

/// What has to be typed for one record.
fn options(reloc: &Reloc<'_>) -> String {
    format!("--section {} --insn {}", quoted(&String::from_utf8_lossy(reloc.section)), reloc.insn_off)
}

fn is_problem(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Skipped => false,
        Outcome::Fatal(_) | Outcome::ModuleDependent(_) => true,
        Outcome::Decided(decision) => decision.poisoned,
    }
}

fn text(
    out: &mut Output,
    subject: &Subject<'_>,
    selected: &[usize],
    verdicts: &[ProgramVerdict],
    args: &ExplainArgs,
) -> Result<(), Failure> {
    let outcomes = subject.folded.on(subject.number);
    let problems: Vec<usize> =
        selected.iter().copied().filter(|it| outcomes.get(*it).is_some_and(|it| is_problem(it))).collect();
    programs(out, subject, selected, verdicts)?;
    let groups = group(subject.object, &outcomes, &problems);
    let full = if selected.len() == 1 || args.insn.is_some() || args.verbose {
        selected
    } else if groups.len() == 1 {
        problems.get(..1).unwrap_or_default()
    } else {
        &[]
    };
    if !full.is_empty() {
        for (nth, &number) in full.iter().enumerate() {
            if nth > 0 {
                out.line("")?;
            }
            one(out, subject, number, args.verbose)?;
        }
        if full.len() < selected.len() {
            let alike = problems.len().saturating_sub(full.len());
            let fine = selected.len() - problems.len().max(full.len());
            let mut rest = Vec::new();
            if alike > 0 {
                rest.push(format!("{} of the same: --verbose shows them.", plural(alike, "more record")));
            }
            match fine {
                0 => {}
                1 => rest.push("The other record resolves.".to_owned()),
                fine => rest.push(format!("The other {fine} records resolve.")),
            }
            for line in rest {
                out.line("")?;
                out.prose(&paint(DIM, &line), 0)?;
            }
        }
        return Ok(());
    }
    let what = args.program.as_ref().map_or(subject.object_name, String::as_str);
    out.prose(&format!("{} on {}", paint(HEAD, what), subject.kernel_name), 2)?;
    if selected.is_empty() {
        return out.line("It has no CO-RE records.");
    }
    if problems.is_empty() {
        out.prose(&format!("{} {} resolve.", paint(GOOD, "All"), plural(selected.len(), "record")), 0)?;
        return Ok(());
    }
    let records = plural(selected.len(), "record");
    out.prose(&format!("{} of {records} do not resolve:", problems.len()), 0)?;
    for records in groups.iter().take(RECORDS_SHOWN) {
        let Some(&number) = records.first() else { continue };
        let (Some(reloc), Some(explanation)) = (
            subject.object.relocs().get(number),
            explain(subject.object, subject.kernel, subject.loader, subject.modules, number),
        ) else {
            continue;
        };
        out.line("")?;
        let (code, path) = (code_of(&explanation.outcome), paint(HEAD, &subject.object.path(reloc)));
        out.prose(&format!("{code} {path}{}", source(subject.object, reloc)), 4)?;
        if let Some(first) = explanation.candidates.first() {
            out.prose(&format!("    {}", candidate_line(subject.object, first)), 6)?;
        }
        if let Some(nearest) = explanation.nearest.first() {
            out.prose(&format!("    nearest: {nearest}"), 6)?;
        }
        let alike = match records.len() {
            1 => String::new(),
            count => format!(", and {} more of the same", plural(count - 1, "record")),
        };
        out.line(&paint(DIM, &format!("    more: {}{alike}", options(reloc))))?;
    }
    if groups.len() > RECORDS_SHOWN {
        out.line("")?;
        out.prose(&format!("… and {} more; --verbose explains all", groups.len() - RECORDS_SHOWN), 0)?;
    }
    Ok(())
}

/// What programs come to, what they need beside their records and do not find, and what these records read otherwise than
/// the program was compiled to.
fn programs(
    out: &mut Output,
    subject: &Subject<'_>,
    selected: &[usize],
    verdicts: &[ProgramVerdict],
) -> Result<(), Failure> {
    for verdict in verdicts.iter().take(RECORDS_SHOWN) {
        let Some(program) = subject.object.programs().get(verdict.program) else { continue };
        let style = match verdict.verdict {
            Verdict::Ok | Verdict::OkDrift => GOOD,
            Verdict::Conditional | Verdict::Unknown => WARN,
            Verdict::FailAttach | Verdict::FailSymbol | Verdict::FailReloc => BAD,
        };
        let name = String::from_utf8_lossy(program.name);
        out.prose(&format!("{} {name}", paint(style, &format!("{:<11}", verdict.verdict.name()))), 4)?;
    }
    if verdicts.len() > RECORDS_SHOWN {
        out.line(&format!("… and {} more", plural(verdicts.len() - RECORDS_SHOWN, "program")))?;
    }
    for verdict in verdicts {
        let Some(program) = subject.object.programs().get(verdict.program) else { continue };
        // Records that do not resolve are explained one by one.
        let is_told = |it: &&Finding| match it.reloc {
            Some(record) => it.effect == Effect::Drift && selected.contains(&record),
            None => it.verdict > Verdict::Ok,
        };
        for finding in verdict.findings.iter().filter(is_told) {
            let style = if finding.verdict >= Verdict::FailAttach { BAD } else { WARN };
            let about = &what_about(subject.object, finding);
            let program = String::from_utf8_lossy(program.name);
            let (code, about) = (paint(style, finding.code), paint(HEAD, about));
            out.prose(&format!("{code} {about} in {program}"), 4)?;
            out.prose(&format!("    {}", finding.message), 4)?;
        }
    }
    if verdicts.is_empty() { Ok(()) } else { out.line("") }
}

fn verdict_json(subject: &Subject<'_>, verdict: &ProgramVerdict) -> Value {
    let program = subject.object.programs().get(verdict.program);
    let findings = verdict.findings.iter().map(|it| {
        json!({ "code": it.code, "effect": it.effect.name(), "subject": it.subject, "message": it.message })
    });
    json!({
        "program": program.map(|it| String::from_utf8_lossy(it.name)),
        "section": program.map(|it| String::from_utf8_lossy(it.section)),
        "verdict": verdict.verdict.name(),
        "assumptions": verdict.assumptions,
        "findings": findings.collect::<Vec<Value>>(),
    })
}

/// The routes to a poisoned record, by entry program that has it: its name, and the route. Equal ones are told once.
fn routes(subject: &Subject<'_>, number: usize) -> Vec<(String, Route)> {
    let object = subject.object;
    let Some(owner) = object.relocs().get(number).and_then(|it| it.program) else { return Vec::new() };
    let entries = object.programs().iter().enumerate().filter(|(_, it)| !it.is_subprogram);
    let linked = entries.filter(|(it, _)| object.linked_functions(*it).contains(&owner));
    let mut found: Vec<(String, Route)> = Vec::new();
    for (program, it) in linked {
        let name = String::from_utf8_lossy(it.name).into_owned();
        let all = report::routes(subject.run, subject.survey, subject.world, 0, program, subject.number);
        if let Some(route) = all.into_iter().find(|it| it.record == number)
            && !found.iter().any(|(_, known)| *known == route)
        {
            found.push((name, route));
        }
    }
    found
}

/// A heading, and what is said under it.
fn headed(out: &mut Output, heading: &str, text: &str) -> Result<(), Failure> {
    out.prose(&format!("{}  {text}", paint(HEAD, &format!("{heading:<7}"))), HEADING)
}

/// Lines behind a heading that stands further up.
fn below(out: &mut Output, text: &str) -> Result<(), Failure> {
    out.prose(&format!("{:HEADING$}{text}", ""), HEADING + 2)
}

/// Whether the verifier gets to a poisoned instruction, and by what branches.
fn reached(out: &mut Output, subject: &Subject<'_>, number: usize, verbose: bool) -> Result<(), Failure> {
    for (program, route) in routes(subject, number) {
        let (style, answer) = match route.is_reached {
            Some(true) => (BAD, "yes: the verifier gets to the poisoned instruction and refuses the program"),
            Some(false) => (GOOD, "no: the verifier never gets to the poisoned instruction"),
            None => (WARN, "open: it depends on what is not known"),
        };
        let head = paint(HEAD, "reached");
        out.prose(&format!("{head}  in {program}: {}", paint(style, answer)), HEADING)?;
        let is_dead = route.is_reached == Some(false);
        // Of a path, what decides it stands near its end.
        let skipped = if verbose || is_dead { 0 } else { route.stops.len().saturating_sub(STOPS_SHOWN) };
        if skipped > 0 {
            below(
                out,
                &format!(
                    "… {} before",
                    if skipped == 1 { "1 branch".into() } else { format!("{skipped} branches") }
                ),
            )?;
        }
        for Stop { place, text, is_decided, because } in route.stops.iter().skip(skipped) {
            let how = match (is_dead, is_decided) {
                (true, _) => "always goes another way",
                (false, true) => "always goes this way",
                (false, false) => "may go this way",
            };
            let because =
                if because.is_empty() { String::new() } else { format!(": {}", because.join(", ")) };
            below(out, &format!("{place} `{text}` {how}{because}"))?;
        }
        for assumed in &route.assumed {
            below(out, &format!("given that {assumed}"))?;
        }
    }
    Ok(())
}

/// Since when it is so.
fn told_history(
    out: &mut Output,
    subject: &Subject<'_>,
    number: usize,
    verbose: bool,
) -> Result<(), Failure> {
    let lines = history::lines(&subject.series, subject.folded, number);
    let shown = if verbose { lines.len() } else { SERIES_SHOWN };
    for (nth, line) in lines.iter().take(shown).enumerate() {
        let head = if nth == 0 { paint(HEAD, "history") } else { "       ".into() };
        out.prose(&format!("{head}  {line}"), HEADING + 2)?;
    }
    if lines.len() > shown {
        below(out, &format!("… and {} more; --verbose shows all", lines.len() - shown))?;
    }
    Ok(())
}

/// Records that fail in the same way at the same path, the first of each in their order.
fn group(object: &Object<'_>, outcomes: &[&Outcome], problems: &[usize]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
    for &number in problems {
        let (Some(reloc), Some(outcome)) = (object.relocs().get(number), outcomes.get(number)) else {
            continue;
        };
        let key = format!("{} {}", plain_code(outcome), object.path(reloc));
        match groups.iter_mut().find(|(it, _)| *it == key) {
            Some((_, records)) => records.push(number),
            None => groups.push((key, vec![number])),
        }
    }
    groups.into_iter().map(|(_, records)| records).collect()
}

fn plain_code(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Skipped => "skipped",
        Outcome::Fatal(error) => error.code(),
        Outcome::ModuleDependent(_) => "module-dependent",
        Outcome::Decided(decision) => decision.code.name(),
    }
}

fn code_of(outcome: &Outcome) -> String {
    let style = match outcome {
        Outcome::Skipped => DIM,
        Outcome::Fatal(_) => BAD,
        Outcome::ModuleDependent(_) => WARN,
        Outcome::Decided(decision) if decision.poisoned => WARN,
        Outcome::Decided(_) => GOOD,
    };
    paint(style, plain_code(outcome))
}

fn source(object: &Object<'_>, reloc: &Reloc<'_>) -> String {
    match object.source_line(reloc) {
        Some(line) => format!("  at {}:{}", String::from_utf8_lossy(line.file), line.line),
        None => String::new(),
    }
}

/// One record in full: at most a screen.
fn one(out: &mut Output, subject: &Subject<'_>, number: usize, verbose: bool) -> Result<(), Failure> {
    let object = subject.object;
    let (Some(reloc), Some(it)) = (
        object.relocs().get(number),
        explain(object, subject.kernel, subject.loader, subject.modules, number),
    ) else {
        return Ok(());
    };
    let program = program_name(object, reloc).unwrap_or_else(|| "no program".into());
    let section = String::from_utf8_lossy(reloc.section);
    let place = format!("({section}+{})", reloc.insn_off);
    out.prose(&format!("{} in {program} {place}", paint(HEAD, &object.path(reloc))), 2)?;
    if let Some(line) = object.source_line(reloc) {
        let text = String::from_utf8_lossy(line.text);
        let text = format!("{}:{}: {}", String::from_utf8_lossy(line.file), line.line, text.trim());
        out.line(&cut(&text, width()))?;
    }
    let loader = match subject.loader {
        Loader::Libbpf => String::new(),
        other => format!(", loaded by {other}"),
    };
    let (code, why) = (code_of(&it.outcome), reason(&it.outcome));
    out.prose(&format!("on {}{loader}: {code}{why}", subject.kernel_name), 2)?;
    out.line("")?;
    out.prose(&it.meaning, 0)?;
    for step in &it.advice {
        out.prose(&format!("  → {step}"), 4)?;
    }
    out.line("")?;

    headed(out, "wanted", &format!("{}: {}", kind_in_words(reloc), side_line(&it.local)))?;
    if let (Some(side), true) = (&it.target, it.candidates.iter().any(is_match)) {
        headed(out, "kernel", &side_line(side))?;
    }
    if it.candidates.is_empty() && matches!(it.outcome, Outcome::Decided(_)) && reloc.question.is_ok() {
        let none = "has no type of that name and kind";
        if !matches!(&it.outcome, Outcome::Decided(decision) if decision.new == Some(decision.orig)) {
            headed(out, "kernel", none)?;
        }
    }
    let shown = if verbose { it.candidates.len() } else { CANDIDATES_SHOWN };
    for candidate in it.candidates.iter().take(shown) {
        headed(out, "looked", &candidate_line(object, candidate))?;
    }
    if it.candidates.len() > shown {
        below(out, &format!("… and {} more", it.candidates.len() - shown))?;
    }
    if !it.nearest.is_empty() {
        headed(out, "nearest", &it.nearest.join(", "))?;
    }
    if let Some(validate) = &it.validate {
        headed(out, "checked", validate)?;
    }
    let after = it.insn_after.as_ref().map(|after| format!("  →  {after}")).unwrap_or_default();
    headed(out, "insn", &format!("{}{after}", it.insn_before))?;
    if matches!(&it.outcome, Outcome::Decided(decision) if decision.poisoned) {
        reached(out, subject, number, verbose)?;
    }
    told_history(out, subject, number, verbose)?;
    for quirk in &it.quirks {
        headed(out, "note", quirk)?;
    }
    layouts(out, &it)?;
    if !it.log.is_empty() {
        out.line("")?;
        let heading = match it.outcome {
            Outcome::Fatal(_) => "libbpf logs",
            _ => "libbpf logs, if the verifier reaches it",
        };
        out.prose(&paint(HEAD, heading), 0)?;
        // Whole, as they are searched for.
        for line in &it.log {
            out.line(&format!("  {line}"))?;
        }
    }
    Ok(())
}

fn is_match(candidate: &CandidateReport) -> bool {
    matches!(candidate.state, CandidateState::Matches { .. } | CandidateState::DroppedBy(_))
}

fn reason(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Fatal(error) => format!(" (libbpf: {}), {error}", error.errno()),
        Outcome::Decided(decision) => {
            let because = decision.reason.map(|it| format!(" ({})", it.name())).unwrap_or_default();
            match decision.new {
                _ if decision.poisoned => format!(", {} → poison", decision.orig),
                Some(new) if new != decision.orig => format!(", {} → {new}{because}", decision.orig),
                _ => because,
            }
        }
        _ => String::new(),
    }
}

fn kind_in_words(reloc: &Reloc<'_>) -> &'static str {
    match reloc.kind.map(|it| it.name()) {
        Some("byte_off") => "offset of",
        Some("byte_sz") => "size of",
        Some("field_exists" | "type_exists" | "enumval_exists") => "whether there is",
        Some("signed") => "signedness of",
        Some("lshift_u64" | "rshift_u64") => "bitfield shift of",
        Some("local_type_id" | "target_type_id") => "type id of",
        Some("type_size") => "size of",
        Some("type_matches") => "whether there is a type that matches",
        Some("enumval_value") => "value of",
        _ => "unknown kind of relocation of",
    }
}

fn side_line(side: &Side) -> String {
    let mut line = side.what.clone();
    if let Some(bit_offset) = side.bit_offset {
        line.push_str(&format!(" at {}", show_offset(bit_offset)));
    }
    match (side.bitfield_size, side.size) {
        (0, Some(size)) => line.push_str(&format!(", {}", plural(size as usize, "byte"))),
        (0, None) => {}
        (bits, _) => line.push_str(&format!(", {}", plural(bits as usize, "bit"))),
    }
    line
}

fn candidate_line(object: &Object<'_>, candidate: &CandidateReport) -> String {
    let module = candidate.module.as_ref().map(|it| format!(" in module {it}")).unwrap_or_default();
    let state = match &candidate.state {
        CandidateState::Matches { bit_offset: 0, value: Ok(value) } => format!("has it: {value}"),
        CandidateState::Matches { bit_offset, value: Ok(value) } => {
            format!("has it at {}: {value}", show_offset(*bit_offset))
        }
        CandidateState::Matches { value: Err(error), .. } | CandidateState::Fatal(error) => {
            format!("ends the load: {error}")
        }
        CandidateState::Lacks { step, found, .. } if found.is_empty() => format!("has no {step}"),
        CandidateState::Lacks { step, found, .. } => format!("lacks {step}: {found}"),
        CandidateState::DroppedBy(record) => match object.relocs().get(*record) {
            Some(by) => format!(
                "has it, but was dropped by an earlier record: {} at {}+{}",
                object.path(by),
                String::from_utf8_lossy(by.section),
                by.insn_off
            ),
            None => "has it, but was dropped by an earlier record".into(),
        },
    };
    format!("[{}] {}{module} {state}", candidate.id, candidate.name)
}

/// The structs around the field, the program's and the kernel's side by side.
fn layouts(out: &mut Output, explanation: &Explanation) -> Result<(), Failure> {
    let local = explanation.local.layout.as_ref().map(layout_lines).unwrap_or_default();
    let target =
        explanation.target.as_ref().and_then(|it| it.layout.as_ref()).map(layout_lines).unwrap_or_default();
    if local.is_empty() && target.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let heads = ["in the program", "in the kernel"];
    let side = width().saturating_sub(4) / 2;
    if side < LAYOUT_MIN {
        for (head, lines) in heads.into_iter().zip([&local, &target]).filter(|it| !it.1.is_empty()) {
            out.line(&paint(HEAD, head))?;
            lines.iter().try_for_each(|it| out.line(&format!("  {}", cut(it, width() - 2))))?;
        }
        return Ok(());
    }
    let side = side.min(LAYOUT_MAX);
    let [left, right] = heads.map(|it| paint(HEAD, it));
    out.line(&format!("  {}  {right}", padded(&left, side)))?;
    for row in 0..local.len().max(target.len()) {
        let [left, right] = [&local, &target].map(|it| cut(it.get(row).map_or("", String::as_str), side));
        out.line(format!("  {}  {right}", padded(&left, side)).trim_end())?;
    }
    Ok(())
}

fn layout_lines(layout: &Layout) -> Vec<String> {
    let mut lines = vec![format!("{} {{", layout.title)];
    if layout.before > 0 {
        lines.push(format!("        … {}", plural(layout.before, "member")));
    }
    for row in &layout.rows {
        let mark = if row.marked { '>' } else { ' ' };
        let bits = if row.bitfield_size > 0 { format!(" : {}", row.bitfield_size) } else { String::new() };
        let offset = match row.bit_offset % 8 {
            0 => (row.bit_offset / 8).to_string(),
            bit => format!("{}:{bit}", row.bit_offset / 8),
        };
        lines.push(format!("{mark} {offset:>5}  {}{bits}", row.declaration));
    }
    if layout.after > 0 {
        lines.push(format!("        … {}", plural(layout.after, "member")));
    }
    lines.push(format!("}}  {}", plural(layout.size as usize, "byte")));
    lines
}

fn to_json(subject: &Subject<'_>, number: usize, reloc: &Reloc<'_>, it: &Explanation) -> Value {
    let object = subject.object;
    let line = object.source_line(reloc);
    let layout = |layout: &Layout| {
        let rows: Vec<Value> = layout
            .rows
            .iter()
            .map(|row| {
                json!({
                    "bit_offset": row.bit_offset,
                    "bitfield_size": row.bitfield_size,
                    "size": row.size,
                    "declaration": row.declaration,
                    "marked": row.marked,
                })
            })
            .collect();
        json!({
            "title": layout.title,
            "size": layout.size,
            "before": layout.before,
            "rows": rows,
            "after": layout.after,
        })
    };
    let side = |side: &Side| {
        json!({
            "what": side.what,
            "bit_offset": side.bit_offset,
            "bitfield_size": side.bitfield_size,
            "size": side.size,
            "layout": side.layout.as_ref().map(layout),
        })
    };
    let candidate = |candidate: &CandidateReport| {
        let mut value = json!({
            "id": candidate.id.0,
            "name": candidate.name,
            "module": candidate.module,
        });
        let state = match &candidate.state {
            CandidateState::Matches { bit_offset, value } => json!({
                "state": "matches",
                "bit_offset": bit_offset,
                "value": value.ok().map(|it| it.to_string()),
                "error": value.err().map(|it| it.code()),
            }),
            CandidateState::Lacks { depth, step, found } => {
                json!({ "state": "lacks", "depth": depth, "step": step, "found": found })
            }
            CandidateState::Fatal(error) => json!({ "state": "fatal", "error": error.code() }),
            CandidateState::DroppedBy(record) => {
                let by = object.relocs().get(*record);
                json!({
                    "state": "dropped",
                    "by_section": by.map(|it| String::from_utf8_lossy(it.section)),
                    "by_insn_off": by.map(|it| it.insn_off),
                })
            }
        };
        if let (Some(value), Value::Object(state)) = (value.as_object_mut(), state) {
            value.extend(state);
        }
        value
    };
    let code = plain_code(&it.outcome);
    let fatal = match &it.outcome {
        Outcome::Fatal(error) => Some(error.errno()),
        _ => None,
    };
    let decision = match &it.outcome {
        Outcome::Decided(decision) => Some(decision),
        _ => None,
    };
    json!({
        "section": String::from_utf8_lossy(reloc.section),
        "program": program_name(object, reloc),
        "insn_off": reloc.insn_off,
        "kind": reloc.kind.map(|it| it.name()),
        "root": object.root_name(reloc),
        "path": object.path(reloc),
        "file": line.map(|it| String::from_utf8_lossy(it.file)),
        "line": line.map(|it| it.line),
        "source": line.map(|it| String::from_utf8_lossy(it.text)),
        "code": code,
        "reason": decision.and_then(|it| it.reason).map(|it| it.name()),
        "fatal": fatal,
        "orig": decision.map(|it| it.orig.to_string()),
        "new": decision.and_then(|it| it.new).map(|it| it.to_string()),
        "poisoned": decision.is_some_and(|it| it.poisoned),
        "meaning": it.meaning,
        "advice": it.advice,
        "local": side(&it.local),
        "target": it.target.as_ref().map(side),
        "candidates": it.candidates.iter().map(candidate).collect::<Vec<Value>>(),
        "nearest": it.nearest,
        "validate": it.validate,
        "insn_before": it.insn_before,
        "insn_after": it.insn_after,
        "quirks": it.quirks,
        "routes": routes_json(subject, number),
        "history": history::to_json(&subject.series, subject.folded, number),
        "log": it.log,
    })
}

fn routes_json(subject: &Subject<'_>, number: usize) -> Vec<Value> {
    let stop = |it: &Stop| json!({ "place": it.place, "text": it.text, "is_decided": it.is_decided, "because": it.because });
    let of_program = |(program, route): (String, Route)| {
        json!({
            "program": program,
            "reached": route.is_reached,
            "branches": route.stops.iter().map(stop).collect::<Vec<Value>>(),
            "assumptions": route.assumed,
        })
    };
    routes(subject, number).into_iter().map(of_program).collect()
}
