//! Support of the differential, conformance and command line tests; nothing here depends on the engine.
//!
//! * [`build`]: BTF and BPF objects from a few lines of Rust, either byte order.
//! * [`oracle`]: libbpf itself as the judge, in a child process.
//! * [`generator`]: seeded random cases for both.

pub mod build;
pub mod generator;
pub mod oracle;
