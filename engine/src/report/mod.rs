//! Roll-up of resolved records to verdicts on programs, without any text format.
//!
//! What is judged so far is the layer `co-re`: fatal records fail every program of the object, poisoned ones
//! make a program conditional, as nobody has looked yet whether the poison can be reached.

mod check;
mod classes;
mod cover;

pub use check::{Abort, Effect, Finding, ProgramVerdict, Verdict, Verdicts, check};
pub use classes::{Partition, classes};
pub use cover::Cover;
