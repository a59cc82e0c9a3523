//! The agent's end against a server of russh's, over a pipe.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::PROXY_KEY_ID;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::server::{self, Auth};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

fn key() -> PrivateKey {
    let mut seed = [0; 32];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut seed).unwrap();
    PrivateKey::from(Ed25519Keypair::from_seed(&seed))
}

/// A host certificate.
fn certificate(ca: &PrivateKey, key: &PrivateKey, id: &str) -> Certificate {
    let mut builder = Builder::new([7; 16], key.public_key(), 0, u64::from(u32::MAX)).unwrap();
    builder.cert_type(CertType::Host).unwrap();
    builder.key_id(id).unwrap();
    builder.valid_principal(id).unwrap();
    builder.sign(ca).unwrap()
}

fn identity(ca: &PrivateKey) -> Identity {
    let key = key();
    Identity {
        name: "node".to_owned(),
        certificate: certificate(ca, &key, "node"),
        key: Arc::new(key),
        host_ca: ca.public_key().key_data().clone(),
        now: SystemTime::now().duration_since(UNIX_EPOCH).unwrap(),
    }
}

struct Cluster;

impl server::Handler for Cluster {
    type Error = russh::Error;

    async fn auth_openssh_certificate(
        &mut self,
        _: &str,
        _: &Certificate,
    ) -> Result<Auth, russh::Error> {
        Ok(Auth::Accept)
    }
}

/// A link, and the cluster's handle on it.
async fn link() -> (Ssh, server::Handle) {
    let (ca, host) = (key(), key());
    let config = Arc::new(server::Config {
        certificates: vec![certificate(&ca, &host, PROXY_KEY_ID)],
        keys: vec![host],
        ..server::Config::default()
    });
    let (here, there) = tokio::io::duplex(4096);
    let serving = tokio::spawn(server::run_stream(config, there, Cluster));
    let ssh = connect(here, Around::Nothing, Counter::default(), &identity(&ca)).await;
    let ssh = ssh.map_err(|fault| fault.text).unwrap();
    let running = serving.await.unwrap().unwrap();
    let handle = running.handle();
    tokio::spawn(running);
    (ssh, handle)
}

#[tokio::test]
async fn dials_at_once_wait_for_their_turn() {
    let (ssh, cluster) = link().await;
    let mut dials = Vec::new();
    for number in 0..60 {
        let opening = cluster.channel_open_forwarded_tcpip("", 0, "", 0);
        let channel = timeout(LIMIT, opening).await.unwrap();
        dials.push(channel.unwrap_or_else(|error| panic!("dial {number}: {error}")));
    }
    for _ in 0..dials.len() {
        let dial = timeout(LIMIT, ssh.accept()).await.unwrap();
        assert!(dial.is_ok());
    }
}

/// Reads what a client says until it has begun to exchange keys.
async fn until_keys_are_exchanged(peer: &mut DuplexStream) {
    peer.write_all(b"SSH-2.0-silent\r\n").await.unwrap();
    while peer.read_u8().await.unwrap() != b'\n' {}
    peer.read_u8().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_is_given_up_while_keys_are_exchanged_is_cut() {
    let (here, mut peer) = tokio::io::duplex(4096);
    let identity = identity(&key());
    let mut connecting = Box::pin(connect(
        here,
        Around::Nothing,
        Counter::default(),
        &identity,
    ));
    tokio::select! {
        _ = &mut connecting => panic!("nobody has answered"),
        () = until_keys_are_exchanged(&mut peer) => {}
    }
    drop(connecting);
    let mut rest = Vec::new();
    let end = timeout(LIMIT, peer.read_to_end(&mut rest)).await;
    end.expect("its task goes on").unwrap();
}
