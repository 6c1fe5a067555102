//! A synthetic set of kernels and objects of any size, derived from a real one.
//!
//! 1. `inputs` lists the real kernels and objects; `rates` measures how often what changes between consecutive
//!    kernels, `curves` how the numbers of questions and layouts grow with the set.
//! 2. `objects` derives objects: another member here, another root there, as often as the curves say.
//! 3. `kernels` derives kernels: each real one is followed by a line of successors, changed at the measured rates
//!    (`members`, `layout` on `btf_edit`); `trim` leaves out what no object can see.
//! 4. `curves` measures the result the same way.
//!
//! Synthetic number `n` descends from the real kernel or object number `n` modulo how many there are, in a random
//! order: the first round has one descendant of each. One kernel or object at a time is in memory, and what the
//! curves count of the first round.

mod btf_edit;
mod curves;
mod elf;
mod inputs;
mod kernels;
mod layout;
mod manifest;
mod members;
mod objects;
mod rates;
mod rng;
mod shape;
mod trim;
mod vocabulary;

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::path::{Path, PathBuf};

use btfleet_engine::btf::NameHash;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::Object;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sha2::{Digest, Sha256};

use self::btf_edit::Model;
use self::curves::{Curve, KernelFacts, ObjectFacts, Questions};
use self::inputs::{KernelInput, ObjectInput, Step};
use self::kernels::Lineage;
use self::manifest::{Entry, Out, Settings};
use self::objects::{Deriver, Novelty};
use self::rates::{Outline, Rates};
use self::rng::Rng;
use self::trim::Wanted;
use self::vocabulary::Vocabulary;

/// In the first round each object stands for its origin: it brings little that is new of its own.
const FIRST_ROUND_NOVELTY: f64 = 0.05;

/// What is to be generated, and from what.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of kernels.
    pub kernels: u64,
    /// Number of objects.
    pub objects: u64,
    /// What everything is drawn from.
    pub seed: u64,
    /// Directory with real kernels.
    pub from_kernels: PathBuf,
    /// Directory with real objects.
    pub from_objects: PathBuf,
    /// Leave out of kernels what no object can see, but for a sample.
    pub trim: bool,
}

/// Why nothing, or not all, was generated.
#[expect(missing_docs, reason = "the fields are what the messages say of them")]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory could not be read.
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    /// A file could not be written or moved into place.
    #[error("cannot write {}: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
    /// There is nothing to derive from.
    #[error("{} has no {what}", dir.display())]
    NoInput { dir: PathBuf, what: &'static str },
    /// An input is not what it should be.
    #[error("{}: {what}", path.display())]
    Unusable { path: PathBuf, what: String },
    /// Something else is where the results should go.
    #[error("{} is not from a run with these settings; take an empty directory", path.display())]
    Foreign { path: PathBuf },
}

/// The real set, measured.
struct Real<'a> {
    questions: Questions<'a>,
    objects: Vec<ObjectFacts>,
    kernels: Vec<KernelFacts>,
    rates: Rates,
    vocabulary: Vocabulary,
    wanted: Wanted,
    kernel_bytes: u64,
}

/// Measures the real set; its growth curves and rates of change as text.
///
/// # Errors
/// If an input is missing or cannot be read.
pub fn statistics(from_kernels: &Path, from_objects: &Path) -> Result<String, Error> {
    let inputs = inputs::objects(from_objects)?;
    let kernels = inputs::kernels(from_kernels)?;
    let real = measure(&inputs, &kernels)?;
    let curve = Curve::of(&real.objects, &real.kernels, inputs.len(), kernels.len());
    Ok(curve.table(None) + "\n" + &rates_table(&real.rates))
}

/// Generates what `options` ask for into `out`; the growth curves of both sets as text.
///
/// # Errors
/// If an input is missing or cannot be read, or if a result cannot be written.
pub fn generate(options: &Options, out: &Path) -> Result<String, Error> {
    let inputs = inputs::objects(&options.from_objects)?;
    let kernels = inputs::kernels(&options.from_kernels)?;
    let settings = Settings::of(options, &inputs, &kernels);
    let mut out = Out::open(out, &settings)?;
    let real = measure(&inputs, &kernels)?;
    say(&estimate(options, &real, &inputs, &kernels)?);

    let first_round = |count: u64, of: usize| usize::try_from(count).unwrap_or(usize::MAX).min(of);
    let object_count = first_round(options.objects, inputs.len());
    let kernel_count = first_round(options.kernels, kernels.len());
    let real_curve = Curve::of(&real.objects, &real.kernels, object_count, kernel_count);
    let whole = Curve::of(&real.objects, &real.kernels, inputs.len(), kernels.len());

    // Real and synthetic ones in the same order: the curves' random orders then are the same on both sides.
    let mut first = generate_objects(options, &inputs, &real, &whole, &mut out)?;
    first.sort_by_key(|(origin, _)| *origin);
    let mut questions = Questions::default();
    let mut object_facts = Vec::new();
    for (_, data) in &first {
        if let Ok(object) = Object::parse(data) {
            object_facts.push(questions.note(&object));
        }
    }
    let kernel_facts = generate_kernels(options, &kernels, &real, &questions, &mut out)?;
    out.finish()?;
    let made = Curve::of(&object_facts, &kernel_facts, object_count, kernel_count);
    Ok(real_curve.table(Some(&made)))
}

/// Reads the whole real set once.
fn measure<'a>(inputs: &'a [ObjectInput], kernels: &[KernelInput]) -> Result<Real<'a>, Error> {
    let mut questions = Questions::default();
    let mut objects = Vec::new();
    let mut wanted = Wanted::new();
    for input in inputs {
        let Ok(object) = Object::parse(&input.data) else { continue };
        objects.push(questions.note(&object));
        let attached = object.programs().iter().filter_map(|it| it.attach);
        for (prefix, name) in attached.filter_map(|it| Some((it.kind.in_btf()?.0, it.name?))) {
            wanted.insert(NameHash::of(&[prefix.as_bytes(), name].concat()).0);
        }
        wanted.extend(object.externs().iter().map(|it| NameHash::of(it.name).0));
    }
    wanted.extend(questions.root_names());
    let newest = kernels.iter().max_by_key(|it| (&it.release.numbers, it.release.flavour.contains("amd64")));
    let mut real = Real {
        questions,
        objects,
        kernels: Vec::new(),
        rates: Rates::default(),
        vocabulary: Vocabulary::default(),
        wanted,
        kernel_bytes: 0,
    };
    let bar = progress(kernels.len() as u64, "reading kernels");
    let mut before: Option<(&KernelInput, Outline)> = None;
    for input in kernels {
        let data = inputs::read_kernel(input)?;
        let unusable = |what: String| Error::Unusable { path: input.path.clone(), what };
        let kernel = Kernel::parse(&data).map_err(|error| unusable(error.to_string()))?;
        let outline = Outline::of(&kernel.vmlinux.btf);
        if let Some((last, old)) = before.filter(|(last, _)| last.release.flavour == input.release.flavour) {
            real.rates.note(last.release.step_to(&input.release), &old, &outline);
        }
        before = Some((input, outline));
        if newest.is_some_and(|it| it.path == input.path) {
            real.vocabulary = Vocabulary::of(&kernel.vmlinux.btf);
        }
        real.kernels.push(real.questions.ask(&kernel));
        real.kernel_bytes += data.len() as u64;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(real)
}

/// Objects in the order of their numbers. Returns those of the first round, each with the number of its origin.
fn generate_objects(
    options: &Options,
    inputs: &[ObjectInput],
    real: &Real<'_>,
    curve: &Curve,
    out: &mut Out,
) -> Result<Vec<(usize, Vec<u8>)>, Error> {
    let [roots, queries] = curve.growth();
    let asked: Wanted = real.questions.root_names().collect();
    let mut fresh = real.vocabulary.sampled();
    fresh.retain(|it| !asked.contains(&NameHash::of(&it.name).0));
    let deriver = Deriver { seed: options.seed, vocabulary: &real.vocabulary, fresh };
    let order = origins(options.seed, 12, inputs.len());
    let bar = progress(options.objects, "writing objects");
    let mut first = Vec::new();
    let mut passed_over = 0;
    for number in 0..options.objects {
        let place = usize::try_from(number % inputs.len() as u64).unwrap_or(0);
        let round = number / inputs.len() as u64;
        let at_size = |(rate, exponent): (f64, f64)| match round {
            0 => rate * FIRST_ROUND_NOVELTY,
            _ => rate * ((number + 1) as f64 / inputs.len() as f64).powf(exponent - 1.0),
        };
        let novelty = Novelty { roots: at_size(roots), queries: at_size(queries) };
        // An origin that cannot be rewritten is passed over for the next.
        let tried = (0..inputs.len()).find_map(|next| {
            let input = inputs.get(*order.get((place + next) % order.len())?)?;
            Some((input, deriver.derive(input, number, novelty)?, next))
        });
        let Some((input, (data, counts), next)) = tried else {
            return Err(Error::NoInput {
                dir: options.from_objects.clone(),
                what: "BPF objects that can be rewritten",
            });
        };
        passed_over += u64::from(next > 0);
        let stem = Path::new(&input.name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let stem = stem.trim_end_matches(".bpf");
        let entry = Entry {
            kind: "object",
            path: format!("objects/{stem}-synth{number}.bpf.o"),
            number,
            from: input.name.clone(),
            round,
            step: None,
            size: data.len() as u64,
            sha256: sha256(&data),
            changes: counts,
        };
        out.write(&entry, &data)?;
        if number < inputs.len() as u64 {
            first.push((order.get(place).copied().unwrap_or(place), data));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if passed_over > 0 {
        say(&format!("{passed_over} objects have the next origin, theirs could not be rewritten"));
    }
    Ok(first)
}

/// Kernels, one real one after the other, each with all its descendants. Returns the facts of the first round, in the order of the
/// origins.
fn generate_kernels(
    options: &Options,
    inputs: &[KernelInput],
    real: &Real<'_>,
    questions: &Questions<'_>,
    out: &mut Out,
) -> Result<Vec<KernelFacts>, Error> {
    let order = origins(options.seed, 13, inputs.len());
    let bar = progress(options.kernels, "writing kernels");
    let mut facts = std::collections::BTreeMap::new();
    for (place, &origin) in (0_u64..).zip(&order) {
        let Some(input) = inputs.get(origin).filter(|_| place < options.kernels) else { continue };
        let mut lineage = lineage(options, real, input)?;
        let mut number = place;
        let mut round = 0;
        while number < options.kernels {
            let (step, release, counts) = lineage.advance(number);
            let flavour = Some(release.flavour.as_str()).filter(|it| !it.is_empty());
            let flavour = flavour.map(|it| format!("-{it}")).unwrap_or_default();
            let path = format!("kernels/{}-synth{number}{flavour}.btf", release.version());
            let (step, counts) = (step.name(), counts.clone());
            let data = lineage.write();
            let from = input.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let size = data.len() as u64;
            let sha256 = sha256(&data);
            let entry = Entry {
                kind: "kernel",
                path,
                number,
                from,
                round,
                step: Some(step),
                size,
                sha256,
                changes: counts,
            };
            out.write(&entry, &data)?;
            if round == 0 {
                let unusable = |what: String| Error::Unusable { path: input.path.clone(), what };
                let kernel = Kernel::parse(&data)
                    .map_err(|error| unusable(format!("its descendant is no BTF: {error}")))?;
                facts.insert(origin, questions.ask(&kernel));
            }
            number += inputs.len() as u64;
            round += 1;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(facts.into_values().collect())
}

/// The line of descendants of a real kernel, at its start.
fn lineage<'a>(options: &Options, real: &'a Real<'_>, input: &KernelInput) -> Result<Lineage<'a>, Error> {
    let unusable = || Error::Unusable {
        path: input.path.clone(),
        what: "has types that cannot be rewritten, or lacks integers".to_owned(),
    };
    let mut model = Model::read(&inputs::read_kernel(input)?).ok_or_else(unusable)?;
    let order = if options.trim {
        trim::trim(&mut model, &real.wanted)
    } else {
        model.types().map(|(id, _)| id).collect()
    };
    let release = input.release.clone();
    Lineage::new(&real.rates, options.seed, model, order, release).ok_or_else(unusable)
}

/// Numbers of the inputs in the order in which they have descendants.
fn origins(seed: u64, what: u64, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    Rng::of(seed, &[what]).shuffle(&mut order);
    order
}

/// How much will be written, from the sizes of the inputs.
fn estimate(
    options: &Options,
    real: &Real<'_>,
    inputs: &[ObjectInput],
    kernels: &[KernelInput],
) -> Result<String, Error> {
    let mut kernel_bytes = real.kernel_bytes as f64 / kernels.len() as f64;
    if let Some(input) = kernels.get(kernels.len() / 2).filter(|_| options.trim) {
        let whole = inputs::read_kernel(input)?.len() as f64;
        kernel_bytes *= lineage(options, real, input)?.write().len() as f64 / whole;
    }
    let len = |it: &ObjectInput| {
        elf::Elf::read(&it.data).map_or(it.data.len(), |mut elf| {
            elf.drop_dwarf();
            elf.write().len()
        })
    };
    let object_bytes = inputs.iter().map(len).sum::<usize>() as f64 / inputs.len() as f64;
    let mb = |count: u64, each: f64| (count as f64 * each / 1e6).ceil();
    let (kernel_mb, object_mb) = (mb(options.kernels, kernel_bytes), mb(options.objects, object_bytes));
    Ok(format!(
        "{} kernels from {} and {} objects from {}: about {kernel_mb} MB and {object_mb} MB",
        options.kernels,
        kernels.len(),
        options.objects,
        inputs.len(),
    ))
}

fn rates_table(rates: &Rates) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "| step | steps | structs and enums changed | gone | new | functions gone | new |\n|---|--:|--:|--:|--:|--:|--:|"
    );
    for step in Step::ALL.into_iter().filter(|&it| rates.steps(it) > 0.0) {
        let ((changed, gone), (added, funcs_added, funcs_gone)) =
            (rates.overall(step), rates.additions(step));
        let _ = writeln!(
            text,
            "| {} | {} | {:.2} % | {:.2} % | {added:.0} | {funcs_gone:.0} | {funcs_added:.0} |",
            step.name(),
            rates.steps(step),
            100.0 * changed,
            100.0 * gone,
        );
    }
    text
}

fn progress(len: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(len), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template("{msg} {pos}/{len} {bar:30} {eta} left") {
        Ok(style) if io::stderr().is_terminal() => bar.with_style(style).with_message(what),
        _ => {
            say(&format!("{what}: {len}"));
            ProgressBar::hidden()
        }
    }
}

/// A line on stderr. Nobody is told if it is closed, since nowhere is left to tell it.
fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// SHA-256 in lower-case hexadecimal.
fn sha256(data: &[u8]) -> String {
    format!("{:x}", Sha256::digest(data))
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use btfleet_engine::format::btf::Kind;

    use super::*;

    fn samples() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("samples")
    }

    fn options(kernels: u64, objects: u64, trim: bool) -> Options {
        let (from_kernels, from_objects) = (samples().join("kernels"), samples().join("objects"));
        Options { kernels, objects, seed: 3, from_kernels, from_objects, trim }
    }

    /// Structs whose members overlap or reach beyond the end, by name, with how many do.
    fn defects(model: &Model) -> BTreeMap<Vec<u8>, usize> {
        let mut defects = BTreeMap::new();
        for (_, record) in model.types().filter(|(_, it)| it.kind() == Kind::Struct) {
            let mut reached = 0_u64;
            for it in record.members() {
                let start = u64::from(it.offset);
                let bits = if it.width > 0 { u64::from(it.width) } else { 8 * u64::from(model.size(it.ty)) };
                let end = start + bits;
                if start < reached || end > 8 * u64::from(record.word) {
                    *defects.entry(model.text(record.name).to_vec()).or_default() += 1;
                }
                reached = end;
            }
        }
        defects
    }

    #[test]
    fn members_of_synthetic_kernels_overlap_no_more_than_they_did() {
        let dir = tempfile::tempdir().unwrap();
        generate(&options(24, 1, false), dir.path()).unwrap();
        let mut before = BTreeMap::new();
        for input in inputs::kernels(&samples().join("kernels")).unwrap() {
            let name = input.path.file_name().unwrap().to_string_lossy().into_owned();
            before.insert(name, defects(&Model::read(&inputs::read_kernel(&input).unwrap()).unwrap()));
        }
        let manifest = fs::read_to_string(dir.path().join("manifest.jsonl")).unwrap();
        let mut kernels = 0;
        for line in manifest.lines().skip(1) {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            if line["kind"] == "kernel" {
                let data = fs::read(dir.path().join(line["path"].as_str().unwrap())).unwrap();
                assert_eq!(line["sha256"], sha256(&data));
                let (now, old) =
                    (defects(&Model::read(&data).unwrap()), &before[line["from"].as_str().unwrap()]);
                let total = |it: &BTreeMap<Vec<u8>, usize>| it.values().sum::<usize>();
                let new: Vec<_> = now.keys().filter(|it| !old.contains_key(*it)).collect();
                let shown: Vec<_> = new.iter().map(|it| String::from_utf8_lossy(it)).collect();
                assert!(total(&now) <= total(old) + 2 && shown.len() <= 1, "{line}: {shown:?}");
                kernels += 1;
            }
        }
        assert_eq!(kernels, 24);
    }

    #[test]
    fn an_interrupted_run_goes_on_and_foreign_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let options = options(1, 30, true);
        generate(&options, dir.path()).unwrap();
        let manifest = fs::read(dir.path().join("manifest.jsonl")).unwrap();
        fs::rename(dir.path().join("manifest.jsonl"), dir.path().join("manifest.part.jsonl")).unwrap();
        let gone = fs::read_dir(dir.path().join("objects")).unwrap().next().unwrap().unwrap().path();
        fs::remove_file(&gone).unwrap();
        generate(&options, dir.path()).unwrap();
        assert!(gone.exists());
        assert_eq!(fs::read(dir.path().join("manifest.jsonl")).unwrap(), manifest);

        let refused = |options: &Options| matches!(generate(options, dir.path()), Err(Error::Foreign { .. }));
        assert!(refused(&Options { seed: 4, ..options.clone() }), "another seed");
        fs::write(dir.path().join("objects/mine.o"), "").unwrap();
        assert!(refused(&options), "a foreign file");
    }
}
