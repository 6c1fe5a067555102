//! aya-obj 0.3: `Object::relocate_btf` on a kernel BTF that was parsed before.

use std::panic::{self, AssertUnwindSafe};

use aya_obj::Object;
use aya_obj::btf::Btf;
use aya_obj::generated::bpf_insn;
use btfleet_tests::oracle::{ExtractedObject, extract};

use crate::Round;
use crate::answer::{Answer, Status};
use crate::clock::{Stopwatch, Time};
use crate::workload::{File, Workload};

const LDIMM64: u8 = 0x18;

/// An object that is not relocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused<'a> {
    /// Its file's name.
    pub object: &'a str,
    /// aya's message.
    pub reason: String,
}

/// A kernel's BTF, parsed.
#[derive(Debug)]
pub struct Kernel(Btf);

impl Kernel {
    /// Parses a kernel's raw BTF.
    ///
    /// # Errors
    /// aya's message, if it refuses it.
    pub fn parse(data: &[u8]) -> Result<Self, String> {
        // The default is the byte order of this machine, which is that of the workload.
        Btf::parse(data, Default::default()).map(Self).map_err(|error| message(&error))
    }
}

/// Objects, parsed.
#[derive(Debug)]
pub struct Objects<'a> {
    /// Number of the object in the workload, its name, aya's object, and where its records are.
    parsed: Vec<(u32, &'a str, Object, Option<ExtractedObject>)>,
    refused: Vec<Refused<'a>>,
}

impl<'a> Objects<'a> {
    /// Parses objects.
    pub fn new(files: &'a [File]) -> Self {
        let (mut parsed, mut refused) = (Vec::new(), Vec::new());
        for (number, file) in (0..).zip(files) {
            match Object::parse(&file.data) {
                Ok(object) => parsed.push((number, file.name.as_str(), object, extract(&file.data).ok())),
                Err(error) => refused.push(Refused { object: &file.name, reason: message(&error) }),
            }
        }
        Self { parsed, refused }
    }

    /// Objects that aya does not parse.
    pub fn refused(&self) -> &[Refused<'a>] {
        &self.refused
    }

    /// Relocates all objects that aya takes; also those that it does not. Objects at which aya panics, as it does at
    /// some records that nothing on the kernel matches, take no time.
    pub fn round(&self, kernel: &Kernel) -> (Round<'_>, Vec<Refused<'a>>) {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(|_| {}));
        let mut time = Time::default();
        let mut refused = self.refused.clone();
        let mut answers = Vec::new();
        for (number, name, object, extracted) in &self.parsed {
            // Relocation changes an object in place.
            let mut object = object.clone();
            let watch = Stopwatch::new();
            let result = panic::catch_unwind(AssertUnwindSafe(|| object.relocate_btf(&kernel.0)));
            let took = watch.time();
            let reason = match result {
                Ok(Ok(())) => {
                    if let Some(extracted) = extracted {
                        answers.extend(read_answers(*number, &object, extracted));
                    }
                    None
                }
                Ok(Err(error)) => Some(message(&error)),
                Err(_) => {
                    refused.push(Refused { object: name, reason: "panic while relocating".to_owned() });
                    continue;
                }
            };
            time = time + took;
            refused.extend(reason.map(|reason| Refused { object: name, reason }));
        }
        panic::set_hook(hook);
        (Round { time, answers }, refused)
    }
}

/// A workload with everything parsed.
#[derive(Debug)]
pub struct Prepared<'a> {
    kernel: Kernel,
    objects: Objects<'a>,
}

impl<'a> Prepared<'a> {
    /// Parses the kernel and the objects.
    ///
    /// # Errors
    /// If aya refuses the kernel.
    pub fn new(work: &'a Workload) -> Result<Self, String> {
        let kernel = Kernel::parse(&work.kernel).map_err(|error| format!("kernel: {error}"))?;
        Ok(Self { kernel, objects: Objects::new(&work.objects) })
    }

    /// As [`Objects::round`].
    pub fn round(&self) -> (Round<'_>, Vec<Refused<'a>>) {
        self.objects.round(&self.kernel)
    }
}

/// The instructions that records are about, after all of them were applied.
fn read_answers<'a>(
    number: u32,
    object: &Object,
    extracted: &'a ExtractedObject,
) -> impl Iterator<Item = Answer<'a>> {
    let records = extracted.program.records.iter().zip(&extracted.section_names);
    (0..).zip(records).map(move |(record, (it, section))| {
        let section = section.as_bytes();
        match bytes_at(object, it.section as usize, it.insn_off as usize) {
            Some(bytes) => Answer::patched(number, record, section, it.insn_off, &bytes),
            None => Answer::other(number, record, section, it.insn_off, Status::Skipped),
        }
    })
}

fn bytes_at(object: &Object, section: usize, insn_off: usize) -> Option<Vec<u8>> {
    let function = object.functions.values().find(|it| {
        let at = insn_off.checked_sub(it.section_offset);
        it.section_index.0 == section && at.is_some_and(|at| at < it.instructions.len() * 8)
    })?;
    let at = (insn_off - function.section_offset) / 8;
    let insns = function.instructions.get(at..)?;
    let len = if insns.first()?.code == LDIMM64 { 2 } else { 1 };
    Some(insns.iter().take(len).flat_map(encode).collect())
}

fn encode(insn: &bpf_insn) -> [u8; 8] {
    let [off_low, off_high] = insn.off.to_le_bytes();
    let [a, b, c, d] = insn.imm.to_le_bytes();
    [insn.code, insn.src_reg() << 4 | insn.dst_reg(), off_low, off_high, a, b, c, d]
}

/// A message with what lies behind it.
fn message(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
