//! The link supervisor against a simulated path and cluster, in virtual time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use protocol::backoff::CAP;
use protocol::link::{
    Action, CONNECT_TIMEOUT, Event, Link, Loss, PROBE_TIMEOUT, REFUSED_WAIT, WELCOME_TIMEOUT,
};
use protocol::message::Text;
use protocol::message::control::{Refusal, ToAgent, Welcome};

const KEEPALIVE: Duration = Duration::from_secs(25);
const ROUND_TRIP: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    Up,
    /// Packets vanish.
    Dark,
    /// Connections are refused at once.
    Refusing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrival {
    Connected,
    Failed,
    Welcome,
    Ack,
}

/// One agent's link, a path that can be cut, and a cluster that always answers.
struct Pair {
    link: Link,
    now: Duration,
    path: Path,
    refusal: Option<(Refusal, u32)>,
    arrivals: Vec<(Duration, Arrival)>,
    connects: Vec<Duration>,
    open: bool,
    trace: Vec<(Duration, Event)>,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let link = Link::new(seed, Duration::ZERO);
        Self {
            link,
            now: Duration::ZERO,
            path: Path::Up,
            refusal: None,
            arrivals: Vec::new(),
            connects: Vec::new(),
            open: false,
            trace: Vec::new(),
        }
    }

    fn welcome() -> ToAgent<'static> {
        ToAgent::Welcome(Welcome {
            version: 1,
            time_s: 0,
            cluster: Text::cut("lab"),
            node_name: Text::cut("gateway-1"),
            keepalive_s: u16::try_from(KEEPALIVE.as_secs()).unwrap(),
        })
    }

    /// Moves to the next thing that happens, if that is not after `until`.
    fn step(&mut self, until: Duration) -> bool {
        let arrival = self.arrivals.iter().map(|a| a.0).min();
        let next = self
            .link
            .poll_timeout()
            .0
            .min(arrival.unwrap_or(Duration::MAX))
            .max(self.now);
        if next > until {
            self.now = until;
            return false;
        }
        self.now = next;
        if let Some(i) = self.arrivals.iter().position(|a| a.0 <= next) {
            let (_, arrival) = self.arrivals.remove(i);
            self.arrive(arrival);
        } else {
            self.link.handle_timeout(self.now);
        }
        self.act();
        true
    }

    fn arrive(&mut self, arrival: Arrival) {
        if self.path == Path::Dark && arrival != Arrival::Failed {
            return;
        }
        match arrival {
            Arrival::Connected => {
                self.open = true;
                self.link.handle_connected(self.now);
            }
            Arrival::Failed => self.link.handle_closed(self.now),
            Arrival::Ack => self
                .link
                .handle_message(&ToAgent::HeartbeatAck { seq: 1 }, self.now),
            Arrival::Welcome => match self.refusal {
                None => self.link.handle_message(&Self::welcome(), self.now),
                Some((reason, retry_after_s)) => {
                    let text = Text::cut("no");
                    let refused = ToAgent::Refused {
                        reason,
                        retry_after_s,
                        text,
                    };
                    self.link.handle_message(&refused, self.now);
                }
            },
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.link.poll_action() {
            match action {
                Action::Connect => {
                    assert!(!self.open, "a second connection at {:?}", self.now);
                    self.connects.push(self.now);
                    match self.path {
                        Path::Up => self.later(ROUND_TRIP, Arrival::Connected),
                        Path::Refusing => self.later(ROUND_TRIP, Arrival::Failed),
                        Path::Dark => {}
                    }
                }
                Action::SendHello => self.later(ROUND_TRIP, Arrival::Welcome),
                Action::SendHeartbeat { .. } => self.later(ROUND_TRIP, Arrival::Ack),
                Action::Close(_) => {
                    self.open = false;
                    self.arrivals.clear();
                }
            }
        }
        while let Some(event) = self.link.poll_event() {
            if matches!(event, Event::Down { .. }) {
                self.open = false;
                self.arrivals.clear();
            }
            self.trace.push((self.now, event));
        }
    }

    fn later(&mut self, delay: Duration, arrival: Arrival) {
        if self.path != Path::Dark {
            self.arrivals.push((self.now + delay, arrival));
        }
    }

    fn run(&mut self, span: Duration) {
        let until = self.now + span;
        while self.step(until) {}
    }

    fn run_until_event(&mut self) -> Event {
        let seen = self.trace.len();
        let limit = self.now + Duration::from_secs(7200);
        while self.trace.len() == seen {
            assert!(self.step(limit), "nothing happened in two hours");
        }
        self.trace[seen].1
    }

    fn loss(&mut self) -> Loss {
        match self.run_until_event() {
            Event::Down { loss, .. } => loss,
            Event::Up => panic!("up at {:?}", self.now),
        }
    }
}

#[test]
fn a_link_is_up_after_two_round_trips() {
    let mut pair = Pair::new(1);
    assert_eq!(pair.run_until_event(), Event::Up);
    assert_eq!(pair.now, ROUND_TRIP * 2);
}

#[test]
fn a_dark_path_is_noticed_within_keepalive_and_probe() {
    let mut pair = Pair::new(1);
    pair.run_until_event();
    pair.run(Duration::from_secs(600));
    let cut = pair.now;
    pair.path = Path::Dark;
    assert_eq!(pair.loss(), Loss::Silent);
    assert!(pair.now - cut <= KEEPALIVE + PROBE_TIMEOUT);
}

#[test]
fn traffic_takes_the_place_of_heartbeats() {
    let mut pair = Pair::new(1);
    pair.run_until_event();
    for _ in 0..100 {
        pair.run(KEEPALIVE / 2);
        pair.link.handle_heard(pair.now);
        assert_eq!(
            pair.link.poll_timeout(),
            (pair.now + KEEPALIVE, "keepalive")
        );
    }
    assert_eq!(pair.trace.len(), 1);
}

#[test]
fn a_handshake_into_the_dark_times_out() {
    let mut pair = Pair::new(1);
    pair.path = Path::Dark;
    assert_eq!(pair.loss(), Loss::ConnectTimedOut);
    assert_eq!(pair.now, CONNECT_TIMEOUT);
}

#[test]
fn a_cluster_that_does_not_welcome_is_left() {
    let mut pair = Pair::new(1);
    while pair.connects.is_empty() || !pair.open {
        pair.step(Duration::MAX);
    }
    pair.path = Path::Dark;
    assert_eq!(pair.loss(), Loss::NotWelcomed);
    assert_eq!(pair.now, ROUND_TRIP + WELCOME_TIMEOUT);
}

#[test]
fn a_removed_node_asks_again_rarely_but_forever() {
    let mut pair = Pair::new(9);
    pair.refusal = Some((Refusal::Removed, 0));
    pair.run(Duration::from_secs(24 * 3600));
    assert!(
        (100..=144).contains(&pair.connects.len()),
        "{}",
        pair.connects.len()
    );
    assert!(
        pair.connects
            .windows(2)
            .all(|w| w[1] - w[0] >= REFUSED_WAIT)
    );
    pair.refusal = None;
    while pair.run_until_event() != Event::Up {}
}

#[test]
fn a_busy_clusters_delay_is_kept() {
    let mut pair = Pair::new(3);
    pair.refusal = Some((Refusal::Busy, 40));
    pair.run(Duration::from_secs(3600));
    assert!(
        pair.connects
            .windows(2)
            .all(|w| w[1] - w[0] >= Duration::from_secs(40))
    );
}

#[test]
fn a_drained_link_is_used_to_its_end_and_then_replaced() {
    for seed in 0..100 {
        let mut pair = Pair::new(seed);
        pair.run_until_event();
        let drain = ToAgent::Drain {
            after_ms: 1000,
            spread_ms: 4000,
        };
        pair.link.handle_message(&drain, pair.now);
        let asked = pair.now;
        assert_eq!(pair.loss(), Loss::Drained);
        let left = pair.now - asked;
        assert!(
            (1..=5).contains(&left.as_secs()),
            "seed {seed}: left after {left:?}"
        );
        assert_eq!(pair.run_until_event(), Event::Up);
        assert_eq!(pair.now - asked - left, ROUND_TRIP * 2, "seed {seed}");
    }
}

#[test]
fn a_cluster_that_goes_before_the_drain_is_over_is_not_called_early() {
    let mut pair = Pair::new(5);
    pair.run_until_event();
    pair.link.handle_message(
        &ToAgent::Drain {
            after_ms: 8000,
            spread_ms: 1,
        },
        pair.now,
    );
    let asked = pair.now;
    pair.link.handle_closed(pair.now);
    pair.act();
    assert_eq!(pair.run_until_event(), Event::Up);
    assert!(pair.connects[1] - asked >= Duration::from_secs(8));
}

#[test]
fn a_second_welcome_ends_the_link() {
    let mut pair = Pair::new(5);
    pair.run_until_event();
    pair.link.handle_message(&Pair::welcome(), pair.now);
    pair.act();
    assert!(matches!(
        pair.trace.last(),
        Some((
            _,
            Event::Down {
                loss: Loss::PeerMisbehaved,
                ..
            }
        ))
    ));
}

/// Thousands of schedules of cuts, refusals and returns. Whatever came before: a path that stays
/// good has the link up within the longest back-off and a handshake, and a device never knocks
/// more often than the back-off allows.
#[test]
fn whatever_the_path_did_before_a_good_path_brings_the_link_back() {
    for seed in 0..3000 {
        let mut weather = fastrand_like(seed);
        let mut pair = Pair::new(seed);
        for _ in 0..(weather() % 20) {
            pair.path = match weather() % 3 {
                0 => Path::Up,
                1 => Path::Dark,
                _ => Path::Refusing,
            };
            if weather().is_multiple_of(4) {
                pair.link.handle_closed(pair.now);
                pair.act();
            }
            pair.run(Duration::from_millis(weather() % 200_000));
        }
        pair.path = Path::Up;
        let limit = KEEPALIVE + PROBE_TIMEOUT + CONNECT_TIMEOUT + CAP + ROUND_TRIP * 4;
        pair.run(limit);
        assert!(
            pair.link.is_up(),
            "seed {seed}: not up {limit:?} after the path's return"
        );
        let hours = pair.now.as_secs_f64() / 3600.0;
        let most = 20.0 + hours * 3600.0 / 5.0;
        assert!(
            (pair.connects.len() as f64) < most,
            "seed {seed}: {} knocks",
            pair.connects.len()
        );
    }
}

/// A generator for the weather, apart from the one under test (xorshift64*).
fn fastrand_like(seed: u64) -> impl FnMut() -> u64 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
    }
}
