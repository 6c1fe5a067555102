//! What was typed for objects and kernels, to files.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

pub(crate) use btfleet_engine::embed::KernelInput;
use btfleet_engine::ingest::{
    InputError, Installed, KernelSource, Looks, ObjectInput, OverLimit, Role, installed, release_in,
};
use btfleet_engine::pack::looks_like_pack;

use crate::output::Failure;
use crate::{intake, oci};

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
pub(crate) fn apart(inputs: Vec<KernelInput>) -> (Vec<KernelInput>, Vec<PathBuf>) {
    let (mut sources, mut packs) = (Vec::new(), Vec::new());
    for input in inputs {
        match input {
            KernelInput::Pack(path, _) => packs.push(path),
            input => sources.push(input),
        }
    }
    (sources, packs)
}

/// Expands what was typed for objects.
pub(crate) fn objects(args: &[OsString]) -> Result<Found<ObjectInput>, Failure> {
    let mut found = Found::default();
    for path in expand_lists_and_globs(args)? {
        if !path.is_dir() {
            found.inputs.push(ObjectInput::named(path));
        } else if oci::is_layout(&path) {
            oci::images(&path, false, &mut found);
        } else {
            objects_in(&path, &mut found);
        }
    }
    Ok(found)
}

/// A file that is a BPF object or has some inside; nothing if it is something else.
pub(crate) fn one_object(arg: &OsStr) -> Vec<ObjectInput> {
    let path = PathBuf::from(arg);
    let is_object = path.is_file() && matches!(Looks::of_file(&path), Ok(Looks::Object));
    if is_object { vec![ObjectInput::named(path)] } else { Vec::new() }
}

/// A file, or all files below a directory that is no container image.
pub(crate) fn files_of(path: &Path) -> (Vec<PathBuf>, Vec<InputError>) {
    let mut errors = Vec::new();
    let is_dir = path.is_dir() && !oci::is_layout(path);
    let files = if is_dir { walk(path, &mut errors) } else { vec![path.to_owned()] };
    (files, errors)
}

/// Whether a path is a container image.
pub(crate) fn is_image(path: &Path) -> bool {
    oci::is_layout(path)
}

/// The images of a layout, as inputs in which there may be nothing.
pub(crate) fn image_inputs(path: &Path) -> Vec<ObjectInput> {
    let mut found = Found::default();
    oci::images(path, true, &mut found);
    found.inputs
}

/// Files that may be kernels, packs of them or archives with some.
pub(crate) fn kernel_inputs(paths: Vec<PathBuf>) -> Vec<KernelInput> {
    let kernels = paths.into_iter().map(alone);
    kernels
        .map(|it| match it {
            KernelInput::Archives { paths, .. } => KernelInput::Archives { paths, walked: true },
            it => it,
        })
        .collect()
}

/// A pack that an argument is, or names a kernel of, with what follows the colon.
pub(crate) fn in_pack(arg: &OsStr) -> Option<(PathBuf, Option<String>)> {
    let path = PathBuf::from(arg);
    if path.exists() {
        let is_pack = path.is_file() && matches!(Looks::of_file(&path), Ok(Looks::Pack));
        return is_pack.then_some((path, None));
    }
    split_name(&path).map(|(pack, name)| (pack, Some(name)))
}

/// Whether an argument names modules of a kernel.
pub(crate) fn names_module(arg: &OsStr) -> bool {
    let path = Path::new(arg);
    !path.exists() && split_modules(path).is_some()
}

fn objects_in(dir: &Path, found: &mut Found<ObjectInput>) {
    let files = walk(dir, &mut found.errors);
    // What is below the directory of an image is the image's.
    let is_marker = |it: &&PathBuf| it.file_name() == Some(OsStr::new(oci::MARKER));
    let of_marker = |it: &PathBuf| it.parent().filter(|it| oci::is_layout(it)).map(Path::to_owned);
    let layouts: BTreeSet<PathBuf> = files.iter().filter(is_marker).filter_map(of_marker).collect();
    let mut seen = BTreeSet::new();
    for file in files {
        if let Some(layout) = file.ancestors().find_map(|it| layouts.get(it)) {
            if seen.insert(layout) {
                oci::images(layout, true, found);
            }
        } else if has_suffix(&file, &[".o"]) || may_have_objects(&file) {
            found.inputs.push(ObjectInput::File { path: file, walked: true });
        } else {
            found.skipped += 1;
        }
    }
}

/// Whether a file that was found may have objects. One that cannot be read is taken for one, so that it is reported.
fn may_have_objects(path: &Path) -> bool {
    // Of what may be a kernel, an executable or the like has some.
    !matches!(Looks::of_file(path), Ok(Looks::Pack | Looks::Other))
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
            let source = KernelSource { modules, ..KernelSource::alone(name, kernel) };
            found.inputs.push(KernelInput::Files(source));
        } else {
            // It is not there: reading it says so, in its place.
            found.inputs.push(alone(path));
        }
    }
    found.inputs = joined(found.inputs);
    Ok(found)
}

/// A file that is a kernel, a pack of kernels, or an archive with kernels in it.
fn alone(path: PathBuf) -> KernelInput {
    // What cannot be read is reported in its place.
    match path.is_file().then(|| Looks::of_file(&path)) {
        Some(Ok(Looks::Pack)) => KernelInput::Pack(path, None),
        Some(Ok(Looks::Archive(_))) => KernelInput::Archives { paths: vec![path], walked: false },
        _ => KernelInput::Files(KernelSource::alone(path.to_string_lossy().into_owned(), path)),
    }
}

/// Joins packages of the same kernel, in the place of the first: its modules may be in packages of their own.
fn joined(inputs: Vec<KernelInput>) -> Vec<KernelInput> {
    let mut all: Vec<KernelInput> = Vec::with_capacity(inputs.len());
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for input in inputs {
        if let KernelInput::Archives { paths, walked: false } = &input {
            let name = paths.first().and_then(|it| it.file_name()).unwrap_or_default().to_string_lossy();
            let release = release_of_package(&name).to_owned();
            if let Some(KernelInput::Archives { paths: first, .. }) =
                places.get(&release).and_then(|it| all.get_mut(*it))
            {
                first.extend(paths.iter().cloned());
                continue;
            }
            if !release.is_empty() {
                places.insert(release, all.len());
            }
        }
        all.push(input);
    }
    all
}

/// The kernel's release in the name of a package: `linux-modules-5.15.0-100-generic_5.15.0-100.110_amd64.deb`,
/// `kernel-core-5.14.0-427.el9.x86_64.rpm`. Empty if there is none.
fn release_of_package(name: &str) -> &str {
    let is_kernel = name.starts_with("linux-") || name.starts_with("kernel");
    let package = name.split('_').next().unwrap_or(name);
    let stem = [".rpm", "-dbg", "-dbgsym"].iter().find_map(|it| package.strip_suffix(it)).unwrap_or(package);
    if is_kernel { release_in(stem) } else { "" }
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

/// A directory with a file `vmlinux` is one kernel with its modules; any other is searched for kernels: files of BTF and
/// packs, kernels and modules where distributions install them, packages.
fn kernels_in(dir: &Path, found: &mut Found<KernelInput>) {
    if dir.join("vmlinux").is_file() && installed(&absolute(dir, &dir.join("vmlinux"))).is_none() {
        let name = dir.to_string_lossy().into_owned();
        let kernel = kernel_directory(dir, name, &mut found.errors);
        found.inputs.push(KernelInput::Files(kernel));
        return;
    }
    let mut in_kernel_directory = BTreeSet::new();
    let mut parts: Vec<Part> = Vec::new();
    let mut packages: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in walk(dir, &mut found.errors) {
        let parent = file.parent().unwrap_or(dir).to_owned();
        let place = absolute(dir, &file);
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if let Some(part) = installed(&place) {
            parts.push(Part::new(&file, part));
        } else if parent != dir && parent.join("vmlinux").is_file() {
            if in_kernel_directory.insert(parent.clone()) {
                let name = parent.to_string_lossy().into_owned();
                let kernel = kernel_directory(&parent, name, &mut found.errors);
                found.inputs.push(KernelInput::Files(kernel));
            }
        } else if name.contains(".ko") || name.starts_with("initr") {
            // Modules of no kernel that is here, and what boot loaders load beside it.
            found.skipped += 1;
        } else {
            match Looks::of_file(&file) {
                Ok(Looks::Kernel | Looks::Pack) => found.inputs.push(alone(file)),
                // Packages are read together if they are of the same kernel.
                Ok(Looks::Archive(_)) if !name.ends_with(".a") => match release_of_package(&name) {
                    "" => found.inputs.push(KernelInput::Archives { paths: vec![file], walked: true }),
                    release => packages.entry(release.to_owned()).or_default().push(file),
                },
                // It is reported in its place.
                Err(_) => found.inputs.push(alone(file)),
                Ok(_) if has_suffix(&file, &[".btf", ".btf.zst"]) => found.inputs.push(alone(file)),
                Ok(_) => found.skipped += 1,
            }
        }
    }
    found.inputs.extend(packages.into_values().map(|paths| KernelInput::Archives { paths, walked: true }));
    found.inputs.append(&mut installed_kernels(parts, &mut found.errors));
}

/// A file of a kernel that is laid out as distributions do it.
struct Part {
    file: PathBuf,
    root: String,
    release: String,
    is_image: bool,
    module: Option<String>,
}

impl Part {
    fn new(file: &Path, part: Installed<'_>) -> Self {
        let module = match part.role {
            Role::Module(name) => Some(name.to_owned()),
            _ => None,
        };
        let (root, release) = (part.root.to_owned(), part.release.to_owned());
        Self { file: file.to_owned(), root, release, is_image: part.role == Role::Image, module }
    }
}

/// The kernels that parts belong to. The image may be where nobody looked: modules are in another directory than it.
fn installed_kernels(mut parts: Vec<Part>, errors: &mut Vec<InputError>) -> Vec<KernelInput> {
    let kernel = |it: &Part| (it.root.clone(), it.release.clone());
    parts.retain(|it| it.is_image || it.module.is_some());
    parts.sort_by(|a, b| kernel(a).cmp(&kernel(b)).then_with(|| a.module.cmp(&b.module)));
    let mut kernels = Vec::new();
    for parts in parts.chunk_by(|a, b| kernel(a) == kernel(b)) {
        let Some(Part { root, release, .. }) = parts.first() else { continue };
        let is_packed = |it: &Path| it.file_name().is_some_and(|it| it.as_bytes().starts_with(b"vmlinuz"));
        let mut images: Vec<PathBuf> =
            parts.iter().filter(|it| it.is_image).map(|it| it.file.clone()).collect();
        // One with debugging information takes longer to read.
        images.sort_by_key(|it| !is_packed(it));
        let places =
            ["boot/vmlinuz-{}", "lib/modules/{}/vmlinuz", "usr/lib/modules/{}/vmlinuz", "boot/vmlinux-{}"];
        let places = places.iter().map(|it| PathBuf::from(format!("{root}{}", it.replace("{}", release))));
        let image = images.into_iter().next().or_else(|| places.into_iter().find(|it| it.is_file()));
        let modules = parts.iter().filter(|it| it.module.is_some()).map(|it| it.file.clone()).collect();
        match image {
            Some(vmlinux) => kernels.push(KernelInput::Files(KernelSource {
                modules,
                installed: true,
                ..KernelSource::alone(vmlinux.to_string_lossy().into_owned(), vmlinux)
            })),
            None => errors.push(InputError::missing_btf(
                Path::new(&format!("{root}lib/modules/{release}")),
                "modules without their kernel: there is no vmlinuz for them there, nor in boot",
            )),
        }
    }
    kernels
}

/// The path that `file`, below `dir`, has from the root: `.` may be anywhere.
fn absolute(dir: &Path, file: &Path) -> String {
    let relative = file.strip_prefix(dir).unwrap_or(file);
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    dir.join(relative).to_string_lossy().into_owned()
}

/// The layout of `/sys/kernel/btf`.
fn kernel_directory(dir: &Path, name: String, errors: &mut Vec<InputError>) -> KernelSource {
    let mut modules: Vec<PathBuf> = entries_of(dir, errors)
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && path.file_name() != Some(OsStr::new("vmlinux")))
        .filter(|path| {
            has_suffix(path, &[".btf", ".btf.zst"])
                || Looks::of_file(path).is_ok_and(|it| it == Looks::Kernel)
        })
        .collect();
    modules.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    KernelSource { modules, ..KernelSource::alone(name, dir.join("vmlinux")) }
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
        Some(vmlinux) => Ok(KernelSource::alone("live".into(), vmlinux)),
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
    let max = intake::get().limits.members;
    while let Some(next) = pending.pop() {
        for entry in entries_of(&next, errors) {
            if files.len() as u64 == max {
                errors.push(InputError::over_limit(dir, OverLimit::Members(max)));
                return Vec::new();
            }
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

fn head_of(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(64);
    fs::File::open(path)?.take(64).read_to_end(&mut head)?;
    Ok(head)
}
