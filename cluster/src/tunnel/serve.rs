//! The cluster's side of the control protocol, over any transport.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bytes::Bytes;
use protocol::error::{CloseCode, DecodeError};
use protocol::message::control::{Refusal, ToAgent, ToCluster};
use protocol::message::join::{Certificates, Trust};
use protocol::message::{Blob, Text};
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::Transport;
use super::live::{Done, Live};
use super::presence::Presence;
use super::pulse::{Look, Pulse};
use super::registry::{REPLACED, Registry};
use super::stream::{FrameError, ReadHalf, Stream, WriteHalf};
use crate::audit::Audit;
use crate::auth::ca::peer::NodePeer;
use crate::auth::ca::{Authorities, Issued};
use crate::auth::join::{Enrolled, Join, JoinError};
use crate::proxy::dial::ended;
use crate::proxy::sessions::Sessions;
use crate::resource::labels::{self, Labels};
use crate::resource::user::UserSpec;

/// The longest silence that agents may choose: so long a dead node may pass for a live one.
pub(super) const KEEPALIVE_S: u16 = 1200;
/// Time for the last frames to reach an agent when the cluster stops.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Time for an agent to leave a link without streams by itself.
const LEFT: Duration = Duration::from_secs(10);
/// A link that was replaced may carry its streams on for this long.
const RETIRED: Duration = Duration::from_secs(24 * 3600);

/// What the control protocol needs of the rest of the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Links {
    /// Live links.
    pub registry: Registry,
    /// Nodes and their certificates.
    pub join: Join,
    /// What is remembered of nodes that are away.
    pub presence: Presence,
    /// Sessions, which only agents know to be over.
    pub sessions: Sessions,
    /// Where refusals are written down.
    pub audit: Audit,
}

/// Why a link ended, in a few words for `tsh ls -v`.
type Reason = String;

impl Links {
    /// Serves one link until it ends.
    pub async fn serve(&self, transport: Arc<dyn Transport>, mut control: Stream, peer: NodePeer) {
        match self.greet(&transport, &mut control, &peer).await {
            Ok((live, outgoing)) => tokio::select! {
                () = self.hold(&live, control, outgoing) => {}
                never = live.attend() => match never {},
            },
            Err(error) => {
                tracing::info!(node = %peer.id, addr = %transport.remote(), error = format!("{error:#}"), "no link came of a connection");
            }
        }
        transport.close(CloseCode::Done);
    }

    /// Serves a link that was welcomed.
    async fn hold(&self, live: &Arc<Live>, control: Stream, outgoing: mpsc::Receiver<Bytes>) {
        let (node, transport) = (live.node, &live.transport);
        tracing::info!(%node, addr = %transport.remote(), link = transport.kind(), "node up");
        self.presence.up(live);
        let ended = self.talk(live, control, outgoing).await;
        let reason = live.closed().map_or(ended, Into::into);
        if live.is_retired() {
            tracing::info!(%node, reason, "link ended that the node had left");
            // The agent speaks on its new link; here only streams are left.
            tokio::time::timeout(RETIRED, live.done()).await.ok();
        }
        if self.registry.remove(live) {
            tracing::info!(%node, reason, "node down");
            self.presence.down(live, reason);
        }
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
        for session_id in self.sessions.to_end(live.node) {
            let ends = ToAgent::EndSession { session_id };
            if let Err(error) = control.write.frame(&ends).await {
                return lost(&error.into());
            }
        }
        loop {
            let step = tokio::select! {
                done = live.done() => return match done {
                    Done::Leave => last_words(live, &mut control.write, &mut outgoing).await,
                    Done::Replaced => replaced(live, &mut incoming).await,
                    Done::Abandoned => abandoned(live),
                },
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
                        Look::Silent if !live.transport.outlives_silence() => return SILENT.into(),
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

    /// Notes what is known of a node now, unless that is another link's to tell.
    fn up(&self, live: &Live) {
        if !live.is_retired() {
            self.presence.up(live);
        }
    }

    fn look(&self, live: &Live, pulse: &mut Pulse) -> Look {
        let look = pulse.look(live.transport.heard());
        match look {
            Look::Alive => self.seen(live, pulse),
            Look::Silent if !live.is_retired() => {
                tracing::info!(node = %live.node, "node silent");
                live.fell_silent();
                self.presence.down(live, SILENT.into());
            }
            Look::Settled | Look::Silent | Look::Gone => {}
        }
        look
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
            Ok(ToCluster::SessionEnded { session_id }) => {
                for over in self.sessions.over(session_id, live.node) {
                    let told = self.audit.record(ended(&over));
                    tokio::join!(told, self.sessions.write(&self.join.resources));
                }
            }
            Ok(ToCluster::Keeps { user }) => {
                if self.is_shut_out(&user).await {
                    write.frame(&ToAgent::EndUser { user }).await?;
                }
            }
            Err(DecodeError::UnknownVariant) => {}
            Err(error) => {
                live.transport.close(error.into());
                anyhow::bail!("protocol error: {error}");
            }
        }
        Ok(Next::GoOn)
    }

    /// Whether a user may not go on with what an agent keeps.
    async fn is_shut_out(&self, user: &str) -> bool {
        let now = OffsetDateTime::now_utc();
        if self.join.locks.read().of_user(user, now).is_some() {
            return true;
        }
        let stored = self.join.resources.find::<UserSpec>(user).await;
        // A store that fails proves nothing.
        stored.is_ok_and(|user| user.is_none())
    }

    async fn renew(&self, live: &Live, write: &mut WriteHalf, generation: u32) -> Result<()> {
        let addr = live.transport.remote().to_string();
        match self.join.renew(live.node, generation, &addr, None).await {
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

/// Ends a link that another one has taken the place of. The agent does so by itself once it has
/// heard that, which it may not have yet.
async fn replaced(live: &Live, incoming: &mut Incoming) -> Reason {
    let left = async { while incoming.body().await.is_ok() {} };
    tokio::time::timeout(LEFT, left).await.ok();
    abandoned(live)
}

/// Ends a link whose agent has another one, and has not moved there.
fn abandoned(live: &Live) -> Reason {
    live.close(CloseCode::Replaced, REPLACED);
    REPLACED.into()
}

/// Ends the control stream of a link that has nothing left to do, in a way that what was queued
/// before is delivered.
async fn last_words(
    live: &Live,
    write: &mut WriteHalf,
    outgoing: &mut mpsc::Receiver<Bytes>,
) -> Reason {
    while let Ok(frame) = outgoing.try_recv() {
        if write.send(frame).await.is_err() {
            break;
        }
    }
    write.finish().await;
    write.delivered(LAST_WORDS).await;
    live.transport.close(CloseCode::Draining);
    "the cluster was stopped".into()
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

pub(super) fn own_labels(sent: &protocol::message::Labels<'_>) -> Result<Labels> {
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
