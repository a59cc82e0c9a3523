//! All nodes with all that is known of them: their records, links, and what they last said.
//!
//! Dials and listings read no store: with 10,000 nodes, finding one by name there would cost more
//! than the dial.

use std::sync::Arc;

use protocol::identity::NodeId;
use time::OffsetDateTime;

use crate::auth::locks::Locks;
use crate::auth::nodes::Nodes;
use crate::resource::Resource;
use crate::resource::labels::Labels;
use crate::resource::lock::LockSpec;
use crate::resource::node::{NodeSpec, PresenceSpec};
use crate::tunnel::live::Live;
use crate::tunnel::presence::Presence;
use crate::tunnel::registry::Registry;

/// The nodes of this cluster. Cheap to clone.
#[derive(Clone)]
pub struct Directory {
    nodes: Nodes,
    locks: Locks,
    cluster: Arc<str>,
    registry: Registry,
    presence: Presence,
}

/// One node with all that is known of it.
#[derive(Clone)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its record.
    pub spec: Arc<NodeSpec>,
    /// Its live link.
    pub live: Option<Arc<Live>>,
    /// What it last said of itself.
    pub presence: Option<PresenceSpec>,
    /// What shuts it out.
    pub lock: Option<Arc<Resource<LockSpec>>>,
}

impl Node {
    /// Whether it has a link whose agent gives signs of life.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.is_heard())
    }

    /// Its labels: its own, outweighed by those of its join token, which roles may rely on.
    #[must_use]
    pub fn labels(&self) -> Labels {
        let mut labels = match &self.live {
            Some(live) => live.about().labels.clone(),
            None => self
                .presence
                .as_ref()
                .map(|p| p.labels.clone())
                .unwrap_or_default(),
        };
        labels.extend(self.spec.token_labels.clone());
        labels
    }

    /// What somebody should know or look into.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let lock = self.lock.as_ref().map(|lock| lock.spec.locked("it"));
        let copy = self.spec.problem(OffsetDateTime::now_utc());
        lock.into_iter().chain(copy).collect()
    }
}

impl Directory {
    /// Joins what is known.
    #[must_use]
    pub fn new(
        nodes: Nodes,
        locks: Locks,
        cluster: &str,
        registry: Registry,
        presence: Presence,
    ) -> Self {
        Self {
            nodes,
            locks,
            cluster: cluster.into(),
            registry,
            presence,
        }
    }

    /// Finds nodes by id, name, or `name.cluster`.
    #[must_use]
    pub fn find(&self, target: &str) -> Vec<Node> {
        let name = target
            .strip_suffix(&*self.cluster)
            .and_then(|name| name.strip_suffix('.'))
            .unwrap_or(target);
        let found = self.nodes.read().find(name);
        self.with_links(found)
    }

    /// All nodes.
    #[must_use]
    pub fn all(&self) -> Vec<Node> {
        let all = self.nodes.read().all();
        self.with_links(all)
    }

    fn with_links(&self, nodes: Vec<(NodeId, Arc<NodeSpec>)>) -> Vec<Node> {
        let nodes = nodes.into_iter();
        nodes.map(|(id, spec)| self.node(id, spec)).collect()
    }

    fn node(&self, id: NodeId, spec: Arc<NodeSpec>) -> Node {
        Node {
            id,
            spec,
            live: self.registry.get(id),
            presence: self.presence.get(id),
            lock: self.locks.read().of_node(id, OffsetDateTime::now_utc()),
        }
    }
}
