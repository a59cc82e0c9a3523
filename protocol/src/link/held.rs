//! The connection that the cluster has welcomed: whether it lives, and how it ends.

use core::time::Duration;

use super::{
    ASK_AGAIN, Action, CHANGED_SPREAD, CHANGED_TIMEOUT, DARK_FOR, DARK_PROBE, Event, LIVED, Link,
    Loss, PROBE_TIMEOUT, Which, Why, index,
};
use crate::error::CloseCode;
use crate::keepalive::Keepalive;
use crate::message::control::ToAgent;
use crate::transport::Kind;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) kind: Kind,
    since: Duration,
    heard: Duration,
    seq: u32,
    sign: Sign,
    leave_at: Option<Duration>,
    /// Another must take its place, however well it is heard: the cluster may have retired it for
    /// one that has come to nothing, or it is bound to an address that the device has left.
    doubtful: bool,
    /// The silence that the cluster was told of, in seconds.
    told_s: u16,
}

/// Whether the cluster gives signs of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// It was heard not long ago.
    Heard,
    /// It was asked, and is asked again if it does not answer soon.
    Asked { deadline: Duration, again: Duration },
    /// It does not answer, and is asked again and again.
    Dark { ask_at: Duration },
}

impl Held {
    pub(super) const fn new(kind: Kind, now: Duration) -> Self {
        Self {
            kind,
            since: now,
            heard: now,
            seq: 0,
            sign: Sign::Heard,
            leave_at: None,
            doubtful: false,
            told_s: 0,
        }
    }

    /// Notes a sign of life; tells whether the link was dark.
    pub(super) fn heard(&mut self, now: Duration) -> bool {
        self.heard = now;
        let before = core::mem::replace(&mut self.sign, Sign::Heard);
        matches!(before, Sign::Dark { .. })
    }

    pub(super) const fn is_listening(&self) -> bool {
        !matches!(self.sign, Sign::Heard)
    }

    fn lasting(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }

    /// How long it is known to have worked.
    const fn carried(&self) -> Duration {
        self.heard.saturating_sub(self.since)
    }
}

impl Link {
    /// When the cluster was heard last, if there is a link.
    #[must_use]
    pub fn heard_at(&self) -> Option<Duration> {
        self.held.as_ref().map(|held| held.heard)
    }

    pub(super) fn held_says(&mut self, message: &ToAgent<'_>, now: Duration) {
        self.handle_heard(now);
        match message {
            ToAgent::Welcome(_) => self.handle_misbehaviour(Which::Held, now),
            ToAgent::Drain {
                after_ms,
                spread_ms,
            } => {
                let spread = Duration::from_millis(u64::from(*spread_ms));
                let wait = Duration::from_millis(u64::from(*after_ms))
                    .saturating_add(self.backoff.below(spread));
                let at = now.saturating_add(wait);
                if let Some(held) = &mut self.held {
                    held.leave_at = Some(at);
                }
                self.keep_away(at);
            }
            ToAgent::Rebound { .. } => self.mapping_lost(),
            _ => {}
        }
    }

    /// The held link is dark no more: what was to take its place is not needed, unless the cluster
    /// may have taken it.
    ///
    /// What the dark has swallowed goes out again once something later is acknowledged.
    pub(super) fn lighten(&mut self, now: Duration) {
        self.send_heartbeat();
        if self.is_greeting() {
            self.why = Why::Detour(0);
        } else if !self.needs_another() {
            self.cancel_next(CloseCode::Done);
            self.look_for_better(now);
        } else if !self.is_trying() {
            self.detour(0, now);
        }
    }

    pub(super) fn doubt(&mut self) {
        if let Some(held) = &mut self.held {
            held.doubtful = true;
        }
    }

    /// Whether the held link is not enough.
    pub(super) fn needs_another(&self) -> bool {
        self.held
            .is_some_and(|held| held.doubtful || matches!(held.sign, Sign::Dark { .. }))
    }

    /// The NAT had forgotten the link when it was last silent.
    fn mapping_lost(&mut self) {
        let Some(held) = self.held else { return };
        if let Some(keepalive) = self.keepalives.get_mut(index(held.kind)) {
            keepalive.lost();
        }
        self.tell_keepalive();
    }

    /// Tells the cluster of the next silence, unless what it was told before is about right: each
    /// word costs bytes. Silences that are kept short are not told: they may end at any time.
    pub(super) fn tell_keepalive(&mut self) {
        let keepalive = self.held.and_then(|held| self.keepalive_of(held.kind));
        let Some(interval) = keepalive.map(Keepalive::interval) else {
            return;
        };
        let wanted = u16::try_from(interval.as_secs()).unwrap_or(u16::MAX);
        let Some(held) = &mut self.held else { return };
        if wanted > held.told_s || wanted < held.told_s / 2 {
            // With room to grow once or twice.
            let interval_s = wanted.saturating_add(wanted / 2).max(1);
            held.told_s = interval_s;
            self.ask(Action::SendKeepalive { interval_s });
        }
    }

    pub(super) fn held_timeout(&self) -> (Duration, &'static str) {
        let Some(held) = &self.held else {
            return (Duration::MAX, "nothing");
        };
        let liveness = match held.sign {
            Sign::Heard => {
                let silence = self.silence(held.kind).unwrap_or(Duration::MAX);
                (held.heard.saturating_add(silence), "keepalive")
            }
            Sign::Asked { deadline, again } => (deadline.min(again), "probe"),
            Sign::Dark { ask_at } => {
                let end = held.heard.saturating_add(DARK_FOR);
                (ask_at.min(end), "dark")
            }
        };
        match held.leave_at {
            Some(at) if at < liveness.0 => (at, "drain"),
            _ => liveness,
        }
    }

    /// How long the link is silent before it asks for a sign of life.
    fn silence(&self, kind: Kind) -> Option<Duration> {
        self.silence_if(self.attended, kind)
    }

    /// TCP cannot move to another mapping, so there is nothing to be gained from asking sooner.
    pub(super) fn silence_if(&self, attended: bool, kind: Kind) -> Option<Duration> {
        let keepalive = self.keepalive_of(kind)?;
        Some(match kind {
            Kind::Quic => keepalive.interval_if(attended),
            Kind::Ssh => keepalive.interval(),
        })
    }

    fn keepalive_of(&self, kind: Kind) -> Option<&Keepalive> {
        self.keepalives.get(index(kind))
    }

    pub(super) fn check_held(&mut self, now: Duration) {
        let Some(held) = self.held else { return };
        if let Some(at) = held.leave_at.filter(|&at| now >= at) {
            self.ask(Action::Close(Which::Held, CloseCode::Draining));
            self.leave(at, now);
            return;
        }
        if now < self.held_timeout().0 {
            return;
        }
        match held.sign {
            Sign::Heard => {
                let silence = now.saturating_sub(held.heard);
                if let Some(keepalive) = self.keepalives.get_mut(index(held.kind)) {
                    if silence < keepalive.interval() {
                        keepalive.probed_early();
                    } else {
                        keepalive.probed(silence);
                    }
                }
                self.beat(PROBE_TIMEOUT, now);
                self.tell_keepalive();
                self.look_again(now);
            }
            Sign::Asked { deadline, .. } if now >= deadline => self.darken(held, now),
            Sign::Asked { deadline, .. } => {
                self.set_sign(Sign::Asked {
                    deadline,
                    again: now.saturating_add(DARK_PROBE),
                });
                self.send_heartbeat();
            }
            Sign::Dark { .. } if now >= held.heard.saturating_add(DARK_FOR) => {
                self.lose(Loss::Silent, CloseCode::TimedOut, now);
            }
            Sign::Dark { .. } => {
                self.set_sign(Sign::Dark {
                    ask_at: now.saturating_add(DARK_PROBE),
                });
                self.send_heartbeat();
            }
        }
    }

    /// Asks for a sign of life.
    pub(super) fn beat(&mut self, within: Duration, now: Duration) {
        let again = match self.held.map(|held| held.kind) {
            Some(Kind::Quic) => {
                let silence = self.silence(Kind::Quic).unwrap_or(ASK_AGAIN);
                now.saturating_add(silence.min(ASK_AGAIN))
            }
            // TCP repeats by itself what got lost.
            _ => Duration::MAX,
        };
        self.set_sign(Sign::Asked {
            deadline: now.saturating_add(within),
            again,
        });
        self.send_heartbeat();
    }

    /// Asks over a new path. A link that was dark is so until it is heard.
    pub(super) fn beat_anew(&mut self, now: Duration) {
        let sign = self.held.map(|held| held.sign);
        if matches!(sign, Some(Sign::Dark { .. })) {
            self.set_sign(Sign::Dark {
                ask_at: now.saturating_add(DARK_PROBE),
            });
            self.send_heartbeat();
        } else {
            self.beat(CHANGED_TIMEOUT, now);
        }
        if self.needs_another() {
            self.why = Why::Detour(0);
            self.wait(CHANGED_TIMEOUT, now);
        }
    }

    fn set_sign(&mut self, sign: Sign) {
        if let Some(held) = &mut self.held {
            held.sign = sign;
        }
    }

    fn send_heartbeat(&mut self) {
        let Some(held) = &mut self.held else { return };
        held.seq = held.seq.wrapping_add(1);
        let seq = held.seq;
        self.ask(Action::SendHeartbeat { seq });
    }

    fn darken(&mut self, held: Held, now: Duration) {
        self.choice.dark(held.kind, held.lasting(now));
        if held.kind == Kind::Ssh {
            return self.lose(Loss::Silent, CloseCode::TimedOut, now);
        }
        if let Some(keepalive) = self.keepalives.get_mut(index(held.kind)) {
            keepalive.forget_test();
        }
        self.set_sign(Sign::Dark {
            ask_at: now.saturating_add(DARK_PROBE),
        });
        self.send_heartbeat();
        self.tell(Event::Dark);
        if self.is_trying() {
            self.why = Why::Detour(0);
        } else {
            self.detour(0, now);
        }
    }

    /// The held connection cannot follow to the present network, which may be of another family of
    /// addresses. It is dark, for no fault of its transport, and another is tried at once.
    pub fn handle_stranded(&mut self, now: Duration) {
        let Some(held) = self.held else { return };
        self.set_sign(Sign::Dark {
            ask_at: now.saturating_add(DARK_PROBE),
        });
        if !matches!(held.sign, Sign::Dark { .. }) {
            self.tell(Event::Dark);
        }
        self.cancel_next(CloseCode::Done);
        self.why = Why::Detour(0);
        let soon = self.backoff.below(CHANGED_SPREAD);
        self.wait(soon, now);
    }

    pub(super) fn held_closed(&mut self, now: Duration) {
        match self.held.map(|held| held.leave_at) {
            None => {}
            Some(Some(at)) => self.leave(at, now),
            Some(None) => self.end(Loss::Closed, now),
        }
    }

    pub(super) fn lose(&mut self, loss: Loss, code: CloseCode, now: Duration) {
        if self.held.is_some() {
            self.ask(Action::Close(Which::Held, code));
            self.end(loss, now);
        }
    }

    /// The held connection is gone; another may be on its way already.
    fn end(&mut self, loss: Loss, now: Duration) {
        if let Some(held) = self.held.take() {
            self.choice.ended(held.kind, held.carried());
            if held.lasting(now) >= LIVED {
                self.backoff.reset();
            }
            let asked = matches!(held.sign, Sign::Asked { .. });
            // Nothing answers, or somebody who knows nothing of the connection.
            if held.kind == Kind::Ssh && asked && matches!(loss, Loss::Silent | Loss::Closed) {
                self.unsettle(loss, now);
            }
        }
        let retry_in = if self.is_trying() {
            Duration::ZERO
        } else {
            let wait = self.backoff.next_delay(Duration::ZERO);
            self.wait(wait, now)
        };
        self.why = Why::NoLink;
        self.tell(Event::Down { loss, retry_in });
    }

    fn leave(&mut self, at: Duration, now: Duration) {
        if let Some(held) = self.held.take() {
            self.choice.ended(held.kind, held.carried());
        }
        self.backoff.reset();
        self.cancel_next(CloseCode::Done);
        self.why = Why::NoLink;
        let retry_in = self.wait(at.saturating_sub(now), now);
        self.tell(Event::Down {
            loss: Loss::Drained,
            retry_in,
        });
    }
}
