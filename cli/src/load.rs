//! Inputs that were typed, read and parsed, and what could not be.

use std::mem::ManuallyDrop;

use btfleet_engine::batch::Batch;
use btfleet_engine::embed::Files;
pub(crate) use btfleet_engine::embed::Inputs;

use crate::args::InputArgs;
use crate::filter::Filter;
use crate::output::{Failure, message};
use crate::{inputs, intake};

/// Finds and reads what was typed.
pub(crate) fn read(args: &InputArgs, batch: &Batch) -> Result<Files, Failure> {
    let mut objects = inputs::objects(&args.objects)?;
    let mut kernels = inputs::kernels(&args.kernels)?;
    let mut errors = std::mem::take(&mut objects.errors);
    errors.append(&mut kernels.errors);
    let has_errors = !errors.is_empty();
    let files = Files::read(batch, intake::get(), &objects.inputs, &kernels.inputs, errors);
    let skipped = objects.skipped + kernels.skipped + files.skipped();
    if skipped > 0 {
        let files = if skipped == 1 { "file" } else { "files" };
        message(&format!("{skipped} other {files} skipped"));
    }
    let wanted = [
        (files.has_no_objects(), args.objects.len(), "BPF object"),
        (kernels.inputs.is_empty(), args.kernels.len(), "kernel"),
    ];
    for (is_empty, given, what) in wanted {
        if is_empty && given > 0 && !has_errors {
            return Err(Failure::Usage(format!("no {what} was found there")));
        }
    }
    Ok(files)
}

/// Parses everything, in parallel, and leaves out kernels that `filter` is not for. Defects are told on stderr at once.
///
/// What is parsed lasts as long as the process: freeing it piece by piece takes a while.
pub(crate) fn parse<'a>(
    files: &'a Files,
    batch: &Batch,
    filter: Option<&Filter>,
) -> Result<ManuallyDrop<Inputs<'a>>, Failure> {
    let mut inputs = files.parse(batch);
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
