//! `.BTF.ext`: line information and CO-RE records, checked as a whole before any is used.
//!
//! Source: `btf_ext_parse`, `btf_ext_parse_sec_info`, libbpf; spec section 2.

use super::{ExtError, SourceLine};
use crate::btf::Btf;
use crate::format::Endian;
use crate::format::btf::MAGIC;
use crate::format::btf_ext::{CORE_RELO_LEN, FUNC_INFO_LEN, HEADER_LEN_CORE, HEADER_LEN_MIN, LINE_INFO_LEN};

/// A checked `.BTF.ext` section.
#[derive(Debug)]
pub(super) struct BtfExt<'data> {
    endian: Endian,
    func_info: Vec<Block<'data>>,
    line_info: Vec<Block<'data>>,
    core_relo: Vec<Block<'data>>,
    core_part: Option<CorePart<'data>>,
}

/// The CO-RE sub-section as it stands in the file: record size, then blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CorePart<'data> {
    pub(crate) endian: Endian,
    /// Where it starts, in **bytes** within `.BTF.ext`.
    pub(crate) at: usize,
    /// All of it.
    pub(crate) data: &'data [u8],
    /// Whether function or line information has bytes in common with it.
    pub(crate) shares_bytes: bool,
}

/// The records of one ELF section in one sub-section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<'data> {
    endian: Endian,
    /// Name of the ELF section, in the strings of `.BTF`.
    pub(super) section_name_off: u32,
    record_size: usize,
    records: &'data [u8],
}

/// One CO-RE record as it stands in the file.
pub(super) struct RawReloc {
    pub(super) insn_off: u32,
    pub(super) type_id: u32,
    pub(super) access_str_off: u32,
    pub(super) kind: u32,
}

/// Function or line information of one ELF section.
#[derive(Debug)]
pub(super) struct InfoBlock<'data> {
    pub(super) section: &'data [u8],
    block: Block<'data>,
}

impl<'data> BtfExt<'data> {
    pub(super) fn parse(data: &'data [u8]) -> Result<Self, ExtError> {
        let bad =
            |offset: usize, what, value: usize| ExtError { offset: offset as u64, what, value: value as u64 };
        if data.len() < 8 {
            return Err(bad(0, "shorter than the start of its header", data.len()));
        }
        let magic = Endian::Little.u16_at(data, 0).unwrap_or(0);
        let endian = match magic {
            MAGIC => Endian::Little,
            _ if magic.swap_bytes() == MAGIC => Endian::Big,
            _ => return Err(bad(0, "wrong magic", magic.into())),
        };
        if let Some(&version) = data.get(2).filter(|&&version| version != 1) {
            return Err(bad(2, "unknown version", version.into()));
        }
        if let Some(&flags) = data.get(3).filter(|&&flags| flags != 0) {
            return Err(bad(3, "unknown flags", flags.into()));
        }
        let field = |at: usize| endian.u32_at(data, at).unwrap_or(0) as usize;
        let hdr_len = field(4);
        let body = match data.get(hdr_len..) {
            None => return Err(bad(4, "hdr_len is larger than the section", hdr_len)),
            Some([]) => return Err(bad(4, "no data behind the header", hdr_len)),
            Some(body) => body,
        };
        if hdr_len < HEADER_LEN_MIN {
            return Err(bad(4, "hdr_len is below 24", hdr_len));
        }
        let sub = |at: usize, min_record: usize| {
            blocks(body, hdr_len, endian, field(at), field(at + 4), min_record)
        };
        let func_info = sub(8, FUNC_INFO_LEN)?;
        let line_info = sub(16, LINE_INFO_LEN)?;
        let core_relo = if hdr_len >= HEADER_LEN_CORE { sub(24, CORE_RELO_LEN)? } else { Vec::new() };
        let range = |at: usize| field(at)..field(at) + field(at + 4);
        let core = range(24);
        let core_part = body.get(core.clone()).filter(|_| !core_relo.is_empty()).map(|data| CorePart {
            endian,
            at: hdr_len + core.start,
            data,
            shares_bytes: [range(8), range(16)]
                .iter()
                .any(|it| !it.is_empty() && it.start < core.end && core.start < it.end),
        });
        Ok(Self { endian, func_info, line_info, core_relo, core_part })
    }

    pub(super) fn core_part(&self) -> Option<CorePart<'data>> {
        self.core_part
    }

    pub(super) fn core_relo_blocks(&self) -> &[Block<'data>] {
        debug_assert!(self.core_relo.iter().all(|it| it.endian == self.endian));
        &self.core_relo
    }

    pub(super) fn line_blocks(&self, btf: &Btf<'data>) -> Vec<InfoBlock<'data>> {
        self.line_info.iter().map(|it| InfoBlock::new(btf, it)).collect()
    }

    pub(super) fn func_blocks(&self, btf: &Btf<'data>) -> Vec<InfoBlock<'data>> {
        self.func_info.iter().map(|it| InfoBlock::new(btf, it)).collect()
    }
}

impl CorePart<'_> {
    /// The sub-section with those records alone for which `kept` holds, by their number in file order; blocks
    /// without any are dropped. Empty if no record is left.
    pub(crate) fn keeping(&self, mut kept: impl FnMut(usize) -> bool) -> Vec<u8> {
        let mut out = Vec::new();
        let mut number = 0;
        // It was read the same way before.
        let blocks = blocks(self.data, 0, self.endian, 0, self.data.len(), CORE_RELO_LEN);
        for block in blocks.unwrap_or_default() {
            let mut survivors = Vec::new();
            let mut count = 0;
            for record in block.records.chunks_exact(block.record_size) {
                if kept(number) {
                    survivors.extend_from_slice(record);
                    count += 1;
                }
                number += 1;
            }
            if count > 0 {
                out.extend(self.endian.u32_bytes(block.section_name_off));
                out.extend(self.endian.u32_bytes(count));
                out.append(&mut survivors);
            }
        }
        if !out.is_empty() {
            out.splice(..0, self.data.iter().take(4).copied());
        }
        out
    }
}

/// Splits one sub-section into its blocks.
fn blocks<'data>(
    body: &'data [u8],
    body_at: usize,
    endian: Endian,
    off: usize,
    len: usize,
    min_record: usize,
) -> Result<Vec<Block<'data>>, ExtError> {
    if len == 0 {
        return Ok(Vec::new());
    }
    let bad =
        |at: usize, what, value: usize| ExtError { offset: (body_at + at) as u64, what, value: value as u64 };
    if !off.is_multiple_of(4) {
        return Err(bad(off, "a sub-section is not aligned to 4 bytes", off));
    }
    let data =
        body.get(off..off + len).ok_or_else(|| bad(off, "a sub-section reaches past the end", off + len))?;
    let record_size =
        endian.u32_at(data, 0).ok_or_else(|| bad(off, "a sub-section has no record size", len))? as usize;
    // libbpf wants foreign-endian records to be exactly as long as those it knows how to swap.
    let exact = endian == Endian::Big;
    if record_size < min_record || !record_size.is_multiple_of(4) || exact && record_size != min_record {
        return Err(bad(off, "unusable record size", record_size));
    }
    let mut blocks = Vec::new();
    let mut at = 4;
    if data.len() == at {
        return Err(bad(off + at, "a sub-section has no records", len));
    }
    while at < data.len() {
        let (Some(section_name_off), Some(count)) = (endian.u32_at(data, at), endian.u32_at(data, at + 4))
        else {
            return Err(bad(off + at, "a block header is cut off", data.len() - at));
        };
        let count = count as usize;
        if count == 0 {
            return Err(bad(off + at + 4, "a block has no records", 0));
        }
        let start = at + 8;
        // A u32 times a u32 fits into usize, which has 64 bits wherever this runs.
        let records = start
            .checked_add(count * record_size)
            .and_then(|end| data.get(start..end))
            .ok_or_else(|| bad(off + at + 4, "a block reaches past its sub-section", count))?;
        blocks.push(Block { endian, section_name_off, record_size, records });
        at = start + records.len();
    }
    Ok(blocks)
}

impl<'data> Block<'data> {
    fn words<const N: usize>(&self) -> impl Iterator<Item = [u32; N]> + use<'data, N> {
        let endian = self.endian;
        self.records
            .chunks_exact(self.record_size)
            .map(move |record| std::array::from_fn(|word| endian.u32_at(record, word * 4).unwrap_or(0)))
    }

    /// How many records it has.
    pub(super) fn len(&self) -> usize {
        self.records.len() / self.record_size
    }

    /// The block's CO-RE records, in order.
    pub(super) fn core_relos(&self) -> impl Iterator<Item = RawReloc> + use<'data> {
        self.words().map(|[insn_off, type_id, access_str_off, kind]| RawReloc {
            insn_off,
            type_id,
            access_str_off,
            kind,
        })
    }
}

impl<'data> InfoBlock<'data> {
    fn new(btf: &Btf<'data>, block: &Block<'data>) -> Self {
        Self { section: btf.name(block.section_name_off), block: *block }
    }

    /// The first words of the records of the instructions from byte `start` to byte `end` of the section.
    pub(super) fn within<const N: usize>(&self, start: u64, end: u64) -> Vec<[u32; N]> {
        let off = |it: &[u32; N]| u64::from(it.first().copied().unwrap_or(0));
        let words = self.block.words().skip_while(|it| off(it) < start);
        // As libbpf: whatever comes after one that is behind the end is not looked at.
        words.take_while(|it| off(it) < end).filter(|it| off(it) >= start).collect()
    }

    /// The last record at or before `insn_off` that is not before the program's start. Records are sorted
    /// by offset in every file that a kernel accepts; in others the answer is some line of the program.
    pub(super) fn line_at(
        &self,
        btf: &Btf<'data>,
        program_start: u64,
        insn_off: u32,
    ) -> Option<SourceLine<'data>> {
        let block = &self.block;
        let word = |record: usize, word: usize| {
            block.endian.u32_at(block.records, record * block.record_size + word * 4).unwrap_or(0)
        };
        let (mut low, mut high) = (0, block.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if word(middle, 0) <= insn_off { low = middle + 1 } else { high = middle }
        }
        let record = low.checked_sub(1)?;
        if u64::from(word(record, 0)) < program_start {
            return None;
        }
        let line_col = word(record, 3);
        Some(SourceLine {
            file: btf.name(word(record, 1)),
            text: btf.name(word(record, 2)),
            line: line_col >> 10,
            column: line_col & 0x3ff,
        })
    }
}
