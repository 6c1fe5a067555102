//! Many objects on many kernels, in parallel, with results in input order.
//!
//! The pool is the caller's own, never rayon's global one; no lock is held across a rayon call, and output
//! is the same for any number of threads.

use std::path::PathBuf;

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::ingest::{InputError, KernelFiles, KernelSource, read_file};
use crate::kernel::Kernel;
use crate::object::Object;

/// Pairs that are in memory at once; enough to keep every thread busy, few enough to bound what waits for
/// the pair in front.
const PAIRS_AT_ONCE: usize = 1024;

/// A thread pool to run batches on.
#[derive(Debug)]
pub struct Batch {
    pool: ThreadPool,
}

/// An object's file, read.
#[derive(Debug)]
pub struct ObjectFile {
    /// Where it is, as given.
    pub path: PathBuf,
    /// Its bytes.
    pub data: Vec<u8>,
}

impl Batch {
    /// Starts `threads` threads, or as many as there are cores for 0.
    ///
    /// # Errors
    /// The reason, if the system will not give threads.
    pub fn new(threads: usize) -> Result<Self, String> {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|number| format!("btfleet-{number}"))
            .build()
            .map(|pool| Self { pool })
            .map_err(|error| error.to_string())
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Applies `work` to every item, and returns the results in the items' order.
    pub fn map<'a, T: Sync, R: Send>(&self, items: &'a [T], work: impl Fn(&'a T) -> R + Sync) -> Vec<R> {
        self.pool.install(|| items.par_iter().map(&work).collect())
    }

    /// Reads objects' files.
    pub fn read_objects(&self, paths: &[PathBuf]) -> Vec<Result<ObjectFile, InputError>> {
        self.map(paths, |path| Ok(ObjectFile { path: path.clone(), data: read_file(path)? }))
    }

    /// Reads kernels' files.
    pub fn read_kernels(&self, sources: &[KernelSource]) -> Vec<Result<KernelFiles, InputError>> {
        self.map(sources, KernelFiles::read)
    }

    /// Judges every object on every kernel. `sink` gets the results in order, objects before kernels: all
    /// kernels of the first object, then those of the second. It returns whether to go on.
    pub fn for_each_pair<R: Send>(
        &self,
        objects: &[Object<'_>],
        kernels: &[Kernel<'_>],
        judge: impl Fn(usize, usize) -> R + Sync,
        mut sink: impl FnMut(usize, usize, R) -> bool,
    ) {
        let pairs = |from: usize| {
            (from..from.saturating_add(PAIRS_AT_ONCE).min(objects.len() * kernels.len()))
                .map(|pair| (pair / kernels.len(), pair % kernels.len()))
                .collect::<Vec<_>>()
        };
        let mut from = 0;
        while from < objects.len() * kernels.len() {
            let chunk = pairs(from);
            from += chunk.len();
            let results = self.map(&chunk, |&(object, kernel)| judge(object, kernel));
            for ((object, kernel), result) in chunk.into_iter().zip(results) {
                if !sink(object, kernel, result) {
                    return;
                }
            }
        }
    }
}
