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

use crate::error::ResolveError;
use crate::format::btf_ext::{CORE_LEN_AT, RelocKind};
use crate::format::insn::INSN_LEN;
use crate::kernel::Kernel;
use crate::object::{Object, Program, Reloc};
use crate::resolve::{Fold, Modules, Outcome};

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
    /// Numbers of the kernel's modules that the values are from, ascending.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// Number of the record in [`Object::relocs`].
    pub reloc: usize,
    /// libbpf's error, which ends the load; `None` if the answer depends on which module is loaded.
    pub fatal: Option<ResolveError>,
}

impl Unanswered {
    fn new(reloc: usize, outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Fatal(error) => Some(Self { reloc, fatal: Some(*error) }),
            Outcome::ModuleDependent(_) => Some(Self { reloc, fatal: None }),
            Outcome::Decided(_) | Outcome::Skipped => None,
        }
    }
}

/// Why there is no relocated file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A record of a program that cannot be left, or one for which libbpf does not even look for a program.
    Record(Unanswered),
    /// Instructions or records have bytes of the file in common with something else.
    // HARDEN: libbpf has a copy of each section in memory; in the file one change would show up in both.
    SharedBytes,
}

/// Decides all records of an object on a kernel, and what of its file changes by that.
///
/// With [`Optional::Relocate`], `?` programs with a record that has no answer are left and the records are
/// folded again without theirs, until no more have one.
///
/// # Errors
/// [`Obstacle`] if no file can be written that libbpf would make of the object.
pub fn plan(
    object: &Object<'_>,
    kernel: &Kernel<'_>,
    modules: Modules,
    optional: Optional,
) -> Result<Plan, Obstacle> {
    if object.shares_bytes() && !object.relocs().is_empty() {
        return Err(Obstacle::SharedBytes);
    }
    let optional_program = |reloc: &Reloc<'_>| {
        reloc.program.filter(|&it| object.programs().get(it).is_some_and(|program| !program.autoload))
    };
    let mut left = BTreeSet::new();
    if optional == Optional::Leave {
        left.extend(object.relocs().iter().filter_map(optional_program));
    }
    let mut obstacles = Vec::new();
    loop {
        let is_active = |reloc: &Reloc<'_>| reloc.program.is_none_or(|it| !left.contains(&it));
        let outcomes = Fold::new(object, kernel, modules).run(is_active);
        let (mut more, mut lasting) = (BTreeSet::new(), None);
        for (number, (reloc, outcome)) in object.relocs().iter().zip(&outcomes).enumerate() {
            let Some(obstacle) = Unanswered::new(number, outcome) else { continue };
            match optional_program(reloc).filter(|_| reloc.placement_error().is_none()) {
                Some(program) => {
                    if more.insert(program) {
                        obstacles.push(obstacle);
                    }
                }
                // It goes away if it is there because of what is now left.
                None => lasting = lasting.or(Some(obstacle)),
            }
        }
        if more.is_empty() {
            if let Some(obstacle) = lasting {
                return Err(Obstacle::Record(obstacle));
            }
            let patch = Patch::new(object, &outcomes, left);
            return Ok(Plan { patch, obstacles, modules: modules_of(&outcomes) });
        }
        left.append(&mut more);
    }
}

fn modules_of(outcomes: &[Outcome]) -> Vec<u32> {
    let module = |outcome: &Outcome| match outcome {
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
    fn new(object: &Object<'_>, outcomes: &[Outcome], left: BTreeSet<usize>) -> Self {
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
