//! Inputs that were typed, read and parsed, and what could not be.

use std::mem::ManuallyDrop;
use std::path::PathBuf;

use btfleet_engine::batch::Batch;
pub(crate) use btfleet_engine::embed::Inputs;
use btfleet_engine::embed::{Files, KernelInput};
use btfleet_engine::ingest::InputError;

use crate::args::InputArgs;
use crate::inputs;
use crate::output::{Failure, message};

/// What was typed, found but not read.
pub(crate) struct Found {
    pub(crate) objects: Vec<PathBuf>,
    pub(crate) kernels: Vec<KernelInput>,
    /// Directories that cannot be read.
    pub(crate) errors: Vec<InputError>,
}

/// Finds and reads what was typed.
pub(crate) fn read(args: &InputArgs, batch: &Batch) -> Result<Files, Failure> {
    let Found { objects, kernels, errors } = find(args)?;
    Ok(Files::read(batch, &objects, &kernels, errors))
}

/// Finds what was typed.
pub(crate) fn find(args: &InputArgs) -> Result<Found, Failure> {
    let mut objects = inputs::objects(&args.objects)?;
    let mut kernels = inputs::kernels(&args.kernels)?;
    let skipped = objects.skipped + kernels.skipped;
    if skipped > 0 {
        let files = if skipped == 1 { "file" } else { "files" };
        message(&format!("{skipped} other {files} skipped"));
    }
    let mut errors = std::mem::take(&mut objects.errors);
    errors.append(&mut kernels.errors);
    let wanted = [
        (objects.inputs.len(), args.objects.len(), "BPF object"),
        (kernels.inputs.len(), args.kernels.len(), "kernel"),
    ];
    for (inputs, given, what) in wanted {
        if inputs == 0 && given > 0 && errors.is_empty() {
            return Err(Failure::Usage(format!("no {what} was found there")));
        }
    }
    Ok(Found { objects: objects.inputs, kernels: kernels.inputs, errors })
}

/// Parses everything, in parallel. Defects are told on stderr at once.
///
/// What is parsed lasts as long as the process: freeing it piece by piece takes a while.
pub(crate) fn parse<'a>(files: &'a Files, batch: &Batch) -> ManuallyDrop<Inputs<'a>> {
    let inputs = files.parse(batch);
    for defect in inputs.all_defects() {
        message(&format!("btfleet: {defect}"));
    }
    ManuallyDrop::new(inputs)
}
