//! From a package to the files that are kept of it, all in memory.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Seek};
use std::ops::ControlFlow;
use std::path::Path;

use btfleet_engine::ingest::{BtfBytes, Compression, Intake};

use super::carve::elf_section;
use super::list::Part;
use super::manifest::{File, sha256};
use super::{btf, carve, deb};

/// What a compressed file in a package may unpack to, other than a kernel.
const MAX_UNPACKED: u64 = 256 << 20;

/// What may be kept of one package, as a bound on memory. All modules of a kernel have about 100 MB.
const MAX_KEPT: u64 = 2 << 30;

/// A file to be written.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) file: File,
    pub(super) data: Vec<u8>,
}

/// Collects the outputs of one package.
struct Collector<'a> {
    parts: &'a BTreeSet<Part>,
    /// Name of the directory for objects.
    objects: String,
    outputs: Vec<Output>,
    paths: BTreeSet<String>,
    kept: u64,
}

/// Takes `parts` out of a package. `name` is that of the package with version and architecture.
///
/// # Errors
/// In words, if the package is broken, or has nothing of one of the parts.
pub(super) fn extract(
    package: impl BufRead + Seek,
    name: &str,
    parts: &BTreeSet<Part>,
) -> Result<Vec<Output>, String> {
    let mut collector =
        Collector { parts, objects: plain(name), outputs: Vec::new(), paths: BTreeSet::new(), kept: 0 };
    let wants_objects = parts.contains(&Part::Objects);
    let wanted = |path: &str| {
        wants_objects
            || parts.contains(&Part::Kernel) && kernel_release(path).is_some()
            || parts.contains(&Part::Modules) && module_of(path).is_some()
    };
    deb::visit(package, wanted, |path, data| collector.add(path, &data))
        .map_err(|error: io::Error| error.to_string())?;
    if collector.kept > MAX_KEPT {
        return Err("has more BTF than is plausible".to_owned());
    }
    for (part, what) in [
        (Part::Kernel, "no kernel with BTF in it"),
        (Part::Modules, "no module with BTF in it"),
        (Part::Objects, "no BPF object in it"),
    ] {
        if parts.contains(&part) && !collector.outputs.iter().any(|it| it.file.part == part) {
            return Err(what.to_owned());
        }
    }
    Ok(collector.outputs)
}

impl Collector<'_> {
    fn add(&mut self, path: &str, data: &[u8]) -> ControlFlow<()> {
        let has = |part| self.parts.contains(&part);
        if let Some(release) = kernel_release(path).filter(|_| has(Part::Kernel))
            && let Ok(found) = BtfBytes::find(&Intake::default(), data.to_vec(), Path::new(path))
        {
            self.keep_btf(
                Part::Kernel,
                format!("kernels/{}.btf", plain(release)),
                path,
                found.btf().to_vec(),
            );
            if self.parts.len() == 1 {
                return ControlFlow::Break(()); // The modules behind it are most of the package.
            }
        }
        if let Some((release, name)) = module_of(path).filter(|_| self.parts.contains(&Part::Modules)) {
            let dir = format!("modules/{}", plain(release));
            let unpacked = unpacked(data);
            let module = unpacked.as_deref().unwrap_or(data);
            for (section, suffix) in [(".BTF", "btf"), (".BTF.base", "base")] {
                if let Some(btf) = elf_section(module, section) {
                    self.keep_btf(
                        Part::Modules,
                        format!("{dir}/{}.{suffix}", plain(name)),
                        path,
                        btf.to_vec(),
                    );
                }
            }
        }
        if self.parts.contains(&Part::Objects) {
            self.add_objects(path, unpacked(data).as_deref().unwrap_or(data));
        }
        if self.kept > MAX_KEPT { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Keeps BTF that parses; a module's that does not is as good as none.
    fn keep_btf(&mut self, part: Part, path: String, origin: &str, data: Vec<u8>) {
        if let Some(types) = btf::type_count(&data) {
            self.keep(part, path, origin.to_owned(), (types, 0), data);
        }
    }

    fn add_objects(&mut self, path: &str, data: &[u8]) {
        let file = path.rsplit('/').next().unwrap_or(path);
        // `snoop.bpf.o`, `libtuner.so.1.2`; many tools just have their name.
        let stem = [".bpf", ".so"].into_iter().fold(file, |it, end| it.split(end).next().unwrap_or(it));
        let stem = stem.trim_end_matches(".o");
        for range in carve::carve(data) {
            let Some(object) = data.get(range.clone()) else { continue };
            let Some(counts) = carve::counts(object) else { continue };
            let name = match carve::source_name(object) {
                Some(source) if range.len() < data.len() && source != stem => format!("{stem}__{source}"),
                _ => stem.to_owned(),
            };
            let name = plain(&name);
            let is_known = |it: &Output| it.file.part == Part::Objects && it.data == object;
            if self.outputs.iter().any(is_known) {
                continue;
            }
            let objects = &self.objects;
            let paths = (1..).map(|number| match number {
                1 => format!("objects/{objects}/{name}.o"),
                _ => format!("objects/{objects}/{name}-{number}.o"),
            });
            let Some(free) = paths.into_iter().find(|it| !self.paths.contains(it)) else { continue };
            self.keep(Part::Objects, free, format!("{path}@{:#x}", range.start), counts, object.to_vec());
        }
    }

    fn keep(&mut self, part: Part, path: String, origin: String, counts: (usize, usize), data: Vec<u8>) {
        // The first of two with the same name stays, which the manifest could not tell apart.
        if !self.paths.insert(path.clone()) {
            return;
        }
        let size = data.len() as u64;
        self.kept += size;
        let (types, records) = counts;
        let file = File { path, part, size, sha256: sha256(&data), types, records, origin };
        self.outputs.push(Output { file, data });
    }
}

fn unpacked(data: &[u8]) -> Option<Vec<u8>> {
    // lzma has no magic worth the name, and nobody packs files of packages with it.
    let format = Compression::of(data).filter(|&it| it != Compression::Lzma)?;
    format.unpack(data, MAX_UNPACKED).ok()
}

/// The release that a kernel image is for, if `path` is one: `boot/vmlinuz-6.1.0-47-amd64`, or in newer
/// packages `usr/lib/modules/7.3.4+deb13-amd64/vmlinuz`.
fn kernel_release(path: &str) -> Option<&str> {
    let (dir, file) = path.rsplit_once('/')?;
    let rest = file.strip_prefix("vmlinu").and_then(|it| it.strip_prefix(['z', 'x']))?;
    match rest.strip_prefix('-') {
        Some(release) => Some(release),
        None if rest.is_empty() => dir.rsplit_once("lib/modules/").map(|(_, release)| release),
        None => None,
    }
    .filter(|release| !release.is_empty() && !release.contains('/'))
}

/// Release and name of a module, if `path` is one. Like the kernel, which has `-` and `_` as the same.
fn module_of(path: &str) -> Option<(&str, &str)> {
    let (_, rest) = path.split_once("lib/modules/")?;
    let (release, rest) = rest.split_once('/')?;
    let file = rest.rsplit('/').next()?;
    let (name, suffix) = file.split_once(".ko")?;
    matches!(suffix, "" | ".xz" | ".zst" | ".gz")
        .then_some((release, name))
        .filter(|(_, name)| !name.is_empty())
}

/// `name` as the name of a file: no separator, nothing hidden, nothing that a shell would act on.
fn plain(name: &str) -> String {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "._+~-".contains(it);
    let plain: String = name.chars().map(|it| if is_plain(it) { it } else { '_' }).take(200).collect();
    if plain.is_empty() || plain.starts_with('.') { format!("_{plain}") } else { plain }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]
mod tests {
    use std::fs;
    use std::io::Cursor;

    use super::super::btf::tests::blob;
    use super::super::deb::tests::{pack, package};
    use super::*;

    fn paths(outputs: &[Output]) -> Vec<&str> {
        outputs.iter().map(|it| it.file.path.as_str()).collect()
    }

    #[test]
    fn a_kernel_package_gives_its_btf() {
        let image = [b"code".as_slice(), &blob(1500, false)].concat();
        let deb = package(Compression::Xz, &[("boot/config-6.1-x", b""), ("./boot/vmlinuz-6.1-x", &image)]);
        let outputs = extract(Cursor::new(&deb), "linux", &BTreeSet::from([Part::Kernel])).unwrap();
        assert_eq!(paths(&outputs), ["kernels/6.1-x.btf"]);
        assert_eq!(outputs[0].file.types, 1500);
        assert_eq!(outputs[0].data, blob(1500, false));
        let error = extract(Cursor::new(&deb), "linux", &BTreeSet::from([Part::Modules])).unwrap_err();
        assert_eq!(error, "no module with BTF in it");
    }

    #[test]
    fn objects_are_found_alone_embedded_and_compressed_but_each_once() {
        let object =
            fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/objects/exec_snoop.bpf.o")).unwrap();
        let other =
            fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/objects/xdp_count.bpf.o")).unwrap();
        let tool = [b"\x7fELF\x02\x01 a program ".as_slice(), &other, b"more"].concat();
        let deb = package(
            Compression::Zstd,
            &[
                ("usr/lib/bpf/snoop.bpf.o", &object),
                ("usr/lib/bpf/again.bpf.o", &object),
                ("usr/bin/tool", &tool),
                ("usr/lib/bpf/tool.o.gz", &pack(Compression::Gzip, &[object.as_slice(), b"x"].concat())),
            ],
        );
        let outputs = extract(Cursor::new(&deb), "p_1:2_amd64", &BTreeSet::from([Part::Objects])).unwrap();
        assert_eq!(paths(&outputs), ["objects/p_1_2_amd64/snoop.o", "objects/p_1_2_amd64/tool__xdp_count.o"]);
        assert_eq!(outputs[1].file.origin, "usr/bin/tool@0x11");
        assert_eq!(outputs[1].data, other);
    }

    #[test]
    fn paths_of_packages_are_understood() {
        let kernel = |path| kernel_release(path);
        assert_eq!(kernel("boot/vmlinuz-6.1.0-47-amd64"), Some("6.1.0-47-amd64"));
        assert_eq!(kernel("usr/lib/modules/7.3-amd64/vmlinuz"), Some("7.3-amd64"));
        assert_eq!(kernel("boot/vmlinux-6.1-powerpc64le"), Some("6.1-powerpc64le"));
        for path in ["boot/vmlinuz", "usr/share/vmlinuz.txt", "boot/System.map-6", "boot/vmlinuz-"] {
            assert_eq!(kernel(path), None, "{path}");
        }
        let module = |path| module_of(path);
        assert_eq!(module("usr/lib/modules/6.1/kernel/fs/a.ko.xz"), Some(("6.1", "a")));
        assert_eq!(module("lib/modules/6.1/kernel/fs/a.ko"), Some(("6.1", "a")));
        for path in ["lib/modules/6.1/modules.order", "lib/modules/6.1/a.ko.sig", "a.ko"] {
            assert_eq!(module(path), None, "{path}");
        }
    }

    #[test]
    fn names_cannot_leave_their_directory() {
        for (name, expected) in [("..", "_.."), ("a/../b", "a_.._b"), ("", "_"), ("1:2 $x", "1_2__x")] {
            assert_eq!(plain(name), expected);
        }
    }
}
