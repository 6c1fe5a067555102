//! Rows to Arrow's columns.

use std::sync::Arc;

use arrow_array::types::ArrowPrimitiveType;
use arrow_array::{
    Array, ArrayRef, BooleanArray, LargeBinaryArray, LargeListArray, LargeStringArray, PrimitiveArray,
    StructArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{Field, Fields};

/// Columns of some rows, as many values each as there are rows. Text, bytes and lists have 64-bit offsets: however many
/// rows there are, they are not too many.
#[derive(Debug)]
pub(crate) struct Columns<'r, R> {
    rows: &'r [R],
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
}

impl<'r, R> Columns<'r, R> {
    /// None yet of these rows.
    pub(crate) fn of(rows: &'r [R]) -> Self {
        Self { rows, fields: Vec::new(), arrays: Vec::new() }
    }

    /// Adds a column. Any may have nulls, so that the schema says the same of all rows there will ever be.
    fn add(mut self, name: &str, array: impl Array + 'static) -> Self {
        self.fields.push(Field::new(name, array.data_type().clone(), true));
        self.arrays.push(Arc::new(array));
        self
    }

    /// Adds one of text.
    pub(crate) fn text<S: AsRef<str>>(self, name: &str, of: impl Fn(&'r R) -> Option<S>) -> Self {
        let array: LargeStringArray = self.rows.iter().map(of).collect();
        self.add(name, array)
    }

    /// Adds one of numbers.
    pub(crate) fn number<T: ArrowPrimitiveType>(
        self,
        name: &str,
        of: impl Fn(&'r R) -> Option<T::Native>,
    ) -> Self {
        let array: PrimitiveArray<T> = self.rows.iter().map(of).collect();
        self.add(name, array)
    }

    /// Adds one of truths.
    pub(crate) fn truth(self, name: &str, of: impl Fn(&'r R) -> Option<bool>) -> Self {
        let array: BooleanArray = self.rows.iter().map(of).collect();
        self.add(name, array)
    }

    /// Adds one of bytes.
    pub(crate) fn bytes<B: AsRef<[u8]>>(self, name: &str, of: impl Fn(&'r R) -> Option<B>) -> Self {
        let array: LargeBinaryArray = self.rows.iter().map(of).collect();
        self.add(name, array)
    }

    /// Adds one of lists of text.
    pub(crate) fn texts<S: AsRef<str>>(self, name: &str, of: impl Fn(&'r R) -> Vec<S>) -> Self {
        let lists: Vec<Vec<S>> = self.rows.iter().map(of).collect();
        let items: LargeStringArray = lists.iter().flatten().map(Some).collect();
        self.list(name, lists.iter().map(Vec::len), items)
    }

    /// Adds one of lists of rows, which have the columns that `columns` makes.
    pub(crate) fn lists<C>(
        self,
        name: &str,
        of: impl Fn(&'r R) -> Vec<C>,
        columns: impl Fn(Columns<'_, C>) -> StructArray,
    ) -> Self {
        let mut items = Vec::new();
        let mut lens = Vec::new();
        for row in self.rows {
            let of_row = of(row);
            lens.push(of_row.len());
            items.extend(of_row);
        }
        let items = columns(Columns::of(&items));
        self.list(name, lens, items)
    }

    /// Adds one of rows that have the columns that `columns` makes, or null.
    pub(crate) fn optional<C>(
        self,
        name: &str,
        of: impl Fn(&'r R) -> Option<C>,
        columns: impl Fn(Columns<'_, Option<C>>) -> StructArray,
    ) -> Self {
        let items: Vec<Option<C>> = self.rows.iter().map(of).collect();
        let nulls: NullBuffer = items.iter().map(Option::is_some).collect();
        let (fields, arrays, _) = columns(Columns::of(&items)).into_parts();
        self.add(name, structs(fields, arrays, Some(nulls), items.len()))
    }

    fn list(self, name: &str, lens: impl IntoIterator<Item = usize>, items: impl Array + 'static) -> Self {
        let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
        let array = LargeListArray::new(field, OffsetBuffer::from_lengths(lens), Arc::new(items), None);
        self.add(name, array)
    }

    /// All of them.
    pub(crate) fn end(self) -> StructArray {
        structs(self.fields.into(), self.arrays, None, self.rows.len())
    }
}

fn structs(fields: Fields, arrays: Vec<ArrayRef>, nulls: Option<NullBuffer>, len: usize) -> StructArray {
    StructArray::try_new_with_length(fields, arrays, nulls, len)
        .expect("columns have as many values as there are rows")
}
