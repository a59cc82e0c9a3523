//! Typed resources over the store: what an operator can create, show and edit.
//!
//! Each is written as `kind / version / metadata / spec`, as JSON in the store (so that it can be
//! read in an emergency) and as YAML at `tctl`. [`Resources`] maps a kind to its keys; the rules
//! of each kind stand beside its type.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::store::{Backend, Key, StoreError};

pub mod labels;
pub mod lock;
pub mod mirror;
pub mod node;
pub mod role;
pub mod session;
pub mod token;
pub mod user;

/// Version written into every resource of this build.
pub const VERSION: &str = "v1";
/// Rows read from the store at once.
const PAGE: usize = 500;

/// A kind of resource.
pub trait Spec: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The word in `kind:`.
    const KIND: &'static str;
    /// First segment of its keys.
    const ROOM: &'static str;

    /// Checks what serde cannot.
    ///
    /// # Errors
    /// A sentence that names the field.
    fn check(&self, name: &str) -> Result<(), String>;
}

/// One resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource<S> {
    /// The kind's word.
    pub kind: String,
    /// Layout of `spec`.
    pub version: String,
    /// Name and the like.
    pub metadata: Metadata,
    /// What is particular to the kind.
    pub spec: S,
}

/// What every resource has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Unique within its kind.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Labels, where the kind uses them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When it goes away by itself.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub expires: Option<OffsetDateTime>,
    /// Revision it was read at; given back on update, it must still be the stored one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

impl<S: Spec> Resource<S> {
    /// A resource that never expires.
    pub fn new(name: impl Into<String>, spec: S) -> Self {
        let metadata = Metadata {
            name: name.into(),
            ..Metadata::default()
        };
        Self {
            kind: S::KIND.into(),
            version: VERSION.into(),
            metadata,
            spec,
        }
    }

    /// The resource's name.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }
}

/// Why a resource could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// There is none of that name.
    #[error("{kind} {name:?} does not exist")]
    NotFound {
        /// The kind's word.
        kind: &'static str,
        /// The name asked for.
        name: String,
    },
    /// There is one already.
    #[error("{kind} {name:?} already exists")]
    Exists {
        /// The kind's word.
        kind: &'static str,
        /// The name asked for.
        name: String,
    },
    /// Somebody else changed it meanwhile.
    #[error("{kind} {name:?} was changed by somebody else; read it again and repeat your change")]
    Conflict {
        /// The kind's word.
        kind: &'static str,
        /// The name asked for.
        name: String,
    },
    /// The resource breaks a rule of its kind.
    #[error("{0}")]
    Invalid(String),
    /// What is stored cannot be read.
    #[error("stored {kind} {name:?} is damaged: {detail}")]
    Damaged {
        /// The kind's word.
        kind: &'static str,
        /// Its key.
        name: String,
        /// What serde says.
        detail: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
}

/// Typed access to the store. Cheap to clone.
#[derive(Clone)]
pub struct Resources {
    backend: Arc<dyn Backend>,
}

impl Resources {
    /// Resources kept in `backend`.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend }
    }

    /// The store below, for records that are not resources.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// Reads one.
    ///
    /// # Errors
    /// If it does not exist, is damaged, or the store fails.
    pub async fn get<S: Spec>(&self, name: &str) -> Result<Resource<S>, ResourceError> {
        let item = self
            .backend
            .get(&key::<S>(name)?)
            .await
            .map_err(|e| named::<S>(name, e))?;
        let item = item.ok_or_else(|| ResourceError::NotFound {
            kind: S::KIND,
            name: name.to_owned(),
        })?;
        parse(name, &item.value, item.revision)
    }

    /// Reads one, if it exists.
    ///
    /// # Errors
    /// If it is damaged, or the store fails.
    pub async fn find<S: Spec>(&self, name: &str) -> Result<Option<Resource<S>>, ResourceError> {
        match self.get(name).await {
            Ok(found) => Ok(Some(found)),
            Err(ResourceError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Reads all of a kind, ordered by name.
    ///
    /// # Errors
    /// If one is damaged, or the store fails.
    pub async fn list<S: Spec>(&self) -> Result<Vec<Resource<S>>, ResourceError> {
        self.list_each().await?.into_iter().collect()
    }

    /// As [`Self::list`], but those that are damaged do not stand in the way of the others.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn list_each<S: Spec>(
        &self,
    ) -> Result<Vec<Result<Resource<S>, ResourceError>>, ResourceError> {
        let prefix = Key::new(&[S::ROOM]).map_err(ResourceError::Store)?;
        let mut all = Vec::new();
        let mut after: Option<Key> = None;
        loop {
            let page = self.backend.range(&prefix, after.as_ref(), PAGE).await;
            let page = page.map_err(ResourceError::Store)?;
            let Some(last) = page.last() else {
                return Ok(all);
            };
            after = Some(last.key.clone());
            for item in &page {
                all.push(parse(&item.key.to_string(), &item.value, item.revision));
            }
        }
    }

    /// Writes a new one.
    ///
    /// # Errors
    /// If it exists, breaks a rule, or the store fails.
    pub async fn create<S: Spec>(&self, resource: &Resource<S>) -> Result<u64, ResourceError> {
        let name = resource.name();
        let bytes = serialize(resource)?;
        let created = self
            .backend
            .create(&key::<S>(name)?, bytes, expires(resource))
            .await;
        created.map_err(|e| named::<S>(name, e))
    }

    /// Writes one over another of the same name, or anew. If the resource carries a revision, the
    /// stored one must still have it.
    ///
    /// # Errors
    /// If it was changed meanwhile, breaks a rule, or the store fails.
    pub async fn put<S: Spec>(&self, resource: &Resource<S>) -> Result<u64, ResourceError> {
        let name = resource.name();
        let key = key::<S>(name)?;
        let bytes = serialize(resource)?;
        let done = match resource.metadata.revision {
            Some(seen) => {
                self.backend
                    .compare_and_swap(&key, seen, bytes, expires(resource))
                    .await
            }
            None => self.backend.put(&key, bytes, expires(resource)).await,
        };
        done.map_err(|e| named::<S>(name, e))
    }

    /// Removes one.
    ///
    /// # Errors
    /// If there is none, or the store fails.
    pub async fn remove<S: Spec>(&self, name: &str) -> Result<(), ResourceError> {
        let removed = self.backend.delete(&key::<S>(name)?, None).await.map(drop);
        removed.map_err(|e| named::<S>(name, e))
    }
}

fn key<S: Spec>(name: &str) -> Result<Key, ResourceError> {
    Key::new(&[S::ROOM, name]).map_err(|_| {
        ResourceError::Invalid(format!(
            "{:?} cannot be the name of a {}: letters, digits and . _ @ : + - are allowed",
            name,
            S::KIND
        ))
    })
}

fn expires<S>(resource: &Resource<S>) -> Option<std::time::SystemTime> {
    resource.metadata.expires.map(Into::into)
}

fn serialize<S: Spec>(resource: &Resource<S>) -> Result<Vec<u8>, ResourceError> {
    if resource.kind != S::KIND || resource.version != VERSION {
        let (kind, version) = (&resource.kind, &resource.version);
        return Err(ResourceError::Invalid(format!(
            "expected kind {} version {VERSION}, found kind {kind} version {version}",
            S::KIND
        )));
    }
    resource
        .spec
        .check(resource.name())
        .map_err(ResourceError::Invalid)?;
    let mut stored = resource.clone();
    stored.metadata.revision = None;
    serde_json::to_vec(&stored).map_err(|e| ResourceError::Invalid(e.to_string()))
}

fn parse<S: Spec>(name: &str, bytes: &[u8], revision: u64) -> Result<Resource<S>, ResourceError> {
    let mut resource: Resource<S> =
        serde_json::from_slice(bytes).map_err(|e| ResourceError::Damaged {
            kind: S::KIND,
            name: name.to_owned(),
            detail: e.to_string(),
        })?;
    resource.metadata.revision = Some(revision);
    Ok(resource)
}

fn named<S: Spec>(name: &str, error: StoreError) -> ResourceError {
    let (kind, name) = (S::KIND, name.to_owned());
    match error {
        StoreError::Exists { .. } => ResourceError::Exists { kind, name },
        StoreError::NotFound { .. } => ResourceError::NotFound { kind, name },
        StoreError::Conflict { .. } => ResourceError::Conflict { kind, name },
        other => ResourceError::Store(other),
    }
}
