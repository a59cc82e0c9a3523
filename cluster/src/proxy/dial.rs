//! From a user's request to a stream on a node.
//!
//! The proxy decides here and nowhere else: who the user is comes from a certificate that is
//! verified already, what the user may do is read from the store at every dial, so that a removed
//! user or a changed role counts at once.

mod decide;
pub mod jump;
mod refusal;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use protocol::identity::NodeId;
use protocol::message::dial::{
    DialHeader, DialRefusal, DialReply, LinkRequest, MAX_LOGINS, OpeningBytes, Permits,
    ResumableDial,
};
use protocol::message::version::RESUMABLE;
use protocol::message::{Blob, Text};
use protocol::resume::Reason;
use protocol::resume::frame::{Frame, Opening};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout, timeout_at};

use super::Proxy;
use super::directory::Node;
use super::sessions::{About, Guard, Left, Listed, SessionId, holder};
use super::splice::{Moved, splice};
use crate::audit::{Code, Event, code, rfc3339};
use crate::auth::ca::peer::UserPeer;
use crate::tunnel::live::{Live, OpenStream};
use crate::tunnel::serve::unix;
use crate::tunnel::stream::Stream;

use decide::Permit;
pub(super) use decide::made_anew;
pub use refusal::Refused;
use refusal::{internal, is_passing, offline, refused, silent};

/// A node must answer a dial within this time, or it counts as offline.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// What an agent says at least that knows a session; it takes two bytes to say that it does not.
const LEAST_ANSWER: usize = 3;

/// Who dials.
#[derive(Clone)]
pub struct Caller {
    /// From the certificate.
    pub user: UserPeer,
    /// From where.
    pub addr: SocketAddr,
}

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Wish<'a> {
    /// The node, as the user calls it.
    pub target: &'a str,
    /// OS user, if known.
    pub login: Option<&'a str>,
    /// By what stream.
    pub way: Way<'a>,
}

/// Whether a stream outlives its links, and who has the client's end of it.
#[derive(Debug, Clone, Copy)]
pub enum Way<'a> {
    /// It ends with what carries it.
    Plain,
    /// The client; this is what it says to the agent's end.
    Client(&'a [u8]),
    /// This process, for a client that knows nothing of it.
    Here(&'a [u8]),
}

impl<'a> Way<'a> {
    const fn opening(self) -> Option<&'a [u8]> {
        match self {
            Self::Plain => None,
            Self::Client(opening) | Self::Here(opening) => Some(opening),
        }
    }
}

/// An open stream to a node's SSH server.
pub struct Dialled {
    stream: Stream,
    /// The link stays for as long as it carries this.
    open: OpenStream,
    session: Guard,
    /// Whether the session starts with this stream.
    starts: bool,
    about: About,
    caller: Caller,
}

impl Proxy {
    /// Opens a stream to a node, if the caller may; the audit log says either way.
    ///
    /// # Errors
    /// The refusal, as the user should see it.
    pub async fn dial(&self, caller: &Caller, wish: Wish<'_>) -> Result<Dialled, Refused> {
        let result = self.try_dial(caller, wish).await;
        match &result {
            Ok(dialled) => {
                // Whether there is a session to come back to, the agent has yet to say.
                if dialled.starts {
                    let written = self.audit.require(dialled.event(code::SESSION_START));
                    let (written, ()) = tokio::join!(written, self.write_sessions());
                    written.map_err(internal)?;
                }
            }
            // The client asks again, at once without what made it impossible, or later.
            Err(refused) if refused.reason == DialRefusal::NotResumable => {
                tracing::info!(
                    user = caller.user.name,
                    reason = refused.text,
                    "a session will not outlive its link"
                );
            }
            Err(refused) if returns_to(wish).is_some() && is_passing(refused.reason) => {}
            Err(refused) => {
                if let Some(id) = returns_to(wish) {
                    // Nobody else may come back to it, so it is over.
                    let holder = holder(&caller.user);
                    self.end_sessions(|known, about| known == id && about.holder() == holder);
                }
                let login = wish.login.unwrap_or_default();
                let (id, name) = self.named(wish.target);
                let server = (id.as_str(), name.as_str());
                self.record_refusal(caller, server, login, &refused.text)
                    .await;
            }
        }
        result
    }

    /// Lets the agent say whether it knows the session that somebody comes back to; gives the reason
    /// if it does not take them in.
    async fn welcome(
        &self,
        client: &mut Stream,
        dialled: &mut Dialled,
    ) -> io::Result<Option<Reason>> {
        let mut answer = Vec::new();
        while let Some(bytes) = dialled.stream.read.chunk().await? {
            let missing = LEAST_ANSWER.saturating_sub(answer.len());
            answer.extend(bytes.iter().take(missing));
            client.write.send(bytes).await?;
            if answer.len() >= LEAST_ANSWER {
                return Ok(None);
            }
        }
        Ok(Some(match Frame::decode(&answer) {
            Ok(Frame::Reset(reason)) => reason,
            _ => Reason::Misbehaved,
        }))
    }

    /// Moves bytes until the stream ends by itself or the session is ended.
    pub async fn carry(&self, mut client: Stream, mut dialled: Dialled) {
        if dialled.starts {
            return self.carry_on(client, dialled).await;
        }
        let welcome = self.welcome(&mut client, &mut dialled);
        match timeout(ANSWER_DEADLINE, welcome).await {
            Ok(Ok(None)) => {
                let replaces = dialled.session.begin();
                let event = dialled.event(code::SESSION_ATTACHED);
                // The stream before it has not ended, mostly on a link that has gone dark: then this
                // was the detachment.
                let replaced = replaces.then(|| dialled.event_of_session(code::SESSION_DETACHED));
                let told = async {
                    if let Some(event) = replaced {
                        self.audit.record(event).await;
                    }
                    self.audit.record(event).await;
                };
                // Both ends are waiting, and need not wait for the disk as well.
                tokio::join!(told, self.write_sessions(), self.carry_on(client, dialled));
            }
            Ok(Ok(Some(reason))) => {
                client.write.finish().await;
                self.not_taken_in(dialled, reason).await;
            }
            // Whichever side broke, the client asks again.
            Ok(Err(_)) | Err(_) => {}
        }
    }

    /// The agent does not take in who comes back to a session.
    async fn not_taken_in(&self, dialled: Dialled, reason: Reason) {
        // Anything else is told to who has the session: it is over, or they should try again.
        if reason == Reason::Gone {
            let about = &dialled.about;
            let (id, text) = (about.node.to_string(), "there is no such session of yours");
            let server = (id.as_str(), about.hostname.as_str());
            self.record_refusal(&dialled.caller, server, &about.login, text)
                .await;
        }
    }

    async fn carry_on(&self, client: Stream, dialled: Dialled) {
        let mut moved = Moved::default();
        let Dialled {
            stream,
            open: _open,
            session,
            about,
            caller,
            ..
        } = dialled;
        self.metrics.sessions.inc();
        tokio::select! {
            // A client that vanishes breaks its stream: nothing to report beyond the end.
            done = splice(client, stream, session.outlives(), &mut moved) => {
                if let Err(error) = done {
                    tracing::debug!(%error, "session broke");
                }
            }
            () = session.is_over() => tracing::debug!("the client is gone, and the session is over"),
            () = session.ended() => tracing::info!(user = about.user, "session ended by the cluster"),
            () = session.leaving() => {}
        }
        self.metrics.sessions.dec();
        self.metrics.bytes.inc_by(moved.sent + moved.received);
        let id = session.id;
        let _busy = self.sessions.busy();
        let event = match session.leave(moved).await {
            Left::Over(listed) => ended(&listed),
            Left::Detached => event(code::SESSION_DETACHED, id, &about),
            Left::Replaced => return,
        };
        let addr = caller.addr.to_string();
        let told = self.audit.record(event.field("addr.remote", addr));
        tokio::join!(told, self.write_sessions());
    }

    /// The next process is to know what the audit log tells.
    async fn write_sessions(&self) {
        self.sessions.write(&self.resources).await;
    }

    async fn try_dial(&self, caller: &Caller, wish: Wish<'_>) -> Result<Dialled, Refused> {
        let (node, permit) = self.decide(caller, wish).await?;
        if self.sessions.is_leaving() {
            let text = "the cluster is being restarted; try again in a moment";
            return Err(refused(DialRefusal::Busy, text));
        }
        self.reach(caller, wish, &node, &permit).await
    }

    /// Asks the node, once it is decided that the caller may.
    async fn reach(
        &self,
        caller: &Caller,
        wish: Wish<'_>,
        node: &Node,
        permit: &Permit,
    ) -> Result<Dialled, Refused> {
        let about = About {
            user: caller.user.name.clone(),
            user_id: caller.user.id,
            node: node.id,
            hostname: node.spec.hostname.clone(),
            login: wish.login.unwrap_or_default().to_owned(),
        };
        let (mut session, starts) = match wish.way.opening() {
            None => (self.sessions.enter(about.clone()), true),
            Some(opening) => self.keep(wish.way, opening, &about, permit.resume_grace)?,
        };
        let (stream, open) = self.ask(caller, wish, node, permit, session.id).await?;
        if starts {
            session.begin();
        }
        Ok(Dialled {
            stream,
            open,
            session,
            starts,
            about,
            caller: caller.clone(),
        })
    }

    async fn ask(
        &self,
        caller: &Caller,
        wish: Wish<'_>,
        node: &Node,
        permit: &Permit,
        id: SessionId,
    ) -> Result<(Stream, OpenStream), Refused> {
        let addr = format!("{} {}", caller.addr.ip(), caller.addr.port());
        let header = header(caller, &addr, id, permit).map_err(internal)?;
        let request = request(header, wish.way.opening(), permit)?;
        self.open(node, &request).await
    }

    /// A session that outlives its links, as its client's opening names it.
    fn keep(
        &self,
        way: Way<'_>,
        opening: &[u8],
        about: &About,
        grace: Duration,
    ) -> Result<(Guard, bool), Refused> {
        let garbled = |_| refused(DialRefusal::Internal, "the client's request cannot be read");
        let opening = Opening::decode(opening).map_err(garbled)?;
        let starts = matches!(opening, Opening::Open(_));
        if grace.is_zero() {
            let reason = match starts {
                true => DialRefusal::NotResumable,
                false => DialRefusal::Denied,
            };
            let text = "a role does not let sessions outlive their links";
            return Err(refused(reason, text));
        }
        let id = opening.id().0;
        let session = match way {
            Way::Here(_) => self.sessions.hold(id, about.clone(), grace),
            Way::Plain | Way::Client(_) => self.sessions.attach(id, about.clone(), grace),
        };
        Ok((session, starts))
    }

    /// Asks the agent for a stream. Whatever is wrong with its link, that shows within the deadline.
    async fn open(
        &self,
        node: &Node,
        request: &LinkRequest<'_>,
    ) -> Result<(Stream, OpenStream), Refused> {
        let deadline = Instant::now() + ANSWER_DEADLINE;
        let live = self
            .links
            .registry
            .get(node.id)
            .ok_or_else(|| offline(node))?;
        if matches!(request, LinkRequest::Resumable(_)) && live.about().version < RESUMABLE {
            let text = "the agent on this node is too old for that; update it";
            return Err(refused(DialRefusal::NotResumable, text));
        }
        // Counted from the start: a link that is replaced meanwhile waits for the answer.
        let open = live.stream();
        match timeout_at(deadline, ask(&live, request)).await {
            Ok(Ok((stream, None))) => Ok((stream, open)),
            Ok(Ok((_, Some(refused)))) => Err(refused),
            Ok(Err(error)) => {
                tracing::info!(node = %node.id, error = format!("{error:#}"), "dial failed");
                Err(silent(node, &live, "its link broke"))
            }
            Err(_) => Err(silent(node, &live, "its link is silent")),
        }
    }
}

/// Sends a dial over a link; gives the stream, and the agent's refusal if it is one.
async fn ask(live: &Live, request: &LinkRequest<'_>) -> anyhow::Result<(Stream, Option<Refused>)> {
    let mut stream = live.transport.open().await?;
    stream.write.try_out();
    stream.write.frame(request).await?;
    let mut buffer = Vec::new();
    let reply: DialReply<'_> = stream.read.frame(&mut buffer).await?;
    stream.write.keep();
    let refusal = match reply {
        DialReply::Accepted => None,
        DialReply::Refused { reason, text } => Some(refused(reason, text.as_str())),
        DialReply::Named { .. } => anyhow::bail!("the agent names a node"),
    };
    Ok((stream, refusal))
}

/// What the agent is asked for.
fn request<'a>(
    header: DialHeader<'a>,
    opening: Option<&'a [u8]>,
    permit: &Permit,
) -> Result<LinkRequest<'a>, Refused> {
    let Some(opening) = opening else {
        return Ok(LinkRequest::Ssh(header));
    };
    let opening: Option<OpeningBytes<'_>> = Blob::new(opening);
    let opening = opening.context("an opening that is too long");
    Ok(LinkRequest::Resumable(ResumableDial {
        header,
        grace_s: seconds(permit.resume_grace),
        opening: opening.map_err(internal)?,
    }))
}

impl Dialled {
    /// The node that it leads to.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.about.node
    }

    fn event(&self, code: Code) -> Event {
        let addr = self.caller.addr.to_string();
        self.event_of_session(code).field("addr.remote", addr)
    }

    /// One that is not about this stream.
    fn event_of_session(&self, code: Code) -> Event {
        event(code, self.session.id, &self.about)
    }
}

/// The session that somebody comes back to.
fn returns_to(wish: Wish<'_>) -> Option<SessionId> {
    match Opening::decode(wish.way.opening()?) {
        Ok(Opening::Attach(attach)) => Some(attach.id.0),
        _ => None,
    }
}

fn event(code: Code, id: SessionId, about: &About) -> Event {
    Event::new(code)
        .user(&about.user)
        .server(&about.node.to_string(), &about.hostname)
        .field("sid", hex::encode(id))
        .field("login", about.login.clone())
}

/// The event of a session that lost its client, wherever that was.
#[must_use]
pub fn detached(listed: &Listed) -> Event {
    event(code::SESSION_DETACHED, listed.id, &listed.about)
}

/// The event of a session that is over.
#[must_use]
pub fn ended(listed: &Listed) -> Event {
    let started = rfc3339(OffsetDateTime::from(listed.started));
    event(code::SESSION_END, listed.id, &listed.about)
        .field("session_start", started)
        .field("tx", listed.moved.sent)
        .field("rx", listed.moved.received)
}

fn header<'a>(
    caller: &'a Caller,
    addr: &'a str,
    session_id: SessionId,
    permit: &'a Permit,
) -> anyhow::Result<DialHeader<'a>> {
    let logins = permit
        .logins
        .iter()
        .take(MAX_LOGINS)
        .map(|l| Text::new(l).context("login too long"));
    Ok(DialHeader {
        session_id,
        time_s: unix(SystemTime::now()),
        user: Text::new(&caller.user.name).context("user name too long")?,
        fingerprint: caller.user.fingerprint.0,
        logins: logins.collect::<anyhow::Result<_>>()?,
        permits: Permits::ALL,
        client_addr: Text::cut(addr),
        idle_timeout_s: permit.idle_timeout.map_or(0, seconds),
        max_session_s: 0,
    })
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}
