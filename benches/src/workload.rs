//! Objects × one kernel.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// An object's or a kernel's file.
#[derive(Debug)]
pub struct File {
    /// Its name: without its folder, or its path below the folder of a set.
    pub name: String,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// The files of a workload.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Folder of the objects (`*.o`).
    pub objects: PathBuf,
    /// Raw BTF of the kernel, perhaps compressed (`*.zst`).
    pub kernel: PathBuf,
}

/// Objects and a kernel, read.
#[derive(Debug)]
pub struct Workload {
    /// Little-endian objects, by name; no other kind has a peer to compare with.
    pub objects: Vec<File>,
    /// Raw BTF of the kernel.
    pub kernel: Vec<u8>,
}

impl Paths {
    /// The committed samples.
    pub fn samples() -> Self {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples");
        Self {
            objects: samples.join("objects"),
            kernel: samples.join("kernels/7.3.4+deb13-cloud-amd64.btf.zst"),
        }
    }

    /// The samples, unless `BTFLEET_BENCH_OBJECTS` or `BTFLEET_BENCH_KERNEL` say otherwise.
    pub fn from_env() -> Self {
        let samples = Self::samples();
        let path = |name, default| env::var_os(name).map_or(default, PathBuf::from);
        Self {
            objects: path("BTFLEET_BENCH_OBJECTS", samples.objects),
            kernel: path("BTFLEET_BENCH_KERNEL", samples.kernel),
        }
    }

    /// What the workload is called: the last parts of its paths.
    pub fn name(&self) -> String {
        let last = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        format!("{} × {}", last(&self.objects), last(&self.kernel))
    }
}

impl Workload {
    /// Reads a workload.
    ///
    /// # Errors
    /// The path and the system's message if a file cannot be read, or if there is no object.
    pub fn read(paths: &Paths) -> Result<Self, String> {
        let mut kernel = read(&paths.kernel)?;
        if paths.kernel.extension() == Some(OsStr::new("zst")) {
            kernel = zstd::decode_all(kernel.as_slice()).map_err(|error| at(&paths.kernel, &error))?;
        }
        let mut objects = Vec::new();
        for entry in fs::read_dir(&paths.objects).map_err(|error| at(&paths.objects, &error))? {
            let path = entry.map_err(|error| at(&paths.objects, &error))?.path();
            if path.extension() != Some(OsStr::new("o")) {
                continue;
            }
            let data = read(&path)?;
            if data.starts_with(b"\x7fELF\x02\x01") {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                objects.push(File { name, data });
            }
        }
        if objects.is_empty() {
            return Err(format!("{}: no little-endian objects", paths.objects.display()));
        }
        objects.sort_by(|one, two| one.name.cmp(&two.name));
        Ok(Self { objects, kernel })
    }

    /// Bytes of all files, decompressed.
    pub fn len(&self) -> usize {
        self.kernel.len() + self.objects.iter().map(|it| it.data.len()).sum::<usize>()
    }

    /// Whether there is nothing to do. Never true of a workload that was read.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| at(path, &error))
}

pub(crate) fn at(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
