//! How much of a link's data may be in flight: as much as its narrowest part holds, and hardly a
//! queue, so that a key stroke is not behind a second of somebody's copy.
//!
//! Radio loses packets that no queue dropped, so a lost packet alone says nothing here. What counts
//! is what arrives. Once a round trip the machine divides what was acknowledged by the time that
//! took: the rate. The best rate of late times the shortest round trip of late is what the path
//! holds, and a slack on top ([`SLACK`]) evens out jitter.
//!
//! ```text
//!   Grow ──rate no longer grows, and a queue does──► Drain ──► Cruise ──5 rounds──► Probe
//!    ▲                                                 ▲                              │
//!    └─────────────── more in flight arrived faster ───┼──────────────────────────────┤
//!                                                      └───────────── it did not ─────┘
//! ```
//!
//! Three things make it send less:
//!
//! - A queue twice as long as its slack in two rounds running, or in one that brought less than half
//!   of the rate: the path has become slower, and the rate is what arrives now. If the round trip
//!   stays long although less is sent, then that is not our queue but another path, or somebody
//!   else's queue, and it is the new shortest.
//! - More loss than radio has ([`LOSS`]): a shallow queue overflows, or something polices the rate.
//!   The slack goes, half each time, then the memory of better rates; it returns step by step.
//! - Silence, or everything lost for a while: what was known of the path is forgotten.
//!
//! Rounds in which the sender had too little to send say nothing about the path.

mod filter;

use core::time::Duration;

use filter::{Floor, Peak};

/// The queue that is ours: so much of the shortest round trip (a quarter), but no less than
/// [`LEAST_SLACK`], which covers what Wi-Fi and acknowledgements that wait for company add.
const SLACK: u64 = 4;
const LEAST_SLACK: Micros = 20_000;
/// One part in so many may be lost and it is still radio; in cellular networks 2 % is a bad day.
const LOSS: u64 = 16;
/// Packets that must be lost in a round before their share means anything.
const LOST: u64 = 4;
/// Rounds at the same rate before more is tried.
const CRUISE: u8 = 5;
/// Rounds with too long a queue before less is sent.
const LONG: u8 = 2;
/// Quarters in a whole.
const FULL: u8 = 4;
/// Rounds without growth that end growing, queue or not.
const FLAT: u8 = 3;
/// In flight while growing, in what the path is known to hold: what is known is a round old.
const GROWTH: u64 = 3;
/// After a silence of this length the path may be another.
const SILENCE: Micros = 10 * SECOND;
/// RFC 9002 §7.2, in packets: at first, and at least two more than it asks for, since a packet that
/// waits for a timer should not stop all.
const FIRST: u64 = 10;
const LEAST: u64 = 4;

type Micros = u64;
const SECOND: Micros = 1_000_000;

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Nearly doubles each round. `best` is the rate so far, which has not grown for `flat` rounds.
    Grow { best: u64, flat: u8 },
    /// For a round without a queue.
    Drain,
    /// At the rate.
    Cruise { rounds: u8 },
    /// A quarter more for two rounds: the first brings what was sent before, at that rate.
    Probe { before: u64, seen: bool },
}

const GROW: Phase = Phase::Grow { best: 0, flat: 0 };
const REST: Phase = Phase::Cruise { rounds: 0 };

/// Until a packet is acknowledged that was sent after `start`.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    start: Micros,
    arrived: u64,
    lost: u64,
    /// The sender had too little to send.
    limited: bool,
    /// A router said that it is full.
    marked: bool,
}

/// See the [module](self). Times are of a monotonic clock, sizes in bytes.
#[derive(Debug, Clone)]
pub struct Congestion {
    packet: u64,
    window: u64,
    phase: Phase,
    round: Round,
    rate: Peak,
    floor: Floor,
    /// Quarters of the slack that are in use.
    slack: u8,
    /// Rounds running with a queue that is too long.
    long: u8,
    /// The round trip when less was sent for its sake.
    relieved: Option<Micros>,
    /// When the newest packet was sent of those that were just acknowledged.
    newest: Option<Micros>,
    heard: Micros,
}

impl Congestion {
    /// A path of which nothing is known but the size of its packets.
    #[must_use]
    pub fn new(packet: u16, now: Duration) -> Self {
        let now = micros(now);
        let packet = u64::from(packet);
        Self {
            packet,
            window: packet.saturating_mul(FIRST),
            phase: GROW,
            round: Round::from(now),
            rate: Peak::default(),
            floor: Floor::default(),
            slack: FULL,
            long: 0,
            relieved: None,
            newest: None,
            heard: now,
        }
    }

    /// Bytes that may be in flight.
    #[must_use]
    pub fn window(&self) -> u64 {
        self.window
    }

    /// What it is at first.
    #[must_use]
    pub fn first_window(&self) -> u64 {
        self.packet.saturating_mul(FIRST)
    }

    /// The size of a packet.
    #[must_use]
    pub fn packet(&self) -> u64 {
        self.packet
    }

    /// The size of a packet has changed.
    pub fn handle_packet_size(&mut self, packet: u16) {
        self.packet = u64::from(packet);
        self.window = self.window.max(self.least());
    }

    /// A packet is sent.
    pub fn handle_sent(&mut self, now: Duration) {
        let now = micros(now);
        if now.saturating_sub(self.heard) > SILENCE {
            self.forget(now);
            self.heard = now;
        }
    }

    /// A packet was acknowledged. `limited` says that the sender had nothing to send for a while.
    pub fn handle_arrived(&mut self, bytes: u64, limited: bool, sent: Duration, now: Duration) {
        let (sent, now) = (micros(sent), micros(now));
        self.floor.see(now.saturating_sub(sent), now);
        self.newest = self.newest.max(Some(sent));
        self.round.arrived = self.round.arrived.saturating_add(bytes);
        self.round.limited |= limited;
        if matches!(self.phase, Phase::Grow { .. }) && !limited {
            self.window = self.window.saturating_add(bytes);
        }
    }

    /// That was all that came at once.
    pub fn handle_arrived_all(&mut self, now: Duration) {
        let now = micros(now);
        let Some(newest) = self.newest.take() else {
            return;
        };
        self.heard = now;
        if newest >= self.round.start {
            self.end_round(now.saturating_sub(newest), now);
        }
        self.window = self.wanted();
    }

    /// Packets were lost; `all` if nothing arrived for long (RFC 9002 §7.6). Without bytes, a router
    /// has marked packets instead.
    pub fn handle_lost(&mut self, bytes: u64, all: bool, now: Duration) {
        self.round.lost = self.round.lost.saturating_add(bytes);
        self.round.marked |= bytes == 0;
        if all {
            self.forget(micros(now));
        }
    }

    fn forget(&mut self, now: Micros) {
        self.window = self.window.min(self.first_window());
        self.phase = GROW;
        self.round = Round::from(now);
        self.rate = Peak::default();
        (self.long, self.relieved) = (0, None);
    }

    fn end_round(&mut self, round_trip: Micros, now: Micros) {
        let round = core::mem::replace(&mut self.round, Round::from(now));
        let took = now.saturating_sub(round.start);
        let rate = round.arrived.saturating_mul(SECOND) / took.max(1);
        // A pause between two sends is one of the sender, too.
        let limited = round.limited || took > round_trip.saturating_mul(2);
        if !limited || rate > self.rate.best() {
            self.rate.see(rate);
        }
        if limited {
            if matches!(self.phase, Phase::Drain | Phase::Probe { .. }) {
                self.phase = REST;
            }
            return;
        }
        let lossy = round.is_lossy(self.packet);
        if lossy {
            self.give_way(rate);
        }
        self.phase = self.next_phase(rate, round_trip, lossy, now);
    }

    fn give_way(&mut self, rate: u64) {
        if self.slack == 0 && matches!(self.phase, Phase::Cruise { .. }) {
            // An eighth more, so that a tenth that radio loses does not take a tenth each round.
            self.rate.reset(rate.saturating_add(rate / 8));
        }
        self.slack /= 2;
    }

    fn next_phase(&mut self, rate: u64, round_trip: Micros, lossy: bool, now: Micros) -> Phase {
        if self.is_too_long(rate, round_trip) {
            return self.relieve(rate, round_trip, now);
        }
        match self.phase {
            Phase::Grow { best, flat } => self.grown(best, flat, rate, round_trip, lossy),
            Phase::Drain => REST,
            Phase::Cruise { rounds } if rounds < CRUISE => Phase::Cruise { rounds: rounds + 1 },
            Phase::Cruise { .. } => {
                self.rate.next_cycle();
                self.slack = FULL.min(self.slack + 1);
                Phase::Probe {
                    before: rate,
                    seen: false,
                }
            }
            Phase::Probe {
                before,
                seen: false,
            } => Phase::Probe { before, seen: true },
            Phase::Probe { before, .. } if rate >= before.saturating_add(before / 8) => {
                Phase::Grow {
                    best: rate,
                    flat: 0,
                }
            }
            Phase::Probe { .. } => Phase::Drain,
        }
    }

    fn grown(&self, best: u64, flat: u8, rate: u64, round_trip: Micros, lossy: bool) -> Phase {
        let grown = rate >= best.saturating_add(best / 4);
        let flat = if grown { 0 } else { flat.saturating_add(1) };
        let queued = round_trip > self.shortest().saturating_add(self.slack_of(FULL));
        if lossy || flat >= FLAT || (flat > 0 && queued) {
            return Phase::Drain;
        }
        let best = best.max(rate);
        Phase::Grow { best, flat }
    }

    /// Whether there is a queue that cannot be meant.
    fn is_too_long(&mut self, rate: u64, round_trip: Micros) -> bool {
        let meant = self.shortest().saturating_add(2 * self.slack_of(FULL));
        let long = round_trip > meant;
        let slower = long && rate < self.rate.best() / 2;
        match self.phase {
            Phase::Grow { .. } | Phase::Drain => false,
            Phase::Probe { .. } => slower,
            Phase::Cruise { .. } => {
                self.long = if long { self.long + 1 } else { 0 };
                if !long {
                    self.relieved = None;
                }
                slower || self.long >= LONG
            }
        }
    }

    fn relieve(&mut self, rate: u64, round_trip: Micros, now: Micros) -> Phase {
        self.long = 0;
        let in_vain = |before: Micros| round_trip >= before - before / 8;
        if self.relieved.is_some_and(in_vain) {
            self.relieved = None;
            self.floor.reset(round_trip, now);
            return REST;
        }
        self.relieved = Some(round_trip);
        self.rate.reset(rate);
        Phase::Drain
    }

    fn shortest(&self) -> Micros {
        self.floor.shortest().unwrap_or(0)
    }

    fn slack_of(&self, quarters: u8) -> Micros {
        let full = LEAST_SLACK.max(self.shortest() / SLACK);
        full / u64::from(FULL) * u64::from(quarters)
    }

    /// What the path carries in so much time.
    fn carried(&self, time: Micros) -> u64 {
        self.rate.best().saturating_mul(time) / SECOND
    }

    fn wanted(&self) -> u64 {
        let holds = self.carried(self.shortest());
        let calm = self.carried(self.shortest().saturating_add(self.slack_of(self.slack)));
        let window = match self.phase {
            Phase::Grow { .. } => {
                let most = holds.saturating_mul(GROWTH).max(self.first_window());
                self.window.min(most)
            }
            Phase::Drain => holds,
            Phase::Cruise { .. } => calm,
            Phase::Probe { .. } => calm.saturating_add(calm / 4),
        };
        window.max(self.least())
    }

    fn least(&self) -> u64 {
        self.packet.saturating_mul(LEAST)
    }
}

impl Round {
    fn from(start: Micros) -> Self {
        Self {
            start,
            ..Self::default()
        }
    }

    fn is_lossy(&self, packet: u64) -> bool {
        let all = self.arrived.saturating_add(self.lost);
        let lossy = self.lost >= packet.saturating_mul(LOST) && self.lost > all / LOSS;
        lossy || self.marked
    }
}

/// Without division by 64 bits, which 32-bit devices have to bring along.
fn micros(time: Duration) -> Micros {
    let whole = time.as_secs().saturating_mul(SECOND);
    whole.saturating_add(u64::from(time.subsec_micros()))
}
