//! Fetching: from the list to a plan, from the plan to files, one package at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use glob::Pattern;

use super::apt::{self, Apt, Package};
use super::extract::{Output, extract};
use super::list::{self, Part, Row, Suite};
use super::manifest::{Entry, Manifest};
use super::progress::Progress;
use super::sources::Sources;
use super::{Error, create_dir, write_file};

/// The list that is compiled in.
const LIST: &str = include_str!("../../packages.tsv");

/// What to fetch, and where to.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) dir: PathBuf,
    /// Instead of the list that is compiled in.
    pub(crate) list: Option<PathBuf>,
    /// If there are any, only packages that one of them matches.
    pub(crate) only: Vec<Pattern>,
    /// Keep the packages, in `debs`.
    pub(crate) keep: bool,
    /// Only estimate.
    pub(crate) dry_run: bool,
}

/// What became of the list.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) estimate: Estimate,
    /// Packages fetched in this run.
    pub(crate) fetched: usize,
    /// What of the list is not there, a line each, with the reason.
    pub(crate) missing: Vec<String>,
}

/// What fetching takes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// Packages to download.
    pub(crate) packages: usize,
    /// Bytes to download.
    pub(crate) download: u64,
    /// Bytes of the largest package, which are needed for a while.
    pub(crate) largest: u64,
    /// Bytes that will be kept, roughly.
    pub(crate) kept: u64,
    /// Packages that are there already.
    pub(crate) present: usize,
}

/// A package to fetch.
struct Job {
    suite: Suite,
    package: Package,
    parts: BTreeSet<Part>,
}

impl Job {
    fn key(&self) -> [String; 3] {
        [self.package.name.clone(), self.package.version.clone(), self.suite.architecture.clone()]
    }
}

/// Fetches what the list names and the directory does not have.
///
/// What of the list cannot be had is in the report; everything else is fetched all the same.
///
/// # Errors
/// If the list or the directory cannot be used, or apt does not run.
pub(crate) fn fetch(options: &Options) -> Result<Report, Error> {
    let rows = read_rows(options)?;
    create_dir(&options.dir)?;
    let dir =
        fs::canonicalize(&options.dir).map_err(|error| Error::Read { path: options.dir.clone(), error })?;
    let _lock = lock(&dir)?;
    let mut manifest = Manifest::read(&dir)?;
    manifest.repair()?;

    let progress = Progress::new();
    let mut missing = Vec::new();
    let states = open_suites(&dir, &rows, &progress)?;
    let mut jobs = plan(&rows, &states, &mut missing)?;
    let all = jobs.len();
    jobs.retain(|job| !manifest.has(&dir, &job.key(), &job.parts));
    let estimate = estimate(&jobs, all);
    if options.dry_run {
        return Ok(Report { estimate, fetched: 0, missing });
    }
    progress.say(&estimate.to_string());
    for line in &missing {
        progress.say(&format!("missing: {line}"));
    }

    let mut fetched = 0;
    progress.begin(estimate.download);
    for (index, job) in jobs.iter().enumerate() {
        let Some(Ok(apt)) = states.get(&job.suite) else { continue };
        match fetch_one(&dir, apt, job, options.keep, &progress) {
            Ok(entry) => {
                progress.done(job.package.size, &summary(&entry));
                manifest.append(entry)?;
                fetched += 1;
            }
            Err(Failure::Package(reason)) => {
                let Package { name, version, .. } = &job.package;
                let line = format!("{name}={version} ({}): {reason}", job.suite);
                progress.done(job.package.size, &format!("missing: {line}"));
                missing.push(line);
            }
            Err(Failure::Other(error)) => return Err(error),
        }
        if jobs.get(index + 1).is_none_or(|next| next.suite != job.suite) {
            apt.drop_cache();
        }
    }
    progress.end();
    remove(&dir.join(".scratch"))?;
    Ok(Report { estimate, fetched, missing })
}

fn read_rows(options: &Options) -> Result<Vec<Row>, Error> {
    let mut rows = match &options.list {
        None => list::parse(LIST)?,
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|error| Error::Read { path: path.clone(), error })?;
            list::parse(&text)?
        }
    };
    if !options.only.is_empty() {
        // A row may be a pattern itself: then its packages are what counts, and `plan` is too late to
        // save fetching the suite's list, so both are compared as text.
        rows.retain(|row| options.only.iter().any(|only| only.matches(row.package.as_str())));
    }
    Ok(rows)
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join(".lock");
    let file = File::create(&path).map_err(|error| Error::Write { path, error })?;
    // Released by the end of the process, however it ends.
    file.try_lock().map_err(|_| Error::Busy { dir: dir.to_owned() })?;
    Ok(file)
}

/// The state of apt for each suite of the list, or why the suite is not to be had.
type Suites = BTreeMap<Suite, Result<Apt, String>>;

fn open_suites(dir: &Path, rows: &[Row], progress: &Progress) -> Result<Suites, Error> {
    let sources = Sources::of_machine(Path::new("/etc/apt"))?;
    let settings = apt::download_settings()?;
    let suites: BTreeSet<_> = rows.iter().map(|row| &row.suite).collect();
    progress.begin_suites(suites.len());
    let mut states = Suites::new();
    for suite in suites {
        progress.suite(&suite.to_string());
        let state = dir.join(".apt").join(format!("{}_{}", suite.name, suite.architecture));
        let state = match Apt::new(state, suite, &sources, &settings)? {
            None => Err("this machine has no source of security updates".to_owned()),
            Some(apt) => match apt.update() {
                Ok(()) => Ok(apt),
                Err(Error::ToolFailed { stderr, .. }) => Err(stderr),
                Err(error) => return Err(error),
            },
        };
        states.insert(suite.clone(), state);
    }
    progress.end();
    Ok(states)
}

/// The packages that the rows stand for, suite by suite, each once however many suites have it.
fn plan(rows: &[Row], states: &Suites, missing: &mut Vec<String>) -> Result<Vec<Job>, Error> {
    let mut jobs: Vec<Job> = Vec::new();
    let mut known: BTreeMap<[String; 3], usize> = BTreeMap::new();
    for (suite, state) in states {
        let rows: Vec<_> = rows.iter().filter(|row| row.suite == *suite).collect();
        let packages = match state {
            Ok(apt) => apt.packages(|name| rows.iter().any(|row| row.package.matches(name)))?,
            Err(reason) => {
                missing.extend(rows.iter().map(|row| format!("{} ({suite}): {reason}", row.package)));
                continue;
            }
        };
        for row in rows {
            let mut found = packages.iter().filter(|it| row.package.matches(&it.name)).peekable();
            if found.peek().is_none() {
                missing.push(format!("{} ({suite}): the suite has no such package", row.package));
            }
            for package in found {
                let parts = row.parts.iter().copied().collect();
                let job = Job { suite: suite.clone(), package: package.clone(), parts };
                match known.get(&job.key()).and_then(|&index| jobs.get_mut(index)) {
                    Some(earlier) => earlier.parts.extend(job.parts),
                    None => {
                        known.insert(job.key(), jobs.len());
                        jobs.push(job);
                    }
                }
            }
        }
    }
    Ok(jobs)
}

fn estimate(jobs: &[Job], all: usize) -> Estimate {
    // Measured on the committed list, rounded up.
    let kept = |part| match part {
        Part::Kernel => 5 << 20,
        Part::Modules => 36 << 20,
        Part::Objects => 2 << 20,
    };
    Estimate {
        packages: jobs.len(),
        download: jobs.iter().map(|it| it.package.size).sum(),
        largest: jobs.iter().map(|it| it.package.size).max().unwrap_or(0),
        kept: jobs.iter().flat_map(|it| &it.parts).map(|&part| kept(part)).sum(),
        present: all - jobs.len(),
    }
}

impl std::fmt::Display for Estimate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mb = |bytes: u64| bytes.div_ceil(1_000_000);
        write!(
            f,
            "{} packages to download, {} MB; {} there already. On disk: about {} MB of results, and up to \
             {} MB for the package at hand",
            self.packages,
            mb(self.download),
            self.present,
            mb(self.kept),
            mb(self.largest),
        )
    }
}

/// Why a package was not fetched.
enum Failure {
    /// It concerns this package only: the run goes on.
    Package(String),
    /// The next package would fail the same way.
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::ToolFailed { stderr, .. } => Failure::Package(stderr),
            error => Failure::Other(error),
        }
    }
}

fn fetch_one(dir: &Path, apt: &Apt, job: &Job, keep: bool, progress: &Progress) -> Result<Entry, Failure> {
    let Job { suite, package, parts } = job;
    progress.package(&package.name);
    let scratch = dir.join(".scratch");
    remove(&scratch)?;
    create_dir(&scratch)?;
    let deb = apt.download(package, &scratch, |bytes| progress.bytes(bytes))?;

    let file = File::open(&deb).map_err(|error| Error::Read { path: deb.clone(), error })?;
    let name = format!("{}_{}_{}", package.name, package.version, suite.architecture);
    let outputs = extract(BufReader::new(file), &name, parts).map_err(Failure::Package)?;
    let temporary = scratch.join("output");
    for Output { file, data } in &outputs {
        write_file(&temporary, data)?;
        rename(&temporary, &dir.join(&file.path))?;
    }
    if keep {
        rename(&deb, &dir.join("debs").join(deb.file_name().unwrap_or_default()))?;
    }
    Ok(Entry {
        package: package.name.clone(),
        version: package.version.clone(),
        architecture: suite.architecture.clone(),
        suite: suite.name.clone(),
        size: package.size,
        sha256: package.sha256.clone(),
        parts: parts.iter().copied().collect(),
        files: outputs.into_iter().map(|it| it.file).collect(),
    })
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    if let Some(parent) = to.parent() {
        create_dir(parent)?;
    }
    fs::rename(from, to).map_err(|error| Error::Write { path: to.to_owned(), error })
}

fn remove(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Write { path: dir.to_owned(), error })
        }
        _ => Ok(()),
    }
}

/// What a package gave, in a line.
fn summary(entry: &Entry) -> String {
    let count = |part| entry.files.iter().filter(|it| it.part == part).count();
    let types: usize = entry.files.iter().map(|it| it.types).sum();
    let records: usize = entry.files.iter().map(|it| it.records).sum();
    format!(
        "{}={} ({} {}): {} kernels, {} modules, {} objects, {types} types, {records} records",
        entry.package,
        entry.version,
        entry.suite,
        entry.architecture,
        count(Part::Kernel),
        count(Part::Modules),
        count(Part::Objects),
    )
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    fn job(name: &str, size: u64, parts: &[Part]) -> Job {
        Job {
            suite: Suite { name: "sid".to_owned(), architecture: "amd64".to_owned() },
            package: Package { name: name.to_owned(), version: "1".to_owned(), size, sha256: String::new() },
            parts: parts.iter().copied().collect(),
        }
    }

    #[test]
    fn estimate_adds_up_what_is_left() {
        let jobs = [job("a", 1_500_000, &[Part::Kernel]), job("b", 2_600_000, &[Part::Objects])];
        let text = estimate(&jobs, 5).to_string();
        let expected = "2 packages to download, 5 MB; 3 there already. On disk: about 8 MB of results, and \
                        up to 3 MB for the package at hand";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_suite_that_is_not_to_be_had_makes_its_rows_missing() {
        let rows = list::parse("a\tsid\tamd64\tkernel\nb\tsid\tamd64\tobjects\n").unwrap();
        let suite = rows[0].suite.clone();
        let mut missing = Vec::new();
        let jobs = plan(&rows, &Suites::from([(suite, Err("no".to_owned()))]), &mut missing).unwrap();
        assert!(jobs.is_empty());
        assert_eq!(missing, ["a (sid amd64): no", "b (sid amd64): no"]);
    }

    #[test]
    fn only_one_process_fills_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path()).unwrap();
        assert!(matches!(lock(dir.path()), Err(Error::Busy { .. })));
        drop(first);
        assert!(lock(dir.path()).is_ok());
    }
}
