//! The file of a pack, byte by byte. All numbers are little-endian.
//!
//! ```text
//! PACK      := HEADER SEGMENT...                 segments and sections start at multiples of 8 bytes
//! HEADER    := "btfleet\0", version: u32, 0: u32, zeros up to byte 512,
//!              SLOT, zeros up to byte 1024, SLOT, zeros up to byte 1536
//! SLOT      := generation: u64, LINK, hash: u64  the slot with the higher generation counts; hash is of what is
//!                                                before it in the slot
//! LINK      := directory_off: u64, directory_len: u64, directory_hash: u64
//! SEGMENT   := SECTION... DIRECTORY              what one run of `add` brought
//! DIRECTORY := previous: LINK                    the directory of the segment before, zeros in the first
//!              { kind: u32, abi: u32, off: u64, len: u64, hash: u64 }...
//! ```
//!
//! `abi` is 0, plus 1 for big-endian kernels, plus 2 for kernels with pointers of 4 bytes. Hashes are XXH3-64. A
//! segment continues all numbers of the segments before it: types, strings, roots, lists, kernels, modules.
//!
//! Sections for each ABI that the segment brings types of:
//!
//! ```text
//! BTF          a BTF blob: header of 24 bytes, types, strings; split on that of the segment before. What it holds is
//!              said in `super::intern`. Records of unknown kinds have no tail.
//! BLOCKS       type_count: u32, offset in the types of every 4th type: u32...
//! TYPE_INDEX   INDEX: types by the hash of their record
//! STRING_INDEX INDEX: strings by the hash of their bytes without the NUL; in place of a string's number, its offset
//!              from the segment's first
//! INDEX     := bits: u32, width: u32, end of each of the 2^bits buckets: u32..., { number: width bytes }...
//!              numbers count from the segment's first; the bucket is the upper `bits` bits of the hash
//! ```
//!
//! Sections of the segment as a whole, all of them always there:
//!
//! ```text
//! ROOTS    bits: u32, count: u32, first_root: u32, end_root: u32, end of each of the 2^bits buckets in bytes: u32...,
//!          then POSTING... by bucket, in a bucket by hash, then by root
//! POSTING  hash: u32 (lower half), len: VARINT, then in `len` bytes: root: VARINT,
//!          2 * vmlinux changes, plus 1 if modules follow: VARINT, CHANGE...
//!          and if so, number of changes: VARINT, CHANGE...
//! CHANGE   unit (the first from the segment's first, then from the one before): VARINT, list: VARINT
//! LISTS    count: u32, end of each list in ids: u32..., type id: u32...
//! IDS      for each unit of the segment: shift_count: u32, own_count: u32, shifts_len: u32, TABLE of the shifts in
//!          `shifts_len` bytes, TABLE of the own ids, see `super::ids`
//! TABLE    { key, value, nibble }: u32... of every 256th entry, then the nibbles of the others
//! KERNELS  { KERNEL }...     see `Kernel`
//! MODULES  { MODULE }...     see `Module`
//! NAMES    { text_off: u32, text_len: u32, kernel: u32, 0: u32 }...   in the order of adding
//! TEXT     what the three before refer to
//! VARINT   base 128, lowest bits first, the upper bit of a byte says that more follow
//! ```
//!
//! A *root* is a pair of essential name and kind (ENUM64 counts as ENUM) that some type has. A *unit* is one BTF: a
//! kernel's vmlinux or a module; both are numbered apart. A unit's *value* of a root is the list of its types of that
//! name and kind: 0 if it has none, the id of the type in the pack if it has one, or 2^31 plus the number of a list.
//! It is the value that its base unit has, unless there is a change for it. Its type ids are told by those of its *ids
//! base*: the base unit, or none where the chain of ids bases would become too long.
//!
//! Version history: 1 is the first.

use super::PackError;
use crate::btf::NameHash;
use crate::format::Endian;
use crate::format::btf::Kind;

pub(super) const MAGIC: [u8; 8] = *b"btfleet\0";
pub(super) const VERSION: u32 = 1;
pub(super) const SLOTS: [usize; 2] = [512, 1024];
pub(super) const SLOT_LEN: usize = 40;
pub(super) const HEADER_LEN: usize = 1536;
pub(super) const LINK_LEN: usize = 24;
pub(super) const ENTRY_LEN: usize = 32;
pub(super) const KERNEL_LEN: usize = 112;
pub(super) const MODULE_LEN: usize = 40;
pub(super) const NAME_LEN: usize = 16;
/// No base unit.
pub(super) const NO_UNIT: u32 = u32::MAX;
/// Entries of a unit's ids between two entries of the index.
pub(super) const IDS_BLOCK: usize = 256;
pub(super) const IDS_INDEX_LEN: usize = 12;
pub(super) const ROOTS_HEADER_LEN: usize = 16;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum SectionKind {
    Btf = 1,
    Blocks,
    TypeIndex,
    StringIndex,
    Roots,
    Lists,
    Ids,
    Kernels,
    Modules,
    Names,
    Text,
}

/// Byte order and size of a pointer of a kernel. Types of different ABIs never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Abi(u8);

impl Abi {
    pub(super) const COUNT: usize = 4;

    /// The ABI of a kernel.
    pub fn new(endian: Endian, pointer_size: u32) -> Self {
        Self(u8::from(endian == Endian::Big) | u8::from(pointer_size == 4) << 1)
    }

    pub(super) fn from_number(number: u32) -> Option<Self> {
        u8::try_from(number).ok().filter(|&it| usize::from(it) < Self::COUNT).map(Self)
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..4).map(Self)
    }

    pub(super) fn number(self) -> u32 {
        self.0.into()
    }

    pub(super) fn slot(self) -> usize {
        self.0.into()
    }

    /// Byte order.
    pub fn endian(self) -> Endian {
        if self.0 & 1 == 0 { Endian::Little } else { Endian::Big }
    }

    /// Bytes of a pointer.
    pub fn pointer_size(self) -> u32 {
        if self.0 & 2 == 0 { 8 } else { 4 }
    }
}

/// One unit's value of a root: which types it has of the root's name and kind, in order.
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListRef(pub(super) u32);

impl ListRef {
    /// No type.
    pub const NONE: Self = Self(0);
    const LIST: u32 = 1 << 31;

    /// Whether there is no type.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    pub(super) fn of_list(number: u32) -> Self {
        Self(number | Self::LIST)
    }

    /// Number of the list, or the only type.
    pub(super) fn split(self) -> Result<u32, u32> {
        if self.0 & Self::LIST != 0 { Ok(self.0 & !Self::LIST) } else { Err(self.0) }
    }
}

/// By what the roots of a pack are found: hash of the essential name, and kind.
pub(super) fn root_key(NameHash(hash): NameHash, kind: Kind) -> u64 {
    let kind = if kind == Kind::Enum64 { Kind::Enum } else { kind };
    hash ^ (u64::from(kind.raw()) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Where a segment's directory is, and the hash of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) off: u64,
    pub(super) len: u64,
    pub(super) hash: u64,
}

impl Link {
    pub(super) fn read(bytes: &[u8], at: usize) -> Option<Self> {
        Some(Self { off: u64_at(bytes, at)?, len: u64_at(bytes, at + 8)?, hash: u64_at(bytes, at + 16)? })
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        for word in [self.off, self.len, self.hash] {
            out.extend(word.to_le_bytes());
        }
    }
}

/// One of the two places that say which directory counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) generation: u64,
    pub(super) link: Link,
}

impl Slot {
    /// `None` if it was never written, or not to its end.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let slot = Self { generation: u64_at(bytes, 0)?, link: Link::read(bytes, 8)? };
        let hash = hash(bytes.get(..SLOT_LEN - 8)?);
        (slot.generation > 0 && u64_at(bytes, SLOT_LEN - 8) == Some(hash)).then_some(slot)
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        let mut out = self.generation.to_le_bytes().to_vec();
        self.link.write(&mut out);
        out.extend(hash(&out).to_le_bytes());
        out
    }
}

/// What a pack says of one kernel; 112 bytes in the file, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KernelRecord {
    pub(super) content: [u8; 16],
    pub(super) base: u32,
    pub(super) abi: u32,
    pub(super) type_count: u32,
    /// Bit 0: the BTF is external, not the kernel's own. Bit 1: it is the kernel's own. Neither: nothing says.
    pub(super) flags: u32,
    pub(super) raw_len: u64,
    pub(super) ids_off: u64,
    pub(super) ids_base: u32,
    pub(super) first_module: u32,
    pub(super) module_count: u32,
    /// Source, release, distribution, architecture, flavour: offset and length in TEXT. Then 12 zeros.
    pub(super) texts: [(u32, u32); 5],
}

impl KernelRecord {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| u32_at(bytes, at);
        let mut texts = [(0, 0); 5];
        for (at, text) in (60..).step_by(8).zip(&mut texts) {
            *text = (word(at)?, word(at + 4)?);
        }
        Some(Self {
            content: *bytes.first_chunk()?,
            base: word(16)?,
            abi: word(20)?,
            type_count: word(24)?,
            flags: word(28)?,
            raw_len: u64_at(bytes, 32)?,
            ids_off: u64_at(bytes, 40)?,
            ids_base: word(48)?,
            first_module: word(52)?,
            module_count: word(56)?,
            texts,
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let end = out.len() + KERNEL_LEN;
        out.extend(self.content);
        words(out, &[self.base, self.abi, self.type_count, self.flags]);
        out.extend(self.raw_len.to_le_bytes());
        out.extend(self.ids_off.to_le_bytes());
        words(out, &[self.ids_base, self.first_module, self.module_count]);
        for (off, len) in self.texts {
            words(out, &[off, len]);
        }
        out.resize(end, 0);
    }
}

/// What a pack says of one module; 40 bytes in the file, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModuleRecord {
    pub(super) kernel: u32,
    pub(super) base: u32,
    pub(super) type_count: u32,
    pub(super) ids_base: u32,
    pub(super) ids_off: u64,
    pub(super) raw_len: u64,
    pub(super) name: (u32, u32),
}

impl ModuleRecord {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| u32_at(bytes, at);
        Some(Self {
            kernel: word(0)?,
            base: word(4)?,
            type_count: word(8)?,
            ids_base: word(12)?,
            ids_off: u64_at(bytes, 16)?,
            raw_len: u64_at(bytes, 24)?,
            name: (word(32)?, word(36)?),
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        words(out, &[self.kernel, self.base, self.type_count, self.ids_base]);
        out.extend(self.ids_off.to_le_bytes());
        out.extend(self.raw_len.to_le_bytes());
        words(out, &[self.name.0, self.name.1]);
    }
}

pub(super) fn hash(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Endian::Little.u32_at(bytes, at)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

pub(super) fn words(out: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        out.extend(word.to_le_bytes());
    }
}

pub(super) fn push_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Reads a varint from the front of `bytes`.
#[inline]
pub(super) fn take_varint(bytes: &mut &[u8]) -> Result<u32, PackError> {
    let mut value = 0_u32;
    for shift in [0, 7, 14, 21, 28] {
        let Some((&byte, rest)) = bytes.split_first() else { break };
        *bytes = rest;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(PackError::damaged("a number does not end"))
}

/// `value` as the format stores it.
pub(super) fn to_u32(value: usize, what: &'static str) -> Result<u32, PackError> {
    u32::try_from(value).map_err(|_| PackError::Full { what })
}
