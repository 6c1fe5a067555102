//! Every matcher gives the candidates of the linear scan, in its order: on generated BTF and on real kernels.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use btfleet_engine::btf::{Btf, NameHash, essential_name};
use btfleet_engine::format::btf::Kind;
use btfleet_engine::ingest::{Intake, KernelFiles, KernelSource};
use btfleet_engine::matchers::{MATCHERS, Matcher};
use btfleet_engine::query::Root;
use btfleet_tests::build::{BtfBuilder, ByteOrder, KIND_CONST, KIND_FWD, KIND_PTR, KIND_TYPE_TAG};
use btfleet_tests::generator::Rng;

/// What the matchers were asked, and how often there was an answer.
#[derive(Default)]
struct Asked {
    hits: usize,
    misses: usize,
    /// Hits with several candidates.
    several: usize,
}

/// Asks all matchers for each of `roots` in `btf`, each with a list that still holds the last answer.
fn check(btf: &Btf<'_>, roots: &[Root<'_>], what: &str, asked: &mut Asked) {
    let (reference, others) = MATCHERS.split_first().unwrap();
    let reference = (reference.build)(btf);
    let others: Vec<(&str, Box<dyn Matcher>)> = others.iter().map(|it| (it.name, (it.build)(btf))).collect();
    let (mut expected, mut found) = (Vec::new(), Vec::new());
    for root in roots {
        reference.candidates(root, &mut expected);
        match expected.len() {
            0 => asked.misses += 1,
            1 => asked.hits += 1,
            _ => {
                asked.hits += 1;
                asked.several += 1;
            }
        }
        for (name, matcher) in &others {
            matcher.candidates(root, &mut found);
            assert_eq!(
                found,
                expected,
                "{name} on {what}: {:?} {root:?}",
                String::from_utf8_lossy(root.essential)
            );
        }
    }
}

const KINDS: [Kind; 20] = [
    Kind::Int,
    Kind::Ptr,
    Kind::Array,
    Kind::Struct,
    Kind::Union,
    Kind::Enum,
    Kind::Fwd,
    Kind::Typedef,
    Kind::Volatile,
    Kind::Const,
    Kind::Restrict,
    Kind::Func,
    Kind::FuncProto,
    Kind::Var,
    Kind::Datasec,
    Kind::Float,
    Kind::DeclTag,
    Kind::TypeTag,
    Kind::Enum64,
    Kind::Void,
];

/// Names that are prefixes of one another, with separators that cut and others that do not.
const NAMES: &[&str] = &[
    "",
    "a",
    "b",
    "a_",
    "a_b",
    "a__b",
    "a___",
    "a___b",
    "a___b___c",
    "a____b",
    "___a",
    "aZ",
    "aa",
    "A___b",
    "a___A",
    "a.b",
    "task",
    "task_struct",
    "task___x",
    "task_struct___old",
    "task____struct",
    "_",
    "__",
    "____",
];

fn any_name(rng: &mut Rng) -> String {
    let mut name = (*rng.pick(NAMES)).to_owned();
    if rng.chance(30) {
        name.push_str(&rng.below(40).to_string());
    }
    if rng.chance(20) {
        let flavor = rng.pick(&["___f", "___g", "____", "___"]);
        name.push_str(flavor);
    }
    name
}

/// Adds types of all kinds that can have a name; references stay within what is there.
fn fill(btf: &mut BtfBuilder, rng: &mut Rng, count: u32) {
    let int = btf.int("int", 4, 1);
    let proto = btf.func_proto(int, &[]);
    for _ in 0..count {
        let name = any_name(rng);
        let name = name.as_str();
        match rng.below(16) {
            0..3 => btf.structure(name, 0, &[]),
            3 => btf.union(name, 0, &[]),
            4 | 5 => btf.enumeration(name, 4, false, &[]),
            6 | 7 => btf.enum64(name, 8, false, &[]),
            8 => btf.any(name, KIND_FWD, 0, false, 0, &[]),
            9 => btf.typedef(name, int),
            10 => btf.func(name, proto, 1),
            11 => btf.var(name, int, 1),
            12 => btf.any(name, KIND_PTR, 0, false, int, &[]),
            13 => btf.any(name, *rng.pick(&[KIND_CONST, KIND_TYPE_TAG]), 0, false, int, &[]),
            14 => btf.float(name, 8),
            _ => btf.datasec(name, 0, &[]),
        };
    }
}

/// Full names to ask for: those that the builder draws from, whether they are there or not.
fn names_to_ask(rng: &mut Rng) -> Vec<String> {
    let drawn: Vec<String> = (0..40).map(|_| any_name(rng)).collect();
    NAMES.iter().map(|it| (*it).to_owned()).chain(drawn).collect()
}

fn roots_of(names: &[String]) -> Vec<Root<'_>> {
    names.iter().flat_map(|name| KINDS.map(|kind| Root::new(name.as_bytes(), kind))).collect()
}

/// Check that all matchers agree on generated BTF of either byte order, and on the split BTF of a module on it.
#[test]
fn matchers_agree_on_generated_btf() {
    let mut asked = Asked::default();
    for seed in 0..150 {
        let mut rng = Rng::new(seed);
        let order = if seed % 4 == 0 { ByteOrder::Big } else { ByteOrder::Little };
        let mut base = BtfBuilder::new(order);
        let count = rng.below(300);
        fill(&mut base, &mut rng, count);
        // The module repeats names of its base, some of which stand in the base's strings.
        let mut module = BtfBuilder::split(&base);
        fill(&mut module, &mut rng, count / 3);
        let (base, module) = (base.finish(), module.finish());
        let vmlinux = Arc::new(Btf::parse(&base).unwrap());
        let split = Btf::parse_split(&module, Arc::clone(&vmlinux)).unwrap();
        let names = names_to_ask(&mut rng);
        let roots = roots_of(&names);
        check(&vmlinux, &roots, &format!("base of seed {seed}"), &mut asked);
        check(&split, &roots, &format!("module of seed {seed}"), &mut asked);
    }
    assert!(asked.hits > 20_000 && asked.misses > 20_000 && asked.several > 5_000, "{}", asked.hits);
}

/// Check that a BTF sorted by name, which is searched in place, and one that just fails to be give the same lists.
#[test]
fn matchers_agree_on_sorted_btf() {
    let mut asked = Asked::default();
    for seed in 0..100 {
        let mut rng = Rng::new(seed);
        let mut names: Vec<String> = (0..rng.below(200)).map(|_| any_name(&mut rng)).collect();
        names.sort_unstable();
        if seed % 3 == 0 && names.len() > 1 {
            let last = names.len() - 1;
            names.swap(0, last);
        }
        let mut btf = BtfBuilder::new(ByteOrder::Little);
        for name in &names {
            match rng.below(3) {
                0 => btf.structure(name, 0, &[]),
                1 => btf.enumeration(name, 4, false, &[]),
                _ => btf.enum64(name, 8, false, &[]),
            };
        }
        let data = btf.finish();
        let btf = Btf::parse(&data).unwrap();
        let names = names_to_ask(&mut rng);
        check(&btf, &roots_of(&names), &format!("seed {seed}"), &mut asked);
        if seed % 3 != 0 {
            let sorted = MATCHERS.iter().find(|it| it.name == "sorted-names").unwrap();
            assert_eq!((sorted.build)(&btf).bytes(), 0, "seed {seed}: a list of ids beside a sorted BTF");
        }
    }
    assert!(asked.hits > 1000 && asked.several > 500, "{}", asked.hits);
}

/// Check that names whose hashes share their upper bits, and so a bucket of every structure, are kept apart.
#[test]
fn matchers_agree_where_hashes_collide() {
    let bucket = |name: &str| NameHash::of(name.as_bytes()).0 >> 52;
    let wanted = bucket("n0");
    let colliding: Vec<String> =
        (0..).map(|it| format!("n{it}")).filter(|it| bucket(it) == wanted).take(300).collect();
    let mut btf = BtfBuilder::new(ByteOrder::Little);
    for (name, number) in colliding.iter().zip(0..) {
        // Every third is asked for only.
        match number % 3 {
            0 => btf.structure(name, 0, &[]),
            1 => btf.structure(&format!("{name}___flavor"), 0, &[]),
            _ => btf.next_id(),
        };
    }
    let data = btf.finish();
    let mut asked = Asked::default();
    check(&Btf::parse(&data).unwrap(), &roots_of(&colliding), "colliding names", &mut asked);
    assert_eq!(asked.hits, 200);
}

/// Check that an empty BTF has no candidates for anything.
#[test]
fn matchers_agree_on_an_empty_btf() {
    let data = BtfBuilder::new(ByteOrder::Little).finish();
    let names: Vec<String> = NAMES.iter().map(|it| (*it).to_owned()).collect();
    let mut asked = Asked::default();
    check(&Btf::parse(&data).unwrap(), &roots_of(&names), "no types", &mut asked);
    assert_eq!(asked.hits, 0);
}

/// Names of `btf` that are asked for: every 1500th of each kind, all that have a flavor, and names that come near.
fn real_names(btf: &Btf<'_>) -> Vec<(Vec<u8>, Kind)> {
    let mut seen = [0_u32; KINDS.len()];
    let mut names = Vec::new();
    for (id, ty) in btf.own_types() {
        let name = btf.name(ty.name_off);
        let Some(at) = KINDS.iter().position(|it| *it == ty.kind) else { continue };
        if name.is_empty() {
            continue;
        }
        seen[at] += 1;
        let has_flavor = essential_name(name).len() < name.len();
        if has_flavor && names.len() < 200 || seen[at] % 1500 == 1 {
            let other_kind = KINDS[id.0 as usize % KINDS.len()];
            names.push((name.to_vec(), ty.kind));
            names.push((name.to_vec(), other_kind));
            names.push(([name, b"_absent"].concat(), ty.kind));
            names.push((name[..name.len() - 1].to_vec(), ty.kind));
        }
    }
    names
}

/// Checks vmlinux, and each of the modules as the split BTF that it is.
fn check_kernel(vmlinux: &Path, modules: Vec<PathBuf>, asked: &mut Asked) {
    let name = vmlinux.file_name().unwrap().to_string_lossy().into_owned();
    let source = KernelSource { modules, ..KernelSource::alone(name, vmlinux.to_owned()) };
    let files = KernelFiles::read(&Intake::default(), &source).unwrap();
    let (kernel, _) = files.parse().unwrap();
    let modules = kernel.modules.iter().map(|module| (module.name.as_str(), &module.indexed.btf));
    for (name, btf) in [(source.name.as_str(), &kernel.vmlinux.btf)].into_iter().chain(modules) {
        let names = real_names(btf);
        let roots: Vec<Root<'_>> = names.iter().map(|(name, kind)| Root::new(name, *kind)).collect();
        check(btf, &roots, name, asked);
    }
}

fn kernels_in(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().contains(".btf"));
    files.sort();
    files
}

/// Check that all matchers agree on the kernels of the samples.
#[test]
fn matchers_agree_on_the_samples() {
    let mut asked = Asked::default();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples/kernels");
    for path in kernels_in(&dir) {
        check_kernel(&path, Vec::new(), &mut asked);
    }
    assert!(asked.hits > 100 && asked.misses > 100 && asked.several > 0, "{}", asked.hits);
}

/// Check that all matchers agree on real kernels, of the corpus where it is at hand.
#[test]
fn matchers_agree_on_the_corpus() {
    let Some(corpus) = btfleet_tests::corpus("matchers are not compared on its kernels") else { return };
    let mut asked = Asked::default();
    for path in kernels_in(&corpus.join("kernels")) {
        check_kernel(&path, Vec::new(), &mut asked);
    }
    assert!(asked.hits > 1000 && asked.misses > 1000 && asked.several > 0, "{}", asked.hits);
}

/// Check that all matchers agree on the modules of real kernels.
#[test]
fn matchers_agree_on_modules() {
    let Some(corpus) = btfleet_tests::corpus("matchers are not compared on its modules") else { return };
    let mut asked = Asked::default();
    for entry in std::fs::read_dir(corpus.join("modules")).unwrap() {
        let dir = entry.unwrap().path();
        if dir.is_dir() {
            let kernel = format!("{}.btf", dir.file_name().unwrap().to_string_lossy());
            check_kernel(&corpus.join("kernels").join(kernel), kernels_in(&dir), &mut asked);
        }
    }
    assert!(asked.hits > 500 && asked.misses > 500, "{}", asked.hits);
}
