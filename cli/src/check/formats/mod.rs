//! What `check` finds, for machines and for the web: a format each, written object by object as they are judged.

mod csv;
mod html;
mod json;
mod junit;
mod markdown;
mod sarif;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use btfleet_engine::embed::Loaders;
use btfleet_engine::ingest::InputError;
use btfleet_engine::object::Object;
use btfleet_engine::report::{ProgramVerdict, Verdicts};
use tempfile::NamedTempFile;

use super::inventory::Inventory;
use super::summary::Summary;
use crate::args::{CheckArgs, CheckFormat};
use crate::load::Inputs;
use crate::outdir::staging_file;
use crate::output::{Failure, Output};
use crate::project::Project;

/// What a report is about.
pub(super) struct Context<'a> {
    pub(super) args: &'a CheckArgs,
    pub(super) inputs: &'a Inputs<'a>,
    pub(super) loaders: &'a Loaders,
    pub(super) project: &'a Project,
    pub(super) inventory: Option<&'a Inventory>,
    /// SHA-256 of the distinct objects, in hexadecimal.
    pub(super) hashes: Vec<String>,
}

/// How a run ended.
pub(super) struct Ended<'a> {
    pub(super) summary: &'a Summary<'a>,
    /// Whether everything was read and judged.
    pub(super) complete: bool,
    /// Lines that were written.
    pub(super) rows: usize,
}

/// A format. Pieces are written in the order of the inputs; those of objects are made by several threads at once.
pub(super) trait Report: Sync {
    /// What comes first.
    fn start(&self) -> Vec<u8> {
        Vec::new()
    }

    /// An input that could not be read, or a remark on one.
    fn defect(&self, _: &InputError) -> Vec<u8> {
        Vec::new()
    }

    /// An object, by its number, on all kernels.
    fn object(&self, _: usize, _: &Verdicts) -> Vec<u8> {
        Vec::new()
    }

    /// What comes last.
    fn end(&self, ended: &Ended<'_>) -> Vec<u8>;
}

impl<'a> Context<'a> {
    /// The report in a format; `None` for the table, which is no report but what people see.
    pub(super) fn report(&'a self, format: CheckFormat) -> Option<Box<dyn Report + 'a>> {
        Some(match format {
            CheckFormat::Table => return None,
            CheckFormat::Jsonl => Box::new(json::Lines(self)),
            CheckFormat::Json => Box::new(json::Document(json::Lines(self))),
            CheckFormat::Csv => Box::new(csv::Csv(self)),
            CheckFormat::Junit => Box::new(junit::Junit(self)),
            CheckFormat::Sarif => Box::new(sarif::Sarif::new(self)),
            CheckFormat::Html => Box::new(html::Html::new(self)),
            CheckFormat::Markdown => Box::new(markdown::Markdown(self)),
        })
    }

    /// The rows of an object in JSON Lines.
    pub(super) fn rows(&'a self, object: usize, verdicts: &Verdicts) -> Vec<u8> {
        json::Lines(self).object(object, verdicts)
    }

    /// Whether stdout has what changed, and not what is.
    pub(super) fn shows_changes(&self) -> bool {
        self.args.baseline.is_some() || self.args.new.is_some()
    }

    /// Whether stdout has a report: not what people read, and not what changed.
    fn reports_to_stdout(&self) -> bool {
        self.args.format != CheckFormat::Table && !self.shows_changes()
    }

    /// The verdicts on an object on a kernel that are to be shown, or why there are none.
    fn on(
        &self,
        object: usize,
        kernel: usize,
        verdicts: &'a Verdicts,
    ) -> Result<impl Iterator<Item = &'a ProgramVerdict> + use<'a>, btfleet_engine::embed::Refusal> {
        if let Some(refusal) = self.inputs.refusal(self.loaders, object, kernel) {
            return Err(refusal);
        }
        let only = self.args.only;
        let verdicts = verdicts.on(kernel).unwrap_or_default().iter();
        Ok(verdicts.filter(move |it| only.is_none_or(|only| only.takes(it.verdict))))
    }
}

/// Where a report goes: stdout, or a file that is there as a whole or not at all.
pub(super) enum Target {
    Stdout(Output),
    File(BufWriter<NamedTempFile>, PathBuf),
}

impl Target {
    /// A file at `path`, once everything is written.
    pub(super) fn file(path: &Path) -> Result<Self, Failure> {
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let failed = |error: std::io::Error| Failure::System(format!("{}: {error}", path.display()));
        // Better now than when everything is judged.
        if path.is_dir() {
            return Err(failed(std::io::ErrorKind::IsADirectory.into()));
        }
        Ok(Self::File(BufWriter::with_capacity(1 << 16, staging_file(dir).map_err(failed)?), path.to_owned()))
    }

    pub(super) fn write(&mut self, text: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Stdout(out) => out.write(text),
            Self::File(file, path) => {
                file.write_all(text).map_err(|error| Failure::System(format!("{}: {error}", path.display())))
            }
        }
    }

    /// Hands everything over.
    pub(super) fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Stdout(out) => out.finish(),
            Self::File(file, path) => {
                let failed = |error: std::io::Error| Failure::System(format!("{}: {error}", path.display()));
                let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
                file.persist(&path).map_err(|error| failed(error.error))?;
                Ok(())
            }
        }
    }
}

/// The format that a report's file name asks for.
pub(super) fn format_of(path: &Path) -> Result<CheckFormat, Failure> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ending = name.rsplit('.').next().unwrap_or_default();
    Ok(match ending {
        "jsonl" => CheckFormat::Jsonl,
        "json" => CheckFormat::Json,
        "csv" => CheckFormat::Csv,
        "xml" => CheckFormat::Junit,
        "sarif" => CheckFormat::Sarif,
        "md" => CheckFormat::Markdown,
        "html" => CheckFormat::Html,
        _ => {
            let known = ".jsonl, .json, .csv, .xml (JUnit), .sarif, .md or .html";
            return Err(Failure::Usage(format!("{}: the ending says the format, {known}", path.display())));
        }
    })
}

/// The reports of a run, and where they go.
pub(super) struct Reports<'a> {
    context: &'a Context<'a>,
    all: Vec<Box<dyn Report + 'a>>,
}

/// Where reports go, with the lines that were written to each.
pub(super) struct Targets<'a> {
    reports: &'a Reports<'a>,
    all: Vec<(Target, usize)>,
    /// Objects before which all defects are told.
    before: usize,
}

impl<'a> Reports<'a> {
    /// The one for stdout, if it is a report, and those for files.
    pub(super) fn new(context: &'a Context<'a>) -> Result<Self, Failure> {
        let formats = context.args.reports.iter().map(|it| format_of(it));
        let formats = formats.collect::<Result<Vec<_>, _>>()?;
        let formats = context.reports_to_stdout().then_some(context.args.format).into_iter().chain(formats);
        Ok(Self { context, all: formats.filter_map(|it| context.report(it)).collect() })
    }

    /// What each of them has of an object.
    pub(super) fn object(&self, object: usize, verdicts: &Verdicts) -> Vec<Vec<u8>> {
        self.all.iter().map(|it| it.object(object, verdicts)).collect()
    }
}

impl<'a> Targets<'a> {
    /// Opens them, and writes what comes before objects.
    pub(super) fn open(reports: &'a Reports<'a>) -> Result<Self, Failure> {
        let args = reports.context.args;
        let stdout = reports.context.reports_to_stdout().then(|| Target::Stdout(Output::binary()));
        let files = args.reports.iter().map(|it| Target::file(it));
        let all = stdout.into_iter().map(Ok).chain(files).map(|it| it.map(|it| (it, 0)));
        let mut this = Self { reports, all: all.collect::<Result<_, _>>()?, before: 0 };
        this.write_each(|it| it.start())?;
        for defect in &reports.context.inputs.defects {
            this.write_each(|it| it.defect(defect))?;
        }
        Ok(this)
    }

    /// Writes an object's pieces, behind the defects of objects before it.
    pub(super) fn object(&mut self, object: usize, pieces: &[Vec<u8>]) -> Result<(), Failure> {
        self.defects_until(object)?;
        for (target, piece) in self.all.iter_mut().zip(pieces) {
            write(target, piece)?;
        }
        Ok(())
    }

    /// Writes what comes last. From then on, files are there.
    pub(super) fn finish(mut self, summary: &Summary<'_>, complete: bool) -> Result<(), Failure> {
        self.defects_until(self.reports.context.inputs.objects.len())?;
        for (report, (mut target, rows)) in self.reports.all.iter().zip(self.all) {
            target.write(&report.end(&Ended { summary, complete, rows }))?;
            target.finish()?;
        }
        Ok(())
    }

    fn defects_until(&mut self, object: usize) -> Result<(), Failure> {
        while self.before <= object {
            for defect in self.reports.context.inputs.defects_before(self.before) {
                self.write_each(|it| it.defect(defect))?;
            }
            self.before += 1;
        }
        Ok(())
    }

    fn write_each(&mut self, piece: impl Fn(&dyn Report) -> Vec<u8>) -> Result<(), Failure> {
        for (report, target) in self.reports.all.iter().zip(&mut self.all) {
            write(target, &piece(report.as_ref()))?;
        }
        Ok(())
    }
}

fn write((target, rows): &mut (Target, usize), piece: &[u8]) -> Result<(), Failure> {
    *rows += piece.iter().filter(|it| **it == b'\n').count();
    target.write(piece)
}

/// The name of a program.
fn program_name(object: &Object<'_>, verdict: &ProgramVerdict) -> String {
    let program = object.programs().get(verdict.program);
    program.map(|it| String::from_utf8_lossy(it.name).into_owned()).unwrap_or_default()
}
