//! What every transport gives, whatever it is made of. Nothing above this names QUIC.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use protocol::error::CloseCode;
use protocol::message::join::EXPORTED;
use tokio::io::{AsyncRead, AsyncWrite};

/// The receiving half of a stream.
pub(crate) type Reader = Box<dyn AsyncRead + Send + Sync + Unpin>;
/// The sending half of a stream. Shutting it down, or dropping it, ends the stream.
pub(crate) type Writer = Box<dyn AsyncWrite + Send + Sync + Unpin>;
/// Both halves in one: what every SSH connection runs over, or the linker takes much of SSH in once
/// for each kind of stream.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// Something that is under way.
pub(crate) type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A stream in both directions.
pub(crate) struct Stream {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    /// Done once the peer has everything that was written before the end, or never will.
    pub(crate) delivered: Pending<'static, ()>,
}

/// One connection to a cluster, authenticated. Dropping it closes it.
pub(crate) trait Transport: Send + Sync {
    /// What `status` calls it.
    fn kind(&self) -> &'static str;
    /// Opens a stream: the control stream, or that of a join request.
    fn open(&self) -> Pending<'_, Result<Stream, Fault>>;
    /// Waits for a stream that the cluster opens: a dial. Fails once the connection has ended.
    fn accept(&self) -> Pending<'_, Result<Stream, Fault>>;
    /// Why the connection has ended, if it has.
    fn ended(&self) -> Option<Fault>;
    /// Keying material of this connection alone, for a join proof.
    fn exported(&self) -> Result<[u8; EXPORTED], Fault>;
    /// Ends the connection.
    fn close(&self, code: CloseCode);
    /// Waits until the peer was told of the end.
    fn closed(&self) -> Pending<'_, ()>;
    /// What went over it so far.
    fn traffic(&self) -> Traffic;
    /// Smoothed round trip, if the transport knows it.
    fn round_trip(&self) -> Option<Duration> {
        None
    }
    /// Sends the least that makes the peer give a sign of life; `false` if there is nothing that
    /// is less than a control message.
    fn ping(&self) -> bool {
        false
    }
    /// How often the peer has acknowledged something, if anything that was said is still to be.
    fn owed(&self) -> Option<u32> {
        None
    }
    /// Where the peer is.
    fn remote(&self) -> Option<IpAddr> {
        None
    }
    /// Sends from the device's present address from now on.
    fn rebind(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// Counts of one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Bytes sent, with the headers of IP: what a metered link is billed for.
    pub(crate) sent: u64,
    /// Bytes received.
    pub(crate) received: u64,
    /// Grows whenever the peer itself is heard. Bytes anybody could have sent do not count.
    pub(crate) heard: u64,
    /// Grows whenever the peer asks for a sign of life with nothing else to say.
    pub(crate) asked: u64,
}

impl Traffic {
    /// In both directions.
    pub(crate) const fn total(self) -> u64 {
        self.sent.saturating_add(self.received)
    }
}

/// Why a connection failed or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// A phrase for people, without addresses.
    pub(crate) text: String,
}

/// What a fault means for what is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// Nobody answers, or the way there is closed.
    Unreachable,
    /// Who answers could not prove to be the cluster.
    Untrusted,
    /// The cluster does not accept this node's certificate.
    CertificateRefused,
    /// The cluster broke the protocol.
    Misbehaved,
    /// The cluster ended the connection; with a code, if it gave one.
    Closed(Option<CloseCode>),
    /// Something broke here.
    Local,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }

    /// Something broke here.
    pub(crate) fn local(error: impl fmt::Display) -> Self {
        Self::new(FaultKind::Local, format!("{error:#}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}
