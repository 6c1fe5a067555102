//! The engine for other languages: opaque handles, rows as structs, errors with a text.
//!
//! Everything is decided by [`btfleet_engine::embed`]; this crate translates. What C relies on, and the header does not
//! say function by function:
//!
//! * No panic crosses the border: it becomes [`Status::Panic`], or what a getter gives for nothing.
//! * Pointers may be NULL. Other pointers have to be what they say: handles that were not freed, strings with a NUL,
//!   as many bytes as is said.
//! * Rows are pointers to structs of the library, so later versions may have more fields behind those of today.
//! * A handle keeps what it needs: verdicts may outlive the run that they are of.
#![expect(unsafe_code, reason = "this is the border to C")]

mod border;
mod inputs;
mod keep;
mod records;
mod relocations;
mod run;
mod verdicts;

pub use border::*;
pub use inputs::*;
pub use records::*;
pub use relocations::*;
pub use run::*;
pub use verdicts::*;
