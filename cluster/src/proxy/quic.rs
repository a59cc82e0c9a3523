//! QUIC connections on the UDP port: agents, clients and joins, told apart by ALPN.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use protocol::error::CloseCode;
use protocol::message::Text;
use protocol::message::dial::{ClientRequest, DialReply};
use protocol::{ALPN_AGENT, ALPN_CLIENT, ALPN_JOIN};
use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, Endpoint, Incoming};
use rustls::pki_types::CertificateDer;

use super::Proxy;
use super::dial::{Caller, Refused};
use super::limits::Place;
use crate::audit::{Event, code};
use crate::auth::ca::peer::{Peer, identify};
use crate::tunnel::quic::{QuicLink, admit_dials, close};
use crate::tunnel::stream::Stream;

/// A handshake must be done within this time.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// A stream's first message must come within this time.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// Accepts connections until the endpoint is closed.
pub async fn accept(proxy: Proxy, endpoint: Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        match proxy.admission.enter(incoming.remote_address().ip()) {
            Some(place) => drop(tokio::spawn(serve(proxy.clone(), incoming, place))),
            None => {
                proxy.metrics.connections_shed.inc();
                incoming.refuse();
            }
        }
    }
}

async fn serve(proxy: Proxy, incoming: Incoming, place: Place) {
    let addr = incoming.remote_address();
    let handshake = async { anyhow::Ok(incoming.accept()?.await?) };
    let connection = match tokio::time::timeout(HANDSHAKE_DEADLINE, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return proxy.handshake_failed(addr, &error).await,
        Err(_) => return,
    };
    let served = match alpn(&connection).as_deref() {
        Some(ALPN_AGENT) => agent(&proxy, &connection, place).await,
        Some(ALPN_CLIENT) => client(&proxy, &connection, place).await,
        Some(ALPN_JOIN) => proxy.serve_join(&connection).await,
        _ => Err(anyhow::anyhow!("no ALPN of ours")),
    };
    if let Err(error) = served {
        tracing::debug!(%addr, error = format!("{error:#}"), "connection refused");
        close(&connection, CloseCode::Denied, &error.to_string());
    }
}

async fn agent(proxy: &Proxy, connection: &Connection, place: Place) -> Result<()> {
    let Peer::Node { id, public_key } = proxy.peer(connection)? else {
        bail!("this is not a node's certificate");
    };
    let control = tokio::time::timeout(REQUEST_DEADLINE, connection.accept_bi());
    let (send, recv) = control.await.context("no control stream")??;
    drop(place);
    let transport = Arc::new(QuicLink(connection.clone()));
    proxy
        .links
        .serve(transport, Stream::quic(send, recv), id, public_key)
        .await;
    Ok(())
}

async fn client(proxy: &Proxy, connection: &Connection, place: Place) -> Result<()> {
    let Peer::User(user) = proxy.peer(connection)? else {
        bail!("this is not a user's certificate");
    };
    drop(place);
    admit_dials(connection);
    while let Ok((send, recv)) = connection.accept_bi().await {
        let caller = Caller {
            user: user.clone(),
            addr: connection.remote_address(),
        };
        let proxy = proxy.clone();
        tokio::spawn(async move { proxy.serve_dial(caller, Stream::quic(send, recv)).await });
    }
    Ok(())
}

fn alpn(connection: &Connection) -> Option<Vec<u8>> {
    connection
        .handshake_data()?
        .downcast::<HandshakeData>()
        .ok()?
        .protocol
}

impl Proxy {
    /// Serves one dial of a client: request, decision, bytes.
    pub async fn serve_dial(&self, caller: Caller, mut client: Stream) {
        let mut buffer = Vec::new();
        let request = client.read.frame::<ClientRequest<'_>>(&mut buffer);
        let Ok(Ok(ClientRequest::Ssh { target, login })) =
            tokio::time::timeout(REQUEST_DEADLINE, request).await
        else {
            return;
        };
        match self.dial(&caller, &target, login.map(Text::as_str)).await {
            Ok(dialled) => {
                if client.write.frame(&DialReply::Accepted).await.is_ok() {
                    self.carry(client, dialled).await;
                }
            }
            Err(Refused { reason, text }) => {
                let reply = DialReply::Refused {
                    reason,
                    text: Text::cut(&text),
                };
                if client.write.frame(&reply).await.is_ok() {
                    client.write.finish().await;
                    client.write.delivered(REQUEST_DEADLINE).await;
                }
            }
        }
    }

    /// Writes down that a certificate was not accepted; other failures are only counted.
    pub async fn handshake_failed(&self, addr: std::net::SocketAddr, error: &anyhow::Error) {
        self.metrics.handshakes_failed.inc();
        let text = format!("{error:#}");
        tracing::debug!(%addr, error = text, "handshake failed");
        if text.contains("certificate") {
            let event =
                Event::new(code::CERTIFICATE_REFUSED).field("addr.remote", addr.to_string());
            self.audit.record(event.field("error", text)).await;
        }
    }

    fn peer(&self, connection: &Connection) -> Result<Peer> {
        let identity = connection
            .peer_identity()
            .context("a client certificate is required")?;
        let chain = identity.downcast::<Vec<CertificateDer<'static>>>().ok();
        let chain = chain.context("no X.509 certificate")?;
        identify(&self.authorities, chain.first().context("no certificate")?)
    }
}
