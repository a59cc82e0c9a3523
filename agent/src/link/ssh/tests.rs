//! The agent's end against a server of russh's, over a pipe.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::Ed25519Keypair;
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
