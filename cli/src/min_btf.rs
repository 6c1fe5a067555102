//! `btfleet min-btf`: as much of each kernel's BTF as some objects need, a tree of files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use btfleet_engine::MODELS;
use btfleet_engine::batch::{Batch, distinct_questions};
use btfleet_engine::format::Endian;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::minimal::{Minimal, minimal};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::args::MinBtfArgs;
use crate::load::{self, Inputs};
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
    models: &'static str,
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
    let inputs = load::parse(&files, &batch);
    let questions =
        [Endian::Little, Endian::Big].map(|endian| distinct_questions(&batch, &inputs.objects, endian));
    let minimals = batch.map(&inputs.kernels, |kernel| {
        let [little, big] = &questions;
        let of_kernel = if kernel.vmlinux.btf.endian() == Endian::Little { little } else { big };
        minimal(kernel, of_kernel)
    });
    let mut tree = Tree { zstd: args.zstd, files: BTreeMap::new() };
    let mut kernels = Vec::new();
    for ((&name, kernel), minimal) in inputs.kernel_names.iter().zip(&inputs.kernels).zip(&minimals) {
        kernels.push(match minimal {
            Ok(minimal) => tree.add(&args.inputs.kernels, name, kernel, minimal)?,
            Err(error) => {
                message(&format!("btfleet: {name}: {error}"));
                KernelEntry {
                    kernel: name,
                    vmlinux: None,
                    modules: Vec::new(),
                    message: Some(error.to_string()),
                }
            }
        });
    }
    let complete = inputs.complete() && minimals.iter().all(Result::is_ok);
    let manifest = Manifest {
        v: 1,
        t: KIND,
        models: MODELS,
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

fn objects<'a>(inputs: &'a Inputs<'_>) -> Vec<ObjectEntry<'a>> {
    let objects = inputs.object_names.iter().zip(&inputs.object_files);
    objects.map(|(path, file)| ObjectEntry { path, sha256: hex(&Sha256::digest(&file.data)) }).collect()
}

/// Files that are to be written, by their paths.
struct Tree {
    zstd: bool,
    files: BTreeMap<String, Vec<u8>>,
}

impl Tree {
    fn add<'a>(
        &mut self,
        args: &[OsString],
        name: &'a str,
        kernel: &'a Kernel<'_>,
        minimal: &Minimal,
    ) -> Result<KernelEntry<'a>, Failure> {
        let place = place(args, name, !kernel.modules.is_empty());
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

/// Where a kernel goes, without an ending: its path below the directory that was given, else its name.
fn place(args: &[OsString], name: &str, has_modules: bool) -> String {
    // A kernel with modules that were given one by one.
    let own = match name.split_once(',') {
        Some((own, _)) if has_modules && !Path::new(name).exists() => own,
        _ => name,
    };
    let below =
        |dir: &OsString| Path::new(own).strip_prefix(dir).ok().filter(|it| it.components().count() > 0);
    let below = args.iter().filter_map(below).min_by_key(|it| it.components().count());
    let place = below.or_else(|| Path::new(own).file_name().map(Path::new)).unwrap_or(Path::new("kernel"));
    let names = place.components().filter(|it| matches!(it, Component::Normal(_)));
    let place = names.collect::<PathBuf>().to_string_lossy().into_owned();
    let place = place.strip_suffix(".zst").unwrap_or(&place);
    place.strip_suffix(".btf").unwrap_or(place).to_owned()
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
