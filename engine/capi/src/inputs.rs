//! Objects and kernels as they are given.

use std::ffi::{c_char, OsStr};
use std::os::unix::ffi::OsStrExt;

use btfleet_engine::embed::OwnedInputs;

use crate::border::{bytes, free, status, string, value, Error, Status};

/// Objects and kernels of a run to come. One thread at a time.
pub struct Inputs {
    pub(crate) inputs: OwnedInputs,
}

/// No inputs yet. NULL only if there is no memory.
#[no_mangle]
pub extern "C" fn btfleet_inputs_new() -> Option<Box<Inputs>> {
    value(None, || Some(Box::new(Inputs { inputs: OwnedInputs::new() })))
}

/// Frees inputs, whether a run took them or not.
#[no_mangle]
pub extern "C" fn btfleet_inputs_free(inputs: Option<Box<Inputs>>) {
    free(inputs);
}

/// Takes a name, and bytes that are copied.
///
/// # Safety
/// As [`bytes`] and [`string`].
unsafe fn add_bytes(
    inputs: Option<&mut Inputs>,
    name: *const c_char,
    data: *const u8,
    len: usize,
    add: impl FnOnce(&mut OwnedInputs, &str, Vec<u8>),
) -> Status {
    status(|| {
        let inputs = inputs.ok_or_else(|| Error::argument("the inputs are NULL"))?;
        // SAFETY: as promised.
        let (name, data) = unsafe { (string(name, "name")?, bytes(data, len)?) };
        add(&mut inputs.inputs, &String::from_utf8_lossy(name), data.to_vec());
        Ok(())
    })
}

/// Takes a path.
///
/// # Safety
/// As [`string`].
unsafe fn add_file(
    inputs: Option<&mut Inputs>,
    path: *const c_char,
    add: impl FnOnce(&mut OwnedInputs, &OsStr),
) -> Status {
    status(|| {
        let inputs = inputs.ok_or_else(|| Error::argument("the inputs are NULL"))?;
        // SAFETY: as promised.
        let path = unsafe { string(path, "path")? };
        add(&mut inputs.inputs, OsStr::from_bytes(path));
        Ok(())
    })
}

/// Adds a BPF object in memory, under a name. The bytes are copied.
///
/// # Safety
/// `name` is a string, and `data` has `len` bytes.
#[no_mangle]
pub unsafe extern "C" fn btfleet_inputs_add_object(
    inputs: Option<&mut Inputs>,
    name: *const c_char,
    data: *const u8,
    len: usize,
) -> Status {
    // SAFETY: as promised.
    unsafe { add_bytes(inputs, name, data, len, OwnedInputs::add_object_bytes) }
}

/// Adds a file with a BPF object, under its path. It is read when the run is made.
///
/// # Safety
/// `path` is a string.
#[no_mangle]
pub unsafe extern "C" fn btfleet_inputs_add_object_file(
    inputs: Option<&mut Inputs>,
    path: *const c_char,
) -> Status {
    // SAFETY: as promised.
    unsafe { add_file(inputs, path, |inputs, path| inputs.add_object_file(path)) }
}

/// Adds a kernel in memory, under a name: raw BTF, an ELF file with .BTF, either compressed with zstd; or a pack with all
/// its kernels, which have names of their own. The bytes are copied.
///
/// # Safety
/// `name` is a string, and `data` has `len` bytes.
#[no_mangle]
pub unsafe extern "C" fn btfleet_inputs_add_kernel(
    inputs: Option<&mut Inputs>,
    name: *const c_char,
    data: *const u8,
    len: usize,
) -> Status {
    // SAFETY: as promised.
    unsafe { add_bytes(inputs, name, data, len, OwnedInputs::add_kernel_bytes) }
}

/// The same of a file, under its path. It is read when the run is made.
///
/// # Safety
/// `path` is a string.
#[no_mangle]
pub unsafe extern "C" fn btfleet_inputs_add_kernel_file(
    inputs: Option<&mut Inputs>,
    path: *const c_char,
) -> Status {
    // SAFETY: as promised.
    unsafe { add_file(inputs, path, |inputs, path| inputs.add_kernel_file(path)) }
}

/// Adds a module of the kernel that was added last: its BTF, raw or in an ELF file. The bytes are copied.
///
/// # Safety
/// `name` is a string, and `data` has `len` bytes.
#[no_mangle]
pub unsafe extern "C" fn btfleet_inputs_add_module(
    inputs: Option<&mut Inputs>,
    name: *const c_char,
    data: *const u8,
    len: usize,
) -> Status {
    // SAFETY: as promised.
    unsafe { add_bytes(inputs, name, data, len, OwnedInputs::add_module_bytes) }
}

/// The same of a file, which names the module. It is read when the run is made.
///
/// # Safety
/// `path` is a string.
#[no_mangle]
pub unsafe extern "C" fn btfleet_inputs_add_module_file(
    inputs: Option<&mut Inputs>,
    path: *const c_char,
) -> Status {
    // SAFETY: as promised.
    unsafe { add_file(inputs, path, |inputs, path| inputs.add_module_file(path)) }
}
