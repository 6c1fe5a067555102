//! The blob of a light skeleton: programs, BTF, and what `bpf()` takes of them.

use memchr::memmem;

use super::walk::{NamePlace, Script};
use crate::format::Endian;
use crate::format::btf::MAGIC;
use crate::format::insn::INSN_LEN;
use crate::object::ProgType;

/// Where fields of `union bpf_attr` are, in **bytes**.
pub(super) mod attr {
    pub(super) const PROG_TYPE: usize = 0;
    pub(super) const INSN_CNT: usize = 4;
    pub(super) const INSNS: u32 = 8;
    pub(super) const LICENSE: u32 = 16;
    pub(super) const PROG_FLAGS: usize = 44;
    pub(super) const PROG_NAME: usize = 48;
    pub(super) const NAME_LEN: usize = 16;
    pub(super) const EXPECTED_ATTACH_TYPE: usize = 68;
    pub(super) const FUNC_INFO_REC_SIZE: usize = 76;
    pub(super) const FUNC_INFO: u32 = 80;
    pub(super) const FUNC_INFO_CNT: usize = 88;
    pub(super) const LINE_INFO_REC_SIZE: usize = 92;
    pub(super) const LINE_INFO: u32 = 96;
    pub(super) const LINE_INFO_CNT: usize = 104;
    pub(in crate::skeleton) const ATTACH_BTF_ID: i16 = 108;
    pub(super) const CORE_RELO_CNT: usize = 116;
    pub(super) const CORE_RELOS: u32 = 128;
    pub(super) const CORE_RELO_REC_SIZE: usize = 136;
    pub(super) const BTF: u32 = 0;
    pub(super) const BTF_SIZE: usize = 16;
}

/// Enumerators of the kernel's types of programs; there are 33 in 2026.
const PROG_TYPES: u32 = 64;
/// Most instructions that the kernel takes in a program.
const INSNS_MAX: u32 = 1_000_000;

/// One program of a light skeleton, linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program<'d> {
    /// As `bpf()` takes it: at most 15 bytes.
    pub(super) name: &'d [u8],
    pub(super) ty: ProgType,
    /// What is looked up in the kernel's BTF, prefix included.
    pub(super) target: Option<&'d [u8]>,
    pub(super) license: &'d [u8],
    pub(super) insns: &'d [[u8; INSN_LEN]],
    /// Instruction, FUNC.
    pub(super) func_info: Vec<[u32; 2]>,
    /// Instruction, file name, line, line and column.
    pub(super) line_info: Vec<[u32; 4]>,
    /// Offset in **bytes**, type, access string, kind.
    pub(super) core_relos: Vec<[u32; 4]>,
}

impl Program<'_> {
    /// What it takes in the blob, in **bytes**.
    fn len(&self) -> usize {
        let records = self.func_info.len() * 8 + (self.line_info.len() + self.core_relos.len()) * 16;
        self.insns.len() * INSN_LEN + records
    }
}

/// A blob that has been found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob<'d> {
    pub(super) btf: &'d [u8],
    pub(super) programs: Vec<Program<'d>>,
}

/// Places in `data` that look like the start of BTF.
pub(super) fn btf_starts(data: &[u8], endian: Endian) -> Vec<usize> {
    let [a, b] = match endian {
        Endian::Little => MAGIC.to_le_bytes(),
        Endian::Big => MAGIC.to_be_bytes(),
    };
    // Magic number and version.
    memmem::find_iter(data, &[a, b, 1]).collect()
}

impl<'d> Blob<'d> {
    /// Finds the blob that fits a loader: the one in which its BTF starts where the loader says, and everything else is
    /// sound. The two need not stand side by side.
    pub(super) fn find(
        data: &'d [u8],
        btf_starts: &[usize],
        script: &Script,
        endian: Endian,
    ) -> Option<Self> {
        let attr = script.btf?;
        let btf_at = *script.pointers.get(&attr.checked_add(attr::BTF)?)?;
        btf_starts.iter().find_map(|&start| {
            let data = data.get(start.checked_sub(btf_at as usize)?..)?;
            let reader = Reader { data, script, endian };
            let size = reader.word(attr, attr::BTF_SIZE)?;
            let btf = data.get(btf_at as usize..)?.get(..size as usize)?;
            let programs: Option<Vec<_>> =
                script.programs.iter().map(|(attr, target)| reader.program(*attr, *target)).collect();
            let programs = programs?;
            // Each has bytes of its own; many that share theirs would be written down as many times.
            let len: usize = programs.iter().map(Program::len).sum();
            (len <= data.len()).then_some(Self { btf, programs })
        })
    }
}

struct Reader<'d, 's> {
    /// From the start of the blob on.
    data: &'d [u8],
    script: &'s Script,
    endian: Endian,
}

impl<'d> Reader<'d, '_> {
    fn word(&self, attr: u32, field: usize) -> Option<u32> {
        self.endian.u32_at(self.data, (attr as usize).checked_add(field)?)
    }

    /// What the loader makes a field of the attributes point to.
    fn pointee(&self, attr: u32, field: u32) -> Option<&'d [u8]> {
        let place = *self.script.pointers.get(&attr.checked_add(field)?)?;
        self.data.get(place as usize..)
    }

    fn records<const N: usize>(&self, attr: u32, field: u32, count: u32, size: u32) -> Option<Vec<[u32; N]>> {
        if count == 0 {
            return Some(Vec::new());
        }
        if size as usize != N * 4 {
            return None;
        }
        let bytes = self.pointee(attr, field)?.get(..(count as usize).checked_mul(N * 4)?)?;
        let word = |at: usize| self.endian.u32_at(bytes, at).unwrap_or(0);
        Some(
            (0..count as usize)
                .map(|row| std::array::from_fn(|column| word((row * N + column) * 4)))
                .collect(),
        )
    }

    fn text(bytes: &'d [u8], len_max: usize) -> Option<&'d [u8]> {
        let bytes = bytes.get(..len_max).unwrap_or(bytes);
        let text = bytes.get(..memchr::memchr(0, bytes)?)?;
        text.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ').then_some(text)
    }

    fn program(&self, attr: u32, target: Option<NamePlace>) -> Option<Program<'d>> {
        let word = |field: usize| self.word(attr, field);
        let insn_cnt = word(attr::INSN_CNT)?;
        let prog_type = word(attr::PROG_TYPE)?;
        if insn_cnt == 0 || insn_cnt > INSNS_MAX || prog_type == 0 || prog_type >= PROG_TYPES {
            return None;
        }
        let insns = self.pointee(attr, attr::INSNS)?.as_chunks::<INSN_LEN>().0.get(..insn_cnt as usize)?;
        let name_at = (attr as usize).checked_add(attr::PROG_NAME)?;
        let name = Self::text(self.data.get(name_at..)?.get(..attr::NAME_LEN)?, attr::NAME_LEN)?;
        let target = match target {
            Some((at, len)) => Some(Self::text(self.data.get(at as usize..)?, len as usize)?),
            None => None,
        };
        Some(Program {
            name,
            ty: ProgType {
                prog_type,
                attach_type: word(attr::EXPECTED_ATTACH_TYPE)?,
                flags: word(attr::PROG_FLAGS)?,
            },
            target,
            license: Self::text(self.pointee(attr, attr::LICENSE)?, 128)?,
            insns,
            func_info: self.records(
                attr,
                attr::FUNC_INFO,
                word(attr::FUNC_INFO_CNT)?,
                word(attr::FUNC_INFO_REC_SIZE)?,
            )?,
            line_info: self.records(
                attr,
                attr::LINE_INFO,
                word(attr::LINE_INFO_CNT)?,
                word(attr::LINE_INFO_REC_SIZE)?,
            )?,
            core_relos: self.records(
                attr,
                attr::CORE_RELOS,
                word(attr::CORE_RELO_CNT)?,
                word(attr::CORE_RELO_REC_SIZE)?,
            )?,
        })
    }
}
