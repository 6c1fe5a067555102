//! JSON Lines, and the same rows as one document.

use btfleet_engine::embed::Refusal;
use btfleet_engine::ingest::InputError;
use btfleet_engine::report::Verdicts;

use super::{Context, Ended, Piece, Report};
use crate::rows::{EndRow, InputRow, PairRow, VerdictRow, push_line};

/// A row a line.
pub(super) struct Lines<'a>(pub(super) &'a Context<'a>);

impl Report for Lines<'_> {
    fn defect(&self, defect: &InputError) -> Vec<u8> {
        let mut line = Vec::new();
        push_line(&mut line, &InputRow::new(defect));
        line
    }

    fn object(&self, number: usize, verdicts: &Verdicts) -> Piece {
        self.lines(number, verdicts).into()
    }

    fn end(&self, ended: &Ended<'_>) -> Piece {
        self.last(ended).into()
    }
}

impl Lines<'_> {
    /// The rows of an object.
    pub(super) fn lines(&self, number: usize, verdicts: &Verdicts) -> Vec<u8> {
        let Context { inputs, loaders, project, hashes, .. } = self.0;
        let mut text = Vec::new();
        let Some(object) = inputs.object(number) else { return text };
        let name = inputs.name_of(number);
        let hash = hashes.get(inputs.distinct_of(number)).map_or("", String::as_str);
        for (kernel, &kernel_name) in inputs.kernel_names.iter().enumerate() {
            match self.0.on(number, kernel, verdicts) {
                Err(Refusal { code, why, .. }) => {
                    push_line(&mut text, &PairRow::new(name, kernel_name, code, why));
                }
                Ok(verdicts) => {
                    for verdict in verdicts {
                        let needs = loaders.is_libbpf();
                        let row = VerdictRow::new(name, hash, kernel_name, object, verdict, needs, project);
                        if let Some(row) = row {
                            push_line(&mut text, &row);
                        }
                    }
                }
            }
        }
        text
    }

    /// The rows that are known at the end.
    fn last(&self, ended: &Ended<'_>) -> Vec<u8> {
        let inputs = self.0.inputs;
        let mut line = ended.weighed.map_or(Vec::new(), |it| it.rows(inputs));
        let rows = ended.rows + line.iter().filter(|it| **it == b'\n').count();
        let end = EndRow::new(ended.complete, inputs.objects.len(), inputs.kernels.len(), rows);
        push_line(&mut line, &end.modelling(self.0.loaders.models()));
        line
    }
}

/// One document: `{"v":1,"rows":[...]}` with the rows of JSON Lines, that of the end included.
pub(super) struct Document<'a>(pub(super) Lines<'a>);

impl Report for Document<'_> {
    fn start(&self) -> Vec<u8> {
        b"{\"v\":1,\"rows\":[".to_vec()
    }

    fn defect(&self, defect: &InputError) -> Vec<u8> {
        elements(&self.0.defect(defect))
    }

    fn object(&self, number: usize, verdicts: &Verdicts) -> Piece {
        elements(&self.0.lines(number, verdicts)).into()
    }

    fn end(&self, ended: &Ended<'_>) -> Piece {
        // The row of the end is always there: it is the one without a comma behind it.
        let rows = elements(&self.0.last(ended));
        [rows.strip_suffix(b",").unwrap_or(&rows), b"\n]}\n"].concat().into()
    }
}

/// Lines as elements of an array, each on a line of its own with a comma behind it.
fn elements(lines: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(lines.len() + lines.len() / 64);
    for line in lines.split(|it| *it == b'\n').filter(|it| !it.is_empty()) {
        out.push(b'\n');
        out.extend(line);
        out.push(b',');
    }
    out
}
