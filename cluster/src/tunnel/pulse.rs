//! Whether a link's agent gives signs of life, seen from the cluster.
//!
//! The agent says how long it may be silent. When it is silent for longer, with time for a probe
//! of its own, the node counts as away; but its connection is kept, since a path that returns
//! brings it back with all its streams. Only after [`DARK_FOR`] it is given up.

use std::time::Duration;

use protocol::link::{DARK_FOR, KEEPALIVE, PROBE_TIMEOUT};
use tokio::time::Instant;

/// For packets that are late, and for agents whose clocks run slow.
const MARGIN: Duration = Duration::from_secs(5);

/// What follows a sign of life, such as acknowledgements, is no other sign.
const SETTLE: Duration = Duration::from_secs(2);

/// See the [module](self).
pub(super) struct Pulse {
    /// The longest silence that is no cause for concern.
    silence: Duration,
    seen: Instant,
    /// The transport's count some time after that; `None` before.
    heard: Option<u64>,
    away: bool,
}

/// What a look at the link showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Too early to tell.
    Settled,
    /// The agent was heard in between.
    Alive,
    /// It has been silent for too long.
    Silent,
    /// It has been silent for so long that nothing speaks for its return.
    Gone,
}

impl Pulse {
    pub(super) fn new(allowed: Duration) -> Self {
        let mut pulse = Self {
            silence: Duration::ZERO,
            seen: Instant::now(),
            heard: None,
            away: false,
        };
        pulse.allow(allowed);
        pulse
    }

    /// The agent may be silent this long from now on.
    pub(super) fn allow(&mut self, interval: Duration) {
        self.silence =
            interval.clamp(*KEEPALIVE.start(), *KEEPALIVE.end()) + PROBE_TIMEOUT + MARGIN;
    }

    /// Notes a sign of life; tells whether the agent had been away.
    pub(super) fn seen(&mut self) -> bool {
        self.seen = Instant::now();
        self.heard = None;
        std::mem::take(&mut self.away)
    }

    /// When to look next.
    pub(super) fn deadline(&self) -> Instant {
        let silence = match (self.heard, self.away) {
            (None, _) => SETTLE,
            (Some(_), false) => self.silence,
            (Some(_), true) => self.silence.max(DARK_FOR),
        };
        self.seen + silence
    }

    /// It is time to look: `heard` is the transport's count now.
    pub(super) fn look(&mut self, heard: u64) -> Look {
        match self.heard.replace(heard) {
            None => return Look::Settled,
            Some(before) if before != heard => return Look::Alive,
            Some(_) => {}
        }
        if self.away {
            return Look::Gone;
        }
        self.away = true;
        Look::Silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_silent_agent_is_away_and_then_gone() {
        let mut pulse = Pulse::new(MINUTE);
        let start = Instant::now();
        tokio::time::sleep_until(pulse.deadline()).await;
        assert_eq!(pulse.look(7), Look::Settled);
        tokio::time::sleep_until(pulse.deadline()).await;
        assert_eq!(start.elapsed(), MINUTE + PROBE_TIMEOUT + MARGIN);
        assert_eq!(pulse.look(7), Look::Silent);
        tokio::time::sleep_until(pulse.deadline()).await;
        assert_eq!(start.elapsed(), DARK_FOR);
        assert_eq!(pulse.look(7), Look::Gone);
    }

    #[tokio::test(start_paused = true)]
    async fn traffic_of_any_kind_is_a_sign_of_life() {
        let mut pulse = Pulse::new(MINUTE);
        for heard in 8..20 {
            tokio::time::sleep_until(pulse.deadline()).await;
            assert_eq!(pulse.look(heard), Look::Settled);
            tokio::time::sleep_until(pulse.deadline()).await;
            assert_eq!(pulse.look(heard + 1), Look::Alive);
            pulse.seen();
        }
        for look in [Look::Settled, Look::Silent] {
            tokio::time::sleep_until(pulse.deadline()).await;
            assert_eq!(pulse.look(20), look);
        }
        assert!(pulse.seen(), "it had been away");
        assert!(!pulse.seen());
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_may_announce_a_longer_silence_within_bounds() {
        let mut pulse = Pulse::new(MINUTE);
        pulse.look(0);
        pulse.allow(10 * MINUTE);
        assert!(pulse.deadline() - Instant::now() >= 10 * MINUTE);
        pulse.allow(Duration::from_secs(u64::from(u16::MAX)));
        assert!(pulse.deadline() - Instant::now() <= *KEEPALIVE.end() + MINUTE);
    }
}
