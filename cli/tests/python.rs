//! The Python package, held against the command line by tests of its own.

use std::io::Write;
use std::path::Path;
use std::process::Command;

/// How the tests say that they cannot be run here; they say why themselves.
const SKIPPED: i32 = 77;

/// Is set where they have to be run.
const REQUIRED: &str = "BTFLEET_REQUIRE_PYTHON";

/// Check that the wheel is built, and has the same answers as the command line.
#[test]
fn the_package_passes_its_tests() {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/python/tests/run");
    let out = Command::new(run.canonicalize().unwrap())
        .env("BTFLEET", env!("CARGO_BIN_EXE_btfleet"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    match out.status.code() {
        Some(0) => {}
        Some(SKIPPED) if std::env::var_os(REQUIRED).is_none() => {
            // Past the test harness, which keeps what tests print to itself. Without stderr there is nobody to tell.
            let _ = std::io::stderr().write_all(&out.stderr);
        }
        _ => panic!("{said}"),
    }
}
