//! Who moves what comes, and how often the driver looks.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Counts how often a driver is polled.
fn counted(mut driver: crate::Driver<Agent>) -> (Arc<AtomicUsize>, impl Future<Output = ()>) {
    let polls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&polls);
    let driver = std::future::poll_fn(move |cx| {
        count.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut driver).poll(cx)
    });
    (polls, driver)
}

/// An agent's end whose driver is counted, and the bare carrier of its client.
fn agent() -> (crate::agent::Accepted, DuplexStream) {
    let opening = Opening::new(Sizes::CLIENT).unwrap();
    let Ok(Frame::Open(open)) = Frame::decode(opening.bytes()) else {
        panic!("no OPEN");
    };
    let (here, there) = tokio::io::duplex(64 * 1024);
    let carrier = (Carrier::of(here), Vec::new());
    let accepted = agent::accept(&open, Sizes::AGENT, GRACE, carrier, None);
    (accepted, there)
}

/// A frame of data.
fn data(length: u16) -> Vec<u8> {
    let mut frame = Frame::Data { length }.encode().to_vec();
    frame.resize(frame.len() + usize::from(length), b'x');
    frame
}

#[tokio::test(start_paused = true)]
async fn an_application_that_reads_is_woken_for_each_packet_and_the_driver_is_not() {
    const PACKETS: usize = 1000;
    let (mut accepted, mut client) = agent();
    let (polls, driver) = counted(accepted.driver);
    tokio::spawn(driver);
    let reader = tokio::spawn(async move {
        let mut got = 0;
        let mut buffer = [0; 4096];
        while got < PACKETS * 100 {
            got += accepted.stream.read(&mut buffer).await.unwrap();
        }
        accepted.stream
    });
    for _ in 0..PACKETS {
        client.write_all(&data(100)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut stream = reader.await.unwrap();
    let busy = polls.load(Ordering::Relaxed);
    assert!(busy < PACKETS / 5, "{busy}");
    // Nor does it look when nothing comes.
    let waits = tokio::time::timeout(Duration::from_secs(1), stream.read_u8()).await;
    assert!(waits.is_err());
    let idle = polls.load(Ordering::Relaxed) - busy;
    assert!(idle < 5, "{idle}");
}

#[tokio::test(start_paused = true)]
async fn what_an_application_leaves_that_was_woken_is_moved_a_little_later() {
    let (mut accepted, mut client) = agent();
    tokio::spawn(accepted.driver);
    for round in 1..=3 {
        // It waits for bytes, then does something else.
        let mut byte = [0];
        tokio::select! {
            biased;
            read = accepted.stream.read(&mut byte), if round == 1 => panic!("{read:?}"),
            () = std::future::ready(()) => {}
        }
        client.write_all(&data(10_000)).await.unwrap();
        tokio::time::sleep(crate::driver::TICK * 2).await;
        let unread = accepted.handle.shared.lock().end.stream().readable().len();
        assert_eq!(unread, 10_000 * round);
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_behind_a_first_piece_is_moved_even_if_nobody_asks_for_more() {
    let (mut accepted, mut client) = agent();
    tokio::spawn(accepted.driver);
    client.write_all(&data(10)).await.unwrap();
    let mut got = [0; 10];
    accepted.stream.read_exact(&mut got).await.unwrap();
    client.write_all(&data(10_000)).await.unwrap();
    tokio::time::sleep(crate::driver::TICK * 2).await;
    let unread = accepted.handle.shared.lock().end.stream().readable().len();
    assert_eq!(unread, 10_000);
}

#[tokio::test(start_paused = true)]
async fn what_was_written_goes_out_at_once_although_nobody_waits() {
    let (mut accepted, mut client) = agent();
    tokio::spawn(accepted.driver);
    let ack = Frame::Ack {
        received: 0,
        room: 1 << 20,
    };
    client.write_all(&ack.encode()).await.unwrap();
    // So much is allowed once that has come.
    tokio::time::sleep(Duration::from_millis(1)).await;
    accepted.stream.write_all(&[b'x'; 200_000]).await.unwrap();
    let start = Instant::now();
    let mut got = vec![0; 200_000];
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}
