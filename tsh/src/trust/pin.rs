//! Pins of CA certificates.

use anyhow::{Context, Result};
use protocol::identity::CaPin;
use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;

/// The pin of a CA certificate: SHA-256 of its `SubjectPublicKeyInfo`.
pub(crate) fn of(ca: &CertificateDer<'_>) -> Result<CaPin> {
    let parsed = ParsedCertificate::try_from(ca).context("CA certificate")?;
    let spki = parsed.subject_public_key_info();
    let hash = digest(&SHA256, &spki);
    Ok(CaPin(hash.as_ref().try_into()?))
}
