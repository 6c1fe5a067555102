//! The smallest set of kernels on which every behaviour of every object is seen.
//!
//! Set cover: a kernel shows, of each object, the class that it is in; every class of every object has to be shown.
//! Kernels that no object tells apart show the same, so one of them is enough. What is left is small in practice, and
//! is solved exactly by branch and bound; a bound on the steps guards against what is not, and the result says so.

/// Steps of the search, each one a choice of a kernel, before the best that was found has to do.
const STEPS: u32 = 200_000;

/// A set of kernels that covers everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cover {
    /// Numbers of the kernels, ascending.
    pub kernels: Vec<usize>,
    /// Whether no smaller set does.
    pub is_smallest: bool,
}

/// Finds one. `shows`: by kernel, what it shows, as numbers below `count`; a kernel that shows nothing is never
/// chosen. Of equally good kernels the first is taken.
pub(super) fn smallest(shows: &[Vec<u32>], count: usize) -> Cover {
    let mut search = Search::new(shows, count);
    let mut first = State { uncovered: search.all.clone(), chosen: Vec::new() };
    search.choose_forced(&mut first);
    search.best = search.greedy(first.clone());
    search.branch(first);
    let mut kernels = search.best.clone();
    kernels.sort_unstable();
    Cover { kernels, is_smallest: search.steps_left > 0 }
}

/// A set of small numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bits(Vec<u64>);

impl Bits {
    fn of(numbers: impl Iterator<Item = u32>, count: usize) -> Self {
        let mut words = vec![0_u64; count.div_ceil(64)];
        for number in numbers {
            if let Some(word) = words.get_mut(number as usize / 64) {
                *word |= 1 << (number % 64);
            }
        }
        Self(words)
    }

    fn common(&self, other: &Self) -> u32 {
        self.0.iter().zip(&other.0).map(|(a, b)| (a & b).count_ones()).sum()
    }

    fn remove(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= !b);
    }

    fn has(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 != 0)
    }

    fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}

#[derive(Clone)]
struct State {
    uncovered: Bits,
    chosen: Vec<usize>,
}

struct Search {
    sets: Vec<Bits>,
    /// By element: the kernels that show it.
    shown_by: Vec<Vec<usize>>,
    all: Bits,
    best: Vec<usize>,
    steps_left: u32,
}

impl Search {
    fn new(shows: &[Vec<u32>], count: usize) -> Self {
        let sets: Vec<Bits> = shows.iter().map(|it| Bits::of(it.iter().copied(), count)).collect();
        let shown_by: Vec<Vec<usize>> = (0..count)
            .map(|element| {
                (0..sets.len()).filter(|&it| sets.get(it).is_some_and(|it| it.has(element))).collect()
            })
            .collect();
        let all = Bits::of(shows.iter().flatten().copied(), count);
        Self { sets, shown_by, all, best: Vec::new(), steps_left: STEPS }
    }

    fn choose(&self, state: &mut State, kernel: usize) {
        if let Some(set) = self.sets.get(kernel) {
            state.uncovered.remove(set);
            state.chosen.push(kernel);
        }
    }

    /// What only one kernel shows decides for that kernel.
    fn choose_forced(&self, state: &mut State) {
        for (element, kernels) in self.shown_by.iter().enumerate() {
            if let (&[only], true) = (kernels.as_slice(), state.uncovered.has(element)) {
                self.choose(state, only);
            }
        }
    }

    fn gain(&self, state: &State, kernel: usize) -> u32 {
        self.sets.get(kernel).map_or(0, |it| it.common(&state.uncovered))
    }

    /// Always the kernel that shows most of what is missing.
    fn greedy(&self, mut state: State) -> Vec<usize> {
        while !state.uncovered.is_empty() {
            let best = (0..self.sets.len()).max_by_key(|&it| (self.gain(&state, it), std::cmp::Reverse(it)));
            let Some(best) = best.filter(|&it| self.gain(&state, it) > 0) else { break };
            self.choose(&mut state, best);
        }
        state.chosen
    }

    fn branch(&mut self, state: State) {
        if state.uncovered.is_empty() {
            if state.chosen.len() < self.best.len() {
                self.best = state.chosen;
            }
            return;
        }
        // No kernel shows more than the largest gain, so this many more are needed at least.
        let most = (0..self.sets.len()).map(|it| self.gain(&state, it)).max().unwrap_or(0);
        let needed = state.uncovered.len().div_ceil(most.max(1)) as usize;
        if state.chosen.len() + needed >= self.best.len() {
            return;
        }
        // One of those that show the rarest missing element has to be chosen.
        let rarest = (0..self.shown_by.len())
            .filter(|&it| state.uncovered.has(it))
            .min_by_key(|&it| self.shown_by.get(it).map_or(0, Vec::len));
        let mut kernels = rarest.and_then(|it| self.shown_by.get(it)).cloned().unwrap_or_default();
        kernels.sort_by_key(|&it| (std::cmp::Reverse(self.gain(&state, it)), it));
        for kernel in kernels {
            self.steps_left = self.steps_left.saturating_sub(1);
            if self.steps_left == 0 {
                return;
            }
            let mut next = state.clone();
            self.choose(&mut next, kernel);
            self.branch(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check against trying every subset, on small random problems.
    #[test]
    fn no_smaller_set_covers_everything() {
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for _ in 0..300 {
            let (kernels, count) = (random(9) + 1, random(12) + 1);
            let shows: Vec<Vec<u32>> = (0..kernels)
                .map(|_| (0..count).filter(|_| random(3) == 0).map(|it| u32::try_from(it).unwrap()).collect())
                .collect();
            let masks: Vec<u32> =
                shows.iter().map(|it| it.iter().fold(0, |mask, element| mask | 1 << element)).collect();
            let all = masks.iter().fold(0, |all, it| all | it);
            let covers = |subset: u32| {
                let chosen = masks.iter().enumerate().filter(|(it, _)| subset >> it & 1 != 0);
                chosen.fold(0, |mask, (_, it)| mask | it) == all
            };
            let fewest = (0..1_u32 << kernels).filter(|&it| covers(it)).map(u32::count_ones).min().unwrap();
            let found = smallest(&shows, usize::try_from(count).unwrap());
            assert!(found.is_smallest && covers(found.kernels.iter().fold(0, |mask, it| mask | 1 << it)));
            assert_eq!(found.kernels.len(), fewest as usize, "{shows:?}");
        }
    }
}
