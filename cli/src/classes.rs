//! `btfleet classes`: kernels that some objects cannot tell apart.

use btfleet_engine::batch::{Batch, Classes, Run};
use btfleet_engine::dialect::Loader;
use btfleet_engine::report::{Partition, classes};
use serde::Serialize;

use crate::args::{ClassesArgs, Emit};
use crate::load::{self, Inputs};
use crate::output::{
    DIM, Exit, Failure, GOOD, HEAD, Output, Progress, WARN, paint, plural, row_width, width,
};
use crate::text::{beside, columns, short_names, some_of, wrapped};

/// Names of kernels of a class, and objects, before it says how many more there are.
const NAMES_SHOWN: usize = 6;
const OBJECTS_SHOWN: usize = 30;

pub(crate) fn run(args: &ClassesArgs) -> Result<Exit, Failure> {
    let batch = Batch::new(args.inputs.jobs).map_err(Failure::System)?;
    let files = load::read(&args.inputs, &batch)?;
    let inputs = load::parse(&files, &batch, args.inputs.filter.as_ref())?;
    let loaders = vec![Loader::Libbpf; inputs.kernels.len()];
    let progress = Progress::on("telling kernels apart");
    let run = Run::new(&batch, &inputs.distinct, &inputs.kernels, &loaders, args.inputs.modules.into());
    let mut partition = classes(&batch, &run, &inputs.distinct);
    drop(progress);
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

/// How many there are of each, which kernels are alike, and which objects tell them apart.
fn table(out: &mut Output, inputs: &Inputs<'_>, partition: &Partition) -> Result<(), Failure> {
    let joint = members(&partition.joint);
    let counts = format!(
        "{} on {}: {}, {} to boot{}, {} to sign",
        plural(inputs.objects.len(), "object"),
        plural(inputs.kernels.len(), "kernel"),
        class_count(joint.len()),
        partition.cover.kernels.len(),
        if partition.cover.is_smallest { "" } else { " (perhaps not the fewest)" },
        plural(partition.payloads.iter().sum(), "payload"),
    );
    for line in wrapped(&counts, width()) {
        out.line(&paint(HEAD, &line))?;
    }
    if !joint.is_empty() {
        out.line("")?;
    }
    let names = short_names(&inputs.kernel_names);
    let name = |kernel: &usize| names.get(*kernel).map_or("", String::as_str);
    let number_width = format!("C{}", joint.len()).len();
    for (number, kernels) in joint.iter().enumerate() {
        let boots = kernels.iter().any(|it| partition.cover.kernels.contains(it));
        let mark = if boots { paint(GOOD, "boot") } else { "    ".to_owned() };
        let head = format!("{mark}  {:<number_width$}  ", format!("C{}", number + 1));
        for line in beside(&head, kernels.first().map_or("", name), row_width()) {
            out.line(&line)?;
        }
        let others: Vec<&str> = kernels.iter().skip(1).map(name).collect();
        if !others.is_empty() {
            let indent = if columns(&head) * 2 > width() { 2 } else { columns(&head) };
            let text = format!("and {}: {}", others.len(), some_of(&others, NAMES_SHOWN));
            for line in wrapped(&text, width() - indent) {
                out.line(&paint(DIM, &format!("{:indent$}{line}", "")))?;
            }
        }
    }
    // Objects that tell most kernels apart first; those that see every kernel alike are of no interest.
    let mut objects: Vec<(usize, &Classes)> = partition.by_object.iter().enumerate().collect();
    objects.retain(|(_, it)| it.first.len() > 1);
    objects.sort_by_key(|(number, it)| (std::cmp::Reverse(it.first.len()), *number));
    if !partition.by_object.is_empty() {
        out.line("")?;
    }
    let names = short_names(&inputs.objects);
    for (number, of_object) in objects.iter().take(OBJECTS_SHOWN) {
        let head = format!("{:>4} classes  ", of_object.first.len());
        let object = names.get(*number).map_or("", String::as_str);
        let payloads = partition.payloads.get(*number).copied().unwrap_or(0);
        let more = match payloads.cmp(&of_object.first.len()) {
            std::cmp::Ordering::Equal => String::new(),
            std::cmp::Ordering::Greater => {
                format!("{payloads} payloads: it asks for type ids, which differ between kernels")
            }
            std::cmp::Ordering::Less => format!("{}: some end the load", plural(payloads, "payload")),
        };
        let line = format!("{head}{object}  {}", paint(WARN, &more));
        if !more.is_empty() && columns(&line) <= row_width() {
            out.line(&line)?;
            continue;
        }
        beside(&head, object, row_width()).iter().try_for_each(|it| out.line(it))?;
        if !more.is_empty() {
            out.prose(&format!("      {}", paint(WARN, &more)), 6)?;
        }
    }
    if objects.len() > OBJECTS_SHOWN {
        let more = plural(objects.len() - OBJECTS_SHOWN, "more object");
        out.prose(&format!("… and {more}; --emit json has all"), 0)?;
    }
    match partition.by_object.len() - objects.len() {
        0 => Ok(()),
        1 => out.prose(&paint(DIM, "1 object sees all kernels alike"), 0),
        alike => out.prose(&paint(DIM, &format!("{alike} objects see all kernels alike")), 0),
    }
}

fn class_count(count: usize) -> String {
    if count == 1 { "1 class".to_owned() } else { format!("{count} classes") }
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
    out.write(text.as_bytes())?;
    out.line("")
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
        out.line("")?;
        out.line("[[target]]")?;
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
