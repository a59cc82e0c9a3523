//! A captive portal, as hotels have them: whatever is said to it over TCP, it answers with the way
//! to its own page. [`Emulator::set_portal`](super::emulator::Emulator::set_portal) puts it before
//! the world.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::server::Server;

const REDIRECT: &str = "HTTP/1.1 302 Found\r\n\
    Location: http://portal.test/welcome\r\n\
    Content-Length: 0\r\n\
    Connection: close\r\n\r\n";

/// A portal that runs until this is dropped.
pub struct Portal {
    visits: Arc<AtomicU64>,
    server: Server,
}

impl Portal {
    /// Starts one at an address such as `10.213.1.1:0`.
    ///
    /// # Errors
    /// If it cannot listen there.
    pub fn start(addr: &str) -> Result<Self> {
        Self::with_answer(addr, REDIRECT)
    }

    /// As [`Self::start`], with another answer to everything.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with_answer(addr: &str, answer: &'static str) -> Result<Self> {
        let visits = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&visits);
        let serve = move |mut guest: tokio::net::TcpStream| {
            let counted = Arc::clone(&counted);
            async move {
                counted.fetch_add(1, Ordering::Relaxed);
                if guest.read(&mut [0; 2048]).await? == 0 {
                    return Ok(());
                }
                guest.write_all(answer.as_bytes()).await?;
                guest.shutdown().await?;
                // Whoever is still talking would else be reset, and not see the answer.
                tokio::io::copy(&mut guest, &mut tokio::io::sink()).await?;
                Ok(())
            }
        };
        Ok(Self {
            visits,
            server: Server::tcp(addr, serve)?,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Connections so far.
    #[must_use]
    pub fn visits(&self) -> u64 {
        self.visits.load(Ordering::Relaxed)
    }
}
