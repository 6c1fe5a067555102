//! `btfleet min-btf`: as much of each kernel's BTF as some objects need, a tree of files.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use btfleet_engine::batch::{AskedOfRoot, Batch, Questions};
use btfleet_engine::depend::{Need, needs};
use btfleet_engine::dialect::{Loader, Rules};
use btfleet_engine::embed::{Files, KernelInput};
use btfleet_engine::format::Endian;
use btfleet_engine::ingest::InputError;
use btfleet_engine::kernel::Kernel;
use btfleet_engine::minimal::{Minimal, minimals};
use btfleet_engine::object::Object;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::args::MinBtfArgs;
use crate::load::{self, Inputs};
use crate::loader::loaders;
use crate::manifest::InputEntry;
use crate::output::{BAD, DIM, Exit, Failure, Output, Progress, message, paint, plural};
use crate::rows::hex;
use crate::{intake, outtree};

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

/// What came of one of the kernel inputs.
struct Reduced {
    kernels: Vec<ReducedKernel>,
    defects: Vec<InputError>,
    is_pack: bool,
}

struct ReducedKernel {
    name: String,
    /// Names of its modules.
    modules: Vec<String>,
    /// What is kept of it, or why nothing is.
    minimal: Result<Minimal, String>,
}

pub(crate) fn run(args: &MinBtfArgs) -> Result<Exit, Failure> {
    let batch = Batch::new(args.inputs.jobs).map_err(Failure::System)?;
    let mut found = load::find(&args.inputs)?;
    let sources = std::mem::take(&mut found.kernels);
    let files = found.read(&batch, &[])?;
    let inputs = load::parse(&files, &batch, None)?;
    let asked = Asked { objects: &inputs.distinct, with_symbols: args.with_symbols, known: Mutex::default() };
    // Kernels are not held together: memory that was used by one is there for the next, and they may be many.
    let progress = Progress::of(sources.len(), "inputs");
    let reduced = batch.map(&sources, |input| {
        let reduced = reduced(&batch, input, args, &asked);
        progress.step();
        reduced
    });
    drop(progress);
    let reduced: Vec<Reduced> = reduced.into_iter().collect::<Result<_, _>>()?;
    if args.inputs.filter.is_some() && reduced.iter().all(|it| it.kernels.is_empty() && it.defects.is_empty())
    {
        return Err(Failure::Usage("the condition of --where holds for none of the kernels".into()));
    }
    let defects: Vec<&InputError> = reduced.iter().flat_map(|it| &it.defects).collect();
    defects.iter().for_each(|it| message(&format!("btfleet: {it}")));
    let mut tree = Tree { zstd: args.zstd, files: BTreeMap::new() };
    let mut kernels = Vec::new();
    let places = places(&args.inputs.kernels, &reduced);
    for (kernel, place) in reduced.iter().flat_map(|it| &it.kernels).zip(&places) {
        kernels.push(tree.add(place, kernel)?);
    }
    let names: Vec<&str> = kernels.iter().map(|it| it.kernel).collect();
    let loaders = loaders(args.loader, &names)?;
    let complete = inputs.complete() && defects.is_empty() && kernels.iter().all(|it| it.message.is_none());
    let of_objects = inputs.object_defects.iter().map(|(_, defect)| defect);
    let manifest = Manifest {
        v: 1,
        t: KIND,
        models: loaders.models(),
        complete,
        objects: objects(&batch, &inputs),
        kernels,
        inputs: inputs.defects.iter().chain(defects).chain(of_objects).map(InputEntry::new).collect(),
    };
    // Strings and numbers into memory: there is nothing that could fail.
    let mut json = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    json.push(b'\n');
    outtree::write(&batch, &args.output, &tree.files, &json, files_of_manifest)?;
    summary(args, &manifest)?;
    Ok(if complete { Exit::Fine } else { Exit::NotJudged })
}

/// What some objects ask, by the rules and the byte order of a kernel.
struct Asked<'a> {
    objects: &'a [Object<'a>],
    with_symbols: bool,
    known: Mutex<Vec<(Rules, Endian, &'a Needed<'a>)>>,
}

struct Needed<'a> {
    questions: Vec<AskedOfRoot<'a, 'a>>,
    needs: Vec<Need<'a>>,
}

impl<'a> Asked<'a> {
    /// The first kernel that needs it finds it out; those that want the same wait for it.
    fn by(&self, rules: Rules, endian: Endian) -> &'a Needed<'a> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, needed)) = known.iter().find(|it| (it.0, it.1) == (rules, endian)) {
            return needed;
        }
        // It lasts as long as the process, as the objects do.
        let questions: &'a Questions<'a, 'a> =
            Box::leak(Box::new(Questions::new(&Batch::SEQUENTIAL, self.objects, &rules)));
        let needs = if self.with_symbols { distinct_needs(self.objects, endian) } else { Vec::new() };
        let needed = Box::leak(Box::new(Needed { questions: questions.distinct(endian), needs }));
        known.push((rules, endian, needed));
        needed
    }
}

/// Reads one of the kernel inputs and reduces what is in it.
fn reduced(
    batch: &Batch,
    input: &KernelInput,
    args: &MinBtfArgs,
    asked: &Asked<'_>,
) -> Result<Reduced, Failure> {
    let kernels = std::slice::from_ref(input);
    let files = Files::read(&Batch::SEQUENTIAL, intake::get(), &[], kernels, Vec::new(), || {});
    let mut inputs = files.parse(&Batch::SEQUENTIAL);
    if let Some(filter) = &args.inputs.filter {
        inputs.retain_kernels(|name, facts| filter.holds(name, facts));
    }
    let inputs = inputs;
    let loaders = loaders(args.loader, &inputs.kernel_names)?;
    // Kernels that are asked the same, by the same rules.
    let mut groups: Vec<(Loader, Rules, Endian, Vec<usize>)> = Vec::new();
    for (number, kernel) in inputs.kernels.iter().enumerate() {
        let (loader, btf) = (loaders.of(number), &kernel.vmlinux.btf);
        let (rules, endian) = (Rules::of(loader, btf.pointer_size()), btf.endian());
        match groups.iter_mut().find(|it| (it.0, it.1, it.2) == (loader, rules, endian)) {
            Some(group) => group.3.push(number),
            None => groups.push((loader, rules, endian, vec![number])),
        }
    }
    let mut minimals_of: BTreeMap<usize, Result<Minimal, String>> = BTreeMap::new();
    for (loader, rules, endian, numbers) in groups {
        if let Some(why) = loader.unsupported() {
            minimals_of.extend(numbers.into_iter().map(|it| (it, Err(why.to_owned()))));
            continue;
        }
        let kernels: Vec<&Kernel<'_>> = numbers.iter().filter_map(|it| inputs.kernels.get(*it)).collect();
        let Needed { questions, needs } = asked.by(rules, endian);
        let found = minimals(batch, &kernels, loader, questions, needs);
        let found = found.into_iter().map(|it| it.map_err(|error| error.to_string()));
        minimals_of.extend(numbers.into_iter().zip(found));
    }
    inputs.check_packs()?;
    let kernels = inputs.kernel_names.iter().zip(&inputs.kernels).zip(minimals_of.into_values());
    let kernels = kernels.map(|((name, kernel), minimal)| ReducedKernel {
        name: (*name).to_owned(),
        modules: kernel.modules.iter().map(|it| it.name.clone()).collect(),
        minimal,
    });
    Ok(Reduced {
        kernels: kernels.collect(),
        is_pack: matches!(input, KernelInput::Pack(..)),
        defects: inputs.defects,
    })
}

/// The distinct needs of those of `objects` that are of byte order `endian`.
fn distinct_needs<'a>(objects: &[Object<'a>], endian: Endian) -> Vec<Need<'a>> {
    let mut seen = HashSet::new();
    let of_order = objects.iter().filter(|it| it.endian() == endian);
    of_order.flat_map(needs).map(|it| it.need).filter(|it| seen.insert(it.clone())).collect()
}

fn objects<'a>(batch: &Batch, inputs: &'a Inputs<'_>) -> Vec<ObjectEntry<'a>> {
    let digests = batch.map(&inputs.distinct, |it| hex(&Sha256::digest(it.file())));
    let objects = inputs.objects.iter();
    let digest = |it: usize| digests.get(it).cloned().unwrap_or_default();
    objects.map(|it| ObjectEntry { path: &it.name, sha256: digest(it.distinct) }).collect()
}

/// Files that are to be written, by their paths.
struct Tree {
    zstd: bool,
    files: BTreeMap<String, Vec<u8>>,
}

impl Tree {
    fn add<'a>(&mut self, place: &str, kernel: &'a ReducedKernel) -> Result<KernelEntry<'a>, Failure> {
        let mut entry =
            KernelEntry { kernel: &kernel.name, vmlinux: None, modules: Vec::new(), message: None };
        let minimal = match &kernel.minimal {
            Ok(minimal) => minimal,
            Err(why) => {
                message(&format!("btfleet: {}: {why}", kernel.name));
                entry.message = Some(why.clone());
                return Ok(entry);
            }
        };
        let ending = if self.zstd { ".zst" } else { "" };
        if kernel.modules.is_empty() {
            entry.vmlinux = Some(self.file(format!("{place}.btf{ending}"), &minimal.vmlinux)?);
            return Ok(entry);
        }
        entry.vmlinux = Some(self.file(format!("{place}/vmlinux"), &minimal.vmlinux)?);
        for (number, btf) in &minimal.modules {
            let Some(module) = kernel.modules.get(*number) else { continue };
            let file = self.file(format!("{place}/{module}.btf{ending}"), btf)?;
            entry.modules.push(ModuleEntry { module, file });
        }
        Ok(entry)
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
fn places(args: &[OsString], reduced: &[Reduced]) -> Vec<String> {
    let own = |kernel: &ReducedKernel| match kernel.name.split_once(',') {
        // A kernel with modules that were given one by one.
        Some((own, _)) if !kernel.modules.is_empty() && !Path::new(&kernel.name).exists() => {
            PathBuf::from(own)
        }
        _ => PathBuf::from(&kernel.name),
    };
    let given: Vec<&Path> = args.iter().map(Path::new).collect();
    let of_input = |input: &Reduced| -> Vec<String> {
        let paths: Vec<PathBuf> = input.kernels.iter().map(own).collect();
        let shared = paths.iter().map(|it| it.parent().unwrap_or(it).to_owned()).reduce(|a, b| {
            let common = a.components().zip(b.components()).take_while(|(a, b)| a == b);
            common.map(|it| it.0).collect()
        });
        let shared = shared.unwrap_or_default();
        let dirs = if input.is_pack { vec![shared.as_path()] } else { given.clone() };
        paths.iter().map(|path| place(path, &dirs)).collect()
    };
    reduced.iter().flat_map(of_input).collect()
}

/// A path below the nearest of some directories, without an ending; its name if it is below none.
fn place(path: &Path, dirs: &[&Path]) -> String {
    let below = |dir: &&Path| path.strip_prefix(dir).ok().filter(|it| it.components().count() > 0);
    let below = dirs.iter().filter_map(below).min_by_key(|it| it.components().count());
    let place = below.or_else(|| path.file_name().map(Path::new)).unwrap_or(Path::new("kernel"));
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
