//! `btfleet rules`: every code that reports use, what it means, what it does to the load, and what to do about it.

mod catalog;

use serde::Serialize;

use crate::args::{Format, RulesArgs};
use crate::output::{DIM, Exit, Failure, HEAD, Output, paint};
use crate::rows::push_line;
use catalog::CATALOG;

/// What a code is about. The same word may be a code of several groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Group {
    Resolution,
    Fatal,
    Dependency,
    Effect,
    Verdict,
    Input,
    Pair,
    Drift,
    Live,
}

/// A code, explained in one sentence each.
#[derive(Serialize)]
struct Rule {
    v: u32,
    t: &'static str,
    group: Group,
    code: &'static str,
    /// What it means.
    means: &'static str,
    /// What it does to the load.
    load: &'static str,
    /// What to do.
    advice: &'static str,
}

const fn rule(
    group: Group,
    code: &'static str,
    means: &'static str,
    load: &'static str,
    advice: &'static str,
) -> Rule {
    Rule { v: 1, t: "rule", group, code, means, load, advice }
}

impl Group {
    const ALL: [Self; 9] = [
        Self::Resolution,
        Self::Fatal,
        Self::Dependency,
        Self::Effect,
        Self::Verdict,
        Self::Input,
        Self::Pair,
        Self::Drift,
        Self::Live,
    ];

    fn heading(self) -> &'static str {
        match self {
            Self::Resolution => "Resolution: what becomes of a CO-RE record",
            Self::Fatal => "Fatal: why a CO-RE record ends the load",
            Self::Dependency => "Dependencies: attach targets, symbols, struct_ops, configuration",
            Self::Effect => "Effects: what a finding does to the program",
            Self::Verdict => "Verdicts: what a program comes to on a kernel, the best first",
            Self::Input => "Inputs: files that cannot be used, or not as they are",
            Self::Pair => "Pairs: objects and kernels that cannot be judged together",
            Self::Drift => "Drift: what loads but reads something else",
            Self::Live => "Live: where the running kernel relocates otherwise",
        }
    }
}

#[derive(Serialize)]
struct End {
    v: u32,
    t: &'static str,
    complete: bool,
    rows: usize,
}

/// What a code means, and what to do about it.
pub(crate) fn explained(code: &str) -> Option<(&'static str, &'static str)> {
    CATALOG.iter().find(|it| it.code == code).map(|it| (it.means, it.advice))
}

/// The same of a word that may be a code of other groups as well.
pub(crate) fn explained_in(group: Group, code: &str) -> Option<(&'static str, &'static str)> {
    CATALOG.iter().find(|it| it.group == group && it.code == code).map(|it| (it.means, it.advice))
}

/// Whether there is such a code.
pub(crate) fn is_code(code: &str) -> bool {
    CATALOG.iter().any(|it| it.code == code)
}

pub(crate) fn run(args: &RulesArgs) -> Result<Exit, Failure> {
    let is_meant = |it: &&Rule| args.code.as_ref().is_none_or(|code| code == it.code);
    let rules: Vec<&Rule> = CATALOG.iter().filter(is_meant).collect();
    if let (Some(code), true) = (&args.code, rules.is_empty()) {
        return Err(Failure::Usage(format!("there is no code '{code}'; 'btfleet rules' lists them")));
    }
    let mut out = Output::new();
    match args.format {
        Format::Jsonl => {
            let mut lines = Vec::new();
            rules.iter().for_each(|it| push_line(&mut lines, it));
            push_line(&mut lines, &End { v: 1, t: "end", complete: true, rows: rules.len() });
            out.write(&lines)?;
        }
        Format::Table if args.code.is_some() => one(&mut out, &rules)?,
        Format::Table => list(&mut out, &rules)?,
    }
    out.finish()?;
    Ok(Exit::Fine)
}

/// Everything about one code.
fn one(out: &mut Output, rules: &[&Rule]) -> Result<(), Failure> {
    for (nth, rule) in rules.iter().enumerate() {
        if nth > 0 {
            out.line("")?;
        }
        out.prose(&format!("{}  {}", paint(HEAD, rule.code), paint(DIM, rule.group.heading())), 4)?;
        for (head, text) in [("means ", rule.means), ("load  ", rule.load), ("advice", rule.advice)] {
            out.prose(&format!("  {head}  {text}"), 10)?;
        }
    }
    Ok(())
}

/// A line for each code.
fn list(out: &mut Output, rules: &[&Rule]) -> Result<(), Failure> {
    let width = rules.iter().map(|it| it.code.len()).max().unwrap_or(0);
    for group in Group::ALL {
        out.prose(&paint(HEAD, group.heading()), 0)?;
        for rule in rules.iter().filter(|it| it.group == group) {
            out.prose(&format!("  {:width$}  {}", rule.code, rule.means), width + 4)?;
        }
        out.line("")?;
    }
    out.prose(&paint(DIM, "'btfleet rules CODE' says what one does to the load, and what to do about it."), 0)
}
