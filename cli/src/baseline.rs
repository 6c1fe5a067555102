//! What changed between two runs of `check`: `compare`, and `check --baseline`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use btfleet_engine::report::{Effect, Verdict};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::args::{CompareArgs, FailOn, Format};
use crate::output::{BAD, Exit, Failure, GOOD, HEAD, Output, WARN, message, paint, plural};
use crate::rows::push_line;

/// Groups of changes of one kind, and names in one of them, that are listed.
const GROUPS_SHOWN: usize = 20;
const NAMES_SHOWN: usize = 4;
/// Longest line of a run that is read, in **bytes**: a row has one program's findings.
const LINE_MAX: usize = 64 << 20;

/// One program on one kernel, as `check --format jsonl` writes it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Row {
    t: String,
    #[serde(default)]
    object: String,
    #[serde(default)]
    program: String,
    #[serde(default)]
    kernel: String,
    #[serde(default)]
    verdict: String,
    /// Whether libbpf loads it unasked; what it does not load is no regression.
    #[serde(default)]
    autoload: bool,
    #[serde(default)]
    findings: Vec<Finding>,
    /// Of the last row.
    #[serde(default)]
    models: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Finding {
    code: String,
    #[serde(default)]
    effect: String,
    root: Option<String>,
    path: Option<String>,
    subject: Option<String>,
}

impl Finding {
    /// What it is about.
    fn about(&self) -> &str {
        self.path.as_deref().or(self.subject.as_deref()).or(self.root.as_deref()).unwrap_or_default()
    }
}

impl Row {
    fn key(&self) -> u128 {
        xxh3_128(format!("{}\0{}\0{}", self.object, self.program, self.kernel).as_bytes())
    }

    /// What its findings are, whatever their order.
    fn print(&self) -> u64 {
        let of_one = |it: &Finding| xxh3_64(format!("{}\0{}\0{}", it.code, it.effect, it.about()).as_bytes());
        self.findings.iter().map(of_one).fold(0, u64::wrapping_add)
    }

    fn verdict(&self) -> Option<Verdict> {
        Verdict::ALL.into_iter().find(|it| it.name() == self.verdict)
    }

    /// The finding that its verdict rests on, in words.
    fn cause(&self) -> String {
        let badness = |it: &&Finding| Effect::ALL.iter().position(|effect| effect.name() == it.effect);
        // Of several that are as bad, the first.
        let worst = self.findings.iter().rev().max_by_key(badness);
        worst.map_or_else(|| self.verdict.clone(), |it| format!("{} {}", it.code, it.about()))
    }
}

/// What became of a program on a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Change {
    /// It fails and did not, or was not there.
    NewFailure,
    /// Its verdict is worse, and no failure.
    Worse,
    /// Its verdict is the same, its findings are others.
    Changed,
    /// Its verdict is better, and it did not fail.
    Better,
    /// It failed and does not.
    Fixed,
    /// It was not there, and does not fail.
    Added,
    /// It is not there any more.
    Removed,
}

impl Change {
    const ALL: [Self; 7] =
        [Self::NewFailure, Self::Worse, Self::Changed, Self::Better, Self::Fixed, Self::Added, Self::Removed];

    fn words(self) -> (anstyle::Style, &'static str) {
        match self {
            Self::NewFailure => (BAD, "new failures"),
            Self::Worse => (WARN, "worse"),
            Self::Changed => (WARN, "other findings"),
            Self::Better => (GOOD, "better"),
            Self::Fixed => (GOOD, "fixed"),
            Self::Added => (HEAD, "added"),
            Self::Removed => (HEAD, "removed"),
        }
    }
}

/// What is kept of a row of the earlier run.
struct Before {
    verdict: Verdict,
    print: u64,
    is_met: bool,
}

/// An earlier run, and what is different from it.
pub(crate) struct Baseline {
    path: std::path::PathBuf,
    /// The kernel that counts as the earlier run, and the one that counts as the later.
    kernels: Option<(String, String)>,
    rows: HashMap<u128, Before>,
    models: String,
    fail_on: FailOn,
    counts: BTreeMap<Change, usize>,
    groups: BTreeMap<(Change, String), Group>,
    is_regression: bool,
    row_count: usize,
}

/// Changes of one cause.
#[derive(Default)]
struct Group {
    programs: BTreeSet<String>,
    kernels: BTreeSet<String>,
    count: usize,
}

/// A change as a row.
#[derive(Serialize)]
struct ChangeRow<'a> {
    v: u32,
    t: &'static str,
    change: Change,
    object: &'a str,
    program: &'a str,
    kernel: &'a str,
    before: Option<&'static str>,
    after: Option<&'static str>,
    causes: Vec<String>,
}

#[derive(Serialize)]
struct EndRow {
    v: u32,
    t: &'static str,
    regression: bool,
    before: usize,
    after: usize,
    changes: BTreeMap<Change, usize>,
}

impl Baseline {
    /// Reads the rows of an earlier run, in JSON Lines.
    pub(crate) fn read(path: &Path, fail_on: FailOn) -> Result<Self, Failure> {
        let mut this = Self::empty(path, fail_on);
        let (rows, models) = (&mut this.rows, &mut this.models);
        for_each_row(path, |row| {
            match (row.t.as_str(), row.verdict()) {
                ("verdict", Some(verdict)) => {
                    rows.insert(row.key(), Before { verdict, print: row.print(), is_met: false });
                }
                ("end", _) => *models = row.models,
                _ => {}
            }
            Ok(())
        })?;
        Ok(this)
    }

    /// What a kernel has is compared with what another one has, both of the same run.
    pub(crate) fn of_kernel(before: &str, new: &str, fail_on: FailOn) -> Self {
        Self { kernels: Some((before.to_owned(), new.to_owned())), ..Self::empty(Path::new(""), fail_on) }
    }

    fn empty(path: &Path, fail_on: FailOn) -> Self {
        Self {
            path: path.to_owned(),
            kernels: None,
            rows: HashMap::new(),
            models: String::new(),
            fail_on,
            counts: BTreeMap::new(),
            groups: BTreeMap::new(),
            is_regression: false,
            row_count: 0,
        }
    }

    /// Takes a row of the later run. Returns it as a change, as a line of JSON, if it is one.
    fn take(&mut self, row: &Row) -> Option<Vec<u8>> {
        let after = row.verdict()?;
        self.row_count += 1;
        let is_failure = |it: Verdict| crate::check::is_finding(it, self.fail_on);
        let before = self.rows.get_mut(&row.key());
        let (change, before) = match before {
            None if is_failure(after) => (Change::NewFailure, None),
            None => (Change::Added, None),
            Some(before) => {
                before.is_met = true;
                let verdict = before.verdict;
                let change = match () {
                    () if is_failure(after) && !is_failure(verdict) => Change::NewFailure,
                    () if is_failure(verdict) && !is_failure(after) => Change::Fixed,
                    () if after > verdict => Change::Worse,
                    () if after < verdict => Change::Better,
                    () if before.print != row.print() => Change::Changed,
                    () => return None,
                };
                (change, Some(verdict))
            }
        };
        self.is_regression |= change == Change::NewFailure && row.autoload;
        self.note(change, row);
        let mut line = Vec::new();
        let causes: BTreeSet<String> =
            row.findings.iter().map(|it| format!("{} {}", it.code, it.about())).collect();
        push_line(
            &mut line,
            &ChangeRow {
                v: 1,
                t: "change",
                change,
                object: &row.object,
                program: &row.program,
                kernel: &row.kernel,
                before: before.map(Verdict::name),
                after: Some(after.name()),
                causes: causes.into_iter().collect(),
            },
        );
        Some(line)
    }

    fn note(&mut self, change: Change, row: &Row) {
        *self.counts.entry(change).or_default() += 1;
        let about = match change {
            Change::Added | Change::Removed => String::new(),
            Change::Fixed | Change::Better => format!("now {}", row.verdict),
            _ => row.cause(),
        };
        let group = self.groups.entry((change, about)).or_default();
        let object = row.object.rsplit('/').next().unwrap_or_default();
        // Enough to name a few.
        if group.programs.len() <= NAMES_SHOWN * 4 {
            group.programs.insert(format!("{object} {}", row.program));
        }
        group.kernels.insert(row.kernel.rsplit('/').next().unwrap_or_default().to_owned());
        group.count += 1;
    }

    /// Takes rows as they were written.
    pub(crate) fn take_lines(&mut self, lines: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut changes = Vec::new();
        for line in lines.split(|it| *it == b'\n').filter(|it| !it.is_empty()) {
            let mut row: Row = serde_json::from_slice(line)
                .map_err(|error| Failure::Internal(format!("a row that cannot be read back: {error}")))?;
            if let Some((_, new)) = self.kernels.as_ref().filter(|it| it.0 == row.kernel) {
                row.kernel.clone_from(new);
                if let (Some(verdict), "verdict") = (row.verdict(), row.t.as_str()) {
                    self.rows.insert(row.key(), Before { verdict, print: row.print(), is_met: false });
                }
            } else if row.t == "verdict" {
                changes.extend(self.take(&row).unwrap_or_default());
            }
        }
        Ok(changes)
    }

    /// Notes what is not there any more, for which the earlier run is read once more.
    fn removed(&mut self, mut each: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        if self.kernels.is_some() || self.rows.values().all(|it| it.is_met) {
            return Ok(());
        }
        let path = self.path.clone();
        for_each_row(&path, |row| {
            let is_gone = row.t == "verdict" && self.rows.get(&row.key()).is_some_and(|it| !it.is_met);
            if is_gone {
                self.note(Change::Removed, &row);
                let mut line = Vec::new();
                let before = row.verdict().map(Verdict::name);
                let (object, program, kernel) = (&row.object, &row.program, &row.kernel);
                let change = Change::Removed;
                let row = ChangeRow {
                    v: 1,
                    t: "change",
                    change,
                    object,
                    program,
                    kernel,
                    before,
                    after: None,
                    causes: Vec::new(),
                };
                push_line(&mut line, &row);
                each(&line)?;
            }
            Ok(())
        })
    }

    /// Writes what is left to say, and how the run is to end if everything was judged.
    pub(crate) fn finish(mut self, out: &mut Output, format: Format) -> Result<Exit, Failure> {
        self.removed(|line| if format == Format::Jsonl { out.write(line) } else { Ok(()) })?;
        match format {
            Format::Jsonl => {
                let mut line = Vec::new();
                let (before, after) = (self.rows.len(), self.row_count);
                let (regression, changes) = (self.is_regression, self.counts);
                push_line(&mut line, &EndRow { v: 1, t: "end", regression, before, after, changes });
                out.write(&line)?;
            }
            Format::Table => self.print(out)?,
        }
        Ok(if self.is_regression { Exit::Finding } else { Exit::Fine })
    }

    fn print(&self, out: &mut Output) -> Result<(), Failure> {
        let count = |change: &Change| self.counts.get(change).copied().unwrap_or(0);
        let counts = Change::ALL.iter().filter(|it| count(it) > 0).map(|it| {
            let (style, words) = it.words();
            format!("{} {}", paint(style, words), count(it))
        });
        let counts: Vec<String> = counts.collect();
        let rows = format!("{} before, {} now", self.rows.len(), self.row_count);
        if counts.is_empty() {
            return out.prose(&format!("nothing changed: {} programs on kernels", self.row_count), 0);
        }
        out.prose(&format!("{} ({rows})", counts.join(", ")), 0)?;
        for change in Change::ALL {
            let mut groups: Vec<(&str, &Group)> = self
                .groups
                .iter()
                .filter(|it| it.0.0 == change)
                .map(|((_, about), group)| (about.as_str(), group))
                .collect();
            if groups.is_empty() {
                continue;
            }
            groups.sort_by_key(|it| std::cmp::Reverse(it.1.count));
            let (style, words) = change.words();
            out.line("")?;
            out.line(&paint(style, words))?;
            for (about, group) in groups.iter().take(GROUPS_SHOWN) {
                let about =
                    if about.is_empty() { String::new() } else { format!("{}: ", paint(HEAD, about)) };
                let (programs, kernels) = (some_of(&group.programs), kernels(&group.kernels));
                out.prose(&format!("  {about}{programs} on {kernels}"), 4)?;
            }
            if groups.len() > GROUPS_SHOWN {
                let more = plural(groups.len() - GROUPS_SHOWN, "more cause");
                out.prose(&format!("  … and {more}; --format jsonl has them"), 4)?;
            }
        }
        Ok(())
    }
}

fn kernels(names: &BTreeSet<String>) -> String {
    match names.len() {
        1 => some_of(names),
        count => format!("{}: {}", plural(count, "kernel"), some_of(names)),
    }
}

fn some_of(names: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES_SHOWN).map(String::as_str).collect();
    let more = if names.len() > NAMES_SHOWN { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// Reads a run of `check --format jsonl`, row by row.
///
/// # Errors
/// If it cannot be read, is something else, or is cut.
fn for_each_row(path: &Path, mut each: impl FnMut(Row) -> Result<(), Failure>) -> Result<(), Failure> {
    let failed = |line: usize, what: &str| Failure::System(format!("{}:{line}: {what}", path.display()));
    let file = File::open(path).map_err(|error| Failure::System(format!("{}: {error}", path.display())))?;
    let mut file = BufReader::with_capacity(1 << 16, file);
    let (mut text, mut number, mut has_end) = (Vec::new(), 0, false);
    loop {
        text.clear();
        let read = std::io::Read::take(&mut file, LINE_MAX as u64).read_until(b'\n', &mut text);
        let len = read.map_err(|error| failed(number + 1, &error.to_string()))?;
        if len == 0 {
            break;
        }
        number += 1;
        if has_end {
            return Err(failed(number, "something follows the row of the end"));
        }
        let row: Row = serde_json::from_slice(&text)
            .map_err(|error| failed(number, &format!("no row of 'check --format jsonl': {error}")))?;
        has_end = row.t == "end";
        each(row)?;
    }
    if has_end { Ok(()) } else { Err(failed(number, "the row of the end is missing: the run is cut")) }
}

/// `btfleet compare A B`.
pub(crate) fn compare(args: &CompareArgs) -> Result<Exit, Failure> {
    let mut baseline = Baseline::read(&args.before, args.fail_on)?;
    let mut out = Output::new();
    let mut models = String::new();
    for_each_row(&args.after, |row| {
        if row.t == "end" {
            models = row.models;
            return Ok(());
        }
        let change = if row.t == "verdict" { baseline.take(&row) } else { None };
        match change.filter(|_| args.format == Format::Jsonl) {
            Some(line) => out.write(&line),
            None => Ok(()),
        }
    })?;
    baseline.check_models(&models);
    let exit = baseline.finish(&mut out, args.format)?;
    out.finish()?;
    Ok(exit)
}

impl Baseline {
    /// Says it if the runs are not of the same loader.
    pub(crate) fn check_models(&self, models: &str) {
        if self.kernels.is_none() && self.models != models {
            message(&format!("the earlier run is of {}, this one of {models}", self.models));
        }
    }
}
