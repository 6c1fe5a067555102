//! A run: the engine is asked while other threads of Python go on.

use btfleet_engine::embed::{LoaderChoice, Options, OwnedRun, RunError};
use btfleet_engine::fleet::Modules;
use btfleet_engine::ingest::InputError;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::inputs::Inputs;
use crate::rows::Rows;
use crate::tables::{self, Table};

pyo3::import_exception!(btfleet, Error);

/// Objects whose rows become one batch: threads have enough to share, and readers of Arrow not too many pieces.
const OBJECTS_PER_BATCH: usize = 16;

/// Objects on kernels, and every question of the former answered on the latter.
///
/// An input is a path, or a tuple of a name and bytes; of kernels also a Kernel, and a pack brings all of its own.
/// `loader` is 'libbpf', 'kernel', 'kernel:RELEASE', 'aya' or 'ebpf-go'; `modules` is 'each' or 'all'; `kconfig` is the text
/// of a configuration; with 0 `threads` there is one for each core.
#[pyclass(frozen, module = "btfleet")]
#[derive(Debug)]
pub(crate) struct Run {
    run: OwnedRun,
}

#[pymethods]
impl Run {
    #[new]
    #[pyo3(signature = (
        objects, kernels, *, loader = "libbpf", modules = "each", respect_autoload = false, kconfig = None, threads = 0
    ))]
    #[expect(clippy::too_many_arguments, reason = "they have names in Python")]
    fn new(
        py: Python<'_>,
        objects: &Bound<'_, PyAny>,
        kernels: &Bound<'_, PyAny>,
        loader: &str,
        modules: &str,
        respect_autoload: bool,
        kconfig: Option<Vec<u8>>,
        threads: usize,
    ) -> PyResult<Self> {
        let loader: LoaderChoice =
            loader.parse().map_err(|why| PyValueError::new_err(format!("loader {loader:?}: {why}")))?;
        let modules = match modules {
            "each" => Modules::Each,
            "all" => Modules::All,
            _ => return Err(PyValueError::new_err(format!("modules {modules:?}: it is 'each' or 'all'"))),
        };
        let options = Options { loader, modules, respect_autoload, kconfig, threads };
        let inputs = Inputs::new(objects, kernels)?;
        let run = py.detach(|| OwnedRun::new(inputs.to_owned(), options)).map_err(|it| run_error(&it))?;
        Ok(Self { run })
    }

    /// Names of the objects that are judged, in the order of rows.
    #[getter]
    fn objects(&self) -> Vec<&str> {
        self.run.inputs().objects.iter().map(|it| it.name.as_str()).collect()
    }

    /// Names of the kernels that are judged, in the order of rows.
    #[getter]
    fn kernels(&self) -> &[&str] {
        &self.run.inputs().kernel_names
    }

    /// Whose answers these are.
    #[getter]
    fn models(&self) -> &str {
        self.run.loaders().models()
    }

    /// Whether every input could be used and every object can be judged on every kernel.
    #[getter]
    fn complete(&self, py: Python<'_>) -> bool {
        self.run.inputs().complete() && py.detach(|| tables::refusals(&self.run).next().is_none())
    }

    /// Inputs that could not be used, and remarks on some that could.
    fn defects(&self, py: Python<'_>) -> Rows {
        Rows::new(py, vec![tables::defects(&self.run)])
    }

    /// Objects and kernels that cannot be judged together.
    fn pairs(&self, py: Python<'_>) -> Rows {
        Rows::new(py, vec![py.detach(|| tables::pairs(&self.run))])
    }

    /// Raises the first defect that is more than a remark, if there is one.
    fn raise_for_defects(&self) -> PyResult<()> {
        let mut defects = self.run.inputs().all_defects();
        defects.find(|it| !it.code.is_remark()).map_or(Ok(()), |it| Err(input_error(it)))
    }

    /// A verdict on every program on every kernel, of all objects or of the one with this number.
    #[pyo3(signature = (object = None))]
    fn check(&self, py: Python<'_>, object: Option<usize>) -> PyResult<Rows> {
        self.rows(py, object, tables::verdicts)
    }

    /// What becomes of every record on every kernel.
    #[pyo3(signature = (object = None))]
    fn resolve(&self, py: Python<'_>, object: Option<usize>) -> PyResult<Rows> {
        self.rows(py, object, tables::records)
    }

    /// Objects as libbpf makes them: one row for kernels that need the same file, or have none.
    #[pyo3(signature = (object = None))]
    fn relocate(&self, py: Python<'_>, object: Option<usize>) -> PyResult<Rows> {
        self.rows(py, object, tables::files)
    }

    /// What changes in every function: one row for kernels on which it is the same.
    #[pyo3(signature = (object = None))]
    fn patches(&self, py: Python<'_>, object: Option<usize>) -> PyResult<Rows> {
        self.rows(py, object, tables::patches)
    }

    fn __repr__(&self) -> String {
        let inputs = self.run.inputs();
        format!("<btfleet.Run: {} objects on {} kernels>", inputs.objects.len(), inputs.kernels.len())
    }
}

impl Run {
    /// The table of one object or of all, without holding up other threads of Python.
    fn rows(&self, py: Python<'_>, object: Option<usize>, table: Table) -> PyResult<Rows> {
        let objects: Vec<usize> = match object {
            Some(object) => vec![object],
            None => (0..self.run.inputs().objects.len()).collect(),
        };
        let parts: Vec<&[usize]> =
            if objects.is_empty() { vec![&[]] } else { objects.chunks(OBJECTS_PER_BATCH).collect() };
        let batches = py.detach(|| {
            let batches = self.run.batch().map(&parts, |part| table(&self.run, part));
            batches.into_iter().collect::<Result<Vec<_>, _>>()
        });
        Ok(Rows::new(py, batches.map_err(|it| run_error(&it))?))
    }
}

fn run_error(error: &RunError) -> PyErr {
    let file = match error {
        RunError::NoRelease(kernel) => Some(kernel.clone()),
        RunError::Pack(damaged) => Some(damaged.path.to_string_lossy().into_owned()),
        _ => None,
    };
    Error::new_err((error.to_string(), error.code(), file, None::<u64>))
}

fn input_error(error: &InputError) -> PyErr {
    let file = error.path.to_string_lossy().into_owned();
    Error::new_err((error.to_string(), error.code.name(), Some(file), error.offset))
}
