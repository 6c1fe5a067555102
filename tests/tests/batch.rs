//! Many objects on many kernels in one run: each outcome is that of its pair alone, and libbpf's, wherever kernels
//! come from and in whatever order they stand. And what makes the sharing sound: equal shapes, equal answers.

#[path = "differential/compare.rs"]
mod compare;
#[path = "batch/runs.rs"]
mod runs;
#[path = "batch/shapes.rs"]
mod shapes;
