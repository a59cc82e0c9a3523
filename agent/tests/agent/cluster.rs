//! A stand-in for a cluster: it lets every device join, and leaves links to the test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use protocol::ALPN_JOIN;
use protocol::message::control::{ToAgent, ToCluster, Welcome};
use protocol::message::frame::{HEADER, MAX_FRAME, body_length};
use protocol::message::join::{JoinReply, JoinRequest, Joined};
use protocol::message::{Message, Text, decode, encode};
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::authority::{Authority, now};

/// Nothing on one machine takes longer, unless it does not come at all.
pub(crate) const SOON: Duration = Duration::from_secs(10);
pub(crate) const TOKEN: &str = "good-token";

/// An agent's link, seen from the cluster.
#[derive(Debug)]
pub(crate) struct Linked {
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    pub(crate) receive: RecvStream,
}

pub(crate) struct Cluster {
    pub(crate) address: SocketAddr,
    pub(crate) authority: Arc<Authority>,
    links: mpsc::UnboundedReceiver<Linked>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let authority = Arc::new(Authority::new());
        let crypto: quinn::crypto::rustls::QuicServerConfig =
            authority.server().try_into().unwrap();
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let mut transport = quinn::TransportConfig::default();
        transport.datagram_receive_buffer_size(None);
        config.transport_config(Arc::new(transport));
        let endpoint = Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap();
        let address = endpoint.local_addr().unwrap();
        let (tell, links) = mpsc::unbounded_channel();
        tokio::spawn(accept(endpoint, authority.clone(), tell));
        Self {
            address,
            authority,
            links,
        }
    }

    /// The next link, welcomed; with its Hello.
    pub(crate) async fn welcomed(&mut self, keepalive_s: u16) -> (Linked, Vec<u8>) {
        let linked = timeout(SOON, self.links.recv()).await;
        let mut linked = linked.expect("no link").unwrap();
        let hello = linked.read().await;
        linked.welcome(keepalive_s).await;
        (linked, hello)
    }
}

impl Linked {
    pub(crate) async fn read(&mut self) -> Vec<u8> {
        timeout(SOON, read(&mut self.receive))
            .await
            .expect("no frame")
            .unwrap()
    }

    pub(crate) async fn write(&mut self, message: &impl Serialize) {
        write(&mut self.send, message).await;
    }

    async fn welcome(&mut self, keepalive_s: u16) {
        let welcome = Welcome {
            version: 1,
            time_s: now(),
            cluster: Text::cut("lab"),
            node_name: Text::cut("gateway-1"),
            keepalive_s,
        };
        self.write(&ToAgent::Welcome(welcome)).await;
    }

    /// The code the agent closes with.
    pub(crate) async fn close_code(&self) -> u64 {
        match timeout(SOON * 2, self.connection.closed())
            .await
            .expect("not closed")
        {
            quinn::ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            other => panic!("{other}"),
        }
    }
}

pub(crate) fn understood<'a, T: Message + Deserialize<'a>>(body: &'a [u8]) -> T {
    decode(body).unwrap()
}

pub(crate) async fn write(send: &mut SendStream, message: &impl Serialize) {
    let mut buffer = vec![0; HEADER + MAX_FRAME];
    send.write_all(encode(message, &mut buffer).unwrap())
        .await
        .unwrap();
}

pub(crate) async fn read(receive: &mut RecvStream) -> Option<Vec<u8>> {
    let mut header = [0; HEADER];
    receive.read_exact(&mut header).await.ok()?;
    let mut body = vec![0; body_length(header).ok()?];
    receive.read_exact(&mut body).await.ok()?;
    Some(body)
}

async fn accept(
    endpoint: Endpoint,
    authority: Arc<Authority>,
    tell: mpsc::UnboundedSender<Linked>,
) {
    while let Some(incoming) = endpoint.accept().await {
        let (authority, tell) = (authority.clone(), tell.clone());
        tokio::spawn(async move {
            let connection = incoming.await.ok()?;
            let (send, receive) = connection.accept_bi().await.ok()?;
            if alpn(&connection) == ALPN_JOIN {
                return join(&authority, &connection, send, receive).await;
            }
            assert!(
                connection.peer_identity().is_some(),
                "a link without a certificate"
            );
            let linked = Linked {
                connection,
                send,
                receive,
            };
            tell.send(linked).ok()
        });
    }
}

fn alpn(connection: &Connection) -> Vec<u8> {
    let data = connection.handshake_data().unwrap();
    let data = data
        .downcast::<quinn::crypto::rustls::HandshakeData>()
        .unwrap();
    data.protocol.unwrap()
}

async fn join(
    authority: &Authority,
    connection: &Connection,
    mut send: SendStream,
    mut receive: RecvStream,
) -> Option<()> {
    let body = read(&mut receive).await?;
    let JoinRequest::Token { public_key, .. } = understood(&body) else {
        panic!("not a new device")
    };
    let issued = authority.issue(public_key);
    let joined = Joined {
        node_id: [0x42; 16],
        time_s: now(),
        cluster: Text::cut("lab"),
        node_name: Text::cut("gateway-1"),
        certificates: issued.certificates(),
        trust: authority.trust(1),
    };
    write(&mut send, &JoinReply::Joined(joined)).await;
    connection.closed().await;
    Some(())
}

/// Reads control messages until one is of the wanted kind; heartbeats may come at any time.
pub(crate) async fn until<T>(
    linked: &mut Linked,
    mut wanted: impl FnMut(ToCluster<'_>) -> Option<T>,
) -> T {
    loop {
        let body = linked.read().await;
        if let Some(found) = wanted(understood(&body)) {
            return found;
        }
    }
}
