//! Findings as rows of a table, for formats that have nothing but tables.

use btfleet_engine::report::{self, Verdicts};

use super::Context;

/// What a column has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Flag,
    Number,
}

/// What stands in a cell.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// Empty: there is none.
    Text(&'a str),
    Flag(Option<bool>),
    Number(Option<u32>),
}

/// The columns, in order.
pub(super) const COLUMNS: [(&str, Kind); 16] = [
    ("object", Kind::Text),
    ("program", Kind::Text),
    ("section", Kind::Text),
    ("kernel", Kind::Text),
    ("release", Kind::Text),
    ("distribution", Kind::Text),
    ("arch", Kind::Text),
    ("autoload", Kind::Flag),
    ("verdict", Kind::Text),
    ("code", Kind::Text),
    ("effect", Kind::Text),
    ("insn_off", Kind::Number),
    ("about", Kind::Text),
    ("file", Kind::Text),
    ("line", Kind::Number),
    ("message", Kind::Text),
];

/// A row: cells in the order of [`COLUMNS`].
pub(super) type Row<'a> = [Value<'a>; COLUMNS.len()];

/// Visits the rows of an object: one for each finding of a program on a kernel, one for a program without, and one for a
/// kernel that it is not judged on.
pub(super) fn each_row(
    context: &Context<'_>,
    number: usize,
    verdicts: &Verdicts,
    mut visit: impl FnMut(Row<'_>),
) {
    use Value::{Flag, Number, Text};
    let inputs = context.inputs;
    let Some(object) = inputs.object(number) else { return };
    let name = Text(inputs.name_of(number));
    for (kernel, (&kernel_name, facts)) in
        inputs.kernel_names.iter().zip(inputs.kernels.iter().map(|it| &it.facts)).enumerate()
    {
        let of_kernel = [kernel_name, &facts.release, &facts.distribution, &facts.architecture].map(Text);
        let [kernel_name, release, distribution, arch] = of_kernel;
        let none = Text("");
        let verdicts = match context.on(number, kernel, verdicts) {
            Ok(verdicts) => verdicts,
            Err(refusal) => {
                let (verdict, code, why) = (Text("not-judged"), Text(refusal.code), Text(refusal.why));
                let unknown = (Flag(None), Number(None));
                #[rustfmt::skip]
                visit([
                    name, none, none, kernel_name, release, distribution, arch, unknown.0, verdict, code, none,
                    unknown.1, none, none, unknown.1, why,
                ]);
                continue;
            }
        };
        for verdict in verdicts {
            let Some(row) = report::VerdictRow::new(object, verdict, context.loaders.is_libbpf()) else {
                continue;
            };
            let (program, section) = (Text(&row.program), Text(&row.section));
            let (autoload, verdict) = (Flag(Some(row.autoload)), Text(row.verdict.name()));
            let mut with = |[code, effect, about, file, message]: [&str; 5], insn_off, line| {
                let [code, effect, about, file, message] = [code, effect, about, file, message].map(Text);
                #[rustfmt::skip]
                visit([
                    name, program, section, kernel_name, release, distribution, arch, autoload, verdict, code, effect,
                    Number(insn_off), about, file, Number(line), message,
                ]);
            };
            for finding in &row.findings {
                let about = finding.path.as_deref().or(finding.subject).or(finding.root.as_deref());
                let file = finding.file.as_deref().unwrap_or_default();
                let texts = [finding.code, finding.effect, about.unwrap_or_default(), file, finding.message];
                with(texts, finding.insn_off, finding.line);
            }
            if row.findings.is_empty() {
                with([""; 5], None, None);
            }
        }
    }
}
