//! `btfleet relocate`: every object relocated for every kernel, a file for each distinct result.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use btfleet_engine::batch::{Batch, Run};
use btfleet_engine::dialect::Loader;
use btfleet_engine::relocate::{Optional, Patch, Planned, plan};
use sha2::{Digest, Sha256};

use crate::args::{Format, ModulesArg, RelocateArgs};
use crate::load::{Files, Inputs};
use crate::manifest::{
    InputEntry, Manifest, ModulesEntry, ObjectEntry, ObstacleEntry, OutputEntry, ProgramEntry,
};
use crate::outdir::{OutDir, output_name};
use crate::output::{BAD, DIM, Exit, Failure, HEAD, Output, WARN, paint, plural, progress};
use crate::resolve::object_defects;
use crate::rows::{EndRow, InputRow, OutputRow, PairRow, hex, push_line};

/// Digits of the hash in a file's name.
const HASH_DIGITS: usize = 12;
/// Bytes of the object's name in a file's name; file systems take 255 for all of it.
const STEM_MAX: usize = 180;

pub(crate) fn run(args: &RelocateArgs) -> Result<Exit, Failure> {
    let batch = Batch::new(args.inputs.jobs).map_err(Failure::System)?;
    let dir = OutDir::open(&args.output, args.force)?;
    let files = Files::read(&args.inputs, &batch)?;
    let inputs = files.parse(&batch);
    let loaders = vec![Loader::Libbpf; inputs.kernels.len()];
    let run = Run::new(&batch, &inputs.objects, &inputs.kernels, &loaders, args.inputs.modules.into());
    let mut results = Results {
        inputs: &inputs,
        batch: &batch,
        dir,
        manifest: manifest(args, &inputs),
        names: BTreeMap::new(),
        hashes: HashMap::new(),
    };
    let optional = if args.respect_autoload { Optional::Leave } else { Optional::Relocate };
    let bar = progress(inputs.objects.len());
    let mut failure = None;
    batch.for_each(
        inputs.objects.len(),
        |object| plan(&run, object, optional),
        |object, planned| {
            bar.inc(1);
            failure = results.add(&run, object, planned).err();
            failure.is_none()
        },
    );
    bar.finish_and_clear();
    if let Some(failure) = failure {
        return Err(failure);
    }
    inputs.check_packs()?;
    let Results { dir, mut manifest, names, .. } = results;
    manifest.complete = inputs.complete() && manifest.objects.iter().all(|it| it.failed.is_empty());
    dir.finish(&manifest.to_json(), &names.into_keys().collect())?;
    let mut out = Output::new();
    match args.format {
        Format::Jsonl => write_rows(&mut out, &manifest, &inputs)?,
        Format::Table => write_summary(&mut out, &manifest, &inputs, &args.output)?,
    }
    out.finish()?;
    Ok(if manifest.complete { Exit::Fine } else { Exit::NotJudged })
}

/// A manifest with all objects and no outputs yet.
fn manifest<'a>(args: &RelocateArgs, inputs: &'a Inputs<'_>) -> Manifest<'a> {
    let modules = match args.inputs.modules {
        ModulesArg::Each => "each",
        ModulesArg::All => "all",
    };
    let mut manifest = Manifest::new(modules, args.respect_autoload);
    let objects = inputs.object_names.iter().zip(&inputs.object_files).enumerate();
    manifest.objects = objects
        .map(|(number, (path, file))| ObjectEntry {
            path,
            sha256: hex(&Sha256::digest(&file.data)),
            remarks: inputs
                .defects_before(number)
                .filter(|it| it.code.is_remark())
                .map(InputEntry::new)
                .collect(),
            outputs: Vec::new(),
            failed: Vec::new(),
            left: Vec::new(),
            from_modules: Vec::new(),
        })
        .collect();
    let object_defects = inputs.object_defects.iter().map(|(_, defect)| defect);
    let defects = inputs.defects.iter().chain(object_defects.filter(|it| !it.code.is_remark()));
    manifest.inputs = defects.map(InputEntry::new).collect();
    manifest
}

struct Results<'a, 'data> {
    inputs: &'a Inputs<'data>,
    batch: &'a Batch,
    dir: OutDir,
    manifest: Manifest<'a>,
    /// Names of files to hashes of their contents, and the other way round.
    names: BTreeMap<String, String>,
    hashes: HashMap<String, String>,
}

impl<'a> Results<'a, '_> {
    /// Takes what becomes of one object, and writes its files.
    fn add(&mut self, run: &'a Run<'_>, object_no: usize, planned: Vec<Planned>) -> Result<(), Failure> {
        let inputs = self.inputs;
        let (Some(object), Some(entry)) =
            (inputs.objects.get(object_no), self.manifest.objects.get_mut(object_no))
        else {
            return Ok(());
        };
        // Kernels in their order; distinct patches with the kernels that they serve.
        let mut by_kernel: Vec<Option<&Planned>> = vec![None; inputs.kernels.len()];
        for it in &planned {
            for &kernel in &it.kernels {
                if let Some(slot) = by_kernel.get_mut(kernel) {
                    *slot = Some(it);
                }
            }
        }
        let mut patches: Vec<(&Patch, Vec<usize>)> = Vec::new();
        for (kernel, (planned, &name)) in by_kernel.iter().zip(&inputs.kernel_names).enumerate() {
            if let Some(why) = inputs.mismatch(object_no, kernel) {
                entry.failed.push(ObstacleEntry::byte_order(name, why));
                continue;
            }
            match planned.map(|it| &it.plan) {
                None => {}
                Some(Err(obstacle)) => entry.failed.push(ObstacleEntry::new(name, object, *obstacle)),
                Some(Ok(plan)) => {
                    entry.from_modules.extend(ModulesEntry::new(name, run, kernel, plan));
                    let left = plan.obstacles.iter().map(|&it| ObstacleEntry::of_record(name, object, it));
                    entry.left.extend(left);
                    match patches.iter_mut().find(|(it, _)| **it == plan.patch) {
                        Some((_, kernels)) => kernels.push(kernel),
                        None => patches.push((&plan.patch, vec![kernel])),
                    }
                }
            }
        }
        let staged = self.batch.map(&patches, |(patch, _)| {
            let file = patch.apply(object);
            let hash = hex(&Sha256::digest(&file));
            let programs = ProgramEntry::all(object, patch, &file);
            // Another object may have come to the same.
            let staged = if self.hashes.contains_key(&hash) { None } else { Some(self.dir.stage(&file)?) };
            Ok::<_, Failure>((hash, programs, staged))
        });
        let Some(input) = inputs.object_files.get(object_no) else { return Ok(()) };
        let stem = stem(&input.path);
        for (staged, (_, kernels)) in staged.into_iter().zip(&patches) {
            let (hash, programs, staged) = staged?;
            let name = match (self.hashes.get(&hash), staged) {
                (None, Some(staged)) => {
                    let name = free_name(&self.names, &stem, &hash);
                    self.dir.name(staged, &name)?;
                    self.names.insert(name.clone(), hash.clone());
                    self.hashes.insert(hash.clone(), name.clone());
                    name
                }
                (known, _) => known.cloned().unwrap_or_default(),
            };
            let kernels = kernels.iter().filter_map(|&it| inputs.kernel_names.get(it).copied());
            entry.outputs.push(OutputEntry {
                file: name,
                sha256: hash,
                kernels: kernels.collect(),
                programs,
            });
        }
        Ok(())
    }
}

/// The object's name without the usual endings.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut stem = name.strip_suffix(".o").map_or(name.as_str(), |it| it.strip_suffix(".bpf").unwrap_or(it));
    while stem.len() > STEM_MAX {
        stem = stem.char_indices().next_back().map_or("", |(at, _)| stem.split_at(at).0);
    }
    stem.to_owned()
}

/// As few digits as make the name unique; in practice always the fewest.
fn free_name(names: &BTreeMap<String, String>, stem: &str, hash: &str) -> String {
    let short = output_name(stem, hash.get(..HASH_DIGITS).unwrap_or(hash));
    if names.contains_key(&short) { output_name(stem, hash) } else { short }
}

fn write_rows(out: &mut Output, manifest: &Manifest<'_>, inputs: &Inputs<'_>) -> Result<(), Failure> {
    let (mut rows, mut before) = (0, 0);
    for defect in &inputs.defects {
        let mut line = Vec::new();
        push_line(&mut line, &InputRow::new(defect));
        out.write(&line)?;
        rows += 1;
    }
    for (number, object) in manifest.objects.iter().enumerate() {
        rows += object_defects(out, Format::Jsonl, inputs, &mut before, number)?;
        let mut text = Vec::new();
        for output in &object.outputs {
            push_line(&mut text, &OutputRow::new(object.path, &output.file, &output.sha256, &output.kernels));
        }
        for pair in &object.failed {
            push_line(&mut text, &PairRow::new(object.path, pair.kernel, pair.code, &pair.message));
        }
        rows += object.outputs.len() + object.failed.len();
        out.write(&text)?;
    }
    rows += object_defects(out, Format::Jsonl, inputs, &mut before, manifest.objects.len())?;
    let mut line = Vec::new();
    push_line(&mut line, &EndRow::new(manifest.complete, inputs.objects.len(), inputs.kernels.len(), rows));
    out.write(&line)
}

fn write_summary(
    out: &mut Output,
    manifest: &Manifest<'_>,
    inputs: &Inputs<'_>,
    dir: &Path,
) -> Result<(), Failure> {
    let (mut files, mut pairs) = (BTreeSet::new(), 0);
    let kernels = |count| paint(DIM, &plural(count, "kernel"));
    for object in &manifest.objects {
        out.line(&paint(HEAD, object.path))?;
        for output in &object.outputs {
            files.insert(&output.file);
            out.line(&format!("  {}  {}", output.file, kernels(output.kernels.len())))?;
        }
        let failed = counted(&object.failed, |it| it.code.to_owned());
        for (code, count) in failed {
            pairs += count;
            out.line(&format!("  {}  {code}  {}", paint(BAD, "no file"), kernels(count)))?;
        }
        let left = counted(&object.left, |it| {
            let name = |name: &Option<String>| name.clone().unwrap_or_default();
            format!("{} in {}  {}", name(&it.program), name(&it.section), it.code)
        });
        for (what, count) in left {
            out.line(&format!("  {}  {what}  {}", paint(WARN, "left as it was"), kernels(count)))?;
        }
    }
    let total = format!(
        "{} on {}: {} in {}, {} without a file",
        plural(inputs.objects.len(), "object"),
        plural(inputs.kernels.len(), "kernel"),
        plural(files.len(), "file"),
        dir.display(),
        plural(pairs, "pair"),
    );
    out.line(&total)
}

/// How often each key comes, keys sorted.
fn counted<T>(items: &[T], key: impl Fn(&T) -> String) -> BTreeMap<String, usize> {
    items.iter().fold(BTreeMap::new(), |mut counts, item| {
        *counts.entry(key(item)).or_default() += 1;
        counts
    })
}
