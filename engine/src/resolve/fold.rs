//! Records of one object in order, on one view of their roots, as a loader relocates them.
//!
//! In the `libbpf` dialect candidates are listed once for each local root type id, and every record that some of
//! them match drops the others for good (QUIRK, spec 5.4). So an answer depends on the records of the same root
//! before it, and they are folded in file order. After a fatal record libbpf stops; here the later ones are answered
//! as if the record had not been there.
//!
//! In the `aya` dialect every record starts with a fresh list; else it is as with libbpf, one load for all.
//!
//! In the `ebpf-go` dialect all records of a program that are about the same local type get the candidate that the most
//! of them match, see `scored`. Programs are loaded one by one there as well, with the functions that they call.
//!
//! In the `kernel` dialect every record starts with a fresh list. Programs are loaded one by one there, so a fatal
//! record ends the load of its own program only, and a record inside no program is never handed to the kernel.
//!
//! Records of different roots have nothing to do with each other, but where they touch the same instruction. So an
//! object falls into [`Part`]s that are folded each alone, and once for all kernels with the same candidates.
//!
//! Source: `bpf_object__relocate_core`, `bpf_core_calc_relo_insn`, libbpf; `bpf_core_apply`, Linux; spec
//! sections 8 and 11.

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::scored::Scores;
use super::{Found, Match, Missing, Why};
use crate::btf::TypeId;
use crate::dialect::{Choice, Rules, WithoutType};
use crate::error::ResolveError;
use crate::fleet::{Candidate, Candidates, View};
use crate::format::Endian;
use crate::format::btf_ext::RelocKind;
use crate::format::insn::{INSN_LEN, Insn};
use crate::object::{Object, Reloc, Site};
use crate::patch::{Edit, patch_insn};
use crate::query::{LocalValue, Question};
use crate::value::Value;

/// Code of a decided record; stable, see the documentation of verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// The new value is the compiled one.
    Exact,
    /// Another value.
    Moved,
    /// The access got another width.
    Resized,
    /// An existence query found it.
    PresentAsQueried,
    /// An existence query did not find it.
    AbsentAsQueried,
    /// Size or id of a type that is not there.
    ZeroAsQueried,
    /// No candidate.
    NoType,
    /// Only a forward declaration.
    FwdOnly,
    /// No such member.
    NoField,
    /// The member has an incompatible type.
    FieldIncompatible,
    /// The array is too short.
    ArrayBounds,
    /// The type is another one.
    TypeIncompatible,
    /// No such enumerator.
    NoEnumerator,
    /// The access width cannot be adjusted.
    SizeUnsafe,
    /// A candidate that would match was dropped because of other records of the object.
    PrunedAway,
    /// The field is there, but has no value of this kind.
    NoValue,
    /// Modules disagree.
    ModuleDependent,
}

impl Code {
    /// Every code, in the order of their declaration.
    pub const ALL: [Self; 17] = [
        Self::Exact,
        Self::Moved,
        Self::Resized,
        Self::PresentAsQueried,
        Self::AbsentAsQueried,
        Self::ZeroAsQueried,
        Self::NoType,
        Self::FwdOnly,
        Self::NoField,
        Self::FieldIncompatible,
        Self::ArrayBounds,
        Self::TypeIncompatible,
        Self::NoEnumerator,
        Self::SizeUnsafe,
        Self::PrunedAway,
        Self::NoValue,
        Self::ModuleDependent,
    ];

    /// The code as reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Moved => "moved",
            Self::Resized => "resized",
            Self::PresentAsQueried => "present-as-queried",
            Self::AbsentAsQueried => "absent-as-queried",
            Self::ZeroAsQueried => "zero-as-queried",
            Self::NoType => "no-type",
            Self::FwdOnly => "fwd-only",
            Self::NoField => "no-field",
            Self::FieldIncompatible => "field-incompatible",
            Self::ArrayBounds => "array-bounds",
            Self::TypeIncompatible => "type-incompatible",
            Self::NoEnumerator => "no-enumerator",
            Self::SizeUnsafe => "size-unsafe",
            Self::PrunedAway => "pruned-away",
            Self::NoValue => "no-value",
            Self::ModuleDependent => "module-dependent",
        }
    }
}

impl From<Why> for Code {
    fn from(why: Why) -> Self {
        match why {
            Why::NoField => Self::NoField,
            Why::FieldIncompatible => Self::FieldIncompatible,
            Why::ArrayBounds => Self::ArrayBounds,
            Why::OnlyDeclared => Self::FwdOnly,
            Why::TypeIncompatible => Self::TypeIncompatible,
            Why::NoEnumerator => Self::NoEnumerator,
        }
    }
}

/// What becomes of one record on one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The record is inside no program, or in one that is not loaded.
    Skipped,
    /// The loader gives up on the object.
    Fatal(ResolveError),
    /// Resolved or poisoned.
    Decided(Decision),
    /// The modules that provide the type give different answers.
    ModuleDependent(Vec<ModuleOutcome>),
}

/// The answer with just one module loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleOutcome {
    /// The module, a number for [`Fleet::module_name`](crate::fleet::Fleet::module_name).
    pub module: u32,
    /// The answer: never [`Outcome::ModuleDependent`].
    pub outcome: Outcome,
}

/// A record that did not end the load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// How it came out; of a poisoned record, why.
    pub code: Code,
    /// Why an existence, size or id query found nothing.
    pub reason: Option<Code>,
    /// Value that the local BTF implies.
    pub orig: u64,
    /// Value for this kernel; `None` if nothing matched and the kind has no value for that.
    pub new: Option<u64>,
    /// Nothing matched, and the kind needs a match.
    pub unresolved: bool,
    /// The instruction is the poison call.
    pub poisoned: bool,
    /// Whether the instruction had to hold `orig`.
    pub validate: bool,
    /// Size of the local field in bytes, 0 unless the offset of a field that is no bitfield.
    pub orig_size: u32,
    /// Size of the target's field, likewise.
    pub new_size: u32,
    /// The access width cannot follow the change of size.
    pub resize_fails: bool,
    /// First matching candidate.
    pub candidate: Option<Candidate>,
    /// Type of the target's field without modifiers, in the BTF of the candidate's shape; void unless `new_size` is
    /// meant.
    pub target_type: TypeId,
    /// The instruction afterwards: one slot, or two of an `ldimm64`.
    pub insn: InsnBytes,
}

/// Bytes of one instruction in the object's byte order: 8, or 16 of an `ldimm64`.
pub type InsnBytes = SmallVec<[u8; 16]>;

impl Decision {
    /// Whether two modules' answers come to the same thing, ids aside.
    fn agrees_with(&self, other: &Self) -> bool {
        Self { candidate: None, target_type: TypeId::VOID, ..self.clone() }
            == Self { candidate: None, target_type: TypeId::VOID, ..other.clone() }
    }
}

impl Outcome {
    /// Appends what the record comes to: the code and the bytes of the instruction, and where the answer is from.
    pub fn write_effect(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Skipped => bytes.push(0),
            Self::Fatal(error) => {
                bytes.push(1);
                bytes.extend(format!("{error:?}").bytes());
            }
            Self::Decided(decision) => {
                let reason = decision.reason.map_or(u8::MAX, |it| it as u8);
                bytes.extend([2, decision.code as u8, reason, u8::from(decision.candidate.is_some())]);
                let module = decision.candidate.and_then(|it| it.module);
                bytes.extend(module.map_or(u32::MAX, |it| it).to_le_bytes());
                // Existence queries about the same bytes may differ in what they found only.
                bytes.extend(decision.new.unwrap_or(0).to_le_bytes());
                bytes.push(u8::from(decision.poisoned));
                bytes.extend(decision.insn.len().to_le_bytes());
                bytes.extend(&decision.insn);
            }
            Self::ModuleDependent(answers) => {
                bytes.push(3);
                bytes.extend(answers.len().to_le_bytes());
                for answer in answers {
                    bytes.extend(answer.module.to_le_bytes());
                    answer.outcome.write_effect(bytes);
                }
            }
        }
    }

    fn agrees_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Decided(one), Self::Decided(two)) => one.agrees_with(two),
            _ => self == other,
        }
    }
}

/// Answers to one query, by the number of the shape.
pub type Matches = [Result<Match, ResolveError>];

/// One record, ready to be folded.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The record.
    pub reloc: &'a Reloc<'a>,
    /// What it asks by the rules of the loader.
    pub question: Result<&'a Question<'a>, ResolveError>,
    /// Which of the part's roots it is about.
    pub root: usize,
    /// What its query gives on each shape of that root; empty if it has none.
    pub matches: &'a Matches,
    /// Numbers of the programs that its function is loaded with. Looked at where candidates are scored; empty where it
    /// is judged alone.
    pub programs: SmallVec<[usize; 1]>,
    /// Its instruction; `None` if it is inside no program.
    site: Option<Site>,
}

impl<'a> Asked<'a> {
    /// A record of `object`.
    pub fn new(
        object: &Object<'a>,
        reloc: &'a Reloc<'a>,
        question: Result<&'a Question<'a>, ResolveError>,
        root: usize,
        matches: &'a Matches,
    ) -> Self {
        Self { reloc, question, root, matches, programs: SmallVec::new(), site: object.site(reloc) }
    }
}

/// Records that are folded together: those of one root, or all of an object where some touch the same instruction.
#[derive(Debug)]
pub struct Part<'a> {
    /// The loader's rules.
    pub rules: &'a Rules,
    /// Byte order of the object.
    pub endian: Endian,
    /// The records, in file order.
    pub records: Vec<Asked<'a>>,
}

/// What a part is folded over: for each of its roots, what kernels have for it.
pub struct Target<'a> {
    /// By root.
    pub views: &'a [&'a View],
    /// The id of a candidate for a root in the kernel's own BTF. Asked only for the value of `TYPE_ID_TARGET`.
    pub id_of: &'a dyn Fn(usize, Candidate) -> TypeId,
}

/// State of one fold.
struct Fold<'a> {
    part: &'a Part<'a>,
    target: &'a Target<'a>,
    /// By root: the candidates still in play, by list. Filled when a record first drops some.
    live: SmallVec<[Option<SmallVec<[Candidates; 1]>>; 1]>,
    /// Slots written by earlier records, by section and byte offset. Kept only for records that share slots.
    written: HashMap<(usize, u32), [u8; INSN_LEN]>,
    /// Where candidates are scored: which one each group of records gets.
    scores: Scores,
}

impl Part<'_> {
    /// Appends the outcomes of all records to `outcomes`. Those for which `active` does not hold are skipped and
    /// leave no trace.
    pub fn fold(
        &self,
        target: &Target<'_>,
        active: impl Fn(&Reloc<'_>) -> bool,
        outcomes: &mut Vec<Outcome>,
    ) {
        let live = target.views.iter().map(|_| None).collect();
        let scores = match self.rules.choice {
            Choice::Scored => Scores::of(self, target, &active),
            Choice::Pruned | Choice::Fresh => Scores::default(),
        };
        let mut fold = Fold { part: self, target, live, written: HashMap::new(), scores };
        for asked in &self.records {
            let reloc = asked.reloc;
            outcomes.push(match reloc.placement_error() {
                _ if !self.rules.skips_outside && reloc.program.is_none() => {
                    let (offset, why) = (reloc.insn_off, "it is inside no function");
                    Outcome::Fatal(ResolveError::BadInsnOffset { offset, why })
                }
                _ if self.rules.one_by_one && (reloc.program.is_none() || !active(reloc)) => Outcome::Skipped,
                // libbpf meets these before it looks for the program and whether it is loaded.
                Some(error) => Outcome::Fatal(error),
                None if active(reloc) => fold.record(asked),
                None => Outcome::Skipped,
            });
        }
    }

    /// Whether the outcomes depend on the ids that candidates have in a kernel.
    pub fn needs_ids(&self) -> bool {
        self.records.iter().any(|it| it.reloc.kind == Some(RelocKind::TypeIdTarget))
    }
}

impl Fold<'_> {
    fn record(&mut self, asked: &Asked<'_>) -> Outcome {
        let Some(site) = &asked.site else { return Outcome::Skipped };
        let question = match asked.question {
            Ok(question) => question,
            Err(error) => return Outcome::Fatal(error),
        };
        let reloc = asked.reloc;
        let insn = |bytes| Insn::decode(bytes, self.part.endian);
        let slots = Slots {
            first: insn(self.slot(site.section, reloc.insn_off, site.first)),
            second: site
                .second
                .map(|bytes| insn(self.slot(site.section, reloc.insn_off.wrapping_add(8), bytes))),
        };
        let outcome = match &question.query {
            None => {
                let local = question.local.map(|local| Edit { local, target: Some(local.value) });
                match local.and_then(|edit| self.decide(slots, &edit, None, Code::Exact)) {
                    Ok(decision) => Outcome::Decided(decision),
                    Err(error) => Outcome::Fatal(error),
                }
            }
            Some(_) => self.ask(asked, question.local, slots),
        };
        if reloc.shares_slots
            && let Outcome::Decided(decision) = &outcome
        {
            for (offset, bytes) in (reloc.insn_off..).step_by(INSN_LEN).zip(decision.insn.as_chunks().0) {
                self.written.insert((site.section, offset), *bytes);
            }
        }
        outcome
    }

    fn slot(&self, section: usize, offset: u32, in_file: [u8; INSN_LEN]) -> [u8; INSN_LEN] {
        if self.written.is_empty() {
            return in_file;
        }
        self.written.get(&(section, offset)).copied().unwrap_or(in_file)
    }

    /// Asks the candidates of the record's root, module by module if so wanted.
    fn ask(&mut self, asked: &Asked<'_>, local: Result<LocalValue, ResolveError>, slots: Slots) -> Outcome {
        let target = self.target;
        let Some(view) = target.views.get(asked.root) else { return Outcome::Skipped };
        let mut first: Option<Outcome> = None;
        let mut others: Vec<Outcome> = Vec::new();
        for list in 0..view.lists.len() {
            let decision = match self.part.rules.choice {
                Choice::Scored => self.ask_scored(asked, local, slots, list),
                Choice::Pruned | Choice::Fresh => self.ask_list(asked, local, slots, list),
            };
            let outcome = match decision {
                Ok(decision) => Outcome::Decided(decision),
                Err(error) => Outcome::Fatal(error),
            };
            match &first {
                None => first = Some(outcome),
                Some(_) => others.push(outcome),
            }
        }
        let Some(first) = first else { return Outcome::Skipped };
        if others.iter().all(|outcome| outcome.agrees_with(&first)) {
            return first;
        }
        let outcomes = std::iter::once(first).chain(others).zip(&view.lists);
        let by_module = outcomes.filter_map(|(outcome, list)| {
            let module = list.iter().find_map(|it| it.module)?;
            Some(ModuleOutcome { module, outcome })
        });
        Outcome::ModuleDependent(by_module.collect())
    }

    /// The candidates of a list that are still in play.
    fn live(&self, root: usize, list: usize) -> &[Candidate] {
        let full = || self.target.views.get(root).and_then(|view| view.lists.get(list));
        match self.live.get(root) {
            Some(Some(lists)) => lists.get(list),
            _ => full(),
        }
        .map_or(&[], |it| it.as_slice())
    }

    /// libbpf's `bpf_core_calc_relo_insn` and `bpf_core_patch_insn`. libbpf prunes the list on success.
    fn ask_list(
        &mut self,
        asked: &Asked<'_>,
        local: Result<LocalValue, ResolveError>,
        slots: Slots,
        list: usize,
    ) -> Result<Decision, ResolveError> {
        let reloc = asked.reloc;
        let kind = reloc.kind.ok_or(ResolveError::UnknownKind { kind: reloc.raw_kind })?;
        let live = self.live(asked.root, list);
        let mut matching: Candidates = SmallVec::new();
        let mut best: Option<(Found, Option<Value>)> = None;
        let mut furthest: Option<Missing> = None;
        for &candidate in live {
            let found = match asked.matches.get(candidate.shape as usize) {
                Some(Ok(Match::Found(found))) => found,
                Some(Ok(Match::Missing(missing))) => {
                    // The one that got furthest says why; of equals the first.
                    if furthest.is_none_or(|best| missing.depth > best.depth) {
                        furthest = Some(*missing);
                    }
                    continue;
                }
                Some(Err(error)) => return Err(*error),
                None => continue,
            };
            local?;
            let mut value = match found.value {
                // A type's size stands for the local value as well in aya, of which an error is fatal.
                Err(_) if self.part.rules.no_value_is_poison && kind != RelocKind::TypeSize => None,
                value => Some(value.map_err(ResolveError::on_target_side)?),
            };
            if let Some(value) = &mut value
                && kind == RelocKind::TypeIdTarget
            {
                value.value = (self.target.id_of)(asked.root, candidate).0.into();
            }
            match best {
                None => best = Some((*found, value)),
                Some((first, _)) if first.bit_offset != found.bit_offset => {
                    return Err(ResolveError::AmbiguousOffset {
                        first: first.bit_offset,
                        other: found.bit_offset,
                    });
                }
                Some((_, first)) => {
                    if let (Some(first), Some(value)) = (first, value)
                        && first.value != value.value
                    {
                        return Err(ResolveError::AmbiguousValue { first: first.value, other: value.value });
                    }
                }
            }
            matching.push(candidate);
        }
        let local = local?;
        if let Some((_, value)) = best {
            let code = match value {
                None => Code::NoValue,
                Some(_) if kind.is_existence_query() => Code::PresentAsQueried,
                Some(value) if value.value == local.value.value => Code::Exact,
                Some(_) => Code::Moved,
            };
            let edit = Edit { local, target: value };
            let decision = self.decide(slots, &edit, matching.first().copied(), code)?;
            if self.part.rules.choice == Choice::Pruned && matching.len() != live.len() {
                self.prune(asked.root, list, matching);
            }
            return Ok(decision);
        }
        let reason = self.why_unresolved(asked, list, furthest);
        // Queries answer 0 where there is nothing; everything else has no answer then.
        let (code, target, reason) = match kind {
            RelocKind::TypeSize | RelocKind::TypeIdTarget
                if self.part.rules.without_type == WithoutType::Error =>
            {
                return Err(ResolveError::TypeMissing);
            }
            RelocKind::TypeSize | RelocKind::TypeIdTarget => {
                (Code::ZeroAsQueried, Some(Value::plain(0)), Some(reason))
            }
            _ if kind.is_existence_query() => (Code::AbsentAsQueried, Some(Value::plain(0)), Some(reason)),
            _ => (reason, None, None),
        };
        let mut decision = self.decide(slots, &Edit { local, target }, None, code)?;
        decision.reason = reason;
        Ok(decision)
    }

    /// cilium/ebpf's `coreCalculateFixups` and `COREFixup.Apply`.
    fn ask_scored(
        &self,
        asked: &Asked<'_>,
        local: Result<LocalValue, ResolveError>,
        slots: Slots,
        list: usize,
    ) -> Result<Decision, ResolveError> {
        let candidates = self.live(asked.root, list);
        let mut fixups: SmallVec<[Option<Value>; 2]> = SmallVec::new();
        let mut furthest: Option<Missing> = None;
        for &candidate in candidates {
            fixups.push(asked.fixup_on(self.target, candidate)?);
            if let Some(Ok(Match::Missing(missing))) = asked.matches.get(candidate.shape as usize)
                && furthest.is_none_or(|best| missing.depth > best.depth)
            {
                furthest = Some(*missing);
            }
        }
        let mut decided: Option<Decision> = None;
        for choice in self.scores.of_record(asked, list) {
            let chosen = choice?.and_then(|at| Some((*candidates.get(at)?, (*fixups.get(at)?)?)));
            let is_query = asked.reloc.kind.is_some_and(RelocKind::is_existence_query);
            let decision = match chosen {
                Some((candidate, value)) => {
                    let local = local?;
                    let code = match value.value {
                        _ if is_query => Code::PresentAsQueried,
                        same if same == local.value.value => Code::Exact,
                        _ => Code::Moved,
                    };
                    let edit = Edit { local, target: Some(value) };
                    self.decide(slots, &edit, Some(candidate), code)?
                }
                None => {
                    let reason = match furthest {
                        _ if fixups.iter().any(Option::is_some) => Code::PrunedAway,
                        Some(missing) => missing.why.into(),
                        // All of them are of modules, whose ids cannot be asked for.
                        None if !candidates.is_empty() => Code::NoValue,
                        None => Code::NoType,
                    };
                    // What is poisoned is not compared with what it held.
                    let nothing = LocalValue { value: Value::plain(0), validate: false };
                    let local = if is_query { local? } else { local.unwrap_or(nothing) };
                    let target = is_query.then(|| Value::plain(0));
                    let code = if is_query { Code::AbsentAsQueried } else { reason };
                    let mut decision = self.decide(slots, &Edit { local, target }, None, code)?;
                    decision.reason = is_query.then_some(reason);
                    decision
                }
            };
            match &decided {
                None => decided = Some(decision),
                // HARDEN: a copy of the function for each program is more than a record has an answer for.
                Some(first) if !first.agrees_with(&decision) => return Err(ResolveError::ProgramDependent),
                Some(_) => {}
            }
        }
        decided.ok_or(ResolveError::ProgramDependent)
    }

    #[cold]
    fn prune(&mut self, root: usize, list: usize, matching: Candidates) {
        let Some(live) = self.live.get_mut(root) else { return };
        let full = self.target.views.get(root).map(|view| view.lists.clone()).unwrap_or_default();
        if let Some(it) = live.get_or_insert(full).get_mut(list) {
            *it = matching;
        }
    }

    fn why_unresolved(&self, asked: &Asked<'_>, list: usize, furthest: Option<Missing>) -> Code {
        let view = self.target.views.get(asked.root);
        let Some(furthest) = furthest else {
            return if view.is_some_and(|it| it.only_declared) { Code::FwdOnly } else { Code::NoType };
        };
        let live = self.live(asked.root, list);
        let all = view.and_then(|it| it.lists.get(list)).map_or(&[][..], |it| it.as_slice());
        let matches = |it: &Candidate| {
            matches!(asked.matches.get(it.shape as usize), Some(Ok(Match::Found(_)))) && !live.contains(it)
        };
        if all.iter().any(matches) { Code::PrunedAway } else { furthest.why.into() }
    }

    /// Patches the instruction and says how the record came out.
    fn decide(
        &self,
        Slots { first, second }: Slots,
        edit: &Edit,
        candidate: Option<Candidate>,
        code: Code,
    ) -> Result<Decision, ResolveError> {
        let endian = self.part.endian;
        let patched = patch_insn(self.part.rules, first, second, edit)?;
        let mut insn = InsnBytes::from_slice(&patched.first.encode(endian));
        if first.is_ldimm64()
            && let Some(second) = patched.second
        {
            insn.extend_from_slice(&second.encode(endian));
        }
        let code = match edit.target {
            Some(_) if patched.poisoned => Code::SizeUnsafe,
            Some(_) if patched.resized => Code::Resized,
            _ => code,
        };
        Ok(Decision {
            code,
            reason: None,
            orig: edit.local.value.value,
            new: edit.target.map(|target| target.value),
            unresolved: edit.target.is_none(),
            poisoned: patched.poisoned,
            validate: edit.local.validate,
            orig_size: edit.local.value.size,
            new_size: edit.target.map_or(0, |target| target.size),
            resize_fails: edit.resize_fails(),
            candidate,
            target_type: edit.target.map_or(TypeId::VOID, |target| target.type_id),
            insn,
        })
    }
}

/// The instruction as earlier records left it, and the slot behind it.
#[derive(Clone, Copy)]
struct Slots {
    first: Insn,
    second: Option<Insn>,
}
