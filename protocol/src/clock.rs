//! What time it is on a device whose clock cannot be trusted.
//!
//! A board without a battery boots in 1970, and one with a broken clock in 2040. Three things are
//! known all the same: the time this agent was built, the newest time it has seen before (both make
//! up the *floor*), and, once a handshake with the cluster is done, the cluster's time. The clock
//! here is a value: the caller passes the system's wall clock and its monotonic clock with each
//! question.

use core::time::Duration;

/// How far the stored floor may lag: flash is written at most this often for the clock's sake.
pub const FLOOR_STEP: Duration = Duration::from_secs(24 * 3600);

/// How far above the floor the system's clock is believed. No device is without its cluster and
/// without an update for longer and still right about the year; one that says so has lost it.
pub const BELIEVED: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Times of the cluster come in whole seconds and over the network. A difference up to this is
/// no news, and does not make the clock jump.
const TOLERANCE: Duration = Duration::from_secs(2);

/// The device's own idea of the time. Times are since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    floor: Duration,
    start: Option<Duration>,
}

impl Clock {
    /// A clock that knows nothing but that it is not before `floor`.
    #[must_use]
    pub const fn new(floor: Duration) -> Self {
        Self { floor, start: None }
    }

    /// A clock from what [`Self::floor`] and [`Self::start`] gave.
    #[must_use]
    pub const fn from_parts(floor: Duration, start: Option<Duration>) -> Self {
        Self { floor, start }
    }

    /// The newest time known from before.
    #[must_use]
    pub const fn floor(&self) -> Duration {
        self.floor
    }

    /// The cluster's time when the monotonic clock was at zero.
    #[must_use]
    pub const fn start(&self) -> Option<Duration> {
        self.start
    }

    /// Takes the cluster's time from an authenticated peer.
    pub fn learn(&mut self, cluster_wall: Duration, monotonic: Duration) {
        let known = self.told(monotonic);
        if known.is_none_or(|known| known.abs_diff(cluster_wall) > TOLERANCE) {
            self.start = Some(cluster_wall.saturating_sub(monotonic));
        }
    }

    /// The time by the cluster's clock, once known.
    #[must_use]
    pub fn told(&self, monotonic: Duration) -> Option<Duration> {
        self.start.map(|start| start.saturating_add(monotonic))
    }

    /// The cluster's time, once known; else the system's, unless it cannot be right: then the
    /// floor.
    #[must_use]
    pub fn now(&self, system_wall: Duration, monotonic: Duration) -> Duration {
        let believed = self.floor..=self.floor.saturating_add(BELIEVED);
        match self.told(monotonic) {
            Some(told) => told,
            None if believed.contains(&system_wall) => system_wall,
            None => self.floor,
        }
    }

    /// Whether the stored time is far enough from the cluster's to be written anew. In either
    /// direction, since a cluster that once had the wrong time must not leave it on its devices for
    /// good; and never by the system's clock.
    #[must_use]
    pub fn is_outdated(&self, stored: Duration, monotonic: Duration) -> bool {
        self.told(monotonic)
            .is_some_and(|told| told.abs_diff(stored) >= FLOOR_STEP)
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
    fn so_does_a_device_whose_clock_is_decades_ahead() {
        let clock = Clock::new(s(1_000_000));
        let edge = s(1_000_000) + BELIEVED;
        assert_eq!(clock.now(edge, s(12)), edge);
        assert_eq!(clock.now(edge + s(1), s(12)), s(1_000_000));
        assert_eq!(clock.now(Duration::MAX, s(12)), s(1_000_000));
    }

    #[test]
    fn the_clusters_time_wins_and_goes_on_with_the_monotonic_clock() {
        let mut clock = Clock::new(s(1_000_000));
        clock.learn(s(5_000_000), s(100));
        assert_eq!(clock.now(s(12), s(160)), s(5_000_060));
        assert_eq!(clock.now(s(9_000_000), s(160)), s(5_000_060));
        // Even a time below the floor: the cluster is asked, not believed in part.
        clock.learn(s(500_000), s(200));
        assert_eq!(clock.now(s(12), s(260)), s(500_060));
    }

    #[test]
    fn a_difference_of_a_second_is_no_news() {
        let mut clock = Clock::new(s(0));
        clock.learn(s(5_000_000), s(100));
        clock.learn(s(5_000_009), s(110));
        assert_eq!(clock.told(s(110)), Some(s(5_000_010)));
        clock.learn(s(5_000_007), s(110));
        assert_eq!(clock.told(s(110)), Some(s(5_000_007)));
    }

    #[test]
    fn the_stored_time_is_outdated_after_a_day_and_only_by_the_cluster() {
        let stored = s(1_000_000);
        let mut clock = Clock::new(stored);
        assert!(!clock.is_outdated(stored, s(500_000)));
        clock.learn(s(1_000_010), s(0));
        assert!(!clock.is_outdated(stored, s(86_389)));
        assert!(clock.is_outdated(stored, s(86_390)));
        // The cluster had the wrong time, and takes it back.
        assert!(clock.is_outdated(s(900_000_000), s(0)));
    }

    #[test]
    fn a_clock_goes_through_its_parts() {
        let mut clock = Clock::new(s(1_000_000));
        clock.learn(s(5_000_000), s(100));
        assert_eq!(Clock::from_parts(clock.floor(), clock.start()), clock);
    }
}
