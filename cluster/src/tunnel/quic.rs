//! QUIC links: quinn behind the [`Transport`] seam, and how the endpoint is tuned.

pub mod ids;

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures::future::{BoxFuture, FutureExt};
use nix::sys::socket::{setsockopt, sockopt};
use protocol::error::CloseCode;
use quinn::{Connection, ConnectionId, EndpointConfig, IdleTimeout, VarInt};

use super::Transport;
use super::stream::Stream;

/// A silent peer is given up after this, whatever it is. Agents say how long they will be silent,
/// and are given up sooner ([`super::serve`]).
const IDLE: Duration = Duration::from_secs(3600);
/// Bytes (RFC 768).
const UDP_HEADER: u64 = 8;
/// Room for datagrams that nobody has read: an agent's signs of life carry nothing, and only the
/// newest matters.
const DATAGRAMS: usize = 1024;
/// Bytes one stream may have in flight: 4 MiB fill 300 Mbit/s at 100 ms.
const STREAM_WINDOW: u32 = 4 << 20;
/// Bytes all streams of one connection may have in flight.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Streams a peer may open before it is known: an agent's control stream or a join. Each stream
/// allowed takes memory from the start, open or not.
const STREAMS_AT_FIRST: u32 = 2;
/// Dials a client may have open on one connection.
const CLIENT_DIALS: u32 = 64;

/// Bytes of a stranger that are kept until its handshake begins: a first flight of two packets, and
/// once more.
const WAITING_BYTES: u64 = 4 * 1452;
/// The same of all strangers.
const ALL_WAITING_BYTES: u64 = 32 << 20;
/// Asked of the kernel for packets that nobody has read yet: what 10,000 agents send at once.
const SOCKET_BUFFER: usize = 16 << 20;
/// Resets come no faster than this. After a crash each of 10,000 agents needs one within its
/// heartbeat's interval, and making one costs some microseconds.
const RESET_PAUSE: Duration = Duration::from_micros(100);

/// A QUIC connection of an agent.
pub struct QuicLink {
    /// It.
    pub connection: Connection,
    /// What the agent was told to call it.
    pub id: Option<ConnectionId>,
}

impl Transport for QuicLink {
    fn open(&self) -> BoxFuture<'_, io::Result<Stream>> {
        async {
            let (send, recv) = self.connection.open_bi().await?;
            Ok(Stream::quic(send, recv))
        }
        .boxed()
    }

    fn close(&self, code: CloseCode) {
        close(&self.connection, code, "");
    }

    fn remote(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    fn round_trip(&self) -> Duration {
        self.connection.rtt()
    }

    fn heard(&self) -> u64 {
        // Frames are counted after decryption.
        let frames = self.connection.stats().frame_rx;
        frames.stream.wrapping_add(frames.acks)
    }

    fn wire_bytes(&self) -> u64 {
        let stats = self.connection.stats();
        let headers = match self.connection.remote_address().ip().to_canonical() {
            IpAddr::V4(_) => 20 + UDP_HEADER,
            IpAddr::V6(_) => 40 + UDP_HEADER,
        };
        let wire = |udp: quinn::UdpStats| udp.bytes + udp.datagrams * headers;
        wire(stats.udp_tx) + wire(stats.udp_rx)
    }

    fn sign(&self) -> BoxFuture<'_, ()> {
        async {
            // A connection that has ended is told of elsewhere.
            if self.connection.read_datagram().await.is_err() {
                futures::future::pending::<()>().await;
            }
        }
        .boxed()
    }

    fn connection_id(&self) -> Option<Vec<u8>> {
        self.id.map(|id| id.to_vec())
    }

    fn kind(&self) -> &'static str {
        "quic"
    }
}

/// Ends a connection with a code of the protocol.
pub fn close(connection: &Connection, code: CloseCode, why: &str) {
    connection.close(VarInt::from_u32(code.code()), why.as_bytes());
}

/// Lets a connection that proved to be a client's have as many dials as a client may.
pub fn admit_dials(connection: &Connection) {
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(CLIENT_DIALS));
}

/// What outlives the process, so that agents of a cluster that was killed learn from the first
/// answer of the next one that their link is gone (RFC 9000 §10.3): the key of the reset tokens, and
/// the mark by which the cluster tells connection ids of its own.
#[must_use]
pub fn endpoint_config(reset_key: &[u8]) -> EndpointConfig {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, reset_key);
    let mut config = EndpointConfig::new(Arc::new(key.clone()));
    config
        .min_reset_interval(RESET_PAUSE)
        .cid_generator(move || Box::new(ids::Ids::new(key.clone())));
    config
}

/// The UDP socket, with as much room as the kernel gives.
///
/// # Errors
/// If the address cannot be bound.
pub fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    // Whoever may administer the network may exceed `net.core.rmem_max`.
    if setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BUFFER).is_err()
        && let Err(error) = setsockopt(&socket, sockopt::RcvBuf, &SOCKET_BUFFER)
    {
        tracing::warn!(%error, "the UDP socket keeps its small buffer");
    }
    Ok(socket)
}

/// The server's configuration.
///
/// # Errors
/// If the TLS configuration does not suit QUIC.
pub fn server_config(tls: rustls::ServerConfig) -> Result<quinn::ServerConfig> {
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::try_from(IDLE)?))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_AT_FIRST))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW))
        .datagram_receive_buffer_size(Some(DATAGRAMS));
    config
        .transport_config(Arc::new(transport))
        .incoming_buffer_size(WAITING_BYTES)
        .incoming_buffer_size_total(ALL_WAITING_BYTES);
    Ok(config)
}
