//! Synthetic kernels: a real one, and step by step what the next releases might have changed.
//!
//! What happens to a name is drawn from the seed, the version and the name. Flavours of a version thus change alike,
//! as real ones do, and share their new layouts. What belongs to one kernel only, its configuration and the
//! order of its types, is drawn from the seed and the kernel's number.

use std::collections::{BTreeMap, HashSet};

use btfleet_engine::btf::NameHash;
use btfleet_engine::format::btf::Kind;

use super::btf_edit::{Member, Model, Record};
use super::inputs::{Release, Step};
use super::layout::Containers;
use super::members::{Basics, Editor};
use super::rates::{self, Rates};
use super::rng::{self, Rng};

/// Changes of a first descendant, as a part of those from one real kernel to the next.
const NEAREST: f64 = 0.6;

/// How many of each change were made, by name of the change.
pub(super) type Counts = BTreeMap<&'static str, u64>;

/// A kernel on its way from a real one to its synthetic successors.
#[derive(Debug)]
pub(super) struct Lineage<'a> {
    rates: &'a Rates,
    seed: u64,
    model: Model,
    /// The types that are written, in this order.
    order: Vec<u32>,
    basics: Basics,
    release: Release,
    depth: u64,
    counts: Counts,
}

impl<'a> Lineage<'a> {
    /// Starts at a real kernel. `order` names the types of `model` that count.
    ///
    /// `None` if it lacks the types that every kernel has: `int`, `long`, a pointer to void.
    pub(super) fn new(
        rates: &'a Rates,
        seed: u64,
        model: Model,
        order: Vec<u32>,
        release: Release,
    ) -> Option<Self> {
        let basics = basics(&model)?;
        Some(Self { rates, seed, model, order, basics, release, depth: 0, counts: Counts::new() })
    }

    /// Goes a step on; what was done, and the release that it has now.
    pub(super) fn advance(&mut self, number: u64) -> (Step, &Release, &Counts) {
        self.depth += 1;
        let version = self.release.version();
        let version = NameHash::of(version.as_bytes()).0;
        // Drawn per version, so that all its flavours take the same step.
        let key = Rng::of(self.seed, &[1, version, self.depth]).next();
        let own = Rng::of(self.seed, &[2, number]).next();
        let step = self.step_kind(key);
        self.declared(step, key);
        self.add_types(step, key, own);
        self.add_typedefs(own);
        self.toggle_configuration(step, own);
        self.functions(step, key, number);
        self.shuffle(own);
        self.release = self.release.after(step);
        (step, &self.release, &self.counts)
    }

    /// The kernel as raw BTF.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut order = self.order.clone();
        if self.model.sorted {
            order.sort_by_cached_key(|&id| self.model.get(id).map(|it| self.model.text(it.name).to_vec()));
        }
        self.model.write_ordered(&order)
    }

    fn count(&mut self, what: &'static str, by: u64) {
        if by > 0 {
            *self.counts.entry(what).or_default() += by;
        }
    }

    /// Next to a real kernel is a patch release; further on, kinds of steps are about as frequent as among the real
    /// kernels.
    fn step_kind(&self, key: u64) -> Step {
        if self.depth <= 1 {
            return Step::Patch;
        }
        let all: f64 = Step::ALL.iter().map(|&it| self.rates.steps(it)).sum();
        let mut rng = Rng::new(key);
        let share = |step| if all > 0.0 { self.rates.steps(step) / all } else { 0.0 };
        if rng.chance(share(Step::LongTerm).min(0.05)) {
            Step::LongTerm
        } else if rng.chance(share(Step::Minor).clamp(0.02, 0.3)) {
            Step::Minor
        } else {
            Step::Patch
        }
    }

    /// Changes and removes structs, unions and enums at the rates of their names.
    fn declared(&mut self, step: Step, key: u64) {
        // The real kernels are several patch releases apart, the first descendant is one from its origin.
        let scale = if self.depth <= 1 { NEAREST } else { 1.0 };
        let mut seen = HashSet::new();
        let mut changes = Vec::new();
        for &id in &self.order {
            let Some(record) = self.model.get(id) else { continue };
            let (kind, name) = (record.kind(), self.model.text(record.name));
            if !(kind.is_composite() || kind.is_any_enum()) || name.is_empty() || record.tail.is_empty() {
                continue;
            }
            let name = rates::key(kind, name);
            if !seen.insert(name) {
                continue;
            }
            let (changed, gone) = self.rates.of_name(step, name);
            let (changed, gone) = (changed * scale, gone * scale);
            let mut rng = Rng::of(key, &[name]);
            let goes = rng.chance(gone);
            if goes || rng.chance(changed) {
                changes.push((id, goes, rng));
            }
        }
        let containers = Containers::of(&self.model);
        for (id, goes, mut rng) in changes {
            if goes {
                self.remove_type(&containers, id);
                continue;
            }
            let edits = match step {
                Step::Patch => 1,
                Step::Minor => 1 + rng.below(3),
                Step::LongTerm => 2 + rng.below(6),
            };
            let first_new = self.model.end();
            let mut editor = Editor { model: &mut self.model, containers: &containers, basics: self.basics };
            let done: Vec<_> = (0..edits).filter_map(|_| editor.change(id, &mut rng)).collect();
            for what in done {
                self.count(what.name(), 1);
            }
            self.place_from(first_new, &mut rng);
        }
    }

    /// Takes a name away: the type stays as a declaration if nothing contains it, else under another name.
    fn remove_type(&mut self, containers: &Containers, id: u32) {
        let contained = containers.around(id).next().is_some();
        let Some(record) = self.model.get(id) else { return };
        let mut record = record.clone();
        if record.kind().is_composite() && !contained {
            let flag = u32::from(record.kind() == Kind::Union) << 31;
            record = Record { info: flag | 7 << 24, word: 0, tail: Vec::new(), ..record };
        } else {
            let name = [self.model.text(record.name), b"_core"].concat();
            record.name = self.model.string(&name);
        }
        if let Some(slot) = self.model.get_mut(id) {
            *slot = record;
        }
        self.count("types_removed", 1);
    }

    /// Adds structs, some of them seen from an old struct through a pointer.
    fn add_types(&mut self, step: Step, key: u64, own: u64) {
        let mut rng = Rng::of(key, &[3]);
        let (added, _, _) = self.rates.additions(step);
        let count = rng.count(added * self.share());
        let first_new = self.model.end();
        for _ in 0..count {
            let name = rng::name(&mut rng, 3);
            let name = self.model.string(name.as_bytes());
            let mut tail = Vec::new();
            let members = 2 + rng.below(9);
            for (offset, _) in (0_u32..).step_by(64).zip(0..members) {
                let member = rng::name(&mut rng, 2);
                let ty = if rng.chance(0.5) { self.basics.long } else { self.basics.pointer };
                tail.extend([self.model.string(member.as_bytes()), ty, offset]);
            }
            let size = u32::try_from(8 * members).unwrap_or(0);
            self.model.push(Record::new(name, 4, size, tail, 3));
        }
        self.count("types_added", count as u64);
        self.place_from(first_new, &mut Rng::of(own, &[3]));
    }

    /// Gives some integer members a typedef as their type, which no relocation sees.
    fn add_typedefs(&mut self, own: u64) {
        let mut rng = Rng::of(own, &[4]);
        let first_new = self.model.end();
        for _ in 0..1 + rng.below(3) {
            let name = rng::name(&mut rng, 2) + "_t";
            let name = self.model.string(name.as_bytes());
            let typedef = self.model.push(Record::new(name, 8, self.basics.int, Vec::new(), 0));
            for _ in 0..20 {
                let Some(&id) = rng.pick(&self.order) else { break };
                let basic = self.basics.int;
                let Some(record) = self.model.get_mut(id) else { continue };
                let mut members: Vec<Member> = record.members().collect();
                let Some(member) = members.iter_mut().find(|it| it.ty == basic) else { continue };
                member.ty = typedef;
                record.set_members(&members);
            }
        }
        let count = u64::from(self.model.end() - first_new);
        self.count("typedefs_added", count);
        self.place_from(first_new, &mut rng);
    }

    /// Switches off a part of the kernel: types whose names begin alike become declarations, and members of their
    /// types vanish elsewhere.
    fn toggle_configuration(&mut self, step: Step, own: u64) {
        const TYPES_MAX: usize = 20;
        const MEMBERS_MAX: usize = 12;
        let mut rng = Rng::of(own, &[5]);
        let chance = match step {
            Step::Patch => 0.02,
            Step::Minor => 0.2,
            Step::LongTerm => 0.5,
        };
        if !rng.chance(chance) {
            return;
        }
        let prefix = (0..200).find_map(|_| {
            let record = self.model.get(*rng.pick(&self.order)?)?;
            let name = self.model.text(record.name);
            let end = memchr::memchr(b'_', name).filter(|&end| end >= 3)?;
            record.kind().is_composite().then(|| name.get(..=end).map(<[u8]>::to_vec))?
        });
        let Some(prefix) = prefix else { return };
        let is_part = |model: &Model, id: u32| {
            model
                .get(id)
                .is_some_and(|it| model.text(it.name).starts_with(&prefix) && it.kind().is_composite())
        };
        let containers = Containers::of(&self.model);
        let mut leaving = Vec::new();
        let mut going = Vec::new();
        for &id in &self.order {
            if is_part(&self.model, id) {
                if going.len() < TYPES_MAX && containers.around(id).next().is_none() {
                    going.push(id);
                }
                continue;
            }
            let Some(record) = self.model.get(id) else { continue };
            let points = |it: &Member| {
                let ty = self.model.skip(it.ty);
                let pointed = self.model.get(ty).filter(|it| it.kind() == Kind::Ptr).map(|it| it.word);
                is_part(&self.model, pointed.map_or(ty, |it| self.model.skip(it)))
            };
            if leaving.len() < MEMBERS_MAX
                && let Some(index) = record.members().position(|it| it.width == 0 && points(&it))
            {
                leaving.push((id, index));
            }
        }
        for id in going {
            self.remove_type(&containers, id);
        }
        let mut editor = Editor { model: &mut self.model, containers: &containers, basics: self.basics };
        let gone = leaving.into_iter().filter(|&(id, index)| editor.remove_member(id, index)).count();
        self.count("members_removed", gone as u64);
        self.count("configurations_toggled", 1);
    }

    /// Adds and removes functions. One is named after the kernel's number: no two kernels are equal.
    fn functions(&mut self, step: Step, key: u64, number: u64) {
        let mut rng = Rng::of(key, &[6]);
        let (_, added, gone) = self.rates.additions(step);
        let share = self.share();
        let (added, gone) = (rng.count(added * share), rng.count(gone * share));
        let is_func = |id: &u32| self.model.get(*id).is_some_and(|it| it.kind() == Kind::Func);
        let funcs: Vec<u32> = self.order.iter().copied().filter(is_func).collect();
        // A tag, or a section of functions, has to find what it belongs to.
        let mut tagged = HashSet::new();
        for (_, record) in self.model.types() {
            match record.kind() {
                Kind::DeclTag => {
                    tagged.insert(record.word);
                }
                Kind::Datasec => tagged.extend(record.tail.iter().step_by(3)),
                _ => {}
            }
        }
        let mut dropped: HashSet<u32> = HashSet::new();
        for _ in 0..gone {
            dropped.extend(rng.pick(&funcs).filter(|id| !tagged.contains(*id)));
        }
        self.order.retain(|id| !dropped.contains(id));
        self.count("functions_removed", dropped.len() as u64);
        let first_new = self.model.end();
        for index in 0..=added {
            let Some(model) = rng.pick(&funcs).and_then(|&id| self.model.get(id)).cloned() else { break };
            let name = match index {
                0 => format!("{}_synth{number}", rng::name(&mut rng, 2)),
                _ => rng::name(&mut rng, 3),
            };
            let name = self.model.string(name.as_bytes());
            self.model.push(Record { name, ..model });
        }
        let count = u64::from(self.model.end() - first_new);
        self.count("functions_added", count);
        self.place_from(first_new, &mut rng);
    }

    /// Moves types around among their neighbours, so that ids differ.
    fn shuffle(&mut self, own: u64) {
        const WINDOW: usize = 32;
        let mut rng = Rng::of(own, &[7]);
        for _ in 0..1 + self.order.len() / 2000 {
            let start = rng.below(self.order.len());
            let by = 1 + rng.below(WINDOW - 1);
            if let Some(window) = self.order.get_mut(start..start.saturating_add(WINDOW)) {
                window.rotate_left(by);
            }
        }
    }

    /// Gives all types from `first` on a place in the order.
    fn place_from(&mut self, first: u32, rng: &mut Rng) {
        for id in first..self.model.end() {
            let at = rng.below(self.order.len() + 1);
            self.order.insert(at, id);
        }
    }

    /// Part of the original types that is left after trimming.
    fn share(&self) -> f64 {
        self.order.len() as f64 / f64::from(self.model.end().max(1))
    }
}

fn basics(model: &Model) -> Option<Basics> {
    let find = |wanted: &dyn Fn(&Record) -> bool| model.types().find(|(_, it)| wanted(it)).map(|(id, _)| id);
    let int = |name: &'static [u8]| move |it: &Record| it.kind() == Kind::Int && model.text(it.name) == name;
    Some(Basics {
        int: find(&int(b"unsigned int"))?,
        long: find(&int(b"long unsigned int"))?,
        pointer: find(&|it| it.kind() == Kind::Ptr && it.word == 0)?,
    })
}
