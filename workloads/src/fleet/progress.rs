//! How far it is, on stderr: a bar on a terminal, a line per package elsewhere.

use std::cell::{Cell, RefCell};
use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows progress. Nobody is told if stderr is closed, since nowhere is left to tell it.
#[derive(Debug)]
pub(super) struct Progress {
    is_terminal: bool,
    bar: RefCell<ProgressBar>,
    /// Bytes of the packages before the one at hand.
    before: Cell<u64>,
}

impl Progress {
    /// Progress that has nothing to show yet.
    pub(super) fn new() -> Progress {
        Progress {
            is_terminal: io::stderr().is_terminal(),
            bar: RefCell::new(ProgressBar::hidden()),
            before: Cell::new(0),
        }
    }

    /// A line that stays.
    pub(super) fn say(&self, line: &str) {
        self.bar.borrow().suspend(|| {
            let _ = writeln!(io::stderr().lock(), "{line}");
        });
    }

    /// `count` package lists are about to be fetched.
    pub(super) fn begin_suites(&self, count: usize) {
        self.show(count as u64, "package lists {bar:30} {pos}/{len} {msg}");
    }

    /// The package list of this suite is next.
    pub(super) fn suite(&self, name: &str) {
        self.bar.borrow().inc(1);
        self.package(name);
    }

    /// `total` bytes are about to be downloaded.
    pub(super) fn begin(&self, total: u64) {
        self.show(total, "{decimal_bytes}/{decimal_total_bytes} {bar:30} {eta} left, {msg}");
    }

    /// This is being fetched.
    pub(super) fn package(&self, name: &str) {
        self.bar.borrow().set_message(name.to_owned());
    }

    /// So many bytes of the package at hand have arrived.
    pub(super) fn bytes(&self, bytes: u64) {
        self.bar.borrow().set_position(self.before.get() + bytes);
    }

    /// The package at hand, of so many bytes, is done with. `line` says how it went.
    pub(super) fn done(&self, size: u64, line: &str) {
        self.before.set(self.before.get() + size);
        self.bytes(0);
        self.say(line);
    }

    /// Nothing is left to show.
    pub(super) fn end(&self) {
        self.bar.borrow().finish_and_clear();
    }

    fn show(&self, len: u64, template: &str) {
        if self.is_terminal
            && let Ok(style) = ProgressStyle::with_template(template)
        {
            let bar = ProgressBar::with_draw_target(Some(len), ProgressDrawTarget::stderr());
            *self.bar.borrow_mut() = bar.with_style(style);
        }
        self.before.set(0);
    }
}
