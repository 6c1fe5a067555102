//! aya-obj 0.3: `Object::relocate_btf` on a kernel BTF that was parsed before.

use std::panic::{self, AssertUnwindSafe};

use aya_obj::Object;
use aya_obj::btf::Btf;
use aya_obj::generated::bpf_insn;
use btfleet_tests::oracle::{ExtractedObject, extract};

use crate::Round;
use crate::answer::{Answer, Status};
use crate::clock::Stopwatch;
use crate::workload::Workload;

const LDIMM64: u8 = 0x18;

/// An object that is not relocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused<'a> {
    /// Its file's name.
    pub object: &'a str,
    /// aya's message.
    pub reason: String,
}

/// A workload with everything parsed.
#[derive(Debug)]
pub struct Prepared<'a> {
    kernel: Btf,
    /// Number of the object in the workload, its name, aya's object, and where its records are.
    objects: Vec<(u32, &'a str, Object, Option<ExtractedObject>)>,
    refused: Vec<Refused<'a>>,
}

impl<'a> Prepared<'a> {
    /// Parses the kernel and the objects.
    ///
    /// # Errors
    /// If aya refuses the kernel.
    pub fn new(work: &'a Workload) -> Result<Self, String> {
        // The default is the byte order of this machine, which is that of the workload.
        let kernel = Btf::parse(&work.kernel, Default::default())
            .map_err(|error| format!("kernel: {}", message(&error)))?;
        let (mut objects, mut refused) = (Vec::new(), Vec::new());
        for (number, file) in (0..).zip(&work.objects) {
            match Object::parse(&file.data) {
                Ok(object) if panics(&object, &kernel) => {
                    refused.push(Refused { object: &file.name, reason: "panic while relocating".to_owned() });
                }
                Ok(object) => objects.push((number, file.name.as_str(), object, extract(&file.data).ok())),
                Err(error) => refused.push(Refused { object: &file.name, reason: message(&error) }),
            }
        }
        Ok(Self { kernel, objects, refused })
    }

    /// Relocates all objects that aya takes; also those that it does not.
    pub fn round(&self) -> (Round<'_>, Vec<Refused<'a>>) {
        // Relocation changes an object in place.
        let mut objects: Vec<Object> = self.objects.iter().map(|(_, _, object, _)| object.clone()).collect();
        let watch = Stopwatch::new();
        let results: Vec<_> = objects.iter_mut().map(|it| it.relocate_btf(&self.kernel)).collect();
        let time = watch.time();
        let mut refused = self.refused.clone();
        let mut answers = Vec::new();
        for (((number, name, _, extracted), object), result) in
            self.objects.iter().zip(&objects).zip(&results)
        {
            match (result, extracted) {
                (Ok(()), Some(extracted)) => answers.extend(read_answers(*number, object, extracted)),
                (Ok(()), None) => {}
                (Err(error), _) => refused.push(Refused { object: name, reason: message(error) }),
            }
        }
        (Round { time, answers }, refused)
    }
}

/// Whether relocating it panics, as aya does at some records that nothing on the kernel matches.
fn panics(object: &Object, kernel: &Btf) -> bool {
    let mut object = object.clone();
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let result = panic::catch_unwind(AssertUnwindSafe(|| object.relocate_btf(kernel).is_ok()));
    panic::set_hook(hook);
    result.is_err()
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
