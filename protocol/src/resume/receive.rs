//! What comes in on the attachment in use.

use core::time::Duration;

use super::attachment::{First, Owed};
use super::frame::{Frame, Malformed};
use super::inbox::NoMemory;
use super::parser::Item;
use super::{End, Event, Generation, Reason, Sizes, Stream};

/// Why the stream cannot go on.
struct Broken(Reason);

impl From<Malformed> for Broken {
    fn from(_: Malformed) -> Self {
        Self(Reason::Misbehaved)
    }
}

impl From<NoMemory> for Broken {
    fn from(_: NoMemory) -> Self {
        Self(Reason::Memory)
    }
}

impl Stream {
    /// Takes in what came on an attachment; bytes for the application go to `out` as far as they
    /// fit and nothing is waiting before them. Tells how many those are.
    pub(super) fn receive(
        &mut self,
        on: Generation,
        mut bytes: &[u8],
        out: &mut [u8],
        now: Duration,
    ) -> usize {
        let mut direct = 0;
        if bytes.is_empty() || self.end().is_some() || self.attached() != Some(on) {
            return direct;
        }
        loop {
            let room = out.get_mut(direct..).unwrap_or_default();
            match self.take_next(&mut bytes, room, now) {
                Ok(Some(count)) => direct += count,
                Ok(None) => break,
                Err(Broken(reason)) => {
                    self.reset(reason, now);
                    break;
                }
            }
        }
        self.note_received(now);
        direct
    }

    fn note_received(&mut self, now: Duration) {
        self.touch(now);
        self.note_heard(now);
        self.note_pace(now);
        self.owe(now);
        self.settle(now);
    }

    /// So many of the next bytes on an attachment are the next that the application reads.
    pub(super) fn expects(&self, on: Generation) -> usize {
        let current = self.current.as_ref().filter(|c| c.generation == on);
        let Some(current) = current.filter(|c| c.first == First::Any) else {
            return 0;
        };
        let inbox = &self.inbox;
        let next = current.read_at == inbox.consumed() && inbox.ring().is_empty();
        if next && !inbox.discards() && self.end().is_none() {
            current.parser.expects()
        } else {
            0
        }
    }

    /// The application has got so many of them.
    pub(super) fn pass(&mut self, on: Generation, count: usize, now: Duration) {
        let count = count.min(self.expects(on));
        if let Some(current) = self.current.as_mut().filter(|_| count > 0) {
            current.parser.skip(count);
            current.read_at += count as u64;
            self.inbox.pass(count);
            self.note_received(now);
        }
    }

    /// Takes one item; tells how many bytes went straight to `out`, or that nothing is left.
    fn take_next(
        &mut self,
        bytes: &mut &[u8],
        out: &mut [u8],
        now: Duration,
    ) -> Result<Option<usize>, Broken> {
        let Some(current) = &mut self.current else {
            return Ok(None);
        };
        match current.parser.next(bytes)? {
            None => Ok(None),
            Some(Item::Data(data)) => self.take_data(data, out).map(Some),
            Some(Item::Frame(frame)) => self.take_frame(&frame, now).map(|()| Some(0)),
        }
    }

    fn take_data(&mut self, data: &[u8], out: &mut [u8]) -> Result<usize, Broken> {
        let Some(current) = &mut self.current else {
            return Ok(0);
        };
        // What an older attachment has brought already.
        let known = self.inbox.data_end().saturating_sub(current.read_at);
        current.read_at += data.len() as u64;
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        let new = data.get(known..).unwrap_or_default();
        Ok(self.inbox.take(new, out)?)
    }

    fn take_frame(&mut self, frame: &Frame, now: Duration) -> Result<(), Broken> {
        let first = self.current.as_ref().map(|current| current.first);
        match (frame, first) {
            (Frame::Reset(reason), Some(First::Resumed)) => self.handle_refused(*reason, now),
            (Frame::Reset(reason), _) => self.end_by(self.verdict(*reason), now),
            (Frame::Opened(opened), Some(First::Opened)) => {
                self.learn(opened.sizes, opened.grace_s);
                self.outbox.allow(u64::from(opened.sizes.window));
                self.read_from(0);
            }
            (Frame::Resumed { from }, Some(First::Resumed)) => {
                let from = self.start_at(*from)?;
                self.read_from(from);
            }
            (Frame::Data { length }, Some(First::Any)) => self.check_data(u64::from(*length))?,
            (Frame::Ack { received, room }, Some(First::Any)) => self.take_ack(*received, *room)?,
            (Frame::Fin, Some(First::Any)) => self.take_end()?,
            (Frame::Ping, Some(First::Any)) => self.owe_at_once(),
            _ => return Err(Malformed.into()),
        }
        Ok(())
    }

    /// The agent does not want the attachment in use; or not the stream, unless it says to try
    /// again.
    fn handle_refused(&mut self, reason: Reason, now: Duration) {
        if reason.is_passing() {
            self.drop_current();
            self.alone_from(now);
            self.tell(Event::Detached);
        } else {
            self.end_by(self.verdict(reason), now);
        }
    }

    /// What it means that the other end does not want the stream any more.
    pub(super) fn verdict(&self, reason: Reason) -> End {
        // All that it sent is here. What it does not acknowledge, nobody would read.
        if reason == Reason::Finished && self.inbox.is_closed() {
            End::Clean
        } else {
            End::Reset(reason)
        }
    }

    /// The number with which the other end starts: it knows by proof what arrived here, so what is
    /// missing is lost.
    pub(super) fn start_at(&self, from: u64) -> Result<u64, Lost> {
        if from <= self.inbox.received() {
            Ok(from)
        } else {
            Err(Lost)
        }
    }

    fn read_from(&mut self, number: u64) {
        if let Some(current) = &mut self.current {
            current.first = First::Any;
            current.read_at = number;
        }
    }

    fn take_ack(&mut self, received: u32, room: u32) -> Result<(), Malformed> {
        self.outbox.handle_ack(received, room)?;
        if let Some(current) = &self.current {
            self.outbox.release(current.send_at);
        }
        Ok(())
    }

    pub(super) fn owe_at_once(&mut self) {
        if let Some(current) = &mut self.current {
            current.owed = Owed::Now;
        }
    }

    /// Data is announced: it must not exceed what was allowed, nor follow the end.
    fn check_data(&mut self, length: u64) -> Result<(), Malformed> {
        let Some(current) = &self.current else {
            return Ok(());
        };
        let most = if self.inbox.is_closed() {
            self.inbox.data_end()
        } else {
            self.inbox.limit()
        };
        match current.read_at.checked_add(length) {
            Some(end) if end <= most => {
                if current.limits.contains(&(end as u32)) {
                    self.inbox.note_cut();
                }
                Ok(())
            }
            _ => Err(Malformed),
        }
    }

    fn take_end(&mut self) -> Result<(), Malformed> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        if current.read_at != self.inbox.data_end() {
            return Err(Malformed);
        }
        current.read_at += 1;
        current.owed = Owed::Now;
        self.inbox.close();
        Ok(())
    }

    /// What the agent says of itself.
    pub(super) fn learn(&mut self, sizes: Sizes, grace_s: u32) {
        self.peer = sizes;
        self.set_grace(Duration::from_secs(u64::from(grace_s)));
    }

    fn note_heard(&mut self, now: Duration) {
        let Some(current) = &mut self.current else {
            return;
        };
        if current.heard(now) {
            self.no_longer_alone();
            self.tell(Event::Recovered);
        }
    }
}

/// Bytes are missing that the other end no longer has.
pub(super) struct Lost;

impl From<Lost> for Broken {
    fn from(_: Lost) -> Self {
        Self(Reason::Gone)
    }
}
