//! `--new`: a kernel next to the one before it.

use std::ffi::OsStr;

use btfleet_engine::kernel::Kernel;

use super::spread::release_key;
use crate::load::Inputs;
use crate::output::{Failure, message};

/// Names of the two kernels that are judged.
pub(super) struct Latest<'a> {
    /// The one that is next to the new one.
    pub(super) before: &'a str,
    pub(super) new: &'a str,
}

/// Leaves out all kernels but the new one, which is the last, and the one that is next to it.
///
/// # Errors
/// If the new kernel could not be read, or there is nothing to compare it with.
pub(super) fn keep_two<'a>(inputs: &mut Inputs<'a>, given: &OsStr) -> Result<Latest<'a>, Failure> {
    let given = given.to_string_lossy();
    let Some((new, others)) = inputs.kernels.split_last() else {
        return Err(Failure::System("there is no kernel".into()));
    };
    let (Some(&new_name), Some(arg)) = (inputs.kernel_names.last(), inputs.kernel_args.last()) else {
        return Err(Failure::System("there is no kernel".into()));
    };
    // What was read last has to be what was given last: else it could not be read.
    if *arg != given && new_name != given && given != "live" {
        return Err(Failure::System(format!("{given}: it is not one kernel that can be judged")));
    }
    let nearest =
        others.iter().enumerate().filter(|it| it.1.vmlinux.btf.endian() == new.vmlinux.btf.endian());
    let nearest = nearest.filter(|it| inputs.kernel_names.get(it.0) != Some(&new_name));
    let Some((number, _)) = nearest.max_by_key(|it| nearness(it.1, new)) else {
        return Err(Failure::Usage(format!("{given}: --kernels has no other kernel to compare it with")));
    };
    let Some(&before) = inputs.kernel_names.get(number) else {
        return Err(Failure::Internal("a kernel without a name".into()));
    };
    let (mut place, last) = (0, inputs.kernels.len() - 1);
    inputs.retain_kernels(|_, _| {
        place += 1;
        place - 1 == number || place - 1 == last
    });
    message(&format!("{new_name}, compared with {before}"));
    Ok(Latest { before, new: new_name })
}

/// How good a kernel is to compare a new one with: architecture, flavour, distribution, then the last release before it.
fn nearness(kernel: &Kernel<'_>, new: &Kernel<'_>) -> (bool, bool, bool, bool, Vec<u64>) {
    let (facts, wanted) = (&kernel.facts, &new.facts);
    let (of_kernel, of_new) = (release_key(&facts.release), release_key(&wanted.release));
    let distribution = |it: &str| it.split(' ').next().unwrap_or_default().to_owned();
    (
        facts.architecture == wanted.architecture,
        facts.flavour == wanted.flavour,
        distribution(&facts.distribution) == distribution(&wanted.distribution),
        of_new.is_empty() || of_kernel <= of_new,
        of_kernel,
    )
}
