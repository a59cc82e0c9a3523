//! Finds the cluster and opens a transport to it. The name is resolved for each connection, since
//! a cluster may move while a device sleeps.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use protocol::link::CONNECT_TIMEOUT;
use tokio::time::timeout;

use super::quic::{self, Offload};
use super::transport::{Fault, FaultKind, Transport};
use crate::address::Address;

/// Addresses tried in one attempt. With more, each would get too little time to answer.
const MAX_TRIES: u32 = 3;

/// Where to and how.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) address: Address,
    pub(crate) offload: Offload,
}

impl Route {
    /// To this address, in the usual way.
    pub(crate) fn to(address: Address) -> Self {
        Self {
            address,
            offload: Offload::default(),
        }
    }
}

/// Opens a transport. `failures` turns the list of addresses, so that one that never answers does
/// not hide the others for good.
pub(crate) async fn connect(
    route: &Route,
    tls: &rustls::ClientConfig,
    failures: u32,
) -> Result<Arc<dyn Transport>, Fault> {
    let addresses = in_turn(resolve(&route.address).await?, failures);
    // A little less than the supervisor allows, so that its reason is not a mere time-out.
    let share = (CONNECT_TIMEOUT - Duration::from_secs(1))
        / u32::try_from(addresses.len()).unwrap_or(MAX_TRIES).max(1);
    let mut last = Fault::new(FaultKind::Unreachable, "the cluster's name has no address");
    for to in addresses {
        log::debug!("connecting to {to}");
        match timeout(share, quic::connect(to, tls.clone(), route.offload)).await {
            Ok(Ok(transport)) => return Ok(Arc::new(transport)),
            Ok(Err(fault)) => last = fault,
            Err(_) => last = Fault::new(FaultKind::Unreachable, "no answer over UDP"),
        }
        log::debug!("{to}: {last}");
    }
    Err(last)
}

async fn resolve(address: &Address) -> Result<Vec<SocketAddr>, Fault> {
    if let Ok(ip) = address.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, address.port)]);
    }
    match tokio::net::lookup_host((address.host.as_str(), address.port)).await {
        Ok(found) => Ok(found.collect()),
        Err(error) => {
            let text = format!("the cluster's name cannot be resolved: {error}");
            Err(Fault::new(FaultKind::Unreachable, text))
        }
    }
}

/// The addresses for one attempt, in the resolver's order but starting one later each time.
fn in_turn(mut all: Vec<SocketAddr>, failures: u32) -> Vec<SocketAddr> {
    let most = usize::try_from(MAX_TRIES).unwrap_or(usize::MAX);
    if let Some(turn) = usize::try_from(failures)
        .unwrap_or(0)
        .checked_rem(all.len())
    {
        all.rotate_left(turn);
    }
    all.truncate(most);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(all: &[SocketAddr]) -> Vec<u16> {
        all.iter().map(SocketAddr::port).collect()
    }

    #[test]
    fn every_address_gets_its_turn() {
        let all: Vec<SocketAddr> = (1..=4).map(|port| ([192, 0, 2, 1], port).into()).collect();
        assert_eq!(ports(&in_turn(all.clone(), 0)), [1, 2, 3]);
        assert_eq!(ports(&in_turn(all.clone(), 1)), [2, 3, 4]);
        assert_eq!(ports(&in_turn(all, 7)), [4, 1, 2]);
        assert_eq!(in_turn(Vec::new(), 5), []);
    }

    #[tokio::test]
    async fn literal_addresses_need_no_resolver() {
        for text in ["192.0.2.1:3080", "[2001:db8::1]:3080"] {
            let found = resolve(&text.parse().unwrap()).await.unwrap();
            assert_eq!(found, [text.parse().unwrap()]);
        }
    }
}
