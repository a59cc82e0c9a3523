//! Random operations on the store and on a plain map must give the same answers.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::Bench;
use crate::store::sqlite::Sqlite;
use crate::store::{Backend, Item, Key, StoreError};

/// Around the prefixes, with bytes below and above the slash.
const PATHS: [&str; 8] = [
    "/a", "/a-b", "/a/b", "/a/b.c", "/a/b/c", "/a/d", "/a0", "/b",
];

#[derive(Debug, Clone)]
enum Op {
    Get(usize),
    Create(usize, Option<u64>),
    Put(usize, Option<u64>),
    Swap(usize, bool),
    Delete(usize, Option<bool>),
    Range(usize, Option<usize>, usize),
    Advance(u64),
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let path = || 0..PATHS.len();
    let ttl = || proptest::option::of(1..50_u64);
    prop_oneof![
        3 => path().prop_map(Op::Get),
        4 => (path(), ttl()).prop_map(|(key, ttl)| Op::Create(key, ttl)),
        4 => (path(), ttl()).prop_map(|(key, ttl)| Op::Put(key, ttl)),
        4 => (path(), any::<bool>()).prop_map(|(key, right)| Op::Swap(key, right)),
        3 => (path(), any::<Option<bool>>()).prop_map(|(key, right)| Op::Delete(key, right)),
        3 => (path(), proptest::option::of(path()), 0..10_usize)
            .prop_map(|(prefix, after, limit)| Op::Range(prefix, after, limit)),
        2 => (1..30_u64).prop_map(Op::Advance),
        1 => Just(Op::Reopen),
    ]
}

#[derive(Default)]
struct Model {
    items: BTreeMap<Key, Item>,
    last: u64,
    writes: u64,
}

impl Model {
    fn found(&self, key: &Key) -> Option<u64> {
        self.items.get(key).map(|item| item.revision)
    }

    /// The revision to ask for: the right one if there is one and it is wanted.
    fn expected(&self, key: &Key, right: bool) -> u64 {
        match self.found(key) {
            Some(revision) if right => revision,
            _ => self.last + 1000,
        }
    }

    fn put(&mut self, key: &Key, revision: u64, expires: Option<SystemTime>) {
        assert!(revision > self.last);
        self.last = revision;
        let item = Item {
            key: key.clone(),
            value: self.writes.to_be_bytes().to_vec(),
            revision,
            expires,
        };
        self.items.insert(key.clone(), item);
    }

    fn refusal(&self, key: &Key, expected: Option<u64>) -> Option<StoreError> {
        let key = key.clone();
        match (self.found(&key), expected) {
            (None, _) => Some(StoreError::NotFound { key }),
            (Some(found), Some(expected)) if found != expected => Some(StoreError::Conflict {
                key,
                expected,
                found,
            }),
            _ => None,
        }
    }

    fn range(&self, prefix: &Key, after: Option<&Key>, limit: usize) -> Vec<Item> {
        let covered = self.items.values().filter(|item| prefix.covers(&item.key));
        let behind = covered.filter(|item| after.is_none_or(|after| item.key > *after));
        behind.take(limit).cloned().collect()
    }

    async fn write(&mut self, store: &Sqlite, bench: &Bench, op: Op) {
        self.writes += 1;
        let value = self.writes.to_be_bytes().to_vec();
        let expiry = |ttl: Option<u64>| ttl.map(|ms| bench.now() + Duration::from_millis(ms));
        match op {
            Op::Create(path, ttl) => {
                let (key, expires) = (super::key(PATHS[path]), expiry(ttl));
                match store.create(&key, value, expires).await {
                    Ok(revision) => {
                        assert_eq!(self.found(&key), None);
                        self.put(&key, revision, expires);
                    }
                    Err(error) => {
                        assert!(self.found(&key).is_some());
                        assert_eq!(error, StoreError::Exists { key });
                    }
                }
            }
            Op::Put(path, ttl) => {
                let (key, expires) = (super::key(PATHS[path]), expiry(ttl));
                let revision = store.put(&key, value, expires).await.expect("writes");
                self.put(&key, revision, expires);
            }
            Op::Swap(path, right) => {
                let key = super::key(PATHS[path]);
                let expected = self.expected(&key, right);
                let result = store.compare_and_swap(&key, expected, value, None).await;
                assert_eq!(result.clone().err(), self.refusal(&key, Some(expected)));
                if let Ok(revision) = result {
                    self.put(&key, revision, None);
                }
            }
            Op::Delete(path, right) => {
                let key = super::key(PATHS[path]);
                let expected = right.map(|right| self.expected(&key, right));
                let result = store.delete(&key, expected).await;
                assert_eq!(result.err(), self.refusal(&key, expected));
                if self.refusal(&key, expected).is_none() {
                    self.items.remove(&key);
                }
            }
            _ => unreachable!("not a write"),
        }
    }
}

async fn compare(ops: Vec<Op>) {
    let bench = Bench::new();
    let mut store = bench.open();
    let mut model = Model::default();
    for op in ops {
        match op {
            Op::Get(path) => {
                let key = super::key(PATHS[path]);
                assert_eq!(store.get(&key).await, Ok(model.items.get(&key).cloned()));
            }
            Op::Range(prefix, after, limit) => {
                let prefix = super::key(PATHS[prefix]);
                let after = after.map(|path| super::key(PATHS[path]));
                let page = store.range(&prefix, after.as_ref(), limit).await;
                assert_eq!(page, Ok(model.range(&prefix, after.as_ref(), limit)));
            }
            Op::Advance(ms) => {
                bench.advance(Duration::from_millis(ms));
                let now = bench.now();
                model
                    .items
                    .retain(|_, item| item.expires.is_none_or(|at| at > now));
            }
            Op::Reopen => {
                drop(store);
                store = bench.open();
            }
            write => model.write(&store, &bench, write).await,
        }
    }
    for path in PATHS.map(super::key) {
        assert_eq!(store.get(&path).await, Ok(model.items.get(&path).cloned()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_store_answers_like_a_map(ops in proptest::collection::vec(op(), 1..60)) {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime")
            .block_on(compare(ops));
    }
}
