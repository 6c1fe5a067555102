//! From inputs to answers without lifetimes: what bindings for other languages and the command line start from.
//!
//! [`Files`] are inputs as they were given, in files or in memory; [`Inputs`] borrows from them and has everything
//! parsed. One input that is defective is an [`InputError`](crate::ingest::InputError) among its defects, and the others
//! are judged. [`Loaders`] says by whose rules each kernel is judged. [`OwnedRun`] owns all of it together with the
//! answers, and may be read from many threads at once.
//!
//! ```
//! use btfleet_engine::embed::{Options, OwnedInputs, OwnedRun, RunError};
//!
//! /// Prints the verdicts on the programs of an object for a kernel.
//! fn judge(object: Vec<u8>, vmlinux: Vec<u8>) -> Result<(), RunError> {
//!     let mut inputs = OwnedInputs::new();
//!     inputs.add_object_bytes("x.bpf.o", object);
//!     inputs.add_kernel_bytes("vmlinux", vmlinux);
//!     let run = OwnedRun::new(inputs, Options::LIBBPF)?;
//!     for defect in run.inputs().all_defects() {
//!         println!("{defect}");
//!     }
//!     for object in 0..run.inputs().objects.len() {
//!         for row in run.check(object)?.on(0).unwrap_or_default() {
//!             println!("{} {}", row.program, row.verdict.name());
//!         }
//!     }
//!     Ok(())
//! }
//! # assert!(judge(b"no ELF file".to_vec(), b"no BTF".to_vec()).is_ok());
//! ```

mod files;
mod loaders;
mod owned;
mod rows;

pub use files::{DamagedPack, Files, Inputs, KernelInput, NamedObject, is_called};
pub use loaders::{LoaderChoice, Loaders, Refusal};
pub use owned::{Options, OwnedInputs, OwnedRun, RunError};
pub use rows::{Answers, Judgements, ProgramCode, RelocatedClass, Relocations};
