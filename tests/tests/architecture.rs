//! The invariants of ARCHITECTURE.md that can be read off the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// All files below `dir` that end in `ending`, with their text.
fn sources(dir: &str, ending: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut pending = vec![root().join(dir)];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "no {ending} files in {dir}");
    found
}

/// The module of the engine that a source file belongs to.
fn module_of(path: &Path) -> String {
    let relative = path.strip_prefix(root().join("engine/src")).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// Modules as ARCHITECTURE.md lists them, which is the order in which they may depend on each other.
fn documented_order() -> Vec<String> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = text.split("## The engine's modules").nth(1).unwrap().split("\n## ").next().unwrap();
    section
        .lines()
        .filter_map(|line| line.strip_prefix("* `"))
        .filter_map(|line| line.split('`').next())
        .map(|name| name.trim_end_matches('/').to_owned())
        .collect()
}

/// Source text without comments and string contents, as far as `//` and `"` go.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// Check that modules of the engine use only modules that are listed before them.
#[test]
fn modules_depend_one_way() {
    let order = documented_order();
    let mut seen = BTreeSet::new();
    for (path, text) in sources("engine/src", ".rs") {
        let module = module_of(&path);
        if module == "lib" {
            continue;
        }
        let place = order.iter().position(|it| *it == module);
        let place = place.unwrap_or_else(|| panic!("ARCHITECTURE.md does not list the module `{module}`"));
        seen.insert(module.clone());
        for part in code(&text).split("crate::").skip(1) {
            let used: String = part.chars().take_while(|it| it.is_alphanumeric() || *it == '_').collect();
            let Some(other) = order.iter().position(|it| *it == used) else { continue };
            assert!(other <= place, "{}: `{module}` uses `{used}`, which comes later", path.display());
        }
    }
    assert_eq!(seen.len(), order.len(), "ARCHITECTURE.md lists a module that is not there");
}

/// Check that the engine leaves printing, environment and formats to the command line.
#[test]
fn the_engine_neither_prints_nor_reads_the_environment() {
    for (path, text) in sources("engine/src", ".rs") {
        // The tour of the library in lib.rs prints, in an example.
        let text = code(&text);
        for word in ["println!", "eprintln!", "print!", "dbg!", "std::env", "env::var", "serde"] {
            assert!(!text.contains(word), "{} contains {word}", path.display());
        }
    }
}

/// Check that only the map of packs and the callers of C contain unsafe code.
#[test]
fn unsafe_code_is_where_it_has_to_be() {
    let allowed = [
        "engine/src/bytes.rs",
        "engine/live/src/bpf.rs",
        "tests/src/bin/oracle.rs",
        "tests/src/bin/live_loader.rs",
        "benches/src/libbpf.rs",
    ];
    for dir in ["engine", "cli/src", "tests/src", "benches", "workloads/src"] {
        for (path, text) in sources(dir, ".rs") {
            let relative = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            // The border to C is a package of its own.
            let allowed_here = allowed.contains(&relative.as_str()) || relative.starts_with("engine/capi/");
            let has_unsafe = code(&text).split_whitespace().any(|word| word == "unsafe");
            assert!(!has_unsafe || allowed_here, "{relative} contains unsafe code");
        }
    }
}

/// Check that deciding one query on one type does no I/O and knows neither threads nor kernels.
#[test]
fn deciding_is_pure() {
    for name in ["mod.rs", "field.rs", "compat.rs", "matches.rs"] {
        let text = code(&fs::read_to_string(root().join("engine/src/resolve").join(name)).unwrap());
        for word in ["std::fs", "std::io", "rayon", "thread", "crate::kernel", "crate::object"] {
            assert!(!text.contains(word), "resolve/{name} contains {word}");
        }
    }
}

/// Check that what libbpf does oddly, and what we do more safely, is marked where it is done.
#[test]
fn quirks_and_hardening_are_marked() {
    let count = |mark: &str| {
        sources("engine/src", ".rs").iter().map(|(_, text)| text.matches(mark).count()).sum::<usize>()
    };
    assert!(count("QUIRK") >= 12, "{} places say QUIRK", count("QUIRK"));
    assert!(count("HARDEN") >= 8, "{} places say HARDEN", count("HARDEN"));
}

/// Check that no file that git tracks names a path of somebody's machine.
#[test]
fn no_file_names_a_machine() {
    let out = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let Some(out) = out.ok().filter(|out| out.status.success()) else {
        btfleet_tests::skip("this is no git checkout, so the tracked files are not known");
        return;
    };
    let marks = ["work", "farm", "root", "home"].map(|dir| format!("/{dir}/"));
    for name in out.stdout.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8_lossy(name);
        if name == "Cargo.lock" {
            continue;
        }
        let Ok(text) = fs::read_to_string(root().join(name.as_ref())) else { continue };
        for mark in &marks {
            assert!(!text.contains(mark.as_str()), "{name} contains {mark}");
        }
    }
}
