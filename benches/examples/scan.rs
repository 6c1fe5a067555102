//! What it takes to look for BPF objects inside executables and libraries, on one core.
//!
//! ```text
//! cargo run --release -p btfleet-benches --example scan -- DIR...
//! ```
//!
//! All ELF files below the directories are taken, which are to be in the page cache: they are read once before. Shown is
//! the best of some rounds, of the scan alone and with reading the files as inputs are read.
#![expect(clippy::print_stdout, reason = "a report for people")]

use std::error::Error;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use btfleet_engine::ingest::{Intake, ObjectInput, embedded};

const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut pending: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let mut files = Vec::new();
    while let Some(path) = pending.pop() {
        let Ok(kind) = fs::symlink_metadata(&path).map(|it| it.file_type()) else { continue };
        if kind.is_dir() {
            pending.extend(fs::read_dir(&path)?.filter_map(Result::ok).map(|it| it.path()));
        } else if kind.is_file() {
            let mut head = Vec::new();
            let is_read = File::open(&path).and_then(|it| it.take(4).read_to_end(&mut head));
            if is_read.is_ok() && head == b"\x7fELF" {
                files.push(ObjectInput::File { path, walked: true });
            }
        }
    }
    let intake = Intake::default();
    let (mut best_scan, mut best_whole) = (Duration::MAX, Duration::MAX);
    let (mut bytes, mut found) = (0, 0);
    for _ in 0..ROUNDS {
        (bytes, found) = (0, 0);
        let mut scan = Duration::ZERO;
        for file in &files {
            let ObjectInput::File { path, .. } = file else { continue };
            let data = fs::read(path)?;
            let start = Instant::now();
            found += embedded(&data).len();
            scan += start.elapsed();
            bytes += data.len();
        }
        let start = Instant::now();
        let read: usize = files.iter().map(|it| intake.objects(it).len()).sum();
        best_whole = best_whole.min(start.elapsed());
        best_scan = best_scan.min(scan);
        if read < found {
            return Err(format!("{found} objects by bytes, {read} by files").into());
        }
    }
    let rate = |time: Duration| bytes as f64 / 1e9 / time.as_secs_f64();
    println!("{} files, {:.2} GB, {found} objects inside", files.len(), bytes as f64 / 1e9);
    println!("scan alone     {best_scan:>10.1?}  {:.2} GB/s", rate(best_scan));
    println!("with reading   {best_whole:>10.1?}  {:.2} GB/s", rate(best_whole));
    Ok(())
}
