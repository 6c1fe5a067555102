//! What the border to C costs: the same work through the C functions and through the engine's own interface.
//!
//! ```text
//! cargo run --release -p btfleet-capi --example overhead -- ROUNDS|rust|c KERNEL... -- OBJECT...
//! ```
//!
//! The work: inputs in memory to a run; of each object all records on all kernels, all verdicts, all relocated files with
//! their programs; every row is looked at. With a number, both do it in turns that often, and medians of the thread's CPU time are shown; with
//! `rust` or `c`, one does it once, for a tool that counts instructions.
#![expect(clippy::print_stdout, reason = "a report for people")]
#![expect(unsafe_code, reason = "it calls the functions as C does")]

use std::error::Error;
use std::ffi::CString;
use std::fs;
use std::mem::MaybeUninit;
use std::time::Duration;

use btfleet::*;
use btfleet_engine::embed::{OwnedInputs, OwnedRun};

/// Files, each with its name.
type Files = Vec<(String, Vec<u8>)>;

fn read(paths: &[String]) -> Result<Files, Box<dyn Error>> {
    paths.iter().map(|path| Ok((path.clone(), fs::read(path)?))).collect()
}

/// A sum over rows: what it is does not matter, only that both come to the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    rows: usize,
    values: u64,
    bytes: usize,
}

fn through_rust(kernels: &Files, objects: &Files) -> Result<Sum, Box<dyn Error>> {
    let mut inputs = OwnedInputs::new();
    for (name, data) in kernels {
        inputs.add_kernel_bytes(name, data.clone());
    }
    for (name, data) in objects {
        inputs.add_object_bytes(name, data.clone());
    }
    let options = btfleet_engine::embed::Options { threads: 1, ..btfleet_engine::embed::Options::LIBBPF };
    let run = OwnedRun::new(inputs, options)?;
    let mut sum = Sum::default();
    for object in 0..run.inputs().objects.len() {
        let (answers, judgements) = (run.resolve(object)?, run.check(object)?);
        for kernel in 0..run.inputs().kernels.len() {
            for row in answers.on(kernel).unwrap_or_default() {
                sum.rows += 1;
                sum.values = sum.values.wrapping_add(row.new.unwrap_or(0));
                sum.bytes += row.insn.len();
            }
        }
        // Kernels of a class have the same verdicts.
        for &kernel in &judgements.verdicts().classes.first {
            for row in judgements.on(kernel).unwrap_or_default() {
                sum.rows += 1 + row.findings.len();
                sum.values = sum.values.wrapping_add(row.verdict as u64);
            }
        }
        for class in run.relocate(object)?.classes() {
            sum.bytes += class.file().unwrap_or_default().len();
            let programs = class.programs().unwrap_or_default();
            sum.bytes += programs.iter().map(|it| it.insns.len()).sum::<usize>();
        }
    }
    Ok(sum)
}

fn made<T>(call: impl FnOnce(Option<&mut MaybeUninit<*mut T>>) -> Status) -> Option<Box<T>> {
    let mut place = MaybeUninit::uninit();
    if call(Some(&mut place)) != Status::Ok {
        return None;
    }
    // SAFETY: written, and made by the library in a box that nobody else has.
    Some(unsafe { Box::from_raw(place.assume_init()) })
}

fn through_c(kernels: &Files, objects: &Files) -> Option<Sum> {
    let mut inputs = btfleet_inputs_new()?;
    for (name, data) in kernels {
        let name = CString::new(name.as_str()).ok()?;
        // SAFETY: a string, and as many bytes as are said.
        unsafe { btfleet_inputs_add_kernel(Some(&mut inputs), name.as_ptr(), data.as_ptr(), data.len()) };
    }
    for (name, data) in objects {
        let name = CString::new(name.as_str()).ok()?;
        // SAFETY: a string, and as many bytes as are said.
        unsafe { btfleet_inputs_add_object(Some(&mut inputs), name.as_ptr(), data.as_ptr(), data.len()) };
    }
    let options = Options {
        size: size_of::<Options>(),
        loader: std::ptr::null(),
        modules: BTFLEET_MODULES_EACH,
        respect_autoload: 0,
        kconfig: std::ptr::null(),
        kconfig_len: 0,
        threads: 1,
    };
    // SAFETY: options of the size that they say.
    let run = made(|place| unsafe { btfleet_run_new(Some(&mut inputs), &raw const options, place) })?;
    btfleet_inputs_free(Some(inputs));
    let mut sum = Sum::default();
    for object in 0..btfleet_run_object_count(Some(&run)) {
        let records = made(|place| btfleet_run_resolve(Some(&run), object, place))?;
        let verdicts = made(|place| btfleet_run_check(Some(&run), object, place))?;
        for kernel in 0..btfleet_run_kernel_count(Some(&run)) {
            for record in 0..btfleet_records_count(Some(&records)) {
                let Some(row) = btfleet_records_answer(Some(&records), kernel, record) else { break };
                sum.rows += 1;
                sum.values = sum.values.wrapping_add(row.new_value);
                sum.bytes += row.insn_len;
            }
        }
        let relocations = made(|place| btfleet_run_relocate(Some(&run), object, place))?;
        for class in 0..btfleet_relocations_class_count(Some(&relocations)) {
            let mut len = MaybeUninit::uninit();
            btfleet_relocations_file(Some(&relocations), class, Some(&mut len));
            // SAFETY: written, whatever the answer is.
            sum.bytes += unsafe { len.assume_init() };
            for program in 0..btfleet_relocations_program_count(Some(&relocations), class) {
                sum.bytes += btfleet_relocations_program(Some(&relocations), class, program)?.insns_len;
            }
        }
        // Of each class of kernels once.
        let mut seen = Vec::new();
        for kernel in 0..btfleet_run_kernel_count(Some(&run)) {
            let Some(first) = btfleet_verdicts_get(Some(&verdicts), kernel, 0) else { continue };
            let first = std::ptr::from_ref(first);
            if seen.contains(&first) {
                continue;
            }
            seen.push(first);
            for program in 0..btfleet_verdicts_count(Some(&verdicts), kernel) {
                let row = btfleet_verdicts_get(Some(&verdicts), kernel, program)?;
                sum.rows += 1 + row.finding_count;
                sum.values = sum.values.wrapping_add(row.rank.into());
            }
        }
        btfleet_relocations_free(Some(relocations));
        btfleet_verdicts_free(Some(verdicts));
        btfleet_records_free(Some(records));
    }
    btfleet_run_free(Some(run));
    Some(sum)
}

/// CPU time of this thread.
fn cpu() -> Result<Duration, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(stat.split(' ').next().ok_or("no CPU time")?.parse()?))
}

fn timed(work: impl FnOnce() -> Result<Sum, Box<dyn Error>>) -> Result<(Sum, Duration), Box<dyn Error>> {
    let before = cpu()?;
    let sum = work()?;
    Ok((sum, cpu()?.saturating_sub(before)))
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let usage = "ROUNDS|rust|c KERNEL... -- OBJECT...";
    let (mode, rest) = args.split_first().ok_or(usage)?;
    let mut parts = rest.split(|it| it == "--");
    let (kernels, objects) = (read(parts.next().ok_or(usage)?)?, read(parts.next().ok_or(usage)?)?);
    let rust = || through_rust(&kernels, &objects);
    let c = || through_c(&kernels, &objects).ok_or_else(|| "the C functions failed".into());
    match mode.as_str() {
        "rust" => println!("{:?}", rust()?),
        "c" => println!("{:?}", c()?),
        rounds => {
            let (mut of_rust, mut of_c) = (Vec::new(), Vec::new());
            for _ in 0..rounds.parse::<usize>()? {
                let (expected, time) = timed(rust)?;
                of_rust.push(time);
                let (found, time) = timed(c)?;
                of_c.push(time);
                if found != expected {
                    return Err(format!("C: {found:?}, Rust: {expected:?}").into());
                }
            }
            let (rust, c) = (median(&mut of_rust), median(&mut of_c));
            let more = 100.0 * (c.as_secs_f64() / rust.as_secs_f64() - 1.0);
            println!("Rust {rust:.1?}, C {c:.1?}: {more:+.1} %");
        }
    }
    Ok(())
}
