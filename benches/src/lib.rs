//! The same relocations by btfleet, libbpf and aya-obj, measured in one process.
//!
//! * [`workload`]: objects and one kernel; [`set`]: objects and many kernels.
//! * [`answer`]: what became of each record, so that results are compared before times are shown.
//! * [`clock`]: CPU time of the thread, wall time beside it; [`stats`]: what many times come to.
//! * [`machine`]: what it was measured on, and the memory of processes.
//! * [`btfleet`], [`libbpf`], [`aya`]: the peers. Each prepares what is not measured, and does one round. [`fleet`]:
//!   btfleet's batch engine on many kernels at once.
//! * [`scaling`]: how that grows; [`plot`]: its picture.
//!
//! All Rust code allocates with mimalloc, as the `btfleet` program does; libbpf with the C library's `malloc`.

pub mod answer;
pub mod aya;
pub mod btfleet;
pub mod clock;
pub mod fleet;
pub mod libbpf;
pub mod machine;
pub mod plot;
pub mod scaling;
pub mod set;
pub mod stats;
pub mod workload;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One pass of a peer over a workload.
#[derive(Debug)]
pub struct Round<'a> {
    /// What it took.
    pub time: clock::Time,
    /// What became of each record, objects and records in order.
    pub answers: Vec<answer::Answer<'a>>,
}
