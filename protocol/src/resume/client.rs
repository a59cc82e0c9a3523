//! The end that dials.

use core::time::Duration;

use super::attachment::{Attachment, First, Owed};
use super::frame::{Attach, Bytes, Challenge, Frame, Open, Proof};
use super::parser::{Item, Parser};
use super::{
    DIAL_TIMEOUT, End, Event, Generation, LIVED, Mac, Nonce, REDIAL, Reason, Secret, Sizes, Stream,
    StreamId, Transcript, VERSION, WAKING,
};
use crate::backoff::Backoff;

/// After a change of the network, the next dial comes within this time.
const CHANGED_SPREAD: Duration = Duration::from_millis(200);

/// What a client's end starts with.
#[derive(Debug, Clone)]
pub struct Start {
    /// Random.
    pub id: StreamId,
    /// Random.
    pub secret: Secret,
    /// What it may hold.
    pub sizes: Sizes,
    /// Must differ between clients, or they will dial in step.
    pub seed: u64,
}

/// A dial that should become an attachment.
#[derive(Debug, Clone)]
struct Attempt {
    generation: Generation,
    /// Missing as long as nobody asked for the opening.
    nonce: Option<Nonce>,
    parser: Parser,
    deadline: Duration,
}

/// The client's end of a stream. See the [module](super).
#[derive(Clone)]
pub struct Client {
    stream: Stream,
    mac: &'static dyn Mac,
    backoff: Backoff,
    /// The newest generation dialled.
    newest: u32,
    attempt: Option<Attempt>,
    retry_at: Option<Duration>,
}

impl Client {
    /// A new stream, and the opening to dial with. Its first attachment is [`Generation`] 0, and
    /// may be written to at once.
    #[must_use]
    pub fn open(start: Start, mac: &'static dyn Mac, now: Duration) -> (Self, Bytes) {
        let mut stream = Stream::new(start.id, start.secret, start.sizes);
        let mut attachment = Attachment::new(Generation(0), First::Opened, now);
        attachment.tell(0, u64::from(stream.own.window));
        stream.current = Some(attachment);
        let opening = Frame::Open(Open {
            version: VERSION,
            id: stream.id,
            secret: stream.secret.clone(),
            sizes: stream.own,
        });
        let client = Self {
            stream,
            mac,
            backoff: Backoff::new(start.seed),
            newest: 0,
            attempt: None,
            retry_at: None,
        };
        (client, opening.encode())
    }

    /// What the application reads and writes.
    #[must_use]
    pub const fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The same, to be changed.
    pub const fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// What to dial with, asked for by [`Event::Dial`]; `None` if that is no longer wanted.
    pub fn opening(&mut self, generation: Generation, nonce: Nonce) -> Option<Bytes> {
        let attempt = self.attempt.as_mut()?;
        if attempt.generation != generation {
            return None;
        }
        attempt.nonce = Some(nonce);
        let attach = Attach {
            id: self.stream.id,
            generation: generation.0,
            nonce,
        };
        Some(Frame::Attach(attach).encode())
    }

    /// Takes in what came on an attachment, or on a dial once it was accepted. Bytes for the
    /// application go to `out`, as far as they fit and nothing is waiting before them; tells how
    /// many. The others wait in the [`Stream`].
    pub fn handle_received(
        &mut self,
        on: Generation,
        mut bytes: &[u8],
        out: &mut [u8],
        now: Duration,
    ) -> usize {
        if self.is_tried(on) {
            self.handle_answer(&mut bytes, now);
        }
        let direct = self.stream.receive(on, bytes, out, now);
        self.steer(now);
        direct
    }

    /// So many of the next bytes on an attachment are the next that the application reads: they may
    /// be read to where it wants them, and told with [`Self::handle_passed`].
    #[must_use]
    pub fn expects(&self, on: Generation) -> usize {
        self.stream.expects(on)
    }

    /// So many of the bytes that it [expects](Self::expects) came on an attachment, and the
    /// application has them. Instead of [`Self::handle_received`].
    pub fn handle_passed(&mut self, on: Generation, count: usize, now: Duration) {
        self.stream.pass(on, count, now);
        self.steer(now);
    }

    /// A dial was refused for good, or for now ([`Reason::is_passing`]). One that merely failed is
    /// [closed](Self::handle_closed).
    pub fn handle_refused(&mut self, on: Generation, reason: Reason, now: Duration) {
        if self.is_tried(on) {
            self.cancel();
            if !reason.is_passing() {
                let end = self.stream.verdict(self.why_gone(reason, now));
                self.stream.end_by(end, now);
            }
        } else if self.stream.attached() == Some(on) && self.stream.end().is_none() {
            self.stream.end_by(End::Reset(reason), now);
        }
        self.steer(now);
    }

    /// An attachment or a dial has ended.
    pub fn handle_closed(&mut self, on: Generation, now: Duration) {
        if self.is_tried(on) {
            self.attempt = None;
        }
        let since = self.stream.current.as_ref().map(|current| current.since);
        if self.stream.handle_closed(on, now)
            && since.is_some_and(|since| now.saturating_sub(since) >= LIVED)
        {
            self.backoff.reset();
        }
        self.steer(now);
    }

    /// The machine has slept for so long, which `now` counts: what there is is probably dead. Dials
    /// at once; should the attachment in use answer first, it stays in use.
    pub fn handle_slept(&mut self, slept: Duration, now: Duration) {
        self.stream.spare(now.saturating_add(slept.min(WAKING)));
        self.stream.doubt(now.saturating_sub(slept));
        self.stream.probe(now);
        self.dial_anew(now, now);
    }

    /// The network has changed: what there is may be dead. But if there is still an attachment, it
    /// is the fastest way back when it can follow, and a dial that is under way follows with it:
    /// another would only overtake it half way.
    pub fn handle_network_changed(&mut self, now: Duration) {
        self.stream.probe(now);
        if self.stream.attached().is_some() {
            self.backoff.reset();
            return self.steer(now);
        }
        let soon = now.saturating_add(self.backoff.below(CHANGED_SPREAD));
        self.dial_anew(soon, now);
    }

    fn dial_anew(&mut self, at: Duration, now: Duration) {
        self.backoff.reset();
        self.cancel();
        if self.retry_at.is_some() || self.stream.alone_since().is_some() {
            self.retry_at = Some(at);
        }
        self.steer(now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.stream.handle_timeout(now);
        if self.attempt.as_ref().is_some_and(|a| now >= a.deadline) {
            self.cancel();
        }
        self.steer(now);
    }

    /// When to call [`Self::handle_timeout`] next, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> (Duration, &'static str) {
        let dial = match (&self.attempt, self.retry_at) {
            (Some(attempt), _) => (attempt.deadline, "dial"),
            (None, Some(at)) => (at, "back-off"),
            (None, None) => (Duration::MAX, "nothing"),
        };
        let stream = self.stream.poll_timeout();
        if stream.0 < dial.0 { stream } else { dial }
    }

    /// What to do; call until `None` after each call that changes anything, once all of
    /// [`Self::poll_transmit`] is written.
    pub fn poll_event(&mut self) -> Option<Event> {
        if self.stream.end().is_some() {
            self.cancel();
        }
        self.stream.poll_event()
    }

    /// Copies what should be written to an attachment to `out`, and tells how much that is. It
    /// counts as sent. Call until nothing comes.
    pub fn poll_transmit(&mut self, on: Generation, out: &mut [u8], now: Duration) -> usize {
        self.stream.poll_transmit(on, out, now)
    }

    /// The same without a copy: what should be written, one part behind the other. Tell how much
    /// was with [`Self::transmitted`], before anything else that changes this end.
    pub fn transmit(&mut self, on: Generation) -> [&[u8]; 3] {
        self.stream.transmit(on)
    }

    /// So many bytes that [`Self::transmit`] gave were written.
    pub fn transmitted(&mut self, on: Generation, count: usize, now: Duration) {
        self.stream.transmitted(on, count, now);
    }

    fn is_tried(&self, on: Generation) -> bool {
        self.attempt.as_ref().is_some_and(|a| a.generation == on)
    }

    /// The agent's answer to a dial.
    fn handle_answer(&mut self, bytes: &mut &[u8], now: Duration) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        let on = attempt.generation;
        match attempt.parser.next(bytes) {
            Ok(None) => {}
            Ok(Some(Item::Frame(Frame::Challenge(challenge)))) => self.prove(&challenge, now),
            Ok(Some(Item::Frame(Frame::Reset(reason)))) => self.handle_refused(on, reason, now),
            Ok(Some(_)) | Err(_) => self.cancel(),
        }
    }

    /// Why there is no such stream any more: agents remember only for a while what they gave up.
    fn why_gone(&self, reason: Reason, now: Duration) -> Reason {
        match self.stream.grace_ends() {
            Some(at) if reason == Reason::Gone && now >= at => Reason::GraceOver,
            _ => reason,
        }
    }

    /// Goes over to a new attachment, if it leads to the agent that knows the secret.
    fn prove(&mut self, challenge: &Challenge, now: Duration) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        let transcript = self.transcript(&attempt, challenge);
        let (mac, secret) = (self.mac, &self.stream.secret);
        if !mac.verify(secret, &transcript.of_agent(), &challenge.tag) {
            // Someone else's word. It ends this dial, and nothing more.
            self.stream.tell(Event::Close(attempt.generation, None));
            return;
        }
        self.stream.learn(challenge.sizes, challenge.grace_s);
        if self.stream.outbox.claim(challenge.received).is_err() {
            self.stream.tell(Event::Close(attempt.generation, None));
            return self.stream.reset(Reason::Gone, now);
        }
        self.retry_at = None;
        self.go_over(attempt, &transcript, now);
    }

    fn transcript(&self, attempt: &Attempt, challenge: &Challenge) -> Transcript {
        Transcript {
            id: self.stream.id,
            generation: attempt.generation,
            client_nonce: attempt.nonce.unwrap_or_default(),
            agent_nonce: challenge.nonce,
            received: challenge.received,
            sizes: challenge.sizes,
            grace_s: challenge.grace_s,
        }
    }

    fn go_over(&mut self, attempt: Attempt, transcript: &Transcript, now: Duration) {
        let stream = &mut self.stream;
        stream.outbox.release(u64::MAX);
        let (received, from) = (stream.inbox.received(), stream.outbox.acked());
        let message = transcript.of_client(received, from);
        let tag = self.mac.tag(&stream.secret, &message);
        let mut attachment = Attachment::new(attempt.generation, First::Resumed, now);
        attachment.parser = attempt.parser;
        attachment.send_at = from;
        attachment.asked_to = from;
        attachment.told = (received, 0);
        attachment.owed = Owed::Now;
        attachment.waiting = Some(now);
        attachment.put(&Frame::Proof(Proof {
            received,
            from,
            tag,
        }));
        stream.attach(attachment);
    }

    /// Gives up the present dial.
    fn cancel(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.stream.tell(Event::Close(attempt.generation, None));
        }
    }

    /// Dials, or stops dialling, as the stream needs it.
    fn steer(&mut self, now: Duration) {
        if self.stream.end().is_some() || self.stream.alone_since().is_none() {
            self.retry_at = None;
            return self.cancel();
        }
        if self.attempt.is_some() {
            return;
        }
        let backoff = &mut self.backoff;
        let mut wait = || now.saturating_add(backoff.next_delay(Duration::ZERO).min(REDIAL));
        if now >= *self.retry_at.get_or_insert_with(&mut wait) {
            self.dial(now);
        }
    }

    fn dial(&mut self, now: Duration) {
        self.retry_at = None;
        self.newest = self.newest.saturating_add(1);
        let generation = Generation(self.newest);
        self.attempt = Some(Attempt {
            generation,
            nonce: None,
            parser: Parser::default(),
            deadline: now.saturating_add(DIAL_TIMEOUT),
        });
        self.stream.tell(Event::Dial(generation));
    }
}
