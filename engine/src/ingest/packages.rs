//! Kernels out of packages and archives.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::{CONTROL, is_archive_name};
use super::container::is_elf_without_btf;
use super::package::Package;
use super::role::{Installed, Role, installed};
use super::{BtfBytes, Entry, InputError, Intake, KernelFiles, Member, Opened};
use crate::kallsyms::Kallsyms;
use crate::kconfig::Kconfig;

/// The parts of a kernel that were found.
#[derive(Default)]
struct Parts {
    kernel: Option<KernelFiles>,
    /// Why an image of it is none.
    error: Option<InputError>,
    modules: Vec<(PathBuf, BtfBytes)>,
    config: Option<Vec<u8>>,
    symbols: Option<Vec<u8>>,
}

/// Kernels in archives, which may be packages of parts of the same kernel: its modules, its configuration. In the order of
/// their releases; files of BTF by themselves (BTFHub's archives) by their paths.
///
/// Archives and kernels that cannot be used are errors between them; `lenient` says that none is no error.
pub fn kernels_in(intake: &Intake, paths: &[PathBuf], lenient: bool) -> Vec<Result<KernelFiles, InputError>> {
    let mut found = Collected::default();
    for path in paths {
        match intake.open(path) {
            Ok(Opened::Archive(archive)) => {
                let errors = archive.visit(&is_wanted, &mut |member| found.add(intake, member));
                found.errors.extend(errors);
            }
            Ok(Opened::Whole(_)) => found.errors.push(InputError::unreadable(path, "is no archive".into())),
            Err(error) => found.errors.push(error),
        }
    }
    found.kernels(paths, lenient)
}

/// Whether a member of an archive may be something of a kernel.
fn is_wanted(entry: &Entry<'_>) -> bool {
    let is_of_kernel = || installed(entry.inner).is_some() || is_btf(entry.inner);
    !entry.head.is_empty() && (entry.inner == CONTROL || is_of_kernel())
}

/// Whether a file of this name is BTF by itself.
fn is_btf(path: &str) -> bool {
    let stem = ["", ".zst", ".xz", ".gz"].iter().find_map(|it| path.strip_suffix(it)?.strip_suffix(".btf"));
    stem.is_some() && !is_archive_name(path)
}

#[derive(Default)]
struct Collected {
    installed: BTreeMap<String, Parts>,
    alone: BTreeMap<PathBuf, Result<KernelFiles, InputError>>,
    errors: Vec<InputError>,
    /// What the package says of itself that was begun last, and the start of its members' paths.
    package: Option<(PathBuf, Package)>,
}

impl Collected {
    fn add(&mut self, intake: &Intake, member: Member) -> io::Result<bool> {
        let inner = member.inner.clone();
        if inner == CONTROL {
            self.package = Some((member.archive(), Package::parse(&member.data)));
            return Ok(true);
        }
        let Some(Installed { release, role, .. }) = installed(&inner) else {
            let kernel = kernel_of(intake, member.path.clone(), member.data);
            self.alone.insert(member.path, kernel);
            return Ok(true);
        };
        let parts = self.installed.entry(release.to_owned()).or_default();
        let package = self.package.as_ref().filter(|it| it.0 == member.archive()).map(|it| it.1.clone());
        match role {
            // The first with BTF in it.
            Role::Image if parts.kernel.is_some() => {}
            Role::Image => match kernel_of(intake, member.path, member.data) {
                Ok(mut kernel) => {
                    kernel.set_package(package.unwrap_or_default());
                    parts.kernel = Some(kernel);
                }
                Err(error) => parts.error = Some(error),
            },
            Role::Module(_) => match intake.expanded(member.data, &member.path) {
                // Nothing of it is in the kernel's BTF.
                Ok(data) if is_elf_without_btf(&data) => {}
                expanded => match expanded.and_then(|data| BtfBytes::find(intake, data, &member.path)) {
                    Ok(bytes) => parts.modules.push((member.path, bytes)),
                    Err(error) => self.errors.push(error.of_module()),
                },
            },
            Role::Config => parts.config = Some(member.data),
            Role::Symbols => parts.symbols = Some(member.data),
        }
        Ok(true)
    }

    fn kernels(self, paths: &[PathBuf], lenient: bool) -> Vec<Result<KernelFiles, InputError>> {
        let mut kernels = Vec::new();
        for (release, parts) in self.installed {
            match (parts.kernel, parts.error) {
                (Some(mut kernel), _) => {
                    // As they are sorted where they are files.
                    let mut modules = parts.modules;
                    modules.sort_by(|a, b| a.0.file_name().cmp(&b.0.file_name()));
                    for (path, bytes) in modules {
                        kernel.add_module_btf(&path, bytes);
                    }
                    if let Some(config) = parts.config {
                        kernel.set_kconfig(Arc::new(Kconfig::parse(&config)));
                    }
                    // Some packages have a text there that says where the symbols are.
                    if let Some(symbols) = parts.symbols.filter(|it| it.len() > 4096) {
                        kernel.set_kallsyms(Arc::new(Kallsyms::new(Some(&symbols), None)));
                    }
                    kernels.push(Ok(kernel));
                }
                (None, Some(error)) => kernels.push(Err(error)),
                (None, None) => {
                    let path = parts.modules.first().map(|it| it.0.as_path());
                    let path = path.or(paths.first().map(PathBuf::as_path)).unwrap_or(Path::new(""));
                    let what =
                        format!("has parts of {release}, but not the kernel itself: name that package too");
                    kernels.push(Err(InputError::missing_btf(path, &what)));
                }
            }
        }
        kernels.extend(self.alone.into_values());
        if kernels.is_empty() && self.errors.is_empty() && !lenient {
            let missing =
                |path: &PathBuf| Err(InputError::missing_btf(path, "an archive without a kernel in it"));
            kernels.extend(paths.iter().map(missing));
        }
        kernels.extend(self.errors.into_iter().map(Err));
        kernels
    }
}

/// The kernel in a member.
fn kernel_of(intake: &Intake, path: PathBuf, data: Vec<u8>) -> Result<KernelFiles, InputError> {
    let data = intake.expanded(data, &path)?;
    KernelFiles::of_bytes(intake, &path.to_string_lossy(), &path, data)
}
