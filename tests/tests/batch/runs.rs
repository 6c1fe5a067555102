//! Generated objects and kernels, all in one run.
#![expect(clippy::print_stderr, reason = "a test says how much it judged")]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use btfleet_engine::batch::{Aspect, Batch, Run, outcomes};
use btfleet_engine::btf::{Btf, TypeId};
use btfleet_engine::dialect::{Kinds, Loader, Release, Searched};
use btfleet_engine::fleet::{Candidate, Fleet, Modules, Selection};
use btfleet_engine::format::Endian;
use btfleet_engine::format::btf_ext::RelocKind;
use btfleet_engine::kernel::{Kernel, PackSource};
use btfleet_engine::object::{Object, Reloc};
use btfleet_engine::pack::{self, Added, Facts, NewKernel, NewModule, PackFile};
use btfleet_engine::query::{Query, Root};
use btfleet_engine::resolve::{Decision, Outcome};
use btfleet_tests::build::ByteOrder;
use btfleet_tests::generator::{FleetCase, Rng};
use btfleet_tests::oracle::{Options, Oracle, extract};

use crate::compare::{difference, oracle};

/// Cases of one test.
const CASES: u64 = 120;

/// The bytes of a case, of one byte order or of both.
struct Files {
    objects: Vec<Vec<u8>>,
    /// vmlinux and modules.
    kernels: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
}

impl Files {
    /// One case in three has kernels and objects of both byte orders.
    fn of(seed: u64) -> Self {
        let orders: &[ByteOrder] = match seed % 3 {
            0 => &[ByteOrder::Little],
            1 => &[ByteOrder::Big],
            _ => &[ByteOrder::Little, ByteOrder::Big],
        };
        let mut this = Self { objects: Vec::new(), kernels: Vec::new() };
        for &order in orders {
            let case = FleetCase::generate(order, 7_000_000 + seed);
            this.objects.extend(case.objects.iter().map(|it| it.to_object()));
            this.kernels.extend((0..case.kernels.len()).map(|it| case.btfs(it)));
        }
        this
    }

    fn parse(&self) -> (Vec<Object<'_>>, Vec<Kernel<'_>>) {
        let objects = self.objects.iter().map(|it| Object::parse(it).expect("an object"));
        (objects.collect(), (0..self.kernels.len()).map(|it| self.kernel(it)).collect())
    }

    /// Kernel number `number`, whose modules bear the same names in all kernels.
    fn kernel(&self, number: usize) -> Kernel<'_> {
        let (vmlinux, modules) = self.kernels.get(number).expect("a kernel");
        let mut kernel = Kernel::parse(vmlinux).expect("BTF");
        for (number, module) in modules.iter().enumerate() {
            kernel.add_module(format!("m{number}"), module).expect("split BTF");
        }
        kernel
    }

    /// A pack of some kernels, each under its number; those that packs cannot hold are left out.
    fn pack(&self, numbers: &[usize]) -> PackFile {
        let kernels: Vec<(String, Kernel<'_>)> =
            numbers.iter().map(|&it| (it.to_string(), self.kernel(it))).collect();
        let facts = Facts::default();
        let new = kernels.iter().zip(numbers).map(|((name, kernel), number)| {
            let (vmlinux_bytes, module_bytes) = self.kernels.get(*number).expect("a kernel");
            let modules = kernel.modules.iter().zip(module_bytes);
            let modules =
                modules.map(|(it, bytes)| NewModule { name: &it.name, btf: &it.indexed.btf, bytes });
            let (vmlinux, modules) = (&*kernel.vmlinux.btf, modules.collect());
            NewKernel { name, facts: &facts, vmlinux, vmlinux_bytes, modules }
        });
        let (bytes, added) = pack::build(&new.collect::<Vec<_>>()).expect("a pack");
        assert!(!added.contains(&Added::Known), "{added:?}");
        PackFile::from_bytes(bytes)
    }
}

/// The kernels of a pack, by number; each may be taken once.
fn packed<'a>(file: &'a PackFile) -> (Arc<PackSource<'a>>, HashMap<usize, Kernel<'a>>) {
    let (source, kernels) = PackSource::kernels(file.view().expect("a whole pack")).expect("kernels");
    let numbered = kernels.into_iter().map(|(name, it)| (name.parse().expect("a number"), it));
    (source, numbered.collect())
}

/// An outcome, where numbers that mean something in its own run only are said in full.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Plain(Outcome),
    Decided { decision: Decision, candidate: Option<Place>, target: String },
    ByModule(Vec<(String, Said)>),
}

/// Module, id in the kernel's own BTF, and number in its list.
type Place = (Option<String>, Option<TypeId>, u32);

/// A record of an object on a kernel of a run.
#[derive(Clone, Copy)]
struct At<'r, 'a> {
    run: &'r Run<'a>,
    object: usize,
    record: usize,
    kernel: usize,
}

impl At<'_, '_> {
    fn say(self, outcome: &Outcome) -> Said {
        let Self { run, object, record, kernel } = self;
        match outcome {
            Outcome::Skipped | Outcome::Fatal(_) => Said::Plain(outcome.clone()),
            Outcome::Decided(it) => {
                let place = |it: Candidate| {
                    let module = it.module.map(|it| run.module_name(kernel, it).to_owned());
                    (module, run.id_of(object, record, kernel, it), it.nth)
                };
                let shape = it.candidate.and_then(|it| run.shape_of(object, record, kernel, it));
                let target = shape.map(|shape| describe(shape.btf, it.target_type)).unwrap_or_default();
                let candidate = it.candidate.map(place);
                let decision = Decision { candidate: None, target_type: TypeId::VOID, ..it.clone() };
                Said::Decided { decision, candidate, target }
            }
            Outcome::ModuleDependent(all) => {
                let of_module = all
                    .iter()
                    .map(|it| (run.module_name(kernel, it.module).to_owned(), self.say(&it.outcome)));
                Said::ByModule(of_module.collect())
            }
        }
    }
}

fn describe(btf: &Btf<'_>, id: TypeId) -> String {
    let kind = btf.ty(id).map(|it| it.kind);
    format!("{kind:?} {} {:?}", btf.type_name(id), btf.resolve_size(id))
}

/// Which records count: all, or all but those of one program of each object.
fn is_active(all: bool) -> impl Fn(&Reloc<'_>) -> bool {
    move |reloc| all || reloc.program != Some(0)
}

/// Distinct questions about a root.
type Distinct<'q> = HashSet<(&'q Query<'q>, RelocKind)>;

/// What the cases were about.
#[derive(Debug, Default)]
struct Totals {
    cases: u64,
    records: u64,
    /// Compared with libbpf.
    judged_by_libbpf: u64,
    pruned: u64,
    module_dependent: u64,
    from_modules: u64,
    /// Values that are ids of candidates.
    target_ids: u64,
    packed_kernels: u64,
    refused_kernels: u64,
    /// Questions that were put to a candidate, had every pair been answered alone.
    asked: u64,
    /// Distinct questions times distinct shapes.
    answered: u64,
    /// Roots times kernels.
    looked_up: u64,
    /// Roots times views.
    views: u64,
}

impl Totals {
    /// How much of the work was shared: what the run has to do, against what it would be pair by pair.
    fn count_sharing(&mut self, objects: &[Object<'_>], kernels: &[Kernel<'_>], modules: Modules) {
        let selection = Selection { modules, kinds: Kinds::Compatible, searched: Searched::ModulesIfNone };
        for endian in [Endian::Little, Endian::Big] {
            let fleet = Fleet::new(kernels.iter().filter(|it| it.vmlinux.btf.endian() == endian).collect());
            let objects = objects.iter().filter(|it| it.endian() == endian);
            let mut roots: HashMap<Root<'_>, (u64, Distinct<'_>)> = HashMap::new();
            for reloc in objects.flat_map(Object::relocs) {
                let query = reloc.question.as_ref().ok().and_then(|it| it.query.as_ref());
                let Some((query, kind)) = query.zip(reloc.kind) else { continue };
                let (times, distinct) = roots.entry(query.root).or_default();
                *times += 1;
                distinct.insert((query, kind));
            }
            for (root, (times, distinct)) in roots {
                let table = fleet.table(&root, selection);
                let on_kernel = |view: &u32| {
                    let view = table.views.get(*view as usize).expect("a view");
                    view.lists.iter().map(|it| it.len() as u64).sum::<u64>()
                };
                self.asked += times * table.view_of.iter().map(on_kernel).sum::<u64>();
                self.answered += (distinct.len() * table.shapes.len()) as u64;
                self.looked_up += fleet.len() as u64;
                self.views += table.views.len() as u64;
            }
        }
    }
}

/// What each pair alone gives: by object, then by kernel, then by record.
type Expected = Vec<Vec<Vec<Said>>>;

fn pair_by_pair(
    objects: &[Object<'_>],
    kernels: &[Kernel<'_>],
    loaders: &[Loader],
    modules: Modules,
    all: bool,
) -> Expected {
    let of_object = |object: &Object<'_>| {
        let pairs = kernels.iter().zip(loaders).map(|(kernel, &loader)| {
            let run = Run::of_pair(loader, object, kernel, modules);
            let outcomes = outcomes(loader, object, kernel, modules, is_active(all));
            let said = outcomes.iter().enumerate();
            said.map(|(record, it)| At { run: &run, object: 0, record, kernel: 0 }.say(it)).collect()
        });
        pairs.collect()
    };
    objects.iter().map(of_object).collect()
}

/// Compares a run over all objects with `expected`. `order`: what number each kernel of the run has there.
fn compare(run: &Run<'_>, order: &[usize], all: bool, expected: &Expected) -> Result<(), String> {
    for (object, expected) in expected.iter().enumerate() {
        let folded = run.fold(object, is_active(all));
        for (kernel, &number) in order.iter().enumerate() {
            let outcomes = folded.on(kernel);
            let said = outcomes.iter().enumerate();
            let said: Vec<Said> =
                said.map(|(record, it)| At { run, object, record, kernel }.say(it)).collect();
            let wanted = expected.get(number).expect("a kernel");
            if said == *wanted {
                continue;
            }
            let mut pairs = said.iter().zip(wanted).enumerate();
            let first = pairs.find(|(_, (said, wanted))| said != wanted);
            return Err(format!(
                "object {object}, kernel {number} in {order:?}, {} and {} records: {first:#?}",
                said.len(),
                wanted.len()
            ));
        }
        let effect = |outcomes: Vec<&Outcome>| {
            let mut bytes = Vec::new();
            outcomes.into_iter().for_each(|it| it.write_effect(&mut bytes));
            bytes
        };
        let effects: Vec<Vec<u8>> = (0..order.len()).map(|it| effect(folded.on(it))).collect();
        let classes = folded.classes(Aspect::Effect);
        for (one, class) in classes.of.iter().enumerate().filter(|(_, class)| class.is_some()) {
            for (two, other) in classes.of.iter().enumerate().filter(|(_, other)| other.is_some()) {
                // Kernels that are judged by different rules are never of one class.
                let same = run.rules(one) == run.rules(two) && effects.get(one) == effects.get(two);
                if (class == other) != same {
                    return Err(format!("object {object}: classes of kernels {one} and {two}: {classes:?}"));
                }
            }
        }
    }
    Ok(())
}

fn shuffled(rng: &mut Rng, n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for at in (1..n).rev() {
        order.swap(at, rng.index(at + 1));
    }
    order
}

/// Judges one case. `same_loader`: all kernels by libbpf.
fn judge(
    seed: u64,
    modules: Modules,
    same_loader: bool,
    threads: &Batch,
    oracle: Option<&mut Oracle>,
    totals: &mut Totals,
) -> Result<(), String> {
    let files = Files::of(seed);
    let (objects, kernels) = files.parse();
    let n = kernels.len();
    let mut rng = Rng::new(seed);
    let rng = &mut rng;
    let releases = ["5.10", "5.17", "6.1", "6.12.30", "7.1"];
    let loader = |rng: &mut Rng| match same_loader || rng.chance(35) {
        true => Loader::Libbpf,
        false => Loader::Kernel(Release::parse(rng.pick::<&str>(&releases)).expect("a release")),
    };
    let loaders: Vec<Loader> = (0..n).map(|_| loader(rng)).collect();
    totals.cases += 1;
    totals.count_sharing(&objects, &kernels, modules);
    if let Some(oracle) = oracle {
        as_libbpf(oracle, &files, &objects, &kernels, totals)?;
    }
    for all in [true, false] {
        let expected = pair_by_pair(&objects, &kernels, &loaders, modules, all);
        if all {
            totals.count(&objects, &expected);
        }
        let thirds = shuffled(rng, n);
        let third = |it: usize| thirds.iter().copied().skip(it).step_by(3).collect::<Vec<_>>();
        let everything: Vec<usize> = (0..n).collect();
        // Kernels of each pack; the others come from their files.
        for in_packs in [vec![], vec![everything], vec![third(0), third(1)]] {
            let packs: Vec<PackFile> = in_packs.iter().map(|it| files.pack(it)).collect();
            let mut sources = Vec::new();
            let mut from_packs = HashMap::new();
            for file in &packs {
                let (source, kernels) = packed(file);
                sources.push(source);
                from_packs.extend(kernels);
            }
            totals.packed_kernels += from_packs.len() as u64;
            totals.refused_kernels +=
                (in_packs.iter().map(Vec::len).sum::<usize>() - from_packs.len()) as u64;
            let order = shuffled(rng, n);
            let kernels: Vec<Kernel<'_>> =
                order.iter().map(|it| from_packs.remove(it).unwrap_or_else(|| files.kernel(*it))).collect();
            let loaders: Vec<Loader> = order.iter().filter_map(|&it| loaders.get(it).copied()).collect();
            let run = Run::new(threads, &objects, &kernels, &loaders, modules);
            compare(&run, &order, all, &expected)
                .map_err(|why| format!("{} packs, all programs: {all}: {why}", packs.len()))?;
            assert!(sources.iter().all(|it| it.damage().is_none()), "packs are whole");
        }
    }
    Ok(())
}

/// Compares each pair with libbpf.
fn as_libbpf(
    oracle: &mut Oracle,
    files: &Files,
    objects: &[Object<'_>],
    kernels: &[Kernel<'_>],
    totals: &mut Totals,
) -> Result<(), String> {
    let loaders = vec![Loader::Libbpf; kernels.len()];
    let run = Run::new(&Batch::SEQUENTIAL, objects, kernels, &loaders, Modules::All);
    let folded: Vec<_> = (0..objects.len()).map(|it| run.fold(it, |_| true)).collect();
    for (number, (vmlinux, modules)) in files.kernels.iter().enumerate() {
        oracle.set_target(vmlinux, modules).map_err(|error| error.to_string())?;
        for ((file, object), folded) in files.objects.iter().zip(objects).zip(&folded) {
            let Some(kernel) = kernels.get(number).filter(|it| it.vmlinux.btf.endian() == object.endian())
            else {
                continue;
            };
            let extracted = extract(file).expect("records");
            let options = Options { log: true, compare_pruning: true };
            let answers = oracle.relocate(&extracted.program, options).map_err(|error| error.to_string())?;
            let alone = outcomes(Loader::Libbpf, object, kernel, Modules::All, |_| true);
            assert_eq!(alone.len(), answers.len());
            let records = object.relocs().iter().zip(&answers).enumerate();
            for (record, (reloc, answer)) in records {
                let of_pair = alone.get(record).expect("an outcome");
                let of_run = folded.outcome(record, number).expect("an outcome");
                // Ids of types are those of the first kernel that has the same.
                let of_run = match (of_run.clone(), of_pair) {
                    (Outcome::Decided(it), Outcome::Decided(Decision { target_type, .. })) => {
                        Outcome::Decided(Decision { target_type: *target_type, ..it })
                    }
                    (other, _) => other,
                };
                totals.judged_by_libbpf += 1;
                totals.pruned += u64::from(answer.without_pruning.is_some());
                if let Some(why) = difference(&of_run, answer, reloc.raw_kind, extracted.order) {
                    return Err(format!("kernel {number}, record {record}: {why}"));
                }
            }
        }
    }
    Ok(())
}

impl Totals {
    fn count(&mut self, objects: &[Object<'_>], expected: &Expected) {
        for (object, expected) in objects.iter().zip(expected) {
            for (reloc, said) in expected.iter().flat_map(|said| object.relocs().iter().zip(said)) {
                self.records += 1;
                match said {
                    Said::ByModule(_) => self.module_dependent += 1,
                    Said::Decided { candidate: Some((module, ..)), .. } => {
                        self.from_modules += u64::from(module.is_some());
                        self.target_ids += u64::from(reloc.kind == Some(RelocKind::TypeIdTarget));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Runs all cases; `libbpf`: compared with it as well.
fn run_cases(first: u64, modules: Modules, same_loader: bool, libbpf: bool) -> Totals {
    let threads = Batch::new(2).expect("two threads");
    let mut oracle = libbpf.then(oracle);
    let mut totals = Totals::default();
    for seed in first..first + CASES {
        if let Err(why) = judge(seed, modules, same_loader, &threads, oracle.as_mut(), &mut totals) {
            // The script of the mutants reads the number.
            panic!("seed {seed}: the case after {} records is answered differently:\n{why}", totals.records);
        }
    }
    eprintln!("{modules:?}, one loader: {same_loader}: {totals:#?}");
    assert!(totals.records > 20_000 && totals.packed_kernels > 1000, "{totals:?}");
    assert!(totals.refused_kernels * 5 < totals.packed_kernels, "{totals:?}");
    assert!(totals.from_modules > 200 && totals.target_ids > 100, "{totals:?}");
    assert!(totals.answered * 3 < totals.asked * 2, "hardly anything was shared: {totals:?}");
    assert!(totals.views * 4 < totals.looked_up * 3, "hardly any view was shared: {totals:?}");
    assert!(totals.views > totals.looked_up / 10, "kernels are too much alike: {totals:?}");
    totals
}

/// Check that one run gives what its pairs give alone, and what libbpf gives.
#[test]
fn a_run_gives_what_libbpf_gives_pair_by_pair() {
    let totals = run_cases(0, Modules::All, true, true);
    assert!(totals.judged_by_libbpf > 20_000 && totals.pruned > 200, "{totals:?}");
}

/// Check the same of pairs where each module is judged alone.
#[test]
fn a_run_gives_what_its_pairs_give_module_by_module() {
    let totals = run_cases(1000, Modules::Each, true, false);
    assert!(totals.module_dependent > 50, "{totals:?}");
}

/// Check the same where libbpf and kernels of several releases are asked in one run.
#[test]
fn loaders_do_not_mix_in_a_run() {
    run_cases(2000, Modules::All, false, false);
    let totals = run_cases(3000, Modules::Each, false, false);
    assert!(totals.module_dependent > 30, "{totals:?}");
}
