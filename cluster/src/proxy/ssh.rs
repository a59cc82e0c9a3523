//! The proxy's own SSH server: what `ssh -J` jumps through, and the cluster's end of agents' links
//! where UDP is blocked.
//!
//! Who comes is told by the certificate, and by nothing before it. A user's opens `direct-tcpip`
//! channels to nodes, and nothing else: no shell, no forwarding elsewhere. The bytes on a channel
//! are another SSH connection, end to end between client and node, which the proxy cannot read. A
//! node's opens one session channel, for control messages; the channels of dials are opened by the
//! proxy.
//!
//! Agents come inside TLS, where SSH needs no cipher of its own, or bare where a middlebox does not
//! let TLS pass.

mod certificate;
mod guest;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use link_ssh::{Backlog, Cutter, Wire};
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, Certificate, PrivateKey};
use russh::server::{self, RunningSession};
use russh::{Disconnect, Limits, MethodKind, MethodSet, Preferred, cipher, compression, kex, mac};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::Proxy;
use super::limits::Place;
use crate::audit::{Event, code};
use crate::auth::ca::peer::NodePeer;
use crate::resource::node::NodeSpec;
use crate::resource::user::UserSpec;
use crate::store::{Backend, Key, StoreError};
use crate::tunnel::ssh::{BOUNDS, End};
use guest::Guest;

/// From its first byte on a client has this long to authenticate (sshd's `LoginGraceTime` is 120 s;
/// nobody types a password here).
const AUTH_DEADLINE: Duration = Duration::from_secs(30);
/// Time for a disconnect with its reason to be on its way.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Keys are exchanged anew after this time, or a gigabyte. OpenSSH does not go by time at all, and
/// each exchange costs a metered link 3 kB.
const REKEY_AFTER: Duration = Duration::from_secs(24 * 3600);
/// For connections that are protected already: keys that are not used need no change.
const NEVER: Limits = Limits {
    rekey_write_limit: usize::MAX,
    rekey_read_limit: usize::MAX,
    rekey_time_limit: Duration::MAX,
};

/// The SSH server's configuration.
pub struct SshProxy {
    bare: Arc<server::Config>,
    inside_tls: Arc<server::Config>,
    proxy: Proxy,
}

/// Somebody who has not authenticated to SSH yet.
struct Stranger {
    addr: SocketAddr,
    _place: Place,
    /// Whom TLS has authenticated already.
    expected: Option<NodePeer>,
    /// A bare connection's socket: how it is tuned depends on who comes.
    socket: Option<OwnedFd>,
}

impl SshProxy {
    /// Reads the proxy's host key, or makes it at the first start, and certifies it for `host`.
    ///
    /// # Errors
    /// If the store fails or its record is damaged.
    pub async fn open(proxy: Proxy, host: &str) -> Result<Self> {
        let key = host_key(&**proxy.resources.backend()).await?;
        let certificate = proxy.authorities.issue_proxy_ssh(&key, host)?;
        let bare = server::Config {
            limits: Limits {
                rekey_time_limit: REKEY_AFTER,
                ..Limits::default()
            },
            ..config(key.clone(), certificate.clone())
        };
        let inside_tls = server::Config {
            limits: NEVER,
            preferred: Preferred {
                kex: Cow::Borrowed(&[kex::CURVE25519]),
                cipher: Cow::Borrowed(&[cipher::NONE]),
                mac: Cow::Borrowed(&[mac::NONE]),
                compression: Cow::Borrowed(&[compression::NONE]),
                ..Preferred::DEFAULT
            },
            ..config(key, certificate)
        };
        Ok(Self {
            bare: Arc::new(bare),
            inside_tls: Arc::new(inside_tls),
            proxy,
        })
    }

    /// Serves one bare connection until it ends.
    ///
    /// # Errors
    /// If the client broke the protocol or did not authenticate in time.
    pub async fn serve(&self, tcp: TcpStream, addr: SocketAddr, place: Place) -> Result<()> {
        let stranger = Stranger {
            addr,
            _place: place,
            expected: None,
            socket: Some(tcp.as_fd().try_clone_to_owned()?),
        };
        self.run(&self.bare, tcp, stranger).await
    }

    /// Serves the connection of an agent that TLS has authenticated.
    ///
    /// # Errors
    /// If the agent broke the protocol or did not authenticate in time.
    pub async fn serve_agent<S>(
        &self,
        tls: S,
        addr: SocketAddr,
        place: Place,
        expected: NodePeer,
    ) -> Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stranger = Stranger {
            addr,
            _place: place,
            expected: Some(expected),
            socket: None,
        };
        self.run(&self.inside_tls, tls, stranger).await
    }

    async fn run<S>(
        &self,
        config: &Arc<server::Config>,
        stream: S,
        stranger: Stranger,
    ) -> Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (stream, gate) = Backlog::new(stream);
        let (stream, cutter) = Wire::new(stream);
        let (login, progress) = watch::channel(Login::Silent);
        let end = End::new(gate, cutter);
        let (addr, cutter) = (stranger.addr, end.cutter.clone());
        let guest = Guest::new(self.proxy.clone(), stranger, end, login);
        let handshake = server::run_stream(Arc::clone(config), stream, guest);
        let deadline = Instant::now() + AUTH_DEADLINE;
        let session = timeout_at(deadline, handshake).await??;
        let ended = attend(session, progress.clone(), &cutter, deadline).await;
        let last = progress.borrow().clone();
        if let Login::Tried(name) = last {
            self.note_no_certificate(&name, addr).await;
        }
        ended
    }

    /// A certificate that has expired never reaches us: russh refuses it by itself. Only for users
    /// and nodes that exist, so that strangers cannot fill the audit log.
    async fn note_no_certificate(&self, name: &str, addr: SocketAddr) {
        let error = "no valid certificate was shown: it has expired, or there was none";
        tracing::debug!(%addr, error, "ssh refused");
        let resources = &self.proxy.resources;
        let event = Event::new(code::CERTIFICATE_REFUSED);
        let event = if let Ok(Some(_)) = resources.find::<UserSpec>(name).await {
            event.user(name)
        } else if let Ok(Some(node)) = resources.find::<NodeSpec>(name).await {
            event.server(name, &node.spec.hostname)
        } else {
            return;
        };
        record_refusal(&self.proxy, event, addr, error).await;
    }
}

/// Waits for the end of a connection, and ends it if nobody has authenticated in time.
async fn attend(
    mut session: RunningSession<Guest>,
    mut progress: watch::Receiver<Login>,
    cutter: &Cutter,
    deadline: Instant,
) -> Result<()> {
    let done = progress.wait_for(|login| matches!(login, Login::Done));
    let in_time = async { timeout_at(deadline, done).await.is_ok() };
    tokio::select! {
        ended = &mut session => ended,
        in_time = in_time => {
            if !in_time {
                let bye = "authentication took too long".to_owned();
                session.handle().disconnect(Disconnect::ByApplication, bye, String::new()).await.ok();
                // It should hang up now. russh waits for that, for ever.
                if let Ok(ended) = timeout(LAST_WORDS, &mut session).await {
                    return ended;
                }
                cutter.cut();
            }
            session.await
        },
    }
}

async fn record_refusal(proxy: &Proxy, event: Event, addr: SocketAddr, error: &str) {
    let event = event.field("error", error);
    let event = event.field("addr.remote", addr.to_string());
    proxy.audit.refused(event).await;
}

/// How far a client has come.
#[derive(Debug, Clone)]
enum Login {
    /// It has named nobody.
    Silent,
    /// It has named somebody, and shown nothing that was looked at.
    Tried(String),
    /// It has shown a certificate, and was told no.
    Refused,
    /// It is in; an agent, once it has opened its control channel.
    Done,
}

fn config(key: PrivateKey, certificate: Certificate) -> server::Config {
    server::Config {
        server_id: russh::SshId::Standard(
            concat!("SSH-2.0-Tether_", env!("CARGO_PKG_VERSION")).into(),
        ),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        // There is nothing to guess, so nothing to slow down.
        auth_rejection_time: Duration::ZERO,
        keys: vec![key],
        certificates: vec![certificate],
        window_size: BOUNDS.ssh_window(),
        maximum_packet_size: link_ssh::PACKET,
        // A jump may be idle for as long as the session inside it.
        inactivity_timeout: None,
        channel_buffer_size: 16,
        nodelay: true,
        ..server::Config::default()
    }
}

async fn host_key(store: &dyn Backend) -> Result<PrivateKey> {
    let key = Key::new(&["proxy", "ssh_host_key"])?;
    let made = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)?;
    let pem = made.to_openssh(LineEnding::LF)?.as_bytes().to_vec();
    match store.create(&key, pem, None).await {
        Ok(_) => Ok(made),
        Err(StoreError::Exists { .. }) => {
            let item = store
                .get(&key)
                .await?
                .context("the proxy's host key vanished")?;
            PrivateKey::from_openssh(&item.value).context("the proxy's host key is damaged")
        }
        Err(e) => Err(e.into()),
    }
}
