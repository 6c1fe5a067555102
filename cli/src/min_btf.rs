//! `btfleet min-btf`: as much of each kernel's BTF as some objects need, a tree of files.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use btfleet_engine::batch::{Batch, Questions};
use btfleet_engine::depend::{Need, needs};
use btfleet_engine::dialect::{Loader, Rules};
use btfleet_engine::embed::Loaders;
use btfleet_engine::format::Endian;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::minimal::{Minimal, minimal};
use btfleet_engine::object::Object;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::args::MinBtfArgs;
use crate::load::{self, Inputs};
use crate::loader::loaders;
use crate::manifest::InputEntry;
use crate::output::{BAD, DIM, Exit, Failure, Output, message, paint, plural};
use crate::outtree;
use crate::rows::hex;

/// What the manifest says it is.
const KIND: &str = "min-btf-manifest";
/// The default of zstd; what is compressed is some kilobytes.
const ZSTD_LEVEL: i32 = 19;

#[derive(Serialize)]
struct Manifest<'a> {
    v: u32,
    t: &'static str,
    models: &'a str,
    complete: bool,
    objects: Vec<ObjectEntry<'a>>,
    kernels: Vec<KernelEntry<'a>>,
    inputs: Vec<InputEntry<'a>>,
}

#[derive(Serialize)]
struct ObjectEntry<'a> {
    path: &'a str,
    sha256: String,
}

/// One kernel.
#[derive(Serialize)]
struct KernelEntry<'a> {
    kernel: &'a str,
    /// `None` if it has no minimal BTF, and `message` says why.
    vmlinux: Option<FileEntry>,
    modules: Vec<ModuleEntry<'a>>,
    message: Option<String>,
}

#[derive(Serialize)]
struct ModuleEntry<'a> {
    module: &'a str,
    #[serde(flatten)]
    file: FileEntry,
}

#[derive(Serialize)]
struct FileEntry {
    file: String,
    sha256: String,
    /// Of the BTF, uncompressed.
    bytes: usize,
}

pub(crate) fn run(args: &MinBtfArgs) -> Result<Exit, Failure> {
    let batch = Batch::new(args.inputs.jobs).map_err(Failure::System)?;
    let files = load::read(&args.inputs, &batch)?;
    let inputs = load::parse(&files, &batch, args.inputs.filter.as_ref())?;
    let loaders = loaders(args.loader, &inputs.kernel_names)?;
    let minimals = minimals(&batch, &inputs, &loaders, args.with_symbols);
    inputs.check_packs()?;
    let mut tree = Tree { zstd: args.zstd, files: BTreeMap::new() };
    let mut kernels = Vec::new();
    let places = places(&args.inputs.kernels, &inputs);
    let all = inputs.kernel_names.iter().zip(&inputs.kernels).zip(&places);
    for (((&name, kernel), place), minimal) in all.zip(&minimals) {
        kernels.push(match minimal {
            Ok(minimal) => tree.add(place, name, kernel, minimal)?,
            Err(error) => {
                message(&format!("btfleet: {name}: {error}"));
                KernelEntry { kernel: name, vmlinux: None, modules: Vec::new(), message: Some(error.clone()) }
            }
        });
    }
    let complete = inputs.complete() && minimals.iter().all(Result::is_ok);
    let manifest = Manifest {
        v: 1,
        t: KIND,
        models: loaders.models(),
        complete,
        objects: objects(&inputs),
        kernels,
        inputs: inputs
            .defects
            .iter()
            .chain(inputs.object_defects.iter().map(|(_, defect)| defect))
            .map(InputEntry::new)
            .collect(),
    };
    // Strings and numbers into memory: there is nothing that could fail.
    let mut json = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    json.push(b'\n');
    outtree::write(&batch, &args.output, &tree.files, &json, files_of_manifest)?;
    summary(args, &manifest)?;
    Ok(if complete { Exit::Fine } else { Exit::NotJudged })
}

/// What is kept of every kernel, or why it is not.
fn minimals(
    batch: &Batch,
    inputs: &Inputs<'_>,
    loaders: &Loaders,
    with_symbols: bool,
) -> Vec<Result<Minimal, String>> {
    // Kernels that are asked the same, by the same rules.
    let mut groups: Vec<(Loader, Rules, Endian)> = Vec::new();
    let group_of: Vec<usize> = (0..)
        .zip(&inputs.kernels)
        .map(|(number, kernel)| {
            let (loader, btf) = (loaders.of(number), &kernel.vmlinux.btf);
            let group = (loader, Rules::of(loader, btf.pointer_size()), btf.endian());
            groups.iter().position(|it| *it == group).unwrap_or_else(|| {
                groups.push(group);
                groups.len() - 1
            })
        })
        .collect();
    let read: Vec<_> =
        groups.iter().map(|(_, rules, _)| Questions::new(batch, &inputs.distinct, rules)).collect();
    let asked: Vec<_> = groups
        .iter()
        .zip(&read)
        .map(|((loader, _, endian), questions)| {
            let needs =
                if with_symbols { distinct_needs(batch, &inputs.distinct, *endian) } else { Vec::new() };
            (*loader, questions.distinct(batch, *endian), needs)
        })
        .collect();
    let kernels: Vec<_> = inputs.kernels.iter().zip(group_of).collect();
    batch.map(&kernels, |(kernel, group)| {
        let (loader, questions, needs) = asked.get(*group).ok_or("it was not asked anything")?;
        match loader.unsupported() {
            Some(why) => Err(why.to_owned()),
            None => minimal(kernel, *loader, questions, needs).map_err(|error| error.to_string()),
        }
    })
}

/// The distinct needs of those of `objects` that are of byte order `endian`.
fn distinct_needs<'a>(batch: &Batch, objects: &[Object<'a>], endian: Endian) -> Vec<Need<'a>> {
    let of_object = batch.map(objects, |it| if it.endian() == endian { needs(it) } else { Vec::new() });
    let mut seen = HashSet::new();
    let all = of_object.into_iter().flatten().map(|it| it.need);
    all.filter(|it| seen.insert(it.clone())).collect()
}

fn objects<'a>(inputs: &'a Inputs<'_>) -> Vec<ObjectEntry<'a>> {
    let objects = inputs.objects.iter();
    objects.map(|it| ObjectEntry { path: &it.name, sha256: hex(&Sha256::digest(it.data)) }).collect()
}

/// Files that are to be written, by their paths.
struct Tree {
    zstd: bool,
    files: BTreeMap<String, Vec<u8>>,
}

impl Tree {
    fn add<'a>(
        &mut self,
        place: &str,
        name: &'a str,
        kernel: &'a Kernel<'_>,
        minimal: &Minimal,
    ) -> Result<KernelEntry<'a>, Failure> {
        let ending = if self.zstd { ".zst" } else { "" };
        if kernel.modules.is_empty() {
            let vmlinux = Some(self.file(format!("{place}.btf{ending}"), &minimal.vmlinux)?);
            return Ok(KernelEntry { kernel: name, vmlinux, modules: Vec::new(), message: None });
        }
        let vmlinux = Some(self.file(format!("{place}/vmlinux"), &minimal.vmlinux)?);
        let modules = minimal.modules.iter().filter_map(|(number, btf)| {
            let module = kernel.modules.get(*number)?.name.as_str();
            let file = self.file(format!("{place}/{module}.btf{ending}"), btf);
            Some(file.map(|file| ModuleEntry { module, file }))
        });
        let modules = modules.collect::<Result<_, _>>()?;
        Ok(KernelEntry { kernel: name, vmlinux, modules, message: None })
    }

    fn file(&mut self, file: String, btf: &[u8]) -> Result<FileEntry, Failure> {
        let bytes = if self.zstd {
            zstd::bulk::compress(btf, ZSTD_LEVEL)
                .map_err(|error| Failure::System(format!("zstd: {error}")))?
        } else {
            btf.to_owned()
        };
        let sha256 = hex(&Sha256::digest(&bytes));
        if self.files.insert(file.clone(), bytes).is_some() {
            return Err(Failure::Usage(format!(
                "two kernels would both be written to {file}; give the directory that they are in"
            )));
        }
        Ok(FileEntry { file, sha256, bytes: btf.len() })
    }
}

/// Where kernels go, without an ending: each to its path below the directory that was given, else to its name. Those of
/// a pack go to the paths that they were added under, as far as these differ.
fn places(args: &[OsString], inputs: &Inputs<'_>) -> Vec<String> {
    let named = || inputs.kernel_names.iter().zip(&inputs.kernels);
    let own = |name: &str, kernel: &Kernel<'_>| {
        // A kernel with modules that were given one by one.
        match name.split_once(',') {
            Some((own, _)) if !kernel.modules.is_empty() && !Path::new(name).exists() => PathBuf::from(own),
            _ => PathBuf::from(name),
        }
    };
    let pack = |kernel: &Kernel<'_>| kernel.packed.as_ref().map(|it| Arc::as_ptr(&it.source).cast::<()>());
    let mut shared: Vec<(_, PathBuf)> = Vec::new();
    for (name, kernel) in named() {
        let (Some(pack), path) = (pack(kernel), own(name, kernel)) else { continue };
        match shared.iter_mut().find(|it| it.0 == pack) {
            Some((_, shared)) => {
                let common = shared.components().zip(path.components()).take_while(|(a, b)| a == b);
                *shared = common.map(|it| it.0).collect();
            }
            None => shared.push((pack, path.parent().map(Path::to_owned).unwrap_or_default())),
        }
    }
    let place = |(name, kernel): (&&str, &Kernel<'_>)| {
        let path = own(name, kernel);
        let of_pack = pack(kernel).and_then(|pack| shared.iter().find(|it| it.0 == pack)).map(|it| &*it.1);
        let dirs = of_pack.map_or_else(|| args.iter().map(Path::new).collect(), |it| vec![it]);
        let below = |dir: &&Path| path.strip_prefix(dir).ok().filter(|it| it.components().count() > 0);
        let below = dirs.iter().filter_map(below).min_by_key(|it| it.components().count());
        let place = below.or_else(|| path.file_name().map(Path::new)).unwrap_or(Path::new("kernel"));
        let names = place.components().filter(|it| matches!(it, Component::Normal(_)));
        let place = names.collect::<PathBuf>().to_string_lossy().into_owned();
        let place = place.strip_suffix(".zst").unwrap_or(&place);
        place.strip_suffix(".btf").unwrap_or(place).to_owned()
    };
    named().map(place).collect()
}

/// Files that a manifest of ours names; `None` if it is not ours.
fn files_of_manifest(manifest: &Value) -> Option<Vec<String>> {
    if manifest.get("v")? != 1 || manifest.get("t")? != KIND {
        return None;
    }
    let kernels = manifest.get("kernels")?.as_array()?.iter();
    let files = kernels.flat_map(|kernel| {
        let modules = kernel.get("modules").and_then(Value::as_array).into_iter().flatten();
        kernel.get("vmlinux").into_iter().chain(modules)
    });
    Some(files.filter_map(|it| Some(it.get("file")?.as_str()?.to_owned())).collect())
}

fn summary(args: &MinBtfArgs, manifest: &Manifest<'_>) -> Result<(), Failure> {
    let mut out = Output::new();
    let (mut count, mut total) = (0, 0);
    for kernel in &manifest.kernels {
        if let Some(why) = &kernel.message {
            out.line(&format!("{}  {}  {why}", kernel.kernel, paint(BAD, "no file")))?;
        }
        for file in kernel.vmlinux.iter().chain(kernel.modules.iter().map(|it| &it.file)) {
            out.line(&format!("{}  {}", file.file, paint(DIM, &plural(file.bytes, "byte"))))?;
            count += 1;
            total += file.bytes;
        }
    }
    let (objects, kernels) = (manifest.objects.len(), manifest.kernels.len());
    out.line(&format!(
        "{} on {}: {} of BTF in {} in {}",
        plural(objects, "object"),
        plural(kernels, "kernel"),
        plural(total, "byte"),
        plural(count, "file"),
        args.output.display()
    ))?;
    out.finish()
}
