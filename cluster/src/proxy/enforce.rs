//! What was allowed when it began, and is not any more: it ends within seconds.
//!
//! A lock ends sessions and links as soon as this process hears of it. Now and then all that is open
//! is looked at as well: for what began in the moment in which the rules changed, and for nodes and
//! users that another process has removed.
//!
//! Agents may keep sessions that no process knows of, from before a cluster was set up anew. So they are
//! told of each user who is shut out by name, and themselves say whose sessions they keep when they
//! link (`crate::tunnel::serve` answers).
//!
//! What roles allow is looked at when somebody comes back to a session (`super::dial`): one that its
//! person may not come back to any more ends there and then.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use protocol::error::CloseCode;
use protocol::identity::NodeId;
use protocol::message::Text;
use protocol::message::control::ToAgent;
use protocol::message::version::NAMES_USERS;
use time::OffsetDateTime;
use tokio::sync::mpsc::error::TrySendError;

use super::Proxy;
use super::dial::ended;
use super::sessions::{About, SessionId};
use crate::resource::user::UserSpec;
use crate::tunnel::live::Live;
use crate::tunnel::stream::frame_bytes;

/// How often everything is looked at: it costs a millisecond for 10,000 links.
const LOOK: Duration = Duration::from_secs(5);

impl Proxy {
    /// Enforces the rules for as long as it is polled.
    pub async fn enforce(self) {
        let mut changes = self.join.locks.changes();
        // Of these, agents are told when they link.
        let mut told = self.join.locks.read().users(OffsetDateTime::now_utc());
        loop {
            let heard = tokio::time::timeout(LOOK, changes.changed()).await;
            if matches!(heard, Ok(Err(_))) {
                // Nothing changes any more; what is stored still holds.
                tokio::time::sleep(LOOK).await;
            }
            self.end_locked(&mut told);
            self.end_removed().await;
            self.end_removed_users().await;
            let given_up = self.sessions.give_up();
            let told = given_up
                .iter()
                .map(|listed| self.audit.record(ended(listed)));
            futures::future::join_all(told).await;
        }
    }

    /// Why a user is shut out, if so.
    #[must_use]
    pub fn user_locked(&self, name: &str) -> Option<String> {
        let locks = self.join.locks.read();
        let lock = locks.of_user(name, OffsetDateTime::now_utc())?;
        Some(lock.spec.locked(&format!("the user {name}")))
    }

    /// Ends what is locked; `told` are the users whose locks agents know of.
    fn end_locked(&self, told: &mut HashSet<String>) {
        let locks = self.join.locks.read();
        let now = OffsetDateTime::now_utc();
        let before = std::mem::replace(told, locks.users(now));
        if locks.is_empty() {
            return;
        }
        for name in told.difference(&before) {
            self.tell_all(name);
        }
        let shut_out = |node| locks.of_node(node, now).is_some();
        for live in self.links.registry.all() {
            if shut_out(live.node) {
                self.end_node(live.node, "locked");
            }
        }
        self.end_sessions(|_, about| {
            shut_out(about.node) || locks.of_user(&about.user, now).is_some()
        });
    }

    async fn end_removed_users(&self) {
        for holder in self.sessions.holders() {
            let stored = self.resources.find::<UserSpec>(&holder.0).await;
            // A store that fails proves nothing.
            if stored.is_ok_and(|user| user.is_none_or(|user| user.spec.id != holder.1)) {
                self.end_sessions(|_, about| about.holder() == holder);
            }
        }
    }

    async fn end_removed(&self) {
        for live in self.links.registry.all() {
            let known = self.join.nodes.read().get(live.node).is_some();
            // What is in memory may be a moment behind the store.
            if !known && self.join.is_removed(live.node).await {
                self.forget_node(live.node);
            }
        }
    }

    /// Ends everything that a node has open.
    pub fn end_node(&self, node: NodeId, why: &'static str) {
        self.links.registry.close(node, CloseCode::Denied, why);
        self.end_sessions(|_, about| about.node == node);
    }

    /// Ends sessions of a kind; agents are told of those that outlive their links.
    pub fn end_sessions(&self, of_kind: impl Fn(SessionId, &About) -> bool) {
        for (node, session_id) in self.sessions.end_where(of_kind) {
            let frame = frame_bytes(&ToAgent::EndSession { session_id });
            if let (Some(live), Ok(frame)) = (self.links.registry.get(node), frame) {
                // Whoever has no link, or one that takes nothing, is told when there is a new one. What
                // is looked at again and again must not pile up before a link that is stuck.
                live.control.try_send(frame).ok();
            }
        }
    }

    /// Ends everything that a user has open, wherever it is kept.
    pub fn end_user(&self, name: &str) {
        self.end_sessions(|_, about| about.user == name);
        self.tell_all(name);
    }

    /// Tells all agents that a user is shut out.
    fn tell_all(&self, name: &str) {
        let Ok(frame) = frame_bytes(&ToAgent::EndUser {
            user: Text::cut(name),
        }) else {
            return;
        };
        for live in self.links.registry.all() {
            if live.about().version >= NAMES_USERS {
                send(live, frame.clone());
            }
        }
    }

    /// Ends everything that a removed node has open, and forgets it.
    pub fn forget_node(&self, node: NodeId) {
        self.end_node(node, "removed");
        self.links.registry.forget(node);
        self.links.presence.forget(node);
    }
}

/// Sends, as soon as there is room: that comes, or the link ends.
fn send(live: Arc<Live>, frame: Bytes) {
    if let Err(TrySendError::Full(frame)) = live.control.try_send(frame) {
        tokio::spawn(async move { live.control.send(frame).await.ok() });
    }
}
