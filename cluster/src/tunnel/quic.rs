//! QUIC links: quinn behind the [`Transport`] seam, and how the endpoint is tuned.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures::future::{BoxFuture, FutureExt};
use protocol::error::CloseCode;
use quinn::{Connection, IdleTimeout, VarInt};

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

/// A QUIC connection of an agent.
pub struct QuicLink(pub Connection);

impl Transport for QuicLink {
    fn open(&self) -> BoxFuture<'_, io::Result<Stream>> {
        async {
            let (send, recv) = self.0.open_bi().await?;
            Ok(Stream::quic(send, recv))
        }
        .boxed()
    }

    fn close(&self, code: CloseCode) {
        close(&self.0, code, "");
    }

    fn remote(&self) -> SocketAddr {
        self.0.remote_address()
    }

    fn round_trip(&self) -> Duration {
        self.0.rtt()
    }

    fn heard(&self) -> u64 {
        // Frames are counted after decryption.
        let frames = self.0.stats().frame_rx;
        frames.stream.wrapping_add(frames.acks)
    }

    fn wire_bytes(&self) -> u64 {
        let stats = self.0.stats();
        let headers = match self.0.remote_address().ip().to_canonical() {
            IpAddr::V4(_) => 20 + UDP_HEADER,
            IpAddr::V6(_) => 40 + UDP_HEADER,
        };
        let wire = |udp: quinn::UdpStats| udp.bytes + udp.datagrams * headers;
        wire(stats.udp_tx) + wire(stats.udp_rx)
    }

    fn sign(&self) -> BoxFuture<'_, ()> {
        async {
            // A connection that has ended is told of elsewhere.
            if self.0.read_datagram().await.is_err() {
                futures::future::pending::<()>().await;
            }
        }
        .boxed()
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

/// The endpoint's configuration.
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
    config.transport_config(Arc::new(transport));
    Ok(config)
}
