//! One agent's link to its cluster, without I/O.
//!
//! A [`Link`] is told what happened and the time (a [`Duration`] since an epoch of the caller's
//! choosing) and says what should be done next. It knows at most two connections: the one it
//! *holds*, which the cluster has welcomed, and the *next* one, which is being made.
//!
//! ```text
//!   next:   Waiting ── due ──► Connecting ── connected ──► (Proving) ──► Greeting ── welcome ─┐
//!              ▲                   │ failed, refused, too slow               │                │
//!              └── full jitter ◄───┴─────────────────────────────────────────┘           promoted
//!                                                                                             ▼
//!   held:                              Dark ◄── silent (QUIC) ── Probing ◄── keepalive ── Quiet
//!                                        └──────── heard ───────────────────────────────────▲
//! ```
//!
//! * **Liveness:** after a silence ([`crate::keepalive`]) it asks for a sign of life; anything
//!   heard counts. Without an answer within [`PROBE_TIMEOUT`] the link is *dark*.
//! * **Attended:** while somebody uses the device, silence is kept short, so that what happens on
//!   the way is noticed before that person does.
//! * **Dark:** a QUIC connection is kept, since its streams go on when the path returns: it is
//!   probed every second or two, and given up after [`DARK_FOR`]. Meanwhile other connections are
//!   tried, and the first that the cluster welcomes takes its place. TCP would wait much too long
//!   by itself: an SSH link that falls silent is lost at once.
//! * **Doubt:** a cluster that takes a new link retires the old one, for good. So once a Hello has
//!   gone, only the answer tells which of the two would be dialled: a greeting is not given up for
//!   an old link that is heard again, and when the way round a dark link came to nothing then,
//!   another link is made.
//! * **Better:** while a link runs over SSH, QUIC is looked for ([`crate::transport`]); where bytes
//!   cost money and the device is idle, SSH is tried where it would cost less (`better`). It must
//!   hold for [`PROVE`] before the cluster is asked to welcome it.
//! * **Back-off:** without a link, every failure waits longer ([`crate::backoff`]); only a link
//!   that was up for [`LIVED`] starts the count over, so that a cluster that accepts and dies is
//!   not hammered. A change of the network starts it over, too, but shortens no wait that the
//!   cluster has asked for.
//! * **Drain:** the cluster names a delay and a spread; the link stays in use until its own drawn
//!   moment, or until the cluster closes it, and is not opened again before that moment.
//!
//! It never gives up for good: a refusal only makes the wait longer, since the operator may lift
//! it while nobody can reach the device.

mod better;
mod event;
mod held;

use core::time::Duration;

use crate::backoff::Backoff;
use crate::cost;
use crate::error::CloseCode;
use crate::keepalive::{Keepalive, Known, Profile};
use crate::message::control::{Refusal, ToAgent};
use crate::transport::{Choice, Kind, Policy};

use better::Quiet;
pub use event::{Action, Event, Loss, Which};
use held::Held;

/// A transport handshake slower than this has failed: three QUIC probe time-outs at 2 s round trip.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A better transport must connect within this time: it is tried again, and costs bytes.
pub const BETTER_TIMEOUT: Duration = Duration::from_secs(6);
/// How long a better transport must hold before it is used: some middleboxes let the first few
/// packets of a flow pass.
pub const PROVE: Duration = Duration::from_secs(5);
/// The cluster must welcome a Hello within this time.
pub const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// A heartbeat must be answered within this time: a cellular link that hands over may take 5 s.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// A heartbeat that is not answered is repeated after this, over QUIC: most round trips are
/// shorter, and whoever dials after a short cut should not wait for more.
pub const ASK_AGAIN: Duration = Duration::from_millis(1500);
/// How long a dark connection is kept, counted from when it was last heard.
pub const DARK_FOR: Duration = Duration::from_secs(900);
/// A dark link is probed this often: whoever dials right after the path's return waits no longer.
pub const DARK_PROBE: Duration = Duration::from_millis(1200);
/// Another connection is tried this long after a link went dark; the wait doubles each time...
pub const FIRST_DETOUR: Duration = Duration::from_secs(5);
/// ...up to this.
pub const LAST_DETOUR: Duration = Duration::from_secs(300);
/// A link that was up this long resets the back-off.
pub const LIVED: Duration = Duration::from_secs(30);
/// Least wait after a refusal that only an operator can lift.
pub const REFUSED_WAIT: Duration = Duration::from_secs(600);
/// After a change of the network, the next try comes within this time: a whole site may have lost
/// its uplink at once.
pub const CHANGED_SPREAD: Duration = Duration::from_millis(200);
/// An answer over the new path must come within this time, before others are tried.
pub const CHANGED_TIMEOUT: Duration = Duration::from_secs(3);
/// Bounds for the longest silence that a cluster may allow.
pub const KEEPALIVE: core::ops::RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(3600);

/// What the next connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// There is no link.
    NoLink,
    /// The link is dark or in doubt; so many were tried since.
    Detour(u32),
    /// There may be a better transport.
    Better,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    None,
    Waiting { until: Duration },
    Connecting { deadline: Duration },
    Proving { until: Duration, kind: Kind },
    Greeting { deadline: Duration, kind: Kind },
}

/// What a link starts with.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Must differ between devices, or they will retry in step.
    pub seed: u64,
    /// Transports the operator allows.
    pub policy: Policy,
    /// What silence may cost.
    pub profile: Profile,
}

/// What is remembered of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// The transport that worked.
    pub worked: Option<Kind>,
    /// How long silence may last over QUIC, and over SSH.
    pub known: [Known; 2],
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Link {
    held: Option<Held>,
    next: Next,
    why: Why,
    choice: Choice,
    keepalives: [Keepalive; 2],
    quiet: Quiet,
    /// Somebody uses the device.
    attended: bool,
    backoff: Backoff,
    /// The cluster wants no other link before this.
    not_before: Duration,
    // The most that one event asks for is two closes, a connect and what goes with them.
    actions: heapless::Deque<Action, 8>,
    events: heapless::Deque<Event, 4>,
}

const fn index(kind: Kind) -> usize {
    match kind {
        Kind::Quic => 0,
        Kind::Ssh => 1,
    }
}

impl Link {
    /// A link that wants to connect at once.
    #[must_use]
    pub fn new(config: Config, now: Duration) -> Self {
        let profile = config.profile;
        let mut choice = Choice::new(config.policy);
        choice.enter(None, profile == Profile::Metered);
        Self {
            held: None,
            next: Next::Waiting { until: now },
            why: Why::NoLink,
            choice,
            keepalives: [cost::QUIC, cost::SSH].map(|price| Keepalive::new(profile, price)),
            quiet: Quiet::default(),
            attended: false,
            backoff: Backoff::new(config.seed),
            not_before: Duration::ZERO,
            actions: heapless::Deque::new(),
            events: heapless::Deque::new(),
        }
    }

    /// The transport of the next connection is open and its peer authenticated.
    pub fn handle_connected(&mut self, kind: Kind, now: Duration) {
        if !matches!(self.next, Next::Connecting { .. }) {
            return;
        }
        if self.held.is_some() {
            self.ask(Action::SendMoving);
        }
        if self.why == Why::Better {
            let until = now.saturating_add(PROVE);
            self.next = Next::Proving { until, kind };
        } else {
            self.greet(kind, now);
        }
    }

    fn greet(&mut self, kind: Kind, now: Duration) {
        let deadline = now.saturating_add(WELCOME_TIMEOUT);
        self.next = Next::Greeting { deadline, kind };
        self.ask(Action::SendHello);
    }

    /// A control message came in.
    pub fn handle_message(&mut self, which: Which, message: &ToAgent<'_>, now: Duration) {
        match which {
            Which::Held => self.held_says(message, now),
            Which::Next => self.next_says(message, now),
        }
    }

    fn next_says(&mut self, message: &ToAgent<'_>, now: Duration) {
        match (message, self.next) {
            (ToAgent::Welcome(welcome), Next::Greeting { kind, .. }) => {
                self.promote(kind, u64::from(welcome.keepalive_s), now);
            }
            (
                ToAgent::Refused {
                    reason,
                    retry_after_s,
                    ..
                },
                Next::Greeting { .. },
            ) => {
                let retry_after = Duration::from_secs(u64::from(*retry_after_s));
                self.handle_refused(*reason, retry_after, now);
            }
            (ToAgent::Welcome(_), _) => self.handle_misbehaviour(Which::Next, now),
            _ => {}
        }
    }

    /// The cluster refused the node on the next connection; in answer to a Hello, or before that.
    pub fn handle_refused(&mut self, reason: Refusal, retry_after: Duration, now: Duration) {
        if self.is_trying() {
            self.ask(Action::Close(Which::Next, CloseCode::Done));
            self.failed(
                Loss::Refused(reason),
                retry_after.max(patience(reason)),
                now,
            );
        }
    }

    fn promote(&mut self, kind: Kind, allowed_s: u64, now: Duration) {
        let allowed = Duration::from_secs(allowed_s);
        for keepalive in &mut self.keepalives {
            keepalive.allow(allowed.clamp(*KEEPALIVE.start(), *KEEPALIVE.end()));
            keepalive.forget_test();
        }
        self.settle(kind);
        self.held = Some(Held::new(kind, now));
        self.not_before = Duration::ZERO;
        self.choice.prefer(kind);
        self.ask(Action::Promote);
        self.tell(Event::Up(kind));
        self.look_for_better(now);
        self.tell_keepalive();
    }

    /// Anything at all was heard from the cluster on the held connection.
    pub fn handle_heard(&mut self, now: Duration) {
        let Some(held) = &mut self.held else { return };
        if held.heard(now) {
            self.choice.light(held.kind);
            self.tell(Event::Light);
            self.lighten(now);
        }
    }

    /// The cluster sent what it must not.
    pub fn handle_misbehaviour(&mut self, which: Which, now: Duration) {
        match which {
            Which::Held => self.lose(Loss::PeerMisbehaved, CloseCode::PeerMisbehaved, now),
            Which::Next if self.is_trying() => {
                self.ask(Action::Close(Which::Next, CloseCode::PeerMisbehaved));
                self.failed(Loss::PeerMisbehaved, Duration::ZERO, now);
            }
            Which::Next => {}
        }
    }

    /// A connection ended, or could not be opened.
    pub fn handle_closed(&mut self, which: Which, now: Duration) {
        match which {
            Which::Held => self.held_closed(now),
            Which::Next => match self.next {
                Next::None | Next::Waiting { .. } => {}
                Next::Connecting { .. } => self.failed(Loss::ConnectFailed, Duration::ZERO, now),
                Next::Proving { .. } | Next::Greeting { .. } => {
                    self.failed(Loss::Closed, Duration::ZERO, now);
                }
            },
        }
    }

    /// The device's addresses, routes or interfaces have changed. `memory` is what is remembered
    /// of the network it is in now.
    pub fn handle_network_changed(&mut self, profile: Profile, memory: Memory, now: Duration) {
        self.choice
            .enter(memory.worked, profile == Profile::Metered);
        for (keepalive, known) in self.keepalives.iter_mut().zip(memory.known) {
            keepalive.enter(profile, known);
        }
        self.quiet = Quiet::elsewhere();
        self.backoff.reset();
        self.cancel_next(CloseCode::Done);
        self.why = match self.held.map(|held| held.kind) {
            None => Why::NoLink,
            // TCP is bound to its address: whether it still lives is not worth waiting for.
            Some(Kind::Ssh) => {
                self.doubt();
                Why::Detour(0)
            }
            Some(Kind::Quic) => {
                self.ask(Action::Rebind);
                return self.beat_anew(now);
            }
        };
        let soon = self.backoff.below(CHANGED_SPREAD);
        self.wait(soon, now);
    }

    /// Whether somebody uses the device at present: then silence is kept short, unless packets cost
    /// money.
    pub const fn handle_attended(&mut self, attended: bool) {
        self.attended = attended;
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.check_held(now);
        match self.next {
            Next::Waiting { until } if now >= until => self.connect(now),
            Next::Connecting { deadline } if now >= deadline => {
                self.ask(Action::Close(Which::Next, CloseCode::TimedOut));
                self.failed(Loss::ConnectTimedOut, Duration::ZERO, now);
            }
            Next::Proving { until, kind } if now >= until => self.greet(kind, now),
            Next::Greeting { deadline, .. } if now >= deadline => {
                self.ask(Action::Close(Which::Next, CloseCode::TimedOut));
                self.failed(Loss::NotWelcomed, Duration::ZERO, now);
            }
            _ => {}
        }
    }

    fn connect(&mut self, now: Duration) {
        let tried = match self.why {
            Why::Better => self.better(now),
            Why::NoLink | Why::Detour(_) => Some((self.choice.plan(), CONNECT_TIMEOUT)),
        };
        let Some((plan, limit)) = tried else { return };
        let deadline = now.saturating_add(limit);
        self.next = Next::Connecting { deadline };
        self.ask(Action::Connect(plan));
    }

    /// The next connection has come to nothing.
    fn failed(&mut self, loss: Loss, at_least: Duration, now: Duration) {
        let answered = matches!(loss, Loss::Refused(_));
        // What only lets handshakes through cuts off each better link that is tried, mostly before
        // its Hello has arrived, and a new link each time would cost the sessions of one over SSH.
        let over_ssh = self.held.is_some_and(|held| held.kind == Kind::Ssh);
        if self.is_greeting() && !answered && !(over_ssh && self.why == Why::Better) {
            self.doubt();
        }
        self.keep_away(now.saturating_add(at_least));
        match self.why {
            Why::NoLink => {
                if !answered {
                    self.was_outage();
                }
                let wait = self.backoff.next_delay(at_least);
                let retry_in = self.wait(wait, now);
                self.tell(Event::Down { loss, retry_in });
            }
            Why::Detour(tried) if self.needs_another() => {
                self.detour(tried.saturating_add(1), now);
            }
            Why::Detour(_) => self.look_for_better(now),
            Why::Better => self.no_better(now),
        }
    }

    /// Another way round a link that is dark, or in doubt, later.
    fn detour(&mut self, tried: u32, now: Duration) {
        let wait = FIRST_DETOUR
            .saturating_mul(1 << tried.min(16))
            .min(LAST_DETOUR);
        // Half of it drawn, since a whole fleet goes dark together.
        let wait = wait / 2 + self.backoff.below(wait / 2);
        self.why = Why::Detour(tried);
        self.wait(wait, now);
    }

    fn cancel_next(&mut self, code: CloseCode) {
        if self.is_greeting() {
            self.doubt();
        }
        if self.is_trying() {
            self.ask(Action::Close(Which::Next, code));
        }
        self.next = Next::None;
    }

    /// Tries again after this time, unless the cluster has named a later one; gives how long it is.
    fn wait(&mut self, wait: Duration, now: Duration) -> Duration {
        let until = now.saturating_add(wait).max(self.not_before);
        self.next = Next::Waiting { until };
        until.saturating_sub(now)
    }

    fn keep_away(&mut self, until: Duration) {
        self.not_before = self.not_before.max(until);
    }

    /// Whether the next connection is being made.
    #[must_use]
    pub const fn is_trying(&self) -> bool {
        !matches!(self.next, Next::None | Next::Waiting { .. })
    }

    const fn is_greeting(&self) -> bool {
        matches!(self.next, Next::Greeting { .. })
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
        let next = match self.next {
            Next::None => (Duration::MAX, "nothing"),
            Next::Waiting { until } => (until, "back-off"),
            Next::Connecting { deadline } => (deadline, "connect"),
            Next::Proving { until, .. } => (until, "proof"),
            Next::Greeting { deadline, .. } => (deadline, "welcome"),
        };
        let held = self.held_timeout();
        if held.0 < next.0 { held } else { next }
    }

    /// Whether the cluster has welcomed a link that has not been lost since, dark or not.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.held.is_some()
    }

    /// Whether a sign of life is waited for: then it should be looked for often.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.held.as_ref().is_some_and(Held::is_listening)
    }

    /// How long the link may be silent at present, if there is one.
    #[must_use]
    pub fn keepalive(&self) -> Option<Duration> {
        self.silence_if(false, self.held.as_ref()?.kind)
    }

    /// What to remember of the network.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory {
            worked: Some(self.choice.remember()),
            known: self.keepalives.each_ref().map(Keepalive::known),
        }
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
