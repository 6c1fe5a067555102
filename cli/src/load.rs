//! Inputs that were typed, read and parsed, and what could not be.

use std::mem::ManuallyDrop;

use btfleet_engine::batch::Batch;
pub(crate) use btfleet_engine::embed::Inputs;
use btfleet_engine::embed::{Files, KernelInput};
use btfleet_engine::ingest::{InputError, ObjectInput};

use crate::args::InputArgs;
use crate::filter::Filter;
use crate::output::{Failure, Progress, message, plural};
use crate::{inputs, intake};

/// What was typed, found but not read.
pub(crate) struct Found {
    pub(crate) objects: Vec<ObjectInput>,
    pub(crate) kernels: Vec<KernelInput>,
    /// Directories that cannot be read.
    pub(crate) errors: Vec<InputError>,
    /// Files in directories that are no inputs.
    skipped: usize,
    objects_wanted: bool,
}

/// Finds and reads what was typed.
pub(crate) fn read(args: &InputArgs, batch: &Batch) -> Result<Files, Failure> {
    let mut found = find(args)?;
    let kernels = std::mem::take(&mut found.kernels);
    found.read(batch, &kernels)
}

/// Finds what was typed.
pub(crate) fn find(args: &InputArgs) -> Result<Found, Failure> {
    let mut objects = inputs::objects(&args.objects)?;
    let mut kernels = inputs::kernels(&args.kernels)?;
    let mut errors = std::mem::take(&mut objects.errors);
    errors.append(&mut kernels.errors);
    if kernels.inputs.is_empty() && !args.kernels.is_empty() && errors.is_empty() {
        return Err(Failure::Usage("no kernel was found there".into()));
    }
    let skipped = objects.skipped + kernels.skipped;
    let objects_wanted = !args.objects.is_empty();
    Ok(Found { objects: objects.inputs, kernels: kernels.inputs, errors, skipped, objects_wanted })
}

impl Found {
    /// Reads the objects, and `kernels`. Says how many files in directories were no inputs.
    ///
    /// # Errors
    /// If there is no object, and nothing says why.
    pub(crate) fn read(self, batch: &Batch, kernels: &[KernelInput]) -> Result<Files, Failure> {
        let is_silent = self.errors.is_empty();
        let progress = Progress::of(self.objects.len() + kernels.len(), "inputs read");
        let step = || progress.step();
        let files = Files::read(batch, intake::get(), &self.objects, kernels, self.errors, step);
        drop(progress);
        let skipped = self.skipped + files.skipped();
        if skipped > 0 {
            message(&format!("{} skipped", plural(skipped, "other file")));
        }
        if files.has_no_objects() && self.objects_wanted && is_silent {
            return Err(Failure::Usage("no BPF object was found there".into()));
        }
        Ok(files)
    }
}

/// Parses everything, in parallel, and leaves out kernels that `filter` is not for. Defects are told on stderr at once.
///
/// What is parsed lasts as long as the process: freeing it piece by piece takes a while.
pub(crate) fn parse<'a>(
    files: &'a Files,
    batch: &Batch,
    filter: Option<&Filter>,
) -> Result<ManuallyDrop<Inputs<'a>>, Failure> {
    let progress = Progress::on("taking BTF apart");
    let mut inputs = files.parse(batch);
    drop(progress);
    for defect in inputs.all_defects() {
        message(&format!("btfleet: {defect}"));
    }
    if let Some(filter) = filter {
        let count = inputs.kernels.len();
        inputs.retain_kernels(|name, facts| filter.holds(name, facts));
        if inputs.kernels.is_empty() && count > 0 {
            return Err(Failure::Usage(format!(
                "the condition of --where holds for none of {count} kernels"
            )));
        }
    }
    Ok(ManuallyDrop::new(inputs))
}
