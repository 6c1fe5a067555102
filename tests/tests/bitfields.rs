//! Bitfields and the values that read them, against a model that goes bit by bit, against libbpf, and on real programs.

#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

#[path = "bitfields/exhaustive.rs"]
mod exhaustive;
#[path = "bitfields/findings.rs"]
mod findings;
#[path = "bitfields/objects.rs"]
mod objects;
#[path = "bitfields/real.rs"]
mod real;
