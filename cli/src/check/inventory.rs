//! `--inventory`: what verdicts come to on the hosts of a fleet.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use btfleet_engine::dialect::Release;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::report::Verdict;
use serde::{Deserialize, Serialize};

use super::spread::release_key;
use super::summary::{Cell, Summary};
use crate::load::Inputs;
use crate::output::{BAD, Failure, HEAD, Output, WARN, paint, plural};
use crate::rows::push_line;

/// Kernels that are listed of each kind.
const SHOWN: usize = 10;

/// Hosts with the same kernel.
#[derive(Clone, Debug)]
struct Hosts {
    release: String,
    distribution: String,
    arch: String,
    count: u64,
}

/// The hosts of a fleet, by their kernels, in the order of the file.
pub(super) struct Inventory {
    hosts: Vec<Hosts>,
}

/// A line of the file. Columns that are not here do not matter.
#[derive(Deserialize)]
struct Line {
    #[serde(alias = "uname", alias = "release")]
    kernel: String,
    #[serde(default, alias = "distro")]
    distribution: String,
    #[serde(default, alias = "architecture")]
    arch: String,
    #[serde(default = "one", alias = "hosts")]
    count: u64,
}

fn one() -> u64 {
    1
}

/// Hosts as a row.
#[derive(Serialize)]
pub(super) struct HostsRow<'a> {
    v: u32,
    t: &'static str,
    release: &'a str,
    distribution: &'a str,
    arch: &'a str,
    count: u64,
    /// `null` if there is no such kernel.
    kernel: Option<&'a str>,
    verdict: Option<&'static str>,
    /// Of hosts whose kernel is not there: the kernels before and after it, and whether these programs can tell them apart.
    before: Option<&'a str>,
    after: Option<&'a str>,
    same_outcome: Option<bool>,
}

/// What hosts come to.
enum Found {
    Kernel(usize, Verdict),
    /// Nearest kernels, and whether every program comes to the same on both.
    Unknown {
        before: Option<usize>,
        after: Option<usize>,
        alike: Option<bool>,
    },
}

impl Inventory {
    /// Reads a CSV file with a head. Hosts with the same kernel are added up.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |what: String| Failure::Usage(format!("{}: {what}", path.display()));
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .flexible(true)
            .from_path(path)
            .map_err(|error| failed(error.to_string()))?;
        let mut known: BTreeMap<(String, String, String), usize> = BTreeMap::new();
        let mut hosts: Vec<Hosts> = Vec::new();
        for line in reader.deserialize() {
            let line: Line = line.map_err(|error| {
                failed(format!(
                    "{error}; columns are kernel (a release or 'uname -a'), distribution, arch, count"
                ))
            })?;
            let (release, arch) = of_uname(&line.kernel);
            let arch = if line.arch.is_empty() { arch.to_owned() } else { line.arch };
            let key = (release.to_owned(), line.distribution.to_lowercase(), arch.clone());
            match known.get(&key).and_then(|it| hosts.get_mut(*it)) {
                Some(same) => same.count = same.count.saturating_add(line.count),
                None => {
                    known.insert(key, hosts.len());
                    let (release, distribution) = (release.to_owned(), line.distribution);
                    hosts.push(Hosts { release, distribution, arch, count: line.count });
                }
            }
        }
        if hosts.is_empty() {
            return Err(failed("it has no hosts".into()));
        }
        Ok(Self { hosts })
    }

    /// Rows, one for hosts with the same kernel.
    pub(super) fn rows(&self, summary: &Summary<'_>, inputs: &Inputs<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let worst = worst_by_kernel(summary, inputs);
        let name = |it: Option<usize>| it.and_then(|it| inputs.kernel_names.get(it).copied());
        for hosts in &self.hosts {
            let found = find(hosts, summary, inputs, &worst);
            let (kernel, verdict, before, after, same_outcome) = match found {
                Found::Kernel(kernel, verdict) => (Some(kernel), Some(verdict.name()), None, None, None),
                Found::Unknown { before, after, alike } => (None, None, before, after, alike),
            };
            let Hosts { release, distribution, arch, count } = hosts;
            push_line(
                &mut out,
                &HostsRow {
                    v: 1,
                    t: "hosts",
                    release,
                    distribution,
                    arch,
                    count: *count,
                    kernel: name(kernel),
                    verdict,
                    before: name(before),
                    after: name(after),
                    same_outcome,
                },
            );
        }
        out
    }

    /// Says it for people.
    pub(super) fn print(
        &self,
        out: &mut Output,
        summary: &Summary<'_>,
        inputs: &Inputs<'_>,
    ) -> Result<(), Failure> {
        let worst = worst_by_kernel(summary, inputs);
        let (mut fine, mut total) = (0_u64, 0_u64);
        let mut bad: BTreeMap<Reverse<Verdict>, Vec<&Hosts>> = BTreeMap::new();
        let mut unknown = Vec::new();
        for hosts in &self.hosts {
            total = total.saturating_add(hosts.count);
            match find(hosts, summary, inputs, &worst) {
                Found::Kernel(_, Verdict::Ok | Verdict::OkDrift) => fine = fine.saturating_add(hosts.count),
                Found::Kernel(_, verdict) => bad.entry(Reverse(verdict)).or_default().push(hosts),
                Found::Unknown { before, after, alike } => unknown.push((hosts, before, after, alike)),
            }
        }
        let permille = u128::from(fine) * 1000 / u128::from(total.max(1));
        let hosts = plural(usize::try_from(total).unwrap_or(usize::MAX), "host");
        out.line(&paint(HEAD, &format!("{}.{} % of {hosts} ok", permille / 10, permille % 10)))?;
        for (verdict, mut hosts) in bad {
            hosts.sort_by_key(|it| Reverse(it.count));
            let count: u64 = hosts.iter().map(|it| it.count).sum();
            let style = if verdict.0 >= Verdict::FailAttach { BAD } else { WARN };
            let names: Vec<String> =
                hosts.iter().take(SHOWN).map(|it| format!("{} ({})", it.release, it.count)).collect();
            let more = if hosts.len() > SHOWN { ", …" } else { "" };
            let (word, kernels) = (paint(style, verdict.0.name()), plural(hosts.len(), "kernel"));
            out.line(&format!("  {word} {count} hosts, {kernels}: {}{more}", names.join(", ")))?;
        }
        unknown.sort_by_key(|it| Reverse(it.0.count));
        if !unknown.is_empty() {
            let count: u64 = unknown.iter().map(|it| it.0.count).sum();
            let word = paint(WARN, "not known");
            out.line(&format!(
                "  {word} {count} hosts, {} that are not here:",
                plural(unknown.len(), "kernel")
            ))?;
        }
        let release = |it: Option<usize>| {
            it.and_then(|it| inputs.kernels.get(it)).map_or("", |it| it.facts.release.as_str())
        };
        for (hosts, before, after, alike) in unknown.iter().take(SHOWN) {
            let between = match (before, after, alike) {
                (Some(_), Some(_), Some(alike)) => {
                    let alike =
                        if *alike { "on which all programs come to the same" } else { "which differ" };
                    format!(
                        "between {} and {}, {alike}; that proves nothing",
                        release(*before),
                        release(*after)
                    )
                }
                (Some(_), ..) => format!("newer than {}", release(*before)),
                (_, Some(_), _) => format!("older than {}", release(*after)),
                _ => "like none of the kernels".to_owned(),
            };
            out.line(&format!("    {} ({}) {between}", hosts.release, hosts.count))?;
        }
        if unknown.len() > SHOWN {
            out.line(&format!("    … and {} more kernels", unknown.len() - SHOWN))?;
        }
        out.line("")
    }
}

/// The release in what `uname -r` or `uname -a` prints, and the architecture if that is there.
fn of_uname(text: &str) -> (&str, &str) {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["Linux", _, release, .., arch, "GNU/Linux"] | ["Linux", _, release, .., arch] => (release, arch),
        ["Linux", release, ..] | [release, ..] => (release, ""),
        [] => ("", ""),
    }
}

/// By kernel, the worst over what is loaded unasked.
fn worst_by_kernel(summary: &Summary<'_>, inputs: &Inputs<'_>) -> Vec<Verdict> {
    let mut worst = vec![Verdict::Ok; inputs.kernels.len()];
    for cells in summary.cells.values() {
        for (worst, cell) in worst.iter_mut().zip(cells) {
            if let Cell::Verdict(verdict) = cell {
                *worst = (*worst).max(*verdict);
            }
        }
    }
    worst
}

fn find(hosts: &Hosts, summary: &Summary<'_>, inputs: &Inputs<'_>, worst: &[Verdict]) -> Found {
    let fits = |kernel: &Kernel<'_>| {
        let facts = &kernel.facts;
        let same = |given: &str, known: &str| {
            given.is_empty() || known.is_empty() || known.to_lowercase().starts_with(&given.to_lowercase())
        };
        same(&hosts.distribution, &facts.distribution) && same_arch(&hosts.arch, &facts.architecture)
    };
    let is_it = |kernel: &Kernel<'_>| kernel.facts.release == hosts.release && fits(kernel);
    if let Some(kernel) = inputs.kernels.iter().position(is_it) {
        return Found::Kernel(kernel, worst.get(kernel).copied().unwrap_or(Verdict::Ok));
    }
    let wanted = release_key(&hosts.release);
    let mut placed: Vec<(Vec<u64>, usize)> = inputs
        .kernels
        .iter()
        .enumerate()
        .filter(|it| fits(it.1) && Release::parse(&it.1.facts.release).is_some())
        .map(|(number, kernel)| (release_key(&kernel.facts.release), number))
        .collect();
    placed.sort();
    if wanted.is_empty() {
        return Found::Unknown { before: None, after: None, alike: None };
    }
    let split = placed.partition_point(|it| it.0 < wanted);
    let before = split.checked_sub(1).and_then(|it| placed.get(it)).map(|it| it.1);
    let after = placed.get(split).map(|it| it.1);
    let alike = before.zip(after).map(|(a, b)| summary.cells.values().all(|it| it.get(a) == it.get(b)));
    Found::Unknown { before, after, alike }
}

/// `x86_64` and `amd64` are the same, and so on.
fn same_arch(a: &str, b: &str) -> bool {
    let common = |it: &str| match it {
        "x86_64" | "amd64" => "amd64".to_owned(),
        "aarch64" | "arm64" => "arm64".to_owned(),
        "ppc64le" | "ppc64el" | "powerpc64le" => "ppc64el".to_owned(),
        "armv7l" | "armhf" => "armhf".to_owned(),
        "i686" | "i386" => "i386".to_owned(),
        other => other.to_owned(),
    };
    a.is_empty() || b.is_empty() || common(a) == common(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check what hosts say of their kernels.
    #[test]
    fn releases_are_read_from_what_hosts_say() {
        let ubuntu = "Linux web1 5.15.0-100-generic #110-Ubuntu SMP Wed Feb 7 13:27:48 UTC 2024 x86_64 x86_64 x86_64 GNU/Linux";
        for (text, want) in [
            (ubuntu, ("5.15.0-100-generic", "x86_64")),
            ("6.1.0-47-cloud-amd64", ("6.1.0-47-cloud-amd64", "")),
            ("Linux 6.1.0", ("6.1.0", "")),
            ("", ("", "")),
        ] {
            assert_eq!(of_uname(text), want, "{text}");
        }
        assert!(same_arch("x86_64", "amd64") && same_arch("", "arm64") && !same_arch("arm64", "amd64"));
    }
}
