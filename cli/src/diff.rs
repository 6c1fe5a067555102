//! `btfleet diff`: what changed between two kernels.

use btfleet_engine::batch::Batch;
use btfleet_engine::diff::{self, Change, Part, PartView, Scope, What};
use btfleet_engine::explain::show_offset;
use btfleet_engine::format::btf::Kind;
use btfleet_engine::kernel::Kernel;
use serde::Serialize;

use crate::args::{DiffArgs, Format, InputArgs, ModulesArg};
use crate::load::{self, Inputs};
use crate::output::{BAD, DIM, Exit, Failure, GOOD, HEAD, Output, Progress, WARN, paint, plural, width};
use crate::rows::push_line;
use crate::text::{short_names, wrapped};

pub(crate) fn run(args: &DiffArgs) -> Result<Exit, Failure> {
    let batch = Batch::new(0).map_err(Failure::System)?;
    let input_args = InputArgs {
        objects: args.objects.clone(),
        kernels: vec![args.old.clone(), args.new.clone()],
        modules: ModulesArg::Each,
        jobs: 0,
        filter: None,
    };
    let files = load::read(&input_args, &batch)?;
    let inputs = load::parse(&files, &batch, None)?;
    let [old, new] = inputs.kernels.as_slice() else {
        if inputs.complete() {
            let count = plural(inputs.kernels.len(), "kernel");
            return Err(Failure::Usage(format!("diff compares two kernels; these are {count}")));
        }
        return Ok(Exit::NotJudged);
    };
    let scope = (!args.objects.is_empty()).then(|| Scope::of(&inputs.distinct, [old, new]));
    let progress = Progress::on("comparing the kernels");
    let changes = diff::diff(old, new, scope.as_ref());
    drop(progress);
    inputs.check_packs()?;
    let mut out = Output::new();
    match args.format {
        Format::Table => text(&mut out, &inputs, &changes, scope.is_some())?,
        Format::Jsonl => rows(&mut out, &inputs, &changes, [old, new], scope.is_some())?,
    }
    out.finish()?;
    Ok(if inputs.complete() { Exit::Fine } else { Exit::NotJudged })
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Func => "function",
        Kind::Var => "variable",
        Kind::Int | Kind::Float => "type",
        _ => kind.name(),
    }
}

fn title(change: &Change) -> String {
    let module = change.module.as_ref().map(|it| format!("  in module {it}")).unwrap_or_default();
    format!("{} {}{}", word(change.kind), paint(HEAD, &change.name), paint(DIM, &module))
}

fn show_view(view: &PartView) -> String {
    match view {
        PartView::Enumerator(value) => format!("= {}", value.cast_signed()),
        PartView::Member { bit_offset, bitfield_size, size, type_name } => {
            let size = match (bitfield_size, size) {
                (0, Some(size)) => format!(", {}", plural(*size as usize, "byte")),
                (0, None) => String::new(),
                (bits, _) => format!(", {}", plural(*bits as usize, "bit")),
            };
            format!("{type_name} at {}{size}", show_offset(*bit_offset))
        }
    }
}

fn show_part(part: &Part) -> String {
    let Part { name, old, new } = part;
    match (old, new) {
        (Some(old), None) => format!("    {} {name}: {}", paint(BAD, "-"), show_view(old)),
        (None, Some(new)) => format!("    {} {name}: {}", paint(GOOD, "+"), show_view(new)),
        (Some(old), Some(new)) if old == new => {
            format!("    {} {name}: {}, whose own layout changed", paint(WARN, "~"), show_view(old))
        }
        (Some(old), Some(new)) => {
            format!("    {} {name}: {} -> {}", paint(WARN, "~"), show_view(old), show_view(new))
        }
        (None, None) => String::new(),
    }
}

/// How much changed, and then what.
fn text(out: &mut Output, inputs: &Inputs<'_>, changes: &[Change], scoped: bool) -> Result<(), Failure> {
    let names = short_names(&inputs.kernel_names).join(" -> ");
    for line in wrapped(&names, width()) {
        out.line(&paint(HEAD, &line))?;
    }
    let [mut appeared, mut vanished, mut changed] = [0_usize; 3];
    for change in changes {
        match &change.what {
            What::Appeared => appeared += 1,
            What::Vanished => vanished += 1,
            What::Changed { .. } => changed += 1,
        }
    }
    let of = if scoped { " of what the objects depend on" } else { "" };
    out.prose(&format!("{appeared} appeared, {vanished} vanished, {changed} changed{of}"), 0)?;
    if let [old, new] = inputs.kernels.as_slice() {
        let (only_old, only_new) = diff::modules(old, new);
        for (what, names) in [("only the first has", only_old), ("only the second has", only_new)] {
            if !names.is_empty() {
                let count = plural(names.len(), "module");
                out.prose(&paint(DIM, &format!("{what} {count}: {}", names.join(", "))), 2)?;
            }
        }
    }
    if !changes.is_empty() {
        out.line("")?;
    }
    for change in changes {
        match &change.what {
            What::Appeared => out.row(&format!("{} {}", paint(GOOD, "+"), title(change)), 4)?,
            What::Vanished => out.row(&format!("{} {}", paint(BAD, "-"), title(change)), 4)?,
            What::Changed { size, declaration, parts } => {
                let size = size.map(|(old, new)| format!("  {old} -> {new} bytes")).unwrap_or_default();
                out.row(&format!("{} {}{size}", paint(WARN, "~"), title(change)), 4)?;
                if let Some((old, new)) = declaration {
                    out.row(&format!("    {} {old}", paint(BAD, "-")), 8)?;
                    out.row(&format!("    {} {new}", paint(GOOD, "+")), 8)?;
                }
                parts.iter().try_for_each(|it| out.row(&show_part(it), 8))?;
            }
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct DiffRow<'a> {
    v: u32,
    t: &'static str,
    what: &'static str,
    kind: &'static str,
    name: &'a str,
    module: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<(u32, u32)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    declaration: Option<&'a (String, String)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<PartRow<'a>>,
}

#[derive(Serialize)]
struct PartRow<'a> {
    name: &'a str,
    old: Option<ViewRow<'a>>,
    new: Option<ViewRow<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ViewRow<'a> {
    Member { bit_offset: u32, bitfield_size: u32, size: Option<u32>, r#type: &'a str },
    Enumerator { value: String },
}

#[derive(Serialize)]
struct End<'a> {
    v: u32,
    t: &'static str,
    complete: bool,
    old: &'a str,
    new: &'a str,
    restricted: bool,
    modules_only_old: Vec<&'a str>,
    modules_only_new: Vec<&'a str>,
    rows: usize,
}

impl<'a> ViewRow<'a> {
    fn new(view: &'a PartView) -> Self {
        match view {
            // Unsigned, as a string: numbers of JSON lose bits.
            PartView::Enumerator(value) => Self::Enumerator { value: value.to_string() },
            PartView::Member { bit_offset, bitfield_size, size, type_name } => Self::Member {
                bit_offset: *bit_offset,
                bitfield_size: *bitfield_size,
                size: *size,
                r#type: type_name,
            },
        }
    }
}

fn rows(
    out: &mut Output,
    inputs: &Inputs<'_>,
    changes: &[Change],
    [old, new]: [&Kernel<'_>; 2],
    restricted: bool,
) -> Result<(), Failure> {
    for change in changes {
        let mut row = DiffRow {
            v: 1,
            t: "diff",
            what: "changed",
            kind: change.kind.name(),
            name: &change.name,
            module: change.module.as_deref(),
            size: None,
            declaration: None,
            parts: Vec::new(),
        };
        match &change.what {
            What::Appeared => row.what = "appeared",
            What::Vanished => row.what = "vanished",
            What::Changed { size, declaration, parts } => {
                row.size = *size;
                row.declaration = declaration.as_ref();
                row.parts = parts
                    .iter()
                    .map(|it| PartRow {
                        name: &it.name,
                        old: it.old.as_ref().map(ViewRow::new),
                        new: it.new.as_ref().map(ViewRow::new),
                    })
                    .collect();
            }
        }
        let mut line = Vec::new();
        push_line(&mut line, &row);
        out.write(&line)?;
    }
    let (modules_only_old, modules_only_new) = diff::modules(old, new);
    let name = |at: usize| inputs.kernel_names.get(at).copied().unwrap_or_default();
    let mut line = Vec::new();
    push_line(
        &mut line,
        &End {
            v: 1,
            t: "end",
            complete: inputs.complete(),
            old: name(0),
            new: name(1),
            restricted,
            modules_only_old,
            modules_only_new,
            rows: changes.len(),
        },
    );
    out.write(&line)
}
