//! What goes out on the attachment in use.

use core::time::Duration;

use super::attachment::{Attachment, Owed};
use super::frame::{Frame, MAX_DATA};
use super::ring::copy;
use super::{ACK_DELAY, Generation, Stream};

/// Acknowledgements at least this far apart, unless time or the other end asks for one...
const STEP: core::ops::RangeInclusive<u32> = 4 * 1024..=256 * 1024;
/// ...and at least so many for what may be under way.
const STEPS: u32 = 4;
/// Ends that hold so much go less by it...
const AMPLE: u32 = 1024 * 1024;
/// ...while what the application says carries them: SSH does after each half of a channel's window,
/// which is 1 MiB on the agent, and the other end waits for that anyway.
const STEP_WITH_DATA: u32 = 640 * 1024;

/// How far apart acknowledgements are where so much may be under way.
fn step(size: u32) -> u32 {
    (size / STEPS).clamp(*STEP.start(), *STEP.end())
}

impl Attachment {
    /// When what has arrived must be acknowledged, if nothing goes out before.
    pub(super) fn acks_at(&self) -> Option<Duration> {
        match self.owed {
            Owed::By(at) => Some(at),
            Owed::Nothing | Owed::Now => None,
        }
    }

    fn acknowledge(&mut self, received: u64, limit: u64, with_data: bool) {
        let room = limit.saturating_sub(received);
        self.put(&Frame::Ack {
            // Low bits; see `Outbox::handle_ack`.
            received: received as u32,
            room: u32::try_from(room).unwrap_or(u32::MAX),
        });
        self.tell(received, limit);
        self.told_with_data = with_data;
        self.owed = Owed::Nothing;
    }

    /// What was put off is due.
    pub(super) fn owe_now(&mut self, now: Duration) {
        if self.acks_at().is_some_and(|at| now >= at) {
            self.owed = Owed::Now;
        }
    }
}

impl Stream {
    /// Copies what should be written to an attachment into `out`, and tells how much that is. It
    /// counts as sent from then on. Call until nothing comes.
    pub(super) fn poll_transmit(&mut self, on: Generation, out: &mut [u8], now: Duration) -> usize {
        let mut total = 0;
        loop {
            let parts = self.transmit(on);
            let room = out.get_mut(total..).unwrap_or_default();
            match copy(parts, room) {
                0 => return total,
                count => {
                    total += count;
                    self.transmitted(on, count, now);
                }
            }
        }
    }

    /// What should be written to an attachment next, one part behind the other; all empty if there
    /// is nothing. Nothing is copied; tell what was written with [`Self::transmitted`], before
    /// anything else that changes the stream.
    pub(super) fn transmit(&mut self, on: Generation) -> [&[u8]; 3] {
        self.fill(on);
        match &self.current {
            Some(current) if current.generation == on => {
                let (front, back) = self.outbox.slices(current.send_at, current.payload);
                [current.head(), front, back]
            }
            _ => [&[]; 3],
        }
    }

    /// Bytes that [`Self::transmit`] gave were written.
    pub(super) fn transmitted(&mut self, on: Generation, count: usize, now: Duration) {
        let Some(current) = self.current.as_mut().filter(|c| c.generation == on) else {
            return;
        };
        current.advance(count);
        if count > 0 {
            current.active = now;
        }
        let at = current.send_at;
        self.outbox.mark_sent(at);
        self.outbox.release(at);
        if current.resets && current.is_flushed() {
            self.drop_current();
        }
        self.shed();
        self.settle(now);
    }

    /// Makes the next frames, if none is under way.
    fn fill(&mut self, on: Generation) {
        let reset = self.is_resetting();
        let Some(current) = self.current.as_mut().filter(|c| c.generation == on) else {
            return;
        };
        if !current.is_flushed() {
            return;
        }
        if let Some(reason) = reset {
            if !core::mem::replace(&mut current.resets, true) {
                current.put(&Frame::Reset(reason));
            }
            return;
        }
        let length = self.outbox.sendable(current.send_at).min(MAX_DATA);
        let ends = length == 0 && self.outbox.ends_at(current.send_at);
        let unasked = current.send_at.saturating_sub(current.asked_to);
        // It is asked after each packet that comes, too, and mostly there is nothing.
        if length == 0 && !ends && unasked == 0 && !current.asks && current.owed != Owed::Now {
            return;
        }
        let (received, limit) = (self.inbox.received(), self.inbox.limit());
        // The other end goes by its window. Where less is kept, it has to be asked sooner.
        let theirs = self.peer.window.max(self.outbox.theirs());
        let (kept, theirs) = (step(self.outbox.held()), step(theirs));
        let news = current.told != (received, limit);
        let with_data = length > 0 || ends;
        if current.owed == Owed::Now || news && with_data {
            current.acknowledge(received, limit, with_data);
        }
        let asks_for_ack = kept < theirs && unasked >= u64::from(kept);
        let asks = core::mem::take(&mut current.asks);
        if asks || asks_for_ack {
            current.asked |= asks;
            current.asked_to = current.send_at;
            current.put(&Frame::Ping);
        }
        if ends {
            current.put(&Frame::Fin);
            current.send_at += 1;
        } else if let Ok(length @ 1..) = u16::try_from(length) {
            current.put(&Frame::Data { length });
            current.payload = usize::from(length);
        }
    }

    /// Sees to it that the other end learns what has arrived, and what may follow.
    pub(super) fn owe(&mut self, now: Duration) {
        let (received, limit) = (self.inbox.received(), self.inbox.limit());
        let ample = self.inbox.window().min(self.peer.replay) >= AMPLE;
        let step = step(self.inbox.window());
        let Some(current) = &mut self.current else {
            return;
        };
        let step = if ample && current.told_with_data {
            STEP_WITH_DATA
        } else {
            step
        };
        let told = current.told;
        let behind = received
            .saturating_sub(told.0)
            .max(limit.saturating_sub(told.1));
        if behind >= u64::from(step) {
            current.owed = Owed::Now;
        } else if behind > 0 && current.owed == Owed::Nothing {
            current.owed = Owed::By(now.saturating_add(ACK_DELAY));
        }
    }
}
