//! The proxy's own SSH server: what `ssh -J` jumps through.
//!
//! It accepts user certificates and `direct-tcpip` channels to nodes, and nothing else: no shell,
//! no forwarding elsewhere. The bytes on a channel are another SSH connection, end to end between
//! client and node, which the proxy cannot read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, PrivateKey};
use russh::server::{self, Auth, ChannelOpenHandle, Msg, Session};
use russh::{Channel, Disconnect, MethodKind, MethodSet};
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Proxy;
use super::dial::Caller;
use super::limits::Place;
use crate::audit::{Event, code};
use crate::auth::ca::peer::{UserPeer, fingerprint};
use crate::resource::user::UserSpec;
use crate::store::{Backend, Key, StoreError};
use crate::tunnel::stream::Stream;

/// A client must be authenticated within this time (sshd's `LoginGraceTime` is 120 s; nobody types
/// a password here).
const AUTH_DEADLINE: Duration = Duration::from_secs(30);
/// Time for a disconnect with its reason to be on its way.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Nodes one connection may jump to.
const MAX_CHANNELS: usize = 16;

/// The SSH server's configuration.
pub struct SshProxy {
    config: Arc<server::Config>,
    proxy: Proxy,
}

impl SshProxy {
    /// Reads the proxy's host key, or makes it at the first start, and certifies it for `host`.
    ///
    /// # Errors
    /// If the store fails or its record is damaged.
    pub async fn open(proxy: Proxy, host: &str) -> Result<Self> {
        let key = host_key(&**proxy.resources.backend()).await?;
        let certificate = proxy.authorities.issue_proxy_ssh(&key, host)?;
        let config = server::Config {
            server_id: russh::SshId::Standard(
                concat!("SSH-2.0-Tether_", env!("CARGO_PKG_VERSION")).into(),
            ),
            methods: MethodSet::from(&[MethodKind::PublicKey][..]),
            // There is nothing to guess, so nothing to slow down.
            auth_rejection_time: Duration::ZERO,
            keys: vec![key],
            certificates: vec![certificate],
            // A jump may be idle for as long as the session inside it.
            inactivity_timeout: None,
            channel_buffer_size: 16,
            nodelay: true,
            ..server::Config::default()
        };
        Ok(Self {
            config: Arc::new(config),
            proxy,
        })
    }

    /// Serves one connection until it ends.
    ///
    /// # Errors
    /// If the client broke the protocol or did not authenticate in time.
    pub async fn serve(&self, tcp: TcpStream, addr: SocketAddr, place: Place) -> Result<()> {
        let (login, mut progress) = watch::channel(Login::Silent);
        let handler = Jump {
            proxy: self.proxy.clone(),
            addr,
            user: None,
            channels: 0,
            login,
            place: Some(place),
        };
        let handshake = server::run_stream(Arc::clone(&self.config), tcp, handler);
        let mut session = tokio::time::timeout(AUTH_DEADLINE, handshake).await??;
        let seen = progress.clone();
        let done = progress.wait_for(|login| matches!(login, Login::Done));
        let in_time = async { tokio::time::timeout(AUTH_DEADLINE, done).await.is_ok() };
        let ended = tokio::select! {
            ended = &mut session => ended,
            in_time = in_time => {
                if !in_time {
                    let bye = "authentication took too long".to_owned();
                    session.handle().disconnect(Disconnect::ByApplication, bye, String::new()).await.ok();
                }
                session.await
            },
        };
        let last = seen.borrow().clone();
        if let Login::Tried(user) = last {
            self.note_no_certificate(&user, addr).await;
        }
        ended
    }

    /// A certificate that has expired never reaches us: russh refuses it by itself. Only for users
    /// that exist, so that strangers cannot fill the audit log.
    async fn note_no_certificate(&self, user: &str, addr: SocketAddr) {
        let error = "no valid certificate was shown: it has expired, or there was none";
        tracing::info!(%addr, error, "ssh refused");
        if let Ok(Some(_)) = self.proxy.resources.find::<UserSpec>(user).await {
            refused(&self.proxy, user, addr, error).await;
        }
    }
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
    /// It is in.
    Done,
}

struct Jump {
    proxy: Proxy,
    addr: SocketAddr,
    user: Option<UserPeer>,
    channels: usize,
    login: watch::Sender<Login>,
    place: Option<Place>,
}

impl Jump {
    /// russh has verified signature, validity and possession; whose signature it is, is ours.
    fn check(&self, certificate: &Certificate) -> Result<UserPeer> {
        let authorities = &self.proxy.authorities;
        let ca = authorities.user.ssh.public_key().key_data();
        anyhow::ensure!(
            certificate.signature_key() == ca,
            "the certificate is of another CA"
        );
        anyhow::ensure!(
            certificate.cert_type() == CertType::User,
            "not a user certificate"
        );
        anyhow::ensure!(
            certificate.critical_options().is_empty(),
            "unknown critical option"
        );
        let not_after = i64::try_from(certificate.valid_before())?;
        Ok(UserPeer {
            name: certificate.key_id().to_owned(),
            fingerprint: fingerprint(&certificate.public_key().clone().into()),
            not_after: OffsetDateTime::from_unix_timestamp(not_after)?,
        })
    }
}

async fn refused(proxy: &Proxy, user: &str, addr: SocketAddr, error: &str) {
    let event = Event::new(code::CERTIFICATE_REFUSED)
        .user(user)
        .field("error", error);
    let event = event.field("addr.remote", addr.to_string());
    proxy.audit.record(event).await;
}

impl server::Handler for Jump {
    type Error = anyhow::Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth> {
        // Every client asks this first, to learn which methods there are (RFC 4252 §5.2).
        let silent = matches!(*self.login.borrow(), Login::Silent);
        if silent {
            self.login.send_replace(Login::Tried(user.to_owned()));
        }
        Ok(Auth::reject())
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth> {
        match self.check(certificate) {
            Ok(peer) => {
                self.user = Some(peer);
                self.place = None;
                self.login.send_replace(Login::Done);
                Ok(Auth::Accept)
            }
            Err(error) => {
                tracing::info!(addr = %self.addr, %error, "ssh certificate refused");
                self.login.send_replace(Login::Refused);
                refused(&self.proxy, user, self.addr, &error.to_string()).await;
                Ok(Auth::reject())
            }
        }
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        _port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<()> {
        let Some(user) = self.user.clone() else {
            return Ok(());
        };
        self.channels += 1;
        if self.channels > MAX_CHANNELS {
            return Ok(());
        }
        let caller = Caller {
            user,
            addr: self.addr,
        };
        let (proxy, target, handle) = (self.proxy.clone(), host.to_owned(), session.handle());
        tokio::spawn(async move {
            match proxy.dial(&caller, &target, None).await {
                Ok(dialled) => {
                    reply.accept().await;
                    proxy
                        .carry(Stream::io(channel.into_stream()), dialled)
                        .await;
                }
                Err(refused) => {
                    // A failed channel shows no reason in OpenSSH; a disconnect does.
                    let reason = Disconnect::ByApplication;
                    handle
                        .disconnect(reason, refused.text, String::new())
                        .await
                        .ok();
                    // Dropping the reply fails the channel, and would overtake the disconnect.
                    tokio::time::sleep(LAST_WORDS).await;
                    drop(reply);
                }
            }
        });
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        _reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<()> {
        let text = "the proxy offers no shell; jump through it: ssh -J USER@PROXY LOGIN@NODE";
        session.disconnect(Disconnect::ByApplication, text, "")?;
        Ok(())
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
