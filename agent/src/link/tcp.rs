//! TCP to the cluster: straight, or through an HTTP proxy. Counts what it carries.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::addresses::{in_turn, resolve};
use super::connect::Route;
use super::fault::{self, telling};
use super::http;
use super::race::race;
use super::transport::{Fault, FaultKind, Pending};
use crate::sys::{HEADER_WITH_TIMESTAMPS, beside_payload};

/// For all addresses together: a SYN is sent again after 1 and 3 s.
const CONNECT_LIMIT: Duration = Duration::from_secs(6);
/// RFC 8305 §8.
const STAGGER: Duration = Duration::from_millis(250);

/// What a connection has carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) received: u64,
    /// The first bytes that came.
    first: [u8; 5],
    /// The peer, unless a proxy is in between.
    pub(super) peer: Option<IpAddr>,
    /// Reads and writes.
    parts: u64,
    /// The socket for as long as it is open, and the length of its packets' IP headers.
    socket: Option<(RawFd, u64)>,
    /// What went over the wire beside the payload, each way.
    beside: [u64; 2],
}

/// [`Counts`] that go on.
#[derive(Debug, Clone, Default)]
pub(super) struct Counter(Arc<Mutex<Counts>>);

impl Counter {
    pub(super) fn get(&self) -> Counts {
        *self.lock()
    }

    /// Bytes on the wire, sent and received, with the headers of IP.
    pub(super) fn on_the_wire(&self) -> [u64; 2] {
        let mut counts = self.lock();
        counts.look();
        let [sent, received] = counts.beside;
        [
            counts.sent.saturating_add(sent),
            counts.received.saturating_add(received),
        ]
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Whether the peer began like a web server.
    pub(super) fn is_web(&self) -> bool {
        &self.first == b"HTTP/" || self.first.first() == Some(&b'<')
    }

    /// Asks the kernel. One that does not know is taken to have sent each part by itself, and an
    /// acknowledgement for each that came.
    fn look(&mut self) {
        if let Some((socket, ip)) = self.socket {
            let estimated = self.parts.saturating_mul(ip + HEADER_WITH_TIMESTAMPS);
            self.beside = beside_payload(socket, ip).unwrap_or([estimated; 2]);
        }
    }

    fn went(&mut self, bytes: usize) {
        self.parts = self.parts.saturating_add(1);
        self.sent = self.sent.saturating_add(length(bytes));
    }

    fn came(&mut self, bytes: &[u8]) {
        self.parts = self.parts.saturating_add(1);
        let before = usize::try_from(self.received).unwrap_or(usize::MAX);
        let room = self.first.iter_mut().skip(before);
        room.zip(bytes).for_each(|(room, byte)| *room = *byte);
        self.received = self.received.saturating_add(length(bytes.len()));
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// A connection that counts.
pub(super) struct Counted {
    tcp: TcpStream,
    counter: Counter,
}

impl Counted {
    pub(super) fn counter(&self) -> Counter {
        self.counter.clone()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counter.lock();
        counts.look();
        // The number may soon be another file's.
        counts.socket = None;
    }
}

/// Connects to the cluster. Its `addresses` do not matter if there is a proxy.
pub(super) async fn dial(
    route: &Route,
    addresses: &Result<Vec<SocketAddr>, Fault>,
    failures: u32,
) -> Result<Counted, Fault> {
    let counter = Counter::default();
    let tcp = match &route.proxy {
        None => {
            let tcp = connect(addresses.as_deref().map_err(Clone::clone)?, failures).await?;
            counter.lock().peer = tcp.peer_addr().ok().map(|peer| peer.ip());
            tcp
        }
        Some(proxy) => {
            let addresses = resolve(&proxy.address, "the HTTP proxy's").await?;
            let tcp = connect(&addresses, failures).await.map_err(|fault| {
                let text = format!("the HTTP proxy cannot be reached: {fault}");
                Fault::new(fault.kind, text)
            })?;
            http::ask(tcp, proxy, &route.address).await?
        }
    };
    let ip = match tcp.peer_addr() {
        Ok(SocketAddr::V6(_)) => 40,
        _ => 20,
    };
    counter.lock().socket = Some((tcp.as_raw_fd(), ip));
    Ok(Counted { tcp, counter })
}

async fn connect(addresses: &[SocketAddr], failures: u32) -> Result<TcpStream, Fault> {
    let attempts = in_turn(addresses, failures)
        .into_iter()
        .map(|to| -> Pending<'static, Result<TcpStream, Fault>> {
            Box::pin(async move {
                log::debug!("connecting to {to} over TCP");
                TcpStream::connect(to).await.map_err(|e| fault::of_io(&e))
            })
        })
        .collect();
    let tcp = match timeout(CONNECT_LIMIT, race(attempts, STAGGER, |_| false)).await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(faults)) => return Err(telling(faults).unwrap_or_else(silent)),
        Err(_) => return Err(silent()),
    };
    link_ssh::tcp::tune(&tcp).map_err(Fault::local)?;
    Ok(tcp)
}

fn silent() -> Fault {
    Fault::new(FaultKind::Unreachable, "no answer over TCP")
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buffer))?;
        let came = buffer.filled().get(before..).unwrap_or_default();
        self.counter.lock().came(came);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.tcp).poll_write(cx, bytes))?;
        self.counter.lock().went(sent);
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn direct() -> Route {
        Route::to("lab:1".parse().unwrap())
    }

    #[tokio::test]
    async fn what_a_connection_carries_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = Ok(vec![listener.local_addr().unwrap()]);
        let mut here = dial(&direct(), &addresses, 0).await.unwrap();
        let (mut there, _) = listener.accept().await.unwrap();
        let counter = here.counter();
        here.write_all(b"hello").await.unwrap();
        for part in ["HT", "TP/1.1 302"] {
            there.write_all(part.as_bytes()).await.unwrap();
            let mut got = vec![0; part.len()];
            here.read_exact(&mut got).await.unwrap();
        }
        let counts = counter.get();
        assert_eq!((counts.sent, counts.received), (5, 12));
        assert_eq!(counts.peer, Some([127, 0, 0, 1].into()));
        assert!(counts.is_web(), "{counts:?}");
        // The handshake, and a segment or an acknowledgement for each of three parts.
        let [sent, received] = counter.on_the_wire();
        assert!((5 + 4 * 40..1000).contains(&sent), "{sent}");
        assert!((12 + 3 * 40..1000).contains(&received), "{received}");
        drop(here);
        let [after, _] = counter.on_the_wire();
        assert!(after >= sent, "{after} of {sent} are left once it is over");
        assert!(!Counts::default().is_web());
    }

    #[tokio::test]
    async fn an_address_that_refuses_does_not_hide_one_that_answers() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refuses = closed.local_addr().unwrap();
        drop(closed);
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let answers = open.local_addr().unwrap();
        connect(&[refuses, answers], 0).await.unwrap();
        let fault = connect(&[refuses], 0).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unreachable);
        assert!(fault.text.contains("refused"), "{fault}");
    }
}
