//! What was allowed when it began, and is not any more: it ends within seconds.
//!
//! A lock ends sessions and links as soon as this process hears of it. Now and then all that is open
//! is looked at as well: for what began in the moment in which the rules changed, and for nodes and
//! users that another process has removed.

use std::time::Duration;

use protocol::error::CloseCode;
use protocol::identity::NodeId;
use time::OffsetDateTime;

use super::Proxy;
use crate::resource::user::UserSpec;

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
        self.sessions
            .end_where(|(user, _), node| shut_out(node) || locks.of_user(user, now).is_some());
    }

    async fn end_removed_users(&self) {
        for (name, id) in self.sessions.holders() {
            let stored = self.resources.find::<UserSpec>(&name).await;
            // A store that fails proves nothing.
            if stored.is_ok_and(|user| user.is_none_or(|user| user.spec.id != id)) {
                self.sessions
                    .end_where(|holder, _| (&holder.0, holder.1) == (&name, id));
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
        self.sessions.end_where(|_, on| on == node);
    }

    /// Ends everything that a removed node has open, and forgets it.
    pub fn forget_node(&self, node: NodeId) {
        self.end_node(node, "removed");
        self.links.registry.forget(node);
        self.links.presence.forget(node);
    }
}
