//! The one port: TCP sorted by first byte, then by ALPN; UDP given to QUIC.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use protocol::opening::{Opening, opening};
use protocol::{ALPN_AGENT_SSH, ALPN_CLIENT, ALPN_JOIN};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Proxy;
use super::api::Api;
use super::dial::Caller;
use super::limits::Place;
use super::ssh::SshProxy;
use crate::auth::ca::peer::{Peer, identify};
use crate::tunnel::stream::Stream;

/// A TCP connection must say what it is, and finish its handshake, within this time.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Time for an alert to reach the peer.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Wait after an accept that failed for lack of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What TCP connections are handed to.
#[derive(Clone)]
pub struct Front {
    /// The proxy.
    pub proxy: Proxy,
    /// For TLS.
    pub tls: TlsAcceptor,
    /// For HTTPS.
    pub api: Api,
    /// For SSH.
    pub ssh: Arc<SshProxy>,
}

/// Reads on until the peer hangs up. Closing with unread bytes would reset the connection, and take
/// with it the alert that says why: an agent whose certificate is over must learn that.
async fn hear_out(mut tcp: TcpStream) -> std::io::Result<()> {
    const MOST: u64 = 64 << 10;
    tcp.shutdown().await?;
    tokio::io::copy(&mut tcp.take(MOST), &mut tokio::io::sink()).await?;
    Ok(())
}

impl Front {
    /// Accepts connections for as long as it is polled.
    pub async fn accept(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((tcp, addr)) => match self.proxy.limits.tcp.enter(addr.ip()) {
                    Some(place) => drop(tokio::spawn(self.clone().serve(tcp, addr, place))),
                    None => drop(self.proxy.metrics.connections_shed.inc()),
                },
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(self, tcp: TcpStream, addr: SocketAddr, place: Place) {
        if let Err(error) = self.route(tcp, addr, place).await {
            tracing::debug!(%addr, error = format!("{error:#}"), "connection ended");
        }
    }

    async fn route(self, tcp: TcpStream, addr: SocketAddr, place: Place) -> Result<()> {
        // Nagle's algorithm makes two small writes wait for the peer's delayed acknowledgement.
        tcp.set_nodelay(true)?;
        let mut first = [0];
        let peek = tokio::time::timeout(HANDSHAKE_DEADLINE, tcp.peek(&mut first));
        let seen = peek.await.context("silent")??;
        match opening(first.get(..seen).unwrap_or_default()) {
            Opening::Tls => self.tls(tcp, addr, place).await,
            Opening::Ssh => {
                let Some(room) = self.proxy.limits.ssh.enter(addr.ip()) else {
                    self.proxy.metrics.connections_shed.inc();
                    anyhow::bail!("no room for SSH");
                };
                drop(place);
                self.ssh.serve(tcp, addr, room).await
            }
            Opening::Unknown => anyhow::bail!("neither TLS nor SSH"),
            Opening::Unclear => anyhow::bail!("closed at once"),
        }
    }

    async fn tls(self, tcp: TcpStream, addr: SocketAddr, place: Place) -> Result<()> {
        let accept = self.tls.accept(tcp).into_fallible();
        let accept = self.proxy.limits.tls.begin(accept);
        let accept = tokio::time::timeout(HANDSHAKE_DEADLINE, accept);
        let tls = match accept.await.context("slow handshake")? {
            Ok(tls) => tls,
            Err((error, tcp)) => {
                let error = error.into();
                self.proxy.handshake_failed(addr, &error).await;
                tokio::time::timeout(LAST_WORDS, hear_out(tcp)).await.ok();
                return Err(error);
            }
        };
        let peer = self.peer(&tls)?;
        match tls.get_ref().1.alpn_protocol() {
            Some(ALPN_CLIENT) => self.client(tls, addr, peer, place).await,
            Some(ALPN_AGENT_SSH) => self.agent(tls, addr, peer, place).await,
            Some(ALPN_JOIN) => {
                let served = self.proxy.serve_join_tcp(tls, addr).await;
                drop(place);
                served
            }
            // HTTP keeps its place: whoever is not logged in stays a stranger.
            _ => {
                self.api.serve(tls, addr, peer).await;
                drop(place);
                Ok(())
            }
        }
    }

    async fn client(
        self,
        tls: TlsStream<TcpStream>,
        addr: SocketAddr,
        peer: Option<Peer>,
        place: Place,
    ) -> Result<()> {
        let Some(Peer::User(user)) = peer else {
            anyhow::bail!("a user's certificate is required");
        };
        drop(place);
        link_ssh::tcp::keep_alive(tls.get_ref().0)?;
        let caller = Caller { user, addr };
        self.proxy.serve_dial(caller, Stream::io(tls)).await;
        Ok(())
    }

    async fn agent(
        self,
        tls: TlsStream<TcpStream>,
        addr: SocketAddr,
        peer: Option<Peer>,
        place: Place,
    ) -> Result<()> {
        let Some(Peer::Node(node)) = peer else {
            anyhow::bail!("a node's certificate is required");
        };
        link_ssh::tcp::tune(tls.get_ref().0)?;
        self.ssh.serve_agent(tls, addr, place, node).await
    }

    fn peer(&self, tls: &TlsStream<TcpStream>) -> Result<Option<Peer>> {
        let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
        chain
            .first()
            .map(|leaf| identify(&self.proxy.authorities, leaf))
            .transpose()
    }
}
