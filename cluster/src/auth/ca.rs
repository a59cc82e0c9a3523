//! The two certificate authorities.
//!
//! The host CA vouches for nodes and for the cluster itself, the user CA for people. Each has an
//! SSH key (Ed25519) and an X.509 key (ECDSA P-256), made at the cluster's first start and kept in
//! the store. A subject has one Ed25519 key, and gets both forms of certificate for it from one
//! request.
//!
//! What is signed where: only [`Authorities`] holds private keys, and it issues a node's identity
//! by the host CA alone and a user's by the user CA alone; [`peer::identify`] relies on that.

pub mod peer;
pub mod record;
pub mod serial;

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use protocol::identity::{CaPin, NodeId, Subject, URI_SCHEME};
use protocol::{PROXY_KEY_ID, SERVER_NAME};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, SanType, SubjectPublicKeyInfo,
};
use russh::keys::PrivateKey;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::public::{Ed25519PublicKey, KeyData};
use russh::keys::ssh_key::{Certificate, PublicKey};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use record::Authority;

/// Life of a host certificate; the agent renews at half of it.
pub const HOST_TTL: Duration = Duration::from_secs(7 * 86_400);
/// How far a certificate reaches back, for verifiers whose clock is behind.
const BACKDATE: Duration = Duration::from_secs(3600);
/// Life of the cluster's own certificate, as long as a CA's: a device whose clock is decades ahead
/// must accept it. Its key never leaves the process and is made anew at every start, so a long life
/// risks nothing that the CA key beside it does not.
const CLUSTER_TTL: Duration = record::TTL;
/// DER of an Ed25519 `SubjectPublicKeyInfo` up to the key (RFC 8410 §4).
const ED25519_SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0,
];

/// Both authorities of one cluster.
pub struct Authorities {
    /// The cluster's name.
    pub cluster: String,
    /// Vouches for nodes and the cluster.
    pub host: Authority,
    /// Vouches for people.
    pub user: Authority,
}

/// One subject's certificates.
pub struct Issued {
    /// OpenSSH form.
    pub ssh: Certificate,
    /// X.509 form.
    pub x509: CertificateDer<'static>,
    /// Start of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
}

/// Whom a user's certificates name.
pub struct UserSubject<'a> {
    /// The Tether user.
    pub name: &'a str,
    /// Which of those who have had this name.
    pub id: u64,
    /// Logins; must not be empty, since OpenSSH takes an empty list for "all".
    pub principals: &'a [String],
    /// Names of the user's roles.
    pub roles: &'a [String],
    /// Raw Ed25519 public key.
    pub public_key: [u8; 32],
    /// How long the certificates are valid.
    pub ttl: Duration,
}

impl Authorities {
    /// Certificates for a node.
    ///
    /// # Errors
    /// If the key is not a point on the curve, or signing fails.
    pub fn issue_node(
        &self,
        id: NodeId,
        name: &str,
        public_key: [u8; 32],
        generation: u32,
    ) -> Result<Issued> {
        let now = SystemTime::now();
        let (not_before, not_after) = (now - BACKDATE, now + HOST_TTL);
        let principals = [
            name.to_owned(),
            format!("{name}.{}", self.cluster),
            id.to_string(),
        ];
        let mut builder = ssh_builder(public_key, seconds(not_before)?, seconds(not_after)?)?;
        builder.cert_type(CertType::Host)?.key_id(id.to_string())?;
        builder.serial(u64::from(generation))?;
        for principal in principals {
            builder.valid_principal(principal)?;
        }
        let ssh = builder.sign(&self.host.ssh)?;
        let mut params = self.params(name, Subject::Node(id), not_before, not_after)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(serial::of_node(generation).into());
        let x509 = self.host.sign(&params, public_key)?;
        Ok(Issued {
            ssh,
            x509,
            not_before,
            not_after,
        })
    }

    /// Certificates for a user.
    ///
    /// # Errors
    /// If there are no principals, the key is not a point on the curve, or signing fails.
    pub fn issue_user(&self, subject: &UserSubject<'_>) -> Result<Issued> {
        anyhow::ensure!(
            !subject.principals.is_empty(),
            "refusing to issue for every login"
        );
        let now = SystemTime::now();
        let (not_before, not_after) = (now - BACKDATE, now + subject.ttl);
        // No start of validity: a device whose clock is behind would refuse its operator, and the
        // start guards against nothing, as the CA does not issue for the future.
        let mut builder = ssh_builder(subject.public_key, 0, seconds(not_after)?)?;
        builder.cert_type(CertType::User)?.key_id(subject.name)?;
        builder.serial(subject.id)?;
        for principal in subject.principals {
            builder.valid_principal(principal.as_str())?;
        }
        for permit in [
            "permit-agent-forwarding",
            "permit-port-forwarding",
            "permit-pty",
        ] {
            builder.extension(permit, "")?;
        }
        builder.extension("roles@tether", subject.roles.join(","))?;
        let ssh = builder.sign(&self.user.ssh)?;
        let user = Subject::User(subject.name);
        let mut params = self.params(subject.name, user, not_before, not_after)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(serial::of_user(subject.id).into());
        let x509 = self.user.sign(&params, subject.public_key)?;
        Ok(Issued {
            ssh,
            x509,
            not_before,
            not_after,
        })
    }

    /// The cluster's own X.509 certificate, for every internal ALPN, with its key.
    ///
    /// # Errors
    /// If signing fails.
    pub fn issue_cluster(&self, host: &str) -> Result<(CertificateDer<'static>, KeyPair)> {
        let key = KeyPair::generate()?;
        // Far in the past: a device in 1970 lives at its build time, and must accept this.
        let not_before = self.host.not_before;
        let not_after = SystemTime::now() + CLUSTER_TTL;
        let mut params = self.params(&self.cluster, Subject::Cluster, not_before, not_after)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params
            .subject_alt_names
            .push(SanType::DnsName(SERVER_NAME.try_into()?));
        params.subject_alt_names.push(match host.parse::<IpAddr>() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) => SanType::DnsName(host.try_into()?),
        });
        let certificate = params.signed_by(&key, &self.host.x509)?;
        Ok((certificate.der().clone(), key))
    }

    /// A host certificate for the proxy's own SSH server.
    ///
    /// # Errors
    /// If signing fails.
    pub fn issue_proxy_ssh(&self, key: &PrivateKey, host: &str) -> Result<Certificate> {
        let not_after = seconds(SystemTime::now() + CLUSTER_TTL)?;
        let mut builder = Builder::new_with_random_nonce(
            &mut rand::rng(),
            key.public_key().clone(),
            seconds(self.host.not_before)?,
            not_after,
        )?;
        builder.cert_type(CertType::Host)?.key_id(PROXY_KEY_ID)?;
        builder
            .valid_principal(host)?
            .valid_principal(self.cluster.as_str())?;
        Ok(builder.sign(&self.host.ssh)?)
    }

    /// What devices and clients pin.
    #[must_use]
    pub fn pin(&self) -> CaPin {
        self.host.pin
    }

    fn params(
        &self,
        common_name: &str,
        subject: Subject<'_>,
        not_before: SystemTime,
        not_after: SystemTime,
    ) -> Result<CertificateParams> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let uri = format!("{URI_SCHEME}{}/{subject}", self.cluster);
        params.subject_alt_names.push(SanType::URI(uri.try_into()?));
        params.not_before = OffsetDateTime::from(not_before);
        params.not_after = OffsetDateTime::from(not_after);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        Ok(params)
    }
}

impl Authority {
    fn sign(
        &self,
        params: &CertificateParams,
        public_key: [u8; 32],
    ) -> Result<CertificateDer<'static>> {
        let spki = SubjectPublicKeyInfo::from_der(&[&ED25519_SPKI[..], &public_key].concat())?;
        Ok(params.signed_by(&spki, &self.x509)?.der().clone())
    }
}

/// The SSH form of a raw Ed25519 key.
#[must_use]
pub fn ssh_key(public_key: [u8; 32]) -> PublicKey {
    PublicKey::new(KeyData::Ed25519(Ed25519PublicKey(public_key)), "")
}

fn ssh_builder(public_key: [u8; 32], valid_after: u64, valid_before: u64) -> Result<Builder> {
    // Decompressing shows whether the bytes are a key at all.
    Ok(Builder::new_with_random_nonce(
        &mut rand::rng(),
        ssh_key(public_key),
        valid_after,
        valid_before,
    )?)
}

fn seconds(time: SystemTime) -> Result<u64> {
    Ok(time
        .duration_since(UNIX_EPOCH)
        .context("the clock is before 1970")?
        .as_secs())
}
