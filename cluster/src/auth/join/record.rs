//! A node's record in the store, and that of its key.

use protocol::identity::NodeId;
use protocol::message::control::Refusal;
use time::OffsetDateTime;

use super::{Join, JoinError, RACES, refused};
use crate::auth::generation::{Copied, Generations};
use crate::resource::node::{Copy, NodeSpec};
use crate::resource::{Resource, ResourceError};
use crate::store::{Key, StoreError};

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

    /// Writes a new node.
    pub(super) async fn register(&self, id: NodeId, spec: &NodeSpec) -> Result<(), JoinError> {
        let id = id.to_string();
        let key = key_record(&spec.public_key)?;
        let bytes = id.clone().into_bytes();
        let bound = self.resources.backend().put(&key, bytes, None).await;
        bound.map_err(|e| JoinError::Internal(e.into()))?;
        self.resources
            .create(&Resource::new(id, spec.clone()))
            .await?;
        Ok(())
    }

    /// Finds the node a key is bound to. Keys have records of their own, since a thousand devices
    /// joining at once must not read a thousand nodes each.
    pub(super) async fn by_key(
        &self,
        public_key: &[u8; 32],
    ) -> Result<Option<(NodeId, NodeSpec)>, JoinError> {
        let key = key_record(&hex::encode(public_key))?;
        let item = self.resources.backend().get(&key).await;
        let Some(item) = item.map_err(anyhow::Error::from)? else {
            return Ok(None);
        };
        let id = String::from_utf8_lossy(&item.value);
        // A key may outlive its node, if power failed while that was removed.
        let node = self.resources.find::<NodeSpec>(&id).await?;
        Ok(node.and_then(|node| Some((node.name().parse().ok()?, node.spec))))
    }

    /// Forgets which node a key (hex) was bound to.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn forget_key(&self, public_key: &str) -> anyhow::Result<()> {
        let key = Key::new(&["node_keys", public_key])?;
        match self.resources.backend().delete(&key, None).await {
            Ok(_) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

fn key_record(public_key: &str) -> Result<Key, JoinError> {
    Key::new(&["node_keys", public_key]).map_err(|e| JoinError::Internal(e.into()))
}
