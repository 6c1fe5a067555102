//! Replays the seeds of the fuzz targets (`tests/fuzz`) without a fuzzer: all that the targets assert, on stable.

#![expect(clippy::print_stderr, reason = "the one way for a test to say how much it judged")]

#[path = "../fuzz/bodies.rs"]
mod bodies;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn every_seed_passes() {
    let (start, mut files, mut failed) = (Instant::now(), 0, Vec::new());
    for (target, _) in bodies::TARGETS {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        let entries =
            std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{target} has no seeds: {error}"));
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "{target} has no seeds");
        for path in paths {
            let bytes = std::fs::read(&path).expect("readable");
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if catch_unwind(AssertUnwindSafe(|| bodies::run(target, &bytes))).is_err() {
                failed.push(format!("{target}/{name}"));
            }
            files += 1;
        }
    }
    let took = start.elapsed();
    eprintln!("{files} seeds in {took:?}");
    assert!(failed.is_empty(), "seeds that panic, see above: {failed:?}");
    assert!(took < Duration::from_secs(20), "the replay takes {took:?}");
}
