//! A node's record in the store, and that of its key.

use anyhow::Context;
use protocol::identity::NodeId;
use protocol::message::control::Refusal;
use time::OffsetDateTime;

use super::{Join, JoinError, RACES, refused};
use crate::auth::generation::{Copied, Generations};
use crate::resource::node::{Copy, NodeSpec};
use crate::resource::{Resource, ResourceError};
use crate::store::{Item, Key, StoreError};

/// A copy that comes again and again is noted no more often than this.
const NOTE_AGAIN: time::Duration = time::Duration::hours(1);

impl NodeSpec {
    /// What is known of its certificates.
    #[must_use]
    pub const fn generations(&self) -> Generations {
        Generations {
            newest: self.generation,
            shown: self.generation_shown,
        }
    }

    /// Takes over what has become of them.
    pub const fn set_generations(&mut self, generations: Generations) {
        self.generation = generations.newest;
        self.generation_shown = generations.shown;
    }

    /// The device joins again, as `fresh`.
    pub(super) fn join_again(&mut self, fresh: &Self) {
        self.hostname.clone_from(&fresh.hostname);
        self.token.clone_from(&fresh.token);
        self.token_labels.clone_from(&fresh.token_labels);
        self.renewed_from.clone_from(&fresh.renewed_from);
        let mut generations = self.generations();
        generations.next();
        self.set_generations(generations);
        // Whoever gives a device a token vouches for it.
        self.copy = None;
    }

    /// A device shows its certificates.
    pub(super) const fn show(&mut self, generation: u32) -> Result<(), Copied> {
        let mut generations = self.generations();
        let verdict = generations.show(generation);
        if verdict.is_ok() {
            self.set_generations(generations);
        }
        verdict
    }
}

impl Join {
    /// A node's record as it is stored now.
    pub(super) async fn stored(&self, id: NodeId) -> Result<Resource<NodeSpec>, JoinError> {
        let node = self.resources.find::<NodeSpec>(&id.to_string()).await?;
        node.ok_or_else(|| {
            refused(
                Refusal::Removed,
                "this node was removed from the cluster; join it anew with a token",
            )
        })
    }

    /// Whether a node is known to be gone; a store that fails proves nothing.
    pub async fn is_removed(&self, id: NodeId) -> bool {
        let stored = self.stored(id).await;
        matches!(
            stored,
            Err(JoinError::Refused {
                reason: Refusal::Removed,
                ..
            })
        )
    }

    /// Changes a node's record; again, if somebody else changed it meanwhile. Gives it as it is then.
    pub(super) async fn change(
        &self,
        id: NodeId,
        mut change: impl FnMut(&mut NodeSpec),
    ) -> Result<NodeSpec, JoinError> {
        for _ in 0..RACES {
            let mut node = self.stored(id).await?;
            let before = node.spec.clone();
            change(&mut node.spec);
            if node.spec == before {
                return Ok(before);
            }
            match self.resources.put(&node).await {
                Ok(revision) => {
                    // A copy may show older certificates the moment the answer is out.
                    self.nodes.caught_up(revision).await;
                    return Ok(node.spec);
                }
                Err(ResourceError::Conflict { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(refused(
            Refusal::Busy,
            "the node's record is changed by too many at once; try again",
        ))
    }

    pub(super) async fn note_copy(&self, id: NodeId, addr: &str) -> Result<(), JoinError> {
        let now = OffsetDateTime::now_utc();
        let note = |spec: &mut NodeSpec| {
            let known = spec.copy.as_ref();
            let fresh = known.is_some_and(|c| c.addr == addr && now - c.refused < NOTE_AGAIN);
            if !fresh {
                spec.copy = Some(Copy {
                    refused: now,
                    addr: addr.to_owned(),
                });
            }
        };
        self.change(id, note).await.map(drop)
    }

    /// Makes a device a node, or lets the node join again that has its key. Of several devices that
    /// come with one key at once, one makes the node: its key's record says which, and is there first.
    pub(super) async fn settle(&self, fresh: NodeSpec) -> Result<(NodeId, NodeSpec), JoinError> {
        for _ in 0..RACES {
            let id = self.bind(&fresh.public_key).await?;
            self.not_locked(id)?;
            let name = id.to_string();
            if self.resources.find::<NodeSpec>(&name).await?.is_some() {
                let spec = self.change(id, |spec| spec.join_again(&fresh)).await?;
                return Ok((id, spec));
            }
            let node = Resource::new(name.as_str(), fresh.clone());
            match self.resources.create(&node).await {
                Ok(_) => {}
                Err(ResourceError::Exists { .. }) => continue,
                Err(e) => return Err(e.into()),
            }
            if self.bound(&fresh.public_key).await? == Some(id) {
                return Ok((id, fresh));
            }
            // Whoever removed the node meanwhile has not seen this one.
            match self.resources.remove::<NodeSpec>(&name).await {
                Ok(()) | Err(ResourceError::NotFound { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(refused(
            Refusal::Busy,
            "too many devices join with this key at once; try again",
        ))
    }

    /// The node that a key (hex) is bound to, of a new id if it was not.
    async fn bind(&self, public_key: &str) -> Result<NodeId, JoinError> {
        loop {
            if let Some(id) = self.bound(public_key).await? {
                return Ok(id);
            }
            let id = NodeId(rand::random());
            let key = key_record(public_key)?;
            let bytes = id.to_string().into_bytes();
            match self.resources.backend().create(&key, bytes, None).await {
                Ok(_) => return Ok(id),
                Err(StoreError::Exists { .. }) => {}
                Err(e) => return Err(JoinError::Internal(e.into())),
            }
        }
    }

    /// The id that a key (hex) is bound to, be there such a node or not.
    async fn bound(&self, public_key: &str) -> Result<Option<NodeId>, JoinError> {
        let key = key_record(public_key)?;
        let item = self.resources.backend().get(&key).await;
        let item = item.map_err(anyhow::Error::from)?;
        Ok(item.map(|item| bound_to(&item)).transpose()?)
    }

    /// Finds the node a key is bound to. Keys have records of their own, since a thousand devices
    /// joining at once must not read a thousand nodes each.
    pub(super) async fn by_key(
        &self,
        public_key: &[u8; 32],
    ) -> Result<Option<(NodeId, NodeSpec)>, JoinError> {
        let Some(id) = self.bound(&hex::encode(public_key)).await? else {
            return Ok(None);
        };
        // A key may have no node yet, or no more, if power failed in between.
        let node = self.resources.find::<NodeSpec>(&id.to_string()).await?;
        Ok(node.map(|node| (id, node.spec)))
    }

    /// Forgets that a key (hex) is bound to a node. That comes before the node is removed: a device
    /// that joins meanwhile is another node then.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn forget_key(&self, public_key: &str, id: NodeId) -> anyhow::Result<()> {
        let key = Key::new(&["node_keys", public_key])?;
        let backend = self.resources.backend();
        let Some(item) = backend.get(&key).await? else {
            return Ok(());
        };
        if bound_to(&item)? != id {
            return Ok(());
        }
        match backend.delete(&key, Some(item.revision)).await {
            Ok(()) | Err(StoreError::NotFound { .. } | StoreError::Conflict { .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

fn bound_to(item: &Item) -> anyhow::Result<NodeId> {
    let id = String::from_utf8_lossy(&item.value).parse::<NodeId>();
    id.with_context(|| format!("{} names no node", item.key))
}

fn key_record(public_key: &str) -> Result<Key, JoinError> {
    Key::new(&["node_keys", public_key]).map_err(|e| JoinError::Internal(e.into()))
}
