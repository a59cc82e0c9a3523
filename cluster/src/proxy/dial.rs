//! From a user's request to a stream on a node.
//!
//! The proxy decides here and nowhere else: who the user is comes from a certificate that is
//! verified already, what the user may do is read from the store at every dial, so that a removed
//! user or a changed role counts at once.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use protocol::message::Text;
use protocol::message::dial::{
    DialHeader, DialRefusal, DialReply, LinkRequest, MAX_LOGINS, Permits,
};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};

use super::Proxy;
use super::directory::Node;
use super::sessions::Guard;
use super::splice::{Moved, splice};
use crate::audit::{Event, code, rfc3339};
use crate::auth::access::{Decision, decide};
use crate::auth::ca::peer::UserPeer;
use crate::auth::login::roles_of;
use crate::resource::user::UserSpec;
use crate::tunnel::live::{Live, OpenStream};
use crate::tunnel::serve::unix;
use crate::tunnel::stream::Stream;

/// A node must answer a dial within this time, or it counts as offline.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Who dials.
#[derive(Clone)]
pub struct Caller {
    /// From the certificate.
    pub user: UserPeer,
    /// From where.
    pub addr: SocketAddr,
}

/// A dial that was turned down.
#[derive(Debug)]
pub struct Refused {
    /// Why, for programs.
    pub reason: DialRefusal,
    /// Why, for people.
    pub text: String,
}

/// An open stream to a node's SSH server.
pub struct Dialled {
    stream: Stream,
    // The link stays for as long as it carries this.
    _open: OpenStream,
    session: Guard,
    node: Node,
    caller: Caller,
    login: Option<String>,
}

impl Proxy {
    /// Opens a stream to a node, if the caller may; the audit log says either way.
    ///
    /// # Errors
    /// The refusal, as the user should see it.
    pub async fn dial(
        &self,
        caller: &Caller,
        target: &str,
        login: Option<&str>,
    ) -> Result<Dialled, Refused> {
        let result = self.try_dial(caller, target, login).await;
        match &result {
            Ok(dialled) => {
                let written = self.audit.require(dialled.event(code::SESSION_START));
                written.await.map_err(internal)?;
            }
            Err(refused) => {
                self.metrics.dials_refused.inc();
                let event = Event::new(code::SESSION_REFUSED)
                    .user(&caller.user.name)
                    .server("", target)
                    .field("login", login.unwrap_or_default())
                    .field("addr.remote", caller.addr.to_string())
                    .field("reason", refused.text.clone());
                self.audit.record(event.brief()).await;
            }
        }
        result
    }

    /// Moves bytes until the session ends by itself or is ended.
    pub async fn carry(&self, client: Stream, dialled: Dialled) {
        let end = dialled.event(code::SESSION_END);
        let started = SystemTime::now();
        let mut moved = Moved::default();
        self.metrics.sessions.inc();
        tokio::select! {
            // A client that vanishes breaks its stream: nothing to report beyond the end.
            done = splice(client, dialled.stream, &mut moved) => {
                if let Err(error) = done {
                    tracing::debug!(%error, "session broke");
                }
            }
            () = dialled.session.ended() => tracing::info!(user = dialled.caller.user.name, "session ended by the cluster"),
        }
        self.metrics.sessions.dec();
        self.metrics.bytes.inc_by(moved.sent + moved.received);
        let event = end
            .field("session_start", rfc3339(OffsetDateTime::from(started)))
            .field("tx", moved.sent)
            .field("rx", moved.received);
        self.audit.record(event).await;
    }

    async fn try_dial(
        &self,
        caller: &Caller,
        target: &str,
        login: Option<&str>,
    ) -> Result<Dialled, Refused> {
        let user = &caller.user;
        if user.not_after < OffsetDateTime::now_utc() {
            return Err(refused(
                DialRefusal::Denied,
                "your certificate has expired; run `tsh login`",
            ));
        }
        if let Some(text) = self.user_locked(&user.name) {
            return Err(refused(DialRefusal::Locked, text));
        }
        let resource = self
            .resources
            .find::<UserSpec>(&user.name)
            .await
            .map_err(internal)?;
        let resource = resource.ok_or_else(|| {
            refused(
                DialRefusal::Locked,
                format!("the user {} no longer exists", user.name),
            )
        })?;
        if !user.is(&resource) {
            return Err(refused(DialRefusal::Denied, made_anew(&user.name)));
        }
        let roles = roles_of(&self.resources, &resource)
            .await
            .map_err(internal)?;
        let reaches = |node: &Node| {
            let decision = decide(&roles, &resource.spec.traits, &node.labels(), None);
            !matches!(decision, Decision::NodeDenied)
        };
        let node = choose(self.directory.find(target), target, reaches)?;
        let decision = decide(&roles, &resource.spec.traits, &node.labels(), login);
        let (logins, idle) = permitted(decision, &node, login)?;
        if let Some(lock) = &node.lock {
            let text = lock.spec.locked(&node.spec.hostname);
            return Err(refused(DialRefusal::Locked, text));
        }
        let session = self.sessions.enter(user, node.id);
        let addr = format!("{} {}", caller.addr.ip(), caller.addr.port());
        let header = header(caller, &addr, &session, &logins, idle).map_err(internal)?;
        let (stream, open) = self.open(&node, &header).await?;
        let (caller, login) = (caller.clone(), login.map(Into::into));
        Ok(Dialled {
            stream,
            _open: open,
            session,
            node,
            caller,
            login,
        })
    }

    /// Asks the agent for a stream. Whatever is wrong with its link, that shows within the deadline.
    async fn open(
        &self,
        node: &Node,
        header: &DialHeader<'_>,
    ) -> Result<(Stream, OpenStream), Refused> {
        let deadline = Instant::now() + ANSWER_DEADLINE;
        let live = self
            .links
            .registry
            .get(node.id)
            .ok_or_else(|| offline(node))?;
        // Counted from the start: a link that is replaced meanwhile waits for the answer.
        let open = live.stream();
        match timeout_at(deadline, ask(&live, header)).await {
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
async fn ask(live: &Live, header: &DialHeader<'_>) -> anyhow::Result<(Stream, Option<Refused>)> {
    let mut stream = live.transport.open().await?;
    let request = LinkRequest::Ssh(header.clone());
    stream.write.frame(&request).await?;
    let mut buffer = Vec::new();
    let reply: DialReply<'_> = stream.read.frame(&mut buffer).await?;
    let refusal = match reply {
        DialReply::Accepted => None,
        DialReply::Refused { reason, text } => Some(refused(reason, text.as_str())),
    };
    Ok((stream, refusal))
}

impl Dialled {
    fn event(&self, code: crate::audit::Code) -> Event {
        Event::new(code)
            .user(&self.caller.user.name)
            .server(&self.node.id.to_string(), &self.node.spec.hostname)
            .field("sid", hex::encode(self.session.id))
            .field("login", self.login.clone().unwrap_or_default())
            .field("addr.remote", self.caller.addr.to_string())
    }
}

/// The node that is meant. Of several of one name, those do not count that the person cannot reach:
/// whoever gives a device the name of another shuts nobody out.
fn choose(
    mut found: Vec<Node>,
    target: &str,
    reaches: impl Fn(&Node) -> bool,
) -> Result<Node, Refused> {
    if found.iter().any(&reaches) {
        found.retain(reaches);
    } else {
        // One is as good as another to say so.
        found.truncate(1);
    }
    let Some(last) = found.pop() else {
        return Err(refused(
            DialRefusal::UnknownNode,
            format!("there is no node {target:?}; `tsh ls` shows those you can reach"),
        ));
    };
    if found.is_empty() {
        return Ok(last);
    }
    let ids = found.iter().chain([&last]).map(|n| format!("\n  {}", n.id));
    let ids: String = ids.take(8).collect();
    let text = format!("several nodes are called {target:?}; use an id:{ids}");
    Err(refused(DialRefusal::AmbiguousName, text))
}

/// What somebody is told whose certificate was issued to an earlier user of the same name.
pub(super) fn made_anew(name: &str) -> String {
    format!("the user {name} was made anew since your certificate was issued; run `tsh login`")
}

fn permitted(
    decision: Decision,
    node: &Node,
    login: Option<&str>,
) -> Result<(Vec<String>, Option<Duration>), Refused> {
    let name = &node.spec.hostname;
    match decision {
        Decision::Allowed {
            logins,
            idle_timeout,
        } => Ok((logins, idle_timeout)),
        Decision::NodeDenied => Err(refused(
            DialRefusal::Denied,
            format!("your roles do not allow you to reach {name}; ask an administrator"),
        )),
        Decision::LoginDenied { allowed } => Err(refused(
            DialRefusal::Denied,
            format!(
                "you may not log in to {name} as {}; allowed: {}",
                login.unwrap_or_default(),
                allowed.join(", ")
            ),
        )),
    }
}

fn header<'a>(
    caller: &'a Caller,
    addr: &'a str,
    session: &Guard,
    logins: &'a [String],
    idle: Option<Duration>,
) -> anyhow::Result<DialHeader<'a>> {
    let logins = logins
        .iter()
        .take(MAX_LOGINS)
        .map(|l| Text::new(l).context("login too long"));
    let seconds = |d: Duration| u32::try_from(d.as_secs()).unwrap_or(u32::MAX);
    Ok(DialHeader {
        session_id: session.id,
        time_s: unix(SystemTime::now()),
        user: Text::new(&caller.user.name).context("user name too long")?,
        fingerprint: caller.user.fingerprint.0,
        logins: logins.collect::<anyhow::Result<_>>()?,
        permits: Permits::ALL,
        client_addr: Text::cut(addr),
        idle_timeout_s: idle.map_or(0, seconds),
        max_session_s: 0,
    })
}

fn offline(node: &Node) -> Refused {
    let name = &node.spec.hostname;
    let Some(seen) = &node.presence else {
        let text = format!("{name} is offline: it has joined, but never linked; start its agent");
        return refused(DialRefusal::Offline, text);
    };
    let reason = seen.reason.as_deref().unwrap_or("its link is gone");
    last_seen(name, seen.last_seen, reason)
}

/// A node whose link is there, but dead: the link's own last sign of life is newer than what is
/// stored.
fn silent(node: &Node, live: &Live, reason: &str) -> Refused {
    last_seen(&node.spec.hostname, live.last_seen().into(), reason)
}

fn last_seen(name: &str, seen: OffsetDateTime, reason: &str) -> Refused {
    let seen = rfc3339(seen);
    let text = format!("{name} is offline: last seen {seen} ({reason})");
    refused(DialRefusal::Offline, text)
}

fn refused(reason: DialRefusal, text: impl Into<String>) -> Refused {
    Refused {
        reason,
        text: text.into(),
    }
}

fn internal(error: impl Into<anyhow::Error>) -> Refused {
    let error = error.into();
    tracing::error!(error = format!("{error:#}"), "dial failed");
    refused(
        DialRefusal::Internal,
        "the cluster made an error; its log says more",
    )
}
