//! What a client of the proxy's SSH server may do, request by request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use link_ssh::tcp;
use russh::keys::Certificate;
use russh::keys::ssh_key::certificate::CertType;
use russh::server::{self, Auth, ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelId, Disconnect};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{LAST_WORDS, Login, Stranger, certificate, record_refusal};
use crate::audit::{Event, code};
use crate::auth::ca::peer::{NodePeer, UserPeer};
use crate::proxy::Proxy;
use crate::proxy::dial::Caller;
use crate::tunnel::ssh::{End, SshLink};
use crate::tunnel::stream::Stream;

/// Jumps one connection may have open.
const MAX_CHANNELS: usize = 16;

/// One client.
pub(super) struct Guest {
    proxy: Proxy,
    addr: SocketAddr,
    /// Until it has authenticated.
    stranger: Option<Stranger>,
    who: Who,
    end: End,
    login: watch::Sender<Login>,
}

enum Who {
    Nobody,
    User {
        user: UserPeer,
        room: Arc<Semaphore>,
    },
    Agent {
        node: NodePeer,
        since: Instant,
    },
    Linked,
}

impl Guest {
    pub(super) const fn new(
        proxy: Proxy,
        stranger: Stranger,
        end: End,
        login: watch::Sender<Login>,
    ) -> Self {
        Self {
            proxy,
            addr: stranger.addr,
            stranger: Some(stranger),
            who: Who::Nobody,
            end,
            login,
        }
    }

    fn check(&self, name: &str, shown: &Certificate) -> Result<Who> {
        let authorities = &self.proxy.authorities;
        let expected = self.stranger.as_ref().and_then(|s| s.expected);
        if shown.cert_type() == CertType::Host || expected.is_some() {
            let node = certificate::node(authorities, shown, name)?;
            let key = |node: NodePeer| (node.id, node.public_key);
            let same = expected.is_none_or(|expected| key(expected) == key(node));
            ensure!(same, "the certificate is for another node than that of TLS");
            let since = Instant::now();
            return Ok(Who::Agent { node, since });
        }
        let user = certificate::user(authorities, shown)?;
        let room = Arc::new(Semaphore::new(MAX_CHANNELS));
        Ok(Who::User { user, room })
    }

    fn admit(&mut self, who: Who) -> Result<()> {
        // It is no stranger any more, and gives back its place.
        let socket = self.stranger.take().and_then(|s| s.socket);
        let agent = matches!(who, Who::Agent { .. });
        match &socket {
            Some(socket) if agent => tcp::tune(socket)?,
            Some(socket) => tcp::keep_alive(socket)?,
            None => {}
        }
        if agent {
            self.end.gate.keep();
        } else {
            self.login.send_replace(Login::Done);
        }
        self.who = who;
        Ok(())
    }

    /// The link of an agent, whose control channel this is.
    fn link(&self, node: NodePeer, since: Instant, control: Stream, session: &Session) {
        let handle = session.handle();
        let link = SshLink::new(self.end.clone(), handle, self.addr, since.elapsed());
        let links = self.proxy.links.clone();
        tokio::spawn(async move { links.serve(Arc::new(link), control, node).await });
    }

    fn jump(
        &self,
        user: UserPeer,
        room: OwnedSemaphorePermit,
        channel: Channel<Msg>,
        target: String,
        reply: ChannelOpenHandle,
        handle: server::Handle,
    ) {
        let addr = self.addr;
        let (proxy, caller) = (self.proxy.clone(), Caller { user, addr });
        tokio::spawn(async move {
            let _room = room;
            match proxy.jump(&caller, &target).await {
                Ok(jump) => {
                    reply.accept().await;
                    let client = Stream::io(channel.into_stream());
                    proxy.carry_jump(client, jump).await;
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
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.end.table.end();
    }
}

impl server::Handler for Guest {
    type Error = anyhow::Error;

    async fn auth_none(&mut self, name: &str) -> Result<Auth> {
        // Every client asks this first, to learn which methods there are (RFC 4252 §5.2).
        self.named(name);
        Ok(Auth::reject())
    }

    async fn auth_openssh_certificate(&mut self, name: &str, shown: &Certificate) -> Result<Auth> {
        match self.check(name, shown) {
            Ok(who) => {
                self.admit(who)?;
                Ok(Auth::Accept)
            }
            Err(error) => {
                tracing::debug!(addr = %self.addr, %error, "ssh certificate refused");
                self.login.send_replace(Login::Refused);
                let event = Event::new(code::CERTIFICATE_REFUSED);
                let event = match shown.cert_type() {
                    CertType::User => event.user(name),
                    CertType::Host => event.server(name, ""),
                };
                record_refusal(&self.proxy, event, self.addr, &error.to_string()).await;
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
        // Dropping the reply refuses the channel.
        if let Who::User { user, room } = &self.who
            && let Ok(room) = Arc::clone(room).try_acquire_owned()
        {
            let (user, target) = (user.clone(), host.to_owned());
            self.jump(user, room, channel, target, reply, session.handle());
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<()> {
        if let Who::Agent { node, since } = self.who {
            self.who = Who::Linked;
            let control = self.end.stream(channel)?;
            reply.accept().await;
            self.link(node, since, control, session);
            self.login.send_replace(Login::Done);
        } else if let Who::User { .. } = self.who {
            let text = "the proxy offers no shell; jump through it: ssh -J USER@PROXY LOGIN@NODE";
            session.disconnect(Disconnect::ByApplication, text, "")?;
        }
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Session) -> Result<()> {
        Ok(self.end.table.data(id, data)?)
    }

    async fn extended_data(
        &mut self,
        id: ChannelId,
        kind: u32,
        data: &[u8],
        _: &mut Session,
    ) -> Result<()> {
        Ok(self.end.table.extended(id, kind, data)?)
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<()> {
        self.end.table.eof(id);
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<()> {
        self.end.table.close(id);
        Ok(())
    }
}

impl Guest {
    fn named(&self, name: &str) {
        let silent = matches!(*self.login.borrow(), Login::Silent);
        if silent {
            self.login.send_replace(Login::Tried(name.to_owned()));
        }
    }
}
