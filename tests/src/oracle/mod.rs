//! libbpf as the judge.
//!
//! The parent half: [`Oracle`] runs the `oracle` binary of this package, which links libbpf 1.7, and asks it over a
//! pipe. libbpf may crash or loop on hostile input; the parent notices, keeps the input in a file, starts a new child
//! and goes on.
//!
//! ```text
//! FRAME    := length: u32, payload            both directions, all integers little-endian
//! REQUEST  := op: u8, body                     see `wire`
//! ```

mod extract;
mod parent;
pub mod wire;

pub use extract::{ExtractError, ExtractedObject, elf_section, extract};
pub use parent::{Oracle, OracleError};
pub use wire::{Answer, CodeSection, Options, Program, Record, Stage, Status};
