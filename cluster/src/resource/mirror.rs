//! All resources of a kind, kept in memory and in step with the store.
//!
//! What is asked for at every link or dial is not read from the store: ten thousand agents that
//! come back at once would wait for one reader. Changes come through the store's watch, also those
//! of another process; if that fell behind, all is read anew, and again until it works. A record that
//! cannot be read is left out then, and what is known of the others stays in step.

use std::fmt::Display;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{Resource, ResourceError, Resources, Spec};
use crate::store::{Event, Key, Lagged, StoreError, Watch};

/// Changes come within milliseconds, or something is wrong that others will tell of.
const CATCH_UP: Duration = Duration::from_secs(2);
/// A store that could not be read is read again after this.
const AGAIN: Duration = Duration::from_secs(1);

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
        mirror.take_all(resources.list().await?);
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
        let mut missed = None;
        loop {
            let event = match missed {
                None => watch.next().await,
                // What changes meanwhile is not missed, too.
                Some(again) => tokio::select! {
                    Ok(event) = watch.next() => Ok(event),
                    () = sleep_until(again) => Err(Lagged),
                },
            };
            let seen = match event {
                Ok(event) => self.take(event),
                Err(Lagged) => match self.read_again(&resources).await {
                    Ok(newest) => {
                        missed = None;
                        newest
                    }
                    Err(ResourceError::Store(StoreError::Closed)) => return,
                    Err(error) => {
                        let kind = I::Spec::KIND;
                        tracing::error!(%error, kind, "changes were missed, and all could not be read again");
                        missed = Some(Instant::now() + AGAIN);
                        continue;
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
                Err(error) => unreadable::<I>(&item.key, &error),
            },
            (Event::Deleted { .. }, Some(name)) => self.write(|index| index.remove(&name)),
            (Event::Deleted { .. }, None) => {}
        }
        revision
    }

    /// Reads all anew, but for what is damaged; gives the newest revision.
    async fn read_again(&self, resources: &Resources) -> Result<u64, ResourceError> {
        let all = resources.list_each::<I::Spec>().await?;
        let readable = all.into_iter().filter_map(|found| {
            found
                .inspect_err(|error| unreadable::<I>(&I::Spec::ROOM, error))
                .ok()
        });
        Ok(self.take_all(readable))
    }

    /// Takes these for all there are; gives the newest revision.
    fn take_all(&self, all: impl IntoIterator<Item = Resource<I::Spec>>) -> u64 {
        let (mut fresh, mut newest) = (I::default(), 0);
        for resource in all {
            newest = resource.metadata.revision.unwrap_or(0).max(newest);
            fresh.put(resource);
        }
        self.write(|index| *index = fresh);
        newest
    }

    fn write(&self, change: impl FnOnce(&mut I)) {
        change(&mut self.index.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Nobody is shut out by a lock that cannot be read: an operator has to know.
fn unreadable<I: Index>(record: &dyn Display, error: &dyn Display) {
    let kind = I::Spec::KIND;
    tracing::error!(%record, %error, kind, "a record cannot be read and does not count; write it anew");
}

#[cfg(test)]
mod tests;
