//! What a file is to a kernel, by where distributions put it.

use crate::dialect::Release;

/// What a file is to a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role<'a> {
    /// The kernel itself, packed or with debugging information.
    Image,
    /// One of its modules, by its name.
    Module(&'a str),
    /// Its configuration.
    Config,
    /// Its symbols.
    Symbols,
}

/// A file of a kernel that is laid out as distributions do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed<'a> {
    /// The directory that everything is installed below, with a `/` at its end if there is any.
    pub root: &'a str,
    /// The kernel's release.
    pub release: &'a str,
    /// What the file is.
    pub role: Role<'a>,
}

/// What file `path` is to a kernel: `boot/vmlinuz-6.1.0-47-amd64`, `usr/lib/modules/6.1.0-47-amd64/kernel/fs/ext4/ext4.ko.xz`,
/// what is below `usr/lib/debug` and so on. `None` if its place says nothing.
pub fn installed(path: &str) -> Option<Installed<'_>> {
    let (dir, file) = path.rsplit_once('/').unwrap_or(("", path));
    if let Some((before, rest)) = split_at_dir(path, "lib/modules/") {
        let (release, below) = rest.split_once('/')?;
        let role = match below.strip_suffix(".debug").unwrap_or(below) {
            "vmlinuz" | "vmlinux" | "Image" | "bzImage" => Role::Image,
            "config" => Role::Config,
            "System.map" => Role::Symbols,
            // The tree that it was built in, mostly a link.
            _ if below.starts_with("build/") || below.starts_with("source/") => return None,
            _ => Role::Module(module_name(file)?),
        };
        return is_release(release).then_some(Installed { root: root_of(before), release, role });
    }
    let in_boot = dir == "boot" || dir.ends_with("/boot");
    for (start, role) in [
        ("vmlinuz-", Role::Image),
        ("vmlinux-", Role::Image),
        ("config-", Role::Config),
        ("System.map-", Role::Symbols),
    ] {
        let Some(release) = file.strip_prefix(start) else { continue };
        let release = release.strip_suffix(".debug").unwrap_or(release);
        let root = if in_boot { dir.strip_suffix("boot") } else { path.strip_suffix(file) };
        return is_release(release).then_some(Installed { root: root_of(root?), release, role });
    }
    None
}

/// Splits a path at the directories `dir`, which begin at a part of it.
fn split_at_dir<'a>(path: &'a str, dir: &str) -> Option<(&'a str, &'a str)> {
    let at = path.match_indices(dir).map(|it| it.0);
    let mut at = at.filter(|&at| at == 0 || path.as_bytes().get(at - 1) == Some(&b'/'));
    let at = at.next()?;
    Some((path.get(..at)?, path.get(at + dir.len()..)?))
}

/// `/usr` holds what `/` does, and what is below `/usr/lib/debug` belongs to it too.
fn root_of(before: &str) -> &str {
    let root = before.strip_suffix("usr/lib/debug/usr/").or_else(|| before.strip_suffix("usr/lib/debug/"));
    root.or_else(|| before.strip_suffix("usr/")).unwrap_or(before)
}

/// `vmlinux-5.4.0.btf` is BTF by itself, wherever it is from.
fn is_release(text: &str) -> bool {
    Release::parse(text).is_some() && !text.contains(".btf")
}

/// The name of a module's file without its ending, compressed or not.
fn module_name(file: &str) -> Option<&str> {
    let (name, ending) = file.split_once(".ko")?;
    let is_ending = matches!(ending, "" | ".xz" | ".zst" | ".gz" | ".debug");
    (is_ending && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that files are known where distributions put them, and others are not.
    #[test]
    fn places_say_what_a_file_is() {
        let image = |root, release| Some(Installed { root, release, role: Role::Image });
        for path in ["boot/vmlinuz-6.1.0-47-amd64", "usr/lib/debug/boot/vmlinux-6.1.0-47-amd64"] {
            assert_eq!(installed(path), image("", "6.1.0-47-amd64"), "{path}");
        }
        for path in [
            "/mnt/lib/modules/7.3.4+deb13-amd64/vmlinuz",
            "/mnt/usr/lib/modules/7.3.4+deb13-amd64/vmlinuz",
            "/mnt/usr/lib/debug/lib/modules/7.3.4+deb13-amd64/vmlinux",
            "/mnt/usr/lib/debug/usr/lib/modules/7.3.4+deb13-amd64/vmlinux.debug",
            "/mnt/boot/vmlinux-7.3.4+deb13-amd64",
        ] {
            assert_eq!(installed(path), image("/mnt/", "7.3.4+deb13-amd64"), "{path}");
        }
        let role = |path| installed(path).map(|it| (it.release, it.role));
        assert_eq!(role("boot/config-6.1"), Some(("6.1", Role::Config)));
        assert_eq!(role("lib/modules/6.1/System.map"), Some(("6.1", Role::Symbols)));
        for ending in ["", ".xz", ".zst", ".gz"] {
            let path = format!("lib/modules/6.1.0/kernel/fs/ext4/ext4.ko{ending}");
            let found = installed(&path).map(|it| (it.release, it.role));
            assert_eq!(found, Some(("6.1.0", Role::Module("ext4"))));
        }
        for path in [
            "boot/vmlinuz",
            "boot/vmlinuz-",
            "vmlinux-5.4.0.btf",
            "vmlinux-5.4.0-91.btf.tar.xz",
            "usr/share/vmlinuz.txt",
            "lib/modules/6.1/modules.dep",
            "lib/modules/6.1/a.ko.sig",
            "lib/modules/6.1/build/vmlinux",
            "glib/modules/6.1/vmlinuz",
            "a.ko",
        ] {
            assert_eq!(installed(path), None, "{path}");
        }
    }
}
