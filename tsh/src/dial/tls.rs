//! TLS towards the proxy's internal protocol, for QUIC and for TCP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use protocol::{ALPN_CLIENT, SERVER_NAME};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{refusal, tcp};
use crate::address::ProxyAddr;
use crate::error::{Exit, fail};
use crate::login::LoggedIn;
use crate::trust::crypto;

/// A handshake takes one round trip; this allows for a very bad line.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// Shows the user's certificate, and trusts the cluster's host CA alone.
pub(super) fn config(user: &LoggedIn) -> Result<ClientConfig> {
    let identity = &user.identity;
    let mut config = ClientConfig::builder_with_provider(crypto::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(user.trusted.roots()?)
        .with_client_auth_cert(identity.chain()?, identity.tls_key()?)
        .context("The stored certificate cannot be used; run `tsh login`")?;
    config.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Connects over TCP, to the first address that answers.
pub(super) async fn connect(
    proxy: &ProxyAddr,
    addresses: &[SocketAddr],
    config: ClientConfig,
) -> Result<(TlsStream<TcpStream>, SocketAddr)> {
    let (socket, address) = tcp::connect_to(proxy, addresses).await?;
    let name = ServerName::try_from(SERVER_NAME)?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, socket);
    match timeout(HANDSHAKE_DEADLINE, connecting).await {
        Ok(Ok(stream)) => Ok((stream, address)),
        Ok(Err(error)) => Err(refusal::of_tls(error, proxy)),
        Err(_) => Err(fail(
            Exit::Unreachable,
            format!("{proxy} takes the connection but does not answer. Try again."),
        )),
    }
}
