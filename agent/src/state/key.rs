//! The device's key: one Ed25519 key for SSH and for TLS.

use anyhow::{Context, anyhow};
use protocol::message::join::{EXPORTED, PROOF_CONTEXT};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use russh::keys::ssh_key::private::Ed25519Keypair;
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::SigningKey;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Where the seed lies in a PKCS#8 document of an Ed25519 key (RFC 8410 §7): version, algorithm
/// and two octet string headers take the same 16 bytes in every one.
const SEED: std::ops::Range<usize> = 16..48;

/// The key.
pub(crate) struct DeviceKey {
    pkcs8: Zeroizing<Vec<u8>>,
    pair: Ed25519KeyPair,
}

impl DeviceKey {
    /// Makes a new key from the kernel's random numbers.
    pub(crate) fn generate() -> anyhow::Result<Self> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| anyhow!("the kernel gives no random numbers for a key"))?;
        Self::from_pkcs8(document.as_ref().to_vec())
    }

    /// Reads a key. The document holds the public half, too, so a damaged one is noticed.
    pub(crate) fn from_pkcs8(bytes: Vec<u8>) -> anyhow::Result<Self> {
        let pkcs8 = Zeroizing::new(bytes);
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8)
            .map_err(|_| anyhow!("expected an Ed25519 key in PKCS#8; the file is damaged"))?;
        Ok(Self { pkcs8, pair })
    }

    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public half (RFC 8032).
    pub(crate) fn public(&self) -> [u8; 32] {
        let mut public = [0; 32];
        for (to, from) in public.iter_mut().zip(self.pair.public_key().as_ref()) {
            *to = *from;
        }
        public
    }

    /// Proves to one connection's peer that the key is here.
    pub(crate) fn prove(&self, exported: &[u8; EXPORTED]) -> [u8; 64] {
        let signature = self.pair.sign(&[PROOF_CONTEXT, exported].concat());
        let mut proof = [0; 64];
        for (to, from) in proof.iter_mut().zip(signature.as_ref()) {
            *to = *from;
        }
        proof
    }

    /// The key as TLS uses it.
    pub(crate) fn tls(&self) -> anyhow::Result<Arc<dyn SigningKey>> {
        any_eddsa_type(&PrivatePkcs8KeyDer::from(self.pkcs8.as_slice()))
            .context("the device's key cannot sign for TLS")
    }

    /// The key as SSH uses it.
    pub(crate) fn ssh(&self) -> anyhow::Result<russh::keys::PrivateKey> {
        let seed = self
            .pkcs8
            .get(SEED)
            .and_then(|seed| <&[u8; 32]>::try_from(seed).ok());
        let seed = seed.context("the device's key has no seed")?;
        Ok(Ed25519Keypair::from_seed(seed).into())
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
    use ring::signature::{ED25519, UnparsedPublicKey};

    #[test]
    fn tls_and_ssh_use_the_same_key() {
        let key = DeviceKey::generate().unwrap();
        let ssh = key.ssh().unwrap();
        assert_eq!(
            ssh.public_key().key_data().ed25519().unwrap().0,
            key.public()
        );
        let tls = key.tls().unwrap();
        let spki = tls.public_key().unwrap();
        assert!(spki.as_ref().ends_with(&key.public()));
    }

    #[test]
    fn a_proof_holds_for_one_connection() {
        let key = DeviceKey::generate().unwrap();
        let proof = key.prove(&[7; EXPORTED]);
        let public = UnparsedPublicKey::new(&ED25519, key.public());
        let signed = |exported: [u8; EXPORTED]| [PROOF_CONTEXT, &exported].concat();
        assert!(public.verify(&signed([7; EXPORTED]), &proof).is_ok());
        assert!(public.verify(&signed([8; EXPORTED]), &proof).is_err());
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
