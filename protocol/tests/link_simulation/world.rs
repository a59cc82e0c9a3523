//! One agent's link, two paths that can be cut, a NAT that forgets, and a cluster.

use std::time::Duration;

use protocol::cost;
use protocol::keepalive::Profile;
use protocol::link::{Action, Config, Event, Link, Memory, Which};
use protocol::message::Text;
use protocol::message::control::{Refusal, ToAgent, Welcome};
use protocol::transport::{Kind, Plan, Policy};

use crate::cluster::{Cluster, Word};
use crate::nat::{Nat, Strays};

/// The longest silence that the cluster allows, seconds.
pub(crate) const ALLOWED_S: u16 = 1200;
pub(crate) const ROUND_TRIP: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    Up,
    /// Packets vanish.
    Dark,
    /// Connections are refused at once.
    Refusing,
    /// Connections are made, and then packets vanish.
    Swallowing,
}

/// What an attempt costs that gets no answer.
const fn in_vain(kind: Kind) -> u64 {
    match kind {
        Kind::Quic => 5000,
        Kind::Ssh => 3 * 60,
    }
}
/// What TCP repeats of a heartbeat that is never acknowledged.
const REPEATED: u64 = 6 * 110;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrival {
    Connected,
    Failed,
    Welcome,
    Refused(Refusal, u32),
    Ack,
    Rebound,
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Connection {
    id: u32,
    kind: Kind,
}

pub(crate) struct World {
    pub(crate) link: Link,
    pub(crate) now: Duration,
    pub(crate) udp: Path,
    pub(crate) tcp: Path,
    pub(crate) refusal: Option<(Refusal, u32)>,
    pub(crate) nat: Nat,
    pub(crate) connects: Vec<(Duration, Plan)>,
    pub(crate) heartbeats: usize,
    /// Mappings that were lost in silence.
    pub(crate) lost: usize,
    /// What all that has cost on the wire.
    pub(crate) bytes: u64,
    pub(crate) rebinds: usize,
    /// Whether a connection cannot be taken along to another network.
    pub(crate) strands: bool,
    pub(crate) told_s: u16,
    pub(crate) moving: bool,
    pub(crate) trace: Vec<(Duration, Event)>,
    /// Words on the held connection are late by so much.
    pub(crate) held_lags: Duration,
    /// A connection that could not be taken along.
    stranded: Option<u32>,
    held: Option<Connection>,
    next: Option<Connection>,
    ids: u32,
    cluster: Cluster,
    words: Vec<(Duration, Connection, Word)>,
    arrivals: Vec<(Duration, u32, Arrival)>,
    /// Connections whose word that they move has been lost: it is repeated with the next probe.
    unsaid: Vec<u32>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self::with(seed, Policy::Auto, Profile::Normal)
    }

    pub(crate) fn with(seed: u64, policy: Policy, profile: Profile) -> Self {
        let config = Config {
            seed,
            policy,
            profile,
        };
        Self {
            link: Link::new(config, Duration::ZERO),
            now: Duration::ZERO,
            udp: Path::Up,
            tcp: Path::Up,
            refusal: None,
            nat: Nat::default(),
            connects: Vec::new(),
            heartbeats: 0,
            lost: 0,
            bytes: 0,
            rebinds: 0,
            strands: false,
            told_s: 0,
            moving: false,
            trace: Vec::new(),
            held_lags: Duration::ZERO,
            stranded: None,
            held: None,
            next: None,
            ids: 0,
            cluster: Cluster::default(),
            words: Vec::new(),
            arrivals: Vec::new(),
            unsaid: Vec::new(),
        }
    }

    pub(crate) fn welcome() -> ToAgent<'static> {
        ToAgent::Welcome(Welcome {
            version: 1,
            time_s: 0,
            cluster: Text::cut("lab"),
            node_name: Text::cut("gateway-1"),
            keepalive_s: ALLOWED_S,
        })
    }

    /// Cuts both paths, or brings them back.
    pub(crate) fn paths(&mut self, path: Path) {
        self.udp = path;
        self.tcp = path;
    }

    /// The cluster forgets all its connections.
    pub(crate) fn restart_cluster(&mut self) {
        self.cluster.restart(self.ids);
    }

    /// The device is in another network; gives when.
    pub(crate) fn change_network(&mut self, memory: Memory) -> Duration {
        self.enter(Profile::Normal, memory)
    }

    /// As [`Self::change_network`], and what silence costs there is another matter.
    pub(crate) fn enter(&mut self, profile: Profile, memory: Memory) -> Duration {
        self.link.handle_network_changed(profile, memory, self.now);
        self.act();
        self.now
    }

    /// The NAT is another one, and knows no mapping.
    pub(crate) fn change_nat(&mut self) {
        self.nat.forget();
    }

    /// The cluster asks the agent to come back later; gives when.
    pub(crate) fn drain(&mut self, after_ms: u32, spread_ms: u32) -> Duration {
        let drain = ToAgent::Drain {
            after_ms,
            spread_ms,
        };
        self.link.handle_message(Which::Held, &drain, self.now);
        self.now
    }

    pub(crate) fn kind(&self) -> Option<Kind> {
        self.held.map(|held| held.kind)
    }

    /// Whether a dial would be served right now.
    pub(crate) fn serves(&self) -> bool {
        self.held.is_some_and(|held| {
            self.cluster.dials() == Some(held.id) && self.path(held.kind) == Path::Up
        }) && self.link.is_up()
            && !self.link.is_listening()
    }

    fn path(&self, kind: Kind) -> Path {
        match kind {
            Kind::Quic => self.udp,
            Kind::Ssh => self.tcp,
        }
    }

    /// Moves to the next thing that happens, if that is not after `until`.
    pub(crate) fn step(&mut self, until: Duration) -> bool {
        let arrival = self.arrivals.iter().map(|a| a.0).min();
        let word = self.words.iter().map(|w| w.0).min();
        let due = self.link.poll_timeout().0;
        let [arrival, word] = [arrival, word].map(|at| at.unwrap_or(Duration::MAX));
        let next = due.min(arrival).min(word).max(self.now);
        if next > until {
            self.now = until;
            return false;
        }
        self.now = next;
        if let Some(i) = self.words.iter().position(|w| w.0 <= next) {
            let (_, connection, word) = self.words.remove(i);
            self.hear(connection, word);
        } else if let Some(i) = self.arrivals.iter().position(|a| a.0 <= next) {
            let (_, id, arrival) = self.arrivals.remove(i);
            self.arrive(id, arrival);
        } else {
            self.link.handle_timeout(self.now);
        }
        self.act();
        true
    }

    fn arrive(&mut self, id: u32, arrival: Arrival) {
        let is = |connection: Option<Connection>| connection.is_some_and(|c| c.id == id);
        let (which, connection) = if is(self.held) {
            (Which::Held, self.held)
        } else if is(self.next) {
            (Which::Next, self.next)
        } else {
            return;
        };
        let kind = connection.unwrap().kind;
        let connects = arrival == Arrival::Connected && self.path(kind) == Path::Swallowing;
        let deaf = self.path(kind) != Path::Up && !connects || self.stranded == Some(id);
        if arrival != Arrival::Failed && deaf {
            return;
        }
        let now = self.now;
        match arrival {
            Arrival::Connected => {
                self.bytes += match kind {
                    Kind::Quic => cost::LINK,
                    Kind::Ssh => cost::SSH_LINK,
                };
                self.nat.open(id, now);
                self.link.handle_connected(kind, now);
            }
            Arrival::Failed => {
                self.next = None;
                self.link.handle_closed(which, now);
            }
            Arrival::Reset => {
                self.forget(which);
                self.link.handle_closed(which, now);
            }
            // The answer to a probe need not be a message.
            Arrival::Ack => self.link.handle_heard(now),
            Arrival::Rebound => {
                let addr = Text::cut("192.0.2.1:1");
                self.link
                    .handle_message(which, &ToAgent::Rebound { addr }, now);
            }
            Arrival::Welcome => self.link.handle_message(which, &Self::welcome(), now),
            Arrival::Refused(reason, retry_after_s) => {
                let refused = ToAgent::Refused {
                    reason,
                    retry_after_s,
                    text: Text::cut("no"),
                };
                self.link.handle_message(which, &refused, now);
            }
        }
    }

    fn forget(&mut self, which: Which) {
        match which {
            Which::Held => self.held = None,
            Which::Next => self.next = None,
        }
    }

    pub(crate) fn act(&mut self) {
        while let Some(action) = self.link.poll_action() {
            self.perform(action);
        }
        while let Some(event) = self.link.poll_event() {
            if matches!(event, Event::Down { .. }) {
                self.held = None;
            }
            self.trace.push((self.now, event));
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Connect(plan) => self.connect(plan),
            Action::SendMoving => {
                self.moving = true;
                let held = self.held.expect("nothing to move from");
                if !self.send(held, Word::Moving) {
                    self.unsaid.push(held.id);
                }
            }
            Action::SendHello => {
                self.send(self.next.expect("nobody to greet"), Word::Hello);
            }
            Action::SendHeartbeat { .. } => {
                self.heartbeats += 1;
                self.bytes += match self.kind() {
                    Some(Kind::Ssh) => cost::SSH_HEARTBEAT,
                    _ => cost::HEARTBEAT,
                };
                let held = self.held.expect("nothing to ask");
                if self.send(held, Word::Heartbeat) && self.unsaid.contains(&held.id) {
                    self.unsaid.retain(|id| *id != held.id);
                    self.send(held, Word::Moving);
                }
            }
            Action::SendKeepalive { interval_s } => {
                self.bytes += cost::MESSAGE;
                self.told_s = interval_s;
            }
            Action::Rebind if self.strands => {
                self.stranded = self.held.map(|held| held.id);
                self.link.handle_stranded(self.now);
            }
            Action::Rebind => {
                self.stranded = None;
                self.rebinds += 1;
            }
            Action::Promote => self.held = Some(self.next.take().expect("nothing to promote")),
            Action::Close(which, _) => {
                let closed = match which {
                    Which::Held => self.held,
                    Which::Next => self.next,
                };
                if let Some(closed) = closed {
                    self.send(closed, Word::Close);
                }
                self.forget(which);
            }
        }
    }

    fn connect(&mut self, plan: Plan) {
        assert!(self.next.is_none(), "a second attempt at {:?}", self.now);
        self.connects.push((self.now, plan));
        self.ids += 1;
        let id = self.ids;
        let start = |kind| (kind, self.path(kind));
        let (first, path) = start(plan.first);
        let second = plan.second.map(start);
        let begin = match path {
            Path::Refusing => ROUND_TRIP.min(plan.stagger),
            _ => plan.stagger,
        };
        let silent = |(kind, path)| if path == Path::Dark { in_vain(kind) } else { 0 };
        self.bytes += silent((first, path));
        if path != Path::Up {
            self.bytes += second.map_or(0, silent);
        }
        let (kind, after, arrival) = match (path, second) {
            (Path::Up | Path::Swallowing, _) => (first, ROUND_TRIP, Arrival::Connected),
            (_, Some((kind, Path::Up | Path::Swallowing))) => {
                (kind, begin + ROUND_TRIP, Arrival::Connected)
            }
            (Path::Refusing, None) => (first, ROUND_TRIP, Arrival::Failed),
            (Path::Refusing, Some((kind, Path::Refusing))) => {
                (kind, begin + ROUND_TRIP, Arrival::Failed)
            }
            _ => (first, Duration::MAX, Arrival::Failed),
        };
        self.next = Some(Connection { id, kind });
        if after < Duration::MAX {
            self.arrivals.push((self.now + after, id, arrival));
        }
    }

    /// Whether it gets through.
    fn send(&mut self, connection: Connection, word: Word) -> bool {
        if self.path(connection.kind) != Path::Up || self.stranded == Some(connection.id) {
            return false;
        }
        let known = self.cluster.knows(connection.id);
        let mapped = self.nat.passes(connection.id, connection.kind, self.now);
        if !mapped && connection.kind == Kind::Ssh {
            match self.nat.strays {
                Strays::Reset => self.answer(connection.id, Arrival::Reset),
                Strays::Drop => self.bytes += REPEATED,
            }
            self.lost += 1;
            return false;
        }
        let lag = match self.held {
            Some(held) if held.id == connection.id => self.held_lags,
            _ => Duration::ZERO,
        };
        let at = self.now + ROUND_TRIP / 2 + lag;
        self.words.push((at, connection, word));
        if word == Word::Heartbeat && known && !mapped {
            self.lost += 1;
            self.bytes += cost::REBOUND;
            let at = self.now + ROUND_TRIP;
            self.arrivals.push((at, connection.id, Arrival::Rebound));
        }
        true
    }

    fn hear(&mut self, connection: Connection, word: Word) {
        let id = connection.id;
        if !self.cluster.knows(id) {
            return self.answer(id, Arrival::Reset);
        }
        match (word, self.refusal) {
            (Word::Hello, Some((reason, retry_after_s))) => {
                self.answer(id, Arrival::Refused(reason, retry_after_s));
            }
            (Word::Hello, None) => {
                if let Some(replaced) = self.cluster.welcome(id, self.now) {
                    self.answer(replaced, Arrival::Reset);
                }
                self.answer(id, Arrival::Welcome);
            }
            (Word::Moving, _) => self.cluster.moves(id, self.now),
            (Word::Heartbeat, _) => self.answer(id, Arrival::Ack),
            (Word::Close, _) => self.cluster.close(id),
        }
    }

    fn answer(&mut self, id: u32, answer: Arrival) {
        self.arrivals.push((self.now + ROUND_TRIP / 2, id, answer));
    }

    pub(crate) fn run(&mut self, span: Duration) {
        let until = self.now + span;
        while self.step(until) {}
    }

    pub(crate) fn run_until_event(&mut self) -> Event {
        let seen = self.trace.len();
        let limit = self.now + Duration::from_secs(24 * 3600);
        while self.trace.len() == seen {
            assert!(self.step(limit), "nothing happened in a day");
        }
        self.trace[seen].1
    }

    /// Runs until a dial would be served; gives how long that took.
    pub(crate) fn run_until_serving(&mut self) -> Duration {
        let start = self.now;
        let limit = start + Duration::from_secs(24 * 3600);
        while !self.serves() {
            assert!(self.step(limit), "no link in a day");
        }
        self.now - start
    }
}
