//! Links from agents.
//!
//! Whatever the transport, the proxy sees three things of a link: control frames, `open`, and an
//! end. [`Transport`] is that seam; behind it are [`quic`] and, where UDP is blocked, [`ssh`].
//! `greet` and [`serve`] speak the control protocol over any transport, [`live`] is what others see
//! of a link, [`registry`] knows which nodes are there, [`presence`] which were. [`recall`] tells
//! agents of a process that was killed.

mod greet;
pub mod live;
pub mod presence;
mod pulse;
pub mod quic;
pub mod recall;
pub mod registry;
pub mod serve;
pub mod ssh;
pub mod stream;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use protocol::error::CloseCode;

use stream::Stream;

/// One live connection of an agent.
pub trait Transport: Send + Sync {
    /// Opens a stream for one dial.
    fn open(&self) -> BoxFuture<'_, io::Result<Stream>>;
    /// Ends the connection; streams on it break.
    fn close(&self, code: CloseCode);
    /// Where the agent calls from.
    fn remote(&self) -> SocketAddr;
    /// Smoothed round trip.
    fn round_trip(&self) -> Duration;
    /// Grows whenever the agent itself is heard. Bytes anybody could have sent do not count.
    fn heard(&self) -> u64;
    /// Bytes on the wire so far, in both directions, with the headers of IP.
    fn wire_bytes(&self) -> u64;
    /// Waits for a sign of life that is not a message on the control stream.
    fn sign(&self) -> BoxFuture<'_, ()> {
        futures::future::pending().boxed()
    }
    /// Waits for a moment, and asks for a sign of life if the agent owes one; for as long as the link
    /// carries streams.
    fn attend(&self) -> BoxFuture<'_, ()> {
        futures::future::pending().boxed()
    }
    /// The id by which the agent addresses the connection, if a later process needs it to tell the
    /// agent that the connection is gone.
    fn connection_id(&self) -> Option<Vec<u8>> {
        None
    }
    /// Whether the path's return would bring a silent agent back, with all its streams.
    fn outlives_silence(&self) -> bool {
        true
    }
    /// The word for listings: `quic`, `ssh`.
    fn kind(&self) -> &'static str;
}
