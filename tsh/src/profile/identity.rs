//! The user's key and certificates: one Ed25519 key, made anew at each login, in the forms that
//! SSH and TLS want.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{Certificate, PrivateKey};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::{Entry, files};

/// The files of an identity.
pub(crate) const FILES: [&str; 5] = ["key", "key.pub", "key-cert.pub", "x509.pem", "x509.key"];

/// What precedes the 32 secret bytes of an Ed25519 key in PKCS #8 (RFC 8410 §7).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A key without certificates yet. `Debug` of the key shows its public half only.
#[derive(Debug)]
pub(crate) struct NewKey(PrivateKey);

impl NewKey {
    /// Makes a key; `user` becomes its comment.
    pub(crate) fn generate(user: &str) -> Result<Self> {
        let mut seed = Zeroizing::new([0; 32]);
        if SystemRandom::new().fill(seed.as_mut()).is_err() {
            bail!("The system gives no random numbers");
        }
        let pair = KeypairData::from(Ed25519Keypair::from_seed(&seed));
        Ok(Self(PrivateKey::new(pair, format!("{user} (tsh)"))?))
    }

    /// The public key's 32 bytes, in Base64, as the cluster wants it.
    pub(crate) fn public_base64(&self) -> Result<String> {
        let key = self.0.public_key().key_data().ed25519();
        Ok(STANDARD.encode(key.context("not an Ed25519 key")?.0))
    }

    /// Joins the key with what the cluster has signed for it.
    pub(crate) fn certified(self, ssh: &str, x509: &str) -> Result<Identity> {
        Identity::new(self.0, ssh, x509)
    }
}

/// A key with its certificates.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The key, for SSH.
    pub(crate) key: Arc<PrivateKey>,
    /// The SSH certificate.
    pub(crate) certificate: Certificate,
    /// The X.509 certificate, in PEM.
    x509: String,
}

impl Identity {
    fn new(key: PrivateKey, ssh: &str, x509: &str) -> Result<Self> {
        let certificate = Certificate::from_openssh(ssh.trim()).context("SSH certificate")?;
        if certificate.public_key() != key.public_key().key_data() {
            bail!("the SSH certificate belongs to another key");
        }
        let identity = Self {
            key: Arc::new(key),
            certificate,
            x509: x509.to_owned(),
        };
        identity.chain()?;
        Ok(identity)
    }

    /// The same with another X.509 certificate.
    #[cfg(test)]
    pub(crate) fn with_x509(self, x509: String) -> Self {
        Self { x509, ..self }
    }

    /// The X.509 certificates, the user's first.
    pub(crate) fn chain(&self) -> Result<Vec<CertificateDer<'static>>> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(self.x509.as_bytes())
            .collect::<Result<_, _>>()
            .context("X.509 certificate")?;
        if chain.is_empty() {
            bail!("X.509 certificate: none found");
        }
        Ok(chain)
    }

    /// The key, for TLS.
    pub(crate) fn tls_key(&self) -> Result<PrivateKeyDer<'static>> {
        let der = PrivateKeyDer::try_from(self.pkcs8()?.to_vec());
        der.map_err(|wrong| anyhow::anyhow!("private key: {wrong}"))
    }

    fn pkcs8(&self) -> Result<Zeroizing<Vec<u8>>> {
        let pair = self.key.key_data().ed25519();
        let secret = &pair.context("not an Ed25519 key")?.private;
        let mut der = Zeroizing::new(Vec::with_capacity(PKCS8_PREFIX.len() + 32));
        der.extend_from_slice(&PKCS8_PREFIX);
        der.extend_from_slice(secret.as_ref());
        Ok(der)
    }

    pub(super) fn load(entry: &Entry) -> Result<Self> {
        let read = |name: &str| -> Result<Zeroizing<Vec<u8>>> {
            let bytes = files::read(&entry.path(name))?;
            bytes
                .map(Zeroizing::new)
                .with_context(|| format!("no {name}"))
        };
        let key = PrivateKey::from_openssh(read("key")?.as_slice()).context("key")?;
        let ssh = read("key-cert.pub")?;
        let x509 = read("x509.pem")?;
        Self::new(key, std::str::from_utf8(&ssh)?, std::str::from_utf8(&x509)?)
    }

    pub(super) fn store(&self, entry: &Entry) -> Result<()> {
        let key = self.key.to_openssh(LineEnding::LF)?;
        files::write(&entry.path("key"), key.as_bytes())?;
        let public = format!("{}\n", self.key.public_key().to_openssh()?);
        files::write(&entry.path("key.pub"), public.as_bytes())?;
        let certificate = format!("{}\n", self.certificate.to_openssh()?);
        files::write(&entry.path("key-cert.pub"), certificate.as_bytes())?;
        files::write(&entry.path("x509.pem"), self.x509.as_bytes())?;
        files::write(&entry.path("x509.key"), self.pkcs8_pem()?.as_bytes())
    }

    fn pkcs8_pem(&self) -> Result<Zeroizing<String>> {
        let body = Zeroizing::new(STANDARD.encode(self.pkcs8()?.as_slice()));
        Ok(Zeroizing::new(format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            body.as_str()
        )))
    }
}
