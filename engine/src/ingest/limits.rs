//! How much an input may take, so that a file made to do harm does none.

use std::fmt;

/// Bounds on what inputs expand to. The defaults are several times what real inputs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest file that is read, and largest that a compressed file or a member of an archive may expand to, in
    /// **bytes**. A distribution's vmlinux with all debugging information has about 1 GiB.
    pub expanded: u64,
    /// Most that one archive may expand to altogether, in **bytes**. A kernel package with debugging information
    /// reaches 8 GiB.
    pub archive: u64,
    /// Most files below one directory, and most members of one archive. A kernel package has some 7,000.
    pub members: u64,
    /// Archives within each other. A package in a layer of a container image is in the second.
    pub nesting: u32,
}

impl Limits {
    /// What holds unless something else is said.
    pub const DEFAULT: Self = Self { expanded: 2 << 30, archive: 64 << 30, members: 1_000_000, nesting: 4 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A limit that was met; the name is that of the option that raises it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverLimit {
    /// [`Limits::expanded`].
    Expanded(u64),
    /// [`Limits::archive`].
    Archive(u64),
    /// [`Limits::members`].
    Members(u64),
    /// [`Limits::nesting`].
    Nesting(u32),
}

impl std::error::Error for OverLimit {}

impl fmt::Display for OverLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expanded(max) => write!(f, "has more than {} (the limit max-expanded)", Bytes(*max)),
            Self::Archive(max) => {
                write!(f, "expands to more than {} altogether (the limit max-archive)", Bytes(*max))
            }
            Self::Members(max) => write!(f, "has more than {max} files (the limit max-members)"),
            Self::Nesting(max) => {
                write!(f, "has archives more than {max} deep in each other (the limit max-nesting)")
            }
        }
    }
}

impl From<OverLimit> for std::io::Error {
    fn from(limit: OverLimit) -> Self {
        Self::other(limit)
    }
}

/// Bytes for people: limits are mostly whole units.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 >= 1 << shift && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{} {unit}", self.0 >> shift);
            }
        }
        write!(f, "{} bytes", self.0)
    }
}
