//! Criterion benchmarks of the batch engine's small steps, on kernels of a pack. The times are CPU time of the thread.
//!
//! `BTFLEET_BENCH_FLEET=DIR` takes the real set from that folder, in place of the committed samples.

use std::env;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use btfleet_benches::clock::Stopwatch;
use btfleet_benches::fleet::{load, round, with_pack, write_pack};
use btfleet_benches::set::Set;
use btfleet_benches::workload::{File, Paths};
use btfleet_engine::batch::Batch;
use btfleet_engine::dialect::{Kinds, Rules, Searched};
use btfleet_engine::fleet::{Fleet, Modules, RootTable, Selection};
use btfleet_engine::format::btf_ext::RelocKind;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::Object;
use btfleet_engine::query::Query;
use btfleet_engine::resolve::{Budget, on_candidate};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// CPU time of `n` runs of `work`.
fn repeat<T>(n: u64, mut work: impl FnMut() -> T) -> Duration {
    let watch = Stopwatch::new();
    for _ in 0..n {
        black_box(work());
    }
    watch.time().cpu
}

/// The name of the workload, and its files.
fn workload(scratch: &Path) -> (&'static str, Set) {
    if let Some(dir) = env::var_os("BTFLEET_BENCH_FLEET") {
        let set = Set::named("real", Path::new(&dir), &["object", "kernel"]).expect("the list of the set");
        assert!(set.missing.is_empty(), "missing: {:?}", set.missing);
        return ("real set", set);
    }
    let samples = Paths::samples();
    let kernels = samples.kernel.parent().expect("kernels are in a folder");
    for entry in fs::read_dir(kernels).expect("the samples' kernels") {
        let path = entry.expect("an entry").path();
        let packed = fs::read(&path).expect("a kernel");
        let name = path.file_stem().expect("a name");
        fs::write(scratch.join(name), zstd::decode_all(packed.as_slice()).expect("a kernel, unpacked"))
            .expect("room for a kernel");
    }
    ("samples", Set::read(&samples.objects, Some(scratch)).expect("the samples"))
}

/// A question on a kernel's type.
type Case<'a> = (&'a Query<'a>, RelocKind, &'a RootTable<'a>);

fn steps(c: &mut Criterion) {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let (name, set) = workload(scratch.path());
    let files: Vec<&File> = set.objects.iter().collect();
    let kernel_files: Vec<&File> = set.kernels.iter().collect();
    let pack = scratch.path().join("kernels.pack");
    let loaded = load(&kernel_files).expect("all kernels");
    write_pack(&pack, &kernel_files, &loaded).expect("the pack");
    drop(loaded);

    let mut group = c.benchmark_group(format!("pack/{name}"));
    group.bench_function("open, all kernels", |b| {
        b.iter_custom(|n| repeat(n, || with_pack(&pack, |_, kernels| Ok(kernels.len()))));
    });
    group.finish();
    with_pack(&pack, |_, kernels| {
        on_open_pack(c, name, &files, kernels);
        Ok(())
    })
    .expect("the pack, opened");
}

fn on_open_pack(c: &mut Criterion, name: &str, files: &[&File], kernels: &[Kernel<'_>]) {
    let objects: Vec<Object<'_>> =
        files.iter().map(|it| Object::parse(&it.data).expect("an object")).collect();
    let by_records = |it: &&(&&File, &Object<'_>)| it.1.relocs().len();
    let pairs: Vec<(&&File, &Object<'_>)> = files.iter().zip(&objects).collect();
    let Some((most, object)) = pairs.iter().max_by_key(by_records).copied() else { return };

    let mut queries: Vec<(&Query<'_>, RelocKind)> = Vec::new();
    for reloc in objects.iter().flat_map(Object::relocs) {
        let query = reloc.question.as_ref().ok().and_then(|it| it.query.as_ref()).zip(reloc.kind);
        queries.extend(query.filter(|it| !queries.contains(it)));
    }
    let fleet = Fleet::new(kernels.iter().collect());
    let selection =
        Selection { modules: Modules::All, kinds: Kinds::Compatible, searched: Searched::ModulesIfNone };
    let table = |query: &Query<'_>| fleet.table(&query.root, selection);
    let tables: Vec<RootTable<'_>> = queries.iter().map(|it| table(it.0)).collect();
    let cases: Vec<Case<'_>> =
        queries.iter().zip(&tables).map(|((query, kind), it)| (*query, *kind, it)).collect();
    let answers: usize = tables.iter().map(|it| it.shapes.len()).sum();
    assert!(answers > 0, "some type is there on some kernel");

    let mut group = c.benchmark_group(format!("pack/{name}"));
    group.throughput(Throughput::Elements(queries.len() as u64));
    group.bench_function("roots looked up, one for each question", |b| {
        b.iter_custom(|n| repeat(n, || queries.iter().map(|it| table(it.0).views.len()).sum::<usize>()));
    });
    group.finish();

    let mut group = c.benchmark_group(format!("query/{name}"));
    group.throughput(Throughput::Elements(answers as u64));
    group.bench_function("each question on each type", |b| {
        b.iter_custom(|n| repeat(n, || cases.iter().map(answer_all).sum::<usize>()));
    });
    group.finish();

    let mut group = c.benchmark_group(format!("one object/{name}"));
    group.throughput(Throughput::Elements((object.relocs().len() * kernels.len()) as u64));
    group.bench_function(format!("{}: parsed", most.name), |b| {
        b.iter_custom(|n| repeat(n, || Object::parse(&most.data)));
    });
    group.bench_function(format!("{}: parsed, all rows on all kernels", most.name), |b| {
        b.iter_custom(|n| {
            let rounds = (0..n).map(|_| round(&Batch::SEQUENTIAL, &[most], kernels, |_| Ok(())));
            rounds.map(|it| it.expect("all rows").0.total().cpu).sum()
        });
    });
    group.finish();
}

/// Answers a question on all types; how many gave an answer.
fn answer_all(&(query, kind, table): &Case<'_>) -> usize {
    let on = |btf, id| on_candidate(&Rules::LIBBPF, query, kind, btf, id, &mut Budget::new());
    table.shapes.iter().filter(|it| black_box(on(it.btf, it.id)).is_ok()).count()
}

criterion_group!(benches, steps);
criterion_main!(benches);
