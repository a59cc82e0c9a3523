//! TCP to the cluster: straight, or through an HTTP proxy. Counts what it carries.

use std::io;
use std::net::{IpAddr, SocketAddr};
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
}

/// [`Counts`] that go on.
#[derive(Debug, Clone, Default)]
pub(super) struct Counter(Arc<Mutex<Counts>>);

impl Counter {
    pub(super) fn get(&self) -> Counts {
        *self.lock()
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

    fn came(&mut self, bytes: &[u8]) {
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
        let mut counts = self.counter.lock();
        counts.sent = counts.sent.saturating_add(length(sent));
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
