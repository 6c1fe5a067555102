//! Names: essential names and their hashes.

/// Hash of an essential name. Stable: it may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameHash(pub u64);

impl NameHash {
    /// Hashes `essential`, a name already cut by [`essential_name`]. XXH3-64, no seed.
    #[inline]
    pub fn of(essential: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64(essential))
    }
}

/// Where a loader takes the flavor of a name to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavors {
    /// At the last `___` that has a non-underscore on both sides: libbpf and the kernel, [`essential_name`].
    LastWellFormed,
    /// At the first `___`, whatever stands around it: aya.
    First,
    /// At the last `___` that is not at the start: cilium/ebpf.
    Last,
}

impl Flavors {
    /// `name` without its flavor.
    #[inline]
    pub fn essential(self, name: &[u8]) -> &[u8] {
        match self {
            Self::LastWellFormed => essential_name(name),
            Self::First => {
                let at = memchr::memmem::find(name, b"___").unwrap_or(name.len());
                name.get(..at).unwrap_or(name)
            }
            Self::Last => {
                let at = memchr::memmem::rfind(name, b"___").filter(|&at| at > 0);
                at.and_then(|at| name.get(..at)).unwrap_or(name)
            }
        }
    }
}

/// Length of `name` without its flavor: up to the last `___` that has a non-underscore on both sides.
///
/// Source: `bpf_core_essential_name_len`, libbpf.
#[inline]
pub fn essential_len(name: &[u8]) -> usize {
    // Nearly every name has no `___` at all, and a run of three covers one byte of every third: 40 % of the
    // time of building a kernel's root index went into looking for underscores before this.
    let is_underscore = |at: usize| name.get(at) == Some(&b'_');
    let may_have_run = (2..name.len()).step_by(3).any(|at| {
        is_underscore(at)
            && (is_underscore(at - 1) && (is_underscore(at - 2) || is_underscore(at + 1))
                || is_underscore(at + 1) && is_underscore(at + 2))
    });
    if may_have_run { last_flavor(name) } else { name.len() }
}

#[cold]
fn last_flavor(name: &[u8]) -> usize {
    let mut end = name.len();
    while let Some(at) = memchr::memrchr(b'_', name.get(..end).unwrap_or_default()) {
        // `at` is the last underscore of a run; the run has to be exactly three long, and not at either end.
        let run = name.get(..=at).unwrap_or_default().iter().rev().take_while(|&&b| b == b'_').count();
        let start = at + 1 - run;
        if run == 3 && start > 0 && at + 1 < name.len() {
            return start;
        }
        end = start;
    }
    name.len()
}

/// `name` without its flavor.
#[inline]
pub fn essential_name(name: &[u8]) -> &[u8] {
    name.get(..essential_len(name)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that aya cuts at the first separator (spec 14).
    #[test]
    fn aya_cuts_at_the_first_separator() {
        for (name, want) in
            [("a___b___c", "a"), ("a____b", "a"), ("a___", "a"), ("___b", ""), ("a__b", "a__b")]
        {
            assert_eq!(Flavors::First.essential(name.as_bytes()), want.as_bytes(), "{name}");
        }
    }

    /// Check that cilium/ebpf cuts at the last separator, but for one at the start (spec 14).
    #[test]
    fn ebpf_go_cuts_at_the_last_separator() {
        for (name, want) in [
            ("a___b___c", "a___b"),
            ("a____b", "a_"),
            ("a___", "a"),
            ("___b", "___b"),
            ("____b", "_"),
            ("a__b", "a__b"),
        ] {
            assert_eq!(Flavors::Last.essential(name.as_bytes()), want.as_bytes(), "{name}");
        }
    }

    /// Check that flavors are cut where libbpf cuts them, and nowhere else (spec 5.2).
    #[test]
    fn essential_names_are_cut_at_the_last_well_formed_separator() {
        for (name, want) in [
            ("a___b", "a"),
            ("a___b___c", "a___b"),
            ("a____b", "a____b"),
            ("a___", "a___"),
            ("___b", "___b"),
            ("a__b", "a__b"),
            ("s___x__1", "s"),
            ("s___err__a", "s"),
            ("_a___b", "_a"),
            ("a___b____c", "a"),
            ("", ""),
            ("____", "____"),
            ("x", "x"),
        ] {
            assert_eq!(essential_name(name.as_bytes()), want.as_bytes(), "{name}");
        }
    }
}
