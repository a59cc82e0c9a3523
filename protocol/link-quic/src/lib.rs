//! Links over QUIC: what both ends share.
//!
//! [`Control`] makes quinn ask [`protocol::congestion`] how much may be in flight, and
//! [`insist`] sends one packet more where nothing is heard. [`answers`] tells whether anything is.
//! [`packet_sizes`] and [`nameless`] spare bytes.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use protocol::congestion::Congestion;
use quinn_proto::congestion::{Controller, ControllerFactory};
use quinn_proto::{
    ConnectionIdGenerator, MtuDiscoveryConfig, RandomConnectionIdGenerator, RttEstimator,
};

/// How often it is looked whether a path takes longer packets than before. Where it does not, that
/// costs three of them at each end, and quinn's ten minutes would make it a megabyte a day.
const LOOK_AGAIN: Duration = Duration::from_secs(24 * 3600);
/// Of what is between 1200 bytes, which every path takes, and 1452, which most do, this makes quinn
/// try the longest first, and 1325 if that gets lost.
const STEP: u16 = 127;

/// How it is found out how long packets may be: with one packet at each end where the path is an
/// ordinary one. quinn's own steps take four, and end 16 bytes below.
#[must_use]
pub fn packet_sizes() -> MtuDiscoveryConfig {
    let mut config = MtuDiscoveryConfig::default();
    config.interval(LOOK_AGAIN).minimum_change(STEP);
    config
}

/// Connection ids without a byte, for who has a socket for each connection: nothing else comes in
/// there, and every packet is shorter.
#[must_use]
pub fn nameless() -> Box<dyn ConnectionIdGenerator> {
    Box::new(RandomConnectionIdGenerator::new(0))
}

/// Gives each path a controller of its own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Control;

impl ControllerFactory for Control {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Path {
            state: Congestion::new(current_mtu, Duration::ZERO),
            epoch: now,
            in_flight: 0,
            shared: Arc::default(),
        })
    }
}

/// A UDP payload of so many bytes may be nothing but an acknowledgement: header, connection id, a
/// few ranges, tag. Most of what a session has to say is longer.
const ACKNOWLEDGEMENT: u64 = 48;

/// Makes room for one packet more, up to `most`, until something is acknowledged again.
///
/// A window that is full of what a dead path has swallowed lets nothing out that could find the path
/// alive, nor, while data waits, an acknowledgement; QUIC itself only asks again after twice the time
/// each time. A window that has shrunk meanwhile may be more than full.
///
/// `state` is what `quinn::Connection::congestion_state` gives.
pub fn insist(state: Box<dyn Controller>, most: u32) {
    if let Ok(path) = state.into_any().downcast::<Path>() {
        let extra = path.shared.extra.load(Ordering::Relaxed);
        if extra < most {
            let full = path.window().max(path.in_flight.saturating_add(1));
            let room = full.saturating_add(path.state.packet());
            let room = u32::try_from(room).unwrap_or(u32::MAX);
            path.shared.room.store(room, Ordering::Relaxed);
            path.shared.extra.store(extra + 1, Ordering::Relaxed);
        }
    }
}

/// What a peer has acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answers {
    /// How often there was something new in it. It wraps.
    pub count: u32,
    /// Whether it was not all then, or something was said since. Packets of before that are lost are
    /// only sent again once a later one is acknowledged.
    pub owed: bool,
}

/// What was acknowledged of what a connection has sent on its present path. `state` is what
/// `quinn::Connection::congestion_state` gives.
#[must_use]
pub fn answers(state: Box<dyn Controller>) -> Answers {
    state
        .into_any()
        .downcast::<Path>()
        .map_or_else(|_| Answers::default(), |path| path.shared.answers())
}

/// Clones are of the same path.
#[derive(Clone)]
struct Path {
    state: Congestion,
    epoch: Instant,
    /// Bytes that are neither acknowledged nor lost, or about as many.
    in_flight: u64,
    shared: Arc<Shared>,
}

/// What those know as well who have a clone.
#[derive(Debug, Default)]
struct Shared {
    /// Packets beyond the window, since something was acknowledged.
    extra: AtomicU32,
    /// The window with them, in bytes.
    room: AtomicU32,
    count: AtomicU32,
    owed: AtomicBool,
}

impl Shared {
    fn answers(&self) -> Answers {
        Answers {
            count: self.count.load(Ordering::Relaxed),
            owed: self.owed.load(Ordering::Relaxed),
        }
    }

    fn answered(&self, all: bool) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.owed.store(!all, Ordering::Relaxed);
    }
}

impl Path {
    /// Nothing is older than the path.
    fn at(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.epoch)
    }
}

impl Controller for Path {
    fn on_sent(&mut self, now: Instant, bytes: u64, _: u64) {
        self.in_flight = self.in_flight.saturating_add(bytes);
        if bytes > ACKNOWLEDGEMENT {
            self.shared.owed.store(true, Ordering::Relaxed);
        }
        self.state.handle_sent(self.at(now));
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        _: &RttEstimator,
    ) {
        let (sent, now) = (self.at(sent), self.at(now));
        self.state.handle_arrived(bytes, app_limited, sent, now);
    }

    // Comes only with something new, also while quinn keeps the rest from us until it has validated
    // another path.
    fn on_end_acks(&mut self, now: Instant, in_flight: u64, _: bool, _: Option<u64>) {
        self.in_flight = in_flight;
        self.shared.extra.store(0, Ordering::Relaxed);
        self.shared.room.store(0, Ordering::Relaxed);
        self.shared.answered(in_flight == 0);
        self.state.handle_arrived_all(self.at(now));
    }

    fn on_congestion_event(&mut self, now: Instant, _: Instant, all: bool, lost_bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(lost_bytes);
        self.state.handle_lost(lost_bytes, all, self.at(now));
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.state.handle_packet_size(new_mtu);
    }

    fn window(&self) -> u64 {
        let room = self.shared.room.load(Ordering::Relaxed);
        self.state.window().max(u64::from(room))
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.state.first_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(now: Instant) -> Box<dyn Controller> {
        Arc::new(Control).build(now, 1200)
    }

    #[test]
    fn who_insists_has_room_for_one_packet_more_each_time_until_something_arrives() {
        let start = Instant::now();
        let mut path = path(start);
        let before = path.window();
        for number in 1..=5 {
            insist(path.clone_box(), 10);
            assert_eq!(path.window(), before + number * 1200);
        }
        path.on_end_acks(start, 0, true, None);
        assert_eq!(path.window(), before);
    }

    #[test]
    fn there_is_room_beyond_what_a_dead_path_has_swallowed() {
        const SWALLOWED: u64 = 200_000;
        let start = Instant::now();
        let mut path = path(start);
        path.on_sent(start, SWALLOWED, 0);
        // After so long a silence, the window is small again.
        path.on_sent(start + Duration::from_secs(11), 60, 1);
        assert!(path.window() < SWALLOWED);
        insist(path.clone_box(), 10);
        // quinn sends a packet only if it leaves some of the window.
        assert!(path.window() > SWALLOWED + 60 + 1200);
    }

    #[test]
    fn there_is_an_end_to_it() {
        let path = path(Instant::now());
        for _ in 0..100 {
            insist(path.clone_box(), 10);
        }
        assert_eq!(path.window(), path.initial_window() + 10 * 1200);
    }

    #[test]
    fn what_was_said_after_the_last_answer_is_owed_and_acknowledgements_are_not() {
        let start = Instant::now();
        let mut path = path(start);
        path.on_end_acks(start, 0, true, None);
        path.on_sent(start, 30, 0);
        assert!(!answers(path.clone_box()).owed);
        path.on_sent(start, 88, 1);
        assert!(answers(path.clone_box()).owed);
        path.on_end_acks(start, 0, true, None);
        assert!(!answers(path.clone_box()).owed);
    }

    #[test]
    fn what_is_acknowledged_is_counted_and_whether_it_was_all() {
        let start = Instant::now();
        let mut path = path(start);
        assert_eq!(answers(path.clone_box()), Answers::default());
        for (number, left) in [(1, 1200), (2, 0)] {
            path.on_end_acks(start, left, true, None);
            let answers = answers(path.clone_box());
            assert_eq!((answers.count, answers.owed), (number, left > 0));
        }
    }
}
