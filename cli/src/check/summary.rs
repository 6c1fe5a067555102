//! What the verdicts of a run come to.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use btfleet_engine::embed::Loaders;
use btfleet_engine::object::{Object, SourceLine};
use btfleet_engine::report::{Effect, Finding, Roles, Verdict, Verdicts};

use crate::args::{CheckArgs, Sort};
use crate::load::Inputs;
use crate::project::what_about;

/// What an object comes to on a kernel: the worst over its autoloaded programs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    Verdict(Verdict),
    NoPrograms,
    NotJudged,
}

impl Cell {
    /// How bad it is.
    pub(super) fn rank(self) -> u32 {
        match self {
            Self::NotJudged => 0,
            Self::NoPrograms => 1,
            Self::Verdict(verdict) if verdict >= Verdict::FailAttach => 10,
            Self::Verdict(verdict) => 2 + verdict as u32,
        }
    }
}

/// What tells findings of one object apart: record or subject, code and effect.
type About<'a> = (Option<usize>, Option<&'a str>, &'a str, Effect);

/// Same cause, whatever object and kernel it shows up on: worst first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cause {
    pub(super) verdict: std::cmp::Reverse<Verdict>,
    pub(super) code: &'static str,
    pub(super) path: String,
}

/// Where a cause shows up.
#[derive(Default)]
pub(super) struct Places<'a> {
    /// What is said of it in the first object.
    pub(super) message: Option<(usize, String)>,
    /// Relocation kinds.
    pub(super) kinds: BTreeSet<&'static str>,
    /// Whether a program that is loaded by default is among them.
    pub(super) in_default: bool,
    /// Once for each object.
    pub(super) objects: Vec<Place<'a>>,
    /// By kernel: whether it is on that one.
    pub(super) on: Vec<bool>,
    /// Program and kernel pairs.
    pub(super) count: usize,
}

/// Where in an object a cause shows up.
pub(super) struct Place<'a> {
    /// Number of the object.
    pub(super) object: usize,
    /// Numbers of the programs.
    pub(super) programs: Vec<usize>,
    /// The first source line.
    pub(super) line: Option<SourceLine<'a>>,
}

impl Places<'_> {
    /// How many programs have it.
    pub(super) fn program_count(&self) -> usize {
        let distinct = |it: &Place<'_>| it.programs.iter().collect::<BTreeSet<_>>().len();
        self.objects.iter().map(distinct).sum()
    }

    /// On how many kernels it is.
    pub(super) fn kernel_count(&self) -> usize {
        self.on.iter().filter(|it| **it).count()
    }

    fn merge(&mut self, other: Self) {
        let is_first = |one: &(usize, String), other: &(usize, String)| one.0 < other.0;
        if let Some(message) = other.message
            && self.message.as_ref().is_none_or(|it| is_first(&message, it))
        {
            self.message = Some(message);
        }
        self.kinds.extend(other.kinds);
        self.in_default |= other.in_default;
        self.objects.extend(other.objects);
        self.on.resize(self.on.len().max(other.on.len()), false);
        self.on.iter_mut().zip(other.on).for_each(|(on, other)| *on |= other);
        self.count += other.count;
    }
}

/// What the verdicts come to. Those of the threads are merged: nothing may depend on the order of the objects.
#[derive(Default)]
pub(super) struct Summary<'a> {
    /// Objects that are not fine everywhere, by kernel.
    pub(super) cells: BTreeMap<usize, Vec<Cell>>,
    /// Programs that are not fine everywhere, by object and number, by kernel.
    pub(super) programs: BTreeMap<(usize, usize), Vec<Cell>>,
    pub(super) causes: BTreeMap<Cause, Places<'a>>,
    pub(super) counts: BTreeMap<Verdict, usize>,
    /// Pairs that were not judged, by reason.
    pub(super) pairs_not_judged: BTreeMap<&'static str, usize>,
    pub(super) worst_autoloaded: Option<Verdict>,
    /// By entry of the manifest: programs on kernels that it was about.
    pub(super) accepted: BTreeMap<usize, usize>,
}

impl<'a> Summary<'a> {
    /// Causes that are to be shown, in the order that was asked for: the same in all reports. Of equals, the worst comes
    /// first, then what is on most programs and kernels.
    pub(super) fn causes(&self, args: &CheckArgs) -> Vec<(&Cause, &Places<'a>)> {
        let is_shown = |cause: &Cause| args.only.is_none_or(|it| it.takes(cause.verdict.0));
        let mut causes: Vec<_> = self.causes.iter().filter(|it| is_shown(it.0)).collect();
        causes.sort_by_key(|(cause, places)| (cause.verdict, std::cmp::Reverse(places.count)));
        match args.sort {
            Sort::Worst => {}
            Sort::Name => causes.sort_by_key(|(cause, _)| (cause.path.as_str(), cause.code)),
            Sort::Kernels => causes.sort_by_key(|(_, places)| std::cmp::Reverse(places.kernel_count())),
            Sort::Programs => causes.sort_by_key(|(_, places)| std::cmp::Reverse(places.program_count())),
        }
        causes
    }

    pub(super) fn add_accepted(&mut self, verdicts: &Verdicts, accepted: &[(usize, usize)]) {
        for &(entry, class) in accepted {
            let is_of_class = |it: &&Option<u32>| it.is_some_and(|it| it as usize == class);
            *self.accepted.entry(entry).or_default() +=
                verdicts.classes.of.iter().filter(is_of_class).count();
        }
    }

    pub(super) fn add(
        &mut self,
        inputs: &'a Inputs<'_>,
        loaders: &Loaders,
        roles: &Roles,
        object_no: usize,
        verdicts: &Verdicts,
    ) {
        let Some(object) = inputs.object(object_no) else { return };
        let mut cells = vec![Cell::NoPrograms; inputs.kernels.len()];
        let mut kernels_of: Vec<Vec<usize>> = vec![Vec::new(); verdicts.by_class.len()];
        for (kernel, (cell, class)) in cells.iter_mut().zip(&verdicts.classes.of).enumerate() {
            if let Some(kernels) = class.and_then(|it| kernels_of.get_mut(it as usize)) {
                kernels.push(kernel);
            } else if let Some(refusal) = inputs.refusal(loaders, object_no, kernel) {
                *self.pairs_not_judged.entry(refusal.short).or_default() += 1;
                *cell = Cell::NotJudged;
            }
        }
        let judged = |it: &Option<u32>| it.map_or(Cell::NotJudged, |_| Cell::Verdict(Verdict::Ok));
        let fine: Vec<Cell> = verdicts.classes.of.iter().map(judged).collect();
        for (verdicts, kernels) in verdicts.by_class.iter().zip(&kernels_of) {
            for verdict in verdicts {
                *self.counts.entry(verdict.verdict).or_default() += kernels.len();
                if verdict.verdict > Verdict::Ok {
                    let of_program =
                        self.programs.entry((object_no, verdict.program)).or_insert_with(|| fine.clone());
                    for kernel in kernels {
                        if let Some(cell) = of_program.get_mut(*kernel) {
                            *cell = Cell::Verdict(verdict.verdict);
                        }
                    }
                }
            }
            let worst = roles.worst(object, verdicts);
            self.worst_autoloaded = self.worst_autoloaded.max(worst);
            for &kernel in kernels {
                if let Some(cell) = cells.get_mut(kernel) {
                    *cell = worst.map_or(Cell::NoPrograms, Cell::Verdict);
                }
            }
        }
        if !cells.iter().all(|it| matches!(it, Cell::Verdict(Verdict::Ok) | Cell::NoPrograms)) {
            self.cells.insert(object_no, cells);
        }
        self.add_findings(object, roles, object_no, &kernels_of, verdicts);
    }

    /// Programs and classes of kernels have most findings in common: what they are about is found out once.
    fn add_findings(
        &mut self,
        object: &'a Object<'_>,
        roles: &Roles,
        object_no: usize,
        kernels_of: &[Vec<usize>],
        verdicts: &Verdicts,
    ) {
        let mut numbers: HashMap<About<'_>, usize> = HashMap::new();
        let mut distinct: Vec<(&Finding, BTreeSet<usize>, Vec<usize>)> = Vec::new();
        for (class, verdicts) in verdicts.by_class.iter().enumerate() {
            for verdict in verdicts {
                // What does no harm has no cause.
                for finding in verdict.findings.iter().filter(|it| it.verdict > Verdict::Ok) {
                    let subject = finding.subject.as_deref();
                    let number = *numbers
                        .entry((finding.reloc, subject, finding.code, finding.effect))
                        .or_insert_with(|| {
                            distinct.push((finding, BTreeSet::new(), Vec::new()));
                            distinct.len() - 1
                        });
                    if let Some((_, programs, classes)) = distinct.get_mut(number) {
                        programs.insert(verdict.program);
                        classes.push(class);
                    }
                }
            }
        }
        for (finding, programs, mut classes) in distinct {
            let reloc = finding.reloc.and_then(|it| object.relocs().get(it));
            let cause = Cause {
                verdict: std::cmp::Reverse(finding.verdict),
                code: finding.code,
                path: what_about(object, finding),
            };
            let places = self.causes.entry(cause).or_default();
            if places.message.as_ref().is_none_or(|(first, _)| object_no < *first) {
                places.message = Some((object_no, finding.message.clone()));
            }
            places.kinds.extend(reloc.and_then(|it| it.kind).map(|it| it.name()));
            places.in_default |= programs
                .iter()
                .any(|it| object.programs().get(*it).is_some_and(|it| roles.loads_unasked(it)));
            let kernels = |class: &usize| kernels_of.get(*class).map_or(&[][..], Vec::as_slice);
            places.count += classes.iter().map(|it| kernels(it).len()).sum::<usize>();
            places.on.resize(verdicts.classes.of.len(), false);
            classes.dedup();
            for &kernel in classes.iter().flat_map(kernels) {
                if let Some(on) = places.on.get_mut(kernel) {
                    *on = true;
                }
            }
            if places.objects.last().is_none_or(|it| it.object != object_no) {
                places.objects.push(Place { object: object_no, programs: Vec::new(), line: None });
            }
            if let Some(place) = places.objects.last_mut() {
                place.programs.extend(programs);
                place.line = place.line.or_else(|| object.source_line(reloc?));
            }
        }
    }

    /// Adds what another thread has found.
    pub(super) fn merged(mut self, other: Self) -> Self {
        self.cells.extend(other.cells);
        self.programs.extend(other.programs);
        for (cause, places) in other.causes {
            self.causes.entry(cause).or_default().merge(places);
        }
        for (verdict, count) in other.counts {
            *self.counts.entry(verdict).or_default() += count;
        }
        for (why, count) in other.pairs_not_judged {
            *self.pairs_not_judged.entry(why).or_default() += count;
        }
        self.worst_autoloaded = self.worst_autoloaded.max(other.worst_autoloaded);
        for (entry, count) in other.accepted {
            *self.accepted.entry(entry).or_default() += count;
        }
        self
    }
}
