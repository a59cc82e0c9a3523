//! What an end knows of the attachment in use.

use core::time::Duration;

use super::Generation;
use super::SUSPECT;
use super::frame::Frame;
use super::parser::Parser;

/// Frames sent together, in front of data: a greeting or a reset, ACK, PING, FIN or DATA's header.
const HEAD: usize = 96;

/// As many limits as are told within a round trip, and some more.
const LIMITS: usize = 16;

/// What the other end must say first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// OPENED.
    Opened,
    /// RESUMED.
    Resumed,
    /// Anything.
    Any,
}

/// Whether the other end is to be told what has arrived, and what may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owed {
    Nothing,
    /// At this time, if nothing goes out before.
    By(Duration),
    Now,
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub(super) struct Attachment {
    pub(super) generation: Generation,
    pub(super) parser: Parser,
    pub(super) first: First,
    /// Number of the next byte that comes.
    pub(super) read_at: u64,
    /// Number of the next byte that goes.
    pub(super) send_at: u64,
    /// Frames under way...
    head: heapless::Vec<u8, HEAD>,
    /// ...so many bytes of which have gone...
    gone: usize,
    /// ...and so many bytes of data behind them.
    pub(super) payload: usize,
    /// What the other end was told: received, and allowed.
    pub(super) told: (u64, u64),
    pub(super) owed: Owed,
    /// It was told so along with data.
    pub(super) told_with_data: bool,
    /// Low bits of what it was allowed lately, in no order.
    pub(super) limits: [u32; LIMITS],
    /// Up to which number the other end was asked to acknowledge.
    pub(super) asked_to: u64,
    /// A PING is to be sent.
    pub(super) asks: bool,
    /// A PING is under way or was sent, and nothing was heard since.
    pub(super) asked: bool,
    pub(super) since: Duration,
    /// When something came or went last.
    pub(super) active: Duration,
    /// An answer is due since then.
    pub(super) waiting: Option<Duration>,
    /// How long it may be due.
    pub(super) patience: Duration,
    pub(super) stalled: bool,
    /// The last frame is RESET, and under way.
    pub(super) resets: bool,
}

impl Attachment {
    pub(super) fn new(generation: Generation, first: First, now: Duration) -> Self {
        Self {
            generation,
            parser: Parser::default(),
            first,
            read_at: 0,
            send_at: 0,
            head: heapless::Vec::new(),
            gone: 0,
            payload: 0,
            told: (0, 0),
            owed: Owed::Nothing,
            told_with_data: false,
            limits: [0; LIMITS],
            asked_to: 0,
            asks: false,
            asked: false,
            since: now,
            active: now,
            waiting: None,
            patience: SUSPECT,
            stalled: false,
            resets: false,
        }
    }

    /// Takes note of what the other end is told: what has arrived, and what it is allowed.
    pub(super) fn tell(&mut self, received: u64, limit: u64) {
        if self.told.1 != limit {
            self.limits.rotate_right(1);
            self.limits[0] = limit as u32;
        }
        self.told = (received, limit);
    }

    /// Puts a frame behind those under way.
    pub(super) fn put(&mut self, frame: &Frame) {
        let fits = self.head.extend_from_slice(&frame.encode());
        debug_assert!(fits.is_ok(), "HEAD has room for all that goes together");
    }

    /// The frames under way, as far as they have not gone.
    pub(super) fn head(&self) -> &[u8] {
        self.head.get(self.gone..).unwrap_or_default()
    }

    /// Whether everything under way has gone.
    pub(super) fn is_flushed(&self) -> bool {
        self.head().is_empty() && self.payload == 0
    }

    /// Marks bytes as gone; tells how many of them were data.
    pub(super) fn advance(&mut self, count: usize) -> usize {
        let of_head = count.min(self.head().len());
        self.gone += of_head;
        if self.head().is_empty() {
            self.head.clear();
            self.gone = 0;
        }
        let data = (count - of_head).min(self.payload);
        self.payload -= data;
        self.send_at += data as u64;
        data
    }

    /// When the other end has been silent for too long.
    pub(super) fn silence_ends(&self) -> Option<Duration> {
        // A dial that is not answered yet has a time limit of its own.
        if self.stalled || self.first == First::Opened {
            return None;
        }
        Some(self.waiting?.saturating_add(self.patience))
    }

    /// Something is heard. Tells whether the attachment was stalled.
    pub(super) fn heard(&mut self, now: Duration) -> bool {
        self.active = now;
        self.asked = false;
        self.patience = SUSPECT;
        self.waiting = None;
        core::mem::replace(&mut self.stalled, false)
    }
}
