//! What `check` finds, for machines and for the web: a format each, written object by object as they are judged.

mod csv;
mod flat;
mod html;
mod json;
mod junit;
mod markdown;
mod parquet;
mod sarif;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use btfleet_engine::embed::Loaders;
use btfleet_engine::ingest::InputError;
use btfleet_engine::object::Object;
use btfleet_engine::report::{ProgramVerdict, Verdicts};
use tempfile::NamedTempFile;

use super::inventory::Weighed;
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
    /// SHA-256 of the distinct objects, in hexadecimal.
    pub(super) hashes: Vec<String>,
}

/// How a run ended.
pub(super) struct Ended<'a> {
    pub(super) summary: &'a Summary<'a>,
    /// With `--inventory`.
    pub(super) weighed: Option<&'a Weighed<'a>>,
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
    fn object(&self, _: usize, _: &Verdicts) -> Piece {
        Vec::new().into()
    }

    /// What comes last.
    fn end(&self, ended: &Ended<'_>) -> Piece;
}

/// A part of a report.
pub(super) enum Piece {
    /// As it is written.
    Text(Vec<u8>),
    /// Rows of a table.
    Rows(Box<parquet::Rows>),
    /// What is said of a table as a whole.
    Facts(Vec<(&'static str, String)>),
}

impl From<Vec<u8>> for Piece {
    fn from(text: Vec<u8>) -> Self {
        Self::Text(text)
    }
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
            CheckFormat::Parquet => Box::new(parquet::Parquet(self)),
        })
    }

    /// The rows of an object in JSON Lines.
    pub(super) fn rows(&'a self, object: usize, verdicts: &Verdicts) -> Vec<u8> {
        json::Lines(self).lines(object, verdicts)
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
        // Better now than when everything is judged.
        if path.is_dir() {
            return Err(failed(path, std::io::ErrorKind::IsADirectory.into()));
        }
        let file = staging_file(dir).map_err(|error| failed(path, error))?;
        Ok(Self::File(BufWriter::with_capacity(1 << 16, file), path.to_owned()))
    }

    /// The file; empty for stdout.
    fn name(&self) -> PathBuf {
        match self {
            Self::Stdout(_) => PathBuf::new(),
            Self::File(_, path) => path.clone(),
        }
    }

    /// Hands everything over.
    pub(super) fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Stdout(out) => out.finish(),
            Self::File(file, path) => {
                let file = file.into_inner().map_err(|error| failed(&path, error.into_error()))?;
                file.persist(&path).map_err(|error| failed(&path, error.error))?;
                Ok(())
            }
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Stdout(out) => out.as_write().write(bytes),
            Self::File(file, _) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Stdout(out) => out.as_write().flush(),
            Self::File(file, _) => file.flush(),
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
        "parquet" => CheckFormat::Parquet,
        _ => {
            let known = ".jsonl, .json, .csv, .xml (JUnit), .sarif, .md, .html or .parquet";
            return Err(Failure::Usage(format!("{}: the ending says the format, {known}", path.display())));
        }
    })
}

/// The reports of a run, and where they go.
pub(super) struct Reports<'a> {
    context: &'a Context<'a>,
    all: Vec<Box<dyn Report + 'a>>,
}

/// Where reports go.
pub(super) struct Targets<'a> {
    reports: &'a Reports<'a>,
    all: Vec<Sink>,
    /// Objects before which all defects are told.
    before: usize,
}

/// What takes the pieces of a report.
enum Sink {
    /// With the lines that were written.
    Text(Target, usize),
    Table(Box<parquet::Table<Target>>, PathBuf),
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
    pub(super) fn object(&self, object: usize, verdicts: &Verdicts) -> Vec<Piece> {
        self.all.iter().map(|it| it.object(object, verdicts)).collect()
    }
}

impl<'a> Targets<'a> {
    /// Opens them, and writes what comes before objects.
    pub(super) fn open(reports: &'a Reports<'a>) -> Result<Self, Failure> {
        let args = reports.context.args;
        let mut all = Vec::new();
        if reports.context.reports_to_stdout() {
            all.push(Sink::new(Target::Stdout(Output::binary()), args.format)?);
        }
        for path in &args.reports {
            all.push(Sink::new(Target::file(path)?, format_of(path)?)?);
        }
        let mut this = Self { reports, all, before: 0 };
        this.write_each(|it| it.start())?;
        for defect in &reports.context.inputs.defects {
            this.write_each(|it| it.defect(defect))?;
        }
        Ok(this)
    }

    /// Writes an object's pieces, behind the defects of objects before it.
    pub(super) fn object(&mut self, object: usize, pieces: Vec<Piece>) -> Result<(), Failure> {
        self.defects_until(object)?;
        self.all.iter_mut().zip(pieces).try_for_each(|(sink, piece)| sink.take(piece))
    }

    /// Writes what comes last. From then on, files are there.
    pub(super) fn finish(
        mut self,
        summary: &Summary<'_>,
        weighed: Option<&Weighed<'_>>,
        complete: bool,
    ) -> Result<(), Failure> {
        self.defects_until(self.reports.context.inputs.objects.len())?;
        for (report, sink) in self.reports.all.iter().zip(self.all) {
            let rows = if let Sink::Text(_, rows) = &sink { *rows } else { 0 };
            sink.finish(report.end(&Ended { summary, weighed, complete, rows }))?;
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
        let mut each = self.reports.all.iter().zip(&mut self.all);
        each.try_for_each(|(report, sink)| sink.take(piece(report.as_ref()).into()))
    }
}

impl Sink {
    fn new(target: Target, format: CheckFormat) -> Result<Self, Failure> {
        if format != CheckFormat::Parquet {
            return Ok(Self::Text(target, 0));
        }
        let name = target.name();
        let table = parquet::Table::new(target).map_err(|error| failed(&name, error))?;
        Ok(Self::Table(Box::new(table), name))
    }

    fn take(&mut self, piece: Piece) -> Result<(), Failure> {
        match (self, piece) {
            (Self::Text(target, rows), Piece::Text(text)) => {
                *rows += text.iter().filter(|it| **it == b'\n').count();
                target.write_all(&text).map_err(|error| failed(&target.name(), error))
            }
            (Self::Table(table, name), Piece::Rows(rows)) => {
                table.add(*rows).map_err(|error| failed(name, error))
            }
            (Self::Table(table, _), Piece::Facts(facts)) => {
                table.say(facts);
                Ok(())
            }
            // A table has no place for what is no row.
            _ => Ok(()),
        }
    }

    fn finish(mut self, last: Piece) -> Result<(), Failure> {
        self.take(last)?;
        match self {
            Self::Text(target, _) => target.finish(),
            Self::Table(table, name) => {
                table.finish().map_err(|error| failed(&name, error)).and_then(Target::finish)
            }
        }
    }
}

/// An error of writing. Of stdout the name is empty.
fn failed(name: &Path, error: std::io::Error) -> Failure {
    match name.as_os_str().is_empty() {
        true => error.into(),
        false => Failure::System(format!("{}: {error}", name.display())),
    }
}

/// The name of a program.
fn program_name(object: &Object<'_>, verdict: &ProgramVerdict) -> String {
    let program = object.programs().get(verdict.program);
    program.map(|it| String::from_utf8_lossy(it.name).into_owned()).unwrap_or_default()
}
