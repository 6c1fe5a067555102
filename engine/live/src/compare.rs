//! One program loaded both ways, and what is different.

use std::collections::HashMap;

use btfleet_engine::format::insn::INSN_LEN;
use btfleet_engine::object::ProgType;
use btfleet_engine::prog_load::ProgLoad;
use btfleet_engine::resolve::Outcome;

use crate::bpf::{self, Errno, Loaded, Program};

/// What of a program was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// All instructions, as the verifier left them: it took the program both ways.
    Instructions,
    /// What the kernel's log says of each record: it does not take the program.
    Log,
    /// Nothing.
    Nothing,
}

/// Something that is different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of difference: a stable code.
    pub code: &'static str,
    /// The record, by its number in [`Object::relocs`](btfleet_engine::object::Object::relocs).
    pub record: Option<usize>,
    /// The same in words.
    pub message: String,
}

/// Codes of findings.
pub const CODES: [&str; 3] = [INSTRUCTIONS, RECORD, LOAD];
/// The kernel takes the program one way and not the other, or refuses it for something else.
const LOAD: &str = "load-differs";
/// The verifier left other instructions.
const INSTRUCTIONS: &str = "instructions-differ";
/// The kernel's log says something else of a record.
const RECORD: &str = "record-differs";

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// That value was written; its lower 32 bits, as the log shows most values as signed words.
    Patched(u32),
    /// The instruction is one that no verifier takes.
    Poisoned,
    /// The load ended there.
    Error(Errno),
}

/// Loads a program both ways. `not_itself`: why it cannot be taken as what it is, if that is known before.
///
/// Says, too, why not all instructions were compared, or not those of the program as it is.
pub(crate) fn compare(
    spec: &Program<'_>,
    load: &ProgLoad,
    outcomes: &[&Outcome],
    not_itself: Option<String>,
) -> (Compared, Option<String>, Vec<Finding>) {
    let relocated = load.relocated(outcomes).ok();
    let first = Ways::load(spec, load, relocated.as_deref());
    if let Some(findings) = first.other_instructions() {
        return (Compared::Instructions, not_itself, findings);
    }
    let log = first.log();
    let told = told(&log);
    let why = not_itself.unwrap_or_else(|| refusal(&log, first.errno()));
    if !told.is_empty() {
        return (Compared::Log, Some(why), first.findings(&log, &told, load, outcomes));
    }
    // It is refused for what it is, before it is relocated: as something that attaches to nothing it gets further.
    let ProgType { prog_type, attach_type, flags } = ProgType::NEUTRAL;
    let spec = Program { prog_type, attach_type, flags, attach_btf_id: 0, attach_btf: None, ..*spec };
    let second = Ways::load(&spec, load, relocated.as_deref());
    if let Some(findings) = second.other_instructions() {
        return (Compared::Instructions, Some(why), findings);
    }
    let log = second.log();
    let told = self::told(&log);
    if told.is_empty() {
        return (
            Compared::Nothing,
            Some(format!("the kernel refuses it before it relocates: {why}")),
            Vec::new(),
        );
    }
    (Compared::Log, Some(why), second.findings(&log, &told, load, outcomes))
}

/// A program loaded both ways.
struct Ways<'a> {
    by_kernel: Program<'a>,
    theirs: Loaded,
    /// Relocated by us, if we have an answer to each record.
    ours: Option<(Program<'a>, Loaded)>,
}

impl<'a> Ways<'a> {
    fn load(spec: &Program<'a>, load: &'a ProgLoad, relocated: Option<&'a [u8]>) -> Self {
        let by_kernel = Program { insns: &load.insns, core_relos: &load.core_relos, ..*spec };
        let by_us = relocated.map(|insns| Program { insns, ..*spec });
        Self { by_kernel, theirs: bpf::load(&by_kernel), ours: by_us.map(|it| (it, bpf::load(&it))) }
    }

    /// What is different in the instructions, if it was taken both ways.
    fn other_instructions(&self) -> Option<Vec<Finding>> {
        let (_, ours) = self.ours.as_ref().filter(|it| it.1.errno.is_none())?;
        self.theirs.errno.is_none().then(|| other_instructions(&self.theirs, ours).into_iter().collect())
    }

    fn errno(&self) -> Option<Errno> {
        self.theirs.errno.or(self.ours.as_ref().and_then(|it| it.1.errno))
    }

    /// The kernel's log of its own relocation.
    fn log(&self) -> String {
        bpf::log(&self.by_kernel)
    }

    fn findings(
        &self,
        log: &str,
        told: &HashMap<usize, Fate>,
        load: &ProgLoad,
        outcomes: &[&Outcome],
    ) -> Vec<Finding> {
        let mut findings = of_records(load, outcomes, told, self.theirs.errno);
        let Some((by_us, ours)) = &self.ours else { return findings };
        if ours.errno != self.theirs.errno {
            let log_of_ours = if ours.errno.is_some() { bpf::log(by_us) } else { String::new() };
            let said = |errno: Option<Errno>, log: &str| match errno {
                Some(_) => format!("refuses it ({})", refusal(log, errno)),
                None => "takes it".to_owned(),
            };
            let message = format!(
                "with its own relocation the kernel {}, with btfleet's it {}",
                said(self.theirs.errno, log),
                said(ours.errno, &log_of_ours)
            );
            findings.push(Finding { code: LOAD, record: None, message });
        }
        findings
    }
}

fn other_instructions(theirs: &Loaded, ours: &Loaded) -> Option<Finding> {
    if theirs.insns == ours.insns {
        return None;
    }
    let (theirs, ours) = (theirs.insns.as_chunks::<INSN_LEN>().0, ours.insns.as_chunks::<INSN_LEN>().0);
    let at = theirs.iter().zip(ours).position(|(one, other)| one != other);
    let at = at.unwrap_or(theirs.len().min(ours.len()));
    let shown = |of: &[[u8; INSN_LEN]]| match of.get(at) {
        Some(insn) => insn.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "),
        None => "not there".to_owned(),
    };
    let message = format!(
        "instruction {at} of the verified program is {} with the kernel's relocation and {} with btfleet's",
        shown(theirs),
        shown(ours)
    );
    Some(Finding { code: INSTRUCTIONS, record: None, message })
}

/// What the log says of each record, against our answers. `told`: by the record's place in the program's list.
fn of_records(
    load: &ProgLoad,
    outcomes: &[&Outcome],
    told: &HashMap<usize, Fate>,
    errno: Option<Errno>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (place, &record) in load.records.iter().enumerate() {
        let expected = match outcomes.get(record) {
            Some(Outcome::Decided(it)) if it.poisoned => Fate::Poisoned,
            Some(Outcome::Decided(it)) => Fate::Patched(low(it.new.unwrap_or(it.orig))),
            Some(Outcome::Fatal(error)) => Fate::Error(Errno(error.errno().unsigned_abs())),
            Some(Outcome::Skipped | Outcome::ModuleDependent(_)) | None => continue,
        };
        // Of a record that ends the load there is the end of the log, and the errno. Its offset may have been patched
        // before its width was refused.
        let is_last = !told.keys().any(|it| *it > place);
        let found = match (told.get(&place), errno) {
            (Some(_), Some(errno)) if is_last && expected == Fate::Error(errno) => Some(expected),
            (Some(fate), _) => Some(*fate),
            (None, errno) => errno.map(Fate::Error).filter(|_| is_last),
        };
        if found != Some(expected) {
            let words = |fate: Fate| match fate {
                Fate::Patched(value) => format!("patches in {}", value.cast_signed()),
                Fate::Poisoned => "poisons the instruction".to_owned(),
                Fate::Error(errno) => format!("ends the load: {errno}"),
            };
            let theirs = found.map_or("does not say what it does with it".to_owned(), words);
            let message =
                format!("record {place}: the kernel {theirs}; btfleet says that it {}", words(expected));
            findings.push(Finding { code: RECORD, record: Some(record), message });
        }
        if matches!(expected, Fate::Error(_)) {
            break;
        }
    }
    findings
}

fn low(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// What a log says of records: `relo #3: patched insn #12 (LDX/ST/STX) off 8 -> 16`, or `relo #3: substituting insn #12
/// w/ invalid insn`.
fn told(log: &str) -> HashMap<usize, Fate> {
    let mut told = HashMap::new();
    for line in log.lines() {
        let Some((number, what)) = line.split_once("relo #").and_then(|(_, it)| it.split_once(": ")) else {
            continue;
        };
        let Ok(number) = number.parse::<usize>() else { continue };
        if what.starts_with("substituting insn #") {
            told.insert(number, Fate::Poisoned);
        } else if what.starts_with("patched insn #") && !what.contains(") mem_sz ") {
            let value = what.rsplit_once("-> ").and_then(|(_, it)| it.trim().parse::<i128>().ok());
            // Widths are on lines of their own; a poisoned one stays so.
            if let Some(value) = value {
                let [a, b, c, d, ..] = value.to_le_bytes();
                told.entry(number).or_insert(Fate::Patched(u32::from_le_bytes([a, b, c, d])));
            }
        }
    }
    told
}

/// Why the kernel refuses a program: the last line of the log that is no statistics, or the errno.
fn refusal(log: &str, errno: Option<Errno>) -> String {
    let is_reason = |line: &&str| !line.trim().is_empty() && !line.starts_with("processed ");
    let last = log.lines().rfind(is_reason).map(|it| it.trim().to_owned());
    match (last, errno) {
        (Some(line), _) => line,
        (None, Some(errno)) => errno.to_string(),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that lines of a log are read as the kernel writes them.
    #[test]
    fn lines_of_the_log() {
        let log = "CO-RE relocating STRUCT pt_regs: found target candidate [162]\n\
            prog '': relo #0: <byte_off> [48] STRUCT pt_regs.ax (0:10 @ offset 80)\n\
            prog '': relo #0: patched insn #32 (LDX/ST/STX) off 80 -> 88\n\
            prog '': relo #1: patched insn #5 (ALU/ALU64) imm 3 -> -1\n\
            prog '': relo #2: substituting insn #7 w/ invalid insn\n\
            prog '': relo #3: patched insn #8 (LDIMM64) imm64 1 -> 18446744073709551615\n\
            prog '': relo #4: patched insn #9 (LDX/ST/STX) mem_sz 4 -> 8\n";
        let told = told(log);
        let fates: Vec<_> = (0..5).map(|it| told.get(&it).copied()).collect();
        assert_eq!(
            fates,
            [
                Some(Fate::Patched(88)),
                Some(Fate::Patched(u32::MAX)),
                Some(Fate::Poisoned),
                Some(Fate::Patched(u32::MAX)),
                None
            ]
        );
        assert_eq!(refusal("R1 invalid\nprocessed 0 insns\n\n", Some(Errno(22))), "R1 invalid");
    }
}
