//! Packs: what they say of a kernel is what its BTF says, however they were made and whatever happened to them.

#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

#[path = "pack/same.rs"]
mod same;

use std::path::{Path, PathBuf};

use btfleet_engine::ingest::read_file;

/// Check that a pack of the committed samples, of two byte orders, says what their BTF says.
#[test]
fn a_pack_of_the_samples_says_what_their_btf_says() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples/kernels");
    same::check(&kernels_in(&dir));
}

/// Check the same for every kernel of the corpus.
#[test]
fn a_pack_of_the_corpus_says_what_its_btf_says() {
    let Some(corpus) = btfleet_tests::corpus("packs of real kernels") else { return };
    same::check(&kernels_in(&corpus.join("kernels")));
}

/// Name and bytes of the kernels in a directory.
fn kernels_in(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).expect("the directory is there");
    let mut paths: Vec<PathBuf> = entries.map(|it| it.expect("readable").path()).collect();
    paths.retain(|it| it.to_string_lossy().contains(".btf"));
    paths.sort();
    let name = |path: &PathBuf| path.file_name().expect("a file").to_string_lossy().into_owned();
    paths.iter().map(|it| (name(it), read_file(it).expect("readable"))).collect()
}
