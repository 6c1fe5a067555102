//! The file of an object as it is after relocation for a kernel: loaders without CO-RE can load it there.
//!
//! Relocation changes instructions in place, so the file keeps its size and layout. These bytes change, and
//! no others:
//!
//! * instructions that records are about become what libbpf makes of them in memory, poison included. Where
//!   records share a slot, the last one's bytes stand, as there;
//! * records that are done are taken out of `.BTF.ext`: libbpf would not find the compiled values any more
//!   and give up. The others move up in their order, byte for byte, blocks without any go, and what becomes
//!   free behind them is zeroed;
//! * `core_relo_len` shrinks with them; it is 0 if no record is left. Function and line information stay.
//!
//! Records that stay:
//!
//! * those of kind `local_type_id`. Applying them again gives the same bytes, as nothing is validated, and a
//!   loader that renumbers the object's BTF needs them. One whose bytes a later record overwrote goes;
//! * all records of a program that is left as it was, see [`Optional`].
//!
//! Records inside no program go: libbpf passes over them. `.rel.BTF.ext`, which no loader reads, still says
//! where the compiler's records were. libbpf gives functions that overlap a copy each and relocates the one;
//! in the file they have their bytes in common.
//!
//! Source: `bpf_object__relocate_core`, `btf_ext_parse`, libbpf; spec sections 2, 9 and 10.

use std::collections::{BTreeMap, BTreeSet};

use crate::batch::{Aspect, Folded, Run};
use crate::drift::{Drift, Strict};
use crate::error::ResolveError;
use crate::format::btf_ext::{CORE_LEN_AT, RelocKind};
use crate::format::insn::INSN_LEN;
use crate::object::{Object, Program, Reloc};
use crate::resolve::{Code, Outcome};

/// What happens to programs in sections with a leading `?`, which libbpf loads only if told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optional {
    /// They are relocated like all others. One that cannot be is left as it was with its records, so that a
    /// loader that switches it on meets them; the others are relocated as if it were not there.
    Relocate,
    /// They are left as they were with their records.
    Leave,
}

/// How an object is relocated for a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What changes in the file. Kernels with equal patches are served by one file.
    pub patch: Patch,
    /// Records because of which `?` programs are left, the first one of each program.
    pub obstacles: Vec<Unanswered>,
    /// Modules that the values are from, ascending: numbers for [`Run::module_name`].
    pub modules: Vec<u32>,
}

/// What changes in an object's file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Patch {
    /// Slots that change: offset in the file in **bytes** and new bytes, ascending.
    slots: Vec<(usize, [u8; INSN_LEN])>,
    /// Numbers of the records that stay, ascending.
    kept: Vec<usize>,
    /// Numbers of the programs that are left as they were.
    left: BTreeSet<usize>,
}

/// A record without an answer that could be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// Number of the record in [`Object::relocs`].
    pub reloc: usize,
    /// libbpf's error, which ends the load; `None` if the answer depends on which module is loaded, or is not wanted.
    pub fatal: Option<ResolveError>,
    /// Why its answer is not wanted where bitfields are judged by their bits.
    pub drift: Option<Drift>,
}

impl Unanswered {
    fn new(reloc: usize, outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Fatal(error) => Some(Self { reloc, fatal: Some(*error), drift: None }),
            Outcome::ModuleDependent(_) => Some(Self { reloc, fatal: None, drift: None }),
            Outcome::Decided(_) | Outcome::Skipped => None,
        }
    }

    /// Stable code.
    pub fn code(&self) -> &'static str {
        match (&self.fatal, &self.drift) {
            (Some(error), _) => error.code(),
            (None, Some(drift)) => drift.rule.name(),
            (None, None) => Code::ModuleDependent.name(),
        }
    }
}

/// Why there is no relocated file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A record of a program that cannot be left, or one for which libbpf does not even look for a program.
    Record(Unanswered),
    /// Instructions or records have bytes of the file in common with something else, or an instruction of a
    /// record is what an ELF relocation is about.
    // HARDEN: libbpf has a copy of each section in memory; in the file one change would show up in both. And it
    // checks what ELF relocations are about before CO-RE changes it; in the file it would meet it changed.
    SharedBytes,
}

/// What becomes of an object on some kernels.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Numbers of the kernels, ascending.
    pub kernels: Vec<usize>,
    /// How the object is relocated for them, or why there is no file that libbpf would make of it.
    pub plan: Result<Plan, Obstacle>,
}

/// Decides all records of object number `number` on the kernels of a run, and what of its file changes by that.
/// Kernels on which it cannot be judged are in none of the results.
///
/// With [`Optional::Relocate`], `?` programs with a record that has no answer are left and the records are
/// folded again without theirs, until no more have one.
pub fn plan(run: &Run<'_>, number: usize, optional: Optional) -> Vec<Planned> {
    let Some(object) = run.object(number) else { return Vec::new() };
    let mut left = BTreeSet::new();
    if optional == Optional::Leave {
        left.extend(object.relocs().iter().filter_map(|it| optional_program(object, it)));
    }
    let strict = Strict::of(run, object, number);
    let mut done = Vec::new();
    let mut pending =
        vec![Pending { kernels: (0..run.kernel_count()).collect(), left, obstacles: Vec::new() }];
    while let Some(Pending { kernels, left, obstacles }) = pending.pop() {
        let is_active = |reloc: &Reloc<'_>| reloc.program.is_none_or(|it| !left.contains(&it));
        let folded = run.fold(number, is_active);
        for (kernels, misread) in alike(&folded, &kernels, strict.as_ref()) {
            let outcomes = kernels.first().map(|it| folded.on(*it)).unwrap_or_default();
            let plan = match judge(object, &outcomes, &misread) {
                _ if object.shares_bytes() && !object.relocs().is_empty() => Err(Obstacle::SharedBytes),
                Judged::Lasting(obstacle) => Err(Obstacle::Record(obstacle)),
                Judged::Done => Ok(Plan {
                    patch: Patch::new(object, &outcomes, left.clone()),
                    obstacles: obstacles.clone(),
                    modules: modules_of(&outcomes),
                }),
                Judged::Without(more) => {
                    let mut left = left.clone();
                    let mut obstacles = obstacles.clone();
                    for (program, obstacle) in more {
                        left.insert(program);
                        obstacles.push(obstacle);
                    }
                    pending.push(Pending { kernels, left, obstacles });
                    continue;
                }
            };
            done.push(Planned { kernels, plan });
        }
    }
    done.sort_by_key(|it| it.kernels.first().copied());
    done
}

/// Kernels whose records are to be folded once more.
struct Pending {
    kernels: Vec<usize>,
    /// Programs that are left as they were.
    left: BTreeSet<usize>,
    obstacles: Vec<Unanswered>,
}

fn optional_program(object: &Object<'_>, reloc: &Reloc<'_>) -> Option<usize> {
    reloc.program.filter(|&it| object.programs().get(it).is_some_and(|program| !program.autoload))
}

/// Records whose answers are not wanted: the first one that says so of each access.
type Misread = Vec<Unanswered>;

/// The kernels of `kernels` on which the object comes out the same, by the first of them.
fn alike(
    folded: &Folded<'_>,
    kernels: &[usize],
    strict: Option<&Strict<'_, '_>>,
) -> Vec<(Vec<usize>, Misread)> {
    let classes = folded.classes(Aspect::Effect);
    let mut by_class: BTreeMap<u32, Vec<(Vec<usize>, Misread)>> = BTreeMap::new();
    for &kernel in kernels {
        let Some(class) = classes.of.get(kernel).copied().flatten() else { continue };
        // The same bytes may read a field on one kernel and something else on another.
        let misread = strict.map(|it| misread(it, folded, kernel)).unwrap_or_default();
        let of_class = by_class.entry(class).or_default();
        match of_class.iter_mut().find(|it| it.1 == misread) {
            Some((kernels, _)) => kernels.push(kernel),
            None => of_class.push((vec![kernel], misread)),
        }
    }
    by_class.into_values().flatten().collect()
}

fn misread(strict: &Strict<'_, '_>, folded: &Folded<'_>, kernel: usize) -> Misread {
    let of_record = |&reloc: &usize| {
        let drifts = strict.drifts(reloc, &|record| folded.outcome(record, kernel), kernel);
        Some(Unanswered { reloc, fatal: None, drift: Some(drifts.into_iter().next()?) })
    };
    strict.records().iter().filter_map(of_record).collect()
}

enum Judged {
    /// Every record has an answer.
    Done,
    /// These programs have a record without one, and can be left.
    Without(Vec<(usize, Unanswered)>),
    /// A record without an answer that cannot be left.
    Lasting(Unanswered),
}

fn judge(object: &Object<'_>, outcomes: &[&Outcome], misread: &[Unanswered]) -> Judged {
    let (mut more, mut lasting) = (BTreeMap::new(), None);
    for (number, (reloc, outcome)) in object.relocs().iter().zip(outcomes).enumerate() {
        let misread = misread.iter().find(|it| it.reloc == number);
        let Some(obstacle) = Unanswered::new(number, outcome).or(misread.cloned()) else { continue };
        match optional_program(object, reloc).filter(|_| reloc.placement_error().is_none()) {
            Some(program) => {
                more.entry(program).or_insert(obstacle);
            }
            // It goes away if it is there because of what can be left.
            None => lasting = lasting.or(Some(obstacle)),
        }
    }
    if !more.is_empty() {
        let mut more: Vec<_> = more.into_iter().collect();
        more.sort_by_key(|(_, obstacle)| obstacle.reloc);
        return Judged::Without(more);
    }
    lasting.map_or(Judged::Done, Judged::Lasting)
}

fn modules_of(outcomes: &[&Outcome]) -> Vec<u32> {
    let module = |outcome: &&Outcome| match outcome {
        Outcome::Decided(decision) => decision.candidate?.module,
        _ => None,
    };
    outcomes.iter().filter_map(module).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Slots that a record writes: where in the file, and what.
fn writes<'a>(
    object: &Object<'_>,
    reloc: &Reloc<'_>,
    outcome: &'a Outcome,
) -> impl Iterator<Item = (usize, [u8; INSN_LEN])> + use<'a> {
    let program = reloc.program.and_then(|it| object.programs().get(it));
    let at = program.and_then(|it| object.place_in_file(it, reloc.insn_off.into()));
    let slots: &[[u8; INSN_LEN]] = match outcome {
        Outcome::Decided(decision) => decision.insn.as_chunks().0,
        _ => &[],
    };
    at.into_iter().flat_map(move |at| (at..).step_by(INSN_LEN).zip(slots.iter().copied()))
}

impl Patch {
    fn new(object: &Object<'_>, outcomes: &[&Outcome], left: BTreeSet<usize>) -> Self {
        let records = || object.relocs().iter().zip(outcomes);
        let mut slots: BTreeMap<_, _> =
            records().flat_map(|(reloc, outcome)| writes(object, reloc, outcome)).collect();
        let kept = records()
            .enumerate()
            .filter(|(_, (reloc, outcome))| match reloc.program {
                Some(program) if left.contains(&program) => true,
                Some(_) if reloc.kind == Some(RelocKind::TypeIdLocal) => {
                    writes(object, reloc, outcome).all(|(at, bytes)| slots.get(&at) == Some(&bytes))
                }
                _ => false,
            })
            .map(|(number, _)| number)
            .collect();
        slots.retain(|&at, bytes| object.file().get(at..at + INSN_LEN) != Some(bytes));
        Self { slots: slots.into_iter().collect(), kept, left }
    }

    /// The file after relocation.
    pub fn apply(&self, object: &Object<'_>) -> Vec<u8> {
        let mut file = object.file().to_vec();
        for (at, bytes) in &self.slots {
            write(&mut file, *at, bytes);
        }
        if let Some((part, ext_at)) = object.core_part() {
            let mut records = part.keeping(|number| self.kept.binary_search(&number).is_ok());
            // It does not get longer, and it was a u32 before.
            let len = u32::try_from(records.len()).unwrap_or(u32::MAX);
            write(&mut file, ext_at + CORE_LEN_AT, &part.endian.u32_bytes(len));
            records.resize(part.data.len(), 0);
            write(&mut file, ext_at + part.at, &records);
        }
        file
    }

    /// Slots that change: offset in the file in **bytes** and new bytes, ascending.
    pub(crate) fn slots(&self) -> &[(usize, [u8; INSN_LEN])] {
        &self.slots
    }

    /// Whether program number `program` of the object is left as it was, with its records.
    pub fn leaves(&self, program: usize) -> bool {
        self.left.contains(&program)
    }
}

/// Overwrites bytes of the file from `at` on. All places are within sections that were read.
fn write(file: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = file.get_mut(at..).and_then(|tail| tail.get_mut(..bytes.len())) {
        place.copy_from_slice(bytes);
    }
}

/// Instructions that are loaded with program number `program`: those of each of its
/// [linked functions](Object::linked_functions), in that order, from `file`, a relocated file of `object`.
pub fn instructions<'file>(object: &Object<'_>, file: &'file [u8], program: usize) -> Vec<&'file [u8]> {
    let body = |program: &Program<'_>| {
        let len = usize::try_from(program.len).ok()?;
        file.get(object.place_in_file(program, program.offset)?..)?.get(..len)
    };
    let functions = object.linked_functions(program);
    functions.into_iter().filter_map(|it| body(object.programs().get(it)?)).collect()
}
