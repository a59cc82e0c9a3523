//! What the link costs: every byte on the wire, and what silence costs a day.
//!
//! Silence is the time without sessions. Its bytes are heartbeats, renewals and new connections:
//! what a metered device pays for being reachable.

use std::time::Duration;

/// Less silence than this says nothing about a day.
const ENOUGH: Duration = Duration::from_secs(600);
/// A day, in seconds.
const DAY: u64 = 24 * 3600;

/// See the [module](self). Times are of the monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Bytes of silence.
    idle: u64,
    /// Time of silence.
    silent: Duration,
    last: (u64, Duration),
}

impl Budget {
    /// `total` is what all connections have cost so far.
    pub(super) fn observe(&mut self, total: u64, sessions: usize, now: Duration) {
        let (before, then) = std::mem::replace(&mut self.last, (total, now));
        if sessions == 0 {
            self.idle = self.idle.saturating_add(total.saturating_sub(before));
            self.silent = self.silent.saturating_add(now.saturating_sub(then));
        }
    }

    /// Bytes that a day of silence costs, once there was enough of it.
    pub(super) fn a_day(&self) -> Option<u64> {
        if self.silent < ENOUGH {
            return None;
        }
        let day = u128::from(self.idle).saturating_mul(u128::from(DAY));
        u64::try_from(day / u128::from(self.silent.as_secs().max(1))).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn only_silence_counts() {
        let mut budget = Budget::default();
        budget.observe(5_000, 0, s(10));
        budget.observe(9_000_000, 1, s(400));
        for minute in 1..=20 {
            budget.observe(9_000_000 + minute * 100, 0, s(400 + minute * 60));
        }
        let silent = 10 + 20 * 60;
        assert_eq!(budget.a_day(), Some((5_000 + 2_000) * DAY / silent));
    }

    #[test]
    fn a_few_minutes_say_nothing_about_a_day() {
        let mut budget = Budget::default();
        budget.observe(20_000, 0, s(599));
        assert_eq!(budget.a_day(), None);
    }
}
