//! Many objects on many kernels in one run: each outcome is that of its pair alone, and libbpf's, wherever kernels

#[path = "differential/compare.rs"]
mod compare;
#[path = "batch/runs.rs"]
mod runs;
