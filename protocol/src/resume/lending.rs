//! More room for a stream that is busy, as long as there is memory to spare.
//!
//! What a stream was promised at its start bounds what is under way, hence what it moves in a round
//! trip. A stream whose buffer is all that slows it down [asks](super::Event::Wants) for twice as
//! much, up to [`Stream::may_want`], and gives it back when it has not filled it for a while.
//! Whoever lends answers with [`Stream::lend`]. Both are this end's own business: a larger window is
//! told by the next ACK, a larger replay buffer not at all.

use core::time::Duration;

use super::{Sizes, Stream};

/// Who was given less than it asked for asks again after this.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Whoever has not filled its buffer for so long does not need it: well above what makes it ask.
const GIVE_BACK: Duration = Duration::from_secs(15);

/// The least of a window that is given back before the last of it.
const PIECE: u32 = 16 * 1024;

impl Stream {
    /// It may ask for so much. At first, it asks for no more than it has.
    pub fn may_want(&mut self, most: Sizes) {
        self.most = most.clamped().at_least(self.own);
    }

    /// What it may hold at present. What was lent counts until it is given back.
    #[must_use]
    pub const fn held(&self) -> Sizes {
        self.held
    }

    /// Answers [`Event::Wants`](super::Event::Wants): it may hold so much from now on. Less than it
    /// holds changes nothing.
    pub fn lend(&mut self, sizes: Sizes, now: Duration) {
        let before = self.held;
        self.held = sizes.at_least(before);
        if self.held.replay > before.replay {
            self.outbox.set_replay(self.held.replay);
        }
        if self.held.window > before.window {
            self.inbox.set_window(self.held.window);
            self.owe(now);
        }
        if self.held != before {
            self.asks_again = now;
            self.moved = Some(now);
        }
    }

    /// The application has more to write than there is room for.
    pub(super) fn is_short_of_replay(&mut self, now: Duration) {
        let heard = self.alone_since().is_none();
        let current = self.current.as_ref().filter(|_| heard);
        if current.is_some_and(|current| self.outbox.waits_for_acks(current.send_at, now)) {
            let replay = self.outbox.held().saturating_mul(2);
            self.want(Sizes { replay, window: 0 }, now);
        }
    }

    /// The application has read, or something has come.
    pub(super) fn note_pace(&mut self, now: Duration) {
        debug_assert!(self.inbox.held() <= self.held.window, "no more is allowed");
        self.moved.get_or_insert(now);
        self.outbox.note_pace(now);
        self.inbox.note_pace(now);
        if self.inbox.is_short(now) {
            let window = self.inbox.window().saturating_mul(2);
            self.want(Sizes { replay: 0, window }, now);
        }
    }

    fn want(&mut self, sizes: Sizes, now: Duration) {
        let sizes = Sizes {
            replay: sizes.replay.min(self.most.replay),
            window: sizes.window.min(self.most.window),
        };
        let wanted = sizes.at_least(self.held);
        if wanted != self.held && self.end().is_none() && now >= self.asks_again {
            self.asks_again = now.saturating_add(ASK_AGAIN);
            self.wish = Some(wanted);
        } else if sizes.window > self.inbox.window() {
            // It was not given back yet.
            self.inbox.set_window(sizes.window.min(self.held.window));
        }
    }

    /// Gives back what is not needed: of the replay buffer what is free, of the window what the other
    /// end has used of all that it was allowed.
    pub(super) fn give_back(&mut self, now: Duration) {
        let unused = |since: Duration| now.saturating_sub(since) >= GIVE_BACK;
        let [replay, window] = [self.outbox.round_at(), self.inbox.round_at()].map(unused);
        let window = window || self.inbox.is_closed() || self.inbox.discards();
        // What cannot be given back now cannot be before something moves.
        self.moved = (!replay || !window).then_some(now);
        if replay {
            let kept = u32::try_from(self.outbox.ring().len()).unwrap_or(u32::MAX);
            self.outbox.set_replay(kept.max(self.own.replay));
        }
        if window {
            self.inbox.set_window(self.own.window);
        }
        self.outbox.ring_mut().shrink();
        self.inbox.ring_mut().shrink();
        let held = self.needed();
        if self.held != held {
            self.held = held;
            self.wish = Some(held);
        }
    }

    /// What the buffers hold, and may have to.
    fn needed(&self) -> Sizes {
        Sizes {
            replay: self.outbox.held(),
            window: self.inbox.held(),
        }
        .at_least(self.own)
    }

    /// When to look whether what was lent is still needed. What the other end was allowed comes back
    /// in pieces: each is worth a look only if it is large, or the last.
    pub(super) fn gives_back_at(&self) -> Option<Duration> {
        let (held, own) = (self.held, self.own);
        let needed = self.needed().window;
        let back = held.window.saturating_sub(needed);
        let worth = held.replay > own.replay
            || self.inbox.window() > own.window
            || back >= PIECE
            || back > 0 && needed == own.window;
        Some(self.moved.filter(|_| worth)?.saturating_add(GIVE_BACK))
    }
}
