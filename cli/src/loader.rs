//! `--loader`: which loader that means for each kernel that was typed.

use btfleet_engine::dialect::Release;
use btfleet_engine::embed::{Loaders, NamedObject};

pub(crate) use btfleet_engine::embed::LoaderChoice as LoaderArg;

use crate::output::{Failure, message};

/// The loader for each kernel of a run.
pub(crate) fn loaders(arg: LoaderArg, kernel_names: &[&str]) -> Result<Loaders, Failure> {
    Loaders::new(arg, kernel_names, release_in_name).map_err(|name| {
        let what = "its name has no kernel release, so give it: --loader kernel:RELEASE";
        Failure::Usage(format!("{name}: {what}"))
    })
}

/// Says it if answers are libbpf's and some programs are of light skeletons, which it never relocates.
pub(crate) fn note_skeletons(loaders: &Loaders, objects: &[NamedObject<'_>]) {
    if loaders.is_libbpf() && objects.iter().any(|it| it.name.contains("!/skeleton@")) {
        message("light skeletons are relocated by the kernel: --loader kernel says what it makes of them");
    }
}

/// The release that a kernel's name has; of the running kernel, its own.
pub(crate) fn release_in_name(name: &str) -> Option<Release> {
    if name == "live" {
        Release::running()
    } else {
        // Behind the first comma stand modules.
        name.split(',').next().and_then(Release::in_name)
    }
}
