//! Many objects on many kernels, in parallel, with results in input order.
//!
//! A [`Run`] finds the distinct questions of all objects, answers each for every distinct type that is a candidate on
//! some kernel, and folds the answers object by object. The work grows with distinct questions and distinct types,
//! and not with objects times kernels.
//!
//! The pool is the caller's own, never rayon's global one; no lock is held across a rayon call, and output
//! is the same for any number of threads.

mod answers;
mod classes;
mod folded;
mod questions;
mod run;
mod section;

pub use classes::{Aspect, Classes};
pub use folded::Folded;
pub(crate) use questions::questions_by;
pub use questions::{AskedOfRoot, Questions};
pub use run::Run;

use std::sync::{Mutex, PoisonError};

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::dialect::Loader;
use crate::fleet::Modules;
use crate::kernel::Kernel;
use crate::object::{Object, Reloc};
use crate::resolve::Outcome;

/// Threads to run batches on.
#[derive(Debug)]
pub struct Batch {
    /// None where there is just the caller's thread.
    pool: Option<ThreadPool>,
}

impl Batch {
    /// The caller's thread alone.
    pub const SEQUENTIAL: Self = Self { pool: None };

    /// Starts `threads` threads, or as many as there are cores for 0.
    ///
    /// # Errors
    /// The reason, if the system will not give threads.
    pub fn new(threads: usize) -> Result<Self, String> {
        if threads == 1 {
            return Ok(Self::SEQUENTIAL);
        }
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|number| format!("btfleet-{number}"))
            .build()
            .map(|pool| Self { pool: Some(pool) })
            .map_err(|error| error.to_string())
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, ThreadPool::current_num_threads)
    }

    /// Applies `work` to every item, and returns the results in the items' order.
    pub fn map<'a, T: Sync, R: Send>(&self, items: &'a [T], work: impl Fn(&'a T) -> R + Sync) -> Vec<R> {
        match &self.pool {
            Some(pool) => pool.install(|| items.par_iter().map(&work).collect()),
            None => items.iter().map(work).collect(),
        }
    }

    /// Applies `work` to the numbers below `count`. `sink` gets the results in their order, on the caller's thread
    /// while later ones are worked on, and says whether to go on.
    pub fn for_each<R: Send>(
        &self,
        count: usize,
        work: impl Fn(usize) -> R + Sync,
        sink: impl FnMut(usize, R) -> bool,
    ) {
        self.for_each_with(count, || (), |(), number| work(number), sink);
    }

    /// The same for results that take much memory: of no more than `2 * few` is there one at a time.
    pub fn for_each_few<R: Send>(
        &self,
        few: usize,
        count: usize,
        work: impl Fn(usize) -> R + Sync,
        sink: impl FnMut(usize, R) -> bool,
    ) {
        self.for_each_at_once(few, count, || (), |(), number| work(number), sink);
    }

    /// The same for work that adds to a sum of its thread. Returns the sums: which of them has which of the numbers is
    /// left to chance.
    pub fn for_each_with<S: Send, R: Send>(
        &self,
        count: usize,
        new: impl Fn() -> S,
        work: impl Fn(&mut S, usize) -> R + Sync,
        sink: impl FnMut(usize, R) -> bool,
    ) -> Vec<S> {
        // Enough to keep every thread busy, few enough to bound what waits for the first of them.
        self.for_each_at_once(8 * self.threads(), count, new, work, sink)
    }

    fn for_each_at_once<S: Send, R: Send>(
        &self,
        at_once: usize,
        count: usize,
        new: impl Fn() -> S,
        work: impl Fn(&mut S, usize) -> R + Sync,
        mut sink: impl FnMut(usize, R) -> bool,
    ) -> Vec<S> {
        let Some(pool) = &self.pool else {
            let mut sum = new();
            (0..count).all(|number| sink(number, work(&mut sum, number)));
            return vec![sum];
        };
        // Each is locked by its own thread only.
        let sums: Vec<Mutex<S>> = (0..self.threads()).map(|_| Mutex::new(new())).collect();
        let work = |number| {
            let own =
                rayon::current_thread_index().and_then(|it| sums.get(it)).expect("a thread of the pool");
            work(&mut own.lock().unwrap_or_else(PoisonError::into_inner), number)
        };
        let mut done: Vec<R> = Vec::new();
        let mut first = 0;
        for from in (0..count).step_by(at_once).chain([count]) {
            let mut next = Vec::new();
            let goes_on = pool.in_place_scope(|scope| {
                scope.spawn(|_| {
                    let numbers = (from..count.min(from + at_once)).into_par_iter();
                    // One object may take as long as a hundred others.
                    numbers.with_max_len(1).map(&work).collect_into_vec(&mut next);
                });
                (first..).zip(done.drain(..)).all(|(number, result)| sink(number, result))
            });
            if !goes_on {
                break;
            }
            (done, first) = (next, from);
        }
        sums.into_iter().map(|it| it.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
    }
}

/// Outcomes of one object's records on one kernel, in file order. Records for which `active` does not hold are
/// skipped and leave no trace; there is none at all if the two have different byte orders.
pub fn outcomes<'a>(
    loader: Loader,
    object: &'a Object<'a>,
    kernel: &'a Kernel<'a>,
    modules: Modules,
    active: impl Fn(&Reloc<'_>) -> bool,
) -> Vec<Outcome> {
    let run = Run::of_pair(loader, object, kernel, modules);
    run.fold(0, active).on(0).into_iter().cloned().collect()
}
