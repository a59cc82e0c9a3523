//! QUIC links: quinn behind the [`Transport`] seam, and how the endpoint is tuned.

pub mod ids;
pub mod owed;

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures::future::{BoxFuture, FutureExt};
use link_quic::{Control, insist, packet_sizes};
use nix::sys::socket::{setsockopt, sockopt};
use protocol::error::CloseCode;
use quinn::{Connection, ConnectionId, EndpointConfig, IdleTimeout, VarInt};

use super::Transport;
use super::stream::Stream;
use owed::{LOOK, Owed};

/// A silent peer is given up after this, whatever it is. Agents say how long they will be silent,
/// and are given up sooner ([`super::serve`]).
const IDLE: Duration = Duration::from_secs(3600);
/// Bytes (RFC 768).
const UDP_HEADER: u64 = 8;
/// Room for datagrams that nobody has read: an agent's signs of life carry nothing, and only the
/// newest matters.
const DATAGRAMS: usize = 1024;
/// Bytes one stream may have in flight: 40 Mbit/s at 200 ms, as on the agent. It is less than what an
/// agent keeps until it is acknowledged, so that a copy leaves room there for other streams.
const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes that wait in all streams of one connection to be sent or acknowledged.
const SEND_WINDOW: u64 = 8 << 20;
/// Packets that find room beside what the path has swallowed, one for each sign of life: enough that
/// one arrives, and too few for a burst.
const ANSWERS: u32 = 8;
/// Streams a peer may open before it is known: an agent's control stream or a join. Each stream
/// allowed takes memory from the start, open or not.
const STREAMS_AT_FIRST: u32 = 2;
/// Dials a client may have open on one connection.
const CLIENT_DIALS: u32 = 64;
/// Bytes all streams of one connection may have in flight. Streams that nobody reads (a laptop that
/// sleeps during a copy) keep theirs, and must not take it from a stream that somebody types in. So
/// there is room for all streams there can be; agents allow as many as clients get. Only streams
/// that are open take any of it.
const CONNECTION_WINDOW: u32 = (CLIENT_DIALS + STREAMS_AT_FIRST) * STREAM_WINDOW;

/// The same before it is known who sends: a request has 8 KiB at most.
const WINDOW_AT_FIRST: u32 = 64 << 10;

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
    /// Whether it has answered.
    pub owed: Owed,
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
        sign(&self.connection, &self.owed).boxed()
    }

    fn attend(&self) -> BoxFuture<'_, ()> {
        attend(&self.connection, &self.owed).boxed()
    }

    fn connection_id(&self) -> Option<Vec<u8>> {
        self.id.map(|id| id.to_vec())
    }

    fn kind(&self) -> &'static str {
        "quic"
    }
}

/// Waits for a sign of life, and lets something go out for it.
pub async fn sign(connection: &Connection, owed: &Owed) {
    // A connection that has ended is told of elsewhere.
    if connection.read_datagram().await.is_err() {
        futures::future::pending::<()>().await;
    }
    // The path is alive, whatever it has swallowed.
    insist(connection.congestion_state(), ANSWERS);
    owed.heard(connection);
}

/// Waits for a moment, and asks for a sign of life if one is owed then.
pub async fn attend(connection: &Connection, owed: &Owed) {
    tokio::time::sleep(LOOK).await;
    owed.look(connection);
}

/// Ends a connection with a code of the protocol.
pub fn close(connection: &Connection, code: CloseCode, why: &str) {
    connection.close(VarInt::from_u32(code.code()), why.as_bytes());
}

/// Lets a connection that proved to be an agent's or a client's send at its full rate.
pub fn admit_bulk(connection: &Connection) {
    connection.set_receive_window(VarInt::from_u32(CONNECTION_WINDOW));
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
        .receive_window(VarInt::from_u32(WINDOW_AT_FIRST))
        .send_window(SEND_WINDOW)
        .congestion_controller_factory(Arc::new(Control))
        .mtu_discovery_config(Some(packet_sizes()))
        .datagram_receive_buffer_size(Some(DATAGRAMS));
    config
        .transport_config(Arc::new(transport))
        .incoming_buffer_size(WAITING_BYTES)
        .incoming_buffer_size_total(ALL_WAITING_BYTES);
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use quinn::{ClientConfig, Endpoint};
    use rustls::pki_types::PrivatePkcs8KeyDer;

    use super::*;

    const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
    /// Whatever the machine is busy with.
    const LIMIT: Duration = Duration::from_secs(60);

    /// Both ends of a connection, and what keeps them.
    async fn connected() -> (Connection, Connection, [Endpoint; 2]) {
        let made = rcgen::generate_simple_self_signed(["here".to_owned()]).unwrap();
        let der = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![der.clone()], key.into())
            .unwrap();
        let server = Endpoint::server(server_config(tls).unwrap(), ANY.into()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(der).unwrap();
        let mut config = ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();
        let mut transport = quinn::TransportConfig::default();
        transport.send_window(u64::from(CONNECTION_WINDOW));
        config.transport_config(Arc::new(transport));
        let client = Endpoint::client(ANY.into()).unwrap();
        let to = server.local_addr().unwrap();
        let connecting = client.connect_with(config, to, "here").unwrap();
        let accepted = async { server.accept().await.unwrap().await.unwrap() };
        let (here, there) = tokio::join!(accepted, connecting);
        (here, there.unwrap(), [server, client])
    }

    #[tokio::test]
    async fn a_stranger_may_send_little_and_a_peer_that_is_known_a_streams_window() {
        let (cluster, agent, _endpoints) = connected().await;
        let bulk = vec![0; STREAM_WINDOW as usize];
        let (mut send, _recv) = agent.open_bi().await.unwrap();
        let taken = send.write(&bulk).now_or_never().unwrap().unwrap();
        assert_eq!(taken, WINDOW_AT_FIRST as usize);
        let (mut second, _recv) = agent.open_bi().await.unwrap();
        assert!(second.write(&bulk).now_or_never().is_none());
        admit_bulk(&cluster);
        let sent = tokio::time::timeout(LIMIT, send.write_all(&bulk[taken..])).await;
        sent.expect("no room").unwrap();
    }

    /// Far more than a few.
    const DIALS: u32 = 16;

    #[tokio::test]
    async fn streams_that_nobody_reads_leave_room_for_one_that_somebody_types_in() {
        let (cluster, agent, _endpoints) = connected().await;
        admit_bulk(&cluster);
        let mut dials = Vec::new();
        for _ in 0..DIALS {
            let (mut send, recv) = cluster.open_bi().await.unwrap();
            send.write_all(b"dial").await.unwrap();
            dials.push((send, recv));
        }
        let bulk = vec![0; STREAM_WINDOW as usize];
        let mut streams = Vec::new();
        for number in 1..=DIALS {
            let (mut send, recv) = agent.accept_bi().await.unwrap();
            let bytes = if number < DIALS { &bulk[..] } else { b"key" };
            let sent = tokio::time::timeout(LIMIT, send.write_all(bytes)).await;
            sent.expect("no room").unwrap();
            streams.push((send, recv));
        }
        let (_, typed) = dials.last_mut().unwrap();
        let mut key = [0; 3];
        let read = tokio::time::timeout(LIMIT, typed.read_exact(&mut key)).await;
        read.expect("nothing came").unwrap();
        assert_eq!(&key, b"key");
    }
}
