//! A BTF section, type by type.
#![expect(
    clippy::indexing_slicing,
    reason = "the builder indexes what it wrote itself; a bad id is a bug of the test"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "sections of tests are far below 4 GiB; values are meant to wrap"
)]

use std::collections::HashMap;

use super::ByteOrder;

/// `BTF_KIND_INT`.
pub const KIND_INT: u32 = 1;
/// `BTF_KIND_PTR`.
pub const KIND_PTR: u32 = 2;
/// `BTF_KIND_ARRAY`.
pub const KIND_ARRAY: u32 = 3;
/// `BTF_KIND_STRUCT`.
pub const KIND_STRUCT: u32 = 4;
/// `BTF_KIND_UNION`.
pub const KIND_UNION: u32 = 5;
/// `BTF_KIND_ENUM`.
pub const KIND_ENUM: u32 = 6;
/// `BTF_KIND_FWD`.
pub const KIND_FWD: u32 = 7;
/// `BTF_KIND_TYPEDEF`.
pub const KIND_TYPEDEF: u32 = 8;
/// `BTF_KIND_VOLATILE`.
pub const KIND_VOLATILE: u32 = 9;
/// `BTF_KIND_CONST`.
pub const KIND_CONST: u32 = 10;
/// `BTF_KIND_RESTRICT`.
pub const KIND_RESTRICT: u32 = 11;
/// `BTF_KIND_FUNC`.
pub const KIND_FUNC: u32 = 12;
/// `BTF_KIND_FUNC_PROTO`.
pub const KIND_FUNC_PROTO: u32 = 13;
/// `BTF_KIND_VAR`.
pub const KIND_VAR: u32 = 14;
/// `BTF_KIND_DATASEC`.
pub const KIND_DATASEC: u32 = 15;
/// `BTF_KIND_FLOAT`.
pub const KIND_FLOAT: u32 = 16;
/// `BTF_KIND_DECL_TAG`.
pub const KIND_DECL_TAG: u32 = 17;
/// `BTF_KIND_TYPE_TAG`.
pub const KIND_TYPE_TAG: u32 = 18;
/// `BTF_KIND_ENUM64`.
pub const KIND_ENUM64: u32 = 19;

/// A member of a struct or union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Name; empty for an anonymous member.
    pub name: &'a str,
    /// Type id of the member.
    pub type_id: u32,
    /// Offset in **bits** from the start of the struct.
    pub bit_offset: u32,
    /// Width in bits if the member is a bitfield, else 0.
    pub bitfield_size: u32,
}

impl<'a> Member<'a> {
    /// An ordinary member at `bit_offset`.
    #[must_use]
    pub fn new(name: &'a str, type_id: u32, bit_offset: u32) -> Self {
        Self { name, type_id, bit_offset, bitfield_size: 0 }
    }

    /// A bitfield of `bits` bits at `bit_offset`.
    #[must_use]
    pub fn bitfield(name: &'a str, type_id: u32, bit_offset: u32, bits: u32) -> Self {
        Self { name, type_id, bit_offset, bitfield_size: bits }
    }
}

/// Collects types and strings; [`finish`](Self::finish) gives the bytes of a `.BTF` section.
///
/// Ids are sequential from 1 (or from the base's type count), so a reference to a type that is not added yet can
/// be computed from [`next_id`](Self::next_id).
#[derive(Clone, Debug)]
pub struct BtfBuilder {
    order: ByteOrder,
    first_id: u32,
    base_str_len: u32,
    types: Vec<Vec<u32>>,
    strings: Vec<u8>,
    offsets: HashMap<String, u32>,
    header_len: u32,
    layout: Vec<u8>,
}

impl BtfBuilder {
    /// An empty base BTF with a 24-byte header.
    #[must_use]
    pub fn new(order: ByteOrder) -> Self {
        Self {
            order,
            first_id: 1,
            base_str_len: 0,
            types: Vec::new(),
            strings: vec![0],
            offsets: HashMap::from([(String::new(), 0)]),
            header_len: 24,
            layout: Vec::new(),
        }
    }

    /// An empty split BTF on a base with `base_type_count` types (void included) and `base_str_len` string bytes.
    #[must_use]
    pub fn split_on(order: ByteOrder, base_type_count: u32, base_str_len: u32) -> Self {
        Self { first_id: base_type_count, base_str_len, strings: Vec::new(), ..Self::new(order) }
    }

    /// An empty split BTF on `base` as it is now.
    #[must_use]
    pub fn split(base: &Self) -> Self {
        Self::split_on(base.order, base.next_id(), base.str_len())
    }

    /// Byte order of the result.
    #[must_use]
    pub fn order(&self) -> ByteOrder {
        self.order
    }

    /// The id that the next added type gets; also the type count, void included.
    #[must_use]
    pub fn next_id(&self) -> u32 {
        self.first_id + self.types.len() as u32
    }

    /// Length in bytes of all strings so far, the base's included.
    #[must_use]
    pub fn str_len(&self) -> u32 {
        self.base_str_len + self.strings.len() as u32
    }

    /// Adds a string unless it is there already; returns its offset.
    pub fn str(&mut self, s: &str) -> u32 {
        if let Some(&off) = self.offsets.get(s) {
            return off;
        }
        let off = self.str_len();
        self.strings.extend_from_slice(s.as_bytes());
        self.strings.push(0);
        self.offsets.insert(s.to_owned(), off);
        off
    }

    /// Adds a type from raw words: name offset, info, size or type, then what the kind needs.
    pub fn raw(&mut self, words: &[u32]) -> u32 {
        assert!(words.len() >= 3, "a type has at least three words");
        let id = self.next_id();
        self.types.push(words.to_vec());
        id
    }

    /// Adds a type of any kind with a valid `info` word and the extra words as given.
    pub fn any(
        &mut self,
        name: &str,
        kind: u32,
        vlen: u32,
        kflag: bool,
        size_or_type: u32,
        tail: &[u32],
    ) -> u32 {
        let mut words = vec![self.str(name), info(kind, vlen, kflag), size_or_type];
        words.extend_from_slice(tail);
        self.raw(&words)
    }

    /// Replaces the size or type word of a type that is already there.
    pub fn set_type_ref(&mut self, id: u32, type_id: u32) {
        self.set_word(id, 2, type_id);
    }

    /// Replaces any word of a type that is already there; word 0 is the name offset.
    pub fn set_word(&mut self, id: u32, word: usize, value: u32) {
        self.types[(id - self.first_id) as usize][word] = value;
    }

    /// An integer that fills its `size` bytes; `encoding`: 1 signed, 2 char, 4 bool.
    pub fn int(&mut self, name: &str, size: u32, encoding: u32) -> u32 {
        self.int_bits(name, size, encoding, 0, size * 8)
    }

    /// An integer with a bit offset and a bit count of its own (the legacy form of bitfields).
    pub fn int_bits(&mut self, name: &str, size: u32, encoding: u32, offset: u32, bits: u32) -> u32 {
        self.any(name, KIND_INT, 0, false, size, &[(encoding << 24) | (offset << 16) | bits])
    }

    /// A pointer; 0 is `void *`.
    pub fn ptr(&mut self, to: u32) -> u32 {
        self.any("", KIND_PTR, 0, false, to, &[])
    }

    /// An array of `nelems` elements.
    pub fn array(&mut self, elem: u32, index: u32, nelems: u32) -> u32 {
        self.any("", KIND_ARRAY, 0, false, 0, &[elem, index, nelems])
    }

    /// A struct of `size` bytes.
    pub fn structure(&mut self, name: &str, size: u32, members: &[Member<'_>]) -> u32 {
        self.composite(KIND_STRUCT, name, size, members, members.iter().any(|m| m.bitfield_size > 0))
    }

    /// A union of `size` bytes.
    pub fn union(&mut self, name: &str, size: u32, members: &[Member<'_>]) -> u32 {
        self.composite(KIND_UNION, name, size, members, members.iter().any(|m| m.bitfield_size > 0))
    }

    /// A struct or union with the flag chosen by the caller: set, member offsets are 24 bits and carry a width.
    pub fn composite(
        &mut self,
        kind: u32,
        name: &str,
        size: u32,
        members: &[Member<'_>],
        kflag: bool,
    ) -> u32 {
        let mut tail = Vec::with_capacity(members.len() * 3);
        for m in members {
            let offset =
                if kflag { (m.bitfield_size << 24) | (m.bit_offset & 0xff_ffff) } else { m.bit_offset };
            tail.extend([self.str(m.name), m.type_id, offset]);
        }
        self.any(name, kind, members.len() as u32, kflag, size, &tail)
    }

    /// An enum of `size` bytes; values keep their low 32 bits.
    pub fn enumeration(&mut self, name: &str, size: u32, signed: bool, values: &[(&str, i64)]) -> u32 {
        let tail: Vec<u32> = values.iter().flat_map(|&(n, v)| [self.str(n), v as u32]).collect();
        self.any(name, KIND_ENUM, values.len() as u32, signed, size, &tail)
    }

    /// An enum64 of `size` bytes.
    pub fn enum64(&mut self, name: &str, size: u32, signed: bool, values: &[(&str, i64)]) -> u32 {
        let tail: Vec<u32> =
            values.iter().flat_map(|&(n, v)| [self.str(n), v as u32, ((v as u64) >> 32) as u32]).collect();
        self.any(name, KIND_ENUM64, values.len() as u32, signed, size, &tail)
    }

    /// A forward declaration of a struct, or of a union.
    pub fn fwd(&mut self, name: &str, union: bool) -> u32 {
        self.any(name, KIND_FWD, 0, union, 0, &[])
    }

    /// A typedef.
    pub fn typedef(&mut self, name: &str, to: u32) -> u32 {
        self.any(name, KIND_TYPEDEF, 0, false, to, &[])
    }

    /// `const`.
    pub fn constant(&mut self, to: u32) -> u32 {
        self.any("", KIND_CONST, 0, false, to, &[])
    }

    /// `volatile`.
    pub fn volatile(&mut self, to: u32) -> u32 {
        self.any("", KIND_VOLATILE, 0, false, to, &[])
    }

    /// `restrict`.
    pub fn restrict(&mut self, to: u32) -> u32 {
        self.any("", KIND_RESTRICT, 0, false, to, &[])
    }

    /// A function; `linkage`: 0 static, 1 global, 2 extern.
    pub fn func(&mut self, name: &str, proto: u32, linkage: u32) -> u32 {
        self.any(name, KIND_FUNC, linkage, false, proto, &[])
    }

    /// A prototype; a last parameter `("", 0)` makes it variadic.
    pub fn func_proto(&mut self, ret: u32, params: &[(&str, u32)]) -> u32 {
        let tail: Vec<u32> = params.iter().flat_map(|&(n, id)| [self.str(n), id]).collect();
        self.any("", KIND_FUNC_PROTO, params.len() as u32, false, ret, &tail)
    }

    /// A variable; `linkage`: 0 static, 1 global, 2 extern.
    pub fn var(&mut self, name: &str, type_id: u32, linkage: u32) -> u32 {
        self.any(name, KIND_VAR, 0, false, type_id, &[linkage])
    }

    /// A data section of `size` bytes; entries are variable id, offset, size.
    pub fn datasec(&mut self, name: &str, size: u32, entries: &[(u32, u32, u32)]) -> u32 {
        let tail: Vec<u32> = entries.iter().flat_map(|&(id, off, len)| [id, off, len]).collect();
        self.any(name, KIND_DATASEC, entries.len() as u32, false, size, &tail)
    }

    /// A floating point type.
    pub fn float(&mut self, name: &str, size: u32) -> u32 {
        self.any(name, KIND_FLOAT, 0, false, size, &[])
    }

    /// A declaration tag; component −1 is the whole declaration.
    pub fn decl_tag(&mut self, text: &str, to: u32, component: i32) -> u32 {
        self.any(text, KIND_DECL_TAG, 0, false, to, &[component.cast_unsigned()])
    }

    /// A type tag.
    pub fn type_tag(&mut self, text: &str, to: u32) -> u32 {
        self.any(text, KIND_TYPE_TAG, 0, false, to, &[])
    }

    /// Length of the header in bytes; more than 24 has the layout fields, more than 32 is padded with zeros.
    pub fn header_len(&mut self, len: u32) -> &mut Self {
        assert!(len >= 24, "a BTF header has at least 24 bytes");
        self.header_len = len;
        self
    }

    /// Sets the layout section from (info size, element size) per kind, and a header of 32 bytes.
    pub fn layout(&mut self, entries: &[(u8, u8)]) -> &mut Self {
        self.layout = entries.iter().flat_map(|&(info, elem)| [info, elem, 0, 0]).collect();
        self.header_len = self.header_len.max(32);
        self
    }

    /// The bytes of the section: header, types, layout if any, strings.
    #[must_use]
    pub fn finish(&self) -> Vec<u8> {
        let o = self.order;
        let type_len = self.types.iter().map(Vec::len).sum::<usize>() * 4;
        let str_off = type_len + self.layout.len();
        let mut out = Vec::with_capacity(self.header_len as usize + str_off + self.strings.len());
        out.extend(o.u16(0xeb9f));
        out.extend([1, 0]);
        let (layout_off, layout_len) =
            if self.layout.is_empty() { (0, 0) } else { (type_len, self.layout.len()) };
        let fields =
            [self.header_len as usize, 0, type_len, str_off, self.strings.len(), layout_off, layout_len];
        out.extend(fields.iter().flat_map(|&f| o.u32(f as u32)));
        out.resize(self.header_len as usize, 0);
        out.extend(self.types.iter().flatten().flat_map(|&w| o.u32(w)));
        out.extend_from_slice(&self.layout);
        out.extend_from_slice(&self.strings);
        out
    }
}

/// The info word: vlen in bits 0 to 23, kind in 24 to 30, flag in 31.
fn info(kind: u32, vlen: u32, kflag: bool) -> u32 {
    (u32::from(kflag) << 31) | (kind << 24) | (vlen & 0xff_ffff)
}
