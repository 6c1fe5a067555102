//! Support of the differential, conformance and command line tests; nothing here depends on the engine.
//!
//! * [`build`]: BTF and BPF objects from a few lines of Rust, either byte order.
//! * [`bits`]: what it means to read a field, bit by bit.
//! * [`oracle`]: libbpf itself as the judge, in a child process.
//! * [`kernel`]: the running kernel as the judge of its own relocation.
//! * [`loading`]: libbpf loading programs into the running kernel, in a child process.
//! * [`generator`]: seeded random cases for both.

pub mod bits;
pub mod build;
pub mod generator;
pub mod kernel;
pub mod loading;
pub mod oracle;

use std::io::Write;
use std::path::{Path, PathBuf};

/// Says that a test skips, and why.
pub fn skip(why: &str) {
    say(&format!("SKIPPED: {why}"));
}

/// Says something past the test harness, which keeps what tests print to itself.
pub fn say(what: &str) {
    // Without stderr there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// The developers' corpus of recorded answers; says so and returns nothing where it is absent.
pub fn corpus(purpose: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    if !root.is_dir() {
        skip(&format!("no corpus of recorded answers beside the project: {purpose}"));
        return None;
    }
    Some(root)
}
