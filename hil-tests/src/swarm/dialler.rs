//! Somebody who dials again and again while the fleet is in trouble, as `tsh ssh` would: a new
//! connection for each dial.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use protocol::message::dial::{ClientRequest, DialReply};
use protocol::message::{Blob, Text};
use protocol::{ALPN_CLIENT, CLIENT_FIRST_CID, SERVER_NAME};
use quinn::{ClientConfig, ConnectionId, RecvStream, WriteError};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::time::timeout;

use super::tls::Trusted;
use super::wire::{receive, send};
use crate::cluster::Person;

/// Nobody waits longer for a dial.
const LIMIT: Duration = Duration::from_secs(30);
/// What is sent to the node and has to come back.
const WORD: &[u8] = b"are you there?";

/// A user of the cluster who has logged in.
pub struct Dialler {
    runtime: tokio::runtime::Runtime,
    config: ClientConfig,
    addr: SocketAddr,
}

/// How long a dial took, from the first packet to the node's first answer; or why it was refused.
pub type Dialled = Result<Duration, String>;

impl Dialler {
    /// Takes over what `tsh login` left; `ca` is the cluster's host CA, PEM.
    ///
    /// # Errors
    /// If there is no login.
    pub fn new(person: &Person, addr: SocketAddr, ca: &str) -> Result<Self> {
        let certificate = CertificateDer::from_pem_file(person.kept("x509.pem")?)?;
        let key = PrivatePkcs8KeyDer::from_pem_file(person.kept("x509.key")?)?;
        let identity = Some((certificate, key.secret_pkcs8_der()));
        let mut config = Trusted::new(ca)?.config(ALPN_CLIENT, identity)?;
        config.initial_dst_cid_provider(Arc::new(first_cid));
        Ok(Self {
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()?,
            config,
            addr,
        })
    }

    /// Dials a node and waits until it has answered.
    ///
    /// # Errors
    /// What the cluster says.
    pub fn dial(&self, node: &str) -> Dialled {
        let begun = Instant::now();
        let dial = async { timeout(LIMIT, self.try_dial(node)).await };
        match self.runtime.block_on(dial) {
            Ok(Ok(answered)) => Ok(answered.duration_since(begun)),
            Ok(Err(error)) => Err(format!("{error:#}")),
            Err(_) => Err("no answer".into()),
        }
    }

    /// Asks for a stream that outlives its links with this opening, says these bytes, and gives what
    /// comes back: `count` bytes, or all there are.
    ///
    /// # Errors
    /// What the cluster says.
    pub fn resume(&self, node: &str, opening: &[u8], says: &[u8], count: usize) -> Result<Vec<u8>> {
        let asked = async { timeout(LIMIT, self.try_resume(node, opening, says, count)).await };
        self.runtime.block_on(asked).context("no answer")?
    }

    async fn try_resume(
        &self,
        node: &str,
        opening: &[u8],
        says: &[u8],
        count: usize,
    ) -> Result<Vec<u8>> {
        let endpoint = super::socket()?;
        let connecting = endpoint.connect_with(self.config.clone(), self.addr, SERVER_NAME)?;
        let connection = connecting.await?;
        let (mut to, mut from) = connection.open_bi().await?;
        let request = ClientRequest::Resumable {
            target: Text::new(node).context("name too long")?,
            login: None,
            opening: Blob::new(opening).context("opening too long")?,
        };
        send(&mut to, &request).await?;
        accepted(&mut from).await?;
        match to.write_all(says).await {
            // Who has heard enough says why.
            Ok(()) | Err(WriteError::Stopped(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let mut got = Vec::new();
        while got.len() < count {
            match from.read_chunk(count - got.len(), true).await? {
                Some(chunk) => got.extend_from_slice(&chunk.bytes),
                None => break,
            }
        }
        connection.close(0u32.into(), b"");
        endpoint.wait_idle().await;
        Ok(got)
    }

    async fn try_dial(&self, node: &str) -> Result<Instant> {
        let endpoint = super::socket()?;
        let connection = endpoint
            .connect_with(self.config.clone(), self.addr, SERVER_NAME)?
            .await?;
        let (mut to, mut from) = connection.open_bi().await?;
        let request = ClientRequest::Ssh {
            target: Text::new(node).context("name too long")?,
            login: None,
        };
        send(&mut to, &request).await?;
        accepted(&mut from).await?;
        to.write_all(WORD).await?;
        let mut back = [0; WORD.len()];
        from.read_exact(&mut back).await?;
        let answered = Instant::now();
        ensure!(back == WORD, "the node answers something else");
        // The end of the connection is nothing that a person would wait for.
        connection.close(0u32.into(), b"");
        endpoint.wait_idle().await;
        Ok(answered)
    }
}

/// Waits for the proxy's yes.
async fn accepted(from: &mut RecvStream) -> Result<()> {
    let mut buffer = Vec::new();
    loop {
        match receive::<DialReply<'_>>(from, &mut buffer).await? {
            DialReply::Accepted => return Ok(()),
            DialReply::Refused { text, .. } => bail!("{text}"),
            DialReply::Named { .. } => {}
        }
    }
}

/// As `tsh` does.
fn first_cid() -> ConnectionId {
    let mut cid = [0; CLIENT_FIRST_CID];
    SystemRandom::new().fill(&mut cid).ok();
    ConnectionId::new(&cid)
}
