//! Criterion benchmarks. The times are CPU time of the thread, see `btfleet_benches::clock`.
//!
//! `BTFLEET_BENCH_OBJECTS=DIR` and `BTFLEET_BENCH_KERNEL=FILE` replace the committed samples.

use std::hint::black_box;
use std::time::Duration;

use btfleet_benches::answer::{compare, digest};
use btfleet_benches::clock::{Stopwatch, Time};
use btfleet_benches::libbpf::Scope;
use btfleet_benches::workload::{Paths, Workload};
use btfleet_benches::{Round, aya, btfleet, libbpf};
use btfleet_engine::batch::outcomes;
use btfleet_engine::btf::{Btf, RootIndex};
use btfleet_engine::dialect::Loader;
use btfleet_engine::fleet::Modules;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::Object;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Records of the samples.
const SAMPLE_RECORDS: usize = 500;
/// Digest of the answers to them.
const SAMPLE_DIGEST: u64 = 0x25af_dbd4_f1b4_724b;

/// CPU time of `n` rounds of a peer, without what it prepares.
fn rounds<'a>(n: u64, mut round: impl FnMut() -> Round<'a>) -> Duration {
    (0..n).map(|_| black_box(round()).time.cpu).sum()
}

/// CPU time of `n` runs of `work`.
fn repeat<T>(n: u64, mut work: impl FnMut() -> T) -> Duration {
    let watch = Stopwatch::new();
    for _ in 0..n {
        black_box(work());
    }
    let Time { cpu, .. } = watch.time();
    cpu
}

fn relocate(c: &mut Criterion) {
    let paths = Paths::from_env();
    let work = Workload::read(&paths).expect("the workload's files");
    let by_libbpf = libbpf::Prepared::new(&work).expect("libbpf takes the kernel and all objects");
    let by_aya = aya::Prepared::new(&work).expect("aya takes the kernel");
    let ours = || btfleet::round(&work).expect("btfleet takes the kernel and all objects");
    let theirs = |scope| by_libbpf.round(scope).expect("libbpf takes them again");

    let answers = ours().answers;
    if (&paths.objects, &paths.kernel) == (&Paths::samples().objects, &Paths::samples().kernel) {
        assert_eq!((answers.len(), digest(&answers)), (SAMPLE_RECORDS, SAMPLE_DIGEST));
    }
    assert_eq!(answers.len(), by_libbpf.records(), "records that two readers find");
    for scope in [Scope::Relocation, Scope::WithObjects, Scope::WithObjectsAndKernel] {
        compare(&answers, &theirs(scope).answers).expect("the same answers from libbpf");
    }
    let records = answers.len();
    drop(answers);

    let mut group = c.benchmark_group(format!("relocate/{}", paths.name()));
    group.throughput(Throughput::Elements(records as u64));
    group.sample_size(20);
    group.bench_function("btfleet, kernel and objects loaded too", |b| {
        b.iter_custom(|n| rounds(n, ours));
    });
    for (name, scope) in [
        ("libbpf, relocation alone", Scope::Relocation),
        ("libbpf, objects opened too", Scope::WithObjects),
        ("libbpf, kernel and objects loaded too", Scope::WithObjectsAndKernel),
    ] {
        group.bench_function(name, |b| b.iter_custom(|n| rounds(n, || theirs(scope))));
    }
    group.bench_function("aya-obj, relocation alone", |b| {
        b.iter_custom(|n| rounds(n, || by_aya.round().0));
    });
    group.finish();
}

fn parts(c: &mut Criterion) {
    let paths = Paths::from_env();
    let work = Workload::read(&paths).expect("the workload's files");
    let kernel = Kernel::parse(&work.kernel).expect("the kernel");
    let objects: Vec<Object<'_>> =
        work.objects.iter().map(|it| Object::parse(&it.data).expect("an object")).collect();
    let most = (0..objects.len()).max_by_key(|&at| objects.get(at).map(|it| it.relocs().len()));
    let (Some(file), Some(object)) =
        (most.and_then(|at| work.objects.get(at)), most.and_then(|at| objects.get(at)))
    else {
        return;
    };
    assert!(kernel.vmlinux.btf.type_count() > 1, "the kernel has types");
    assert!(!object.relocs().is_empty(), "there are records");

    let mut group = c.benchmark_group(format!("kernel/{}", paths.name()));
    group.throughput(Throughput::Bytes(work.kernel.len() as u64));
    group.bench_function("Btf::parse", |b| {
        b.iter_custom(|n| repeat(n, || Btf::parse(&work.kernel)));
    });
    group.bench_function("RootIndex::build", |b| {
        b.iter_custom(|n| repeat(n, || RootIndex::build(&kernel.vmlinux.btf)));
    });
    group.bench_function("Kernel::parse, which is both", |b| {
        b.iter_custom(|n| repeat(n, || Kernel::parse(&work.kernel)));
    });
    group.finish();

    let mut group = c.benchmark_group(format!("object/{}", paths.name()));
    group.bench_function("Object::parse, all", |b| {
        b.iter_custom(|n| {
            repeat(n, || work.objects.iter().filter(|it| Object::parse(&it.data).is_ok()).count())
        });
    });
    group.bench_function(BenchmarkId::new("Object::parse", &file.name), |b| {
        b.iter_custom(|n| repeat(n, || Object::parse(&file.data)));
    });
    group.bench_function("Fold, all", |b| {
        b.iter_custom(|n| {
            repeat(n, || {
                let fold = |it| outcomes(Loader::Libbpf, it, &kernel, Modules::All, |_| true).len();
                objects.iter().map(fold).sum::<usize>()
            })
        });
    });
    group.throughput(Throughput::Elements(object.relocs().len() as u64));
    group.bench_function(BenchmarkId::new("Fold", &file.name), |b| {
        b.iter_custom(|n| repeat(n, || outcomes(Loader::Libbpf, object, &kernel, Modules::All, |_| true)));
    });
    group.finish();
}

criterion_group!(benches, relocate, parts);
criterion_main!(benches);
