//! How connections end, whatever their clients do.

use std::time::Duration;

use russh::client;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy_bidirectional, duplex};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::super::{AUTH_DEADLINE, PARTING};
use super::{LIMIT, Scene, first, run, until_gone};

/// A client's end of a stream and a server's. Once told, it is as if the client was stopped: nothing
/// moves any more, and nothing ends.
fn stoppable() -> (DuplexStream, DuplexStream, oneshot::Sender<()>) {
    let (near, mut here) = duplex(64 << 10);
    let (mut there, far) = duplex(64 << 10);
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(async move {
        tokio::select! {
            _ = copy_bidirectional(&mut here, &mut there) => {}
            _ = stopped => std::future::pending().await,
        }
    });
    (near, far, stop)
}

#[tokio::test]
async fn a_stopped_client_does_not_keep_a_connection_or_its_programs() {
    for abandoned in [false, true] {
        let (near, far, stop) = stoppable();
        let (serving, guest) = Scene::new().serve(far);
        let handle = guest.log_in(near, client::Config::default()).await;
        let mut channel = handle.channel_open_session().await.unwrap();
        channel.exec(true, "echo $$; exec yes").await.unwrap();
        let printed = first(&mut channel).await;
        stop.send(()).unwrap();
        // From here on only time passes.
        tokio::time::pause();
        if abandoned {
            serving.abort();
        } else {
            guest.stop.send_replace(true);
        }
        let ended = timeout(LIMIT * 10, serving).await;
        tokio::time::resume();
        assert!(ended.is_ok(), "the connection is still served");
        until_gone(printed.lines().next().unwrap()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_or_only_hello_is_cut_off_in_time() {
    for (after, hello) in [(Duration::ZERO, ""), (AUTH_DEADLINE / 2, "SSH-2.0-x\r\n")] {
        let (mut near, far) = duplex(64 << 10);
        let started = Instant::now();
        let (serving, _guest) = Scene::new().serve(far);
        tokio::time::sleep(after).await;
        near.write_all(hello.as_bytes()).await.unwrap();
        let mut got = Vec::new();
        timeout(LIMIT * 10, near.read_to_end(&mut got))
            .await
            .expect("the stream is still open")
            .unwrap();
        assert!(serving.await.unwrap().is_err());
        let taken = started.elapsed();
        let latest = AUTH_DEADLINE + PARTING + Duration::from_secs(1);
        assert!(taken < latest, "{taken:?} after {hello:?}");
    }
}

#[tokio::test]
async fn more_channels_than_allowed_are_refused() {
    let handle = Scene::new().log_in().await;
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(handle.channel_open_session().await.unwrap());
    }
    assert!(handle.channel_open_session().await.is_err());
}

#[tokio::test]
async fn a_client_that_vanishes_takes_its_programs_along() {
    let handle = Scene::new().log_in().await;
    let mut channel = handle.channel_open_session().await.unwrap();
    channel
        .exec(true, "sleep 1000 & echo $! $$; wait")
        .await
        .unwrap();
    let pids = first(&mut channel).await;
    drop((channel, handle));
    for pid in pids.split_whitespace() {
        until_gone(pid).await;
    }
}

#[tokio::test]
async fn an_idle_session_ends_at_its_limit() {
    let mut scene = Scene::new();
    scene.dial.idle_timeout = Some(Duration::from_millis(300));
    let handle = scene.log_in().await;
    let ran = run(&handle, "sleep 1000").await;
    assert_eq!(ran.status, None);
}
