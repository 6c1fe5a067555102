//! `btfleet check --compare-loaders`: programs that not every loader loads, grouped by cause.
//!
//! Compared is what all loaders have in common, relocations and whether poison is reached: attach targets and symbols
//! are libbpf's alone.

use std::collections::{BTreeMap, BTreeSet};

use btfleet_engine::batch::{Batch, Run};
use btfleet_engine::embed::{Loaders, NamedObject};
use btfleet_engine::object::Object;
use btfleet_engine::report::{self, Finding, ProgramVerdict, Verdict, World};
use serde::Serialize;

use crate::args::{CheckArgs, CheckFormat, FailOn};
use crate::load::Inputs;
use crate::loader::{LoaderArg, release_in_name};
use crate::output::{BAD, DIM, Exit, Failure, GOOD, HEAD, Output, Progress, WARN, paint, plural, width};
use crate::rows::{EndRow, InputRow, push_line};
use crate::text::columns;

/// Causes and names that a table lists before it says how many more there are.
const CAUSES_SHOWN: usize = 30;
const NAMES_SHOWN: usize = 4;

/// Least space for a cause beside what loaders make of it.
const CAUSE_MIN: usize = 24;

/// The loaders that are compared, by the names that they are typed by.
const COMPARED: [(&str, LoaderArg); 4] = [
    ("libbpf", LoaderArg::Libbpf),
    ("kernel", LoaderArg::Kernel(None)),
    ("aya", LoaderArg::Aya),
    ("ebpf-go", LoaderArg::EbpfGo),
];

/// One loader's answer about a program on a kernel.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Answer {
    loader: &'static str,
    /// `None` if it is not judged there.
    verdict: Option<&'static str>,
    /// What makes the verdict as bad as it is.
    code: Option<&'static str>,
    path: Option<String>,
    message: Option<String>,
    #[serde(skip)]
    rank: Option<Verdict>,
}

/// A program on a kernel about which loaders disagree.
struct Difference {
    program: usize,
    kernel: usize,
    answers: Vec<Answer>,
}

/// The same as a row.
#[derive(Serialize)]
struct LoadersRow<'a> {
    v: u32,
    t: &'static str,
    object: &'a str,
    program: String,
    section: String,
    kernel: &'a str,
    autoload: bool,
    by_loader: &'a [Answer],
}

pub(crate) fn run(
    args: &CheckArgs,
    batch: &Batch,
    inputs: &Inputs<'_>,
    world: &World,
) -> Result<Exit, Failure> {
    let loaders: Vec<(&'static str, Loaders)> = COMPARED
        .into_iter()
        .map(|(name, arg)| (name, Loaders::where_known(arg, &inputs.kernel_names, release_in_name)))
        .collect();
    let runs: Vec<Run<'_>> = loaders
        .iter()
        .map(|(_, it)| {
            let (modules, validate) = (args.inputs.modules.into(), args.validating.into());
            Run::validating(batch, &inputs.distinct, &inputs.kernels, it.by_kernel(), modules, validate)
        })
        .collect();
    let numbers: Vec<usize> = (0..inputs.distinct.len()).collect();
    let progress = Progress::of(numbers.len(), "objects");
    let distinct = batch.map(&numbers, |&object| {
        let differences = differences(inputs, &runs, world, object);
        progress.step();
        differences
    });
    drop(progress);
    let of_object = |it: &NamedObject<'_>| distinct.get(it.distinct).map_or(&[][..], Vec::as_slice);
    let by_object: Vec<&[Difference]> = inputs.objects.iter().map(of_object).collect();
    inputs.check_packs()?;
    let models: Vec<&str> = loaders.iter().map(|(_, it)| it.models()).collect();
    let mut out = Output::new();
    match args.format {
        CheckFormat::Jsonl => write_rows(&mut out, inputs, &by_object, &models)?,
        CheckFormat::Table => print(&mut out, inputs, &by_object, &models)?,
        _ => return Err(Failure::Usage("--compare-loaders has the formats table and jsonl".into())),
    }
    out.finish()?;
    let counts = |(object, it): (usize, &Difference)| {
        inputs.object(object).and_then(|of| of.programs().get(it.program)).is_some_and(|it| it.autoload)
    };
    let all = || by_object.iter().enumerate().flat_map(|(object, of)| of.iter().map(move |it| (object, it)));
    Ok(if args.fail_on != FailOn::Never && all().any(counts) {
        Exit::Finding
    } else if inputs.complete() {
        Exit::Fine
    } else {
        Exit::NotJudged
    })
}

/// Programs of one object about which loaders disagree, by kernel.
fn differences(inputs: &Inputs<'_>, runs: &[Run<'_>], world: &World, distinct: usize) -> Vec<Difference> {
    let Some(object) = inputs.distinct.get(distinct) else { return Vec::new() };
    let verdicts: Vec<_> = runs.iter().map(|run| report::check(run, None, world, distinct)).collect();
    let entries: Vec<usize> =
        object.programs().iter().enumerate().filter(|(_, it)| !it.is_subprogram).map(|(it, _)| it).collect();
    let mut found = Vec::new();
    for kernel in 0..inputs.kernels.len() {
        let of_loaders: Vec<_> = verdicts.iter().map(|it| it.on(kernel)).collect();
        for &program in &entries {
            let of_program: Vec<Option<&ProgramVerdict>> = of_loaders
                .iter()
                .map(|it| it.and_then(|it| it.iter().find(|it| it.program == program)))
                .collect();
            let distinct: BTreeSet<Verdict> = of_program.iter().flatten().map(|it| it.verdict).collect();
            if distinct.len() > 1 {
                let answers =
                    COMPARED.iter().zip(&of_program).map(|((name, _), it)| answer(name, object, *it));
                found.push(Difference { program, kernel, answers: answers.collect() });
            }
        }
    }
    found
}

fn answer(loader: &'static str, object: &Object<'_>, verdict: Option<&ProgramVerdict>) -> Answer {
    let worst: Option<&Finding> = verdict.and_then(|verdict| {
        verdict.findings.iter().find(|it| it.verdict == verdict.verdict && it.verdict > Verdict::Ok)
    });
    let path = worst.and_then(|it| {
        let reloc = it.reloc.and_then(|it| object.relocs().get(it));
        reloc.map(|it| object.path(it)).or_else(|| it.subject.clone())
    });
    Answer {
        loader,
        verdict: verdict.map(|it| it.verdict.name()),
        code: worst.map(|it| it.code),
        path,
        message: worst.map(|it| it.message.clone()),
        rank: verdict.map(|it| it.verdict),
    }
}

fn write_rows(
    out: &mut Output,
    inputs: &Inputs<'_>,
    by_object: &[&[Difference]],
    models: &[&str],
) -> Result<(), Failure> {
    let mut rows = 0;
    let mut text = Vec::new();
    for defect in inputs.defects.iter().chain(inputs.object_defects.iter().map(|(_, it)| it)) {
        push_line(&mut text, &InputRow::new(defect));
        rows += 1;
    }
    for (named, differences) in inputs.objects.iter().zip(by_object) {
        let (name, Some(object)) = (&named.name, inputs.distinct.get(named.distinct)) else { continue };
        for difference in *differences {
            let (Some(program), Some(&kernel)) =
                (object.programs().get(difference.program), inputs.kernel_names.get(difference.kernel))
            else {
                continue;
            };
            let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let row = LoadersRow {
                v: 1,
                t: "loaders",
                object: name,
                program: text_of(program.name),
                section: text_of(program.section),
                kernel,
                autoload: program.autoload,
                by_loader: &difference.answers,
            };
            push_line(&mut text, &row);
            rows += 1;
        }
    }
    let end = EndRow::new(inputs.complete(), inputs.objects.len(), inputs.kernels.len(), rows);
    push_line(&mut text, &end.modelling(&models.join("; ")));
    out.write(&text)
}

/// Where loaders disagree for the same cause.
#[derive(Default)]
struct Places {
    message: String,
    /// By loader: its verdicts.
    verdicts: [BTreeSet<Verdict>; COMPARED.len()],
    /// Numbers of objects and of their programs.
    programs: BTreeSet<(usize, usize)>,
    kernels: BTreeSet<usize>,
    pairs: usize,
}

/// What the worst verdict rests on: code and path.
type Cause<'a> = (&'static str, &'a str);

fn print(
    out: &mut Output,
    inputs: &Inputs<'_>,
    by_object: &[&[Difference]],
    models: &[&str],
) -> Result<(), Failure> {
    let mut causes: BTreeMap<Cause<'_>, Places> = BTreeMap::new();
    for (object, differences) in by_object.iter().enumerate() {
        for Difference { program, kernel, answers } in *differences {
            // Of equals the first, so that the loaders' order decides.
            let Some(worst) = answers.iter().rev().max_by_key(|it| it.rank) else { continue };
            let key = (worst.code.unwrap_or(""), worst.path.as_deref().unwrap_or(""));
            let places = causes.entry(key).or_default();
            if places.message.is_empty() {
                places.message = worst.message.clone().unwrap_or_default();
            }
            for (verdicts, answer) in places.verdicts.iter_mut().zip(answers) {
                verdicts.extend(answer.rank);
            }
            places.programs.insert((object, *program));
            places.kernels.insert(*kernel);
            places.pairs += 1;
        }
    }
    let heads = COMPARED.iter().fold(String::new(), |text, (name, _)| format!("{text}{name:<13}"));
    let cells_width = columns(&heads);
    let is_wide = cells_width + CAUSE_MIN <= width();
    if !causes.is_empty() && is_wide {
        out.line(&paint(HEAD, &format!("{heads}cause")))?;
    }
    let mut sorted: Vec<_> = causes.iter().collect();
    sorted.sort_by_key(|(_, places)| std::cmp::Reverse(places.pairs));
    for ((code, path), places) in sorted.iter().take(CAUSES_SHOWN) {
        let cells = places.verdicts.iter().fold(String::new(), |text, it| text + &cell(it));
        if is_wide {
            out.prose(&format!("{cells}{code} {}", paint(HEAD, path)), cells_width)?;
        } else {
            out.prose(&format!("{code} {}", paint(HEAD, path)), 2)?;
            let named = COMPARED.iter().zip(&places.verdicts);
            named
                .map(|((name, _), it)| format!("    {name:<8} {}", cell(it)))
                .try_for_each(|it| out.prose(&it, 6))?;
        }
        out.prose(&format!("    {}", places.message), 4)?;
        let name = |&(object, program): &(usize, usize)| {
            let of = inputs.object(object)?.programs().get(program)?;
            let file = inputs.name_of(object).rsplit('/').next()?;
            Some(format!("{file}:{}", String::from_utf8_lossy(of.name)))
        };
        let names: Vec<String> = places.programs.iter().take(NAMES_SHOWN).filter_map(name).collect();
        let more = places.programs.len().saturating_sub(names.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let kernels = plural(inputs.kernels.len(), "kernel");
        let on = format!("on {} of {kernels}", places.kernels.len());
        out.prose(&format!("    {}{more}  {}", names.join(", "), paint(DIM, &on)), 6)?;
    }
    if causes.len() > CAUSES_SHOWN {
        let more = plural(causes.len() - CAUSES_SHOWN, "more cause");
        out.prose(&format!("… and {more}; --format jsonl has all"), 0)?;
    }
    if !causes.is_empty() {
        out.line("")?;
    }
    let pairs: usize = by_object.iter().map(|it| it.len()).sum();
    let of = format!(
        "{} on {}: loaders disagree about {}",
        plural(inputs.objects.len(), "object"),
        plural(inputs.kernels.len(), "kernel"),
        plural(pairs, "program-kernel pair"),
    );
    out.prose(&of, 0)?;
    let compared = format!("Compared: {}. '-': not judged there; '*': or better.", models.join("; "));
    for text in [&compared, "Judged: CO-RE relocations, and whether poison is reached."] {
        out.prose(&paint(DIM, text), 0)?;
    }
    Ok(())
}

/// The worst verdict of a loader, and whether there are others.
fn cell(verdicts: &BTreeSet<Verdict>) -> String {
    let worst = verdicts.last().copied();
    let style = match worst {
        None => DIM,
        Some(Verdict::Ok | Verdict::OkDrift) => GOOD,
        Some(Verdict::Conditional | Verdict::Unknown) => WARN,
        Some(_) => BAD,
    };
    let name = worst.map_or("-", Verdict::name);
    let or_better = if verdicts.len() > 1 { "*" } else { "" };
    paint(style, &format!("{:<13}", format!("{name}{or_better}")))
}
