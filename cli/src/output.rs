//! The only module that writes: data to stdout, messages and progress to stderr.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use btfleet_engine::embed::DamagedPack;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

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
pub(crate) struct Output(BufWriter<anstream::AutoStream<io::Stdout>>);

impl Output {
    pub(crate) fn new() -> Self {
        Self(BufWriter::with_capacity(1 << 16, anstream::AutoStream::auto(io::stdout())))
    }

    /// Stdout for bytes that are no text: none are dropped.
    pub(crate) fn binary() -> Self {
        Self(BufWriter::with_capacity(1 << 16, anstream::AutoStream::always_ansi(io::stdout())))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.0.write_all(bytes)?)
    }

    pub(crate) fn line(&mut self, line: &str) -> Result<(), Failure> {
        Ok(writeln!(self.0, "{}", tamed(line))?)
    }

    /// For those who write by themselves.
    pub(crate) fn as_write(&mut self) -> &mut impl Write {
        &mut self.0
    }

    /// Hands over what there is so far, for a run that takes minutes.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.0.flush()?)
    }

    /// Hands everything over; errors of delayed writes show up here.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        Ok(self.0.flush()?)
    }
}

/// One line to stderr. If stderr is closed there is nobody to tell.
pub(crate) fn message(line: &str) {
    let _ = writeln!(anstream::stderr(), "{}", tamed(line));
}

/// A progress bar over `len` objects, on a terminal only.
pub(crate) fn progress(len: usize) -> ProgressBar {
    progress_of(len, "objects")
}

/// A progress bar over `len` steps, on a terminal only.
pub(crate) fn progress_of(len: usize, steps: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(len as u64), ProgressDrawTarget::hidden());
    if io::stderr().is_terminal() && len > 64 {
        if let Ok(style) = ProgressStyle::with_template(&format!(
            "{{bar:40}} {{pos}}/{{len}} {steps}, {{per_sec}}, {{eta}} left"
        )) {
            bar.set_style(style);
        }
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
}

/// What something that takes long is doing, on a terminal only.
pub(crate) fn spinner(what: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    if io::stderr().is_terminal() {
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
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

/// Characters of a line: as wide as the terminal, or what fits most of them.
pub(crate) fn width() -> usize {
    const ELSEWHERE: usize = 110;
    let of_terminal = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
    of_terminal.unwrap_or(ELSEWHERE).clamp(20, 240)
}

/// `word` as a shell takes it for one word.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "_-+=:,./@%".contains(it);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// A line without what would make a terminal do something: control characters are shown by their numbers, but for the
/// colours of this module.
fn tamed(line: &str) -> Cow<'_, str> {
    if !line.contains(|it: char| it.is_control()) {
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
        match next {
            // Lines of help and of tables that are printed at once.
            '\n' | '\t' => out.push(next),
            _ if colour.is_none() && next.is_control() => out.extend(next.escape_default()),
            _ => out.push_str(taken),
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
        let line = format!("{} \u{1b}[2J\u{7}\u{9b}1m {}", paint(BAD, "x\u{1b}[8my"), "é");
        let tame = tamed(&line);
        assert_eq!(tame, format!("{} \\u{{1b}}[2J\\u{{7}}\\u{{9b}}1m é", paint(BAD, "x\\u{1b}[8my")));
        assert_eq!(quoted("a b'c"), "'a b'\\''c'");
        assert_eq!(quoted("6.12+deb13/x.btf"), "6.12+deb13/x.btf");
    }
}
