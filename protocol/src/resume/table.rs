//! Which streams an agent takes on, and who may try to attach to them.
//!
//! * **Places:** so many streams in all, and so many of one user.
//! * **Memory:** what a stream may hold at most is set aside when it is accepted, so what was
//!   accepted is never short of it. A user's streams get half of all memory at most, and a stream
//!   half of what is left of that; when this is less than [`WORTH`], new streams are refused, and
//!   those that there are go on. A client that is refused dials plainly, which is faster than a
//!   stream with less. Memory that is set aside is not taken before it is used.
//! * **Busy streams** may [borrow](Table::lend) beyond that, of memory that no stream is promised.
//!   A user's streams get half of it at most.
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

/// Users whose guesses are counted apart.
const STRANGERS: usize = 8;

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
    /// Of one that is busy, if there is more...
    pub busy: Sizes,
    /// ...and bytes that busy ones may borrow, all of them together.
    pub spare: u32,
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
    /// What it was promised.
    sizes: Sizes,
    /// The same, and what it has borrowed.
    held: Sizes,
    tries: Bucket,
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Table {
    limits: Limits,
    /// Grows as needed, up to [`MAX_STREAMS`].
    entries: Vec<Entry>,
    /// Who tried for streams that there are not, or are not theirs; whoever did last comes last. So
    /// one who guesses does not use up the tries of another who comes back too late.
    strangers: Vec<(User, Bucket)>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: Vec::new(),
            strangers: Vec::new(),
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
            held: sizes,
            tries: Bucket::full(now),
        };
        self.entries.push(entry);
        Ok(sizes)
    }

    /// A stream would like to hold so much, or gives back what it holds beyond that
    /// ([`Event::Wants`](super::Event::Wants)). Tells what it may hold.
    pub fn lend(&mut self, id: StreamId, wanted: Sizes) -> Sizes {
        let known = self.entries.iter().find(|entry| entry.id == id);
        let left = known.map_or(0, |entry| self.spare_of(&entry.user));
        self.hold(id, wanted, left)
    }

    /// The same, while nothing is to be lent: takes what is given back.
    pub fn take_back(&mut self, id: StreamId, wanted: Sizes) -> Sizes {
        self.hold(id, wanted, 0)
    }

    /// From now on nothing is lent.
    pub const fn stop_lending(&mut self) {
        self.limits.spare = 0;
    }

    /// Whether anything is ever lent.
    #[must_use]
    pub const fn lends(&self) -> bool {
        self.limits.spare > 0
    }

    fn hold(&mut self, id: StreamId, wanted: Sizes, left: u32) -> Sizes {
        let most = self.limits.busy;
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else {
            return Sizes::LEAST;
        };
        let held = entry.held;
        let more = |wanted: u32, held: u32, most: u32| wanted.min(most).saturating_sub(held);
        let replay = more(wanted.replay, held.replay, most.replay).min(left);
        let window = more(wanted.window, held.window, most.window).min(left - replay);
        entry.held = Sizes {
            replay: wanted.replay.min(held.replay) + replay,
            window: wanted.window.min(held.window) + window,
        }
        .at_least(entry.sizes);
        entry.held
    }

    /// What can be lent to a user.
    fn spare_of(&self, user: &str) -> u32 {
        let spare = self.limits.spare;
        let lent = |of: &dyn Fn(&Entry) -> bool| {
            let entries = self.entries.iter().filter(|entry| of(entry));
            entries.fold(0, |sum: u32, entry| sum.saturating_add(entry.borrowed()))
        };
        let all = spare.saturating_sub(lent(&|_| true));
        let theirs = (spare / 2).saturating_sub(lent(&|entry| entry.user == user));
        all.min(theirs)
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
        let known = entries.find(|e| e.id == id && e.user == user);
        let (may, then) = match known.map(|entry| entry.tries.take(1, now)) {
            Some(may) => (may, Ok(())),
            None => (self.may_guess(user, now), Err(Reason::Gone)),
        };
        if may { then } else { Err(Reason::Busy) }
    }

    fn may_guess(&mut self, user: &str, now: Duration) -> bool {
        let Ok(name) = User::try_from(user) else {
            return false;
        };
        let before = self.strangers.iter().position(|(of, _)| *of == name);
        let (name, mut tries) = match before {
            Some(at) => self.strangers.remove(at),
            None => (name, Bucket::full(now)),
        };
        if self.strangers.len() >= STRANGERS {
            self.strangers.remove(0);
        }
        let may = tries.take(1, now);
        self.strangers.push((name, tries));
        may
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

    /// Bytes set aside, and those that are lent.
    #[must_use]
    pub fn reserved(&self) -> u32 {
        self.entries
            .iter()
            .fold(0, |sum, entry| sum.saturating_add(entry.held.total()))
    }

    /// All of them, with their users and the bytes set aside for them; without what is lent.
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

impl Entry {
    /// What it holds beyond its promise, each way.
    fn borrowed(&self) -> u32 {
        self.held.total().saturating_sub(self.sizes.total())
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
mod tests;
