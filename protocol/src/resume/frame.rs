//! What ends say to each other: a byte that names the frame, then fields of fixed size, big-endian.
//!
//! | frame | byte | fields |
//! | --- | --- | --- |
//! | OPEN | 1 | version `u8`, id 16, secret 32, replay `u32`, window `u32` |
//! | ATTACH | 2 | id 16, generation `u32`, nonce 16 |
//! | OPENED | 3 | version `u8`, replay `u32`, window `u32`, grace in seconds `u32` |
//! | CHALLENGE | 4 | nonce 16, received `u64`, replay `u32`, window `u32`, grace `u32`, tag 32 |
//! | PROOF | 5 | received `u64`, from `u64`, tag 32 |
//! | RESUMED | 6 | from `u64` |
//! | DATA | 16 | length `u16`, then that many bytes |
//! | ACK | 17 | low 32 bits of what is received, bytes that may follow `u32` |
//! | FIN | 18 | |
//! | PING | 19 | |
//! | RESET | 20 | reason `u8` |
//!
//! Numbers and fields never change. A new frame is sent only to an end whose version knows it,
//! since nobody can skip a frame whose length is unknown.

use core::fmt;

use super::{MAX_GRACE, Nonce, Reason, Secret, Sizes, StreamId, TAG, VERSION};

/// Bytes of data in one frame at most: large enough that headers weigh nothing, small enough that
/// an acknowledgement behind one does not wait for long on a narrow link.
pub const MAX_DATA: usize = 16 * 1024;
/// The largest frame without its data: CHALLENGE.
pub const MAX_FIXED: usize = 69;
/// A frame's bytes, without data.
pub type Bytes = heapless::Vec<u8, MAX_FIXED>;

const OPEN: u8 = 1;
const ATTACH: u8 = 2;
const OPENED: u8 = 3;
const CHALLENGE: u8 = 4;
const PROOF: u8 = 5;
const RESUMED: u8 = 6;
const DATA: u8 = 16;
const ACK: u8 = 17;
const FIN: u8 = 18;
const PING: u8 = 19;
const RESET: u8 = 20;

/// Bytes that are no frame, or one that says what it must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed frame of a resumable stream")
    }
}

impl core::error::Error for Malformed {}

/// How the client starts a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The newest version the client speaks.
    pub version: u8,
    /// The stream.
    pub id: StreamId,
    /// For later proofs.
    pub secret: Secret,
    /// What the client holds.
    pub sizes: Sizes,
}

/// How the client asks to go on with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attach {
    /// The stream.
    pub id: StreamId,
    /// Higher than that of any attachment before.
    pub generation: u32,
    /// The client's part of what makes proofs fresh.
    pub nonce: Nonce,
}

/// How the agent accepts a new stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The newest version both speak.
    pub version: u8,
    /// What the agent holds.
    pub sizes: Sizes,
    /// How long both keep the stream alone, seconds.
    pub grace_s: u32,
}

/// The agent's answer to [`Attach`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Challenge {
    /// The agent's part of what makes proofs fresh.
    pub nonce: Nonce,
    /// The number of the first byte that the agent has not received.
    pub received: u64,
    /// As in [`Opened`], which may not have arrived.
    pub sizes: Sizes,
    /// As in [`Opened`].
    pub grace_s: u32,
    /// The agent's proof.
    pub tag: [u8; TAG],
}

/// The client's answer to [`Challenge`]. It takes part in nothing but this attachment from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// The number of the first byte that the client has not received.
    pub received: u64,
    /// The number of the first byte that follows.
    pub from: u64,
    /// The client's proof.
    pub tag: [u8; TAG],
}

/// Any frame; DATA without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "decoded on the stack, read and dropped; never kept"
)]
pub enum Frame {
    /// The client starts a stream.
    Open(Open),
    /// The client goes on with one.
    Attach(Attach),
    /// The agent accepts a new stream.
    Opened(Opened),
    /// The agent knows the stream, and asks for a proof.
    Challenge(Challenge),
    /// The client's proof.
    Proof(Proof),
    /// The agent has accepted the proof.
    Resumed {
        /// The number of the first byte that follows.
        from: u64,
    },
    /// Bytes of the stream follow.
    Data {
        /// How many.
        length: u16,
    },
    /// What has arrived, and what may follow.
    Ack {
        /// Low bits of the number of the first byte that has not been received.
        received: u32,
        /// How many bytes from there on may be sent.
        room: u32,
    },
    /// Nothing follows in this direction.
    Fin,
    /// Asks for an [`Frame::Ack`].
    Ping,
    /// The stream is over, or this attachment is not accepted.
    Reset(Reason),
}

/// Bytes of a frame, its data not counted, by its first byte.
#[must_use]
pub const fn length(kind: u8) -> Option<usize> {
    Some(match kind {
        OPEN => 58,
        ATTACH => 37,
        OPENED => 14,
        CHALLENGE => MAX_FIXED,
        PROOF => 49,
        RESUMED | ACK => 9,
        DATA => 3,
        FIN | PING => 1,
        RESET => 2,
        _ => return None,
    })
}

impl Frame {
    /// The bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Writer(Bytes::new());
        match self {
            Self::Open(open) => out
                .put(&[OPEN, open.version])
                .put(&open.id.0)
                .put(&open.secret.0)
                .sizes(open.sizes),
            Self::Attach(attach) => out
                .put(&[ATTACH])
                .put(&attach.id.0)
                .put(&attach.generation.to_be_bytes())
                .put(&attach.nonce),
            Self::Opened(opened) => out
                .put(&[OPENED, opened.version])
                .sizes(opened.sizes)
                .put(&opened.grace_s.to_be_bytes()),
            Self::Challenge(challenge) => out
                .put(&[CHALLENGE])
                .put(&challenge.nonce)
                .put(&challenge.received.to_be_bytes())
                .sizes(challenge.sizes)
                .put(&challenge.grace_s.to_be_bytes())
                .put(&challenge.tag),
            Self::Proof(proof) => out
                .put(&[PROOF])
                .put(&proof.received.to_be_bytes())
                .put(&proof.from.to_be_bytes())
                .put(&proof.tag),
            Self::Resumed { from } => out.put(&[RESUMED]).put(&from.to_be_bytes()),
            Self::Data { length } => out.put(&[DATA]).put(&length.to_be_bytes()),
            Self::Ack { received, room } => out
                .put(&[ACK])
                .put(&received.to_be_bytes())
                .put(&room.to_be_bytes()),
            Self::Fin => out.put(&[FIN]),
            Self::Ping => out.put(&[PING]),
            Self::Reset(reason) => out.put(&[RESET, reason.code()]),
        };
        out.0
    }

    /// Reads a whole frame, its data not counted.
    ///
    /// # Errors
    /// If the bytes are none, or more than one.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader(bytes);
        let [kind] = input.take()?;
        let frame = match kind {
            OPEN => Self::Open(input.open()?),
            ATTACH => Self::Attach(input.attach()?),
            OPENED => Self::Opened(Opened {
                version: input.version()?,
                sizes: input.sizes()?,
                grace_s: input.grace()?,
            }),
            CHALLENGE => Self::Challenge(input.challenge()?),
            PROOF => Self::Proof(Proof {
                received: input.u64()?,
                from: input.u64()?,
                tag: input.take()?,
            }),
            RESUMED => Self::Resumed { from: input.u64()? },
            DATA => Self::Data {
                length: input.data_length()?,
            },
            ACK => Self::Ack {
                received: input.u32()?,
                room: input.u32()?,
            },
            FIN => Self::Fin,
            PING => Self::Ping,
            RESET => Self::Reset(Reason::from_code(u8::from_be_bytes(input.take()?))),
            _ => return Err(Malformed),
        };
        if input.0.is_empty() {
            Ok(frame)
        } else {
            Err(Malformed)
        }
    }
}

/// The first frame of an attachment, which travels in the dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// A new stream.
    Open(Open),
    /// One that there is.
    Attach(Attach),
}

impl Opening {
    /// Reads what a dial carries.
    ///
    /// # Errors
    /// If the bytes are not exactly one such frame.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        match Frame::decode(bytes)? {
            Frame::Open(open) => Ok(Self::Open(open)),
            Frame::Attach(attach) => Ok(Self::Attach(attach)),
            _ => Err(Malformed),
        }
    }

    /// The stream it is about.
    #[must_use]
    pub const fn id(&self) -> StreamId {
        match self {
            Self::Open(open) => open.id,
            Self::Attach(attach) => attach.id,
        }
    }
}

struct Writer(Bytes);

impl Writer {
    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        let fits = self.0.extend_from_slice(bytes);
        debug_assert!(fits.is_ok(), "no frame is longer than MAX_FIXED");
        self
    }

    fn sizes(&mut self, sizes: Sizes) -> &mut Self {
        self.put(&sizes.replay.to_be_bytes())
            .put(&sizes.window.to_be_bytes())
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_be_bytes)
    }

    /// The version that both speak.
    fn version(&mut self) -> Result<u8, Malformed> {
        let [version] = self.take()?;
        match version {
            1..=VERSION => Ok(version),
            _ => Err(Malformed),
        }
    }

    fn sizes(&mut self) -> Result<Sizes, Malformed> {
        let sizes = Sizes {
            replay: self.u32()?,
            window: self.u32()?,
        };
        sizes.checked()
    }

    fn grace(&mut self) -> Result<u32, Malformed> {
        let grace_s = self.u32()?;
        if u64::from(grace_s) <= MAX_GRACE.as_secs() {
            Ok(grace_s)
        } else {
            Err(Malformed)
        }
    }

    fn data_length(&mut self) -> Result<u16, Malformed> {
        let length = self.take().map(u16::from_be_bytes)?;
        match usize::from(length) {
            1..=MAX_DATA => Ok(length),
            _ => Err(Malformed),
        }
    }

    fn open(&mut self) -> Result<Open, Malformed> {
        let [version] = self.take()?;
        if version == 0 {
            return Err(Malformed);
        }
        Ok(Open {
            version,
            id: StreamId(self.take()?),
            secret: Secret(self.take()?),
            sizes: self.sizes()?,
        })
    }

    fn attach(&mut self) -> Result<Attach, Malformed> {
        Ok(Attach {
            id: StreamId(self.take()?),
            generation: self.u32()?,
            nonce: self.take()?,
        })
    }

    fn challenge(&mut self) -> Result<Challenge, Malformed> {
        Ok(Challenge {
            nonce: self.take()?,
            received: self.u64()?,
            sizes: self.sizes()?,
            grace_s: self.grace()?,
            tag: self.take()?,
        })
    }
}
