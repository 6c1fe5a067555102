//! What the path of a kernel's file says of the kernel.

use std::path::Path;

use super::installed;
use crate::dialect::Release;
use crate::pack::{BtfOrigin, Facts};

const ARCHITECTURES: [&str; 17] = [
    "x86_64",
    "amd64",
    "arm64",
    "aarch64",
    "s390x",
    "riscv64",
    "ppc64le",
    "ppc64el",
    "powerpc64le",
    "ppc64",
    "loongarch64",
    "armhf",
    "armv7l",
    "i386",
    "i686",
    "mips64el",
    "sparc64",
];

const FLAVOURS: [&str; 20] = [
    "cloud",
    "rt",
    "generic",
    "lowlatency",
    "aws",
    "azure",
    "gcp",
    "gke",
    "ibm",
    "oracle",
    "kvm",
    "virtual",
    "raspi",
    "default",
    "debug",
    "uek",
    "16k",
    "64k",
    "lts",
    "edge",
];

/// Directories that trees of external BTF are sorted by (BTFHub).
const DISTRIBUTIONS: [&str; 12] = [
    "ubuntu", "debian", "centos", "fedora", "rhel", "ol", "oracle", "amzn", "sles", "opensuse", "alma",
    "rocky",
];

/// Marks of distributions in releases, with a number behind them.
pub(super) const MARKS: [(&str, &str); 5] =
    [("deb", "debian"), ("el", "el"), ("fc", "fedora"), ("amzn", "amzn"), ("uek", "ol")];

/// Facts from `path`, a file named after its kernel, or `vmlinux` in a directory that is.
///
/// `distribution/version/architecture/release.btf` is the layout of BTFHub, whose BTF is made from debugging
/// information; `vmlinux` in a directory is that of `/sys/kernel/btf`, where kernels show their own.
pub fn facts_of(path: &Path) -> Facts {
    let source = path.to_string_lossy().into_owned();
    let mut parts: Vec<&str> = source.split('/').filter(|it| !it.is_empty()).collect();
    let mut origin = BtfOrigin::Unknown;
    if parts.len() > 1 && parts.last() == Some(&"vmlinux") {
        origin = BtfOrigin::BuiltIn;
        parts.pop();
    }
    let mut stem = parts.pop().unwrap_or_default();
    if let Some(installed) = installed(&source) {
        stem = installed.release;
        origin = BtfOrigin::BuiltIn;
    }
    for ending in [".zst", ".xz", ".btf", ".debug"] {
        stem = stem.strip_suffix(ending).unwrap_or(stem);
    }
    let release = release_in(stem).to_owned();
    let hub = match parts.as_slice() {
        [.., distribution, version, architecture]
            if ARCHITECTURES.contains(architecture) && DISTRIBUTIONS.contains(distribution) =>
        {
            Some((format!("{distribution} {version}"), *architecture))
        }
        _ => None,
    };
    if hub.is_some() {
        origin = BtfOrigin::External;
    }
    let has_word = |word: &&&str| words(stem).any(|it| it == **word) || is_bounded(stem, word);
    let architecture = ARCHITECTURES.iter().find(has_word).copied();
    let flavours: Vec<&str> = words(stem).filter(|it| FLAVOURS.contains(it)).collect();
    Facts {
        distribution: hub.as_ref().map_or_else(|| distribution_of(&release), |it| it.0.clone()),
        architecture: architecture.or(hub.as_ref().map(|it| it.1)).unwrap_or_default().to_owned(),
        flavour: flavours.join("-"),
        origin,
        source,
        release,
    }
}

fn words(stem: &str) -> impl Iterator<Item = &str> {
    stem.split(['-', '.', '+'])
}

/// Whether `word`, which may have separators in it, stands in `text` with none of its neighbours a letter or digit.
fn is_bounded(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|it| it.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|it| it.chars().next());
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

/// The part of a file's name from the first number on that is a kernel's release; empty if there is none.
pub fn release_in(stem: &str) -> &str {
    let starts = stem.char_indices().filter(|&(at, it)| {
        let before = stem.get(..at).and_then(|it| it.chars().next_back());
        it.is_ascii_digit() && !before.is_some_and(|it| it.is_ascii_alphanumeric() || it == '.')
    });
    let mut releases = starts.filter_map(|(at, _)| stem.get(at..)).filter(|it| Release::parse(it).is_some());
    releases.next().unwrap_or_default()
}

/// The digits behind a mark that stands by itself.
pub(super) fn number_after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.match_indices(mark).find_map(|(at, _)| {
        let before = text.get(..at).and_then(|it| it.chars().next_back());
        let rest = text.get(at + mark.len()..)?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let is_mark = digits > 0 && !before.is_some_and(char::is_alphanumeric);
        is_mark.then(|| rest.get(..digits).unwrap_or_default())
    })
}

/// Distributions put their mark into the release.
fn distribution_of(release: &str) -> String {
    for (mark, name) in MARKS {
        if let Some(number) = number_after(release, mark) {
            return format!("{name} {number}");
        }
    }
    // Only Debian's kernels end in Debian's name of the architecture.
    let is_debian = ["-amd64", "-arm64", "-ppc64el", "-armhf"].iter().any(|it| release.ends_with(it));
    if is_debian { "debian".to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that names as they are met say what they say, and others say nothing.
    #[test]
    fn paths_say_what_kernel_it_is() {
        for (path, want) in [
            ("6.1.0-50-cloud-amd64.btf", ["6.1.0-50-cloud-amd64", "debian", "amd64", "cloud"]),
            ("x/6.12.117+deb13-cloud-amd64", ["6.12.117+deb13-cloud-amd64", "debian 13", "amd64", "cloud"]),
            (
                "6.12.107+deb13-generic-s390x.btf.zst",
                ["6.12.107+deb13-generic-s390x", "debian 13", "s390x", "generic"],
            ),
            ("6.1.0-0.deb11.52-amd64.btf", ["6.1.0-0.deb11.52-amd64", "debian 11", "amd64", ""]),
            (
                "hub/ubuntu/20.04/x86_64/5.4.0-1009-gcp.btf",
                ["5.4.0-1009-gcp", "ubuntu 20.04", "x86_64", "gcp"],
            ),
            ("vmlinux-5.14.0-162.6.1.el9_1.x86_64", ["5.14.0-162.6.1.el9_1.x86_64", "el 9", "x86_64", ""]),
            ("6.12.117+deb13-arm64-16k/vmlinux", ["6.12.117+deb13-arm64-16k", "debian 13", "arm64", "16k"]),
            ("/sys/kernel/btf/vmlinux", ["", "", "", ""]),
            (
                "x.rpm!/lib/modules/5.14.0-427.el9.x86_64/vmlinuz",
                ["5.14.0-427.el9.x86_64", "el 9", "x86_64", ""],
            ),
            ("", ["", "", "", ""]),
        ] {
            let facts = facts_of(Path::new(path));
            let found = [&facts.release, &facts.distribution, &facts.architecture, &facts.flavour];
            assert_eq!(found.map(String::as_str), want, "{path}");
            let origin = match path {
                _ if path.starts_with("hub") => BtfOrigin::External,
                _ if path.contains("vmlinu") => BtfOrigin::BuiltIn,
                _ => BtfOrigin::Unknown,
            };
            assert_eq!(facts.origin, origin, "{path}");
        }
    }
}
