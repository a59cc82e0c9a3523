//! Making an authority, and keeping it in the store.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use protocol::identity::CaPin;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::Authorities;
use crate::store::{Backend, Key, StoreError};

/// 2020-01-01: before any agent was built, so that a device without a clock finds it valid.
const NOT_BEFORE: Duration = Duration::from_secs(1_577_836_800);
/// Life of a CA. Devices stay in the field for decades; rotation, not expiry, retires a CA.
pub(super) const TTL: Duration = Duration::from_secs(100 * 365 * 86_400);

/// One certificate authority with its private keys.
pub struct Authority {
    /// SSH key.
    pub ssh: PrivateKey,
    /// X.509 key, with what it writes into the certificates it signs.
    pub x509: Issuer<'static, KeyPair>,
    /// Its own X.509 certificate.
    pub certificate: CertificateDer<'static>,
    /// SHA-256 of its X.509 public key.
    pub pin: CaPin,
    /// Start of its validity.
    pub not_before: SystemTime,
}

/// As stored. The store's file is readable by its owner alone.
#[derive(Serialize, Deserialize)]
struct Record {
    ssh_key: String,
    x509_key: String,
    x509_certificate: String,
}

#[derive(Serialize, Deserialize)]
struct ClusterRecord {
    name: String,
}

impl Authorities {
    /// Reads both authorities, or makes them at the cluster's first start.
    ///
    /// # Errors
    /// If the store fails, a record is damaged, or the cluster already has another name.
    pub async fn open(store: &Arc<dyn Backend>, cluster: &str) -> Result<Self> {
        let named = ClusterRecord {
            name: cluster.to_owned(),
        };
        let stored: ClusterRecord =
            get_or_create(store, &["cluster", "name"], || Ok(named)).await?;
        anyhow::ensure!(
            stored.name == cluster,
            "this data directory belongs to the cluster {:?}; start it with --cluster-name {}",
            stored.name,
            stored.name
        );
        let host = get_or_create(store, &["ca", "host"], || Record::make(cluster, "host")).await?;
        let user = get_or_create(store, &["ca", "user"], || Record::make(cluster, "user")).await?;
        Ok(Self {
            cluster: stored.name,
            host: host.open().context("the host CA in the store is damaged")?,
            user: user.open().context("the user CA in the store is damaged")?,
        })
    }
}

/// The name of the cluster in this store, if it was started before.
///
/// # Errors
/// If the store fails or the record is damaged.
pub async fn cluster_name(store: &Arc<dyn Backend>) -> Result<Option<String>> {
    let item = store.get(&Key::new(&["cluster", "name"])?).await?;
    let record = item
        .map(|item| serde_json::from_slice::<ClusterRecord>(&item.value))
        .transpose();
    Ok(record
        .context("the cluster's name in the store is damaged")?
        .map(|record| record.name))
}

impl Record {
    fn make(cluster: &str, kind: &str) -> Result<Self> {
        let ssh = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, cluster);
        params
            .distinguished_name
            .push(DnType::CommonName, format!("Tether {kind} CA"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = OffsetDateTime::from(UNIX_EPOCH + NOT_BEFORE);
        params.not_after = OffsetDateTime::now_utc() + TTL;
        Ok(Self {
            ssh_key: ssh.to_openssh(LineEnding::LF)?.to_string(),
            x509_key: key.serialize_pem(),
            x509_certificate: params.self_signed(&key)?.pem(),
        })
    }

    fn open(&self) -> Result<Authority> {
        let key = KeyPair::from_pem(&self.x509_key)?;
        let certificate = CertificateDer::from_pem_slice(self.x509_certificate.as_bytes())
            .map_err(|e| anyhow!("{e}"))?;
        let spki = key.subject_public_key_info();
        let digest = ring::digest::digest(&ring::digest::SHA256, &spki);
        Ok(Authority {
            ssh: PrivateKey::from_openssh(&self.ssh_key)?,
            x509: Issuer::from_ca_cert_der(&certificate, key)?,
            certificate,
            pin: CaPin(digest.as_ref().try_into()?),
            not_before: UNIX_EPOCH + NOT_BEFORE,
        })
    }
}

async fn get_or_create<T>(
    store: &Arc<dyn Backend>,
    path: &[&str],
    make: impl FnOnce() -> Result<T>,
) -> Result<T>
where
    T: Serialize + for<'de> Deserialize<'de>,
{
    let key = Key::new(path)?;
    if let Some(item) = store.get(&key).await? {
        return serde_json::from_slice(&item.value).with_context(|| format!("{key} is damaged"));
    }
    let made = make()?;
    match store.create(&key, serde_json::to_vec(&made)?, None).await {
        Ok(_) => Ok(made),
        // Another process of this cluster was first; its word counts.
        Err(StoreError::Exists { .. }) => {
            let item = store
                .get(&key)
                .await?
                .with_context(|| format!("{key} vanished"))?;
            Ok(serde_json::from_slice(&item.value)?)
        }
        Err(e) => Err(e.into()),
    }
}
