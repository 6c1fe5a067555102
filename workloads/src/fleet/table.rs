//! The table of a fetched fleet, as Markdown: what each suite gave, and what each package with objects gave.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Error;
use super::list::Part;
use super::manifest::{Entry, Manifest};

/// What some packages gave.
#[derive(Default)]
struct Sum {
    packages: usize,
    download: u64,
    kernels: usize,
    kernel_types: usize,
    modules: usize,
    module_types: usize,
    objects: usize,
    records: usize,
}

impl Sum {
    fn add(&mut self, entry: &Entry) {
        self.packages += 1;
        self.download += entry.size;
        for file in &entry.files {
            match file.part {
                Part::Kernel => {
                    self.kernels += 1;
                    self.kernel_types += file.types;
                }
                Part::Modules => {
                    self.modules += 1;
                    self.module_types += file.types;
                }
                Part::Objects => {
                    self.objects += 1;
                    self.records += file.records;
                }
            }
        }
    }
}

/// The tables of the fleet in `dir`.
///
/// # Errors
/// If there is no manifest.
pub(crate) fn table(dir: &Path) -> Result<String, Error> {
    let manifest = Manifest::read(dir)?;
    if manifest.entries().next().is_none() {
        return Err(Error::NoFleet { dir: dir.to_owned() });
    }
    Ok(format!("{}\n{}", by_suite(&manifest), by_package(&manifest)))
}

fn by_suite(manifest: &Manifest) -> String {
    let mut text =
        "| suite | architecture | packages | MB | kernels | types | modules | their types | objects \
                    | records |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n"
            .to_owned();
    let mut sums: BTreeMap<(&str, &str), Sum> = BTreeMap::new();
    let mut total = Sum::default();
    for entry in manifest.entries() {
        sums.entry((&entry.architecture, &entry.suite)).or_default().add(entry);
        total.add(entry);
    }
    let rows = sums.iter().map(|((architecture, suite), sum)| (*suite, *architecture, sum));
    for (suite, architecture, sum) in rows.chain([("**total**", "", &total)]) {
        text += &format!(
            "| {suite} | {architecture} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
            sum.packages,
            sum.download.div_ceil(1_000_000),
            sum.kernels,
            grouped(sum.kernel_types),
            grouped(sum.modules),
            grouped(sum.module_types),
            sum.objects,
            grouped(sum.records),
        );
    }
    text
}

fn by_package(manifest: &Manifest) -> String {
    let mut text = "| package with objects | versions | architectures | objects | records |\n\
                    |---|--:|---|--:|--:|\n"
        .to_owned();
    let mut rows: BTreeMap<&str, (BTreeSet<&str>, BTreeSet<&str>, Sum)> = BTreeMap::new();
    for entry in manifest.entries().filter(|it| it.parts.contains(&Part::Objects)) {
        let (versions, architectures, sum) = rows.entry(&entry.package).or_default();
        versions.insert(&entry.version);
        architectures.insert(&entry.architecture);
        sum.add(entry);
    }
    for (package, (versions, architectures, sum)) in rows {
        let architectures = architectures.into_iter().collect::<Vec<_>>().join(", ");
        let (objects, records) = (sum.objects, grouped(sum.records));
        text += &format!("| {package} | {} | {architectures} | {objects} | {records} |\n", versions.len());
    }
    text
}

/// A number with a comma after every third digit from the end.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]
mod tests {
    use super::super::manifest::tests::entry;
    use super::*;

    #[test]
    fn suites_and_packages_add_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::read(dir.path()).unwrap();
        manifest.append(entry("a", "kernels/a.btf")).unwrap();
        let mut objects = entry("b", "objects/b.o");
        objects.parts = vec![Part::Objects];
        objects.files[0].part = Part::Objects;
        objects.files[0].records = 1234;
        manifest.append(objects).unwrap();
        let text = table(dir.path()).unwrap();
        assert!(text.contains("| sid | amd64 | 2 | 1 | 1 | 1 | 0 | 0 | 1 | 1,234 |\n"), "{text}");
        assert!(text.contains("| **total** |  | 2 |"), "{text}");
        assert!(text.ends_with("| b | 1 | amd64 | 1 | 1,234 |\n"), "{text}");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
