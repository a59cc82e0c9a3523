//! The SSH transport: one TCP connection, in it TLS where it passes, in it SSH.
//!
//! The agent is the SSH client. It proves itself with its host certificate, in TLS and in SSH, and
//! the cluster's certificates of the host CA are checked in both. What runs in TLS needs no second
//! cipher. Something on the way that refuses TLS is tried with SSH alone, which trusts nobody else
//! for that.
//!
//! The first channel carries control messages; each channel that the cluster opens is a dial. How
//! they share the connection is told in [`link_ssh`].

mod client;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use link_ssh::{Bounds, Cutter, Table, Wire};
use protocol::error::CloseCode;
use protocol::message::join::EXPORTED;
use russh::client::{AuthResult, Config, Handle};
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate, PrivateKey};
use russh::{Disconnect, Limits, Preferred, SshId, cipher, compression, kex, mac};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex as Turn, mpsc, watch};
use tokio::time::timeout;

use super::tcp::Counter;
use super::transport::{Duplex, Fault, Pending, Stream, Traffic, Transport};
use client::{Client, Ended};

/// Twice the sessions that are served at once, and control messages: a dial too many is answered,
/// not stalled.
const BOUNDS: Bounds = Bounds {
    channels: 65,
    // 1 MiB keeps 40 Mbit/s flowing at a 200 ms round trip; two busy channels, and still small
    // beside 32 MB of RAM.
    window: 1 << 20,
    pool: 2 << 20,
    linger: Duration::from_secs(10),
};
/// Time for a disconnect with its reason to be on its way.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Keys are exchanged anew after this time, or a gigabyte; an exchange costs 3 kB.
const REKEY_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Inside TLS: keys that are not used need no change.
const NEVER: Limits = Limits {
    rekey_write_limit: usize::MAX,
    rekey_read_limit: usize::MAX,
    rekey_time_limit: Duration::MAX,
};

/// Who the node is, and whom it believes, as SSH wants to know it.
#[derive(Clone)]
pub(crate) struct Identity {
    /// The node's id.
    pub(crate) name: String,
    pub(crate) key: Arc<PrivateKey>,
    pub(crate) certificate: Certificate,
    pub(crate) host_ca: KeyData,
    /// By the clock rule.
    pub(crate) now: Duration,
}

/// What is around the SSH connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Around {
    Nothing,
    Tls,
}

/// One SSH connection.
pub(super) struct Ssh {
    handle: Arc<Handle<Client>>,
    table: Arc<Table>,
    cutter: Cutter,
    counter: Counter,
    ended: Ended,
    dials: Turn<mpsc::Receiver<Stream>>,
    /// Never changes; ends with the connection.
    over: watch::Receiver<()>,
    closing: AtomicBool,
    round_trip: Mutex<Option<Duration>>,
}

/// Opens a connection over a stream.
pub(super) async fn connect<S>(
    stream: S,
    around: Around,
    counter: Counter,
    identity: &Identity,
) -> Result<Ssh, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (wire, cutter) = Wire::new(stream);
    let mut unfinished = Unfinished(Some(cutter));
    let wire: Box<dyn Duplex> = Box::new(wire);
    let (tell, dials) = mpsc::channel(BOUNDS.channels);
    let (alive, over) = watch::channel(());
    let (table, ended) = (Table::new(BOUNDS), Ended::default());
    let client = Client {
        host_ca: identity.host_ca.clone(),
        now: identity.now,
        table: Arc::clone(&table),
        dials: tell,
        ended: ended.clone(),
        _alive: alive,
    };
    let failed = |error: anyhow::Error| ended.get().unwrap_or_else(|| client::fault_of(&error));
    let config = Arc::new(config(around));
    let mut handle = russh::client::connect_stream(config, wire, client)
        .await
        .map_err(failed)?;
    authenticate(&mut handle, identity, &ended).await?;
    let cutter = unfinished.0.take().unwrap_or_default();
    Ok(Ssh {
        handle: Arc::new(handle),
        table,
        cutter,
        counter,
        ended,
        dials: Turn::new(dials),
        over,
        closing: AtomicBool::new(false),
        round_trip: Mutex::new(None),
    })
}

/// A connection that is being opened. russh's task would go on with one that is given up, for as
/// long as the peer likes.
struct Unfinished(Option<Cutter>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(cutter) = &self.0 {
            cutter.cut();
        }
    }
}

async fn authenticate(
    handle: &mut Handle<Client>,
    identity: &Identity,
    ended: &Ended,
) -> Result<(), Fault> {
    let Identity {
        name,
        key,
        certificate,
        ..
    } = identity;
    let shown = handle.authenticate_openssh_cert(name, Arc::clone(key), certificate.clone());
    match shown.await {
        Ok(AuthResult::Success) => Ok(()),
        Ok(AuthResult::Failure {
            remaining_methods, ..
        }) if !remaining_methods.is_empty() => Err(client::refused()),
        // The connection has ended, and knows why.
        Ok(AuthResult::Failure { .. }) | Err(_) => {
            let over = handle.await.err();
            let fault = || over.as_ref().map_or_else(client::broken, client::fault_of);
            Err(ended.get().unwrap_or_else(fault))
        }
    }
}

fn config(around: Around) -> Config {
    let (limits, ciphers): (_, &[cipher::Name]) = match around {
        Around::Tls => (NEVER, &[cipher::NONE]),
        Around::Nothing if crate::sys::has_aes() => (daily(), FAST_AES),
        Around::Nothing => (daily(), NO_AES),
    };
    Config {
        client_id: SshId::Standard(
            concat!("SSH-2.0-TetherAgent_", env!("CARGO_PKG_VERSION")).into(),
        ),
        limits,
        window_size: BOUNDS.ssh_window(),
        maximum_packet_size: link_ssh::PACKET,
        // Channels are read by callbacks; these queues stay empty.
        channel_buffer_size: 1,
        preferred: Preferred {
            kex: Cow::Borrowed(KEX),
            key: Cow::Borrowed(&[Algorithm::Ed25519]),
            host_key_certificates: Cow::Borrowed(&[Algorithm::Ed25519]),
            cipher: Cow::Borrowed(ciphers),
            mac: Cow::Borrowed(&[mac::NONE]),
            compression: Cow::Borrowed(&[compression::NONE]),
        },
        ..Config::default()
    }
}

fn daily() -> Limits {
    Limits {
        rekey_time_limit: REKEY_AFTER,
        ..Limits::default()
    }
}

const KEX: &[kex::Name] = &[kex::CURVE25519, kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT];
const FAST_AES: &[cipher::Name] = &[cipher::AES_128_GCM, cipher::CHACHA20_POLY1305];
const NO_AES: &[cipher::Name] = &[cipher::CHACHA20_POLY1305];

impl Ssh {
    fn fault(&self) -> Fault {
        self.ended.get().unwrap_or_else(client::broken)
    }

    async fn open_channel(&self) -> Result<Stream, Fault> {
        let asked = Instant::now();
        let channel = self.handle.channel_open_session().await;
        let channel = channel.map_err(|_| self.fault())?;
        let mut round_trip = self
            .round_trip
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *round_trip = Some(asked.elapsed());
        drop(round_trip);
        client::stream(&self.table, channel).ok_or_else(|| self.fault())
    }
}

impl Transport for Ssh {
    fn kind(&self) -> &'static str {
        "ssh"
    }

    fn open(&self) -> Pending<'_, Result<Stream, Fault>> {
        Box::pin(self.open_channel())
    }

    fn accept(&self) -> Pending<'_, Result<Stream, Fault>> {
        Box::pin(async {
            let dial = self.dials.lock().await.recv().await;
            dial.ok_or_else(|| self.fault())
        })
    }

    fn ended(&self) -> Option<Fault> {
        self.table.is_over().then(|| self.fault())
    }

    fn exported(&self) -> Result<[u8; EXPORTED], Fault> {
        Err(Fault::local("nobody joins over SSH"))
    }

    fn close(&self, code: CloseCode) {
        if self.closing.swap(true, Ordering::Relaxed) {
            return;
        }
        let (handle, cutter) = (Arc::clone(&self.handle), self.cutter.clone());
        let mut over = self.over.clone();
        let closing = async move {
            let text = code.code().to_string();
            let told = handle.disconnect(Disconnect::ByApplication, &text, "");
            let _ = timeout(LAST_WORDS, told).await;
            let _ = timeout(LAST_WORDS, over.changed()).await;
            cutter.cut();
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(closing)),
            Err(_) => self.cutter.cut(),
        }
    }

    fn closed(&self) -> Pending<'_, ()> {
        let mut over = self.over.clone();
        Box::pin(async move {
            // Nothing is ever sent: this resolves when the connection has ended.
            let _ = over.changed().await;
        })
    }

    fn round_trip(&self) -> Option<Duration> {
        *self
            .round_trip
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn remote(&self) -> Option<IpAddr> {
        self.counter.get().peer
    }

    fn traffic(&self) -> Traffic {
        let [sent, received] = self.counter.on_the_wire();
        Traffic {
            sent,
            received,
            heard: self.table.heard_so_far(),
            asked: 0,
        }
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        if !self.closing.load(Ordering::Relaxed) {
            self.cutter.cut();
        }
    }
}
