//! Random numbers that are the same on every machine: drawn from a key, never from a state that is handed
//! around, so that what one kernel draws does not depend on what was drawn for another.

/// SplitMix64 of a key.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

/// Folds another part into a key.
pub(super) fn fold(key: u64, part: u64) -> u64 {
    let wide = u128::from(key ^ 0x9e37_79b9_7f4a_7c15) * u128::from(part ^ 0xd6e8_feb8_6659_fd93);
    // Both halves of the product: the low one alone has weak low bits.
    let (low, high) = (wide & u128::from(u64::MAX), wide >> 64);
    u64::try_from(low ^ high).unwrap_or_default().rotate_left(23) ^ part
}

impl Rng {
    /// The sequence of a key.
    pub(super) fn new(key: u64) -> Self {
        Self(key)
    }

    /// The sequence of a key and its parts.
    pub(super) fn of(key: u64, parts: &[u64]) -> Self {
        Self(parts.iter().fold(key, |key, &part| fold(key, part)))
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 if `n` is 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next().checked_rem(n as u64).unwrap_or(0)).unwrap_or(0)
    }

    /// True with this probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A whole number whose mean is `mean`: its whole part, and one more as often as the rest says.
    pub(super) fn count(&mut self, mean: f64) -> usize {
        let whole = mean.max(0.0).floor();
        let more = usize::from(self.chance(mean - whole));
        let mut count = 0;
        // Means are small: a loop is a cast that cannot go wrong.
        while (count as f64) < whole {
            count += 1;
        }
        count + more
    }

    /// One of `items`.
    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    /// Brings `items` into a random order.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// From 0 to 1, without 1.
    fn unit(&mut self) -> f64 {
        // 53 bits fit into an f64 exactly.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A made-up name that C would take, `words` words long.
pub(super) fn name(rng: &mut Rng, words: usize) -> String {
    const WORDS: [&str; 48] = [
        "active", "addr", "backlog", "batch", "bound", "budget", "cache", "chain", "clock", "cookie",
        "count", "credit", "cursor", "delay", "depth", "domain", "epoch", "event", "fence", "flags", "floor",
        "group", "guard", "hint", "index", "last", "level", "limit", "mask", "mode", "nested", "nr", "owner",
        "pending", "policy", "prio", "quota", "ref", "reserve", "seq", "share", "slot", "stamp", "state",
        "thresh", "token", "weight", "window",
    ];
    let words: Vec<&str> = (0..words).filter_map(|_| rng.pick(&WORDS).copied()).collect();
    words.join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_chances_come_out() {
        let mut rng = Rng::of(7, &[1, 2]);
        let total: usize = (0..10_000).map(|_| rng.count(2.25)).sum();
        assert!((22_000..23_000).contains(&total), "{total}");
        assert_eq!((rng.count(0.0), rng.below(0)), (0, 0));
        assert_ne!(fold(1, 2), fold(2, 1));
    }
}
