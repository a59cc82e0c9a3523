//! The proofs' HMAC, from ring.

use protocol::resume::{Mac, Secret, TAG};
use ring::hmac;

/// HMAC-SHA-256 (RFC 2104).
pub(crate) struct Hmac;

/// The one there is.
pub(crate) static HMAC: Hmac = Hmac;

fn key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &secret.0)
}

impl Mac for Hmac {
    fn tag(&self, secret: &Secret, message: &[u8]) -> [u8; TAG] {
        let signed = hmac::sign(&key(secret), message);
        let mut tag = [0; TAG];
        for (to, from) in tag.iter_mut().zip(signed.as_ref()) {
            *to = *from;
        }
        tag
    }

    fn verify(&self, secret: &Secret, message: &[u8], tag: &[u8; TAG]) -> bool {
        hmac::verify(&key(secret), message, tag).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231 §4.3 is of a shorter key, which HMAC fills with zeros.
    #[test]
    fn it_is_hmac_sha_256() {
        let mut secret = [0; 32];
        secret[..4].copy_from_slice(b"Jefe");
        let message = b"what do ya want for nothing?";
        let tag = HMAC.tag(&Secret(secret), message);
        assert_eq!(tag[..8], [0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e]);
        assert!(HMAC.verify(&Secret(secret), message, &tag));
        assert!(!HMAC.verify(&Secret([1; 32]), message, &tag));
        assert!(!HMAC.verify(&Secret(secret), b"what", &tag));
    }
}
