//! The program at an end: writes, reads, waits, and checks every byte it reads.

use std::sync::OnceLock;
use std::time::Duration;

use fastrand::Rng;
use protocol::resume::Stream;

/// Prime, so that no power of two brings the pattern back.
const PATTERN: usize = 65_521;

fn pattern() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut bytes = vec![0; 2 * PATTERN];
        Rng::with_seed(99).fill(&mut bytes[..PATTERN]);
        bytes.copy_within(..PATTERN, PATTERN);
        bytes
    })
}

/// The bytes of a direction from a number on.
fn expected(offset: u64, from: u64, length: usize) -> &'static [u8] {
    let start = usize::try_from((offset + from) % PATTERN as u64).unwrap();
    &pattern()[start..start + length]
}

/// What one program does.
#[derive(Debug, Clone)]
pub(crate) struct App {
    /// How many bytes it writes.
    pub(crate) writes: u64,
    /// How many the other writes.
    pub(crate) reads: u64,
    pub(crate) written: u64,
    pub(crate) read: u64,
    /// Whether it waits for the other to finish first.
    polite: bool,
    largest: usize,
    out_offset: u64,
    in_offset: u64,
    pub(crate) next_at: Duration,
    think: Duration,
    /// How long it found nothing to do.
    idle: Duration,
}

impl App {
    /// Two programs for the ends of one stream.
    pub(crate) fn pair(rng: &mut Rng) -> [Self; 2] {
        let amounts = [amount(rng), amount(rng)];
        let first_waits = rng.bool();
        let mut app = |i: usize, polite: bool| Self {
            writes: amounts[i],
            reads: amounts[1 - i],
            written: 0,
            read: 0,
            polite,
            largest: [200, 3000, 20_000][rng.usize(0..3)],
            out_offset: i as u64 * 1000,
            in_offset: (1 - i as u64) * 1000,
            next_at: Duration::ZERO,
            think: Duration::from_millis([10, 100, 1000][rng.usize(0..3)]),
            idle: Duration::ZERO,
        };
        [
            app(0, first_waits),
            app(1, !first_waits && amounts[0].is_multiple_of(2)),
        ]
    }

    /// Two programs that move much, as fast as they can, one way or both.
    pub(crate) fn busy_pair(rng: &mut Rng) -> [Self; 2] {
        let mut amounts = [0, 0].map(|_| rng.u64(0..6_000_000));
        if let Some(little) = amounts.get_mut(rng.usize(0..4)) {
            *little %= 6_000;
        }
        [0, 1].map(|side| Self {
            largest: 60_000,
            ..Self::writes_only(amounts[side], amounts[1 - side], side as u64)
        })
    }

    /// Both write that much, at once, and end.
    pub(crate) fn writes_only(writes: u64, reads: u64, side: u64) -> Self {
        Self {
            writes,
            reads,
            written: 0,
            read: 0,
            polite: false,
            largest: 20_000,
            out_offset: side * 1000,
            in_offset: (1 - side) * 1000,
            next_at: Duration::ZERO,
            think: Duration::from_millis(5),
            idle: Duration::ZERO,
        }
    }

    /// Does something; both ways may be stuck, then nothing happens.
    pub(crate) fn act(&mut self, stream: &mut Stream, rng: &mut Rng, now: Duration) {
        let before = self.written + self.read;
        let left = usize::try_from(self.writes - self.written).unwrap();
        let length = rng.usize(0..=self.largest).min(left);
        let bytes = expected(self.out_offset, self.written, length);
        self.written += stream.write(bytes, now) as u64;
        let done = self.written == self.writes && (!self.polite || stream.is_read_to_end());
        if done && !stream.is_finishing() {
            stream.finish(now);
        }
        self.take(stream, rng, now);
        let think = u64::try_from(self.think.as_millis()).unwrap();
        let pause = if rng.u8(..) < 3 { 6000 } else { 0 };
        self.idle = match before == self.written + self.read {
            true => (self.idle * 2 + self.think).min(Duration::from_secs(3)),
            false => Duration::ZERO,
        };
        self.next_at = now + self.idle + Duration::from_millis(rng.u64(0..=think) + pause);
    }

    fn take(&mut self, stream: &mut Stream, rng: &mut Rng, now: Duration) {
        if rng.bool() {
            let mut out = vec![0; rng.usize(0..=self.largest)];
            let count = stream.read(&mut out, now);
            self.check(&out[..count]);
        } else {
            let bytes = stream.readable();
            let count = rng.usize(0..=bytes.len());
            self.check(&bytes[..count]);
            stream.consume(count, now);
        }
        if stream.is_read_to_end() {
            assert_eq!(self.read, self.reads, "it ended too soon");
        }
    }

    /// Bytes that were handed on.
    pub(crate) fn check(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(PATTERN) {
            let right = part == expected(self.in_offset, self.read, part.len());
            assert!(right, "wrong bytes from number {} on", self.read);
            self.read += part.len() as u64;
        }
        assert!(self.read <= self.reads, "more than was written");
    }
}

fn amount(rng: &mut Rng) -> u64 {
    match rng.u8(0..10) {
        0 => 0,
        1..=2 => rng.u64(1..500),
        3..=7 => rng.u64(1..6_000),
        _ => rng.u64(1..40_000),
    }
}
