//! CSV as RFC 4180 has it: a line for each finding, or one without for a program that has none.

use btfleet_engine::report::{self, Verdicts};

use super::{Context, Ended, Report};

/// Names of the columns.
const COLUMNS: &str = "object,program,section,kernel,release,distribution,arch,autoload,verdict,code,effect,insn_off,\
                       about,file,line,message\r\n";

pub(super) struct Csv<'a>(pub(super) &'a Context<'a>);

impl Report for Csv<'_> {
    fn start(&self) -> Vec<u8> {
        COLUMNS.into()
    }

    fn object(&self, number: usize, verdicts: &Verdicts) -> Vec<u8> {
        let inputs = self.0.inputs;
        let mut out = Vec::new();
        let Some(object) = inputs.object(number) else { return out };
        let kernels = inputs.kernel_names.iter().zip(&inputs.kernels).enumerate();
        for (number_of_kernel, (&kernel_name, kernel)) in kernels {
            let refused;
            let verdicts = match self.0.on(number, number_of_kernel, verdicts) {
                Ok(verdicts) => verdicts,
                Err(refusal) => {
                    refused = refusal;
                    let empty = "";
                    let facts = &kernel.facts;
                    let head = [inputs.name_of(number), empty, empty, kernel_name, &facts.release];
                    let rest =
                        [facts.distribution.as_str(), &facts.architecture, empty, "not-judged", refused.code];
                    let last = [empty, empty, empty, empty, empty, refused.why];
                    line(&mut out, head.into_iter().chain(rest).chain(last));
                    continue;
                }
            };
            for verdict in verdicts {
                let Some(row) = report::VerdictRow::new(object, verdict, self.0.loaders.is_libbpf()) else {
                    continue;
                };
                let facts = &kernel.facts;
                let autoload = if row.autoload { "true" } else { "false" };
                let head = [inputs.name_of(number), &row.program, &row.section, kernel_name, &facts.release];
                let more = [facts.distribution.as_str(), &facts.architecture, autoload, row.verdict.name()];
                let head: Vec<&str> = head.into_iter().chain(more).collect();
                for finding in &row.findings {
                    let number = |it: Option<u32>| it.map(|it| it.to_string()).unwrap_or_default();
                    let (insn_off, file_line) = (number(finding.insn_off), number(finding.line));
                    let about = finding.path.as_deref().or(finding.subject).or(finding.root.as_deref());
                    let file = finding.file.as_deref().unwrap_or_default();
                    let cells = [
                        finding.code,
                        finding.effect,
                        &insn_off,
                        about.unwrap_or_default(),
                        file,
                        &file_line,
                        finding.message,
                    ];
                    line(&mut out, head.iter().copied().chain(cells));
                }
                if row.findings.is_empty() {
                    line(&mut out, head.iter().copied().chain([""; 7]));
                }
            }
        }
        out
    }

    fn end(&self, _: &Ended<'_>) -> Vec<u8> {
        Vec::new()
    }
}

fn line<'a>(out: &mut Vec<u8>, cells: impl Iterator<Item = &'a str>) {
    for (number, cell) in cells.enumerate() {
        if number > 0 {
            out.push(b',');
        }
        if cell.contains(['"', ',', '\r', '\n']) {
            out.push(b'"');
            out.extend(cell.replace('"', "\"\"").bytes());
            out.push(b'"');
        } else {
            out.extend(cell.bytes());
        }
    }
    out.extend(b"\r\n");
}
