//! Which users and nodes are locked, right now.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use protocol::identity::NodeId;
use time::OffsetDateTime;

use crate::resource::Resource;
use crate::resource::lock::LockSpec;
use crate::resource::mirror::{Index, Mirror};

/// All locks of the cluster, in memory.
pub type Locks = Mirror<ByTarget>;

/// The index behind [`Locks`].
#[derive(Default)]
pub struct ByTarget {
    locks: HashMap<String, Arc<Resource<LockSpec>>>,
    by_target: HashMap<Target, Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Target {
    User(String),
    Node(NodeId),
}

impl ByTarget {
    /// The lock that shuts a node out, if there is one.
    #[must_use]
    pub fn of_node(&self, id: NodeId, now: OffsetDateTime) -> Option<Arc<Resource<LockSpec>>> {
        // Most clusters have no lock at all.
        if self.is_empty() {
            return None;
        }
        self.find(&Target::Node(id), now)
    }

    /// The lock that shuts a user out, if there is one.
    #[must_use]
    pub fn of_user(&self, name: &str, now: OffsetDateTime) -> Option<Arc<Resource<LockSpec>>> {
        if self.is_empty() {
            return None;
        }
        self.find(&Target::User(name.to_owned()), now)
    }

    /// All users who are shut out.
    #[must_use]
    pub fn users(&self, now: OffsetDateTime) -> HashSet<String> {
        let users = self.by_target.keys().filter_map(|target| match target {
            Target::User(name) => Some(name),
            Target::Node(_) => None,
        });
        let locked = users.filter(|name| self.of_user(name, now).is_some());
        locked.cloned().collect()
    }

    /// Whether there is any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.locks.is_empty()
    }

    fn find(&self, target: &Target, now: OffsetDateTime) -> Option<Arc<Resource<LockSpec>>> {
        let names = self.by_target.get(target)?;
        let mut locks = names.iter().filter_map(|name| self.locks.get(name));
        let holds =
            |lock: &&Arc<Resource<LockSpec>>| lock.metadata.expires.is_none_or(|end| end > now);
        locks.find(holds).cloned()
    }
}

impl Index for ByTarget {
    type Spec = LockSpec;

    fn put(&mut self, lock: Resource<LockSpec>) {
        self.remove(lock.name());
        let Some(target) = target(&lock.spec) else {
            return;
        };
        let name = lock.name().to_owned();
        self.by_target.entry(target).or_default().push(name.clone());
        self.locks.insert(name, Arc::new(lock));
    }

    fn remove(&mut self, name: &str) {
        let Some(target) = self.locks.remove(name).and_then(|l| target(&l.spec)) else {
            return;
        };
        if let Some(names) = self.by_target.get_mut(&target) {
            names.retain(|other| other != name);
            if names.is_empty() {
                self.by_target.remove(&target);
            }
        }
    }
}

fn target(spec: &LockSpec) -> Option<Target> {
    match (&spec.target.user, &spec.target.server_id) {
        (Some(user), _) => Some(Target::User(user.clone())),
        (None, Some(id)) => id.parse().ok().map(Target::Node),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([7; 16]);

    fn lock(name: &str, target: serde_json::Value, message: &str) -> Resource<LockSpec> {
        let spec = serde_json::json!({ "target": target, "message": message });
        Resource::new(name, serde_json::from_value(spec).unwrap())
    }

    fn node_lock(name: &str) -> Resource<LockSpec> {
        lock(
            name,
            serde_json::json!({ "server_id": NODE.to_string() }),
            "",
        )
    }

    #[test]
    fn a_lock_holds_for_its_target_alone_and_says_why() {
        let mut locks = ByTarget::default();
        let now = OffsetDateTime::now_utc();
        let ann = serde_json::json!({ "user": "ann" });
        locks.put(lock("1", ann, "on leave"));
        let lock = locks.of_user("ann", now).unwrap();
        assert_eq!(lock.spec.locked("ann"), "ann is locked: on leave");
        assert_eq!(locks.of_user("bob", now), None);
        assert_eq!(locks.users(now), HashSet::from(["ann".to_owned()]));
        assert_eq!(locks.of_node(NODE, now), None);
        locks.put(node_lock("2"));
        let lock = locks.of_node(NODE, now).unwrap();
        assert_eq!(lock.spec.locked("gateway-1"), "gateway-1 is locked");
    }

    #[test]
    fn a_target_is_locked_until_its_last_lock_is_gone_or_over() {
        let mut locks = ByTarget::default();
        let now = OffsetDateTime::now_utc();
        let mut short = node_lock("short");
        short.metadata.expires = Some(now + time::Duration::hours(1));
        locks.put(short);
        locks.put(node_lock("long"));
        locks.remove("long");
        locks.remove("unknown");
        assert!(locks.of_node(NODE, now).is_some());
        assert!(
            locks
                .of_node(NODE, now + time::Duration::hours(2))
                .is_none()
        );
        locks.remove("short");
        assert!(locks.is_empty() && locks.by_target.is_empty());
    }

    #[test]
    fn a_lock_that_is_written_again_moves_to_its_new_target() {
        let mut locks = ByTarget::default();
        let now = OffsetDateTime::now_utc();
        locks.put(node_lock("1"));
        locks.put(lock("1", serde_json::json!({ "user": "ann" }), ""));
        assert_eq!(locks.of_node(NODE, now), None);
        assert!(locks.of_user("ann", now).is_some());
    }
}
