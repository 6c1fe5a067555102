//! `btfleet check`: verdicts, grouped by cause.

mod formats;
mod inventory;
mod latest;
mod spread;
mod summary;
mod table;

use formats::{Context, Reports, Targets};
use inventory::Inventory;
use summary::Summary;

use std::io::IsTerminal;

use btfleet_engine::batch::{Batch, Run};
use btfleet_engine::depend::Survey;
use btfleet_engine::object::{Object, Reloc};
use btfleet_engine::report::{self, Verdict, Verdicts};
use btfleet_engine::resolve::Code;
use glob::Pattern;
use sha2::{Digest, Sha256};

use crate::args::{CheckArgs, CheckFormat, FailOn, Format};
use crate::baseline::Baseline;
use crate::compare;
use crate::copies::Shared;
use crate::load;
use crate::loader::{loaders, note_skeletons};
use crate::output::{Exit, Failure, Output, Progress, message};
use crate::project::Project;
use crate::rows::hex;
use crate::world::world;

pub(crate) fn run(args: &CheckArgs) -> Result<Exit, Failure> {
    let batch = Batch::new(args.inputs.jobs).map_err(Failure::System)?;
    let project = args.manifest.as_ref().map(|it| Project::read(it)).transpose()?.unwrap_or_default();
    let inventory = args.inventory.as_ref().map(|it| Inventory::read(it)).transpose()?;
    let files = load::read(&args.given(), &batch)?;
    let mut inputs = load::parse(&files, &batch, args.inputs.filter.as_ref())?;
    let latest = args.new.as_ref().map(|it| latest::keep_two(&mut inputs, it)).transpose()?;
    project.apply(&mut inputs.distinct)?;
    let inputs = inputs;
    let mut world = world(&args.world, &inputs)?;
    project.add_to(&mut world);
    if (args.baseline.is_some() || args.new.is_some())
        && !matches!(args.format, CheckFormat::Table | CheckFormat::Jsonl)
    {
        return Err(Failure::Usage(
            "what changed has the formats table and jsonl; --report writes others".into(),
        ));
    }
    if args.format == CheckFormat::Parquet && std::io::stdout().is_terminal() {
        return Err(Failure::Usage(
            "a terminal cannot show Parquet; '--report x.parquet' writes a file".into(),
        ));
    }
    if args.compare_loaders {
        return compare::run(args, &batch, &inputs, &world);
    }
    let loaders = loaders(args.loader, &inputs.kernel_names)?;
    note_skeletons(&loaders, &inputs.objects);
    let hashes = match args.format == CheckFormat::Table && args.reports.is_empty() {
        true => Vec::new(),
        false => batch.map(&inputs.distinct, |it| hex(&Sha256::digest(it.file()))),
    };
    let context = Context { args, inputs: &inputs, loaders: &loaders, project: &project, hashes };
    let reports = Reports::new(&context)?;
    let mut targets = Targets::open(&reports)?;
    let mut baseline = match (&args.baseline, &latest) {
        (Some(path), _) => Some(Baseline::read(path, args.fail_on)?),
        (None, Some(latest)) => Some(Baseline::of_kernel(latest.before, latest.new, args.fail_on)),
        (None, None) => None,
    };
    let mut out = Output::new();
    let mut failure = None;
    let (modules, validate) = (args.inputs.modules.into(), args.validating.into());
    let progress = Progress::on("comparing kernels");
    let run =
        Run::validating(&batch, &inputs.distinct, &inputs.kernels, loaders.by_kernel(), modules, validate);
    let survey = loaders.is_libbpf().then(|| Survey::new(&batch, &inputs.distinct, &inputs.kernels, modules));
    drop(progress);
    let shared = Shared::new(&inputs);
    let progress = Progress::of(inputs.objects.len(), "objects");
    let summaries = batch.for_each_with(
        inputs.objects.len(),
        Summary::default,
        |summary, object| {
            let distinct = inputs.distinct_of(object);
            let found = shared.of(distinct, || {
                let mut verdicts = report::check(&run, survey.as_ref(), &world, distinct);
                let accepted = inputs.object(object).map(|it| {
                    keep_programs(&args.program, it, &mut verdicts);
                    project.accept(it, &mut verdicts)
                });
                (verdicts, accepted.unwrap_or_default())
            });
            let (verdicts, accepted) = &*found;
            summary.add(&inputs, &loaders, &world.roles, object, verdicts);
            summary.add_accepted(verdicts, accepted);
            let rows = if context.shows_changes() { context.rows(object, verdicts) } else { Vec::new() };
            (reports.object(object, verdicts), rows)
        },
        |object, (pieces, rows)| {
            progress.step();
            let changes = baseline.as_mut().map_or(Ok(Vec::new()), |it| it.take_lines(&rows));
            let written = changes
                .and_then(|it| if args.format == CheckFormat::Jsonl { out.write(&it) } else { Ok(()) });
            failure = written.and_then(|()| targets.object(object, pieces)).err();
            failure.is_none()
        },
    );
    if let Some(failure) = failure {
        return Err(failure);
    }
    inputs.check_packs()?;
    drop(progress);
    let summary = summaries.into_iter().reduce(Summary::merged).unwrap_or_default();
    let complete = inputs.complete() && summary.pairs_not_judged.is_empty();
    let layouts = || report::classes(&batch, &run, &inputs.distinct).joint;
    let weighed = inventory.as_ref().map(|it| it.weigh(&summary, &inputs, layouts));
    targets.finish(&summary, weighed.as_ref(), complete)?;
    let remarks = project.remarks(&summary.accepted);
    if let Some(baseline) = baseline {
        baseline.check_models(loaders.models());
        let format = if args.format == CheckFormat::Jsonl { Format::Jsonl } else { Format::Table };
        let exit = baseline.finish(&mut out, format)?;
        out.finish()?;
        return Ok(if exit == Exit::Fine && !complete { Exit::NotJudged } else { exit });
    }
    if args.format == CheckFormat::Table {
        table::print(&mut out, &summary, weighed.as_ref(), &inputs, args, loaders.is_libbpf())?;
        remarks.iter().try_for_each(|it| out.line(it))?;
        out.finish()?;
    } else {
        remarks.iter().for_each(|it| message(&format!("btfleet: {it}")));
    }
    Ok(if summary.worst_autoloaded.is_some_and(|worst| is_finding(worst, args.fail_on)) {
        Exit::Finding
    } else if !complete || summary.counts.contains_key(&Verdict::Unknown) {
        Exit::NotJudged
    } else {
        Exit::Fine
    })
}

pub(crate) fn is_finding(verdict: Verdict, fail_on: FailOn) -> bool {
    match fail_on {
        FailOn::Fail => verdict >= Verdict::FailAttach,
        FailOn::Unknown => verdict >= Verdict::Unknown,
        FailOn::Conditional => verdict >= Verdict::Conditional,
        FailOn::Drift => verdict >= Verdict::OkDrift,
        FailOn::Never => false,
    }
}

/// Leaves out what is not asked for.
fn keep_programs(patterns: &[Pattern], object: &Object<'_>, verdicts: &mut Verdicts) {
    if patterns.is_empty() {
        return;
    }
    let names = object.programs().iter().map(|it| String::from_utf8_lossy(it.name));
    let kept: Vec<bool> = names.map(|name| patterns.iter().any(|it| it.matches(&name))).collect();
    for verdicts in &mut verdicts.by_class {
        verdicts.retain(|it| kept.get(it.program) == Some(&true));
    }
}

/// What a cause is about: the field, or the type where that is missing as a whole.
pub(crate) fn subject(object: &Object<'_>, reloc: &Reloc<'_>, code: &str) -> String {
    let whole_type = [Code::NoType, Code::FwdOnly].iter().any(|it| it.name() == code);
    if whole_type { object.root_name(reloc) } else { object.path(reloc) }
}
