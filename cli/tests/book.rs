//! The pages of `docs/` say what happens: what they show as typed is run, and what they show as printed is printed.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// Pages with commands that can be run on the samples.
const PAGES: [&str; 1] = ["tutorial.md"];

/// A command as a page shows it, with the lines below it.
struct Shown {
    line: usize,
    command: String,
    printed: Vec<String>,
}

/// What stands in blocks of `console` behind `$ `. A command goes on after a backslash.
fn shown(page: &str) -> Vec<Shown> {
    let (mut all, mut is_inside): (Vec<Shown>, bool) = (Vec::new(), false);
    let mut goes_on = false;
    for (number, line) in (1..).zip(page.lines()) {
        match (is_inside, line) {
            (false, "```console") => is_inside = true,
            (true, "```") => is_inside = false,
            (true, line) if goes_on => {
                let last = all.last_mut().expect("a command");
                last.command.push_str(line.trim_end_matches('\\'));
                goes_on = line.ends_with('\\');
            }
            (true, line) if line.starts_with("$ ") => {
                let command = line.trim_start_matches("$ ");
                goes_on = command.ends_with('\\');
                let command = command.trim_end_matches('\\').to_owned();
                all.push(Shown { line: number, command, printed: Vec::new() });
            }
            (true, line) => {
                all.last_mut().expect("a command before what it prints").printed.push(line.to_owned())
            }
            _ => {}
        }
    }
    assert!(!all.is_empty(), "the page has no command");
    all
}

/// A directory with the samples in it, as if they had been copied.
fn samples() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples");
    for part in ["objects", "kernels"] {
        let to = dir.path().join(part);
        fs::create_dir(&to).unwrap();
        for entry in fs::read_dir(from.join(part)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
    dir
}

/// Check that every command of the pages does what they show: in order, with `…` for what is left out, in a line or
/// between lines.
#[test]
fn pages_show_what_happens() {
    let bin = Path::new(env!("CARGO_BIN_EXE_btfleet")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    for name in PAGES {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
        let dir = samples();
        for Shown { line, command, printed } in shown(&fs::read_to_string(page).unwrap()) {
            let shell = ["-c", &command];
            let out = Command::new("sh")
                .args(shell)
                .env("PATH", &path)
                .env_remove("COLUMNS")
                .current_dir(dir.path())
                .output()
                .unwrap();
            let (stdout, stderr) =
                (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
            assert!(
                matches!(out.status.code(), Some(0 | 1)),
                "docs/{name}:{line}: {command}\n{stderr}{stdout}"
            );
            let all = format!("{stderr}{stdout}");
            let mut rest = all.lines();
            for want in printed.iter().filter(|it| it.trim() != "…") {
                let (start, end) = want.split_once('…').unwrap_or((want, ""));
                let is_it = |it: &str| match want.contains('…') {
                    true => it.starts_with(start) && it.ends_with(end),
                    false => it.trim_end() == want.trim_end(),
                };
                assert!(rest.any(is_it), "docs/{name}:{line}: {command}\nis not there: {want}\n{all}");
            }
        }
    }
}
