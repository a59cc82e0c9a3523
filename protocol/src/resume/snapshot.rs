//! An agent's end of a stream, as bytes for its next process.

use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::frame::Malformed;
use super::inbox::Inbox;
use super::outbox::Outbox;
use super::ring::Ring;
use super::{Secret, Sizes, Stream, StreamId};
use crate::message::Blob;

/// The most that a buffer may hold.
const MOST: usize = Sizes::MOST.window as usize;

/// Append-only: the next process may be of another release.
#[derive(Serialize, Deserialize)]
enum Snapshot<'a> {
    #[serde(borrow)]
    V1(State<'a>),
}

#[derive(Serialize, Deserialize)]
struct State<'a> {
    id: [u8; 16],
    secret: [u8; 32],
    newest: u32,
    grace_s: u32,
    own: (u32, u32),
    peer: (u32, u32),
    #[serde(borrow)]
    outbox: Sent<'a>,
    inbox: Arrived<'a>,
}

#[derive(Serialize, Deserialize)]
struct Sent<'a> {
    start: u64,
    sent: u64,
    closed: bool,
    end_acked: bool,
    #[serde(borrow)]
    bytes: [Blob<'a, MOST>; 2],
}

#[derive(Serialize, Deserialize)]
struct Arrived<'a> {
    consumed: u64,
    closed: bool,
    #[serde(borrow)]
    bytes: [Blob<'a, MOST>; 2],
}

pub(super) fn take(stream: &Stream, newest: u32) -> Option<Vec<u8>> {
    if stream.end().is_some() {
        return None;
    }
    let (outbox, inbox) = (&stream.outbox, &stream.inbox);
    // What was lent goes along, and is its own from then on: it may be in use.
    let own = stream.held;
    let state = State {
        id: stream.id.0,
        secret: stream.secret.0,
        newest,
        grace_s: stream.grace_s(),
        own: (own.replay, own.window),
        peer: (stream.peer.replay, stream.peer.window),
        outbox: Sent {
            start: outbox.start(),
            sent: outbox.sent(),
            closed: outbox.is_closed(),
            end_acked: outbox.is_done(),
            bytes: blobs(outbox.ring())?,
        },
        inbox: Arrived {
            consumed: inbox.consumed(),
            closed: inbox.is_closed(),
            bytes: blobs(inbox.ring())?,
        },
    };
    postcard::to_extend(&Snapshot::V1(state), Vec::new()).ok()
}

fn blobs(ring: &Ring) -> Option<[Blob<'_, MOST>; 2]> {
    let (front, back) = ring.slices(0, usize::MAX);
    Some([Blob::new(front)?, Blob::new(back)?])
}

pub(super) fn restore(bytes: &[u8]) -> Result<(Stream, u32), Malformed> {
    match postcard::take_from_bytes(bytes) {
        Ok((Snapshot::V1(state), [])) => state.stream().ok_or(Malformed),
        _ => Err(Malformed),
    }
}

impl State<'_> {
    fn stream(self) -> Option<(Stream, u32)> {
        let sizes = |(replay, window)| Sizes { replay, window }.checked().ok();
        let own = sizes(self.own)?;
        let mut stream = Stream::new(StreamId(self.id), Secret(self.secret), own);
        stream.learn(sizes(self.peer)?, self.grace_s);
        stream.outbox = self.outbox.outbox(own.replay)?;
        stream.inbox = self.inbox.inbox(own.window)?;
        Some((stream, self.newest))
    }
}

impl Sent<'_> {
    fn outbox(&self, replay: u32) -> Option<Outbox> {
        let bytes = self.bytes.map(Blob::as_bytes);
        Outbox::restored(replay, self.start, bytes)?.with_end(
            self.sent,
            self.closed,
            self.end_acked,
        )
    }
}

impl Arrived<'_> {
    fn inbox(&self, window: u32) -> Option<Inbox> {
        let bytes = self.bytes.map(Blob::as_bytes);
        let mut inbox = Inbox::restored(window, self.consumed, bytes)?;
        if self.closed {
            inbox.close();
        }
        Some(inbox)
    }
}

impl Stream {
    /// As on the wire.
    pub(super) fn grace_s(&self) -> u32 {
        let seconds = self.grace.min(Duration::from_secs(u64::from(u32::MAX)));
        u32::try_from(seconds.as_secs()).unwrap_or(u32::MAX)
    }
}
