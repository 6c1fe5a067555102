//! What was measured on, and the memory of a process.

use std::fs;
use std::process::Command;

/// One line: processor, date, commit.
pub fn describe() -> String {
    let commit = run("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]);
    format!("Machine: {}. Date: {}. Commit: {commit}.", cpu(), run("date", &["-u", "+%F"]))
}

/// Peak resident set of this process, in KiB.
///
/// # Errors
/// If the system does not say.
pub fn peak_rss_kib() -> Result<u64, String> {
    let status = fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let peak = status.lines().find_map(|it| it.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    peak.and_then(|it| it.parse().ok()).ok_or_else(|| "no VmHWM in /proc/self/status".to_owned())
}

/// Model of the first CPU, and the number of CPUs.
fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut models =
        text.lines().filter_map(|it| Some(it.strip_prefix("model name")?.split_once(':')?.1.trim()));
    let model = models.next().unwrap_or("unknown CPU");
    format!("{model}, {} CPUs", 1 + models.count())
}

/// What a program says, or `?`.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().ok().filter(|it| it.status.success());
    output.map_or_else(|| "?".to_owned(), |it| String::from_utf8_lossy(&it.stdout).trim().to_owned())
}
