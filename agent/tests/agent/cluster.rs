//! A small cluster: issues certificates, welcomes agents, and tells the test what it sees.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use protocol::message::control::{Refusal, ToAgent, ToCluster, Welcome};
use protocol::message::frame::{HEADER, MAX_FRAME, body_length};
use protocol::message::join::{JoinReply, JoinRequest, Joined, PROOF_CONTEXT, Secret};
use protocol::message::{Message, Text, decode, encode};
use protocol::{ALPN_JOIN, JOIN_EXPORTER_LABEL};
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::authority::{Authority, now};

/// Nothing on one machine takes longer, unless it does not come at all.
pub(crate) const SOON: Duration = Duration::from_secs(10);
pub(crate) const NODE_ID: [u8; 16] = [0x42; 16];
pub(crate) const TOKEN: &str = "good-token";

/// What the cluster sees, in order.
#[derive(Debug)]
pub(crate) enum Seen {
    Joined { node_name: String },
    CameBack { generation: u32 },
    Linked(Box<Linked>),
}

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
    seen: mpsc::UnboundedReceiver<Seen>,
    endpoint: Endpoint,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self::with(Arc::new(Authority::new()), ([127, 0, 0, 1], 0).into())
    }

    fn with(authority: Arc<Authority>, address: SocketAddr) -> Self {
        let crypto: quinn::crypto::rustls::QuicServerConfig =
            authority.server().try_into().unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let endpoint = Endpoint::server(config, address).unwrap();
        let address = endpoint.local_addr().unwrap();
        let (tell, seen) = mpsc::unbounded_channel();
        tokio::spawn(accept(endpoint.clone(), authority.clone(), tell));
        Self {
            address,
            authority,
            seen,
            endpoint,
        }
    }

    /// Ends, with its only link, and starts again on the same port.
    pub(crate) async fn restart(self, linked: Linked) -> Self {
        self.endpoint.close(5_u32.into(), b"");
        self.endpoint.wait_idle().await;
        // Every connection holds the socket.
        drop(linked);
        let Self {
            address,
            authority,
            endpoint,
            ..
        } = self;
        drop(endpoint);
        // The port is free once the endpoint's task has ended.
        while std::net::UdpSocket::bind(address).is_err() {
            tokio::task::yield_now().await;
        }
        Self::with(authority, address)
    }

    pub(crate) async fn seen(&mut self) -> Seen {
        timeout(SOON, self.seen.recv())
            .await
            .expect("nothing was seen")
            .unwrap()
    }

    /// The next link, welcomed; with its Hello.
    pub(crate) async fn welcomed(&mut self) -> (Linked, Vec<u8>) {
        let Seen::Linked(mut linked) = self.seen().await else {
            panic!("not a link")
        };
        let hello = linked.read().await;
        linked.welcome(25).await;
        (*linked, hello)
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

    pub(crate) async fn welcome(&mut self, keepalive_s: u16) {
        let welcome = Welcome {
            version: 1,
            time_s: now().try_into().unwrap(),
            cluster: Text::cut("lab"),
            node_name: Text::cut("gateway-1"),
            keepalive_s,
        };
        self.write(&ToAgent::Welcome(welcome)).await;
    }

    /// Opens a stream to the node and sends a request; gives the frame that answers it.
    pub(crate) async fn dial(&self, request: &impl Serialize) -> (SendStream, RecvStream, Vec<u8>) {
        let (mut send, mut receive) = self.connection.open_bi().await.unwrap();
        write(&mut send, request).await;
        let reply = timeout(SOON, read(&mut receive))
            .await
            .expect("no reply")
            .unwrap();
        (send, receive, reply)
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

async fn accept(endpoint: Endpoint, authority: Arc<Authority>, tell: mpsc::UnboundedSender<Seen>) {
    while let Some(incoming) = endpoint.accept().await {
        let (authority, tell) = (authority.clone(), tell.clone());
        tokio::spawn(async move {
            let connection = incoming.await.ok()?;
            let (send, receive) = connection.accept_bi().await.ok()?;
            if alpn(&connection) == ALPN_JOIN {
                return join(&authority, &connection, send, receive, &tell).await;
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
            tell.send(Seen::Linked(Box::new(linked))).ok()
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
    tell: &mpsc::UnboundedSender<Seen>,
) -> Option<()> {
    let body = read(&mut receive).await?;
    let refused = authority.policy.lock().unwrap().refuse;
    let (proof, seen) = match understood(&body) {
        JoinRequest::Token {
            token: Secret(token),
            node_name,
            public_key,
            proof,
        } => {
            authority.policy.lock().unwrap().public_key = public_key;
            let refused = refused.or((token.as_str() != TOKEN).then_some(Refusal::Token));
            if let Some(reason) = refused {
                return refuse(&mut send, reason).await;
            }
            (
                proof,
                Seen::Joined {
                    node_name: node_name.as_str().to_owned(),
                },
            )
        }
        JoinRequest::Return {
            node_id,
            generation,
            proof,
        } => {
            assert_eq!(node_id, NODE_ID);
            if let Some(reason) = refused {
                return refuse(&mut send, reason).await;
            }
            (proof, Seen::CameBack { generation })
        }
    };
    let mut exported = [0; 32];
    connection
        .export_keying_material(&mut exported, JOIN_EXPORTER_LABEL, &[])
        .unwrap();
    let key = authority.policy.lock().unwrap().public_key;
    UnparsedPublicKey::new(&ED25519, key)
        .verify(&[PROOF_CONTEXT, &exported].concat(), &proof)
        .expect("the proof does not hold");
    let issued = authority.issue();
    let joined = Joined {
        node_id: NODE_ID,
        time_s: now().try_into().unwrap(),
        cluster: Text::cut("lab"),
        node_name: Text::cut("gateway-1"),
        certificates: issued.certificates(),
        trust: authority.trust(1),
    };
    write(&mut send, &JoinReply::Joined(joined)).await;
    tell.send(seen).ok()?;
    connection.closed().await;
    Some(())
}

async fn refuse(send: &mut SendStream, reason: Refusal) -> Option<()> {
    let text = Text::cut("The cluster says no.");
    write(send, &JoinReply::Refused { reason, text }).await;
    send.finish().ok()?;
    send.stopped().await.ok()?;
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
