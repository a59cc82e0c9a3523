//! One direction of a link, without I/O: packets go in with the time, and come out when it has come.
//!
//! ```text
//!   offered ─► queue (tail drop) ─► sent at the rate ─► lost or not ─► delay, jitter, late ─► delivered
//! ```
//!
//! What happens to a packet depends on the seed, on what was offered before it and on when, never
//! on when the caller got around to asking: delays do not add up on a busy machine.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::traffic::Traffic;

/// Bytes under way at most, whatever the shape: far more than 100 Mbit/s with a second of delay.
const FLYING: usize = 64 << 20;

/// How one direction of a link behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// From the end of sending to arrival.
    pub delay: Duration,
    /// Up to this much more, evenly spread. It keeps the order.
    pub jitter: Duration,
    /// The share of packets that are lost after they were sent.
    pub loss: f64,
    /// The share of packets that others may overtake.
    pub late: f64,
    /// How much later those arrive.
    pub late_by: Duration,
    /// Bits a second; none is as fast as can be.
    pub rate: Option<u64>,
    /// Bytes that may wait to be sent at the rate; more are dropped.
    pub queue: usize,
    /// Drops everything, also what is under way.
    pub cut: bool,
}

impl Default for Shape {
    /// A perfect link.
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            late: 0.0,
            late_by: Duration::ZERO,
            rate: None,
            queue: 128 << 10,
            cut: false,
        }
    }
}

impl Shape {
    /// Half of a round trip, and this share of lost packets.
    #[must_use]
    pub fn lossy(round_trip: Duration, loss: f64) -> Self {
        Self {
            delay: round_trip / 2,
            loss,
            ..Self::default()
        }
    }

    /// A cellular link on a bad day: 5 Mbit/s, 200 ms for the round trip, 2 % loss.
    #[must_use]
    pub fn cellular() -> Self {
        Self {
            rate: Some(5_000_000),
            ..Self::lossy(Duration::from_millis(200), 0.02)
        }
    }
}

/// One direction of a link.
pub(super) struct Pipe {
    shape: Shape,
    /// Whether there is something at both ends.
    attached: bool,
    random: fastrand::Rng,
    /// With the time at which each was offered.
    waiting: VecDeque<(Duration, Vec<u8>)>,
    /// Being sent until then.
    sending: Option<(Duration, Vec<u8>)>,
    /// Bytes waiting and being sent.
    queued: usize,
    flying: BinaryHeap<Reverse<Flying>>,
    flying_bytes: usize,
    /// When the last one had been sent.
    free_at: Duration,
    /// When the last one that keeps the order arrives.
    last_arrival: Duration,
    sent: u64,
    pub(super) traffic: Traffic,
}

/// Ordered by arrival, then as sent.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    arrival: Duration,
    number: u64,
    packet: Vec<u8>,
}

impl Pipe {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            shape: Shape::default(),
            attached: true,
            random: fastrand::Rng::with_seed(seed),
            waiting: VecDeque::new(),
            sending: None,
            queued: 0,
            flying: BinaryHeap::new(),
            flying_bytes: 0,
            free_at: Duration::ZERO,
            last_arrival: Duration::ZERO,
            sent: 0,
            traffic: Traffic::default(),
        }
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// Behaves so from now on.
    pub(super) fn reshape(&mut self, shape: Shape, now: Duration) {
        self.advance(now);
        self.shape = shape;
        if let Some((end, packet)) = &mut self.sending {
            *end = (*end).min(now + time_to_send(packet.len(), shape.rate));
        }
        if shape.cut {
            self.clear();
        }
    }

    /// Without something at both ends it is cut, whatever its shape.
    pub(super) fn attach(&mut self, attached: bool, now: Duration) {
        self.advance(now);
        self.attached = attached;
        if !attached {
            self.clear();
        }
    }

    /// Takes a packet.
    pub(super) fn offer(&mut self, packet: Vec<u8>, now: Duration) {
        self.advance(now);
        self.traffic.offered.add(packet.len());
        let more = self.queued + packet.len();
        if self.shape.cut || !self.attached {
            self.traffic.cut.add(packet.len());
        } else if (self.queued > 0 && more > self.shape.queue) || self.flying_bytes > FLYING {
            self.traffic.overflowed.add(packet.len());
        } else {
            self.queued = more;
            self.waiting.push_back((now, packet));
            self.advance(now);
        }
    }

    /// Counts a packet that was offered but may not pass.
    pub(super) fn turn_away(&mut self, length: usize) {
        self.traffic.offered.add(length);
        self.traffic.filtered.add(length);
    }

    /// A packet that has arrived.
    pub(super) fn poll_deliver(&mut self, now: Duration) -> Option<Vec<u8>> {
        self.advance(now);
        let Reverse(first) = self.flying.peek()?;
        if first.arrival > now {
            return None;
        }
        let Reverse(first) = self.flying.pop()?;
        self.flying_bytes -= first.packet.len();
        self.traffic.delivered.add(first.packet.len());
        Some(first.packet)
    }

    /// When something happens next.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let sent = self.sending.as_ref().map(|(end, _)| *end);
        let arrives = self.flying.peek().map(|Reverse(first)| first.arrival);
        sent.into_iter().chain(arrives).min()
    }

    /// Sends what can have been sent by now.
    fn advance(&mut self, now: Duration) {
        loop {
            if let Some((end, _)) = self.sending
                && end > now
            {
                return;
            }
            if let Some((end, packet)) = self.sending.take() {
                self.free_at = end;
                self.queued -= packet.len();
                self.launch(packet, end);
            }
            let Some((offered, packet)) = self.waiting.pop_front() else {
                return;
            };
            let start = self.free_at.max(offered);
            let end = start + time_to_send(packet.len(), self.shape.rate);
            self.sending = Some((end, packet));
        }
    }

    fn launch(&mut self, packet: Vec<u8>, at: Duration) {
        // Three numbers for each packet, so that what is lost does not depend on the jitter.
        let [lost, late, jitter] = [(); 3].map(|()| self.random.f64());
        if lost < self.shape.loss {
            self.traffic.lost.add(packet.len());
            return;
        }
        let mut arrival = at + self.shape.delay + self.shape.jitter.mul_f64(jitter);
        if late < self.shape.late {
            arrival += self.shape.late_by;
        } else {
            arrival = arrival.max(self.last_arrival);
            self.last_arrival = arrival;
        }
        self.flying_bytes += packet.len();
        self.flying.push(Reverse(Flying {
            arrival,
            number: self.sent,
            packet,
        }));
        self.sent += 1;
    }

    fn clear(&mut self) {
        let waiting = self.waiting.drain(..).chain(self.sending.take());
        let flying = self.flying.drain().map(|Reverse(flying)| flying.packet);
        for packet in waiting.map(|(_, packet)| packet).chain(flying) {
            self.traffic.cut.add(packet.len());
        }
        (self.queued, self.flying_bytes) = (0, 0);
        self.last_arrival = Duration::ZERO;
    }
}

fn time_to_send(bytes: usize, rate: Option<u64>) -> Duration {
    let Some(rate) = rate else {
        return Duration::ZERO;
    };
    let nanos = bytes as u128 * 8 * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Delivers all there is, jumping from deadline to deadline.
    fn drain(pipe: &mut Pipe) -> Vec<(Duration, Vec<u8>)> {
        let mut seen = Vec::new();
        while let Some(now) = pipe.poll_timeout() {
            while let Some(packet) = pipe.poll_deliver(now) {
                seen.push((now, packet));
            }
        }
        seen
    }

    fn shaped(shape: Shape) -> Pipe {
        let mut pipe = Pipe::new(7);
        pipe.reshape(shape, Duration::ZERO);
        pipe
    }

    fn balance(pipe: &Pipe) -> u64 {
        let t = pipe.traffic;
        let gone = [t.delivered, t.cut, t.lost, t.overflowed, t.filtered];
        t.offered.packets - gone.iter().map(|count| count.packets).sum::<u64>()
    }

    #[test]
    fn a_perfect_link_delivers_at_once_and_in_order() {
        let mut pipe = Pipe::new(1);
        for number in 0..100 {
            pipe.offer(vec![number; 1500], MS);
        }
        let seen = drain(&mut pipe);
        assert!(seen.iter().all(|(at, _)| *at == MS));
        assert!(seen.iter().map(|(_, p)| p[0]).eq(0..100));
        assert_eq!(pipe.poll_timeout(), None);
    }

    #[test]
    fn delay_and_rate_hold_exactly_however_late_somebody_asks() {
        // 1,250 bytes at 5 Mbit/s take 2 ms.
        let mut pipe = shaped(Shape {
            queue: usize::MAX,
            ..Shape::cellular()
        });
        pipe.shape.loss = 0.0;
        for _ in 0..500 {
            pipe.offer(vec![0; 1250], Duration::ZERO);
        }
        let mut arrived = 0;
        while pipe.poll_deliver(599 * MS).is_some() {
            arrived += 1;
        }
        // Those sent within 499 ms.
        assert_eq!(arrived, 249);
        let times: Vec<_> = drain(&mut pipe).iter().map(|(at, _)| *at).collect();
        assert_eq!(times.first(), Some(&(600 * MS)));
        assert_eq!(times.last(), Some(&(1100 * MS)));
    }

    #[test]
    fn a_full_queue_drops_the_newest_and_keeps_its_bound() {
        let mut pipe = shaped(Shape {
            rate: Some(8_000),
            queue: 1000,
            ..Shape::default()
        });
        for number in 0..10 {
            pipe.offer(vec![number; 400], Duration::ZERO);
        }
        assert_eq!(pipe.traffic.overflowed.packets, 8);
        let seen = drain(&mut pipe);
        assert!(seen.iter().map(|(_, p)| p[0]).eq([0, 1]));
        assert_eq!(seen[1].0, 800 * MS);
        // One that is larger than the queue passes an idle link.
        pipe.offer(vec![9; 1500], 900 * MS);
        assert_eq!(drain(&mut pipe).len(), 1);
    }

    #[test]
    fn the_seed_decides_what_is_lost() {
        let lost = |seed, jitter| {
            let mut pipe = Pipe::new(seed);
            let shape = Shape {
                jitter,
                ..Shape::lossy(200 * MS, 0.02)
            };
            pipe.reshape(shape, Duration::ZERO);
            for number in 0..10_000u16 {
                pipe.offer(number.to_be_bytes().into(), MS * u32::from(number));
            }
            let seen: Vec<_> = drain(&mut pipe).into_iter().map(|(_, p)| p).collect();
            assert_eq!(balance(&pipe), 0);
            seen
        };
        let once = lost(3, Duration::ZERO);
        assert_eq!(once, lost(3, 5 * MS));
        assert_ne!(once, lost(4, Duration::ZERO));
        let share = 1.0 - once.len() as f64 / 10_000.0;
        assert!((0.015..0.025).contains(&share), "{share}");
    }

    #[test]
    fn jitter_keeps_the_order_and_late_ones_do_not() {
        let jitter = Shape {
            delay: 50 * MS,
            jitter: 40 * MS,
            ..Shape::default()
        };
        let late = Shape {
            late: 0.1,
            late_by: 10 * MS,
            ..jitter
        };
        let order = |shape| {
            let mut pipe = shaped(shape);
            for number in 0..200 {
                pipe.offer(vec![number], MS * u32::from(number));
            }
            let seen = drain(&mut pipe);
            assert_eq!(seen.len(), 200);
            for (at, packet) in &seen {
                let took = *at - MS * u32::from(packet[0]);
                assert!(took >= 50 * MS && took <= 300 * MS, "{took:?}");
            }
            seen.is_sorted_by_key(|(_, packet)| packet[0])
        };
        assert!(order(jitter));
        assert!(!order(late));
    }

    #[test]
    fn a_cut_takes_what_is_under_way_and_a_mended_link_is_as_before() {
        let mut pipe = shaped(Shape::cellular());
        for _ in 0..10 {
            pipe.offer(vec![0; 1250], Duration::ZERO);
        }
        let cut = Shape {
            cut: true,
            ..Shape::cellular()
        };
        pipe.reshape(cut, 10 * MS);
        pipe.offer(vec![0; 1250], 11 * MS);
        assert_eq!(pipe.poll_timeout(), None);
        assert_eq!(pipe.traffic.cut.packets + pipe.traffic.lost.packets, 11);
        pipe.reshape(Shape::lossy(200 * MS, 0.0), 20 * MS);
        pipe.offer(vec![1], 20 * MS);
        assert_eq!(drain(&mut pipe), [(120 * MS, vec![1])]);
        assert_eq!(balance(&pipe), 0);

        // Nothing keeps its place behind what will never arrive.
        pipe.reshape(Shape::lossy(1_000_000 * MS, 0.0), 200 * MS);
        pipe.offer(vec![2], 200 * MS);
        pipe.attach(false, 300 * MS);
        pipe.attach(true, 300 * MS);
        pipe.reshape(Shape::default(), 300 * MS);
        pipe.offer(vec![3], 300 * MS);
        assert_eq!(drain(&mut pipe), [(300 * MS, vec![3])]);
    }

    #[test]
    fn a_faster_rate_counts_for_what_waits() {
        let slow = Shape {
            rate: Some(80),
            ..Shape::default()
        };
        let mut pipe = shaped(slow);
        for _ in 0..3 {
            pipe.offer(vec![0; 100], Duration::ZERO);
        }
        assert_eq!(pipe.poll_timeout(), Some(10_000 * MS));
        pipe.reshape(Shape::default(), 5 * MS);
        let seen = drain(&mut pipe);
        assert_eq!(seen.len(), 3);
        assert!(seen.iter().all(|(at, _)| *at == 5 * MS));
    }
}
