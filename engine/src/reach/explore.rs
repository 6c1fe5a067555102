//! Follows paths, keeps those apart that differ, and notes what is reached.

use std::cell::Cell;

use hashbrown::{HashMap, HashSet};
use smallvec::SmallVec;

use super::live;
use super::scalar::Sources;
use super::state::{Assumption, State, Value};
use super::{Guard, Path, Question, Reach, Reached, Source, Turn};
use crate::object::Reference;

/// The branch that stands for a release before 6.8.
const OLD_RELEASE: usize = usize::MAX;
/// Bits of [`Sources`]; what comes after shares the last.
const SOURCES_MAX: usize = 64;

/// Frames of states that are remembered: about 1 KiB each.
const FRAMES_KNOWN_MAX: usize = 60_000;
/// Branches that are told of all paths, and of one path after that many.
const TURNS_MAX: usize = 1 << 20;
const TURNS_AT_LEAST: usize = 16;
/// Slots that are looked at for branches that keep paths from poisoned instructions.
const GUARDS_MAX: usize = 4 << 20;

/// Where the open calls go on, but for the outermost.
type Calls = SmallVec<[usize; 8]>;

/// One branch of a path, and the one before it.
struct Step {
    before: u32,
    slot: usize,
    jumps: bool,
    is_decided: bool,
    from: Sources,
}

/// The first step of every path.
const ROOT: u32 = u32::MAX;

/// How an instruction was reached.
#[derive(Clone)]
struct Hit {
    assumed: SmallVec<[Assumption; 2]>,
    is_widened: bool,
    trace: u32,
    start: usize,
}

/// What was seen of a branch.
#[derive(Clone, Copy, Default)]
struct Branch {
    falls: bool,
    jumps: bool,
    from: Sources,
}

/// Follows a program.
pub(super) struct Explorer<'q> {
    pub(super) question: &'q Question<'q>,
    states_max: usize,
    /// Slots that more than one path may lead to.
    is_join: Vec<bool>,
    is_poisoned: Vec<bool>,
    visited: Vec<bool>,
    /// States that were followed, by slot and open calls.
    known: HashMap<(usize, Calls), Vec<State>>,
    /// Frames in them.
    frames_known: usize,
    pub(super) pending: Vec<(usize, State)>,
    steps: Vec<Step>,
    branches: HashMap<usize, Branch>,
    hits: HashMap<usize, Vec<Hit>>,
    started: HashSet<usize>,
    sources: Vec<Source>,
    source_numbers: HashMap<Source, usize>,
    /// Sources that are not known.
    pub(super) open: Sources,
    /// Function that the current path started in.
    start: usize,
    starts: Vec<usize>,
    gave_up: bool,
    /// Slots of which it is to be found out whether they are reached; with those that are found left out, nothing more
    /// is followed when none is left.
    wanted: Option<HashSet<usize>>,
}

impl<'q> Explorer<'q> {
    /// `wanted`: slots after which nothing more is asked for; without them, all paths are followed to their ends.
    pub(super) fn new(question: &'q Question<'q>, states_max: usize, wanted: Option<HashSet<usize>>) -> Self {
        let slots = question.insns.len();
        let mut this = Self {
            question,
            states_max,
            wanted,
            is_join: vec![false; slots],
            is_poisoned: vec![false; slots],
            visited: vec![false; slots],
            known: HashMap::new(),
            frames_known: 0,
            pending: Vec::new(),
            steps: Vec::new(),
            branches: HashMap::new(),
            hits: HashMap::new(),
            started: HashSet::new(),
            sources: Vec::new(),
            source_numbers: HashMap::new(),
            open: 0,
            start: 0,
            starts: Vec::new(),
            gave_up: false,
        };
        for &slot in question.poisoned {
            if let Some(is) = this.is_poisoned.get_mut(slot) {
                *is = true;
            }
        }
        for (slot, insn) in question.insns.iter().enumerate() {
            let jumps = live::next(slot, *insn).and_then(|it| it.jumps);
            let is_call = insn.code == crate::format::insn::CALL;
            for join in [jumps, is_call.then_some(slot + 1)].into_iter().flatten() {
                if let Some(is) = this.is_join.get_mut(join) {
                    *is = true;
                }
            }
        }
        for function in &question.image.functions {
            if let Some(is) = this.is_join.get_mut(function.start) {
                *is = true;
            }
        }
        this
    }

    /// Follows all paths; `false` if that would take more than `steps_max` steps.
    pub(super) fn run(&mut self, steps_max: usize) -> bool {
        self.start_function(0, &[]);
        match self.question.verifier.verifies_uncalled {
            Some(false) => {}
            verifies => {
                let globals = self.question.image.functions.iter().enumerate().filter(|(_, it)| it.is_global);
                let globals: Vec<usize> = globals.map(|(number, _)| number).collect();
                let assumed: &[Assumption] = if verifies.is_none() { &[(OLD_RELEASE, true)] } else { &[] };
                for function in globals {
                    self.start_function(function, assumed);
                }
            }
        }
        let mut steps = 0;
        while let Some((mut slot, mut state)) = self.pending.pop() {
            if self.wanted.as_ref().is_some_and(HashSet::is_empty) {
                return true;
            }
            self.start = self.starts.pop().unwrap_or(0);
            loop {
                steps += 1;
                if steps > steps_max || self.frames_known > FRAMES_KNOWN_MAX {
                    return false;
                }
                if self.is_join.get(slot) == Some(&true) && !self.is_new(slot, &mut state) {
                    break;
                }
                let Some(is_visited) = self.visited.get_mut(slot) else { break };
                *is_visited = true;
                if self.is_poisoned.get(slot) == Some(&true) {
                    self.hit(slot, &state);
                    // The verifier stops here. Whoever mends this wants to know what it would meet next.
                    slot = self.beyond(slot, &mut state);
                    continue;
                }
                match self.step(slot, &mut state) {
                    Some(next) => slot = next,
                    None => break,
                }
            }
        }
        true
    }

    /// Goes on behind a poisoned instruction as if it had done something unknown.
    fn beyond(&self, slot: usize, state: &mut State) -> usize {
        let original = self.question.image.slots.get(slot).map(|it| it.insn);
        let Some(insn) = original else { return slot + 1 };
        state.set(insn.dst, Value::UNKNOWN);
        slot + if insn.is_ldimm64() { 2 } else { 1 }
    }

    /// Follows a function from its start, with unknown arguments.
    pub(super) fn start_function(&mut self, function: usize, assumed: &[Assumption]) {
        let Some(start) = self.question.image.functions.get(function).map(|it| it.start) else { return };
        if !assumed.is_empty() || self.started.insert(function) {
            let mut state = State::start(ROOT);
            state.assumed = assumed.into();
            let before = std::mem::replace(&mut self.start, function);
            self.later(start, state);
            self.start = before;
        }
    }

    /// Puts a path off.
    pub(super) fn later(&mut self, slot: usize, state: State) {
        self.pending.push((slot, state));
        self.starts.push(self.start);
    }

    /// Notes a branch that a path takes.
    pub(super) fn turn(
        &mut self,
        state: &mut State,
        slot: usize,
        jumps: bool,
        is_decided: bool,
        from: Sources,
    ) {
        let branch = self.branches.entry(slot).or_default();
        if jumps {
            branch.jumps = true;
        } else {
            branch.falls = true;
        }
        branch.from |= from;
        // The path of a poison is told in branches; those that every path takes are told only if something decides.
        if !is_decided || from != 0 {
            let number = u32::try_from(self.steps.len()).unwrap_or(ROOT);
            self.steps.push(Step { before: state.trace, slot, jumps, is_decided, from });
            state.trace = number;
        }
        if !is_decided && from & self.open != 0 {
            let assumption = (slot, jumps);
            if let Err(place) = state.assumed.binary_search(&assumption) {
                state.assumed.insert(place, assumption);
            }
        }
    }

    /// The bit of a source.
    pub(super) fn source(&mut self, source: Source, is_open: bool) -> Sources {
        let next = self.sources.len();
        let number = *self.source_numbers.entry(source).or_insert(next);
        if number == next {
            self.sources.push(source);
        }
        let bit = 1 << number.min(SOURCES_MAX - 1);
        if is_open {
            self.open |= bit;
        }
        bit
    }

    /// Whether a state at a slot is not one of those that were followed already. Joins it with one of them where there
    /// are too many.
    fn is_new(&mut self, slot: usize, state: &mut State) -> bool {
        state.tidy(self.question.live.get(slot).copied().unwrap_or(u16::MAX));
        let calls = state.frames.iter().skip(1).map(|it| it.returns_to).collect();
        let known = self.known.entry((slot, calls)).or_default();
        let mut resolved = true;
        while resolved {
            resolved = false;
            for old in known.iter() {
                if !old.covers(state, self.open) {
                    continue;
                }
                if old.assumed.iter().all(|it| state.assumed.contains(it)) {
                    return false;
                }
                if let Some(shorter) = without_the_opposite(&old.assumed, &state.assumed) {
                    state.assumed = shorter;
                    resolved = true;
                    break;
                }
            }
        }
        if known.len() >= self.states_max
            && let Some(old) = known.last_mut()
        {
            *state = old.joined(state);
            *old = state.clone();
            return true;
        }
        self.frames_known += state.frames.len();
        known.push(state.clone());
        true
    }

    /// Notes that an instruction is reached.
    pub(super) fn hit(&mut self, slot: usize, state: &State) {
        let hits = self.hits.entry(slot).or_default();
        let mut assumed = state.assumed.clone();
        // Reached if a branch is taken, and reached if it is not: the branch does not matter.
        while let Some(shorter) = hits.iter().find_map(|it| without_the_opposite(&it.assumed, &assumed)) {
            assumed = shorter;
        }
        let hit = Hit { assumed, is_widened: state.is_widened, trace: state.trace, start: self.start };
        let rank = |it: &Hit| (it.assumed.len(), it.is_widened);
        let is_known = hits
            .iter()
            .any(|it| it.assumed.iter().all(|of| hit.assumed.contains(of)) && rank(it) <= rank(&hit));
        if !is_known {
            if rank(&hit) == (0, false)
                && let Some(wanted) = &mut self.wanted
            {
                wanted.remove(&slot);
            }
            hits.push(hit);
            hits.sort_by_key(rank);
        }
    }

    /// Slots that are asked about and were reached, or may be where the work was given up.
    pub(super) fn in_doubt(&self) -> HashSet<usize> {
        let asked = self.question.poisoned.iter().copied().chain(self.missing_calls().map(|it| it.0));
        asked.filter(|it| self.gave_up || self.hits.contains_key(it)).collect()
    }

    /// Calls of symbols that are not there: their slots, and the symbols.
    fn missing_calls(&self) -> impl Iterator<Item = (usize, usize)> {
        let slots = self.question.image.slots.iter().zip(self.question.insns).enumerate();
        slots.filter_map(|(slot, (of, insn))| {
            let Some(Reference::Extern(symbol)) = of.reference else { return None };
            let is_missing = self.question.symbols.get(symbol) == Some(&super::Symbol::Missing);
            let is_call = insn.code == crate::format::insn::CALL && self.is_poisoned.get(slot) != Some(&true);
            (is_call && is_missing).then_some((slot, symbol))
        })
    }

    pub(super) fn give_up(&mut self, gave_up: bool) {
        self.gave_up |= gave_up;
    }

    /// What is reached. `apart` followed what is in doubt with paths kept apart, if anything was; `is_done`: to the end.
    pub(super) fn result(&self, apart: Option<(&Self, bool)>) -> Reached {
        let (turns, looks) = (Cell::new(TURNS_MAX), Cell::new(GUARDS_MAX));
        let ways = self.ways();
        let dead = |of: &Self, slot: usize| Reach::Dead(of.guards(slot, &ways, &looks));
        let may_be = Path { steps: Vec::new(), is_proved: false, start: 0, only_before_6_8: false };
        let reach = |slot: usize| match apart {
            _ if !self.gave_up && !self.hits.contains_key(&slot) => dead(self, slot),
            Some((apart, is_done)) => {
                apart.reach_of(slot, &turns).unwrap_or_else(|| match is_done && !apart.gave_up {
                    true => dead(apart, slot),
                    false => self.reach_of(slot, &turns).unwrap_or(Reach::Live(may_be.clone())),
                })
            }
            None => self.reach_of(slot, &turns).unwrap_or(Reach::Live(may_be.clone())),
        };
        let calls = self.missing_calls().map(|(slot, symbol)| (slot, symbol, reach(slot)));
        let deciding = self.branches.values().filter(|it| it.falls != it.jumps).flat_map(|it| {
            self.named(it.from).into_iter().filter_map(|it| match it {
                Source::Record(record) => Some(record),
                _ => None,
            })
        });
        let mut deciding: Vec<usize> = deciding.collect();
        deciding.sort_unstable();
        deciding.dedup();
        Reached {
            poisoned: self.question.poisoned.iter().map(|it| reach(*it)).collect(),
            calls: calls.collect(),
            deciding,
        }
    }

    fn named(&self, from: Sources) -> Vec<Source> {
        let bit = |number: usize| 1_u64 << number.min(SOURCES_MAX - 1);
        let mut named: Vec<Source> = self
            .sources
            .iter()
            .enumerate()
            .filter(|(it, _)| from & bit(*it) != 0)
            .map(|(_, it)| *it)
            .collect();
        named.sort_unstable();
        named
    }

    /// How a slot is reached. `turns`: how many branches may still be told; what is left out is the path's start.
    fn reach_of(&self, slot: usize, turns: &Cell<usize>) -> Option<Reach> {
        let hit = self.hits.get(&slot)?.first()?;
        let mut steps = Vec::new();
        let mut at = hit.trace;
        while let Some(step) = self.steps.get(at as usize)
            && steps.len() < turns.get().max(TURNS_AT_LEAST)
        {
            let sources = self.named(step.from);
            steps.push(Turn { slot: step.slot, jumps: step.jumps, is_decided: step.is_decided, sources });
            at = step.before;
        }
        steps.reverse();
        turns.set(turns.get().saturating_sub(steps.len()));
        let only_before_6_8 = hit.assumed.iter().any(|it| it.0 == OLD_RELEASE);
        let path = Path { steps, is_proved: !hit.is_widened, start: hit.start, only_before_6_8 };
        if hit.assumed.is_empty() {
            return Some(Reach::Live(path));
        }
        let from =
            hit.assumed.iter().filter_map(|it| self.branches.get(&it.0)).fold(0, |all, it| all | it.from);
        Some(Reach::Conditional(path, self.named(from & self.open)))
    }

    /// Ways from slot to slot, by the slot that they lead to.
    fn ways(&self) -> Vec<(usize, usize)> {
        let mut ways = Vec::new();
        for (from, insn) in self.question.insns.iter().enumerate() {
            let next = live::next(from, *insn);
            let of_slot = self.question.image.slots.get(from).and_then(|it| it.reference);
            let callee = self.question.image.callee(of_slot);
            let callee = callee.and_then(|it| self.question.image.functions.get(it)).map(|it| it.start);
            let to = [next.and_then(|it| it.falls), next.and_then(|it| it.jumps), callee];
            ways.extend(to.into_iter().flatten().map(|to| (to, from)));
        }
        ways.sort_unstable();
        ways
    }

    /// Branches that would lead to a slot that is not reached, if they went the other way. `looks`: how many slots may
    /// still be looked at; without, the answer is cut.
    fn guards(&self, slot: usize, ways: &[(usize, usize)], looks: &Cell<usize>) -> Vec<Guard> {
        let (mut seen, mut pending, mut guards) = (HashSet::new(), vec![slot], Vec::new());
        seen.insert(slot);
        while let Some(slot) = pending.pop() {
            let first = ways.partition_point(|it| it.0 < slot);
            for &(_, from) in ways.get(first..).unwrap_or_default().iter().take_while(|it| it.0 == slot) {
                let Some(left) = looks.get().checked_sub(1) else { return guards };
                looks.set(left);
                if !seen.insert(from) {
                    continue;
                }
                if self.visited.get(from) != Some(&true) {
                    pending.push(from);
                } else if let Some(branch) = self.branches.get(&from) {
                    guards.push(Guard { slot: from, sources: self.named(branch.from) });
                }
            }
        }
        guards.sort_by_key(|it| it.slot);
        guards
    }
}

/// `new` without an assumption whose opposite `old` makes, if `old` makes no other that `new` does not make.
fn without_the_opposite(old: &[Assumption], new: &[Assumption]) -> Option<SmallVec<[Assumption; 2]>> {
    let mut opposite = None;
    for assumption in old {
        if new.contains(assumption) {
            continue;
        }
        let other = (assumption.0, !assumption.1);
        if opposite.is_some() || !new.contains(&other) {
            return None;
        }
        opposite = Some(other);
    }
    let opposite = opposite?;
    Some(new.iter().filter(|it| **it != opposite).copied().collect())
}
