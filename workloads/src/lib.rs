//! Synthetic inputs, for the program `btfleet-workloads` and for tests that want some.

pub mod generate;
