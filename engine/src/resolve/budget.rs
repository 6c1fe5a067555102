//! Bounds the work of matching, which libbpf bounds by depth only (HARDEN).
//!
//! Prototypes that refer to themselves and anonymous structs that share their members make matching
//! exponential; long chains of typedefs behind many members multiply. Real records take some hundred steps,
//! the largest comparisons of types some ten thousand.

use super::Watch;
use crate::btf::{Btf, Type, TypeId};
use crate::error::ResolveError;

/// Steps that one query may take on one type.
const STEPS: u32 = 1 << 17;

/// Steps that are left: hops along modifiers, members and enumerators looked at, types compared. And who watches them
/// being taken: by default nobody, which costs nothing.
#[derive(Debug)]
pub struct Budget<W = ()> {
    left: u32,
    pub(super) watch: W,
}

impl Budget {
    /// For one query on one type.
    #[expect(clippy::new_without_default, reason = "a budget is a decision, not a default")]
    pub fn new() -> Self {
        Self::watched(())
    }
}

impl<W: Watch> Budget<W> {
    /// For one query on one type that `watch` is to be told about.
    pub fn watched(watch: W) -> Self {
        Self { left: STEPS, watch }
    }

    /// Takes one step.
    ///
    /// # Errors
    /// [`ResolveError::MatchTooDeep`] if there is none left.
    #[inline]
    pub(super) fn spend(&mut self) -> Result<(), ResolveError> {
        self.left = self.left.checked_sub(1).ok_or(ResolveError::MatchTooDeep)?;
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
