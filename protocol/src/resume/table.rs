//! Which streams an agent takes on, and who may try to attach to them.
//!
//! * **Places:** so many streams in all, and so many of one user.
//! * **Memory:** what a stream may hold at most is set aside when it is accepted, so what was
//!   accepted is never short of it. A user's streams get half of all memory at most, and a stream
//!   half of what is left of that; when this is less than [`WORTH`], new streams are refused, and
//!   those that there are go on. A client that is refused dials plainly, which is faster than a
//!   stream with less. Memory that is set aside is not taken before it is used.
//! * **Elsewhere:** streams of other processes, from before restarts of the agent, count as well.
//! * **Tries:** an attach costs a place for its proof and a tag. Each stream allows eight
//!   at once and one a second, a wrong proof costs them all. Names that do not exist are
//!   counted together. Whoever is not the stream's user is told that it does not exist.

use alloc::vec::Vec;
use core::time::Duration;

use super::{Reason, Sizes, StreamId};

/// The most streams that a table can hold.
pub const MAX_STREAMS: usize = 128;
/// A new stream has as much, or what is wanted if that is less: 5 Mbit/s at 100 ms.
const WORTH: u32 = 64 * 1024;
/// Tries at once: a client on a flapping link has one or two.
const BURST: u8 = 8;
/// What a wrong proof costs: no client makes one.
const WRONG: u8 = 8;
/// How long until one more try is allowed.
const REFILL: Duration = Duration::from_secs(1);

/// A user's name, as long as a dial's header allows.
type User = heapless::String<64>;

/// What an agent can spare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Streams at once; [`MAX_STREAMS`] at most.
    pub streams: usize,
    /// Streams of one user.
    pub per_user: usize,
    /// Bytes for the buffers of all of them.
    pub memory: u32,
    /// Of one stream, if there is enough.
    pub sizes: Sizes,
}

/// Tries that are left.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: u8,
    /// When the last one was added.
    filled: Duration,
}

/// What some streams take.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    streams: usize,
    bytes: u32,
}

#[derive(Debug, Clone)]
struct Entry {
    id: StreamId,
    user: User,
    sizes: Sizes,
    tries: Bucket,
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Table {
    limits: Limits,
    /// Grows as needed, up to [`MAX_STREAMS`].
    entries: Vec<Entry>,
    /// Tries for streams that there are not.
    strangers: Bucket,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: Vec::new(),
            strangers: Bucket::full(Duration::ZERO),
        }
    }

    /// Takes on a new stream, and says what it may hold. `elsewhere` are streams that are not in
    /// the table, each by its user and the bytes set aside for it.
    ///
    /// # Errors
    /// Why the client should dial plainly.
    pub fn admit<'e>(
        &mut self,
        id: StreamId,
        user: &str,
        elsewhere: impl Iterator<Item = (&'e str, u32)>,
        now: Duration,
    ) -> Result<Sizes, Reason> {
        let name = User::try_from(user).map_err(|_| Reason::Misbehaved)?;
        if self.entries.iter().any(|entry| entry.id == id) {
            return Err(Reason::Misbehaved);
        }
        let places = self.limits.streams.min(MAX_STREAMS);
        let (all, theirs) = self.taken(user, elsewhere);
        if all.streams >= places || theirs.streams >= self.limits.per_user {
            return Err(Reason::Busy);
        }
        let memory = self.limits.memory;
        let left = memory.saturating_sub(all.bytes);
        let left = left.min((memory / 2).saturating_sub(theirs.bytes));
        let sizes = self.share(left).ok_or(Reason::Memory)?;
        let entry = Entry {
            id,
            user: name,
            sizes,
            tries: Bucket::full(now),
        };
        self.entries.push(entry);
        Ok(sizes)
    }

    /// What all streams take, and those of one user.
    fn taken<'e>(
        &self,
        user: &str,
        elsewhere: impl Iterator<Item = (&'e str, u32)>,
    ) -> (Taken, Taken) {
        let here = self.streams().map(|(_, of, bytes)| (of == user, bytes));
        let elsewhere = elsewhere.map(|(of, bytes)| (of == user, bytes));
        let mut taken = (Taken::default(), Taken::default());
        for (theirs, bytes) in here.chain(elsewhere) {
            taken.0.add(bytes);
            if theirs {
                taken.1.add(bytes);
            }
        }
        taken
    }

    /// What the next stream may hold, with so many bytes left.
    fn share(&self, left: u32) -> Option<Sizes> {
        // Half of it, for two buffers.
        let each = (left / 4).max(WORTH);
        let wanted = self.limits.sizes;
        let sizes = Sizes {
            replay: wanted.replay.min(each),
            window: wanted.window.min(each),
        };
        let sizes = sizes.clamped();
        (sizes.total() <= left).then_some(sizes)
    }

    /// Whether a user may try to attach to a stream.
    ///
    /// # Errors
    /// What to tell the client instead.
    pub fn attach(&mut self, id: StreamId, user: &str, now: Duration) -> Result<(), Reason> {
        let mut entries = self.entries.iter_mut();
        let (tries, unknown) = match entries.find(|e| e.id == id && e.user == user) {
            Some(entry) => (&mut entry.tries, Reason::Busy),
            None => (&mut self.strangers, Reason::Gone),
        };
        match (tries.take(1, now), unknown) {
            (true, Reason::Gone) => Err(Reason::Gone),
            (true, _) => Ok(()),
            (false, _) => Err(Reason::Busy),
        }
    }

    /// A proof for this stream was wrong.
    pub fn proof_was_wrong(&mut self, id: StreamId, now: Duration) {
        for entry in self.entries.iter_mut().filter(|entry| entry.id == id) {
            entry.tries.take(WRONG, now);
        }
    }

    /// A stream is [forgotten](super::Agent::is_forgotten).
    pub fn remove(&mut self, id: StreamId) {
        self.entries.retain(|entry| entry.id != id);
    }

    /// How much all buffers together may take from now on. What was promised stays so.
    pub fn set_memory(&mut self, bytes: u32) {
        self.limits.memory = bytes;
    }

    /// Bytes set aside.
    #[must_use]
    pub fn reserved(&self) -> u32 {
        self.entries
            .iter()
            .fold(0, |sum, entry| sum.saturating_add(entry.sizes.total()))
    }

    /// All of them, with their users and the bytes set aside for them.
    pub fn streams(&self) -> impl Iterator<Item = (StreamId, &str, u32)> {
        let entries = self.entries.iter();
        entries.map(|entry| (entry.id, entry.user.as_str(), entry.sizes.total()))
    }

    /// Streams taken on.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A user's streams: they end when the user is locked.
    pub fn of_user<'a>(&'a self, user: &'a str) -> impl Iterator<Item = StreamId> + 'a {
        let entries = self.entries.iter().filter(move |entry| entry.user == user);
        entries.map(|entry| entry.id)
    }
}

impl Taken {
    fn add(&mut self, bytes: u32) {
        self.streams += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

impl Bucket {
    const fn full(now: Duration) -> Self {
        Self {
            left: BURST,
            filled: now,
        }
    }

    /// Takes so many tries, or all that are left; tells whether there was one.
    fn take(&mut self, count: u8, now: Duration) -> bool {
        let passed = now.saturating_sub(self.filled).as_secs() / REFILL.as_secs();
        if passed > 0 {
            let added = u8::try_from(passed).unwrap_or(u8::MAX);
            self.left = self.left.saturating_add(added).min(BURST);
            self.filled = now;
        }
        let any = self.left > 0;
        self.left = self.left.saturating_sub(count);
        any
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;

    const LIMITS: Limits = Limits {
        streams: 8,
        per_user: 4,
        memory: 1 << 20,
        sizes: Sizes::AGENT,
    };

    const NONE: core::iter::Empty<(&str, u32)> = core::iter::empty();

    const fn id(n: u8) -> StreamId {
        StreamId([n; 16])
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_few_streams_fit_into_a_small_device_and_more_are_refused_when_memory_is_short() {
        let mut table = Table::new(LIMITS);
        let mut granted = vec![];
        let refused = loop {
            let n = u8::try_from(granted.len()).unwrap();
            match table.admit(id(n), &format!("user {n}"), NONE, s(0)) {
                Ok(sizes) => granted.push(sizes.total() / 1024),
                Err(reason) => break reason,
            }
        };
        assert_eq!(
            (refused, &granted[..]),
            (Reason::Memory, &[256, 256, 256, 128, 128][..])
        );
        assert!(table.reserved() <= LIMITS.memory);
        table.remove(id(0));
        let sizes = table.admit(id(9), "ann", NONE, s(0)).unwrap();
        assert_eq!(sizes.total(), 128 * 1024);
        table.set_memory(0);
        assert_eq!(table.admit(id(10), "ann", NONE, s(0)), Err(Reason::Memory));
        assert_eq!(table.len(), 5, "those that there are go on");
    }

    #[test]
    fn a_user_gets_half_of_the_memory_at_most_wherever_the_streams_are() {
        let mut limits = LIMITS;
        limits.memory = 2 << 20;
        let mut table = Table::new(limits);
        let mut all_of = |user: &str, first: u8| {
            let granted = (first..).map_while(|n| table.admit(id(n), user, NONE, s(0)).ok());
            granted
                .map(|sizes| sizes.total() / 1024)
                .collect::<Vec<_>>()
        };
        assert_eq!(all_of("ann", 0), [512, 256, 128, 128]);
        assert_eq!(all_of("bob", 10), [512, 256, 128, 128]);
        let mut table = Table::new(limits);
        let elsewhere = || [("ann", 896 * 1024)].into_iter();
        let last = table.admit(id(1), "ann", elsewhere(), s(0)).unwrap();
        assert_eq!(last.total(), 128 * 1024);
        let refused = table.admit(id(2), "ann", elsewhere(), s(0));
        assert_eq!(refused, Err(Reason::Memory));
        let places = || [("ann", 0); 4].into_iter();
        let refused = table.admit(id(2), "ann", places(), s(0));
        assert_eq!(refused, Err(Reason::Busy));
        assert!(table.admit(id(2), "bob", places(), s(0)).is_ok());
    }

    #[test]
    fn who_wants_little_gets_that() {
        let mut limits = LIMITS;
        limits.sizes = Sizes::LEAST;
        let mut table = Table::new(limits);
        assert_eq!(table.admit(id(1), "ann", NONE, s(0)), Ok(Sizes::LEAST));
    }

    #[test]
    fn places_are_limited_in_all_and_for_each_user() {
        let memory = 1 << 30;
        let mut table = Table::new(Limits { memory, ..LIMITS });
        for n in 0..4 {
            assert_eq!(table.admit(id(n), "ann", NONE, s(0)), Ok(Sizes::AGENT));
        }
        assert_eq!(table.admit(id(4), "ann", NONE, s(0)), Err(Reason::Busy));
        for n in 4..8 {
            assert_eq!(table.admit(id(n), "bob", NONE, s(0)), Ok(Sizes::AGENT));
        }
        assert_eq!(table.admit(id(8), "eve", NONE, s(0)), Err(Reason::Busy));
        table.remove(id(1));
        assert_eq!(
            table.admit(id(2), "ann", NONE, s(0)),
            Err(Reason::Misbehaved)
        );
        assert_eq!(table.admit(id(1), "ann", NONE, s(0)), Ok(Sizes::AGENT));
        assert_eq!(table.of_user("ann").count(), 4);
        let bytes = Sizes::AGENT.total();
        assert!(
            table
                .streams()
                .any(|stream| stream == (id(7), "bob", bytes))
        );
        assert_eq!(table.streams().count(), 8);
    }

    #[test]
    fn a_table_takes_no_more_than_it_can_hold_whatever_it_is_allowed() {
        let mut table = Table::new(Limits {
            streams: usize::MAX,
            per_user: usize::MAX,
            memory: u32::MAX,
            sizes: Sizes::LEAST,
        });
        let admitted = (0..=u8::MAX).map(|n| table.admit(id(n), "ann", NONE, s(0)));
        let refused: Vec<_> = admitted.skip(MAX_STREAMS).collect();
        assert_eq!(table.len(), MAX_STREAMS);
        assert!(refused.iter().all(|refused| *refused == Err(Reason::Busy)));
        assert!(!refused.is_empty());
    }

    #[test]
    fn only_its_user_finds_a_stream() {
        let mut table = Table::new(LIMITS);
        table.admit(id(1), "ann", NONE, s(0)).unwrap();
        assert_eq!(table.attach(id(1), "ann", s(0)), Ok(()));
        assert_eq!(table.attach(id(1), "eve", s(0)), Err(Reason::Gone));
        assert_eq!(table.attach(id(2), "ann", s(0)), Err(Reason::Gone));
    }

    #[test]
    fn tries_are_limited_for_a_stream_and_for_guesses() {
        let mut table = Table::new(LIMITS);
        table.admit(id(1), "ann", NONE, s(0)).unwrap();
        for n in 0..200 {
            let expected = if n < BURST {
                Reason::Gone
            } else {
                Reason::Busy
            };
            assert_eq!(table.attach(id(n | 0x40), "eve", s(1)), Err(expected));
        }
        for _ in 0..BURST {
            assert_eq!(
                table.attach(id(1), "ann", s(1)),
                Ok(()),
                "guesses harm nobody"
            );
        }
        assert_eq!(table.attach(id(1), "ann", s(1)), Err(Reason::Busy));
        assert_eq!(table.attach(id(1), "ann", s(2)), Ok(()));
        table.proof_was_wrong(id(1), s(60));
        assert_eq!(table.attach(id(1), "ann", s(60)), Err(Reason::Busy));
        assert_eq!(table.attach(id(1), "ann", s(61)), Ok(()));
    }
}
