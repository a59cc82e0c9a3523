//! A queue of bytes with a bound, which takes no memory before it is used.

use alloc::collections::VecDeque;
use core::fmt;

/// The first memory taken, in bytes: key strokes and their echoes.
const LEAST: usize = 512;

/// See the [module](self).
#[derive(Clone)]
pub(super) struct Ring {
    bytes: VecDeque<u8>,
    limit: usize,
}

/// Shows the length only: what is inside is nobody's business.
impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ring({} bytes)", self.len())
    }
}

impl Ring {
    pub(super) fn new(limit: u32) -> Self {
        Self {
            bytes: VecDeque::new(),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// From now on this is the bound, for what comes; what is inside stays.
    pub(super) const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// How many bytes still fit.
    pub(super) fn room(&self) -> usize {
        self.limit.saturating_sub(self.len())
    }

    /// Bytes of memory taken.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Takes in what fits, and tells how much that was; nothing if there is no memory.
    pub(super) fn push(&mut self, bytes: &[u8]) -> usize {
        let fits = bytes.get(..self.room()).unwrap_or(bytes);
        if !self.grow(fits.len()) {
            return 0;
        }
        self.bytes.extend(fits);
        fits.len()
    }

    fn grow(&mut self, more: usize) -> bool {
        let needed = self.len().saturating_add(more);
        if needed <= self.bytes.capacity() {
            return true;
        }
        let wanted = needed.next_power_of_two().max(LEAST).min(self.limit);
        let missing = wanted.saturating_sub(self.len());
        self.bytes.try_reserve_exact(missing).is_ok()
    }

    /// Drops the first bytes.
    pub(super) fn pop(&mut self, count: usize) {
        self.bytes.drain(..count.min(self.len()));
    }

    /// `length` bytes from `from` on, or what there is of them; in two parts, since the memory is
    /// a circle.
    pub(super) fn slices(&self, from: usize, length: usize) -> (&[u8], &[u8]) {
        let (front, back) = self.bytes.as_slices();
        let (front, back) = match front.get(from..) {
            Some(front) => (front, back),
            None => (back.get(from - front.len()..).unwrap_or_default(), &[][..]),
        };
        match front.get(..length) {
            Some(front) => (front, &[]),
            None => (front, back.get(..length - front.len()).unwrap_or(back)),
        }
    }

    /// Moves the first bytes to `out`; tells how many.
    pub(super) fn read(&mut self, out: &mut [u8]) -> usize {
        let (front, back) = self.slices(0, out.len());
        let count = copy([front, back], out);
        self.pop(count);
        count
    }

    /// Drops all behind the first bytes.
    pub(super) fn truncate(&mut self, count: usize) {
        self.bytes.truncate(count);
    }

    /// Gives memory back that it may not use any more.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to(self.limit);
    }

    /// Gives memory back, if nothing is in it.
    pub(super) fn trim(&mut self) {
        if self.is_empty() {
            self.bytes = VecDeque::new();
        }
    }
}

/// Copies parts, one behind the other, as far as they fit; tells how much that was.
pub(super) fn copy<const N: usize>(parts: [&[u8]; N], out: &mut [u8]) -> usize {
    let mut copied = 0;
    for part in parts {
        let room = out.get_mut(copied..).unwrap_or_default();
        let fits = part.len().min(room.len());
        if let (Some(to), Some(from)) = (room.get_mut(..fits), part.get(..fits)) {
            to.copy_from_slice(from);
        }
        copied += fits;
    }
    copied
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn it_is_a_queue_with_a_bound() {
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut ring, mut model) = (Ring::new(5000), VecDeque::new());
        for step in 0..20_000u32 {
            let bytes: Vec<u8> = (0..rng.usize(0..900)).map(|_| rng.u8(..)).collect();
            let taken = ring.push(&bytes);
            assert_eq!(taken, bytes.len().min(5000 - model.len()), "{step}");
            model.extend(&bytes[..taken]);
            let (from, length) = (rng.usize(0..6000), rng.usize(0..6000));
            let (front, back) = ring.slices(from, length);
            let expected: Vec<u8> = model.iter().skip(from).take(length).copied().collect();
            assert_eq!([front, back].concat(), expected, "{step}");
            let mut out = vec![0; rng.usize(0..1500)];
            let count = ring.read(&mut out);
            let expected: Vec<u8> = model.drain(..out.len().min(model.len())).collect();
            assert_eq!(out[..count], expected, "{step}");
            assert!(ring.memory() <= 5000 && ring.len() == model.len());
        }
    }

    #[test]
    fn it_takes_memory_when_it_is_used_and_gives_it_back() {
        let mut ring = Ring::new(1 << 20);
        assert_eq!(ring.memory(), 0);
        ring.push(b"key");
        assert!(ring.memory() <= 512);
        ring.trim();
        assert_eq!(ring.len(), 3);
        ring.pop(3);
        ring.trim();
        assert_eq!(ring.memory(), 0);
    }
}
