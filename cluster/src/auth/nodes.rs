//! All nodes by id and by name.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use protocol::identity::NodeId;

use crate::resource::Resource;
use crate::resource::mirror::{Index, Mirror};
use crate::resource::node::NodeSpec;

/// All nodes of the cluster, in memory.
pub type Nodes = Mirror<ById>;

/// The index behind [`Nodes`].
#[derive(Default)]
pub struct ById {
    nodes: BTreeMap<NodeId, Arc<NodeSpec>>,
    by_name: HashMap<String, Vec<NodeId>>,
}

impl ById {
    /// One node.
    #[must_use]
    pub fn get(&self, id: NodeId) -> Option<Arc<NodeSpec>> {
        self.nodes.get(&id).cloned()
    }

    /// Nodes of this name, or the one of this id.
    #[must_use]
    pub fn find(&self, name: &str) -> Vec<(NodeId, Arc<NodeSpec>)> {
        let ids = match name.parse::<NodeId>() {
            Ok(id) => vec![id],
            Err(_) => self.by_name.get(name).cloned().unwrap_or_default(),
        };
        let found = ids.into_iter().filter_map(|id| Some((id, self.get(id)?)));
        found.collect()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<(NodeId, Arc<NodeSpec>)> {
        let all = self.nodes.iter().map(|(id, spec)| (*id, Arc::clone(spec)));
        all.collect()
    }

    fn forget(&mut self, id: NodeId) {
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

impl Index for ById {
    type Spec = NodeSpec;

    fn put(&mut self, node: Resource<NodeSpec>) {
        let Ok(id) = node.name().parse() else {
            tracing::warn!(name = node.name(), "a node's name is no id");
            return;
        };
        self.forget(id);
        let named = self.by_name.entry(node.spec.hostname.clone()).or_default();
        named.push(id);
        self.nodes.insert(id, Arc::new(node.spec));
    }

    fn remove(&mut self, name: &str) {
        if let Ok(id) = name.parse() {
            self.forget(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u8, hostname: &str) -> Resource<NodeSpec> {
        let spec = serde_json::json!({
            "hostname": hostname, "public_key": "", "generation": 1, "joined": "2026-01-01T00:00:00Z",
        });
        let spec = serde_json::from_value(spec).unwrap();
        Resource::new(NodeId([id; 16]).to_string(), spec)
    }

    fn ids(found: &[(NodeId, Arc<NodeSpec>)]) -> Vec<u8> {
        found.iter().map(|(id, _)| id.0[0]).collect()
    }

    #[test]
    fn nodes_are_found_by_id_and_by_name_also_after_a_change() {
        let mut nodes = ById::default();
        for (id, name) in [(1, "a"), (2, "b"), (3, "b")] {
            nodes.put(node(id, name));
        }
        assert_eq!(ids(&nodes.find("b")), [2, 3]);
        assert_eq!(ids(&nodes.find(&NodeId([1; 16]).to_string())), [1]);
        nodes.put(node(2, "c"));
        assert_eq!(ids(&nodes.find("b")), [3]);
        assert_eq!(ids(&nodes.find("c")), [2]);
        nodes.remove(&NodeId([3; 16]).to_string());
        assert!(nodes.find("b").is_empty() && !nodes.by_name.contains_key("b"));
        assert_eq!(ids(&nodes.all()), [1, 2]);
    }
}
