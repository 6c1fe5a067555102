//! BPF CO-RE relocation for many programs on many kernels, from files, bit-identical to libbpf.
//!
//! Compiled BPF objects carry records of every kernel field, type and enumerator that they rely on. This
//! library answers, for any object and any kernel's BTF, what libbpf would make of each record: the value
//! that it patches in, an instruction that it poisons, or an error that ends the load. It needs no kernel,
//! no root and no network, and it prints nothing.
//!
//! ```
//! use btfleet_engine::batch::outcomes;
//! use btfleet_engine::dialect::Loader;
//! use btfleet_engine::fleet::Modules;
//! use btfleet_engine::kernel::Kernel;
//! use btfleet_engine::object::Object;
//! use btfleet_engine::resolve::Outcome;
//!
//! /// Counts the records of `object` that this kernel cannot serve.
//! fn unserved(object: &[u8], vmlinux: &[u8]) -> Result<usize, Box<dyn std::error::Error>> {
//!     let object = Object::parse(object)?; // an ELF file, borrowed
//!     let kernel = Kernel::parse(vmlinux)?; // raw BTF, borrowed
//!     let outcomes = outcomes(Loader::Libbpf, &object, &kernel, Modules::All, |_record| true);
//!     Ok(object
//!         .relocs()
//!         .iter()
//!         .zip(&outcomes)
//!         .filter(|(record, outcome)| match outcome {
//!             Outcome::Decided(decision) => {
//!                 println!("{}: {:?} -> {:?}", object.path(record), decision.orig, decision.new);
//!                 decision.poisoned
//!             }
//!             Outcome::Fatal(error) => {
//!                 println!("{}: {error} (libbpf: {})", object.path(record), error.errno());
//!                 true
//!             }
//!             Outcome::Skipped | Outcome::ModuleDependent(_) => false,
//!         })
//!         .count())
//! }
//! # assert!(unserved(b"no ELF file", b"no BTF").is_err());
//! ```
//!
//! # Modules, in the order in which they build on each other
//!
//! * [`format`](mod@format): what the bytes are. No logic.
//! * [`bytes`]: bytes of packs, mapped.
//! * [`btf`]: what types mean, over borrowed bytes.
//! * [`dialect`]: which loader's answers are wanted: libbpf's, or some kernel's own.
//! * [`value`]: the value of a relocation at a place of a type.
//! * [`error`]: what libbpf calls an error.
//! * [`query`]: a record as a question without its object.
//! * [`pack`]: many kernels in one file, each type once.
//! * [`object`]: one BPF object: programs, records, externs.
//! * [`kallsyms`]: a kernel's lists of its symbols.
//! * [`kconfig`]: the kernel's configuration, as programs read it.
//! * [`kernel`]: one kernel: vmlinux, modules, candidate lookup.
//! * [`ingest`]: files as users have them, read and decompressed.
//! * [`fleet`]: the kernels of a run: candidates of a root on all of them.
//! * [`patch`]: a decided relocation to instruction bytes.
//! * [`resolve`]: one query on one type, and the fold of an object's records.
//! * [`bitfield`]: which bits a field has, and which a program reads.
//! * [`reach`]: which instructions can be reached once the values are known.
//! * [`batch`]: many objects on many kernels, in parallel.
//! * [`depend`]: what programs need beside CO-RE: attach targets, symbols, structs to implement.
//! * [`relocate`]: the object's file as it is after relocation.
//! * [`patch_list`]: the same as a list of fields and values.
//! * [`explain`]: why a record came out as it did.
//! * [`report`]: verdicts on programs, classes of kernels.
//! * [`diff`](mod@diff): what changed between two kernels.
//! * [`dump`]: types as text, as C that compiles among others.
//! * [`minimal`]: as much of a kernel's BTF as some objects need.
//! * [`embed`]: from inputs to answers without lifetimes.
//! * [`matchers`]: candidate search by several algorithms, to be measured against one another.
//!
//! The libbpf whose answers are modelled is named by [`MODELS`].

pub mod batch;
pub mod bitfield;
pub mod btf;
pub mod bytes;
pub mod depend;
pub mod dialect;
pub mod diff;
pub mod drift;
pub mod dump;
pub mod embed;
pub mod error;
pub mod explain;
pub mod fleet;
pub mod format;
pub mod ingest;
pub mod kallsyms;
pub mod kconfig;
pub mod kernel;
pub mod matchers;
pub mod minimal;
pub mod object;
pub mod pack;
pub mod patch;
pub mod patch_list;
pub mod prog_load;
pub mod query;
pub mod reach;
pub mod relocate;
pub mod report;
pub mod resolve;
pub mod skeleton;
pub mod value;

/// The libbpf whose answers are modelled.
pub const MODELS: &str = "libbpf f7081a6 (July 2026)";
