//! What time it is on a device whose clock cannot be trusted.
//!
//! A board without a battery boots in 1970. Three things are known all the same: the time this
//! agent was built, the newest time it has seen before (both make up the *floor*), and, once a
//! handshake with the cluster is done, the cluster's time. The clock here is a value: the caller
//! passes the system's wall clock and its monotonic clock with each question.

use core::time::Duration;

/// How far the stored floor may lag: flash is written at most this often for the clock's sake.
pub const FLOOR_STEP: Duration = Duration::from_secs(24 * 3600);

/// The device's own idea of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    floor: Duration,
    cluster: Option<Reading>,
}

/// The cluster's wall clock, seen at a moment of the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    wall: Duration,
    at: Duration,
}

impl Clock {
    /// A clock that never answers below `floor` (time since the Unix epoch).
    #[must_use]
    pub const fn new(floor: Duration) -> Self {
        Self {
            floor,
            cluster: None,
        }
    }

    /// Takes the cluster's time from an authenticated handshake.
    pub fn learn(&mut self, cluster_wall: Duration, monotonic: Duration) {
        self.cluster = Some(Reading {
            wall: cluster_wall,
            at: monotonic,
        });
    }

    /// Time since the Unix epoch: the cluster's, once known; else the system's, unless that is
    /// below the floor.
    #[must_use]
    pub fn now(&self, system_wall: Duration, monotonic: Duration) -> Duration {
        match self.cluster {
            Some(seen) => seen.wall.saturating_add(monotonic.saturating_sub(seen.at)),
            None => system_wall.max(self.floor),
        }
    }

    /// A floor worth storing, if `now` is far enough above the one known. Only times learnt from
    /// the cluster count: a system clock set to 2040 must not lock the device out of the present.
    pub fn floor_to_store(&mut self, monotonic: Duration) -> Option<Duration> {
        self.cluster?;
        let now = self.now(Duration::ZERO, monotonic);
        if now < self.floor.saturating_add(FLOOR_STEP) {
            return None;
        }
        self.floor = now;
        Some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_device_in_1970_lives_at_its_floor() {
        let clock = Clock::new(s(1_000_000));
        assert_eq!(clock.now(s(12), s(12)), s(1_000_000));
        assert_eq!(clock.now(s(2_000_000), s(12)), s(2_000_000));
    }

    #[test]
    fn the_clusters_time_wins_and_goes_on_with_the_monotonic_clock() {
        let mut clock = Clock::new(s(1_000_000));
        clock.learn(s(5_000_000), s(100));
        assert_eq!(clock.now(s(12), s(160)), s(5_000_060));
        assert_eq!(clock.now(s(9_000_000), s(160)), s(5_000_060));
    }

    #[test]
    fn the_floor_is_stored_once_a_day_and_only_from_the_cluster() {
        let mut clock = Clock::new(s(1_000_000));
        assert_eq!(clock.floor_to_store(s(500_000)), None);
        clock.learn(s(1_000_010), s(0));
        assert_eq!(clock.floor_to_store(s(60)), None);
        assert_eq!(clock.floor_to_store(s(86_400)), Some(s(1_086_410)));
        assert_eq!(clock.floor_to_store(s(86_500)), None);
    }
}
