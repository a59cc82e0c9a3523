//! Whether a stream is bulk: told by what it sends, since nobody else says.
//!
//! What is sent fills a bucket that empties at [`RATE`]. A stream whose bucket holds more than
//! [`FULL`] is bulk, and waits behind those that send a key stroke or a screen now and then, until
//! its bucket is nearly empty again.

use core::time::Duration;

/// Bytes a second that make nobody wait: a full screen, redrawn eight times a second.
pub const RATE: u64 = 32 * 1024;
/// A listing, a log's tail, a key exchange: done before anybody notices.
pub const FULL: u64 = 64 * 1024;
/// Below this a stream has calmed down.
const CALM: u64 = FULL / 4;

/// See the [module](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Appetite {
    held: u64,
    at: Duration,
    bulk: bool,
}

impl Appetite {
    /// Notes bytes sent at a moment of the monotonic clock; tells whether the stream is bulk.
    pub fn sent(&mut self, bytes: usize, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at);
        self.at = now;
        let drained = RATE.saturating_mul(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX));
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.held = self
            .held
            .saturating_sub(drained / 1000)
            .saturating_add(bytes)
            // What it ate long ago should not follow it for long.
            .min(2 * FULL);
        self.bulk = self.held > if self.bulk { CALM } else { FULL };
        self.bulk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn keys_and_screens_are_not_bulk() {
        let mut typing = Appetite::default();
        for at in 0..10_000 {
            assert!(!typing.sent(100, ms(at * 30)));
        }
        let mut screens = Appetite::default();
        for at in 0..1_000 {
            assert!(!screens.sent(8_000, ms(at * 250)));
        }
    }

    #[test]
    fn a_copy_is_bulk_after_its_first_moments_and_for_as_long_as_it_runs() {
        let mut copy = Appetite::default();
        // 5 Mbit/s in packets.
        let mut verdicts = (0..10_000).map(|i| copy.sent(1200, ms(i * 2)));
        let first = verdicts.position(|bulk| bulk);
        assert!(first.is_some_and(|first| (50..100).contains(&first)));
        assert!(verdicts.all(|bulk| bulk));
    }

    #[test]
    fn a_stream_that_calms_down_is_forgiven() {
        let mut shell = Appetite::default();
        assert!(shell.sent(10 << 20, ms(1000)));
        assert!(shell.sent(10, ms(3000)), "not at once");
        assert!(!shell.sent(10, ms(5000)));
    }

    #[test]
    fn clocks_that_stand_still_or_jump_do_no_harm() {
        let mut stream = Appetite::default();
        assert!(!stream.sent(usize::MAX / 2, Duration::MAX) || stream.bulk);
        stream.sent(10, Duration::ZERO);
        stream.sent(10, Duration::MAX);
        assert!(!stream.sent(10, Duration::MAX));
    }
}
