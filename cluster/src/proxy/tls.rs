//! Certificates presented and accepted on the one port.
//!
//! Internal ALPNs always present a certificate of the host CA, so that agents need no web roots.
//! Web ALPNs present the operator's public certificate, if there is one. Client certificates of
//! either CA are verified if given; who must give one is decided by ALPN, after the handshake.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use protocol::{ALPN_AGENT, ALPN_AGENT_SSH, ALPN_CLIENT, ALPN_HTTP, ALPN_JOIN};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, RootCertStore, ServerConfig};

use crate::auth::ca::Authorities;

/// Presents the internal certificate, or the public one to browsers.
#[derive(Debug)]
struct ByAlpn {
    internal: Arc<CertifiedKey>,
    public: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByAlpn {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let internal = hello.alpn().is_some_and(|mut offered| {
            offered.any(|alpn| !ALPN_HTTP.contains(&alpn) && alpn.starts_with(b"tether-"))
        });
        let chosen = if internal {
            &self.internal
        } else {
            self.public.as_ref().unwrap_or(&self.internal)
        };
        Some(Arc::clone(chosen))
    }
}

/// Both configurations of one cluster.
pub struct Tls {
    resolver: Arc<ByAlpn>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl Tls {
    /// Makes the cluster's certificate for `host`; `public` names certificate chain and key files.
    ///
    /// # Errors
    /// If a file cannot be read or signing fails.
    pub fn new(
        authorities: &Authorities,
        host: &str,
        public: Option<(&Path, &Path)>,
    ) -> Result<Self> {
        let provider = Arc::new(provider());
        let (leaf, key) = authorities.issue_cluster(host)?;
        let chain = vec![leaf, authorities.host.certificate.clone()];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let internal = Arc::new(CertifiedKey::from_der(chain, key, &provider)?);
        let public = public
            .map(|(chain, key)| read_public(chain, key, &provider))
            .transpose()?;
        let mut roots = RootCertStore::empty();
        roots.add(authorities.host.certificate.clone())?;
        roots.add(authorities.user.certificate.clone())?;
        let resolver = Arc::new(ByAlpn { internal, public });
        Ok(Self {
            resolver,
            roots: Arc::new(roots),
            provider,
        })
    }

    /// For the UDP port.
    ///
    /// # Errors
    /// If rustls finds it inconsistent.
    pub fn quic(&self) -> Result<ServerConfig> {
        self.config(&[ALPN_AGENT, ALPN_CLIENT, ALPN_JOIN])
    }

    /// For the TCP port.
    ///
    /// # Errors
    /// If rustls finds it inconsistent.
    pub fn tcp(&self) -> Result<ServerConfig> {
        let [h2, http1] = ALPN_HTTP;
        self.config(&[ALPN_CLIENT, ALPN_AGENT_SSH, ALPN_JOIN, h2, http1])
    }

    fn config(&self, alpn: &[&[u8]]) -> Result<ServerConfig> {
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::clone(&self.roots),
            Arc::clone(&self.provider),
        )
        .allow_unauthenticated()
        .build()?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&self.resolver) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = alpn.iter().map(|a| a.to_vec()).collect();
        // Sessions are not resumed: a link lives for days, and tickets cost each of 10,000 agents
        // a packet and this process a kilobyte.
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// ring, with the shorter AES first: the client's order decides between AES and ChaCha20.
fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|s| s.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}

fn read_public(chain: &Path, key: &Path, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>> {
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("{}: not a PEM certificate chain", chain.display()))?;
    let private = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("{}: not a PEM private key", key.display()))?;
    let pair = CertifiedKey::from_der(certificates, private, provider)
        .with_context(|| format!("{} and {} do not fit", chain.display(), key.display()))?;
    Ok(Arc::new(pair))
}
