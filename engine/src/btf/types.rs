//! Views of one BTF and of its types.

use std::sync::Arc;

use crate::format::Endian;
use crate::format::btf::{INT_SIGNED, Kind, TYPE_LEN};

/// Index of a type. 0 is void; a split BTF's own ids continue those of its base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub u32);

impl TypeId {
    /// The type of nothing. Not stored.
    pub const VOID: Self = Self(0);
}

impl std::fmt::Display for TypeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// One BTF: borrowed bytes and a table of where each type starts.
///
/// Made by [`Btf::parse`] or [`Btf::parse_split`], which see to it that every record fits, and that every
/// type id and string offset in it exists (but for the return types of prototypes, see `parse`).
#[derive(Debug)]
pub struct Btf<'data> {
    /// Byte order that the records are encoded in.
    pub(super) encoding: Endian,
    /// Byte order of the machine that the types are of. Packs store every kernel's types little-endian.
    pub(super) endian: Endian,
    /// The type section.
    pub(super) types: &'data [u8],
    /// The string section.
    pub(super) strs: &'data [u8],
    /// The layout section: four bytes for each kind. Often empty.
    pub(super) layout: &'data [u8],
    /// Where each own type's record starts.
    pub(super) records: Records<'data>,
    /// First own type id; 1 without a base.
    pub(super) start_id: u32,
    /// First own string offset; 0 without a base.
    pub(super) start_str_off: u32,
    pub(super) base: Option<Arc<Btf<'data>>>,
    /// Bytes of a pointer; `None` where nothing tells.
    pub(super) pointer_size: Option<u32>,
}

/// How the record of a type is found.
#[derive(Debug)]
pub(super) enum Records<'data> {
    /// Byte offset of each record, and the end of the section as the last entry.
    Table(Vec<u32>),
    /// Little-endian byte offset of the first record of each block of [`BLOCK_TYPES`] types; the others are
    /// walked to. Takes no time to open.
    Blocks {
        /// The offsets.
        starts: &'data [[u8; 4]],
        /// Number of types.
        count: u32,
    },
}

/// Types of one block of [`Records::Blocks`].
pub(crate) const BLOCK_TYPES: usize = 4;

/// One type record: its three words, and what follows them.
#[derive(Clone, Copy, Debug)]
pub struct Type<'data> {
    /// Kind, from bits 24 to 30 of `info`.
    pub kind: Kind,
    /// String offset of the name; the empty string is an anonymous type.
    pub name_off: u32,
    info: u32,
    size_or_type: u32,
    endian: Endian,
    tail: &'data [u8],
}

/// One member of a STRUCT or UNION.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// String offset of the name.
    pub name_off: u32,
    /// The member's type, modifiers unskipped.
    pub type_id: TypeId,
    /// Offset from the start of the struct, in **bits**.
    pub bit_offset: u32,
    /// Width in **bits** if the member is a bitfield, else 0.
    pub bitfield_size: u32,
}

/// One enumerator of an ENUM or ENUM64.
#[derive(Clone, Copy, Debug)]
pub struct Enumerator {
    /// String offset of the name.
    pub name_off: u32,
    /// The value as libbpf computes with it: that of an ENUM is sign-extended, whatever its sign flag.
    pub value: u64,
}

/// One parameter of a FUNC_PROTO.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// String offset of the name.
    pub name_off: u32,
    /// The parameter's type; void in the last parameter means variadic.
    pub type_id: TypeId,
}

/// One variable of a DATASEC.
#[derive(Clone, Copy, Debug)]
pub struct SecVar {
    /// A VAR, or a FUNC for an extern function.
    pub type_id: TypeId,
    /// Where it starts in the section, in **bytes**.
    pub offset: u32,
    /// Its size in **bytes**.
    pub size: u32,
}

/// An ARRAY's element type and count.
#[derive(Clone, Copy, Debug)]
pub struct Array {
    /// Type of the elements.
    pub elem: TypeId,
    /// Number of elements.
    pub nelems: u32,
}

impl<'data> Btf<'data> {
    /// Byte order of the machine that the types are of, which the windows of bitfields depend on.
    pub fn endian(&self) -> Endian {
        self.endian
    }

    /// Number of types, void and the base's included; the first id that does not exist.
    pub fn type_count(&self) -> u32 {
        let own = match &self.records {
            // The table has one entry more than there are types.
            Records::Table(offsets) => u32::try_from(offsets.len()).unwrap_or(u32::MAX) - 1,
            Records::Blocks { count, .. } => *count,
        };
        self.start_id.saturating_add(own)
    }

    /// First id that is this BTF's own and not its base's.
    pub fn start_id(&self) -> TypeId {
        TypeId(self.start_id)
    }

    /// The BTF that this one continues.
    pub fn base(&self) -> Option<&Arc<Btf<'data>>> {
        self.base.as_ref()
    }

    /// Length in bytes of the own types.
    pub(crate) fn own_len(&self) -> usize {
        self.types.len()
    }

    /// The own strings.
    pub(crate) fn own_strings(&self) -> &'data [u8] {
        self.strs
    }

    /// First own string offset.
    pub(crate) fn str_start(&self) -> u32 {
        self.start_str_off
    }

    /// First string offset past the end.
    pub(crate) fn str_end(&self) -> u32 {
        self.start_str_off.saturating_add(u32::try_from(self.strs.len()).unwrap_or(u32::MAX))
    }

    /// The BTF, this one or a base, that holds type `id`.
    #[inline]
    fn owner(&self, id: TypeId) -> Option<&Self> {
        let mut btf = self;
        while id.0 < btf.start_id {
            btf = btf.base.as_deref()?;
        }
        Some(btf)
    }

    /// The type with this id; `None` if there is none. Void is a type.
    #[inline]
    pub fn ty(&self, id: TypeId) -> Option<Type<'data>> {
        if id == TypeId::VOID {
            return Some(Type {
                kind: Kind::Void,
                name_off: 0,
                info: 0,
                size_or_type: 0,
                endian: self.encoding,
                tail: &[],
            });
        }
        let btf = self.owner(id)?;
        Type::read(btf.record_at(id.0 - btf.start_id)?, btf.encoding)
    }

    /// The bytes of the record of type `id`; `None` for void.
    pub(crate) fn record(&self, id: TypeId) -> Option<&'data [u8]> {
        if id == TypeId::VOID {
            return None;
        }
        let btf = self.owner(id)?;
        btf.record_at(id.0 - btf.start_id)
    }

    /// The bytes of the record of own type number `slot`.
    #[inline]
    fn record_at(&self, slot: u32) -> Option<&'data [u8]> {
        match &self.records {
            Records::Table(offsets) => {
                let slot = slot as usize;
                let (&start, &end) = (offsets.get(slot)?, offsets.get(slot + 1)?);
                self.types.get(start as usize..end as usize)
            }
            Records::Blocks { starts, count } => {
                if slot >= *count {
                    return None;
                }
                let start = u32::from_le_bytes(*starts.get(slot as usize / BLOCK_TYPES)?);
                let mut rest = self.types.get(start as usize..)?;
                for _ in 0..slot as usize % BLOCK_TYPES {
                    rest = rest.get(packed_len(rest)?..)?;
                }
                rest.get(..packed_len(rest)?)
            }
        }
    }

    /// [`Btf::record`] of own type number `slot` of a pack.
    #[inline]
    pub(crate) fn packed_record(&self, slot: u32) -> Option<&'data [u8]> {
        self.record_at(slot)
    }

    /// The bytes from the block on that the record is in.
    #[inline]
    pub(crate) fn near_record(&self, slot: u32) -> Option<&'data [u8]> {
        let Records::Blocks { starts, .. } = &self.records else { return None };
        let start = u32::from_le_bytes(*starts.get(slot as usize / BLOCK_TYPES)?);
        self.types.get(start as usize..)
    }

    /// Own types with their ids, in the order of the ids.
    pub fn own_types(&self) -> impl Iterator<Item = (TypeId, Type<'data>)> + '_ {
        (self.start_id..self.type_count()).filter_map(|id| Some((TypeId(id), self.ty(TypeId(id))?)))
    }

    /// The bytes from string offset `off` to the end of its string section.
    #[inline]
    pub(crate) fn str_tail(&self, off: u32) -> Option<&'data [u8]> {
        let mut btf = self;
        while off < btf.start_str_off {
            btf = btf.base.as_deref()?;
        }
        btf.strs.get((off - btf.start_str_off) as usize..)
    }

    /// The string at `off`, without its NUL. `None` if `off` is past the end.
    #[inline]
    pub fn str_at(&self, off: u32) -> Option<&'data [u8]> {
        let tail = self.str_tail(off)?;
        tail.get(..memchr::memchr(0, tail)?)
    }

    /// The string at `off`; empty if there is none.
    #[inline]
    pub fn name(&self, off: u32) -> &'data [u8] {
        self.str_at(off).unwrap_or_default()
    }

    /// Whether the string at `off` is `name`, without looking for its end first.
    #[inline]
    pub fn name_is(&self, off: u32, name: &[u8]) -> bool {
        // Few strings that are others end there, and that takes no call to see.
        self.str_tail(off).is_some_and(|tail| tail.get(name.len()) == Some(&0) && tail.starts_with(name))
    }

    /// Whether the string at `off` is empty, which is what makes a type or member anonymous.
    #[inline]
    pub fn is_anonymous(&self, off: u32) -> bool {
        off == 0 || self.str_tail(off).is_none_or(|tail| tail.first() == Some(&0))
    }
}

impl<'data> Type<'data> {
    /// Reads the record in `bytes`, which is as long as the record.
    #[inline]
    pub(super) fn read(bytes: &'data [u8], endian: Endian) -> Option<Self> {
        let (head, tail) = bytes.split_first_chunk::<TYPE_LEN>()?;
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *head;
        let info = endian.u32([e, f, g, h]);
        Some(Self {
            kind: Kind::from_info(info),
            name_off: endian.u32([a, b, c, d]),
            info,
            size_or_type: endian.u32([i, j, k, l]),
            endian,
            tail,
        })
    }

    /// The same type with just its record behind the head; it was read from a longer run of bytes.
    #[inline]
    pub(super) fn with_record(self, record: &'data [u8]) -> Self {
        Self { tail: record.get(TYPE_LEN..).unwrap_or_default(), ..self }
    }

    /// Number of members, enumerators, parameters or variables.
    #[inline]
    pub fn vlen(&self) -> u32 {
        self.info & 0x00ff_ffff
    }

    /// Bit 31 of `info`: bitfield-encoded offsets, signed enum, union forward declaration.
    #[inline]
    pub fn kind_flag(&self) -> bool {
        self.info >> 31 != 0
    }

    /// Size in bytes, for the kinds that have one (INT, ENUM, STRUCT, UNION, DATASEC, FLOAT, ENUM64).
    ///
    /// For other kinds it is the id of the type referred to: libbpf reads the same word, and a bitfield
    /// whose base type is no number makes it observable.
    #[inline]
    pub fn size(&self) -> u32 {
        self.size_or_type
    }

    /// The type referred to, for the kinds that refer to one.
    #[inline]
    pub fn target(&self) -> TypeId {
        TypeId(self.size_or_type)
    }

    /// Kind, vlen and kind flag as they are encoded.
    #[inline]
    pub(crate) fn info(&self) -> u32 {
        self.info
    }

    /// Word number `index` behind the head; 0 past the end.
    #[inline]
    pub(crate) fn word(&self, index: usize) -> u32 {
        self.endian.u32_at(self.tail, index * 4).unwrap_or(0)
    }

    /// An INT's encoding: bit 0 signed, bit 1 char, bit 2 bool.
    #[inline]
    pub fn int_encoding(&self) -> u8 {
        (self.word(0) >> 24 & 0x0f) as u8
    }

    /// An INT's offset in bits; non-zero marks a legacy bitfield.
    #[inline]
    pub fn int_offset(&self) -> u32 {
        self.word(0) >> 16 & 0xff
    }

    /// An INT's width in bits.
    #[inline]
    pub fn int_bits(&self) -> u32 {
        self.word(0) & 0xff
    }

    /// Whether this is an INT with the signed bit, or an ENUM with the sign flag.
    #[inline]
    pub fn is_signed(&self) -> bool {
        match self.kind {
            Kind::Int => self.int_encoding() & INT_SIGNED != 0,
            Kind::Enum | Kind::Enum64 => self.kind_flag(),
            _ => false,
        }
    }

    /// An ARRAY's element type and count.
    #[inline]
    pub fn array(&self) -> Array {
        Array { elem: TypeId(self.word(0)), nelems: self.word(2) }
    }

    /// An ARRAY's index type, which nothing but validation looks at.
    #[inline]
    pub(crate) fn array_index_type(&self) -> TypeId {
        TypeId(self.word(1))
    }

    /// Which member or parameter a DECL_TAG is about; -1 for all of its type.
    pub fn component_idx(&self) -> i32 {
        self.word(0).cast_signed()
    }

    /// A VAR's linkage, or a FUNC's (which stands in vlen).
    #[inline]
    pub fn linkage(&self) -> u32 {
        if self.kind == Kind::Func { self.vlen() } else { self.word(0) }
    }

    /// The records of `LEN` bytes behind the head, at most vlen of them.
    #[inline]
    fn records<const LEN: usize>(&self) -> std::iter::Take<std::slice::Iter<'data, [u8; LEN]>> {
        self.tail.as_chunks::<LEN>().0.iter().take(self.vlen() as usize)
    }

    /// A STRUCT's or UNION's members; empty for other kinds.
    #[inline]
    pub fn members(&self) -> impl ExactSizeIterator<Item = Member> + use<'data> {
        let (endian, bitfields) = (self.endian, self.kind_flag());
        let records = if self.kind.is_composite() { self.records::<12>() } else { [].iter().take(0) };
        records.map(move |rec| member(rec, endian, bitfields))
    }

    /// Member number `index`.
    #[inline]
    pub fn member(&self, index: u32) -> Option<Member> {
        if !self.kind.is_composite() || index >= self.vlen() {
            return None;
        }
        let rec = self.tail.as_chunks::<12>().0.get(index as usize)?;
        Some(member(rec, self.endian, self.kind_flag()))
    }

    /// An ENUM's or ENUM64's enumerators; empty for other kinds.
    #[inline]
    pub fn enumerators(&self) -> impl Iterator<Item = Enumerator> + use<'data> {
        let this = *self;
        let count = if self.kind.is_any_enum() { self.vlen() } else { 0 };
        (0..count).map_while(move |index| this.enumerator(index))
    }

    /// Enumerator number `index`.
    #[inline]
    pub fn enumerator(&self, index: u32) -> Option<Enumerator> {
        if index >= self.vlen() {
            return None;
        }
        let index = index as usize;
        match self.kind {
            Kind::Enum => {
                let [a, b, c, d, e, f, g, h] = *self.tail.as_chunks::<8>().0.get(index)?;
                let value = self.endian.u32([e, f, g, h]).cast_signed();
                // QUIRK: sign-extended even where the enum says it is unsigned.
                let value = i64::from(value).cast_unsigned();
                Some(Enumerator { name_off: self.endian.u32([a, b, c, d]), value })
            }
            Kind::Enum64 => {
                let [a, b, c, d, e, f, g, h, i, j, k, l] = *self.tail.as_chunks::<12>().0.get(index)?;
                let (low, high) = (self.endian.u32([e, f, g, h]), self.endian.u32([i, j, k, l]));
                Some(Enumerator {
                    name_off: self.endian.u32([a, b, c, d]),
                    value: u64::from(high) << 32 | u64::from(low),
                })
            }
            _ => None,
        }
    }

    /// A FUNC_PROTO's parameters; empty for other kinds.
    #[inline]
    pub fn params(&self) -> impl ExactSizeIterator<Item = Param> + use<'data> {
        let endian = self.endian;
        let records = if self.kind == Kind::FuncProto { self.records::<8>() } else { [].iter().take(0) };
        records.map(move |&[a, b, c, d, e, f, g, h]| Param {
            name_off: endian.u32([a, b, c, d]),
            type_id: TypeId(endian.u32([e, f, g, h])),
        })
    }

    /// A DATASEC's variables; empty for other kinds.
    #[inline]
    pub fn sec_vars(&self) -> impl ExactSizeIterator<Item = SecVar> + use<'data> {
        let endian = self.endian;
        let records = if self.kind == Kind::Datasec { self.records::<12>() } else { [].iter().take(0) };
        records.map(move |rec| {
            let [a, b, c, d, e, f, g, h, i, j, k, l] = *rec;
            SecVar {
                type_id: TypeId(endian.u32([a, b, c, d])),
                offset: endian.u32([e, f, g, h]),
                size: endian.u32([i, j, k, l]),
            }
        })
    }
}

/// Length of the record that `bytes` starts with, in a pack. Kinds that are not known have no tail there.
#[inline]
fn packed_len(bytes: &[u8]) -> Option<usize> {
    // A table, as which kind comes next is hard to foresee.
    const TAILS: [(u8, u8); 128] = {
        let mut tails = [(0, 0); 128];
        let mut raw = 0;
        while raw < 128 {
            #[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "in a constant")]
            if let Some((fixed, per_elem)) = Kind::from_info((raw as u32) << 24).tail_len() {
                tails[raw] = (fixed as u8, per_elem as u8);
            }
            raw += 1;
        }
        tails
    };
    let info = Endian::Little.u32_at(bytes, 4)?;
    let &(fixed, per_elem) = TAILS.get((info >> 24) as usize & 127)?;
    Some(TYPE_LEN + usize::from(fixed) + (info & 0x00ff_ffff) as usize * usize::from(per_elem))
}

#[inline]
fn member(rec: &[u8; 12], endian: Endian, bitfields: bool) -> Member {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *rec;
    let offset = endian.u32([i, j, k, l]);
    // With the kind flag, the upper 8 bits are the bitfield's width; without it all 32 are the offset.
    let (bit_offset, bitfield_size) =
        if bitfields { (offset & 0x00ff_ffff, offset >> 24) } else { (offset, 0) };
    Member {
        name_off: endian.u32([a, b, c, d]),
        type_id: TypeId(endian.u32([e, f, g, h])),
        bit_offset,
        bitfield_size,
    }
}
