//! Why one record came out as it did on one kernel, as data; the command line makes text of it.
//!
//! Nothing here decides anything: the fold has decided, and this looks at the same types again to find what
//! a person wants to know: how far each candidate got and what stood there instead, names that are close,
//! the struct around the field on both sides, the instruction before and after, and what libbpf would log.

mod advice;
mod disasm;
mod layout;
mod loaders;
mod log;
mod near;

pub use layout::{Layout, LayoutRow};

use crate::batch::{outcomes, questions_by};
use crate::btf::{Btf, Member, TypeId};
use crate::dialect::{Choice, Kinds, Loader, Rules, Searched};
use crate::error::ResolveError;
use crate::fleet::Modules;
use crate::format::btf::Kind;
use crate::kernel::{Candidate, Kernel};
use crate::object::{Object, Reloc};
use crate::query::{Ask, Query, Question, Root, Step};
use crate::resolve::{Budget, Match, Outcome, Why, find_place, on_candidate};
use crate::value::{Endpoint, Place};

/// Everything that there is to say about one record on one kernel.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// What became of the record.
    pub outcome: Outcome,
    /// What the program was compiled against.
    pub local: Side,
    /// What the kernel has, in the candidate that decided; `None` if nothing there comes close.
    pub target: Option<Side>,
    /// Types of the kernel that were asked, the one that got furthest first.
    pub candidates: Vec<CandidateReport>,
    /// Names close to the one that is missing, with what they are.
    pub nearest: Vec<String>,
    /// The instruction in the file.
    pub insn_before: String,
    /// The instruction afterwards; `None` if the record does not change it.
    pub insn_after: Option<String>,
    /// What was compared before patching, where that failed.
    pub validate: Option<String>,
    /// Oddities of the loader that bear on the answer.
    pub quirks: Vec<String>,
    /// What libbpf would log.
    pub log: Vec<String>,
    /// What it means, in a sentence.
    pub meaning: String,
    /// What to do next, a step each.
    pub advice: Vec<String>,
}

/// The field, type or enumerator on one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// What it is, as C declares it: `unsigned int __state`, `struct task_struct`.
    pub what: String,
    /// Offset of a field from the start of the root, in bits.
    pub bit_offset: Option<u32>,
    /// Width of a bitfield in bits, else 0.
    pub bitfield_size: u32,
    /// Size in bytes, if it has one.
    pub size: Option<u32>,
    /// The struct around a field.
    pub layout: Option<Layout>,
}

/// One type of the kernel that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CandidateReport {
    /// Its id in the kernel's own BTF.
    pub id: TypeId,
    /// Its name as C writes it, flavor included.
    pub name: String,
    /// The module that it is from; `None` is vmlinux.
    pub module: Option<String>,
    /// What came of it.
    pub state: CandidateState,
}

/// What came of asking a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CandidateState {
    /// It has what was asked for, at this bit offset and with this value.
    Matches {
        /// Offset in bits, 0 for types and enumerators.
        bit_offset: u32,
        /// Value of the relocation, or why it has none.
        value: Result<u64, ResolveError>,
    },
    /// It does not: the step of the path that failed, and what stands there instead.
    Lacks {
        /// Steps of the path that it has.
        depth: usize,
        /// The step that failed, as C writes it.
        step: String,
        /// What was found instead; empty if the candidate itself just has no such member.
        found: String,
    },
    /// Asking it ends the load.
    Fatal(ResolveError),
    /// It has it, but an earlier record of the object had dropped it: number of that record in
    /// [`Object::relocs`].
    DroppedBy(usize),
}

/// Explains record number `reloc` of [`Object::relocs`] on a kernel, as `loader` takes it. `None` if there is no such
/// record.
pub fn explain(
    object: &Object<'_>,
    kernel: &Kernel<'_>,
    loader: Loader,
    modules: Modules,
    reloc_number: usize,
) -> Option<Explanation> {
    let reloc = object.relocs().get(reloc_number)?;
    let outcomes = outcomes(loader, object, kernel, modules, |_| true);
    let outcome = outcomes.get(reloc_number)?.clone();
    let rules = Rules::of(loader, kernel.vmlinux.btf.pointer_size());
    let by_rules = if loader == Loader::Libbpf { Vec::new() } else { questions_by(&rules, object) };
    let question = by_rules.get(reloc_number).unwrap_or(&reloc.question).as_ref().ok();
    let asker =
        Asker { object, kernel, rules: &rules, question, reloc, number: reloc_number, outcomes: &outcomes };
    let mut candidates = asker.candidates();
    candidates.sort_by_key(|it| std::cmp::Reverse(rank(&it.1.state)));
    let decider = candidates.first().map(|(candidate, _)| *candidate);
    let target = decider.and_then(|it| asker.target_side(it));
    let nearest = asker.nearest(decider);
    let (insn_before, insn_after) = instructions(object, reloc, &outcome);
    let mut local = asker.local_side();
    // Where the kernel lacks a step, the program's struct is shown at that step and not at the end of the path.
    if let Some((_, CandidateReport { state: CandidateState::Lacks { depth, .. }, .. })) = candidates.first()
        && let Some(layout) = asker.local_layout(*depth)
    {
        local.layout = Some(layout);
    }
    let mut explanation = Explanation {
        local,
        target,
        candidates: candidates.into_iter().map(|(_, report)| report).collect(),
        nearest,
        insn_before,
        insn_after,
        validate: validate(&outcome),
        quirks: Vec::new(),
        log: if loader == Loader::Libbpf { log::lines(object, reloc, &outcome) } else { Vec::new() },
        meaning: String::new(),
        advice: Vec::new(),
        outcome,
    };
    explanation.quirks = advice::quirks(object, reloc, &explanation);
    explanation.quirks.extend(loaders::quirks(
        loader,
        object,
        kernel,
        modules,
        reloc_number,
        &explanation.outcome,
    ));
    (explanation.meaning, explanation.advice) = advice::advise(object, reloc, &explanation);
    Some(explanation)
}

fn rank(state: &CandidateState) -> usize {
    match state {
        CandidateState::Fatal(_) | CandidateState::Matches { .. } => usize::MAX,
        CandidateState::DroppedBy(_) => usize::MAX - 1,
        CandidateState::Lacks { depth, .. } => *depth,
    }
}

fn instructions(object: &Object<'_>, reloc: &Reloc<'_>, outcome: &Outcome) -> (String, Option<String>) {
    let before = object.insn_bytes(reloc);
    let after = match outcome {
        Outcome::Decided(decision) if decision.insn.as_slice() != before => {
            Some(disasm::insn(&decision.insn, object.endian()))
        }
        _ => None,
    };
    (disasm::insn(before, object.endian()), after)
}

fn validate(outcome: &Outcome) -> Option<String> {
    let Outcome::Fatal(ResolveError::InsnMismatch { found, expected }) = outcome else { return None };
    Some(format!(
        "the instruction holds {}, the local BTF implies {}: the object was edited or linked after compilation",
        found.cast_signed(),
        expected.cast_signed()
    ))
}

/// One record, asked again.
struct Asker<'a, 'o, 'k> {
    object: &'a Object<'o>,
    kernel: &'a Kernel<'k>,
    rules: &'a Rules,
    /// What the record asks by these rules.
    question: Option<&'a Question<'o>>,
    reloc: &'a Reloc<'o>,
    number: usize,
    outcomes: &'a [Outcome],
}

impl Asker<'_, '_, '_> {
    fn query(&self) -> Option<&Query<'_>> {
        self.question?.query.as_ref()
    }

    /// Every candidate there was at the start, with what came of it.
    fn candidates(&self) -> Vec<(Candidate, CandidateReport)> {
        let Some(query) = self.query() else { return Vec::new() };
        let all = self.listed(&query.root);
        all.into_iter()
            .map(|(candidate, id)| {
                let btf = self.kernel.btf_of(candidate);
                let module = candidate.module.and_then(|it| self.kernel.modules.get(it as usize));
                let report = CandidateReport {
                    id,
                    name: btf.type_name(candidate.id),
                    module: module.map(|it| it.name.clone()),
                    state: self.state(query, candidate, btf),
                };
                (candidate, report)
            })
            .collect()
    }

    /// Types of the root's name that the loader takes for candidates, each with its id in its BTF.
    fn listed(&self, root: &Root<'_>) -> Vec<(Candidate, TypeId)> {
        let of = |module: Option<u32>| -> Vec<(Candidate, TypeId)> {
            if self.rules.kinds == Kinds::Any {
                return self.kernel.candidates_of_any_kind(root, module);
            }
            let (candidates, ids) = match module {
                None => (self.kernel.vmlinux_candidates(root), self.kernel.vmlinux.ids(root)),
                Some(number) => {
                    let module = self.kernel.modules.get(number as usize);
                    let ids = module.map(|it| it.indexed.ids(root)).unwrap_or_default();
                    (self.kernel.candidates_in_module(root, number), ids)
                }
            };
            let is_of_kind = |candidate: &Candidate| {
                let kind = self.kernel.btf_of(*candidate).ty(candidate.id).map(|it| it.kind);
                self.rules.kinds != Kinds::Exact || kind == Some(root.kind)
            };
            candidates.into_iter().zip(ids).filter(|(candidate, _)| is_of_kind(candidate)).collect()
        };
        let modules = || (0_u32..).zip(&self.kernel.modules).flat_map(|(number, _)| of(Some(number)));
        let mut all = of(None);
        match self.rules.searched {
            Searched::Vmlinux => {}
            Searched::ModulesIfNone if !all.is_empty() => {}
            Searched::ModulesIfNone | Searched::All => all.extend(modules()),
        }
        all
    }

    fn state(&self, query: &Query<'_>, candidate: Candidate, btf: &Btf<'_>) -> CandidateState {
        let Some(kind) = self.reloc.kind else {
            return CandidateState::Fatal(ResolveError::UnknownKind { kind: self.reloc.raw_kind });
        };
        match on_candidate(self.rules, query, kind, btf, candidate.id, &mut Budget::new()) {
            Err(error) => CandidateState::Fatal(error),
            Ok(Match::Found(found)) => match self.dropped_by(candidate, btf) {
                Some(record) => CandidateState::DroppedBy(record),
                None => CandidateState::Matches {
                    bit_offset: found.bit_offset,
                    value: found.value.map(|it| it.value).map_err(ResolveError::on_target_side),
                },
            },
            Ok(Match::Missing(missing)) => {
                let (step, found) = self.failure(query, missing.why, missing.depth, candidate, btf);
                CandidateState::Lacks { depth: missing.depth, step, found }
            }
        }
    }

    /// The earlier record of the same root that matched other candidates and not this one.
    fn dropped_by(&self, candidate: Candidate, btf: &Btf<'_>) -> Option<usize> {
        if self.rules.choice != Choice::Pruned {
            return None;
        }
        self.object.relocs().iter().zip(self.outcomes).take(self.number).position(|(earlier, outcome)| {
            let matched = matches!(outcome, Outcome::Decided(it) if it.candidate.is_some());
            if earlier.type_id != self.reloc.type_id || !matched {
                return false;
            }
            let (Ok(Question { query: Some(query), .. }), Some(kind)) = (&earlier.question, earlier.kind)
            else {
                return false;
            };
            let answer = on_candidate(self.rules, query, kind, btf, candidate.id, &mut Budget::new());
            matches!(answer, Ok(Match::Missing(_)))
        })
    }

    /// The step that a candidate lacks, and what stands there instead.
    fn failure(
        &self,
        query: &Query<'_>,
        why: Why,
        depth: usize,
        candidate: Candidate,
        btf: &Btf<'_>,
    ) -> (String, String) {
        let Ask::Field(steps) = &query.ask else {
            let found = match why {
                Why::NoEnumerator => "it has no enumerator of that name".to_owned(),
                _ => format!("it is {}", describe_type(btf, candidate.id)),
            };
            return (self.object.path(self.reloc), found);
        };
        let container = container_of(steps, depth, btf, candidate.id);
        let step = match steps.get(depth) {
            Some(Step::Member { name, .. }) => format!("member `{}`", String::from_utf8_lossy(name)),
            Some(Step::Index(index)) => format!("element [{index}]"),
            Some(Step::Is(_)) | None => "the type".to_owned(),
        };
        let Some(container) = container else { return (step, "a type that cannot be followed".into()) };
        let container_name = btf.type_name(container);
        let found = match (why, steps.get(depth)) {
            (Why::NoField, _) if Some(container) == skipped(btf, candidate.id) => String::new(),
            (Why::NoField, _) => format!("{container_name} has no member of that name"),
            (Why::FieldIncompatible, Some(Step::Member { name, .. })) => {
                match find_member(btf, container, name) {
                    Some(member) => format!("{container_name} has `{}`", layout::declaration(btf, &member)),
                    None => format!("{container_name} has it with an incompatible type"),
                }
            }
            (Why::ArrayBounds, _) => format!("the kernel's array is {container_name}"),
            _ => format!("the kernel has {container_name} there, which is no array"),
        };
        (step, found)
    }

    fn local_side(&self) -> Side {
        let Some(btf) = self.object.btf() else {
            return Side::of_type(None, "nothing: the object has no BTF");
        };
        match self.query().map(|it| &it.ask) {
            Some(Ask::Field(steps)) => Side::of_field(btf, self.reloc.type_id, steps)
                .unwrap_or_else(|| Side::of_type(None, &btf.type_name(self.reloc.type_id))),
            Some(Ask::Enumerator(_)) => {
                Side::of_type(Some((btf, self.reloc.type_id)), &self.object.path(self.reloc))
            }
            _ => Side::of_type(Some((btf, self.reloc.type_id)), &btf.type_name(self.reloc.type_id)),
        }
    }

    /// The program's struct in which step number `depth` is looked for.
    fn local_layout(&self, depth: usize) -> Option<Layout> {
        let Ask::Field(steps) = &self.query()?.ask else { return None };
        let btf = self.object.btf()?;
        Side::of_field(btf, self.reloc.type_id, steps.get(..=depth)?)?.layout
    }

    /// The place in the kernel that answers, or the struct in which the search ended.
    fn target_side(&self, candidate: Candidate) -> Option<Side> {
        let btf = self.kernel.btf_of(candidate);
        match &self.query()?.ask {
            Ask::Field(steps) => {
                if let Some(side) = Side::of_field(btf, candidate.id, steps) {
                    return Some(side);
                }
                // As far as the path goes: the struct that lacks the next step, around the closest name.
                let depth =
                    (1..steps.len()).rev().find(|&it| find(steps, it, btf, candidate.id).is_some())?;
                let container = container_of(steps, depth, btf, candidate.id)?;
                let marked = match steps.get(depth) {
                    Some(Step::Member { name, .. }) => find_member(btf, container, name)
                        .or_else(|| self.successor(btf, container, depth, name).map(|(it, _)| it))
                        .map(|it| it.name_off)
                        .or_else(|| near_member(btf, container, name)),
                    _ => None,
                };
                let layout = layout::around(btf, container, |member| marked == Some(member.name_off));
                Some(Side { layout, ..Side::of_type(Some((btf, container)), &btf.type_name(container)) })
            }
            _ => Some(Side::of_type(Some((btf, candidate.id)), &btf.type_name(candidate.id))),
        }
    }

    /// Names close to what is missing: members, types or enumerators.
    fn nearest(&self, decider: Option<Candidate>) -> Vec<String> {
        let is_missing = match &self.outcomes.get(self.number) {
            Some(Outcome::Decided(it)) => it.candidate.is_none() && self.query().is_some(),
            _ => false,
        };
        let Some(query) = self.query().filter(|_| is_missing) else { return Vec::new() };
        let Some(decider) = decider else { return self.near_types(query) };
        let btf = self.kernel.btf_of(decider);
        match &query.ask {
            Ask::Field(steps) => {
                let depth = (1..steps.len()).rev().find(|&it| find(steps, it, btf, decider.id).is_some());
                let Some(depth) = depth else { return Vec::new() };
                let (Some(Step::Member { name, .. }), Some(container)) =
                    (steps.get(depth), container_of(steps, depth, btf, decider.id))
                else {
                    return Vec::new();
                };
                let shown = |(member, bit_offset): (Member, u32)| {
                    let text =
                        format!("`{}` at {}", layout::declaration(btf, &member), show_offset(bit_offset));
                    (btf.name(member.name_off).to_vec(), text)
                };
                let mut found = Vec::new();
                if let Some(successor) = self.successor(btf, container, depth, name) {
                    found.push(format!("{}, same type in the same place", shown(successor).1));
                }
                let near = near::nearest(name, members(btf, container, 0).into_iter().map(shown));
                let successor = found.first().cloned().unwrap_or_default();
                found.extend(near.into_iter().filter(|it| !successor.starts_with(it.as_str())));
                found
            }
            Ask::Enumerator(name) => {
                let Some((_, ty)) = btf.skip_mods_and_typedefs(decider.id) else { return Vec::new() };
                let names = ty.enumerators().map(|it| {
                    let name = btf.name(it.name_off).to_vec();
                    let text = format!("`{}` = {}", String::from_utf8_lossy(&name), it.value.cast_signed());
                    (name, text)
                });
                near::nearest(name, names)
            }
            _ => Vec::new(),
        }
    }

    /// The kernel's member that stands where the program has the missing one: same offset and type, and a name
    /// that the program's struct does not have.
    fn successor(
        &self,
        btf: &Btf<'_>,
        container: TypeId,
        depth: usize,
        name: &[u8],
    ) -> Option<(Member, u32)> {
        let Ask::Field(steps) = &self.query()?.ask else { return None };
        let local_btf = self.object.btf()?;
        let local_container = container_of(steps, depth, local_btf, self.reloc.type_id)?;
        let local = members(local_btf, local_container, 0);
        let (wanted, wanted_offset) = *local.iter().find(|(it, _)| local_btf.name_is(it.name_off, name))?;
        let type_name = local_btf.type_name(wanted.type_id);
        members(btf, container, 0).into_iter().find(|(it, bit_offset)| {
            *bit_offset == wanted_offset
                && btf.type_name(it.type_id) == type_name
                && !local.iter().any(|(other, _)| local_btf.name_is(other.name_off, btf.name(it.name_off)))
        })
    }

    /// Types of the kernel whose names are close to the root's, or whose kind differs.
    fn near_types(&self, query: &Query<'_>) -> Vec<String> {
        let vmlinux = &self.kernel.vmlinux;
        let btf = &vmlinux.btf;
        let all = vmlinux.types();
        let types = || all.iter().filter_map(|&(_, id)| Some((id, btf.ty(id)?)));
        let is_root = |kind: Kind| {
            kind.is_composite() || kind.is_any_enum() || matches!(kind, Kind::Typedef | Kind::Int | Kind::Fwd)
        };
        let same_name = types()
            .filter(|(_, ty)| is_root(ty.kind) && btf.name(ty.name_off) == query.root.essential)
            .map(|(id, ty)| match ty.kind {
                Kind::Fwd => format!("`{}`, which is only declared there", btf.type_name(id)),
                Kind::Typedef => format!("`typedef {}`, another kind of type", btf.type_name(id)),
                _ => format!("`{}`, another kind of type", btf.type_name(id)),
            });
        let mut found: Vec<String> = same_name.take(2).collect();
        let names = types()
            .filter(|(_, ty)| ty.kind.core_compat(query.root.kind))
            .map(|(id, ty)| (btf.name(ty.name_off).to_vec(), format!("`{}`", btf.type_name(id))));
        found.extend(near::nearest(query.root.essential, names));
        found.truncate(4);
        found
    }
}

impl Side {
    fn of_type(of: Option<(&Btf<'_>, TypeId)>, what: &str) -> Self {
        Self {
            what: what.to_owned(),
            bit_offset: None,
            bitfield_size: 0,
            size: of.and_then(|(btf, id)| btf.resolve_size(id).ok()),
            layout: None,
        }
    }

    fn of_field(btf: &Btf<'_>, root: TypeId, steps: &[Step<'_>]) -> Option<Self> {
        let place = find(steps, steps.len(), btf, root)?;
        Some(match place.end {
            Endpoint::Member { member, .. } => {
                let last_member = steps.iter().rposition(|it| matches!(it, Step::Member { .. }))?;
                let container = container_of(steps, last_member, btf, root);
                let around = container.and_then(|it| direct_container(btf, it, &member, 0));
                Self {
                    what: layout::declaration(btf, &member),
                    bit_offset: Some(place.bit_offset),
                    bitfield_size: member.bitfield_size,
                    size: btf.resolve_size(member.type_id).ok(),
                    layout: around.and_then(|it| {
                        layout::around(btf, it, |other| {
                            other.name_off == member.name_off && other.bit_offset == member.bit_offset
                        })
                    }),
                }
            }
            Endpoint::Element(id) => Self {
                bit_offset: Some(place.bit_offset),
                ..Self::of_type(Some((btf, id)), &btf.type_name(id))
            },
            _ => return None,
        })
    }
}

/// The place that the first `depth` steps lead to.
fn find(steps: &[Step<'_>], depth: usize, btf: &Btf<'_>, root: TypeId) -> Option<Place> {
    find_place(&Rules::LIBBPF, steps.get(..depth)?, btf, root, &mut Budget::new()).ok()?.ok()
}

/// The type that the first `depth` steps lead to, modifiers skipped: where step number `depth` is looked for.
fn container_of(steps: &[Step<'_>], depth: usize, btf: &Btf<'_>, root: TypeId) -> Option<TypeId> {
    let id = match find(steps, depth, btf, root)?.end {
        Endpoint::Member { member, .. } => member.type_id,
        Endpoint::Element(id) => id,
        _ => return None,
    };
    skipped(btf, id)
}

/// Depth up to which anonymous members are followed; deeper ones exist in hostile BTF only.
const ANONYMOUS_DEPTH_MAX: usize = 16;
/// Members listed of one struct, those of its anonymous members included.
const MEMBERS_MAX: usize = 4096;

/// All named members of a struct, those of anonymous members included, with their bit offsets in it.
fn members(btf: &Btf<'_>, id: TypeId, bit_offset: u32) -> Vec<(Member, u32)> {
    let mut found = Vec::new();
    let mut pending = vec![(id, bit_offset, 0)];
    while let Some((id, base, depth)) = pending.pop() {
        let Some((_, ty)) = btf.skip_mods_and_typedefs(id) else { continue };
        for member in ty.members() {
            let bit_offset = base.wrapping_add(member.bit_offset);
            if !btf.is_anonymous(member.name_off) {
                found.push((member, bit_offset));
            } else if depth < ANONYMOUS_DEPTH_MAX && pending.len() < MEMBERS_MAX {
                pending.push((member.type_id, bit_offset, depth + 1));
            }
            if found.len() >= MEMBERS_MAX {
                return found;
            }
        }
    }
    found
}

fn skipped(btf: &Btf<'_>, id: TypeId) -> Option<TypeId> {
    btf.skip_mods_and_typedefs(id).map(|(id, _)| id)
}

fn find_member(btf: &Btf<'_>, id: TypeId, name: &[u8]) -> Option<Member> {
    members(btf, id, 0).into_iter().map(|(member, _)| member).find(|it| btf.name_is(it.name_off, name))
}

/// Name offset of the member whose name is closest to `name`.
fn near_member(btf: &Btf<'_>, id: TypeId, name: &[u8]) -> Option<u32> {
    let names = members(btf, id, 0).into_iter().map(|(it, _)| (btf.name(it.name_off).to_vec(), it.name_off));
    near::nearest(name, names).first().copied()
}

/// The struct that directly contains `member`: `id` or one of its anonymous members.
fn direct_container(btf: &Btf<'_>, id: TypeId, member: &Member, depth: usize) -> Option<TypeId> {
    let (id, ty) = btf.skip_mods_and_typedefs(id)?;
    let same = |it: &Member| it.name_off == member.name_off && it.type_id == member.type_id;
    if ty.members().any(|it| same(&it)) {
        return Some(id);
    }
    if depth == ANONYMOUS_DEPTH_MAX {
        return None;
    }
    ty.members()
        .filter(|it| btf.is_anonymous(it.name_off))
        .find_map(|it| direct_container(btf, it.type_id, member, depth + 1))
}

fn describe_type(btf: &Btf<'_>, id: TypeId) -> String {
    let name = btf.type_name(id);
    match btf.ty(id).map(|ty| ty.kind) {
        Some(Kind::Typedef) => {
            let target = btf.ty(id).map(|ty| btf.type_name(ty.target())).unwrap_or_default();
            format!("`typedef {target} {name}`")
        }
        _ => format!("`{name}`"),
    }
}

/// A bit offset as bytes, with bits where it is not on a byte.
pub fn show_offset(bit_offset: u32) -> String {
    match bit_offset % 8 {
        0 => format!("byte {}", bit_offset / 8),
        bits => format!("byte {} bit {bits}", bit_offset / 8),
    }
}
