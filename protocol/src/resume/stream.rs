//! What both ends have in common: the bytes, and the attachment in use.

use core::time::Duration;

use super::attachment::{Attachment, First};
use super::inbox::Inbox;
use super::outbox::Outbox;
use super::{
    End, Event, GRACE, Generation, LAST_FIN, LINGER, MAX_GRACE, PERSIST, Reason, SUSPECT_CHANGED,
    Secret, Sizes, StreamId, TRIM,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// It has ended. That is remembered until then, for whoever asks; or was.
    Over {
        end: End,
        until: Option<Duration>,
    },
}

/// One end of a stream, as its application sees it. See the [module](super).
#[derive(Debug, Clone)]
pub struct Stream {
    pub(super) id: StreamId,
    pub(super) secret: Secret,
    /// What it was promised.
    pub(super) own: Sizes,
    /// The same, and what it was lent.
    pub(super) held: Sizes,
    /// What it may ask for.
    pub(super) most: Sizes,
    /// What is to be asked for; the last word counts.
    pub(super) wish: Option<Sizes>,
    /// It does not ask for more before then.
    pub(super) asks_again: Duration,
    /// As the other end says.
    pub(super) peer: Sizes,
    pub(super) outbox: Outbox,
    pub(super) inbox: Inbox,
    pub(super) current: Option<Attachment>,
    /// Since when the other end is not heard.
    alone: Option<Duration>,
    /// It is not given up before then.
    spared: Duration,
    pub(super) grace: Duration,
    phase: Phase,
    /// Since when nobody reads, and all that was written has arrived.
    served: Option<Duration>,
    /// When the buffers were used last, if they hold memory.
    used: Option<Duration>,
    /// When bytes moved first, since it was last looked whether loans are needed.
    pub(super) moved: Option<Duration>,
    events: heapless::Deque<Event, 8>,
}

impl Stream {
    pub(super) fn new(id: StreamId, secret: Secret, own: Sizes) -> Self {
        let own = own.clamped();
        Self {
            id,
            secret,
            own,
            held: own,
            most: own,
            wish: None,
            asks_again: Duration::ZERO,
            peer: Sizes::LEAST,
            outbox: Outbox::new(own.replay),
            inbox: Inbox::new(own.window),
            current: None,
            alone: None,
            spared: Duration::ZERO,
            grace: GRACE,
            phase: Phase::Open,
            served: None,
            used: None,
            moved: None,
            events: heapless::Deque::new(),
        }
    }

    /// The stream's name.
    #[must_use]
    pub const fn id(&self) -> StreamId {
        self.id
    }

    /// How long an end keeps the stream alone.
    #[must_use]
    pub const fn grace(&self) -> Duration {
        self.grace
    }

    /// The attachment in use.
    #[must_use]
    pub fn attached(&self) -> Option<Generation> {
        self.current.as_ref().map(|current| current.generation)
    }

    /// Since when nothing is heard of the other end.
    #[must_use]
    pub const fn alone_since(&self) -> Option<Duration> {
        self.alone
    }

    /// When it is given up, unless the other end is heard until then.
    #[must_use]
    pub fn given_up_at(&self) -> Option<Duration> {
        Some(self.grace_ends()?.max(self.spared))
    }

    /// How the stream ended, if it has.
    #[must_use]
    pub const fn end(&self) -> Option<End> {
        match self.phase {
            Phase::Open => None,
            Phase::Over { end, .. } => Some(end),
        }
    }

    /// Bytes of memory that its buffers take.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.outbox.ring().memory() + self.inbox.ring().memory()
    }

    /// How many bytes [`Self::write`] would take.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.end().is_some() || self.outbox.is_closed() {
            return 0;
        }
        self.outbox.ring().room()
    }

    /// Sends bytes; tells how many were taken. The others must wait for acknowledgements.
    pub fn write(&mut self, bytes: &[u8], now: Duration) -> usize {
        let wanted = bytes.len().min(self.room());
        let taken = self.outbox.write(bytes.get(..wanted).unwrap_or_default());
        self.used = Some(now);
        if taken < wanted {
            self.reset(Reason::Memory, now);
        }
        if taken < bytes.len() {
            self.is_short_of_replay(now);
        }
        self.settle(now);
        taken
    }

    /// Nothing more will be written.
    pub fn finish(&mut self, now: Duration) {
        if self.end().is_none() {
            self.outbox.close();
            self.settle(now);
        }
    }

    /// Whether [`Self::finish`] was called.
    #[must_use]
    pub const fn is_finishing(&self) -> bool {
        self.outbox.is_closed()
    }

    /// What was written and is not acknowledged: all of it, if the stream never came to be.
    #[must_use]
    pub fn unacknowledged(&self) -> (&[u8], &[u8]) {
        self.outbox.ring().slices(0, usize::MAX)
    }

    /// Bytes that have arrived, as far as they lie together; see [`Self::consume`].
    #[must_use]
    pub fn readable(&self) -> &[u8] {
        self.inbox.readable()
    }

    /// Marks bytes as read.
    pub fn consume(&mut self, count: usize, now: Duration) {
        self.inbox.consume(count);
        self.note_pace(now);
        self.owe(now);
        self.settle(now);
    }

    /// Reads bytes that have arrived; tells how many.
    pub fn read(&mut self, out: &mut [u8], now: Duration) -> usize {
        let count = self.inbox.read(out);
        if count > 0 {
            self.note_pace(now);
            self.owe(now);
            self.settle(now);
        }
        count
    }

    /// Whether everything was read, and nothing will come.
    #[must_use]
    pub fn is_read_to_end(&self) -> bool {
        self.inbox.is_done()
    }

    /// Nobody will read any more: drops what has arrived, and what comes.
    pub fn discard(&mut self, now: Duration) {
        self.inbox.discard();
        self.moved.get_or_insert(now);
        self.owe(now);
        self.settle(now);
    }

    /// Ends the stream in both directions, and tells the other end why. What is not acknowledged
    /// may be lost.
    pub fn reset(&mut self, reason: Reason, now: Duration) {
        if self.end().is_none() {
            self.end_by(End::GivenUp(reason), now);
        }
    }

    pub(super) fn end_by(&mut self, end: End, now: Duration) {
        let until = Some(now.saturating_add(LINGER));
        self.phase = Phase::Over { end, until };
        self.alone = None;
        self.tell(Event::Ended(end));
        if end != End::Clean {
            self.inbox.discard();
            self.inbox.ring_mut().trim();
        }
        // The other end is told, unless it said so itself.
        if !matches!(end, End::GivenUp(_)) {
            self.drop_current();
        }
        self.shed();
    }

    /// Whether the attachment has only to say that the stream was reset.
    pub(super) fn is_resetting(&self) -> Option<Reason> {
        match self.phase {
            Phase::Over {
                end: End::GivenUp(reason),
                ..
            } => Some(reason),
            _ => None,
        }
    }

    /// Gives the buffers back, once the frame under way does not need them.
    pub(super) fn shed(&mut self) {
        if self.end().is_none() {
            return;
        }
        match self.current.as_ref().filter(|current| current.payload > 0) {
            Some(current) => self.outbox.keep_only(current.send_at, current.payload),
            None => {
                let all = self.outbox.ring().len();
                self.outbox.ring_mut().pop(all);
                self.outbox.ring_mut().trim();
                self.used = None;
            }
        }
    }

    pub(super) fn drop_current(&mut self) {
        if let Some(current) = self.current.take() {
            self.tell(Event::Close(current.generation, None));
        }
    }

    /// Uses this attachment from now on.
    pub(super) fn attach(&mut self, attachment: Attachment) {
        self.drop_current();
        self.alone = None;
        self.tell(Event::Attached(attachment.generation));
        self.current = Some(attachment);
    }

    /// What the other end, or a dial, says of the grace time.
    pub(super) fn set_grace(&mut self, grace: Duration) {
        self.grace = grace.min(MAX_GRACE);
    }

    /// An attachment has ended. Tells whether it was in use.
    pub(super) fn handle_closed(&mut self, generation: Generation, now: Duration) -> bool {
        if self.attached() != Some(generation) {
            return false;
        }
        self.current = None;
        if self.end().is_none() {
            self.alone = self.alone.or(Some(now));
            self.tell(Event::Detached);
        }
        self.shed();
        true
    }

    /// There is no attachment since then.
    pub(super) fn alone_from(&mut self, now: Duration) {
        self.alone = Some(now);
    }

    pub(super) fn no_longer_alone(&mut self) {
        self.alone = None;
    }

    /// Asks for a sign of life, and waits for it less long than usual.
    pub(super) fn probe(&mut self, now: Duration) {
        if let Some(current) = &mut self.current
            && current.first != First::Opened
        {
            current.asks = !current.asked;
            current.patience = SUSPECT_CHANGED;
            current.waiting = Some(now);
        }
    }

    /// Gives the other end until then to be heard, at least.
    pub(super) fn spare(&mut self, until: Duration) {
        self.spared = until;
    }

    /// Holds the attachment for stalled, since then, until it is heard.
    pub(super) fn doubt(&mut self, since: Duration) {
        if let Some(current) = &mut self.current
            && current.first != First::Opened
            && !current.stalled
            && matches!(self.phase, Phase::Open)
        {
            current.stalled = true;
            self.alone = self.alone.or(Some(since));
            self.tell(Event::Stalled);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) {
        if let Phase::Over { end, .. } = self.phase {
            if self.poll_timeout().0 <= now {
                self.phase = Phase::Over { end, until: None };
                self.drop_current();
                self.shed();
            }
            return;
        }
        let is_given_up = |stream: &Self| stream.given_up_at().is_some_and(|at| now >= at);
        if is_given_up(self) {
            return self.end_by(End::GivenUp(Reason::GraceOver), now);
        }
        if self.waits_until().is_some_and(|at| now >= at) {
            return self.end_by(End::GivenUp(Reason::Finished), now);
        }
        self.check_silence(now);
        // Found to be alone since long ago, it may have been so for too long.
        if is_given_up(self) {
            return self.end_by(End::GivenUp(Reason::GraceOver), now);
        }
        self.check_block(now);
        if self.trims_at().is_some_and(|at| now >= at) {
            self.outbox.ring_mut().trim();
            self.inbox.ring_mut().trim();
            self.used = None;
        }
        if self.gives_back_at().is_some_and(|at| now >= at) {
            self.give_back(now);
        }
    }

    fn check_silence(&mut self, now: Duration) {
        let Some(current) = &mut self.current else {
            return;
        };
        current.owe_now(now);
        if current.silence_ends().is_some_and(|at| now >= at) {
            current.stalled = true;
            self.alone = current.waiting;
            self.tell(Event::Stalled);
        }
    }

    fn check_block(&mut self, now: Duration) {
        if self.asks_at().is_some_and(|at| now >= at)
            && let Some(current) = &mut self.current
        {
            current.asks = true;
            current.waiting = Some(now);
        }
    }

    /// When to ask whether the other end's application reads again.
    fn asks_at(&self) -> Option<Duration> {
        let current = self.current.as_ref()?;
        let blocked = self.outbox.is_blocked(current.send_at);
        let quiet = !current.asks && current.waiting.is_none() && current.first == First::Any;
        (blocked && quiet).then(|| current.active.saturating_add(PERSIST))
    }

    /// When the other end no longer waits, if both have begun to count at once.
    pub(super) fn grace_ends(&self) -> Option<Duration> {
        Some(self.alone?.saturating_add(self.grace))
    }

    /// Until when the other end may leave its side open. One that is away may come back, and then
    /// learns it.
    fn waits_until(&self) -> Option<Duration> {
        let there = self.current.is_some() && self.alone.is_none();
        Some(self.served.filter(|_| there)?.saturating_add(LAST_FIN))
    }

    fn trims_at(&self) -> Option<Duration> {
        let idle = self.outbox.ring().is_empty() && self.inbox.ring().is_empty();
        let used = self.used.filter(|_| idle && self.memory() > 0)?;
        Some(used.saturating_add(TRIM))
    }

    pub(super) fn poll_timeout(&self) -> (Duration, &'static str) {
        if let Phase::Over { until, .. } = self.phase {
            return (until.unwrap_or(Duration::MAX), "linger");
        }
        let current = self.current.as_ref();
        [
            (self.given_up_at(), "grace"),
            (self.waits_until(), "last end"),
            (current.and_then(Attachment::silence_ends), "silence"),
            (current.and_then(Attachment::acks_at), "acknowledgement"),
            (self.asks_at(), "persist"),
            (self.trims_at(), "trim"),
            (self.gives_back_at(), "loan"),
        ]
        .into_iter()
        .filter_map(|(at, why)| Some((at?, why)))
        .min_by_key(|(at, _)| *at)
        .unwrap_or((Duration::MAX, "nothing"))
    }

    /// Whether it is over and read, and need not be remembered any longer.
    pub(super) fn is_forgotten(&self, now: Duration) -> bool {
        let over =
            matches!(self.phase, Phase::Over { until, .. } if until.is_none_or(|at| now >= at));
        over && self.inbox.ring().is_empty()
    }

    pub(super) fn touch(&mut self, now: Duration) {
        self.used = Some(now);
    }

    /// Whether the other end has something to say: to what was sent, or will be as soon as the
    /// attachment takes it.
    fn is_answer_due(&self) -> bool {
        self.current.as_ref().is_some_and(|current| {
            let at = current.send_at;
            let unsent = self.outbox.sendable(at) > 0 || self.outbox.ends_at(at);
            current.asked || unsent || at > self.outbox.acked()
        })
    }

    /// Draws the consequences of whatever was done: an answer may be due, or nothing more.
    pub(super) fn settle(&mut self, now: Duration) {
        if self.is_answer_due()
            && let Some(current) = &mut self.current
        {
            current.waiting.get_or_insert(now);
        }
        if self.outbox.is_done() && self.inbox.discards() {
            self.served.get_or_insert(now);
        }
        self.end_if_done(now);
    }

    /// Ends the stream once everything has arrived at both ends, as far as this one can know; read
    /// or not.
    fn end_if_done(&mut self, now: Duration) {
        let received = self.inbox.received();
        let said = |c: &Attachment| c.is_flushed() && c.told.0 == received;
        if self.end().is_none()
            && self.outbox.is_done()
            && self.inbox.is_closed()
            && self.current.as_ref().is_some_and(said)
        {
            self.end_by(End::Clean, now);
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        event.or_else(|| self.wish.take().map(Event::Wants))
    }

    pub(super) fn tell(&mut self, event: Event) {
        let fits = self.events.push_back(event);
        debug_assert!(fits.is_ok(), "poll_event was not drained");
    }
}
