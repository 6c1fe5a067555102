//! CPU and wall time of a piece of work on this thread.

use std::ops::Add;
use std::time::{Duration, Instant};

use crate::libbpf::thread_cpu_time;

/// What a piece of work took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Time {
    /// User and system time of this thread (`CLOCK_THREAD_CPUTIME_ID`). Neighbours on the machine disturb it less than
    /// wall time; no peer starts threads.
    pub cpu: Duration,
    /// Time on the wall.
    pub wall: Duration,
}

impl Add for Time {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, wall: self.wall + other.wall }
    }
}

/// Runs since it was started.
#[derive(Debug)]
pub struct Stopwatch {
    wall: Instant,
    cpu: Duration,
}

impl Stopwatch {
    /// Starts now.
    #[expect(clippy::new_without_default, reason = "a stopwatch that starts by default would be a surprise")]
    pub fn new() -> Self {
        Self { wall: Instant::now(), cpu: thread_cpu_time() }
    }

    /// Time since the start.
    pub fn time(&self) -> Time {
        Time { cpu: thread_cpu_time().saturating_sub(self.cpu), wall: self.wall.elapsed() }
    }
}
