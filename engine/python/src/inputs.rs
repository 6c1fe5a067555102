//! Objects and kernels as Python gives them.

use std::path::PathBuf;

use btfleet_engine::embed::OwnedInputs;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyIterator, PyString, PyTuple};

/// A path, or a name and bytes.
#[derive(Debug)]
enum Input {
    File(PathBuf),
    Bytes(String, PyBackedBytes),
}

/// A kernel with its modules, each an input of its own: a path, or a tuple of a name and bytes.
#[pyclass(frozen, module = "btfleet")]
#[derive(Debug)]
pub(crate) struct Kernel {
    vmlinux: Input,
    modules: Vec<Input>,
}

#[pymethods]
impl Kernel {
    #[new]
    #[pyo3(signature = (vmlinux, modules = None))]
    fn new(vmlinux: &Bound<'_, PyAny>, modules: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let modules = match modules {
            Some(modules) => {
                items(modules, "modules")?.map(|it| Input::new(&it?)).collect::<PyResult<_>>()?
            }
            None => Vec::new(),
        };
        Ok(Self { vmlinux: Input::new(vmlinux)?, modules })
    }
}

impl Input {
    fn new(given: &Bound<'_, PyAny>) -> PyResult<Self> {
        let input = match given.cast::<PyTuple>() {
            Ok(pair) => pair.extract().map(|(name, data)| Self::Bytes(name, data)),
            Err(_) => given.extract().map(Self::File),
        };
        input.map_err(|_| PyTypeError::new_err("an input is a path, or a tuple of a name and bytes"))
    }
}

/// The items of something iterable.
fn items<'py>(given: &Bound<'py, PyAny>, what: &str) -> PyResult<Bound<'py, PyIterator>> {
    // A path is iterable too, letter by letter.
    if given.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err(format!("{what} is a list of inputs, not one")));
    }
    given.try_iter()
}

/// The inputs of a run. Their bytes are still Python's.
#[derive(Debug)]
pub(crate) struct Inputs {
    objects: Vec<Input>,
    kernels: Vec<KernelInput>,
}

#[derive(Debug)]
enum KernelInput {
    Alone(Input),
    WithModules(Py<Kernel>),
}

impl Inputs {
    /// Takes what callers give.
    pub(crate) fn new(objects: &Bound<'_, PyAny>, kernels: &Bound<'_, PyAny>) -> PyResult<Self> {
        let kernel = |given: Bound<'_, PyAny>| match given.cast_into::<Kernel>() {
            Ok(kernel) => Ok(KernelInput::WithModules(kernel.unbind())),
            Err(other) => Input::new(&other.into_inner()).map(KernelInput::Alone),
        };
        Ok(Self {
            objects: items(objects, "objects")?.map(|it| Input::new(&it?)).collect::<PyResult<_>>()?,
            kernels: items(kernels, "kernels")?.map(|it| kernel(it?)).collect::<PyResult<_>>()?,
        })
    }

    /// Copies bytes that are in memory.
    pub(crate) fn to_owned(&self) -> OwnedInputs {
        let mut inputs = OwnedInputs::new();
        for object in &self.objects {
            match object {
                Input::File(path) => inputs.add_object_file(path),
                Input::Bytes(name, data) => inputs.add_object_bytes(name, data.to_vec()),
            }
        }
        for kernel in &self.kernels {
            let (vmlinux, modules) = match kernel {
                KernelInput::Alone(vmlinux) => (vmlinux, &[][..]),
                KernelInput::WithModules(kernel) => (&kernel.get().vmlinux, kernel.get().modules.as_slice()),
            };
            match vmlinux {
                Input::File(path) => inputs.add_kernel_file(path),
                Input::Bytes(name, data) => inputs.add_kernel_bytes(name, data.to_vec()),
            }
            for module in modules {
                match module {
                    Input::File(path) => inputs.add_module_file(path),
                    Input::Bytes(name, data) => inputs.add_module_bytes(name, data.to_vec()),
                }
            }
        }
        inputs
    }
}
