//! Reading who is at the other end from a certificate that TLS or SSH has already verified.

use anyhow::{Context, Result, bail, ensure};
use protocol::identity::{Fingerprint, NodeId, Subject};
use russh::keys::HashAlg;
use russh::keys::ssh_key::PublicKey;
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Authorities, ssh_key};
use crate::resource::Resource;
use crate::resource::user::UserSpec;

/// Somebody with a certificate of this cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A node.
    Node(NodePeer),
    /// A person.
    User(UserPeer),
}

/// A node with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodePeer {
    /// Its id.
    pub id: NodeId,
    /// Its bound key: raw Ed25519.
    pub public_key: [u8; 32],
    /// Generation of the certificate, if it tells.
    pub generation: Option<u32>,
}

/// A person with a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPeer {
    /// The Tether user.
    pub name: String,
    /// Which of those who have had this name; zero if the certificate does not tell.
    pub id: u64,
    /// Fingerprint of the key that both forms of the certificate share.
    pub fingerprint: Fingerprint,
    /// End of the certificate's validity.
    pub not_after: OffsetDateTime,
}

impl UserPeer {
    /// Whether the certificate was issued to this user, and not to an earlier one of the same name.
    #[must_use]
    pub fn is(&self, user: &Resource<UserSpec>) -> bool {
        self.name == user.name() && self.id == user.spec.id
    }
}

/// Reads a leaf certificate that was verified against either CA.
///
/// A leaf's issuer is its CA's subject, which the verifier matched with the key that signed, so
/// comparing it tells which CA vouches; and each CA may only vouch for its own kind.
///
/// # Errors
/// If the certificate does not name a node or user of this cluster.
pub fn identify(authorities: &Authorities, leaf: &[u8]) -> Result<Peer> {
    let (_, certificate) = X509Certificate::from_der(leaf).context("unreadable certificate")?;
    let uri = uri(&certificate).context("the certificate has no identity")?;
    let (cluster, subject) = Subject::parse_uri(uri)?;
    ensure!(
        cluster == authorities.cluster,
        "the certificate is of the cluster {cluster:?}"
    );
    let public_key: [u8; 32] = certificate
        .public_key()
        .subject_public_key
        .data
        .as_ref()
        .try_into()
        .context("the certificate's key is not Ed25519")?;
    match subject {
        Subject::Node(id) => {
            ensure!(
                issued_by(&certificate, &authorities.host.certificate)?,
                "wrong CA for a node"
            );
            let generation = super::serial::generation(certificate.raw_serial());
            Ok(Peer::Node(NodePeer {
                id,
                public_key,
                generation,
            }))
        }
        Subject::User(name) => {
            ensure!(
                issued_by(&certificate, &authorities.user.certificate)?,
                "wrong CA for a user"
            );
            let not_after = certificate.validity().not_after.to_datetime();
            let fingerprint = fingerprint(&ssh_key(public_key));
            let id = super::serial::user(certificate.raw_serial());
            Ok(Peer::User(UserPeer {
                name: name.to_owned(),
                id: id.unwrap_or(0),
                fingerprint,
                not_after,
            }))
        }
        Subject::Cluster => bail!("a cluster's certificate is not for clients"),
    }
}

/// The fingerprint that dial headers carry.
#[must_use]
pub fn fingerprint(key: &PublicKey) -> Fingerprint {
    let digest = key.fingerprint(HashAlg::Sha256);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_bytes());
    Fingerprint(bytes)
}

fn issued_by(leaf: &X509Certificate<'_>, ca: &[u8]) -> Result<bool> {
    let (_, ca) = X509Certificate::from_der(ca).context("unreadable CA certificate")?;
    Ok(leaf.issuer().as_raw() == ca.subject().as_raw())
}

fn uri<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let names = &certificate
        .subject_alternative_name()
        .ok()??
        .value
        .general_names;
    names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    })
}
