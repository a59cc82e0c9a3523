//! All nodes by id and by name, kept in memory and in step with the store.
//!
//! Dials and listings read no store: with 10,000 nodes, finding one by name there would cost more
//! than the dial. Changes come through the store's watch; if that fell behind, all is read anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use protocol::identity::NodeId;

use crate::resource::labels::Labels;
use crate::resource::node::{NodeSpec, PresenceSpec};
use crate::resource::{Resource, Resources, Spec};
use crate::store::{Event, Key, Watch};
use crate::tunnel::presence::Presence;
use crate::tunnel::registry::{Live, Registry};

#[derive(Default)]
struct Index {
    nodes: BTreeMap<NodeId, Arc<NodeSpec>>,
    by_name: HashMap<String, Vec<NodeId>>,
}

/// The nodes of this cluster. Cheap to clone.
#[derive(Clone)]
pub struct Directory {
    index: Arc<RwLock<Index>>,
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
}

impl Directory {
    /// Reads all nodes and starts to follow changes.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn open(
        resources: &Resources,
        cluster: &str,
        registry: Registry,
        presence: Presence,
    ) -> anyhow::Result<Self> {
        let prefix = Key::new(&[NodeSpec::ROOM])?;
        // First the watch, then the list: a change in between is seen twice rather than never.
        let watch = resources.backend().watch(&prefix).await?;
        let directory = Self {
            index: Arc::default(),
            cluster: cluster.into(),
            registry,
            presence,
        };
        directory.read_all(resources).await?;
        tokio::spawn(directory.clone().follow(resources.clone(), watch));
        Ok(directory)
    }

    /// Finds nodes by id, name, or `name.cluster`.
    #[must_use]
    pub fn find(&self, target: &str) -> Vec<Node> {
        let name = target
            .strip_suffix(&*self.cluster)
            .and_then(|name| name.strip_suffix('.'))
            .unwrap_or(target);
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let ids = match name.parse::<NodeId>() {
            Ok(id) => vec![id],
            Err(_) => index.by_name.get(name).cloned().unwrap_or_default(),
        };
        let specs = ids
            .into_iter()
            .filter_map(|id| Some((id, Arc::clone(index.nodes.get(&id)?))));
        let specs: Vec<_> = specs.collect();
        drop(index);
        specs
            .into_iter()
            .map(|(id, spec)| self.node(id, spec))
            .collect()
    }

    /// All nodes.
    #[must_use]
    pub fn all(&self) -> Vec<Node> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let specs: Vec<_> = index
            .nodes
            .iter()
            .map(|(id, s)| (*id, Arc::clone(s)))
            .collect();
        drop(index);
        specs
            .into_iter()
            .map(|(id, spec)| self.node(id, spec))
            .collect()
    }

    fn node(&self, id: NodeId, spec: Arc<NodeSpec>) -> Node {
        Node {
            id,
            spec,
            live: self.registry.get(id),
            presence: self.presence.get(id),
        }
    }

    async fn follow(self, resources: Resources, mut watch: Watch) {
        loop {
            match watch.next().await {
                Ok(Event::Put(item)) => {
                    let read = serde_json::from_slice::<Resource<NodeSpec>>(&item.value);
                    match (read, item.key.segments().next_back().map(str::parse)) {
                        (Ok(node), Some(Ok(id))) => self.insert(id, node.spec),
                        _ => tracing::warn!(key = %item.key, "unreadable node record"),
                    }
                }
                Ok(Event::Deleted { key, .. }) => {
                    if let Some(Ok(id)) = key.segments().next_back().map(str::parse) {
                        self.remove(id);
                    }
                }
                Err(_) => {
                    if let Err(error) = self.read_all(&resources).await {
                        tracing::error!(%error, "nodes could not be read again");
                        return;
                    }
                }
            }
        }
    }

    async fn read_all(&self, resources: &Resources) -> anyhow::Result<()> {
        let nodes = resources.list::<NodeSpec>().await?;
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Index::default();
        for node in nodes {
            self.insert(node.name().parse()?, node.spec);
        }
        Ok(())
    }

    fn insert(&self, id: NodeId, spec: NodeSpec) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.remove(id);
        index
            .by_name
            .entry(spec.hostname.clone())
            .or_default()
            .push(id);
        index.nodes.insert(id, Arc::new(spec));
    }

    fn remove(&self, id: NodeId) {
        self.index
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
    }
}

impl Index {
    fn remove(&mut self, id: NodeId) {
        let Some(old) = self.nodes.remove(&id) else {
            return;
        };
        if let Some(ids) = self.by_name.get_mut(&old.hostname) {
            ids.retain(|&other| other != id);
            if ids.is_empty() {
                self.by_name.remove(&old.hostname);
            }
        }
    }
}
