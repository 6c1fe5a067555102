//! What many times come to.

use std::time::Duration;

/// Milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    /// The shortest.
    pub min: f64,
    /// A quarter is shorter.
    pub q1: f64,
    /// Half is shorter.
    pub median: f64,
    /// Three quarters are shorter.
    pub q3: f64,
    /// Nine tenths are shorter.
    pub p90: f64,
    /// All but one in a hundred are shorter.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Stats {
    /// Of some times; no number without any.
    pub fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut millis: Vec<f64> = times.map(|it| it.as_secs_f64() * 1e3).collect();
        millis.sort_by(f64::total_cmp);
        let last = millis.len().saturating_sub(1);
        let at =
            |hundredths: usize| millis.get((last * hundredths).div_ceil(100)).copied().unwrap_or(f64::NAN);
        Self { min: at(0), q1: at(25), median: at(50), q3: at(75), p90: at(90), p99: at(99), max: at(100) }
    }
}
