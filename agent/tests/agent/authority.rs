//! A cluster's certificate authorities, and what they issue.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::message::Blob;
use protocol::message::join::{Certificates, Trust};
use protocol::{ALPN_AGENT, ALPN_JOIN, SERVER_NAME};
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ED25519, PublicKeyData, SignatureAlgorithm,
};
use ring::digest::{SHA256, digest};
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::public::{Ed25519PublicKey, KeyData};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;

const HOST_CA_SEED: [u8; 32] = [1; 32];
const USER_CA_SEED: [u8; 32] = [2; 32];

/// The CAs, and what they issue.
pub(crate) struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// Seconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn pin(&self) -> String {
        let spki = self.issuer.key().subject_public_key_info();
        let pin = digest(&SHA256, &spki);
        pin.as_ref()
            .iter()
            .fold("sha256:".to_owned(), |text, byte| {
                format!("{text}{byte:02x}")
            })
    }

    /// TLS as a cluster's port has it.
    pub(crate) fn server(&self) -> rustls::ServerConfig {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let params = CertificateParams::new([SERVER_NAME.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let agents = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(agents)
            .with_single_cert(
                vec![leaf.der().clone(), self.certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![ALPN_AGENT.to_vec(), ALPN_JOIN.to_vec()];
        config
    }

    /// Certificates for a key.
    pub(crate) fn issue(&self, public_key: [u8; 32]) -> Issued {
        let (from, to) = (now() - 60, now() + 7 * 86_400);
        let mut params = CertificateParams::new([]).unwrap();
        params.not_before = UNIX_EPOCH.into();
        params.not_before += Duration::from_secs(from);
        params.not_after = UNIX_EPOCH.into();
        params.not_after += Duration::from_secs(to);
        let x509 = params
            .signed_by(&Raw(public_key), &self.issuer)
            .unwrap()
            .der()
            .to_vec();
        let key = KeyData::Ed25519(Ed25519PublicKey(public_key));
        let mut ssh = Builder::new([7; 16], key, from, to).unwrap();
        ssh.cert_type(CertType::Host)
            .unwrap()
            .valid_principal("gateway-1")
            .unwrap();
        let ca = russh::keys::PrivateKey::from(Ed25519Keypair::from_seed(&HOST_CA_SEED));
        let ssh = ssh.sign(&ca).unwrap().to_bytes().unwrap();
        Issued {
            from,
            to,
            x509,
            ssh,
        }
    }

    pub(crate) fn trust(&self, serial: u32) -> Trust<'_> {
        let public = |seed| Ed25519Keypair::from_seed(seed).public.0;
        Trust {
            serial,
            host_ca_x509: Blob::new(self.certificate.der()).unwrap(),
            host_ca_ssh: public(&HOST_CA_SEED),
            user_ca_ssh: public(&USER_CA_SEED),
        }
    }
}

pub(crate) struct Issued {
    from: u64,
    to: u64,
    x509: Vec<u8>,
    ssh: Vec<u8>,
}

impl Issued {
    pub(crate) fn certificates(&self) -> Certificates<'_> {
        Certificates {
            generation: 1,
            not_before_s: self.from,
            not_after_s: self.to,
            ssh: Blob::new(&self.ssh).unwrap(),
            x509: Blob::new(&self.x509).unwrap(),
        }
    }
}

struct Raw([u8; 32]);

impl PublicKeyData for Raw {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}
