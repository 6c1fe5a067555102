//! The Python package: objects and kernels in, rows out.
//!
//! What is documented here on classes and methods is what Python's `help()` shows. [`inputs`] takes what callers give, [`run`] asks the
//! engine while Python goes on, [`tables`] puts its rows into
//! [`columns`], and [`rows`] hands them to Python as dicts or, by
//! the Arrow C stream interface and without copying, to whatever reads Arrow.
//!
//! Nothing is decided here: rows are those of `btfleet_engine::embed`, in the columns of docs/output.md.

mod columns;
mod inputs;
mod rows;
mod run;
mod tables;

use pyo3::prelude::*;

/// The native half of the package.
#[pymodule]
mod _engine {
    #[pymodule_export]
    use crate::inputs::Kernel;
    #[pymodule_export]
    use crate::rows::Rows;
    #[pymodule_export]
    use crate::run::Run;

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
