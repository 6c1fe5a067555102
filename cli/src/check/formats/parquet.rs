//! Parquet: the rows of CSV, by columns. Cells that are empty there are null here.
//!
//! Rows of an object are collected by several threads at once, with numbers in place of texts, and written in order: a
//! row group whenever there are enough of them.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use btfleet_engine::report::Verdicts;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::flat::{COLUMNS, Kind, Value, each_row};
use super::{Context, Ended, Piece, Report};

/// Rows of a row group, at least, but for the last one. What is read at once, and what is held in memory.
const GROUP: usize = 1 << 17;

/// In place of a number, where there is nothing.
const NULL: i64 = -1;

pub(super) struct Parquet<'a>(pub(super) &'a Context<'a>);

impl Report for Parquet<'_> {
    fn object(&self, number: usize, verdicts: &Verdicts) -> Piece {
        let mut rows = Rows::default();
        let mut numbers: HashMap<String, i64> = HashMap::new();
        each_row(self.0, number, verdicts, |row| {
            for (column, value) in rows.columns.iter_mut().zip(row) {
                column.push(match value {
                    Value::Text("") | Value::Flag(None) | Value::Number(None) => NULL,
                    Value::Flag(Some(flag)) => flag.into(),
                    Value::Number(Some(number)) => number.into(),
                    Value::Text(text) => match numbers.get(text) {
                        Some(number) => *number,
                        None => {
                            let number = i64::try_from(rows.texts.len()).unwrap_or(NULL);
                            rows.texts.push(text.to_owned());
                            numbers.insert(text.to_owned(), number);
                            number
                        }
                    },
                });
            }
        });
        Piece::Rows(Box::new(rows))
    }

    fn end(&self, ended: &Ended<'_>) -> Piece {
        Piece::Facts(vec![
            ("btfleet.v", "1".to_owned()),
            ("btfleet.models", self.0.loaders.models().to_owned()),
            ("btfleet.complete", ended.complete.to_string()),
        ])
    }
}

/// Rows by columns.
#[derive(Default)]
pub(in crate::check) struct Rows {
    /// Numbers of texts, or what numbers and flags are; [`NULL`] for nothing.
    columns: [Vec<i64>; COLUMNS.len()],
    texts: Vec<String>,
}

impl Rows {
    fn len(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }
}

/// A file that is being written.
pub(super) struct Table<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    /// Rows that are not written.
    rows: Rows,
    /// Numbers of their texts.
    numbers: HashMap<String, i64>,
}

impl<W: Write + Send> Table<W> {
    pub(super) fn new(to: W) -> io::Result<Self> {
        let columns = COLUMNS.map(|(name, kind)| match kind {
            Kind::Text => format!("OPTIONAL BYTE_ARRAY {name} (STRING);"),
            Kind::Flag => format!("OPTIONAL BOOLEAN {name};"),
            Kind::Number => format!("OPTIONAL INT64 {name};"),
        });
        let schema = format!("message check {{ {} }}", columns.join(" "));
        let schema = parse_message_type(&schema).map_err(failed)?;
        let properties = WriterProperties::builder()
            .set_created_by(concat!("btfleet version ", env!("CARGO_PKG_VERSION")).into())
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let writer = SerializedFileWriter::new(to, Arc::new(schema), Arc::new(properties)).map_err(failed)?;
        Ok(Self { writer, rows: Rows::default(), numbers: HashMap::new() })
    }

    /// Adds rows behind the others.
    pub(super) fn add(&mut self, rows: Rows) -> io::Result<()> {
        let texts = &mut self.rows.texts;
        let of_texts: Vec<i64> = rows
            .texts
            .into_iter()
            .map(|text| {
                *self.numbers.entry(text).or_insert_with_key(|text| {
                    texts.push(text.clone());
                    i64::try_from(texts.len() - 1).unwrap_or(NULL)
                })
            })
            .collect();
        for ((column, (_, kind)), more) in self.rows.columns.iter_mut().zip(COLUMNS).zip(rows.columns) {
            match kind {
                Kind::Text => {
                    column.extend(more.into_iter().map(|it| at(&of_texts, it).copied().unwrap_or(NULL)))
                }
                Kind::Flag | Kind::Number => column.extend(more),
            }
        }
        if self.rows.len() >= GROUP { self.write_group() } else { Ok(()) }
    }

    /// Says something of the file as a whole.
    pub(super) fn say(&mut self, facts: Vec<(&'static str, String)>) {
        for (key, value) in facts {
            self.writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
    }

    /// Writes what is left.
    pub(super) fn finish(mut self) -> io::Result<W> {
        if self.rows.len() > 0 {
            self.write_group()?;
        }
        self.writer.into_inner().map_err(failed)
    }

    fn write_group(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        self.numbers.clear();
        let texts: Vec<ByteArray> = rows.texts.into_iter().map(|it| it.into_bytes().into()).collect();
        let mut group = self.writer.next_row_group().map_err(failed)?;
        for (column, (_, kind)) in rows.columns.iter().zip(COLUMNS) {
            let is_there: Vec<i16> = column.iter().map(|it| i16::from(*it != NULL)).collect();
            let levels = Some(is_there.as_slice());
            let there = column.iter().copied().filter(|it| *it != NULL);
            let Some(mut writer) = group.next_column().map_err(failed)? else { break };
            let written = match kind {
                Kind::Text => {
                    let values: Vec<ByteArray> = there.filter_map(|it| at(&texts, it)).cloned().collect();
                    writer.typed::<ByteArrayType>().write_batch(&values, levels, None)
                }
                Kind::Flag => {
                    let values: Vec<bool> = there.map(|it| it != 0).collect();
                    writer.typed::<BoolType>().write_batch(&values, levels, None)
                }
                Kind::Number => {
                    let values: Vec<i64> = there.collect();
                    writer.typed::<Int64Type>().write_batch(&values, levels, None)
                }
            };
            written.map_err(failed)?;
            writer.close().map_err(failed)?;
        }
        group.close().map_err(failed)?;
        Ok(())
    }
}

/// What a number of a text stands for.
fn at<T>(texts: &[T], number: i64) -> Option<&T> {
    texts.get(usize::try_from(number).ok()?)
}

/// The error of what is written to, where there is one in it: a closed pipe is told from a full disk.
fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    use super::*;

    /// Rows of one object: a text, and a number that is there in every other row.
    fn rows(object: usize, len: usize) -> Rows {
        let mut rows = Rows { texts: vec![format!("object {object}"), "ok".to_owned()], ..Rows::default() };
        for row in 0..len {
            for (column, (name, _)) in rows.columns.iter_mut().zip(COLUMNS) {
                column.push(match name {
                    "object" => 0,
                    "verdict" => 1,
                    "autoload" => i64::from(row % 3 == 0),
                    "line" if row % 2 == 0 => i64::try_from(row).unwrap(),
                    _ => NULL,
                });
            }
        }
        rows
    }

    /// Check that rows come back as they were, over several row groups whose texts have numbers of their own.
    #[test]
    fn rows_come_back() {
        let mut table = Table::new(Vec::new()).unwrap();
        let (objects, len) = (5, GROUP / 2 + 7);
        for object in 0..objects {
            table.add(rows(object, len)).unwrap();
        }
        table.say(vec![("key", "value".to_owned())]);
        let bytes = table.finish().unwrap();
        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
        assert_eq!(reader.num_row_groups(), 3);
        let facts = reader.metadata().file_metadata().key_value_metadata().unwrap();
        assert_eq!(facts, &[KeyValue::new("key".to_owned(), "value".to_owned())]);
        let place = |name| COLUMNS.iter().position(|it| it.0 == name).unwrap();
        let (object, verdict, autoload, line, code) =
            (place("object"), place("verdict"), place("autoload"), place("line"), place("code"));
        let mut count = 0;
        for (number, row) in reader.get_row_iter(None).unwrap().enumerate() {
            let (row, at) = (row.unwrap(), number % len);
            assert_eq!(row.get_string(object).unwrap(), &format!("object {}", number / len));
            assert_eq!(row.get_string(verdict).unwrap(), "ok");
            assert_eq!(row.get_bool(autoload).unwrap(), at % 3 == 0);
            let want = (at % 2 == 0).then(|| i64::try_from(at).unwrap());
            assert_eq!(row.get_long(line).ok(), want);
            assert!(row.get_string(code).is_err(), "there is none");
            count += 1;
        }
        assert_eq!(count, objects * len);
    }

    /// Check that an error of the disk is told as it is.
    #[test]
    fn errors_of_writing_are_told() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let result = Table::new(Full).and_then(|mut table| {
            table.add(rows(0, 10))?;
            table.finish()
        });
        assert_eq!(result.err().map(|it| it.kind()), Some(io::ErrorKind::StorageFull));
    }
}
