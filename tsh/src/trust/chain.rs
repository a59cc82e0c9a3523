//! Judging a chain of certificates: by pins, by its own CA, by the public web.

use std::sync::Arc;

use protocol::SERVER_NAME;
use protocol::identity::CaPin;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};

use super::{Verdict, pin};
use crate::address::ProxyAddr;

/// What a server showed, and when.
pub(super) struct Shown<'a> {
    leaf: ParsedCertificate<'a>,
    rest: &'a [CertificateDer<'a>],
    now: UnixTime,
    crypto: &'a CryptoProvider,
}

impl<'a> Shown<'a> {
    pub(super) fn new(
        leaf: &'a CertificateDer<'a>,
        rest: &'a [CertificateDer<'a>],
        now: UnixTime,
        crypto: &'a CryptoProvider,
    ) -> Result<Self, Error> {
        Ok(Self {
            leaf: ParsedCertificate::try_from(leaf)?,
            rest,
            now,
            crypto,
        })
    }

    /// Judges without the public web.
    pub(super) fn judge(&self, pins: &[CaPin], proxy: &ProxyAddr) -> Verdict {
        let mut seen = None;
        for ca in self.rest {
            let Ok(pin) = pin::of(ca) else { continue };
            let pinned = pins.contains(&pin);
            match self.signed_by(ca).and_then(|()| self.names(proxy)) {
                Ok(()) if pinned => return Verdict::Pinned(pin),
                Ok(()) => seen = Some(pin),
                // The right CA, but expired, or for another host.
                Err(error) if pinned => return Verdict::Bad(error),
                Err(_) => {}
            }
        }
        match seen {
            Some(pin) if pins.is_empty() => Verdict::Unknown(pin),
            None if pins.is_empty() => Verdict::Bad(CertificateError::UnknownIssuer.into()),
            seen => Verdict::Mismatch { seen },
        }
    }

    fn signed_by(&self, ca: &CertificateDer<'_>) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let algorithms = self.crypto.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&self.leaf, &roots, &[], self.now, algorithms)
    }

    fn names(&self, proxy: &ProxyAddr) -> Result<(), Error> {
        let own =
            ServerName::try_from(SERVER_NAME).map_err(|_| CertificateError::NotValidForName)?;
        let host = proxy.server_name();
        let host = host.map_err(|_| CertificateError::NotValidForName)?;
        verify_server_name(&self.leaf, &own).or_else(|_| verify_server_name(&self.leaf, &host))
    }
}

/// Whether the certificate authorities of this computer vouch for the proxy's host. Their list is
/// long and only read when it comes to that.
pub(super) fn web_vouches(
    leaf: &CertificateDer<'_>,
    rest: &[CertificateDer<'_>],
    now: UnixTime,
    proxy: &ProxyAddr,
    crypto: &Arc<CryptoProvider>,
) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(crypto)).build();
    let (Ok(verifier), Ok(host)) = (verifier, proxy.server_name()) else {
        return false;
    };
    verifier
        .verify_server_cert(leaf, rest, &host, &[], now)
        .is_ok()
}
