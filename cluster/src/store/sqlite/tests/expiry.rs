use std::time::{Duration, SystemTime};

use super::{Bench, key};
use crate::store::sqlite::{Options, Sqlite};
use crate::store::{Backend, Event, StoreError};

const TTL: Duration = Duration::from_secs(60);

/// A store that sweeps only when a test says so.
fn unswept(bench: &Bench) -> Sqlite {
    let options = Options {
        sweep_every: Duration::from_secs(3600),
        ..bench.options()
    };
    Sqlite::open(&bench.path(), options).expect("opens")
}

fn swept(bench: &Bench) -> Sqlite {
    let options = Options {
        sweep_every: Duration::from_millis(1),
        ..bench.options()
    };
    Sqlite::open(&bench.path(), options).expect("opens")
}

#[tokio::test]
async fn an_item_is_there_until_the_moment_of_its_expiry() {
    let bench = Bench::new();
    let store = unswept(&bench);
    let a = key("/locks/a");
    let expires = bench.now() + TTL;
    store.put(&a, vec![1], Some(expires)).await.expect("writes");
    bench.advance(TTL - Duration::from_millis(1));
    let item = store.get(&a).await.expect("reads").expect("is there");
    assert_eq!(item.expires, Some(expires));
    bench.advance(Duration::from_millis(1));
    assert_eq!(store.get(&a).await, Ok(None));
    assert_eq!(store.range(&key("/locks"), None, 9).await, Ok(vec![]));
    assert_eq!(store.range(&a, None, 9).await, Ok(vec![]));
}

#[tokio::test]
async fn an_expired_item_is_no_obstacle_and_no_counterpart() {
    let bench = Bench::new();
    let store = unswept(&bench);
    let a = key("/locks/a");
    let expires = bench.now() + TTL;
    let old = store.create(&a, vec![1], Some(expires)).await;
    let old = old.expect("creates");
    bench.advance(TTL);
    let not_found = StoreError::NotFound { key: a.clone() };
    let swapped = store.compare_and_swap(&a, old, vec![2], None).await;
    assert_eq!(swapped, Err(not_found.clone()));
    assert_eq!(store.delete(&a, None).await, Err(not_found.clone()));
    assert_eq!(store.delete(&a, Some(old)).await, Err(not_found));
    let new = store.create(&a, vec![3], None).await.expect("creates");
    assert!(new > old);
    bench.advance(TTL);
    let item = store.get(&a).await.expect("reads").expect("is there");
    assert_eq!((item.value, item.expires), (vec![3], None));
}

#[tokio::test]
async fn writing_again_moves_or_lifts_the_expiry() {
    let bench = Bench::new();
    let store = swept(&bench);
    let (moved, lifted) = (key("/moved"), key("/lifted"));
    let start = bench.now();
    store
        .put(&moved, vec![], Some(start + TTL))
        .await
        .expect("writes");
    store
        .put(&lifted, vec![], Some(start + TTL))
        .await
        .expect("writes");
    store
        .put(&moved, vec![], Some(start + 3 * TTL))
        .await
        .expect("writes");
    store.put(&lifted, vec![], None).await.expect("writes");
    bench.advance(2 * TTL);
    assert!(store.get(&moved).await.expect("reads").is_some());
    bench.advance(2 * TTL);
    assert!(store.get(&moved).await.expect("reads").is_none());
    assert!(store.get(&lifted).await.expect("reads").is_some());
}

#[tokio::test]
async fn the_sweep_deletes_what_has_expired_and_tells_the_watches() {
    let bench = Bench::new();
    let store = swept(&bench);
    let mut watch = store.watch(&key("/locks")).await.expect("watches");
    // More than the sweep deletes at once, and in the opposite order of their keys.
    let mut last = 0;
    for i in 0..300_u32 {
        let path = key(&format!("/locks/{:03}", 299 - i));
        let expires = bench.now() + TTL + Duration::from_millis(i.into());
        last = store
            .put(&path, vec![], Some(expires))
            .await
            .expect("writes");
        assert!(matches!(watch.next().await, Ok(Event::Put(_))));
    }
    store
        .put(&key("/locks/kept"), vec![], None)
        .await
        .expect("writes");
    watch.next().await.expect("the last one written");
    bench.advance(2 * TTL);
    for i in 0..300 {
        let event = watch.next().await.expect("does not lag");
        let Event::Deleted {
            key: gone,
            revision,
        } = event
        else {
            panic!("{event:?}");
        };
        assert_eq!(gone, key(&format!("/locks/{:03}", 299 - i)));
        assert!(revision > last);
        last = revision;
    }
    drop(store);
    let rows: i64 = rusqlite::Connection::open(bench.path())
        .and_then(|file| file.query_row("SELECT count(*) FROM item", [], |row| row.get(0)))
        .expect("counts");
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn what_expired_while_the_store_was_closed_is_swept_after_the_start() {
    let bench = Bench::new();
    let store = unswept(&bench);
    let a = key("/locks/a");
    let expires = Some(bench.now() + TTL);
    store.put(&a, vec![], expires).await.expect("writes");
    drop(store);
    let store = swept(&bench);
    let mut watch = store.watch(&a).await.expect("watches");
    bench.advance(TTL);
    let event = watch.next().await.expect("does not lag");
    assert!(matches!(event, Event::Deleted { key, .. } if key == a));
}

#[tokio::test]
async fn times_outside_the_calendar_are_never_or_at_once() {
    let bench = Bench::new();
    let store = unswept(&bench);
    let (past, future) = (key("/past"), key("/future"));
    let before_1970 = SystemTime::UNIX_EPOCH - TTL;
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60);
    store
        .put(&past, vec![], Some(before_1970))
        .await
        .expect("writes");
    store.put(&future, vec![], Some(far)).await.expect("writes");
    assert_eq!(store.get(&past).await, Ok(None));
    assert!(store.get(&future).await.expect("reads").is_some());
}
