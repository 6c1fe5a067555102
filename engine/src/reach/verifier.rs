//! What the verifiers of different releases know.

use std::cell::Cell;

use crate::dialect::{Release, Since};

/// Something that the verifiers of some releases do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// It remembers numbers that are spilled with less than 8 bytes.
    TracksNarrowSpills,
    /// It remembers immediates that are stored.
    TracksStoredImmediates,
    /// It remembers aligned zeros as it does other numbers, and zeros beside what is spilled.
    SpillsZeros,
    /// It compares ranges with ranges, and knows that what is not equal to an end of its range is inside.
    ComparesRanges,
    /// It knows that what it reads from the stack is what it has in a register.
    NamesSpills,
    /// It knows the lowest bytes of a number that was spilled with more.
    NarrowsFills,
    /// It knows that the address of a kfunc is not null.
    KnowsFunctionAddresses,
    /// It knows the negative of a known number.
    TracksNegation,
    /// It knows quotients and remainders of known numbers.
    TracksDivision,
    /// It knows a known number with its bytes swapped.
    TracksByteSwaps,
    /// It does not verify global functions that nothing calls.
    SkipsUncalled,
    /// Its release is known.
    IsKnown,
}

impl Feature {
    /// Those that the release decides.
    const OF_RELEASES: [(Self, Since); 11] = [
        (Self::TracksNarrowSpills, since::TRACKS_NARROW_SPILLS),
        (Self::TracksStoredImmediates, since::TRACKS_STORED_IMMEDIATES),
        (Self::SpillsZeros, since::SPILLS_ZEROS),
        (Self::ComparesRanges, since::COMPARES_RANGES),
        (Self::NamesSpills, since::NAMES_SPILLS),
        (Self::NarrowsFills, since::NARROWS_FILLS),
        (Self::KnowsFunctionAddresses, since::KNOWS_FUNCTION_ADDRESSES),
        (Self::TracksNegation, since::TRACKS_NEGATION),
        (Self::TracksDivision, since::TRACKS_DIVISION),
        (Self::TracksByteSwaps, since::TRACKS_BYTE_SWAPS),
        (Self::SkipsUncalled, since::SKIPS_UNCALLED),
    ];
}

/// A set of features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Features(u16);

impl Features {
    pub(super) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn has(self, feature: Feature) -> bool {
        self.0 & 1 << feature as u16 != 0
    }
}

/// How closely a kernel's verifier looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verifier(Features);

/// The releases from which on it holds; see [`Feature`].
mod since {
    use super::Since;

    /// Commit 354e8f1970f8 ("bpf: Support <8-byte scalar spill and refill").
    pub(super) const TRACKS_NARROW_SPILLS: Since = Since::release(5, 16);
    /// Commit ecdf985d7615 ("bpf: track immediate values written to stack by BPF_ST instruction").
    pub(super) const TRACKS_STORED_IMMEDIATES: Since = Since::release(6, 3);
    /// Commit 58aa2afbb1e6 ("bpf: Allow ld_imm64 instruction to point to kfunc").
    pub(super) const KNOWS_FUNCTION_ADDRESSES: Since = Since::release(6, 4);
    /// Commit 18a433b62061 ("bpf: track aligned STACK_ZERO cases as imprecise spilled registers") and those around it.
    pub(super) const SPILLS_ZEROS: Since = Since::release(6, 8);
    /// Commit 96381879a370 ("bpf: generalize is_scalar_branch_taken() logic") and d028f87517d6 ("bpf: make the
    /// verifier tracks the "not equal" for regs").
    pub(super) const COMPARES_RANGES: Since = Since::release(6, 8);
    /// Commit 713274f1f2c8 ("bpf: Assign ID to scalars on spill").
    pub(super) const NAMES_SPILLS: Since = Since::release(6, 9);
    /// Commit 2afae08c9dcb ("bpf: Validate global subprogs lazily").
    pub(super) const SKIPS_UNCALLED: Since = Since::release(6, 8);
    /// Commit c1e6148cb4f8 ("bpf: Preserve boundaries and track scalars on narrowing fill").
    pub(super) const NARROWS_FILLS: Since = Since::release(6, 9);
    /// Commit aced132599b3 ("bpf: Add range tracking for BPF_NEG").
    pub(super) const TRACKS_NEGATION: Since = Since::release(6, 17);
    /// Patches "bpf: Add range tracking for BPF_DIV and BPF_MOD" of January 2026. The release is not confirmed.
    pub(super) const TRACKS_DIVISION: Since = Since::release(7, 1);
    /// Patches "bpf: Add bitwise tracking for BPF_END" of February 2026. The release is not confirmed.
    pub(super) const TRACKS_BYTE_SWAPS: Since = Since::release(7, 1);
}

impl Verifier {
    /// What is known whatever the release.
    pub const UNKNOWN: Self = Self(Features(0));

    /// The verifier of a release.
    pub fn of(release: Option<Release>) -> Self {
        let Some(release) = release else { return Self::UNKNOWN };
        let holds = Feature::OF_RELEASES.iter().filter(|it| it.1.holds_for(release));
        holds.fold(Self::UNKNOWN.with(Feature::IsKnown), |all, it| all.with(it.0))
    }

    /// It with a feature.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Self {
        Self(Features(self.0.0 | 1 << feature as u16))
    }

    /// It without a feature.
    #[must_use]
    pub const fn without(self, feature: Feature) -> Self {
        Self(Features(self.0.0 & !(1 << feature as u16)))
    }

    /// Whether it has the same of some features as another.
    pub fn agrees_on(self, features: Features, other: Self) -> bool {
        (self.0.0 ^ other.0.0) & features.0 == 0
    }
}

/// A verifier, and which of its features made a difference so far.
#[derive(Debug)]
pub(super) struct Consulted {
    verifier: Verifier,
    consulted: Cell<Features>,
}

impl Consulted {
    pub(super) fn new(verifier: Verifier) -> Self {
        Self { verifier, consulted: Cell::default() }
    }

    /// Whether the verifier has a feature. To be asked only where that makes a difference.
    pub(super) fn has(&self, feature: Feature) -> bool {
        self.consulted.set(Features(self.consulted.get().0 | 1 << feature as u16));
        self.verifier.0.has(feature)
    }

    /// The features that were asked for.
    pub(super) fn features(&self) -> Features {
        self.consulted.get()
    }
}
