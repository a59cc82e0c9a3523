//! QUIC connections on the UDP port: agents, clients and joins, told apart by ALPN.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::FutureExt;
use protocol::error::CloseCode;
use protocol::identity::NodeId;
use protocol::message::Text;
use protocol::message::dial::{ClientRequest, DialReply};
use protocol::{ALPN_AGENT, ALPN_CLIENT, ALPN_JOIN, CLIENT_FIRST_CID};
use quinn::crypto::rustls::HandshakeData;
use quinn::{Connecting, Connection, ConnectionError, ConnectionId, Endpoint, Incoming};
use rustls::pki_types::CertificateDer;

use super::Proxy;
use super::dial::{Caller, Refused, Way, Wish};
use super::limits::{Place, customer};
use super::queue::{Line, Queue};
use crate::audit::{Event, code};
use crate::auth::ca::peer::{Peer, identify};
use crate::tunnel::quic::owed::Owed;
use crate::tunnel::quic::{QuicLink, admit_bulk, admit_dials, attend, close, ids, sign};
use crate::tunnel::stream::Stream;

/// A handshake must be done within this time.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// A stream's first message must come within this time.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// Arrivals looked at before somebody gets a turn.
const ARRIVALS: usize = 32;
/// Handshakes begun or waited for, from which on a stranger has to show that its address is its own
/// (RFC 9000 §8.1.2) before it may wait for anything: that costs the cluster no memory and little
/// time, and the stranger one round trip.
const CALM: usize = 256;

/// Accepts connections until the endpoint is closed.
///
/// A handshake's expensive part happens inside [`Incoming::accept`], under the endpoint's lock. So
/// there is one such turn at a time, and between two of them everything else that is due.
pub async fn accept(proxy: Proxy, endpoint: Endpoint) {
    let mut door = Door {
        proxy,
        queue: Queue::default(),
        began: Instant::now(),
    };
    loop {
        for _ in 0..ARRIVALS {
            match endpoint.accept().now_or_never() {
                Some(Some(incoming)) => door.arrived(incoming),
                Some(None) => return,
                None => break,
            }
        }
        if door.turn() {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => door.arrived(incoming),
                None => return,
            },
            () = door.proxy.limits.handshakes.freed() => {}
        }
    }
}

/// Where strangers wait until there is time for their handshake.
struct Door {
    proxy: Proxy,
    queue: Queue<IpAddr, (Incoming, Place)>,
    began: Instant,
}

impl Door {
    fn arrived(&mut self, incoming: Incoming) {
        if self.is_closing() {
            return self.turn_away(incoming);
        }
        let under_way = usize::try_from(self.proxy.limits.handshakes.taken()).unwrap_or(usize::MAX);
        let calm = self.queue.len().saturating_add(under_way) < CALM;
        if !calm && !incoming.remote_address_validated() {
            self.proxy.metrics.addresses_checked.inc();
            // Fails for those only that have been checked.
            drop(incoming.retry());
            return;
        }
        match self
            .proxy
            .limits
            .waiting
            .enter(incoming.remote_address().ip())
        {
            Some(place) => {
                let line = line(&incoming);
                let from = customer(incoming.remote_address().ip());
                self.queue
                    .push(line, from, (incoming, place), self.began.elapsed());
            }
            None => self.turn_away(incoming),
        }
    }

    /// Begins one handshake, if somebody waits and there is room.
    fn turn(&mut self) -> bool {
        while let Some((late, _)) = self.queue.late(self.began.elapsed()) {
            self.turn_away(late);
        }
        while let Some((incoming, _)) = self
            .is_closing()
            .then(|| self.queue.next(|_| true))
            .flatten()
        {
            self.turn_away(incoming);
        }
        let places = &self.proxy.limits.handshakes;
        if places.are_taken() {
            return false;
        }
        let fits = |from: &IpAddr| places.admits(*from);
        let Some((incoming, _waited)) = self.queue.next(fits) else {
            return false;
        };
        let addr = incoming.remote_address();
        match places.enter(addr.ip()) {
            Some(place) => {
                let (begun, id) = ids::drawn_by(|| incoming.accept());
                let begun = Begun { begun, id, addr };
                drop(tokio::spawn(serve(self.proxy.clone(), begun, place)));
            }
            None => self.turn_away(incoming),
        }
        true
    }

    /// Whether the cluster stops. Who hears that at once comes back sooner than who hears nothing.
    fn is_closing(&self) -> bool {
        !self.proxy.metrics.ready.load(Ordering::Relaxed)
    }

    fn turn_away(&self, incoming: Incoming) {
        self.proxy.metrics.connections_shed.inc();
        tracing::debug!(addr = %incoming.remote_address(), waiting = self.queue.len(), "no room: turned away");
        incoming.refuse();
    }
}

/// Who is probably calling. Nothing depends on it but the order of handshakes.
fn line(incoming: &Incoming) -> Line {
    match incoming.orig_dst_cid().len() {
        CLIENT_FIRST_CID => Line::People,
        _ => Line::Devices,
    }
}

/// A handshake that has begun.
struct Begun {
    begun: Result<Connecting, ConnectionError>,
    id: Option<ConnectionId>,
    addr: SocketAddr,
}

async fn serve(proxy: Proxy, Begun { begun, id, addr }: Begun, place: Place) {
    let handshake = async { anyhow::Ok(begun?.await?) };
    let connection = match tokio::time::timeout(HANDSHAKE_DEADLINE, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return proxy.handshake_failed(addr, &error).await,
        Err(_) => return,
    };
    let served = match alpn(&connection).as_deref() {
        Some(ALPN_AGENT) => agent(&proxy, &connection, id, place).await,
        Some(ALPN_CLIENT) => client(&proxy, &connection, place).await,
        Some(ALPN_JOIN) => proxy.serve_join(&connection).await,
        _ => Err(anyhow::anyhow!("no ALPN of ours")),
    };
    if let Err(error) = served {
        tracing::debug!(%addr, error = format!("{error:#}"), "connection refused");
        close(&connection, CloseCode::Denied, &error.to_string());
    }
}

async fn agent(
    proxy: &Proxy,
    connection: &Connection,
    id: Option<ConnectionId>,
    place: Place,
) -> Result<()> {
    let Peer::Node(node) = proxy.peer(connection)? else {
        bail!("this is not a node's certificate");
    };
    let control = tokio::time::timeout(REQUEST_DEADLINE, connection.accept_bi());
    let (send, recv) = control.await.context("no control stream")??;
    drop(place);
    admit_bulk(connection);
    let connection = connection.clone();
    let transport = Arc::new(QuicLink {
        connection,
        id,
        owed: Owed::default(),
    });
    proxy
        .links
        .serve(transport, Stream::quic(send, recv), node)
        .await;
    Ok(())
}

async fn client(proxy: &Proxy, connection: &Connection, place: Place) -> Result<()> {
    let Peer::User(user) = proxy.peer(connection)? else {
        bail!("this is not a user's certificate");
    };
    drop(place);
    admit_bulk(connection);
    admit_dials(connection);
    let dials = async {
        while let Ok((send, recv)) = connection.accept_bi().await {
            let caller = Caller {
                user: user.clone(),
                addr: connection.remote_address(),
            };
            let proxy = proxy.clone();
            tokio::spawn(async move { proxy.serve_dial(caller, Stream::quic(send, recv)).await });
        }
    };
    let owed = Owed::default();
    let signs = async {
        loop {
            sign(connection, &owed).await;
        }
    };
    let attended = async {
        loop {
            attend(connection, &owed).await;
        }
    };
    tokio::select! {
        () = dials => Ok(()),
        never = signs => never,
        never = attended => never,
    }
}

fn alpn(connection: &Connection) -> Option<Vec<u8>> {
    connection
        .handshake_data()?
        .downcast::<HandshakeData>()
        .ok()?
        .protocol
}

/// Says yes; and to who may come back, which node it is.
async fn welcome(client: &mut Stream, wish: Wish<'_>, node: NodeId) -> io::Result<()> {
    if matches!(wish.way, Way::Client(_)) {
        client
            .write
            .frame(&DialReply::Named { node: node.0 })
            .await?;
    }
    client.write.frame(&DialReply::Accepted).await
}

impl Proxy {
    /// Serves one dial of a client: request, decision, bytes.
    pub async fn serve_dial(&self, caller: Caller, mut client: Stream) {
        let mut buffer = Vec::new();
        let request = client.read.frame::<ClientRequest<'_>>(&mut buffer);
        let Ok(Ok(request)) = tokio::time::timeout(REQUEST_DEADLINE, request).await else {
            return;
        };
        let (target, login, opening) = match &request {
            ClientRequest::Ssh { target, login } => (target, login, None),
            ClientRequest::Resumable {
                target,
                login,
                opening,
            } => (target, login, Some(opening)),
        };
        let wish = Wish {
            target,
            login: login.as_ref().map(|login| &**login),
            way: opening.map_or(Way::Plain, |opening| Way::Client(opening)),
        };
        match self.dial(&caller, wish).await {
            Ok(dialled) => {
                if welcome(&mut client, wish, dialled.node()).await.is_ok() {
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
    pub async fn handshake_failed(&self, addr: SocketAddr, error: &anyhow::Error) {
        self.metrics.handshakes_failed.inc();
        let text = format!("{error:#}");
        tracing::debug!(%addr, error = text, "handshake failed");
        if text.contains("certificate") {
            let event =
                Event::new(code::CERTIFICATE_REFUSED).field("addr.remote", addr.to_string());
            self.audit.refused(event.field("error", text)).await;
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
