//! For tests: the CAs of a cluster, and what they sign.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{Certificate, PrivateKey, PublicKey};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::profile::identity::NewKey;
use crate::profile::{Identity, Profile, Session, Trusted};

/// A moment within the validity of all that is signed here (2026-01-01), in seconds.
pub(crate) const NOW: u64 = 1_767_225_600;
const HOUR: u64 = 3_600;

/// The same moment.
pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

/// A cluster's CAs. Each instance has keys of its own.
pub(crate) struct Cas {
    x509: CertifiedIssuer<'static, KeyPair>,
    ssh: PrivateKey,
}

impl Cas {
    pub(crate) fn new() -> Self {
        let mut params = params(&[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().unwrap();
        Self {
            ssh: ssh_key(key.public_key_raw()),
            x509: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    /// The chain of a server with these names.
    pub(crate) fn server_chain(&self, names: &[&str]) -> Vec<CertificateDer<'static>> {
        let key = KeyPair::generate().unwrap();
        let leaf = params(names).signed_by(&key, &self.x509).unwrap();
        vec![leaf.der().clone(), self.x509.der().clone()]
    }

    pub(crate) fn ssh_public(&self) -> PublicKey {
        self.ssh.public_key().clone()
    }

    pub(crate) fn trusted(&self) -> Trusted {
        Trusted::new(&self.x509.pem(), &self.ssh_public().to_openssh().unwrap()).unwrap()
    }

    pub(crate) fn host_certificate(&self, principals: &[&str]) -> Certificate {
        let key = ssh_key(principals.concat().as_bytes());
        self.certify(key.public_key(), CertType::Host, principals)
    }

    pub(crate) fn identity(&self, logins: &[&str]) -> Identity {
        let key = NewKey::generate("ann").unwrap();
        let line = format!("ssh-ed25519 {}", blob(&key));
        let certificate = self.certify(&line.parse().unwrap(), CertType::User, logins);
        let ssh = certificate.to_openssh().unwrap();
        let identity = key.certified(&ssh, &self.x509.pem()).unwrap();
        let tls_key = KeyPair::try_from(&identity.tls_key().unwrap()).unwrap();
        let x509 = params(&[]).signed_by(&tls_key, &self.x509).unwrap();
        identity.with_x509(x509.pem())
    }

    fn certify(&self, key: &PublicKey, kind: CertType, principals: &[&str]) -> Certificate {
        let times = (NOW - HOUR, NOW + HOUR);
        let mut builder = Builder::new([7; 32], key.key_data().clone(), times.0, times.1).unwrap();
        builder.cert_type(kind).unwrap();
        for principal in principals {
            builder.valid_principal(*principal).unwrap();
        }
        builder.sign(&self.ssh).unwrap()
    }
}

/// A profile whose certificates expire at `expires`.
pub(crate) fn profile(expires: OffsetDateTime) -> Profile {
    Profile {
        proxy: "tether.example.com:443".parse().unwrap(),
        cluster: "lab".into(),
        user: "ann".into(),
        trust_serial: 1,
        session: Some(Session {
            roles: vec!["access".into()],
            logins: vec!["root".into(), "ann".into()],
            expires,
        }),
    }
}

fn blob(key: &NewKey) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let raw = STANDARD.decode(key.public_base64().unwrap()).unwrap();
    let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
    blob.extend(raw);
    STANDARD.encode(blob)
}

fn ssh_key(seed: &[u8]) -> PrivateKey {
    let seed = ring::digest::digest(&ring::digest::SHA256, seed);
    let pair = Ed25519Keypair::from_seed(seed.as_ref().try_into().unwrap());
    PrivateKey::new(KeypairData::from(pair), "").unwrap()
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = now() - Duration::from_secs(HOUR);
    params.not_after = now() + Duration::from_secs(HOUR);
    params
}
