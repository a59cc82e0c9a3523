//! Both ends over carriers that break.

mod driver;

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use protocol::resume::frame::Frame;
use protocol::resume::{Agent, Client, End as Ending, Reason, Sizes, WAKING};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::time::Instant;

use crate::client::{Dial, Dialling, Failure, Opening};
use crate::{Carrier, Handle, Lender, Pool, Resumable, Status, agent};

const GRACE: Duration = Duration::from_secs(600);

/// One side of a carrier that breaks after so many bytes were written to it.
struct Brittle {
    inner: DuplexStream,
    left: usize,
}

impl AsyncRead for Brittle {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.get_mut().inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Brittle {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = bytes.len().min(self.left);
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let written = Pin::new(&mut self.inner).poll_write(cx, &bytes[..count]);
        if let Poll::Ready(Ok(count)) = written {
            self.left -= count;
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// What a dial comes to, in order; the last goes on for ever.
#[derive(Clone, Copy)]
enum Way {
    /// The carrier breaks after so many bytes from either end.
    Breaks(usize),
    Holds,
    Fails,
    Refused(Reason),
}

struct Network {
    ways: Mutex<VecDeque<Way>>,
    agent: Handle<Agent>,
    dials: Arc<Mutex<usize>>,
}

fn carriers(left: usize) -> (Carrier, Carrier) {
    let (ours, theirs) = tokio::io::duplex(32 * 1024);
    let brittle = |inner| Carrier::of(Brittle { inner, left });
    (brittle(ours), brittle(theirs))
}

impl Network {
    fn next(&self) -> Way {
        let mut ways = self.ways.lock().unwrap();
        let way = *ways.front().unwrap_or(&Way::Holds);
        if ways.len() > 1 {
            ways.pop_front();
        }
        way
    }

    async fn way(&self, opening: &[u8]) -> Result<Carrier, Failure> {
        *self.dials.lock().unwrap() += 1;
        let left = match self.next() {
            Way::Breaks(left) => left,
            Way::Holds => usize::MAX,
            Way::Fails => return Err(Failure::Passing),
            Way::Refused(reason) => return Err(Failure::Refused(reason)),
        };
        let (ours, theirs) = carriers(left);
        let Ok(Frame::Attach(attach)) = Frame::decode(opening) else {
            panic!("no ATTACH: {opening:?}");
        };
        if let Err((carrier, reason)) = self.agent.attach(&attach, theirs, Vec::new()) {
            agent::refuse(carrier, &[], reason).await.ok();
        }
        Ok(ours)
    }
}

impl Dial for Network {
    fn dial<'a>(&'a self, opening: &'a [u8]) -> Dialling<'a> {
        Box::pin(self.way(opening))
    }
}

struct Ends {
    client: Resumable<Client>,
    client_handle: Handle<Client>,
    agent: Resumable<Agent>,
    agent_handle: Handle<Agent>,
    dials: Arc<Mutex<usize>>,
    drivers: Vec<tokio::task::JoinHandle<()>>,
}

impl Ends {
    fn dials(&self) -> usize {
        *self.dials.lock().unwrap()
    }
}

fn start(sizes: Sizes, first: usize, ways: &[Way]) -> Ends {
    start_with(sizes, first, ways, None)
}

fn start_with(sizes: Sizes, first: usize, ways: &[Way], lender: Option<Arc<dyn Lender>>) -> Ends {
    let opening = Opening::new(Sizes::CLIENT).unwrap();
    let Ok(Frame::Open(open)) = Frame::decode(opening.bytes()) else {
        panic!("no OPEN");
    };
    let (ours, theirs) = carriers(first);
    let accepted = agent::accept(&open, sizes, GRACE, (theirs, Vec::new()), lender);
    let opened = opening.over(ours);
    let dials = Arc::default();
    let network = Network {
        ways: Mutex::new(ways.iter().copied().collect()),
        agent: accepted.handle.clone(),
        dials: Arc::clone(&dials),
    };
    let drivers = vec![
        tokio::spawn(accepted.driver),
        tokio::spawn(opened.driver),
        tokio::spawn(opened.redial.run(network)),
    ];
    Ends {
        client: opened.stream,
        client_handle: opened.handle,
        agent: accepted.stream,
        agent_handle: accepted.handle,
        dials,
        drivers,
    }
}

fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// Sends bytes and ends the direction, while it reads the other to its end.
async fn exchange<S>(stream: S, sent: Vec<u8>) -> (Vec<u8>, S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut read, mut write) = tokio::io::split(stream);
    let mut got = Vec::new();
    let writing = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let (read_to_end, ()) = tokio::join!(read.read_to_end(&mut got), writing);
    read_to_end.unwrap();
    (got, read.unsplit(write))
}

#[tokio::test(start_paused = true)]
async fn both_directions_arrive_whole_over_a_hundred_carriers() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut ways: Vec<_> = (0..100)
            .map(|_| match random.u32(0..10) {
                0 => Way::Fails,
                _ => Way::Breaks(random.usize(1..20_000)),
            })
            .collect();
        ways.push(Way::Holds);
        let ends = start(Sizes::AGENT, random.usize(1..50_000), &ways);
        let (up, down) = (pattern(400_000, seed), pattern(500_000, seed + 1));
        let dials = Arc::clone(&ends.dials);
        let client = tokio::spawn(exchange(ends.client, up.clone()));
        let agent = tokio::spawn(exchange(ends.agent, down.clone()));
        assert!(client.await.unwrap().0 == down, "seed {seed}");
        assert!(agent.await.unwrap().0 == up, "seed {seed}");
        assert!(*dials.lock().unwrap() > 10, "seed {seed}");
        for driver in ends.drivers {
            driver.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_moves_across_threads_of_a_real_runtime() {
    let ends = start(
        Sizes::AGENT,
        3_000_000,
        &[Way::Breaks(5_000_000), Way::Holds],
    );
    let (up, down) = (pattern(16_000_000, 1), pattern(16_000_000, 2));
    let client = tokio::spawn(exchange(ends.client, up.clone()));
    let agent = tokio::spawn(exchange(ends.agent, down.clone()));
    assert!(client.await.unwrap().0 == down);
    assert!(agent.await.unwrap().0 == up);
}

#[tokio::test(start_paused = true)]
async fn a_busy_stream_borrows_and_gives_back_what_it_does_not_need() {
    let spare = Sizes::BUSY.total();
    let pool = Arc::new(Pool::new(spare, Sizes::AGENT, Sizes::BUSY));
    let lender: Arc<dyn Lender> = pool.clone();
    let mut ends = start_with(Sizes::AGENT, usize::MAX, &[Way::Holds], Some(lender));
    let sent = pattern(3_000_000, 5);
    let bytes = sent.clone();
    let mut client = ends.client;
    let writing = tokio::spawn(async move {
        client.write_all(&bytes).await.unwrap();
        client
    });
    let mut got = vec![0; sent.len()];
    for part in got.chunks_mut(Sizes::AGENT.window as usize) {
        // The client comes to the end of what it may send meanwhile.
        tokio::time::sleep(Duration::from_millis(100)).await;
        ends.agent.read_exact(part).await.unwrap();
    }
    assert!(got == sent);
    let window = Sizes::BUSY.window - Sizes::AGENT.window;
    assert_eq!(pool.left(), spare - window);
    let mut client = writing.await.unwrap();
    for _ in 0..150 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.write_all(&sent[..10_000]).await.unwrap();
        ends.agent.read_exact(&mut got[..10_000]).await.unwrap();
    }
    assert_eq!(pool.left(), spare);
}

#[tokio::test(start_paused = true)]
async fn a_writer_waits_for_a_reader_and_memory_is_bounded() {
    let mut ends = start(Sizes::AGENT, usize::MAX, &[Way::Holds]);
    let sent = pattern(8_000_000, 3);
    let bytes = sent.clone();
    let mut client = ends.client;
    let writing = tokio::spawn(async move {
        client.write_all(&bytes).await.unwrap();
        client
    });
    // Time only passes while everybody waits.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!writing.is_finished());
    assert!(ends.agent_handle.memory() <= 256 * 1024);
    assert!(ends.client_handle.memory() <= 2 * 1024 * 1024);
    let mut got = vec![0; sent.len()];
    ends.agent.read_exact(&mut got).await.unwrap();
    assert!(got == sent);
    let _client = writing.await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(ends.agent_handle.memory(), 0, "given back when idle");
    assert_eq!(ends.client_handle.memory(), 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_watches_sees_the_loss_and_the_return() {
    let mut ends = start(Sizes::AGENT, 1000, &[Way::Fails, Way::Fails, Way::Holds]);
    let mut status = ends.client_handle.status();
    assert_eq!(*status.borrow(), Status::Attached);
    ends.client.write_all(&[1; 5000]).await.unwrap();
    let lost = *status.wait_for(|s| *s != Status::Attached).await.unwrap();
    let Status::Lost { since, until } = lost else {
        panic!("{lost:?}");
    };
    assert_eq!(until - since, GRACE);
    status.wait_for(|s| *s == Status::Attached).await.unwrap();
    let mut got = [0; 5000];
    ends.agent.read_exact(&mut got).await.unwrap();
    assert_eq!(ends.dials(), 3);
    ends.client_handle.network_changed();
    ends.agent.write_all(b"still there").await.unwrap();
    let mut got = [0; 11];
    ends.client.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"still there");
}

#[tokio::test(start_paused = true)]
async fn who_has_slept_goes_on_by_another_dial() {
    let mut ends = start(Sizes::AGENT, usize::MAX, &[Way::Holds]);
    ends.client.write_all(b"before").await.unwrap();
    ends.agent.read_exact(&mut [0; 6]).await.unwrap();
    // OPENED has come.
    ends.agent.write_all(b"before").await.unwrap();
    ends.client.read_exact(&mut [0; 6]).await.unwrap();
    ends.client_handle.slept(Duration::ZERO);
    ends.client.write_all(b"after").await.unwrap();
    let mut got = [0; 5];
    ends.agent.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"after");
    let mut status = ends.client_handle.status();
    status.wait_for(|s| *s == Status::Attached).await.unwrap();
}

/// A client whose link is lost, and whose machine then sleeps for so long; and for how long the link
/// is lost and the stream kept, as it tells.
async fn asleep(time: Duration, ways: &[Way]) -> (Ends, Duration, Duration) {
    let mut ends = start(Sizes::AGENT, 1000, ways);
    let mut status = ends.client_handle.status();
    ends.client.write_all(&[1; 5000]).await.unwrap();
    let lost = status.wait_for(|s| *s != Status::Attached).await;
    assert!(matches!(*lost.unwrap(), Status::Lost { .. }));
    ends.client_handle.slept(time);
    let Status::Lost { since, until } = *status.borrow_and_update() else {
        panic!("not lost");
    };
    let left = until.saturating_duration_since(Instant::now());
    (ends, since.elapsed(), left)
}

#[tokio::test(start_paused = true)]
async fn time_passes_while_the_machine_sleeps() {
    let time = GRACE - Duration::from_secs(60);
    let (mut ends, lost_for, left) = asleep(time, &[Way::Fails]).await;
    assert!(lost_for >= time && left <= GRACE - time, "{left:?} left");
    let before = Instant::now();
    let error = ends.client.read_u8().await.unwrap_err();
    assert!(error.to_string().contains("link was lost"), "{error}");
    assert_eq!(before.elapsed().as_secs(), left.as_secs());
}

#[tokio::test(start_paused = true)]
async fn who_wakes_after_the_grace_time_tries_for_a_while() {
    let time = GRACE * 6;
    let (mut ends, lost_for, left) = asleep(time, &[Way::Fails]).await;
    assert!(lost_for >= time, "{lost_for:?}");
    assert_eq!(left, WAKING);
    let error = ends.client.read_u8().await.unwrap_err();
    assert!(error.to_string().contains("link was lost"), "{error}");
    assert!(ends.dials() > 2, "{} dials", ends.dials());

    // The agent no longer knows why there is no such stream.
    let gone = [Way::Fails, Way::Refused(Reason::Gone)];
    let (mut ends, ..) = asleep(time, &gone).await;
    let error = ends.client.read_u8().await.unwrap_err();
    assert!(error.to_string().contains("link was lost"), "{error}");
    let (mut ends, ..) = asleep(Duration::from_secs(60), &gone).await;
    let error = ends.client.read_u8().await.unwrap_err();
    assert!(error.to_string().contains("started anew"), "{error}");

    let (mut ends, ..) = asleep(GRACE, &[Way::Holds]).await;
    ends.agent.read_exact(&mut [0; 5000]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_comes_back_to_is_given_up() {
    let mut ends = start(Sizes::AGENT, 1000, &[Way::Fails]);
    ends.client.write_all(&[1; 5000]).await.unwrap();
    let mut rest = Vec::new();
    let error = ends.client.read_to_end(&mut rest).await.unwrap_err();
    let broken = crate::status::Broken::of(&error).unwrap();
    assert_eq!(broken.0, Ending::GivenUp(Reason::GraceOver));
    let error = ends.agent.read_to_end(&mut rest).await.unwrap_err();
    assert!(error.to_string().contains("link was lost"), "{error}");
    for driver in ends.drivers {
        driver.await.unwrap();
    }
    assert_eq!(ends.agent_handle.memory() + ends.client_handle.memory(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_ends_the_client_and_a_reset_ends_the_agent() {
    let ways = [Way::Fails, Way::Refused(Reason::Denied)];
    let mut ends = start(Sizes::AGENT, 1000, &ways);
    ends.client.write_all(&[1; 5000]).await.unwrap();
    let error = ends.client.read_u8().await.unwrap_err();
    assert!(error.to_string().contains("no longer allow"), "{error}");
    assert_eq!(ends.dials(), 2);

    let mut ends = start(Sizes::AGENT, usize::MAX, &[Way::Holds]);
    ends.agent_handle.reset(Reason::Locked);
    let error = ends.client.read_u8().await.unwrap_err();
    assert_eq!(error.to_string(), "locked");
    assert_eq!(
        ends.client.write(b"x").await.unwrap_err().to_string(),
        "locked"
    );
    assert_eq!(
        ends.agent.read_u8().await.unwrap_err().to_string(),
        "locked"
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_does_not_know_the_stream_ends_it() {
    let mut other = start(Sizes::AGENT, usize::MAX, &[Way::Holds]);
    let opening = Opening::new(Sizes::CLIENT).unwrap();
    let (ours, theirs) = carriers(1000);
    drop(theirs);
    let mut opened = opening.over(ours);
    tokio::spawn(opened.driver);
    let network = Network {
        ways: Mutex::new(VecDeque::new()),
        agent: other.agent_handle.clone(),
        dials: Arc::default(),
    };
    tokio::spawn(opened.redial.run(network));
    let error = opened.stream.read_u8().await.unwrap_err();
    assert!(error.to_string().contains("started anew"), "{error}");
    other.client.write_all(b"x").await.unwrap();
    assert_eq!(other.agent.read_u8().await.unwrap(), b'x', "disturbed");
}

#[tokio::test(start_paused = true)]
async fn what_was_written_before_a_drop_arrives_over_a_new_carrier() {
    let mut ends = start(Sizes::AGENT, 1000, &[Way::Fails, Way::Holds]);
    let sent = pattern(100_000, 9);
    ends.agent.write_all(&sent).await.unwrap();
    drop(ends.agent);
    let mut got = Vec::new();
    ends.client.read_to_end(&mut got).await.unwrap();
    assert!(got == sent);
    drop(ends.client);
    for driver in ends.drivers {
        driver.await.unwrap();
    }
}
