//! What a package says of the kernel in it.

use super::facts::{MARKS, number_after};

/// What a package says of itself, as far as it bears on a kernel in it. Empty where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Package {
    /// As [`crate::pack::Facts`] has it.
    pub(super) distribution: String,
    /// As the package calls it.
    pub(super) architecture: String,
}

/// Who makes packages, by a word of what they call themselves, and what they make. The first that is met counts: those
/// who change another one's packages leave its name in.
const MAKERS: [(&str, &str); 18] = [
    ("ubuntu", "ubuntu"),
    ("proxmox", "proxmox"),
    ("raspberrypi", "raspberrypi"),
    ("kali", "kali"),
    ("debian", "debian"),
    ("fedora", "fedora"),
    ("centos", "centos"),
    ("almalinux", "alma"),
    ("rocky", "rocky"),
    ("oracle", "ol"),
    ("red hat", "rhel"),
    ("amazon", "amzn"),
    ("opensuse", "opensuse"),
    ("suse", "sles"),
    ("openeuler", "openeuler"),
    ("azure", "azurelinux"),
    ("mariner", "mariner"),
    ("photon", "photon"),
];

/// Marks in releases of packages that those of kernels do not have, with a number behind them.
const MORE_MARKS: [&str; 5] = ["bpo", "azl", "cm", "ph", "oe"];

/// Series of kernels that were made for one release of a distribution. Those for earlier ones say so in their version.
const SERIES: [(&str, &str, &str); 10] = [
    ("debian", "4.19.", "10"),
    ("debian", "5.10.", "11"),
    ("debian", "6.1.", "12"),
    ("debian", "6.12.", "13"),
    ("ubuntu", "4.4.", "16.04"),
    ("ubuntu", "4.15.", "18.04"),
    ("ubuntu", "5.4.", "20.04"),
    ("ubuntu", "5.15.", "22.04"),
    ("ubuntu", "6.8.", "24.04"),
    ("ubuntu", "6.17.", "25.10"),
];

impl Package {
    /// Reads a control file: fields and values, a line each.
    pub(super) fn parse(control: &[u8]) -> Self {
        let text = String::from_utf8_lossy(control);
        let field = |name: &str| -> &str {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.unwrap_or_default().trim()
        };
        let makers =
            ["Origin", "Distribution", "Vendor", "Maintainer"].map(|it| field(it).to_ascii_lowercase());
        let maker = MAKERS.iter().find(|(word, _)| makers.iter().any(|it| it.contains(word)));
        let name = maker.map(|it| it.1).unwrap_or_default();
        // An RPM package has it in its release, or in words: `openSUSE Leap 15.6`.
        let number = number_in(field("Release"))
            .or_else(|| number_in(field("Version")))
            .or_else(|| of_series(name, field("Version")))
            .or_else(|| {
                field("Distribution").split(' ').find(|it| it.starts_with(|it: char| it.is_ascii_digit()))
            });
        let distribution = match (name, number) {
            (name @ "", _) | (name, None) => name.to_owned(),
            (name, Some(number)) => format!("{name} {number}"),
        };
        Self { distribution, architecture: field("Architecture").to_owned() }
    }
}

/// The release of a distribution that a version is for: `6.12.43-1~bpo12+1`, `5.15.0-100.110~20.04.1`, `427.el9`.
fn number_in(version: &str) -> Option<&str> {
    let marks = MARKS.iter().map(|it| it.0).chain(MORE_MARKS);
    let marked = marks.filter_map(|mark| number_after(version, mark)).next();
    marked.or_else(|| {
        let year_and_month = version.split('~').skip(1).filter_map(|it| it.get(..5));
        year_and_month
            .filter(|it| it.bytes().enumerate().all(|(at, byte)| (byte == b'.') == (at == 2)))
            .find(|it| it.bytes().filter(u8::is_ascii_digit).count() == 4)
    })
}

/// The release of a distribution that has kernels of a series.
fn of_series(name: &str, version: &str) -> Option<&'static str> {
    SERIES.iter().find(|it| it.0 == name && version.starts_with(it.1)).map(|it| it.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that packages say what they are for, and that those of nobody known say nothing.
    #[test]
    fn packages_say_what_they_are_for() {
        let debian = "Maintainer: Debian Kernel Team <debian-kernel@lists.debian.org>";
        let ubuntu = "Maintainer: Ubuntu Kernel Team <kernel-team@lists.ubuntu.com>";
        for (lines, want) in [
            (vec![debian, "Version: 6.12.43-1~bpo12+1"], "debian 12"),
            (vec![debian, "Version: 6.12.107-1+deb13u1"], "debian 13"),
            (vec![debian, "Version: 6.1.192-2"], "debian 12"),
            (vec![debian, "Version: 7.3.4-1"], "debian"),
            (vec![ubuntu, "Version: 5.15.0-100.110~20.04.1"], "ubuntu 20.04"),
            (vec![ubuntu, "Version: 5.15.0-100.110"], "ubuntu 22.04"),
            (vec![ubuntu, "Version: 6.11.0-8.8~x"], "ubuntu"),
            (vec!["Origin: Proxmox", debian, "Version: 6.8.12-1"], "proxmox"),
            (vec!["Vendor: Red Hat, Inc.", "Version: 5.14.0", "Release: 427.el9"], "rhel 9"),
            (vec!["Vendor: AlmaLinux", "Release: 427.el9_4"], "alma 9"),
            (vec!["Vendor: Fedora Project", "Release: 200.fc41"], "fedora 41"),
            (vec!["Vendor: Amazon Linux", "Release: 1.amzn2023"], "amzn 2023"),
            (vec!["Vendor: openSUSE", "Distribution: openSUSE Leap 15.6", "Release: 1.2"], "opensuse 15.6"),
            (vec!["Vendor: SUSE LLC", "Distribution: SUSE Linux Enterprise 15"], "sles 15"),
            (vec!["Vendor: Microsoft", "Distribution: Azure Linux", "Release: 1.azl3"], "azurelinux 3"),
            (vec!["Maintainer: me <me@localhost>", "Version: 6.1.0-1", "Vendors: Debian"], ""),
            (vec![], ""),
        ] {
            let control = lines.join("\n");
            assert_eq!(Package::parse(control.as_bytes()).distribution, want, "{control}");
        }
        assert_eq!(Package::parse(b"Architecture: arm64\n").architecture, "arm64");
        assert_eq!(Package::parse(b"\xff:\n~~.").distribution, "");
    }
}
