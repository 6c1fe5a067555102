//! Programs in the running kernel: relocated by btfleet, and with their CO-RE records left to the kernel.
//!
//! [`Session::judge`] loads each program of an object both ways, attaches none, and compares what the verifier made of
//! them: the same instructions if both are taken, and what the kernel's log says of each record if not. What differs is
//! a [`Finding`], of btfleet or of the kernel.
//!
//! This is a loader as small as that comparison allows. It makes maps, fills in data, values of the configuration,
//! kernel functions and variables; what it cannot make is left open, as the kernel relocates before it looks at
//! references.
//!
//! It needs root, or `CAP_BPF` and `CAP_PERFMON`, and a kernel of the byte order of the object.

pub mod bpf;
mod btf;
mod compare;
mod maps;
mod session;
mod target;

pub use compare::{CODES, Compared, Finding};
pub use session::{Judged, Session};
