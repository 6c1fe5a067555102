//! The pages of the book say what happens: what they show as typed is run, and what they show as printed is printed.
//!
//! Commands that pages only name, since they need what a test does not have, are parsed: `cli/src/named.rs`.

mod pages;

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::pages::{Page, Shown, root};

/// A directory with the samples in it, as if they had been copied.
fn samples() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for part in ["objects", "kernels"] {
        let to = dir.path().join(part);
        fs::create_dir(&to).unwrap();
        for entry in fs::read_dir(root().join("workloads/samples").join(part)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
    dir
}

/// Whether a line is what is shown, where `…` is anything.
fn is_line(shown: &str, line: &str) -> bool {
    let Some((start, rest)) = shown.trim_end().split_once('…') else {
        return shown.trim_end() == line.trim_end();
    };
    let Some(mut left) = line.trim_end().strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('…').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = left.find(part) else { return false };
        left = left.get(at + part.len()..).unwrap_or_default();
    }
    left.ends_with(end)
}

/// Compares output with what is shown, where a line `…` is any number of lines. Returns the line shown that is not there.
fn differs<'a>(shown: &'a [String], output: &str) -> Option<&'a str> {
    let lines: Vec<&str> = output.lines().collect();
    let is_any = |at: usize| shown.get(at).is_some_and(|it| it.trim() == "…");
    // Behind the last line of `…`: where what is shown goes on, and where in the output that was tried.
    let mut last = None;
    let (mut want, mut got, mut furthest) = (0, 0, 0);
    loop {
        if is_any(want) {
            want += 1;
            last = Some((want, got));
        } else if want == shown.len() && got == lines.len() {
            return None;
        } else if let (Some(shown), Some(line)) = (shown.get(want), lines.get(got))
            && is_line(shown, line)
        {
            (want, got) = (want + 1, got + 1);
        } else {
            furthest = furthest.max(want);
            match last {
                Some((after, tried)) if tried < lines.len() => {
                    (want, got) = (after, tried + 1);
                    last = Some((after, tried + 1));
                }
                _ => return Some(shown.get(furthest).map_or("nothing more", String::as_str)),
            }
        }
    }
}

/// Runs the commands of a page in order, in a directory of its own. Returns what is not as the page has it.
fn wrong(page: &Page) -> Vec<String> {
    let bin = Path::new(env!("CARGO_BIN_EXE_btfleet")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let dir = samples();
    let mut wrong = Vec::new();
    for Shown { line, command, printed } in page.shown() {
        let place = format!("{}:{line}: {command}", page.name);
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("exec 2>&1\n{command}")])
            .env("PATH", &path)
            .env("LC_ALL", "C")
            .current_dir(dir.path());
        let out = shell.env_remove("NO_COLOR").env_remove("COLUMNS").output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        // 1 is a finding; what else there may be, a page shows.
        if !matches!(out.status.code(), Some(0 | 1)) {
            wrong.push(format!("{place}\n{}\n{text}", out.status));
        } else if let Some(missing) = differs(&printed, &text) {
            wrong.push(format!("{place}\nis not there: {missing}\nbut:\n{text}"));
        }
    }
    wrong
}

/// Check that every command of the pages does what they show: in order, with `…` for what is left out, in a line or
/// between lines.
#[test]
fn pages_show_what_happens() {
    let pages = pages::all();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || -> Vec<String> {
        let mut found = Vec::new();
        while let Some(page) = pages.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            found.extend(wrong(page));
        }
        found
    };
    let wrong = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|it| it.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Check that what is left out has to be marked, and nothing else is passed over.
#[test]
fn only_what_is_marked_is_left_out() {
    let shown = |it: &str| it.lines().map(str::to_owned).collect::<Vec<_>>();
    let output = "one\ntwo 2\nthree\nfour\n";
    for good in [
        "one\n…\nfour",
        "…",
        "…\nthree\n…",
        "one\ntwo …\nthree\nf…r",
        "…\nt…\nfour",
        "one\ntwo 2\nthree\nfour\n…",
    ] {
        assert_eq!(differs(&shown(good), output), None, "{good}");
    }
    for (bad, missing) in [
        ("one\nthree\n…", "three"),
        ("one", "nothing more"),
        ("…\ntwo 2\nfour", "four"),
        ("…\nfive\n…", "five"),
    ] {
        assert_eq!(differs(&shown(bad), output), Some(missing), "{bad}");
    }
    assert!(is_line("a … b … c", "a 1 b 2 c") && !is_line("a … b … c", "a 1 2 c"));
}

/// Check that links from page to page lead somewhere, and that the contents of the book name every page.
#[test]
fn links_lead_somewhere() {
    for page in pages::all() {
        let file = root().join(&page.name);
        let links = page.text.split("](").skip(1).map(|it| it.split(')').next().unwrap_or_default());
        for link in links.filter(|it| !it.contains("://")) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let to = if path.is_empty() { file.clone() } else { file.with_file_name("").join(path) };
            assert!(to.exists(), "{}: {link} is not there", page.name);
            if !heading.is_empty() {
                let text = fs::read_to_string(&to).unwrap();
                let headings = text.lines().filter(|it| it.starts_with('#')).map(anchor);
                assert!(headings.into_iter().any(|it| it == heading), "{}: no heading {link}", page.name);
            }
        }
    }
    let contents = pages::page("docs/README.md").text;
    for page in pages::all() {
        let Some(name) = page.name.strip_prefix("docs/").filter(|it| *it != "README.md") else { continue };
        assert!(contents.contains(&format!("]({name})")), "docs/README.md does not name {name}");
    }
}

/// What a link to a heading says.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = words.chars().filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
    kept.map(|it| if it == ' ' { '-' } else { it }).collect()
}
