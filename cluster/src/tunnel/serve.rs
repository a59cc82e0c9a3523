//! The cluster's side of the control protocol, over any transport.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bytes::Bytes;
use protocol::error::{CloseCode, DecodeError};
use protocol::identity::NodeId;
use protocol::message::control::{Hello, Refusal, ToAgent, ToCluster, Welcome};
use protocol::message::join::{Certificates, Trust};
use protocol::message::version::SPOKEN;
use protocol::message::{Blob, Text};
use tokio::sync::mpsc;

use super::Transport;
use super::presence::Presence;
use super::pulse::{Look, Pulse};
use super::registry::{About, CONTROL_QUEUE, Live, Registry};
use super::stream::{FrameError, ReadHalf, Stream, WriteHalf, frame_bytes};
use crate::audit::{Audit, Event, code};
use crate::auth::ca::{Authorities, Issued};
use crate::auth::join::{Enrolled, Join, JoinError};
use crate::resource::labels::{self, Labels};

/// An agent must say Hello within this time.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);
/// The longest silence that agents may choose: so long a dead node may pass for a live one.
const KEEPALIVE_S: u16 = 1200;
/// Time for a refusal to reach the agent before the connection is closed.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What the control protocol needs of the rest of the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Links {
    /// Live links.
    pub registry: Registry,
    /// Nodes and their certificates.
    pub join: Join,
    /// What is remembered of nodes that are away.
    pub presence: Presence,
    /// Where refusals are written down.
    pub audit: Audit,
}

/// Why a link ended, in a few words for `tsh ls -v`.
type Reason = String;

impl Links {
    /// Serves one link until it ends.
    pub async fn serve(
        &self,
        transport: Arc<dyn Transport>,
        mut control: Stream,
        id: NodeId,
        public_key: [u8; 32],
    ) {
        match self.greet(&transport, &mut control, id, &public_key).await {
            Ok((live, outgoing)) => {
                let node = live.node;
                tracing::info!(%node, addr = %transport.remote(), link = transport.kind(), "node up");
                self.presence.up(&live);
                let reason = self.talk(&live, control, outgoing).await;
                if self.registry.remove(&live) {
                    tracing::info!(%node, reason, "node down");
                    self.presence.down(&live, reason);
                    live.close(CloseCode::Done);
                } else {
                    tracing::info!(%node, reason, "link ended that the node had left");
                }
            }
            Err(error) => {
                tracing::info!(node = %id, addr = %transport.remote(), error = format!("{error:#}"), "link refused");
            }
        }
        transport.close(CloseCode::Done);
    }

    async fn greet(
        &self,
        transport: &Arc<dyn Transport>,
        control: &mut Stream,
        id: NodeId,
        public_key: &[u8; 32],
    ) -> Result<(Arc<Live>, mpsc::Receiver<Bytes>)> {
        let mut buffer = Vec::new();
        let hello = control.read.frame::<ToCluster<'_>>(&mut buffer);
        let hello = match tokio::time::timeout(HELLO_DEADLINE, hello)
            .await
            .context("no Hello")??
        {
            ToCluster::Hello(hello) => hello,
            _ => anyhow::bail!("the first message was not a Hello"),
        };
        let node = match self.join.known(id, public_key).await {
            Ok(node) => node,
            Err(error) => return Err(self.turn_away(control, id, &**transport, error).await),
        };
        let Some(version) = SPOKEN.common(hello.versions) else {
            let text = "this cluster and this agent have no protocol version in common; upgrade the older of the two";
            let error = JoinError::Refused {
                reason: Refusal::Version,
                text: text.into(),
            };
            return Err(self.turn_away(control, id, &**transport, error).await);
        };
        let authorities = &self.join.authorities;
        control
            .write
            .frame(&welcome(
                version,
                &authorities.cluster,
                &node.spec.hostname,
            )?)
            .await?;
        if hello.trust_serial != TRUST_SERIAL {
            control.write.send(trust_changed(authorities)?).await?;
        }
        let about = about(&hello)?;
        let (sender, outgoing) = mpsc::channel(CONTROL_QUEUE);
        Ok((
            self.registry.add(id, Arc::clone(transport), sender, about),
            outgoing,
        ))
    }

    async fn turn_away(
        &self,
        control: &mut Stream,
        id: NodeId,
        transport: &dyn Transport,
        error: JoinError,
    ) -> anyhow::Error {
        let (reason, text) = reason_and_text(&error);
        let event = Event::new(code::NODE_REFUSED).server(&id.to_string(), "");
        let addr = transport.remote().to_string();
        self.audit
            .record(
                event
                    .field("error", text.clone())
                    .field("addr.remote", addr),
            )
            .await;
        let refused = ToAgent::Refused {
            reason,
            retry_after_s: 0,
            text: Text::cut(&text),
        };
        if control.write.frame(&refused).await.is_ok() {
            control.write.finish().await;
            control.write.delivered(LAST_WORDS).await;
        }
        error.into()
    }

    async fn talk(
        &self,
        live: &Live,
        mut control: Stream,
        mut outgoing: mpsc::Receiver<Bytes>,
    ) -> Reason {
        let mut incoming = Incoming::new(control.read);
        let allowed = Duration::from_secs(u64::from(KEEPALIVE_S));
        let mut pulse = Pulse::new(allowed);
        let mut addr = live.transport.remote();
        loop {
            let step = tokio::select! {
                frame = outgoing.recv() => match frame {
                    Some(frame) => control.write.send(frame).await.map(|()| Next::GoOn).map_err(Into::into),
                    None => return "closed by the cluster".into(),
                },
                body = incoming.body() => match body {
                    Ok(body) => {
                        self.seen(live, &mut pulse);
                        self.answer(live, &mut pulse, &mut control.write, body).await
                    }
                    Err(error) => Err(error.into()),
                },
                () = live.transport.sign() => {
                    self.seen(live, &mut pulse);
                    Ok(Next::GoOn)
                }
                () = tokio::time::sleep_until(pulse.deadline()) => {
                    match self.look(live, &mut pulse) {
                        Look::Gone => return SILENT.into(),
                        Look::Silent if self.is_lost(live) => return SILENT.into(),
                        Look::Settled | Look::Alive | Look::Silent => Ok(Next::GoOn),
                    }
                }
            };
            let now = live.transport.remote();
            let step = match step {
                Ok(Next::GoOn) if now != addr => {
                    addr = now;
                    self.rebound(live, &mut control.write).await
                }
                step => step,
            };
            match step {
                Ok(Next::GoOn) => {}
                Ok(Next::Goodbye) => return "agent stopped".into(),
                Err(error) => return lost(&error),
            }
        }
    }

    fn seen(&self, live: &Live, pulse: &mut Pulse) {
        live.seen();
        if pulse.seen() {
            tracing::info!(node = %live.node, "node heard again");
            self.up(live);
        }
    }

    fn look(&self, live: &Live, pulse: &mut Pulse) -> Look {
        let look = pulse.look(live.transport.heard());
        match look {
            Look::Alive => self.seen(live, pulse),
            Look::Silent if self.registry.is_current(live) => {
                tracing::info!(node = %live.node, "node silent");
                live.fell_silent();
                self.presence.down(live, SILENT.into());
            }
            Look::Settled | Look::Silent | Look::Gone => {}
        }
        look
    }

    /// Whether silence ends a link. One that the agent has left is silent while its streams are, and
    /// only goes when nothing speaks for it any more.
    fn is_lost(&self, live: &Live) -> bool {
        !live.transport.outlives_silence() && self.registry.is_current(live)
    }

    /// Notes what is known of a node now.
    fn up(&self, live: &Live) {
        if self.registry.is_current(live) {
            self.presence.up(live);
        }
    }

    /// The agent calls from another address: it has moved, or a NAT on the way forgot it.
    async fn rebound(&self, live: &Live, write: &mut WriteHalf) -> Result<Next> {
        let addr = live.transport.remote().to_string();
        tracing::info!(node = %live.node, addr, "node calls from another address");
        self.up(live);
        let addr = Text::cut(&addr);
        write.frame(&ToAgent::Rebound { addr }).await?;
        Ok(Next::GoOn)
    }

    async fn answer(
        &self,
        live: &Live,
        pulse: &mut Pulse,
        write: &mut WriteHalf,
        body: &[u8],
    ) -> Result<Next> {
        match protocol::message::decode(body) {
            Ok(ToCluster::Heartbeat { seq }) => {
                write.frame(&ToAgent::HeartbeatAck { seq }).await?;
            }
            Ok(ToCluster::LabelsChanged(changed)) => {
                live.relabel(own_labels(&changed)?);
                self.up(live);
            }
            Ok(ToCluster::Renew { generation }) => self.renew(live, write, generation).await?,
            Ok(ToCluster::Goodbye) => return Ok(Next::Goodbye),
            Ok(ToCluster::Hello(_)) => anyhow::bail!("protocol error: a second Hello"),
            Ok(ToCluster::Keepalive { interval_s }) => {
                pulse.allow(Duration::from_secs(u64::from(interval_s)));
            }
            Ok(ToCluster::Moving) => live.moves(),
            Err(DecodeError::UnknownVariant) => {}
            Err(error) => {
                live.transport.close(error.into());
                anyhow::bail!("protocol error: {error}");
            }
        }
        Ok(Next::GoOn)
    }

    async fn renew(&self, live: &Live, write: &mut WriteHalf, generation: u32) -> Result<()> {
        match self.join.renew(live.node, generation, None).await {
            Ok(node) => {
                let (ssh, x509) = encoded(&node.issued)?;
                let certificates = certificates(&node, &ssh, &x509)?;
                Ok(write.frame(&ToAgent::Renewed(certificates)).await?)
            }
            Err(error) => {
                let (reason, text) = reason_and_text(&error);
                let text = Text::cut(&text);
                Ok(write
                    .frame(&ToAgent::Refused {
                        reason,
                        retry_after_s: 0,
                        text,
                    })
                    .await?)
            }
        }
    }
}

/// Serial of the trust bundle: CAs do not rotate yet.
pub const TRUST_SERIAL: u32 = 1;

/// Why a link ended whose agent was heard no more.
const SILENT: &str = "link lost: no sign of life";

enum Next {
    GoOn,
    Goodbye,
}

/// Reads frames in a way that `select!` may interrupt: what has arrived is kept.
struct Incoming {
    read: ReadHalf,
    buffer: Vec<u8>,
    filled: usize,
}

impl Incoming {
    fn new(read: ReadHalf) -> Self {
        Self {
            read,
            buffer: Vec::new(),
            filled: 0,
        }
    }

    async fn body(&mut self) -> Result<&[u8], FrameError> {
        use protocol::message::frame::{HEADER, body_length};
        use tokio::io::AsyncReadExt;
        loop {
            let wanted = match self.buffer.first_chunk::<HEADER>() {
                Some(header) if self.filled >= HEADER => HEADER + body_length(*header)?,
                _ => HEADER,
            };
            if self.filled == wanted && wanted > HEADER {
                self.filled = 0;
                return Ok(self.buffer.get(HEADER..wanted).unwrap_or_default());
            }
            self.buffer.resize(wanted.max(HEADER), 0);
            let Some(room) = self.buffer.get_mut(self.filled..wanted) else {
                return Err(DecodeError::Length.into());
            };
            match self.read.read(room).await? {
                0 => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
                read => self.filled += read,
            }
        }
    }
}

/// The reason and sentence an agent is given for an error.
#[must_use]
pub fn reason_and_text(error: &JoinError) -> (Refusal, String) {
    match error {
        JoinError::Refused { reason, text } => (*reason, text.clone()),
        JoinError::Internal(cause) => {
            tracing::error!(error = format!("{cause:#}"), "a node could not be served");
            (Refusal::Internal, error.to_string())
        }
    }
}

/// Both certificates as bytes.
///
/// # Errors
/// If the SSH form cannot be encoded.
pub fn encoded(issued: &Issued) -> Result<(Vec<u8>, Vec<u8>)> {
    Ok((issued.ssh.to_bytes()?, issued.x509.to_vec()))
}

/// The message that carries a node's certificates.
///
/// # Errors
/// If a certificate is larger than agents accept.
pub fn certificates<'a>(
    node: &Enrolled,
    ssh: &'a [u8],
    x509: &'a [u8],
) -> Result<Certificates<'a>> {
    Ok(Certificates {
        generation: node.generation,
        not_before_s: unix(node.issued.not_before),
        not_after_s: unix(node.issued.not_after),
        ssh: Blob::new(ssh).context("SSH certificate too large")?,
        x509: Blob::new(x509).context("X.509 certificate too large")?,
    })
}

/// The message that carries the CAs.
///
/// # Errors
/// If a CA is larger than agents accept.
pub fn trust(authorities: &Authorities) -> Result<Trust<'_>> {
    let raw = |key: &russh::keys::PrivateKey| {
        let key = key
            .public_key()
            .key_data()
            .ed25519()
            .context("a CA's SSH key is not Ed25519")?;
        anyhow::Ok(key.0)
    };
    Ok(Trust {
        serial: TRUST_SERIAL,
        host_ca_x509: Blob::new(&authorities.host.certificate).context("host CA too large")?,
        host_ca_ssh: raw(&authorities.host.ssh)?,
        user_ca_ssh: raw(&authorities.user.ssh)?,
    })
}

/// Seconds since the Unix epoch.
#[must_use]
pub fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn welcome<'a>(version: u16, cluster: &'a str, node_name: &'a str) -> Result<ToAgent<'a>> {
    Ok(ToAgent::Welcome(Welcome {
        version,
        time_s: unix(SystemTime::now()),
        cluster: Text::new(cluster).context("cluster name too long")?,
        node_name: Text::new(node_name).context("node name too long")?,
        keepalive_s: KEEPALIVE_S,
    }))
}

fn trust_changed(authorities: &Authorities) -> Result<Bytes> {
    Ok(frame_bytes(&ToAgent::TrustChanged(trust(authorities)?))?)
}

fn about(hello: &Hello<'_>) -> Result<About> {
    Ok(About {
        labels: own_labels(&hello.labels)?,
        agent_version: hello.agent_version.as_str().into(),
        os: hello.inventory.os.as_str().into(),
        arch: hello.inventory.arch.as_str().into(),
        kernel: hello.inventory.kernel.as_str().into(),
        only_login: hello.only_login.map(|l| l.as_str().into()),
    })
}

fn own_labels(sent: &protocol::message::Labels<'_>) -> Result<Labels> {
    let checked = sent.iter().map(|label| {
        labels::check(&label.key, &label.value).map_err(anyhow::Error::msg)?;
        Ok((label.key.as_str().into(), label.value.as_str().into()))
    });
    checked.collect()
}

fn lost(error: &anyhow::Error) -> Reason {
    let text = format!("{error:#}");
    if text.contains("timed out") {
        SILENT.into()
    } else {
        format!("link lost: {text}")
    }
}
