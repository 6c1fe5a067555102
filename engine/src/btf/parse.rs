//! BTF bytes to a [`Btf`]: header, one walk over the types, and libbpf's sanity checks on the way.
//!
//! Order of the checks: length, magic, header length, section bounds and order, strings, then every type:
//! that its record fits, that the strings and types it refers to exist.
//!
//! Source: `btf_parse_hdr`, `btf_parse_str_sec`, `btf_parse_type_sec`, `btf_sanity_check`, libbpf.

use std::sync::Arc;

use super::types::{BLOCK_TYPES, Records};
use super::{Btf, BtfError, Type, TypeId};
use crate::format::Endian;
use crate::format::btf::{
    HEADER_LEN_LAYOUT, HEADER_LEN_MIN, Kind, LAYOUT_ENTRY_LEN, MAGIC, MAX_STR_OFFSET, TYPE_LEN,
};

pub(super) struct Sections<'data> {
    endian: Endian,
    pub(super) types: &'data [u8],
    pub(super) strs: &'data [u8],
    layout: &'data [u8],
    /// Byte offset of the type section in the blob, for messages.
    pub(super) types_at: u64,
    /// Byte offset of the string section in the blob, for messages.
    pub(super) strs_at: u64,
}

impl<'data> Btf<'data> {
    /// Views `data` as a BTF of its own: a kernel's, or an object's.
    ///
    /// `data`: the blob from its header on, any alignment, either byte order. Only a table of offsets is
    /// built; strings and types stay where they are.
    ///
    /// # Errors
    /// [`BtfError`] where libbpf's `btf__new` would refuse the blob.
    pub fn parse(data: &'data [u8]) -> Result<Self, BtfError> {
        Self::parse_on(data, None)
    }

    /// Views `data` as a split BTF (a module's) whose ids and strings continue those of `base`.
    ///
    /// # Errors
    /// As [`Btf::parse`].
    pub fn parse_split(data: &'data [u8], base: Arc<Btf<'data>>) -> Result<Self, BtfError> {
        Self::parse_on(data, Some(base))
    }

    fn parse_on(data: &'data [u8], base: Option<Arc<Btf<'data>>>) -> Result<Self, BtfError> {
        let sections = parse_header(data)?;
        check_strings(&sections, base.is_some())?;
        let (start_id, start_str_off) =
            base.as_ref().map_or((1, 0), |base| (base.type_count(), base.str_end()));
        let mut btf = Self {
            encoding: sections.endian,
            endian: sections.endian,
            types: sections.types,
            strs: sections.strs,
            layout: sections.layout,
            records: Records::Table(Vec::new()),
            start_id,
            start_str_off,
            base,
            pointer_size: None,
        };
        // The byte order is a constant inside the walk, which is where the time of a parse goes.
        match sections.endian {
            Endian::Little => btf.walk(Endian::Little, sections.types_at)?,
            Endian::Big => btf.walk(Endian::Big, sections.types_at)?,
        }
        btf.pointer_size = btf.guess_pointer_size();
        Ok(btf)
    }

    /// Views the types that one segment of a pack adds, without walking them: nothing but the header and the
    /// number of blocks is checked, and a record that does not fit is a type that is not there.
    ///
    /// `data`: little-endian BTF, with records as the pack's builder writes them. `blocks`: little-endian `u32`, the
    /// number of types, and the offset of every eighth. `target`, `pointer_size`: of the kernels. `base`: the types
    /// of earlier segments.
    ///
    /// # Errors
    /// [`BtfError`] if the header is broken or the number of blocks is not that of the types.
    pub(crate) fn of_pack(
        data: &'data [u8],
        blocks: &'data [u8],
        base: Option<Arc<Btf<'data>>>,
        target: Endian,
        pointer_size: u32,
    ) -> Result<Self, BtfError> {
        let sections = parse_header(data)?;
        check_strings(&sections, base.is_some())?;
        let bad = |what| BtfError::BadType { offset: sections.types_at, id: 0, what };
        let (count, starts) = blocks.split_first_chunk::<4>().ok_or_else(|| bad("block index is empty"))?;
        let count = u32::from_le_bytes(*count);
        let (starts, rest) = starts.as_chunks::<4>();
        if sections.endian != Endian::Little || !rest.is_empty() {
            return Err(bad("block index is broken"));
        }
        if starts.len() != (count as usize).div_ceil(BLOCK_TYPES)
            || count as usize > sections.types.len() / TYPE_LEN
        {
            return Err(bad("block index is of other types"));
        }
        let (start_id, start_str_off) =
            base.as_ref().map_or((1, 0), |base| (base.type_count(), base.str_end()));
        Ok(Self {
            encoding: Endian::Little,
            endian: target,
            types: sections.types,
            strs: sections.strs,
            layout: &[],
            records: Records::Blocks { starts, count },
            start_id,
            start_str_off,
            base,
            pointer_size: Some(pointer_size),
        })
    }

    /// Finds where each type starts and checks what it refers to.
    #[inline(always)]
    fn walk(&mut self, endian: Endian, types_at: u64) -> Result<(), BtfError> {
        // 25 bytes for each type is what kernels have; a wrong guess costs a reallocation.
        let mut offsets = Vec::with_capacity(self.types.len() / 24 + 2);
        let mut refs = Refs::default();
        let mut at = 0_usize;
        while let Some(rest) = self.types.get(at..)
            && rest.len() >= TYPE_LEN
        {
            let id = self.id_of_slot(offsets.len());
            let bad = |what| BtfError::BadType { offset: types_at + at as u64, id, what };
            let ty = Type::read(rest, endian).ok_or_else(|| bad("record does not fit"))?;
            let len = match ty.kind.tail_len() {
                Some((fixed, per_elem)) => TYPE_LEN + fixed + ty.vlen() as usize * per_elem,
                None => self.unknown_len(ty).ok_or_else(|| BtfError::UnknownKind {
                    offset: types_at + at as u64,
                    id,
                    kind: if let Kind::Unknown(kind) = ty.kind { kind } else { 0 },
                })?,
            };
            let record = rest.get(..len).ok_or_else(|| bad("record reaches past the end of the types"))?;
            // Fits: the type section is shorter than 4 GiB, as its length is a u32.
            offsets.push(u32::try_from(at).map_err(|_| bad("offset over 4 GiB"))?);
            let ty = ty.with_record(record);
            refs.note(ty);
            // Most prototypes stand before their functions, and are looked at while they are in the cache.
            if ty.kind == Kind::Func && !self.is_proto(ty.target(), endian, &offsets) {
                refs.open_funcs.push((id, ty.target()));
            }
            at += len;
        }
        if at != self.types.len() {
            return Err(BtfError::BadType {
                offset: types_at + at as u64,
                id: self.id_of_slot(offsets.len()),
                what: "bytes are left over behind the last type",
            });
        }
        offsets.push(u32::try_from(at).unwrap_or(u32::MAX));
        self.records = Records::Table(offsets);
        self.check_refs(&refs, types_at)
    }

    /// Whether type `id`, among the own types that start at `offsets`, is a FUNC_PROTO.
    #[inline(always)]
    fn is_proto(&self, id: TypeId, endian: Endian, offsets: &[u32]) -> bool {
        let slot = id.0.wrapping_sub(self.start_id) as usize;
        let info = offsets.get(slot).and_then(|&at| endian.u32_at(self.types, at as usize + 4));
        info.is_some_and(|info| Kind::from_info(info) == Kind::FuncProto)
    }

    fn id_of_slot(&self, slot: usize) -> u32 {
        self.start_id.saturating_add(u32::try_from(slot).unwrap_or(u32::MAX))
    }

    /// Length of a record of a kind that only the layout section knows. A split BTF without one uses its base's.
    ///
    /// Differs from libbpf: such records are skipped in either byte order. libbpf has to swap the bytes of
    /// BTF that is not of its host's byte order, and refuses what it cannot swap; on the host that the BTF
    /// is for it accepts it.
    fn unknown_len(&self, ty: Type<'_>) -> Option<usize> {
        let layout = match (self.layout, &self.base) {
            ([], Some(base)) => base.layout,
            (own, _) => own,
        };
        let raw = match ty.kind {
            Kind::Unknown(raw) => usize::from(raw),
            _ => 0,
        };
        let &[info_size, elem_size, _, _] = layout.as_chunks::<LAYOUT_ENTRY_LEN>().0.get(raw)?;
        if info_size % 4 != 0 || elem_size % 4 != 0 {
            return None;
        }
        Some(TYPE_LEN + usize::from(info_size) + ty.vlen() as usize * usize::from(elem_size))
    }

    /// The largest references were noted on the way; only if one is too large is the culprit looked for.
    fn check_refs(&self, refs: &Refs, types_at: u64) -> Result<(), BtfError> {
        let (count, str_end) = (self.type_count(), self.str_end());
        if refs.max_type >= count || refs.max_name >= str_end.max(1) {
            for (id, ty) in self.own_types() {
                let mut own = Refs::default();
                own.note(ty);
                let offset = types_at + u64::from(self.offset_of(id));
                if own.max_name >= str_end.max(1) {
                    return Err(BtfError::BadNameRef {
                        offset,
                        id: id.0,
                        name_off: own.max_name,
                        end: str_end,
                    });
                }
                if own.max_type >= count {
                    return Err(BtfError::BadTypeRef { offset, id: id.0, target: own.max_type, count });
                }
            }
        }
        for &(id, proto) in &refs.open_funcs {
            if self.ty(proto).is_none_or(|ty| ty.kind != Kind::FuncProto) {
                return Err(BtfError::FuncWithoutProto {
                    offset: types_at + u64::from(self.offset_of(TypeId(id))),
                    id,
                    target: proto.0,
                });
            }
        }
        Ok(())
    }

    fn offset_of(&self, id: TypeId) -> u32 {
        let Records::Table(offsets) = &self.records else { return 0 };
        offsets.get(id.0.wrapping_sub(self.start_id) as usize).copied().unwrap_or(0)
    }
}

/// What the types seen so far refer to.
#[derive(Default)]
struct Refs {
    max_type: u32,
    max_name: u32,
    /// FUNCs whose FUNC_PROTO is still to come, or stands in the base: id, and what they refer to.
    open_funcs: Vec<(u32, TypeId)>,
}

impl Refs {
    #[inline(always)]
    fn note(&mut self, ty: Type<'_>) {
        let (mut max_type, mut max_name) = (self.max_type, self.max_name.max(ty.name_off));
        match ty.kind {
            Kind::Ptr
            | Kind::Typedef
            | Kind::Volatile
            | Kind::Const
            | Kind::Restrict
            | Kind::Var
            | Kind::DeclTag
            | Kind::TypeTag
            | Kind::Func => max_type = max_type.max(ty.target().0),
            Kind::Array => max_type = max_type.max(ty.array().elem.0).max(ty.array_index_type().0),
            Kind::Struct | Kind::Union => {
                for member in ty.members() {
                    max_type = max_type.max(member.type_id.0);
                    max_name = max_name.max(member.name_off);
                }
            }
            Kind::Enum | Kind::Enum64 => {
                for enumerator in ty.enumerators() {
                    max_name = max_name.max(enumerator.name_off);
                }
            }
            // QUIRK: libbpf does not look at the return type; one that is out of range shows up when a
            // relocation needs it.
            Kind::FuncProto => {
                for param in ty.params() {
                    max_type = max_type.max(param.type_id.0);
                    max_name = max_name.max(param.name_off);
                }
            }
            Kind::Datasec => {
                for var in ty.sec_vars() {
                    max_type = max_type.max(var.type_id.0);
                }
            }
            Kind::Void | Kind::Int | Kind::Fwd | Kind::Float | Kind::Unknown(_) => {}
        }
        (self.max_type, self.max_name) = (max_type, max_name);
    }
}

pub(super) fn parse_header(data: &[u8]) -> Result<Sections<'_>, BtfError> {
    let truncated = |need: usize| BtfError::HeaderTruncated { need: need as u64, have: data.len() as u64 };
    let magic = Endian::Little.u16_at(data, 0).ok_or_else(|| truncated(HEADER_LEN_MIN))?;
    let endian = match magic {
        MAGIC => Endian::Little,
        _ if magic.swap_bytes() == MAGIC => Endian::Big,
        found => return Err(BtfError::BadMagic { found }),
    };
    if data.len() < HEADER_LEN_MIN {
        return Err(truncated(HEADER_LEN_MIN));
    }
    let hdr_len = endian.u32_at(data, 4).ok_or_else(|| truncated(HEADER_LEN_MIN))? as usize;
    let bad = |offset, what, value: usize| BtfError::BadHeader { offset, what, value: value as u64 };
    // QUIRK: in its own byte order libbpf does not insist on 24 bytes; fields beyond `hdr_len` are 0.
    // Little endian counts as its own here: that is the machine whose answers are modelled.
    if endian == Endian::Big && hdr_len < HEADER_LEN_MIN {
        return Err(bad(4, "hdr_len is below 24", hdr_len));
    }
    let body = data.get(hdr_len..).ok_or_else(|| bad(4, "hdr_len is larger than the file", hdr_len))?;
    let field = |off: usize| {
        let known = off + 4 <= hdr_len.min(HEADER_LEN_LAYOUT);
        if known { endian.u32_at(data, off).unwrap_or(0) as usize } else { 0 }
    };
    let (type_off, type_len) = (field(8), field(12));
    let (str_off, str_len) = (field(16), field(20));
    let (layout_off, layout_len) = (field(24), field(28));
    // Sums of two u32 fit into usize, which has 64 bits wherever this runs.
    if str_off + str_len > body.len() {
        return Err(bad(16, "strings reach past the end of the file", str_off + str_len));
    }
    if type_off + type_len > str_off {
        return Err(bad(8, "types overlap the strings", type_off + type_len));
    }
    if type_off % 4 != 0 {
        return Err(bad(8, "type_off is not a multiple of 4", type_off));
    }
    if layout_len != 0 {
        if layout_off % 4 != 0 {
            return Err(bad(24, "layout_off is not a multiple of 4", layout_off));
        }
        if layout_off < type_off + type_len {
            return Err(bad(24, "layout overlaps the types", layout_off));
        }
        if layout_off + layout_len > str_off {
            return Err(bad(24, "layout overlaps the strings", layout_off + layout_len));
        }
        if layout_len % LAYOUT_ENTRY_LEN != 0 {
            return Err(bad(28, "layout_len is not a multiple of 4", layout_len));
        }
    }
    let section = |off: usize, len: usize| body.get(off..off + len).unwrap_or_default();
    Ok(Sections {
        endian,
        types: section(type_off, type_len),
        strs: section(str_off, str_len),
        layout: section(layout_off, layout_len),
        types_at: (hdr_len + type_off) as u64,
        strs_at: (hdr_len + str_off) as u64,
    })
}

fn check_strings(sections: &Sections<'_>, has_base: bool) -> Result<(), BtfError> {
    let strs = sections.strs;
    let bad = |what| BtfError::BadStrings { offset: sections.strs_at, what };
    let (Some(first), Some(last)) = (strs.first(), strs.last()) else {
        return if has_base { Ok(()) } else { Err(bad("it is empty")) };
    };
    if strs.len() as u64 > u64::from(MAX_STR_OFFSET) + 1 {
        return Err(bad("it is larger than 2 GiB"));
    }
    if *last != 0 {
        return Err(bad("the last byte is not NUL"));
    }
    if !has_base && *first != 0 {
        return Err(bad("the first byte is not NUL; a module's BTF needs its kernel's as a base"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(endian: Endian, type_len: u32, str_len: u32) -> Vec<u8> {
        let mut out = match endian {
            Endian::Little => MAGIC.to_le_bytes().to_vec(),
            Endian::Big => MAGIC.to_be_bytes().to_vec(),
        };
        out.extend([1, 0]);
        for word in [24, 0, type_len, type_len, str_len] {
            out.extend(endian.u32_bytes(word));
        }
        out
    }

    /// Check that each way in which a header can lie has its own message with the offset of the lie.
    #[test]
    fn broken_headers_are_refused_with_the_reason() {
        let err = |data: &[u8]| Btf::parse(data).unwrap_err().to_string();
        assert_eq!(err(&[]), "truncated BTF header: need 24 bytes, have 0");
        assert_eq!(err(b"\x7fELF"), "not BTF: magic is 0x457f, expected 0xeb9f in either byte order");
        let mut data = header(Endian::Little, 0, 1);
        assert_eq!(err(&data), "bad BTF header: strings reach past the end of the file (value 1)");
        data.push(b'x');
        assert_eq!(err(&data), "bad BTF string section: the last byte is not NUL");
        *data.last_mut().unwrap() = 0;
        assert_eq!(Btf::parse(&data).unwrap().type_count(), 1);
        *data.get_mut(4).unwrap() = 200;
        assert_eq!(Btf::parse(&data).unwrap_err().offset(), 4);
    }

    /// Check that both byte orders give the same types.
    #[test]
    fn either_byte_order_is_read() {
        for endian in [Endian::Little, Endian::Big] {
            let mut data = header(endian, 16, 5);
            // INT "int", 4 bytes, signed, 32 bits.
            for word in [1, 1 << 24, 4, 1 << 24 | 32] {
                data.extend(endian.u32_bytes(word));
            }
            data.extend(b"\0int\0");
            let btf = Btf::parse(&data).unwrap();
            let int = btf.ty(TypeId(1)).unwrap();
            assert_eq!((int.kind, int.size(), int.is_signed()), (Kind::Int, 4, true));
            assert_eq!(btf.name(int.name_off), b"int");
        }
    }

    /// Check that a type that refers past the last type is named.
    #[test]
    fn references_to_types_that_do_not_exist_are_refused() {
        let mut data = header(Endian::Little, 12, 1);
        for word in [0_u32, 2 << 24, 9] {
            data.extend(word.to_le_bytes());
        }
        data.push(0);
        assert_eq!(
            Btf::parse(&data).unwrap_err(),
            BtfError::BadTypeRef { offset: 24, id: 1, target: 9, count: 2 }
        );
    }
}
