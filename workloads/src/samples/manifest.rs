//! `MANIFEST.tsv`: what every committed object is made of, and its hash.
//!
//! MANIFEST := HEADER ENTRY...            lines end in a newline, columns are separated by tabs
//! ENTRY    := object source target sha256
//!
//! The hash lets the objects be checked where the compiler that made them is not installed.

use super::{Error, Target};

const HEADER: &str = "object\tsource\ttarget\tsha256";

/// One line: an object and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// File name in `objects`.
    pub(super) object: String,
    /// File name in `src`.
    pub(super) source: String,
    pub(super) target: Target,
    /// Of the object, in lower-case hexadecimal.
    pub(super) sha256: String,
}

/// Writes a manifest, in the order of `entries`.
pub(super) fn format(entries: &[Entry]) -> String {
    let mut text = format!("{HEADER}\n");
    for Entry { object, source, target, sha256 } in entries {
        text += &format!("{object}\t{source}\t{}\t{sha256}\n", target.name());
    }
    text
}

/// Reads a manifest.
///
/// # Errors
/// [`Error::Manifest`] with the number of the first line that is not as it should be.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, Error> {
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return Err(Error::Manifest { line: 1, expected: "expected the header line" });
    }
    lines.enumerate().map(|(index, line)| parse_entry(line, index + 2)).collect()
}

fn parse_entry(text: &str, line: usize) -> Result<Entry, Error> {
    let mut columns = text.split('\t');
    let (Some(object), Some(source), Some(target), Some(sha256), None) =
        (columns.next(), columns.next(), columns.next(), columns.next(), columns.next())
    else {
        return Err(Error::Manifest { line, expected: "expected four columns" });
    };
    let target =
        Target::parse(target).ok_or(Error::Manifest { line, expected: "expected target bpfel or bpfeb" })?;
    Ok(Entry { object: object.to_owned(), source: source.to_owned(), target, sha256: sha256.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_survives_a_round_trip() {
        let entries =
            [("a.bpf.o", Target::Bpfel), ("a.be.bpf.o", Target::Bpfeb)].map(|(object, target)| Entry {
                object: object.to_owned(),
                source: "a.bpf.c".to_owned(),
                target,
                sha256: "00ff".to_owned(),
            });
        assert_eq!(parse(&format(&entries)).unwrap(), entries);
    }

    #[test]
    fn parse_names_the_broken_line() {
        let check = |text: &str, expected: &str| assert_eq!(parse(text).unwrap_err().to_string(), expected);
        check("", "MANIFEST.tsv:1: expected the header line");
        check(&format!("{HEADER}\na\tb\tbpfel\n"), "MANIFEST.tsv:2: expected four columns");
        check(&format!("{HEADER}\na\tb\tbpfel\tc\td\n"), "MANIFEST.tsv:2: expected four columns");
        check(&format!("{HEADER}\na\tb\tarm\tc\n"), "MANIFEST.tsv:2: expected target bpfel or bpfeb");
    }
}
