//! Roll-up of resolved records to verdicts on programs, without any text format.
//!
//! Fatal records fail every program of the object (`co-re`), and so do symbols and structs that it cannot do without
//! (`symbols`); what a program attaches to fails that program (`attach`). Poison fails a program if the verifier gets there (`reach`).

mod arguments;
mod check;
mod classes;
mod cover;
mod drifting;
mod needs;
mod patches;
mod reaching;
mod records;
mod roles;
mod rows;
mod verdict;
mod world;

pub use check::check;
pub use classes::{Partition, classes};
pub use cover::Cover;
pub use patches::{PatchRow, Patches, patches};
pub use reaching::{Route, Stop, routes};
pub use roles::Roles;
pub use rows::{AbortRow, AnswerRow, FindingRow, ObstacleRow, Place, RecordRow, VerdictRow, text};
pub use verdict::{Abort, Effect, Finding, ProgramVerdict, Verdict, Verdicts};
pub use world::{Known, World};
