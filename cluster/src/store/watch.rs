//! Watches: who wants to hear of which keys, and what each has not heard yet.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::{Item, Key};

/// A change that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The item was written.
    Put(Item),
    /// The item was deleted, or its expiry has passed.
    Deleted {
        /// Where it was.
        key: Key,
        /// The deletion's own revision.
        revision: u64,
    },
}

impl Event {
    /// The key that changed.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(item) => &item.key,
            Self::Deleted { key, .. } => key,
        }
    }

    /// The revision that the change got.
    #[must_use]
    pub fn revision(&self) -> u64 {
        match self {
            Self::Put(item) => item.revision,
            Self::Deleted { revision, .. } => *revision,
        }
    }
}

/// Changes were missed, because more came than the watch could hold. What it follows has to be
/// read anew. A watch of a closed store says so too, and the reading then tells why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("changes were missed and have to be read anew")]
pub struct Lagged;

/// Follows the changes at and below one key. See [`super::Backend::watch`].
#[derive(Debug)]
pub struct Watch {
    events: broadcast::Receiver<Arc<Event>>,
}

impl Watch {
    /// Waits for the next change. After [`Lagged`] it goes on with those from then on, which with
    /// what is read anew leave no gap.
    ///
    /// Nothing is lost if this is dropped before it is ready.
    pub async fn next(&mut self) -> Result<Event, Lagged> {
        match self.events.recv().await {
            Ok(event) => Ok(Arc::unwrap_or_clone(event)),
            Err(RecvError::Lagged(_)) => {
                self.events = self.events.resubscribe();
                Err(Lagged)
            }
            Err(RecvError::Closed) => Err(Lagged),
        }
    }
}

/// All open watches of a store. They share the events, and each has a bound of its own, so that
/// a flood under one prefix does not make the watch of another one lag.
#[derive(Debug)]
pub(super) struct Watchers {
    depth: usize,
    open: Mutex<Vec<Watcher>>,
}

#[derive(Debug)]
struct Watcher {
    prefix: Key,
    events: broadcast::Sender<Arc<Event>>,
}

impl Watchers {
    /// Each watch holds up to `depth` events, rounded up to a power of two.
    pub(super) fn new(depth: usize) -> Self {
        Self {
            depth: depth.max(1),
            open: Mutex::default(),
        }
    }

    pub(super) fn watch(&self, prefix: Key) -> Watch {
        let (sender, events) = broadcast::channel(self.depth);
        self.with_open(|open| {
            open.push(Watcher {
                prefix,
                events: sender,
            });
        });
        Watch { events }
    }

    pub(super) fn publish(&self, events: impl IntoIterator<Item = Event>) {
        self.with_open(|open| {
            for event in events.into_iter().map(Arc::new) {
                for watcher in open.iter().filter(|w| w.prefix.covers(event.key())) {
                    // Fails if the watch was dropped since the list was pruned.
                    let _ = watcher.events.send(event.clone());
                }
            }
        });
    }

    fn with_open(&self, work: impl FnOnce(&mut Vec<Watcher>)) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|watcher| watcher.events.receiver_count() > 0);
        work(&mut open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        text.parse().expect("a key")
    }

    fn deleted(path: &str, revision: u64) -> Event {
        let key = key(path);
        Event::Deleted { key, revision }
    }

    #[tokio::test]
    async fn a_watch_hears_what_its_prefix_covers() {
        let watchers = Watchers::new(8);
        let mut nodes = watchers.watch(key("/nodes"));
        let mut all_a = watchers.watch(key("/nodes/a"));
        watchers.publish([
            deleted("/nodes/b", 1),
            deleted("/roles/a", 2),
            deleted("/nodes/a", 3),
        ]);
        assert_eq!(nodes.next().await, Ok(deleted("/nodes/b", 1)));
        assert_eq!(nodes.next().await, Ok(deleted("/nodes/a", 3)));
        assert_eq!(all_a.next().await, Ok(deleted("/nodes/a", 3)));
    }

    #[tokio::test]
    async fn a_slow_watch_is_told_that_it_lagged_and_goes_on_with_all_its_room() {
        let watchers = Watchers::new(4);
        let mut watch = watchers.watch(key("/a"));
        watchers.publish((1..=6).map(|revision| deleted("/a", revision)));
        assert_eq!(watch.next().await, Err(Lagged));
        watchers.publish((7..=10).map(|revision| deleted("/a", revision)));
        for revision in 7..=10 {
            assert_eq!(watch.next().await, Ok(deleted("/a", revision)));
        }
    }

    #[tokio::test]
    async fn a_flood_elsewhere_does_not_make_a_watch_lag() {
        let watchers = Watchers::new(4);
        let mut quiet = watchers.watch(key("/roles"));
        watchers.publish((1..=100).map(|revision| deleted("/nodes/a", revision)));
        watchers.publish([deleted("/roles/a", 101)]);
        assert_eq!(quiet.next().await, Ok(deleted("/roles/a", 101)));
    }

    #[tokio::test]
    async fn a_watch_that_outlives_its_store_ends_instead_of_waiting_for_ever() {
        let watchers = Watchers::new(4);
        let mut watch = watchers.watch(key("/a"));
        watchers.publish([deleted("/a", 1)]);
        drop(watchers);
        assert_eq!(watch.next().await, Ok(deleted("/a", 1)));
        assert_eq!(watch.next().await, Err(Lagged));
    }

    #[test]
    fn dropped_watches_are_forgotten() {
        let watchers = Watchers::new(4);
        drop(watchers.watch(key("/a")));
        watchers.publish([]);
        assert!(watchers.open.lock().expect("no panic").is_empty());
    }
}
