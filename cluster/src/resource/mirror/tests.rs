//! Mirrors of a store that fails now and then.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use futures::FutureExt;
use futures::executor::block_on;
use serde_json::json;

use super::*;
use crate::auth::locks::Locks;
use crate::resource::lock::LockSpec;
use crate::store::sqlite::{Options, Sqlite};
use crate::store::{Answer, Backend, Item};

/// Changes that a watch holds.
const DEPTH: usize = 4;
/// How often reading fails once changes were missed.
const FAILURES: usize = 2;

/// A store that cannot be listed for as often as it is told.
struct Failing {
    store: Sqlite,
    failures: AtomicUsize,
}

impl Failing {
    fn fails(&self) -> bool {
        let left = |left: usize| left.checked_sub(1);
        let took = self
            .failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        took.is_ok()
    }
}

impl Backend for Failing {
    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Item>> {
        self.store.get(key)
    }

    fn create<'a>(
        &'a self,
        key: &'a Key,
        value: Vec<u8>,
        expires: Option<SystemTime>,
    ) -> Answer<'a, u64> {
        self.store.create(key, value, expires)
    }

    fn put<'a>(
        &'a self,
        key: &'a Key,
        value: Vec<u8>,
        expires: Option<SystemTime>,
    ) -> Answer<'a, u64> {
        self.store.put(key, value, expires)
    }

    fn compare_and_swap<'a>(
        &'a self,
        key: &'a Key,
        expected: u64,
        value: Vec<u8>,
        expires: Option<SystemTime>,
    ) -> Answer<'a, u64> {
        self.store.compare_and_swap(key, expected, value, expires)
    }

    fn delete<'a>(&'a self, key: &'a Key, expected: Option<u64>) -> Answer<'a, ()> {
        self.store.delete(key, expected)
    }

    fn range<'a>(
        &'a self,
        prefix: &'a Key,
        after: Option<&'a Key>,
        limit: usize,
    ) -> Answer<'a, Vec<Item>> {
        if self.fails() {
            let error = StoreError::Busy { path: "db".into() };
            return std::future::ready(Err(error)).boxed();
        }
        self.store.range(prefix, after, limit)
    }

    fn watch<'a>(&'a self, prefix: &'a Key) -> Answer<'a, Watch> {
        self.store.watch(prefix)
    }
}

struct Bench {
    _dir: tempfile::TempDir,
    store: Arc<Failing>,
    resources: Resources,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            watch_depth: DEPTH,
            ..Options::default()
        };
        let store = Sqlite::open(&dir.path().join("tether.db"), options).unwrap();
        let failures = AtomicUsize::new(0);
        let store = Arc::new(Failing { store, failures });
        let resources = Resources::new(Arc::clone(&store) as Arc<dyn Backend>);
        Self {
            _dir: dir,
            store,
            resources,
        }
    }

    /// Locks a user, while no task of the test's only thread can follow; gives the revision.
    fn lock(&self, user: &str) -> u64 {
        let spec = json!({ "target": { "user": user } });
        let spec: LockSpec = serde_json::from_value(spec).unwrap();
        block_on(self.resources.create(&Resource::new(user, spec))).unwrap()
    }
}

fn is_locked(locks: &Locks, user: &str) -> bool {
    let now = time::OffsetDateTime::now_utc();
    locks.read().of_user(user, now).is_some()
}

async fn hears(locks: &Locks, revision: u64) {
    let mut changes = locks.changes();
    changes.wait_for(|&seen| seen >= revision).await.unwrap();
}

#[tokio::test]
async fn a_mirror_that_missed_changes_reads_again_until_it_can() {
    let bench = Bench::new();
    let locks = Locks::open(&bench.resources).await.unwrap();
    bench.store.failures.store(FAILURES, Ordering::Relaxed);
    let names: Vec<_> = (0..4 * DEPTH).map(|n| format!("user-{n}")).collect();
    let revisions: Vec<_> = names.iter().map(|name| bench.lock(name)).collect();
    hears(&locks, *revisions.last().unwrap()).await;
    assert_eq!(bench.store.failures.load(Ordering::Relaxed), 0);
    assert!(names.iter().all(|name| is_locked(&locks, name)));
    // And goes on from there.
    let later = bench.lock("later");
    hears(&locks, later).await;
    assert!(is_locked(&locks, "later"));
}

#[tokio::test]
async fn a_damaged_record_does_not_stand_in_the_way_of_the_others() {
    let bench = Bench::new();
    let locks = Locks::open(&bench.resources).await.unwrap();
    let damaged = Key::new(&[LockSpec::ROOM, "damaged"]).unwrap();
    block_on(bench.store.put(&damaged, b"{".to_vec(), None)).unwrap();
    let names: Vec<_> = (0..4 * DEPTH).map(|n| format!("user-{n}")).collect();
    let revisions: Vec<_> = names.iter().map(|name| bench.lock(name)).collect();
    hears(&locks, *revisions.last().unwrap()).await;
    assert!(names.iter().all(|name| is_locked(&locks, name)));
}
