//! A small cluster: issues certificates, welcomes agents, and tells the test what it sees.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::message::control::{Refusal, ToAgent, ToCluster, Welcome};
use protocol::message::frame::{HEADER, MAX_FRAME, body_length};
use protocol::message::join::{
    Certificates, JoinReply, JoinRequest, Joined, PROOF_CONTEXT, Secret, Trust,
};
use protocol::message::{Blob, Message, Text, decode, encode};
use protocol::{ALPN_AGENT, ALPN_JOIN, JOIN_EXPORTER_LABEL, SERVER_NAME};
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ED25519, PublicKeyData, SignatureAlgorithm,
};
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, UnparsedPublicKey};
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::public::{Ed25519PublicKey, KeyData};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Nothing on one machine takes longer, unless it does not come at all.
pub const SOON: Duration = Duration::from_secs(10);
pub const NODE_ID: [u8; 16] = [0x42; 16];
pub const TOKEN: &str = "good-token";
const HOST_CA_SEED: [u8; 32] = [1; 32];
const USER_CA_SEED: [u8; 32] = [2; 32];

/// What the cluster sees, in order.
#[derive(Debug)]
pub enum Seen {
    Joined { node_name: String },
    CameBack { generation: u32 },
    Linked(Box<Linked>),
}

/// An agent's link, seen from the cluster.
#[derive(Debug)]
pub struct Linked {
    pub connection: Connection,
    pub send: SendStream,
    pub receive: RecvStream,
}

/// How the cluster behaves; tests change it as they go.
pub struct Policy {
    pub public_key: [u8; 32],
    pub generation: u32,
    /// Validity of what is issued from now on, seconds around the present.
    pub validity: (i64, i64),
    pub refuse: Option<Refusal>,
}

pub struct Cluster {
    pub address: SocketAddr,
    pub authority: Arc<Authority>,
    seen: mpsc::UnboundedReceiver<Seen>,
    endpoint: Endpoint,
}

/// The CAs, and what they issue.
pub struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
    pub policy: Mutex<Policy>,
}

pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let policy = Policy {
            public_key: [0; 32],
            generation: 0,
            validity: (-60, 7 * 86_400),
            refuse: None,
        };
        Self { certificate, issuer: Issuer::new(params, key), policy: Mutex::new(policy) }
    }

    pub fn pin(&self) -> String {
        let spki = self.issuer.key().subject_public_key_info();
        let pin = digest(&SHA256, &spki);
        pin.as_ref().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
    }

    fn server(&self) -> rustls::ServerConfig {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let params = CertificateParams::new([SERVER_NAME.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let agents = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(agents)
            .with_single_cert(
                vec![leaf.der().clone(), self.certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![ALPN_AGENT.to_vec(), ALPN_JOIN.to_vec()];
        config
    }

    /// New certificates for the key the policy knows.
    pub fn issue(&self) -> Issued {
        let mut policy = self.policy.lock().unwrap();
        policy.generation += 1;
        let (from, to) = (now() + policy.validity.0, now() + policy.validity.1);
        let mut params = CertificateParams::new([]).unwrap();
        params.not_before = std::time::UNIX_EPOCH.into();
        params.not_before += Duration::from_secs(from.try_into().unwrap());
        params.not_after = std::time::UNIX_EPOCH.into();
        params.not_after += Duration::from_secs(to.try_into().unwrap());
        let x509 = params.signed_by(&Raw(policy.public_key), &self.issuer).unwrap().der().to_vec();
        let key = KeyData::Ed25519(Ed25519PublicKey(policy.public_key));
        let (from, to) = (from.try_into().unwrap(), to.try_into().unwrap());
        let mut ssh = Builder::new([7; 16], key, from, to).unwrap();
        ssh.cert_type(CertType::Host).unwrap().valid_principal("gateway-1").unwrap();
        let ca = russh::keys::PrivateKey::from(Ed25519Keypair::from_seed(&HOST_CA_SEED));
        let ssh = ssh.sign(&ca).unwrap().to_bytes().unwrap();
        Issued { generation: policy.generation, from, to, x509, ssh }
    }

    pub fn trust(&self, serial: u32) -> Trust<'_> {
        let public = |seed| Ed25519Keypair::from_seed(seed).public.0;
        Trust {
            serial,
            host_ca_x509: Blob::new(self.certificate.der()).unwrap(),
            host_ca_ssh: public(&HOST_CA_SEED),
            user_ca_ssh: public(&USER_CA_SEED),
        }
    }
}

pub struct Issued {
    pub generation: u32,
    from: u64,
    to: u64,
    x509: Vec<u8>,
    ssh: Vec<u8>,
}

impl Issued {
    pub fn certificates(&self) -> Certificates<'_> {
        Certificates {
            generation: self.generation,
            not_before_s: self.from,
            not_after_s: self.to,
            ssh: Blob::new(&self.ssh).unwrap(),
            x509: Blob::new(&self.x509).unwrap(),
        }
    }
}

struct Raw([u8; 32]);

impl PublicKeyData for Raw {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl Cluster {
    pub fn start() -> Self {
        Self::with(Arc::new(Authority::new()), ([127, 0, 0, 1], 0).into())
    }

    fn with(authority: Arc<Authority>, address: SocketAddr) -> Self {
        let crypto: quinn::crypto::rustls::QuicServerConfig =
            authority.server().try_into().unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let endpoint = Endpoint::server(config, address).unwrap();
        let address = endpoint.local_addr().unwrap();
        let (tell, seen) = mpsc::unbounded_channel();
        tokio::spawn(accept(endpoint.clone(), authority.clone(), tell));
        Self { address, authority, seen, endpoint }
    }

    /// Ends and starts again on the same port.
    pub async fn restart(self) -> Self {
        self.endpoint.close(5_u32.into(), b"");
        self.endpoint.wait_idle().await;
        let Self { address, authority, endpoint, .. } = self;
        drop(endpoint);
        // The port is free once the endpoint's task has ended.
        while std::net::UdpSocket::bind(address).is_err() {
            tokio::task::yield_now().await;
        }
        Self::with(authority, address)
    }

    pub async fn seen(&mut self) -> Seen {
        timeout(SOON, self.seen.recv()).await.expect("nothing was seen").unwrap()
    }

    /// The next link, welcomed; with its Hello.
    pub async fn welcomed(&mut self) -> (Linked, Vec<u8>) {
        let Seen::Linked(mut linked) = self.seen().await else { panic!("not a link") };
        let hello = linked.read().await;
        linked.welcome().await;
        (*linked, hello)
    }
}

impl Linked {
    pub async fn read(&mut self) -> Vec<u8> {
        timeout(SOON, read(&mut self.receive)).await.expect("no frame").unwrap()
    }

    pub async fn write(&mut self, message: &impl Serialize) {
        write(&mut self.send, message).await;
    }

    async fn welcome(&mut self) {
        let welcome = Welcome {
            version: 1,
            time_s: now().try_into().unwrap(),
            cluster: Text::cut("lab"),
            node_name: Text::cut("gateway-1"),
            keepalive_s: 25,
        };
        self.write(&ToAgent::Welcome(welcome)).await;
    }

    /// Opens a stream to the node and sends a request; gives the frame that answers it.
    pub async fn dial(&self, request: &impl Serialize) -> (SendStream, RecvStream, Vec<u8>) {
        let (mut send, mut receive) = self.connection.open_bi().await.unwrap();
        write(&mut send, request).await;
        let reply = timeout(SOON, read(&mut receive)).await.expect("no reply").unwrap();
        (send, receive, reply)
    }

    /// The code the agent closes with.
    pub async fn close_code(&self) -> u64 {
        match timeout(SOON, self.connection.closed()).await.expect("not closed") {
            quinn::ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            other => panic!("{other}"),
        }
    }
}

pub fn understood<'a, T: Message + Deserialize<'a>>(body: &'a [u8]) -> T {
    decode(body).unwrap()
}

pub async fn write(send: &mut SendStream, message: &impl Serialize) {
    let mut buffer = vec![0; HEADER + MAX_FRAME];
    send.write_all(encode(message, &mut buffer).unwrap()).await.unwrap();
}

pub async fn read(receive: &mut RecvStream) -> Option<Vec<u8>> {
    let mut header = [0; HEADER];
    receive.read_exact(&mut header).await.ok()?;
    let mut body = vec![0; body_length(header).ok()?];
    receive.read_exact(&mut body).await.ok()?;
    Some(body)
}

async fn accept(
    endpoint: Endpoint,
    authority: Arc<Authority>,
    tell: mpsc::UnboundedSender<Seen>,
) {
    while let Some(incoming) = endpoint.accept().await {
        let (authority, tell) = (authority.clone(), tell.clone());
        tokio::spawn(async move {
            let connection = incoming.await.ok()?;
            let (send, receive) = connection.accept_bi().await.ok()?;
            if alpn(&connection) == ALPN_JOIN {
                return join(&authority, &connection, send, receive, &tell).await;
            }
            assert!(connection.peer_identity().is_some(), "a link without a certificate");
            let linked = Linked { connection, send, receive };
            tell.send(Seen::Linked(Box::new(linked))).ok()
        });
    }
}

fn alpn(connection: &Connection) -> Vec<u8> {
    let data = connection.handshake_data().unwrap();
    let data = data.downcast::<quinn::crypto::rustls::HandshakeData>().unwrap();
    data.protocol.unwrap()
}

async fn join(
    authority: &Authority,
    connection: &Connection,
    mut send: SendStream,
    mut receive: RecvStream,
    tell: &mpsc::UnboundedSender<Seen>,
) -> Option<()> {
    let body = read(&mut receive).await?;
    let refused = authority.policy.lock().unwrap().refuse;
    let (proof, seen) = match understood(&body) {
        JoinRequest::Token { token: Secret(token), node_name, public_key, proof } => {
            authority.policy.lock().unwrap().public_key = public_key;
            let refused = refused.or((token.as_str() != TOKEN).then_some(Refusal::Token));
            if let Some(reason) = refused {
                return refuse(&mut send, reason).await;
            }
            (proof, Seen::Joined { node_name: node_name.as_str().to_owned() })
        }
        JoinRequest::Return { node_id, generation, proof } => {
            assert_eq!(node_id, NODE_ID);
            if let Some(reason) = refused {
                return refuse(&mut send, reason).await;
            }
            (proof, Seen::CameBack { generation })
        }
    };
    let mut exported = [0; 32];
    connection.export_keying_material(&mut exported, JOIN_EXPORTER_LABEL, &[]).unwrap();
    let key = authority.policy.lock().unwrap().public_key;
    UnparsedPublicKey::new(&ED25519, key)
        .verify(&[PROOF_CONTEXT, &exported].concat(), &proof)
        .expect("the proof does not hold");
    let issued = authority.issue();
    let joined = Joined {
        node_id: NODE_ID,
        time_s: now().try_into().unwrap(),
        cluster: Text::cut("lab"),
        node_name: Text::cut("gateway-1"),
        certificates: issued.certificates(),
        trust: authority.trust(1),
    };
    write(&mut send, &JoinReply::Joined(joined)).await;
    tell.send(seen).ok()?;
    connection.closed().await;
    Some(())
}

async fn refuse(send: &mut SendStream, reason: Refusal) -> Option<()> {
    let text = Text::cut("The cluster says no.");
    write(send, &JoinReply::Refused { reason, text }).await;
    send.finish().ok()?;
    send.stopped().await.ok()?;
    Some(())
}

/// Reads control messages until one is of the wanted kind; heartbeats may come at any time.
pub async fn until<T>(linked: &mut Linked, mut wanted: impl FnMut(ToCluster<'_>) -> Option<T>) -> T {
    loop {
        let body = linked.read().await;
        if let Some(found) = wanted(understood(&body)) {
            return found;
        }
    }
}
