//! SSH links: russh behind the [`Transport`] seam, for agents that UDP does not reach.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt};
use link_ssh::{Bounds, Cutter, Gate, Table};
use protocol::error::CloseCode;
use russh::Disconnect;
use russh::server::{Handle, Msg};

use super::Transport;
use super::stream::Stream;

/// What the cluster can bear of one link: one dial at 160 Mbit/s and 100 ms, and many at less.
pub const BOUNDS: Bounds = Bounds {
    // Two more than agents take, so that theirs is the word.
    channels: 66,
    window: 2 << 20,
    pool: 8 << 20,
    linger: Duration::ZERO,
};
/// Time for a disconnect with its reason to be on its way.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The SSH connection of an agent.
pub struct SshLink {
    end: End,
    handle: Handle,
    remote: SocketAddr,
    round_trip: Mutex<Duration>,
}

/// What a link and the server behind it share.
#[derive(Clone)]
pub struct End {
    /// The link's channels.
    pub table: Arc<Table>,
    /// Lets channels send.
    pub gate: Gate,
    /// Ends the connection, whatever it waits for.
    pub cutter: Cutter,
}

impl End {
    /// The end of a connection that has no channels yet.
    #[must_use]
    pub fn new(gate: Gate, cutter: Cutter) -> Self {
        Self {
            table: Table::new(BOUNDS),
            gate,
            cutter,
        }
    }

    /// A channel of the connection as a stream.
    ///
    /// # Errors
    /// If there are too many, or the connection is over.
    pub fn stream(&self, channel: russh::Channel<Msg>) -> io::Result<Stream> {
        // Its read half goes: what comes is taken from callbacks, which never wait.
        let write = channel.split().1;
        let halves = self.table.add(write, Some(self.gate.clone()));
        let (reader, writer, ended) =
            halves.ok_or_else(|| io::Error::other("too many channels, or the link has ended"))?;
        Ok(Stream::ssh(reader, writer, ended))
    }
}

impl SshLink {
    /// The link of an agent that has authenticated; `round_trip` as seen while it did.
    #[must_use]
    pub fn new(end: End, handle: Handle, remote: SocketAddr, round_trip: Duration) -> Self {
        Self {
            end,
            handle,
            remote,
            round_trip: Mutex::new(round_trip),
        }
    }

    /// As TCP does it (RFC 6298 §2.3).
    fn saw_round_trip(&self, seen: Duration) {
        let mut smoothed = self
            .round_trip
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *smoothed = (*smoothed * 7 + seen) / 8;
    }
}

impl Transport for SshLink {
    fn open(&self) -> BoxFuture<'_, io::Result<Stream>> {
        async {
            if self.end.table.len() >= BOUNDS.channels {
                return Err(io::Error::other("too many channels"));
            }
            let asked = Instant::now();
            // To the agent, every channel that the cluster opens is a dial.
            let opening = self.handle.channel_open_forwarded_tcpip("", 0, "", 0);
            let channel = opening.await.map_err(io::Error::other)?;
            self.saw_round_trip(asked.elapsed());
            self.end.stream(channel)
        }
        .boxed()
    }

    fn close(&self, code: CloseCode) {
        let (handle, end) = (self.handle.clone(), self.end.clone());
        let closing = async move {
            let (reason, text) = (Disconnect::ByApplication, code.code().to_string());
            let told = handle.disconnect(reason, text, String::new());
            tokio::time::timeout(LAST_WORDS, told).await.ok();
            end.table.end();
            // The agent hangs up, unless it is gone.
            tokio::time::sleep(LAST_WORDS).await;
            end.cutter.cut();
        };
        if !self.end.table.is_over() {
            tokio::spawn(closing);
        }
    }

    fn remote(&self) -> SocketAddr {
        self.remote
    }

    fn round_trip(&self) -> Duration {
        *self
            .round_trip
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn wire_bytes(&self) -> u64 {
        // As SSH sends them: what TLS, TCP and IP add is the kernel's to know.
        self.end.cutter.moved()
    }

    fn heard(&self) -> u64 {
        self.end.table.heard_so_far()
    }

    fn outlives_silence(&self) -> bool {
        false
    }

    fn kind(&self) -> &'static str {
        "ssh"
    }
}
