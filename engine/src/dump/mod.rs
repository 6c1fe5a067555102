//! Types as text: a line for each as they stand in the BTF (`raw`), and as C that compiles to the same layout (`c`).
//!
//! Reads a BTF, decides nothing. Both forms are those of `bpftool btf dump`, so that what reads the one reads the other:
//! the lines byte for byte, the C in what it means.

mod c;
mod layout;
mod names;
mod raw;

pub use c::{DumpError, c_source};
pub use raw::push_raw;
