//! The CAs of the cluster, and what they sign.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose,
    SubjectPublicKeyInfo,
};
use ring::digest::{SHA256, digest};
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::ssh_key::public::{Ed25519PublicKey, KeyData};
use russh::keys::{Certificate, PrivateKey, PublicKey};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use time::OffsetDateTime;

/// What precedes the 32 bytes of an Ed25519 public key in a `SubjectPublicKeyInfo` (RFC 8410).
const SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// A CA in both its forms.
pub(crate) struct Ca {
    pub x509: CertifiedIssuer<'static, KeyPair>,
    pub(crate) ssh: PrivateKey,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = params(&[], Duration::from_secs(3600));
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

    pub(crate) fn pin(&self) -> String {
        let parsed = ParsedCertificate::try_from(self.x509.der()).unwrap();
        let hash = digest(&SHA256, &parsed.subject_public_key_info());
        let hex: String = hash
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("sha256:{hex}")
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.x509.der().clone()).unwrap();
        roots
    }

    pub(crate) fn ssh_line(&self) -> String {
        self.ssh.public_key().to_openssh().unwrap()
    }

    /// Chain and key of a server.
    pub(crate) fn server(
        &self,
        names: &[&str],
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let leaf = params(names, Duration::from_secs(3600))
            .signed_by(&key, &self.x509)
            .unwrap();
        let chain = vec![leaf.der().clone(), self.x509.der().clone()];
        (chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    /// X.509 certificate for a client's raw public key.
    pub(crate) fn client(&self, public: &[u8], ttl: Duration) -> String {
        let spki = SubjectPublicKeyInfo::from_der(&[&SPKI[..], public].concat()).unwrap();
        params(&[], ttl).signed_by(&spki, &self.x509).unwrap().pem()
    }

    /// SSH certificate for a client's raw public key.
    pub(crate) fn user(&self, public: &[u8], logins: &[String], ttl: Duration) -> String {
        let key = KeyData::Ed25519(Ed25519PublicKey(public.try_into().unwrap()));
        let logins: Vec<_> = logins.iter().map(String::as_str).collect();
        self.certify(key, CertType::User, &logins, ttl)
            .to_openssh()
            .unwrap()
    }

    /// SSH certificate of a host.
    pub(crate) fn host(&self, key: &PublicKey, names: &[&str]) -> Certificate {
        let ttl = Duration::from_secs(3600);
        self.certify(key.key_data().clone(), CertType::Host, names, ttl)
    }

    fn certify(&self, key: KeyData, kind: CertType, names: &[&str], ttl: Duration) -> Certificate {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        let (from, to) = (now.as_secs() - 60, (now + ttl).as_secs());
        let mut builder = Builder::new([7; 32], key, from, to).unwrap();
        builder.cert_type(kind).unwrap();
        for name in names {
            builder.valid_principal(*name).unwrap();
        }
        for extension in ["permit-pty", "permit-port-forwarding"] {
            if kind == CertType::User {
                builder.extension(extension, "").unwrap();
            }
        }
        builder.sign(&self.ssh).unwrap()
    }
}

pub(crate) fn ssh_key(seed: &[u8]) -> PrivateKey {
    let seed = digest(&SHA256, seed);
    let pair = Ed25519Keypair::from_seed(seed.as_ref().try_into().unwrap());
    PrivateKey::new(KeypairData::from(pair), "").unwrap()
}

fn params(names: &[&str], ttl: Duration) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::from_secs(60);
    params.not_after = now + ttl;
    params
}
