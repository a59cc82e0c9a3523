//! Whether a buffer is what slows a direction down: whether all that it may hold goes through it
//! again and again.

use core::time::Duration;

/// What goes through within this time is worth more room: 0.7 Mbit/s with 256 KiB. On a slower path
/// more room would only make whoever types wait for longer.
const BRISK: Duration = Duration::from_secs(3);

/// See the [module](self).
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    /// When a round was through last...
    since: Duration,
    /// ...and how much was in all.
    through: u64,
    brisk: bool,
}

impl Pace {
    /// So many bytes in all have gone through a buffer of that size. Tells whether that ends a round.
    pub(super) fn note(&mut self, through: u64, size: u64, now: Duration) -> bool {
        let round = through.saturating_sub(self.through) >= size;
        if round {
            self.brisk = now.saturating_sub(self.since) <= BRISK;
            self.since = now;
            self.through = through;
        }
        round
    }

    /// Whether the last round was fast, and is not long ago. A buffer of another size has to show it
    /// anew.
    pub(super) fn is_brisk(&self, now: Duration) -> bool {
        self.brisk && now.saturating_sub(self.since) <= BRISK
    }

    /// When a round was through last.
    pub(super) const fn round_at(&self) -> Duration {
        self.since
    }

    /// The buffer is of another size from now on.
    pub(super) const fn reset(&mut self) {
        self.brisk = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_round_within_three_seconds_is_brisk_for_a_while_or_until_another_is_not() {
        let mut pace = Pace::default();
        assert!(pace.note(1000, 1000, ms(9000)));
        assert!(!pace.is_brisk(ms(9000)), "it may have begun at any time");
        assert!(!pace.note(1999, 1000, ms(9001)));
        assert!(!pace.is_brisk(ms(9001)), "no whole round");
        assert!(pace.note(2000, 1000, ms(12_000)));
        assert!(pace.is_brisk(ms(15_000)));
        assert!(!pace.is_brisk(ms(15_001)), "long ago");
        assert!(pace.note(3000, 1000, ms(20_001)));
        assert!(!pace.is_brisk(ms(20_001)));
        assert!(pace.note(4000, 1000, ms(20_002)));
        assert!(pace.is_brisk(ms(20_002)));
        pace.reset();
        assert!(!pace.is_brisk(ms(20_002)));
    }
}
