//! Senders that share one narrow link, in virtual time. They pace themselves and notice losses as
//! QUIC does (RFC 9002 §6 and §7.7).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use protocol::congestion::Congestion;

pub(crate) const PACKET: u64 = 1200;
const MS: u64 = 1_000_000;
/// quinn sends so much at once, then waits until it has earned as much again.
const BURST: u64 = 10 * PACKET;
/// The receiver acknowledges every second packet, or after this time.
const ACK_DELAY: u64 = 25 * MS;

/// How the link is.
#[derive(Clone, Copy)]
pub(crate) struct Path {
    pub(crate) bits: u64,
    pub(crate) round_trip: Duration,
    pub(crate) jitter: Duration,
    pub(crate) loss: f64,
    /// Bytes that may wait.
    pub(crate) queue: u64,
    pub(crate) cut: bool,
}

pub(crate) fn path(bits: u64, round_trip_ms: u64, loss: f64) -> Path {
    let round_trip = Duration::from_millis(round_trip_ms);
    Path {
        bits,
        round_trip,
        jitter: Duration::ZERO,
        loss,
        queue: 1 << 20,
        cut: false,
    }
}

struct Sender {
    congestion: Congestion,
    /// When each packet was sent.
    flight: BTreeMap<u64, u64>,
    next: u64,
    busy: bool,
    /// Had nothing to send when it last looked.
    limited: bool,
    tokens: f64,
    paced_at: u64,
    /// When it looks again whether it may send.
    wakes: u64,
    smoothed: u64,
    heard: u64,
    probes: u32,
    /// Packets that arrived and are not acknowledged yet.
    unacknowledged: Vec<u64>,
    arrived: u64,
    lost: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Wake,
    Arrives(u64),
    Late,
    Acknowledged(Vec<u64>),
}

/// What happened for a while.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// The share of the link that was used.
    pub(crate) used: f64,
    /// What a packet waited, in ms: on average and at most.
    pub(crate) wait: f64,
    pub(crate) longest: f64,
    /// The share of packets that did not arrive.
    pub(crate) lost: f64,
}

pub(crate) struct World {
    path: Path,
    now: u64,
    senders: Vec<Sender>,
    events: BinaryHeap<Reverse<(u64, u64, usize, What)>>,
    number: u64,
    free_at: u64,
    last_arrival: u64,
    random: fastrand::Rng,
    waits: Vec<u64>,
}

impl World {
    pub(crate) fn new(path: Path, senders: usize, seed: u64) -> Self {
        let mut world = Self {
            path,
            now: 0,
            senders: (0..senders).map(|_| Sender::new()).collect(),
            events: BinaryHeap::new(),
            number: 0,
            free_at: 0,
            last_arrival: 0,
            random: fastrand::Rng::with_seed(seed),
            waits: Vec::new(),
        };
        for who in 0..senders {
            world.wake(who, 0);
        }
        world
    }

    pub(crate) fn change(&mut self, path: Path) {
        self.path = path;
        // What waits is sent at the new rate.
        self.free_at = self.free_at.max(self.now);
    }

    /// Has something to send from now on, or not.
    pub(crate) fn keep_busy(&mut self, who: usize, busy: bool) {
        self.senders[who].busy = busy;
        self.wake(who, self.now);
    }

    pub(crate) fn arrived(&self, who: usize) -> u64 {
        self.senders[who].arrived
    }

    pub(crate) fn run(&mut self, seconds: u64) -> Seen {
        let count = |world: &Self| -> (u64, u64) {
            let each = world.senders.iter();
            each.fold((0, 0), |(a, l), one| (a + one.arrived, l + one.lost))
        };
        let before = count(self);
        self.waits.clear();
        let end = self.now + seconds * 1000 * MS;
        while let Some(Reverse((at, ..))) = self.events.peek()
            && *at <= end
        {
            let Some(Reverse((at, _, who, what))) = self.events.pop() else {
                break;
            };
            self.now = at;
            self.happen(who, what);
        }
        self.now = end;
        let after = count(self);
        let (arrived, lost) = (after.0 - before.0, after.1 - before.1);
        let room = (self.path.bits / 8 * seconds) as f64;
        let ms = |nanos: u64| nanos as f64 / MS as f64;
        let total: u64 = self.waits.iter().sum();
        Seen {
            used: (arrived * PACKET) as f64 / room,
            wait: ms(total) / self.waits.len().max(1) as f64,
            longest: self.waits.iter().copied().max().map_or(0.0, ms),
            lost: lost as f64 / (arrived + lost).max(1) as f64,
        }
    }

    fn at(&mut self, at: u64, who: usize, what: What) {
        self.number += 1;
        self.events.push(Reverse((at, self.number, who, what)));
    }

    fn wake(&mut self, who: usize, at: u64) {
        self.senders[who].wakes = at;
        self.at(at, who, What::Wake);
    }

    fn happen(&mut self, who: usize, what: What) {
        match what {
            What::Wake if self.senders[who].wakes == self.now => self.send(who),
            // Another came before it.
            What::Wake => {}
            What::Arrives(number) => {
                let waiting = &mut self.senders[who].unacknowledged;
                waiting.push(number);
                match waiting.len() {
                    1 => self.at(self.now + ACK_DELAY, who, What::Late),
                    _ => self.acknowledge(who),
                }
            }
            What::Late => self.acknowledge(who),
            What::Acknowledged(numbers) => {
                self.senders[who].hear(&numbers, self.now);
                self.send(who);
            }
        }
    }

    fn acknowledge(&mut self, who: usize) {
        let numbers = std::mem::take(&mut self.senders[who].unacknowledged);
        if !numbers.is_empty() && !self.path.cut {
            let back = nanos(self.path.round_trip) / 2;
            self.at(self.now + back, who, What::Acknowledged(numbers));
        }
    }

    fn send(&mut self, who: usize) {
        let now = self.now;
        loop {
            let sender = &mut self.senders[who];
            match sender.may_send(now) {
                May::Now => {
                    let number = sender.launch(now);
                    self.launch(who, number);
                }
                May::At(later) => return self.wake(who, later.max(now + 1)),
                May::Not => return,
            }
        }
    }

    fn launch(&mut self, who: usize, number: u64) {
        let per_byte = 8_000_000_000.0 / self.path.bits as f64;
        let waits = self.free_at.saturating_sub(self.now);
        let [lost, jitter] = [(); 2].map(|()| self.random.f64());
        if self.path.cut || waits as f64 / per_byte > self.path.queue as f64 {
            return;
        }
        self.waits.push(waits);
        self.free_at = self.free_at.max(self.now) + (PACKET as f64 * per_byte) as u64;
        if lost < self.path.loss {
            return;
        }
        let late = (nanos(self.path.jitter) as f64 * jitter) as u64;
        let arrives = self.free_at + nanos(self.path.round_trip) / 2 + late;
        self.last_arrival = self.last_arrival.max(arrives);
        self.at(self.last_arrival, who, What::Arrives(number));
    }
}

enum May {
    Now,
    At(u64),
    Not,
}

impl Sender {
    fn new() -> Self {
        Self {
            congestion: Congestion::new(PACKET as u16, Duration::ZERO),
            flight: BTreeMap::new(),
            next: 0,
            busy: true,
            limited: false,
            tokens: BURST as f64,
            paced_at: 0,
            wakes: 0,
            smoothed: 100 * MS,
            heard: 0,
            probes: 0,
            unacknowledged: Vec::new(),
            arrived: 0,
            lost: 0,
        }
    }

    /// A probe if nothing was heard for long; else as window and pace allow.
    fn may_send(&mut self, now: u64) -> May {
        self.limited = false;
        let silent = self.probe_time();
        if !self.flight.is_empty() && now >= silent {
            self.probes += 1;
            return May::Now;
        }
        let wait = |at: u64| {
            if self.flight.is_empty() {
                May::Not
            } else {
                May::At(at)
            }
        };
        if !self.busy {
            self.limited = true;
            return wait(silent);
        }
        let window = self.congestion.window();
        if self.flight.len() as u64 * PACKET + PACKET >= window {
            return wait(silent);
        }
        let rate = window as f64 * 1.25 / self.smoothed as f64;
        let earned = (now - self.paced_at) as f64 * rate;
        let burst = BURST as f64;
        self.tokens = (self.tokens + earned).min(burst);
        self.paced_at = now;
        if self.tokens < PACKET as f64 {
            return May::At(now + ((burst - self.tokens) / rate) as u64 + 1);
        }
        self.tokens -= PACKET as f64;
        May::Now
    }

    fn probe_time(&self) -> u64 {
        let last = self.flight.values().next_back().copied().unwrap_or(0);
        last.max(self.heard) + (self.smoothed * 3 / 2 + ACK_DELAY) * (1 << self.probes.min(10))
    }

    fn launch(&mut self, now: u64) -> u64 {
        self.congestion.handle_sent(Duration::from_nanos(now));
        self.flight.insert(self.next, now);
        self.next += 1;
        self.next - 1
    }

    fn hear(&mut self, numbers: &[u64], now: u64) {
        let time = Duration::from_nanos;
        for number in numbers {
            let Some(sent) = self.flight.remove(number) else {
                continue;
            };
            self.smoothed = (self.smoothed * 7 + (now - sent)) / 8;
            self.arrived += 1;
            let limited = self.limited;
            self.congestion
                .handle_arrived(PACKET, limited, time(sent), time(now));
        }
        self.congestion.handle_arrived_all(time(now));
        (self.heard, self.probes) = (now, 0);
        let overtaken = numbers
            .iter()
            .max()
            .map_or(0, |newest| newest.saturating_sub(2));
        let kept = self.flight.split_off(&overtaken);
        let lost = std::mem::replace(&mut self.flight, kept);
        if let (Some((_, first)), Some((_, last))) = (lost.first_key_value(), lost.last_key_value())
        {
            self.lost += lost.len() as u64;
            let bytes = lost.len() as u64 * PACKET;
            let all = last - first > self.smoothed * 5;
            self.congestion.handle_lost(bytes, all, time(now));
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
