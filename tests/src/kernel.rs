//! The running kernel as the judge of what it relocates itself.
//!
//! A [`Job`] is a program's BTF and several versions of its code, with CO-RE records or without. All of them go to
//! `BPF_PROG_LOAD`, and the instructions are read back as the verifier left them (`xlated_prog_insns`).

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use btfleet_live::bpf::{self, ARRAY, MapSpec, Program, raw};

/// What to load. Records are as the kernel takes them: little-endian words, instruction numbers in place of bytes in
/// function and line information.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// `enum bpf_prog_type`.
    pub prog_type: u32,
    /// `enum bpf_attach_type`.
    pub attach_type: u32,
    /// Type of the running kernel that the program attaches to; 0 for none.
    pub attach_btf_id: u32,
    /// The program's BTF.
    pub btf: Vec<u8>,
    /// Function records: instruction number, FUNC.
    pub func_info: Vec<u32>,
    /// Line records: instruction number, file name, line, line and column.
    pub line_info: Vec<u32>,
    /// Numbers of `ldimm64` instructions that are to point into a map of one page.
    pub map_insns: Vec<u32>,
    /// The versions.
    pub loads: Vec<Load>,
}

/// One version of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Instructions, 8 bytes each.
    pub insns: Vec<u8>,
    /// CO-RE records: offset in bytes, type, access string, kind.
    pub core_relos: Vec<u32>,
}

/// What the kernel made of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// 0, or the errno of `BPF_PROG_LOAD`, positive.
    pub errno: u32,
    /// The verifier's log; it says what became of each record if the program was refused, and little else if not.
    pub log: String,
    /// The instructions as the verifier left them.
    pub insns: Vec<u8>,
}

impl Job {
    /// Lets the kernel judge all versions.
    ///
    /// # Errors
    /// If the kernel refuses the BTF, or a map to point into.
    pub fn judge(&self) -> Result<Vec<Loaded>, String> {
        let btf = bpf::load_btf(&self.btf).map_err(|(errno, log)| {
            let last = log.lines().last().unwrap_or_default().to_owned();
            format!("BPF_BTF_LOAD: {errno}: {last}")
        })?;
        let spec =
            MapSpec { map_type: ARRAY, key_size: 4, value_size: 4096, max_entries: 1, ..MapSpec::default() };
        let map = match self.map_insns.is_empty() {
            true => None,
            false => Some(bpf::create_map(&spec).map_err(|errno| format!("BPF_MAP_CREATE: {errno}"))?),
        };
        Ok(self.loads.iter().map(|version| self.load(&btf, map.as_ref(), version)).collect())
    }

    fn load(&self, btf: &OwnedFd, map: Option<&OwnedFd>, version: &Load) -> Loaded {
        let mut insns = version.insns.clone();
        if let Some(map) = map {
            point_into_map(&mut insns, &self.map_insns, map);
        }
        let program = Program {
            prog_type: self.prog_type,
            attach_type: self.attach_type,
            attach_btf_id: self.attach_btf_id,
            insns: &insns,
            license: b"GPL",
            btf: Some(btf),
            func_info: self.func_info.as_chunks().0,
            line_info: self.line_info.as_chunks().0,
            core_relos: version.core_relos.as_chunks().0,
            ..Program::default()
        };
        let loaded = bpf::load(&program);
        let log = if loaded.errno.is_some() { bpf::log(&program) } else { String::new() };
        Loaded { errno: loaded.errno.map_or(0, |it| it.0), log, insns: loaded.insns }
    }
}

/// Makes `ldimm64` instructions point into the map; what they held is the offset in it.
fn point_into_map(insns: &mut [u8], numbers: &[u32], map: &OwnedFd) {
    const PSEUDO_MAP_VALUE: u8 = 2;
    for &number in numbers {
        let Some(pair) = insns.get_mut(number as usize * 8..).and_then(|it| it.first_chunk_mut::<16>())
        else {
            continue;
        };
        let [_, regs, _, _, low @ .., _, _, _, _, h0, h1, h2, h3] = pair;
        let [l0, l1, l2, l3] = low;
        *regs |= PSEUDO_MAP_VALUE << 4;
        [*h0, *h1, *h2, *h3] = [*l0, *l1, *l2, *l3];
        [*l0, *l1, *l2, *l3] = raw(map).to_le_bytes();
    }
}

impl Loaded {
    /// Numbers of the records whose instructions the kernel replaced with an invalid call.
    pub fn poisoned(&self) -> BTreeSet<usize> {
        let lines = self.log.lines().filter(|line| line.contains(": substituting insn #"));
        lines.filter_map(|line| line.split_once("relo #")?.1.split_once(':')?.0.parse().ok()).collect()
    }

    /// Whether the verifier came to one of these.
    pub fn reached_poison(&self) -> bool {
        self.log.contains("invalid func unknown#195896080")
    }
}
