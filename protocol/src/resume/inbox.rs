//! One direction, at the end that receives: what has arrived and is not read.

use super::ring::Ring;

/// See the [module](self).
#[derive(Debug, Clone)]
pub(super) struct Inbox {
    ring: Ring,
    /// Number of the first byte that was not handed on.
    consumed: u64,
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
            consumed: 0,
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
        inbox.consumed = consumed;
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
    pub(super) fn limit(&self) -> u64 {
        self.consumed + self.ring.limit() as u64
    }

    /// Takes bytes in, straight to `out` as far as nothing else comes before them; tells how many
    /// went there.
    pub(super) fn take(&mut self, data: &[u8], out: &mut [u8]) -> Result<usize, NoMemory> {
        if self.discards {
            self.consumed += data.len() as u64;
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
        self.consumed += direct as u64;
        let rest = data.get(direct..).unwrap_or_default();
        if self.ring.push(rest) < rest.len() {
            return Err(NoMemory);
        }
        Ok(direct)
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn readable(&self) -> &[u8] {
        self.ring.slices(0, usize::MAX).0
    }

    pub(super) fn read(&mut self, out: &mut [u8]) -> usize {
        let count = self.ring.read(out);
        self.consumed += count as u64;
        count
    }

    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.ring.len());
        self.ring.pop(count);
        self.consumed += count as u64;
    }

    pub(super) fn discard(&mut self) {
        self.discards = true;
        self.consume(usize::MAX);
    }
}
