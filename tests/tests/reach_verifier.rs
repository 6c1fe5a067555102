//! Reachability against the running kernel's verifier, program by program.
//!
//! [`random`]: small programs with places of which one after the other is poisoned. The kernel says of each whether its
//! verifier gets there. What it does not get to and we call live is imprecision, and counted; what it gets to and we
//! call dead is a bug.
#![expect(clippy::print_stdout, reason = "the matrix is what the test is for")]
#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]
#![expect(clippy::cast_possible_truncation, reason = "random bits")]

#[path = "reach_verifier/generate.rs"]
mod generate;
#[path = "reach_verifier/random.rs"]
mod random;

use btfleet_engine::dialect::Release;

/// The running kernel's release.
fn release() -> Result<Release, String> {
    if cfg!(target_endian = "big") {
        return Err("the programs are made for little-endian machines".into());
    }
    Release::running().ok_or_else(|| "the running kernel does not say its release".into())
}
