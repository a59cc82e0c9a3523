//! Checks a cluster: the first certificate of its chain must be issued by the host CA for the
//! internal name, and be valid now. The host CA is the one that the node knows, or before the join
//! the one in the chain that holds the pinned key.
//!
//! What else a certificate with the pinned key claims does not matter: anybody can wrap a public
//! key in a certificate, but only its owner can have signed the first one.
//!
//! There are no revocation lists. rustls' own verifier knows them, and brings all that reads them.

use std::borrow::Cow;

use protocol::identity::CaPin;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, PeerIncompatible, RootCertStore,
    SignatureScheme,
};

use super::certificate::pin_of;
use super::provider::SIGNATURES;

/// How a cluster's host CA is known.
#[derive(Debug)]
pub(super) enum Verifier {
    Pin(CaPin),
    Ca(RootCertStore),
}

impl Verifier {
    /// # Errors
    /// If it is no certificate.
    pub(super) fn of_ca(host_ca: &[u8]) -> Result<Self, Error> {
        Ok(Self::Ca(only(CertificateDer::from(host_ca))?))
    }

    fn anchor(&self, chain: &[CertificateDer<'_>]) -> Result<Cow<'_, RootCertStore>, Error> {
        let expected = match self {
            Self::Ca(roots) => return Ok(Cow::Borrowed(roots)),
            Self::Pin(pin) => pin,
        };
        let pinned = chain
            .iter()
            .find(|certificate| pin_of(certificate).is_some_and(|pin| same(&pin, expected)))
            .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        only(pinned.clone()).map(Cow::Owned)
    }
}

fn only(ca: CertificateDer<'_>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.into_owned())?;
    Ok(roots)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let roots = self.anchor(intermediates)?;
        let leaf = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &leaf,
            &roots,
            intermediates,
            now,
            SIGNATURES.all,
        )?;
        verify_server_name(&leaf, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &SIGNATURES)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.supported_schemes()
    }
}

/// Compares in a time that does not depend on where the pins differ.
fn same(a: &CaPin, b: &CaPin) -> bool {
    let difference = a.0.iter().zip(&b.0).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::certificate::tests::{Ca, leaf};
    use std::time::Duration;

    fn check(pin: CaPin, chain: &[CertificateDer<'static>], at: u64) -> Result<(), Error> {
        judge(&Verifier::Pin(pin), chain, at)
    }

    fn judge(by: &Verifier, chain: &[CertificateDer<'static>], at: u64) -> Result<(), Error> {
        let (leaf, rest) = chain.split_first().unwrap();
        let name = ServerName::try_from(protocol::SERVER_NAME).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(at));
        by.verify_server_cert(leaf, rest, &name, &[], now)
            .map(|_| ())
    }

    fn reason(result: Result<(), Error>) -> CertificateError {
        match result {
            Err(Error::InvalidCertificate(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// Within the validity of what [`leaf`] makes.
    const NOW: u64 = 1_800_000_000;

    #[test]
    fn the_pinned_cluster_is_believed() {
        let ca = Ca::new("lab");
        let chain = [
            leaf(&ca, protocol::SERVER_NAME),
            ca.certificate.der().clone(),
        ];
        assert_eq!(check(ca.pin(), &chain, NOW), Ok(()));
    }

    #[test]
    fn another_cluster_is_not() {
        let (ca, other) = (Ca::new("lab"), Ca::new("lab"));
        let chain = [
            leaf(&other, protocol::SERVER_NAME),
            other.certificate.der().clone(),
        ];
        assert_eq!(
            reason(check(ca.pin(), &chain, NOW)),
            CertificateError::UnknownIssuer
        );
    }

    #[test]
    fn a_node_believes_the_ca_that_it_knows() {
        let (ca, other) = (Ca::new("lab"), Ca::new("lab"));
        let known = Verifier::of_ca(ca.certificate.der()).unwrap();
        let good = [leaf(&ca, protocol::SERVER_NAME)];
        assert_eq!(judge(&known, &good, NOW), Ok(()));
        for at in [0, 5_000_000_000] {
            assert!(judge(&known, &good, at).is_err(), "{at}");
        }
        assert!(judge(&known, &[leaf(&ca, "gateway-1")], NOW).is_err());
        let foreign = [
            leaf(&other, protocol::SERVER_NAME),
            other.certificate.der().clone(),
        ];
        // Of the same name.
        assert_eq!(
            reason(judge(&known, &foreign, NOW)),
            CertificateError::BadSignature
        );
        assert!(Verifier::of_ca(&[0x30, 0x03, 0x02, 0x01, 0x00]).is_err());
    }

    #[test]
    fn the_pinned_ca_beside_a_certificate_of_another_proves_nothing() {
        let (ca, other) = (Ca::new("lab"), Ca::new("lab"));
        for others in [
            vec![ca.certificate.der().clone()],
            vec![
                other.certificate.der().clone(),
                ca.certificate.der().clone(),
            ],
        ] {
            let chain = [vec![leaf(&other, protocol::SERVER_NAME)], others].concat();
            assert!(check(ca.pin(), &chain, NOW).is_err());
        }
    }

    #[test]
    fn a_chain_without_its_ca_is_not_believed() {
        let ca = Ca::new("lab");
        let chain = [leaf(&ca, protocol::SERVER_NAME)];
        assert_eq!(
            reason(check(ca.pin(), &chain, NOW)),
            CertificateError::UnknownIssuer
        );
    }

    #[test]
    fn a_node_of_the_cluster_is_not_the_cluster() {
        let ca = Ca::new("lab");
        let chain = [leaf(&ca, "gateway-1"), ca.certificate.der().clone()];
        assert!(check(ca.pin(), &chain, NOW).is_err());
    }

    #[test]
    fn times_are_checked() {
        let ca = Ca::new("lab");
        let chain = [
            leaf(&ca, protocol::SERVER_NAME),
            ca.certificate.der().clone(),
        ];
        for at in [0, 5_000_000_000] {
            assert!(check(ca.pin(), &chain, at).is_err(), "{at}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_not_believed() {
        let ca = Ca::new("lab");
        let garbage = CertificateDer::from(vec![0x30, 0x03, 0x02, 0x01, 0x00]);
        assert!(
            check(
                ca.pin(),
                &[garbage.clone(), ca.certificate.der().clone()],
                NOW
            )
            .is_err()
        );
        assert!(check(ca.pin(), &[leaf(&ca, protocol::SERVER_NAME), garbage], NOW).is_err());
    }

    #[test]
    fn pins_are_compared_whole() {
        let pin = CaPin([7; 32]);
        assert!(same(&pin, &CaPin([7; 32])));
        for at in 0..32 {
            let mut other = pin;
            other.0[at] ^= 1;
            assert!(!same(&pin, &other), "byte {at}");
        }
    }
}
