//! Locks: add, list, remove.

use std::time::Duration;

use protocol::identity::NodeId;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::request::{LockAdd, LockTarget};
use super::{Admin, Failure};
use crate::audit::{Event, code, rfc3339};
use crate::resource::Resource;
use crate::resource::lock::{LockSpec, Target};
use crate::resource::user::UserSpec;

impl Admin {
    pub(super) async fn lock_add(&self, add: LockAdd) -> Result<Value, Failure> {
        let now = OffsetDateTime::now_utc();
        let spec = LockSpec {
            target: self.lock_target(&add.target).await?,
            message: add.message,
            created_at: Some(now),
        };
        // An id as nodes have them, so that it is taken for nothing else.
        let mut lock = Resource::new(NodeId(rand::random()).to_string(), spec);
        lock.metadata.expires = add.ttl_s.map(|ttl| now + Duration::from_secs(ttl));
        self.proxy.resources.create(&lock).await?;
        self.lock_written(&lock).await;
        Ok(self.lock_row(&lock))
    }

    /// Writes down that a lock was made, and by whom it is met.
    pub(super) async fn lock_written(&self, lock: &Resource<LockSpec>) {
        let expires = lock.metadata.expires.map(rfc3339);
        let event = about(Event::new(code::LOCK_CREATED), lock)
            .field("message", lock.spec.message.as_str())
            .field("expires", expires);
        self.proxy.audit.record(event).await;
    }

    pub(super) async fn lock_list(&self) -> Result<Value, Failure> {
        let locks = self.proxy.resources.list::<LockSpec>().await?;
        Ok(locks.iter().map(|lock| self.lock_row(lock)).collect())
    }

    /// Removes one lock.
    pub(super) async fn lock_remove(&self, name: &str) -> Result<Value, Failure> {
        let lock = self.proxy.resources.get::<LockSpec>(name).await?;
        self.lock_lift(&lock).await?;
        Ok(self.lock_row(&lock))
    }

    /// Removes all locks of a target.
    pub(super) async fn unlock(&self, target: &LockTarget) -> Result<Value, Failure> {
        let target = self.lock_target(target).await?;
        let locks = self.proxy.resources.list::<LockSpec>().await?;
        let of_target: Vec<_> = locks.iter().filter(|l| l.spec.target == target).collect();
        if of_target.is_empty() {
            return Err(Failure {
                code: "not_found",
                text: "it has no lock; see `tctl locks ls`".into(),
            });
        }
        for lock in &of_target {
            self.lock_lift(lock).await?;
        }
        Ok(of_target.iter().map(|lock| self.lock_row(lock)).collect())
    }

    async fn lock_lift(&self, lock: &Resource<LockSpec>) -> Result<(), Failure> {
        let resources = &self.proxy.resources;
        resources.remove::<LockSpec>(lock.name()).await?;
        let event = about(Event::new(code::LOCK_REMOVED), lock);
        self.proxy.audit.record(event).await;
        Ok(())
    }

    async fn lock_target(&self, target: &LockTarget) -> Result<Target, Failure> {
        match target {
            LockTarget::User(name) => {
                // Whoever mistypes a name should not believe that somebody is shut out.
                self.proxy.resources.get::<UserSpec>(name).await?;
                Ok(Target {
                    user: Some(name.clone()),
                    server_id: None,
                })
            }
            LockTarget::Node(target) => Ok(Target {
                user: None,
                server_id: Some(self.one_node(target)?.id.to_string()),
            }),
        }
    }

    fn lock_row(&self, lock: &Resource<LockSpec>) -> Value {
        let target = &lock.spec.target;
        let node = target.server_id.as_ref().map(|id| {
            let found = self.proxy.directory.find(id);
            found.first().map(|node| node.spec.hostname.clone())
        });
        json!({
            "name": lock.name(),
            "user": target.user,
            "server_id": target.server_id,
            "node": node.flatten(),
            "message": lock.spec.message,
            "created": lock.spec.created_at.map(rfc3339),
            "expires": lock.metadata.expires.map(rfc3339),
        })
    }
}

fn about(event: Event, lock: &Resource<LockSpec>) -> Event {
    let event = event.field("name", lock.name());
    let target = &lock.spec.target;
    match (&target.user, &target.server_id) {
        (Some(user), _) => event.user(user),
        (None, Some(id)) => event.server(id, ""),
        (None, None) => event,
    }
}
