//! What the verifiers of different releases know.

use crate::dialect::{Release, Since};

/// How closely a kernel's verifier looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verifier {
    /// It remembers numbers that are spilled with less than 8 bytes.
    pub tracks_narrow_spills: bool,
    /// It remembers immediates that are stored.
    pub tracks_stored_immediates: bool,
    /// It remembers aligned zeros as it does other numbers, and zeros beside what is spilled.
    pub spills_zeros: bool,
    /// It compares ranges with ranges, and knows that what is not equal to an end of its range is inside.
    pub compares_ranges: bool,
    /// It knows that what it reads from the stack is what it has in a register.
    pub names_spills: bool,
    /// It knows the lowest bytes of a number that was spilled with more.
    pub narrows_fills: bool,
    /// It knows that the address of a kfunc is not null.
    pub knows_function_addresses: bool,
    /// It knows the negative of a known number.
    pub tracks_negation: bool,
    /// It knows quotients and remainders of known numbers.
    pub tracks_division: bool,
    /// It knows a known number with its bytes swapped.
    pub tracks_byte_swaps: bool,
    /// It verifies global functions that nothing calls; `None` if the release is not known.
    pub verifies_uncalled: Option<bool>,
}

/// The releases from which on it holds; see the fields of [`Verifier`].
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
    pub const UNKNOWN: Self = Self {
        tracks_narrow_spills: false,
        tracks_stored_immediates: false,
        spills_zeros: false,
        compares_ranges: false,
        names_spills: false,
        narrows_fills: false,
        knows_function_addresses: false,
        tracks_negation: false,
        tracks_division: false,
        tracks_byte_swaps: false,
        verifies_uncalled: None,
    };

    /// The verifier of a release.
    pub fn of(release: Option<Release>) -> Self {
        let Some(release) = release else { return Self::UNKNOWN };
        Self {
            tracks_narrow_spills: since::TRACKS_NARROW_SPILLS.holds_for(release),
            tracks_stored_immediates: since::TRACKS_STORED_IMMEDIATES.holds_for(release),
            spills_zeros: since::SPILLS_ZEROS.holds_for(release),
            compares_ranges: since::COMPARES_RANGES.holds_for(release),
            names_spills: since::NAMES_SPILLS.holds_for(release),
            narrows_fills: since::NARROWS_FILLS.holds_for(release),
            knows_function_addresses: since::KNOWS_FUNCTION_ADDRESSES.holds_for(release),
            tracks_negation: since::TRACKS_NEGATION.holds_for(release),
            tracks_division: since::TRACKS_DIVISION.holds_for(release),
            tracks_byte_swaps: since::TRACKS_BYTE_SWAPS.holds_for(release),
            verifies_uncalled: Some(!since::SKIPS_UNCALLED.holds_for(release)),
        }
    }
}
