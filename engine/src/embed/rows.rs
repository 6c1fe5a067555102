//! Answers of a run about one of its objects, as rows.

use super::loaders::Refusal;
use super::owned::OwnedRun;
use crate::batch::Folded;
use crate::object::Object;
use crate::patch_list::{PatchList, lists};
use crate::prog_load::ProgLoad;
use crate::relocate::{Obstacle, Plan, Planned};
use crate::report::{AnswerRow, ObstacleRow, Patches, Place, RecordRow, VerdictRow, Verdicts, patches, text};

/// What becomes of every record of one object: what `btfleet resolve` prints.
#[derive(Debug)]
pub struct Answers<'r> {
    run: &'r OwnedRun,
    object: usize,
    records: Vec<RecordRow<'r>>,
    folded: Folded<'r>,
}

/// Verdicts on every program of one object: what `btfleet check` prints.
#[derive(Debug)]
pub struct Judgements<'r> {
    run: &'r OwnedRun,
    object: usize,
    verdicts: Verdicts,
}

/// The files of one object after relocation: what `btfleet relocate` writes. Kernels that need the same are a class.
#[derive(Debug)]
pub struct Relocations<'r> {
    run: &'r OwnedRun,
    object: &'r Object<'r>,
    number: usize,
    planned: Vec<Planned>,
}

/// Kernels for which an object comes out the same, and how.
#[derive(Clone, Copy, Debug)]
pub struct RelocatedClass<'r> {
    run: &'r OwnedRun,
    object: &'r Object<'r>,
    planned: &'r Planned,
}

/// An entry program after relocation, linked with all functions that it calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramCode {
    /// Its number among the object's programs.
    pub program: usize,
    /// Its name.
    pub name: String,
    /// Its ELF section.
    pub section: String,
    /// Whether it is left as it was, with its records to apply.
    pub left: bool,
    /// Instructions in the byte order of the object. Maps and the kernel's symbols are for the loader to fill in.
    pub insns: Vec<u8>,
}

impl<'r> Answers<'r> {
    pub(super) fn new(run: &'r OwnedRun, object: usize, folded: Folded<'r>) -> Self {
        let of = run.inputs().object(object);
        let records = of.map(|of| of.relocs().iter().map(|it| RecordRow::new(of, it)).collect());
        Self { run, object, records: records.unwrap_or_default(), folded }
    }

    /// The records, in the order of the file.
    pub fn records(&self) -> &[RecordRow<'r>] {
        &self.records
    }

    /// What becomes of each of them on kernel number `kernel`.
    ///
    /// # Errors
    /// [`Refusal`] if the two cannot be judged together.
    pub fn on(&self, kernel: usize) -> Result<Vec<AnswerRow<'_>>, Refusal> {
        if let Some(refusal) = self.run.refusal(self.object, kernel) {
            return Err(refusal);
        }
        let outcomes = self.folded.on(kernel);
        let rows = self.records.iter().zip(outcomes).enumerate();
        Ok(rows
            .map(|(record, (row, outcome))| {
                let object = self.run.inputs().distinct_of(self.object);
                let place = Place { run: self.run.run(), object, record, kernel };
                AnswerRow::new(place, row.insn, outcome)
            })
            .collect())
    }
}

impl<'r> Judgements<'r> {
    pub(super) fn new(run: &'r OwnedRun, object: usize, verdicts: Verdicts) -> Self {
        Self { run, object, verdicts }
    }

    /// The verdicts, by class of kernels.
    pub fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }

    /// A verdict on every program on kernel number `kernel`.
    ///
    /// # Errors
    /// [`Refusal`] if the two cannot be judged together.
    pub fn on(&self, kernel: usize) -> Result<Vec<VerdictRow<'_>>, Refusal> {
        if let Some(refusal) = self.run.refusal(self.object, kernel) {
            return Err(refusal);
        }
        let Some(object) = self.run.inputs().object(self.object) else { return Ok(Vec::new()) };
        let verdicts = self.verdicts.on(kernel).unwrap_or_default();
        let judges_needs = self.run.loaders().is_libbpf();
        Ok(verdicts.iter().filter_map(|it| VerdictRow::new(object, it, judges_needs)).collect())
    }
}

impl<'r> Relocations<'r> {
    pub(super) fn new(
        run: &'r OwnedRun,
        object: &'r Object<'r>,
        number: usize,
        planned: Vec<Planned>,
    ) -> Self {
        Self { run, object, number, planned }
    }

    /// The classes, by their first kernels. Kernels that the object cannot be judged on are in none.
    pub fn classes(&self) -> impl ExactSizeIterator<Item = RelocatedClass<'_>> {
        self.planned.iter().map(|planned| RelocatedClass { run: self.run, object: self.object, planned })
    }

    /// The same as lists of what changes in each function: what `btfleet resolve --format patch` prints.
    pub fn patches(&self) -> Patches<'_> {
        patches(self.run.run(), self.run.inputs().distinct_of(self.number), &self.planned)
    }

    /// The class of kernel number `kernel`; `None` if there is no such kernel.
    ///
    /// # Errors
    /// [`Refusal`] if the two cannot be judged together.
    pub fn on(&self, kernel: usize) -> Result<Option<RelocatedClass<'_>>, Refusal> {
        match self.run.refusal(self.number, kernel) {
            Some(refusal) => Err(refusal),
            None => Ok(self.classes().find(|it| it.kernels().binary_search(&kernel).is_ok())),
        }
    }
}

impl<'r> RelocatedClass<'r> {
    /// Numbers of its kernels, ascending.
    pub fn kernels(&self) -> &'r [usize] {
        &self.planned.kernels
    }

    fn plan(&self) -> Result<&'r Plan, ObstacleRow> {
        self.planned.plan.as_ref().map_err(|obstacle| ObstacleRow::new(self.object, obstacle))
    }

    /// Why there is no file that libbpf would make, if so.
    pub fn obstacle(&self) -> Option<ObstacleRow> {
        self.plan().err()
    }

    /// The object's file.
    ///
    /// # Errors
    /// As [`Self::obstacle`].
    pub fn file(&self) -> Result<Vec<u8>, ObstacleRow> {
        Ok(self.plan()?.patch.apply(self.object))
    }

    /// Records because of which programs are left as they were in the file.
    pub fn left(&self) -> Vec<ObstacleRow> {
        let obstacles = self.plan().map(|it| it.obstacles.as_slice()).unwrap_or_default();
        obstacles.iter().map(|it| ObstacleRow::of_record(self.object, it)).collect()
    }

    /// Modules that values are from on kernel number `kernel`, one of the class.
    pub fn modules(&self, kernel: usize) -> Vec<&'r str> {
        let modules = self.plan().map(|it| it.modules.as_slice()).unwrap_or_default();
        modules.iter().map(|&it| self.run.run().module_name(kernel, it)).collect()
    }

    /// The entry programs in the file.
    ///
    /// # Errors
    /// As [`Self::obstacle`].
    pub fn programs(&self) -> Result<Vec<ProgramCode>, ObstacleRow> {
        let plan = self.plan()?;
        let file = plan.patch.apply(self.object);
        // It is as well formed as the object that it was made of.
        let Ok(relocated) = Object::parse(&file) else { return Ok(Vec::new()) };
        let entries = relocated.programs().iter().enumerate().filter(|(_, it)| !it.is_subprogram);
        Ok(entries
            .map(|(number, program)| ProgramCode {
                program: number,
                name: text(program.name),
                section: text(program.section),
                left: plan.patch.leaves(number),
                insns: ProgLoad::new(&relocated, number).insns,
            })
            .collect())
    }

    /// The same change as lists of fields and values, for all functions of the object.
    ///
    /// # Errors
    /// As [`Self::obstacle`]; and if fields cannot tell what changes.
    pub fn patch_lists(&self) -> Result<Vec<PatchList>, ObstacleRow> {
        let plan = self.plan()?;
        lists(self.object, &plan.patch).ok_or_else(|| ObstacleRow::new(self.object, &Obstacle::SharedBytes))
    }
}
