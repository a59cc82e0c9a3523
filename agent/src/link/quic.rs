//! The QUIC transport: one UDP socket and one connection per attempt.

mod fair;
mod fault;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use link_quic::{Control, answers, insist, nameless, packet_sizes};
use nix::sys::socket::{setsockopt, sockopt};
use protocol::error::CloseCode;
use protocol::message::join::EXPORTED;
use protocol::{JOIN_EXPORTER_LABEL, SERVER_NAME};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, IdleTimeout, RecvStream, SendStream, VarInt};

use super::fault::of_stranger;
use super::transport::{Fault, FaultKind, Pending, Stream, Traffic, Transport};

/// The supervisor knows how long silence may last, and keeps a dark connection for a while; this
/// only sweeps up connections that it no longer holds.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Streams for each session that is served: a dial too many is answered, not stalled, and so is one
/// that replaces another.
const DIALS: usize = 2;
/// One stream's receive buffer at most: 1 MiB keeps 40 Mbit/s flowing at a 200 ms round trip.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// All streams' receive buffers together: three that nobody reads leave room for one more, and that
/// is still small beside 32 MB of RAM.
const RECEIVE_WINDOW: u32 = 4 * STREAM_WINDOW;
/// Bytes (RFC 768).
const UDP_HEADER: u64 = 8;
/// Pings that find room beside what a silent path has swallowed: at most one a second for a quarter
/// of an hour, after which a dark link is given up, and for as long before it counts as dark.
const PINGS: u32 = 2048;
/// Datagrams that wait to be sent: they are empty, and one is as good as many.
const DATAGRAMS: usize = 64;
/// What is kept until the cluster has acknowledged it. One stream gets 1 MiB of the cluster, so that
/// three copies leave room for somebody who types: who finds it full waits until what was lost
/// longest ago has been sent again.
const SEND_WINDOW: u64 = 4 * 1024 * 1024;

/// Whether the kernel cuts and joins datagrams for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Offload {
    /// Where it can: fewer system calls for bulk data.
    #[default]
    Auto,
    /// Never: some drivers and emulators say that they can, and lose what they are given.
    Off,
}

impl FromStr for Offload {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            _ => Err("expected auto or off"),
        }
    }
}

/// One QUIC connection.
pub(super) struct Quic {
    connection: Connection,
    endpoint: Endpoint,
    offload: Offload,
}

/// Opens a connection to one address.
pub(super) async fn connect(
    to: SocketAddr,
    tls: rustls::ClientConfig,
    offload: Offload,
    places: usize,
) -> Result<Quic, Fault> {
    let endpoint = endpoint(to, offload)?;
    let connecting = endpoint
        .connect_with(config(tls, offload, places)?, to, SERVER_NAME)
        .map_err(Fault::local)?;
    let connection = connecting.await;
    let connection = connection.map_err(|error| of_stranger(fault::of(&error)))?;
    Ok(Quic {
        connection,
        endpoint,
        offload,
    })
}

/// A socket of the peer's family, bound to whatever address leads there.
fn socket(to: SocketAddr) -> Result<UdpSocket, Fault> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // QUIC takes a missing route for lost packets. A connected socket knows better, at once.
    UdpSocket::bind(any)
        .and_then(|probe| probe.connect(to))
        .map_err(|error| Fault::new(FaultKind::Unreachable, error.to_string()))?;
    UdpSocket::bind(any).map_err(Fault::local)
}

fn endpoint(to: SocketAddr, offload: Offload) -> Result<Endpoint, Fault> {
    let socket = socket(to)?;
    // The same socket by another descriptor: quinn switches receiving whole batches on by itself.
    let same = socket.try_clone().map_err(Fault::local)?;
    let runtime = Arc::new(quinn::TokioRuntime);
    let mut config = quinn::EndpointConfig::default();
    config.cid_generator(nameless);
    let endpoint = Endpoint::new(config, None, socket, runtime).map_err(Fault::local)?;
    apply(offload, &same);
    Ok(endpoint)
}

fn apply(offload: Offload, socket: &UdpSocket) {
    if offload == Offload::Off {
        // A kernel that does not know the option does not do it either.
        let _ = setsockopt(socket, sockopt::UdpGroSegment, &false);
    }
}

fn config(
    tls: rustls::ClientConfig,
    offload: Offload,
    places: usize,
) -> Result<ClientConfig, Fault> {
    let dials = u32::try_from(DIALS * places).map_err(Fault::local)?;
    let crypto = QuicClientConfig::try_from(tls).map_err(Fault::local)?;
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_idle_timeout(Some(
            IdleTimeout::try_from(IDLE_TIMEOUT).map_err(Fault::local)?,
        ))
        // The supervisor's heartbeats keep the link alive, and a second clock would cost packets.
        .keep_alive_interval(None)
        .max_concurrent_bidi_streams(VarInt::from_u32(dials))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .send_window(SEND_WINDOW)
        .congestion_controller_factory(Arc::new(Control))
        .mtu_discovery_config(Some(packet_sizes()))
        .enable_segmentation_offload(offload == Offload::Auto)
        // The cluster's are signs of life, and nobody reads them; but who takes none may send none.
        .datagram_receive_buffer_size(Some(DATAGRAMS))
        .datagram_send_buffer_size(DATAGRAMS);
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

impl Transport for Quic {
    fn kind(&self) -> &'static str {
        "quic"
    }

    fn open(&self) -> Pending<'_, Result<Stream, Fault>> {
        Box::pin(async {
            self.connection
                .open_bi()
                .await
                .map(stream)
                .map_err(|error| fault::of(&error))
        })
    }

    fn accept(&self) -> Pending<'_, Result<Stream, Fault>> {
        Box::pin(async {
            self.connection
                .accept_bi()
                .await
                .map(stream)
                .map_err(|error| fault::of(&error))
        })
    }

    fn ended(&self) -> Option<Fault> {
        self.connection
            .close_reason()
            .map(|error| fault::of(&error))
    }

    fn exported(&self) -> Result<[u8; EXPORTED], Fault> {
        let mut material = [0; EXPORTED];
        self.connection
            .export_keying_material(&mut material, JOIN_EXPORTER_LABEL, &[])
            .map_err(|_| Fault::local("the connection gives no keying material"))?;
        Ok(material)
    }

    fn close(&self, code: CloseCode) {
        self.connection.close(VarInt::from_u32(code.code()), b"");
    }

    fn closed(&self) -> Pending<'_, ()> {
        Box::pin(self.endpoint.wait_idle())
    }

    fn round_trip(&self) -> Option<Duration> {
        Some(self.connection.rtt())
    }

    fn remote(&self) -> Option<IpAddr> {
        Some(self.connection.remote_address().ip())
    }

    fn ping(&self) -> bool {
        insist(self.connection.congestion_state(), PINGS);
        self.connection.send_datagram(bytes::Bytes::new()).is_ok()
    }

    fn owed(&self) -> Option<u32> {
        let answers = answers(self.connection.congestion_state());
        answers.owed.then_some(answers.count)
    }

    fn rebind(&self) -> Result<(), Fault> {
        let socket = socket(self.connection.remote_address())?;
        let same = socket.try_clone().map_err(Fault::local)?;
        self.endpoint.rebind(socket).map_err(Fault::local)?;
        apply(self.offload, &same);
        Ok(())
    }

    fn traffic(&self) -> Traffic {
        let stats = self.connection.stats();
        let headers = match self.connection.remote_address() {
            SocketAddr::V4(_) => 20 + UDP_HEADER,
            SocketAddr::V6(_) => 40 + UDP_HEADER,
        };
        let wire = |udp: quinn::UdpStats| udp.bytes + udp.datagrams * headers;
        Traffic {
            sent: wire(stats.udp_tx),
            received: wire(stats.udp_rx),
            // Frames are counted after decryption.
            heard: stats.frame_rx.stream.wrapping_add(stats.frame_rx.acks),
            asked: stats.frame_rx.datagram,
        }
    }
}

fn stream((writer, reader): (SendStream, RecvStream)) -> Stream {
    let stopped = writer.stopped();
    let delivered = Box::pin(async move {
        let _ = stopped.await;
    });
    Stream {
        reader: Box::new(reader),
        writer: Box::new(fair::Fair::new(writer)),
        delivered,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tls::tests::{client, stranger};
    use super::*;
    use quinn::crypto::rustls::QuicServerConfig;

    #[tokio::test]
    async fn an_alert_in_the_handshake_is_nobodys_verdict() {
        let crypto = QuicServerConfig::try_from(stranger(protocol::ALPN_AGENT)).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let server = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let to = server.local_addr().unwrap();
        let mut tls = client();
        tls.alpn_protocols = vec![protocol::ALPN_AGENT.to_vec()];
        let serving = async { server.accept().await.unwrap().await.is_ok() };
        let (ended, served) = tokio::join!(connect(to, tls, Offload::Off, 32), serving);
        let fault = ended.err().unwrap();
        assert_eq!(
            (fault.kind, served),
            (FaultKind::Unreachable, false),
            "{fault}"
        );
    }
}
