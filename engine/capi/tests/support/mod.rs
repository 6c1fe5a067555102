//! What the tests of the languages share: tools that may not be there, samples, and the library as it is installed.

#![allow(dead_code, reason = "each test uses some of it")]

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

pub(crate) const OBJECT: &str = "exec_snoop.bpf.o";
pub(crate) const OLD: &str = "5.10.0-46-cloud-amd64.btf.zst";
pub(crate) const NEW: &str = "7.3.4+deb13-cloud-amd64.btf.zst";

/// Says that a test skips, and why, past the test harness, which keeps what tests print to itself.
pub(crate) fn skip(why: &str) {
    // Without stderr there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// What a tool says of its version; says so and returns nothing where it is not installed.
pub(crate) fn tool(name: &str, version_arg: &str, purpose: &str) -> Option<String> {
    match Command::new(name).arg(version_arg).stderr(Stdio::null()).output() {
        Ok(out) if out.status.success() => Some(String::from_utf8_lossy(&out.stdout).into_owned()),
        _ => {
            skip(&format!("{name} is not installed: {purpose}"));
            None
        }
    }
}

/// Runs a command, which has to succeed.
pub(crate) fn run(command: &mut Command) -> Output {
    let out = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(out.status.success(), "{command:?}: {}\n{}{}", out.status, text(&out.stdout), text(&out.stderr));
    out
}

/// The folder of this package.
pub(crate) fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The project's folder.
pub(crate) fn root() -> PathBuf {
    here().join("../..").canonicalize().unwrap()
}

pub(crate) fn object() -> PathBuf {
    root().join("workloads/samples/objects").join(OBJECT)
}

/// A kernel's BTF, decompressed: languages are not to need zstd.
pub(crate) fn kernel(name: &str) -> Vec<u8> {
    let packed = fs::read(root().join("workloads/samples/kernels").join(name)).unwrap();
    zstd::decode_all(packed.as_slice()).unwrap()
}

/// The library as `install` puts it, from the static library that the tests were built with.
pub(crate) fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        // In the target folder: nobody would remove it elsewhere, and it is large.
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME"));
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args([
            "build",
            "--locked",
            "--profile",
            "test",
            "-p",
            "btfleet-capi",
            "--message-format",
            "json",
        ]);
        let messages = run(build.current_dir(here())).stdout;
        let messages = String::from_utf8(messages).unwrap();
        let ends = messages.match_indices("/libbtfleet.a\"").map(|it| it.0);
        let archive = ends.last().map(|end| {
            let start = messages[..end].rfind('"').unwrap() + 1;
            format!("{}/libbtfleet.a", &messages[start..end])
        });
        let archive = archive.expect("a static library is built");
        run(Command::new(here().join("install")).arg("--prefix").arg(&dir).args(["--archive", &archive]));
        dir
    })
}

/// The code blocks of a language in the README, in their order.
pub(crate) fn readme_blocks(language: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).filter_map(|it| it.split("```").next()).map(str::to_owned).collect()
}

/// Compiles a C file against the installed library, with warnings as errors.
pub(crate) fn compile(source: &Path, to: &Path, link: &[&OsStr]) {
    let mut gcc = Command::new("gcc");
    gcc.args(["-std=c11", "-g", "-Wall", "-Wextra", "-Werror", "-I"]).arg(installed().join("include"));
    run(gcc.arg("-o").arg(to).arg(source).args(link));
}
