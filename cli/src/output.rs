//! The only module that writes: data to stdout, messages and progress to stderr.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anstream::adapter::StripBytes;
use anstyle::{AnsiColor, Style};
use btfleet_engine::embed::DamagedPack;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::text;

/// How a run ended; the numbers are the contract with scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Nothing to report.
    Fine = 0,
    /// A finding at or above what was asked for.
    Finding = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// Some input could not be read or judged.
    NotJudged = 3,
    /// A bug in this program.
    Internal = 70,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a run stopped before its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Whoever read stdout has gone.
    OutputClosed,
    /// Output cannot be written.
    Output(io::Error),
    /// The command line makes no sense.
    Usage(String),
    /// The system refuses something that the run needs.
    System(String),
    /// A bug in this program, which it found itself.
    Internal(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OutputClosed => f.write_str("stdout was closed"),
            Self::Output(error) => write!(f, "cannot write output: {error}"),
            Self::Usage(what) | Self::System(what) => f.write_str(what),
            Self::Internal(what) => write!(f, "internal error: {what}"),
        }
    }
}

impl From<DamagedPack> for Failure {
    fn from(error: DamagedPack) -> Self {
        Self::System(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Output(error),
        }
    }
}

/// Stdout, buffered; colours are dropped where they are not wanted.
pub(crate) struct Output {
    to: Stream,
    is_terminal: bool,
}

/// Pieces between colours are many, so that the buffer has to be behind what drops these.
struct Stream {
    to: BufWriter<io::Stdout>,
    /// What drops colours, where they are not wanted.
    strip: Option<StripBytes>,
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.strip {
            None => self.to.write_all(bytes)?,
            Some(strip) => strip.strip_next(bytes).try_for_each(|piece| self.to.write_all(piece))?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl Output {
    pub(crate) fn new() -> Self {
        Self::over(anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never)
    }

    /// Stdout for bytes that are no text: none are dropped.
    pub(crate) fn binary() -> Self {
        Self::over(true)
    }

    fn over(has_colors: bool) -> Self {
        let strip = if has_colors { None } else { Some(StripBytes::new()) };
        let to = BufWriter::with_capacity(1 << 16, io::stdout());
        Self { to: Stream { to, strip }, is_terminal: io::stdout().is_terminal() }
    }

    /// Bytes as they are: what machines read, or lines that are [`tamed`] already.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.end_progress();
        Ok(self.to.write_all(bytes)?)
    }

    /// One line, whatever is in it.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.end_progress();
        Ok(writeln!(self.to, "{}", tamed(line))?)
    }

    /// Lines that fit the terminal; all but the first begin with `indent` columns of space.
    pub(crate) fn prose(&mut self, text: &str, indent: usize) -> Result<(), Failure> {
        let mut lines = Vec::new();
        push_prose(&mut lines, text, indent);
        self.write(&lines)
    }

    /// A row of a table, on several lines only where it does not fit the terminal.
    pub(crate) fn row(&mut self, text: &str, indent: usize) -> Result<(), Failure> {
        let mut lines = Vec::new();
        push_row(&mut lines, text, indent);
        self.write(&lines)
    }

    /// For those who write by themselves.
    pub(crate) fn as_write(&mut self) -> &mut impl Write {
        self.end_progress();
        &mut self.to
    }

    /// Hands over what there is so far, for a run that takes minutes.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.to.flush()?)
    }

    /// Hands everything over; errors of delayed writes show up here.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        Ok(self.to.flush()?)
    }

    /// What is printed on a terminal shows by itself how far it is.
    fn end_progress(&self) {
        if self.is_terminal
            && let Some(bar) = bar().take()
        {
            bar.finish_and_clear();
        }
    }
}

/// Appends what [`Output::prose`] writes, where another thread writes it.
pub(crate) fn push_prose(out: &mut Vec<u8>, text: &str, indent: usize) {
    push_lines(out, text, indent, width());
}

/// Appends what [`Output::row`] writes.
pub(crate) fn push_row(out: &mut Vec<u8>, text: &str, indent: usize) {
    push_lines(out, text, indent, row_width());
}

fn push_lines(out: &mut Vec<u8>, text: &str, indent: usize, width: usize) {
    for line in text::hanging(&tamed(text), indent, width) {
        out.extend(line.bytes());
        out.push(b'\n');
    }
}

/// One line to stderr. If stderr is closed there is nobody to tell.
pub(crate) fn message(line: &str) {
    let write = || {
        let _ = writeln!(anstream::stderr(), "{}", tamed(line));
    };
    match &*bar() {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// The progress that may be on the terminal: one at a time.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

fn bar() -> std::sync::MutexGuard<'static, Option<ProgressBar>> {
    BAR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How far something is, on a terminal only, and only in a run that takes longer than [`Progress::DELAY`]. It goes when
/// this is dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    /// Its end wakes the thread that waits.
    watched: Option<Sender<()>>,
}

impl Progress {
    /// A run that is over by then shows nothing, and neither does what is over soon in one that takes longer.
    const DELAY: Duration = Duration::from_secs(1);
    const SOON: Duration = Duration::from_millis(300);
    /// Columns of the bar itself, and those of a terminal that has space for it.
    const BAR: usize = 30;
    const WIDE: usize = 80;

    /// Of `len` `steps`: with their rate, and the time that is left.
    pub(crate) fn of(len: usize, steps: &str) -> Self {
        let template = format!("{{pos}}/{{len}} {steps}, {{rate}}, {{eta}} left");
        let bar = match columns(&io::stderr()).unwrap_or(0) >= Self::WIDE {
            true => format!("{{bar:{}}} ", Self::BAR),
            false => String::new(),
        };
        Self::new(Some(len as u64), format!("{bar}{template}"))
    }

    /// Of something whose steps are not counted.
    pub(crate) fn on(what: &str) -> Self {
        Self::new(None, format!("{{spinner}} {what}, {{elapsed}}"))
    }

    fn new(len: Option<u64>, template: String) -> Self {
        let bar = ProgressBar::with_draw_target(len, ProgressDrawTarget::hidden());
        let mut current = self::bar();
        if !io::stderr().is_terminal() || current.is_some() {
            return Self { bar, watched: None };
        }
        *current = Some(bar.clone());
        static FIRST: OnceLock<Instant> = OnceLock::new();
        let delay = Self::DELAY.saturating_sub(FIRST.get_or_init(Instant::now).elapsed()).max(Self::SOON);
        let (watched, end) = mpsc::channel();
        let waiting = bar.clone();
        std::thread::spawn(move || {
            if end.recv_timeout(delay) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            // Nobody ends it while it is locked.
            let _current = self::bar();
            if !waiting.is_finished() {
                if let Ok(style) = ProgressStyle::with_template(&template) {
                    waiting.set_style(style.with_key("rate", show_rate));
                }
                waiting.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
                waiting.enable_steady_tick(Duration::from_millis(200));
            }
        });
        Self { bar, watched: Some(watched) }
    }

    /// One more step is done.
    pub(crate) fn step(&self) {
        self.bar.inc(1);
    }
}

/// Steps in a second, as exactly as it says something.
fn show_rate(state: &ProgressState, out: &mut dyn std::fmt::Write) {
    let rate = state.per_sec();
    // A rate that cannot be shown is none.
    let _ = write!(out, "{rate:.digits$}/s", digits = usize::from(rate < 10.0));
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.watched.is_some() {
            let mut current = bar();
            self.bar.finish_and_clear();
            *current = None;
        }
    }
}

pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const HEAD: Style = Style::new().bold();

/// `text` in `style`.
pub(crate) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// A count with its noun.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Columns of a line of prose: as wide as the terminal; elsewhere as `COLUMNS` says, or what reads well.
pub(crate) fn width() -> usize {
    const ELSEWHERE: usize = 110;
    width_given().unwrap_or(ELSEWHERE)
}

/// Columns of a row of a table. Where there is no terminal they have no end: what looks for rows wants them whole.
pub(crate) fn row_width() -> usize {
    const ENDLESS: usize = 1 << 20;
    width_given().unwrap_or(ENDLESS)
}

fn width_given() -> Option<usize> {
    let given = || std::env::var("COLUMNS").ok()?.parse().ok();
    columns(&io::stdout()).or_else(given).map(|it: usize| it.clamp(20, 240))
}

fn columns(terminal: &impl std::os::fd::AsFd) -> Option<usize> {
    terminal_size::terminal_size_of(terminal).map(|(width, _)| usize::from(width.0))
}

/// `word` as a shell takes it for one word, on one line: what does more than stand there is spelled as POSIX of 2024 and
/// shells before it do.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "_-+=:,./@%".contains(it);
    if word.contains(text::is_unsafe) {
        let shown = word.chars().map(|it| match it {
            '\'' | '\\' => format!("\\{it}"),
            it if it.is_ascii() && text::is_unsafe(it) => format!("\\x{:02x}", u32::from(it)),
            it if text::is_unsafe(it) => format!("\\u{:04x}", u32::from(it)),
            it => it.to_string(),
        });
        return format!("$'{}'", shown.collect::<String>());
    }
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// A line without what would make a terminal do something: control characters, and those that turn text around, are shown
/// by their numbers, but for the colours of this module.
pub(crate) fn tamed(line: &str) -> Cow<'_, str> {
    if !line.contains(text::is_unsafe) {
        return Cow::Borrowed(line);
    }
    let colours =
        [BAD, WARN, GOOD, DIM, HEAD].map(|it| [it.render().to_string(), it.render_reset().to_string()]);
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(next) = rest.chars().next() {
        let colour = colours.iter().flatten().find(|it| !it.is_empty() && rest.starts_with(it.as_str()));
        let len = colour.map_or(next.len_utf8(), String::len);
        let (taken, after) = rest.split_at(len);
        match colour {
            Some(_) => out.push_str(taken),
            None => text::push_shown(&mut out, next),
        }
        rest = after;
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that names cannot steer a terminal, and that colours stay.
    #[test]
    fn control_characters_are_shown() {
        let line = format!("{} \u{1b}[2J\u{7}\u{9b}1m\n\u{202e} {}", paint(BAD, "x\u{1b}[8my"), "é");
        let tame = tamed(&line);
        let want = format!("{} \\u{{1b}}[2J\\u{{7}}\\u{{9b}}1m\\n\\u{{202e}} é", paint(BAD, "x\\u{1b}[8my"));
        assert_eq!(tame, want);
        assert_eq!(quoted("a b'c"), "'a b'\\''c'");
        assert_eq!(quoted("6.12+deb13/x.btf"), "6.12+deb13/x.btf");
        assert_eq!(quoted("a\n'\u{202e}b"), "$'a\\x0a\\'\\u202eb'");
    }
}
