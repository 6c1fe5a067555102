//! What became of each record.

/// How a record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Inside no program.
    Skipped,
    /// The loader gives up, with this positive errno.
    Fatal(u32),
    /// Patched; a poisoned instruction shows in its bytes.
    Patched,
}

/// One record's answer. Its object and its place identify it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Number of the object in the workload.
    pub object: u32,
    /// Number of the record in the object, in file order.
    pub record: u32,
    /// Name of the ELF section.
    pub section: &'a [u8],
    /// Offset of the instruction, in **bytes** within the section.
    pub insn_off: u32,
    /// How it ended.
    pub status: Status,
    /// The instruction afterwards if it was patched, else zeros; the second half only of an `ldimm64`.
    pub insn: [u8; 16],
}

impl<'a> Answer<'a> {
    /// A patched instruction of 8 or 16 bytes.
    pub fn patched(object: u32, record: u32, section: &'a [u8], insn_off: u32, bytes: &[u8]) -> Self {
        let mut insn = [0; 16];
        for (to, from) in insn.iter_mut().zip(bytes) {
            *to = *from;
        }
        Self { object, record, section, insn_off, status: Status::Patched, insn }
    }

    /// A record without an instruction to show.
    pub fn other(object: u32, record: u32, section: &'a [u8], insn_off: u32, status: Status) -> Self {
        Self { object, record, section, insn_off, status, insn: [0; 16] }
    }
}

/// Digest over answers: FNV-1a, 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// Over no answers.
    pub const NONE: Self = Self(0xcbf2_9ce4_8422_2325);

    /// Adds answers behind those that are in it.
    pub fn add(&mut self, answers: &[Answer<'_>]) {
        for it in answers {
            let status = match it.status {
                Status::Skipped => [0, 0],
                Status::Fatal(errno) => [1, errno],
                Status::Patched => [2, 0],
            };
            for number in [it.object, it.record, it.insn_off, status[0], status[1]] {
                self.add_bytes(&number.to_le_bytes());
            }
            self.add_bytes(it.section);
            self.add_bytes(&[0]);
            self.add_bytes(&it.insn);
        }
    }

    /// The digest as a number.
    pub fn value(self) -> u64 {
        self.0
    }

    fn add_bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Digest over all answers.
pub fn digest(answers: &[Answer<'_>]) -> u64 {
    let mut digest = Digest::NONE;
    digest.add(answers);
    digest.value()
}

/// The first answer in which two lists differ, as text.
///
/// # Errors
/// That text.
pub fn compare(ours: &[Answer<'_>], theirs: &[Answer<'_>]) -> Result<(), String> {
    if let Some((one, two)) = ours.iter().zip(theirs).find(|(one, two)| one != two) {
        return Err(format!("answers differ:\n  {one:?}\n  {two:?}"));
    }
    if ours.len() != theirs.len() {
        return Err(format!("{} answers against {}", ours.len(), theirs.len()));
    }
    Ok(())
}

/// Answers of `theirs` that are not in `ours`: both are in order, `theirs` may lack whole objects.
pub fn differences(ours: &[Answer<'_>], theirs: &[Answer<'_>]) -> usize {
    let place = |it: &Answer<'_>| (it.object, it.record);
    theirs
        .iter()
        .filter(|it| {
            let found = ours.binary_search_by_key(&place(it), place).ok().and_then(|at| ours.get(at));
            found != Some(*it)
        })
        .count()
}
