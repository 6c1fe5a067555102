//! `--inventory`: what verdicts come to on the hosts of a fleet.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use btfleet_engine::batch::Classes;
use btfleet_engine::dialect::Release;
use btfleet_engine::ingest::facts_of;
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
struct HostsRow<'a> {
    v: u32,
    t: &'static str,
    release: &'a str,
    distribution: &'a str,
    arch: &'a str,
    count: u64,
    /// `null` if there is no such kernel.
    kernel: Option<&'a str>,
    verdict: Option<&'static str>,
    /// Of hosts whose kernel is not there: the kernels before and after it, and what they have in common.
    before: Option<&'a str>,
    after: Option<&'a str>,
    same_outcome: Option<bool>,
    same_layouts: Option<bool>,
}

/// What hosts come to.
enum Found {
    Kernel(usize, Verdict),
    Unknown(Gap),
}

/// Where the kernel of hosts would be.
struct Gap {
    before: Option<usize>,
    after: Option<usize>,
    /// If there are both: whether every program comes to the same on them.
    same_outcome: Option<bool>,
    /// … and whether every record has the same answer on them.
    same_layouts: Option<bool>,
}

/// What verdicts come to on hosts.
pub(super) struct Weighed<'a> {
    hosts: Vec<(&'a Hosts, Found)>,
    /// By kernel: hosts that have it.
    on: Vec<u64>,
    total: u64,
    /// Hosts on which all that is loaded by default is fine.
    fine: u64,
}

/// A kernel that hosts have: its release, how many they are, and what is known beside.
type HostKernel = (String, u64, String);

/// A group of hosts that is not fine, or not known, in words.
pub(super) struct Group {
    /// `None`: their kernels are not there.
    pub(super) verdict: Option<Verdict>,
    pub(super) hosts: u64,
    /// Most hosts first.
    pub(super) kernels: Vec<HostKernel>,
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

    /// What verdicts come to on the hosts.
    pub(super) fn weigh<'a>(
        &'a self,
        summary: &Summary<'_>,
        inputs: &Inputs<'_>,
        layouts: impl FnOnce() -> Classes,
    ) -> Weighed<'a> {
        let worst = worst_by_kernel(summary, inputs);
        let mut hosts: Vec<(&Hosts, Found)> =
            self.hosts.iter().map(|it| (it, find(it, summary, inputs, &worst))).collect();
        let mut gaps: Vec<&mut Gap> = hosts
            .iter_mut()
            .filter_map(|it| match &mut it.1 {
                Found::Unknown(gap) if gap.same_outcome == Some(true) => Some(gap),
                _ => None,
            })
            .collect();
        if !gaps.is_empty() {
            let layouts = layouts();
            let class = |it: Option<usize>| it.and_then(|it| layouts.of.get(it).copied().flatten());
            for gap in &mut gaps {
                gap.same_layouts = Some(class(gap.before).is_some_and(|it| class(gap.after) == Some(it)));
            }
        }
        let mut on = vec![0_u64; inputs.kernels.len()];
        let (mut fine, mut total) = (0_u64, 0_u64);
        for (hosts, found) in &hosts {
            total = total.saturating_add(hosts.count);
            if let Found::Kernel(kernel, verdict) = found {
                if let Some(on) = on.get_mut(*kernel) {
                    *on = on.saturating_add(hosts.count);
                }
                if *verdict <= Verdict::OkDrift {
                    fine = fine.saturating_add(hosts.count);
                }
            }
        }
        Weighed { hosts, on, total, fine }
    }
}

impl Weighed<'_> {
    /// How many hosts have a kernel.
    pub(super) fn on(&self, kernel: usize) -> u64 {
        self.on.get(kernel).copied().unwrap_or(0)
    }

    /// How many hosts have one of the kernels for which it is said.
    pub(super) fn on_any(&self, kernels: &[bool]) -> u64 {
        let of = self.on.iter().zip(kernels).filter(|it| *it.1).map(|it| *it.0);
        of.fold(0, u64::saturating_add)
    }

    /// In one sentence: `97.3 % of 41,210 hosts ok`.
    pub(super) fn sentence(&self) -> String {
        let permille = u128::from(self.fine) * 1000 / u128::from(self.total.max(1));
        format!("{}.{} % of {} ok", permille / 10, permille % 10, hosts_in_words(self.total))
    }

    /// Hosts that are not fine, the worst first, then those whose kernels are not there.
    pub(super) fn groups(&self, inputs: &Inputs<'_>) -> Vec<Group> {
        let mut by: BTreeMap<Option<Reverse<Verdict>>, Vec<HostKernel>> = BTreeMap::new();
        for (hosts, found) in &self.hosts {
            let (verdict, why) = match found {
                Found::Kernel(_, Verdict::Ok | Verdict::OkDrift) => continue,
                Found::Kernel(_, verdict) => (Some(Reverse(*verdict)), String::new()),
                Found::Unknown(gap) => (None, gap.words(inputs)),
            };
            by.entry(verdict).or_default().push((hosts.release.clone(), hosts.count, why));
        }
        // Nothing is known of those that sort first.
        let unknown = by.remove(&None).map(|it| (None, it));
        by.into_iter()
            .chain(unknown)
            .map(|(verdict, mut kernels)| {
                kernels.sort_by_key(|it| Reverse(it.1));
                let hosts = kernels.iter().fold(0, |sum: u64, it| sum.saturating_add(it.1));
                Group { verdict: verdict.map(|it| it.0), hosts, kernels }
            })
            .collect()
    }

    /// Rows, one for hosts with the same kernel.
    pub(super) fn rows(&self, inputs: &Inputs<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let name = |it: Option<usize>| it.and_then(|it| inputs.kernel_names.get(it).copied());
        for (Hosts { release, distribution, arch, count }, found) in &self.hosts {
            let (kernel, gap) = match found {
                Found::Kernel(kernel, verdict) => (Some((*kernel, *verdict)), None),
                Found::Unknown(gap) => (None, Some(gap)),
            };
            push_line(
                &mut out,
                &HostsRow {
                    v: 1,
                    t: "hosts",
                    release,
                    distribution,
                    arch,
                    count: *count,
                    kernel: name(kernel.map(|it| it.0)),
                    verdict: kernel.map(|it| it.1.name()),
                    before: name(gap.and_then(|it| it.before)),
                    after: name(gap.and_then(|it| it.after)),
                    same_outcome: gap.and_then(|it| it.same_outcome),
                    same_layouts: gap.and_then(|it| it.same_layouts),
                },
            );
        }
        out
    }

    /// Says it for people.
    pub(super) fn print(&self, out: &mut Output, inputs: &Inputs<'_>) -> Result<(), Failure> {
        out.prose(&paint(HEAD, &self.sentence()), 2)?;
        for Group { verdict, hosts, kernels } in self.groups(inputs) {
            let (hosts, count) = (hosts_in_words(hosts), plural(kernels.len(), "kernel"));
            match verdict {
                Some(verdict) => {
                    let style = if verdict >= Verdict::FailAttach { BAD } else { WARN };
                    out.prose(&format!("  {} {hosts}, {count}:", paint(style, verdict.name())), 4)?;
                }
                None => {
                    let word = paint(WARN, "not known");
                    let are = if kernels.len() == 1 { "is" } else { "are" };
                    out.prose(&format!("  {word} {hosts}, {count} that {are} not here:"), 4)?;
                }
            }
            for (release, hosts, why) in kernels.iter().take(SHOWN) {
                let why = if why.is_empty() { String::new() } else { format!(": {why}") };
                out.row(&format!("    {release}  {}{why}", hosts_in_words(*hosts)), 8)?;
            }
            if kernels.len() > SHOWN {
                out.line(&format!("    … and {}", plural(kernels.len() - SHOWN, "more kernel")))?;
            }
        }
        out.line("")
    }
}

impl Gap {
    /// What is known of kernels that are not there. Without their BTF that is no proof, and it is not called one.
    fn words(&self, inputs: &Inputs<'_>) -> String {
        let release = |it: usize| inputs.kernels.get(it).map_or("", |it| it.facts.release.as_str());
        match (self.before, self.after) {
            (Some(before), Some(after)) => {
                let alike = match (self.same_layouts, self.same_outcome) {
                    (Some(true), _) => "which have the same layouts for these programs: likely the same here",
                    (_, Some(true)) => "on which all programs come to the same, with other layouts",
                    _ => "on which programs come to different ends",
                };
                format!("between {} and {}, {alike}", release(before), release(after))
            }
            (Some(before), None) => format!("newer than {}", release(before)),
            (None, Some(after)) => format!("older than {}", release(after)),
            (None, None) => "like none of the kernels".to_owned(),
        }
    }
}

/// `1 host`, `41,210 hosts`.
pub(super) fn hosts_in_words(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{grouped} host{}", if count == 1 { "" } else { "s" })
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

/// By kernel, the worst over what is loaded unasked. Where not a single object is judged, that is not known.
fn worst_by_kernel(summary: &Summary<'_>, inputs: &Inputs<'_>) -> Vec<Verdict> {
    // Objects without cells are fine wherever they are.
    let others_are_judged = summary.cells.len() < inputs.objects.len();
    let mut worst = vec![others_are_judged.then_some(Verdict::Ok); inputs.kernels.len()];
    for cells in summary.cells.values() {
        for (worst, cell) in worst.iter_mut().zip(cells) {
            let verdict = match cell {
                Cell::Verdict(verdict) => Some(*verdict),
                Cell::NoPrograms => Some(Verdict::Ok),
                Cell::NotJudged => None,
            };
            *worst = (*worst).max(verdict);
        }
    }
    worst.into_iter().map(|it| it.unwrap_or(Verdict::Unknown)).collect()
}

fn find(hosts: &Hosts, summary: &Summary<'_>, inputs: &Inputs<'_>, worst: &[Verdict]) -> Found {
    // Most releases say what the column does not.
    let said = facts_of(Path::new(&hosts.release));
    let arch = if hosts.arch.is_empty() { &said.architecture } else { &hosts.arch };
    let fits = |kernel: &Kernel<'_>| {
        let facts = &kernel.facts;
        let same = |given: &str, known: &str| {
            given.is_empty() || known.is_empty() || known.to_lowercase().starts_with(&given.to_lowercase())
        };
        same(&hosts.distribution, &facts.distribution) && same_arch(arch, &facts.architecture)
    };
    let is_it = |kernel: &Kernel<'_>| kernel.facts.release == hosts.release && fits(kernel);
    if let Some(kernel) = inputs.kernels.iter().position(is_it) {
        return Found::Kernel(kernel, worst.get(kernel).copied().unwrap_or(Verdict::Ok));
    }
    let wanted = release_key(&hosts.release);
    let is_placed = |kernel: &Kernel<'_>| fits(kernel) && Release::parse(&kernel.facts.release).is_some();
    let kernels = || inputs.kernels.iter().enumerate().filter(|it| is_placed(it.1));
    // Flavours have configurations of their own: another one is a neighbour only where there is none of the same.
    let is_alike = |kernel: &Kernel<'_>| kernel.facts.flavour == said.flavour;
    let has_alike = kernels().any(|it| is_alike(it.1));
    let mut placed: Vec<(Vec<u64>, usize)> = kernels()
        .filter(|it| !has_alike || is_alike(it.1))
        .map(|(number, kernel)| (release_key(&kernel.facts.release), number))
        .collect();
    placed.sort();
    if wanted.is_empty() {
        return Found::Unknown(Gap { before: None, after: None, same_outcome: None, same_layouts: None });
    }
    let split = placed.partition_point(|it| it.0 < wanted);
    let before = split.checked_sub(1).and_then(|it| placed.get(it)).map(|it| it.1);
    let after = placed.get(split).map(|it| it.1);
    let same_outcome =
        before.zip(after).map(|(a, b)| summary.cells.values().all(|it| it.get(a) == it.get(b)));
    let same_layouts = same_outcome.filter(|it| !it);
    Found::Unknown(Gap { before, after, same_outcome, same_layouts })
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
