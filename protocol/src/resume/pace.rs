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
    /// So many bytes in all have gone through a buffer of that size.
    pub(super) fn note(&mut self, through: u64, size: u64, now: Duration) {
        if through.saturating_sub(self.through) >= size {
            self.brisk = now.saturating_sub(self.since) <= BRISK;
            self.since = now;
            self.through = through;
        }
    }

    /// Whether the last round was fast. A buffer of another size has to show it anew.
    pub(super) const fn is_brisk(&self) -> bool {
        self.brisk
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
    fn a_round_within_three_seconds_is_brisk_until_another_is_not() {
        let mut pace = Pace::default();
        pace.note(1000, 1000, ms(9000));
        assert!(!pace.is_brisk(), "it may have begun at any time");
        pace.note(1999, 1000, ms(9001));
        assert!(!pace.is_brisk(), "no whole round");
        pace.note(2000, 1000, ms(12_000));
        assert!(pace.is_brisk());
        pace.note(2500, 1000, ms(20_000));
        assert!(pace.is_brisk());
        pace.note(3000, 1000, ms(20_001));
        assert!(!pace.is_brisk());
        pace.note(4000, 1000, ms(20_002));
        assert!(pace.is_brisk());
        pace.reset();
        assert!(!pace.is_brisk());
    }
}
