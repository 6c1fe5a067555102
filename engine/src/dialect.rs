//! Which loader's answers are wanted, and by which rules it decides.
//!
//! A [`Loader`] is what a user names; [`Rules`] are the switches that the other modules look at. Linux relocates
//! programs itself since 5.17 (`core_relos` of `BPF_PROG_LOAD`, what light skeletons use), with a copy of libbpf's
//! code that grows with it: all that depends on the release stands in [`releases`], and nowhere else.
//!
//! Not modelled is the kernel's cache of candidates, which is keyed by name alone and shared by all programs of the
//! system: what an earlier load looked up can change what a later one finds (a type of another kind, or none). The
//! `kernel` dialect answers as with a cache that is cold.
//!
//! aya's rules are those of aya-obj [`AYA_OBJ`], as its source has them, defects included (`QUIRK`). Not modelled is
//! which objects it cannot read at all, what it changes in the program's BTF before it relocates (an ENUM64 becomes a
//! UNION for kernels that do not know it), and types of the kernel with more than three underscores in a row or more
//! than one flavor, which it would cut elsewhere; no kernel is known to have one.
//!
//! cilium/ebpf's rules are those of its commit [`EBPF_GO`]. Not modelled is:
//!
//! * `TYPE_ID_LOCAL`: it gives the program's BTF new ids; here the object's own stand;
//! * `TYPE_MATCHES` behind pointers: it compares the members of what they point to, here name and kind have to do;
//! * what arrays are indexed by, which it compares as well; compilers have integers there;
//! * functions, variables and tags of the kernel as candidates for a root of another kind: they never fit;
//! * types of the kernel whose names it would cut elsewhere than libbpf (`a____b`), and that it never finds one whose
//!   only `___` is at the start of its name;
//! * offsets of packed fields that are compared with a bitfield, and legacy bitfields of a module's struct whose INT is
//!   vmlinux's;
//! * that it does not read an object at all in which one record is malformed: here it is that record's program.
//!
//! Source: `kernel/bpf/btf.c` and `tools/lib/bpf/relo_core.c`, Linux; `src/btf/relocation.rs`, aya-obj; `btf/core.go`,
//! cilium/ebpf; spec sections 5.5, 11.2 and 14.

use std::{fmt, fs};

use crate::btf::{Flavors, Sizes};

/// The release of aya-obj whose answers are modelled.
pub const AYA_OBJ: &str = "0.3.0";

/// The state of cilium/ebpf whose answers are modelled, of 24 July 2026.
pub const EBPF_GO: &str = "v0.22.0-28-g5ba0b3b2";

/// Who relocates the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loader {
    /// libbpf, in user space, before the kernel sees the programs.
    Libbpf,
    /// The kernel of this release, while it loads a program.
    Kernel(Release),
    /// aya, in user space, for programs and tools that are written in Rust.
    Aya,
    /// cilium/ebpf, in user space, for tools that are written in Go.
    EbpfGo,
}

impl Loader {
    /// Why this loader does not relocate at all, as a sentence; `None` if it does.
    pub fn unsupported(self) -> Option<&'static str> {
        match self {
            Self::Kernel(release) if !releases::CORE_RELOS.holds_for(release) => {
                Some("kernels before 5.17 do not relocate programs themselves")
            }
            _ => None,
        }
    }
}

impl fmt::Display for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Libbpf => f.write_str(crate::MODELS),
            Self::Kernel(release) => write!(f, "Linux {release}"),
            Self::Aya => write!(f, "aya-obj {AYA_OBJ}"),
            Self::EbpfGo => write!(f, "cilium/ebpf {EBPF_GO}"),
        }
    }
}

/// What is compared before an instruction is patched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Validate {
    /// What the loader compares: with libbpf, the values that a compiler has no choice about.
    #[default]
    Loader,
    /// That, and of each access to a bitfield whether its values together read the field's bits: by what they mean, as
    /// there are many ways to read the same.
    Strict,
    /// Nothing. A loader that compares would give up where this goes on.
    Off,
}

/// A release of Linux, ordered as they came out within a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Release {
    /// The 6 of 6.12.117.
    pub major: u16,
    /// The 12 of 6.12.117.
    pub minor: u16,
    /// The 117 of 6.12.117; 0 if it is not given.
    pub patch: u16,
}

impl Release {
    const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// Reads `6.12` or `6.12.117`; whatever follows the numbers has to start with something else than a letter or
    /// digit (`6.12.117+deb13-cloud-amd64`).
    pub fn parse(text: &str) -> Option<Self> {
        let (major, rest) = number(text)?;
        let (minor, rest) = number(rest.strip_prefix('.')?)?;
        let (patch, rest) = rest.strip_prefix('.').and_then(number).unwrap_or((0, rest));
        let ends = !rest.starts_with(|it: char| it.is_ascii_alphanumeric());
        ends.then_some(Self { major, minor, patch })
    }

    /// The release of the running kernel. What it calls itself may have less than the whole truth; distributions of which that
    /// is so say it elsewhere.
    ///
    /// Source: `get_kernel_version`, libbpf.
    pub fn running() -> Option<Self> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self::told(
            &read("/proc/version_signature"),
            &read("/proc/sys/kernel/version"),
            &read("/proc/sys/kernel/osrelease"),
        )
    }

    /// `signature`: of Ubuntu's kernels, with the release at its end; `version`: of Debian's, with the release behind that word.
    fn told(signature: &str, version: &str, release: &str) -> Option<Self> {
        let ubuntu = signature.split_whitespace().next_back().and_then(Self::parse);
        let debian = || version.split_once("Debian ").and_then(|(_, it)| Self::parse(it));
        ubuntu.or_else(debian).or_else(|| Self::parse(release.trim()))
    }

    /// The release in a kernel's name: the first that stands in the last part of the path that has one.
    ///
    /// Names of packages may have less than the whole truth: Debian's `6.1.0-50-cloud-amd64` is some 6.1.y.
    pub fn in_name(name: &str) -> Option<Self> {
        name.rsplit('/').find_map(|part| {
            let starts = part.char_indices().filter(|&(at, it)| {
                let before = part.get(..at).and_then(|it| it.chars().next_back());
                it.is_ascii_digit() && !before.is_some_and(|it| it.is_ascii_digit() || it == '.')
            });
            starts.filter_map(|(at, _)| Self::parse(part.get(at..)?)).next()
        })
    }
}

/// The number at the start of `text`, and what follows it.
fn number(text: &str) -> Option<(u16, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, rest))
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { major, minor, patch } = self;
        match patch {
            0 => write!(f, "{major}.{minor}"),
            _ => write!(f, "{major}.{minor}.{patch}"),
        }
    }
}

/// From which releases on the kernel does something.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    /// This release, and all that are later.
    first: Release,
    /// These, and what is later in the same series.
    backports: &'static [Release],
}

impl Since {
    pub(crate) const fn release(major: u16, minor: u16) -> Self {
        Self { first: Release::new(major, minor, 0), backports: &[] }
    }

    /// Whether a kernel of that release does it.
    pub fn holds_for(self, release: Release) -> bool {
        let series = |it: Release| (it.major, it.minor);
        release >= self.first
            || self.backports.iter().any(|&it| series(it) == series(release) && release >= it)
    }
}

/// What differs between kernels, each with the first release where it holds, and where that is known from.
///
/// Not here: a negative index in an access string. Kernels refuse it since April 2026, earlier ones read out of
/// bounds; here it is an error for all of them (`HARDEN`).
pub mod releases {
    use super::{Release, Since};

    /// The kernel relocates programs at all: commit "bpf: Add bpf_core_relo_kind ... core_relos", merged for 5.17.
    pub const CORE_RELOS: Since = Since::release(5, 17);

    /// It compares types for `TYPE_EXISTS`, `TYPE_SIZE` and `TYPE_ID_TARGET`. 5.17 has a stub in that place that
    /// fails with `-EOPNOTSUPP`; commit e70e13e7d4ab ("bpf: Implement bpf_core_types_are_compat()") is in 5.18.
    pub const COMPARES_TYPES: Since = Since::release(5, 18);

    /// It knows ENUM64. From the same patches: values have 64 bits instead of 32, and an enum is signed if its flag
    /// says so instead of always. Linux 6.0, from the posted patches; no kernel before 6.0 was run.
    pub const ENUM64: Since = Since::release(6, 0);

    /// It knows `TYPE_MATCHES`: Linux 6.0, from the posted patches.
    pub const TYPE_MATCHES: Since = Since::release(6, 0);

    /// The size of an array's element, not of the array, decides whether an access to it has to change its width:
    /// libbpf's commit of February 2025, in Linux about 6.15. Sources of 6.1.192 and 6.12.117 have the array's
    /// size, the running 6.18.44 has the element's. The exact release is not confirmed.
    pub const ELEMENT_WIDTH: Since = Since::release(6, 15);

    /// An instruction that cannot be relocated is an error even where it would be poisoned; before, the poison came
    /// first. Of those that were run, 6.1.192, 6.12.117, 7.2.9, 7.2.12 and 7.3.4 have it, 6.18.44 and 7.2.6 have not, nor
    /// has libbpf of July 2026. What is between, and that it came after 6.18.44 and not to other series, is a guess.
    /// Compilers make no code for which it matters.
    pub const CLASS_BEFORE_POISON: Since = Since {
        first: Release::new(7, 3, 0),
        backports: &[
            Release::new(6, 1, 192),
            Release::new(6, 12, 117),
            Release::new(6, 18, 45),
            Release::new(7, 2, 9),
        ],
    };

    /// It applies the records of programs that have neither function nor line information; before, it passes over them.
    /// Of those that were run, 6.18.44, 7.2.6 and 7.2.12 do not, 7.3.4 does.
    pub const RECORDS_ALONE: Since = Since::release(7, 3);
}

/// How a decided relocation gets into an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patching {
    /// The form of the instruction is checked, and an access whose width cannot follow is poisoned.
    Checked,
    /// aya: nearly nothing is checked, and an access whose width cannot follow ends the load.
    Aya,
    /// cilium/ebpf: widths never change, immediates are checked for their range, a poisoned `ldimm64` stays one.
    EbpfGo,
}

/// Of what kinds the candidates for a root are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinds {
    /// That of the root; ENUM and ENUM64 count as one.
    Compatible,
    /// Just that of the root.
    Exact,
    /// Any: a typedef may stand for a struct, and one that is only declared is one as well.
    Any,
}

/// Where candidates are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Searched {
    /// In vmlinux.
    Vmlinux,
    /// In vmlinux, and in modules if it has none.
    ModulesIfNone,
    /// In vmlinux and in modules.
    All,
}

/// How fields are found in a candidate, and what is computed of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fields {
    /// libbpf's way, and what others have made of it.
    Libbpf,
    /// cilium/ebpf's: breadth first, and of bitfields what an access as wide as their type needs.
    EbpfGo,
}

/// How types are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Types {
    /// libbpf's way, and what others have made of it.
    Libbpf,
    /// cilium/ebpf's: pairs that were met before fit.
    EbpfGo,
}

/// What becomes of the candidates for a root from record to record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A record takes away those that it does not match from the records behind it.
    Pruned,
    /// Every record starts with all of them.
    Fresh,
    /// All records of a program that are about the same local type get the one that the most of them match.
    Scored,
}

/// What the size or id of a type is that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutType {
    /// 0.
    Zero,
    /// An error.
    Error,
    /// There is none: the instruction is poisoned.
    Poison,
}

/// The rules by which a loader decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whether programs are loaded one by one, each with its own records.
    pub one_by_one: bool,
    /// Where flavors of names begin.
    pub flavors: Flavors,
    /// Of what kinds candidates are.
    pub kinds: Kinds,
    /// When modules are searched.
    pub searched: Searched,
    /// What becomes of candidates from record to record.
    pub choice: Choice,
    /// How fields are found.
    pub fields: Fields,
    /// How types are compared.
    pub types: Types,
    /// How sizes of types are computed, on both sides.
    pub sizes: Sizes,
    /// Nested members and parameters that comparisons of types follow.
    pub level_max: u32,
    /// Whether types are compared at all.
    pub compares_types: bool,
    /// Whether `TYPE_MATCHES` is a kind of relocation.
    pub type_matches: bool,
    /// Whether ENUM64 is known, values have 64 bits, and enums say whether they are signed.
    pub enum64: bool,
    /// Whether the size of an array's innermost element counts as that of an access to it, else the array's.
    pub element_width: bool,
    /// Whether an instruction that cannot be relocated is an error even if it is to be poisoned.
    pub class_before_poison: bool,
    /// Whether floats are compatible types.
    pub float_types: bool,
    /// Whether enums and forward declarations without a name fit those that have one, as types of members.
    pub anonymous_fits: bool,
    /// Whether a member of the right name and a wrong type leaves its offset behind, and anonymous levels count as
    /// steps of the path before anything is found there.
    pub leaks_offset: bool,
    /// Whether an array without a bound may be the last member of a union.
    pub flexible_in_union: bool,
    /// Whether bytes before the element that an access starts with are taken for bits in the program's BTF.
    pub root_index_in_bytes: bool,
    /// Whether access strings are read with the liberties of `sscanf`, and lead to no member with an empty name.
    pub scans_access: bool,
    /// Whether shifts of fields that are wider than 8 bytes are negative in 64 bits, else in 32.
    pub wide_shifts: bool,
    /// Whether an array without a bound in the program's BTF is told by the index of the element.
    pub flexible_by_element: bool,
    /// Whether values of an unsigned ENUM are sign-extended as those of a signed one are.
    pub extends_unsigned: bool,
    /// Whether an INT counts as signed by that bit alone, else only if it has no other.
    pub signed_by_bit: bool,
    /// Whether instructions have to hold the value that the local BTF implies.
    pub validates: bool,
    /// Whether a value that the target's field cannot have is poison, else an error.
    pub no_value_is_poison: bool,
    /// Whether instructions have to hold the local id where an id is asked for.
    pub validates_ids: bool,
    /// What size and id of a type are that is not there.
    pub without_type: WithoutType,
    /// Whether a record outside all functions is passed over, else an error.
    pub skips_outside: bool,
    /// How instructions are patched.
    pub patching: Patching,
}

impl Rules {
    /// libbpf's.
    pub const LIBBPF: Self = Self {
        one_by_one: false,
        flavors: Flavors::LastWellFormed,
        kinds: Kinds::Compatible,
        searched: Searched::ModulesIfNone,
        choice: Choice::Pruned,
        fields: Fields::Libbpf,
        types: Types::Libbpf,
        sizes: Sizes::Libbpf,
        level_max: 32,
        compares_types: true,
        type_matches: true,
        enum64: true,
        element_width: true,
        class_before_poison: false,
        float_types: false,
        anonymous_fits: true,
        leaks_offset: true,
        flexible_in_union: true,
        flexible_by_element: false,
        root_index_in_bytes: false,
        scans_access: true,
        wide_shifts: false,
        extends_unsigned: true,
        signed_by_bit: false,
        validates: true,
        no_value_is_poison: false,
        validates_ids: false,
        without_type: WithoutType::Zero,
        skips_outside: true,
        patching: Patching::Checked,
    };

    /// aya's.
    const AYA: Self = Self {
        one_by_one: false,
        flavors: Flavors::First,
        kinds: Kinds::Exact,
        searched: Searched::Vmlinux,
        choice: Choice::Fresh,
        fields: Fields::Libbpf,
        types: Types::Libbpf,
        sizes: Sizes::Aya,
        // HARDEN: it has no bound.
        level_max: 256,
        compares_types: true,
        type_matches: false,
        enum64: true,
        element_width: false,
        class_before_poison: false,
        float_types: true,
        anonymous_fits: false,
        leaks_offset: false,
        flexible_in_union: false,
        flexible_by_element: true,
        root_index_in_bytes: true,
        scans_access: false,
        wide_shifts: true,
        extends_unsigned: false,
        signed_by_bit: true,
        validates: false,
        no_value_is_poison: true,
        validates_ids: false,
        without_type: WithoutType::Error,
        skips_outside: false,
        patching: Patching::Aya,
    };

    /// cilium/ebpf's.
    const EBPF_GO: Self = Self {
        one_by_one: true,
        flavors: Flavors::Last,
        kinds: Kinds::Any,
        searched: Searched::All,
        choice: Choice::Scored,
        fields: Fields::EbpfGo,
        types: Types::EbpfGo,
        sizes: Sizes::EbpfGo,
        scans_access: false,
        extends_unsigned: false,
        validates_ids: true,
        without_type: WithoutType::Poison,
        patching: Patching::EbpfGo,
        ..Self::LIBBPF
    };

    /// The same, with nothing compared if `validate` says so.
    pub(crate) fn validating(self, validate: Validate) -> Self {
        match validate {
            Validate::Loader | Validate::Strict => self,
            Validate::Off => Self { validates: false, validates_ids: false, ..self },
        }
    }

    /// Those of `loader` on a kernel with pointers of `pointer_size` bytes, 4 or 8.
    ///
    /// For a kernel that does not relocate at all (see [`Loader::unsupported`]) they are those of the first that
    /// does.
    pub fn of(loader: Loader, pointer_size: u32) -> Self {
        match loader {
            Loader::Libbpf => Self::LIBBPF,
            Loader::Aya => Self::AYA,
            Loader::EbpfGo => Self::EBPF_GO,
            Loader::Kernel(release) => Self {
                one_by_one: true,
                kinds: Kinds::Exact,
                choice: Choice::Fresh,
                sizes: Sizes::Kernel { pointer_size },
                level_max: 2,
                compares_types: releases::COMPARES_TYPES.holds_for(release),
                type_matches: releases::TYPE_MATCHES.holds_for(release),
                enum64: releases::ENUM64.holds_for(release),
                element_width: releases::ELEMENT_WIDTH.holds_for(release),
                class_before_poison: releases::CLASS_BEFORE_POISON.holds_for(release),
                ..Self::LIBBPF
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that names of kernels as distributions have them give their release.
    #[test]
    fn releases_are_read_from_names() {
        for (name, release) in [
            ("kernels/6.12.117+deb13-cloud-amd64.btf", Some((6, 12, 117))),
            ("6.1.0-50-cloud-amd64.btf,nf_conntrack", Some((6, 1, 0))),
            ("/boot/vmlinux-5.14.0-162.6.1.el9_1.x86_64", Some((5, 14, 0))),
            ("ubuntu/20.04/x86_64/5.4.0-1009-gcp.btf", Some((5, 4, 0))),
            ("7.0.13+deb13/vmlinux", Some((7, 0, 13))),
            ("6.18.44-fc-v669\n", Some((6, 18, 44))),
            ("6.12.btf", Some((6, 12, 0))),
            ("v6.6.btf.zst", Some((6, 6, 0))),
            ("vmlinux", None),
            ("/sys/kernel/btf/vmlinux", None),
            ("kernel-7", None),
            ("6.", None),
            ("99999.1", None),
        ] {
            let wanted = release.map(|(major, minor, patch)| Release { major, minor, patch });
            assert_eq!(Release::in_name(name), wanted, "{name}");
        }
        let told = |signature: &str, version: &str, release: &str| {
            Release::told(signature, version, release).map(|it| it.to_string())
        };
        let debian = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-02)";
        assert_eq!(told("", debian, "6.1.0-56-cloud-amd64\n"), Some("6.1.192".into()));
        let ubuntu = "Ubuntu 5.15.0-91.101-generic 5.15.131\n";
        assert_eq!(told(ubuntu, "#101-Ubuntu SMP", "5.15.0-91-generic"), Some("5.15.131".into()));
        assert_eq!(told("", "#1 SMP Mon Nov 23", "6.18.44\n"), Some("6.18.44".into()));
        assert_eq!(told("", "#1 SMP Debian sid", "7.0.3"), Some("7.0.3".into()));
        assert_eq!(Release::parse("6.12rc1"), None);
        assert_eq!(Release::parse("6.12-rc1"), Release::parse("6.12"));
    }

    /// Check that a change that was backported counts from its release on, in its series only.
    #[test]
    fn backports_count_in_their_series() {
        let holds = |text| releases::CLASS_BEFORE_POISON.holds_for(Release::parse(text).unwrap());
        assert_eq!(
            ["6.1.191", "6.1.192", "6.2.300", "6.12.116", "6.12.117"].map(holds),
            [false, true, false, false, true]
        );
        assert_eq!(
            ["6.18.44", "7.2.6", "7.2.9", "7.2.12", "7.3", "8.0"].map(holds),
            [false, false, true, true, true, true]
        );
    }
}
