//! A run: inputs, and every question that they ask answered.

use std::ffi::c_char;
use std::mem::{offset_of, MaybeUninit};
use std::ptr;
use std::sync::Arc;

use btfleet_engine::embed::{self, OwnedRun};
use btfleet_engine::fleet::Modules;

use crate::border::{bytes, free, status, string, value, Error, Status};
use crate::inputs::Inputs;
use crate::keep::Kept;

/// A module is judged by itself, as if only it were loaded.
pub const BTFLEET_MODULES_EACH: u32 = 0;
/// All modules of a kernel are loaded, in their order.
pub const BTFLEET_MODULES_ALL: u32 = 1;

/// What bears on the answers beside the inputs. All zero but `size` is what most want.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// sizeof(btfleet_options): later versions of the library have more fields, and take those not given for 0.
    pub size: usize,
    /// Whose answers are wanted: libbpf, kernel, kernel:RELEASE, aya or ebpf-go; NULL is libbpf.
    pub loader: *const c_char,
    /// BTFLEET_MODULES_EACH or BTFLEET_MODULES_ALL.
    pub modules: u32,
    /// Not 0: programs in sections with a leading '?' are left as they are.
    pub respect_autoload: u32,
    /// Text of the configuration of all kernels; NULL takes what lies beside the file of each.
    pub kconfig: *const u8,
    /// Its length in bytes.
    pub kconfig_len: usize,
    /// Number of threads; 0 takes one per core. The answers do not depend on it.
    pub threads: usize,
}

/// An input that cannot be used, or a remark on one that can.
#[repr(C)]
#[derive(Debug)]
pub struct Defect {
    /// The input.
    pub path: *const c_char,
    /// Stable code.
    pub code: *const c_char,
    /// Where in it, in bytes; -1 if that cannot be said.
    pub offset: i64,
    /// The reason.
    pub message: *const c_char,
    /// Not 0: a remark; the input is judged all the same.
    pub is_remark: u32,
}

/// Why an object and a kernel cannot be judged together.
#[repr(C)]
#[derive(Debug)]
pub struct Refusal {
    /// Stable code.
    pub code: *const c_char,
    /// One sentence.
    pub message: *const c_char,
}

/// Objects and kernels, and the answers. It does not change: any number of threads may use it at once.
pub struct Run {
    pub(crate) run: Arc<OwnedRun>,
    rows: Kept<Rows>,
}

struct Rows {
    objects: Vec<*const c_char>,
    kernels: Vec<*const c_char>,
    defects: Vec<Defect>,
    models: *const c_char,
    /// By code.
    refusals: Vec<(&'static str, Refusal)>,
}

/// A number for C, -1 for none.
pub(crate) fn or_minus_one(number: Option<u64>) -> i64 {
    number.map_or(-1, |it| i64::try_from(it).unwrap_or(i64::MAX))
}

impl Rows {
    fn new(run: &OwnedRun) -> Kept<Self> {
        let inputs = run.inputs();
        let pairs = (0..inputs.kernels.len()).filter_map(|kernel| run.loaders().refusal(kernel));
        let mut refusals: Vec<embed::Refusal> = vec![embed::Refusal::BYTE_ORDER];
        for refusal in pairs {
            if !refusals.contains(&refusal) {
                refusals.push(refusal);
            }
        }
        Kept::new(|keep| Self {
            objects: inputs.objects.iter().map(|it| keep.string(&it.name)).collect(),
            kernels: inputs.kernel_names.iter().map(|it| keep.string(it)).collect(),
            defects: inputs
                .all_defects()
                .map(|it| Defect {
                    path: keep.string(&it.path.to_string_lossy()),
                    code: keep.string(it.code.name()),
                    offset: or_minus_one(it.offset),
                    message: keep.string(&it.what),
                    is_remark: it.code.is_remark().into(),
                })
                .collect(),
            models: keep.string(run.loaders().models()),
            refusals: refusals
                .iter()
                .map(|it| (it.code, Refusal { code: keep.string(it.code), message: keep.string(it.why) }))
                .collect(),
        })
    }
}

/// What the caller's options mean.
///
/// # Safety
/// As [`btfleet_run_new`].
unsafe fn options(given: *const Options) -> Result<embed::Options, Error> {
    let mut options = embed::Options::LIBBPF;
    if given.is_null() {
        return Ok(options);
    }
    // SAFETY: not NULL, so there is at least the size.
    let size = unsafe { given.cast::<usize>().read_unaligned() };
    // Callers that were built with the first version have all that it had.
    if size < offset_of!(Options, threads) + size_of::<usize>() {
        return Err(Error::argument("the size of the options is not sizeof(btfleet_options)"));
    }
    // SAFETY: as many bytes as the caller says there are, and all of them may be any.
    let Options { loader, modules, respect_autoload, kconfig, kconfig_len, threads, .. } =
        unsafe { given.read_unaligned() };
    if !loader.is_null() {
        // SAFETY: a string, as promised.
        let text = unsafe { string(loader, "loader")? };
        let text = String::from_utf8_lossy(text);
        options.loader =
            text.parse().map_err(|why: String| Error::argument(&format!("loader '{text}': {why}")))?;
    }
    options.modules = match modules {
        BTFLEET_MODULES_EACH => Modules::Each,
        BTFLEET_MODULES_ALL => Modules::All,
        _ => return Err(Error::argument("modules is neither BTFLEET_MODULES_EACH nor BTFLEET_MODULES_ALL")),
    };
    options.respect_autoload = respect_autoload != 0;
    if !kconfig.is_null() {
        // SAFETY: as many bytes as the caller says.
        options.kconfig = Some(unsafe { bytes(kconfig, kconfig_len)? }.to_vec());
    }
    if threads > THREADS_MAX {
        return Err(Error::argument("that many threads make nothing faster"));
    }
    options.threads = threads;
    Ok(options)
}

/// Most threads that can be asked for: the system would give out before it gave more.
const THREADS_MAX: usize = 1024;

/// Reads and parses the inputs, and answers all questions of the objects for all kernels. `options` may be NULL.
///
/// The inputs are empty afterwards, and still to be freed. Inputs that cannot be used are defects of the run, which is one
/// without them.
///
/// # Safety
/// `options` has as many bytes as its field `size` says, and `kconfig` as `kconfig_len` says.
#[no_mangle]
pub unsafe extern "C" fn btfleet_run_new(
    inputs: Option<&mut Inputs>,
    options: *const Options,
    run: Option<&mut MaybeUninit<*mut Run>>,
) -> Status {
    out(run, || {
        let inputs = inputs.ok_or_else(|| Error::argument("the inputs are NULL"))?;
        // SAFETY: as promised.
        let options = unsafe { self::options(options)? };
        let run = OwnedRun::new(std::mem::take(&mut inputs.inputs), options)?;
        let rows = Rows::new(&run);
        Ok(Run { run: Arc::new(run), rows })
    })
}

/// Makes a handle, and NULL if that fails.
pub(crate) fn out<T>(
    place: Option<&mut MaybeUninit<*mut T>>,
    make: impl FnOnce() -> Result<T, Error>,
) -> Status {
    let Some(place) = place else {
        return status(|| Err(Error::argument("there is no place for the result")));
    };
    place.write(ptr::null_mut());
    status(|| {
        place.write(Box::into_raw(Box::new(make()?)));
        Ok(())
    })
}

/// Looks whether a pack turned out to be damaged while answers were looked up, at the latest when their rows were read: none
/// of the run's answers can be trusted then.
#[no_mangle]
pub extern "C" fn btfleet_run_check_packs(run: Option<&Run>) -> Status {
    status(|| {
        let run = run.ok_or_else(|| Error::argument("the run is NULL"))?;
        Ok(run.run.check_packs()?)
    })
}

/// Frees a run. What was asked of it stays.
#[no_mangle]
pub extern "C" fn btfleet_run_free(run: Option<Box<Run>>) {
    free(run);
}

/// Whose answers they are: the version of libbpf, for example.
#[no_mangle]
pub extern "C" fn btfleet_run_models(run: Option<&Run>) -> *const c_char {
    run.map_or(ptr::null(), |it| it.rows.rows().models)
}

/// Number of objects that are judged, in the order in which they were added.
#[no_mangle]
pub extern "C" fn btfleet_run_object_count(run: Option<&Run>) -> usize {
    run.map_or(0, |it| it.rows.rows().objects.len())
}

/// Name of an object; NULL if there is none of that number.
#[no_mangle]
pub extern "C" fn btfleet_run_object_name(run: Option<&Run>, object: usize) -> *const c_char {
    let name = run.and_then(|it| it.rows.rows().objects.get(object));
    name.copied().unwrap_or(ptr::null())
}

/// Number of kernels that are judged on, in the order in which they were added.
#[no_mangle]
pub extern "C" fn btfleet_run_kernel_count(run: Option<&Run>) -> usize {
    run.map_or(0, |it| it.rows.rows().kernels.len())
}

/// Name of a kernel; NULL if there is none of that number.
#[no_mangle]
pub extern "C" fn btfleet_run_kernel_name(run: Option<&Run>, kernel: usize) -> *const c_char {
    let name = run.and_then(|it| it.rows.rows().kernels.get(kernel));
    name.copied().unwrap_or(ptr::null())
}

/// Number of defects of the inputs.
#[no_mangle]
pub extern "C" fn btfleet_run_defect_count(run: Option<&Run>) -> usize {
    run.map_or(0, |it| it.rows.rows().defects.len())
}

/// A defect of the inputs; NULL if there is none of that number.
#[no_mangle]
pub extern "C" fn btfleet_run_defect(run: Option<&Run>, defect: usize) -> Option<&Defect> {
    run?.rows.rows().defects.get(defect)
}

/// Why an object cannot be judged on a kernel; NULL if it can.
#[no_mangle]
pub extern "C" fn btfleet_run_refusal(run: Option<&Run>, object: usize, kernel: usize) -> Option<&Refusal> {
    value(None, || {
        let run = run?;
        let code = run.run.refusal(object, kernel)?.code;
        run.rows.rows().refusals.iter().find(|it| it.0 == code).map(|it| &it.1)
    })
}
