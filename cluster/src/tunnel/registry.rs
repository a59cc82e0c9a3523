//! Which nodes have a live link, right now and in this process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use protocol::error::CloseCode;
use protocol::identity::NodeId;
use tokio::sync::mpsc;

use super::Transport;
use crate::resource::labels::Labels;

/// An agent that says that it moves has moved within this time, or does not: it looks at the new
/// link for 5 s, and waits 10 s for its welcome.
const MOVE: Duration = Duration::from_secs(20);
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
    /// When the agent said that it is about to go on over another link.
    moving: Mutex<Option<Instant>>,
    /// The link it has moved away from, which may have streams.
    left: Mutex<Option<Arc<Live>>>,
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

    /// The agent is about to go on over another link, and ends this one when its streams have ended.
    pub fn moves(&self) {
        *lock(&self.moving) = Some(Instant::now());
    }

    /// Ends the link, and one that the agent has moved away from.
    pub fn close(&self, code: CloseCode) {
        self.transport.close(code);
        if let Some(left) = lock(&self.left).take() {
            left.close(code);
        }
    }

    /// What remains of this link now that another takes its place: streams go on where the agent
    /// said that it moves. There is one such link at most.
    fn replaced(self: Arc<Self>) -> Option<Arc<Self>> {
        let before = lock(&self.left).take();
        let moves = lock(&self.moving).is_some_and(|said| said.elapsed() < MOVE);
        let (ends, left) = if moves {
            (before, Some(self))
        } else {
            (Some(self), before)
        };
        if let Some(ends) = ends {
            ends.transport.close(CloseCode::Replaced);
        }
        left
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
    /// Adds a link. An older one of the same node is closed, since the agent has left it, unless it
    /// said that it moves.
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
            moving: Mutex::default(),
            left: Mutex::default(),
        });
        let mut links = lock(&self.links);
        let old = links.insert(node, Arc::clone(&live));
        *lock(&live.left) = old.and_then(Live::replaced);
        drop(links);
        live
    }

    /// Whether this is the node's link, and not one that it has moved away from.
    #[must_use]
    pub fn is_current(&self, live: &Live) -> bool {
        let links = lock(&self.links);
        links
            .get(&live.node)
            .is_some_and(|link| link.serial == live.serial)
    }

    /// Takes a link that has ended away; tells whether it was the node's link.
    pub fn remove(&self, live: &Live) -> bool {
        let mut links = lock(&self.links);
        let Some(link) = links.get(&live.node) else {
            return false;
        };
        let current = link.serial == live.serial;
        if !current {
            let mut left = lock(&link.left);
            left.take_if(|left| left.serial == live.serial);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::net::{Ipv4Addr, SocketAddr};

    use crate::tunnel::stream::Stream;
    use futures::future::{BoxFuture, FutureExt};

    /// Only says how it was closed.
    #[derive(Default)]
    struct Silent(Mutex<Option<CloseCode>>);

    impl Transport for Silent {
        fn open(&self) -> BoxFuture<'_, io::Result<Stream>> {
            futures::future::pending().boxed()
        }
        fn close(&self, code: CloseCode) {
            lock(&self.0).get_or_insert(code);
        }
        fn remote(&self) -> SocketAddr {
            (Ipv4Addr::LOCALHOST, 1).into()
        }
        fn round_trip(&self) -> Duration {
            Duration::ZERO
        }
        fn heard(&self) -> u64 {
            0
        }
        fn wire_bytes(&self) -> u64 {
            0
        }
        fn kind(&self) -> &'static str {
            "silent"
        }
    }

    fn add(registry: &Registry) -> (Arc<Live>, Arc<Silent>) {
        let transport = Arc::new(Silent::default());
        let control = mpsc::channel(1).0;
        let shared = Arc::clone(&transport) as Arc<dyn Transport>;
        let live = registry.add(NodeId([7; 16]), shared, control, About::default());
        (live, transport)
    }

    fn closed(transport: &Silent) -> Option<CloseCode> {
        *lock(&transport.0)
    }

    #[test]
    fn a_link_that_is_replaced_ends_unless_the_agent_moves() {
        let registry = Registry::default();
        let (_, first) = add(&registry);
        let (second, moved) = add(&registry);
        assert_eq!(closed(&first), Some(CloseCode::Replaced));
        second.moves();
        let (third, current) = add(&registry);
        assert_eq!(closed(&moved), None);
        assert!(registry.is_current(&third) && !registry.is_current(&second));
        // One is all that is kept.
        third.moves();
        let (fourth, last) = add(&registry);
        assert_eq!(closed(&moved), Some(CloseCode::Replaced));
        assert_eq!(closed(&current), None);
        fourth.close(CloseCode::Denied);
        assert_eq!(closed(&last), Some(CloseCode::Denied));
        assert_eq!(closed(&current), Some(CloseCode::Denied));
    }

    #[test]
    fn a_link_that_was_left_is_forgotten_once_it_has_ended() {
        let registry = Registry::default();
        let (old, transport) = add(&registry);
        old.moves();
        let (new, _) = add(&registry);
        assert!(!registry.remove(&old));
        new.close(CloseCode::Done);
        assert_eq!(closed(&transport), None);
        assert!(registry.remove(&new));
        assert!(registry.is_empty());
    }

    #[test]
    fn a_move_that_came_to_nothing_is_none_later() {
        let registry = Registry::default();
        let (old, transport) = add(&registry);
        *lock(&old.moving) = Instant::now().checked_sub(MOVE);
        add(&registry);
        assert_eq!(closed(&transport), Some(CloseCode::Replaced));
    }
}
