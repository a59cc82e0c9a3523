//! Which nodes have a live link, right now and in this process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use protocol::error::CloseCode;
use protocol::identity::NodeId;
use tokio::sync::mpsc;

use super::Transport;
use crate::resource::labels::Labels;

/// Control frames waiting to be sent on one link.
pub const CONTROL_QUEUE: usize = 8;

/// What an agent says of its machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// The agent's own labels.
    pub labels: Labels,
    /// Release of the agent.
    pub agent_version: String,
    /// As `uname -s`.
    pub os: String,
    /// As `uname -m`.
    pub arch: String,
    /// As `uname -r`.
    pub kernel: String,
    /// The only login it can offer, if it does not run as root.
    pub only_login: Option<String>,
}

/// One live link.
pub struct Live {
    /// Whose.
    pub node: NodeId,
    /// Tells this link from the node's next one.
    pub serial: u64,
    /// The connection.
    pub transport: Arc<dyn Transport>,
    /// Frames to send on the control stream.
    pub control: mpsc::Sender<Bytes>,
    about: Mutex<Arc<About>>,
    last_seen: Mutex<SystemTime>,
    silent: AtomicBool,
}

impl Live {
    /// What the agent last said of its machine.
    #[must_use]
    pub fn about(&self) -> Arc<About> {
        Arc::clone(&lock(&self.about))
    }

    /// Takes over new labels.
    pub fn relabel(&self, labels: Labels) {
        let mut about = lock(&self.about);
        *about = Arc::new(About {
            labels,
            ..(**about).clone()
        });
    }

    /// Notes a sign of life.
    pub fn seen(&self) {
        *lock(&self.last_seen) = SystemTime::now();
        self.silent.store(false, Ordering::Relaxed);
    }

    /// The agent has been silent for longer than it said it would be.
    pub fn fell_silent(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    /// Whether the agent was heard as lately as it should have been.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        !self.silent.load(Ordering::Relaxed)
    }

    /// The last sign of life.
    #[must_use]
    pub fn last_seen(&self) -> SystemTime {
        *lock(&self.last_seen)
    }
}

/// All live links. Cheap to clone.
#[derive(Clone, Default)]
pub struct Registry {
    links: Arc<Mutex<HashMap<NodeId, Arc<Live>>>>,
    serial: Arc<AtomicU64>,
}

impl Registry {
    /// Adds a link; an older one of the same node is closed, since the agent has left it.
    pub fn add(
        &self,
        node: NodeId,
        transport: Arc<dyn Transport>,
        control: mpsc::Sender<Bytes>,
        about: About,
    ) -> Arc<Live> {
        let live = Arc::new(Live {
            node,
            serial: self.serial.fetch_add(1, Ordering::Relaxed),
            transport,
            control,
            about: Mutex::new(Arc::new(about)),
            last_seen: Mutex::new(SystemTime::now()),
            silent: AtomicBool::new(false),
        });
        let old = lock(&self.links).insert(node, Arc::clone(&live));
        if let Some(old) = old {
            old.transport.close(CloseCode::Replaced);
        }
        live
    }

    /// Takes a link away, unless a newer one has taken its place; tells whether it did.
    pub fn remove(&self, live: &Live) -> bool {
        let mut links = lock(&self.links);
        let current = links
            .get(&live.node)
            .is_some_and(|l| l.serial == live.serial);
        if current {
            links.remove(&live.node);
            // A thousand agents gone should not keep the room of a thousand agents.
            if links.capacity() > 64 && links.len() < links.capacity() / 4 {
                links.shrink_to_fit();
            }
        }
        current
    }

    /// The node's live link.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<Arc<Live>> {
        lock(&self.links).get(&node).cloned()
    }

    /// All live links.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Live>> {
        lock(&self.links).values().cloned().collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.links).len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// No code panics while it holds one of these locks, so a poisoned one holds good data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
