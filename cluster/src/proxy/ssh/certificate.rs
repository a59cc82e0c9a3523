//! Whose certificate a client shows. russh has verified signature, validity and possession; whose
//! signature it is, and for whom, is ours.

use anyhow::{Context, Result, ensure};
use protocol::identity::NodeId;
use russh::keys::Certificate;
use russh::keys::ssh_key::certificate::CertType;
use time::OffsetDateTime;

use crate::auth::ca::Authorities;
use crate::auth::ca::peer::{NodePeer, UserPeer, fingerprint};

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
        id: certificate.serial(),
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
) -> Result<NodePeer> {
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
    let generation = u32::try_from(certificate.serial()).ok();
    Ok(NodePeer {
        id,
        public_key,
        // Older clusters gave all certificates the same number.
        generation: generation.filter(|&generation| generation > 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    use crate::auth::ca::UserSubject;
    use crate::store::Backend;
    use crate::store::sqlite::{Options, Sqlite};
    use russh::keys::{Algorithm, PrivateKey};

    async fn authorities(dir: &tempfile::TempDir, name: &str) -> Authorities {
        let store = Sqlite::open(&dir.path().join(name), Options::default()).unwrap();
        let store: Arc<dyn Backend> = Arc::new(store);
        Authorities::open(&store, "lab").await.unwrap()
    }

    fn public() -> [u8; 32] {
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
        key.public_key().key_data().ed25519().unwrap().0
    }

    #[tokio::test]
    async fn a_node_is_told_from_users_from_other_nodes_and_from_the_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let ours = authorities(&dir, "ours.db").await;
        let theirs = authorities(&dir, "theirs.db").await;
        let (id, public_key) = (NodeId([7; 16]), public());
        let name = id.to_string();
        let issued = ours.issue_node(id, "gateway-1", public_key, 7).unwrap().ssh;
        let found = node(&ours, &issued, &name).unwrap();
        let generation = Some(7);
        let peer = NodePeer {
            id,
            public_key,
            generation,
        };
        assert_eq!(found, peer);
        assert!(node(&theirs, &issued, &name).is_err());
        assert!(node(&ours, &issued, "gateway-1").is_err());
        assert!(node(&ours, &issued, &NodeId([8; 16]).to_string()).is_err());
        assert!(user(&ours, &issued).is_err());

        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
        let own = ours.issue_proxy_ssh(&key, "lab.example.com").unwrap();
        assert!(node(&ours, &own, own.key_id()).is_err());

        let subject = UserSubject {
            name: &name,
            id: 77,
            principals: &["root".into()],
            roles: &[],
            public_key,
            ttl: Duration::from_secs(60),
        };
        let person = ours.issue_user(&subject).unwrap().ssh;
        assert!(node(&ours, &person, &name).is_err());
        let peer = user(&ours, &person).unwrap();
        assert_eq!((peer.name, peer.id), (name, 77));
        assert!(user(&theirs, &person).is_err());
    }
}
