//! How much one end of a channel lets the other send ahead. No I/O.
//!
//! Both ends start with an allowance of [`FIRST`]. Once half of it is used, and what came was
//! consumed, the receiver allows more, up to its own target: a channel that is read grows to what
//! the line needs, and one that is not read costs little.

/// What may be sent on a new channel.
pub const FIRST: u32 = 64 << 10;
/// No allowance is larger than this.
pub const MOST: u32 = 2 << 20;

/// More came than was allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overrun;

/// The receiver's side.
#[derive(Debug)]
pub(crate) struct Receiving {
    /// What may still come.
    allowed: u32,
    /// What has come and is not consumed.
    queued: u32,
    /// `allowed` when it was last raised.
    level: u32,
}

impl Default for Receiving {
    fn default() -> Self {
        Self {
            allowed: FIRST,
            queued: 0,
            level: FIRST,
        }
    }
}

impl Receiving {
    /// So many bytes came.
    pub(crate) fn received(&mut self, count: usize) -> Result<(), Overrun> {
        let count = u32::try_from(count).map_err(|_| Overrun)?;
        self.allowed = self.allowed.checked_sub(count).ok_or(Overrun)?;
        self.queued = self.queued.saturating_add(count);
        Ok(())
    }

    /// So many bytes were consumed.
    pub(crate) fn consumed(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.queued = self.queued.saturating_sub(count);
    }

    /// What to allow in addition, if it is time.
    pub(crate) fn due(&mut self, target: u32) -> Option<u32> {
        let more = target.saturating_sub(self.allowed.saturating_add(self.queued));
        // Seldom enough to cost little, early enough to keep the sender going.
        if self.allowed > self.level / 2 || more == 0 || more < target / 2 {
            return None;
        }
        self.allowed = self.allowed.saturating_add(more);
        self.level = self.allowed;
        Some(more)
    }
}

/// The sender's side.
#[derive(Debug)]
pub(crate) struct Sending {
    allowed: u32,
}

impl Default for Sending {
    fn default() -> Self {
        Self { allowed: FIRST }
    }
}

impl Sending {
    /// More may be sent.
    pub(crate) fn allow(&mut self, more: u32) -> Result<(), Overrun> {
        let allowed = self.allowed.checked_add(more).filter(|sum| *sum <= MOST);
        self.allowed = allowed.ok_or(Overrun)?;
        Ok(())
    }

    /// Takes what may be sent of so many bytes.
    pub(crate) fn take(&mut self, wanted: usize) -> usize {
        let taken = u32::try_from(wanted).unwrap_or(u32::MAX).min(self.allowed);
        self.allowed -= taken;
        usize::try_from(taken).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_that_is_read_grows_to_the_target() {
        let mut receiving = Receiving::default();
        receiving.received(FIRST as usize / 2).unwrap();
        receiving.consumed(FIRST as usize / 2);
        let more = receiving.due(1 << 20);
        assert_eq!(more, Some((1 << 20) - FIRST / 2));
        assert_eq!(receiving.allowed, 1 << 20);
    }

    #[test]
    fn a_word_typed_now_and_then_costs_no_allowance() {
        let mut receiving = Receiving::default();
        for _ in 0..1000 {
            receiving.received(1).unwrap();
            receiving.consumed(1);
            assert_eq!(receiving.due(1 << 20), None);
        }
    }

    #[test]
    fn a_channel_that_is_not_read_gets_no_more() {
        let mut receiving = Receiving::default();
        receiving.received(FIRST as usize).unwrap();
        receiving.consumed(1);
        assert_eq!(receiving.due(FIRST), None);
        assert_eq!(receiving.received(1), Err(Overrun));
    }

    #[test]
    fn a_target_that_shrinks_is_reached_and_nobody_waits_for_ever() {
        let mut receiving = Receiving::default();
        let mut target = MOST;
        let mut may_send = FIRST;
        for step in 0..10_000 {
            let count = may_send.min(1 + step * 7 % 5000);
            receiving.received(count as usize).unwrap();
            may_send -= count;
            receiving.consumed(count as usize);
            may_send += receiving.due(target).unwrap_or(0);
            assert!(may_send > 0, "step {step}");
            if step % 1000 == 999 {
                target = (target / 2).max(FIRST);
            }
        }
        assert!(receiving.allowed <= FIRST);
    }

    #[test]
    fn what_is_allowed_is_bounded() {
        let mut sending = Sending::default();
        assert_eq!(sending.take(10), 10);
        assert_eq!(sending.take(usize::MAX), FIRST as usize - 10);
        assert_eq!(sending.take(1), 0);
        sending.allow(MOST).unwrap();
        assert_eq!(sending.allow(1), Err(Overrun));
        assert_eq!(sending.allow(u32::MAX), Err(Overrun));
        assert_eq!(sending.take(usize::MAX), MOST as usize);
    }
}
