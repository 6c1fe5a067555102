//! The records of one object in order, on one kernel, as a loader relocates them.
//!
//! In the `libbpf` dialect candidates are listed once for each local root type id, and every record that some of
//! them match drops the others for good (QUIRK, spec 5.4). So an answer depends on the records before it, and
//! records are folded in file order. After a fatal record libbpf stops; here the later ones are answered as if the
//! record had not been there.
//!
//! In the `kernel` dialect every record starts with a fresh list. Programs are loaded one by one there, so a fatal
//! record ends the load of its own program only, and a record inside no program is never handed to the kernel.
//!
//! Source: `bpf_object__relocate_core`, `bpf_core_calc_relo_insn`, libbpf; `bpf_core_apply`, Linux; spec
//! sections 8 and 11.

use hashbrown::HashMap;
use smallvec::{SmallVec, smallvec};

use super::{Budget, Found, Match, Missing, Why, on_candidate};
use crate::btf::TypeId;
use crate::dialect::{Loader, Rules};
use crate::error::ResolveError;
use crate::format::btf_ext::RelocKind;
use crate::format::insn::{INSN_LEN, Insn};
use crate::kernel::{Candidate, Candidates, Kernel};
use crate::object::{Object, Reloc};
use crate::patch::{Edit, patch_insn};
use crate::query::{self, Query, Question};
use crate::value::Value;

/// How modules are looked at when vmlinux lacks a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modules {
    /// Each providing module is judged alone, as if only it were loaded.
    Each,
    /// All are loaded, in their order: what libbpf does on a running system.
    All,
}

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
    /// A candidate that would match was dropped by an earlier record of the object.
    PrunedAway,
    /// Modules disagree.
    ModuleDependent,
}

impl Code {
    /// Every code, in the order of their declaration.
    pub const ALL: [Self; 16] = [
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
    /// Number of the module in the kernel.
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
    /// Type of the target's field without modifiers, in the candidate's BTF; void unless `new_size` is meant.
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
    fn agrees_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Decided(one), Self::Decided(two)) => one.agrees_with(two),
            _ => self == other,
        }
    }
}

/// Candidates of one local root: those there were, and those still in play.
#[derive(Debug)]
struct List {
    all: Candidates,
    live: Candidates,
}

/// Folds one object's records over one kernel.
pub struct Fold<'a, 'data> {
    object: &'a Object<'data>,
    kernel: &'a Kernel<'a>,
    modules: Modules,
    rules: Rules,
    /// By root slot: the lists to ask. More than one only where modules are judged each alone.
    lists: Vec<Option<SmallVec<[List; 1]>>>,
    /// Slots written by earlier records, by section and byte offset. Kept only for records that share slots.
    written: HashMap<(usize, u32), [u8; INSN_LEN]>,
    budget: Budget,
}

impl<'a, 'data> Fold<'a, 'data> {
    /// Starts with full candidate lists and the instructions as in the file, by libbpf's rules.
    pub fn new(object: &'a Object<'data>, kernel: &'a Kernel<'a>, modules: Modules) -> Self {
        Self::by(Loader::Libbpf, object, kernel, modules)
    }

    /// The same by the rules of any loader.
    pub fn by(loader: Loader, object: &'a Object<'data>, kernel: &'a Kernel<'a>, modules: Modules) -> Self {
        let rules = Rules::of(loader, kernel.vmlinux.btf.pointer_size());
        let lists = (0..object.root_count()).map(|_| None).collect();
        Self { object, kernel, modules, rules, lists, written: HashMap::new(), budget: Budget::new() }
    }

    /// Folds all records for which `active` holds; the others are skipped and leave no trace.
    pub fn run(mut self, active: impl Fn(&Reloc<'data>) -> bool) -> Vec<Outcome> {
        let object = self.object;
        object
            .relocs()
            .iter()
            .map(|reloc| match reloc.placement_error() {
                _ if self.rules.in_kernel && (reloc.program.is_none() || !active(reloc)) => Outcome::Skipped,
                // libbpf meets these before it looks for the program and whether it is loaded.
                Some(error) => Outcome::Fatal(error),
                None if active(reloc) => self.record(reloc),
                None => Outcome::Skipped,
            })
            .collect()
    }

    /// Decides one record; records have to come in file order.
    fn record(&mut self, reloc: &Reloc<'data>) -> Outcome {
        self.budget.next_record();
        let Some(site) = self.object.site(reloc) else { return Outcome::Skipped };
        let own;
        let question = match &reloc.question {
            // What the record asks was computed by libbpf's rules.
            _ if self.rules.in_kernel => {
                own = self.question_in_kernel(reloc);
                &own
            }
            question => question,
        };
        let question = match question {
            Ok(question) => question,
            Err(error) => return Outcome::Fatal(*error),
        };
        let slots = Slots {
            first: self.slot(site.section, reloc.insn_off, site.first),
            second: site.second.map(|bytes| self.slot(site.section, reloc.insn_off + 8, bytes)),
        };
        let outcome = match &question.query {
            None => {
                let local = question.local.map(|local| Edit { local, target: Some(local.value) });
                match local.and_then(|edit| self.decide(slots, &edit, None, Code::Exact)) {
                    Ok(decision) => Outcome::Decided(decision),
                    Err(error) => Outcome::Fatal(error),
                }
            }
            Some(query) => self.ask(reloc, question, query, slots),
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

    fn question_in_kernel(&self, reloc: &Reloc<'data>) -> Result<Question<'data>, ResolveError> {
        if reloc.kind == Some(RelocKind::TypeMatches) && !self.rules.type_matches {
            return Err(ResolveError::UnknownKind { kind: reloc.raw_kind });
        }
        let btf = self.object.btf().ok_or(ResolveError::LocalTypeUnusable)?;
        query::parse(&self.rules, btf, reloc.type_id, reloc.access, reloc.raw_kind)
    }

    fn slot(&self, section: usize, offset: u32, in_file: [u8; INSN_LEN]) -> [u8; INSN_LEN] {
        if self.written.is_empty() {
            return in_file;
        }
        self.written.get(&(section, offset)).copied().unwrap_or(in_file)
    }

    /// Asks the candidates of the record's root, module by module if so wanted.
    fn ask(
        &mut self,
        reloc: &Reloc<'data>,
        question: &Question<'data>,
        query: &Query<'data>,
        slots: Slots,
    ) -> Outcome {
        let slot = reloc.root_slot as usize;
        let mut lists = match self.lists.get_mut(slot).and_then(Option::take) {
            Some(lists) => lists,
            None => self.candidate_lists(reloc, query),
        };
        let mut outcomes: SmallVec<[(Option<u32>, Outcome); 1]> = lists
            .iter_mut()
            .map(|list| {
                let module = list.all.first().and_then(|candidate| candidate.module);
                let outcome = match self.ask_list(reloc, question, query, slots, list) {
                    Ok(decision) => Outcome::Decided(decision),
                    Err(error) => Outcome::Fatal(error),
                };
                (module, outcome)
            })
            .collect();
        if let Some(entry) = self.lists.get_mut(slot) {
            *entry = Some(lists);
        }
        let (_, first) = outcomes.swap_remove(0);
        if outcomes.iter().all(|(_, outcome)| outcome.agrees_with(&first)) {
            return first;
        }
        // `swap_remove` moved the last one to the front; the answers are wanted in the modules' order.
        let first_module = self.lists.get(slot).and_then(|it| it.as_ref()?.first()?.all.first()?.module);
        outcomes.push((first_module, first));
        let mut outcomes: Vec<_> = outcomes
            .into_iter()
            .filter_map(|(module, outcome)| Some(ModuleOutcome { module: module?, outcome }))
            .collect();
        outcomes.sort_by_key(|it| it.module);
        Outcome::ModuleDependent(outcomes)
    }

    /// The lists that a root starts with: one, but for modules that are judged each alone.
    fn candidate_lists(&self, reloc: &Reloc<'data>, query: &Query<'_>) -> SmallVec<[List; 1]> {
        let list = |all: Candidates| List { live: all.clone(), all };
        let vmlinux = self.of_root_kind(reloc, self.kernel.vmlinux_candidates(&query.root));
        if !vmlinux.is_empty() || self.kernel.modules.is_empty() {
            return smallvec![list(vmlinux)];
        }
        let by_module = self
            .kernel
            .module_candidates(&query.root)
            .map(|candidates| self.of_root_kind(reloc, candidates))
            .filter(|candidates| !candidates.is_empty());
        let lists: SmallVec<[List; 1]> = match self.modules {
            Modules::Each => by_module.map(list).collect(),
            Modules::All => smallvec![list(by_module.flatten().collect())],
        };
        if lists.is_empty() { smallvec![list(Candidates::new())] } else { lists }
    }

    /// In the kernel an ENUM is no candidate for an ENUM64, nor the other way round.
    fn of_root_kind(&self, reloc: &Reloc<'data>, mut candidates: Candidates) -> Candidates {
        if self.rules.in_kernel
            && let Some(local) = self.object.btf().and_then(|btf| btf.ty(reloc.type_id))
        {
            let kind = |it: Candidate| self.kernel.btf_of(it).ty(it.id).map(|ty| ty.kind);
            candidates.retain(|it| kind(*it) == Some(local.kind));
        }
        candidates
    }

    /// libbpf's `bpf_core_calc_relo_insn` and `bpf_core_patch_insn`. libbpf prunes the list on
    /// success.
    fn ask_list(
        &mut self,
        reloc: &Reloc<'data>,
        question: &Question<'data>,
        query: &Query<'data>,
        slots: Slots,
        list: &mut List,
    ) -> Result<Decision, ResolveError> {
        let kind = reloc.kind.ok_or(ResolveError::UnknownKind { kind: reloc.raw_kind })?;
        let mut matching = Candidates::new();
        let mut best: Option<(Found, Value)> = None;
        let mut furthest: Option<Missing> = None;
        for &candidate in &list.live {
            let found = match self.on_candidate(query, kind, candidate)? {
                Match::Found(found) => found,
                Match::Missing(missing) => {
                    // The one that got furthest says why; of equals the first.
                    if furthest.is_none_or(|best| missing.depth > best.depth) {
                        furthest = Some(missing);
                    }
                    continue;
                }
            };
            question.local?;
            let value = found.value.map_err(ResolveError::on_target_side)?;
            match best {
                None => best = Some((found, value)),
                Some((first, _)) if first.bit_offset != found.bit_offset => {
                    return Err(ResolveError::AmbiguousOffset {
                        first: first.bit_offset,
                        other: found.bit_offset,
                    });
                }
                Some((_, first)) if first.value != value.value => {
                    return Err(ResolveError::AmbiguousValue { first: first.value, other: value.value });
                }
                Some(_) => {}
            }
            matching.push(candidate);
        }
        let local = question.local?;
        if let Some((_, value)) = best {
            let code = match kind.is_existence_query() {
                true => Code::PresentAsQueried,
                false if value.value == local.value.value => Code::Exact,
                false => Code::Moved,
            };
            let edit = Edit { local, target: Some(value) };
            let decision = self.decide(slots, &edit, matching.first().copied(), code)?;
            if !self.rules.in_kernel {
                list.live = matching;
            }
            return Ok(decision);
        }
        let reason = self.why_unresolved(query, kind, list, furthest);
        // Queries answer 0 where there is nothing; everything else has no answer then.
        let (code, target, reason) = match kind {
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

    fn on_candidate(
        &mut self,
        query: &Query<'_>,
        kind: RelocKind,
        candidate: Candidate,
    ) -> Result<Match, ResolveError> {
        on_candidate(&self.rules, query, kind, self.kernel.btf_of(candidate), candidate.id, &mut self.budget)
    }

    fn why_unresolved(
        &mut self,
        query: &Query<'_>,
        kind: RelocKind,
        list: &List,
        furthest: Option<Missing>,
    ) -> Code {
        let Some(furthest) = furthest else {
            return if self.kernel.only_declares(&query.root) { Code::FwdOnly } else { Code::NoType };
        };
        let dropped = list.all.iter().filter(|candidate| !list.live.contains(candidate));
        let mut would_match = dropped
            .map(|&candidate| matches!(self.on_candidate(query, kind, candidate), Ok(Match::Found(_))));
        if would_match.any(|it| it) { Code::PrunedAway } else { furthest.why.into() }
    }

    /// Patches the instruction and says how the record came out.
    fn decide(
        &self,
        slots: Slots,
        edit: &Edit,
        candidate: Option<Candidate>,
        code: Code,
    ) -> Result<Decision, ResolveError> {
        let endian = self.object.endian();
        let first = Insn::decode(slots.first, endian);
        let second = slots.second.map(|bytes| Insn::decode(bytes, endian));
        let patched = patch_insn(&self.rules, first, second, edit)?;
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
    first: [u8; INSN_LEN],
    second: Option<[u8; INSN_LEN]>,
}
