//! `btfleet inspect`: what files are, and what was found in them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use btfleet_engine::batch::Batch;
use btfleet_engine::embed::{Files, Inputs};
use btfleet_engine::ingest::{
    Intake, Looks, ObjectInput, Opened, archive, looks_like_kernel, looks_like_object,
};
use btfleet_engine::object::Object;
use btfleet_engine::pack::BtfOrigin;
use serde::Serialize;

use crate::args::{Format, InspectArgs};
use crate::output::{BAD, Exit, Failure, HEAD, Output, Progress, paint, plural};
use crate::rows::{byte_order_name, push_line};
use crate::text::safe;
use crate::{inputs, intake};

/// Kernels, objects and modules that are listed before it says how many more there are.
const SHOWN: usize = 20;

/// What one file is.
#[derive(Serialize)]
struct FileRow {
    v: u32,
    t: &'static str,
    path: String,
    /// `object`, `executable`, `archive`, `image`, `kernel`, `pack`, `none` or `error`.
    kind: &'static str,
    /// What it is in words.
    what: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    objects: Vec<ObjectEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kernels: Vec<KernelEntry>,
    /// What of it cannot be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    defects: Vec<String>,
}

#[derive(Serialize)]
struct ObjectEntry {
    name: String,
    bytes: usize,
    byte_order: &'static str,
    programs: usize,
    records: usize,
    /// Types of its BTF; none without.
    types: Option<u32>,
    /// A light skeleton: the kernel relocates it.
    skeleton: bool,
}

#[derive(Serialize)]
struct KernelEntry {
    name: String,
    byte_order: &'static str,
    pointer_size: u32,
    /// Types of its BTF; of a pack's kernel, they are not counted.
    types: Option<u32>,
    modules: Vec<String>,
    release: String,
    distribution: String,
    architecture: String,
    flavour: String,
    /// Whether the BTF is the kernel's own: `built-in`, `external` or `unknown`.
    btf: &'static str,
    /// Whether its configuration is at hand.
    configuration: bool,
}

#[derive(Serialize)]
struct EndRow {
    v: u32,
    t: &'static str,
    complete: bool,
    files: usize,
}

pub(crate) fn run(args: &InspectArgs) -> Result<Exit, Failure> {
    let mut paths = Vec::new();
    let mut complete = true;
    for path in &args.files {
        let (found, errors) = inputs::files_of(path);
        for error in errors {
            crate::output::message(&format!("btfleet: {error}"));
            complete = false;
        }
        paths.extend(found);
    }
    let mut out = Output::new();
    let progress = Progress::of(paths.len(), "files");
    for path in &paths {
        let row = inspect(path);
        progress.step();
        complete &= row.kind != "error";
        match args.format {
            Format::Table => show(&mut out, &row)?,
            Format::Jsonl => {
                let mut line = Vec::new();
                push_line(&mut line, &row);
                out.write(&line)?;
            }
        }
    }
    drop(progress);
    if args.format == Format::Jsonl {
        let mut line = Vec::new();
        push_line(&mut line, &EndRow { v: 1, t: "end", complete, files: paths.len() });
        out.write(&line)?;
    }
    out.finish()?;
    Ok(if complete { Exit::Fine } else { Exit::NotJudged })
}

fn inspect(path: &Path) -> FileRow {
    let mut row = FileRow {
        v: 1,
        t: "file",
        path: path.to_string_lossy().into_owned(),
        kind: "none",
        what: String::new(),
        objects: Vec::new(),
        kernels: Vec::new(),
        defects: Vec::new(),
    };
    let Ok(batch) = Batch::new(1) else { return row };
    let intake = intake::get();
    if inputs::is_image(path) {
        (row.kind, row.what) = ("image", "container image in the OCI layout".into());
        add(&mut row, &batch, intake, &inputs::image_inputs(path), Vec::new());
        return row;
    }
    // The kinds of file that cannot be read at all are told by the same words as everywhere.
    let looks = match intake.open(path) {
        Err(error) => {
            (row.kind, row.what) = ("error", error.what);
            return row;
        }
        Ok(Opened::Archive(archive)) => {
            let kind = archive.kind();
            let (members, with_elf) = members(archive);
            row.kind = "archive";
            row.what =
                format!("{} archive with {}, {with_elf} of them ELF", kind.name(), plural(members, "file"));
            let object = ObjectInput::File { path: path.to_owned(), walked: true };
            add(&mut row, &batch, intake, &[object], vec![path.to_owned()]);
            return row;
        }
        Ok(Opened::Whole(data)) if looks_like_object(&data) => Looks::Object,
        Ok(Opened::Whole(data)) if looks_like_kernel(&data) => Looks::Kernel,
        Ok(Opened::Whole(_)) => Looks::of_file(path).unwrap_or(Looks::Other),
    };
    let object = ObjectInput::File { path: path.to_owned(), walked: looks != Looks::Object };
    match looks {
        Looks::Object => {
            (row.kind, row.what) = ("object", "BPF object".into());
            add(&mut row, &batch, intake, &[object], Vec::new());
        }
        Looks::Pack => {
            (row.kind, row.what) = ("pack", "fleet pack".into());
            add(&mut row, &batch, intake, &[], vec![path.to_owned()]);
        }
        _ => {
            add(&mut row, &batch, intake, &[object], Vec::new());
            if !row.objects.is_empty() {
                (row.kind, row.what) = ("executable", "ELF file with BPF programs inside".into());
                return row;
            }
            add(&mut row, &batch, intake, &[], vec![path.to_owned()]);
            if row.kernels.is_empty() {
                let tried = "no BPF object, none inside, no BTF, no pack, no archive";
                row.what = format!("nothing that is known: {tried}");
                let why = std::mem::take(&mut row.defects);
                row.what.extend(why.first().map(|it| format!(" ({it})")));
            } else {
                (row.kind, row.what) = ("kernel", "BTF of a kernel".into());
            }
        }
    }
    if row.objects.is_empty() && row.kernels.is_empty() && matches!(row.kind, "object" | "pack") {
        row.kind = "error";
    }
    row
}

/// Members of an archive that are files, and how many of them are ELF.
fn members(archive: btfleet_engine::ingest::Archive) -> (usize, usize) {
    let (count, elf) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    // Errors are told where the objects and kernels are looked for.
    let _ = archive.visit(
        &|entry| {
            if !entry.head.is_empty() && entry.inner != archive::CONTROL {
                count.set(count.get() + 1);
                elf.set(elf.get() + usize::from(entry.head.starts_with(b"\x7fELF")));
            }
            false
        },
        &mut |_| Ok(true),
    );
    (count.get(), elf.get())
}

/// Adds the objects and the kernels that inputs have.
fn add(row: &mut FileRow, batch: &Batch, intake: &Intake, objects: &[ObjectInput], kernels: Vec<PathBuf>) {
    let kernels = inputs::kernel_inputs(kernels);
    let files = Files::read(batch, intake, objects, &kernels, Vec::new(), || {});
    let inputs = files.parse(batch);
    row.objects.extend(object_entries(&inputs));
    row.kernels.extend(kernel_entries(&inputs));
    row.defects.extend(inputs.all_defects().map(|it| match it.path.to_string_lossy() == row.path {
        true => it.what.clone(),
        false => it.to_string(),
    }));
}

fn object_entries<'a>(inputs: &'a Inputs<'_>) -> impl Iterator<Item = ObjectEntry> + 'a {
    inputs.objects.iter().filter_map(|named| {
        let object: &Object<'_> = inputs.distinct.get(named.distinct)?;
        Some(ObjectEntry {
            name: named.name.clone(),
            bytes: named.data.len(),
            byte_order: byte_order_name(object.endian()),
            programs: object.programs().iter().filter(|it| !it.is_subprogram).count(),
            records: object.relocs().len(),
            types: object.btf().map(|it| it.type_count() - 1),
            skeleton: named.name.contains("!/skeleton@"),
        })
    })
}

fn kernel_entries<'a>(inputs: &'a Inputs<'_>) -> impl Iterator<Item = KernelEntry> + 'a {
    inputs.kernels.iter().zip(&inputs.kernel_names).map(|(kernel, name)| {
        let facts = kernel.facts.clone();
        KernelEntry {
            name: (*name).to_owned(),
            byte_order: byte_order_name(kernel.vmlinux.btf.endian()),
            pointer_size: kernel.vmlinux.btf.pointer_size(),
            types: kernel.packed.is_none().then(|| kernel.vmlinux.btf.type_count() - 1),
            modules: kernel.modules.iter().map(|it| it.name.clone()).collect(),
            release: facts.release,
            distribution: facts.distribution,
            architecture: facts.architecture,
            flavour: facts.flavour,
            btf: match kernel.origin() {
                BtfOrigin::BuiltIn => "built-in",
                BtfOrigin::External => "external",
                BtfOrigin::Unknown => "unknown",
            },
            configuration: kernel.kconfig.is_some(),
        }
    })
}

fn show(out: &mut Output, row: &FileRow) -> Result<(), Failure> {
    let what = if row.kind == "error" { paint(BAD, &safe(&row.what)) } else { safe(&row.what).into_owned() };
    let size = fs::metadata(&row.path).ok().filter(|it| it.is_file()).map(|it| it.len());
    let size = size.and_then(|it| usize::try_from(it).ok()).map(|it| format!(", {}", plural(it, "byte")));
    let size = size.unwrap_or_default();
    out.row(&format!("{}: {what}{size}", paint(HEAD, &safe(&row.path))), 2)?;
    let inside = |name: &str| match name.strip_prefix(&row.path) {
        Some("") => String::new(),
        Some(inside) => format!("{}  ", safe(inside.trim_start_matches("!/"))),
        None => format!("{}  ", safe(name)),
    };
    for it in row.objects.iter().take(SHOWN) {
        let btf =
            it.types.map_or("no BTF".into(), |count| format!("BTF with {}", plural(count as usize, "type")));
        let is = if it.skeleton { "light skeleton" } else { "object" };
        let programs = plural(it.programs, "program");
        let (records, order) = (plural(it.records, "record"), it.byte_order);
        let facts = format!("{programs}, {records}, {order}-endian, {btf}");
        out.row(&format!("  {is} {}{facts}", inside(&it.name)), 4)?;
    }
    more(out, row.objects.len(), "object")?;
    for it in row.kernels.iter().take(SHOWN) {
        let mut facts: Vec<String> = [&it.release, &it.distribution, &it.architecture, &it.flavour]
            .into_iter()
            .filter(|it| !it.is_empty())
            .map(|it| safe(it).into_owned())
            .collect();
        facts.extend(it.types.map(|count| plural(count as usize, "type")));
        facts.push(format!("{}-endian, {}-byte pointers, BTF {}", it.byte_order, it.pointer_size, it.btf));
        if !it.modules.is_empty() {
            facts.push(plural(it.modules.len(), "module"));
        }
        if it.configuration {
            facts.push("with its configuration".into());
        }
        out.row(&format!("  kernel {}{}", inside(&it.name), facts.join(", ")), 4)?;
    }
    more(out, row.kernels.len(), "kernel")?;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for defect in &row.defects {
        *counts.entry(safe(defect).into_owned()).or_default() += 1;
    }
    for defect in counts.keys().take(SHOWN) {
        out.row(&format!("  {}", paint(BAD, defect)), 4)?;
    }
    more(out, counts.len(), "defect")
}

fn more(out: &mut Output, count: usize, what: &str) -> Result<(), Failure> {
    match count.saturating_sub(SHOWN) {
        0 => Ok(()),
        more => {
            out.row(&format!("  and {}; --format jsonl has all", plural(more, &format!("more {what}"))), 4)
        }
    }
}
