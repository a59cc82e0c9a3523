//! Joining: tokens, node registration by bound key, renewal.
//!
//! A device shows a join token once and proves that it holds its key; the cluster records the key.
//! From then on the key is the device's identity: certificates are renewed for it, also long after
//! they have expired, until the node is removed.

use std::sync::Arc;

use protocol::identity::NodeId;
use protocol::message::control::Refusal;
use protocol::message::join::PROOF_CONTEXT;
use time::OffsetDateTime;

use super::Secret;
use super::ca::{Authorities, Issued};
use super::login::same;
use crate::audit::{Audit, Event, code};
use crate::resource::node::{NodeSpec, check_hostname};
use crate::resource::token::TokenSpec;
use crate::resource::{Resource, ResourceError, Resources};
use crate::store::{Key, StoreError};

/// Characters of a token's hash that make its name.
const TOKEN_NAME: usize = 12;
/// Tries to change a record that others change at the same time.
const RACES: usize = 64;

/// The joining half of the auth service. Cheap to clone.
#[derive(Clone)]
pub struct Join {
    /// Keys to sign with.
    pub authorities: Arc<Authorities>,
    /// Tokens and nodes.
    pub resources: Resources,
    /// Where it is written down.
    pub audit: Audit,
}

/// A device's request, with the connection it came over.
pub struct Claim<'a> {
    /// Signature over the context and `exported`.
    pub proof: &'a [u8],
    /// Keying material of the connection.
    pub exported: &'a [u8],
    /// Where it comes from.
    pub addr: &'a str,
}

/// A node with fresh certificates.
pub struct Enrolled {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its certificates' generation.
    pub generation: u32,
    /// Its certificates.
    pub issued: Issued,
}

/// Why a device was turned away.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// For the device, with a reason it understands.
    #[error("{text}")]
    Refused {
        /// Why.
        reason: Refusal,
        /// One plain sentence.
        text: String,
    },
    /// Something broke here.
    #[error("the cluster made an error; its log says more")]
    Internal(#[from] anyhow::Error),
}

impl From<ResourceError> for JoinError {
    fn from(error: ResourceError) -> Self {
        Self::Internal(error.into())
    }
}

/// The resource name of a token.
#[must_use]
pub fn token_name(secret: &Secret) -> String {
    secret.sha256().chars().take(TOKEN_NAME).collect()
}

impl Join {
    /// Registers a new device, or one that joins again with the same key.
    ///
    /// # Errors
    /// As [`JoinError`] says; the audit log says so too.
    pub async fn join(
        &self,
        token: &Secret,
        name: &str,
        public_key: [u8; 32],
        claim: &Claim<'_>,
    ) -> Result<Enrolled, JoinError> {
        let result = self.admit(token, name, public_key, claim).await;
        let event = match &result {
            Ok(node) => Event::new(code::NODE_JOIN).server(&node.id.to_string(), &node.name),
            Err(e) => Event::new(code::NODE_JOIN_FAILED)
                .server("", name)
                .field("error", e.to_string()),
        };
        let event = event
            .field("token", token_name(token))
            .field("addr.remote", claim.addr);
        self.audit.record(event).await;
        result
    }

    async fn admit(
        &self,
        token: &Secret,
        name: &str,
        public_key: [u8; 32],
        claim: &Claim<'_>,
    ) -> Result<Enrolled, JoinError> {
        check_hostname(name).map_err(|text| refused(Refusal::Invalid, text))?;
        prove(&public_key, claim)?;
        let token = self.use_token(token).await?;
        let (id, node) = match self.by_key(&public_key).await? {
            Some(mut node) => {
                node.spec.hostname = name.to_owned();
                node.spec.token_labels = token.spec.labels;
                node.spec.generation = node.spec.generation.saturating_add(1);
                self.resources.put(&node).await?;
                (node_id(&node)?, node)
            }
            None => {
                let id = NodeId(rand::random());
                let node = Resource::new(
                    id.to_string(),
                    NodeSpec {
                        hostname: name.to_owned(),
                        public_key: hex::encode(public_key),
                        token_labels: token.spec.labels,
                        generation: 1,
                        joined: OffsetDateTime::now_utc(),
                    },
                );
                self.bind_key(&node.spec.public_key, id).await?;
                self.resources.create(&node).await?;
                (id, node)
            }
        };
        self.enroll(id, &node, public_key)
    }

    /// New certificates for a known node: over its link, or after a long absence.
    ///
    /// # Errors
    /// If the node was removed, the proof does not fit, or the generation is not the newest.
    pub async fn renew(
        &self,
        id: NodeId,
        generation: u32,
        claim: Option<&Claim<'_>>,
    ) -> Result<Enrolled, JoinError> {
        let mut node = self.node(id).await?;
        let public_key = bound_key(&node)?;
        if let Some(claim) = claim {
            prove(&public_key, claim)?;
        }
        if generation.saturating_add(1) < node.spec.generation {
            let event = Event::new(code::NODE_CLONED).server(&id.to_string(), &node.spec.hostname);
            let addr = claim.map_or("", |c| c.addr);
            self.audit.record(event.field("addr.remote", addr)).await;
            return Err(refused(
                Refusal::Cloned,
                "another device renewed with this key: a copied image? Remove the node and join both anew",
            ));
        }
        // One step behind, the last answer was lost on the way: the same generation is issued again,
        // so that a lossy link never makes a device look like its own copy.
        if generation >= node.spec.generation {
            node.spec.generation = generation.saturating_add(1);
            self.resources.put(&node).await?;
        }
        let renewed = self.enroll(id, &node, public_key)?;
        let event = Event::new(code::NODE_RENEWED).server(&id.to_string(), &renewed.name);
        self.audit.record(event).await;
        Ok(renewed)
    }

    /// A node's record, checked against the key it presents.
    ///
    /// # Errors
    /// If the node was removed or has another key.
    pub async fn known(
        &self,
        id: NodeId,
        public_key: &[u8; 32],
    ) -> Result<Resource<NodeSpec>, JoinError> {
        let node = self.node(id).await?;
        if bound_key(&node)? != *public_key {
            return Err(refused(
                Refusal::Proof,
                "this certificate is not for the node's bound key",
            ));
        }
        Ok(node)
    }

    async fn node(&self, id: NodeId) -> Result<Resource<NodeSpec>, JoinError> {
        self.resources
            .find::<NodeSpec>(&id.to_string())
            .await?
            .ok_or_else(|| {
                refused(
                    Refusal::Removed,
                    "this node was removed from the cluster; join it anew with a token",
                )
            })
    }

    /// Finds the node a key is bound to. Keys have records of their own, since a thousand devices
    /// joining at once must not read a thousand nodes each.
    async fn by_key(&self, public_key: &[u8; 32]) -> Result<Option<Resource<NodeSpec>>, JoinError> {
        let key = key_record(&hex::encode(public_key))?;
        let Some(item) = self
            .resources
            .backend()
            .get(&key)
            .await
            .map_err(anyhow::Error::from)?
        else {
            return Ok(None);
        };
        let id = String::from_utf8_lossy(&item.value).into_owned();
        Ok(self.resources.find::<NodeSpec>(&id).await?)
    }

    async fn bind_key(&self, public_key: &str, id: NodeId) -> Result<(), JoinError> {
        let id = id.to_string().into_bytes();
        let done = self
            .resources
            .backend()
            .put(&key_record(public_key)?, id, None)
            .await;
        done.map(drop).map_err(|e| JoinError::Internal(e.into()))
    }

    /// Forgets which node a key (hex) was bound to.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn forget_key(&self, public_key: &str) -> anyhow::Result<()> {
        match self
            .resources
            .backend()
            .delete(&Key::new(&["node_keys", public_key])?, None)
            .await
        {
            Ok(_) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Takes one use of a token. Of many devices that join at once, each takes its own.
    async fn use_token(&self, secret: &Secret) -> Result<Resource<TokenSpec>, JoinError> {
        let unknown = || {
            refused(
                Refusal::Token,
                "the join token is unknown, used up or expired; make a new one with `tctl tokens add`",
            )
        };
        for _ in 0..RACES {
            let found = self
                .resources
                .find::<TokenSpec>(&token_name(secret))
                .await?;
            let mut token = found.ok_or_else(unknown)?;
            if !same(&token.spec.secret_sha256, &secret.sha256()) {
                return Err(unknown());
            }
            match token.spec.uses_left {
                None => return Ok(token),
                Some(0) => return Err(unknown()),
                Some(left) => token.spec.uses_left = Some(left - 1),
            }
            match self.resources.put(&token).await {
                Ok(_) => return Ok(token),
                Err(ResourceError::Conflict { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(refused(
            Refusal::Busy,
            "too many devices join with this token at once; try again",
        ))
    }

    fn enroll(
        &self,
        id: NodeId,
        node: &Resource<NodeSpec>,
        public_key: [u8; 32],
    ) -> Result<Enrolled, JoinError> {
        let name = node.spec.hostname.clone();
        let issued = self.authorities.issue_node(id, &name, public_key)?;
        Ok(Enrolled {
            id,
            name,
            generation: node.spec.generation,
            issued,
        })
    }
}

/// A node resource's id.
///
/// # Errors
/// If its name is not an id.
pub fn node_id(node: &Resource<NodeSpec>) -> anyhow::Result<NodeId> {
    Ok(node.name().parse()?)
}

fn key_record(public_key: &str) -> Result<Key, JoinError> {
    Key::new(&["node_keys", public_key]).map_err(|e| JoinError::Internal(e.into()))
}

fn bound_key(node: &Resource<NodeSpec>) -> Result<[u8; 32], JoinError> {
    let mut key = [0; 32];
    hex::decode_to_slice(&node.spec.public_key, &mut key)
        .map_err(|e| anyhow::anyhow!("node {} has a damaged key: {e}", node.name()))?;
    Ok(key)
}

fn prove(public_key: &[u8; 32], claim: &Claim<'_>) -> Result<(), JoinError> {
    let signed = [PROOF_CONTEXT, claim.exported].concat();
    ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public_key)
        .verify(&signed, claim.proof)
        .map_err(|_| refused(Refusal::Proof, "the proof does not fit the key"))
}

fn refused(reason: Refusal, text: impl Into<String>) -> JoinError {
    JoinError::Refused {
        reason,
        text: text.into(),
    }
}
