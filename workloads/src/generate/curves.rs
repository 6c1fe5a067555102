//! Growth curves: how many different roots, questions, layouts and answers there are in so many objects and kernels.
//!
//! They are what decides whether a synthetic set behaves as a real one would: work that is shared between objects and
//! between kernels is shared as often.

use std::fmt::Write as _;

use btfleet_engine::btf::{NameHash, TypeId};
use btfleet_engine::dialect::Rules;
use btfleet_engine::format::btf_ext::RelocKind;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::Object;
use btfleet_engine::query::{Ask, Leaf, Query, Root, Step};
use btfleet_engine::resolve::{Budget, Match, on_candidate};
use hashbrown::{HashMap, HashSet};

use super::rng::{Rng, fold};
use super::shape::{Shapes, kind_number};
use super::trim::is_sampled;

/// Random orders of the inputs that a curve is the mean of.
const ORDERS: u64 = 4;

/// What an object's records ask, by hash: root, and root with question and kind.
#[derive(Clone, Debug)]
pub(super) struct ObjectFacts {
    records: Vec<(u64, u64)>,
}

/// The different questions of a set of objects.
#[derive(Debug, Default)]
pub(super) struct Questions<'data> {
    known: HashMap<u64, usize>,
    list: Vec<(u64, Query<'data>, RelocKind)>,
}

/// What a kernel has, and answers.
#[derive(Clone, Debug)]
pub(super) struct KernelFacts {
    /// Shapes of named structs and unions: of those in the sample, which trimmed kernels have too.
    shapes: Vec<u64>,
    /// By hash of root: that of the shapes of its candidates.
    roots: HashMap<u64, u64>,
    /// By hash of question: that of the answer.
    answers: HashMap<u64, u64>,
}

/// Figures of a set of inputs at one size.
#[derive(Clone, Copy, Debug, Default)]
struct Point {
    objects: usize,
    kernels: usize,
    figures: [f64; 8],
}

/// The names of [`Point::figures`].
const FIGURES: [&str; 8] = [
    "records per object, median",
    "records per object, 90 %",
    "records per object, most",
    "distinct roots",
    "distinct queries",
    "distinct shapes of these roots",
    "distinct shapes of every eighth struct",
    "distinct results per record",
];

/// The figures of a set of inputs at an eighth, a quarter, half and all of its size.
#[derive(Clone, Debug)]
pub(super) struct Curve([Point; 4]);

fn root_key(root: &Root<'_>) -> u64 {
    fold(root.hash.0, kind_number(root.kind))
}

fn ask_key(ask: &Ask<'_>) -> u64 {
    let name = |name: &[u8]| NameHash::of(name).0;
    match ask {
        Ask::Field(steps) => steps.iter().fold(1, |key, step| match step {
            Step::Is(_) => key,
            Step::Index(index) => fold(fold(key, 1), u64::from(*index)),
            Step::Member { name: member, compat } => {
                let leaf = match compat.leaf {
                    Leaf::Composite => 1,
                    Leaf::Ptr => 2,
                    Leaf::Float => 3,
                    Leaf::Int => 4,
                    Leaf::Fwd(fwd) => fold(5, name(fwd)),
                    Leaf::Enum(of) => fold(6, name(of)),
                    Leaf::Never => 7,
                    Leaf::Unusable => 8,
                };
                fold(fold(fold(key, name(member)), leaf), compat.array_depth.into())
            }
        }),
        Ask::Enumerator(enumerator) => fold(2, name(enumerator)),
        Ask::TypeCompat(local) => fold(3, Shapes::new(&local.btf).of(local.id)),
        Ask::TypeMatches(local) => fold(4, Shapes::new(&local.btf).of(local.id)),
    }
}

impl<'data> Questions<'data> {
    /// Adds the questions of an object.
    pub(super) fn note(&mut self, object: &Object<'data>) -> ObjectFacts {
        let mut records = Vec::with_capacity(object.relocs().len());
        for reloc in object.relocs() {
            let Some(query) = reloc.question.as_ref().ok().and_then(|it| it.query.as_ref()) else { continue };
            let Some(kind) = reloc.kind else { continue };
            let root = root_key(&query.root);
            let key = fold(fold(root, ask_key(&query.ask)), NameHash::of(kind.name().as_bytes()).0);
            if let hashbrown::hash_map::Entry::Vacant(slot) = self.known.entry(key) {
                slot.insert(self.list.len());
                self.list.push((key, query.clone(), kind));
            }
            records.push((root, key));
        }
        ObjectFacts { records }
    }

    /// Essential names of all roots, by hash.
    pub(super) fn root_names(&self) -> impl Iterator<Item = u64> + '_ {
        self.list.iter().map(|(_, query, _)| query.root.hash.0)
    }

    /// Asks a kernel everything.
    pub(super) fn ask(&self, kernel: &Kernel<'_>) -> KernelFacts {
        let btf = &*kernel.vmlinux.btf;
        let mut shapes = Shapes::new(btf);
        let mut facts = KernelFacts { shapes: Vec::new(), roots: HashMap::new(), answers: HashMap::new() };
        for (id, ty) in btf.own_types() {
            if ty.kind.is_composite() && !btf.is_anonymous(ty.name_off) && is_sampled(btf.name(ty.name_off)) {
                facts.shapes.push(shapes.of(id));
            }
        }
        for (key, query, kind) in &self.list {
            let candidates: Vec<TypeId> =
                kernel.vmlinux_candidates(&query.root).into_iter().map(|it| it.id).collect();
            let of_root = || candidates.iter().fold(0, |hash, &id| fold(hash, shapes.of(id)));
            facts.roots.entry(root_key(&query.root)).or_insert_with(of_root);
            let answer = candidates.iter().fold(0, |hash, &id| {
                let found = on_candidate(&Rules::LIBBPF, query, *kind, btf, id, &mut Budget::new());
                let value = match found {
                    // A type's id is another one in every kernel.
                    Ok(Match::Found(_)) if *kind == RelocKind::TypeIdTarget => 1,
                    Ok(Match::Found(found)) => found.value.map_or(2, |it| fold(it.value, it.size.into())),
                    Ok(Match::Missing(_)) => 3,
                    Err(_) => 4,
                };
                fold(hash, value)
            });
            facts.answers.insert(*key, answer);
        }
        facts
    }
}

fn point(objects: &[&ObjectFacts], kernels: &[&KernelFacts]) -> Point {
    let mut sizes: Vec<usize> = objects.iter().map(|it| it.records.len()).collect();
    sizes.sort_unstable();
    let size_at = |index: usize| sizes.get(index).map_or(0.0, |&it| it as f64);
    let (mut roots, mut queries) = (HashSet::new(), HashMap::<u64, usize>::new());
    for &(root, query) in objects.iter().flat_map(|it| &it.records) {
        roots.insert(root);
        *queries.entry(query).or_default() += 1;
    }
    let (mut of_roots, mut shapes) = (HashSet::new(), HashSet::<u64>::new());
    let mut answers: HashMap<u64, HashSet<u64>> = HashMap::new();
    for kernel in kernels {
        of_roots.extend(kernel.roots.iter().filter(|(root, _)| roots.contains(*root)));
        shapes.extend(&kernel.shapes);
        for (query, &answer) in kernel.answers.iter().filter(|(query, _)| queries.contains_key(*query)) {
            answers.entry(*query).or_default().insert(answer);
        }
    }
    let records: usize = queries.values().sum();
    let results: usize = answers.iter().map(|(query, it)| it.len() * queries.get(query).unwrap_or(&0)).sum();
    Point {
        objects: objects.len(),
        kernels: kernels.len(),
        figures: [
            size_at(sizes.len() / 2),
            size_at(sizes.len() * 9 / 10),
            size_at(sizes.len().saturating_sub(1)),
            roots.len() as f64,
            queries.len() as f64,
            of_roots.len() as f64,
            shapes.len() as f64,
            results as f64 / records.max(1) as f64,
        ],
    }
}

impl Curve {
    /// The curve up to so many objects and kernels, as the mean over some random orders of them.
    pub(super) fn of(
        objects: &[ObjectFacts],
        kernels: &[KernelFacts],
        object_count: usize,
        kernel_count: usize,
    ) -> Self {
        let mut curve = Self([Point::default(); 4]);
        for order in 0..ORDERS {
            let mut rng = Rng::of(order, &[21]);
            let (mut objects, mut kernels): (Vec<_>, Vec<_>) =
                (objects.iter().collect(), kernels.iter().collect());
            rng.shuffle(&mut objects);
            rng.shuffle(&mut kernels);
            for (part, mean) in [8, 4, 2, 1].into_iter().zip(&mut curve.0) {
                let objects = objects.get(..(object_count / part).max(1)).unwrap_or(&objects);
                let kernels = kernels.get(..(kernel_count / part).max(1)).unwrap_or(&kernels);
                let one = point(objects, kernels);
                (mean.objects, mean.kernels) = (one.objects, one.kernels);
                for (sum, figure) in mean.figures.iter_mut().zip(one.figures) {
                    *sum += figure / ORDERS as f64;
                }
            }
        }
        curve
    }

    /// How many new roots and queries the next object brings at the size of the whole set, and the exponents that
    /// both grow with.
    pub(super) fn growth(&self) -> [(f64, f64); 2] {
        let [_, _, half, all] = &self.0;
        let figure = |point: &Point, at: usize| point.figures.get(at).copied().unwrap_or(0.0);
        [3, 4].map(|at| {
            let (less, more) = (figure(half, at), figure(all, at));
            let exponent = if less > 0.0 { (more / less).log2().clamp(0.0, 1.0) } else { 0.0 };
            (exponent * more / all.objects.max(1) as f64, exponent)
        })
    }

    /// The curve as a Markdown table; with another one, both and how far the other is off in percent.
    pub(super) fn table(&self, other: Option<&Self>) -> String {
        let mut text = String::new();
        let columns: Vec<String> =
            self.0.iter().map(|it| format!("{} x {}", it.objects, it.kernels)).collect();
        let _ = writeln!(text, "| objects x kernels | | {} |", columns.join(" | "));
        let _ = writeln!(text, "|---|---|--:|--:|--:|--:|");
        let number = |it: f64| if it < 100.0 { format!("{it:.1}") } else { format!("{it:.0}") };
        for (at, name) in FIGURES.iter().enumerate() {
            let figures = |curve: &Self| curve.0.map(|it| it.figures.get(at).copied().unwrap_or(0.0));
            let row = |text: &mut String, name: &str, set: &str, cells: [String; 4]| {
                let _ = writeln!(text, "| {name} | {set} | {} |", cells.join(" | "));
            };
            row(&mut text, name, "real", figures(self).map(number));
            let Some(other) = other else { continue };
            row(&mut text, "", "synthetic", figures(other).map(number));
            let (real, made) = (figures(self), figures(other));
            let off = [0, 1, 2, 3].map(|at| {
                let (real, made) =
                    (real.get(at).copied().unwrap_or(0.0), made.get(at).copied().unwrap_or(0.0));
                if real > 0.0 { format!("{:+.0} %", 100.0 * (made / real - 1.0)) } else { String::new() }
            });
            row(&mut text, "", "off by", off);
        }
        text
    }
}
