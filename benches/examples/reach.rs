//! What it takes to follow programs for reachability: wall time for each program on each kernel where poison is in it.
//!
//! ```text
//! cargo run --release -p btfleet-benches --example reach -- PACK OBJECTS...
//! ```
//!
//! Nothing is shared between kernels here; `check` follows a program once for all kernels on which it is the same.
#![expect(clippy::print_stdout, reason = "a report for people")]

use std::error::Error;
use std::time::{Duration, Instant};

use btfleet_engine::batch::{Batch, Run};
use btfleet_engine::dialect::{Loader, Release};
use btfleet_engine::fleet::Modules;
use btfleet_engine::kernel::PackSource;
use btfleet_engine::object::{ExternKind, Object};
use btfleet_engine::pack::PackFile;
use btfleet_engine::reach::{Program, Reach, Symbol, Verifier};
use btfleet_engine::resolve::Outcome;

const SLOWEST_SHOWN: usize = 10;

/// One program on one kernel.
struct Sample {
    time: Duration,
    what: String,
    is_bounded: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let pack = args.next().ok_or("PACK OBJECTS...")?;
    let file = PackFile::open(std::path::Path::new(&pack))?;
    let (_, named) = PackSource::kernels(file.view()?)?;
    let (names, kernels): (Vec<&str>, Vec<_>) = named.into_iter().unzip();
    let loaders = vec![Loader::Libbpf; kernels.len()];
    let mut samples = Vec::new();
    for path in args {
        let bytes = std::fs::read(&path)?;
        let Ok(object) = Object::parse(&bytes) else { continue };
        let objects = [object];
        let run = Run::new(&Batch::SEQUENTIAL, &objects, &kernels, &loaders, Modules::Each);
        let folded = run.fold(0, |_| true);
        let [object] = &objects;
        let symbols: Vec<Symbol> = object
            .externs()
            .iter()
            .map(|it| if it.kind == ExternKind::Kconfig { Symbol::Open } else { Symbol::Present })
            .collect();
        for (number, entry) in object.programs().iter().enumerate().filter(|(_, it)| !it.is_subprogram) {
            let program = Program::new(object, number);
            for (kernel, name) in names.iter().enumerate() {
                let outcomes = folded.on(kernel);
                if !program.is_in_question(&outcomes, &symbols) {
                    continue;
                }
                let verifier = Verifier::of(Release::in_name(name));
                let is_poisoned =
                    |it: &usize| matches!(outcomes.get(*it), Some(Outcome::Decided(it)) if it.poisoned);
                let poisoned: Vec<usize> = program.records().filter(is_poisoned).collect();
                let start = Instant::now();
                let (_, reached) = program.judge(&outcomes, &symbols, verifier, &poisoned);
                let time = start.elapsed();
                let is_bounded =
                    reached.asked.iter().any(|it| matches!(it, Reach::Live(path) if !path.is_proved));
                let entry = String::from_utf8_lossy(entry.name);
                let slots = program.image.slots.len();
                samples.push(Sample {
                    time,
                    what: format!("{path} {entry} on {name}, {slots} slots"),
                    is_bounded,
                });
            }
        }
    }
    samples.sort_by_key(|it| it.time);
    let at = |share: usize| samples.get((samples.len() * share / 1000).min(samples.len().saturating_sub(1)));
    let ms = |it: Option<&Sample>| it.map_or(0.0, |it| it.time.as_secs_f64() * 1e3);
    println!(
        "{} programs × kernels: median {:.3} ms, 99th percentile {:.1} ms, slowest {:.1} ms, {:.2} s in all, {} bounded",
        samples.len(),
        ms(at(500)),
        ms(at(990)),
        ms(samples.last()),
        samples.iter().map(|it| it.time.as_secs_f64()).sum::<f64>(),
        samples.iter().filter(|it| it.is_bounded).count(),
    );
    for it in samples.iter().rev().take(SLOWEST_SHOWN) {
        println!("{:8.1} ms  {}", it.time.as_secs_f64() * 1e3, it.what);
    }
    Ok(())
}
