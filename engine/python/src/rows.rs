//! Rows as Python sees them: a sequence of dicts, and a stream of Arrow batches.

use arrow_array::cast::AsArray;
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::types::{Int32Type, UInt32Type, UInt64Type};
use arrow_array::{Array, RecordBatch, RecordBatchIterator, StructArray};
use arrow_schema::{DataType, Schema};
use pyo3::exceptions::{PyIndexError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCapsule, PyDict, PyList, PyString};

/// A table: a sequence of dicts, and a stream of Arrow batches.
#[pyclass(frozen, sequence, module = "btfleet")]
#[derive(Debug)]
pub(crate) struct Rows {
    /// Names of the columns, made once: they are keys in every row.
    names: Vec<Py<PyString>>,
    /// At least one, all with the same columns.
    batches: Vec<StructArray>,
}

/// Goes through rows one by one.
#[pyclass(module = "btfleet")]
#[derive(Debug)]
pub(crate) struct RowIterator {
    rows: Py<Rows>,
    batch: usize,
    row: usize,
}

impl Rows {
    /// `batches`: of the same columns.
    pub(crate) fn new(py: Python<'_>, batches: Vec<StructArray>) -> Self {
        let names = batches.first().map(StructArray::column_names).unwrap_or_default();
        Self { names: names.iter().map(|it| PyString::intern(py, it).unbind()).collect(), batches }
    }

    /// Row number `row` of a batch, which is there.
    fn row<'py>(&self, py: Python<'py>, batch: &StructArray, row: usize) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, column) in self.names.iter().zip(batch.columns()) {
            dict.set_item(name.bind(py), value(py, column.as_ref(), row)?)?;
        }
        Ok(dict)
    }

    fn len(&self) -> usize {
        self.batches.iter().map(Array::len).sum()
    }
}

#[pymethods]
impl Rows {
    fn __len__(&self) -> usize {
        self.len()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: isize) -> PyResult<Bound<'py, PyDict>> {
        let mut at = index;
        if at < 0 {
            at = at.saturating_add_unsigned(self.len());
        }
        let mut at = usize::try_from(at).map_err(|_| out_of_range())?;
        for batch in &self.batches {
            if at < batch.len() {
                return self.row(py, batch, at);
            }
            at -= batch.len();
        }
        Err(out_of_range())
    }

    fn __iter__(this: Py<Self>) -> RowIterator {
        RowIterator { rows: this, batch: 0, row: 0 }
    }

    /// Names of the columns.
    #[getter]
    fn columns(&self) -> Vec<&str> {
        self.batches.first().map(|it| it.column_names()).unwrap_or_default()
    }

    /// All rows as dicts.
    fn to_list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for batch in &self.batches {
            for row in 0..batch.len() {
                list.append(self.row(py, batch, row)?)?;
            }
        }
        Ok(list)
    }

    /// A pyarrow.Table, without copying.
    fn to_arrow<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        this.py().import("pyarrow")?.call_method1("table", (this,))
    }

    /// A pandas.DataFrame with Arrow's types.
    fn to_pandas<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        // With types of its own, pandas would make floats of numbers where some are missing, and lose bits.
        let options = PyDict::new(py);
        options.set_item("types_mapper", py.import("pandas")?.getattr("ArrowDtype")?)?;
        Self::to_arrow(this)?.call_method("to_pandas", (), Some(&options))
    }

    /// The Arrow C stream interface: for whatever reads Arrow.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // Who asks for other types casts: the interface leaves that to us, and we leave it.
        let _ = requested_schema;
        let batches: Vec<_> = self.batches.iter().map(|it| Ok(RecordBatch::from(it))).collect();
        let fields = self.batches.first().map(|it| it.fields().clone()).unwrap_or_default();
        let reader = RecordBatchIterator::new(batches, Schema::new(fields).into());
        PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(reader)), c"arrow_array_stream")
    }

    fn __repr__(&self) -> String {
        format!("<btfleet.Rows: {} rows of {}>", self.len(), self.columns().join(", "))
    }
}

#[pymethods]
impl RowIterator {
    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let rows = self.rows.get();
        while let Some(batch) = rows.batches.get(self.batch) {
            if self.row < batch.len() {
                self.row += 1;
                return rows.row(py, batch, self.row - 1).map(Some);
            }
            self.batch += 1;
            self.row = 0;
        }
        Ok(None)
    }
}

fn out_of_range() -> PyErr {
    PyIndexError::new_err("row index out of range")
}

/// Value number `row` of a column, which is there: a number, a truth, text, bytes, a list, a dict or `None`.
fn value<'py>(py: Python<'py>, column: &dyn Array, row: usize) -> PyResult<Bound<'py, PyAny>> {
    if column.is_null(row) {
        return Ok(py.None().into_bound(py));
    }
    Ok(match column.data_type() {
        DataType::LargeUtf8 => PyString::new(py, column.as_string::<i64>().value(row)).into_any(),
        DataType::LargeBinary => PyBytes::new(py, column.as_binary::<i64>().value(row)).into_any(),
        DataType::Boolean => column.as_boolean().value(row).into_pyobject(py)?.to_owned().into_any(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into_pyobject(py)?.into_any(),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().value(row).into_pyobject(py)?.into_any(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).into_pyobject(py)?.into_any(),
        DataType::Struct(fields) => {
            let dict = PyDict::new(py);
            for (field, column) in fields.iter().zip(column.as_struct().columns()) {
                dict.set_item(PyString::intern(py, field.name()), value(py, column.as_ref(), row)?)?;
            }
            dict.into_any()
        }
        DataType::LargeList(_) => {
            // A slice of the items would be an array of its own, with all its columns.
            let column = column.as_list::<i64>();
            let offset = |at: usize| column.value_offsets().get(at).and_then(|it| usize::try_from(*it).ok());
            let list = PyList::empty(py);
            for item in offset(row).unwrap_or(0)..offset(row + 1).unwrap_or(0) {
                list.append(value(py, column.values().as_ref(), item)?)?;
            }
            list.into_any()
        }
        other => return Err(PyTypeError::new_err(format!("no table has a column of {other}"))),
    })
}
