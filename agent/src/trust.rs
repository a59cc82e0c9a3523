//! Whom the agent believes, and how it shows who it is.
//!
//! Before the join, the agent knows one thing about its cluster: the pin, a hash of the host CA's
//! public key ([`verifier`]). After it, the host CA's certificate is the only root. The cluster's
//! internal certificate is made out to one fixed name, so that the address may change. Times are
//! checked by the clock rule, never by the system clock alone.

pub(crate) mod certificate;
pub(crate) mod ed25519;
mod provider;
mod verifier;
mod x25519;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use protocol::identity::CaPin;
use protocol::{ALPN_AGENT, ALPN_JOIN};
use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;

use crate::clock::Moment;
use crate::link::ssh::Identity;
use crate::state::key::DeviceKey;
use crate::state::membership::Membership;
use verifier::Verifier;

/// TLS for a device that knows nothing but the pin.
pub(crate) fn by_pin(pin: CaPin, now: Duration) -> anyhow::Result<ClientConfig> {
    let verifier = Arc::new(Verifier::Pin(pin));
    let builder = builder(now)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    Ok(finish(builder.with_no_client_auth(), ALPN_JOIN))
}

/// TLS for a node whose certificate is of no use any more.
pub(crate) fn by_ca(membership: &Membership, now: Duration) -> anyhow::Result<ClientConfig> {
    let builder = builder(now)?
        .dangerous()
        .with_custom_certificate_verifier(host_ca_only(&membership.trust.host_ca_x509)?);
    Ok(finish(builder.with_no_client_auth(), ALPN_JOIN))
}

/// TLS for a node's link.
pub(crate) fn for_link(
    membership: &Membership,
    key: &DeviceKey,
    now: Duration,
) -> anyhow::Result<ClientConfig> {
    let chain = vec![CertificateDer::from(membership.certificates.x509.clone())];
    let certified = CertifiedKey::new(chain, key.tls());
    certified
        .keys_match()
        .context("the X.509 certificate is not for this device's key")?;
    let builder = builder(now)?
        .dangerous()
        .with_custom_certificate_verifier(host_ca_only(&membership.trust.host_ca_x509)?);
    let config = builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    Ok(finish(config, ALPN_AGENT))
}

/// What a node's link shows and believes in SSH.
pub(crate) fn for_ssh(
    membership: &Membership,
    key: &DeviceKey,
    now: Duration,
) -> anyhow::Result<Identity> {
    Ok(Identity {
        name: membership.node_id.to_string(),
        key: Arc::new(key.ssh()),
        certificate: certificate::ssh(&membership.certificates)?,
        host_ca: certificate::ssh_key(&membership.trust.host_ca_ssh),
        now,
    })
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn builder(now: Duration) -> anyhow::Result<Builder> {
    let provider = Arc::new(provider::provider(crate::sys::has_aes()));
    ClientConfig::builder_with_details(provider, Arc::new(Moment(now)))
        .with_protocol_versions(&[&TLS13])
        .context("TLS 1.3 is not available")
}

fn finish(mut config: ClientConfig, alpn: &[u8]) -> ClientConfig {
    config.alpn_protocols = vec![alpn.to_vec()];
    // Each link proves its certificate anew: a resumed session would outlive a lock.
    config.resumption = rustls::client::Resumption::disabled();
    config
}

fn host_ca_only(host_ca: &[u8]) -> anyhow::Result<Arc<dyn ServerCertVerifier>> {
    let verifier = Verifier::of_ca(host_ca).context("the host CA's certificate")?;
    Ok(Arc::new(verifier))
}
