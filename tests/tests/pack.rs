//! Packs: what they say of a kernel is what its BTF says, however they were made and whatever happened to them.

#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

#[path = "pack/damage.rs"]
mod damage;
#[path = "pack/files.rs"]
mod files;
#[path = "pack/same.rs"]
mod same;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use btfleet_engine::btf::{Btf, NameHash};
use btfleet_engine::format::btf::Kind;
use btfleet_engine::ingest::Intake;
use btfleet_engine::pack::{self, Added, Facts, ModuleList, NewKernel, NewModule, PackFile, Refusal};
use btfleet_engine::query::Root;
use btfleet_tests::build::{BtfBuilder, ByteOrder, Member};

/// Check that a pack of the committed samples, of two byte orders, says what their BTF says.
#[test]
fn a_pack_of_the_samples_says_what_their_btf_says() {
    same::check(&samples());
}

/// Check the same for every kernel of the corpus.
#[test]
fn a_pack_of_the_corpus_says_what_its_btf_says() {
    let Some(corpus) = btfleet_tests::corpus("packs of real kernels") else { return };
    same::check(&kernels_in(&corpus.join("kernels")));
}

/// Check that kernels of all ABIs live in one pack, with roots of one name that are different types.
#[test]
fn byte_orders_and_pointer_sizes_do_not_mix() {
    let kernel = |order, long| {
        let mut btf = BtfBuilder::new(order);
        let int = btf.int("int", 4, 1);
        btf.int("long", long, 1);
        let ptr = btf.ptr(int);
        btf.structure("s", 16, &[Member::new("p", ptr, 0), Member::bitfield("f", int, 67, 5)]);
        btf.fwd("opaque", true);
        btf.finish()
    };
    let mut kernels = Vec::new();
    for order in [ByteOrder::Little, ByteOrder::Big] {
        for long in [4, 8] {
            kernels.push((format!("{order:?}-{long}"), kernel(order, long)));
        }
    }
    same::check(&kernels);
}

/// Check that a root is looked for in modules where vmlinux has none, and only there, and that values are inherited.
#[test]
fn modules_answer_where_vmlinux_does_not() {
    let vmlinux = |with_t: bool| {
        let mut btf = BtfBuilder::new(ByteOrder::Little);
        let int = btf.int("int", 4, 1);
        btf.structure("task_struct", 4, &[Member::new("a", int, 0)]);
        if with_t {
            btf.structure("t", 4, &[Member::new("x", int, 0)]);
        }
        btf
    };
    let module = |base: &BtfBuilder, size| {
        let mut btf = BtfBuilder::split(base);
        btf.structure("t", size, &[Member::new("y", 1, 0)]);
        btf.finish()
    };
    let facts = Facts::default();
    let bases = [vmlinux(false), vmlinux(true), vmlinux(false), vmlinux(false)];
    let bytes: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> = bases
        .iter()
        .zip([8, 8, 8, 12])
        .map(|(it, size)| (it.finish(), module(it, 8), module(it, size)))
        .collect();
    let parsed: Vec<_> = bytes
        .iter()
        .map(|(vmlinux, a, b)| {
            let vmlinux = Arc::new(Btf::parse(vmlinux).unwrap());
            let split = |it| Btf::parse_split(it, Arc::clone(&vmlinux)).unwrap();
            (split(a), split(b), vmlinux)
        })
        .collect();
    let names = ["k0", "k1", "k2", "k3"];
    let new: Vec<NewKernel<'_, '_>> = parsed
        .iter()
        .zip(&bytes)
        .zip(names)
        .map(|(((a, b, vmlinux), bytes), name)| NewKernel {
            name,
            facts: &facts,
            vmlinux,
            vmlinux_bytes: &bytes.0,
            modules: vec![
                NewModule { name: "a", btf: a, bytes: &bytes.1 },
                NewModule { name: "b", btf: b, bytes: &bytes.2 },
            ],
        })
        .collect();
    let (bytes, added) = pack::build(&new).unwrap();
    // The third is the first once more.
    assert_eq!(added, [Added::New, Added::New, Added::AliasOf("k0".into()), Added::New]);
    let file = PackFile::from_bytes(bytes);
    let pack = file.view().unwrap();
    pack::verify(&pack).unwrap();
    let root = Root { hash: NameHash::of(b"t"), essential: b"t", kind: Kind::Struct };
    let found = pack.expand(&root).unwrap();
    assert_eq!(found.vmlinux.iter().map(|it| it.is_none()).collect::<Vec<_>>(), [true, false, true]);
    let [a0, b0, a3, b3] = found.modules.as_slice() else { panic!("{found:?}") };
    let place = |it: &ModuleList| (it.kernel, it.module);
    assert_eq!([a0, b0, a3, b3].map(place), [(0, 0), (0, 1), (2, 0), (2, 1)]);
    assert_eq!(a0.list, b0.list);
    assert_eq!(a0.list, a3.list);
    assert_ne!(b0.list, b3.list);
    for (kernel, number) in [(0, 0_usize), (1, 1), (2, 3)] {
        same::unit(&pack, kernel, Some(0), &parsed[number].0);
        same::unit(&pack, kernel, Some(1), &parsed[number].1);
        same::unit(&pack, kernel, None, &parsed[number].2);
    }
}

/// Check that what cannot be shared is refused by name, and leaves nothing behind.
#[test]
fn a_kernel_that_does_not_fit_leaves_nothing_behind() {
    let mut good = BtfBuilder::new(ByteOrder::Little);
    let int = good.int("int", 4, 1);
    good.structure("s", 4, &[Member::new("a", int, 0)]);
    let mut bad = good.clone();
    bad.structure("only_here", 4, &[Member::new("unheard_of", int, 0)]);
    let id = bad.next_id();
    bad.typedef("endless", id);
    let mut odd = good.clone();
    let ptr = odd.ptr(int);
    odd.structure("odd", 8, &[Member::bitfield("f", ptr, 0, 3)]);
    let bytes = [bad.finish(), odd.finish(), good.finish()];
    let parsed: Vec<Btf<'_>> = bytes.iter().map(|it| Btf::parse(it).unwrap()).collect();
    let facts = Facts::default();
    let new = |number: usize, name| NewKernel {
        name,
        facts: &facts,
        vmlinux: &parsed[number],
        vmlinux_bytes: &bytes[number],
        modules: vec![],
    };
    let (all, added) = pack::build(&[new(0, "bad"), new(1, "odd"), new(2, "good"), new(2, "good")]).unwrap();
    assert_eq!(added[0], Added::Refused(Refusal::Cycle { id }));
    assert_eq!(added[1], Added::Refused(Refusal::OddBitfield { id }));
    assert_eq!(added[2..], [Added::New, Added::Known]);
    let (only_good, _) = pack::build(&[new(2, "good")]).unwrap();
    assert!(all == only_good);
}

fn samples() -> Vec<(String, Vec<u8>)> {
    kernels_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples/kernels"))
}

/// Name and bytes of the kernels in a directory.
fn kernels_in(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).expect("the directory is there");
    let mut paths: Vec<PathBuf> = entries.map(|it| it.expect("readable").path()).collect();
    paths.retain(|it| it.to_string_lossy().contains(".btf"));
    paths.sort();
    let name = |path: &PathBuf| path.file_name().expect("a file").to_string_lossy().into_owned();
    paths.iter().map(|it| (name(it), Intake::default().read(it).expect("readable"))).collect()
}
