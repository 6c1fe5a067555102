//! The real kernels and objects that others are derived from: found, put in order, read.

use std::fs;
use std::path::{Path, PathBuf};

use btfleet_engine::ingest::{BtfBytes, Intake, looks_like_kernel};
use btfleet_engine::object::Object;

use super::Error;

/// A real kernel.
#[derive(Clone, Debug)]
pub(super) struct KernelInput {
    pub(super) path: PathBuf,
    pub(super) release: Release,
}

/// A kernel's release, out of the name of its file: `6.12.90+deb13-cloud-amd64`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Release {
    /// What stands behind the version: `cloud-amd64`.
    pub(super) flavour: String,
    /// The numbers of the version: 6, 12, 90; of an older Debian also the number of the ABI.
    pub(super) numbers: Vec<u32>,
    /// What stands between both: `+deb13`.
    pub(super) build: String,
}

/// How far two releases are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Step {
    /// Two releases of one stable series.
    Patch,
    /// Up to four series on.
    Minor,
    /// From one long-term series to another.
    LongTerm,
}

impl Step {
    pub(super) const ALL: [Self; 3] = [Self::Patch, Self::Minor, Self::LongTerm];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Patch => "patch",
            Self::Minor => "minor",
            Self::LongTerm => "long-term",
        }
    }
}

impl Release {
    /// Reads a release. What has no version is a flavour.
    pub(super) fn parse(text: &str) -> Self {
        let is_version = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
        let end = text.bytes().take_while(|it| is_version(it)).count();
        let (version, rest) = text.split_at_checked(end).unwrap_or((text, ""));
        let mut numbers: Vec<u32> = version.split('.').filter_map(|it| it.parse().ok()).collect();
        let (mut build, mut flavour) = match rest.split_once('-') {
            Some((build, flavour)) => (build.to_owned(), flavour.to_owned()),
            None => (String::new(), rest.trim_start_matches(['+', '-', '.']).to_owned()),
        };
        // `6.1.0-47-cloud-amd64`, `6.1.0-0.deb11.52-amd64`: the first part is the ABI.
        if let Some((abi, tail)) = flavour.split_once('-')
            && abi.starts_with(|it: char| it.is_ascii_digit())
            && abi.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'.')
        {
            numbers.extend(abi.rsplit('.').next().and_then(|it| it.parse::<u32>().ok()));
            build.push('-');
            flavour = tail.to_owned();
        }
        Self { flavour, numbers, build }
    }

    /// Number of the series, counted so that neighbours differ by one.
    fn series(&self) -> u32 {
        let number = |index: usize| self.numbers.get(index).copied().unwrap_or(0);
        number(0).saturating_mul(20).saturating_add(number(1))
    }

    /// How far the later release `next` is away.
    pub(super) fn step_to(&self, next: &Self) -> Step {
        match next.series().abs_diff(self.series()) {
            0 => Step::Patch,
            1..=4 => Step::Minor,
            _ => Step::LongTerm,
        }
    }

    /// The release a step further.
    pub(super) fn after(&self, step: Step) -> Self {
        let mut next = self.clone();
        let minors = match step {
            Step::Patch => {
                match next.numbers.get_mut(2..).and_then(<[u32]>::last_mut) {
                    Some(last) => *last += 1,
                    None => next.numbers.push(1),
                }
                return next;
            }
            Step::Minor => 1,
            Step::LongTerm => 8,
        };
        let series = self.series() + minors;
        next.numbers = vec![series / 20, series % 20, 1];
        next
    }

    /// The version as text.
    pub(super) fn version(&self) -> String {
        let (abi, plain) = match self.numbers.split_at_checked(3) {
            Some((plain, [abi, ..])) if self.build.ends_with('-') => (format!("-{abi}"), plain),
            _ => (String::new(), self.numbers.as_slice()),
        };
        let plain: Vec<String> = plain.iter().map(u32::to_string).collect();
        plain.join(".") + &abi
    }
}

/// Kernels under `dir`, by flavour and then by release. Files that are no BTF are passed over.
pub(super) fn kernels(dir: &Path) -> Result<Vec<KernelInput>, Error> {
    let mut kernels = Vec::new();
    for path in files_of(dir, "kernels")? {
        let name = path.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
        let Some(release) = name.strip_suffix(".zst").unwrap_or(&name).strip_suffix(".btf") else { continue };
        kernels.push(KernelInput { release: Release::parse(release), path });
    }
    kernels.sort_by(|one, other| (&one.release, &one.path).cmp(&(&other.release, &other.path)));
    if kernels.is_empty() {
        return Err(Error::NoInput { dir: dir.to_owned(), what: "kernels (*.btf, *.btf.zst)" });
    }
    Ok(kernels)
}

/// The BTF of a kernel.
pub(super) fn read_kernel(input: &KernelInput) -> Result<Vec<u8>, Error> {
    let unusable = |what: String| Error::Unusable { path: input.path.clone(), what };
    let data = Intake::default().read(&input.path).map_err(|error| unusable(error.to_string()))?;
    if !looks_like_kernel(&data) {
        return Err(unusable("is no BTF".to_owned()));
    }
    let btf =
        BtfBytes::find(&Intake::default(), data, &input.path).map_err(|error| unusable(error.to_string()))?;
    Ok(btf.btf().to_vec())
}

/// A real object, read.
#[derive(Clone, Debug)]
pub(super) struct ObjectInput {
    /// Relative to the directory that was given.
    pub(super) name: String,
    pub(super) data: Vec<u8>,
}

/// Objects under `dir` that have CO-RE records, in the order of their paths; of equal ones the first.
pub(super) fn objects(dir: &Path) -> Result<Vec<ObjectInput>, Error> {
    let mut objects: Vec<ObjectInput> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for path in files_of(dir, "objects")? {
        if path.extension().is_none_or(|it| it != "o") {
            continue;
        }
        let data = fs::read(&path).map_err(|error| Error::Read { path: path.clone(), error })?;
        let has_records = Object::parse(&data).is_ok_and(|it| !it.relocs().is_empty());
        if has_records && seen.insert(super::sha256(&data)) {
            let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
            objects.push(ObjectInput { name, data });
        }
    }
    if objects.is_empty() {
        return Err(Error::NoInput { dir: dir.to_owned(), what: "BPF objects with CO-RE records (*.o)" });
    }
    Ok(objects)
}

/// Files under `dir`, or under its folder `part` if it is a fetched fleet, sorted by path.
fn files_of(dir: &Path, part: &str) -> Result<Vec<PathBuf>, Error> {
    let top = dir.join(part);
    let mut left = vec![if top.is_dir() { top } else { dir.to_owned() }];
    let mut files = Vec::new();
    while let Some(path) = left.pop() {
        let read = |error| Error::Read { path: path.clone(), error };
        for entry in fs::read_dir(&path).map_err(read)? {
            let entry = entry.map_err(read)?;
            let is_dir = entry.file_type().map_err(read)?.is_dir();
            if is_dir { left.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_and_continued() {
        let check = |text: &str, numbers: &[u32], flavour: &str, patch: &str, minor: &str| {
            let release = Release::parse(text);
            assert_eq!((release.numbers.as_slice(), release.flavour.as_str()), (numbers, flavour), "{text}");
            assert_eq!(release.after(Step::Patch).version(), patch, "{text}");
            assert_eq!(release.after(Step::Minor).version(), minor, "{text}");
        };
        check("6.12.90+deb13-cloud-amd64", &[6, 12, 90], "cloud-amd64", "6.12.91", "6.13.1");
        check("6.1.0-47-cloud-amd64", &[6, 1, 0, 47], "cloud-amd64", "6.1.0-48", "6.2.1");
        check("6.1.0-0.deb11.52-amd64", &[6, 1, 0, 52], "amd64", "6.1.0-53", "6.2.1");
        check("7.3-s390x", &[7, 3], "s390x", "7.3.1", "7.4.1");
        check("6.19.14+deb13-rt-arm64", &[6, 19, 14], "rt-arm64", "6.19.15", "7.0.1");
        let step = |a: &str, b: &str| Release::parse(a).step_to(&Release::parse(b));
        assert_eq!(step("6.12.90-x", "6.12.95-x"), Step::Patch);
        assert_eq!(step("6.19.1-x", "7.0.3-x"), Step::Minor);
        assert_eq!(step("5.10.0-30-x", "6.1.0-47-x"), Step::LongTerm);
    }
}
