//! Names to addresses, and TCP connections that notice when they are dead.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::address::ProxyAddr;
use crate::error::{Exit, fail};
use crate::output;

/// For one address. A SYN is sent again after 1 and 3 s, so three may be lost.
const CONNECT_DEADLINE: Duration = Duration::from_secs(7);

/// The addresses of a proxy; never none.
pub(crate) async fn resolve(proxy: &ProxyAddr) -> Result<Vec<SocketAddr>> {
    let unknown = |why: &str| {
        let sentence = format!(
            "Cannot find the address of {} ({why}). Check the name, and that the network is up.",
            proxy.host
        );
        fail(Exit::Unreachable, sentence)
    };
    let found = lookup_host((proxy.host.as_str(), proxy.port)).await;
    let addresses: Vec<_> = found
        .map_err(|error| unknown(&error.to_string()))?
        .collect();
    if addresses.is_empty() {
        return Err(unknown("it has none"));
    }
    Ok(addresses)
}

/// Connects to the first address of a proxy that answers.
pub(crate) async fn connect(proxy: &ProxyAddr) -> Result<TcpStream> {
    let addresses = resolve(proxy).await?;
    Ok(connect_to(proxy, &addresses).await?.0)
}

/// Connects to the first of these addresses that answers.
pub(super) async fn connect_to(
    proxy: &ProxyAddr,
    addresses: &[SocketAddr],
) -> Result<(TcpStream, SocketAddr)> {
    let mut last = None;
    for &address in addresses {
        match timeout(CONNECT_DEADLINE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                tune(&stream);
                return Ok((stream, address));
            }
            Ok(Err(error)) => last = Some(error.to_string()),
            Err(_) => last = Some("no answer".to_owned()),
        }
        output::debug(|| format!("{address}: {}", last.as_deref().unwrap_or_default()));
    }
    let why = last.unwrap_or_default();
    Err(fail(
        Exit::Unreachable,
        format!(
            "Cannot reach {proxy} ({why}). Check the address, and that the network lets it through."
        ),
    ))
}

/// Without these a connection still works, only worse.
fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = link_ssh::tcp::keep_alive(stream);
}
