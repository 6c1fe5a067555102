//! `btfleet relocate`: every object relocated for every kernel, a file for each distinct result.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use btfleet_engine::batch::{Batch, Run};
use btfleet_engine::dialect::Loader;
use btfleet_engine::relocate::{Optional, Patch, Plan, Planned, plan};
use sha2::{Digest, Sha256};
use tempfile::TempPath;

use crate::args::{Format, ModulesArg, RelocateArgs, ValidateArg};
use crate::copies::Shared;
use crate::load::{self, Inputs};
use crate::manifest::{
    FileEntry, InputEntry, Manifest, ModulesEntry, ObjectEntry, ObstacleEntry, OutputEntry, ProgramEntry,
};
use crate::outdir::{INSNS, OBJECT, OutDir, output_name};
use crate::output::{BAD, DIM, Exit, Failure, HEAD, Output, Progress, WARN, paint, plural};
use crate::payloads::{ClassPayloads, STATEMENT, Statement, payloads};
use crate::resolve::object_defects;
use crate::rows::{EndRow, InputRow, OutputRow, PairRow, hex, push_line};

/// Digits of the hash in a file's name.
const HASH_DIGITS: usize = 12;
/// Bytes of the object's name in a file's name; file systems take 255 for all of it.
const STEM_MAX: usize = 180;

pub(crate) fn run(args: &RelocateArgs) -> Result<Exit, Failure> {
    if args.sign_manifest && args.validating.validate != ValidateArg::Libbpf {
        let why = "--sign-manifest states what libbpf does, so --validate has to be libbpf";
        return Err(Failure::Usage(why.into()));
    }
    let batch = Batch::new(args.inputs.jobs).map_err(Failure::System)?;
    let dir = OutDir::open(&args.output, args.force)?;
    let files = load::read(&args.inputs, &batch)?;
    let inputs = load::parse(&files, &batch, args.inputs.filter.as_ref())?;
    let loaders = vec![Loader::Libbpf; inputs.kernels.len()];
    let (modules, validate) = (args.inputs.modules.into(), args.validating.into());
    let run = Run::validating(&batch, &inputs.distinct, &inputs.kernels, &loaders, modules, validate);
    let options = Options {
        modules: args.inputs.modules,
        validate: args.validating.validate,
        respect_autoload: args.respect_autoload,
        signs: args.sign_manifest,
    };
    let Results { dir, mut manifest, mut names, classes, .. } =
        Results::of(&run, &inputs, &batch, options, Some(dir))?;
    if let Some(mut dir) = dir {
        if args.sign_manifest {
            let statement = Statement::new(&manifest, &classes, &inputs.kernel_names).to_json();
            let sha256 = hex(&Sha256::digest(&statement));
            let staged = dir.stage(&statement)?;
            dir.name(staged, STATEMENT)?;
            let payloads = names.iter().filter(|(name, _)| name.ends_with(INSNS));
            manifest.to_sign = payloads
                .map(|(file, sha256)| FileEntry { file: file.clone(), sha256: sha256.clone() })
                .collect();
            names.insert(STATEMENT.to_owned(), sha256.clone());
            manifest.to_sign.push(FileEntry { file: STATEMENT.to_owned(), sha256 });
        }
        dir.finish(&manifest.to_json(), &names.into_keys().collect())?;
    }
    let mut out = Output::new();
    match args.format {
        Format::Jsonl => write_rows(&mut out, &manifest, &inputs)?,
        Format::Table => write_summary(&mut out, &manifest, &inputs, &args.output)?,
    }
    out.finish()?;
    Ok(if manifest.complete { Exit::Fine } else { Exit::NotJudged })
}

/// What bears on the results beside the inputs.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) modules: ModulesArg,
    pub(crate) validate: ValidateArg,
    pub(crate) respect_autoload: bool,
    /// Whether there are payloads to sign.
    pub(crate) signs: bool,
}

/// A manifest with all objects and no outputs yet.
fn manifest<'a>(options: Options, inputs: &'a Inputs<'_>) -> Manifest<'a> {
    let modules = match options.modules {
        ModulesArg::Each => "each",
        ModulesArg::All => "all",
    };
    let mut manifest = Manifest::new(modules, options.validate, options.respect_autoload);
    let objects = inputs.objects.iter().enumerate();
    manifest.objects = objects
        .map(|(number, object)| ObjectEntry {
            path: &object.name,
            sha256: hex(&Sha256::digest(object.data)),
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

/// What becomes of all objects.
pub(crate) struct Results<'a, 'data> {
    inputs: &'a Inputs<'data>,
    batch: &'a Batch,
    signs: bool,
    /// `None`: nothing is written.
    dir: Option<OutDir>,
    pub(crate) manifest: Manifest<'a>,
    /// By object: its payloads.
    pub(crate) classes: Vec<Vec<ClassPayloads<'a>>>,
    /// Names of files to hashes of their contents, and the other way round.
    names: BTreeMap<String, String>,
    hashes: HashMap<String, String>,
}

impl<'a, 'data> Results<'a, 'data> {
    /// Relocates all objects for all kernels, and writes the files if there is a directory.
    pub(crate) fn of(
        run: &'a Run<'_>,
        inputs: &'a Inputs<'data>,
        batch: &'a Batch,
        options: Options,
        dir: Option<OutDir>,
    ) -> Result<Self, Failure> {
        let mut results = Self {
            inputs,
            batch,
            signs: options.signs,
            dir,
            manifest: manifest(options, inputs),
            classes: Vec::new(),
            names: BTreeMap::new(),
            hashes: HashMap::new(),
        };
        let optional = if options.respect_autoload { Optional::Leave } else { Optional::Relocate };
        let shared = Shared::new(inputs);
        let progress = Progress::of(inputs.objects.len(), "objects");
        let mut failure = None;
        batch.for_each(
            inputs.objects.len(),
            |object| {
                let distinct = inputs.distinct_of(object);
                shared.of(distinct, || plan(run, distinct, optional))
            },
            |object, planned| {
                progress.step();
                failure = results.add(run, object, &planned).err();
                failure.is_none()
            },
        );
        drop(progress);
        if let Some(failure) = failure {
            return Err(failure);
        }
        inputs.check_packs()?;
        let manifest = &mut results.manifest;
        manifest.complete = inputs.complete() && manifest.objects.iter().all(|it| it.failed.is_empty());
        Ok(results)
    }

    /// Takes what becomes of one object, and writes its files.
    fn add(&mut self, run: &'a Run<'_>, object_no: usize, planned: &[Planned]) -> Result<(), Failure> {
        let inputs = self.inputs;
        let (Some(object), Some(entry)) =
            (inputs.object(object_no), self.manifest.objects.get_mut(object_no))
        else {
            return Ok(());
        };
        // Kernels in their order; distinct patches with the kernels that they serve.
        let mut by_kernel: Vec<Option<&Planned>> = vec![None; inputs.kernels.len()];
        for it in planned {
            for &kernel in &it.kernels {
                if let Some(slot) = by_kernel.get_mut(kernel) {
                    *slot = Some(it);
                }
            }
        }
        let mut patches: Vec<(&Patch, Vec<(usize, &Plan)>)> = Vec::new();
        for (kernel, (planned, &name)) in by_kernel.iter().zip(&inputs.kernel_names).enumerate() {
            if let Some(why) = inputs.mismatch(object_no, kernel) {
                entry.failed.push(ObstacleEntry::of_pair(name, why));
                continue;
            }
            match planned.map(|it| &it.plan) {
                None => {}
                Some(Err(obstacle)) => entry.failed.push(ObstacleEntry::new(name, object, obstacle)),
                Some(Ok(plan)) => {
                    entry.from_modules.extend(ModulesEntry::new(name, run, kernel, plan));
                    let left = plan.obstacles.iter().map(|it| ObstacleEntry::of_record(name, object, it));
                    entry.left.extend(left);
                    match patches.iter_mut().find(|(it, _)| **it == plan.patch) {
                        Some((_, kernels)) => kernels.push((kernel, plan)),
                        None => patches.push((&plan.patch, vec![(kernel, plan)])),
                    }
                }
            }
        }
        let made = self.batch.map(&patches, |(patch, kernels)| {
            let file = patch.apply(object);
            let hash = hex(&Sha256::digest(&file));
            let programs = ProgramEntry::all(object, patch, &file);
            let plans: Vec<&Plan> = kernels.iter().map(|it| it.1).collect();
            let payloads = if self.signs { payloads(object, &plans, &file) } else { Vec::new() };
            // Another object may have come to the same.
            let staged = match &self.dir {
                Some(dir) if !self.hashes.contains_key(&hash) => Some(dir.stage(&file)?),
                _ => None,
            };
            Ok::<_, Failure>((hash, programs, payloads, staged))
        });
        let Some(input) = inputs.objects.get(object_no) else { return Ok(()) };
        let stem = stem(input.path);
        let mut classes = Vec::new();
        let mut outputs = Vec::new();
        for (made, (_, kernels)) in made.into_iter().zip(&patches) {
            let (hash, programs, mut payloads, staged) = made?;
            let file = self.name(&stem, OBJECT, &hash, staged)?;
            let kernel_name = |kernel: usize| inputs.kernel_names.get(kernel).copied().unwrap_or_default();
            let names: Vec<&str> = kernels.iter().map(|it| kernel_name(it.0)).collect();
            for payload in &mut payloads {
                let Some(hash) = &payload.sha256 else { continue };
                let bytes = std::mem::take(&mut payload.bytes);
                let staged = match &self.dir {
                    Some(dir) if !self.hashes.contains_key(hash) => Some(dir.stage(&bytes)?),
                    _ => None,
                };
                payload.file = Some(self.name(&stem, INSNS, hash, staged)?);
            }
            if self.signs {
                let modules = kernels.iter();
                classes.push(ClassPayloads {
                    file: file.clone(),
                    sha256: hash.clone(),
                    kernels: names.clone(),
                    from_modules: modules
                        .filter_map(|&(kernel, plan)| {
                            ModulesEntry::new(kernel_name(kernel), run, kernel, plan)
                        })
                        .collect(),
                    programs: payloads,
                });
            }
            outputs.push(OutputEntry { file, sha256: hash, kernels: names, programs });
        }
        if let Some(entry) = self.manifest.objects.get_mut(object_no) {
            entry.outputs = outputs;
        }
        self.classes.push(classes);
        Ok(())
    }

    /// The name of a file with these contents: that of an earlier one, or a new one, which `staged` gets.
    fn name(
        &mut self,
        stem: &str,
        ending: &str,
        hash: &str,
        staged: Option<TempPath>,
    ) -> Result<String, Failure> {
        if let Some(name) = self.hashes.get(hash) {
            return Ok(name.clone());
        }
        let name = free_name(&self.names, stem, hash, ending);
        if let (Some(dir), Some(staged)) = (&mut self.dir, staged) {
            dir.name(staged, &name)?;
        }
        self.names.insert(name.clone(), hash.to_owned());
        self.hashes.insert(hash.to_owned(), name.clone());
        Ok(name)
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
fn free_name(names: &BTreeMap<String, String>, stem: &str, hash: &str, ending: &str) -> String {
    let short = output_name(stem, hash.get(..HASH_DIGITS).unwrap_or(hash), ending);
    if names.contains_key(&short) { output_name(stem, hash, ending) } else { short }
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
