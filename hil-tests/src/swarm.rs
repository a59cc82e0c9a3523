//! A thousand light agents in one process: they speak the real protocol over real QUIC, but serve
//! no sessions. For measuring what an agent costs the cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use protocol::message::control::{Hello, Inventory, ToAgent, ToCluster};
use protocol::message::frame::{HEADER, body_length};
use protocol::message::join::{EXPORTED, JoinReply, JoinRequest, Joined, PROOF_CONTEXT, Secret};
use protocol::message::version::SPOKEN;
use protocol::message::{Blob, Labels, MAX_FRAME, Text, decode, encode};
use protocol::{ALPN_AGENT, ALPN_JOIN, JOIN_EXPORTER_LABEL, SERVER_NAME};
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream};
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Handshakes under way at once: a fleet that comes back over some seconds.
const AT_ONCE: usize = 32;

/// Where and how the agents join.
#[derive(Clone)]
pub struct Target {
    /// The cluster.
    pub addr: SocketAddr,
    /// Its host CA, PEM.
    pub ca: String,
    /// A join token that can be used often enough.
    pub token: String,
}

/// Agents that are linked until this is dropped.
pub struct Swarm {
    runtime: tokio::runtime::Runtime,
    links: Vec<Link>,
}

struct Link {
    _connection: Connection,
}

impl Swarm {
    /// Joins and links `count` agents, and returns when all are welcome.
    ///
    /// # Errors
    /// If one is not.
    pub fn start(target: &Target, count: usize) -> Result<Self> {
        let runtime = tokio::runtime::Runtime::new()?;
        let links = runtime.block_on(start(target.clone(), count))?;
        Ok(Self { runtime, links })
    }

    /// How many are linked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Lets the agents live for a while.
    pub fn idle(&self, time: Duration) {
        self.runtime
            .block_on(async { tokio::time::sleep(time).await });
    }
}

async fn start(target: Target, count: usize) -> Result<Vec<Link>> {
    let endpoint = Endpoint::client("0.0.0.0:0".parse()?)?;
    let (turn, target) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(target));
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let (endpoint, turn, target) = (endpoint.clone(), Arc::clone(&turn), Arc::clone(&target));
        tasks.spawn(async move {
            let _turn = turn.acquire().await?;
            agent(&endpoint, &target, number)
                .await
                .with_context(|| format!("agent {number}"))
        });
    }
    let mut links = Vec::with_capacity(count);
    while let Some(link) = tasks.join_next().await {
        links.push(link??);
    }
    Ok(links)
}

async fn agent(endpoint: &Endpoint, target: &Target, number: usize) -> Result<Link> {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new())
        .map_err(|_| anyhow::anyhow!("no key"))?;
    let key = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map_err(|e| anyhow::anyhow!("{e}"))?;
    let certificate = join(endpoint, target, &key, number).await?;
    let config = client_config(
        target,
        ALPN_AGENT,
        Some((certificate, pkcs8.as_ref().to_vec())),
    )?;
    let connection = endpoint
        .connect_with(config, target.addr, SERVER_NAME)?
        .await?;
    let (mut send, mut recv) = connection.open_bi().await?;
    write(&mut send, &ToCluster::Hello(hello())).await?;
    let mut buffer = Vec::new();
    let keepalive = loop {
        match read::<ToAgent<'_>>(&mut recv, &mut buffer).await? {
            ToAgent::Welcome(welcome) => break Duration::from_secs(u64::from(welcome.keepalive_s)),
            ToAgent::Refused { text, .. } => bail!("refused: {text}"),
            _ => {}
        }
    };
    tokio::spawn(heartbeats(send, recv, keepalive));
    Ok(Link {
        _connection: connection,
    })
}

/// Ends when the connection does.
async fn heartbeats(mut send: SendStream, mut recv: RecvStream, keepalive: Duration) {
    let mut buffer = Vec::new();
    for seq in 1.. {
        tokio::time::sleep(keepalive).await;
        let sent = write(&mut send, &ToCluster::Heartbeat { seq }).await;
        if sent.is_err() || read::<ToAgent<'_>>(&mut recv, &mut buffer).await.is_err() {
            return;
        }
    }
}

async fn join(
    endpoint: &Endpoint,
    target: &Target,
    key: &Ed25519KeyPair,
    number: usize,
) -> Result<CertificateDer<'static>> {
    let config = client_config(target, ALPN_JOIN, None)?;
    let connection = endpoint
        .connect_with(config, target.addr, SERVER_NAME)?
        .await?;
    let mut exported = [0; EXPORTED];
    connection
        .export_keying_material(&mut exported, JOIN_EXPORTER_LABEL, b"")
        .map_err(|_| anyhow::anyhow!("no keying material"))?;
    let proof = key.sign(&[PROOF_CONTEXT, &exported].concat());
    let name = format!("swarm-{number}");
    let request = JoinRequest::Token {
        token: Secret(Text::new(&target.token).context("token too long")?),
        node_name: Text::cut(&name),
        public_key: key.public_key().as_ref().try_into()?,
        proof: Blob::new(proof.as_ref()).context("proof too long")?,
    };
    let (mut send, mut recv) = connection.open_bi().await?;
    write(&mut send, &request).await?;
    let mut buffer = Vec::new();
    match read::<JoinReply<'_>>(&mut recv, &mut buffer).await? {
        JoinReply::Joined(Joined { certificates, .. }) => {
            Ok(CertificateDer::from(certificates.x509.to_vec()))
        }
        JoinReply::Refused { text, .. } => bail!("join refused: {text}"),
    }
}

fn client_config(
    target: &Target,
    alpn: &[u8],
    identity: Option<(CertificateDer<'static>, Vec<u8>)>,
) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(target.ca.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let mut tls = match identity {
        Some((certificate, key)) => {
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
            builder.with_client_auth_cert(vec![certificate], key)?
        }
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![alpn.to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(Some(Duration::from_secs(75).try_into()?));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

fn hello() -> Hello<'static> {
    Hello {
        versions: SPOKEN,
        boot_id: [0; 16],
        agent_version: Text::cut("swarm"),
        inventory: Inventory {
            hostname: Text::cut("swarm"),
            os: Text::cut("Linux"),
            arch: Text::cut("swarm"),
            kernel: Text::cut("0"),
        },
        labels: Labels::new(),
        only_login: None,
        trust_serial: 0,
    }
}

async fn write<T: serde::Serialize>(send: &mut SendStream, message: &T) -> Result<()> {
    let mut buffer = vec![0; HEADER + MAX_FRAME];
    let frame = encode(message, &mut buffer)?;
    Ok(send.write_all(frame).await?)
}

async fn read<'b, T>(recv: &mut RecvStream, buffer: &'b mut Vec<u8>) -> Result<T>
where
    T: protocol::message::Message + serde::Deserialize<'b>,
{
    let mut header = [0; HEADER];
    recv.read_exact(&mut header).await?;
    buffer.resize(body_length(header)?, 0);
    recv.read_exact(buffer).await?;
    Ok(decode(buffer)?)
}
