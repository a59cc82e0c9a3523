//! The key exchange of TLS, on the same curve and by the same code as that of SSH: a second
//! implementation would be 20 KiB.

use curve25519_dalek::montgomery::MontgomeryPoint;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::crypto::{ActiveKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup};
use rustls::{Error, NamedGroup, PeerMisbehaved};
use zeroize::Zeroizing;

/// X25519 (RFC 7748).
#[derive(Debug)]
pub(super) struct X25519;

impl SupportedKxGroup for X25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut secret = Zeroizing::new([0; 32]);
        SystemRandom::new()
            .fill(&mut *secret)
            .map_err(|_| GetRandomFailed)?;
        let public = MontgomeryPoint::mul_base_clamped(*secret);
        Ok(Box::new(Exchange { secret, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct Exchange {
    secret: Zeroizing<[u8; 32]>,
    public: MontgomeryPoint,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let wrong = Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare);
        let Ok(peer) = peer.try_into() else {
            return Err(wrong);
        };
        let shared = Zeroizing::new(MontgomeryPoint(peer).mul_clamped(*self.secret).0);
        // What a point of low order makes of every secret (RFC 8446 §7.4.2).
        if *shared == [0; 32] {
            return Err(wrong);
        }
        Ok(SharedSecret::from(shared.as_slice()))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::ring::kx_group;

    #[test]
    fn another_implementation_agrees() {
        for _ in 0..16 {
            let (own, other) = (X25519.start().unwrap(), kx_group::X25519.start().unwrap());
            assert_eq!(own.group(), other.group());
            let (own_public, other_public) = (own.pub_key().to_vec(), other.pub_key().to_vec());
            let own = own.complete(&other_public).unwrap();
            let other = other.complete(&own_public).unwrap();
            assert_eq!(own.secret_bytes(), other.secret_bytes());
        }
    }

    #[test]
    fn the_example_of_the_standard_comes_out() {
        // RFC 7748 §6.1.
        let bytes = |text: &str| -> [u8; 32] {
            std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
        };
        let secret = bytes("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
        let peer = bytes("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
        let shared = bytes("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
        let exchange = Exchange {
            secret: Zeroizing::new(secret),
            public: MontgomeryPoint::mul_base_clamped(secret),
        };
        let public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
        assert_eq!(exchange.pub_key(), bytes(public));
        let made = Box::new(exchange).complete(&peer).unwrap();
        assert_eq!(made.secret_bytes(), shared);
    }

    #[test]
    fn a_share_that_fixes_the_secret_is_refused() {
        let of_low_order = |first: u8| {
            let mut point = [0; 32];
            point[0] = first;
            point
        };
        for share in [
            &of_low_order(0)[..],
            &of_low_order(1),
            &[9; 31],
            &[9; 33],
            &[],
        ] {
            let refused = X25519.start().unwrap().complete(share);
            assert!(refused.is_err(), "{share:?}");
        }
    }
}
