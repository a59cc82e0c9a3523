use std::sync::Arc;

use futures::future::join_all;

use super::{Bench, key};
use crate::store::sqlite::{Options, Sqlite};
use crate::store::{Backend, Event, Item, Lagged};

#[tokio::test]
async fn a_watch_shows_puts_and_deletions_under_its_prefix() {
    let bench = Bench::new();
    let store = bench.open();
    let (a, b) = (key("/nodes/a"), key("/nodes-old/b"));
    store.put(&a, vec![0], None).await.expect("writes");
    let mut watch = store.watch(&key("/nodes")).await.expect("watches");
    let revision = store.put(&a, vec![1], None).await.expect("writes");
    store.put(&b, vec![1], None).await.expect("writes");
    store.delete(&a, None).await.expect("deletes");
    let item = Item {
        key: a.clone(),
        value: vec![1],
        revision,
        expires: None,
    };
    assert_eq!(watch.next().await, Ok(Event::Put(item)));
    let event = watch.next().await.expect("does not lag");
    assert!(matches!(&event, Event::Deleted { key, revision: r } if *key == a && *r > revision));
}

#[tokio::test]
async fn refused_changes_are_not_shown() {
    let bench = Bench::new();
    let store = bench.open();
    let a = key("/a");
    let mut watch = store.watch(&a).await.expect("watches");
    let first = store.create(&a, vec![], None).await.expect("creates");
    store.create(&a, vec![], None).await.expect_err("exists");
    store
        .delete(&a, Some(first + 9))
        .await
        .expect_err("conflicts");
    let second = store.put(&a, vec![], None).await.expect("writes");
    for revision in [first, second] {
        let event = watch.next().await.expect("does not lag");
        assert_eq!(event.revision(), revision);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_many_tasks_come_in_the_order_of_their_revisions() {
    let bench = Bench::new();
    let store = Arc::new(bench.open());
    let mut watch = store.watch(&key("/n")).await.expect("watches");
    let tasks = (0..10).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut revisions = Vec::new();
            for i in 0..50 {
                let key = key(&format!("/n/{task}/{}", i % 5));
                revisions.push(store.put(&key, vec![], None).await.expect("writes"));
            }
            revisions
        })
    });
    let answered = join_all(tasks).await.into_iter().map(|t| t.expect("ends"));
    let mut answered: Vec<u64> = answered.flatten().collect();
    answered.sort_unstable();
    for revision in answered {
        let event = watch.next().await.expect("does not lag");
        assert_eq!(event.revision(), revision);
    }
}

#[tokio::test]
async fn a_watch_that_does_not_keep_up_lags_and_reading_brings_it_up_to_date() {
    let bench = Bench::new();
    let options = Options {
        watch_depth: 4,
        ..bench.options()
    };
    let store = Sqlite::open(&bench.path(), options).expect("opens");
    let prefix = key("/n");
    let mut watch = store.watch(&prefix).await.expect("watches");
    for i in 0..20 {
        let path = key(&format!("/n/{i}"));
        store.put(&path, vec![], None).await.expect("writes");
    }
    assert_eq!(watch.next().await, Err(Lagged));
    let read = store.range(&prefix, None, 100).await.expect("reads");
    assert_eq!(read.len(), 20);
    let next = store.put(&prefix, vec![], None).await.expect("writes");
    let event = watch.next().await.expect("lags once");
    assert_eq!(event.revision(), next);
}

#[tokio::test]
async fn a_watch_ends_with_its_store() {
    let bench = Bench::new();
    let store = bench.open();
    let mut watch = store.watch(&key("/a")).await.expect("watches");
    drop(store);
    assert_eq!(watch.next().await, Err(Lagged));
}
