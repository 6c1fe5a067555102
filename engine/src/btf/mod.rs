//! What types mean, over borrowed bytes: BTF parsed, checked and walked without copying it.
//!
//! [`Btf::parse`] checks what libbpf checks (`btf_parse_hdr`, `btf_sanity_check`) and builds one table,
//! type id to byte offset. Everything else is read from the file's bytes when asked for, in the file's
//! byte order. The rules are those of libbpf's `src/btf.c`; where libbpf would loop or read out of
//! bounds on hostile input, this module stops (`HARDEN` in the comments).

mod display;
mod distilled;
mod error;
mod foreign;
mod names;
mod parse;
mod raw;
mod roots;
mod shape;
mod types;
mod walk;

pub use distilled::relocate_distilled;
pub use error::BtfError;
pub use names::{Flavors, NameHash, essential_len, essential_name};
pub(crate) use raw::extent;
pub use raw::{assemble, sections};
pub use roots::{RootIndex, RootKinds, hashed_roots};
pub use shape::{ShapeHash, ShapeHasher, same_shape};
pub(crate) use types::BLOCK_TYPES;
pub use types::{Array, Btf, Enumerator, Member, Param, SecVar, Type, TypeId};
pub(crate) use walk::LONGS;
pub use walk::{SizeError, Sizes};
