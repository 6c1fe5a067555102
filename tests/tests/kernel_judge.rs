//! The running kernel decides: what it makes of CO-RE records itself, against both dialects.
//!
//! Each program is loaded in versions: relocated by the `libbpf` dialect, relocated by the `kernel` dialect of the
//! running release where that differs, and as compiled, with its records (`core_relos`), function and line
//! information. All of them go through the same verifier, so the instructions that it leaves (`xlated_prog_insns`)
//! have to be the same bytes; where we say that the kernel gives up on a record, it has to, with that errno.
//!
//! The verifier rewrites little in programs that only load constants and read the stack: it drops what cannot be
//! reached. So for the programs made here the bytes are also compared with our own directly; records that we expect
//! to be poisoned stand behind a branch that is always taken, and have to vanish with it.
//!
//! The kernel's cache of candidates goes by name only and outlives the program, so no name is looked up here with two
//! kinds of root, but for one that nothing else uses.

#[path = "kernel_judge/cases.rs"]
mod cases;
#[path = "kernel_judge/program.rs"]
mod program;
#[path = "kernel_judge/sweep.rs"]
mod sweep;

use std::fs;
use std::sync::OnceLock;

use btfleet_engine::dialect::{Loader, Release};
use btfleet_tests::kernel::{Job, Load};
use btfleet_tests::skip;

/// The running kernel, if it may be asked.
struct Live {
    vmlinux: Vec<u8>,
    loader: Loader,
}

/// Finds the running kernel; says so and returns nothing where it cannot be the judge.
fn live() -> Option<&'static Live> {
    static LIVE: OnceLock<Option<Live>> = OnceLock::new();
    LIVE.get_or_init(|| match find_live() {
        Ok(live) => Some(live),
        Err(why) => {
            skip(&format!("the running kernel is not asked what it makes of CO-RE records: {why}"));
            None
        }
    })
    .as_ref()
}

fn find_live() -> Result<Live, String> {
    if cfg!(target_endian = "big") {
        return Err("the programs are made for little-endian machines".into());
    }
    let vmlinux =
        fs::read("/sys/kernel/btf/vmlinux").map_err(|error| format!("no BTF of vmlinux: {error}"))?;
    let release = Release::running().ok_or("it does not say its release")?;
    let loader = Loader::Kernel(release);
    if let Some(why) = loader.unsupported() {
        return Err(why.into());
    }
    let trivial =
        program::Program::new().job(vec![Load { insns: program::EXIT_0.to_vec(), ..Load::default() }]);
    let loaded = trivial.judge().map_err(|error| format!("bpf() is refused: {error}"))?;
    match loaded.as_slice() {
        [first] if first.errno == 0 && !first.insns.is_empty() => Ok(Live { vmlinux, loader }),
        [first] => Err(format!("bpf() is refused, errno {} {}", first.errno, first.log)),
        _ => Err("no answer".into()),
    }
}

fn ask(job: &Job) -> Vec<btfleet_tests::kernel::Loaded> {
    job.judge().unwrap_or_else(|error| panic!("{error}"))
}
