//! Text that fits a line: names made short and harmless, lines wrapped and cut, columns aligned.
//!
//! Widths are columns of a terminal: wide characters take two, and what paints takes none.

use std::borrow::Cow;

use unicode_width::UnicodeWidthChar;

/// Columns that are left for text beside a hanging indent, or the indent gives way.
const TEXT_MIN: usize = 24;

/// Columns that a text takes. What paints begins with ESC and ends with `m`.
pub(crate) fn columns(text: &str) -> usize {
    let (mut count, mut is_paint) = (0, false);
    for it in text.chars() {
        match it {
            '\u{1b}' => is_paint = true,
            'm' if is_paint => is_paint = false,
            _ if is_paint => {}
            it => count += of_char(it),
        }
    }
    count
}

fn of_char(it: char) -> usize {
    UnicodeWidthChar::width(it).unwrap_or(0)
}

/// Whether a character does more than stand there: it steers the terminal, ends the line or turns text around.
pub(crate) fn is_unsafe(it: char) -> bool {
    it.is_control()
        || matches!(
            it,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// A name on one line, whatever is in it: characters that do something are shown by their numbers.
pub(crate) fn safe(name: &str) -> Cow<'_, str> {
    match name.contains(is_unsafe) {
        false => Cow::Borrowed(name),
        true => {
            let mut out = String::with_capacity(name.len() * 2);
            name.chars().for_each(|it| push_shown(&mut out, it));
            Cow::Owned(out)
        }
    }
}

/// Appends a character, or its number if it would do something.
pub(crate) fn push_shown(out: &mut String, it: char) {
    match it {
        it if it.is_control() => out.extend(it.escape_default()),
        it if is_unsafe(it) => out.extend(it.escape_unicode()),
        it => out.push(it),
    }
}

/// Lines of at most `width` columns, split at spaces. A word that is longer is whole on a line of its own.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    hanging(text, 0, width)
}

/// The same, with `indent` columns of space in front of all lines but the first: less where that would leave too little.
pub(crate) fn hanging(text: &str, indent: usize, width: usize) -> Vec<String> {
    let indent = if indent + TEXT_MIN <= width { indent } else { indent.min(4) };
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    // Spaces at the start and between words stay, unless the line ends there.
    let mut spaces = 0;
    for word in text.split(' ') {
        let columns = columns(word);
        if columns == 0 {
            line.push_str(word);
            spaces += 1;
            continue;
        }
        let has_word = line.contains(|it| it != ' ');
        if has_word && used + spaces + columns > width {
            lines.push(std::mem::take(&mut line));
            line.extend(std::iter::repeat_n(' ', indent));
            (used, spaces) = (indent, 0);
        }
        line.extend(std::iter::repeat_n(' ', spaces));
        line.push_str(word);
        used += spaces + columns;
        spaces = 1;
    }
    lines.push(line);
    lines
}

/// The start of a text, where that says most of it.
pub(crate) fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if columns(text) <= width {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().take_while(leaving_one(width)).chain(['…']).collect())
}

/// The end of a text, which says more of a path than its start.
pub(crate) fn cut_start(text: &str, width: usize) -> Cow<'_, str> {
    if columns(text) <= width {
        return Cow::Borrowed(text);
    }
    let end: Vec<char> = text.chars().rev().take_while(leaving_one(width)).collect();
    Cow::Owned(['…'].into_iter().chain(end.into_iter().rev()).collect())
}

/// Whether characters, one behind the other, leave one of `width` columns free.
fn leaving_one(width: usize) -> impl FnMut(&char) -> bool {
    let mut used = 0;
    move |it| {
        used += of_char(*it);
        used < width
    }
}

/// A name behind `head`, which it shares a line with if enough of it fits there; its start is cut off if need be.
pub(crate) fn beside(head: &str, name: &str, width: usize) -> Vec<String> {
    let space = width.saturating_sub(columns(head));
    match space >= columns(name).min(TEXT_MIN) {
        true => vec![format!("{head}{}", cut_start(name, space))],
        false => vec![head.trim_end().to_owned(), format!("  {}", cut_start(name, width.saturating_sub(2)))],
    }
}

/// `text` and spaces up to `width` columns.
pub(crate) fn padded(text: &str, width: usize) -> String {
    format!("{text}{:space$}", "", space = width.saturating_sub(columns(text)))
}

/// By column, what its widest cell takes.
pub(crate) fn widths<const N: usize>(rows: &[[String; N]]) -> [usize; N] {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = columns(cell).max(*width);
        }
    }
    widths
}

/// The first `shown` names, and how many more there are.
pub(crate) fn some_of<S: AsRef<str>>(names: &[S], shown: usize) -> String {
    let first: Vec<&str> = names.iter().take(shown).map(AsRef::as_ref).collect();
    let mut text = first.join(", ");
    if names.len() > first.len() {
        text.push_str(&format!(" and {} more", names.len() - first.len()));
    }
    text
}

/// Names without the directories that all of them share, and harmless.
pub(crate) fn short_names<S: AsRef<str>>(names: &[S]) -> Vec<String> {
    let directory = |name: &str| name.rfind('/').map_or(0, |it| it + 1);
    let Some(first) = names.first().map(AsRef::as_ref) else { return Vec::new() };
    let mut shared = first.get(..directory(first)).unwrap_or("");
    for name in names.iter().map(AsRef::as_ref) {
        while !name.starts_with(shared) {
            let parent = shared.trim_end_matches('/');
            shared = parent.get(..directory(parent)).unwrap_or("");
        }
    }
    let short = names.iter().map(|name| name.as_ref().strip_prefix(shared).unwrap_or_default());
    short.map(|it| safe(it).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that lines are as long as they may be, and that what does not fit stays whole.
    #[test]
    fn lines_are_wrapped_at_spaces() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("a/path/that/is/long and more", 8), ["a/path/that/is/long", "and more"]);
        assert_eq!(wrapped("", 8), [""]);
        assert_eq!(wrapped("  two  spaces   end", 13), ["  two  spaces", "end"]);
        assert_eq!(wrapped("漢字 漢字", 8), ["漢字", "漢字"]);
        assert_eq!(hanging("head  one two three four five", 6, 30), ["head  one two three four five"]);
        let text = "head    one two three four five six";
        assert_eq!(hanging(text, 8, 32), ["head    one two three four five", "        six"]);
        assert_eq!(hanging(text, 8, 20), ["head    one two", "    three four five", "    six"]);
        let painted = "\u{1b}[1mone\u{1b}[0m two";
        assert_eq!((columns(painted), wrapped(painted, 7).len()), (7, 1));
        let padded = "\u{1b}[1mone  \u{1b}[0m two";
        assert_eq!(wrapped(padded, 20), ["\u{1b}[1mone\u{1b}[0m   two"]);
        assert_eq!(wrapped(padded, 5), ["\u{1b}[1mone\u{1b}[0m", "two"]);
    }

    /// Check that what is cut says so and fits.
    #[test]
    fn what_is_cut_fits() {
        assert_eq!((cut("abcdef", 6), cut("abcdef", 4)), ("abcdef".into(), "abc…".into()));
        assert_eq!((cut_start("abcdef", 6), cut_start("abcdef", 4)), ("abcdef".into(), "…def".into()));
        assert_eq!((cut("漢字漢", 4), cut_start("漢字漢", 4)), ("漢…".into(), "…漢".into()));
        assert_eq!(columns(&padded("漢", 4)), 4);
        let name = "a/long/name/of/a/file.bpf.o";
        assert_eq!(beside("head  ", name, 40), ["head  a/long/name/of/a/file.bpf.o"]);
        assert_eq!(beside("head  ", name, 32), ["head  …long/name/of/a/file.bpf.o"]);
        assert_eq!(beside("head  ", name, 20), ["head", "  …e/of/a/file.bpf.o"]);
    }

    /// Check that no name ends a line, steers a terminal or turns text around.
    #[test]
    fn names_are_harmless() {
        assert_eq!(safe("a\n\u{1b}[2J\t\u{202e}b\u{9b}"), "a\\n\\u{1b}[2J\\t\\u{202e}b\\u{9b}");
        assert_eq!(safe("é漢"), "é漢");
        assert_eq!(short_names(&["x/a/b", "x/c"]), ["a/b", "c"]);
        assert_eq!(some_of(&["a", "b", "c"], 2), "a, b and 1 more");
    }
}
