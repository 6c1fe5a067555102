//! Which poisoned instructions of an object's programs are reached, class of kernels by class of kernels.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::check::Entry;
use super::world::{Externs, World};
use crate::batch::{Classes, Folded, Run};
use crate::depend::Survey;
use crate::object::{ExternKind, Object, SourceLine};
use crate::reach::{Features, Path, Program, Reach, Source, Symbol, Thresholds, Verifier};
use crate::resolve::Outcome;

/// How the verifier gets to a poisoned instruction, or what keeps it from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Number of the record in [`Object::relocs`].
    pub record: usize,
    /// Whether it gets there; `None` if that depends on what is not known, or was too much work to find out.
    pub is_reached: Option<bool>,
    /// The branches: on the way there in their order, or those that go another way.
    pub stops: Vec<Stop>,
    /// What was taken for granted, in words.
    pub assumed: Vec<String>,
}

/// A branch on a route, or beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Where it stands: `file.c:31`.
    pub place: String,
    /// The text of that line, if the compiler stored it.
    pub text: String,
    /// Whether it can go one way only.
    pub is_decided: bool,
    /// What decides it, in words.
    pub because: Vec<String>,
}

/// The routes to all poisoned records of program number `program` on kernel number `kernel`.
pub fn routes(
    run: &Run<'_>,
    survey: Option<&Survey<'_>>,
    world: &World,
    number: usize,
    program: usize,
    kernel: usize,
) -> Vec<Route> {
    let Some(object) = run.object(number) else { return Vec::new() };
    let is_loaded = |it: usize| it == program || object.programs().get(it).is_some_and(|it| it.autoload);
    let folded = run.fold(number, |reloc| reloc.program.is_none_or(is_loaded));
    let outcomes = folded.on(kernel);
    let reaching = Reaching::of(object, Externs::of(object, survey, number), world);
    let symbols = reaching.symbols(kernel);
    let Some(linked) = reaching.program(program) else { return Vec::new() };
    let is_poisoned =
        |record: &usize| matches!(outcomes.get(*record), Some(Outcome::Decided(it)) if it.poisoned);
    let asked: Vec<usize> = linked.records().filter(is_poisoned).collect();
    let (records, reached) = linked.judge(&outcomes, &symbols, reaching.verifier(kernel), &asked);
    let of_record = |(record, reach): (usize, &Reach)| {
        let stop = |slot: usize, is_decided: bool, sources: &[Source]| {
            let line = reaching.line(linked, slot)?;
            let text = String::from_utf8_lossy(line.text).trim().to_owned();
            let said = sources.iter().filter_map(|it| said_of(*it, object, linked, &outcomes, &symbols));
            Some(Stop { place: show(&line), text, is_decided, because: said.collect() })
        };
        let of_path = |path: &Path| {
            let turns = path.steps.iter();
            turns.filter_map(|it| stop(it.slot, it.is_decided, &it.sources)).collect::<Vec<_>>()
        };
        let (is_reached, mut stops) = match reach {
            Reach::Dead(guards) => {
                (Some(false), guards.iter().filter_map(|it| stop(it.slot, true, &it.sources)).collect())
            }
            Reach::Live(path) => (path.is_proved.then_some(true), of_path(path)),
            Reach::Conditional(path, _) => (None, of_path(path)),
        };
        stops.dedup_by(|it, before| it.place == before.place && it.because == before.because);
        let assumed = match reaching.found(linked, &symbols, reach) {
            Found::Dead { assumed, .. } | Found::Live { assumed } | Found::Conditional { assumed } => assumed,
            Found::Bounded => vec!["paths that could not be told apart within the bounds of the work".into()],
        };
        Route { record, is_reached, stops, assumed }
    };
    records.into_iter().zip(&reached.asked).map(of_record).collect()
}

/// What a branch depends on, in words.
fn said_of(
    source: Source,
    object: &Object<'_>,
    program: &Program<'_>,
    outcomes: &[&Outcome],
    symbols: &[Symbol],
) -> Option<String> {
    match source {
        Source::Record(record) => {
            let reloc = object.relocs().get(record)?;
            let Outcome::Decided(decision) = outcomes.get(record)? else { return None };
            let value = decision.new?;
            let kind = reloc.kind.map(|it| it.name()).unwrap_or_default();
            Some(format!("{kind} of {} is {value} ({})", object.path(reloc), decision.code.name()))
        }
        Source::Variable(variable) => program.said_of_variable(variable),
        Source::Extern(number) => {
            let name = String::from_utf8_lossy(object.externs().get(number)?.name).into_owned();
            Some(match symbols.get(number)? {
                Symbol::Present => format!("the kernel has {name}"),
                Symbol::Missing => format!("the kernel has no {name}"),
                Symbol::Value(bytes) => format!("{name} is {bytes:?} as bytes"),
                Symbol::Between(low, high) => format!("{name} is between {low:#x} and {high:#x}"),
                Symbol::Open => format!("{name} is not known"),
            })
        }
    }
}

/// The answers for one program on kernels on which its paths are the same.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Reached {
    /// By record that was asked about.
    records: BTreeMap<usize, Found>,
    /// By extern that is missing and called: the worst of its calls.
    calls: BTreeMap<usize, Found>,
    /// Features of the verifier that made a difference.
    features: Features,
}

/// Whether an instruction is reached, in words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Found {
    /// It is not, because of branches at these lines.
    Dead { guards: Vec<String>, assumed: Vec<String> },
    /// It is, by a path that is the verifier's.
    Live { assumed: Vec<String> },
    /// It is, if what is not known is so.
    Conditional { assumed: Vec<String> },
    /// It could not be ruled out.
    Bounded,
}

impl Found {
    fn rank(&self) -> u8 {
        match self {
            Self::Dead { .. } => 0,
            Self::Bounded => 1,
            Self::Conditional { .. } => 2,
            Self::Live { .. } => 3,
        }
    }
}

/// One object's programs, linked where something about them is in question.
pub(super) struct Reaching<'a, 'r> {
    object: &'a Object<'r>,
    externs: Externs<'a, 'r>,
    world: &'a World,
    /// By program: linked when it is first asked about.
    programs: Vec<OnceCell<Program<'r>>>,
    /// By program: records that are asked about on some kernel, ascending.
    asked: Vec<Vec<usize>>,
    /// By program: which values of the configuration its paths tell apart.
    thresholds: RefCell<HashMap<usize, Known<Thresholds>>>,
    known: RefCell<HashMap<Key, Known<Reached>>>,
    /// The same for instructions without a record, by their slots.
    places: RefCell<HashMap<PlacesKey, Known<Places>>>,
}

/// The instructions by their slots, behind what the answers for their program depend on.
type PlacesKey = (Key, Vec<usize>);

/// Whether instructions are reached, and features of the verifier that made a difference.
struct Places {
    found: Vec<Found>,
    features: Features,
}

/// Answers with the verifiers that they were found out for.
type Known<T> = SmallVec<[(Verifier, Rc<T>); 2]>;

/// The answer for a verifier, which is that for all others that agree on the features that made a difference.
fn known_for<T>(
    known: &mut Known<T>,
    verifier: Verifier,
    features: fn(&T) -> Features,
    find_out: impl FnOnce() -> T,
) -> Rc<T> {
    if let Some((_, known)) = known.iter().find(|it| it.0.agrees_on(features(&it.1), verifier)) {
        return Rc::clone(known);
    }
    let found = Rc::new(find_out());
    known.push((verifier, Rc::clone(&found)));
    found
}

/// What the answers for a program depend on.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    program: usize,
    symbols: Vec<Symbol>,
    outcomes: Vec<u8>,
}

impl<'a, 'r> Reaching<'a, 'r> {
    pub(super) fn of(object: &'a Object<'r>, externs: Externs<'a, 'r>, world: &'a World) -> Self {
        let programs = object.programs().iter().map(|_| OnceCell::new()).collect();
        let asked = vec![Vec::new(); object.programs().len()];
        let (thresholds, known, places) = Default::default();
        Self { object, externs, world, programs, asked, thresholds, known, places }
    }

    /// Says which records of a program anybody will ask about on any kernel, so that paths that are the same on many
    /// kernels are followed once.
    pub(super) fn will_ask(&mut self, program: usize, records: impl Iterator<Item = usize>) {
        if let Some(asked) = self.asked.get_mut(program) {
            asked.extend(records);
            asked.sort_unstable();
            asked.dedup();
        }
    }

    fn program(&self, program: usize) -> Option<&Program<'r>> {
        let link = || {
            let mut linked = Program::new(self.object, program);
            linked.set_constants(&self.world.constants);
            linked
        };
        self.programs.get(program).map(|it| it.get_or_init(link))
    }

    /// What is known of the object's externs on a kernel.
    pub(super) fn symbols(&self, kernel: usize) -> Vec<Symbol> {
        match (self.object.externs(), self.world.kernels.get(kernel)) {
            ([], _) => Vec::new(),
            (_, Some(known)) => self.externs.on(kernel, known),
            (_, None) => self.externs.on(kernel, &super::world::Known::default()),
        }
    }

    fn verifier(&self, kernel: usize) -> Verifier {
        self.world.kernels.get(kernel).map_or(Verifier::UNKNOWN, super::world::Known::verifier)
    }

    /// Whether something may be in question about a program on some kernel.
    pub(super) fn may_be_asked(&self, program: usize) -> bool {
        let may_miss = |it: &crate::object::Extern<'_>| it.is_weak && it.kind == ExternKind::Kfunc;
        self.asked.get(program).is_some_and(|it| !it.is_empty()) || self.object.externs().iter().any(may_miss)
    }

    /// Whether something is in question about a program.
    pub(super) fn is_in_question(&self, program: usize, outcomes: &[&Outcome], symbols: &[Symbol]) -> bool {
        // Linking a program takes longer than a look at the records.
        let is_poisoned =
            outcomes.iter().any(|it| matches!(it, Outcome::Decided(decision) if decision.poisoned));
        (is_poisoned || symbols.contains(&Symbol::Missing))
            && self.program(program).is_some_and(|it| it.is_in_question(outcomes, symbols))
    }

    /// Splits kernels by what the paths of a program depend on: numbers of the records, and by kernel a number.
    pub(super) fn records(&self, program: usize) -> Vec<usize> {
        self.program(program).map(|it| it.records().collect()).unwrap_or_default()
    }

    /// By kernel: a number that kernels share of which the same is known, as far as some programs ask.
    fn numbers(&self, programs: &[&Entry], kernels: usize) -> Vec<u32> {
        let has_externs = |it: &usize| self.program(*it).is_some_and(|it| !it.externs().is_empty());
        let programs: Vec<usize> = programs.iter().map(|it| it.program).filter(has_externs).collect();
        // Many kernels have the same symbols.
        let mut seen: HashMap<(Verifier, Vec<Symbol>), u32> = HashMap::new();
        let mut known: HashMap<(Verifier, Vec<Vec<Symbol>>), u32> = HashMap::new();
        let of_kernel = |kernel| {
            let verifier = self.verifier(kernel);
            let symbols = if programs.is_empty() { Vec::new() } else { self.symbols(kernel) };
            *seen.entry((verifier, symbols)).or_insert_with_key(|(verifier, symbols)| {
                let of_program = |it: &usize| self.told_apart(*it, *verifier, symbols);
                let next = u32::try_from(known.len()).unwrap_or(u32::MAX);
                *known.entry((*verifier, programs.iter().map(of_program).collect())).or_insert(next)
            })
        };
        (0..kernels).map(of_kernel).collect()
    }

    /// Writes what the paths of a program depend on of an outcome.
    pub(super) fn write_key(&self, record: usize, outcome: &Outcome, bytes: &mut Vec<u8>) {
        Program::write_key(self.object, record, outcome, bytes);
    }

    /// What is reached of a program on a kernel; nothing is found out if nothing is in question about it there.
    pub(super) fn judge(&self, program: usize, outcomes: &[&Outcome], kernel: usize) -> Rc<Reached> {
        let symbols = self.symbols(kernel);
        match self.is_in_question(program, outcomes, &symbols) {
            true => self.follow(program, outcomes, kernel, &symbols),
            false => Rc::default(),
        }
    }

    /// Whether a path of a program leads to a record on a kernel.
    pub(super) fn is_live(
        &self,
        program: usize,
        record: usize,
        outcomes: &[&Outcome],
        kernel: usize,
    ) -> bool {
        let reached = self.follow(program, outcomes, kernel, &self.symbols(kernel));
        matches!(reached.record(record), Some(Found::Live { .. }))
    }

    /// Whether paths of a program lead to some of its slots on a kernel: the one that is reached most surely of them.
    pub(super) fn surest(
        &self,
        program: usize,
        slots: &[usize],
        outcomes: &[&Outcome],
        kernel: usize,
    ) -> Option<Found> {
        let linked = self.program(program)?;
        let key = self.key(program, linked, outcomes, kernel, &self.symbols(kernel));
        let (verifier, symbols) = (self.verifier(kernel), key.symbols.clone());
        let mut places = self.places.borrow_mut();
        let known = places.entry((key, slots.to_vec())).or_default();
        let find_out = || {
            let reached = linked.judge_slots(outcomes, &symbols, verifier, slots);
            let found = reached.asked.iter().map(|it| self.found(linked, &symbols, it));
            Places { found: found.collect(), features: reached.features }
        };
        let places = known_for(known, verifier, |it| it.features, find_out);
        places.found.iter().max_by_key(|it| it.rank()).cloned()
    }

    /// What a program's paths depend on of a kernel's symbols: those that it refers to, and of values of the
    /// configuration no more than it looks at. By extern.
    fn told_apart(&self, program: usize, verifier: Verifier, symbols: &[Symbol]) -> Vec<Symbol> {
        let Some(linked) = self.program(program).filter(|it| !it.externs().is_empty()) else {
            return Vec::new();
        };
        let of_program = |(number, symbol): (usize, &Symbol)| match linked.externs().contains(&number) {
            true => symbol.clone(),
            false => Symbol::Present,
        };
        let symbols: Vec<Symbol> = symbols.iter().enumerate().map(of_program).collect();
        if !symbols.iter().any(|it| matches!(it, Symbol::Value(_) | Symbol::Between(..))) {
            return symbols;
        }
        let mut thresholds = self.thresholds.borrow_mut();
        let known = thresholds.entry(program).or_default();
        let found = known_for(known, verifier, |it| it.features, || linked.thresholds(verifier));
        found.stand_ins(symbols, self.object.endian())
    }

    fn follow(
        &self,
        program: usize,
        outcomes: &[&Outcome],
        kernel: usize,
        symbols: &[Symbol],
    ) -> Rc<Reached> {
        let Some(linked) = self.program(program) else { return Rc::default() };
        let key = self.key(program, linked, outcomes, kernel, symbols);
        let (verifier, symbols) = (self.verifier(kernel), key.symbols.clone());
        let mut known = self.known.borrow_mut();
        let known = known.entry(key).or_default();
        let find_out = || self.find_out(program, linked, outcomes, &symbols, verifier);
        known_for(known, verifier, |it| it.features, find_out)
    }

    fn key(
        &self,
        program: usize,
        linked: &Program<'_>,
        outcomes: &[&Outcome],
        kernel: usize,
        symbols: &[Symbol],
    ) -> Key {
        let mut bytes = Vec::new();
        for record in linked.records() {
            if let Some(outcome) = outcomes.get(record) {
                self.write_key(record, outcome, &mut bytes);
            }
        }
        let symbols = self.told_apart(program, self.verifier(kernel), symbols);
        Key { program, symbols, outcomes: bytes }
    }

    fn find_out(
        &self,
        program: usize,
        linked: &Program<'_>,
        outcomes: &[&Outcome],
        symbols: &[Symbol],
        verifier: Verifier,
    ) -> Reached {
        let asked = self.asked.get(program).map_or(&[][..], Vec::as_slice);
        let (records, reached) = linked.judge(outcomes, symbols, verifier, asked);
        let found = |reach: &Reach| self.found(linked, symbols, reach);
        let records = records.into_iter().zip(&reached.asked).map(|(record, reach)| (record, found(reach)));
        let mut calls: BTreeMap<usize, Found> = BTreeMap::new();
        for (_, symbol, reach) in &reached.calls {
            let found = found(reach);
            match calls.get_mut(symbol) {
                Some(worst) if worst.rank() >= found.rank() => {}
                _ => {
                    calls.insert(*symbol, found);
                }
            }
        }
        Reached { records: records.collect(), calls, features: reached.features }
    }

    fn found(&self, program: &Program<'_>, symbols: &[Symbol], reach: &Reach) -> Found {
        match reach {
            Reach::Dead(guards) => {
                let mut lines: Vec<String> =
                    guards.iter().filter_map(|it| self.line(program, it.slot)).map(|it| show(&it)).collect();
                lines.dedup();
                let sources = guards.iter().flat_map(|it| it.sources.iter());
                Found::Dead { guards: lines, assumed: self.assumptions(program, symbols, sources) }
            }
            Reach::Live(path) if !path.is_proved => Found::Bounded,
            // What is open on the way there was found not to matter.
            Reach::Live(path) => {
                let decided = path.steps.iter().filter(|it| it.is_decided);
                let sources = decided.flat_map(|it| it.sources.iter());
                Found::Live { assumed: self.assumptions(program, symbols, sources) }
            }
            Reach::Conditional(path, _) => {
                let sources = path.steps.iter().flat_map(|it| it.sources.iter());
                let mut assumed = self.assumptions(program, symbols, sources);
                if path.only_before_6_8 {
                    assumed.push("a kernel before 6.8 verifies functions that nothing calls".into());
                }
                Found::Conditional { assumed }
            }
        }
    }

    /// What was taken for granted of constants, the configuration and symbols.
    fn assumptions<'s>(
        &self,
        program: &Program<'_>,
        symbols: &[Symbol],
        sources: impl Iterator<Item = &'s Source>,
    ) -> Vec<String> {
        let mut said: Vec<String> = sources
            .filter_map(|source| match source {
                Source::Record(_) => None,
                Source::Variable(number) => program.said_of_variable(*number),
                Source::Extern(number) => {
                    let name = String::from_utf8_lossy(self.object.externs().get(*number)?.name).into_owned();
                    match symbols.get(*number)? {
                        Symbol::Open => Some(format!("{name} is not known")),
                        Symbol::Between(..) => Some(format!("the patch level in {name} is not known")),
                        // What was looked up is no assumption.
                        Symbol::Present | Symbol::Missing | Symbol::Value(_) => None,
                    }
                }
            })
            .collect();
        said.sort();
        said.dedup();
        said
    }

    /// The source line of a slot of a program.
    fn line(&self, program: &Program<'_>, slot: usize) -> Option<SourceLine<'r>> {
        let at = program.image.slots.get(slot)?;
        let function = program.image.functions.get(at.function)?;
        self.object.line_of(function.program, at.offset)
    }
}

impl Reached {
    pub(super) fn record(&self, record: usize) -> Option<&Found> {
        self.records.get(&record)
    }

    pub(super) fn call(&self, symbol: usize) -> Option<&Found> {
        self.calls.get(&symbol)
    }
}

fn show(line: &SourceLine<'_>) -> String {
    let file = String::from_utf8_lossy(line.file);
    let file = file.rsplit('/').next().unwrap_or_default();
    format!("{file}:{}", line.line)
}

/// Splits kernels on which something else is reached of programs. `folds`: of the records that they are loaded with.
pub(super) fn split(
    classes: &mut Classes,
    reaching: &Reaching<'_, '_>,
    folds: &[Folded<'_>],
    entries: &[Entry],
) {
    let asked: Vec<&Entry> = entries.iter().filter(|it| reaching.may_be_asked(it.program)).collect();
    if asked.is_empty() {
        return;
    }
    // First by all that paths depend on, then by what came of it.
    let mut finer = classes.clone();
    for (fold, folded) in folds.iter().enumerate() {
        let of_fold = asked.iter().filter(|it| it.fold == fold);
        let mut records: Vec<usize> = of_fold.flat_map(|it| reaching.records(it.program)).collect();
        records.sort_unstable();
        records.dedup();
        finer.split_by(&folded.classes_by(&records, |record, outcome, bytes| {
            reaching.write_key(record, outcome, bytes);
        }));
    }
    finer.split_by_numbers(&reaching.numbers(&asked, classes.of.len()));
    let mut known: HashMap<Vec<Rc<Reached>>, u32> = HashMap::new();
    let of_class = |&kernel: &usize| {
        let outcomes: Vec<Vec<&Outcome>> = folds.iter().map(|it| it.on(kernel)).collect();
        let of_entry = |entry: &&Entry| {
            let outcomes = outcomes.get(entry.fold).map_or(&[][..], Vec::as_slice);
            reaching.judge(entry.program, outcomes, kernel)
        };
        let next = u32::try_from(known.len()).unwrap_or(u32::MAX);
        *known.entry(asked.iter().map(of_entry).collect()).or_insert(next)
    };
    let of_class: Vec<u32> = finer.first.iter().map(of_class).collect();
    let of_kernel =
        |class: &Option<u32>| class.and_then(|it| of_class.get(it as usize)).copied().unwrap_or(0);
    classes.split_by_numbers(&finer.of.iter().map(of_kernel).collect::<Vec<_>>());
}
