//! One agent's link to its cluster, without I/O.
//!
//! A [`Link`] is told what happened and the time (a [`Duration`] since an epoch of the caller's
//! choosing) and says what should be done next. It holds at most one connection at a time.
//!
//! ```text
//!            ┌────────── failed, refused, lost ───────────┐
//!            ▼                                            │
//!   Waiting ── due ──► Connecting ── connected ──► Greeting ── welcome ──► Up
//!      ▲                                                                   │ silent, closed,
//!      └────────────────────── back-off with full jitter ◄────────────────┘ drained
//! ```
//!
//! * **Liveness:** after `keepalive` without hearing anything, it asks for a heartbeat; without an
//!   answer within [`PROBE_TIMEOUT`] the link is dead and closed. Anything heard counts.
//! * **Back-off:** every failure waits longer ([`crate::backoff`]); only a link that was up for
//!   [`LIVED`] starts the count over, so that a cluster that accepts and dies is not hammered.
//! * **Drain:** the cluster names a delay and a spread; the link stays in use until its own drawn
//!   moment, or until the cluster closes it, and is not opened again before that moment.
//!
//! It never gives up for good: a refusal only makes the wait longer, since the operator may lift
//! it while nobody can reach the device.

use core::time::Duration;

use crate::backoff::Backoff;
use crate::error::CloseCode;
use crate::message::control::{Refusal, ToAgent};

/// A transport handshake slower than this has failed: three QUIC probe time-outs at 2 s round trip.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The cluster must welcome a Hello within this time.
pub const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// A heartbeat must be answered within this time: a cellular link that hands over may take 5 s.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// A link that was up this long resets the back-off.
pub const LIVED: Duration = Duration::from_secs(30);
/// Least wait after a refusal that only an operator can lift.
pub const REFUSED_WAIT: Duration = Duration::from_secs(600);
/// Bounds for the keepalive interval a cluster may ask for.
pub const KEEPALIVE: core::ops::RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(3600);

/// What the caller should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Open a transport; answer with [`Link::handle_connected`] or [`Link::handle_closed`].
    Connect,
    /// Send a Hello on the control stream.
    SendHello,
    /// Send a heartbeat.
    SendHeartbeat {
        /// Its number.
        seq: u32,
    },
    /// Drop the transport (or the attempt to open one).
    Close(CloseCode),
}

/// What the caller may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The cluster welcomed the agent.
    Up,
    /// The link is gone, or could not be made; the next try is after `retry_in`.
    Down {
        /// Why.
        loss: Loss,
        /// Time until the next try.
        retry_in: Duration,
    },
}

/// Why a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The transport could not be opened.
    ConnectFailed,
    /// The transport's handshake took too long.
    ConnectTimedOut,
    /// No answer to the Hello.
    NotWelcomed,
    /// The cluster refused.
    Refused(Refusal),
    /// The transport ended.
    Closed,
    /// The cluster no longer answers.
    Silent,
    /// The cluster asked to come back later.
    Drained,
    /// The cluster broke the protocol.
    PeerMisbehaved,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting { until: Duration },
    Connecting { deadline: Duration },
    Greeting { deadline: Duration },
    Up(Up),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Up {
    since: Duration,
    heard: Duration,
    keepalive: Duration,
    seq: u32,
    probe: Option<Duration>,
    leave_at: Option<Duration>,
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Link {
    state: State,
    backoff: Backoff,
    // The most that one event asks for is a close and a connect.
    actions: heapless::Deque<Action, 4>,
    events: heapless::Deque<Event, 4>,
}

impl Link {
    /// A link that wants to connect at once. `seed` must differ between devices.
    #[must_use]
    pub fn new(seed: u64, now: Duration) -> Self {
        Self {
            state: State::Waiting { until: now },
            backoff: Backoff::new(seed),
            actions: heapless::Deque::new(),
            events: heapless::Deque::new(),
        }
    }

    /// The transport is open and its peer authenticated.
    pub fn handle_connected(&mut self, now: Duration) {
        if matches!(self.state, State::Connecting { .. }) {
            self.state = State::Greeting {
                deadline: now.saturating_add(WELCOME_TIMEOUT),
            };
            self.ask(Action::SendHello);
        }
    }

    /// A control message came in.
    pub fn handle_message(&mut self, message: &ToAgent<'_>, now: Duration) {
        self.handle_heard(now);
        match (message, &mut self.state) {
            (ToAgent::Welcome(welcome), State::Greeting { .. }) => {
                let keepalive = Duration::from_secs(u64::from(welcome.keepalive_s))
                    .clamp(*KEEPALIVE.start(), *KEEPALIVE.end());
                self.state = State::Up(Up {
                    since: now,
                    heard: now,
                    keepalive,
                    seq: 0,
                    probe: None,
                    leave_at: None,
                });
                self.tell(Event::Up);
            }
            (
                ToAgent::Refused {
                    reason,
                    retry_after_s,
                    ..
                },
                State::Greeting { .. },
            ) => {
                let asked = Duration::from_secs(u64::from(*retry_after_s));
                self.lose(Loss::Refused(*reason), asked.max(patience(*reason)), now);
            }
            (
                ToAgent::Drain {
                    after_ms,
                    spread_ms,
                },
                State::Up(up),
            ) => {
                let spread = self
                    .backoff
                    .below(Duration::from_millis(u64::from(*spread_ms)));
                let wait = Duration::from_millis(u64::from(*after_ms)).saturating_add(spread);
                up.leave_at = Some(now.saturating_add(wait));
            }
            (ToAgent::Welcome(_), _) => self.lose(Loss::PeerMisbehaved, Duration::ZERO, now),
            _ => {}
        }
    }

    /// Anything at all was heard from the cluster.
    pub fn handle_heard(&mut self, now: Duration) {
        if let State::Up(up) = &mut self.state {
            up.heard = now;
            up.probe = None;
        }
    }

    /// The cluster sent what it must not.
    pub fn handle_misbehaviour(&mut self, now: Duration) {
        self.lose(Loss::PeerMisbehaved, Duration::ZERO, now);
    }

    /// The transport ended, or could not be opened.
    pub fn handle_closed(&mut self, now: Duration) {
        match self.state {
            State::Waiting { .. } => {}
            State::Connecting { .. } => self.end(Loss::ConnectFailed, Duration::ZERO, now),
            State::Greeting { .. } => self.end(Loss::Closed, Duration::ZERO, now),
            State::Up(Up {
                leave_at: Some(at), ..
            }) => self.leave(at, now),
            State::Up(_) => self.end(Loss::Closed, Duration::ZERO, now),
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        match self.state {
            State::Waiting { until } if now >= until => {
                self.state = State::Connecting {
                    deadline: now.saturating_add(CONNECT_TIMEOUT),
                };
                self.ask(Action::Connect);
            }
            State::Connecting { deadline } if now >= deadline => {
                self.lose(Loss::ConnectTimedOut, Duration::ZERO, now);
            }
            State::Greeting { deadline } if now >= deadline => {
                self.lose(Loss::NotWelcomed, Duration::ZERO, now);
            }
            State::Up(up) => self.check(up, now),
            _ => {}
        }
    }

    fn check(&mut self, mut up: Up, now: Duration) {
        if let Some(at) = up.leave_at.filter(|&at| now >= at) {
            self.ask(Action::Close(CloseCode::Draining));
            self.leave(at, now);
            return;
        }
        match up.probe {
            Some(deadline) if now >= deadline => self.lose(Loss::Silent, Duration::ZERO, now),
            None if now >= up.heard.saturating_add(up.keepalive) => {
                up.seq = up.seq.wrapping_add(1);
                up.probe = Some(now.saturating_add(PROBE_TIMEOUT));
                self.state = State::Up(up);
                self.ask(Action::SendHeartbeat { seq: up.seq });
            }
            _ => {}
        }
    }

    /// What to do next; call until `None` after each event.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What has changed; call until `None` after each event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`] next, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> (Duration, &'static str) {
        match self.state {
            State::Waiting { until } => (until, "back-off"),
            State::Connecting { deadline } => (deadline, "connect"),
            State::Greeting { deadline } => (deadline, "welcome"),
            State::Up(up) => {
                let liveness = match up.probe {
                    Some(deadline) => (deadline, "probe"),
                    None => (up.heard.saturating_add(up.keepalive), "keepalive"),
                };
                match up.leave_at {
                    Some(at) if at < liveness.0 => (at, "drain"),
                    _ => liveness,
                }
            }
        }
    }

    /// Whether the cluster has welcomed this link and it has not been lost since.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    fn lose(&mut self, loss: Loss, at_least: Duration, now: Duration) {
        let code = match loss {
            Loss::PeerMisbehaved => CloseCode::PeerMisbehaved,
            Loss::Refused(_) => CloseCode::Done,
            _ => CloseCode::TimedOut,
        };
        if !matches!(self.state, State::Waiting { .. }) {
            self.ask(Action::Close(code));
            self.end(loss, at_least, now);
        }
    }

    fn end(&mut self, loss: Loss, at_least: Duration, now: Duration) {
        if let State::Up(up) = self.state
            && now >= up.since.saturating_add(LIVED)
        {
            self.backoff.reset();
        }
        let retry_in = self.backoff.next_delay(at_least);
        self.state = State::Waiting {
            until: now.saturating_add(retry_in),
        };
        self.tell(Event::Down { loss, retry_in });
    }

    fn leave(&mut self, at: Duration, now: Duration) {
        self.backoff.reset();
        self.state = State::Waiting { until: at.max(now) };
        self.tell(Event::Down {
            loss: Loss::Drained,
            retry_in: at.saturating_sub(now),
        });
    }

    fn ask(&mut self, action: Action) {
        let fits = self.actions.push_back(action);
        debug_assert!(fits.is_ok(), "poll_action was not drained");
    }

    fn tell(&mut self, event: Event) {
        let fits = self.events.push_back(event);
        debug_assert!(fits.is_ok(), "poll_event was not drained");
    }
}

const fn patience(refusal: Refusal) -> Duration {
    match refusal {
        Refusal::Busy | Refusal::Internal => Duration::ZERO,
        _ => REFUSED_WAIT,
    }
}
