//! The shells around [`protocol::clock`]: the process's clocks, rustls, and how times are written.

use std::fmt;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use tokio::time::Instant;

/// When this agent was built: no device that runs it lives earlier.
pub(crate) const BUILT: Duration = match u64::from_str_radix(env!("TETHER_BUILD_TIME"), 10) {
    Ok(seconds) => Duration::from_secs(seconds),
    Err(_) => Duration::ZERO,
};

pub(crate) use crate::sys::clock::{follow, now, since_boot, system};

/// Time since the agent's start. It never jumps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Monotonic(Instant);

impl Monotonic {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Duration {
        self.0.elapsed()
    }

    /// The moment to sleep until. What lies beyond the clock's range never comes.
    pub(crate) fn at(self, since_start: Duration) -> Instant {
        const FAR: Duration = Duration::from_secs(365 * 86_400);
        self.0 + since_start.min(self.now().saturating_add(FAR))
    }
}

/// One moment, as the clock rule sees it. A handshake is too short to need more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment(pub(crate) Duration);

impl TimeProvider for Moment {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0))
    }
}

/// A time since the Unix epoch, written as RFC 3339 says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Utc(pub(crate) Duration);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (year, month, day) = civil(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

/// Days since the Unix epoch to a Gregorian date, by eras of 400 years that start in March
/// (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days.saturating_add(719_468);
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// A span of time in its two largest units: `3d4h`, `5m10s`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span(pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            s @ 0..60 => write!(f, "{s}s"),
            s @ 60..3600 => write!(f, "{}m{}s", s / 60, s % 60),
            s @ 3600..86_400 => write!(f, "{}h{}m", s / 3600, s / 60 % 60),
            s => write!(f, "{}d{}h", s / 86_400, s / 3600 % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339_says() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Utc(Duration::from_secs(seconds)).to_string(), text);
        }
    }

    #[test]
    fn spans_show_two_units() {
        for (seconds, text) in [(0, "0s"), (61, "1m1s"), (7260, "2h1m"), (360_000, "4d4h")] {
            assert_eq!(Span(Duration::from_secs(seconds)).to_string(), text);
        }
    }

    #[test]
    fn the_build_knows_its_time() {
        assert!(BUILT > Duration::from_secs(1_700_000_000));
    }

    #[tokio::test]
    async fn a_moment_beyond_the_clock_is_far_but_no_overflow() {
        let clock = Monotonic::start();
        assert!(clock.at(Duration::MAX) > Instant::now() + Duration::from_secs(86_400));
    }
}
