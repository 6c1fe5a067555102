//! Follows paths, keeps those apart that differ, and notes what is reached.

use std::cell::{Cell, OnceCell};

use hashbrown::{HashMap, HashSet};
use smallvec::SmallVec;

use super::live;
use super::scalar::Sources;
use super::state::{Assumption, State};
use super::thresholds::{Thresholds, Uses};
use super::verifier::{Consulted, Feature};
use super::{Guard, Path, Question, Reach, Reached, Source, Turn};
use crate::format::insn::CALL;
use crate::object::{PSEUDO_CALL, Reference};

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
    pub(super) verifier: Consulted,
    states_max: usize,
    /// Slots that more than one path may lead to.
    is_join: Vec<bool>,
    is_asked: Vec<bool>,
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
    steps_taken: usize,
    /// Slots of which it is to be found out whether they are reached; with those that are found left out, nothing more
    /// is followed when none is left.
    wanted: Option<HashSet<usize>>,
    /// What is done with values of the configuration, if that is to be found out.
    pub(super) uses: Option<Uses>,
}

impl<'q> Explorer<'q> {
    /// `states_max`: how many states are told apart at one instruction.
    pub(super) fn new(question: &'q Question<'q>, states_max: usize) -> Self {
        let slots = question.insns.len();
        let mut this = Self {
            question,
            verifier: Consulted::new(question.verifier),
            states_max,
            is_join: vec![false; slots],
            is_asked: vec![false; slots],
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
            steps_taken: 0,
            wanted: None,
            uses: None,
        };
        for &slot in question.asked {
            if let Some(is) = this.is_asked.get_mut(slot) {
                *is = true;
            }
        }
        let mut is_led_to = vec![false; slots];
        for (slot, insn) in question.insns.iter().enumerate() {
            let next = live::next(slot, *insn);
            let falls = next.and_then(|it| it.falls);
            // What is called may return more than once.
            let returns = (insn.code == CALL && insn.src == PSEUDO_CALL).then_some(slot + 1);
            for to in [falls, next.and_then(|it| it.jumps), returns].into_iter().flatten() {
                if let (Some(is_join), Some(is_led_to)) = (this.is_join.get_mut(to), is_led_to.get_mut(to)) {
                    *is_join |= std::mem::replace(is_led_to, true);
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

    /// Asks about all slots that the question is about: what else is reached is not noted, and nothing more is followed
    /// when they are all found.
    pub(super) fn want_all(&mut self) {
        let asked = self.question.asked.iter().copied().chain(self.missing_calls().map(|it| it.0));
        self.wanted = Some(asked.collect());
    }

    /// Asks no more about slots that are not reached even where paths are joined.
    pub(super) fn want_only(&mut self, joined: &Self) {
        if let Some(wanted) = &mut self.wanted {
            wanted.retain(|it| joined.may_reach(*it));
        }
    }

    /// Whether nothing is left to be looked for.
    pub(super) fn has_found_all(&self) -> bool {
        self.wanted.as_ref().is_some_and(HashSet::is_empty)
    }

    /// Gets ready to follow the program, and the functions that are verified on their own.
    pub(super) fn start(&mut self) {
        self.start_function(0, &[]);
        let globals = self.question.image.functions.iter().enumerate().filter(|(_, it)| it.is_global);
        let globals: Vec<usize> = globals.map(|(number, _)| number).filter(|it| *it != 0).collect();
        if !globals.is_empty() && !self.verifier.has(Feature::SkipsUncalled) {
            let is_known = self.verifier.has(Feature::IsKnown);
            let assumed: &[Assumption] = if is_known { &[] } else { &[(OLD_RELEASE, true)] };
            for function in globals {
                self.start_function(function, assumed);
            }
        }
    }

    /// Follows paths until all ended or everything is found, or until `steps_max` steps were taken in all.
    pub(super) fn run(&mut self, steps_max: usize) {
        while !self.has_found_all()
            && let Some((mut slot, mut state)) = self.pending.pop()
        {
            self.start = self.starts.pop().unwrap_or(0);
            loop {
                if self.steps_taken >= steps_max || self.frames_known > FRAMES_KNOWN_MAX {
                    self.later(slot, state);
                    return;
                }
                self.steps_taken += 1;
                if self.is_join.get(slot) == Some(&true) && !self.is_new(slot, &mut state) {
                    break;
                }
                let Some(is_visited) = self.visited.get_mut(slot) else { break };
                *is_visited = true;
                if self.is_asked.get(slot) == Some(&true) {
                    self.hit(slot, &state);
                }
                match self.step(slot, &mut state) {
                    Some(next) => slot = next,
                    None => break,
                }
            }
        }
    }

    /// Whether all paths were followed, as far as that is possible.
    fn is_done(&self) -> bool {
        !self.gave_up && self.pending.is_empty()
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
        if is_open {
            self.open |= bit(number);
        }
        bit(number)
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
                if !old.covers(state, self.open)
                    || self.uses.as_ref().is_some_and(|it| it.is_open(state.lost_in(old)))
                {
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
            let joined = old.joined(state);
            if let Some(uses) = &mut self.uses {
                uses.exactly(old.lost_in(&joined) | state.lost_in(&joined));
            }
            *state = joined;
            *old = state.clone();
            return true;
        }
        self.frames_known += state.frames.len();
        known.push(state.clone());
        true
    }

    /// Notes that an instruction is reached.
    pub(super) fn hit(&mut self, slot: usize, state: &State) {
        if self.wanted.as_ref().is_some_and(|it| !it.contains(&slot)) {
            return;
        }
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

    /// Whether a slot was reached, or may be where not all paths were followed.
    fn may_reach(&self, slot: usize) -> bool {
        !self.is_done() || self.hits.contains_key(&slot)
    }

    /// Calls of symbols that are not there: their slots, and the symbols.
    fn missing_calls(&self) -> impl Iterator<Item = (usize, usize)> {
        let slots = self.question.image.slots.iter().zip(self.question.insns).enumerate();
        slots.filter_map(|(slot, (of, insn))| {
            let Some(Reference::Extern(symbol)) = of.reference else { return None };
            let is_missing = self.question.symbols.get(symbol) == Some(&super::Symbol::Missing);
            let is_call = insn.code == CALL && self.is_asked.get(slot) != Some(&true);
            (is_call && is_missing).then_some((slot, symbol))
        })
    }

    /// Notes that paths go on where they are not followed.
    pub(super) fn give_up(&mut self) {
        self.gave_up = true;
    }

    /// What is reached. `joined`: the same with paths joined, which may have found some slots not to be reached.
    pub(super) fn result(&self, joined: &Self) -> Reached {
        let (turns, looks) = (Cell::new(TURNS_MAX), Cell::new(GUARDS_MAX));
        let ways = OnceCell::new();
        let dead =
            |of: &Self, slot: usize| Reach::Dead(of.guards(slot, ways.get_or_init(|| of.ways()), &looks));
        let may_be = Path { steps: Vec::new(), is_proved: false, start: 0, only_before_6_8: false };
        let reach = |slot: usize| match self.reach_of(slot, &turns) {
            Some(reach) => reach,
            None if !joined.may_reach(slot) => dead(joined, slot),
            None if self.is_done() => dead(self, slot),
            None => joined.reach_of(slot, &turns).unwrap_or(Reach::Live(may_be.clone())),
        };
        let calls = self.missing_calls().map(|(slot, symbol)| (slot, symbol, reach(slot)));
        Reached {
            calls: calls.collect(),
            asked: self.question.asked.iter().map(|it| reach(*it)).collect(),
            features: self.verifier.features().union(joined.verifier.features()),
        }
    }

    /// What is done with values of the configuration on all paths.
    pub(super) fn thresholds(&mut self, steps_max: usize) -> Thresholds {
        let externs = self.question.symbols.len();
        self.uses = Some(Uses::default());
        self.start();
        self.run(steps_max);
        let of = |(number, source): (usize, &Source)| (*source, bit(number));
        match self.uses.take().filter(|_| self.is_done()) {
            Some(uses) => {
                uses.of_externs(self.sources.iter().enumerate().map(of), externs, self.verifier.features())
            }
            None => Thresholds::exact(externs, self.verifier.features()),
        }
    }

    fn named(&self, from: Sources) -> Vec<Source> {
        if from == 0 {
            return Vec::new();
        }
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

/// The bit of source number `number`.
fn bit(number: usize) -> Sources {
    1 << number.min(SOURCES_MAX - 1)
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
