//! Whose certificate a client shows. russh has verified signature, validity and possession; whose
//! signature it is, and for whom, is ours.

use anyhow::{Context, Result, ensure};
use protocol::identity::NodeId;
use russh::keys::Certificate;
use russh::keys::ssh_key::certificate::CertType;
use time::OffsetDateTime;

use super::Expected;
use crate::auth::ca::Authorities;
use crate::auth::ca::peer::{UserPeer, fingerprint};

/// Reads a user's certificate.
///
/// # Errors
/// If it is not one of this cluster.
pub(super) fn user(authorities: &Authorities, certificate: &Certificate) -> Result<UserPeer> {
    let ca = authorities.user.ssh.public_key().key_data();
    ensure!(
        certificate.signature_key() == ca,
        "the certificate is of another CA"
    );
    ensure!(
        certificate.cert_type() == CertType::User,
        "not a user certificate"
    );
    ensure!(
        certificate.critical_options().is_empty(),
        "unknown critical option"
    );
    let not_after = i64::try_from(certificate.valid_before())?;
    Ok(UserPeer {
        name: certificate.key_id().to_owned(),
        fingerprint: fingerprint(&certificate.public_key().clone().into()),
        not_after: OffsetDateTime::from_unix_timestamp(not_after)?,
    })
}

/// Reads a node's certificate, which names it in its key id. Agents give that as their user name.
///
/// # Errors
/// If it is not one of this cluster.
pub(super) fn node(
    authorities: &Authorities,
    certificate: &Certificate,
    name: &str,
) -> Result<Expected> {
    let ca = authorities.host.ssh.public_key().key_data();
    ensure!(
        certificate.signature_key() == ca,
        "the certificate is of another CA"
    );
    ensure!(
        certificate.cert_type() == CertType::Host,
        "not a host certificate"
    );
    ensure!(
        certificate.critical_options().is_empty(),
        "unknown critical option"
    );
    let id: NodeId = certificate
        .key_id()
        .parse()
        .context("the certificate is not for a node")?;
    ensure!(
        certificate.key_id() == name,
        "the certificate is for another node"
    );
    let key = certificate.public_key().ed25519();
    let public_key = key.context("the certificate's key is not Ed25519")?.0;
    Ok(Expected { id, public_key })
}
