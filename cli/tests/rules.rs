//! `btfleet rules` against what the engine can say, and against docs/rules.md.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use btfleet_engine::error::ResolveError;
use btfleet_engine::ingest::InputCode;
use btfleet_engine::report::{Effect, Verdict};
use btfleet_engine::{depend, drift, resolve};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn btfleet(args: &[&str]) -> (Option<i32>, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_btfleet")).args(args).output().unwrap();
    (out.status.code(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
}

fn rules() -> Vec<Value> {
    let (code, text, _) = btfleet(&["rules", "--format", "jsonl"]);
    assert_eq!(code, Some(0));
    let mut rows: Vec<Value> = text.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let end = rows.pop().unwrap();
    assert_eq!((&end["t"], end["rows"].as_u64()), (&"end".into(), Some(rows.len() as u64)));
    rows
}

fn field<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap()
}

/// Codes of a group in their order, each of them once.
fn listed<'a>(rules: &'a [Value], group: &str) -> Vec<&'a str> {
    let codes: Vec<&str> =
        rules.iter().filter(|it| it["group"] == group).map(|it| field(it, "code")).collect();
    assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len(), "{group} has a code twice");
    codes
}

/// Check that what is listed is what the engine can say, no more and no less.
#[test]
fn every_code_is_listed_and_every_listed_one_exists() {
    let rules = rules();
    let mut resolution: Vec<&str> = resolve::Code::ALL.iter().map(|it| it.name()).collect();
    // Of a record that no loader looks at.
    resolution.push("skipped");
    assert_eq!(listed(&rules, "resolution"), resolution);
    assert_eq!(listed(&rules, "fatal"), ResolveError::ALL.map(ResolveError::code));
    assert_eq!(listed(&rules, "dependency"), depend::Code::ALL.map(depend::Code::name));
    assert_eq!(listed(&rules, "effect"), Effect::ALL.map(Effect::name));
    assert_eq!(listed(&rules, "verdict"), Verdict::ALL.map(Verdict::name));
    assert_eq!(listed(&rules, "drift"), drift::Rule::ALL.map(drift::Rule::name));
    assert_eq!(listed(&rules, "live"), btfleet_live::CODES);
    assert_eq!(listed(&rules, "input"), InputCode::ALL.map(InputCode::name));
}

/// Codes that the arms of the `match` in a function named `function` give, or all words with a hyphen that are
/// given as a `code:`.
fn codes_in(path: &str, function: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(path)).unwrap();
    let quoted = |line: &str| line.split('"').nth(1).map(str::to_owned);
    text.split(&format!("pub fn {function}(self) -> &'static str {{"))
        .skip(1)
        .flat_map(|it| it.split("\n    }\n").next().unwrap().lines().filter(|it| it.contains("=> \"")))
        .filter_map(quoted)
        .collect()
}

/// Check that the arrays that the test above relies on leave nothing out, by the sources themselves.
#[test]
fn arrays_of_codes_are_complete() {
    let rules = rules();
    for (path, function, groups) in [
        ("engine/src/resolve/fold.rs", "name", &["resolution"][..]),
        ("engine/src/error.rs", "code", &["fatal"]),
        ("engine/src/drift/mod.rs", "name", &["drift"]),
        ("engine/src/depend/code.rs", "name", &["dependency"]),
        ("engine/src/report/verdict.rs", "name", &["verdict", "effect"]),
        ("engine/src/ingest/error.rs", "name", &["input"]),
    ] {
        let expected = codes_in(path, function);
        assert!(expected.len() > 3, "{path}: {expected:?}");
        let mut listed: BTreeSet<String> =
            groups.iter().flat_map(|it| listed(&rules, it)).map(str::to_owned).collect();
        listed.remove("skipped");
        assert_eq!(listed, expected, "{path}");
    }
}

/// Check that codes that stand in the sources as such are listed too.
#[test]
fn codes_given_in_passing_are_listed() {
    let rules = rules();
    let all: BTreeSet<&str> = rules.iter().map(|it| field(it, "code")).collect();
    let mut pending = vec![root().join("engine/src"), root().join("cli/src")];
    let mut found = 0;
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for given in ["code: \"", "code = \"", "of_pair(\""] {
                for code in text.split(given).skip(1).filter_map(|it| it.split('"').next()) {
                    found += 1;
                    assert!(all.contains(code), "{}: `{code}` is not listed", path.display());
                }
            }
        }
    }
    assert!(found > 4, "{found}");
}

/// Check that a rule says everything in sentences, and that one code shows all that is known of it.
#[test]
fn one_code_is_explained() {
    for rule in &rules() {
        for part in ["means", "load", "advice"] {
            let text = field(rule, part);
            assert!(text.ends_with('.') && text.starts_with(|it: char| !it.is_ascii_digit()), "{rule}");
        }
    }
    let (code, text, _) = btfleet(&["rules", "size-unsafe"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("bpf_core_read()") && text.lines().count() == 4, "{text}");
    // A word that is a code of two groups.
    assert_eq!(btfleet(&["rules", "conditional"]).1.lines().count(), 9);
    let (code, _, message) = btfleet(&["rules", "no-such-code"]);
    assert_eq!(code, Some(2));
    assert!(message.contains("no code 'no-such-code'"), "{message}");
}

/// The document that these rules make.
fn document(rules: &[Value]) -> String {
    let headings = [
        ("resolution", "Resolution: what becomes of a CO-RE record"),
        ("fatal", "Fatal: why a CO-RE record ends the load"),
        ("dependency", "Dependencies: attach targets, symbols, struct_ops, configuration"),
        ("effect", "Effects: what a finding does to the program"),
        ("verdict", "Verdicts: what a program comes to on a kernel, the best first"),
        ("input", "Inputs: files that cannot be used, or not as they are"),
        ("pair", "Pairs: objects and kernels that cannot be judged together"),
        ("drift", "Drift: what loads but reads something else"),
        ("live", "Live: where the running kernel relocates otherwise"),
    ];
    let mut text = String::from(
        "# Codes\n\nWhat `btfleet rules --format jsonl` says, as a document. `BLESS=1 cargo test -p btfleet --test rules` \
         writes it.\n",
    );
    for (group, heading) in headings {
        text.push_str(&format!("\n## {heading}\n\n| code | means | load | advice |\n|---|---|---|---|\n"));
        for rule in rules.iter().filter(|it| it["group"] == group) {
            let [code, means, load, advice] = ["code", "means", "load", "advice"].map(|it| field(rule, it));
            text.push_str(&format!("| `{code}` | {means} | {load} | {advice} |\n"));
        }
    }
    text
}

/// Check that docs/rules.md is what the binary says.
#[test]
fn the_document_is_up_to_date() {
    let rules = rules();
    let path = root().join("docs/rules.md");
    let expected = document(&rules);
    assert_eq!(expected.matches("\n| `").count(), rules.len(), "a group has no heading");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == expected,
        "docs/rules.md is not what the binary says"
    );
}
