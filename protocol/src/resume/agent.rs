//! The end that is dialled.

use alloc::vec::Vec;
use core::time::Duration;

use super::attachment::{Attachment, First, Owed};
use super::frame::{Attach, Bytes, Challenge, Frame, Malformed, Open, Opened, Proof};
use super::parser::{Item, Parser};
use super::ring::copy;
use super::{
    DIAL_TIMEOUT, Event, Generation, Mac, Nonce, Reason, Sizes, Stream, Transcript, VERSION,
    snapshot,
};

/// Attachments that may wait for their proof at once. A client has one under way, and one that it
/// gave up; whoever has more makes the oldest fail.
const CANDIDATES: usize = 2;

/// An attachment that is not proved.
#[derive(Debug, Clone)]
struct Candidate {
    transcript: Transcript,
    parser: Parser,
    challenge: Bytes,
    /// So much of it has gone.
    gone: usize,
    deadline: Duration,
}

/// The agent's end of a stream. See the [module](super).
#[derive(Clone)]
pub struct Agent {
    stream: Stream,
    mac: &'static dyn Mac,
    /// The newest generation that was proved.
    newest: u32,
    candidates: heapless::Vec<Candidate, CANDIDATES>,
}

impl Agent {
    /// Accepts a new stream; its first attachment is [`Generation`] 0. `sizes` are what the
    /// [`Table`](super::Table) gave, `grace` is what the dial says.
    #[must_use]
    pub fn accept(
        open: &Open,
        sizes: Sizes,
        grace: Duration,
        mac: &'static dyn Mac,
        now: Duration,
    ) -> Self {
        let mut stream = Stream::new(open.id, open.secret.clone(), sizes);
        stream.peer = open.sizes;
        stream.set_grace(grace);
        stream.outbox.allow(u64::from(open.sizes.window));
        let mut attachment = Attachment::new(Generation(0), First::Any, now);
        attachment.tell(0, u64::from(stream.own.window));
        attachment.put(&Frame::Opened(Opened {
            version: open.version.min(VERSION),
            sizes: stream.own,
            grace_s: stream.grace_s(),
        }));
        stream.current = Some(attachment);
        Self::with(stream, 0, mac)
    }

    fn with(stream: Stream, newest: u32, mac: &'static dyn Mac) -> Self {
        Self {
            stream,
            mac,
            newest,
            candidates: heapless::Vec::new(),
        }
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

    /// A client asks to go on. If this is accepted, what it sends is to be
    /// [taken in](Self::handle_received), and it is sent what [`Self::poll_transmit`] gives, as on
    /// any attachment; the one in use is not disturbed before the proof.
    ///
    /// # Errors
    /// What to tell it instead, with [`Reason::frame`].
    pub fn attach(&mut self, attach: &Attach, nonce: Nonce, now: Duration) -> Result<(), Reason> {
        if let Some(end) = self.stream.end() {
            return Err(end.reason());
        }
        if attach.id != self.stream.id {
            return Err(Reason::Gone);
        }
        let generation = Generation(attach.generation);
        if attach.generation <= self.newest || self.candidate(generation).is_some() {
            return Err(Reason::Stale);
        }
        let transcript = Transcript {
            id: attach.id,
            generation,
            client_nonce: attach.nonce,
            agent_nonce: nonce,
            received: self.stream.inbox.received(),
            sizes: self.stream.own,
            grace_s: self.stream.grace_s(),
        };
        self.add(transcript, now);
        // If the attachment in use is alive after all, the client should hear that as soon as the
        // challenge, whose answer would cost one more round trip.
        self.stream.owe_at_once();
        Ok(())
    }

    fn add(&mut self, transcript: Transcript, now: Duration) {
        if self.candidates.is_full() {
            self.refuse(0, Reason::Busy);
        }
        let candidate = Candidate {
            challenge: self.challenge(&transcript),
            transcript,
            parser: Parser::default(),
            gone: 0,
            deadline: now.saturating_add(DIAL_TIMEOUT),
        };
        let fits = self.candidates.push(candidate);
        debug_assert!(fits.is_ok(), "there was room, or room was made");
    }

    fn challenge(&self, transcript: &Transcript) -> Bytes {
        let message = transcript.of_agent();
        let challenge = Challenge {
            nonce: transcript.agent_nonce,
            received: transcript.received,
            sizes: transcript.sizes,
            grace_s: transcript.grace_s,
            tag: self.mac.tag(&self.stream.secret, &message),
        };
        Frame::Challenge(challenge).encode()
    }

    /// Takes in what came on an attachment. Bytes for the application go to `out`, as far as they
    /// fit and nothing is waiting before them; tells how many. The others wait in the [`Stream`].
    pub fn handle_received(
        &mut self,
        on: Generation,
        mut bytes: &[u8],
        out: &mut [u8],
        now: Duration,
    ) -> usize {
        if let Some(index) = self.candidate(on) {
            self.handle_answer(index, &mut bytes, now);
        }
        self.stream.receive(on, bytes, out, now)
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
    }

    /// An attachment has ended.
    pub fn handle_closed(&mut self, on: Generation, now: Duration) {
        match self.candidate(on) {
            Some(index) => drop(self.candidates.remove(index)),
            None => drop(self.stream.handle_closed(on, now)),
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.stream.handle_timeout(now);
        while let Some(late) = self.candidates.iter().position(|c| now >= c.deadline) {
            self.refuse(late, Reason::Stale);
        }
    }

    /// When to call [`Self::handle_timeout`] next, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> (Duration, &'static str) {
        let deadlines = self.candidates.iter().map(|c| (c.deadline, "proof"));
        let stream = self.stream.poll_timeout();
        deadlines.fold(stream, |a, b| if b.0 < a.0 { b } else { a })
    }

    /// What to do; call until `None` after each call that changes anything, once all of
    /// [`Self::poll_transmit`] is written.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.stream.poll_event()
    }

    /// Copies what should be written to an attachment to `out`, and tells how much that is. It
    /// counts as sent. Call until nothing comes.
    pub fn poll_transmit(&mut self, on: Generation, out: &mut [u8], now: Duration) -> usize {
        match self.candidate(on) {
            Some(_) => {
                let count = copy(self.transmit(on), out);
                self.transmitted(on, count, now);
                count
            }
            None => self.stream.poll_transmit(on, out, now),
        }
    }

    /// The same without a copy: what should be written, one part behind the other. Tell how much
    /// was with [`Self::transmitted`], before anything else that changes this end.
    pub fn transmit(&mut self, on: Generation) -> [&[u8]; 3] {
        let index = self.candidate(on);
        match index.and_then(|index| self.candidates.get(index)) {
            Some(candidate) => [candidate.left(), &[], &[]],
            None => self.stream.transmit(on),
        }
    }

    /// So many bytes that [`Self::transmit`] gave were written.
    pub fn transmitted(&mut self, on: Generation, count: usize, now: Duration) {
        let index = self.candidate(on);
        match index.and_then(|index| self.candidates.get_mut(index)) {
            Some(candidate) => candidate.gone += count,
            None => self.stream.transmitted(on, count, now),
        }
    }

    /// Whether the stream is over and read, and nobody will ask for it any more.
    #[must_use]
    pub fn is_forgotten(&self, now: Duration) -> bool {
        self.stream.is_forgotten(now) && self.candidates.is_empty()
    }

    /// What another process needs to go on with the stream: `None` if it is over. It holds the
    /// secret, so it must not touch a disk. The client attaches to the other process as after any
    /// break; this one must not use the stream any more.
    #[must_use]
    pub fn snapshot(&self) -> Option<Vec<u8>> {
        snapshot::take(&self.stream, self.newest)
    }

    /// Goes on with a stream of another process.
    ///
    /// # Errors
    /// If the bytes are no snapshot that this build can read.
    pub fn restore(bytes: &[u8], mac: &'static dyn Mac, now: Duration) -> Result<Self, Malformed> {
        let (mut stream, newest) = snapshot::restore(bytes)?;
        stream.alone_from(now);
        Ok(Self::with(stream, newest, mac))
    }

    fn candidate(&self, on: Generation) -> Option<usize> {
        let mut candidates = self.candidates.iter();
        candidates.position(|candidate| candidate.transcript.generation == on)
    }

    /// Gives a candidate up, and tells it why.
    fn refuse(&mut self, index: usize, reason: Reason) {
        let candidate = self.candidates.remove(index);
        let generation = candidate.transcript.generation;
        self.stream.tell(Event::Close(generation, Some(reason)));
    }

    /// A candidate's answer to its challenge.
    fn handle_answer(&mut self, index: usize, bytes: &mut &[u8], now: Duration) {
        let Some(candidate) = self.candidates.get_mut(index) else {
            return;
        };
        match candidate.parser.next(bytes) {
            Ok(None) => {}
            Ok(Some(Item::Frame(Frame::Proof(proof)))) => match self.verify(index, &proof) {
                Ok(()) => self.go_over(index, &proof, now),
                Err(reason) => self.refuse(index, reason),
            },
            Ok(Some(_)) | Err(_) => self.refuse(index, Reason::Misbehaved),
        }
    }

    fn verify(&self, index: usize, proof: &Proof) -> Result<(), Reason> {
        let candidate = self.candidates.get(index).ok_or(Reason::Gone)?;
        let transcript = &candidate.transcript;
        let message = transcript.of_client(proof.received, proof.from);
        if !self.mac.verify(&self.stream.secret, &message, &proof.tag) {
            return Err(Reason::Proof);
        }
        if let Some(end) = self.stream.end() {
            return Err(end.reason());
        }
        if transcript.generation.0 <= self.newest {
            return Err(Reason::Stale);
        }
        Ok(())
    }

    /// Goes over to a proved attachment.
    fn go_over(&mut self, index: usize, proof: &Proof, now: Duration) {
        let candidate = self.candidates.remove(index);
        let generation = candidate.transcript.generation;
        self.newest = generation.0;
        while let Some(older) = self.candidates.iter().position(|c| c.is_below(generation)) {
            self.refuse(older, Reason::Stale);
        }
        let stream = &mut self.stream;
        let claimed = stream.outbox.claim(proof.received).is_ok();
        stream.outbox.release(u64::MAX);
        let from = stream.outbox.acked();
        let mut attachment = Attachment::new(generation, First::Any, now);
        attachment.parser = candidate.parser;
        attachment.send_at = from;
        attachment.asked_to = from;
        attachment.told = (candidate.transcript.received, 0);
        attachment.owed = Owed::Now;
        attachment.waiting = Some(now);
        attachment.put(&Frame::Resumed { from });
        let start = stream.start_at(proof.from);
        attachment.read_at = proof.from;
        stream.attach(attachment);
        // The client is who it says, but one of the ends has lost what the other relies on.
        if !claimed || start.is_err() {
            stream.reset(Reason::Gone, now);
        }
    }
}

impl Candidate {
    fn left(&self) -> &[u8] {
        self.challenge.get(self.gone..).unwrap_or_default()
    }

    fn is_below(&self, generation: Generation) -> bool {
        self.transcript.generation < generation
    }
}
