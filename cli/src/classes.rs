//! `btfleet classes`: kernels that some objects cannot tell apart.

use btfleet_engine::batch::{Batch, Classes, Run};
use btfleet_engine::dialect::Loader;
use btfleet_engine::report::{Partition, classes};
use serde::Serialize;

use crate::args::{ClassesArgs, Emit};
use crate::load::{self, Inputs};
use crate::output::{DIM, Exit, Failure, GOOD, HEAD, Output, WARN, paint, plural};

/// Names of kernels on one line, and objects, before it says how many more there are.
const NAMES_SHOWN: usize = 6;
const OBJECTS_SHOWN: usize = 30;

pub(crate) fn run(args: &ClassesArgs) -> Result<Exit, Failure> {
    let batch = Batch::new(args.inputs.jobs).map_err(Failure::System)?;
    let files = load::read(&args.inputs, &batch)?;
    let inputs = load::parse(&files, &batch, args.inputs.filter.as_ref())?;
    let loaders = vec![Loader::Libbpf; inputs.kernels.len()];
    let run = Run::new(&batch, &inputs.distinct, &inputs.kernels, &loaders, args.inputs.modules.into());
    let mut partition = classes(&batch, &run, &inputs.distinct);
    // Copies are shown too.
    let objects = || inputs.objects.iter();
    partition.payloads = objects().filter_map(|it| partition.payloads.get(it.distinct)).copied().collect();
    partition.by_object = objects().filter_map(|it| partition.by_object.get(it.distinct)).cloned().collect();
    let partition = partition;
    inputs.check_packs()?;
    let mut out = Output::new();
    match args.emit {
        None => table(&mut out, &inputs, &partition)?,
        Some(Emit::Json) => json(&mut out, &inputs, &partition)?,
        Some(Emit::Vmtest) => vmtest(&mut out, &inputs, &partition)?,
        Some(Emit::List) => {
            for kernel in &partition.cover.kernels {
                out.line(name(&inputs, *kernel))?;
            }
        }
    }
    out.finish()?;
    // Pairs of different byte orders are no gap here: such an object does not load on such a kernel at all.
    Ok(if inputs.complete() { Exit::Fine } else { Exit::NotJudged })
}

fn name<'a>(inputs: &'a Inputs<'_>, kernel: usize) -> &'a str {
    inputs.kernel_names.get(kernel).copied().unwrap_or_default()
}

/// By class, its kernels.
fn members(classes: &Classes) -> Vec<Vec<usize>> {
    let mut members = vec![Vec::new(); classes.first.len()];
    for (kernel, class) in classes.of.iter().enumerate() {
        if let Some(members) = class.and_then(|it| members.get_mut(it as usize)) {
            members.push(kernel);
        }
    }
    members
}

fn table(out: &mut Output, inputs: &Inputs<'_>, partition: &Partition) -> Result<(), Failure> {
    let joint = members(&partition.joint);
    for (number, kernels) in joint.iter().enumerate() {
        let boots = kernels.iter().any(|it| partition.cover.kernels.contains(it));
        let mark = if boots { paint(GOOD, "boot") } else { "    ".to_owned() };
        let first = kernels.first().map_or("", |it| name(inputs, *it));
        out.line(&format!("{mark}  {:>4}  {}", format!("C{}", number + 1), paint(HEAD, first)))?;
        let others: Vec<&str> = kernels.iter().skip(1).map(|it| name(inputs, *it)).collect();
        if !others.is_empty() {
            let shown = others.get(..NAMES_SHOWN).unwrap_or(&others);
            let mut text = format!("            and {}: {}", others.len(), shown.join(", "));
            if others.len() > shown.len() {
                text.push_str(" …");
            }
            out.line(&paint(DIM, &text))?;
        }
    }
    if !joint.is_empty() {
        out.line("")?;
    }
    // Objects that tell most kernels apart first; those that see every kernel alike are of no interest.
    let mut objects: Vec<(usize, &Classes)> = partition.by_object.iter().enumerate().collect();
    objects.retain(|(_, it)| it.first.len() > 1);
    objects.sort_by_key(|(number, it)| (std::cmp::Reverse(it.first.len()), *number));
    for (number, of_object) in objects.iter().take(OBJECTS_SHOWN) {
        let payloads = partition.payloads.get(*number).copied().unwrap_or(0);
        let object = inputs.name_of(*number);
        let count = format!("{:>4} {}", of_object.first.len(), "classes");
        let more = match payloads.cmp(&of_object.first.len()) {
            std::cmp::Ordering::Equal => String::new(),
            std::cmp::Ordering::Greater => format!(
                "  {}",
                paint(
                    WARN,
                    &format!("{payloads} payloads: it asks for type ids, which differ between kernels")
                )
            ),
            std::cmp::Ordering::Less => {
                format!("  {}", paint(WARN, &format!("{}: some end the load", plural(payloads, "payload"))))
            }
        };
        out.line(&format!("{count}  {object}{more}"))?;
    }
    if objects.len() > OBJECTS_SHOWN {
        out.line(&format!("… and {} more objects; --emit json has all", objects.len() - OBJECTS_SHOWN))?;
    }
    let alike = partition.by_object.len() - objects.len();
    if alike > 0 {
        out.line(&paint(DIM, &format!("{} see all kernels alike", plural(alike, "object"))))?;
    }
    out.line("")?;
    out.line(&format!(
        "{} on {}: {}, {} to boot{}, {} to sign",
        plural(inputs.objects.len(), "object"),
        plural(inputs.kernels.len(), "kernel"),
        if joint.len() == 1 { "1 class".to_owned() } else { format!("{} classes", joint.len()) },
        partition.cover.kernels.len(),
        if partition.cover.is_smallest { "" } else { " (perhaps not the fewest)" },
        plural(partition.payloads.iter().sum(), "payload"),
    ))
}

#[derive(Serialize)]
struct Report<'a> {
    v: u32,
    t: &'static str,
    classes: Vec<ClassEntry<'a>>,
    boot: Vec<&'a str>,
    boot_is_smallest: bool,
    payloads: usize,
    objects: Vec<ObjectEntry<'a>>,
    complete: bool,
}

#[derive(Serialize)]
struct ClassEntry<'a> {
    representative: &'a str,
    kernels: Vec<&'a str>,
}

#[derive(Serialize)]
struct ObjectEntry<'a> {
    object: &'a str,
    payloads: usize,
    classes: Vec<ClassEntry<'a>>,
}

fn entries<'a>(inputs: &'a Inputs<'_>, classes: &Classes) -> Vec<ClassEntry<'a>> {
    let entry = |kernels: Vec<usize>| {
        let kernels: Vec<&str> = kernels.iter().map(|it| name(inputs, *it)).collect();
        ClassEntry { representative: kernels.first().copied().unwrap_or_default(), kernels }
    };
    members(classes).into_iter().map(entry).collect()
}

fn json(out: &mut Output, inputs: &Inputs<'_>, partition: &Partition) -> Result<(), Failure> {
    let objects = inputs.objects.iter().map(|it| &it.name).zip(&partition.by_object).zip(&partition.payloads);
    let report = Report {
        v: 1,
        t: "classes",
        classes: entries(inputs, &partition.joint),
        boot: partition.cover.kernels.iter().map(|it| name(inputs, *it)).collect(),
        boot_is_smallest: partition.cover.is_smallest,
        payloads: partition.payloads.iter().sum(),
        objects: objects
            .map(|((object, classes), &payloads)| ObjectEntry {
                object,
                payloads,
                classes: entries(inputs, classes),
            })
            .collect(),
        complete: inputs.complete(),
    };
    let text = serde_json::to_string_pretty(&report).map_err(|it| Failure::System(it.to_string()))?;
    out.line(&text)
}

/// A target for each kernel to boot, in the format of vmtest's configuration. BTF does not say where the kernel's
/// image is, nor how to run the tests.
fn vmtest(out: &mut Output, inputs: &Inputs<'_>, partition: &Partition) -> Result<(), Failure> {
    out.line("# Kernels to boot so that every class is seen. Fill in the images, and the command that runs the tests.")?;
    for kernel in &partition.cover.kernels {
        let kernel = name(inputs, *kernel);
        let stem = kernel.rsplit('/').next().unwrap_or(kernel);
        let stem = stem.strip_suffix(".zst").unwrap_or(stem);
        let stem = stem.strip_suffix(".btf").unwrap_or(stem);
        out.line("\n[[target]]")?;
        out.line(&format!("name = {}", toml_string(kernel)))?;
        out.line(&format!("kernel = {}", toml_string(&format!("vmlinuz-{stem}"))))?;
        out.line("command = \"/mnt/vmtest/run-tests\"")?;
    }
    Ok(())
}

/// A basic string of TOML: JSON's escapes are among its own.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
