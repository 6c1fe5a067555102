//! Taking times: rounds in which every matcher has its turn, so that a disturbance hits all of them alike.

use std::hint::black_box;
use std::time::{Duration, Instant};

use btfleet_engine::btf::{Btf, TypeId};
use btfleet_engine::matchers::{MATCHERS, Matcher};
use btfleet_engine::query::Root;

/// Rounds on each kernel.
pub(super) const ROUNDS: usize = 21;
/// How long one matcher looks up in one round: much shorter than the time slice of a scheduler, so that on a busy
/// machine most turns pass undisturbed and the median is one of them.
const WARM_TURN: Duration = Duration::from_micros(200);
/// Lookups of one turn, at least and at most: the scan takes longer for one than others for thousands.
const WARM_LOOKUPS_MIN: usize = 1;
const WARM_LOOKUPS_MAX: usize = 20_000;
/// Lookups with a cold cache in each round.
const COLD_HITS: usize = 2;
const COLD_MISSES: usize = 1;
/// Size of a last-level cache where the system does not tell, in bytes.
const CACHE_GUESS: usize = 32 << 20;
/// More is not walked, whatever the system tells.
const CACHE_MAX: usize = 256 << 20;
const CACHE_LINE: usize = 64;

/// Times in nanoseconds; sorted once all of them are there.
#[derive(Clone, Debug, Default)]
pub(super) struct Times(Vec<f64>);

impl Times {
    /// The medians of several kernels as times of their own.
    pub(super) fn of_medians<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        let mut times = Self(all.filter_map(Self::median).collect());
        times.sort();
        times
    }

    fn sort(&mut self) {
        self.0.sort_by(f64::total_cmp);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The time that `quarters` of four do not exceed: 0 is the least one, 2 the median. `None` if nothing was measured.
    pub(super) fn quartile(&self, quarters: usize) -> Option<f64> {
        self.0.get(self.0.len().checked_sub(1)? * quarters / 4).copied()
    }

    pub(super) fn median(&self) -> Option<f64> {
        self.quartile(2)
    }
}

/// What was measured of one matcher on one kernel.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    /// Bytes on the heap after all lookups.
    pub(super) bytes: usize,
    pub(super) build: Times,
    /// One lookup that finds something, its data in the caches as far as they fit.
    pub(super) warm_hit: Times,
    pub(super) warm_miss: Times,
    /// One lookup after a buffer twice as large as the last-level cache was walked.
    pub(super) cold_hit: Times,
    pub(super) cold_miss: Times,
    /// Building, and all lookups of one object.
    pub(super) one_object: Times,
}

/// One measure of [`Figures`].
type Measure = fn(&Figures) -> &Times;

/// The measures by name, in the order of the columns.
pub(super) const MEASURES: [(&str, Measure); 6] = [
    ("build", |it| &it.build),
    ("warm-hit", |it| &it.warm_hit),
    ("warm-miss", |it| &it.warm_miss),
    ("cold-hit", |it| &it.cold_hit),
    ("cold-miss", |it| &it.cold_miss),
    ("one-object", |it| &it.one_object),
];

/// A place in a list of lookups that is walked round and round.
struct Turn<'l, 'a> {
    roots: &'l [Root<'a>],
    at: usize,
    /// Lookups that take about [`WARM_TURN`].
    count: usize,
}

/// What the measurements share.
pub(super) struct Bench {
    /// Walked to empty the caches.
    walked: Vec<u8>,
    /// What it takes to read the clock twice, in nanoseconds.
    clock: f64,
    found: Vec<TypeId>,
}

impl Bench {
    pub(super) fn new() -> Self {
        let mut clock: Vec<f64> = (0..1001).map(|_| nanos(Instant::now().elapsed())).collect();
        clock.sort_by(f64::total_cmp);
        // Written once: pages that were never written are all the same page of zeros.
        let walked = vec![1; 2 * last_level_cache().unwrap_or(CACHE_GUESS).min(CACHE_MAX)];
        Self { walked, clock: clock.get(500).copied().unwrap_or(0.0), found: Vec::new() }
    }

    /// Measures all matchers on one BTF. `hits` have candidates in it and `misses` have none.
    pub(super) fn run(
        &mut self,
        btf: &Btf<'_>,
        hits: &[Root<'_>],
        misses: &[Root<'_>],
        one_object: &[Root<'_>],
    ) -> Vec<Figures> {
        let built: Vec<Box<dyn Matcher>> = MATCHERS.iter().map(|it| (it.build)(btf)).collect();
        let mut running: Vec<_> = built
            .into_iter()
            .map(|it| (self.turn(&*it, hits), self.turn(&*it, misses), Figures::default(), it))
            .collect();
        for round in 0..ROUNDS {
            for (contender, (_, _, figures, _)) in MATCHERS.iter().zip(&mut running) {
                let start = Instant::now();
                let fresh = black_box((contender.build)(btf));
                figures.build.0.push(self.since(start, 1));
                drop(fresh);
                let start = Instant::now();
                let fresh = (contender.build)(btf);
                for root in one_object {
                    fresh.candidates(black_box(root), &mut self.found);
                    black_box(&self.found);
                }
                figures.one_object.0.push(self.since(start, 1));
            }
            for (hits, misses, figures, matcher) in &mut running {
                figures.warm_hit.0.extend(self.warm(&**matcher, hits));
                figures.warm_miss.0.extend(self.warm(&**matcher, misses));
            }
            for (_, _, figures, matcher) in &mut running {
                self.cold(&**matcher, hits, round, COLD_HITS, &mut figures.cold_hit);
                self.cold(&**matcher, misses, round, COLD_MISSES, &mut figures.cold_miss);
            }
        }
        let done = running.into_iter().map(|(_, _, mut figures, matcher)| {
            let Figures { bytes, build, warm_hit, warm_miss, cold_hit, cold_miss, one_object } = &mut figures;
            *bytes = matcher.bytes();
            [build, warm_hit, warm_miss, cold_hit, cold_miss, one_object].into_iter().for_each(Times::sort);
            figures
        });
        done.collect()
    }

    /// Nanoseconds for each of `count` things since `start`.
    fn since(&self, start: Instant, count: usize) -> f64 {
        (nanos(start.elapsed()) - self.clock).max(0.0) / divisor(count)
    }

    /// Finds out how many lookups make a turn, which warms up as well.
    fn turn<'l, 'a>(&mut self, matcher: &dyn Matcher, roots: &'l [Root<'a>]) -> Turn<'l, 'a> {
        let mut turn = Turn { roots, at: 0, count: WARM_LOOKUPS_MIN };
        if let Some(each) = self.warm(matcher, &mut turn) {
            let mut time = each;
            while turn.count < WARM_LOOKUPS_MAX && time * divisor(turn.count) < nanos(WARM_TURN) {
                turn.count = (turn.count * 2).min(WARM_LOOKUPS_MAX);
                time = self.warm(matcher, &mut turn).unwrap_or(time);
            }
        }
        turn
    }

    /// Does one turn; nanoseconds for each lookup.
    fn warm(&mut self, matcher: &dyn Matcher, turn: &mut Turn<'_, '_>) -> Option<f64> {
        let (behind, ahead) = (turn.roots.get(..turn.at)?, turn.roots.get(turn.at..)?);
        if turn.roots.is_empty() {
            return None;
        }
        let round = ahead.iter().chain(behind);
        let start = Instant::now();
        for root in round.cycle().take(turn.count) {
            matcher.candidates(black_box(root), &mut self.found);
            black_box(&self.found);
        }
        let each = self.since(start, turn.count);
        turn.at = (turn.at + turn.count) % turn.roots.len();
        Some(each)
    }

    /// Times single lookups, each with empty caches. All matchers are asked the same ones in the same round.
    fn cold(
        &mut self,
        matcher: &dyn Matcher,
        roots: &[Root<'_>],
        round: usize,
        count: usize,
        times: &mut Times,
    ) {
        // Evenly over all of them, whatever their number.
        let step = (roots.len() / (ROUNDS * count)).max(1);
        for number in round * count..(round + 1) * count {
            let Some(root) = roots.get(number * step % roots.len().max(1)) else { return };
            let sum: u64 = self.walked.iter().step_by(CACHE_LINE).map(|&byte| u64::from(byte)).sum();
            black_box(sum);
            let start = Instant::now();
            matcher.candidates(black_box(root), &mut self.found);
            black_box(&self.found);
            times.0.push(self.since(start, 1));
        }
    }

    /// Bytes that are walked to empty the caches.
    pub(super) fn walked_len(&self) -> usize {
        self.walked.len()
    }
}

fn nanos(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

/// A count of lookups to divide by.
fn divisor(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Size of the largest cache of the first core, as Linux tells it.
fn last_level_cache() -> Option<usize> {
    let sizes = std::fs::read_dir("/sys/devices/system/cpu/cpu0/cache").ok()?.filter_map(|entry| {
        let text = std::fs::read_to_string(entry.ok()?.path().join("size")).ok()?;
        let text = text.trim();
        match text.strip_suffix('K') {
            Some(kib) => kib.parse::<usize>().ok()?.checked_mul(1 << 10),
            None => text.strip_suffix('M')?.parse::<usize>().ok()?.checked_mul(1 << 20),
        }
    });
    sizes.max()
}
