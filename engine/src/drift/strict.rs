//! Accesses to fields judged by their bits, on the kernels of a run.

use std::cell::RefCell;

use hashbrown::HashMap;

use super::Drift;
use super::accesses::Accesses;
use crate::batch::Run;
use crate::btf::TypeId;
use crate::dialect::Validate;
use crate::object::Object;
use crate::resolve::{Decision, Outcome};

/// What the judgement on an access depends on: its record, the BTF of the shape, by its address, the type in it, and the
/// values that are written.
type Key = (usize, usize, TypeId, Vec<Option<u64>>);

/// The accesses of one object, each judged once for each type that kernels have.
#[derive(Debug)]
pub struct Strict<'a, 'r> {
    run: &'a Run<'r>,
    /// Number of the object.
    number: usize,
    accesses: Accesses<'a, 'r>,
    records: Vec<usize>,
    known: RefCell<HashMap<Key, Vec<Drift>>>,
}

impl<'a, 'r> Strict<'a, 'r> {
    /// Of `object`, which has `number` in `run`; `None` if the run is to judge no accesses.
    pub fn of(run: &'a Run<'r>, object: &'a Object<'r>, number: usize) -> Option<Self> {
        if run.validate() != Validate::Strict {
            return None;
        }
        let accesses = Accesses::new(object);
        let records = accesses.records();
        Some(Self { run, number, accesses, records, known: RefCell::default() })
    }

    /// Numbers of the records that something can be said of, ascending: one of each access.
    pub fn records(&self) -> &[usize] {
        &self.records
    }

    /// What is wrong with the access that `record` stands for on kernel number `kernel`, on which `outcome_of` is what
    /// becomes of each record. Nothing is where the access does not come out, or as modules decide.
    pub fn drifts<'o>(
        &self,
        record: usize,
        outcome_of: &dyn Fn(usize) -> Option<&'o Outcome>,
        kernel: usize,
    ) -> Vec<Drift> {
        let drifts = || {
            let decision = |record: usize| match outcome_of(record)? {
                Outcome::Decided(decision) if !decision.poisoned => Some(decision),
                _ => None,
            };
            let together = self.accesses.together(record);
            let decisions: Vec<&Decision> = together.into_iter().map(decision).collect::<Option<_>>()?;
            let candidate = decisions.first()?.candidate?;
            let shape = self.run.shape_of(self.number, record, kernel, candidate)?;
            let values = decisions.iter().map(|it| it.new).collect();
            let key = (record, std::ptr::from_ref(shape.btf).addr(), shape.id, values);
            let judge = || self.accesses.judge(record, &decisions, shape);
            Some(self.known.borrow_mut().entry(key).or_insert_with(judge).clone())
        };
        drifts().unwrap_or_default()
    }
}
