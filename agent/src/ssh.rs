//! The SSH server: what a user meets on the device.
//!
//! It listens nowhere. Each dial that the cluster lets through becomes one SSH connection over one
//! stream of the link; its bytes are end to end between client and device. The proxy's decision
//! arrives with the dial, and the user's certificate is verified here once more: both must agree
//! ([`authorize`]).
//!
//! **Flow control.** russh hands data on before it is consumed and stops reading while the
//! recipient is full; with data in both directions that could stand still for good. So nothing here
//! ever makes it wait: what a client sends goes into an [`input`] queue, and the window granted to
//! the client shrinks as the queue fills. Writing to the stream may wait; that is safe as long as
//! the client goes on reading while it writes, as OpenSSH does and `tsh` sees to.

mod authorize;
mod environment;
mod group;
pub(crate) mod guard;
mod input;
mod jobs;
pub(crate) mod program;
mod server;
mod session;
mod terminal;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use link_ssh::{Cutter, Wire};
use protocol::identity::Fingerprint;
use protocol::message::dial::Permits;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate, PrivateKey};
use russh::{Disconnect, MethodKind, MethodSet, cipher, kex, server as ssh_server};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::sys::Account;
use server::{Progress, Server};

/// A client must have proved itself within this time of the dial.
const AUTH_DEADLINE: Duration = Duration::from_secs(30);
/// A client gets this long to take leave; then its connection is cut.
const PARTING: Duration = Duration::from_secs(5);
/// The same when the agent stops, which has less time for all of them.
const LAST_PARTING: Duration = Duration::from_secs(1);
/// Bytes a client may send ahead on one channel: fills 40 Mbit/s at 200 ms.
const WINDOW: u32 = 1 << 20;
/// Largest packet on a channel; what OpenSSH uses.
const PACKET: u32 = 32 * 1024;

/// The proxy's decision for one dial.
#[derive(Debug)]
pub(crate) struct Dial {
    /// Names the session in the audit log.
    pub(crate) session_id: [u8; 16],
    /// The Tether user.
    pub(crate) user: String,
    /// Of the certificate that the proxy saw.
    pub(crate) fingerprint: Fingerprint,
    /// OS users that the user may become.
    pub(crate) logins: Vec<String>,
    /// What may be opened.
    pub(crate) permits: Permits,
    /// Where the user comes from: `ip port`.
    pub(crate) client_addr: String,
    /// Silence after which the session ends.
    pub(crate) idle_timeout: Option<Duration>,
    /// Age at which the session ends.
    pub(crate) max_session: Option<Duration>,
    /// Is told the OS user who has logged in.
    pub(crate) logged_in: Arc<OnceLock<String>>,
}

/// What the server presents and trusts; replaced as a whole when certificates are renewed.
pub(crate) struct Host {
    /// The device's key.
    pub(crate) key: PrivateKey,
    /// The host certificate for it.
    pub(crate) certificate: Certificate,
    /// The user CA's key.
    pub(crate) user_ca: KeyData,
    /// The only OS user on offer, if the agent does not run as root.
    pub(crate) only_login: Option<String>,
    /// Finds OS users.
    pub(crate) accounts: fn(&str) -> Option<Account>,
}

/// Serves one connection until it ends. `now` is the cluster's time since the Unix epoch.
///
/// # Errors
/// If the client breaks the protocol or does not authenticate in time.
pub(crate) async fn serve<S>(
    host: Arc<Host>,
    stream: S,
    dial: Dial,
    now: Duration,
    mut shutdown: watch::Receiver<bool>,
) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let config = Arc::new(config(&host));
    let limits = (dial.idle_timeout, dial.max_session);
    let progress = Arc::new(Progress::default());
    let server = Server::new(host, dial, now, Arc::clone(&progress));
    let (stream, cutter) = Wire::new(stream);
    let leash = Leash(cutter);
    let deadline = Instant::now() + AUTH_DEADLINE;
    let greeting = ssh_server::run_stream(config, stream, server);
    let mut running = timeout_at(deadline, greeting)
        .await
        .context("no greeting")??;
    let handle = running.handle();
    let (reason, patience) = tokio::select! {
        done = &mut running => return done,
        () = progress.not_authenticated_by(deadline) => ("authentication took too long", PARTING),
        () = progress.idle_for(limits.0) => ("the session was idle for too long", PARTING),
        () = never_or(limits.1) => ("the session has reached its greatest age", PARTING),
        _ = shutdown.wait_for(|stop| *stop) => ("the agent stops", LAST_PARTING),
    };
    log::info!("ending a connection: {reason}");
    // russh listens to us only while it neither exchanges keys nor waits to write, and it waits for
    // the client to hang up.
    let parting = async {
        let why = reason.to_owned();
        let said = handle.disconnect(Disconnect::ByApplication, why, String::new());
        said.await.ok();
        (&mut running).await
    };
    if let Ok(done) = timeout(patience, parting).await {
        return done;
    }
    leash.0.cut();
    running.await.ok();
    bail!("{reason}")
}

/// Ends with [`serve`] what russh does in a task of its own, and with it programs.
struct Leash(Cutter);

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.cut();
    }
}

async fn never_or(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn config(host: &Host) -> ssh_server::Config {
    let preferred = russh::Preferred {
        kex: Cow::Borrowed(KEX),
        key: Cow::Borrowed(&[Algorithm::Ed25519]),
        cipher: Cow::Borrowed(if crate::sys::has_aes() {
            FAST_AES
        } else {
            NO_AES
        }),
        compression: Cow::Borrowed(&[russh::compression::NONE]),
        ..russh::Preferred::default()
    };
    ssh_server::Config {
        server_id: russh::SshId::Standard(
            concat!("SSH-2.0-Tether_", env!("CARGO_PKG_VERSION")).into(),
        ),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        // Certificates cannot be guessed, so there is nothing to slow down.
        auth_rejection_time: Duration::ZERO,
        keys: vec![host.key.clone()],
        certificates: vec![host.certificate.clone()],
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        // Channels are read by callbacks; these queues stay empty.
        channel_buffer_size: 1,
        event_buffer_size: 8,
        preferred,
        inactivity_timeout: None,
        ..ssh_server::Config::default()
    }
}

const KEX: &[kex::Name] = &[
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::MLKEM768X25519_SHA256,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

const FAST_AES: &[cipher::Name] = &[
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
];

/// In SSH the client's order decides. Without AES instructions AES-GCM is many times slower than
/// ChaCha20, so it is not offered at all; AES-CTR stays for clients that know nothing else.
const NO_AES: &[cipher::Name] = &[cipher::CHACHA20_POLY1305, cipher::AES_256_CTR];
