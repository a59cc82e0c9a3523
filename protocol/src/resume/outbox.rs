//! One direction, at the end that sends: what was written and is not acknowledged.

use core::time::Duration;

use super::FIRST_CREDIT;
use super::frame::Malformed;
use super::pace::Pace;
use super::ring::Ring;

/// See the [module](self).
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    ring: Ring,
    /// Number of the first byte in the ring.
    start: u64,
    /// Every number below was sent on some attachment.
    sent: u64,
    /// The other end has everything below. It may know more than this attachment has carried, if an
    /// older one still delivered.
    claimed: u64,
    /// The other end allows data below this number.
    limit: u64,
    /// How much it allowed when it said so last.
    theirs: u32,
    closed: bool,
    end_acked: bool,
    pace: Pace,
}

impl Outbox {
    pub(super) fn new(replay: u32) -> Self {
        Self {
            ring: Ring::new(replay),
            start: 0,
            sent: 0,
            claimed: 0,
            limit: u64::from(FIRST_CREDIT),
            theirs: FIRST_CREDIT,
            closed: false,
            end_acked: false,
            pace: Pace::default(),
        }
    }

    /// As it was in another process; `None` if there is no memory for it.
    pub(super) fn restored(replay: u32, start: u64, bytes: [&[u8]; 2]) -> Option<Self> {
        let mut outbox = Self::new(replay);
        for part in bytes {
            (outbox.ring.push(part) == part.len()).then_some(())?;
        }
        outbox.start = start;
        // The other end says anew what it allows.
        outbox.limit = start;
        Some(outbox)
    }

    /// The rest of it; `None` if that cannot be.
    pub(super) fn with_end(mut self, sent: u64, closed: bool, end_acked: bool) -> Option<Self> {
        self.closed = closed;
        self.end_acked = end_acked;
        self.sent = sent;
        self.claimed = self.acked();
        let lies = end_acked && !(closed && self.ring.is_empty());
        let fits = self.acked() <= sent && sent <= self.end();
        (fits && !lies).then_some(self)
    }

    pub(super) const fn ring(&self) -> &Ring {
        &self.ring
    }

    pub(super) fn ring_mut(&mut self) -> &mut Ring {
        &mut self.ring
    }

    /// How much the other end allowed last, beyond what it had.
    pub(super) const fn theirs(&self) -> u32 {
        self.theirs
    }

    /// What it may keep.
    pub(super) fn held(&self) -> u32 {
        u32::try_from(self.ring.limit()).unwrap_or(u32::MAX)
    }

    /// Keeps so much from now on.
    pub(super) fn set_replay(&mut self, replay: u32) {
        self.ring
            .set_limit(usize::try_from(replay).unwrap_or(usize::MAX));
        self.pace.reset();
    }

    /// Keeps no more than what is under way: the stream is over.
    pub(super) fn keep_only(&mut self, at: u64, length: usize) {
        let gone = at.saturating_sub(self.start);
        self.ring.pop(usize::try_from(gone).unwrap_or(usize::MAX));
        self.start += gone;
        self.ring.truncate(length);
        self.ring.set_limit(length);
        self.ring.shrink();
    }

    /// When a whole buffer was acknowledged last.
    pub(super) const fn round_at(&self) -> Duration {
        self.pace.round_at()
    }

    /// Takes note of what is acknowledged until now.
    pub(super) fn note_pace(&mut self, now: Duration) {
        self.pace.note(self.start, self.ring.limit() as u64, now);
    }

    /// Whether only what is not acknowledged keeps more from being written, and that is all that
    /// it may be: all is sent up to that number, and the other end would take more.
    pub(super) fn waits_for_acks(&self, at: u64, now: Duration) -> bool {
        let more = self.limit > self.data_end();
        self.ring.room() == 0 && at == self.data_end() && more && self.pace.is_brisk(now)
    }

    /// Number behind the last byte.
    fn data_end(&self) -> u64 {
        self.start + self.ring.len() as u64
    }

    /// Number behind everything there is to send.
    fn end(&self) -> u64 {
        self.data_end() + u64::from(self.closed)
    }

    /// Every number below is acknowledged.
    pub(super) fn acked(&self) -> u64 {
        self.start + u64::from(self.end_acked)
    }

    pub(super) const fn start(&self) -> u64 {
        self.start
    }

    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether everything, the end included, has arrived.
    pub(super) const fn is_done(&self) -> bool {
        self.end_acked
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        if self.closed {
            return 0;
        }
        self.ring.push(bytes)
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn allow(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// The other end says that everything below `to` has arrived.
    pub(super) fn claim(&mut self, to: u64) -> Result<(), Malformed> {
        if to > self.sent {
            return Err(Malformed);
        }
        self.claimed = self.claimed.max(to);
        Ok(())
    }

    /// The same, as ACK says it, with what may follow.
    pub(super) fn handle_ack(&mut self, received: u32, room: u32) -> Result<(), Malformed> {
        let acked = self.acked();
        // Its low bits: no window is as large as they count.
        let ahead = received.wrapping_sub(acked as u32);
        let to = acked.saturating_add(u64::from(ahead));
        self.claim(to)?;
        self.allow(to.saturating_add(u64::from(room)));
        self.theirs = room;
        Ok(())
    }

    /// Drops what has arrived, below `to`: what an attachment has begun, it must send.
    pub(super) fn release(&mut self, to: u64) {
        let to = to.min(self.claimed);
        let data = to.min(self.data_end()).saturating_sub(self.start);
        self.ring.pop(usize::try_from(data).unwrap_or(usize::MAX));
        self.start += data;
        self.end_acked |= self.closed && to > self.data_end();
    }

    /// Bytes that may be sent from a number on.
    pub(super) fn sendable(&self, at: u64) -> usize {
        let bytes = self.data_end().min(self.limit).saturating_sub(at);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Whether only the other end's window keeps data from being sent.
    pub(super) fn is_blocked(&self, at: u64) -> bool {
        at < self.data_end() && at >= self.limit
    }

    /// Whether nothing but the end is to be sent.
    pub(super) fn ends_at(&self, at: u64) -> bool {
        self.closed && at == self.data_end()
    }

    pub(super) fn slices(&self, at: u64, length: usize) -> (&[u8], &[u8]) {
        let from = usize::try_from(at.saturating_sub(self.start)).unwrap_or(usize::MAX);
        self.ring.slices(from, length)
    }

    pub(super) fn mark_sent(&mut self, to: u64) {
        self.sent = self.sent.max(to);
    }
}
