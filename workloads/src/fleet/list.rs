//! The list of packages to fetch.
//!
//! ```text
//! LIST  := (COMMENT | ROW)...                lines; '#' begins a comment, empty lines are skipped
//! ROW   := package suite architecture parts  columns are separated by tabs
//! parts := part[,part]...                    'kernel', 'modules', 'objects'
//! ```
//!
//! A package is a name or a pattern with `*`, `?` and `[...]`; a pattern stands for all packages of the
//! suite that match. Rows that name the same package add up.

use std::fmt;

use glob::Pattern;
use serde::{Deserialize, Serialize};

use super::Error;

/// What can be taken out of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Part {
    /// The BTF of the kernel.
    Kernel,
    /// The BTF of all modules.
    Modules,
    /// All BPF objects.
    Objects,
}

/// Where a package is to be had. One of these is one private state of apt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Suite {
    pub(super) name: String,
    pub(super) architecture: String,
}

/// A row of the list.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) package: Pattern,
    pub(super) suite: Suite,
    pub(super) parts: Vec<Part>,
}

impl Part {
    fn parse(word: &str) -> Option<Part> {
        match word {
            "kernel" => Some(Part::Kernel),
            "modules" => Some(Part::Modules),
            "objects" => Some(Part::Objects),
            _ => None,
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.architecture)
    }
}

/// Reads a list.
///
/// # Errors
/// [`Error::List`] with the number of the first line that is not as it should be.
pub(super) fn parse(text: &str) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let content = line.split('#').next().unwrap_or_default().trim_end();
        if !content.is_empty() {
            rows.push(parse_row(content).map_err(|expected| Error::List { line: index + 1, expected })?);
        }
    }
    Ok(rows)
}

fn parse_row(content: &str) -> Result<Row, &'static str> {
    let columns: Vec<_> = content.split('\t').collect();
    let [package, suite, architecture, parts] = columns.as_slice() else {
        return Err("expected four columns, separated by tabs");
    };
    let package = Pattern::new(package).map_err(|_| "expected a package name or pattern")?;
    // Both become names of files and lines of apt's configuration.
    for word in [suite, architecture] {
        let is_plain = |it: char| it.is_ascii_alphanumeric() || it == '-';
        if word.is_empty() || !word.chars().all(is_plain) {
            return Err("expected the name of a suite and of an architecture");
        }
    }
    let parts: Option<Vec<_>> = parts.split(',').map(Part::parse).collect();
    let mut parts = parts.ok_or("expected kernel, modules or objects, separated by commas")?;
    parts.sort_unstable();
    parts.dedup();
    let suite = Suite { name: (*suite).to_owned(), architecture: (*architecture).to_owned() };
    Ok(Row { package, suite, parts })
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn rows_are_read_and_comments_are_not() {
        let rows = parse("# x\n\nlinux-*\tsid\tarm64\tmodules,kernel # why\n").unwrap();
        assert_eq!(rows.len(), 1);
        assert!(rows[0].package.matches("linux-image-1"));
        assert_eq!(rows[0].suite.to_string(), "sid arm64");
        assert_eq!(rows[0].parts, [Part::Kernel, Part::Modules]);
    }

    #[test]
    fn broken_rows_are_named() {
        for row in [
            "a sid amd64 kernel",
            "a\tsid\tamd64\tkernels",
            "a\t../x\tamd64\tkernel",
            "[\tsid\tamd64\tkernel",
        ] {
            let error = parse(&format!("\n{row}")).unwrap_err().to_string();
            assert!(error.starts_with("line 2 of the list: expected "), "{error}");
        }
    }

    /// The promise of the committed list: enough of everything, and nothing twice.
    #[test]
    fn committed_list_is_as_large_as_promised() {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packages.tsv")).unwrap();
        let rows = parse(&text).unwrap();
        let count = |part| rows.iter().filter(|it| it.parts.contains(&part)).count();
        assert!(count(Part::Kernel) >= 60 && count(Part::Modules) >= 5);
        let names = |part| {
            let rows = rows.iter().filter(|it| it.parts.contains(&part));
            rows.map(|it| it.package.as_str()).collect::<BTreeSet<_>>().len()
        };
        assert!(names(Part::Objects) >= 20);
        let keys: BTreeSet<_> = rows.iter().map(|it| (it.package.as_str(), &it.suite)).collect();
        assert_eq!(keys.len(), rows.len());
    }
}
