//! A middlebox that looks into connections: it passes on what it likes, to a port of this machine,
//! and resets what begins like TLS.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail, ensure};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

use super::server::Server;

/// First byte of a TLS record that holds a ClientHello (RFC 8446 §5.1).
const TLS: u8 = 0x16;

/// A middlebox that runs until this is dropped.
pub struct Middlebox {
    passed: Arc<AtomicU64>,
    server: Server,
}

impl Middlebox {
    /// Starts one at an address such as `10.213.1.1:0`, before a port of this machine.
    ///
    /// # Errors
    /// If it cannot listen there.
    pub fn without_tls(addr: &str, port: u16) -> Result<Self> {
        let passed = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&passed);
        let serve = move |client: TcpStream| pass(client, port, Arc::clone(&counted));
        Ok(Self {
            passed,
            server: Server::tcp(addr, serve)?,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Connections that it has passed on so far.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

async fn pass(mut client: TcpStream, port: u16, passed: Arc<AtomicU64>) -> Result<()> {
    let mut first = [0];
    ensure!(client.peek(&mut first).await? == 1, "closed at once");
    if first == [TLS] {
        // The kernel resets a connection that is closed with bytes that nobody has read.
        bail!("no TLS here");
    }
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    passed.fetch_add(1, Ordering::Relaxed);
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
