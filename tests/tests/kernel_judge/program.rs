//! Programs made of records, and the kernel's judgement of them.

use std::collections::BTreeSet;

use btfleet_engine::batch::outcomes;
use btfleet_engine::btf::Btf;
use btfleet_engine::dialect::Loader;
use btfleet_engine::error::ResolveError;
use btfleet_engine::fleet::Modules;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::Object;
use btfleet_engine::resolve::Outcome;
use btfleet_tests::build::{
    BtfBuilder, BtfExtBuilder, ByteOrder, CoreRelo, Insn, ObjectBuilder, Width, code_bytes,
};
use btfleet_tests::kernel::{Job, Load, Loaded};

use super::{Live, ask};

const SECTION: &str = "raw_tp/x";
const RAW_TRACEPOINT: u32 = 17;
/// Size of the stack, which loads read from.
pub(super) const STACK: u64 = 512;

/// `r0 = 0; exit`.
pub(super) const EXIT_0: [u8; 16] = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];

/// A record and its instructions, the first of which is relocated.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) root: u32,
    pub(super) access: String,
    pub(super) kind: u32,
    pub(super) insns: Vec<Insn>,
    /// Behind a branch that is always taken: never reached.
    pub(super) is_dead: bool,
}

/// A program of records.
pub(super) struct Program {
    pub(super) local: BtfBuilder,
    pub(super) records: Vec<Record>,
    func: u32,
}

/// What the two dialects make of a program's records.
pub(super) struct Answers {
    pub(super) libbpf: Vec<Outcome>,
    pub(super) kernel: Vec<Outcome>,
}

impl Program {
    pub(super) fn new() -> Self {
        let mut local = BtfBuilder::new(ByteOrder::Little);
        let int = local.int("int", 4, 1);
        let proto = local.func_proto(int, &[]);
        let func = local.func("p", proto, 1);
        Self { local, records: Vec::new(), func }
    }

    pub(super) fn record(&mut self, root: u32, access: &str, kind: u32, insns: &[Insn]) {
        let record = Record { root, access: access.into(), kind, insns: insns.to_vec(), is_dead: false };
        self.records.push(record);
    }

    /// A record on `r1 = 0`; [`Program::hold_local_values`] gives it the compiled value.
    pub(super) fn mov(&mut self, root: u32, access: &str, kind: u32) {
        self.record(root, access, kind, &[Insn::mov(1, 0)]);
    }

    /// A record on `r1 = 0 ll`.
    pub(super) fn ldimm64(&mut self, root: u32, access: &str, kind: u32) {
        self.record(root, access, kind, &Insn::ldimm64(1, 0));
    }

    /// The code, and for each record where it starts, in bytes.
    fn code(&self) -> (Vec<Insn>, Vec<u32>) {
        // r9 is the lowest address of the stack, r8 is 0.
        let mut code = vec![Insn::alu_reg(0xb0, true, 9, 10), Insn::alu(0, true, 9, -512), Insn::mov(8, 0)];
        let mut offsets = Vec::new();
        for record in &self.records {
            if record.is_dead {
                let len = i16::try_from(record.insns.len()).expect("a record has few instructions");
                code.push(Insn::jmp(0x10, 8, 0, len));
            }
            offsets.push(u32::try_from(code.len() * 8).expect("short code"));
            code.extend_from_slice(&record.insns);
        }
        code.extend([Insn::mov(0, 0), Insn::exit()]);
        (code, offsets)
    }

    fn object(&self) -> Vec<u8> {
        let (code, offsets) = self.code();
        let mut local = self.local.clone();
        let section = local.str(SECTION);
        let mut ext = BtfExtBuilder::new(ByteOrder::Little);
        for (record, insn_off) in self.records.iter().zip(offsets) {
            let access_str_off = local.str(&record.access);
            ext.core_relo(
                section,
                CoreRelo { insn_off, type_id: record.root, access_str_off, kind: record.kind },
            );
        }
        let mut object = ObjectBuilder::new(ByteOrder::Little);
        object.program(SECTION, "p", &code);
        object.license("GPL");
        object.btf(&local.finish());
        object.btf_ext(&ext.finish());
        object.finish()
    }

    /// What both dialects answer.
    pub(super) fn answers(&self, live: &Live, kernel: &Kernel<'_>) -> Answers {
        let bytes = self.object();
        let object = Object::parse(&bytes).expect("the builder makes objects");
        let by = |loader| outcomes(loader, &object, kernel, Modules::All, |_| true);
        Answers { libbpf: by(Loader::Libbpf), kernel: by(live.loader) }
    }

    /// Lets the instructions hold what the program's own BTF implies, as a compiler would.
    pub(super) fn hold_local_values(&mut self, live: &Live, kernel: &Kernel<'_>) {
        let answers = self.answers(live, kernel);
        for (record, outcome) in self.records.iter_mut().zip(&answers.kernel) {
            if let (Outcome::Fatal(ResolveError::InsnMismatch { expected, .. }), [first, rest @ ..]) =
                (outcome, record.insns.as_mut_slice())
            {
                let half = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap_or_default().cast_signed();
                match (first.code & 7, rest) {
                    (1..=3, _) => first.off = i16::try_from(*expected).unwrap_or(i16::MAX),
                    (0, [high, ..]) => (first.imm, high.imm) = (half(*expected), half(expected >> 32)),
                    _ => first.imm = half(*expected),
                }
            }
        }
    }

    /// Puts what the kernel is expected to poison behind branches.
    pub(super) fn bury_poison(&mut self, live: &Live, kernel: &Kernel<'_>) {
        let answers = self.answers(live, kernel);
        for (record, outcome) in self.records.iter_mut().zip(&answers.kernel) {
            record.is_dead |= matches!(outcome, Outcome::Decided(it) if it.poisoned);
        }
    }

    /// The instructions after relocation; `None` if a record ends the load.
    fn relocated(&self, outcomes: &[Outcome]) -> Option<Vec<u8>> {
        let (code, offsets) = self.code();
        let mut bytes = code_bytes(&code, ByteOrder::Little);
        for (outcome, offset) in outcomes.iter().zip(offsets) {
            let Outcome::Decided(decision) = outcome else { return None };
            let at = offset as usize;
            bytes.get_mut(at..at + decision.insn.len())?.copy_from_slice(&decision.insn);
        }
        Some(bytes)
    }

    /// The relocated instructions without those that are never reached.
    fn reachable(&self, relocated: &[u8]) -> Vec<u8> {
        let (_, offsets) = self.code();
        let mut keep = vec![true; relocated.len()];
        for (record, offset) in self.records.iter().zip(offsets).filter(|(record, _)| record.is_dead) {
            let at = offset as usize;
            keep.get_mut(at - 8..at + 8 * record.insns.len()).expect("a record is inside").fill(false);
        }
        relocated.iter().zip(keep).filter(|(_, keep)| *keep).map(|(byte, _)| *byte).collect()
    }

    /// CO-RE records as the kernel takes them.
    pub(super) fn core_relos(&mut self) -> Vec<u32> {
        let (_, offsets) = self.code();
        let words = self.records.iter().zip(offsets);
        words
            .flat_map(|(record, offset)| [offset, record.root, self.local.str(&record.access), record.kind])
            .collect()
    }

    /// A job with function and line information.
    pub(super) fn job(&mut self, loads: Vec<Load>) -> Job {
        let file = self.local.str("x.bpf.c");
        Job {
            prog_type: RAW_TRACEPOINT,
            btf: self.local.finish(),
            func_info: vec![0, self.func],
            line_info: vec![0, file, file, 1 << 10],
            loads,
            ..Job::default()
        }
    }

    /// The program as compiled, with its records.
    pub(super) fn unrelocated(&mut self) -> Load {
        let insns = code_bytes(&self.code().0, ByteOrder::Little);
        Load { insns, core_relos: self.core_relos() }
    }

    /// The same, but for an access at the end that the verifier refuses: then it keeps its log of what came before.
    fn refused(&mut self) -> Load {
        let mut load = self.unrelocated();
        let at = load.insns.len() - EXIT_0.len();
        let wild = code_bytes(&[Insn::ldx(Width::Dw, 0, 8, 0), Insn::exit()], ByteOrder::Little);
        load.insns.splice(at.., wild);
        load
    }

    /// Lets the kernel judge the program; says what is wrong with our answers.
    ///
    /// # Errors
    /// The deviation, in words.
    pub(super) fn judge(&mut self, live: &Live) -> Result<Answers, String> {
        let kernel = Kernel::new(Btf::parse(&live.vmlinux).expect("the running kernel's BTF"));
        let answers = self.answers(live, &kernel);
        let mut loads = vec![self.unrelocated(), self.refused()];
        let ours = self.relocated(&answers.kernel);
        let libbpf = self.relocated(&answers.libbpf);
        loads.extend(ours.iter().cloned().map(|insns| Load { insns, core_relos: Vec::new() }));
        // Where the dialects agree, the one load stands for both.
        loads.extend(
            libbpf
                .iter()
                .filter(|it| ours.as_ref() != Some(it))
                .cloned()
                .map(|insns| Load { insns, core_relos: Vec::new() }),
        );
        let loaded = ask(&self.job(loads));
        let ([theirs, told], relocated) = loaded.split_first_chunk().ok_or("no answer")?;
        match (ours, relocated.first()) {
            (Some(ours), Some(by_us)) => {
                same(theirs, by_us)?;
                let poisoned = |it: &Outcome| matches!(it, Outcome::Decided(it) if it.poisoned);
                let expected: BTreeSet<usize> =
                    (0..).zip(&answers.kernel).filter(|(_, it)| poisoned(it)).map(|(at, _)| at).collect();
                // What stands behind a branch leaves no other trace than this.
                let poisoned = told.poisoned();
                if poisoned != expected {
                    let apart: Vec<_> = poisoned.symmetric_difference(&expected).collect();
                    return Err(format!("poisoned by the kernel or by us, not by both: {apart:?}"));
                }
                if theirs.errno == 0 && theirs.insns != self.reachable(&ours) {
                    return Err("the verifier left other instructions than ours".into());
                }
            }
            _ => {
                let errno = answers.kernel.iter().find_map(|it| match it {
                    Outcome::Fatal(error) => Some(error.errno()),
                    _ => None,
                });
                if errno.map(i32::unsigned_abs) != Some(theirs.errno) || theirs.reached_poison() {
                    return Err(format!(
                        "the kernel's errno is {}, ours {errno:?}\n{}",
                        theirs.errno,
                        tail(&theirs.log)
                    ));
                }
            }
        }
        Ok(answers)
    }
}

/// Whether the kernel came to the same with its own relocation as with ours.
pub(super) fn same(theirs: &Loaded, ours: &Loaded) -> Result<(), String> {
    if theirs.errno != ours.errno {
        let logs = [theirs, ours].map(|it| tail(&it.log));
        return Err(format!(
            "errno {} and with our relocation {}\n{}",
            theirs.errno,
            ours.errno,
            logs.join("\n---\n")
        ));
    }
    if theirs.insns != ours.insns {
        let slots = |it: &Loaded| it.insns.as_chunks::<8>().0.to_vec();
        let (theirs, ours) = (slots(theirs), slots(ours));
        let at = theirs.iter().zip(&ours).position(|(one, two)| one != two);
        let show = |slots: &[[u8; 8]]| at.and_then(|at| slots.get(at)).map(|it| format!("{it:02x?}"));
        return Err(format!(
            "instruction {at:?} is {:?}, with our relocation {:?}",
            show(&theirs),
            show(&ours)
        ));
    }
    Ok(())
}

/// The last lines of a log.
pub(super) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(12)..).unwrap_or(&lines).join("\n")
}
