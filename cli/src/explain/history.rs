//! Since which kernel something is as it is: outcomes of one record over many kernels, in the order of their releases.

use std::collections::BTreeMap;
use std::path::Path;

use btfleet_engine::batch::{Batch, Folded, Run};
use btfleet_engine::dialect::Validate;
use btfleet_engine::embed::Loaders;
use btfleet_engine::ingest::facts_of;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::object::Object;
use btfleet_engine::pack::Facts;
use serde_json::{Value, json};

use super::{is_problem, plain_code};
use crate::load::Inputs;
use crate::output::plural;

/// What is said of a record that is no problem.
const RESOLVES: &str = "resolves";

/// Kernels of one distribution, architecture and flavour, by release.
pub(super) struct Series {
    name: String,
    /// Numbers of the kernels, each with its release.
    kernels: Vec<(String, usize)>,
}

/// Kernels that follow each other in a series with the same outcome.
struct Stretch {
    code: &'static str,
    first: String,
    last: String,
    count: usize,
}

/// Sorts the kernels of a run into series.
pub(super) fn series(inputs: &Inputs<'_>) -> Vec<Series> {
    let mut by_name: BTreeMap<String, Vec<(String, usize)>> = BTreeMap::new();
    for (number, (kernel, name)) in inputs.kernels.iter().zip(&inputs.kernel_names).enumerate() {
        let facts = facts(kernel, name);
        let parts = [&facts.distribution, &facts.architecture, &facts.flavour];
        let known: Vec<&str> = parts.iter().map(|it| it.as_str()).filter(|it| !it.is_empty()).collect();
        let release = if facts.release.is_empty() { (*name).to_owned() } else { facts.release.clone() };
        by_name.entry(known.join(" ")).or_default().push((release, number));
    }
    let sorted = by_name.into_iter().map(|(name, mut kernels)| {
        kernels.sort_by_cached_key(|(release, number)| (numbers(release), release.clone(), *number));
        Series { name, kernels }
    });
    sorted.collect()
}

fn facts(kernel: &Kernel<'_>, name: &str) -> Facts {
    let packed = kernel.packed.as_ref().and_then(|it| it.source.pack.kernel(it.number).ok());
    packed.map_or_else(|| facts_of(Path::new(name.split(',').next().unwrap_or(name))), |it| it.facts)
}

/// The numbers of a release, to be compared as numbers.
fn numbers(release: &str) -> Vec<u64> {
    let parts = release.split(|it: char| !it.is_ascii_digit()).filter(|it| !it.is_empty());
    parts.map(|it| it.parse().unwrap_or(u64::MAX)).collect()
}

/// The outcomes of all records of an object on all kernels.
pub(super) fn run<'a>(
    inputs: &'a Inputs<'a>,
    object: &'a Object<'a>,
    batch: &Batch,
    loaders: &Loaders,
    modules: btfleet_engine::fleet::Modules,
    validate: Validate,
) -> Run<'a> {
    let objects = std::slice::from_ref(object);
    Run::validating(batch, objects, &inputs.kernels, loaders.by_kernel(), modules, validate)
}

fn stretches(series: &Series, folded: &Folded<'_>, record: usize) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for (release, kernel) in &series.kernels {
        let Some(outcome) = folded.outcome(record, *kernel) else { continue };
        // Where the kernel has it, the place does not matter.
        let code = if is_problem(outcome) { plain_code(outcome) } else { RESOLVES };
        match stretches.last_mut() {
            Some(last) if last.code == code => {
                last.last.clone_from(release);
                last.count += 1;
            }
            _ => stretches.push(Stretch { code, first: release.clone(), last: release.clone(), count: 1 }),
        }
    }
    stretches
}

/// A line for each series in which the record does not resolve everywhere, and one for the others.
pub(super) fn lines(series: &[Series], folded: &Folded<'_>, record: usize) -> Vec<String> {
    let (mut lines, mut fine) = (Vec::new(), (0, 0));
    for series in series {
        let stretches = stretches(series, folded, record);
        let Some(last) = stretches.len().checked_sub(1) else { continue };
        if let [Stretch { code: RESOLVES, count, .. }] = stretches.as_slice() {
            fine = (fine.0 + 1, fine.1 + count);
            continue;
        }
        let told = stretches.iter().enumerate().map(|(number, it)| match (number, it.count) {
            (0, count) if last == 0 => format!("{} on all of {}", it.code, plural(count, "kernel")),
            (0, _) => format!("{} up to {}", it.code, it.last),
            (number, _) if number == last => format!("{} since {}", it.code, it.first),
            (_, 1) => format!("{} on {}", it.code, it.first),
            _ => format!("{} from {} to {}", it.code, it.first, it.last),
        });
        let told: Vec<String> = told.collect();
        let name = if series.name.is_empty() { "kernels" } else { &series.name };
        lines.push(format!("{name}: {}", told.join(", ")));
    }
    match fine {
        (0, _) => {}
        (series, kernels) if lines.is_empty() => {
            let series = if series == 1 { String::new() } else { format!(" in {series} series") };
            lines.push(format!("resolves on all of {}{series}", plural(kernels, "kernel")));
        }
        (series, kernels) => {
            lines.push(format!("resolves on all {} of {series} other series", plural(kernels, "kernel")));
        }
    }
    lines
}

/// The same for programs.
pub(super) fn to_json(series: &[Series], folded: &Folded<'_>, record: usize) -> Value {
    let of_series = |series: &Series| {
        let stretches = stretches(series, folded, record);
        let told = stretches
            .iter()
            .map(|it| json!({ "code": it.code, "first": it.first, "last": it.last, "kernels": it.count }));
        json!({ "series": series.name, "stretches": told.collect::<Vec<Value>>() })
    };
    Value::Array(series.iter().map(of_series).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that releases are put in the order in which they came out.
    #[test]
    fn releases_are_compared_number_by_number() {
        let mut releases = ["6.12.43+deb12", "6.1.0-56", "5.10.0-30", "6.1.0-9", "6.12.107+deb13", "10.1"];
        releases.sort_by_key(|it| numbers(it));
        assert_eq!(releases, ["5.10.0-30", "6.1.0-9", "6.1.0-56", "6.12.43+deb12", "6.12.107+deb13", "10.1"]);
    }
}
