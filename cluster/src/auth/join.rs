//! Joining: tokens, node registration by bound key, renewal.
//!
//! A device shows a join token once and proves that it holds its key; the cluster records the key.
//! From then on the key is the device's identity: certificates are renewed for it, also long after
//! they have expired, until the node is removed or locked. Which of two devices with one key is the
//! copy, [`super::generation`] decides.

mod record;

use std::sync::Arc;

use protocol::identity::NodeId;
use protocol::message::control::Refusal;
use protocol::message::join::PROOF_CONTEXT;
use time::OffsetDateTime;

use super::Secret;
use super::ca::peer::NodePeer;
use super::ca::{Authorities, Issued};
use super::generation::Copied;
use super::locks::Locks;
use super::login::same;
use super::nodes::Nodes;
use crate::audit::{Audit, Event, code};
use crate::resource::node::{NodeSpec, check_hostname, check_not_taken};
use crate::resource::token::TokenSpec;
use crate::resource::{Resource, ResourceError, Resources};

/// Characters of a token's hash that make its name.
const TOKEN_NAME: usize = 12;
/// Tries to change a record that others change at the same time.
const RACES: usize = 64;

/// The joining half of the auth service. Cheap to clone.
#[derive(Clone)]
pub struct Join {
    /// Keys to sign with.
    pub authorities: Arc<Authorities>,
    /// The proxy's own name.
    pub public_host: Arc<str>,
    /// Tokens and nodes.
    pub resources: Resources,
    /// All nodes, in memory.
    pub nodes: Nodes,
    /// Who is locked.
    pub locks: Locks,
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
        match result {
            Ok(_) => self.audit.record(event).await,
            Err(_) => self.audit.refused(event).await,
        }
        result
    }

    async fn admit(
        &self,
        token: &Secret,
        name: &str,
        public_key: [u8; 32],
        claim: &Claim<'_>,
    ) -> Result<Enrolled, JoinError> {
        check_hostname(name)
            .and_then(|()| check_not_taken(name, &self.authorities.cluster, &self.public_host))
            .map_err(|text| refused(Refusal::Invalid, text))?;
        prove(&public_key, claim)?;
        let known = self.by_key(&public_key).await?;
        let token = match &known {
            Some((id, node)) => {
                self.not_locked(*id)?;
                self.use_token_once(token, node).await?
            }
            None => self.use_token(token).await?,
        };
        let fresh = NodeSpec {
            hostname: name.to_owned(),
            public_key: hex::encode(public_key),
            token: Some(token.metadata.name),
            token_labels: token.spec.labels,
            generation: 1,
            generation_shown: true,
            renewed_from: Some(claim.addr.to_owned()),
            copy: None,
            joined: OffsetDateTime::now_utc(),
        };
        let (id, spec) = self.settle(fresh).await?;
        self.enroll(id, &spec, public_key)
    }

    /// New certificates for a known node: over its link, or after a long absence. `addr` is where it
    /// asks from.
    ///
    /// # Errors
    /// If the node was removed or is locked, the proof does not fit, or the device is a copy.
    pub async fn renew(
        &self,
        id: NodeId,
        generation: u32,
        addr: &str,
        claim: Option<&Claim<'_>>,
    ) -> Result<Enrolled, JoinError> {
        let public_key = bound_key(id, &self.stored(id).await?.spec)?;
        if let Some(claim) = claim {
            prove(&public_key, claim)?;
        }
        self.not_locked(id)?;
        let mut verdict = Ok(0);
        let renew = |spec: &mut NodeSpec| {
            let mut generations = spec.generations();
            verdict = generations.renew(generation);
            if verdict.is_ok() {
                spec.set_generations(generations);
                spec.renewed_from = Some(addr.to_owned());
            }
        };
        let spec = self.change(id, renew).await?;
        if verdict.is_err() {
            return Err(self.copied(id, &spec, addr, None).await);
        }
        let renewed = self.enroll(id, &spec, public_key)?;
        let event = Event::new(code::NODE_RENEWED)
            .server(&id.to_string(), &renewed.name)
            .field("addr.remote", addr);
        self.audit.record(event).await;
        Ok(renewed)
    }

    /// Whether a device may link with the certificate it shows; gives its record.
    ///
    /// # Errors
    /// If the node was removed or is locked, has another key, or the device is a copy.
    pub async fn known(&self, peer: &NodePeer, addr: &str) -> Result<Arc<NodeSpec>, JoinError> {
        let id = peer.id;
        let known = self.nodes.read().get(id);
        let mut spec = match known {
            Some(spec) => spec,
            // It may have joined this moment.
            None => Arc::new(self.stored(id).await?.spec),
        };
        if bound_key(id, &spec)? != peer.public_key {
            return Err(refused(
                Refusal::Proof,
                "this certificate is not for the node's bound key",
            ));
        }
        self.not_locked(id)?;
        if let Some(generation) = peer.generation
            && changes(&spec, generation)
        {
            let mut verdict = Ok(());
            let show = |spec: &mut NodeSpec| verdict = spec.show(generation);
            spec = Arc::new(self.change(id, show).await?);
            if verdict.is_err() {
                return Err(self.copied(id, &spec, addr, None).await);
            }
        }
        Ok(spec)
    }

    /// Whether a node is locked.
    ///
    /// # Errors
    /// If it is, with the reason.
    pub fn not_locked(&self, id: NodeId) -> Result<(), JoinError> {
        match self.locks.read().of_node(id, OffsetDateTime::now_utc()) {
            Some(lock) => Err(refused(Refusal::Locked, lock.spec.locked("this node"))),
            None => Ok(()),
        }
    }

    /// Writes down that a device was turned away as a copy of the one that is linked from `linked`,
    /// or of the one that renewed last.
    pub async fn copied(
        &self,
        id: NodeId,
        spec: &NodeSpec,
        addr: &str,
        linked: Option<&str>,
    ) -> JoinError {
        let renewed = spec.renewed_from.clone().unwrap_or_default();
        let mut event = Event::new(code::NODE_CLONED)
            .server(&id.to_string(), &spec.hostname)
            .field("addr.remote", addr)
            .field("addr.renewed", renewed);
        if let Some(linked) = linked {
            event = event.field("addr.linked", linked);
        }
        self.audit.record(event).await;
        if let Err(error) = self.note_copy(id, addr).await {
            tracing::warn!(%error, "a copy could not be noted on its node");
        }
        refused(
            Refusal::Cloned,
            "another device uses this key: a copied image? Remove the node and join both anew",
        )
    }

    /// A token for a device that is a node already. The one that it joined with is not used again:
    /// the answer to the first try may have been lost on the way.
    async fn use_token_once(
        &self,
        secret: &Secret,
        node: &NodeSpec,
    ) -> Result<Resource<TokenSpec>, JoinError> {
        match node.token == Some(token_name(secret)) {
            true => self.token(secret).await,
            false => self.use_token(secret).await,
        }
    }

    /// Takes one use of a token. Of many devices that join at once, each takes its own.
    async fn use_token(&self, secret: &Secret) -> Result<Resource<TokenSpec>, JoinError> {
        for _ in 0..RACES {
            let mut token = self.token(secret).await?;
            match token.spec.uses_left {
                None => return Ok(token),
                Some(0) => return Err(unknown_token()),
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

    /// A token, whether or not it has uses left.
    async fn token(&self, secret: &Secret) -> Result<Resource<TokenSpec>, JoinError> {
        let found = self
            .resources
            .find::<TokenSpec>(&token_name(secret))
            .await?;
        found
            .filter(|token| same(&token.spec.secret_sha256, &secret.sha256()))
            .ok_or_else(unknown_token)
    }

    fn enroll(
        &self,
        id: NodeId,
        spec: &NodeSpec,
        public_key: [u8; 32],
    ) -> Result<Enrolled, JoinError> {
        let (name, generation) = (spec.hostname.clone(), spec.generation);
        let issued = self
            .authorities
            .issue_node(id, &name, public_key, generation)?;
        Ok(Enrolled {
            id,
            name,
            generation,
            issued,
        })
    }
}

/// Whether the store has to hear of it that a device shows these certificates.
fn changes(spec: &NodeSpec, generation: u32) -> bool {
    let before = spec.generations();
    let mut after = before;
    after.show(generation) == Err(Copied) || after != before
}

fn bound_key(id: NodeId, spec: &NodeSpec) -> Result<[u8; 32], JoinError> {
    let mut key = [0; 32];
    hex::decode_to_slice(&spec.public_key, &mut key)
        .map_err(|e| anyhow::anyhow!("node {id} has a damaged key: {e}"))?;
    Ok(key)
}

fn prove(public_key: &[u8; 32], claim: &Claim<'_>) -> Result<(), JoinError> {
    let signed = [PROOF_CONTEXT, claim.exported].concat();
    ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public_key)
        .verify(&signed, claim.proof)
        .map_err(|_| refused(Refusal::Proof, "the proof does not fit the key"))
}

fn unknown_token() -> JoinError {
    refused(
        Refusal::Token,
        "the join token is unknown, used up or expired; make a new one with `tctl tokens add`",
    )
}

fn refused(reason: Refusal, text: impl Into<String>) -> JoinError {
    JoinError::Refused {
        reason,
        text: text.into(),
    }
}
