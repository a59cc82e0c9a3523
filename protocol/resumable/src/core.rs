//! An end of a stream, and the attachments it has at present.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use protocol::resume::{Event, Generation, Reason, Sizes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::attachment::{Attachment, Closing, Received, Sent, write};
use crate::driver::TICK;
use crate::end::End;
use crate::pool::Lender;
use crate::signal::Signal;
use crate::status::Status;
use crate::words::Words;

/// How long last words may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
/// Read from an attachment at once.
pub(crate) const SCRATCH: usize = 16 * 1024;

/// The receiving half of an attachment.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// The sending half of an attachment.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// What carries a stream for a while: bytes both ways, in order, until it breaks.
pub struct Carrier {
    /// From the other end.
    pub reader: Reader,
    /// To the other end. Shutting it down, or dropping it, ends the carrier.
    pub writer: Writer,
}

impl Carrier {
    /// A carrier of one piece.
    pub fn of<S: AsyncRead + AsyncWrite + Send + 'static>(stream: S) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            reader: Box::new(reader),
            writer: Box::new(writer),
        }
    }
}

pub(crate) struct Core<E> {
    pub(crate) end: E,
    origin: Instant,
    /// For how long the machine has slept since then: [`Instant`] does not count that.
    slept: Duration,
    attachments: Vec<Attachment>,
    signal: Arc<Signal>,
    /// When the driver wakes by itself.
    pub(crate) armed: Duration,
    /// The dial that is wanted.
    pub(crate) dial: watch::Sender<Option<Generation>>,
    status: watch::Sender<Status>,
    /// Attachments that were given up for a wrong proof.
    pub(crate) wrong_proofs: u32,
    lender: Option<Arc<dyn Lender>>,
}

/// Shared by the application's stream, the driver, and whoever attaches.
pub(crate) struct Shared<E> {
    core: Mutex<Core<E>>,
    pub(crate) signal: Arc<Signal>,
    /// Raises the signal. Here, and not inside, so that it need not be counted for each packet.
    pub(crate) waker: Waker,
}

impl<E: End> Shared<E> {
    pub(crate) fn new(mut end: E, origin: Instant, lender: Option<Arc<dyn Lender>>) -> Self {
        if let Some(lender) = &lender {
            end.stream_mut().may_want(lender.most());
        }
        let signal = Arc::new(Signal::default());
        let core = Core {
            end,
            origin,
            slept: Duration::ZERO,
            attachments: Vec::new(),
            signal: Arc::clone(&signal),
            armed: Duration::ZERO,
            dial: watch::Sender::default(),
            status: watch::Sender::new(Status::Attached),
            wrong_proofs: 0,
            lender,
        };
        Self {
            core: Mutex::new(core),
            waker: Waker::from(Arc::clone(&signal)),
            signal,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Core<E>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the end, moves what there is to move, and tells whom it concerns.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Core<E>, Duration) -> T) -> T {
        let (result, news) = {
            let mut core = self.lock();
            let now = core.now();
            let result = change(&mut core, now);
            // The machine may have slept, as it knows by now.
            let now = core.now();
            core.pump(&mut [], &self.waker, now);
            (result, core.news(now))
        };
        self.tell(news);
        result
    }

    pub(crate) fn tell(&self, news: News) {
        self.signal.tell(news);
    }

    pub(crate) fn attach(&self, generation: Generation, carrier: Carrier, preamble: Vec<u8>) {
        self.change(|core, _| core.attach(generation, carrier, preamble));
    }

    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.lock().status.subscribe()
    }
}

/// Who should look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct News {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) earlier: bool,
}

impl News {
    pub(crate) const fn without_reader(self) -> Self {
        Self {
            readable: false,
            ..self
        }
    }

    pub(crate) const fn without_writer(self) -> Self {
        Self {
            writable: false,
            ..self
        }
    }

    pub(crate) const fn without_driver(self) -> Self {
        Self {
            earlier: false,
            ..self
        }
    }
}

impl<E: End> Core<E> {
    /// Time since the stream's start.
    pub(crate) fn now(&self) -> Duration {
        self.origin.elapsed().saturating_add(self.slept)
    }

    /// The instant of a time. One before the machine slept is moved by that: what counts is how long
    /// ago it is.
    pub(crate) fn instant(&self, at: Duration) -> Option<Instant> {
        self.origin.checked_add(at)?.checked_sub(self.slept)
    }

    /// The machine has slept for so long.
    pub(crate) fn pass(&mut self, slept: Duration) {
        self.slept = self.slept.saturating_add(slept);
        // What the driver waits for comes earlier by that.
        self.armed = Duration::MAX;
    }

    pub(crate) fn attach(&mut self, generation: Generation, carrier: Carrier, preamble: Vec<u8>) {
        let attachment = Attachment::new(generation, carrier, preamble);
        self.attachments.push(attachment);
        // Nobody has looked what came on it.
        self.signal.leave();
    }

    /// When time must be told to have passed.
    pub(crate) fn next_timeout(&self) -> Duration {
        let closing = self.attachments.iter().filter_map(|a| a.closing.as_ref());
        let closing = closing.map(|closing| closing.until);
        closing.fold(self.end.next_timeout(), Duration::min)
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Duration) {
        self.end.timeout(now);
        self.attachments
            .retain(|a| a.closing.as_ref().is_none_or(|closing| now < closing.until));
    }

    /// Whether nothing is left to do, ever.
    pub(crate) fn is_done(&self) -> bool {
        self.attachments.is_empty() && self.end.is_done(self.now())
    }

    pub(crate) fn news(&self, now: Duration) -> News {
        let stream = self.end.stream();
        let over = stream.end().is_some();
        // Then a time limit is met well enough by the look that comes anyway.
        let soon = self.armed <= now.saturating_add(TICK);
        News {
            readable: over || !stream.readable().is_empty() || stream.is_read_to_end(),
            writable: over || stream.room() > 0,
            earlier: !soon && self.next_timeout() < self.armed || self.is_done(),
        }
    }

    /// Moves what can be moved; what comes for the application goes to `out` if it fits, and tells
    /// how many bytes did. If those are some, more may be left, and the signal raised. It takes less
    /// time than is worth asking the clock again.
    pub(crate) fn pump(&mut self, out: &mut [u8], waker: &Waker, now: Duration) -> usize {
        // What was signalled is looked at now. Without a signal, nothing has come: whatever an
        // attachment had was taken the last time.
        let mut news = self.signal.take();
        let cx = &mut Context::from_waker(waker);
        let mut total = 0;
        loop {
            let (mut again, mut left) = (false, false);
            let mut index = 0;
            while index < self.attachments.len() {
                let rest = out.get_mut(total..).unwrap_or_default();
                let received = if news {
                    self.receive(index, (cx, now), rest)
                } else {
                    Received::Nothing
                };
                if let Received::Some { direct, all } = received {
                    total += direct;
                    // An application that has got something comes back for more: to find nothing
                    // then is enough.
                    let enough = direct > 0 && (all || total == out.len());
                    left |= enough;
                    again |= !enough;
                }
                let open = !matches!(received, Received::Closed)
                    && matches!(self.send(index, cx, now), Sent::Open);
                if !open && !news {
                    // What the other end said last may be why.
                    self.receive(index, (cx, now), &mut []);
                }
                if open {
                    index += 1;
                } else {
                    self.close(index, now);
                    again = true;
                }
            }
            again |= self.handle_events(now);
            if !again {
                if left {
                    self.signal.leave();
                }
                return total;
            }
            news = true;
        }
    }

    fn close(&mut self, index: usize, now: Duration) {
        if index < self.attachments.len() {
            let attachment = self.attachments.remove(index);
            if attachment.closing.is_none() {
                self.end.closed(attachment.generation, now);
            }
        }
    }

    fn send(&mut self, index: usize, cx: &mut Context<'_>, now: Duration) -> Sent {
        let Some(attachment) = self.attachments.get_mut(index) else {
            return Sent::Open;
        };
        if attachment.closing.is_some() {
            return attachment.poll_close(cx);
        }
        let (on, writer) = (attachment.generation, &mut attachment.carrier.writer);
        match attachment.preamble.poll_say(writer, cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Sent::Closed,
            Poll::Pending => return Sent::Open,
        }
        loop {
            let parts = self.end.transmit(on).map(IoSlice::new);
            if parts.iter().all(|part| part.is_empty()) {
                break;
            }
            match write(writer, &parts, cx) {
                Poll::Ready(Ok(count @ 1..)) => {
                    self.end.transmitted(on, count, now);
                    attachment.unflushed = true;
                }
                Poll::Ready(_) => return Sent::Closed,
                Poll::Pending => return Sent::Open,
            }
        }
        if attachment.unflushed {
            match Pin::new(writer).poll_flush(cx) {
                Poll::Ready(Ok(())) => attachment.unflushed = false,
                Poll::Ready(Err(_)) => return Sent::Closed,
                Poll::Pending => {}
            }
        }
        Sent::Open
    }

    fn receive(
        &mut self,
        index: usize,
        (cx, now): (&mut Context<'_>, Duration),
        out: &mut [u8],
    ) -> Received {
        let Some(attachment) = self.attachments.get_mut(index) else {
            return Received::Nothing;
        };
        if attachment.closing.is_some() {
            return Received::Nothing;
        }
        let on = attachment.generation;
        // In the middle of a frame there is nothing to look at.
        let expected = self.end.expects(on).min(out.len());
        if let Some(straight @ [_, ..]) = out.get_mut(..expected) {
            let mut buffer = ReadBuf::new(straight);
            if let Err(nothing) = attachment.read(&mut buffer, cx) {
                return nothing;
            }
            let direct = buffer.filled().len();
            self.end.passed(on, direct, now);
            let all = direct < expected;
            return Received::Some { direct, all };
        }
        let mut scratch = [MaybeUninit::uninit(); SCRATCH];
        let mut buffer = ReadBuf::uninit(&mut scratch);
        if let Err(nothing) = attachment.read(&mut buffer, cx) {
            return nothing;
        }
        let all = buffer.remaining() > 0;
        let direct = self.end.received(on, buffer.filled(), out, now);
        Received::Some { direct, all }
    }

    /// Does what the end wants; tells whether there was anything.
    fn handle_events(&mut self, now: Duration) -> bool {
        let mut any = false;
        while let Some(event) = self.end.event() {
            any = true;
            match event {
                Event::Dial(generation) => drop(self.dial.send_replace(Some(generation))),
                Event::Close(generation, reason) => {
                    if reason == Some(Reason::Proof) {
                        self.wrong_proofs = self.wrong_proofs.saturating_add(1);
                    }
                    let words = reason.map(|reason| reason.frame().to_vec());
                    self.give_up(generation, words.unwrap_or_default());
                }
                Event::Attached(_) | Event::Recovered => self.tell(Status::Attached),
                Event::Stalled | Event::Detached => self.tell_lost(),
                Event::Ended(end) => self.tell(Status::Ended(end)),
                Event::Wants(sizes) => self.lend(sizes, now),
            }
        }
        any
    }

    fn lend(&mut self, wanted: Sizes, now: Duration) {
        if let Some(lender) = &self.lender {
            let stream = self.end.stream_mut();
            let lent = lender.lend(stream.id(), wanted);
            stream.lend(lent, now);
        }
    }

    fn give_up(&mut self, generation: Generation, words: Vec<u8>) {
        let until = self.now().saturating_add(CLOSE_LIMIT);
        let mut attachments = self.attachments.iter_mut();
        if let Some(attachment) = attachments.find(|a| a.generation == generation) {
            let words = Words::new(words);
            attachment.closing.get_or_insert(Closing { words, until });
        }
        self.dial.send_if_modified(|dial| {
            let same = *dial == Some(generation);
            if same {
                *dial = None;
            }
            same
        });
    }

    pub(crate) fn tell_lost(&self) {
        let stream = self.end.stream();
        let since = stream.alone_since().unwrap_or_else(|| self.now());
        let until = stream.given_up_at();
        let until = until.unwrap_or_else(|| since.saturating_add(stream.grace()));
        if let (Some(since), Some(until)) = (self.instant(since), self.instant(until)) {
            self.tell(Status::Lost { since, until });
        }
    }

    fn tell(&self, status: Status) {
        self.status.send_replace(status);
    }
}
