//! Answers of the engine and of libbpf in one form, and whether an answer of the engine fits its own code.

use btfleet_engine::error::ResolveError;
use btfleet_engine::format::btf_ext::RelocKind;
use btfleet_engine::resolve::{Code, Decision, Outcome};
use btfleet_tests::build::{ByteOrder, Insn};
use btfleet_tests::oracle::{Answer, Oracle, Stage, Status};

pub(crate) fn oracle() -> Oracle {
    Oracle::spawn(env!("CARGO_BIN_EXE_oracle")).expect("the oracle starts")
}

/// What has to be the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    /// The record is inside no function.
    NoProgram,
    /// The load ends, with this positive errno.
    Fatal { errno: u32 },
    /// Applied or poisoned; fields are called as in libbpf.
    Done {
        orig_val: u64,
        new_val: u64,
        poison: bool,
        validate: bool,
        fail_memsz_adjust: bool,
        orig_sz: u32,
        new_sz: u32,
        new_type_id: u32,
        /// The instruction afterwards, little-endian.
        insn: Vec<u8>,
        /// Whether that is the invalid call.
        insn_poisoned: bool,
    },
}

impl Row {
    /// Of the engine, for an object of byte order `order`.
    pub(crate) fn of_outcome(outcome: &Outcome, order: ByteOrder) -> Self {
        match outcome {
            Outcome::Skipped => Self::NoProgram,
            Outcome::Fatal(error) => Self::Fatal { errno: error.errno().unsigned_abs() },
            Outcome::Decided(it) => Self::Done {
                orig_val: it.orig,
                new_val: it.new.unwrap_or(0),
                poison: it.unresolved,
                validate: it.validate,
                fail_memsz_adjust: it.resize_fails,
                orig_sz: it.orig_size,
                new_sz: it.new_size,
                new_type_id: it.target_type.0,
                insn: it
                    .insn
                    .as_chunks::<8>()
                    .0
                    .iter()
                    .flat_map(|&slot| Insn::decode(slot, order).encode(ByteOrder::Little))
                    .collect(),
                insn_poisoned: it.poisoned,
            },
            Outcome::ModuleDependent(_) => panic!("not with all modules loaded: {outcome:?}"),
        }
    }

    /// Of libbpf.
    pub(crate) fn of_answer(answer: &Answer) -> Self {
        match answer.status {
            Status::NoProgram => Self::NoProgram,
            Status::Fatal => Self::Fatal { errno: answer.errno },
            Status::Ok => Self::Done {
                orig_val: answer.orig_val,
                new_val: answer.new_val,
                poison: answer.poison,
                validate: answer.validate,
                fail_memsz_adjust: answer.fail_memsz_adjust,
                orig_sz: answer.orig_sz,
                new_sz: answer.new_sz,
                new_type_id: answer.new_type_id,
                insn: answer.insn.clone(),
                insn_poisoned: answer.insn_poisoned(),
            },
        }
    }
}

/// How the engine's answer differs from libbpf's, or does not fit its own code; `None` if all is well.
///
/// `answer`: with libbpf's messages.
pub(crate) fn difference(
    outcome: &Outcome,
    answer: &Answer,
    raw_kind: u32,
    order: ByteOrder,
) -> Option<String> {
    let (engine, libbpf) = (Row::of_outcome(outcome, order), Row::of_answer(answer));
    if engine != libbpf {
        return Some(format!(
            "engine {engine:x?}\n     ({outcome:?})\nlibbpf {libbpf:x?}\n     (at {:?}: {})",
            answer.stage,
            answer.log.trim_end()
        ));
    }
    let misfit = match outcome {
        Outcome::Decided(it) => misfit(it, answer, raw_kind),
        Outcome::Fatal(error) => fatal_misfit(*error, answer, raw_kind),
        Outcome::Skipped | Outcome::ModuleDependent(_) => None,
    };
    let why = misfit?;
    Some(format!("as libbpf, but {why}\nengine {outcome:?}\nlibbpf {answer:?}\n{}", answer.log.trim_end()))
}

/// Whether a code says why nothing was found.
fn is_absence(code: Code) -> bool {
    matches!(
        code,
        Code::NoType
            | Code::FwdOnly
            | Code::NoField
            | Code::FieldIncompatible
            | Code::ArrayBounds
            | Code::TypeIncompatible
            | Code::NoEnumerator
            | Code::PrunedAway
    )
}

/// What does not fit in an answer that libbpf gives as well.
fn misfit(it: &Decision, answer: &Answer, raw_kind: u32) -> Option<String> {
    let Some(kind) = RelocKind::from_raw(raw_kind) else {
        return Some("the kind does not exist".to_owned());
    };
    let exists = matches!(
        kind,
        RelocKind::FieldExists | RelocKind::TypeExists | RelocKind::TypeMatches | RelocKind::EnumvalExists
    );
    let sized = matches!(kind, RelocKind::TypeSize | RelocKind::TypeIdTarget);
    // Candidates that were left before the record, and why none of them matched if so.
    let (left, reason) = (answer.cands.0, it.reason.unwrap_or(it.code));
    let found = it.candidate.is_some();
    let same = it.new == Some(it.orig);
    let fits = [
        (
            "poisoned is a reason or size-unsafe",
            it.poisoned == (is_absence(it.code) || it.code == Code::SizeUnsafe),
        ),
        ("unresolved is poisoned for a reason", it.unresolved == is_absence(it.code)),
        ("unresolved has no value", it.unresolved == it.new.is_none()),
        (
            "absent forms have a reason",
            it.reason.is_some() == matches!(it.code, Code::AbsentAsQueried | Code::ZeroAsQueried),
        ),
        ("a reason says why", it.reason.is_none_or(is_absence)),
        (
            "a candidate is found or the answer is one of nothing",
            found || kind == RelocKind::TypeIdLocal || it.unresolved || it.reason.is_some(),
        ),
        ("what is found is not absent", !found || !it.unresolved && it.reason.is_none()),
        (
            "only queries are present or absent",
            exists || !matches!(it.code, Code::PresentAsQueried | Code::AbsentAsQueried),
        ),
        ("only sizes and ids are zero", sized || it.code != Code::ZeroAsQueried),
        ("present is 1", it.code != Code::PresentAsQueried || it.new == Some(1)),
        ("absent is 0", !matches!(it.code, Code::AbsentAsQueried | Code::ZeroAsQueried) || it.new == Some(0)),
        ("exact is the same value", it.code != Code::Exact || same),
        ("moved is another value", it.code != Code::Moved || !same),
        ("another opcode is resized", (it.code == Code::Resized) == resized(it, answer)),
        ("size-unsafe cannot be resized", it.code != Code::SizeUnsafe || it.resize_fails),
        (
            "no candidate is no type",
            !(it.unresolved || it.reason.is_some())
                || (left == 0) == matches!(reason, Code::NoType | Code::FwdOnly),
        ),
        (
            "pruned away would be another answer",
            reason != Code::PrunedAway || answer.without_pruning.is_some(),
        ),
        (
            "another answer without pruning is pruned away",
            reason == Code::PrunedAway
                || found
                || answer.without_pruning.is_none_or(|(errno, ..)| errno != 0),
        ),
    ];
    fits.into_iter().find(|(_, fits)| !fits).map(|(rule, _)| format!("not so: {rule}"))
}

/// Whether the opcode has to have changed without being poisoned: only loads and stores have a width.
fn resized(it: &Decision, answer: &Answer) -> bool {
    !it.poisoned
        && it.orig_size != it.new_size
        && matches!(answer.insn.first().map(|code| code & 7), Some(1..=3))
}

/// What does not fit in an error that libbpf has as well: its messages tell most of the codes.
fn fatal_misfit(error: ResolveError, answer: &Answer, raw_kind: u32) -> Option<String> {
    let log = |text: &str| answer.log.contains(text);
    let parse: &[&str] = &["bad-access-string", "local-type-unusable", "unknown-kind"];
    let expected: &[&str] = match answer.stage {
        Stage::Record if answer.insn.is_empty() => &["bad-insn-offset"],
        Stage::Record => &["bad-type-id"],
        Stage::Candidates => &["anonymous-root"],
        Stage::Calculate if log(") failed: ") || log(" failed: -") => parse,
        Stage::Calculate if log("field offset ambiguity") => &["ambiguous-offset"],
        Stage::Calculate if log("relocation decision ambiguity") => &["ambiguous-value"],
        Stage::Calculate if log("can't be applied to array access") => &["kind-not-applicable"],
        Stage::Calculate if log("can't be satisfied for bitfield") => &["bitfield-unreadable"],
        Stage::Calculate if log("error matching candidate") && answer.errno == 7 => {
            &["too-deep", "target-malformed"]
        }
        Stage::Calculate if log("error matching candidate") => match raw_kind {
            7..=9 | 12 => &["match-too-deep"],
            _ => &["target-malformed"],
        },
        Stage::Calculate => &["local-type-unusable", "target-malformed"],
        Stage::Patch if answer.errno == 34 => &["offset-overflow"],
        Stage::Patch if log("mem size") => &["width-mismatch"],
        Stage::Patch if log("unexpected insn") => &["insn-mismatch"],
        Stage::Patch => &["insn-unsupported"],
    };
    if !expected.contains(&error.code()) {
        return Some(format!("{} is not among {expected:?}", error.code()));
    }
    let numbers = match error {
        ResolveError::InsnMismatch { expected, .. } => expected == answer.orig_val,
        ResolveError::OffsetOverflow { value } => value == answer.new_val,
        ResolveError::WidthMismatch { local, target, .. } => {
            (local, target) == (answer.orig_sz, answer.new_sz)
        }
        ResolveError::UnknownKind { kind } => kind == raw_kind,
        _ => true,
    };
    (!numbers).then(|| format!("{error:?} has other numbers"))
}
