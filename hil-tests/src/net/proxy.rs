//! An HTTP proxy as companies have them: it knows CONNECT (RFC 9110, section 9.3.6) and may ask for
//! a password (RFC 7617).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::server::Server;

/// A request's head at most.
const HEAD: usize = 8 << 10;
/// A client must have asked, and its target answered, within this time.
const PATIENCE: Duration = Duration::from_secs(30);
/// Requests that are remembered at most.
const REMEMBERED: usize = 10_000;

/// What it does with whoever asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Manners {
    /// Connects everybody.
    #[default]
    Open,
    /// Connects who knows the user and the password; 407 for others.
    Password(String, String),
    /// Refuses everybody with this status, such as 403 or 502.
    Refuse(u16),
}

/// A request that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What it asked for, `host:port`.
    pub target: String,
    /// What it got.
    pub status: u16,
}

/// A proxy that runs until this is dropped.
pub struct Proxy {
    state: Arc<State>,
    server: Server,
}

struct State {
    manners: Mutex<Manners>,
    requests: Mutex<Vec<Request>>,
    /// Connections end when it changes.
    hang_up: watch::Sender<u64>,
}

impl Proxy {
    /// Starts one at an address such as `10.213.1.1:0`.
    ///
    /// # Errors
    /// If it cannot listen there.
    pub fn start(addr: &str) -> Result<Self> {
        let state = Arc::new(State {
            manners: Mutex::default(),
            requests: Mutex::default(),
            hang_up: watch::Sender::default(),
        });
        let of_server = Arc::clone(&state);
        let serve = move |client| Arc::clone(&of_server).serve(client);
        Ok(Self {
            state,
            server: Server::tcp(addr, serve)?,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Treats requests to come like this.
    pub fn behave(&self, manners: Manners) {
        *lock(&self.state.manners) = manners;
    }

    /// How many connections it has made for clients.
    #[must_use]
    pub fn connected(&self) -> usize {
        let requests = lock(&self.state.requests);
        requests.iter().filter(|asked| asked.status == 200).count()
    }

    /// What was asked so far, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state.requests).clone()
    }

    /// Ends all connections.
    pub fn hang_up(&self) {
        self.state.hang_up.send_modify(|count| *count += 1);
    }
}

impl State {
    async fn serve(self: Arc<Self>, client: TcpStream) -> Result<()> {
        let mut hang_up = self.hang_up.subscribe();
        tokio::select! {
            done = self.talk(client) => done,
            _ = hang_up.changed() => Ok(()),
        }
    }

    /// Requests of one connection, until one is connected.
    async fn talk(&self, mut client: TcpStream) -> Result<()> {
        let mut unread = Vec::new();
        loop {
            let head = timeout(PATIENCE, read_head(&mut client, &mut unread)).await??;
            let (target, status, remote) = self.decide(&head).await;
            let requests = || lock(&self.requests);
            if requests().len() < REMEMBERED {
                requests().push(Request { target, status });
            }
            client.write_all(answer(status).as_bytes()).await?;
            if let Some(mut remote) = remote {
                remote.write_all(&unread).await?;
                copy_bidirectional(&mut client, &mut remote).await?;
                return Ok(());
            }
        }
    }

    async fn decide(&self, head: &str) -> (String, u16, Option<TcpStream>) {
        let mut words = head.split_ascii_whitespace();
        let method = words.next().unwrap_or_default();
        let target = words.next().unwrap_or_default().to_owned();
        let manners = lock(&self.manners).clone();
        let refusal = match manners {
            _ if method != "CONNECT" => Some(405),
            Manners::Open => None,
            Manners::Password(user, password) => {
                (!shows(head, &format!("{user}:{password}"))).then_some(407)
            }
            Manners::Refuse(status) => Some(status),
        };
        if let Some(status) = refusal {
            return (target, status, None);
        }
        match timeout(PATIENCE, TcpStream::connect(&target)).await {
            Ok(Ok(remote)) => (target, 200, Some(remote)),
            Ok(Err(_)) => (target, 502, None),
            Err(_) => (target, 504, None),
        }
    }
}

/// Reads up to the empty line; what comes after it stays in `unread`.
async fn read_head(client: &mut TcpStream, unread: &mut Vec<u8>) -> Result<String> {
    const END: &[u8] = b"\r\n\r\n";
    loop {
        if let Some(at) = unread.windows(END.len()).position(|window| window == END) {
            let rest = unread.split_off(at + END.len());
            let head = std::mem::replace(unread, rest);
            return Ok(String::from_utf8(head)?);
        }
        ensure!(unread.len() < HEAD, "too long");
        let read = client.read_buf(unread).await?;
        ensure!(read > 0, "the client is gone");
    }
}

/// Whether a request's head shows these credentials.
fn shows(head: &str, credentials: &str) -> bool {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let shown = fields.find(|(name, _)| name.eq_ignore_ascii_case("Proxy-Authorization"));
    let shown = shown.and_then(|(_, value)| value.trim().split_once(' '));
    shown.is_some_and(|(scheme, token)| {
        scheme.eq_ignore_ascii_case("Basic")
            && BASE64_STANDARD.decode(token.trim()).ok().as_deref() == Some(credentials.as_bytes())
    })
}

fn answer(status: u16) -> String {
    let (reason, more) = match status {
        // A connection that was made has no length.
        200 => return "HTTP/1.1 200 Connection established\r\n\r\n".into(),
        407 => (
            "Proxy Authentication Required",
            "Proxy-Authenticate: Basic realm=\"proxy\"\r\n",
        ),
        502 => ("Bad Gateway", ""),
        _ => ("Refused", ""),
    };
    format!("HTTP/1.1 {status} {reason}\r\n{more}Content-Length: 0\r\n\r\n")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
