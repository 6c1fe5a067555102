//! The running kernel as the judge of what it relocates itself, in a child process (`src/bin/kernel_judge.rs`).
//!
//! A [`Job`] is a program's BTF and several versions of its code, with CO-RE records or without. The child gives all of
//! them to `BPF_PROG_LOAD` and reads back the instructions as the verifier left them (`xlated_prog_insns`).
//!
//! Job and answers are strings of bytes, each with its length as a little-endian `u32` before it.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

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

pub(crate) fn push(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("a job is far below 4 GiB");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
}

pub(crate) fn push_words(out: &mut Vec<u8>, words: &[u32]) {
    push(out, &words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>());
}

/// Gives a request to a helper. Returns how it ended, and what it wrote.
pub(crate) fn ask(helper: &Path, request: &[u8]) -> io::Result<(ExitStatus, Vec<u8>)> {
    let mut child = Command::new(helper).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().ok_or_else(|| io::Error::other("no pipe to the helper"))?;
    stdin.write_all(request)?;
    drop(stdin);
    let mut out = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_end(&mut out)?;
    }
    Ok((child.wait()?, out))
}

/// Takes strings of bytes off the front.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.0.split_first_chunk()?;
        let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn words(&mut self) -> Option<Vec<u32>> {
        Some(self.bytes()?.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }
}

impl Job {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        push_words(&mut out, &[self.prog_type, self.attach_type, self.attach_btf_id]);
        push(&mut out, &self.btf);
        for words in [&self.func_info, &self.line_info, &self.map_insns] {
            push_words(&mut out, words);
        }
        for load in &self.loads {
            push(&mut out, &load.insns);
            push_words(&mut out, &load.core_relos);
        }
        out
    }

    /// Reads a job back; `None` if it is cut.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let &[prog_type, attach_type, attach_btf_id] = reader.words()?.as_slice() else { return None };
        let btf = reader.bytes()?.to_vec();
        let (func_info, line_info, map_insns) = (reader.words()?, reader.words()?, reader.words()?);
        let mut loads = Vec::new();
        while !reader.0.is_empty() {
            loads.push(Load { insns: reader.bytes()?.to_vec(), core_relos: reader.words()? });
        }
        Some(Self { prog_type, attach_type, attach_btf_id, btf, func_info, line_info, map_insns, loads })
    }

    /// Lets the kernel judge all versions. `judge`: the helper's binary.
    ///
    /// # Errors
    /// If the helper cannot be run, or stopped with a message: the kernel refused the BTF, for example.
    pub fn judge(&self, judge: &Path) -> io::Result<Vec<Loaded>> {
        let (status, out) = ask(judge, &self.encode())?;
        if !status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&out).into_owned()));
        }
        let mut reader = Reader(&out);
        let mut loaded = Vec::new();
        while loaded.len() < self.loads.len() {
            let answer = Loaded::read(&mut reader).ok_or(io::ErrorKind::UnexpectedEof)?;
            loaded.push(answer);
        }
        Ok(loaded)
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

    /// Appends the answer to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        push_words(out, &[self.errno]);
        push(out, self.log.as_bytes());
        push(out, &self.insns);
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let &[errno] = reader.words()?.as_slice() else { return None };
        let log = String::from_utf8_lossy(reader.bytes()?).into_owned();
        Some(Self { errno, log, insns: reader.bytes()?.to_vec() })
    }
}
