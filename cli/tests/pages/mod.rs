//! The pages that are tested: `README.md` and the book in `docs/`. What they show, block by block.

#![allow(dead_code, reason = "each test looks at some of it")]

use std::fs;
use std::path::{Path, PathBuf};

/// A page, by its name below the project's folder.
pub(crate) struct Page {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// A command as a page shows it, with the lines below it.
pub(crate) struct Shown {
    pub(crate) line: usize,
    pub(crate) command: String,
    pub(crate) printed: Vec<String>,
}

/// A piece of a page, with the number of its first line.
enum Piece {
    /// What stands between two fences, and the language that the first one names.
    Block {
        line: usize,
        language: String,
        lines: Vec<String>,
    },
    /// Code by four spaces in front of it.
    Indented {
        line: usize,
        lines: Vec<String>,
    },
    Prose {
        line: usize,
        text: String,
    },
}

/// The project's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// `README.md` and every page of the book, by name.
pub(crate) fn all() -> Vec<Page> {
    let mut names: Vec<PathBuf> =
        fs::read_dir(root().join("docs")).unwrap().map(|it| it.unwrap().path()).collect();
    names.retain(|it| it.extension().is_some_and(|it| it == "md"));
    names.sort();
    let names = names.iter().map(|it| format!("docs/{}", it.file_name().unwrap().to_str().unwrap()));
    ["README.md".to_owned()].into_iter().chain(names).map(|it| page(&it)).collect()
}

pub(crate) fn page(name: &str) -> Page {
    Page { name: name.to_owned(), text: fs::read_to_string(root().join(name)).unwrap() }
}

impl Page {
    fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut is_inside = false;
        for (line, text) in (1..).zip(self.text.lines()) {
            if let Some(language) = text.strip_prefix("```") {
                if !is_inside {
                    let language = language.to_owned();
                    pieces.push(Piece::Block { line: line + 1, language, lines: Vec::new() });
                }
                is_inside = !is_inside;
                continue;
            }
            match (pieces.last_mut(), text.strip_prefix("    ")) {
                (Some(Piece::Block { lines, .. }), _) if is_inside => lines.push(text.to_owned()),
                (Some(Piece::Indented { lines, .. }), Some(code)) => lines.push(code.to_owned()),
                (_, Some(code)) => pieces.push(Piece::Indented { line, lines: vec![code.to_owned()] }),
                (Some(Piece::Prose { text: prose, .. }), None) if !text.is_empty() => {
                    prose.push(' ');
                    prose.push_str(text);
                }
                (_, None) => pieces.push(Piece::Prose { line, text: text.to_owned() }),
            }
        }
        assert!(!is_inside, "{}: a block does not end", self.name);
        pieces
    }

    /// Commands in blocks of `console`, behind `$ `: they can be run. A command goes on after a backslash.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        let mut all: Vec<Shown> = Vec::new();
        for (start, lines) in self.blocks("console") {
            let mut goes_on = false;
            for (number, text) in (start..).zip(&lines) {
                let place = format!("{}:{number}", self.name);
                if goes_on {
                    let last = all.last_mut().expect("it is what goes on");
                    last.command.push_str(&format!("\n{text}"));
                    goes_on = text.ends_with('\\');
                } else if let Some(command) = text.strip_prefix("$ ") {
                    goes_on = command.ends_with('\\');
                    all.push(Shown { line: number, command: command.to_owned(), printed: Vec::new() });
                } else {
                    assert!(number > start, "{place}: this block starts without a command");
                    all.last_mut().expect("the block starts with one").printed.push(text.clone());
                }
            }
        }
        all
    }

    /// Blocks of a language, with the number of the first line.
    pub(crate) fn blocks(&self, wanted: &str) -> Vec<(usize, Vec<String>)> {
        let blocks = self.pieces().into_iter().filter_map(|it| match it {
            Piece::Block { line, language, lines } if language == wanted => Some((line, lines)),
            _ => None,
        });
        blocks.collect()
    }

    /// Lines of commands that are named and not run: in blocks of `sh`, indented, and everything else that starts with
    /// `btfleet `, in output (but for that of `console`, which is compared) or in the middle of a sentence.
    pub(crate) fn named(&self) -> Vec<(usize, String)> {
        let mut all = Vec::new();
        for piece in self.pieces() {
            match piece {
                Piece::Block { line, language, lines } if language == "sh" => {
                    all.extend(joined(line, &lines))
                }
                Piece::Indented { line, lines } => all.extend(joined(line, &lines)),
                Piece::Block { line, language, lines } if language.is_empty() => {
                    let lines = (line..).zip(lines).map(|(line, text)| (line, text.trim().to_owned()));
                    all.extend(lines.filter(|(_, text)| text.starts_with("btfleet ")));
                }
                Piece::Block { .. } => {}
                Piece::Prose { line, text } => {
                    let code = text.split('`').skip(1).step_by(2).filter(|it| it.starts_with("btfleet "));
                    all.extend(code.map(|it| (line, it.to_owned())));
                }
            }
        }
        all
    }
}

/// Lines of a script with their numbers, each with those that it goes on in after a backslash; no comments.
fn joined(start: usize, lines: &[String]) -> Vec<(usize, String)> {
    let mut all: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (number, text) in (start..).zip(lines) {
        let (text, more) = text.strip_suffix('\\').map_or((text.as_str(), false), |it| (it, true));
        match all.last_mut() {
            Some((_, last)) if goes_on => last.push_str(text.trim_start()),
            _ if text.trim().is_empty() || text.starts_with('#') => {}
            _ => all.push((number, text.to_owned())),
        }
        goes_on = more;
    }
    all
}
