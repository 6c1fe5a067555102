//! What was typed for objects and kernels, to files.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

pub(crate) use btfleet_engine::embed::KernelInput;
use btfleet_engine::ingest::{
    InputError, KernelSource, embedded, looks_like_kernel, looks_like_object, read_file,
};
use btfleet_engine::pack::looks_like_pack;

use crate::output::Failure;

/// What an expansion found.
#[derive(Debug)]
pub(crate) struct Found<T> {
    /// The inputs, in the order given; those of a directory by relative path.
    pub(crate) inputs: Vec<T>,
    /// Files met while walking that are no inputs.
    pub(crate) skipped: usize,
    /// Directories that cannot be read.
    pub(crate) errors: Vec<InputError>,
}

impl<T> Default for Found<T> {
    fn default() -> Self {
        Self { inputs: Vec::new(), skipped: 0, errors: Vec::new() }
    }
}

/// Kernels in files of their own, and packs.
pub(crate) fn apart(inputs: Vec<KernelInput>) -> (Vec<KernelSource>, Vec<PathBuf>) {
    let (mut sources, mut packs) = (Vec::new(), Vec::new());
    for input in inputs {
        match input {
            KernelInput::Files(source) => sources.push(source),
            KernelInput::Pack(path, _) => packs.push(path),
        }
    }
    (sources, packs)
}

/// Expands what was typed for objects.
pub(crate) fn objects(args: &[OsString]) -> Result<Found<PathBuf>, Failure> {
    let mut found = Found::default();
    for path in expand_lists_and_globs(args)? {
        if path.is_dir() {
            for file in walk(&path, &mut found.errors) {
                if has_suffix(&file, &[".o"]) || head_is(&file, looks_like_object) || carries_objects(&file) {
                    found.inputs.push(file);
                } else {
                    found.skipped += 1;
                }
            }
        } else {
            found.inputs.push(path);
        }
    }
    Ok(found)
}

/// Expands what was typed for kernels.
pub(crate) fn kernels(args: &[OsString]) -> Result<Found<KernelInput>, Failure> {
    let mut found = Found::default();
    for path in expand_lists_and_globs(args)? {
        if path.is_dir() {
            kernels_in(&path, &mut found);
        } else if path.exists() {
            found.inputs.push(alone(path));
        } else if path.as_os_str() == "live" {
            let live = live(&mut found.errors)?;
            found.inputs.push(KernelInput::Files(live));
        } else if let Some((pack, name)) = split_name(&path) {
            found.inputs.push(KernelInput::Pack(pack, Some(name)));
        } else if let Some((kernel, modules)) = split_modules(&path) {
            let name = path.to_string_lossy().into_owned();
            found.inputs.push(KernelInput::Files(KernelSource { name, vmlinux: kernel, modules }));
        } else {
            // It is not there: reading it says so, in its place.
            found.inputs.push(alone(path));
        }
    }
    Ok(found)
}

/// A file that is a kernel, or a pack of kernels.
fn alone(path: PathBuf) -> KernelInput {
    if path.is_file() && head_of(&path).is_ok_and(|head| looks_like_pack(&head)) {
        return KernelInput::Pack(path, None);
    }
    let name = path.to_string_lossy().into_owned();
    KernelInput::Files(KernelSource { name, vmlinux: path, modules: Vec::new() })
}

/// `PACK:NAME`, one kernel of a pack.
fn split_name(path: &Path) -> Option<(PathBuf, String)> {
    let bytes = path.as_os_str().as_bytes();
    let colons = bytes.iter().enumerate().filter(|(_, byte)| **byte == b':').map(|(at, _)| at);
    // Names of packs may have colons, and so may those of kernels.
    colons.filter_map(|at| bytes.split_at_checked(at)).find_map(|(pack, name)| {
        let pack = PathBuf::from(OsStr::from_bytes(pack));
        let is_pack = pack.is_file() && head_of(&pack).is_ok_and(|head| looks_like_pack(&head));
        let name = String::from_utf8_lossy(name.get(1..)?).into_owned();
        is_pack.then_some((pack, name))
    })
}

/// `KERNEL,MODULE[,MODULE...]`: the separator is a comma since kernel file names contain `+`.
fn split_modules(path: &Path) -> Option<(PathBuf, Vec<PathBuf>)> {
    let mut parts = path
        .as_os_str()
        .as_bytes()
        .split(|&byte| byte == b',')
        .map(|part| PathBuf::from(OsStr::from_bytes(part)));
    let kernel = parts.next()?;
    let modules: Vec<_> = parts.collect();
    (!modules.is_empty()).then_some((kernel, modules))
}

/// A directory with a file `vmlinux` is one kernel with its modules; any other is searched for kernels.
fn kernels_in(dir: &Path, found: &mut Found<KernelInput>) {
    if dir.join("vmlinux").is_file() {
        let name = dir.to_string_lossy().into_owned();
        let kernel = kernel_directory(dir, name, &mut found.errors);
        found.inputs.push(KernelInput::Files(kernel));
        return;
    }
    let mut in_kernel_directory = BTreeSet::new();
    for file in walk(dir, &mut found.errors) {
        let parent = file.parent().unwrap_or(dir).to_owned();
        if parent != dir && parent.join("vmlinux").is_file() {
            if in_kernel_directory.insert(parent.clone()) {
                let name = parent.to_string_lossy().into_owned();
                let kernel = kernel_directory(&parent, name, &mut found.errors);
                found.inputs.push(KernelInput::Files(kernel));
            }
        } else if has_suffix(&file, &[".btf", ".btf.zst"])
            || head_is(&file, |head| looks_like_kernel(head) || looks_like_pack(head))
        {
            found.inputs.push(alone(file));
        } else {
            found.skipped += 1;
        }
    }
}

/// The layout of `/sys/kernel/btf`.
fn kernel_directory(dir: &Path, name: String, errors: &mut Vec<InputError>) -> KernelSource {
    let mut modules: Vec<PathBuf> = entries_of(dir, errors)
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && path.file_name() != Some(OsStr::new("vmlinux")))
        .filter(|path| has_suffix(path, &[".btf", ".btf.zst"]) || head_is(path, looks_like_kernel))
        .collect();
    modules.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    KernelSource { name, vmlinux: dir.join("vmlinux"), modules }
}

/// The running kernel, where libbpf looks for it.
fn live(errors: &mut Vec<InputError>) -> Result<KernelSource, Failure> {
    let sysfs = Path::new("/sys/kernel/btf");
    if sysfs.join("vmlinux").is_file() {
        return Ok(kernel_directory(sysfs, "live".into(), errors));
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").map_err(|error| {
        Failure::System(format!("live: cannot tell the running kernel's release: {error}"))
    })?;
    let release = release.trim();
    let places = [
        format!("/boot/vmlinux-{release}"),
        format!("/lib/modules/{release}/vmlinux-{release}"),
        format!("/lib/modules/{release}/build/vmlinux"),
        format!("/usr/lib/modules/{release}/kernel/vmlinux"),
        format!("/usr/lib/debug/boot/vmlinux-{release}"),
        format!("/usr/lib/debug/boot/vmlinux-{release}.debug"),
        format!("/usr/lib/debug/lib/modules/{release}/vmlinux"),
    ];
    match places.iter().map(PathBuf::from).find(|path| path.is_file()) {
        Some(vmlinux) => Ok(KernelSource { name: "live".into(), vmlinux, modules: Vec::new() }),
        None => Err(Failure::System(format!(
            "live: the running kernel {release} has no /sys/kernel/btf/vmlinux, and no vmlinux file is installed"
        ))),
    }
}

/// `@LIST` and globs to paths. Something that exists under its literal name is taken for that.
fn expand_lists_and_globs(args: &[OsString]) -> Result<Vec<PathBuf>, Failure> {
    let mut paths = Vec::new();
    for arg in args {
        let literal = PathBuf::from(arg);
        if literal.exists() {
            paths.push(literal);
        } else if let Some(list) = arg.as_bytes().strip_prefix(b"@") {
            let list = Path::new(OsStr::from_bytes(list));
            let text = fs::read(list).map_err(|error| unreadable(list, &error))?;
            let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
            let lines: Vec<OsString> =
                lines.filter(|line| !line.is_empty()).map(|line| OsString::from_vec(line.to_vec())).collect();
            if lines.iter().any(|line| line.as_bytes().starts_with(b"@")) {
                return Err(Failure::Usage(format!("{}: a list cannot name another list", list.display())));
            }
            paths.extend(expand_lists_and_globs(&lines)?);
        } else if arg.as_bytes().iter().any(|byte| matches!(byte, b'*' | b'?' | b'[')) {
            let pattern = arg.to_string_lossy();
            let matches = glob::glob(&pattern)
                .map_err(|error| Failure::Usage(format!("{pattern}: bad pattern: {error}")))?;
            let mut matches: Vec<PathBuf> = matches.filter_map(Result::ok).collect();
            if matches.is_empty() {
                return Err(Failure::Usage(format!("{pattern}: no file matches")));
            }
            matches.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
            paths.append(&mut matches);
        } else {
            paths.push(literal);
        }
    }
    Ok(paths)
}

/// All files below a directory, sorted bytewise by relative path. Links to directories are not followed:
/// they may lead in circles.
fn walk(dir: &Path, errors: &mut Vec<InputError>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in entries_of(&next, errors) {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => pending.push(path),
                Ok(kind) if kind.is_file() => files.push(path),
                // A link to one, perhaps.
                _ if path.is_file() => files.push(path),
                _ => {}
            }
        }
    }
    files.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    files
}

fn entries_of(dir: &Path, errors: &mut Vec<InputError>) -> Vec<fs::DirEntry> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.filter_map(Result::ok).collect(),
        Err(error) => {
            errors.push(InputError::unreadable(dir, error.to_string()));
            Vec::new()
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::System(format!("{}: {error}", path.display()))
}

fn has_suffix(path: &Path, suffixes: &[&str]) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    suffixes.iter().any(|suffix| name.ends_with(suffix.as_bytes()))
}

/// Judges a file by its first bytes. One that cannot be read is taken for an input, so that it is reported.
fn head_is(path: &Path, looks_like: impl Fn(&[u8]) -> bool) -> bool {
    head_of(path).map_or(true, |head| looks_like(&head))
}

/// Whether a file is an executable or the like with BPF programs inside.
fn carries_objects(path: &Path) -> bool {
    let is_elf = |head: Vec<u8>| head.starts_with(b"\x7fELF");
    head_of(path).is_ok_and(is_elf) && read_file(path).is_ok_and(|data| !embedded(&data).is_empty())
}

fn head_of(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(64);
    fs::File::open(path)?.take(64).read_to_end(&mut head)?;
    Ok(head)
}
