use std::sync::Arc;

use futures::future::join_all;

use super::{Bench, key};
use crate::store::{Backend, Item, MAX_VALUE, StoreError};

#[tokio::test]
async fn what_was_written_is_read_back_with_its_revision() {
    let bench = Bench::new();
    let store = bench.open();
    let a = key("/nodes/a");
    assert_eq!(store.get(&a).await, Ok(None));
    let revision = store.put(&a, b"one".to_vec(), None).await.expect("writes");
    let item = Item {
        key: a.clone(),
        value: b"one".to_vec(),
        revision,
        expires: None,
    };
    assert_eq!(store.get(&a).await, Ok(Some(item)));
    assert_eq!(store.get(&key("/nodes")).await, Ok(None));
}

#[tokio::test]
async fn create_refuses_a_key_that_is_taken() {
    let bench = Bench::new();
    let store = bench.open();
    let a = key("/roles/a");
    store.create(&a, vec![1], None).await.expect("creates");
    let again = store.create(&a, vec![2], None).await;
    assert_eq!(again, Err(StoreError::Exists { key: a.clone() }));
    assert_eq!(
        store.get(&a).await.expect("reads").expect("is there").value,
        [1]
    );
}

#[tokio::test]
async fn compare_and_swap_wants_the_revision_that_is_stored() {
    let bench = Bench::new();
    let store = bench.open();
    let a = key("/roles/a");
    let missing = store.compare_and_swap(&a, 1, vec![], None).await;
    assert_eq!(missing, Err(StoreError::NotFound { key: a.clone() }));
    let first = store.create(&a, vec![1], None).await.expect("creates");
    let second = store.compare_and_swap(&a, first, vec![2], None).await;
    let second = second.expect("swaps");
    assert!(second > first);
    let stale = store.compare_and_swap(&a, first, vec![3], None).await;
    let conflict = StoreError::Conflict {
        key: a.clone(),
        expected: first,
        found: second,
    };
    assert_eq!(stale, Err(conflict));
    let item = store.get(&a).await.expect("reads").expect("is there");
    assert_eq!((item.value, item.revision), (vec![2], second));
}

#[tokio::test]
async fn delete_takes_any_revision_or_the_one_it_is_told() {
    let bench = Bench::new();
    let store = bench.open();
    let a = key("/roles/a");
    assert_eq!(
        store.delete(&a, None).await,
        Err(StoreError::NotFound { key: a.clone() })
    );
    let revision = store.put(&a, vec![1], None).await.expect("writes");
    let wrong = store.delete(&a, Some(revision + 1)).await;
    assert!(matches!(wrong, Err(StoreError::Conflict { found, .. }) if found == revision));
    store.delete(&a, Some(revision)).await.expect("deletes");
    assert_eq!(store.get(&a).await, Ok(None));
    store.put(&a, vec![2], None).await.expect("writes");
    store.delete(&a, None).await.expect("deletes");
    assert_eq!(store.get(&a).await, Ok(None));
}

#[tokio::test]
async fn a_value_may_have_256_kib_and_not_a_byte_more() {
    let bench = Bench::new();
    let store = bench.open();
    let a = key("/a");
    let largest = vec![7; MAX_VALUE];
    store.put(&a, largest.clone(), None).await.expect("writes");
    let item = store.get(&a).await.expect("reads").expect("is there");
    assert_eq!(item.value, largest);
    let larger = store.put(&a, vec![7; MAX_VALUE + 1], None).await;
    let size = MAX_VALUE + 1;
    assert_eq!(larger, Err(StoreError::TooLarge { key: a, size }));
}

#[tokio::test]
async fn revisions_go_on_over_deletions_and_restarts() {
    let bench = Bench::new();
    let a = key("/a");
    let mut last = 0;
    for _ in 0..3 {
        let store = bench.open();
        let revision = store.create(&a, vec![], None).await.expect("creates");
        assert!(revision > last);
        store.delete(&a, None).await.expect("deletes");
        // The deletion had a revision of its own.
        last = revision + 1;
    }
}

#[tokio::test]
async fn a_range_gives_pages_in_the_order_of_the_keys() {
    let bench = Bench::new();
    let store = bench.open();
    // Bytes below and above the slash lie around the prefix.
    let paths = [
        "/n", "/n+x", "/n-x", "/n.x", "/n/A", "/n/a", "/n/a+b", "/n/a/b", "/n/z", "/n0", "/o",
    ];
    for path in paths.iter().rev() {
        store.put(&key(path), vec![], None).await.expect("writes");
    }
    let prefix = key("/n");
    let covered = ["/n", "/n/A", "/n/a", "/n/a+b", "/n/a/b", "/n/z"];
    for limit in 1..=covered.len() + 1 {
        let mut read = Vec::new();
        loop {
            let page = store.range(&prefix, read.last(), limit).await;
            let page = page.expect("reads");
            assert!(page.len() <= limit);
            let last = page.len() < limit;
            read.extend(page.into_iter().map(|item| item.key));
            if last {
                break;
            }
        }
        assert_eq!(read, covered.map(key), "limit {limit}");
    }
    assert_eq!(store.range(&prefix, None, 0).await, Ok(vec![]));
    assert_eq!(
        store.range(&prefix, Some(&key("/n/z")), 9).await,
        Ok(vec![])
    );
    assert_eq!(store.range(&prefix, Some(&key("/z")), 9).await, Ok(vec![]));
    let from_the_start = store.range(&prefix, Some(&key("/a")), usize::MAX).await;
    assert_eq!(from_the_start.map(|page| page.len()), Ok(covered.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_swaps_from_one_revision_exactly_one_wins() {
    let bench = Bench::new();
    let store = Arc::new(bench.open());
    let a = key("/a");
    let mut revision = store.create(&a, vec![], None).await.expect("creates");
    for _ in 0..10 {
        let swaps = (0..32_u8).map(|id| {
            let (store, a) = (store.clone(), a.clone());
            tokio::spawn(async move { store.compare_and_swap(&a, revision, vec![id], None).await })
        });
        let outcomes = join_all(swaps).await.into_iter().map(|o| o.expect("ends"));
        let (won, lost): (Vec<_>, Vec<_>) = outcomes.partition(Result::is_ok);
        assert_eq!(won.len(), 1);
        for outcome in lost {
            assert!(matches!(outcome, Err(StoreError::Conflict { .. })));
        }
        revision = won[0].clone().expect("won");
        let item = store.get(&a).await.expect("reads").expect("is there");
        assert_eq!(item.revision, revision);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counting_up_by_compare_and_swap_loses_no_step() {
    const TASKS: u32 = 8;
    const STEPS: u32 = 20;

    async fn step(store: &impl Backend) {
        let a = key("/a");
        loop {
            let item = store.get(&a).await.expect("reads").expect("is there");
            let count = u32::from_be_bytes(item.value.try_into().expect("four bytes"));
            let next = (count + 1).to_be_bytes().to_vec();
            match store.compare_and_swap(&a, item.revision, next, None).await {
                Ok(_) => return,
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    let bench = Bench::new();
    let store = Arc::new(bench.open());
    let zero = 0_u32.to_be_bytes().to_vec();
    store.create(&key("/a"), zero, None).await.expect("creates");
    join_all((0..TASKS).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..STEPS {
                step(&*store).await;
            }
        })
    }))
    .await;
    let item = store.get(&key("/a")).await.expect("reads").expect("there");
    assert_eq!(item.value, (TASKS * STEPS).to_be_bytes());
}

#[tokio::test]
async fn refused_changes_do_not_undo_the_others_of_their_batch() {
    let bench = Bench::new();
    let store = bench.open();
    store
        .create(&key("/taken"), vec![], None)
        .await
        .expect("creates");
    let keys: Vec<_> = (0..100).map(|i| key(&format!("/new/{i}"))).collect();
    let taken = key("/taken");
    let mixed = keys.iter().flat_map(|key| {
        [
            store.create(key, vec![], None),
            store.create(&taken, vec![], None),
        ]
    });
    let outcomes = join_all(mixed).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), keys.len());
    let page = store.range(&key("/new"), None, 1000).await.expect("reads");
    assert_eq!(page.len(), keys.len());
}

#[tokio::test]
async fn values_do_not_show_in_debug_output() {
    let bench = Bench::new();
    let store = bench.open();
    let a = key("/ca/host");
    store
        .put(&a, b"secret".to_vec(), None)
        .await
        .expect("writes");
    let shown = format!("{:?}", store.get(&a).await);
    assert!(shown.contains("/ca/host") && shown.contains("6 bytes"));
    assert!(!shown.contains("115, 101") && !shown.contains("secret"));
}
