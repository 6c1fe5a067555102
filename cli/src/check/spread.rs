//! Which kernels something is on, in words: since which release, before which, on which architecture.

use std::collections::BTreeSet;

use btfleet_engine::kernel::Kernel;

use super::inventory::{Weighed, hosts_in_words};
use super::summary::Places;
use crate::load::Inputs;

/// The kernels of a run in the order of their releases.
pub(super) struct Spread {
    kernels: Vec<Placed>,
    /// Numbers of the kernels, by release.
    order: Vec<usize>,
}

/// What the place of a kernel among others depends on.
struct Placed {
    /// As it is shown: `6.12.107+deb13-cloud-amd64`, or its name where nobody knows its release.
    release: String,
    /// `6.12`; empty if there is no release.
    series: String,
    key: Vec<u64>,
    arch: String,
}

/// Kernels that a table shows in one column.
pub(super) struct Column {
    /// Their series.
    pub(super) label: String,
    pub(super) kernels: Vec<usize>,
}

impl Spread {
    pub(super) fn new<'a>(kernels: impl Iterator<Item = (&'a Kernel<'a>, &'a str)>) -> Self {
        let kernels: Vec<Placed> = kernels.map(|(kernel, name)| Placed::new(kernel, name)).collect();
        let mut order: Vec<usize> = (0..kernels.len()).collect();
        order.sort_by_key(|it| kernels.get(*it).map(|it| (it.key.is_empty(), &it.key, &it.release)));
        Self { kernels, order }
    }

    fn at(&self, kernel: usize) -> &Placed {
        const NOWHERE: &Placed =
            &Placed { release: String::new(), series: String::new(), key: Vec::new(), arch: String::new() };
        self.kernels.get(kernel).unwrap_or(NOWHERE)
    }

    /// The kernel's release, or its name where that is not known.
    pub(super) fn release(&self, kernel: usize) -> &str {
        &self.at(kernel).release
    }

    /// The kernels' numbers by release.
    pub(super) fn order(&self) -> &[usize] {
        &self.order
    }

    /// The first and the last release.
    pub(super) fn range(&self) -> Option<(&str, &str)> {
        Some((self.release(*self.order.first()?), self.release(*self.order.last()?)))
    }

    /// A column for each series, in order.
    pub(super) fn columns(&self) -> Vec<Column> {
        let mut columns: Vec<Column> = Vec::new();
        for &kernel in &self.order {
            let placed = self.at(kernel);
            let label = if placed.series.is_empty() { "other" } else { &placed.series };
            match columns.last_mut().filter(|it| it.label == label) {
                Some(column) => column.kernels.push(kernel),
                None => columns.push(Column { label: label.to_owned(), kernels: vec![kernel] }),
            }
        }
        columns
    }

    /// Says which of the kernels that its objects were judged on a cause is on, and on how many hosts.
    pub(super) fn of_cause(
        &self,
        places: &Places<'_>,
        inputs: &Inputs<'_>,
        weighed: Option<&Weighed<'_>>,
    ) -> String {
        let judged =
            |kernel: usize| places.objects.iter().any(|it| inputs.mismatch(it.object, kernel).is_none());
        let kernels = self.describe(|it| places.on.get(it) == Some(&true), judged);
        match weighed {
            Some(weighed) => format!("{kernels}, {}", hosts_in_words(weighed.on_any(&places.on))),
            None => kernels,
        }
    }

    fn describe(&self, on: impl Fn(usize) -> bool, judged: impl Fn(usize) -> bool) -> String {
        let judged: Vec<usize> = self.order.iter().copied().filter(|it| judged(*it)).collect();
        let (with, without): (Vec<usize>, Vec<usize>) = judged.iter().partition(|it| on(**it));
        let count = format!("{} of {}", with.len(), judged.len());
        let (Some(&first), Some(&last)) = (with.first(), with.last()) else { return count };
        if without.is_empty() {
            return match judged.len() {
                1 => format!("on {}", self.release(first)),
                _ => "on every kernel".to_owned(),
            };
        }
        let key = |kernel: &usize| &self.at(*kernel).key;
        let arches = |kernels: &[usize]| -> BTreeSet<&str> {
            kernels.iter().map(|it| self.at(*it).arch.as_str()).collect()
        };
        let (arches_with, arches_without) = (arches(&with), arches(&without));
        if arches_with.is_disjoint(&arches_without) && !arches_with.contains("") {
            let names: Vec<&str> = arches_with.into_iter().collect();
            return format!("on {} ({count})", names.join(", "));
        }
        if judged.iter().any(|it| key(it).is_empty()) {
            return format!("on {count} kernels");
        }
        let (min, max) = (without.iter().map(key).min(), without.iter().map(key).max());
        if max < Some(key(&first)) {
            return format!("since {} ({count})", self.shown(first, &without));
        }
        if min > Some(key(&last)) {
            let next = without.iter().min_by_key(|it| key(it)).copied().unwrap_or(last);
            return format!("before {} ({count})", self.shown(next, &with));
        }
        match with.as_slice() {
            [one] => format!("on {} ({count})", self.release(*one)),
            _ => format!("on {count}, {} to {}", self.shown(first, &[]), self.shown(last, &[])),
        }
    }

    /// A release as short as tells it from `others`.
    fn shown(&self, kernel: usize, others: &[usize]) -> &str {
        let placed = self.at(kernel);
        match others.iter().any(|it| self.at(*it).series == placed.series) {
            true => &placed.release,
            false => &placed.series,
        }
    }
}

impl Placed {
    fn new(kernel: &Kernel<'_>, name: &str) -> Self {
        let release = kernel.facts.release.as_str();
        let key = release_key(release);
        let series = match key.as_slice() {
            [major, minor, ..] => format!("{major}.{minor}"),
            _ => String::new(),
        };
        let shown = if release.is_empty() { name.rsplit('/').next().unwrap_or(name) } else { release };
        Self { release: shown.to_owned(), series, key, arch: kernel.facts.architecture.clone() }
    }
}

/// The numbers that a release begins with, by which releases are ordered.
pub(super) fn release_key(release: &str) -> Vec<u64> {
    let numbers = release.split(|it: char| !it.is_ascii_digit()).map_while(|it| it.parse().ok());
    numbers.take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(releases: &[&str]) -> Spread {
        let kernels = releases.iter().map(|text| {
            let (release, arch) = text.split_once('/').unwrap_or((text, "amd64"));
            let key = release_key(release);
            let series = release.split('.').take(2).collect::<Vec<_>>().join(".");
            Placed { release: release.to_owned(), series, key, arch: arch.to_owned() }
        });
        let kernels: Vec<Placed> = kernels.collect();
        let mut order: Vec<usize> = (0..kernels.len()).collect();
        order.sort_by_key(|it| kernels.get(*it).map(|it| &it.key));
        Spread { kernels, order }
    }

    /// Check the words for what is on some kernels.
    #[test]
    fn words_say_where_it_begins_and_ends() {
        let spread = spread(&["6.1.0", "5.10.0", "6.12.3", "6.12.9", "6.12.9/arm64", "7.0.1"]);
        for (on, want) in [
            (vec![0, 1, 2, 3, 4, 5], "on every kernel"),
            (vec![5], "since 7.0 (1 of 6)"),
            (vec![2, 3, 4, 5], "since 6.12 (4 of 6)"),
            (vec![3, 4, 5], "since 6.12.9 (3 of 6)"),
            (vec![1], "before 6.1 (1 of 6)"),
            (vec![0, 1, 2], "before 6.12.9 (3 of 6)"),
            (vec![4], "on arm64 (1 of 6)"),
            (vec![0, 2], "on 2 of 6, 6.1 to 6.12"),
            (vec![0], "on 6.1.0 (1 of 6)"),
            (vec![], "0 of 6"),
        ] {
            assert_eq!(spread.describe(|it| on.contains(&it), |_| true), want);
        }
        assert_eq!(spread.describe(|it| it == 5, |it| it >= 4), "on amd64 (1 of 2)");
        let labels: Vec<String> =
            spread.columns().iter().map(|it| format!("{} {}", it.label, it.kernels.len())).collect();
        assert_eq!(labels, ["5.10 1", "6.1 1", "6.12 3", "7.0 1"]);
    }
}
