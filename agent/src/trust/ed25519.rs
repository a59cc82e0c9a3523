//! Ed25519 for TLS, by the same code as for SSH: a second implementation would be 50 KiB.

use std::sync::Arc;

use russh::keys::Algorithm;
use russh::keys::signature::{Signer as _, Verifier as _};
use russh::keys::ssh_key::Signature;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::public::Ed25519PublicKey;
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer,
    alg_id,
};
use rustls::sign::{Signer, SigningKey, public_key_to_spki};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};

/// Verifies signatures by keys of certificates (RFC 8410).
#[derive(Debug)]
pub(super) struct Ed25519;

impl SignatureVerificationAlgorithm for Ed25519 {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let key = Ed25519PublicKey(public_key.try_into().map_err(|_| InvalidSignature)?);
        let signature =
            Signature::new(Algorithm::Ed25519, signature).map_err(|_| InvalidSignature)?;
        key.verify(message, &signature)
            .map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ED25519
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ED25519
    }
}

/// A key that signs for TLS 1.3.
#[derive(Debug, Clone)]
pub(crate) struct TlsKey(pub(crate) Arc<Ed25519Keypair>);

impl SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SignatureScheme::ED25519)
            .then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(public_key_to_spki(&alg_id::ED25519, self.0.public.0))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for TlsKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        match self.0.try_sign(message) {
            Ok(signature) => Ok(signature.as_bytes().to_vec()),
            Err(_) => Err(Error::General("the device's key cannot sign".into())),
        }
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

    const SEED: [u8; 32] = [7; 32];
    const MESSAGE: &[u8] = b"to be signed";

    fn key() -> TlsKey {
        TlsKey(Arc::new(Ed25519Keypair::from_seed(&SEED)))
    }

    #[test]
    fn another_implementation_makes_the_same_signatures() {
        let other = Ed25519KeyPair::from_seed_unchecked(&SEED).unwrap();
        let signed = key().sign(MESSAGE).unwrap();
        assert_eq!(signed, other.sign(MESSAGE).as_ref());
        assert_eq!(key().0.public.0, other.public_key().as_ref());
        let public = UnparsedPublicKey::new(&ED25519, other.public_key());
        assert!(public.verify(MESSAGE, &signed).is_ok());
    }

    #[test]
    fn a_signature_holds_for_its_key_and_message() {
        let (public, good) = (key().0.public.0, key().sign(MESSAGE).unwrap());
        let verified = |key: &[u8], message: &[u8], signature: &[u8]| {
            Ed25519.verify_signature(key, message, signature).is_ok()
        };
        assert!(verified(&public, MESSAGE, &good));
        assert!(!verified(&public, b"something else", &good));
        assert!(!verified(&public[1..], MESSAGE, &good));
        assert!(!verified(&public, MESSAGE, &good[1..]));
        let stranger = Ed25519Keypair::from_seed(&[8; 32]);
        assert!(!verified(&stranger.public.0, MESSAGE, &good));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(!verified(&public, MESSAGE, &bad), "byte {at}");
        }
    }

    #[test]
    fn nothing_is_signed_for_a_peer_that_cannot_verify_it() {
        let offered = [SignatureScheme::ECDSA_NISTP256_SHA256];
        assert!(key().choose_scheme(&offered).is_none());
        let offered = [offered[0], SignatureScheme::ED25519];
        assert!(key().choose_scheme(&offered).is_some());
    }
}
