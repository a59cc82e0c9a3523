//! QUIC towards the proxy.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use link_quic::{Control, answers, insist};
use nix::sys::socket::{setsockopt, sockopt};
use protocol::error::CloseCode;
use protocol::{CLIENT_FIRST_CID, SERVER_NAME};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, ConnectionId, Endpoint, EndpointConfig, IdleTimeout};
use quinn::{TokioRuntime, TransportConfig, VarInt};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::pulse::Counts;
use super::refusal;
use crate::address::ProxyAddr;
use crate::output;

mod stream;

use stream::Stream;

/// Where UDP passes, a handshake takes one round trip; whoever waits longer waits for a firewall.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(3);
/// First guess of the round trip. With it a lost first packet is sent again after 0.3, 0.9 and
/// 2.1 s, within the limit above.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// A stream may have this much in flight: 1 Gbit/s at 130 ms. It must exceed SSH's own window
/// ([`crate::session::client::WINDOW`]), so that SSH's flow control acts before QUIC's.
const WINDOW: u32 = 16 << 20;
/// NATs forget a silent UDP flow after 30 s.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Silence after which each end gives the other up. As long as both know the connection, it is the
/// fastest way back; but for so long, nobody knows that a client is gone that did not say so.
const IDLE_LIMIT: Duration = Duration::from_secs(180);
/// Pings that find room beside what a silent path has swallowed: one a second for as long.
const PINGS: u32 = 180;
/// Datagrams that wait to be sent: they are empty, and one is as good as many.
const DATAGRAMS: usize = 64;
/// Asked of the kernel, which may give less: what a fast proxy sends while we are busy.
const SOCKET_BUFFER: usize = 4 << 20;
/// More addresses than this are not tried at once.
const MAX_ADDRESSES: usize = 4;

/// How far an attempt came.
pub(super) enum Outcome {
    /// All the way.
    Connected(Connection),
    /// Nowhere: UDP does not pass, or nobody listens.
    Blocked(String),
}

/// A connection, and the socket under it. Clones are of the same connection.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    connection: quinn::Connection,
    // Dropped last: it sends what the connection has left to say.
    endpoint: Endpoint,
}

impl Connection {
    /// Opens the stream of a dial.
    pub(super) async fn open(&self, proxy: &ProxyAddr) -> Result<Stream> {
        let opened = self.connection.open_bi().await;
        let (send, receive) = opened.map_err(|error| refusal::of_quic(&error, proxy))?;
        Ok(Stream::new(send, receive))
    }

    /// Why the proxy closed the connection, if it did.
    pub(super) fn close_reason(&self) -> Option<ConnectionError> {
        self.connection.close_reason()
    }

    /// The proxy's address.
    pub(super) fn remote(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// What was said, and what was answered.
    pub(super) fn pulse(&self) -> Counts {
        let said = self.connection.stats().frame_tx;
        let answers = answers(self.connection.congestion_state());
        Counts {
            said: said.stream + said.datagram + said.ping + said.max_data + said.max_stream_data,
            heard: answers.count,
            owed: answers.owed,
        }
    }

    /// Asks for a sign of life, whatever the path has swallowed.
    pub(super) fn ping(&self) {
        insist(self.connection.congestion_state(), PINGS);
        // A connection that has ended says so elsewhere.
        let _ = self.connection.send_datagram(Bytes::new());
    }

    /// Goes on from another address, and asks for a sign of life.
    pub(super) fn rebind(&self) {
        let rebound = socket(self.remote()).map(|socket| self.endpoint.rebind(socket));
        if let Err(error) | Ok(Err(error)) = rebound {
            output::debug(|| format!("no socket for the new network: {error}"));
        }
        self.ping();
    }

    /// Closes the connection and sees to it that the packet saying so leaves.
    pub(super) async fn close(&self) {
        /// The connection's own task sends it when its turn comes, which is soon.
        const TURNS: usize = 16;
        self.connection.close(CloseCode::Done.code().into(), b"");
        for _ in 0..TURNS {
            if self.connection.stats().frame_tx.connection_close > 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Connects to the first address that answers; all are tried at once, since a name may well have
/// an IPv6 address that leads nowhere.
pub(super) async fn connect(
    proxy: &ProxyAddr,
    addresses: &[SocketAddr],
    tls: &rustls::ClientConfig,
) -> Result<Outcome> {
    let config = config(tls)?;
    let deadline = Instant::now() + HANDSHAKE_LIMIT;
    let mut attempts = JoinSet::new();
    for &address in addresses.iter().take(MAX_ADDRESSES) {
        attempts.spawn(timeout_at(deadline, attempt(address, config.clone())));
    }
    let mut why = String::from("no answer");
    while let Some(done) = attempts.join_next().await {
        match done {
            Ok(Ok(Ok(connection))) => return Ok(Outcome::Connected(connection)),
            Ok(Ok(Err(Failed::Quic(error)))) if refusal::is_final(&error) => {
                return Err(refusal::of_quic(&error, proxy));
            }
            Ok(Ok(Err(Failed::Quic(error)))) => why = error.to_string(),
            Ok(Ok(Err(Failed::Local(error)))) => why = format!("{error:#}"),
            Ok(Err(_)) => {}
            Err(error) => why = error.to_string(),
        }
    }
    Ok(Outcome::Blocked(why))
}

enum Failed {
    Quic(ConnectionError),
    Local(anyhow::Error),
}

async fn attempt(address: SocketAddr, config: ClientConfig) -> Result<Connection, Failed> {
    let endpoint = endpoint(address).map_err(Failed::Local)?;
    let connecting = endpoint
        .connect_with(config, address, SERVER_NAME)
        .map_err(|error| Failed::Local(error.into()))?;
    Ok(Connection {
        connection: connecting.await.map_err(Failed::Quic)?,
        endpoint,
    })
}

fn endpoint(towards: SocketAddr) -> Result<Endpoint> {
    let socket = socket(towards).context("no UDP socket")?;
    let runtime = Arc::new(TokioRuntime);
    Ok(Endpoint::new(
        EndpointConfig::default(),
        None,
        socket,
        runtime,
    )?)
}

/// A socket that sends from whatever address leads there.
fn socket(towards: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if towards.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    let _ = setsockopt(&socket, sockopt::RcvBuf, &SOCKET_BUFFER);
    let _ = setsockopt(&socket, sockopt::SndBuf, &SOCKET_BUFFER);
    Ok(socket)
}

fn config(tls: &rustls::ClientConfig) -> Result<ClientConfig> {
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(WINDOW.into())
        .receive_window(WINDOW.into())
        .send_window(WINDOW.into())
        .congestion_controller_factory(Arc::new(Control))
        .initial_rtt(INITIAL_RTT)
        .keep_alive_interval(Some(KEEPALIVE))
        .max_idle_timeout(Some(IdleTimeout::try_from(IDLE_LIMIT)?))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        // The proxy's are signs of life, and nobody reads them; but who takes none may send none.
        .datagram_receive_buffer_size(Some(DATAGRAMS))
        .datagram_send_buffer_size(DATAGRAMS);
    let crypto = QuicClientConfig::try_from(Arc::new(tls.clone()))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config
        .transport_config(Arc::new(transport))
        .initial_dst_cid_provider(Arc::new(first_cid));
    Ok(config)
}

/// Tells the proxy that a person is calling, who should not wait behind a returning fleet.
fn first_cid() -> ConnectionId {
    let mut cid = [0; CLIENT_FIRST_CID];
    // Without random numbers there is no handshake either, and that says so.
    SystemRandom::new().fill(&mut cid).ok();
    ConnectionId::new(&cid)
}
