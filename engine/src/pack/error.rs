//! Why a pack cannot be used, or a kernel cannot go into one.

/// Why a pack cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// The system refuses something.
    #[error("{what}")]
    Io {
        /// The system's words.
        what: String,
    },
    /// The file does not start as packs do.
    #[error("not a pack: {what}")]
    NotAPack {
        /// What is wrong.
        what: &'static str,
    },
    /// Written by a later version of this program.
    #[error("the pack has format version {found}, this program reads version {known}")]
    LaterVersion {
        /// The file's version.
        found: u32,
        /// What this program reads.
        known: u32,
    },
    /// Bytes in the file are not what was written.
    #[error("damaged pack: {what}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// There is no kernel of this number, or no module.
    #[error("the pack has no {what} number {number}")]
    NoSuch {
        /// What is asked for.
        what: &'static str,
        /// Its number.
        number: u32,
    },
    /// A name that no kernel was added under.
    #[error("no kernel in the pack has the name {name}")]
    NoSuchName {
        /// The name.
        name: String,
    },
    /// The numbers of the format do not suffice.
    #[error("the pack is full: too many {what}")]
    Full {
        /// Of what there is too much.
        what: &'static str,
    },
}

impl PackError {
    pub(super) fn damaged(what: &'static str) -> Self {
        Self::Damaged { what }
    }
}

impl From<std::io::Error> for PackError {
    fn from(error: std::io::Error) -> Self {
        Self::Io { what: error.to_string() }
    }
}

/// Why a kernel cannot be taken into a pack.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A type that contains itself without a named struct or union on the way.
    #[error("BTF type [{id}] contains itself")]
    Cycle {
        /// Id of the type.
        id: u32,
    },
    /// Types nested deeper than any compiler makes them.
    #[error("BTF type [{id}] is nested more than {max} deep")]
    TooDeep {
        /// Id of the type at which it was given up.
        id: u32,
        /// The bound.
        max: u32,
    },
    /// A bitfield of something that has no size of its own; what libbpf reads there is a type id.
    #[error("BTF type [{id}] has a bitfield that is no number")]
    OddBitfield {
        /// Id of the struct or union.
        id: u32,
    },
    /// A module that is not of its kernel's kind.
    #[error("module {name} has another byte order or pointer size than its kernel")]
    ForeignModule {
        /// The module.
        name: String,
    },
    /// The numbers of the format do not suffice.
    #[error("the pack is full: too many {what}")]
    PackFull {
        /// Of what there would be too much.
        what: &'static str,
    },
    /// Another kernel has the name.
    #[error("the pack has another kernel of this name")]
    NameTaken,
}
