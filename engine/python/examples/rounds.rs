//! The Rust half of `benches/overhead.py`: for each line of stdin it does by the Rust API what the package does, and
//! writes how long the steps took, in milliseconds.

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;

use btfleet_engine::embed::{Options, OwnedInputs, OwnedRun};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let threads = args.next().ok_or("the number of threads is missing")?.parse()?;
    let in_memory = args.next().as_deref() == Some("bytes");
    let files: Vec<PathBuf> = args.by_ref().take_while(|it| it != "--").map(PathBuf::from).collect();
    let kernels: Vec<PathBuf> = args.map(PathBuf::from).collect();
    let read = |files: &[PathBuf]| files.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>();
    let (object_data, kernel_data) =
        if in_memory { (read(&files)?, read(&kernels)?) } else { (Vec::new(), Vec::new()) };
    for line in std::io::stdin().lock().lines() {
        line?;
        let mut inputs = OwnedInputs::new();
        if in_memory {
            // Whoever has bytes in Rust gives them away: that they are copied here is no part of the work.
            for (path, data) in files.iter().zip(&object_data) {
                inputs.add_object_bytes(&path.to_string_lossy(), data.clone());
            }
            for (path, data) in kernels.iter().zip(&kernel_data) {
                inputs.add_kernel_bytes(&path.to_string_lossy(), data.clone());
            }
        } else {
            files.iter().for_each(|it| inputs.add_object_file(it));
            kernels.iter().for_each(|it| inputs.add_kernel_file(it));
        }
        let start = Instant::now();
        let run = OwnedRun::new(inputs, Options { threads, ..Options::LIBBPF })?;
        let answered = start.elapsed();
        let objects: Vec<usize> = (0..run.inputs().objects.len()).collect();
        let kernels = run.inputs().kernels.len();
        let start = Instant::now();
        let rows: Vec<usize> = run.batch().map(&objects, |&object| {
            let Ok(answers) = run.resolve(object) else { return 0 };
            (0..kernels).map(|it| black_box(answers.on(it)).map_or(0, |rows| rows.len())).sum()
        });
        let resolved = start.elapsed();
        let rows: usize = rows.iter().sum();
        let times = [answered, resolved].map(|it| it.as_secs_f64() * 1e3);
        let mut out = std::io::stdout();
        writeln!(out, "{} {} {rows}", times[0], times[1])?;
        out.flush()?;
    }
    Ok(())
}
