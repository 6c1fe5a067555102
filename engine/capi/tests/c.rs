//! C programs on the library as it is installed, under valgrind, and what the library gives away.

#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use btfleet_engine::embed::{Options, OwnedInputs, OwnedRun};

use crate::support::{
    compile, here, installed, kernel, object, readme_blocks, root, run, skip, tool, NEW, OLD,
};

mod support;

/// The version of Debian 12, whose layout the header has.
const CBINDGEN: &str = "cbindgen 0.24.3";

fn has_gcc() -> bool {
    tool("gcc", "--version", "no C programs are compiled").is_some()
}

/// What to link with: the shared library.
fn shared() -> Vec<OsString> {
    let lib = installed().join("lib");
    vec!["-L".into(), lib.clone().into(), format!("-Wl,-rpath,{}", lib.display()).into(), "-lbtfleet".into()]
}

/// What to link with: the static library, and what `btfleet.pc` says that it needs.
fn linked_statically() -> Vec<OsString> {
    let pc = fs::read_to_string(installed().join("lib/pkgconfig/btfleet.pc")).unwrap();
    let private = pc.lines().find_map(|it| it.strip_prefix("Libs.private: ")).unwrap();
    let archive = installed().join("lib/libbtfleet.a").into();
    std::iter::once(archive).chain(private.split(' ').map(Into::into)).collect()
}

/// A C program of a file.
fn program(source: &Path, dir: &Path, name: &str, link: &[OsString]) -> PathBuf {
    let to = dir.join(name);
    compile(source, &to, &link.iter().map(|it| it.as_os_str()).collect::<Vec<_>>());
    to
}

/// A command that runs under valgrind, where it is installed.
fn checked(program: &Path) -> Command {
    if tool("valgrind", "--version", "C programs run without it").is_none() {
        return Command::new(program);
    }
    let mut command = Command::new("valgrind");
    // Threads of the pool may not have ended when the program does, and what they have is then in sight of nobody.
    command.args(["-q", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"]);
    command.args(["--show-leak-kinds=definite"]).arg(program);
    command
}

fn kernel_file(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name.trim_end_matches(".zst"));
    fs::write(&path, kernel(name)).unwrap();
    path
}

/// Names of the functions that the header declares.
fn declared() -> BTreeSet<String> {
    let header = fs::read_to_string(here().join("include/btfleet.h")).unwrap();
    let names = header.lines().filter_map(|it| it.split_once('(')?.0.rsplit([' ', '*']).next());
    names.filter(|it| it.starts_with("btfleet_")).map(str::to_owned).collect()
}

/// Check that the header is what cbindgen makes of the sources.
#[test]
fn the_header_is_that_of_the_sources() {
    let Some(version) = tool("cbindgen", "--version", "the header is not compared") else { return };
    if version.trim() != CBINDGEN {
        skip(&format!("this is {}: the header is compared with {CBINDGEN}'s only", version.trim()));
        return;
    }
    let made = run(Command::new("cbindgen").args(["--crate", "btfleet-capi", "."]).current_dir(here()));
    let header = fs::read_to_string(here().join("include/btfleet.h")).unwrap();
    let made = String::from_utf8(made.stdout).unwrap();
    let how = "cd engine/capi && cbindgen --crate btfleet-capi --output include/btfleet.h .";
    assert!(made == header, "include/btfleet.h is not of these sources: {how}");
}

/// Check that the shared library has its number in its name, and gives away all functions of the header, with a version,
/// and nothing else.
#[test]
fn symbols_have_versions() {
    if !has_gcc() {
        return;
    }
    let library = installed().join("lib/libbtfleet.so.1");
    let symbols =
        run(Command::new("nm").args(["-D", "--defined-only", "--with-symbol-versions"]).arg(&library));
    let symbols = String::from_utf8(symbols.stdout).unwrap();
    let names: BTreeSet<&str> = symbols.lines().filter_map(|it| it.split(' ').nth(2)).collect();
    let mut expected: BTreeSet<String> = declared().iter().map(|it| format!("{it}@@BTFLEET_1.0")).collect();
    assert!(expected.len() > 30, "{expected:?}");
    expected.insert("BTFLEET_1.0".to_owned());
    assert_eq!(names, expected.iter().map(|it| it.trim_end()).collect());
    let dynamic = run(Command::new("objdump").arg("-p").arg(&library)).stdout;
    assert!(String::from_utf8(dynamic).unwrap().contains("libbtfleet.so.1"), "the soname");
}

/// Check what C may do to the border, with memory watched.
#[test]
fn the_border_holds() {
    if !has_gcc() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut link = shared();
    link.push("-lpthread".into());
    let border = program(&here().join("tests/border.c"), dir.path(), "border", &link);
    let kernels = [OLD, NEW].map(|it| kernel_file(dir.path(), it));
    let out = run(checked(&border).arg(object()).args(kernels));
    assert_eq!(out.stdout, b"fine\n");
}

/// Check that the example prints the records and writes the file that the engine makes, with either library.
#[test]
fn the_example_relocates() {
    if !has_gcc() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let source = here().join("examples/relocate.c");
    let vmlinux = kernel_file(dir.path(), NEW);
    let mut inputs = OwnedInputs::new();
    inputs.add_object_file(object());
    inputs.add_kernel_file(&vmlinux);
    let owned = OwnedRun::new(inputs, Options::LIBBPF).unwrap();
    let expected = owned.relocate(0).unwrap().classes().next().unwrap().file().unwrap();
    let records = owned.resolve(0).unwrap().records().len();
    for (name, link) in [("shared", shared()), ("static", linked_statically())] {
        let example = program(&source, dir.path(), name, &link);
        let to = dir.path().join("out.o");
        let out = run(checked(&example).arg(object()).arg(&vmlinux).arg(&to));
        assert_eq!(String::from_utf8(out.stdout).unwrap().lines().count(), records, "{name}");
        assert!(fs::read(&to).unwrap() == expected, "{name}: the file");
        fs::remove_file(&to).unwrap();
        let failed = Command::new(&example).arg(&vmlinux).arg(&vmlinux).arg(&to).output().unwrap();
        assert_eq!(failed.status.code(), Some(3), "{name}: a kernel is no object");
        assert!(String::from_utf8(failed.stderr).unwrap().contains("vmlinux") || !to.exists());
    }
}

/// Check that the README's program says what the README says that it does.
#[test]
fn the_readme_is_right() {
    if !has_gcc() {
        return;
    }
    let blocks = readme_blocks("c");
    assert_eq!(blocks.len(), 1, "one C program in the README");
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("check.c");
    fs::write(&source, &blocks[0]).unwrap();
    let check = program(&source, dir.path(), "check", &shared());
    let samples = root().join("workloads/samples");
    let out = run(Command::new(check).arg(object()).arg(samples.join("kernels").join(OLD)));
    assert_eq!(String::from_utf8(out.stdout).unwrap(), "exec: ok\n");
}
