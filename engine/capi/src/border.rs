//! What every function of the border does: catch panics, take bytes and text, leave errors.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{c_char, CStr, CString};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::slice;

use btfleet_engine::embed::RunError;

/// Number of the interface. Libraries of the same number take the same calls; the soname has it, too.
pub const BTFLEET_ABI: u32 = 1;

/// How a call ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Well.
    Ok = 0,
    /// An argument is NULL that must not be, or makes no sense.
    Argument = 1,
    /// The options ask for what cannot be had.
    Options = 2,
    /// There is no object of that number.
    NoObject = 3,
    /// A pack is damaged: no answer of the run can be trusted.
    Pack = 4,
    /// A bug in the library. What was asked for is not there; everything else can be used on.
    Panic = 5,
}

/// Why a call did not do what it was to do.
#[derive(Debug)]
pub(crate) struct Error {
    status: Status,
    text: String,
}

impl Error {
    pub(crate) fn argument(text: &str) -> Self {
        Self { status: Status::Argument, text: text.to_owned() }
    }
}

impl From<RunError> for Error {
    fn from(error: RunError) -> Self {
        let status = match error {
            RunError::NoObject(_) => Status::NoObject,
            RunError::Pack(_) => Status::Pack,
            RunError::Threads(_) | RunError::NoRelease(_) | RunError::NoKconfig | RunError::NotLibbpf => {
                Status::Options
            }
        };
        Self { status, text: error.to_string() }
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

fn remember(text: &str) {
    // A thread that is about to end has nobody left to read it.
    let _ = LAST_ERROR.try_with(|it| it.replace(c_string(text)));
}

/// Text for C, which ends at the first NUL.
pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_else(|_| CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default())
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a bug in btfleet: {}", text.unwrap_or("no text"))
}

/// Runs `work`, whose error or panic becomes the status, and its text the thread's last error.
pub(crate) fn status(work: impl FnOnce() -> Result<(), Error>) -> Status {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => Status::Ok,
        Ok(Err(error)) => {
            remember(&error.text);
            error.status
        }
        Err(panic) => {
            remember(&panic_text(&*panic));
            Status::Panic
        }
    }
}

/// Runs `work`; `nothing` if it panics.
pub(crate) fn value<T>(nothing: T, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        remember(&panic_text(&*panic));
        nothing
    })
}

/// Drops a handle.
pub(crate) fn free<T>(handle: Option<Box<T>>) {
    value((), || drop(handle));
}

/// The bytes that a caller points to; none if there are none.
///
/// # Safety
/// There have to be `len` bytes at `data` that do not change, unless `data` is NULL.
pub(crate) unsafe fn bytes<'a>(data: *const u8, len: usize) -> Result<&'a [u8], Error> {
    if data.is_null() {
        return if len == 0 { Ok(&[]) } else { Err(Error::argument("the bytes are NULL")) };
    }
    if isize::try_from(len).is_err() {
        return Err(Error::argument("no object in memory is that long"));
    }
    // SAFETY: neither NULL nor too long, and the rest is what the caller promises.
    Ok(unsafe { slice::from_raw_parts(data, len) })
}

/// The bytes of a string that a caller points to.
///
/// # Safety
/// There has to be a NUL at or behind `string`, and the bytes up to it must not change, unless it is NULL.
pub(crate) unsafe fn string<'a>(string: *const c_char, what: &str) -> Result<&'a [u8], Error> {
    if string.is_null() {
        return Err(Error::argument(&format!("the {what} is NULL")));
    }
    // SAFETY: not NULL, and the rest is what the caller promises.
    Ok(unsafe { CStr::from_ptr(string) }.to_bytes())
}

/// Number of the interface that this library has: `BTFLEET_ABI` of the header that it was built with.
#[no_mangle]
pub extern "C" fn btfleet_abi() -> u32 {
    BTFLEET_ABI
}

/// Version of the library.
#[no_mangle]
pub extern "C" fn btfleet_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Why the last call on this thread failed that did; empty if none has. It lasts until the next one that does.
#[no_mangle]
pub extern "C" fn btfleet_last_error() -> *const c_char {
    LAST_ERROR.try_with(|it| it.borrow().as_ptr()).unwrap_or(<&CStr>::default().as_ptr())
}
