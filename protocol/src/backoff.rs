//! When to try again: exponential back-off with full jitter.
//!
//! Each failure doubles the window; the delay is drawn evenly from the whole window, so that
//! agents that lost their cluster together do not come back together. The window is capped, and
//! starts over once a link has lived (see [`Backoff::reset`]).

use core::time::Duration;

/// First window: a single lost link is retried within half a second.
pub const BASE: Duration = Duration::from_millis(500);
/// Largest window: an unreachable cluster costs an agent about two tries a minute.
pub const CAP: Duration = Duration::from_secs(60);

/// Jittered delays between attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    failures: u32,
    rng: fastrand::Rng,
}

impl Backoff {
    /// `seed` must differ between devices, or they will retry in step.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            failures: 0,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// How long to wait after one more failure. `at_least` is what the cluster asked for; the
    /// jitter comes on top of it, so that a storm named one delay still spreads out.
    pub fn next_delay(&mut self, at_least: Duration) -> Duration {
        let window = BASE.saturating_mul(1 << self.failures.min(16)).min(CAP);
        self.failures = self.failures.saturating_add(1);
        at_least.saturating_add(self.below(window))
    }

    /// Draws a delay evenly from `0..window`.
    pub fn below(&mut self, window: Duration) -> Duration {
        let millis = u64::try_from(window.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(self.rng.u64(0..millis))
    }

    /// A link has lived: the next failure starts from the first window again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last reset.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_below_a_doubling_window_up_to_the_cap() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(seed);
            let mut window = BASE;
            for _ in 0..40 {
                assert!(backoff.next_delay(Duration::ZERO) < window, "seed {seed}");
                window = (window * 2).min(CAP);
            }
        }
    }

    #[test]
    fn a_delay_named_by_the_cluster_is_kept_and_spread() {
        let asked = Duration::from_secs(30);
        let mut seen = [false; 4];
        for seed in 0..64 {
            let mut backoff = Backoff::new(seed);
            for _ in 0..4 {
                backoff.next_delay(Duration::ZERO);
            }
            let extra = backoff.next_delay(asked) - asked;
            seen[usize::try_from(extra.as_secs() / 2).unwrap()] = true;
        }
        assert_eq!(
            seen, [true; 4],
            "64 devices should fill the whole 8 s window"
        );
    }

    #[test]
    fn a_link_that_lived_starts_over() {
        let mut backoff = Backoff::new(1);
        for _ in 0..20 {
            backoff.next_delay(Duration::ZERO);
        }
        backoff.reset();
        assert!(backoff.next_delay(Duration::ZERO) < BASE);
    }
}
