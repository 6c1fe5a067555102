//! `btfleet live`: programs in the running kernel, relocated here and by the kernel itself. Formats: docs/output.md.

use btfleet_engine::batch::{Batch, outcomes};
use btfleet_engine::dialect::Loader;
use btfleet_engine::fleet::Modules;
use btfleet_engine::object::Object;
use btfleet_engine::report::Known;
use btfleet_live::{Compared, Finding, Judged, Session};
use serde::Serialize;

use crate::args::{Format, InputArgs, LiveArgs, ModulesArg};
use crate::load;
use crate::loader::release_in_name;
use crate::output::{BAD, DIM, Exit, Failure, GOOD, HEAD, Output, WARN, message, paint, plural, push_prose};
use crate::rows::{EndRow, InputRow, push_line, text};

/// One program.
#[derive(Serialize)]
struct LiveRow<'a> {
    v: u32,
    t: &'static str,
    object: &'a str,
    program: String,
    section: String,
    records: usize,
    compared: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    findings: Vec<FindingRow<'a>>,
}

#[derive(Serialize)]
struct FindingRow<'a> {
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    insn_off: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    message: &'a str,
}

/// An object of which no program could be loaded.
#[derive(Serialize)]
struct RefusedRow<'a> {
    v: u32,
    t: &'static str,
    object: &'a str,
    message: &'a str,
}

/// What was compared, counted.
#[derive(Default)]
struct Counts {
    instructions: usize,
    log: usize,
    nothing: usize,
    without_records: usize,
    different: usize,
    refused: usize,
}

pub(crate) fn run(args: &LiveArgs) -> Result<Exit, Failure> {
    let batch = Batch::new(1).map_err(Failure::System)?;
    let input_args = InputArgs {
        objects: args.objects.clone(),
        kernels: vec!["live".into()],
        modules: ModulesArg::All,
        jobs: 1,
        filter: None,
    };
    let files = load::read(&input_args, &batch)?;
    let inputs = load::parse(&files, &batch, None)?;
    let Some(release) = release_in_name("live") else {
        return Err(Failure::Usage("the running kernel does not say its release".into()));
    };
    let loader = Loader::Kernel(release);
    if let Some(why) = loader.unsupported() {
        return Err(Failure::Usage(why.into()));
    }
    let Some(kernel) = inputs.kernels.first() else { return Ok(Exit::NotJudged) };
    let session = Session::new(kernel, Known::new(kernel, Some(release), kernel.kconfig.clone()))
        .map_err(|errno| Failure::Usage(format!("bpf() is not for us: {errno}; run it as root")))?;
    let mut out = Output::new();
    let mut counts = Counts::default();
    let mut rows = 0;
    if args.format == Format::Jsonl {
        for defect in inputs.defects.iter().chain(inputs.object_defects.iter().map(|it| &it.1)) {
            let mut line = Vec::new();
            push_line(&mut line, &InputRow::new(defect));
            out.write(&line)?;
            rows += 1;
        }
    }
    for named in &inputs.objects {
        let Some(object) = inputs.distinct.get(named.distinct) else { continue };
        let name = &named.name;
        let outcomes = outcomes(loader, object, kernel, Modules::All, |_| true);
        let outcomes: Vec<_> = outcomes.iter().collect();
        let judged = session.judge(object, &outcomes);
        rows += judged.as_ref().map_or(1, Vec::len);
        let bytes = match (&judged, args.format) {
            (Ok(judged), Format::Jsonl) => json_rows(object, name, judged),
            (Ok(judged), Format::Table) => table(object, name, judged),
            (Err(why), Format::Jsonl) => {
                let mut line = Vec::new();
                push_line(&mut line, &RefusedRow { v: 1, t: "refused", object: name, message: why });
                line
            }
            (Err(why), Format::Table) => {
                let mut lines = Vec::new();
                push_prose(&mut lines, &paint(HEAD, name), 2);
                push_prose(&mut lines, &format!("  {}", paint(WARN, why)), 4);
                lines
            }
        };
        counts.add(&judged);
        out.write(&bytes)?;
    }
    let complete = inputs.complete() && counts.refused == 0;
    match args.format {
        Format::Jsonl => {
            let mut line = Vec::new();
            let end = EndRow::new(complete, inputs.objects.len(), 1, rows).modelling(&loader.to_string());
            push_line(&mut line, &end);
            out.write(&line)?;
        }
        Format::Table => counts.tell(&loader.to_string()),
    }
    out.finish()?;
    Ok(match (counts.different, complete) {
        (0, true) => Exit::Fine,
        (0, false) => Exit::NotJudged,
        _ => Exit::Finding,
    })
}

impl Counts {
    fn add(&mut self, judged: &Result<Vec<Judged>, String>) {
        let Ok(judged) = judged else {
            self.refused += 1;
            return;
        };
        for it in judged {
            let count = match it.compared {
                _ if it.records == 0 => &mut self.without_records,
                Compared::Instructions => &mut self.instructions,
                Compared::Log => &mut self.log,
                Compared::Nothing => &mut self.nothing,
            };
            *count += 1;
            self.different += usize::from(!it.findings.is_empty());
        }
    }

    fn tell(&self, loader: &str) {
        let programs = plural(self.instructions, "program");
        message(&format!(
            "{programs} with the same relocation, instruction by instruction; {} refused by the verifier and compared \
             by its log; {} not compared; {} without records; {} different",
            self.log, self.nothing, self.without_records, self.different
        ));
        if self.refused > 0 {
            message(&format!("{} could not be loaded at all", plural(self.refused, "object")));
        }
        message(&format!("the kernel's relocation against: {loader}"));
    }
}

fn place(object: &Object<'_>, finding: &Finding) -> Option<(u32, String)> {
    let reloc = object.relocs().get(finding.record?)?;
    Some((reloc.insn_off, object.path(reloc)))
}

fn json_rows(object: &Object<'_>, name: &str, judged: &[Judged]) -> Vec<u8> {
    let mut out = Vec::new();
    for it in judged {
        let Some(program) = object.programs().get(it.program) else { continue };
        let findings = it.findings.iter().map(|finding| {
            let (insn_off, path) = place(object, finding).unzip();
            FindingRow { code: finding.code, insn_off, path, message: &finding.message }
        });
        let row = LiveRow {
            v: 1,
            t: "live",
            object: name,
            program: text(program.name),
            section: text(program.section),
            records: it.records,
            compared: match it.compared {
                Compared::Instructions => "instructions",
                Compared::Log => "log",
                Compared::Nothing => "nothing",
            },
            why: it.why.as_deref(),
            findings: findings.collect(),
        };
        push_line(&mut out, &row);
    }
    out
}

fn table(object: &Object<'_>, name: &str, judged: &[Judged]) -> Vec<u8> {
    let mut out = Vec::new();
    push_prose(&mut out, &paint(HEAD, name), 2);
    for it in judged {
        let Some(program) = object.programs().get(it.program) else { continue };
        let (style, word) = match (it.findings.is_empty(), it.compared) {
            (false, _) => (BAD, "different"),
            (true, Compared::Instructions) => (GOOD, "same instructions"),
            (true, Compared::Log) => (GOOD, "same by the log"),
            (true, Compared::Nothing) => (DIM, "not compared"),
        };
        let records = plural(it.records, "record");
        let mut line = format!("  {:<32} {records:>12}  {}", text(program.name), paint(style, word));
        if let Some(why) = &it.why {
            line += &paint(DIM, &format!("  ({why})"));
        }
        push_prose(&mut out, &line, 6);
        for finding in &it.findings {
            let path = place(object, finding).map(|(_, path)| format!(" {path}:")).unwrap_or_default();
            push_prose(&mut out, &format!("    {}{path} {}", paint(BAD, finding.code), finding.message), 6);
        }
    }
    out
}
