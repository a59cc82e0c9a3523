//! All resources of a kind, kept in memory and in step with the store.
//!
//! What is asked for at every link or dial is not read from the store: ten thousand agents that
//! come back at once would wait for one reader. Changes come through the store's watch, also those
//! of another process; if that fell behind, all is read anew.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::sync::watch;

use super::{Resource, Resources, Spec};
use crate::store::{Event, Key, Watch};

/// Changes come within milliseconds, or something is wrong that others will tell of.
const CATCH_UP: Duration = Duration::from_secs(2);

/// What is kept, in whatever order suits those who ask.
pub trait Index: Default + Send + Sync + 'static {
    /// The kind.
    type Spec: Spec;
    /// One was written.
    fn put(&mut self, resource: Resource<Self::Spec>);
    /// One is gone.
    fn remove(&mut self, name: &str);
}

/// See the [module](self). Cheap to clone.
pub struct Mirror<I> {
    index: Arc<RwLock<I>>,
    /// The newest revision that was taken over.
    changes: watch::Receiver<u64>,
}

impl<I> Clone for Mirror<I> {
    fn clone(&self) -> Self {
        Self {
            index: Arc::clone(&self.index),
            changes: self.changes.clone(),
        }
    }
}

impl<I: Index> Mirror<I> {
    /// Reads all and starts to follow changes.
    ///
    /// # Errors
    /// If the store fails, or holds what cannot be read.
    pub async fn open(resources: &Resources) -> anyhow::Result<Self> {
        let prefix = Key::new(&[I::Spec::ROOM])?;
        // First the watch, then the list: a change in between is seen twice rather than never.
        let watch = resources.backend().watch(&prefix).await?;
        let (changed, changes) = watch::channel(0);
        let mirror = Self {
            index: Arc::default(),
            changes,
        };
        mirror.read_all(resources).await?;
        tokio::spawn(mirror.clone().follow(resources.clone(), watch, changed));
        Ok(mirror)
    }

    /// What is kept. Whoever reads must not wait for anything meanwhile.
    pub fn read(&self) -> RwLockReadGuard<'_, I> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes that have been taken over, for whoever wants to look again after each.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Waits until a change of one's own is taken over, so that who was told of it finds it here.
    pub async fn caught_up(&self, revision: u64) {
        let mut changes = self.changes.clone();
        // What was deleted again meanwhile, while this fell behind, never shows.
        let seen = changes.wait_for(|&seen| seen >= revision);
        tokio::time::timeout(CATCH_UP, seen).await.ok();
    }

    async fn follow(self, resources: Resources, mut watch: Watch, changed: watch::Sender<u64>) {
        loop {
            let seen = match watch.next().await {
                Ok(event) => self.take(event),
                Err(_) => match self.read_all(&resources).await {
                    Ok(newest) => newest,
                    Err(error) => {
                        tracing::error!(%error, kind = I::Spec::KIND, "could not be read again");
                        return;
                    }
                },
            };
            changed.send_modify(|newest| *newest = seen.max(*newest));
        }
    }

    /// Takes a change over; gives its revision.
    fn take(&self, event: Event) -> u64 {
        let revision = event.revision();
        let name = event.key().segments().next_back().map(str::to_owned);
        match (event, name) {
            (Event::Put(item), _) => match serde_json::from_slice(&item.value) {
                Ok(resource) => self.write(|index| index.put(resource)),
                Err(_) => tracing::warn!(key = %item.key, "unreadable record"),
            },
            (Event::Deleted { .. }, Some(name)) => self.write(|index| index.remove(&name)),
            (Event::Deleted { .. }, None) => {}
        }
        revision
    }

    /// Reads all anew; gives the newest revision.
    async fn read_all(&self, resources: &Resources) -> anyhow::Result<u64> {
        let (mut fresh, mut newest) = (I::default(), 0);
        for resource in resources.list::<I::Spec>().await? {
            newest = resource.metadata.revision.unwrap_or(0).max(newest);
            fresh.put(resource);
        }
        self.write(|index| *index = fresh);
        Ok(newest)
    }

    fn write(&self, change: impl FnOnce(&mut I)) {
        change(&mut self.index.write().unwrap_or_else(PoisonError::into_inner));
    }
}
