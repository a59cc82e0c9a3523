//! One direction, at the end that receives: what has arrived and is not read.

use core::time::Duration;

use super::pace::Pace;
use super::ring::Ring;

/// See the [module](self).
#[derive(Debug, Clone)]
pub(super) struct Inbox {
    ring: Ring,
    /// So much is allowed beyond what was handed on, at least.
    window: u32,
    /// Number of the first byte that was not handed on.
    consumed: u64,
    /// The other end may send data below this number. What was allowed stays so.
    allowed: u64,
    pace: Pace,
    /// The window has cut a frame short in this round...
    cuts: bool,
    /// ...and did so in the last one.
    limits: bool,
    /// Nothing comes behind what is there.
    closed: bool,
    /// Nobody will read: what comes is dropped.
    discards: bool,
}

/// No memory for what the other end was allowed to send.
#[derive(Debug)]
pub(super) struct NoMemory;

impl Inbox {
    pub(super) fn new(window: u32) -> Self {
        Self {
            ring: Ring::new(window),
            window,
            consumed: 0,
            allowed: u64::from(window),
            pace: Pace::default(),
            cuts: false,
            limits: false,
            closed: false,
            discards: false,
        }
    }

    /// As it was in another process.
    pub(super) fn restored(window: u32, consumed: u64, bytes: [&[u8]; 2]) -> Option<Self> {
        let mut inbox = Self::new(window);
        for part in bytes {
            (inbox.ring.push(part) == part.len()).then_some(())?;
        }
        inbox.advance(consumed);
        Some(inbox)
    }

    pub(super) const fn ring(&self) -> &Ring {
        &self.ring
    }

    pub(super) fn ring_mut(&mut self) -> &mut Ring {
        &mut self.ring
    }

    pub(super) const fn consumed(&self) -> u64 {
        self.consumed
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether nobody will read.
    pub(super) const fn discards(&self) -> bool {
        self.discards
    }

    /// Whether everything, the end included, has arrived and is read.
    pub(super) fn is_done(&self) -> bool {
        self.closed && self.ring.is_empty()
    }

    /// Number behind the last byte that has arrived.
    pub(super) fn data_end(&self) -> u64 {
        self.consumed + self.ring.len() as u64
    }

    /// Every number below has arrived.
    pub(super) fn received(&self) -> u64 {
        self.data_end() + u64::from(self.closed)
    }

    /// The other end may send data below this number.
    pub(super) const fn limit(&self) -> u64 {
        self.allowed
    }

    pub(super) const fn window(&self) -> u32 {
        self.window
    }

    /// What may come before anything is read: more than the window for a while, if that was larger.
    pub(super) fn held(&self) -> u32 {
        u32::try_from(self.ring.limit()).unwrap_or(u32::MAX)
    }

    /// Allows so much from now on, beyond what is read.
    pub(super) fn set_window(&mut self, window: u32) {
        self.window = window;
        self.pace.reset();
        self.advance(0);
    }

    /// When a whole window was read last.
    pub(super) const fn round_at(&self) -> Duration {
        self.pace.round_at()
    }

    /// Takes note of what was handed on until now.
    pub(super) fn note_pace(&mut self, now: Duration) {
        let window = u64::from(self.window);
        if self.pace.note(self.consumed, window, now) {
            self.limits = core::mem::take(&mut self.cuts);
        }
    }

    /// A frame ends where the other end was once told to stop: it had more to send.
    pub(super) const fn note_cut(&mut self) {
        self.cuts = true;
    }

    /// Whether the window keeps more from coming, although all that it allows is read at once.
    pub(super) fn is_short(&self, now: Duration) -> bool {
        let open = !self.closed && !self.discards;
        open && self.limits && self.pace.is_brisk(now)
    }

    fn advance(&mut self, count: u64) {
        self.consumed += count;
        if !self.closed {
            let allowed = self.consumed.saturating_add(u64::from(self.window));
            self.allowed = self.allowed.max(allowed);
        }
        let held = self.allowed - self.consumed;
        self.ring
            .set_limit(usize::try_from(held).unwrap_or(usize::MAX));
    }

    /// Bytes went to the application without coming here. Nothing may be waiting.
    pub(super) fn pass(&mut self, count: usize) {
        self.advance(count as u64);
    }

    /// Takes bytes in, straight to `out` as far as nothing else comes before them; tells how many
    /// went there.
    pub(super) fn take(&mut self, data: &[u8], out: &mut [u8]) -> Result<usize, NoMemory> {
        if self.discards {
            self.advance(data.len() as u64);
            return Ok(0);
        }
        let direct = if self.ring.is_empty() {
            data.len().min(out.len())
        } else {
            0
        };
        if let (Some(to), Some(from)) = (out.get_mut(..direct), data.get(..direct)) {
            to.copy_from_slice(from);
        }
        self.advance(direct as u64);
        let rest = data.get(direct..).unwrap_or_default();
        if self.ring.push(rest) < rest.len() {
            return Err(NoMemory);
        }
        Ok(direct)
    }

    /// Nothing may come any more.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.allowed = self.data_end();
        self.advance(0);
    }

    pub(super) fn readable(&self) -> &[u8] {
        self.ring.slices(0, usize::MAX).0
    }

    pub(super) fn read(&mut self, out: &mut [u8]) -> usize {
        if self.ring.is_empty() {
            return 0;
        }
        let count = self.ring.read(out);
        self.advance(count as u64);
        count
    }

    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.ring.len());
        self.ring.pop(count);
        self.advance(count as u64);
    }

    pub(super) fn discard(&mut self) {
        self.discards = true;
        self.consume(usize::MAX);
    }
}
