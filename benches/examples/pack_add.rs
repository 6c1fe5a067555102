//! What adding a kernel to a pack costs, and opening a pack: CPU time of the thread, and bytes written.
//!
//! ```text
//! cargo run --release -p btfleet-benches --example pack_add -- PACK KERNEL FOLDER
//! ```
//!
//! Each round adds KERNEL, a raw BTF, to a new copy of PACK in FOLDER. On a tmpfs (`/dev/shm`) the time is without what
//! a disk takes to sync.
#![expect(clippy::print_stdout, reason = "a report for people")]

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use btfleet_benches::clock::Stopwatch;
use btfleet_engine::btf::Btf;
use btfleet_engine::pack::{self, Facts, NewKernel, PackFile};

const ROUNDS: usize = 25;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, kernel, folder] = args.as_slice() else { return Err("PACK KERNEL FOLDER".into()) };
    let raw = std::fs::read(kernel)?;
    let original = std::fs::read(path)?;
    let copy = Path::new(folder).join("pack-add.btfpack");
    let (mut parsing, mut adding, mut opening) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        std::fs::write(&copy, &original)?;
        let watch = Stopwatch::new();
        let btf = Btf::parse(&raw)?;
        parsing.push(watch.time().cpu);
        let facts = Facts::default();
        let new =
            NewKernel { name: "new", facts: &facts, vmlinux: &btf, vmlinux_bytes: &raw, modules: Vec::new() };
        let watch = Stopwatch::new();
        let (added, written) = pack::update(&copy, &|| (), |it| it.add(&new))?;
        adding.push(watch.time().cpu);
        std::fs::remove_file(&copy)?;
        if round == 0 {
            println!("{added:?}: {} bytes of BTF, {} written", raw.len(), written.written);
        }
        let watch = Stopwatch::new();
        let file = PackFile::open(Path::new(path))?;
        let kernels = black_box(file.view()?).kernel_count();
        opening.push(watch.time().cpu);
        if round == 0 {
            println!("{kernels} kernels, {} bytes", original.len());
        }
    }
    for (what, mut times) in [("parsing", parsing), ("adding", adding), ("opening", opening)] {
        times.sort();
        let ms = |time: Option<&Duration>| time.map_or(0.0, |it| it.as_secs_f64() * 1e3);
        println!(
            "{what}: median {:.3} ms, {:.3} to {:.3}",
            ms(times.get(ROUNDS / 2)),
            ms(times.first()),
            ms(times.last())
        );
    }
    Ok(())
}
