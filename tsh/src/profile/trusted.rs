//! The cluster's host CA, as learnt at login: whom to trust at this address from then on.

use anyhow::{Context, Result, bail};
use protocol::identity::CaPin;
use russh::keys::PublicKey;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{Entry, files};
use crate::trust::pin;

/// The host CA in both its forms. While a CA is being replaced there may be more than one of each.
#[derive(Debug, Clone)]
pub(crate) struct Trusted {
    x509: String,
    cas: Vec<CertificateDer<'static>>,
    ssh: Vec<PublicKey>,
}

impl Trusted {
    /// Reads the CA certificates (PEM) and SSH public keys (one a line).
    pub(crate) fn new(x509: &str, ssh: &str) -> Result<Self> {
        let cas: Vec<_> = CertificateDer::pem_slice_iter(x509.as_bytes())
            .collect::<Result<_, _>>()
            .context("host CA certificate")?;
        let keys: Vec<_> = ssh
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(PublicKey::from_openssh)
            .collect::<Result<_, _>>()
            .context("host CA key")?;
        if cas.is_empty() || keys.is_empty() {
            bail!("the host CA is missing");
        }
        Ok(Self {
            x509: x509.to_owned(),
            cas,
            ssh: keys,
        })
    }

    /// The SSH keys that sign host certificates.
    pub(crate) fn ssh(&self) -> &[PublicKey] {
        &self.ssh
    }

    /// The pins of the CA certificates.
    pub(crate) fn pins(&self) -> Result<Vec<CaPin>> {
        self.cas.iter().map(pin::of).collect()
    }

    /// The CA certificates as roots for TLS.
    pub(crate) fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for ca in &self.cas {
            roots.add(ca.clone()).context("host CA certificate")?;
        }
        Ok(roots)
    }

    pub(super) fn load(entry: &Entry) -> Result<Option<Self>> {
        let path = entry.path("ca.pem");
        let (Some(x509), Some(hosts)) = (
            files::read(&path)?,
            files::read(&entry.path("known_hosts"))?,
        ) else {
            return Ok(None);
        };
        let keys = keys_of_known_hosts(std::str::from_utf8(&hosts)?);
        Self::new(std::str::from_utf8(&x509)?, &keys)
            .map(Some)
            .with_context(|| format!("The CA stored beside {} is damaged", path.display()))
    }

    pub(super) fn store(&self, entry: &Entry, cluster: &str) -> Result<()> {
        files::write(&entry.path("ca.pem"), self.x509.as_bytes())?;
        files::write(
            &entry.path("known_hosts"),
            self.known_hosts(cluster)?.as_bytes(),
        )
    }

    /// OpenSSH's form: any host may show a certificate of this CA. The file is named in no
    /// configuration but for this cluster's hosts.
    fn known_hosts(&self, cluster: &str) -> Result<String> {
        let mut text = String::new();
        for key in &self.ssh {
            let mut key = key.clone();
            key.set_comment(format!("host CA of {cluster}"));
            text.push_str(&format!("@cert-authority * {}\n", key.to_openssh()?));
        }
        Ok(text)
    }
}

fn keys_of_known_hosts(text: &str) -> String {
    let keys = text.lines().filter_map(|line| {
        let (_hosts, key) = line.strip_prefix("@cert-authority ")?.split_once(' ')?;
        Some(key)
    });
    keys.collect::<Vec<_>>().join("\n")
}
