//! What is remembered of nodes: kept in memory, written in batches.
//!
//! A link coming or going marks its node; a task writes all marked nodes every few seconds, and
//! those that are up now and then, so that after a crash of the cluster "last seen" is at most
//! [`REFRESH`] too old. Heartbeats cost no transaction.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use protocol::identity::NodeId;
use time::OffsetDateTime;
use tokio::sync::Notify;

use super::live::Live;
use super::recall::Lost;
use super::registry::Registry;
use crate::resource::node::PresenceSpec;
use crate::resource::{Resource, Resources};

/// Marked nodes are written this long after the first mark.
const BATCH: Duration = Duration::from_secs(2);
/// Nodes that are up are written this often.
const REFRESH: Duration = Duration::from_secs(600);

type Records = HashMap<NodeId, PresenceSpec>;

#[derive(Default)]
struct Inner {
    known: Mutex<Records>,
    marked: Mutex<Records>,
    lost: Mutex<Vec<Lost>>,
    wake: Notify,
}

/// Presence of all nodes. Cheap to clone.
#[derive(Clone, Default)]
pub struct Presence {
    inner: Arc<Inner>,
}

impl Presence {
    /// Reads what was known before this process started.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn load(resources: &Resources) -> anyhow::Result<Self> {
        let presence = Self::default();
        for record in resources.list::<PresenceSpec>().await? {
            let mut spec = record.spec;
            let node = record.metadata.name.parse()?;
            lock(&presence.inner.lost).extend(lost(node, &spec));
            // Whoever was up when the last process ended has lost its link with it.
            spec.reason
                .get_or_insert_with(|| "the cluster was restarted".into());
            lock(&presence.inner.known).insert(node, spec);
        }
        Ok(presence)
    }

    /// Links that ended with the process before, and whose agents may not know.
    #[must_use]
    pub fn take_lost(&self) -> Vec<Lost> {
        std::mem::take(&mut *lock(&self.inner.lost))
    }

    /// A link has come, or its labels have changed.
    pub fn up(&self, live: &Live) {
        self.mark(live.node, record(live, None));
    }

    /// A link has gone.
    pub fn down(&self, live: &Live, reason: String) {
        self.mark(live.node, record(live, Some(reason)));
    }

    /// What is known of a node.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<PresenceSpec> {
        lock(&self.inner.known).get(&node).cloned()
    }

    /// Forgets a removed node.
    pub fn forget(&self, node: NodeId) {
        lock(&self.inner.known).remove(&node);
        lock(&self.inner.marked).remove(&node);
    }

    /// Writes batches for as long as the process lives.
    pub async fn write_forever(&self, resources: Resources, registry: Registry) {
        loop {
            tokio::select! {
                () = self.inner.wake.notified() => tokio::time::sleep(BATCH).await,
                () = tokio::time::sleep(REFRESH) => {
                    registry.all().iter().for_each(|live| self.up(live));
                }
            }
            self.flush(&resources).await;
        }
    }

    /// Writes everything that is marked.
    pub async fn flush(&self, resources: &Resources) {
        let marked = std::mem::take(&mut *lock(&self.inner.marked));
        let writes = marked.into_iter().map(|(node, spec)| async move {
            if let Err(error) = resources.put(&Resource::new(node.to_string(), spec)).await {
                tracing::warn!(%node, %error, "presence could not be written");
            }
        });
        // All at once: the store groups what is queued into one transaction.
        futures::future::join_all(writes).await;
    }

    fn mark(&self, node: NodeId, mut spec: PresenceSpec) {
        let mut known = lock(&self.inner.known);
        if spec.reason.is_none() {
            spec.last_loss = known.get(&node).and_then(|before| before.last_loss.clone());
        }
        known.insert(node, spec.clone());
        drop(known);
        lock(&self.inner.marked).insert(node, spec);
        self.inner.wake.notify_one();
    }
}

/// The link that a record tells of, if nobody has seen its end.
fn lost(node: NodeId, spec: &PresenceSpec) -> Option<Lost> {
    let id = spec
        .connection_id
        .as_ref()
        .filter(|_| spec.reason.is_none())?;
    Some(Lost {
        node,
        addr: spec.addr.parse().ok()?,
        connection_id: hex::decode(id).ok()?,
    })
}

fn record(live: &Live, reason: Option<String>) -> PresenceSpec {
    let about = live.about();
    let last_seen = if reason.is_some() {
        live.last_seen()
    } else {
        SystemTime::now()
    };
    PresenceSpec {
        last_seen: OffsetDateTime::from(last_seen),
        last_loss: reason.clone(),
        reason,
        link: live.transport.kind().into(),
        addr: live.transport.remote().to_string(),
        connection_id: live.transport.connection_id().map(hex::encode),
        labels: about.labels.clone(),
        agent_version: about.agent_version.clone(),
        os: about.os.clone(),
        arch: about.arch.clone(),
        kernel: about.kernel.clone(),
        only_login: about.only_login.clone(),
    }
}

/// No code panics while it holds one of these locks, so a poisoned one holds good data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
