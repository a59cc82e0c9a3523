//! What was allowed when it began, and is not any more: it ends within seconds.
//!
//! A lock ends sessions and links as soon as this process hears of it. Now and then all that is open
//! is looked at as well: for what began in the moment in which the rules changed, and for nodes and
//! users that another process has removed.

use std::time::Duration;

use protocol::error::CloseCode;
use protocol::identity::NodeId;
use protocol::message::control::ToAgent;
use time::OffsetDateTime;

use super::Proxy;
use super::dial::ended;
use super::sessions::About;
use crate::resource::user::UserSpec;
use crate::tunnel::stream::frame_bytes;

/// How often everything is looked at: it costs a millisecond for 10,000 links.
const LOOK: Duration = Duration::from_secs(5);

impl Proxy {
    /// Enforces the rules for as long as it is polled.
    pub async fn enforce(self) {
        let mut changes = self.join.locks.changes();
        loop {
            let heard = tokio::time::timeout(LOOK, changes.changed()).await;
            if matches!(heard, Ok(Err(_))) {
                // Nothing changes any more; what is stored still holds.
                tokio::time::sleep(LOOK).await;
            }
            self.end_locked();
            self.end_removed().await;
            self.end_removed_users().await;
            for given_up in self.sessions.give_up() {
                self.audit.record(ended(&given_up)).await;
            }
        }
    }

    /// Why a user is shut out, if so.
    #[must_use]
    pub fn user_locked(&self, name: &str) -> Option<String> {
        let locks = self.join.locks.read();
        let lock = locks.of_user(name, OffsetDateTime::now_utc())?;
        Some(lock.spec.locked(&format!("the user {name}")))
    }

    fn end_locked(&self) {
        let locks = self.join.locks.read();
        if locks.is_empty() {
            return;
        }
        let now = OffsetDateTime::now_utc();
        let shut_out = |node| locks.of_node(node, now).is_some();
        for live in self.links.registry.all() {
            if shut_out(live.node) {
                self.end_node(live.node, "locked");
            }
        }
        self.end_sessions(|about| {
            shut_out(about.node) || locks.of_user(&about.user, now).is_some()
        });
    }

    async fn end_removed_users(&self) {
        for holder in self.sessions.holders() {
            let stored = self.resources.find::<UserSpec>(&holder.0).await;
            // A store that fails proves nothing.
            if stored.is_ok_and(|user| user.is_none_or(|user| user.spec.id != holder.1)) {
                self.end_sessions(|about| about.holder() == holder);
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
        self.end_sessions(|about| about.node == node);
    }

    /// Ends sessions of a kind; agents are told of those that outlive their links.
    pub fn end_sessions(&self, of_kind: impl Fn(&About) -> bool) {
        for (node, session_id) in self.sessions.end_where(of_kind) {
            let frame = frame_bytes(&ToAgent::EndSession { session_id });
            if let (Some(live), Ok(frame)) = (self.links.registry.get(node), frame) {
                // A link that takes nothing is about to end, and with it the session's stream.
                live.control.try_send(frame).ok();
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
