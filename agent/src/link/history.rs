//! What became of the link: for `status`, and for the log, which hears of a failure once and not
//! at every try.

use std::time::Duration;

use protocol::link::Loss;
use protocol::message::control::Refusal;
use protocol::transport::Kind;

use super::control::Open;
use crate::clock::Span;
use crate::status::{LastLoss, LinkStatus};

/// See the [module](self).
#[derive(Default)]
pub(super) struct History {
    phase: Phase,
    /// What is known of the reason before the supervisor names the loss.
    because: Option<String>,
    last_loss: Option<LastLoss>,
    failures: u32,
}

/// Times are of the monotonic clock unless they say otherwise.
#[derive(Default)]
enum Phase {
    #[default]
    Connecting,
    Waiting {
        until: Duration,
    },
    Up {
        since: Duration,
        wall: Duration,
        dark: Option<Duration>,
    },
}

impl History {
    pub(super) fn connecting(&mut self) {
        self.phase = Phase::Connecting;
        self.because = None;
    }

    /// Notes a reason; the first one is the cause of those that follow.
    pub(super) fn because(&mut self, text: &str) {
        self.because.get_or_insert_with(|| text.to_owned());
    }

    pub(super) fn up(&mut self, kind: Kind, wall: Duration, now: Duration) {
        log::info!(
            "link up over {}",
            match kind {
                Kind::Quic => "QUIC",
                Kind::Ssh => "SSH",
            }
        );
        self.phase = Phase::Up {
            since: now,
            wall,
            dark: None,
        };
        self.because = None;
        self.failures = 0;
    }

    /// The cluster no longer answers; the link is kept for a while.
    pub(super) fn dark(&mut self, now: Duration) {
        log::info!("the cluster no longer answers; the link is kept for a while");
        if let Phase::Up { dark, .. } = &mut self.phase {
            *dark = Some(now);
        }
    }

    /// It answers again.
    pub(super) fn light(&mut self, now: Duration) {
        if let Phase::Up { dark, .. } = &mut self.phase
            && let Some(dark) = dark.take()
        {
            let lasted = now.saturating_sub(dark);
            log::info!("the cluster answers again, after {}", Span(lasted));
        }
    }

    pub(super) const fn is_dark(&self) -> bool {
        matches!(self.phase, Phase::Up { dark: Some(_), .. })
    }

    /// Another connection than the dark one cannot be had. That may tell more than silence does.
    pub(super) fn no_way_round(&mut self, why: &str, wall: Duration) {
        let reason = reason(Loss::ConnectFailed, Some(why.to_owned()));
        let level = match &self.last_loss {
            Some(last) if last.reason == reason => log::Level::Debug,
            _ => log::Level::Info,
        };
        log::log!(level, "no way round: {reason}");
        self.last_loss = Some(LastLoss { reason, time: wall });
    }

    pub(super) fn down(&mut self, loss: Loss, retry_in: Duration, wall: Duration, now: Duration) {
        let reason = reason(loss, self.because.take());
        self.log(loss, &reason, retry_in);
        self.phase = Phase::Waiting {
            until: now.saturating_add(retry_in),
        };
        self.last_loss = Some(LastLoss { reason, time: wall });
        self.failures = self.failures.saturating_add(1);
    }

    fn log(&self, loss: Loss, reason: &str, retry_in: Duration) {
        let known = self.failures > 0
            && self
                .last_loss
                .as_ref()
                .is_some_and(|last| last.reason == reason);
        let level = match loss {
            _ if known => log::Level::Debug,
            Loss::Refused(Refusal::Busy | Refusal::Internal) => log::Level::Info,
            // Only an operator can help.
            Loss::Refused(_) | Loss::PeerMisbehaved => log::Level::Warn,
            _ => log::Level::Info,
        };
        log::log!(level, "link down: {reason}; next try in {}", Span(retry_in));
    }

    /// Tries in a row that came to nothing.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) const fn last_loss(&self) -> Option<&LastLoss> {
        self.last_loss.as_ref()
    }

    pub(super) fn link(
        &self,
        open: Option<&Open>,
        (heard_at, keepalive): (Option<Duration>, Option<Duration>),
        now: Duration,
    ) -> LinkStatus {
        match (&self.phase, open) {
            (Phase::Up { since, wall, dark }, Some(open)) => {
                let traffic = open.traffic();
                LinkStatus::Up {
                    transport: open.kind(),
                    since: *wall,
                    lasting: now.saturating_sub(*since),
                    dark: dark.map(|dark| now.saturating_sub(dark)),
                    heard: now.saturating_sub(heard_at.unwrap_or(now)),
                    round_trip: open.round_trip(),
                    keepalive,
                    sent: traffic.sent,
                    received: traffic.received,
                }
            }
            (Phase::Waiting { until }, _) => LinkStatus::Waiting {
                retry_in: until.saturating_sub(now),
            },
            _ => LinkStatus::Connecting,
        }
    }
}

/// One phrase for the loss, with what is known beyond it.
fn reason(loss: Loss, because: Option<String>) -> String {
    // The way it ended says all.
    if let (Loss::Closed, Some(because)) = (loss, &because) {
        return because.clone();
    }
    let loss = match loss {
        Loss::ConnectFailed => "cannot connect",
        Loss::ConnectTimedOut => "no answer to the handshake in time",
        Loss::NotWelcomed => "the cluster did not welcome this node in time",
        Loss::Refused(refusal) => refused(refusal),
        Loss::Closed => "the link ended",
        Loss::Silent => "the cluster no longer answers",
        Loss::Drained => "the cluster asked to come back later",
        Loss::PeerMisbehaved => "the cluster broke the protocol",
    };
    match because {
        Some(because) => format!("{loss}: {because}"),
        None => loss.to_owned(),
    }
}

const fn refused(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Version => "refused, no common version",
        Refusal::Removed => "refused, this node was removed and must join anew",
        Refusal::Locked => "refused, this node is locked",
        Refusal::Busy => "refused for now, the cluster is busy",
        Refusal::Internal => "refused, the cluster made an error",
        Refusal::Cloned => "refused, another device uses this node's key",
        Refusal::Token => "refused, the join token is of no use",
        Refusal::Proof => "refused, the proof does not fit the key",
        Refusal::Invalid => "refused, the request is not acceptable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_loss_is_kept_with_what_caused_it() {
        let mut history = History::default();
        history.connecting();
        history.because("no route to host");
        history.because("closed here");
        history.down(Loss::ConnectFailed, s(4), s(1_700_000_000), s(10));
        let last = history.last_loss().unwrap();
        assert_eq!(last.reason, "cannot connect: no route to host");
        assert_eq!(last.time, s(1_700_000_000));
        assert_eq!(
            history.link(None, (None, None), s(11)),
            LinkStatus::Waiting { retry_in: s(3) }
        );
        assert_eq!(history.failures(), 1);
    }

    #[test]
    fn a_reason_does_not_outlive_its_attempt() {
        let mut history = History::default();
        history.because("old");
        history.connecting();
        history.down(Loss::Silent, s(1), s(0), s(0));
        assert_eq!(
            history.last_loss().unwrap().reason,
            "the cluster no longer answers"
        );
    }

    #[test]
    fn a_dark_link_does_not_hide_why_there_is_no_other() {
        let mut history = History::default();
        history.up(Kind::Quic, s(0), s(5));
        assert!(!history.is_dark());
        history.dark(s(20));
        assert!(history.is_dark());
        history.no_way_round("a portal", s(1_700_000_000));
        let last = history.last_loss().unwrap();
        assert_eq!(last.reason, "cannot connect: a portal");
        history.light(s(30));
        assert!(!history.is_dark());
    }

    #[test]
    fn a_link_that_was_up_starts_the_count_over() {
        let mut history = History::default();
        history.down(Loss::Silent, s(1), s(0), s(0));
        history.up(Kind::Quic, s(0), s(5));
        assert_eq!(history.failures(), 0);
        history.connecting();
        assert_eq!(
            history.link(None, (None, None), s(6)),
            LinkStatus::Connecting
        );
    }
}
