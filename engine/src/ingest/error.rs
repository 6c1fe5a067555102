//! Inputs that cannot be used, each with its file, its place in it and the reason.

use std::path::{Path, PathBuf};

use crate::btf::BtfError;
use crate::object::ObjectError;
use crate::pack::PackError;

/// An input that cannot be read or judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {what}", path.display(), At(*offset))]
pub struct InputError {
    /// The file.
    pub path: PathBuf,
    /// What kind of defect it is.
    pub code: InputCode,
    /// Where in the file (in its decompressed BTF, for kernels), in bytes, if that can be said.
    pub offset: Option<u64>,
    /// The reason.
    pub what: String,
}

struct At(Option<u64>);

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |offset| write!(f, ": offset {offset}"))
    }
}

/// Kind of an input's defect; stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InputCode {
    /// The file cannot be read.
    Unreadable,
    /// It has more than is taken from one input.
    OverLimit,
    /// Not a BPF object.
    ObjectDefective,
    /// libbpf would not open the object; its records are resolved all the same.
    ObjectRefused,
    /// libbpf ignores the object's BTF, and with it the records.
    ObjectBtfIgnored,
    /// A kernel file without BTF in it.
    TargetBtfMissing,
    /// A kernel's BTF is broken.
    TargetBtfDefective,
    /// A pack that cannot be used.
    PackUnusable,
    /// A module's BTF cannot be used; the kernel is judged without it.
    ModuleUnavailable,
}

impl InputCode {
    /// Every code, in the order of their declaration.
    pub const ALL: [Self; 9] = [
        Self::Unreadable,
        Self::OverLimit,
        Self::ObjectDefective,
        Self::ObjectRefused,
        Self::ObjectBtfIgnored,
        Self::TargetBtfMissing,
        Self::TargetBtfDefective,
        Self::PackUnusable,
        Self::ModuleUnavailable,
    ];

    /// The code as reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::OverLimit => "over-limit",
            Self::ObjectDefective => "object-defective",
            Self::ObjectRefused => "object-refused",
            Self::ObjectBtfIgnored => "object-btf-ignored",
            Self::TargetBtfMissing => "target-btf-missing",
            Self::TargetBtfDefective => "target-btf-defective",
            Self::PackUnusable => "pack-unusable",
            Self::ModuleUnavailable => "module-unavailable",
        }
    }

    /// Whether the input is judged all the same, so that the defect is a remark only.
    pub fn is_remark(self) -> bool {
        matches!(self, Self::ObjectRefused | Self::ObjectBtfIgnored)
    }
}

impl InputError {
    /// A file or directory that the system will not let us read.
    pub fn unreadable(path: &Path, what: String) -> Self {
        Self { path: path.to_owned(), code: InputCode::Unreadable, offset: None, what }
    }

    /// A kernel without BTF, and why.
    pub fn missing_btf(path: &Path, what: &str) -> Self {
        Self { path: path.to_owned(), code: InputCode::TargetBtfMissing, offset: None, what: what.into() }
    }

    /// A kernel's BTF that does not parse.
    pub fn defective_btf(path: &Path, error: &BtfError) -> Self {
        Self {
            path: path.to_owned(),
            code: InputCode::TargetBtfDefective,
            offset: Some(error.offset()),
            what: error.to_string(),
        }
    }

    /// A pack that does not open.
    pub fn unusable_pack(path: &Path, error: &PackError) -> Self {
        Self { path: path.to_owned(), code: InputCode::PackUnusable, offset: None, what: error.to_string() }
    }

    /// An object that does not parse.
    pub fn defective_object(path: &Path, error: &ObjectError) -> Self {
        Self {
            path: path.to_owned(),
            code: InputCode::ObjectDefective,
            offset: Some(error.offset()),
            what: error.to_string(),
        }
    }

    /// An archive or the like without an object.
    pub(super) fn no_object(path: &Path, what: &str) -> Self {
        let what = format!("{what} without a BPF object in it");
        Self { path: path.to_owned(), code: InputCode::ObjectDefective, offset: None, what }
    }

    pub(crate) fn of_module(self) -> Self {
        Self { code: InputCode::ModuleUnavailable, ..self }
    }
}
