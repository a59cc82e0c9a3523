//! Streams that outlive what carries them.
//!
//! A session's bytes run between two ends: the *client's* (`tsh`, or the proxy for a plain
//! `ssh -J`) and the *agent's* SSH server. What carries them is an *attachment*: an ordered,
//! reliable stream of bytes, such as a QUIC stream through the proxy, which may break at any byte.
//! The ends then keep what the other has not acknowledged, the client's end dials again through
//! any proxy, transport or address, both prove that they know the secret of the stream's start,
//! and go on where they were. Nothing is lost, and nothing is handed on twice.
//!
//! [`Client`] and [`Agent`] are the two ends; both wrap a [`Stream`], where the application reads
//! and writes. [`Table`] decides which streams an agent takes on. None of them does I/O.
//!
//! ```text
//!  client                                                         agent
//!    │ OPEN id, secret, sizes   (in the dial) ─────────────────────► │
//!    │ DATA ...                 (right behind, without waiting) ───► │
//!    │ ◄────────────────────────────────────── OPENED sizes, grace   │
//!    │ ◄── DATA, ACK, FIN, PING, RESET, in both directions ────────► │
//!    ╳                          the attachment breaks                ╳
//!    │ ATTACH id, generation, nonce   (in the dial) ───────────────► │
//!    │ ◄───────────────────────────────── CHALLENGE nonce, received, │
//!    │                                              proof            │
//!    │ PROOF received, from, proof; then DATA from there ──────────► │
//!    │ ◄────────────────────────── RESUMED from; then DATA from there│
//! ```
//!
//! ```text
//!            ┌───────── heard again ──────────┐
//!            ▼                                │
//!   Open: attached ── silent, owes an ACK ── stalled ── proved anew ──► attached
//!            │ closed                         │ closed
//!            ▼                                ▼
//!         detached ◄──────────────────────────┘ ── grace over ──► Over
//!   Over: both directions ended and acknowledged, reset by either end, or grace over
//! ```
//!
//! * **Numbers:** bytes are numbered from 0 in each direction; the end of a direction (FIN) takes
//!   the number behind its last byte. DATA carries no number: an attachment keeps the order, so
//!   its first number (`from`) tells the rest. A receiver drops what it has already.
//! * **Bounds:** each end tells at the start how much it takes in ahead of its application
//!   ([`Sizes::window`]) and how much it keeps for sending again ([`Sizes::replay`]). Since an end
//!   can always take in what it has allowed, acknowledgements never wait behind data that nobody
//!   reads, and two ends that both write cannot lock each other. Memory grows as needed, and is
//!   given back when it is idle.
//! * **More while busy:** what an end said at the start it holds to; an agent's end may hold more
//!   for a while, if there is memory to spare ([`Stream::lend`]).
//! * **Acknowledgements** are cumulative, and cheap: they go along with data, or once a part of the
//!   receiver's window has come in, or after [`ACK_DELAY`] at last; or when the sender asks for
//!   one (PING), whose replay buffer may be smaller than that window. Where data keeps coming back
//!   to carry them and both ends hold much, that part is larger: the application's own words for
//!   "go on" and the acknowledgement then arrive together, and wake the sender once.
//! * **Proof:** the secret crosses the wire once, in OPEN, inside the links' encryption. After that
//!   both ends tag ([`Mac`]) what they say about the attachment: the stream, the generation, both
//!   nonces, both positions. So no frame of another stream, or of another time, is worth anything.
//! * **Newest wins:** attachments are numbered by the client ([`Generation`]). Once a newer one is
//!   proved, what still arrives on an older one is ignored, and an older one cannot be proved. One
//!   that is not proved disturbs nothing.
//! * **Liveness:** whoever waits for an acknowledgement for [`SUSPECT`] without hearing anything
//!   holds the attachment for *stalled*. The client then dials another, but the first of the two
//!   that answers is used: paths often come back by themselves.
//! * **Grace:** an end that has been alone for the grace time gives the stream up. The agent's end
//!   is told how long that is by the dial (a role's setting), the client's end by the agent.
//! * **Half ends:** an end whose application has gone, and whose bytes have all arrived, waits
//!   [`LAST_FIN`] for the other's FIN, while they are attached. Then it says that the stream has
//!   finished. The other end, which has the FIN, takes that for the end; what it has can be read.
//! * **Early data:** the client may send [`FIRST_CREDIT`] bytes before it knows the agent's window.
//!
//! It never reads a clock, a socket or a random source, never holds more than its sizes, never
//! sends bytes of the stream to an end that has not proved itself, never dials from the agent's
//! end, and never hands on a byte twice or out of order. It does not hide what is inside from the
//! proxy; SSH does that. It cannot go on when an end's process dies without a [snapshot](Agent::snapshot): the
//! other end is told that the stream is [gone](Reason::Gone).
//!
//! # Around it
//!
//! A shell holds an end and its attachments, by [`Generation`], and goes round:
//!
//! 1. Whatever came on an attachment goes to `handle_received`, or, as far as the end `expects` it
//!    in the middle of a frame, straight to the application, and is told with `handle_passed`; its
//!    end goes to `handle_closed`, and the moment that `poll_timeout` named to `handle_timeout`.
//! 2. Each attachment that takes bytes is given what `poll_transmit` has for it. What was given
//!    counts as sent; if the attachment breaks meanwhile, it is sent again.
//! 3. `poll_event` says what to do besides: dial, close, tell the user, stop.
//! 4. The application is woken if there is [room](Stream::room), or something to
//!    [read](Stream::readable), or the [end](Stream::is_read_to_end).
//!
//! # In a dial
//!
//! A client asks with [`ClientRequest::Resumable`](crate::message::dial::ClientRequest), which
//! carries OPEN or ATTACH as its `opening`. The proxy decides as for any dial, at a re-attach too:
//! certificate, roles, locks. It hands the opening on unread in
//! [`LinkRequest::Resumable`](crate::message::dial::LinkRequest), with the grace time of the
//! user's roles. Thus neither costs a trip of its own.
//!
//! * An agent that does not know the request is not asked (its Hello says which
//!   [version](crate::message::version::RESUMABLE) it speaks); one that has no place or memory
//!   refuses with [`DialRefusal::NotResumable`](crate::message::dial::DialRefusal): the client then dials
//!   plainly ([`Stream::unacknowledged`] has what it wrote meanwhile).
//! * A proxy that does not know the request ends the stream without a reply: the client does the
//!   same.
//! * An ATTACH that the agent does not accept is answered by `Accepted` and RESET with the reason,
//!   as one whose proof is wrong.
//! * The agent asks its [`Table`] first. It attaches only what belongs to the header's user, and
//!   should end the stream if the login of its session is no longer among the header's logins.

mod agent;
mod attachment;
mod client;
mod event;
pub mod frame;
mod inbox;
mod lending;
mod outbox;
mod pace;
mod parser;
mod proof;
mod receive;
mod ring;
mod snapshot;
mod stream;
mod table;
mod transmit;

use core::fmt;
use core::time::Duration;

use frame::Malformed;

pub use agent::Agent;
pub use client::{Client, Start};
pub use event::{End, Event, Reason};
pub use proof::{Mac, Message, TAG, Transcript};
pub use stream::Stream;
pub use table::{Limits, MAX_STREAMS, Table};

/// The newest layout of frames that this build speaks.
pub const VERSION: u8 = 1;
/// How long an end keeps a stream alone, if no role says otherwise.
pub const GRACE: Duration = Duration::from_secs(600);
/// The longest grace time that is believed.
pub const MAX_GRACE: Duration = Duration::from_secs(24 * 3600);
/// An acknowledgement waits this long for data to go along with. Whoever types sends a key within
/// it; whoever waits for it keeps a few bytes for longer, and nothing else.
pub const ACK_DELAY: Duration = Duration::from_millis(500);
/// Without an acknowledgement that is due for so long, another attachment is tried. A cellular link
/// that hands over may take 5 s.
pub const SUSPECT: Duration = Duration::from_secs(8);
/// The same after the network has changed, or the machine has slept.
pub const SUSPECT_CHANGED: Duration = Duration::from_secs(3);
/// Who may not send, since the other end's application does not read, asks this often.
pub const PERSIST: Duration = Duration::from_secs(30);
/// Who wakes gets this much time to come back, however long the sleep was: the other end may have
/// begun to count later, and a network takes some seconds.
pub const WAKING: Duration = Duration::from_secs(30);
/// A dial, its challenge included, must be done within this time.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest wait between two dials: somebody is looking at a screen that stands still.
pub const REDIAL: Duration = Duration::from_secs(2);
/// An attachment that lasted so long resets the wait between dials.
pub const LIVED: Duration = Duration::from_secs(10);
/// How long an agent remembers how a stream ended, for a client that missed it.
pub const LINGER: Duration = Duration::from_secs(60);
/// How long an end whose application has gone waits for the other's to go, too, once that end has
/// everything. Whoever leaves its side open would keep its place for good.
pub const LAST_FIN: Duration = Duration::from_secs(60);
/// Empty buffers are given back after this.
pub const TRIM: Duration = Duration::from_secs(2);
/// What may be sent before the other end's window is known: the beginning of an SSH handshake.
pub const FIRST_CREDIT: u32 = 16 * 1024;

/// Names a stream: 16 random bytes chosen by the client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub [u8; 16]);

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}..")
    }
}

/// What both ends know and nobody else: 32 random bytes chosen by the client.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Random bytes for one attachment.
pub type Nonce = [u8; 16];

/// Numbers a stream's attachments, and names them. The one that opened the stream is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u32);

/// What an end holds at most, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// What it has sent and may have to send again.
    pub replay: u32,
    /// What it has received and its application has not read.
    pub window: u32,
}

impl Sizes {
    /// Less is not worth a resumable stream, and [`FIRST_CREDIT`] must fit.
    pub const LEAST: Self = Self::both(FIRST_CREDIT);
    /// More than 1 Gbit/s at 100 ms needs.
    pub const MOST: Self = Self::both(16 * 1024 * 1024);
    /// An agent's end: 10 Mbit/s at 200 ms, and 32 MB of RAM for everything.
    pub const AGENT: Self = Self::both(256 * 1024);
    /// What a busy stream may hold of an agent that has memory to spare: 5 Mbit/s at 200 ms where a
    /// loss is mended three times in a row, or 50 Mbit/s at 40 ms with few acknowledgements.
    pub const BUSY: Self = Self::both(1024 * 1024);
    /// A client's end: as much as any agent takes, with room for slow paths.
    pub const CLIENT: Self = Self::both(2 * 1024 * 1024);

    const fn both(bytes: u32) -> Self {
        Self {
            replay: bytes,
            window: bytes,
        }
    }

    /// The nearest sizes within the bounds.
    #[must_use]
    pub fn clamped(self) -> Self {
        let (least, most) = (Self::LEAST, Self::MOST);
        Self {
            replay: self.replay.clamp(least.replay, most.replay),
            window: self.window.clamp(least.window, most.window),
        }
    }

    /// The larger of both, each way.
    const fn at_least(self, other: Self) -> Self {
        Self {
            replay: if self.replay > other.replay {
                self.replay
            } else {
                other.replay
            },
            window: if self.window > other.window {
                self.window
            } else {
                other.window
            },
        }
    }

    /// What a peer says.
    fn checked(self) -> Result<Self, Malformed> {
        if self == self.clamped() {
            Ok(self)
        } else {
            Err(Malformed)
        }
    }

    /// Both together.
    #[must_use]
    pub const fn total(self) -> u32 {
        self.replay.saturating_add(self.window)
    }
}
