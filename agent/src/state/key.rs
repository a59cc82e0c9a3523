//! The device's key: one Ed25519 key for SSH and for TLS.

use anyhow::{Context, anyhow};
use protocol::message::join::{EXPORTED, PROOF_CONTEXT};
use ring::rand::{SecureRandom, SystemRandom};
use russh::keys::signature::Signer;
use russh::keys::ssh_key::private::Ed25519Keypair;
use rustls::sign::SigningKey;
use std::sync::Arc;
use zeroize::Zeroizing;

use crate::trust::ed25519::TlsKey;

/// What precedes the seed and the public half in a PKCS#8 document of an Ed25519 key with both
/// (RFC 8410 §7, RFC 5958): every such document has the same bytes here.
const BEFORE_SEED: [u8; 16] = [
    0x30, 0x51, 2, 1, 1, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
];
const BEFORE_PUBLIC: [u8; 3] = [0x81, 0x21, 0];

/// The key.
pub(crate) struct DeviceKey {
    pkcs8: Zeroizing<Vec<u8>>,
    pair: Arc<Ed25519Keypair>,
}

impl DeviceKey {
    /// Makes a new key from the kernel's random numbers.
    pub(crate) fn generate() -> anyhow::Result<Self> {
        let mut seed = Zeroizing::new([0; 32]);
        SystemRandom::new()
            .fill(&mut *seed)
            .map_err(|_| anyhow!("the kernel gives no random numbers for a key"))?;
        Ok(Self::from_seed(&seed))
    }

    fn from_seed(seed: &[u8; 32]) -> Self {
        let pair = Ed25519Keypair::from_seed(seed);
        let parts: [&[u8]; 4] = [&BEFORE_SEED, seed, &BEFORE_PUBLIC, &pair.public.0];
        Self {
            pkcs8: Zeroizing::new(parts.concat()),
            pair: Arc::new(pair),
        }
    }

    /// Reads a key. The document holds the public half, too, so a damaged one is noticed.
    pub(crate) fn from_pkcs8(bytes: Vec<u8>) -> anyhow::Result<Self> {
        let bytes = Zeroizing::new(bytes);
        let seed = bytes.strip_prefix(&BEFORE_SEED);
        let key = seed.and_then(<[u8]>::first_chunk).map(Self::from_seed);
        key.filter(|key| key.pkcs8 == bytes)
            .context("expected an Ed25519 key in PKCS#8; the file is damaged")
    }

    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public half (RFC 8032).
    pub(crate) fn public(&self) -> [u8; 32] {
        self.pair.public.0
    }

    /// Proves to one connection's peer that the key is here.
    pub(crate) fn prove(&self, exported: &[u8; EXPORTED]) -> anyhow::Result<[u8; 64]> {
        let signature = self.pair.try_sign(&[PROOF_CONTEXT, exported].concat());
        let signature = signature.map_err(|_| anyhow!("the device's key cannot sign"))?;
        Ok(signature.as_bytes().try_into()?)
    }

    /// The key as TLS uses it.
    pub(crate) fn tls(&self) -> Arc<dyn SigningKey> {
        Arc::new(TlsKey(Arc::clone(&self.pair)))
    }

    /// The key as SSH uses it.
    pub(crate) fn ssh(&self) -> russh::keys::PrivateKey {
        Ed25519Keypair::clone(&self.pair).into()
    }
}

impl std::fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeviceKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

    #[test]
    fn tls_and_ssh_use_the_same_key() {
        let key = DeviceKey::generate().unwrap();
        let ssh = key.ssh();
        assert_eq!(
            ssh.public_key().key_data().ed25519().unwrap().0,
            key.public()
        );
        let tls = key.tls();
        let spki = tls.public_key().unwrap();
        assert!(spki.as_ref().ends_with(&key.public()));
    }

    #[test]
    fn a_proof_holds_for_one_connection() {
        let key = DeviceKey::generate().unwrap();
        let proof = key.prove(&[7; EXPORTED]).unwrap();
        let public = UnparsedPublicKey::new(&ED25519, key.public());
        let signed = |exported: [u8; EXPORTED]| [PROOF_CONTEXT, &exported].concat();
        assert!(public.verify(&signed([7; EXPORTED]), &proof).is_ok());
        assert!(public.verify(&signed([8; EXPORTED]), &proof).is_err());
    }

    #[test]
    fn the_document_is_one_that_others_read_and_write() {
        let key = DeviceKey::generate().unwrap();
        let read = Ed25519KeyPair::from_pkcs8(key.pkcs8()).unwrap();
        assert_eq!(read.public_key().as_ref(), key.public());
        let written = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let key = DeviceKey::from_pkcs8(written.as_ref().to_vec()).unwrap();
        assert_eq!(key.pkcs8(), written.as_ref());
    }

    #[test]
    fn every_damaged_byte_of_the_key_is_noticed() {
        let key = DeviceKey::generate().unwrap();
        for at in 0..key.pkcs8().len() {
            let mut bytes = key.pkcs8().to_vec();
            bytes[at] ^= 0x40;
            assert!(DeviceKey::from_pkcs8(bytes).is_err(), "byte {at}");
        }
    }
}
