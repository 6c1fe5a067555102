//! Files as users have them: read, decompressed, and BTF found in them.
//!
//! Every input is read once into a buffer: measured faster than faulting in a mapping, and safe against
//! files that change underneath. What comes out are owned bytes that [`crate::btf`] and [`crate::object`]
//! borrow from.

pub mod archive;
mod container;
mod dwarf;
mod elf;
mod embedded;
mod error;
mod facts;
mod file;
mod image;
mod kernel;
mod limits;
mod objects;
mod package;
mod packages;
mod role;
mod sniff;
mod unpack;

pub use container::{BtfBytes, looks_like_kernel, looks_like_object};
pub use dwarf::{Dwarf, EncodeBtf, Encoded};
pub use embedded::{Embedded, embedded};
pub use error::{InputCode, InputError};
pub use facts::{facts_of, release_in};
pub use file::{Archive, Entry, Intake, Member, Opened};
pub use image::{Machine, Said};
pub use kernel::{KernelBtf, KernelFiles, KernelSource, ModuleBtf, ModuleFile, ParsedFiles};

pub use limits::{Limits, OverLimit};
pub use objects::{ObjectFile, ObjectInput};
pub use packages::kernels_in;
pub use role::{Installed, Role, installed};
pub use sniff::{HEAD_LEN, Looks};
pub use unpack::{Compression, read_all};
