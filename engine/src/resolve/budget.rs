//! Bounds the work of matching, which libbpf bounds by depth only (HARDEN).
//!
//! Prototypes that refer to themselves and anonymous structs that share their members make matching
//! exponential; long chains of typedefs behind many members multiply. Real records take some hundred steps,
//! the largest comparisons of types some ten thousand.

use crate::btf::{Btf, Type, TypeId};
use crate::error::ResolveError;

/// Steps that every record may take.
const STEPS_PER_RECORD: u32 = 1 << 13;
/// Steps that the records of one fold may take beyond that, all together.
const STEPS_SHARED: u32 = 1 << 22;

/// Steps that are left: hops along modifiers, members and enumerators looked at, types compared.
#[derive(Debug)]
pub struct Budget {
    own: u32,
    shared: u32,
}

impl Budget {
    /// For one fold.
    #[expect(clippy::new_without_default, reason = "a budget is a decision, not a default")]
    pub fn new() -> Self {
        Self { own: STEPS_PER_RECORD, shared: STEPS_SHARED }
    }

    /// Gives the next record its own steps.
    pub fn next_record(&mut self) {
        self.own = STEPS_PER_RECORD;
    }

    /// Takes one step.
    ///
    /// # Errors
    /// [`ResolveError::MatchTooDeep`] if there is none left.
    #[inline]
    pub(super) fn spend(&mut self) -> Result<(), ResolveError> {
        let left = if self.own > 0 { &mut self.own } else { &mut self.shared };
        *left = left.checked_sub(1).ok_or(ResolveError::MatchTooDeep)?;
        Ok(())
    }

    /// [`Btf::skip_mods_and_typedefs`] at the price of a step for each link. `malformed` if it leads nowhere.
    #[inline]
    pub(super) fn skip<'data>(
        &mut self,
        btf: &Btf<'data>,
        id: TypeId,
        malformed: ResolveError,
    ) -> Result<(TypeId, Type<'data>), ResolveError> {
        let (skipped, ty, links) = btf.skip_counting(id).ok_or(malformed)?;
        for _ in 0..links {
            self.spend()?;
        }
        Ok((skipped, ty))
    }
}
