//! Packs as files: appended to, compacted, with names removed.

use std::fs;
use std::path::PathBuf;

use btfleet_engine::btf::Btf;
use btfleet_engine::pack::{self, Added, Facts, NewKernel, PackError, PackFile};

use super::{same, samples};

/// A file of one test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("btfleet-test-{}-{name}.pack", std::process::id()));
        let _ = fs::remove_file(&path);
        Self(path)
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.0).expect("readable")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn add(scratch: &Scratch, kernels: &[(String, Vec<u8>)]) -> Vec<Added> {
    let facts = Facts { release: "6.1".into(), ..Facts::default() };
    let work = |builder: &mut pack::Builder<'_>| {
        let added = kernels.iter().map(|(name, bytes)| {
            let vmlinux = Btf::parse(bytes).expect("BTF");
            builder.add(&NewKernel {
                name,
                facts: &facts,
                vmlinux: &vmlinux,
                vmlinux_bytes: bytes,
                modules: vec![],
            })
        });
        added.collect::<Result<Vec<_>, PackError>>()
    };
    pack::update(&scratch.0, &|| (), work).expect("a pack").0
}

/// Kernels that share much and differ in all ways: the samples, a part of each, and one that is there twice.
fn kernels() -> Vec<(String, Vec<u8>)> {
    let mut kernels = samples();
    let again = kernels.first().expect("samples").1.clone();
    kernels.push(("again".into(), again));
    kernels
}

/// Check that the bytes of a compacted pack depend on the kernels and their order, not on how they were added, and
/// that a pack of many segments says what one of a single segment says.
#[test]
fn compaction_forgets_how_a_pack_was_made() {
    let kernels = kernels();
    let at_once = Scratch::new("at-once");
    add(&at_once, &kernels);
    let one_by_one = Scratch::new("one-by-one");
    for kernel in &kernels {
        add(&one_by_one, std::slice::from_ref(kernel));
    }
    let file = PackFile::open(&one_by_one.0).unwrap();
    let pack = file.view().unwrap();
    assert_eq!(pack.segment_count(), kernels.len());
    pack::verify(&pack).unwrap();
    for (kernel, (_, bytes)) in (0..).zip(&kernels).take(3) {
        same::unit(&pack, kernel, None, &Btf::parse(bytes).unwrap());
    }
    let names: Vec<&str> = pack.names().unwrap().into_iter().map(|it| it.0).collect();
    assert_eq!(names, kernels.iter().map(|it| it.0.as_str()).collect::<Vec<_>>());
    let whole = at_once.bytes();
    for scratch in [&at_once, &one_by_one] {
        pack::compact(&scratch.0, &|| ()).unwrap();
        assert!(scratch.bytes() == whole, "{}", scratch.0.display());
    }
    // The map of the old file is undisturbed.
    pack::verify(&pack).unwrap();
}

/// Check that removing a kernel gives what was there without it, and that a kernel stays while it has a name.
#[test]
fn a_removed_kernel_leaves_nothing_behind() {
    let kernels = kernels();
    let scratch = Scratch::new("removed");
    let added = add(&scratch, &kernels);
    assert_eq!(added.last(), Some(&Added::AliasOf(kernels[0].0.clone())));
    let remove = |name: &str| pack::remove(&scratch.0, &[name], &|| ());
    assert!(matches!(remove("no such"), Err(PackError::NoSuchName { .. })));
    remove(&kernels[1].0).unwrap();
    remove("again").unwrap();
    let without = Scratch::new("without");
    add(&without, &[kernels[0].clone(), kernels[2].clone()]);
    assert!(scratch.bytes() == without.bytes());
    add(&scratch, &kernels[3..]);
    remove(&kernels[0].0).unwrap();
    let file = PackFile::open(&scratch.0).unwrap();
    let pack = file.view().unwrap();
    assert_eq!(pack.names().unwrap(), [(kernels[2].0.as_str(), 1), ("again", 0)]);
    same::unit(&pack, 0, None, &Btf::parse(&kernels[0].1).unwrap());
}

/// Check that a run whose last write is missing, or cut short, leaves the state before it.
#[test]
fn what_was_not_committed_is_not_there() {
    let kernels = kernels();
    let scratch = Scratch::new("cut");
    add(&scratch, &kernels[..1]);
    let before = scratch.bytes();
    add(&scratch, &kernels[1..2]);
    let after = scratch.bytes();
    // Everything but the slot, then half of the slot.
    for written in [0, 20] {
        let mut cut = after.clone();
        cut[1024 + written..1536].copy_from_slice(&before[1024 + written..1536]);
        fs::write(&scratch.0, &cut).unwrap();
        let file = PackFile::open(&scratch.0).unwrap();
        assert_eq!(file.view().unwrap().kernel_count(), 1);
        add(&scratch, &kernels[1..2]);
        assert!(scratch.bytes() == after);
    }
}
