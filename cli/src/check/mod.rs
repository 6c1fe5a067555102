//! `btfleet check`: verdicts, grouped by cause.

mod spread;
mod summary;
mod table;

use summary::Summary;

use btfleet_engine::batch::{Batch, Run};
use btfleet_engine::depend::Survey;
use btfleet_engine::embed::{Loaders, Refusal};
use btfleet_engine::object::{Object, Reloc};
use btfleet_engine::report::{self, ProgramVerdict, Verdict, Verdicts};
use btfleet_engine::resolve::Code;
use glob::Pattern;
use sha2::{Digest, Sha256};

use crate::args::{CheckArgs, FailOn, Format};
use crate::compare;
use crate::copies::Shared;
use crate::load::{self, Inputs};
use crate::loader::{loaders, note_skeletons};
use crate::output::{Exit, Failure, Output, message, progress};
use crate::project::Project;
use crate::resolve::object_defects;
use crate::rows::{EndRow, InputRow, PairRow, VerdictRow, hex, push_line};
use crate::world::world;

pub(crate) fn run(args: &CheckArgs) -> Result<Exit, Failure> {
    let batch = Batch::new(args.inputs.jobs).map_err(Failure::System)?;
    let project = args.manifest.as_ref().map(|it| Project::read(it)).transpose()?.unwrap_or_default();
    let files = load::read(&args.inputs, &batch)?;
    let mut inputs = load::parse(&files, &batch, args.inputs.filter.as_ref())?;
    project.apply(&mut inputs.distinct)?;
    let inputs = inputs;
    let mut world = world(&args.world, &inputs)?;
    project.add_to(&mut world);
    if args.compare_loaders {
        return compare::run(args, &batch, &inputs, &world);
    }
    let loaders = loaders(args.loader, &inputs.kernel_names)?;
    note_skeletons(&loaders, &inputs.objects);
    let format = args.format;
    let hashes = match format {
        Format::Jsonl => batch.map(&inputs.distinct, |it| hex(&Sha256::digest(it.file()))),
        Format::Table => Vec::new(),
    };
    let mut out = Output::new();
    let mut rows = 0;
    let mut failure = None;
    if format == Format::Jsonl {
        for defect in &inputs.defects {
            let mut line = Vec::new();
            push_line(&mut line, &InputRow::new(defect));
            out.write(&line)?;
            rows += 1;
        }
    }
    let (modules, validate) = (args.inputs.modules.into(), args.validating.into());
    let run =
        Run::validating(&batch, &inputs.distinct, &inputs.kernels, loaders.by_kernel(), modules, validate);
    let survey = loaders.is_libbpf().then(|| Survey::new(&batch, &inputs.distinct, &inputs.kernels, modules));
    let shared = Shared::new(&inputs);
    let bar = progress(inputs.objects.len());
    let mut before = 0;
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
            match format {
                Format::Jsonl => json_rows(args, &inputs, &loaders, &project, &hashes, object, verdicts),
                Format::Table => (Vec::new(), 0),
            }
        },
        |object, (text, count)| {
            bar.inc(1);
            let written = object_defects(&mut out, format, &inputs, &mut before, object).and_then(|more| {
                rows += more + count;
                out.write(&text)
            });
            failure = written.err();
            failure.is_none()
        },
    );
    if let Some(failure) = failure {
        return Err(failure);
    }
    inputs.check_packs()?;
    bar.finish_and_clear();
    rows += object_defects(&mut out, format, &inputs, &mut before, inputs.objects.len())?;
    let summary = summaries.into_iter().reduce(Summary::merged).unwrap_or_default();
    let complete = inputs.complete() && summary.pairs_not_judged.is_empty();
    match format {
        Format::Jsonl => {
            let mut line = Vec::new();
            let end = EndRow::new(complete, inputs.objects.len(), inputs.kernels.len(), rows);
            push_line(&mut line, &end.modelling(loaders.models()));
            out.write(&line)?;
        }
        Format::Table => table::print(&mut out, &summary, &inputs, args, loaders.is_libbpf())?,
    }
    for remark in project.remarks(&summary.accepted) {
        match format {
            Format::Jsonl => message(&format!("btfleet: {remark}")),
            Format::Table => out.line(&remark)?,
        }
    }
    out.finish()?;
    Ok(if summary.worst_autoloaded.is_some_and(|worst| is_finding(worst, args.fail_on)) {
        Exit::Finding
    } else if !complete || summary.counts.contains_key(&Verdict::Unknown) {
        Exit::NotJudged
    } else {
        Exit::Fine
    })
}

fn is_finding(verdict: Verdict, fail_on: FailOn) -> bool {
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

fn json_rows(
    args: &CheckArgs,
    inputs: &Inputs<'_>,
    loaders: &Loaders,
    project: &Project,
    hashes: &[String],
    object_no: usize,
    verdicts: &Verdicts,
) -> (Vec<u8>, usize) {
    let (mut text, mut count) = (Vec::new(), 0);
    let Some(object) = inputs.object(object_no) else { return (text, 0) };
    let object_name = inputs.name_of(object_no);
    let hash = hashes.get(inputs.distinct_of(object_no)).map_or("", String::as_str);
    for (kernel_no, &kernel_name) in inputs.kernel_names.iter().enumerate() {
        if let Some(Refusal { code, why, .. }) = inputs.refusal(loaders, object_no, kernel_no) {
            push_line(&mut text, &PairRow::new(object_name, kernel_name, code, why));
            count += 1;
            continue;
        }
        let is_shown = |it: &&ProgramVerdict| args.only.is_none_or(|only| only.takes(it.verdict));
        for verdict in verdicts.on(kernel_no).unwrap_or_default().iter().filter(is_shown) {
            if let Some(row) =
                VerdictRow::new(object_name, hash, kernel_name, object, verdict, loaders.is_libbpf(), project)
            {
                push_line(&mut text, &row);
                count += 1;
            }
        }
    }
    (text, count)
}

/// What a cause is about: the field, or the type where that is missing as a whole.
pub(crate) fn subject(object: &Object<'_>, reloc: &Reloc<'_>, code: &str) -> String {
    let whole_type = [Code::NoType, Code::FwdOnly].iter().any(|it| it.name() == code);
    if whole_type { object.root_name(reloc) } else { object.path(reloc) }
}
