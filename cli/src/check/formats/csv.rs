//! CSV as RFC 4180 has it: a line for each finding, or one without for a program that has none.

use btfleet_engine::report::Verdicts;

use super::flat::{COLUMNS, Value, each_row};
use super::{Context, Ended, Piece, Report};

pub(super) struct Csv<'a>(pub(super) &'a Context<'a>);

impl Report for Csv<'_> {
    fn start(&self) -> Vec<u8> {
        let names = COLUMNS.map(|it| it.0);
        format!("{}\r\n", names.join(",")).into_bytes()
    }

    fn object(&self, number: usize, verdicts: &Verdicts) -> Piece {
        let mut out = Vec::new();
        each_row(self.0, number, verdicts, |row| {
            for (place, value) in row.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                push(&mut out, *value);
            }
            out.extend(b"\r\n");
        });
        out.into()
    }

    fn end(&self, _: &Ended<'_>) -> Piece {
        Vec::new().into()
    }
}

fn push(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Text(text) if text.contains(['"', ',', '\r', '\n']) => {
            out.push(b'"');
            out.extend(text.replace('"', "\"\"").bytes());
            out.push(b'"');
        }
        Value::Text(text) => out.extend(text.bytes()),
        Value::Flag(Some(flag)) => out.extend(if flag { "true" } else { "false" }.bytes()),
        Value::Number(Some(number)) => out.extend(number.to_string().bytes()),
        Value::Flag(None) | Value::Number(None) => {}
    }
}
