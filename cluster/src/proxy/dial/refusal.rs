//! Why a dial is turned down, and in what words.

use protocol::message::dial::DialRefusal;
use time::OffsetDateTime;

use super::Caller;
use crate::audit::{Event, code, rfc3339};
use crate::proxy::Proxy;
use crate::proxy::directory::Node;
use crate::tunnel::live::Live;

/// A dial that was turned down.
#[derive(Debug)]
pub struct Refused {
    /// Why, for programs.
    pub reason: DialRefusal,
    /// Why, for people.
    pub text: String,
}

impl Proxy {
    /// The id and the name of the node that is meant; the id is empty unless there is just one.
    pub(super) fn named(&self, target: &str) -> (String, String) {
        match self.directory.find(target).as_slice() {
            [node] => (node.id.to_string(), node.spec.hostname.clone()),
            _ => (String::new(), target.to_owned()),
        }
    }

    /// Tells the audit log.
    pub(super) async fn record_refusal(
        &self,
        caller: &Caller,
        (id, name): (&str, &str),
        login: &str,
        reason: &str,
    ) {
        self.metrics.dials_refused.inc();
        let event = Event::new(code::SESSION_REFUSED)
            .user(&caller.user.name)
            .server(id, name)
            .field("login", login)
            .field("addr.remote", caller.addr.to_string())
            .field("reason", reason);
        self.audit.record(event.brief()).await;
    }
}

/// Whether the same dial may be accepted later, when nobody has changed anything.
pub(super) const fn is_passing(reason: DialRefusal) -> bool {
    matches!(
        reason,
        DialRefusal::Offline | DialRefusal::Busy | DialRefusal::Internal
    )
}

pub(super) fn offline(node: &Node) -> Refused {
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
pub(super) fn silent(node: &Node, live: &Live, reason: &str) -> Refused {
    last_seen(&node.spec.hostname, live.last_seen().into(), reason)
}

fn last_seen(name: &str, seen: OffsetDateTime, reason: &str) -> Refused {
    let seen = rfc3339(seen);
    let text = format!("{name} is offline: last seen {seen} ({reason})");
    refused(DialRefusal::Offline, text)
}

pub(super) fn refused(reason: DialRefusal, text: impl Into<String>) -> Refused {
    Refused {
        reason,
        text: text.into(),
    }
}

pub(super) fn internal(error: impl Into<anyhow::Error>) -> Refused {
    let error = error.into();
    tracing::error!(error = format!("{error:#}"), "dial failed");
    refused(
        DialRefusal::Internal,
        "the cluster made an error; its log says more",
    )
}
