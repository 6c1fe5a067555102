//! `btfleet pack`: fleet packs built and looked into.

use std::collections::BTreeMap;
use std::path::Path;

use btfleet_engine::batch::Batch;
use btfleet_engine::embed::KernelInput;
use btfleet_engine::ingest::{InputError, KernelFiles, ParsedFiles};
use btfleet_engine::pack::{
    self, Added, BtfOrigin, Builder, Facts, KernelEntry, NewKernel, NewModule, Pack, PackError, PackFile,
    Written,
};
use serde::Serialize;

use crate::args::{Format, PackAddArgs, PackCommand};
use crate::output::{DIM, Exit, Failure, HEAD, Output, Progress, message, paint, plural, row_width, width};
use crate::rows::{hex, push_line};
use crate::text::{columns, cut_start, padded, safe, short_names, widths, wrapped};
use crate::{inputs, intake};

/// Kernels that are in memory at once, for each thread.
const KERNELS_PER_THREAD: usize = 2;

pub(crate) fn run(command: &PackCommand) -> Result<Exit, Failure> {
    match command {
        PackCommand::Add(args) => add(args),
        PackCommand::Ls { pack, format } => list(pack, *format),
        PackCommand::Verify { pack } => verify(pack),
        PackCommand::Rm { pack, names } => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let written = pack::remove(pack, &names, &|| on_wait(pack)).map_err(failed(pack))?;
            summary(&format!("{} removed", plural(names.len(), "name")), written)
        }
        PackCommand::Compact { pack } => {
            summary("compacted", pack::compact(pack, &|| on_wait(pack)).map_err(failed(pack))?)
        }
    }
}

fn failed(path: &Path) -> impl Fn(PackError) -> Failure {
    let path = path.display().to_string();
    move |error| match error {
        PackError::NoSuchName { .. } => Failure::Usage(format!("{path}: {error}")),
        _ => Failure::System(format!("{path}: {error}")),
    }
}

fn on_wait(path: &Path) {
    message(&format!("btfleet: {}: another process is writing to the pack, waiting for it", path.display()));
}

fn summary(what: &str, written: Written) -> Result<Exit, Failure> {
    let mut out = Output::new();
    let (written, len) = (size(written.written), size(written.len));
    out.prose(&format!("{what}; {written} written, the pack has {len}"), 0)?;
    out.finish()?;
    Ok(Exit::Fine)
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{}.{} kB", bytes / 1000, bytes % 1000 / 100),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}

/// What became of the kernels of a run.
#[derive(Default)]
struct Counts {
    new: usize,
    aliases: usize,
    known: usize,
    failed: usize,
}

/// Why the kernels of a run could not be added.
struct Stopped(PackError);

impl From<PackError> for Stopped {
    fn from(error: PackError) -> Self {
        Self(error)
    }
}

fn add(args: &PackAddArgs) -> Result<Exit, Failure> {
    let batch = Batch::new(args.jobs).map_err(Failure::System)?;
    let found = inputs::kernels(&args.kernels)?;
    if args.name.is_some() && found.inputs.len() != 1 {
        return Err(Failure::Usage(format!("--name is for one kernel, these are {}", found.inputs.len())));
    }
    if found.skipped > 0 {
        message(&format!("{} skipped", plural(found.skipped, "other file")));
    }
    if found.inputs.is_empty() && found.errors.is_empty() {
        return Err(Failure::Usage("no kernel was found there".into()));
    }
    let mut counts = Counts { failed: found.errors.len(), ..Counts::default() };
    let (sources, packs) = inputs::apart(found.inputs);
    for pack in packs {
        let pack = pack.display();
        message(&format!("btfleet: {pack}: not added: it is a pack; add the kernels that it was made of"));
        counts.failed += 1;
    }
    for error in &found.errors {
        message(&format!("btfleet: {error}"));
    }
    let worked = pack::update(&args.pack, &|| on_wait(&args.pack), |builder| -> Result<(), Stopped> {
        add_all(args, &batch, &sources, builder, &mut counts)
    });
    let ((), written) = worked.map_err(|Stopped(error)| failed(&args.pack)(error))?;
    let mut parts = vec![format!("{} added", plural(counts.new, "kernel"))];
    for (count, what) in [
        (counts.aliases, "under a further name"),
        (counts.known, "there already"),
        (counts.failed, "not added"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    summary(&parts.join(", "), written)?;
    Ok(if counts.failed == 0 { Exit::Fine } else { Exit::NotJudged })
}

/// Adds kernels in order, while the next ones are read and parsed in parallel.
fn add_all(
    args: &PackAddArgs,
    batch: &Batch,
    sources: &[KernelInput],
    builder: &mut Builder<'_>,
    counts: &mut Counts,
) -> Result<(), Stopped> {
    let progress = Progress::of(sources.len(), "inputs");
    let read = |number: usize| -> Vec<Result<ParsedFiles, InputError>> {
        let files = sources.get(number).and_then(|it| it.read_files(intake::get())).unwrap_or_default();
        files.into_iter().map(|it| it.and_then(ParsedFiles::parse)).collect()
    };
    let mut stopped = None;
    batch.for_each_few(KERNELS_PER_THREAD * batch.threads(), sources.len(), read, |_, kernels| {
        progress.step();
        if let (Some(name), true) = (&args.name, kernels.len() > 1) {
            message(&format!("btfleet: {name}: --name is for one kernel, there are {}", kernels.len()));
            counts.failed += kernels.len();
            return true;
        }
        for kernel in kernels {
            let added = match &kernel {
                Ok(kernel) => add_one(args, kernel, builder, counts),
                Err(error) => {
                    message(&format!("btfleet: {error}"));
                    counts.failed += 1;
                    continue;
                }
            };
            if let Err(error) = added {
                stopped = Some(error);
                return false;
            }
        }
        true
    });
    drop(progress);
    stopped.map_or(Ok(()), Err)
}

fn add_one(
    args: &PackAddArgs,
    kernel: &ParsedFiles,
    builder: &mut Builder<'_>,
    counts: &mut Counts,
) -> Result<(), Stopped> {
    let (files, (btf, defects)) = (kernel.borrow_owner(), kernel.borrow_dependent());
    let defects: Vec<_> = files.defects.iter().chain(defects).collect();
    for defect in &defects {
        message(&format!("btfleet: {defect}"));
    }
    counts.failed += usize::from(!defects.is_empty());
    let name = args.name.as_deref().unwrap_or(&files.name);
    let modules = btf.modules.iter().map(|it| NewModule { name: it.name, btf: &it.btf, bytes: it.bytes });
    let added = builder.add(&NewKernel {
        name,
        facts: &facts(args, files),
        vmlinux: &btf.vmlinux,
        vmlinux_bytes: btf.vmlinux_bytes,
        modules: modules.collect(),
    })?;
    match added {
        Added::New => counts.new += 1,
        Added::Known => counts.known += 1,
        Added::AliasOf(first) => {
            message(&format!("{name}: the same as {first}"));
            counts.aliases += 1;
        }
        Added::Refused(refusal) => {
            message(&format!("btfleet: {name}: not added: {refusal}"));
            counts.failed += 1;
        }
    }
    Ok(())
}

fn facts(args: &PackAddArgs, files: &KernelFiles) -> Facts {
    let mut facts = files.facts();
    let given = [
        (&args.release, &mut facts.release),
        (&args.distribution, &mut facts.distribution),
        (&args.arch, &mut facts.architecture),
        (&args.flavour, &mut facts.flavour),
    ];
    for (given, fact) in given {
        if let Some(given) = given {
            fact.clone_from(given);
        }
    }
    if args.external {
        facts.origin = BtfOrigin::External;
    }
    facts
}

fn verify(path: &Path) -> Result<Exit, Failure> {
    let file = PackFile::open(path).map_err(failed(path))?;
    let pack = file.view().map_err(failed(path))?;
    pack::verify(&pack).map_err(failed(path))?;
    let mut out = Output::new();
    out.prose(&format!("{} in {}: all is well", kernels_of(&pack), size(pack.len())), 0)?;
    out.finish()?;
    Ok(Exit::Fine)
}

fn kernels_of(pack: &Pack<'_>) -> String {
    let modules = plural(pack.module_count() as usize, "module");
    format!("{} with {modules}", plural(pack.kernel_count() as usize, "kernel"))
}

#[derive(Serialize)]
struct KernelRow<'a> {
    v: u32,
    t: &'static str,
    names: &'a [&'a str],
    content: String,
    source: &'a str,
    release: &'a str,
    distribution: &'a str,
    arch: &'a str,
    flavour: &'a str,
    btf: &'static str,
    byte_order: &'static str,
    pointer_size: u32,
    modules: Vec<&'a str>,
    types: u64,
    raw_bytes: u64,
}

#[derive(Serialize)]
struct PackEndRow {
    v: u32,
    t: &'static str,
    complete: bool,
    kernels: usize,
    modules: u64,
    types: u64,
    distinct_types: u64,
    raw_bytes: u64,
    pack_bytes: u64,
    segments: usize,
}

fn types_of(kernel: &KernelEntry<'_>) -> u64 {
    let own = kernel.modules.iter().map(|it| u64::from(it.type_count.saturating_sub(kernel.type_count)));
    u64::from(kernel.type_count.saturating_sub(1)) + own.sum::<u64>()
}

fn list(path: &Path, format: Format) -> Result<Exit, Failure> {
    let file = PackFile::open(path).map_err(failed(path))?;
    let pack = file.view().map_err(failed(path))?;
    let kernels = pack.kernels().map_err(failed(path))?;
    let mut abis: Vec<_> = kernels.iter().map(|it| it.abi).collect();
    abis.sort_unstable();
    abis.dedup();
    let distinct =
        abis.iter().filter_map(|abi| pack.btf(*abi)).map(|it| u64::from(it.type_count()) - 1).sum();
    let end = PackEndRow {
        v: 1,
        t: "end",
        complete: true,
        kernels: kernels.len(),
        modules: pack.module_count().into(),
        types: kernels.iter().map(types_of).sum(),
        distinct_types: distinct,
        raw_bytes: kernels.iter().map(|it| it.raw_len).sum(),
        pack_bytes: pack.len(),
        segments: pack.segment_count(),
    };
    let mut out = Output::new();
    match format {
        Format::Jsonl => {
            let mut lines = Vec::new();
            for kernel in &kernels {
                push_line(&mut lines, &row(kernel));
            }
            push_line(&mut lines, &end);
            out.write(&lines)?;
        }
        Format::Table => table(&mut out, &pack, &kernels, &end)?,
    }
    out.finish()?;
    Ok(Exit::Fine)
}

fn row<'a>(kernel: &'a KernelEntry<'a>) -> KernelRow<'a> {
    let facts = &kernel.facts;
    KernelRow {
        v: 1,
        t: "kernel",
        names: &kernel.names,
        content: hex(&kernel.content),
        source: &facts.source,
        release: &facts.release,
        distribution: &facts.distribution,
        arch: &facts.architecture,
        flavour: &facts.flavour,
        btf: facts.origin.name(),
        byte_order: match kernel.abi.endian() {
            btfleet_engine::format::Endian::Little => "little",
            btfleet_engine::format::Endian::Big => "big",
        },
        pointer_size: kernel.abi.pointer_size(),
        modules: kernel.modules.iter().map(|it| it.name).collect(),
        types: types_of(kernel),
        raw_bytes: kernel.raw_len,
    }
}

/// Columns of the list, after the first one, in the order in which they give way to names where a line is too short; and
/// where names have the releases in them.
const GIVES_WAY: [usize; 7] = [7, 6, 5, 2, 4, 3, 1];
const GIVES_WAY_NAMED: [usize; 7] = [7, 1, 6, 5, 2, 4, 3];
/// Columns of which numbers stand on the right.
const NUMBERS: std::ops::RangeInclusive<usize> = 5..=7;
/// Least space for names.
const NAME_MIN: usize = 24;

fn table(
    out: &mut Output,
    pack: &Pack<'_>,
    kernels: &[KernelEntry<'_>],
    end: &PackEndRow,
) -> Result<(), Failure> {
    let percent = end.pack_bytes.saturating_mul(1000).checked_div(end.raw_bytes).unwrap_or(0);
    for line in wrapped(&kernels_of(pack), width()) {
        out.line(&paint(HEAD, &line))?;
    }
    let sizes = format!(
        "{} types, {} of them distinct; {} of BTF in {} ({}.{} %), {}",
        end.types,
        end.distinct_types,
        size(end.raw_bytes),
        size(end.pack_bytes),
        percent / 10,
        percent % 10,
        plural(end.segments, "segment"),
    );
    out.prose(&sizes, 0)?;
    if kernels.is_empty() {
        return Ok(());
    }
    for fact in [|it: &Facts| it.distribution.clone(), |it: &Facts| it.architecture.clone()] {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        kernels.iter().for_each(|it| *counts.entry(fact(&it.facts)).or_default() += 1);
        let unknown = counts.remove("").map(|count| format!("not known {count}"));
        let known = counts.iter().map(|(name, count)| format!("{} {count}", safe(name)));
        out.prose(&known.chain(unknown).collect::<Vec<_>>().join(", "), 2)?;
    }
    out.line("")?;
    let head = ["name", "release", "distribution", "arch", "flavour", "modules", "types", "raw"];
    let mut rows = vec![head.map(str::to_owned)];
    for kernel in kernels {
        let facts = &kernel.facts;
        let known = |text: &str| if text.is_empty() { "-".to_owned() } else { safe(text).into_owned() };
        rows.push([
            safe(&kernel.names.join(" = ")).into_owned(),
            known(&facts.release),
            known(&facts.distribution),
            known(&facts.architecture),
            known(&facts.flavour),
            kernel.modules.len().to_string(),
            types_of(kernel).to_string(),
            size(kernel.raw_len),
        ]);
    }
    let total = |widths: &[usize; 8]| widths.iter().filter(|it| **it > 0).map(|it| it + 2).sum::<usize>() - 2;
    let mut fitting = widths(&rows);
    let mut shortened = None;
    if total(&fitting) > row_width() {
        // The directory that all names have in common is said once.
        let firsts: Vec<&str> = kernels.iter().filter_map(|it| it.names.first().copied()).collect();
        let short = short_names(&firsts);
        shortened =
            firsts.first().zip(short.first()).map(|(long, short)| long.len().saturating_sub(short.len()));
        shortened = shortened.filter(|it| *it > 0);
        for ((row, kernel), short) in rows.iter_mut().skip(1).zip(kernels).zip(short) {
            let others = kernel.names.iter().skip(1).map(|it| format!(" = {}", safe(it)));
            if let Some(name) = row.first_mut() {
                *name = short + &others.collect::<String>();
            }
        }
        fitting = widths(&rows);
    }
    let names_need = |widths: &[usize; 8]| widths.first().copied().unwrap_or(0).min(NAME_MIN);
    let is_named =
        |it: &KernelEntry<'_>| it.names.iter().any(|name| name.contains(it.facts.release.as_str()));
    for column in if kernels.iter().all(is_named) { GIVES_WAY_NAMED } else { GIVES_WAY } {
        let mut least = fitting;
        least[0] = names_need(&fitting);
        if total(&least) <= row_width() {
            break;
        }
        if let Some(it) = fitting.get_mut(column) {
            *it = 0;
        }
    }
    let others: usize = fitting.iter().skip(1).filter(|it| **it > 0).map(|it| it + 2).sum();
    let name_width = fitting.first().copied().unwrap_or(0).min(row_width().saturating_sub(others));
    for (number, row) in rows.iter().enumerate() {
        let mut text = String::new();
        for (column, (cell, &width)) in row.iter().zip(&fitting).enumerate().filter(|it| *it.1.1 > 0) {
            match column {
                0 => text += &padded(&cut_start(cell, name_width), name_width),
                it if NUMBERS.contains(&it) => {
                    text += &format!("  {:space$}{cell}", "", space = width - columns(cell));
                }
                _ => text += &format!("  {}", padded(cell, width)),
            }
        }
        let text = text.trim_end();
        out.line(&if number == 0 { paint(HEAD, text) } else { text.to_owned() })?;
    }
    let left_out = head.iter().zip(fitting).filter(|it| it.1 == 0).map(|it| *it.0).collect::<Vec<_>>();
    if !left_out.is_empty() {
        out.prose(&paint(DIM, &format!("left out for space: {}", left_out.join(", "))), 0)?;
    }
    let directory = shortened.zip(kernels.first().and_then(|it| it.names.first()));
    if let Some(directory) = directory.and_then(|(len, name)| name.get(..len)) {
        out.prose(&paint(DIM, &format!("names begin with {}", safe(directory))), 0)?;
    }
    Ok(())
}
