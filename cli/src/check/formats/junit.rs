//! JUnit's XML: a suite for each object, a test case for each program on each kernel.

use std::fmt::Write;

use btfleet_engine::ingest::InputError;
use btfleet_engine::report::{Verdict, Verdicts};

use super::{Context, Ended, Piece, Report, program_name};

pub(super) struct Junit<'a>(pub(super) &'a Context<'a>);

impl Report for Junit<'_> {
    fn start(&self) -> Vec<u8> {
        b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"btfleet check\">\n".to_vec()
    }

    fn defect(&self, defect: &InputError) -> Vec<u8> {
        if defect.code.is_remark() {
            return Vec::new();
        }
        let (path, what) = (escaped(&defect.path.to_string_lossy()), escaped(&defect.what));
        let code = defect.code.name();
        format!(
            "<testsuite name=\"{path}\" tests=\"1\" failures=\"0\" errors=\"1\" skipped=\"0\">\n\
             <testcase classname=\"{path}\" name=\"input\"><error type=\"{code}\" message=\"{what}\"/></testcase>\n\
             </testsuite>\n"
        )
        .into_bytes()
    }

    fn object(&self, number: usize, verdicts: &Verdicts) -> Piece {
        let inputs = self.0.inputs;
        let Some(object) = inputs.object(number) else { return Vec::new().into() };
        let name = escaped(inputs.name_of(number));
        let (mut cases, mut counts) = (String::new(), [0_usize; 4]);
        let mut case = |class: &str, kernel: &str, kind: usize, result: &str| {
            for (place, count) in counts.iter_mut().enumerate() {
                *count += usize::from(place == 0 || place == kind);
            }
            let kernel = escaped(kernel);
            // There is enough memory for it, or the process ends.
            let _ = writeln!(cases, "<testcase classname=\"{class}\" name=\"{kernel}\">{result}</testcase>");
        };
        for (kernel, &kernel_name) in inputs.kernel_names.iter().enumerate() {
            let verdicts = match self.0.on(number, kernel, verdicts) {
                Ok(verdicts) => verdicts,
                Err(refusal) => {
                    let why = format!("<skipped message=\"{}\"/>", escaped(refusal.why));
                    case(&name, kernel_name, 3, &why);
                    continue;
                }
            };
            for verdict in verdicts {
                let class = format!("{name}.{}", escaped(&program_name(object, verdict)));
                let found = verdict.findings.iter().filter(|it| it.verdict > Verdict::Ok);
                let text: Vec<String> = found
                    .map(|it| {
                        format!("{} {}: {}", it.code, crate::project::what_about(object, it), it.message)
                    })
                    .collect();
                let first = escaped(text.first().map_or("", String::as_str));
                let (kind, element) = match verdict.verdict {
                    Verdict::FailAttach | Verdict::FailSymbol | Verdict::FailReloc => (1, "failure"),
                    Verdict::Unknown => (2, "error"),
                    _ => (0, "system-out"),
                };
                let all = escaped(&text.join("\n"));
                let result = match kind {
                    0 if text.is_empty() => String::new(),
                    0 => format!("<{element}>{all}</{element}>"),
                    _ => {
                        let verdict = verdict.verdict.name();
                        format!("<{element} type=\"{verdict}\" message=\"{first}\">{all}</{element}>")
                    }
                };
                case(&class, kernel_name, kind, &result);
            }
        }
        let [tests, failures, errors, skipped] = counts;
        format!(
            "<testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" \
             skipped=\"{skipped}\">\n{cases}</testsuite>\n"
        )
        .into_bytes()
        .into()
    }

    fn end(&self, _: &Ended<'_>) -> Piece {
        b"</testsuites>\n".to_vec().into()
    }
}

/// Text for XML. What XML cannot have at all becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for it in text.chars() {
        match it {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' | '\r' => out.push(' '),
            it if it < ' ' || matches!(it, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            it => out.push(it),
        }
    }
    out
}
