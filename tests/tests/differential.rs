//! The engine against libbpf, record by record: the committed samples, synthetic
//! sets made of them, random cases, and names.

#[path = "differential/compare.rs"]
mod compare;
#[path = "differential/generated.rs"]
mod generated;
#[path = "differential/minimal.rs"]
mod minimal;
#[path = "differential/names.rs"]
mod names;
#[path = "differential/samples.rs"]
mod samples;
#[path = "differential/synthetic.rs"]
mod synthetic;
