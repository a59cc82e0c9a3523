//! Open sessions, so that removing a user or a node ends theirs within seconds.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::identity::NodeId;
use tokio::sync::Notify;

use crate::auth::ca::peer::UserPeer;

/// Names a session in the audit log.
pub type SessionId = [u8; 16];

/// Whose a session is: a user's name, and which of those who have had it.
pub type Holder = (String, u64);

struct Open {
    holder: Holder,
    node: NodeId,
    end: Arc<Notify>,
}

type Table = HashMap<SessionId, Open>;

/// All open sessions. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sessions {
    open: Arc<Mutex<Table>>,
}

/// One open session; taken off the list when dropped.
pub struct Guard {
    table: Sessions,
    /// Its id.
    pub id: SessionId,
    end: Arc<Notify>,
}

impl Sessions {
    /// Puts a session on the list.
    #[must_use]
    pub fn enter(&self, user: &UserPeer, node: NodeId) -> Guard {
        let id = rand::random();
        let end = Arc::new(Notify::new());
        let open = Open {
            holder: (user.name.clone(), user.id),
            node,
            end: Arc::clone(&end),
        };
        self.lock().insert(id, open);
        Guard {
            table: self.clone(),
            id,
            end,
        }
    }

    /// Ends all sessions of a user.
    pub fn end_user(&self, user: &str) {
        self.end_where(|(of, _), _| of == user);
    }

    /// Ends all sessions whose holder and node are of a kind.
    pub fn end_where(&self, of_kind: impl Fn(&Holder, NodeId) -> bool) {
        self.lock()
            .values()
            .filter(|s| of_kind(&s.holder, s.node))
            .for_each(|s| s.end.notify_one());
    }

    /// Everybody who has one.
    #[must_use]
    pub fn holders(&self) -> HashSet<Holder> {
        self.lock().values().map(|s| s.holder.clone()).collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guard {
    /// Returns when the session should end.
    pub async fn ended(&self) {
        self.end.notified().await;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.table.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use protocol::identity::Fingerprint;
    use time::OffsetDateTime;

    use super::*;

    fn user(name: &str) -> UserPeer {
        UserPeer {
            name: name.into(),
            id: 7,
            fingerprint: Fingerprint([0; 32]),
            not_after: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn ending_a_user_ends_their_sessions_and_no_others() {
        let sessions = Sessions::default();
        let ann = sessions.enter(&user("ann"), NodeId([1; 16]));
        let bob = sessions.enter(&user("bob"), NodeId([1; 16]));
        sessions.end_user("ann");
        ann.ended().await;
        assert!(futures::FutureExt::now_or_never(bob.ended()).is_none());
        drop(ann);
        assert_eq!(sessions.holders(), HashSet::from([("bob".into(), 7)]));
        sessions.end_where(|_, node| node == NodeId([1; 16]));
        bob.ended().await;
    }
}
