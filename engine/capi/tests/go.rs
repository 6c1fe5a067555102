//! The Go package on the library as it is installed, and the README's program in Go.

#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::fs;
use std::path::Path;
use std::process::Command;

use btfleet_engine::embed::{Options, OwnedInputs, OwnedRun};

use crate::support::{installed, kernel, object, readme_blocks, root, run, skip, tool, NEW, OLD};

mod support;

/// A command of Go's that finds the library, and asks no network; nothing where Go cannot be used.
fn go(dir: &Path, cache: &Path) -> Option<Command> {
    tool("go", "version", "the Go package is not tested")?;
    tool("gcc", "--version", "cgo needs it")?;
    let prefix = installed().display();
    let mut go = Command::new("go");
    go.current_dir(dir)
        .env("CGO_ENABLED", "1")
        .env("CGO_CFLAGS", format!("-I{prefix}/include"))
        .env("CGO_LDFLAGS", format!("-L{prefix}/lib"))
        .env("GOFLAGS", "-mod=mod")
        .env("GOPROXY", "off")
        .env("GODEBUG", "cgocheck=2")
        .env("GOCACHE", cache);
    Some(go)
}

/// Check the Go package by its own tests, with the checks of cgo on, and that 'go vet' has nothing to say.
#[test]
fn the_package_works() {
    let cache = tempfile::tempdir().unwrap();
    let package = root().join("engine/bindings/go/btfleet");
    let Some(mut go_test) = go(&package, cache.path()) else { return };
    let new = kernel(NEW);
    let mut inputs = OwnedInputs::new();
    inputs.add_object_file(object());
    inputs.add_kernel_bytes("new", new.clone());
    let owned = OwnedRun::new(inputs, Options::LIBBPF).unwrap();
    let expected = owned.relocate(0).unwrap().classes().next().unwrap().file().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (name, data) in [("old", kernel(OLD)), ("new", new), ("expected", expected)] {
        fs::write(dir.path().join(name), data).unwrap();
    }
    go_test.args(["test", "-count=1", "-v", "."]).env("BTFLEET_OBJECT", object());
    for (variable, name) in [("BTFLEET_OLD", "old"), ("BTFLEET_NEW", "new"), ("BTFLEET_EXPECTED", "expected")]
    {
        go_test.env(variable, dir.path().join(name));
    }
    let out = String::from_utf8(run(&mut go_test).stdout).unwrap();
    assert!(out.contains("PASS") && !out.contains("SKIP"), "{out}");
    let mut vet = go(&package, cache.path()).unwrap();
    run(vet.args(["vet", "."]));
}

/// Check that gofmt has nothing to change.
#[test]
fn go_files_are_formatted() {
    if !Command::new("gofmt").arg("-h").output().is_ok_and(|it| !it.stderr.is_empty()) {
        skip("gofmt is not installed");
        return;
    }
    let out = run(Command::new("gofmt").arg("-l").arg(root().join("engine/bindings/go")));
    assert_eq!(String::from_utf8(out.stdout).unwrap(), "");
}

/// Check that the README's program says what the README says that it does.
#[test]
fn the_readme_is_right() {
    let blocks = readme_blocks("go");
    assert_eq!(blocks.len(), 1, "one Go program in the README");
    let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let Some(mut go_run) = go(dir.path(), cache.path()) else { return };
    fs::write(dir.path().join("main.go"), &blocks[0]).unwrap();
    let package = root().join("engine/bindings/go/btfleet");
    let module = format!(
        "module readme\n\ngo 1.19\n\nrequire btfleet v0.0.0\n\nreplace btfleet => {}\n",
        package.display()
    );
    fs::write(dir.path().join("go.mod"), module).unwrap();
    let samples = root().join("workloads/samples/kernels");
    let out = run(go_run.args(["run", "."]).arg(object()).arg(samples.join(OLD)).arg(samples.join(NEW)));
    let out = String::from_utf8(out.stdout).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 2, "{out}");
    assert!(lines.iter().all(|it| it.ends_with(": exec ok")), "{out}");
}
